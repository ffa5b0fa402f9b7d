//! Who proves it: Groth16 keys and backends, a durable queue of proofs, workers, exports, benchmarks.
//!
//! ```text
//! circuit → setup → key file                                     keys
//! statement → assignment → backend → proof → own verification    proving
//! job → queue (lease, fencing) → worker → result                 work
//! proof, key → EVM words, Solidity, snarkjs' JSON                exports
//! ```
//!
//! | module | noun |
//! |---|---|
//! | [`circuit`], [`matrices`] | known circuits, statements, assignments; constraints and the identity of a circuit |
//! | [`setup`], [`key`] | key generation; key ids, files, cache, and which key may guard money |
//! | [`ceremony`] | keys that no one party knows the secrets of |
//! | [`groth16`] | the backend trait, the reference backend, the verifier |
//! | [`fast`] | the backend that proves: our own kernels, AVX-512 where the processor has it |
//! | [`circom`] | proofs of circom's circuits from `.zkey` and `.wtns` files; such files of ours |
//! | [`peer`] | another implementation, for benchmarks |
//! | [`prove`] | from a statement to a verified proof |
//! | [`queue`], [`worker`] | the durable job queue, local and remote; the worker |
//! | [`proof`], [`evm`], [`solidity`], [`snarkjs`] | a proof, and its forms outside |
//! | [`mod@bench`], [`environment`] | measurements, and the machine they were made on |
//! | [`chain`] | a circuit of any size for tests and benchmarks |
//!
//! # Example
//! ```
//! use millrace_prover::circuit::{Circuit, Statement};
//! use millrace_prover::{chain::Chain, groth16::{Reference, Verifier}, key::CircuitKey, prove::Prover, setup::Seed};
//!
//! let prover = Prover::new(Reference, |circuit| Ok(CircuitKey::generate(circuit, &Seed::development())?));
//! let statement = Statement::Chain(Chain::new(10, 3));
//! let proven = prover.prove(&statement)?;
//!
//! let key = prover.verifying_key(Circuit::Chain(10))?;
//! assert!(Verifier::new(&key).accepts(&proven.proof, &statement.public_inputs()));
//! assert!(proven.key.to_string().starts_with("INSECURE-DEV-"));
//! # Ok::<(), millrace_prover::prove::ProveError>(())
//! ```

#![warn(clippy::unwrap_used)]

pub mod bench;
pub mod ceremony;
pub mod chain;
pub mod circom;
pub mod circuit;
pub mod environment;
pub mod evm;
pub mod fast;
pub mod groth16;
pub mod key;
pub mod matrices;
pub mod peer;
#[cfg(test)]
mod pinned;
pub mod proof;
pub mod prove;
pub mod queue;
pub mod setup;
pub mod snarkjs;
pub mod solidity;
pub mod worker;

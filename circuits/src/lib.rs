//! What is true on the rollup: protocol types, and every rule twice, native and as an R1CS gadget.
//!
//! | module | noun |
//! |---|---|
//! | [`field`] | words of BN254's scalar field, their bytes and text |
//! | [`types`] | index, token, nonce, amount, batch number, timestamp, L1 address |
//! | [`amount`] | float40 amounts and one-byte fees |
//! | [`account`] | owner (payment address), account, leaf |
//! | [`poseidon`], [`babyjubjub`], [`eddsa`] | hash, curve and signature, compatible with circomlib |
//! | [`linear`], [`bits`] | linear combinations with values, range checks and decompositions for gadgets |
//! | [`merkle`] | quaternary state tree: paths, a sparse tree in memory |
//! | [`transaction`] | what users sign: Transfer and Withdraw, links, domain |
//! | [`op`] | the effect of each operation on accounts |
//! | [`batch`] | shape, data vector, commitment, execution, witness, circuit |
//!
//! Nothing here knows a clock, a socket, a disk or randomness. `docs/protocol.md` states the same rules in prose.

#![warn(clippy::unwrap_used)]

pub mod account;
pub mod amount;
pub mod babyjubjub;
pub mod batch;
pub mod bits;
pub mod eddsa;
pub mod field;
pub mod linear;
pub mod merkle;
pub mod op;
pub mod poseidon;
pub mod transaction;
pub mod types;

#[cfg(test)]
mod testing;

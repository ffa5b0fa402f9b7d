//! The harness: a whole rollup in one process, in the verbs of the domain. Real contract, real proofs, real database.
//!
//! ```text
//! World::start → deposit, pay, withdraw, exit → seal → post → prove → post → claim        restart, restore, reorg
//! ```

#![warn(clippy::unwrap_used)]

pub mod process;
pub mod tokens;
pub mod world;

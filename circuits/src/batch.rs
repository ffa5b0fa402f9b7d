//! A batch: what is posted, how it applies to the state, and the circuit that proves it.
//!
//! signed transactions and L1 operations → [`execute()`] → [`BatchData`] (posted on L1) and [`BatchWitness`] (for the prover)
//! → [`BatchCircuit`]; whoever reads L1: posted bytes → [`BatchData`] → [`replay`]

pub mod circuit;
pub mod commitment;
pub mod data;
pub mod execute;
pub mod posted;
pub mod shape;
pub mod witness;

#[cfg(test)]
mod tests;

pub use circuit::BatchCircuit;
pub use data::{BatchData, BatchPublic, Extra, Header, L1Row, Payout, Row};
pub use execute::{
    BatchError, BatchInput, ExecutedBatch, L1Operation, ReplayError, Slot, execute, replay,
};
pub use posted::{DecodeError, Posted};
pub use shape::Shape;
pub use witness::{BatchWitness, FeeWitness, L1RowWitness, Opening, RowWitness};

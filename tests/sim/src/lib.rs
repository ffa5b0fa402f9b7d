//! Seeded simulator of payment channels: real machines on a virtual clock, network, disk and L1.
//!
//! ```text
//! seed → world → the same trace, every time      cargo run --release -p millrace-sim -- --seeds 20000
//! ```
//! A failing seed is printed and replayed with `--seed N --trace`.

pub mod contract;
pub mod evm;
pub mod keys;
pub mod l1;
pub mod random;
pub mod world;

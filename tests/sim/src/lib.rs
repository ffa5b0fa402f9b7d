//! Seeded simulator of payment channels: real machines on a virtual clock, network, disk and L1.
//!
//! ```text
//! seed → world → the same trace, every time      cargo run -p millrace-sim -- --seeds 20000
//! ```
//! A failing seed is printed and replayed with `--seed N --trace`.

#[cfg(feature = "contract")]
pub mod contract;
#[cfg(feature = "contract")]
pub mod evm;
pub mod keys;
#[cfg(feature = "contract")]
pub mod l1;
pub mod pair;
pub mod random;
#[cfg(feature = "contract")]
pub mod world;

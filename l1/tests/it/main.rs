//! Tests of the L1 crate, each on the embedded dev chain and on a real anvil where both can run it.

mod chain;
mod events;
mod forks;
mod provider;
mod rollup;
mod sender;

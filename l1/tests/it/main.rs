//! Tests of the L1 crate, each on the embedded dev chain and on a real anvil where both can run it.

// A panic is how a test fails, also in the functions that tests share.
#![allow(clippy::unwrap_used)]

mod chain;
mod channels;
mod events;
mod forks;
mod provider;
mod rollup;
mod sender;

//! A real node on free ports, spoken to over HTTP and WebSocket: embedded chain, deployed contract, sequencer, no prover.

mod channel_payments;
pub(crate) mod harness;
mod reading;
mod refusals;
mod streaming;
mod submitting;

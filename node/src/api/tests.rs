//! A real node on free ports, spoken to over HTTP and WebSocket: embedded chain, deployed contract, sequencer, no prover.

mod harness;
mod refusals;
mod reading;
mod streaming;
mod submitting;

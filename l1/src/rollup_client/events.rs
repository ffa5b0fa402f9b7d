//! The rollup's events, decoded from logs.

pub use crate::bindings::Rollup::RollupEvents;
use alloy::{primitives::Address, rpc::types::Log, sol_types::SolEventInterface};

/// The event in a log of the rollup at `address`; none if the log is another contract's or of no kind that is known.
pub fn decode_event(address: Address, log: &Log) -> Option<RollupEvents> {
    let ours = log.address() == address && !log.removed;
    let decoded = ours.then(|| RollupEvents::decode_log(&log.inner).ok())?;
    decoded.map(|decoded| decoded.data)
}

//! The contract's events, decoded from logs.

pub use crate::bindings::Channels::ChannelsEvents;
use crate::bindings::{Channels, IChannels::Params};
use alloy::{primitives::Address, rpc::types::Log, sol_types::SolEventInterface};

/// The event in a log of the contract at `address`; none if the log is another contract's or of no kind that is known.
pub fn decode_event(address: Address, log: &Log) -> Option<ChannelsEvents> {
    let ours = log.address() == address && !log.removed;
    let decoded = ours.then(|| ChannelsEvents::decode_log(&log.inner).ok())?;
    decoded.map(|decoded| decoded.data)
}

/// The channel's parameters, which every deposit tells.
pub fn params_of(deposit: &Channels::Deposited) -> Params {
    Params {
        signerA: deposit.signerA,
        payoutA: deposit.payoutA,
        signerB: deposit.signerB,
        payoutB: deposit.payoutB,
        token: deposit.token,
        window: deposit.window,
        salt: deposit.salt,
    }
}

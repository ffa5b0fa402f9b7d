//! What goes in and what comes out, with the contract's odd widths turned into Rust's.

use crate::bindings::{
    Channels,
    IChannels::{self, Params},
};
use alloy::primitives::{
    B256, Bytes,
    aliases::{I112, U112},
};
use thiserror::Error;

/// A number that does not fit in the contract's 112 bits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[error("{what} of {value} is not below 2^112")]
pub struct TooWide {
    /// Which number.
    pub what: &'static str,
    /// Its value.
    pub value: u128,
}

fn narrow(what: &'static str, value: u128) -> Result<U112, TooWide> {
    U112::checked_from_limbs_slice(&[value as u64, (value >> 64) as u64])
        .ok_or(TooWide { what, value })
}

/// Where a channel stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum ChannelPhase {
    /// Never opened.
    None,
    /// Open.
    Open,
    /// In its dispute window, or waiting to be settled.
    Closing,
    /// Closed for good.
    Closed,
}

/// A channel's state on chain, in units of its token.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ChannelState {
    /// Where it stands.
    pub phase: ChannelPhase,
    /// Number of cooperative payouts so far, which the next one signs; 0 when closed.
    pub epoch: u32,
    /// Deposits for A less cooperative payouts to A.
    pub net_a: i128,
    /// Deposits for B less cooperative payouts to B.
    pub net_b: i128,
}

impl ChannelState {
    /// What the contract holds for the channel.
    pub fn pot(&self) -> i128 {
        // Each is in 112 bits.
        self.net_a + self.net_b
    }
}

fn widen(net: I112) -> i128 {
    i128::try_from(net).expect("112 bits fit in 128")
}

impl From<IChannels::Channel> for ChannelState {
    fn from(channel: IChannels::Channel) -> Self {
        let phase = match channel.phase {
            0 => ChannelPhase::None,
            1 => ChannelPhase::Open,
            2 => ChannelPhase::Closing,
            _ => ChannelPhase::Closed,
        };
        Self {
            phase,
            epoch: channel.epoch,
            net_a: widen(channel.netA),
            net_b: widen(channel.netB),
        }
    }
}

/// One side's counters.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct HalfState {
    /// Higher wins; 0 is the zero half.
    pub version: u64,
    /// All that this side ever paid to the other, below 2^112.
    pub paid: u128,
    /// keccak256 of the packed locks, zero if there are none.
    pub locks: B256,
}

impl From<IChannels::Half> for HalfState {
    fn from(half: IChannels::Half) -> Self {
        Self {
            version: half.version,
            paid: half.paid.to(),
            locks: half.locks,
        }
    }
}

impl TryFrom<HalfState> for IChannels::Half {
    type Error = TooWide;

    fn try_from(half: HalfState) -> Result<Self, TooWide> {
        Ok(Self {
            version: half.version,
            paid: narrow("paid", half.paid)?,
            locks: half.locks,
        })
    }
}

/// What was submitted to a closing channel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DisputeState {
    /// Unix seconds: submit works before it, settle from it on.
    pub deadline: u64,
    /// The newest half A.
    pub a: HalfState,
    /// The newest half B.
    pub b: HalfState,
}

impl From<IChannels::Dispute> for DisputeState {
    fn from(dispute: IChannels::Dispute) -> Self {
        Self {
            deadline: dispute.deadline,
            a: dispute.halves.a.into(),
            b: dispute.halves.b.into(),
        }
    }
}

/// A cooperative payout that both signed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PayoutTerms {
    /// To A's payout address, in units of the token.
    pub pay_a: u128,
    /// To B's payout address, in units of the token.
    pub pay_b: u128,
    /// Last second at which it can be made.
    pub valid_until: u64,
    /// A's signature of `Coop`, empty if A sends it.
    pub signature_a: Bytes,
    /// B's signature of `Coop`, empty if B sends it.
    pub signature_b: Bytes,
}

impl PayoutTerms {
    /// The call that pays it.
    ///
    /// # Errors
    /// [`TooWide`].
    pub fn call(&self, params: &Params) -> Result<Channels::cooperateCall, TooWide> {
        Ok(Channels::cooperateCall {
            params: params.clone(),
            payA: narrow("payout to A", self.pay_a)?,
            payB: narrow("payout to B", self.pay_b)?,
            validUntil: self.valid_until,
            sigA: self.signature_a.clone(),
            sigB: self.signature_b.clone(),
        })
    }
}

/// A signer's leave for anybody to open the dispute.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CloseConsent {
    /// Last second at which it counts.
    pub valid_until: u64,
    /// The signature of `Close`.
    pub signature: Bytes,
}

/// A snapshot with what a submit needs. The default closes a channel in which nothing was signed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Submission {
    /// Half A.
    pub a: HalfState,
    /// Half B.
    pub b: HalfState,
    /// A's locks, 56 bytes each.
    pub list_a: Bytes,
    /// B's locks, 56 bytes each.
    pub list_b: Bytes,
    /// A's signature of `Snapshot`, empty if A sends it or nothing was signed.
    pub signature_a: Bytes,
    /// B's signature of `Snapshot`, empty if B sends it or nothing was signed.
    pub signature_b: Bytes,
    /// Needed only by a stranger who opens the dispute.
    pub consent: Option<CloseConsent>,
}

impl Submission {
    /// The call that submits it.
    ///
    /// # Errors
    /// [`TooWide`].
    pub fn call(&self, params: &Params) -> Result<Channels::submitCall, TooWide> {
        let consent = self.consent.clone().unwrap_or_default();
        Ok(Channels::submitCall {
            params: params.clone(),
            halves: IChannels::Halves {
                a: self.a.try_into()?,
                b: self.b.try_into()?,
            },
            listA: self.list_a.clone(),
            listB: self.list_b.clone(),
            sigA: self.signature_a.clone(),
            sigB: self.signature_b.clone(),
            closeUntil: consent.valid_until,
            closeSig: consent.signature,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn amounts_beyond_the_contracts_width_are_refused() {
        let half = |paid| HalfState {
            version: 1,
            paid,
            locks: B256::ZERO,
        };
        let widest = (1u128 << 112) - 1;
        let there: IChannels::Half = half(widest).try_into().unwrap();
        assert_eq!(HalfState::from(there), half(widest));
        let refused = IChannels::Half::try_from(half(widest + 1)).unwrap_err();
        assert_eq!((refused.what, refused.value), ("paid", widest + 1));
    }

    #[test]
    fn nets_keep_their_sign() {
        for net in [
            i128::from(i64::MIN) << 40,
            -1,
            0,
            7,
            (1 << 111) - 1,
            -(1 << 111),
        ] {
            assert_eq!(widen(I112::try_from(net).unwrap()), net);
        }
    }
}

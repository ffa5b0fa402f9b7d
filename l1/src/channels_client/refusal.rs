//! The contract's custom errors: which rule was broken, with its values, and what to do about it.

use crate::bindings::Channels::ChannelsErrors;
use alloy::{primitives::Bytes, sol_types::SolInterface};
use thiserror::Error;

/// A refusal by one of the contract's rules.
#[derive(Clone, Debug, Error)]
#[error("the channels' contract refuses: {text}: {}", .kind.next_step())]
pub struct Refusal {
    /// The contract's error with its values, as text.
    pub text: String,
    /// What kind of rule it is.
    pub kind: RefusalKind,
    /// The decoded error.
    pub error: Box<ChannelsErrors>,
}

/// What a refusal means for whoever sent the transaction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RefusalKind {
    /// The channel's parameters can never be used.
    Params,
    /// The amount is zero, too large, or not what was sent along.
    Amount,
    /// The token does not behave as an ERC-20, or the allowance is too small.
    Token,
    /// The channel is not in the phase that this needs.
    Phase,
    /// A signature is not its signer's, or its time is over.
    Signature,
    /// The sender may not open the dispute.
    NotAuthorised,
    /// The payout is more than there is.
    Overdrawn,
    /// Both halves were submitted before, or newer ones.
    NothingNewer,
    /// The dispute window is over.
    TooLate,
    /// The deadline or a lock's expiry has not come.
    TooEarly,
    /// The halves or lock lists break a rule of the protocol, or are not the dispute's.
    Malformed,
    /// A call back into the contract, or a token that does that.
    Reentered,
    /// There is nothing to claim.
    NothingToClaim,
    /// The receiver or the token refuses the payment.
    PaymentFailed,
}

impl RefusalKind {
    /// What to do.
    pub fn next_step(self) -> &'static str {
        match self {
            Self::Params => {
                "choose distinct signers, payout addresses and a window of 1 hour to 30 days"
            }
            Self::Amount => "check the amount, and that ETH comes along only for a channel of ETH",
            Self::Token => "check the token's address, the balance and the allowance",
            Self::Phase => "read the channel's state; a closed channel never opens again",
            Self::Signature => "sign again with the channel's key and the current epoch",
            Self::NotAuthorised => "send it as one of the signers, or with a signer's close",
            Self::Overdrawn => "read the channel's state and agree on less",
            Self::NothingNewer => "nothing is left to do: newer halves are on chain",
            Self::TooLate => "settle the channel",
            Self::TooEarly => "wait until the time given",
            Self::Malformed => "give each half's own list; read the dispute and its events again",
            Self::Reentered => {
                "the token or receiver calls back into the contract and cannot be used this way"
            }
            Self::NothingToClaim => "nothing is left to do",
            Self::PaymentFailed => "claim to another receiver, or with more gas",
        }
    }
}

impl Refusal {
    /// Decodes revert data; none if it is not one of the contract's errors.
    pub fn decode(data: &Bytes) -> Option<Self> {
        ChannelsErrors::abi_decode(data).ok().map(Self::from)
    }
}

impl From<ChannelsErrors> for Refusal {
    fn from(error: ChannelsErrors) -> Self {
        Self {
            text: text(&error),
            kind: kind(&error),
            error: Box::new(error),
        }
    }
}

/// The error as Rust prints it, without the enum's variant around it.
fn text(error: &ChannelsErrors) -> String {
    let debug = format!("{error:?}");
    let inner = debug
        .split_once('(')
        .and_then(|(_, rest)| rest.strip_suffix(')'));
    inner.unwrap_or(&debug).to_owned()
}

fn kind(error: &ChannelsErrors) -> RefusalKind {
    use ChannelsErrors as E;
    use RefusalKind as Kind;
    match error {
        E::SignerIsZero(_) | E::SignersEqual(_) | E::PayoutIsZero(_) => Kind::Params,
        E::PayoutIsChannels(_) | E::WindowOutOfRange(_) => Kind::Params,
        E::AmountIsZero(_) | E::ValueMismatch(_) | E::PotTooLarge(_) => Kind::Amount,
        E::TokenCallFailed(_) => Kind::Token,
        E::ChannelNotOpen(_) | E::ChannelClosing(_) | E::ChannelClosed(_) => Kind::Phase,
        E::ChannelNotClosing(_) | E::EpochsExhausted(_) | E::NetOutOfRange(_) => Kind::Phase,
        E::Expired(_) | E::SignatureInvalid(_) => Kind::Signature,
        E::NotAuthorisedToClose(_) => Kind::NotAuthorised,
        E::Overdrawn(_) => Kind::Overdrawn,
        E::NothingNewer(_) => Kind::NothingNewer,
        E::DeadlinePassed(_) => Kind::TooLate,
        E::DeadlineNotPassed(_) | E::LockPending(_) => Kind::TooEarly,
        E::ZeroHalfNotEmpty(_) | E::ListLength(_) | E::TooManyLocks(_) => Kind::Malformed,
        E::ListMismatch(_) | E::LockAmountTooLarge(_) => Kind::Malformed,
        E::LockExpiryTooLate(_) => Kind::Malformed,
        E::Reentered(_) => Kind::Reentered,
        E::NothingToClaim(_) => Kind::NothingToClaim,
        E::PaymentFailed(_) | E::ReceiverIsZero(_) | E::GasTooLow(_) => Kind::PaymentFailed,
    }
}

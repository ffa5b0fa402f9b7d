//! The contract's custom errors: which rule was broken, with its values, and what to do about it.

use crate::bindings::Rollup::{self, RollupErrors};
use alloy::{primitives::Bytes, sol_types::SolInterface};
use thiserror::Error;

/// A refusal by one of the contract's rules.
#[derive(Clone, Debug, Error)]
#[error("the rollup contract refuses: {text}: {}", .kind.next_step())]
pub struct Refusal {
    /// The contract's error with its values, as text.
    pub text: String,
    /// What kind of rule it is.
    pub kind: RefusalKind,
    /// The decoded error.
    pub error: Box<RollupErrors>,
}

/// What a refusal means for whoever sent the transaction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RefusalKind {
    /// The rollup is frozen for good.
    Frozen,
    /// The function works only once the rollup is frozen.
    NotFrozen,
    /// A call back into the contract, or a token that does that.
    Reentered,
    /// The deployment's configuration is wrong.
    Deployment,
    /// The token is unknown, taken, or does not behave as an ERC-20.
    Token,
    /// A request's values are outside what the protocol allows.
    Request,
    /// Too little ETH came along.
    Value,
    /// The sender may not do this now.
    NotAllowed,
    /// L1 has moved on since the transaction was built: state is to be read again.
    StateMoved,
    /// The batch's data is not what the protocol defines: a fault of whoever built it.
    Malformed,
    /// The proof is false.
    ProofFalse,
    /// The time for this has not come.
    TooEarly,
    /// The payment is not there to be made, or was made before.
    NothingToPay,
    /// The receiver or the token refuses the payment.
    PaymentFailed,
    /// The opening of the leaf does not match the last proven root.
    LeafMismatch,
}

impl RefusalKind {
    /// What to do.
    pub fn next_step(self) -> &'static str {
        match self {
            Self::Frozen => {
                "the rollup is frozen for good; money leaves by escape exit, cancelled deposits, payouts and claims"
            }
            Self::NotFrozen => "enter the escape first, once a request is past its deadline",
            Self::Reentered => {
                "the token or receiver calls back into the rollup and cannot be used this way"
            }
            Self::Deployment => "correct the deployment's configuration",
            Self::Token => "check the token's number, registration and approval",
            Self::Request => "check index, owner, key and amount",
            Self::Value => "send the request fee, plus the amount if the token is ETH",
            Self::NotAllowed => "use the operator's plain account, or wait for the open phase",
            Self::StateMoved => "read the rollup's status and build the transaction again",
            Self::Malformed => "the batch was built wrongly; report this as a bug",
            Self::ProofFalse => {
                "the proof does not fit the batch; check the proving key and prove again"
            }
            Self::TooEarly => "wait until the time given",
            Self::NothingToPay => "nothing is left to do",
            Self::PaymentFailed => "claim to another receiver, or with more gas",
            Self::LeafMismatch => "take leaf and siblings from a snapshot at the last proven root",
        }
    }
}

impl Refusal {
    /// Decodes revert data; none if it is not one of the contract's errors.
    pub fn decode(data: &Bytes) -> Option<Self> {
        RollupErrors::abi_decode(data).ok().map(Self::from)
    }
}

impl From<Rollup::IndexOutOfRange> for Refusal {
    fn from(error: Rollup::IndexOutOfRange) -> Self {
        Self::from(RollupErrors::IndexOutOfRange(error))
    }
}

impl From<RollupErrors> for Refusal {
    fn from(error: RollupErrors) -> Self {
        Self {
            text: text(&error),
            kind: kind(&error),
            error: Box::new(error),
        }
    }
}

/// The error as Rust prints it, without the enum's variant around it.
fn text(error: &RollupErrors) -> String {
    let debug = format!("{error:?}");
    let inner = debug
        .split_once('(')
        .and_then(|(_, rest)| rest.strip_suffix(')'));
    inner.unwrap_or(&debug).to_owned()
}

fn kind(error: &RollupErrors) -> RefusalKind {
    use RefusalKind as Kind;
    use RollupErrors as E;
    match error {
        E::IsFrozen(_) => Kind::Frozen,
        E::NotFrozen(_) => Kind::NotFrozen,
        E::Reentered(_) => Kind::Reentered,
        E::CircuitCount(_) | E::CircuitIdTaken(_) | E::CircuitSize(_) | E::KeyInputs(_) => {
            Kind::Deployment
        }
        E::KeyInsecure(_) | E::KeyPoint(_) | E::OperatorIsZero(_) | E::RequestSpacing(_) => {
            Kind::Deployment
        }
        E::TokenHasNoCode(_) | E::TokenAlreadyRegistered(_) | E::TokenNotRegistered(_) => {
            Kind::Token
        }
        E::TooManyTokens(_) | E::TokenCallFailed(_) => Kind::Token,
        E::OwnerOutOfRange(_)
        | E::IndexOutOfRange(_)
        | E::KeyOutOfRange(_)
        | E::AmountIsZero(_) => Kind::Request,
        E::OutstandingTooLarge(_) | E::RefundFailed(_) | E::NotADeposit(_) => Kind::Request,
        E::ValueTooLow(_) => Kind::Value,
        E::NotOperator(_) | E::NotPlainAccount(_) | E::InOpenPhase(_) => Kind::NotAllowed,
        E::BatchNumberMismatch(_) | E::UnprovenBatches(_) | E::TooManyUnprovenBatches(_) => {
            Kind::StateMoved
        }
        E::TimestampOutOfRange(_) | E::RequestMismatch(_) | E::RequestLeftOut(_) => {
            Kind::StateMoved
        }
        E::StoredBatchMismatch(_) | E::RootMismatch(_) | E::NothingToRevert(_) => Kind::StateMoved,
        E::NoOpenRequest(_) | E::RequestAlreadyProven(_) => Kind::StateMoved,
        E::ProofIsFalse(_) => Kind::ProofFalse,
        E::ProofNotOverdue(_) | E::DeadlineNotPassed(_) => Kind::TooEarly,
        E::NothingToPay(_) | E::NothingToClaim(_) | E::LeafAlreadyExited(_) => Kind::NothingToPay,
        E::PaymentFailed(_) | E::ClaimTooLarge(_) | E::ReceiverIsZero(_) | E::GasTooLow(_) => {
            Kind::PaymentFailed
        }
        E::LeafMismatch(_) => Kind::LeafMismatch,
        // Words, rows, extras, records and proofs that are out of range or out of order.
        _ => Kind::Malformed,
    }
}

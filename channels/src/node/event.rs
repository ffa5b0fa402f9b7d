//! Numbered events: what people and programs wait for, durable with the step that caused them.
//!
//! notice of the machine, word of the runtime → [`EventBody`] → number → same write as the step → listeners, resumable

use crate::machine::effect::Notice;
use crate::types::{Amount, ChannelId, Hash32, PaymentHash, Preimage, PublicKey, Timestamp};
use serde::{Deserialize, Serialize};

/// Events that are kept; older ones are forgotten.
pub const KEPT: u64 = 100_000;

/// One event.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Event {
    /// Its number, from 1, without gaps.
    pub sequence: u64,
    /// When.
    pub time: Timestamp,
    /// What.
    pub body: EventBody,
}

/// What happened.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum EventBody {
    /// A peer and we agreed on a channel; the deposit is next.
    Agreed {
        /// Which.
        channel: ChannelId,
        /// With whom.
        peer: PublicKey,
    },
    /// A peer wants no channel.
    OpenRefused {
        /// Who.
        peer: PublicKey,
        /// Its words.
        reason: String,
    },
    /// A deposit is in a block.
    Deposited {
        /// Into which channel.
        channel: ChannelId,
        /// How much.
        amount: Amount,
        /// The transaction.
        transaction: Hash32,
    },
    /// L1 did not take a deposit.
    DepositRefused {
        /// Into which channel.
        channel: ChannelId,
        /// Why.
        reason: String,
    },
    /// A channel can be used: its deposit is final and the peer has been heard.
    Usable {
        /// Which.
        channel: ChannelId,
    },
    /// A direct payment arrived.
    Received {
        /// Over which channel.
        channel: ChannelId,
        /// How much.
        amount: Amount,
        /// The payer's reference.
        reference: Hash32,
    },
    /// An invoice got money for certain.
    InvoicePaid {
        /// Which.
        hash: PaymentHash,
        /// How much so far.
        received: Amount,
    },
    /// All parts of a hold invoice are here.
    InvoiceHeld {
        /// Which.
        hash: PaymentHash,
    },
    /// A payment succeeded.
    PaymentSucceeded {
        /// Which.
        hash: PaymentHash,
        /// The proof.
        preimage: Preimage,
    },
    /// A payment failed for certain.
    PaymentFailed {
        /// Which.
        hash: PaymentHash,
        /// The encrypted reason.
        reason: Vec<u8>,
    },
    /// Something is wrong with a channel.
    Trouble {
        /// Which.
        channel: ChannelId,
        /// What, and what to do.
        text: String,
    },
    /// Lost data of a channel came back.
    Recovered {
        /// Which.
        channel: ChannelId,
    },
    /// A channel is being closed on L1.
    Closing {
        /// Which.
        channel: ChannelId,
    },
    /// A channel is closed for good.
    Closed {
        /// Which.
        channel: ChannelId,
    },
    /// A transaction of ours landed.
    Landed {
        /// What it did: `submit`, `settle`, `reveal`, `cooperate`.
        what: String,
        /// The transaction.
        transaction: Hash32,
        /// Its gas.
        gas: u64,
    },
    /// All parts of a payment have failed for certain, and it goes another way.
    PaymentRetried {
        /// Which.
        hash: PaymentHash,
        /// The number of the new attempt.
        attempt: u32,
        /// Why the one before failed.
        reason: String,
    },
    /// A payment has failed for certain and is not tried again: nothing was paid.
    PaymentGivenUp {
        /// Which.
        hash: PaymentHash,
        /// Why.
        reason: String,
    },
    /// Nobody paid an invoice in time.
    InvoiceExpired {
        /// Which.
        hash: PaymentHash,
    },
    /// An invoice was paid on the rollup: this node has seen the transfer, final. Nothing is taken for it over channels any more.
    InvoicePaidOnRollup {
        /// Which.
        hash: PaymentHash,
        /// The transfer's batch.
        batch: u64,
        /// Its row in the batch.
        row: u32,
        /// Its amount, units.
        amount: u128,
        /// Whether the payer has paid over channels too: what was released stays.
        twice: bool,
    },
    /// Money came without an invoice, for certain.
    KeysendReceived {
        /// The hash that its payer drew.
        hash: PaymentHash,
        /// How much so far.
        received: Amount,
    },
    /// The payee has seen our transfer on the rollup that paid its invoice.
    PayeeTold {
        /// Which.
        hash: PaymentHash,
    },
    /// The payee was not told of our transfer on the rollup, and will not be.
    PayeeNotTold {
        /// Which.
        hash: PaymentHash,
        /// Why.
        reason: String,
    },
    /// A part of a payment failed for certain while others stand.
    PartFailed {
        /// Which payment.
        hash: PaymentHash,
        /// The encrypted reason.
        reason: Vec<u8>,
    },
    /// Parts of a payment that failed go another way, while the others wait.
    PartReplaced {
        /// Which payment.
        hash: PaymentHash,
        /// How many parts take their place.
        parts: u32,
        /// Why they failed.
        reason: String,
    },
}

impl From<Notice> for EventBody {
    fn from(notice: Notice) -> Self {
        match notice {
            Notice::DirectReceived {
                channel,
                amount,
                reference,
            } => Self::Received {
                channel,
                amount,
                reference,
            },
            Notice::InvoicePaid { hash, received } => Self::InvoicePaid { hash, received },
            Notice::InvoiceHeld { hash } => Self::InvoiceHeld { hash },
            Notice::PaymentSucceeded { hash, preimage } => {
                Self::PaymentSucceeded { hash, preimage }
            }
            Notice::PaymentFailed { hash, reason } => Self::PaymentFailed { hash, reason },
            Notice::PartFailed { hash, reason, .. } => Self::PartFailed { hash, reason },
            Notice::RefusedByPeer { channel, refusal } => Self::Trouble {
                channel,
                text: format!("the peer refused an update: {refusal}"),
            },
            Notice::PeerRefused { channel, refusal } => Self::Trouble {
                channel,
                text: format!("an update of the peer was refused: {refusal}"),
            },
            Notice::PeerAtFault { channel, fault } => Self::Trouble {
                channel,
                text: super::view::fault_text(&fault),
            },
            Notice::Recovered { channel } => Self::Recovered { channel },
            Notice::Blame { channel, lock } => Self::Trouble {
                channel,
                text: format!(
                    "the peer has not moved lock {lock} although its preimage is on L1; the money is safe, close the channel to get it"
                ),
            },
            Notice::Closed { channel } => Self::Closed { channel },
        }
    }
}

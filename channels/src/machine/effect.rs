//! What a step asks of the rim, in the order of rule 7: Persist, Send, Broadcast, Watch, Notify.

use super::rules::Rules;
use crate::digest::Coop;
use crate::message::{LockId, Message};
use crate::state::{Halves, Lock, Params};
use crate::types::{Amount, ChannelId, Hash32, PaymentHash, Preimage, PublicKey, Signature};

/// Name of a durable record.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Key {
    /// A channel.
    Channel(ChannelId),
    /// A payment that this node makes.
    Payment(PaymentHash),
    /// A payment that this node expects.
    Invoice(PaymentHash),
    /// A preimage that this node learnt.
    Preimage(PaymentHash),
}

impl Key {
    /// Its kind and its name, which say the same in databases and backups for good.
    pub fn parts(&self) -> (u8, [u8; 32]) {
        match *self {
            Self::Channel(ChannelId(name)) => (1, name),
            Self::Payment(PaymentHash(name)) => (2, name),
            Self::Invoice(PaymentHash(name)) => (3, name),
            Self::Preimage(PaymentHash(name)) => (4, name),
        }
    }

    /// The key of a kind and a name; none for another kind.
    pub fn from_parts(kind: u8, name: [u8; 32]) -> Option<Self> {
        match kind {
            1 => Some(Self::Channel(ChannelId(name))),
            2 => Some(Self::Payment(PaymentHash(name))),
            3 => Some(Self::Invoice(PaymentHash(name))),
            4 => Some(Self::Preimage(PaymentHash(name))),
            _ => None,
        }
    }
}

/// A durable record's new content; `None` removes it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Record {
    /// Its name.
    pub key: Key,
    /// Its bytes.
    pub value: Option<Vec<u8>>,
}

/// A call of the contract.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Transaction {
    /// A cooperative payout.
    Cooperate {
        /// The channel.
        params: Params,
        /// What is paid.
        coop: Coop,
        /// Side A's.
        signature_a: Signature,
        /// Side B's.
        signature_b: Signature,
    },
    /// A force close or a challenge. Without signatures: the close of a channel without a snapshot.
    Submit {
        /// The channel.
        params: Params,
        /// The snapshot.
        halves: Halves,
        /// Side A's locks.
        list_a: Vec<Lock>,
        /// Side B's locks.
        list_b: Vec<Lock>,
        /// Side A's and side B's.
        signatures: Option<(Signature, Signature)>,
    },
    /// Payout after a dispute.
    Settle {
        /// The channel.
        params: Params,
        /// Side A's locks in the merged halves.
        list_a: Vec<Lock>,
        /// Side B's locks.
        list_b: Vec<Lock>,
    },
    /// Records preimages.
    Reveal {
        /// Which.
        preimages: Vec<Preimage>,
    },
}

/// Something that a person or a program waits for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Notice {
    /// A direct payment arrived and is durable.
    DirectReceived {
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
    /// All parts of a hold invoice are here: release or cancel.
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
    /// A part of a payment failed for certain, while others stand: it may be sent another way.
    PartFailed {
        /// Which payment.
        hash: PaymentHash,
        /// Over which channel of ours it left.
        channel: ChannelId,
        /// What its lock held, units.
        amount: u128,
        /// The encrypted reason, empty if it expired.
        reason: Vec<u8>,
    },
    /// A payment failed for certain: paying again cannot pay twice.
    PaymentFailed {
        /// Which.
        hash: PaymentHash,
        /// The encrypted reason of the last part, empty if it expired.
        reason: Vec<u8>,
    },
    /// The peer refused a half of ours for breaking a rule.
    RefusedByPeer {
        /// Which channel.
        channel: ChannelId,
        /// Its words.
        refusal: crate::message::Refusal,
    },
    /// A half of the peer was refused for breaking a rule.
    PeerRefused {
        /// Which channel.
        channel: ChannelId,
        /// The rule.
        refusal: crate::message::Refusal,
    },
    /// The peer is at fault, or says that we have lost data: the channel is used no more.
    PeerAtFault {
        /// Which channel.
        channel: ChannelId,
        /// What it did.
        fault: super::channel::Fault,
    },
    /// We had lost data of a channel, and the peer or a tower has given it back.
    Recovered {
        /// Which channel.
        channel: ChannelId,
    },
    /// The peer has not moved a lock whose reveal is final.
    Blame {
        /// Which channel.
        channel: ChannelId,
        /// Which lock of the peer.
        lock: LockId,
    },
    /// A channel is closed for good.
    Closed {
        /// Which.
        channel: ChannelId,
    },
}

/// What the rim is to do, in this order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Effect {
    /// Write all of it atomically and durably before anything that follows.
    Persist(Vec<Record>),
    /// Send to a peer; a lost message is said again.
    Send {
        /// To whom.
        to: PublicKey,
        /// What.
        message: Message,
    },
    /// Get a transaction into the chain.
    Broadcast(Transaction),
    /// Report reveals of these hashes from now on, past ones included.
    Watch(Vec<PaymentHash>),
    /// Tell who listens.
    Notify(Notice),
}

/// Effects as they gather during a step.
#[derive(Debug, Default)]
pub(crate) struct Effects {
    pub records: Vec<Record>,
    pub sends: Vec<(PublicKey, Message)>,
    pub broadcasts: Vec<Transaction>,
    pub watches: Vec<PaymentHash>,
    pub notices: Vec<Notice>,
}

impl Effects {
    /// Rule 7 in one place: whatever was decided, the record of it goes first.
    pub fn in_order(self, rules: &Rules) -> Vec<Effect> {
        let persist = (!self.records.is_empty()).then_some(Effect::Persist(self.records));
        let sends = self
            .sends
            .into_iter()
            .map(|(to, message)| Effect::Send { to, message });
        let spoken = sends.chain(self.broadcasts.into_iter().map(Effect::Broadcast));
        let mut effects: Vec<Effect> = if rules.persists_first() {
            persist.into_iter().chain(spoken).collect()
        } else {
            spoken.chain(persist).collect()
        };
        if !self.watches.is_empty() {
            effects.push(Effect::Watch(self.watches));
        }
        effects.extend(self.notices.into_iter().map(Effect::Notify));
        effects
    }
}

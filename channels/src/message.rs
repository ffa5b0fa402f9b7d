//! What peers say to each other. Content only: frames and encryption belong to the transport.
//!
//! | message | signed | moves money |
//! |---|---|---|
//! | [`Update`] | yes | yes: a new half of the sender |
//! | `Fulfil`, `Fail` | no | asks the payer to settle or drop a lock |
//! | `Ack` | no | no: flow control |
//! | [`SignAck`] | yes | no: proves which half the sender has accepted |
//! | `Refuse` | no | no |
//! | [`Reestablish`] | no | no |
//! | `Copy` | yes | no: gives back what both have signed |
//! | `CoopPropose`, `CoopSign` | yes | yes, on L1 |

use crate::digest::Coop;
use crate::state::{Half, Halves, ListError, Lock, keccak};
use crate::types::{Amount, ChannelId, Hash32, Preimage, Signature, Timestamp, Version};
use serde::{Deserialize, Serialize};
use thiserror::Error;

/// A lock's number within its sender's half: grows with every lock, is never used twice, is not signed.
pub type LockId = u64;

/// Longest onion, bytes: version, key, 1,300 bytes of hops, authentication.
pub const MAX_ONION_BYTES: usize = 1366;
/// Longest encrypted failure reason, bytes.
pub const MAX_REASON_BYTES: usize = 292;
/// Most direct payments in one update.
pub const MAX_DIRECTS: usize = 10_000;

/// A lock that an update adds.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AddLock {
    /// Above all earlier ones.
    pub id: LockId,
    /// What is locked.
    pub lock: Lock,
    /// What the receiver is to do with it, readable by the receiver only.
    pub onion: Vec<u8>,
}

/// A payment without a lock: done when it is accepted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Direct {
    /// Above zero.
    pub amount: Amount,
    /// What the payee knows it by.
    pub reference: Hash32,
}

/// A new half of the sender, as the difference to one that the receiver holds.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Update {
    /// Which channel.
    pub channel: ChannelId,
    /// The sender's version that the difference starts from: the newest that the receiver holds.
    pub base: Version,
    /// The sender's half.
    pub half: Half,
    /// Version of the receiver's half in the snapshot.
    pub echo: Version,
    /// New locks, in order.
    pub adds: Vec<AddLock>,
    /// Locks of the base that were paid.
    pub settles: Vec<LockId>,
    /// Locks of the base that are gone unpaid.
    pub drops: Vec<LockId>,
    /// Payments without a lock since the base.
    pub directs: Vec<Direct>,
    /// Whether the sender waits for a signed echo of this half.
    pub want_ack: bool,
    /// Of the snapshot.
    pub signature: Signature,
}

/// A snapshot that changes no half of its sender, only the echo.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct SignAck {
    /// Which channel.
    pub channel: ChannelId,
    /// The sender's version in the snapshot.
    pub version: Version,
    /// The receiver's version in the snapshot.
    pub echo: Version,
    /// Of the snapshot.
    pub signature: Signature,
}

/// What each side holds, after a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Reestablish {
    /// Which channel.
    pub channel: ChannelId,
    /// The sender's newest version.
    pub own: Version,
    /// Hash of that half.
    pub own_hash: Hash32,
    /// The receiver's newest version that the sender holds.
    pub held: Version,
    /// Hash of that half.
    pub held_hash: Hash32,
    /// The sender's newest version that the receiver has signed an echo of.
    pub echoed: Version,
}

/// A channel as its sender holds it, for a peer that has lost data: the newest snapshot that the receiver signed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Copy {
    /// Which channel.
    pub channel: ChannelId,
    /// The snapshot.
    pub halves: Halves,
    /// The sender's locks in it, by number.
    pub sender_locks: Vec<(LockId, Lock)>,
    /// The receiver's locks in it, by number.
    pub receiver_locks: Vec<(LockId, Lock)>,
    /// The highest number of a lock of the receiver.
    pub last_lock: LockId,
    /// Of the snapshot.
    pub sender_signature: Signature,
    /// Of the snapshot.
    pub receiver_signature: Signature,
}

/// What to do about a refused half.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum RefuseClass {
    /// Nothing is wrong with it: send it again later.
    Later,
    /// It breaks a rule: supersede it, from the same base.
    Invalid,
}

/// Why a half was refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, Error)]
pub enum Refusal {
    /// Rule 8: the receiver's view of L1 is old, or the channel is not open there.
    #[error("the channel cannot take payments now: L1 view old, or channel closing")]
    NotOpen,
    /// The difference starts from a version that is not the receiver's newest.
    #[error("the update starts from version {base}, version {held} is held")]
    Base {
        /// Where the update starts.
        base: Version,
        /// What the receiver holds.
        held: Version,
    },
    /// A cooperative payout is under way.
    #[error("a cooperative payout holds the balance until {until}")]
    Cooperating {
        /// When it can no longer execute.
        until: Timestamp,
    },
    /// The receiver's final view of L1 is behind: a deposit or an expiry.
    #[error("the receiver waits for L1 to become final")]
    NotFinal,
    /// The echo is not a half that the receiver sent, or older than one echoed before.
    #[error("echo of version {echo}, from {oldest} to {newest} are known")]
    Echo {
        /// What was echoed.
        echo: Version,
        /// Oldest that may be echoed.
        oldest: Version,
        /// Newest that was sent.
        newest: Version,
    },
    /// The signature is not the counterparty's over this snapshot.
    #[error("the signature does not verify")]
    Signature,
    /// More goes out than the sender has.
    #[error("the sender's balance would be {short} too small")]
    Balance {
        /// Missing units.
        short: u128,
    },
    /// `paid` moved by something else than the payments listed.
    #[error("paid is {found}, the payments make {expected}")]
    Paid {
        /// Base plus the payments.
        expected: u128,
        /// What the half says.
        found: u128,
    },
    /// The list breaks a rule that the contract shares.
    #[error("lock list too long, out of range, or not the one signed")]
    List,
    /// A lock's number was used before or is unknown.
    #[error("lock number {0} is out of order or unknown")]
    LockId(LockId),
    /// A lock was dropped that is neither dead nor failed.
    #[error("lock {0} was dropped but is neither dead nor failed")]
    Drop(LockId),
    /// A field is longer than allowed.
    #[error("a field is longer than allowed")]
    Size,
    /// Rule 2: the version is ahead of the receiver's clock.
    #[error("version {version} is ahead of the clock: at most {latest} now")]
    Ahead {
        /// The half's.
        version: Version,
        /// The highest that is taken now.
        latest: Version,
    },
    /// Rule 2: the receiver has lost data, and a half from before that may win over this version.
    #[error("version {version} is not above {above}, up to which the receiver has lost data")]
    Outbid {
        /// The half's.
        version: Version,
        /// The newest half is taken under a version above it.
        above: Version,
    },
}

impl From<ListError> for Refusal {
    fn from(_: ListError) -> Self {
        Self::List
    }
}

impl Refusal {
    /// Whether sending the same half again can help.
    pub fn class(&self) -> RefuseClass {
        match self {
            Self::NotOpen
            | Self::Base { .. }
            | Self::Cooperating { .. }
            | Self::NotFinal
            | Self::Ahead { .. }
            | Self::Outbid { .. } => RefuseClass::Later,
            _ => RefuseClass::Invalid,
        }
    }
}

/// A message between peers.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Message {
    /// A new half.
    Update(Box<Update>),
    /// The preimage of one of the receiver's locks.
    Fulfil {
        /// Which channel.
        channel: ChannelId,
        /// Which lock of the receiver.
        lock: LockId,
        /// Its preimage.
        preimage: Preimage,
    },
    /// One of the receiver's locks cannot be paid: drop it.
    Fail {
        /// Which channel.
        channel: ChannelId,
        /// Which lock of the receiver.
        lock: LockId,
        /// For the payer's eyes.
        reason: Vec<u8>,
    },
    /// The newest durable version of the receiver's half.
    Ack {
        /// Which channel.
        channel: ChannelId,
        /// What is held.
        version: Version,
    },
    /// A signed echo.
    SignAck(SignAck),
    /// A half was not accepted.
    Refuse {
        /// Which channel.
        channel: ChannelId,
        /// The refused version.
        version: Version,
        /// The newest that is held.
        held: Version,
        /// Why.
        refusal: Refusal,
    },
    /// What each side holds.
    Reestablish(Reestablish),
    /// The receiver has lost data: here it is.
    Copy(Box<Copy>),
    /// A cooperative payout, signed by the sender.
    CoopPropose {
        /// Which channel.
        channel: ChannelId,
        /// What is paid.
        coop: Coop,
        /// The sender's.
        signature: Signature,
    },
    /// The other signature of a payout that the receiver proposed.
    CoopSign {
        /// Which channel.
        channel: ChannelId,
        /// What is paid.
        coop: Coop,
        /// The sender's.
        signature: Signature,
    },
}

impl Message {
    /// The channel that a message is about.
    pub fn channel(&self) -> ChannelId {
        match self {
            Self::Update(update) => update.channel,
            Self::SignAck(ack) => ack.channel,
            Self::Reestablish(reestablish) => reestablish.channel,
            Self::Copy(copy) => copy.channel,
            Self::Fulfil { channel, .. }
            | Self::Fail { channel, .. }
            | Self::Ack { channel, .. }
            | Self::Refuse { channel, .. }
            | Self::CoopPropose { channel, .. }
            | Self::CoopSign { channel, .. } => *channel,
        }
    }
}

/// Hash by which peers compare a half: keccak of version (8), paid (16) and root (32), big-endian.
pub fn half_hash(half: &Half) -> Hash32 {
    let mut bytes = [0; 56];
    bytes[..8].copy_from_slice(&half.version.to_be_bytes());
    bytes[8..24].copy_from_slice(&half.paid.to_be_bytes());
    bytes[24..].copy_from_slice(&half.locks.0);
    Hash32(keccak(&bytes))
}

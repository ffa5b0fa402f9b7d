//! One channel as one side knows it: its own half and its past, the counterparty's newest, what L1 says.
//!
//! Lists of earlier versions are not stored: each own lock knows at which version it came and went, so the list of any
//! version since the last echo can be told.

use super::dispute::OnChain;
use super::locks::OwnLocks;
use super::rules::Rules;
use crate::digest::Coop;
use crate::message::{Direct, LockId};
use crate::state::{Half, Halves, Lock, Params, list_sum};
use crate::types::{
    Amount, ChannelId, Hash32, LockRoot, PaymentHash, PublicKey, Side, Signature, Timestamp,
    Version,
};
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};

/// Why a lock of ours is there.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Origin {
    /// A part of a payment that this node makes.
    Payment(PaymentHash),
    /// The way on of a lock that another peer gave us.
    Forward {
        /// The channel that it came from.
        channel: ChannelId,
        /// The peer's lock there.
        lock: LockId,
    },
}

/// How a lock left a half.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Removal {
    /// Its amount was added to `paid`.
    Settled,
    /// Unpaid.
    Dropped,
}

/// How a lock of ours ended for certain.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Outcome {
    /// Paid, in a half or on L1.
    Paid,
    /// Not paid, and it can no longer be.
    Failed,
}

/// A lock of the holder.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct OwnLock {
    /// What is locked.
    pub lock: Lock,
    /// For the receiver; empty once the receiver has it, or the lock is gone from the newest half.
    #[serde(with = "serde_bytes")]
    pub onion: Vec<u8>,
    /// Why it is there.
    pub origin: Origin,
    /// The first version with it.
    pub added: Version,
    /// The first version without it, and how it went.
    pub removed: Option<(Version, Removal)>,
    /// The peer's Fail.
    pub fail: Option<Vec<u8>>,
    /// The lock that it forwards was paid to us.
    pub paid_upstream: bool,
    /// How it ended, once that is certain.
    pub outcome: Option<Outcome>,
    /// It went in a half that we have forgotten: paid or not, its hash tells.
    pub forgotten: bool,
}

impl OwnLock {
    /// Whether it is in our half, changes that are not signed yet included.
    pub fn stands(&self) -> bool {
        self.removed.is_none()
    }

    /// Whether the half of a version has it.
    pub fn is_in(&self, version: Version) -> bool {
        self.added <= version && self.removed.is_none_or(|(removed, _)| version < removed)
    }

    /// Whether it has ended and the peer has signed for its going.
    fn is_over(&self, echoed: Version) -> bool {
        let gone = self.removed.is_some_and(|(removed, _)| removed <= echoed);
        gone && self.outcome.is_some()
    }
}

/// A direct payment of ours that no signed echo covers yet.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct OwnDirect {
    /// The first version with it.
    pub version: Version,
    /// What was paid.
    pub direct: Direct,
}

/// The holder's half, newest and past.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct OwnSide {
    /// Newest signed version.
    pub version: Version,
    /// How far the next version is lifted above the clock: above zero only after a recovery.
    pub skip: Version,
    /// Paid so far, changes that are not signed yet included.
    pub paid: u128,
    /// Locks, gone ones included until an echo covers their going.
    pub locks: OwnLocks,
    /// The next lock's number.
    pub next_lock: LockId,
    /// Direct payments since the last echo.
    pub directs: Vec<OwnDirect>,
    /// Every half that we signed, from the echoed one on.
    pub halves: BTreeMap<Version, Half>,
    /// Newest version in a snapshot that the peer signed.
    pub echoed: Version,
    /// Direct payments made, ever.
    pub direct_total: u128,
}

impl OwnSide {
    fn new() -> Self {
        Self {
            version: 0,
            skip: 0,
            paid: 0,
            locks: OwnLocks::default(),
            next_lock: 1,
            directs: Vec::new(),
            halves: BTreeMap::from([(0, Half::ZERO)]),
            echoed: 0,
            direct_total: 0,
        }
    }

    /// The half of a version that may still matter.
    pub fn half(&self, version: Version) -> Option<&Half> {
        self.halves.get(&version)
    }

    /// The newest signed half.
    pub fn newest(&self) -> &Half {
        self.halves
            .get(&self.version)
            .expect("the newest half is always kept")
    }

    /// The lock list of a version from the echoed one on.
    pub fn list(&self, version: Version) -> Vec<Lock> {
        self.locks
            .values()
            .filter(|own| own.is_in(version))
            .map(|own| own.lock)
            .collect()
    }

    /// Locks that stand, changes that are not signed yet included.
    pub fn standing(&self) -> impl Iterator<Item = (&LockId, &OwnLock)> {
        self.locks.iter().filter(|(_, own)| own.stands())
    }

    /// What the standing locks hold.
    pub fn locked(&self) -> u128 {
        self.locks.locked()
    }
}

/// What became of a lock of the peer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Role {
    /// It goes on over another channel.
    Forward {
        /// Which channel.
        channel: ChannelId,
        /// Our lock there.
        lock: LockId,
    },
    /// It is a part of a payment to us.
    Part {
        /// When it came.
        since: Timestamp,
        /// What all parts together bring.
        total: Amount,
    },
    /// It is for nobody: it was answered with Fail.
    Refused,
}

/// What we told the peer about its lock; the last word.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Answer {
    /// The preimage.
    Fulfil,
    /// It cannot be paid, and why.
    Fail(Vec<u8>),
}

/// A lock of the counterparty.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PeerLock {
    /// What is locked.
    pub lock: Lock,
    /// What became of it.
    pub role: Role,
    /// What we told the peer.
    pub answer: Option<Answer>,
    /// It counts as money received: its reveal in time is final.
    pub counted: bool,
    /// It comes from a backup, from a copy, or in the quiet after one: we may have forwarded or failed it and forgotten that.
    pub recovered: bool,
    /// What encrypts a failure for the payer's eyes; none if the onion did not open or is forgotten.
    pub failure_key: Option<Hash32>,
}

/// The counterparty's newest half.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PeerSide {
    /// The half.
    pub half: Half,
    /// Its locks.
    pub locks: BTreeMap<LockId, PeerLock>,
    /// Highest lock number so far.
    pub last_lock: LockId,
    /// The peer's signature over our half at `echoed` and this half; none before the first.
    pub signature: Option<Signature>,
    /// Direct payments received, ever.
    pub direct_total: u128,
    /// Direct payments of the quiet after a recovery, to be told when it is over.
    pub untold: Vec<Direct>,
}

impl PeerSide {
    /// The lock list.
    pub fn list(&self) -> Vec<Lock> {
        self.locks.values().map(|peer| peer.lock).collect()
    }

    /// What the locks hold.
    pub fn locked(&self) -> u128 {
        list_sum(self.locks.values().map(|peer| &peer.lock))
    }
}

/// A half of the peer that is good but for its version, which one from before a loss of data may outbid: nothing is built on it,
/// but L1 may have it, which takes the newest in any case.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Spare {
    /// The half.
    pub half: Half,
    /// Its locks.
    pub list: Vec<Lock>,
    /// The version of our half that it echoes.
    pub echo: Version,
    /// The peer's signature over both.
    pub signature: Signature,
}

/// The newest versions of both halves that a tower is known to hold: each of them in a snapshot that it can submit.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Guarded {
    /// Of our half.
    pub own: Version,
    /// Of the peer's.
    pub held: Version,
}

/// A lock of the peer that goes on as soon as a tower holds the half with it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct OnHold {
    /// Over which channel.
    pub channel: ChannelId,
    /// What the next node gets.
    pub amount: Amount,
    /// Until when.
    pub expiry: Timestamp,
    /// What the next node opens.
    #[serde(with = "serde_bytes")]
    pub onion: Vec<u8>,
}

/// What money of the peer is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Purpose {
    /// A payment without a lock, with the payer's reference.
    Direct(Hash32),
    /// A part of a payment to us.
    Invoice(PaymentHash),
    /// It pays for a lock of ours on another channel.
    Forward {
        /// Which channel.
        channel: ChannelId,
        /// Our lock there.
        lock: LockId,
    },
}

/// Money that the peer has paid, in a half that no tower is known to hold: it does not count yet.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Income {
    /// The version of the peer's half that pays it.
    pub version: Version,
    /// How much.
    pub amount: Amount,
    /// How much the limit is compared with: the whole of a payment in parts.
    pub whole: u128,
    /// What for.
    pub purpose: Purpose,
}

/// What waits for a tower's receipt; all of it ends by itself, see `guard.rs`.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Waits {
    /// Money that does not count yet.
    pub income: Vec<Income>,
    /// Locks of the peer that do not go on yet.
    pub forwards: BTreeMap<LockId, OnHold>,
    /// With which version a lock of the peer came; for those that came under a limit.
    pub came: BTreeMap<LockId, Version>,
}

/// A cooperative payout that may still execute.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Payout {
    /// What is paid.
    pub coop: Coop,
    /// Whether we proposed it.
    pub proposed: bool,
    /// Our signature.
    pub own: Signature,
    /// The peer's.
    pub peer: Option<Signature>,
}

/// Why a channel is used no more.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Fault {
    /// Two different halves with one version.
    Equivocation(Version),
    /// An invalid half was not superseded in time.
    NotSuperseded,
    /// The peer says that it holds a half of ours newer than any that we know: it lies, or we have lost data. Signing on
    /// from an old half could make two halves of one version, so nothing is signed.
    DataLost(Version),
}

/// What is forgotten in a restart without harm.
#[derive(Debug, Clone, Default)]
pub struct Session {
    /// The peer is connected.
    pub connected: bool,
    /// Since when.
    pub since: Timestamp,
    /// The peer's Reestablish of this connection arrived.
    pub established: bool,
    /// Newest version of ours that the peer says it holds.
    pub peer_holds: Version,
    /// Newest version sent over this connection, assumed to arrive.
    pub sent: Version,
    /// When something was last sent again, by the local clock.
    pub last_sent: Timestamp,
    /// When each kind of transaction was last broadcast.
    pub last_broadcast: BTreeMap<u8, Timestamp>,
    /// A half of the peer was refused as invalid then and is not superseded.
    pub refused_at: Option<Timestamp>,
    /// The peer asked for a signed echo.
    pub owes_echo: bool,
    /// Locks that the peer was blamed for.
    pub blamed: BTreeSet<LockId>,
    /// An adversary's echo: an older half of the peer than the one held.
    #[cfg(feature = "sabotage")]
    pub stale_echo: Option<Half>,
}

/// A channel.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Channel {
    /// Its name.
    pub id: ChannelId,
    /// What names it.
    pub params: Params,
    /// Our side.
    pub side: Side,
    /// The counterparty's key.
    pub peer: PublicKey,
    /// Our half.
    pub own: OwnSide,
    /// The counterparty's half.
    pub held: PeerSide,
    /// A cooperative payout that may still execute.
    pub payout: Option<Payout>,
    /// The holder wants it closed.
    pub closing: bool,
    /// The peer is at fault: nothing is signed or accepted.
    pub fault: Option<Fault>,
    /// It is closed on L1 for good.
    pub closed: bool,
    /// Until a final block is later, nothing new is made or believed: a payout that we signed and forgot may still execute.
    pub quiet_until: Option<Timestamp>,
    /// The peer has lost data, and is quiet until then: no lock is added for it.
    pub peer_quiet_until: Timestamp,
    /// What waits for a tower's receipt. A record of schema 1 ends before it.
    pub waits: Waits,
    /// After a recovery: no half of the peer up to this version is taken, because it may hide a newer one that we echoed and
    /// forgot. A record of schema 2 ends before it.
    pub lost_up_to: Version,
    /// The newest half of the peer that was not taken for that, for L1. The last field of the record.
    pub spare: Option<Spare>,
    /// The second by which the next half is numbered.
    #[serde(skip)]
    pub clock: Timestamp,
    /// The version of the half that is begun and not signed.
    #[serde(skip)]
    pub begun: Option<Version>,
    /// What a tower is known to hold; the rim tells it after a restart.
    #[serde(skip)]
    pub guarded: Guarded,
    /// Half-made changes wait for a signature.
    #[serde(skip)]
    pub unsigned: bool,
    /// L1's newest word.
    #[serde(skip)]
    pub at_head: Option<OnChain>,
    /// L1's last word.
    #[serde(skip)]
    pub at_final: Option<OnChain>,
    /// The connection.
    #[serde(skip)]
    pub session: Session,
}

impl Channel {
    /// A channel before its first message.
    pub fn new(id: ChannelId, params: Params, side: Side, peer: PublicKey) -> Self {
        Self {
            id,
            params,
            side,
            peer,
            own: OwnSide::new(),
            held: PeerSide {
                half: Half::ZERO,
                locks: BTreeMap::new(),
                last_lock: 0,
                signature: None,
                direct_total: 0,
                untold: Vec::new(),
            },
            payout: None,
            closing: false,
            fault: None,
            closed: false,
            quiet_until: None,
            peer_quiet_until: 0,
            waits: Waits::default(),
            lost_up_to: 0,
            spare: None,
            clock: 0,
            begun: None,
            guarded: Guarded::default(),
            unsigned: false,
            at_head: None,
            at_final: None,
            session: Session::default(),
        }
    }

    /// The halves of the newest snapshot that the peer signed.
    pub fn best(&self) -> Halves {
        let own = *self
            .own
            .half(self.own.echoed)
            .expect("the echoed half is always kept");
        Halves::of(self.side, own, self.held.half)
    }

    /// The half of the peer that our snapshots echo: the newest that we hold.
    pub(crate) fn echo(&self) -> Half {
        #[cfg(feature = "sabotage")]
        if let Some(stale) = self.session.stale_echo {
            return stale;
        }
        self.held.half
    }

    /// Rule 0: what L1 has put in for a side, as far as it counts.
    pub fn net(&self, side: Side, rules: &Rules) -> i128 {
        let net = |view: &Option<OnChain>| view.as_ref().map_or(0, |chain| chain.net(side));
        let payout = self.payout.map_or(0, |payout| payout.coop.pay(side));
        rules.counted_net(net(&self.at_final), net(&self.at_head))
            - signed(rules.counted_payout(payout))
    }

    /// The holder's balance with everything that it decided, signed or not.
    pub fn balance(&self, rules: &Rules) -> i128 {
        self.net(self.side, rules) + signed(self.held.half.paid)
            - signed(self.own.paid)
            - signed(self.own.locked())
    }

    /// The counterparty's balance with a half of it and the half of ours that it echoes.
    pub fn peer_balance(&self, paid: u128, locked: u128, echo: &Half, rules: &Rules) -> i128 {
        self.net(self.side.other(), rules) + signed(echo.paid) - signed(paid) - signed(locked)
    }

    /// The counterparty's balance with what we hold of it.
    pub fn held_balance(&self, rules: &Rules) -> i128 {
        let echoed = self.best();
        self.peer_balance(
            self.held.half.paid,
            self.held.locked(),
            echoed.side(self.side),
            rules,
        )
    }

    /// Whether L1, at its head and finally, has the channel open.
    pub fn is_open(&self) -> bool {
        let open = |view: &Option<OnChain>| view.as_ref().is_some_and(OnChain::is_open);
        !self.closed && open(&self.at_head) && open(&self.at_final)
    }

    /// Whether a payout under way takes everything.
    pub fn payout_empties(&self) -> bool {
        self.payout.is_some_and(|payout| self.empties(&payout.coop))
    }

    /// Whether a payout takes all that L1 finally has.
    pub fn empties(&self, coop: &Coop) -> bool {
        let pot = self.at_final.as_ref().map_or(0, OnChain::pot);
        signed(coop.pay_a) + signed(coop.pay_b) >= pot
    }

    /// Whether it was recovered a short time ago, or is not recovered yet.
    pub fn is_quiet(&self) -> bool {
        !self.closed && (self.quiet_until.is_some() || self.has_lost_data())
    }

    /// Adds a lock to our half.
    pub(crate) fn add_lock(&mut self, lock: Lock, origin: Origin, onion: Vec<u8>) -> LockId {
        let id = self.own.next_lock;
        self.own.next_lock += 1;
        let added = self.next_version();
        self.own.locks.add(
            id,
            OwnLock {
                lock,
                onion,
                origin,
                added,
                removed: None,
                fail: None,
                paid_upstream: false,
                outcome: None,
                forgotten: false,
            },
        );
        self.unsigned = true;
        id
    }

    /// Takes a standing lock out of our half.
    pub(crate) fn remove_lock(&mut self, id: LockId, how: Removal) {
        let version = self.next_version();
        let Some(own) = self.own.locks.take_away(id, version, how) else {
            return;
        };
        if how == Removal::Settled {
            self.own.paid += own.lock.amount.get();
        }
        self.unsigned = true;
    }

    /// Adds a direct payment to our half.
    pub(crate) fn add_direct(&mut self, direct: Direct) {
        self.own.paid += direct.amount.get();
        self.own.direct_total += direct.amount.get();
        let version = self.next_version();
        self.own.directs.push(OwnDirect { version, direct });
        self.unsigned = true;
    }

    /// Forgets what a signed echo has made irrelevant.
    pub(crate) fn forget_echoed(&mut self) {
        let echoed = self.own.echoed;
        self.own.halves = self.own.halves.split_off(&echoed);
        self.own.directs.retain(|direct| direct.version > echoed);
        self.own.locks.forget_gone(|own| own.is_over(echoed));
        self.forget_onions(echoed);
    }

    /// Forgets the onions of locks that the peer holds or will never be told of: they are most of a record's bytes.
    pub(crate) fn forget_onions(&mut self, held: Version) {
        let newest = self.own.version;
        for own in self.own.locks.note_all() {
            let gone = own.removed.is_some_and(|(removed, _)| removed <= newest);
            if gone || own.added <= held {
                own.onion = Vec::new();
            }
        }
    }

    /// Forgets one lock if nothing about it can matter again.
    pub(crate) fn forget_resolved(&mut self, id: LockId) {
        let (echoed, closed) = (self.own.echoed, self.closed);
        let over = self
            .own
            .locks
            .get(&id)
            .is_some_and(|own| own.is_over(echoed) || (closed && own.outcome.is_some()));
        if over {
            self.own.locks.forget(id);
        }
    }

    /// The root of the list that is standing.
    pub fn standing_root(&self) -> LockRoot {
        let list: Vec<Lock> = self.own.standing().map(|(_, own)| own.lock).collect();
        crate::state::list_root(&list)
    }

    /// An amount that the holder could move now.
    pub fn spendable(&self, rules: &Rules) -> Amount {
        let free = self.balance(rules).max(0).unsigned_abs();
        Amount::new(free.min(crate::types::AMOUNT_LIMIT - 1)).unwrap_or(Amount::ZERO)
    }
}

/// An unsigned amount as a signed one: all of ours are below 2^112.
pub(crate) fn signed(amount: u128) -> i128 {
    i128::try_from(amount).unwrap_or(i128::MAX / 4)
}

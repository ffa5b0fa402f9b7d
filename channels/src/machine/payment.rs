//! Locks: what becomes of each, as payer, forwarder and payee.
//!
//! Everything known about a payment hash is looked at together, by `Node::advance`:
//!
//! | my lock | then |
//! |---|---|
//! | I am the origin, the preimage is known | the payment has succeeded; pay it soon |
//! | I forward, the preimage is known, the payer has paid or the reveal in time is final (rule 4) | pay it soon |
//! | dead (rule 6) | drop it; fail upstream |
//! | the peer failed it | drop it; fail upstream once the peer's signature echoes that (rule 3) |
//!
//! | the peer's lock | then |
//! |---|---|
//! | forwarded, the preimage is known | Fulfil |
//! | forwarded, my lock has failed for certain | Fail |
//! | part of an invoice that is complete | release: Fulfil all parts |
//! | fulfilled and unpaid near its expiry (rule 5) | reveal on L1 |
//!
//! *Soon* is with the next change of the half, and a change of its own some milliseconds later if none comes: in a row of payments
//! each pays the lock of the one before in the version that adds its own.

use super::channel::{
    Answer, Channel, OnHold, Origin, Outcome, OwnLock, PeerLock, Purpose, Removal, Role, signed,
};
use super::clock::VERSIONS_PER_SECOND;
use super::dispute::Reveal;
use super::effect::{Key, Notice, Transaction};
use super::rules::Rule;
use super::{LockRef, Node, StepError, Tools, insert_lock};
use crate::message::{AddLock, LockId, MAX_REASON_BYTES, Message};
use crate::onion::failure;
use crate::state::{Lock, list_sum};
use crate::types::{
    Address, Amount, ChannelId, Hash32, PAID_LIMIT, PaymentHash, Preimage, Timestamp,
};
use indexmap::map::Entry;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// What an onion says to the node that opens it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Hop {
    /// Pass it on.
    Forward {
        /// Over which channel of ours.
        channel: ChannelId,
        /// What the next node gets.
        amount: Amount,
        /// Until when; the same as what comes in.
        expiry: Timestamp,
        /// What the next node opens.
        onion: Vec<u8>,
    },
    /// It is for you.
    Deliver {
        /// The secret of the invoice: only its payer knows it.
        secret: Hash32,
        /// What all parts together bring.
        total: Amount,
    },
    /// It is for you, and you need no invoice: the payer chose the preimage.
    Keysend {
        /// What settles it.
        preimage: Preimage,
        /// What all parts together bring.
        total: Amount,
    },
}

/// Opens onions: a pure function of the node's key.
pub trait Onions {
    /// The layer for this node, bound to the payment hash. `None` if it is not for us or was altered.
    fn peel(&self, onion: &[u8], hash: &PaymentHash) -> Option<Hop>;

    /// The same, and the secret shared with the payer, which encrypts failures. None: they stay readable.
    fn open(&self, onion: &[u8], hash: &PaymentHash) -> Option<(Hop, Option<Hash32>)> {
        self.peel(onion, hash).map(|hop| (hop, None))
    }
}

/// One way that a payment goes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Part {
    /// Over which channel of ours it leaves.
    pub channel: ChannelId,
    /// What leaves, fees included.
    pub amount: Amount,
    /// What the first hop opens.
    pub onion: Vec<u8>,
}

/// A payment to make.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewPayment {
    /// The payee's hash.
    pub hash: PaymentHash,
    /// The same on all hops of all parts.
    pub expiry: Timestamp,
    /// The ways.
    pub parts: Vec<Part>,
}

/// Where a payment stands.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum PaymentState {
    /// Locks stand.
    Pending,
    /// Its preimage came, and at least one part is paid or will be with the next half.
    Succeeded(Preimage),
    /// Every part has failed for certain.
    Failed(Vec<u8>),
}

/// A payment that this node makes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Payment {
    /// Where it stands.
    pub state: PaymentState,
    /// Parts without an outcome.
    pub open_parts: u32,
    /// What the paid parts cost, fees included.
    pub paid: u128,
    /// What the parts without an outcome hold.
    pub pending: u128,
}

/// Where an expected payment stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum InvoiceState {
    /// Nothing was released.
    Open,
    /// All parts are here; the user decides.
    Held,
    /// The preimage is out.
    Released,
    /// It is refused.
    Cancelled,
}

/// A payment that this node expects.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Invoice {
    /// What settles it.
    pub preimage: Preimage,
    /// What is asked for; none leaves it to the payer.
    pub amount: Option<Amount>,
    /// What its payer has to know.
    pub secret: Hash32,
    /// Whether the user releases it.
    pub hold: bool,
    /// Where it stands.
    pub state: InvoiceState,
    /// What has arrived for certain.
    pub received: u128,
    /// What its released parts bring when all are paid.
    pub released: u128,
    /// The token; zero for Ether.
    pub token: Address,
}

/// Failure reasons of this node, before encryption: one byte, so that a payer's program can tell them apart.
pub mod reason {
    /// The onion does not open.
    pub const BAD_ONION: u8 = 1;
    /// No such invoice, wrong secret or amount, or paid already.
    pub const UNKNOWN_PAYMENT: u8 = 2;
    /// The expiry is too near, too far, or another than that of the incoming lock.
    pub const EXPIRY: u8 = 3;
    /// The fee is too small or the lock is below the minimum.
    pub const AMOUNT: u8 = 4;
    /// The next channel is unknown or cannot take it now.
    pub const NEXT_CHANNEL: u8 = 5;
    /// The hash is known already.
    pub const KNOWN_HASH: u8 = 6;
    /// The other parts did not come.
    pub const PARTS: u8 = 7;
    /// The payee cancelled.
    pub const CANCELLED: u8 = 8;
    /// The lock on the next channel expired without a word.
    pub const EXPIRED: u8 = 9;
    /// The next node answered without an encrypted reason: it could not open its layer, or it has forgotten the lock's.
    pub const NEXT_NODE: u8 = 10;
}

impl Node {
    // ---- Facts ----

    pub(super) fn reveal_of(&self, hash: &PaymentHash) -> Reveal {
        self.reveals.get(hash).copied().unwrap_or_default()
    }

    pub(super) fn is_dead(&self, lock: &Lock) -> bool {
        let reveal = self.reveal_of(&lock.hash);
        self.rules.is_dead(lock, reveal, self.final_time, self.now)
    }

    /// A preimage that may be used: one that we learnt, one that a payment of ours was for, or one of an invoice that we released.
    pub(super) fn preimage_of(&self, hash: &PaymentHash) -> Option<Preimage> {
        let proven = || match self.payments.get(hash)?.state {
            PaymentState::Succeeded(preimage) => Some(preimage),
            _ => None,
        };
        let released = || {
            let invoice = self.invoices.get(hash)?;
            (invoice.state == InvoiceState::Released).then_some(invoice.preimage)
        };
        let learnt = self.preimages.get(hash).copied();
        learnt.or_else(proven).or_else(released)
    }

    /// Rule 4, first half: a preimage is used upstream at once, so it is kept as long as a lock with its hash is.
    pub(super) fn learn_preimage(&mut self, preimage: Preimage) {
        let hash = preimage.hash();
        if self.index.contains_key(&hash) && self.preimage_of(&hash).is_none() {
            self.preimages.insert(hash, preimage);
            self.dirty.insert(Key::Preimage(hash));
            self.stirred.insert(hash);
        }
    }

    // ---- Commands ----

    pub(super) fn pay(&mut self, payment: NewPayment) -> Result<(), StepError> {
        let hash = payment.hash;
        let again = self
            .payments
            .get(&hash)
            .is_none_or(|known| matches!(known.state, PaymentState::Failed(_)));
        let settling = self.index.contains_key(&hash) || self.invoices.contains_key(&hash);
        if !again || settling || payment.parts.is_empty() {
            return Err(StepError::KnownPayment(hash));
        }
        let pending = self.check_parts(&payment)?;
        self.payments.insert(
            hash,
            Payment {
                state: PaymentState::Pending,
                open_parts: payment.parts.len() as u32,
                paid: 0,
                pending,
            },
        );
        self.lock_parts(&payment);
        Ok(())
    }

    /// Adds ways to a payment of which a part has failed for certain while others stand. That they bring no more than what has failed
    /// is the caller's duty.
    pub(super) fn add_parts(&mut self, payment: NewPayment) -> Result<(), StepError> {
        let hash = payment.hash;
        let stands = |known: &Payment| known.state == PaymentState::Pending && known.open_parts > 0;
        let open = self.payments.get(&hash).is_some_and(stands);
        // Whoever holds the preimage could take a lock that is added now.
        if !open || self.is_known(&hash) || payment.parts.is_empty() {
            return Err(StepError::KnownPayment(hash));
        }
        let added = self.check_parts(&payment)?;
        if let Some(known) = self.payments.get_mut(&hash) {
            known.open_parts += payment.parts.len() as u32;
            known.pending += added;
        }
        self.lock_parts(&payment);
        Ok(())
    }

    /// Whether all locks of a payment can be added now, once those that wait to be paid have made room; what they hold.
    fn check_parts(&mut self, payment: &NewPayment) -> Result<u128, StepError> {
        let mut spent: BTreeMap<ChannelId, (u128, usize)> = BTreeMap::new();
        for part in &payment.parts {
            self.make_room(part.channel, payment.parts.len());
            let (sum, count) = spent.entry(part.channel).or_default();
            *sum += part.amount.get();
            *count += 1;
            let lock = part.lock(payment);
            self.check_lock(part.channel, &lock, *sum, *count)?;
        }
        Ok(spent.values().map(|(sum, _)| sum).sum())
    }

    fn lock_parts(&mut self, payment: &NewPayment) {
        let hash = payment.hash;
        self.dirty.insert(Key::Payment(hash));
        for part in &payment.parts {
            let lock = part.lock(payment);
            self.lock(
                part.channel,
                lock,
                Origin::Payment(hash),
                part.onion.clone(),
            );
        }
    }

    /// Whether a lock can be added now, as the `count`-th of a step that adds `sum`: rules 1 and 8 for the sender.
    fn check_lock(
        &self,
        id: ChannelId,
        lock: &Lock,
        sum: u128,
        count: usize,
    ) -> Result<(), StepError> {
        let channel = self
            .channels
            .get(&id)
            .ok_or(StepError::UnknownChannel(id))?;
        if lock.amount == Amount::ZERO {
            return Err(StepError::Zero);
        }
        channel.check_in_use()?;
        let fresh = self.head_age() <= self.policy.max_head_age;
        if !fresh || !self.may_change(channel) {
            return Err(StepError::NotOpen(id));
        }
        channel.check_quiet()?;
        if self.now < channel.peer_quiet_until {
            return Err(StepError::Recovering {
                channel: id,
                until: channel.peer_quiet_until,
            });
        }
        let earliest = self.now + self.policy.min_expiry_ahead;
        let latest = self.now + self.policy.max_expiry_ahead;
        if lock.expiry < earliest || lock.expiry > latest {
            return Err(StepError::Expiry {
                expiry: lock.expiry,
                earliest,
                latest,
            });
        }
        if channel.own.locks.standing() + count > self.policy.max_locks {
            return Err(StepError::Slots);
        }
        if !self
            .rules
            .may_send(channel.balance(&self.rules) - signed(sum))
        {
            return Err(StepError::Balance {
                wanted: sum,
                available: channel.spendable(&self.rules).get(),
            });
        }
        if channel.own.paid + channel.own.locked() + sum >= PAID_LIMIT {
            return Err(StepError::Turnover);
        }
        Ok(())
    }

    fn lock(&mut self, id: ChannelId, lock: Lock, origin: Origin, onion: Vec<u8>) -> LockId {
        let number = self
            .channel_mut(id)
            .expect("the channel was checked")
            .add_lock(lock, origin, onion);
        self.index_lock(lock.hash, id, true, number);
        number
    }

    fn index_lock(&mut self, hash: PaymentHash, channel: ChannelId, own: bool, lock: LockId) {
        let locks = self.index.entry(hash).or_default();
        if locks.is_empty() {
            self.effects.watches.push(hash);
        }
        insert_lock(locks, LockRef { channel, own, lock });
        self.stirred.insert(hash);
    }

    pub(super) fn add_invoice(&mut self, invoice: Invoice) -> Result<(), StepError> {
        let hash = invoice.preimage.hash();
        let known = self.invoices.contains_key(&hash)
            || self.payments.contains_key(&hash)
            || self.index.contains_key(&hash);
        if known {
            return Err(StepError::KnownPayment(hash));
        }
        self.invoices.insert(hash, invoice);
        self.dirty.insert(Key::Invoice(hash));
        Ok(())
    }

    pub(super) fn release(&mut self, hash: PaymentHash) -> Result<(), StepError> {
        let held = self
            .invoices
            .get(&hash)
            .is_some_and(|invoice| invoice.state == InvoiceState::Held);
        if !held {
            return Err(StepError::NoInvoice(hash));
        }
        let parts = self.open_parts(hash);
        for (channel, lock, _) in &parts {
            self.channels[channel].check_quiet()?;
            if !self.is_proven(*channel, *lock) {
                let until = self.channels[channel].lost_up_to / VERSIONS_PER_SECOND;
                return Err(StepError::Recovering {
                    channel: *channel,
                    until,
                });
            }
        }
        if is_complete(&parts) && self.all_may_release(&parts) {
            if !self.are_parts_guarded(&parts) {
                return Err(StepError::Unguarded {
                    hash,
                    until: self.last_release(&parts),
                });
            }
            self.release_parts(hash, &parts);
            Ok(())
        } else {
            self.cancel(hash)?;
            Err(StepError::NoInvoice(hash))
        }
    }

    pub(super) fn cancel(&mut self, hash: PaymentHash) -> Result<(), StepError> {
        let invoice = self
            .invoices
            .get_mut(&hash)
            .filter(|invoice| invoice.state != InvoiceState::Released)
            .ok_or(StepError::NoInvoice(hash))?;
        invoice.state = InvoiceState::Cancelled;
        self.dirty.insert(Key::Invoice(hash));
        for (channel, lock, _) in self.open_parts(hash) {
            self.fail_peer(channel, lock, reason::CANCELLED);
        }
        Ok(())
    }

    // ---- The peer's locks ----

    /// A lock that was just accepted: rule 8 decides whether it goes on.
    pub(super) fn receive_lock(&mut self, id: ChannelId, add: AddLock, tools: Tools<'_>) {
        let lock = add.lock;
        if self.channels.get(&id).is_some_and(Channel::is_quiet) {
            self.index_lock(lock.hash, id, false, add.id);
            self.receive_recovered(id, &add, tools);
            return;
        }
        let known = self.is_known(&lock.hash);
        self.index_lock(lock.hash, id, false, add.id);
        let opened = tools.onions.open(&add.onion, &lock.hash);
        let (hop, failure_key) = opened.map_or((None, None), |(hop, key)| (Some(hop), key));
        if let Some(peer) = self.peer_lock_mut(id, add.id) {
            peer.failure_key = failure_key;
        }
        let decision = if known {
            Err(reason::KNOWN_HASH)
        } else {
            match hop {
                None => Err(reason::BAD_ONION),
                Some(Hop::Deliver { secret, total }) => self.take_part(id, &lock, secret, total),
                Some(Hop::Keysend { preimage, total }) => {
                    self.take_gift(id, &lock, preimage, total)
                }
                Some(Hop::Forward {
                    channel,
                    amount,
                    expiry,
                    onion,
                }) => {
                    let out = Lock {
                        hash: lock.hash,
                        amount,
                        expiry,
                    };
                    self.forward((id, add.id), &lock, channel, out, onion)
                }
            }
        };
        match decision {
            Ok(role) => {
                if let Some(peer) = self.peer_lock_mut(id, add.id) {
                    peer.role = role;
                }
            }
            Err(code) => self.fail_peer(id, add.id, code),
        }
    }

    /// A hash whose preimage is out already: whoever holds it could take the lock of the next hop.
    pub(super) fn is_known(&self, hash: &PaymentHash) -> bool {
        self.reveal_of(hash).at_head.is_some() || self.preimage_of(hash).is_some()
    }

    fn take_part(
        &self,
        id: ChannelId,
        lock: &Lock,
        secret: Hash32,
        total: Amount,
    ) -> Result<Role, u8> {
        let token = self.token_of(id);
        let invoice = self
            .invoices
            .get(&lock.hash)
            .filter(|invoice| invoice.secret == secret && invoice.state == InvoiceState::Open)
            .filter(|invoice| invoice.amount.is_none_or(|amount| total >= amount))
            .filter(|invoice| Some(invoice.token) == token)
            .ok_or(reason::UNKNOWN_PAYMENT)?;
        if total.get() < invoice.amount.map_or(1, Amount::get) {
            return Err(reason::UNKNOWN_PAYMENT);
        }
        if !self.rules.may_release(lock, self.now, &self.policy) {
            return Err(reason::EXPIRY);
        }
        Ok(Role::Part {
            since: self.now,
            total,
        })
    }

    /// A part of a payment without an invoice: the first one makes the invoice.
    fn take_gift(
        &mut self,
        id: ChannelId,
        lock: &Lock,
        preimage: Preimage,
        total: Amount,
    ) -> Result<Role, u8> {
        let secret = Hash32(lock.hash.0);
        let token = self.token_of(id).filter(|_| self.policy.keysend);
        let token = token.ok_or(reason::UNKNOWN_PAYMENT)?;
        if preimage.hash() != lock.hash || self.payments.contains_key(&lock.hash) {
            return Err(reason::UNKNOWN_PAYMENT);
        }
        if !self.rules.may_release(lock, self.now, &self.policy) {
            return Err(reason::EXPIRY);
        }
        if let Entry::Vacant(free) = self.invoices.entry(lock.hash) {
            free.insert(Invoice {
                preimage,
                amount: Some(total),
                secret,
                hold: false,
                state: InvoiceState::Open,
                received: 0,
                released: 0,
                token,
            });
            self.dirty.insert(Key::Invoice(lock.hash));
        }
        self.take_part(id, lock, secret, total)
    }

    pub(super) fn token_of(&self, id: ChannelId) -> Option<Address> {
        self.channels.get(&id).map(|channel| channel.params.token)
    }

    pub(super) fn forward(
        &mut self,
        (in_channel, in_lock): (ChannelId, LockId),
        incoming: &Lock,
        out_channel: ChannelId,
        out: Lock,
        onion: Vec<u8>,
    ) -> Result<Role, u8> {
        let same_token = match (
            self.channels.get(&in_channel),
            self.channels.get(&out_channel),
        ) {
            (Some(from), Some(to)) => from.params.token == to.params.token,
            _ => return Err(reason::NEXT_CHANNEL),
        };
        if !same_token || in_channel == out_channel {
            return Err(reason::NEXT_CHANNEL);
        }
        if out.amount.get() < self.policy.min_lock {
            return Err(reason::AMOUNT);
        }
        if !self.rules.may_forward(incoming, &out, &self.policy) {
            let other = out.expiry != incoming.expiry;
            return Err(if other {
                reason::EXPIRY
            } else {
                reason::AMOUNT
            });
        }
        self.make_room(out_channel, 1);
        let held = self.forwarded_for(in_channel);
        if held.saturating_add(incoming.amount.get()) > self.policy.max_peer_value {
            return Err(reason::NEXT_CHANNEL);
        }
        self.check_lock(out_channel, &out, out.amount.get(), 1)
            .map_err(|error| match error {
                StepError::Expiry { .. } => reason::EXPIRY,
                _ => reason::NEXT_CHANNEL,
            })?;
        if !self.is_lock_guarded(
            Rule::GuardedForward,
            in_channel,
            in_lock,
            incoming.amount.get(),
        ) {
            let on_hold = OnHold {
                channel: out_channel,
                amount: out.amount,
                expiry: out.expiry,
                onion,
            };
            self.put_on_hold(in_channel, in_lock, on_hold);
            return Ok(Role::Refused);
        }
        let origin = Origin::Forward {
            channel: in_channel,
            lock: in_lock,
        };
        let lock = self.lock(out_channel, out, origin, onion);
        Ok(Role::Forward {
            channel: out_channel,
            lock,
        })
    }

    /// Rule 8: what we forward for the peer of a channel, or hold to forward, over all its channels of the same token.
    fn forwarded_for(&self, id: ChannelId) -> u128 {
        let Some(channel) = self.channels.get(&id) else {
            return 0;
        };
        let same = self.channels.values().filter(|other| {
            other.peer == channel.peer && other.params.token == channel.params.token
        });
        let locks = same.flat_map(|other| {
            let on_hold = |lock: &LockId| other.waits.forwards.contains_key(lock);
            let locks = other.held.locks.iter();
            locks.filter(move |(lock, peer)| {
                matches!(peer.role, Role::Forward { .. }) || on_hold(lock)
            })
        });
        list_sum(locks.map(|(_, peer)| &peer.lock))
    }

    pub(super) fn peer_lock_mut(&mut self, id: ChannelId, lock: LockId) -> Option<&mut PeerLock> {
        self.channel_mut(id).ok()?.held.locks.get_mut(&lock)
    }

    pub(super) fn peer_lock(&self, id: ChannelId, lock: LockId) -> Option<&PeerLock> {
        self.channels.get(&id)?.held.locks.get(&lock)
    }

    /// Fails a lock of the peer for a reason of this node, unless it was answered.
    pub(super) fn fail_peer(&mut self, id: ChannelId, lock: LockId, code: u8) {
        let key = self.failure_key(id, lock);
        let reason = key.map_or_else(|| vec![code], |key| failure::make(&key, &[code]));
        self.answer_fail(id, lock, reason);
    }

    /// Fails a lock of the peer because the one on the next channel has failed: adds a layer to the reason.
    fn pass_failure(&mut self, id: ChannelId, lock: LockId, why: Vec<u8>) {
        match self.failure_key(id, lock) {
            None => self.answer_fail(id, lock, why),
            Some(_) if why.is_empty() => self.fail_peer(id, lock, reason::EXPIRED),
            Some(key) => match failure::wrap(&key, &why) {
                Some(reason) => self.answer_fail(id, lock, reason),
                None => self.fail_peer(id, lock, reason::NEXT_NODE),
            },
        }
    }

    fn failure_key(&self, id: ChannelId, lock: LockId) -> Option<Hash32> {
        self.peer_lock(id, lock)?.failure_key
    }

    fn answer_fail(&mut self, id: ChannelId, lock: LockId, reason: Vec<u8>) {
        // We may have forwarded a recovered lock and forgotten it: only its death is certain.
        let uncertain = self.peer_lock(id, lock).is_some_and(|peer| {
            peer.recovered && !self.is_unreleased(peer) && !self.is_dead(&peer.lock)
        });
        let Some(peer) = self
            .peer_lock_mut(id, lock)
            .filter(|peer| peer.answer.is_none() && !uncertain)
        else {
            return;
        };
        peer.answer = Some(Answer::Fail(reason.clone()));
        self.send(
            id,
            Message::Fail {
                channel: id,
                lock,
                reason,
            },
        );
    }

    /// Fulfils a lock of the peer, unless it was answered.
    fn fulfil_peer(&mut self, id: ChannelId, lock: LockId, preimage: Preimage) {
        let Some(peer) = self
            .peer_lock_mut(id, lock)
            .filter(|peer| peer.answer.is_none())
        else {
            return;
        };
        peer.answer = Some(Answer::Fulfil);
        self.send(
            id,
            Message::Fulfil {
                channel: id,
                lock,
                preimage,
            },
        );
    }

    /// The peer moved a lock of its into `paid`.
    pub(super) fn peer_settled(&mut self, id: ChannelId, peer: &PeerLock) {
        let (hash, amount) = (peer.lock.hash, peer.lock.amount);
        match peer.role {
            Role::Forward { channel, lock } => {
                let purpose = Purpose::Forward { channel, lock };
                self.count_income(id, amount, amount.get(), purpose);
            }
            Role::Part { .. } if !peer.counted => {
                let released = self.invoices.get(&hash).map_or(0, |known| known.released);
                let whole = released.max(amount.get());
                self.count_income(id, amount, whole, Purpose::Invoice(hash));
            }
            Role::Part { .. } | Role::Refused => {}
        }
        self.stirred.insert(hash);
    }

    /// Rule 4: the payer of a lock that we forwarded has paid.
    pub(super) fn paid_upstream(&mut self, channel: ChannelId, lock: LockId) {
        let own = self
            .channel_mut(channel)
            .ok()
            .and_then(|channel| channel.own.locks.note(lock));
        if let Some(own) = own {
            own.paid_upstream = true;
            let hash = own.lock.hash;
            self.stirred.insert(hash);
        }
    }

    pub(super) fn count_received(&mut self, hash: PaymentHash, amount: Amount) {
        if self.count_released(hash, amount.get()) {
            return;
        }
        // Paid though it was not released: somebody else knew the preimage.
        let Some(invoice) = self.invoices.get_mut(&hash) else {
            return;
        };
        invoice.received += amount.get();
        let received = Amount::new(invoice.received).unwrap_or(amount);
        self.dirty.insert(Key::Invoice(hash));
        self.notices.push(Notice::InvoicePaid { hash, received });
    }

    /// Counts money for an invoice that was released. After a loss of data a lock may be settled twice, as far as we know;
    /// it brought its amount once. Says whether there is such an invoice.
    pub(super) fn count_released(&mut self, hash: PaymentHash, amount: u128) -> bool {
        let released = |invoice: &&mut Invoice| invoice.state == InvoiceState::Released;
        let Some(invoice) = self.invoices.get_mut(&hash).filter(released) else {
            return false;
        };
        let received = (invoice.received + amount).min(invoice.released);
        if let (true, Ok(received)) = (received > invoice.received, Amount::new(received)) {
            invoice.received = received.get();
            self.dirty.insert(Key::Invoice(hash));
            self.notices.push(Notice::InvoicePaid { hash, received });
        }
        true
    }

    pub(super) fn receive_fulfil(
        &mut self,
        id: ChannelId,
        lock: LockId,
        preimage: Preimage,
    ) -> Result<(), StepError> {
        let hash = preimage.hash();
        let fits = self.channels[&id]
            .own
            .locks
            .get(&lock)
            .is_some_and(|own| own.lock.hash == hash);
        if !fits {
            return Err(StepError::Ignored("a preimage of no lock of ours"));
        }
        self.learn_preimage(preimage);
        Ok(())
    }

    pub(super) fn receive_fail(
        &mut self,
        id: ChannelId,
        lock: LockId,
        mut reason: Vec<u8>,
    ) -> Result<(), StepError> {
        reason.truncate(MAX_REASON_BYTES);
        let channel = self.channel_mut(id)?;
        let own = channel
            .own
            .locks
            .note(lock)
            .ok_or(StepError::Ignored("a failure of no lock of ours"))?;
        own.fail.get_or_insert(reason);
        let hash = own.lock.hash;
        self.stir(hash);
        Ok(())
    }

    // ---- What follows ----

    /// Looks at everything known about a hash and does what the rules allow.
    pub(super) fn advance(&mut self, hash: PaymentHash) {
        let locks = self.locks_with(hash);
        self.advance_invoice(hash);
        for found in locks {
            let exists = if found.own {
                self.advance_own(found.channel, found.lock)
            } else {
                self.advance_peer(found.channel, found.lock)
            };
            if !exists {
                self.forget(hash, found);
            }
        }
    }

    /// A lock is gone; with the last one goes what was known about its hash.
    fn forget(&mut self, hash: PaymentHash, gone: LockRef) {
        let Some(locks) = self.index.get_mut(&hash) else {
            return;
        };
        locks.retain(|found| *found != gone);
        if locks.is_empty() {
            self.index.swap_remove(&hash);
            self.reveals.remove(&hash);
            self.last_reveal.remove(&hash);
            if self.preimages.swap_remove(&hash).is_some() {
                self.dirty.insert(Key::Preimage(hash));
            }
        }
    }

    /// Moves a lock of ours on. Says whether it still exists.
    fn advance_own(&mut self, id: ChannelId, lock: LockId) -> bool {
        let Some(channel) = self.channels.get(&id) else {
            return false;
        };
        let Some(own) = channel.own.locks.get(&lock) else {
            return false;
        };
        let in_time = self
            .reveal_of(&own.lock.hash)
            .counts_finally(own.lock.expiry);
        let known = self.is_payable(&own.lock);
        let may_change = self.may_change(channel);
        let closed = channel.closed;
        let dead = self.is_dead(&own.lock);
        match own.removed {
            None => {
                let failed = own.fail.is_some() && !known;
                if known && self.may_settle(channel, own) {
                    let origin = own.origin;
                    self.settles.entry(id).or_default().insert(lock);
                    if let Origin::Payment(hash) = origin {
                        self.succeed(hash);
                    }
                } else if dead || failed || own.outcome == Some(Outcome::Failed) {
                    if may_change {
                        self.remove_own(id, lock, Removal::Dropped);
                    }
                    if dead {
                        self.resolve(id, lock, Outcome::Failed);
                    }
                } else if closed && in_time {
                    self.resolve(id, lock, Outcome::Paid);
                }
            }
            Some(_) if own.forgotten => {
                if known {
                    self.resolve(id, lock, Outcome::Paid);
                } else if dead {
                    self.resolve(id, lock, Outcome::Failed);
                }
            }
            Some((removed, Removal::Dropped)) => {
                let signed = self.rules.may_fail_upstream(removed, channel.own.echoed);
                if dead || signed && self.is_going_guarded(channel, &own.lock, removed) {
                    self.resolve(id, lock, Outcome::Failed);
                } else if closed && in_time {
                    self.resolve(id, lock, Outcome::Paid);
                }
            }
            Some((_, Removal::Settled)) => {}
        }
        let Some(channel) = self.channels.get_mut(&id) else {
            return false;
        };
        channel.forget_resolved(lock);
        channel.own.locks.contains_key(&lock)
    }

    /// Whether the preimage of a lock of ours is out for certain.
    fn is_payable(&self, lock: &Lock) -> bool {
        let in_time = self.reveal_of(&lock.hash).counts_finally(lock.expiry);
        in_time || self.preimage_of(&lock.hash).is_some()
    }

    /// Whether a standing lock of ours that is payable may be paid: at once if the payment is ours, by rule 4 if it is a forward.
    fn may_settle(&self, channel: &Channel, own: &OwnLock) -> bool {
        let ours = |hash| self.payments.contains_key(&hash);
        let allowed = match own.origin {
            Origin::Payment(hash) if ours(hash) => true,
            // A lock that no payment explains is a forward whose payer we have forgotten.
            Origin::Payment(_) | Origin::Forward { .. } => self.rules.may_pay(
                &own.lock,
                own.paid_upstream,
                self.reveal_of(&own.lock.hash),
                self.now,
                &self.policy,
            ),
        };
        own.stands() && own.outcome.is_none() && allowed && self.may_change(channel)
    }

    /// Pays locks that wait for it, of channels whose half changes anyway, or of all when it is time. Says whether there were any.
    pub(super) fn settle_due(&mut self) -> bool {
        let now = std::mem::take(&mut self.settle_now);
        let changes = |id: &&ChannelId| now || self.channels.get(id).is_some_and(|of| of.unsigned);
        let due: Vec<ChannelId> = self.settles.keys().filter(changes).copied().collect();
        for &id in &due {
            self.settle_waiting(id);
        }
        !due.is_empty()
    }

    /// Pays the locks of a channel that wait for it.
    pub(super) fn settle_waiting(&mut self, id: ChannelId) {
        for lock in self.settles.remove(&id).unwrap_or_default() {
            let may = self.channels.get(&id).is_some_and(|channel| {
                let own = channel.own.locks.get(&lock);
                own.is_some_and(|own| self.is_payable(&own.lock) && self.may_settle(channel, own))
            });
            // What may not be paid now is looked at again with the next tick.
            if may {
                self.remove_own(id, lock, Removal::Settled);
                self.resolve(id, lock, Outcome::Paid);
            }
        }
    }

    /// Pays the locks that wait for it if there is no room for another one otherwise.
    fn make_room(&mut self, id: ChannelId, more: usize) {
        let standing = |channel: &Channel| channel.own.locks.standing();
        let taken = self.channels.get(&id).map_or(0, standing);
        if taken + more > self.policy.max_locks {
            self.settle_waiting(id);
        }
    }

    /// A payment of ours is made for certain: the proof of it is here, and whatever stands of it is paid.
    fn succeed(&mut self, hash: PaymentHash) {
        let pending = |payment: &Payment| payment.state == PaymentState::Pending;
        if !self.payments.get(&hash).is_some_and(pending) {
            return;
        }
        let Some(preimage) = self.preimage_of(&hash) else {
            return;
        };
        if let Some(payment) = self.payments.get_mut(&hash) {
            payment.state = PaymentState::Succeeded(preimage);
            self.dirty.insert(Key::Payment(hash));
            // The payment's record has it from now on; one that was learnt in this step needs no other.
            let learnt = Key::Preimage(hash);
            if self.preimages.swap_remove(&hash).is_some() && !self.dirty.swap_remove(&learnt) {
                self.dirty.insert(learnt);
            }
            self.notices
                .push(Notice::PaymentSucceeded { hash, preimage });
        }
    }

    fn remove_own(&mut self, id: ChannelId, lock: LockId, how: Removal) {
        if let Ok(channel) = self.channel_mut(id) {
            channel.remove_lock(lock, how);
        }
    }

    /// A lock of ours has ended for certain: tell whoever waits for it, once.
    pub(super) fn resolve(&mut self, id: ChannelId, lock: LockId, outcome: Outcome) {
        let Ok(channel) = self.channel_mut(id) else {
            return;
        };
        let Some(own) = channel.own.locks.note(lock) else {
            return;
        };
        if own.outcome.is_some() {
            return;
        }
        own.outcome = Some(outcome);
        let (origin, hash, amount) = (own.origin, own.lock.hash, own.lock.amount.get());
        let why = own.fail.clone().unwrap_or_default();
        self.stirred.insert(hash);
        match (origin, outcome) {
            (Origin::Payment(hash), _) => self.part_ended(hash, (id, amount), outcome, why),
            (Origin::Forward { channel, lock }, Outcome::Failed) => {
                self.pass_failure(channel, lock, why);
            }
            (Origin::Forward { .. }, Outcome::Paid) => {}
        }
    }

    fn part_ended(
        &mut self,
        hash: PaymentHash,
        (channel, amount): (ChannelId, u128),
        outcome: Outcome,
        why: Vec<u8>,
    ) {
        if outcome == Outcome::Paid {
            self.succeed(hash);
        }
        let Some(payment) = self.payments.get_mut(&hash) else {
            return;
        };
        if payment.open_parts == 0 {
            // It ended before our channels went back to older data.
            return;
        }
        self.dirty.insert(Key::Payment(hash));
        payment.open_parts = payment.open_parts.saturating_sub(1);
        payment.pending = payment.pending.saturating_sub(amount);
        if outcome == Outcome::Paid {
            payment.paid += amount;
        }
        match (&payment.state, outcome) {
            (PaymentState::Pending, Outcome::Failed) if payment.open_parts == 0 => {
                payment.state = PaymentState::Failed(why.clone());
                self.notices
                    .push(Notice::PaymentFailed { hash, reason: why });
            }
            (PaymentState::Pending, Outcome::Failed) => {
                self.notices.push(Notice::PartFailed {
                    hash,
                    channel,
                    amount,
                    reason: why,
                });
            }
            _ => {}
        }
    }

    /// Moves a lock of the peer on. Says whether it still exists.
    fn advance_peer(&mut self, id: ChannelId, lock: LockId) -> bool {
        self.advance_on_hold(id, lock);
        let Some(peer) = self.peer_lock(id, lock).cloned() else {
            return false;
        };
        let preimage = self.preimage_of(&peer.lock.hash);
        if let (Role::Forward { channel, lock: out }, None) = (&peer.role, &peer.answer) {
            // Rule 4: on learning a preimage, Fulfil upstream at once.
            if let Some(preimage) = preimage {
                self.fulfil_peer(id, lock, preimage);
            } else if self.has_failed(*channel, *out) {
                self.fail_peer(id, lock, reason::EXPIRED);
            }
        } else if let (true, None, Some(preimage)) = (peer.recovered, &peer.answer, preimage) {
            self.fulfil_peer(id, lock, preimage);
        }
        let fulfilled = self
            .peer_lock(id, lock)
            .is_some_and(|peer| peer.answer == Some(Answer::Fulfil));
        if let Some(preimage) = preimage.filter(|_| fulfilled) {
            self.secure(id, lock, &peer, preimage);
        }
        !self.forget_decided(id, lock, &peer.lock)
    }

    /// On a closed channel a lock is over once L1 has decided it finally.
    fn forget_decided(&mut self, id: ChannelId, lock: LockId, of: &Lock) -> bool {
        let decided = self.reveal_of(&of.hash).counts_finally(of.expiry) || self.is_dead(of);
        let closed = self.channels.get(&id).is_some_and(|channel| channel.closed);
        if !(decided && closed) {
            return false;
        }
        if let Ok(channel) = self.channel_mut(id) {
            channel.held.locks.remove(&lock);
        }
        true
    }

    /// Whether a lock of ours that a peer's lock points to is gone without being paid.
    fn has_failed(&self, id: ChannelId, lock: LockId) -> bool {
        self.channels
            .get(&id)
            .and_then(|channel| channel.own.locks.get(&lock))
            .is_some_and(|own| own.outcome == Some(Outcome::Failed))
    }

    /// Rule 5, and what a final reveal means for a payee.
    fn secure(&mut self, id: ChannelId, lock: LockId, peer: &PeerLock, preimage: Preimage) {
        let hash = peer.lock.hash;
        let reveal = self.reveal_of(&hash);
        if self
            .rules
            .must_reveal(&peer.lock, reveal, self.now, &self.policy)
        {
            let last = self.last_reveal.get(&hash);
            if last.is_none_or(|at| self.now >= at + self.policy.rebroadcast_after) {
                self.last_reveal.insert(hash, self.now);
                self.effects.broadcasts.push(Transaction::Reveal {
                    preimages: vec![preimage],
                });
            }
        }
        let part = matches!(peer.role, Role::Part { .. });
        let counts = reveal.counts_finally(peer.lock.expiry) && self.is_proven(id, lock);
        if part && !peer.counted && counts {
            if let Some(peer) = self.peer_lock_mut(id, lock) {
                peer.counted = true;
            }
            self.count_received(hash, peer.lock.amount);
        }
        self.blame(id, lock, &peer.lock, reveal);
    }

    /// Only a peer that could have moved its lock is blamed, and nobody for a reveal.
    fn blame(&mut self, id: ChannelId, lock: LockId, of: &Lock, reveal: Reveal) {
        let Some(at) = reveal.at_final.filter(|at| *at <= of.expiry) else {
            return;
        };
        let (now, after, margin) = (self.now, self.policy.blame_after, self.policy.reveal_margin);
        // While L1 stands still nobody takes a payment, nor right after it; nor after a loss, before the peer's versions are above it.
        let stale = self.head_age() > self.policy.max_head_age || !self.is_proven(id, lock);
        if stale || now <= self.fresh_since + after {
            return;
        }
        let Some(channel) = self.channels.get_mut(&id) else {
            return;
        };
        let session = &channel.session;
        let able = session.established && now > session.since + after && channel.is_open();
        if able && now > at + margin + after && channel.session.blamed.insert(lock) {
            self.notices.push(Notice::Blame { channel: id, lock });
        }
    }

    // ---- Invoices ----

    /// Parts of an invoice that were not answered.
    pub(super) fn open_parts(&self, hash: PaymentHash) -> Vec<(ChannelId, LockId, PeerLock)> {
        let locks = self.index.get(&hash).into_iter().flatten();
        locks
            .filter(|found| !found.own)
            .filter_map(|found| {
                let peer = self.peer_lock(found.channel, found.lock)?;
                let open = peer.answer.is_none() && matches!(peer.role, Role::Part { .. });
                open.then(|| (found.channel, found.lock, peer.clone()))
            })
            .collect()
    }

    pub(super) fn all_may_release(&self, parts: &[(ChannelId, LockId, PeerLock)]) -> bool {
        parts
            .iter()
            .all(|(_, _, peer)| self.rules.may_release(&peer.lock, self.now, &self.policy))
    }

    fn release_parts(&mut self, hash: PaymentHash, parts: &[(ChannelId, LockId, PeerLock)]) {
        let Some(invoice) = self.invoices.get_mut(&hash) else {
            return;
        };
        invoice.state = InvoiceState::Released;
        invoice.released = parts
            .iter()
            .map(|(_, _, peer)| peer.lock.amount.get())
            .sum();
        let preimage = invoice.preimage;
        self.dirty.insert(Key::Invoice(hash));
        for (channel, lock, _) in parts {
            self.fulfil_peer(*channel, *lock, preimage);
        }
    }

    /// Releases an invoice whose parts are complete, or gives up on parts that wait too long.
    fn advance_invoice(&mut self, hash: PaymentHash) {
        let Some(invoice) = self.invoices.get(&hash) else {
            return;
        };
        let (hold, state) = (invoice.hold, invoice.state);
        let waits = matches!(state, InvoiceState::Open | InvoiceState::Held);
        let parts = self.open_parts(hash);
        if !waits || parts.is_empty() {
            return;
        }
        let complete = is_complete(&parts);
        let in_time = self.all_may_release(&parts);
        // In the quiet after a recovery a lock may be worth nothing, so nothing is released for it.
        let quiet = parts.iter().any(|(channel, lock, _)| {
            self.channels[channel].is_quiet() || !self.is_proven(*channel, *lock)
        });
        if quiet {
            if state != InvoiceState::Held || !in_time {
                self.give_up_parts(&parts, in_time);
            }
        } else if complete && in_time && !self.are_parts_guarded(&parts) {
            // Rule 9: the receipt, or the end of the time in which they may be released, stirs them again.
        } else if complete && in_time && !hold {
            self.release_parts(hash, &parts);
        } else if complete && in_time {
            if state == InvoiceState::Open {
                if let Some(invoice) = self.invoices.get_mut(&hash) {
                    invoice.state = InvoiceState::Held;
                }
                self.dirty.insert(Key::Invoice(hash));
                self.notices.push(Notice::InvoiceHeld { hash });
            }
        } else {
            self.give_up_parts(&parts, in_time);
        }
    }

    fn give_up_parts(&mut self, parts: &[(ChannelId, LockId, PeerLock)], in_time: bool) {
        for (channel, lock, peer) in parts {
            let waited = match peer.role {
                Role::Part { since, .. } => self.now > since + self.policy.part_wait,
                _ => false,
            };
            if waited || !in_time {
                self.fail_peer(*channel, *lock, reason::PARTS);
            }
        }
    }
}

/// Whether unanswered parts bring what each of them says that all bring.
pub(super) fn is_complete(parts: &[(ChannelId, LockId, PeerLock)]) -> bool {
    let sum = list_sum(parts.iter().map(|(_, _, peer)| &peer.lock));
    let enough =
        |peer: &PeerLock| matches!(peer.role, Role::Part { total, .. } if sum >= total.get());
    !parts.is_empty() && parts.iter().all(|(_, _, peer)| enough(peer))
}

impl Part {
    fn lock(&self, payment: &NewPayment) -> Lock {
        Lock {
            hash: payment.hash,
            amount: self.amount,
            expiry: payment.expiry,
        }
    }
}

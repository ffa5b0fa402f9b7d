//! Rule 9: above the policy's `tower_limit` nothing is built on a half before a tower has signed that it holds it.
//!
//! ```text
//! half accepted or echoed → the rim gives it to the towers → receipt → Input::Guarded → what waited goes on
//! ```
//! A node that goes offline for good is then paid what it was told it has, and pays nothing twice: its tower can bring every
//! half to L1 that a forward, a release, a failure or an answer to the user rests on. **One tower's receipt is enough**: any
//! tower alone can answer a dispute, and halves merge one by one, so the two versions may come from two towers. More towers
//! are for the death of one of them.
//!
//! | what waits | for which half | ends without a receipt |
//! |---|---|---|
//! | a lock of the peer to be forwarded | the peer's, with which it came | too near its expiry to be forwarded (rule 8): Fail |
//! | the release of a payment to us | the same, of each part | two margins before its expiry (rule 5): Fail |
//! | a lock of ours that was dropped, to be failed upstream | ours, without it | dead (rule 6) |
//! | money that the peer has paid | the peer's, that pays it | the close of the channel; a forward: also the final reveal (rule 4) |
//!
//! Each lock waits for itself: what is below the limit, and other locks and channels, go on. A payment to us in parts is
//! compared with the limit as a whole, because its parts are released together.

use super::channel::{Answer, Channel, Income, Purpose, Role};
use super::dispute::ChainPhase;
use super::effect::Notice;
use super::payment::{InvoiceState, is_complete, reason};
use super::rules::Rule;
use super::{Node, StepError};
use crate::message::{LockId, Update};
use crate::state::{Lock, list_sum};
use crate::types::{Amount, ChannelId, PaymentHash, Timestamp, Version};

pub use super::channel::{Guarded, OnHold, Waits};

/// What a tower's receipt is waited for with.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum TowerStep {
    /// Forwarding a lock of the peer.
    Forward,
    /// Releasing a payment to us.
    Release,
    /// Failing upstream: an own payment, or one that was forwarded, stays pending.
    Fail,
    /// Counting money as received.
    Income,
}

/// Something that waits for a tower's receipt.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TowerWait {
    /// What it is.
    pub step: TowerStep,
    /// Of which payment; none for one without a lock.
    pub hash: Option<PaymentHash>,
    /// How much.
    pub amount: u128,
    /// When it ends without a receipt: a lock is failed or dead then. None: at the close of the channel.
    pub until: Option<Timestamp>,
}

/// The parts of a payment to us.
type Parts = [(ChannelId, LockId, super::channel::PeerLock)];

impl Node {
    /// A tower has signed that it holds a snapshot.
    pub(super) fn guarded(
        &mut self,
        id: ChannelId,
        own: Version,
        held: Version,
    ) -> Result<(), StepError> {
        let channel = self
            .channels
            .get_mut(&id)
            .ok_or(StepError::UnknownChannel(id))?;
        let known = channel.guarded;
        channel.guarded = Guarded {
            own: known.own.max(own),
            held: known.held.max(held),
        };
        if channel.guarded != known {
            self.touched.insert(id);
            self.stir_channel(id);
        }
        Ok(())
    }

    // ---- Forwards ----

    /// Whether a tower holds the half with which a lock of the peer came, or none is needed for this amount.
    pub(super) fn is_lock_guarded(
        &self,
        step: Rule,
        id: ChannelId,
        lock: LockId,
        amount: u128,
    ) -> bool {
        self.channels.get(&id).is_some_and(|channel| {
            let needed = channel.came_with(lock);
            let guarded = channel.guarded.held;
            self.rules
                .may_build_on(step, amount, needed, guarded, &self.policy)
        })
    }

    /// Keeps what a lock of the peer needs to go on.
    pub(super) fn put_on_hold(&mut self, id: ChannelId, lock: LockId, on_hold: OnHold) {
        if let Ok(channel) = self.channel_mut(id) {
            channel.waits.forwards.insert(lock, on_hold);
        }
    }

    /// Forwards a lock that waited, with all checks anew, or fails it when its time has run out.
    pub(super) fn advance_on_hold(&mut self, id: ChannelId, lock: LockId) {
        let Some(channel) = self.channels.get(&id) else {
            return;
        };
        let Some(on_hold) = channel.waits.forwards.get(&lock).cloned() else {
            return;
        };
        let waits = |peer: &&super::channel::PeerLock| {
            peer.role == Role::Refused && peer.answer.is_none() && !peer.recovered
        };
        let peer = channel.held.locks.get(&lock).filter(waits).cloned();
        let Some(peer) = peer else {
            return self.take_off_hold(id, lock);
        };
        if channel.is_quiet() {
            // It may have gone on in what we have forgotten: only its death is certain.
            self.take_off_hold(id, lock);
            if let Some(peer) = self.peer_lock_mut(id, lock) {
                peer.recovered = true;
            }
            return;
        }
        let late = peer.lock.expiry < self.now + self.policy.min_expiry_ahead;
        let guarded = self.is_lock_guarded(Rule::GuardedForward, id, lock, peer.lock.amount.get());
        // An old view of L1 mends itself before the lock is late.
        let fresh = self.head_age() <= self.policy.max_head_age;
        let may_go_on = guarded && fresh;
        if !(late || may_go_on) {
            return;
        }
        let usable = channel.is_open() && !channel.closing && channel.fault.is_none();
        self.take_off_hold(id, lock);
        let decision = if late {
            Err(reason::EXPIRY)
        } else if !usable {
            Err(reason::NEXT_CHANNEL)
        } else if self.is_known(&peer.lock.hash) {
            Err(reason::KNOWN_HASH)
        } else {
            let out = Lock {
                hash: peer.lock.hash,
                amount: on_hold.amount,
                expiry: on_hold.expiry,
            };
            self.forward((id, lock), &peer.lock, on_hold.channel, out, on_hold.onion)
        };
        match decision {
            Ok(role) => {
                if let Some(peer) = self.peer_lock_mut(id, lock) {
                    peer.role = role;
                }
            }
            Err(code) => self.fail_peer(id, lock, code),
        }
    }

    fn take_off_hold(&mut self, id: ChannelId, lock: LockId) {
        if let Ok(channel) = self.channel_mut(id) {
            channel.waits.forwards.remove(&lock);
        }
    }

    // ---- Releases ----

    /// Whether a tower holds every part of a payment to us: a released preimage is what counts as received.
    pub(super) fn are_parts_guarded(&self, parts: &Parts) -> bool {
        let whole = list_sum(parts.iter().map(|(_, _, peer)| &peer.lock));
        parts.iter().all(|(channel, lock, _)| {
            self.is_lock_guarded(Rule::GuardedRelease, *channel, *lock, whole)
        })
    }

    /// The last time at which parts may be released.
    pub(super) fn last_release(&self, parts: &Parts) -> Timestamp {
        let first = parts.iter().map(|(_, _, peer)| peer.lock.expiry).min();
        first
            .unwrap_or(0)
            .saturating_sub(2 * self.policy.reveal_margin)
    }

    // ---- Failures ----

    /// Whether a tower holds our half without a lock: the next hop can no longer win it with an older one.
    pub(super) fn is_going_guarded(
        &self,
        channel: &Channel,
        lock: &Lock,
        removed: Version,
    ) -> bool {
        let guarded = channel.guarded.own;
        self.rules.may_build_on(
            Rule::GuardedFail,
            lock.amount.get(),
            removed,
            guarded,
            &self.policy,
        )
    }

    // ---- Money ----

    /// Counts what the newest half of the peer pays, or keeps it until a tower holds that half.
    pub(super) fn count_income(
        &mut self,
        id: ChannelId,
        amount: Amount,
        whole: u128,
        purpose: Purpose,
    ) {
        let Some(channel) = self.channels.get(&id) else {
            return;
        };
        let income = Income {
            version: channel.held.half.version,
            amount,
            whole,
            purpose,
        };
        if channel.closed || self.counts(channel, &income) {
            self.count(id, &income);
        } else if let Ok(channel) = self.channel_mut(id) {
            channel.waits.income.push(income);
        }
    }

    fn counts(&self, channel: &Channel, income: &Income) -> bool {
        self.rules.may_build_on(
            Rule::GuardedIncome,
            income.whole,
            income.version,
            channel.guarded.held,
            &self.policy,
        )
    }

    fn count(&mut self, id: ChannelId, income: &Income) {
        match income.purpose {
            Purpose::Direct(reference) => {
                // A lock that came and was paid while we held an older half: its money may be an invoice's.
                if !self.count_released(PaymentHash(reference.0), income.amount.get()) {
                    self.notices.push(Notice::DirectReceived {
                        channel: id,
                        amount: income.amount,
                        reference,
                    });
                }
            }
            Purpose::Invoice(hash) => self.count_received(hash, income.amount),
            Purpose::Forward { channel, lock } => self.paid_upstream(channel, lock),
        }
    }

    /// Counts what a tower holds by now; at the close of a channel what L1 has counted, and the rest no more.
    pub(super) fn tell_guarded(&mut self, id: ChannelId) {
        let Some(channel) = self.channels.get(&id) else {
            return;
        };
        if channel.waits.income.is_empty() || channel.is_quiet() {
            return;
        }
        let closed = channel.closed.then(|| channel.settled_version());
        let (over, waiting): (Vec<Income>, Vec<Income>) = channel
            .waits
            .income
            .iter()
            .partition(|income| closed.is_some() || self.counts(channel, income));
        if over.is_empty() {
            return;
        }
        if let Ok(channel) = self.channel_mut(id) {
            channel.waits.income = waiting;
        }
        for income in over {
            if closed.is_none_or(|version| version.is_none_or(|settled| settled >= income.version))
            {
                self.count(id, &income);
            }
        }
    }

    // ---- Showing ----

    /// Whether a tower should have the newest record of a channel at once: something waits for its receipt, or a preimage was
    /// released above the limit, which the tower needs if the payer does not pay.
    pub fn is_urgent_for_tower(&self, id: &ChannelId) -> bool {
        !self.waits_for_tower(id).is_empty() || self.released_above_limit(id).is_some()
    }

    /// The first expiry of locks above the limit whose preimages were released, and that the peer has not paid.
    pub fn released_above_limit(&self, id: &ChannelId) -> Option<Timestamp> {
        let locks = self.channels.get(id)?.held.locks.values();
        let released = locks.filter(|peer| {
            let hash = &peer.lock.hash;
            let whole = self.invoices.get(hash).map_or(0, |known| known.released);
            peer.answer == Some(Answer::Fulfil)
                && self.policy.is_guarded(whole.max(peer.lock.amount.get()))
        });
        released.map(|peer| peer.lock.expiry).min()
    }

    /// What waits for a tower's receipt on a channel.
    pub fn waits_for_tower(&self, id: &ChannelId) -> Vec<TowerWait> {
        let Some(channel) = self.channels.get(id).filter(|channel| !channel.closed) else {
            return Vec::new();
        };
        let mut waits = Vec::new();
        for lock in channel.waits.forwards.keys() {
            let peer = channel.held.locks.get(lock);
            waits.extend(peer.map(|peer| {
                TowerWait {
                    step: TowerStep::Forward,
                    hash: Some(peer.lock.hash),
                    amount: peer.lock.amount.get(),
                    until: Some(
                        peer.lock
                            .expiry
                            .saturating_sub(self.policy.min_expiry_ahead),
                    ),
                }
            }));
        }
        for own in channel
            .own
            .locks
            .values()
            .filter(|own| own.outcome.is_none())
        {
            let Some((removed, _)) = own.removed.filter(|(at, _)| *at <= channel.own.echoed) else {
                continue;
            };
            if !own.forgotten && !self.is_going_guarded(channel, &own.lock, removed) {
                waits.push(TowerWait {
                    step: TowerStep::Fail,
                    hash: Some(own.lock.hash),
                    amount: own.lock.amount.get(),
                    until: Some(own.lock.expiry),
                });
            }
        }
        for income in &channel.waits.income {
            let hash = match income.purpose {
                Purpose::Invoice(hash) => Some(hash),
                Purpose::Direct(_) | Purpose::Forward { .. } => None,
            };
            waits.push(TowerWait {
                step: TowerStep::Income,
                hash,
                amount: income.amount.get(),
                until: None,
            });
        }
        waits.extend(self.waiting_releases(id));
        waits
    }

    fn waiting_releases(&self, id: &ChannelId) -> Vec<TowerWait> {
        if self.policy.tower_limit.is_none() {
            return Vec::new();
        }
        let locks = self.channels.get(id).map(|channel| &channel.held.locks);
        let locks = locks.into_iter().flatten();
        let hashes: std::collections::BTreeSet<PaymentHash> = locks
            .filter(|(_, peer)| matches!(peer.role, Role::Part { .. }) && peer.answer.is_none())
            .map(|(_, peer)| peer.lock.hash)
            .collect();
        let open = |hash: &PaymentHash| {
            self.invoices.get(hash).is_some_and(|invoice| {
                matches!(invoice.state, InvoiceState::Open | InvoiceState::Held)
            })
        };
        hashes
            .into_iter()
            .filter(open)
            .map(|hash| (hash, self.open_parts(hash)))
            .filter(|(_, parts)| is_complete(parts) && !self.are_parts_guarded(parts))
            .map(|(hash, parts)| TowerWait {
                step: TowerStep::Release,
                hash: Some(hash),
                amount: list_sum(parts.iter().map(|(_, _, peer)| &peer.lock)),
                until: Some(self.last_release(&parts)),
            })
            .collect()
    }
}

impl Channel {
    /// The version of the peer's half with which a lock came. Of one that came without a limit it is not known: the newest
    /// half has it in any case.
    fn came_with(&self, lock: LockId) -> Version {
        let known = self.waits.came.get(&lock).copied();
        known.unwrap_or(self.held.half.version)
    }

    /// Notes with which version locks came, and forgets those that are gone.
    pub(super) fn note_arrivals(&mut self, update: &Update, limited: bool) {
        let Self { waits, held, .. } = self;
        waits.came.retain(|lock, _| held.locks.contains_key(lock));
        waits
            .forwards
            .retain(|lock, _| held.locks.contains_key(lock));
        if limited {
            let version = update.half.version;
            waits
                .came
                .extend(update.adds.iter().map(|add| (add.id, version)));
        }
    }

    /// The version of the peer's half that L1 has settled; none if it was closed by both, or is not closed.
    pub(super) fn settled_version(&self) -> Option<Version> {
        match self.at_final.as_ref().map(|chain| &chain.phase) {
            Some(ChainPhase::Settled {
                version_a,
                version_b,
            }) => Some(match self.side.other() {
                crate::types::Side::A => *version_a,
                crate::types::Side::B => *version_b,
            }),
            _ => None,
        }
    }
}

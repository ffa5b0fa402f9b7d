//! After a restore from an old database: the counterparty gives back what both have signed.
//!
//! ```text
//! from_backup, add_lost, or Reestablish: the peer holds what we do not know → nothing is signed (Fault::DataLost)
//! peer → Copy: the newest snapshot that it holds, both lists, both signatures
//! we   → our own signature proves it → adopt both halves, go on above the clock → the peer's newest Update follows
//! tower → our record of the channel: believed as a Copy is, but it mends nothing: only the peer knows what came after it
//! ```
//! Ours: our signature shows that we once made that half, so it cannot be invented. The peer may show an older one than the
//! newest that we signed; the clock and a jump make our next half win over any that it hides, and no half of its own is taken
//! that one which it hides may win over (`clock.rs`). What it cannot give back is a half of its
//! own that we had accepted and never echoed: an honest peer sends it again as its newest Update, a dishonest one is
//! answered by the tower.
//!
//! Links between hops are not in a snapshot. A lock of ours and a lock of another peer with the same hash are one forward.

use super::channel::{Answer, Channel, Fault, Origin, OwnLock, PeerLock, Purpose, Role};
use super::clock::{JUMP_SECS, first_version};
use super::dispute::ChainPhase;
use super::effect::{Key, Notice};
use super::locks::OwnLocks;
use super::payment::{Hop, Invoice, InvoiceState};
use super::rules::Rules;
use super::{LockRef, Node, StepError, Tools, insert_lock};
use crate::digest;
use crate::message::{AddLock, Copy, Direct, LockId, Message};
use crate::signing::Keys;
use crate::state::{Halves, Lock, Params, check_list, list_sum};
use crate::types::{
    Amount, ChannelId, Hash32, PaymentHash, Preimage, PublicKey, Side, Signature, Timestamp,
    Version,
};
use crate::watchtower::Watch;
use std::collections::BTreeMap;

/// How far our versions jump beyond the clock after a recovery: above any half that was signed and forgotten.
pub const VERSION_JUMP: Version = first_version(JUMP_SECS);

/// The key of a counterparty of which only the address is known: it is told when a peer with that address connects.
pub const UNKNOWN_PEER: PublicKey = PublicKey([0; 33]);

/// The quiet after a recovery lasts at least this long after an update was refused, seconds.
const QUIET_AFTER_REFUSAL: Timestamp = 60;

impl Node {
    /// Takes up a channel of which nothing is left but what L1 shows. As after [`Self::from_backup`], nothing is signed on it
    /// until the peer has said what it holds, and what the peer gives back counts only with our own signature on it.
    ///
    /// # Errors
    /// [`StepError::NotOurs`], [`StepError::Window`], [`StepError::KnownChannel`], [`StepError::Params`].
    pub fn add_lost(
        &mut self,
        params: Params,
        side: Side,
        peer: Option<PublicKey>,
        keys: &dyn Keys,
    ) -> Result<ChannelId, StepError> {
        let address = params.signer(side.other());
        let fits = |key: PublicKey| keys.address(&key) == Some(address);
        if !self.is_ours(&params, side) || !peer.is_none_or(fits) {
            return Err(StepError::NotOurs);
        }
        self.check_new(&params)?;
        let id = digest::channel_id(&self.separator, &params);
        let mut channel = Channel::new(id, params, side, peer.unwrap_or(UNKNOWN_PEER));
        channel.mark_as_old();
        self.channels.insert(id, channel);
        Ok(id)
    }

    /// A peer's key tells whose channels were taken up by its address alone.
    pub(super) fn recognise(&mut self, peer: PublicKey, keys: &dyn Keys) {
        let nameless = |channel: &&mut Channel| channel.peer == UNKNOWN_PEER;
        let address = keys.address(&peer);
        for channel in self.channels.values_mut().filter(nameless) {
            if address == Some(channel.params.signer(channel.side.other())) {
                channel.peer = peer;
                self.dirty.insert(Key::Channel(channel.id));
            }
        }
    }

    /// Gives a peer that has lost data what we hold of the channel.
    pub(super) fn give_copy(&mut self, id: ChannelId, keys: &dyn Keys) {
        let separator = self.separator;
        let copy = self
            .channels
            .get(&id)
            .and_then(|channel| channel.copy(&separator, keys));
        if let Some(copy) = copy {
            self.send(id, Message::Copy(Box::new(copy)));
        }
    }

    /// Takes over what our own signature proves.
    pub(super) fn receive_copy(&mut self, copy: &Copy, keys: &dyn Keys) -> Result<(), StepError> {
        let channel = &self.channels[&copy.channel];
        if !channel.may_talk() || channel.at_final.is_none() {
            return Err(StepError::Ignored(
                "a copy while L1 is unknown or the peer at fault",
            ));
        }
        self.check_copy(channel, copy, keys)
            .map_err(StepError::Ignored)?;
        let news = channel.news(copy).map_err(StepError::Ignored)?;
        let (now, quiet, rules) = (self.now, self.policy.quiet(), self.rules);
        let (lost_up_to, local) = (self.lost_up_to(), self.local);
        let id = copy.channel;
        self.notices.push(Notice::Recovered { channel: id });
        let channel = self.channel_mut(id)?;
        match news {
            News::Snapshot => channel.take_over(copy, &rules),
            News::OwnHalf => channel.take_over_own(copy),
            News::Nothing => {}
        }
        channel.mend(copy, now, quiet);
        channel.session.last_sent = local;
        channel.lost_up_to = channel.lost_up_to.max(lost_up_to);
        self.find_recovered_locks(id);
        Ok(())
    }

    /// Takes over what a tower gives back. It may be stale, or the tower may lie: only what both parties have signed is believed,
    /// and only what is newer than we know. Nothing is signed before the peer has spoken too: we may have signed more since.
    pub(super) fn receive_record(
        &mut self,
        watch: &Watch,
        keys: &dyn Keys,
    ) -> Result<(), StepError> {
        let id = digest::channel_id(&self.separator, &watch.params);
        let channel = self
            .channels
            .get(&id)
            .ok_or(StepError::UnknownChannel(id))?;
        if !channel.is_quiet() {
            return Err(StepError::Ignored("a tower's record outside a recovery"));
        }
        let (side, client) = (channel.side, self.identity.key);
        let copy = watch
            .as_copy(&self.separator, side, &client, keys)
            .ok_or(StepError::Ignored("a record that we gave no tower"))?;
        let peer = match side {
            Side::A => watch.key_b,
            Side::B => watch.key_a,
        };
        if channel.peer != UNKNOWN_PEER && channel.peer != peer {
            return Err(StepError::Ignored("a record with another peer"));
        }
        let newer = matches!(channel.news(&copy), Ok(News::Snapshot)) && channel.is_idle(&copy);
        let rules = self.rules;
        let channel = self.channel_mut(id)?;
        channel.peer = peer;
        if newer {
            channel.take_over(&copy, &rules);
            self.notices.push(Notice::Recovered { channel: id });
            self.find_recovered_locks(id);
        }
        if self.learn_released(id, &watch.preimages) || newer {
            return Ok(());
        }
        Err(StepError::Ignored(
            "a record that is not newer than what we hold",
        ))
    }

    /// Preimages that we had released for locks of the peer, and forgotten. Says whether there was one.
    fn learn_released(&mut self, id: ChannelId, preimages: &[Preimage]) -> bool {
        let mut learnt = false;
        for preimage in preimages {
            let hash = preimage.hash();
            let locks = self.channels.get(&id).map(|channel| &channel.held.locks);
            let mut locks = locks.into_iter().flat_map(BTreeMap::values);
            if !locks.any(|peer| peer.lock.hash == hash) {
                continue;
            }
            learnt |= self.preimage_of(&hash).is_none();
            self.learn_preimage(*preimage);
            self.mark_released(hash);
        }
        learnt
    }

    /// An invoice of ours of which the preimage is out was released: its locks are not the peer's to drop.
    fn mark_released(&mut self, hash: PaymentHash) {
        let found = self.locks_with(hash);
        let parts = found.iter().filter(|found| !found.own);
        let amounts = parts.filter_map(|found| self.peer_lock(found.channel, found.lock));
        let amounts = amounts.filter(|peer| matches!(peer.role, Role::Part { .. }));
        let standing = list_sum(amounts.map(|peer| &peer.lock));
        let released = |invoice: &&mut Invoice| invoice.state != InvoiceState::Cancelled;
        if let Some(invoice) = self.invoices.get_mut(&hash).filter(released) {
            invoice.state = InvoiceState::Released;
            // Parts over other channels may come back later; one that was counted before the loss is not counted twice.
            invoice.released = invoice.released.max(standing);
            self.dirty.insert(Key::Invoice(hash));
        }
    }

    /// Looks at all locks of a channel that was recovered.
    fn find_recovered_locks(&mut self, id: ChannelId) {
        let Some(channel) = self.channels.get(&id) else {
            return;
        };
        let own = channel.own.locks.iter();
        let held = channel.held.locks.iter();
        let hashes: Vec<(PaymentHash, bool, LockId)> = own
            .map(|(lock, own)| (own.lock.hash, true, *lock))
            .chain(held.map(|(lock, peer)| (peer.lock.hash, false, *lock)))
            .collect();
        for (hash, own, lock) in hashes {
            let locks = self.index.entry(hash).or_default();
            let found = LockRef {
                channel: id,
                own,
                lock,
            };
            insert_lock(locks, found);
            self.effects.watches.push(hash);
            self.relink(hash);
            self.stirred.insert(hash);
        }
    }

    fn check_copy(
        &self,
        channel: &Channel,
        copy: &Copy,
        keys: &dyn Keys,
    ) -> Result<(), &'static str> {
        let side = channel.side;
        let own = copy.halves.side(side);
        let peer = copy.halves.side(side.other());
        let lists = [(&copy.receiver_locks, own), (&copy.sender_locks, peer)];
        for (locks, half) in lists {
            let list: Vec<Lock> = locks.iter().map(|(_, lock)| *lock).collect();
            let in_order = locks.is_sorted_by(|a, b| a.0 < b.0);
            if !in_order || check_list(&list, half.locks, Timestamp::MAX).is_err() {
                return Err("a copy with other lists than were signed");
            }
        }
        let digest = digest::snapshot(&self.separator, &channel.id, &copy.halves);
        let signed = keys.verify(&self.identity.key, &digest, &copy.receiver_signature)
            && keys.verify(&channel.peer, &digest, &copy.sender_signature);
        signed
            .then_some(())
            .ok_or("a copy that one of us has not signed")
    }

    /// Finds what became of recovered locks: a forward has a lock on each side, a payment to us an invoice.
    fn relink(&mut self, hash: PaymentHash) {
        let found = self.locks_with(hash);
        for incoming in found.iter().filter(|found| !found.own) {
            let out = found.iter().find(|out| {
                out.own && out.channel != incoming.channel && self.is_unlinked(out, incoming, &hash)
            });
            let role = match out {
                Some(out) => Role::Forward {
                    channel: out.channel,
                    lock: out.lock,
                },
                None => match self.expected(&hash, incoming.channel) {
                    Some(total) => Role::Part {
                        since: self.now,
                        total,
                    },
                    None => continue,
                },
            };
            let unlinked = self
                .channels
                .get_mut(&incoming.channel)
                .and_then(|channel| channel.held.locks.get_mut(&incoming.lock))
                .filter(|peer| peer.role == Role::Refused && peer.answer.is_none());
            let Some(peer) = unlinked else { continue };
            peer.role = role;
            self.dirty.insert(Key::Channel(incoming.channel));
            let own = out.and_then(|out| {
                let channel = self.channel_mut(out.channel).ok()?;
                channel.own.locks.note(out.lock)
            });
            if let Some(own) = own {
                own.origin = Origin::Forward {
                    channel: incoming.channel,
                    lock: incoming.lock,
                };
            }
        }
    }

    /// A lock of ours that no payment of ours explains, and that the incoming one can pay for.
    fn is_unlinked(&self, out: &LockRef, incoming: &LockRef, hash: &PaymentHash) -> bool {
        let own = self
            .channels
            .get(&out.channel)
            .and_then(|channel| channel.own.locks.get(&out.lock));
        let peer = self
            .channels
            .get(&incoming.channel)
            .and_then(|channel| channel.held.locks.get(&incoming.lock));
        let (Some(own), Some(peer)) = (own, peer) else {
            return false;
        };
        own.origin == Origin::Payment(*hash)
            && !self.payments.contains_key(hash)
            && self.rules.may_forward(&peer.lock, &own.lock, &self.policy)
    }

    /// A lock that came in the quiet after a recovery. We may have had it before, and forwarded it: it is not forwarded
    /// again, and not failed while a lock of ours that a peer hides may still be won with its hash.
    pub(super) fn receive_recovered(&mut self, id: ChannelId, add: &AddLock, tools: Tools<'_>) {
        let hash = add.lock.hash;
        let opened = tools.onions.open(&add.onion, &hash);
        let (hop, failure_key) = opened.map_or((None, None), |(hop, key)| (Some(hop), key));
        let asked = match hop {
            Some(Hop::Deliver { secret, total }) => Some((secret, total)),
            Some(Hop::Keysend { total, .. }) => Some((Hash32(hash.0), total)),
            Some(Hop::Forward { .. }) | None => None,
        };
        let part = asked.and_then(|(secret, total)| {
            let known = self.invoices.get(&hash)?;
            let fits = known.secret == secret && Some(known.token) == self.token_of(id);
            fits.then_some(Role::Part {
                since: self.now,
                total,
            })
        });
        let marked = self.rules.marks_recovered();
        let peer = self
            .channel_mut(id)
            .ok()
            .and_then(|channel| channel.held.locks.get_mut(&add.id));
        let Some(peer) = peer else { return };
        peer.recovered = marked;
        peer.failure_key = failure_key;
        if let Some(role) = part {
            peer.role = role;
        }
        self.relink(hash);
        self.stirred.insert(hash);
    }

    /// Whether the half that is settled in the end is sure to have a lock of the peer that we hold: not so for one from before
    /// a loss of data while the peer may hide a newer half without it.
    pub(super) fn is_proven(&self, id: ChannelId, lock: LockId) -> bool {
        let Some(channel) = self.channels.get(&id) else {
            return false;
        };
        let recovered = |peer: &PeerLock| peer.recovered;
        let settled =
            channel.closed && channel.settled_version() == Some(channel.held.half.version);
        !channel.held.locks.get(&lock).is_some_and(recovered)
            || channel.is_proven(&self.rules)
            || settled
    }

    /// Whether a lock pays an invoice of ours whose preimage is not out: nothing can have come of it.
    pub(super) fn is_unreleased(&self, peer: &PeerLock) -> bool {
        let part = matches!(peer.role, Role::Part { .. });
        let released = |invoice: &super::payment::Invoice| invoice.state == InvoiceState::Released;
        part && self
            .invoices
            .get(&peer.lock.hash)
            .is_some_and(|invoice| !released(invoice))
    }

    /// Tells of direct payments, or keeps them for the end of the quiet: the peer may have spent them in a payout that we
    /// have forgotten.
    pub(super) fn tell_directs(&mut self, id: ChannelId, directs: Vec<Direct>) {
        let Some(channel) = self.channels.get_mut(&id) else {
            return;
        };
        if channel.is_quiet() {
            channel.held.untold.extend(directs);
            return;
        }
        for direct in directs {
            let whole = direct.amount.get();
            self.count_income(id, direct.amount, whole, Purpose::Direct(direct.reference));
        }
    }

    /// A channel that closes in the quiet: what its last halves paid has been paid.
    pub(super) fn tell_at_close(&mut self, id: ChannelId) {
        let quiet = |channel: &&mut Channel| channel.quiet_until.is_some();
        let Some(channel) = self.channels.get_mut(&id).filter(quiet) else {
            return;
        };
        let side = channel.side.other();
        let counts = match channel.at_final.as_ref().map(|chain| &chain.phase) {
            Some(ChainPhase::Settled {
                version_a,
                version_b,
            }) => {
                let settled = match side {
                    Side::A => *version_a,
                    Side::B => *version_b,
                };
                settled >= channel.held.half.version
            }
            _ => false,
        };
        channel.quiet_until = None;
        let untold = std::mem::take(&mut channel.held.untold);
        if counts {
            self.tell_directs(id, untold);
        }
        self.dirty.insert(Key::Channel(id));
    }

    /// What the peer sends again is not accepted yet: the quiet lasts until it is.
    pub(super) fn stay_quiet(&mut self, id: ChannelId) {
        let until = self.now + QUIET_AFTER_REFUSAL;
        if let Some(channel) = self
            .channels
            .get_mut(&id)
            .filter(|channel| channel.is_quiet())
        {
            channel.quiet_until = channel.quiet_until.max(Some(until));
            self.dirty.insert(Key::Channel(id));
        }
    }

    /// Ends the quiet of channels on which nothing that we forgot can execute any more. Whoever has spent a payout twice
    /// owes more than it has, and is believed nothing.
    pub(super) fn end_quiet(&mut self) {
        let (rules, last) = (self.rules, self.final_time);
        let over: Vec<ChannelId> = self
            .channels
            .values()
            .filter(|channel| channel.quiet_until.is_some_and(|until| last > until))
            // The quiet of an earlier recovery does not end before the next one has begun.
            .filter(|channel| !channel.has_lost_data())
            .filter(|channel| channel.held_balance(&rules) >= 0)
            .map(|channel| channel.id)
            .collect();
        for id in over {
            let Ok(channel) = self.channel_mut(id) else {
                continue;
            };
            channel.quiet_until = None;
            let untold = std::mem::take(&mut channel.held.untold);
            self.tell_directs(id, untold);
            self.tell_guarded(id);
            self.stir_channel(id);
        }
    }

    /// What an invoice of ours waits for.
    fn expected(&self, hash: &PaymentHash, over: ChannelId) -> Option<Amount> {
        self.invoices
            .get(hash)
            .filter(|invoice| invoice.state != InvoiceState::Cancelled)
            .filter(|invoice| Some(invoice.token) == self.token_of(over))
            .map(|invoice| invoice.amount.unwrap_or(Amount::ZERO))
    }
}

/// What a snapshot that both have signed says beyond what we know.
enum News {
    /// It is newer in a half, and older in none.
    Snapshot,
    /// It is newer in our half, and older in the peer's: a tower has given back one that the peer had no echo of.
    OwnHalf,
    /// Nothing; it is the peer's word that there is nothing else.
    Nothing,
}

impl Channel {
    /// We may have signed more than we know.
    pub(super) fn mark_as_old(&mut self) {
        self.own.skip = VERSION_JUMP;
        for peer in self.held.locks.values_mut() {
            peer.recovered = true;
        }
        // Whether they went on is forgotten.
        self.waits.forwards.clear();
        self.fault.get_or_insert(Fault::DataLost(self.own.version));
    }

    /// Nothing new is made in the quiet after a recovery.
    ///
    /// # Errors
    /// [`StepError::Recovering`]; [`StepError::NotOpen`] before the recovery.
    pub(super) fn check_quiet(&self) -> Result<(), StepError> {
        if self.has_lost_data() {
            return Err(StepError::NotOpen(self.id));
        }
        self.quiet_until.map_or(Ok(()), |until| {
            Err(StepError::Recovering {
                channel: self.id,
                until,
            })
        })
    }

    /// The newest snapshot that the peer signed, signed by us as well.
    pub(super) fn copy(&self, separator: &crate::types::Hash32, keys: &dyn Keys) -> Option<Copy> {
        let receiver_signature: Signature = self.held.signature?;
        let halves: Halves = self.best();
        let own = self.own.locks.iter();
        Some(Copy {
            channel: self.id,
            halves,
            sender_locks: own
                .filter(|(_, own)| own.is_in(self.own.echoed))
                .map(|(id, own)| (*id, own.lock))
                .collect(),
            receiver_locks: self
                .held
                .locks
                .iter()
                .map(|(id, peer)| (*id, peer.lock))
                .collect(),
            last_lock: self.held.last_lock,
            sender_signature: keys.sign(&digest::snapshot(separator, &self.id, &halves)),
            receiver_signature,
        })
    }

    /// Our signature on something newer than what we know proves that we have lost it; nothing else does. Once we know of a loss,
    /// what the peer gives back may be older in part than what a tower gave.
    fn news(&self, copy: &Copy) -> Result<News, &'static str> {
        let own = copy.halves.side(self.side);
        let peer = copy.halves.side(self.side.other()).version;
        let held = self.held.half.version;
        let newer = own.version > self.own.version;
        let known = newer || self.own.half(own.version) == Some(own);
        if known && peer >= held && (newer || peer > held) {
            return Ok(News::Snapshot);
        }
        if !self.has_lost_data() || peer > held {
            return Err("a copy that is not newer than what we hold");
        }
        match (newer, known || own.version < self.own.echoed) {
            (true, _) => Ok(News::OwnHalf),
            (false, true) => Ok(News::Nothing),
            (false, false) => Err("a copy with another half of ours than we know"),
        }
    }

    /// Once the peer has spoken, changes of ours may be under way: they rest on the half that we know.
    fn is_idle(&self, copy: &Copy) -> bool {
        let own = copy.halves.side(self.side);
        own.version <= self.own.version || !self.unsigned
    }

    /// The peer has said what it holds: the channel goes on, quietly.
    fn mend(&mut self, copy: &Copy, now: Timestamp, quiet: Timestamp) {
        let version = copy.halves.side(self.side).version.max(self.own.echoed);
        self.fault = None;
        self.quiet_until = Some(now + quiet);
        self.own.skip = VERSION_JUMP;
        self.unsigned = false;
        self.begun = None;
        self.session.established = true;
        self.session.peer_holds = version;
        self.session.sent = version;
    }

    /// A half of ours that we have forgotten is our newest from now on.
    fn take_over_own(&mut self, copy: &Copy) {
        let half = *copy.halves.side(self.side);
        let version = half.version;
        if version > self.own.version {
            self.own.version = version;
            self.own.halves = self.own.halves.split_off(&self.own.echoed);
            self.own.halves.insert(version, half);
            self.own.paid = half.paid;
            self.own.directs.clear();
            self.adopt_own_locks(&copy.receiver_locks, version);
            self.unsigned = false;
            self.begun = None;
        }
        self.own.skip = VERSION_JUMP;
        self.own.next_lock = self.own.next_lock.max(copy.last_lock.saturating_add(1));
    }

    /// What both have signed is what we know from now on.
    fn take_over(&mut self, copy: &Copy, rules: &Rules) {
        self.take_over_own(copy);
        let version = copy.halves.side(self.side).version;
        self.own.echoed = version;
        self.forget_echoed();
        self.held.half = *copy.halves.side(self.side.other());
        // It was good with the half that we held before.
        self.spare = None;
        self.held.signature = Some(copy.sender_signature);
        self.adopt_peer_locks(&copy.sender_locks, rules.marks_recovered());
        self.session.peer_holds = self.session.peer_holds.max(version);
        self.session.sent = self.session.sent.max(version);
    }

    fn adopt_own_locks(&mut self, listed: &[(LockId, Lock)], version: Version) {
        let mut old = BTreeMap::from(std::mem::take(&mut self.own.locks));
        let mut all = BTreeMap::new();
        for (id, lock) in listed {
            // After an earlier loss a number may name another lock.
            let same = old.remove(id).filter(|own| own.lock == *lock);
            let mut own = same.unwrap_or_else(|| OwnLock {
                lock: *lock,
                onion: Vec::new(),
                origin: Origin::Payment(lock.hash),
                added: version,
                removed: None,
                fail: None,
                paid_upstream: false,
                outcome: None,
                forgotten: false,
            });
            own.added = own.added.min(version);
            own.removed = None;
            all.insert(*id, own);
        }
        // Both have signed that the rest is gone, paid or not: the registry will tell, or the preimage.
        for (id, mut own) in old {
            let gone = own.removed.filter(|(removed, _)| *removed <= version);
            own.forgotten |= gone.is_none() && own.outcome.is_none();
            own.removed = gone.or(Some((version, super::channel::Removal::Dropped)));
            own.added = own.added.min(version);
            all.insert(id, own);
        }
        self.own.locks = OwnLocks::from(all);
    }

    fn adopt_peer_locks(&mut self, listed: &[(LockId, Lock)], marked: bool) {
        let mut old = std::mem::take(&mut self.held.locks);
        self.waits.forwards.clear();
        self.waits.came.clear();
        for (id, lock) in listed {
            let same = old.remove(id).filter(|peer| peer.lock == *lock);
            let mut peer = same.unwrap_or(PeerLock {
                lock: *lock,
                role: Role::Refused,
                answer: None::<Answer>,
                counted: false,
                recovered: true,
                failure_key: None,
            });
            peer.recovered = marked;
            self.held.locks.insert(*id, peer);
            self.held.last_lock = self.held.last_lock.max(*id);
        }
    }
}

//! Halves: signing ours, accepting the counterparty's.
//!
//! ```text
//! changes of a step → sign: version + 1, one Update, however many payments
//! Update of the peer → check (rule 2, rule 8): all of it or nothing → accept, then look at its locks → Ack
//! ```
//! An update is a difference to the version that the receiver holds, and is refused, `later`, if it starts elsewhere: the
//! refusal says what is held, and the sender sends one difference from there.

use super::channel::{Channel, Fault, OwnLock, PeerLock, Removal, Role, Spare, signed};
use super::effect::{Key, Notice};
use super::{Node, StepError, Tools};
use crate::digest;
use crate::message::{
    AddLock, Direct, LockId, MAX_DIRECTS, MAX_ONION_BYTES, Message, Refusal, RefuseClass, SignAck,
    Update,
};
use crate::signing::Keys;
use crate::state::{Half, Halves, Lock, MAX_LOCKS, check_list, list_sum};
use crate::types::{Amount, ChannelId, Hash32, PAID_LIMIT, PaymentHash, Signature, Version};
use std::collections::BTreeMap;

/// Most direct payments without a signed echo: with what else one update may carry they stay below [`MAX_DIRECTS`].
const MAX_UNECHOED_DIRECTS: usize = MAX_DIRECTS / 2;

/// Locks that have gone without a signed echo are in every record of the channel: above this many one is asked for.
const MAX_GONE: usize = MAX_LOCKS / 2;

/// A checked update, not yet accepted.
struct Accepted {
    locks: BTreeMap<LockId, PeerLock>,
    settled: Vec<(LockId, PeerLock)>,
    dropped: Vec<(LockId, PeerLock)>,
}

impl Accepted {
    fn spare(&self, update: &Update) -> Spare {
        Spare {
            half: update.half,
            list: self.locks.values().map(|peer| peer.lock).collect(),
            echo: update.echo,
            signature: update.signature,
        }
    }
}

impl Channel {
    /// Whether our half may change: rule 8 for the sender, and room for the peer to catch up.
    pub(super) fn may_change(&self, max_unechoed: u64) -> bool {
        self.fault.is_none()
            && !self.closing
            && self.is_open()
            && !self.payout_empties()
            && (self.own.halves.len() as u64) <= max_unechoed
    }

    /// Whether it is used, and with a peer that is there. A connection mends nothing of a channel that is given up.
    ///
    /// # Errors
    /// [`StepError::NotOpen`], [`StepError::Offline`].
    pub(super) fn check_in_use(&self) -> Result<(), StepError> {
        if self.fault.is_some() || self.closing || self.closed {
            return Err(StepError::NotOpen(self.id));
        }
        if !self.session.established {
            return Err(StepError::Offline(self.id));
        }
        Ok(())
    }

    /// Whether we wait for a signed echo: because of rule 3, or of what is kept until one comes.
    fn wants_echo(&self, every: u64) -> bool {
        let echoed = self.own.echoed;
        let waiting = self.own.locks.values().any(|own| {
            let dropped = matches!(own.removed, Some((at, Removal::Dropped)) if at > echoed);
            dropped && own.outcome.is_none()
        });
        let gone = self.own.locks.len() - self.own.locks.standing();
        waiting || gone > MAX_GONE || self.own.halves.len() as u64 > every
    }

    /// Makes the changes of this step a signed version.
    fn seal(&mut self) {
        let half = Half {
            version: self.next_version(),
            paid: self.own.paid,
            locks: self.standing_root(),
        };
        self.begun = None;
        self.own.version = half.version;
        self.own.skip = 0;
        self.own.halves.insert(half.version, half);
        self.unsigned = false;
        self.forget_onions(self.own.echoed);
    }

    /// An update of whatever stands, checked by nobody.
    #[cfg(feature = "sabotage")]
    pub(super) fn forged_update(&mut self, separator: &Hash32, keys: &dyn Keys) -> Message {
        self.seal();
        let base = self.session.peer_holds.min(self.own.version);
        Message::Update(Box::new(self.update_from(base, separator, 1, keys)))
    }

    /// The newest half as a difference to one that the peer holds.
    fn update_from(
        &self,
        base: Version,
        separator: &Hash32,
        every: u64,
        keys: &dyn Keys,
    ) -> Update {
        let newest = self.own.version;
        let mut update = Update {
            channel: self.id,
            base,
            half: *self.own.newest(),
            echo: self.echo().version,
            adds: Vec::new(),
            settles: Vec::new(),
            drops: Vec::new(),
            directs: self
                .own
                .directs
                .iter()
                .filter(|own| own.version > base)
                .map(|own| own.direct)
                .collect(),
            want_ack: self.wants_echo(every),
            signature: Signature([0; 65]),
        };
        for (&id, own) in self.own.locks.iter() {
            own.tell(id, base, newest, &mut update);
        }
        let halves = Halves::of(self.side, update.half, self.echo());
        update.signature = keys.sign(&digest::snapshot(separator, &self.id, &halves));
        update
    }
}

impl OwnLock {
    /// What happened to a lock between two versions.
    fn tell(&self, id: LockId, base: Version, newest: Version, update: &mut Update) {
        match (self.is_in(base), self.is_in(newest), self.removed) {
            (false, true, _) => update.adds.push(AddLock {
                id,
                lock: self.lock,
                onion: self.onion.clone(),
            }),
            (true, false, Some((_, Removal::Settled))) => update.settles.push(id),
            (true, false, Some((_, Removal::Dropped))) => update.drops.push(id),
            // Came and was paid since the base: for the receiver a payment under the lock's hash.
            (false, false, Some((removed, Removal::Settled))) if removed > base => {
                update.directs.push(Direct {
                    amount: self.lock.amount,
                    reference: Hash32(self.lock.hash.0),
                });
            }
            _ => {}
        }
    }
}

impl Node {
    /// Signs and says what a channel has to say after a step: a new half, an old one again, an echo, or an acknowledgement.
    pub(super) fn speak(&mut self, id: ChannelId, keys: &dyn Keys) {
        let every = self.policy.ack_every;
        let separator = self.separator;
        let clock = self.numbering_clock();
        let Some(channel) = self.channels.get_mut(&id) else {
            return;
        };
        channel.clock = clock;
        let ack = self.acks.remove(&id);
        let mut resend = self.resend.remove(&id);
        let base = if channel.unsigned {
            channel.seal();
            self.dirty.insert(Key::Channel(id));
            Some(channel.session.sent)
        } else {
            None
        };
        let session = &mut channel.session;
        if !session.established {
            return;
        }
        let mut owes_echo = std::mem::take(&mut session.owes_echo);
        if owes_echo && session.peer_holds < channel.own.version {
            // The echo goes with the half that the peer may lack; at most once a second, or two sides that both want an
            // echo would answer each other for ever.
            let paced = self.local != session.last_sent;
            session.owes_echo = !paced;
            owes_echo = false;
            resend |= paced;
        }
        if channel.fault.is_some() || channel.closed {
            return;
        }
        if base.is_some() || resend {
            let base = match base {
                Some(sent) if !resend && sent >= channel.session.peer_holds => sent,
                _ => channel.session.peer_holds,
            };
            let update = channel.update_from(base, &separator, every, keys);
            channel.session.sent = channel.own.version;
            channel.session.last_sent = self.local;
            self.send(id, Message::Update(Box::new(update)));
            return;
        }
        if owes_echo {
            let echo = channel.echo();
            let halves = Halves::of(channel.side, *channel.own.newest(), echo);
            let message = Message::SignAck(SignAck {
                channel: id,
                version: channel.own.version,
                echo: echo.version,
                signature: keys.sign(&digest::snapshot(&separator, &id, &halves)),
            });
            self.send(id, message);
        } else if ack {
            let version = channel.held.half.version;
            self.send(
                id,
                Message::Ack {
                    channel: id,
                    version,
                },
            );
        }
    }

    pub(super) fn pay_direct(&mut self, id: ChannelId, direct: Direct) -> Result<(), StepError> {
        let rules = self.rules;
        let fresh = self.head_age() <= self.policy.max_head_age;
        let channel = self
            .channels
            .get(&id)
            .ok_or(StepError::UnknownChannel(id))?;
        if direct.amount == Amount::ZERO {
            return Err(StepError::Zero);
        }
        channel.check_in_use()?;
        if !fresh || !self.may_change(channel) {
            return Err(StepError::NotOpen(id));
        }
        channel.check_quiet()?;
        if channel.own.directs.len() >= MAX_UNECHOED_DIRECTS {
            return Err(StepError::Slots);
        }
        let amount = direct.amount.get();
        if !rules.may_send(channel.balance(&rules) - signed(amount)) {
            return Err(StepError::Balance {
                wanted: amount,
                available: channel.spendable(&rules).get(),
            });
        }
        if channel.own.paid + channel.own.locked() + amount >= PAID_LIMIT {
            return Err(StepError::Turnover);
        }
        self.channel_mut(id)?.add_direct(direct);
        Ok(())
    }

    /// A half of the peer: accepted whole or refused whole.
    pub(super) fn receive_update(
        &mut self,
        update: Update,
        tools: Tools<'_>,
    ) -> Result<(), StepError> {
        let id = update.channel;
        let channel = &self.channels[&id];
        let held = channel.held.half;
        if update.half.version < held.version {
            self.acks.insert(id);
            return Ok(());
        }
        if update.half.version == held.version {
            return self.receive_again(update, tools.keys);
        }
        let mut spare = None;
        let checked = self.check_update(channel, &update, tools.keys);
        let checked = checked.and_then(|accepted| {
            let outbid = self.check_outbid(channel, update.half.version);
            spare = outbid.is_err().then(|| accepted.spare(&update));
            outbid.map(|()| accepted)
        });
        if let Some(spare) = spare {
            self.keep_spare(id, spare);
        }
        if checked.is_err() {
            self.stay_quiet(id);
        }
        match checked {
            Ok(accepted) => {
                self.accept(update, accepted, tools);
                Ok(())
            }
            Err(refusal) => {
                self.refuse(id, update.half.version, refusal);
                Ok(())
            }
        }
    }

    /// The newest half once more: with a newer echo, or as two halves of one version.
    fn receive_again(&mut self, update: Update, keys: &dyn Keys) -> Result<(), StepError> {
        let id = update.channel;
        let channel = &self.channels[&id];
        let held = channel.held.half;
        if update.half != held {
            let signed_by_peer = channel.own.half(update.echo).is_some_and(|own| {
                let halves = Halves::of(channel.side, *own, update.half);
                let digest = digest::snapshot(&self.separator, &id, &halves);
                keys.verify(&channel.peer, &digest, &update.signature)
            });
            if signed_by_peer {
                self.find_fault(id, Fault::Equivocation(held.version), true);
            }
            return Err(StepError::Ignored("another half with the version held"));
        }
        if let Some(channel) = self.channels.get_mut(&id) {
            channel.session.owes_echo |= update.want_ack;
        }
        self.acks.insert(id);
        self.receive_sign_ack(
            SignAck {
                channel: id,
                version: update.half.version,
                echo: update.echo,
                signature: update.signature,
            },
            keys,
        )
    }

    /// A signed echo of ours, with the half that we hold.
    pub(super) fn receive_sign_ack(
        &mut self,
        ack: SignAck,
        keys: &dyn Keys,
    ) -> Result<(), StepError> {
        let channel = &self.channels[&ack.channel];
        if ack.version != channel.held.half.version {
            return Err(StepError::Ignored("an echo with a half that is not held"));
        }
        if ack.echo <= channel.own.echoed {
            return Ok(());
        }
        let Some(own) = channel.own.half(ack.echo) else {
            return Err(StepError::Ignored("an echo of a half that was never sent"));
        };
        let halves = Halves::of(channel.side, *own, channel.held.half);
        let digest = digest::snapshot(&self.separator, &ack.channel, &halves);
        if !keys.verify(&channel.peer, &digest, &ack.signature) {
            return Err(StepError::Ignored("an echo with a bad signature"));
        }
        self.echo_accepted(ack.channel, ack.echo, ack.signature);
        Ok(())
    }

    fn echo_accepted(&mut self, id: ChannelId, echo: Version, signature: Signature) {
        let max = self.policy.max_unechoed;
        let Ok(channel) = self.channel_mut(id) else {
            return;
        };
        let was_full = channel.own.halves.len() as u64 > max;
        channel.own.echoed = echo;
        channel.held.signature = Some(signature);
        channel.session.peer_holds = channel.session.peer_holds.max(echo);
        if was_full {
            // Nothing of the channel could move, whatever it was.
            self.stir_channel(id);
        } else {
            // An echo matters to what has gone from our half: it has failed for certain, or is forgotten.
            let gone = channel.own.locks.values();
            let gone = gone.filter(|own| own.removed.is_some());
            let hashes: Vec<PaymentHash> = gone.map(|own| own.lock.hash).collect();
            self.stirred.extend(hashes);
        }
        if let Some(channel) = self.channels.get_mut(&id) {
            channel.forget_echoed();
        }
    }

    /// Rule 2 and rule 8, in the order of the refusals.
    fn check_update(
        &self,
        channel: &Channel,
        update: &Update,
        keys: &dyn Keys,
    ) -> Result<Accepted, Refusal> {
        let held = &channel.held;
        if channel.fault.is_some() {
            return Err(Refusal::NotOpen);
        }
        if update.base != held.half.version {
            return Err(Refusal::Base {
                base: update.base,
                held: held.half.version,
            });
        }
        self.check_ahead(update.half.version)?;
        let own = self.check_echo(channel, update.echo)?;
        let halves = Halves::of(channel.side, *own, update.half);
        let digest = digest::snapshot(&self.separator, &channel.id, &halves);
        if !keys.verify(&channel.peer, &digest, &update.signature) {
            return Err(Refusal::Signature);
        }
        let takes = !update.adds.is_empty() || update.half.paid > held.half.paid;
        let open = channel.is_open() && !channel.closing;
        if takes && !self.rules.may_take(open, self.head_age(), &self.policy) {
            return Err(Refusal::NotOpen);
        }
        if let Some(payout) = channel.payout.filter(|_| channel.payout_empties()) {
            return Err(Refusal::Cooperating {
                until: payout.coop.valid_until,
            });
        }
        if channel.at_final.is_none() {
            // After a restart L1 has not spoken yet: what the peer has is unknown, not nothing.
            return Err(Refusal::NotFinal);
        }
        let accepted = self.check_difference(channel, update)?;
        self.check_peer_balance(channel, update, &accepted, own)?;
        Ok(accepted)
    }

    /// The echo is a half that we sent, not older than the last one echoed.
    fn check_echo<'a>(&self, channel: &'a Channel, echo: Version) -> Result<&'a Half, Refusal> {
        let unknown = Refusal::Echo {
            echo,
            oldest: channel.own.echoed,
            newest: channel.own.version,
        };
        // Halves before the echoed one are forgotten, so an echo cannot go back.
        channel.own.half(echo).ok_or(unknown)
    }

    /// The difference leads from the half that we hold to the one that is signed.
    fn check_difference(&self, channel: &Channel, update: &Update) -> Result<Accepted, Refusal> {
        if update.directs.len() > MAX_DIRECTS {
            return Err(Refusal::Size);
        }
        let mut accepted = Accepted {
            locks: channel.held.locks.clone(),
            settled: Vec::new(),
            dropped: Vec::new(),
        };
        for &id in &update.settles {
            let peer = accepted.locks.remove(&id).ok_or(Refusal::LockId(id))?;
            accepted.settled.push((id, peer));
        }
        for &id in &update.drops {
            let peer = accepted.locks.remove(&id).ok_or(Refusal::LockId(id))?;
            self.check_drop(id, &peer)?;
            accepted.dropped.push((id, peer));
        }
        self.check_adds(channel, update, &mut accepted)?;
        check_paid(channel, update, &accepted)?;
        let list: Vec<Lock> = accepted.locks.values().map(|peer| peer.lock).collect();
        let latest = self.now + self.policy.max_expiry_ahead + self.policy.clock_tolerance;
        // Locks of the base were checked when they came: only time has passed since.
        check_list(&list, update.half.locks, latest)?;
        Ok(accepted)
    }

    fn check_adds(
        &self,
        channel: &Channel,
        update: &Update,
        accepted: &mut Accepted,
    ) -> Result<(), Refusal> {
        let mut last = channel.held.last_lock;
        for add in &update.adds {
            if add.id <= last {
                return Err(Refusal::LockId(add.id));
            }
            if add.onion.len() > MAX_ONION_BYTES {
                return Err(Refusal::Size);
            }
            if add.lock.amount == Amount::ZERO {
                return Err(Refusal::List);
            }
            last = add.id;
            accepted.locks.insert(
                add.id,
                PeerLock {
                    lock: add.lock,
                    role: Role::Refused,
                    answer: None,
                    counted: false,
                    recovered: false,
                    failure_key: None,
                },
            );
        }
        Ok(())
    }

    /// Rule 2: an unpaid lock goes only if it is dead or we failed it. If our final view may be behind, we wait.
    fn check_drop(&self, id: LockId, peer: &PeerLock) -> Result<(), Refusal> {
        let failed = matches!(peer.answer, Some(super::channel::Answer::Fail(_)));
        if self.rules.peer_may_drop(self.is_dead(&peer.lock), failed) || self.is_unreleased(peer) {
            return Ok(());
        }
        let reveal = self.reveal_of(&peer.lock.hash);
        if peer.recovered {
            // We may have failed it and forgotten, whatever we have said since; its death decides.
            return Err(Refusal::NotFinal);
        }
        if self.now > peer.lock.expiry && !reveal.counts_finally(peer.lock.expiry) {
            return Err(Refusal::NotFinal);
        }
        Err(Refusal::Drop(id))
    }

    /// Rule 2: what goes out is covered, with the half of ours that the peer has seen.
    fn check_peer_balance(
        &self,
        channel: &Channel,
        update: &Update,
        accepted: &Accepted,
        own: &Half,
    ) -> Result<(), Refusal> {
        let locked = list_sum(accepted.locks.values().map(|peer| &peer.lock));
        let balance = channel.peer_balance(update.half.paid, locked, own, &self.rules);
        if self.rules.peer_balance_holds(balance) {
            return Ok(());
        }
        let side = channel.side.other();
        let payout = channel.payout.map_or(0, |payout| payout.coop.pay(side));
        if let Some(payout) = channel.payout.filter(|_| balance + signed(payout) >= 0) {
            return Err(Refusal::Cooperating {
                until: payout.coop.valid_until,
            });
        }
        let net = |view: &Option<super::dispute::OnChain>| {
            view.as_ref().map_or(0, |chain| chain.net(side))
        };
        let coming = net(&channel.at_head) - net(&channel.at_final);
        if balance + coming.max(0) + signed(payout) >= 0 {
            return Err(Refusal::NotFinal);
        }
        Err(Refusal::Balance {
            short: balance.unsigned_abs(),
        })
    }

    fn accept(&mut self, update: Update, accepted: Accepted, tools: Tools<'_>) {
        let id = update.channel;
        let limited = self.policy.tower_limit.is_some();
        let Ok(channel) = self.channel_mut(id) else {
            return;
        };
        channel.spare = None;
        channel.held.half = update.half;
        channel.held.locks = accepted.locks;
        if let Some(last) = update.adds.last() {
            channel.held.last_lock = last.id;
        }
        channel.note_arrivals(&update, limited);
        channel.session.owes_echo |= update.want_ack;
        channel.session.refused_at = None;
        for direct in &update.directs {
            channel.held.direct_total += direct.amount.get();
        }
        self.echo_accepted(id, update.echo, update.signature);
        self.acks.insert(id);
        self.tell_directs(id, update.directs);
        for (_, peer) in &accepted.settled {
            self.peer_settled(id, peer);
        }
        for (_, peer) in accepted.settled.iter().chain(&accepted.dropped) {
            self.stirred.insert(peer.lock.hash);
        }
        for add in update.adds {
            self.receive_lock(id, add, tools);
        }
    }

    fn refuse(&mut self, id: ChannelId, version: Version, refusal: Refusal) {
        let now = self.now;
        let Some(channel) = self.channels.get_mut(&id) else {
            return;
        };
        if refusal.class() == RefuseClass::Invalid {
            channel.session.refused_at.get_or_insert(now);
            self.notices.push(Notice::PeerRefused {
                channel: id,
                refusal,
            });
        }
        let held = channel.held.half.version;
        self.send(
            id,
            Message::Refuse {
                channel: id,
                version,
                held,
                refusal,
            },
        );
    }

    pub(super) fn receive_ack(&mut self, id: ChannelId, version: Version) -> Result<(), StepError> {
        let Some(channel) = self.channels.get_mut(&id) else {
            return Err(StepError::UnknownChannel(id));
        };
        // Flow control only: it proves nothing, so nothing that rule 3 needs hangs on it.
        if channel.own.halves.contains_key(&version) {
            channel.session.peer_holds = channel.session.peer_holds.max(version);
            channel.forget_onions(version);
        }
        Ok(())
    }

    /// The peer did not take a half of ours.
    pub(super) fn receive_refuse(
        &mut self,
        id: ChannelId,
        version: Version,
        held: Version,
        refusal: Refusal,
    ) -> Result<(), StepError> {
        let Some(channel) = self.channels.get_mut(&id) else {
            return Err(StepError::UnknownChannel(id));
        };
        if version > channel.own.version || !channel.own.halves.contains_key(&held) {
            return Err(StepError::Ignored("a refusal of an unknown version"));
        }
        channel.session.peer_holds = held;
        channel.session.sent = held;
        match refusal.class() {
            RefuseClass::Later => {
                // A wrong base is mended at once; everything else needs time. Both are paced by the repetition.
                let wrong_base = matches!(refusal, Refusal::Base { .. });
                if wrong_base && self.local != channel.session.last_sent {
                    self.resend.insert(id);
                }
                if let Refusal::Outbid { above, .. } = refusal {
                    self.number_anew(id, above);
                }
            }
            RefuseClass::Invalid => {
                self.notices.push(Notice::RefusedByPeer {
                    channel: id,
                    refusal,
                });
                if version == channel.own.version {
                    self.supersede(id, held);
                }
            }
        }
        Ok(())
    }

    /// Takes back the locks that the peer has not accepted. It holds our signature all the same, so they fail only when a
    /// signed echo shows that they can no longer count: rule 3 does that. Direct payments stay: `paid` never goes back, or a
    /// peer could refuse a payment, see it made again, and submit both.
    fn supersede(&mut self, id: ChannelId, held: Version) {
        let clock = self.numbering_clock();
        let may_change = |channel: &Channel| self.may_change(channel);
        if !self.channels.get(&id).is_some_and(may_change) {
            return;
        }
        let Some(channel) = self.channels.get_mut(&id) else {
            return;
        };
        if channel.own.version == held {
            return;
        }
        channel.clock = clock;
        let refused: Vec<LockId> = channel
            .own
            .standing()
            .filter(|(_, own)| own.added > held)
            .map(|(lock, _)| *lock)
            .collect();
        for lock in refused {
            if let Some(own) = channel.own.locks.note(lock) {
                own.fail.get_or_insert_with(Vec::new);
            }
            channel.remove_lock(lock, Removal::Dropped);
        }
        channel.unsigned = true;
        self.dirty.insert(Key::Channel(id));
        self.touched.insert(id);
    }
}

/// Rule 2: what the counter moved by is what the payments say.
fn check_paid(channel: &Channel, update: &Update, accepted: &Accepted) -> Result<(), Refusal> {
    let settled = list_sum(accepted.settled.iter().map(|(_, peer)| &peer.lock));
    let direct: u128 = update
        .directs
        .iter()
        .map(|direct| direct.amount.get())
        .sum();
    let expected = channel.held.half.paid + settled + direct;
    let zero = update
        .directs
        .iter()
        .any(|direct| direct.amount == Amount::ZERO);
    if zero || expected != update.half.paid || expected >= PAID_LIMIT {
        return Err(Refusal::Paid {
            expected,
            found: update.half.paid,
        });
    }
    Ok(())
}

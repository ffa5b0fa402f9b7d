//! What is said again: after a connection, after silence, after a refusal.
//!
//! ```text
//! Connected → Reestablish both ways → the newest update, if the peer lacks it → our answers to its locks
//! ```
//! Messages carry facts, not steps, so saying one twice is harmless.

use super::channel::{Answer, Channel, Fault};
use super::effect::Key;
use super::{Node, StepError};
use crate::message::{Message, Reestablish, half_hash};
use crate::signing::Keys;
use crate::types::{ChannelId, PublicKey};

impl Node {
    pub(super) fn peer_connected(&mut self, peer: PublicKey) {
        self.connected.insert(peer);
        for id in self.channels_with(peer) {
            if let Some(channel) = self.channels.get_mut(&id) {
                channel.session = super::channel::Session {
                    connected: true,
                    since: self.now,
                    last_sent: self.local,
                    last_broadcast: std::mem::take(&mut channel.session.last_broadcast),
                    ..Default::default()
                };
                let message = channel.reestablish();
                self.send(id, message);
            }
        }
    }

    pub(super) fn peer_disconnected(&mut self, peer: PublicKey) {
        self.connected.remove(&peer);
        for id in self.channels_with(peer) {
            if let Some(channel) = self.channels.get_mut(&id) {
                channel.session.connected = false;
                channel.session.established = false;
                channel.session.refused_at = None;
            }
        }
    }

    fn channels_with(&self, peer: PublicKey) -> Vec<ChannelId> {
        self.channels
            .values()
            .filter(|channel| channel.peer == peer)
            .map(|channel| channel.id)
            .collect()
    }

    /// The peer says what it holds.
    pub(super) fn receive_reestablish(
        &mut self,
        said: Reestablish,
        keys: &dyn Keys,
    ) -> Result<(), StepError> {
        let id = said.channel;
        let lost_up_to = self.lost_up_to();
        let Some(channel) = self.channels.get_mut(&id) else {
            return Err(StepError::UnknownChannel(id));
        };
        let held = &channel.held.half;
        let differs = said.own == held.version && said.own_hash != half_hash(held);
        let own = channel.own.half(said.held);
        let forged = own.is_some_and(|own| half_hash(own) != said.held_hash);
        if differs || forged {
            let version = if differs { said.own } else { said.held };
            self.find_fault(id, Fault::Equivocation(version), true);
            return Ok(());
        }
        if said.held > channel.own.version || said.echoed > channel.held.half.version {
            // It holds a half of ours, or an echo by us, that we do not know: it lies, or we have lost data.
            self.find_fault(id, Fault::DataLost(said.held), false);
            return Ok(());
        }
        if channel.has_lost_data() {
            // A backup that turns out to have lost nothing, unless the peer says less than it knows.
            channel.fault = None;
            channel.lost_up_to = channel.lost_up_to.max(lost_up_to);
            channel.quiet_until = Some(self.now + self.policy.quiet());
            self.dirty.insert(Key::Channel(id));
        }
        // Older than what it signed an echo of: a late message, or it has lost data and will find that out from ours.
        let holds = said.held.max(channel.own.echoed);
        let lost = said.own < channel.held.half.version || said.held < channel.own.echoed;
        channel.session.connected = true;
        let answer = !channel.session.established;
        channel.session.established = true;
        channel.session.peer_holds = holds;
        channel.session.sent = holds;
        if holds < channel.own.version {
            self.resend.insert(id);
        }
        if answer {
            // Ours may have been lost, or sent before the peer was there to hear it.
            let message = self.channels[&id].reestablish();
            self.send(id, message);
        }
        if lost {
            if let Some(channel) = self.channels.get_mut(&id) {
                channel.peer_quiet_until = self.now + self.policy.quiet();
                self.dirty.insert(Key::Channel(id));
            }
            self.give_copy(id, keys);
        }
        self.answer_again(id);
        Ok(())
    }

    /// Says again what has not been answered for a while.
    pub(super) fn repeat(&mut self) {
        let local = self.local;
        let after = self.policy.resend_after;
        let due: Vec<ChannelId> = self
            .channels
            .values()
            .filter(|channel| channel.session.connected && channel.may_talk())
            .filter(|channel| !channel.closed && local.abs_diff(channel.session.last_sent) >= after)
            .map(|channel| channel.id)
            .collect();
        for id in due {
            self.repeat_channel(id);
        }
        self.judge_superseding();
    }

    fn repeat_channel(&mut self, id: ChannelId) {
        let Some(channel) = self.channels.get_mut(&id) else {
            return;
        };
        channel.session.last_sent = self.local;
        if !channel.session.established {
            let message = channel.reestablish();
            self.send(id, message);
            return;
        }
        let unseen = channel.session.peer_holds < channel.own.version;
        if unseen || channel.waits_for_echo() {
            self.resend.insert(id);
        }
        if let Some(message) = channel.proposal_again() {
            self.send(id, message);
        }
        self.ask_anew(id);
        self.answer_again(id);
    }

    /// Fulfil and Fail, for every lock of the peer that still stands.
    fn answer_again(&mut self, id: ChannelId) {
        let Some(channel) = self.channels.get(&id) else {
            return;
        };
        let mut messages = Vec::new();
        for (&lock, peer) in &channel.held.locks {
            match &peer.answer {
                Some(Answer::Fail(reason)) => messages.push(Message::Fail {
                    channel: id,
                    lock,
                    reason: reason.clone(),
                }),
                Some(Answer::Fulfil) => {
                    messages.extend(self.preimage_of(&peer.lock.hash).map(|preimage| {
                        Message::Fulfil {
                            channel: id,
                            lock,
                            preimage,
                        }
                    }));
                }
                None => {}
            }
        }
        for message in messages {
            self.send(id, message);
        }
    }

    /// A peer that does not supersede an invalid half is left, and left on chain only when a lock is near its expiry.
    fn judge_superseding(&mut self) {
        let near = self.now + 2 * self.policy.reveal_margin;
        let late = self.policy.supersede_within;
        let now = self.now;
        let due: Vec<(ChannelId, bool)> = self
            .channels
            .values()
            .filter(|channel| !channel.closed && !channel.has_lost_data())
            .filter_map(|channel| {
                let overdue = channel.session.refused_at.is_some_and(|at| now > at + late);
                let left = overdue || channel.fault.is_some();
                left.then(|| (channel.id, channel.has_lock_before(near)))
            })
            .collect();
        for (id, close) in due {
            self.find_fault(id, Fault::NotSuperseded, close);
        }
    }
}

impl Channel {
    /// Whether anything is said about it: without a fault, or while it asks for its data.
    pub(super) fn may_talk(&self) -> bool {
        self.fault.is_none() || self.has_lost_data()
    }

    /// Whether nothing is signed until the peer has given back what we have lost.
    pub fn has_lost_data(&self) -> bool {
        matches!(self.fault, Some(Fault::DataLost(_)))
    }

    fn reestablish(&self) -> Message {
        Message::Reestablish(Reestablish {
            channel: self.id,
            own: self.own.version,
            own_hash: half_hash(self.own.newest()),
            held: self.held.half.version,
            held_hash: half_hash(&self.held.half),
            echoed: self.own.echoed,
        })
    }

    /// Whether a dropped lock waits for the peer's signed echo.
    fn waits_for_echo(&self) -> bool {
        self.own.locks.values().any(|own| {
            own.outcome.is_none() && own.removed.is_some_and(|(at, _)| at > self.own.echoed)
        })
    }

    fn has_lock_before(&self, time: u64) -> bool {
        let own = self.own.standing().map(|(_, own)| own.lock.expiry);
        let held = self.held.locks.values().map(|peer| peer.lock.expiry);
        own.chain(held).any(|expiry| expiry <= time)
    }
}

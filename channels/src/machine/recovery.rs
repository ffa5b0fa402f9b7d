//! After a restore from an old database: the counterparty gives back what both have signed.
//!
//! ```text
//! from_backup, or Reestablish: the peer holds what we do not know → nothing is signed (Fault::DataLost)
//! peer → Copy: the newest snapshot that it holds, both lists, both signatures
//! we   → our own signature proves it → adopt both halves, go on at version + 2^32 → the peer's newest Update follows
//! ```
//! Ours: our signature shows that we once made that half, so it cannot be invented. The peer may show an older one than the
//! newest that we signed; the jump makes our next half win over any that it hides. What it cannot give back is a half of its
//! own that we had accepted and never echoed: an honest peer sends it again as its newest Update, a dishonest one is
//! answered by the tower.
//!
//! Links between hops are not in a snapshot. A lock of ours and a lock of another peer with the same hash are one forward.

use super::channel::{Answer, Channel, Origin, OwnLock, PeerLock, Role};
use super::effect::{Key, Notice};
use super::payment::InvoiceState;
use super::{LockRef, Node, StepError};
use crate::digest;
use crate::message::{Copy, LockId, Message};
use crate::signing::Keys;
use crate::state::{Halves, Lock, check_list};
use crate::types::{Amount, ChannelId, PaymentHash, Signature, Timestamp, Version};
use std::collections::BTreeMap;

/// How far versions jump after a recovery: above any half that was signed and forgotten.
pub const VERSION_JUMP: Version = 1 << 32;

impl Node {
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
        let now = self.now;
        let id = copy.channel;
        self.notices.push(Notice::Recovered { channel: id });
        let hashes: Vec<(PaymentHash, bool, LockId)> = {
            let channel = self.channel_mut(id)?;
            channel.adopt(copy, now);
            let own = channel.own.locks.iter();
            let held = channel.held.locks.iter();
            own.map(|(lock, own)| (own.lock.hash, true, *lock))
                .chain(held.map(|(lock, peer)| (peer.lock.hash, false, *lock)))
                .collect()
        };
        for (hash, own, lock) in hashes {
            let locks = self.index.entry(hash).or_default();
            locks.insert(LockRef {
                channel: id,
                own,
                lock,
            });
            self.effects.watches.push(hash);
            self.relink(hash);
            self.stirred.insert(hash);
        }
        Ok(())
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
        // Our signature on something newer than what we know proves that we have lost it; nothing else does.
        let held = channel.held.half.version;
        let newer = own.version > channel.own.version || peer.version > held;
        let known = own.version > channel.own.version || channel.own.half(own.version) == Some(own);
        if !newer || peer.version < held || !known {
            return Err("a copy that is not newer than what we hold");
        }
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
        let found: Vec<LockRef> = self
            .index
            .get(&hash)
            .into_iter()
            .flatten()
            .copied()
            .collect();
        for incoming in found.iter().filter(|found| !found.own) {
            let out = found.iter().find(|out| {
                out.own && out.channel != incoming.channel && self.is_unlinked(out, &hash)
            });
            let role = match out {
                Some(out) => Role::Forward {
                    channel: out.channel,
                    lock: out.lock,
                },
                None => match self.expected(&hash) {
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
                channel.own.locks.get_mut(&out.lock)
            });
            if let Some(own) = own {
                own.origin = Origin::Forward {
                    channel: incoming.channel,
                    lock: incoming.lock,
                };
            }
        }
    }

    /// A lock of ours that no payment of ours explains.
    fn is_unlinked(&self, out: &LockRef, hash: &PaymentHash) -> bool {
        let own = self
            .channels
            .get(&out.channel)
            .and_then(|channel| channel.own.locks.get(&out.lock));
        own.is_some_and(|own| own.origin == Origin::Payment(*hash))
            && !self.payments.contains_key(hash)
    }

    /// What an invoice of ours waits for.
    fn expected(&self, hash: &PaymentHash) -> Option<Amount> {
        self.invoices
            .get(hash)
            .filter(|invoice| invoice.state != InvoiceState::Cancelled)
            .map(|invoice| invoice.amount.unwrap_or(Amount::ZERO))
    }
}

impl Channel {
    /// The newest snapshot that the peer signed, signed by us as well.
    fn copy(&self, separator: &crate::types::Hash32, keys: &dyn Keys) -> Option<Copy> {
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

    fn adopt(&mut self, copy: &Copy, now: Timestamp) {
        let half = *copy.halves.side(self.side);
        let version = half.version;
        if version > self.own.version {
            self.own.version = version;
            self.own.halves = BTreeMap::from([(version, half)]);
            self.own.paid = half.paid;
            self.own.directs.clear();
            self.adopt_own_locks(&copy.receiver_locks, version);
        }
        self.own.echoed = version;
        self.own.skip = VERSION_JUMP;
        self.own.next_lock = self.own.next_lock.max(copy.last_lock.saturating_add(1));
        self.forget_echoed();
        self.held.half = *copy.halves.side(self.side.other());
        self.held.signature = Some(copy.sender_signature);
        self.adopt_peer_locks(&copy.sender_locks);
        self.fault = None;
        self.unsigned = false;
        self.session.established = true;
        self.session.peer_holds = version;
        self.session.sent = version;
        self.session.last_sent = now;
    }

    fn adopt_own_locks(&mut self, listed: &[(LockId, Lock)], version: Version) {
        let mut old = std::mem::take(&mut self.own.locks);
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
            });
            own.added = own.added.min(version);
            own.removed = None;
            self.own.locks.insert(*id, own);
        }
        // Both have signed that the rest is gone. It went unpaid, or after we were paid upstream: rule 4.
        for (id, mut own) in old {
            let gone = own.removed.filter(|(removed, _)| *removed <= version);
            own.removed = gone.or(Some((version, super::channel::Removal::Dropped)));
            own.added = own.added.min(version);
            self.own.locks.insert(id, own);
        }
    }

    fn adopt_peer_locks(&mut self, listed: &[(LockId, Lock)]) {
        let mut old = std::mem::take(&mut self.held.locks);
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
            peer.recovered = true;
            self.held.locks.insert(*id, peer);
            self.held.last_lock = self.held.last_lock.max(*id);
        }
    }
}

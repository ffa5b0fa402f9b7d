//! What a dishonest peer can sign: for the simulator's adversaries only, behind the feature `sabotage`.

use super::Node;
use super::channel::{Answer, Origin, Removal};
use crate::message::{Direct, LockId, Message};
use crate::signing::Keys;
use crate::state::Lock;
use crate::types::{ChannelId, PaymentHash, Preimage};

/// A change of the own half that no rule has checked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Forgery {
    /// Pay without having.
    Direct(Direct),
    /// Lock without having, or at a time when nobody should.
    Lock(Lock, Vec<u8>),
    /// Drop a lock that is alive.
    Drop(LockId),
    /// The newest half again, with another amount: two halves of one version.
    Twin(Direct),
}

impl Node {
    /// Signs a forged half. With `keep` the node goes on from it; without, its next half has the same version.
    pub fn forge(
        &mut self,
        id: ChannelId,
        forgery: Forgery,
        keep: bool,
        keys: &dyn Keys,
    ) -> Option<Message> {
        let mut channel = self.channels.get(&id)?.clone();
        channel.clock = self.numbering_clock();
        match forgery {
            Forgery::Direct(direct) => channel.add_direct(direct),
            Forgery::Lock(lock, onion) => {
                channel.add_lock(lock, Origin::Payment(PaymentHash([0; 32])), onion);
            }
            Forgery::Drop(lock) => channel.remove_lock(lock, Removal::Dropped),
            Forgery::Twin(direct) => {
                // The same version, whatever the clock says.
                channel.begun = Some(channel.own.version).filter(|version| *version > 0);
                channel.begun?;
                channel.add_direct(direct);
            }
        }
        if channel.own.paid >= crate::types::PAID_LIMIT {
            return None;
        }
        let message = channel.forged_update(&self.separator, keys);
        if keep {
            self.channels.insert(id, channel);
        }
        Some(message)
    }

    /// From now on echoes the peer's half as it is held now, or the newest again.
    pub fn freeze_echo(&mut self, id: ChannelId, freeze: bool) {
        if let Some(channel) = self.channels.get_mut(&id) {
            channel.session.stale_echo = freeze.then_some(channel.held.half);
        }
    }

    /// What it would give now to a peer that has lost data.
    pub fn copy_now(&self, id: &ChannelId, keys: &dyn Keys) -> Option<Message> {
        let copy = self.channels.get(id)?.copy(&self.separator, keys)?;
        Some(Message::Copy(Box::new(copy)))
    }

    /// Learns a preimage from an accomplice.
    pub fn tell_preimage(&mut self, preimage: Preimage) {
        self.learn_preimage(preimage);
    }

    /// Says that a lock of the peer fails, whatever is known of it. With `keep` it accepts that the peer then drops it.
    pub fn forge_fail(&mut self, id: ChannelId, lock: LockId, keep: bool) -> Option<Message> {
        let peer = self.channels.get_mut(&id)?.held.locks.get_mut(&lock)?;
        if keep {
            peer.answer = Some(Answer::Fail(Vec::new()));
        }
        Some(Message::Fail {
            channel: id,
            lock,
            reason: Vec::new(),
        })
    }
}

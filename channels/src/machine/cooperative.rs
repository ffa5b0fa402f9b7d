//! Cooperative payouts: money leaves a channel, or all of it, with both signatures.
//!
//! ```text
//! withdraw, close → propose (subtracted from now on, rule 0) → peer checks both balances, signs → proposer broadcasts
//!                 → executed finally, or too late finally → no longer subtracted
//! ```
//! One at a time. One that takes everything stops updates while it may execute, and is signed only when nothing is under
//! way: no lock, no half without its receiver, and each side gets exactly its balance.

use super::channel::{Channel, Payout, signed};
use super::dispute::OnChain;
use super::effect::{Key, Transaction};
use super::{Node, StepError};
use crate::digest::{self, Coop};
use crate::message::Message;
use crate::signing::Keys;
use crate::types::{Amount, ChannelId, Side, Signature, Timestamp};

impl Node {
    pub(super) fn withdraw(
        &mut self,
        id: ChannelId,
        amount: Amount,
        keys: &dyn Keys,
    ) -> Result<(), StepError> {
        if amount == Amount::ZERO {
            return Err(StepError::Zero);
        }
        let rules = self.rules;
        let channel = self.payable(id)?;
        let available = channel.spendable(&rules).get();
        if amount.get() > available {
            return Err(StepError::Balance {
                wanted: amount.get(),
                available,
            });
        }
        let side = channel.side;
        self.propose(id, pays(side, amount.get(), 0), keys)
    }

    pub(super) fn close_cooperatively(
        &mut self,
        id: ChannelId,
        keys: &dyn Keys,
    ) -> Result<(), StepError> {
        let rules = self.rules;
        let channel = self.payable(id)?;
        let own = channel.balance(&rules);
        let peer = channel.newest_peer_balance(&rules);
        if !channel.is_settled() || channel.session.peer_holds != channel.own.version {
            return Err(StepError::Unsettled);
        }
        let (Ok(own), Ok(peer)) = (u128::try_from(own), u128::try_from(peer)) else {
            return Err(StepError::Unsettled);
        };
        let side = channel.side;
        self.propose(id, pays(side, own, peer), keys)
    }

    /// A channel on which a payout may be proposed or signed now.
    fn payable(&self, id: ChannelId) -> Result<&Channel, StepError> {
        let channel = self
            .channels
            .get(&id)
            .ok_or(StepError::UnknownChannel(id))?;
        if let Some(payout) = channel.payout {
            return Err(StepError::PayoutUnderWay(payout.coop.valid_until));
        }
        let epochs = [&channel.at_head, &channel.at_final]
            .map(|view| view.as_ref().map(|chain| chain.epoch));
        let usable = channel.fault.is_none() && !channel.closing && channel.is_open();
        if !usable || epochs[0] != epochs[1] || self.head_age() > self.policy.max_head_age {
            return Err(StepError::NotOpen(id));
        }
        if !channel.session.established {
            return Err(StepError::Offline(id));
        }
        channel.check_quiet()?;
        Ok(channel)
    }

    fn propose(
        &mut self,
        id: ChannelId,
        (pay_a, pay_b): (u128, u128),
        keys: &dyn Keys,
    ) -> Result<(), StepError> {
        let valid_until = self.now + self.policy.coop_life;
        let separator = self.separator;
        let local = self.local;
        let channel = self.channel_mut(id)?;
        let coop = Coop {
            epoch: channel.at_final.as_ref().map_or(0, |chain| chain.epoch),
            pay_a,
            pay_b,
            valid_until,
        };
        let own = keys.sign(&digest::coop(&separator, &id, &coop));
        channel.payout = Some(Payout {
            coop,
            proposed: true,
            own,
            peer: None,
        });
        channel.session.last_sent = local;
        self.send(
            id,
            Message::CoopPropose {
                channel: id,
                coop,
                signature: own,
            },
        );
        Ok(())
    }

    /// Rule 0: sign only what both free balances cover.
    pub(super) fn receive_proposal(
        &mut self,
        id: ChannelId,
        coop: Coop,
        signature: Signature,
        keys: &dyn Keys,
    ) -> Result<(), StepError> {
        let channel = &self.channels[&id];
        if let Some(payout) = channel
            .payout
            .filter(|payout| payout.coop == coop && !payout.proposed)
        {
            self.send_coop_signature(id, coop, payout.own);
            return Ok(());
        }
        let channel = self.payable(id)?;
        self.check_proposal(channel, &coop)
            .map_err(StepError::Payout)?;
        let digest = digest::coop(&self.separator, &id, &coop);
        if !keys.verify(&channel.peer, &digest, &signature) {
            return Err(StepError::Payout("the signature does not verify"));
        }
        let own = keys.sign(&digest);
        self.channel_mut(id)?.payout = Some(Payout {
            coop,
            proposed: false,
            own,
            peer: Some(signature),
        });
        self.send_coop_signature(id, coop, own);
        Ok(())
    }

    fn send_coop_signature(&mut self, id: ChannelId, coop: Coop, signature: Signature) {
        self.send(
            id,
            Message::CoopSign {
                channel: id,
                coop,
                signature,
            },
        );
    }

    fn check_proposal(&self, channel: &Channel, coop: &Coop) -> Result<(), &'static str> {
        let chain = channel.at_final.as_ref().ok_or("L1 is not known yet")?;
        if coop.epoch != chain.epoch {
            return Err("the epoch is another");
        }
        let latest = self.now + self.policy.max_coop_life + self.policy.clock_tolerance;
        if coop.valid_until <= self.now || coop.valid_until > latest {
            return Err("it is too late or valid for too long");
        }
        let own = signed(coop.pay(channel.side));
        let peer = signed(coop.pay(channel.side.other()));
        let own_balance = channel.balance(&self.rules);
        let newest = channel.newest_peer_balance(&self.rules);
        if channel.empties(coop) {
            let exact = own == own_balance && peer == newest;
            return (exact && channel.is_settled())
                .then_some(())
                .ok_or("not all is settled, or the shares differ from ours");
        }
        let covered = own <= own_balance && peer <= newest.min(channel.held_balance(&self.rules));
        covered
            .then_some(())
            .ok_or("a free balance does not cover it")
    }

    /// The payout that we proposed can execute.
    pub(super) fn receive_coop_signature(
        &mut self,
        id: ChannelId,
        coop: Coop,
        signature: Signature,
        keys: &dyn Keys,
    ) -> Result<(), StepError> {
        let channel = &self.channels[&id];
        let digest = digest::coop(&self.separator, &id, &coop);
        let fits = channel
            .payout
            .is_some_and(|payout| payout.coop == coop && payout.peer.is_none());
        if !fits || !keys.verify(&channel.peer, &digest, &signature) {
            return Err(StepError::Ignored("a signature of no payout of ours"));
        }
        let signature = keys.for_contract(&channel.peer, &digest, &signature);
        if let Some(payout) = self.channel_mut(id)?.payout.as_mut() {
            payout.peer = Some(signature);
        }
        Ok(())
    }

    /// Rule 0: a payout stops counting when the final state has it, or when it is finally too late.
    pub(super) fn forget_payout(&mut self, id: ChannelId) {
        let final_time = self.final_time;
        let Some(channel) = self.channels.get_mut(&id) else {
            return;
        };
        let Some(payout) = channel.payout else { return };
        let over = channel
            .at_final
            .as_ref()
            .is_some_and(|chain| chain.epoch > payout.coop.epoch || chain.is_closed());
        if over || final_time > payout.coop.valid_until {
            channel.payout = None;
            self.dirty.insert(Key::Channel(id));
        }
    }
}

/// Shares as side A's and side B's.
fn pays(side: Side, own: u128, peer: u128) -> (u128, u128) {
    match side {
        Side::A => (own, peer),
        Side::B => (peer, own),
    }
}

impl Channel {
    /// Whether no lock of either side can still move money.
    fn is_settled(&self) -> bool {
        let open = |own: &super::channel::OwnLock| own.outcome.is_none() || own.removed.is_none();
        self.held.locks.is_empty() && !self.own.locks.values().any(open)
    }

    /// The counterparty's balance with the newest of both halves.
    fn newest_peer_balance(&self, rules: &super::rules::Rules) -> i128 {
        self.peer_balance(
            self.held.half.paid,
            self.held.locked(),
            self.own.newest(),
            rules,
        )
    }

    /// The proposal of ours that the peer has not signed, to say again.
    pub(super) fn proposal_again(&self) -> Option<Message> {
        let payout = self
            .payout
            .filter(|payout| payout.proposed && payout.peer.is_none())?;
        Some(Message::CoopPropose {
            channel: self.id,
            coop: payout.coop,
            signature: payout.own,
        })
    }

    /// A payout of ours that can be broadcast.
    pub(super) fn executable_payout(&self, chain: &OnChain, now: Timestamp) -> Option<Transaction> {
        let payout = self.payout.filter(|payout| payout.proposed)?;
        let peer = payout.peer?;
        let (signature_a, signature_b) = self.in_order(payout.own, peer);
        (chain.epoch == payout.coop.epoch && now <= payout.coop.valid_until).then_some(
            Transaction::Cooperate {
                params: self.params,
                coop: payout.coop,
                signature_a,
                signature_b,
            },
        )
    }
}

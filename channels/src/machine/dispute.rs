//! What L1 says about channels and reveals, and what the holder does on L1: close, challenge, reveal, settle.
//!
//! The rim reports *state*, not events, at two levels: the head, which may be undone, and the last final block. A reorg is
//! then nothing but another head.
//!
//! | L1 says | we do |
//! |---|---|
//! | open, and the holder wants it closed | submit the best snapshot |
//! | a dispute with an older half of either side | submit the best snapshot |
//! | a dispute past its deadline, all locks revealed or expired | settle |
//! | closed, finally | decide what is left of our locks |

use super::Node;
use super::channel::{Channel, Outcome};
use super::effect::{Notice, Transaction};
use crate::digest;
use crate::message::LockId;
use crate::signing::Keys;
use crate::state::{Halves, Lock};
use crate::types::{ChannelId, Hash32, PaymentHash, Preimage, Side, Signature, Timestamp, Version};
use std::collections::BTreeMap;

/// When a hash was revealed on L1, at each level.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Reveal {
    /// At the head.
    pub at_head: Option<Timestamp>,
    /// Finally.
    pub at_final: Option<Timestamp>,
    /// Whether the final state of this hash was reported at all: silence about a hash just watched is no news.
    pub heard: bool,
}

impl Reveal {
    /// Whether a final reveal is in time for an expiry.
    pub fn counts_finally(&self, expiry: Timestamp) -> bool {
        self.at_final.is_some_and(|at| at <= expiry)
    }

    /// Whether the head's reveal is in time for an expiry.
    pub fn counts_at_head(&self, expiry: Timestamp) -> bool {
        self.at_head.is_some_and(|at| at <= expiry)
    }
}

/// A dispute on L1.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Dispute {
    /// The last time for a challenge.
    pub deadline: Timestamp,
    /// The merged halves.
    pub halves: Halves,
    /// Side A's list, from the submits.
    pub list_a: Vec<Lock>,
    /// Side B's list.
    pub list_b: Vec<Lock>,
}

impl Dispute {
    /// Whether every lock is revealed in time or expired, so that it can be settled.
    pub fn is_decided(&self, reveals: &BTreeMap<PaymentHash, Reveal>, now: Timestamp) -> bool {
        self.list_a.iter().chain(&self.list_b).all(|lock| {
            let reveal = reveals.get(&lock.hash).copied().unwrap_or_default();
            reveal.counts_at_head(lock.expiry) || now > lock.expiry
        })
    }
}

/// A channel's phase on L1.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ChainPhase {
    /// Deposits made, or nothing yet.
    Open,
    /// Somebody submitted.
    Closing(Dispute),
    /// Paid out cooperatively, for good.
    Cooperated,
    /// Paid out after a dispute, with these halves.
    Settled {
        /// Side A's version.
        version_a: Version,
        /// Side B's version.
        version_b: Version,
    },
}

/// What the contract's state says about a channel.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OnChain {
    /// Side A's deposits less payouts.
    pub net_a: i128,
    /// Side B's.
    pub net_b: i128,
    /// Count of cooperative payouts.
    pub epoch: u32,
    /// Its phase.
    pub phase: ChainPhase,
}

impl OnChain {
    /// A side's deposits less payouts.
    pub fn net(&self, side: Side) -> i128 {
        match side {
            Side::A => self.net_a,
            Side::B => self.net_b,
        }
    }

    /// All that the contract holds for the channel.
    pub fn pot(&self) -> i128 {
        self.net_a + self.net_b
    }

    /// Whether it takes payments.
    pub fn is_open(&self) -> bool {
        self.phase == ChainPhase::Open
    }
}

/// How certain a report from L1 is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Level {
    /// The newest block.
    Head,
    /// The newest final block.
    Final,
}

/// L1's state at one level, as far as this node watches it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ChainReport {
    /// Of which block.
    pub level: Level,
    /// The block's time.
    pub timestamp: Timestamp,
    /// Every channel that may have changed since the last report of the level.
    pub channels: Vec<(ChannelId, OnChain)>,
    /// Every watched hash that may have changed or is watched since the last report, `None` if it is not revealed.
    pub reveals: Vec<(PaymentHash, Option<(Timestamp, Preimage)>)>,
}

/// Kinds of transaction, to pace their repetition.
mod kind {
    pub const COOPERATE: u8 = 0;
    pub const CLOSE: u8 = 1;
    pub const CHALLENGE: u8 = 2;
    pub const SETTLE: u8 = 3;
}

impl Node {
    /// Takes in L1's state at one level.
    pub(super) fn chain_reported(&mut self, report: ChainReport) {
        match report.level {
            Level::Head => {
                let gap = report.timestamp.saturating_sub(self.head_time);
                if gap > self.policy.max_head_age {
                    self.fresh_since = self.now.max(report.timestamp);
                }
                self.head_time = report.timestamp;
            }
            Level::Final => self.final_time = report.timestamp,
        }
        let last = report.level == Level::Final;
        self.now = self.now.max(self.head_time);
        for (hash, reveal) in report.reveals {
            self.reveal_reported(report.level, hash, reveal);
        }
        for (id, chain) in report.channels {
            self.channel_reported(report.level, id, chain);
        }
        if last {
            self.end_quiet();
        }
    }

    fn reveal_reported(
        &mut self,
        level: Level,
        hash: PaymentHash,
        reveal: Option<(Timestamp, Preimage)>,
    ) {
        let known = self.reveals.entry(hash).or_default();
        let at = reveal.map(|(at, _)| at);
        match level {
            Level::Head => known.at_head = at,
            Level::Final => {
                known.at_final = at;
                known.heard = true;
                known.at_head = known.at_head.or(at);
            }
        }
        if let Some((_, preimage)) = reveal.filter(|(_, preimage)| preimage.hash() == hash) {
            self.learn_preimage(preimage);
        }
        self.stir(hash);
    }

    fn channel_reported(&mut self, level: Level, id: ChannelId, chain: OnChain) {
        let Some(channel) = self.channels.get_mut(&id) else {
            return;
        };
        match level {
            Level::Head => channel.at_head = Some(chain),
            Level::Final => {
                channel.at_final = Some(chain);
                if channel.at_head.is_none() {
                    channel.at_head.clone_from(&channel.at_final);
                }
            }
        }
        if let Some(ChainPhase::Closing(dispute)) = channel.at_head.as_ref().map(|c| &c.phase) {
            // Whoever submitted may have brought locks that we have forgotten.
            let locks = dispute.list_a.iter().chain(&dispute.list_b);
            self.effects.watches.extend(locks.map(|lock| lock.hash));
            self.reveal_forgotten(id);
        }
        self.forget_payout(id);
        self.touched.insert(id);
        self.stir_channel(id);
    }

    /// Reveals what a dispute's locks for us need and we have released, if those locks were in a half that we have lost.
    fn reveal_forgotten(&mut self, id: ChannelId) {
        let Some(channel) = self.channels.get(&id) else {
            return;
        };
        let Some(ChainPhase::Closing(dispute)) = channel.at_head.as_ref().map(|c| &c.phase) else {
            return;
        };
        let theirs = match channel.side {
            Side::A => &dispute.list_b,
            Side::B => &dispute.list_a,
        };
        let mut due = Vec::new();
        for lock in theirs
            .iter()
            .filter(|lock| !self.index.contains_key(&lock.hash))
        {
            let reveal = self.reveal_of(&lock.hash);
            let must = self.rules.must_reveal(lock, reveal, self.now, &self.policy);
            let last = self.last_reveal.get(&lock.hash);
            let paced = last.is_none_or(|at| self.now >= at + self.policy.rebroadcast_after);
            due.extend(self.preimage_of(&lock.hash).filter(|_| must && paced));
        }
        for preimage in due {
            self.last_reveal.insert(preimage.hash(), self.now);
            self.effects.broadcasts.push(Transaction::Reveal {
                preimages: vec![preimage],
            });
        }
    }

    /// A final close decides what is left of our locks and payments.
    pub(super) fn conclude_if_closed(&mut self, id: ChannelId) {
        let Some(channel) = self.channels.get_mut(&id) else {
            return;
        };
        let settled = match channel.at_final.as_ref().map(|chain| &chain.phase) {
            Some(ChainPhase::Cooperated) => None,
            Some(ChainPhase::Settled {
                version_a,
                version_b,
            }) => Some(match channel.side {
                Side::A => *version_a,
                Side::B => *version_b,
            }),
            _ => return,
        };
        if !channel.closed {
            channel.closed = true;
            self.dirty.insert(super::effect::Key::Channel(id));
            self.notices.push(Notice::Closed { channel: id });
        }
        self.tell_at_close(id);
        self.tell_guarded(id);
        let Some(channel) = self.channels.get(&id) else {
            return;
        };
        // A cooperative close happens without standing locks, so none was in the pot.
        let gone: Vec<LockId> = channel
            .own
            .locks
            .iter()
            .filter(|(_, own)| own.outcome.is_none())
            .filter(|(_, own)| settled.is_none_or(|version| !own.is_in(version)))
            .map(|(lock, _)| *lock)
            .collect();
        for lock in gone {
            self.resolve(id, lock, Outcome::Failed);
        }
    }

    /// What has to be on L1 now and is not.
    pub(super) fn act_on_chain(&mut self, id: ChannelId, keys: &dyn Keys) {
        let (head_time, now) = (self.head_time, self.now);
        let every = self.policy.rebroadcast_after;
        let separator = self.separator;
        let reveals = &self.reveals;
        let Some(channel) = self.channels.get_mut(&id) else {
            return;
        };
        let Some(chain) = channel.at_head.clone() else {
            return;
        };
        let transaction = match &chain.phase {
            ChainPhase::Open if channel.closing => {
                Some((kind::CLOSE, channel.submission(&separator, keys)))
            }
            ChainPhase::Open => channel
                .executable_payout(&chain, now)
                .map(|transaction| (kind::COOPERATE, transaction)),
            ChainPhase::Closing(dispute) if channel.is_behind(dispute) => (now <= dispute.deadline)
                .then(|| (kind::CHALLENGE, channel.submission(&separator, keys))),
            ChainPhase::Closing(_) => None,
            ChainPhase::Cooperated | ChainPhase::Settled { .. } => None,
        };
        let settle = match &chain.phase {
            ChainPhase::Closing(dispute) if head_time >= dispute.deadline => {
                dispute.is_decided(reveals, head_time).then(|| {
                    let settle = Transaction::Settle {
                        params: channel.params,
                        list_a: dispute.list_a.clone(),
                        list_b: dispute.list_b.clone(),
                    };
                    (kind::SETTLE, settle)
                })
            }
            _ => None,
        };
        for (kind, transaction) in transaction.into_iter().chain(settle) {
            let last = channel.session.last_broadcast.get(&kind);
            if last.is_none_or(|at| now >= at + every) {
                channel.session.last_broadcast.insert(kind, now);
                self.effects.broadcasts.push(transaction);
            }
        }
    }
}

impl Channel {
    /// Whether a dispute lacks a half that we could bring.
    fn is_behind(&self, dispute: &Dispute) -> bool {
        self.newest_signed().is_some_and(|(newest, ..)| {
            newest.a.version > dispute.halves.a.version
                || newest.b.version > dispute.halves.b.version
        })
    }

    /// The newest snapshot that the peer signed, its signature and the peer's list: the best one, or one with a half of the peer
    /// that was not taken after a loss of data. On L1 the newest of each half counts, so it can only help.
    fn newest_signed(&self) -> Option<(Halves, Signature, Vec<Lock>)> {
        let spare = self.spare.as_ref().and_then(|spare| {
            let own = *self.own.half(spare.echo)?;
            let halves = Halves::of(self.side, own, spare.half);
            Some((halves, spare.signature, spare.list.clone()))
        });
        spare.or_else(|| Some((self.best(), self.held.signature?, self.held.list())))
    }

    /// The newest snapshot as a transaction; without one, the close of an unused channel.
    pub fn submission(&self, separator: &Hash32, keys: &dyn Keys) -> Transaction {
        match self.newest_signed() {
            Some((halves, signature, list)) => {
                self.submission_of(halves, list, Some(signature), separator, keys)
            }
            None => self.best_submission(separator, keys),
        }
    }

    /// The best snapshot, of which all is built on: what a tower gets.
    pub(crate) fn best_submission(&self, separator: &Hash32, keys: &dyn Keys) -> Transaction {
        let (halves, list) = (self.best(), self.held.list());
        self.submission_of(halves, list, self.held.signature, separator, keys)
    }

    fn submission_of(
        &self,
        halves: Halves,
        peer: Vec<Lock>,
        signature: Option<Signature>,
        separator: &Hash32,
        keys: &dyn Keys,
    ) -> Transaction {
        let own = self.own.list(halves.side(self.side).version);
        let (list_a, list_b) = match self.side {
            Side::A => (own, peer),
            Side::B => (peer, own),
        };
        let signatures = signature.map(|signature| {
            let digest = digest::snapshot(separator, &self.id, &halves);
            let own = keys.sign(&digest);
            self.in_order(own, keys.for_contract(&self.peer, &digest, &signature))
        });
        Transaction::Submit {
            params: self.params,
            halves,
            list_a,
            list_b,
            signatures,
        }
    }

    /// Own and peer's signature as side A's and side B's.
    pub(super) fn in_order(&self, own: Signature, peer: Signature) -> (Signature, Signature) {
        match self.side {
            Side::A => (own, peer),
            Side::B => (peer, own),
        }
    }
}

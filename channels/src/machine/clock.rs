//! Versions that follow the clock, so that a half from before a loss of data can be told from one after it.
//!
//! ```text
//! our next half     max(newest + 1, first version of this second)
//! the peer's half   refused above the first version of (now + slack): rule 2
//! a restore         every half of the peer that we ever echoed is below its floor; at or below it none is taken any more
//! ```
//! A peer that hides the newest half that it has our echo of, beside a node that has lost it, can then pay only in halves that
//! win over the hidden one. An honest peer numbers its next half above the floor by itself, and signs one that it has sent
//! already once more.
//!
//! All of it counts by L1: the numbering clock is never further ahead of L1's head than rule 8 lets a head be old. A local
//! clock that was wrong before the loss, and is right after it, moves neither bound.

use super::Node;
use super::channel::{Channel, Spare};
use super::rules::Rules;
use crate::message::{Message, Refusal};
use crate::types::{ChannelId, Timestamp, Version};

/// Versions of one second: more than a node can sign. Versions stay below 2^53, which every reader of JSON keeps, for 200 years.
pub const VERSIONS_PER_SECOND: Version = 1 << 20;

/// How far our versions jump after a recovery beyond the clock, seconds: more than a clock that was ahead before the loss can
/// have been ahead of L1's head ([`crate::policy::Policy::max_head_age`]).
pub const JUMP_SECS: Timestamp = 512;

/// The first version of a second.
pub const fn first_version(second: Timestamp) -> Version {
    second.saturating_mul(VERSIONS_PER_SECOND)
}

/// How an adversary numbers its halves.
#[cfg(feature = "sabotage")]
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Numbering {
    /// As everybody does.
    #[default]
    Clock,
    /// One by one, so that they stay older than one that it hides.
    Creeping,
    /// By a clock that is ahead by so many seconds.
    Ahead(Timestamp),
}

impl Node {
    /// The clock that versions follow: it does not run away from L1's head.
    fn version_clock(&self) -> Timestamp {
        let latest = self.head_time.saturating_add(self.policy.max_head_age);
        self.now.min(latest)
    }

    /// The second that our next half is numbered by.
    pub(super) fn numbering_clock(&self) -> Timestamp {
        #[cfg(feature = "sabotage")]
        match self.numbering {
            Numbering::Creeping => return 0,
            Numbering::Ahead(seconds) => return self.now.saturating_add(seconds),
            Numbering::Clock => {}
        }
        self.rules.numbering_clock(self.version_clock())
    }

    /// From now on numbers its halves in another way.
    #[cfg(feature = "sabotage")]
    pub fn number(&mut self, numbering: Numbering) {
        self.numbering = numbering;
    }

    /// Rule 2: the highest version of a half of a peer that is taken now.
    fn version_limit(&self) -> Version {
        first_version(
            self.version_clock()
                .saturating_add(self.policy.version_slack),
        )
    }

    /// The highest version that a half of a peer can have which we echoed and forgot, if we have lost data until now: no limit
    /// of ours was ever higher, whatever the local clock said, unless both it and our view of L1 are behind now.
    pub(super) fn lost_up_to(&self) -> Version {
        let policy = &self.policy;
        let ahead = policy.max_head_age + policy.clock_tolerance + policy.version_slack;
        first_version(self.now.saturating_add(ahead))
    }

    /// Rule 2: a version is not ahead of the clock.
    pub(super) fn check_ahead(&self, version: Version) -> Result<(), Refusal> {
        let latest = self.version_limit();
        if self.rules.is_version_in_time(version, latest) {
            Ok(())
        } else {
            Err(Refusal::Ahead { version, latest })
        }
    }

    /// Rule 2: no half that the peer may hide wins over a version.
    pub(super) fn check_outbid(&self, channel: &Channel, version: Version) -> Result<(), Refusal> {
        let above = channel.lost_up_to;
        if self.rules.outbids_lost(version, above) {
            Ok(())
        } else {
            Err(Refusal::Outbid { version, above })
        }
    }

    /// Keeps a half that is good but for its version, for L1.
    pub(super) fn keep_spare(&mut self, id: ChannelId, spare: Spare) {
        let newer = self.channels.get(&id).is_some_and(|channel| {
            let known = channel.spare.as_ref();
            known.is_none_or(|known| known.half.version < spare.half.version)
        });
        let kept = newer && self.rules.keeps_spare();
        if kept && let Ok(channel) = self.channel_mut(id) {
            channel.spare = Some(spare);
        }
    }

    /// Whether a half of ours may be made now. The first one after a recovery is lifted above those that we have forgotten by
    /// the clock, so that has to be known.
    pub(super) fn may_change(&self, channel: &Channel) -> bool {
        self.may_change_within(channel, self.policy.max_unechoed)
    }

    fn may_change_within(&self, channel: &Channel, unechoed: u64) -> bool {
        let fresh = self.head_age() <= self.policy.max_head_age;
        (channel.own.skip == 0 || fresh) && channel.may_change(unechoed)
    }

    /// The peer has lost data, and takes nothing up to a version: our newest half once more, under a version above it, as soon
    /// as our clock is there. It brings what the peer lacks, so it may be one more than usual without an echo.
    pub(super) fn number_anew(&mut self, id: ChannelId, above: Version) {
        let (clock, most) = (self.numbering_clock(), 2 * self.policy.max_unechoed);
        let due = self.channels.get(&id).is_some_and(|channel| {
            let old = channel.own.version <= above && channel.version_at(clock) > above;
            old && self.may_change_within(channel, most)
        });
        if due && let Ok(channel) = self.channel_mut(id) {
            channel.unsigned = true;
        }
    }

    /// Asks a peer for its newest half once more, if locks of a recovered one wait for it.
    pub(super) fn ask_anew(&mut self, id: ChannelId) {
        let rules = self.rules;
        let Some(channel) = self.channels.get(&id) else {
            return;
        };
        let above = channel.lost_up_to;
        let due = first_version(self.version_clock()) > above;
        if !due || channel.is_proven(&rules) || channel.held.locks.is_empty() {
            return;
        }
        let version = channel.held.half.version;
        let refusal = Refusal::Outbid { version, above };
        self.send(
            id,
            Message::Refuse {
                channel: id,
                version,
                held: version,
                refusal,
            },
        );
    }
}

impl Channel {
    /// The version of a half that is begun in a second.
    pub(crate) fn version_at(&self, second: Timestamp) -> Version {
        let clock = first_version(second).saturating_add(self.own.skip);
        clock.max(self.own.version.saturating_add(1))
    }

    /// The version that changes made now will have: that of the first change that is not signed.
    pub(crate) fn next_version(&mut self) -> Version {
        let next = self.begun.unwrap_or_else(|| self.version_at(self.clock));
        self.begun = Some(next);
        next
    }

    /// Whether no half of the peer that we echoed and forgot can win over the one that we hold.
    pub fn is_proven(&self, rules: &Rules) -> bool {
        rules.outbids_lost(self.held.half.version, self.lost_up_to)
    }
}

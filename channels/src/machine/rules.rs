//! The safety rules, each in one place, by its number.
//!
//! A rule is a pure question with a yes or no; the rest of the machine asks it and does the work.
//! | rule | question | asked by |
//! |---|---|---|
//! | 0 | what L1 state counts? | `channel.rs` balances, `cooperative.rs` |
//! | 1 | may I sign this half of mine? | `update.rs` |
//! | 2 | may I accept this half of the peer? | `update.rs`, `clock.rs` |
//! | 3 | may I fail upstream? | `payment.rs` |
//! | 4 | may I pay my lock? | `payment.rs` |
//! | 5 | must I reveal on L1? | `payment.rs` |
//! | 6 | is this lock dead? | `payment.rs`, `update.rs` |
//! | 7 | in which order do effects leave? | `effect.rs` |
//! | 8 | may I take a lock or a payment, may I forward it? | `update.rs`, `payment.rs` |
//! | 9 | does a tower hold the half that this rests on? | `guard.rs` |
//! | old data | what may have been forgotten? | `recovery.rs` |
//!
//! With the feature `sabotage`, which no product enables, the simulator breaks one rule at a time to prove that it would notice.

use super::dispute::Reveal;
use crate::policy::Policy;
use crate::state::Lock;
use crate::types::{Timestamp, Version};

/// A rule that the simulator can break on purpose.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Rule {
    /// Rule 0: deposits count once final.
    FinalDeposits,
    /// Rule 0: a payout counts from its signature on.
    SignedPayouts,
    /// Rule 1.
    OwnBalance,
    /// Rule 2: the peer's balance with its echo.
    PeerBalance,
    /// Rule 2: locks go only when paid, dead or failed by the holder.
    PeerDrops,
    /// Halves are numbered by the clock.
    VersionClock,
    /// Rule 2: no version is ahead of the clock.
    VersionAhead,
    /// After a loss of data: no half is taken that a hidden one may win over.
    VersionOutbid,
    /// After a loss of data: L1 may have a half that is not taken for its version.
    SpareHalf,
    /// Rule 3.
    EarlyFail,
    /// Rule 4.
    PayAfterPaid,
    /// Rule 5.
    Reveal,
    /// Rule 6.
    DeadWhenFinal,
    /// Rule 7.
    PersistFirst,
    /// Rule 8: nothing is taken from a channel that is not open, or with an old view.
    OpenOnly,
    /// Rule 8: the same expiry on both hops.
    SameExpiry,
    /// Rule 9, before a lock is forwarded.
    GuardedForward,
    /// Rule 9, before a preimage is released.
    GuardedRelease,
    /// Rule 9, before a lock is failed upstream.
    GuardedFail,
    /// Rule 9, before money counts as received.
    GuardedIncome,
    /// After a loss of data: locks that may have gone on, or failed, are marked.
    RecoveredLocks,
}

impl Rule {
    /// All of them.
    pub const ALL: [Self; 21] = [
        Self::FinalDeposits,
        Self::SignedPayouts,
        Self::OwnBalance,
        Self::PeerBalance,
        Self::PeerDrops,
        Self::VersionClock,
        Self::VersionAhead,
        Self::VersionOutbid,
        Self::SpareHalf,
        Self::EarlyFail,
        Self::PayAfterPaid,
        Self::Reveal,
        Self::DeadWhenFinal,
        Self::PersistFirst,
        Self::OpenOnly,
        Self::SameExpiry,
        Self::GuardedForward,
        Self::GuardedRelease,
        Self::GuardedFail,
        Self::GuardedIncome,
        Self::RecoveredLocks,
    ];
}

/// The rules as this node keeps them: all of them, always, outside the simulator.
#[derive(Debug, Clone, Copy, Default)]
pub struct Rules {
    #[cfg(feature = "sabotage")]
    broken: Option<Rule>,
}

impl Rules {
    /// Rules with one broken: for the simulator's tests of itself.
    #[cfg(feature = "sabotage")]
    pub fn without(rule: Rule) -> Self {
        Self { broken: Some(rule) }
    }

    /// Whether a rule is kept.
    #[cfg(feature = "sabotage")]
    fn keeps(&self, rule: Rule) -> bool {
        self.broken != Some(rule)
    }

    /// Whether a rule is kept: without the feature nothing can say no.
    #[cfg(not(feature = "sabotage"))]
    const fn keeps(&self, _: Rule) -> bool {
        true
    }

    /// Rule 0: a deposit counts once final; the head may still be undone.
    pub fn counted_net(&self, at_final: i128, at_head: i128) -> i128 {
        if self.keeps(Rule::FinalDeposits) {
            at_final
        } else {
            at_head.max(at_final)
        }
    }

    /// Rule 0: a cooperative payout is subtracted from the moment I sign or propose it.
    pub fn counted_payout(&self, outstanding: u128) -> u128 {
        if self.keeps(Rule::SignedPayouts) {
            outstanding
        } else {
            0
        }
    }

    /// Rule 1: my balance stays at or above zero.
    pub fn may_send(&self, balance_after: i128) -> bool {
        balance_after >= 0 || !self.keeps(Rule::OwnBalance)
    }

    /// Rule 2: the peer's balance, with the half of mine that it echoes, stays at or above zero.
    pub fn peer_balance_holds(&self, balance_with_echo: i128) -> bool {
        balance_with_echo >= 0 || !self.keeps(Rule::PeerBalance)
    }

    /// Rule 2: the peer drops an unpaid lock only if it is dead or I sent its Fail.
    pub fn peer_may_drop(&self, dead: bool, failed: bool) -> bool {
        dead || failed || !self.keeps(Rule::PeerDrops)
    }

    /// The second by which halves are numbered.
    pub fn numbering_clock(&self, clock: Timestamp) -> Timestamp {
        if self.keeps(Rule::VersionClock) {
            clock
        } else {
            0
        }
    }

    /// Rule 2: no version of the peer is above the limit of this second.
    pub fn is_version_in_time(&self, version: Version, limit: Version) -> bool {
        version <= limit || !self.keeps(Rule::VersionAhead)
    }

    /// Rule 2, after a loss of data: a version is above all that may have been forgotten.
    pub fn outbids_lost(&self, version: Version, lost_up_to: Version) -> bool {
        lost_up_to == 0 || version > lost_up_to || !self.keeps(Rule::VersionOutbid)
    }

    /// After a loss of data: a half that is good but for its version is kept for L1.
    pub fn keeps_spare(&self) -> bool {
        self.keeps(Rule::SpareHalf)
    }

    /// Rule 3: I removed my lock at `removed`; upstream fails only once the peer's signature echoes that half or a later one.
    pub fn may_fail_upstream(&self, removed: Version, echoed: Version) -> bool {
        echoed >= removed || !self.keeps(Rule::EarlyFail)
    }

    /// Rule 4: a forwarder pays its own lock when it was paid itself, or when the reveal in time is final.
    /// Below the eager limit it may give credit, while a reveal would still be in time.
    pub fn may_pay(
        &self,
        lock: &Lock,
        paid_upstream: bool,
        revealed: Reveal,
        now: Timestamp,
        policy: &Policy,
    ) -> bool {
        let eager = lock.amount.get() < policy.eager_limit
            && lock.expiry >= now.saturating_add(policy.reveal_margin);
        paid_upstream
            || revealed.counts_finally(lock.expiry)
            || eager
            || !self.keeps(Rule::PayAfterPaid)
    }

    /// Rule 5: a payer that has not paid by `expiry − margin` makes me reveal.
    pub fn must_reveal(
        &self,
        lock: &Lock,
        revealed: Reveal,
        now: Timestamp,
        policy: &Policy,
    ) -> bool {
        self.keeps(Rule::Reveal)
            && revealed.at_head.is_none()
            && now <= lock.expiry.saturating_add(policy.clock_tolerance)
            && now.saturating_add(policy.reveal_margin) >= lock.expiry
    }

    /// Rule 5: a preimage is released only with two margins left.
    pub fn may_release(&self, lock: &Lock, now: Timestamp, policy: &Policy) -> bool {
        lock.expiry >= now.saturating_add(2 * policy.reveal_margin)
    }

    /// Rule 6: dead when a final block is later than the expiry and its state knows no reveal in time.
    pub fn is_dead(
        &self,
        lock: &Lock,
        revealed: Reveal,
        final_time: Timestamp,
        now: Timestamp,
    ) -> bool {
        let time = if self.keeps(Rule::DeadWhenFinal) {
            final_time
        } else {
            now
        };
        revealed.heard && time > lock.expiry && !revealed.counts_finally(lock.expiry)
    }

    /// Rule 7: what is durable comes first.
    pub fn persists_first(&self) -> bool {
        self.keeps(Rule::PersistFirst)
    }

    /// Rule 8: locks and payments are taken only with a fresh head and on a channel that is open there.
    pub fn may_take(&self, open: bool, head_age: u64, policy: &Policy) -> bool {
        (open && head_age <= policy.max_head_age) || !self.keeps(Rule::OpenOnly)
    }

    /// After a loss of data: a lock of the peer may have gone on or failed, so only its preimage or its death decide it.
    pub fn marks_recovered(&self) -> bool {
        self.keeps(Rule::RecoveredLocks)
    }

    /// Rule 9: above the limit a tower holds the half of version `needed`, or a later one, before anything is built on it.
    /// `step` says what is to be built: one of the four `Guarded…` rules.
    pub fn may_build_on(
        &self,
        step: Rule,
        amount: u128,
        needed: Version,
        guarded: Version,
        policy: &Policy,
    ) -> bool {
        guarded >= needed || !policy.is_guarded(amount) || !self.keeps(step)
    }

    /// Rule 8: a forward has the same hash and the same expiry and leaves the fee.
    pub fn may_forward(&self, incoming: &Lock, outgoing: &Lock, policy: &Policy) -> bool {
        let same_expiry = outgoing.expiry == incoming.expiry || !self.keeps(Rule::SameExpiry);
        let out = outgoing.amount.get();
        incoming.hash == outgoing.hash
            && same_expiry
            && out
                .checked_add(policy.fee(out))
                .is_some_and(|needed| incoming.amount.get() >= needed)
    }
}

//! What a channel can carry in one direction, learnt from payments: bounds that fade.
//!
//! A payment that passed a channel shows that it can carry that much; one that failed there, that it cannot. Both fade to ignorance, by
//! half every half hour. Between the bounds every amount is equally likely.

use crate::machine::payment::reason;
use crate::onion::Failure;
use crate::types::{ChannelId, Side, Timestamp};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// Bounds fade by half in this time, seconds.
pub const HALF_LIFE_SECS: u64 = 1800;
/// A direction that failed for another reason than its balance is not used for this long, seconds.
pub const AVOID_SECS: u64 = 600;
/// Most directions that are remembered.
const MAX_DIRECTIONS: usize = 100_000;
/// Certainty, in millionths.
pub const CERTAIN: u32 = 1_000_000;

/// A way through a channel, named by the side that pays.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Direction {
    /// Which channel.
    pub channel: ChannelId,
    /// Who sends.
    pub from: Side,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
struct Bounds {
    /// This much passed.
    can: u128,
    /// This much did not; none if nothing failed.
    cannot: Option<u128>,
    learnt: Timestamp,
    avoid_until: Timestamp,
}

/// What payments have taught.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Liquidity {
    bounds: BTreeMap<Direction, Bounds>,
}

/// A channel of a route, with what crossed it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Crossing {
    /// Which way.
    pub direction: Direction,
    /// How much.
    pub amount: u128,
}

/// Whether another try can help.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// On another way.
    Retry,
    /// The payee does not want it, or it was paid.
    GiveUp,
}

/// An amount that fades to zero.
fn faded(amount: u128, age: u64) -> u128 {
    let halvings = age / HALF_LIFE_SECS;
    if halvings >= 128 {
        return 0;
    }
    let whole = amount >> halvings;
    // Straight from one half to the next.
    let part = u128::from(age % HALF_LIFE_SECS);
    whole - whole / 2 / u128::from(HALF_LIFE_SECS) * part
}

impl Liquidity {
    fn bounds_at(&self, direction: &Direction, capacity: u128, now: Timestamp) -> (u128, u128) {
        let Some(bounds) = self.bounds.get(direction) else {
            return (0, capacity);
        };
        let age = now.saturating_sub(bounds.learnt);
        let can = faded(bounds.can, age).min(capacity);
        let cannot = bounds
            .cannot
            .map_or(capacity, |cannot| {
                capacity - faded(capacity.saturating_sub(cannot), age)
            })
            .max(can);
        (can, cannot)
    }

    /// How likely a direction of a channel carries an amount, in millionths; 0 if it should not be tried.
    pub fn probability(
        &self,
        direction: &Direction,
        amount: u128,
        capacity: u128,
        now: Timestamp,
    ) -> u32 {
        let avoided = self
            .bounds
            .get(direction)
            .is_some_and(|bounds| now < bounds.avoid_until);
        if avoided || amount > capacity {
            return 0;
        }
        let (can, cannot) = self.bounds_at(direction, capacity, now);
        if amount <= can {
            return CERTAIN;
        }
        if amount >= cannot && cannot < capacity {
            return 0;
        }
        // Both differences are below 2^100, a million is below 2^20.
        let width = (cannot - can + 1).max(1);
        let chance = cannot.saturating_sub(amount).saturating_add(1) * u128::from(CERTAIN) / width;
        (chance as u32).clamp(1, CERTAIN)
    }

    fn change(
        &mut self,
        direction: Direction,
        now: Timestamp,
        capacity: u128,
        change: impl FnOnce(&mut Bounds),
    ) {
        let (can, cannot) = self.bounds_at(&direction, capacity, now);
        let avoid_until = self
            .bounds
            .get(&direction)
            .map_or(0, |bounds| bounds.avoid_until);
        let mut bounds = Bounds {
            can,
            cannot: (cannot < capacity).then_some(cannot),
            learnt: now,
            avoid_until,
        };
        change(&mut bounds);
        self.bounds.insert(direction, bounds);
        if self.bounds.len() > MAX_DIRECTIONS {
            self.forget_oldest();
        }
    }

    fn forget_oldest(&mut self) {
        let oldest = self
            .bounds
            .iter()
            .min_by_key(|(_, bounds)| bounds.learnt)
            .map(|(direction, _)| *direction);
        if let Some(direction) = oldest {
            self.bounds.remove(&direction);
        }
    }

    fn could(&mut self, crossing: &Crossing, capacity: u128, now: Timestamp) {
        self.change(crossing.direction, now, capacity, |bounds| {
            bounds.can = bounds.can.max(crossing.amount);
            bounds.cannot = bounds.cannot.filter(|cannot| *cannot > bounds.can);
        });
    }

    fn could_not(&mut self, crossing: &Crossing, capacity: u128, now: Timestamp) {
        self.change(crossing.direction, now, capacity, |bounds| {
            let cannot = bounds
                .cannot
                .map_or(crossing.amount, |old| old.min(crossing.amount));
            bounds.cannot = Some(cannot);
            bounds.can = bounds.can.min(cannot.saturating_sub(1));
        });
    }

    fn avoid(&mut self, crossing: &Crossing, capacity: u128, now: Timestamp) {
        self.change(crossing.direction, now, capacity, |bounds| {
            bounds.avoid_until = now.saturating_add(AVOID_SECS);
        });
    }

    /// A part was paid: its amount has moved from this direction to the other.
    pub fn paid(
        &mut self,
        route: &[Crossing],
        capacity: impl Fn(&ChannelId) -> u128,
        now: Timestamp,
    ) {
        for crossing in route {
            let capacity = capacity(&crossing.direction.channel);
            let amount = crossing.amount;
            self.change(crossing.direction, now, capacity, |bounds| {
                bounds.can = bounds.can.saturating_sub(amount);
                bounds.cannot = bounds.cannot.map(|cannot| cannot.saturating_sub(amount));
            });
            let back = Direction {
                from: crossing.direction.from.other(),
                ..crossing.direction
            };
            self.change(back, now, capacity, |bounds| {
                bounds.can = bounds.can.saturating_add(amount).min(capacity);
                bounds.cannot = bounds
                    .cannot
                    .map(|cannot| cannot.saturating_add(amount))
                    .filter(|cannot| *cannot < capacity);
            });
        }
    }

    /// A part failed at a hop; the first crossing is our own channel. None: some node altered the reason, nobody knows which.
    pub fn failed(
        &mut self,
        route: &[Crossing],
        failure: Option<&Failure>,
        capacity: impl Fn(&ChannelId) -> u128,
        now: Timestamp,
    ) -> Verdict {
        let Some(failure) = failure else {
            // Somebody between us and the payee; avoiding all but our own channel and the payee's ends it somewhere.
            for crossing in route.iter().skip(1) {
                self.avoid(crossing, capacity(&crossing.direction.channel), now);
            }
            return Verdict::Retry;
        };
        for crossing in route.iter().take(failure.hop + 1) {
            self.could(crossing, capacity(&crossing.direction.channel), now);
        }
        let at = |index: usize| route.get(index).copied();
        let next = at(failure.hop + 1);
        match failure.code {
            reason::UNKNOWN_PAYMENT | reason::KNOWN_HASH | reason::CANCELLED => {
                return Verdict::GiveUp;
            }
            reason::PARTS => {}
            reason::NEXT_CHANNEL => {
                if let Some(next) = next {
                    self.could_not(&next, capacity(&next.direction.channel), now);
                }
            }
            // The node itself could not read or did not like its layer: its own channel is in front of it.
            reason::BAD_ONION | reason::EXPIRY if next.is_none() => {
                if let Some(last) = at(failure.hop) {
                    self.avoid(&last, capacity(&last.direction.channel), now);
                }
            }
            _ => {
                if let Some(crossing) = next.or(at(failure.hop)) {
                    self.avoid(&crossing, capacity(&crossing.direction.channel), now);
                }
            }
        }
        Verdict::Retry
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::types::PublicKey;

    const WAY: Direction = Direction {
        channel: ChannelId([1; 32]),
        from: Side::A,
    };
    const NEXT: Direction = Direction {
        channel: ChannelId([2; 32]),
        from: Side::A,
    };

    fn route(amount: u128) -> [Crossing; 2] {
        [WAY, NEXT].map(|direction| Crossing { direction, amount })
    }

    fn failure(hop: usize, code: u8) -> Failure {
        Failure {
            hop,
            node: PublicKey([2; 33]),
            code,
        }
    }

    #[test]
    fn the_unknown_is_likelier_the_smaller() {
        let empty = Liquidity::default();
        let chance = |amount| empty.probability(&WAY, amount, 1000, 0);
        assert_eq!(chance(0), CERTAIN);
        assert!(chance(100) > chance(500) && chance(500) > chance(999));
        assert!(chance(1000) > 0);
        assert_eq!(chance(1001), 0);
    }

    #[test]
    fn failures_and_passes_bound_it_and_fade() {
        let mut known = Liquidity::default();
        let failed = failure(0, reason::NEXT_CHANNEL);
        let verdict = known.failed(&route(500), Some(&failed), |_| 1000, 0);
        assert_eq!(verdict, Verdict::Retry);
        assert_eq!(known.probability(&WAY, 500, 1000, 0), CERTAIN);
        assert_eq!(known.probability(&NEXT, 500, 1000, 0), 0);
        assert!(known.probability(&NEXT, 499, 1000, 0) > 0);
        let later = 3 * HALF_LIFE_SECS;
        assert!(known.probability(&NEXT, 500, 1000, later) > 0);
        assert!(known.probability(&WAY, 500, 1000, later) < CERTAIN);
        // Far later it is as if nothing had happened.
        let empty = Liquidity::default();
        for amount in [0, 1, 499, 500, 1000] {
            assert_eq!(
                known.probability(&NEXT, amount, 1000, 200 * HALF_LIFE_SECS),
                empty.probability(&NEXT, amount, 1000, 0)
            );
        }
    }

    #[test]
    fn what_was_paid_can_come_back() {
        let mut known = Liquidity::default();
        known.paid(&route(300), |_| 1000, 0);
        let back = Direction {
            from: Side::B,
            ..WAY
        };
        assert_eq!(known.probability(&back, 300, 1000, 0), CERTAIN);
        assert!(known.probability(&back, 301, 1000, 0) < CERTAIN);
    }

    #[test]
    fn other_failures_avoid_the_channel_for_a_while() {
        let mut known = Liquidity::default();
        known.failed(&route(5), Some(&failure(0, reason::AMOUNT)), |_| 1000, 0);
        assert_eq!(known.probability(&NEXT, 5, 1000, AVOID_SECS - 1), 0);
        assert!(known.probability(&NEXT, 5, 1000, AVOID_SECS) > 0);
        assert_eq!(known.failed(&route(5), None, |_| 1000, 0), Verdict::Retry);
        for code in [reason::UNKNOWN_PAYMENT, reason::KNOWN_HASH] {
            let verdict = known.failed(&route(5), Some(&failure(1, code)), |_| 1000, 0);
            assert_eq!(verdict, Verdict::GiveUp);
        }
    }
}

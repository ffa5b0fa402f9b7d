//! What to do about a transaction, given what L1 shows: pure.
//!
//! | seen | decision |
//! |---|---|
//! | receipt, deep enough | done, or reverted |
//! | receipt, not deep yet | wait |
//! | nonce used by another, deep enough | sign again with a new nonce |
//! | nonce used by another, not deep yet | wait: a reorg may give the nonce back |
//! | the node does not know the transaction | send the same bytes again |
//! | it waits for long | pay more |
//! | it waits for too long | give up; the record stays |

use super::store::Record;
use serde::{Deserialize, Serialize};

/// A replacement pays this much of the old fees, in thousandths: nodes ask for an eighth more at most.
pub const BUMP_THOUSANDTHS: u128 = 1125;

/// Fees of EIP-1559, in wei per gas.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Fees {
    /// The most that is paid in all.
    pub max_fee: u128,
    /// The most that goes to the block's producer.
    pub priority_fee: u128,
}

impl Fees {
    /// No more than `limit` in all.
    pub fn capped(self, limit: u128) -> Self {
        let max_fee = self.max_fee.min(limit);
        Self {
            max_fee,
            priority_fee: self.priority_fee.min(max_fee),
        }
    }

    /// Fees that replace these and follow the market; none if the limit forbids it.
    pub fn bumped(self, market: Fees, limit: u128) -> Option<Self> {
        let least = Self {
            max_fee: bump(self.max_fee),
            priority_fee: bump(self.priority_fee),
        };
        let wanted = Self {
            max_fee: least.max_fee.max(market.max_fee),
            priority_fee: least.priority_fee.max(market.priority_fee),
        };
        let fees = wanted.capped(limit);
        (fees.max_fee >= least.max_fee && fees.priority_fee >= least.priority_fee).then_some(fees)
    }
}

fn bump(fee: u128) -> u128 {
    fee.saturating_mul(BUMP_THOUSANDTHS)
        .div_ceil(1000)
        .max(fee.saturating_add(1))
}

/// Patience and limits.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Policy {
    /// Blocks that hold the transaction or follow it before it counts as landed, at least 1.
    pub confirmations: u64,
    /// Seconds without being mined after which more is paid.
    pub bump_after_secs: u64,
    /// How often a transaction is signed with other fees.
    pub max_attempts: usize,
    /// How often a lost nonce is replaced by a new one.
    pub max_new_nonces: u32,
    /// The most that is paid, in wei per gas.
    pub max_fee_per_gas: u128,
    /// Seconds after which an unmined transaction is given up.
    pub give_up_after_secs: u64,
    /// Seconds of silence from L1 that are borne.
    pub silence_limit_secs: u64,
}

impl Default for Policy {
    fn default() -> Self {
        Self {
            confirmations: 1,
            bump_after_secs: 45,
            max_attempts: 20,
            max_new_nonces: 5,
            max_fee_per_gas: 500_000_000_000,
            give_up_after_secs: 3600,
            silence_limit_secs: 300,
        }
    }
}

/// Where a transaction was mined.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Mined {
    /// Block number.
    pub block: u64,
    /// Whether it did what it should.
    pub success: bool,
}

/// What L1 shows about a record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Seen {
    /// Unix time in seconds.
    pub now: u64,
    /// When the transaction began to be followed by this process.
    pub since: u64,
    /// Number of the newest block.
    pub height: u64,
    /// The account's next nonce at the newest block.
    pub latest_nonce: u64,
    /// The account's next nonce as deep as a transaction must be to count as landed.
    pub buried_nonce: u64,
    /// The receipt of one of the attempts.
    pub mined: Option<Mined>,
    /// Whether the node knows the newest attempt.
    pub known: bool,
    /// What the market pays.
    pub market: Fees,
}

/// What to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Decision {
    /// Look again later.
    Wait,
    /// It landed.
    Done,
    /// It landed and failed.
    Reverted,
    /// Send the same bytes again.
    Resend,
    /// Sign with these fees and send.
    Bump(Fees),
    /// The nonce is lost for good: take a new one.
    NewNonce,
    /// Stop waiting.
    GiveUp,
}

/// Decides.
pub fn decide(record: &Record, seen: &Seen, policy: &Policy) -> Decision {
    if let Some(mined) = seen.mined {
        return landed(mined, seen, policy);
    }
    if seen.latest_nonce > record.nonce {
        return nonce_lost(record, seen, policy);
    }
    waiting(record, seen, policy)
}

fn landed(mined: Mined, seen: &Seen, policy: &Policy) -> Decision {
    let depth = (seen.height + 1).saturating_sub(mined.block);
    match (depth >= policy.confirmations, mined.success) {
        (false, _) => Decision::Wait,
        (true, true) => Decision::Done,
        (true, false) => Decision::Reverted,
    }
}

fn nonce_lost(record: &Record, seen: &Seen, policy: &Policy) -> Decision {
    if seen.buried_nonce <= record.nonce {
        return Decision::Wait;
    }
    if record.replacements > policy.max_new_nonces {
        return Decision::GiveUp;
    }
    Decision::NewNonce
}

fn waiting(record: &Record, seen: &Seen, policy: &Policy) -> Decision {
    let Some(last) = record.attempts.last() else {
        return Decision::Bump(seen.market.capped(policy.max_fee_per_gas));
    };
    if seen.now.saturating_sub(seen.since) >= policy.give_up_after_secs {
        return Decision::GiveUp;
    }
    let due = seen.now.saturating_sub(last.sent_at) >= policy.bump_after_secs;
    if due
        && record.attempts.len() < policy.max_attempts
        && let Some(fees) = last.fees.bumped(seen.market, policy.max_fee_per_gas)
    {
        return Decision::Bump(fees);
    }
    if seen.known {
        Decision::Wait
    } else {
        Decision::Resend
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sender::{Attempt, Call};
    use alloy::primitives::{Address, B256, Bytes, U256};
    use proptest::prelude::*;

    const MARKET: Fees = Fees {
        max_fee: 100,
        priority_fee: 10,
    };

    fn record(sent_at: &[u64]) -> Record {
        let call = Call::new(Address::ZERO, U256::ZERO, Bytes::new());
        let mut record = Record::new("id", 7, &call, 21_000, 0);
        for (index, sent_at) in sent_at.iter().enumerate() {
            let fees = Fees {
                max_fee: 100 << index,
                priority_fee: 10 << index,
            };
            record.attempts.push(Attempt {
                hash: B256::ZERO,
                fees,
                raw: Bytes::new(),
                sent_at: *sent_at,
            });
        }
        record
    }

    fn seen(now: u64) -> Seen {
        Seen {
            now,
            since: 0,
            height: 50,
            latest_nonce: 7,
            buried_nonce: 7,
            mined: None,
            known: true,
            market: MARKET,
        }
    }

    fn policy() -> Policy {
        Policy {
            confirmations: 3,
            max_attempts: 3,
            ..Policy::default()
        }
    }

    #[test]
    fn a_receipt_counts_when_it_is_deep_enough() {
        for (block, success, expected) in [
            (50, true, Decision::Wait),
            (49, true, Decision::Wait),
            (48, true, Decision::Done),
            (48, false, Decision::Reverted),
            (50, false, Decision::Wait),
        ] {
            let seen = Seen {
                mined: Some(Mined { block, success }),
                latest_nonce: 8,
                ..seen(0)
            };
            assert_eq!(
                decide(&record(&[0]), &seen, &policy()),
                expected,
                "block {block}"
            );
        }
    }

    #[test]
    fn a_lost_nonce_is_replaced_only_when_it_is_buried() {
        let lost = Seen {
            latest_nonce: 8,
            ..seen(0)
        };
        assert_eq!(decide(&record(&[0]), &lost, &policy()), Decision::Wait);
        let buried = Seen {
            buried_nonce: 8,
            ..lost
        };
        assert_eq!(
            decide(&record(&[0]), &buried, &policy()),
            Decision::NewNonce
        );
        let often = Record {
            replacements: 6,
            ..record(&[0])
        };
        assert_eq!(decide(&often, &buried, &policy()), Decision::GiveUp);
    }

    #[test]
    fn a_forgotten_transaction_is_sent_again_unchanged() {
        let seen = Seen {
            known: false,
            ..seen(1)
        };
        assert_eq!(decide(&record(&[0]), &seen, &policy()), Decision::Resend);
    }

    #[test]
    fn fees_rise_after_a_while_and_a_bounded_number_of_times() {
        assert_eq!(decide(&record(&[0]), &seen(44), &policy()), Decision::Wait);
        let bumped = Fees {
            max_fee: 113,
            priority_fee: 12,
        };
        assert_eq!(
            decide(&record(&[0]), &seen(45), &policy()),
            Decision::Bump(bumped)
        );
        assert_eq!(
            decide(&record(&[0, 45, 90]), &seen(500), &policy()),
            Decision::Wait
        );
        assert_eq!(
            decide(&record(&[0, 45, 90]), &seen(3600), &policy()),
            Decision::GiveUp
        );
    }

    #[test]
    fn the_market_leads_when_it_is_higher() {
        let market = Fees {
            max_fee: 900,
            priority_fee: 1,
        };
        let seen = Seen { market, ..seen(45) };
        assert_eq!(
            decide(&record(&[0]), &seen, &policy()),
            Decision::Bump(Fees {
                max_fee: 900,
                priority_fee: 12
            })
        );
    }

    #[test]
    fn the_limit_stops_a_bump() {
        let low = Policy {
            max_fee_per_gas: 112,
            ..policy()
        };
        assert_eq!(decide(&record(&[0]), &seen(45), &low), Decision::Wait);
    }

    proptest! {
        /// Every bump satisfies the strictest node and the limit.
        #[test]
        fn bumps_replace(max in 0u128..1 << 90, priority in 0u128..1 << 90, market in 0u128..1 << 90, limit in 0u128..1 << 91) {
            let old = Fees { max_fee: max.max(priority), priority_fee: priority };
            let market = Fees { max_fee: market, priority_fee: market / 2 };
            if let Some(new) = old.bumped(market, limit) {
                prop_assert!(new.max_fee <= limit && new.priority_fee <= new.max_fee);
                prop_assert!(new.max_fee * 1000 >= old.max_fee * 1125);
                prop_assert!(new.priority_fee * 1000 >= old.priority_fee * 1125);
            }
        }
    }
}

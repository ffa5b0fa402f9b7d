//! What time the next block has.
//!
//! Time never goes back. It may stand still: many blocks mined within one second share its timestamp, so the chain's clock
//! does not run ahead of the wall's, as it would if each block had to be later than the one before.

use super::error::DevChainError;
use serde::{Deserialize, Serialize};
use std::time::{SystemTime, UNIX_EPOCH};

/// Where time comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum TimeSource {
    /// The machine's clock, plus what `evm_increaseTime` added.
    Wall,
    /// Nothing outside: each block is this many seconds after the one before. For runs that must repeat exactly.
    Steps(u64),
}

/// The chain's clock.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Clock {
    source: TimeSource,
    /// Seconds that the chain is ahead of the wall.
    ahead_secs: i64,
    /// Seconds to add to the next block, where time comes in steps.
    advance_secs: u64,
    /// The next block's time, when it was set by hand.
    exact: Option<u64>,
}

impl Clock {
    /// A clock that shows what its source shows.
    pub fn new(source: TimeSource) -> Self {
        Self {
            source,
            ahead_secs: 0,
            advance_secs: 0,
            exact: None,
        }
    }

    /// The time that a block after `parent_time` would have now.
    pub fn peek(&self, parent_time: u64) -> u64 {
        let time = self.exact.unwrap_or_else(|| match self.source {
            TimeSource::Wall => wall_secs().saturating_add_signed(self.ahead_secs),
            TimeSource::Steps(step) => parent_time
                .saturating_add(step)
                .saturating_add(self.advance_secs),
        });
        time.max(parent_time)
    }

    /// The time of the block that is mined now; what was set for one block is used up.
    pub fn take(&mut self, parent_time: u64) -> u64 {
        let time = self.peek(parent_time);
        if self.exact.take().is_some() && self.source == TimeSource::Wall {
            self.ahead_secs = time as i64 - wall_secs() as i64;
        }
        self.advance_secs = 0;
        time
    }

    /// Moves time forward for all coming blocks and returns by how much the chain is ahead in total.
    pub fn increase(&mut self, secs: u64) -> u64 {
        let by = i64::try_from(secs).unwrap_or(i64::MAX);
        self.ahead_secs = self.ahead_secs.saturating_add(by);
        self.advance_secs = self.advance_secs.saturating_add(secs);
        self.ahead_secs.unsigned_abs()
    }

    /// Fixes the next block's time; later blocks go on from there.
    pub fn set_next(&mut self, time: u64, parent_time: u64) -> Result<(), DevChainError> {
        if time < parent_time {
            return Err(DevChainError::TimeGoesBack {
                head: parent_time,
                wanted: time,
            });
        }
        self.exact = Some(time);
        Ok(())
    }

    /// The time of a genesis block made now.
    pub fn genesis(&self) -> u64 {
        match self.source {
            TimeSource::Wall => wall_secs(),
            TimeSource::Steps(_) => GENESIS_TIME,
        }
    }
}

/// Genesis time of a chain that does not look at the wall's clock: 2026-01-01T00:00:00Z.
pub const GENESIS_TIME: u64 = 1_767_225_600;

fn wall_secs() -> u64 {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map(|time| time.as_secs())
        .unwrap_or_default()
}

//! What happened on L1, in order, through reorgs.
//!
//! ```text
//! followed blocks ─ newest still on the chain? ─ no → Reorg { to_block }: forget what is after it
//!        │ yes
//!        ├ far behind → logs of a range of blocks → blocks with logs, and the range's last
//!        └ near the head → block by block, each the child of the one before
//! ```
//!
//! The stream yields `Block` with its logs, or `Reorg` when blocks that it yielded are no longer on the chain. Whoever
//! applies blocks and undoes them down to `to_block` on a `Reorg` has the state of the chain. A saved list of followed
//! blocks resumes the stream; blocks that were dropped in the meantime show as a `Reorg`.
//!
//! With a confirmation depth the stream stays that many blocks behind the head, or behind the chain's own `safe` or
//! `finalized` block: it then yields a `Reorg` only if one is deeper.

pub mod range;

use crate::provider::{L1Provider, explain, is_connection_fault};
use alloy::{
    eips::BlockNumberOrTag,
    primitives::{Address, B256},
    providers::Provider,
    rpc::types::{Filter, Header, Log},
    transports::TransportError,
};
use serde::{Deserialize, Serialize};
use std::{
    collections::{BTreeMap, VecDeque},
    time::Duration,
};
use thiserror::Error;

/// How often a changing chain is looked at again before the stream waits for it to settle.
const RETRY_LIMIT: u32 = 16;
/// How long a stream that meets connection faults waits at most between attempts.
const LONGEST_BACKOFF: Duration = Duration::from_secs(30);

/// A block's place and name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct BlockRef {
    /// Block number.
    pub number: u64,
    /// Block hash.
    pub hash: B256,
}

/// A block with the logs that were asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct L1Block {
    /// Its place and name.
    pub block: BlockRef,
    /// Seconds since 1970.
    pub timestamp: u64,
    /// Logs of the followed addresses, in order.
    pub logs: Vec<Log>,
}

/// What the stream yields.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum L1Event {
    /// The next block with logs, or a block without, which shows how far the stream is. Blocks in between have no logs.
    Block(L1Block),
    /// Blocks after this one that were yielded are no longer on the chain.
    Reorg {
        /// The newest yielded block that still is; the start point if none.
        to_block: BlockRef,
    },
}

/// When a block is settled enough to be yielded.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Confirmation {
    /// As soon as this many blocks follow it; 0 is at once.
    Depth(u64),
    /// When the chain's consensus calls it safe.
    Safe,
    /// When the chain's consensus calls it final.
    Finalized,
}

/// What is followed, and how.
#[derive(Clone, Debug)]
pub struct EventConfig {
    /// Contracts whose logs are wanted.
    pub addresses: Vec<Address>,
    /// The first block of interest: where the contract was deployed.
    pub start_block: u64,
    /// When a block is yielded.
    pub confirmation: Confirmation,
    /// How far from the head blocks are read one by one; what is deeper is read by ranges.
    pub near_head: u64,
    /// How many blocks one query for logs covers at most.
    pub max_range: u64,
    /// How many followed blocks are remembered: no reorg deeper than these can be undone.
    pub history: usize,
}

impl EventConfig {
    /// The defaults for one contract.
    pub fn new(address: Address, start_block: u64) -> Self {
        Self {
            addresses: vec![address],
            start_block,
            confirmation: Confirmation::Depth(0),
            near_head: 64,
            max_range: 2000,
            history: 4096,
        }
    }
}

/// Why the stream cannot go on.
#[derive(Debug, Error)]
pub enum EventError {
    /// The endpoint does not answer. The stream can be asked again.
    #[error("reading L1 {what}: {cause}")]
    Connection {
        /// What was asked for.
        what: &'static str,
        /// What went wrong.
        cause: String,
    },
    /// The endpoint refuses a query that cannot be made smaller.
    #[error(
        "the L1 endpoint refuses {what} of block {block}: {cause}: use an endpoint that serves logs"
    )]
    Refused {
        /// What was asked for.
        what: &'static str,
        /// The block.
        block: u64,
        /// What it says.
        cause: String,
    },
    /// No remembered block is on the chain any more.
    #[error(
        "the L1 chain changed below block {oldest}, the oldest that is remembered: restore the state from L1"
    )]
    ReorgTooDeep {
        /// The oldest remembered block.
        oldest: u64,
    },
    /// The chain changed each time it was looked at.
    #[error("the L1 chain keeps changing around block {0}: is the endpoint one node?")]
    Unsettled(u64),
    /// A saved list is not in ascending order, or begins before the start block.
    #[error("saved L1 blocks are out of order at block {0}")]
    SavedOutOfOrder(u64),
}

impl EventError {
    /// Whether asking again later may help.
    pub fn is_temporary(&self) -> bool {
        matches!(self, Self::Connection { .. } | Self::Unsettled(_))
    }
}

/// Follows L1.
#[derive(Debug)]
pub struct EventStream {
    l1: L1Provider,
    config: EventConfig,
    /// Yielded blocks that are on the chain as far as is known, oldest first.
    followed: VecDeque<BlockRef>,
    /// Whether blocks older than `followed` were yielded.
    forgotten: bool,
    /// What is found and not yet yielded.
    ready: VecDeque<L1Event>,
}

impl EventStream {
    /// A stream from the configuration's start block.
    pub fn new(l1: L1Provider, config: EventConfig) -> Self {
        Self {
            l1,
            config,
            followed: VecDeque::new(),
            forgotten: false,
            ready: VecDeque::new(),
        }
    }

    /// A stream that goes on after blocks that were yielded before, oldest first, as `followed` gave them.
    pub fn resume(
        l1: L1Provider,
        config: EventConfig,
        saved: Vec<BlockRef>,
    ) -> Result<Self, EventError> {
        if let Some(pair) = saved
            .windows(2)
            .find(|pair| pair[0].number >= pair[1].number)
        {
            return Err(EventError::SavedOutOfOrder(pair[1].number));
        }
        if let Some(first) = saved
            .first()
            .filter(|first| first.number < config.start_block)
        {
            return Err(EventError::SavedOutOfOrder(first.number));
        }
        // A list that does not reach back to the start has been cut.
        let forgotten = saved.len() >= config.history;
        Ok(Self {
            l1,
            config,
            followed: saved.into(),
            forgotten,
            ready: VecDeque::new(),
        })
    }

    /// The yielded blocks that are remembered, oldest first: save these to resume. What was found but not yet yielded is not
    /// among them.
    pub fn followed(&self) -> Vec<BlockRef> {
        let unyielded = self
            .ready
            .iter()
            .filter(|event| matches!(event, L1Event::Block(_)))
            .count();
        self.followed
            .iter()
            .take(self.followed.len() - unyielded)
            .copied()
            .collect()
    }

    /// The next event; waits for it.
    ///
    /// Connection faults are waited out. Only what cannot pass by itself is an error.
    ///
    /// # Cancel safety
    /// An event that is not returned is returned by the next call.
    pub async fn next(&mut self) -> Result<L1Event, EventError> {
        let mut backoff = self.l1.poll_interval();
        loop {
            match self.try_next().await {
                Ok(Some(event)) => return Ok(event),
                Ok(None) => backoff = self.l1.poll_interval(),
                Err(error) if error.is_temporary() => {
                    tracing::warn!(%error, wait_ms = backoff.as_millis() as u64, "L1 events are delayed");
                    backoff = (backoff * 2).min(LONGEST_BACKOFF);
                }
                Err(error) => return Err(error),
            }
            tokio::time::sleep(backoff).await;
        }
    }

    /// The next event, or none if the stream is as far as it may be.
    ///
    /// # Cancel safety
    /// An event that is not returned is returned by the next call.
    pub async fn try_next(&mut self) -> Result<Option<L1Event>, EventError> {
        for _ in 0..RETRY_LIMIT {
            if let Some(event) = self.ready.pop_front() {
                return Ok(Some(event));
            }
            match self.advance().await? {
                Step::Found => {}
                Step::Changed => tokio::time::sleep(self.l1.poll_interval()).await,
                Step::UpToDate => return Ok(None),
            }
        }
        Err(EventError::Unsettled(self.next_number()))
    }

    fn next_number(&self) -> u64 {
        self.followed
            .back()
            .map_or(self.config.start_block, |newest| newest.number + 1)
    }

    /// Looks once: for a reorg, then for what is new.
    async fn advance(&mut self) -> Result<Step, EventError> {
        if let Some(to_block) = self.find_reorg().await? {
            self.ready.push_back(L1Event::Reorg { to_block });
            return Ok(Step::Found);
        }
        let head = self.l1.provider().get_block_number().await;
        let head = head.map_err(|error| failed("the newest block", &error))?;
        let from = self.next_number();
        let Some(target) = self.target(head).await?.filter(|target| *target >= from) else {
            return Ok(Step::UpToDate);
        };
        let far = head.saturating_sub(self.config.near_head);
        if from < far {
            let to = target.min(far).min(from + self.config.max_range.max(1) - 1);
            return self.read_range(from, to).await;
        }
        self.read_one(from).await
    }

    /// The newest block that may be yielded.
    async fn target(&self, head: u64) -> Result<Option<u64>, EventError> {
        let tag = match self.config.confirmation {
            Confirmation::Depth(depth) => return Ok(head.checked_sub(depth)),
            Confirmation::Safe => BlockNumberOrTag::Safe,
            Confirmation::Finalized => BlockNumberOrTag::Finalized,
        };
        let block = self.l1.provider().get_block_by_number(tag).await;
        let block = block.map_err(|error| failed("the newest settled block", &error))?;
        // A young chain has no such block yet.
        Ok(block.map(|block| block.header.number))
    }

    /// The newest followed block that is on the chain, if it is not the newest followed one.
    async fn find_reorg(&mut self) -> Result<Option<BlockRef>, EventError> {
        let Some(newest) = self.followed.back().copied() else {
            return Ok(None);
        };
        if self.is_on_chain(newest).await? {
            return Ok(None);
        }
        // Nothing changes in `followed` until the answer is known, so a cancelled call leaves the stream as it was.
        for keep in (0..self.followed.len() - 1).rev() {
            let candidate = self.followed[keep];
            if self.is_on_chain(candidate).await? {
                self.followed.truncate(keep + 1);
                return Ok(Some(candidate));
            }
        }
        if self.forgotten {
            return Err(EventError::ReorgTooDeep {
                oldest: self.followed.front().map_or(0, |oldest| oldest.number),
            });
        }
        self.followed.clear();
        Ok(Some(BlockRef {
            number: self.config.start_block.saturating_sub(1),
            hash: B256::ZERO,
        }))
    }

    async fn is_on_chain(&self, block: BlockRef) -> Result<bool, EventError> {
        Ok(self
            .header(block.number)
            .await?
            .is_some_and(|header| header.hash == block.hash))
    }

    async fn header(&self, number: u64) -> Result<Option<Header>, EventError> {
        let block = self
            .l1
            .provider()
            .get_block_by_number(BlockNumberOrTag::Number(number))
            .await;
        Ok(block
            .map_err(|error| failed("a block", &error))?
            .map(|block| block.header))
    }

    /// Reads one block, which must be the child of the newest followed one.
    async fn read_one(&mut self, number: u64) -> Result<Step, EventError> {
        let Some(header) = self.header(number).await? else {
            return Ok(Step::Changed);
        };
        let parent = self
            .followed
            .back()
            .filter(|parent| parent.number + 1 == number);
        if parent.is_some_and(|parent| parent.hash != header.inner.parent_hash) {
            return Ok(Step::Changed);
        }
        let filter = self.filter().at_block_hash(header.hash);
        let logs = match self.l1.provider().get_logs(&filter).await {
            Ok(logs) => logs,
            Err(error) if is_connection_fault(&error) => return Err(failed("logs", &error)),
            // A block that has just been dropped is unknown.
            Err(_)
                if self
                    .header(number)
                    .await?
                    .is_none_or(|now| now.hash != header.hash) =>
            {
                return Ok(Step::Changed);
            }
            Err(error) => {
                return Err(EventError::Refused {
                    what: "logs",
                    block: number,
                    cause: explain(&error),
                });
            }
        };
        self.found(L1Block {
            block: BlockRef {
                number,
                hash: header.hash,
            },
            timestamp: header.inner.timestamp,
            logs,
        });
        Ok(Step::Found)
    }

    /// Reads a range of old blocks: those with logs, and the last.
    async fn read_range(&mut self, from: u64, to: u64) -> Result<Step, EventError> {
        let (to, logs) = range::logs(self.l1.provider(), &self.filter(), from, to).await?;
        let mut by_block: BTreeMap<u64, Vec<Log>> = BTreeMap::from([(to, vec![])]);
        for log in logs {
            by_block
                .entry(log.block_number.unwrap_or(to))
                .or_default()
                .push(log);
        }
        let mut blocks = vec![];
        for (number, logs) in by_block {
            let Some(header) = self.header(number).await? else {
                return Ok(Step::Changed);
            };
            if logs.iter().any(|log| log.block_hash != Some(header.hash)) {
                return Ok(Step::Changed);
            }
            blocks.push(L1Block {
                block: BlockRef {
                    number,
                    hash: header.hash,
                },
                timestamp: header.inner.timestamp,
                logs,
            });
        }
        blocks.into_iter().for_each(|block| self.found(block));
        Ok(Step::Found)
    }

    fn found(&mut self, block: L1Block) {
        self.followed.push_back(block.block);
        if self.followed.len() > self.config.history {
            self.followed.pop_front();
            self.forgotten = true;
        }
        self.ready.push_back(L1Event::Block(block));
    }

    fn filter(&self) -> Filter {
        Filter::new().address(self.config.addresses.clone())
    }
}

enum Step {
    /// Something is ready.
    Found,
    /// The chain changed meanwhile: look again.
    Changed,
    /// Nothing is new.
    UpToDate,
}

fn failed(what: &'static str, error: &TransportError) -> EventError {
    EventError::Connection {
        what,
        cause: explain(error),
    }
}

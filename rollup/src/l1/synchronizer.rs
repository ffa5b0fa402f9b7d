//! Following L1: the request queue, and how far batches have come, through reorgs.
//!
//! ```text
//! cursor (block, hash) ─ still on the chain? ─ no → back to the fork, take back what stood above it
//!                      └ yes → logs of the next blocks → requests, commits (from calldata), proofs, drops → engine → cursor
//! ```
//!
//! Commits and proofs count at once, for they are this node's own work; requests count, and batches become final, at the
//! configured depth. The cursor is stored: an event is handled once, so that a commit which the contract has dropped since
//! does not come back at each start.

use super::L1Error;
use super::convert::{ConvertError, decode_commit, from_address, from_batch, from_request};
use crate::batch_log::{BatchRecord, L1Link, QueuedRequest};
use crate::engine::{JunkCommit, L1Update, PostedBatch, junk};
use crate::handle::{Rollup, now_millis};
use crate::state;
use crate::store::StoreError;
use alloy::consensus::Transaction;
use alloy::eips::BlockNumberOrTag;
use alloy::primitives::B256;
use alloy::providers::Provider;
use alloy::rpc::types::{Filter, Log};
use alloy::sol_types::SolEvent;
use millrace_circuits::field::Word;
use millrace_circuits::merkle::empty_root;
use millrace_circuits::types::{BatchNumber, TREE_DEPTH, Timestamp};
use millrace_l1::bindings::Rollup as Contract;
use millrace_l1::provider::L1Provider;
use millrace_l1::rollup_client::RollupClient;
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;
use tokio_util::sync::CancellationToken;

/// How L1 is followed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SyncConfig {
    /// Block of the contract's deployment.
    pub from_block: u64,
    /// Blocks on top of one before its requests count and its proofs are final.
    pub depth: u64,
    /// Most blocks in one question for logs.
    pub chunk: u64,
    /// Blocks remembered, hence the deepest reorg that can be followed.
    pub memory: usize,
    /// A clock's distance to the chain's that is tolerated, in seconds.
    pub clock_slack_secs: u64,
}

impl Default for SyncConfig {
    fn default() -> Self {
        Self {
            from_block: 0,
            depth: 0,
            chunk: 1000,
            memory: 256,
            clock_slack_secs: 300,
        }
    }
}

/// A block by number and hash.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
struct Seen {
    number: u64,
    hash: [u8; 32],
}

/// A block as it is compared.
#[derive(Debug, Clone, Copy)]
struct Block {
    seen: Seen,
    parent: [u8; 32],
    timestamp: u64,
}

/// Events of consecutive blocks, and blocks to remember of them.
struct Range {
    logs: Vec<Log>,
    seen: Vec<Seen>,
}

/// Why a frozen rollup takes nothing.
const FROZEN: &str = "the contract is in escape mode: money leaves by escape exits only";
/// Name of the note with the newest blocks handled.
const CURSOR_NOTE: &str = "l1-cursor";
/// Blocks in that note: the deepest reorg that is followed across a restart.
const CURSOR_BLOCKS: usize = 64;

/// Follows L1 for an engine.
pub struct Synchronizer {
    rollup: Rollup,
    l1: L1Provider,
    client: RollupClient,
    config: SyncConfig,
    /// Blocks handled, oldest first.
    seen: VecDeque<Seen>,
    /// Requests in blocks that are not deep enough yet.
    shallow: VecDeque<QueuedRequest>,
    /// Proofs in blocks that are not deep enough yet: batch and block.
    proven: VecDeque<(BatchNumber, u64)>,
    /// Whether it has read where it stood before the start.
    resumed: bool,
}

/// Where a step came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SyncState {
    /// Newest block handled.
    pub handled: u64,
    /// Newest block of the chain.
    pub head: u64,
}

impl Synchronizer {
    /// Follows the contract of `client` from the configured block on.
    pub fn new(rollup: Rollup, l1: L1Provider, client: RollupClient, config: SyncConfig) -> Self {
        Self {
            rollup,
            l1,
            client,
            config,
            seen: VecDeque::new(),
            shallow: VecDeque::new(),
            proven: VecDeque::new(),
            resumed: false,
        }
    }

    /// Follows until cancelled. Failures are logged and tried again: an L1 that is down stops nothing else.
    pub async fn run(mut self, cancel: CancellationToken) -> Result<(), L1Error> {
        let pause = self.l1.poll_interval().max(Duration::from_millis(20));
        loop {
            match self.step().await {
                Ok(state) => {
                    metrics::gauge!("millrace_l1_head_block").set(state.head as f64);
                    metrics::gauge!("millrace_l1_handled_block").set(state.handled as f64);
                    if state.handled < state.head {
                        continue;
                    }
                }
                Err(error @ (L1Error::Stopped(_) | L1Error::Store(_) | L1Error::Batch { .. })) => {
                    return Err(error);
                }
                Err(error) => tracing::warn!(%error, "following L1 failed; trying again"),
            }
            tokio::select! {
                () = cancel.cancelled() => return Ok(()),
                () = tokio::time::sleep(pause) => {}
            }
        }
    }

    /// Handles the next blocks, or a reorg.
    ///
    /// # Errors
    /// If L1 cannot be read or followed, or the engine is gone.
    pub async fn step(&mut self) -> Result<SyncState, L1Error> {
        let head = self.block(BlockNumberOrTag::Latest).await?;
        if !self.resumed {
            let cursor = self.rollup.store().note::<Vec<Seen>>(CURSOR_NOTE)?;
            self.seen = cursor.unwrap_or_default().into();
        }
        if let Some(fork) = self.fork(head.seen.number).await? {
            self.take_back(fork).await?;
        }
        if !self.resumed {
            self.resume().await?;
            self.resumed = true;
        }
        let next = self.next_block();
        if next > head.seen.number {
            self.announce_time(head.timestamp, head.seen.number).await?;
            return Ok(SyncState {
                handled: head.seen.number,
                head: head.seen.number,
            });
        }
        let last = head.seen.number.min(next + self.config.chunk - 1);
        let Some(range) = self.consistent(next, last, head.seen.number).await? else {
            // L1 reorganised while it was read: the next step finds the fork.
            return Ok(SyncState {
                handled: next.saturating_sub(1),
                head: head.seen.number,
            });
        };
        let update = self.handle(&range.logs).await?;
        self.rollup.l1_update(update).await?;
        range.seen.into_iter().for_each(|seen| self.remember(seen));
        self.announce_time(head.timestamp, last).await?;
        self.store_cursor().await?;
        Ok(SyncState {
            handled: last,
            head: head.seen.number,
        })
    }

    fn next_block(&self) -> u64 {
        self.seen
            .back()
            .map_or(self.config.from_block, |seen| seen.number + 1)
    }

    async fn store_cursor(&self) -> Result<(), L1Error> {
        let newest = self.seen.len().saturating_sub(CURSOR_BLOCKS);
        let cursor: Vec<Seen> = self.seen.iter().skip(newest).copied().collect();
        Ok(self.rollup.note(CURSOR_NOTE, &cursor).await?)
    }

    /// Finds again what was in memory before the start: requests and proofs that are not deep enough yet, and whether the
    /// contract is frozen.
    async fn resume(&mut self) -> Result<(), L1Error> {
        if self.client.status().await?.frozen {
            self.rollup.halt(Some(FROZEN.to_owned())).await?;
        }
        let store = self.rollup.store().clone();
        let marks = store.marks()?;
        for number in (marks.finalised.0 + 1..=marks.sealed.0).map(BatchNumber) {
            let record = store.batch(number)?;
            if let Some(link) = record.and_then(|record| record.proven) {
                self.proven.push_back((number, link.block));
            }
        }
        let newest = match marks.requests_known.checked_sub(1) {
            Some(id) => store.request(id)?,
            None => None,
        };
        let mut from = newest.map_or(self.config.from_block, |request| request.block);
        let end = self.next_block();
        while from < end {
            let to = (end - 1).min(from + self.config.chunk - 1);
            let filter = self
                .filter(from, to)
                .event_signature(Contract::RequestQueued::SIGNATURE_HASH);
            for log in self.l1.provider().get_logs(&filter).await? {
                self.take_request(&log)?;
            }
            from = to + 1;
        }
        self.shallow
            .retain(|request| request.id >= marks.requests_known);
        Ok(())
    }

    fn filter(&self, from: u64, to: u64) -> Filter {
        Filter::new()
            .address(self.client.address())
            .from_block(from)
            .to_block(to)
    }

    /// The contract's events of some blocks, if they are all of one chain that continues what was handled before.
    async fn consistent(&self, from: u64, to: u64, head: u64) -> Result<Option<Range>, L1Error> {
        let first = self.block(BlockNumberOrTag::Number(from)).await?;
        if self
            .seen
            .back()
            .is_some_and(|seen| seen.hash != first.parent)
        {
            return Ok(None);
        }
        let last = self.block(BlockNumberOrTag::Number(to)).await?;
        let logs = self.l1.provider().get_logs(&self.filter(from, to)).await?;
        // A fork between two remembered blocks goes back to the older one, so a sparse memory is enough.
        let mut seen = BTreeMap::from([(from, first.seen), (to, last.seen)]);
        let recent = head.saturating_sub(self.config.memory as u64);
        for log in &logs {
            let Some(number) = log.block_number.filter(|number| *number >= recent) else {
                continue; // too deep for a reorg
            };
            if let std::collections::btree_map::Entry::Vacant(vacant) = seen.entry(number) {
                vacant.insert(self.block(BlockNumberOrTag::Number(number)).await?.seen);
            }
            if log.block_hash.map(|hash| hash.0) != seen.get(&number).map(|seen| seen.hash) {
                return Ok(None);
            }
        }
        if to > from {
            let before = self.block(BlockNumberOrTag::Number(to - 1)).await?;
            if before.seen.hash != last.parent {
                return Ok(None);
            }
            seen.insert(to - 1, before.seen);
        }
        let again = self.block(BlockNumberOrTag::Number(to)).await?;
        let seen: Vec<Seen> = seen.into_values().collect();
        Ok((again.seen == last.seen).then_some(Range { logs, seen }))
    }

    async fn block(&self, tag: BlockNumberOrTag) -> Result<Block, L1Error> {
        let block = self.l1.provider().get_block_by_number(tag).await?;
        let block = block.ok_or_else(|| L1Error::Gap(format!("block {tag}")))?;
        Ok(Block {
            seen: Seen {
                number: block.header.number,
                hash: block.header.hash.0,
            },
            parent: block.header.parent_hash.0,
            timestamp: block.header.timestamp,
        })
    }

    fn remember(&mut self, seen: Seen) {
        self.seen.push_back(seen);
        if self.seen.len() > self.config.memory {
            self.seen.pop_front();
        }
    }

    /// The newest remembered block that is still on the chain, if the last one handled is not.
    async fn fork(&self, head: u64) -> Result<Option<u64>, L1Error> {
        for (back, seen) in self.seen.iter().rev().enumerate() {
            let here = if seen.number <= head {
                self.l1
                    .provider()
                    .get_block_by_number(seen.number.into())
                    .await?
            } else {
                None
            };
            if here.is_some_and(|block| block.header.hash.0 == seen.hash) {
                return Ok((back > 0).then_some(seen.number));
            }
        }
        Ok((!self.seen.is_empty()).then(|| self.config.from_block.saturating_sub(1)))
    }

    /// Takes back everything that stood above block `fork`.
    async fn take_back(&mut self, fork: u64) -> Result<(), L1Error> {
        tracing::warn!(fork, "L1 reorganised");
        metrics::counter!("millrace_l1_reorgs_total").increment(1);
        self.seen.retain(|seen| seen.number <= fork);
        self.shallow.retain(|request| request.block <= fork);
        self.proven.retain(|(_, block)| *block <= fork);
        let store = self.rollup.store();
        let marks = store.marks()?;
        let mut update = L1Update::default();
        let mut dropped = None;
        for id in (0..marks.requests_known).rev() {
            match store.request(id)? {
                Some(request) if request.block > fork => dropped = Some(id),
                _ => break,
            }
        }
        update.requests_dropped_from = dropped;
        for number in (1..=marks.sealed.0).rev().map(BatchNumber) {
            let Some(record) = store.batch(number)? else {
                break;
            };
            let above = |link: Option<L1Link>| link.is_some_and(|link| link.block > fork);
            if above(record.committed) {
                update.uncommitted.push(number);
            } else if above(record.proven) {
                update.unproven.push(number);
            } else if record.proven.is_some() {
                break;
            }
        }
        Ok(self.rollup.l1_update(update).await?)
    }

    /// Tells the engine the time, and what has become deep enough.
    async fn announce_time(&mut self, head_time: u64, handled: u64) -> Result<(), L1Error> {
        let slack = self.config.clock_slack_secs;
        let wall = (now_millis() / 1000).saturating_sub(slack);
        let deep = handled.saturating_sub(self.config.depth);
        let mut update = L1Update {
            time: Some(Timestamp(head_time.max(wall))),
            ..L1Update::default()
        };
        while self
            .shallow
            .front()
            .is_some_and(|request| request.block <= deep)
        {
            update.requests.extend(self.shallow.pop_front());
        }
        while self.proven.front().is_some_and(|(_, block)| *block <= deep) {
            update.finalised = self.proven.pop_front().map(|(batch, _)| batch);
        }
        Ok(self.rollup.l1_update(update).await?)
    }

    /// Takes the contract's events in order; what is left to hand over is returned.
    async fn handle(&mut self, logs: &[Log]) -> Result<L1Update, L1Error> {
        let mut update = L1Update::default();
        for log in logs {
            if let Some(dropped) = replaced(log, logs)? {
                // The commit in the same transaction takes the first one's place.
                update.uncommitted.extend(dropped.map(BatchNumber));
                continue;
            }
            self.take(log, &mut update).await?;
            if !update.posted.is_empty() || update.junk.is_some() {
                // A commit stands on everything before it: hand over in order.
                let ready = std::mem::take(&mut update);
                self.hand_over_for_commit(ready, log).await?;
            }
        }
        Ok(update)
    }

    /// A commit consumes requests, whatever their depth.
    async fn hand_over_for_commit(
        &mut self,
        mut update: L1Update,
        log: &Log,
    ) -> Result<(), L1Error> {
        let block = log.block_number.unwrap_or_default();
        while self
            .shallow
            .front()
            .is_some_and(|request| request.block <= block)
        {
            update.requests.extend(self.shallow.pop_front());
        }
        self.rollup.l1_update(update).await?;
        Ok(())
    }

    async fn take(&mut self, log: &Log, update: &mut L1Update) -> Result<(), L1Error> {
        let block = log.block_number.unwrap_or_default();
        let Some(topic) = log.topic0().copied() else {
            return Ok(());
        };
        let transaction = log.transaction_hash.unwrap_or_default();
        match topic {
            Contract::RequestQueued::SIGNATURE_HASH => {
                self.take_request(log)?;
            }
            Contract::BatchCommitted::SIGNATURE_HASH => {
                let event = decode::<Contract::BatchCommitted>(log)?;
                let number = BatchNumber(event.number);
                let store = self.rollup.store();
                if number <= store.marks()?.finalised {
                    return Ok(()); // known, or part of the snapshot that this node started from
                }
                if junk(store)?.is_some_and(|junk| junk.number < number) {
                    return Ok(()); // it stands on a batch that nobody can prove
                }
                let link = L1Link {
                    transaction: transaction.0,
                    block,
                    gas: None,
                };
                match self.posted(number, link, event.dataHash).await? {
                    Ok(posted) => update.posted.push(posted),
                    Err(reason) => update.junk = Some((JunkCommit { number, link }, reason)),
                }
            }
            Contract::BatchProven::SIGNATURE_HASH => {
                let event = decode::<Contract::BatchProven>(log)?;
                let batch = BatchNumber(event.number);
                if junk(self.rollup.store())?.is_some_and(|junk| junk.number <= batch) {
                    let reason =
                        "L1 has proven it, but it does not follow from this state".to_owned();
                    return Err(L1Error::Batch { batch, reason });
                }
                let link = L1Link {
                    transaction: transaction.0,
                    block,
                    gas: None,
                };
                update.proven.push((BatchNumber(event.number), link));
                self.proven.push_back((BatchNumber(event.number), block));
            }
            Contract::BatchesDropped::SIGNATURE_HASH => {
                let event = decode::<Contract::BatchesDropped>(log)?;
                let to = BatchNumber(event.first.saturating_sub(1));
                if to < self.rollup.store().marks()?.finalised {
                    return Ok(()); // what is final was proven after this
                }
                self.rollup.l1_update(std::mem::take(update)).await?;
                let reverted_to = Some(to);
                self.rollup
                    .l1_update(L1Update {
                        reverted_to,
                        ..L1Update::default()
                    })
                    .await?;
            }
            Contract::EscapeEntered::SIGNATURE_HASH => {
                self.rollup.l1_update(std::mem::take(update)).await?;
                self.rollup.halt(Some(FROZEN.to_owned())).await?;
            }
            _ => {}
        }
        Ok(())
    }

    fn take_request(&mut self, log: &Log) -> Result<(), L1Error> {
        let event = decode::<Contract::RequestQueued>(log)?;
        let block = log.block_number.unwrap_or_default();
        let request = from_request(event.id, &event.request, block)
            .map_err(|error| L1Error::Transport(error.to_string()))?;
        self.shallow.push_back(request);
        Ok(())
    }

    /// Reads a batch from the input of the transaction that committed it, or says why that is none.
    async fn posted(
        &self,
        number: BatchNumber,
        link: L1Link,
        data_hash: B256,
    ) -> Result<Result<PostedBatch, String>, L1Error> {
        let transaction = B256::from(link.transaction);
        if let Some(ours) = self.known(number, data_hash)? {
            return Ok(Ok(PostedBatch { link, ..ours }));
        }
        let found = self
            .l1
            .provider()
            .get_transaction_by_hash(transaction)
            .await?;
        let found = found.ok_or_else(|| L1Error::Gap(format!("transaction {transaction}")))?;
        let unreadable = |reason: String| L1Error::Batch {
            batch: number,
            reason,
        };
        let (named, batch) =
            decode_commit(found.input()).map_err(|error| unreadable(error.to_string()))?;
        if named != number {
            return Err(unreadable(format!("its transaction commits batch {named}")));
        }
        let old_root = self.root_before(number)?;
        let domain = *self.rollup.domain();
        let data = match from_batch(number, &batch, domain, old_root) {
            Ok(data) => data,
            Err(error @ ConvertError::UnknownCircuit(_)) => {
                return Err(unreadable(error.to_string()));
            }
            Err(error) => return Ok(Err(error.to_string())),
        };
        if data.data_hash() != data_hash.0 {
            // The contract hashes what was posted, so this has another form than a batch's.
            return Ok(Err("its data is not in the form of a batch".into()));
        }
        Ok(Ok(PostedBatch {
            data,
            beneficiary: from_address(batch.beneficiary),
            link,
        }))
    }

    /// Our own batch, if this commit is of it: spares reading it back.
    fn known(
        &self,
        number: BatchNumber,
        data_hash: B256,
    ) -> Result<Option<PostedBatch>, StoreError> {
        let record: Option<BatchRecord> = self.rollup.store().batch(number)?;
        let data = record.and_then(|record| record.data);
        let data = data.filter(|data| data.data_hash() == data_hash.0);
        // The beneficiary matters only for batches that are taken over.
        Ok(data.map(|data| PostedBatch {
            data,
            beneficiary: Default::default(),
            link: L1Link {
                transaction: [0; 32],
                block: 0,
                gas: None,
            },
        }))
    }

    fn root_before(&self, number: BatchNumber) -> Result<Word, L1Error> {
        if number.0 <= 1 {
            return Ok(Word(empty_root(TREE_DEPTH)));
        }
        let before = BatchNumber(number.0 - 1);
        let record = self.rollup.store().batch(before)?;
        record
            .and_then(|record| record.new_root())
            .ok_or_else(|| L1Error::Batch {
                batch: number,
                reason: format!("batch {before} is missing"),
            })
    }
}

/// The batches that this log drops, if its own transaction commits another in the first one's place.
fn replaced(log: &Log, logs: &[Log]) -> Result<Option<std::ops::RangeInclusive<u64>>, L1Error> {
    let is = |log: &Log, topic: B256| log.topic0() == Some(&topic);
    let in_its_place = |other: &Log| {
        other.transaction_hash == log.transaction_hash
            && is(other, Contract::BatchCommitted::SIGNATURE_HASH)
    };
    if !is(log, Contract::BatchesDropped::SIGNATURE_HASH) || !logs.iter().any(in_its_place) {
        return Ok(None);
    }
    let event = decode::<Contract::BatchesDropped>(log)?;
    Ok(Some(event.first..=event.last))
}

fn decode<E: SolEvent>(log: &Log) -> Result<E, L1Error> {
    E::decode_log(&log.inner)
        .map(|decoded| decoded.data)
        .map_err(|error| L1Error::Transport(format!("event {}: {error}", E::SIGNATURE)))
}

/// Rebuilds the whole state from L1 alone, up to its newest block, and gives the root reached.
///
/// # Errors
/// At the first gap or batch that does not follow, naming it.
pub async fn restore(synchronizer: &mut Synchronizer) -> Result<Word, L1Error> {
    loop {
        let state = synchronizer.step().await?;
        if state.handled >= state.head {
            let root = state::sealed_root(synchronizer.rollup.store())?;
            let status = synchronizer.client.status().await?;
            let expected = super::convert::to_u256(&root.0);
            if expected != status.committedRoot && expected != status.provenRoot {
                return Err(L1Error::Batch {
                    batch: BatchNumber(status.committedBatches),
                    reason: "the rebuilt root is not the contract's".into(),
                });
            }
            return Ok(root);
        }
    }
}

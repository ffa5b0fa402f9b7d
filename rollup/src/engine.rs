//! The core that owns the state: what runs, in which batch, and when a batch is closed. Decides; writes and clocks come from
//! outside.
//!
//! ```text
//! submit ─ checks ─┬─ runs now → open batch, head accounts ──┐
//!                  └─ waits → mempool                        ├→ Turn { writes, events } → one synced write → replies
//! L1 update ─ requests → first rows of a batch that is empty ┘
//! seal → planned batch → hash (elsewhere) → sealed: accounts, nodes, undo, witness in one write
//! ```
//!
//! L1 rows come first in a batch, so requests enter only a batch that holds no transaction yet: nothing that was acknowledged
//! has to run again.

mod adopt;
mod execute;
mod hash;
mod l1;
mod open;
mod rollback;
mod submit;

#[cfg(test)]
mod tests;

pub use adopt::{JunkCommit, PostedBatch, junk};
pub use hash::{HashError, HashedBatch, hash_batch};
pub use l1::L1Update;
pub use submit::Submitted;

use crate::batch_log::{BatchRecord, BatchStage, QueuedRequest};
use crate::events::{Event, EventKind};
use crate::fees::FeePolicy;
use crate::mempool::{Mempool, MempoolLimits};
use crate::state::Head;
use crate::store::disk::{Column, Writes};
use crate::store::format::{encode, number_key};
use crate::store::{Marks, Store, StoreError, StoreResult};
use millrace_circuits::batch::Shape;
use millrace_circuits::transaction::{Domain, SignedTransaction, TransactionId};
use millrace_circuits::types::{BatchNumber, L1Address, Timestamp};
use open::OpenBatch;
use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use thiserror::Error;

/// How a sequencer works.
#[derive(Debug, Clone)]
pub struct EngineConfig {
    /// Contract and chain.
    pub domain: Domain,
    /// Circuits of the contract, smallest first.
    pub shapes: Vec<Shape>,
    /// Receives the operator's half of request fees.
    pub beneficiary: L1Address,
    /// The operator's terms.
    pub fees: FeePolicy,
    /// Bounds of the mempool.
    pub mempool: MempoolLimits,
    /// A batch with content is closed after this long.
    pub seal_after_millis: u64,
    /// Whether this node makes batches; a follower only takes over what L1 says.
    pub sequencing: bool,
    /// Closed batches that may wait to be hashed before submissions are refused.
    pub backlog: u64,
}

/// Why the core cannot go on: the process should stop and say so.
#[derive(Debug, Error)]
pub enum EngineError {
    /// The database failed.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The log names something that is not there.
    #[error("the database lacks {0}; restore the state from L1 with `millrace restore`")]
    Missing(String),
    /// A planned batch does not apply to the state that it was planned on.
    #[error("batch {batch} does not apply to the stored state: {reason}")]
    Inconsistent {
        /// Which.
        batch: BatchNumber,
        /// The rule.
        reason: String,
    },
    /// No circuit was configured.
    #[error("no circuit is configured: a sequencer needs at least one")]
    NoCircuit,
}

/// What a group of commands wants written, in one synced write, before any of them is answered.
#[derive(Debug, Default)]
pub struct Turn {
    /// The write.
    pub writes: Writes,
    /// Transactions stored in this turn: the disk does not know them yet.
    ids: HashMap<TransactionId, ()>,
    /// Answers stored in this turn.
    answers: BTreeMap<String, crate::mempool::Answer>,
}

/// The core.
pub struct Engine {
    config: EngineConfig,
    store: Arc<Store>,
    marks: Marks,
    head: Head,
    mempool: Mempool,
    open: OpenBatch,
    /// Time of the newest L1 block known.
    l1_time: Timestamp,
    /// Timestamp of the newest planned batch.
    last_timestamp: Timestamp,
    /// Batch being hashed.
    hashing: Option<BatchNumber>,
    /// Grows with each rollback: a hash of before it is void.
    epoch: u64,
    /// Set while submissions are refused, with the reason.
    halted: Option<String>,
    /// Transactions that a rollback before the last stop took back; they run again once L1's time is known.
    requeued: Vec<SignedTransaction>,
    /// Requests stored in this turn: the disk does not know them yet.
    fresh_requests: BTreeMap<u64, QueuedRequest>,
    /// Records changed in this turn: the disk has them as they were.
    fresh_records: BTreeMap<BatchNumber, BatchRecord>,
}

impl Engine {
    /// Starts on what the database holds: planned batches and pending transactions run again, in memory.
    ///
    /// # Errors
    /// If the database is damaged or there is no circuit.
    pub fn open(config: EngineConfig, store: Arc<Store>) -> Result<Self, EngineError> {
        if config.shapes.is_empty() {
            return Err(EngineError::NoCircuit);
        }
        store.bind(&config.domain.0.0.to_string())?;
        let marks = store.marks()?;
        check_root(&store, marks.sealed)?;
        let mempool = Mempool::new(config.mempool);
        let next = BatchNumber(marks.planned.0 + 1);
        let mut engine = Self {
            head: Head::new(marks.next_index),
            open: OpenBatch::new(next, Timestamp(0), marks.requests_taken),
            config,
            store,
            marks,
            mempool,
            l1_time: Timestamp(0),
            last_timestamp: Timestamp(0),
            hashing: None,
            epoch: 0,
            halted: None,
            requeued: Vec::new(),
            fresh_requests: BTreeMap::new(),
            fresh_records: BTreeMap::new(),
        };
        engine.resume()?;
        Ok(engine)
    }

    /// The database.
    pub fn store(&self) -> &Arc<Store> {
        &self.store
    }

    /// Counters.
    pub fn marks(&self) -> &Marks {
        &self.marks
    }

    /// The configuration.
    pub fn config(&self) -> &EngineConfig {
        &self.config
    }

    /// Whether transactions can be taken: L1's time is known, and nothing older has to run first.
    pub fn is_ready(&self) -> bool {
        self.l1_time.0 != 0 && self.requeued.is_empty()
    }

    /// How many transactions wait.
    pub fn waiting(&self) -> usize {
        self.mempool.len()
    }

    /// Transactions in the open batch.
    pub fn open_transactions(&self) -> usize {
        self.open.transactions()
    }

    /// Accounts as everything pending leaves them.
    pub fn head(&self) -> &Head {
        &self.head
    }

    /// Stops taking submissions, for example after escape mode was entered; `None` resumes.
    pub fn halt(&mut self, reason: Option<String>) {
        self.halted = reason;
    }

    /// The largest circuit.
    fn largest(&self) -> Shape {
        *self.config.shapes.last().expect("checked when opened")
    }

    /// Records an event in this turn.
    fn event(&mut self, turn: &mut Turn, now_millis: u64, kind: EventKind) {
        let event = Event {
            sequence: self.marks.next_event,
            at_millis: now_millis,
            kind,
        };
        turn.writes
            .put(Column::Events, number_key(event.sequence), encode(&event));
        self.marks.next_event += 1;
    }

    /// Ends a turn: what it returns must be written before any of its commands is answered.
    pub fn finish(&mut self, mut turn: Turn) -> Writes {
        if !turn.writes.is_empty() {
            self.marks.next_index = self.head.next_index;
            turn.writes
                .put(Column::Meta, b"marks".to_vec(), encode(&self.marks));
        }
        turn.writes
    }

    /// A batch of the log, as this turn has left it.
    fn current_record(
        &self,
        number: BatchNumber,
        _turn: &Turn,
    ) -> Result<BatchRecord, EngineError> {
        match self.fresh_records.get(&number) {
            Some(record) => Ok(record.clone()),
            None => self.record(number),
        }
    }

    /// Changes a batch's record in this turn, which may change it again.
    fn put_current_record(&mut self, record: &BatchRecord, turn: &mut Turn) {
        Self::put_record(turn, record);
        self.fresh_records.insert(record.number, record.clone());
    }

    /// A batch of the log.
    fn record(&self, number: BatchNumber) -> Result<BatchRecord, EngineError> {
        self.store
            .batch(number)?
            .ok_or_else(|| EngineError::Missing(format!("the record of batch {number}")))
    }

    /// The next planned batch to hash, if none is being hashed, and the epoch that its result must name.
    ///
    /// # Errors
    /// If the database is damaged.
    pub fn start_hashing(&mut self) -> Result<Option<(BatchRecord, u64)>, EngineError> {
        if self.hashing.is_some() || self.marks.sealed >= self.marks.planned {
            return Ok(None);
        }
        let number = BatchNumber(self.marks.sealed.0 + 1);
        let record = self.record(number)?;
        debug_assert_eq!(record.stage, BatchStage::Planned);
        self.hashing = Some(number);
        Ok(Some((record, self.epoch)))
    }

    /// Takes a hashed batch into the log; ignores one that a rollback has overtaken.
    pub fn finish_hashing(
        &mut self,
        hashed: HashedBatch,
        epoch: u64,
        now_millis: u64,
        turn: &mut Turn,
    ) {
        let number = hashed.record.number;
        if epoch != self.epoch
            || self.hashing != Some(number)
            || number.0 != self.marks.sealed.0 + 1
        {
            return;
        }
        self.hashing = None;
        self.marks.sealed = number;
        let transactions = hashed.record.transactions.clone();
        turn.writes.append(hashed.writes);
        self.event(
            turn,
            now_millis,
            EventKind::BatchSealed {
                batch: number,
                transactions,
            },
        );
    }

    /// Hashing failed: fatal, unless a rollback has made it void.
    ///
    /// # Errors
    /// [`EngineError::Inconsistent`].
    pub fn hashing_failed(&mut self, epoch: u64, error: &HashError) -> Result<(), EngineError> {
        match self.hashing {
            Some(batch) if epoch == self.epoch => Err(EngineError::Inconsistent {
                batch,
                reason: error.to_string(),
            }),
            _ => Ok(()),
        }
    }

    /// After a turn was written: forgets in memory what is now on disk.
    pub fn settle(&mut self) {
        self.head.settle(self.marks.sealed);
        self.fresh_requests.clear();
        self.fresh_records.clear();
    }

    /// Changes a batch's record in this turn.
    fn put_record(turn: &mut Turn, record: &BatchRecord) {
        turn.writes
            .put(Column::Batches, number_key(record.number.0), encode(record));
    }

    /// Keeps a proof with its batch, for the poster.
    ///
    /// # Errors
    /// If the database is damaged.
    pub fn keep_proof(
        &mut self,
        number: BatchNumber,
        proof: [crate::batch_log::Word8; 8],
        turn: &mut Turn,
    ) -> StoreResult<bool> {
        let known = self.fresh_records.get(&number).cloned();
        let Some(mut record) = known.map_or_else(|| self.store.batch(number), |r| Ok(Some(r)))?
        else {
            return Ok(false);
        };
        record.proof = Some(proof);
        self.put_current_record(&record, turn);
        Ok(true)
    }
}

/// The tree on disk must be the one that the last sealed batch left. Looks at the top of the tree only: nothing is rehashed.
fn check_root(store: &Store, sealed: BatchNumber) -> StoreResult<()> {
    let root = crate::state::checked_root(store)?;
    let record = store.batch(sealed)?;
    match record.and_then(|record| record.new_root()) {
        Some(expected) if expected != root => Err(StoreError::Inconsistent(format!(
            "the tree has another root than batch {sealed}"
        ))),
        _ => Ok(()),
    }
}

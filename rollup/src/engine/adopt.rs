//! Taking over a batch that somebody else posted: what a follower does with every batch, and an operator with a rival's.
//!
//! A commit may be junk: its data need not follow from the state until it is proven, so it never will be. Nobody stops for it:
//! the state stays before it, and what is committed on top of it is passed over until the contract drops both.

use super::open::OpenBatch;
use super::{Engine, EngineError, Turn};
use crate::batch_log::{BatchRecord, BatchStage, L1Link};
use crate::events::EventKind;
use crate::state::{Head, OverlayTree};
use crate::store::disk::Column;
use crate::store::format::{encode, number_key};
use crate::store::{Store, StoreResult};
use millrace_circuits::batch::{BatchData, BatchError, BatchInput, ReplayError, replay};
use millrace_circuits::types::{BatchNumber, L1Address};
use serde::{Deserialize, Serialize};

/// Name of the note with the first commit on L1 that does not follow from the state.
const JUNK_NOTE: &str = "junk-commit";

/// A commit on L1 that does not follow from the state.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct JunkCommit {
    /// The batch that it claims to be.
    pub number: BatchNumber,
    /// Where it was committed.
    pub link: L1Link,
}

/// The first commit on L1 that does not follow from the state, if there is one now.
///
/// # Errors
/// If the disk fails.
pub fn junk(store: &Store) -> StoreResult<Option<JunkCommit>> {
    store.note(JUNK_NOTE)
}

fn note_junk(junk: JunkCommit, reason: &dyn std::fmt::Display, turn: &mut Turn) {
    let batch = junk.number;
    tracing::warn!(%batch, %reason, "a commit on L1 does not follow from the state: it cannot be proven");
    turn.writes
        .put(Column::Notes, JUNK_NOTE.into(), encode(&junk));
}

/// A batch as read from L1.
#[derive(Debug, Clone)]
pub struct PostedBatch {
    /// Its content.
    pub data: BatchData,
    /// Who receives its request fees: part of its challenge.
    pub beneficiary: L1Address,
    /// Where it was committed.
    pub link: L1Link,
}

impl Engine {
    /// Follows a batch from L1: ours moves on to Committed; another's replaces whatever this node planned from that number on.
    ///
    /// # Errors
    /// If the database fails, or the batch does not follow from the state.
    pub fn follow(
        &mut self,
        posted: PostedBatch,
        now_millis: u64,
        turn: &mut Turn,
    ) -> Result<(), EngineError> {
        let number = posted.data.header.number;
        if number <= self.marks.finalised && self.store.batch(number)?.is_none() {
            return Ok(()); // part of the snapshot that this node started from
        }
        if junk(&self.store)?.is_some_and(|junk| junk.number < number) {
            return Ok(()); // it stands on what nobody can prove
        }
        self.forget_junk(number, turn);
        let ours = if number <= self.marks.sealed {
            let record = self.current_record(number, turn)?;
            record
                .data
                .is_some_and(|data| data.words() == posted.data.words())
        } else {
            false
        };
        if ours {
            let stage = BatchStage::Committed;
            return self.move_on(number, stage, Some(posted.link), now_millis, turn);
        }
        self.adopt(posted, now_millis, turn)
    }

    /// A commit of this number has gone from L1, or another took its place.
    pub(super) fn forget_junk(&self, number: BatchNumber, turn: &mut Turn) {
        if junk(&self.store).is_ok_and(|junk| junk.is_some_and(|junk| junk.number >= number)) {
            turn.writes.delete(Column::Notes, JUNK_NOTE.into());
        }
    }

    /// A commit on L1 holds what is no batch.
    ///
    /// # Errors
    /// If the database fails.
    pub(super) fn pass_over(
        &mut self,
        junk: JunkCommit,
        reason: &str,
        now_millis: u64,
        turn: &mut Turn,
    ) -> Result<(), EngineError> {
        let before = BatchNumber(junk.number.0.saturating_sub(1));
        self.flush(turn)?;
        let (transactions, first_request) = self.unwind(before, turn)?;
        note_junk(junk, &reason, turn);
        self.reopen(before, &transactions, first_request, now_millis, turn)
    }

    fn adopt(
        &mut self,
        posted: PostedBatch,
        now_millis: u64,
        turn: &mut Turn,
    ) -> Result<(), EngineError> {
        let PostedBatch {
            data,
            beneficiary,
            link,
        } = posted;
        let number = data.header.number;
        let before = BatchNumber(number.0.saturating_sub(1));
        if self.marks.sealed < before {
            return Err(EngineError::Missing(format!(
                "batch {before}, on which batch {number} stands"
            )));
        }
        self.flush(turn)?;
        let (transactions, first_request) = self.unwind(before, turn)?;
        self.flush(turn)?;

        let store = self.store.clone();
        let mut tree = OverlayTree::new(&store)?;
        match replay(&data, &mut tree) {
            Ok(_) => {}
            Err(ReplayError::Batch(BatchError::Tree(error))) => return Err(error.into()),
            Err(error) => {
                note_junk(JunkCommit { number, link }, &error, turn);
                return self.reopen(before, &transactions, first_request, now_millis, turn);
            }
        }
        turn.writes.append(tree.into_writes(number)?);
        let highest = data.rows.iter().flat_map(|row| [row.from, row.to]);
        let credited = data.l1_rows.iter().map(|row| match row {
            millrace_circuits::batch::L1Row::Deposit { index, .. }
            | millrace_circuits::batch::L1Row::ForcedExit { index, .. } => *index,
        });
        let highest = highest.chain(credited).max().unwrap_or_default();
        self.marks.next_index = self.marks.next_index.max(highest.get() + 1);
        let l1_operations: Vec<_> = data.l1_rows.iter().map(|row| row.operation()).collect();
        let taken = l1_operations.len() as u64;
        let record = BatchRecord {
            number,
            stage: BatchStage::Committed,
            input: BatchInput {
                shape: data.shape,
                number,
                timestamp: data.header.timestamp,
                domain: data.header.domain,
                fee_leaves: data.header.fee_leaves.clone(),
                l1_operations,
                slots: Vec::new(),
            },
            first_request,
            transactions: Vec::new(),
            planned_at_millis: now_millis,
            public: Some(data.public(beneficiary)),
            data: Some(data),
            proof: None,
            committed: Some(link),
            proven: None,
        };
        turn.writes.delete(Column::Witnesses, number_key(number.0));
        self.put_current_record(&record, turn);
        self.marks.planned = number;
        self.marks.sealed = number;
        self.marks.requests_taken = first_request + taken;
        let kind = EventKind::BatchCommitted {
            batch: number,
            l1_transaction: link.transaction,
        };
        self.head = Head::new(self.marks.next_index);
        self.event(turn, now_millis, kind);
        self.flush(turn)?;
        self.last_timestamp = record.input.timestamp;
        let next = BatchNumber(number.0 + 1);
        self.open = OpenBatch::new(next, self.last_timestamp, self.marks.requests_taken);
        self.take_requests(now_millis, turn)?;
        self.run_again(&transactions, now_millis, turn);
        Ok(())
    }
}

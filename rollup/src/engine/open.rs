//! The batch that is open: L1 operations first, then transactions in the order of acceptance; closing it plans a batch.

use super::{Engine, EngineError, Turn};
use crate::batch_log::{BatchRecord, BatchStage};
use crate::store::StoreResult;
use crate::store::disk::Column;
use crate::store::format::{encode, number_key};
use millrace_circuits::batch::{BatchInput, L1Operation, Shape, Slot};
use millrace_circuits::transaction::TransactionId;
use millrace_circuits::types::{AccountIndex, Amount, BatchNumber, Timestamp, TokenId};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// What is on disk of the open batch beside its pending transactions.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct OpenHeader {
    pub number: BatchNumber,
    pub timestamp: Timestamp,
    pub first_request: u64,
    pub l1_operations: Vec<L1Operation>,
    pub opened_at_millis: u64,
}

/// Fees of a batch by token, with the leaf that gathers them.
pub(super) type Fees = BTreeMap<TokenId, (AccountIndex, Amount)>;

/// The open batch.
#[derive(Debug)]
pub(super) struct OpenBatch {
    pub number: BatchNumber,
    pub timestamp: Timestamp,
    pub first_request: u64,
    pub l1_operations: Vec<L1Operation>,
    pub slots: Vec<Slot>,
    pub ids: Vec<TransactionId>,
    pub fees: Fees,
    /// Sequence numbers of its pending transactions.
    pub pending: Vec<u64>,
    pub opened_at_millis: u64,
}

impl OpenBatch {
    pub fn new(number: BatchNumber, timestamp: Timestamp, first_request: u64) -> Self {
        Self {
            number,
            timestamp,
            first_request,
            l1_operations: Vec::new(),
            slots: Vec::new(),
            ids: Vec::new(),
            fees: Fees::new(),
            pending: Vec::new(),
            opened_at_millis: 0,
        }
    }

    pub fn is_empty(&self) -> bool {
        self.slots.is_empty() && self.l1_operations.is_empty()
    }

    pub fn transactions(&self) -> usize {
        self.ids.len()
    }

    pub fn header(&self) -> OpenHeader {
        OpenHeader {
            number: self.number,
            timestamp: self.timestamp,
            first_request: self.first_request,
            l1_operations: self.l1_operations.clone(),
            opened_at_millis: self.opened_at_millis,
        }
    }

    /// The first row for a transaction or a pair, which must start on an even row.
    pub fn next_row(&self, count: usize) -> usize {
        if count == 2 {
            self.slots.len().next_multiple_of(2)
        } else {
            self.slots.len()
        }
    }

    /// Whether `shape` has room for `count` more rows and these fee tokens.
    pub fn has_room(&self, shape: &Shape, count: usize, fee_tokens: &[TokenId]) -> bool {
        let new_tokens = fee_tokens
            .iter()
            .filter(|token| !self.fees.contains_key(token))
            .count();
        self.next_row(count) + count <= shape.transaction_rows
            && self.fees.len() + new_tokens <= shape.fee_leaves
    }

    fn fits(&self, shape: &Shape) -> bool {
        self.slots.len() <= shape.transaction_rows
            && self.l1_operations.len() <= shape.l1_rows
            && self.fees.len() <= shape.fee_leaves
    }
}

/// Name of the note that holds the open batch's header.
const OPEN_NOTE: &str = "open-batch";
/// Name of the note that holds the leaves for the open batch's fees.
const FEE_LEAVES_NOTE: &str = "open-fee-leaves";

/// What is on disk of the open batch, beside its pending transactions, goes with it.
pub(super) fn delete_open_notes(turn: &mut Turn) {
    for name in [OPEN_NOTE, FEE_LEAVES_NOTE] {
        turn.writes.delete(Column::Notes, name.into());
    }
}

fn leaves(fees: &Fees) -> Vec<AccountIndex> {
    fees.values().map(|(leaf, _)| *leaf).collect()
}

impl Engine {
    /// Marks the open batch as begun, if this is its first content: fixes its timestamp and stores its header.
    pub(super) fn begin_batch(&mut self, now_millis: u64) {
        if self.open.is_empty() {
            self.open.opened_at_millis = now_millis;
            self.open.timestamp = self.next_timestamp();
        }
    }

    /// The timestamp that a batch begun now has.
    pub(super) fn next_timestamp(&self) -> Timestamp {
        self.l1_time.max(self.last_timestamp)
    }

    pub(super) fn put_open_header(&self, turn: &mut Turn) {
        turn.writes
            .put(Column::Notes, OPEN_NOTE.into(), encode(&self.open.header()));
    }

    /// Takes over the sums of fees; a leaf that is new among them is stored.
    pub(super) fn set_open_fees(&mut self, fees: Fees, turn: &mut Turn) {
        if fees.len() != self.open.fees.len() {
            let note = encode(&leaves(&fees));
            turn.writes.put(Column::Notes, FEE_LEAVES_NOTE.into(), note);
        }
        self.open.fees = fees;
    }

    /// The stored header of the open batch, and the leaves for its fees. None if it held nothing.
    pub(super) fn open_notes(&self) -> StoreResult<Option<(OpenHeader, Vec<AccountIndex>)>> {
        let Some(header) = self.store.note(OPEN_NOTE)? else {
            return Ok(None);
        };
        let leaves = self.store.note(FEE_LEAVES_NOTE)?.unwrap_or_default();
        Ok(Some((header, leaves)))
    }

    /// Closes the open batch if it holds anything. Its fees reach their leaves and a new batch opens.
    ///
    /// # Errors
    /// If the database fails.
    pub fn seal(&mut self, now_millis: u64, turn: &mut Turn) -> Result<bool, EngineError> {
        if self.open.is_empty() {
            return Ok(false);
        }
        let number = self.open.number;
        let next = OpenBatch::new(
            BatchNumber(number.0 + 1),
            self.open.timestamp,
            self.marks.requests_taken,
        );
        let closed = std::mem::replace(&mut self.open, next);
        let shape = self.config.shapes.iter().find(|shape| closed.fits(shape));
        let shape = *shape.expect("what is accepted fits the largest circuit");
        self.credit_fees(&closed.fees, number)?;
        self.last_timestamp = closed.timestamp;
        self.marks.planned = number;
        for sequence in &closed.pending {
            turn.writes.delete(Column::Pending, number_key(*sequence));
        }
        delete_open_notes(turn);
        let record = BatchRecord {
            number,
            stage: BatchStage::Planned,
            input: BatchInput {
                shape,
                number,
                timestamp: closed.timestamp,
                domain: self.config.domain,
                fee_leaves: leaves(&closed.fees),
                l1_operations: closed.l1_operations,
                slots: closed.slots,
            },
            first_request: closed.first_request,
            transactions: closed.ids,
            planned_at_millis: now_millis,
            data: None,
            public: None,
            proof: None,
            committed: None,
            proven: None,
        };
        Self::put_record(turn, &record);
        self.take_requests(now_millis, turn)?;
        Ok(true)
    }

    /// Closes the open batch when its time is up, or that of the oldest L1 request in it.
    ///
    /// # Errors
    /// If the database fails.
    pub fn tick(&mut self, now_millis: u64, turn: &mut Turn) -> Result<(), EngineError> {
        self.drop_expired(now_millis, turn);
        self.take_requests(now_millis, turn)?;
        let age = now_millis.saturating_sub(self.open.opened_at_millis);
        let is_due = age >= self.config.seal_after_millis || self.request_is_urgent()?;
        if !self.open.is_empty() && is_due {
            self.seal(now_millis, turn)?;
        }
        Ok(())
    }
}

//! What L1 tells the core: new requests, the time, and how far batches have come.

use super::execute::Scratch;
use super::{Engine, EngineError, Turn};
use crate::batch_log::{BatchStage, L1Link, QueuedRequest};
use crate::events::EventKind;
use crate::store::disk::Column;
use crate::store::format::{encode, number_key};
use millrace_circuits::account::Owner;
use millrace_circuits::batch::L1Operation;
use millrace_circuits::types::{BatchNumber, Timestamp};

/// An L1 request this old closes its batch, whatever the batch's own time: half of what the contract allows before it lets
/// others post, which leaves as much for the proof.
pub const REQUEST_PATIENCE_SECS: u64 = 12 * 3600;

/// News from L1, in order. Everything in it has the depth that this node demands, unless said otherwise.
#[derive(Debug, Clone, Default)]
pub struct L1Update {
    /// Timestamp of the newest block.
    pub time: Option<Timestamp>,
    /// A reorg removed the requests from this number on.
    pub requests_dropped_from: Option<u64>,
    /// New requests, in order of their numbers.
    pub requests: Vec<QueuedRequest>,
    /// Batches whose commit left L1 again (a reorg): they must be sent anew.
    pub uncommitted: Vec<BatchNumber>,
    /// Batches whose proof left L1 again (a reorg).
    pub unproven: Vec<BatchNumber>,
    /// Batches as their commits' transactions state them, in order: ours or another operator's.
    pub posted: Vec<super::PostedBatch>,
    /// A commit that holds what is no batch, and why.
    pub junk: Option<(super::JunkCommit, String)>,
    /// Batches committed, as the poster learned from its receipts.
    pub committed: Vec<(BatchNumber, L1Link)>,
    /// Batches proven.
    pub proven: Vec<(BatchNumber, L1Link)>,
    /// All batches up to this one are proven as deep as this node demands.
    pub finalised: Option<BatchNumber>,
    /// The contract dropped all batches above this one.
    pub reverted_to: Option<BatchNumber>,
}

impl Engine {
    /// Takes news from L1.
    ///
    /// # Errors
    /// If the database fails.
    pub fn l1_update(
        &mut self,
        update: L1Update,
        now_millis: u64,
        turn: &mut Turn,
    ) -> Result<(), EngineError> {
        if let Some(time) = update.time {
            self.l1_time = time;
            self.resume_requeued(now_millis, turn);
        }
        if let Some(to) = update.reverted_to {
            self.forget_junk(BatchNumber(to.0 + 1), turn);
        }
        for number in &update.uncommitted {
            self.forget_junk(*number, turn);
        }
        if let Some(to) = update.reverted_to.filter(|to| *to < self.marks.planned) {
            let reason = "the contract dropped unproven batches";
            self.rollback(to, reason, now_millis, turn)?;
        }
        if let Some(from) = update.requests_dropped_from {
            self.drop_requests(from, now_millis, turn)?;
        }
        for request in &update.requests {
            if request.id == self.marks.requests_known {
                turn.writes
                    .put(Column::Requests, number_key(request.id), encode(request));
                self.marks.requests_known += 1;
                self.fresh_requests.insert(request.id, *request);
            }
        }
        let down = update.uncommitted.iter().map(|n| (*n, BatchStage::Sealed));
        let down = down.chain(update.unproven.iter().map(|n| (*n, BatchStage::Committed)));
        for (number, stage) in down {
            self.move_back(number, stage, turn)?;
        }
        for posted in update.posted {
            self.follow(posted, now_millis, turn)?;
        }
        if let Some((junk, reason)) = update.junk {
            self.forget_junk(junk.number, turn);
            self.pass_over(junk, &reason, now_millis, turn)?;
        }
        for (number, link) in update.committed {
            self.move_on(number, BatchStage::Committed, Some(link), now_millis, turn)?;
        }
        for (number, link) in update.proven {
            self.move_on(number, BatchStage::Proven, Some(link), now_millis, turn)?;
        }
        if let Some(up_to) = update.finalised {
            let first = self.marks.finalised.0 + 1;
            for number in first..=up_to.0.min(self.marks.sealed.0) {
                self.move_on(
                    BatchNumber(number),
                    BatchStage::Finalised,
                    None,
                    now_millis,
                    turn,
                )?;
                self.marks.finalised = BatchNumber(number);
            }
        }
        self.take_requests(now_millis, turn)
    }

    /// Whether a request in the open batch, or one that waits for the next, has waited so long on L1 that the batch cannot wait for
    /// more company.
    pub(super) fn request_is_urgent(&self) -> Result<bool, EngineError> {
        let id = self.open.first_request;
        let request = match self.fresh_requests.get(&id) {
            Some(request) => Some(*request),
            None if id < self.marks.requests_known => self.store.request(id)?,
            None => None,
        };
        let age = |request: QueuedRequest| self.l1_time.0.saturating_sub(request.created);
        Ok(request.is_some_and(|request| age(request) >= REQUEST_PATIENCE_SECS))
    }

    /// Takes waiting requests as the first rows of the open batch, while it holds no transaction.
    pub(super) fn take_requests(
        &mut self,
        now_millis: u64,
        turn: &mut Turn,
    ) -> Result<(), EngineError> {
        let mut taken = false;
        while self.config.sequencing
            && self.open.slots.is_empty()
            && self.open.l1_operations.len() < self.largest().l1_rows
            && self.marks.requests_taken < self.marks.requests_known
        {
            let id = self.marks.requests_taken;
            let request = match self.fresh_requests.get(&id) {
                Some(request) => *request,
                None => self
                    .store
                    .request(id)?
                    .ok_or_else(|| EngineError::Missing(format!("L1 request {id}")))?,
            };
            self.begin_batch(now_millis);
            self.take_request(&request, now_millis, turn)?;
            self.marks.requests_taken += 1;
            taken = true;
        }
        if taken {
            self.put_open_header(turn);
            if self.open.l1_operations.len() == self.largest().l1_rows {
                // More may wait: close now, so that the next batch can take them.
                if self.marks.requests_taken < self.marks.requests_known {
                    self.seal(now_millis, turn)?;
                }
            }
        }
        Ok(())
    }

    fn take_request(
        &mut self,
        request: &QueuedRequest,
        now_millis: u64,
        turn: &mut Turn,
    ) -> Result<(), EngineError> {
        let mut scratch = Scratch::new(&self.head, &self.store);
        let batch = self.open.number;
        let (operation, kind) = if request.is_deposit() {
            let owner = Owner(request.owner.0);
            let (token, amount) = (request.token, request.amount);
            let index = scratch.deposit_leaf(&owner, token, amount)?;
            let event = EventKind::DepositTaken {
                request: request.id,
                index,
                batch,
            };
            (
                L1Operation::Deposit {
                    index,
                    owner,
                    token,
                    amount,
                },
                event,
            )
        } else {
            let QueuedRequest {
                index,
                token,
                sender,
                key_x,
                key_y,
                ..
            } = *request;
            let event = EventKind::ForcedExitTaken {
                request: request.id,
                index,
                batch,
            };
            (
                L1Operation::ForcedExit {
                    index,
                    token,
                    sender,
                    key_x,
                    key_y,
                },
                event,
            )
        };
        scratch.l1(&operation)?;
        let changes = scratch.into_changes();
        self.keep(changes);
        self.open.l1_operations.push(operation);
        self.event(turn, now_millis, kind);
        Ok(())
    }

    /// A reorg removed requests: batches that served one of them are taken back.
    fn drop_requests(
        &mut self,
        from: u64,
        now_millis: u64,
        turn: &mut Turn,
    ) -> Result<(), EngineError> {
        self.flush(turn)?;
        let known = self.marks.requests_known;
        if self.marks.requests_taken > from {
            let mut stands = self.marks.planned;
            while stands.0 > 0 {
                let record = self.record(stands)?;
                let end = record.first_request + record.input.l1_operations.len() as u64;
                if end <= from {
                    break;
                }
                stands = BatchNumber(stands.0 - 1);
            }
            // The open batch alone may be affected: rolling back to the last planned one resets it.
            self.marks.requests_known = from;
            self.rollback(
                stands,
                "a reorg of L1 changed the request queue",
                now_millis,
                turn,
            )?;
        }
        for id in from..known {
            turn.writes.delete(Column::Requests, number_key(id));
        }
        self.marks.requests_known = self.marks.requests_known.min(from);
        self.fresh_requests.retain(|id, _| *id < from);
        Ok(())
    }

    pub(super) fn move_on(
        &mut self,
        number: BatchNumber,
        stage: BatchStage,
        link: Option<L1Link>,
        now_millis: u64,
        turn: &mut Turn,
    ) -> Result<(), EngineError> {
        if number > self.marks.sealed {
            return Ok(()); // somebody else's batch: the synchronizer rolls back and follows
        }
        let mut record = self.current_record(number, turn)?;
        if record.stage >= stage {
            return Ok(());
        }
        record.stage = stage;
        let batch = number;
        let kind = match (stage, link) {
            (BatchStage::Committed, Some(link)) => {
                record.committed = Some(link);
                EventKind::BatchCommitted {
                    batch,
                    l1_transaction: link.transaction,
                }
            }
            (BatchStage::Proven, Some(link)) => {
                record.proven = Some(link);
                turn.writes.delete(Column::Witnesses, number_key(number.0));
                EventKind::BatchProven {
                    batch,
                    l1_transaction: link.transaction,
                }
            }
            _ => EventKind::BatchFinalised { batch },
        };
        self.put_current_record(&record, turn);
        self.event(turn, now_millis, kind);
        Ok(())
    }

    fn move_back(
        &mut self,
        number: BatchNumber,
        stage: BatchStage,
        turn: &mut Turn,
    ) -> Result<(), EngineError> {
        if number > self.marks.sealed {
            return Ok(());
        }
        let mut record = self.current_record(number, turn)?;
        if record.stage > stage {
            record.stage = stage;
            record.proven = None;
            let before = BatchNumber(number.0.saturating_sub(1));
            self.marks.finalised = self.marks.finalised.min(before);
            if stage < BatchStage::Committed {
                record.committed = None;
            }
            self.put_current_record(&record, turn);
        }
        Ok(())
    }
}

//! Taking unproven batches back, and starting again after a restart.

use super::open::{OpenBatch, OpenHeader, delete_open_notes};
use super::{Engine, EngineError, Turn};
use crate::events::EventKind;
use crate::mempool::SubmitError;
use crate::state::Head;
use crate::store::disk::Column;
use crate::store::format::{encode, number_key};
use millrace_circuits::batch::Slot;
use millrace_circuits::op::Rejection;
use millrace_circuits::transaction::SignedTransaction;
use millrace_circuits::types::{AccountIndex, BatchNumber, Timestamp};

impl Engine {
    /// Takes back all batches above `to`. Their transactions run again in order; what no longer applies is dropped, with an event.
    ///
    /// # Errors
    /// If the database fails.
    pub fn rollback(
        &mut self,
        to: BatchNumber,
        reason: &str,
        now_millis: u64,
        turn: &mut Turn,
    ) -> Result<(), EngineError> {
        // What this turn has decided so far goes to disk first: the undo below reads it there.
        self.flush(turn)?;
        let (transactions, requests_taken) = self.unwind(to, turn)?;
        let kind = EventKind::RolledBack {
            to,
            reason: reason.to_owned(),
        };
        self.event(turn, now_millis, kind);
        self.reopen(to, &transactions, requests_taken, now_millis, turn)
    }

    /// After unwinding: opens the batch after `to`, and runs again in it what was taken back.
    pub(super) fn reopen(
        &mut self,
        to: BatchNumber,
        transactions: &[SignedTransaction],
        requests_taken: u64,
        now_millis: u64,
        turn: &mut Turn,
    ) -> Result<(), EngineError> {
        self.flush(turn)?;
        self.head = Head::new(self.marks.next_index);
        self.run_planned()?;
        self.last_timestamp = self.timestamp_of(to)?;
        self.open = OpenBatch::new(BatchNumber(to.0 + 1), self.last_timestamp, requests_taken);
        self.take_requests(now_millis, turn)?;
        self.run_again(transactions, now_millis, turn);
        Ok(())
    }

    /// Restores the state of batch `to` on disk and gives the transactions above it, in order.
    pub(super) fn unwind(
        &mut self,
        to: BatchNumber,
        turn: &mut Turn,
    ) -> Result<(Vec<SignedTransaction>, u64), EngineError> {
        let mut transactions = Vec::new();
        let mut requests_taken = self.open.first_request;
        for number in to.0 + 1..=self.marks.planned.0 {
            let record = self.record(BatchNumber(number))?;
            if number == to.0 + 1 {
                requests_taken = record.first_request;
            }
            transactions.extend(signed(&record.input.slots));
            turn.writes.delete(Column::Batches, number_key(number));
            turn.writes.delete(Column::Witnesses, number_key(number));
        }
        transactions.extend(signed(&self.open.slots));
        for sequence in &self.open.pending {
            turn.writes.delete(Column::Pending, number_key(*sequence));
        }
        delete_open_notes(turn);
        // Leaves that are empty again are given out again in the same order: what was signed names its leaf.
        let mut lowest = self.head.lowest_created();
        for number in (to.0 + 1..=self.marks.sealed.0).rev() {
            let batch = BatchNumber(number);
            let undo = self.store.undo(batch)?;
            let undo =
                undo.ok_or_else(|| EngineError::Missing(format!("what batch {batch} overwrote")))?;
            let created = undo.accounts.iter().filter(|(_, before)| before.is_none());
            lowest = lowest
                .into_iter()
                .chain(created.map(|(index, _)| *index))
                .min();
            turn.writes.append(undo.writes(&self.store)?);
            turn.writes.delete(Column::Undo, number_key(number));
        }
        // In the same write as the undo: a crash before they have run again must not lose them.
        for (number, signed) in (0..).zip(&transactions) {
            turn.writes
                .put(Column::Requeue, number_key(number), encode(signed));
        }
        if let Some(lowest) = lowest {
            self.head.next_index = self.head.next_index.min(lowest.get());
        }
        self.hashing = None;
        self.epoch += 1;
        self.marks.planned = to;
        self.marks.sealed = self.marks.sealed.min(to);
        self.marks.requests_taken = requests_taken;
        Ok((transactions, requests_taken))
    }

    pub(super) fn run_again(
        &mut self,
        transactions: &[SignedTransaction],
        now_millis: u64,
        turn: &mut Turn,
    ) {
        for number in (0..).take(transactions.len()) {
            turn.writes.delete(Column::Requeue, number_key(number));
        }
        let mut rest = transactions.iter().peekable();
        let domain = self.config.domain;
        while let Some(first) = rest.next() {
            let mut group = vec![(*first, first.id(&domain))];
            let is_pair = |second: &&SignedTransaction| {
                first.transaction.link.0 == second.transaction.core()
                    || second.transaction.link.0 == first.transaction.core()
            };
            if let Some(second) = rest.next_if(is_pair) {
                group.push((*second, second.id(&domain)));
            }
            if let Err(rule) = self.run(&group, now_millis, turn) {
                for (signed, _) in &group {
                    self.drop_transaction(signed, dropped_because(&rule), now_millis, turn);
                }
            }
        }
    }

    fn timestamp_of(&self, number: BatchNumber) -> Result<Timestamp, EngineError> {
        match number.0 {
            0 => Ok(Timestamp(0)),
            _ => Ok(self
                .store
                .batch(number)?
                .map_or(Timestamp(0), |record| record.input.timestamp)),
        }
    }

    /// Writes what the turn holds so far.
    pub(super) fn flush(&mut self, turn: &mut Turn) -> Result<(), EngineError> {
        let flushed = std::mem::take(&mut turn.writes);
        let writes = self.finish(Turn {
            writes: flushed,
            ..Turn::default()
        });
        self.store.write(writes)?;
        self.fresh_records.clear();
        Ok(())
    }

    /// Batches that are planned but not sealed run again on a head that is the sealed state, as they did before.
    fn run_planned(&mut self) -> Result<(), EngineError> {
        for number in self.marks.sealed.0 + 1..=self.marks.planned.0 {
            let batch = BatchNumber(number);
            let input = self.record(batch)?.input;
            let fees = self.rerun(
                batch,
                input.timestamp,
                &input.l1_operations,
                &input.slots,
                &input.fee_leaves,
            )?;
            self.credit_fees(&fees, batch)?;
        }
        Ok(())
    }

    /// After a start: planned batches and pending transactions run again.
    pub(super) fn resume(&mut self) -> Result<(), EngineError> {
        self.run_planned()?;
        self.last_timestamp = self.timestamp_of(self.marks.planned)?;
        self.open.timestamp = self.last_timestamp;
        if let Some((header, fee_leaves)) = self.open_notes()? {
            self.resume_open(header, &fee_leaves)?;
        }
        self.requeued = self.store.requeued()?;
        self.resume_waiting()
    }

    /// After a crash in the middle of a rollback: what was taken back then runs again.
    pub(super) fn resume_requeued(&mut self, now_millis: u64, turn: &mut Turn) {
        let transactions = std::mem::take(&mut self.requeued);
        self.run_again(&transactions, now_millis, turn);
    }

    fn resume_open(
        &mut self,
        header: OpenHeader,
        fee_leaves: &[AccountIndex],
    ) -> Result<(), EngineError> {
        let pending = self.store.pending()?;
        let mut slots = Vec::new();
        for (_, entry) in &pending {
            slots.resize(entry.row as usize, Slot::Noop);
            slots.push(Slot::Transaction {
                signed: entry.signed,
                to: entry.to,
            });
        }
        let number = header.number;
        let fees = self.rerun(
            number,
            header.timestamp,
            &header.l1_operations,
            &slots,
            fee_leaves,
        )?;
        let domain = self.config.domain;
        self.open = OpenBatch {
            number,
            timestamp: header.timestamp,
            first_request: header.first_request,
            l1_operations: header.l1_operations,
            ids: pending
                .iter()
                .map(|(_, entry)| entry.signed.id(&domain))
                .collect(),
            slots,
            fees,
            pending: pending.iter().map(|(sequence, _)| *sequence).collect(),
            opened_at_millis: header.opened_at_millis,
        };
        Ok(())
    }
}

fn signed(slots: &[Slot]) -> impl Iterator<Item = SignedTransaction> + '_ {
    slots.iter().filter_map(|slot| match slot {
        Slot::Noop => None,
        Slot::Transaction { signed, .. } => Some(*signed),
    })
}

fn dropped_because(rule: &SubmitError) -> String {
    match rule {
        SubmitError::Rule(Rejection::NonceTooHigh { .. }) => {
            "an earlier transaction of the account was dropped".to_owned()
        }
        other => format!("no longer valid after a rollback: {other}"),
    }
}

//! Taking transactions: each check in its documented order, then it runs, or waits for an earlier nonce or its partner.

use super::execute::Scratch;
use super::open::Fees;
use super::{Engine, EngineError, Turn};
use crate::events::EventKind;
use crate::mempool::{Answer, Pending, SubmitError, TransactionRecord, TransactionState, Waiting};
use crate::store::disk::Column;
use crate::store::format::{encode, history_key, number_key, waiting_key};
use ark_ff::Zero;
use millrace_circuits::batch::Slot;
use millrace_circuits::field::Word;
use millrace_circuits::op::Rejection;
use millrace_circuits::transaction::{SignedTransaction, TransactionId};
use millrace_circuits::types::{AccountIndex, Timestamp, TokenId};

/// A transaction that was taken.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Submitted {
    /// Its id.
    pub id: TransactionId,
    /// Where it stands.
    pub state: TransactionState,
}

/// What running one or two transactions came to.
enum Outcome {
    Ran,
    /// For an earlier nonce.
    Waits,
}

impl Engine {
    /// Takes one transaction, or two that are linked to each other. Their signatures were checked.
    ///
    /// # Errors
    /// The first [`SubmitError`] in the order of its variants; then nothing was taken.
    pub fn submit(
        &mut self,
        signed: &[SignedTransaction],
        key: Option<&str>,
        now_millis: u64,
        turn: &mut Turn,
    ) -> Result<Vec<Submitted>, SubmitError> {
        if let Some(reason) = &self.halted {
            return Err(SubmitError::Unavailable {
                reason: reason.clone(),
            });
        }
        if !self.config.sequencing {
            let reason = "this node follows and makes no batches".to_owned();
            return Err(SubmitError::Unavailable { reason });
        }
        let domain = self.config.domain;
        let ids: Vec<_> = signed.iter().map(|one| one.id(&domain)).collect();
        if let Some(answer) = self.known_answer(key, turn)? {
            return if answer.ids == ids {
                self.answer_again(&ids, turn)
            } else {
                Err(SubmitError::IdempotencyKeyReused)
            };
        }
        if self.marks.planned.0 - self.marks.sealed.0 >= self.config.backlog {
            return Err(SubmitError::Busy);
        }
        for (one, id) in signed.iter().zip(&ids) {
            self.check_terms(one, id, now_millis, turn)?;
        }
        let taken = match signed {
            [one] => self.take_one(one, ids[0], now_millis, turn)?,
            [first, second] => {
                let linked = |a: &SignedTransaction, b: &SignedTransaction| {
                    a.transaction.link == Word(b.transaction.core())
                };
                if !linked(first, second) || !linked(second, first) {
                    return Err(SubmitError::NotAPair);
                }
                self.run(&[(*first, ids[0]), (*second, ids[1])], now_millis, turn)?;
                Outcome::Ran
            }
            _ => return Err(SubmitError::NotAPair),
        };
        if let Some(key) = key {
            let answer = Answer {
                ids: ids.clone(),
                at_millis: now_millis,
            };
            turn.writes
                .put(Column::Answers, key.as_bytes().to_vec(), encode(&answer));
            turn.answers.insert(key.to_owned(), answer);
        }
        if matches!(taken, Outcome::Ran) {
            self.promote(
                signed.iter().map(|one| one.transaction.from).collect(),
                now_millis,
                turn,
            )?;
        }
        let state = |id: &TransactionId| match taken {
            Outcome::Waits => TransactionState::Waiting,
            Outcome::Ran => self.state_in_open(id),
        };
        Ok(ids
            .iter()
            .map(|id| Submitted {
                id: *id,
                state: state(id),
            })
            .collect())
    }

    fn state_in_open(&self, id: &TransactionId) -> TransactionState {
        // Promotion may have closed the batch; the record says which batch it is in.
        match self.rows_of_open().find(|(held, _)| held == id) {
            Some((_, row)) => TransactionState::InBatch {
                batch: self.open.number,
                row,
            },
            None => TransactionState::InBatch {
                batch: self.marks.planned,
                row: 0,
            },
        }
    }

    fn rows_of_open(&self) -> impl Iterator<Item = (TransactionId, u32)> + '_ {
        let rows = self.open.slots.iter().enumerate();
        let rows = rows
            .filter(|(_, slot)| !matches!(slot, Slot::Noop))
            .map(|(row, _)| row as u32);
        self.open.ids.iter().copied().zip(rows)
    }

    fn known_answer(&self, key: Option<&str>, turn: &Turn) -> Result<Option<Answer>, SubmitError> {
        let Some(key) = key else { return Ok(None) };
        match turn.answers.get(key) {
            Some(answer) => Ok(Some(answer.clone())),
            None => self.store.answer(key).map_err(stored),
        }
    }

    fn answer_again(
        &self,
        ids: &[TransactionId],
        _turn: &Turn,
    ) -> Result<Vec<Submitted>, SubmitError> {
        ids.iter()
            .map(|id| {
                let record = self.store.transaction(id).map_err(stored)?;
                // Taken in this very turn: not on disk yet, so in the open batch or waiting.
                let state = record.map_or_else(|| self.state_in_open(id), |record| record.state);
                Ok(Submitted { id: *id, state })
            })
            .collect()
    }

    /// The operator's terms: how long it is valid, whether it is new, what it pays.
    fn check_terms(
        &self,
        signed: &SignedTransaction,
        id: &TransactionId,
        now_millis: u64,
        turn: &Turn,
    ) -> Result<(), SubmitError> {
        let transaction = &signed.transaction;
        let now = (now_millis / 1000).max(self.l1_time.0);
        let limit = Timestamp(now.saturating_add(self.config.mempool.validity_secs));
        if transaction.valid_until > limit {
            return Err(SubmitError::ValidTooLong {
                valid_until: transaction.valid_until,
                limit,
            });
        }
        if turn.ids.contains_key(id) || self.is_taken(id)? {
            return Err(SubmitError::Duplicate { id: *id });
        }
        let token = transaction.token;
        let offered = transaction
            .fee
            .value()
            .expect("the largest fee is below 2^128");
        let leaf = self.fee_leaf(token).map_err(stored)?;
        let floor = if leaf.is_some() {
            self.config.fees.floor(token)
        } else {
            Default::default()
        };
        if offered < floor {
            return Err(SubmitError::FeeTooLow {
                offered,
                floor,
                token,
            });
        }
        if !offered.is_zero() && leaf.is_none() {
            return Err(SubmitError::FeeNotTaken { token });
        }
        Ok(())
    }

    /// Whether a transaction is in the log and was not dropped: a dropped one may be submitted again.
    fn is_taken(&self, id: &TransactionId) -> Result<bool, SubmitError> {
        let record = self.store.transaction(id).map_err(stored)?;
        Ok(record.is_some_and(|record| !matches!(record.state, TransactionState::Dropped { .. })))
    }

    fn take_one(
        &mut self,
        signed: &SignedTransaction,
        id: TransactionId,
        now_millis: u64,
        turn: &mut Turn,
    ) -> Result<Outcome, SubmitError> {
        let link = signed.transaction.link;
        if link.0.is_zero() {
            return match self.run(&[(*signed, id)], now_millis, turn) {
                Ok(()) => Ok(Outcome::Ran),
                Err(SubmitError::Rule(Rejection::NonceTooHigh { .. })) => {
                    self.wait(signed, id, now_millis, turn)
                }
                Err(error) => Err(error),
            };
        }
        let partner = self.mempool.partner(&link).copied();
        if let Some(partner) = partner {
            let partner_id = partner.signed.id(&self.config.domain);
            let pair = [(partner.signed, partner_id), (*signed, id)];
            match self.run(&pair, now_millis, turn) {
                Ok(()) => {
                    self.stop_waiting(&partner.signed, turn);
                    return Ok(Outcome::Ran);
                }
                Err(SubmitError::Rule(Rejection::NonceTooHigh { .. })) => {}
                Err(error) => return Err(error),
            }
        }
        self.wait(signed, id, now_millis, turn)
    }

    /// Keeps a transaction that cannot run yet, if it can ever run.
    fn wait(
        &mut self,
        signed: &SignedTransaction,
        id: TransactionId,
        now_millis: u64,
        turn: &mut Turn,
    ) -> Result<Outcome, SubmitError> {
        let transaction = &signed.transaction;
        let from = transaction.from;
        let timestamp = self.timestamp_for_next();
        if transaction.valid_until < timestamp {
            let valid_until = transaction.valid_until;
            return Err(Rejection::Expired {
                valid_until,
                timestamp,
            }
            .into());
        }
        let account = self.head.account(&self.store, from).map_err(stored)?;
        let account = account.ok_or(Rejection::AccountMissing { from })?;
        if transaction.nonce < account.nonce {
            let (expected, got) = (account.nonce, transaction.nonce);
            return Err(Rejection::NonceTooLow { expected, got }.into());
        }
        let waiting = Waiting {
            signed: *signed,
            since_millis: now_millis,
        };
        if let Some(replaced) = self.mempool.insert(waiting, account.nonce)? {
            let reason = "replaced by a transaction with a higher fee".to_owned();
            self.drop_transaction(&replaced.signed, reason, now_millis, turn);
        }
        let key = waiting_key(from, transaction.nonce.get());
        turn.writes.put(Column::Waiting, key, encode(&waiting));
        let state = TransactionState::Waiting;
        self.put_transaction(signed, id, state, AccountIndex::ZERO, now_millis, turn);
        self.event(turn, now_millis, EventKind::TransactionWaiting { id });
        Ok(Outcome::Waits)
    }

    /// Runs one or two transactions in the open batch, or none of them.
    pub(super) fn run(
        &mut self,
        group: &[(SignedTransaction, TransactionId)],
        now_millis: u64,
        turn: &mut Turn,
    ) -> Result<(), SubmitError> {
        let mut tokens: Vec<TokenId> = group
            .iter()
            .map(|(signed, _)| &signed.transaction)
            .filter(|transaction| transaction.fee.value().is_some_and(|fee| !fee.is_zero()))
            .map(|transaction| transaction.token)
            .collect();
        tokens.dedup();
        // What an attacker can repeat for free must not close batches: the rules are checked first.
        self.execute_group(group, self.timestamp_for_next())?;
        self.fees_with(group)?;
        if !self.open.has_room(&self.largest(), group.len(), &tokens) {
            self.seal(now_millis, turn).map_err(failed)?;
        }
        let begins = self.open.is_empty();
        self.begin_batch(now_millis);
        let (changes, leaves) = self.execute_group(group, self.open.timestamp)?;
        let fees = self.fees_with(group)?;
        // From here on nothing refuses: what is kept of a transaction is kept whole.
        self.keep(changes);
        if begins {
            self.put_open_header(turn);
        }
        self.set_open_fees(fees, turn);
        while self.open.slots.len() < self.open.next_row(group.len()) {
            self.open.slots.push(Slot::Noop);
        }
        for ((signed, id), to) in group.iter().zip(leaves) {
            self.append(signed, *id, to, now_millis, turn);
        }
        if !self.open.has_room(&self.largest(), 1, &[]) {
            self.seal(now_millis, turn).map_err(failed)?;
        }
        Ok(())
    }

    /// The fees of the open batch with those of a group. An owner of fees that is new in the configuration may lack the leaf.
    fn fees_with(&self, group: &[(SignedTransaction, TransactionId)]) -> Result<Fees, SubmitError> {
        let mut fees = self.open.fees.clone();
        for (signed, _) in group {
            let token = signed.transaction.token;
            let added = self.add_fee(&mut fees, signed).map_err(stored)?;
            added.ok_or(SubmitError::FeeNotTaken { token })?;
        }
        Ok(fees)
    }

    /// The timestamp of the batch that a transaction submitted now would enter.
    fn timestamp_for_next(&self) -> Timestamp {
        if self.open.is_empty() {
            self.next_timestamp()
        } else {
            self.open.timestamp
        }
    }

    fn execute_group(
        &self,
        group: &[(SignedTransaction, TransactionId)],
        timestamp: Timestamp,
    ) -> Result<(super::execute::Changes, Vec<AccountIndex>), SubmitError> {
        let mut scratch = Scratch::new(&self.head, &self.store);
        let leaves = group
            .iter()
            .map(|(signed, _)| scratch.transaction(signed, timestamp, None))
            .collect::<Result<_, _>>()?;
        Ok((scratch.into_changes(), leaves))
    }

    /// Puts an executed transaction into the open batch and its records into the turn.
    fn append(
        &mut self,
        signed: &SignedTransaction,
        id: TransactionId,
        to: AccountIndex,
        now_millis: u64,
        turn: &mut Turn,
    ) {
        let row = self.open.slots.len() as u32;
        self.open.slots.push(Slot::Transaction {
            signed: *signed,
            to,
        });
        self.open.ids.push(id);
        let sequence = self.marks.next_pending;
        self.marks.next_pending += 1;
        self.open.pending.push(sequence);
        let pending = Pending {
            signed: *signed,
            to,
            row,
        };
        turn.writes
            .put(Column::Pending, number_key(sequence), encode(&pending));
        let batch = self.open.number;
        let state = TransactionState::InBatch { batch, row };
        self.put_transaction(signed, id, state, to, now_millis, turn);
        for index in [signed.transaction.from, to] {
            if !index.is_zero() {
                let key = history_key(index, sequence);
                turn.writes.put(Column::History, key, encode(&id));
            }
        }
        self.event(
            turn,
            now_millis,
            EventKind::TransactionAccepted { id, batch },
        );
    }

    fn put_transaction(
        &mut self,
        signed: &SignedTransaction,
        id: TransactionId,
        state: TransactionState,
        to: AccountIndex,
        now_millis: u64,
        turn: &mut Turn,
    ) {
        let record = TransactionRecord {
            signed: *signed,
            state,
            to,
            received_at_millis: now_millis,
        };
        turn.writes
            .put(Column::Transactions, id.0.to_vec(), encode(&record));
        turn.ids.insert(id, ());
    }

    /// Runs what waited for these accounts' next nonces, and what that lets run.
    fn promote(
        &mut self,
        mut accounts: Vec<AccountIndex>,
        now_millis: u64,
        turn: &mut Turn,
    ) -> Result<(), SubmitError> {
        while let Some(from) = accounts.pop() {
            let Some(account) = self.head.account(&self.store, from).map_err(stored)? else {
                continue;
            };
            let Some(waiting) = self.mempool.at(from, account.nonce).copied() else {
                continue;
            };
            let Some(group) = self.runnable(&waiting.signed) else {
                continue;
            };
            match self.run(&group, now_millis, turn) {
                Ok(()) => {
                    for (signed, _) in &group {
                        self.stop_waiting(signed, turn);
                        accounts.push(signed.transaction.from);
                    }
                }
                Err(SubmitError::Rule(Rejection::NonceTooHigh { .. })) => {}
                Err(error) => {
                    self.stop_waiting(&waiting.signed, turn);
                    self.drop_transaction(&waiting.signed, error.to_string(), now_millis, turn);
                }
            }
        }
        Ok(())
    }

    /// A waiting transaction, with its partner if it is linked; `None` while the partner has not come.
    fn runnable(
        &self,
        signed: &SignedTransaction,
    ) -> Option<Vec<(SignedTransaction, TransactionId)>> {
        let id = signed.id(&self.config.domain);
        if signed.transaction.link.0.is_zero() {
            return Some(vec![(*signed, id)]);
        }
        let partner = self.mempool.partner(&signed.transaction.link)?.signed;
        Some(vec![
            (*signed, id),
            (partner, partner.id(&self.config.domain)),
        ])
    }

    fn stop_waiting(&mut self, signed: &SignedTransaction, turn: &mut Turn) {
        let transaction = &signed.transaction;
        self.mempool.remove(transaction.from, transaction.nonce);
        let key = waiting_key(transaction.from, transaction.nonce.get());
        turn.writes.delete(Column::Waiting, key);
    }

    /// Records that a transaction will not happen.
    pub(super) fn drop_transaction(
        &mut self,
        signed: &SignedTransaction,
        reason: String,
        now_millis: u64,
        turn: &mut Turn,
    ) {
        let id = signed.id(&self.config.domain);
        let state = TransactionState::Dropped {
            reason: reason.clone(),
        };
        self.put_transaction(signed, id, state, AccountIndex::ZERO, now_millis, turn);
        turn.ids.remove(&id);
        self.event(
            turn,
            now_millis,
            EventKind::TransactionDropped { id, reason },
        );
    }

    /// Drops what waited past its time.
    pub(super) fn drop_expired(&mut self, now_millis: u64, turn: &mut Turn) {
        for waiting in self.mempool.expire(self.next_timestamp()) {
            let transaction = &waiting.signed.transaction;
            let key = waiting_key(transaction.from, transaction.nonce.get());
            turn.writes.delete(Column::Waiting, key);
            let reason = "expired while it waited".to_owned();
            self.drop_transaction(&waiting.signed, reason, now_millis, turn);
        }
    }

    /// Puts back what waited before a restart.
    pub(super) fn resume_waiting(&mut self) -> Result<(), EngineError> {
        for waiting in self.store.waiting()? {
            let from = waiting.signed.transaction.from;
            let nonce = self
                .head
                .account(&self.store, from)?
                .map_or_else(Default::default, |a| a.nonce);
            // What no longer fits was bounded when it was taken; leaving it on disk loses nothing.
            let _ = self.mempool.insert(waiting, nonce);
        }
        Ok(())
    }
}

fn stored(error: crate::store::StoreError) -> SubmitError {
    SubmitError::Storage(error.to_string())
}

fn failed(error: EngineError) -> SubmitError {
    SubmitError::Storage(error.to_string())
}

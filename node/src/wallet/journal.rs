//! What the wallet signed, on disk before any signature leaves it.
//!
//! ```text
//! intent → free_nonce → sign (appended, fsynced) → submit ─→ acknowledged | rejected | unknown (sent again, same bytes)
//! ```
//!
//! Only one transaction of an account and nonce can ever be applied. So a retry sends the same bytes, and what replaces a
//! rejected one takes its (account, nonce): the first may still surface, but both can never be paid. A nonce is free
//! unless a transaction holds it that waits or whose fate is unknown, and that has not expired.

use crate::api::types::ReceiptView;
use crate::wallet::files;
use millrace_circuits::eddsa::SecretKey;
use millrace_circuits::transaction::{Domain, SignedTransaction, Transaction, TransactionId};
use millrace_circuits::types::{AccountIndex, L1Address, Nonce, Timestamp};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use thiserror::Error;

/// A transaction can be in a batch until this long after its `valid_until`.
pub const GRACE_SECS: u64 = 2 * 3600;
/// How long wallets sign ahead unless told.
pub const DEFAULT_VALIDITY_SECS: u64 = 3600;
/// How long wallets sign ahead at the most.
pub const MAX_VALIDITY_SECS: u64 = 30 * 24 * 3600;

/// Why the journal cannot be used.
#[derive(Debug, Error)]
pub enum JournalError {
    /// The disk failed.
    #[error("{path}: {source}")]
    Io {
        /// The file.
        path: PathBuf,
        /// What failed.
        source: io::Error,
    },
    /// Another process has the wallet open.
    #[error("another millrace process is using this wallet ({0}): wait for it to end")]
    Locked(PathBuf),
    /// A line that is not the last one is unreadable.
    #[error("{path}, line {line} is damaged ({problem}): restore the file from a backup")]
    Damaged {
        /// The file.
        path: PathBuf,
        /// Its line, from 1.
        line: usize,
        /// What is wrong.
        problem: String,
    },
    /// Signing too far ahead.
    #[error("valid for {got} s, at most {MAX_VALIDITY_SECS} s (30 days) are signed ahead")]
    TooFarAhead {
        /// Seconds asked for.
        got: u64,
    },
}

/// What became of a signed transaction, as far as the wallet knows.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "state")]
pub enum Outcome {
    /// Signed; it may or may not have reached the node.
    Unknown,
    /// The node has it, durably.
    Acknowledged,
    /// The node refused it. It could still be applied by whoever saw it.
    Rejected {
        /// The node's stable code.
        code: String,
    },
    /// Another one of the same account and nonce was signed.
    Replaced,
}

/// A signed transaction and its fate.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Signed {
    /// Its identity.
    pub id: TransactionId,
    /// The rollup it is for.
    pub domain: Domain,
    /// When it was signed.
    pub signed_at: Timestamp,
    /// The transaction with its signature.
    pub transaction: SignedTransaction,
    /// The other half of an atomic swap.
    pub pair: Option<SignedTransaction>,
    /// What became of it.
    pub outcome: Outcome,
    /// The operator's signed word that it is durable, kept as evidence.
    #[serde(default)]
    pub receipt: Option<ReceiptView>,
}

impl Signed {
    fn slot(&self) -> Slot {
        let transaction = &self.transaction.transaction;
        (field_key(&self.domain), transaction.from, transaction.nonce)
    }

    /// Whether it waits, or may, so that another one of its nonce would replace it.
    fn holds_its_nonce(&self, now: Timestamp) -> bool {
        matches!(self.outcome, Outcome::Unknown | Outcome::Acknowledged)
            && self.transaction.transaction.valid_until >= now
    }

    /// Whether no batch can hold it any more.
    pub fn is_past(&self, now: Timestamp) -> bool {
        let last = self.transaction.transaction.valid_until.0;
        last.saturating_add(GRACE_SECS) < now.0
    }

    /// Whether it pays the same to the same, by the same account.
    pub fn pays_the_same(&self, other: &Transaction) -> bool {
        let mine = &self.transaction.transaction;
        mine.from == other.from
            && mine.token == other.token
            && mine.action == other.action
            && mine.fee == other.fee
            && mine.link == other.link
    }
}

type Slot = ([u8; 32], AccountIndex, Nonce);

fn field_key(domain: &Domain) -> [u8; 32] {
    millrace_circuits::field::to_bytes(&domain.0.0)
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Entry {
    Signed(Box<Signed>),
    Outcome { id: TransactionId, outcome: Outcome },
    Receipt(ReceiptView),
}

/// The journal of one wallet. It is locked for as long as it is open.
pub struct Journal {
    path: PathBuf,
    file: File,
    records: BTreeMap<TransactionId, Signed>,
    order: Vec<TransactionId>,
    _lock: files::Lock,
}

impl Journal {
    /// Opens the journal, or starts one, and locks it. A last line that a crash cut short is dropped: its signature never
    /// left the wallet.
    ///
    /// # Errors
    /// If another process has it, an earlier line is damaged, or the disk fails.
    pub fn open(path: impl Into<PathBuf>) -> Result<Self, JournalError> {
        let path = path.into();
        let io = |source| JournalError::Io {
            path: path.clone(),
            source,
        };
        let lock = files::Lock::take(&path.with_extension("lock")).map_err(|error| match error
            .kind()
        {
            io::ErrorKind::WouldBlock => JournalError::Locked(path.clone()),
            _ => io(error),
        })?;
        let file = OpenOptions::new()
            .read(true)
            .append(true)
            .create(true)
            .mode(0o600)
            .open(&path)
            .map_err(io)?;
        let mut journal = Self {
            path: path.clone(),
            file,
            records: BTreeMap::new(),
            order: Vec::new(),
            _lock: lock,
        };
        journal.replay()?;
        Ok(journal)
    }

    fn replay(&mut self) -> Result<(), JournalError> {
        let text = std::fs::read(&self.path).map_err(|source| self.io(source))?;
        let whole = text
            .iter()
            .rposition(|byte| *byte == b'\n')
            .map_or(0, |at| at + 1);
        for (number, line) in text[..whole].split(|byte| *byte == b'\n').enumerate() {
            if line.is_empty() {
                continue;
            }
            let entry = serde_json::from_slice(line).map_err(|error| JournalError::Damaged {
                path: self.path.clone(),
                line: number + 1,
                problem: error.to_string(),
            })?;
            self.apply(entry);
        }
        if whole < text.len() {
            self.file
                .set_len(whole as u64)
                .map_err(|source| self.io(source))?;
        }
        Ok(())
    }

    fn apply(&mut self, entry: Entry) {
        match entry {
            Entry::Signed(signed) => {
                let slot = signed.slot();
                for other in self.records.values_mut() {
                    if other.slot() == slot && other.id != signed.id {
                        other.outcome = Outcome::Replaced;
                    }
                }
                if !self.records.contains_key(&signed.id) {
                    self.order.push(signed.id);
                }
                self.records.insert(signed.id, *signed);
            }
            Entry::Outcome { id, outcome } => {
                if let Some(record) = self.records.get_mut(&id) {
                    record.outcome = outcome;
                }
            }
            Entry::Receipt(receipt) => {
                if let Some(record) = self.records.get_mut(&receipt.id) {
                    record.receipt = Some(receipt);
                }
            }
        }
    }

    fn append(&mut self, entry: Entry) -> Result<(), JournalError> {
        let mut line = serde_json::to_vec(&entry).expect("plain fields serialise");
        line.push(b'\n');
        let written = self
            .file
            .write_all(&line)
            .and_then(|()| self.file.sync_all());
        written.map_err(|source| self.io(source))?;
        self.apply(entry);
        Ok(())
    }

    fn io(&self, source: io::Error) -> JournalError {
        JournalError::Io {
            path: self.path.clone(),
            source,
        }
    }

    /// The file.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The smallest nonce, from the account's own on, that no waiting transaction holds.
    pub fn free_nonce(
        &self,
        domain: &Domain,
        from: AccountIndex,
        account_nonce: Nonce,
        now: Timestamp,
    ) -> Option<Nonce> {
        let domain = field_key(domain);
        let held = |nonce: Nonce| {
            let slot = (domain, from, nonce);
            self.records
                .values()
                .any(|record| record.slot() == slot && record.holds_its_nonce(now))
        };
        let mut nonce = account_nonce;
        while held(nonce) {
            nonce = nonce.next()?;
        }
        Some(nonce)
    }

    /// Signs a transaction and writes it down, in that order, before anyone sees the signature. The same transaction signed
    /// again gives the record there is.
    ///
    /// # Errors
    /// If it is signed too far ahead, or the disk fails.
    pub fn sign(
        &mut self,
        domain: &Domain,
        transaction: Transaction,
        l1_address: L1Address,
        key: &SecretKey,
        now: Timestamp,
    ) -> Result<Signed, JournalError> {
        let ahead = transaction.valid_until.0.saturating_sub(now.0);
        if ahead > MAX_VALIDITY_SECS {
            return Err(JournalError::TooFarAhead { got: ahead });
        }
        let signed = transaction.sign(domain, l1_address, key);
        let id = signed.id(domain);
        if let Some(record) = self
            .records
            .get(&id)
            .filter(|r| r.outcome != Outcome::Replaced)
        {
            return Ok(record.clone());
        }
        let record = Signed {
            id,
            domain: *domain,
            signed_at: now,
            transaction: signed,
            pair: None,
            outcome: Outcome::Unknown,
            receipt: None,
        };
        self.append(Entry::Signed(Box::new(record.clone())))?;
        Ok(record)
    }

    /// Notes the other half of a swap, so that a retry can send both.
    ///
    /// # Errors
    /// If the disk fails.
    pub fn note_pair(
        &mut self,
        id: TransactionId,
        pair: SignedTransaction,
    ) -> Result<(), JournalError> {
        let Some(mut record) = self.records.get(&id).cloned() else {
            return Ok(());
        };
        record.pair = Some(pair);
        self.append(Entry::Signed(Box::new(record)))
    }

    /// Notes what became of a transaction.
    ///
    /// # Errors
    /// If the disk fails.
    pub fn note_outcome(
        &mut self,
        id: TransactionId,
        outcome: Outcome,
    ) -> Result<(), JournalError> {
        match self.records.get(&id) {
            Some(record) if record.outcome != outcome => {
                self.append(Entry::Outcome { id, outcome })
            }
            _ => Ok(()),
        }
    }

    /// Keeps the operator's receipts of known transactions, those that verify.
    ///
    /// # Errors
    /// If the disk fails.
    pub fn note_receipts(&mut self, receipts: &[ReceiptView]) -> Result<(), JournalError> {
        for view in receipts {
            let Some(record) = self.records.get(&view.id) else {
                continue;
            };
            if record.receipt.is_none() && view.to_receipt(record.domain).is_valid() {
                self.append(Entry::Receipt(view.clone()))?;
            }
        }
        Ok(())
    }

    /// A transaction by its identity.
    pub fn get(&self, id: &TransactionId) -> Option<&Signed> {
        self.records.get(id)
    }

    /// All transactions of one rollup, oldest first.
    pub fn records(&self, domain: &Domain) -> impl Iterator<Item = &Signed> {
        let domain = *domain;
        self.order
            .iter()
            .filter_map(|id| self.records.get(id))
            .filter(move |record| record.domain == domain)
    }

    /// Transactions of unknown fate that can still be applied, oldest first: they are sent again as they are.
    pub fn unknown(&self, domain: &Domain, now: Timestamp) -> Vec<Signed> {
        self.records(domain)
            .filter(|record| record.outcome == Outcome::Unknown && !record.is_past(now))
            .cloned()
            .collect()
    }
}

#[cfg(test)]
mod tests;

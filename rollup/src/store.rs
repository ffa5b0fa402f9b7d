//! The database in three layers: [`disk`] moves bytes, [`mod@format`] says which bytes, [`Store`] answers questions.
//!
//! One [`Writes`] is one atomic, synced batch: whatever is acknowledged was in one.

pub mod disk;
pub mod format;
pub mod migrate;

use crate::batch_log::{BatchRecord, StoredWitness};
use crate::events::Event;
use crate::mempool::{Pending, TransactionRecord, Waiting};
use disk::{Column, Disk, DiskError, View, Writes};
use format::{FormatError, decode, encode};
use millrace_circuits::account::{Account, Owner};
use millrace_circuits::transaction::{SignedTransaction, TransactionId};
use millrace_circuits::types::{AccountIndex, BatchNumber, TokenId};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use std::path::Path;
use thiserror::Error;

/// Why the database cannot answer.
#[derive(Debug, Error)]
pub enum StoreError {
    /// The disk failed.
    #[error(transparent)]
    Disk(#[from] DiskError),
    /// A record does not decode: the database is damaged.
    #[error(
        "record {key} in {column} is damaged: {reason}; restore the state from L1 with `millrace restore`"
    )]
    Damaged {
        /// Column family.
        column: &'static str,
        /// The key in hexadecimal.
        key: String,
        /// What is wrong.
        reason: FormatError,
    },
    /// Records contradict each other: the database is damaged.
    #[error(
        "the database contradicts itself: {0}; restore the state from L1 with `millrace restore`"
    )]
    Inconsistent(String),
    /// Written by a newer program.
    #[error(
        "the database has schema version {found}, this program knows up to {known}: run a newer millrace"
    )]
    Newer {
        /// Version on disk.
        found: u32,
        /// Version of this program.
        known: u32,
    },
    /// The database belongs to another contract.
    #[error("the database belongs to domain {found}, not {expected}: use another data directory")]
    OtherDomain {
        /// Domain on disk.
        found: String,
        /// Domain configured.
        expected: String,
    },
}

impl StoreError {
    fn damaged(column: Column, key: &[u8], reason: FormatError) -> Self {
        Self::Damaged {
            column: column.name(),
            key: hex::encode(key),
            reason,
        }
    }
}

/// The result of a question.
pub type StoreResult<T> = Result<T, StoreError>;

/// Counters and marks that change with every write.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Marks {
    /// Sequence number of the next event.
    pub next_event: u64,
    /// Sequence number of the next pending transaction.
    pub next_pending: u64,
    /// Lowest account index never assigned.
    pub next_index: u64,
    /// Highest batch that was planned.
    pub planned: BatchNumber,
    /// Highest batch whose effects are in accounts and nodes.
    pub sealed: BatchNumber,
    /// Highest batch that is final on L1.
    pub finalised: BatchNumber,
    /// L1 requests taken into planned batches.
    pub requests_taken: u64,
    /// L1 requests known.
    pub requests_known: u64,
}

impl Default for Marks {
    fn default() -> Self {
        Self {
            next_event: 1,
            next_pending: 1,
            next_index: 1,
            planned: BatchNumber(0),
            sealed: BatchNumber(0),
            finalised: BatchNumber(0),
            requests_taken: 0,
            requests_known: 0,
        }
    }
}

/// Note that stands while a snapshot is being imported.
pub(crate) const IMPORTING: &str = "importing";

/// The database of a node.
pub struct Store {
    disk: Disk,
}

impl Store {
    /// Opens or creates the database in `directory`.
    ///
    /// # Errors
    /// If the disk fails or the schema is newer than this program.
    pub fn open(directory: &Path) -> StoreResult<Self> {
        let disk = Disk::open(directory)?;
        migrate::migrate(&disk)?;
        let store = Self { disk };
        if store.note::<bool>(IMPORTING)?.is_some() {
            let what = "an import of a snapshot did not finish: import it into an empty directory";
            return Err(StoreError::Inconsistent(what.to_owned()));
        }
        Ok(store)
    }

    /// Binds the database to a domain, or checks that it is bound to this one.
    ///
    /// # Errors
    /// [`StoreError::OtherDomain`].
    pub fn bind(&self, domain: &str) -> StoreResult<()> {
        match self.read::<String>(Column::Meta, b"domain")? {
            Some(found) if found == domain => Ok(()),
            Some(found) => Err(StoreError::OtherDomain {
                found,
                expected: domain.to_owned(),
            }),
            None => {
                let mut writes = Writes::default();
                writes.put(Column::Meta, b"domain".to_vec(), encode(&domain));
                self.write(writes)
            }
        }
    }

    /// Writes everything or nothing, and returns once it is on disk.
    ///
    /// # Errors
    /// If the disk fails; then nothing may be acknowledged.
    pub fn write(&self, writes: Writes) -> StoreResult<()> {
        Ok(self.disk.write(writes)?)
    }

    /// The layer below, for tests that make it fail.
    pub fn disk(&self) -> &Disk {
        &self.disk
    }

    /// The database as it is now, whatever is written later.
    pub fn view(&self) -> StoreView<'_> {
        StoreView(self.disk.view())
    }

    fn read<T: DeserializeOwned>(&self, column: Column, key: &[u8]) -> StoreResult<Option<T>> {
        let Some(bytes) = self.disk.get(column, key)? else {
            return Ok(None);
        };
        decode(&bytes)
            .map(Some)
            .map_err(|reason| StoreError::Damaged {
                column: column.name(),
                key: hex::encode(key),
                reason,
            })
    }

    fn read_range<T: DeserializeOwned>(
        &self,
        column: Column,
        from: &[u8],
        limit: usize,
    ) -> StoreResult<Vec<(Vec<u8>, T)>> {
        self.disk
            .range(column, from, limit)?
            .into_iter()
            .map(|(key, bytes)| match decode(&bytes) {
                Ok(value) => Ok((key, value)),
                Err(reason) => Err(StoreError::Damaged {
                    column: column.name(),
                    key: hex::encode(&key),
                    reason,
                }),
            })
            .collect()
    }

    /// Counters, zero on a new database.
    ///
    /// # Errors
    /// If the disk fails.
    pub fn marks(&self) -> StoreResult<Marks> {
        Ok(self.read(Column::Meta, b"marks")?.unwrap_or_default())
    }

    /// The account at an index as of the last sealed batch.
    ///
    /// # Errors
    /// If the disk fails.
    pub fn account(&self, index: AccountIndex) -> StoreResult<Option<Account>> {
        self.read(Column::Accounts, &format::index_key(index))
    }

    /// Accounts in order of their index.
    ///
    /// # Errors
    /// If the disk fails.
    pub fn accounts(
        &self,
        from: AccountIndex,
        limit: usize,
    ) -> StoreResult<Vec<(AccountIndex, Account)>> {
        let rows = self.read_range(Column::Accounts, &format::index_key(from), limit)?;
        Ok(rows
            .into_iter()
            .map(|(key, account)| (format::read_index_key(&key), account))
            .collect())
    }

    /// The lowest index of an owner's accounts of a token, as of the last sealed batch.
    ///
    /// # Errors
    /// If the disk fails.
    pub fn holding(&self, owner: &Owner, token: TokenId) -> StoreResult<Option<AccountIndex>> {
        let prefix = format::holding_prefix(owner, token);
        let rows = self.disk.prefix(Column::Owners, &prefix)?;
        Ok(rows.first().map(|(key, _)| format::read_owner_key(key).1))
    }

    /// Indices of an owner's accounts, as of the last sealed batch.
    ///
    /// # Errors
    /// If the disk fails.
    pub fn owned(&self, owner: &Owner) -> StoreResult<Vec<(TokenId, AccountIndex)>> {
        let prefix = format::owner_prefix(owner);
        let rows = self.disk.prefix(Column::Owners, &prefix)?;
        Ok(rows
            .iter()
            .map(|(key, _)| format::read_owner_key(key))
            .collect())
    }

    /// Four sibling nodes, by the level of the children and the position of their parent; `None` where all are empty.
    ///
    /// # Errors
    /// If the disk fails.
    pub fn group(
        &self,
        level: usize,
        parent: u32,
    ) -> StoreResult<Option<[millrace_circuits::field::Word; 4]>> {
        self.read(Column::Nodes, &format::node_key(level, parent))
    }

    /// What a batch overwrote.
    ///
    /// # Errors
    /// If the disk fails.
    pub fn undo(&self, batch: BatchNumber) -> StoreResult<Option<crate::state::Undo>> {
        self.read(Column::Undo, &format::number_key(batch.0))
    }

    /// Pending transactions in order of acceptance.
    ///
    /// # Errors
    /// If the disk fails.
    pub fn pending(&self) -> StoreResult<Vec<(u64, Pending)>> {
        let rows = self.read_range(Column::Pending, &[], usize::MAX)?;
        Ok(rows
            .into_iter()
            .map(|(key, value)| (format::read_number_key(&key), value))
            .collect())
    }

    /// Transactions that wait for a nonce or a partner.
    ///
    /// # Errors
    /// If the disk fails.
    pub fn waiting(&self) -> StoreResult<Vec<Waiting>> {
        let rows = self.read_range(Column::Waiting, &[], usize::MAX)?;
        Ok(rows.into_iter().map(|(_, value)| value).collect())
    }

    /// Transactions of batches that were taken back and have not run again yet, in order.
    ///
    /// # Errors
    /// If the disk fails.
    pub fn requeued(&self) -> StoreResult<Vec<SignedTransaction>> {
        let rows = self.read_range(Column::Requeue, &[], usize::MAX)?;
        Ok(rows.into_iter().map(|(_, signed)| signed).collect())
    }

    /// A transaction's record.
    ///
    /// # Errors
    /// If the disk fails.
    pub fn transaction(&self, id: &TransactionId) -> StoreResult<Option<TransactionRecord>> {
        self.read(Column::Transactions, &id.0)
    }

    /// An account's transactions, newest first, from before `before` on.
    ///
    /// # Errors
    /// If the disk fails.
    pub fn history(
        &self,
        index: AccountIndex,
        before: u64,
        limit: usize,
    ) -> StoreResult<Vec<(u64, TransactionId)>> {
        let rows = self.disk.range_back(
            Column::History,
            &format::history_key(index, before),
            &format::index_key(index),
            limit,
        )?;
        rows.into_iter()
            .map(|(key, bytes)| {
                decode(&bytes)
                    .map(|id| (format::read_number_key(&key[4..]), id))
                    .map_err(|reason| StoreError::Damaged {
                        column: "history",
                        key: hex::encode(&key),
                        reason,
                    })
            })
            .collect()
    }

    /// A batch's record.
    ///
    /// # Errors
    /// If the disk fails.
    pub fn batch(&self, number: BatchNumber) -> StoreResult<Option<BatchRecord>> {
        self.read(Column::Batches, &format::number_key(number.0))
    }

    /// What a batch is proved from, until it is proven.
    ///
    /// # Errors
    /// If the disk fails.
    pub fn witness(&self, number: BatchNumber) -> StoreResult<Option<StoredWitness>> {
        self.read(Column::Witnesses, &format::number_key(number.0))
    }

    /// Events from a sequence number on.
    ///
    /// # Errors
    /// If the disk fails.
    pub fn events(&self, from: u64, limit: usize) -> StoreResult<Vec<Event>> {
        let rows = self.read_range(Column::Events, &format::number_key(from), limit)?;
        Ok(rows.into_iter().map(|(_, event)| event).collect())
    }

    /// The answer that was given under an idempotency key.
    ///
    /// # Errors
    /// If the disk fails.
    pub fn answer(&self, key: &str) -> StoreResult<Option<crate::mempool::Answer>> {
        self.read(Column::Answers, key.as_bytes())
    }

    /// An L1 request by its number.
    ///
    /// # Errors
    /// If the disk fails.
    pub fn request(&self, id: u64) -> StoreResult<Option<crate::batch_log::QueuedRequest>> {
        self.read(Column::Requests, &format::number_key(id))
    }

    /// Anything else by name, such as the synchronizer's position.
    ///
    /// # Errors
    /// If the disk fails.
    pub fn note<T: DeserializeOwned>(&self, name: &str) -> StoreResult<Option<T>> {
        self.read(Column::Notes, name.as_bytes())
    }
}

/// A consistent view for long reads.
pub struct StoreView<'a>(View<'a>);

impl StoreView<'_> {
    fn read<T: DeserializeOwned>(&self, column: Column, key: &[u8]) -> StoreResult<Option<T>> {
        match self.0.get(column, key)? {
            Some(bytes) => decode(&bytes)
                .map(Some)
                .map_err(|reason| StoreError::damaged(column, key, reason)),
            None => Ok(None),
        }
    }

    /// Counters.
    ///
    /// # Errors
    /// If the disk fails.
    pub fn marks(&self) -> StoreResult<Marks> {
        Ok(self.read(Column::Meta, b"marks")?.unwrap_or_default())
    }

    /// What a batch overwrote.
    ///
    /// # Errors
    /// If the disk fails.
    pub fn undo(&self, batch: BatchNumber) -> StoreResult<Option<crate::state::Undo>> {
        self.read(Column::Undo, &format::number_key(batch.0))
    }

    /// A batch's record.
    ///
    /// # Errors
    /// If the disk fails.
    pub fn batch(&self, number: BatchNumber) -> StoreResult<Option<BatchRecord>> {
        self.read(Column::Batches, &format::number_key(number.0))
    }

    /// All accounts as of the last sealed batch, in order of their indices.
    pub fn accounts(&self) -> impl Iterator<Item = StoreResult<(AccountIndex, Account)>> + '_ {
        self.0.pairs(Column::Accounts).map(|pair| {
            let (key, bytes) = pair?;
            let account = decode(&bytes)
                .map_err(|reason| StoreError::damaged(Column::Accounts, &key, reason))?;
            Ok((format::read_index_key(&key), account))
        })
    }
}

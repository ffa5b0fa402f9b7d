//! The database in three layers: [`disk`] moves bytes, [`format`] says which bytes, [`Store`] answers questions.
//!
//! One [`Writes`] is one atomic, synced batch: whatever is acknowledged was in one.

pub mod disk;
pub mod format;

use crate::batch_log::{BatchRecord, StoredWitness};
use crate::events::Event;
use crate::mempool::{Pending, TransactionRecord, Waiting};
use disk::{Column, Disk, DiskError, Writes};
use format::{FormatError, SCHEMA_VERSION, decode, encode};
use millrace_circuits::account::{Account, Owner};
use millrace_circuits::transaction::TransactionId;
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
        let store = Self {
            disk: Disk::open(directory)?,
        };
        match store.read::<u32>(Column::Meta, b"schema")? {
            Some(found) if found > SCHEMA_VERSION => {
                return Err(StoreError::Newer {
                    found,
                    known: SCHEMA_VERSION,
                });
            }
            Some(_) => {}
            None => {
                let mut writes = Writes::default();
                writes.put(Column::Meta, b"schema".to_vec(), encode(&SCHEMA_VERSION));
                store.write(writes)?;
            }
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

//! Bytes on disk: the only file that names RocksDB.
//!
//! Every write is one atomic batch with a synced write-ahead log; reads never see half of one.

use rocksdb::{
    BlockBasedOptions, Cache, ColumnFamily, DB, Direction, IteratorMode, Options, ReadOptions,
    WriteBatch, WriteOptions,
};
use std::path::{Path, PathBuf};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};
use thiserror::Error;

/// The database failed.
#[derive(Debug, Error)]
pub enum DiskError {
    /// Opening failed.
    #[error("the database at {path} cannot be opened: {reason}; is another millrace using it?")]
    Open {
        /// Where.
        path: PathBuf,
        /// RocksDB's words.
        reason: String,
    },
    /// Reading failed.
    #[error("the database cannot be read: {0}")]
    Read(String),
    /// Writing failed: nothing of the batch may be acknowledged.
    #[error("the database cannot be written: {0}; check free space and the disk's health")]
    Write(String),
}

/// A column family.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Column {
    /// Schema, domain, marks.
    Meta,
    /// Index → account.
    Accounts,
    /// Owner, token, index → nothing.
    Owners,
    /// Level, position → hash.
    Nodes,
    /// Batch → what it overwrote.
    Undo,
    /// Sequence → accepted transaction that is in no sealed batch.
    Pending,
    /// Sender, nonce → transaction that cannot run yet.
    Waiting,
    /// Number → transaction of a batch that was taken back, until it has run again.
    Requeue,
    /// Id → record.
    Transactions,
    /// Index, sequence → id.
    History,
    /// Number → record.
    Batches,
    /// Number → witness.
    Witnesses,
    /// Sequence → event.
    Events,
    /// Idempotency key → answer.
    Answers,
    /// Number → L1 request.
    Requests,
    /// Name → anything.
    Notes,
}

impl Column {
    const ALL: [Self; 16] = [
        Self::Meta,
        Self::Accounts,
        Self::Owners,
        Self::Nodes,
        Self::Undo,
        Self::Pending,
        Self::Waiting,
        Self::Requeue,
        Self::Transactions,
        Self::History,
        Self::Batches,
        Self::Witnesses,
        Self::Events,
        Self::Answers,
        Self::Requests,
        Self::Notes,
    ];

    /// Name on disk.
    pub fn name(self) -> &'static str {
        match self {
            Self::Meta => "meta",
            Self::Accounts => "accounts",
            Self::Owners => "owners",
            Self::Nodes => "nodes",
            Self::Undo => "undo",
            Self::Pending => "pending",
            Self::Waiting => "waiting",
            Self::Requeue => "requeue",
            Self::Transactions => "transactions",
            Self::History => "history",
            Self::Batches => "batches",
            Self::Witnesses => "witnesses",
            Self::Events => "events",
            Self::Answers => "answers",
            Self::Requests => "requests",
            Self::Notes => "notes",
        }
    }
}

/// Writes that happen together or not at all. `None` deletes.
#[derive(Debug, Default, Clone)]
pub struct Writes(Vec<(Column, Vec<u8>, Option<Vec<u8>>)>);

impl Writes {
    /// Sets a key.
    pub fn put(&mut self, column: Column, key: Vec<u8>, value: Vec<u8>) {
        self.0.push((column, key, Some(value)));
    }

    /// Removes a key.
    pub fn delete(&mut self, column: Column, key: Vec<u8>) {
        self.0.push((column, key, None));
    }

    /// Adds others after these.
    pub fn append(&mut self, mut others: Self) {
        self.0.append(&mut others.0);
    }

    /// Whether there is nothing to write.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

/// How a planned fault shows, for tests of recovery.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// The write fails, as on a full or broken disk, and so do all later ones.
    Fail,
    /// The process dies before the write.
    DieBefore,
    /// The process dies after the write, before anyone hears of it.
    DieAfter,
}

/// An open database.
pub struct Disk {
    database: DB,
    /// Writes left until a planned fault; none is planned outside tests.
    writes_left: AtomicU64,
    fault: OnceLock<Fault>,
}

/// Most bytes of write-ahead log, which the next opening reads.
const WAL_BYTES: u64 = 128 << 20;
/// Memory for cached blocks.
const CACHE_BYTES: usize = 256 << 20;

impl Disk {
    /// Opens or creates a database.
    ///
    /// # Errors
    /// [`DiskError::Open`].
    pub fn open(path: &Path) -> Result<Self, DiskError> {
        let mut options = Options::default();
        options.create_if_missing(true);
        options.create_missing_column_families(true);
        options.set_max_background_jobs(2);
        options.set_keep_log_file_num(4);
        options.set_max_total_wal_size(WAL_BYTES);
        let mut table = BlockBasedOptions::default();
        table.set_block_cache(&Cache::new_lru_cache(CACHE_BYTES));
        table.set_bloom_filter(10.0, false);
        let mut column = Options::default();
        column.set_block_based_table_factory(&table);
        let columns = Column::ALL.map(|name| (name.name(), column.clone()));
        let database =
            DB::open_cf_with_opts(&options, path, columns).map_err(|error| DiskError::Open {
                path: path.to_owned(),
                reason: error.to_string(),
            })?;
        Ok(Self {
            database,
            writes_left: AtomicU64::new(u64::MAX),
            fault: OnceLock::new(),
        })
    }

    /// Plans a fault at the write after `writes` more: what a crash or a broken disk does, for tests of recovery.
    pub fn plan_fault(&self, writes: u64, fault: Fault) {
        self.writes_left.store(writes, Ordering::SeqCst);
        self.fault.get_or_init(|| fault);
    }

    /// The fault that the next write meets, if its time has come.
    fn due_fault(&self) -> Option<Fault> {
        let fault = *self.fault.get()?;
        let left = self.writes_left.load(Ordering::SeqCst);
        self.writes_left
            .store(left.saturating_sub(1), Ordering::SeqCst);
        (left == 0).then_some(fault)
    }

    /// A view of the database as it is now, whatever is written later.
    pub fn view(&self) -> View<'_> {
        View {
            disk: self,
            snapshot: self.database.snapshot(),
        }
    }

    /// The highest key of a column.
    ///
    /// # Errors
    /// [`DiskError::Read`].
    pub fn last_key(&self, column: Column) -> Result<Option<Vec<u8>>, DiskError> {
        let mut keys = self
            .database
            .iterator_cf(self.column(column), IteratorMode::End);
        match keys.next() {
            Some(Ok((key, _))) => Ok(Some(key.into_vec())),
            Some(Err(error)) => Err(DiskError::Read(error.to_string())),
            None => Ok(None),
        }
    }

    fn column(&self, column: Column) -> &ColumnFamily {
        self.database
            .cf_handle(column.name())
            .expect("all columns were opened")
    }

    /// One value.
    ///
    /// # Errors
    /// [`DiskError::Read`].
    pub fn get(&self, column: Column, key: &[u8]) -> Result<Option<Vec<u8>>, DiskError> {
        self.database
            .get_cf(self.column(column), key)
            .map_err(|error| DiskError::Read(error.to_string()))
    }

    /// Up to `limit` pairs from `from` on, in order of their keys.
    ///
    /// # Errors
    /// [`DiskError::Read`].
    pub fn range(
        &self,
        column: Column,
        from: &[u8],
        limit: usize,
    ) -> Result<Vec<(Vec<u8>, Vec<u8>)>, DiskError> {
        let mode = IteratorMode::From(from, Direction::Forward);
        collect(
            self.database
                .iterator_cf(self.column(column), mode)
                .take(limit),
        )
    }

    /// Up to `limit` pairs with keys below `before` that start with `prefix`, in falling order.
    ///
    /// # Errors
    /// [`DiskError::Read`].
    pub fn range_back(
        &self,
        column: Column,
        before: &[u8],
        prefix: &[u8],
        limit: usize,
    ) -> Result<Vec<(Vec<u8>, Vec<u8>)>, DiskError> {
        let mode = IteratorMode::From(before, Direction::Reverse);
        let pairs = self
            .database
            .iterator_cf(self.column(column), mode)
            .skip_while(|pair| matches!(pair, Ok((key, _)) if key.as_ref() >= before))
            .take_while(|pair| !matches!(pair, Ok((key, _)) if !key.starts_with(prefix)))
            .take(limit);
        collect(pairs)
    }

    /// All pairs whose key starts with `prefix`.
    ///
    /// # Errors
    /// [`DiskError::Read`].
    pub fn prefix(
        &self,
        column: Column,
        prefix: &[u8],
    ) -> Result<Vec<(Vec<u8>, Vec<u8>)>, DiskError> {
        let mut options = ReadOptions::default();
        options.set_iterate_range(rocksdb::PrefixRange(prefix));
        let pairs =
            self.database
                .iterator_cf_opt(self.column(column), options, IteratorMode::Start);
        collect(pairs)
    }

    /// Writes a batch and syncs it.
    ///
    /// # Errors
    /// [`DiskError::Write`].
    pub fn write(&self, writes: Writes) -> Result<(), DiskError> {
        if writes.is_empty() {
            return Ok(());
        }
        let fault = self.due_fault();
        match fault {
            Some(Fault::Fail) => {
                return Err(DiskError::Write("a planned fault: no space".to_owned()));
            }
            Some(Fault::DieBefore) => std::process::abort(),
            Some(Fault::DieAfter) | None => {}
        }
        let mut batch = WriteBatch::default();
        for (column, key, value) in writes.0 {
            match value {
                Some(value) => batch.put_cf(self.column(column), key, value),
                None => batch.delete_cf(self.column(column), key),
            }
        }
        let mut options = WriteOptions::default();
        options.set_sync(true);
        self.database
            .write_opt(batch, &options)
            .map_err(|error| DiskError::Write(error.to_string()))?;
        if fault == Some(Fault::DieAfter) {
            std::process::abort();
        }
        Ok(())
    }
}

/// The database at one moment.
pub struct View<'a> {
    disk: &'a Disk,
    snapshot: rocksdb::Snapshot<'a>,
}

impl View<'_> {
    /// One value.
    ///
    /// # Errors
    /// [`DiskError::Read`].
    pub fn get(&self, column: Column, key: &[u8]) -> Result<Option<Vec<u8>>, DiskError> {
        self.snapshot
            .get_cf(self.disk.column(column), key)
            .map_err(|error| DiskError::Read(error.to_string()))
    }

    /// All pairs of a column in order of their keys.
    pub fn pairs(&self, column: Column) -> impl Iterator<Item = Result<Pair, DiskError>> + '_ {
        self.snapshot
            .iterator_cf(self.disk.column(column), IteratorMode::Start)
            .map(|pair| match pair {
                Ok((key, value)) => Ok((key.into_vec(), value.into_vec())),
                Err(error) => Err(DiskError::Read(error.to_string())),
            })
    }
}

/// A key and its value.
pub type Pair = (Vec<u8>, Vec<u8>);

fn collect(
    pairs: impl Iterator<Item = Result<(Box<[u8]>, Box<[u8]>), rocksdb::Error>>,
) -> Result<Vec<Pair>, DiskError> {
    pairs
        .map(|pair| {
            pair.map(|(key, value)| (key.into_vec(), value.into_vec()))
                .map_err(|error| DiskError::Read(error.to_string()))
        })
        .collect()
}

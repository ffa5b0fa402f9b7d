//! The queue's store on RocksDB: one synced write per change. No other file of this crate names that library.
//!
//! | key | value |
//! |---|---|
//! | `format` | version of this layout, 4 bytes little-endian |
//! | `next_token` | 8 bytes little-endian |
//! | `record/` job | [`JobRecord`], postcard |
//! | `statement/` job | the statement's bytes |
//! | `result/` job | the result's bytes |
//!
//! A job is its batch number (8 bytes big-endian, so that keys sort by batch) and its statement's hash.

use super::service::{JobStore, StoreError, Stored};
use super::table::Change;
use super::{JobKey, JobRecord};
use rocksdb::{DB, Direction, IteratorMode, Options, WriteBatch, WriteOptions};
use std::path::Path;

const FORMAT: u32 = 1;
const FORMAT_KEY: &[u8] = b"format";
const TOKEN_KEY: &[u8] = b"next_token";
const RECORD: &[u8] = b"record/";
const STATEMENT: &[u8] = b"statement/";
const RESULT: &[u8] = b"result/";

/// A queue's directory.
pub struct DiskStore {
    database: DB,
}

impl DiskStore {
    /// Opens or creates a store. One process at a time.
    ///
    /// # Errors
    /// If the directory is locked, damaged or of another version.
    pub fn open(directory: &Path) -> Result<Self, StoreError> {
        std::fs::create_dir_all(directory)
            .map_err(|error| StoreError(format!("{}: {error}", directory.display())))?;
        let mut options = Options::default();
        options.create_if_missing(true);
        options.set_paranoid_checks(true);
        options.set_max_open_files(256);
        options.set_keep_log_file_num(4);
        let database = DB::open(&options, directory).map_err(store_error)?;
        let store = Self { database };
        store.check_format(directory)?;
        Ok(store)
    }

    fn check_format(&self, directory: &Path) -> Result<(), StoreError> {
        match self.database.get(FORMAT_KEY).map_err(store_error)? {
            None => {
                let mut batch = WriteBatch::default();
                batch.put(FORMAT_KEY, FORMAT.to_le_bytes());
                self.write_synced(batch)
            }
            Some(bytes) if bytes == FORMAT.to_le_bytes() => Ok(()),
            Some(_) => Err(StoreError(format!(
                "{} is a proof queue of another version; finish its jobs with the program that made it, or remove it",
                directory.display()
            ))),
        }
    }

    fn write_synced(&self, batch: WriteBatch) -> Result<(), StoreError> {
        let mut options = WriteOptions::default();
        options.set_sync(true);
        self.database
            .write_opt(batch, &options)
            .map_err(store_error)
    }
}

fn store_error(error: rocksdb::Error) -> StoreError {
    StoreError(error.into_string())
}

fn place(kind: &[u8], key: &JobKey) -> Vec<u8> {
    [kind, &key.batch.0.to_be_bytes(), &key.statement].concat()
}

impl JobStore for DiskStore {
    fn load(&self) -> Result<Stored, StoreError> {
        let mut records = Vec::new();
        let from_records = IteratorMode::From(RECORD, Direction::Forward);
        for entry in self.database.iterator(from_records) {
            let (key, value) = entry.map_err(store_error)?;
            if !key.starts_with(RECORD) {
                break;
            }
            let record: JobRecord = postcard::from_bytes(&value).map_err(|error| {
                StoreError(format!("job record {}: {error}", hex::encode(&key)))
            })?;
            records.push(record);
        }
        let token = self.database.get(TOKEN_KEY).map_err(store_error)?;
        let token: [u8; 8] = token
            .unwrap_or_else(|| vec![0; 8])
            .try_into()
            .map_err(|_| StoreError("the token counter is not eight bytes".into()))?;
        Ok(Stored {
            records,
            next_token: u64::from_le_bytes(token),
        })
    }

    fn write(&mut self, change: &Change) -> Result<(), StoreError> {
        let mut batch = WriteBatch::default();
        for record in &change.records {
            let value = postcard::to_allocvec(record).map_err(|e| StoreError(e.to_string()))?;
            batch.put(place(RECORD, &record.key), value);
        }
        if let Some((key, bytes)) = &change.statement {
            batch.put(place(STATEMENT, key), bytes);
        }
        if let Some((key, bytes)) = &change.result {
            batch.put(place(RESULT, key), bytes);
        }
        if let Some(key) = &change.removed {
            for kind in [RECORD, STATEMENT, RESULT] {
                batch.delete(place(kind, key));
            }
        }
        if let Some(next) = change.next_token {
            batch.put(TOKEN_KEY, next.to_le_bytes());
        }
        self.write_synced(batch)
    }

    fn statement(&self, key: &JobKey) -> Result<Option<Vec<u8>>, StoreError> {
        self.database
            .get(place(STATEMENT, key))
            .map_err(store_error)
    }

    fn result(&self, key: &JobKey) -> Result<Option<Vec<u8>>, StoreError> {
        self.database.get(place(RESULT, key)).map_err(store_error)
    }
}

#[cfg(test)]
impl DiskStore {
    /// Leaves a store as another version would.
    pub(super) fn overwrite_format(&self, version: u32) {
        let mut batch = WriteBatch::default();
        batch.put(FORMAT_KEY, version.to_le_bytes());
        self.write_synced(batch).expect("the test's disk works");
    }
}

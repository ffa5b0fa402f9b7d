//! Bytes on disk: the only file of this crate that names RocksDB.

use super::StoreError;
use rocksdb::{DB, DBCompactionStyle, Direction, IteratorMode, Options, WriteBatch, WriteOptions};
use std::path::Path;

/// Bytes in memory, and about as many of write-ahead log, after which they go to a table: what the next opening reads, and few
/// enough that the processor's caches hold the rows of a running payment.
const BUFFER_BYTES: usize = 4 << 20;
/// Buffers that may wait to become tables before a write waits for one.
const BUFFERS: i32 = 4;
/// Tables of about a size that are merged to one: a node writes much and reads little, and records are merged a few times in their
/// life so instead of at each of several levels.
const TABLES: i32 = 8;
/// Logs that are written again from their start instead of being deleted: a synchronisation of a file that does not grow writes
/// its bytes alone, and not the file system's records of its length.
const SPARE_LOGS: usize = 4;

/// One change.
pub struct Write {
    pub key: Vec<u8>,
    /// `None` removes it.
    pub value: Option<Vec<u8>>,
}

/// An open database; its lock file keeps other programs out.
pub struct Disk(DB);

impl Disk {
    pub fn open(path: &Path) -> Result<Self, StoreError> {
        let mut options = Options::default();
        options.create_if_missing(true);
        options.set_keep_log_file_num(4);
        options.set_write_buffer_size(BUFFER_BYTES);
        options.set_max_write_buffer_number(BUFFERS);
        options.set_recycle_log_file_num(SPARE_LOGS);
        options.set_max_background_jobs(2);
        options.set_compaction_style(DBCompactionStyle::Universal);
        options.set_level_zero_file_num_compaction_trigger(TABLES);
        DB::open(&options, path)
            .map(Self)
            .map_err(|error| StoreError::Open {
                path: path.to_owned(),
                reason: error.to_string(),
            })
    }

    pub fn get(&self, key: &[u8]) -> Result<Option<Vec<u8>>, StoreError> {
        self.0
            .get(key)
            .map_err(|error| StoreError::Read(error.to_string()))
    }

    /// Keys from `from` on, up to and without `to`, in order, at most `limit`.
    pub fn range(
        &self,
        from: &[u8],
        to: &[u8],
        limit: usize,
    ) -> Result<Vec<(Vec<u8>, Vec<u8>)>, StoreError> {
        self.0
            .iterator(IteratorMode::From(from, Direction::Forward))
            .map(|pair| match pair {
                Ok((key, value)) => Ok((key.into_vec(), value.into_vec())),
                Err(error) => Err(StoreError::Read(error.to_string())),
            })
            .take_while(|pair| pair.as_ref().map_or(true, |(key, _)| key.as_slice() < to))
            .take(limit)
            .collect()
    }

    /// The last key below `to` that is at or above `from`, with its value.
    pub fn last(&self, from: &[u8], to: &[u8]) -> Result<Option<(Vec<u8>, Vec<u8>)>, StoreError> {
        let newest = self
            .0
            .iterator(IteratorMode::From(to, Direction::Reverse))
            .find(|pair| pair.as_ref().map_or(true, |(key, _)| key.as_ref() < to));
        match newest {
            None => Ok(None),
            Some(Err(error)) => Err(StoreError::Read(error.to_string())),
            Some(Ok((key, _))) if key.as_ref() < from => Ok(None),
            Some(Ok((key, value))) => Ok(Some((key.into_vec(), value.into_vec()))),
        }
    }

    /// Removes the keys from `from` on, up to and without `to`. Waits for no disk: a crash may bring them back.
    pub fn remove_range(&self, from: &[u8], to: &[u8]) -> Result<(), StoreError> {
        let mut batch = WriteBatch::default();
        batch.delete_range(from, to);
        self.0
            .write(batch)
            .map_err(|error| StoreError::Write(error.to_string()))
    }

    /// Writes all of it atomically and waits for the disk.
    pub fn write(&self, writes: impl IntoIterator<Item = Write>) -> Result<(), StoreError> {
        let mut batch = WriteBatch::default();
        for Write { key, value } in writes {
            match value {
                Some(value) => batch.put(key, value),
                None => batch.delete(key),
            }
        }
        let mut options = WriteOptions::default();
        options.set_sync(true);
        self.0
            .write_opt(batch, &options)
            .map_err(|error| StoreError::Write(error.to_string()))
    }
}

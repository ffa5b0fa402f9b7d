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

#[cfg(test)]
mod tests {
    use super::*;

    fn write(disk: &Disk, key: &[u8], value: Vec<u8>) {
        let (key, value) = (key.to_vec(), Some(value));
        disk.write([Write { key, value }]).unwrap();
    }

    fn image(disk: &Disk, of: &Path, to: &Path) {
        // What a crash leaves: nothing is flushed or closed any more.
        disk.0.cancel_all_background_work(true);
        for file in std::fs::read_dir(of).unwrap() {
            let file = file.unwrap();
            if file.file_name() != "LOCK" {
                std::fs::copy(file.path(), to.join(file.file_name())).unwrap();
            }
        }
    }

    #[test]
    fn a_crash_loses_nothing_though_logs_are_written_again() {
        let (folder, after) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let disk = Disk::open(folder.path()).unwrap();
        let value = |turn: u32| [&turn.to_be_bytes()[..], &vec![turn as u8; 60_000]].concat();
        // Some buffers full, each key several times; the last log is a used one and not full.
        let turns = 10 * (BUFFER_BYTES / 60_000) as u32 + 17;
        for turn in 0..turns {
            write(&disk, &(turn % 100).to_be_bytes(), value(turn));
        }
        image(&disk, folder.path(), after.path());
        let found = Disk::open(after.path()).unwrap();
        for turn in turns - 100..turns {
            let read = found.get(&(turn % 100).to_be_bytes()).unwrap();
            assert!(read == Some(value(turn)), "turn {turn}");
        }
    }

    #[test]
    fn a_database_in_levels_is_read_and_goes_on() {
        let folder = tempfile::tempdir().unwrap();
        let mut options = Options::default();
        options.create_if_missing(true);
        let levels = DB::open(&options, folder.path()).unwrap();
        for turn in 0..20u8 {
            levels.put([turn], [turn; 1000]).unwrap();
            levels.flush().unwrap();
            if turn == 9 {
                levels.compact_range::<&[u8], &[u8]>(None, None);
            }
        }
        drop(levels);
        let disk = Disk::open(folder.path()).unwrap();
        for turn in 10..30u8 {
            write(&disk, &[turn], vec![turn; 2000]);
            disk.0.flush().unwrap();
        }
        drop(disk);
        let disk = Disk::open(folder.path()).unwrap();
        let found = disk.range(&[], &[255], usize::MAX).unwrap();
        let length = |turn: u8| if turn < 10 { 1000 } else { 2000 };
        let expected = (0..30u8).map(|turn| (vec![turn], vec![turn; length(turn)]));
        assert!(found == expected.collect::<Vec<_>>());
    }
}

//! Durable records: what a step changed, written together or not at all, before anything of it is said.
//!
//! ```text
//! Effect::Persist → Store::write → queue → writer thread: everything that waits in one synced batch → callback
//! ```
//! One disk synchronisation covers every channel that waits for one. After a failed write nothing more is written: the
//! machine's memory is ahead of the disk, and only a restart brings them together.
//!
//! | file | question |
//! |---|---|
//! | `store/disk.rs` | bytes: the only file that names RocksDB |
//! | `store/format.rs` | which bytes stand for what |

mod disk;
mod format;

use crate::machine::effect::{Key, Record};
use disk::{Disk, Write};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread::JoinHandle;
use thiserror::Error;

pub use format::{RimRecord, SCHEMA_VERSION, Table};

/// Steps that may wait for the writer.
const QUEUE: usize = 4096;
/// Most steps that one synchronisation covers.
const GROUP: usize = 1024;

/// The store failed.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum StoreError {
    /// Opening failed.
    #[error("the database at {path} cannot be opened: {reason}; is another millrace using it?")]
    Open {
        /// Where.
        path: PathBuf,
        /// The database's words.
        reason: String,
    },
    /// Reading failed.
    #[error("the database cannot be read: {0}")]
    Read(String),
    /// Writing failed: nothing that waited for it may be said, and the node has to stop.
    #[error("the database cannot be written: {0}; check free space and the disk, then restart")]
    Write(String),
    /// A newer program wrote it.
    #[error("the database has schema {found}, this program knows {known}: run a newer millrace")]
    Newer {
        /// On disk.
        found: u32,
        /// This program's.
        known: u32,
    },
    /// A key or value does not parse.
    #[error("record {key} is damaged: {reason}; restore it from the peer or a backup")]
    Damaged {
        /// Which, in hex.
        key: String,
        /// How.
        reason: String,
    },
}

/// Called from the writer's thread once records are durable, or not.
pub type Written = Box<dyn FnOnce(Result<(), StoreError>) + Send>;

struct Job {
    records: Vec<Record>,
    rim: Vec<RimRecord>,
    written: Written,
}

/// An open store. Dropping it writes what waits.
pub struct Store {
    disk: Arc<Disk>,
    queue: Option<SyncSender<Job>>,
    writer: Option<JoinHandle<()>>,
    synchronisations: Arc<AtomicU64>,
}

impl Store {
    /// Opens or creates a store; only one program can have it open.
    ///
    /// # Errors
    /// [`StoreError`].
    pub fn open(path: &Path) -> Result<Self, StoreError> {
        let disk = Arc::new(Disk::open(path)?);
        let found = disk.get(format::SCHEMA_KEY)?;
        let found = found
            .map(|bytes| format::check_schema(&bytes))
            .transpose()?;
        if found != Some(SCHEMA_VERSION) {
            // From here on records may be written that an older program would misread.
            disk.write(vec![Write {
                key: format::SCHEMA_KEY.to_vec(),
                value: Some(SCHEMA_VERSION.to_be_bytes().to_vec()),
            }])?;
        }
        let synchronisations = Arc::new(AtomicU64::new(0));
        let (queue, jobs) = sync_channel(QUEUE);
        let (writer_disk, count) = (disk.clone(), synchronisations.clone());
        let writer = std::thread::Builder::new()
            .name("channel-writer".to_owned())
            .spawn(move || write_groups(&writer_disk, &jobs, &count))
            .map_err(|error| StoreError::Open {
                path: path.to_owned(),
                reason: error.to_string(),
            })?;
        Ok(Self {
            disk,
            queue: Some(queue),
            writer: Some(writer),
            synchronisations,
        })
    }

    /// All records, for [`crate::machine::Node::restore`].
    ///
    /// # Errors
    /// [`StoreError::Read`], [`StoreError::Damaged`].
    pub fn records(&self) -> Result<BTreeMap<Key, Vec<u8>>, StoreError> {
        let pairs = self.disk.range(&[], format::MACHINE_END, usize::MAX)?;
        pairs
            .into_iter()
            .map(|(key, value)| Ok((format::read_key(&key)?, format::read_value(&key, value)?)))
            .collect()
    }

    /// Queues records; `written` is called when they are durable. Waits if the queue is full.
    pub fn write(&self, records: Vec<Record>, written: Written) {
        self.write_with(records, Vec::new(), written);
    }

    /// As [`Self::write`], with what is kept beside the machine's records: all of it or nothing.
    pub fn write_with(&self, records: Vec<Record>, rim: Vec<RimRecord>, written: Written) {
        let job = Job {
            records,
            rim,
            written,
        };
        let queue = self
            .queue
            .as_ref()
            .expect("the queue is open until the store is dropped");
        if let Err(refused) = queue.send(job) {
            (refused.0.written)(Err(stopped()));
        }
    }

    /// Writes records and waits until they are durable.
    ///
    /// # Errors
    /// [`StoreError::Write`].
    pub fn write_now(&self, records: Vec<Record>) -> Result<(), StoreError> {
        self.write_now_with(records, Vec::new())
    }

    /// As [`Self::write_now`], with what is kept beside the machine's records.
    ///
    /// # Errors
    /// [`StoreError::Write`].
    pub fn write_now_with(
        &self,
        records: Vec<Record>,
        rim: Vec<RimRecord>,
    ) -> Result<(), StoreError> {
        let (tell, told) = sync_channel(1);
        self.write_with(
            records,
            rim,
            Box::new(move |result| {
                // Whoever waited may have gone.
                let _ = tell.send(result);
            }),
        );
        told.recv().unwrap_or_else(|_| Err(stopped()))
    }

    /// Records of a table from a name on, in order of names, at most `limit`.
    ///
    /// # Errors
    /// [`StoreError::Read`], [`StoreError::Damaged`].
    pub fn rim(
        &self,
        table: Table,
        from: &[u8],
        limit: usize,
    ) -> Result<Vec<(Vec<u8>, Vec<u8>)>, StoreError> {
        let pairs = self
            .disk
            .range(&format::rim_key(table, from), &[table as u8 + 1], limit)?;
        pairs.into_iter().map(format::read_rim).collect()
    }

    /// The record of a table with the highest name.
    ///
    /// # Errors
    /// [`StoreError::Read`], [`StoreError::Damaged`].
    pub fn last_of(&self, table: Table) -> Result<Option<(Vec<u8>, Vec<u8>)>, StoreError> {
        let pair = self.disk.last(&[table as u8], &[table as u8 + 1])?;
        pair.map(format::read_rim).transpose()
    }

    /// One record of a table.
    ///
    /// # Errors
    /// [`StoreError::Read`], [`StoreError::Damaged`].
    pub fn rim_get(&self, table: Table, name: &[u8]) -> Result<Option<Vec<u8>>, StoreError> {
        let key = format::rim_key(table, name);
        let found = self.disk.get(&key)?;
        found
            .map(|value| format::read_value(&key, value))
            .transpose()
    }

    /// Disk synchronisations so far.
    pub fn synchronisations(&self) -> u64 {
        self.synchronisations.load(Ordering::Relaxed)
    }
}

impl Drop for Store {
    fn drop(&mut self) {
        drop(self.queue.take());
        if let Some(writer) = self.writer.take() {
            // A writer that panicked has told nobody that anything is durable.
            let _ = writer.join();
        }
    }
}

fn stopped() -> StoreError {
    StoreError::Write("an earlier write failed".to_owned())
}

/// Writes group after group until the store is dropped or a write fails.
fn write_groups(disk: &Disk, jobs: &Receiver<Job>, synchronisations: &AtomicU64) {
    while let Ok(first) = jobs.recv() {
        let mut group = vec![first];
        while group.len() < GROUP {
            match jobs.try_recv() {
                Ok(job) => group.push(job),
                Err(_) => break,
            }
        }
        let mut writes = Vec::new();
        for job in &mut group {
            let records = std::mem::take(&mut job.records);
            writes.extend(records.into_iter().map(format::write_of));
            let rim = std::mem::take(&mut job.rim);
            writes.extend(rim.into_iter().map(format::write_of_rim));
        }
        let result = disk.write(writes);
        synchronisations.fetch_add(1, Ordering::Relaxed);
        for job in group {
            (job.written)(result.clone());
        }
        if result.is_err() {
            break;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::types::{ChannelId, PaymentHash};

    fn record(number: u8, value: Option<&[u8]>) -> Record {
        Record {
            key: Key::Channel(ChannelId([number; 32])),
            value: value.map(<[u8]>::to_vec),
        }
    }

    #[test]
    fn what_was_written_is_there_after_a_restart() {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::open(folder.path()).unwrap();
        let preimage = Record {
            key: Key::Preimage(PaymentHash([9; 32])),
            value: Some(vec![1, 2, 3]),
        };
        store
            .write_now(vec![
                record(1, Some(b"one")),
                record(2, Some(b"two")),
                preimage,
            ])
            .unwrap();
        store
            .write_now(vec![record(1, Some(b"newer")), record(2, None)])
            .unwrap();
        drop(store);
        let records = Store::open(folder.path()).unwrap().records().unwrap();
        let expected = BTreeMap::from([
            (Key::Channel(ChannelId([1; 32])), b"newer".to_vec()),
            (Key::Preimage(PaymentHash([9; 32])), vec![1, 2, 3]),
        ]);
        assert_eq!(records, expected);
    }

    #[test]
    fn steps_that_wait_share_a_synchronisation() {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::open(folder.path()).unwrap();
        let (tell, told) = sync_channel(1000);
        for number in 0..200 {
            let tell = tell.clone();
            store.write(
                vec![record(number, Some(&[number]))],
                Box::new(move |result| tell.send(result).unwrap()),
            );
        }
        for _ in 0..200 {
            told.recv().unwrap().unwrap();
        }
        assert!(
            store.synchronisations() < 200,
            "{}",
            store.synchronisations()
        );
        assert_eq!(store.records().unwrap().len(), 200);
    }

    #[test]
    fn a_newer_schema_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        drop(Store::open(folder.path()).unwrap());
        let disk = Disk::open(folder.path()).unwrap();
        disk.write(vec![Write {
            key: format::SCHEMA_KEY.to_vec(),
            value: Some((SCHEMA_VERSION + 1).to_be_bytes().to_vec()),
        }])
        .unwrap();
        drop(disk);
        let error = Store::open(folder.path()).err().unwrap();
        assert_eq!(
            error,
            StoreError::Newer {
                found: SCHEMA_VERSION + 1,
                known: SCHEMA_VERSION
            }
        );
    }

    #[test]
    fn a_schema_that_is_still_read_is_raised() {
        let folder = tempfile::tempdir().unwrap();
        drop(Store::open(folder.path()).unwrap());
        let disk = Disk::open(folder.path()).unwrap();
        disk.write(vec![Write {
            key: format::SCHEMA_KEY.to_vec(),
            value: Some(1u32.to_be_bytes().to_vec()),
        }])
        .unwrap();
        drop(disk);
        drop(Store::open(folder.path()).unwrap());
        let disk = Disk::open(folder.path()).unwrap();
        let found = disk.get(format::SCHEMA_KEY).unwrap().unwrap();
        assert_eq!(found, SCHEMA_VERSION.to_be_bytes());
    }

    #[test]
    fn a_second_program_is_kept_out() {
        let folder = tempfile::tempdir().unwrap();
        let _store = Store::open(folder.path()).unwrap();
        assert!(matches!(
            Store::open(folder.path()),
            Err(StoreError::Open { .. })
        ));
    }

    #[test]
    fn a_damaged_record_is_named() {
        let folder = tempfile::tempdir().unwrap();
        drop(Store::open(folder.path()).unwrap());
        let disk = Disk::open(folder.path()).unwrap();
        let key = format::write_of(record(7, None)).key;
        disk.write(vec![Write {
            key,
            value: Some(vec![99]),
        }])
        .unwrap();
        drop(disk);
        let error = Store::open(folder.path()).unwrap().records().unwrap_err();
        assert!(matches!(error, StoreError::Damaged { key, .. } if key.starts_with("010707")));
    }
}

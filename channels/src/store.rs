//! Durable records: what a step changed, written together or not at all, before anything of it is said.
//!
//! ```text
//! Effect::Persist → Store::write → one synced batch → the caller goes on to what may be said now
//! ```
//! The caller waits: whoever owns the machine gathers what came meanwhile and writes it with the next step, so that one disk
//! synchronisation covers every channel that waits for one. Threads that write at the same time share one too; RocksDB joins
//! them. After a failed write the caller has to stop: the machine's memory is ahead of the disk, and only a restart brings them
//! together.
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
use std::sync::atomic::{AtomicU64, Ordering};
use thiserror::Error;

pub use format::{RimRecord, SCHEMA_VERSION, Table};

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

/// An open store.
pub struct Store {
    disk: Disk,
    synchronisations: AtomicU64,
}

impl Store {
    /// Opens or creates a store; only one program can have it open.
    ///
    /// # Errors
    /// [`StoreError`].
    pub fn open(path: &Path) -> Result<Self, StoreError> {
        let disk = Disk::open(path)?;
        let found = disk.get(format::SCHEMA_KEY)?;
        let found = found
            .map(|bytes| format::check_schema(&bytes))
            .transpose()?;
        if found != Some(SCHEMA_VERSION) {
            // From here on records may be written that an older program would misread.
            disk.write([Write {
                key: format::SCHEMA_KEY.to_vec(),
                value: Some(SCHEMA_VERSION.to_be_bytes().to_vec()),
            }])?;
        }
        Ok(Self {
            disk,
            synchronisations: AtomicU64::new(0),
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

    /// Writes records, and what is kept beside the machine's: all of it or nothing. Waits for the disk.
    ///
    /// # Errors
    /// [`StoreError::Write`].
    pub fn write(&self, records: Vec<Record>, rim: Vec<RimRecord>) -> Result<(), StoreError> {
        let records = records.into_iter().map(format::write_of);
        let rim = rim.into_iter().map(format::write_of_rim);
        self.synchronisations.fetch_add(1, Ordering::Relaxed);
        self.disk.write(records.chain(rim))
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

    /// Forgets the records of a table before a name. Waits for no disk: a crash may bring them back.
    ///
    /// # Errors
    /// [`StoreError::Write`].
    pub fn forget_before(&self, table: Table, name: &[u8]) -> Result<(), StoreError> {
        self.disk
            .remove_range(&[table as u8], &format::rim_key(table, name))
    }

    /// Disk synchronisations so far.
    pub fn synchronisations(&self) -> u64 {
        self.synchronisations.load(Ordering::Relaxed)
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
            .write(
                vec![record(1, Some(b"one")), record(2, Some(b"two")), preimage],
                Vec::new(),
            )
            .unwrap();
        store
            .write(vec![record(1, Some(b"newer")), record(2, None)], Vec::new())
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
    fn a_newer_schema_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        drop(Store::open(folder.path()).unwrap());
        let disk = Disk::open(folder.path()).unwrap();
        disk.write([Write {
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
        disk.write([Write {
            key,
            value: Some(vec![99]),
        }])
        .unwrap();
        drop(disk);
        let error = Store::open(folder.path()).unwrap().records().unwrap_err();
        assert!(matches!(error, StoreError::Damaged { key, .. } if key.starts_with("010707")));
    }
}

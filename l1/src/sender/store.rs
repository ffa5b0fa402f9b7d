//! What the sender must not forget: one record per id, with every signed attempt.

use super::{Call, machine::Fees};
use alloy::primitives::{Address, B256, Bytes, U256};
use serde::{Deserialize, Serialize};
use std::{
    collections::BTreeMap,
    fs,
    io::{ErrorKind, Write},
    path::{Path, PathBuf},
    sync::{Mutex, MutexGuard},
};
use thiserror::Error;

/// The store failed.
#[derive(Debug, Error)]
#[error("transaction store {place}: {cause}")]
pub struct StoreError {
    /// Which store.
    pub place: String,
    /// What went wrong.
    pub cause: String,
}

/// One signing of a transaction.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Attempt {
    /// Its hash.
    pub hash: B256,
    /// Its fees.
    pub fees: Fees,
    /// The signed bytes.
    pub raw: Bytes,
    /// Unix time in seconds.
    pub sent_at: u64,
}

/// A call that is to land, and all attempts at it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Record {
    /// The caller's id.
    pub id: String,
    /// Nonce of all attempts.
    pub nonce: u64,
    /// The callee; none for a creation.
    pub to: Option<Address>,
    /// Wei sent along.
    pub value: U256,
    /// Call data.
    pub input: Bytes,
    /// Gas limit of all attempts.
    pub gas_limit: u64,
    /// How often the nonce was lost to another transaction.
    pub replacements: u32,
    /// Oldest first.
    pub attempts: Vec<Attempt>,
}

impl Record {
    /// A record without attempts.
    pub fn new(id: &str, nonce: u64, call: &Call, gas_limit: u64, replacements: u32) -> Self {
        let (to, value, input) = (call.to.to().copied(), call.value, call.input.clone());
        Self {
            id: id.to_owned(),
            nonce,
            to,
            value,
            input,
            gas_limit,
            replacements,
            attempts: vec![],
        }
    }

    /// Whether the record was made for this call. What a contract call sends along may differ: it can hold a fee that has
    /// changed since.
    pub fn is_for(&self, call: &Call) -> bool {
        let same_value = self.value == call.value || !call.input.is_empty();
        self.to == call.to.to().copied() && self.input == call.input && same_value
    }
}

/// Keeps records. A record must be durable when `put` returns.
pub trait SenderStore: Send + Sync {
    /// The record with this id.
    fn get(&self, id: &str) -> Result<Option<Record>, StoreError>;
    /// Writes a record over the one with its id.
    fn put(&self, record: &Record) -> Result<(), StoreError>;
    /// Removes a record; none with this id is no error.
    fn remove(&self, id: &str) -> Result<(), StoreError>;
    /// All records.
    fn all(&self) -> Result<Vec<Record>, StoreError>;
    /// The records from a nonce on, in the order of their nonces. Asked for at each transaction.
    fn at_or_above_nonce(&self, nonce: u64) -> Result<Vec<Record>, StoreError> {
        let mut records = self.all()?;
        records.retain(|record| record.nonce >= nonce);
        records.sort_by_key(|record| record.nonce);
        Ok(records)
    }
}

type Records = BTreeMap<String, Record>;

/// A store that ends with the process.
#[derive(Debug, Default)]
pub struct MemoryStore {
    records: Mutex<Records>,
}

impl MemoryStore {
    fn lock(&self) -> MutexGuard<'_, Records> {
        self.records
            .lock()
            .expect("no code panics while it holds the store's lock")
    }
}

impl SenderStore for MemoryStore {
    fn get(&self, id: &str) -> Result<Option<Record>, StoreError> {
        Ok(self.lock().get(id).cloned())
    }

    fn put(&self, record: &Record) -> Result<(), StoreError> {
        self.lock().insert(record.id.clone(), record.clone());
        Ok(())
    }

    fn remove(&self, id: &str) -> Result<(), StoreError> {
        self.lock().remove(id);
        Ok(())
    }

    fn all(&self) -> Result<Vec<Record>, StoreError> {
        Ok(self.lock().values().cloned().collect())
    }

    fn at_or_above_nonce(&self, nonce: u64) -> Result<Vec<Record>, StoreError> {
        let records = self.lock();
        let open = records.values().filter(|record| record.nonce >= nonce);
        let mut open: Vec<Record> = open.cloned().collect();
        open.sort_by_key(|record| record.nonce);
        Ok(open)
    }
}

/// A store in one JSON file, rewritten and flushed at each change: for the few transactions that one account has under way.
#[derive(Debug)]
pub struct FileStore {
    path: PathBuf,
    memory: MemoryStore,
}

impl FileStore {
    /// Opens the file, or begins with an empty store where there is none.
    pub fn open(path: &Path) -> Result<Self, StoreError> {
        let records = match fs::read(path) {
            Ok(bytes) => serde_json::from_slice(&bytes).map_err(|error| failed(path, error))?,
            Err(error) if error.kind() == ErrorKind::NotFound => Records::new(),
            Err(error) => return Err(failed(path, error)),
        };
        Ok(Self {
            path: path.to_owned(),
            memory: MemoryStore {
                records: Mutex::new(records),
            },
        })
    }

    fn write(&self, records: &Records) -> Result<(), StoreError> {
        let bytes = serde_json::to_vec(records).map_err(|error| failed(&self.path, error))?;
        let beside = self.path.with_extension("new");
        let written = fs::File::create(&beside).and_then(|mut file| {
            file.write_all(&bytes)?;
            file.sync_all()?;
            fs::rename(&beside, &self.path)
        });
        written.map_err(|error| failed(&self.path, error))
    }

    /// Changes the file first, so that memory never shows what is not durable.
    fn change(&self, change: impl FnOnce(&mut Records)) -> Result<(), StoreError> {
        let mut records = self.memory.lock();
        let mut changed = records.clone();
        change(&mut changed);
        self.write(&changed)?;
        *records = changed;
        Ok(())
    }
}

impl SenderStore for FileStore {
    fn get(&self, id: &str) -> Result<Option<Record>, StoreError> {
        self.memory.get(id)
    }

    fn put(&self, record: &Record) -> Result<(), StoreError> {
        self.change(|records| drop(records.insert(record.id.clone(), record.clone())))
    }

    fn remove(&self, id: &str) -> Result<(), StoreError> {
        self.change(|records| drop(records.remove(id)))
    }

    fn all(&self) -> Result<Vec<Record>, StoreError> {
        self.memory.all()
    }

    fn at_or_above_nonce(&self, nonce: u64) -> Result<Vec<Record>, StoreError> {
        self.memory.at_or_above_nonce(nonce)
    }
}

fn failed(path: &Path, cause: impl std::fmt::Display) -> StoreError {
    StoreError {
        place: path.display().to_string(),
        cause: cause.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_store_remembers() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("transactions.json");
        let call = Call::new(Address::repeat_byte(1), U256::from(5), vec![1, 2, 3]);
        let mut record = Record::new("commit-1", 3, &call, 100_000, 0);
        let fees = Fees {
            max_fee: 2,
            priority_fee: 1,
        };
        record.attempts.push(Attempt {
            hash: B256::repeat_byte(2),
            fees,
            raw: vec![9].into(),
            sent_at: 7,
        });
        FileStore::open(&path).unwrap().put(&record).unwrap();
        let again = FileStore::open(&path).unwrap();
        assert_eq!(again.get("commit-1").unwrap(), Some(record.clone()));
        assert_eq!(again.all().unwrap(), [record]);
        again.remove("commit-1").unwrap();
        assert!(FileStore::open(&path).unwrap().all().unwrap().is_empty());
        fs::write(&path, b"[").unwrap();
        assert!(FileStore::open(&path).is_err());
    }
}

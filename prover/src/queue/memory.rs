//! A store that forgets at the end of the process: for tests, and for development chains that forget too.

use super::JobKey;
use super::JobRecord;
use super::service::{JobStore, StoreError, Stored};
use super::table::Change;
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// Keeps everything in memory. Clones share their content, as a reopened disk would.
#[derive(Debug, Clone, Default)]
pub struct MemoryStore {
    content: Arc<Mutex<Content>>,
}

#[derive(Debug, Default)]
struct Content {
    records: BTreeMap<JobKey, JobRecord>,
    statements: BTreeMap<JobKey, Vec<u8>>,
    results: BTreeMap<JobKey, Vec<u8>>,
    next_token: u64,
}

impl MemoryStore {
    fn content(&self) -> MutexGuard<'_, Content> {
        self.content.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl JobStore for MemoryStore {
    fn load(&self) -> Result<Stored, StoreError> {
        let content = self.content();
        let records = content.records.values().cloned().collect();
        Ok(Stored {
            records,
            next_token: content.next_token,
        })
    }

    fn write(&mut self, change: &Change) -> Result<(), StoreError> {
        let mut content = self.content();
        for record in &change.records {
            content.records.insert(record.key, record.clone());
        }
        content.statements.extend(change.statement.clone());
        content.results.extend(change.result.clone());
        if let Some(key) = change.removed {
            content.records.remove(&key);
            content.statements.remove(&key);
            content.results.remove(&key);
        }
        if let Some(next) = change.next_token {
            content.next_token = next;
        }
        Ok(())
    }

    fn statement(&self, key: &JobKey) -> Result<Option<Vec<u8>>, StoreError> {
        Ok(self.content().statements.get(key).cloned())
    }

    fn result(&self, key: &JobKey) -> Result<Option<Vec<u8>>, StoreError> {
        Ok(self.content().results.get(key).cloned())
    }
}

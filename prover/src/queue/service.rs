//! A queue over a store: every change is on disk before it is acknowledged.
//!
//! request → [`Table`] decides → [`JobStore::write`] (durable) → table applies → answer

use super::table::{Change, Limits, Table};
use super::{
    FencingToken, Job, JobKey, JobQueue, JobRecord, JobResult, JobState, Lease, Millis, QueueError,
};
use crate::circuit::{Circuit, Statement};
use crate::groth16::{Verifier, VerifyingKey};
use crate::key::KeyId;
use ark_bn254::Fr;
use serde::Serialize;
use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use thiserror::Error;
use tokio::sync::watch;

/// The disk failed, or holds something else.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("{0}")]
pub struct StoreError(pub String);

impl From<StoreError> for QueueError {
    fn from(error: StoreError) -> Self {
        Self::Store(error.0)
    }
}

/// What a store held when it was opened.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Stored {
    /// All jobs.
    pub records: Vec<JobRecord>,
    /// The next token.
    pub next_token: u64,
}

/// Keeps a queue's bytes.
pub trait JobStore: Send {
    /// Reads everything but statements and results.
    ///
    /// # Errors
    /// If the disk fails or its content is not understood.
    fn load(&self) -> Result<Stored, StoreError>;

    /// Writes a change: all of it, durably, before this returns; or none of it.
    ///
    /// # Errors
    /// If the disk fails.
    fn write(&mut self, change: &Change) -> Result<(), StoreError>;

    /// A job's statement.
    ///
    /// # Errors
    /// If the disk fails.
    fn statement(&self, key: &JobKey) -> Result<Option<Vec<u8>>, StoreError>;

    /// A job's result.
    ///
    /// # Errors
    /// If the disk fails.
    fn result(&self, key: &JobKey) -> Result<Option<Vec<u8>>, StoreError>;
}

/// Judges a result before the queue takes it.
pub trait Referee: Send + Sync {
    /// Refuses a result that does not prove the job.
    ///
    /// # Errors
    /// Why it is refused.
    fn judge(&self, job: &JobRecord, result: &JobResult) -> Result<(), String>;
}

/// Verifies every result against the keys that the contract knows.
#[derive(Default)]
pub struct VerifyingReferee {
    keys: BTreeMap<Circuit, (KeyId, Verifier)>,
}

impl VerifyingReferee {
    /// Accepts proofs for this circuit under this key.
    #[must_use]
    pub fn with_key(mut self, circuit: Circuit, id: KeyId, key: &VerifyingKey) -> Self {
        self.keys.insert(circuit, (id, Verifier::new(key)));
        self
    }
}

impl Referee for VerifyingReferee {
    fn judge(&self, job: &JobRecord, result: &JobResult) -> Result<(), String> {
        let Some((id, verifier)) = self.keys.get(&job.circuit) else {
            return Err(format!("no verifying key for circuit {}", job.circuit));
        };
        if result.key != *id {
            return Err(format!(
                "it was made with key {}, the rollup uses {id}",
                result.key
            ));
        }
        let inputs: Vec<Fr> = job.public_inputs.iter().map(|word| word.0).collect();
        if verifier.accepts(&result.proof, &inputs) {
            Ok(())
        } else {
            Err("the proof does not verify".into())
        }
    }
}

/// A durable queue. One process owns a store.
pub struct Queue {
    state: Mutex<State>,
    referee: Option<Box<dyn Referee>>,
    revision: watch::Sender<u64>,
}

struct State {
    table: Table,
    store: Box<dyn JobStore>,
}

impl State {
    fn commit(&mut self, change: &Change) -> Result<(), QueueError> {
        if !change.is_empty() {
            self.store.write(change)?;
            self.table.apply(change);
        }
        Ok(())
    }
}

impl Queue {
    /// Opens a queue as its store left it. Results are taken on trust unless a referee judges them.
    ///
    /// # Errors
    /// If the store cannot be read.
    pub fn open(store: impl JobStore + 'static, limits: Limits) -> Result<Self, StoreError> {
        let Stored {
            records,
            next_token,
        } = store.load()?;
        let table = Table::new(limits, records, next_token);
        let state = Mutex::new(State {
            table,
            store: Box::new(store),
        });
        Ok(Self {
            state,
            referee: None,
            revision: watch::Sender::new(0),
        })
    }

    /// Has every result judged before it is taken: for workers that are not this process.
    #[must_use]
    pub fn judged_by(mut self, referee: impl Referee + 'static) -> Self {
        self.referee = Some(Box::new(referee));
        self
    }

    /// A number that changes with every acknowledged change, to wait on.
    pub fn watch(&self) -> watch::Receiver<u64> {
        self.revision.subscribe()
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // A change is applied in one step after it is stored, so a panic elsewhere leaves no half of one.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn commit(&self, state: &mut State, change: &Change) -> Result<(), QueueError> {
        state.commit(change)?;
        if !change.is_empty() {
            self.revision.send_modify(|revision| *revision += 1);
        }
        Ok(())
    }

    fn judge(
        &self,
        key: &JobKey,
        token: FencingToken,
        result: &JobResult,
    ) -> Result<(), QueueError> {
        let Some(referee) = &self.referee else {
            return Ok(());
        };
        // Judged outside the lock: a verification takes milliseconds.
        let record = self.state().table.held(key, token)?.clone();
        referee
            .judge(&record, result)
            .map_err(|reason| QueueError::ResultRefused { key: *key, reason })
    }
}

/// A job's statement, or why its bytes are none; an error only if the disk fails.
fn read_statement(
    store: &dyn JobStore,
    key: &JobKey,
) -> Result<Result<Statement, String>, QueueError> {
    let Some(bytes) = store.statement(key)? else {
        return Ok(Err("its statement is missing from the store".into()));
    };
    let statement = postcard::from_bytes(&bytes);
    Ok(statement.map_err(|error| format!("its statement cannot be read: {error}")))
}

fn encode<T: Serialize>(value: &T) -> Result<Vec<u8>, QueueError> {
    postcard::to_allocvec(value).map_err(|error| QueueError::Store(error.to_string()))
}

impl JobQueue for Queue {
    fn submit(&self, job: &Job, now: Millis) -> Result<JobRecord, QueueError> {
        let statement = job.statement_bytes()?;
        let key = Job::key_of(job.batch, &statement);
        let mut state = self.state();
        if let Some(record) = state.table.get(&key) {
            return Ok(record.clone());
        }
        let record = JobRecord {
            key,
            circuit: job.statement.circuit(),
            public_inputs: crate::snarkjs::words(&job.statement.public_inputs()),
            state: JobState::Waiting,
            submitted: now,
            changed: now,
            leases: 0,
            expiries: 0,
            failures: 0,
            last_failure: None,
        };
        let change = state.table.submit(record.clone(), statement)?;
        self.commit(&mut state, &change)?;
        Ok(record)
    }

    fn lease(&self, worker: &str, millis: u64, now: Millis) -> Result<Option<Lease>, QueueError> {
        let mut state = self.state();
        while let Some((record, token, expires, change)) = state.table.lease(worker, millis, now) {
            let key = record.key;
            match read_statement(&*state.store, &key)? {
                Ok(statement) => {
                    self.commit(&mut state, &change)?;
                    let job = Job {
                        batch: key.batch,
                        statement,
                    };
                    return Ok(Some(Lease {
                        key,
                        job,
                        token,
                        expires,
                    }));
                }
                // One job that cannot be read must not block all others for ever.
                Err(reason) => {
                    tracing::error!(job = %key, %reason, "parked a job");
                    let change = state.table.park(&key, &reason, now)?;
                    self.commit(&mut state, &change)?;
                }
            }
        }
        Ok(None)
    }

    fn extend(
        &self,
        key: &JobKey,
        token: FencingToken,
        millis: u64,
        now: Millis,
    ) -> Result<Millis, QueueError> {
        let mut state = self.state();
        let (end, change) = state.table.extend(key, token, millis, now)?;
        // No one waits for a heartbeat, so it is no revision.
        state.commit(&change)?;
        Ok(end)
    }

    fn complete(
        &self,
        key: &JobKey,
        token: FencingToken,
        result: &JobResult,
        now: Millis,
    ) -> Result<(), QueueError> {
        if self.state().table.known(key)?.state == (JobState::Done { token }) {
            return Ok(());
        }
        self.judge(key, token, result)?;
        let bytes = encode(result)?;
        let mut state = self.state();
        match state.table.complete(key, token, bytes, now)? {
            Some(change) => self.commit(&mut state, &change),
            None => Ok(()),
        }
    }

    fn fail(
        &self,
        key: &JobKey,
        token: FencingToken,
        reason: &str,
        now: Millis,
    ) -> Result<JobState, QueueError> {
        let mut state = self.state();
        let (next, change) = state.table.fail(key, token, reason, now)?;
        self.commit(&mut state, &change)?;
        Ok(next)
    }

    fn release(&self, key: &JobKey, token: FencingToken, now: Millis) -> Result<(), QueueError> {
        let mut state = self.state();
        let change = state.table.release(key, token, now)?;
        self.commit(&mut state, &change)
    }

    fn reclaim(&self, now: Millis) -> Result<Vec<JobKey>, QueueError> {
        let mut state = self.state();
        let change = state.table.reclaim(now);
        self.commit(&mut state, &change)?;
        Ok(change.records.iter().map(|record| record.key).collect())
    }

    fn retry(&self, key: &JobKey, now: Millis) -> Result<(), QueueError> {
        let mut state = self.state();
        let change = state.table.retry(key, now)?;
        self.commit(&mut state, &change)
    }

    fn forget(&self, key: &JobKey) -> Result<(), QueueError> {
        let mut state = self.state();
        let change = state.table.forget(key)?;
        self.commit(&mut state, &change)
    }

    fn list(&self) -> Result<Vec<JobRecord>, QueueError> {
        Ok(self.state().table.list())
    }

    fn get(&self, key: &JobKey) -> Result<Option<JobRecord>, QueueError> {
        Ok(self.state().table.get(key).cloned())
    }

    fn result(&self, key: &JobKey) -> Result<Option<JobResult>, QueueError> {
        let Some(bytes) = self.state().store.result(key)? else {
            return Ok(None);
        };
        let result = postcard::from_bytes(&bytes)
            .map_err(|error| QueueError::Store(format!("result of job {key}: {error}")))?;
        Ok(Some(result))
    }
}

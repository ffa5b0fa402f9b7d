//! The proof queue: who proves what, so that a batch is proved once however often provers die.
//!
//! ```text
//! submit → Waiting → lease → Leased → complete → Done → forget
//!            ↑                 │ fail, release, lease expires
//!            └─────────────────┘ (too many failures: Failed → retry → Waiting)
//! ```
//!
//! Every lease has a token larger than all before it. Extending, completing, failing and releasing take the token of the
//! current lease: a worker that was taken for dead and comes back is told so, and its late result is refused. All
//! decisions are in `table`, pure; [`Queue`] writes each change to a [`JobStore`] before it acknowledges it. Time is passed
//! in. [`wire`] carries the same trait over any transport that moves bytes.

use crate::circuit::{Circuit, Statement};
use crate::key::KeyId;
use crate::matrices::hash_from_text;
use crate::proof::Proof;
use crate::prove::{Proven, Timings};
use millrace_circuits::field::Word;
use millrace_circuits::types::BatchNumber;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use std::{fmt, str::FromStr};
use thiserror::Error;

mod disk;
mod memory;
mod service;
mod table;
pub mod wire;

pub use disk::DiskStore;
pub use memory::MemoryStore;
pub use service::{JobStore, Queue, Referee, StoreError, Stored, VerifyingReferee};
pub use table::{Change, Limits};

/// Milliseconds since the Unix epoch.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize,
)]
#[serde(transparent)]
pub struct Millis(pub u64);

impl Millis {
    /// The system's clock.
    pub fn now() -> Self {
        let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
        Self(since.map_or(0, |d| u64::try_from(d.as_millis()).unwrap_or(u64::MAX)))
    }

    /// So much later.
    #[must_use]
    pub fn plus(self, millis: u64) -> Self {
        Self(self.0.saturating_add(millis))
    }
}

/// Grows with every lease, so that a later lease always outranks an earlier one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct FencingToken(pub u64);

impl fmt::Display for FencingToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// Names a job by its content: submitting the same statement twice is one job.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct JobKey {
    /// The batch.
    pub batch: BatchNumber,
    /// SHA-256 of the statement.
    pub statement: [u8; 32],
}

impl fmt::Display for JobKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}", self.batch.0, hex::encode(self.statement))
    }
}

impl fmt::Debug for JobKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "JobKey({}-{})",
            self.batch.0,
            hex::encode(&self.statement[..4])
        )
    }
}

/// Text that is no job key.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("expected a batch number, a dash and 64 hexadecimal digits, got {0:?}")]
pub struct NotAJobKey(pub String);

impl FromStr for JobKey {
    type Err = NotAJobKey;

    fn from_str(text: &str) -> Result<Self, NotAJobKey> {
        let parse = || {
            let (batch, hash) = text.split_once('-')?;
            let batch = BatchNumber(batch.parse().ok()?);
            Some(Self {
                batch,
                statement: hash_from_text(hash).ok()?,
            })
        };
        parse().ok_or_else(|| NotAJobKey(text.chars().take(100).collect()))
    }
}

impl TryFrom<String> for JobKey {
    type Error = NotAJobKey;
    fn try_from(text: String) -> Result<Self, NotAJobKey> {
        text.parse()
    }
}

impl From<JobKey> for String {
    fn from(key: JobKey) -> Self {
        key.to_string()
    }
}

/// A batch to prove.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Job {
    /// The batch's number; lower ones are proved first.
    pub batch: BatchNumber,
    /// What to prove.
    pub statement: Statement,
}

impl Job {
    /// The statement's bytes, as stored.
    pub(crate) fn statement_bytes(&self) -> Result<Vec<u8>, QueueError> {
        postcard::to_allocvec(&self.statement).map_err(|e| QueueError::Store(e.to_string()))
    }

    /// The job's name.
    ///
    /// # Errors
    /// If the statement cannot be serialized.
    pub fn key(&self) -> Result<JobKey, QueueError> {
        Ok(Self::key_of(self.batch, &self.statement_bytes()?))
    }

    pub(crate) fn key_of(batch: BatchNumber, statement: &[u8]) -> JobKey {
        let mut hasher = Sha256::new_with_prefix(b"millrace-statement-1");
        hasher.update(statement);
        JobKey {
            batch,
            statement: hasher.finalize().into(),
        }
    }
}

/// What a worker hands in.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct JobResult {
    /// The proof.
    pub proof: Proof,
    /// The key it was made with.
    pub key: KeyId,
    /// The backend that made it.
    pub backend: String,
    /// How long it took.
    pub timings: Timings,
}

impl JobResult {
    /// The result of a proof by this backend.
    pub fn new(proven: Proven, backend: &str) -> Self {
        let Proven {
            proof,
            key,
            timings,
        } = proven;
        Self {
            proof,
            key,
            backend: backend.to_owned(),
            timings,
        }
    }
}

/// Where a job stands.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum JobState {
    /// Nobody works on it.
    Waiting,
    /// A worker has it.
    Leased {
        /// Who.
        worker: String,
        /// The lease's token.
        token: FencingToken,
        /// When it counts as dead.
        expires: Millis,
    },
    /// Proved; the result is kept until the job is forgotten.
    Done {
        /// The lease that proved it.
        token: FencingToken,
    },
    /// Given up after too many failures.
    Failed,
}

/// A job without its statement.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct JobRecord {
    /// Its name.
    pub key: JobKey,
    /// The circuit.
    pub circuit: Circuit,
    /// The public inputs.
    pub public_inputs: Vec<Word>,
    /// Where it stands.
    pub state: JobState,
    /// When it was submitted.
    pub submitted: Millis,
    /// When it last changed.
    pub changed: Millis,
    /// Leases given out.
    pub leases: u32,
    /// Leases that ran out without a word.
    pub expiries: u32,
    /// Failures that workers reported since the submission or the last retry.
    pub failures: u32,
    /// What the last failure said.
    pub last_failure: Option<String>,
}

/// A job with the right to work on it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Lease {
    /// The job's name.
    pub key: JobKey,
    /// The job.
    pub job: Job,
    /// What proves the right.
    pub token: FencingToken,
    /// When it ends unless extended.
    pub expires: Millis,
}

/// Why the queue refuses.
#[derive(Debug, Clone, PartialEq, Eq, Error, Serialize, Deserialize)]
pub enum QueueError {
    /// No such job.
    #[error("job {0} is not in the queue")]
    UnknownJob(JobKey),
    /// The caller's lease is not the current one.
    #[error("lease {got} of job {key} is no longer valid: {state}")]
    StaleLease {
        /// The job.
        key: JobKey,
        /// The caller's token.
        got: FencingToken,
        /// What holds instead.
        state: String,
    },
    /// Too many unfinished jobs.
    #[error("the proof queue is full: {limit} jobs are unfinished; add provers or wait")]
    Full {
        /// The limit.
        limit: usize,
    },
    /// The statement is too large.
    #[error("the statement has {bytes} bytes, the limit is {limit}")]
    TooLarge {
        /// Its length.
        bytes: usize,
        /// The limit.
        limit: usize,
    },
    /// The result does not prove the job.
    #[error("the result of job {key} is refused: {reason}")]
    ResultRefused {
        /// The job.
        key: JobKey,
        /// Why.
        reason: String,
    },
    /// Only failed jobs can be retried, and only finished ones forgotten.
    #[error("job {key} is {state}, so it cannot be {wish}")]
    WrongState {
        /// The job.
        key: JobKey,
        /// Where it stands.
        state: String,
        /// What was asked for.
        wish: String,
    },
    /// The disk failed; nothing was acknowledged.
    #[error("the proof queue's store failed: {0}")]
    Store(String),
    /// A remote queue could not be reached or understood.
    #[error("the remote proof queue failed: {0}")]
    Remote(String),
}

/// A durable queue of proofs to make. Whatever it acknowledged survives a crash.
pub trait JobQueue: Send + Sync {
    /// Adds a job. The same statement again changes nothing and returns the job as it stands.
    ///
    /// # Errors
    /// If the queue is full, the statement too large, or the store fails.
    fn submit(&self, job: &Job, now: Millis) -> Result<JobRecord, QueueError>;

    /// Gives out the waiting job with the lowest batch number for so many milliseconds. Expired leases count as waiting.
    ///
    /// # Errors
    /// If the store fails.
    fn lease(&self, worker: &str, millis: u64, now: Millis) -> Result<Option<Lease>, QueueError>;

    /// A sign of life: the lease lasts from now for so many milliseconds more. Its new end.
    ///
    /// # Errors
    /// If the lease is no longer valid, or the store fails.
    fn extend(
        &self,
        key: &JobKey,
        token: FencingToken,
        millis: u64,
        now: Millis,
    ) -> Result<Millis, QueueError>;

    /// Hands in the result. Handing in again under the same token changes nothing.
    ///
    /// # Errors
    /// If the lease is no longer valid, the result is refused, or the store fails.
    fn complete(
        &self,
        key: &JobKey,
        token: FencingToken,
        result: &JobResult,
        now: Millis,
    ) -> Result<(), QueueError>;

    /// Gives up for a reason. The job waits again, or is parked as failed after too many failures.
    ///
    /// # Errors
    /// If the lease is no longer valid, or the store fails.
    fn fail(
        &self,
        key: &JobKey,
        token: FencingToken,
        reason: &str,
        now: Millis,
    ) -> Result<JobState, QueueError>;

    /// Gives the job back without blame, as a worker that shuts down does.
    ///
    /// # Errors
    /// If the lease is no longer valid, or the store fails.
    fn release(&self, key: &JobKey, token: FencingToken, now: Millis) -> Result<(), QueueError>;

    /// Makes all jobs with expired leases wait again; which.
    ///
    /// # Errors
    /// If the store fails.
    fn reclaim(&self, now: Millis) -> Result<Vec<JobKey>, QueueError>;

    /// Makes a failed job wait again.
    ///
    /// # Errors
    /// If the job is unknown or has not failed, or the store fails.
    fn retry(&self, key: &JobKey, now: Millis) -> Result<(), QueueError>;

    /// Removes a job in whatever state, with its result: it is proved on L1, or its batch no longer exists.
    ///
    /// # Errors
    /// If the job is unknown, or the store fails.
    fn forget(&self, key: &JobKey) -> Result<(), QueueError>;

    /// All jobs, lowest batch number first.
    ///
    /// # Errors
    /// If a remote queue cannot be reached.
    fn list(&self) -> Result<Vec<JobRecord>, QueueError>;

    /// One job.
    ///
    /// # Errors
    /// If a remote queue cannot be reached.
    fn get(&self, key: &JobKey) -> Result<Option<JobRecord>, QueueError>;

    /// The result of a job that is done.
    ///
    /// # Errors
    /// If the store fails.
    fn result(&self, key: &JobKey) -> Result<Option<JobResult>, QueueError>;
}

#[cfg(test)]
mod tests;

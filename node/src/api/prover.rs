//! The proof queue for provers in other processes.
//!
//! `millrace prover` → lease, heartbeat, complete, fail, release as [`wire`] requests over HTTP, with the node's token →
//! the queue, which fences late workers and verifies every proof before it takes it

use super::extract::Body;
use super::problem::{Code, Problem};
use super::types::ProofQueue;
use super::Api;
use axum::Json;
use axum::body::Bytes;
use axum::extract::State;
use axum::http::header::{AUTHORIZATION, CONTENT_TYPE};
use axum::http::{HeaderMap, header};
use axum::response::{IntoResponse, Response};
use millrace_prover::queue::{FencingToken, JobKey, JobQueue, JobRecord, JobState, Millis, QueueError, wire};
use serde::{Deserialize, Serialize};
use std::sync::Arc;
use utoipa::ToSchema;

/// Media type of requests and answers of the wire format.
pub const WIRE_MEDIA_TYPE: &str = "application/octet-stream";

/// A job of the proof queue.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct JobView {
    /// Its name: batch number, dash, hash of the statement.
    pub key: String,
    /// The batch.
    pub batch: u64,
    /// The circuit.
    pub circuit: String,
    /// waiting, leased, done or failed.
    pub state: JobStateName,
    /// Who works on it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub worker: Option<String>,
    /// Leases given out so far.
    pub leases: u32,
    /// Leases that ran out without a word.
    pub expiries: u32,
    /// Failures reported since the last retry.
    pub failures: u32,
    /// What the last failure said.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_failure: Option<String>,
    /// Unix milliseconds of its submission.
    pub submitted_at_millis: u64,
    /// Unix milliseconds of its last change.
    pub changed_at_millis: u64,
}

/// Where a job stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum JobStateName {
    /// Nobody works on it.
    Waiting,
    /// A worker has it.
    Leased,
    /// Proved.
    Done,
    /// Given up after too many failures.
    Failed,
}

/// All jobs, lowest batch first.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Jobs {
    /// The jobs.
    pub jobs: Vec<JobView>,
}

/// A worker that gives a job up.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct RetryRequest {
    /// The job's name.
    pub key: String,
}

impl From<&JobState> for JobStateName {
    fn from(state: &JobState) -> Self {
        match state {
            JobState::Waiting => Self::Waiting,
            JobState::Leased { .. } => Self::Leased,
            JobState::Done { .. } => Self::Done,
            JobState::Failed => Self::Failed,
        }
    }
}

impl From<&JobRecord> for JobView {
    fn from(record: &JobRecord) -> Self {
        let worker = match &record.state {
            JobState::Leased { worker, .. } => Some(worker.clone()),
            _ => None,
        };
        Self {
            key: record.key.to_string(),
            batch: record.key.batch.0,
            circuit: record.circuit.to_string(),
            state: (&record.state).into(),
            worker,
            leases: record.leases,
            expiries: record.expiries,
            failures: record.failures,
            last_failure: record.last_failure.clone(),
            submitted_at_millis: record.submitted.0,
            changed_at_millis: record.changed.0,
        }
    }
}

/// Counts jobs by state.
pub fn count(records: &[JobRecord]) -> ProofQueue {
    records.iter().fold(ProofQueue::default(), |mut queue, record| {
        match record.state {
            JobState::Waiting => queue.waiting += 1,
            JobState::Leased { .. } => queue.leased += 1,
            JobState::Done { .. } => queue.done += 1,
            JobState::Failed => queue.failed += 1,
        }
        queue
    })
}

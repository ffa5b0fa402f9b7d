//! The proof queue for provers in other processes.
//!
//! `millrace prover` → lease, heartbeat, complete, fail, release as [`wire`] requests over HTTP, with the node's token →
//! the queue, which fences late workers and verifies every proof before it takes it

use super::Api;
use super::extract::Named;
use super::operator::{Operator, RemoteProver};
use super::problem::{Code, Problem};
use super::types::ProofQueue;
use axum::Json;
use axum::body::Bytes;
use axum::extract::State;
use axum::http::StatusCode;
use axum::http::header::CONTENT_TYPE;
use axum::response::IntoResponse;
use millrace_prover::queue::{JobKey, JobQueue, JobRecord, JobState, Millis, QueueError, wire};
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
    records
        .iter()
        .fold(ProofQueue::default(), |mut queue, record| {
            match record.state {
                JobState::Waiting => queue.waiting += 1,
                JobState::Leased { .. } => queue.leased += 1,
                JobState::Done { .. } => queue.done += 1,
                JobState::Failed => queue.failed += 1,
            }
            queue.retries += u64::from(record.leases.saturating_sub(1));
            queue
        })
}

fn queue(api: &Api) -> Result<Arc<dyn JobQueue>, Problem> {
    let queue = api.0.parts.queue.clone();
    queue.ok_or_else(|| Problem::new(Code::NotASequencer, "this node has no proof queue"))
}

/// Runs a call that waits for the disk, or verifies a proof, on a thread that may block.
async fn blocking<T: Send + 'static>(
    call: impl FnOnce() -> T + Send + 'static,
) -> Result<T, Problem> {
    let answer = tokio::task::spawn_blocking(call).await;
    answer.map_err(|error| Problem::internal("the proof queue was cut off", &error))
}

/// The jobs of the proof queue, lowest batch first.
#[utoipa::path(
    get, path = "/v1/prover/jobs", tag = "prover",
    responses(
        (status = 200, description = "The jobs", body = Jobs),
        (status = "4XX", description = "This node has no proof queue", body = Problem, content_type = "application/problem+json"),
    )
)]
pub async fn jobs(State(api): State<Api>) -> Result<Json<Jobs>, Problem> {
    let queue = queue(&api)?;
    let records = blocking(move || queue.list()).await?.map_err(refused)?;
    Ok(Json(Jobs {
        jobs: records.iter().map(JobView::from).collect(),
    }))
}

/// Make a job that was given up wait again. For the operator.
#[utoipa::path(
    post, path = "/v1/prover/jobs/{key}/retry", tag = "operator",
    security(("operator" = [])),
    params(("key" = String, Path, description = "The job's name")),
    responses(
        (status = 204, description = "It waits"),
        (status = "4XX", description = "Not allowed, unknown, or not given up", body = Problem, content_type = "application/problem+json"),
    )
)]
pub async fn retry(
    State(api): State<Api>,
    _: Operator,
    Named(key): Named<JobKey>,
) -> Result<StatusCode, Problem> {
    let queue = queue(&api)?;
    blocking(move || queue.retry(&key, Millis::now()))
        .await?
        .map_err(refused)?;
    Ok(StatusCode::NO_CONTENT)
}

/// Lease, heartbeat, complete, fail or release a job, in the wire format of `millrace prover`.
///
/// The queue answers in the same format, refusals included: a late worker is told that its lease is no longer valid, and a
/// proof that does not verify is refused.
#[utoipa::path(
    post, path = "/v1/prover/exchange", tag = "prover",
    security(("prover" = [])),
    request_body(content = Vec<u8>, content_type = "application/octet-stream"),
    responses(
        (status = 200, description = "The queue's answer", body = Vec<u8>, content_type = "application/octet-stream"),
        (status = "4XX", description = "Not allowed", body = Problem, content_type = "application/problem+json"),
    )
)]
pub async fn exchange(
    State(api): State<Api>,
    _: RemoteProver,
    request: Bytes,
) -> Result<impl IntoResponse, Problem> {
    let queue = queue(&api)?;
    let answer = blocking(move || wire::serve(&*queue, &request, Millis::now())).await?;
    Ok(([(CONTENT_TYPE, WIRE_MEDIA_TYPE)], answer))
}

fn refused(error: QueueError) -> Problem {
    match error {
        QueueError::Store(_) | QueueError::Remote(_) => {
            Problem::internal("the proof queue failed", &error)
        }
        other => Problem::new(Code::ProverRefused, other),
    }
}

//! Is it alive, is it ready, what is it doing: for monitors and people.
//!
//! | path | answers | for |
//! |---|---|---|
//! | `/livez` | 200 while the process answers | restarting it |
//! | `/readyz` | 200 while it serves, else 503 with what it waits for | routing to it |
//! | `/status` | phase, lag, newest batches, what it waits for | people |
//! | `/metrics` | Prometheus' text format | alerts |

use super::Api;
use super::problem::{Code, Problem};
use super::prover::count;
use super::types::{L1Progress, Phase, ProofQueue, Status};
use axum::Json;
use axum::extract::State;
use axum::http::header::CONTENT_TYPE;
use axum::response::IntoResponse;

/// When to look again at a node that is not ready.
const RETRY_AFTER_SECS: u32 = 2;

/// How the node is doing, as its tasks report.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Health {
    /// What it is doing.
    pub phase: Phase,
    /// What it waits for, with what would help.
    pub waiting_for: Vec<String>,
    /// How far it follows L1.
    pub l1: L1Progress,
}

impl Default for Health {
    fn default() -> Self {
        let l1 = L1Progress {
            head_block: 0,
            synced_block: 0,
            lag_blocks: 0,
        };
        Self {
            phase: Phase::Starting,
            waiting_for: vec![],
            l1,
        }
    }
}

impl Health {
    /// Whether requests are served as they should be.
    pub fn is_ready(&self) -> bool {
        matches!(self.phase, Phase::Running | Phase::Degraded | Phase::Frozen)
    }
}

/// Whether the process answers.
#[utoipa::path(get, path = "/livez", tag = "health", responses((status = 200, description = "It does", body = String)))]
pub async fn livez() -> &'static str {
    "ok\n"
}

/// Whether the node serves.
#[utoipa::path(
    get, path = "/readyz", tag = "health",
    responses(
        (status = 200, description = "It does", body = String),
        (status = 503, description = "Not now; the detail says what it waits for", body = Problem, content_type = "application/problem+json"),
    )
)]
pub async fn readyz(State(api): State<Api>) -> Result<&'static str, Problem> {
    let health = api.0.parts.health.borrow().clone();
    if !health.is_ready() {
        let waiting = health.waiting_for.join("; ");
        let detail = format!("the node is {:?}: {waiting}", health.phase).to_lowercase();
        return Err(Problem::new(Code::NotReady, detail).after(RETRY_AFTER_SECS));
    }
    api.ledger().engine().await?;
    Ok("ok\n")
}

/// What the node is doing and what it waits for.
#[utoipa::path(
    get, path = "/status", tag = "health",
    responses(
        (status = 200, description = "How it is doing", body = Status),
        (status = 503, description = "The sequencer has stopped", body = Problem, content_type = "application/problem+json"),
    )
)]
pub async fn status(State(api): State<Api>) -> Result<Json<Status>, Problem> {
    Ok(Json(read(&api).await?))
}

async fn read(api: &Api) -> Result<Status, Problem> {
    let Health {
        phase,
        mut waiting_for,
        l1,
    } = api.0.parts.health.borrow().clone();
    let engine = api.ledger().engine().await?;
    let (batches, state_root) = api.ledger().progress().await?;
    let proofs = proofs(api).await?;
    if let Some(queue) = proofs.filter(|queue| queue.failed > 0) {
        waiting_for.push(format!(
            "{} proofs were given up: see /v1/prover/jobs, remove the cause, then retry them",
            queue.failed
        ));
    }
    let marks = engine.marks;
    Ok(Status {
        phase,
        waiting_for,
        uptime_secs: api.0.started.elapsed().as_secs(),
        l1,
        batches,
        state_root,
        pending_transactions: engine.open,
        waiting_transactions: engine.waiting,
        waiting_requests: marks.requests_known.saturating_sub(marks.requests_taken),
        proofs,
        last_event: marks.next_event.saturating_sub(1),
    })
}

async fn proofs(api: &Api) -> Result<Option<ProofQueue>, Problem> {
    let Some(queue) = api.0.parts.queue.clone() else {
        return Ok(None);
    };
    let records = tokio::task::spawn_blocking(move || queue.list()).await;
    match records {
        Ok(Ok(records)) => Ok(Some(count(&records))),
        Ok(Err(error)) => Err(Problem::internal("the proof queue cannot be read", &error)),
        Err(error) => Err(Problem::internal("the proof queue was cut off", &error)),
    }
}

/// Metrics in Prometheus' text format.
#[utoipa::path(
    get, path = "/metrics", tag = "health",
    responses((status = 200, description = "The metrics", body = String, content_type = "text/plain; version=0.0.4"))
)]
pub async fn metrics(State(api): State<Api>) -> impl IntoResponse {
    match read(&api).await {
        Ok(status) => {
            publish(&status);
            let age = oldest_request_age_secs(&api).await;
            metrics::gauge!("millrace_forced_op_age_seconds").set(age.unwrap_or_default() as f64);
        }
        // The node's other metrics are worth reading all the more when it cannot say how it is doing.
        Err(problem) => {
            tracing::warn!(%problem.detail, "no status for metrics");
            metrics::gauge!("millrace_ready").set(0.0);
        }
    }
    (
        [(CONTENT_TYPE, "text/plain; version=0.0.4")],
        api.0.parts.metrics.render(),
    )
}

/// How long the oldest request that no batch has taken waits, by this machine's clock.
async fn oldest_request_age_secs(api: &Api) -> Option<u64> {
    let created = api.ledger().oldest_request().await.ok()??.created;
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    Some(now.ok()?.as_secs().saturating_sub(created))
}

fn publish(status: &Status) {
    let gauge = |name: &'static str, value: u64| metrics::gauge!(name).set(value as f64);
    let batches = &status.batches;
    gauge("millrace_ready", u64::from(status.phase == Phase::Running));
    gauge("millrace_l1_head_block", status.l1.head_block);
    gauge("millrace_l1_synced_block", status.l1.synced_block);
    gauge("millrace_batch_sealed_number", batches.sealed.0);
    gauge("millrace_batch_committed_number", batches.committed.0);
    gauge("millrace_batch_proven_number", batches.proven.0);
    gauge("millrace_batch_finalised_number", batches.finalised.0);
    gauge("millrace_requests_waiting", status.waiting_requests);
    gauge("millrace_event_last_sequence", status.last_event);
    let count = |name: &'static str, state: &'static str, value: usize| {
        metrics::gauge!(name, "state" => state).set(value as f64);
    };
    count(
        "millrace_mempool_txs",
        "pending",
        status.pending_transactions,
    );
    count(
        "millrace_mempool_txs",
        "waiting",
        status.waiting_transactions,
    );
    if let Some(queue) = status.proofs {
        gauge("millrace_proof_retries", queue.retries);
        count("millrace_prover_jobs", "waiting", queue.waiting);
        count("millrace_prover_jobs", "leased", queue.leased);
        count("millrace_prover_jobs", "done", queue.done);
        count("millrace_prover_jobs", "failed", queue.failed);
    }
}

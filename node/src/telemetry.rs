//! Metrics of the process.
//!
//! `metrics` calls anywhere → the recorder that [`metrics()`] installs → `GET /metrics`, in Prometheus' text format

use metrics_exporter_prometheus::{BuildError, Matcher, PrometheusBuilder, PrometheusHandle};
use std::sync::OnceLock;
use std::time::Duration;
use thiserror::Error;

/// How often the recorder tidies its histograms.
pub const UPKEEP_INTERVAL: Duration = Duration::from_secs(5);

/// Upper bounds of histograms of seconds: from a durable write to a slow proof.
const SECONDS: &[f64] = &[
    0.000_5, 0.001, 0.002_5, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0,
    60.0, 120.0, 300.0, 600.0,
];

/// Why there are no metrics.
#[derive(Debug, Error)]
pub enum TelemetryError {
    /// Metrics go elsewhere already.
    #[error("metrics cannot be recorded: {0}")]
    Metrics(String),
}

/// The recorder of this process; the first call installs it.
///
/// # Errors
/// If another recorder is installed.
pub fn metrics() -> Result<PrometheusHandle, TelemetryError> {
    static RECORDER: OnceLock<Result<PrometheusHandle, String>> = OnceLock::new();
    let recorder = RECORDER.get_or_init(|| install().map_err(|error| error.to_string()));
    recorder.clone().map_err(TelemetryError::Metrics)
}

fn install() -> Result<PrometheusHandle, BuildError> {
    let handle = PrometheusBuilder::new()
        .set_buckets_for_metric(Matcher::Suffix("_seconds".into()), SECONDS)?
        .install_recorder()?;
    describe();
    Ok(handle)
}

/// What each metric means and in which unit; the same names stand in docs/operating.md.
const DESCRIPTIONS: &[(&str, &str)] = &[
    (
        "millrace_l1_head_block",
        "Newest L1 block that the endpoint knows",
    ),
    (
        "millrace_l1_synced_block",
        "Newest L1 block that this node has taken in",
    ),
    (
        "millrace_mempool_txs",
        "Transactions by state: pending are in the open batch, waiting need an earlier nonce",
    ),
    (
        "millrace_batch_sealed_number",
        "Newest batch that is closed and hashed",
    ),
    (
        "millrace_batch_committed_number",
        "Newest batch whose data is on L1",
    ),
    (
        "millrace_batch_proven_number",
        "Newest batch whose proof is verified on L1",
    ),
    (
        "millrace_batch_finalised_number",
        "Newest batch whose proof has the demanded depth",
    ),
    ("millrace_prover_jobs", "Jobs of the proof queue by state"),
    (
        "millrace_requests_waiting",
        "L1 requests that no batch has taken yet",
    ),
    (
        "millrace_event_last_sequence",
        "Sequence number of the newest event",
    ),
    ("millrace_event_streams", "Open event streams"),
    (
        "millrace_forced_op_age_seconds",
        "Age of the oldest L1 request that no batch has taken; 0 without one",
    ),
    (
        "millrace_proof_retries",
        "Leases given out again, over the jobs in the proof queue",
    ),
    ("millrace_ready", "1 while the node serves, else 0"),
];

fn describe() {
    for (name, text) in DESCRIPTIONS {
        metrics::describe_gauge!(*name, *text);
    }
    metrics::describe_histogram!(
        "millrace_api_request_seconds",
        metrics::Unit::Seconds,
        "Time to answer a request"
    );
    let seconds = |name: &'static str, text: &'static str| {
        metrics::describe_histogram!(name, metrics::Unit::Seconds, text);
    };
    seconds(
        "millrace_batch_stage_seconds",
        "Time of a batch from the stage before to this one",
    );
    seconds(
        "millrace_proof_seconds",
        "Time of a proof by phase: witness, prove, verify",
    );
    seconds(
        "millrace_db_wal_sync_seconds",
        "Time of one synced write of the sequencer, which acknowledges a group",
    );
    metrics::describe_counter!(
        "millrace_l1_reorgs_total",
        "Reorganisations of L1 that took back a block this node had taken in"
    );
    metrics::describe_counter!("millrace_submissions_total", "Submissions by outcome");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn metrics_carry_their_help_and_buckets() {
        let handle = metrics().unwrap();
        metrics::histogram!("millrace_api_request_seconds", "route" => "/test").record(0.002);
        metrics::gauge!("millrace_ready").set(1.0);
        let text = handle.render();
        assert!(
            text.contains("# HELP millrace_ready 1 while the node serves"),
            "{text}"
        );
        assert!(
            text.contains(r#"millrace_api_request_seconds_bucket{route="/test",le="0.0025"} 1"#),
            "{text}"
        );
    }
}

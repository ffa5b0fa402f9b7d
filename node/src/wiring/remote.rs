//! A prover in a process of its own: takes jobs from a node's queue over HTTP, and hands proofs in.
//!
//! `/v1/info` → which keys the rollup trusts → worker → [`HttpTransport`] → `/v1/prover/exchange`, with the node's token

use super::keys;
use crate::api::prover::WIRE_MEDIA_TYPE;
use crate::api::types::Info;
use crate::config::{ProofBackend, Secret};
use millrace_circuits::batch::Shape;
use millrace_prover::circuit::Circuit;
use millrace_prover::key::{KeyId, KeyStore};
use millrace_prover::queue::JobQueue;
use millrace_prover::queue::wire::{RemoteQueue, Transport};
use millrace_prover::worker::{Worker, WorkerConfig};
use reqwest::header::CONTENT_TYPE;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;
use thiserror::Error;
use tokio::runtime::Handle;

/// Longest time for one exchange: a lease brings a whole witness.
const EXCHANGE_LIMIT: Duration = Duration::from_secs(120);
/// Bytes of an error's body that are shown.
const SHOWN_BYTES: usize = 300;

/// Why a remote prover does not start.
#[derive(Debug, Error)]
pub enum RemoteError {
    /// The node does not answer as one.
    #[error("the node at {url} does not answer: {cause}; check prover.node")]
    Node {
        /// Its address.
        url: String,
        /// What is wrong.
        cause: String,
    },
    /// A key id of the node does not parse.
    #[error(
        "the node names the key {0:?}, which this program does not understand: use the node's version"
    )]
    Key(String),
    /// A thread does not start.
    #[error("a prover thread does not start: {0}")]
    Worker(#[from] std::io::Error),
}

/// Carries the queue's requests over HTTP. Blocks, so it is for threads outside the runtime.
pub struct HttpTransport {
    runtime: Handle,
    client: reqwest::Client,
    url: String,
    token: Secret,
}

impl Transport for HttpTransport {
    fn exchange(&self, request: &[u8]) -> Result<Vec<u8>, String> {
        let request = self
            .client
            .post(&self.url)
            .bearer_auth(self.token.expose())
            .header(CONTENT_TYPE, WIRE_MEDIA_TYPE)
            .body(request.to_vec());
        self.runtime.block_on(async {
            let response = request.send().await.map_err(|error| error.to_string())?;
            let status = response.status();
            let body = response.bytes().await.map_err(|error| error.to_string())?;
            if status.is_success() {
                return Ok(body.to_vec());
            }
            let shown =
                String::from_utf8_lossy(body.get(..SHOWN_BYTES).unwrap_or(&body)).into_owned();
            Err(format!("the node answered {status}: {shown}"))
        })
    }
}

/// Which node to prove for, and how.
#[derive(Debug, Clone)]
pub struct RemoteProverConfig {
    /// The node's API.
    pub node: String,
    /// What the node demands.
    pub token: Secret,
    /// Where proving keys are.
    pub keys: KeyStore,
    /// How proofs are made.
    pub backend: ProofBackend,
    /// Proofs made at a time.
    pub workers: usize,
    /// How long a job may go without a sign of life.
    pub lease: Duration,
    /// What the workers are called in the queue.
    pub name: String,
}

/// Starts workers for another process's queue. They stop when dropped.
///
/// # Errors
/// If the node does not answer, or a thread does not start.
pub async fn start(config: RemoteProverConfig) -> Result<Vec<Worker>, RemoteError> {
    super::use_ring();
    let client = reqwest::Client::builder().timeout(EXCHANGE_LIMIT).build();
    let failed = |error: &dyn std::fmt::Display| RemoteError::Node {
        url: config.node.clone(),
        cause: error.to_string(),
    };
    let client = client.map_err(|error| failed(&error))?;
    let base = config.node.trim_end_matches('/');
    let response = client
        .get(format!("{base}/v1/info"))
        .send()
        .await
        .and_then(reqwest::Response::error_for_status);
    let info: Info = response
        .map_err(|error| failed(&error))?
        .json()
        .await
        .map_err(|error| failed(&error))?;
    let ids = key_ids(&info)?;
    let circuits: Vec<Circuit> = ids.keys().copied().collect();
    let prover = Arc::new(keys::prover(config.backend, config.keys, ids));
    let queue: Arc<dyn JobQueue> = Arc::new(RemoteQueue::new(HttpTransport {
        runtime: Handle::current(),
        client,
        url: format!("{base}/v1/prover/exchange"),
        token: config.token,
    }));
    let start = |number| {
        let settings = WorkerConfig {
            lease: config.lease,
            prepare: circuits.clone(),
            ..WorkerConfig::new(format!("{}-{number}", config.name))
        };
        Worker::start(queue.clone(), prover.clone(), settings).map_err(RemoteError::from)
    };
    (0..config.workers).map(start).collect()
}

fn key_ids(info: &Info) -> Result<BTreeMap<Circuit, KeyId>, RemoteError> {
    let known = info
        .circuits
        .iter()
        .filter_map(|circuit| Some((Shape::by_id(circuit.id)?, circuit.key.as_ref()?)));
    known
        .map(|(shape, text)| {
            let id = text.parse().map_err(|_| RemoteError::Key(text.clone()))?;
            Ok((Circuit::Batch(shape), id))
        })
        .collect()
}

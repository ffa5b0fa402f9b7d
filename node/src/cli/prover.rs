//! `millrace prover` and `millrace verify`.
//!
//! prover: node's queue → lease, prove, hand in;   verify: proof, inputs, key → yes or no

use crate::cli::setup::{blocking, key_store, keys, make_key, shapes};
use crate::cli::wallet::node_failure;
use crate::cli::{Exit, Failure, Global, config, logging, stop_signal};
use crate::config::Config;
use crate::output::Output;
use crate::wallet::node_client::NodeClient;
use crate::wiring::remote::{self, RemoteProverConfig};
use millrace_circuits::types::BatchNumber;
use millrace_prover::groth16::Verifier;
use millrace_prover::snarkjs;
use millrace_prover::worker::Worker;
use serde_json::json;
use std::path::{Path, PathBuf};
use std::sync::atomic::Ordering;
use std::time::Duration;

/// Options of `millrace prover`.
#[derive(Debug, clap::Args)]
pub struct ProverArguments {
    /// The node, such as http://127.0.0.1:8280
    #[arg(long, value_name = "URL")]
    pub node: Option<String>,
    /// This worker's name in the node's queue
    #[arg(long, value_name = "NAME")]
    pub name: Option<String>,
    /// Folder of the keys
    #[arg(long, value_name = "FOLDER")]
    pub keys_dir: Option<PathBuf>,
}

/// Options of `millrace verify`.
#[derive(Debug, clap::Args)]
pub struct VerifyArguments {
    /// Batch whose proof the node has
    #[arg(long, value_name = "NUMBER", conflicts_with_all = ["proof", "public"], required_unless_present = "proof")]
    pub batch: Option<u64>,
    /// The node that has it
    #[arg(
        long,
        value_name = "URL",
        env = "MILLRACE_NODE",
        default_value = "http://127.0.0.1:8280"
    )]
    pub node: String,
    /// Proof as snarkjs writes it
    #[arg(long, value_name = "FILE", requires = "public")]
    pub proof: Option<PathBuf>,
    /// Public inputs as snarkjs writes them
    #[arg(long, value_name = "FILE", requires = "proof")]
    pub public: Option<PathBuf>,
    /// Verifying key as snarkjs writes it; without it, the development key of the circuit
    #[arg(long, value_name = "FILE")]
    pub key: Option<PathBuf>,
    /// Circuit id of the development key; without it, the batch's
    #[arg(long, value_name = "ID")]
    pub circuit: Option<u16>,
    /// Folder of the keys
    #[arg(long, value_name = "FOLDER")]
    pub keys_dir: Option<PathBuf>,
}

/// Proves a node's batches until told to stop.
///
/// # Errors
/// [`Failure`].
pub async fn prover(
    global: &Global,
    output: Output,
    arguments: ProverArguments,
) -> Result<(), Failure> {
    let flags = json!({ "prover": arguments.node.as_ref().map_or(json!({}), |node| json!({ "node": node })) });
    let config = config::load(global, &flags)?;
    logging::start(global, &config.log);
    let url = config.prover.node.clone().ok_or_else(|| {
        Failure::new(Exit::Configuration, "no node to prove for")
            .help("pass --node, or set prover.node")
    })?;
    let token = config.prover.token.clone().ok_or_else(|| {
        Failure::new(Exit::Configuration, "no token to present to the node")
            .help("set MILLRACE_PROVER__TOKEN to the node's prover.token")
    })?;
    let name = arguments
        .name
        .unwrap_or_else(|| format!("prover-{}", std::process::id()));
    let remote = RemoteProverConfig {
        node: url.clone(),
        token,
        keys: key_store(arguments.keys_dir.as_deref(), &config)?,
        backend: config.prover.backend,
        workers: config.prover.workers,
        lease: Duration::from_secs(config.prover.lease_secs),
        name: name.clone(),
    };
    let workers = remote::start(remote).await.map_err(|error| {
        Failure::because(Exit::Connection, "the prover does not start", &error).help(
            "pass --node with the node's address; its prover.token and this one's must be the same",
        )
    })?;
    output.say(format!("{name} proves for {url}; stop it with Ctrl-C"));
    wait_for_stop(&workers).await;
    workers.iter().for_each(Worker::stop_after_job);
    let completed: u64 = workers
        .iter()
        .map(|worker| worker.counts().completed.load(Ordering::Relaxed))
        .sum();
    output.result(&json!({ "completed": completed }), || {
        format!("{completed} proofs handed in")
    });
    Ok(())
}

async fn wait_for_stop(workers: &[Worker]) {
    let mut tick = tokio::time::interval(Duration::from_secs(1));
    let stop = stop_signal();
    tokio::pin!(stop);
    loop {
        tokio::select! {
            () = &mut stop => return,
            _ = tick.tick() => if workers.iter().any(Worker::is_finished) { return },
        }
    }
}

/// Checks a proof.
///
/// # Errors
/// [`Exit::Verification`] if it is wrong.
pub async fn verify(
    global: &Global,
    output: Output,
    arguments: VerifyArguments,
) -> Result<(), Failure> {
    logging::start_quiet(global);
    let (proof, public, circuit) = read_proof(&arguments).await?;
    let proof = snarkjs::read_proof(&proof).map_err(|error| unreadable("proof", &error))?;
    let public =
        snarkjs::read_public(&public).map_err(|error| unreadable("public inputs", &error))?;
    let key = match &arguments.key {
        Some(path) => snarkjs::read_verifying_key(&read(path)?)
            .map_err(|error| unreadable("verifying key", &error))?,
        None => development_key(&arguments, circuit).await?,
    };
    if !Verifier::new(&key).accepts(&proof, &public) {
        return Err(Failure::new(Exit::Verification, "the proof is false")
            .help("it does not belong to these public inputs and this key, or was altered"));
    }
    let inputs = snarkjs::words(&public);
    output.result(&json!({ "valid": true, "public_inputs": inputs }), || {
        "The proof is valid.".into()
    });
    Ok(())
}

/// Proof and public inputs as JSON text, and the circuit's id if it is known.
async fn read_proof(arguments: &VerifyArguments) -> Result<(String, String, Option<u16>), Failure> {
    if let (Some(proof), Some(public)) = (&arguments.proof, &arguments.public) {
        return Ok((read(proof)?, read(public)?, arguments.circuit));
    }
    let number = BatchNumber(arguments.batch.unwrap_or_default());
    let client = NodeClient::new(&arguments.node).map_err(node_failure)?;
    let found = client.proof(number).await.map_err(node_failure)?;
    let found = found.ok_or_else(|| {
        Failure::new(
            Exit::NotFound,
            format!("the node has no proof of batch {number}"),
        )
        .help("`millrace batch list` shows which are proven")
    })?;
    let public = serde_json::to_string(&found.public_inputs).expect("words serialise");
    let circuit = arguments.circuit.or(Some(found.circuit));
    Ok((found.snarkjs.to_string(), public, circuit))
}

async fn development_key(
    arguments: &VerifyArguments,
    circuit: Option<u16>,
) -> Result<millrace_prover::groth16::VerifyingKey, Failure> {
    let id = circuit.ok_or_else(|| {
        Failure::new(Exit::Usage, "which key?")
            .help("pass --key, or --circuit for a development key")
    })?;
    let shape = shapes(&[id])?[0];
    let store = key_store(arguments.keys_dir.as_deref(), &Config::default())?;
    let key = blocking(move || make_key(&store, shape, false)).await?;
    Ok(key.map_err(|error| keys(&error))?.verifying_key().clone())
}

fn read(path: &Path) -> Result<String, Failure> {
    std::fs::read_to_string(path).map_err(|error| {
        Failure::because(
            Exit::NotFound,
            format!("cannot read {}", path.display()),
            &error,
        )
    })
}

fn unreadable(what: &str, error: &dyn std::error::Error) -> Failure {
    Failure::because(
        Exit::Verification,
        format!("the {what} cannot be read"),
        error,
    )
    .help("expected the JSON that snarkjs writes")
}

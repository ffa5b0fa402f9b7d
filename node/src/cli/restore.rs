//! `millrace restore`: the whole state from L1 alone, into an empty database.
//!
//! L1 endpoint, contract → synchronizer over a fresh store → root, compared with the contract's

use crate::cli::{Exit, Failure, Global, logging};
use crate::output::{Output, facts};
use alloy::primitives::Address;
use millrace_circuits::batch::Shape;
use millrace_circuits::field::Word;
use millrace_circuits::transaction::Domain;
use millrace_circuits::types::L1Address;
use millrace_l1::provider::L1Provider;
use millrace_l1::rollup_client::RollupClient;
use millrace_rollup::Rollup;
use millrace_rollup::engine::EngineConfig;
use millrace_rollup::fees::FeePolicy;
use millrace_rollup::l1::synchronizer::{SyncConfig, Synchronizer, restore};
use millrace_rollup::mempool::MempoolLimits;
use millrace_rollup::store::Store;
use serde::Serialize;
use std::error::Error;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Instant;

/// Closed batches that may wait to be hashed while the state is rebuilt.
const BACKLOG: u64 = 64;

/// Options of `millrace restore`.
#[derive(Debug, clap::Args)]
pub struct RestoreArguments {
    /// An endpoint of L1 with full history
    #[arg(long, value_name = "URL", env = "MILLRACE_L1_URL")]
    pub l1: String,
    /// The rollup contract
    #[arg(long, value_name = "ADDRESS", env = "MILLRACE_CONTRACT")]
    pub contract: L1Address,
    /// Block of the contract's deployment, or any earlier one
    #[arg(long, value_name = "BLOCK", default_value_t = 0)]
    pub from_block: u64,
    /// Folder for the database; it must hold none yet
    #[arg(long, value_name = "FOLDER")]
    pub data_dir: PathBuf,
    /// Root that must come out, in decimal
    #[arg(long, value_name = "ROOT")]
    pub expect_root: Option<String>,
}

/// A rebuilt state.
#[derive(Debug, Clone, Copy, Serialize)]
pub struct Restored {
    /// Its root.
    pub state_root: Word,
    /// The contract's last proven batch.
    pub proven_batches: u64,
    /// Whether the root is that of the last proven batch; else of the last committed one.
    pub is_proven_root: bool,
    /// How long it took.
    pub seconds: f64,
}

/// Rebuilds the state.
///
/// # Errors
/// [`Failure`].
pub async fn run(
    global: &Global,
    output: Output,
    arguments: RestoreArguments,
) -> Result<(), Failure> {
    logging::start_quiet(global);
    let l1 = L1Provider::connect_url(&arguments.l1)
        .await
        .map_err(|error| {
            Failure::because(Exit::Connection, "no L1", &error)
                .help("pass --l1 with an endpoint of full history")
        })?;
    let bar = output.progress(0, "rebuilding the state from L1");
    let restored = into(
        &l1,
        arguments.contract,
        arguments.from_block,
        &arguments.data_dir,
    )
    .await?;
    bar.finish_and_clear();
    let root = restored.state_root.0.to_string();
    if let Some(expected) = arguments.expect_root.filter(|expected| *expected != root) {
        return Err(Failure::new(
            Exit::Verification,
            format!("the rebuilt root is {root}, expected {expected}"),
        ));
    }
    output.result(&restored, || {
        facts([
            ("state root", root),
            ("proven batches", restored.proven_batches.to_string()),
            (
                "equals the contract's",
                if restored.is_proven_root {
                    "proven root"
                } else {
                    "committed root"
                }
                .into(),
            ),
            ("database", arguments.data_dir.display().to_string()),
            ("seconds", format!("{:.1}", restored.seconds)),
        ])
    });
    Ok(())
}

/// Rebuilds the state into an empty folder.
///
/// # Errors
/// If the folder holds a state already, or at the first gap in L1's record.
pub async fn into(
    l1: &L1Provider,
    contract: L1Address,
    from_block: u64,
    folder: &Path,
) -> Result<Restored, Failure> {
    let started = Instant::now();
    let state = folder.join("state");
    if state.exists() {
        return Err(Failure::new(
            Exit::Usage,
            format!("{} holds a state already", folder.display()),
        )
        .help("name an empty folder"));
    }
    std::fs::create_dir_all(folder).map_err(|error| broken("the folder cannot be made", &error))?;
    let client = RollupClient::connect(l1, Address::from(contract.0))
        .await
        .map_err(|error| {
            Failure::because(Exit::Connection, "the contract does not answer", &error)
        })?;
    let domain = Domain::new(l1.chain_id(), contract);
    let store =
        Store::open(&state).map_err(|error| broken("the database cannot be made", &error))?;
    store
        .bind(&domain.0.0.to_string())
        .map_err(|error| broken("the database cannot be used", &error))?;
    let (rollup, task) = Rollup::start(follower(domain), Arc::new(store))
        .map_err(|error| broken("the database cannot be used", &error))?;
    let settings = SyncConfig {
        from_block,
        ..SyncConfig::default()
    };
    let mut synchronizer = Synchronizer::new(rollup.clone(), l1.clone(), client.clone(), settings);
    let root = restore(&mut synchronizer).await;
    drop(synchronizer);
    rollup.stop().await;
    drop(rollup);
    task.join()
        .await
        .map_err(|error| broken("the database failed", &error))?;
    let root = root.map_err(|error| {
        Failure::because(Exit::Verification, "the state cannot be rebuilt from L1", &error)
            .help("use an endpoint with full history, and --from-block at or before the contract's deployment")
    })?;
    let status = client.status().await.map_err(|error| {
        Failure::because(Exit::Connection, "the contract does not answer", &error)
    })?;
    Ok(Restored {
        state_root: root,
        proven_batches: status.provenBatches,
        is_proven_root: millrace_rollup::l1::convert::to_u256(&root.0) == status.provenRoot,
        seconds: started.elapsed().as_secs_f64(),
    })
}

fn follower(domain: Domain) -> EngineConfig {
    EngineConfig {
        domain,
        shapes: Shape::ALL.to_vec(),
        beneficiary: L1Address::default(),
        fees: FeePolicy::free(),
        mempool: MempoolLimits::default(),
        seal_after_millis: u64::MAX,
        sequencing: false,
        backlog: BACKLOG,
    }
}

fn broken(what: &str, error: &dyn Error) -> Failure {
    Failure::because(Exit::Internal, what, error)
}

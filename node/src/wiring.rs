//! A whole node in one process: every task, started in order, watched, and stopped in order.
//!
//! ```text
//! start: L1 → contract → state → proof queue → follow L1, post, prove → API      then: who dies? SIGTERM?
//! stop:  API → posting, following, proving → state (last group on disk) → embedded chain
//! ```
//!
//! | module | part |
//! |---|---|
//! | [`chain`] | the L1: endpoint or embedded chain |
//! | [`channels`] | payment channels and the watchtower |
//! | [`contract`] | the rollup contract, and the keys that it trusts |
//! | [`keys`] | proving keys |
//! | [`follow`] | the loops on L1 |
//! | [`proofs`] | between sequencer and provers |
//! | [`measure`] | how long batches take |
//! | [`remote`] | a prover in another process |
//! | [`board`] | how the tasks are doing |
//! | [`transfers`] | what the channels believe of the rollup |
//! | [`tasks`] | named tasks whose death is noticed |

use crate::api::operator::Access;
use crate::api::types::{ApiLimits, CircuitView, Info, word_text};
use crate::api::{Api, ApiParts, Ledger, Token, page, router};
use crate::config::{Config, ConfigError, Role};
use crate::telemetry::{self, TelemetryError};
use alloy::primitives::Address;
use board::Board;
use chain::L1;
use contract::Contract;
use millrace_circuits::transaction::Domain;
use millrace_circuits::types::{Amount, L1Address, TREE_DEPTH};
use millrace_l1::devchain::DevChain;
use millrace_l1::provider::{ConnectError, L1Provider};
use millrace_l1::rollup_client::{RollupClient, RollupError};
use millrace_l1::sender::TransactionSender;
use millrace_prover::circuit::Circuit;
use millrace_prover::key::RefusedKey;
use millrace_prover::queue::{
    DiskStore, JobQueue, Limits, Queue, StoreError as QueueStoreError, VerifyingReferee,
};
use millrace_prover::worker::{Worker, WorkerConfig};
use millrace_rollup::engine::{EngineConfig, EngineError};
use millrace_rollup::fees::FeePolicy;
use millrace_rollup::l1::poster::{Poster, PosterConfig};
use millrace_rollup::l1::synchronizer::{SyncConfig, Synchronizer};
use millrace_rollup::mempool::MempoolLimits;
use millrace_rollup::store::{Store, StoreError};
use millrace_rollup::{Rollup, RollupTask};
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;
use tasks::{TaskDied, Tasks};
use thiserror::Error;
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

pub mod board;
pub mod chain;
pub mod channels;
pub mod contract;
pub mod follow;
pub mod keys;
pub mod measure;
pub mod proofs;
pub mod remote;
pub mod tasks;
pub mod transfers;

/// Closed batches that may wait to be hashed before submissions are refused.
const BACKLOG: u64 = 16;
/// How long the API may take to finish its requests at the end.
const API_STOP_LIMIT: Duration = Duration::from_secs(10);
/// How long the other tasks may take to stop.
const TASK_STOP_LIMIT: Duration = Duration::from_secs(20);
/// How often the workers' threads are looked at.
const WORKER_CHECK: Duration = Duration::from_secs(1);

/// Why a node does not start.
#[derive(Debug, Error)]
pub enum StartError {
    /// The configuration is unusable.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// The data folder is unusable.
    #[error("{path}: {source}; set data_dir to a folder that can be written")]
    DataDir {
        /// The path.
        path: PathBuf,
        /// What failed.
        source: std::io::Error,
    },
    /// The L1 cannot be reached.
    #[error(transparent)]
    L1(#[from] ConnectError),
    /// The embedded chain's file is unusable.
    #[error(
        "the embedded chain cannot start: {0}; remove its file to begin anew, together with the rest of the data folder"
    )]
    EmbeddedChain(String),
    /// The embedded chain would pretend to be a public one.
    #[error(
        "the embedded chain cannot have chain id {chain_id}: use 31337 or 1337, or set l1.urls to reach that chain"
    )]
    EmbeddedChainId {
        /// As configured.
        chain_id: u64,
    },
    /// The operator's key does not parse.
    #[error("the operator's key is not 0x and 64 hexadecimal digits; check l1.operator_key_file")]
    OperatorKey,
    /// The operator's key is known to everyone.
    #[error(
        "the key of {address} is a public development key and refused on chain {chain_id}: anyone can take its money; set l1.operator_key_file to a key of your own"
    )]
    DevelopmentKey {
        /// Its address.
        address: Address,
        /// The chain.
        chain_id: u64,
    },
    /// A sequencer needs a key to post with.
    #[error("a sequencer posts to L1, but there is no key to sign with: set l1.operator_key_file")]
    NoOperatorKey,
    /// No contract to work with.
    #[error("there is no rollup contract: set l1.contract")]
    NoContract,
    /// The contract cannot be used.
    #[error(transparent)]
    Contract(#[from] RollupError),
    /// The contract's circuit has other capacities than ours of that id.
    #[error(
        "circuit {id} of the contract has other capacities than this program's: use the version of millrace that deployed it"
    )]
    OtherCircuit {
        /// The circuit.
        id: u16,
    },
    /// The contract's verifying key is unreadable.
    #[error("the verifying key of circuit {circuit} cannot be read from the contract")]
    ContractKey {
        /// The circuit.
        circuit: u16,
    },
    /// Nothing in common.
    #[error(
        "the contract has none of the circuits {wanted:?}: set sequencer.circuits to those it was deployed with"
    )]
    NoCommonCircuit {
        /// As configured.
        wanted: Vec<u16>,
    },
    /// A development key would guard real money.
    #[error(transparent)]
    RefusedKey(#[from] RefusedKey),
    /// Proving keys cannot be had.
    #[error("proving keys: {0}")]
    Keys(String),
    /// The record of L1 transactions is unusable.
    #[error("the record of sent L1 transactions is unusable: {0}")]
    SenderStore(String),
    /// The state is unusable.
    #[error(transparent)]
    State(#[from] StoreError),
    /// The engine does not start.
    #[error(transparent)]
    Engine(#[from] EngineError),
    /// The proof queue is unusable.
    #[error("the proof queue is unusable: {0}")]
    Queue(#[from] QueueStoreError),
    /// A worker's thread does not start.
    #[error("a prover thread does not start: {0}")]
    Worker(std::io::Error),
    /// The address is taken.
    #[error("cannot listen on {address}: {source}; set {key} to a free address")]
    Listen {
        /// The address.
        address: SocketAddr,
        /// The setting.
        key: &'static str,
        /// What failed.
        source: std::io::Error,
    },
    /// The channels' keys cannot be had.
    #[error("the channels' keys: {0}")]
    ChannelKeys(String),
    /// The channels do not start.
    #[error("the channels do not start: {0}")]
    Channels(String),
    /// Metrics cannot be recorded.
    #[error(transparent)]
    Telemetry(#[from] TelemetryError),
}

/// A node that runs.
pub struct RunningNode {
    /// Where the API listens, such as `http://127.0.0.1:8280`.
    pub api_url: String,
    /// Where the embedded chain serves JSON-RPC; none if it does not.
    pub l1_url: Option<String>,
    /// The rollup contract.
    pub contract: L1Address,
    /// The connection to L1.
    pub l1: L1Provider,
    /// The embedded chain, if there is one.
    pub embedded: Option<DevChain>,
    /// The contract's client.
    pub client: RollupClient,
    /// The rollup.
    pub rollup: Rollup,
    channels: Option<channels::Channels>,
    board: Board,
    workers: Vec<Arc<Worker>>,
    api_tasks: Tasks,
    work_tasks: Tasks,
    engine_tasks: Tasks,
    chain_tasks: Tasks,
}

impl RunningNode {
    /// Waits until a task ends that should not: then the node is of no more use and should be shut down.
    ///
    /// # Cancel safety
    /// Nothing is lost.
    pub async fn died(&mut self) -> TaskDied {
        tokio::select! {
            died = self.api_tasks.died() => died,
            died = self.work_tasks.died() => died,
            died = self.engine_tasks.died() => died,
            died = self.chain_tasks.died() => died,
            died = channels_died(self.channels.as_mut()) => died,
        }
    }

    /// The channels of this node, if it has any.
    pub fn channels(&self) -> Option<&channels::ChannelsHandle> {
        self.channels.as_ref().map(|channels| &channels.handle)
    }

    /// Runs until SIGTERM, SIGINT, or the death of a task; then stops everything in order.
    ///
    /// # Errors
    /// Which task died.
    pub async fn run(mut self) -> Result<(), TaskDied> {
        let died = tokio::select! {
            signal = signal() => {
                tracing::info!(signal, "stopping");
                None
            }
            died = self.died() => Some(died),
        };
        if let Some(died) = &died {
            tracing::error!(%died, "stopping");
        }
        self.shutdown().await;
        died.map_or(Ok(()), Err)
    }

    /// Stops everything in order: what was acknowledged is on disk when this returns.
    pub async fn shutdown(mut self) {
        self.board.stopping();
        self.api_tasks.stop(API_STOP_LIMIT).await;
        if let Some(channels) = self.channels.take() {
            channels.shutdown().await;
        }
        self.workers.iter().for_each(|worker| worker.stop_now());
        self.work_tasks.stop(TASK_STOP_LIMIT).await;
        self.rollup.stop().await;
        self.engine_tasks.stop(TASK_STOP_LIMIT).await;
        self.chain_tasks.stop(TASK_STOP_LIMIT).await;
        // A proof cannot be interrupted: its thread ends with it, and its lease was given back.
        tracing::info!("stopped");
    }
}

async fn channels_died(channels: Option<&mut channels::Channels>) -> TaskDied {
    match channels {
        None => std::future::pending().await,
        Some(channels) => TaskDied {
            task: "channels",
            cause: channels.ended().await.to_string(),
        },
    }
}

async fn signal() -> &'static str {
    let mut terminate =
        match tokio::signal::unix::signal(tokio::signal::unix::SignalKind::terminate()) {
            Ok(terminate) => terminate,
            Err(error) => {
                tracing::warn!(%error, "SIGTERM is not handled");
                let _ = tokio::signal::ctrl_c().await;
                return "SIGINT";
            }
        };
    tokio::select! {
        _ = terminate.recv() => "SIGTERM",
        _ = tokio::signal::ctrl_c() => "SIGINT",
    }
}

/// Has TLS use ring, for the whole process, unless something else was chosen before.
pub fn use_ring() {
    // An error means that it was chosen before.
    let _ = rustls::crypto::ring::default_provider().install_default();
}

/// Starts a node. It serves when this returns; it may still be catching up with L1.
///
/// # Errors
/// What is in the way, with what to do about it. Nothing keeps running then.
pub async fn start(config: Config) -> Result<RunningNode, StartError> {
    config.check()?;
    use_ring();
    let metrics = telemetry::metrics()?;
    create_folder(&config.data_dir)?;
    let (board, mut chain_tasks) = (Board::default(), Tasks::default());
    let l1 = chain::connect(&config).await?;
    let sender = contract::sender(&l1, &config.data_dir)?;
    if config.roles.contains(&Role::Sequencer) && sender.is_none() {
        return Err(StartError::NoOperatorKey);
    }
    let l1_listen = match &l1.embedded {
        Some(chain) => chain::serve(chain, config.l1.embedded_listen, &mut chain_tasks).await?,
        None => None,
    };
    // Taken early: a node whose port is taken should not deploy anything first.
    let listener = bind(config.api.listen, "api.listen").await?;
    let contract = contract::find_or_deploy(&config, &l1, sender.as_ref()).await?;
    let domain = Domain::new(l1.provider.chain_id(), contract.address());
    let first_tokens = first_tokens(&contract.client).await?;
    let fees = fees(&config, &first_tokens);
    let (tokens, known_tokens) = watch::channel(first_tokens);

    let (rollup, engine) = open_rollup(&config, &l1, &contract, domain, fees.clone())?;
    let mut node = Assembly {
        config: &config,
        l1: &l1,
        contract: &contract,
        rollup: rollup.clone(),
        board: board.clone(),
        tasks: Tasks::default(),
        workers: vec![],
    };
    node.follow(sender.as_ref(), tokens);
    let queue = node.prove()?;
    let Assembly {
        tasks: work_tasks,
        workers,
        ..
    } = node;

    let channels = match config.channels.enabled {
        true => {
            let view = transfers::Transfers {
                store: rollup.store().clone(),
                domain,
                tokens: known_tokens.clone(),
            };
            Some(channels::begin(&config, &l1, Arc::new(view), &mut chain_tasks).await?)
        }
        false => None,
    };
    let mut engine_tasks = Tasks::default();
    engine_tasks.spawn("rollup engine", engine.join());
    let mut api_tasks = Tasks::default();
    let ledger = Ledger::new(
        rollup.clone(),
        config.roles.contains(&Role::Sequencer),
        fees,
        known_tokens,
    )
    .signing_receipts(l1.operator.clone());
    let bound = local_address(&listener, config.api.listen)?;
    let api = Api::new(ApiParts {
        ledger,
        queue: queue.map(|queue| queue as Arc<dyn JobQueue>),
        info: info(&config, &l1, &contract, domain),
        health: board.health(),
        metrics,
        access: Access {
            operator_token: config.api.operator_token.clone(),
            prover_token: config.prover.token.clone(),
            loopback: bound.ip().is_loopback(),
        },
        stopping: api_tasks.stopping(),
        channels: channels.as_ref().map(|channels| channels.handle.clone()),
    });
    api_tasks.spawn("API", serve(listener, api, api_tasks.stopping()));
    api_tasks.spawn("metrics upkeep", upkeep(api_tasks.stopping()));
    let node = RunningNode {
        api_url: format!("http://{bound}"),
        l1_url: l1_listen.map(|address| format!("http://{address}")),
        contract: contract.address(),
        l1: l1.provider.clone(),
        embedded: l1.embedded.clone(),
        client: contract.client.clone(),
        rollup,
        channels,
        board,
        workers,
        api_tasks,
        work_tasks,
        engine_tasks,
        chain_tasks,
    };
    tracing::info!(api = node.api_url, l1 = node.l1.name(), contract = %node.contract, "the node runs");
    Ok(node)
}

fn create_folder(path: &Path) -> Result<(), StartError> {
    std::fs::create_dir_all(path).map_err(|source| StartError::DataDir {
        path: path.to_owned(),
        source,
    })
}

async fn bind(address: SocketAddr, key: &'static str) -> Result<TcpListener, StartError> {
    TcpListener::bind(address)
        .await
        .map_err(|source| StartError::Listen {
            address,
            key,
            source,
        })
}

fn local_address(listener: &TcpListener, address: SocketAddr) -> Result<SocketAddr, StartError> {
    listener.local_addr().map_err(|source| StartError::Listen {
        address,
        key: "api.listen",
        source,
    })
}

async fn first_tokens(client: &RollupClient) -> Result<Vec<Token>, StartError> {
    let count = client.token_count().await?;
    Ok(follow::read_tokens(client, 0, count).await?)
}

/// The floor holds for the tokens that are known at the start; those that come later are free until the next one.
fn fees(config: &Config, tokens: &[Token]) -> FeePolicy {
    let floor = Amount(u128::from(config.sequencer.minimum_fee));
    let owner = config.sequencer.fee_owner;
    let floors = match owner {
        Some(_) if !floor.is_zero() => tokens.iter().map(|token| (token.number, floor)).collect(),
        _ => BTreeMap::new(),
    };
    FeePolicy { owner, floors }
}

fn open_rollup(
    config: &Config,
    l1: &L1,
    contract: &Contract,
    domain: Domain,
    fees: FeePolicy,
) -> Result<(Rollup, RollupTask), StartError> {
    let store = Store::open(&config.data_dir.join("state"))?;
    store.bind(&word_text(&domain.0))?;
    let engine = EngineConfig {
        domain,
        shapes: contract.shapes.clone(),
        beneficiary: beneficiary(config, l1),
        fees,
        mempool: mempool(config),
        seal_after_millis: config.sequencer.seal_after_ms,
        sequencing: config.roles.contains(&Role::Sequencer),
        backlog: BACKLOG,
    };
    Ok(Rollup::start(engine, Arc::new(store))?)
}

fn mempool(config: &Config) -> MempoolLimits {
    MempoolLimits {
        total: config.sequencer.mempool_limit,
        ..MempoolLimits::default()
    }
}

fn beneficiary(config: &Config, l1: &L1) -> L1Address {
    let operator = || {
        l1.operator_address()
            .map(|address| L1Address(address.into_array()))
    };
    config
        .sequencer
        .beneficiary
        .or_else(operator)
        .unwrap_or_default()
}

/// Blocks on top of one before it counts. The embedded chain has no forks, and makes blocks only when there is something to
/// put into them, so waiting for more of them would be waiting for ever.
fn depth(config: &Config) -> u64 {
    if config.embedded() {
        0
    } else {
        config.l1.confirmations
    }
}

/// The tasks between rollup, L1 and provers while they are put together.
struct Assembly<'a> {
    config: &'a Config,
    l1: &'a L1,
    contract: &'a Contract,
    rollup: Rollup,
    board: Board,
    tasks: Tasks,
    workers: Vec<Arc<Worker>>,
}

impl Assembly<'_> {
    fn follow(&mut self, sender: Option<&TransactionSender>, tokens: watch::Sender<Vec<Token>>) {
        let (client, poll) = (
            self.contract.client.clone(),
            self.l1.provider.poll_interval(),
        );
        let settings = SyncConfig {
            from_block: self.contract.from_block,
            depth: depth(self.config),
            ..SyncConfig::default()
        };
        let synchronizer = Synchronizer::new(
            self.rollup.clone(),
            self.l1.provider.clone(),
            client.clone(),
            settings,
        );
        let stop = self.tasks.stopping();
        self.tasks.spawn(
            "L1 synchronizer",
            follow::synchronize(synchronizer, poll, self.board.clone(), stop.clone()),
        );
        let watch = follow::watch_contract(
            client.clone(),
            self.rollup.clone(),
            tokens,
            self.board.clone(),
            stop.clone(),
        );
        self.tasks.spawn("contract watch", watch);
        self.tasks.spawn(
            "stage metrics",
            measure::stages(self.rollup.clone(), stop.clone()),
        );
        if let Some(sender) = sender.filter(|_| self.config.roles.contains(&Role::Sequencer)) {
            let settings = PosterConfig {
                beneficiary: beneficiary(self.config, self.l1),
                together: false,
                is_operator: self.contract.is_operator,
                pays: self.config.sequencer.pay_withdrawals,
                depth: depth(self.config),
            };
            let poster = Poster::new(self.rollup.clone(), client, sender.clone(), settings);
            let posting = follow::post(poster, self.rollup.clone(), poll, self.board.clone(), stop);
            self.tasks.spawn("L1 poster", posting);
        }
    }

    /// The queue, its workers in this process, and what passes batches and proofs; none for a follower.
    fn prove(&mut self) -> Result<Option<Arc<Queue>>, StartError> {
        if !self.config.roles.contains(&Role::Sequencer) {
            return Ok(None);
        }
        let store = DiskStore::open(&self.config.data_dir.join("proofs"))?;
        let referee = self.contract.keys.iter().fold(
            VerifyingReferee::default(),
            |referee, (circuit, (id, key))| referee.with_key(*circuit, *id, key),
        );
        let queue = Arc::new(Queue::open(store, Limits::default())?.judged_by(referee));
        let proofs = proofs::Proofs::new(self.rollup.clone(), queue.clone(), self.board.clone());
        let stop = self.tasks.stopping();
        self.tasks.spawn("proofs", proofs.run(stop));
        if self.config.roles.contains(&Role::Prover) {
            self.start_workers(&queue)?;
        }
        Ok(Some(queue))
    }

    fn start_workers(&mut self, queue: &Arc<Queue>) -> Result<(), StartError> {
        let ids = self
            .contract
            .keys
            .iter()
            .map(|(circuit, (id, _))| (*circuit, *id))
            .collect();
        let prover = Arc::new(keys::prover(
            self.config.prover.backend,
            keys::store(self.config)?,
            ids,
        ));
        for number in 0..self.config.prover.workers {
            let settings = WorkerConfig {
                lease: Duration::from_secs(self.config.prover.lease_secs),
                prepare: self.contract.keys.keys().copied().collect(),
                ..WorkerConfig::new(format!("node-{number}"))
            };
            let queue: Arc<dyn JobQueue> = queue.clone();
            let worker =
                Worker::start(queue, prover.clone(), settings).map_err(StartError::Worker)?;
            let (worker, stop) = (Arc::new(worker), self.tasks.stopping());
            self.tasks
                .spawn("prover", watch_worker(worker.clone(), stop));
            self.workers.push(worker);
        }
        Ok(())
    }
}

/// A worker is a thread of its own: nobody is told when it ends, so it is looked at.
async fn watch_worker(worker: Arc<Worker>, stop: CancellationToken) -> Result<(), &'static str> {
    loop {
        tokio::select! {
            () = stop.cancelled() => return Ok(()),
            () = tokio::time::sleep(WORKER_CHECK) => {}
        }
        if worker.is_finished() && !stop.is_cancelled() {
            return Err("its thread ended; the log says why");
        }
    }
}

fn info(config: &Config, l1: &L1, contract: &Contract, domain: Domain) -> Info {
    let key = |circuit| contract.keys.get(&circuit).map(|(id, _)| id.to_string());
    let mempool = mempool(config);
    Info {
        version: env!("CARGO_PKG_VERSION").to_owned(),
        roles: config.roles.iter().map(role_name).collect(),
        chain_id: l1.provider.chain_id(),
        contract: contract.address(),
        domain: domain.0,
        tree_depth: TREE_DEPTH,
        circuits: contract
            .shapes
            .iter()
            .map(|shape| CircuitView::new(shape, key(Circuit::Batch(*shape))))
            .collect(),
        fee_owner: config.sequencer.fee_owner,
        tokens: vec![],
        confirmations: depth(config),
        limits: ApiLimits {
            body_bytes: config.api.max_body_bytes,
            request_timeout_secs: config.api.request_timeout_secs,
            page_items: page::MAX_LIMIT,
            concurrent_requests: config.api.max_concurrent_requests,
            event_streams: config.api.max_event_streams,
            nonces_ahead: mempool.nonces_ahead,
            waiting_per_account: mempool.per_account,
            validity_secs: mempool.validity_secs,
        },
    }
}

fn role_name(role: &Role) -> String {
    match role {
        Role::Sequencer => "sequencer",
        Role::Prover => "prover",
        Role::Follower => "follower",
    }
    .to_owned()
}

async fn serve(listener: TcpListener, api: Api, stop: CancellationToken) -> std::io::Result<()> {
    axum::serve(listener, router(api.clone()))
        .with_graceful_shutdown(stop.cancelled_owned())
        .await?;
    // Event streams are no requests any more: axum does not wait for them.
    api.streams_ended().await;
    Ok(())
}

async fn upkeep(stop: CancellationToken) -> Result<(), TelemetryError> {
    let metrics = telemetry::metrics()?;
    loop {
        tokio::select! {
            () = stop.cancelled() => return Ok(()),
            () = tokio::time::sleep(telemetry::UPKEEP_INTERVAL) => metrics.run_upkeep(),
        }
    }
}

#[cfg(test)]
mod tests;

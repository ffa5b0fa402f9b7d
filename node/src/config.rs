//! Configuration: what the node does, where it listens, which L1 it settles on.
//!
//! defaults → TOML file → environment `MILLRACE_*` (two underscores between levels) → flags → [`Config`], checked
//!
//! `millrace config` prints the effective configuration with secrets blanked; `millrace config --sample` the commented file.

use figment::Figment;
use figment::providers::{Env, Format, Serialized, Toml};
use millrace_circuits::account::Owner;
use millrace_circuits::batch::Shape;
use millrace_circuits::types::L1Address;
use millrace_prover::fast::Fast;
use millrace_prover::groth16::{Backend, Reference};
use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use thiserror::Error;

pub mod secret;
pub mod units;

pub use secret::Secret;
pub use units::Units;

/// Prefix of environment variables that set configuration.
pub const ENVIRONMENT_PREFIX: &str = "MILLRACE_";
/// Environment variables with that prefix that are no configuration: they belong to single commands, and the last three to
/// the scripts and tests that start this program.
pub const OTHER_VARIABLES: &[&str] = &[
    "config", "password", "mnemonic", "wallet", "node", "l1_url", "contract", "bin", "anvil",
    "cache",
];
/// The file that is read where no other is named, if it exists.
pub const DEFAULT_FILE: &str = "millrace.toml";
/// The commented sample file; it states the defaults.
pub const SAMPLE: &str = include_str!("config/sample.toml");
/// Default address of the HTTP API.
pub const DEFAULT_API: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 8280);
/// Default address at which the embedded chain serves JSON-RPC.
pub const DEFAULT_EMBEDDED_L1: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 8545);

/// What a node does. One process may do several.
#[derive(
    Debug,
    Clone,
    Copy,
    PartialEq,
    Eq,
    PartialOrd,
    Ord,
    Hash,
    Serialize,
    Deserialize,
    clap::ValueEnum,
)]
#[serde(rename_all = "snake_case")]
pub enum Role {
    /// Takes transactions, orders them, posts batches. One per rollup.
    Sequencer,
    /// Proves batches of the sequencer in this process.
    Prover,
    /// Rebuilds the state from L1 alone and serves the read API.
    Follower,
}

/// The whole configuration.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// Folder of the databases; created if missing.
    pub data_dir: PathBuf,
    /// What this node does.
    pub roles: BTreeSet<Role>,
    /// The chain it settles on.
    pub l1: L1Config,
    /// Ordering and posting.
    pub sequencer: SequencerConfig,
    /// Proving.
    pub prover: ProverConfig,
    /// The HTTP API.
    pub api: ApiConfig,
    /// Payment channels.
    pub channels: ChannelsConfig,
    /// Logs.
    pub log: LogConfig,
}

/// The chain that the rollup settles on.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct L1Config {
    /// JSON-RPC endpoints, tried in order. Empty: the embedded chain, in this process.
    pub urls: Vec<String>,
    /// The chain id that the endpoints must have; unset: any.
    pub chain_id: Option<u64>,
    /// The rollup contract. Unset with the embedded chain: it is deployed at the first start.
    pub contract: Option<L1Address>,
    /// Block of the contract's deployment: nothing before it is read.
    pub from_block: u64,
    /// Blocks on top of a block after which it counts as final.
    pub confirmations: u64,
    /// Private key of the operator, who commits batches: 0x and 64 hexadecimal digits. Better in a file.
    pub operator_key: Option<Secret>,
    /// File that holds that key.
    pub operator_key_file: Option<PathBuf>,
    /// Where the embedded chain serves JSON-RPC, so that wallets reach it; unset: it does not.
    pub embedded_listen: Option<SocketAddr>,
}

/// Ordering and posting.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct SequencerConfig {
    /// Ids of the circuits it may fill, as deployed with the contract. The smallest that fits is taken.
    pub circuits: Vec<u16>,
    /// A batch that is not full is sealed this long after its first operation.
    pub seal_after_ms: u64,
    /// Least fee of a transaction, in the token's smallest unit.
    pub minimum_fee: u64,
    /// Who receives the contract's reward for serving requests; unset: the operator.
    pub beneficiary: Option<L1Address>,
    /// Payment address whose accounts collect the fees; unset: no fees are taken.
    pub fee_owner: Option<Owner>,
    /// Pay withdrawals on L1 as soon as their batch is proven; otherwise anyone may.
    pub pay_withdrawals: bool,
    /// Transactions waiting at a time; more are refused for the moment.
    pub mempool_limit: usize,
}

/// How proofs are made. All make the same proofs; they differ in speed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ProofBackend {
    /// With the fastest instructions of this processor.
    #[default]
    Fast,
    /// The same without AVX-512.
    FastPortable,
    /// With the library ark-groth16.
    Ark,
}

impl ProofBackend {
    /// The backend.
    pub fn backend(self) -> Box<dyn Backend> {
        match self {
            Self::Fast => Box::new(Fast::detect()),
            Self::FastPortable => Box::new(Fast::portable()),
            Self::Ark => Box::new(Reference),
        }
    }
}

/// Proving.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ProverConfig {
    /// Folder of the proving keys; unset: `millrace/keys` in the user's cache directory.
    pub keys_dir: Option<PathBuf>,
    /// How proofs are made: `fast`, `fast-portable` or `ark`.
    pub backend: ProofBackend,
    /// Proofs made at a time in this process.
    pub workers: usize,
    /// How long a worker may hold a batch without a sign of life.
    pub lease_secs: u64,
    /// Use single-party keys even on a public chain. Whoever made them can take all the money.
    pub allow_insecure_keys: bool,
    /// Node whose batches `millrace prover` proves.
    pub node: Option<String>,
    /// What workers in other processes must present.
    pub token: Option<Secret>,
}

/// Payment channels, and the role of a watchtower.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ChannelsConfig {
    /// Whether this node has channels.
    pub enabled: bool,
    /// Where peers connect; unset: only this node dials.
    pub listen: Option<SocketAddr>,
    /// The channels' contract. Unset with the embedded chain: it is deployed at the first start.
    pub contract: Option<L1Address>,
    /// Block of its deployment: nothing before it is read.
    pub from_block: u64,
    /// Take the chain's own word for what is final, instead of `l1.confirmations`.
    pub finalized_tag: bool,
    /// Folder of the wallet whose phrase the hot key comes from. Unset with the embedded chain: the development phrase.
    pub wallet: Option<PathBuf>,
    /// File with the wallet's password; unset: MILLRACE_PASSWORD.
    pub password_file: Option<PathBuf>,
    /// Number of the keys in the wallet.
    pub number: u32,
    /// Where channels pay out on L1; unset: the wallet's L1 account. Part of a channel's name: do not change it.
    pub payout: Option<L1Address>,
    /// Watchtowers: KEY@ADDRESS:PORT each.
    pub towers: Vec<String>,
    /// Above this, in the token's smallest unit, a payment is forwarded, given back or counted only when a tower has confirmed
    /// that it holds the half which that rests on. Unset: nothing waits. Needs a tower.
    pub tower_limit: Option<Units>,
    /// Tokens that peers may open channels in, beside Ether.
    pub tokens: Vec<L1Address>,
    /// The encrypted backup; unset: channels.backup in the data folder. Better on another disk.
    pub backup: Option<PathBuf>,
    /// Fee of a forward, in the token's smallest unit.
    pub fee_base: u64,
    /// Fee of a forward, millionths of the amount.
    pub fee_ppm: u64,
    /// The smallest payment that is forwarded: a reveal on L1 must be worth its gas.
    pub min_lock: u64,
    /// Take payments for which there is no invoice.
    pub keysend: bool,
    /// Let the network know this node's channels, so that others pay over them; otherwise invoices carry hints to them.
    pub announce: bool,
    /// Name of this node for people, at most 32 bytes.
    pub alias: String,
    /// Where others reach this node, HOST:PORT; told to the network.
    pub public_address: Option<String>,
}

/// The HTTP API.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ApiConfig {
    /// Where it listens. Keep it on loopback, and put a TLS proxy in front to serve others.
    pub listen: SocketAddr,
    /// Largest request body.
    pub max_body_bytes: usize,
    /// Longest time for a request.
    pub request_timeout_secs: u64,
    /// Requests served at a time; more are told to come back.
    pub max_concurrent_requests: usize,
    /// Event streams open at a time.
    pub max_event_streams: usize,
    /// What requests that only the operator may make must present; unset: they are taken on loopback only.
    pub operator_token: Option<Secret>,
}

/// Logs, on stderr.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct LogConfig {
    /// Filter, such as `info` or `millrace=debug,warn`.
    pub filter: String,
    /// One JSON object a line.
    pub json: bool,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            data_dir: PathBuf::from("millrace-data"),
            roles: BTreeSet::from([Role::Sequencer, Role::Prover]),
            l1: L1Config::default(),
            sequencer: SequencerConfig::default(),
            prover: ProverConfig::default(),
            api: ApiConfig::default(),
            channels: ChannelsConfig::default(),
            log: LogConfig::default(),
        }
    }
}

impl Default for L1Config {
    fn default() -> Self {
        Self {
            urls: Vec::new(),
            chain_id: None,
            contract: None,
            from_block: 0,
            confirmations: 12,
            operator_key: None,
            operator_key_file: None,
            embedded_listen: Some(DEFAULT_EMBEDDED_L1),
        }
    }
}

impl Default for SequencerConfig {
    fn default() -> Self {
        Self {
            circuits: vec![Shape::TINY.id, Shape::SMALL.id],
            seal_after_ms: 5_000,
            minimum_fee: 0,
            beneficiary: None,
            fee_owner: None,
            pay_withdrawals: true,
            mempool_limit: 100_000,
        }
    }
}

impl Default for ProverConfig {
    fn default() -> Self {
        Self {
            keys_dir: None,
            backend: ProofBackend::Fast,
            workers: 1,
            lease_secs: 30,
            allow_insecure_keys: false,
            node: None,
            token: None,
        }
    }
}

impl Default for ChannelsConfig {
    fn default() -> Self {
        Self {
            enabled: false,
            listen: None,
            contract: None,
            from_block: 0,
            finalized_tag: false,
            wallet: None,
            password_file: None,
            number: 0,
            payout: None,
            towers: Vec::new(),
            tower_limit: None,
            tokens: Vec::new(),
            backup: None,
            fee_base: 0,
            fee_ppm: 1000,
            min_lock: 1,
            keysend: false,
            announce: true,
            alias: String::new(),
            public_address: None,
        }
    }
}

impl Default for ApiConfig {
    fn default() -> Self {
        Self {
            listen: DEFAULT_API,
            max_body_bytes: 1 << 20,
            request_timeout_secs: 30,
            max_concurrent_requests: 1024,
            max_event_streams: 1024,
            operator_token: None,
        }
    }
}

impl Default for LogConfig {
    fn default() -> Self {
        Self {
            filter: "info".into(),
            json: false,
        }
    }
}

/// Why there is no configuration.
#[derive(Debug, Error)]
pub enum ConfigError {
    /// The named file does not exist.
    #[error("configuration file {0} does not exist")]
    Missing(PathBuf),
    /// A source holds something that is no configuration.
    #[error("{0}")]
    Source(Box<figment::Error>),
    /// A value breaks a rule.
    #[error("{key} = {value}: {rule}")]
    Value {
        /// The key, with dots.
        key: &'static str,
        /// What it is.
        value: String,
        /// What it must be.
        rule: String,
    },
    /// The operator's key file is unusable.
    #[error("operator key file {path}: {problem}")]
    KeyFile {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        problem: String,
    },
}

impl From<figment::Error> for ConfigError {
    fn from(error: figment::Error) -> Self {
        Self::Source(Box::new(error))
    }
}

impl Config {
    /// Reads all sources in order of precedence: `flags` beats the environment beats the file beats the defaults.
    /// Without `file`, [`DEFAULT_FILE`] is read if it exists.
    ///
    /// The contract need not be named yet: [`Self::check`] demands it of a node that starts.
    ///
    /// # Errors
    /// If a named file is missing, a key unknown, or a value out of bounds.
    pub fn load(file: Option<&Path>, flags: &impl Serialize) -> Result<Self, ConfigError> {
        if let Some(path) = file.filter(|path| !path.is_file()) {
            return Err(ConfigError::Missing(path.to_owned()));
        }
        let path = file.unwrap_or(Path::new(DEFAULT_FILE));
        let mut sources = Figment::from(Serialized::defaults(Self::default()));
        if path.is_file() {
            sources = sources.merge(Toml::file_exact(path));
        }
        let config: Self = sources
            .merge(environment())
            .merge(Serialized::defaults(flags))
            .extract()?;
        config.check_before_deployment()?;
        Ok(config)
    }

    /// Checks what types cannot say, of a node that is to start.
    ///
    /// # Errors
    /// [`ConfigError::Value`] for the first rule broken.
    pub fn check(&self) -> Result<(), ConfigError> {
        self.check_before_deployment()?;
        if !self.embedded() && self.l1.contract.is_none() {
            return broken(
                "l1.contract",
                "unset",
                "name the rollup contract on that chain; `millrace deploy` deploys one",
            );
        }
        Ok(())
    }

    /// As [`Self::check`], while the contract may not be there yet.
    ///
    /// # Errors
    /// [`ConfigError::Value`] for the first rule broken.
    pub fn check_before_deployment(&self) -> Result<(), ConfigError> {
        self.check_roles()?;
        for id in &self.sequencer.circuits {
            if Shape::by_id(*id).is_none() {
                let known = Shape::ALL.map(|shape| shape.id.to_string()).join(", ");
                return broken(
                    "sequencer.circuits",
                    id,
                    format!("known circuits are {known}"),
                );
            }
        }
        if self.sequencer.circuits.is_empty() {
            return broken("sequencer.circuits", "[]", "name at least one circuit");
        }
        if self.prover.workers == 0 {
            return broken(
                "prover.workers",
                0,
                "at least 1; leave the role out to prove nothing",
            );
        }
        if self.sequencer.seal_after_ms == 0 {
            return broken("sequencer.seal_after_ms", 0, "at least 1");
        }
        self.check_l1()
    }

    fn check_roles(&self) -> Result<(), ConfigError> {
        if self.roles.is_empty() {
            return broken(
                "roles",
                "[]",
                "name at least one of sequencer, prover, follower",
            );
        }
        if self.roles.contains(&Role::Follower) && self.roles.len() > 1 {
            return broken(
                "roles",
                format!("{:?}", self.roles),
                "a follower is nothing else",
            );
        }
        if self.roles.contains(&Role::Prover) && !self.roles.contains(&Role::Sequencer) {
            return broken(
                "roles",
                format!("{:?}", self.roles),
                "proving alone is `millrace prover`",
            );
        }
        Ok(())
    }

    fn check_l1(&self) -> Result<(), ConfigError> {
        if self.embedded() && self.roles.contains(&Role::Follower) {
            return broken(
                "l1.urls",
                "[]",
                "a follower needs the endpoint of the chain it follows",
            );
        }
        if self.l1.operator_key.is_some() && self.l1.operator_key_file.is_some() {
            return broken(
                "l1.operator_key",
                "set",
                "not together with l1.operator_key_file",
            );
        }
        let limited = self.channels.tower_limit.filter(|_| self.channels.enabled);
        if let Some(limit) = limited.filter(|_| self.channels.towers.is_empty()) {
            return broken(
                "channels.tower_limit",
                limit,
                "needs a watchtower whose receipts are waited for: name one in channels.towers, or leave the limit out",
            );
        }
        Ok(())
    }

    /// Whether the L1 is the embedded chain.
    pub fn embedded(&self) -> bool {
        self.l1.urls.is_empty()
    }

    /// The circuits that the sequencer may fill, smallest first.
    pub fn shapes(&self) -> Vec<Shape> {
        let wanted = &self.sequencer.circuits;
        Shape::ALL
            .into_iter()
            .filter(|shape| wanted.contains(&shape.id))
            .collect()
    }

    /// The operator's private key in hexadecimal, from the configuration or its file.
    ///
    /// # Errors
    /// If the file cannot be read, or others than its owner can read it.
    pub fn operator_key(&self) -> Result<Option<Secret>, ConfigError> {
        let Some(path) = &self.l1.operator_key_file else {
            return Ok(self.l1.operator_key.clone());
        };
        let fail = |problem: String| ConfigError::KeyFile {
            path: path.clone(),
            problem,
        };
        secret::check_private(path).map_err(&fail)?;
        let text = std::fs::read_to_string(path).map_err(|error| fail(error.to_string()))?;
        Ok(Some(Secret::new(text.trim().to_owned())))
    }

    /// The effective configuration as TOML, secrets blanked.
    pub fn to_toml(&self) -> String {
        toml::to_string(self).expect("the configuration has string keys and TOML's types only")
    }
}

fn broken<T>(
    key: &'static str,
    value: impl ToString,
    rule: impl Into<String>,
) -> Result<T, ConfigError> {
    Err(ConfigError::Value {
        key,
        value: value.to_string(),
        rule: rule.into(),
    })
}

fn environment() -> Env {
    Env::prefixed(ENVIRONMENT_PREFIX)
        .ignore(OTHER_VARIABLES)
        .split("__")
}

#[cfg(test)]
mod tests;

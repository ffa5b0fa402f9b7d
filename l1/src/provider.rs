//! How an L1 is reached: one provider over the embedded dev chain or over HTTP endpoints.
//!
//! ```text
//! DevChain ────────────────────────┐
//! URLs → Failover (timeout, retry) ┴→ alloy provider → L1Provider
//! ```
//!
//! An `L1Provider` reads and submits; it signs nothing and fills nothing in. `sender` does that for transactions that must
//! land, and `with_signer` gives alloy's own signing provider for deployments and tests.

mod failover;

pub use failover::HttpSettings;

use crate::devchain::DevChain;
use alloy::{
    network::EthereumWallet,
    providers::{DynProvider, Provider, ProviderBuilder, RootProvider},
    rpc::client::RpcClient,
    signers::local::PrivateKeySigner,
    transports::{RpcError, TransportError, TransportErrorKind},
};
use failover::Failover;
use std::{fmt, time::Duration};
use thiserror::Error;

/// How often an endpoint over HTTP is asked for news.
pub const HTTP_POLL_INTERVAL: Duration = Duration::from_secs(2);
/// How often a chain on this machine is asked for news.
pub const LOCAL_POLL_INTERVAL: Duration = Duration::from_millis(50);
/// How often the chain in this process is asked for news.
pub const DEV_CHAIN_POLL_INTERVAL: Duration = Duration::from_millis(5);

/// Why an L1 cannot be used.
#[derive(Debug, Error)]
pub enum ConnectError {
    /// No URL is configured.
    #[error("no L1 endpoint is configured: set at least one URL")]
    NoUrl,
    /// A URL does not parse or is not HTTP.
    #[error("L1 endpoint {index} is not an http or https URL: {cause}")]
    InvalidUrl {
        /// Position in the list, from 0.
        index: usize,
        /// What is wrong with it. The URL itself may hold a secret and is not shown.
        cause: String,
    },
    /// The HTTP client does not start.
    #[error("cannot start the HTTP client: {0}")]
    Client(String),
    /// No endpoint answers.
    #[error("no L1 endpoint answers: {0}: check the URL and that the node runs")]
    Unreachable(String),
    /// The endpoint serves another chain.
    #[error(
        "the L1 endpoint serves chain {found}, expected {expected}: check the URL and the configured chain id"
    )]
    WrongChain {
        /// Chain id in the configuration.
        expected: u64,
        /// Chain id that the endpoint answers.
        found: u64,
    },
}

/// A connection to L1. Clones share it.
#[derive(Clone)]
pub struct L1Provider {
    provider: DynProvider,
    client: RpcClient,
    chain_id: u64,
    poll_interval: Duration,
    name: String,
}

impl fmt::Debug for L1Provider {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            formatter,
            "L1Provider({}, chain {})",
            self.name, self.chain_id
        )
    }
}

impl From<&DevChain> for L1Provider {
    fn from(chain: &DevChain) -> Self {
        let client = RpcClient::new(chain.clone(), true);
        Self::new(
            client,
            chain.chain_id(),
            DEV_CHAIN_POLL_INTERVAL,
            "dev chain".to_owned(),
        )
    }
}

impl L1Provider {
    fn new(client: RpcClient, chain_id: u64, poll_interval: Duration, name: String) -> Self {
        client.set_poll_interval(poll_interval);
        let provider = RootProvider::new(client.clone()).erased();
        Self {
            provider,
            client,
            chain_id,
            poll_interval,
            name,
        }
    }

    /// Connects over HTTP and checks that the endpoint answers, for the expected chain where one is given.
    pub async fn connect(
        settings: HttpSettings,
        expected_chain_id: Option<u64>,
    ) -> Result<Self, ConnectError> {
        let poll_interval = if settings.is_local() {
            LOCAL_POLL_INTERVAL
        } else {
            HTTP_POLL_INTERVAL
        };
        let failover = Failover::new(settings)?;
        let name = failover.to_string();
        let client = RpcClient::new(failover, poll_interval == LOCAL_POLL_INTERVAL);
        let found = RootProvider::<alloy::network::Ethereum>::new(client.clone())
            .get_chain_id()
            .await;
        let found = found.map_err(|error| ConnectError::Unreachable(explain(&error)))?;
        match expected_chain_id {
            Some(expected) if expected != found => {
                Err(ConnectError::WrongChain { expected, found })
            }
            _ => Ok(Self::new(client, found, poll_interval, name)),
        }
    }

    /// Connects to one URL with the default settings.
    pub async fn connect_url(url: &str) -> Result<Self, ConnectError> {
        Self::connect(HttpSettings::new([url])?, None).await
    }

    /// alloy's provider, without any filler.
    pub fn provider(&self) -> &DynProvider {
        &self.provider
    }

    /// The chain's id, as it was when the connection was made.
    pub fn chain_id(&self) -> u64 {
        self.chain_id
    }

    /// How long to wait before asking for news again.
    pub fn poll_interval(&self) -> Duration {
        self.poll_interval
    }

    /// Where this leads, for people. Holds no secret part of a URL.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// alloy's provider that signs with `signer` and fills in gas, fees and nonce.
    pub fn with_signer(&self, signer: PrivateKeySigner) -> DynProvider {
        ProviderBuilder::new()
            .disable_recommended_fillers()
            .with_gas_estimation()
            .with_simple_nonce_management()
            .with_chain_id(self.chain_id)
            .wallet(EthereumWallet::from(signer))
            .connect_client(self.client.clone())
            .erased()
    }
}

/// An RPC error in one line: the node's words if it answered, else why it did not.
pub fn explain(error: &TransportError) -> String {
    match error {
        RpcError::ErrorResp(payload) => payload.message.to_string(),
        RpcError::Transport(TransportErrorKind::Custom(cause)) => cause.to_string(),
        other => other.to_string(),
    }
}

/// Whether an error came from the connection rather than from the node, so that asking again later may help.
pub fn is_connection_fault(error: &TransportError) -> bool {
    matches!(error, RpcError::Transport(_) | RpcError::DeserError { .. })
}

//! The L1: an endpoint over HTTP, or the embedded chain, which then serves JSON-RPC on loopback for wallets.
//!
//! configuration → [`connect`] → [`L1`]: provider, operator's key, and the embedded chain if there is one
//!
//! The embedded chain's file follows every change before it is answered, so it survives a crash as the state does.

use super::StartError;
use super::tasks::Tasks;
use crate::config::Config;
use alloy::primitives::Address;
use alloy::signers::local::PrivateKeySigner;
use axum::Router;
use axum::body::Bytes;
use axum::extract::{DefaultBodyLimit, State};
use axum::http::header::CONTENT_TYPE;
use axum::response::IntoResponse;
use axum::routing::post;
use millrace_l1::devchain::{DevChain, DevChainConfig, FUNDED_ACCOUNTS, dev_signer};
use millrace_l1::provider::{HttpSettings, L1Provider};
use millrace_prover::key::DEVELOPMENT_CHAINS;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;
use tower_http::cors::CorsLayer;

/// Account of the development mnemonic that operates the rollup on the embedded chain.
pub const OPERATOR_ACCOUNT: u32 = 0;
/// Bytes of a JSON-RPC request to the embedded chain.
const MAX_RPC_BODY: usize = 8 << 20;

/// The chain that the rollup settles on.
#[derive(Debug, Clone)]
pub struct L1 {
    /// The connection.
    pub provider: L1Provider,
    /// The embedded chain.
    pub embedded: Option<DevChain>,
    /// The operator's key; none if this node sends nothing.
    pub operator: Option<PrivateKeySigner>,
}

/// Reaches the configured chain.
///
/// # Errors
/// If no endpoint answers, the chain is another one, or the operator's key may not be used there.
pub async fn connect(config: &Config) -> Result<L1, StartError> {
    if config.embedded() {
        return open_embedded(config);
    }
    let settings = HttpSettings::new(config.l1.urls.iter().map(String::as_str))?;
    let provider = L1Provider::connect(settings, config.l1.chain_id).await?;
    let operator = operator_key(config)?;
    if let Some(signer) = &operator {
        refuse_public_key_of_development(signer, provider.chain_id())?;
    }
    Ok(L1 {
        provider,
        embedded: None,
        operator,
    })
}

fn open_embedded(config: &Config) -> Result<L1, StartError> {
    let defaults = DevChainConfig::default();
    let chain_id = config.l1.chain_id.unwrap_or(defaults.chain_id);
    if !DEVELOPMENT_CHAINS.contains(&chain_id) {
        return Err(StartError::EmbeddedChainId { chain_id });
    }
    let chain = DevChain::open_durable(
        &state_file(&config.data_dir),
        DevChainConfig {
            chain_id,
            ..defaults
        },
    )
    .map_err(|error| StartError::EmbeddedChain(error.to_string()))?;
    let operator = operator_key(config)?.unwrap_or_else(|| dev_signer(OPERATOR_ACCOUNT));
    Ok(L1 {
        provider: L1Provider::from(&chain),
        embedded: Some(chain),
        operator: Some(operator),
    })
}

fn state_file(data_dir: &Path) -> PathBuf {
    data_dir.join("l1-chain.json")
}

fn operator_key(config: &Config) -> Result<Option<PrivateKeySigner>, StartError> {
    let Some(secret) = config.operator_key()? else {
        return Ok(None);
    };
    // The parser's error may quote the key, so it is not passed on.
    secret
        .expose()
        .parse()
        .map(Some)
        .map_err(|_| StartError::OperatorKey)
}

/// The keys of the development mnemonic are known to everyone: money of theirs is gone within seconds on a public chain.
fn refuse_public_key_of_development(
    signer: &PrivateKeySigner,
    chain_id: u64,
) -> Result<(), StartError> {
    let is_development =
        (0..FUNDED_ACCOUNTS).any(|index| dev_signer(index).address() == signer.address());
    if is_development && !DEVELOPMENT_CHAINS.contains(&chain_id) {
        return Err(StartError::DevelopmentKey {
            address: signer.address(),
            chain_id,
        });
    }
    Ok(())
}

impl L1 {
    /// The operator's address.
    pub fn operator_address(&self) -> Option<Address> {
        self.operator.as_ref().map(PrivateKeySigner::address)
    }
}

/// Serves the embedded chain over JSON-RPC. Where it listens, if it does.
///
/// # Errors
/// If the address is taken.
pub async fn serve(
    chain: &DevChain,
    listen: Option<SocketAddr>,
    tasks: &mut Tasks,
) -> Result<Option<SocketAddr>, StartError> {
    let Some(address) = listen else {
        return Ok(None);
    };
    let listener = super::bind(address, "l1.embedded_listen").await?;
    let bound = listener.local_addr().map_err(|source| StartError::Listen {
        address,
        key: "l1.embedded_listen",
        source,
    })?;
    tasks.spawn(
        "chain endpoint",
        serve_rpc(listener, chain.clone(), tasks.stopping()),
    );
    Ok(Some(bound))
}

async fn serve_rpc(
    listener: TcpListener,
    chain: DevChain,
    stop: CancellationToken,
) -> std::io::Result<()> {
    let router = Router::new()
        .route("/", post(answer))
        .layer(DefaultBodyLimit::max(MAX_RPC_BODY))
        // Wallets in browsers connect to development chains from pages of any origin.
        .layer(CorsLayer::permissive())
        .with_state(chain);
    axum::serve(listener, router)
        .with_graceful_shutdown(stop.cancelled_owned())
        .await
}

async fn answer(State(chain): State<DevChain>, body: Bytes) -> impl IntoResponse {
    // A call may run for a while in the EVM.
    let answer = tokio::task::spawn_blocking(move || chain.handle(&body)).await;
    (
        [(CONTENT_TYPE, "application/json")],
        answer.unwrap_or_default(),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_that_everyone_knows_are_refused_on_public_chains() {
        let known = dev_signer(3);
        for chain_id in [1, 10, 11155111] {
            let error = refuse_public_key_of_development(&known, chain_id).unwrap_err();
            assert!(
                matches!(error, StartError::DevelopmentKey { .. }),
                "{error}"
            );
        }
        refuse_public_key_of_development(&known, 31337).unwrap();
        refuse_public_key_of_development(&PrivateKeySigner::random(), 1).unwrap();
    }

    #[test]
    fn the_embedded_chain_never_claims_a_public_id() {
        let mut config = Config::default();
        config.l1.chain_id = Some(1);
        assert!(matches!(
            open_embedded(&config),
            Err(StartError::EmbeddedChainId { chain_id: 1 })
        ));
    }
}

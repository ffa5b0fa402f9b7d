//! `millrace deploy`: a rollup contract on a chain that is not the embedded one.
//!
//! configuration (l1.urls, operator's key, circuits) → development keys, if they are permitted there → contract → the lines
//! that name it in the configuration
//!
//! The embedded chain needs none of this: the first start deploys there.

use crate::cli::node::not_started;
use crate::cli::{Exit, Failure, Global, config, logging};
use crate::config::Config;
use crate::output::{Output, facts};
use crate::wiring::chain::{self, L1};
use crate::wiring::contract::{self, Terms};
use crate::wiring::{self, StartError};
use alloy::primitives::Address;
use millrace_circuits::types::L1Address;
use millrace_l1::sender::TransactionSender;
use serde::Serialize;
use serde_json::json;

/// Options of `millrace deploy`. The chain, the key that pays and the circuits are those of the configuration.
#[derive(Debug, clap::Args)]
pub struct DeployArguments {
    /// Endpoints of L1, separated by commas
    #[arg(long, value_name = "URLS", value_delimiter = ',')]
    pub l1: Vec<String>,
    /// Who may commit batches; without it, the account of the configured operator's key
    #[arg(long, value_name = "ADDRESS")]
    pub operator: Option<L1Address>,
    /// Base fee of a deposit or forced exit, in wei
    #[arg(long, value_name = "WEI", default_value_t = contract::REQUEST_FEE)]
    pub request_fee: u128,
    /// Seconds between the deadlines of two requests: what this machine needs to prove one
    #[arg(long, value_name = "SECONDS", default_value_t = contract::REQUEST_SPACING_SECS)]
    pub request_spacing: u32,
}

/// A contract that is on the chain.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Deployed {
    /// Its address.
    pub contract: L1Address,
    /// The chain.
    pub chain_id: u64,
    /// Block of the deployment.
    pub from_block: u64,
    /// Who may commit batches.
    pub operator: L1Address,
    /// Ids of its circuits.
    pub circuits: Vec<u16>,
    /// Gas that it took.
    pub gas: u64,
}

/// Deploys a contract.
///
/// # Errors
/// [`Failure`].
pub async fn run(
    global: &Global,
    output: Output,
    arguments: DeployArguments,
) -> Result<(), Failure> {
    logging::start_quiet(global);
    let flags = match arguments.l1.as_slice() {
        [] => json!({}),
        urls => json!({ "l1": { "urls": urls } }),
    };
    let config = config::load(global, &flags)?;
    refuse_second_contract(&config)?;
    let bar = output.progress(
        0,
        "deploying (the first time makes the proving keys, which takes minutes)",
    );
    let deployed = deploy(&config, &arguments).await;
    bar.finish_and_clear();
    let deployed = deployed.map_err(|error| not_started("the contract is not deployed", &error))?;
    output.result(&deployed, || describe(&deployed));
    Ok(())
}

/// A forgotten setting must not end in two contracts, one of which nobody serves.
fn refuse_second_contract(config: &Config) -> Result<(), Failure> {
    let in_the_way = if config.embedded() {
        "l1.urls is empty: on the embedded chain the first start of the node deploys the contract"
    } else if config.l1.contract.is_some() {
        "l1.contract names a contract already: leave it out to deploy another one"
    } else {
        return Ok(());
    };
    Err(Failure::new(Exit::Configuration, in_the_way)
        .help("`millrace config` prints the effective configuration"))
}

async fn deploy(config: &Config, arguments: &DeployArguments) -> Result<Deployed, StartError> {
    wiring::use_ring();
    let l1 = chain::connect(config).await?;
    let L1 {
        provider,
        operator: Some(signer),
        ..
    } = l1
    else {
        return Err(StartError::NoOperatorKey);
    };
    let named = arguments.operator.map(|address| Address::from(address.0));
    let terms = Terms {
        operator: named.unwrap_or_else(|| signer.address()),
        request_fee: arguments.request_fee,
        request_spacing_secs: arguments.request_spacing,
    };
    let chain_id = provider.chain_id();
    let sender = TransactionSender::in_memory(provider, signer);
    let landed = contract::deploy(config, &sender, terms).await?;
    Ok(Deployed {
        contract: L1Address(landed.value.address().into_array()),
        chain_id,
        from_block: landed.receipt.block_number.unwrap_or_default(),
        operator: L1Address(terms.operator.into_array()),
        circuits: config.shapes().iter().map(|shape| shape.id).collect(),
        gas: landed.receipt.gas_used,
    })
}

fn describe(deployed: &Deployed) -> String {
    let circuits: Vec<String> = deployed.circuits.iter().map(u16::to_string).collect();
    let facts = facts([
        ("contract", deployed.contract.to_string()),
        ("chain id", deployed.chain_id.to_string()),
        ("block", deployed.from_block.to_string()),
        ("operator", deployed.operator.to_string()),
        ("circuits", circuits.join(", ")),
        ("gas", deployed.gas.to_string()),
    ]);
    format!(
        "{facts}\n\nPut this into the configuration, then start the node:\n\n[l1]\nchain_id = {}\ncontract = \"{}\"\nfrom_block = {}\n\n\
         The proving keys are INSECURE-DEV: whoever knows their seed can take what is deposited.",
        deployed.chain_id, deployed.contract, deployed.from_block
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::tests::harness::config;
    use crate::config::Secret;
    use crate::wiring::tasks::Tasks;
    use alloy::providers::Provider;
    use clap::Parser;
    use millrace_l1::devchain::{DevChain, DevChainConfig, dev_signer};
    use millrace_l1::provider::L1Provider;
    use std::time::Duration;

    #[derive(Parser)]
    struct Line {
        #[command(flatten)]
        arguments: DeployArguments,
    }

    fn arguments(line: &[&str]) -> DeployArguments {
        let line = ["deploy"].iter().chain(line);
        Line::try_parse_from(line).unwrap().arguments
    }

    /// A chain of its own, served over HTTP, and a configuration of an operator there.
    async fn elsewhere(
        folder: &tempfile::TempDir,
        chain_id: u64,
        tasks: &mut Tasks,
    ) -> (L1Provider, Config) {
        let chain = DevChain::new(DevChainConfig {
            chain_id,
            ..DevChainConfig::default()
        });
        let listen = "127.0.0.1:0".parse().unwrap();
        let bound = chain::serve(&chain, Some(listen), tasks).await.unwrap();
        let mut config = config(folder);
        config.l1.urls = vec![format!("http://{}", bound.unwrap())];
        let key = hex::encode(dev_signer(1).to_bytes());
        config.l1.operator_key = Some(Secret::new(format!("0x{key}")));
        (L1Provider::from(&chain), config)
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn a_node_starts_on_what_was_deployed() {
        let (folder, mut tasks) = (tempfile::tempdir().unwrap(), Tasks::default());
        let (_, mut config) = elsewhere(&folder, 31337, &mut tasks).await;
        let terms = ["--request-fee", "5", "--request-spacing", "7"];
        let deployed = deploy(&config, &arguments(&terms)).await.unwrap();
        assert_eq!(deployed.operator.0, dev_signer(1).address().into_array());
        assert!(deployed.from_block > 0 && deployed.circuits == [1]);

        config.l1.contract = Some(deployed.contract);
        config.l1.from_block = deployed.from_block;
        let node = wiring::start(config).await.unwrap();
        let client = &node.client;
        assert_eq!(client.operator().await.unwrap(), dev_signer(1).address());
        assert_eq!(client.contract().requestFeeBase().call().await.unwrap(), 5);
        assert_eq!(client.contract().requestSpacing().call().await.unwrap(), 7);
        node.shutdown().await;
        tasks.stop(Duration::from_secs(5)).await;
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn nothing_is_sent_to_a_public_chain_with_development_keys() {
        let (folder, mut tasks) = (tempfile::tempdir().unwrap(), Tasks::default());
        let (provider, mut config) = elsewhere(&folder, 10, &mut tasks).await;
        config.l1.operator_key = Some(Secret::new(format!("0x{}", "11".repeat(32))));
        let refused = deploy(&config, &arguments(&[])).await.unwrap_err();
        assert!(matches!(refused, StartError::RefusedKey(_)), "{refused}");
        assert_eq!(provider.provider().get_block_number().await.unwrap(), 0);
        tasks.stop(Duration::from_secs(5)).await;
    }

    #[test]
    fn a_configuration_with_a_contract_deploys_no_second_one() {
        let folder = tempfile::tempdir().unwrap();
        let mut config = config(&folder);
        let embedded = refuse_second_contract(&config).unwrap_err();
        assert!(embedded.to_string().contains("l1.urls is empty"));
        config.l1.urls = vec!["http://127.0.0.1:1".into()];
        refuse_second_contract(&config).unwrap();
        config.l1.contract = Some(L1Address([1; 20]));
        let second = refuse_second_contract(&config).unwrap_err();
        assert_eq!(second.exit(), Exit::Configuration);
    }
}

//! `millrace dev` and `millrace node`.
//!
//! configuration → wiring → running node → until Ctrl-C, SIGTERM, or the death of a task;   dev: users with money besides

use crate::cli::{Exit, Failure, Global, config, logging};
use crate::config::{Config, Role};
use crate::output::{Output, facts, table};
use crate::wallet::contract::Contract;
use crate::wallet::keys::{KeySource, Phrase, UserKeys};
use crate::wiring::{self, RunningNode, StartError};
use millrace_circuits::types::{Amount, TokenId};
use millrace_l1::devchain::DEV_MNEMONIC;
use serde_json::json;
use std::net::SocketAddr;
use std::path::PathBuf;

/// Numbers of the development phrase that get money in the rollup. Number 0 is the operator.
const DEV_USERS: std::ops::RangeInclusive<u32> = 1..=3;
/// What each of them gets: 100 ETH.
const DEV_DEPOSIT: Amount = Amount(100_000_000_000_000_000_000);

/// Options of `millrace dev`.
#[derive(Debug, clap::Args)]
pub struct DevArguments {
    /// Where the API listens
    #[arg(long, value_name = "ADDRESS")]
    pub listen: Option<SocketAddr>,
    /// Where the embedded chain serves JSON-RPC
    #[arg(long, value_name = "ADDRESS")]
    pub l1_listen: Option<SocketAddr>,
    /// Folder of chain, state and proofs
    #[arg(long, value_name = "FOLDER")]
    pub data_dir: Option<PathBuf>,
    /// Circuits to fill: ids, separated by commas
    #[arg(long, value_name = "IDS", value_delimiter = ',')]
    pub circuits: Vec<u16>,
}

/// Options of `millrace node`.
#[derive(Debug, clap::Args)]
pub struct NodeArguments {
    /// What it does, separated by commas: sequencer, prover, follower
    #[arg(long, value_name = "ROLES", value_delimiter = ',')]
    pub roles: Vec<Role>,
    /// Where the API listens
    #[arg(long, value_name = "ADDRESS")]
    pub listen: Option<SocketAddr>,
    /// Endpoints of L1, separated by commas
    #[arg(long, value_name = "URLS", value_delimiter = ',')]
    pub l1: Vec<String>,
    /// The rollup contract
    #[arg(long, value_name = "ADDRESS")]
    pub contract: Option<String>,
    /// Folder of the databases
    #[arg(long, value_name = "FOLDER")]
    pub data_dir: Option<PathBuf>,
}

/// A table of flags without those that were not given.
fn given(pairs: Vec<(&str, &str, Option<serde_json::Value>)>) -> serde_json::Value {
    let mut flags = json!({});
    for (section, key, value) in pairs {
        let Some(value) = value else { continue };
        match section {
            "" => flags[key] = value,
            section => flags[section][key] = value,
        }
    }
    flags
}

fn list<T: serde::Serialize>(items: &[T]) -> Option<serde_json::Value> {
    (!items.is_empty()).then(|| json!(items))
}

/// Runs everything in one process.
///
/// # Errors
/// [`Failure`].
pub async fn dev(global: &Global, output: Output, arguments: DevArguments) -> Result<(), Failure> {
    let flags = given(vec![
        ("", "roles", Some(json!([Role::Sequencer, Role::Prover]))),
        (
            "",
            "data_dir",
            arguments.data_dir.map(|folder| json!(folder)),
        ),
        ("l1", "urls", Some(json!([]))),
        (
            "l1",
            "embedded_listen",
            arguments.l1_listen.map(|address| json!(address)),
        ),
        (
            "api",
            "listen",
            arguments.listen.map(|address| json!(address)),
        ),
        ("sequencer", "circuits", list(&arguments.circuits)),
    ]);
    let config = config::load(global, &flags)?;
    logging::start(global, &config.log);
    let bar = output.progress(
        0,
        "starting (the first start makes the proving keys, which takes minutes)",
    );
    let node = start(config).await?;
    let users = fund(&node).await?;
    bar.finish_and_clear();
    show_dev(output, &node, &users);
    run(node).await
}

/// Deposits for the development users that have nothing yet.
async fn fund(node: &RunningNode) -> Result<Vec<UserKeys>, Failure> {
    let phrase = Phrase::parse(DEV_MNEMONIC).map_err(super::wallet::keys_failure)?;
    let source = KeySource::Phrase(phrase);
    let contract = Contract::new(node.l1.clone(), node.contract);
    let funded = contract
        .status()
        .await
        .map_err(super::wallet::contract_failure)?
        .queueTail
        > 0;
    let mut users = Vec::new();
    for number in DEV_USERS {
        let keys = source
            .keys(number, None)
            .map_err(super::wallet::keys_failure)?;
        if !funded {
            let deposit = contract.deposit(&keys.l1, TokenId::ZERO, DEV_DEPOSIT, keys.owner());
            deposit.await.map_err(super::wallet::contract_failure)?;
        }
        users.push(keys);
    }
    Ok(users)
}

fn show_dev(output: Output, node: &RunningNode, users: &[UserKeys]) {
    let l1_url = node.l1_url.clone().unwrap_or_default();
    let described: Vec<_> = users
        .iter()
        .map(|user| json!({ "number": user.number, "l1_address": user.l1_address(), "payment_address": user.owner() }))
        .collect();
    let result = json!({
        "api": node.api_url, "l1": l1_url, "contract": node.contract, "chain_id": node.l1.chain_id(),
        "phrase": DEV_MNEMONIC, "users": described,
    });
    output.result(&result, || {
        let where_to = facts([
            ("API", node.api_url.clone()),
            ("documentation", format!("{}/docs", node.api_url)),
            ("L1 (embedded)", l1_url.clone()),
            ("contract", node.contract.to_string()),
            ("phrase, worthless", DEV_MNEMONIC.to_owned()),
        ]);
        let row = |user: &UserKeys| {
            [user.number.to_string(), user.l1_address().to_string(), user.owner().to_string()]
        };
        let users = table(["number", "L1 address", "payment address, 100 ETH"], users.iter().map(row));
        format!("{where_to}\n{users}\nStop with Ctrl-C. The proving keys are INSECURE-DEV: this chain holds no value.")
    });
}

/// Runs a node.
///
/// # Errors
/// [`Failure`].
pub async fn node(
    global: &Global,
    output: Output,
    arguments: NodeArguments,
) -> Result<(), Failure> {
    let flags = given(vec![
        ("", "roles", list(&arguments.roles)),
        (
            "",
            "data_dir",
            arguments.data_dir.map(|folder| json!(folder)),
        ),
        ("l1", "urls", list(&arguments.l1)),
        (
            "l1",
            "contract",
            arguments.contract.map(|contract| json!(contract)),
        ),
        (
            "api",
            "listen",
            arguments.listen.map(|address| json!(address)),
        ),
    ]);
    let config = config::load(global, &flags)?;
    logging::start(global, &config.log);
    let node = start(config).await?;
    let result = json!({ "api": node.api_url, "l1": node.l1_url, "contract": node.contract });
    output.result(&result, || {
        facts([
            ("API", node.api_url.clone()),
            ("contract", node.contract.to_string()),
        ])
    });
    run(node).await
}

/// Starts a node.
///
/// # Errors
/// What is in the way.
pub(crate) async fn start(config: Config) -> Result<RunningNode, Failure> {
    wiring::start(config)
        .await
        .map_err(|error| not_started("the node does not start", &error))
}

/// What the user reads of an error in the way of a start.
pub(crate) fn not_started(what: &str, error: &StartError) -> Failure {
    let exit = match error {
        StartError::L1(_) | StartError::Contract(_) => Exit::Connection,
        StartError::Keys(_)
        | StartError::RefusedKey(_)
        | StartError::OperatorKey
        | StartError::ChannelKeys(_)
        | StartError::DevelopmentKey { .. } => Exit::Keys,
        StartError::State(_) | StartError::Engine(_) => Exit::Internal,
        _ => Exit::Configuration,
    };
    Failure::because(exit, what, error).help("`millrace config` prints the effective configuration")
}

async fn run(node: RunningNode) -> Result<(), Failure> {
    node.run().await.map_err(|error| {
        Failure::because(Exit::Internal, "a task of the node ended", &error)
            .help("what was acknowledged is on disk: start it again; the log says what happened")
    })
}

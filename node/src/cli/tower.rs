//! `millrace tower`: a watchtower that answers for channels whose owners are away.
//!
//! configuration (`[l1]`, `[channels]`: wallet, contract, listen) → tower → until Ctrl-C or SIGTERM

use crate::cli::{Exit, Failure, Global, config, logging, stop_signal};
use crate::output::{Output, facts};
use crate::wiring::{chain, channels};
use serde_json::json;
use std::net::SocketAddr;
use std::path::PathBuf;

/// Options of `millrace tower`.
#[derive(Debug, clap::Args)]
pub struct TowerArguments {
    /// Where clients connect
    #[arg(long, value_name = "ADDRESS")]
    pub listen: Option<SocketAddr>,
    /// Folder of its database
    #[arg(long, value_name = "FOLDER")]
    pub data_dir: Option<PathBuf>,
}

/// Runs a tower.
///
/// # Errors
/// [`Failure`].
pub async fn run(
    global: &Global,
    output: Output,
    arguments: TowerArguments,
) -> Result<(), Failure> {
    let mut config = config::load(global, &json!({}))?;
    if arguments.listen.is_some() {
        config.channels.listen = arguments.listen;
    }
    if let Some(folder) = arguments.data_dir {
        config.data_dir = folder;
    }
    if config.channels.listen.is_none() {
        return Err(
            Failure::new(Exit::Usage, "a tower has to listen for its clients")
                .help("pass --listen, or set channels.listen"),
        );
    }
    if config.embedded() {
        return Err(Failure::new(
            Exit::Configuration,
            "a tower needs the chain that its clients use",
        )
        .help("set l1.urls and channels.contract"));
    }
    logging::start(global, &config.log);
    let failed = |error| super::node::not_started("the tower does not start", &error);
    let l1 = chain::connect(&config).await.map_err(failed)?;
    let mut tower = channels::begin_tower(&config, &l1).await.map_err(failed)?;
    let address = tower.listen.map(|address| address.to_string());
    let (key, account) = (tower.key.to_string(), tower.account.to_string());
    let result = json!({ "key": key, "listen": address, "account": account });
    output.result(&result, || {
        let listen = address.clone().unwrap_or_default();
        facts([
            ("for clients' channels.towers", format!("{key}@{listen}")),
            ("account, keep ETH for gas there", account.clone()),
        ])
    });
    let ended = tokio::select! {
        () = stop_signal() => None,
        error = tower.running.ended() => Some(error),
    };
    tower.shutdown().await;
    match ended {
        None => Ok(()),
        Some(error) => Err(Failure::because(Exit::Internal, "the tower ended", &error)
            .help("what it confirmed is on disk: start it again")),
    }
}

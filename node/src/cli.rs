//! The command line: arguments, dispatch, exit codes.
//!
//! arguments → [`Arguments`] → [`run`] → a module of [`cli`](self) each → [`Output`], or [`Failure`] with its exit code

use crate::output::Output;
use clap::{Parser, Subcommand};
use std::path::PathBuf;

pub mod batch;
pub mod bench;
pub mod ceremony;
pub mod channel;
pub mod config;
pub mod deploy;
pub mod failure;
pub mod logging;
pub mod node;
pub mod pay;
pub mod prove;
pub mod prover;
pub mod restore;
pub mod setup;
pub mod tower;
pub mod wallet;

pub use failure::{Exit, Failure};

/// Moves money off chain: a zero-knowledge rollup with its wallet, sequencer, prover and embedded chain.
#[derive(Debug, Parser)]
#[command(
    name = "millrace",
    version,
    propagate_version = true,
    arg_required_else_help = true
)]
pub struct Arguments {
    /// What everything takes.
    #[command(flatten)]
    pub global: Global,
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// Options of every command.
#[derive(Debug, Clone, clap::Args)]
pub struct Global {
    /// Answer with one JSON object, the last line of stdout
    #[arg(long, global = true)]
    pub json: bool,
    /// Configuration file; without it, millrace.toml if there is one
    #[arg(long, global = true, value_name = "FILE", env = "MILLRACE_CONFIG")]
    pub config: Option<PathBuf>,
    /// What to log, such as info or millrace=debug; logs go to stderr
    #[arg(long, global = true, value_name = "FILTER")]
    pub log: Option<String>,
    /// Log one JSON object a line
    #[arg(long, global = true)]
    pub log_json: bool,
}

/// The commands.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Run everything in one process on the embedded chain, with funded users
    Dev(node::DevArguments),
    /// Deploy a rollup contract on the configured L1, for a node of your own
    Deploy(deploy::DeployArguments),
    /// Run a node: sequencer, prover or follower, as configured
    Node(node::NodeArguments),
    /// Hold keys, deposit, pay, swap, withdraw, and leave without the operator's help
    Wallet(wallet::WalletArguments),
    /// Pay an invoice, a node or a payment address: channels or rollup
    Pay(pay::PayArguments),
    /// Open, use and close payment channels of a running node
    Channel(channel::ChannelArguments),
    /// Watch channels for owners who are away
    Tower(tower::TowerArguments),
    /// List and show batches, or seal one now
    Batch(batch::BatchArguments),
    /// Rebuild the whole state from L1 alone
    Restore(restore::RestoreArguments),
    /// Make the proving keys of the batch circuits (single party: for development)
    Setup(setup::SetupArguments),
    /// Make proving keys by many parties: init, contribute, beacon, verify, export
    Ceremony(ceremony::CeremonyArguments),
    /// Prove the batches of a node on this machine
    Prover(prover::ProverArguments),
    /// Prove a circom circuit from its .zkey and .wtns files, as snarkjs and rapidsnark do
    Prove(prove::ProveArguments),
    /// Write one of our circuits' keys or witnesses for other tools
    Export(prove::ExportArguments),
    /// Check a batch's proof
    Verify(prover::VerifyArguments),
    /// Measure: circuit, prove, sequencer, channels, gas; compare two reports
    Bench(bench::BenchArguments),
    /// Show the main job from deposit to withdrawal and rebuilt state on the embedded chain
    Demo(crate::demo::DemoArguments),
    /// Print the effective configuration, secrets blanked
    Config(config::ConfigArguments),
    /// Print the completion script of a shell
    Completions(config::CompletionsArguments),
}

/// Runs a command.
///
/// # Errors
/// The [`Failure`] that the user reads.
pub async fn run(arguments: Arguments) -> Result<(), Failure> {
    let Arguments { global, command } = arguments;
    let output = Output::new(global.json);
    match command {
        Command::Dev(arguments) => node::dev(&global, output, arguments).await,
        Command::Deploy(arguments) => deploy::run(&global, output, arguments).await,
        Command::Node(arguments) => node::node(&global, output, arguments).await,
        Command::Wallet(arguments) => wallet::run(&global, output, arguments).await,
        Command::Pay(arguments) => pay::run(&global, output, arguments).await,
        Command::Channel(arguments) => channel::run(&global, output, arguments).await,
        Command::Tower(arguments) => tower::run(&global, output, arguments).await,
        Command::Batch(arguments) => batch::run(&global, output, arguments).await,
        Command::Restore(arguments) => restore::run(&global, output, arguments).await,
        Command::Setup(arguments) => setup::run(&global, output, arguments).await,
        Command::Ceremony(arguments) => ceremony::run(&global, output, arguments).await,
        Command::Prover(arguments) => prover::prover(&global, output, arguments).await,
        Command::Prove(arguments) => prove::prove(&global, output, arguments).await,
        Command::Export(arguments) => prove::export(&global, output, arguments).await,
        Command::Verify(arguments) => prover::verify(&global, output, arguments).await,
        Command::Bench(arguments) => bench::run(&global, output, arguments).await,
        Command::Demo(arguments) => crate::demo::run(&global, output, arguments).await,
        Command::Config(arguments) => config::show(&global, output, &arguments),
        Command::Completions(arguments) => config::completions(&arguments),
    }
}

/// Returns when the user or the system asks this process to end.
pub async fn stop_signal() {
    use tokio::signal::unix::{SignalKind, signal};
    let Ok(mut terminate) = signal(SignalKind::terminate()) else {
        // Without a handler the system's default ends the process, which every store survives.
        return std::future::pending().await;
    };
    tokio::select! {
        _ = terminate.recv() => {}
        _ = tokio::signal::ctrl_c() => {}
    }
}

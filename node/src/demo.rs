//! `millrace demo`: the main job on the embedded chain, as users would do it.
//!
//! ```text
//! node (chain, contract, sequencer, prover) → users → deposits → transfers, swap, rejections → withdrawals, forced exit
//! → batches proven on L1 → payments arrived → state rebuilt from L1 alone, roots compared → payment channels → closing table
//! ```
//!
//! It goes through the wallet, the HTTP API and the contract, and looks into nothing else.

use crate::cli::{Exit, Failure, Global, logging, node, restore, wallet as messages};
use crate::config::{Config, Role};
use crate::output::{Output, table};
use crate::wallet::contract::Contract;
use crate::wallet::node_client::NodeClient;
use crate::wiring::RunningNode;
use millrace_circuits::field::Word;
use millrace_l1::provider::L1Provider;
use serde::Serialize;
use std::collections::BTreeSet;
use std::path::PathBuf;
use std::time::{Duration, Instant};

pub mod channels;
mod money;
mod proving;
mod token;
mod users;

pub use proving::Gas;
use users::Users;

/// How long the demo waits for something before it calls that a failure.
const PATIENCE: Duration = Duration::from_secs(1800);
/// How often it looks.
const POLL: Duration = Duration::from_millis(100);

/// Options of `millrace demo`.
#[derive(Debug, clap::Args)]
pub struct DemoArguments {
    /// Transfers between users, besides the swap's two
    #[arg(long, value_name = "COUNT", default_value_t = 64)]
    pub transfers: usize,
    /// Users who deposit
    #[arg(long, value_name = "COUNT", default_value_t = 4, value_parser = clap::value_parser!(u32).range(3..=8))]
    pub users: u32,
    /// Circuits to fill: ids, separated by commas
    #[arg(long, value_name = "IDS", value_delimiter = ',', default_value = "1,2")]
    pub circuits: Vec<u16>,
    /// Only the payment channels: seconds, and no proving keys
    #[arg(long)]
    pub only_channels: bool,
    /// Keep chain, state and wallets in this folder, which must not exist; without it they are deleted at the end
    #[arg(long, value_name = "FOLDER")]
    pub keep: Option<PathBuf>,
}

/// What the demo did.
#[derive(Debug, Serialize)]
pub struct Summary {
    /// Transfers accepted, the swap's two included.
    pub transfers: usize,
    /// Transactions that were refused, as they should be.
    pub rejected: usize,
    /// Batches made.
    pub batches: u64,
    /// Batches whose proof the contract verified.
    pub proven: u64,
    /// Withdrawals that arrived on L1.
    pub withdrawn: usize,
    /// Forced exits that arrived on L1.
    pub forced_exits: usize,
    /// The node's root, as decimal text.
    pub state_root: Word,
    /// The root rebuilt from L1 alone.
    pub rebuilt_root: Word,
    /// Gas of each kind of L1 transaction.
    pub gas: Gas,
    /// Payments over channels: direct, routed, and secured by L1.
    pub channel_payments: usize,
    /// Gas of each kind of L1 transaction of the channels.
    pub channel_gas: std::collections::BTreeMap<String, u64>,
    /// What else the channels' part did.
    pub channels: channels::ChannelStory,
    /// Seconds of everything.
    pub seconds: f64,
    /// Seconds of each step.
    pub steps: Vec<Step>,
}

/// A step and its time.
#[derive(Debug, Clone, Serialize)]
pub struct Step {
    /// What was done.
    pub name: &'static str,
    /// What came out.
    pub result: String,
    /// How long it took.
    pub seconds: f64,
}

/// What all steps share.
pub(crate) struct Stage {
    output: Output,
    running: RunningNode,
    node: NodeClient,
    contract: Contract,
    folder: PathBuf,
    steps: Vec<Step>,
    since: Instant,
}

impl Stage {
    /// Notes a finished step and tells people.
    fn done(&mut self, name: &'static str, result: impl Into<String>) {
        let step = Step {
            name,
            result: result.into(),
            seconds: self.since.elapsed().as_secs_f64(),
        };
        self.output.say(format!(
            "{:>7.1} s  {:<28} {}",
            step.seconds, step.name, step.result
        ));
        self.steps.push(step);
        self.since = Instant::now();
    }
}

/// Runs the demo.
///
/// # Errors
/// [`Failure`], also where something came out otherwise than it must.
pub async fn run(global: &Global, output: Output, arguments: DemoArguments) -> Result<(), Failure> {
    logging::start_quiet(global);
    let started = Instant::now();
    let scratch = Scratch::new(arguments.keep.clone())?;
    if arguments.only_channels {
        crate::wiring::use_ring();
        let story = channels::run(output, &scratch.folder).await?;
        output.result(&story, || story.describe());
        return Ok(());
    }
    let mut stage = begin(output, scratch.folder.clone(), &arguments).await?;
    let result = perform(&mut stage, &arguments).await;
    let Stage { running, steps, .. } = stage;
    running.shutdown().await;
    let mut summary = result?;
    summary.seconds = started.elapsed().as_secs_f64();
    summary.steps = steps;
    output.result(&summary, || closing_table(&summary));
    Ok(())
}

/// A folder that goes away at the end unless it is to be kept.
struct Scratch {
    folder: PathBuf,
    keep: bool,
}

impl Scratch {
    fn new(keep: Option<PathBuf>) -> Result<Self, Failure> {
        let name = format!("millrace-demo-{}", std::process::id());
        let folder = keep
            .clone()
            .unwrap_or_else(|| std::env::temp_dir().join(name));
        if folder.exists() {
            return Err(
                Failure::new(Exit::Usage, format!("{} exists already", folder.display()))
                    .help("name a folder that does not exist"),
            );
        }
        crate::wallet::files::private_folder(&folder).map_err(|error| {
            Failure::because(
                Exit::Internal,
                format!("cannot make {}", folder.display()),
                &error,
            )
        })?;
        Ok(Self {
            folder,
            keep: keep.is_some(),
        })
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        if !self.keep {
            // What is left in a temporary folder does no harm.
            let _ = std::fs::remove_dir_all(&self.folder);
        }
    }
}

/// Starts chain, contract, sequencer and prover.
async fn begin(
    output: Output,
    folder: PathBuf,
    arguments: &DemoArguments,
) -> Result<Stage, Failure> {
    let since = Instant::now();
    let mut config = Config {
        data_dir: folder.join("node"),
        roles: BTreeSet::from([Role::Sequencer, Role::Prover]),
        ..Config::default()
    };
    let free = std::net::SocketAddr::from(([127, 0, 0, 1], 0));
    config.api.listen = free;
    config.l1.embedded_listen = Some(free);
    config.sequencer.circuits = arguments.circuits.clone();
    config.sequencer.seal_after_ms = 3_000;
    config
        .check()
        .map_err(|error| Failure::because(Exit::Usage, "the demo cannot run like this", &error))?;
    let bar = output.progress(
        0,
        "starting (the first time makes the proving keys, which takes minutes)",
    );
    let running = node::start(config).await?;
    bar.finish_and_clear();
    let l1_url = running.l1_url.clone().unwrap_or_default();
    let l1 = L1Provider::connect_url(&l1_url).await.map_err(|error| {
        Failure::because(
            Exit::Connection,
            "the embedded chain does not answer",
            &error,
        )
    })?;
    let mut stage = Stage {
        output,
        node: NodeClient::new(&running.api_url).map_err(messages::node_failure)?,
        contract: Contract::new(l1, running.contract),
        running,
        folder,
        steps: Vec::new(),
        since,
    };
    let contract = stage.contract.address().to_string();
    stage.done("chain, contract, node", format!("contract {contract}"));
    Ok(stage)
}

async fn perform(stage: &mut Stage, arguments: &DemoArguments) -> Result<Summary, Failure> {
    let token = token::deploy(stage).await?;
    let mut users = Users::fund(stage, arguments.users, &token).await?;
    let deposit_gas = money::deposit(stage, &mut users, &token).await?;
    let transfers = money::transfer(stage, &mut users, &token, arguments.transfers).await?;
    let rejected = money::reject(stage, &mut users).await?;
    let leaving = money::withdraw(stage, &mut users, &token).await?;
    let exit = money::force_exit(stage, &mut users).await?;
    let progress = proving::prove_everything(stage, exit).await?;
    let arrived = proving::arrivals(stage, &users, &leaving, exit).await?;
    let claim_gas = proving::claim(stage).await?;
    let rebuilt = rebuild(stage, &progress).await?;
    let story = channels::run(stage.output, &stage.folder).await?;
    stage.done(
        "payment channels",
        format!(
            "{} payments; a cheat answered by the tower",
            story.payments()
        ),
    );
    Ok(Summary {
        transfers,
        rejected,
        batches: progress.batches,
        proven: progress.proven,
        withdrawn: arrived.withdrawals,
        forced_exits: arrived.forced_exits,
        state_root: progress.state_root,
        rebuilt_root: rebuilt,
        gas: progress.gas(transfers, deposit_gas, claim_gas),
        channel_payments: story.payments(),
        channel_gas: story.gas.clone(),
        channels: story,
        seconds: 0.0,
        steps: Vec::new(),
    })
}

/// Rebuilds the state into a second database and compares.
async fn rebuild(stage: &mut Stage, progress: &proving::Progress) -> Result<Word, Failure> {
    let folder = stage.folder.join("rebuilt");
    let restored = restore::into(stage.contract.l1(), stage.running.contract, 0, &folder).await?;
    if restored.state_root != progress.state_root || !restored.is_proven_root {
        return Err(Failure::new(
            Exit::Verification,
            "the state rebuilt from L1 differs from the node's",
        ));
    }
    stage.done(
        "state rebuilt from L1 alone",
        "same root as node and contract",
    );
    Ok(restored.state_root)
}

fn closing_table(summary: &Summary) -> String {
    let Gas {
        commit,
        prove,
        deposit,
        claim,
        per_transfer,
    } = summary.gas;
    let rows = [
        (
            "transfers, two of them a swap",
            summary.transfers.to_string(),
        ),
        ("refused, as they must be", summary.rejected.to_string()),
        (
            "batches, proven on L1",
            format!("{}, {}", summary.batches, summary.proven),
        ),
        ("withdrawals arrived on L1", summary.withdrawn.to_string()),
        (
            "forced exits arrived on L1",
            summary.forced_exits.to_string(),
        ),
        ("state root", summary.state_root.0.to_string()),
        ("rebuilt from L1 alone", summary.rebuilt_root.0.to_string()),
        ("gas: a commit, its proof", format!("{commit}, {prove}")),
        ("gas: a deposit, a claim", format!("{deposit}, {claim}")),
        ("gas per transfer, all shared", per_transfer.to_string()),
        (
            "payments over channels",
            format!(
                "{} direct, {} routed, {} secured by a reveal",
                summary.channels.direct, summary.channels.routed, summary.channels.revealed
            ),
        ),
        (
            "an old state on L1",
            format!(
                "answered by the tower: the victim got {} wei",
                summary.channels.victim_got
            ),
        ),
        (
            "gas of channels",
            summary
                .channel_gas
                .iter()
                .map(|(name, gas)| format!("{name} {gas}"))
                .collect::<Vec<_>>()
                .join(", "),
        ),
        ("seconds", format!("{:.1}", summary.seconds)),
    ];
    let rows = rows.map(|(name, value)| [name.to_owned(), value]);
    format!(
        "\n{}\nThe proving keys are INSECURE-DEV: one party knows their secrets.",
        table(["the main job", "result"], rows)
    )
}

/// Looks again and again until there is something.
pub(crate) async fn wait_for<T>(
    what: &str,
    mut look: impl AsyncFnMut() -> Result<Option<T>, Failure>,
) -> Result<T, Failure> {
    let started = Instant::now();
    loop {
        if let Some(found) = look().await? {
            return Ok(found);
        }
        if started.elapsed() > PATIENCE {
            return Err(
                Failure::new(Exit::Internal, format!("gave up waiting for {what}"))
                    .help("run it again with --log info, which shows what the node does"),
            );
        }
        tokio::time::sleep(POLL).await;
    }
}

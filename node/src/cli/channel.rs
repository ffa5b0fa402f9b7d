//! `millrace channel`: open, pay, close and see payment channels of a running node.
//!
//! arguments → the node's HTTP API (`/v1/channels…`) → table or JSON;   `restore` alone works on the data folder of a stopped node
//!
//! Invoices, ways and payments over several hops are in [`payments`].

use crate::api::channels::{
    AmountBody, AnswerBody, ChannelBody, ChannelNodeBody, CloseBody, ConnectBody, OpenBody, PayBody,
};
use crate::api::page::Page;
use crate::api::problem::Problem;
use crate::cli::{Exit, Failure, Global, config, logging};
use crate::output::{Output, facts, table};
use crate::wiring::channels::{self, ChannelKeys, tower};
use crate::wiring::{self};
use clap::Subcommand;
use millrace_channels::machine::Identity;
use millrace_channels::node::backup;
use millrace_channels::node::restore::{self, Restored};
use millrace_channels::node::runtime::domain_of;
use millrace_channels::policy::Policy;
use millrace_channels::signing::address;
use millrace_channels::store::Store;
use millrace_channels::types::{Address as ChannelAddress, ChannelId};
use millrace_circuits::types::L1Address;
use rand::RngCore;
use rand::rngs::OsRng;
use reqwest::Method;
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::json;
use std::path::PathBuf;
use std::time::Duration;

pub mod payments;
pub mod stream;

/// Longest wait for the node's answer.
const TIMEOUT: Duration = Duration::from_secs(60);

/// Options of `millrace channel`.
#[derive(Debug, clap::Args)]
pub struct ChannelArguments {
    /// The node
    #[arg(
        long,
        global = true,
        value_name = "URL",
        env = "MILLRACE_NODE",
        default_value = "http://127.0.0.1:8280"
    )]
    pub node: String,
    /// The operator's token, where the node demands one
    #[arg(
        long,
        global = true,
        value_name = "TOKEN",
        env = "MILLRACE_API__OPERATOR_TOKEN"
    )]
    pub token: Option<String>,
    /// What to do
    #[command(subcommand)]
    pub action: Action,
}

/// What can be done with channels.
#[derive(Debug, Subcommand)]
pub enum Action {
    /// Show this node's key, addresses and account
    Node,
    /// Connect to a peer, now and after every restart: KEY@ADDRESS:PORT
    Connect {
        /// The peer
        #[arg(value_name = "KEY@ADDRESS")]
        peer: String,
    },
    /// List peers
    Peers,
    /// Open a channel with a connected peer
    Open {
        /// The peer's key, or KEY@ADDRESS:PORT to connect first
        peer: String,
        /// What we deposit, in the token's smallest unit (wei)
        amount: u128,
        /// The token's L1 address; without it, Ether
        #[arg(long, value_name = "ADDRESS")]
        asset: Option<L1Address>,
        /// Dispute window in seconds; a day without it
        #[arg(long, value_name = "SECONDS")]
        window: Option<u32>,
    },
    /// List channels
    List {
        /// Closed ones as well
        #[arg(long)]
        all: bool,
    },
    /// Show one channel, and what it waits for
    Show {
        /// The channel's id
        channel: String,
    },
    /// Pay more into a channel
    Deposit {
        /// The channel's id
        channel: String,
        /// How much, in the token's smallest unit
        amount: u128,
    },
    /// Take money out, with the counterparty
    Withdraw {
        /// The channel's id
        channel: String,
        /// How much, in the token's smallest unit
        amount: u128,
    },
    /// Pay the counterparty of a channel, once or again and again
    Pay(stream::PayArguments),
    /// Make, list, show, settle and cancel invoices
    Invoice {
        /// What to do
        #[command(subcommand)]
        action: payments::InvoiceAction,
    },
    /// Show the ways that a payment would go, with fees and chances; pays nothing
    Route(payments::RouteArguments),
    /// List payments over several channels, or show one
    Payments {
        /// The payment hash of one
        hash: Option<String>,
    },
    /// Close a channel, with the counterparty
    Close {
        /// The channel's id
        channel: String,
    },
    /// Close a channel without the counterparty: works always, takes the dispute window
    ForceClose {
        /// The channel's id
        channel: String,
    },
    /// Copy the encrypted backup of the configured node to a file
    Backup {
        /// Where to
        file: PathBuf,
    },
    /// Fill the empty data folder of a stopped node: from L1, the peers, and a backup if there is one
    Restore {
        /// The backup; without it, the recovery phrase, L1 and the peers are enough as long as the peers are honest
        file: Option<PathBuf>,
        /// A peer to connect to, so that it gives back what is missing; may be given several times
        #[arg(long = "peer", value_name = "KEY@ADDRESS")]
        peers: Vec<String>,
    },
    /// Deploy the channels' contract on the configured L1, from the hot key's account
    Deploy,
}

/// Runs a channel command.
///
/// # Errors
/// [`Failure`].
pub async fn run(
    global: &Global,
    output: Output,
    arguments: ChannelArguments,
) -> Result<(), Failure> {
    logging::start_quiet(global);
    let client = Client::new(&arguments.node, arguments.token.clone())?;
    match arguments.action {
        Action::Node => node(output, &client).await,
        Action::Connect { peer } => {
            connect(&client, &peer).await?;
            output.result(&json!({ "result": "done" }), || {
                "dialling; `millrace channel peers` shows when it is connected".to_owned()
            });
            Ok(())
        }
        Action::Peers => peers(output, &client).await,
        Action::Open {
            peer,
            amount,
            asset,
            window,
        } => open(output, &client, &peer, amount, asset, window).await,
        Action::List { all } => list(output, &client, all).await,
        Action::Show { channel } => show(output, &client, &channel).await,
        Action::Deposit { channel, amount } => {
            let body = AmountBody {
                amount: amount.to_string(),
            };
            let path = format!("/v1/channels/{channel}/deposit");
            say(
                output,
                client.post(&path, &body, None).await?,
                "the deposit is on its way to L1",
            )
        }
        Action::Withdraw { channel, amount } => {
            let body = AmountBody {
                amount: amount.to_string(),
            };
            let path = format!("/v1/channels/{channel}/withdraw");
            say(
                output,
                client.post(&path, &body, None).await?,
                "the counterparty is asked to sign; L1 pays it out then",
            )
        }
        Action::Pay(arguments) => stream::run(output, &client, arguments).await,
        Action::Invoice { action } => payments::invoice(output, &client, action).await,
        Action::Route(arguments) => payments::route(output, &client, &arguments).await,
        Action::Payments { hash } => payments::list(output, &client, hash.as_deref()).await,
        Action::Close { channel } => close(output, &client, &channel, false).await,
        Action::ForceClose { channel } => close(output, &client, &channel, true).await,
        Action::Backup { file } => copy_backup(global, output, &file),
        Action::Restore { file, peers } => restore_folder(global, output, file, &peers).await,
        Action::Deploy => deploy(global, output).await,
    }
}

/// A text that nobody has drawn before.
fn random_text() -> String {
    format!("{:016x}{:016x}", OsRng.next_u64(), OsRng.next_u64())
}

fn say(output: Output, answer: AnswerBody, text: &str) -> Result<(), Failure> {
    output.result(&answer, || match &answer.id {
        Some(id) => format!("{text} ({id})"),
        None => text.to_owned(),
    });
    Ok(())
}

async fn node(output: Output, client: &Client) -> Result<(), Failure> {
    let node: ChannelNodeBody = client.get("/v1/channel-node").await?;
    output.result(&node, || {
        let mut rows = vec![
            ("key", node.key.clone()),
            (
                "listens at",
                node.listen
                    .clone()
                    .unwrap_or_else(|| "nowhere: it dials only".to_owned()),
            ),
            ("account, for gas and deposits", node.account.clone()),
            ("pays out to", node.payout.clone()),
            ("contract", node.contract.clone()),
            (
                "L1 head",
                node.l1_head
                    .map(|head| head.to_string())
                    .unwrap_or_default(),
            ),
        ];
        rows.extend(
            node.l1_problem
                .clone()
                .map(|problem| ("L1 problem", problem)),
        );
        rows.extend(
            node.openings
                .iter()
                .map(|opening| ("opening, waits for", opening.waiting.what.clone())),
        );
        facts(rows)
    });
    Ok(())
}

async fn peers(output: Output, client: &Client) -> Result<(), Failure> {
    let node: ChannelNodeBody = client.get("/v1/channel-node").await?;
    output.result(&node.peers, || {
        let rows = node.peers.iter().map(|peer| {
            let state = if peer.connected { "connected" } else { "away" };
            [
                peer.key.clone(),
                peer.address.clone().unwrap_or_default(),
                state.to_owned(),
            ]
        });
        table(["key", "address", "state"], rows)
    });
    Ok(())
}

async fn connect(client: &Client, peer: &str) -> Result<(), Failure> {
    let at = tower(peer).map_err(|error| Failure::new(Exit::Usage, error.to_string()))?;
    let body = ConnectBody {
        key: at.key.to_string(),
        address: at.address.to_string(),
    };
    let _: AnswerBody = client.post("/v1/channel-peers", &body, None).await?;
    Ok(())
}

async fn open(
    output: Output,
    client: &Client,
    peer: &str,
    amount: u128,
    asset: Option<L1Address>,
    window: Option<u32>,
) -> Result<(), Failure> {
    let key = match peer.split_once('@') {
        Some((key, _)) => {
            connect(client, peer).await?;
            wait_connected(client, key).await?;
            key
        }
        None => peer,
    };
    let body = OpenBody {
        peer: key.to_owned(),
        token: asset,
        amount: amount.to_string(),
        window_secs: window,
    };
    let answer: AnswerBody = client.post("/v1/channels", &body, None).await?;
    say(
        output,
        answer,
        "the peer is asked, then the deposit goes to L1; `millrace channel list` shows the channel",
    )
}

async fn wait_connected(client: &Client, key: &str) -> Result<(), Failure> {
    let key = key.trim_start_matches("0x").to_lowercase();
    for _ in 0..100 {
        let node: ChannelNodeBody = client.get("/v1/channel-node").await?;
        let there = |peer: &crate::api::channels::PeerBody| {
            peer.connected && peer.key.trim_start_matches("0x") == key
        };
        if node.peers.iter().any(there) {
            return Ok(());
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    Err(Failure::new(Exit::Connection, "the peer does not answer")
        .help("check key and address, and that its node runs; the node goes on dialling"))
}

async fn list(output: Output, client: &Client, all: bool) -> Result<(), Failure> {
    let mut channels = Vec::new();
    let mut cursor = String::new();
    loop {
        let page: Page<ChannelBody> = client
            .get(&format!("/v1/channels?limit=1000{cursor}"))
            .await?;
        channels.extend(page.items);
        match page.next_cursor {
            Some(next) => cursor = format!("&cursor={next}"),
            None => break,
        }
    }
    channels.retain(|channel| all || channel.phase != "closed");
    output.result(&channels, || {
        let rows = channels.iter().map(|channel| {
            [
                channel.id.clone(),
                channel.phase.clone(),
                channel.can_send.clone(),
                channel.can_receive.clone(),
                channel
                    .waiting
                    .first()
                    .map(|waiting| waiting.what.clone())
                    .unwrap_or_default(),
            ]
        });
        table(
            ["channel", "phase", "can send", "can receive", "waits for"],
            rows,
        )
    });
    Ok(())
}

async fn show(output: Output, client: &Client, channel: &str) -> Result<(), Failure> {
    let channel: ChannelBody = client.get(&format!("/v1/channels/{channel}")).await?;
    output.result(&channel, || {
        let mut rows = vec![
            ("channel", channel.id.clone()),
            ("peer", channel.peer.clone()),
            ("phase", channel.phase.clone()),
            ("can send", channel.can_send.clone()),
            ("can receive", channel.can_receive.clone()),
            ("sent, ever", channel.sent.clone()),
            ("received, ever", channel.received.clone()),
            ("held by L1 for both", channel.pot.clone()),
            ("guarded by towers", channel.guarded_by.to_string()),
        ];
        if channel.released > 0 {
            let (released, by) = (channel.released, channel.released_guarded_by);
            let text = format!("{released}, all of them held by {by} towers");
            rows.push(("preimages released", text));
        }
        for waiting in &channel.waiting {
            let until = waiting
                .until
                .map(|until| format!(", until Unix time {until}"))
                .unwrap_or_default();
            rows.push(("waits for", format!("{}{until}", waiting.what)));
            rows.push(("what ends it", waiting.command.clone()));
        }
        facts(rows)
    });
    Ok(())
}

async fn close(output: Output, client: &Client, channel: &str, force: bool) -> Result<(), Failure> {
    let path = format!("/v1/channels/{channel}/close");
    let answer = client.post(&path, &CloseBody { force }, None).await?;
    let text = match force {
        false => "the counterparty is asked to sign; L1 pays both out then",
        true => {
            "it is being closed on L1; `millrace channel show` says until when it can be disputed"
        }
    };
    say(output, answer, text)
}

fn copy_backup(global: &Global, output: Output, file: &std::path::Path) -> Result<(), Failure> {
    let config = config::load(global, &json!({}))?;
    let path = config
        .channels
        .backup
        .clone()
        .unwrap_or_else(|| config.data_dir.join("channels.backup"));
    let bytes = std::fs::read(&path).map_err(|error| {
        Failure::because(
            Exit::NotFound,
            format!("no backup at {}", path.display()),
            &error,
        )
        .help("a node with channels writes it a few seconds after its start")
    })?;
    crate::wallet::files::replace(file, &bytes).map_err(|error| {
        Failure::because(
            Exit::Internal,
            format!("cannot write {}", file.display()),
            &error,
        )
    })?;
    output.result(&json!({ "file": file, "bytes": bytes.len() }), || {
        format!(
            "{} bytes; it opens with the wallet's recovery phrase only",
            bytes.len()
        )
    });
    Ok(())
}

async fn restore_folder(
    global: &Global,
    output: Output,
    file: Option<PathBuf>,
    peers: &[String],
) -> Result<(), Failure> {
    let config = config::load(global, &json!({}))?;
    let peers = peers
        .iter()
        .map(|peer| tower(peer))
        .collect::<Result<Vec<_>, _>>();
    let peers = peers.map_err(|error| Failure::new(Exit::Usage, error.to_string()))?;
    let start = |error: wiring::StartError| super::node::not_started("nothing is restored", &error);
    std::fs::create_dir_all(&config.data_dir).map_err(|error| {
        Failure::because(Exit::Internal, "the data folder cannot be made", &error)
    })?;
    let l1 = wiring::chain::connect(&config).await.map_err(start)?;
    let keys = ChannelKeys::open(&config.channels, l1.embedded.is_some()).map_err(start)?;
    let chain = channels::on_chain(&config, &l1, &keys, &config.data_dir)
        .await
        .map_err(start)?;
    let payout = config.channels.payout;
    let payout = payout.map_or(keys.wallet.into_array(), |payout| payout.0);
    let failed = |error: &dyn std::error::Error| {
        Failure::because(Exit::Refused, "nothing is restored", error)
    };
    let key = keys.hot.public();
    let signer =
        address(&key).ok_or_else(|| Failure::new(Exit::Keys, "the hot key has no address"))?;
    let identity = Identity {
        key,
        signer,
        payout: ChannelAddress(payout),
        domain: domain_of(&chain.config.client, &l1.provider),
        policy: Policy::default(),
    };
    let found = restore::find_on_chain(&chain.config, signer).await;
    let found = found.map_err(|error| {
        Failure::because(Exit::Connection, "nothing is restored", &error)
            .help("L1 says which channels there are: see that l1.urls serves the contract's logs")
    })?;
    let store = Store::open(&config.data_dir.join("channels")).map_err(|error| failed(&error))?;
    let target = file.map(|path| backup::BackupTarget {
        path,
        ..keys.backup(&config.channels, &config.data_dir)
    });
    let restored = restore::restore(
        identity,
        &store,
        target.as_ref(),
        &found,
        &peers,
        &*keys.hot,
    )
    .map_err(|error| failed(&error))?;
    say_restored(output, &restored, config.channels.towers.len());
    Ok(())
}

fn say_restored(output: Output, restored: &Restored, towers: usize) {
    let (of_file, of_chain) = (restored.from_backup, restored.from_chain.len());
    let texts = |ids: &[ChannelId]| ids.iter().map(ToString::to_string).collect::<Vec<_>>();
    let left_out: Vec<_> = restored
        .left_out
        .iter()
        .map(|(id, reason)| json!({ "channel": id.to_string(), "reason": reason }))
        .collect();
    let result = json!({
        "channels": of_file + of_chain, "from_backup": of_file, "from_chain": texts(&restored.from_chain),
        "left_out": left_out, "towers": towers, "unread_bytes": restored.unread_bytes,
    });
    let asked = match towers {
        0 => String::new(),
        _ => format!(
            " It asks {towers} towers of channels.towers first, and hears the peers when they have answered, or after a minute."
        ),
    };
    let unread = match restored.unread_bytes {
        0 => String::new(),
        bytes => format!(
            " The last {bytes} bytes of the backup do not open, as after a crash while they were written: it is restored as of before them."
        ),
    };
    output.result(&result, || {
        let left_out = restored.left_out.iter().map(|(id, reason)| {
            format!("\nleft out {id}: {reason}; see that channels.payout is what it was")
        });
        format!(
            "{of_file} channels of the backup, {of_chain} that only L1 knows. Start the node: it signs nothing on a channel \
             until the peer has said what it holds and given back what is missing. Peers that were not named with --peer: \
             `millrace channel connect`.{asked}{unread}{}",
            left_out.collect::<String>()
        )
    });
}

async fn deploy(global: &Global, output: Output) -> Result<(), Failure> {
    let config = config::load(global, &json!({}))?;
    let start = |error: wiring::StartError| super::node::not_started("nothing is deployed", &error);
    let l1 = wiring::chain::connect(&config).await.map_err(start)?;
    let keys = ChannelKeys::open(&config.channels, l1.embedded.is_some()).map_err(start)?;
    let sender = millrace_l1::sender::TransactionSender::in_memory(
        l1.provider.clone(),
        keys.account.clone(),
    );
    let landed = millrace_l1::channels_client::ChannelsClient::deploy(&sender, "deploy-channels");
    let landed = landed.await.map_err(|error| {
        Failure::because(Exit::Refused, "the contract is not deployed", &error)
            .help(format!("keep ETH for gas at {}", keys.account.address()))
    })?;
    let address = landed.value.address();
    let block = landed.receipt.block_number.unwrap_or_default();
    output.result(
        &json!({ "contract": address, "from_block": block, "gas": landed.receipt.gas_used }),
        || format!("[channels]\ncontract = \"{address}\"\nfrom_block = {block}"),
    );
    Ok(())
}

/// Why the node's API gave no answer.
pub(crate) enum Unanswered {
    /// It refuses, with a stable code.
    Refused(Box<Problem>),
    /// It does not answer, or makes no sense: what was asked may have happened.
    Lost(Failure),
}

impl From<Unanswered> for Failure {
    fn from(unanswered: Unanswered) -> Self {
        match unanswered {
            Unanswered::Lost(failure) => failure,
            Unanswered::Refused(problem) => Self::new(
                match problem.status {
                    404 => Exit::NotFound,
                    _ => Exit::Refused,
                },
                format!("{}: {}", problem.title, problem.detail),
            )
            .help(problem.code.fix()),
        }
    }
}

/// The node's API.
pub(crate) struct Client {
    url: String,
    token: Option<String>,
    http: reqwest::Client,
}

impl Client {
    pub(crate) fn new(url: &str, token: Option<String>) -> Result<Self, Failure> {
        let http = reqwest::Client::builder().timeout(TIMEOUT).build();
        let http = http.map_err(|error| {
            Failure::because(Exit::Internal, "the HTTP client does not start", &error)
        })?;
        Ok(Self {
            url: url.trim_end_matches('/').to_owned(),
            token,
            http,
        })
    }

    pub(crate) async fn get<T: DeserializeOwned>(&self, path: &str) -> Result<T, Failure> {
        Ok(self.try_get(path).await?)
    }

    pub(crate) async fn try_get<T: DeserializeOwned>(&self, path: &str) -> Result<T, Unanswered> {
        self.answer(self.request(Method::GET, path)).await
    }

    /// Each request that moves money has a key of its own, so that the client's repetition of it does nothing twice.
    pub(crate) async fn post<T: DeserializeOwned>(
        &self,
        path: &str,
        body: &impl Serialize,
        key: Option<String>,
    ) -> Result<T, Failure> {
        Ok(self.try_post(path, body, key).await?)
    }

    pub(crate) async fn try_post<T: DeserializeOwned>(
        &self,
        path: &str,
        body: &impl Serialize,
        key: Option<String>,
    ) -> Result<T, Unanswered> {
        let key = key.unwrap_or_else(random_text);
        let request = self.request(Method::POST, path);
        self.answer(request.header("idempotency-key", key).json(body))
            .await
    }

    fn request(&self, method: Method, path: &str) -> reqwest::RequestBuilder {
        let request = self.http.request(method, format!("{}{path}", self.url));
        match &self.token {
            Some(token) => request.bearer_auth(token),
            None => request,
        }
    }

    async fn answer<T: DeserializeOwned>(
        &self,
        request: reqwest::RequestBuilder,
    ) -> Result<T, Unanswered> {
        let lost = |error: &reqwest::Error| {
            let failure = Failure::because(
                Exit::Connection,
                format!("no answer from the node at {}", self.url),
                error,
            );
            Unanswered::Lost(failure.help("start it with channels.enabled = true, or pass --node"))
        };
        let answer = request.send().await.map_err(|error| lost(&error))?;
        if answer.status().is_success() {
            return answer.json().await.map_err(|error| lost(&error));
        }
        let status = answer.status();
        let problem = answer.json::<Problem>().await;
        Err(match problem {
            Ok(problem) => Unanswered::Refused(Box::new(problem)),
            Err(_) => Unanswered::Lost(Failure::new(
                Exit::Connection,
                format!(
                    "{} answered {status}, which is no answer of a millrace node",
                    self.url
                ),
            )),
        })
    }
}

//! `millrace wallet`: keys, money in, money around, money out.
//!
//! ```text
//! options → [`Context`] (folder, password, node, L1, rollup) → keys | money | swap | exits | history → result
//! ```
//!
//! The wallet's folder holds keystore.json (encrypted), book.json, journal.jsonl and rollup.json: the rollup it was first
//! used with, so that a node cannot silently name another contract.

use crate::cli::{Exit, Failure, Global, logging};
use crate::output::Output;
use crate::wallet::contract::{Contract, ContractError, TokenInfo};
use crate::wallet::files;
use crate::wallet::keys::{KeySource, KeysError, RollupIdentity};
use crate::wallet::keystore::{Keystore, KeystoreError};
use crate::wallet::node_client::{NodeClient, NodeError};
use crate::wallet::payments::{PayError, Wallet};
use crate::wallet::{BookError, JournalError, amounts};
use alloy::primitives::Address;
use clap::Subcommand;
use millrace_circuits::types::{Amount, L1Address, TokenId};
use millrace_l1::provider::L1Provider;
use serde::{Deserialize, Serialize};
use std::io::IsTerminal;
use std::path::PathBuf;
use zeroize::Zeroizing;

pub mod exits;
pub mod history;
pub mod keys;
pub mod money;
pub mod swap;

/// Options of `millrace wallet`.
#[derive(Debug, clap::Args)]
pub struct WalletArguments {
    /// Where the wallet and its counterparts are
    #[command(flatten)]
    pub options: WalletOptions,
    /// What to do
    #[command(subcommand)]
    pub action: Action,
}

/// Where the wallet, the node and L1 are.
#[derive(Debug, Clone, clap::Args)]
pub struct WalletOptions {
    /// Folder of the wallet; without it, millrace/wallet in the user's data directory
    #[arg(long, global = true, value_name = "FOLDER", env = "MILLRACE_WALLET")]
    pub dir: Option<PathBuf>,
    /// The node
    #[arg(
        long,
        global = true,
        value_name = "URL",
        env = "MILLRACE_NODE",
        default_value = "http://127.0.0.1:8280"
    )]
    pub node: String,
    /// An endpoint of L1
    #[arg(
        long,
        global = true,
        value_name = "URL",
        env = "MILLRACE_L1_URL",
        default_value = "http://127.0.0.1:8545"
    )]
    pub l1: String,
    /// The rollup contract; without it, the one the wallet was first used with
    #[arg(long, global = true, value_name = "ADDRESS", env = "MILLRACE_CONTRACT")]
    pub contract: Option<L1Address>,
    /// File with the password; without it, MILLRACE_PASSWORD, or a question on the terminal
    #[arg(long, global = true, value_name = "FILE")]
    pub password_file: Option<PathBuf>,
    /// Number of the keys in the wallet
    #[arg(long, global = true, value_name = "NUMBER", default_value_t = 0)]
    pub number: u32,
}

/// What a wallet does.
#[derive(Debug, Subcommand)]
pub enum Action {
    /// Make a wallet with a new recovery phrase
    New(keys::NewArguments),
    /// Make a wallet from a recovery phrase or an L1 private key
    Import(keys::ImportArguments),
    /// Show the payment address and the L1 address
    Address,
    /// List accounts and balances
    Accounts,
    /// Pay into the rollup from L1
    Deposit(money::DepositArguments),
    /// Pay someone in the rollup
    Transfer(money::TransferArguments),
    /// Swap tokens with someone: both payments happen, or none
    Swap(swap::SwapArguments),
    /// Leave the rollup: money arrives at the L1 address once the batch is proven
    Withdraw(money::WithdrawArguments),
    /// Fetch on L1 what is owed: payments that failed, or those of a proven batch
    Claim(exits::ClaimArguments),
    /// Ask L1 to have an account's whole balance paid out; the operator cannot refuse
    ForcedExit(exits::ForcedExitArguments),
    /// Leave a dead rollup with only L1 and the recovery phrase
    EscapeExit(exits::EscapeExitArguments),
    /// Get deposits back that a dead rollup never took
    CancelDeposit(exits::CancelDepositArguments),
    /// List what was signed, requested and paid
    History(history::HistoryArguments),
}

/// Runs a wallet command.
///
/// # Errors
/// [`Failure`].
pub async fn run(
    global: &Global,
    output: Output,
    arguments: WalletArguments,
) -> Result<(), Failure> {
    logging::start_quiet(global);
    let context = Context::new(output, arguments.options)?;
    match arguments.action {
        Action::New(arguments) => keys::new(&context, &arguments),
        Action::Import(arguments) => keys::import(&context, &arguments).await,
        Action::Address => keys::address(&context).await,
        Action::Accounts => money::accounts(&context).await,
        Action::Deposit(arguments) => money::deposit(&context, &arguments).await,
        Action::Transfer(arguments) => money::transfer(&context, &arguments).await,
        Action::Swap(arguments) => swap::run(&context, &arguments).await,
        Action::Withdraw(arguments) => money::withdraw(&context, &arguments).await,
        Action::Claim(arguments) => exits::claim(&context, &arguments).await,
        Action::ForcedExit(arguments) => exits::forced_exit(&context, &arguments).await,
        Action::EscapeExit(arguments) => exits::escape_exit(&context, &arguments).await,
        Action::CancelDeposit(arguments) => exits::cancel_deposit(&context, &arguments).await,
        Action::History(arguments) => history::run(&context, &arguments).await,
    }
}

/// The rollup that a wallet was first used with.
#[derive(Serialize, Deserialize)]
struct Pinned {
    chain_id: u64,
    contract: L1Address,
}

/// What the wallet commands share.
pub struct Context {
    output: Output,
    pub(crate) options: WalletOptions,
    pub(crate) folder: PathBuf,
}

impl Context {
    pub(crate) fn new(output: Output, options: WalletOptions) -> Result<Self, Failure> {
        let folder = match &options.dir {
            Some(folder) => folder.clone(),
            None => default_folder()?,
        };
        Ok(Self {
            output,
            options,
            folder,
        })
    }

    fn keystore(&self) -> Keystore {
        Keystore::new(self.folder.join("keystore.json"))
    }

    pub(crate) fn create_folder(&self) -> Result<(), Failure> {
        files::private_folder(&self.folder).map_err(|error| {
            Failure::because(
                Exit::Keys,
                format!("cannot create {}", self.folder.display()),
                &error,
            )
        })
    }

    /// The keys' source, decrypted.
    fn source(&self) -> Result<KeySource, Failure> {
        let keystore = self.keystore();
        if !keystore.exists() {
            return Err(keystore_failure(KeystoreError::Missing(
                keystore.path().to_owned(),
            )));
        }
        let password = self.password("Password of the wallet: ")?;
        keystore.open(&password).map_err(keystore_failure)
    }

    fn password(&self, question: &str) -> Result<Zeroizing<String>, Failure> {
        if let Some(path) = &self.options.password_file {
            return files::password(path).map_err(|error| {
                Failure::because(
                    Exit::Keys,
                    format!("cannot read {}", path.display()),
                    &error,
                )
            });
        }
        if let Ok(password) = std::env::var("MILLRACE_PASSWORD") {
            return Ok(Zeroizing::new(password));
        }
        ask(question)
    }

    fn node(&self) -> Result<NodeClient, Failure> {
        NodeClient::new(&self.options.node).map_err(node_failure)
    }

    async fn l1(&self) -> Result<L1Provider, Failure> {
        L1Provider::connect_url(&self.options.l1)
            .await
            .map_err(|error| {
                Failure::because(
                    Exit::Connection,
                    format!("no L1 at {}", self.options.l1),
                    &error,
                )
                .help("pass --l1 with the URL of an endpoint of the chain that holds the rollup")
            })
    }

    /// The contract on L1. Needs no node if the contract is named or was used before.
    async fn contract(&self) -> Result<Contract, Failure> {
        let l1 = self.l1().await?;
        let address = match (self.options.contract, self.pinned()?) {
            (Some(contract), _) => contract,
            (None, Some(pinned)) => pinned.contract,
            (None, None) => self.ask_node().await?.contract,
        };
        let contract = Contract::new(l1, address);
        self.check_chain(&contract)?;
        Ok(contract)
    }

    fn check_chain(&self, contract: &Contract) -> Result<(), Failure> {
        let got = contract.identity();
        match self.pinned()? {
            Some(pinned) if pinned.contract == got.contract && pinned.chain_id != got.chain_id => {
                Err(Failure::new(
                    Exit::Configuration,
                    format!(
                        "this wallet's rollup is on chain {}, the endpoint serves {}",
                        pinned.chain_id, got.chain_id
                    ),
                )
                .help("pass --l1 with an endpoint of the right chain"))
            }
            _ => Ok(()),
        }
    }

    /// The rollup to sign for: named, used before, or asked of the node and then kept.
    async fn rollup(&self) -> Result<RollupIdentity, Failure> {
        if self.options.contract.is_some() {
            return Ok(self.contract().await?.identity());
        }
        match self.pinned()? {
            Some(Pinned { chain_id, contract }) => Ok(RollupIdentity { chain_id, contract }),
            None => self.ask_node().await,
        }
    }

    async fn ask_node(&self) -> Result<RollupIdentity, Failure> {
        let info = self.node()?.info().await.map_err(node_failure)?;
        let pinned = Pinned {
            chain_id: info.chain_id,
            contract: info.contract,
        };
        self.create_folder()?;
        let bytes = serde_json::to_vec_pretty(&pinned).expect("two plain fields serialise");
        files::replace(&self.pinned_path(), &bytes)
            .map_err(|error| Failure::because(Exit::Keys, "cannot note the rollup", &error))?;
        Ok(RollupIdentity {
            chain_id: info.chain_id,
            contract: info.contract,
        })
    }

    fn pinned_path(&self) -> PathBuf {
        self.folder.join("rollup.json")
    }

    fn pinned(&self) -> Result<Option<Pinned>, Failure> {
        let path = self.pinned_path();
        let Ok(bytes) = std::fs::read(&path) else {
            return Ok(None);
        };
        serde_json::from_slice(&bytes).map(Some).map_err(|error| {
            Failure::because(Exit::Keys, format!("{} is damaged", path.display()), &error)
                .help("delete it; the rollup is asked of the node again")
        })
    }

    /// The wallet, open for signing.
    pub(crate) async fn wallet(&self) -> Result<Wallet, Failure> {
        let rollup = self.rollup().await?;
        Wallet::open(&self.folder, self.source()?, rollup).map_err(pay_failure)
    }

    /// A token by "eth", number or L1 address. What it calls itself is asked of L1 only if `describe`.
    async fn token(&self, text: &str, describe: bool) -> Result<TokenInfo, Failure> {
        let number = match text.to_ascii_lowercase().as_str() {
            "eth" | "0" => TokenId::ZERO,
            address if address.starts_with("0x") => return self.token_by_address(text).await,
            number => number
                .parse()
                .ok()
                .and_then(|n| TokenId::new(n).ok())
                .ok_or_else(|| {
                    Failure::new(Exit::Usage, format!("{text:?} is no token"))
                        .help("write eth, the token's number, or its L1 address")
                })?,
        };
        if !number.is_zero() && !describe {
            let symbol = format!("token {number}");
            return Ok(TokenInfo {
                number,
                address: None,
                symbol,
                decimals: 0,
            });
        }
        if number.is_zero() {
            let (symbol, decimals) = ("ETH".into(), amounts::ETH_DECIMALS);
            return Ok(TokenInfo {
                number,
                address: None,
                symbol,
                decimals,
            });
        }
        self.contract()
            .await?
            .token(number)
            .await
            .map_err(contract_failure)
    }

    async fn token_by_address(&self, text: &str) -> Result<TokenInfo, Failure> {
        let address: Address = text
            .parse()
            .map_err(|_| Failure::new(Exit::Usage, format!("{text:?} is no L1 address")))?;
        let contract = self.contract().await?;
        let number = contract
            .token_number(address)
            .await
            .map_err(contract_failure)?;
        let number = number.ok_or_else(|| {
            Failure::new(
                Exit::NotFound,
                format!("{address} is not registered in this rollup"),
            )
            .help("`millrace wallet deposit --register` registers it")
        })?;
        contract.token(number).await.map_err(contract_failure)
    }

    /// A token and an amount of it. Amounts in smallest units need no L1.
    async fn amount(&self, token: &str, text: &str) -> Result<(TokenInfo, Amount), Failure> {
        let units = text.ends_with('u') || text.ends_with("wei");
        let token = self.token(token, !units).await?;
        let amount = amounts::parse(text, token.decimals)
            .map_err(|error| Failure::because(Exit::Usage, "the amount cannot be used", &error))?;
        Ok((token, amount))
    }
}

fn default_folder() -> Result<PathBuf, Failure> {
    let absolute = |name| {
        std::env::var_os(name)
            .map(PathBuf::from)
            .filter(|path| path.is_absolute())
    };
    let data = absolute("XDG_DATA_HOME")
        .or_else(|| absolute("HOME").map(|home| home.join(".local/share")));
    data.map(|data| data.join("millrace").join("wallet"))
        .ok_or_else(|| {
            Failure::new(Exit::Usage, "no home directory to keep the wallet in").help("pass --dir")
        })
}

/// Asks on the terminal without showing the answer.
fn ask(question: &str) -> Result<Zeroizing<String>, Failure> {
    if !std::io::stdin().is_terminal() {
        return Err(
            Failure::new(Exit::Keys, "no password, and no terminal to ask on")
                .help("pass --password-file, or set MILLRACE_PASSWORD"),
        );
    }
    rpassword::prompt_password(question)
        .map(Zeroizing::new)
        .map_err(|error| Failure::because(Exit::Keys, "the password cannot be read", &error))
}

/// What a user reads when the node does not answer as hoped.
pub(crate) fn node_failure(error: NodeError) -> Failure {
    match &error {
        NodeError::Unreachable { .. } => {
            Failure::because(Exit::Connection, "the node cannot be reached", &error)
                .help("start one with `millrace dev`, or pass --node with its address")
        }
        NodeError::NotUnderstood { .. } => {
            Failure::because(Exit::Connection, "the node's answer makes no sense", &error)
                .help("pass --node with the address of a millrace node")
        }
        NodeError::Refused(problem) => {
            let fix = problem.fix.clone();
            let code = problem.code;
            Failure::because(Exit::Refused, format!("the node refuses ({code})"), &error).help(fix)
        }
    }
}

/// What a user reads when L1 does not do it.
pub(crate) fn contract_failure(error: ContractError) -> Failure {
    match &error {
        ContractError::Refused { .. } => {
            Failure::because(Exit::Refused, "the contract refuses", &error).help(
                "nothing was paid; the values in the contract's error say which rule it breaks",
            )
        }
        ContractError::Reverted { .. } => {
            Failure::because(Exit::Refused, "the transaction failed on L1", &error)
        }
        _ => Failure::because(Exit::Connection, "L1 does not do it", &error)
            .help("check the endpoint, and that the L1 account holds enough ETH for the fee"),
    }
}

/// What a user reads when the keystore does not open.
pub(crate) fn keystore_failure(error: KeystoreError) -> Failure {
    let help = match &error {
        KeystoreError::Missing(_) => {
            "make one with `millrace wallet new` or `millrace wallet import`, or pass --dir"
        }
        KeystoreError::Exists(_) => "pass --dir for another wallet",
        KeystoreError::WrongPassword(_) => {
            "try again; without the password, import the recovery phrase into a new folder"
        }
        _ => "`millrace wallet import` makes the wallet again from its recovery phrase",
    };
    Failure::because(Exit::Keys, "the wallet cannot be used", &error).help(help)
}

/// What a user reads about keys.
pub(crate) fn keys_failure(error: KeysError) -> Failure {
    Failure::because(Exit::Keys, "the keys cannot be used", &error)
}

/// What a user reads when a payment does not go out.
pub(crate) fn pay_failure(error: PayError) -> Failure {
    match error {
        PayError::Keys(error) => keys_failure(error),
        PayError::Node(error) => node_failure(error),
        PayError::Refused {
            error: node @ NodeError::Refused(_),
            id,
        } => {
            let failure = node_failure(node);
            tracing::info!(%id, "refused");
            failure
        }
        PayError::Unknown { .. } => Failure::because(
            Exit::Unknown,
            "the payment may or may not have gone out",
            &error,
        )
        .help("run the same command again: it sends the same signature, and nothing is paid twice"),
        PayError::Journal(JournalError::Locked(_)) => {
            Failure::because(Exit::Keys, "the wallet is in use", &error)
        }
        PayError::Journal(_)
        | PayError::Book(BookError::Damaged { .. } | BookError::Io { .. })
        | PayError::Folder { .. } => {
            Failure::because(Exit::Keys, "the wallet's files cannot be used", &error)
        }
        PayError::NoAccount { .. } => Failure::because(
            Exit::NotFound,
            "there is no account to pay from",
            &error,
        )
        .help(
            "deposit first, and wait until the deposit is in a batch: `millrace wallet accounts`",
        ),
        PayError::OtherRollup { .. } => Failure::because(
            Exit::Configuration,
            "the node serves another rollup",
            &error,
        )
        .help("pass --node with the right node, or --contract if the change is intended"),
        PayError::Amount(_) => Failure::because(Exit::Usage, "the amount cannot be sent", &error),
        other => Failure::because(Exit::Refused, "the payment cannot be made", &other),
    }
}

//! The channels' part of a node: keys, contract, connections, runtime; and the tower, which is a role of its own.
//!
//! ```text
//! [channels] → wallet's phrase → hot key (m/44'/60'/0'/1/number) → transport (Noise), runtime (machine, store, L1) → handle
//! ```
//! The hot key's account sends all transactions of the channels, deposits among them: keep ETH for gas there. What a channel pays
//! out goes to the payout address, which is the wallet's L1 account unless another is configured.

use super::StartError;
use super::chain::L1;
use super::tasks::Tasks;
use crate::config::{ChannelsConfig, Config};
use crate::wallet::files;
use crate::wallet::keys::{KeySource, Phrase};
use crate::wallet::keystore::Keystore;
use alloy::primitives::{Address, B256, U256};
use alloy::signers::local::PrivateKeySigner;
use hkdf::Hkdf;
use millrace_channels::node::backup::BackupTarget;
use millrace_channels::node::chain::{ChainConfig, ChainHealth, Finality};
use millrace_channels::node::tower::{RunningTower, TowerConfig, start_tower};
use millrace_channels::node::{
    Handle, NetworkConfig, NodeConfig, NodeThread, RollupView, Running, RuntimeError, TowerAddress,
    start,
};
use millrace_channels::onion::NodeOnions;
use millrace_channels::policy::Policy;
use millrace_channels::routing::gossip::MAX_ALIAS_BYTES;
use millrace_channels::signing::HotKey;
use millrace_channels::transport::{Transport, TransportConfig};
use millrace_channels::types::{Address as ChannelAddress, PublicKey};
use millrace_l1::channels_client::ChannelsClient;
use millrace_l1::devchain::{DEV_MNEMONIC, DevChain};
use millrace_l1::sender::{FileStore, Policy as SenderPolicy, TransactionSender};
use sha2::Sha512;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{mpsc, watch};
use tokio_util::sync::CancellationToken;
use zeroize::Zeroizing;

/// HKDF salt of the backup's key.
const BACKUP_SALT: &[u8] = b"millrace-channel-backup-1";
/// Frames and events that wait for the runtime.
const QUEUE: usize = 1024;
/// How often the machine looks at the time.
const TICK: Duration = Duration::from_secs(1);
/// The embedded chain makes a block at least this often while channels run: an old head stops payments.
const HEARTBEAT: Duration = Duration::from_secs(10);
/// What the hot key's account gets on the embedded chain: 1,000 ETH, in wei.
const POCKET: u128 = 1_000_000_000_000_000_000_000;

/// Channels that run.
#[derive(Clone)]
pub struct ChannelsHandle {
    /// For users.
    pub handle: Handle,
    /// How L1 is doing.
    pub chain: watch::Receiver<ChainHealth>,
    /// This node's key.
    pub key: PublicKey,
    /// Where peers reach it, if it listens.
    pub listen: Option<SocketAddr>,
    /// The account that sends transactions.
    pub account: Address,
    /// Where money goes on L1.
    pub payout: Address,
    /// The contract.
    pub contract: Address,
}

/// A hot key and what belongs to it.
pub struct ChannelKeys {
    /// Signs for channels.
    pub hot: Arc<HotKey>,
    /// The same key, as an account on L1.
    pub account: PrivateKeySigner,
    /// The wallet's L1 address.
    pub wallet: Address,
    backup: Zeroizing<[u8; 32]>,
}

impl ChannelKeys {
    /// The keys with this number of a wallet.
    ///
    /// # Errors
    /// [`StartError::ChannelKeys`].
    pub fn derive(source: &KeySource, number: u32) -> Result<Self, StartError> {
        let failed = |error: &dyn std::fmt::Display| StartError::ChannelKeys(error.to_string());
        let account = source.channel_key(number).map_err(|error| failed(&error))?;
        let wallet = source.l1_key(number).map_err(|error| failed(&error))?;
        let secret = Zeroizing::new(account.to_bytes().0);
        let hot = HotKey::new(*secret).map_err(|error| failed(&error))?;
        let mut backup = Zeroizing::new([0; 32]);
        Hkdf::<Sha512>::new(Some(BACKUP_SALT), &*secret)
            .expand(&[], &mut *backup)
            .expect("32 bytes are within HKDF's limit");
        Ok(Self {
            hot: Arc::new(hot),
            account,
            wallet: wallet.address(),
            backup,
        })
    }

    /// The keys that the configuration names; on the embedded chain, without a wallet, those of the development phrase.
    ///
    /// # Errors
    /// [`StartError::ChannelKeys`].
    pub fn open(config: &ChannelsConfig, embedded: bool) -> Result<Self, StartError> {
        let failed = |error: &dyn std::fmt::Display| StartError::ChannelKeys(error.to_string());
        let source = match &config.wallet {
            None if embedded => {
                KeySource::Phrase(Phrase::parse(DEV_MNEMONIC).map_err(|error| failed(&error))?)
            }
            None => {
                return Err(StartError::ChannelKeys(
                    "set channels.wallet to the folder of a wallet".to_owned(),
                ));
            }
            Some(folder) => {
                let password = password(config)?;
                let keystore = Keystore::new(folder.join("keystore.json"));
                keystore.open(&password).map_err(|error| failed(&error))?
            }
        };
        Self::derive(&source, config.number)
    }

    /// Where the backup goes.
    pub fn backup(&self, config: &ChannelsConfig, data_dir: &Path) -> BackupTarget {
        let path = config.backup.clone();
        BackupTarget {
            path: path.unwrap_or_else(|| data_dir.join("channels.backup")),
            key: self.backup.clone(),
        }
    }
}

fn password(config: &ChannelsConfig) -> Result<Zeroizing<String>, StartError> {
    let Some(path) = &config.password_file else {
        return std::env::var("MILLRACE_PASSWORD")
            .map(Zeroizing::new)
            .map_err(|_| {
                StartError::ChannelKeys(
                    "set channels.password_file, or MILLRACE_PASSWORD, to open the wallet"
                        .to_owned(),
                )
            });
    };
    files::password(path)
        .map_err(|error| StartError::ChannelKeys(format!("{}: {error}", path.display())))
}

/// Tasks of the channels, and what users need of them.
pub struct Channels {
    /// For users.
    pub handle: ChannelsHandle,
    running: Running,
    transport: Transport,
    _thread: NodeThread,
}

impl Channels {
    /// Waits until the runtime ends by itself.
    pub async fn ended(&mut self) -> RuntimeError {
        self.running.ended().await
    }

    /// Stops everything; what was acknowledged is on disk.
    pub async fn shutdown(self) {
        self.transport.shutdown().await;
        self.running.shutdown().await;
    }
}

/// What channels and towers need of L1.
pub struct OnChain {
    /// What is followed.
    pub config: ChainConfig,
    /// Sends.
    pub sender: TransactionSender,
}

/// Finds the contract, or deploys it on the embedded chain, and makes the sender of the hot key's account.
///
/// # Errors
/// [`StartError`].
pub async fn on_chain(
    config: &Config,
    l1: &L1,
    keys: &ChannelKeys,
    data_dir: &Path,
) -> Result<OnChain, StartError> {
    let depth = super::depth(config);
    let finality = match config.channels.finalized_tag {
        true => Finality::Tag,
        false => Finality::Depth(depth),
    };
    let store = FileStore::open(&data_dir.join("channel-transactions.json"))
        .map_err(|error| StartError::SenderStore(error.to_string()))?;
    // A transaction is followed until a reorg can no longer drop it.
    let policy = SenderPolicy {
        confirmations: depth + 1,
        ..SenderPolicy::default()
    };
    let account = keys.account.clone();
    if let Some(chain) = &l1.embedded {
        chain.set_balance(account.address(), U256::from(POCKET));
    }
    let sender = TransactionSender::new(l1.provider.clone(), account, Arc::new(store), policy);
    let client = contract(config, l1, &sender, data_dir).await?;
    Ok(OnChain {
        config: ChainConfig {
            l1: l1.provider.clone(),
            client,
            from_block: config.channels.from_block,
            finality,
            poll: l1.provider.poll_interval().max(Duration::from_millis(100)),
        },
        sender,
    })
}

async fn contract(
    config: &Config,
    l1: &L1,
    sender: &TransactionSender,
    data_dir: &Path,
) -> Result<ChannelsClient, StartError> {
    let failed = |error: &dyn std::fmt::Display| StartError::Channels(error.to_string());
    let file = data_dir.join("channels-contract");
    let remembered = std::fs::read_to_string(&file)
        .ok()
        .and_then(|text| text.trim().parse::<Address>().ok());
    let named = config
        .channels
        .contract
        .map(|contract| Address::from(contract.0));
    if let Some(address) = named {
        let client = ChannelsClient::connect(&l1.provider, address).await;
        return client.map_err(|error| failed(&error));
    }
    if l1.embedded.is_none() {
        return Err(StartError::Channels(
            "set channels.contract; `millrace channel deploy` deploys one".to_owned(),
        ));
    }
    if let Some(address) = remembered
        && let Ok(client) = ChannelsClient::connect(&l1.provider, address).await
    {
        return Ok(client);
    }
    let landed = ChannelsClient::deploy(sender, "deploy-channels").await;
    let client = landed.map_err(|error| failed(&error))?.value;
    std::fs::write(&file, format!("{}\n", client.address()))
        .map_err(|source| StartError::DataDir { path: file, source })?;
    Ok(client)
}

/// Starts the channels of a node.
///
/// # Errors
/// [`StartError`].
pub async fn begin(
    config: &Config,
    l1: &L1,
    rollup: Arc<dyn RollupView>,
    tasks: &mut Tasks,
) -> Result<Channels, StartError> {
    let failed = |error: &dyn std::fmt::Display| StartError::Channels(error.to_string());
    let keys = ChannelKeys::open(&config.channels, l1.embedded.is_some())?;
    let chain = on_chain(config, l1, &keys, &config.data_dir).await?;
    let payout = config
        .channels
        .payout
        .map_or(keys.wallet, |payout| Address::from(payout.0));
    let (events, peers) = mpsc::channel(QUEUE);
    let transport = TransportConfig {
        listen: config.channels.listen,
        ..TransportConfig::default()
    };
    let thread = NodeThread::start("channels").map_err(|error| failed(&error))?;
    let transport = thread
        .connections(keys.hot.clone(), transport, events)
        .await;
    let transport = transport.map_err(|error| failed(&error))?;
    let contract = chain.config.client.address();
    let domain = millrace_channels::node::runtime::domain_of(&chain.config.client, &l1.provider);
    let running = start(
        NodeConfig {
            folder: config.data_dir.clone(),
            key: keys.hot.clone(),
            payout: ChannelAddress(payout.into_array()),
            policy: policy(&config.channels),
            sender: chain.sender.clone(),
            chain: chain.config,
            onions: Arc::new(NodeOnions::new(keys.hot.clone(), &domain)),
            towers: towers(&config.channels)?,
            tokens: config
                .channels
                .tokens
                .iter()
                .map(|token| ChannelAddress(token.0))
                .collect(),
            tick: TICK,
            backup: Some(keys.backup(&config.channels, &config.data_dir)),
            network: network(&config.channels),
            thread: thread.handle().clone(),
            rollup: Some(rollup),
        },
        Arc::new(transport.clone()),
        peers,
    )
    .map_err(|error| failed(&error))?;
    if let Some(chain) = &l1.embedded {
        tasks.spawn(
            "embedded chain's heartbeat",
            heartbeat(chain.clone(), tasks.stopping()),
        );
    }
    let handle = ChannelsHandle {
        handle: running.handle.clone(),
        chain: running.chain.clone(),
        key: keys.hot.public(),
        listen: transport.local_address(),
        account: chain.sender.address(),
        payout,
        contract,
    };
    tracing::info!(key = %handle.key, listen = ?handle.listen, account = %handle.account, "channels run");
    Ok(Channels {
        handle,
        running,
        transport,
        _thread: thread,
    })
}

fn policy(config: &ChannelsConfig) -> Policy {
    let defaults = Policy::default();
    Policy {
        fee_base: u128::from(config.fee_base),
        fee_ppm: u128::from(config.fee_ppm),
        min_lock: u128::from(config.min_lock),
        keysend: config.keysend,
        tower_limit: config.tower_limit.map(|limit| limit.0),
        ..defaults
    }
}

fn network(config: &ChannelsConfig) -> NetworkConfig {
    let mut alias = config.alias.clone();
    while alias.len() > MAX_ALIAS_BYTES {
        alias.pop();
    }
    NetworkConfig {
        announce: config.announce,
        alias,
        addresses: config.public_address.iter().cloned().collect(),
    }
}

fn towers(config: &ChannelsConfig) -> Result<Vec<TowerAddress>, StartError> {
    config.towers.iter().map(|text| tower(text)).collect()
}

/// `KEY@HOST:PORT`: a compressed key in hexadecimal and a socket address.
///
/// # Errors
/// [`StartError::Channels`].
pub fn tower(text: &str) -> Result<TowerAddress, StartError> {
    let bad = || StartError::Channels(format!("{text:?} is not KEY@ADDRESS:PORT"));
    let (key, address) = text.split_once('@').ok_or_else(bad)?;
    Ok(TowerAddress {
        key: public_key(key).ok_or_else(bad)?,
        address: address.parse().map_err(|_| bad())?,
    })
}

/// A compressed key from its 66 hexadecimal digits.
pub fn public_key(text: &str) -> Option<PublicKey> {
    let mut bytes = [0; 33];
    let digits = text.trim().strip_prefix("0x").unwrap_or(text.trim());
    hex::decode_to_slice(digits, &mut bytes).ok()?;
    Some(PublicKey(bytes))
}

/// The embedded chain makes blocks only when there is something to put into them; channels need to see time pass.
async fn heartbeat(chain: DevChain, stop: CancellationToken) -> Result<(), &'static str> {
    loop {
        tokio::select! {
            () = stop.cancelled() => return Ok(()),
            () = tokio::time::sleep(HEARTBEAT) => drop(chain.mine()),
        }
    }
}

/// A tower that runs.
pub struct Tower {
    /// The tower.
    pub running: RunningTower,
    /// Its key.
    pub key: PublicKey,
    /// Where it listens.
    pub listen: Option<SocketAddr>,
    /// The account that sends its transactions.
    pub account: Address,
    transport: Transport,
    _thread: NodeThread,
}

impl Tower {
    /// Stops it.
    pub async fn shutdown(self) {
        self.transport.shutdown().await;
        self.running.shutdown().await;
    }
}

/// Starts a tower.
///
/// # Errors
/// [`StartError`].
pub async fn begin_tower(config: &Config, l1: &L1) -> Result<Tower, StartError> {
    let failed = |error: &dyn std::fmt::Display| StartError::Channels(error.to_string());
    super::create_folder(&config.data_dir)?;
    let keys = ChannelKeys::open(&config.channels, l1.embedded.is_some())?;
    let chain = on_chain(config, l1, &keys, &config.data_dir).await?;
    let (events, peers) = mpsc::channel(QUEUE);
    let settings = TransportConfig {
        listen: config.channels.listen,
        ..TransportConfig::default()
    };
    let thread = NodeThread::start("tower").map_err(|error| failed(&error))?;
    let transport = thread.connections(keys.hot.clone(), settings, events).await;
    let transport = transport.map_err(|error| failed(&error))?;
    let account = chain.sender.address();
    let running = start_tower(
        TowerConfig {
            folder: config.data_dir.clone(),
            key: keys.hot.clone(),
            policy: policy(&config.channels),
            chain: chain.config,
            sender: chain.sender,
            thread: thread.handle().clone(),
        },
        Arc::new(transport.clone()),
        peers,
    )
    .map_err(|error| failed(&error))?;
    Ok(Tower {
        running,
        key: keys.hot.public(),
        listen: transport.local_address(),
        account,
        transport,
        _thread: thread,
    })
}

/// A key pair from 32 secret bytes, for tools that make their own.
///
/// # Errors
/// [`StartError::ChannelKeys`].
pub fn keys_from_secret(secret: [u8; 32]) -> Result<(Arc<HotKey>, PrivateKeySigner), StartError> {
    let failed = |error: &dyn std::fmt::Display| StartError::ChannelKeys(error.to_string());
    let hot = HotKey::new(secret).map_err(|error| failed(&error))?;
    let account =
        PrivateKeySigner::from_bytes(&B256::from(secret)).map_err(|error| failed(&error))?;
    Ok((Arc::new(hot), account))
}

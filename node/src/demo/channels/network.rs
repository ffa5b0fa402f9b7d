//! Nodes and towers of the demo and of the benchmark, each with a folder, a key and a loopback port of its own.
//!
//! [`Network`] (embedded chain, contract) → [`Party`], [`TowerParty`] → verbs in the words of their users

use crate::cli::{Exit, Failure};
use crate::wiring::channels::keys_from_secret;
use alloy::primitives::{Address as L1Address, U256};
use alloy::providers::Provider;
use millrace_channels::digest::Domain;
use millrace_channels::node::chain::{ChainConfig, Finality};
use millrace_channels::node::runtime::{State, domain_of};
use millrace_channels::node::tower::{RunningTower, TowerConfig, start_tower};
use millrace_channels::node::{
    Answer, Event, EventBody, Handle, NodeConfig, NodeThread, PeerEvent, Request, Running,
    TowerAddress, start,
};
use millrace_channels::onion::NodeOnions;
use millrace_channels::policy::Policy;
use millrace_channels::signing::HotKey;
use millrace_channels::transport::{Transport, TransportConfig};
use millrace_channels::types::{Address, Amount, ChannelId, Hash32, PublicKey};
use millrace_l1::channels_client::ChannelsClient;
use millrace_l1::devchain::{DevChain, dev_signer};
use millrace_l1::provider::L1Provider;
use millrace_l1::sender::TransactionSender;
use sha2::{Digest, Sha256};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::sync::mpsc;

/// How long something may take.
pub const PATIENCE: Duration = Duration::from_secs(60);
/// How often it is looked at.
pub const POLL: Duration = Duration::from_millis(10);
/// How often nodes look around.
#[derive(Debug, Clone, Copy)]
pub struct Pace {
    /// At the time.
    pub tick: Duration,
    /// At L1.
    pub l1: Duration,
}

impl Pace {
    /// For a story that people watch: its blocks come by the dozen.
    pub const STORY: Self = Self {
        tick: Duration::from_millis(100),
        l1: Duration::from_millis(20),
    };
    /// As a node does it on a chain whose blocks come every few seconds.
    pub const NODE: Self = Self {
        tick: Duration::from_secs(1),
        l1: Duration::from_secs(1),
    };
}

/// Dispute window, seconds.
const WINDOW: u32 = 12 * 3600;
/// What each node's account gets: 100 ETH, in wei.
const POCKET: u128 = 100_000_000_000_000_000_000;

/// A failure of something that cannot fail in a sound program.
pub fn failed(what: &str, error: &dyn std::error::Error) -> Failure {
    Failure::because(Exit::Internal, what, error)
}

/// An embedded chain with the channels' contract.
pub struct Network {
    chain: DevChain,
    l1: L1Provider,
    client: ChannelsClient,
    separator: Hash32,
    folder: PathBuf,
    pace: Pace,
    one_thread: bool,
}

/// A node.
pub struct Party {
    name: String,
    key: Arc<HotKey>,
    listen: Option<SocketAddr>,
    live: Option<(Running, Transport, NodeThread)>,
    handle: Handle,
}

/// A watchtower.
pub struct TowerParty {
    address: TowerAddress,
    running: RunningTower,
    transport: Transport,
    _thread: NodeThread,
}

/// Where a node runs.
struct Place {
    thread: NodeThread,
    transport: Transport,
    peers: mpsc::Receiver<PeerEvent>,
}

fn secret(name: &str) -> [u8; 32] {
    Sha256::digest(format!("a key of the demo, worth nothing: {name}")).into()
}

fn payout(name: &str) -> [u8; 20] {
    let hash: [u8; 32] = Sha256::digest(format!("payout of {name}")).into();
    hash.first_chunk().copied().expect("32 bytes hold 20")
}

fn loopback() -> TransportConfig {
    TransportConfig {
        listen: Some(SocketAddr::from(([127, 0, 0, 1], 0))),
        queue_frames: 1 << 16,
        queue_bytes: 64 << 20,
        ..TransportConfig::default()
    }
}

impl Network {
    /// A chain with the contract; nodes keep their data below the folder.
    ///
    /// # Errors
    /// If the contract does not deploy.
    pub async fn new(folder: &Path, pace: Pace) -> Result<Self, Failure> {
        let chain = DevChain::default();
        let l1 = L1Provider::from(&chain);
        let sender = TransactionSender::in_memory(l1.clone(), dev_signer(0));
        let deployed = ChannelsClient::deploy(&sender, "deploy").await;
        let client = deployed
            .map_err(|error| failed("the channels' contract does not deploy", &error))?
            .value;
        Ok(Self {
            separator: domain_of(&client, &l1).separator(),
            chain,
            l1,
            client,
            folder: folder.join("channels"),
            pace,
            one_thread: false,
        })
    }

    /// All nodes on the caller's thread, instead of one for each.
    pub fn on_one_thread(self) -> Self {
        Self {
            one_thread: true,
            ..self
        }
    }

    /// The connection to L1.
    pub fn l1(&self) -> &L1Provider {
        &self.l1
    }

    /// What signatures and onions are for.
    pub fn domain(&self) -> Domain {
        domain_of(&self.client, &self.l1)
    }

    /// The domain's separator.
    pub fn separator(&self) -> &Hash32 {
        &self.separator
    }

    /// The later of the wall's clock and the chain's, as the machines see it.
    pub fn now(&self) -> u64 {
        self.chain
            .head()
            .header
            .timestamp
            .max(millrace_channels::node::unix_time())
    }

    /// Moves the chain's time.
    pub fn pass(&self, secs: u64) {
        self.chain.increase_time(secs);
        self.mine();
    }

    /// Makes a block.
    pub fn mine(&self) {
        drop(self.chain.mine());
    }

    fn chain_config(&self) -> ChainConfig {
        ChainConfig {
            l1: self.l1.clone(),
            client: self.client.clone(),
            from_block: 0,
            finality: Finality::Depth(0),
            poll: self.pace.l1,
        }
    }

    fn keys(&self, name: &str) -> Result<(Arc<HotKey>, TransactionSender), Failure> {
        let (key, account) =
            keys_from_secret(secret(name)).map_err(|error| failed("no key", &error))?;
        self.chain
            .set_balance(account.address(), U256::from(POCKET));
        Ok((key, TransactionSender::in_memory(self.l1.clone(), account)))
    }

    /// A thread for a node, and its connections there.
    async fn place(&self, name: &str, key: &Arc<HotKey>) -> Result<Place, Failure> {
        let thread = if self.one_thread {
            NodeThread::current()
        } else {
            NodeThread::start(name).map_err(|error| failed("no thread", &error))?
        };
        let (events, peers) = mpsc::channel(4096);
        let started = thread.connections(key.clone(), loopback(), events).await;
        let transport = started.map_err(|error| failed("no port on loopback", &error))?;
        Ok(Place {
            thread,
            transport,
            peers,
        })
    }

    /// Starts a node, or starts it again on its folder.
    ///
    /// # Errors
    /// If it does not start.
    pub async fn party(&self, name: &str, towers: &[TowerAddress]) -> Result<Party, Failure> {
        self.party_at(name, name, towers).await
    }

    /// Starts the node of a name on another folder.
    ///
    /// # Errors
    /// If it does not start.
    pub async fn party_at(
        &self,
        folder: &str,
        name: &str,
        towers: &[TowerAddress],
    ) -> Result<Party, Failure> {
        let (key, sender) = self.keys(name)?;
        let folder = self.folder.join(folder);
        std::fs::create_dir_all(&folder).map_err(|error| failed("no folder", &error))?;
        let Place {
            thread,
            transport,
            peers,
        } = self.place(name, &key).await?;
        let config = NodeConfig {
            folder,
            key: key.clone(),
            payout: Address(payout(name)),
            policy: Policy::default(),
            chain: self.chain_config(),
            sender,
            onions: Arc::new(NodeOnions::new(key.clone(), &self.domain())),
            towers: towers.to_vec(),
            tokens: Default::default(),
            tick: self.pace.tick,
            backup: None,
            network: Default::default(),
            thread: thread.handle().clone(),
            rollup: None,
        };
        let running = start(config, Arc::new(transport.clone()), peers)
            .map_err(|error| failed("a node does not start", &error))?;
        Ok(Party {
            name: name.to_owned(),
            key,
            listen: transport.local_address(),
            handle: running.handle.clone(),
            live: Some((running, transport, thread)),
        })
    }

    /// Starts a tower.
    ///
    /// # Errors
    /// If it does not start.
    pub async fn tower(&self, name: &str) -> Result<TowerParty, Failure> {
        let (key, sender) = self.keys(name)?;
        let folder = self.folder.join(name);
        std::fs::create_dir_all(&folder).map_err(|error| failed("no folder", &error))?;
        let Place {
            thread,
            transport,
            peers,
        } = self.place(name, &key).await?;
        let config = TowerConfig {
            folder,
            key: key.clone(),
            policy: Policy::default(),
            chain: self.chain_config(),
            sender,
            thread: thread.handle().clone(),
        };
        let running = start_tower(config, Arc::new(transport.clone()), peers)
            .map_err(|error| failed("a tower does not start", &error))?;
        let address = transport
            .local_address()
            .ok_or_else(|| Failure::new(Exit::Internal, "a tower does not listen"))?;
        Ok(TowerParty {
            address: TowerAddress {
                key: key.public(),
                address,
            },
            running,
            transport,
            _thread: thread,
        })
    }

    /// Connects two nodes and opens a channel between them.
    ///
    /// # Errors
    /// If it takes too long.
    pub async fn open(&self, from: &Party, to: &Party, units: u128) -> Result<ChannelId, Failure> {
        let (peer, address) = (to.key(), to.address()?);
        from.request(Request::Connect { peer, address }).await?;
        from.wait("a connection", move |state| {
            state.connected.contains(&peer).then_some(())
        })
        .await?;
        let amount =
            Amount::new(units).map_err(|error| failed("an amount out of range", &error))?;
        from.request(Request::Open {
            peer,
            token: Address::ZERO,
            amount,
            window_secs: WINDOW,
        })
        .await?;
        let id = from
            .wait("the channel", move |state| {
                let views = state.views();
                let open = views
                    .iter()
                    .find(|view| view.peer == peer && view.phase.name() == "open");
                open.map(|view| view.id)
            })
            .await?;
        to.wait_open(id).await?;
        Ok(id)
    }

    /// Copies the folder of a node that does not run.
    ///
    /// # Errors
    /// If the disk fails.
    pub fn copy(&self, from: &str, to: &str) -> Result<(), Failure> {
        copy_folder(&self.folder.join(from), &self.folder.join(to))
            .map_err(|error| failed("a folder cannot be copied", &error))
    }

    /// What a node's payout address has, in wei.
    ///
    /// # Errors
    /// If L1 does not answer.
    pub async fn payout(&self, name: &str) -> Result<u128, Failure> {
        let balance = self
            .l1
            .provider()
            .get_balance(L1Address::from(payout(name)))
            .await;
        let balance = balance.map_err(|error| failed("no balance", &error))?;
        Ok(balance.saturating_to())
    }

    /// What Alice and Bob were paid since, once that is all of a pot.
    ///
    /// # Errors
    /// If it takes too long.
    pub async fn wait_payout(
        &self,
        before: (u128, u128),
        pot: u128,
    ) -> Result<(u128, u128), Failure> {
        let started = Instant::now();
        while started.elapsed() < PATIENCE {
            let alice = self.payout("alice").await? - before.0;
            let bob = self.payout("bob").await? - before.1;
            if alice + bob >= pot {
                return Ok((alice, bob));
            }
            tokio::time::sleep(POLL).await;
        }
        Err(Failure::new(Exit::Internal, "the dispute was not settled"))
    }
}

fn copy_folder(from: &Path, to: &Path) -> std::io::Result<()> {
    std::fs::create_dir_all(to)?;
    for entry in std::fs::read_dir(from)? {
        let entry = entry?;
        let target = to.join(entry.file_name());
        if entry.file_type()?.is_dir() {
            copy_folder(&entry.path(), &target)?;
        } else {
            std::fs::copy(entry.path(), target)?;
        }
    }
    Ok(())
}

impl Party {
    /// Its key.
    pub fn key(&self) -> PublicKey {
        self.key.public()
    }

    /// Where it listens.
    ///
    /// # Errors
    /// If it does not.
    pub fn address(&self) -> Result<SocketAddr, Failure> {
        self.listen
            .ok_or_else(|| Failure::new(Exit::Internal, "a node does not listen"))
    }

    /// For more than these verbs.
    pub fn handle(&self) -> &Handle {
        &self.handle
    }

    /// Makes a change.
    ///
    /// # Errors
    /// If the node refuses.
    pub async fn request(&self, request: Request) -> Result<Answer, Failure> {
        let answer = self.handle.request(request, None).await;
        answer.map_err(|error| failed(&format!("{} refuses", self.name), &error))
    }

    /// Looks until there is something.
    ///
    /// # Errors
    /// If it takes too long.
    pub async fn wait<T: Send + 'static>(
        &self,
        what: &str,
        look: impl FnMut(&State) -> Option<T> + Send + Clone + 'static,
    ) -> Result<T, Failure> {
        let started = Instant::now();
        while started.elapsed() < PATIENCE {
            let mut look = look.clone();
            let found = self.handle.ask(move |state| look(state)).await;
            let found = found.map_err(|error| failed("a node has stopped", &error))?;
            if let Some(found) = found {
                return Ok(found);
            }
            tokio::time::sleep(POLL).await;
        }
        let text = format!("{} waited in vain for {what}", self.name);
        Err(Failure::new(Exit::Internal, text))
    }

    /// Waits until a channel takes payments.
    ///
    /// # Errors
    /// If it takes too long.
    pub async fn wait_open(&self, channel: ChannelId) -> Result<(), Failure> {
        self.wait("an open channel", move |state| {
            (state.view(&channel)?.phase.name() == "open").then_some(())
        })
        .await
    }

    /// Waits until a channel is closed for good.
    ///
    /// # Errors
    /// If it takes too long.
    pub async fn wait_closed(&self, channel: ChannelId) -> Result<(), Failure> {
        self.wait("a closed channel", move |state| {
            (state.view(&channel)?.phase.name() == "closed").then_some(())
        })
        .await
    }

    /// What it can pay.
    ///
    /// # Errors
    /// If the channel is unknown.
    pub async fn can_send(&self, channel: ChannelId) -> Result<u128, Failure> {
        self.wait("a balance", move |state| {
            state.view(&channel).map(|view| view.can_send)
        })
        .await
    }

    /// All its events.
    ///
    /// # Errors
    /// If its database cannot be read.
    pub fn events(&self) -> Result<Vec<Event>, Failure> {
        self.handle
            .events(1, usize::MAX)
            .map_err(|error| failed("no events", &error))
    }

    /// Gas of its last transaction of a kind.
    ///
    /// # Errors
    /// If its database cannot be read.
    pub async fn landed_gas(&self, kind: &str) -> Result<Option<u64>, Failure> {
        let events = self.events()?;
        Ok(events.into_iter().rev().find_map(|event| match event.body {
            EventBody::Landed { what, gas, .. } if what == kind => Some(gas),
            _ => None,
        }))
    }

    /// Goes away, with its connections; what it has written can still be read.
    pub async fn sleep(&mut self) {
        if let Some((running, transport, _thread)) = self.live.take() {
            transport.shutdown().await;
            running.shutdown().await;
        }
    }

    /// Stops it.
    pub async fn shutdown(mut self) {
        self.sleep().await;
    }
}

impl TowerParty {
    /// Where it is.
    pub fn address(&self) -> TowerAddress {
        self.address
    }

    /// Gas of what it sent.
    pub async fn gas(&self) -> Vec<(&'static str, u64)> {
        let status = self.running.status().await.unwrap_or_default();
        let landed = status.actions.into_iter();
        landed
            .filter_map(|action| Some((action.what, action.result.ok()?.1)))
            .collect()
    }

    /// Stops it.
    pub async fn shutdown(self) {
        self.transport.shutdown().await;
        self.running.shutdown().await;
    }
}

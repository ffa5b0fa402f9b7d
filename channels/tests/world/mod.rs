//! Whole nodes on the embedded chain, for tests. Frames go through queues in this process; everything else is what a product
//! runs.

// Each test uses a part.
#![allow(dead_code)]

use alloy::primitives::{B256, U256};
use alloy::providers::Provider;
use millrace_channels::digest::Domain;
use millrace_channels::node::NetworkConfig;
use millrace_channels::node::backup::BackupTarget;
use millrace_channels::node::chain::{ChainConfig, Finality};
use millrace_channels::node::runtime::domain_of;
use millrace_channels::node::tower::{RunningTower, TowerConfig, start_tower};
use millrace_channels::node::{
    Answer, Event, EventBody, Link, NodeConfig, NodeThread, PeerEvent, Request, Running,
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
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tempfile::TempDir;
use tokio::sync::mpsc;

pub const WINDOW: u32 = 12 * 3600;
pub const NOBODY: SocketAddr =
    SocketAddr::new(std::net::IpAddr::V4(std::net::Ipv4Addr::LOCALHOST), 1);

/// Queues between the nodes of a test, by key.
#[derive(Clone, Default)]
pub struct Exchange(Arc<Mutex<BTreeMap<PublicKey, mpsc::Sender<PeerEvent>>>>);

pub struct Wire {
    own: PublicKey,
    exchange: Exchange,
}

impl Exchange {
    pub fn join(&self, own: PublicKey) -> (Arc<Wire>, mpsc::Receiver<PeerEvent>) {
        let (queue, events) = mpsc::channel(4096);
        let mut all = self.0.lock().unwrap();
        for (peer, other) in all.iter() {
            let _ = other.try_send(PeerEvent::Disconnected(own));
            let _ = other.try_send(PeerEvent::Connected(own));
            queue.try_send(PeerEvent::Connected(*peer)).unwrap();
        }
        all.insert(own, queue);
        let wire = Wire {
            own,
            exchange: self.clone(),
        };
        (Arc::new(wire), events)
    }

    pub fn leave(&self, own: PublicKey) {
        let mut all = self.0.lock().unwrap();
        all.remove(&own);
        for other in all.values() {
            let _ = other.try_send(PeerEvent::Disconnected(own));
        }
    }
}

impl Link for Wire {
    fn send(&self, to: PublicKey, frame: Vec<u8>) {
        if let Some(queue) = self.exchange.0.lock().unwrap().get(&to) {
            let _ = queue.try_send(PeerEvent::Frame {
                from: self.own,
                frame: frame[4..].to_vec(),
            });
        }
    }
    fn connect(&self, _: PublicKey, _: SocketAddr) {}
    fn disconnect(&self, _: PublicKey) {}
    fn local_address(&self) -> Option<SocketAddr> {
        None
    }
}

pub struct World {
    pub chain: DevChain,
    pub l1: L1Provider,
    pub client: ChannelsClient,
    pub exchange: Exchange,
    pub folder: TempDir,
    /// Margins and limits of nodes that are started from now on.
    pub policy: Policy,
    /// How they show themselves.
    pub network: NetworkConfig,
    /// What they believe of the rollup.
    pub rollup: Option<Arc<dyn millrace_channels::node::RollupView>>,
    /// Where their backups go.
    pub backup: Option<BackupTarget>,
}

pub struct Person {
    pub name: u8,
    pub running: Running,
}

pub fn key(name: u8) -> Arc<HotKey> {
    Arc::new(HotKey::new([name; 32]).unwrap())
}

pub fn amount(units: u128) -> Amount {
    Amount::new(units).unwrap()
}

impl World {
    pub fn domain(&self) -> Domain {
        domain_of(&self.client, &self.l1)
    }

    pub async fn new() -> Self {
        let chain = DevChain::default();
        let l1 = L1Provider::from(&chain);
        let sender = TransactionSender::in_memory(l1.clone(), dev_signer(0));
        let client = ChannelsClient::deploy(&sender, "deploy")
            .await
            .unwrap()
            .value;
        Self {
            chain,
            l1,
            client,
            exchange: Exchange::default(),
            folder: tempfile::tempdir().unwrap(),
            policy: Policy::default(),
            network: NetworkConfig::default(),
            rollup: None,
            backup: None,
        }
    }

    pub fn chain_config(&self) -> ChainConfig {
        ChainConfig {
            l1: self.l1.clone(),
            client: self.client.clone(),
            from_block: 0,
            finality: Finality::Depth(0),
            poll: Duration::from_millis(20),
        }
    }

    pub fn sender(&self, name: u8) -> TransactionSender {
        let signer = alloy::signers::local::PrivateKeySigner::from_bytes(&B256::from([name; 32]));
        let signer = signer.unwrap();
        let funds = U256::from(10u128.pow(19));
        self.chain.set_balance(signer.address(), funds);
        TransactionSender::in_memory(self.l1.clone(), signer)
    }

    pub fn folder(&self, name: u8) -> std::path::PathBuf {
        let folder = self.folder.path().join(name.to_string());
        std::fs::create_dir_all(&folder).unwrap();
        folder
    }

    pub fn start_at(&self, name: u8, folder: &Path, towers: Vec<TowerAddress>) -> Person {
        let (link, events) = self.exchange.join(key(name).public());
        let network = self.network.clone();
        self.start_with(name, folder, towers, network, link, events)
    }

    fn start_with<L: Link>(
        &self,
        name: u8,
        folder: &Path,
        towers: Vec<TowerAddress>,
        network: NetworkConfig,
        link: Arc<L>,
        events: mpsc::Receiver<PeerEvent>,
    ) -> Person {
        let config = NodeConfig {
            folder: folder.to_owned(),
            key: key(name),
            payout: Address([0xa0 + name; 20]),
            policy: self.policy.clone(),
            chain: self.chain_config(),
            sender: self.sender(name),
            onions: Arc::new(NodeOnions::new(key(name), &self.domain())),
            towers,
            tokens: Default::default(),
            tick: Duration::from_millis(50),
            backup: self.backup.clone(),
            network,
            thread: tokio::runtime::Handle::current(),
            rollup: self.rollup.clone(),
        };
        Person {
            name,
            running: start(config, link, events).unwrap(),
        }
    }

    pub fn start(&self, name: u8, towers: Vec<TowerAddress>) -> Person {
        self.start_at(name, &self.folder(name), towers)
    }

    /// As [`Self::start_at`], with real connections on loopback, whose address it tells the network.
    pub async fn start_on_loopback(
        &self,
        name: u8,
        folder: &Path,
        towers: Vec<TowerAddress>,
    ) -> (Person, Transport) {
        let (transport, events) = connections(name).await;
        let link = Arc::new(transport.clone());
        let listens = transport.local_address().unwrap();
        let network = NetworkConfig {
            addresses: vec![listens.to_string()],
            ..self.network.clone()
        };
        let person = self.start_with(name, folder, towers, network, link, events);
        (person, transport)
    }

    /// As [`Self::start_tower`], with real connections on loopback.
    pub async fn start_tower_on_loopback(&self, name: u8) -> (RunningTower, Transport) {
        let (transport, events) = connections(name).await;
        let tower = self.start_tower_with(name, Arc::new(transport.clone()), events);
        (tower, transport)
    }

    pub fn start_tower(&self, name: u8) -> RunningTower {
        let (link, events) = self.exchange.join(key(name).public());
        self.start_tower_with(name, link, events)
    }

    fn start_tower_with<L: Link>(
        &self,
        name: u8,
        link: Arc<L>,
        events: mpsc::Receiver<PeerEvent>,
    ) -> RunningTower {
        let config = TowerConfig {
            folder: self.folder(name),
            key: key(name),
            policy: Policy::default(),
            chain: self.chain_config(),
            sender: self.sender(name),
            thread: tokio::runtime::Handle::current(),
        };
        start_tower(config, link, events).unwrap()
    }

    /// Says something in the name of a node.
    pub fn say(&self, from: u8, to: u8, frame: Vec<u8>) {
        let wire = Wire {
            own: key(from).public(),
            exchange: self.exchange.clone(),
        };
        wire.send(key(to).public(), frame);
    }

    pub async fn kill(&self, person: Person) {
        self.exchange.leave(key(person.name).public());
        person.running.kill().await;
    }

    pub fn pass(&self, secs: u64) {
        self.chain.increase_time(secs);
        self.chain.mine();
    }

    pub async fn payout(&self, name: u8) -> u128 {
        let account = address_of(name);
        let balance = self.l1.provider().get_balance(account).await.unwrap();
        balance.to()
    }
}

async fn connections(name: u8) -> (Transport, mpsc::Receiver<PeerEvent>) {
    let (events, peers) = mpsc::channel(4096);
    let config = TransportConfig {
        listen: Some(SocketAddr::from(([127, 0, 0, 1], 0))),
        ..TransportConfig::default()
    };
    let thread = NodeThread::current();
    let transport = thread.connections(key(name), config, events).await;
    (transport.unwrap(), peers)
}

pub fn address_of(name: u8) -> alloy::primitives::Address {
    alloy::primitives::Address::from([0xa0 + name; 20])
}

impl Person {
    pub async fn request(&self, request: Request) -> Answer {
        self.running.handle.request(request, None).await.unwrap()
    }

    pub async fn until<T: Send + 'static>(
        &self,
        what: &str,
        look: impl FnMut(&millrace_channels::node::runtime::State) -> Option<T> + Send + Clone + 'static,
    ) -> T {
        for _ in 0..1000 {
            let mut look = look.clone();
            if let Some(found) = self
                .running
                .handle
                .ask(move |state| look(state))
                .await
                .unwrap()
            {
                return found;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        panic!("{} waits in vain: {what}", self.name);
    }

    pub async fn pay(&self, channel: ChannelId, units: u128) {
        let request = Request::PayDirect {
            channel,
            amount: amount(units),
            reference: Hash32([1; 32]),
        };
        self.request(request).await;
    }

    pub async fn until_open(&self) -> ChannelId {
        self.until("an open channel", |state| {
            let views = state.views();
            let open = views.iter().find(|view| view.phase.name() == "open");
            open.map(|view| view.id)
        })
        .await
    }

    async fn until_open_with(&self, peer: PublicKey) -> ChannelId {
        self.until("an open channel", move |state| {
            let views = state.views();
            let mut open = views.iter().filter(|view| view.peer == peer);
            open.find(|view| view.phase.name() == "open")
                .map(|view| view.id)
        })
        .await
    }
}

pub async fn open(from: &Person, to: &Person, units: u128) -> ChannelId {
    let peer = key(to.name).public();
    from.until("the peer", move |state| {
        state.connected.contains(&peer).then_some(())
    })
    .await;
    from.request(Request::Open {
        peer,
        token: Address::ZERO,
        amount: amount(units),
        window_secs: WINDOW,
    })
    .await;
    let id = from.until_open_with(peer).await;
    assert_eq!(to.until_open_with(key(from.name).public()).await, id);
    id
}

/// All events, once so many payments are among them: an event is told when it is durable.
pub async fn received(person: &Person, count: usize) -> Vec<Event> {
    let mut newest = person.running.handle.newest_event();
    loop {
        let news = person.running.handle.events(1, 1000).unwrap();
        let is_payment = |event: &&Event| matches!(event.body, EventBody::Received { .. });
        if news.iter().filter(is_payment).count() == count {
            return news;
        }
        let more = tokio::time::timeout(Duration::from_secs(20), newest.changed()).await;
        more.expect("the payments come").unwrap();
    }
}

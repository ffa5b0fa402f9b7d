//! Whole nodes on the embedded chain: open, pay, restart, close, and a tower that answers a cheat. Frames go through queues in
//! this process; everything else is what a product runs.

#![cfg(feature = "node")]

use alloy::primitives::{B256, U256};
use alloy::providers::Provider;
use millrace_channels::machine::dispute::ChainPhase;
use millrace_channels::machine::payment::{Hop, Onions};
use millrace_channels::node::chain::{ChainConfig, Finality};
use millrace_channels::node::tower::{RunningTower, TowerConfig, start_tower};
use millrace_channels::node::{
    Answer, Event, EventBody, Link, NodeConfig, PeerEvent, Request, RequestKey, Running,
    TowerAddress, start,
};
use millrace_channels::policy::Policy;
use millrace_channels::signing::HotKey;
use millrace_channels::types::{Address, Amount, ChannelId, Hash32, PaymentHash, PublicKey};
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

const WINDOW: u32 = 12 * 3600;
const NOBODY: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(std::net::Ipv4Addr::LOCALHOST), 1);

struct NoOnions;

impl Onions for NoOnions {
    fn peel(&self, _: &[u8], _: &PaymentHash) -> Option<Hop> {
        None
    }
}

/// Queues between the nodes of a test, by key.
#[derive(Clone, Default)]
struct Exchange(Arc<Mutex<BTreeMap<PublicKey, mpsc::Sender<PeerEvent>>>>);

struct Wire {
    own: PublicKey,
    exchange: Exchange,
}

impl Exchange {
    fn join(&self, own: PublicKey) -> (Arc<Wire>, mpsc::Receiver<PeerEvent>) {
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

    fn leave(&self, own: PublicKey) {
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

struct World {
    chain: DevChain,
    l1: L1Provider,
    client: ChannelsClient,
    exchange: Exchange,
    folder: TempDir,
}

struct Person {
    name: u8,
    running: Running,
}

fn key(name: u8) -> Arc<HotKey> {
    Arc::new(HotKey::new([name; 32]).unwrap())
}

fn amount(units: u128) -> Amount {
    Amount::new(units).unwrap()
}

impl World {
    async fn new() -> Self {
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
        }
    }

    fn chain_config(&self) -> ChainConfig {
        ChainConfig {
            l1: self.l1.clone(),
            client: self.client.clone(),
            from_block: 0,
            finality: Finality::Depth(0),
            poll: Duration::from_millis(20),
        }
    }

    fn sender(&self, name: u8) -> TransactionSender {
        let signer = alloy::signers::local::PrivateKeySigner::from_bytes(&B256::from([name; 32]));
        let signer = signer.unwrap();
        let funds = U256::from(10u128.pow(19));
        self.chain.set_balance(signer.address(), funds);
        TransactionSender::in_memory(self.l1.clone(), signer)
    }

    fn folder(&self, name: u8) -> std::path::PathBuf {
        let folder = self.folder.path().join(name.to_string());
        std::fs::create_dir_all(&folder).unwrap();
        folder
    }

    fn start_at(&self, name: u8, folder: &Path, towers: Vec<TowerAddress>) -> Person {
        let (link, events) = self.exchange.join(key(name).public());
        let config = NodeConfig {
            folder: folder.to_owned(),
            key: key(name),
            payout: Address([0xa0 + name; 20]),
            policy: Policy::default(),
            chain: self.chain_config(),
            sender: self.sender(name),
            onions: Arc::new(NoOnions),
            towers,
            tokens: Default::default(),
            tick: Duration::from_millis(50),
            backup: None,
        };
        Person {
            name,
            running: start(config, link, events).unwrap(),
        }
    }

    fn start(&self, name: u8, towers: Vec<TowerAddress>) -> Person {
        self.start_at(name, &self.folder(name), towers)
    }

    fn start_tower(&self, name: u8) -> RunningTower {
        let (link, events) = self.exchange.join(key(name).public());
        let config = TowerConfig {
            folder: self.folder(name),
            key: key(name),
            policy: Policy::default(),
            chain: self.chain_config(),
            sender: self.sender(name),
        };
        start_tower(config, link, events).unwrap()
    }

    async fn kill(&self, person: Person) {
        self.exchange.leave(key(person.name).public());
        person.running.kill().await;
    }

    fn pass(&self, secs: u64) {
        self.chain.increase_time(secs);
        self.chain.mine();
    }

    async fn payout(&self, name: u8) -> u128 {
        let account = address_of(name);
        let balance = self.l1.provider().get_balance(account).await.unwrap();
        balance.to()
    }
}

fn address_of(name: u8) -> alloy::primitives::Address {
    alloy::primitives::Address::from([0xa0 + name; 20])
}

impl Person {
    async fn request(&self, request: Request) -> Answer {
        self.running.handle.request(request, None).await.unwrap()
    }

    async fn until<T: Send + 'static>(
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

    async fn pay(&self, channel: ChannelId, units: u128) {
        let request = Request::PayDirect {
            channel,
            amount: amount(units),
            reference: Hash32([1; 32]),
        };
        self.request(request).await;
    }

    async fn until_open(&self) -> ChannelId {
        self.until("an open channel", |state| {
            let views = state.views();
            let open = views.iter().find(|view| view.phase.name() == "open");
            open.map(|view| view.id)
        })
        .await
    }
}

async fn open(from: &Person, to: &Person, units: u128) -> ChannelId {
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
    let id = from.until_open().await;
    assert_eq!(to.until_open().await, id);
    id
}

/// All events, once so many payments are among them: an event is told when it is durable.
async fn received(person: &Person, count: usize) -> Vec<Event> {
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

#[tokio::test(flavor = "multi_thread")]
async fn two_nodes_open_pay_survive_a_crash_and_close() {
    let world = World::new().await;
    let alice = world.start(1, vec![]);
    let bob = world.start(2, vec![]);
    let id = open(&alice, &bob, 1_000_000).await;
    for _ in 0..20 {
        alice.pay(id, 1000).await;
    }
    bob.until("20 payments", move |state| {
        (state.view(&id)?.can_send == 20_000).then_some(())
    })
    .await;
    for _ in 0..5 {
        bob.pay(id, 100).await;
    }
    alice
        .until("5 payments back", move |state| {
            (state.view(&id)?.can_send == 980_500).then_some(())
        })
        .await;
    // Alice dies and comes back: nothing that was acknowledged is gone.
    world.kill(alice).await;
    let alice = world.start(1, vec![]);
    assert_eq!(alice.until_open().await, id);
    alice
        .until("what the peer says again", move |state| {
            (state.view(&id)?.can_send == 980_500).then_some(())
        })
        .await;
    // The same key pays once.
    let key = RequestKey {
        key: "rent".to_owned(),
        request: [7; 32],
    };
    for _ in 0..2 {
        let request = Request::PayDirect {
            channel: id,
            amount: amount(500),
            reference: Hash32([2; 32]),
        };
        let answer = alice
            .running
            .handle
            .request(request, Some(key.clone()))
            .await;
        assert!(matches!(answer, Ok(Answer::Paid { .. })));
    }
    bob.until("one payment", move |state| {
        (state.view(&id)?.can_send == 20_000).then_some(())
    })
    .await;
    let news = received(&bob, 21).await;
    assert!(
        news.windows(2)
            .all(|pair| pair[0].sequence + 1 == pair[1].sequence)
    );
    alice
        .until("the peer's word", move |state| {
            let channel = &state.node.channels()[&id];
            (channel.session.peer_holds == channel.own.version).then_some(())
        })
        .await;
    alice.request(Request::Close(id)).await;
    for person in [&alice, &bob] {
        person
            .until("the end", move |state| {
                (state.view(&id)?.phase.name() == "closed").then_some(())
            })
            .await;
    }
    assert_eq!(world.payout(1).await, 980_000);
    assert_eq!(world.payout(2).await, 20_000);
    alice.running.shutdown().await;
    bob.running.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_tower_answers_a_cheat_while_its_client_is_away() {
    let world = World::new().await;
    let tower = world.start_tower(9);
    let guard = TowerAddress {
        key: key(9).public(),
        address: NOBODY,
    };
    let alice = world.start(1, vec![]);
    let bob = world.start(2, vec![guard]);
    let id = open(&alice, &bob, 1_000_000).await;
    alice.pay(id, 1000).await;
    bob.until("a payment", move |state| {
        (state.view(&id)?.can_send == 1000).then_some(())
    })
    .await;
    // Alice keeps what she has now, to cheat with later.
    let old = world.folder.path().join("old");
    alice.running.shutdown().await;
    world.exchange.leave(key(1).public());
    copy_folder(&world.folder(1), &old);
    let alice = world.start(1, vec![]);
    assert_eq!(alice.until_open().await, id);
    alice.pay(id, 400_000).await;
    bob.until("a receipt for the newest", move |state| {
        let view = state.view(&id)?;
        (view.can_send == 401_000 && view.guarded_by == 1).then_some(())
    })
    .await;
    // Bob is gone for good, and Alice closes with her old state.
    world.kill(bob).await;
    alice.running.shutdown().await;
    world.exchange.leave(key(1).public());
    let cheat = world.start_at(1, &old, vec![]);
    cheat
        .until("L1", move |state| {
            state.node.channels()[&id].at_head.as_ref().map(drop)
        })
        .await;
    cheat.request(Request::ForceClose(id)).await;
    cheat
        .until("the tower's answer", move |state| {
            let chain = state.node.channels()[&id].at_head.clone()?;
            match chain.phase {
                ChainPhase::Closing(dispute) => (dispute.halves.a.paid == 401_000).then_some(()),
                _ => None,
            }
        })
        .await;
    cheat.running.shutdown().await;
    world.pass(u64::from(WINDOW) + 60);
    let mut paid = 0;
    for _ in 0..500 {
        paid = world.payout(2).await;
        if paid > 0 {
            break;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    assert_eq!((world.payout(1).await, paid), (599_000, 401_000));
    let status = tower.status().await.unwrap();
    let done: Vec<&str> = status.actions.iter().map(|action| action.what).collect();
    assert_eq!(done, ["submit", "settle"]);
    tower.shutdown().await;
}

fn copy_folder(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let target = to.join(entry.file_name());
        if entry.file_type().unwrap().is_dir() {
            copy_folder(&entry.path(), &target);
        } else {
            std::fs::copy(entry.path(), target).unwrap();
        }
    }
}

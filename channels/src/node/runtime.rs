//! The task that owns the machine: inputs in, effects out, in the order of rule 7.
//!
//! ```text
//! inputs, as many as are there → apply → flush: records, events, answers → store, durable → send, broadcast, answer
//! ```
//! A write blocks the thread, and what comes meanwhile waits in the queues: it shares the next signature and the next disk
//! synchronisation. So the task wants a thread that nobody else needs ([`super::thread`]); with nothing else to wait for, no
//! other thread has to be woken for a write.
//!
//! A write that fails ends the task: the machine's memory is ahead of the disk.

use super::broadcast::Broadcaster;
use super::chain::{ChainConfig, ChainHealth, ChainWatcher, Listener, Wanted};
use super::event::{Event, EventBody};
use super::handle::{Answer, Command, Handle, NodeError, Request, RequestKey};
use super::invoices::Invoices;
use super::link::{Link, PeerEvent};
use super::log;
use super::paid::{self, Eyes, Paid, RollupView};
use super::payments::{PayOrder, Payments};
use super::records::{self, Answered, Deposit, Opening};
use super::routes::{self, NetworkConfig, Planned, Routes, Word};
use super::tower::Guardians;
use super::{talk, unix_time};
use crate::digest::Domain;
use crate::machine::dispute::{ChainPhase, ChainReport};
use crate::machine::effect::{Effect, Key, Notice, Record, Transaction};
use crate::machine::payment::Onions;
use crate::machine::{DamagedRecord, Identity, Input, Node, StepError, Tools};
use crate::message::{Direct, Message};
use crate::policy::Policy;
use crate::routing::gossip;
use crate::signing::{HotKey, address};
use crate::store::{RimRecord, Store, StoreError, Table};
use crate::types::{Address, ChannelId, PublicKey, Timestamp};
use crate::wire;
use millrace_l1::channels_client::ChannelsClient;
use millrace_l1::sender::TransactionSender;
use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;
use thiserror::Error;
use tokio::sync::{broadcast, mpsc, oneshot, watch};
use tokio::task::JoinHandle;

/// How long a lock that may be paid waits for another change of its half: long enough for the next payment of a row. So
/// much later the next one counts the money; the preimage has gone on at once.
const SETTLE_AFTER: Duration = Duration::from_millis(2);
/// Most inputs that one flush covers.
const MAX_APPLIED: usize = 1024;
/// Most commands and peers' events that wait.
pub const QUEUE: usize = 1024;
/// Events that a slow listener may be behind before it has to read them from the disk.
const LIVE_EVENTS: usize = 16_384;

/// Where a tower is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TowerAddress {
    /// Its key.
    pub key: PublicKey,
    /// Where it listens.
    pub address: SocketAddr,
}

/// What a node is made of.
pub struct NodeConfig {
    /// Folder of its database and of its record of transactions.
    pub folder: PathBuf,
    /// Its hot key.
    pub key: Arc<HotKey>,
    /// Where its money goes on L1.
    pub payout: Address,
    /// Margins and limits.
    pub policy: Policy,
    /// What it follows on L1.
    pub chain: ChainConfig,
    /// Sends its transactions.
    pub sender: TransactionSender,
    /// Opens onions.
    pub onions: Arc<dyn Onions + Send + Sync>,
    /// Who guards it.
    pub towers: Vec<TowerAddress>,
    /// Tokens that peers may open channels in; Ether always.
    pub tokens: BTreeSet<Address>,
    /// How often the machine looks at the time.
    pub tick: Duration,
    /// Where the encrypted backup goes, and its key.
    pub backup: Option<super::backup::BackupTarget>,
    /// How it shows itself to the network.
    pub network: NetworkConfig,
    /// Where its task runs, and waits for the disk: a [`super::NodeThread`]'s, beside the node's connections.
    pub thread: tokio::runtime::Handle,
    /// The rollup as this node sees it; none: claims of payments there stay unchecked.
    pub rollup: Option<Arc<dyn RollupView>>,
}

/// Why the runtime does not start, or ended.
#[derive(Debug, Error)]
pub enum RuntimeError {
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// A record does not decode.
    #[error(transparent)]
    Damaged(#[from] DamagedRecord),
    /// The database is another node's.
    #[error(
        "the database belongs to {found}, this node is {wanted}: name another folder, or use the key, chain and contract that it was made with"
    )]
    OtherIdentity {
        /// What the database says.
        found: String,
        /// What this node is.
        wanted: String,
    },
    /// The contract's key and ours do not fit.
    #[error("the hot key has no address")]
    Key,
    /// A task died.
    #[error("the {0} task ended unexpectedly")]
    Task(&'static str),
}

/// A node that runs.
pub struct Running {
    /// For users.
    pub handle: Handle,
    /// How L1 is doing.
    pub chain: watch::Receiver<ChainHealth>,
    stop: watch::Sender<bool>,
    task: JoinHandle<Result<(), RuntimeError>>,
    watcher: JoinHandle<()>,
    routing: JoinHandle<()>,
}

impl Running {
    /// Waits until the node ends by itself.
    pub async fn ended(&mut self) -> RuntimeError {
        match (&mut self.task).await {
            Ok(Err(error)) => error,
            Ok(Ok(())) | Err(_) => RuntimeError::Task("channels"),
        }
    }

    /// Stops: what was acknowledged is on disk when this returns.
    pub async fn shutdown(self) {
        // A runtime that has ended needs no telling.
        let _ = self.stop.send(true);
        let _ = self.task.await;
        let _ = self.routing.await;
        self.watcher.abort();
        let _ = self.watcher.await;
    }

    /// Ends at once, as a crash does: nothing more is written or said.
    pub async fn kill(self) {
        self.task.abort();
        self.watcher.abort();
        self.routing.abort();
        let _ = self.task.await;
        let _ = self.routing.await;
        let _ = self.watcher.await;
    }
}

/// What waits until a write is durable.
enum After {
    Send(PublicKey, Vec<u8>),
    Broadcast(Transaction),
    Deposit(String),
    Answer(oneshot::Sender<Result<Answer, NodeError>>, Answer),
    Events(u64, Vec<Event>),
}

/// All that the runtime knows: what [`Handle::ask`] sees.
pub struct State {
    /// The machine.
    pub node: Node,
    /// Channels that are being agreed on, by the record's name.
    pub openings: BTreeMap<Vec<u8>, Opening>,
    /// Deposits under way, by operation.
    pub deposits: BTreeMap<String, Deposit>,
    /// Where peers listen.
    pub peers: BTreeMap<PublicKey, SocketAddr>,
    /// Who is connected.
    pub connected: BTreeSet<PublicKey>,
    /// What towers have confirmed.
    pub guardians: Guardians,
    /// The contract.
    pub domain: Domain,
    /// The time of the last input.
    pub now: Timestamp,
    pub(super) key: Arc<HotKey>,
    pub(super) tokens: BTreeSet<Address>,
    pub(super) usable: BTreeSet<ChannelId>,
    pub(super) changed: BTreeSet<ChannelId>,
    /// Records and what follows, until the next flush.
    pub(super) rim: Vec<RimRecord>,
    pub(super) talks: Vec<(PublicKey, Vec<u8>)>,
    pub(super) begin: Vec<String>,
    pub(super) events: Vec<EventBody>,
    pub(super) routes: Routes,
    pub(super) payments: Payments,
    pub(super) invoices: Invoices,
    pub(super) paid: Paid,
    /// Whom to dial at which address, or to hang up.
    pub(super) dials: Vec<(PublicKey, Option<SocketAddr>)>,
    replies: Vec<(oneshot::Sender<Result<Answer, NodeError>>, Answer)>,
    /// Answers since the last flush; after it the disk has them.
    answered: BTreeMap<String, Answered>,
}

pub(super) struct Runtime<L> {
    pub(super) state: State,
    store: Arc<Store>,
    link: Arc<L>,
    onions: Arc<dyn Onions + Send + Sync>,
    broadcaster: Broadcaster,
    commands: mpsc::Receiver<Command>,
    own: mpsc::WeakSender<Command>,
    peers: mpsc::Receiver<PeerEvent>,
    applied: usize,
    sequence: u64,
    newest: watch::Sender<u64>,
    live: broadcast::Sender<Event>,
    tick: Duration,
    backup: super::backup::Keeper,
    wake: watch::Sender<u64>,
    eyes: Eyes,
}

/// Starts a node on its folder: restores what was durable, connects to its peers, follows L1.
///
/// # Errors
/// [`RuntimeError`].
pub fn start<L: Link>(
    config: NodeConfig,
    link: Arc<L>,
    peers: mpsc::Receiver<PeerEvent>,
) -> Result<Running, RuntimeError> {
    let store = Arc::new(Store::open(&config.folder.join("channels"))?);
    start_on(config, store, link, peers)
}

/// As [`start`], on a store that is open.
///
/// # Errors
/// [`RuntimeError`].
pub fn start_on<L: Link>(
    config: NodeConfig,
    store: Arc<Store>,
    link: Arc<L>,
    peers: mpsc::Receiver<PeerEvent>,
) -> Result<Running, RuntimeError> {
    let domain = domain_of(&config.chain.client, &config.chain.l1);
    let identity = identity(&config, domain)?;
    bind(&store, &identity)?;
    let signer = identity.signer;
    let records = store.records()?;
    let node = Node::restore(
        identity,
        records.iter().map(|(key, bytes)| (key, bytes.as_slice())),
    )?;
    let (commands, inbox) = mpsc::channel(QUEUE);
    let sequence = log::newest(&store)?;
    let (newest, known_newest) = watch::channel(sequence);
    let (live, _) = broadcast::channel(LIVE_EVENTS);
    let (wake, woken) = watch::channel(0);
    let (routes, routed) = routes::queues();
    let state = State {
        payments: Payments::load(&store)?,
        invoices: Invoices::load(&store, node.invoices())?,
        paid: Paid::load(&store)?,
        dials: Vec::new(),
        routes: routes.clone(),
        node,
        openings: records::all(&store, Table::Openings)?.into_iter().collect(),
        deposits: deposits(&store)?,
        peers: known_peers(&store)?,
        connected: BTreeSet::new(),
        guardians: Guardians::load(&store, &config.towers)?,
        domain,
        now: unix_time(),
        key: config.key.clone(),
        tokens: config.tokens.clone(),
        usable: BTreeSet::new(),
        changed: BTreeSet::new(),
        rim: Vec::new(),
        talks: Vec::new(),
        begin: Vec::new(),
        events: Vec::new(),
        replies: Vec::new(),
        answered: BTreeMap::new(),
    };
    let broadcaster = Broadcaster::new(
        config.chain.client.clone(),
        config.sender.clone(),
        config.key.clone(),
        domain,
        Some(signer),
    );
    let handle = Handle {
        commands: commands.clone(),
        store: store.clone(),
        newest: known_newest,
        live: live.clone(),
        routes,
    };
    let eyes = Eyes {
        store: store.clone(),
        rollup: config.rollup,
        routes: handle.routes.clone(),
    };
    let (stop, stopping) = watch::channel(false);
    let told = Told {
        commands: commands.downgrade(),
        woken,
    };
    let (watcher, chain) = ChainWatcher::new(config.chain.clone(), told);
    let routing = routes::Start {
        key: config.key.clone(),
        domain,
        network: config.network,
        link: link.clone(),
        store: store.clone(),
        chain: config.chain,
        health: chain.clone(),
        own: commands.downgrade(),
        stopping: stopping.clone(),
    };
    let runtime = Runtime {
        state,
        store,
        link,
        onions: config.onions,
        broadcaster,
        own: commands.downgrade(),
        commands: inbox,
        peers,
        applied: 0,
        sequence,
        newest,
        live: live.clone(),
        tick: config.tick,
        backup: super::backup::Keeper::new(config.backup),
        wake,
        eyes,
    };
    Ok(Running {
        handle,
        chain,
        stop,
        task: config.thread.spawn(runtime.run(stopping)),
        watcher: tokio::spawn(watcher.run()),
        routing: routes::start(routing, routed),
    })
}

/// The domain of a contract on a chain.
pub fn domain_of(client: &ChannelsClient, l1: &millrace_l1::provider::L1Provider) -> Domain {
    Domain {
        chain_id: l1.chain_id(),
        contract: super::convert::from_l1(client.address()),
    }
}

fn identity(config: &NodeConfig, domain: Domain) -> Result<Identity, RuntimeError> {
    let key = config.key.public();
    Ok(Identity {
        key,
        signer: address(&key).ok_or(RuntimeError::Key)?,
        payout: config.payout,
        domain,
        policy: config.policy.clone(),
    })
}

/// A database serves one key on one contract of one chain.
pub(super) fn bind(store: &Store, identity: &Identity) -> Result<(), RuntimeError> {
    let wanted = format!(
        "key {} on chain {}, contract {}",
        identity.key, identity.domain.chain_id, identity.domain.contract
    );
    match store.rim_get(Table::Facts, b"identity")? {
        None => {
            let record = RimRecord {
                table: Table::Facts,
                name: b"identity".to_vec(),
                value: Some(wanted.into_bytes()),
            };
            Ok(store.write(Vec::new(), vec![record])?)
        }
        Some(found) if found == wanted.as_bytes() => Ok(()),
        Some(found) => Err(RuntimeError::OtherIdentity {
            found: String::from_utf8_lossy(&found).into_owned(),
            wanted,
        }),
    }
}

fn deposits(store: &Store) -> Result<BTreeMap<String, Deposit>, StoreError> {
    let all = records::all::<Deposit>(store, Table::Deposits)?;
    Ok(all
        .into_iter()
        .map(|(name, deposit)| (String::from_utf8_lossy(&name).into_owned(), deposit))
        .collect())
}

fn known_peers(store: &Store) -> Result<BTreeMap<PublicKey, SocketAddr>, StoreError> {
    let all = records::all::<SocketAddr>(store, Table::Peers)?;
    Ok(all
        .into_iter()
        .filter_map(|(name, address)| Some((PublicKey(name.try_into().ok()?), address)))
        .collect())
}

/// Passes L1's news on to the runtime.
struct Told {
    commands: mpsc::WeakSender<Command>,
    woken: watch::Receiver<u64>,
}

impl Listener for Told {
    async fn wanted(&self) -> Option<Wanted> {
        let _ = self.woken.has_changed();
        let commands = self.commands.upgrade()?;
        let (tell, told) = oneshot::channel();
        let look = Command::Ask(Box::new(move |state| {
            let _ = tell.send(state.wanted());
        }));
        commands.send(look).await.ok()?;
        drop(commands);
        told.await.ok()
    }

    async fn report(&self, report: ChainReport) {
        if let Some(commands) = self.commands.upgrade() {
            // A runtime that has ended needs no news.
            let _ = commands.send(Command::Report(report)).await;
        }
    }
}

impl State {
    /// What is kept in memory of payments only until it is written: nothing, between two steps.
    pub fn unwritten(&self) -> usize {
        self.paid.unwritten() + self.invoices.unwritten()
    }

    /// What L1 is asked about.
    fn wanted(&self) -> Wanted {
        let mut wanted = Wanted {
            channels: self
                .node
                .channels()
                .iter()
                .filter(|(_, channel)| !channel.closed)
                .map(|(id, _)| *id)
                .collect(),
            hashes: self.node.watched().into_iter().collect(),
        };
        for channel in self.node.channels().values() {
            if let Some(ChainPhase::Closing(dispute)) =
                channel.at_head.as_ref().map(|chain| &chain.phase)
            {
                let locks = dispute.list_a.iter().chain(&dispute.list_b);
                wanted.hashes.extend(locks.map(|lock| lock.hash));
            }
        }
        wanted.channels.extend(self.agreed());
        wanted
    }
}

impl<L: Link> Runtime<L> {
    async fn run(mut self, mut stopping: watch::Receiver<bool>) -> Result<(), RuntimeError> {
        self.begin()?;
        let mut tick = tokio::time::interval(self.tick);
        tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        let settle = tokio::time::sleep(SETTLE_AFTER);
        tokio::pin!(settle);
        let mut settling = false;
        let mut ticked = false;
        let stop = super::asked_to_stop(&mut stopping);
        tokio::pin!(stop);
        loop {
            let waits = self.state.node.waits_to_settle();
            if waits && !settling {
                settle
                    .as_mut()
                    .reset(tokio::time::Instant::now() + SETTLE_AFTER);
            }
            settling = waits;
            tokio::select! {
                () = &mut stop => break,
                Some(command) = self.commands.recv() => self.command(command),
                Some(event) = self.peers.recv() => self.peer(event),
                _ = tick.tick() => {
                    self.tick();
                    ticked = true;
                }
                () = &mut settle, if settling => {
                    // Nothing to refuse.
                    let _ = self.apply(Input::Settle);
                }
            }
            self.take_more();
            self.flush()?;
            if std::mem::take(&mut ticked) {
                self.backup.tick(&self.state, &self.store);
            }
        }
        self.backup.finish(&self.state, &self.store);
        Ok(())
    }

    /// Takes what else is there without waiting.
    fn take_more(&mut self) {
        while self.applied < MAX_APPLIED {
            let before = self.applied;
            if let Ok(event) = self.peers.try_recv() {
                self.peer(event);
            }
            if let Ok(command) = self.commands.try_recv() {
                self.command(command);
            }
            if self.applied == before {
                break;
            }
        }
    }

    /// Goes on with what a crash interrupted.
    fn begin(&mut self) -> Result<(), RuntimeError> {
        let known: Vec<(PublicKey, SocketAddr)> = self
            .state
            .peers
            .iter()
            .map(|(key, at)| (*key, *at))
            .collect();
        for (peer, address) in known {
            self.link.connect(peer, address);
        }
        for tower in self.state.guardians.addresses() {
            self.link.connect(tower.key, tower.address);
        }
        self.state.begin = self.state.unfinished_deposits();
        self.state.reconcile_payments();
        for input in self.state.known_guarded() {
            // A receipt of a channel that is there.
            let _ = self.apply(input);
        }
        self.applied += 1;
        self.flush()
    }

    // ---- Inputs ----

    fn apply(&mut self, input: Input) -> Result<(), StepError> {
        self.applied += 1;
        self.state.now = unix_time();
        let tools = Tools {
            keys: &*self.state.key,
            onions: &*self.onions,
        };
        self.state.node.apply(self.state.now, input, tools)
    }

    fn tick(&mut self) {
        // A tick has nothing to refuse.
        let _ = self.apply(Input::Tick);
        self.state.opening_tick();
        for hash in self.state.expired_invoices() {
            // It may have been cancelled since.
            let _ = self.apply(Input::Cancel(hash));
        }
        self.state.payments_tick();
        self.state.paid_tick();
        self.look_at_paid();
        let due = self.state.watches_due();
        self.state.talks.extend(due);
        let due = self.state.asks_due();
        self.state.talks.extend(due);
        self.hear_peers();
        self.state.note_usable();
    }

    fn peer(&mut self, event: PeerEvent) {
        match event {
            PeerEvent::Connected(peer) => {
                self.state.connected.insert(peer);
                self.state.guardians.connected(&peer);
                self.state.guardians.held_back.insert(peer);
                let due = self.state.asks_due();
                self.state.talks.extend(due);
                self.applied += 1;
                self.hear_peers();
                self.state.routes.say(Word::Connected(peer));
                self.state.opening_connected(peer);
                self.state.paid_connected(peer);
            }
            PeerEvent::Disconnected(peer) => {
                self.state.connected.remove(&peer);
                self.state.guardians.held_back.remove(&peer);
                let _ = self.apply(Input::Disconnected(peer));
                self.state.routes.say(Word::Disconnected(peer));
            }
            PeerEvent::Frame { from, frame } => self.frame(from, &frame),
        }
    }

    fn frame(&mut self, from: PublicKey, frame: &[u8]) {
        if gossip::is_gossip(frame) {
            self.state.routes.frame(from, frame.to_vec());
            return;
        }
        if talk::is_talk(frame) {
            self.applied += 1;
            match talk::decode(frame) {
                Ok(said) => self.talk(from, said),
                Err(error) => tracing::debug!(peer = %from, %error, "a frame was ignored"),
            }
            return;
        }
        let message = match wire::decode(frame) {
            Ok(message) => message,
            Err(error) => {
                tracing::debug!(peer = %from, %error, "a frame was ignored");
                return;
            }
        };
        if self.state.guardians.held_back.contains(&from) {
            // It says it again after our Reestablish.
            return;
        }
        self.state.changed.insert(message.channel());
        if let Message::Fail {
            channel,
            lock,
            reason,
        } = &message
        {
            self.state.heard(&from, *channel, *lock, reason);
        }
        let unknown = matches!(message, Message::Reestablish(_));
        if let Err(error) = self.apply(Input::Message { from, message }) {
            let expected = unknown && matches!(error, StepError::UnknownChannel(_));
            if !expected {
                tracing::debug!(peer = %from, %error, "a message was ignored");
            }
        }
    }

    fn talk(&mut self, from: PublicKey, said: talk::Talk) {
        for input in self.state.talked(from, said) {
            let record = matches!(input, Input::Record(_));
            match self.apply(input) {
                Err(error) if record => {
                    tracing::info!(tower = %from, %error, "a tower's record brings nothing")
                }
                Err(error) => tracing::warn!(%error, "an agreed channel cannot be used"),
                Ok(()) => {}
            }
        }
        self.hear_peers();
        self.look_at_paid();
    }

    /// Tells the machine of peers that are connected, once the towers were heard about what it has lost.
    fn hear_peers(&mut self) {
        let waiting = self.state.guardians.held_back.iter();
        let heard: Vec<PublicKey> = waiting
            .filter(|peer| !self.state.hears_towers_first(peer))
            .copied()
            .collect();
        for peer in heard {
            self.state.guardians.held_back.remove(&peer);
            let _ = self.apply(Input::Connected(peer));
        }
    }

    /// Starts what can be looked at now, and dials whom it takes.
    fn look_at_paid(&mut self) {
        for look in self.state.paid.due() {
            tokio::spawn(paid::look(self.eyes.clone(), look, self.own.clone()));
        }
        for (peer, address) in std::mem::take(&mut self.state.dials) {
            match address {
                Some(address) => self.link.connect(peer, address),
                None => self.link.disconnect(peer),
            }
        }
    }

    fn paid_found(&mut self, found: paid::Found) {
        self.applied += 1;
        self.state.now = unix_time();
        if let Some(input) = self.state.paid_found(&self.store, found) {
            // An invoice that was released before cannot be taken back: the event has said so.
            let _ = self.apply(input);
        }
        self.look_at_paid();
    }

    fn command(&mut self, command: Command) {
        match command {
            Command::Ask(look) => look(&self.state),
            Command::Report(report) => self.report(report),
            Command::Planned(planned) => self.planned(*planned),
            Command::PaidFound(found) => self.paid_found(*found),
            Command::Landed(outcome) => {
                self.applied += 1;
                if let Ok((transaction, gas)) = outcome.result {
                    self.state.events.push(EventBody::Landed {
                        what: outcome.what.to_owned(),
                        transaction: crate::types::Hash32(transaction),
                        gas,
                    });
                }
            }
            Command::Deposited { operation, result } => {
                self.applied += 1;
                self.state.deposited(&operation, result);
            }
            Command::Do {
                request,
                key,
                reply,
            } => self.request(request, key, reply),
        }
    }

    fn report(&mut self, report: ChainReport) {
        let inputs = self.state.agreed_on_chain(&report);
        for input in inputs {
            if let Err(error) = self.apply(input) {
                tracing::warn!(%error, "an agreed channel cannot be used");
            }
        }
        for (id, chain) in &report.channels {
            self.state.changed.insert(*id);
            self.state.note_closing(id, chain);
        }
        // A report has nothing to refuse.
        let _ = self.apply(Input::Chain(report));
        self.state.note_usable();
    }

    fn request(
        &mut self,
        request: Request,
        key: Option<RequestKey>,
        reply: oneshot::Sender<Result<Answer, NodeError>>,
    ) {
        if let Some(key) = &key {
            match self.known_answer(key) {
                Ok(None) => {}
                Ok(Some(answer)) => {
                    // The first answer may not be durable yet: this one waits behind it.
                    self.applied += 1;
                    self.state.replies.push((reply, answer));
                    return;
                }
                Err(error) => return drop(reply.send(Err(error))),
            }
        }
        if let Request::PayOver(order) = request {
            return self.order(order, key, reply);
        }
        match self.perform(request) {
            Ok(answer) => {
                self.applied += 1;
                if let Some(key) = key {
                    self.remember(key, answer.clone());
                }
                self.state.replies.push((reply, answer));
            }
            // Whoever asked may have gone.
            Err(error) => drop(reply.send(Err(error))),
        }
    }

    fn known_answer(&self, key: &RequestKey) -> Result<Option<Answer>, NodeError> {
        let found = match self.state.answered.get(&key.key).cloned() {
            Some(found) => Some(found),
            None => {
                let bytes = self.store.rim_get(Table::Answers, key.key.as_bytes())?;
                bytes
                    .map(|bytes| records::read::<Answered>(key.key.as_bytes(), &bytes))
                    .transpose()?
            }
        };
        match found {
            Some(found) if found.request != key.request => {
                Err(NodeError::KeyReused(key.key.clone()))
            }
            found => Ok(found.map(|found| found.answer)),
        }
    }

    fn remember(&mut self, key: RequestKey, answer: Answer) {
        let answered = Answered {
            request: key.request,
            answer,
        };
        let record = records::write(Table::Answers, key.key.as_bytes(), &answered);
        self.state.rim.push(record);
        self.state.answered.insert(key.key, answered);
    }

    fn perform(&mut self, request: Request) -> Result<Answer, NodeError> {
        match request {
            Request::PayDirect {
                channel,
                amount,
                reference,
            } => {
                self.state.changed.insert(channel);
                let direct = Direct { amount, reference };
                self.apply(Input::PayDirect { channel, direct })?;
                Ok(Answer::Paid { channel, reference })
            }
            Request::Pay(payment) => {
                let hash = payment.hash;
                self.apply(Input::Pay(payment))?;
                Ok(Answer::Paying { hash })
            }
            Request::AddInvoice { invoice, text } => {
                let hash = invoice.preimage.hash();
                self.apply(Input::AddInvoice(invoice))?;
                self.state.rim.push(RimRecord {
                    table: Table::Texts,
                    name: hash.0.to_vec(),
                    value: Some(text.into_bytes()),
                });
                Ok(Answer::Done)
            }
            // It is answered when its first plan is there.
            Request::PayOver(_) => Ok(Answer::Done),
            Request::MakeInvoice(terms) => {
                let (kept, invoice, text) = self.state.make_invoice(terms)?;
                self.apply(Input::AddInvoice(kept))?;
                Ok(self.state.keep_invoice(&invoice, text))
            }
            Request::Release(hash) => self.simple(Input::Release(hash)),
            Request::Cancel(hash) => self.simple(Input::Cancel(hash)),
            Request::Withdraw { channel, amount } => {
                self.state.changed.insert(channel);
                self.simple(Input::Withdraw { channel, amount })
            }
            Request::Close(channel) => self.simple(Input::CloseCooperatively(channel)),
            Request::ForceClose(channel) => self.simple(Input::ForceClose(channel)),
            Request::Connect { peer, address } => {
                if peer == self.state.node.identity().key {
                    return Err(NodeError::Self_(peer));
                }
                self.state.peers.insert(peer, address);
                let record = records::write(Table::Peers, &peer.0, &address);
                self.state.rim.push(record);
                self.link.connect(peer, address);
                Ok(Answer::Done)
            }
            Request::Disconnect(peer) => {
                self.state.peers.remove(&peer);
                self.state.rim.push(records::remove(Table::Peers, &peer.0));
                self.link.disconnect(peer);
                Ok(Answer::Done)
            }
            Request::Open {
                peer,
                token,
                amount,
                window_secs,
            } => self.state.propose(peer, token, amount, window_secs),
            Request::Deposit { channel, amount } => self.state.deposit_more(channel, amount),
            Request::TellPaid(telling) => self.state.tell_paid(telling),
        }
    }

    // ---- Payments over several hops ----

    fn order(
        &mut self,
        order: PayOrder,
        key: Option<RequestKey>,
        reply: oneshot::Sender<Result<Answer, NodeError>>,
    ) {
        let store = self.store.clone();
        match self.state.order(&store, order, key.clone(), reply) {
            None => {}
            Some((reply, Ok(answer))) => {
                self.applied += 1;
                if let Some(key) = key {
                    self.remember(key, answer.clone());
                }
                self.state.replies.push((reply, answer));
            }
            // Whoever asked may have gone.
            Some((reply, Err(error))) => drop(reply.send(Err(error))),
        }
    }

    /// Routes are there: the machine's locks, the payment's record and the answers go into one write.
    fn planned(&mut self, planned: Planned) {
        self.applied += 1;
        if planned.replaces.is_some() {
            let wanted = self.state.replacement(&planned);
            let result = wanted.map(|payment| self.apply(Input::AddParts(payment)));
            return self.state.replaced(planned, result);
        }
        let hash = planned.hash;
        let wanted = self.state.planned(&planned);
        let result = wanted.map(|payment| self.apply(Input::Pay(payment)));
        if let Some(Ok(())) = result {
            let attempted = self.state.attempted(planned);
            let answer = Answer::Paying { hash };
            for key in attempted.keys {
                self.remember(key, answer.clone());
            }
            let replies = attempted.replies.into_iter();
            let replies = replies.map(|reply| (reply, answer.clone()));
            self.state.replies.extend(replies);
            return;
        }
        let refused = self
            .state
            .not_attempted(planned, result.and_then(Result::err));
        let error = refused.error.unwrap_or(NodeError::Late(hash));
        for reply in refused.replies {
            // Whoever asked may have gone.
            drop(reply.send(Err(error.clone())));
        }
    }

    /// What the machine tells, unless it is only the end of an attempt.
    fn notice(&mut self, notice: Notice) {
        match &notice {
            Notice::PaymentSucceeded { hash, preimage } => {
                self.state.payment_succeeded(*hash, *preimage);
            }
            Notice::InvoicePaid { hash, received }
                if self.state.note_keysend(&self.store, *hash, *received) =>
            {
                return;
            }
            Notice::PartFailed {
                hash,
                channel,
                amount,
                reason,
            } if self.state.part_failed(*hash, *channel, *amount, reason) => {
                return;
            }
            Notice::PaymentFailed { hash, reason } if self.state.payment_failed(*hash, reason) => {
                return;
            }
            _ => {}
        }
        self.state.events.push(notice.into());
    }

    fn simple(&mut self, input: Input) -> Result<Answer, NodeError> {
        self.apply(input)?;
        Ok(Answer::Done)
    }

    // ---- Effects ----

    /// Writes what was applied, then says it.
    fn flush(&mut self) -> Result<(), RuntimeError> {
        if std::mem::take(&mut self.applied) == 0 {
            return Ok(());
        }
        let tools = Tools {
            keys: &*self.state.key,
            onions: &*self.onions,
        };
        let effects = self.state.node.flush(tools);
        let mut records: Vec<Record> = Vec::new();
        let mut after = Vec::new();
        for effect in effects {
            match effect {
                Effect::Persist(more) => records.extend(more),
                Effect::Send { to, message } => {
                    after.push(After::Send(to, wire::encode(&message)));
                }
                Effect::Broadcast(transaction) => after.push(After::Broadcast(transaction)),
                Effect::Watch(_) => self.wake.send_modify(|count| *count += 1),
                Effect::Notify(notice) => self.notice(notice),
            }
        }
        let written = records.iter().filter_map(|record| match record.key {
            Key::Channel(id) => Some(id),
            _ => None,
        });
        let due = self.state.awaited_watches(written);
        self.state.talks.extend(due);
        let talks = std::mem::take(&mut self.state.talks);
        after.extend(talks.into_iter().map(|(to, frame)| After::Send(to, frame)));
        let begin = std::mem::take(&mut self.state.begin);
        after.extend(begin.into_iter().map(After::Deposit));
        let told = self.sequence;
        self.number_events(&mut after);
        let replies = std::mem::take(&mut self.state.replies);
        let replies = replies
            .into_iter()
            .map(|(reply, answer)| After::Answer(reply, answer));
        after.extend(replies);
        let rim = std::mem::take(&mut self.state.rim);
        self.backup.note(&records, &rim);
        if !(records.is_empty() && rim.is_empty()) {
            let written = self.store.write(records, rim);
            let written = written.and_then(|()| log::forget(&self.store, told, self.sequence));
            written.inspect_err(|error| tracing::error!(%error, "the channels' node stops"))?;
        }
        self.state.answered.clear();
        self.state.payments.durable();
        self.state.paid.durable();
        self.state.invoices.durable();
        for after in after {
            self.act(after);
        }
        Ok(())
    }

    fn number_events(&mut self, after: &mut Vec<After>) {
        let mut events = Vec::with_capacity(self.state.events.len());
        for body in self.state.events.drain(..) {
            self.sequence += 1;
            events.push(Event {
                sequence: self.sequence,
                time: self.state.now,
                body,
            });
        }
        if let Some(page) = log::page(&events) {
            self.state.rim.push(page);
            after.push(After::Events(self.sequence, events));
        }
    }

    fn act(&mut self, after: After) {
        match after {
            After::Send(to, frame) => self.link.send(to, frame),
            After::Broadcast(transaction) => {
                let own = self.own.clone();
                let now = self.state.node.now();
                self.broadcaster
                    .broadcast(&transaction, now, move |outcome| {
                        tokio::spawn(tell(own, Command::Landed(outcome)));
                    });
            }
            After::Deposit(operation) => self.start_deposit(operation),
            // Whoever asked may have gone.
            After::Answer(reply, answer) => drop(reply.send(Ok(answer))),
            After::Events(newest, events) => {
                for event in events
                    .into_iter()
                    .filter(|_| self.live.receiver_count() > 0)
                {
                    // Without a listener there is nobody to tell.
                    let _ = self.live.send(event);
                }
                self.newest.send_replace(newest);
            }
        }
    }

    fn start_deposit(&self, operation: String) {
        let Some(deposit) = self.state.deposits.get(&operation).cloned() else {
            return;
        };
        let client = self.broadcaster.client().clone();
        let sender = self.broadcaster.sender().clone();
        let own = self.own.clone();
        self.broadcaster.background().spawn(async move {
            let result = super::opening::send_deposit(&client, &sender, &operation, &deposit).await;
            tell(own, Command::Deposited { operation, result }).await;
        });
    }
}

/// Tells the runtime something, unless it has ended.
async fn tell(own: mpsc::WeakSender<Command>, command: Command) {
    if let Some(commands) = own.upgrade() {
        let _ = commands.send(command).await;
    }
}

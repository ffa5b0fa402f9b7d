//! The task that owns gossip, graph and routes, beside the runtime: neither waits for the other.
//!
//! ```text
//! runtime ── peers, gossip frames (dropped when too many), plans, outcomes ──→ task ── Planned ──→ runtime
//! task ── gossip frames ──→ link          task ←→ lookups (L1)          task ── now and then, and at the end ──→ store
//! ```
//! Gossip needs no durability: a frame that is lost is asked for again, an old graph costs time only. What moves money does: a
//! plan goes back to the runtime, which writes it with the machine's step.

use super::chain::{ChainConfig, ChainHealth};
use super::handle::Command;
use super::link::Link;
use super::lookups::{Found, Lookups};
use super::runtime::State;
use super::{records, unix_time};
use crate::digest::Domain;
use crate::invoice::Hint;
use crate::machine::channel::Channel;
use crate::machine::payment::{NewPayment, reason};
use crate::onion::{self, Failure};
use crate::routing::graph::Deposit;
use crate::routing::liquidity::{CERTAIN, Crossing, Verdict};
use crate::routing::payment::{Order, SentPart};
use crate::routing::route::{OwnChannel, Route, RouteError, Target};
use crate::routing::router::{LocalChannel, Outgoing, PlanError, Router};
use crate::signing::HotKey;
use crate::store::{Store, Table};
use crate::types::{Address, Amount, ChannelId, PaymentHash, PublicKey, Timestamp};
use rand::RngCore;
use rand::rngs::OsRng;
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::sync::{mpsc, oneshot, watch};
use tokio::task::JoinHandle;

/// Gossip frames that wait; more are dropped, and asked for again.
const FRAMES: usize = 64;
/// How often the task looks at the time.
const TICK: Duration = Duration::from_secs(1);
/// How often the graph is written.
const WRITE_EVERY: Duration = Duration::from_secs(300);
/// Name of the stored graph.
const STORED: &[u8] = b"router";

/// How a node shows itself to the network.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NetworkConfig {
    /// Whether its channels are announced; otherwise invoices carry hints to them.
    pub announce: bool,
    /// Its name for people, at most 32 bytes.
    pub alias: String,
    /// `host:port` where others reach it; none: only its channels are announced.
    pub addresses: Vec<String>,
}

impl Default for NetworkConfig {
    fn default() -> Self {
        Self {
            announce: true,
            alias: String::new(),
            addresses: Vec::new(),
        }
    }
}

/// Parts of a payment that failed, with what was heard about each.
pub(super) type Ended = Vec<(SentPart, Vec<u8>)>;

/// A payment that wants routes.
pub(super) struct Job {
    pub order: Order,
    pub wanted: Wanted,
    /// What the attempt before came to: learnt from first.
    pub ended: Ended,
    /// Whether another attempt may be made.
    pub retry: bool,
    /// The attempt of which parts are replaced while others stand; none: a whole attempt.
    pub replaces: Option<u32>,
}

/// Routes of a payment, or why there are none.
pub(super) struct Planned {
    pub hash: PaymentHash,
    pub result: Result<Plan, PlanFailure>,
    /// Why the attempt before failed, in words.
    pub failed: Option<String>,
    /// As in the job.
    pub replaces: Option<u32>,
}

pub(super) struct Plan {
    pub payment: NewPayment,
    pub parts: Vec<SentPart>,
}

/// Why a payment gets no routes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum PlanFailure {
    /// There are none.
    Plan(PlanError),
    /// The payee does not want it, or its time is over.
    Ended,
}

/// What the task is told and asked.
pub(super) enum Word {
    Connected(PublicKey),
    Disconnected(PublicKey),
    Plan(Box<Job>),
    Paid(Vec<SentPart>),
    Look(Box<dyn FnOnce(&Router) + Send>),
}

/// The way to the task. Clones share it.
#[derive(Clone)]
pub(super) struct Routes {
    words: mpsc::UnboundedSender<Word>,
    frames: mpsc::Sender<(PublicKey, Vec<u8>)>,
}

impl Routes {
    /// Says something. A task that has ended needs no news.
    pub fn say(&self, word: Word) {
        let _ = self.words.send(word);
    }

    /// Passes a gossip frame on; drops it while too many wait.
    pub fn frame(&self, from: PublicKey, frame: Vec<u8>) {
        if self.frames.try_send((from, frame)).is_err() {
            tracing::debug!(peer = %from, "a gossip frame was dropped: too many wait");
        }
    }

    /// Looks at the router.
    pub async fn look<T: Send + 'static>(
        &self,
        look: impl FnOnce(&Router) -> T + Send + 'static,
    ) -> Option<T> {
        let (tell, told) = oneshot::channel();
        self.say(Word::Look(Box::new(move |router| {
            // Whoever asked may have gone.
            let _ = tell.send(look(router));
        })));
        told.await.ok()
    }
}

/// What the graph is stored as.
#[derive(Serialize, Deserialize)]
struct Stored {
    seen: Option<u64>,
    router: Vec<u8>,
}

/// What the task is made of.
pub(super) struct Start<L> {
    pub key: Arc<HotKey>,
    pub domain: Domain,
    pub network: NetworkConfig,
    pub link: Arc<L>,
    pub store: Arc<Store>,
    pub chain: ChainConfig,
    pub health: watch::Receiver<ChainHealth>,
    pub own: mpsc::WeakSender<Command>,
    pub stopping: watch::Receiver<bool>,
}

/// The ends of the queues that the task reads.
pub(super) struct Inbox {
    words: mpsc::UnboundedReceiver<Word>,
    frames: mpsc::Receiver<(PublicKey, Vec<u8>)>,
}

/// The two ends of the way to a task that is started later.
pub(super) fn queues() -> (Routes, Inbox) {
    let (words, told) = mpsc::unbounded_channel();
    let (frames, heard) = mpsc::channel(FRAMES);
    let inbox = Inbox {
        words: told,
        frames: heard,
    };
    (Routes { words, frames }, inbox)
}

/// Starts the task on what the store knows.
pub(super) fn start<L: Link>(start: Start<L>, inbox: Inbox) -> JoinHandle<()> {
    let mut router = Router::new(
        start.key,
        start.domain,
        start.network.alias.clone(),
        start.network.addresses.clone(),
        OsRng.next_u64(),
    );
    let seen = restore(&mut router, &start.store);
    let task = Task {
        router,
        lookups: Lookups::start(start.chain, start.health, seen),
        seen,
        changed: BTreeSet::new(),
        announce: start.network.announce,
        link: start.link,
        store: start.store,
        own: start.own,
    };
    tokio::spawn(task.run(inbox, start.stopping))
}

/// What is stored may be damaged or of another version: then it is learnt again.
fn restore(router: &mut Router, store: &Store) -> Option<u64> {
    let bytes = match store.rim_get(Table::Graph, STORED) {
        Ok(bytes) => bytes?,
        Err(error) => {
            tracing::warn!(%error, "the stored graph cannot be read; it is learnt again");
            return None;
        }
    };
    let stored: Stored = records::read(STORED, &bytes)
        .inspect_err(
            |error| tracing::warn!(%error, "the stored graph is damaged; it is learnt again"),
        )
        .ok()?;
    match router.restore(&stored.router) {
        Ok(()) => stored.seen,
        Err(error) => {
            tracing::warn!(%error, "the stored graph is not used");
            None
        }
    }
}

struct Task<L> {
    router: Router,
    lookups: Lookups,
    /// The final block up to which the graph has followed L1.
    seen: Option<u64>,
    /// Channels of the graph that L1 has news of.
    changed: BTreeSet<ChannelId>,
    announce: bool,
    link: Arc<L>,
    store: Arc<Store>,
    own: mpsc::WeakSender<Command>,
}

impl<L: Link> Task<L> {
    async fn run(mut self, mut inbox: Inbox, mut stopping: watch::Receiver<bool>) {
        let mut tick = tokio::time::interval(TICK);
        tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        let mut written = Instant::now();
        loop {
            tokio::select! {
                // Payments before gossip.
                biased;
                () = super::asked_to_stop(&mut stopping) => break,
                Some(word) = inbox.words.recv() => self.word(word).await,
                _ = tick.tick() => if !self.tick().await { break },
                Some(found) = self.lookups.next() => self.found(found),
                Some((from, frame)) = inbox.frames.recv() => self.frame(from, &frame),
            }
            if written.elapsed() >= WRITE_EVERY {
                written = Instant::now();
                self.write().await;
            }
        }
        self.write().await;
        self.lookups.end().await;
    }

    async fn write(&self) {
        let stored = Stored {
            seen: self.seen,
            router: self.router.snapshot(),
        };
        let record = records::write(Table::Graph, STORED, &stored);
        let store = self.store.clone();
        let write = move || store.write(Vec::new(), vec![record]);
        let written = tokio::task::spawn_blocking(write).await;
        if !matches!(written, Ok(Ok(()))) {
            tracing::warn!("the graph was not written; it is learnt again after a restart");
        }
    }

    async fn word(&mut self, word: Word) {
        match word {
            Word::Connected(peer) => self.router.connected(peer),
            Word::Disconnected(peer) => self.router.disconnected(&peer),
            Word::Plan(job) => {
                let planned = self.plan(*job);
                if let Some(own) = self.own.upgrade() {
                    // A runtime that has ended pays nothing.
                    let _ = own.send(Command::Planned(Box::new(planned))).await;
                }
            }
            Word::Paid(parts) => {
                for part in &parts {
                    self.router.paid(part, unix_time());
                }
            }
            Word::Look(look) => look(&self.router),
        }
    }

    fn frame(&mut self, from: PublicKey, frame: &[u8]) {
        let now = unix_time();
        match self.router.frame(from, frame, now, &self.lookups) {
            Ok(outgoing) => self.send(outgoing),
            Err(error) => tracing::debug!(peer = %from, %error, "gossip was not taken"),
        }
        self.lookups.ask(self.router.graph().waiting(), now);
    }

    fn send(&self, outgoing: Vec<Outgoing>) {
        for (to, frame) in outgoing {
            self.link.send(to, frame);
        }
    }

    /// False when the runtime has ended.
    async fn tick(&mut self) -> bool {
        let Some(locals) = self.locals().await else {
            return false;
        };
        let now = unix_time();
        let capacities = locals.iter().map(|(local, pot)| (local.channel, *pot));
        let capacities: BTreeMap<ChannelId, u128> = capacities.collect();
        for (id, capacity) in capacities
            .iter()
            .filter(|(id, _)| self.changed.contains(id))
        {
            let capacity = *capacity;
            self.router.deposit_changed(id, Deposit::Open { capacity });
        }
        self.changed.retain(|id| !capacities.contains_key(id));
        self.lookups.set_locals(capacities);
        let shown: Vec<LocalChannel> = locals.into_iter().map(|(local, _)| local).collect();
        let shown = if self.announce { shown } else { Vec::new() };
        let outgoing = self.router.tick(now, &shown, &self.lookups);
        self.send(outgoing);
        let graph = self.router.graph();
        self.lookups.tidy(|id| graph.channel(id).is_some(), now);
        self.lookups.ask(self.changed.iter(), now);
        self.lookups.ask(graph.waiting(), now);
        true
    }

    async fn locals(&self) -> Option<Vec<(LocalChannel, u128)>> {
        let own = self.own.upgrade()?;
        let (tell, told) = oneshot::channel();
        let look = Command::Ask(Box::new(move |state| {
            let _ = tell.send(state.locals());
        }));
        own.send(look).await.ok()?;
        drop(own);
        told.await.ok()
    }

    fn found(&mut self, found: Found) {
        match found {
            Found::Channel(id, deposit) => {
                self.lookups.learn(id, deposit, unix_time());
                if deposit != Deposit::Unknown {
                    self.changed.remove(&id);
                }
                self.router.deposit_changed(&id, deposit);
            }
            Found::Changed(ids, block) => {
                self.seen = Some(block);
                self.lookups.forget(&ids);
                let graph = self.router.graph();
                let known = ids.into_iter().filter(|id| graph.channel(id).is_some());
                self.changed.extend(known);
            }
        }
    }

    // ---- Payments ----

    fn plan(&mut self, job: Job) -> Planned {
        let now = unix_time();
        let (verdict, failed) = self.learn(&job.ended);
        let result = if verdict == Verdict::GiveUp || !job.retry {
            Err(PlanFailure::Ended)
        } else {
            let target = job.wanted.target(&self.router, now);
            self.router
                .plan(&job.order, &target, random)
                .map(|(payment, parts)| Plan { payment, parts })
                .map_err(PlanFailure::Plan)
        };
        Planned {
            hash: job.order.hash,
            result,
            failed,
            replaces: job.replaces,
        }
    }

    /// Learns from an attempt: whether another can help, and what to tell people.
    fn learn(&mut self, ended: &Ended) -> (Verdict, Option<String>) {
        let now = unix_time();
        let mut verdict = Verdict::Retry;
        let mut told: Option<(bool, String)> = None;
        for (part, why) in ended {
            let failure = part.read(why);
            if self.router.failed(part, why, now) == Verdict::GiveUp {
                verdict = Verdict::GiveUp;
            }
            // That other parts did not come is a consequence, not a cause.
            let cause = failure.is_none_or(|failure| failure.code != reason::PARTS);
            if told.as_ref().is_none_or(|(known, _)| cause && !known) {
                told = Some((cause, describe(failure.as_ref(), why)));
            }
        }
        (verdict, told.map(|(_, text)| text))
    }
}

fn describe(failure: Option<&Failure>, why: &[u8]) -> String {
    match failure {
        Some(failure) => format!(
            "node {} (hop {}) says: {}",
            failure.node,
            failure.hop + 1,
            onion::describe(failure.code)
        ),
        None if why.is_empty() => "it expired without an answer".to_owned(),
        None => "a node on the way altered the reason".to_owned(),
    }
}

fn random() -> [u8; 32] {
    let mut bytes = [0; 32];
    OsRng.fill_bytes(&mut bytes);
    bytes
}

impl State {
    /// Our channels as others may know them, and what L1 finally holds in each.
    pub(super) fn locals(&self) -> Vec<(LocalChannel, u128)> {
        let channels = self.node.channels().values();
        channels
            .filter_map(|channel| {
                let pot = channel.at_final.as_ref()?.pot().max(0).unsigned_abs();
                let known =
                    channel.is_open() && !channel.closing && channel.fault.is_none() && pot > 0;
                known.then(|| (self.local(channel, pot), pot))
            })
            .collect()
    }

    fn local(&self, channel: &Channel, pot: u128) -> LocalChannel {
        let policy = &self.node.identity().policy;
        LocalChannel {
            channel: channel.id,
            params: channel.params,
            side: channel.side,
            peer: channel.peer,
            usable: self.pays(channel),
            fee_base: policy.fee_base,
            fee_ppm: u32::try_from(policy.fee_ppm).unwrap_or(u32::MAX),
            min_lock: policy.min_lock,
            max_lock: pot.min(policy.max_peer_value),
        }
    }

    /// Whether a channel takes payments of ours now.
    fn pays(&self, channel: &Channel) -> bool {
        channel.session.established
            && channel.is_open()
            && !channel.closing
            && channel.fault.is_none()
            && channel.payout.is_none()
            && !channel.is_quiet()
            && self.node.now() >= channel.peer_quiet_until
    }

    /// Channels over which a payment in a token can leave now.
    pub(super) fn own_channels(&self, token: Address) -> Vec<OwnChannel> {
        let rules = self.node.rules();
        let channels = self.node.channels().values();
        channels
            .filter(|channel| channel.params.token == token && self.pays(channel))
            .map(|channel| OwnChannel {
                channel: channel.id,
                side: channel.side,
                peer: channel.peer,
                spendable: channel.spendable(rules).get(),
            })
            .filter(|own| own.spendable > 0)
            .collect()
    }
}

/// A way that was found, for people.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Way {
    /// What leaves us and what arrives, units.
    pub sent: Amount,
    /// What arrives.
    pub delivered: Amount,
    /// Channels in order, ours first, with what crosses each.
    pub channels: Vec<(ChannelId, u128)>,
    /// Nodes in order, the payee last.
    pub nodes: Vec<PublicKey>,
    /// How likely it works, in millionths, from what earlier payments have shown.
    pub probability: u32,
}

/// What to look for a way for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Wanted {
    pub payee: PublicKey,
    pub token: Address,
    pub amount: Amount,
    pub max_fee: u128,
    pub max_parts: usize,
    pub hints: Vec<Hint>,
    pub own: Vec<OwnChannel>,
    /// What other parts of the payment take of others' channels.
    pub taken: Vec<Crossing>,
}

impl Wanted {
    fn target(&self, router: &Router, now: Timestamp) -> Target<'_> {
        Target {
            payer: router.own_key(),
            payee: self.payee,
            token: self.token,
            amount: self.amount,
            max_fee: self.max_fee,
            own: &self.own,
            hints: &self.hints,
            max_parts: self.max_parts,
            taken: &self.taken,
            now,
        }
    }
}

/// Looks for ways, and changes nothing.
pub(super) fn ways(router: &Router, wanted: &Wanted) -> Result<Vec<Way>, RouteError> {
    let now = unix_time();
    let routes = router.routes(&wanted.target(router, now))?;
    Ok(routes
        .into_iter()
        .map(|route| way(router, route, wanted.payee, now))
        .collect())
}

fn way(router: &Router, route: Route, payee: PublicKey, now: u64) -> Way {
    let others = route.crossings.iter().skip(1);
    let probability = others.fold(u64::from(CERTAIN), |sum, crossing| {
        sum * u64::from(router.probability(crossing, now)) / u64::from(CERTAIN)
    });
    let mut nodes: Vec<PublicKey> = route.forwards.iter().map(|forward| forward.node).collect();
    nodes.push(payee);
    Way {
        sent: route.sent,
        delivered: route.delivered,
        channels: route
            .crossings
            .iter()
            .map(|crossing| (crossing.direction.channel, crossing.amount))
            .collect(),
        nodes,
        probability: u32::try_from(probability).unwrap_or(CERTAIN),
    }
}

/// The best guess of what a peer asks for a forward to us: what it asks on its announced channels.
pub(super) fn peer_fees(router: &Router) -> BTreeMap<PublicKey, (u128, u32)> {
    let mut fees = BTreeMap::new();
    for (_, known) in router.graph().channels() {
        for update in known.updates.iter().flatten() {
            let key = known.announcement.key(update.side);
            fees.insert(key, (update.fee_base, update.fee_ppm));
        }
    }
    fees
}

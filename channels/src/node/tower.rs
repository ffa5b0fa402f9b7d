//! Watchtowers, from both ends: what a node gives its towers, and the tower itself.
//!
//! ```text
//! node:  tick, or a half that something waits with → records that changed → TowerWatch
//!        → receipt: verified, durable → shown as guarded, Input::Guarded
//! tower: TowerWatch → checked (`watchtower::Tower`) → durable → TowerReceipt;  L1 → submit, reveal, settle
//! ```
//! A tower keeps one record per channel and client, replaced in place. It needs its client for nothing once it has the record.

use super::broadcast::Broadcaster;
use super::chain::{ChainConfig, ChainHealth, ChainWatcher, Listener, Wanted};
use super::link::{Link, PeerEvent};
use super::records;
use super::runtime::{RuntimeError, State, TowerAddress, domain_of};
use super::talk::{self, Talk};
use super::unix_time;
use crate::digest::{Domain, channel_id};
use crate::machine::Input;
use crate::machine::dispute::ChainReport;
use crate::machine::effect::Transaction;
use crate::policy::Policy;
use crate::signing::{HotKey, Keys};
use crate::store::{Store, StoreError, Table};
use crate::types::{ChannelId, PublicKey, Side, Timestamp, Version};
use crate::watchtower::{Receipt, Tower, TowerEffect, Watch, receipt_digest};
use millrace_l1::sender::TransactionSender;
use std::collections::{BTreeMap, VecDeque};
use std::path::PathBuf;
use std::sync::Arc;
use tokio::sync::{mpsc, oneshot, watch};
use tokio::task::JoinHandle;

/// A record without a receipt is sent again after this, seconds.
const RESEND_AFTER: u64 = 30;
/// Channels that a tower guards for one client at most: those that the client is a party of.
const MAX_PER_CLIENT: usize = 10_000;
/// Channels that a tower guards in all.
const MAX_CHANNELS: usize = 1_000_000;
/// Actions that are kept for showing; the log has them all.
const MAX_ACTIONS: usize = 1000;
/// Most things that wait for the tower's task.
const QUEUE: usize = 1024;

// ---------------------------------------------------------------------------------------------------- the client

/// What identifies the newest record of a channel.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Mark {
    version_a: Version,
    version_b: Version,
    preimages: usize,
}

/// Our towers and what they have confirmed.
#[derive(Debug, Default)]
pub struct Guardians {
    towers: Vec<TowerAddress>,
    receipts: BTreeMap<(PublicKey, ChannelId), Receipt>,
    sent: BTreeMap<(PublicKey, ChannelId), (Mark, Timestamp)>,
    confirmed: BTreeMap<(PublicKey, ChannelId), Mark>,
}

impl Guardians {
    pub(super) fn load(store: &Store, towers: &[TowerAddress]) -> Result<Self, StoreError> {
        let mut receipts = BTreeMap::new();
        for (name, receipt) in records::all::<Receipt>(store, Table::Receipts)? {
            if let Some((tower, _)) = name.split_first_chunk::<33>() {
                receipts.insert((PublicKey(*tower), receipt.channel), receipt);
            }
        }
        Ok(Self {
            towers: towers.to_vec(),
            receipts,
            ..Self::default()
        })
    }

    /// The towers.
    pub fn addresses(&self) -> Vec<TowerAddress> {
        self.towers.clone()
    }

    /// What the towers have confirmed of a channel.
    pub fn receipts(&self, channel: &ChannelId) -> Vec<(PublicKey, Receipt)> {
        self.receipts
            .iter()
            .filter(|((_, of), _)| of == channel)
            .map(|((tower, _), receipt)| (*tower, *receipt))
            .collect()
    }

    fn is_ours(&self, key: &PublicKey) -> bool {
        self.towers.iter().any(|tower| tower.key == *key)
    }

    /// After a connection everything that is not confirmed is sent again.
    pub(super) fn connected(&mut self, peer: &PublicKey) {
        self.sent.retain(|(tower, _), _| tower != peer);
    }
}

impl State {
    /// Records that a tower lacks, as frames.
    pub(super) fn watches_due(&mut self) -> Vec<(PublicKey, Vec<u8>)> {
        let mut due = Vec::new();
        for tower in self.guardians.towers.clone() {
            if !self.connected.contains(&tower.key) {
                continue;
            }
            let ids: Vec<ChannelId> = self.node.channels().keys().copied().collect();
            for id in ids {
                due.extend(
                    self.watch_due(tower.key, id)
                        .map(|frame| (tower.key, frame)),
                );
            }
        }
        due
    }

    fn watch_due(&mut self, tower: PublicKey, id: ChannelId) -> Option<Vec<u8>> {
        let channel = self.node.channels().get(&id)?;
        channel.held.signature?;
        let best = channel.best();
        let fulfilled = |peer: &&crate::machine::channel::PeerLock| {
            peer.answer == Some(crate::machine::channel::Answer::Fulfil)
        };
        let mark = Mark {
            version_a: best.a.version,
            version_b: best.b.version,
            preimages: channel.held.locks.values().filter(fulfilled).count(),
        };
        let key = (tower, id);
        if channel.closed || self.guardians.confirmed.get(&key) == Some(&mark) {
            return None;
        }
        let fresh = self.guardians.sent.get(&key);
        if fresh.is_some_and(|(sent, at)| *sent == mark && self.now < at + RESEND_AFTER) {
            return None;
        }
        let watch = self.node.watch(&id, &*self.key)?;
        self.guardians.sent.insert(key, (mark, self.now));
        Some(talk::encode(&Talk::TowerWatch(Box::new(watch))))
    }

    /// Records of these channels for the towers, if something above the limit rests on them: they go out as soon as the halves in
    /// them are durable, and not with the next tick.
    pub(super) fn awaited_watches(
        &mut self,
        written: impl Iterator<Item = ChannelId>,
    ) -> Vec<(PublicKey, Vec<u8>)> {
        let towers = self.guardians.towers.clone();
        if towers.is_empty() || self.node.identity().policy.tower_limit.is_none() {
            return Vec::new();
        }
        let awaited: Vec<ChannelId> = written
            .filter(|id| self.node.is_urgent_for_tower(id))
            .collect();
        let mut due = Vec::new();
        for tower in towers {
            if !self.connected.contains(&tower.key) {
                continue;
            }
            for id in &awaited {
                let frame = self.watch_due(tower.key, *id);
                due.extend(frame.map(|frame| (tower.key, frame)));
            }
        }
        due
    }

    /// What the towers had confirmed before a restart. Only towers that are still ours count.
    pub(super) fn known_guarded(&self) -> Vec<Input> {
        let receipts = self.guardians.receipts.iter();
        receipts
            .filter(|((key, _), _)| self.guardians.is_ours(key))
            .filter_map(|(_, receipt)| self.as_input(receipt))
            .collect()
    }

    fn as_input(&self, receipt: &Receipt) -> Option<Input> {
        let side = self.node.channels().get(&receipt.channel)?.side;
        let (own, held) = match side {
            Side::A => (receipt.version_a, receipt.version_b),
            Side::B => (receipt.version_b, receipt.version_a),
        };
        Some(Input::Guarded {
            channel: receipt.channel,
            own,
            held,
        })
    }

    /// Keeps a tower's promise, if it is one. What waited for it goes on.
    pub(super) fn receipt(&mut self, from: PublicKey, receipt: Receipt) -> Vec<Input> {
        let ours = self.guardians.is_ours(&from);
        let digest = receipt_digest(
            &receipt.channel,
            receipt.version_a,
            receipt.version_b,
            receipt.stored,
        );
        if !ours || !self.key.verify(&from, &digest, &receipt.signature) {
            tracing::warn!(tower = %from, "a receipt that no tower of ours signed");
            return Vec::new();
        }
        let key = (from, receipt.channel);
        if let Some((mark, _)) = self.guardians.sent.get(&key)
            && (mark.version_a, mark.version_b) == (receipt.version_a, receipt.version_b)
        {
            self.guardians.confirmed.insert(key, *mark);
        }
        let mut name = from.0.to_vec();
        name.extend(receipt.channel.0);
        self.rim
            .push(records::write(Table::Receipts, &name, &receipt));
        self.guardians.receipts.insert(key, receipt);
        self.as_input(&receipt).into_iter().collect()
    }
}

// ---------------------------------------------------------------------------------------------------- the tower

/// What a tower is made of.
pub struct TowerConfig {
    /// Folder of its database.
    pub folder: PathBuf,
    /// Its key: clients name it by this, and receipts are signed with it.
    pub key: Arc<HotKey>,
    /// Its margins.
    pub policy: Policy,
    /// What it follows on L1.
    pub chain: ChainConfig,
    /// Sends its transactions.
    pub sender: TransactionSender,
    /// Where its task runs, and waits for the disk: a [`super::NodeThread`]'s.
    pub thread: tokio::runtime::Handle,
}

/// What a tower tells people.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct TowerStatus {
    /// Channels that it guards.
    pub channels: usize,
    /// What it sent to L1 last, newest last.
    pub actions: Vec<super::broadcast::Outcome>,
}

enum Work {
    Wanted(oneshot::Sender<Wanted>),
    Report(ChainReport),
    Landed(super::broadcast::Outcome),
    Status(oneshot::Sender<TowerStatus>),
}

/// A tower that runs.
pub struct RunningTower {
    work: mpsc::Sender<Work>,
    /// How L1 is doing.
    pub chain: watch::Receiver<ChainHealth>,
    task: JoinHandle<Result<(), RuntimeError>>,
    watcher: JoinHandle<()>,
    stop: watch::Sender<bool>,
}

impl RunningTower {
    /// What it guards and did; none once it has ended.
    pub async fn status(&self) -> Option<TowerStatus> {
        let (tell, told) = oneshot::channel();
        self.work.send(Work::Status(tell)).await.ok()?;
        told.await.ok()
    }

    /// Waits until it ends by itself.
    pub async fn ended(&mut self) -> RuntimeError {
        match (&mut self.task).await {
            Ok(Err(error)) => error,
            Ok(Ok(())) | Err(_) => RuntimeError::Task("tower"),
        }
    }

    /// Stops it; what it has confirmed is on disk.
    pub async fn shutdown(self) {
        // One that has ended needs no telling.
        let _ = self.stop.send(true);
        let _ = self.task.await;
        self.watcher.abort();
        let _ = self.watcher.await;
    }
}

struct Guard<L> {
    tower: Tower,
    domain: Domain,
    store: Arc<Store>,
    link: Arc<L>,
    key: Arc<HotKey>,
    broadcaster: Broadcaster,
    work: mpsc::WeakSender<Work>,
    actions: VecDeque<super::broadcast::Outcome>,
}

struct Told(mpsc::WeakSender<Work>);

impl Listener for Told {
    async fn wanted(&self) -> Option<Wanted> {
        let work = self.0.upgrade()?;
        let (tell, told) = oneshot::channel();
        work.send(Work::Wanted(tell)).await.ok()?;
        drop(work);
        told.await.ok()
    }

    async fn report(&self, report: ChainReport) {
        if let Some(work) = self.0.upgrade() {
            // A tower that has ended needs no news.
            let _ = work.send(Work::Report(report)).await;
        }
    }
}

fn record_name(channel: &ChannelId, client: &PublicKey) -> Vec<u8> {
    [&channel.0[..], &client.0].concat()
}

/// The records of a tower's database with their clients. One that is named by its channel alone is an older program's, and held
/// for both parties; names in order, so that a newer record of a client replaces it.
fn stored_watches(store: &Store) -> Result<Vec<(PublicKey, Watch)>, StoreError> {
    let mut watches = Vec::new();
    for (name, watch) in records::all::<Watch>(store, Table::Watches)? {
        let (a, b) = (watch.key_a, watch.key_b);
        match [a, b].into_iter().find(|client| name.ends_with(&client.0)) {
            Some(client) => watches.push((client, watch)),
            None => watches.extend([(a, watch.clone()), (b, watch)]),
        }
    }
    Ok(watches)
}

/// Starts a tower on its folder.
///
/// # Errors
/// [`RuntimeError`].
pub fn start_tower<L: Link>(
    config: TowerConfig,
    link: Arc<L>,
    peers: mpsc::Receiver<PeerEvent>,
) -> Result<RunningTower, RuntimeError> {
    let store = Arc::new(Store::open(&config.folder.join("tower"))?);
    let domain = domain_of(&config.chain.client, &config.chain.l1);
    let watches = stored_watches(&store)?;
    let tower = Tower::new(domain.separator(), config.policy, watches);
    let (work, inbox) = mpsc::channel(QUEUE);
    let broadcaster = Broadcaster::new(
        config.chain.client.clone(),
        config.sender,
        config.key.clone(),
        domain,
        None,
    );
    let guard = Guard {
        tower,
        domain,
        store,
        link,
        key: config.key,
        broadcaster,
        work: work.downgrade(),
        actions: VecDeque::new(),
    };
    let (watcher, chain) = ChainWatcher::new(config.chain, Told(work.downgrade()));
    let (stop, stopping) = watch::channel(false);
    Ok(RunningTower {
        work,
        chain,
        task: config.thread.spawn(guard.run(inbox, peers, stopping)),
        watcher: tokio::spawn(watcher.run()),
        stop,
    })
}

impl<L: Link> Guard<L> {
    async fn run(
        mut self,
        mut inbox: mpsc::Receiver<Work>,
        mut peers: mpsc::Receiver<PeerEvent>,
        mut stopping: watch::Receiver<bool>,
    ) -> Result<(), RuntimeError> {
        loop {
            tokio::select! {
                () = super::asked_to_stop(&mut stopping) => return Ok(()),
                Some(work) = inbox.recv() => self.work(work).await?,
                Some(event) = peers.recv() => {
                    if let PeerEvent::Frame { from, frame } = event {
                        self.frame(from, &frame).await?;
                    }
                }
            }
        }
    }

    async fn work(&mut self, work: Work) -> Result<(), RuntimeError> {
        match work {
            Work::Wanted(tell) => {
                let wanted = Wanted {
                    channels: self.tower.channels().copied().collect(),
                    hashes: self.tower.watched(),
                };
                // A watcher that has ended wants nothing.
                let _ = tell.send(wanted);
            }
            Work::Report(report) => {
                let key = self.key.clone();
                let effects = self.tower.chain_reported(unix_time(), report, &*key);
                self.act(None, effects).await?;
            }
            Work::Landed(outcome) => {
                if self.actions.len() == MAX_ACTIONS {
                    self.actions.pop_front();
                }
                self.actions.push_back(outcome);
            }
            Work::Status(tell) => {
                let status = TowerStatus {
                    channels: self.tower.count(),
                    actions: self.actions.iter().cloned().collect(),
                };
                let _ = tell.send(status);
            }
        }
        Ok(())
    }

    async fn frame(&mut self, from: PublicKey, frame: &[u8]) -> Result<(), RuntimeError> {
        if !talk::is_talk(frame) {
            return Ok(());
        }
        match talk::decode(frame) {
            Ok(Talk::TowerWatch(watch)) => self.watch(from, *watch).await,
            Ok(Talk::OpenPropose(proposal)) => {
                self.say(
                    from,
                    &Talk::OpenRefuse {
                        salt: proposal.salt,
                        reason: "this is a watchtower".to_owned(),
                    },
                );
                Ok(())
            }
            Ok(_) => Ok(()),
            Err(error) => {
                tracing::debug!(peer = %from, %error, "a frame was ignored");
                Ok(())
            }
        }
    }

    async fn watch(&mut self, from: PublicKey, watch: Watch) -> Result<(), RuntimeError> {
        let id = channel_id(&self.domain.separator(), &watch.params);
        if let Err(reason) = self.admit(from, id) {
            self.say(
                from,
                &Talk::TowerRefuse {
                    channel: id,
                    reason,
                },
            );
            return Ok(());
        }
        let key = self.key.clone();
        match self.tower.watch(unix_time(), from, watch, &*key) {
            Ok(effects) => self.act(Some(from), effects).await,
            Err(error) => {
                let reason = error.to_string();
                self.say(
                    from,
                    &Talk::TowerRefuse {
                        channel: id,
                        reason,
                    },
                );
                Ok(())
            }
        }
    }

    /// The tower's limits.
    fn admit(&self, from: PublicKey, id: ChannelId) -> Result<(), String> {
        if self.tower.guards(&id, &from) {
            return Ok(());
        }
        let full = self.tower.count_of(&from) >= MAX_PER_CLIENT;
        if full || self.tower.count() >= MAX_CHANNELS {
            return Err("this tower guards no more channels".to_owned());
        }
        Ok(())
    }

    async fn act(
        &mut self,
        client: Option<PublicKey>,
        effects: Vec<TowerEffect>,
    ) -> Result<(), RuntimeError> {
        for effect in effects {
            match effect {
                TowerEffect::Persist(id, client, watch) => {
                    self.persist(id, client, watch.as_deref())?;
                }
                TowerEffect::Watch(..) => {}
                TowerEffect::Receipt(receipt) => {
                    if let Some(client) = client {
                        self.say(client, &Talk::TowerReceipt(receipt));
                    }
                }
                TowerEffect::Broadcast(transaction) => self.broadcast(&transaction),
            }
        }
        Ok(())
    }

    /// The receipt goes out after this.
    fn persist(
        &self,
        id: ChannelId,
        client: PublicKey,
        watch: Option<&Watch>,
    ) -> Result<(), RuntimeError> {
        let name = record_name(&id, &client);
        let changes = match watch {
            Some(watch) => vec![records::write(Table::Watches, &name, watch)],
            None => vec![
                records::remove(Table::Watches, &name),
                records::remove(Table::Watches, &id.0),
            ],
        };
        Ok(self.store.write(Vec::new(), changes)?)
    }

    fn broadcast(&self, transaction: &Transaction) {
        let work = self.work.clone();
        self.broadcaster
            .broadcast(transaction, unix_time(), move |outcome| {
                tokio::spawn(async move {
                    if let Some(work) = work.upgrade() {
                        let _ = work.send(Work::Landed(outcome)).await;
                    }
                });
            });
    }

    fn say(&self, to: PublicKey, talk: &Talk) {
        self.link.send(to, talk::encode(talk));
    }
}

//! Watchtowers, from both ends: what a node gives its towers, and the tower itself.
//!
//! ```text
//! node:  tick, or a half that something waits with → records that changed → TowerWatch
//!        → receipt: verified, durable → shown as guarded, Input::Guarded
//! node that lost data: TowerAsk for each channel → TowerRecord → Input::Record; only then, or after a minute, the peers are heard
//! tower: TowerWatch → checked (`watchtower::Tower`) → durable → TowerReceipt;  L1 → submit, reveal, settle;  TowerAsk → TowerRecord
//! ```
//! A tower keeps one record per channel and client, replaced in place. It needs its client for nothing once it has the record.
//! Which client asks is what the connection has proven: nobody gets the record of another.

use super::broadcast::Broadcaster;
use super::chain::{ChainConfig, ChainHealth, ChainWatcher, Listener, Wanted};
use super::link::{Link, PeerEvent};
use super::records;
use super::runtime::{RuntimeError, State, TowerAddress, domain_of};
use super::talk::{self, Talk};
use super::unix_time;
use crate::digest::{Domain, channel_id};
use crate::machine::Input;
use crate::machine::channel::{Answer, Channel};
use crate::machine::dispute::ChainReport;
use crate::machine::effect::Transaction;
use crate::machine::recovery::UNKNOWN_PEER;
use crate::policy::Policy;
use crate::signing::{HotKey, Keys};
use crate::store::{Store, StoreError, Table};
use crate::types::{ChannelId, PublicKey, Side, Timestamp, Version};
use crate::watchtower::{PreimagesHeld, Receipt, Tower, TowerEffect, Watch};
use millrace_l1::sender::TransactionSender;
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::path::PathBuf;
use std::sync::Arc;
use tokio::sync::{mpsc, oneshot, watch};
use tokio::task::JoinHandle;

/// A record without a receipt is sent again after this, seconds.
const RESEND_AFTER: u64 = 30;
/// A question for a record that was not answered is asked again after this, seconds.
const ASK_AGAIN_AFTER: u64 = 5;
/// Most questions to a tower in one tick.
const MAX_ASKED: usize = 64;
/// For so long after a start the towers are heard before the peers about channels whose data is lost, seconds.
pub const TOWERS_FIRST: u64 = 60;
/// Records that a tower gives one client in a second at most; what was asked beyond that is asked again.
const MAX_GIVEN: u32 = 64;
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
    preimages: PreimagesHeld,
}

/// Our towers and what they have confirmed.
#[derive(Debug, Default)]
pub struct Guardians {
    towers: Vec<TowerAddress>,
    receipts: BTreeMap<(PublicKey, ChannelId), Receipt>,
    sent: BTreeMap<(PublicKey, ChannelId), (Mark, Timestamp)>,
    confirmed: BTreeMap<(PublicKey, ChannelId), Mark>,
    /// When a tower was last asked for a record.
    asked: BTreeMap<(PublicKey, ChannelId), Timestamp>,
    /// Who has answered since the start, with a record or without.
    answered: BTreeSet<(PublicKey, ChannelId)>,
    /// Until when peers are not heard about channels whose data is lost.
    towers_first_until: Timestamp,
    /// Peers that are connected and not heard yet.
    pub(super) held_back: BTreeSet<PublicKey>,
}

impl Guardians {
    pub(super) fn load(store: &Store, towers: &[TowerAddress]) -> Result<Self, StoreError> {
        let mut receipts = BTreeMap::new();
        for (name, receipt) in records::all_grown::<Receipt>(store, Table::Receipts)? {
            if let Some((tower, _)) = name.split_first_chunk::<33>() {
                receipts.insert((PublicKey(*tower), receipt.channel), receipt);
            }
        }
        Ok(Self {
            towers: towers.to_vec(),
            receipts,
            towers_first_until: unix_time() + TOWERS_FIRST,
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

    /// How many of our towers have signed that they hold these preimages of a channel.
    pub fn holding(&self, channel: &ChannelId, held: PreimagesHeld) -> usize {
        let receipts = self.receipts.iter();
        receipts
            .filter(|((tower, of), _)| of == channel && self.is_ours(tower))
            .filter(|(_, receipt)| receipt.preimages == Some(held))
            .count()
    }

    fn is_ours(&self, key: &PublicKey) -> bool {
        self.towers.iter().any(|tower| tower.key == *key)
    }

    /// After a connection everything that is not confirmed is sent again, and what is not answered asked again.
    pub(super) fn connected(&mut self, peer: &PublicKey) {
        self.sent.retain(|(tower, _), _| tower != peer);
        self.asked.retain(|(tower, _), _| tower != peer);
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
        let mark = Mark {
            version_a: best.a.version,
            version_b: best.b.version,
            preimages: released(channel),
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
        if !ours
            || !self
                .key
                .verify(&from, &receipt.digest(), &receipt.signature)
        {
            tracing::warn!(tower = %from, "a receipt that no tower of ours signed");
            return Vec::new();
        }
        let key = (from, receipt.channel);
        if let Some((mark, _)) = self.guardians.sent.get(&key)
            && mark.is_confirmed_by(&receipt)
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

impl Mark {
    /// A receipt that says nothing of preimages confirms none.
    fn is_confirmed_by(&self, receipt: &Receipt) -> bool {
        let held = receipt.preimages.unwrap_or(PreimagesHeld::of([]));
        (self.version_a, self.version_b) == (receipt.version_a, receipt.version_b)
            && self.preimages == held
    }
}

/// What a tower should say it has of a channel's released preimages.
pub(super) fn released(channel: &Channel) -> PreimagesHeld {
    let locks = channel.held.locks.values();
    let released = locks.filter(|peer| peer.answer == Some(Answer::Fulfil));
    PreimagesHeld::of(released.map(|peer| peer.lock.hash))
}

// ------------------------------------------------------------------------------------ a client that has lost its data

impl State {
    /// Questions to towers about channels that are being recovered, as frames: until each has answered, or the quiet is over.
    pub(super) fn asks_due(&mut self) -> Vec<(PublicKey, Vec<u8>)> {
        let channels = self.node.channels().values();
        let quiet: Vec<ChannelId> = channels
            .filter(|channel| channel.is_quiet())
            .map(|channel| channel.id)
            .collect();
        let mut due = Vec::new();
        for tower in self.guardians.towers.clone() {
            if quiet.is_empty() || !self.connected.contains(&tower.key) {
                continue;
            }
            let late = |id: &&ChannelId| {
                let key = (tower.key, **id);
                let asked = self.guardians.asked.get(&key);
                !self.guardians.answered.contains(&key)
                    && asked.is_none_or(|at| self.now >= at + ASK_AGAIN_AFTER)
            };
            let unasked: Vec<ChannelId> =
                quiet.iter().filter(late).take(MAX_ASKED).copied().collect();
            for id in unasked {
                self.guardians.asked.insert((tower.key, id), self.now);
                due.push((tower.key, talk::encode(&Talk::TowerAsk(id))));
            }
        }
        due
    }

    /// A tower has given what it has of a channel, or has nothing. Only what one of ours was asked counts.
    pub(super) fn tower_answered(&mut self, from: PublicKey, channel: ChannelId) {
        let key = (from, channel);
        if self.guardians.asked.contains_key(&key) && self.guardians.is_ours(&from) {
            self.guardians.answered.insert(key);
        }
    }

    /// What a tower gives back goes to the machine, which believes what both parties have signed.
    pub(super) fn tower_record(&mut self, from: PublicKey, watch: Box<Watch>) -> Vec<Input> {
        let channel = channel_id(&self.domain.separator(), &watch.params);
        let asked = self.guardians.asked.contains_key(&(from, channel));
        if !asked || !self.guardians.is_ours(&from) {
            tracing::debug!(peer = %from, "a record that no tower was asked for");
            return Vec::new();
        }
        self.tower_answered(from, channel);
        vec![Input::Record(watch)]
    }

    /// Whether a peer is not heard yet: it could give back less than a tower has. Towers that do not answer are waited for until
    /// [`TOWERS_FIRST`] after the start.
    pub(super) fn hears_towers_first(&self, peer: &PublicKey) -> bool {
        let guardians = &self.guardians;
        if guardians.towers.is_empty() || self.now >= guardians.towers_first_until {
            return false;
        }
        let lost = |channel: &&Channel| {
            let with = channel.peer == *peer || channel.peer == UNKNOWN_PEER;
            with && channel.has_lost_data() && !channel.closed
        };
        let unanswered = |channel: &Channel| {
            let towers = guardians.towers.iter();
            let mut keys = towers.map(|tower| (tower.key, channel.id));
            keys.any(|key| !guardians.answered.contains(&key))
        };
        self.node.channels().values().filter(lost).any(unanswered)
    }

    /// Towers that were not heard yet about a channel whose data is lost, and until when its peer waits for them.
    pub(super) fn towers_unheard(
        &self,
        channel: &Channel,
    ) -> Option<(Vec<TowerAddress>, Timestamp)> {
        let unheard = |tower: &&TowerAddress| {
            let key = (tower.key, channel.id);
            !self.guardians.answered.contains(&key)
        };
        let towers = self.guardians.towers.iter();
        let unheard: Vec<TowerAddress> = towers.filter(unheard).copied().collect();
        let waits = channel.is_quiet() && !unheard.is_empty();
        waits.then_some((unheard, self.guardians.towers_first_until))
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
    /// Records given to each client in the second that is named.
    given: (Timestamp, BTreeMap<PublicKey, u32>),
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
    for (name, watch) in records::all_grown::<Watch>(store, Table::Watches)? {
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
        given: (0, BTreeMap::new()),
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
            Ok(Talk::TowerAsk(channel)) => {
                self.give(from, channel);
                Ok(())
            }
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

    /// Gives a client its own record; what is asked too often is not answered.
    fn give(&mut self, client: PublicKey, channel: ChannelId) {
        let now = unix_time();
        if self.given.0 != now {
            self.given = (now, BTreeMap::new());
        }
        let given = self.given.1.entry(client).or_default();
        if *given >= MAX_GIVEN {
            return;
        }
        *given += 1;
        let record = self.tower.record_of(&channel, &client);
        // Without its locks' numbers a client can do nothing with it.
        let record = record.filter(|watch| watch.numbers.is_some()).cloned();
        let answer = match record {
            Some(watch) => Talk::TowerRecord(Box::new(watch)),
            None => Talk::TowerNoRecord(channel),
        };
        self.say(client, &answer);
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::state::{Half, Halves, Params};
    use crate::types::{Address, Hash32, LockRoot, Preimage, Signature};
    use serde::Serialize;

    /// The bytes of a record of an older program, which ends before its last field.
    fn older<T: Serialize>(value: &T) -> Vec<u8> {
        let mut bytes = postcard::to_stdvec(value).unwrap();
        assert_eq!(bytes.pop(), Some(0), "no value");
        bytes
    }

    fn put(store: &Store, table: Table, name: Vec<u8>, bytes: Vec<u8>) {
        let record = crate::store::RimRecord {
            table,
            name,
            value: Some(bytes),
        };
        store.write(Vec::new(), vec![record]).unwrap();
    }

    #[test]
    fn receipts_and_records_of_older_programs_are_read() {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::open(folder.path()).unwrap();
        let (tower, client) = (PublicKey([2; 33]), PublicKey([3; 33]));
        let signature = Signature([4; 65]);
        let receipt = Receipt {
            channel: ChannelId([5; 32]),
            version_a: 6,
            version_b: 7,
            stored: 8,
            signature,
            preimages: None,
        };
        let name = [&tower.0[..], &receipt.channel.0].concat();
        put(&store, Table::Receipts, name, older(&receipt));
        let guardians = Guardians::load(&store, &[]).unwrap();
        let known = guardians.receipts(&receipt.channel);
        assert_eq!(known, [(tower, receipt)]);
        let (mut mark, held) = (
            Mark {
                version_a: 6,
                version_b: 7,
                preimages: PreimagesHeld::of([]),
            },
            PreimagesHeld::of([Preimage([9; 32]).hash()]),
        );
        assert!(mark.is_confirmed_by(&receipt));
        mark.preimages = held;
        assert!(!mark.is_confirmed_by(&receipt), "it says nothing of them");
        let half = Half {
            version: 1,
            paid: 0,
            locks: LockRoot::EMPTY,
        };
        let watch = Watch {
            params: Params {
                signer_a: Address([1; 20]),
                payout_a: Address([1; 20]),
                signer_b: Address([2; 20]),
                payout_b: Address([2; 20]),
                token: Address::ZERO,
                window_secs: 86_400,
                salt: 0,
            },
            key_a: client,
            key_b: tower,
            halves: Halves { a: half, b: half },
            list_a: Vec::new(),
            list_b: Vec::new(),
            signatures: (signature, signature),
            preimages: vec![Preimage([9; 32])],
            numbers: None,
        };
        let name = record_name(&receipt.channel, &client);
        put(&store, Table::Watches, name, older(&watch));
        let stored = stored_watches(&store).unwrap();
        assert_eq!(stored, [(client, watch)]);
        let domain = Hash32([0; 32]);
        assert_eq!(Tower::new(domain, Policy::default(), stored).count(), 1);
    }
}

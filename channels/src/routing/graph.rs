//! The graph as this node knows it: proven channels, newest updates, numbered in the order in which they were learnt.
//!
//! ```text
//! item → form and age → signatures → L1 (deposits) → stored under the next number → batches for peers that ask since a number
//! ```
//!
//! An announcement that L1 cannot answer yet waits, with its updates, in a bounded queue. A peer costs us at most a token bucket
//! of items and of batches.

use super::gossip::{
    ChannelAnnouncement, ChannelUpdate, Gossip, Item, MAX_BATCH, NodeAnnouncement, item_bytes,
};
use crate::digest::Domain;
use crate::types::{ChannelId, Hash32, PublicKey, Side, Timestamp};
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};
use thiserror::Error;

/// An update older than this is worth nothing: two weeks, in seconds.
pub const MAX_AGE_SECS: u64 = 14 * 24 * 3600;
/// How far ahead a timestamp may be, seconds.
pub const MAX_AHEAD_SECS: u64 = 3600;
/// The shortest time between two updates of one side, seconds.
pub const MIN_INTERVAL_SECS: u64 = 10;
/// Most channels that are known.
pub const MAX_CHANNELS: usize = 200_000;
/// Most announcements that wait for L1.
pub const MAX_WAITING: usize = 1_000;
/// Items that a peer may send at once.
const BURST_ITEMS: u64 = 20_000;
/// Items that a peer may send per second after that.
const ITEMS_PER_SEC: u64 = 50;
/// Batches that a peer may ask for at once.
const BURST_BATCHES: u64 = 500;
/// Batches that a peer may ask for per second after that.
const BATCHES_PER_SEC: u64 = 2;
/// Longest batch, bytes: well below a frame.
const MAX_BATCH_BYTES: usize = 256 << 10;
const SNAPSHOT_VERSION: u8 = 1;

/// What L1's final state says about a channel.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Deposit {
    /// Open, with this much in the pot.
    Open {
        /// Both sides' deposits less payouts, units.
        capacity: u128,
    },
    /// Not open: never, or no longer.
    Absent,
    /// Ask again later.
    Unknown,
}

/// L1, as far as gossip needs it.
pub trait Deposits {
    /// The state of a channel in the last final block.
    fn deposit(&self, channel: &ChannelId) -> Deposit;
}

/// Why an item was not taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum GossipError {
    /// A signature is not that of the key it should be.
    #[error("a signature in the gossip does not verify")]
    Signature,
    /// Too old, or from the future.
    #[error("timestamp {timestamp} is not within two weeks before {now}")]
    Age {
        /// The item's.
        timestamp: Timestamp,
        /// Ours.
        now: Timestamp,
    },
    /// Nothing new.
    #[error("not newer than what is known")]
    Known,
    /// Its channel or node is unknown.
    #[error("an update of an unknown channel, or a node without one")]
    Unrelated,
    /// L1 does not know the channel as open.
    #[error("L1 has no open channel {0}")]
    NoDeposit(ChannelId),
    /// A number is out of range.
    #[error("the least lock is above the greatest")]
    Range,
    /// A limit of this node.
    #[error("too much gossip from the peer, or too many channels")]
    Limit,
}

impl GossipError {
    /// Whether an honest peer never sends this.
    pub fn is_fault(&self) -> bool {
        matches!(self, Self::Signature | Self::Range)
    }
}

/// What became of an item.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Taken {
    /// It is in the graph.
    Stored,
    /// It waits for L1: call [`Graph::retry`] when L1 is known better.
    Waiting,
}

/// A bytes-persistent snapshot that is none.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("the stored graph is damaged or of another version: {0}; it is learnt again from peers")]
pub struct BadSnapshot(String);

impl BadSnapshot {
    pub(super) fn new(problem: String) -> Self {
        Self(problem)
    }
}

/// A channel in the graph.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct KnownChannel {
    /// As announced.
    pub announcement: ChannelAnnouncement,
    /// What L1 said last.
    pub capacity: u128,
    /// Of side A and of side B.
    pub updates: [Option<ChannelUpdate>; 2],
    numbers: [u64; 3],
}

impl KnownChannel {
    /// The newest update of a side.
    pub fn update(&self, side: Side) -> Option<&ChannelUpdate> {
        self.updates[side as usize].as_ref()
    }
}

/// Name of an item in the order of learning.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
enum Name {
    Channel(ChannelId),
    Update(ChannelId, Side),
    Node(PublicKey),
}

#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
struct Content {
    epoch: u64,
    last: u64,
    channels: BTreeMap<ChannelId, KnownChannel>,
    nodes: BTreeMap<PublicKey, (NodeAnnouncement, u64)>,
    order: BTreeMap<u64, Name>,
}

/// What a peer may still do.
#[derive(Debug, Clone, Copy)]
struct Bucket {
    items: u64,
    batches: u64,
    filled: Timestamp,
}

/// Everything known about other nodes' channels.
#[derive(Debug, Clone)]
pub struct Graph {
    separator: Hash32,
    content: Content,
    by_node: BTreeMap<PublicKey, BTreeSet<ChannelId>>,
    waiting: BTreeMap<ChannelId, (ChannelAnnouncement, Vec<ChannelUpdate>)>,
    buckets: BTreeMap<PublicKey, Bucket>,
}

impl Graph {
    /// An empty graph. The epoch names this numbering: fresh random bytes.
    pub fn new(domain: &Domain, epoch: u64) -> Self {
        let content = Content {
            epoch,
            ..Content::default()
        };
        Self::of(domain, content)
    }

    fn of(domain: &Domain, content: Content) -> Self {
        let mut graph = Self {
            separator: domain.separator(),
            content,
            by_node: BTreeMap::new(),
            waiting: BTreeMap::new(),
            buckets: BTreeMap::new(),
        };
        let ends: Vec<_> = graph
            .content
            .channels
            .iter()
            .map(|(id, known)| (*id, known.announcement.key_a, known.announcement.key_b))
            .collect();
        for (id, a, b) in ends {
            graph.by_node.entry(a).or_default().insert(id);
            graph.by_node.entry(b).or_default().insert(id);
        }
        graph
    }

    /// The graph as bytes, to be kept on disk.
    pub fn snapshot(&self) -> Vec<u8> {
        let bytes = postcard::to_allocvec(&self.content).expect("plain data serialises");
        [&[SNAPSHOT_VERSION][..], &bytes].concat()
    }

    /// The graph of a snapshot.
    ///
    /// # Errors
    /// [`BadSnapshot`]: start with an empty one.
    pub fn restore(domain: &Domain, bytes: &[u8]) -> Result<Self, BadSnapshot> {
        match bytes.split_first() {
            Some((&SNAPSHOT_VERSION, rest)) => postcard::from_bytes(rest)
                .map(|content| Self::of(domain, content))
                .map_err(|error| BadSnapshot(error.to_string())),
            Some((other, _)) => Err(BadSnapshot(format!("version {other}"))),
            None => Err(BadSnapshot("empty".to_owned())),
        }
    }

    /// All channels, by id.
    pub fn channels(&self) -> impl Iterator<Item = (&ChannelId, &KnownChannel)> {
        self.content.channels.iter()
    }

    /// A channel.
    pub fn channel(&self, id: &ChannelId) -> Option<&KnownChannel> {
        self.content.channels.get(id)
    }

    /// All announced nodes, by key.
    pub fn nodes(&self) -> impl Iterator<Item = &NodeAnnouncement> {
        self.content.nodes.values().map(|(node, _)| node)
    }

    /// Where a node says that it listens, `host:port`; nothing of a node that was not announced.
    pub fn addresses(&self, node: &PublicKey) -> Vec<String> {
        let known = self.content.nodes.get(node);
        known.map_or_else(Vec::new, |(node, _)| node.addresses.clone())
    }

    /// The channels of a node.
    pub fn channels_of(
        &self,
        node: &PublicKey,
    ) -> impl Iterator<Item = (&ChannelId, &KnownChannel)> {
        let ids = self.by_node.get(node).into_iter().flatten();
        ids.filter_map(|id| self.content.channels.get_key_value(id))
    }

    // ---- Learning ----

    /// Takes an item, from a peer or of our own (`from` none, without limits).
    ///
    /// # Errors
    /// [`GossipError`]; only a [fault](GossipError::is_fault) is held against the peer.
    pub fn receive(
        &mut self,
        from: Option<&PublicKey>,
        item: Item,
        now: Timestamp,
        deposits: &dyn Deposits,
    ) -> Result<Taken, GossipError> {
        if let Some(peer) = from {
            let bucket = self.bucket(peer, now);
            bucket.items = bucket.items.checked_sub(1).ok_or(GossipError::Limit)?;
        }
        match item {
            Item::Node(node) => self.receive_node(node, now),
            Item::Channel(channel) => self.receive_channel(channel, deposits),
            Item::Update(update) => self.receive_update(update, now),
        }
    }

    fn bucket(&mut self, peer: &PublicKey, now: Timestamp) -> &mut Bucket {
        let bucket = self.buckets.entry(*peer).or_insert(Bucket {
            items: BURST_ITEMS,
            batches: BURST_BATCHES,
            filled: now,
        });
        let passed = now.saturating_sub(bucket.filled);
        bucket.filled = bucket.filled.max(now);
        let refill =
            |left: u64, rate: u64, most| left.saturating_add(passed.saturating_mul(rate)).min(most);
        bucket.items = refill(bucket.items, ITEMS_PER_SEC, BURST_ITEMS);
        bucket.batches = refill(bucket.batches, BATCHES_PER_SEC, BURST_BATCHES);
        bucket
    }

    fn check_age(timestamp: Timestamp, now: Timestamp) -> Result<(), GossipError> {
        let old = timestamp.saturating_add(MAX_AGE_SECS) < now;
        if old || timestamp > now.saturating_add(MAX_AHEAD_SECS) {
            return Err(GossipError::Age { timestamp, now });
        }
        Ok(())
    }

    fn receive_node(
        &mut self,
        node: NodeAnnouncement,
        now: Timestamp,
    ) -> Result<Taken, GossipError> {
        Self::check_age(node.timestamp, now)?;
        if !self.by_node.contains_key(&node.key) {
            return Err(GossipError::Unrelated);
        }
        let known = self.content.nodes.get(&node.key);
        let soon = |(old, _): &(NodeAnnouncement, u64)| {
            node.timestamp < old.timestamp.saturating_add(MIN_INTERVAL_SECS)
        };
        if known.is_some_and(soon) {
            return Err(GossipError::Known);
        }
        if !node.verify(&self.separator) {
            return Err(GossipError::Signature);
        }
        let old = known.map(|(_, number)| *number);
        let number = self.number(Name::Node(node.key), old);
        self.content.nodes.insert(node.key, (node, number));
        Ok(Taken::Stored)
    }

    fn receive_channel(
        &mut self,
        announcement: ChannelAnnouncement,
        deposits: &dyn Deposits,
    ) -> Result<Taken, GossipError> {
        let id = announcement.channel(&self.separator);
        if self.content.channels.contains_key(&id) || self.waiting.contains_key(&id) {
            return Err(GossipError::Known);
        }
        if self.content.channels.len() >= MAX_CHANNELS {
            return Err(GossipError::Limit);
        }
        if !announcement.verify(&self.separator) {
            return Err(GossipError::Signature);
        }
        match deposits.deposit(&id) {
            Deposit::Open { capacity } => {
                self.store_channel(id, announcement, capacity);
                Ok(Taken::Stored)
            }
            Deposit::Absent => Err(GossipError::NoDeposit(id)),
            Deposit::Unknown if self.waiting.len() >= MAX_WAITING => Err(GossipError::Limit),
            Deposit::Unknown => {
                self.waiting.insert(id, (announcement, Vec::new()));
                Ok(Taken::Waiting)
            }
        }
    }

    fn store_channel(&mut self, id: ChannelId, announcement: ChannelAnnouncement, capacity: u128) {
        let number = self.number(Name::Channel(id), None);
        for key in [announcement.key_a, announcement.key_b] {
            self.by_node.entry(key).or_default().insert(id);
        }
        let known = KnownChannel {
            announcement,
            capacity,
            updates: [None, None],
            numbers: [number, 0, 0],
        };
        self.content.channels.insert(id, known);
    }

    fn receive_update(
        &mut self,
        update: ChannelUpdate,
        now: Timestamp,
    ) -> Result<Taken, GossipError> {
        Self::check_age(update.timestamp, now)?;
        if update.min_lock > update.max_lock {
            return Err(GossipError::Range);
        }
        if let Some((announcement, updates)) = self.waiting.get_mut(&update.channel) {
            if !update.verify(&self.separator, &announcement.key(update.side)) {
                return Err(GossipError::Signature);
            }
            let newer = |old: &ChannelUpdate| old.timestamp >= update.timestamp;
            if updates
                .iter()
                .any(|old| old.side == update.side && newer(old))
            {
                return Err(GossipError::Known);
            }
            updates.retain(|old| old.side != update.side);
            updates.push(update);
            return Ok(Taken::Waiting);
        }
        let (id, side) = (update.channel, update.side);
        let known = self
            .content
            .channels
            .get(&id)
            .ok_or(GossipError::Unrelated)?;
        let soon = |old: &ChannelUpdate| {
            update.timestamp < old.timestamp.saturating_add(MIN_INTERVAL_SECS)
        };
        if known.update(side).is_some_and(soon) {
            return Err(GossipError::Known);
        }
        if !update.verify(&self.separator, &known.announcement.key(side)) {
            return Err(GossipError::Signature);
        }
        let old = known.update(side).map(|_| known.numbers[1 + side as usize]);
        let number = self.number(Name::Update(id, side), old);
        if let Some(known) = self.content.channels.get_mut(&id) {
            known.numbers[1 + side as usize] = number;
            known.updates[side as usize] = Some(update);
        }
        Ok(Taken::Stored)
    }

    fn number(&mut self, name: Name, old: Option<u64>) -> u64 {
        if let Some(old) = old {
            self.content.order.remove(&old);
        }
        self.content.last += 1;
        self.content.order.insert(self.content.last, name);
        self.content.last
    }

    /// Asks L1 again about what waits.
    pub fn retry(&mut self, now: Timestamp, deposits: &dyn Deposits) {
        let answered: Vec<(ChannelId, Deposit)> = self
            .waiting
            .keys()
            .map(|id| (*id, deposits.deposit(id)))
            .filter(|(_, deposit)| *deposit != Deposit::Unknown)
            .collect();
        for (id, deposit) in answered {
            let Some((announcement, updates)) = self.waiting.remove(&id) else {
                continue;
            };
            if let Deposit::Open { capacity } = deposit {
                self.store_channel(id, announcement, capacity);
                for update in updates {
                    // It was checked when it came; in the meantime it can only have become too old.
                    let _ = self.receive_update(update, now);
                }
            }
        }
    }

    /// The ids that wait for L1, for the runtime to look up.
    pub fn waiting(&self) -> impl Iterator<Item = &ChannelId> {
        self.waiting.keys()
    }

    // ---- Forgetting ----

    /// L1 says something new about a channel: another pot, or that it is closed.
    pub fn set_deposit(&mut self, id: &ChannelId, deposit: Deposit) {
        match deposit {
            Deposit::Open { capacity } => {
                if let Some(known) = self.content.channels.get_mut(id) {
                    known.capacity = capacity;
                }
            }
            Deposit::Absent => self.remove(id),
            Deposit::Unknown => {}
        }
    }

    fn remove(&mut self, id: &ChannelId) {
        let Some(known) = self.content.channels.remove(id) else {
            return;
        };
        for number in known.numbers {
            self.content.order.remove(&number);
        }
        for key in [known.announcement.key_a, known.announcement.key_b] {
            let Some(channels) = self.by_node.get_mut(&key) else {
                continue;
            };
            channels.remove(id);
            if channels.is_empty() {
                self.by_node.remove(&key);
                if let Some((_, number)) = self.content.nodes.remove(&key) {
                    self.content.order.remove(&number);
                }
            }
        }
    }

    /// Forgets updates older than two weeks, and what peers did that are gone. Once an hour is enough.
    pub fn prune(&mut self, now: Timestamp, connected: impl Fn(&PublicKey) -> bool) {
        let old = |timestamp: Timestamp| timestamp.saturating_add(MAX_AGE_SECS) < now;
        for known in self.content.channels.values_mut() {
            for side in [0, 1] {
                let gone = known.updates[side].take_if(|update| old(update.timestamp));
                if gone.is_some() {
                    self.content.order.remove(&known.numbers[1 + side]);
                }
            }
        }
        let order = &mut self.content.order;
        self.content.nodes.retain(|_, (node, number)| {
            let keep = !old(node.timestamp);
            if !keep {
                order.remove(number);
            }
            keep
        });
        let full = |bucket: &Bucket| now.saturating_sub(bucket.filled) > 3600;
        self.buckets
            .retain(|peer, bucket| connected(peer) || !full(bucket));
    }

    // ---- Telling ----

    /// The answer to a peer's [`Gossip::Since`]; none if it asks too often.
    pub fn batch(
        &mut self,
        peer: &PublicKey,
        epoch: u64,
        cursor: u64,
        now: Timestamp,
    ) -> Option<Gossip> {
        let bucket = self.bucket(peer, now);
        bucket.batches = bucket.batches.checked_sub(1)?;
        let start = if epoch == self.content.epoch {
            cursor
        } else {
            0
        };
        let (mut items, mut bytes, mut last, mut more) = (Vec::new(), 0, start, false);
        for (number, name) in self.content.order.range(start.saturating_add(1)..) {
            let Some(item) = self.item(name) else {
                continue;
            };
            bytes += item_bytes(&item);
            if items.len() == MAX_BATCH || bytes > MAX_BATCH_BYTES {
                more = true;
                break;
            }
            items.push(item);
            last = *number;
        }
        Some(Gossip::Batch {
            epoch: self.content.epoch,
            cursor: last,
            more,
            items,
        })
    }

    fn item(&self, name: &Name) -> Option<Item> {
        match name {
            Name::Channel(id) => self
                .channel(id)
                .map(|known| Item::Channel(known.announcement.clone())),
            Name::Update(id, side) => self
                .channel(id)
                .and_then(|known| known.update(*side))
                .cloned()
                .map(Item::Update),
            Name::Node(key) => {
                let (node, _) = self.content.nodes.get(key)?;
                Some(Item::Node(node.clone()))
            }
        }
    }
}

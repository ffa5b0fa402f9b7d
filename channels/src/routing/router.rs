//! A node's part in gossip and routing, as one pure machine: frames and ticks in, frames out.
//!
//! ```text
//! connected → our announcement signatures, since → batches → graph → since … (half a minute after the last)
//! tick      → own channels: announced when both signed, updated when they change or after a week → every peer
//! order     → routes → parts with onions → outcomes → what channels can carry
//! ```

use super::gossip::{
    self, ChannelAnnouncement, ChannelUpdate, Gossip, Item, MAX_ADDRESSES, NodeAnnouncement,
};
use super::graph::{BadSnapshot, Deposit, Deposits, GossipError, Graph, MIN_INTERVAL_SECS};
use super::liquidity::{CERTAIN, Crossing, Liquidity, Verdict};
use super::payment::{Order, SentPart};
use super::route::{self, Route, RouteError, Target};
use crate::digest::Domain;
use crate::machine::payment::NewPayment;
use crate::onion::OnionError;
use crate::signing::{self, HotKey};
use crate::state::Params;
use crate::types::{ChannelId, PublicKey, Side, Signature, Timestamp};
use crate::wire::WireError;
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use thiserror::Error;

/// A peer is asked for news this long after it had none, seconds.
pub const ASK_EVERY_SECS: u64 = 30;
/// A peer that was at fault is asked again after this, seconds.
const ASK_AFTER_FAULT_SECS: u64 = 600;
/// Own announcements are renewed after this, seconds: half of what makes them too old.
const RENEW_SECS: u64 = 7 * 24 * 3600;
/// The graph is swept this often, seconds.
const SWEEP_EVERY_SECS: u64 = 3600;
/// Most peers whose place in their numbering is remembered.
const MAX_CURSORS: usize = 1024;

/// Why a frame of a peer was not taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum RouterError {
    /// It is no gossip.
    #[error(transparent)]
    Wire(#[from] WireError),
    /// An item in it shows that the peer does not keep to the protocol.
    #[error(transparent)]
    Fault(#[from] GossipError),
}

/// Why a payment cannot be made.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum PlanError {
    /// No way.
    #[error(transparent)]
    Route(#[from] RouteError),
    /// No onion for it.
    #[error(transparent)]
    Onion(#[from] OnionError),
}

/// A channel of this node that others may know and use.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LocalChannel {
    /// Which.
    pub channel: ChannelId,
    /// What its id is made of.
    pub params: Params,
    /// Our side.
    pub side: Side,
    /// Who is at the other end.
    pub peer: PublicKey,
    /// It forwards now: open, and its peer connected.
    pub usable: bool,
    /// Our fee, units.
    pub fee_base: u128,
    /// Our fee, millionths.
    pub fee_ppm: u32,
    /// Our smallest lock.
    pub min_lock: u128,
    /// Our greatest lock.
    pub max_lock: u128,
}

/// A frame, its length included, and for whom it is.
pub type Outgoing = (PublicKey, Vec<u8>);

#[derive(Debug, Clone, Default)]
struct Peer {
    ask_at: Timestamp,
    signed: BTreeSet<ChannelId>,
}

/// Where this node is in a peer's numbering: epoch and cursor.
type Cursor = (u64, u64);

/// Gossip, graph and routes of a node.
pub struct Router {
    key: Arc<HotKey>,
    domain: Domain,
    alias: String,
    addresses: Vec<String>,
    graph: Graph,
    liquidity: Liquidity,
    cursors: BTreeMap<PublicKey, Cursor>,
    peers: BTreeMap<PublicKey, Peer>,
    locals: BTreeMap<ChannelId, LocalChannel>,
    /// The peers' signatures for channels with us.
    signatures: BTreeMap<ChannelId, Signature>,
    swept: Timestamp,
}

#[derive(Serialize, Deserialize)]
struct Stored {
    graph: Vec<u8>,
    liquidity: Liquidity,
    cursors: BTreeMap<PublicKey, Cursor>,
}

impl Router {
    /// A node that knows nothing. `addresses` are `host:port`; without any the node's channels are announced but not the node.
    /// `epoch` is fresh random bytes.
    pub fn new(
        key: Arc<HotKey>,
        domain: Domain,
        alias: String,
        mut addresses: Vec<String>,
        epoch: u64,
    ) -> Self {
        addresses.truncate(MAX_ADDRESSES);
        Self {
            graph: Graph::new(&domain, epoch),
            key,
            domain,
            alias,
            addresses,
            liquidity: Liquidity::default(),
            cursors: BTreeMap::new(),
            peers: BTreeMap::new(),
            locals: BTreeMap::new(),
            signatures: BTreeMap::new(),
            swept: 0,
        }
    }

    /// What is to be kept on disk: now and then, and before the end. Nothing is lost but time if it is old.
    pub fn snapshot(&self) -> Vec<u8> {
        let stored = Stored {
            graph: self.graph.snapshot(),
            liquidity: self.liquidity.clone(),
            cursors: self.cursors.clone(),
        };
        postcard::to_allocvec(&stored).expect("plain data serialises")
    }

    /// Takes over what a snapshot says.
    ///
    /// # Errors
    /// [`BadSnapshot`]; the router is as before.
    pub fn restore(&mut self, bytes: &[u8]) -> Result<(), BadSnapshot> {
        let stored: Stored =
            postcard::from_bytes(bytes).map_err(|error| BadSnapshot::new(error.to_string()))?;
        self.graph = Graph::restore(&self.domain, &stored.graph)?;
        self.liquidity = stored.liquidity;
        self.cursors = stored.cursors;
        Ok(())
    }

    /// What is known.
    pub fn graph(&self) -> &Graph {
        &self.graph
    }

    // ---- Peers ----

    /// A peer is there: the next tick speaks to it.
    pub fn connected(&mut self, peer: PublicKey) {
        self.peers.insert(peer, Peer::default());
    }

    /// A peer is gone.
    pub fn disconnected(&mut self, peer: &PublicKey) {
        self.peers.remove(peer);
    }

    /// A frame for which [`gossip::is_gossip`] holds, its length taken off.
    ///
    /// # Errors
    /// [`RouterError`]: the peer does not keep to the protocol.
    pub fn frame(
        &mut self,
        from: PublicKey,
        frame: &[u8],
        now: Timestamp,
        deposits: &dyn Deposits,
    ) -> Result<Vec<Outgoing>, RouterError> {
        match gossip::decode(frame)? {
            Gossip::Item(item) => {
                self.take(&from, item, now, deposits)?;
                Ok(Vec::new())
            }
            Gossip::Since { epoch, cursor } => {
                let batch = self.graph.batch(&from, epoch, cursor, now);
                let answer = batch.map(|batch| (from, gossip::encode(&batch)));
                Ok(answer.into_iter().collect())
            }
            Gossip::Batch {
                epoch,
                cursor,
                more,
                items,
            } => {
                for item in items {
                    if !self.take(&from, item, now, deposits)? {
                        self.ask_later(&from, now + ASK_EVERY_SECS);
                        return Ok(Vec::new());
                    }
                }
                Ok(self.learnt(from, (epoch, cursor), more, now))
            }
            Gossip::AnnouncementSignature {
                channel,
                key,
                signature,
            } => {
                if key == from {
                    self.take_signature(channel, from, signature, now, deposits);
                }
                Ok(Vec::new())
            }
        }
    }

    /// Takes an item; false when the peer has used up what it may bring.
    fn take(
        &mut self,
        from: &PublicKey,
        item: Item,
        now: Timestamp,
        deposits: &dyn Deposits,
    ) -> Result<bool, RouterError> {
        match self.graph.receive(Some(from), item, now, deposits) {
            Err(GossipError::Limit) => Ok(false),
            Err(error) if error.is_fault() => {
                self.ask_later(from, now + ASK_AFTER_FAULT_SECS);
                Err(RouterError::Fault(error))
            }
            // What is known, old, or without a deposit is nobody's fault.
            Ok(_) | Err(_) => Ok(true),
        }
    }

    fn learnt(
        &mut self,
        from: PublicKey,
        cursor: Cursor,
        more: bool,
        now: Timestamp,
    ) -> Vec<Outgoing> {
        let before = self.cursors.get(&from).copied();
        let room = self.cursors.len() < MAX_CURSORS || before.is_some();
        if room {
            self.cursors.insert(from, cursor);
        }
        // A peer that says "more" and brings nothing must not make us ask for ever.
        let advanced = before.is_none_or(|(epoch, at)| epoch != cursor.0 || cursor.1 > at);
        if more && advanced && room {
            return vec![self.ask(from)];
        }
        self.ask_later(&from, now + ASK_EVERY_SECS);
        Vec::new()
    }

    fn ask(&self, peer: PublicKey) -> Outgoing {
        let (epoch, cursor) = self.cursors.get(&peer).copied().unwrap_or_default();
        (peer, gossip::encode(&Gossip::Since { epoch, cursor }))
    }

    fn ask_later(&mut self, peer: &PublicKey, at: Timestamp) {
        if let Some(peer) = self.peers.get_mut(peer) {
            peer.ask_at = at;
        }
    }

    fn take_signature(
        &mut self,
        channel: ChannelId,
        from: PublicKey,
        signature: Signature,
        now: Timestamp,
        deposits: &dyn Deposits,
    ) {
        let Some(local) = self.locals.get(&channel).filter(|local| local.peer == from) else {
            return;
        };
        let digest = Item::Channel(self.announcement(local)).digest(&self.domain.separator());
        if signing::verify(&from, &digest, &signature) {
            self.signatures.insert(channel, signature);
            self.announce(now, deposits);
        }
    }

    // ---- Own channels ----

    /// Once a second or so: `locals` are the channels whose deposits are final and that may be known.
    pub fn tick(
        &mut self,
        now: Timestamp,
        locals: &[LocalChannel],
        deposits: &dyn Deposits,
    ) -> Vec<Outgoing> {
        self.locals = locals.iter().map(|local| (local.channel, *local)).collect();
        self.signatures
            .retain(|channel, _| self.locals.contains_key(channel));
        self.graph.retry(now, deposits);
        if now >= self.swept.saturating_add(SWEEP_EVERY_SECS) {
            self.sweep(now, deposits);
        }
        self.announce(now, deposits);
        let news = self.own_news(now, deposits);
        let mut outgoing = self.sign_announcements();
        for peer in self.peers.keys() {
            let frames = news.iter().cloned().map(Gossip::Item);
            outgoing.extend(frames.map(|gossip| (*peer, gossip::encode(&gossip))));
        }
        let due: Vec<PublicKey> = self
            .peers
            .iter()
            .filter(|(_, peer)| now >= peer.ask_at)
            .map(|(key, _)| *key)
            .collect();
        for peer in due {
            // Without an answer the question is asked again.
            self.ask_later(&peer, now + ASK_EVERY_SECS);
            outgoing.push(self.ask(peer));
        }
        outgoing
    }

    fn sweep(&mut self, now: Timestamp, deposits: &dyn Deposits) {
        self.swept = now;
        let peers = &self.peers;
        self.graph.prune(now, |peer| peers.contains_key(peer));
        let ids: Vec<ChannelId> = self.graph.channels().map(|(id, _)| *id).collect();
        for id in ids {
            self.graph.set_deposit(&id, deposits.deposit(&id));
        }
    }

    /// An announcement of a channel of ours, not signed.
    fn announcement(&self, local: &LocalChannel) -> ChannelAnnouncement {
        let own = self.key.public();
        let (key_a, key_b) = match local.side {
            Side::A => (own, local.peer),
            Side::B => (local.peer, own),
        };
        ChannelAnnouncement {
            params: local.params,
            key_a,
            key_b,
            signature_a: Signature([0; 65]),
            signature_b: Signature([0; 65]),
        }
    }

    /// Once per connection the peer of a channel gets our signature, as long as the channel is not known.
    fn sign_announcements(&mut self) -> Vec<Outgoing> {
        let separator = self.domain.separator();
        let mut outgoing = Vec::new();
        for local in self.locals.values() {
            let announcement = self.announcement(local);
            let Some(peer) = self.peers.get_mut(&local.peer) else {
                continue;
            };
            if peer.signed.insert(local.channel) {
                let message = Gossip::AnnouncementSignature {
                    channel: local.channel,
                    key: self.key.public(),
                    signature: announcement.signature(&separator, &self.key),
                };
                outgoing.push((local.peer, gossip::encode(&message)));
            }
        }
        outgoing
    }

    /// Puts channels of ours that both sides have signed into the graph.
    fn announce(&mut self, now: Timestamp, deposits: &dyn Deposits) {
        let separator = self.domain.separator();
        let signed: Vec<ChannelAnnouncement> = self
            .signatures
            .iter()
            .filter(|(id, _)| self.graph.channel(id).is_none())
            .filter_map(|(id, theirs)| {
                let local = self.locals.get(id)?;
                let mut announcement = self.announcement(local);
                let ours = announcement.signature(&separator, &self.key);
                (announcement.signature_a, announcement.signature_b) = match local.side {
                    Side::A => (ours, *theirs),
                    Side::B => (*theirs, ours),
                };
                Some(announcement)
            })
            .collect();
        for announcement in signed {
            // Waiting for L1 or known already: the next tick looks again.
            let _ = self
                .graph
                .receive(None, Item::Channel(announcement), now, deposits);
        }
    }

    /// What has changed about us since others were told, now in the graph.
    fn own_news(&mut self, now: Timestamp, deposits: &dyn Deposits) -> Vec<Item> {
        let locals: Vec<LocalChannel> = self.locals.values().copied().collect();
        let updates = locals
            .iter()
            .filter_map(|local| self.own_update(local, now));
        let mut news: Vec<Item> = updates.map(Item::Update).collect();
        news.extend(self.own_node(now).map(Item::Node));
        news.retain(|item| {
            let taken = self.graph.receive(None, item.clone(), now, deposits);
            taken.is_ok()
        });
        // A peer that does not know the channel yet needs it before its update.
        let channels: Vec<Item> = news
            .iter()
            .filter_map(|item| match item {
                Item::Update(update) => self.graph.channel(&update.channel),
                _ => None,
            })
            .map(|known| Item::Channel(known.announcement.clone()))
            .collect();
        [channels, news].concat()
    }

    fn own_update(&self, local: &LocalChannel, now: Timestamp) -> Option<ChannelUpdate> {
        let known = self.graph.channel(&local.channel)?;
        let wanted = ChannelUpdate {
            channel: local.channel,
            side: local.side,
            timestamp: now,
            disabled: !local.usable,
            fee_base: local.fee_base,
            fee_ppm: local.fee_ppm,
            min_lock: local.min_lock,
            max_lock: local.max_lock.max(local.min_lock),
            signature: Signature([0; 65]),
        };
        let due = known.update(local.side).is_none_or(|told| {
            let same = ChannelUpdate {
                timestamp: told.timestamp,
                signature: told.signature,
                ..wanted.clone()
            } == *told;
            let age = now.saturating_sub(told.timestamp);
            age >= RENEW_SECS || (!same && age >= MIN_INTERVAL_SECS)
        });
        due.then(|| wanted.sign(&self.domain.separator(), &self.key))
    }

    fn own_node(&self, now: Timestamp) -> Option<NodeAnnouncement> {
        let own = self.key.public();
        let announced = self.graph.channels_of(&own).next().is_some();
        if self.addresses.is_empty() || !announced {
            return None;
        }
        let told = self.graph.nodes().find(|node| node.key == own);
        let due = told.is_none_or(|told| {
            let same = told.alias == self.alias && told.addresses == self.addresses;
            let age = now.saturating_sub(told.timestamp);
            age >= RENEW_SECS || (!same && age >= MIN_INTERVAL_SECS)
        });
        let node = NodeAnnouncement {
            key: own,
            timestamp: now,
            features: 0,
            alias: self.alias.clone(),
            addresses: self.addresses.clone(),
            signature: Signature([0; 65]),
        };
        due.then(|| node.sign(&self.domain.separator(), &self.key))
    }

    /// L1 has news of a channel of the graph: another pot, or that it is closed.
    pub fn deposit_changed(&mut self, channel: &ChannelId, deposit: Deposit) {
        self.graph.set_deposit(channel, deposit);
    }

    // ---- Payments ----

    /// This node's key.
    pub fn own_key(&self) -> PublicKey {
        self.key.public()
    }

    /// Routes, without paying.
    ///
    /// # Errors
    /// [`RouteError`].
    pub fn routes(&self, target: &Target<'_>) -> Result<Vec<Route>, RouteError> {
        route::find(&self.graph, &self.liquidity, target)
    }

    /// How likely a channel carries what crosses it, in millionths; certain if gossip does not show the channel.
    pub fn probability(&self, crossing: &Crossing, now: Timestamp) -> u32 {
        let channel = self.graph.channel(&crossing.direction.channel);
        channel.map_or(CERTAIN, |known| {
            self.liquidity
                .probability(&crossing.direction, crossing.amount, known.capacity, now)
        })
    }

    /// Routes and onions for an order: what the machine pays, and what to keep until each part has ended.
    /// `session` gives 32 fresh random bytes at each call.
    ///
    /// # Errors
    /// [`PlanError`].
    pub fn plan(
        &self,
        order: &Order,
        target: &Target<'_>,
        session: impl FnMut() -> [u8; 32],
    ) -> Result<(NewPayment, Vec<SentPart>), PlanError> {
        let routes = route::find(&self.graph, &self.liquidity, target)?;
        Ok(order.parts(&routes, session)?)
    }

    /// A part has failed for this reason: learns from it, and says whether another try can help.
    pub fn failed(&mut self, part: &SentPart, reason: &[u8], now: Timestamp) -> Verdict {
        part.failed(reason, &self.graph, &mut self.liquidity, now)
    }

    /// A part was paid: learns from it.
    pub fn paid(&mut self, part: &SentPart, now: Timestamp) {
        part.paid(&self.graph, &mut self.liquidity, now);
    }
}

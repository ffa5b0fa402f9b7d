//! Who is wanted, who is connected: one place per peer, and the rule for who gets it.

use super::connection::{self, Outbox, Queue};
use super::{PeerStatus, SendError, TransportConfig};
use crate::types::{PublicKey, Timestamp};
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};
use tokio::sync::mpsc::error::TrySendError;
use tokio_util::sync::{CancellationToken, DropGuard};

/// Most connections of one peer, all but the newest being ended.
const MAX_CONNECTIONS_PER_PEER: usize = 4;

/// All peers of a node.
pub struct Table {
    own: PublicKey,
    config: TransportConfig,
    peers: BTreeMap<PublicKey, Peer>,
    /// Numbers connections, so that a late end does not end a successor.
    last: u64,
}

#[derive(Default)]
struct Peer {
    /// One more for each connection that has not said its last word.
    alive: Arc<()>,
    wanted: Option<Wanted>,
    place: Option<Place>,
    last_error: Option<String>,
}

struct Wanted {
    address: SocketAddr,
    stop: CancellationToken,
    next_attempt: Option<Timestamp>,
}

struct Place {
    number: u64,
    address: SocketAddr,
    outbound: bool,
    claimed: Instant,
    since: Option<Timestamp>,
    queue: Queue,
    stop: CancellationToken,
    end: CancellationToken,
}

/// A peer's place, for one connection.
pub struct Claim {
    /// Ends the connection.
    pub stop: CancellationToken,
    /// What is to be written.
    pub outbox: Outbox,
    /// The end of the connection whose place this was.
    pub replaced: Option<CancellationToken>,
    /// Tells a successor, when dropped, that this connection has said its last word.
    pub end: DropGuard,
    /// Counts the connection among those of its peer.
    pub alive: Arc<()>,
    /// Number of the connection.
    pub number: u64,
}

fn now() -> Timestamp {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    since.map_or(0, |since| since.as_secs())
}

impl Table {
    pub fn new(own: PublicKey, config: &TransportConfig) -> Self {
        Self {
            own,
            config: config.clone(),
            peers: BTreeMap::new(),
            last: 0,
        }
    }

    /// Notes that a peer is wanted; gives the token of a new dialling task, none if there is one for this address.
    pub fn want(
        &mut self,
        key: PublicKey,
        address: SocketAddr,
        root: &CancellationToken,
    ) -> Option<CancellationToken> {
        let peer = self.peers.entry(key).or_default();
        if let Some(wanted) = &peer.wanted {
            if wanted.address == address {
                return None;
            }
            wanted.stop.cancel();
        }
        let stop = root.child_token();
        peer.wanted = Some(Wanted {
            address,
            stop: stop.clone(),
            next_attempt: None,
        });
        Some(stop)
    }

    pub fn unwant(&mut self, key: &PublicKey) {
        let Some(peer) = self.peers.get_mut(key) else {
            return;
        };
        if let Some(wanted) = peer.wanted.take() {
            wanted.stop.cancel();
        }
        match &peer.place {
            Some(place) => place.stop.cancel(),
            None => {
                self.peers.remove(key);
            }
        }
    }

    /// Gives a new connection the peer's place, or says why not.
    pub fn claim(
        &mut self,
        key: PublicKey,
        address: SocketAddr,
        outbound: bool,
        root: &CancellationToken,
    ) -> Result<Claim, &'static str> {
        let wanted = |peer: &Peer| peer.wanted.is_some();
        if outbound && !self.peers.get(&key).is_some_and(wanted) {
            return Err("no longer wanted");
        }
        self.check_inbound(&key, outbound)?;
        let smaller_dials = (self.own < key) == outbound;
        let young = self.config.handshake_timeout * 2;
        let peer = self.peers.entry(key).or_default();
        // Each one waits for the end of the one before: a peer must not make a long queue of them.
        if Arc::strong_count(&peer.alive) > MAX_CONNECTIONS_PER_PEER {
            return Err("too many connections of the same peer");
        }
        if let Some(place) = &peer.place {
            // Both sides see the same two connections and choose the same one.
            let simultaneous = place.outbound != outbound && place.claimed.elapsed() < young;
            if simultaneous && !smaller_dials && !place.stop.is_cancelled() {
                return Err("the other connection stays");
            }
            place.stop.cancel();
        }
        let replaced = peer.place.as_ref().map(|place| place.end.clone());
        self.last += 1;
        let (queue, outbox) = connection::queue(&self.config);
        let (stop, end) = (root.child_token(), CancellationToken::new());
        peer.place = Some(Place {
            number: self.last,
            address,
            outbound,
            claimed: Instant::now(),
            since: None,
            queue,
            stop: stop.clone(),
            end: end.clone(),
        });
        Ok(Claim {
            stop,
            outbox,
            replaced,
            end: end.drop_guard(),
            alive: peer.alive.clone(),
            number: self.last,
        })
    }

    fn check_inbound(&self, key: &PublicKey, outbound: bool) -> Result<(), &'static str> {
        let stranger = |peer: &Peer| {
            let inbound = peer.place.as_ref().is_some_and(|place| !place.outbound);
            inbound && peer.wanted.is_none()
        };
        let known = self
            .peers
            .get(key)
            .is_some_and(|peer| peer.wanted.is_some() || peer.place.is_some());
        let others = self.peers.values().filter(|peer| stranger(peer)).count();
        if !outbound && !known && others >= self.config.max_inbound {
            return Err("too many inbound connections");
        }
        Ok(())
    }

    fn place(&mut self, key: &PublicKey, number: u64) -> Option<&mut Place> {
        let place = self.peers.get_mut(key)?.place.as_mut()?;
        (place.number == number).then_some(place)
    }

    /// From now on frames are taken for this connection.
    pub fn open(&mut self, key: &PublicKey, number: u64) {
        if let Some(place) = self.place(key, number) {
            place.since = Some(now());
        }
    }

    /// From now on none are.
    pub fn shut(&mut self, key: &PublicKey, number: u64) {
        if let Some(place) = self.place(key, number) {
            place.since = None;
        }
    }

    /// A connection has ended, and its last event is told.
    pub fn release(&mut self, key: &PublicKey, number: u64) {
        let Some(peer) = self.peers.get_mut(key) else {
            return;
        };
        peer.place.take_if(|place| place.number == number);
        if peer.place.is_none() && peer.wanted.is_none() {
            self.peers.remove(key);
        }
    }

    /// The end of the peer's connection, if there is one.
    pub fn end_of(&self, key: &PublicKey) -> Option<CancellationToken> {
        let place = self.peers.get(key)?.place.as_ref()?;
        Some(place.end.clone())
    }

    pub fn note_error(&mut self, key: &PublicKey, error: String) {
        if let Some(peer) = self.peers.get_mut(key) {
            peer.last_error = Some(error);
        }
    }

    pub fn note_attempt(&mut self, key: &PublicKey, wait: Duration) {
        let wanted = self
            .peers
            .get_mut(key)
            .and_then(|peer| peer.wanted.as_mut());
        if let Some(wanted) = wanted {
            wanted.next_attempt = Some(now() + wait.as_secs());
        }
    }

    pub fn send(&self, to: PublicKey, frame: Vec<u8>) -> Result<(), SendError> {
        let place = self
            .peers
            .get(&to)
            .and_then(|peer| peer.place.as_ref())
            .filter(|place| place.since.is_some())
            .ok_or(SendError::NotConnected(to))?;
        place.queue.push(frame).map_err(|error| match error {
            TrySendError::Full(_) => SendError::QueueFull(to),
            TrySendError::Closed(_) => SendError::NotConnected(to),
        })
    }

    pub fn statuses(&self) -> Vec<PeerStatus> {
        self.peers
            .iter()
            .map(|(key, peer)| peer.status(*key))
            .collect()
    }
}

impl Peer {
    fn status(&self, key: PublicKey) -> PeerStatus {
        let place = self.place.as_ref();
        let wanted = self.wanted.as_ref();
        let connected = place.and_then(|place| place.since);
        let next = wanted.and_then(|wanted| wanted.next_attempt);
        PeerStatus {
            key,
            address: wanted
                .map(|wanted| wanted.address)
                .or(place.map(|place| place.address)),
            connected_since: connected,
            inbound: place.is_some_and(|place| !place.outbound),
            last_error: self.last_error.clone(),
            next_attempt: next.filter(|_| connected.is_none()),
        }
    }
}

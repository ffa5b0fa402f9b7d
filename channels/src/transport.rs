//! Encrypted, authenticated connections: one per peer, made again when it breaks.
//!
//! ```text
//! connect → dial → handshake → welcome ┐
//! listen → accept → handshake ─────────┴→ one connection per peer → Connected, Frame …, Disconnected
//! ```
//!
//! | file | question |
//! |---|---|
//! | `address.rs` | where is a peer? |
//! | `handshake.rs` | who is there? |
//! | `connection.rs` | how do frames travel, and who waits for whom? |
//! | `table.rs` | which connection of a peer counts? |
//!
//! The listener takes a connection by sending an empty frame; the dialler counts it from then on. If two nodes dial each other at
//! once, the connection dialled by the node with the smaller key stays. A connection that is older than two handshake timeouts
//! gives way to any newer one: its peer would not have dialled if it still had it.

mod address;
mod connection;
pub mod handshake;
mod table;

pub use address::{AddressError, PeerAddress};
pub use connection::ConnectionError;
pub use handshake::{HandshakeError, PROLOGUE};

use crate::signing::HotKey;
use crate::types::{PublicKey, Timestamp};
use connection::Inbox;
use handshake::Authenticated;
use rand::Rng;
use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};
use table::Table;
use thiserror::Error;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tracing::{debug, warn};

/// What happens on the connections. `Connected` and `Disconnected` of a peer alternate.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PeerEvent {
    /// A peer is connected and has proven its key.
    Connected(PublicKey),
    /// Its connection has ended; nothing more comes from it.
    Disconnected(PublicKey),
    /// A frame came.
    Frame {
        /// From whom.
        from: PublicKey,
        /// Without its length, as [`crate::wire::decode`] takes it; never empty.
        frame: Vec<u8>,
    },
}

/// Limits and waits. The defaults suit a node on the internet.
#[derive(Debug, Clone)]
pub struct TransportConfig {
    /// Where to listen; nowhere if none.
    pub listen: Option<SocketAddr>,
    /// Longest wait for a TCP connection, and for a handshake.
    pub handshake_timeout: Duration,
    /// A keep-alive is sent after this much silence of ours.
    pub keep_alive: Duration,
    /// A peer that says nothing for this long is gone.
    pub idle_timeout: Duration,
    /// A peer that takes nothing for this long is gone.
    pub stall_timeout: Duration,
    /// First wait before dialling again.
    pub backoff_min: Duration,
    /// Longest wait before dialling again.
    pub backoff_max: Duration,
    /// Most frames that wait for one peer.
    pub queue_frames: usize,
    /// Most bytes that wait for one peer; one frame may always wait.
    pub queue_bytes: usize,
    /// Most connections that others dialled, peers that we want aside.
    pub max_inbound: usize,
    /// Most connections that have not proven a key yet.
    pub max_handshakes: usize,
    /// Most of those from one IP address.
    pub max_handshakes_per_ip: usize,
}

impl Default for TransportConfig {
    fn default() -> Self {
        Self {
            listen: None,
            handshake_timeout: Duration::from_secs(10),
            keep_alive: Duration::from_secs(15),
            idle_timeout: Duration::from_secs(45),
            stall_timeout: Duration::from_secs(60),
            backoff_min: Duration::from_millis(500),
            backoff_max: Duration::from_secs(60),
            queue_frames: 1024,
            queue_bytes: 4 << 20,
            max_inbound: 256,
            max_handshakes: 64,
            max_handshakes_per_ip: 16,
        }
    }
}

/// Why the transport does not start.
#[derive(Debug, Error)]
pub enum TransportError {
    /// The address cannot be listened on.
    #[error("cannot listen on {address}: {reason}; is another program using it?")]
    Listen {
        /// Which.
        address: SocketAddr,
        /// What the system said.
        reason: std::io::Error,
    },
}

/// Why a frame was not taken. The machine says it again later.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum SendError {
    /// No connection to the peer.
    #[error("peer {0} is not connected")]
    NotConnected(PublicKey),
    /// The peer takes frames more slowly than they come.
    #[error("the queue to peer {0} is full")]
    QueueFull(PublicKey),
    /// Not what [`crate::wire::encode`] makes: the length does not fit, or is above the limit.
    #[error("{0} bytes that are no frame")]
    NoFrame(usize),
}

/// How a peer is reached.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PeerStatus {
    /// Who.
    pub key: PublicKey,
    /// Where we dial it, or where it dialled from.
    pub address: Option<SocketAddr>,
    /// Since when it is connected.
    pub connected_since: Option<Timestamp>,
    /// Whether the peer dialled.
    pub inbound: bool,
    /// Why the last connection or attempt ended.
    pub last_error: Option<String>,
    /// When it is dialled again.
    pub next_attempt: Option<Timestamp>,
}

struct Shared {
    key: Arc<HotKey>,
    config: TransportConfig,
    events: mpsc::Sender<PeerEvent>,
    local: Option<SocketAddr>,
    table: Mutex<Table>,
    handshakes: Mutex<BTreeMap<IpAddr, usize>>,
    stop: CancellationToken,
    tasks: TaskTracker,
}

/// A cheap handle on all connections of a node.
#[derive(Clone)]
pub struct Transport {
    shared: Arc<Shared>,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // Nothing panics while it holds one of these; if something did, the tables are whole between statements.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Transport {
    /// Listens, if the configuration says where, and starts without peers.
    ///
    /// A frame has up to 1 MiB, so `events` holds at most its capacity times that.
    ///
    /// # Errors
    /// [`TransportError::Listen`].
    pub async fn start(
        key: Arc<HotKey>,
        config: TransportConfig,
        events: mpsc::Sender<PeerEvent>,
    ) -> Result<Self, TransportError> {
        let listener = match config.listen {
            None => None,
            Some(address) => Some(
                TcpListener::bind(address)
                    .await
                    .map_err(|reason| TransportError::Listen { address, reason })?,
            ),
        };
        let shared = Arc::new(Shared {
            table: Mutex::new(Table::new(key.public(), &config)),
            local: listener
                .as_ref()
                .and_then(|listener| listener.local_addr().ok()),
            key,
            config,
            events,
            handshakes: Mutex::default(),
            stop: CancellationToken::new(),
            tasks: TaskTracker::new(),
        });
        if let Some(listener) = listener {
            let task = listen(shared.clone(), listener);
            shared
                .tasks
                .spawn(shared.stop.clone().run_until_cancelled_owned(task));
        }
        Ok(Self { shared })
    }

    /// Where this node listens: the port that was chosen, if the configuration says 0.
    pub fn local_address(&self) -> Option<SocketAddr> {
        self.shared.local
    }

    /// Wants a connection to a peer: dials until there is one, and again when it breaks, until `disconnect`.
    pub fn connect(&self, peer: PublicKey, address: SocketAddr) {
        if peer == self.shared.key.public() || self.shared.stop.is_cancelled() {
            return;
        }
        let Some(stop) = lock(&self.shared.table).want(peer, address, &self.shared.stop) else {
            return;
        };
        let task = keep_connected(self.shared.clone(), peer, address);
        self.shared
            .tasks
            .spawn(stop.run_until_cancelled_owned(task));
    }

    /// Wants no connection to a peer any more and ends the one that there is.
    pub fn disconnect(&self, peer: PublicKey) {
        lock(&self.shared.table).unwant(&peer);
    }

    /// Queues a frame as [`crate::wire::encode`] makes it, its length included.
    ///
    /// # Errors
    /// [`SendError`].
    pub fn send(&self, to: PublicKey, frame: Vec<u8>) -> Result<(), SendError> {
        let fits = frame.first_chunk::<4>().is_some_and(|prefix| {
            crate::wire::frame_length(*prefix) == Ok(frame.len() - 4) && frame.len() > 4
        });
        if !fits {
            return Err(SendError::NoFrame(frame.len()));
        }
        lock(&self.shared.table).send(to, frame)
    }

    /// All peers that are connected or wanted, by key.
    pub fn peers(&self) -> Vec<PeerStatus> {
        lock(&self.shared.table).statuses()
    }

    /// Ends all connections and waits for their tasks. No event follows.
    pub async fn shutdown(&self) {
        self.shared.stop.cancel();
        self.shared.tasks.close();
        self.shared.tasks.wait().await;
    }
}

/// Takes connections in, each with its own task.
async fn listen(shared: Arc<Shared>, listener: TcpListener) {
    loop {
        let (stream, address) = match listener.accept().await {
            Ok(accepted) => accepted,
            Err(error) => {
                // Out of file descriptors, for example: ends by itself when connections end.
                warn!(%error, "cannot accept a connection");
                tokio::time::sleep(Duration::from_millis(100)).await;
                continue;
            }
        };
        let Some(permit) = Permit::take(&shared, address.ip()) else {
            debug!(%address, "too many handshakes");
            continue;
        };
        let task = welcome(shared.clone(), stream, address, permit);
        shared
            .tasks
            .spawn(shared.stop.clone().run_until_cancelled_owned(task));
    }
}

/// A place among the connections that have proven nothing yet.
struct Permit {
    shared: Arc<Shared>,
    ip: IpAddr,
}

impl Permit {
    fn take(shared: &Arc<Shared>, ip: IpAddr) -> Option<Self> {
        let mut handshakes = lock(&shared.handshakes);
        let all: usize = handshakes.values().sum();
        let here = handshakes.get(&ip).copied().unwrap_or(0);
        if all >= shared.config.max_handshakes || here >= shared.config.max_handshakes_per_ip {
            return None;
        }
        handshakes.insert(ip, here + 1);
        Some(Self {
            shared: shared.clone(),
            ip,
        })
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        let mut handshakes = lock(&self.shared.handshakes);
        match handshakes.get_mut(&self.ip) {
            Some(count) if *count > 1 => *count -= 1,
            _ => {
                handshakes.remove(&self.ip);
            }
        }
    }
}

/// The listener's side of a connection, from its first byte to its end.
async fn welcome(shared: Arc<Shared>, mut stream: TcpStream, address: SocketAddr, permit: Permit) {
    let limit = shared.config.handshake_timeout;
    let shaken = timeout(limit, handshake::accept(&mut stream, &shared.key)).await;
    drop(permit);
    match shaken {
        Ok(Ok(authenticated)) => run(shared, stream, address, authenticated, false).await,
        Ok(Err(error)) => debug!(%address, %error, "handshake failed"),
        Err(_) => debug!(%address, "handshake timed out"),
    }
}

/// Dials a wanted peer whenever there is no connection.
async fn keep_connected(shared: Arc<Shared>, peer: PublicKey, address: SocketAddr) {
    let mut failures = 0;
    loop {
        let started = Instant::now();
        let present = lock(&shared.table).end_of(&peer);
        if let Some(end) = present {
            end.cancelled().await;
        } else if let Err(reason) = dial(&shared, peer, address).await {
            debug!(%peer, %address, reason, "dial failed");
            lock(&shared.table).note_error(&peer, reason);
        }
        // A peer that hangs up at once is dialled as rarely as one that is not there.
        if started.elapsed() > shared.config.idle_timeout {
            failures = 0;
        }
        let wait = backoff(&shared.config, failures);
        failures = failures.saturating_add(1);
        lock(&shared.table).note_attempt(&peer, wait);
        tokio::time::sleep(wait).await;
    }
}

/// Twice as long after each failure, and by chance up to half shorter, so that many nodes do not come back at once.
fn backoff(config: &TransportConfig, failures: u32) -> Duration {
    let longest = config
        .backoff_min
        .saturating_mul(1 << failures.min(16))
        .min(config.backoff_max);
    longest.mul_f64(rand::thread_rng().gen_range(0.5..=1.0))
}

/// The dialler's side of a connection, from its first byte to its end.
async fn dial(shared: &Arc<Shared>, peer: PublicKey, address: SocketAddr) -> Result<(), String> {
    let limit = shared.config.handshake_timeout;
    let late = |_| format!("no answer within {} s", limit.as_secs_f64());
    let mut stream = timeout(limit, TcpStream::connect(address))
        .await
        .map_err(late)?
        .map_err(|error| error.to_string())?;
    let authenticated = timeout(limit, handshake::dial(&mut stream, &shared.key, peer))
        .await
        .map_err(late)?
        .map_err(|error| error.to_string())?;
    // A task of its own: when the peer is no longer wanted, the connection still has to say that it ended.
    let task = run(shared.clone(), stream, address, authenticated, true);
    let stop = shared.stop.clone();
    let running = shared.tasks.spawn(stop.run_until_cancelled_owned(task));
    running.await.map(|_| ()).map_err(|error| error.to_string())
}

/// Claims the peer's only place for a connection, runs it there, gives the place back.
async fn run(
    shared: Arc<Shared>,
    stream: TcpStream,
    address: SocketAddr,
    authenticated: Authenticated,
    outbound: bool,
) {
    let peer = authenticated.peer;
    let cipher = Arc::new(authenticated.cipher);
    // Frames are joined already: waiting for more would only delay them.
    let _ = stream.set_nodelay(true);
    let (reader, mut writer) = stream.into_split();
    let mut inbox = Inbox::new(reader, cipher.clone());
    if outbound && let Err(error) = inbox.receive(shared.config.handshake_timeout).await {
        lock(&shared.table).note_error(&peer, format!("the peer did not take us: {error}"));
        return;
    }
    let claimed = lock(&shared.table).claim(peer, address, outbound, &shared.stop);
    let claim = match claimed {
        Ok(claim) => claim,
        Err(reason) => {
            debug!(%peer, %address, reason, "connection refused");
            return;
        }
    };
    // The replaced connection says its last word before this one says its first.
    if let Some(end) = claim.replaced {
        end.cancelled().await;
    }
    let greeted = if outbound {
        Ok(0)
    } else {
        let greeting = connection::welcome(&mut writer, &cipher);
        let greeted = claim.stop.run_until_cancelled(greeting).await;
        greeted.unwrap_or(Err(ConnectionError::Closed)).map(|()| 1)
    };
    let ended = match greeted {
        Err(error) => Err(error),
        Ok(next) => {
            // Whoever hears of the connection may use it at once.
            lock(&shared.table).open(&peer, claim.number);
            let (events, config) = (shared.events.clone(), shared.config.clone());
            let idle_timeout = config.idle_timeout;
            let told = tell(&shared, PeerEvent::Connected(peer)).await;
            let writing = connection::write_all(writer, cipher, claim.outbox, next, config);
            let reading = inbox.read_all(peer, events, idle_timeout);
            let both = async {
                tokio::select! {
                    ended = writing => ended,
                    ended = reading => ended,
                }
            };
            let ended = if told {
                claim.stop.run_until_cancelled(both).await
            } else {
                None
            };
            // No frame is taken for a connection whose end is told.
            lock(&shared.table).shut(&peer, claim.number);
            tell(&shared, PeerEvent::Disconnected(peer)).await;
            ended.unwrap_or(Err(ConnectionError::Closed))
        }
    };
    let error = ended.err().unwrap_or(ConnectionError::Closed);
    debug!(%peer, %error, "disconnected");
    let mut table = lock(&shared.table);
    table.note_error(&peer, error.to_string());
    table.release(&peer, claim.number);
    drop((claim.end, claim.alive));
}

/// Waits until an event is taken. False when nobody listens any more.
async fn tell(shared: &Shared, event: PeerEvent) -> bool {
    let sent = shared.stop.run_until_cancelled(shared.events.send(event));
    matches!(sent.await, Some(Ok(())))
}

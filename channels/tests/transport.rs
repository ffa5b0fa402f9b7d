//! Connections over real loopback sockets, and peers that do not keep to the protocol.
#![cfg(feature = "transport")]

use millrace_channels::signing::HotKey;
use millrace_channels::transport::{
    PeerEvent, PeerStatus, SendError, Transport, TransportConfig, handshake,
};
use millrace_channels::types::PublicKey;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;
use tokio::time::{sleep, timeout};

const PATIENCE: Duration = Duration::from_secs(20);

fn key(number: u8) -> Arc<HotKey> {
    Arc::new(HotKey::new([number; 32]).unwrap())
}

fn config() -> TransportConfig {
    TransportConfig {
        listen: Some("127.0.0.1:0".parse().unwrap()),
        handshake_timeout: Duration::from_secs(2),
        backoff_min: Duration::from_millis(20),
        backoff_max: Duration::from_millis(200),
        ..TransportConfig::default()
    }
}

struct Node {
    key: PublicKey,
    transport: Transport,
    events: mpsc::Receiver<PeerEvent>,
}

impl Node {
    async fn start(number: u8) -> Self {
        Self::start_with(number, config()).await
    }

    async fn start_with(number: u8, config: TransportConfig) -> Self {
        let (sender, events) = mpsc::channel(8);
        let key = key(number);
        Self {
            key: key.public(),
            transport: Transport::start(key, config, sender).await.unwrap(),
            events,
        }
    }

    fn address(&self) -> SocketAddr {
        self.transport.local_address().unwrap()
    }

    fn connect(&self, to: &Node) {
        self.transport.connect(to.key, to.address());
    }

    async fn event(&mut self) -> PeerEvent {
        let event = timeout(PATIENCE, self.events.recv()).await;
        event
            .expect("an event in time")
            .expect("a running transport")
    }

    async fn frame(&mut self) -> Vec<u8> {
        match self.event().await {
            PeerEvent::Frame { frame, .. } => frame,
            other => panic!("{other:?} instead of a frame"),
        }
    }

    async fn connected(&mut self, to: PublicKey) {
        assert_eq!(self.event().await, PeerEvent::Connected(to));
    }

    /// Sends when there is room.
    async fn send(&self, to: PublicKey, body: &[u8]) {
        while let Err(error) = self.transport.send(to, framed(body)) {
            assert_ne!(error, SendError::NoFrame(body.len() + 4));
            sleep(Duration::from_millis(2)).await;
        }
    }

    async fn status_when(&self, wanted: impl Fn(&PeerStatus) -> bool) -> PeerStatus {
        for _ in 0..2000 {
            if let Some(status) = self.transport.peers().into_iter().find(&wanted) {
                return status;
            }
            sleep(Duration::from_millis(10)).await;
        }
        panic!("{:?}", self.transport.peers());
    }
}

fn framed(body: &[u8]) -> Vec<u8> {
    [&(body.len() as u32).to_be_bytes(), body].concat()
}

async fn pair() -> (Node, Node) {
    let (mut a, mut b) = (Node::start(1).await, Node::start(2).await);
    a.connect(&b);
    a.connected(b.key).await;
    b.connected(a.key).await;
    (a, b)
}

/// A wire between two nodes whose bytes a test can count, change, keep and cut.
struct Wire {
    address: SocketAddr,
    listener: TcpListener,
    to: SocketAddr,
}

impl Wire {
    async fn to(node: &Node) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        Self {
            address: listener.local_addr().unwrap(),
            listener,
            to: node.address(),
        }
    }

    /// Carries one connection; `alter` sees each piece towards the listener with its offset.
    async fn carry(self, mut alter: impl FnMut(usize, &mut [u8])) -> Vec<u8> {
        let (near, _) = self.listener.accept().await.unwrap();
        let far = TcpStream::connect(self.to).await.unwrap();
        let (mut near_read, mut near_write) = near.into_split();
        let (mut far_read, mut far_write) = far.into_split();
        let back = tokio::spawn(async move {
            let _ = tokio::io::copy(&mut far_read, &mut near_write).await;
        });
        let mut seen = Vec::new();
        let mut piece = vec![0; 4096];
        while let Ok(length @ 1..) = near_read.read(&mut piece).await {
            alter(seen.len(), &mut piece[..length]);
            seen.extend_from_slice(&piece[..length]);
            if far_write.write_all(&piece[..length]).await.is_err() {
                break;
            }
        }
        drop(far_write);
        back.abort();
        seen
    }
}

#[tokio::test]
async fn a_thousand_frames_arrive_in_order_both_ways() {
    let (mut a, mut b) = pair().await;
    let (from_a, from_b) = (a.transport.clone(), b.transport.clone());
    let (key_a, key_b) = (a.key, b.key);
    let say = |transport: Transport, to| {
        tokio::spawn(async move {
            for number in 0..1000u32 {
                // Lengths around the limit of one Noise message.
                let length = 4 + (number as usize * 977) % 70_000;
                let mut body = vec![number as u8; length];
                body[..4].copy_from_slice(&number.to_be_bytes());
                while transport.send(to, framed(&body)).is_err() {
                    sleep(Duration::from_millis(1)).await;
                }
            }
        })
    };
    let tasks = [say(from_a, key_b), say(from_b, key_a)];
    let hear = async |node: &mut Node| {
        for number in 0..1000u32 {
            let frame = node.frame().await;
            assert_eq!(frame.len(), 4 + (number as usize * 977) % 70_000);
            assert_eq!(frame[..4], number.to_be_bytes());
            assert!(frame[4..].iter().all(|byte| *byte == number as u8));
        }
    };
    tokio::join!(hear(&mut a), hear(&mut b));
    for task in tasks {
        task.await.unwrap();
    }
}

#[tokio::test]
async fn the_longest_frame_passes_and_a_longer_one_is_not_taken() {
    let (a, mut b) = pair().await;
    let longest = vec![7; 1 << 20];
    a.send(b.key, &longest).await;
    assert_eq!(b.frame().await, longest);
    let longer = framed(&vec![7; (1 << 20) + 1]);
    let length = longer.len();
    assert_eq!(
        a.transport.send(b.key, longer),
        Err(SendError::NoFrame(length))
    );
    assert_eq!(
        a.transport.send(b.key, vec![0, 0, 0, 9, 1]),
        Err(SendError::NoFrame(5))
    );
}

#[tokio::test]
async fn somebody_else_at_the_address_is_refused() {
    let (mut a, mut b) = (Node::start(1).await, Node::start(2).await);
    let expected = key(3).public();
    a.transport.connect(expected, b.address());
    let status = a.status_when(|status| status.last_error.is_some()).await;
    let error = status.last_error.unwrap();
    assert!(error.contains(&format!("{} answers", b.key)), "{error}");
    assert_eq!(
        a.transport.send(expected, framed(b"x")),
        Err(SendError::NotConnected(expected))
    );
    // Neither side was told of a connection, and the dialler did not show its key.
    assert!(a.events.try_recv().is_err() && b.events.try_recv().is_err());
    assert!(b.transport.peers().is_empty());
}

#[tokio::test]
async fn altered_ciphertext_ends_the_connection_and_the_next_one_works() {
    let (mut a, mut b) = (Node::start(1).await, Node::start(2).await);
    let wire = Wire::to(&b).await;
    a.transport.connect(b.key, wire.address);
    // Beyond the two handshake messages of the dialler.
    let handshake = 2 + 32 + 2 + 162;
    let carried = tokio::spawn(wire.carry(move |offset, piece| {
        if offset >= handshake {
            let last = piece.len() - 1;
            piece[last] ^= 1;
        }
    }));
    a.connected(b.key).await;
    b.connected(a.key).await;
    a.send(b.key, b"altered on its way").await;
    assert_eq!(b.event().await, PeerEvent::Disconnected(a.key));
    assert_eq!(a.event().await, PeerEvent::Disconnected(b.key));
    carried.await.unwrap();
    a.connect(&b);
    a.connected(b.key).await;
    b.connected(a.key).await;
    a.send(b.key, b"whole").await;
    assert_eq!(b.frame().await, b"whole");
}

#[tokio::test]
async fn a_handshake_altered_anywhere_connects_nobody() {
    for at in [0usize, 1, 2, 20, 33, 34, 36, 50, 84, 120, 180, 197] {
        let (mut a, mut b) = (Node::start(1).await, Node::start(2).await);
        let wire = Wire::to(&b).await;
        a.transport.connect(b.key, wire.address);
        let carried = tokio::spawn(wire.carry(move |offset, piece| {
            if let Some(byte) = at.checked_sub(offset).and_then(|at| piece.get_mut(at)) {
                *byte ^= 0x40;
            }
        }));
        timeout(PATIENCE, carried).await.unwrap().unwrap();
        assert!(b.events.try_recv().is_err(), "byte {at}");
        assert!(a.events.try_recv().is_err(), "byte {at}");
    }
}

#[tokio::test]
async fn a_recorded_handshake_is_worth_nothing_again() {
    let (mut a, mut b) = (Node::start(1).await, Node::start(2).await);
    let wire = Wire::to(&b).await;
    a.transport.connect(b.key, wire.address);
    let carried = tokio::spawn(wire.carry(|_, _| ()));
    a.connected(b.key).await;
    b.connected(a.key).await;
    a.transport.shutdown().await;
    assert_eq!(b.event().await, PeerEvent::Disconnected(a.key));
    let recorded = carried.await.unwrap();
    let mut replay = TcpStream::connect(b.address()).await.unwrap();
    replay.write_all(&recorded).await.unwrap();
    let mut answer = Vec::new();
    let _ = timeout(PATIENCE, replay.read_to_end(&mut answer))
        .await
        .unwrap();
    // The listener answers the first message, and takes the third for what it is.
    assert!(answer.len() <= 2 + 194, "{} bytes", answer.len());
    assert!(b.events.try_recv().is_err());
}

#[tokio::test]
async fn garbage_and_half_handshakes_are_hung_up_on() {
    let b = Node::start(2).await;
    let started = std::time::Instant::now();
    for bytes in [
        &b"GET / HTTP/1.1\r\n\r\n"[..],
        &[0; 500],
        &[0, 32, 1, 2, 3],
        &[],
    ] {
        let mut stream = TcpStream::connect(b.address()).await.unwrap();
        stream.write_all(bytes).await.unwrap();
        let mut answer = Vec::new();
        let _ = timeout(PATIENCE, stream.read_to_end(&mut answer))
            .await
            .unwrap();
    }
    assert!(
        started.elapsed() < Duration::from_secs(15),
        "two wait for the timeout"
    );
    assert!(b.transport.peers().is_empty());
}

#[tokio::test]
async fn connections_that_prove_nothing_are_few() {
    let limits = TransportConfig {
        max_handshakes: 3,
        handshake_timeout: Duration::from_secs(60),
        ..config()
    };
    let (mut a, mut b) = (Node::start(1).await, Node::start_with(2, limits).await);
    let mut silent = Vec::new();
    for _ in 0..3 {
        silent.push(TcpStream::connect(b.address()).await.unwrap());
    }
    sleep(Duration::from_millis(100)).await;
    let mut fourth = TcpStream::connect(b.address()).await.unwrap();
    let mut answer = Vec::new();
    let ended = timeout(Duration::from_secs(5), fourth.read_to_end(&mut answer)).await;
    assert!(ended.is_ok(), "the fourth is hung up on at once");
    drop(silent);
    a.connect(&b);
    a.connected(b.key).await;
    b.connected(a.key).await;
}

#[tokio::test]
async fn strangers_leave_room_for_wanted_peers() {
    let limits = TransportConfig {
        max_inbound: 1,
        ..config()
    };
    let mut b = Node::start_with(9, limits).await;
    let (mut a, c) = (Node::start(1).await, Node::start(3).await);
    a.connect(&b);
    a.connected(b.key).await;
    b.connected(a.key).await;
    c.connect(&b);
    let refused = c.status_when(|status| status.last_error.is_some()).await;
    assert!(refused.last_error.unwrap().contains("did not take us"));
    b.connect(&c);
    b.connected(c.key).await;
}

/// A dialler with a real key that speaks by hand after the handshake.
async fn by_hand(node: &mut Node, number: u8) -> (TcpStream, Cipher) {
    let mut stream = TcpStream::connect(node.address()).await.unwrap();
    let own = key(number);
    let dialled = handshake::dial(&mut stream, &own, node.key).await;
    let cipher = dialled.unwrap().cipher;
    node.connected(key(number).public()).await;
    (stream, Cipher(cipher))
}

/// Noise messages with their length, numbered by the caller.
struct Cipher(snow::StatelessTransportState);

impl Cipher {
    fn seal(&self, number: u64, plain: &[u8]) -> Vec<u8> {
        let mut message = vec![0; 2 + plain.len() + 16];
        let length = self
            .0
            .write_message(number, plain, &mut message[2..])
            .unwrap();
        message[..2].copy_from_slice(&(length as u16).to_be_bytes());
        message
    }
}

#[tokio::test]
async fn too_long_a_frame_is_refused_before_it_is_read() {
    let mut b = Node::start(2).await;
    let (mut stream, cipher) = by_hand(&mut b, 5).await;
    let prefix = (1u32 << 20) + 1;
    stream
        .write_all(&cipher.seal(0, &prefix.to_be_bytes()))
        .await
        .unwrap();
    let peer = key(5).public();
    assert_eq!(b.event().await, PeerEvent::Disconnected(peer));
}

#[tokio::test]
async fn a_message_said_twice_or_out_of_order_ends_the_connection() {
    for numbers in [[0, 0], [1, 0]] {
        let mut b = Node::start(2).await;
        let (mut stream, cipher) = by_hand(&mut b, 5).await;
        for number in numbers {
            let message = cipher.seal(number, &framed(b"once"));
            stream.write_all(&message).await.unwrap();
        }
        let peer = key(5).public();
        if numbers[0] == 0 {
            assert_eq!(b.frame().await, b"once");
        }
        assert_eq!(b.event().await, PeerEvent::Disconnected(peer));
    }
}

#[tokio::test]
async fn frames_cut_anywhere_come_together_again() {
    let mut b = Node::start(2).await;
    let (mut stream, cipher) = by_hand(&mut b, 5).await;
    let bytes = [framed(b"first"), framed(&[]), framed(&[9; 300])].concat();
    for (number, byte) in bytes.chunks(3).enumerate() {
        let message = cipher.seal(number as u64, byte);
        stream.write_all(&message).await.unwrap();
    }
    assert_eq!(b.frame().await, b"first");
    assert_eq!(b.frame().await, [9; 300]);
}

#[tokio::test]
async fn a_peer_that_is_silent_is_gone_and_keep_alives_hold_an_idle_one() {
    let quick = || TransportConfig {
        keep_alive: Duration::from_millis(150),
        idle_timeout: Duration::from_millis(1500),
        ..config()
    };
    let mut b = Node::start_with(2, quick()).await;
    let (stream, _) = by_hand(&mut b, 5).await;
    let peer = key(5).public();
    assert_eq!(b.event().await, PeerEvent::Disconnected(peer));
    drop(stream);
    let mut a = Node::start_with(1, quick()).await;
    a.connect(&b);
    a.connected(b.key).await;
    b.connected(a.key).await;
    sleep(Duration::from_millis(3500)).await;
    assert!(a.events.try_recv().is_err() && b.events.try_recv().is_err());
}

#[tokio::test]
async fn a_reader_that_stalls_stops_its_sender_and_loses_nothing() {
    let small = TransportConfig {
        queue_frames: 16,
        queue_bytes: 1 << 20,
        ..config()
    };
    let (mut a, mut b) = (Node::start_with(1, small).await, Node::start(2).await);
    a.connect(&b);
    a.connected(b.key).await;
    b.connected(a.key).await;
    // Nobody takes B's events: kernel buffers, eight events and the queue fill, then A is told.
    let mut taken = 0u32;
    let mut refused = 0;
    while refused < 100 {
        let mut body = vec![0; 100_000];
        body[..4].copy_from_slice(&taken.to_be_bytes());
        match a.transport.send(b.key, framed(&body)) {
            Ok(()) => (taken, refused) = (taken + 1, 0),
            Err(error) => {
                assert_eq!(error, SendError::QueueFull(b.key));
                refused += 1;
                sleep(Duration::from_millis(3)).await;
            }
        }
        assert!(taken < 1000, "100 MB are more than any buffer between");
    }
    for number in 0..taken {
        assert_eq!(b.frame().await[..4], number.to_be_bytes());
    }
    a.send(b.key, b"on").await;
    assert_eq!(b.frame().await, b"on");
}

#[tokio::test]
async fn a_peer_that_takes_nothing_for_long_is_gone() {
    let impatient = TransportConfig {
        stall_timeout: Duration::from_millis(300),
        ..config()
    };
    let mut b = Node::start_with(2, impatient).await;
    let (stream, _) = by_hand(&mut b, 5).await;
    let peer = key(5).public();
    while b.transport.send(peer, framed(&[1; 500_000])) != Err(SendError::NotConnected(peer)) {
        sleep(Duration::from_millis(5)).await;
    }
    assert_eq!(b.event().await, PeerEvent::Disconnected(peer));
    drop(stream);
}

#[tokio::test]
async fn a_killed_peer_is_dialled_until_it_is_back() {
    let (mut a, mut b) = pair().await;
    let address = b.address();
    b.transport.shutdown().await;
    assert_eq!(a.event().await, PeerEvent::Disconnected(b.key));
    let status = a.status_when(|status| status.next_attempt.is_some()).await;
    assert_eq!(status.connected_since, None);
    sleep(Duration::from_millis(300)).await;
    let again = TransportConfig {
        listen: Some(address),
        ..config()
    };
    b = Node::start_with(2, again).await;
    a.connected(b.key).await;
    b.connected(a.key).await;
    a.send(b.key, b"back").await;
    assert_eq!(b.frame().await, b"back");
}

#[tokio::test]
async fn nodes_that_dial_each_other_end_with_one_connection() {
    for _ in 0..10 {
        let (mut a, mut b) = (Node::start(1).await, Node::start(2).await);
        a.connect(&b);
        b.connect(&a);
        // Flapping at the start is allowed; in the end each side holds the same one connection.
        let settle = async |node: &mut Node, other: PublicKey| {
            let mut connected = false;
            while let Ok(event) = timeout(Duration::from_millis(400), node.event()).await {
                let expected = if connected {
                    PeerEvent::Disconnected(other)
                } else {
                    PeerEvent::Connected(other)
                };
                assert_eq!(event, expected);
                connected = !connected;
            }
            assert!(connected);
        };
        let (key_a, key_b) = (a.key, b.key);
        tokio::join!(settle(&mut a, key_b), settle(&mut b, key_a));
        let (of_a, of_b) = (a.transport.peers(), b.transport.peers());
        assert_ne!(of_a[0].inbound, of_b[0].inbound, "{of_a:?} {of_b:?}");
        a.send(b.key, b"to b").await;
        b.send(a.key, b"to a").await;
        assert_eq!(b.frame().await, b"to b");
        assert_eq!(a.frame().await, b"to a");
    }
}

#[tokio::test]
async fn a_peer_that_restarts_takes_its_old_place_after_a_while() {
    let short = TransportConfig {
        handshake_timeout: Duration::from_secs(5),
        ..config()
    };
    let mut b = Node::start_with(2, short).await;
    let (first, _) = by_hand(&mut b, 5).await;
    let peer = key(5).public();
    // The same dialler again: the newer connection is the living one.
    let mut second = TcpStream::connect(b.address()).await.unwrap();
    let dialled = handshake::dial(&mut second, &key(5), b.key).await;
    let cipher = Cipher(dialled.unwrap().cipher);
    assert_eq!(b.event().await, PeerEvent::Disconnected(peer));
    b.connected(peer).await;
    second
        .write_all(&cipher.seal(0, &framed(b"new")))
        .await
        .unwrap();
    assert_eq!(b.frame().await, b"new");
    drop(first);
}

#[tokio::test]
async fn disconnect_ends_the_connection_and_the_dialling() {
    let (mut a, mut b) = pair().await;
    a.transport.disconnect(b.key);
    assert_eq!(a.event().await, PeerEvent::Disconnected(b.key));
    assert_eq!(b.event().await, PeerEvent::Disconnected(a.key));
    sleep(Duration::from_millis(300)).await;
    assert!(a.events.try_recv().is_err() && a.transport.peers().is_empty());
}

#[tokio::test]
async fn a_connection_can_be_used_as_soon_as_it_is_told() {
    for _ in 0..30 {
        let (mut a, mut b) = (Node::start(1).await, Node::start(2).await);
        a.connect(&b);
        let (key_a, key_b) = (a.key, b.key);
        let speak = async |node: &mut Node, other: PublicKey| {
            node.connected(other).await;
            assert_eq!(node.transport.send(other, framed(b"at once")), Ok(()));
        };
        tokio::join!(speak(&mut a, key_b), speak(&mut b, key_a));
        assert_eq!(a.frame().await, b"at once");
        assert_eq!(b.frame().await, b"at once");
    }
}

#[tokio::test]
async fn a_peer_that_connects_again_and_again_fills_no_queue() {
    let (sender, mut events) = mpsc::channel(1);
    let own = key(2);
    let transport = Transport::start(own.clone(), config(), sender)
        .await
        .unwrap();
    let address = transport.local_address().unwrap();
    // Nobody takes events, so no connection can say that it ended.
    let mut kept = Vec::new();
    for _ in 0..12 {
        let mut stream = TcpStream::connect(address).await.unwrap();
        let stranger = key(5);
        handshake::dial(&mut stream, &stranger, own.public())
            .await
            .unwrap();
        sleep(Duration::from_millis(30)).await;
        kept.push(stream);
    }
    let mut refused = 0;
    for stream in &mut kept {
        let mut answer = Vec::new();
        let read = timeout(Duration::from_millis(300), stream.read_to_end(&mut answer)).await;
        refused += usize::from(read.is_ok());
    }
    assert!(refused >= 8, "{refused} of 12 were refused");
    assert_eq!(
        events.recv().await,
        Some(PeerEvent::Connected(key(5).public()))
    );
    transport.shutdown().await;
}

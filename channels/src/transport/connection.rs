//! One connection: two tasks, one for each way, and a cipher that counts.
//!
//! ```text
//! queue (bounded) → frames joined up to 65,519 bytes → Noise message, length u16 before it → socket
//! socket → Noise message n, or the connection ends → bytes → frames, length u32 before each → events (bounded)
//! ```
//!
//! A frame of length 0 keeps the connection alive and says nothing else. Whoever does not take events stops the reader, so the
//! peer's socket fills, so its writer waits, so its queue fills, and its `send` says so: no memory grows anywhere.

use super::{PeerEvent, TransportConfig};
use crate::types::PublicKey;
use crate::wire;
use snow::StatelessTransportState;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;
use thiserror::Error;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, BufReader};
use tokio::sync::mpsc;
use tokio::time::timeout;

/// Longest Noise message.
const MAX_MESSAGE_BYTES: usize = 65_535;
/// What Noise adds to a message.
const TAG_BYTES: usize = 16;
/// Longest plaintext of a message.
const MAX_PLAIN_BYTES: usize = MAX_MESSAGE_BYTES - TAG_BYTES;
/// Keeps a connection alive.
const KEEP_ALIVE: [u8; 4] = [0; 4];

/// Why a connection ended.
#[derive(Debug, Error)]
pub enum ConnectionError {
    /// The socket broke or was closed.
    #[error("the connection broke: {0}")]
    Io(#[from] io::Error),
    /// Altered, replayed or reordered bytes.
    #[error("a message does not decrypt")]
    Noise(#[from] snow::Error),
    /// The peer announced a frame above the limit.
    #[error("the peer sends too long a frame: {0}")]
    Frame(#[from] wire::WireError),
    /// Nothing came, not even a keep-alive.
    #[error("the peer was silent for {} s", .0.as_secs())]
    Silent(Duration),
    /// The peer takes nothing.
    #[error("the peer took no data for {} s", .0.as_secs())]
    Stalled(Duration),
    /// This node ends it.
    #[error("closed by this node")]
    Closed,
}

/// Frames that wait for a peer: bounded by number and by bytes.
#[derive(Clone)]
pub struct Queue {
    frames: mpsc::Sender<Vec<u8>>,
    bytes: Arc<AtomicUsize>,
    max_bytes: usize,
}

/// The writer's end of a [`Queue`].
pub struct Outbox {
    frames: mpsc::Receiver<Vec<u8>>,
    bytes: Arc<AtomicUsize>,
}

/// A queue within the limits of `config`.
pub fn queue(config: &TransportConfig) -> (Queue, Outbox) {
    let (sender, receiver) = mpsc::channel(config.queue_frames);
    let bytes = Arc::new(AtomicUsize::new(0));
    let queue = Queue {
        frames: sender,
        bytes: bytes.clone(),
        max_bytes: config.queue_bytes,
    };
    let outbox = Outbox {
        frames: receiver,
        bytes,
    };
    (queue, outbox)
}

impl Queue {
    /// Puts a frame in, if there is room. An empty queue takes any frame.
    pub fn push(&self, frame: Vec<u8>) -> Result<(), mpsc::error::TrySendError<Vec<u8>>> {
        let length = frame.len();
        let before = self.bytes.fetch_add(length, Ordering::AcqRel);
        let full = before != 0 && before + length > self.max_bytes;
        let pushed = if full {
            Err(mpsc::error::TrySendError::Full(frame))
        } else {
            self.frames.try_send(frame)
        };
        if pushed.is_err() {
            self.bytes.fetch_sub(length, Ordering::AcqRel);
        }
        pushed
    }
}

impl Outbox {
    /// Waits for a frame, then takes along what else is there, up to one Noise message; a keep-alive if nothing comes in time.
    ///
    /// # Cancel safety
    /// A cancelled call may lose the frames that it took: the connection ends then.
    async fn next(&mut self, keep_alive: Duration, plain: &mut Vec<u8>) -> bool {
        plain.clear();
        match timeout(keep_alive, self.frames.recv()).await {
            Err(_) => plain.extend_from_slice(&KEEP_ALIVE),
            Ok(None) => return false,
            Ok(Some(frame)) => self.take(&frame, plain),
        }
        while plain.len() < MAX_PLAIN_BYTES
            && let Ok(frame) = self.frames.try_recv()
        {
            self.take(&frame, plain);
        }
        true
    }

    fn take(&self, frame: &[u8], plain: &mut Vec<u8>) {
        self.bytes.fetch_sub(frame.len(), Ordering::AcqRel);
        plain.extend_from_slice(frame);
    }
}

/// Writes what is queued until something breaks.
pub async fn write_all<W: AsyncWrite + Unpin>(
    mut socket: W,
    cipher: Arc<StatelessTransportState>,
    mut outbox: Outbox,
    mut number: u64,
    config: TransportConfig,
) -> Result<(), ConnectionError> {
    let mut plain = Vec::new();
    let mut message = vec![0; 2 + MAX_MESSAGE_BYTES];
    while outbox.next(config.keep_alive, &mut plain).await {
        for chunk in plain.chunks(MAX_PLAIN_BYTES) {
            let length = seal(&cipher, number, chunk, &mut message)?;
            number += 1;
            timeout(config.stall_timeout, socket.write_all(&message[..length]))
                .await
                .map_err(|_| ConnectionError::Stalled(config.stall_timeout))??;
        }
    }
    Ok(())
}

/// Encrypts one Noise message with its length before it; gives the length of both.
fn seal(
    cipher: &StatelessTransportState,
    number: u64,
    plain: &[u8],
    message: &mut [u8],
) -> Result<usize, ConnectionError> {
    let length = cipher.write_message(number, plain, &mut message[2..])?;
    message[..2].copy_from_slice(&(length as u16).to_be_bytes());
    Ok(2 + length)
}

/// The listener's first message: the connection is taken.
pub async fn welcome<W: AsyncWrite + Unpin>(
    socket: &mut W,
    cipher: &StatelessTransportState,
) -> Result<(), ConnectionError> {
    let mut message = [0; 2 + KEEP_ALIVE.len() + TAG_BYTES];
    let length = seal(cipher, 0, &KEEP_ALIVE, &mut message)?;
    Ok(socket.write_all(&message[..length]).await?)
}

/// What comes from a peer, decrypted and cut into frames.
pub struct Inbox<R> {
    /// Buffered, so that a message takes one call of the system.
    socket: BufReader<R>,
    cipher: Arc<StatelessTransportState>,
    number: u64,
    message: Vec<u8>,
    /// Bytes without a whole frame yet: less than one frame and one message.
    plain: Vec<u8>,
}

impl<R: AsyncRead + Unpin> Inbox<R> {
    /// From the first message on.
    pub fn new(socket: R, cipher: Arc<StatelessTransportState>) -> Self {
        Self {
            socket: BufReader::new(socket),
            cipher,
            number: 0,
            message: vec![0; MAX_MESSAGE_BYTES],
            plain: Vec::new(),
        }
    }

    /// Waits for one Noise message; longer than `patience` is silence.
    pub async fn receive(&mut self, patience: Duration) -> Result<(), ConnectionError> {
        let read = async {
            let length = usize::from(self.socket.read_u16().await?);
            self.socket.read_exact(&mut self.message[..length]).await?;
            Ok::<usize, io::Error>(length)
        };
        let length = timeout(patience, read)
            .await
            .map_err(|_| ConnectionError::Silent(patience))??;
        let start = self.plain.len();
        self.plain.resize(start + length, 0);
        let opened = self.cipher.read_message(
            self.number,
            &self.message[..length],
            &mut self.plain[start..],
        )?;
        self.plain.truncate(start + opened);
        self.number += 1;
        Ok(())
    }

    /// Takes the frames that are whole; keep-alives are left out.
    fn frames(&mut self) -> Result<Vec<Vec<u8>>, ConnectionError> {
        let (mut frames, mut at) = (Vec::new(), 0);
        while let Some((prefix, rest)) = self.plain[at..].split_first_chunk::<4>() {
            let length = wire::frame_length(*prefix)?;
            let Some(frame) = rest.get(..length) else {
                break;
            };
            if length > 0 {
                frames.push(frame.to_vec());
            }
            at += 4 + length;
        }
        self.plain.drain(..at);
        Ok(frames)
    }

    /// Hands on frames until something breaks.
    pub async fn read_all(
        mut self,
        from: PublicKey,
        events: mpsc::Sender<PeerEvent>,
        idle_timeout: Duration,
    ) -> Result<(), ConnectionError> {
        loop {
            for frame in self.frames()? {
                // Waiting here is the flow control.
                let event = PeerEvent::Frame { from, frame };
                events
                    .send(event)
                    .await
                    .map_err(|_| ConnectionError::Closed)?;
            }
            self.receive(idle_timeout).await?;
        }
    }
}

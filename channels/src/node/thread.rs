//! A thread for a node: its connections and its machine, and nothing else.
//!
//! The machine waits for the disk on its thread ([`super::runtime`]). On a thread of their own that keeps nobody else waiting, and
//! a frame that comes in is answered without waking another thread.

use super::link::PeerEvent;
use crate::signing::HotKey;
use crate::transport::{Transport, TransportConfig};
use std::io;
use std::sync::Arc;
use tokio::runtime::{Builder, Handle};
use tokio::sync::{mpsc, oneshot};

/// A thread with a runtime of its own; what runs there ends when this is dropped.
pub struct NodeThread {
    handle: Handle,
    _alive: Option<oneshot::Sender<()>>,
}

impl NodeThread {
    /// Starts a thread under a name that debuggers show.
    ///
    /// # Errors
    /// If the system gives no thread, or no queue of events for it.
    pub fn start(name: &str) -> io::Result<Self> {
        let runtime = Builder::new_current_thread().enable_all().build()?;
        let handle = runtime.handle().clone();
        let (alive, ended) = oneshot::channel();
        std::thread::Builder::new()
            .name(name.to_owned())
            .spawn(move || {
                // Nothing is sent: it ends when the other end is dropped.
                let _ = runtime.block_on(ended);
            })?;
        Ok(Self {
            handle,
            _alive: Some(alive),
        })
    }

    /// No thread: the caller's runtime, for nodes that are to share one.
    ///
    /// # Panics
    /// Outside of a runtime.
    pub fn current() -> Self {
        Self {
            handle: Handle::current(),
            _alive: None,
        }
    }

    /// Starts a node's connections, whose tasks run beside the machine that they feed.
    ///
    /// # Errors
    /// If the address to listen on is taken, or the thread has ended.
    pub async fn connections(
        &self,
        key: Arc<HotKey>,
        config: TransportConfig,
        events: mpsc::Sender<PeerEvent>,
    ) -> io::Result<Transport> {
        let start = Transport::start(key, config, events);
        let started = self.handle.spawn(start).await;
        started.map_err(io::Error::other)?.map_err(io::Error::other)
    }

    /// Where its tasks are spawned.
    pub fn handle(&self) -> &Handle {
        &self.handle
    }
}

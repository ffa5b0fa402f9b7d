//! How the runtime reaches peers: frames out through [`Link`], events in through a bounded queue.

pub use crate::transport::PeerEvent;
use crate::transport::Transport;
use crate::types::PublicKey;
use std::net::SocketAddr;

/// Sends frames and keeps connections. Losing a frame is allowed: peers say again what was not answered.
pub trait Link: Send + Sync + 'static {
    /// Sends a frame, its length included, to a peer, if it is connected.
    fn send(&self, to: PublicKey, frame: Vec<u8>);
    /// Connects to a peer and keeps trying.
    fn connect(&self, peer: PublicKey, address: SocketAddr);
    /// Hangs up and tries no more.
    fn disconnect(&self, peer: PublicKey);
    /// Where others reach this node.
    fn local_address(&self) -> Option<SocketAddr>;
}

impl Link for Transport {
    fn send(&self, to: PublicKey, frame: Vec<u8>) {
        if let Err(error) = Transport::send(self, to, frame) {
            tracing::debug!(%error, "a frame was not sent; it is said again");
        }
    }

    fn connect(&self, peer: PublicKey, address: SocketAddr) {
        Transport::connect(self, peer, address);
    }

    fn disconnect(&self, peer: PublicKey) {
        Transport::disconnect(self, peer);
    }

    fn local_address(&self) -> Option<SocketAddr> {
        Transport::local_address(self)
    }
}

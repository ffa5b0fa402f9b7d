//! What users ask of a running node: changes, answered once they are durable, and views.
//!
//! `Request → runtime → durable → Answer`; `ask(closure) → runtime → what the closure saw`

use super::event::Event;
use super::records;
use super::runtime::State;
use crate::machine::StepError;
use crate::machine::payment::{Invoice, NewPayment};
use crate::store::{Store, StoreError, Table};
use crate::types::{Address, Amount, ChannelId, Hash32, PaymentHash, PublicKey};
use serde::{Deserialize, Serialize};
use std::net::SocketAddr;
use std::sync::Arc;
use thiserror::Error;
use tokio::sync::{broadcast, mpsc, oneshot, watch};

/// A change that a user asks for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Request {
    /// Agree on a channel with a connected peer and deposit.
    Open {
        /// With whom.
        peer: PublicKey,
        /// The token; zero for Ether.
        token: Address,
        /// What we deposit.
        amount: Amount,
        /// Dispute window, seconds.
        window_secs: u32,
    },
    /// Deposit more.
    Deposit {
        /// Into which channel.
        channel: ChannelId,
        /// How much.
        amount: Amount,
    },
    /// Take money out, with the counterparty.
    Withdraw {
        /// Of which channel.
        channel: ChannelId,
        /// How much.
        amount: Amount,
    },
    /// Pay the counterparty without a lock.
    PayDirect {
        /// Over which channel.
        channel: ChannelId,
        /// How much.
        amount: Amount,
        /// What the payee knows it by.
        reference: Hash32,
    },
    /// Pay somebody over locks.
    Pay(NewPayment),
    /// Expect a payment; the text is the invoice as people pass it on.
    AddInvoice {
        /// What is expected.
        invoice: Invoice,
        /// Its text.
        text: String,
    },
    /// Release a hold invoice.
    Release(PaymentHash),
    /// Fail what came for an invoice.
    Cancel(PaymentHash),
    /// Close, with the counterparty.
    Close(ChannelId),
    /// Close without it.
    ForceClose(ChannelId),
    /// Connect to a peer, now and after every restart.
    Connect {
        /// Who.
        peer: PublicKey,
        /// Where it listens.
        address: SocketAddr,
    },
    /// Hang up and forget where a peer listens.
    Disconnect(PublicKey),
}

/// What a change led to.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Answer {
    /// The peer is asked; the opening is named by this salt until it has a channel.
    Opening {
        /// Of the proposal.
        salt: u64,
    },
    /// A deposit is under way.
    Depositing {
        /// Its name.
        operation: String,
    },
    /// A direct payment is durable and on its way.
    Paid {
        /// Over which channel.
        channel: ChannelId,
        /// The reference.
        reference: Hash32,
    },
    /// A payment over locks is under way.
    Paying {
        /// Which.
        hash: PaymentHash,
    },
    /// It is so.
    Done,
}

/// Makes a request happen once: asking again with the same key gives the same answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RequestKey {
    /// The user's key.
    pub key: String,
    /// Hash of the request, by which another request under the same key is noticed.
    pub request: [u8; 32],
}

/// The runtime has ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[error("the channels' node has stopped; its log says why, and what was acknowledged is on disk")]
pub struct Stopped;

/// Why a request changed nothing.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum NodeError {
    /// The machine refuses it.
    #[error(transparent)]
    Step(#[from] StepError),
    /// The runtime has ended.
    #[error(transparent)]
    Stopped(#[from] Stopped),
    /// The peer is not connected.
    #[error("peer {0} is not connected: give its address, or wait until it connects")]
    NotConnected(PublicKey),
    /// The peer is this node.
    #[error("peer {0} is this node itself")]
    Self_(PublicKey),
    /// The key was used for another request.
    #[error("the idempotency key {0} was used for another request")]
    KeyReused(String),
    /// Too many channels are being agreed on.
    #[error(
        "{0} channels are being agreed on already: wait for them, or for their limit of 10 minutes"
    )]
    TooManyOpenings(usize),
    /// Nothing to deposit.
    #[error("an amount of zero")]
    Zero,
    /// The store cannot be read.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// What reaches the runtime's task.
pub(super) enum Command {
    /// A change.
    Do {
        request: Request,
        key: Option<RequestKey>,
        reply: oneshot::Sender<Result<Answer, NodeError>>,
    },
    /// A look at everything.
    Ask(Box<dyn FnOnce(&State) + Send>),
    /// L1's news.
    Report(crate::machine::dispute::ChainReport),
    /// What became of a transaction.
    Landed(super::broadcast::Outcome),
    /// What became of a deposit.
    Deposited {
        operation: String,
        result: Result<Hash32, (String, bool)>,
    },
}

/// A running node, for users. Clones share it.
#[derive(Clone)]
pub struct Handle {
    pub(super) commands: mpsc::Sender<Command>,
    pub(super) store: Arc<Store>,
    pub(super) newest: watch::Receiver<u64>,
    pub(super) live: broadcast::Sender<Event>,
}

impl Handle {
    /// Makes a change; answers once it is durable.
    ///
    /// # Errors
    /// [`NodeError`]: nothing changed.
    pub async fn request(
        &self,
        request: Request,
        key: Option<RequestKey>,
    ) -> Result<Answer, NodeError> {
        let (reply, answer) = oneshot::channel();
        let command = Command::Do {
            request,
            key,
            reply,
        };
        self.commands.send(command).await.map_err(|_| Stopped)?;
        answer.await.map_err(|_| Stopped)?
    }

    /// Looks at the node's state.
    ///
    /// # Errors
    /// [`Stopped`].
    pub async fn ask<T: Send + 'static>(
        &self,
        look: impl FnOnce(&State) -> T + Send + 'static,
    ) -> Result<T, Stopped> {
        let (tell, told) = oneshot::channel();
        let command = Command::Ask(Box::new(move |state| {
            // Whoever asked may have gone.
            let _ = tell.send(look(state));
        }));
        self.commands.send(command).await.map_err(|_| Stopped)?;
        told.await.map_err(|_| Stopped)
    }

    /// Number of the newest event; changes with each.
    pub fn newest_event(&self) -> watch::Receiver<u64> {
        self.newest.clone()
    }

    /// Events from now on, as they become durable. Who falls behind reads on with [`Self::events`].
    pub fn live_events(&self) -> broadcast::Receiver<Event> {
        self.live.subscribe()
    }

    /// Events from a number on, at most `limit`, oldest first.
    ///
    /// # Errors
    /// [`StoreError`].
    pub fn events(&self, from: u64, limit: usize) -> Result<Vec<Event>, StoreError> {
        let pairs = self.store.rim(Table::Events, &from.to_be_bytes(), limit)?;
        pairs
            .iter()
            .map(|(name, bytes)| records::read(name, bytes))
            .collect()
    }

    /// The text of an invoice.
    ///
    /// # Errors
    /// [`StoreError`].
    pub fn invoice_text(&self, hash: &PaymentHash) -> Result<Option<String>, StoreError> {
        let found = self.store.rim_get(Table::Texts, &hash.0)?;
        Ok(found.map(|bytes| String::from_utf8_lossy(&bytes).into_owned()))
    }

    /// Disk synchronisations so far.
    pub fn synchronisations(&self) -> u64 {
        self.store.synchronisations()
    }
}

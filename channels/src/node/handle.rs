//! What users ask of a running node: changes, answered once they are durable, and views.
//!
//! `Request → runtime → durable → Answer`; `ask(closure) → runtime → what the closure saw`

use super::event::Event;
use super::invoices::{self, InvoiceView, Terms};
use super::log;
use super::paid::{self, Telling};
use super::payments::{self, PayOrder, PaymentRecord};
use super::routes::{self, Planned, Routes, Way};
use super::runtime::State;
use crate::invoice::{Invoice, InvoiceError};
use crate::machine::StepError;
use crate::machine::payment::NewPayment;
use crate::onion::OnionError;
use crate::routing::graph::Graph;
use crate::routing::route::RouteError;
use crate::store::{Store, StoreError};
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
        invoice: crate::machine::payment::Invoice,
        /// Its text.
        text: String,
    },
    /// Pay an invoice or a node: find ways, send, try others.
    PayOver(PayOrder),
    /// Make an invoice.
    MakeInvoice(Terms),
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
    /// Tell the payee of an invoice that a transfer on the rollup has paid it.
    TellPaid(Telling),
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
    /// An invoice was made.
    Invoice {
        /// Its hash.
        hash: PaymentHash,
        /// What to give to the payer.
        text: String,
    },
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
    /// The text is no invoice that this node can pay, or make.
    #[error(transparent)]
    Invoice(#[from] InvoiceError),
    /// No way to the payee.
    #[error(transparent)]
    Route(#[from] RouteError),
    /// No onion for the way.
    #[error(transparent)]
    Onion(#[from] OnionError),
    /// The time for attempts is over.
    #[error("payment {0} found no way in time; nothing was paid")]
    Late(PaymentHash),
    /// The invoice was paid on the rollup.
    #[error("invoice {0} was paid on the rollup by this node")]
    PaidOnRollup(PaymentHash),
    /// Too many payees are being told.
    #[error("{0} payees are being told of transfers on the rollup: wait until some have answered")]
    TooManyTellings(usize),
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
    /// Routes of a payment, or why there are none.
    Planned(Box<Planned>),
    /// What a look at the rollup, or for a payee, came to.
    PaidFound(Box<paid::Found>),
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
    pub(super) routes: Routes,
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
        log::read(&self.store, from, limit)
    }

    /// The text of an invoice.
    ///
    /// # Errors
    /// [`StoreError`].
    pub fn invoice_text(&self, hash: &PaymentHash) -> Result<Option<String>, StoreError> {
        invoices::text_of(&self.store, hash)
    }

    // ---- Payments over several hops ----

    /// Makes an invoice. `terms.hints` are added to by channels that the network does not know.
    ///
    /// # Errors
    /// [`NodeError`].
    pub async fn make_invoice(
        &self,
        mut terms: Terms,
        key: Option<RequestKey>,
    ) -> Result<Answer, NodeError> {
        let fees = self.routes.look(routes::peer_fees).await.ok_or(Stopped)?;
        let token = terms.token;
        let hints = self.ask(move |state| state.hints(token, &fees)).await?;
        let hidden = self.routes.look(move |router| {
            let hidden = hints.into_iter();
            hidden
                .filter(|hint| router.graph().channel(&hint.channel).is_none())
                .collect::<Vec<_>>()
        });
        terms.hints.extend(hidden.await.ok_or(Stopped)?);
        self.request(Request::MakeInvoice(terms), key).await
    }

    /// An invoice of this node.
    ///
    /// # Errors
    /// [`NodeError`].
    pub async fn invoice(&self, hash: PaymentHash) -> Result<Option<InvoiceView>, NodeError> {
        Ok(self.invoice_views(vec![(0, hash)]).await?.pop())
    }

    /// At most `limit` invoices with numbers below `below`, newest first.
    ///
    /// # Errors
    /// [`NodeError`].
    pub async fn invoices(&self, below: u64, limit: usize) -> Result<Vec<InvoiceView>, NodeError> {
        let page = invoices::page(&self.store, below, limit)?;
        self.invoice_views(page).await
    }

    async fn invoice_views(
        &self,
        wanted: Vec<(u64, PaymentHash)>,
    ) -> Result<Vec<InvoiceView>, NodeError> {
        let look = move |state: &State| {
            let found = wanted.into_iter().filter_map(|(number, hash)| {
                let kept = state.node.invoices().get(&hash)?.clone();
                Some((number, hash, kept, state.paid.claim(&hash).cloned()))
            });
            let identity = state.node.identity();
            (identity.key, state.domain, found.collect::<Vec<_>>())
        };
        let mut views = Vec::new();
        let (payee, domain, found) = self.ask(look).await?;
        for (number, hash, kept, claim) in found {
            let text = self.invoice_text(&hash)?;
            let invoice = match &text {
                Some(text) => Invoice::parse(text).ok(),
                None => {
                    let keysend = invoices::keysend(&self.store, &hash)?;
                    keysend.map(|(_, time)| invoices::of_keysend((payee, domain), &kept, time))
                }
            };
            // One whose money is not here for certain yet has neither.
            if let Some(invoice) = invoice {
                views.push(InvoiceView {
                    number,
                    hash,
                    text,
                    invoice,
                    kept,
                    rollup: paid::stored(&self.store, &hash)?,
                    claim,
                });
            }
        }
        Ok(views)
    }

    /// A payment that this node makes.
    ///
    /// # Errors
    /// [`StoreError`].
    pub fn payment(&self, hash: &PaymentHash) -> Result<Option<PaymentRecord>, StoreError> {
        payments::stored(&self.store, hash)
    }

    /// At most `limit` payments with numbers below `below`, newest first.
    ///
    /// # Errors
    /// [`StoreError`].
    pub fn payments(&self, below: u64, limit: usize) -> Result<Vec<PaymentRecord>, StoreError> {
        payments::page(&self.store, below, limit)
    }

    /// The ways that a payment would go now; pays nothing.
    ///
    /// # Errors
    /// [`NodeError`].
    pub async fn find(&self, order: PayOrder) -> Result<Vec<Way>, NodeError> {
        let look = move |state: &State| {
            let own = state.node.identity().key;
            let asked = order.check(&state.domain, &own, super::unix_time())?;
            let own = state.own_channels(asked.token);
            Ok::<_, NodeError>((asked, own))
        };
        let (asked, own) = self.ask(look).await??;
        let wanted = routes::Wanted {
            payee: asked.payee,
            token: asked.token,
            amount: asked.amount,
            max_fee: asked.max_fee,
            max_parts: asked.max_parts,
            hints: asked.invoice.map_or_else(Vec::new, |invoice| invoice.hints),
            own,
            taken: Vec::new(),
        };
        let found = self
            .routes
            .look(move |router| routes::ways(router, &wanted));
        Ok(found.await.ok_or(Stopped)??)
    }

    /// Looks at the network as gossip shows it.
    ///
    /// # Errors
    /// [`Stopped`].
    pub async fn network<T: Send + 'static>(
        &self,
        look: impl FnOnce(&Graph) -> T + Send + 'static,
    ) -> Result<T, Stopped> {
        let found = self.routes.look(move |router| look(router.graph()));
        found.await.ok_or(Stopped)
    }

    /// Disk synchronisations so far.
    pub fn synchronisations(&self) -> u64 {
        self.store.synchronisations()
    }
}

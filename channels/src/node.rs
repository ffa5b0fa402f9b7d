//! The runtime: sockets, L1 and the disk around the pure machine.
//!
//! ```text
//! peers ─┐                                           ┌ Persist → store (group commit) ─┐ durable, in order
//! users ─┼→ runtime task: apply several, flush once ─┤ Send, Broadcast, Notify, answers ←┘ → peers, L1, events, users
//! L1 ────┤                                           └ Watch → chain watcher
//! clock ─┘
//! ```
//! | module | question |
//! |---|---|
//! | [`runtime`] | in which order does what happen? |
//! | [`handle`] | what can users ask? |
//! | [`opening`] | how do two nodes agree on a channel and pay into it, across crashes? |
//! | [`chain`] | what does L1 say? |
//! | [`broadcast`] | how do transactions land? |
//! | [`routes`], `lookups` | who else is there, and which ways lead to them? |
//! | [`payments`], [`invoices`] | what do we pay over several hops, what do we ask for? |
//! | [`paid`] | who is told that an invoice was paid on the rollup, and what is believed of it? |
//! | [`tower`] | who watches while we are away? |
//! | [`backup`] | what if the disk dies? |
//! | [`restore`] | what is left when the data folder is lost? |
//! | [`talk`] | what do nodes say beside the channels' messages? |
//! | [`view`] | what does a channel look like, and what does it wait for? |
//! | [`event`], `log`, [`records`] | what is kept beside the machine's records? |

pub mod backup;
pub mod broadcast;
pub mod chain;
pub mod convert;
pub mod event;
pub mod handle;
pub mod invoices;
pub mod link;
mod log;
mod lookups;
pub mod opening;
pub mod paid;
pub mod payments;
pub mod records;
pub mod restore;
pub mod routes;
pub mod runtime;
pub mod talk;
pub mod thread;
pub mod tower;
pub mod view;

pub use event::{Event, EventBody};
pub use handle::{Answer, Handle, NodeError, Request, RequestKey, Stopped};
pub use invoices::{InvoiceView, Terms};
pub use link::{Link, PeerEvent};
pub use paid::{RollupPayment, RollupView, Telling};
pub use payments::{PayOrder, Payee, PaymentRecord, Stand};
pub use routes::{NetworkConfig, Way};
pub use runtime::{NodeConfig, Running, RuntimeError, TowerAddress, start};
pub use thread::NodeThread;
pub use view::{ChannelView, Waiting};

use crate::types::Timestamp;
use std::time::{SystemTime, UNIX_EPOCH};

/// The machine's clock, in Unix seconds.
pub fn unix_time() -> Timestamp {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map(|time| time.as_secs())
        .unwrap_or_default()
}

/// Returns when somebody asks for a stop, or nobody can any more.
async fn asked_to_stop(stopping: &mut tokio::sync::watch::Receiver<bool>) {
    // The guard of the value must not live across an await.
    drop(stopping.wait_for(|stop| *stop).await);
}

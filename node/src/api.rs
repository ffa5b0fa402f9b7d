//! The HTTP API: what the node offers to wallets, explorers, provers and monitors.
//!
//! ```text
//! request → guard (id, place, time limit, measurement) → handler → ledger → rollup
//!                                                          └ problem document with a stable code
//! ```
//!
//! | path | module |
//! |---|---|
//! | `/v1/transactions`, `/v1/accounts`, `/v1/owners` | [`transactions`], [`accounts`] |
//! | `/v1/batches`, `/v1/requests` | [`batches`] |
//! | `/v1/channels`, `/v1/channel-…` | [`channels`] |
//! | `/v1/channel-invoices`, `-payments`, `-route`, `-decode` | [`channel_payments`] |
//! | `/v1/events` | [`events`]: a WebSocket, resumable by sequence number |
//! | `/v1/info`, `/v1/tokens` | [`info`] |
//! | `/v1/prover/…` | [`prover`]: the proof queue, for provers in other processes |
//! | `/livez`, `/readyz`, `/status`, `/metrics` | [`health`] |
//! | `/openapi.json`, `/docs`, `/problems` | [`document`] |

use axum::Router;
use axum::extract::DefaultBodyLimit;
use axum::http::{HeaderName, Method, header};
use axum::middleware::{from_fn, from_fn_with_state};
use metrics_exporter_prometheus::PrometheusHandle;
use millrace_prover::queue::JobQueue;
use std::sync::Arc;
use std::time::Instant;
use tokio::sync::{Semaphore, watch};
use tokio_util::sync::CancellationToken;
use tower_http::cors::{Any, CorsLayer};
use types::{ApiLimits, Info};

pub mod accounts;
pub mod batches;
pub mod channel_payments;
pub mod channels;
pub mod document;
pub mod events;
pub mod extract;
pub mod health;
pub mod idempotency;
pub mod info;
pub mod ledger;
pub mod limits;
pub mod operator;
pub mod page;
pub mod problem;
pub mod prover;
pub mod transactions;
pub mod types;

pub use health::Health;
pub use ledger::{Ledger, Token};
use problem::{Code, Problem};

/// What the API serves from.
pub struct ApiParts {
    /// The rollup.
    pub ledger: Ledger,
    /// The proof queue, where this node has one.
    pub queue: Option<Arc<dyn JobQueue>>,
    /// What does not change while the node runs.
    pub info: Info,
    /// How the node is doing.
    pub health: watch::Receiver<Health>,
    /// The recorder of metrics.
    pub metrics: PrometheusHandle,
    /// What the operator's requests and remote provers must present.
    pub access: operator::Access,
    /// Ends event streams.
    pub stopping: CancellationToken,
    /// The payment channels, where this node has any.
    pub channels: Option<crate::wiring::channels::ChannelsHandle>,
}

struct Shared {
    parts: ApiParts,
    places: Semaphore,
    streams: Arc<Semaphore>,
    started: Instant,
}

/// The state of all handlers. Clones share it.
#[derive(Clone)]
pub struct Api(Arc<Shared>);

impl Api {
    /// Takes what it serves from; the limits are those in `info`.
    pub fn new(parts: ApiParts) -> Self {
        let limits = &parts.info.limits;
        let (places, streams) = (
            Semaphore::new(limits.concurrent_requests),
            Arc::new(Semaphore::new(limits.event_streams)),
        );
        Self(Arc::new(Shared {
            parts,
            places,
            streams,
            started: Instant::now(),
        }))
    }

    /// Waits until no event stream is open: each says its last word before its place is free.
    pub async fn streams_ended(&self) {
        let places = self.limits().event_streams;
        let all = u32::try_from(places).unwrap_or(u32::MAX);
        // An error would mean that nobody can have a place.
        let _ = self.0.streams.acquire_many(all).await;
    }

    fn ledger(&self) -> &Ledger {
        &self.0.parts.ledger
    }

    fn limits(&self) -> &ApiLimits {
        &self.0.parts.info.limits
    }

    fn places(&self) -> &Semaphore {
        &self.0.places
    }
}

/// All routes, with their limits.
pub fn router(api: Api) -> Router {
    let (routes, description) = document::routes().split_for_parts();
    let limits = (
        DefaultBodyLimit::max(api.limits().body_bytes),
        from_fn_with_state(api.clone(), limits::guard),
    );
    routes
        .merge(document::serve(description))
        .fallback(route_unknown)
        .layer(from_fn(document::name_method_errors))
        .layer(limits.0)
        .layer(limits.1)
        .layer(cors())
        .with_state(api)
}

async fn route_unknown() -> Problem {
    Problem::new(Code::RouteUnknown, "no route has this path")
}

/// Any web page may read and submit: nothing here rests on cookies, and money moves by signature only. What does rest on
/// where a request comes from refuses web pages itself: see [`operator`].
fn cors() -> CorsLayer {
    let exposed = [header::LOCATION, header::RETRY_AFTER, limits::REQUEST_ID];
    let allowed: [HeaderName; 3] = [
        header::CONTENT_TYPE,
        idempotency::HEADER,
        limits::REQUEST_ID,
    ];
    CorsLayer::new()
        .allow_origin(Any)
        .allow_methods([Method::GET, Method::POST])
        .allow_headers(allowed)
        .expose_headers(exposed)
}

#[cfg(test)]
pub(crate) mod tests;

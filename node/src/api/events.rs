//! Every stage of a transaction and of a batch, as a WebSocket that resumes by sequence number. The channels' events take the same
//! way: [`super::channels::stream`].
//!
//! ```text
//! GET /v1/events?from=7 → upgrade → read at most PAGE events from the store → send each → wait for newer ones ┐
//!                                        ↑─────────────────────────────────────────────────────────────────┘
//! ```
//!
//! Events are read from the durable log at the client's own pace: a slow client holds one page in memory, and loses nothing.
//! One that takes longer than [`SEND_LIMIT`] for a message is disconnected; it resumes from the last sequence number it saw.

use super::Api;
use super::extract::Parameters;
use super::problem::{Code, Problem};
use super::types::EventView;
use axum::extract::State;
use axum::extract::ws::rejection::WebSocketUpgradeRejection;
use axum::extract::ws::{CloseFrame, Message, Utf8Bytes, WebSocket, WebSocketUpgrade, close_code};
use axum::response::Response;
use millrace_circuits::transaction::TransactionId;
use millrace_circuits::types::BatchNumber;
use serde::{Deserialize, Serialize};
use std::future::Future;
use std::time::Duration;
use tokio::sync::watch;
use utoipa::IntoParams;

/// Events read from the log at a time.
const PAGE: usize = 256;
/// Longest time for a client to take one message.
pub const SEND_LIMIT: Duration = Duration::from_secs(30);
/// How long a listener has to answer that its stream ends.
const ANSWER_LIMIT: Duration = Duration::from_secs(1);
/// How often a silent stream is shown to be alive.
pub const PING_INTERVAL: Duration = Duration::from_secs(20);
/// Bytes of a message from a client, who has nothing to say.
const MAX_CLIENT_MESSAGE: usize = 1024;
/// When to come back if all streams are taken.
const RETRY_AFTER_SECS: u32 = 5;

/// Which events are wanted.
#[derive(Debug, Clone, Default, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct EventQuery {
    /// The first sequence number; left out: only what happens from now on.
    pub from: Option<u64>,
    /// Only the stages of this transaction, and of its batch.
    #[param(value_type = Option<String>)]
    pub transaction: Option<TransactionId>,
}

/// Follow events as a WebSocket of JSON messages.
///
/// Each message is one event. Sequence numbers have no gaps: after a broken connection, ask from the last one plus 1.
#[utoipa::path(
    get, path = "/v1/events", tag = "events",
    params(EventQuery),
    responses(
        (status = 101, description = "A stream of events", body = EventView),
        (status = "4XX", description = "Not a WebSocket request, or not a sequence number", body = Problem, content_type = "application/problem+json"),
        (status = "5XX", description = "Too many streams", body = Problem, content_type = "application/problem+json"),
    )
)]
pub async fn events(
    State(api): State<Api>,
    Parameters(query): Parameters<EventQuery>,
    upgrade: Result<WebSocketUpgrade, WebSocketUpgradeRejection>,
) -> Result<Response, Problem> {
    let filter = query.transaction.map(|transaction| Filter {
        transaction,
        batch: None,
    });
    let log = Stages {
        api: api.clone(),
        filter,
    };
    follow(api, upgrade, query.from, log)
}

/// Numbered events that a stream reads.
pub(super) trait Log: Send + 'static {
    /// What is sent, as JSON.
    type Event: Serialize + Send;

    /// The newest number; changes with each event.
    fn newest(&self) -> watch::Receiver<u64>;

    /// At most so many events from a number on, oldest first.
    fn page(
        &self,
        from: u64,
        limit: usize,
    ) -> impl Future<Output = Result<Vec<Self::Event>, Problem>> + Send;

    /// The number of an event.
    fn number(event: &Self::Event) -> u64;

    /// Whether this one is sent; asked for each event in order.
    fn wants(&mut self, event: &Self::Event) -> bool;
}

/// Turns a request into a stream of a log's events.
///
/// # Errors
/// If it is no WebSocket request, or all places are taken.
pub(super) fn follow<L: Log>(
    api: Api,
    upgrade: Result<WebSocketUpgrade, WebSocketUpgradeRejection>,
    from: Option<u64>,
    log: L,
) -> Result<Response, Problem> {
    let upgrade = upgrade.map_err(|error| {
        Problem::new(
            Code::InvalidParameter,
            format!("this path speaks WebSocket: {error}"),
        )
    })?;
    // Taken before the answer: who is welcomed has a place.
    let Ok(place) = api.0.streams.clone().try_acquire_owned() else {
        let detail = format!("{} streams are open", api.limits().event_streams);
        return Err(Problem::new(Code::TooManyStreams, detail).after(RETRY_AFTER_SECS));
    };
    let upgrade = upgrade
        .max_message_size(MAX_CLIENT_MESSAGE)
        .max_frame_size(MAX_CLIENT_MESSAGE);
    Ok(upgrade.on_upgrade(async move |socket| {
        serve(api, from, log, socket).await;
        drop(place);
    }))
}

async fn serve<L: Log>(api: Api, from: Option<u64>, log: L, mut socket: WebSocket) {
    metrics::gauge!("millrace_event_streams").increment(1.0);
    let newest = log.newest();
    let next = from
        .unwrap_or_else(|| newest.borrow().saturating_add(1))
        .max(1);
    let mut stream = Stream { log, newest, next };
    tokio::select! {
        () = api.0.parts.stopping.cancelled() => {
            close(&mut socket, close_code::AWAY, "the node stops; resume from the last sequence number").await;
        }
        end = stream.run(&mut socket) => {
            if let Err(End::Failed(problem)) = end {
                close(&mut socket, close_code::ERROR, &problem.detail).await;
            }
        }
    }
    metrics::gauge!("millrace_event_streams").decrement(1.0);
}

async fn close(socket: &mut WebSocket, code: u16, reason: &str) {
    // A close frame's reason has 123 bytes at most.
    let reason: String = reason.chars().filter(char::is_ascii).take(123).collect();
    let frame = CloseFrame {
        code,
        reason: Utf8Bytes::from(reason),
    };
    let _ = tokio::time::timeout(SEND_LIMIT, socket.send(Message::Close(Some(frame)))).await;
    // A connection that is dropped while the listener's answer comes in is reset, and the reason may be lost with it.
    let answered = async { while let Some(Ok(_)) = socket.recv().await {} };
    let _ = tokio::time::timeout(ANSWER_LIMIT, answered).await;
}

/// Why a stream ends.
enum End {
    /// The client left, or is too slow.
    Gone,
    /// The log cannot be read.
    Failed(Problem),
}

struct Stream<L> {
    log: L,
    newest: watch::Receiver<u64>,
    next: u64,
}

impl<L: Log> Stream<L> {
    async fn run(&mut self, socket: &mut WebSocket) -> Result<(), End> {
        loop {
            self.newest.borrow_and_update();
            let events = self.log.page(self.next, PAGE).await;
            let events = events.map_err(End::Failed)?;
            let more = events.len() == PAGE;
            for event in events {
                self.next = L::number(&event) + 1;
                if self.log.wants(&event) {
                    send(socket, text(&event)?).await?;
                }
            }
            if !more {
                self.wait(socket).await?;
            }
        }
    }

    /// Waits for newer events, while the client is seen to be there.
    async fn wait(&mut self, socket: &mut WebSocket) -> Result<(), End> {
        loop {
            tokio::select! {
                changed = self.newest.changed() => return changed.map_err(|_| End::Gone),
                message = socket.recv() => match message {
                    // The client has nothing to say; pings are answered below this layer.
                    Some(Ok(Message::Close(_)) | Err(_)) | None => return Err(End::Gone),
                    Some(Ok(_)) => {}
                },
                () = tokio::time::sleep(PING_INTERVAL) => send(socket, Message::Ping(Vec::new().into())).await?,
            }
        }
    }
}

fn text(event: &impl Serialize) -> Result<Message, End> {
    let json = serde_json::to_string(event)
        .map_err(|error| End::Failed(Problem::internal("an event does not serialise", &error)))?;
    Ok(Message::Text(json.into()))
}

async fn send(socket: &mut WebSocket, message: Message) -> Result<(), End> {
    match tokio::time::timeout(SEND_LIMIT, socket.send(message)).await {
        Ok(Ok(())) => Ok(()),
        Ok(Err(_)) | Err(_) => Err(End::Gone),
    }
}

/// The rollup's events.
struct Stages {
    api: Api,
    filter: Option<Filter>,
}

impl Log for Stages {
    type Event = EventView;

    fn newest(&self) -> watch::Receiver<u64> {
        self.api.ledger().event_watch()
    }

    async fn page(&self, from: u64, limit: usize) -> Result<Vec<EventView>, Problem> {
        self.api.ledger().events(from, limit).await
    }

    fn number(event: &EventView) -> u64 {
        event.sequence
    }

    fn wants(&mut self, event: &EventView) -> bool {
        let filter = self.filter.as_mut();
        filter.is_none_or(|filter| filter.wants(event))
    }
}

/// Lets through what concerns one transaction.
struct Filter {
    transaction: TransactionId,
    /// Its batch, once seen.
    batch: Option<BatchNumber>,
}

impl Filter {
    fn wants(&mut self, event: &EventView) -> bool {
        use super::types::EventBody as E;
        let ours = Some(self.transaction);
        match &event.event {
            E::TransactionAccepted { id, batch } if Some(*id) == ours => {
                self.batch = Some(*batch);
                true
            }
            E::TransactionWaiting { id } | E::TransactionDropped { id, .. } => Some(*id) == ours,
            E::BatchSealed {
                batch,
                transactions,
            } => {
                let here = transactions.contains(&self.transaction);
                if here {
                    self.batch = Some(*batch);
                }
                here
            }
            E::BatchCommitted { batch, .. }
            | E::BatchProven { batch, .. }
            | E::BatchFinalised { batch } => Some(*batch) == self.batch,
            E::RolledBack { to, .. } => self.batch.is_some_and(|batch| batch > *to),
            E::TransactionAccepted { .. } | E::DepositTaken { .. } | E::ForcedExitTaken { .. } => {
                false
            }
        }
    }
}

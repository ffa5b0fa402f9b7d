//! Payment channels: what this node's operator sees and does with them.
//!
//! ```text
//! GET  /v1/channels, /v1/channels/{id}, /v1/channel-node, /v1/channel-events
//! GET  /v1/channel-events/stream          the events as a WebSocket that resumes by sequence number
//! POST /v1/channels                       open             202: follow it at /v1/channel-events
//! POST /v1/channels/{id}/{pay, deposit, withdraw, close}   an Idempotency-Key makes each happen once
//! POST /v1/channel-peers                  connect to a peer, now and after every restart
//! ```
//! The node's hot key signs, so all of it is for the operator. Whatever does not just work says in `waiting` for what, until
//! when, and which command ends it.

use super::Api;
use super::events::{Log, follow};
use super::extract::{Body, Named, Parameters};
use super::idempotency::MaybeKey;
use super::operator::Operator;
use super::page::{Page, PageQuery};
use super::problem::{Code, Problem};
use crate::wiring::channels::{ChannelsHandle, public_key};
use axum::Json;
use axum::extract::State;
use axum::extract::ws::WebSocketUpgrade;
use axum::extract::ws::rejection::WebSocketUpgradeRejection;
use axum::http::StatusCode;
use axum::response::Response;
use millrace_channels::machine::StepError;
use millrace_channels::node::records::{DepositState, Opening};
use millrace_channels::node::view::Waiting;
use millrace_channels::node::{
    Answer, ChannelView, Event, EventBody, Handle, NodeError, Request, RequestKey,
};
use millrace_channels::types::{Address, Amount, ChannelId, Hash32};
use millrace_circuits::types::L1Address;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use std::net::SocketAddr;
use tokio::sync::watch;
use utoipa::{IntoParams, ToSchema};

/// A channel.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ChannelBody {
    /// Its id: 0x and 64 hexadecimal digits.
    pub id: String,
    /// The counterparty's key: 0x and 66 hexadecimal digits.
    pub peer: String,
    /// Whether the counterparty is connected.
    pub connected: bool,
    /// The token's L1 address; none for Ether.
    pub token: Option<String>,
    /// Our side: a or b.
    pub side: String,
    /// opening, open, offline, paused, closing or closed.
    pub phase: String,
    /// What we can pay now, in the token's smallest unit.
    pub can_send: String,
    /// What the counterparty can pay now.
    pub can_receive: String,
    /// What payments of ours under way hold.
    pub locked_out: String,
    /// What payments to or through us under way hold.
    pub locked_in: String,
    /// All that we ever paid.
    pub sent: String,
    /// All that we ever received.
    pub received: String,
    /// What L1 finally holds for both.
    pub pot: String,
    /// Dispute window, in seconds.
    pub window_secs: u32,
    /// Version of our half.
    pub version: u64,
    /// Version of our half that the counterparty has signed an echo of.
    pub echoed_version: u64,
    /// Version of the counterparty's half.
    pub peer_version: u64,
    /// Deadline of the dispute on L1, in Unix seconds.
    pub deadline: Option<u64>,
    /// Towers that have confirmed the newest record.
    pub guarded_by: usize,
    /// Preimages that were released and that the counterparty has not paid for in its half yet.
    pub released: usize,
    /// Towers that have signed that they hold all of these.
    pub released_guarded_by: usize,
    /// What it waits for; empty if it just works.
    pub waiting: Vec<WaitingBody>,
}

/// What something waits for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct WaitingBody {
    /// For what.
    pub what: String,
    /// Until when at the latest, in Unix seconds.
    pub until: Option<u64>,
    /// What ends it.
    pub command: String,
}

impl From<Waiting> for WaitingBody {
    fn from(waiting: Waiting) -> Self {
        let Waiting {
            what,
            until,
            command,
        } = waiting;
        Self {
            what,
            until,
            command,
        }
    }
}

pub(super) fn token_text(token: &Address) -> Option<String> {
    (*token != Address::ZERO).then(|| token.to_string())
}

impl From<ChannelView> for ChannelBody {
    fn from(view: ChannelView) -> Self {
        let (version, echoed_version, peer_version) = view.versions;
        Self {
            id: view.id.to_string(),
            peer: view.peer.to_string(),
            connected: view.connected,
            token: token_text(&view.token),
            side: format!("{:?}", view.side).to_lowercase(),
            phase: view.phase.name().to_owned(),
            can_send: view.can_send.to_string(),
            can_receive: view.can_receive.to_string(),
            locked_out: view.locked_out.to_string(),
            locked_in: view.locked_in.to_string(),
            sent: view.sent.to_string(),
            received: view.received.to_string(),
            pot: view.pot.to_string(),
            window_secs: view.window_secs,
            version,
            echoed_version,
            peer_version,
            deadline: view.deadline,
            guarded_by: view.guarded_by,
            released: view.released,
            released_guarded_by: view.released_guarded_by,
            waiting: view.waiting.into_iter().map(Into::into).collect(),
        }
    }
}

/// The channels' part of this node.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ChannelNodeBody {
    /// Its key: 0x and 66 hexadecimal digits. Peers connect to KEY@ADDRESS.
    pub key: String,
    /// Where it listens.
    pub listen: Option<String>,
    /// The L1 account that sends its transactions and deposits: keep ETH there.
    pub account: String,
    /// Where money goes on L1.
    pub payout: String,
    /// The contract.
    pub contract: String,
    /// The newest L1 block seen.
    pub l1_head: Option<u64>,
    /// Its time, in Unix seconds.
    pub l1_time: Option<u64>,
    /// Why L1 cannot be read now.
    pub l1_problem: Option<String>,
    /// Peers with an address, and those that are connected.
    pub peers: Vec<PeerBody>,
    /// Channels that are being agreed on.
    pub openings: Vec<OpeningBody>,
    /// Deposits of the last day.
    pub deposits: Vec<DepositBody>,
    /// Number of the newest event.
    pub newest_event: u64,
}

/// A peer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct PeerBody {
    /// Its key.
    pub key: String,
    /// Where we connect to it.
    pub address: Option<String>,
    /// Whether it is connected.
    pub connected: bool,
}

/// A channel that is being agreed on.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct OpeningBody {
    /// With whom.
    pub peer: String,
    /// Whether we asked for it.
    pub ours: bool,
    /// What it waits for.
    pub waiting: WaitingBody,
}

/// A deposit.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct DepositBody {
    /// Its name.
    pub operation: String,
    /// Into which channel.
    pub channel: String,
    /// How much.
    pub amount: String,
    /// sending, landed or refused.
    pub state: String,
    /// The transaction, or what is in the way.
    pub detail: Option<String>,
}

/// What to open.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct OpenBody {
    /// The counterparty's key.
    pub peer: String,
    /// The token's L1 address; left out: Ether.
    #[schema(value_type = Option<String>)]
    pub token: Option<L1Address>,
    /// What we deposit, in the token's smallest unit.
    pub amount: String,
    /// Dispute window, in seconds; a day if left out.
    pub window_secs: Option<u32>,
}

/// What to pay the counterparty.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct PayBody {
    /// How much, in the token's smallest unit.
    pub amount: String,
    /// What the payee knows it by: 0x and 64 hexadecimal digits; left out: zero.
    pub reference: Option<String>,
}

/// How much to move.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct AmountBody {
    /// How much, in the token's smallest unit.
    pub amount: String,
}

/// How to close.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct CloseBody {
    /// Without the counterparty: takes the dispute window, works always.
    #[serde(default)]
    pub force: bool,
}

/// Where a peer is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ConnectBody {
    /// Its key.
    pub key: String,
    /// An IP address and port.
    pub address: String,
}

/// What a request led to.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct AnswerBody {
    /// opening, depositing, paid, paying, invoice or done.
    pub result: String,
    /// The operation, payment hash or reference to look for.
    pub id: Option<String>,
}

impl From<Answer> for AnswerBody {
    fn from(answer: Answer) -> Self {
        let (result, id) = match answer {
            Answer::Opening { salt } => ("opening", Some(format!("{salt:016x}"))),
            Answer::Depositing { operation } => ("depositing", Some(operation)),
            Answer::Paid { reference, .. } => ("paid", Some(reference.to_string())),
            Answer::Paying { hash } => ("paying", Some(hash.to_string())),
            Answer::Done => ("done", None),
            Answer::Invoice { hash, .. } => ("invoice", Some(hash.to_string())),
        };
        Self {
            result: result.to_owned(),
            id,
        }
    }
}

/// An event of the channels.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ChannelEventBody {
    /// Its number, from 1, without gaps.
    pub sequence: u64,
    /// When, in Unix seconds.
    pub time: u64,
    /// What: agreed, open_refused, deposited, deposit_refused, usable, received, invoice_paid, invoice_held, payment_succeeded,
    /// payment_retried, payment_part_failed, payment_part_replaced, payment_failed, invoice_expired, invoice_paid_on_rollup, keysend_received, payee_told, payee_not_told, trouble, recovered, closing, closed, landed.
    pub kind: String,
    /// The channel, where there is one.
    pub channel: Option<String>,
    /// How much, where there is an amount.
    pub amount: Option<String>,
    /// The payment's hash or reference, the transaction, or the peer.
    pub subject: Option<String>,
    /// In words, where there is something to explain.
    pub text: Option<String>,
}

impl From<Event> for ChannelEventBody {
    fn from(event: Event) -> Self {
        use EventBody as E;
        let mut body = Self {
            sequence: event.sequence,
            time: event.time,
            kind: String::new(),
            channel: None,
            amount: None,
            subject: None,
            text: None,
        };
        let (kind, channel) = match event.body {
            E::Agreed { channel, peer } => {
                body.subject = Some(peer.to_string());
                ("agreed", Some(channel))
            }
            E::OpenRefused { peer, reason } => {
                body.subject = Some(peer.to_string());
                body.text = Some(reason);
                ("open_refused", None)
            }
            E::Deposited {
                channel,
                amount,
                transaction,
            } => {
                body.amount = Some(amount.to_string());
                body.subject = Some(transaction.to_string());
                ("deposited", Some(channel))
            }
            E::DepositRefused { channel, reason } => {
                body.text = Some(reason);
                ("deposit_refused", Some(channel))
            }
            E::Usable { channel } => ("usable", Some(channel)),
            E::Received {
                channel,
                amount,
                reference,
            } => {
                body.amount = Some(amount.to_string());
                body.subject = Some(reference.to_string());
                ("received", Some(channel))
            }
            E::InvoicePaid { hash, received } => {
                body.amount = Some(received.to_string());
                body.subject = Some(hash.to_string());
                ("invoice_paid", None)
            }
            E::InvoiceHeld { hash } => {
                body.subject = Some(hash.to_string());
                ("invoice_held", None)
            }
            E::PaymentSucceeded { hash, .. } => {
                body.subject = Some(hash.to_string());
                ("payment_succeeded", None)
            }
            E::PaymentFailed { hash, .. } => {
                body.subject = Some(hash.to_string());
                ("payment_failed", None)
            }
            E::PaymentRetried {
                hash,
                attempt,
                reason,
            } => {
                body.subject = Some(hash.to_string());
                body.text = Some(format!("attempt {attempt}; before: {reason}"));
                ("payment_retried", None)
            }
            E::PaymentGivenUp { hash, reason } => {
                body.subject = Some(hash.to_string());
                body.text = Some(reason);
                ("payment_failed", None)
            }
            E::InvoiceExpired { hash } => {
                body.subject = Some(hash.to_string());
                ("invoice_expired", None)
            }
            E::PartFailed { hash, .. } => {
                body.subject = Some(hash.to_string());
                ("payment_part_failed", None)
            }
            E::PartReplaced {
                hash,
                parts,
                reason,
            } => {
                body.subject = Some(hash.to_string());
                body.text = Some(format!("by {parts}; before: {reason}"));
                ("payment_part_replaced", None)
            }
            E::InvoicePaidOnRollup {
                hash,
                batch,
                row,
                amount,
                twice,
            } => {
                body.amount = Some(amount.to_string());
                body.subject = Some(hash.to_string());
                let once = match twice {
                    true => "; it was paid over channels too, and that money stays",
                    false => "",
                };
                body.text = Some(format!("by row {row} of batch {batch}{once}"));
                ("invoice_paid_on_rollup", None)
            }
            E::KeysendReceived { hash, received } => {
                body.amount = Some(received.to_string());
                body.subject = Some(hash.to_string());
                ("keysend_received", None)
            }
            E::PayeeTold { hash } => {
                body.subject = Some(hash.to_string());
                ("payee_told", None)
            }
            E::PayeeNotTold { hash, reason } => {
                body.subject = Some(hash.to_string());
                body.text = Some(reason);
                ("payee_not_told", None)
            }
            E::Trouble { channel, text } => {
                body.text = Some(text);
                ("trouble", Some(channel))
            }
            E::Recovered { channel } => ("recovered", Some(channel)),
            E::Closing { channel } => ("closing", Some(channel)),
            E::Closed { channel } => ("closed", Some(channel)),
            E::Landed {
                what,
                transaction,
                gas,
            } => {
                body.subject = Some(transaction.to_string());
                body.text = Some(format!("{what}, {gas} gas"));
                ("landed", None)
            }
        };
        body.kind = kind.to_owned();
        body.channel = channel.map(|channel| channel.to_string());
        body
    }
}

/// Events from a number on.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ChannelEvents {
    /// Oldest first.
    pub events: Vec<ChannelEventBody>,
    /// Where to go on.
    pub next: u64,
}

/// Which events are wanted.
#[derive(Debug, Clone, Default, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct ChannelEventQuery {
    /// The first number, from 1.
    pub from: Option<u64>,
    /// Events at most, 1 to 1000; 50 by default.
    pub limit: Option<usize>,
    /// Wait this long for an event if there is none, at most 25 seconds.
    pub wait_secs: Option<u64>,
}

/// The longest wait for an event, seconds.
const MAX_WAIT_SECS: u64 = 25;
/// Dispute window unless told: a day.
const WINDOW_SECS: u32 = 86_400;

impl Api {
    pub(super) fn channels(&self) -> Result<&ChannelsHandle, Problem> {
        self.0.parts.channels.as_ref().ok_or_else(|| {
            Problem::new(
                Code::ChannelsDisabled,
                "channels.enabled is false in the node's configuration",
            )
        })
    }
}

pub(super) fn refused(error: NodeError) -> Problem {
    let code = match &error {
        NodeError::Step(StepError::UnknownChannel(_)) => Code::ChannelUnknown,
        NodeError::KeyReused(_) => Code::IdempotencyKeyReused,
        NodeError::Stopped(_) | NodeError::Store(_) => Code::Internal,
        NodeError::Step(StepError::Offline(_) | StepError::NotOpen(_) | StepError::Slots)
        | NodeError::NotConnected(_) => Code::ChannelNotReady,
        NodeError::Invoice(_)
        | NodeError::PaidOnRollup(_)
        | NodeError::Step(StepError::NoInvoice(_)) => Code::InvoiceRefused,
        NodeError::Route(_) | NodeError::Onion(_) | NodeError::Late(_) => Code::NoRoute,
        _ => Code::ChannelRefused,
    };
    Problem::new(code, error)
}

pub(super) fn stopped(error: impl std::error::Error + 'static) -> Problem {
    Problem::internal("the channels' runtime does not answer", &error)
}

fn channel_id(text: &str) -> Result<ChannelId, Problem> {
    hash(text).map(ChannelId).ok_or_else(|| {
        Problem::new(
            Code::InvalidParameter,
            format!("{text:?} is no channel id: 0x and 64 hexadecimal digits"),
        )
    })
}

pub(super) fn hash(text: &str) -> Option<[u8; 32]> {
    let mut bytes = [0; 32];
    hex::decode_to_slice(text.strip_prefix("0x").unwrap_or(text), &mut bytes).ok()?;
    Some(bytes)
}

pub(super) fn field(name: &'static str, what: impl std::fmt::Display) -> Problem {
    Problem::new(Code::InvalidField, format!("{name}: {what}")).at(name.to_owned())
}

pub(super) fn amount(text: &str) -> Result<Amount, Problem> {
    let units = crate::config::units::digits(text)
        .ok_or_else(|| field("amount", "expected a decimal number as text"))?;
    Amount::new(units).map_err(|error| field("amount", error))
}

/// The user's key, with what shows another request under it.
pub(super) fn request_key(key: MaybeKey, body: &[u8], request: &Request) -> Option<RequestKey> {
    key.0.map(|key| RequestKey {
        key: key.as_str().to_owned(),
        request: Sha256::digest([body, format!("{request:?}").as_bytes()].concat()).into(),
    })
}

/// Makes a request once for its key.
pub(super) async fn perform(
    api: &Api,
    key: MaybeKey,
    body: &[u8],
    request: Request,
) -> Result<Json<AnswerBody>, Problem> {
    let key = request_key(key, body, &request);
    let answer = api.channels()?.handle.request(request, key).await;
    answer.map(|answer| Json(answer.into())).map_err(refused)
}

/// This node's key, addresses, peers, openings and deposits. For the operator.
#[utoipa::path(
    get, path = "/v1/channel-node", tag = "channels",
    security(("operator" = [])),
    responses(
        (status = 200, description = "The channels' part of the node", body = ChannelNodeBody),
        (status = "4XX", description = "Not allowed, or no channels here", body = Problem, content_type = "application/problem+json"),
    )
)]
pub async fn node(State(api): State<Api>, _: Operator) -> Result<Json<ChannelNodeBody>, Problem> {
    let channels = api.channels()?;
    let (peers, openings, deposits) = channels.handle.ask(parts).await.map_err(stopped)?;
    let chain = channels.chain.borrow().clone();
    Ok(Json(ChannelNodeBody {
        key: channels.key.to_string(),
        listen: channels.listen.map(|address| address.to_string()),
        account: channels.account.to_string(),
        payout: channels.payout.to_string(),
        contract: channels.contract.to_string(),
        l1_head: chain.head.map(|(number, _)| number),
        l1_time: chain.head.map(|(_, time)| time),
        l1_problem: chain.problem,
        peers,
        openings,
        deposits,
        newest_event: *channels.handle.newest_event().borrow(),
    }))
}

type NodeParts = (Vec<PeerBody>, Vec<OpeningBody>, Vec<DepositBody>);

fn parts(state: &millrace_channels::node::runtime::State) -> NodeParts {
    let known = state.peers.keys().chain(&state.connected);
    let keys: std::collections::BTreeSet<_> = known.collect();
    let peers = keys
        .into_iter()
        .map(|key| PeerBody {
            key: key.to_string(),
            address: state.peers.get(key).map(ToString::to_string),
            connected: state.connected.contains(key),
        })
        .collect();
    let openings = state
        .openings
        .values()
        .map(|opening| {
            let (peer, ours, what) = match opening {
                Opening::Ours { peer, .. } => (peer, true, "the peer's answer"),
                Opening::Theirs { peer, .. } => (peer, false, "the peer's deposit on L1"),
            };
            OpeningBody {
                peer: peer.to_string(),
                ours,
                waiting: WaitingBody {
                    what: what.to_owned(),
                    until: Some(opening.ends()),
                    command: "nothing to do: it is given up then, and costs nothing".to_owned(),
                },
            }
        })
        .collect();
    let deposits = state
        .deposits
        .iter()
        .map(|(operation, deposit)| {
            let (text, detail) = match &deposit.state {
                DepositState::Sending(problem) => ("sending", problem.clone()),
                DepositState::Landed(transaction) => ("landed", Some(transaction.to_string())),
                DepositState::Refused(reason) => ("refused", Some(reason.clone())),
            };
            DepositBody {
                operation: operation.clone(),
                channel: deposit.channel.to_string(),
                amount: deposit.amount.to_string(),
                state: text.to_owned(),
                detail,
            }
        })
        .collect();
    (peers, openings, deposits)
}

/// Channels, in order of their ids. For the operator.
#[utoipa::path(
    get, path = "/v1/channels", tag = "channels",
    params(PageQuery),
    security(("operator" = [])),
    responses(
        (status = 200, description = "A page", body = Page<ChannelBody>),
        (status = "4XX", description = "Not allowed, no channels here, or not a limit or cursor", body = Problem, content_type = "application/problem+json"),
    )
)]
pub async fn list(
    State(api): State<Api>,
    _: Operator,
    Parameters(page): Parameters<PageQuery>,
) -> Result<Json<Page<ChannelBody>>, Problem> {
    let limit = page.limit()?;
    let below = page.below()?.unwrap_or(u64::MAX);
    let views = api.channels()?.handle.ask(|state| state.views());
    let views = views.await.map_err(stopped)?;
    // Places count from the end, as pages go downwards.
    let numbered = (0..views.len() as u64).rev().zip(views);
    let items: Vec<(u64, ChannelBody)> = numbered
        .filter(|(place, _)| *place < below)
        .take(limit + 1)
        .map(|(place, view)| (place, view.into()))
        .collect();
    Ok(Json(
        Page::of(items, limit, |(place, _)| *place).map(|(_, body)| body),
    ))
}

/// One channel. For the operator.
#[utoipa::path(
    get, path = "/v1/channels/{id}", tag = "channels",
    params(("id" = String, Path, description = "The channel's id")),
    security(("operator" = [])),
    responses(
        (status = 200, description = "The channel", body = ChannelBody),
        (status = "4XX", description = "Not allowed, not found, or not an id", body = Problem, content_type = "application/problem+json"),
    )
)]
pub async fn show(
    State(api): State<Api>,
    _: Operator,
    Named(id): Named<String>,
) -> Result<Json<ChannelBody>, Problem> {
    let id = channel_id(&id)?;
    let view = api.channels()?.handle.ask(move |state| state.view(&id));
    let view = view.await.map_err(stopped)?;
    view.map(|view| Json(view.into()))
        .ok_or_else(|| refused(StepError::UnknownChannel(id).into()))
}

/// Open a channel with a connected peer. For the operator.
#[utoipa::path(
    post, path = "/v1/channels", tag = "channels",
    request_body = OpenBody,
    params(("Idempotency-Key" = Option<String>, Header, description = "Repeating with the same key changes nothing")),
    security(("operator" = [])),
    responses(
        (status = 202, description = "The peer is asked; /v1/channel-events tells the rest", body = AnswerBody),
        (status = "4XX", description = "Not allowed, refused, or a field breaks its rule", body = Problem, content_type = "application/problem+json"),
    )
)]
pub async fn open(
    State(api): State<Api>,
    _: Operator,
    key: MaybeKey,
    Body { value, bytes }: Body<OpenBody>,
) -> Result<(StatusCode, Json<AnswerBody>), Problem> {
    let peer = public_key(&value.peer)
        .ok_or_else(|| field("peer", "expected a key of 66 hexadecimal digits"))?;
    let request = Request::Open {
        peer,
        token: value.token.map_or(Address::ZERO, |token| Address(token.0)),
        amount: amount(&value.amount)?,
        window_secs: value.window_secs.unwrap_or(WINDOW_SECS),
    };
    let answer = perform(&api, key, &bytes, request).await?;
    Ok((StatusCode::ACCEPTED, answer))
}

/// Pay the counterparty of a channel. Durable when this answers. For the operator.
#[utoipa::path(
    post, path = "/v1/channels/{id}/pay", tag = "channels",
    request_body = PayBody,
    params(
        ("id" = String, Path, description = "The channel's id"),
        ("Idempotency-Key" = Option<String>, Header, description = "Repeating with the same key pays once"),
    ),
    security(("operator" = [])),
    responses(
        (status = 200, description = "Paid", body = AnswerBody),
        (status = "4XX", description = "Not allowed, refused, or a field breaks its rule", body = Problem, content_type = "application/problem+json"),
    )
)]
pub async fn pay(
    State(api): State<Api>,
    _: Operator,
    Named(id): Named<String>,
    key: MaybeKey,
    Body { value, bytes }: Body<PayBody>,
) -> Result<Json<AnswerBody>, Problem> {
    let reference = match &value.reference {
        None => [0; 32],
        Some(text) => {
            hash(text).ok_or_else(|| field("reference", "expected 0x and 64 hexadecimal digits"))?
        }
    };
    let request = Request::PayDirect {
        channel: channel_id(&id)?,
        amount: amount(&value.amount)?,
        reference: Hash32(reference),
    };
    perform(&api, key, &bytes, request).await
}

/// Pay more into a channel from the node's L1 account. For the operator.
#[utoipa::path(
    post, path = "/v1/channels/{id}/deposit", tag = "channels",
    request_body = AmountBody,
    params(
        ("id" = String, Path, description = "The channel's id"),
        ("Idempotency-Key" = Option<String>, Header, description = "Repeating with the same key deposits once"),
    ),
    security(("operator" = [])),
    responses(
        (status = 202, description = "The deposit is on its way", body = AnswerBody),
        (status = "4XX", description = "Not allowed, refused, or a field breaks its rule", body = Problem, content_type = "application/problem+json"),
    )
)]
pub async fn deposit(
    State(api): State<Api>,
    _: Operator,
    Named(id): Named<String>,
    key: MaybeKey,
    Body { value, bytes }: Body<AmountBody>,
) -> Result<(StatusCode, Json<AnswerBody>), Problem> {
    let request = Request::Deposit {
        channel: channel_id(&id)?,
        amount: amount(&value.amount)?,
    };
    let answer = perform(&api, key, &bytes, request).await?;
    Ok((StatusCode::ACCEPTED, answer))
}

/// Take money out of a channel with the counterparty's signature. For the operator.
#[utoipa::path(
    post, path = "/v1/channels/{id}/withdraw", tag = "channels",
    request_body = AmountBody,
    params(
        ("id" = String, Path, description = "The channel's id"),
        ("Idempotency-Key" = Option<String>, Header, description = "Repeating with the same key withdraws once"),
    ),
    security(("operator" = [])),
    responses(
        (status = 202, description = "The counterparty is asked", body = AnswerBody),
        (status = "4XX", description = "Not allowed, refused, or a field breaks its rule", body = Problem, content_type = "application/problem+json"),
    )
)]
pub async fn withdraw(
    State(api): State<Api>,
    _: Operator,
    Named(id): Named<String>,
    key: MaybeKey,
    Body { value, bytes }: Body<AmountBody>,
) -> Result<(StatusCode, Json<AnswerBody>), Problem> {
    let request = Request::Withdraw {
        channel: channel_id(&id)?,
        amount: amount(&value.amount)?,
    };
    let answer = perform(&api, key, &bytes, request).await?;
    Ok((StatusCode::ACCEPTED, answer))
}

/// Close a channel, with the counterparty or without it. For the operator.
#[utoipa::path(
    post, path = "/v1/channels/{id}/close", tag = "channels",
    request_body = CloseBody,
    params(("id" = String, Path, description = "The channel's id")),
    security(("operator" = [])),
    responses(
        (status = 202, description = "It is being closed", body = AnswerBody),
        (status = "4XX", description = "Not allowed, refused, or a field breaks its rule", body = Problem, content_type = "application/problem+json"),
    )
)]
pub async fn close(
    State(api): State<Api>,
    _: Operator,
    Named(id): Named<String>,
    Body { value, bytes }: Body<CloseBody>,
) -> Result<(StatusCode, Json<AnswerBody>), Problem> {
    let id = channel_id(&id)?;
    let request = match value.force {
        true => Request::ForceClose(id),
        false => Request::Close(id),
    };
    let answer = perform(&api, MaybeKey(None), &bytes, request).await?;
    Ok((StatusCode::ACCEPTED, answer))
}

/// Connect to a peer, now and after every restart. For the operator.
#[utoipa::path(
    post, path = "/v1/channel-peers", tag = "channels",
    request_body = ConnectBody,
    security(("operator" = [])),
    responses(
        (status = 202, description = "It is dialled", body = AnswerBody),
        (status = "4XX", description = "Not allowed, or a field breaks its rule", body = Problem, content_type = "application/problem+json"),
    )
)]
pub async fn connect(
    State(api): State<Api>,
    _: Operator,
    Body { value, bytes }: Body<ConnectBody>,
) -> Result<(StatusCode, Json<AnswerBody>), Problem> {
    let peer = public_key(&value.key)
        .ok_or_else(|| field("key", "expected a key of 66 hexadecimal digits"))?;
    let address: SocketAddr = value
        .address
        .parse()
        .map_err(|_| field("address", "expected an IP address and port"))?;
    let request = Request::Connect { peer, address };
    let answer = perform(&api, MaybeKey(None), &bytes, request).await?;
    Ok((StatusCode::ACCEPTED, answer))
}

/// Events of the channels, oldest first; waits for one if asked to. For the operator.
#[utoipa::path(
    get, path = "/v1/channel-events", tag = "channels",
    params(ChannelEventQuery),
    security(("operator" = [])),
    responses(
        (status = 200, description = "Events", body = ChannelEvents),
        (status = "4XX", description = "Not allowed, or a parameter breaks its rule", body = Problem, content_type = "application/problem+json"),
    )
)]
pub async fn events(
    State(api): State<Api>,
    _: Operator,
    Parameters(query): Parameters<ChannelEventQuery>,
) -> Result<Json<ChannelEvents>, Problem> {
    let handle = &api.channels()?.handle;
    let from = query.from.unwrap_or(1).max(1);
    let page = PageQuery {
        limit: query.limit,
        cursor: None,
    };
    let limit = page.limit()?;
    let mut newest = handle.newest_event();
    if *newest.borrow() < from {
        let wait = query.wait_secs.unwrap_or(0).min(MAX_WAIT_SECS);
        let wait = std::time::Duration::from_secs(wait);
        // No news is an answer too.
        let _ = tokio::time::timeout(wait, newest.wait_for(|newest| *newest >= from)).await;
    }
    let events = handle.events(from, limit).map_err(stopped)?;
    let next = events.last().map_or(from, |event| event.sequence + 1);
    Ok(Json(ChannelEvents {
        events: events.into_iter().map(Into::into).collect(),
        next,
    }))
}

/// Which events a stream brings.
#[derive(Debug, Clone, Default, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct ChannelStreamQuery {
    /// The first sequence number; left out: only what happens from now on.
    pub from: Option<u64>,
    /// Only events of this channel.
    pub channel: Option<String>,
    /// Only events with this subject: a payment's hash or reference, a transaction, a peer.
    pub subject: Option<String>,
}

/// Follow the channels' events as a WebSocket of JSON messages. For the operator.
///
/// Each message is one event, as in `/v1/channel-events`. Sequence numbers have no gaps: after a broken connection, ask from the
/// last one plus 1. The newest 100,000 events are kept; from an older number on, the stream begins with the oldest of them.
#[utoipa::path(
    get, path = "/v1/channel-events/stream", tag = "channels",
    params(ChannelStreamQuery),
    security(("operator" = [])),
    responses(
        (status = 101, description = "A stream of events", body = ChannelEventBody),
        (status = "4XX", description = "Not allowed, no channels here, not a WebSocket request, or a parameter breaks its rule", body = Problem, content_type = "application/problem+json"),
        (status = "5XX", description = "Too many streams", body = Problem, content_type = "application/problem+json"),
    )
)]
pub async fn stream(
    State(api): State<Api>,
    _: Operator,
    Parameters(query): Parameters<ChannelStreamQuery>,
    upgrade: Result<WebSocketUpgrade, WebSocketUpgradeRejection>,
) -> Result<Response, Problem> {
    let channel = query.channel.as_deref().map(channel_id).transpose()?;
    let log = ChannelLog {
        handle: api.channels()?.handle.clone(),
        channel: channel.map(|channel| channel.to_string()),
        subject: query.subject.map(|text| text.to_lowercase()),
    };
    follow(api, upgrade, query.from, log)
}

/// The channels' events.
struct ChannelLog {
    handle: Handle,
    channel: Option<String>,
    subject: Option<String>,
}

impl Log for ChannelLog {
    type Event = ChannelEventBody;

    fn newest(&self) -> watch::Receiver<u64> {
        self.handle.newest_event()
    }

    async fn page(&self, from: u64, limit: usize) -> Result<Vec<ChannelEventBody>, Problem> {
        let handle = self.handle.clone();
        let read = tokio::task::spawn_blocking(move || handle.events(from, limit)).await;
        let events = read.map_err(|error| Problem::internal("a read was cut off", &error))?;
        let events = events.map_err(stopped)?;
        Ok(events.into_iter().map(Into::into).collect())
    }

    fn number(event: &ChannelEventBody) -> u64 {
        event.sequence
    }

    fn wants(&mut self, event: &ChannelEventBody) -> bool {
        let fits = |wanted: &Option<String>, found: &Option<String>| {
            wanted.is_none() || wanted.as_deref() == found.as_deref()
        };
        fits(&self.channel, &event.channel) && fits(&self.subject, &event.subject)
    }
}

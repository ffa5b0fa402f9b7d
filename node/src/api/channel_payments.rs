//! Payments over several channels: invoices, ways, payments.
//!
//! ```text
//! GET, POST /v1/channel-invoices                        list, make      GET /v1/channel-invoices/{hash}
//! POST /v1/channel-invoices/{hash}/{settle, cancel}     what a hold invoice waits for
//! POST /v1/channel-decode                               what an invoice says, and whether this node can pay it
//! POST /v1/channel-route                                the ways that a payment would go; pays nothing
//! GET, POST /v1/channel-payments                        list, pay       GET /v1/channel-payments/{hash}
//! POST /v1/channel-paid                                 tell the payee of an invoice that a transfer on the rollup paid it
//! ```
//! An invoice's hash is paid at most once: paying it again answers with the first payment. All of it is for the operator.

use super::Api;
use super::channels::{
    AnswerBody, amount, field, hash, perform, refused, request_key, stopped, token_text,
};
use super::extract::{Body, Named, Parameters};
use super::idempotency::MaybeKey;
use super::operator::Operator;
use super::page::{Page, PageQuery};
use super::problem::{Code, Problem};
use crate::wiring::channels::public_key;
use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use millrace_channels::invoice::Invoice;
use millrace_channels::node::invoices::LIFE_SECS;
use millrace_channels::node::paid::MAX_PROOF_BYTES;
use millrace_channels::node::{
    Answer, InvoiceView, PayOrder, Payee, PaymentRecord, Request, RollupPayment, Stand, Telling,
    Terms, Way, unix_time,
};
use millrace_channels::types::{Address, PaymentHash};
use millrace_circuits::account::Owner;
use millrace_circuits::types::L1Address;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// What to ask for.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct NewInvoiceBody {
    /// How much, in the token's smallest unit; left out: the payer chooses.
    pub amount: Option<String>,
    /// The token's L1 address; left out: Ether.
    #[schema(value_type = Option<String>)]
    pub token: Option<L1Address>,
    /// For people, at most 320 bytes.
    #[serde(default)]
    pub description: String,
    /// How long it can be paid, in seconds; an hour if left out.
    pub expires_in_secs: Option<u64>,
    /// Keep the money waiting until settle or cancel.
    #[serde(default)]
    pub hold: bool,
    /// A payment address of the rollup, where it can be paid as well.
    pub fallback: Option<String>,
}

/// What an invoice says.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct DecodedBody {
    /// Its payment hash.
    pub hash: String,
    /// The payee's key.
    pub payee: String,
    /// The chain.
    pub chain_id: u64,
    /// The channels' contract.
    pub contract: String,
    /// The token's L1 address; none for Ether.
    pub token: Option<String>,
    /// How much, in the token's smallest unit; none: the payer chooses.
    pub amount: Option<String>,
    /// For people.
    pub description: String,
    /// When it was made, in Unix seconds.
    pub created: u64,
    /// From when on it cannot be paid, in Unix seconds.
    pub expires: u64,
    /// The payment address of the rollup where it can be paid as well.
    pub fallback: Option<String>,
    /// Channels that it hints at.
    pub hints: usize,
    /// Why this node cannot pay it, if it cannot.
    pub problem: Option<String>,
}

impl DecodedBody {
    fn of(invoice: &Invoice, problem: Option<String>) -> Self {
        Self {
            hash: invoice.hash.to_string(),
            payee: invoice.payee.to_string(),
            chain_id: invoice.domain.chain_id,
            contract: invoice.domain.contract.to_string(),
            token: token_text(&invoice.token),
            amount: invoice.amount.map(|amount| amount.to_string()),
            description: invoice.description.clone(),
            created: invoice.created,
            expires: invoice.expires,
            fallback: invoice.fallback.map(|bytes| owner_text(&bytes)),
            hints: invoice.hints.len(),
            problem,
        }
    }
}

/// A payment address, or the bytes in hexadecimal if they are none.
fn owner_text(bytes: &[u8; 32]) -> String {
    match millrace_circuits::field::from_bytes(bytes) {
        Ok(word) => Owner(word).to_string(),
        Err(_) => format!("0x{}", hex::encode(bytes)),
    }
}

/// An invoice of this node.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct InvoiceBody {
    /// Its text: give it to the payer. None of a payment that came without an invoice.
    pub invoice: Option<String>,
    /// open, held, settling, paid, paid_on_rollup, cancelled or expired.
    pub state: String,
    /// Whether its money waits for settle or cancel.
    pub hold: bool,
    /// What has arrived for certain, in the token's smallest unit.
    pub received: String,
    /// The transfer on the rollup that paid it, which this node has seen final.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rollup: Option<RollupPaidBody>,
    /// What the newest claim of such a transfer waits for, or lacks.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub claim: Option<String>,
    /// What it says.
    pub says: DecodedBody,
}

/// A transfer on the rollup that paid an invoice.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct RollupPaidBody {
    /// Its batch.
    pub batch: u64,
    /// Its row in the batch, from 0.
    pub row: u32,
    /// Its amount, in the token's smallest unit.
    pub amount: String,
    /// When this node saw it, in Unix seconds.
    pub seen: u64,
    /// Whether the payer has paid over channels too.
    pub twice: bool,
}

impl From<RollupPayment> for RollupPaidBody {
    fn from(payment: RollupPayment) -> Self {
        Self {
            batch: payment.place.batch,
            row: payment.place.row,
            amount: payment.amount.to_string(),
            seen: payment.time,
            twice: payment.twice,
        }
    }
}

/// A transfer on the rollup whose payee is to know of it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct TellBody {
    /// The invoice that it paid.
    pub invoice: String,
    /// Its id: 0x and 64 hexadecimal digits.
    pub transfer: String,
    /// The payer's proof for this invoice, in hexadecimal: docs/channels.md, *Paid on the rollup*.
    pub proof: String,
}

impl From<InvoiceView> for InvoiceBody {
    fn from(view: InvoiceView) -> Self {
        Self {
            state: view.state(unix_time()).to_owned(),
            hold: view.kept.hold,
            received: view.kept.received.to_string(),
            rollup: view.rollup.map(Into::into),
            claim: view.claim,
            says: DecodedBody::of(&view.invoice, None),
            invoice: view.text,
        }
    }
}

/// The text of an invoice.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct TextBody {
    /// It starts with mlr and the network.
    pub invoice: String,
}

/// What to pay: an invoice, or a node without one.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct OrderBody {
    /// The invoice.
    pub invoice: Option<String>,
    /// The payee's key, if there is no invoice.
    pub node: Option<String>,
    /// The token's L1 address, if there is no invoice; left out: Ether.
    #[schema(value_type = Option<String>)]
    pub token: Option<L1Address>,
    /// How much arrives, in the token's smallest unit; needed where the invoice does not say it.
    pub amount: Option<String>,
    /// The most that all fees may be; a hundredth of the amount and 10 units if left out.
    pub max_fee: Option<String>,
    /// Most parts, 1 to 16; 16 if left out.
    pub max_parts: Option<usize>,
    /// No attempt begins later than this from now, in seconds, at most 3600; 60 if left out.
    pub deadline_secs: Option<u64>,
}

impl OrderBody {
    fn order(self) -> Result<PayOrder, Problem> {
        let to = match (self.invoice, self.node) {
            (Some(text), None) if self.token.is_none() => Payee::Invoice(text),
            (Some(_), None) => return Err(field("token", "the invoice names its token")),
            (None, Some(key)) => Payee::Node {
                key: public_key(&key)
                    .ok_or_else(|| field("node", "expected a key of 66 hexadecimal digits"))?,
                token: self.token.map_or(Address::ZERO, |token| Address(token.0)),
            },
            _ => return Err(field("invoice", "name an invoice or a node, and not both")),
        };
        let wanted = self.amount.as_deref().map(amount).transpose()?;
        if matches!(to, Payee::Node { .. }) && wanted.is_none() {
            return Err(field("amount", "a payment without an invoice needs one"));
        }
        let max_fee = self.max_fee.as_deref().map(amount).transpose();
        Ok(PayOrder {
            to,
            amount: wanted,
            max_fee: max_fee
                .map_err(|problem| problem.at("max_fee"))?
                .map(|fee| fee.get()),
            max_parts: self.max_parts,
            deadline_secs: self.deadline_secs,
        })
    }
}

/// One way of a payment.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct WayBody {
    /// What leaves this node, in the token's smallest unit.
    pub sent: String,
    /// What arrives.
    pub delivered: String,
    /// How likely it works, in millionths, from what earlier payments have shown.
    pub probability_millionths: u32,
    /// The hops in order, the payee last.
    pub hops: Vec<HopBody>,
}

/// A hop.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct HopBody {
    /// Who receives.
    pub node: String,
    /// Over which channel.
    pub channel: String,
    /// What crosses it, in the token's smallest unit.
    pub amount: String,
}

/// The ways that a payment would go now.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct RouteBody {
    /// One for each part.
    pub ways: Vec<WayBody>,
    /// What arrives in all.
    pub amount: String,
    /// What all fees are.
    pub fee: String,
}

impl From<Vec<Way>> for RouteBody {
    fn from(ways: Vec<Way>) -> Self {
        let sum = |part: fn(&Way) -> u128| ways.iter().map(part).sum::<u128>();
        let delivered = sum(|way| way.delivered.get());
        let fee = sum(|way| way.sent.get()).saturating_sub(delivered);
        Self {
            amount: delivered.to_string(),
            fee: fee.to_string(),
            ways: ways.iter().map(WayBody::of).collect(),
        }
    }
}

impl WayBody {
    fn of(way: &Way) -> Self {
        let hops = way.nodes.iter().zip(&way.channels);
        Self {
            sent: way.sent.to_string(),
            delivered: way.delivered.to_string(),
            probability_millionths: way.probability,
            hops: hops
                .map(|(node, (channel, amount))| HopBody {
                    node: node.to_string(),
                    channel: channel.to_string(),
                    amount: amount.to_string(),
                })
                .collect(),
        }
    }
}

/// A payment of this node.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct PaymentBody {
    /// Its payment hash.
    pub hash: String,
    /// sending, retrying, succeeded or failed. A failed one has paid nothing, for certain.
    pub state: String,
    /// Who is paid.
    pub payee: String,
    /// The token's L1 address; none for Ether.
    pub token: Option<String>,
    /// What the payee gets, in the token's smallest unit.
    pub amount: String,
    /// Fees of the last attempt.
    pub fee: String,
    /// The most that fees may be.
    pub max_fee: String,
    /// Attempts so far.
    pub attempts: u32,
    /// Parts of the last attempt.
    pub parts: usize,
    /// When it was ordered, in Unix seconds.
    pub created: u64,
    /// No attempt begins later, in Unix seconds.
    pub deadline: u64,
    /// The invoice, if there is one.
    pub invoice: Option<String>,
    /// The proof of payment, once it succeeded.
    pub preimage: Option<String>,
    /// Why it failed, or is being retried.
    pub reason: Option<String>,
}

impl From<PaymentRecord> for PaymentBody {
    fn from(record: PaymentRecord) -> Self {
        let (preimage, reason) = match &record.stand {
            Stand::Succeeded(preimage) => (Some(format!("0x{}", hex::encode(preimage.0))), None),
            Stand::Failed(reason) | Stand::Retrying(reason) => (None, Some(reason.clone())),
            Stand::Sending => (None, None),
        };
        Self {
            hash: record.hash.to_string(),
            state: record.stand.name().to_owned(),
            payee: record.payee.to_string(),
            token: token_text(&record.token),
            amount: record.amount.to_string(),
            fee: record.fee.to_string(),
            max_fee: record.max_fee.to_string(),
            attempts: record.attempts,
            parts: record.parts.len(),
            created: record.created,
            deadline: record.deadline,
            invoice: record.invoice,
            preimage,
            reason,
        }
    }
}

fn payment_hash(text: &str) -> Result<PaymentHash, Problem> {
    hash(text).map(PaymentHash).ok_or_else(|| {
        Problem::new(
            Code::InvalidParameter,
            format!("{text:?} is no payment hash: 0x and 64 hexadecimal digits"),
        )
    })
}

/// Make an invoice. For the operator.
#[utoipa::path(
    post, path = "/v1/channel-invoices", tag = "channels",
    request_body = NewInvoiceBody,
    params(("Idempotency-Key" = Option<String>, Header, description = "Repeating with the same key gives the same invoice")),
    security(("operator" = [])),
    responses(
        (status = 201, description = "The invoice", body = InvoiceBody),
        (status = "4XX", description = "Not allowed, or a field breaks its rule", body = Problem, content_type = "application/problem+json"),
    )
)]
pub async fn create_invoice(
    State(api): State<Api>,
    _: Operator,
    key: MaybeKey,
    Body { value, bytes }: Body<NewInvoiceBody>,
) -> Result<(StatusCode, Json<InvoiceBody>), Problem> {
    let fallback = value.fallback.as_deref().map(|text| {
        let owner = text.parse::<Owner>();
        owner
            .map(|owner| millrace_circuits::field::to_bytes(&owner.0))
            .map_err(|error| field("fallback", error))
    });
    let terms = Terms {
        token: value.token.map_or(Address::ZERO, |token| Address(token.0)),
        amount: value.amount.as_deref().map(amount).transpose()?,
        description: value.description,
        life_secs: value.expires_in_secs.unwrap_or(LIFE_SECS),
        hold: value.hold,
        fallback: fallback.transpose()?,
        hints: Vec::new(),
    };
    let key = request_key(key, &bytes, &Request::MakeInvoice(terms.clone()));
    let handle = &api.channels()?.handle;
    let answer = handle.make_invoice(terms, key).await.map_err(refused)?;
    let Answer::Invoice { hash, .. } = answer else {
        return Err(Problem::new(
            Code::IdempotencyKeyReused,
            "the key's answer is no invoice",
        ));
    };
    Ok((StatusCode::CREATED, Json(find_invoice(&api, hash).await?)))
}

async fn find_invoice(api: &Api, hash: PaymentHash) -> Result<InvoiceBody, Problem> {
    let view = api.channels()?.handle.invoice(hash).await;
    view.map_err(refused)?
        .map(InvoiceBody::from)
        .ok_or_else(|| Problem::new(Code::InvoiceUnknown, format!("invoice {hash}")))
}

/// Invoices of this node, newest first. For the operator.
#[utoipa::path(
    get, path = "/v1/channel-invoices", tag = "channels",
    params(PageQuery),
    security(("operator" = [])),
    responses(
        (status = 200, description = "A page", body = Page<InvoiceBody>),
        (status = "4XX", description = "Not allowed, no channels here, or not a limit or cursor", body = Problem, content_type = "application/problem+json"),
    )
)]
pub async fn invoices(
    State(api): State<Api>,
    _: Operator,
    Parameters(page): Parameters<PageQuery>,
) -> Result<Json<Page<InvoiceBody>>, Problem> {
    let limit = page.limit()?;
    let below = page.below()?.unwrap_or(u64::MAX);
    let views = api.channels()?.handle.invoices(below, limit + 1).await;
    let views = views.map_err(refused)?;
    Ok(Json(
        Page::of(views, limit, |view| view.number).map(Into::into),
    ))
}

/// One invoice. For the operator.
#[utoipa::path(
    get, path = "/v1/channel-invoices/{hash}", tag = "channels",
    params(("hash" = String, Path, description = "The payment hash")),
    security(("operator" = [])),
    responses(
        (status = 200, description = "The invoice", body = InvoiceBody),
        (status = "4XX", description = "Not allowed, not found, or not a hash", body = Problem, content_type = "application/problem+json"),
    )
)]
pub async fn invoice(
    State(api): State<Api>,
    _: Operator,
    Named(hash): Named<String>,
) -> Result<Json<InvoiceBody>, Problem> {
    Ok(Json(find_invoice(&api, payment_hash(&hash)?).await?))
}

/// Take the money that a hold invoice keeps waiting. For the operator.
#[utoipa::path(
    post, path = "/v1/channel-invoices/{hash}/settle", tag = "channels",
    params(("hash" = String, Path, description = "The payment hash")),
    security(("operator" = [])),
    responses(
        (status = 200, description = "The preimage is released", body = AnswerBody),
        (status = "4XX", description = "Not allowed, not found, or nothing waits for it", body = Problem, content_type = "application/problem+json"),
    )
)]
pub async fn settle(
    State(api): State<Api>,
    _: Operator,
    Named(hash): Named<String>,
) -> Result<Json<AnswerBody>, Problem> {
    decide(&api, &hash, Request::Release).await
}

/// Give back what has come for an invoice, and refuse what comes. For the operator.
#[utoipa::path(
    post, path = "/v1/channel-invoices/{hash}/cancel", tag = "channels",
    params(("hash" = String, Path, description = "The payment hash")),
    security(("operator" = [])),
    responses(
        (status = 200, description = "It is cancelled", body = AnswerBody),
        (status = "4XX", description = "Not allowed, not found, or paid already", body = Problem, content_type = "application/problem+json"),
    )
)]
pub async fn cancel(
    State(api): State<Api>,
    _: Operator,
    Named(hash): Named<String>,
) -> Result<Json<AnswerBody>, Problem> {
    decide(&api, &hash, Request::Cancel).await
}

async fn decide(
    api: &Api,
    text: &str,
    request: fn(PaymentHash) -> Request,
) -> Result<Json<AnswerBody>, Problem> {
    let hash = payment_hash(text)?;
    find_invoice(api, hash).await?;
    perform(api, MaybeKey(None), &[], request(hash)).await
}

/// What an invoice says, and whether this node can pay it. For the operator.
#[utoipa::path(
    post, path = "/v1/channel-decode", tag = "channels",
    request_body = TextBody,
    security(("operator" = [])),
    responses(
        (status = 200, description = "What it says", body = DecodedBody),
        (status = "4XX", description = "Not allowed, or the text is no invoice", body = Problem, content_type = "application/problem+json"),
    )
)]
pub async fn decode(
    State(api): State<Api>,
    _: Operator,
    Body { value, .. }: Body<TextBody>,
) -> Result<Json<DecodedBody>, Problem> {
    let invoice = Invoice::parse(&value.invoice).map_err(|error| refused(error.into()))?;
    let domain = api.channels()?.handle.ask(|state| state.domain).await;
    let checked = invoice.check(&domain.map_err(stopped)?, unix_time());
    let problem = checked.err().map(|error| error.to_string());
    Ok(Json(DecodedBody::of(&invoice, problem)))
}

/// The ways that a payment would go now, with fees and chances; pays nothing. For the operator.
#[utoipa::path(
    post, path = "/v1/channel-route", tag = "channels",
    request_body = OrderBody,
    security(("operator" = [])),
    responses(
        (status = 200, description = "The ways", body = RouteBody),
        (status = "4XX", description = "Not allowed, no way, or a field breaks its rule", body = Problem, content_type = "application/problem+json"),
    )
)]
pub async fn route(
    State(api): State<Api>,
    _: Operator,
    Body { value, .. }: Body<OrderBody>,
) -> Result<Json<RouteBody>, Problem> {
    let found = api.channels()?.handle.find(value.order()?).await;
    Ok(Json(found.map_err(refused)?.into()))
}

/// Pay an invoice, or a node without one, over channels. Durable when this answers; the payment's own page tells its end.
/// For the operator.
#[utoipa::path(
    post, path = "/v1/channel-payments", tag = "channels",
    request_body = OrderBody,
    params(("Idempotency-Key" = Option<String>, Header, description = "Repeating with the same key pays once")),
    security(("operator" = [])),
    responses(
        (status = 202, description = "It is under way, or was paid before", body = PaymentBody),
        (status = "4XX", description = "Not allowed, no way, or a field breaks its rule: nothing was paid", body = Problem, content_type = "application/problem+json"),
    )
)]
pub async fn pay(
    State(api): State<Api>,
    _: Operator,
    key: MaybeKey,
    Body { value, bytes }: Body<OrderBody>,
) -> Result<(StatusCode, Json<PaymentBody>), Problem> {
    let request = Request::PayOver(value.order()?);
    let key = request_key(key, &bytes, &request);
    let answer = api.channels()?.handle.request(request, key).await;
    let Answer::Paying { hash } = answer.map_err(refused)? else {
        return Err(Problem::new(
            Code::IdempotencyKeyReused,
            "the key's answer is no payment",
        ));
    };
    Ok((StatusCode::ACCEPTED, Json(find_payment(&api, &hash)?)))
}

fn find_payment(api: &Api, hash: &PaymentHash) -> Result<PaymentBody, Problem> {
    let found = api.channels()?.handle.payment(hash).map_err(stopped)?;
    found
        .map(PaymentBody::from)
        .ok_or_else(|| Problem::new(Code::PaymentUnknown, format!("payment {hash}")))
}

/// Payments of this node over several channels, newest first. For the operator.
#[utoipa::path(
    get, path = "/v1/channel-payments", tag = "channels",
    params(PageQuery),
    security(("operator" = [])),
    responses(
        (status = 200, description = "A page", body = Page<PaymentBody>),
        (status = "4XX", description = "Not allowed, no channels here, or not a limit or cursor", body = Problem, content_type = "application/problem+json"),
    )
)]
pub async fn payments(
    State(api): State<Api>,
    _: Operator,
    Parameters(page): Parameters<PageQuery>,
) -> Result<Json<Page<PaymentBody>>, Problem> {
    let limit = page.limit()?;
    let below = page.below()?.unwrap_or(u64::MAX);
    let found = api.channels()?.handle.payments(below, limit + 1);
    let found = found.map_err(stopped)?;
    Ok(Json(
        Page::of(found, limit, |record| record.number).map(Into::into),
    ))
}

/// One payment. For the operator.
#[utoipa::path(
    get, path = "/v1/channel-payments/{hash}", tag = "channels",
    params(("hash" = String, Path, description = "The payment hash")),
    security(("operator" = [])),
    responses(
        (status = 200, description = "The payment", body = PaymentBody),
        (status = "4XX", description = "Not allowed, not found, or not a hash", body = Problem, content_type = "application/problem+json"),
    )
)]
pub async fn payment(
    State(api): State<Api>,
    _: Operator,
    Named(hash): Named<String>,
) -> Result<Json<PaymentBody>, Problem> {
    Ok(Json(find_payment(&api, &payment_hash(&hash)?)?))
}

/// Have the payee of an invoice told that a transfer on the rollup has paid it. For the operator.
///
/// Durable when this answers. The node says so once the transfer is final, and again until the payee's node has seen it by itself,
/// or a day after the invoice's expiry; it pays the invoice over channels no more.
#[utoipa::path(
    post, path = "/v1/channel-paid", tag = "channels",
    request_body = TellBody,
    security(("operator" = [])),
    responses(
        (status = 202, description = "The payee is told", body = AnswerBody),
        (status = "4XX", description = "Not allowed, or a field breaks its rule", body = Problem, content_type = "application/problem+json"),
    )
)]
pub async fn paid(
    State(api): State<Api>,
    _: Operator,
    Body { value, bytes }: Body<TellBody>,
) -> Result<(StatusCode, Json<AnswerBody>), Problem> {
    let transfer = hash(&value.transfer)
        .ok_or_else(|| field("transfer", "expected 0x and 64 hexadecimal digits"))?;
    let digits = value.proof.trim_start_matches("0x");
    let proof = hex::decode(digits).ok();
    let proof = proof.filter(|proof| (1..=MAX_PROOF_BYTES).contains(&proof.len()));
    let telling = Telling {
        invoice: value.invoice,
        transfer,
        proof: proof.ok_or_else(|| field("proof", "expected at most 256 bytes in hexadecimal"))?,
    };
    let answer = perform(&api, MaybeKey(None), &bytes, Request::TellPaid(telling)).await?;
    Ok((StatusCode::ACCEPTED, answer))
}

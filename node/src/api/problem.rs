//! Errors of the API: RFC 9457 problem documents with stable codes.
//!
//! cause → [`Problem::new`]`(`[`Code`]`, detail)` → `application/problem+json`
//!
//! A code never changes its meaning. Its title, status and remedy stand in one catalogue, which `GET /problems` serves
//! and a test compares with its snapshot; `detail` carries the values of the case at hand.

use axum::Json;
use axum::http::{HeaderName, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use millrace_circuits::op::Rejection;
use serde::{Deserialize, Serialize};
use std::fmt;
use utoipa::openapi::RefOr;
use utoipa::openapi::schema::{ObjectBuilder, Schema, Type};
use utoipa::{PartialSchema, ToSchema};

#[cfg(test)]
mod tests;

/// Media type of a problem document.
pub const MEDIA_TYPE: &str = "application/problem+json";

macro_rules! catalogue {
    ($($(#[$doc:meta])* $name:ident = $text:literal, $status:ident, retryable: $retryable:literal, $title:literal, $fix:literal;)*) => {
        /// What went wrong, as a name that programs may rely on.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        pub enum Code {
            $(
                $(#[$doc])*
                #[serde(rename = $text)]
                $name,
            )*
        }

        impl Code {
            /// All codes, in the order of the catalogue.
            pub const ALL: &[Self] = &[$(Self::$name),*];

            /// The code as it stands in a problem document.
            pub const fn text(self) -> &'static str {
                match self { $(Self::$name => $text),* }
            }

            /// The HTTP status.
            pub const fn status(self) -> StatusCode {
                match self { $(Self::$name => StatusCode::$status),* }
            }

            /// Whether the same request may succeed later, unchanged.
            pub const fn retryable(self) -> bool {
                match self { $(Self::$name => $retryable),* }
            }

            /// One line for people.
            pub const fn title(self) -> &'static str {
                match self { $(Self::$name => $title),* }
            }

            /// What to do about it.
            pub const fn fix(self) -> &'static str {
                match self { $(Self::$name => $fix),* }
            }
        }
    };
}

catalogue! {
    // The request itself.
    /// The body is no JSON.
    MalformedJson = "malformed_json", BAD_REQUEST, retryable: false,
        "The body is not valid JSON", "Send one JSON document in UTF-8.";
    /// A field is missing, unknown, or breaks its rule.
    InvalidField = "invalid_field", UNPROCESSABLE_ENTITY, retryable: false,
        "A field breaks its rule", "Correct the field that the detail names; /openapi.json states every rule.";
    /// A path or query parameter breaks its rule.
    InvalidParameter = "invalid_parameter", BAD_REQUEST, retryable: false,
        "A parameter breaks its rule", "Correct the parameter that the detail names; /openapi.json states every rule.";
    /// The cursor is none that a page returned.
    InvalidCursor = "invalid_cursor", BAD_REQUEST, retryable: false,
        "The cursor is unknown", "Pass next_cursor of an earlier page unchanged, or leave the cursor out to start over.";
    /// The body is not declared as JSON.
    UnsupportedMediaType = "unsupported_media_type", UNSUPPORTED_MEDIA_TYPE, retryable: false,
        "The body's media type is not supported", "Set the header Content-Type: application/json.";
    /// The body exceeds its limit.
    BodyTooLarge = "body_too_large", PAYLOAD_TOO_LARGE, retryable: false,
        "The body is too large", "Send a smaller body; /v1/info states the limit.";
    /// No such route.
    RouteUnknown = "route_unknown", NOT_FOUND, retryable: false,
        "There is nothing at this path", "See /docs for all paths.";
    /// The route exists for other methods.
    MethodNotAllowed = "method_not_allowed", METHOD_NOT_ALLOWED, retryable: false,
        "The path does not take this method", "See /docs for the methods of this path.";
    /// The Idempotency-Key header is malformed.
    InvalidIdempotencyKey = "invalid_idempotency_key", BAD_REQUEST, retryable: false,
        "The Idempotency-Key is malformed", "Send 1 to 256 visible ASCII characters, such as a fresh UUID.";
    /// The key was used for another request.
    IdempotencyKeyReused = "idempotency_key_reused", UNPROCESSABLE_ENTITY, retryable: false,
        "The Idempotency-Key belongs to another request", "Use a fresh key for each new request; repeat a request byte for byte.";
    /// Credentials are missing or wrong.
    Unauthorized = "unauthorized", UNAUTHORIZED, retryable: false,
        "The token is missing or wrong", "Send the header Authorization: Bearer with the token from the node's configuration.";
    /// The node's configuration does not allow this.
    Forbidden = "forbidden", FORBIDDEN, retryable: false,
        "This node does not allow that", "Ask the operator; the detail names the setting that would allow it.";
    /// Too much at once, from all clients together.
    Overloaded = "overloaded", SERVICE_UNAVAILABLE, retryable: true,
        "The node is busy", "Repeat the request after the time in Retry-After.";
    /// Too many open event streams.
    TooManyStreams = "too_many_streams", SERVICE_UNAVAILABLE, retryable: true,
        "Too many event streams are open", "Close streams that nobody reads, or try again after the time in Retry-After.";
    /// No answer within the limit.
    TimedOut = "timed_out", SERVICE_UNAVAILABLE, retryable: true,
        "The node did not answer in time", "The outcome is unknown: look the transaction up by its id, or repeat the request with the same Idempotency-Key.";

    // What was asked for.
    /// No transaction has this id.
    TransactionUnknown = "transaction_unknown", NOT_FOUND, retryable: true,
        "No transaction has this id", "Check the id; a transaction that was never accepted here is unknown.";
    /// No account has this index.
    AccountUnknown = "account_unknown", NOT_FOUND, retryable: true,
        "No account has this index", "Check the index; an account exists once its first deposit or transfer is in a batch.";
    /// No batch has this number.
    BatchUnknown = "batch_unknown", NOT_FOUND, retryable: true,
        "No batch has this number", "Check the number; /v1/batches lists what exists.";
    /// No L1 request has this number.
    RequestUnknown = "request_unknown", NOT_FOUND, retryable: true,
        "No L1 request has this number", "Check the number; a request is known once its block is as deep as the node demands.";
    /// The batch has no proof yet.
    ProofMissing = "proof_missing", NOT_FOUND, retryable: true,
        "The batch has no proof yet", "Wait for its stage proven; /v1/events reports it.";
    /// A problem code that does not exist.
    ProblemUnknown = "problem_unknown", NOT_FOUND, retryable: false,
        "No problem has this code", "See /problems for all codes.";

    // Transactions: checks run in this order.
    /// A pair is no pair.
    NotAPair = "not_a_pair", UNPROCESSABLE_ENTITY, retryable: false,
        "The transactions are not linked to each other", "Send one transaction, or two whose links name each other's core.";
    /// The transaction is for another rollup.
    WrongDomain = "wrong_domain", UNPROCESSABLE_ENTITY, retryable: false,
        "The transaction is signed for another rollup", "Sign for the domain that /v1/info states.";
    /// The transaction was submitted before.
    Duplicate = "duplicate", CONFLICT, retryable: false,
        "The transaction was submitted before", "Nothing is lost: look it up by its id.";
    /// The fee is below the floor.
    FeeTooLow = "fee_too_low", UNPROCESSABLE_ENTITY, retryable: false,
        "The fee is too low", "Sign again with at least the fee that /v1/info states for this token.";
    /// No fee can be collected in this token.
    FeeNotCollectable = "fee_not_collectable", UNPROCESSABLE_ENTITY, retryable: false,
        "The operator collects no fees in this token", "Sign again with a fee of zero.";
    /// Index 0 pays nothing.
    FromIsZero = "from_is_zero", UNPROCESSABLE_ENTITY, retryable: false,
        "Account 0 does not exist", "Name the account that pays.";
    /// valid_until has passed.
    Expired = "expired", UNPROCESSABLE_ENTITY, retryable: false,
        "The transaction has expired", "Sign again with a later valid_until.";
    /// valid_until is too far away.
    ValidTooLong = "valid_too_long", UNPROCESSABLE_ENTITY, retryable: false,
        "The transaction is valid for too long", "Sign again with a valid_until within the limit that the detail names.";
    /// The paying account does not exist.
    AccountMissing = "account_missing", UNPROCESSABLE_ENTITY, retryable: true,
        "The paying account does not exist", "Deposit to it first, or wait until its deposit is in a batch.";
    /// Key and L1 address belong to another owner.
    NotTheOwner = "not_the_owner", UNPROCESSABLE_ENTITY, retryable: false,
        "The account belongs to someone else", "Sign with the key of the account's owner and send the L1 address it was made with.";
    /// The account holds another token.
    TokenDiffers = "token_differs", UNPROCESSABLE_ENTITY, retryable: false,
        "The account holds another token", "Pay from an account that holds this token.";
    /// The nonce is used.
    NonceTooLow = "nonce_too_low", CONFLICT, retryable: false,
        "The nonce is used", "Look the account up and sign again with its next nonce.";
    /// The nonce is too far ahead.
    NonceTooHigh = "nonce_too_high", CONFLICT, retryable: true,
        "The nonce is too far ahead", "Send the transactions before it first.";
    /// Another transaction waits at this nonce.
    NonceTaken = "nonce_taken", CONFLICT, retryable: false,
        "Another transaction waits at this nonce", "Raise the fee as the detail says to replace it, or use the next nonce.";
    /// The amount's code states 2^128 or more.
    AmountTooLarge = "amount_too_large", UNPROCESSABLE_ENTITY, retryable: false,
        "The amount is too large", "Send less.";
    /// No nonce is left.
    NonceExhausted = "nonce_exhausted", UNPROCESSABLE_ENTITY, retryable: false,
        "The account has used up its nonces", "Force an exit on L1 and deposit to another account.";
    /// The balance does not cover it.
    Overdrawn = "overdrawn", UNPROCESSABLE_ENTITY, retryable: true,
        "The balance does not cover amount and fee", "Send less, or deposit more first.";
    /// The receiving leaf has another owner.
    RecipientDiffers = "recipient_differs", UNPROCESSABLE_ENTITY, retryable: false,
        "The receiving account belongs to someone else", "Check the recipient's payment address.";
    /// The receiving leaf has another token.
    RecipientTokenDiffers = "recipient_token_differs", UNPROCESSABLE_ENTITY, retryable: false,
        "The receiving account holds another token", "Check the token.";
    /// A transfer of zero creates no account.
    NothingToCreateWith = "nothing_to_create_with", UNPROCESSABLE_ENTITY, retryable: false,
        "An amount of zero cannot create an account", "Send an amount above zero.";
    /// The receiving balance would overflow.
    CreditOverflow = "credit_overflow", UNPROCESSABLE_ENTITY, retryable: false,
        "The receiving balance would exceed 128 bits", "Send less.";
    /// The signature does not match.
    BadSignature = "bad_signature", UNPROCESSABLE_ENTITY, retryable: false,
        "The signature does not match", "Sign exactly these fields for the domain that /v1/info states.";
    /// The tree has no free leaf.
    StateFull = "state_full", SERVICE_UNAVAILABLE, retryable: true,
        "No account can be created", "Send to an existing account.";
    /// Too many transactions of this account wait.
    AccountQueueFull = "account_queue_full", TOO_MANY_REQUESTS, retryable: true,
        "Too many transactions of this account wait", "Wait until some of them are in a batch.";
    /// Too many transactions wait.
    MempoolFull = "mempool_full", TOO_MANY_REQUESTS, retryable: true,
        "Too many transactions wait", "Repeat the request after the time in Retry-After.";

    // The node.
    /// This node orders nothing.
    NotASequencer = "not_a_sequencer", FORBIDDEN, retryable: false,
        "This node does not take transactions", "Send them to the operator's node.";
    /// The node catches up.
    NotReady = "not_ready", SERVICE_UNAVAILABLE, retryable: true,
        "The node is not ready", "Try again later; /status says what it waits for.";
    /// The rollup is in escape.
    Frozen = "frozen", CONFLICT, retryable: false,
        "The rollup is frozen", "Leave with an escape exit on L1.";
    /// The proof queue refuses.
    ProverRefused = "prover_refused", CONFLICT, retryable: false,
        "The proof queue refuses this", "Drop the job and take the next one.";
    // Channels.
    /// This node has no channels.
    ChannelsDisabled = "channels_disabled", NOT_FOUND, retryable: false,
        "This node has no payment channels", "Set channels.enabled in the node's configuration and start it again.";
    /// No channel has this id.
    ChannelUnknown = "channel_unknown", NOT_FOUND, retryable: false,
        "No channel has this id", "Check the id; /v1/channels lists them.";
    /// The channel cannot do that now.
    ChannelNotReady = "channel_not_ready", CONFLICT, retryable: true,
        "The channel or peer is not ready", "Look at waiting in /v1/channels/{id}: it says for what, until when, and what ends it.";
    /// The request breaks a rule of the channel.
    ChannelRefused = "channel_refused", UNPROCESSABLE_ENTITY, retryable: false,
        "The request breaks a rule of the channel", "Correct what the detail names.";
    /// No invoice has this hash.
    InvoiceUnknown = "invoice_unknown", NOT_FOUND, retryable: false,
        "No invoice has this hash", "Check the hash; /v1/channel-invoices lists them.";
    /// The invoice cannot be paid, made, settled or cancelled.
    InvoiceRefused = "invoice_refused", UNPROCESSABLE_ENTITY, retryable: false,
        "The invoice breaks a rule", "Correct what the detail names; if the invoice has expired or was altered, ask the payee for a new one.";
    /// No payment has this hash.
    PaymentUnknown = "payment_unknown", NOT_FOUND, retryable: false,
        "No payment has this hash", "Check the hash; /v1/channel-payments lists them.";
    /// Nothing leads to the payee.
    NoRoute = "no_route", CONFLICT, retryable: true,
        "No way leads to the payee", "Nothing was paid. Open a channel with more money, raise max_fee, or pay on the rollup; /v1/channel-route shows ways.";
    /// A fault of the node.
    Internal = "internal", INTERNAL_SERVER_ERROR, retryable: true,
        "The node failed", "Repeat the request with the same Idempotency-Key; if it persists, send the operator the request id.";
}

// By hand: the derive cannot see through the macro to the names in JSON.
impl PartialSchema for Code {
    fn schema() -> RefOr<Schema> {
        ObjectBuilder::new()
            .schema_type(Type::String)
            .description(Some(
                "What went wrong, as a name that programs may rely on.",
            ))
            .enum_values(Some(Self::ALL.iter().map(|code| code.text())))
            .into()
    }
}

impl ToSchema for Code {}

impl fmt::Display for Code {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.text())
    }
}

/// A problem document.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Problem {
    /// Reference to the problem's entry in the catalogue.
    #[serde(rename = "type")]
    #[schema(example = "/problems/nonce_too_low")]
    pub reference: String,
    /// One line for people, the same for every case of this code.
    pub title: String,
    /// The HTTP status.
    pub status: u16,
    /// This case, with its values.
    pub detail: String,
    /// The code that programs may rely on.
    pub code: Code,
    /// Whether the same request may succeed later, unchanged.
    pub retryable: bool,
    /// What to do about it.
    pub fix: String,
    /// Where in the request: `transactions[1].amount`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub field: Option<String>,
    /// Seconds after which it is worth trying again, as in Retry-After.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub retry_after_secs: Option<u32>,
}

impl Problem {
    /// A case of `code`.
    pub fn new(code: Code, detail: impl fmt::Display) -> Self {
        Self {
            reference: format!("/problems/{code}"),
            title: code.title().to_owned(),
            status: code.status().as_u16(),
            detail: detail.to_string(),
            code,
            retryable: code.retryable(),
            fix: code.fix().to_owned(),
            field: None,
            retry_after_secs: None,
        }
    }

    /// Says where in the request.
    #[must_use]
    pub fn at(mut self, field: impl fmt::Display) -> Self {
        self.field = Some(field.to_string());
        self
    }

    /// Says when to come back.
    #[must_use]
    pub fn after(mut self, secs: u32) -> Self {
        self.retry_after_secs = Some(secs);
        self
    }

    /// A fault of the node: the cause goes to the log, not to the client.
    pub fn internal(what: &'static str, cause: &dyn fmt::Display) -> Self {
        tracing::error!(what, %cause, "request failed");
        Self::new(Code::Internal, what)
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let status = self.code.status();
        let retry_after = self.retry_after_secs;
        let mut response = (status, Json(self)).into_response();
        let headers = response.headers_mut();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(MEDIA_TYPE));
        if let Some(secs) = retry_after {
            headers.insert(header::RETRY_AFTER, HeaderValue::from(secs));
        }
        if status == StatusCode::UNAUTHORIZED {
            headers.insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
        }
        headers.insert(
            HeaderName::from_static("cache-control"),
            HeaderValue::from_static("no-store"),
        );
        response
    }
}

impl From<&Rejection> for Code {
    fn from(rejection: &Rejection) -> Self {
        match rejection {
            Rejection::FromIsZero => Self::FromIsZero,
            Rejection::Expired { .. } => Self::Expired,
            Rejection::AccountMissing { .. } => Self::AccountMissing,
            Rejection::NotTheOwner { .. } => Self::NotTheOwner,
            Rejection::TokenDiffers { .. } => Self::TokenDiffers,
            Rejection::NonceTooLow { .. } => Self::NonceTooLow,
            Rejection::NonceTooHigh { .. } => Self::NonceTooHigh,
            Rejection::AmountTooLarge { .. } => Self::AmountTooLarge,
            Rejection::NonceExhausted => Self::NonceExhausted,
            Rejection::Overdrawn { .. } => Self::Overdrawn,
            Rejection::RecipientDiffers { .. } => Self::RecipientDiffers,
            Rejection::RecipientTokenDiffers { .. } => Self::RecipientTokenDiffers,
            Rejection::NothingToCreateWith => Self::NothingToCreateWith,
            Rejection::CreditOverflow { .. } => Self::CreditOverflow,
            Rejection::BadSignature => Self::BadSignature,
        }
    }
}

impl From<Rejection> for Problem {
    fn from(rejection: Rejection) -> Self {
        Self::new(Code::from(&rejection), rejection)
    }
}

//! Submitting transactions and asking where they stand.
//!
//! `POST /v1/transactions` → fields agree? → signature, terms, rules → on disk → 202 with ids; `GET /v1/transactions/{id}`

use super::Api;
use super::extract::{Body, Named};
use super::idempotency::MaybeKey;
use super::problem::{Code, Problem};
use super::types::{Accepted, Submission, TransactionView};
use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use axum::http::header::LOCATION;
use axum::response::IntoResponse;
use millrace_circuits::transaction::{SignedTransaction, TransactionId};

/// Transactions of one submission at most: two that are linked to each other.
pub const MAX_TRANSACTIONS: usize = 2;

/// Submit a transaction, or a linked pair.
///
/// Answered once it is on disk: from then on it happens once, whatever becomes of the node's process. Repeating the request
/// with the same Idempotency-Key gives the same answer and has no second effect.
#[utoipa::path(
    post, path = "/v1/transactions", tag = "transactions",
    params(("Idempotency-Key" = Option<String>, Header, description = "1 to 256 visible ASCII characters, fresh for each new submission")),
    request_body = Submission,
    responses(
        (status = 202, description = "On disk", body = Accepted, headers(("Location" = String, description = "Where the first transaction is found"))),
        (status = "4XX", description = "Refused; nothing was taken", body = Problem, content_type = "application/problem+json"),
        (status = "5XX", description = "The node cannot take it now", body = Problem, content_type = "application/problem+json"),
    )
)]
pub async fn submit(
    State(api): State<Api>,
    MaybeKey(key): MaybeKey,
    body: Body<Submission>,
) -> Result<impl IntoResponse, Problem> {
    let signed = read(&api, &body.value)?;
    let accepted = api
        .ledger()
        .submit(signed, key.map(|key| key.to_string()))
        .await?;
    let first = accepted
        .transactions
        .first()
        .map(|id| format!("/v1/transactions/{id}"));
    Ok((
        StatusCode::ACCEPTED,
        [(LOCATION, first.unwrap_or_default())],
        Json(accepted),
    ))
}

fn read(api: &Api, submission: &Submission) -> Result<Vec<SignedTransaction>, Problem> {
    let bodies = &submission.transactions;
    if !(1..=MAX_TRANSACTIONS).contains(&bodies.len()) {
        let detail = format!(
            "{} transactions: one, or two that are linked to each other",
            bodies.len()
        );
        return Err(Problem::new(Code::InvalidField, detail).at("transactions"));
    }
    let domain = api.ledger().domain();
    let read = bodies.iter().enumerate().map(|(place, body)| {
        body.to_signed(domain)
            .map_err(|problem| problem.inside("transactions", place))
    });
    read.collect()
}

/// Where a transaction stands.
#[utoipa::path(
    get, path = "/v1/transactions/{id}", tag = "transactions",
    params(("id" = String, Path, description = "The transaction's id")),
    responses(
        (status = 200, description = "The transaction", body = TransactionView),
        (status = "4XX", description = "Not found, or not an id", body = Problem, content_type = "application/problem+json"),
    )
)]
pub async fn transaction(
    State(api): State<Api>,
    Named(id): Named<TransactionId>,
) -> Result<Json<TransactionView>, Problem> {
    Ok(Json(api.ledger().transaction(id).await?))
}

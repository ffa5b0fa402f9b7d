//! Batches: the list, one of them, its proof, the L1 requests that they serve, and closing the open one.

use super::Api;
use super::extract::{Named, Parameters};
use super::operator::Operator;
use super::page::{Page, PageQuery};
use super::problem::Problem;
use super::types::{BatchProof, BatchSummary, BatchView, RequestView, SealResult};
use axum::Json;
use axum::extract::State;
use millrace_circuits::types::BatchNumber;

/// Batches, newest first.
#[utoipa::path(
    get, path = "/v1/batches", tag = "batches",
    params(PageQuery),
    responses(
        (status = 200, description = "A page", body = Page<BatchSummary>),
        (status = "4XX", description = "Not a limit or cursor", body = Problem, content_type = "application/problem+json"),
    )
)]
pub async fn list(
    State(api): State<Api>,
    Parameters(page): Parameters<PageQuery>,
) -> Result<Json<Page<BatchSummary>>, Problem> {
    Ok(Json(api.ledger().batches(&page).await?))
}

/// One batch with its content.
#[utoipa::path(
    get, path = "/v1/batches/{number}", tag = "batches",
    params(("number" = u64, Path, description = "The batch's number, from 1")),
    responses(
        (status = 200, description = "The batch", body = BatchView),
        (status = "4XX", description = "Not found, or not a number", body = Problem, content_type = "application/problem+json"),
    )
)]
pub async fn batch(
    State(api): State<Api>,
    Named(number): Named<u64>,
) -> Result<Json<BatchView>, Problem> {
    Ok(Json(api.ledger().batch(BatchNumber(number)).await?))
}

/// A batch's proof with its public inputs, as the contract and as snarkjs read it.
#[utoipa::path(
    get, path = "/v1/batches/{number}/proof", tag = "batches",
    params(("number" = u64, Path, description = "The batch's number, from 1")),
    responses(
        (status = 200, description = "The proof", body = BatchProof),
        (status = "4XX", description = "No such batch, or no proof yet", body = Problem, content_type = "application/problem+json"),
    )
)]
pub async fn proof(
    State(api): State<Api>,
    Named(number): Named<u64>,
) -> Result<Json<BatchProof>, Problem> {
    Ok(Json(api.ledger().proof(BatchNumber(number)).await?))
}

/// A deposit or forced exit that was asked for on L1, and the batch that serves it.
#[utoipa::path(
    get, path = "/v1/requests/{number}", tag = "batches",
    params(("number" = u64, Path, description = "The request's number in the contract's queue, from 0")),
    responses(
        (status = 200, description = "The request", body = RequestView),
        (status = "4XX", description = "Not found, or not a number", body = Problem, content_type = "application/problem+json"),
    )
)]
pub async fn request(
    State(api): State<Api>,
    Named(number): Named<u64>,
) -> Result<Json<RequestView>, Problem> {
    Ok(Json(api.ledger().request(number).await?))
}

/// Close the open batch now, so that it is posted to L1. For the operator.
#[utoipa::path(
    post, path = "/v1/batches/seal", tag = "operator",
    security(("operator" = [])),
    responses(
        (status = 200, description = "What was closed", body = SealResult),
        (status = "4XX", description = "Not allowed", body = Problem, content_type = "application/problem+json"),
        (status = "5XX", description = "The sequencer has stopped", body = Problem, content_type = "application/problem+json"),
    )
)]
pub async fn seal(State(api): State<Api>, _: Operator) -> Result<Json<SealResult>, Problem> {
    Ok(Json(api.ledger().seal().await?))
}

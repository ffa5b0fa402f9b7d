//! Accounts: by index, by owner, and what they did.

use super::Api;
use super::extract::{Named, Parameters};
use super::page::{Page, PageQuery};
use super::problem::Problem;
use super::types::{AccountView, OwnerAccounts, TransactionView};
use axum::Json;
use axum::extract::State;
use millrace_circuits::account::Owner;
use millrace_circuits::types::AccountIndex;

/// One account, with everything that was accepted so far.
#[utoipa::path(
    get, path = "/v1/accounts/{index}", tag = "accounts",
    params(("index" = u32, Path, description = "The account's index")),
    responses(
        (status = 200, description = "The account", body = AccountView),
        (status = "4XX", description = "Not found, or not an index", body = Problem, content_type = "application/problem+json"),
    )
)]
pub async fn account(
    State(api): State<Api>,
    Named(index): Named<AccountIndex>,
) -> Result<Json<AccountView>, Problem> {
    Ok(Json(api.ledger().account(index).await?))
}

/// All accounts of an owner, one for each token it holds; none if it never received anything.
#[utoipa::path(
    get, path = "/v1/owners/{address}/accounts", tag = "accounts",
    params(("address" = String, Path, description = "The owner's payment address, mlr1…")),
    responses(
        (status = 200, description = "The accounts", body = OwnerAccounts),
        (status = "4XX", description = "Not a payment address", body = Problem, content_type = "application/problem+json"),
    )
)]
pub async fn owned(
    State(api): State<Api>,
    Named(address): Named<Owner>,
) -> Result<Json<OwnerAccounts>, Problem> {
    Ok(Json(api.ledger().owned(address).await?))
}

/// Transactions that an account sent or received, newest first.
#[utoipa::path(
    get, path = "/v1/accounts/{index}/transactions", tag = "accounts",
    params(("index" = u32, Path, description = "The account's index"), PageQuery),
    responses(
        (status = 200, description = "A page", body = Page<TransactionView>),
        (status = "4XX", description = "Not an index, limit or cursor", body = Problem, content_type = "application/problem+json"),
    )
)]
pub async fn history(
    State(api): State<Api>,
    Named(index): Named<AccountIndex>,
    Parameters(page): Parameters<PageQuery>,
) -> Result<Json<Page<TransactionView>>, Problem> {
    Ok(Json(api.ledger().history(index, &page).await?))
}

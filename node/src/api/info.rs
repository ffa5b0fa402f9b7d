//! What a client needs to know before it signs.

use super::Api;
use super::types::{Info, Tokens};
use axum::Json;
use axum::extract::State;

/// Chain, contract, domain, circuits, fees and limits.
#[utoipa::path(get, path = "/v1/info", tag = "info", responses((status = 200, description = "The node's terms", body = Info)))]
pub async fn info(State(api): State<Api>) -> Json<Info> {
    let tokens = api.ledger().tokens();
    Json(Info {
        tokens,
        ..api.0.parts.info.clone()
    })
}

/// The tokens of the rollup with their lowest fees.
#[utoipa::path(get, path = "/v1/tokens", tag = "info", responses((status = 200, description = "The tokens", body = Tokens)))]
pub async fn tokens(State(api): State<Api>) -> Json<Tokens> {
    Json(Tokens {
        tokens: api.ledger().tokens(),
    })
}

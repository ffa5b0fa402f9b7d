//! The API's description of itself: OpenAPI, a page to read it, and the catalogue of problems.
//!
//! routes → [`routes()`] → `/openapi.json`, checked in as `docs/openapi.json`; `/docs` shows it, with nothing from elsewhere

use super::extract::Named;
use super::problem::{Code, MEDIA_TYPE, Problem};
use super::{
    Api, accounts, batches, channel_payments, channels, events, health, info, prover, transactions,
};
use axum::extract::Request;
use axum::http::StatusCode;
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum::{Json, Router};
use serde::{Deserialize, Serialize};
use utoipa::openapi::OpenApi as Description;
use utoipa::openapi::security::{HttpAuthScheme, HttpBuilder, SecurityScheme};
use utoipa::{Modify, OpenApi, ToSchema};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;
use utoipa_swagger_ui::SwaggerUi;

#[derive(OpenApi)]
#[openapi(
    info(
        title = "Millrace",
        description = "Moves money off chain: a zero-knowledge rollup. Amounts and field elements are decimal text; numbers are below 2^53. Errors are problem documents (RFC 9457) with stable codes: see /problems.",
        license(name = "MIT OR Apache-2.0", identifier = "MIT OR Apache-2.0"),
    ),
    modifiers(&Tokens),
    tags(
        (name = "transactions", description = "Submit and follow transactions"),
        (name = "accounts", description = "Balances, nonces, history"),
        (name = "batches", description = "Batches, their stages and proofs"),
        (name = "events", description = "Every stage, as it happens"),
        (name = "channels", description = "Payment channels, for the operator"),
        (name = "info", description = "What to know before signing"),
        (name = "health", description = "For monitors"),
        (name = "operator", description = "For the operator only"),
        (name = "prover", description = "The proof queue"),
    ),
)]
struct Document;

struct Tokens;

impl Modify for Tokens {
    fn modify(&self, description: &mut Description) {
        let components = description.components.get_or_insert_default();
        for (name, text) in [
            (
                "operator",
                "api.operator_token of the node's configuration; not needed on loopback if none is set",
            ),
            ("prover", "prover.token of the node's configuration"),
        ] {
            let scheme = HttpBuilder::new()
                .scheme(HttpAuthScheme::Bearer)
                .description(Some(text))
                .build();
            components.add_security_scheme(name, SecurityScheme::Http(scheme));
        }
    }
}

/// All routes with their description.
pub fn routes() -> OpenApiRouter<Api> {
    OpenApiRouter::with_openapi(Document::openapi())
        .routes(routes!(transactions::submit))
        .routes(routes!(transactions::transaction))
        .routes(routes!(accounts::account))
        .routes(routes!(accounts::history))
        .routes(routes!(accounts::owned))
        .routes(routes!(batches::list))
        .routes(routes!(batches::seal))
        .routes(routes!(batches::batch))
        .routes(routes!(batches::proof))
        .routes(routes!(batches::request))
        .routes(routes!(events::events))
        .routes(routes!(channels::node))
        .routes(routes!(channels::list, channels::open))
        .routes(routes!(channels::show))
        .routes(routes!(channels::pay))
        .routes(routes!(channels::deposit))
        .routes(routes!(channels::withdraw))
        .routes(routes!(channels::close))
        .routes(routes!(channels::connect))
        .routes(routes!(channels::events))
        .routes(routes!(channels::stream))
        .routes(routes!(
            channel_payments::invoices,
            channel_payments::create_invoice
        ))
        .routes(routes!(channel_payments::invoice))
        .routes(routes!(channel_payments::settle))
        .routes(routes!(channel_payments::cancel))
        .routes(routes!(channel_payments::decode))
        .routes(routes!(channel_payments::route))
        .routes(routes!(channel_payments::payments, channel_payments::pay))
        .routes(routes!(channel_payments::payment))
        .routes(routes!(channel_payments::paid))
        .routes(routes!(info::info))
        .routes(routes!(info::tokens))
        .routes(routes!(prover::jobs))
        .routes(routes!(prover::retry))
        .routes(routes!(prover::exchange))
        .routes(routes!(health::livez))
        .routes(routes!(health::readyz))
        .routes(routes!(health::status))
        .routes(routes!(health::metrics))
        .routes(routes!(problems))
        .routes(routes!(problem))
}

/// The description as it is served and checked in.
pub fn description() -> Description {
    routes().split_for_parts().1
}

/// The description as the text that is checked in.
///
/// # Panics
/// Never: a description always serialises.
pub fn text() -> String {
    let mut text = description()
        .to_pretty_json()
        .expect("a description has text keys only");
    text.push('\n');
    text
}

/// The page that shows the description, and the description itself.
pub fn serve(description: Description) -> Router<Api> {
    Router::new()
        .merge(SwaggerUi::new("/docs").url("/openapi.json", description))
        .route(
            "/",
            get(|| async { axum::response::Redirect::temporary("/docs/") }),
        )
}

/// A kind of problem.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ProblemKind {
    /// The code that programs may rely on.
    pub code: Code,
    /// The HTTP status.
    pub status: u16,
    /// One line for people.
    pub title: String,
    /// Whether the same request may succeed later, unchanged.
    pub retryable: bool,
    /// What to do about it.
    pub fix: String,
}

impl From<Code> for ProblemKind {
    fn from(code: Code) -> Self {
        Self {
            code,
            status: code.status().as_u16(),
            title: code.title().to_owned(),
            retryable: code.retryable(),
            fix: code.fix().to_owned(),
        }
    }
}

/// Every kind of problem that this API answers with.
#[utoipa::path(get, path = "/problems", tag = "info", responses((status = 200, description = "The catalogue", body = Vec<ProblemKind>)))]
pub async fn problems() -> Json<Vec<ProblemKind>> {
    Json(
        Code::ALL
            .iter()
            .map(|code| ProblemKind::from(*code))
            .collect(),
    )
}

/// One kind of problem: what the `type` of a problem document refers to.
#[utoipa::path(
    get, path = "/problems/{code}", tag = "info",
    params(("code" = String, Path, description = "The code")),
    responses(
        (status = 200, description = "The kind", body = ProblemKind),
        (status = "4XX", description = "No such code, or not a text", body = Problem, content_type = "application/problem+json"),
    )
)]
pub async fn problem(Named(text): Named<String>) -> Result<Json<ProblemKind>, Problem> {
    match Code::ALL.iter().find(|code| code.text() == text) {
        Some(code) => Ok(Json((*code).into())),
        None => {
            let shown: String = text.chars().take(60).collect();
            Err(Problem::new(
                Code::ProblemUnknown,
                format!("no problem has the code {shown:?}"),
            ))
        }
    }
}

/// Routing answers a wrong method with a bare 405; clients get a problem document like everywhere else.
pub async fn name_method_errors(request: Request, next: Next) -> Response {
    let method = request.method().clone();
    let response = next.run(request).await;
    let bare = response
        .headers()
        .get("content-type")
        .is_none_or(|value| value != MEDIA_TYPE);
    if response.status() != StatusCode::METHOD_NOT_ALLOWED || !bare {
        return response;
    }
    let allow = response.headers().get("allow").cloned();
    let mut problem = Problem::new(
        Code::MethodNotAllowed,
        format!("{method} is not served here"),
    )
    .into_response();
    if let Some(allow) = allow {
        problem.headers_mut().insert("allow", allow);
    }
    problem
}

#[cfg(test)]
mod tests;

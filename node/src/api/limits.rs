//! What every request passes: an id, a place, a time limit, a measurement.
//!
//! request → id → place free? → handler within the time limit → measured → response with its id

use super::Api;
use super::problem::{Code, Problem};
use axum::extract::{MatchedPath, Request, State};
use axum::http::{HeaderName, HeaderValue, Method};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use std::time::{Duration, Instant};
use tracing::Instrument;

/// Names a request, from the client or made here; it is in the log and in the response.
pub const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");
/// Longest request id taken from a client.
const MAX_REQUEST_ID: usize = 64;
/// When to come back after a refusal for want of a place.
pub const RETRY_AFTER_SECS: u32 = 1;

/// Runs a request within the node's limits.
pub async fn guard(State(api): State<Api>, request: Request, next: Next) -> Response {
    let id = request_id(&request);
    let (method, route) = (request.method().clone(), route(&request));
    let span = tracing::info_span!("request", id = id.to_str().unwrap_or_default(), %method, route);
    let started = Instant::now();
    let mut response = within_limits(&api, request, next)
        .instrument(span.clone())
        .await;
    response.headers_mut().insert(REQUEST_ID, id);
    span.in_scope(|| measure(&method, &route, &response, started.elapsed()));
    response
}

async fn within_limits(api: &Api, request: Request, next: Next) -> Response {
    let Ok(_place) = api.places().try_acquire() else {
        let detail = format!(
            "{} requests are being served",
            api.limits().concurrent_requests
        );
        return Problem::new(Code::Overloaded, detail)
            .after(RETRY_AFTER_SECS)
            .into_response();
    };
    let limit = Duration::from_secs(api.limits().request_timeout_secs);
    match tokio::time::timeout(limit, next.run(request)).await {
        Ok(response) => response,
        Err(_) => Problem::new(
            Code::TimedOut,
            format!("no answer within {} s", limit.as_secs()),
        )
        .after(RETRY_AFTER_SECS)
        .into_response(),
    }
}

fn route(request: &Request) -> String {
    // Only patterns become labels: a path chosen by a client would be a label without bound.
    request
        .extensions()
        .get::<MatchedPath>()
        .map_or("unknown", MatchedPath::as_str)
        .to_owned()
}

fn request_id(request: &Request) -> HeaderValue {
    let given = request.headers().get(&REQUEST_ID);
    let usable = |value: &&HeaderValue| {
        (1..=MAX_REQUEST_ID).contains(&value.len())
            && value.as_bytes().iter().all(u8::is_ascii_graphic)
    };
    given.filter(usable).cloned().unwrap_or_else(fresh_id)
}

fn fresh_id() -> HeaderValue {
    let text = format!("{:016x}", rand::random::<u64>());
    HeaderValue::from_str(&text).expect("hexadecimal digits are a valid header value")
}

fn measure(method: &Method, route: &str, response: &Response, time: Duration) {
    let status = response.status();
    let labels = [
        ("method", method_label(method)),
        ("route", route.to_owned()),
        ("status", status.as_u16().to_string()),
    ];
    metrics::histogram!("millrace_api_request_seconds", &labels).record(time.as_secs_f64());
    if status.is_server_error() {
        tracing::warn!(
            status = status.as_u16(),
            ms = time.as_millis() as u64,
            "answered"
        );
    } else {
        tracing::debug!(
            status = status.as_u16(),
            ms = time.as_millis() as u64,
            "answered"
        );
    }
}

fn method_label(method: &Method) -> String {
    match *method {
        Method::GET | Method::POST | Method::HEAD | Method::OPTIONS => method.to_string(),
        _ => "other".to_owned(),
    }
}

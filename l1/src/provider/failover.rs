//! HTTP transport over one or several endpoints.
//!
//! A request goes to the endpoint that answered last. If it fails there (no connection, time-out, HTTP error, rate limit), the
//! next endpoint is asked; after a round through all of them the transport waits, twice as long each time, and begins again,
//! for a bounded number of rounds. What a node answers, errors included, is passed on: only silence and refusal are retried.
//! A transaction that is submitted twice this way is the same transaction, and the node says that it knows it.

use super::ConnectError;
use alloy::{
    rpc::json_rpc::{RequestPacket, ResponsePacket, RpcError},
    transports::{TransportError, TransportErrorKind, TransportFut, http::Http},
};
use reqwest::Url;
use std::{
    fmt,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    task::{Context, Poll},
    time::Duration,
};
use thiserror::Error;
use tower::Service;

/// The longest wait between two rounds.
const LONGEST_BACKOFF: Duration = Duration::from_secs(10);

/// Endpoints and patience.
#[derive(Clone, Debug)]
pub struct HttpSettings {
    urls: Vec<Url>,
    /// How long one request may take at one endpoint.
    pub request_timeout: Duration,
    /// How often the list of endpoints is gone through, at least once.
    pub rounds: u32,
    /// The wait after the first round; it doubles after each.
    pub first_backoff: Duration,
}

impl HttpSettings {
    /// Default patience for these URLs, most wanted first.
    pub fn new<'a>(urls: impl IntoIterator<Item = &'a str>) -> Result<Self, ConnectError> {
        let urls = urls
            .into_iter()
            .enumerate()
            .map(|(index, url)| parse(index, url))
            .collect::<Result<Vec<_>, _>>()?;
        if urls.is_empty() {
            return Err(ConnectError::NoUrl);
        }
        Ok(Self {
            urls,
            request_timeout: Duration::from_secs(20),
            rounds: 5,
            first_backoff: Duration::from_millis(250),
        })
    }

    /// Whether all endpoints are on this machine.
    pub(super) fn is_local(&self) -> bool {
        self.urls
            .iter()
            .all(|url| matches!(url.host_str(), Some("localhost" | "127.0.0.1" | "[::1]")))
    }
}

fn parse(index: usize, url: &str) -> Result<Url, ConnectError> {
    let parsed = Url::parse(url).map_err(|error| ConnectError::InvalidUrl {
        index,
        cause: error.to_string(),
    })?;
    match parsed.scheme() {
        "http" | "https" => Ok(parsed),
        other => Err(ConnectError::InvalidUrl {
            index,
            cause: format!("scheme is {other}"),
        }),
    }
}

/// What went wrong at each endpoint in the last round.
#[derive(Debug, Error)]
#[error("{}", .0.join("; "))]
struct AllFailed(Vec<String>);

#[derive(Debug)]
struct Endpoint {
    /// Scheme, host and port: the rest of a URL may be a secret.
    name: String,
    url: Url,
    http: Http<reqwest::Client>,
}

/// The transport.
#[derive(Clone, Debug)]
pub(super) struct Failover {
    endpoints: Arc<Vec<Endpoint>>,
    current: Arc<AtomicUsize>,
    rounds: u32,
    first_backoff: Duration,
}

impl fmt::Display for Failover {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names: Vec<&str> = self
            .endpoints
            .iter()
            .map(|endpoint| endpoint.name.as_str())
            .collect();
        formatter.write_str(&names.join(", "))
    }
}

impl Failover {
    pub(super) fn new(settings: HttpSettings) -> Result<Self, ConnectError> {
        // Whoever came first has installed a provider; that one serves as well.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let client = reqwest::Client::builder()
            .timeout(settings.request_timeout)
            .build();
        let client = client.map_err(|error| ConnectError::Client(error.to_string()))?;
        let endpoint = |url: Url| Endpoint {
            name: name(&url),
            http: Http::with_client(client.clone(), url.clone()),
            url,
        };
        Ok(Self {
            endpoints: Arc::new(settings.urls.into_iter().map(endpoint).collect()),
            current: Arc::default(),
            rounds: settings.rounds.max(1),
            first_backoff: settings.first_backoff,
        })
    }

    async fn send(self, packet: RequestPacket) -> Result<ResponsePacket, TransportError> {
        let mut backoff = self.first_backoff;
        for round in 1.. {
            let failed = match self.ask_all(&packet).await {
                Ok(response) => return Ok(response),
                Err(failed) => failed,
            };
            if round >= self.rounds || failed.permanent {
                return Err(TransportErrorKind::custom(AllFailed(failed.causes)));
            }
            tracing::debug!(round, wait_ms = backoff.as_millis() as u64, causes = ?failed.causes, "L1 endpoints failed");
            tokio::time::sleep(backoff).await;
            backoff = (backoff * 2).min(LONGEST_BACKOFF);
        }
        unreachable!("the loop ends by returning")
    }

    /// Asks each endpoint once, beginning with the one that answered last.
    async fn ask_all(&self, packet: &RequestPacket) -> Result<ResponsePacket, Failed> {
        let first = self.current.load(Ordering::Relaxed);
        let mut failed = Failed {
            causes: vec![],
            permanent: true,
        };
        for offset in 0..self.endpoints.len() {
            let index = (first + offset) % self.endpoints.len();
            let endpoint = &self.endpoints[index];
            match endpoint.http.clone().call(packet.clone()).await {
                Ok(response) if !is_rate_limited(&response) => {
                    self.current.store(index, Ordering::Relaxed);
                    return Ok(response);
                }
                Ok(_) => failed.add(endpoint, "rate limited", false),
                Err(error) => failed.add(endpoint, &chain_of_causes(&error), is_permanent(&error)),
            }
        }
        Err(failed)
    }
}

struct Failed {
    causes: Vec<String>,
    /// No endpoint will answer otherwise if it is asked again.
    permanent: bool,
}

impl Failed {
    fn add(&mut self, endpoint: &Endpoint, cause: &str, permanent: bool) {
        let cause = cause.replace(endpoint.url.as_str(), &endpoint.name);
        self.causes.push(format!("{}: {cause}", endpoint.name));
        self.permanent &= permanent;
    }
}

fn name(url: &Url) -> String {
    let port = url
        .port()
        .map(|port| format!(":{port}"))
        .unwrap_or_default();
    format!(
        "{}://{}{port}",
        url.scheme(),
        url.host_str().unwrap_or_default()
    )
}

/// An error with what caused it, since the outer text is often just "error sending request".
fn chain_of_causes(error: &TransportError) -> String {
    let mut text = super::explain(error);
    let RpcError::Transport(TransportErrorKind::Custom(outer)) = error else {
        return text;
    };
    let mut cause = outer.source();
    while let Some(inner) = cause {
        text = format!("{text}: {inner}");
        cause = inner.source();
    }
    text
}

fn is_rate_limited(response: &ResponsePacket) -> bool {
    response.as_error().is_some_and(|error| {
        let message = error.message.to_lowercase();
        error.code == 429 || message.contains("rate limit") || message.contains("too many requests")
    })
}

/// HTTP refusals other than "later" stay as they are.
fn is_permanent(error: &TransportError) -> bool {
    match error {
        RpcError::Transport(kind) => kind.as_http_error().is_some_and(|http| {
            (400..500).contains(&http.status) && !matches!(http.status, 408 | 425 | 429)
        }),
        _ => false,
    }
}

impl Service<RequestPacket> for Failover {
    type Response = ResponsePacket;
    type Error = TransportError;
    type Future = TransportFut<'static>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), TransportError>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, packet: RequestPacket) -> Self::Future {
        Box::pin(self.clone().send(packet))
    }
}

//! The node's HTTP API as a wallet uses it.
//!
//! call → request → answer, or [`NodeError`]: unreachable, refused with a stable code, or not understood
//!
//! A submission carries its id as Idempotency-Key, so that repeating it changes nothing.

use crate::api::page::Page;
use crate::api::problem::{Code, Problem};
use crate::api::types::{
    Accepted, AccountView, BatchProof, BatchSummary, BatchView, Info, OwnerAccounts, SealResult,
    SignedTransactionBody, Status, Submission, TransactionView,
};
use millrace_circuits::account::Owner;
use millrace_circuits::transaction::{Domain, SignedTransaction, TransactionId};
use millrace_circuits::types::BatchNumber;
use reqwest::{RequestBuilder, StatusCode};
use serde::de::DeserializeOwned;
use std::time::Duration;
use thiserror::Error;

/// Longest wait for an answer.
const TIMEOUT: Duration = Duration::from_secs(60);
/// Name of the header that makes repeating harmless.
const IDEMPOTENCY_KEY: &str = "idempotency-key";

/// Why the node did not answer as hoped.
#[derive(Debug, Error)]
pub enum NodeError {
    /// No connection, or it broke: what was sent may have arrived.
    #[error("no answer from the node at {url}: {cause}")]
    Unreachable {
        /// Its address.
        url: String,
        /// What failed.
        cause: String,
    },
    /// The node refused, with a stable code.
    #[error("{}: {}", .0.title, .0.detail)]
    Refused(Box<Problem>),
    /// The answer is no answer of a millrace node.
    #[error("{url} answered {status}, which is no answer of a millrace node: check the address")]
    NotUnderstood {
        /// The address asked.
        url: String,
        /// HTTP status.
        status: u16,
    },
}

impl NodeError {
    /// The stable code, if the node gave one.
    pub fn code(&self) -> Option<Code> {
        match self {
            Self::Refused(problem) => Some(problem.code),
            _ => None,
        }
    }

    /// Whether the node said for certain that it has not taken this. It may take the same later.
    pub fn is_certain(&self) -> bool {
        match self {
            // What was cut off in the middle may have been done.
            Self::Refused(problem) => !matches!(problem.code, Code::TimedOut | Code::Internal),
            Self::Unreachable { .. } | Self::NotUnderstood { .. } => false,
        }
    }
}

/// A client of one node.
#[derive(Debug, Clone)]
pub struct NodeClient {
    url: String,
    http: reqwest::Client,
}

impl NodeClient {
    /// A client of the node at this address, such as `http://127.0.0.1:8280`.
    ///
    /// # Errors
    /// If no HTTP client can be made.
    pub fn new(url: impl Into<String>) -> Result<Self, NodeError> {
        let url: String = url.into();
        let url = url.trim_end_matches('/').to_owned();
        // The HTTP client panics without one; installing it a second time changes nothing.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let http = reqwest::Client::builder().timeout(TIMEOUT).build();
        let http = http.map_err(|error| unreachable(&url, &error))?;
        Ok(Self { url, http })
    }

    /// The node's address.
    pub fn url(&self) -> &str {
        &self.url
    }

    /// What to know before signing.
    ///
    /// # Errors
    /// [`NodeError`].
    pub async fn info(&self) -> Result<Info, NodeError> {
        self.get("/v1/info").await
    }

    /// How the node is doing.
    ///
    /// # Errors
    /// [`NodeError`].
    pub async fn status(&self) -> Result<Status, NodeError> {
        self.get("/status").await
    }

    /// All accounts of an owner.
    ///
    /// # Errors
    /// [`NodeError`].
    pub async fn accounts(&self, owner: Owner) -> Result<Vec<AccountView>, NodeError> {
        let answer: OwnerAccounts = self.get(&format!("/v1/owners/{owner}/accounts")).await?;
        Ok(answer.accounts)
    }

    /// Submits a transaction, or two that are linked. Repeating it changes nothing.
    ///
    /// # Errors
    /// [`NodeError`].
    pub async fn submit(
        &self,
        domain: &Domain,
        transactions: &[SignedTransaction],
    ) -> Result<Accepted, NodeError> {
        let body = |signed: &SignedTransaction| SignedTransactionBody {
            domain: Some(domain.0),
            ..signed.into()
        };
        let submission = Submission {
            transactions: transactions.iter().map(body).collect(),
        };
        let ids = transactions
            .iter()
            .map(|signed| hex::encode(signed.id(domain).0));
        let key = ids.collect::<Vec<_>>().join("-");
        let request = self.http.post(self.address("/v1/transactions"));
        self.answer(request.header(IDEMPOTENCY_KEY, key).json(&submission))
            .await
    }

    /// A transaction and where it stands; `None` if the node does not know it.
    ///
    /// # Errors
    /// [`NodeError`].
    pub async fn transaction(
        &self,
        id: TransactionId,
    ) -> Result<Option<TransactionView>, NodeError> {
        found(self.get(&format!("/v1/transactions/{id}")).await)
    }

    /// Newest batches first.
    ///
    /// # Errors
    /// [`NodeError`].
    pub async fn batches(
        &self,
        limit: usize,
        cursor: Option<&str>,
    ) -> Result<Page<BatchSummary>, NodeError> {
        let cursor = cursor
            .map(|cursor| format!("&cursor={cursor}"))
            .unwrap_or_default();
        self.get(&format!("/v1/batches?limit={limit}{cursor}"))
            .await
    }

    /// A batch with its content; `None` if there is none.
    ///
    /// # Errors
    /// [`NodeError`].
    pub async fn batch(&self, number: BatchNumber) -> Result<Option<BatchView>, NodeError> {
        found(self.get(&format!("/v1/batches/{number}")).await)
    }

    /// A batch's proof; `None` if there is none yet.
    ///
    /// # Errors
    /// [`NodeError`].
    pub async fn proof(&self, number: BatchNumber) -> Result<Option<BatchProof>, NodeError> {
        found(self.get(&format!("/v1/batches/{number}/proof")).await)
    }

    /// Closes the open batch now.
    ///
    /// # Errors
    /// [`NodeError`].
    pub async fn seal(&self) -> Result<SealResult, NodeError> {
        self.answer(self.http.post(self.address("/v1/batches/seal")))
            .await
    }

    fn address(&self, path: &str) -> String {
        format!("{}{path}", self.url)
    }

    async fn get<T: DeserializeOwned>(&self, path: &str) -> Result<T, NodeError> {
        self.answer(self.http.get(self.address(path))).await
    }

    async fn answer<T: DeserializeOwned>(&self, request: RequestBuilder) -> Result<T, NodeError> {
        let response = request
            .send()
            .await
            .map_err(|error| unreachable(&self.url, &error))?;
        let status = response.status();
        let bytes = response
            .bytes()
            .await
            .map_err(|error| unreachable(&self.url, &error))?;
        if status.is_success() {
            return serde_json::from_slice(&bytes).map_err(|_| self.not_understood(status));
        }
        match serde_json::from_slice::<Problem>(&bytes) {
            Ok(problem) => Err(NodeError::Refused(Box::new(problem))),
            Err(_) => Err(self.not_understood(status)),
        }
    }

    fn not_understood(&self, status: StatusCode) -> NodeError {
        NodeError::NotUnderstood {
            url: self.url.clone(),
            status: status.as_u16(),
        }
    }
}

fn unreachable(url: &str, error: &reqwest::Error) -> NodeError {
    let mut cause = error.to_string();
    let mut source = std::error::Error::source(error);
    // The innermost cause is the one that helps: "connection refused".
    while let Some(inner) = source {
        cause = inner.to_string();
        source = inner.source();
    }
    NodeError::Unreachable {
        url: url.to_owned(),
        cause,
    }
}

fn found<T>(answer: Result<T, NodeError>) -> Result<Option<T>, NodeError> {
    match answer {
        Ok(value) => Ok(Some(value)),
        Err(NodeError::Refused(problem)) if problem.status == 404 => Ok(None),
        Err(error) => Err(error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_an_answer_about_the_request_itself_is_certain() {
        let refused = |code| NodeError::Refused(Box::new(Problem::new(code, "")));
        for code in [
            Code::Overdrawn,
            Code::BadSignature,
            Code::MempoolFull,
            Code::NotReady,
        ] {
            assert!(refused(code).is_certain(), "{code}");
        }
        for code in [Code::TimedOut, Code::Internal] {
            assert!(!refused(code).is_certain(), "{code}");
        }
        let (url, cause) = (String::new(), String::new());
        assert!(!NodeError::Unreachable { url, cause }.is_certain());
    }

    #[tokio::test]
    async fn an_address_where_nobody_listens_is_named() {
        let client = NodeClient::new("http://127.0.0.1:9/").unwrap();
        match client.info().await {
            Err(NodeError::Unreachable { url, .. }) => assert_eq!(url, "http://127.0.0.1:9"),
            other => panic!("{other:?}"),
        }
    }
}

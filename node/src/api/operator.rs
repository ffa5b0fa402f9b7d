//! Who may do what only the operator may: with a token; without one only where the API listens on loopback.
//!
//! A web page that a user of this machine opens can reach loopback as well, so requests with an `Origin` are refused: they come
//! from a browser.

use super::Api;
use super::problem::{Code, Problem};
use crate::config::Secret;
use axum::extract::FromRequestParts;
use axum::http::request::Parts;
use axum::http::{HeaderMap, header};
use sha2::{Digest, Sha256};

/// What such requests must present.
#[derive(Debug, Clone, Default)]
pub struct Access {
    /// The operator's token; none: only on loopback.
    pub operator_token: Option<Secret>,
    /// The token of provers in other processes; none: they are refused.
    pub prover_token: Option<Secret>,
    /// Whether the API listens on loopback only.
    pub loopback: bool,
}

/// A request that the operator may make.
#[derive(Debug)]
pub struct Operator;

impl FromRequestParts<Api> for Operator {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, api: &Api) -> Result<Self, Problem> {
        let access = &api.0.parts.access;
        refuse_browsers(&parts.headers)?;
        match &access.operator_token {
            Some(token) => demand(token, &parts.headers),
            None if access.loopback => Ok(()),
            None => Err(Problem::new(
                Code::Forbidden,
                "api.operator_token is not set, and the API does not listen on loopback",
            )),
        }
        .map(|()| Self)
    }
}

/// A request that a prover of this node may make.
#[derive(Debug)]
pub struct RemoteProver;

impl FromRequestParts<Api> for RemoteProver {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, api: &Api) -> Result<Self, Problem> {
        let access = &api.0.parts.access;
        refuse_browsers(&parts.headers)?;
        let token = access.prover_token.as_ref();
        let token = token.ok_or_else(|| {
            Problem::new(
                Code::Forbidden,
                "prover.token is not set, so provers in other processes are refused",
            )
        })?;
        demand(token, &parts.headers).map(|()| Self)
    }
}

fn refuse_browsers(headers: &HeaderMap) -> Result<(), Problem> {
    if headers.contains_key(header::ORIGIN) {
        return Err(Problem::new(
            Code::Forbidden,
            "web pages may not do this: the request has an Origin header",
        ));
    }
    Ok(())
}

fn demand(token: &Secret, headers: &HeaderMap) -> Result<(), Problem> {
    let given = headers
        .get(header::AUTHORIZATION)
        .and_then(|value| value.to_str().ok());
    let given = given.and_then(|text| text.strip_prefix("Bearer "));
    match given {
        Some(given) if is_same(given, token.expose()) => Ok(()),
        Some(_) => Err(Problem::new(
            Code::Unauthorized,
            "the bearer token is not the configured one",
        )),
        None => Err(Problem::new(
            Code::Unauthorized,
            "the request has no bearer token",
        )),
    }
}

/// Compares hashes, whose common prefix tells a guesser nothing about the token.
fn is_same(given: &str, token: &str) -> bool {
    Sha256::digest(given) == Sha256::digest(token)
}

//! What handlers take from a request; whatever does not fit becomes a problem document.
//!
//! body → [`Body`], path → [`Named`], query → [`Parameters`]

use super::problem::{Code, Problem};
use axum::body::Bytes;
use axum::extract::rejection::{BytesRejection, FailedToBufferBody};
use axum::extract::{FromRequest, FromRequestParts, Path, Query, Request};
use axum::http::header::CONTENT_TYPE;
use axum::http::request::Parts;
use axum::http::{HeaderMap, StatusCode};
use serde::de::{DeserializeOwned, IgnoredAny};
use std::fmt::Display;

/// A JSON body, with its bytes.
#[derive(Debug)]
pub struct Body<T> {
    /// What it says.
    pub value: T,
    /// As it was sent.
    pub bytes: Bytes,
}

impl<T: DeserializeOwned, S: Send + Sync> FromRequest<S> for Body<T> {
    type Rejection = Problem;

    async fn from_request(request: Request, state: &S) -> Result<Self, Problem> {
        declared_as_json(request.headers())?;
        let bytes = Bytes::from_request(request, state)
            .await
            .map_err(|error| unreadable(&error))?;
        let value = parse(&bytes)?;
        Ok(Self { value, bytes })
    }
}

fn declared_as_json(headers: &HeaderMap) -> Result<(), Problem> {
    let media_type = headers
        .get(CONTENT_TYPE)
        .and_then(|value| value.to_str().ok())
        .unwrap_or("");
    let essence = media_type.split(';').next().unwrap_or("").trim();
    if essence.eq_ignore_ascii_case("application/json") {
        return Ok(());
    }
    let shown: String = media_type.chars().take(80).collect();
    Err(Problem::new(
        Code::UnsupportedMediaType,
        format!("the body is declared as {shown:?}"),
    ))
}

fn unreadable(error: &BytesRejection) -> Problem {
    match error {
        BytesRejection::FailedToBufferBody(FailedToBufferBody::LengthLimitError(_)) => {
            Problem::new(Code::BodyTooLarge, "the body exceeds the node's limit")
        }
        other if other.status() == StatusCode::PAYLOAD_TOO_LARGE => {
            Problem::new(Code::BodyTooLarge, "the body exceeds the node's limit")
        }
        other => Problem::new(Code::MalformedJson, other),
    }
}

fn parse<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, Problem> {
    let mut reader = serde_json::Deserializer::from_slice(bytes);
    let value = serde_path_to_error::deserialize(&mut reader).map_err(|error| {
        let field = error.path().to_string();
        let cause = error.into_inner();
        // Of a value of another kind where a name is expected, the reader says that it is no JSON.
        if cause.is_data() || is_json(bytes) {
            Problem::new(Code::InvalidField, format!("{field}: {cause}")).at(field)
        } else {
            Problem::new(Code::MalformedJson, cause)
        }
    })?;
    reader
        .end()
        .map_err(|error| Problem::new(Code::MalformedJson, error))?;
    Ok(value)
}

fn is_json(bytes: &[u8]) -> bool {
    serde_json::from_slice::<IgnoredAny>(bytes).is_ok()
}

/// Path parameters.
#[derive(Debug)]
pub struct Named<T>(pub T);

impl<T: DeserializeOwned + Send, S: Send + Sync> FromRequestParts<S> for Named<T> {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Problem> {
        let Path(value) = Path::from_request_parts(parts, state)
            .await
            .map_err(|e| bad_parameter(&e.body_text()))?;
        Ok(Self(value))
    }
}

/// Query parameters.
#[derive(Debug)]
pub struct Parameters<T>(pub T);

impl<T: DeserializeOwned, S: Send + Sync> FromRequestParts<S> for Parameters<T> {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Problem> {
        let Query(value) = Query::from_request_parts(parts, state)
            .await
            .map_err(|e| bad_parameter(&e.body_text()))?;
        Ok(Self(value))
    }
}

fn bad_parameter(cause: &dyn Display) -> Problem {
    Problem::new(Code::InvalidParameter, cause)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde::Deserialize;

    #[derive(Debug, Deserialize)]
    #[serde(deny_unknown_fields)]
    #[allow(dead_code)]
    struct Inner {
        amount: millrace_circuits::types::Amount,
        kind: Option<crate::api::types::TransactionKind>,
    }

    #[derive(Debug, Deserialize)]
    #[allow(dead_code)]
    struct Outer {
        items: Vec<Inner>,
    }

    fn problem(text: &str) -> Problem {
        parse::<Outer>(text.as_bytes()).unwrap_err()
    }

    #[test]
    fn a_broken_field_is_named_with_its_place() {
        let wrong = problem(r#"{"items":[{"amount":"1"},{"amount":"-1"}]}"#);
        assert_eq!(
            (wrong.code, wrong.field.as_deref()),
            (Code::InvalidField, Some("items[1].amount"))
        );
        let number = problem(r#"{"items":[{"amount":1}]}"#);
        assert_eq!(number.code, Code::InvalidField);
        let no_name = problem(r#"{"items":[{"amount":"1","kind":3}]}"#);
        assert_eq!(
            (no_name.code, no_name.field.as_deref()),
            (Code::InvalidField, Some("items[0].kind"))
        );
        let unknown = problem(r#"{"items":[{"amount":"1","x":2}]}"#);
        assert!(
            unknown.detail.contains("unknown field `x`"),
            "{}",
            unknown.detail
        );
    }

    #[test]
    fn what_is_no_json_document_is_malformed() {
        for text in ["", "{", "{\"items\":[]} {}", "\u{0}", "{\"items\":[],}"] {
            assert_eq!(problem(text).code, Code::MalformedJson, "{text:?}");
        }
    }
}

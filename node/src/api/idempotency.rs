//! Idempotency keys: a repeated submission has one effect and one answer.
//!
//! header → [`MaybeKey`] → the sequencer writes key and answer in the batch that makes the submission durable
//!
//! A refused submission changed nothing, so its key stays free: repeating it is safe and may succeed.

use super::problem::{Code, Problem};
use axum::extract::FromRequestParts;
use axum::http::HeaderName;
use axum::http::request::Parts;
use std::fmt;

/// The request header.
pub const HEADER: HeaderName = HeaderName::from_static("idempotency-key");
/// Longest key.
pub const MAX_KEY_LENGTH: usize = 256;

/// What a client calls its request.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Key(String);

impl Key {
    /// Checks a key.
    ///
    /// # Errors
    /// If it is empty, too long, or not visible ASCII.
    pub fn new(text: &str) -> Result<Self, Problem> {
        if text.is_empty()
            || text.len() > MAX_KEY_LENGTH
            || !text.bytes().all(|b| b.is_ascii_graphic())
        {
            let detail = format!(
                "the key has {} bytes: 1 to {MAX_KEY_LENGTH} visible ones are needed",
                text.len()
            );
            return Err(Problem::new(Code::InvalidIdempotencyKey, detail));
        }
        Ok(Self(text.to_owned()))
    }

    /// The text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// The key of a request, if it has one.
#[derive(Debug)]
pub struct MaybeKey(pub Option<Key>);

impl<S: Send + Sync> FromRequestParts<S> for MaybeKey {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Problem> {
        let mut values = parts.headers.get_all(&HEADER).iter();
        let Some(value) = values.next() else {
            return Ok(Self(None));
        };
        if values.next().is_some() {
            return Err(Problem::new(
                Code::InvalidIdempotencyKey,
                "the header is there more than once",
            ));
        }
        let text = value.to_str().map_err(|_| {
            Problem::new(Code::InvalidIdempotencyKey, "the key is not visible ASCII")
        })?;
        Key::new(text).map(|key| Self(Some(key)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_short_visible_text() {
        for wrong in ["", " ", "a b", "ä", &"k".repeat(MAX_KEY_LENGTH + 1)] {
            assert_eq!(
                Key::new(wrong).unwrap_err().code,
                Code::InvalidIdempotencyKey
            );
        }
        assert_eq!(
            Key::new(&"k".repeat(MAX_KEY_LENGTH))
                .unwrap()
                .as_str()
                .len(),
            MAX_KEY_LENGTH
        );
    }
}

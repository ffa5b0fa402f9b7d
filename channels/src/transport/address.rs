//! Where a peer is: `<33-byte key in hex>@host:port`.

use crate::signing;
use crate::types::PublicKey;
use std::fmt;
use std::net::SocketAddr;
use std::str::FromStr;
use thiserror::Error;

/// Longest host name, bytes.
const MAX_HOST_BYTES: usize = 253;

/// Text that names no peer, or a host that is not found.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum AddressError {
    /// Not of the form `key@host:port`.
    #[error("a peer is written <66 hex digits of its key>@host:port")]
    Form,
    /// The part before `@` is no compressed secp256k1 key.
    #[error("the part before the @ is no compressed public key of 33 bytes in hex")]
    Key,
    /// The port is none.
    #[error("port {0:?} is no number from 1 to 65535")]
    Port(String),
    /// The host has no address.
    #[error("host {host} is not found: {reason}")]
    Resolve {
        /// Its name.
        host: String,
        /// What the system said.
        reason: String,
    },
}

/// A peer's key and where it listens.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct PeerAddress {
    /// Who is expected there.
    pub key: PublicKey,
    /// Name or number; an IPv6 number without brackets.
    pub host: String,
    /// TCP port.
    pub port: u16,
}

impl PeerAddress {
    /// The first address that the system finds for the host.
    ///
    /// # Errors
    /// [`AddressError::Resolve`].
    pub async fn resolve(&self) -> Result<SocketAddr, AddressError> {
        let failed = |reason: String| AddressError::Resolve {
            host: self.host.clone(),
            reason,
        };
        tokio::net::lookup_host((self.host.as_str(), self.port))
            .await
            .map_err(|error| failed(error.to_string()))?
            .next()
            .ok_or_else(|| failed("no address".to_owned()))
    }
}

impl FromStr for PeerAddress {
    type Err = AddressError;

    fn from_str(text: &str) -> Result<Self, AddressError> {
        let (key, place) = text.trim().split_once('@').ok_or(AddressError::Form)?;
        let (host, port) = place.rsplit_once(':').ok_or(AddressError::Form)?;
        let inner = host.strip_prefix('[').and_then(|h| h.strip_suffix(']'));
        let host = match inner {
            Some(number) => number,
            // Without brackets the last colon of an IPv6 number would be taken for the port's.
            None if host.contains(':') => return Err(AddressError::Form),
            None => host,
        };
        if host.is_empty() || host.len() > MAX_HOST_BYTES {
            return Err(AddressError::Form);
        }
        Ok(Self {
            key: parse_key(key)?,
            host: host.to_owned(),
            port: port
                .parse()
                .ok()
                .filter(|port| *port != 0)
                .ok_or_else(|| AddressError::Port(port.to_owned()))?,
        })
    }
}

impl fmt::Display for PeerAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let key = hex::encode(self.key.0);
        if self.host.contains(':') {
            write!(f, "{key}@[{}]:{}", self.host, self.port)
        } else {
            write!(f, "{key}@{}:{}", self.host, self.port)
        }
    }
}

fn parse_key(text: &str) -> Result<PublicKey, AddressError> {
    let mut bytes = [0; 33];
    hex::decode_to_slice(text, &mut bytes).map_err(|_| AddressError::Key)?;
    let key = PublicKey(bytes);
    signing::address(&key).map(|_| key).ok_or(AddressError::Key)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::signing::HotKey;

    fn key() -> String {
        hex::encode(HotKey::new([1; 32]).unwrap().public().0)
    }

    #[test]
    fn names_and_numbers_come_back() {
        for place in ["127.0.0.1:9735", "node.example:1", "[::1]:65535"] {
            let text = format!("{}@{place}", key());
            assert_eq!(text.parse::<PeerAddress>().unwrap().to_string(), text);
        }
    }

    #[test]
    fn bad_text_is_refused_with_its_part_named() {
        let parse = |text: String| text.parse::<PeerAddress>().unwrap_err();
        assert_eq!(parse(key()), AddressError::Form);
        assert_eq!(parse(format!("{}@host", key())), AddressError::Form);
        assert_eq!(parse(format!("{}@::1:5", key())), AddressError::Form);
        assert_eq!(parse(format!("{}@:5", key())), AddressError::Form);
        assert_eq!(
            parse(format!("{}@host:0", key())),
            AddressError::Port("0".to_owned())
        );
        assert_eq!(parse("02ff@host:5".to_owned()), AddressError::Key);
        // x = 0 is on no point of the curve.
        let off_curve = format!("02{}", "00".repeat(32));
        assert_eq!(parse(format!("{off_curve}@host:5")), AddressError::Key);
    }
}

//! Proving keys: what they belong to, how they are named, and which may guard money.
//!
//! ```text
//! setup → CircuitKey → file (checksummed, written at once or not at all) → KeyStore (one folder per circuit)
//! ```
//!
//! A key made by one party is INSECURE-DEV: in its id, its header, its file's name and the log.

use crate::circuit::Circuit;
use crate::evm::VerifyingKeyWords;
use crate::groth16::{ProvingKey, VerifyingKey};
use crate::matrices::{
    CircuitIdentity, ConstraintMatrices, MatricesError, NotAHash, hash_from_text,
};
use crate::setup::{self, Seed, SetupError};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use std::{fmt, str::FromStr};
use thiserror::Error;

pub mod file;
pub mod map;
mod mapped;
mod policy;
mod store;

pub use file::{KeyFileError, KeyHeader, Trust};
pub use mapped::MappedKey;
pub use policy::{DEVELOPMENT_CHAINS, RefusedKey, permit_key};
pub use store::{KeyStore, KeyStoreError};

/// How single-party keys are called everywhere.
pub const INSECURE_DEV: &str = "INSECURE-DEV";

/// Domain separation of key ids.
const KEY_TAG: &[u8] = b"millrace-verifying-key-1";

/// Who knows the secrets of a key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum KeyOrigin {
    /// One party made it, and can forge proofs.
    #[serde(rename = "INSECURE-DEV")]
    InsecureDev,
    /// A ceremony made it: forging takes the secrets of all its contributors.
    #[serde(rename = "ceremony")]
    Ceremony,
}

/// Names a verifying key by its content, SHA-256 of a tag and its words (α, β, γ, δ, IC), and says how far to trust it.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct KeyId {
    /// Who knows its secrets.
    pub origin: KeyOrigin,
    /// The hash.
    pub hash: [u8; 32],
}

impl KeyId {
    /// The id of a key.
    pub fn of(key: &VerifyingKey, origin: KeyOrigin) -> Self {
        let mut hasher = Sha256::new();
        hasher.update(KEY_TAG);
        for word in VerifyingKeyWords::of(key).flat() {
            hasher.update(word);
        }
        Self {
            origin,
            hash: hasher.finalize().into(),
        }
    }
}

impl fmt::Display for KeyId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let prefix = match self.origin {
            KeyOrigin::InsecureDev => INSECURE_DEV,
            KeyOrigin::Ceremony => "ceremony",
        };
        write!(f, "{prefix}-{}", hex::encode(self.hash))
    }
}

impl fmt::Debug for KeyId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "KeyId({self})")
    }
}

/// Text that is no key id.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("expected INSECURE-DEV- or ceremony- and 64 hexadecimal digits, got {0:?}")]
pub struct NotAKeyId(pub String);

impl FromStr for KeyId {
    type Err = NotAKeyId;

    fn from_str(text: &str) -> Result<Self, NotAKeyId> {
        let not_an_id = || NotAKeyId(text.chars().take(100).collect());
        let (prefix, hash) = text.rsplit_once('-').ok_or_else(not_an_id)?;
        let origin = match prefix {
            INSECURE_DEV => KeyOrigin::InsecureDev,
            "ceremony" => KeyOrigin::Ceremony,
            _ => return Err(not_an_id()),
        };
        let hash = hash_from_text(hash).map_err(|_| not_an_id())?;
        Ok(Self { origin, hash })
    }
}

impl TryFrom<String> for KeyId {
    type Error = NotAKeyId;
    fn try_from(text: String) -> Result<Self, NotAKeyId> {
        text.parse()
    }
}

impl From<KeyId> for String {
    fn from(id: KeyId) -> Self {
        id.to_string()
    }
}

/// Names a ceremony by its content: the first half of BLAKE2b-512 over its contributions' hashes, see [`crate::ceremony`].
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct TranscriptHash(pub [u8; 32]);

impl fmt::Display for TranscriptHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&hex::encode(self.0))
    }
}

impl fmt::Debug for TranscriptHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "TranscriptHash({self})")
    }
}

impl TryFrom<String> for TranscriptHash {
    type Error = NotAHash;
    fn try_from(text: String) -> Result<Self, NotAHash> {
        hash_from_text(&text).map(Self)
    }
}

impl From<TranscriptHash> for String {
    fn from(hash: TranscriptHash) -> Self {
        hash.to_string()
    }
}

/// A proving key with the circuit it belongs to.
pub struct CircuitKey {
    /// The circuit.
    pub circuit: Circuit,
    /// The circuit's content.
    pub identity: CircuitIdentity,
    /// The key's name.
    pub id: KeyId,
    /// The transcript of the ceremony that made it.
    pub transcript: Option<TranscriptHash>,
    /// The circuit's constraints.
    pub matrices: ConstraintMatrices,
    /// The key.
    pub proving_key: ProvingKey,
}

/// Why no key could be generated.
#[derive(Debug, Error)]
pub enum GenerateError {
    /// The circuit has no matrices.
    #[error(transparent)]
    Matrices(#[from] MatricesError),
    /// The setup failed.
    #[error(transparent)]
    Setup(#[from] SetupError),
}

impl CircuitKey {
    /// Generates a single-party key. Deterministic in (circuit, seed).
    ///
    /// # Errors
    /// If the circuit does not synthesize or is too large.
    pub fn generate(circuit: Circuit, seed: &Seed) -> Result<Self, GenerateError> {
        Self::generate_for(circuit, circuit.matrices()?, seed)
    }

    /// Generates a single-party key for matrices at hand.
    ///
    /// # Errors
    /// If the circuit is too large.
    pub fn generate_for(
        circuit: Circuit,
        matrices: ConstraintMatrices,
        seed: &Seed,
    ) -> Result<Self, GenerateError> {
        let identity = matrices.identity();
        let proving_key = setup::generate(&matrices, &identity, seed)?;
        let id = KeyId::of(&proving_key.vk, KeyOrigin::InsecureDev);
        tracing::warn!(%circuit, %identity, key = %id, "made an INSECURE-DEV key: one party knows its secrets");
        Ok(Self {
            circuit,
            identity,
            id,
            transcript: None,
            matrices,
            proving_key,
        })
    }

    /// The verifying key.
    pub fn verifying_key(&self) -> &VerifyingKey {
        &self.proving_key.vk
    }
}

impl fmt::Debug for CircuitKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "CircuitKey({}, {})", self.circuit, self.id)
    }
}

#[cfg(test)]
mod tests;

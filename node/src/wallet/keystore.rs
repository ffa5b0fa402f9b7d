//! The encrypted file of a wallet's secret.
//!
//! ```text
//! password → Argon2id (parameters and salt in the file) → key
//! secret   → XChaCha20-Poly1305 (header as associated data) → text;   SHA-256 of header and text → checksum
//! ```
//!
//! The checksum tells a damaged file from a wrong password. The file is JSON, mode 600, written whole or not at all.

use crate::wallet::files;
use crate::wallet::keys::{KeySource, KeysError, Phrase, private_key};
use argon2::{Algorithm, Argon2, Params, Version};
use chacha20poly1305::aead::{Aead, KeyInit, Payload};
use chacha20poly1305::{XChaCha20Poly1305, XNonce};
use rand::{RngCore, rngs::OsRng};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use std::io;
use std::path::{Path, PathBuf};
use thiserror::Error;
use zeroize::{Zeroize, Zeroizing};

/// What the file says it is.
pub const FORMAT: &str = "millrace-keystore";
/// Version of the file's layout.
pub const VERSION: u32 = 1;
/// The most memory a file may ask for: a hostile one must not take the machine.
pub const MAX_MEMORY_KIB: u32 = 1 << 20;
/// The most passes a file may ask for.
pub const MAX_PASSES: u32 = 64;
/// The most bytes a file may have.
pub const MAX_FILE_BYTES: u64 = 64 * 1024;

/// Why a keystore cannot be written or opened.
#[derive(Debug, Error)]
pub enum KeystoreError {
    /// There is none.
    #[error("no wallet at {0}")]
    Missing(PathBuf),
    /// There is one already.
    #[error("a wallet exists at {0} already: it is never overwritten")]
    Exists(PathBuf),
    /// The password is wrong.
    #[error("wrong password for {0}")]
    WrongPassword(PathBuf),
    /// The file's bytes changed.
    #[error(
        "{path} is damaged ({problem}): restore it from a backup, or the wallet from its recovery phrase"
    )]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        problem: String,
    },
    /// The file is of a later version.
    #[error(
        "{path} has version {got}, this program reads up to version {VERSION}: use a newer one"
    )]
    TooNew {
        /// The file.
        path: PathBuf,
        /// Its version.
        got: u32,
    },
    /// The disk failed.
    #[error("{path}: {source}")]
    Io {
        /// The file.
        path: PathBuf,
        /// What failed.
        source: io::Error,
    },
}

/// How hard guessing a password is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Cost {
    /// Memory of Argon2id.
    pub memory_kib: u32,
    /// Passes over it.
    pub passes: u32,
    /// Lanes.
    pub lanes: u32,
}

impl Cost {
    /// About a second on one core.
    pub const DEFAULT: Self = Self {
        memory_kib: 128 * 1024,
        passes: 4,
        lanes: 1,
    };
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Header {
    format: String,
    version: u32,
    kdf: String,
    cost: Cost,
    salt: String,
    cipher: String,
    nonce: String,
}

#[derive(Serialize, Deserialize)]
struct FileContent {
    #[serde(flatten)]
    header: serde_json::Map<String, serde_json::Value>,
    text: String,
    checksum: String,
}

/// What is encrypted. Its JSON is the plain text.
#[derive(Serialize, Deserialize, Zeroize)]
#[serde(rename_all = "snake_case")]
enum Content {
    Phrase(String),
    L1Key(String),
}

/// A keystore file.
#[derive(Debug, Clone)]
pub struct Keystore {
    path: PathBuf,
}

impl Keystore {
    /// The file at this path, which may not exist yet.
    pub fn new(path: impl Into<PathBuf>) -> Self {
        Self { path: path.into() }
    }

    /// The file.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Whether there is one.
    pub fn exists(&self) -> bool {
        self.path.exists()
    }

    /// Encrypts a secret into a new file.
    ///
    /// # Errors
    /// If the file exists already, or the disk fails.
    pub fn create(&self, source: &KeySource, password: &str) -> Result<(), KeystoreError> {
        self.create_at_cost(source, password, Cost::DEFAULT)
    }

    /// As [`Keystore::create`], with another cost of guessing.
    ///
    /// # Errors
    /// As [`Keystore::create`].
    pub fn create_at_cost(
        &self,
        source: &KeySource,
        password: &str,
        cost: Cost,
    ) -> Result<(), KeystoreError> {
        let bytes = self.seal(source, password, cost)?;
        files::create(&self.path, &bytes).map_err(|error| match error.kind() {
            io::ErrorKind::AlreadyExists => KeystoreError::Exists(self.path.clone()),
            _ => self.io(error),
        })
    }

    /// Decrypts the secret.
    ///
    /// # Errors
    /// A wrong password, a damaged file, a version from the future, or a failing disk.
    pub fn open(&self, password: &str) -> Result<KeySource, KeystoreError> {
        let content = self.read()?;
        let header = self.header(&content)?;
        let text = self.bytes(&content.text)?;
        let key = self.stretch(password, &header)?;
        let nonce = <[u8; 24]>::try_from(self.bytes(&header.nonce)?)
            .map_err(|_| self.damaged("the nonce has the wrong length"))?;
        let payload = Payload {
            msg: &text,
            aad: &associated(&content.header),
        };
        let plain = cipher(&key)
            .decrypt(&XNonce::from(nonce), payload)
            .map_err(|_| KeystoreError::WrongPassword(self.path.clone()))?;
        let plain = Zeroizing::new(plain);
        let secret: Zeroizing<Content> = Zeroizing::new(
            serde_json::from_slice(&plain).map_err(|_| self.damaged("unknown kind of secret"))?,
        );
        self.source(&secret)
    }

    fn seal(
        &self,
        source: &KeySource,
        password: &str,
        cost: Cost,
    ) -> Result<Vec<u8>, KeystoreError> {
        let (mut salt, mut nonce) = ([0u8; 16], [0u8; 24]);
        OsRng.fill_bytes(&mut salt);
        OsRng.fill_bytes(&mut nonce);
        let header = Header {
            format: FORMAT.into(),
            version: VERSION,
            kdf: "argon2id-19".into(),
            cost,
            salt: hex::encode(salt),
            cipher: "xchacha20-poly1305".into(),
            nonce: hex::encode(nonce),
        };
        let key = self.stretch(password, &header)?;
        let header = to_map(&header);
        let plain = plain_text(source);
        let payload = Payload {
            msg: &plain,
            aad: &associated(&header),
        };
        let text = cipher(&key)
            .encrypt(&XNonce::from(nonce), payload)
            .expect("a phrase is far below the cipher's length limit");
        let text = hex::encode(text);
        let checksum = checksum(&header, &text);
        let content = FileContent {
            header,
            text,
            checksum,
        };
        let mut bytes = serde_json::to_vec_pretty(&content).expect("maps of text serialise");
        bytes.push(b'\n');
        Ok(bytes)
    }

    fn read(&self) -> Result<FileContent, KeystoreError> {
        match std::fs::metadata(&self.path) {
            Ok(metadata) if metadata.len() > MAX_FILE_BYTES => {
                return Err(self.damaged("far too long"));
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                return Err(KeystoreError::Missing(self.path.clone()));
            }
            _ => {}
        }
        let bytes = std::fs::read(&self.path).map_err(|error| self.io(error))?;
        let content: FileContent = serde_json::from_slice(&bytes)
            .map_err(|error| self.damaged(&format!("no complete JSON: {error}")))?;
        if content.checksum != checksum(&content.header, &content.text) {
            return Err(self.damaged("its checksum fails"));
        }
        Ok(content)
    }

    fn header(&self, content: &FileContent) -> Result<Header, KeystoreError> {
        let version = content.header.get("version").and_then(|v| v.as_u64());
        if let Some(got) = version.and_then(|v| u32::try_from(v).ok())
            && got > VERSION
        {
            let path = self.path.clone();
            return Err(KeystoreError::TooNew { path, got });
        }
        let header: Header = serde_json::from_value(content.header.clone().into())
            .map_err(|error| self.damaged(&error.to_string()))?;
        if header.format != FORMAT || header.version != VERSION {
            return Err(self.damaged("it is no millrace keystore"));
        }
        if header.kdf != "argon2id-19" || header.cipher != "xchacha20-poly1305" {
            return Err(self.damaged("unknown key derivation or cipher"));
        }
        if header.cost.memory_kib > MAX_MEMORY_KIB || header.cost.passes > MAX_PASSES {
            return Err(self.damaged("it asks for too much memory or time"));
        }
        Ok(header)
    }

    fn stretch(
        &self,
        password: &str,
        header: &Header,
    ) -> Result<Zeroizing<[u8; 32]>, KeystoreError> {
        let Cost {
            memory_kib,
            passes,
            lanes,
        } = header.cost;
        let salt = self.bytes(&header.salt)?;
        let refused = |error: argon2::Error| self.damaged(&error.to_string());
        let parameters = Params::new(memory_kib, passes, lanes, Some(32)).map_err(refused)?;
        let mut key = Zeroizing::new([0u8; 32]);
        Argon2::new(Algorithm::Argon2id, Version::V0x13, parameters)
            .hash_password_into(password.as_bytes(), &salt, &mut *key)
            .map_err(refused)?;
        Ok(key)
    }

    fn source(&self, secret: &Content) -> Result<KeySource, KeystoreError> {
        let broken = |error: KeysError| self.damaged(&error.to_string());
        match secret {
            Content::Phrase(words) => Phrase::parse(words).map(KeySource::Phrase).map_err(broken),
            Content::L1Key(text) => private_key(text).map(KeySource::L1Key).map_err(broken),
        }
    }

    fn bytes(&self, digits: &str) -> Result<Vec<u8>, KeystoreError> {
        hex::decode(digits).map_err(|_| self.damaged("a field is no hexadecimal text"))
    }

    fn damaged(&self, problem: &str) -> KeystoreError {
        KeystoreError::Damaged {
            path: self.path.clone(),
            problem: problem.to_owned(),
        }
    }

    fn io(&self, source: io::Error) -> KeystoreError {
        KeystoreError::Io {
            path: self.path.clone(),
            source,
        }
    }
}

fn cipher(key: &[u8; 32]) -> XChaCha20Poly1305 {
    XChaCha20Poly1305::new_from_slice(key).expect("the cipher's keys have 32 bytes")
}

fn plain_text(source: &KeySource) -> Zeroizing<Vec<u8>> {
    let content = Zeroizing::new(match source {
        KeySource::Phrase(phrase) => Content::Phrase(phrase.words().to_string()),
        KeySource::L1Key(key) => Content::L1Key(hex::encode(key.to_bytes())),
    });
    Zeroizing::new(serde_json::to_vec(&*content).expect("an enum of text serialises"))
}

fn to_map(header: &Header) -> serde_json::Map<String, serde_json::Value> {
    match serde_json::to_value(header).expect("text and numbers serialise") {
        serde_json::Value::Object(map) => map,
        _ => unreachable!("a struct serialises to an object"),
    }
}

/// The header as it is authenticated: compact JSON with sorted keys, which serde_json's maps have.
fn associated(header: &serde_json::Map<String, serde_json::Value>) -> Vec<u8> {
    let sorted: std::collections::BTreeMap<_, _> = header.iter().collect();
    serde_json::to_vec(&sorted).expect("a map of JSON values serialises")
}

fn checksum(header: &serde_json::Map<String, serde_json::Value>, text: &str) -> String {
    let hash = Sha256::new()
        .chain_update(associated(header))
        .chain_update(text.as_bytes())
        .finalize();
    hex::encode(hash)
}

#[cfg(test)]
mod tests;

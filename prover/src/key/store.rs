//! The key cache: one folder per circuit identity, one file per key.
//!
//! `<directory>/<circuit>-<identity>/INSECURE-DEV-<seed's tag or key's hash>.key`
//!
//! A circuit that changes gets another identity and so another folder: a stale key is never picked up.

use super::file::{self, KeyFileError, KeyHeader, Trust};
use super::{CircuitKey, GenerateError, INSECURE_DEV, KeyId, KeyOrigin, MappedKey};
use crate::circuit::Circuit;
use crate::matrices::{CircuitIdentity, MatricesError};
use crate::setup::Seed;
use std::collections::BTreeSet;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};
use thiserror::Error;

/// Ending of key files.
const ENDING: &str = "key";

/// Why the cache gives no key.
#[derive(Debug, Error)]
pub enum KeyStoreError {
    /// A file is unusable.
    #[error(transparent)]
    File(#[from] KeyFileError),
    /// The folder is unusable.
    #[error("key cache {path}: {source}")]
    Folder {
        /// The folder.
        path: PathBuf,
        /// What failed.
        source: io::Error,
    },
    /// No key could be made.
    #[error(transparent)]
    Generate(#[from] GenerateError),
    /// No such key.
    #[error(
        "no key {key} for circuit {circuit} in {path}; make it with `millrace setup`, or copy its file there"
    )]
    Missing {
        /// The circuit.
        circuit: Circuit,
        /// The key.
        key: KeyId,
        /// The folder searched.
        path: PathBuf,
    },
    /// The file holds the key of another circuit.
    #[error("{path} holds a key for circuit {got}, not for {expected}")]
    WrongCircuit {
        /// The file.
        path: PathBuf,
        /// Identity wanted.
        expected: CircuitIdentity,
        /// Identity found.
        got: CircuitIdentity,
    },
    /// The user has no home directory.
    #[error("no home directory to keep keys in; name a directory for keys")]
    NoHome,
}

impl From<MatricesError> for KeyStoreError {
    fn from(error: MatricesError) -> Self {
        Self::Generate(error.into())
    }
}

/// A folder of keys.
#[derive(Debug, Clone)]
pub struct KeyStore {
    directory: PathBuf,
}

impl KeyStore {
    /// Keys under this directory.
    pub fn new(directory: impl Into<PathBuf>) -> Self {
        Self {
            directory: directory.into(),
        }
    }

    /// Keys under `millrace/keys` in the user's cache directory: `$XDG_CACHE_HOME` or `~/.cache`.
    ///
    /// # Errors
    /// If the user has no home directory.
    pub fn in_user_cache() -> Result<Self, KeyStoreError> {
        let absolute = |name| {
            std::env::var_os(name)
                .map(PathBuf::from)
                .filter(|p| p.is_absolute())
        };
        let cache =
            absolute("XDG_CACHE_HOME").or_else(|| absolute("HOME").map(|h| h.join(".cache")));
        Ok(Self::new(
            cache
                .ok_or(KeyStoreError::NoHome)?
                .join("millrace")
                .join("keys"),
        ))
    }

    /// The directory.
    pub fn directory(&self) -> &Path {
        &self.directory
    }

    /// The folder of one circuit.
    pub fn folder(&self, circuit: &Circuit, identity: &CircuitIdentity) -> PathBuf {
        self.directory
            .join(format!("{circuit}-{}", identity.short()))
    }

    /// The development key of a circuit for this seed: read if it is there, generated and kept otherwise.
    ///
    /// # Errors
    /// If the file there is damaged, or no key can be made or written.
    pub fn development_key(
        &self,
        circuit: Circuit,
        seed: &Seed,
    ) -> Result<CircuitKey, KeyStoreError> {
        let identity = circuit.identity()?;
        let path = self.development_path(circuit, &identity, seed);
        if path.exists() {
            return self.read(&path, &identity);
        }
        let key = CircuitKey::generate(circuit, seed)?;
        self.write(&key, &path)?;
        Ok(key)
    }

    /// The development key of a circuit for this seed, left in its file; generated and kept first if it is not there.
    ///
    /// # Errors
    /// As [`KeyStore::development_key`], except that damage of a section shows at its first use.
    pub fn open_development_key(
        &self,
        circuit: Circuit,
        seed: &Seed,
    ) -> Result<MappedKey, KeyStoreError> {
        let identity = circuit.identity()?;
        let path = self.development_path(circuit, &identity, seed);
        if !path.exists() {
            self.write(&CircuitKey::generate(circuit, seed)?, &path)?;
        }
        self.open_path(&path, &identity)
    }

    fn development_path(
        &self,
        circuit: Circuit,
        identity: &CircuitIdentity,
        seed: &Seed,
    ) -> PathBuf {
        let name = format!("{INSECURE_DEV}-seed-{}.{ENDING}", seed.tag());
        self.folder(&circuit, identity).join(name)
    }

    /// Keeps a key under its own id and says where.
    ///
    /// # Errors
    /// If it cannot be written.
    pub fn keep(&self, key: &CircuitKey) -> Result<PathBuf, KeyStoreError> {
        let path = self
            .folder(&key.circuit, &key.identity)
            .join(format!("{}.{ENDING}", key.id));
        self.write(key, &path)?;
        Ok(path)
    }

    /// The key with this id for a circuit of this identity.
    ///
    /// # Errors
    /// If it is missing or its file unusable.
    pub fn load(
        &self,
        circuit: Circuit,
        identity: &CircuitIdentity,
        id: &KeyId,
    ) -> Result<CircuitKey, KeyStoreError> {
        self.read(&self.find(circuit, identity, id)?, identity)
    }

    /// The key with this id for a circuit of this identity, left in its file.
    ///
    /// # Errors
    /// If it is missing or its file unusable; damage of a section shows at its first use.
    pub fn open(
        &self,
        circuit: Circuit,
        identity: &CircuitIdentity,
        id: &KeyId,
    ) -> Result<MappedKey, KeyStoreError> {
        self.open_path(&self.find(circuit, identity, id)?, identity)
    }

    fn find(
        &self,
        circuit: Circuit,
        identity: &CircuitIdentity,
        id: &KeyId,
    ) -> Result<PathBuf, KeyStoreError> {
        let folder = self.folder(&circuit, identity);
        for path in key_files(&folder)? {
            // A damaged neighbour must not hide the key that is wanted.
            if file::read_header(&path).is_ok_and(|header| header.key_id == *id) {
                return Ok(path);
            }
        }
        Err(KeyStoreError::Missing {
            circuit,
            key: *id,
            path: folder,
        })
    }

    /// All key files with what they say about themselves, or why they are unusable, in the order of their paths.
    ///
    /// # Errors
    /// If the directory cannot be read.
    pub fn list(&self) -> Result<Vec<(PathBuf, Result<KeyHeader, KeyFileError>)>, KeyStoreError> {
        let mut found = Vec::new();
        for folder in entries(&self.directory)? {
            if folder.is_dir() {
                found.extend(key_files(&folder)?);
            }
        }
        Ok(found
            .into_iter()
            .map(|path| (path.clone(), file::read_header(&path)))
            .collect())
    }

    fn read(&self, path: &Path, identity: &CircuitIdentity) -> Result<CircuitKey, KeyStoreError> {
        let key = file::read(path, Trust::OwnCache)?;
        check_loaded(path, identity, &key.identity, &key.circuit, &key.id)?;
        Ok(key)
    }

    fn open_path(
        &self,
        path: &Path,
        identity: &CircuitIdentity,
    ) -> Result<MappedKey, KeyStoreError> {
        let key = match MappedKey::open(path)? {
            Some(key) => key,
            None => {
                tracing::info!(path = %path.display(), "replacing a key file of version 1 by one of version 2");
                file::write(&file::read(path, Trust::OwnCache)?, path)?;
                MappedKey::open(path)?.ok_or_else(|| KeyFileError::UnknownVersion(path.into()))?
            }
        };
        check_loaded(
            path,
            identity,
            &key.header().identity,
            &key.circuit(),
            &key.id(),
        )?;
        Ok(key)
    }

    fn write(&self, key: &CircuitKey, path: &Path) -> Result<(), KeyStoreError> {
        let folder = self.folder(&key.circuit, &key.identity);
        std::fs::create_dir_all(&folder).map_err(|source| KeyStoreError::Folder {
            path: folder,
            source,
        })?;
        Ok(file::write(key, path)?)
    }
}

fn check_loaded(
    path: &Path,
    expected: &CircuitIdentity,
    got: &CircuitIdentity,
    circuit: &Circuit,
    id: &KeyId,
) -> Result<(), KeyStoreError> {
    if got != expected {
        let (path, expected, got) = (path.to_owned(), *expected, *got);
        return Err(KeyStoreError::WrongCircuit {
            path,
            expected,
            got,
        });
    }
    if id.origin == KeyOrigin::InsecureDev && is_first_time(id) {
        tracing::warn!(%circuit, key = %id, "loaded an INSECURE-DEV key");
    }
    Ok(())
}

/// Whether this process loads the key for the first time: one warning a key is read, ten are not.
fn is_first_time(id: &KeyId) -> bool {
    static SEEN: Mutex<BTreeSet<String>> = Mutex::new(BTreeSet::new());
    let mut seen = SEEN.lock().unwrap_or_else(PoisonError::into_inner);
    seen.insert(id.to_string())
}

fn key_files(folder: &Path) -> Result<Vec<PathBuf>, KeyStoreError> {
    let mut files = entries(folder)?;
    files.retain(|path| path.extension().is_some_and(|ending| ending == ENDING));
    Ok(files)
}

/// Sorted entries; none if the folder does not exist.
fn entries(folder: &Path) -> Result<Vec<PathBuf>, KeyStoreError> {
    let failed = |source| KeyStoreError::Folder {
        path: folder.to_owned(),
        source,
    };
    let entries = match std::fs::read_dir(folder) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(vec![]),
        other => other.map_err(failed)?,
    };
    let mut paths: Vec<PathBuf> = entries
        .map(|entry| entry.map(|e| e.path()))
        .collect::<Result<_, _>>()
        .map_err(failed)?;
    paths.sort();
    Ok(paths)
}

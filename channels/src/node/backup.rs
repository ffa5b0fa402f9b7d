//! The encrypted backup: the machine's records in one file, replaced whole, hot.
//!
//! ```text
//! step changed something → at the next tick, at most once a period: all records → postcard → XChaCha20-Poly1305 → file
//! file + key → records → `restore` → new store
//! ```
//! `"MLRBAK" · version u8 (1) · nonce 24 · ciphertext`; what comes before the ciphertext is authenticated with it. The key comes
//! from the wallet's phrase, so phrase and file are enough. The file may be old: nothing is lost by that but halves of a peer
//! that it never sends again.

use super::runtime::State;
use crate::machine::DamagedRecord;
use crate::machine::effect::{Key, Record};
use crate::store::StoreError;
use crate::types::{ChannelId, PaymentHash};
use chacha20poly1305::aead::{Aead, KeyInit, Payload};
use chacha20poly1305::{XChaCha20Poly1305, XNonce};
use rand::RngCore;
use rand::rngs::OsRng;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::mpsc::{SyncSender, sync_channel};
use std::time::{Duration, Instant};
use thiserror::Error;
use zeroize::Zeroizing;

const MAGIC: &[u8] = b"MLRBAK\x01";
const NONCE_BYTES: usize = 24;
/// The file is replaced at most this often.
const PERIOD: Duration = Duration::from_secs(5);

/// Where the backup goes.
#[derive(Clone)]
pub struct BackupTarget {
    /// The file.
    pub path: PathBuf,
    /// Its key.
    pub key: Zeroizing<[u8; 32]>,
}

/// Why a backup cannot be written or read.
#[derive(Debug, Error)]
pub enum BackupError {
    /// The disk failed.
    #[error("{path}: {source}")]
    Io {
        /// The file.
        path: PathBuf,
        /// What failed.
        source: io::Error,
    },
    /// The file is no backup.
    #[error("{0} is no backup of this program's version")]
    NotABackup(PathBuf),
    /// The key is another, or the file was changed.
    #[error("{0} does not open: it belongs to another recovery phrase, or is damaged")]
    Sealed(PathBuf),
    /// A record does not decode.
    #[error(transparent)]
    Damaged(#[from] DamagedRecord),
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// There is something that the backup would replace.
    #[error(
        "the database holds {0} channels already: a backup is older than what is there; restore into an empty folder"
    )]
    NotEmpty(usize),
}

/// Replaces the file whenever something has changed, on a thread of its own.
pub(super) struct Keeper {
    writer: Option<SyncSender<Vec<Record>>>,
    changed: bool,
    last: Option<Instant>,
}

impl Keeper {
    pub(super) fn new(target: Option<BackupTarget>) -> Self {
        let writer = target.map(|target| {
            let (queue, jobs) = sync_channel::<Vec<Record>>(1);
            std::thread::spawn(move || {
                while let Ok(records) = jobs.recv() {
                    if let Err(error) = write(&target, &records) {
                        tracing::error!(%error, "the backup was not written");
                    }
                }
            });
            queue
        });
        Self {
            writer,
            changed: true,
            last: None,
        }
    }

    pub(super) fn note(&mut self, records: &[Record]) {
        self.changed |= !records.is_empty();
    }

    pub(super) fn tick(&mut self, state: &State) {
        let Some(writer) = &self.writer else { return };
        let due = self.last.is_none_or(|last| last.elapsed() >= PERIOD);
        if self.changed && due && writer.try_send(state.node.records()).is_ok() {
            self.changed = false;
            self.last = Some(Instant::now());
        }
    }
}

fn plain(records: &[Record]) -> Zeroizing<Vec<u8>> {
    let pairs: Vec<(u8, [u8; 32], &[u8])> = records
        .iter()
        .filter_map(|record| {
            let (kind, name) = match record.key {
                Key::Channel(ChannelId(name)) => (1, name),
                Key::Payment(PaymentHash(name)) => (2, name),
                Key::Invoice(PaymentHash(name)) => (3, name),
                Key::Preimage(PaymentHash(name)) => (4, name),
            };
            Some((kind, name, record.value.as_deref()?))
        })
        .collect();
    Zeroizing::new(postcard::to_stdvec(&pairs).expect("plain data serialises into memory"))
}

/// Writes a backup of these records.
///
/// # Errors
/// [`BackupError::Io`]; the old file stays.
pub fn write(target: &BackupTarget, records: &[Record]) -> Result<(), BackupError> {
    let mut nonce = [0; NONCE_BYTES];
    OsRng.fill_bytes(&mut nonce);
    let mut bytes = MAGIC.to_vec();
    bytes.extend(nonce);
    let sealed = cipher(&target.key)
        .encrypt(
            &XNonce::from(nonce),
            Payload {
                msg: &plain(records),
                aad: &bytes,
            },
        )
        .expect("the cipher takes any length that fits into memory");
    bytes.extend(sealed);
    replace(&target.path, &bytes).map_err(|source| BackupError::Io {
        path: target.path.clone(),
        source,
    })
}

fn replace(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let beside = path.with_extension("new");
    let mut file = OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o600)
        .open(&beside)?;
    file.write_all(bytes)?;
    file.sync_all()?;
    fs::rename(&beside, path)?;
    let folder = path
        .parent()
        .filter(|folder| !folder.as_os_str().is_empty());
    File::open(folder.unwrap_or(Path::new(".")))?.sync_all()
}

/// The records of a backup.
///
/// # Errors
/// [`BackupError`].
pub fn read(target: &BackupTarget) -> Result<Vec<(Key, Vec<u8>)>, BackupError> {
    let path = &target.path;
    let bytes = fs::read(path).map_err(|source| BackupError::Io {
        path: path.clone(),
        source,
    })?;
    let start = MAGIC.len() + NONCE_BYTES;
    if !bytes.starts_with(MAGIC) || bytes.len() < start {
        return Err(BackupError::NotABackup(path.clone()));
    }
    let (head, sealed) = bytes.split_at(start);
    let mut nonce = XNonce::default();
    nonce.copy_from_slice(&head[MAGIC.len()..]);
    let opened = cipher(&target.key).decrypt(
        &nonce,
        Payload {
            msg: sealed,
            aad: head,
        },
    );
    let plain = Zeroizing::new(opened.map_err(|_| BackupError::Sealed(path.clone()))?);
    let pairs: Vec<(u8, [u8; 32], Vec<u8>)> =
        postcard::from_bytes(&plain).map_err(|_| BackupError::NotABackup(path.clone()))?;
    pairs
        .into_iter()
        .map(|(kind, name, value)| {
            let key = match kind {
                1 => Key::Channel(ChannelId(name)),
                2 => Key::Payment(PaymentHash(name)),
                3 => Key::Invoice(PaymentHash(name)),
                4 => Key::Preimage(PaymentHash(name)),
                _ => return Err(BackupError::NotABackup(path.clone())),
            };
            Ok((key, value))
        })
        .collect()
}

fn cipher(key: &[u8; 32]) -> XChaCha20Poly1305 {
    XChaCha20Poly1305::new_from_slice(key).expect("the cipher's keys have 32 bytes")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_backup_opens_with_its_key_only_and_untouched() {
        let folder = tempfile::tempdir().unwrap();
        let target = BackupTarget {
            path: folder.path().join("channels.backup"),
            key: Zeroizing::new([7; 32]),
        };
        let record = Record {
            key: Key::Channel(ChannelId([1; 32])),
            value: Some(vec![1, 2, 3]),
        };
        write(&target, &[record]).unwrap();
        let expected = vec![(Key::Channel(ChannelId([1; 32])), vec![1, 2, 3])];
        assert_eq!(read(&target).unwrap(), expected);
        let other = BackupTarget {
            key: Zeroizing::new([8; 32]),
            ..target.clone()
        };
        assert!(matches!(read(&other), Err(BackupError::Sealed(_))));
        let mut bytes = fs::read(&target.path).unwrap();
        for at in [0, 8, bytes.len() - 1] {
            bytes[at] ^= 1;
            fs::write(&target.path, &bytes).unwrap();
            assert!(read(&target).is_err(), "byte {at}");
            bytes[at] ^= 1;
        }
    }
}

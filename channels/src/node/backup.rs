//! The encrypted backup: the machine's records in one file, replaced whole, hot.
//!
//! ```text
//! step changed something → at the next tick, at most once a period: all records → postcard → XChaCha20-Poly1305 → file
//! file + key → records → `restore` → new store
//! ```
//! Beside the machine's records it has the invoices that were paid on the rollup: without them a transfer could pay a second
//! invoice; and the texts of invoices that can still be paid, which say until when, and to whom on the rollup.
//!
//! `"MLRBAK" · version u8 (1) · nonce 24 · ciphertext`; what comes before the ciphertext is authenticated with it. The key comes
//! from the wallet's phrase, so phrase and file are enough. The file may be old: nothing is lost by that but halves of a peer
//! that it never sends again.

use super::paid::{self, RollupPayment};
use super::runtime::State;
use crate::machine::DamagedRecord;
use crate::machine::effect::{Key, Record};
use crate::store::{RimRecord, Store, StoreError, Table};
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
/// The kind of a mark among the records.
const MARK: u8 = 5;
/// The kind of an invoice's text.
const TEXT: u8 = 6;
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

/// What a backup holds.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Backup {
    /// The machine's records.
    pub records: Vec<(Key, Vec<u8>)>,
    /// Invoices that were paid on the rollup; none in backups of older programs.
    pub marks: Vec<(PaymentHash, RollupPayment)>,
    /// Texts of invoices that could still be paid, in the order of making; none in backups of older programs.
    pub texts: Vec<(PaymentHash, String)>,
}

/// Replaces the file whenever something has changed, on a thread of its own.
pub(super) struct Keeper {
    writer: Option<SyncSender<Backup>>,
    changed: bool,
    last: Option<Instant>,
}

impl Keeper {
    pub(super) fn new(target: Option<BackupTarget>) -> Self {
        let writer = target.map(|target| {
            let (queue, jobs) = sync_channel::<Backup>(1);
            std::thread::spawn(move || {
                while let Ok(backup) = jobs.recv() {
                    if let Err(error) = write(&target, &backup) {
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

    pub(super) fn note(&mut self, records: &[Record], rim: &[RimRecord]) {
        let marked = rim.iter().any(|it| it.table == Table::RollupPayments);
        self.changed |= marked || !records.is_empty();
    }

    pub(super) fn tick(&mut self, state: &State, store: &Store) {
        let Some(writer) = &self.writer else { return };
        let due = self.last.is_none_or(|last| last.elapsed() >= PERIOD);
        if !(self.changed && due) {
            return;
        }
        let beside = paid::marks(store).and_then(|marks| Ok((marks, state.payable_texts(store)?)));
        let (marks, texts) = match beside {
            Ok(beside) => beside,
            Err(error) => {
                tracing::error!(%error, "the backup was not written");
                return;
            }
        };
        let records = state.node.records().into_iter();
        let records = records.filter_map(|record| Some((record.key, record.value?)));
        let backup = Backup {
            records: records.collect(),
            marks,
            texts,
        };
        if writer.try_send(backup).is_ok() {
            self.changed = false;
            self.last = Some(Instant::now());
        }
    }
}

fn plain(backup: &Backup) -> Zeroizing<Vec<u8>> {
    let marks: Vec<([u8; 32], Vec<u8>)> = backup
        .marks
        .iter()
        .map(|(hash, payment)| {
            let bytes = postcard::to_stdvec(payment);
            (hash.0, bytes.expect("plain data serialises into memory"))
        })
        .collect();
    let mut pairs: Vec<(u8, [u8; 32], &[u8])> = backup
        .records
        .iter()
        .map(|(key, value)| {
            let (kind, name) = match *key {
                Key::Channel(ChannelId(name)) => (1, name),
                Key::Payment(PaymentHash(name)) => (2, name),
                Key::Invoice(PaymentHash(name)) => (3, name),
                Key::Preimage(PaymentHash(name)) => (4, name),
            };
            (kind, name, value.as_slice())
        })
        .collect();
    let marks = marks.iter();
    pairs.extend(marks.map(|(name, bytes)| (MARK, *name, bytes.as_slice())));
    let texts = backup.texts.iter();
    pairs.extend(texts.map(|(hash, text)| (TEXT, hash.0, text.as_bytes())));
    Zeroizing::new(postcard::to_stdvec(&pairs).expect("plain data serialises into memory"))
}

/// Writes a backup.
///
/// # Errors
/// [`BackupError::Io`]; the old file stays.
pub fn write(target: &BackupTarget, backup: &Backup) -> Result<(), BackupError> {
    let mut nonce = [0; NONCE_BYTES];
    OsRng.fill_bytes(&mut nonce);
    let mut bytes = MAGIC.to_vec();
    bytes.extend(nonce);
    let sealed = cipher(&target.key)
        .encrypt(
            &XNonce::from(nonce),
            Payload {
                msg: &plain(backup),
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

/// What a backup holds.
///
/// # Errors
/// [`BackupError`].
pub fn read(target: &BackupTarget) -> Result<Backup, BackupError> {
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
    let mut backup = Backup::default();
    for (kind, name, value) in pairs {
        let key = match kind {
            1 => Key::Channel(ChannelId(name)),
            2 => Key::Payment(PaymentHash(name)),
            3 => Key::Invoice(PaymentHash(name)),
            4 => Key::Preimage(PaymentHash(name)),
            MARK => {
                let payment = postcard::from_bytes(&value);
                let payment = payment.map_err(|_| BackupError::NotABackup(path.clone()))?;
                backup.marks.push((PaymentHash(name), payment));
                continue;
            }
            TEXT => {
                let text = String::from_utf8(value);
                let text = text.map_err(|_| BackupError::NotABackup(path.clone()))?;
                backup.texts.push((PaymentHash(name), text));
                continue;
            }
            _ => return Err(BackupError::NotABackup(path.clone())),
        };
        backup.records.push((key, value));
    }
    Ok(backup)
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
        let mark = RollupPayment {
            place: paid::Place { batch: 2, row: 3 },
            amount: 4,
            time: 5,
            twice: true,
        };
        let backup = Backup {
            records: vec![(Key::Channel(ChannelId([1; 32])), vec![1, 2, 3])],
            marks: vec![(PaymentHash([6; 32]), mark)],
            texts: vec![(PaymentHash([9; 32]), "mlr".to_owned())],
        };
        write(&target, &backup).unwrap();
        assert_eq!(read(&target).unwrap(), backup);
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

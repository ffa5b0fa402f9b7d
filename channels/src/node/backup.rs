//! The encrypted backup: the machine's records in one file, hot.
//!
//! ```text
//! start: all records ─┐
//! step → changed keys ┴→ after a tick, at most once a period, and at the end → a chunk → a thread of its own → file (`file.rs`)
//! file + key → records → `restore` → new store
//! ```
//! A chunk holds what its records are at one moment, so that they agree with each other; it costs what has changed, not what
//! there is. Beside the machine's records there are the invoices that were paid on the rollup: without them a transfer could pay
//! a second invoice; and the texts of invoices that can still be paid, which say until when, and to whom on the rollup.
//!
//! The key comes from the wallet's phrase, so phrase and file are enough. The file may be old: nothing is lost by that but halves
//! of a peer that it never sends again.

mod file;

use super::paid::{self, RollupPayment};
use super::runtime::State;
use crate::machine::DamagedRecord;
use crate::machine::effect::{Key, Record};
use crate::store::{RimRecord, Store, StoreError, Table};
use crate::types::PaymentHash;
use file::{Change, Log};
use indexmap::IndexSet;
use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{SyncSender, sync_channel};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};
use thiserror::Error;
use zeroize::Zeroizing;

/// The kind of a mark among the records.
const MARK: u8 = 5;
/// The kind of an invoice's text.
const TEXT: u8 = 6;
/// The file is written at most this often.
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
    /// Bytes at the file's end that do not open: a crash came while they were written, or something changed them. What they held
    /// is missing.
    pub unread_bytes: u64,
}

/// What has changed since the last chunk.
#[derive(Default)]
struct Changed {
    keys: IndexSet<Key>,
    marks: IndexSet<PaymentHash>,
    texts: IndexSet<PaymentHash>,
}

impl Changed {
    fn is_empty(&self) -> bool {
        self.keys.is_empty() && self.marks.is_empty() && self.texts.is_empty()
    }
}

/// What the writer is given: a chunk, and whether the file begins with it.
struct Job {
    begins: bool,
    packed: Zeroizing<Vec<u8>>,
}

/// Keeps the file up to date, on a thread of its own.
pub(super) struct Keeper {
    writer: Option<(SyncSender<Job>, JoinHandle<()>)>,
    changed: Changed,
    /// Set until the file has been begun, and by the writer if it could not be written.
    begin: Arc<AtomicBool>,
    last: Option<Instant>,
}

impl Keeper {
    /// Starts the writer, whose first file has everything.
    pub(super) fn new(target: Option<BackupTarget>) -> Self {
        let begin = Arc::new(AtomicBool::new(true));
        let failed = begin.clone();
        let writer = target.map(|target| {
            let (queue, jobs) = sync_channel::<Job>(1);
            let thread = std::thread::spawn(move || {
                let mut log = None;
                while let Ok(job) = jobs.recv() {
                    let done = match log.take() {
                        _ if job.begins => begin_file(&target, &job.packed),
                        Some(log) => Log::append(log, &job.packed),
                        // The file is to be begun anew, and this chunk was on its way already.
                        None => continue,
                    };
                    match done {
                        Ok(written) => log = Some(written),
                        Err(error) => {
                            tracing::error!(%error, "the backup was not written; it is tried again");
                            failed.store(true, Ordering::Release);
                        }
                    }
                }
            });
            (queue, thread)
        });
        Self {
            writer,
            changed: Changed::default(),
            begin,
            last: None,
        }
    }

    /// Notes what is about to be stored.
    pub(super) fn note(&mut self, records: &[Record], rim: &[RimRecord]) {
        if self.writer.is_none() {
            return;
        }
        let keys = records.iter().map(|record| record.key);
        self.changed.keys.extend(keys);
        for RimRecord { table, name, .. } in rim {
            let noted = match table {
                Table::RollupPayments => &mut self.changed.marks,
                Table::Texts => &mut self.changed.texts,
                _ => continue,
            };
            let name = name.as_slice().try_into();
            noted.extend(name.map(PaymentHash));
        }
    }

    /// Writes what has changed, if it is time. To be called when all of it is stored.
    pub(super) fn tick(&mut self, state: &State, store: &Store) {
        if self.last.is_none_or(|last| last.elapsed() >= PERIOD) {
            self.write(state, store);
        }
    }

    /// Writes what has changed and waits for it: the node stops.
    pub(super) fn finish(mut self, state: &State, store: &Store) {
        let started = Instant::now();
        self.write(state, store);
        // The writer may have had something to do still.
        while self.writer.is_some() && self.is_behind() && started.elapsed() < PERIOD {
            std::thread::sleep(Duration::from_millis(5));
            self.write(state, store);
        }
        if let Some((queue, thread)) = self.writer.take() {
            drop(queue);
            // A panic of the writer was told when it came.
            let _ = thread.join();
        }
    }

    fn is_behind(&self) -> bool {
        self.begin.load(Ordering::Acquire) || !self.changed.is_empty()
    }

    fn write(&mut self, state: &State, store: &Store) {
        let Some((queue, _)) = self.writer.as_ref().filter(|_| self.is_behind()) else {
            return;
        };
        let begins = self.begin.swap(false, Ordering::AcqRel);
        let changes = match begins {
            true => everything(state, store),
            false => changes(&self.changed, state, store),
        };
        let changes = changes.inspect_err(|error| tracing::error!(%error, "no backup is written"));
        let sent = changes.is_ok_and(|changes| {
            let packed = file::pack(changes);
            queue.try_send(Job { begins, packed }).is_ok()
        });
        if sent {
            self.changed = Changed::default();
            self.last = Some(Instant::now());
        } else if begins {
            self.begin.store(true, Ordering::Release);
        }
    }
}

/// Begins a file. *A node that is started before it is restored would put an empty one in the place of what it needs*: one with
/// channels, payments or invoices that this node does not know is set aside. They are kept for good, and what is stored is never
/// behind its backup, so a node's own file has none.
fn begin_file(target: &BackupTarget, packed: &[u8]) -> Result<Log, BackupError> {
    let lasts = |kind, name: &[u8; 32]| {
        let key = Key::from_parts(kind, *name);
        matches!(
            key,
            Some(Key::Channel(_) | Key::Payment(_) | Key::Invoice(_))
        )
    };
    if let Some(aside) = file::set_aside(target, packed, lasts)? {
        tracing::warn!(
            backup = %target.path.display(), aside = %aside.display(),
            "the backup has channels or payments that this node does not know, or does not open; it was moved aside. If the data \
             folder was lost: stop the node and restore from it into an empty folder",
        );
    }
    Log::begin(target, packed)
}

fn everything(state: &State, store: &Store) -> Result<Vec<Change>, StoreError> {
    let mut changes = of_records(state.node.records());
    let marks = paid::marks(store)?;
    changes.extend(marks.iter().map(|(hash, mark)| of_mark(hash, Some(mark))));
    let texts = state.payable_texts(store)?.into_iter();
    changes.extend(texts.map(|(hash, text)| (TEXT, hash.0, Some(text.into_bytes()))));
    Ok(changes)
}

fn changes(changed: &Changed, state: &State, store: &Store) -> Result<Vec<Change>, StoreError> {
    let keys = changed.keys.iter().copied();
    let mut changes = of_records(state.node.records_at(keys.collect()));
    for hash in &changed.marks {
        changes.push(of_mark(hash, paid::stored(store, hash)?.as_ref()));
    }
    let invoices = changed.keys.iter().filter_map(|key| match key {
        Key::Invoice(hash) => Some(hash),
        _ => None,
    });
    let texts: IndexSet<&PaymentHash> = invoices.chain(&changed.texts).collect();
    for hash in texts {
        let text = state.payable_text(store, hash)?;
        changes.push((TEXT, hash.0, text.map(String::into_bytes)));
    }
    Ok(changes)
}

fn of_records(records: Vec<Record>) -> Vec<Change> {
    let change = |Record { key, value }| {
        let (kind, name) = key.parts();
        (kind, name, value)
    };
    records.into_iter().map(change).collect()
}

fn of_mark(hash: &PaymentHash, mark: Option<&RollupPayment>) -> Change {
    let bytes = |mark| postcard::to_stdvec(mark).expect("plain data serialises into memory");
    (MARK, hash.0, mark.map(bytes))
}

/// What a backup holds.
///
/// # Errors
/// [`BackupError`].
pub fn read(target: &BackupTarget) -> Result<Backup, BackupError> {
    let not_a_backup = || BackupError::NotABackup(target.path.clone());
    let (content, unread_bytes) = file::read(target)?;
    let mut backup = Backup {
        unread_bytes,
        ..Backup::default()
    };
    for ((kind, name), value) in content {
        match kind {
            MARK => {
                let mark = postcard::from_bytes(&value).map_err(|_| not_a_backup())?;
                backup.marks.push((PaymentHash(name), mark));
            }
            TEXT => {
                let text = String::from_utf8(value).map_err(|_| not_a_backup())?;
                backup.texts.push((PaymentHash(name), text));
            }
            kind => {
                let key = Key::from_parts(kind, name).ok_or_else(not_a_backup)?;
                backup.records.push((key, value));
            }
        }
    }
    Ok(backup)
}

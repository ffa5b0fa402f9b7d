//! The backup's file: a log of encrypted changes, begun anew when most of it is old.
//!
//! ```text
//! file    = "MLRBAK" · version u8 (2) · chunks
//! chunk   = bytes of the ciphertext u64 · nonce 24 · XChaCha20-Poly1305 of changes
//! changes = postcard list of (kind u8 · name 32 · optional value); no value removes what was there
//! ```
//! Authenticated beside a chunk: magic and version, its length, and the nonce of the chunk before it (zeros before the first), so
//! no chunk can be left out, exchanged, or taken from another file; only the end can be missing, as if the file were older. That
//! happens by itself if a crash, or a copy, comes in the middle of a write.
//!
//! Version 1 is one ciphertext behind one nonce, of a list without removals.

use super::{BackupError, BackupTarget};
use chacha20poly1305::aead::{Aead, KeyInit, Payload};
use chacha20poly1305::{XChaCha20Poly1305, XNonce};
use indexmap::IndexMap;
use rand::RngCore;
use rand::rngs::OsRng;
use std::collections::HashSet;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use zeroize::{Zeroize, Zeroizing};

const MAGIC: &[u8] = b"MLRBAK\x02";
const MAGIC_1: &[u8] = b"MLRBAK\x01";
const NONCE_BYTES: usize = 24;
const LENGTH_BYTES: usize = 8;
/// A file is not begun anew for less than this.
const MIN_BYTES: u64 = 1 << 20;

type Nonce = [u8; NONCE_BYTES];

/// A record, or its removal: kind, name, value.
pub(super) type Change = (u8, [u8; 32], Option<Vec<u8>>);

/// What a file holds: the newest value of each record, in the order in which the records came.
pub(super) type Content = IndexMap<(u8, [u8; 32]), Vec<u8>>;

/// Changes as they are encrypted. The values are erased.
pub(super) fn pack(mut changes: Vec<Change>) -> Zeroizing<Vec<u8>> {
    let values = changes.iter().map(|(_, _, value)| value.as_ref());
    let bytes: usize = values.map(|value| value.map_or(0, Vec::len) + 48).sum();
    // As much as is needed: growing would leave copies behind.
    let packed = postcard::to_extend(&changes, Vec::with_capacity(bytes));
    changes.iter_mut().for_each(|change| change.2.zeroize());
    Zeroizing::new(packed.expect("plain data serialises into memory"))
}

/// A file that is written.
pub(super) struct Log {
    target: BackupTarget,
    last: Nonce,
    length: u64,
    /// What it was begun with.
    first: u64,
}

impl Log {
    /// Puts a file in the place of what is there.
    pub(super) fn begin(target: &BackupTarget, packed: &[u8]) -> Result<Self, BackupError> {
        let (last, chunk) = seal(target, &[0; NONCE_BYTES], packed);
        let file = [MAGIC, &chunk].concat();
        replace(&target.path, &file).map_err(|source| io_error(target, source))?;
        let length = file.len() as u64;
        Ok(Self {
            target: target.clone(),
            last,
            length,
            first: length,
        })
    }

    /// Adds changes. After an error the file has to be begun anew.
    pub(super) fn append(mut self, packed: &[u8]) -> Result<Self, BackupError> {
        let (last, chunk) = seal(&self.target, &self.last, packed);
        append(&self.target.path, self.length, &chunk)
            .map_err(|source| io_error(&self.target, source))?;
        self.last = last;
        self.length += chunk.len() as u64;
        if self.length - self.first > self.first.max(MIN_BYTES) {
            return self.compact();
        }
        Ok(self)
    }

    /// Begins the file anew with what it holds.
    fn compact(self) -> Result<Self, BackupError> {
        let (content, unread) = read(&self.target)?;
        if unread != 0 {
            return Err(BackupError::Sealed(self.target.path));
        }
        let changes = content.into_iter();
        let changes = changes.map(|((kind, name), value)| (kind, name, Some(value)));
        Self::begin(&self.target, &pack(changes.collect()))
    }
}

/// What a file holds, and how many bytes at its end could not be read.
pub(super) fn read(target: &BackupTarget) -> Result<(Content, u64), BackupError> {
    let path = &target.path;
    let bytes = fs::read(path).map_err(|source| io_error(target, source))?;
    let not_a_backup = || BackupError::NotABackup(path.clone());
    if let Some(sealed) = bytes.strip_prefix(MAGIC_1) {
        let (nonce, sealed) = sealed.split_first_chunk().ok_or_else(not_a_backup)?;
        let plain = open(target, nonce, sealed, &bytes[..MAGIC_1.len() + NONCE_BYTES]);
        let plain = plain.ok_or_else(|| BackupError::Sealed(path.clone()))?;
        let pairs: Vec<(u8, [u8; 32], Vec<u8>)> =
            postcard::from_bytes(&plain).map_err(|_| not_a_backup())?;
        let pairs = pairs.into_iter();
        let content = pairs.map(|(kind, name, value)| ((kind, name), value));
        return Ok((content.collect(), 0));
    }
    let mut rest = bytes.strip_prefix(MAGIC).ok_or_else(not_a_backup)?;
    let (mut content, mut previous) = (Content::new(), None);
    while let Some((nonce, plain, behind)) = next(target, previous, rest) {
        let changes: Vec<Change> = postcard::from_bytes(&plain).map_err(|_| not_a_backup())?;
        for (kind, name, value) in changes {
            match value {
                Some(value) => content.insert((kind, name), value),
                None => content.shift_remove(&(kind, name)),
            }
            .zeroize();
        }
        (previous, rest) = (Some(nonce), behind);
    }
    match previous {
        Some(_) => Ok((content, rest.len() as u64)),
        None => Err(BackupError::Sealed(path.clone())),
    }
}

/// Moves a file away that has lasting records which these changes lack, or does not open: to the first name with a number that is
/// free. Says where it is now; none if there is no such file.
///
/// # Errors
/// [`BackupError::Io`] if it cannot be looked at or moved: then nothing may take its place.
pub(super) fn set_aside(
    target: &BackupTarget,
    packed: &[u8],
    lasts: impl Fn(u8, &[u8; 32]) -> bool,
) -> Result<Option<PathBuf>, BackupError> {
    let path = &target.path;
    match read(target) {
        Err(BackupError::Io { source, .. }) if source.kind() == io::ErrorKind::NotFound => {
            return Ok(None);
        }
        Err(error @ BackupError::Io { .. }) => return Err(error),
        Err(_) => {}
        Ok((content, _)) => {
            let changes: Vec<(u8, [u8; 32], Option<&[u8]>)> =
                postcard::from_bytes(packed).expect("what was packed is unpacked");
            let there: HashSet<(u8, [u8; 32])> = changes
                .iter()
                .map(|(kind, name, _)| (*kind, *name))
                .collect();
            let mut names = content.keys();
            if names.all(|it| there.contains(it) || !lasts(it.0, &it.1)) {
                return Ok(None);
            }
        }
    }
    let mut number = 1;
    loop {
        let mut name = path.as_os_str().to_owned();
        name.push(format!(".{number}"));
        let aside = PathBuf::from(name);
        if !aside.try_exists().map_err(|it| io_error(target, it))? {
            fs::rename(path, &aside).map_err(|it| io_error(target, it))?;
            return Ok(Some(aside));
        }
        number += 1;
    }
}

/// The chunk that bytes begin with: its nonce, what it says, and what follows. None if there is none that opens.
fn next<'a>(
    target: &BackupTarget,
    previous: Option<Nonce>,
    bytes: &'a [u8],
) -> Option<(Nonce, Zeroizing<Vec<u8>>, &'a [u8])> {
    let (length, rest) = bytes.split_first_chunk::<LENGTH_BYTES>()?;
    let (nonce, rest) = rest.split_first_chunk::<NONCE_BYTES>()?;
    let (sealed, behind) = rest.split_at_checked(u64::from_be_bytes(*length).try_into().ok()?)?;
    let beside = beside(sealed.len(), &previous.unwrap_or_default());
    let plain = open(target, nonce, sealed, &beside)?;
    Some((*nonce, plain, behind))
}

/// A new nonce, and the chunk under it.
fn seal(target: &BackupTarget, previous: &Nonce, packed: &[u8]) -> (Nonce, Vec<u8>) {
    const TAG_BYTES: usize = 16;
    let mut nonce = [0; NONCE_BYTES];
    OsRng.fill_bytes(&mut nonce);
    let length = packed.len() + TAG_BYTES;
    let payload = Payload {
        msg: packed,
        aad: &beside(length, previous),
    };
    let sealed = cipher(target).encrypt(&XNonce::from(nonce), payload);
    let sealed = sealed.expect("the cipher takes any length that fits into memory");
    let chunk = [&(length as u64).to_be_bytes()[..], &nonce, &sealed].concat();
    (nonce, chunk)
}

fn open(
    target: &BackupTarget,
    nonce: &Nonce,
    sealed: &[u8],
    beside: &[u8],
) -> Option<Zeroizing<Vec<u8>>> {
    let payload = Payload {
        msg: sealed,
        aad: beside,
    };
    let plain = cipher(target).decrypt(&XNonce::from(*nonce), payload);
    plain.ok().map(Zeroizing::new)
}

fn beside(length: usize, previous: &Nonce) -> Vec<u8> {
    [MAGIC, &(length as u64).to_be_bytes(), previous].concat()
}

fn cipher(target: &BackupTarget) -> XChaCha20Poly1305 {
    XChaCha20Poly1305::new_from_slice(&*target.key).expect("the cipher's keys have 32 bytes")
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

fn append(path: &Path, length: u64, bytes: &[u8]) -> io::Result<()> {
    let mut file = OpenOptions::new().append(true).open(path)?;
    // Somebody may have taken the file away, or put another there.
    if file.metadata()?.len() != length {
        return Err(io::Error::other("the file is not as it was left"));
    }
    file.write_all(bytes)?;
    file.sync_data()
}

fn io_error(target: &BackupTarget, source: io::Error) -> BackupError {
    BackupError::Io {
        path: target.path.clone(),
        source,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn target(folder: &Path, key: u8) -> BackupTarget {
        BackupTarget {
            path: folder.join("channels.backup"),
            key: Zeroizing::new([key; 32]),
        }
    }

    fn packed(changes: &[(u8, Option<u8>)]) -> Zeroizing<Vec<u8>> {
        let change = |(name, value): &(u8, Option<u8>)| (1, [*name; 32], value.map(|it| vec![it]));
        pack(changes.iter().map(change).collect())
    }

    /// What is read, and how much is not.
    fn found(target: &BackupTarget) -> Option<(Vec<(u8, u8)>, u64)> {
        let (content, unread) = read(target).ok()?;
        let records = content.iter().map(|((_, name), value)| (name[0], value[0]));
        Some((records.collect(), unread))
    }

    /// A file of three chunks: its bytes, and where each ends.
    fn three(target: &BackupTarget) -> (Vec<u8>, Vec<usize>) {
        let mut ends = Vec::new();
        let mut log = Log::begin(target, &packed(&[(1, Some(1)), (2, Some(2))])).unwrap();
        ends.push(log.length as usize);
        log = log
            .append(&packed(&[(1, Some(3)), (2, None), (4, Some(4))]))
            .unwrap();
        ends.push(log.length as usize);
        log = log.append(&packed(&[(2, Some(5))])).unwrap();
        ends.push(log.length as usize);
        let bytes = fs::read(&target.path).unwrap();
        assert_eq!(bytes.len(), ends[2]);
        (bytes, ends)
    }

    const STATES: [&[(u8, u8)]; 3] = [
        &[(1, 1), (2, 2)],
        &[(1, 3), (4, 4)],
        &[(1, 3), (4, 4), (2, 5)],
    ];

    #[test]
    fn a_file_that_ends_early_is_an_older_one() {
        let folder = tempfile::tempdir().unwrap();
        let target = target(folder.path(), 7);
        let (bytes, ends) = three(&target);
        for length in 0..=bytes.len() {
            fs::write(&target.path, &bytes[..length]).unwrap();
            let whole = ends.iter().rposition(|end| *end <= length);
            let expected = whole.map(|at| (STATES[at].to_vec(), (length - ends[at]) as u64));
            assert_eq!(found(&target), expected, "{length} bytes");
        }
    }

    #[test]
    fn a_changed_byte_ends_what_is_read_and_another_key_reads_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let target = target(folder.path(), 7);
        let (mut bytes, ends) = three(&target);
        for at in 0..bytes.len() {
            bytes[at] ^= 1;
            fs::write(&target.path, &bytes).unwrap();
            bytes[at] ^= 1;
            let chunk = ends.iter().position(|end| at < *end).unwrap();
            let expected = chunk.checked_sub(1);
            let expected =
                expected.map(|at| (STATES[at].to_vec(), (bytes.len() - ends[at]) as u64));
            assert_eq!(found(&target), expected, "byte {at}");
        }
        fs::write(&target.path, &bytes).unwrap();
        let other = BackupTarget {
            key: Zeroizing::new([8; 32]),
            ..target
        };
        assert!(matches!(read(&other), Err(BackupError::Sealed(_))));
        fs::write(&other.path, b"MLRBAK\x03").unwrap();
        assert!(matches!(read(&other), Err(BackupError::NotABackup(_))));
    }

    #[test]
    fn chunks_are_read_in_their_place_only() {
        let folder = tempfile::tempdir().unwrap();
        let target = target(folder.path(), 7);
        let (other, _) = three(&target);
        let (bytes, ends) = three(&target);
        let (first, second, third) = (
            &bytes[..ends[0]],
            &bytes[ends[0]..ends[1]],
            &bytes[ends[1]..],
        );
        let stops_after_first = |rest: &[&[u8]]| {
            fs::write(&target.path, [&[first], rest].concat().concat()).unwrap();
            found(&target).unwrap().0 == STATES[0]
        };
        assert!(stops_after_first(&[third]), "one is left out");
        assert!(stops_after_first(&[third, second]), "exchanged");
        assert!(
            stops_after_first(&[&other[ends[0]..ends[1]]]),
            "of another file"
        );
        assert!(
            stops_after_first(&[&first[MAGIC.len()..]]),
            "the first again"
        );
        assert!(!stops_after_first(&[second]));
    }

    #[test]
    fn a_file_is_begun_anew_when_most_of_it_is_old() {
        let folder = tempfile::tempdir().unwrap();
        let target = target(folder.path(), 7);
        let mut log = Log::begin(&target, &packed(&[(1, Some(1)), (2, Some(2))])).unwrap();
        let mut longest = 0;
        for number in 0..100 {
            let value = vec![number; 64 << 10];
            log = log.append(&pack(vec![(1, [2; 32], Some(value))])).unwrap();
            longest = longest.max(fs::metadata(&target.path).unwrap().len());
        }
        assert!(longest < MIN_BYTES + (200 << 10), "{longest}");
        assert_eq!(found(&target), Some((vec![(1, 1), (2, 99)], 0)));
    }

    #[test]
    fn a_file_that_somebody_took_or_changed_is_not_written_on() {
        let folder = tempfile::tempdir().unwrap();
        let target = target(folder.path(), 7);
        let more = packed(&[(3, Some(3))]);
        let begun = || Log::begin(&target, &packed(&[(1, Some(1))])).unwrap();
        let log = begun();
        fs::remove_file(&target.path).unwrap();
        assert!(matches!(log.append(&more), Err(BackupError::Io { .. })));
        let log = begun();
        fs::write(&target.path, b"an older one").unwrap();
        assert!(matches!(log.append(&more), Err(BackupError::Io { .. })));
        assert_eq!(fs::read(&target.path).unwrap(), b"an older one");
    }

    #[test]
    fn only_what_has_lasting_records_that_are_lacking_is_set_aside() {
        let folder = tempfile::tempdir().unwrap();
        let target = target(folder.path(), 7);
        let aside = |packed: &[u8], lasts: fn(u8, &[u8; 32]) -> bool| {
            set_aside(&target, packed, lasts).unwrap()
        };
        let less = packed(&[(1, Some(9))]);
        assert_eq!(aside(&less, |_, _| true), None, "no file");
        let begun = || Log::begin(&target, &packed(&[(1, Some(1)), (2, Some(2))])).unwrap();
        begun();
        assert_eq!(
            aside(&packed(&[(2, None), (1, Some(3))]), |_, _| true),
            None
        );
        assert_eq!(aside(&less, |_, name| name[0] != 2), None);
        for number in 1..3 {
            begun();
            let name = format!("channels.backup.{number}");
            assert_eq!(aside(&less, |_, _| true), Some(folder.path().join(name)));
            assert!(!target.path.exists());
        }
        fs::write(&target.path, b"something else").unwrap();
        assert!(aside(&less, |_, _| false).is_some());
        // What cannot be looked at stays where it is.
        fs::create_dir(&target.path).unwrap();
        let refused = set_aside(&target, &less, |_, _| true);
        assert!(matches!(refused, Err(BackupError::Io { .. })));
        assert!(target.path.is_dir());
    }

    #[test]
    fn version_1_is_read() {
        let folder = tempfile::tempdir().unwrap();
        let target = target(folder.path(), 7);
        let pairs: Vec<(u8, [u8; 32], Vec<u8>)> = vec![(3, [4; 32], vec![5]), (1, [2; 32], vec![])];
        let nonce = [9; NONCE_BYTES];
        let head = [MAGIC_1, &nonce].concat();
        let payload = Payload {
            msg: &postcard::to_stdvec(&pairs).unwrap(),
            aad: &head,
        };
        let sealed = cipher(&target)
            .encrypt(&XNonce::from(nonce), payload)
            .unwrap();
        let mut bytes = [head, sealed].concat();
        fs::write(&target.path, &bytes).unwrap();
        let (content, unread) = read(&target).unwrap();
        let content: Vec<_> = content.into_iter().collect();
        assert_eq!(
            (content, unread),
            (vec![((3, [4; 32]), vec![5]), ((1, [2; 32]), vec![])], 0)
        );
        *bytes.last_mut().unwrap() ^= 1;
        fs::write(&target.path, &bytes).unwrap();
        assert!(matches!(read(&target), Err(BackupError::Sealed(_))));
    }
}

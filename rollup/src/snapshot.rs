//! Snapshots: all accounts at a proven root, in one file that anybody can check by hashing. Followers publish them, because
//! L1 nodes may prune old calldata.
//!
//! ```text
//! export: consistent view − undo records of unproven batches → title, batch record, 64 bytes per account
//! import: accounts → leaves → nodes, level by level → root = the one that L1 proves → store
//! ```

use crate::batch_log::{BatchRecord, BatchStage};
use crate::store::disk::{Column, DiskError, Writes};
use crate::store::format::{decode, encode, index_key, node_key, number_key, owner_key};
use crate::store::{IMPORTING, Marks, Store, StoreError};
use ark_bn254::Fr;
use millrace_circuits::account::{Account, Owner};
use millrace_circuits::field::{self, Word};
use millrace_circuits::merkle::{self, empty_root};
use millrace_circuits::types::{AccountIndex, Amount, BatchNumber, Nonce, TREE_DEPTH, TokenId};
use rayon::prelude::*;
use std::collections::BTreeMap;
use std::io::{Read, Write};
use thiserror::Error;

const TITLE: &[u8; 20] = b"millrace-snapshot-1\n";
/// index (4), owner (32), token (4), nonce (8), balance (16), big-endian.
const RECORD_BYTES: usize = 64;
/// Most bytes of a batch record that is read.
const MAX_HEAD_BYTES: usize = 16 << 20;
/// Keys in one write of an import.
const CHUNK: usize = 16_384;

/// Why a snapshot was not written or read.
#[derive(Debug, Error)]
pub enum SnapshotError {
    /// The database failed.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The file failed.
    #[error("the snapshot cannot be read or written: {0}")]
    File(#[from] std::io::Error),
    /// No batch is proven yet.
    #[error("no batch is proven yet: there is nothing to take a snapshot of")]
    NothingProven,
    /// The file is no snapshot, or a damaged one.
    #[error("not a snapshot, or a damaged one: {0}")]
    Malformed(String),
    /// The accounts hash to another root.
    #[error(
        "the accounts hash to root {computed}, but L1 proves {expected}: do not trust this file"
    )]
    RootDiffers {
        /// Root of the accounts in the file.
        computed: Fr,
        /// Root that was expected.
        expected: Fr,
    },
    /// The database holds something already.
    #[error("the database is not empty: import into a new directory")]
    NotEmpty,
}

impl From<DiskError> for SnapshotError {
    fn from(error: DiskError) -> Self {
        Self::Store(error.into())
    }
}

/// Writes all accounts at the newest proven root and gives that batch's number.
///
/// # Errors
/// If nothing is proven, or reading or writing fails.
pub fn export(store: &Store, file: &mut impl Write) -> Result<BatchNumber, SnapshotError> {
    let view = store.view();
    let mut number = view.marks()?.sealed;
    let mut before = BTreeMap::new();
    let record = loop {
        let record = view.batch(number)?.ok_or(SnapshotError::NothingProven)?;
        if record.stage >= BatchStage::Proven {
            break record;
        }
        let undo = view.undo(number)?;
        let undo = undo.ok_or_else(|| missing(number))?;
        before.extend(undo.accounts);
        number = BatchNumber(number.0 - 1);
    };
    let head = encode(&published(record));
    file.write_all(TITLE)?;
    file.write_all(&(head.len() as u32).to_be_bytes())?;
    file.write_all(&head)?;
    for entry in view.accounts() {
        let (index, account) = entry?;
        let then = before.get(&index).copied().unwrap_or(Some(account));
        if let Some(account) = then {
            file.write_all(&record_bytes(index, &account))?;
        }
    }
    file.flush()?;
    Ok(number)
}

fn missing(number: BatchNumber) -> StoreError {
    StoreError::Inconsistent(format!("what batch {number} overwrote is missing"))
}

/// The batch as everybody knows it: without what its users signed.
fn published(mut record: BatchRecord) -> BatchRecord {
    record.input.slots.clear();
    record.transactions.clear();
    record.stage = BatchStage::Finalised;
    record
}

/// Fills an empty database from a snapshot, if its accounts hash to the root that L1 proves for its batch.
///
/// # Errors
/// If the file is malformed or of another root, or the database is not empty.
pub fn import(
    store: &Store,
    file: &mut impl Read,
    proven_root: Word,
) -> Result<BatchRecord, SnapshotError> {
    let record = read_head(file)?;
    let claimed = record.new_root();
    if claimed != Some(proven_root) {
        return Err(SnapshotError::RootDiffers {
            computed: claimed.map_or(Fr::from(0u64), |root| root.0),
            expected: proven_root.0,
        });
    }
    let accounts = read_accounts(file)?;
    let marks = Marks {
        planned: record.number,
        sealed: record.number,
        finalised: record.number,
        requests_taken: queue_head(&record),
        requests_known: queue_head(&record),
        ..Marks::default()
    };
    fill(store, &accounts, Some(proven_root), marks, Some(&record))?;
    Ok(record)
}

fn queue_head(record: &BatchRecord) -> u64 {
    record.first_request + record.input.l1_operations.len() as u64
}

/// Fills an empty database with accounts, in order of their indices, and gives their root. Hashes each node once, on all
/// cores, before anything is written.
///
/// # Errors
/// If the root is not the expected one, the database is not empty, or the disk fails.
pub fn fill(
    store: &Store,
    accounts: &[(AccountIndex, Account)],
    expected: Option<Word>,
    marks: Marks,
    record: Option<&BatchRecord>,
) -> Result<Word, SnapshotError> {
    if store.marks()? != Marks::default() || !store.accounts(AccountIndex::ZERO, 1)?.is_empty() {
        return Err(SnapshotError::NotEmpty);
    }
    let levels = hash_levels(accounts);
    let root = levels.last().and_then(|top| top.first());
    let root = root.map_or(empty_root(TREE_DEPTH), |(_, hash)| *hash);
    if let Some(expected) = expected.filter(|expected| expected.0 != root) {
        return Err(SnapshotError::RootDiffers {
            computed: root,
            expected: expected.0,
        });
    }
    write_state(store, accounts, &levels)?;
    let mut last = Writes::default();
    let next_index = accounts.last().map_or(1, |(index, _)| index.get() + 1);
    let marks = Marks {
        next_index,
        ..marks
    };
    last.put(Column::Meta, b"marks".to_vec(), encode(&marks));
    if let Some(record) = record {
        last.put(Column::Batches, number_key(record.number.0), encode(record));
    }
    last.delete(Column::Notes, IMPORTING.as_bytes().to_vec());
    store.write(last)?;
    Ok(Word(root))
}

/// Hashes of each level's nodes that are not empty, from the leaves up.
fn hash_levels(accounts: &[(AccountIndex, Account)]) -> Vec<Vec<(u32, Fr)>> {
    let leaf = |(index, account): &(AccountIndex, Account)| (index.get() as u32, account.leaf());
    let mut levels: Vec<Vec<(u32, Fr)>> = vec![accounts.par_iter().map(leaf).collect()];
    for level in 0..TREE_DEPTH {
        let groups = groups(level, &levels[level]);
        let hash =
            |(parent, group): &(u32, [Word; 4])| (*parent, merkle::node(group.map(|word| word.0)));
        levels.push(groups.par_iter().map(hash).collect());
    }
    levels
}

/// Sibling nodes together, empty ones filled in.
fn groups(level: usize, nodes: &[(u32, Fr)]) -> Vec<(u32, [Word; 4])> {
    let mut groups: Vec<(u32, [Word; 4])> = Vec::new();
    for (position, hash) in nodes {
        let parent = position / 4;
        if groups.last().is_none_or(|(last, _)| *last != parent) {
            groups.push((parent, [Word(empty_root(level)); 4]));
        }
        if let Some((_, group)) = groups.last_mut() {
            group[(position % 4) as usize] = Word(*hash);
        }
    }
    groups
}

fn write_state(
    store: &Store,
    accounts: &[(AccountIndex, Account)],
    levels: &[Vec<(u32, Fr)>],
) -> Result<(), SnapshotError> {
    let mut first = Writes::default();
    first.put(Column::Notes, IMPORTING.as_bytes().to_vec(), encode(&true));
    store.write(first)?;
    for chunk in accounts.chunks(CHUNK) {
        let mut writes = Writes::default();
        for (index, account) in chunk {
            let owner = owner_key(&account.owner, account.token, *index);
            writes.put(Column::Accounts, index_key(*index), encode(account));
            writes.put(Column::Owners, owner, Vec::new());
        }
        store.write(writes)?;
    }
    for (level, nodes) in levels.iter().enumerate() {
        for chunk in groups(level, nodes).chunks(CHUNK) {
            let mut writes = Writes::default();
            for (parent, group) in chunk {
                writes.put(Column::Nodes, node_key(level, *parent), encode(group));
            }
            store.write(writes)?;
        }
    }
    Ok(())
}

fn record_bytes(index: AccountIndex, account: &Account) -> [u8; RECORD_BYTES] {
    let mut bytes = [0; RECORD_BYTES];
    bytes[..4].copy_from_slice(&(index.get() as u32).to_be_bytes());
    bytes[4..36].copy_from_slice(&field::to_bytes(&account.owner.0));
    bytes[36..40].copy_from_slice(&(account.token.get() as u32).to_be_bytes());
    bytes[40..48].copy_from_slice(&account.nonce.get().to_be_bytes());
    bytes[48..].copy_from_slice(&account.balance.0.to_be_bytes());
    bytes
}

fn read_record(bytes: &[u8; RECORD_BYTES]) -> Result<(AccountIndex, Account), SnapshotError> {
    let number = |range: std::ops::Range<usize>| {
        bytes[range]
            .iter()
            .fold(0u128, |sum, byte| (sum << 8) | u128::from(*byte))
    };
    let malformed = |error: &dyn std::fmt::Display| SnapshotError::Malformed(error.to_string());
    let owner: [u8; 32] = bytes[4..36].try_into().expect("32 bytes");
    Ok((
        AccountIndex::new(number(0..4) as u64).map_err(|error| malformed(&error))?,
        Account {
            owner: Owner(field::from_bytes(&owner).map_err(|error| malformed(&error))?),
            token: TokenId::new(number(36..40) as u64).map_err(|error| malformed(&error))?,
            nonce: Nonce::new(number(40..48) as u64).map_err(|error| malformed(&error))?,
            balance: Amount(number(48..64)),
        },
    ))
}

fn read_head(file: &mut impl Read) -> Result<BatchRecord, SnapshotError> {
    let mut title = [0; TITLE.len()];
    file.read_exact(&mut title)?;
    if title != *TITLE {
        return Err(SnapshotError::Malformed("its title is missing".into()));
    }
    let mut length = [0; 4];
    file.read_exact(&mut length)?;
    let length = u32::from_be_bytes(length) as usize;
    if length > MAX_HEAD_BYTES {
        return Err(SnapshotError::Malformed("its head is too long".into()));
    }
    let mut head = vec![0; length];
    file.read_exact(&mut head)?;
    decode(&head).map_err(|error| SnapshotError::Malformed(error.to_string()))
}

fn read_accounts(file: &mut impl Read) -> Result<Vec<(AccountIndex, Account)>, SnapshotError> {
    let mut accounts: Vec<(AccountIndex, Account)> = Vec::new();
    let mut bytes = [0; RECORD_BYTES];
    loop {
        let mut filled = 0;
        while filled < RECORD_BYTES {
            match file.read(&mut bytes[filled..])? {
                0 if filled == 0 => return Ok(accounts),
                0 => return Err(SnapshotError::Malformed("it ends inside an account".into())),
                read => filled += read,
            }
        }
        let (index, account) = read_record(&bytes)?;
        if accounts.last().is_some_and(|(last, _)| *last >= index) {
            return Err(SnapshotError::Malformed(
                "its accounts are not in order".into(),
            ));
        }
        accounts.push((index, account));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::state::checked_root;
    use millrace_circuits::merkle::{SparseTree, StateTree};

    fn accounts(count: u64) -> Vec<(AccountIndex, Account)> {
        (0..count)
            .map(|i| {
                let index = AccountIndex::new(1 + i * 7).unwrap();
                let owner = Owner(Fr::from(i + 5));
                (
                    index,
                    Account::new(owner, TokenId::ZERO, Amount(u128::from(i) << 60)),
                )
            })
            .collect()
    }

    #[test]
    fn filled_accounts_have_the_root_of_a_tree_built_one_by_one() {
        let accounts = accounts(300);
        let mut tree = SparseTree::new();
        for (index, account) in &accounts {
            tree.set(*index, *account).unwrap();
        }
        let directory = tempfile::tempdir().unwrap();
        let store = Store::open(directory.path()).unwrap();
        let root = fill(&store, &accounts, None, Marks::default(), None).unwrap();
        assert_eq!(root, Word(tree.root()));
        assert_eq!(checked_root(&store).unwrap(), root);
        assert_eq!(store.accounts(AccountIndex::ZERO, 1000).unwrap(), accounts);
        let again = fill(&store, &accounts, None, Marks::default(), None);
        assert!(matches!(again, Err(SnapshotError::NotEmpty)));
    }

    #[test]
    fn a_wrong_root_writes_nothing() {
        let directory = tempfile::tempdir().unwrap();
        let store = Store::open(directory.path()).unwrap();
        let wrong = Some(Word(Fr::from(1u64)));
        let result = fill(&store, &accounts(5), wrong, Marks::default(), None);
        assert!(matches!(result, Err(SnapshotError::RootDiffers { .. })));
        assert_eq!(store.accounts(AccountIndex::ZERO, 10).unwrap(), vec![]);
    }

    #[test]
    fn an_import_that_did_not_finish_is_refused_at_the_next_opening() {
        let directory = tempfile::tempdir().unwrap();
        {
            let store = Store::open(directory.path()).unwrap();
            store.disk().plan_fault(2, crate::store::disk::Fault::Fail);
            assert!(fill(&store, &accounts(5), None, Marks::default(), None).is_err());
        }
        let error = Store::open(directory.path()).err().unwrap();
        assert!(error.to_string().contains("did not finish"), "{error}");
    }

    #[test]
    fn account_records_read_back_and_damaged_files_are_refused() {
        for (index, account) in accounts(9) {
            let read = read_record(&record_bytes(index, &account)).unwrap();
            assert_eq!(read, (index, account));
        }
        let (index, account) = accounts(1)[0];
        let record = record_bytes(index, &account);
        let twice = [record, record].concat();
        assert!(read_accounts(&mut &twice[..]).is_err());
        assert!(read_accounts(&mut &record[..63]).is_err());
        let mut wild = record;
        wild[4..36].fill(0xff);
        assert!(read_record(&wild).is_err());
        assert!(read_head(&mut &b"something else entirely, long enough"[..]).is_err());
    }
}

//! The state as of the last sealed batch (on disk, hashed) and what pending operations make of it (in memory, not hashed).
//!
//! [`Head`] answers the accept path without hashing; [`OverlayTree`] hashes a whole batch on top of the disk and yields one
//! atomic write and its [`Undo`].

use crate::store::disk::{Column, Writes};
use crate::store::format::{encode, index_key, node_key, number_key, owner_key};
use crate::store::{Store, StoreError, StoreResult};
use ark_bn254::Fr;
use millrace_circuits::account::{self, Account, Owner};
use millrace_circuits::field::Word;
use millrace_circuits::merkle::{self, Path, StateTree, empty_root};
use millrace_circuits::types::{AccountIndex, BatchNumber, TREE_DEPTH, TokenId};
use serde::{Deserialize, Serialize};
use std::cell::RefCell;
use std::collections::{BTreeMap, HashMap};

/// Four sibling nodes: the unit in which the tree is stored.
type Group = [Word; 4];

/// What a batch overwrote, for rollback.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Undo {
    /// Accounts before; `None` where the leaf was empty.
    pub accounts: Vec<(AccountIndex, Option<Account>)>,
    /// Groups of nodes before, by level of the children and position of their parent.
    pub groups: Vec<(u8, u32, Option<Group>)>,
}

impl Undo {
    /// The writes that bring the state back, given what it is now.
    ///
    /// # Errors
    /// If the disk fails.
    pub fn writes(&self, store: &Store) -> StoreResult<Writes> {
        let mut writes = Writes::default();
        for (index, before) in &self.accounts {
            match before {
                Some(account) => writes.put(Column::Accounts, index_key(*index), encode(account)),
                None => {
                    if let Some(created) = store.account(*index)? {
                        let key = owner_key(&created.owner, created.token, *index);
                        writes.delete(Column::Owners, key);
                    }
                    writes.delete(Column::Accounts, index_key(*index));
                }
            }
        }
        for (level, parent, before) in &self.groups {
            let key = node_key(usize::from(*level), *parent);
            match before {
                Some(group) => writes.put(Column::Nodes, key, encode(group)),
                None => writes.delete(Column::Nodes, key),
            }
        }
        Ok(writes)
    }
}

/// The tree on disk with a batch's changes on top.
pub struct OverlayTree<'a> {
    store: &'a Store,
    root: Fr,
    accounts: BTreeMap<AccountIndex, Account>,
    /// Groups read or changed, and whether changed.
    groups: RefCell<HashMap<(u8, u32), (Group, bool)>>,
}

impl<'a> OverlayTree<'a> {
    /// The state as of the last sealed batch.
    ///
    /// # Errors
    /// If the disk fails.
    pub fn new(store: &'a Store) -> StoreResult<Self> {
        let root = stored_group(store, TREE_DEPTH, 0)?[0].0;
        Ok(Self {
            store,
            root,
            accounts: BTreeMap::new(),
            groups: RefCell::default(),
        })
    }

    fn group(&self, level: usize, parent: u32) -> StoreResult<Group> {
        let key = (level as u8, parent);
        if let Some((group, _)) = self.groups.borrow().get(&key) {
            return Ok(*group);
        }
        let group = stored_group(self.store, level, parent)?;
        self.groups.borrow_mut().insert(key, (group, false));
        Ok(group)
    }

    /// The batch's effects as one write, and what undoes them.
    ///
    /// # Errors
    /// If the disk fails.
    pub fn into_writes(self, batch: BatchNumber) -> StoreResult<Writes> {
        let mut writes = Writes::default();
        let mut undo = Undo::default();
        for (index, account) in &self.accounts {
            let before = self.store.account(*index)?;
            if before.is_none() {
                let key = owner_key(&account.owner, account.token, *index);
                writes.put(Column::Owners, key, Vec::new());
            }
            undo.accounts.push((*index, before));
            writes.put(Column::Accounts, index_key(*index), encode(account));
        }
        for ((level, parent), (group, changed)) in self.groups.into_inner() {
            if changed {
                let key = node_key(usize::from(level), parent);
                let before = self.store.group(usize::from(level), parent)?;
                undo.groups.push((level, parent, before));
                writes.put(Column::Nodes, key, encode(&group));
            }
        }
        writes.put(Column::Undo, number_key(batch.0), encode(&undo));
        Ok(writes)
    }
}

fn stored_group(store: &Store, level: usize, parent: u32) -> StoreResult<Group> {
    Ok(store
        .group(level, parent)?
        .unwrap_or([Word(empty_root(level)); 4]))
}

/// Root of the state on disk.
///
/// # Errors
/// If the disk fails.
pub fn sealed_root(store: &Store) -> StoreResult<Word> {
    Ok(stored_group(store, TREE_DEPTH, 0)?[0])
}

/// Root of the state on disk, checked against its four children: cheap, and finds a tree whose top was half written.
///
/// # Errors
/// [`StoreError::Inconsistent`] if they do not fit; else if the disk fails.
pub fn checked_root(store: &Store) -> StoreResult<Word> {
    let root = sealed_root(store)?;
    let children = stored_group(store, TREE_DEPTH - 1, 0)?;
    if Word(merkle::node(children.map(|word| word.0))) == root {
        Ok(root)
    } else {
        Err(StoreError::Inconsistent(
            "the state's root is not the hash of its children".to_owned(),
        ))
    }
}

impl StateTree for OverlayTree<'_> {
    type Error = StoreError;

    fn account(&self, index: AccountIndex) -> StoreResult<Option<Account>> {
        match self.accounts.get(&index) {
            Some(account) => Ok(Some(*account)),
            None => self.store.account(index),
        }
    }

    fn path(&self, index: AccountIndex) -> StoreResult<Path> {
        let mut position = index.get() as u32;
        let levels = (0..TREE_DEPTH)
            .map(|level| {
                position /= 4;
                self.group(level, position)
            })
            .collect::<StoreResult<_>>()?;
        Ok(Path { levels })
    }

    fn set(&mut self, index: AccountIndex, account: Account) -> StoreResult<()> {
        let mut hash = account::leaf(Some(&account));
        let mut position = index.get() as u32;
        for level in 0..=TREE_DEPTH {
            let (parent, digit) = (position / 4, (position % 4) as usize);
            let mut group = self.group(level, parent)?;
            group[digit] = Word(hash);
            self.groups
                .borrow_mut()
                .insert((level as u8, parent), (group, true));
            if level < TREE_DEPTH {
                hash = merkle::node(group.map(|word| word.0));
            }
            position = parent;
        }
        self.root = hash;
        self.accounts.insert(index, account);
        Ok(())
    }

    fn root(&self) -> Fr {
        self.root
    }
}

/// Accounts as pending operations leave them: the disk's, overlaid with what is not yet sealed.
#[derive(Debug, Default)]
pub struct Head {
    /// Changed accounts and the batch that changed them last.
    changed: HashMap<AccountIndex, (Account, BatchNumber)>,
    /// Accounts created since the last sealed batch, and the batch that created them.
    created: HashMap<(Owner, TokenId), (AccountIndex, BatchNumber)>,
    /// Lowest index never assigned.
    pub next_index: u64,
}

impl Head {
    /// Starts on the state as sealed.
    pub fn new(next_index: u64) -> Self {
        Self {
            next_index,
            ..Self::default()
        }
    }

    /// An account as it is after everything pending.
    ///
    /// # Errors
    /// If the disk fails.
    pub fn account(&self, store: &Store, index: AccountIndex) -> StoreResult<Option<Account>> {
        match self.changed.get(&index) {
            Some((account, _)) => Ok(Some(*account)),
            None => store.account(index),
        }
    }

    /// The lowest leaf filled since the last sealed batch.
    pub fn lowest_created(&self) -> Option<AccountIndex> {
        self.created.values().map(|(index, _)| *index).min()
    }

    /// Writes an account for the batch that is open.
    pub fn set(&mut self, index: AccountIndex, account: Account, batch: BatchNumber, is_new: bool) {
        if is_new {
            let holder = (account.owner, account.token);
            self.created.insert(holder, (index, batch));
            self.next_index = self.next_index.max(index.get() + 1);
        }
        self.changed.insert(index, (account, batch));
    }

    /// The account of an owner and token, the lowest if there are several.
    ///
    /// # Errors
    /// If the disk fails.
    pub fn find(
        &self,
        store: &Store,
        owner: &Owner,
        token: TokenId,
    ) -> StoreResult<Option<AccountIndex>> {
        if let Some((index, _)) = self.created.get(&(*owner, token)) {
            return Ok(Some(*index));
        }
        store.holding(owner, token)
    }

    /// All accounts of an owner.
    ///
    /// # Errors
    /// If the disk fails.
    pub fn owned(&self, store: &Store, owner: &Owner) -> StoreResult<Vec<AccountIndex>> {
        let mut indices: Vec<_> = store
            .owned(owner)?
            .into_iter()
            .map(|(_, index)| index)
            .collect();
        indices.extend(
            self.created
                .iter()
                .filter(|((o, _), _)| o == owner)
                .map(|(_, (index, _))| *index),
        );
        indices.sort_unstable();
        indices.dedup();
        Ok(indices)
    }

    /// The next empty leaf, or `None` when the tree is full.
    pub fn free_index(&self) -> Option<AccountIndex> {
        AccountIndex::new(self.next_index).ok()
    }

    /// Forgets what a sealed batch has put on disk.
    pub fn settle(&mut self, sealed: BatchNumber) {
        self.changed.retain(|_, (_, batch)| *batch > sealed);
        // By the batch that created it: a leaf that a later one changes is filled all the same when that one is taken back.
        self.created.retain(|_, (_, batch)| *batch > sealed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use millrace_circuits::merkle::SparseTree;
    use millrace_circuits::types::Amount;
    use proptest::prelude::*;

    fn account(balance: u128) -> Account {
        Account::new(Owner(Fr::from(3u64)), TokenId::ZERO, Amount(balance))
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(12))]
        #[test]
        fn batches_on_disk_equal_the_tree_in_memory_and_undo_restores_each_root(
            batches in prop::collection::vec(prop::collection::vec((1u64..300, any::<u128>()), 1..6), 1..4)
        ) {
            let directory = tempfile::tempdir().unwrap();
            let store = Store::open(directory.path()).unwrap();
            let mut model = SparseTree::new();
            let mut roots = vec![sealed_root(&store).unwrap()];
            for (number, writes) in batches.iter().enumerate() {
                let mut tree = OverlayTree::new(&store).unwrap();
                for (index, balance) in writes {
                    let index = AccountIndex::new(*index).unwrap();
                    tree.set(index, account(*balance)).unwrap();
                    model.set(index, account(*balance)).unwrap();
                    prop_assert_eq!(tree.path(index).unwrap(), model.path(index).unwrap());
                }
                prop_assert_eq!(tree.root(), model.root());
                store.write(tree.into_writes(BatchNumber(number as u64 + 1)).unwrap()).unwrap();
                roots.push(sealed_root(&store).unwrap());
                prop_assert_eq!(*roots.last().unwrap(), Word(model.root()));
            }
            for number in (1..=batches.len()).rev() {
                let undo = store.undo(BatchNumber(number as u64)).unwrap().unwrap();
                store.write(undo.writes(&store).unwrap()).unwrap();
                prop_assert_eq!(sealed_root(&store).unwrap(), roots[number - 1]);
            }
            prop_assert_eq!(store.accounts(AccountIndex::ZERO, 10).unwrap(), vec![]);
            prop_assert_eq!(store.owned(&Owner(Fr::from(3u64))).unwrap(), vec![]);
        }
    }
}

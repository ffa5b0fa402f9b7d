//! The state tree: quaternary, depth 12, node = Poseidon4(children), an empty leaf is 0.
//!
//! accounts → leaves → [`SparseTree`] → root, and a [`Path`] per access for the circuit

use crate::account::{self, Account};
use crate::field::Word;
use crate::poseidon;
use crate::types::{AccountIndex, TREE_DEPTH};
use ark_bn254::Fr;
use ark_ff::Zero;
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, HashMap};
use std::sync::LazyLock;

/// Hash of four children.
pub fn node(children: [Fr; 4]) -> Fr {
    poseidon::hash(children)
}

static EMPTY: LazyLock<[Fr; TREE_DEPTH + 1]> = LazyLock::new(|| {
    let mut roots = [Fr::zero(); TREE_DEPTH + 1];
    for level in 0..TREE_DEPTH {
        roots[level + 1] = node([roots[level]; 4]);
    }
    roots
});

/// Root of an empty subtree with 4^level leaves.
pub fn empty_root(level: usize) -> Fr {
    EMPTY[level]
}

/// All children on the way from a leaf to the root: `levels[0]` holds the leaf and its three siblings.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Path {
    /// Four children per level, from the leaf's level up; the child on the way is included.
    pub levels: Vec<[Word; 4]>,
}

impl Path {
    /// The root that this path gives for `leaf` at `index`, with the child on the way recomputed.
    pub fn root(&self, index: AccountIndex, leaf: Fr) -> Fr {
        let mut position = index.get();
        self.levels.iter().fold(leaf, |hash, children| {
            let mut children = children.map(|child| child.0);
            children[(position & 3) as usize] = hash;
            position >>= 2;
            node(children)
        })
    }
}

/// A state to which operations apply: accounts by index, with paths and a root.
pub trait StateTree {
    /// What can go wrong underneath, such as a disk.
    type Error;

    /// The account at `index`, if its leaf is not empty.
    ///
    /// # Errors
    /// If the storage fails.
    fn account(&self, index: AccountIndex) -> Result<Option<Account>, Self::Error>;

    /// The children on the way from the leaf to the root.
    ///
    /// # Errors
    /// If the storage fails.
    fn path(&self, index: AccountIndex) -> Result<Path, Self::Error>;

    /// Writes a leaf and rehashes its path.
    ///
    /// # Errors
    /// If the storage fails.
    fn set(&mut self, index: AccountIndex, account: Account) -> Result<(), Self::Error>;

    /// The current root.
    fn root(&self) -> Fr;
}

/// A tree in memory that stores only what is not empty.
#[derive(Debug, Clone, Default)]
pub struct SparseTree {
    accounts: BTreeMap<AccountIndex, Account>,
    nodes: HashMap<(u8, u32), Fr>,
}

impl SparseTree {
    /// The empty tree.
    pub fn new() -> Self {
        Self::default()
    }

    /// All accounts in order of their index.
    pub fn accounts(&self) -> impl Iterator<Item = (AccountIndex, &Account)> {
        self.accounts
            .iter()
            .map(|(index, account)| (*index, account))
    }

    fn node(&self, level: usize, position: u32) -> Fr {
        self.nodes
            .get(&(level as u8, position))
            .copied()
            .unwrap_or_else(|| empty_root(level))
    }

    fn children(&self, level: usize, parent: u32) -> [Fr; 4] {
        std::array::from_fn(|digit| self.node(level, parent * 4 + digit as u32))
    }
}

impl StateTree for SparseTree {
    type Error = std::convert::Infallible;

    fn account(&self, index: AccountIndex) -> Result<Option<Account>, Self::Error> {
        Ok(self.accounts.get(&index).copied())
    }

    fn path(&self, index: AccountIndex) -> Result<Path, Self::Error> {
        let mut position = index.get() as u32;
        let levels = (0..TREE_DEPTH)
            .map(|level| {
                position /= 4;
                self.children(level, position).map(Word)
            })
            .collect();
        Ok(Path { levels })
    }

    fn set(&mut self, index: AccountIndex, account: Account) -> Result<(), Self::Error> {
        self.accounts.insert(index, account);
        let mut position = index.get() as u32;
        self.nodes
            .insert((0, position), account::leaf(Some(&account)));
        for level in 0..TREE_DEPTH {
            position /= 4;
            let hash = node(self.children(level, position));
            self.nodes.insert((level as u8 + 1, position), hash);
        }
        Ok(())
    }

    fn root(&self) -> Fr {
        self.node(TREE_DEPTH, 0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::account::Owner;
    use crate::types::{Amount, TokenId};
    use proptest::prelude::*;

    fn account(balance: u128) -> Account {
        Account::new(Owner(Fr::from(9u64)), TokenId::ZERO, Amount(balance))
    }

    /// An independent model: hashes all leaves of the lowest 256 from scratch, then empty subtrees up to the root.
    fn root_from_scratch(accounts: &BTreeMap<AccountIndex, Account>) -> Fr {
        let mut layer: Vec<Fr> = (0..256)
            .map(|i| account::leaf(accounts.get(&AccountIndex::new(i).unwrap())))
            .collect();
        let mut level = 0;
        while layer.len() > 1 {
            layer = layer
                .chunks(4)
                .map(|c| node([c[0], c[1], c[2], c[3]]))
                .collect();
            level += 1;
        }
        (level..TREE_DEPTH).fold(layer[0], |hash, l| {
            node([hash, empty_root(l), empty_root(l), empty_root(l)])
        })
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(16))]
        #[test]
        fn the_root_is_that_of_all_leaves_hashed_from_scratch(
            writes in prop::collection::vec((0u64..256, any::<u128>()), 1..20)
        ) {
            let (mut tree, mut model) = (SparseTree::new(), BTreeMap::new());
            for (index, balance) in writes {
                let index = AccountIndex::new(index).unwrap();
                tree.set(index, account(balance)).unwrap();
                model.insert(index, account(balance));
            }
            prop_assert_eq!(tree.root(), root_from_scratch(&model));
            for (index, account) in &model {
                prop_assert_eq!(tree.path(*index).unwrap().root(*index, account.leaf()), tree.root());
            }
        }
    }

    #[test]
    fn an_empty_leaf_opens_to_the_root_as_zero() {
        let mut tree = SparseTree::new();
        assert_eq!(tree.root(), empty_root(TREE_DEPTH));
        tree.set(AccountIndex::new(5).unwrap(), account(1)).unwrap();
        let empty = AccountIndex::new(4).unwrap();
        assert_eq!(
            tree.path(empty).unwrap().root(empty, Fr::zero()),
            tree.root()
        );
    }
}

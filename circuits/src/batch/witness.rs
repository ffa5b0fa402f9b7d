//! What a prover needs beside the public data: for each access the leaf before it and its path, and the signed transactions.

use super::data::BatchData;
use super::data::Header;
use super::shape::Shape;
use crate::account::{self, Account};
use crate::field::Word;
use crate::merkle::{Path, SparseTree, StateTree};
use crate::transaction::{Domain, SignedTransaction};
use crate::types::{AccountIndex, BatchNumber, Timestamp};
use ark_bn254::Fr;
use ark_ff::Zero;
use serde::{Deserialize, Serialize};

/// One leaf as it stands before an access, and its path to the root of that moment.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Opening {
    /// The account, if the leaf is not empty.
    pub account: Option<Account>,
    /// Its path.
    pub path: Path,
}

impl Opening {
    /// The leaf opened.
    pub fn leaf(&self) -> Fr {
        account::leaf(self.account.as_ref())
    }
}

/// An L1 row's access; of index 0 where the row is absent or refuses a deposit.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct L1RowWitness {
    /// The leaf.
    pub leaf: Opening,
}

/// A transaction row's two accesses, the second after the first took effect. Both of index 0 for a Noop.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RowWitness {
    /// What was signed; `None` for a Noop.
    pub signed: Option<SignedTransaction>,
    /// The paying leaf.
    pub from: Opening,
    /// The receiving leaf; of index 0 for a Withdraw.
    pub to: Opening,
}

/// A fee leaf's access; of index 0 where the slot is unused.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FeeWitness {
    /// The leaf.
    pub leaf: Opening,
}

/// Everything that the batch circuit is assigned from: full capacities, in the order of effects.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct BatchWitness {
    /// The public content.
    pub data: BatchData,
    /// One for each L1 row of the shape.
    pub l1_rows: Vec<L1RowWitness>,
    /// One for each transaction row of the shape.
    pub rows: Vec<RowWitness>,
    /// One for each fee leaf of the shape.
    pub fees: Vec<FeeWitness>,
}

impl BatchWitness {
    /// A batch that does nothing on an empty state: what a circuit is synthesized from to generate keys.
    pub fn empty(shape: Shape) -> Self {
        let tree = SparseTree::new();
        let Ok(path) = tree.path(AccountIndex::ZERO);
        let leaf = Opening {
            account: None,
            path,
        };
        let root = Word(tree.root());
        let header = Header {
            number: BatchNumber(0),
            timestamp: Timestamp(0),
            domain: Domain(Word(Fr::zero())),
            old_root: root,
            new_root: root,
            fee_leaves: vec![],
        };
        let row = RowWitness {
            signed: None,
            from: leaf.clone(),
            to: leaf.clone(),
        };
        Self {
            data: BatchData {
                shape,
                header,
                l1_rows: vec![],
                rows: vec![],
            },
            l1_rows: vec![L1RowWitness { leaf: leaf.clone() }; shape.l1_rows],
            rows: vec![row; shape.transaction_rows],
            fees: vec![FeeWitness { leaf }; shape.fee_leaves],
        }
    }
}

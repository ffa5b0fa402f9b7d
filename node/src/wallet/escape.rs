//! The last proven state, rebuilt from L1 alone, in memory: what a user needs to leave without the operator.
//!
//! events (commits, proofs, drops) in order → the proven batches → inputs of their commits → replay → root = contract's root
//! → leaves of mine → paths → `escapeExit`
//!
//! It reads an endpoint of L1 and nothing else. Every root is compared with the one that the contract proved.

use crate::wallet::contract::{Contract, ContractError, leaf_index};
use alloy::primitives::{B256, U256};
use millrace_circuits::account::{Account, Owner};
use millrace_circuits::babyjubjub::PublicKey;
use millrace_circuits::batch::{BatchData, ReplayError, replay};
use millrace_circuits::field::Word;
use millrace_circuits::merkle::{SparseTree, StateTree};
use millrace_circuits::transaction::Domain;
use millrace_circuits::types::{AccountIndex, BatchNumber, L1Address, TREE_DEPTH};
use millrace_l1::bindings::{IRollup, Rollup};
use millrace_rollup::l1::convert::{ConvertError, decode_commit, from_batch, to_u256};
use std::collections::BTreeMap;
use std::convert::Infallible;
use thiserror::Error;

/// Why the state cannot be rebuilt.
#[derive(Debug, Error)]
pub enum EscapeError {
    /// L1 does not answer.
    #[error(transparent)]
    Contract(#[from] ContractError),
    /// A proven batch has no commit: blocks are missing.
    #[error(
        "batch {0} was proven, but its commit is not in the blocks that were read: start at an earlier block"
    )]
    CommitMissing(BatchNumber),
    /// The posted data cannot be read.
    #[error("batch {batch} cannot be read: {source}")]
    Convert {
        /// Which batch.
        batch: BatchNumber,
        /// What is wrong.
        source: ConvertError,
    },
    /// The posted data does not lead to the proven root.
    #[error("batch {batch} does not replay: {source}")]
    Replay {
        /// Which batch.
        batch: BatchNumber,
        /// What is wrong.
        source: Box<ReplayError<Infallible>>,
    },
    /// The rebuilt root is not the contract's.
    #[error(
        "the rebuilt root is not the contract's: the endpoint left events out, or a batch was proven meanwhile"
    )]
    RootDiffers,
}

/// The state after the last proven batch.
#[derive(Debug, Clone)]
pub struct ProvenState {
    /// Its accounts.
    pub tree: SparseTree,
    /// How many batches made it.
    pub batches: u64,
    /// Transactions in them.
    pub transactions: u64,
}

impl ProvenState {
    /// The accounts of these owners that hold something, by index.
    pub fn accounts_of(&self, owners: &[Owner]) -> Vec<(AccountIndex, Account)> {
        let mine = |(_, account): &(AccountIndex, &Account)| {
            owners.contains(&account.owner) && !account.balance.is_zero()
        };
        let accounts = self.tree.accounts().filter(mine);
        accounts.map(|(index, account)| (index, *account)).collect()
    }

    /// The state's root.
    pub fn root(&self) -> Word {
        Word(self.tree.root())
    }

    /// The opening of a leaf as the contract takes it.
    pub fn leaf(
        &self,
        index: AccountIndex,
        account: &Account,
        l1_address: L1Address,
        key: &PublicKey,
    ) -> IRollup::Leaf {
        let Ok(path) = self.tree.path(index);
        let mut position = index.get();
        let mut siblings = [[U256::ZERO; 3]; TREE_DEPTH];
        for (level, children) in path.levels.iter().enumerate() {
            let own = (position & 3) as usize;
            let others = children
                .iter()
                .enumerate()
                .filter(|(digit, _)| *digit != own);
            for (place, (_, sibling)) in others.enumerate() {
                siblings[level][place] = to_u256(&sibling.0);
            }
            position >>= 2;
        }
        IRollup::Leaf {
            index: leaf_index(index),
            token: u32::try_from(account.token.get()).expect("token numbers have 32 bits"),
            nonce: alloy::primitives::aliases::U40::from(account.nonce.get()),
            balance: account.balance.0,
            l1Address: l1_address.0.into(),
            ax: to_u256(&key.x),
            ay: to_u256(&key.y),
            siblings,
        }
    }
}

/// Rebuilds the last proven state from L1. `progress` hears how many batches there are and how many are done.
///
/// # Errors
/// [`EscapeError`]; a gap is always an error, never another state.
pub async fn rebuild(
    contract: &Contract,
    from_block: u64,
    mut progress: impl FnMut(u64, u64),
) -> Result<ProvenState, EscapeError> {
    let commits = proven_commits(contract, from_block).await?;
    let mut state = ProvenState {
        tree: SparseTree::new(),
        batches: 0,
        transactions: 0,
    };
    let identity = contract.identity();
    let domain = Domain::new(identity.chain_id, identity.contract);
    for (number, transaction) in &commits {
        let data = posted(contract, domain, *number, *transaction, state.root()).await?;
        replay(&data, &mut state.tree).map_err(|source| EscapeError::Replay {
            batch: *number,
            source: Box::new(source),
        })?;
        state.batches += 1;
        state.transactions += data.rows.iter().filter(|row| !row.is_noop()).count() as u64;
        progress(state.batches, commits.len() as u64);
    }
    let proven = contract.status().await?;
    if to_u256(&state.root().0) != proven.provenRoot || state.batches != proven.provenBatches {
        return Err(EscapeError::RootDiffers);
    }
    Ok(state)
}

/// The transactions that committed the proven batches, by number, without gaps.
async fn proven_commits(
    contract: &Contract,
    from_block: u64,
) -> Result<Vec<(BatchNumber, B256)>, EscapeError> {
    let mut commits = BTreeMap::new();
    // A dropped batch is committed again under its number; the last commit before its proof is the one that was proven.
    for (log, event) in contract.logs::<Rollup::BatchCommitted>(from_block).await? {
        commits
            .entry(event.number)
            .or_insert_with(Vec::new)
            .push(log);
    }
    let mut proven = Vec::new();
    for (place, event) in contract.logs::<Rollup::BatchProven>(from_block).await? {
        let number = BatchNumber(event.number);
        let candidates = commits.get(&event.number);
        let commit = candidates.and_then(|c| {
            c.iter()
                .rev()
                .find(|commit| commit.order() <= place.order())
        });
        let commit = commit.ok_or(EscapeError::CommitMissing(number))?;
        if number.0 != proven.len() as u64 + 1 {
            return Err(EscapeError::CommitMissing(BatchNumber(
                proven.len() as u64 + 1,
            )));
        }
        proven.push((number, commit.transaction));
    }
    Ok(proven)
}

async fn posted(
    contract: &Contract,
    domain: Domain,
    number: BatchNumber,
    transaction: B256,
    old_root: Word,
) -> Result<BatchData, EscapeError> {
    let input = contract.input_of(transaction).await?;
    let unreadable = |source| EscapeError::Convert {
        batch: number,
        source,
    };
    let (committed, batch) = decode_commit(&input).map_err(unreadable)?;
    if committed != number {
        return Err(EscapeError::CommitMissing(number));
    }
    from_batch(number, &batch, domain, old_root).map_err(unreadable)
}

#[cfg(test)]
mod tests {
    use super::*;
    use millrace_circuits::field;
    use millrace_circuits::types::{Amount, TokenId};
    use millrace_rollup::l1::convert::to_word;

    #[test]
    fn siblings_leave_out_the_leaf_itself_at_every_level() {
        let mut tree = SparseTree::new();
        let owner = Owner(field::from_text("5").unwrap());
        for index in [1u64, 2, 6, 7, 1000] {
            let account = Account::new(owner, TokenId::ZERO, Amount(u128::from(index)));
            let Ok(()) = tree.set(AccountIndex::new(index).unwrap(), account);
        }
        let state = ProvenState {
            tree,
            batches: 0,
            transactions: 0,
        };
        let mine = state.accounts_of(&[owner]);
        assert_eq!(mine.len(), 5);
        let zero = field::from_text("0").unwrap();
        let key = PublicKey { x: zero, y: zero };
        for (index, account) in mine {
            let leaf = state.leaf(index, &account, L1Address::default(), &key);
            assert_eq!(root_of(&leaf, &account, index), state.root());
        }
    }

    /// As the contract computes it.
    fn root_of(leaf: &IRollup::Leaf, account: &Account, index: AccountIndex) -> Word {
        let mut position = index.get();
        let mut hash = account.leaf();
        for siblings in leaf.siblings {
            let mut children = siblings.map(|s| to_word(s).unwrap().0).to_vec();
            children.insert((position & 3) as usize, hash);
            hash = millrace_circuits::merkle::node(children.try_into().unwrap());
            position >>= 2;
        }
        Word(hash)
    }
}

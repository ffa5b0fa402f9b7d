//! Transactions that wait for a block.
//!
//! A transaction is ready when its nonce is the account's next one and it pays the base fee; others wait for the gap to
//! close or the fee to fall. One with a taken nonce replaces the waiting one if both its fees are at least a tenth higher.

use super::error::DevChainError;
use alloy::{
    consensus::{Transaction, TxEnvelope},
    primitives::{Address, B256},
};
use serde::{Deserialize, Serialize};
use std::{cmp::Reverse, collections::BTreeMap};

/// How many transactions wait at most.
pub const POOL_LIMIT: usize = 8192;
/// How far ahead of the account's nonce a transaction may be.
pub const NONCE_GAP_LIMIT: u64 = 1024;
/// What a replacement must pay more, in percent.
pub const REPLACEMENT_BUMP_PERCENT: u128 = 10;

/// A waiting transaction.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PooledTransaction {
    /// The signed transaction, without blobs.
    #[serde(with = "super::persist::envelope")]
    pub envelope: TxEnvelope,
    /// Who signed it.
    pub sender: Address,
    /// Order of arrival.
    pub arrival: u64,
}

impl PooledTransaction {
    /// The transaction's hash.
    pub fn hash(&self) -> B256 {
        *self.envelope.tx_hash()
    }

    fn tip(&self, base_fee: u64) -> Option<u128> {
        self.envelope.effective_tip_per_gas(base_fee)
    }

    fn priority_fee(&self) -> u128 {
        self.envelope
            .max_priority_fee_per_gas()
            .unwrap_or_else(|| self.envelope.max_fee_per_gas())
    }
}

/// The pool: by sender, then by nonce.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Pool {
    #[serde(with = "super::persist::nested_pairs")]
    waiting: BTreeMap<Address, BTreeMap<u64, PooledTransaction>>,
    arrivals: u64,
}

impl Pool {
    /// How many transactions wait.
    pub fn len(&self) -> usize {
        self.waiting.values().map(BTreeMap::len).sum()
    }

    /// Whether nothing waits.
    pub fn is_empty(&self) -> bool {
        self.waiting.is_empty()
    }

    /// All waiting transactions.
    pub fn iter(&self) -> impl Iterator<Item = &PooledTransaction> {
        self.waiting.values().flat_map(BTreeMap::values)
    }

    /// The waiting transaction with this hash.
    pub fn get(&self, hash: B256) -> Option<&PooledTransaction> {
        self.iter().find(|transaction| transaction.hash() == hash)
    }

    /// The nonce after the account's waiting transactions that follow each other without a gap.
    pub fn next_nonce(&self, sender: Address, account_nonce: u64) -> u64 {
        let Some(waiting) = self.waiting.get(&sender) else {
            return account_nonce;
        };
        (account_nonce..)
            .find(|nonce| !waiting.contains_key(nonce))
            .unwrap_or(account_nonce)
    }

    /// Adds a transaction, or lets it replace one.
    pub fn insert(
        &mut self,
        envelope: TxEnvelope,
        sender: Address,
        account_nonce: u64,
    ) -> Result<(), DevChainError> {
        let transaction = PooledTransaction {
            envelope,
            sender,
            arrival: self.arrivals,
        };
        let nonce = transaction.envelope.nonce();
        if nonce < account_nonce {
            return Err(DevChainError::NonceTooLow {
                next: account_nonce,
                got: nonce,
            });
        }
        if nonce - account_nonce > NONCE_GAP_LIMIT {
            return Err(DevChainError::NonceTooHigh {
                next: account_nonce,
                got: nonce,
                limit: NONCE_GAP_LIMIT,
            });
        }
        match self
            .waiting
            .get(&sender)
            .and_then(|waiting| waiting.get(&nonce))
        {
            Some(old) => check_replacement(old, &transaction)?,
            None if self.len() >= POOL_LIMIT => {
                return Err(DevChainError::PoolFull { limit: POOL_LIMIT });
            }
            None => {}
        }
        self.arrivals += 1;
        self.waiting
            .entry(sender)
            .or_default()
            .insert(nonce, transaction);
        Ok(())
    }

    /// The ready transaction that pays the highest tip, of those that fit into `gas_left`; the earlier one if two pay the same.
    pub fn best(
        &self,
        account_nonce: impl Fn(Address) -> u64,
        base_fee: u64,
        gas_left: u64,
    ) -> Option<&PooledTransaction> {
        let ready = self
            .waiting
            .iter()
            .filter_map(|(sender, waiting)| waiting.get(&account_nonce(*sender)));
        ready
            .filter(|transaction| transaction.envelope.gas_limit() <= gas_left)
            .filter_map(|transaction| transaction.tip(base_fee).map(|tip| (tip, transaction)))
            .max_by_key(|(tip, transaction)| (*tip, Reverse(transaction.arrival)))
            .map(|(_, transaction)| transaction)
    }

    /// Takes a transaction out.
    pub fn remove(&mut self, sender: Address, nonce: u64) -> Option<PooledTransaction> {
        let waiting = self.waiting.get_mut(&sender)?;
        let removed = waiting.remove(&nonce);
        if waiting.is_empty() {
            self.waiting.remove(&sender);
        }
        removed
    }

    /// Takes out the transaction with this hash.
    pub fn remove_hash(&mut self, hash: B256) -> Option<PooledTransaction> {
        let (sender, nonce) = self
            .get(hash)
            .map(|found| (found.sender, found.envelope.nonce()))?;
        self.remove(sender, nonce)
    }

    /// Forgets everything.
    pub fn clear(&mut self) {
        self.waiting.clear();
    }

    /// Takes out what the accounts have used up.
    pub fn prune(&mut self, account_nonce: impl Fn(Address) -> u64) {
        self.waiting.retain(|sender, waiting| {
            *waiting = waiting.split_off(&account_nonce(*sender));
            !waiting.is_empty()
        });
    }
}

fn check_replacement(
    old: &PooledTransaction,
    new: &PooledTransaction,
) -> Result<(), DevChainError> {
    if old.hash() == new.hash() {
        return Err(DevChainError::AlreadyKnown(new.hash()));
    }
    let need_max_fee = bumped(old.envelope.max_fee_per_gas());
    let need_priority_fee = bumped(old.priority_fee());
    if new.envelope.max_fee_per_gas() < need_max_fee || new.priority_fee() < need_priority_fee {
        return Err(DevChainError::ReplacementUnderpriced {
            need_max_fee,
            need_priority_fee,
        });
    }
    Ok(())
}

fn bumped(fee: u128) -> u128 {
    (fee.saturating_mul(100 + REPLACEMENT_BUMP_PERCENT)).div_ceil(100)
}

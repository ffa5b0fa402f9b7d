//! Accounts, code and storage of the dev chain, with the means to undo each block.
//!
//! `World` holds the state at the head. Applying what an execution changed yields an `Undo`: the values from before. A block
//! keeps its undo, so dropping blocks is undoing them backwards, and an older state is the head seen through the undos of
//! the blocks after it (`View`).

use super::block::MinedBlock;
use alloy::primitives::{Address, B256, Bytes, KECCAK256_EMPTY, U256};
use revm::{
    DatabaseRef,
    bytecode::Bytecode,
    state::{AccountInfo, EvmState},
};
use serde::{Deserialize, Serialize};
use std::{
    collections::{BTreeMap, HashMap},
    convert::Infallible,
    sync::Arc,
};

/// How far back the BLOCKHASH instruction sees, in blocks.
const BLOCK_HASH_HISTORY: u64 = 256;

/// An account without its storage.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Account {
    /// Transactions sent, or contracts created by a contract.
    pub nonce: u64,
    /// Wei.
    pub balance: U256,
    /// keccak256 of the code.
    pub code_hash: B256,
}

impl Default for Account {
    fn default() -> Self {
        Self {
            nonce: 0,
            balance: U256::ZERO,
            code_hash: KECCAK256_EMPTY,
        }
    }
}

impl Account {
    fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    fn from_info(info: &AccountInfo) -> Self {
        let code_hash = if info.code_hash.is_zero() {
            KECCAK256_EMPTY
        } else {
            info.code_hash
        };
        Self {
            nonce: info.nonce,
            balance: info.balance,
            code_hash,
        }
    }

    fn into_info(self) -> AccountInfo {
        AccountInfo {
            nonce: self.nonce,
            balance: self.balance,
            code_hash: self.code_hash,
            code: None,
            ..AccountInfo::default()
        }
    }
}

/// A storage slot of an account.
type Slot = (Address, U256);

/// The values that a block changed, as they were before it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Undo {
    #[serde(with = "super::persist::pairs")]
    accounts: BTreeMap<Address, Option<Account>>,
    #[serde(with = "super::persist::pairs")]
    storage: BTreeMap<Slot, U256>,
}

impl Undo {
    /// Adds the undo of what happened after: a value that both hold is older here, so it stays.
    pub fn absorb(&mut self, later: &Undo) {
        for (address, account) in &later.accounts {
            self.accounts.entry(*address).or_insert(*account);
        }
        for (slot, value) in &later.storage {
            self.storage.entry(*slot).or_insert(*value);
        }
    }
}

/// Values of the world, to be put into another.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Patch {
    after: Undo,
    #[serde(with = "super::persist::codes")]
    code: HashMap<B256, Bytecode>,
}

/// The state at the head of the chain.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct World {
    #[serde(with = "super::persist::pairs")]
    accounts: HashMap<Address, Account>,
    #[serde(with = "super::persist::pairs")]
    storage: HashMap<Slot, U256>,
    #[serde(with = "super::persist::codes")]
    code: HashMap<B256, Bytecode>,
}

impl World {
    /// The account at `address`, empty if there is none.
    pub fn account(&self, address: Address) -> Account {
        self.accounts.get(&address).copied().unwrap_or_default()
    }

    /// Puts an account in place from outside any transaction.
    pub fn set_account(&mut self, address: Address, account: Account) {
        put(
            &mut self.accounts,
            address,
            (!account.is_empty()).then_some(account),
        );
    }

    /// Puts code in place from outside any transaction.
    pub fn set_code(&mut self, address: Address, code: Bytes) {
        let bytecode = Bytecode::new_raw(code);
        let code_hash = bytecode.hash_slow();
        self.code.insert(code_hash, bytecode);
        self.set_account(
            address,
            Account {
                code_hash,
                ..self.account(address)
            },
        );
    }

    /// Puts a storage word in place from outside any transaction.
    pub fn set_storage(&mut self, address: Address, slot: U256, value: U256) {
        put(
            &mut self.storage,
            (address, slot),
            (!value.is_zero()).then_some(value),
        );
    }

    /// Applies what an execution changed and returns how to undo it.
    pub fn apply(&mut self, changes: EvmState) -> Undo {
        let mut undo = Undo::default();
        for (address, account) in changes {
            if !account.is_touched() {
                continue;
            }
            undo.accounts
                .insert(address, self.accounts.get(&address).copied());
            if account.is_selfdestructed() {
                self.destroy(address, &mut undo);
                continue;
            }
            if let Some(code) = account.info.code.as_ref().filter(|code| !code.is_empty()) {
                self.code
                    .entry(account.info.code_hash)
                    .or_insert_with(|| code.clone());
            }
            self.set_account(address, Account::from_info(&account.info));
            for (key, slot) in account.changed_storage_slots() {
                undo.storage.insert(
                    (address, *key),
                    self.storage
                        .get(&(address, *key))
                        .copied()
                        .unwrap_or_default(),
                );
                self.set_storage(address, *key, slot.present_value);
            }
        }
        undo
    }

    fn destroy(&mut self, address: Address, undo: &mut Undo) {
        self.accounts.remove(&address);
        let gone: Vec<Slot> = self
            .storage
            .keys()
            .filter(|(owner, _)| *owner == address)
            .copied()
            .collect();
        for slot in gone {
            let value = self.storage.remove(&slot).unwrap_or_default();
            undo.storage.insert(slot, value);
        }
    }

    /// The present values of what an undo names, and the codes that it does not know.
    pub fn patch_of(&self, touched: &Undo) -> Patch {
        let accounts = touched.accounts.keys();
        let storage = touched.storage.keys();
        let after = Undo {
            accounts: accounts
                .map(|address| (*address, self.accounts.get(address).copied()))
                .collect(),
            storage: storage
                .map(|slot| (*slot, self.storage.get(slot).copied().unwrap_or_default()))
                .collect(),
        };
        let hashes = after.accounts.values().flatten();
        let code = hashes.filter_map(|account| self.code.get_key_value(&account.code_hash));
        let code = code.map(|(hash, code)| (*hash, code.clone())).collect();
        Patch { after, code }
    }

    /// Puts a patch's values in place.
    pub fn apply_patch(&mut self, patch: Patch) {
        self.code.extend(patch.code);
        self.revert(&patch.after);
    }

    /// Takes back what a block changed.
    pub fn revert(&mut self, undo: &Undo) {
        for (address, account) in &undo.accounts {
            put(&mut self.accounts, *address, *account);
        }
        for ((address, slot), value) in &undo.storage {
            self.set_storage(*address, *slot, *value);
        }
    }
}

/// Inserts or removes.
fn put<K: std::hash::Hash + Eq, V>(map: &mut HashMap<K, V>, key: K, value: Option<V>) {
    match value {
        Some(value) => map.insert(key, value),
        None => map.remove(&key),
    };
}

/// The state at some block: the head's, seen through the undos of later blocks.
#[derive(Clone, Copy, Debug)]
pub struct View<'a> {
    /// State at the head.
    pub world: &'a World,
    /// The joined undos of the blocks after the one looked at; none when it is the head.
    pub past: Option<&'a Undo>,
    /// All blocks, for the BLOCKHASH instruction.
    pub blocks: &'a [Arc<MinedBlock>],
}

impl View<'_> {
    /// The account at `address`, empty if there is none.
    pub fn account(&self, address: Address) -> Account {
        match self.past.and_then(|past| past.accounts.get(&address)) {
            Some(account) => account.unwrap_or_default(),
            None => self.world.account(address),
        }
    }

    /// The code at `address`.
    pub fn code(&self, address: Address) -> Bytes {
        self.world
            .code
            .get(&self.account(address).code_hash)
            .map(Bytecode::original_bytes)
            .unwrap_or_default()
    }

    /// The storage word at `slot` of `address`.
    pub fn storage(&self, address: Address, slot: U256) -> U256 {
        let key = (address, slot);
        let value = self
            .past
            .and_then(|past| past.storage.get(&key))
            .or_else(|| self.world.storage.get(&key));
        value.copied().unwrap_or_default()
    }
}

impl DatabaseRef for View<'_> {
    type Error = Infallible;

    fn basic_ref(&self, address: Address) -> Result<Option<AccountInfo>, Infallible> {
        let account = self.account(address);
        Ok((!account.is_empty()).then(|| account.into_info()))
    }

    fn code_by_hash_ref(&self, code_hash: B256) -> Result<Bytecode, Infallible> {
        Ok(self.world.code.get(&code_hash).cloned().unwrap_or_default())
    }

    fn storage_ref(&self, address: Address, slot: U256) -> Result<U256, Infallible> {
        Ok(self.storage(address, slot))
    }

    fn block_hash_ref(&self, number: u64) -> Result<B256, Infallible> {
        let height = self.blocks.len() as u64;
        let visible = number < height && number + BLOCK_HASH_HISTORY >= height;
        let block = visible.then(|| self.blocks.get(number as usize)).flatten();
        Ok(block.map(|block| block.hash).unwrap_or_default())
    }
}

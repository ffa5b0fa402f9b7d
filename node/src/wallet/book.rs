//! The account book: which accounts belong to the wallet, and the preimages of their owners.
//!
//! keys → [`Identity`] (L1 address and key: what opens an owner) → [`BookAccount`] (leaf index and token, once known)
//!
//! Nothing in it is secret. Whoever escapes from a dead operator needs the preimages and the indices.

use crate::wallet::files;
use crate::wallet::keys::UserKeys;
use millrace_circuits::account::Owner;
use millrace_circuits::babyjubjub::PublicKey;
use millrace_circuits::types::{AccountIndex, L1Address, TokenId};
use serde::{Deserialize, Serialize};
use std::io;
use std::path::{Path, PathBuf};
use thiserror::Error;

/// Version of the file's layout.
pub const VERSION: u32 = 1;

/// Why the book cannot be read or written.
#[derive(Debug, Error)]
pub enum BookError {
    /// The disk failed.
    #[error("{path}: {source}")]
    Io {
        /// The file.
        path: PathBuf,
        /// What failed.
        source: io::Error,
    },
    /// The file is damaged.
    #[error(
        "{path} is damaged ({problem}): move it away; `millrace wallet accounts` writes a new one"
    )]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        problem: String,
    },
}

/// What opens an owner.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Identity {
    /// Number of the keys in the wallet.
    pub number: u32,
    /// L1 address in the owner.
    pub l1_address: L1Address,
    /// Rollup key in the owner.
    pub key: PublicKey,
    /// The payment address that they make.
    pub owner: Owner,
}

impl From<&UserKeys> for Identity {
    fn from(keys: &UserKeys) -> Self {
        Self {
            number: keys.number,
            l1_address: keys.l1_address(),
            key: keys.rollup.public_key(),
            owner: keys.owner(),
        }
    }
}

/// An account of the wallet in one rollup.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct BookAccount {
    /// Chain id of the rollup's L1.
    pub chain_id: u64,
    /// The rollup's contract.
    pub contract: L1Address,
    /// Position of the leaf.
    pub index: AccountIndex,
    /// What it holds.
    pub token: TokenId,
    /// Whose it is.
    pub owner: Owner,
}

#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Content {
    version: u32,
    identities: Vec<Identity>,
    accounts: Vec<BookAccount>,
}

/// The book and its file.
#[derive(Debug)]
pub struct Book {
    path: PathBuf,
    content: Content,
}

impl Book {
    /// Reads the book, or starts one.
    ///
    /// # Errors
    /// If the file is unreadable or damaged.
    pub fn open(path: impl Into<PathBuf>) -> Result<Self, BookError> {
        let path = path.into();
        let content = match std::fs::read(&path) {
            Ok(bytes) => Self::parse(&path, &bytes)?,
            Err(error) if error.kind() == io::ErrorKind::NotFound => Content {
                version: VERSION,
                ..Content::default()
            },
            Err(source) => return Err(BookError::Io { path, source }),
        };
        Ok(Self { path, content })
    }

    fn parse(path: &Path, bytes: &[u8]) -> Result<Content, BookError> {
        let damaged = |problem: String| BookError::Damaged {
            path: path.to_owned(),
            problem,
        };
        let content: Content =
            serde_json::from_slice(bytes).map_err(|error| damaged(error.to_string()))?;
        if content.version != VERSION {
            return Err(damaged(format!("version {} is unknown", content.version)));
        }
        if let Some(wrong) = content.identities.iter().find(|i| !i.is_consistent()) {
            return Err(damaged(format!(
                "{} is not what its parts make",
                wrong.owner
            )));
        }
        Ok(content)
    }

    /// What opens the wallet's owners.
    pub fn identities(&self) -> &[Identity] {
        &self.content.identities
    }

    /// The identity behind an owner.
    pub fn identity(&self, owner: Owner) -> Option<&Identity> {
        self.content
            .identities
            .iter()
            .find(|identity| identity.owner == owner)
    }

    /// Accounts in one rollup, by index.
    pub fn accounts(&self, chain_id: u64, contract: L1Address) -> Vec<BookAccount> {
        let here =
            |account: &&BookAccount| account.chain_id == chain_id && account.contract == contract;
        let mut accounts: Vec<_> = self.content.accounts.iter().filter(here).copied().collect();
        accounts.sort_by_key(|account| account.index);
        accounts
    }

    /// Notes the keys' public half.
    ///
    /// # Errors
    /// If the file cannot be written.
    pub fn note_keys(&mut self, keys: &UserKeys) -> Result<(), BookError> {
        let identity = Identity::from(keys);
        if self.content.identities.contains(&identity) {
            return Ok(());
        }
        self.content.identities.push(identity);
        self.write()
    }

    /// Replaces what is known of one rollup's accounts: an index can change hands when an unproven batch is dropped.
    ///
    /// # Errors
    /// If the file cannot be written.
    pub fn set_accounts(
        &mut self,
        chain_id: u64,
        contract: L1Address,
        accounts: &[(AccountIndex, TokenId, Owner)],
    ) -> Result<(), BookError> {
        let of = |(index, token, owner): &(AccountIndex, TokenId, Owner)| BookAccount {
            chain_id,
            contract,
            index: *index,
            token: *token,
            owner: *owner,
        };
        let mut new: Vec<_> = accounts.iter().map(of).collect();
        new.sort_by_key(|account| account.index);
        if new == self.accounts(chain_id, contract) {
            return Ok(());
        }
        self.content
            .accounts
            .retain(|account| account.chain_id != chain_id || account.contract != contract);
        self.content.accounts.extend(new);
        self.write()
    }

    fn write(&self) -> Result<(), BookError> {
        let bytes = serde_json::to_vec_pretty(&self.content).expect("plain fields serialise");
        files::replace(&self.path, &bytes).map_err(|source| BookError::Io {
            path: self.path.clone(),
            source,
        })
    }
}

impl Identity {
    fn is_consistent(&self) -> bool {
        Owner::new(self.l1_address, &self.key) == self.owner
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wallet::keys::{KeySource, Phrase};

    fn keys() -> UserKeys {
        KeySource::Phrase(Phrase::generate()).keys(0, None).unwrap()
    }

    fn index(value: u64) -> AccountIndex {
        AccountIndex::new(value).unwrap()
    }

    #[test]
    fn preimages_and_accounts_survive_reopening() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("book.json");
        let keys = keys();
        let contract = L1Address([1; 20]);
        let mut book = Book::open(&path).unwrap();
        book.note_keys(&keys).unwrap();
        book.note_keys(&keys).unwrap();
        let mine = [(index(7), TokenId::ZERO, keys.owner())];
        book.set_accounts(1, contract, &mine).unwrap();
        book.set_accounts(2, contract, &[]).unwrap();
        let book = Book::open(&path).unwrap();
        assert_eq!(book.identities().len(), 1);
        let identity = book.identity(keys.owner()).unwrap();
        assert_eq!(identity.key, keys.rollup.public_key());
        assert_eq!(book.accounts(1, contract)[0].index, index(7));
        assert!(book.accounts(2, contract).is_empty());
    }

    #[test]
    fn an_owner_that_its_parts_do_not_make_is_damage() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("book.json");
        Book::open(&path).unwrap().note_keys(&keys()).unwrap();
        let text = std::fs::read_to_string(&path).unwrap();
        let altered = text.replace("\"l1_address\": \"0x", "\"l1_address\": \"0xff");
        let cut: String = altered
            .lines()
            .map(|line| match line.find("\"0xff") {
                Some(at) => format!("{}{}\n", &line[..at + 43], "\","),
                None => format!("{line}\n"),
            })
            .collect();
        std::fs::write(&path, cut).unwrap();
        assert!(matches!(Book::open(&path), Err(BookError::Damaged { .. })));
    }
}

//! Paying: transfers, withdrawals and swaps through a node, each exactly once.
//!
//! ```text
//! pay: accounts ← node → send again what has an unknown fate → same payment? that was it
//!      → free nonce → sign, journal → submit → acknowledged | rejected | unknown
//! swap: offer (nothing signed) → accept (signed, linked to the offer) → finish (signed, linked back; both submitted)
//! ```

use crate::api::problem::Code;
use crate::api::types::{AccountView, TransactionStage};
use crate::wallet::amounts::AmountError;
use crate::wallet::book::{Book, BookError};
use crate::wallet::files;
use crate::wallet::journal::{Journal, JournalError, Outcome, Signed};
use crate::wallet::keys::{KeySource, KeysError, RollupIdentity, UserKeys};
use crate::wallet::node_client::{NodeClient, NodeError};
use millrace_circuits::account::Owner;
use millrace_circuits::amount::{FeeCode, Float40};
use millrace_circuits::field::{self, Word};
use millrace_circuits::transaction::{
    Action, Domain, SignedTransaction, Transaction, TransactionId,
};
use millrace_circuits::types::{AccountIndex, Amount, Nonce, Timestamp, TokenId};
use serde::{Deserialize, Serialize};
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};
use thiserror::Error;

/// Name of the account book in a wallet's folder.
pub const BOOK_FILE: &str = "book.json";
/// Name of the journal in a wallet's folder.
pub const JOURNAL_FILE: &str = "journal.jsonl";

/// Why a payment did not go out.
#[derive(Debug, Error)]
pub enum PayError {
    /// The keys.
    #[error(transparent)]
    Keys(#[from] KeysError),
    /// The journal.
    #[error(transparent)]
    Journal(#[from] JournalError),
    /// The account book.
    #[error(transparent)]
    Book(#[from] BookError),
    /// The folder.
    #[error("wallet folder {path}: {source}")]
    Folder {
        /// The folder.
        path: PathBuf,
        /// What failed.
        source: std::io::Error,
    },
    /// The amount has no code.
    #[error(transparent)]
    Amount(#[from] AmountError),
    /// The node, before anything was signed or for certain.
    #[error(transparent)]
    Node(#[from] NodeError),
    /// The node refused the transaction.
    #[error("the node refuses transaction {id}: {error}")]
    Refused {
        /// Which.
        id: TransactionId,
        /// Why.
        error: NodeError,
    },
    /// Nobody knows whether the node has it.
    #[error("transaction {id} is signed, but whether the node has it is unknown: {error}")]
    Unknown {
        /// Which.
        id: TransactionId,
        /// What happened.
        error: NodeError,
    },
    /// No account pays this token.
    #[error("{owner} has no account with token {token}")]
    NoAccount {
        /// Who would pay.
        owner: Owner,
        /// What.
        token: TokenId,
    },
    /// The node serves another rollup.
    #[error("the node serves contract {got:?}, this wallet uses {expected:?}")]
    OtherRollup {
        /// The wallet's.
        expected: RollupIdentity,
        /// The node's.
        got: RollupIdentity,
    },
    /// All nonces are used.
    #[error("account {0} has used up its nonces: force an exit to another account")]
    NoncesUsedUp(AccountIndex),
    /// The swap's answer is not what was offered.
    #[error("this acceptance does not match the offer: {0}")]
    NotAsOffered(&'static str),
}

/// What to pay.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Payment {
    /// The account that pays; `None`: the one of this token with the largest balance.
    pub from: Option<AccountIndex>,
    /// The token.
    pub token: TokenId,
    /// Transfer or withdraw.
    pub action: Action,
    /// For the operator.
    pub fee: FeeCode,
    /// Seconds for which it is valid.
    pub valid_secs: u64,
    /// Pay again, even if an earlier payment of the same is of unknown fate.
    pub again: bool,
}

/// A payment that the node has on disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Paid {
    /// The transaction.
    pub id: TransactionId,
    /// Account that pays.
    pub from: AccountIndex,
    /// Its nonce.
    pub nonce: Nonce,
    /// Whether an earlier signature was sent again instead of paying twice.
    pub repeated: bool,
}

/// One side of a swap before anything is signed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Offer {
    /// What the offering side will sign, but for the link.
    pub gives: Transaction,
    /// Who offers, and receives.
    pub owner: Owner,
    /// Who is asked to take it.
    pub counterparty: Owner,
    /// Token wanted in return.
    pub wants_token: TokenId,
    /// Amount wanted in return.
    pub wants: Float40,
    /// The rollup.
    pub domain: Domain,
}

/// The other side's answer: signed, valid only together with the offer's transaction.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Acceptance {
    /// The offer.
    pub offer: Offer,
    /// What the counterparty signed.
    pub answer: SignedTransaction,
}

/// An open wallet in one rollup. Its journal is locked while it is open.
pub struct Wallet {
    source: KeySource,
    book: Book,
    journal: Journal,
    rollup: RollupIdentity,
    domain: Domain,
}

impl Wallet {
    /// Opens the wallet in a folder, which is created if missing.
    ///
    /// # Errors
    /// If a file is damaged, or another process has the wallet open.
    pub fn open(
        folder: &Path,
        source: KeySource,
        rollup: RollupIdentity,
    ) -> Result<Self, PayError> {
        files::private_folder(folder).map_err(|error| PayError::Folder {
            path: folder.to_owned(),
            source: error,
        })?;
        Ok(Self {
            source,
            book: Book::open(folder.join(BOOK_FILE))?,
            journal: Journal::open(folder.join(JOURNAL_FILE))?,
            rollup,
            domain: Domain::new(rollup.chain_id, rollup.contract),
        })
    }

    /// The rollup that it pays in.
    pub fn rollup(&self) -> RollupIdentity {
        self.rollup
    }

    /// What its signatures are bound to.
    pub fn domain(&self) -> Domain {
        self.domain
    }

    /// What it signed.
    pub fn journal(&self) -> &Journal {
        &self.journal
    }

    /// Its accounts and what opens them.
    pub fn book(&self) -> &Book {
        &self.book
    }

    /// The keys with this number; their public half is noted in the book.
    ///
    /// # Errors
    /// If the number is out of range, or the book cannot be written.
    pub fn keys(&mut self, number: u32) -> Result<UserKeys, PayError> {
        let keys = self.source.keys(number, Some(self.rollup))?;
        self.book.note_keys(&keys)?;
        Ok(keys)
    }

    /// The accounts of these keys as the node has them; noted in the book.
    ///
    /// # Errors
    /// If the node does not answer, or serves another rollup.
    pub async fn accounts(
        &mut self,
        node: &NodeClient,
        keys: &UserKeys,
    ) -> Result<Vec<AccountView>, PayError> {
        let accounts = node.accounts(keys.owner()).await?;
        let RollupIdentity { chain_id, contract } = self.rollup;
        let others = self.book.accounts(chain_id, contract);
        let mut known: Vec<_> = others
            .into_iter()
            .filter(|account| account.owner != keys.owner())
            .map(|account| (account.index, account.token, account.owner))
            .collect();
        known.extend(
            accounts
                .iter()
                .map(|account| (account.index, account.token, account.owner)),
        );
        self.book.set_accounts(chain_id, contract, &known)?;
        Ok(accounts)
    }

    /// Fails unless the node serves the wallet's rollup.
    ///
    /// # Errors
    /// [`PayError::OtherRollup`], or the node's.
    pub async fn check_node(&self, node: &NodeClient) -> Result<(), PayError> {
        let info = node.info().await?;
        let got = RollupIdentity {
            chain_id: info.chain_id,
            contract: info.contract,
        };
        if got == self.rollup {
            return Ok(());
        }
        Err(PayError::OtherRollup {
            expected: self.rollup,
            got,
        })
    }

    /// Pays once: what an earlier try left in doubt is sent again first, and if it was the same payment, that is all.
    ///
    /// # Errors
    /// [`PayError::Refused`] for certain, [`PayError::Unknown`] if in doubt: then call it again.
    pub async fn pay(
        &mut self,
        node: &NodeClient,
        keys: &UserKeys,
        payment: Payment,
    ) -> Result<Paid, PayError> {
        let account = self
            .paying_account(node, keys, payment.from, payment.token)
            .await?;
        let mut transaction = self.draft(&account, &payment);
        if let Some(paid) = self
            .repeat_unknown(node, &transaction, payment.again)
            .await?
        {
            return Ok(paid);
        }
        transaction.nonce = self.nonce(node, &account).await?;
        let signed = self.sign(keys, transaction)?;
        self.send(node, &signed).await?;
        Ok(paid(&signed, false))
    }

    /// Sends again everything of unknown fate, as it was signed.
    ///
    /// # Errors
    /// [`PayError::Unknown`] if the node still does not answer. What it refuses for certain is noted.
    pub async fn retry(&mut self, node: &NodeClient) -> Result<Vec<Paid>, PayError> {
        let mut done = Vec::new();
        for signed in self.journal.unknown(&self.domain, now()) {
            match self.send(node, &signed).await {
                Ok(()) => done.push(paid(&signed, true)),
                Err(PayError::Refused { .. }) => {}
                Err(error) => return Err(error),
            }
        }
        Ok(done)
    }

    /// Offers a swap. Nothing is signed.
    ///
    /// # Errors
    /// If no account pays, or the node does not answer.
    pub async fn offer(
        &mut self,
        node: &NodeClient,
        keys: &UserKeys,
        payment: Payment,
        wants: (TokenId, Float40),
    ) -> Result<Offer, PayError> {
        let Action::Transfer { recipient, .. } = payment.action else {
            return Err(PayError::NotAsOffered("a swap is two transfers"));
        };
        let account = self
            .paying_account(node, keys, payment.from, payment.token)
            .await?;
        let mut gives = self.draft(&account, &payment);
        gives.nonce = self.nonce(node, &account).await?;
        Ok(Offer {
            gives,
            owner: keys.owner(),
            counterparty: recipient,
            wants_token: wants.0,
            wants: wants.1,
            domain: self.domain,
        })
    }

    /// Accepts an offer: signs the other half, which is valid only together with the offer's.
    ///
    /// # Errors
    /// If the offer is for someone else or another rollup, or no account pays.
    pub async fn accept(
        &mut self,
        node: &NodeClient,
        keys: &UserKeys,
        offer: Offer,
        fee: FeeCode,
    ) -> Result<Acceptance, PayError> {
        if offer.domain != self.domain {
            return Err(PayError::NotAsOffered("it is for another rollup"));
        }
        if offer.counterparty != keys.owner() {
            return Err(PayError::NotAsOffered("it is for another payment address"));
        }
        let account = self
            .paying_account(node, keys, None, offer.wants_token)
            .await?;
        let transaction = Transaction {
            from: account.index,
            nonce: self.nonce(node, &account).await?,
            token: offer.wants_token,
            fee,
            action: Action::Transfer {
                recipient: offer.owner,
                amount: offer.wants,
            },
            link: Word(offer.gives.core()),
            valid_until: offer.gives.valid_until,
        };
        let answer = self.sign(keys, transaction)?.transaction;
        Ok(Acceptance { offer, answer })
    }

    /// Finishes a swap: checks the answer, signs the own half and submits both.
    ///
    /// # Errors
    /// If the answer is not what was offered, or as [`Wallet::pay`].
    pub async fn finish(
        &mut self,
        node: &NodeClient,
        keys: &UserKeys,
        acceptance: Acceptance,
    ) -> Result<Paid, PayError> {
        let Acceptance { offer, answer } = acceptance;
        check_answer(&offer, &answer, keys.owner(), &self.domain)?;
        let transaction = Transaction {
            link: Word(answer.transaction.core()),
            ..offer.gives
        };
        let signed = self.sign(keys, transaction)?;
        self.journal.note_pair(signed.id, answer)?;
        let signed = Signed {
            pair: Some(answer),
            ..signed
        };
        self.send(node, &signed).await?;
        Ok(paid(&signed, false))
    }

    async fn paying_account(
        &mut self,
        node: &NodeClient,
        keys: &UserKeys,
        from: Option<AccountIndex>,
        token: TokenId,
    ) -> Result<AccountView, PayError> {
        let accounts = self.accounts(node, keys).await?;
        let fits = |account: &AccountView| {
            account.token == token && from.is_none_or(|from| from == account.index)
        };
        let candidates = accounts.into_iter().filter(fits);
        candidates
            .max_by_key(|account| account.balance)
            .ok_or(PayError::NoAccount {
                owner: keys.owner(),
                token,
            })
    }

    fn draft(&self, account: &AccountView, payment: &Payment) -> Transaction {
        Transaction {
            from: account.index,
            nonce: account.nonce,
            token: payment.token,
            fee: payment.fee,
            action: payment.action,
            link: no_link(),
            valid_until: Timestamp(now().0.saturating_add(payment.valid_secs)),
        }
    }

    async fn nonce(&mut self, node: &NodeClient, account: &AccountView) -> Result<Nonce, PayError> {
        self.note_dropped(node, account).await?;
        self.journal
            .free_nonce(&self.domain, account.index, account.nonce, now())
            .ok_or(PayError::NoncesUsedUp(account.index))
    }

    /// What the node took and dropped again no longer holds its nonce; what it forgot is sent again next time.
    async fn note_dropped(
        &mut self,
        node: &NodeClient,
        account: &AccountView,
    ) -> Result<(), PayError> {
        let waits = |signed: &&Signed| {
            let transaction = &signed.transaction.transaction;
            signed.outcome == Outcome::Acknowledged
                && transaction.from == account.index
                && transaction.nonce >= account.nonce
        };
        let waiting: Vec<_> = self
            .journal
            .records(&self.domain)
            .filter(waits)
            .map(|s| s.id)
            .collect();
        for id in waiting {
            let outcome = match node.transaction(id).await? {
                None => Outcome::Unknown,
                Some(view) if view.stage == TransactionStage::Dropped => Outcome::Rejected {
                    code: view.dropped_because.unwrap_or_else(|| "dropped".into()),
                },
                Some(_) => continue,
            };
            self.journal.note_outcome(id, outcome)?;
        }
        Ok(())
    }

    fn sign(&mut self, keys: &UserKeys, transaction: Transaction) -> Result<Signed, PayError> {
        let l1_address = keys.l1_address();
        Ok(self
            .journal
            .sign(&self.domain, transaction, l1_address, &keys.rollup, now())?)
    }

    /// Sends again what is in doubt of this account; gives it back if it is the same payment.
    async fn repeat_unknown(
        &mut self,
        node: &NodeClient,
        wanted: &Transaction,
        again: bool,
    ) -> Result<Option<Paid>, PayError> {
        for signed in self.journal.unknown(&self.domain, now()) {
            if signed.transaction.transaction.from != wanted.from || signed.is_half_without_pair() {
                continue;
            }
            match self.send(node, &signed).await {
                Ok(()) if signed.pays_the_same(wanted) && !again => {
                    return Ok(Some(paid(&signed, true)));
                }
                // Refused for certain: its nonce is free, and whatever takes it replaces it.
                Ok(()) | Err(PayError::Refused { .. }) => {}
                Err(error) => return Err(error),
            }
        }
        Ok(None)
    }

    async fn send(&mut self, node: &NodeClient, signed: &Signed) -> Result<(), PayError> {
        let mut transactions = vec![signed.transaction];
        transactions.extend(signed.pair);
        let id = signed.id;
        match node.submit(&self.domain, &transactions).await {
            Ok(accepted) => {
                self.journal.note_outcome(id, Outcome::Acknowledged)?;
                self.journal.note_receipts(&accepted.receipts)?;
            }
            Err(error) if error.code() == Some(Code::Duplicate) => {
                self.journal.note_outcome(id, Outcome::Acknowledged)?;
            }
            Err(error) if error.is_certain() => {
                let code = error
                    .code()
                    .map(|code| code.to_string())
                    .unwrap_or_default();
                self.journal.note_outcome(id, Outcome::Rejected { code })?;
                return Err(PayError::Refused { id, error });
            }
            Err(error) => return Err(PayError::Unknown { id, error }),
        }
        Ok(())
    }
}

impl Signed {
    /// Whether it is half of a swap that its counterparty submits.
    fn is_half_without_pair(&self) -> bool {
        self.pair.is_none() && self.transaction.transaction.link != no_link()
    }
}

fn check_answer(
    offer: &Offer,
    answer: &SignedTransaction,
    holder: Owner,
    domain: &Domain,
) -> Result<(), PayError> {
    let wanted = Action::Transfer {
        recipient: holder,
        amount: offer.wants,
    };
    let transaction = &answer.transaction;
    let rules = [
        (offer.domain == *domain, "it is for another rollup"),
        (
            offer.owner == holder,
            "the offer is of another payment address",
        ),
        (
            answer.owner() == offer.counterparty,
            "someone else answered",
        ),
        (
            transaction.action == wanted,
            "the amount or recipient differs",
        ),
        (transaction.token == offer.wants_token, "the token differs"),
        (
            transaction.link == Word(offer.gives.core()),
            "it is linked to something else",
        ),
        (answer.signature_is_valid(domain), "its signature is wrong"),
    ];
    match rules.into_iter().find(|(holds, _)| !holds) {
        Some((_, broken)) => Err(PayError::NotAsOffered(broken)),
        None => Ok(()),
    }
}

fn paid(signed: &Signed, repeated: bool) -> Paid {
    let transaction = &signed.transaction.transaction;
    Paid {
        id: signed.id,
        from: transaction.from,
        nonce: transaction.nonce,
        repeated,
    }
}

/// The system's clock.
pub fn now() -> Timestamp {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    Timestamp(since.map_or(0, |since| since.as_secs()))
}

fn no_link() -> Word {
    Word(field::from_bytes(&[0; 32]).expect("zero is a canonical word"))
}

/// A transfer of an amount.
pub fn transfer(recipient: Owner, amount: Float40) -> Action {
    Action::Transfer { recipient, amount }
}

/// A withdrawal of an amount.
pub fn withdraw(amount: Amount) -> Action {
    Action::Withdraw { amount }
}

#[cfg(test)]
mod tests;

//! Transactions that cannot run yet: a nonce ahead of the account's, or a linked one whose partner has not come.
//!
//! Pure: holds what waits, bounded per account and in total, and says what may run when an account's nonce moves.

use ark_ff::Zero;
use millrace_circuits::field::Word;
use millrace_circuits::op::Rejection;
use millrace_circuits::transaction::{SignedTransaction, TransactionId};
use millrace_circuits::types::{AccountIndex, Amount, BatchNumber, Nonce, Timestamp, TokenId};
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, HashMap};
use thiserror::Error;

/// Bounds of what waits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct MempoolLimits {
    /// How far ahead of the account a nonce may be. The protocol's wallets sign at most 2^10 ahead.
    pub nonces_ahead: u64,
    /// Waiting transactions of one account.
    pub per_account: usize,
    /// Waiting transactions in all.
    pub total: usize,
    /// How long ahead `valid_until` may be, in seconds.
    pub validity_secs: u64,
}

impl Default for MempoolLimits {
    fn default() -> Self {
        Self {
            nonces_ahead: 1 << 10,
            per_account: 64,
            total: 100_000,
            validity_secs: 30 * 86_400,
        }
    }
}

/// Why a transaction is not taken. Checks run in the order of the variants, [`Self::Rule`] in the order of [`Rejection`].
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum SubmitError {
    /// The node is not able to take transactions now.
    #[error("the sequencer is not taking transactions: {reason}; try again later")]
    Unavailable {
        /// What it waits for.
        reason: String,
    },
    /// Too many requests at once.
    #[error("the sequencer is busy; try again in a second")]
    Busy,
    /// The same idempotency key was used for something else.
    #[error("this idempotency key was used for another submission; use a new one")]
    IdempotencyKeyReused,
    /// Valid for longer than wallets may sign.
    #[error("valid until {valid_until:?} is too far ahead: at most {limit:?}")]
    ValidTooLong {
        /// As signed.
        valid_until: Timestamp,
        /// The latest accepted.
        limit: Timestamp,
    },
    /// Already taken.
    #[error("transaction {id} was submitted before")]
    Duplicate {
        /// Which.
        id: TransactionId,
    },
    /// Below the operator's terms.
    #[error("fee {offered} is below the floor of {floor} for token {token}")]
    FeeTooLow {
        /// As signed.
        offered: Amount,
        /// The floor.
        floor: Amount,
        /// Its token.
        token: TokenId,
    },
    /// A fee that nobody could take.
    #[error("the operator takes no fees in token {token}: sign with fee 0")]
    FeeNotTaken {
        /// The token.
        token: TokenId,
    },
    /// The protocol's rules refuse it.
    #[error(transparent)]
    Rule(#[from] Rejection),
    /// Too far ahead.
    #[error(
        "nonce {got} is too far ahead: the account's next nonce is {expected}, at most {ahead} ahead"
    )]
    NonceTooFarAhead {
        /// The account's nonce.
        expected: Nonce,
        /// As signed.
        got: Nonce,
        /// The bound.
        ahead: u64,
    },
    /// Another transaction with this nonce waits and pays no less.
    #[error(
        "a waiting transaction with nonce {nonce} pays {waiting}: replace it with a higher fee"
    )]
    ReplacementUnderpriced {
        /// The nonce.
        nonce: Nonce,
        /// Fee of the one that waits.
        waiting: Amount,
    },
    /// The account has too many waiting transactions.
    #[error("account {from} has {waiting} waiting transactions, the most allowed")]
    AccountFull {
        /// Which.
        from: AccountIndex,
        /// How many wait.
        waiting: usize,
    },
    /// All places are taken.
    #[error("the mempool is full; try again later")]
    MempoolFull,
    /// The tree has no empty leaf for the recipient.
    #[error("the state has no free account for a new recipient")]
    TreeFull,
    /// A pair that is not linked to each other.
    #[error("the two transactions are not linked to each other's core")]
    NotAPair,
    /// The database failed; nothing was taken.
    #[error("the transaction was not stored: {0}")]
    Storage(String),
}

impl SubmitError {
    /// Stable name for programs.
    pub fn code(&self) -> &'static str {
        match self {
            Self::Unavailable { .. } => "unavailable",
            Self::Busy => "busy",
            Self::IdempotencyKeyReused => "idempotency_key_reused",
            Self::ValidTooLong { .. } => "valid_too_long",
            Self::Duplicate { .. } => "duplicate",
            Self::FeeTooLow { .. } => "fee_too_low",
            Self::FeeNotTaken { .. } => "fee_not_taken",
            Self::NonceTooFarAhead { .. } => "nonce_too_far_ahead",
            Self::ReplacementUnderpriced { .. } => "replacement_underpriced",
            Self::AccountFull { .. } => "account_full",
            Self::MempoolFull => "mempool_full",
            Self::TreeFull => "tree_full",
            Self::NotAPair => "not_a_pair",
            Self::Storage(_) => "storage",
            Self::Rule(rule) => match rule {
                Rejection::FromIsZero => "from_is_zero",
                Rejection::Expired { .. } => "expired",
                Rejection::AccountMissing { .. } => "account_missing",
                Rejection::NotTheOwner { .. } => "not_the_owner",
                Rejection::TokenDiffers { .. } => "token_differs",
                Rejection::NonceTooLow { .. } => "nonce_too_low",
                Rejection::NonceTooHigh { .. } => "nonce_too_high",
                Rejection::AmountTooLarge { .. } => "amount_too_large",
                Rejection::NonceExhausted => "nonce_exhausted",
                Rejection::Overdrawn { .. } => "overdrawn",
                Rejection::RecipientDiffers { .. } => "recipient_differs",
                Rejection::RecipientTokenDiffers { .. } => "recipient_token_differs",
                Rejection::NothingToCreateWith => "nothing_to_create_with",
                Rejection::CreditOverflow { .. } => "credit_overflow",
                Rejection::BadSignature => "bad_signature",
            },
        }
    }

    /// Whether the same submission may succeed later.
    pub fn is_retryable(&self) -> bool {
        matches!(
            self,
            Self::Unavailable { .. } | Self::Busy | Self::MempoolFull | Self::Storage(_)
        )
    }
}

/// A transaction executed in an open or planned batch.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Pending {
    /// The transaction.
    pub signed: SignedTransaction,
    /// Receiving leaf, 0 for a Withdraw.
    pub to: AccountIndex,
    /// Row in its batch.
    pub row: u32,
}

/// A transaction that waits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Waiting {
    /// The transaction.
    pub signed: SignedTransaction,
    /// Unix milliseconds of its acceptance.
    pub since_millis: u64,
}

/// Where a transaction stands; from `InBatch` on the batch's stage is the transaction's.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum TransactionState {
    /// For an earlier nonce or its partner.
    Waiting,
    /// Executed in this batch at this row.
    InBatch {
        /// The batch.
        batch: BatchNumber,
        /// The row.
        row: u32,
    },
    /// Will not happen.
    Dropped {
        /// Why.
        reason: String,
    },
}

/// A transaction as stored.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TransactionRecord {
    /// As signed.
    pub signed: SignedTransaction,
    /// Where it stands.
    pub state: TransactionState,
    /// Receiving leaf, 0 for a Withdraw or while it waits.
    pub to: AccountIndex,
    /// Unix milliseconds of acceptance.
    pub received_at_millis: u64,
}

/// What was answered under an idempotency key.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Answer {
    /// The transactions submitted under it.
    pub ids: Vec<TransactionId>,
    /// Unix milliseconds.
    pub at_millis: u64,
}

/// Transactions that wait, by sender and nonce.
#[derive(Debug, Default)]
pub struct Mempool {
    limits: MempoolLimits,
    by_sender: BTreeMap<AccountIndex, BTreeMap<Nonce, Waiting>>,
    /// Linked transactions by their core.
    linked: HashMap<Word, (AccountIndex, Nonce)>,
    total: usize,
}

impl Mempool {
    /// An empty mempool.
    pub fn new(limits: MempoolLimits) -> Self {
        Self {
            limits,
            ..Self::default()
        }
    }

    /// Its bounds.
    pub fn limits(&self) -> &MempoolLimits {
        &self.limits
    }

    /// How many wait.
    pub fn len(&self) -> usize {
        self.total
    }

    /// Whether none waits.
    pub fn is_empty(&self) -> bool {
        self.total == 0
    }

    /// Takes a transaction that waits; gives the one it replaces.
    ///
    /// # Errors
    /// If the nonce is too far ahead, the one it would replace pays no less, or a bound is reached.
    pub fn insert(
        &mut self,
        waiting: Waiting,
        account_nonce: Nonce,
    ) -> Result<Option<Waiting>, SubmitError> {
        let transaction = &waiting.signed.transaction;
        let (from, nonce) = (transaction.from, transaction.nonce);
        let ahead = self.limits.nonces_ahead;
        if nonce.get() > account_nonce.get().saturating_add(ahead) {
            return Err(SubmitError::NonceTooFarAhead {
                expected: account_nonce,
                got: nonce,
                ahead,
            });
        }
        let queue = self.by_sender.entry(from).or_default();
        if let Some(old) = queue.get(&nonce) {
            let fee = |held: &Waiting| held.signed.transaction.fee.value().unwrap_or_default();
            if fee(&waiting) <= fee(old) {
                return Err(SubmitError::ReplacementUnderpriced {
                    nonce,
                    waiting: fee(old),
                });
            }
        } else if queue.len() >= self.limits.per_account {
            return Err(SubmitError::AccountFull {
                from,
                waiting: queue.len(),
            });
        } else if self.total >= self.limits.total {
            return Err(SubmitError::MempoolFull);
        } else {
            self.total += 1;
        }
        let replaced = queue.insert(nonce, waiting);
        for old in replaced.iter().filter(|old| is_linked(&old.signed)) {
            self.linked.remove(&Word(old.signed.transaction.core()));
        }
        if is_linked(&waiting.signed) {
            self.linked
                .insert(Word(waiting.signed.transaction.core()), (from, nonce));
        }
        Ok(replaced)
    }

    /// What waits at this nonce.
    pub fn at(&self, from: AccountIndex, nonce: Nonce) -> Option<&Waiting> {
        self.by_sender.get(&from)?.get(&nonce)
    }

    /// The waiting linked transaction with this core: the other half of a link.
    pub fn partner(&self, core: &Word) -> Option<&Waiting> {
        let (from, nonce) = self.linked.get(core)?;
        self.at(*from, *nonce)
    }

    /// Removes what waits at this nonce.
    pub fn remove(&mut self, from: AccountIndex, nonce: Nonce) -> Option<Waiting> {
        let queue = self.by_sender.get_mut(&from)?;
        let removed = queue.remove(&nonce);
        if queue.is_empty() {
            self.by_sender.remove(&from);
        }
        self.total -= usize::from(removed.is_some());
        for old in removed.iter().filter(|old| is_linked(&old.signed)) {
            self.linked.remove(&Word(old.signed.transaction.core()));
        }
        removed
    }

    /// Removes everything that can no longer run: expired at `now`.
    pub fn expire(&mut self, now: Timestamp) -> Vec<Waiting> {
        let expired: Vec<_> = self
            .by_sender
            .values()
            .flat_map(BTreeMap::values)
            .filter(|held| held.signed.transaction.valid_until < now)
            .copied()
            .collect();
        for held in &expired {
            self.remove(held.signed.transaction.from, held.signed.transaction.nonce);
        }
        expired
    }
}

fn is_linked(signed: &SignedTransaction) -> bool {
    !signed.transaction.link.0.is_zero()
}

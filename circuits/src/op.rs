//! The effect of each operation on accounts, as pure functions: the rules that the batch circuit states as constraints.
//!
//! | operation | function | gadget |
//! |---|---|---|
//! | Transfer, Withdraw: the paying side | [`debit`] | `batch::circuit::row` |
//! | Transfer: the receiving side | [`credit`] | `batch::circuit::row` |
//! | Deposit | [`deposit`] | `batch::circuit::l1_row` |
//! | ForcedExit | [`forced_exit`] | `batch::circuit::l1_row` |

use crate::account::{Account, Owner};
use crate::field::Word;
use crate::transaction::{Action, Domain, SignedTransaction, Transaction};
use crate::types::{AccountIndex, Amount, L1Address, Nonce, Timestamp, TokenId};
use crate::{amount::Float40, poseidon};
use thiserror::Error;

/// Why a transaction cannot be applied. Checks run in the order of the variants.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum Rejection {
    /// Index 0 is never used.
    #[error("account index 0 is never used: name the account that pays")]
    FromIsZero,
    /// Past its time.
    #[error(
        "valid until {valid_until:?}, but the batch is at {timestamp:?}: sign again with a later time"
    )]
    Expired {
        /// The signed limit.
        valid_until: Timestamp,
        /// The batch's timestamp.
        timestamp: Timestamp,
    },
    /// No account at this index.
    #[error("account {from} does not exist at this point: deposit to it, or wait for its deposit")]
    AccountMissing {
        /// The index named.
        from: AccountIndex,
    },
    /// The key and L1 address do not make the account's owner.
    #[error("account {from} belongs to another key or L1 address")]
    NotTheOwner {
        /// The index named.
        from: AccountIndex,
    },
    /// The account holds another token.
    #[error("account holds token {held}, the transaction says {signed}")]
    TokenDiffers {
        /// The account's token.
        held: TokenId,
        /// The signed token.
        signed: TokenId,
    },
    /// Already used.
    #[error("nonce {got} is used: the account's next nonce is {expected}")]
    NonceTooLow {
        /// The account's nonce.
        expected: Nonce,
        /// The signed nonce.
        got: Nonce,
    },
    /// A transaction before it is missing.
    #[error("nonce {got} is ahead: the account's next nonce is {expected}")]
    NonceTooHigh {
        /// The account's nonce.
        expected: Nonce,
        /// The signed nonce.
        got: Nonce,
    },
    /// The amount's code states 2^128 or more.
    #[error("amount code {code:#x} states 2^128 or more")]
    AmountTooLarge {
        /// The code.
        code: u64,
    },
    /// The last nonce signs nothing.
    #[error("the account has used up its nonces: force an exit to another account")]
    NonceExhausted,
    /// The balance does not cover amount and fee.
    #[error("balance {balance} does not cover amount {amount} and fee {fee}")]
    Overdrawn {
        /// What the account holds.
        balance: Amount,
        /// What it would send.
        amount: Amount,
        /// What it would pay the operator.
        fee: Amount,
    },
    /// The receiving account has another owner.
    #[error("the receiving account belongs to {held}, the sender signed for {signed}")]
    RecipientDiffers {
        /// Owner of the leaf.
        held: Owner,
        /// Owner that was signed.
        signed: Owner,
    },
    /// The receiving account holds another token.
    #[error("the receiving account holds token {held}, the sender signed token {signed}")]
    RecipientTokenDiffers {
        /// Token of the leaf.
        held: TokenId,
        /// Token that was signed.
        signed: TokenId,
    },
    /// Nothing creates an account.
    #[error("an amount of zero cannot create an account")]
    NothingToCreateWith,
    /// The receiving balance would leave 128 bits.
    #[error("balance {balance} plus {amount} exceeds 128 bits")]
    CreditOverflow {
        /// What the account holds.
        balance: Amount,
        /// What it would gain.
        amount: Amount,
    },
    /// The signature does not verify.
    #[error("the signature does not match this transaction, key and domain")]
    BadSignature,
}

/// Checks everything that the key's holder says against the account, but for the signature itself, which costs most.
///
/// # Errors
/// The first [`Rejection`] in the order of its variants.
pub fn authorise(
    account: Option<&Account>,
    signed: &SignedTransaction,
    timestamp: Timestamp,
) -> Result<(), Rejection> {
    let transaction = &signed.transaction;
    let from = transaction.from;
    if from.is_zero() {
        return Err(Rejection::FromIsZero);
    }
    if transaction.valid_until < timestamp {
        return Err(Rejection::Expired {
            valid_until: transaction.valid_until,
            timestamp,
        });
    }
    let account = account.ok_or(Rejection::AccountMissing { from })?;
    if account.owner != signed.owner() {
        return Err(Rejection::NotTheOwner { from });
    }
    debit(account, transaction).map(drop)
}

/// Checks the signature for this domain.
///
/// # Errors
/// [`Rejection::BadSignature`].
pub fn check_signature(signed: &SignedTransaction, domain: &Domain) -> Result<(), Rejection> {
    if signed.signature_is_valid(domain) {
        Ok(())
    } else {
        Err(Rejection::BadSignature)
    }
}

/// The paying account afterwards: amount and fee gone, nonce grown by one.
///
/// # Errors
/// The first [`Rejection`] in the order of its variants.
pub fn debit(account: &Account, transaction: &Transaction) -> Result<Account, Rejection> {
    let Transaction {
        nonce,
        token,
        fee,
        action,
        ..
    } = *transaction;
    if account.token != token {
        return Err(Rejection::TokenDiffers {
            held: account.token,
            signed: token,
        });
    }
    if nonce < account.nonce {
        return Err(Rejection::NonceTooLow {
            expected: account.nonce,
            got: nonce,
        });
    }
    if nonce > account.nonce {
        return Err(Rejection::NonceTooHigh {
            expected: account.nonce,
            got: nonce,
        });
    }
    let amount = match action {
        Action::Transfer { amount, .. } => value_of(amount)?,
        Action::Withdraw { amount } => amount,
    };
    let fee = fee
        .value()
        .expect("the largest fee, 7·10^31, is below 2^128");
    pay(account, amount, fee)
}

/// As [`debit`], for one who knows only what is posted: amount and fee gone, nonce grown by one.
///
/// # Errors
/// [`Rejection::NonceExhausted`] or [`Rejection::Overdrawn`].
pub fn pay(account: &Account, amount: Amount, fee: Amount) -> Result<Account, Rejection> {
    let nonce = account.nonce.next().ok_or(Rejection::NonceExhausted)?;
    let balance = account
        .balance
        .checked_sub(amount)
        .and_then(|rest| rest.checked_sub(fee))
        .ok_or(Rejection::Overdrawn {
            balance: account.balance,
            amount,
            fee,
        })?;
    Ok(Account {
        nonce,
        balance,
        ..*account
    })
}

/// An amount's value.
///
/// # Errors
/// [`Rejection::AmountTooLarge`] where the code states 2^128 or more.
pub fn value_of(amount: Float40) -> Result<Amount, Rejection> {
    amount.value().ok_or(Rejection::AmountTooLarge {
        code: amount.code(),
    })
}

/// The receiving account afterwards: an existing one of this owner and token, or a new one.
///
/// # Errors
/// The first [`Rejection`] in the order of its variants.
pub fn credit(
    existing: Option<&Account>,
    recipient: Owner,
    token: TokenId,
    amount: Amount,
) -> Result<Account, Rejection> {
    let Some(account) = existing else {
        if amount.is_zero() {
            return Err(Rejection::NothingToCreateWith);
        }
        return Ok(Account::new(recipient, token, amount));
    };
    if account.owner != recipient {
        return Err(Rejection::RecipientDiffers {
            held: account.owner,
            signed: recipient,
        });
    }
    if account.token != token {
        return Err(Rejection::RecipientTokenDiffers {
            held: account.token,
            signed: token,
        });
    }
    gain(account, amount)
}

/// The account with `amount` more.
///
/// # Errors
/// [`Rejection::CreditOverflow`], which the contract's cap on a token's total makes unreachable.
pub fn gain(account: &Account, amount: Amount) -> Result<Account, Rejection> {
    let balance = account
        .balance
        .checked_add(amount)
        .ok_or(Rejection::CreditOverflow {
            balance: account.balance,
            amount,
        })?;
    Ok(Account {
        balance,
        ..*account
    })
}

/// A deposit credits as a transfer does; nobody pays on L2.
///
/// # Errors
/// As [`credit`].
pub fn deposit(
    existing: Option<&Account>,
    owner: Owner,
    token: TokenId,
    amount: Amount,
) -> Result<Account, Rejection> {
    credit(existing, owner, token, amount)
}

/// What a forced exit names.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ExitClaim {
    /// The token that the leaf must hold.
    pub token: TokenId,
    /// The L1 sender.
    pub sender: L1Address,
    /// Key in the owner, any two words: they need not be a point.
    pub key: (Word, Word),
}

impl ExitClaim {
    /// The owner that the leaf must have.
    pub fn owner(&self) -> Owner {
        Owner(poseidon::hash([
            self.sender.to_word(),
            self.key.0.0,
            self.key.1.0,
        ]))
    }
}

/// The account after a forced exit and what leaves, or `None` if the claim does not hold: then nothing changes.
pub fn forced_exit(existing: Option<&Account>, claim: &ExitClaim) -> Option<(Account, Amount)> {
    let account = existing?;
    if account.token != claim.token || account.owner != claim.owner() {
        return None;
    }
    let nonce = account.nonce.after_forced_exit();
    Some((
        Account {
            nonce,
            balance: Amount::ZERO,
            ..*account
        },
        account.balance,
    ))
}

//! What the API takes and gives, as JSON. The protocol's types convert into these, and nothing else reaches a client.
//!
//! | kind of value | JSON |
//! |---|---|
//! | amounts, words | decimal text: they exceed what JavaScript's numbers hold |
//! | indices, nonces, tokens, batch and block numbers, times | numbers below 2^53 |
//! | payment addresses | bech32m text, `mlr1…` |
//! | L1 addresses, hashes, transaction ids | `0x` and hexadecimal digits |

use super::problem::{Code, Problem};
use millrace_circuits::account::Owner;
use millrace_circuits::amount::{FeeCode, Float40};
use millrace_circuits::babyjubjub::PublicKey;
use millrace_circuits::eddsa::Signature;
use millrace_circuits::field::Word;
use millrace_circuits::transaction::{
    Action, Domain, SignedTransaction, Transaction, TransactionId,
};
use millrace_circuits::types::{AccountIndex, Amount, L1Address, Nonce, Timestamp, TokenId};
use millrace_rollup::receipt::{Receipt, ReceiptBody};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

mod chain;
mod hash;
mod status;

pub use chain::*;
pub use hash::Hash;
pub use status::*;

/// The first number that JavaScript may not hold exactly.
pub const NUMBER_LIMIT: u64 = 1 << 53;

/// What a transaction does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum TransactionKind {
    /// Pays another account of the rollup, an existing or a new one.
    Transfer,
    /// Leaves the rollup to the L1 address in the sender's owner.
    Withdraw,
}

/// A point of BabyJubjub.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct PointBody {
    /// x, as decimal text.
    #[schema(value_type = String)]
    pub x: Word,
    /// y, as decimal text.
    #[schema(value_type = String)]
    pub y: Word,
}

/// An EdDSA-Poseidon signature.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct SignatureBody {
    /// R8.
    pub r8: PointBody,
    /// S, as decimal text.
    #[schema(value_type = String)]
    pub s: Word,
}

/// What is signed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct TransactionBody {
    /// Transfer or withdraw.
    pub kind: TransactionKind,
    /// Account that pays.
    #[schema(value_type = u32, example = 1)]
    pub from: AccountIndex,
    /// Its nonce.
    #[schema(value_type = u64, example = 0)]
    pub nonce: Nonce,
    /// Its token: 0 is ETH.
    #[schema(value_type = u32, example = 0)]
    pub token: TokenId,
    /// How much, in the token's smallest unit, as decimal text. A transfer's amount has an exact float40 code.
    #[schema(value_type = String, example = "1000000000000000")]
    pub amount: Amount,
    /// The float40 code that was signed; left out, it is the one with the smallest exponent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<u64>)]
    pub amount_code: Option<Float40>,
    /// The operator's fee in the same token, as decimal text. It has an exact fee code.
    #[schema(value_type = String, example = "10000000000")]
    pub fee: Amount,
    /// The fee code that was signed; left out, it is the one with the smallest exponent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<u8>)]
    pub fee_code: Option<FeeCode>,
    /// Payment address that receives; only of a transfer.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>, example = "mlr1qqqq…")]
    pub recipient: Option<Owner>,
    /// Core of the other transaction of the pair, as decimal text; left out or 0 if there is none.
    #[serde(default = "no_link")]
    #[schema(value_type = String, example = "0")]
    pub link: Word,
    /// Last time at which it is valid, in Unix seconds, below 2^53.
    #[schema(value_type = u64, example = 1_800_000_000u64)]
    pub valid_until: Timestamp,
}

/// A transaction with its signature.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct SignedTransactionBody {
    /// What is signed.
    pub transaction: TransactionBody,
    /// L1 address in the sender's owner.
    #[schema(value_type = String, example = "0x00000000000000000000000000000000000000aa")]
    pub l1_address: L1Address,
    /// Key in the sender's owner.
    pub key: PointBody,
    /// Its signature.
    pub signature: SignatureBody,
    /// The domain it was signed for, as decimal text. Optional: it turns a wrong domain into an error that says so.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>)]
    pub domain: Option<Word>,
}

/// One transaction, or two that are linked to each other: both happen in one batch, or none.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Submission {
    /// The transactions.
    #[schema(min_items = 1, max_items = 2)]
    pub transactions: Vec<SignedTransactionBody>,
}

/// A submission that is on disk. It happens once, whatever becomes of the node's process.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Accepted {
    /// Ids of the transactions, in the order of the submission; `/v1/transactions/{id}` says where each stands.
    #[schema(value_type = Vec<String>)]
    pub transactions: Vec<TransactionId>,
    /// Time of acceptance, in Unix milliseconds.
    pub accepted_at_millis: u64,
    /// The operator's signed word for each, in the same order; none from a node without the operator's key.
    #[serde(default)]
    pub receipts: Vec<ReceiptView>,
}

/// The operator's word that a transaction is durable: evidence, not payment. Money is received once its batch is proven.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ReceiptView {
    /// The transaction.
    #[schema(value_type = String)]
    pub id: TransactionId,
    /// Time of acceptance, in Unix milliseconds.
    pub received_at_millis: u64,
    /// The operator's L1 address.
    #[schema(value_type = String)]
    pub operator: L1Address,
    /// 65 bytes r ‖ s ‖ v in hexadecimal: an EIP-191 signature of
    /// keccak256("millrace-receipt-1" ‖ domain ‖ id ‖ received_at_millis as 8 bytes, big-endian).
    pub signature: String,
}

impl ReceiptView {
    /// The receipt as it was signed in this domain.
    pub fn to_receipt(&self, domain: Domain) -> Receipt {
        Receipt {
            body: ReceiptBody {
                domain,
                id: self.id,
                received_at_millis: self.received_at_millis,
            },
            operator: self.operator,
            signature: self.signature.clone(),
        }
    }
}

impl From<Receipt> for ReceiptView {
    fn from(receipt: Receipt) -> Self {
        Self {
            id: receipt.body.id,
            received_at_millis: receipt.body.received_at_millis,
            operator: receipt.operator,
            signature: receipt.signature,
        }
    }
}

impl From<PublicKey> for PointBody {
    fn from(point: PublicKey) -> Self {
        Self {
            x: Word(point.x),
            y: Word(point.y),
        }
    }
}

impl From<PointBody> for PublicKey {
    fn from(point: PointBody) -> Self {
        Self {
            x: point.x.0,
            y: point.y.0,
        }
    }
}

impl From<Signature> for SignatureBody {
    fn from(signature: Signature) -> Self {
        Self {
            r8: signature.r8.into(),
            s: Word(signature.s),
        }
    }
}

impl From<SignatureBody> for Signature {
    fn from(signature: SignatureBody) -> Self {
        Self {
            r8: signature.r8.into(),
            s: signature.s.0,
        }
    }
}

impl From<&Transaction> for TransactionBody {
    fn from(transaction: &Transaction) -> Self {
        let (kind, amount_code, recipient) = match transaction.action {
            Action::Transfer { recipient, amount } => {
                (TransactionKind::Transfer, Some(amount), Some(recipient))
            }
            Action::Withdraw { .. } => (TransactionKind::Withdraw, None, None),
        };
        Self {
            kind,
            from: transaction.from,
            nonce: transaction.nonce,
            token: transaction.token,
            // A code without a value is in no transaction that was accepted.
            amount: transaction.amount().unwrap_or_default(),
            amount_code,
            fee: transaction.fee.value().unwrap_or_default(),
            fee_code: Some(transaction.fee),
            recipient,
            link: transaction.link,
            valid_until: transaction.valid_until,
        }
    }
}

impl From<&SignedTransaction> for SignedTransactionBody {
    fn from(signed: &SignedTransaction) -> Self {
        Self {
            transaction: (&signed.transaction).into(),
            l1_address: signed.l1_address,
            key: signed.key.into(),
            signature: signed.signature.into(),
            domain: None,
        }
    }
}

impl TransactionBody {
    /// What these fields sign.
    ///
    /// # Errors
    /// A problem that names the first field at odds with the others.
    pub fn to_transaction(&self) -> Result<Transaction, Problem> {
        if self.valid_until.0 >= NUMBER_LIMIT {
            return Err(invalid("valid_until", "it must be below 2^53"));
        }
        Ok(Transaction {
            from: self.from,
            nonce: self.nonce,
            token: self.token,
            fee: self.fee_code()?,
            action: self.action()?,
            link: self.link,
            valid_until: self.valid_until,
        })
    }

    fn action(&self) -> Result<Action, Problem> {
        match (self.kind, self.recipient) {
            (TransactionKind::Transfer, Some(recipient)) => Ok(Action::Transfer {
                recipient,
                amount: self.float_code()?,
            }),
            (TransactionKind::Transfer, None) => {
                Err(invalid("recipient", "a transfer names who receives"))
            }
            (TransactionKind::Withdraw, Some(_)) => Err(invalid(
                "recipient",
                "a withdraw pays the L1 address in the sender's owner; leave it out",
            )),
            (TransactionKind::Withdraw, None) if self.amount_code.is_some() => Err(invalid(
                "amount_code",
                "a withdraw's amount has no code; leave it out",
            )),
            (TransactionKind::Withdraw, None) => Ok(Action::Withdraw {
                amount: self.amount,
            }),
        }
    }

    fn float_code(&self) -> Result<Float40, Problem> {
        match self.amount_code {
            None => Float40::exact(self.amount).map_err(|error| invalid("amount", error)),
            Some(code) if code.value() == Some(self.amount) => Ok(code),
            Some(code) => Err(invalid(
                "amount_code",
                format!("code {} does not state {}", code.code(), self.amount),
            )),
        }
    }

    fn fee_code(&self) -> Result<FeeCode, Problem> {
        match self.fee_code {
            None => FeeCode::exact(self.fee).map_err(|error| invalid("fee", error)),
            Some(code) if code.value() == Some(self.fee) => Ok(code),
            Some(code) => Err(invalid(
                "fee_code",
                format!("code {} does not state {}", code.code(), self.fee),
            )),
        }
    }
}

impl SignedTransactionBody {
    /// The transaction for this domain.
    ///
    /// # Errors
    /// If the fields contradict each other, or it was signed for another domain.
    pub fn to_signed(&self, domain: &Domain) -> Result<SignedTransaction, Problem> {
        if let Some(got) = self.domain.filter(|got| *got != domain.0) {
            let expected = word_text(&domain.0);
            let detail = format!(
                "signed for domain {}, this rollup has {expected}",
                word_text(&got)
            );
            return Err(Problem::new(Code::WrongDomain, detail).at("domain"));
        }
        Ok(SignedTransaction {
            transaction: self.transaction.to_transaction()?,
            l1_address: self.l1_address,
            key: self.key.into(),
            signature: self.signature.into(),
        })
    }
}

fn no_link() -> Word {
    Word(0u64.into())
}

/// A word as decimal text.
pub fn word_text(word: &Word) -> String {
    word.0.to_string()
}

fn invalid(field: &str, cause: impl std::fmt::Display) -> Problem {
    Problem::new(Code::InvalidField, format!("{field}: {cause}")).at(format!("transaction.{field}"))
}

impl Problem {
    /// Says which item of a list it was about.
    #[must_use]
    pub fn inside(mut self, list: &str, place: usize) -> Self {
        let inner = self
            .field
            .take()
            .map_or(String::new(), |field| format!(".{field}"));
        self.field = Some(format!("{list}[{place}]{inner}"));
        self
    }
}

#[cfg(test)]
mod tests;

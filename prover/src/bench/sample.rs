//! A full batch of signed transfers among as many accounts, for measurements and tests.

use millrace_circuits::account::{Account, Owner};
use millrace_circuits::amount::{CodecError, FeeCode, Float40};
use millrace_circuits::batch::{BatchError, BatchInput, ExecutedBatch, Shape, Slot, execute};
use millrace_circuits::eddsa::SecretKey;
use millrace_circuits::field::{Word, from_bytes_reduced};
use millrace_circuits::merkle::{SparseTree, StateTree};
use millrace_circuits::transaction::{Action, Domain, SignedTransaction, Transaction};
use millrace_circuits::types::{
    AccountIndex, Amount, BatchNumber, L1Address, Nonce, OutOfRange, Timestamp, TokenId,
};
use sha2::{Digest, Sha256};
use std::convert::Infallible;
use thiserror::Error;

const BALANCE: u128 = 1_000_000_000;
const TIME: u64 = 1_700_000_000;

/// Why a sample cannot be made.
#[derive(Debug, Error)]
pub enum SampleError {
    /// More accounts than the tree holds.
    #[error(transparent)]
    Range(#[from] OutOfRange),
    /// An amount without a code.
    #[error(transparent)]
    Codec(#[from] CodecError),
    /// The batch does not apply.
    #[error("the sample batch does not apply: {0}")]
    Batch(#[from] BatchError<Infallible>),
}

struct User {
    index: AccountIndex,
    l1_address: L1Address,
    key: SecretKey,
}

impl User {
    fn number(number: u64) -> Result<Self, SampleError> {
        let secret =
            Sha256::new_with_prefix(b"millrace sample user").chain_update(number.to_le_bytes());
        let mut l1_address = [0x11; 20];
        l1_address[12..].copy_from_slice(&number.to_be_bytes());
        Ok(Self {
            // Spread over the tree, so that paths meet only near the root.
            index: AccountIndex::new(1 + number * 65_521 % (AccountIndex::LIMIT - 1))?,
            l1_address: L1Address(l1_address),
            key: SecretKey::from_bytes(secret.finalize().into()),
        })
    }

    fn owner(&self) -> Owner {
        Owner::new(self.l1_address, &self.key.public_key())
    }

    fn pay(&self, other: &Self, domain: &Domain) -> Result<SignedTransaction, SampleError> {
        let transaction = Transaction {
            from: self.index,
            nonce: Nonce::ZERO,
            token: TokenId::ZERO,
            fee: FeeCode::exact(Amount(7))?,
            action: Action::Transfer {
                recipient: other.owner(),
                amount: Float40::exact(Amount(1_234_567))?,
            },
            link: Word(0u64.into()),
            valid_until: Timestamp(TIME + 3600),
        };
        Ok(transaction.sign(domain, self.l1_address, &self.key))
    }
}

/// A batch in which every transaction row is a transfer from one account to the next, with a fee. Always the same.
///
/// # Errors
/// If the shape is larger than the tree.
pub fn sample_batch(shape: Shape) -> Result<ExecutedBatch, SampleError> {
    let domain = Domain(Word(from_bytes_reduced(&[3; 32])));
    let users: Vec<User> = (0..shape.transaction_rows as u64)
        .map(User::number)
        .collect::<Result<_, _>>()?;
    let mut tree = SparseTree::new();
    for user in &users {
        let account = Account::new(user.owner(), TokenId::ZERO, Amount(BALANCE));
        let Ok(()) = tree.set(user.index, account);
    }
    let slots = (0..users.len())
        .map(|i| {
            let (from, to) = (&users[i], &users[(i + 1) % users.len()]);
            Ok(Slot::Transaction {
                signed: from.pay(to, &domain)?,
                to: to.index,
            })
        })
        .collect::<Result<Vec<_>, SampleError>>()?;
    let input = BatchInput {
        shape,
        number: BatchNumber(1),
        timestamp: Timestamp(TIME),
        domain,
        fee_leaves: users.first().map(|user| user.index).into_iter().collect(),
        l1_operations: vec![],
        slots,
    };
    Ok(execute(&input, &mut tree)?)
}

//! The data vector d of a batch: header, L1 rows, transaction rows, extras, each at its fixed offset.
//!
//! [`BatchData`] → [`BatchData::words`] → commitment C, evaluation y; [`super::posted`] holds the same content as bytes.

use super::commitment::{commitment, evaluate};
use super::shape::{EXTRA_WORDS, L1_ROW_WORDS, ROWS_PER_WORD, Shape};
use crate::account::Owner;
use crate::amount::{FeeCode, Float40};
use crate::field::{Word, power_of_two};
use crate::transaction::{Domain, KIND_DEPOSIT, KIND_FORCED_EXIT};
use crate::types::{AccountIndex, Amount, BatchNumber, L1Address, Timestamp, TokenId};
use ark_bn254::Fr;
use ark_ff::Zero;
use serde::{Deserialize, Serialize};

/// What the contract knows of a batch or supplies itself.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Header {
    /// The batch's number, from 1.
    pub number: BatchNumber,
    /// Unix seconds, against which expiry is checked.
    pub timestamp: Timestamp,
    /// Contract and chain.
    pub domain: Domain,
    /// Root before.
    pub old_root: Word,
    /// Root after.
    pub new_root: Word,
    /// Leaves that gather fees, of distinct tokens; at most the shape's fee leaves. 0 is none.
    pub fee_leaves: Vec<AccountIndex>,
}

/// An L1 request as a batch serves it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum L1Row {
    /// A deposit, credited to `index`; 0 refuses it and the contract credits the depositor.
    Deposit {
        /// The leaf credited, or 0.
        index: AccountIndex,
        /// Owner of that leaf.
        owner: Owner,
        /// Token of that leaf.
        token: TokenId,
        /// What arrived.
        amount: Amount,
    },
    /// A forced exit.
    ForcedExit {
        /// The leaf named by the request.
        index: AccountIndex,
        /// The token named by the request.
        token: TokenId,
        /// The L1 account that asked, and receives.
        sender: L1Address,
        /// A.x of the request.
        key_x: Word,
        /// A.y of the request.
        key_y: Word,
        /// What left: the whole balance, or nothing if the claim did not hold.
        amount: Amount,
    },
}

impl L1Row {
    /// The row's five words.
    pub fn words(&self) -> [Fr; L1_ROW_WORDS] {
        let head = |kind: u64, index: AccountIndex, token: TokenId| {
            Fr::from(kind) + Fr::from(index) * power_of_two(8) + Fr::from(token) * power_of_two(32)
        };
        match *self {
            Self::Deposit {
                index,
                owner,
                token,
                amount,
            } => [
                head(KIND_DEPOSIT, index, token),
                amount.into(),
                owner.0,
                Fr::zero(),
                Fr::zero(),
            ],
            Self::ForcedExit {
                index,
                token,
                sender,
                key_x,
                key_y,
                amount,
            } => [
                head(KIND_FORCED_EXIT, index, token),
                amount.into(),
                sender.to_word(),
                key_x.0,
                key_y.0,
            ],
        }
    }
}

/// What a row states outside its 12 bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Extra {
    /// Nothing: a Noop, or a transfer to an existing account.
    #[default]
    None,
    /// A Withdraw's payment.
    Withdrawal {
        /// Who receives on L1.
        address: L1Address,
        /// Which token.
        token: TokenId,
        /// How much.
        amount: Amount,
    },
    /// Owner of the account that a transfer creates.
    NewAccount {
        /// That owner.
        owner: Owner,
    },
}

impl Extra {
    /// The three words.
    pub fn words(&self) -> [Fr; EXTRA_WORDS] {
        match *self {
            Self::None => [Fr::zero(); EXTRA_WORDS],
            Self::Withdrawal {
                address,
                token,
                amount,
            } => [address.to_word(), token.into(), amount.into()],
            Self::NewAccount { owner } => [owner.0, Fr::zero(), Fr::zero()],
        }
    }
}

/// A transaction as posted. All zero is a Noop.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Row {
    /// The paying account; 0 is a Noop.
    pub from: AccountIndex,
    /// The receiving account; 0 is a Withdraw.
    pub to: AccountIndex,
    /// A transfer's amount.
    pub amount: Float40,
    /// The fee.
    pub fee: FeeCode,
    /// The rest.
    pub extra: Extra,
}

impl Row {
    /// Whether the row does nothing.
    pub fn is_noop(&self) -> bool {
        self.from.is_zero()
    }

    /// Whether the row leaves the rollup.
    pub fn is_withdraw(&self) -> bool {
        !self.from.is_zero() && self.to.is_zero()
    }

    /// The 12 bytes: from (3), to (3), amount (5), fee (1).
    pub fn bytes(&self) -> [u8; 12] {
        let mut bytes = [0; 12];
        bytes[..3].copy_from_slice(&self.from.get().to_be_bytes()[5..]);
        bytes[3..6].copy_from_slice(&self.to.get().to_be_bytes()[5..]);
        bytes[6..11].copy_from_slice(&self.amount.code().to_be_bytes()[3..]);
        bytes[11] = self.fee.code() as u8;
        bytes
    }

    /// The 12 bytes as an integer below 2^96.
    pub fn integer(&self) -> Fr {
        let mut wide = [0; 16];
        wide[4..].copy_from_slice(&self.bytes());
        Fr::from(u128::from_be_bytes(wide))
    }
}

/// Money that leaves the rollup, in the order in which the contract lists it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Payout {
    /// Who receives.
    pub address: L1Address,
    /// Which token.
    pub token: TokenId,
    /// How much.
    pub amount: Amount,
}

impl Payout {
    /// 40 bytes: address (20), token (4), amount (16).
    pub fn bytes(&self) -> [u8; 40] {
        let mut bytes = [0; 40];
        bytes[..20].copy_from_slice(&self.address.0);
        bytes[20..24].copy_from_slice(&(self.token.get() as u32).to_be_bytes());
        bytes[24..].copy_from_slice(&self.amount.0.to_be_bytes());
        bytes
    }
}

/// The three public inputs of a batch proof.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct BatchPublic {
    /// C, the commitment to the data vector.
    pub commitment: Word,
    /// z, the contract's challenge.
    pub challenge: Word,
    /// y, the data vector as a polynomial at z.
    pub evaluation: Word,
}

impl BatchPublic {
    /// In the order of the circuit and the contract.
    pub fn inputs(&self) -> [Fr; 3] {
        [self.commitment.0, self.challenge.0, self.evaluation.0]
    }
}

/// The whole content of a batch.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct BatchData {
    /// The circuit that proves it.
    pub shape: Shape,
    /// Header.
    pub header: Header,
    /// L1 rows, at most the shape's.
    pub l1_rows: Vec<L1Row>,
    /// Transaction rows, at most the shape's; what is absent is a Noop.
    pub rows: Vec<Row>,
}

impl BatchData {
    /// The five header words.
    pub fn header_words(&self) -> [Fr; super::shape::HEADER_WORDS] {
        let Header {
            number,
            timestamp,
            domain,
            old_root,
            new_root,
            fee_leaves,
        } = &self.header;
        let id = Fr::from(self.shape.id)
            + Fr::from(number.0) * power_of_two(16)
            + Fr::from(timestamp.0) * power_of_two(80);
        [
            id,
            domain.0.0,
            old_root.0,
            new_root.0,
            fee_leaves_word(fee_leaves),
        ]
    }

    /// The data vector, of the shape's fixed length.
    pub fn words(&self) -> Vec<Fr> {
        let mut words = Vec::with_capacity(self.shape.words());
        words.extend(self.header_words());
        words.extend(self.l1_rows.iter().flat_map(L1Row::words));
        words.resize(self.shape.rows_offset(), Fr::zero());
        words.extend(self.rows.chunks(ROWS_PER_WORD).map(|pair| {
            let second = pair.get(1).map_or(Fr::zero(), Row::integer);
            pair[0].integer() * power_of_two(96) + second
        }));
        words.resize(self.shape.extras_offset(), Fr::zero());
        words.extend(self.rows.iter().flat_map(|row| row.extra.words()));
        words.resize(self.shape.words(), Fr::zero());
        words
    }

    /// C.
    pub fn commitment(&self) -> Fr {
        commitment(self.shape.id, &self.words())
    }

    /// y at z.
    pub fn evaluate(&self, challenge: Fr) -> Fr {
        evaluate(&self.words(), challenge)
    }

    /// The public inputs with the contract's challenge for this beneficiary of request fees.
    pub fn public(&self, beneficiary: L1Address) -> BatchPublic {
        let words = self.words();
        let commitment = commitment(self.shape.id, &words);
        let challenge = self.challenge(commitment, beneficiary);
        BatchPublic {
            commitment: Word(commitment),
            challenge: Word(challenge),
            evaluation: Word(evaluate(&words, challenge)),
        }
    }

    /// All payments in the contract's order: forced exits that pay, then withdrawals. Refused deposits, which the contract
    /// pays to a depositor whom only L1 knows, stand where `refund` says: it maps an L1 row's position to that payment.
    pub fn payouts(&self, refund: impl Fn(usize) -> Option<Payout>) -> Vec<Payout> {
        let l1 = self
            .l1_rows
            .iter()
            .enumerate()
            .filter_map(|(position, row)| match *row {
                L1Row::Deposit { index, .. } if index.is_zero() => refund(position),
                L1Row::ForcedExit {
                    token,
                    sender,
                    amount,
                    ..
                } if !amount.is_zero() => Some(Payout {
                    address: sender,
                    token,
                    amount,
                }),
                _ => None,
            });
        let withdrawals = self.rows.iter().filter_map(|row| match row.extra {
            Extra::Withdrawal {
                address,
                token,
                amount,
            } => Some(Payout {
                address,
                token,
                amount,
            }),
            _ => None,
        });
        l1.chain(withdrawals).collect()
    }
}

/// Σ index_k·2^(24k).
pub fn fee_leaves_word(fee_leaves: &[AccountIndex]) -> Fr {
    fee_leaves.iter().rev().fold(Fr::zero(), |sum, index| {
        sum * power_of_two(24) + Fr::from(*index)
    })
}

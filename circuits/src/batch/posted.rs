//! The bytes that a batch posts on L1, and back: rows of 12 bytes, extras as records, each checked on the way in.
//!
//! [`BatchData`] → [`Posted`] → calldata → [`BatchData::from_posted`] → [`super::replay`]

use super::data::{BatchData, Extra, Header, L1Row, Row};
use super::shape::{ROWS_PER_WORD, Shape};
use crate::account::Owner;
use crate::amount::{FeeCode, Float40};
use crate::field;
use crate::types::{AccountIndex, Amount, L1Address, TokenId};
use ark_bn254::Fr;
use serde::{Deserialize, Serialize};
use sha3::{Digest, Keccak256};
use thiserror::Error;

const ROW_BYTES: usize = 12;
const ROW_NUMBER_BYTES: usize = 2;
const WITHDRAWAL_BYTES: usize = 40;
const NEW_ACCOUNT_BYTES: usize = 32;

/// The posted regions.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Posted {
    /// 12 bytes per row, a multiple of 24.
    pub rows: Vec<u8>,
    /// Records in strictly increasing row order.
    pub extras: Vec<u8>,
}

/// Why posted bytes are no batch. The contract refuses the same.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum DecodeError {
    /// Rows come in pairs of 24 bytes.
    #[error("{0} bytes of rows are no multiple of 24")]
    RowsLength(usize),
    /// More rows than the circuit has.
    #[error("{got} {what} exceed the circuit's {capacity}")]
    TooMany {
        /// Which region.
        what: &'static str,
        /// Posted.
        got: usize,
        /// The shape's capacity.
        capacity: usize,
    },
    /// A record ends before its fields do.
    #[error("extras end inside the record at byte {0}")]
    ExtrasTruncated(usize),
    /// Row numbers must grow.
    #[error("extras name row {got} after row {previous}")]
    ExtrasOrder {
        /// The row before.
        previous: usize,
        /// The row named.
        got: usize,
    },
    /// A record for a row that was not posted.
    #[error("extras name row {got}, but {rows} rows are posted")]
    ExtrasRow {
        /// The row named.
        got: usize,
        /// Rows posted.
        rows: usize,
    },
    /// An owner is no word.
    #[error("the owner of row {0} is no canonical field element")]
    OwnerNotCanonical(usize),
}

impl BatchData {
    /// The bytes to post. Trailing Noops are left out, but for one that fills a pair.
    pub fn posted(&self) -> Posted {
        let used = self
            .rows
            .iter()
            .rposition(|row| !row.is_noop())
            .map_or(0, |last| last + 1);
        let padded = used.next_multiple_of(ROWS_PER_WORD);
        let mut rows: Vec<u8> = self.rows.iter().take(used).flat_map(Row::bytes).collect();
        rows.resize(padded * ROW_BYTES, 0);
        let mut extras = Vec::new();
        for (number, row) in self.rows.iter().enumerate() {
            let number = (number as u16).to_be_bytes();
            match row.extra {
                Extra::None => {}
                Extra::Withdrawal {
                    address,
                    token,
                    amount,
                } => {
                    extras.extend(number);
                    extras.extend(
                        super::Payout {
                            address,
                            token,
                            amount,
                        }
                        .bytes(),
                    );
                }
                Extra::NewAccount { owner } => {
                    extras.extend(number);
                    extras.extend(field::to_bytes(&owner.0));
                }
            }
        }
        Posted { rows, extras }
    }

    /// keccak256(keccak256(L1 row words) ‖ keccak256(rows) ‖ keccak256(extras)).
    pub fn data_hash(&self) -> [u8; 32] {
        let Posted { rows, extras } = self.posted();
        let l1_words: Vec<u8> = self
            .l1_rows
            .iter()
            .flat_map(L1Row::words)
            .flat_map(|word| field::to_bytes(&word))
            .collect();
        let parts = [&l1_words, &rows, &extras].map(Keccak256::digest);
        Keccak256::digest(parts.concat()).into()
    }

    /// z = keccak256(C, dataHash, `d[0]` … `d[4]`, beneficiary) mod r.
    pub fn challenge(&self, commitment: Fr, beneficiary: L1Address) -> Fr {
        let mut hasher = Keccak256::new();
        hasher.update(field::to_bytes(&commitment));
        hasher.update(self.data_hash());
        for word in self.header_words() {
            hasher.update(field::to_bytes(&word));
        }
        hasher.update(field::to_bytes(&beneficiary.to_word()));
        field::from_bytes_reduced(&hasher.finalize().into())
    }

    /// Reads what was posted.
    ///
    /// # Errors
    /// [`DecodeError`] for bytes that the contract would have refused.
    pub fn from_posted(
        shape: Shape,
        header: Header,
        l1_rows: Vec<L1Row>,
        posted: &Posted,
    ) -> Result<Self, DecodeError> {
        if !posted.rows.len().is_multiple_of(ROW_BYTES * ROWS_PER_WORD) {
            return Err(DecodeError::RowsLength(posted.rows.len()));
        }
        at_most("L1 rows", l1_rows.len(), shape.l1_rows)?;
        at_most(
            "transaction rows",
            posted.rows.len() / ROW_BYTES,
            shape.transaction_rows,
        )?;
        at_most("fee leaves", header.fee_leaves.len(), shape.fee_leaves)?;
        let mut rows: Vec<Row> = posted
            .rows
            .chunks_exact(ROW_BYTES)
            .map(decode_row)
            .collect();
        decode_extras(&mut rows, &posted.extras)?;
        Ok(Self {
            shape,
            header,
            l1_rows,
            rows,
        })
    }
}

fn at_most(what: &'static str, got: usize, capacity: usize) -> Result<(), DecodeError> {
    if got > capacity {
        Err(DecodeError::TooMany {
            what,
            got,
            capacity,
        })
    } else {
        Ok(())
    }
}

fn big_endian(bytes: &[u8]) -> u64 {
    bytes
        .iter()
        .fold(0, |sum, byte| (sum << 8) | u64::from(*byte))
}

fn decode_row(bytes: &[u8]) -> Row {
    let index = |bytes| AccountIndex::new(big_endian(bytes)).expect("three bytes are 24 bits");
    Row {
        from: index(&bytes[..3]),
        to: index(&bytes[3..6]),
        amount: Float40::from_code(big_endian(&bytes[6..11])).expect("five bytes are 40 bits"),
        fee: FeeCode::from_code(u64::from(bytes[11])).expect("one byte is 8 bits"),
        extra: Extra::None,
    }
}

fn decode_extras(rows: &mut [Row], extras: &[u8]) -> Result<(), DecodeError> {
    let (mut offset, mut previous) = (0, None);
    while offset < extras.len() {
        let truncated = DecodeError::ExtrasTruncated(offset);
        let rest = &extras[offset..];
        let number = rest.get(..ROW_NUMBER_BYTES).ok_or(truncated.clone())?;
        let number = big_endian(number) as usize;
        if let Some(previous) = previous.filter(|previous| number <= *previous) {
            return Err(DecodeError::ExtrasOrder {
                previous,
                got: number,
            });
        }
        let posted = rows.len();
        let row = rows.get_mut(number).ok_or(DecodeError::ExtrasRow {
            got: number,
            rows: posted,
        })?;
        let length = if row.is_withdraw() {
            WITHDRAWAL_BYTES
        } else {
            NEW_ACCOUNT_BYTES
        };
        let record = rest
            .get(ROW_NUMBER_BYTES..ROW_NUMBER_BYTES + length)
            .ok_or(truncated)?;
        row.extra = if row.is_withdraw() {
            decode_withdrawal(record)
        } else {
            let bytes = record.try_into().expect("the record has 32 bytes");
            let owner =
                field::from_bytes(&bytes).map_err(|_| DecodeError::OwnerNotCanonical(number))?;
            Extra::NewAccount {
                owner: Owner(owner),
            }
        };
        previous = Some(number);
        offset += ROW_NUMBER_BYTES + length;
    }
    Ok(())
}

fn decode_withdrawal(record: &[u8]) -> Extra {
    Extra::Withdrawal {
        address: L1Address(record[..20].try_into().expect("20 bytes")),
        token: TokenId::new(big_endian(&record[20..24])).expect("four bytes are 32 bits"),
        amount: Amount(u128::from_be_bytes(
            record[24..40].try_into().expect("16 bytes"),
        )),
    }
}

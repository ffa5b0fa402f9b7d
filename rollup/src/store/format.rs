//! Which bytes stand for what: big-endian keys that sort as their numbers do, postcard values behind a version byte.

use millrace_circuits::account::Owner;
use millrace_circuits::field;
use millrace_circuits::types::{AccountIndex, TokenId};
use serde::Serialize;
use serde::de::DeserializeOwned;
use thiserror::Error;

/// First byte of each value.
const VALUE_VERSION: u8 = 1;

/// A value that does not decode.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum FormatError {
    /// No version byte, or an unknown one.
    #[error("unknown value version {0:?}")]
    Version(Option<u8>),
    /// The rest does not parse.
    #[error("{0}")]
    Content(String),
}

/// A value's bytes.
pub fn encode<T: Serialize>(value: &T) -> Vec<u8> {
    postcard::to_extend(value, vec![VALUE_VERSION]).expect("plain data serialises into memory")
}

/// A value from its bytes.
///
/// # Errors
/// If they are of another version or damaged.
pub fn decode<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, FormatError> {
    match bytes.split_first() {
        Some((&VALUE_VERSION, rest)) => {
            postcard::from_bytes(rest).map_err(|error| FormatError::Content(error.to_string()))
        }
        other => Err(FormatError::Version(other.map(|(version, _)| *version))),
    }
}

/// Key of a number.
pub fn number_key(number: u64) -> Vec<u8> {
    number.to_be_bytes().to_vec()
}

/// The number in a key.
pub fn read_number_key(key: &[u8]) -> u64 {
    key.iter()
        .take(8)
        .fold(0, |sum, byte| (sum << 8) | u64::from(*byte))
}

/// Key of an account: 4 bytes.
pub fn index_key(index: AccountIndex) -> Vec<u8> {
    (index.get() as u32).to_be_bytes().to_vec()
}

/// The index in a key.
pub fn read_index_key(key: &[u8]) -> AccountIndex {
    let number = key
        .iter()
        .take(4)
        .fold(0, |sum, byte| (sum << 8) | u64::from(*byte));
    AccountIndex::new(number).expect("only indices are written")
}

/// Key of a tree node: level, position.
pub fn node_key(level: usize, position: u32) -> Vec<u8> {
    [&[level as u8][..], &position.to_be_bytes()].concat()
}

/// What all keys of an owner's accounts start with.
pub fn owner_prefix(owner: &Owner) -> Vec<u8> {
    field::to_bytes(&owner.0).to_vec()
}

/// Key of an owner's account: owner, token, index.
pub fn owner_key(owner: &Owner, token: TokenId, index: AccountIndex) -> Vec<u8> {
    let token = (token.get() as u32).to_be_bytes();
    [&owner_prefix(owner)[..], &token, &index_key(index)].concat()
}

/// What all keys of an owner's accounts of one token start with.
pub fn holding_prefix(owner: &Owner, token: TokenId) -> Vec<u8> {
    let token = (token.get() as u32).to_be_bytes();
    [&owner_prefix(owner)[..], &token].concat()
}

/// Token and index in such a key.
pub fn read_owner_key(key: &[u8]) -> (TokenId, AccountIndex) {
    let token = key[32..36]
        .iter()
        .fold(0, |sum, byte| (sum << 8) | u64::from(*byte));
    (
        TokenId::new(token).expect("four bytes are a token"),
        read_index_key(&key[36..]),
    )
}

/// Key of a transaction that waits: sender, nonce.
pub fn waiting_key(from: AccountIndex, nonce: u64) -> Vec<u8> {
    [index_key(from), number_key(nonce)].concat()
}

/// Key of an entry of an account's history.
pub fn history_key(index: AccountIndex, sequence: u64) -> Vec<u8> {
    [index_key(index), number_key(sequence)].concat()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::batch_log::{BatchRecord, BatchStage, L1Link, StoredWitness};
    use crate::events::{Event, EventKind};
    use crate::mempool::{Answer, TransactionRecord, TransactionState};
    use crate::state::Undo;
    use crate::store::Marks;
    use millrace_circuits::account::Account;
    use millrace_circuits::amount::{FeeCode, Float40};
    use millrace_circuits::batch::{BatchInput, BatchPublic, BatchWitness, Shape, Slot};
    use millrace_circuits::eddsa::SecretKey;
    use millrace_circuits::field::Word;
    use millrace_circuits::transaction::{Action, Domain, Transaction, TransactionId};
    use millrace_circuits::types::{Amount, BatchNumber, L1Address, Nonce, Timestamp};

    #[test]
    fn values_are_pinned_byte_for_byte() {
        let owner = Owner(ark_bn254::Fr::from(258u64));
        let token = TokenId::new(7).unwrap();
        let account = Account::new(owner, token, Amount(300));
        let bytes = encode(&account);
        let owner = format!("{}0102", "00".repeat(30));
        assert_eq!(hex::encode(&bytes), format!("01{owner}0700ac02"));
        assert_eq!(decode::<Account>(&bytes), Ok(account));
    }

    #[test]
    fn keys_sort_as_numbers_and_read_back() {
        assert!(number_key(255) < number_key(256));
        assert_eq!(read_number_key(&number_key(1 << 40)), 1 << 40);
        let (owner, token) = (Owner(ark_bn254::Fr::from(5u64)), TokenId::new(9).unwrap());
        let index = AccountIndex::new(77).unwrap();
        assert_eq!(
            read_owner_key(&owner_key(&owner, token, index)),
            (token, index)
        );
    }

    #[test]
    fn damaged_values_are_errors() {
        assert_eq!(decode::<u32>(&[]), Err(FormatError::Version(None)));
        assert_eq!(decode::<u32>(&[9, 1]), Err(FormatError::Version(Some(9))));
        assert!(matches!(
            decode::<String>(&[1, 200]),
            Err(FormatError::Content(_))
        ));
    }

    /// One of each record that is stored, with every optional part there.
    fn samples() -> Vec<Vec<u8>> {
        let word = Word(ark_bn254::Fr::from(258u64));
        let (index, token) = (AccountIndex::new(9).unwrap(), TokenId::new(7).unwrap());
        let account = Account::new(Owner(word.0), token, Amount(300));
        let id = TransactionId([5; 32]);
        let key = SecretKey::from_bytes([3; 32]);
        let signed = Transaction {
            from: index,
            nonce: Nonce::new(1 << 39).unwrap(),
            token,
            fee: FeeCode::from_code(17).unwrap(),
            action: Action::Transfer {
                recipient: Owner(word.0),
                amount: Float40::from_code(1 << 36).unwrap(),
            },
            link: word,
            valid_until: Timestamp(1 << 33),
        }
        .sign(&Domain(word), L1Address([1; 20]), &key);
        let input = BatchInput {
            shape: Shape::TINY,
            number: BatchNumber(1),
            timestamp: Timestamp(2),
            domain: Domain(word),
            fee_leaves: vec![index],
            l1_operations: vec![],
            slots: vec![Slot::Noop, Slot::Transaction { signed, to: index }],
        };
        let public = BatchPublic {
            commitment: word,
            challenge: word,
            evaluation: word,
        };
        let link = L1Link {
            transaction: [8; 32],
            block: 300,
            gas: Some(70_000),
        };
        let witness = BatchWitness::empty(Shape::TINY);
        let record = BatchRecord {
            number: BatchNumber(1),
            stage: BatchStage::Finalised,
            input,
            first_request: 3,
            transactions: vec![id],
            planned_at_millis: 4,
            data: Some(witness.data.clone()),
            public: Some(public),
            proof: Some([[6; 32]; 8]),
            committed: Some(link),
            proven: Some(link),
        };
        let state = TransactionState::InBatch {
            batch: BatchNumber(1),
            row: 2,
        };
        let transaction = TransactionRecord {
            signed,
            state,
            to: index,
            received_at_millis: 5,
        };
        let undo = Undo {
            accounts: vec![(index, None), (index, Some(account))],
            groups: vec![(1, 2, None), (3, 4, Some([word; 4]))],
        };
        let event = |kind| Event {
            sequence: 1,
            at_millis: 2,
            kind,
        };
        let dropped = EventKind::TransactionDropped {
            id,
            reason: "why".to_owned(),
        };
        let answer = Answer {
            ids: vec![id],
            at_millis: 6,
        };
        vec![
            encode(&account),
            encode(&signed),
            encode(&record),
            encode(&transaction),
            encode(&undo),
            encode(&event(dropped)),
            encode(&event(EventKind::BatchFinalised {
                batch: BatchNumber(1),
            })),
            encode(&answer),
            encode(&Marks::default()),
            encode(&StoredWitness { witness, public }),
        ]
    }

    /// A change here is a change of the format on disk: raise the schema's version and write the step that migrates.
    #[test]
    fn stored_records_are_pinned_by_hash() {
        let all = samples().concat();
        let hash = alloy::primitives::keccak256(all).to_string();
        assert_eq!(
            hash,
            "0x912c0ce11a0dc83e192436e862f37812b1b530e9a2954664540ae6bec09a99fc"
        );
    }
}

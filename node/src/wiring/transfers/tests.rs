//! Every way in which a claim can be false, one broken at a time.

use super::*;
use crate::wallet::keys::{KeySource, Phrase};
use millrace_channels::types::Amount as Units;
use millrace_circuits::amount::{FeeCode, Float40};
use millrace_circuits::batch::{BatchData, BatchInput, Extra, Header, Shape};
use millrace_circuits::types::{AccountIndex, Amount, Nonce, Timestamp, TokenId};
use millrace_l1::devchain::DEV_MNEMONIC;

const HASH: PaymentHash = PaymentHash([7; 32]);
const PLACE: Place = Place { batch: 3, row: 1 };

fn domain() -> Domain {
    Domain::new(31_337, L1Address([1; 20]))
}

fn keys(number: u32) -> UserKeys {
    let phrase = KeySource::Phrase(Phrase::parse(DEV_MNEMONIC).unwrap());
    phrase.keys(number, None).unwrap()
}

fn account(owner: Owner, token: u32) -> Account {
    Account {
        owner,
        token: TokenId::new(u64::from(token)).unwrap(),
        nonce: Nonce::new(0).unwrap(),
        balance: Amount(0),
    }
}

fn row(from: u32, to: u32, amount: u128) -> Row {
    Row {
        from: AccountIndex::new(u64::from(from)).unwrap(),
        to: AccountIndex::new(u64::from(to)).unwrap(),
        amount: Float40::exact(Amount(amount)).unwrap(),
        fee: FeeCode::ZERO,
        extra: Extra::None,
    }
}

fn record(stage: BatchStage, rows: Vec<Row>) -> BatchRecord {
    let shape = Shape::by_id(1).unwrap();
    let (number, timestamp) = (BatchNumber(PLACE.batch), Timestamp(1));
    let word = Word(field::from_bytes(&[0; 32]).unwrap());
    BatchRecord {
        number,
        stage,
        input: BatchInput {
            shape,
            number,
            timestamp,
            domain: domain(),
            fee_leaves: vec![],
            l1_operations: vec![],
            slots: vec![],
        },
        first_request: 0,
        transactions: vec![],
        planned_at_millis: 0,
        data: Some(BatchData {
            shape,
            header: Header {
                number,
                timestamp,
                domain: domain(),
                old_root: word,
                new_root: word,
                fee_leaves: vec![],
            },
            l1_rows: vec![],
            rows,
        }),
        public: None,
        proof: None,
        committed: None,
        proven: None,
    }
}

fn tokens() -> Vec<Token> {
    vec![
        Token {
            number: TokenId::ZERO,
            address: None,
        },
        Token {
            number: TokenId::new(1).unwrap(),
            address: Some(L1Address([9; 20])),
        },
    ]
}

fn due() -> Due {
    Due {
        token: Address::ZERO,
        amount: Some(Units::new(500).unwrap()),
        fallback: field::to_bytes(&keys(2).owner().0),
    }
}

fn proof() -> PaidProof {
    PaidProof::sign(&domain(), &HASH, &keys(1))
}

#[test]
fn only_a_transfer_in_a_final_batch_counts() {
    let rows = || vec![row(5, 6, 1), row(5, 6, 500)];
    for stage in [
        BatchStage::Planned,
        BatchStage::Sealed,
        BatchStage::Committed,
        BatchStage::Proven,
    ] {
        let seen = final_row(Some(&record(stage, rows())), PLACE);
        assert!(matches!(seen, Err(Seen::NotYet(_))), "{stage:?}");
    }
    assert!(matches!(final_row(None, PLACE), Err(Seen::NotYet(_))));
    let last = record(BatchStage::Finalised, rows());
    assert_eq!(final_row(Some(&last), PLACE), Ok(row(5, 6, 500)));
    // Rows that are not there, that do nothing, that leave the rollup.
    let at = |row| Place { row, ..PLACE };
    for place in [at(2), at(u32::MAX)] {
        let seen = final_row(Some(&last), place);
        assert!(matches!(seen, Err(Seen::No(_))));
    }
    let other = record(BatchStage::Finalised, vec![row(0, 0, 0), row(5, 0, 0)]);
    for place in [at(0), at(1)] {
        let seen = final_row(Some(&other), place);
        assert!(matches!(seen, Err(Seen::No(_))));
    }
}

#[test]
fn a_transfer_pays_what_is_due_and_nothing_else_does() {
    let (payer, payee) = (account(keys(1).owner(), 0), account(keys(2).owner(), 0));
    let judge = |row: &Row, parties, due: &Due| pays(row, parties, &proof(), due, &tokens());
    let both = [Some(payer), Some(payee)];
    assert_eq!(judge(&row(5, 6, 500), both, &due()), Ok(500));
    assert_eq!(judge(&row(5, 6, 501), both, &due()), Ok(501));
    let any = Due {
        amount: None,
        ..due()
    };
    assert_eq!(judge(&row(5, 6, 1), both, &any), Ok(1));
    let is_refused = |row: Row, parties, due: &Due, word: &str| {
        let why = judge(&row, parties, due).unwrap_err();
        assert!(why.contains(word), "{why}");
    };
    is_refused(row(5, 6, 499), both, &due(), "too small");
    is_refused(row(5, 6, 0), both, &any, "too small");
    let stranger = account(keys(3).owner(), 0);
    is_refused(
        row(5, 6, 500),
        [Some(stranger), Some(payee)],
        &due(),
        "another payer",
    );
    is_refused(
        row(5, 6, 500),
        [Some(payer), Some(stranger)],
        &due(),
        "another account",
    );
    is_refused(row(5, 6, 500), [Some(payer), None], &due(), "unknown");
    let in_token = [
        Some(account(keys(1).owner(), 1)),
        Some(account(keys(2).owner(), 1)),
    ];
    is_refused(row(5, 6, 500), in_token, &due(), "another token");
    let for_token = Due {
        token: Address([9; 20]),
        ..due()
    };
    is_refused(row(5, 6, 500), both, &for_token, "another token");
    assert_eq!(judge(&row(5, 6, 500), in_token, &for_token), Ok(500));
    let unknown = [
        Some(account(keys(1).owner(), 2)),
        Some(account(keys(2).owner(), 2)),
    ];
    is_refused(row(5, 6, 500), unknown, &for_token, "unknown");
}

#[test]
fn a_proof_is_for_one_invoice_of_one_rollup() {
    let bytes = proof().to_bytes();
    let read = PaidProof::from_bytes(&bytes).unwrap();
    assert_eq!(read, proof());
    assert_eq!(read.owner(), keys(1).owner());
    assert!(read.is_for(&domain(), &HASH));
    assert!(!read.is_for(&domain(), &PaymentHash([8; 32])));
    assert!(!read.is_for(&Domain::new(1, L1Address([1; 20])), &HASH));
    // Another's key beside a signature, or another's L1 address, which is another owner.
    let mut stolen = read;
    stolen.key = keys(3).rollup.public_key();
    assert!(!stolen.is_for(&domain(), &HASH));
    let mut other = read;
    other.l1_address = keys(3).l1_address();
    assert_ne!(other.owner(), keys(1).owner());
    // Every byte counts.
    for at in 0..bytes.len() {
        let mut altered = bytes.clone();
        altered[at] ^= 1;
        let counts = PaidProof::from_bytes(&altered).is_some_and(|altered| {
            altered.owner() == keys(1).owner() && altered.is_for(&domain(), &HASH)
        });
        assert!(!counts, "byte {at}");
    }
    assert!(PaidProof::from_bytes(&bytes[1..]).is_none());
    assert!(PaidProof::from_bytes(&[0xff; PROOF_BYTES]).is_none());
    assert_eq!(bytes.len(), PROOF_BYTES);
}

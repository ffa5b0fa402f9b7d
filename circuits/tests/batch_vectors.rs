//! A batch in every form that L1 sees, pinned in a file that the contract's tests read too: bytes are defined here once.
//!
//! [`BatchData`] → rows, extras, words → dataHash, C, z, y, payouts → `tests/vectors/batch.json`
//!
//! A wanted change is written with `WRITE_VECTORS=1 cargo test -p millrace-circuits --test batch_vectors`.

use ark_bn254::Fr;
use millrace_circuits::account::Owner;
use millrace_circuits::amount::{FeeCode, Float40};
use millrace_circuits::batch::{BatchData, Extra, Header, L1Row, Payout, Row, Shape};
use millrace_circuits::field::{self, Word};
use millrace_circuits::transaction::Domain;
use millrace_circuits::types::{AccountIndex, Amount, BatchNumber, L1Address, Timestamp, TokenId};
use serde_json::{Value, json};

const PATH: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../tests/vectors/batch.json");

fn index(value: u64) -> AccountIndex {
    AccountIndex::new(value).expect("24 bits")
}

fn token(value: u64) -> TokenId {
    TokenId::new(value).expect("32 bits")
}

fn address(byte: u8) -> L1Address {
    L1Address([byte; 20])
}

fn hex_of(bytes: &[u8]) -> String {
    format!("0x{}", hex::encode(bytes))
}

fn hex_word(word: Fr) -> String {
    hex_of(&field::to_bytes(&word))
}

fn transfer(from: u64, to: u64, extra: Extra) -> Row {
    Row {
        from: index(from),
        to: index(to),
        amount: Float40::from_code((3 << 35) + 123_456).expect("40 bits"),
        fee: FeeCode::from_code(21).expect("8 bits"),
        extra,
    }
}

fn withdrawal(from: u64, receiver: u8, amount: u128) -> Row {
    Row {
        from: index(from),
        fee: FeeCode::from_code(9).expect("8 bits"),
        extra: Extra::Withdrawal {
            address: address(receiver),
            token: token(7),
            amount: Amount(amount),
        },
        ..Row::default()
    }
}

/// Every kind of row: a deposit credited, one refused, an exit that pays, one that does not; transfers to an old and to
/// a new account, withdrawals, a Noop between.
fn batch() -> BatchData {
    let deposit = |place, amount| L1Row::Deposit {
        index: index(place),
        owner: Owner(Fr::from(0xabcdef_u64)),
        token: token(0),
        amount: Amount(amount),
    };
    let exit = |place, amount| L1Row::ForcedExit {
        index: index(place),
        token: token(0xffff_ffff),
        sender: address(0x5e),
        key_x: Word(-Fr::from(1_u64)),
        key_y: Word(Fr::from(2_u64)),
        amount: Amount(amount),
    };
    let new_account = Extra::NewAccount {
        owner: Owner(-Fr::from(5_u64)),
    };
    BatchData {
        shape: Shape::SMALL,
        header: Header {
            number: BatchNumber(0x0123_4567_89ab),
            timestamp: Timestamp(1_700_000_000),
            domain: Domain::new(31_337, address(0xc0)),
            old_root: Word(Fr::from(111_u64)),
            new_root: Word(-Fr::from(222_u64)),
            fee_leaves: vec![index(9), index(0xff_ffff)],
        },
        l1_rows: vec![
            deposit(0xff_ffff, u128::MAX >> 1),
            deposit(0, 77),
            exit(3, u128::MAX >> 2),
            exit(4, 0),
        ],
        rows: vec![
            transfer(1, 2, Extra::None),
            transfer(3, 0xff_ffff, new_account),
            withdrawal(4, 0xaa, u128::MAX >> 3),
            Row::default(),
            withdrawal(0xff_ffff, 0xbb, 1),
        ],
    }
}

fn vector() -> Value {
    let data = batch();
    let beneficiary = address(0xbe);
    let public = data.public(beneficiary);
    let posted = data.posted();
    let refund = Payout {
        address: address(0xde),
        token: token(0),
        amount: Amount(77),
    };
    let payouts = data.payouts(|_| Some(refund));
    let payouts: Vec<u8> = payouts.iter().flat_map(Payout::bytes).collect();
    let l1_words: Vec<u8> = data
        .l1_rows
        .iter()
        .flat_map(L1Row::words)
        .flat_map(|word| field::to_bytes(&word))
        .collect();
    let header: Vec<u8> = data
        .header_words()
        .iter()
        .flat_map(field::to_bytes)
        .collect();
    json!({
        "l1Rows": data.shape.l1_rows,
        "transactionRows": data.shape.transaction_rows,
        "chainId": 31_337,
        "contract": hex_of(&address(0xc0).0),
        "beneficiary": hex_of(&beneficiary.0),
        "depositor": hex_of(&refund.address.0),
        "header": hex_of(&header),
        "l1Words": hex_of(&l1_words),
        "rows": hex_of(&posted.rows),
        "extras": hex_of(&posted.extras),
        "dataHash": hex_of(&data.data_hash()),
        "commitment": hex_word(public.commitment.0),
        "challenge": hex_word(public.challenge.0),
        "evaluation": hex_word(public.evaluation.0),
        "payouts": hex_of(&payouts),
    })
}

#[test]
fn batch_bytes_are_pinned() {
    let found = vector();
    if std::env::var_os("WRITE_VECTORS").is_some() {
        let text = serde_json::to_string_pretty(&found).expect("JSON");
        std::fs::write(PATH, text + "\n").expect("the vectors are writable");
    }
    let text = std::fs::read_to_string(PATH).expect("the vectors are there");
    let pinned: Value = serde_json::from_str(&text).expect("JSON");
    assert_eq!(
        found, pinned,
        "a changed format breaks the contract and every reader of L1"
    );
}

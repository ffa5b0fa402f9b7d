//! Bodies state exactly what is signed, and nothing at odds with it.

use super::*;
use millrace_circuits::eddsa::SecretKey;
use proptest::prelude::*;
use serde_json::{Value, json};

const CONTRACT: L1Address = L1Address([0xcc; 20]);

fn domain() -> Domain {
    Domain::new(31337, CONTRACT)
}

fn signed(transaction: Transaction) -> SignedTransaction {
    transaction.sign(
        &domain(),
        L1Address([0xaa; 20]),
        &SecretKey::from_bytes([7; 32]),
    )
}

fn transfer() -> Transaction {
    Transaction {
        from: AccountIndex::new(1).unwrap(),
        nonce: Nonce::new(2).unwrap(),
        token: TokenId::new(3).unwrap(),
        fee: FeeCode::exact(Amount(70)).unwrap(),
        action: Action::Transfer {
            recipient: Owner(5u64.into()),
            amount: Float40::exact(Amount(123_000_000_000_000_000_000)).unwrap(),
        },
        link: Word(9u64.into()),
        valid_until: Timestamp(1_800_000_000),
    }
}

fn body() -> Value {
    let mut body = serde_json::to_value(SignedTransactionBody::from(&signed(transfer()))).unwrap();
    for code in ["amount_code", "fee_code"] {
        body["transaction"].as_object_mut().unwrap().remove(code);
    }
    body
}

fn read(body: Value) -> Result<SignedTransaction, Problem> {
    serde_json::from_value::<SignedTransactionBody>(body)
        .unwrap()
        .to_signed(&domain())
}

fn arb_transaction() -> impl Strategy<Value = Transaction> {
    let action = prop_oneof![
        (any::<u64>(), 0u64..1 << 39).prop_filter_map(
            "codes of 2^128 and more state no amount",
            |(owner, code)| {
                let amount = Float40::from_code(code)
                    .ok()
                    .filter(|code| code.value().is_some())?;
                Some(Action::Transfer {
                    recipient: Owner(owner.into()),
                    amount,
                })
            }
        ),
        any::<u128>().prop_map(|amount| Action::Withdraw {
            amount: Amount(amount)
        }),
    ];
    (
        0..AccountIndex::LIMIT,
        0..Nonce::LIMIT,
        0..TokenId::LIMIT,
        0u64..256,
        action,
        any::<u64>(),
        0..NUMBER_LIMIT,
    )
        .prop_map(
            |(from, nonce, token, fee, action, link, valid_until)| Transaction {
                from: AccountIndex::new(from).unwrap(),
                nonce: Nonce::new(nonce).unwrap(),
                token: TokenId::new(token).unwrap(),
                fee: FeeCode::from_code(fee).unwrap(),
                action,
                link: Word(link.into()),
                valid_until: Timestamp(valid_until),
            },
        )
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    #[test]
    fn every_transaction_survives_its_body(transaction in arb_transaction()) {
        let text = serde_json::to_string(&TransactionBody::from(&transaction)).unwrap();
        let body: TransactionBody = serde_json::from_str(&text).unwrap();
        prop_assert_eq!(body.to_transaction().unwrap(), transaction);
    }
}

#[test]
fn amounts_and_words_are_text_and_indices_are_numbers() {
    let body = body();
    let transaction = &body["transaction"];
    assert_eq!(transaction["amount"], "123000000000000000000");
    assert_eq!(transaction["fee"], "70");
    assert_eq!(transaction["link"], "9");
    assert_eq!(
        (&transaction["from"], &transaction["nonce"]),
        (&json!(1), &json!(2))
    );
    assert!(
        transaction["recipient"]
            .as_str()
            .unwrap()
            .starts_with("mlr1")
    );
    assert_eq!(body["l1_address"], format!("0x{}", "aa".repeat(20)));
    assert!(
        body["signature"]["s"]
            .as_str()
            .unwrap()
            .bytes()
            .all(|b| b.is_ascii_digit())
    );
}

#[test]
fn a_body_without_codes_means_the_codes_with_the_smallest_exponent() {
    assert_eq!(read(body()).unwrap(), signed(transfer()));
}

#[test]
fn contradictions_are_refused_and_name_their_field() {
    let refused = |field: &str, value: Value, expected: &str| {
        let mut body = body();
        body["transaction"][field] = value;
        let problem = read(body).unwrap_err();
        assert_eq!(
            (problem.code, problem.field.as_deref()),
            (Code::InvalidField, Some(expected)),
            "{}",
            problem.detail
        );
    };
    refused("recipient", Value::Null, "transaction.recipient");
    refused("kind", json!("withdraw"), "transaction.recipient");
    refused(
        "amount",
        json!("123456789012345678901"),
        "transaction.amount",
    );
    refused("amount_code", json!(1), "transaction.amount_code");
    refused("fee", json!("71"), "transaction.fee");
    refused("fee_code", json!(1), "transaction.fee_code");
    refused(
        "valid_until",
        json!(NUMBER_LIMIT),
        "transaction.valid_until",
    );
}

#[test]
fn a_transaction_for_another_rollup_says_so() {
    let mut body = body();
    let other = Domain::new(1, CONTRACT);
    body["domain"] = json!(word_text(&other.0));
    let problem = read(body.clone()).unwrap_err();
    assert_eq!(problem.code, Code::WrongDomain);
    assert!(
        problem.detail.contains(&word_text(&domain().0)),
        "{}",
        problem.detail
    );
    body["domain"] = json!(word_text(&domain().0));
    assert!(read(body).is_ok());
}

#[test]
fn places_in_lists_lead_to_the_field() {
    let problem = Problem::new(Code::InvalidField, "x")
        .at("transaction.amount")
        .inside("transactions", 1);
    assert_eq!(
        problem.field.as_deref(),
        Some("transactions[1].transaction.amount")
    );
}

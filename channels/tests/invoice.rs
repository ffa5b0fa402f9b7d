//! Invoices as text: round trips, one vector, and every way of being wrong.

use millrace_channels::digest::Domain;
use millrace_channels::invoice::{Hint, Invoice, InvoiceError, MULTI_PART, looks_like_invoice, qr};
use millrace_channels::signing::HotKey;
use millrace_channels::types::{Address, Amount, ChannelId, Hash32, PaymentHash, PublicKey};
use proptest::prelude::*;

const DOMAIN: Domain = Domain {
    chain_id: 31337,
    contract: Address([7; 20]),
};

fn key() -> HotKey {
    HotKey::new([1; 32]).unwrap()
}

fn amount(units: u128) -> Amount {
    Amount::new(units).unwrap()
}

fn example() -> Invoice {
    Invoice {
        domain: DOMAIN,
        token: Address([2; 20]),
        amount: Some(amount(1_000_000)),
        hash: PaymentHash([3; 32]),
        secret: Hash32([4; 32]),
        payee: key().public(),
        created: 1_800_000_000,
        expires: 1_800_003_600,
        description: "Coffee, two cups ☕".to_owned(),
        features: MULTI_PART,
        hints: vec![Hint {
            node: HotKey::new([5; 32]).unwrap().public(),
            channel: ChannelId([6; 32]),
            fee_base: 7,
            fee_ppm: 8,
        }],
        fallback: Some([9; 32]),
        unknown: Vec::new(),
    }
}

fn arb_invoice() -> impl Strategy<Value = Invoice> {
    let hint = (
        any::<[u8; 32]>(),
        any::<[u8; 32]>(),
        any::<u128>(),
        any::<u32>(),
    )
        .prop_map(|(node, channel, fee_base, fee_ppm)| {
            let mut key = [2; 33];
            key[1..].copy_from_slice(&node);
            Hint {
                node: PublicKey(key),
                channel: ChannelId(channel),
                fee_base,
                fee_ppm,
            }
        });
    let one = (
        any::<u64>(),
        any::<[u8; 20]>(),
        prop_oneof![Just([0; 20]), any::<[u8; 20]>()],
        proptest::option::of(1..1u128 << 100),
        any::<[u8; 32]>(),
        any::<[u8; 32]>(),
        0..u64::MAX,
    );
    let two = (
        1..u64::MAX,
        "\\PC{0,60}",
        any::<u64>(),
        proptest::collection::vec(hint, 0..=4),
        proptest::option::of(any::<[u8; 32]>()),
        proptest::collection::btree_map(
            (100u8..=126).prop_map(|number| number * 2 + 1 - 2),
            proptest::collection::vec(any::<u8>(), 0..20),
            0..3,
        ),
    );
    (one, two).prop_map(|(one, two)| {
        let (chain_id, contract, token, units, hash, secret, created) = one;
        let (life, description, features, hints, fallback, unknown) = two;
        Invoice {
            domain: Domain {
                chain_id,
                contract: Address(contract),
            },
            token: Address(token),
            amount: units.map(amount),
            hash: PaymentHash(hash),
            secret: Hash32(secret),
            payee: key().public(),
            created,
            expires: created.saturating_add(life),
            description,
            features,
            hints,
            fallback,
            unknown: unknown.into_iter().collect(),
        }
    })
}

proptest! {
    #[test]
    fn every_invoice_comes_back(invoice in arb_invoice()) {
        let text = invoice.sign(&key()).unwrap();
        prop_assert!(looks_like_invoice(&text));
        prop_assert_eq!(Invoice::parse(&text).unwrap(), invoice.clone());
        prop_assert_eq!(Invoice::parse(&text.to_ascii_uppercase()).unwrap(), invoice);
    }

    #[test]
    fn no_text_makes_it_panic(text in "(mlr[a-z0-9]{0,8}1)?[02-9ac-hj-np-z]{0,300}") {
        let _ = Invoice::parse(&text);
    }
}

#[test]
fn every_other_character_anywhere_is_refused() {
    let text = example().sign(&key()).unwrap();
    for at in 0..text.len() {
        for other in "qpzry9x8gf2tvdw0s3jn54khce6mua7l1b".bytes() {
            let mut altered = text.clone().into_bytes();
            if altered[at] == other {
                continue;
            }
            altered[at] = other;
            let altered = String::from_utf8(altered).unwrap();
            assert!(Invoice::parse(&altered).is_err(), "{at}: {altered}");
        }
    }
    for cut in 0..text.len() {
        assert!(Invoice::parse(&text[..cut]).is_err());
    }
}

/// The bytes of the example, altered and given a right checksum again.
fn altered(alter: impl Fn(&mut Vec<u8>)) -> InvoiceError {
    let text = example().sign(&key()).unwrap();
    let (hrp, mut bytes) = bech32::decode(&text).unwrap();
    alter(&mut bytes);
    let text = bech32::encode::<bech32::Bech32m>(hrp, &bytes).unwrap();
    Invoice::parse(&text).unwrap_err()
}

#[test]
fn altered_bytes_with_a_right_checksum_are_refused() {
    let text = example().sign(&key()).unwrap();
    let (_, bytes) = bech32::decode(&text).unwrap();
    for at in 0..bytes.len() {
        altered(|bytes| bytes[at] ^= 1);
    }
    // The hash's value.
    let hash = bytes
        .windows(32)
        .position(|window| window == [3; 32])
        .unwrap();
    assert_eq!(altered(|bytes| bytes[hash] ^= 1), InvoiceError::Signature);
}

#[test]
fn each_error_names_its_field() {
    let wrong = |field, problem| InvoiceError::Field { field, problem };
    let sign = |change: fn(&mut Invoice)| {
        let mut invoice = example();
        change(&mut invoice);
        invoice.sign(&key()).unwrap_err()
    };
    assert_eq!(
        sign(|invoice| invoice.amount = Some(Amount::ZERO)),
        wrong("amount", "it is zero")
    );
    assert_eq!(
        sign(|invoice| invoice.expires = invoice.created),
        wrong("expires", "it is not after the creation")
    );
    assert_eq!(
        sign(|invoice| invoice.description = "x".repeat(321)),
        wrong("description", "it is longer than 320 bytes")
    );
    assert_eq!(
        sign(|invoice| invoice.description = "\u{1b}[2J".to_owned()),
        wrong("description", "it has control characters")
    );
    assert_eq!(
        sign(|invoice| invoice.payee = HotKey::new([2; 32]).unwrap().public()),
        wrong("payee", "it is not the key that signs")
    );
    assert_eq!(
        altered(|bytes| bytes.truncate(bytes.len() - 67)),
        wrong("signature", "it is missing or not the last field")
    );
    // The first field again before itself.
    assert_eq!(
        altered(|bytes| {
            let first = bytes[..31].to_vec();
            bytes.splice(0..0, first);
        }),
        wrong("order", "fields do not come in growing order")
    );
    assert_eq!(
        altered(|bytes| bytes[0] = 1),
        wrong("network", "it is missing")
    );
    assert_eq!(
        altered(|bytes| {
            bytes.splice(31..31, [3, 0, 1, 9]);
        }),
        InvoiceError::Signature,
        "an unknown odd field is passed over, but not unsigned"
    );
    let even = InvoiceError::UnknownField(22);
    let at = |bytes: &[u8]| bytes.len() - 67;
    assert_eq!(
        altered(|bytes| {
            let end = at(bytes);
            bytes.splice(end..end, [22, 0, 0]);
        }),
        even
    );
}

#[test]
fn another_network_time_or_amount_is_named() {
    let invoice = example();
    assert_eq!(invoice.check(&DOMAIN, 1_800_003_599), Ok(()));
    assert_eq!(
        invoice.check(&DOMAIN, 1_800_003_600),
        Err(InvoiceError::Expired {
            expired: 1_800_003_600,
            now: 1_800_003_600
        })
    );
    let other = Domain {
        chain_id: 1,
        ..DOMAIN
    };
    let refused = invoice.check(&other, 1_800_000_000).unwrap_err();
    assert!(refused.to_string().contains("this node uses"), "{refused}");
    let strange = Invoice {
        features: 0b1101,
        ..example()
    };
    assert_eq!(
        strange.check(&DOMAIN, 1_800_000_000),
        Err(InvoiceError::UnknownFeatures(0b100))
    );
    assert_eq!(invoice.amount_to_pay(None), Ok(amount(1_000_000)));
    assert!(invoice.amount_to_pay(Some(amount(5))).is_err());
    let open = Invoice {
        amount: None,
        ..example()
    };
    assert_eq!(open.amount_to_pay(None), Err(InvoiceError::NoAmount));
    assert_eq!(open.amount_to_pay(Some(amount(5))), Ok(amount(5)));
}

#[test]
fn a_mark_for_another_chain_is_refused() {
    let text = example().sign(&key()).unwrap();
    let (_, bytes) = bech32::decode(&text).unwrap();
    let encode = |human| {
        bech32::encode::<bech32::Bech32m>(bech32::Hrp::parse(human).unwrap(), &bytes).unwrap()
    };
    let refused = Invoice::parse(&encode("mlreth")).unwrap_err();
    assert!(matches!(
        refused,
        InvoiceError::Network { chain: 31337, .. }
    ));
    assert_eq!(
        Invoice::parse(&encode("mlr")),
        Err(InvoiceError::Prefix("mlr".to_owned()))
    );
    assert!(!looks_like_invoice("mlr1qqqq"));
}

#[test]
fn the_vector_reads_and_writes() {
    let file: serde_json::Value =
        serde_json::from_str(include_str!("../vectors/invoice.json")).unwrap();
    let text = example().sign(&key()).unwrap();
    assert_eq!(text, file["text"].as_str().unwrap());
    let fields = &file["fields"];
    assert_eq!(fields["chain_id"], 31337);
    assert_eq!(fields["payee"], hex::encode(key().public().0));
    assert_eq!(fields["description"], example().description);
    assert_eq!(file["secret_key"], hex::encode([1; 32]));
}

#[test]
fn a_terminal_shows_it_as_a_code() {
    let text = example().sign(&key()).unwrap();
    let code = qr(&text).unwrap();
    let lines: Vec<&str> = code.lines().collect();
    assert!(lines.len() > 40 && lines.iter().all(|line| line.chars().count() >= lines.len()));
}

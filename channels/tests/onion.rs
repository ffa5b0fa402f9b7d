//! Onions against BOLT 4's published packets, and against nodes that alter, replay or misread them.

use millrace_channels::digest::Domain;
use millrace_channels::machine::payment::{Hop, Onions, reason};
use millrace_channels::message::{MAX_ONION_BYTES, MAX_REASON_BYTES};
use millrace_channels::onion::{
    self, Delivery, Failure, Forward, MAX_HOPS, NodeOnions, OnionError, failure, sphinx,
};
use millrace_channels::signing::HotKey;
use millrace_channels::types::{Address, Amount, ChannelId, Hash32, PaymentHash, Preimage};
use sha2::{Digest, Sha256};
use std::sync::Arc;

const DOMAIN: Domain = Domain {
    chain_id: 31337,
    contract: Address([7; 20]),
};
const HASH: PaymentHash = PaymentHash([9; 32]);
const EXPIRY: u64 = 1_700_000_000;

fn key(byte: u8) -> Arc<HotKey> {
    Arc::new(HotKey::new([byte; 32]).unwrap())
}

fn node(byte: u8) -> NodeOnions {
    NodeOnions::new(key(byte), &DOMAIN)
}

fn amount(units: u128) -> Amount {
    Amount::new(units).unwrap()
}

fn hex(text: &str) -> Vec<u8> {
    hex::decode(text).unwrap()
}

/// The payloads of BOLT 4's `onion-test.json`, without their lengths.
fn published_payloads() -> Vec<Vec<u8>> {
    let mut second = hex("020236b00402057806080000000000000002fd02013c");
    second.extend(hex(
        "0102030405060708090a0b0c0d0e0f0102030405060708090a0b0c0d0e0f",
    ));
    second.extend(hex(
        "0102030405060708090a0b0c0d0e0f0102030405060708090a0b0c0d0e0f",
    ));
    let mut last = hex(
        "02022710040203e8082224a33562c54507a9334e79f0dc4f17d407e6d7c61f0e2f3d0d38599502f617042710fd012de0",
    );
    last.resize(0x110, 0x2a);
    vec![
        hex("02023a98040205dc06080000000000000001"),
        second,
        hex("020230d4040204e206080000000000000003"),
        hex("02022710040203e806080000000000000004"),
        last,
    ]
}

#[test]
fn the_published_packet_comes_out() {
    let payloads = published_payloads();
    let hops: Vec<_> = (0x41..)
        .zip(&payloads)
        .map(|(byte, payload)| (key(byte).public(), payload.clone()))
        .collect();
    let packet = sphinx::build(&[0x41; 32], &hops, &[0x42; 32]).unwrap();
    assert_eq!(packet.len(), MAX_ONION_BYTES);
    assert_eq!(
        hex::encode(Sha256::digest(&packet)),
        "92e0742510440ed2368e1c03aed09d49a2e4cb4409c88ee0ad02a35c4a4b495a"
    );
    let mut packet = Some(packet);
    for (byte, payload) in (0x41..).zip(&payloads) {
        let peeled = sphinx::peel(&key(byte), &packet.unwrap(), &[0x42; 32]).unwrap();
        assert_eq!(&peeled.payload, payload);
        packet = peeled.next;
    }
    assert_eq!(packet, None);
}

#[test]
fn the_published_failure_comes_out() {
    let keys: Vec<_> = (0x41..0x46).map(|byte| key(byte).public()).collect();
    let secrets = sphinx::shared_secrets(&[0x41; 32], &keys).unwrap();
    assert_eq!(
        hex::encode(*secrets[4]),
        "b5756b9b542727dbafc6765a49488b023a725d631af688fc031217e90770c328"
    );
    let mut packet = failure::make(&Hash32(*secrets[4]), &[0x20, 0x02]);
    for secret in secrets[..4].iter().rev() {
        packet = failure::wrap(&Hash32(**secret), &packet).unwrap();
    }
    assert_eq!(
        hex::encode(Sha256::digest(&packet)),
        "3ba4a39c222872dbe9d2a583aedb40d6baf29fc46c4379152997939d5144115c"
    );
    assert_eq!(
        failure::read(&secrets, &packet),
        Some((4, vec![0x20, 0x02]))
    );
}

fn forwards(count: u8) -> Vec<Forward> {
    (1..=count)
        .map(|byte| Forward {
            node: key(byte).public(),
            channel: ChannelId([byte; 32]),
            amount: amount(1000 - u128::from(byte)),
        })
        .collect()
}

fn deliver() -> Delivery {
    Delivery::Invoice {
        secret: Hash32([3; 32]),
        total: amount(900),
    }
}

fn built(count: u8) -> (Vec<u8>, onion::Sent) {
    let payee = key(100).public();
    let forwards = forwards(count);
    onion::build(
        [5; 32],
        &DOMAIN.separator(),
        &HASH,
        EXPIRY,
        &forwards,
        (payee, deliver()),
    )
    .unwrap()
}

#[test]
fn each_node_reads_its_own_layer_and_the_payee_the_last() {
    for count in [0, 1, 2, MAX_HOPS as u8 - 1] {
        let (mut packet, _) = built(count);
        for byte in 1..=count {
            assert_eq!(packet.len(), MAX_ONION_BYTES);
            assert!(node(byte + 1).peel(&packet, &HASH).is_none());
            let Some(Hop::Forward {
                channel,
                amount: out,
                expiry,
                onion,
            }) = node(byte).peel(&packet, &HASH)
            else {
                panic!("hop {byte} of {count}")
            };
            assert_eq!((channel, expiry), (ChannelId([byte; 32]), EXPIRY));
            assert_eq!(out, amount(1000 - u128::from(byte)));
            packet = onion;
        }
        let expected = Hop::Deliver {
            secret: Hash32([3; 32]),
            total: amount(900),
        };
        assert_eq!(node(100).peel(&packet, &HASH), Some(expected));
    }
}

#[test]
fn a_keysend_brings_its_preimage_over_the_longest_way() {
    let preimage = Preimage([8; 32]);
    let delivery = Delivery::Keysend {
        preimage,
        total: amount(1),
    };
    let payee = key(100).public();
    let hash = preimage.hash();
    let forwards = forwards(MAX_HOPS as u8 - 1);
    let (mut packet, _) = onion::build(
        [5; 32],
        &DOMAIN.separator(),
        &hash,
        EXPIRY,
        &forwards,
        (payee, delivery),
    )
    .unwrap();
    for byte in 1..MAX_HOPS as u8 {
        let Some(Hop::Forward { onion, .. }) = node(byte).peel(&packet, &hash) else {
            panic!("hop {byte}")
        };
        packet = onion;
    }
    assert_eq!(
        node(100).peel(&packet, &hash),
        Some(Hop::Keysend {
            preimage,
            total: amount(1)
        })
    );
}

#[test]
fn more_hops_than_fit_are_refused() {
    let payee = key(100).public();
    let forwards = forwards(MAX_HOPS as u8);
    assert_eq!(
        onion::build(
            [5; 32],
            &DOMAIN.separator(),
            &HASH,
            EXPIRY,
            &forwards,
            (payee, deliver())
        )
        .err(),
        Some(OnionError::Hops(MAX_HOPS + 1))
    );
}

#[test]
fn any_altered_byte_any_other_hash_and_any_other_contract_close_it() {
    let (packet, _) = built(2);
    for at in 0..packet.len() {
        let mut altered = packet.clone();
        altered[at] ^= 1;
        assert!(node(1).peel(&altered, &HASH).is_none(), "byte {at}");
    }
    assert!(node(1).peel(&packet, &PaymentHash([10; 32])).is_none());
    assert!(node(1).peel(&packet[1..], &HASH).is_none());
    let elsewhere = [
        Domain {
            chain_id: 1,
            ..DOMAIN
        },
        Domain {
            contract: Address([8; 20]),
            ..DOMAIN
        },
    ];
    for domain in elsewhere {
        let other = NodeOnions::new(key(1), &domain);
        assert!(other.peel(&packet, &HASH).is_none());
    }
}

#[test]
fn strange_payloads_are_refused() {
    let associated = [&HASH.0[..], &DOMAIN.separator().0].concat();
    let good = [&[2][..], &[3; 32], &[0; 15], &[1]].concat();
    let cases = [
        (good.clone(), true),
        (Vec::new(), false),
        ([&good[..], &[0]].concat(), false),
        (good[..good.len() - 1].to_vec(), false),
        ([&[4], &good[1..]].concat(), false),
        // A forward that ends here, and a total from 2^100 on.
        ([&[1], &good[1..], &[0; 8]].concat(), false),
        ([&[2][..], &[3; 32], &[0xff; 16]].concat(), false),
    ];
    for (payload, opens) in cases {
        let hops = [(key(1).public(), payload.clone())];
        let packet = sphinx::build(&[5; 32], &hops, &associated).unwrap();
        assert_eq!(node(1).peel(&packet, &HASH).is_some(), opens, "{payload:?}");
    }
}

/// The failure keys of the hops of `built(count)`, as the nodes get them.
fn failure_keys(count: u8) -> Vec<Hash32> {
    let (mut packet, _) = built(count);
    let mut keys = Vec::new();
    for byte in (1..=count).chain([100]) {
        let (hop, key) = node(byte).open(&packet, &HASH).unwrap();
        keys.push(key.unwrap());
        if let Hop::Forward { onion, .. } = hop {
            packet = onion;
        }
    }
    keys
}

#[test]
fn the_payer_learns_which_node_failed_and_why() {
    let (_, sent) = built(3);
    let keys = failure_keys(3);
    for failing in 0..4 {
        let mut packet = failure::make(&keys[failing], &[reason::NEXT_CHANNEL]);
        for hop in (0..failing).rev() {
            assert_eq!(packet.len(), MAX_REASON_BYTES);
            packet = failure::wrap(&keys[hop], &packet).unwrap();
        }
        let expected = Failure {
            hop: failing,
            node: sent.hops()[failing],
            code: reason::NEXT_CHANNEL,
        };
        assert_eq!(sent.read(&packet), Some(expected));
        for at in [0, 31, 32, 33, 34, 200, 291] {
            let mut altered = packet.clone();
            altered[at] ^= 1;
            assert_eq!(sent.read(&altered), None, "byte {at}");
        }
        let (_, other) = onion::build(
            [6; 32],
            &DOMAIN.separator(),
            &HASH,
            EXPIRY,
            &forwards(3),
            (key(100).public(), deliver()),
        )
        .unwrap();
        assert_eq!(other.read(&packet), None, "another onion's failure");
    }
    assert_eq!(sent.read(&[]), None);
    assert_eq!(sent.read(&[reason::BAD_ONION]).unwrap().hop, 0);
    assert_eq!(failure::wrap(&keys[0], &[1]), None);
}

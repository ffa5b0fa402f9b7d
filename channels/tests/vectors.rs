//! Digests, ids, lists and signatures against vectors that viem made: what Solidity and JavaScript read as well.

use millrace_channels::digest::{self, Coop, Domain};
use millrace_channels::signing::{HotKey, Keys, address, recover, verify};
use millrace_channels::state::{Half, Halves, Params, list_root, pack_list, unpack_list};
use millrace_channels::types::{Address, Hash32, LockRoot, Preimage, Signature};
use millrace_channels::watchtower::{PreimagesHeld, Receipt, numbers_digest};
use serde_json::Value;

fn vectors() -> Value {
    serde_json::from_str(include_str!("../vectors/eip712.json")).unwrap()
}

fn bytes(value: &Value) -> Vec<u8> {
    hex::decode(value.as_str().unwrap().trim_start_matches("0x")).unwrap()
}

fn fixed<const N: usize>(value: &Value) -> [u8; N] {
    bytes(value).try_into().unwrap()
}

fn number<T: std::str::FromStr<Err: std::fmt::Debug>>(value: &Value) -> T {
    value.as_str().unwrap().parse().unwrap()
}

fn rows<'a>(vectors: &'a Value, name: &str) -> &'a Vec<Value> {
    let rows = vectors[name].as_array().unwrap();
    assert!(!rows.is_empty(), "no {name}");
    rows
}

fn domain(row: &Value) -> Domain {
    Domain {
        chain_id: number(&row["chainId"]),
        contract: Address(fixed(&row["verifyingContract"])),
    }
}

fn params(row: &Value) -> Params {
    Params {
        signer_a: Address(fixed(&row["signerA"])),
        payout_a: Address(fixed(&row["payoutA"])),
        signer_b: Address(fixed(&row["signerB"])),
        payout_b: Address(fixed(&row["payoutB"])),
        token: Address(fixed(&row["token"])),
        window_secs: number(&row["window"]),
        salt: number(&row["salt"]),
    }
}

/// The separator, id and parameters of a row's channel.
fn channel(vectors: &Value, row: &Value) -> (Hash32, millrace_channels::types::ChannelId, Params) {
    let channel = &vectors["channels"][row["channel"].as_u64().unwrap() as usize];
    let domain = domain(&vectors["domains"][channel["domain"].as_u64().unwrap() as usize]);
    let params = params(channel);
    let separator = domain.separator();
    (separator, digest::channel_id(&separator, &params), params)
}

fn key(vectors: &Value, owner: &Address) -> HotKey {
    rows(vectors, "keys")
        .iter()
        .map(|row| HotKey::new(fixed(&row["privateKey"])).unwrap())
        .find(|key| address(&key.public()) == Some(*owner))
        .expect("each signer's key is among the vectors")
}

/// The digest, and both signatures: made again, verified, recovered.
fn check_signed(vectors: &Value, row: &Value, params: &Params, digest: Hash32) {
    assert_eq!(digest, Hash32(fixed(&row["digest"])));
    for (name, signer) in [
        ("signatureA", params.signer_a),
        ("signatureB", params.signer_b),
    ] {
        let signature = Signature(fixed(&row[name]));
        let key = key(vectors, &signer);
        assert_eq!(key.sign(&digest), signature, "RFC 6979 makes the same one");
        assert!(verify(&key.public(), &digest, &signature));
        assert_eq!(recover(&digest, &signature), Some(signer));
        let fixed = key.for_contract(&key.public(), &digest, &signature);
        assert_eq!(fixed, signature);
    }
}

#[test]
fn separators_and_ids_agree() {
    let vectors = vectors();
    for row in rows(&vectors, "domains") {
        assert_eq!(domain(row).separator(), Hash32(fixed(&row["separator"])));
    }
    for row in rows(&vectors, "channels") {
        let separator =
            domain(&vectors["domains"][row["domain"].as_u64().unwrap() as usize]).separator();
        let id = digest::channel_id(&separator, &params(row));
        assert_eq!(id.0, fixed(&row["id"]));
    }
}

#[test]
fn packed_lists_and_roots_agree() {
    let vectors = vectors();
    for row in rows(&vectors, "lists") {
        let packed = bytes(&row["packed"]);
        let list = unpack_list(&packed).unwrap();
        assert_eq!(pack_list(&list), packed);
        assert_eq!(list_root(&list), LockRoot(fixed(&row["root"])));
        let locks = row["locks"].as_array().unwrap();
        assert_eq!(list.len(), locks.len());
        for (lock, expected) in list.iter().zip(locks) {
            assert_eq!(lock.amount.get(), number::<u128>(&expected["amount"]));
            assert_eq!(lock.expiry, number::<u64>(&expected["expiry"]));
        }
    }
}

#[test]
fn snapshots_agree() {
    let vectors = vectors();
    for row in rows(&vectors, "snapshots") {
        let (separator, id, params) = channel(&vectors, row);
        let half = |version: &str, paid: &str, locks: &str| Half {
            version: number(&row[version]),
            paid: number(&row[paid]),
            locks: LockRoot(fixed(&row[locks])),
        };
        let halves = Halves {
            a: half("versionA", "paidA", "locksA"),
            b: half("versionB", "paidB", "locksB"),
        };
        let digest = digest::snapshot(&separator, &id, &halves);
        check_signed(&vectors, row, &params, digest);
    }
}

#[test]
fn what_towers_and_their_clients_sign_agrees() {
    let vectors = vectors();
    let tower = rows(&vectors, "keys")
        .iter()
        .find(|row| row["name"] == "tower")
        .map(|row| HotKey::new(fixed(&row["privateKey"])).unwrap())
        .unwrap();
    for row in rows(&vectors, "receipts") {
        let (_, channel, _) = channel(&vectors, row);
        let preimages = row["preimages"].as_array().map(|preimages| {
            let hashes = preimages.iter().map(|it| Preimage(fixed(it)).hash());
            PreimagesHeld::of(hashes)
        });
        let held = row["held"].as_object().map(|held| PreimagesHeld {
            count: number(&held["count"]),
            hashes: Hash32(fixed(&held["hashes"])),
        });
        assert_eq!(preimages, held);
        let receipt = Receipt {
            channel,
            version_a: number(&row["versionA"]),
            version_b: number(&row["versionB"]),
            stored: number(&row["stored"]),
            signature: Signature(fixed(&row["signature"])),
            preimages,
        };
        let digest = receipt.digest();
        assert_eq!(digest, Hash32(fixed(&row["digest"])));
        assert_eq!(tower.sign(&digest), receipt.signature);
    }
    for row in rows(&vectors, "numbers") {
        let snapshot = &rows(&vectors, "snapshots")[row["snapshot"].as_u64().unwrap() as usize];
        let (_, _, params) = channel(&vectors, snapshot);
        let list =
            |name: &str| -> Vec<u64> { row[name].as_array().unwrap().iter().map(number).collect() };
        let of = Hash32(fixed(&snapshot["digest"]));
        let digest = numbers_digest(&of, number(&row["last"]), &list("listA"), &list("listB"));
        assert_eq!(digest, Hash32(fixed(&row["digest"])));
        let client = key(&vectors, &params.signer_a);
        assert_eq!(client.sign(&digest), Signature(fixed(&row["signature"])));
    }
}

#[test]
fn payouts_and_closes_agree() {
    let vectors = vectors();
    for row in rows(&vectors, "coops") {
        let (separator, id, params) = channel(&vectors, row);
        let coop = Coop {
            epoch: number(&row["epoch"]),
            pay_a: number(&row["payA"]),
            pay_b: number(&row["payB"]),
            valid_until: number(&row["validUntil"]),
        };
        check_signed(&vectors, row, &params, digest::coop(&separator, &id, &coop));
    }
    for row in rows(&vectors, "closes") {
        let (separator, id, params) = channel(&vectors, row);
        let digest = digest::close(&separator, &id, number(&row["validUntil"]));
        check_signed(&vectors, row, &params, digest);
    }
}

#[test]
fn what_the_contract_refuses_is_refused_or_mended_before_it_gets_there() {
    let vectors = vectors();
    for row in rows(&vectors, "refused") {
        let digest = Hash32(fixed(&row["digest"]));
        let signer = Address(fixed(&row["signer"]));
        let Ok(signature) = <[u8; 65]>::try_from(bytes(&row["signature"])).map(Signature) else {
            continue; // Another length does not even parse.
        };
        let key = key(&vectors, &signer).public();
        if verify(&key, &digest, &signature) {
            let mended = millrace_channels::signing::for_contract(&key, &digest, &signature);
            assert_ne!(mended, signature, "{}", row["reason"]);
            assert_eq!(recover(&digest, &mended), Some(signer));
        }
    }
}

//! Derivations pinned by vectors that Python's hmac and hashlib computed.

use super::*;

const PHRASE: &str = "test test test test test test test test test test test junk";

fn phrase() -> Phrase {
    Phrase::parse(PHRASE).unwrap()
}

fn secret(text: &str) -> SecretKey {
    let mut bytes = [0; 32];
    hex::decode_to_slice(text, &mut bytes).unwrap();
    SecretKey::from_bytes(bytes)
}

#[test]
fn l1_keys_are_those_of_every_ethereum_wallet() {
    let address = |number| {
        phrase_keys(&phrase(), number)
            .unwrap()
            .l1_address()
            .to_string()
    };
    assert_eq!(address(0), "0xf39fd6e51aad88f6f4ce6ab8827279cfffb92266");
    assert_eq!(address(1), "0x70997970c51812dc3a010c7d01b50e0d17dc79c8");
}

#[test]
fn rollup_keys_of_a_phrase_are_pinned() {
    for (number, expected) in [
        (
            0,
            "bf977f32f39d446ae8097b9cd68a48525be12a2dbc77870df42f9801b4d2ecf0",
        ),
        (
            1,
            "d89ba6a1185fa136d84e99fd9f19d67d45a8c383222dff968a85643426d55fc2",
        ),
    ] {
        let keys = phrase_keys(&phrase(), number).unwrap();
        assert_eq!(keys.rollup.public_key(), secret(expected).public_key());
    }
}

#[test]
fn rollup_keys_of_a_signature_are_pinned() {
    let bytes: Vec<u8> = (0..64).collect();
    let expected = "f9ccd0877b885d2910288301c3805e622cb9247538e791b99b1374ab0e2a15b6";
    assert_eq!(
        stretch(&bytes, INFO_SIGNATURE, 0).public_key(),
        secret(expected).public_key()
    );
}

#[test]
fn the_two_ways_of_one_l1_key_give_different_rollup_keys_bound_to_chain_and_contract() {
    let l1 = phrase().clone();
    let source = KeySource::L1Key(l1_key(&l1, 0).unwrap());
    let rollup = |chain_id, byte| RollupIdentity {
        chain_id,
        contract: L1Address([byte; 20]),
    };
    let key = |identity| source.keys(0, Some(identity)).unwrap().rollup.public_key();
    assert_eq!(key(rollup(1, 1)), key(rollup(1, 1)));
    assert_ne!(key(rollup(1, 1)), key(rollup(2, 1)));
    assert_ne!(key(rollup(1, 1)), key(rollup(1, 2)));
    assert_ne!(
        key(rollup(1, 1)),
        phrase_keys(&l1, 0).unwrap().rollup.public_key()
    );
    assert!(matches!(source.keys(0, None), Err(KeysError::NoContract)));
    assert!(matches!(
        source.keys(1, Some(rollup(1, 1))),
        Err(KeysError::Number(1))
    ));
}

#[test]
fn the_request_hash_is_pinned() {
    // Computed with viem's hashTypedData.
    let rollup = RollupIdentity {
        chain_id: 31337,
        contract: L1Address([0x11; 20]),
    };
    let hash = signing_request(Address::repeat_byte(0x22), rollup, 0);
    assert_eq!(hash.to_string(), REQUEST_HASH);
}

const REQUEST_HASH: &str = "0xb5a8564cb5a0053eea9896e4dbb2671fb9be49d40a755554fb7979176ec26a8d";

#[test]
fn a_signer_that_signs_differently_each_time_is_refused() {
    let signer = PrivateKeySigner::from_bytes(&B256::repeat_byte(3)).unwrap();
    let mut count = 0u8;
    let result = key_from_signatures(|| {
        count += 1;
        Ok(signer.sign_hash_sync(&B256::repeat_byte(count)).unwrap())
    });
    assert!(matches!(result, Err(KeysError::Unstable)));
}

#[test]
fn a_new_phrase_has_24_words_and_reads_back() {
    let phrase = Phrase::generate();
    assert_eq!(phrase.words().split(' ').count(), 24);
    let again = Phrase::parse(&format!("  {}\n", phrase.words().to_uppercase())).unwrap();
    assert_eq!(*again.words(), *phrase.words());
    assert_ne!(*Phrase::generate().words(), *phrase.words());
}

#[test]
fn a_wrong_phrase_is_named_by_place_and_never_repeated() {
    let text = |words: &str| match Phrase::parse(words) {
        Err(error) => error.to_string(),
        Ok(_) => panic!("accepted"),
    };
    assert!(text("test test").contains("2 words"));
    let unknown = text(&PHRASE.replace("junk", "jumk"));
    assert!(
        unknown.contains("word 12") && !unknown.contains("jumk"),
        "{unknown}"
    );
    assert!(text(&PHRASE.replace("junk", "test")).contains("checksum"));
}

#[test]
fn a_private_key_reads_with_and_without_prefix() {
    let digits = "ac0974bec39a17e36ba4a6b4d238ff944bacb478cbed5efcae784d7bf4f2ff80";
    for text in [digits.to_owned(), format!(" 0x{digits}\n")] {
        assert_eq!(
            private_key(&text)
                .unwrap()
                .address()
                .to_string()
                .to_lowercase(),
            "0xf39fd6e51aad88f6f4ce6ab8827279cfffb92266"
        );
    }
    assert!(private_key("0x00").is_err() && private_key(&"00".repeat(32)).is_err());
}

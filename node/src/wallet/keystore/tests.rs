//! Round trips, wrong passwords, and every kind of damage.

use super::*;
use proptest::prelude::*;
use std::os::unix::fs::PermissionsExt;

const CHEAP: Cost = Cost {
    memory_kib: 8,
    passes: 1,
    lanes: 1,
};

fn stored() -> (tempfile::TempDir, Keystore, Phrase) {
    let folder = tempfile::tempdir().unwrap();
    let keystore = Keystore::new(folder.path().join("keystore.json"));
    let phrase = Phrase::generate();
    let source = KeySource::Phrase(phrase.clone());
    keystore
        .create_at_cost(&source, "correct horse", CHEAP)
        .unwrap();
    (folder, keystore, phrase)
}

fn refusal(keystore: &Keystore, password: &str) -> KeystoreError {
    match keystore.open(password) {
        Err(error) => error,
        Ok(_) => panic!("opened"),
    }
}

#[test]
fn a_phrase_comes_back_with_its_password() {
    let (_folder, keystore, phrase) = stored();
    match keystore.open("correct horse").unwrap() {
        KeySource::Phrase(again) => assert_eq!(*again.words(), *phrase.words()),
        KeySource::L1Key(_) => panic!("another kind"),
    }
}

#[test]
fn an_l1_key_comes_back_with_its_password() {
    let folder = tempfile::tempdir().unwrap();
    let keystore = Keystore::new(folder.path().join("k.json"));
    let source = KeySource::from_private_key(&"07".repeat(32)).unwrap();
    keystore.create_at_cost(&source, "", CHEAP).unwrap();
    let KeySource::L1Key(again) = keystore.open("").unwrap() else {
        panic!("another kind")
    };
    assert_eq!(again.to_bytes().0, [7; 32]);
}

#[test]
fn the_file_is_private_and_holds_no_word_of_the_phrase() {
    let (_folder, keystore, phrase) = stored();
    let mode = std::fs::metadata(keystore.path())
        .unwrap()
        .permissions()
        .mode();
    assert_eq!(mode & 0o777, 0o600);
    let text = std::fs::read_to_string(keystore.path()).unwrap();
    // What the file's own fields are called may be a word of the phrase: memory is one.
    let (_other_folder, other, _) = stored();
    let format = std::fs::read_to_string(other.path()).unwrap();
    let words = phrase.words();
    let telling = |word: &&str| word.len() > 4 && !format.contains(word);
    let shown: Vec<&str> = words
        .split(' ')
        .filter(telling)
        .filter(|word| text.contains(word))
        .collect();
    assert_eq!(shown, Vec::<&str>::new());
}

#[test]
fn a_wrong_password_is_told_from_a_damaged_file() {
    let (_folder, keystore, _) = stored();
    assert!(matches!(
        refusal(&keystore, "wrong"),
        KeystoreError::WrongPassword(_)
    ));
    assert!(matches!(
        refusal(&keystore, ""),
        KeystoreError::WrongPassword(_)
    ));
    let bytes = std::fs::read(keystore.path()).unwrap();
    std::fs::write(keystore.path(), &bytes[..bytes.len() - 20]).unwrap();
    assert!(matches!(
        refusal(&keystore, "correct horse"),
        KeystoreError::Damaged { .. }
    ));
}

#[test]
fn a_missing_file_and_an_existing_one_are_errors_of_their_own() {
    let (folder, keystore, phrase) = stored();
    let elsewhere = Keystore::new(folder.path().join("other.json"));
    assert!(matches!(
        refusal(&elsewhere, "x"),
        KeystoreError::Missing(_)
    ));
    let again = keystore.create_at_cost(&KeySource::Phrase(phrase), "new", CHEAP);
    assert!(matches!(again, Err(KeystoreError::Exists(_))));
    keystore.open("correct horse").unwrap();
}

/// Alters a field and repairs the checksum, as an attacker would.
fn forge(keystore: &Keystore, alter: impl FnOnce(&mut FileContent)) {
    let bytes = std::fs::read(keystore.path()).unwrap();
    let mut content: FileContent = serde_json::from_slice(&bytes).unwrap();
    alter(&mut content);
    content.checksum = checksum(&content.header, &content.text);
    std::fs::write(keystore.path(), serde_json::to_vec(&content).unwrap()).unwrap();
}

#[test]
fn a_file_from_the_future_is_refused_by_version() {
    let (_folder, keystore, _) = stored();
    forge(&keystore, |content| {
        content.header.insert("version".into(), 2.into());
    });
    assert!(matches!(
        refusal(&keystore, "correct horse"),
        KeystoreError::TooNew { got: 2, .. }
    ));
}

#[test]
fn a_file_that_asks_for_all_the_memory_is_refused() {
    let (_folder, keystore, _) = stored();
    forge(&keystore, |content| {
        content.header["cost"]["memory_kib"] = u32::MAX.into();
    });
    assert!(matches!(
        refusal(&keystore, "correct horse"),
        KeystoreError::Damaged { .. }
    ));
}

#[test]
fn a_cheaper_header_with_a_repaired_checksum_does_not_open() {
    let (_folder, keystore, _) = stored();
    forge(&keystore, |content| {
        content.header["cost"]["passes"] = 2.into();
    });
    assert!(matches!(
        refusal(&keystore, "correct horse"),
        KeystoreError::WrongPassword(_)
    ));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    #[test]
    fn no_change_of_one_byte_opens_or_panics(place in any::<prop::sample::Index>(), flip in 1u8..=255) {
        let (_folder, keystore, phrase) = stored();
        let mut bytes = std::fs::read(keystore.path()).unwrap();
        let place = place.index(bytes.len());
        bytes[place] ^= flip;
        std::fs::write(keystore.path(), &bytes).unwrap();
        if let Ok(KeySource::Phrase(again)) = keystore.open("correct horse") {
            // Only white space may change unnoticed.
            prop_assert_eq!(&*again.words(), &*phrase.words());
            prop_assert!(bytes[place].is_ascii_whitespace());
        }
    }

    #[test]
    fn every_truncation_is_damage(length in any::<prop::sample::Index>()) {
        let (_folder, keystore, _) = stored();
        let bytes = std::fs::read(keystore.path()).unwrap();
        let length = length.index(bytes.len() - 1);
        std::fs::write(keystore.path(), &bytes[..length]).unwrap();
        let damaged = matches!(refusal(&keystore, "correct horse"), KeystoreError::Damaged { .. });
        prop_assert!(damaged);
    }
}

//! A key file gives back the key or says what is wrong with it; no bytes make it panic.

use super::*;
use crate::key::{GenerateError, KeyStore, KeyStoreError, MappedKey};
use crate::setup::Seed;
use proptest::prelude::*;
use std::sync::OnceLock;
use tempfile::TempDir;

fn key() -> &'static CircuitKey {
    static KEY: OnceLock<CircuitKey> = OnceLock::new();
    KEY.get_or_init(|| CircuitKey::generate(Circuit::Chain(9), &Seed::development()).unwrap())
}

fn written() -> (TempDir, PathBuf, Vec<u8>) {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("test.key");
    write(key(), &path).unwrap();
    let bytes = fs::read(&path).unwrap();
    (directory, path, bytes)
}

fn assert_same(read: &CircuitKey) {
    let key = key();
    assert_eq!(
        (read.circuit, read.identity, read.id),
        (key.circuit, key.identity, key.id)
    );
    assert_eq!(read.matrices, key.matrices);
    assert_eq!(read.proving_key, key.proving_key);
}

/// Gives a file the checksums of its content, as a forger would.
fn sealed(mut bytes: Vec<u8>) -> Vec<u8> {
    let header_length = read_long(&bytes[24..32]) as usize;
    let json = PREAMBLE as usize..PREAMBLE as usize + header_length;
    if let Ok(mut header) = serde_json::from_slice::<SealedHeader>(&bytes[json.clone()]) {
        let (places, length) = layout(&header.key, header_length as u64);
        if length == bytes.len() as u64 && header.digests.len() == SECTIONS.len() {
            for (number, place) in places.iter().enumerate() {
                let section = &bytes[place.start as usize..place.end as usize];
                let digest = section_digest(number, section.len() as u64, &piece_hashes(section));
                header.digests[number] = hex::encode(digest);
            }
            let text = serde_json::to_vec(&header).unwrap();
            if text.len() == header_length {
                bytes[json.clone()].copy_from_slice(&text);
            }
        }
    }
    let sealed = preamble(bytes.len() as u64, &bytes[json]);
    bytes[..PREAMBLE as usize].copy_from_slice(&sealed);
    bytes
}

/// The key as a file of version 1.
fn version_1(key: &CircuitKey) -> Vec<u8> {
    let header = KeyHeader::of(key);
    let json = serde_json::to_vec(&header).unwrap();
    let (places, length) = layout_1(&header, json.len() as u64);
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("old.key");
    let file = File::create(&path).unwrap();
    file.set_len(length).unwrap();
    file.write_all_at(&json, PREAMBLE).unwrap();
    for place in &places {
        let mut body = Body::new(&file, place.start);
        match place.section {
            Section::H => put_g1(&mut body, &key.proving_key.h_query).unwrap(),
            section => write_section(key, section, &mut body).unwrap(),
        }
        body.finish().unwrap();
    }
    let mut bytes = fs::read(&path).unwrap();
    bytes[..16].copy_from_slice(MAGIC_1);
    bytes[16..24].copy_from_slice(&length.to_le_bytes());
    bytes[24..32].copy_from_slice(&(json.len() as u64).to_le_bytes());
    let mut hasher = Sha256::new_with_prefix(CHECKSUM_TAG_1);
    hasher.update(&bytes[..32]);
    for piece in piece_hashes(&bytes[PREAMBLE as usize..]) {
        hasher.update(piece);
    }
    bytes[32..64].copy_from_slice(&hasher.finalize());
    bytes
}

#[test]
fn a_key_reads_back_with_either_trust() {
    let (_directory, path, bytes) = written();
    assert_same(&read(&path, Trust::OwnCache).unwrap());
    assert_same(&read(&path, Trust::Foreign).unwrap());
    assert_eq!(read_header(&path).unwrap(), KeyHeader::of(key()));
    assert_eq!(bytes, sealed(bytes.clone()));
    let header = String::from_utf8_lossy(&bytes[..400]);
    assert!(header.starts_with("millrace-key-v2\n") && header.contains("INSECURE-DEV"));
}

#[test]
fn points_at_infinity_read_back() {
    let infinite = key().proving_key.b_g1_query.iter().any(AffineRepr::is_zero);
    assert!(infinite, "the chain's last variables are in no row of B");
}

#[test]
fn a_longer_key_than_one_piece_reads_back() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("test.key");
    let key = CircuitKey::generate(Circuit::Chain(40_000), &Seed::development()).unwrap();
    write(&key, &path).unwrap();
    assert!(key.proving_key.b_g2_query.len() * 128 > PIECE);
    assert_eq!(
        read(&path, Trust::OwnCache).unwrap().proving_key,
        key.proving_key
    );
}

#[test]
fn a_truncated_file_is_damaged() {
    let (_directory, path, bytes) = written();
    for length in [
        bytes.len() - 1,
        bytes.len() / 2,
        PREAMBLE as usize + 1,
        PREAMBLE as usize,
    ] {
        fs::write(&path, &bytes[..length]).unwrap();
        let error = read(&path, Trust::OwnCache).unwrap_err();
        assert!(
            matches!(error, KeyFileError::WrongLength { .. }),
            "{length}: {error}"
        );
    }
    for length in [PREAMBLE as usize - 1, 16, 3, 0] {
        fs::write(&path, &bytes[..length]).unwrap();
        let error = read(&path, Trust::OwnCache).unwrap_err();
        assert!(
            matches!(error, KeyFileError::NotAKeyFile(_)),
            "{length}: {error}"
        );
    }
    let mut longer = bytes;
    longer.push(0);
    fs::write(&path, longer).unwrap();
    assert!(matches!(
        read(&path, Trust::OwnCache),
        Err(KeyFileError::WrongLength { .. })
    ));
}

#[test]
fn another_file_or_version_is_named_as_such() {
    let (_directory, path, mut bytes) = written();
    fs::write(&path, [b'x'; 500]).unwrap();
    assert!(matches!(
        read_header(&path),
        Err(KeyFileError::NotAKeyFile(_))
    ));
    bytes[14] = b'3';
    fs::write(&path, &bytes).unwrap();
    assert!(matches!(
        read_header(&path),
        Err(KeyFileError::UnknownVersion(_))
    ));
    assert!(matches!(
        read_header(Path::new("/nowhere/at.key")),
        Err(KeyFileError::Io { .. })
    ));
}

fn place_of(bytes: &[u8], section: Section) -> Place {
    let (places, _) = layout(&KeyHeader::of(key()), read_long(&bytes[24..32]));
    *places
        .iter()
        .find(|place| place.section == section)
        .unwrap()
}

#[test]
fn damage_is_named_by_section_and_offset() {
    let (_directory, path, bytes) = written();
    for section in SECTIONS {
        let place = place_of(&bytes, section);
        // The first byte of the content, and the last of the filling.
        for position in [place.start, place.end - 1] {
            let mut damaged = bytes.clone();
            damaged[position as usize] ^= 1;
            fs::write(&path, damaged).unwrap();
            let error = read(&path, Trust::OwnCache).unwrap_err();
            let named = matches!(&error, KeyFileError::WrongChecksum { section: named, offset, .. }
                if named == section.name() && *offset == place.start);
            assert!(named, "{section:?} at {position}: {error}");
        }
    }
}

#[test]
fn a_mapped_key_shows_damage_at_its_first_use() {
    let (_directory, path, mut bytes) = written();
    let whole = MappedKey::open(&path).unwrap().unwrap();
    assert_eq!((whole.id(), whole.circuit()), (key().id, key().circuit));
    assert_eq!(whole.verifying_key(), key().verifying_key());
    assert_eq!(whole.matrices().unwrap(), &key().matrices);
    assert_eq!(whole.read().unwrap().proving_key, key().proving_key);
    let place = place_of(&bytes, Section::L);
    bytes[place.start as usize + 5] ^= 4;
    let other = path.with_extension("other");
    fs::write(&other, &bytes).unwrap();
    let damaged = MappedKey::open(&other).unwrap().unwrap();
    for _ in 0..2 {
        let error = damaged.matrices().unwrap_err();
        let message = error.to_string();
        assert!(message.contains("section L") && message.contains(&place.start.to_string()));
    }
    // The verifying key is checked when the file is opened, whatever the digests say.
    let mut forged = fs::read(&path).unwrap();
    let singles = place_of(&forged, Section::Singles).start as usize;
    forged[singles] ^= 1;
    fs::write(&other, sealed(forged)).unwrap();
    assert!(matches!(
        MappedKey::open(&other),
        Err(KeyFileError::Invalid { .. })
    ));
}

#[test]
fn proofs_from_a_mapped_key_verify() {
    use crate::chain::Chain;
    use crate::circuit::Statement;
    use crate::fast::Fast;
    use crate::groth16::{Backend, Reference, Verifier};
    let (_directory, path, _) = written();
    let statement = Statement::Chain(Chain::new(9, 4));
    let assignment = statement.assign().unwrap();
    let backends: [&dyn Backend; 3] = [&Fast::detect(), &Fast::portable(), &Reference];
    for backend in backends {
        let mapped = std::sync::Arc::new(MappedKey::open(&path).unwrap().unwrap());
        let verifier = Verifier::new(mapped.verifying_key());
        let prepared = backend.prepare_mapped(mapped).unwrap();
        let proof = prepared.prove(&assignment).unwrap();
        assert!(
            verifier.accepts(&proof, &statement.public_inputs()),
            "{}",
            backend.name()
        );
    }
}

#[test]
fn a_file_of_version_1_is_read_and_replaced() {
    let directory = tempfile::tempdir().unwrap();
    let old = version_1(key());
    let path = directory.path().join("old.key");
    fs::write(&path, &old).unwrap();
    assert_same(&read(&path, Trust::OwnCache).unwrap());
    assert_same(&read(&path, Trust::Foreign).unwrap());
    assert!(MappedKey::open(&path).unwrap().is_none());
    let store = KeyStore::new(directory.path().join("store"));
    let kept = store.keep(key()).unwrap();
    let new = fs::read(&kept).unwrap();
    fs::write(&kept, &old).unwrap();
    let opened = store
        .open(key().circuit, &key().identity, &key().id)
        .unwrap();
    assert_eq!(opened.id(), key().id);
    assert_eq!(fs::read(&kept).unwrap(), new);
    let mut damaged = old;
    let middle = damaged.len() / 2;
    damaged[middle] ^= 1;
    fs::write(&path, damaged).unwrap();
    assert!(matches!(
        read(&path, Trust::OwnCache),
        Err(KeyFileError::WrongChecksum { .. })
    ));
}

#[test]
fn a_forged_checksum_does_not_hide_a_foreign_point_or_matrix() {
    let (_directory, path, bytes) = written();
    let at = |section| place_of(&bytes, section).start as usize;
    for (section, offset) in [
        (Section::A, 0),
        (Section::B1, 64),
        (Section::B2, 32),
        (Section::H, 0),
        (Section::L, 0),
        (Section::Coefficients, 0),
    ] {
        let mut forged = bytes.clone();
        forged[at(section) + offset] ^= 1;
        fs::write(&path, sealed(forged)).unwrap();
        let error = read(&path, Trust::Foreign).unwrap_err();
        assert!(
            matches!(error, KeyFileError::Invalid { .. }),
            "{section:?}: {error}"
        );
    }
    for section in [Section::Singles, Section::InputPoints] {
        let mut forged = bytes.clone();
        forged[at(section)] ^= 1;
        fs::write(&path, sealed(forged)).unwrap();
        // The verifying key is named by its content, so even a trusted cache notices.
        assert!(matches!(
            read(&path, Trust::OwnCache),
            Err(KeyFileError::Invalid { .. })
        ));
    }
    for offset in 0..3 {
        let mut forged = bytes.clone();
        forged[at(Section::Matrix(offset)) + 3] = 0xff;
        fs::write(&path, sealed(forged)).unwrap();
        assert!(matches!(
            read(&path, Trust::OwnCache),
            Err(KeyFileError::Invalid { .. })
        ));
    }
}

#[test]
fn a_header_that_claims_too_much_is_refused_before_anything_is_read() {
    let (_directory, path, bytes) = written();
    let mut forged = bytes.clone();
    forged[24..32].copy_from_slice(&u64::MAX.to_le_bytes());
    fs::write(&path, &forged).unwrap();
    assert!(matches!(
        read_header(&path),
        Err(KeyFileError::Invalid { .. })
    ));
    let text = String::from_utf8_lossy(&bytes[..700]).into_owned();
    let start = text.find("\"witnesses\":").unwrap() + 12;
    let mut forged = bytes;
    forged[start] = b'9';
    fs::write(&path, sealed(forged)).unwrap();
    assert!(matches!(
        read_header(&path),
        Err(KeyFileError::Invalid { .. })
    ));
}

#[test]
fn a_failed_write_leaves_the_old_file_and_no_other() {
    let (directory, path, bytes) = written();
    assert!(write(key(), &directory.path().join("absent").join("x.key")).is_err());
    write(key(), &path).unwrap();
    assert_eq!(fs::read(&path).unwrap(), bytes);
    assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 1);
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]

    #[test]
    fn any_changed_byte_is_noticed(position in 0usize..1 << 16, flip in 1u8..) {
        let (_directory, path, mut bytes) = written();
        let position = position % bytes.len();
        bytes[position] ^= flip;
        fs::write(&path, bytes).unwrap();
        prop_assert!(read(&path, Trust::OwnCache).is_err());
    }

    #[test]
    fn no_sealed_content_panics(position in 0usize..1 << 16, value: u8) {
        let (_directory, path, mut bytes) = written();
        let position = PREAMBLE as usize + position % (bytes.len() - PREAMBLE as usize);
        bytes[position] = value;
        fs::write(&path, sealed(bytes)).unwrap();
        // Either way is fine: a query's point may be wrong in a trusted cache, and the proof made with it will not verify.
        if let Ok(key) = read(&path, Trust::OwnCache) {
            prop_assert_eq!(key.id, self::key().id);
        }
        if let Ok(Some(key)) = MappedKey::open(&path) {
            let _ = key.matrices();
        }
        let _ = read(&path, Trust::Foreign);
    }
}

// --- the cache of key files

fn seed() -> Seed {
    Seed::from_text("cache test")
}

#[test]
fn the_cache_generates_once_and_then_reads() {
    let directory = tempfile::tempdir().unwrap();
    let store = KeyStore::new(directory.path());
    let circuit = Circuit::Chain(9);
    let first = store.development_key(circuit, &seed()).unwrap();
    let listed = store.list().unwrap();
    let [(path, Ok(header))] = &listed[..] else {
        panic!("{listed:?}")
    };
    assert_eq!(header.key_id, first.id);
    assert!(path.to_string_lossy().contains("INSECURE-DEV"));
    assert!(path.to_string_lossy().contains(&first.identity.short()));
    let modified = fs::metadata(path).unwrap().modified().unwrap();
    assert_eq!(
        store.development_key(circuit, &seed()).unwrap().id,
        first.id
    );
    assert_eq!(fs::metadata(path).unwrap().modified().unwrap(), modified);
}

#[test]
fn the_cache_keeps_seeds_circuits_and_kept_keys_apart() {
    let directory = tempfile::tempdir().unwrap();
    let store = KeyStore::new(directory.path());
    let circuit = Circuit::Chain(9);
    let seeded = store.development_key(circuit, &seed()).unwrap();
    let other = store
        .development_key(circuit, &Seed::development())
        .unwrap();
    assert_ne!(seeded.id, other.id);
    store.development_key(Circuit::Chain(8), &seed()).unwrap();
    let random = CircuitKey::generate(circuit, &Seed::from_os()).unwrap();
    let path = store.keep(&random).unwrap();
    assert!(path.to_string_lossy().contains(&random.id.to_string()));
    assert_eq!(store.list().unwrap().len(), 4);
    for wanted in [&seeded, &other, &random] {
        let loaded = store.load(circuit, &wanted.identity, &wanted.id).unwrap();
        assert_eq!(loaded.proving_key, wanted.proving_key);
    }
    let missing = KeyId {
        origin: KeyOrigin::Ceremony,
        hash: [1; 32],
    };
    let error = store.load(circuit, &seeded.identity, &missing).unwrap_err();
    assert!(matches!(error, KeyStoreError::Missing { key, .. } if key == missing));
    assert!(error.to_string().contains("millrace setup"));
}

#[test]
fn a_damaged_cache_file_is_reported_and_never_replaced_silently() {
    let directory = tempfile::tempdir().unwrap();
    let store = KeyStore::new(directory.path());
    let key = store.development_key(Circuit::Chain(9), &seed()).unwrap();
    let (path, _) = store.list().unwrap().remove(0);
    let mut bytes = fs::read(&path).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    fs::write(&path, &bytes).unwrap();
    let error = store
        .development_key(Circuit::Chain(9), &seed())
        .unwrap_err();
    assert!(
        matches!(
            error,
            KeyStoreError::File(KeyFileError::WrongChecksum { .. })
        ),
        "{error}"
    );
    // A whole neighbour is still found.
    let kept = CircuitKey::generate(Circuit::Chain(9), &Seed::development()).unwrap();
    fs::write(&path, &bytes[..100]).unwrap();
    store.keep(&kept).unwrap();
    assert_eq!(
        store
            .load(kept.circuit, &key.identity, &kept.id)
            .unwrap()
            .id,
        kept.id
    );
    assert_eq!(
        store
            .list()
            .unwrap()
            .iter()
            .filter(|(_, header)| header.is_err())
            .count(),
        1
    );
}

#[test]
fn a_key_of_another_circuit_under_this_name_is_refused() {
    let directory = tempfile::tempdir().unwrap();
    let store = KeyStore::new(directory.path());
    let key = store.development_key(Circuit::Chain(9), &seed()).unwrap();
    let (path, _) = store.list().unwrap().remove(0);
    let other = CircuitKey::generate(Circuit::Chain(10), &seed()).unwrap();
    write(&other, &path).unwrap();
    let error = store
        .development_key(Circuit::Chain(9), &seed())
        .unwrap_err();
    assert!(
        matches!(&error, KeyStoreError::WrongCircuit { expected, got, .. }
            if *expected == key.identity && *got == other.identity),
        "{error}"
    );
}

#[test]
fn an_unwritable_cache_is_an_error() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("file");
    fs::write(&file, b"in the way").unwrap();
    let error = KeyStore::new(&file)
        .development_key(Circuit::Chain(1), &seed())
        .unwrap_err();
    assert!(matches!(error, KeyStoreError::Folder { .. }), "{error}");
    let store = KeyStore::new(directory.path().join("none"));
    assert!(store.list().unwrap().is_empty());
    let from: KeyStoreError =
        GenerateError::Setup(crate::setup::SetupError::DomainTooLarge(1)).into();
    assert!(from.to_string().contains("2^28"));
}

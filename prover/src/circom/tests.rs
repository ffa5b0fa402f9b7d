//! Files written are read back and proved from; damaged ones are refused, wherever the damage is.

use super::*;
use crate::chain::Chain;
use crate::circuit::{Circuit, Statement};
use crate::key::CircuitKey;
use crate::setup::Seed;
use proptest::prelude::*;
use std::sync::LazyLock;
use tempfile::TempDir;

pub(super) const LINKS: u32 = 57;

pub(super) static KEY: LazyLock<CircuitKey> =
    LazyLock::new(|| CircuitKey::generate(Circuit::Chain(LINKS), &Seed::development()).unwrap());

pub(super) fn statement(start: u64) -> Statement {
    Statement::Chain(Chain::new(LINKS, start))
}

/// The two files of a chain.
pub(super) fn files() -> (TempDir, PathBuf, PathBuf) {
    let folder = tempfile::tempdir().unwrap();
    let [zkey, wtns] = ["chain.zkey", "chain.wtns"].map(|name| folder.path().join(name));
    std::fs::write(&zkey, zkey_bytes(&*KEY)).unwrap();
    std::fs::write(&wtns, &*wtns_bytes(&statement(3).assign().unwrap())).unwrap();
    (folder, zkey, wtns)
}

#[test]
fn files_of_a_key_and_a_witness_are_proved_from() {
    let (_folder, zkey, wtns) = files();
    let prover = CircomProver::open(&zkey).unwrap();
    assert_eq!(prover.verifying_key(), KEY.verifying_key());
    assert_eq!(prover.constraints(), KEY.matrices.constraints());
    let witness = prover.read_witness(&wtns).unwrap();
    assert_eq!(witness.public_inputs(), statement(3).public_inputs());
    let proof = prover.prove(&witness).unwrap();
    let verifier = Verifier::new(KEY.verifying_key());
    assert!(verifier.accepts(&proof, &statement(3).public_inputs()));
    assert!(!verifier.accepts(&proof, &statement(4).public_inputs()));
}

#[test]
fn what_is_written_is_what_was_read() {
    let (_folder, zkey, _) = files();
    let read = read_zkey(&zkey).unwrap();
    assert_eq!(zkey_bytes(&read), zkey_bytes(&*KEY));
    assert_eq!(read.proving_key, KEY.proving_key);
}

#[test]
fn a_false_witness_and_one_of_another_circuit_are_refused() {
    let (_folder, zkey, wtns) = files();
    let prover = CircomProver::open(&zkey).unwrap();
    let mut bytes = std::fs::read(&wtns).unwrap();
    let last = bytes.len() - 32;
    bytes[last] ^= 1;
    std::fs::write(&wtns, &bytes).unwrap();
    let witness = prover.read_witness(&wtns).unwrap();
    assert!(matches!(
        prover.prove(&witness),
        Err(CircomError::Unsatisfied)
    ));
    let other = Statement::Chain(Chain::new(LINKS + 1, 3)).assign().unwrap();
    let refused = prover.prove(&other);
    assert!(matches!(
        refused,
        Err(CircomError::Backend(BackendError::WrongAssignment { .. }))
    ));
}

#[test]
fn files_of_another_kind_are_named() {
    let (_folder, zkey, wtns) = files();
    assert!(matches!(
        read_zkey(&wtns),
        Err(CircomError::OtherFile { kind: "zkey", .. })
    ));
    assert!(matches!(
        read_wtns(&zkey, 1),
        Err(CircomError::OtherFile { kind: "wtns", .. })
    ));
    let missing = read_zkey(Path::new("/nowhere.zkey"));
    assert!(matches!(missing, Err(CircomError::Io { .. })));
}

/// The refusal of a key file after a change.
fn refusal(change: impl Fn(&mut Vec<u8>)) -> String {
    let (_folder, zkey, _) = files();
    let mut bytes = std::fs::read(&zkey).unwrap();
    change(&mut bytes);
    std::fs::write(&zkey, bytes).unwrap();
    read_zkey(&zkey).err().expect("refused").to_string()
}

/// Where a section's content begins.
pub(super) fn start(bytes: &[u8], wanted: u32) -> usize {
    let mut offset = 12;
    loop {
        let id = number(&bytes[offset..offset + 4]) as u32;
        if id == wanted {
            return offset + 12;
        }
        offset += 12 + number(&bytes[offset + 4..offset + 12]) as usize;
    }
}

#[test]
fn refusals_name_the_section_and_what_is_wrong() {
    let curve = refusal(|bytes| {
        let at = start(bytes, 2) + 4;
        bytes[at] ^= 2;
    });
    assert!(
        curve.contains("section 2") && curve.contains("base field"),
        "{curve}"
    );
    let point = refusal(|bytes| {
        let at = start(bytes, 7) + 130;
        bytes[at] ^= 1;
    });
    assert!(
        point.contains("section 7") && point.contains("not a point"),
        "{point}"
    );
    let column = refusal(|bytes| {
        let at = start(bytes, 4) + 4 + 8;
        bytes[at..at + 4].fill(0xff);
    });
    assert!(
        column.contains("section 4") && column.contains("column"),
        "{column}"
    );
    let short = refusal(|bytes| bytes.truncate(bytes.len() - 100));
    assert!(short.contains("bytes"), "{short}");
    let system = refusal(|bytes| {
        let at = start(bytes, 1);
        bytes[at] = 2;
    });
    assert!(system.contains("Groth16"), "{system}");
    let many = refusal(|bytes| bytes[8..12].fill(0xff));
    assert!(many.contains("too many"), "{many}");
    let inputs = refusal(|bytes| {
        let at = start(bytes, 2) + 72 + 4;
        bytes[at..at + 4].fill(0xff);
    });
    assert!(inputs.contains("inputs"), "{inputs}");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    #[test]
    fn damage_never_panics(place: prop::sample::Index, value: u8, length: prop::sample::Index) {
        let (_folder, zkey, wtns) = files();
        for path in [&zkey, &wtns] {
            let mut bytes = std::fs::read(path).unwrap();
            let at = place.index(bytes.len());
            bytes[at] = value;
            std::fs::write(path, &bytes).unwrap();
            // Not every byte matters: what counts is that there is an answer.
            let _ = (read_zkey(path).err(), read_wtns(path, 4).err());
            bytes.truncate(length.index(bytes.len()));
            std::fs::write(path, &bytes).unwrap();
            prop_assert!(read_zkey(path).is_err());
            prop_assert!(read_wtns(path, 4).is_err());
        }
    }
}

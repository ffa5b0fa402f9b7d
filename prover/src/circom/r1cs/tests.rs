//! Constraints written are read back; witnesses and keys that do not fit are named; damaged files are refused.

use super::*;
use crate::circom::tests::{KEY, LINKS, files, start, statement};
use crate::circom::{CircomProver, zkey_bytes};
use crate::circuit::Circuit;
use crate::key::CircuitKey;
use crate::setup::Seed;
use ark_ff::One;
use proptest::prelude::*;
use std::path::PathBuf;
use tempfile::TempDir;

fn file() -> (TempDir, PathBuf) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("chain.r1cs");
    std::fs::write(&path, r1cs_bytes(&KEY.matrices)).unwrap();
    (folder, path)
}

#[test]
fn what_is_written_is_what_was_read() {
    let (_folder, path) = file();
    let read = R1cs::read(&path).unwrap();
    assert_eq!(read.matrices.identity(), KEY.matrices.identity());
    assert_eq!(r1cs_bytes(&read.matrices), std::fs::read(&path).unwrap());
}

#[test]
fn a_batch_circuit_survives_the_file() {
    let matrices = Circuit::Batch(millrace_circuits::batch::Shape::TINY)
        .matrices()
        .unwrap();
    let (_folder, path) = file();
    std::fs::write(&path, r1cs_bytes(&matrices)).unwrap();
    let read = R1cs::read(&path).unwrap();
    assert_eq!(read.matrices.identity(), matrices.identity());
}

#[test]
fn the_first_broken_constraint_is_named() {
    let (_folder, path) = file();
    let constraints = R1cs::read(&path).unwrap();
    let good = statement(3).assign().unwrap();
    constraints.check_witness(&good).unwrap();
    for place in 1..good.values().len() {
        let mut values = good.values().to_vec();
        values[place] += Fr::one();
        let inputs = constraints.matrices.inputs;
        let changed = Assignment::of_values(inputs, values.clone().into());
        let broken = (0..constraints.matrices.constraints()).find(|row| {
            let product = |m: usize| -> Fr {
                let terms = constraints.matrices.matrices[m].row(*row);
                let terms = terms.map(|(c, v)| constraints.matrices.coefficients[v] * values[c]);
                terms.sum()
            };
            product(0) * product(1) != product(2)
        });
        match constraints.check_witness(&changed) {
            Err(CircomError::Broken { constraint, .. }) => assert_eq!(Some(constraint), broken),
            other => panic!("value {place}: {other:?}, expected {broken:?}"),
        }
    }
    let short = Assignment::of_values(1, good.values()[1..].to_vec().into());
    assert!(matches!(
        constraints.check_witness(&short),
        Err(CircomError::OtherCircuit {
            other: "witness",
            ..
        })
    ));
}

#[test]
fn keys_of_other_circuits_are_named() {
    let (_folder, path) = file();
    let constraints = R1cs::read(&path).unwrap();
    let (_files, zkey, _) = files();
    CircomProver::open(&zkey)
        .unwrap()
        .check_circuit(&constraints)
        .unwrap();
    let other = CircuitKey::generate(Circuit::Chain(LINKS + 1), &Seed::development()).unwrap();
    std::fs::write(&zkey, zkey_bytes(&other)).unwrap();
    let refused = CircomProver::open(&zkey)
        .unwrap()
        .check_circuit(&constraints);
    let refused = refused.unwrap_err().to_string();
    assert!(refused.contains("constraints"), "{refused}");
    // As many of everything, one coefficient differs.
    let mut changed = constraints.clone();
    changed.matrices.coefficients[0] += Fr::one();
    std::fs::write(&zkey, zkey_bytes(&*KEY)).unwrap();
    let refused = CircomProver::open(&zkey).unwrap().check_circuit(&changed);
    let refused = refused.unwrap_err().to_string();
    assert!(refused.contains("rows of A"), "{refused}");
}

/// The refusal of a file after a change.
fn refusal(change: impl Fn(&mut Vec<u8>)) -> String {
    let (_folder, path) = file();
    let mut bytes = std::fs::read(&path).unwrap();
    change(&mut bytes);
    std::fs::write(&path, bytes).unwrap();
    R1cs::read(&path).expect_err("refused").to_string()
}

#[test]
fn refusals_name_the_section_and_what_is_wrong() {
    let set = |bytes: &mut Vec<u8>, section: u32, place: usize| {
        let at = start(bytes, section) + place;
        bytes[at..at + 4].fill(0xff);
    };
    for (wanted, text) in [
        ("another field", refusal(|bytes| set(bytes, 1, 4))),
        ("public values", refusal(|bytes| set(bytes, 1, 36 + 8))),
        ("private inputs", refusal(|bytes| set(bytes, 1, 36 + 12))),
        ("constraints", refusal(|bytes| set(bytes, 1, 36 + 24))),
        ("terms", refusal(|bytes| set(bytes, 2, 0))),
        ("value 4294967295 of", refusal(|bytes| set(bytes, 2, 4))),
        (
            "below the modulus",
            refusal(|bytes| set(bytes, 2, 4 + 4 + 28)),
        ),
        ("should have", refusal(|bytes| set(bytes, 1, 36))),
    ] {
        let told = match wanted {
            "another field" => text.contains("the field is not BN254's"),
            "public values" => text.contains("public"),
            wanted => text.contains(wanted),
        };
        assert!(told && text.contains("section"), "{wanted}: {text}");
    }
    let fewer = refusal(|bytes| {
        let at = start(bytes, 1) + 36 + 24;
        bytes[at] -= 1;
    });
    assert!(fewer.contains("too many"), "{fewer}");
    let (_files, zkey, _) = files();
    assert!(matches!(
        R1cs::read(&zkey),
        Err(CircomError::OtherFile { kind: "r1cs", .. })
    ));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]

    #[test]
    fn damage_never_panics(place: prop::sample::Index, value: u8, length: prop::sample::Index) {
        let (_folder, path) = file();
        let mut bytes = std::fs::read(&path).unwrap();
        let at = place.index(bytes.len());
        bytes[at] = value;
        std::fs::write(&path, &bytes).unwrap();
        if let Ok(read) = R1cs::read(&path) {
            // What is read can be used.
            let _ = read.check_witness(&statement(3).assign().unwrap()).err();
        }
        bytes.truncate(length.index(bytes.len()));
        std::fs::write(&path, &bytes).unwrap();
        prop_assert!(R1cs::read(&path).is_err());
    }

    #[test]
    fn arbitrary_sections_never_panic(
        header in prop::collection::vec(any::<u8>(), 0..40),
        constraints in prop::collection::vec(any::<u8>(), 0..200),
        counts: [u8; 4],
    ) {
        let mut first = vec![];
        put_field::<Fr>(&mut first);
        for count in counts {
            first.extend(u32::from(count % 8).to_le_bytes());
        }
        first.extend(header);
        let labels = vec![0; 8 * usize::from(counts[0] % 8)];
        let bytes = binary_file(b"r1cs", 1, &[(1, first), (2, constraints), (3, labels)]);
        let (_folder, path) = file();
        std::fs::write(&path, bytes).unwrap();
        let _ = R1cs::read(&path).err();
    }
}

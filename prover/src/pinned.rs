//! What the circuits are today, against the files that say so: a change of a circuit shows in a diff, never by surprise.
//!
//! circuit → constraint counts, identity; development seed → key id, generated Solidity → `circuits/pinned/`,
//! `l1/contracts/test/vectors/`
//!
//! After a wanted change write the files anew with `MILLRACE_WRITE_SNAPSHOTS=1 cargo nextest run --workspace -E "test(pinned)"`.

use crate::circuit::{Circuit, Statement};
use crate::groth16::{Backend, Reference, Verifier};
use crate::key::CircuitKey;
use crate::setup::Seed;
use crate::solidity::{Origin, key_library, verifier};
use millrace_circuits::batch::Shape;
use millrace_circuits::field::to_bytes;
use serde::Serialize;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// One file of `circuits/pinned/`.
#[derive(Serialize)]
struct Pin {
    circuit: String,
    transaction_rows: usize,
    l1_rows: usize,
    fee_leaves: usize,
    constraints: usize,
    variables: usize,
    domain: usize,
    nonzeros: [usize; 3],
    identity: String,
    /// Id of the key made from the public development seed; absent where that takes too long for a test.
    #[serde(skip_serializing_if = "Option::is_none")]
    development_key: Option<String>,
}

fn repository(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..").join(path)
}

fn writing() -> bool {
    std::env::var_os("MILLRACE_WRITE_SNAPSHOTS").is_some()
}

fn compare(path: &str, content: &str) {
    let path = repository(path);
    if writing() {
        std::fs::write(&path, content).unwrap();
    }
    let pinned = std::fs::read_to_string(&path).unwrap();
    assert!(
        pinned == content,
        "{} is not what the code makes; if the change is wanted, write it anew (see the module's head):\n{content}",
        path.display()
    );
}

fn pin(shape: Shape, key: Option<&CircuitKey>) {
    let circuit = Circuit::Batch(shape);
    let matrices = circuit.matrices().unwrap();
    let pin = Pin {
        circuit: circuit.to_string(),
        transaction_rows: shape.transaction_rows,
        l1_rows: shape.l1_rows,
        fee_leaves: shape.fee_leaves,
        constraints: matrices.constraints(),
        variables: matrices.variables(),
        domain: matrices.domain(),
        nonzeros: [0, 1, 2].map(|i| matrices.matrices[i].nonzeros()),
        identity: matrices.identity().to_string(),
        development_key: key.map(|key| key.id.to_string()),
    };
    let json = serde_json::to_string_pretty(&pin).unwrap() + "\n";
    compare(&format!("circuits/pinned/{circuit}.json"), &json);
}

fn development_key(shape: Shape) -> CircuitKey {
    CircuitKey::generate(Circuit::Batch(shape), &Seed::development()).unwrap()
}

fn origin<'a>(key: &CircuitKey, circuit: &'a str) -> Origin<'a> {
    Origin {
        circuit,
        identity: key.identity,
        id: key.id,
    }
}

#[test]
fn circuits_keys_and_generated_solidity_are_as_pinned() {
    let (tiny, small) = (development_key(Shape::TINY), development_key(Shape::SMALL));
    pin(Shape::TINY, Some(&tiny));
    pin(Shape::SMALL, Some(&small));

    let keys = [
        ("batch1", origin(&tiny, "batch-1"), tiny.verifying_key()),
        ("batch2", origin(&small, "batch-2"), small.verifying_key()),
    ];
    let interface = "../../src/interfaces/IRollup.sol";
    compare(
        "l1/contracts/test/vectors/DevelopmentKeys.sol",
        &key_library("DevelopmentKeys", interface, &keys),
    );
    compare(
        "l1/contracts/test/vectors/Batch1Verifier.sol",
        &verifier(
            "Batch1Verifier",
            &origin(&tiny, "batch-1"),
            tiny.verifying_key(),
        ),
    );
    a_pinned_proof_verifies(tiny);
}

/// The proof that the contract's tests verify: blinded, so another one each time it is made, and pinned for that.
fn a_pinned_proof_verifies(key: CircuitKey) {
    let path = "l1/contracts/test/vectors/Batch1Proof.json";
    let key = Arc::new(key);
    if writing() {
        let statement = crate::bench::sample_statement(key.circuit).unwrap();
        let proof = Reference
            .prepare(key.clone())
            .prove(&statement.assign().unwrap())
            .unwrap();
        let words = |words: &[[u8; 32]]| {
            let text = words.iter().map(|word| format!("0x{}", hex::encode(word)));
            text.collect::<Vec<_>>()
        };
        let inputs: Vec<_> = statement.public_inputs().iter().map(to_bytes).collect();
        let json = serde_json::json!({
            "inputs": words(&inputs),
            "key": key.id.to_string(),
            "proof": words(&proof.words()),
        });
        let text = serde_json::to_string_pretty(&json).unwrap() + "\n";
        std::fs::write(repository(path), text).unwrap();
    }
    let text = std::fs::read_to_string(repository(path)).unwrap();
    let json: serde_json::Value = serde_json::from_str(&text).unwrap();
    assert_eq!(json["key"], key.id.to_string());
    let words = |field: &str| -> Vec<[u8; 32]> {
        serde_json::from_value::<Vec<String>>(json[field].clone())
            .unwrap()
            .iter()
            .map(|word| hex::decode(&word[2..]).unwrap().try_into().unwrap())
            .collect()
    };
    let proof = crate::proof::Proof::from_words(&words("proof").try_into().unwrap()).unwrap();
    let inputs: Vec<_> = words("inputs")
        .iter()
        .map(|word| millrace_circuits::field::from_bytes(word).unwrap())
        .collect();
    let statement = crate::bench::sample_statement(key.circuit).unwrap();
    assert!(matches!(statement, Statement::Batch { .. }));
    assert!(Verifier::new(key.verifying_key()).accepts(&proof, &inputs));
}

#[test]
fn the_large_circuit_is_as_pinned() {
    pin(Shape::LARGE, None);
}

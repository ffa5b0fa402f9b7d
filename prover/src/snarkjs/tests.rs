//! What we write reads back, and the real snarkjs accepts it.

use super::*;
use crate::bench::sample_statement;
use crate::chain::Chain;
use crate::circuit::{Circuit, Statement};
use crate::groth16::Reference;
use crate::key::CircuitKey;
use crate::prove::Prover;
use crate::setup::Seed;
use millrace_circuits::batch::Shape;
use std::path::Path;
use std::process::{Command, Output};

struct Export {
    key: String,
    public: String,
    proof: String,
}

fn export(statement: &Statement) -> Export {
    let prover = Prover::new(Reference, |c| {
        Ok(CircuitKey::generate(c, &Seed::development())?)
    });
    let proven = prover.prove(statement).unwrap();
    let key = prover.verifying_key(statement.circuit()).unwrap();
    let read = read_verifying_key(&verifying_key_json(&key)).unwrap();
    assert_eq!(read, key);
    assert_eq!(
        read_proof(&proof_json(&proven.proof)).unwrap(),
        proven.proof
    );
    let inputs = statement.public_inputs();
    assert_eq!(read_public(&public_json(&inputs)).unwrap(), inputs);
    Export {
        key: verifying_key_json(&key),
        public: public_json(&inputs),
        proof: proof_json(&proven.proof),
    }
}

/// Runs the snarkjs that `npm ci` installed at the root of the clone.
fn snarkjs_verify(export: &Export) -> Output {
    let script =
        Path::new(env!("CARGO_MANIFEST_DIR")).join("../node_modules/snarkjs/build/cli.cjs");
    assert!(
        script.exists(),
        "snarkjs is not installed: run `npm ci` at the root of the clone"
    );
    let directory = tempfile::tempdir().unwrap();
    let files = [
        ("vkey", &export.key),
        ("public", &export.public),
        ("proof", &export.proof),
    ];
    let mut command = Command::new("node");
    command.arg(script).args(["groth16", "verify"]);
    for (name, text) in files {
        let path = directory.path().join(format!("{name}.json"));
        std::fs::write(&path, text).unwrap();
        command.arg(path);
    }
    command.output().unwrap()
}

#[test]
fn snarkjs_accepts_our_batch_proof_and_refuses_a_changed_input() {
    let mut export = export(&sample_statement(Circuit::Batch(Shape::TINY)).unwrap());
    let accepted = snarkjs_verify(&export);
    assert!(accepted.status.success(), "{accepted:?}");
    assert!(
        String::from_utf8_lossy(&accepted.stdout).contains("OK!"),
        "{accepted:?}"
    );
    let mut inputs = read_public(&export.public).unwrap();
    inputs[2] += Fr::from(1u64);
    export.public = public_json(&inputs);
    let refused = snarkjs_verify(&export);
    assert!(!refused.status.success(), "{refused:?}");
}

#[test]
fn other_systems_and_numbers_are_refused() {
    let export = export(&Statement::Chain(Chain::new(2, 3)));
    let refuse = |from: &str, to: &str| {
        assert!(export.proof.contains(from));
        read_proof(&export.proof.replacen(from, to, 1)).unwrap_err()
    };
    assert!(matches!(
        refuse("groth16", "plonk"),
        SnarkjsError::OtherSystem { .. }
    ));
    assert!(matches!(
        refuse("bn128", "bls12381"),
        SnarkjsError::OtherSystem { .. }
    ));
    assert!(matches!(
        refuse("\"pi_a\": [\n    \"", "\"pi_a\": [\n    \"x"),
        SnarkjsError::NotACoordinate(_)
    ));
    assert!(matches!(
        refuse("\"pi_a\": [\n    \"", "\"pi_a\": [\n    \"-"),
        SnarkjsError::NotACoordinate(_)
    ));
    assert!(matches!(refuse("pi_c", "pi_d"), SnarkjsError::Json(_)));
    let shorter = export.key.replacen("\"nPublic\": 3", "\"nPublic\": 2", 1);
    let error = read_verifying_key(&shorter).unwrap_err();
    assert!(
        matches!(
            error,
            SnarkjsError::WrongInputCount {
                inputs: 2,
                points: 4
            }
        ),
        "{error}"
    );
    let modulus = "21888242871839275222246405745257275088548364400416034343698204186575808495617";
    assert!(matches!(
        read_public(&format!("[\"{modulus}\"]")),
        Err(SnarkjsError::Input(_))
    ));
    let base = "21888242871839275222246405745257275088696311157297823662689037894645226208583";
    assert!(matches!(
        read_fq(base),
        Err(SnarkjsError::NotACoordinate(_))
    ));
    assert!(read_fq("0").unwrap().is_zero());
}

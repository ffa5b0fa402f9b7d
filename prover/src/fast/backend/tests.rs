//! Proofs of both paths verify with arkworks' verifier, for circuits with and without infinite points.

use super::*;
use crate::bench::sample_statement;
use crate::chain::Chain;
use crate::circuit::{Circuit, Statement};
use crate::groth16::Verifier;
use crate::key::CircuitKey;
use crate::prove::{ProveError, Prover};
use crate::setup::Seed;
use millrace_circuits::batch::Shape;

fn backends() -> [Fast; 2] {
    [Fast::detect(), Fast::portable()]
}

fn check(circuit: Circuit, statements: &[Statement]) {
    let key = Arc::new(CircuitKey::generate(circuit, &Seed::development()).unwrap());
    let verifier = Verifier::new(key.verifying_key());
    for backend in backends() {
        let prepared = backend.prepare(key.clone());
        for statement in statements {
            let assignment = statement.assign().unwrap();
            let (proof, split) = prepared.prove_split(&assignment).unwrap();
            let name = backend.name();
            assert!(
                verifier.accepts(&proof, &statement.public_inputs()),
                "{name}, {circuit}"
            );
            assert!(split.ntt_s > 0.0 && split.msm_g1_s > 0.0 && split.msm_g2_s > 0.0);
            let again = prepared.prove(&assignment).unwrap();
            assert_ne!(proof, again, "a proof is blinded afresh");
        }
    }
}

#[test]
fn chains_of_any_length_are_proved() {
    for links in [0, 1, 2, 3, 12, 13, 14, 60, 61, 62, 500] {
        let statements = [0, 1, 5].map(|start| Statement::Chain(Chain::new(links, start)));
        check(Circuit::Chain(links), &statements);
    }
}

#[test]
fn a_batch_is_proved() {
    let circuit = Circuit::Batch(Shape::TINY);
    check(circuit, &[sample_statement(circuit).unwrap()]);
}

#[test]
fn false_statements_and_other_circuits_are_refused() {
    for backend in backends() {
        let key = Arc::new(CircuitKey::generate(Circuit::Chain(5), &Seed::development()).unwrap());
        let other = Statement::Chain(Chain::new(6, 1)).assign().unwrap();
        let refused = backend.prepare(key).prove(&other);
        assert!(matches!(refused, Err(BackendError::WrongAssignment { .. })));

        let prover = Prover::new(backend, |circuit| {
            Ok(CircuitKey::generate(circuit, &Seed::development())?)
        });
        let circuit = Circuit::Batch(Shape::TINY);
        let Statement::Batch {
            mut witness,
            public,
        } = sample_statement(circuit).unwrap()
        else {
            panic!("a batch")
        };
        let account = witness.rows[0].from.account.as_mut().unwrap();
        account.balance.0 += 1;
        let refused = prover.prove(&Statement::Batch { witness, public });
        assert!(
            matches!(refused, Err(ProveError::Unsatisfied { .. })),
            "{refused:?}"
        );
    }
}

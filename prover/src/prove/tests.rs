//! Nothing but verified proofs of true statements leaves, and failures say what was wrong.

use super::*;
use crate::bench::sample_statement;
use crate::chain::Chain;
use crate::groth16::{KeyParts, Reference};
use crate::setup::Seed;
use ark_bn254::Fr;
use ark_ec::AffineRepr;
use millrace_circuits::batch::Shape;
use millrace_circuits::field::Word;
use millrace_circuits::types::Amount;
use std::sync::atomic::{AtomicUsize, Ordering};

fn prover(backend: impl Backend + 'static) -> Prover {
    Prover::new(backend, |circuit| {
        Ok(CircuitKey::generate(circuit, &Seed::development())?)
    })
}

#[test]
fn a_batch_is_proved_and_a_false_one_names_its_constraint() {
    let prover = prover(Reference);
    let circuit = Circuit::Batch(Shape::TINY);
    let statement = sample_statement(circuit).unwrap();
    let proven = prover.prove(&statement).unwrap();
    let verifier = Verifier::new(&prover.verifying_key(circuit).unwrap());
    assert!(verifier.accepts(&proven.proof, &statement.public_inputs()));
    assert!(proven.timings.prove_s > 0.0);

    let Statement::Batch { witness, public } = &statement else {
        panic!("a batch")
    };
    let mut richer = witness.clone();
    let account = richer.rows[0].from.account.as_mut().unwrap();
    account.balance = Amount(account.balance.0 + 1);
    let error = prover
        .prove(&Statement::Batch {
            witness: richer,
            public: *public,
        })
        .unwrap_err();
    assert!(matches!(error, ProveError::Unsatisfied { .. }), "{error}");

    let mut other = *public;
    other.evaluation = Word(other.evaluation.0 + Fr::from(1u64));
    let error = prover.prove(&Statement::Batch {
        witness: witness.clone(),
        public: other,
    });
    assert!(
        matches!(error, Err(ProveError::Unsatisfied { .. })),
        "{error:?}"
    );
}

#[test]
fn circuits_refuse_each_other_s_proofs() {
    let prover = prover(Reference);
    let statements = [Chain::new(5, 3), Chain::new(6, 3)].map(Statement::Chain);
    let proofs = statements.each_ref().map(|s| prover.prove(s).unwrap());
    for (i, statement) in statements.iter().enumerate() {
        let verifier = Verifier::new(&prover.verifying_key(statement.circuit()).unwrap());
        for (j, proven) in proofs.iter().enumerate() {
            assert_eq!(
                verifier.accepts(&proven.proof, &statement.public_inputs()),
                i == j
            );
        }
    }
    assert_ne!(proofs[0].key, proofs[1].key);
}

#[test]
fn a_key_is_fetched_once() {
    let fetched = Arc::new(AtomicUsize::new(0));
    let counter = fetched.clone();
    let prover = Prover::new(Reference, move |circuit| {
        counter.fetch_add(1, Ordering::Relaxed);
        Ok(CircuitKey::generate(circuit, &Seed::development())?)
    });
    let circuit = Circuit::Chain(4);
    let id = prover.prepare(circuit).unwrap();
    assert_eq!(
        prover
            .prove(&Statement::Chain(Chain::new(4, 1)))
            .unwrap()
            .key,
        id
    );
    assert_eq!(fetched.load(Ordering::Relaxed), 1);
}

#[test]
fn a_missing_key_is_an_error() {
    let prover = Prover::new(Reference, |_| Err::<CircuitKey, _>(KeyStoreError::NoHome));
    let error = prover
        .prove(&Statement::Chain(Chain::new(4, 1)))
        .unwrap_err();
    assert!(
        matches!(
            error,
            ProveError::Key {
                circuit: Circuit::Chain(4),
                ..
            }
        ),
        "{error}"
    );
}

/// A backend whose proofs are wrong, as broken hardware's would be.
struct Broken;
struct BrokenKey;

impl Backend for Broken {
    fn name(&self) -> &'static str {
        "broken"
    }
    fn prepare_parts(&self, _key: Arc<dyn KeyParts>) -> Box<dyn PreparedKey> {
        Box::new(BrokenKey)
    }
}

impl PreparedKey for BrokenKey {
    fn prove(&self, _assignment: &Assignment) -> Result<Proof, BackendError> {
        let (a, b) = (
            ark_bn254::G1Affine::generator(),
            ark_bn254::G2Affine::generator(),
        );
        Ok(Proof { a, b, c: a })
    }
}

#[test]
fn a_wrong_proof_never_leaves() {
    let error = prover(Broken)
        .prove(&Statement::Chain(Chain::new(4, 1)))
        .unwrap_err();
    assert!(
        matches!(
            error,
            ProveError::WrongProof {
                backend: "broken",
                circuit: Circuit::Chain(4)
            }
        ),
        "{error}"
    );
}

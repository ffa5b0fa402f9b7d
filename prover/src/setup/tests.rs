//! Keys are reproducible from a seed, and differ where anything differs.

use super::*;
use crate::circuit::Circuit;
use crate::key::{CircuitKey, KeyId};

fn id(circuit: Circuit, seed: &Seed) -> KeyId {
    CircuitKey::generate(circuit, seed).unwrap().id
}

#[test]
fn development_keys_are_reproducible_and_pinned() {
    let circuit = Circuit::Chain(3);
    let key = id(circuit, &Seed::development());
    assert_eq!(key, id(circuit, &Seed::development()));
    assert_eq!(
        key.to_string(),
        "INSECURE-DEV-e5d2e4f626ab67b2e8fd20473ec9241429499672f936b9a133094f6c95e8cd8a"
    );
}

#[test]
fn another_seed_or_circuit_makes_another_key() {
    let circuit = Circuit::Chain(3);
    let key = id(circuit, &Seed::development());
    assert_ne!(key, id(circuit, &Seed::from_text("another")));
    assert_ne!(key, id(Circuit::Chain(4), &Seed::development()));
    assert_ne!(id(circuit, &Seed::from_os()), id(circuit, &Seed::from_os()));
}

#[test]
fn secrets_depend_on_the_circuit() {
    let [one, other] = [3, 4].map(|links| Circuit::Chain(links).matrices().unwrap().identity());
    let [a, b] = [one, other].map(|identity| Secrets::derive(&Seed::development(), &identity, 8));
    assert_ne!(a.tau, b.tau);
    assert_ne!(a.alpha, a.beta);
    assert_ne!(a.gamma, a.delta);
}

#[test]
fn a_secret_that_does_not_fit_is_drawn_again() {
    let identity = Circuit::Chain(3).matrices().unwrap().identity();
    let first = secret(&Seed::development(), &identity, b"tau", |_| true);
    let second = secret(&Seed::development(), &identity, b"tau", |value| {
        *value != first
    });
    assert_ne!(first, second);
}

#[test]
fn the_odd_coset_s_lagrange_polynomials_agree_with_the_domain_s() {
    let identity = Circuit::Chain(3).matrices().unwrap().identity();
    let secrets = Secrets::derive(&Seed::development(), &identity, 16);
    let double = Radix2EvaluationDomain::<Fr>::new(32).unwrap();
    let all = double.evaluate_all_lagrange_coefficients(secrets.tau);
    let expected: Vec<Fr> = all
        .iter()
        .skip(1)
        .step_by(2)
        .map(|value| *value / secrets.delta)
        .collect();
    assert_eq!(odd_lagrange(&double, &secrets), expected);
}

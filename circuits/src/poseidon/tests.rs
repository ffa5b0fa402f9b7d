//! Poseidon against circomlib's values and against an independent implementation.

use ark_bn254::Fr;
use ark_ff::UniformRand;
use ark_r1cs_std::GR1CSVar;
use light_poseidon::{Poseidon, PoseidonHasher};
use proptest::prelude::*;

use super::wide::{MAX_PRODUCTS, dot};
use super::{gadget, native};
use crate::testing::{Operand, Statement, arb_field, vectors};

fn parse(text: &str) -> Fr {
    text.parse().expect("vectors hold decimal field elements")
}

fn counting<const N: usize>() -> [Fr; N] {
    std::array::from_fn(|i| Fr::from(i as u64 + 1))
}

macro_rules! for_all_widths {
    ($check:ident) => {{
        $check::<1>();
        $check::<2>();
        $check::<3>();
        $check::<4>();
        $check::<5>();
        $check::<6>();
        $check::<7>();
        $check::<8>();
        $check::<9>();
        $check::<10>();
        $check::<11>();
        $check::<12>();
        $check::<13>();
        $check::<14>();
        $check::<15>();
        $check::<16>();
    }};
}

fn matches_poseidon_lite<const N: usize>() {
    let cases = &vectors(include_str!("../vectors/poseidon.json"))[N.to_string()];
    for case in cases.as_array().expect("cases are a list") {
        let inputs: Vec<Fr> = case["inputs"]
            .as_array()
            .expect("inputs are a list")
            .iter()
            .map(|x| parse(x.as_str().expect("numbers are text")))
            .collect();
        let inputs: [Fr; N] = inputs.try_into().expect("the key is the number of inputs");
        assert_eq!(
            native::hash(inputs),
            parse(case["hash"].as_str().expect("numbers are text")),
            "{N} inputs"
        );
    }
}

#[test]
fn all_widths_match_poseidon_lite() {
    for_all_widths!(matches_poseidon_lite);
}

fn matches_light_poseidon<const N: usize>() {
    let mut random = ark_std::test_rng();
    let mut reference = Poseidon::<Fr>::new_circom(N).expect("the width is supported");
    for _ in 0..8 {
        let inputs: [Fr; N] = std::array::from_fn(|_| Fr::rand(&mut random));
        assert_eq!(
            native::hash(inputs),
            reference.hash(&inputs).expect("the width matches")
        );
    }
}

#[test]
fn random_inputs_match_light_poseidon() {
    matches_light_poseidon::<1>();
    matches_light_poseidon::<2>();
    matches_light_poseidon::<3>();
    matches_light_poseidon::<4>();
    matches_light_poseidon::<5>();
    matches_light_poseidon::<6>();
    matches_light_poseidon::<8>();
    matches_light_poseidon::<12>();
}

#[test]
fn inputs_are_not_padded() {
    assert_ne!(
        native::hash(counting::<2>()),
        native::hash([Fr::from(1u64), Fr::from(2u64), Fr::from(0u64)])
    );
}

/// A hash of witnesses `1, 2, …`, the columns of the inputs and of the output.
fn statement<const N: usize>(
    values: [Fr; N],
    kind: Operand,
) -> (Statement, Vec<usize>, Option<Fr>) {
    let (statement, (inputs, output)) = Statement::synthesize(|cs| {
        let mut inputs = Vec::new();
        for value in values {
            inputs.push(kind.wire(&cs, value)?);
        }
        let inputs: [_; N] = inputs.try_into().expect("one wire per value");
        let output = gadget::hash(&inputs)?;
        Ok((inputs, output))
    });
    let columns = match kind {
        Operand::Witness => inputs.iter().map(|wire| statement.column(wire)).collect(),
        _ => Vec::new(),
    };
    (statement, columns, output.value().ok())
}

fn agrees_with_native<const N: usize>() {
    let values = counting::<N>();
    for kind in Operand::ALL {
        let (statement, _, output) = statement(values, kind);
        assert!(statement.is_satisfied(), "{N} {kind:?}");
        assert_eq!(output, Some(native::hash(values)), "{N} {kind:?}");
    }
}

#[test]
fn gadget_agrees_with_native_at_all_widths() {
    for_all_widths!(agrees_with_native);
}

#[test]
fn sums_of_the_largest_products_are_reduced() {
    for count in 1..=MAX_PRODUCTS {
        let largest = vec![-Fr::from(1u64); count];
        // The largest limbs, which Montgomery form reaches too.
        let limbs = -Fr::from(1u64) / Fr::from(num_bigint::BigUint::from(1u8) << 256);
        assert_eq!(
            dot::<MAX_PRODUCTS>(&largest, &largest),
            Fr::from(count as u64)
        );
        if count <= 10 {
            assert_eq!(dot::<10>(&largest, &largest), Fr::from(count as u64));
            assert_eq!(
                dot::<10>(&vec![limbs; count], &vec![limbs; count]),
                limbs * limbs * Fr::from(count as u64)
            );
        }
        assert_eq!(
            dot::<MAX_PRODUCTS>(&vec![limbs; count], &vec![limbs; count]),
            limbs * limbs * Fr::from(count as u64)
        );
    }
}

proptest! {
    #[test]
    fn sums_of_products_are_the_fields(pairs in proptest::collection::vec((arb_field(), arb_field()), 1..=MAX_PRODUCTS)) {
        let (a, b): (Vec<Fr>, Vec<Fr>) = pairs.into_iter().unzip();
        prop_assert_eq!(dot::<MAX_PRODUCTS>(&a, &b), a.iter().zip(&b).map(|(a, b)| *a * b).sum::<Fr>());
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(16))]
    #[test]
    fn gadget_agrees_with_native(a in arb_field(), b in arb_field(), c in arb_field(), d in arb_field()) {
        let (statement, _, output) = statement([a, b, c, d], Operand::Witness);
        prop_assert!(statement.is_satisfied());
        prop_assert_eq!(output, Some(native::hash([a, b, c, d])));
    }
}

fn constraints<const N: usize>() -> usize {
    statement(counting::<N>(), Operand::Witness)
        .0
        .num_constraints()
}

#[test]
fn cost_is_what_circom_reaches() {
    let costs = [
        constraints::<1>(),
        constraints::<2>(),
        constraints::<3>(),
        constraints::<4>(),
        constraints::<5>(),
        constraints::<6>(),
        constraints::<8>(),
        constraints::<12>(),
        constraints::<16>(),
    ];
    assert_eq!(costs, [213, 240, 261, 297, 321, 354, 402, 504, 609]);
}

#[test]
fn constant_inputs_cost_nothing() {
    assert_eq!(
        statement(counting::<4>(), Operand::Constant)
            .0
            .num_constraints(),
        0
    );
}

#[test]
fn matrices_are_thin() {
    let [a, b, c] = statement(counting::<4>(), Operand::Witness)
        .0
        .nonzeros_per_constraint();
    assert!(a < 1.1 && b < 1.1 && c < 9.6, "{a} {b} {c}");
}

#[test]
fn every_wire_is_bound() {
    let (statement, _, _) = statement(counting::<4>(), Operand::Witness);
    assert_eq!(statement.loose_witnesses(), Vec::<usize>::new());
}

fn inputs_determine_everything<const N: usize>() {
    let (statement, inputs, _) = statement(counting::<N>(), Operand::Witness);
    assert_eq!(statement.undetermined(&inputs), Vec::<usize>::new(), "{N}");
    assert_eq!(statement.undetermined(&inputs[1..]).len(), 1, "{N}");
}

#[test]
fn inputs_determine_every_wire() {
    for_all_widths!(inputs_determine_everything);
}

#[test]
fn a_wrong_output_is_rejected_by_name() {
    let (mut statement, _, output) = statement(counting::<2>(), Operand::Witness);
    let column = statement.witnesses().last().expect("there are witnesses");
    assert_eq!(Some(statement.value(column)), output);
    statement.forge(column, Fr::from(1u64));
    assert_eq!(statement.rejected_by(), Some("poseidon"));
}

#[test]
fn every_deleted_constraint_is_missed() {
    let (mut statement, inputs, _) = statement(counting::<2>(), Operand::Witness);
    for row in 0..statement.num_constraints() {
        let deleted = statement.delete(row);
        assert_ne!(
            statement.undetermined(&inputs),
            Vec::<usize>::new(),
            "{row}"
        );
        statement.restore(deleted);
    }
}

//! Poseidon against circomlib's values and against an independent implementation.

use ark_bn254::Fr;
use ark_ff::UniformRand;
use light_poseidon::{Poseidon, PoseidonHasher};
use proptest::prelude::*;

use super::native;
use crate::testing::{arb_field, vectors};

fn parse(text: &str) -> Fr {
    text.parse().expect("vectors hold decimal field elements")
}

fn counting<const N: usize>() -> [Fr; N] {
    std::array::from_fn(|i| Fr::from(i as u64 + 1))
}

macro_rules! for_all_widths {
    ($check:ident) => {{
        $check::<1>(); $check::<2>(); $check::<3>(); $check::<4>(); $check::<5>(); $check::<6>(); $check::<7>();
        $check::<8>(); $check::<9>(); $check::<10>(); $check::<11>(); $check::<12>(); $check::<13>(); $check::<14>();
        $check::<15>(); $check::<16>();
    }};
}

fn matches_poseidon_lite<const N: usize>() {
    let cases = &vectors("poseidon.json")[N.to_string()];
    for case in cases.as_array().expect("cases are a list") {
        let inputs: Vec<Fr> = case["inputs"].as_array().expect("inputs are a list").iter()
            .map(|x| parse(x.as_str().expect("numbers are text"))).collect();
        let inputs: [Fr; N] = inputs.try_into().expect("the key is the number of inputs");
        assert_eq!(native::hash(inputs), parse(case["hash"].as_str().expect("numbers are text")), "{N} inputs");
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
        assert_eq!(native::hash(inputs), reference.hash(&inputs).expect("the width matches"));
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
    assert_ne!(native::hash(counting::<2>()), native::hash([Fr::from(1u64), Fr::from(2u64), Fr::from(0u64)]));
}

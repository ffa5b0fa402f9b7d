//! Bits: agreement with the integers, every rejection by name, and the aliases modulo r.

use ark_bn254::Fr;
use ark_ff::{AdditiveGroup, BigInteger, Field, PrimeField};
use ark_r1cs_std::GR1CSVar;
use ark_r1cs_std::boolean::Boolean;
use ark_r1cs_std::fields::fp::FpVar;
use ark_relations::gr1cs::SynthesisError;
use proptest::prelude::*;

use super::*;
use crate::testing::{Operand, Statement, arb_field, rejected_by};

fn values(bits: &[Boolean<Fr>]) -> Vec<bool> {
    bits.iter()
        .map(|bit| bit.value().expect("values are assigned"))
        .collect()
}

/// A witness `value` and its bits, strict or of some width.
fn decomposed(value: Fr, width: Option<usize>) -> (Statement, FpVar<Fr>, Vec<Boolean<Fr>>) {
    let (statement, (x, bits)) = Statement::synthesize(|cs| {
        let x = Operand::Witness.wire(&cs, value)?;
        let bits = match width {
            Some(width) => to_bits(&x, width)?,
            None => to_bits_strict(&x)?,
        };
        Ok((x, bits))
    });
    (statement, x, bits)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(32))]
    #[test]
    fn strict_bits_are_the_integer(x in arb_field()) {
        let (statement, _, bits) = decomposed(x, None);
        prop_assert!(statement.is_satisfied());
        prop_assert_eq!(values(&bits), x.into_bigint().to_bits_le()[..254].to_vec());
    }

    #[test]
    fn values_fit_exactly_their_width(x in any::<u128>(), width in 1usize..=253) {
        let (statement, _, _) = decomposed(Fr::from(x), Some(width));
        let fits = width >= 128 || x < 1u128 << width;
        prop_assert_eq!(statement.rejected_by(), if fits { None } else { Some("value fits its bits") });
    }

    #[test]
    fn comparison_is_that_of_integers(x in any::<u64>(), bound in any::<u64>(), close in any::<bool>()) {
        let bound = if close { x.wrapping_add(bound % 3) } else { bound };
        prop_assert_eq!(compare(x, bound).is_satisfied(), x < bound);
    }
}

fn compare(x: u64, bound: u64) -> Statement {
    let (statement, _) = Statement::synthesize(|cs| {
        let x = Operand::Witness.wire(&cs, Fr::from(x))?;
        let bound: Vec<bool> = (0..64).map(|i| (bound >> i) & 1 == 1).collect();
        enforce_less_than(&cs, &to_bits(&x, 64)?, &bound)
    });
    statement
}

#[test]
fn comparison_is_strict_at_the_edges() {
    for (x, bound) in [
        (0, 1),
        (u64::MAX - 1, u64::MAX),
        (1 << 20, (1 << 20) + 1),
        (0, u64::MAX),
        (5, 1 << 63),
    ] {
        assert!(compare(x, bound).is_satisfied(), "{x} < {bound}");
        assert!(!compare(bound, x).is_satisfied(), "{bound} ≥ {x}");
        assert!(!compare(bound, bound).is_satisfied(), "{bound} = {bound}");
    }
    assert!(!compare(0, 0).is_satisfied());
}

#[test]
fn constants_become_constant_bits() {
    let bits = to_bits(&FpVar::Constant(Fr::from(5u64)), 3).expect("5 fits 3 bits");
    assert_eq!(bits, [true, false, true].map(Boolean::Constant));
    let refusal = to_bits(&FpVar::Constant(Fr::from(8u64)), 3);
    assert_eq!(
        refusal.expect_err("8 does not fit").to_string(),
        SynthesisError::Unsatisfiable.to_string()
    );
}

#[test]
fn a_range_is_rejected_at_its_edge() {
    for kind in [Operand::Input, Operand::Witness, Operand::Combination] {
        let range =
            |value: u64| rejected_by(|cs| enforce_range(&kind.wire(&cs, Fr::from(value))?, 8));
        assert_eq!(range(255), None);
        assert_eq!(range(256), Some("value fits its bits"));
    }
}

#[test]
fn operands_of_every_kind_decompose() {
    for kind in Operand::ALL {
        let (statement, bits) =
            Statement::synthesize(|cs| to_bits(&kind.wire(&cs, Fr::from(77u64))?, 8));
        assert!(statement.is_satisfied(), "{kind:?}");
        assert_eq!(
            values(&bits),
            Fr::from(77u64).into_bigint().to_bits_le()[..8].to_vec()
        );
    }
}

/// Puts the bits of `integer` where the honest ones were and lets everything else follow.
fn forge_bits(value: Fr, integer: &num_bigint::BigUint) -> Statement {
    let (mut statement, x, bits) = decomposed(value, None);
    let mut kept = vec![statement.column(&x)];
    for (i, bit) in bits.iter().enumerate() {
        let column = statement.bit_column(bit);
        statement.forge(column, Fr::from(integer.bit(i as u64)));
        kept.push(column);
    }
    // All ways to point at a differing chunk.
    statement.repair(&kept);
    statement
}

#[test]
fn bits_of_x_plus_r_are_rejected() {
    let r = num_bigint::BigUint::from(Fr::MODULUS);
    for x in [0u64, 1, 12345] {
        let statement = forge_bits(Fr::from(x), &(num_bigint::BigUint::from(x) + &r));
        assert_eq!(
            statement.rejections().into_iter().collect::<Vec<_>>(),
            ["bits are below the field modulus"]
        );
    }
}

#[test]
fn wrong_bits_are_rejected() {
    let statement = forge_bits(Fr::from(6u64), &num_bigint::BigUint::from(7u64));
    assert!(statement.rejections().contains("value fits its bits"));
}

#[test]
fn a_bit_of_two_is_rejected() {
    let (mut statement, x, bits) = decomposed(Fr::from(2u64), Some(8));
    let [low, high] = [0, 1].map(|i| statement.bit_column(&bits[i]));
    statement.forge(low, Fr::from(2u64));
    statement.forge(high, Fr::ZERO);
    assert_eq!(statement.value(statement.column(&x)), Fr::from(2u64));
    assert_eq!(statement.rejected_by(), Some("value fits its bits"));
}

#[test]
fn a_second_selector_does_not_help() {
    // 2^60 ≥ 2^40: every chunk that the prover may point at, alone or with others, is refused.
    let statement = compare(1 << 60, 1 << 40);
    let width = chunk_width(64);
    let chunks = 64usize.div_ceil(width);
    let first = statement.witnesses().start + 1 + 64;
    for choice in 0u32..1 << chunks {
        let (mut forged, _) = (compare(1 << 60, 1 << 40), ());
        let mut kept: Vec<usize> = (statement.witnesses().start..first).collect();
        for i in 0..chunks {
            forged.forge(first + i, Fr::from((choice >> i) & 1));
            kept.push(first + i);
        }
        forged.repair(&kept);
        assert!(!forged.is_satisfied(), "{choice:b}");
    }
}

#[test]
fn zero_tests_bind_their_hint() {
    for (value, expected) in [(Fr::ZERO, true), (Fr::ONE, false), (-Fr::ONE, false)] {
        let (mut statement, (x, zero)) = Statement::synthesize(|cs| {
            let x = Operand::Witness.wire(&cs, value)?;
            let zero = is_zero(&x)?;
            Ok((x, zero))
        });
        assert!(statement.is_satisfied());
        assert_eq!(zero.value().expect("values are assigned"), expected);
        assert_eq!(statement.loose_witnesses(), Vec::<usize>::new());
        assert_eq!(
            statement.undetermined(&[statement.column(&x)]),
            Vec::<usize>::new()
        );
        let column = statement.bit_column(&zero);
        statement.forge(column, Fr::from(!expected));
        statement.repair(&[statement.column(&x), column]);
        assert_eq!(statement.rejected_by(), Some("zero test"));
    }
}

#[test]
fn equality_and_selection_follow_the_values() {
    for kind in Operand::ALL {
        for (a, b) in [(3u64, 3u64), (3, 4)] {
            let (statement, (equal, chosen)) = Statement::synthesize(|cs| {
                let (a, b) = (kind.wire(&cs, Fr::from(a))?, kind.wire(&cs, Fr::from(b))?);
                let equal = is_equal(&a, &b)?;
                let chosen = select(&equal, &FpVar::Constant(Fr::from(10u64)), &b)?;
                Ok((equal, chosen))
            });
            assert!(statement.is_satisfied());
            assert_eq!(equal.value().expect("values are assigned"), a == b);
            let expected = if a == b { 10 } else { b };
            assert_eq!(
                chosen.value().expect("values are assigned"),
                Fr::from(expected)
            );
        }
    }
}

#[test]
fn costs_are_pinned() {
    assert_eq!(decomposed(Fr::from(5u64), Some(16)).0.num_constraints(), 17);
    let (strict, x, _) = decomposed(Fr::from(5u64), None);
    assert_eq!(strict.num_constraints(), 254 + 1 + 58);
    assert_eq!(
        strict.undetermined(&[strict.column(&x)]),
        Vec::<usize>::new()
    );
}

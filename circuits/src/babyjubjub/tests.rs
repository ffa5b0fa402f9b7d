//! The curve: fast arithmetic against arkworks', packed points against circomlib, gadgets against both.

use ark_bn254::Fr;
use ark_ec::twisted_edwards::TECurveConfig;
use ark_ec::{AffineRepr, CurveGroup};
use ark_ff::{AdditiveGroup, Field, PrimeField};
use proptest::prelude::*;

use super::gadget::{MontgomeryVar, PointVar, montgomery_all};
use super::native::{EightTimes, base_minus_multiple_is, compress, decompress, multiply_base};
use super::{BabyJubjub, Point, PublicKey, Scalar};
use crate::linear::{Linear, witness};
use crate::testing::{Statement, arb_field, vectors};

const BASE8: Point = BabyJubjub::GENERATOR;

/// Any point on the curve: multiples of a generator of the whole group of order 8·l.
fn arb_point() -> impl Strategy<Value = Point> {
    (arb_scalar(), 0u64..8).prop_map(|(scalar, torsion)| {
        let generator = Point::new_unchecked(
            word("995203441582195749578291179787384436505546430278305826713579947235728471134"),
            word("5472060717959818805561601436314318772137091100104008585924551046643952123905"),
        );
        let torsion_generator = generator.mul_bigint(Scalar::MODULUS);
        (BASE8 * scalar + torsion_generator * Scalar::from(torsion)).into_affine()
    })
}

fn arb_scalar() -> impl Strategy<Value = Scalar> {
    prop_oneof![
        1 => Just(Scalar::ZERO),
        1 => Just(Scalar::ONE),
        1 => Just(-Scalar::ONE),
        1 => (0u64..300).prop_map(Scalar::from),
        4 => any::<[u8; 32]>().prop_map(|bytes| Scalar::from_le_bytes_mod_order(&bytes)),
    ]
}

fn word(text: &str) -> Fr {
    crate::field::from_text(text).expect("constants are canonical")
}

proptest! {
    #[test]
    fn base_multiples_match_arkworks(scalar in arb_scalar()) {
        prop_assert_eq!(multiply_base(&scalar), (BASE8 * scalar).into_affine());
    }

    #[test]
    fn combinations_match_arkworks(s in arb_scalar(), h in arb_scalar(), a in arb_point(), other in arb_point()) {
        let eight = a.mul_by_cofactor_to_group();
        match EightTimes::of(&a) {
            None => prop_assert!(eight.into_affine().is_zero()),
            Some(a8) => {
                let expected = (BASE8 * s - eight * h).into_affine();
                prop_assert!(base_minus_multiple_is(&s, &h, &a8, &expected));
                prop_assert_eq!(base_minus_multiple_is(&s, &h, &a8, &other), other == expected);
            }
        }
    }

    #[test]
    fn compression_is_reversible(point in arb_point()) {
        prop_assert_eq!(decompress(&compress(&point)), Some(point));
    }

    #[test]
    fn decompression_has_one_encoding(bytes in any::<[u8; 32]>()) {
        if let Some(point) = decompress(&bytes) {
            prop_assert!(point.is_on_curve());
            prop_assert_eq!(compress(&point), bytes);
        }
    }
}

#[test]
fn packed_keys_match_zk_kit() {
    let list = vectors(include_str!("../vectors/eddsa.json"));
    for case in list.as_array().expect("cases are a list") {
        let number: num_bigint::BigUint = case["packed"]
            .as_str()
            .expect("numbers are text")
            .parse()
            .expect("packed keys are decimal");
        let mut bytes = number.to_bytes_le();
        bytes.resize(32, 0);
        let bytes: [u8; 32] = bytes.try_into().expect("packed keys have 32 bytes");
        let coordinate = |i: usize| word(case["public_key"][i].as_str().expect("numbers are text"));
        let key = Point::new_unchecked(coordinate(0), coordinate(1));
        assert_eq!(compress(&key), bytes);
        assert_eq!(decompress(&bytes), Some(key));
    }
}

#[test]
fn encodings_that_are_not_canonical_are_refused() {
    let mut y_is_r = crate::field::to_bytes(&-Fr::ONE);
    y_is_r.reverse();
    y_is_r[0] += 1;
    assert_eq!(decompress(&y_is_r), None);
    let mut signed_zero = compress(&Point::zero());
    signed_zero[31] |= 0x80;
    assert_eq!(decompress(&signed_zero), None);
    assert_eq!(decompress(&[0xff; 32]), None);
}

#[test]
fn coordinates_off_the_curve_are_no_point() {
    assert!(
        PublicKey {
            x: Fr::ZERO,
            y: Fr::ZERO
        }
        .point()
        .is_none()
    );
    assert!(
        PublicKey {
            x: Fr::ZERO,
            y: -Fr::ONE
        }
        .point()
        .is_some()
    );
    assert!(PublicKey::from(BASE8).is_in_subgroup());
    assert!(
        !PublicKey {
            x: Fr::ZERO,
            y: -Fr::ONE
        }
        .is_in_subgroup()
    );
    assert!(
        !PublicKey {
            x: Fr::ONE,
            y: Fr::ONE
        }
        .is_in_subgroup()
    );
}

fn allocate(
    cs: &ark_relations::gr1cs::ConstraintSystemRef<Fr>,
    point: &Point,
) -> Result<PointVar, ark_relations::gr1cs::SynthesisError> {
    Ok(PointVar {
        x: witness(cs, Some(point.x))?,
        y: witness(cs, Some(point.y))?,
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    #[test]
    fn complete_gadgets_match_native_on_the_whole_curve(p in arb_point(), q in arb_point()) {
        let (statement, (sum, twice)) = Statement::synthesize(|cs| {
            let (p, q) = (allocate(&cs, &p)?, allocate(&cs, &q)?);
            p.enforce_on_curve(&cs)?;
            q.enforce_on_curve(&cs)?;
            Ok((p.add(&q, &cs)?, p.double(&cs)?))
        });
        prop_assert!(statement.is_satisfied());
        prop_assert_eq!(statement.num_constraints(), 3 + 3 + 6 + 5);
        prop_assert_eq!(sum.value(), Some((p + q).into_affine()));
        prop_assert_eq!(twice.value(), Some((p + p).into_affine()));
        let first = statement.witnesses().start;
        prop_assert_eq!(statement.undetermined(&[first, first + 1, first + 2, first + 3]), Vec::<usize>::new());
    }

    #[test]
    fn points_off_the_curve_are_refused(x in arb_field(), y in arb_field()) {
        let point = Point::new_unchecked(x, y);
        let (statement, ()) = Statement::synthesize(|cs| allocate(&cs, &point)?.enforce_on_curve(&cs));
        prop_assert_eq!(statement.is_satisfied(), point.is_on_curve());
    }

    #[test]
    fn montgomery_forms_are_converted_back(scalar in arb_scalar()) {
        let point = (BASE8 * scalar).into_affine();
        let (statement, back) = Statement::synthesize(|cs| {
            MontgomeryVar::from_edwards(&allocate(&cs, &point)?, &cs)?.to_edwards(&cs)
        });
        prop_assert_eq!(statement.is_satisfied(), !point.is_zero());
        if !point.is_zero() {
            prop_assert_eq!(back.value(), Some(point));
            let (u, v) = montgomery_all(&[point.into_group()])[0];
            prop_assert_eq!(v.square(), u * (u.square() + word("168698") * u + Fr::ONE));
        }
    }
}

#[test]
fn equal_points_in_the_incomplete_law_leave_the_slope_free() {
    // Why the callers must prove that it cannot happen.
    let (u, v) = montgomery_all(&[BASE8.into_group()])[0];
    let (statement, _) = Statement::synthesize(|cs| {
        let point = MontgomeryVar {
            u: Linear::constant(u),
            v: Linear::constant(v),
        };
        let slope = Fr::from(5u64);
        let sum_u = slope.square() - word("168698") - u.double();
        point.add(&point, Some((slope, sum_u, slope * (u - sum_u) - v)), &cs)
    });
    assert!(statement.is_satisfied());
}

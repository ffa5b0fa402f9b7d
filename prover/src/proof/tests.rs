//! Proofs keep their words, and words that are no points are refused.

use super::*;
use crate::evm::coordinate;
use ark_bn254::{Fq, Fq2, G1Projective, G2Projective};
use ark_ec::{AffineRepr, CurveGroup, PrimeGroup};
use ark_ff::{Field, UniformRand};
use rand::{SeedableRng, rngs::StdRng};

fn proof() -> Proof {
    let mut rng = StdRng::seed_from_u64(3);
    Proof {
        a: G1Projective::rand(&mut rng).into_affine(),
        b: G2Projective::rand(&mut rng).into_affine(),
        c: G1Projective::rand(&mut rng).into_affine(),
    }
}

fn add_one(bytes: &mut EvmWord, modulus_times: u64) {
    use ark_ff::{BigInteger, PrimeField};
    let mut value = Fq::MODULUS;
    (1..modulus_times).for_each(|_| {
        value.add_with_carry(&Fq::MODULUS);
    });
    let mut sum = value.to_bytes_be();
    let mut carry = 0u16;
    for (byte, add) in sum.iter_mut().rev().zip(bytes.iter().rev()) {
        let total = u16::from(*byte) + u16::from(*add) + carry;
        *byte = total as u8;
        carry = total >> 8;
    }
    bytes.copy_from_slice(&sum);
}

#[test]
fn words_have_imaginary_parts_first() {
    let proof = proof();
    let words = proof.words();
    let (b_x, b_y) = proof.b.xy().unwrap();
    assert_eq!(words[0], coordinate(&proof.a.x));
    assert_eq!(
        words[2..6],
        [b_x.c1, b_x.c0, b_y.c1, b_y.c0].map(|c| coordinate(&c))
    );
    assert_eq!(words[7], coordinate(&proof.c.y));
    assert_eq!(Proof::from_words(&words), Ok(proof));
    let one = g1_words(&G1Projective::generator().into_affine());
    assert_eq!((one[0][31], one[1][31]), (1, 2));
}

#[test]
fn proofs_read_back_from_json_and_bytes() {
    let infinite = Proof {
        a: G1Affine::zero(),
        b: G2Affine::zero(),
        c: G1Affine::zero(),
    };
    for proof in [proof(), infinite] {
        let json = serde_json::to_string(&proof).unwrap();
        assert_eq!(serde_json::from_str::<Proof>(&json).unwrap(), proof);
        let bytes = postcard::to_allocvec(&proof).unwrap();
        assert_eq!(bytes.len(), 256);
        assert_eq!(postcard::from_bytes::<Proof>(&bytes).unwrap(), proof);
    }
    for json in ["[]", "[\"0x\"]", "{}", "\"\""] {
        assert!(serde_json::from_str::<Proof>(json).is_err());
    }
}

#[test]
fn points_outside_their_groups_are_refused() {
    let words = proof().words();
    for position in 0..8 {
        let mut changed = words;
        changed[position][31] ^= 1;
        let error = Proof::from_words(&changed).unwrap_err();
        assert!(
            matches!(error, PointError::NotOnCurve),
            "word {position}: {error}"
        );
        // Every name of a coordinate but the smallest.
        for times in 1..=4 {
            let mut aliased = words;
            add_one(&mut aliased[position], times);
            assert_eq!(
                Proof::from_words(&aliased),
                Err(PointError::NotCanonical),
                "word {position}"
            );
        }
    }
}

#[test]
fn a_point_of_the_twist_outside_the_subgroup_is_refused() {
    // The first point of the twist with x = (k, 0): its order is not r except with negligible chance.
    let b = Fq2::new(Fq::from(3u64), Fq::from(0u64)) / Fq2::new(Fq::from(9u64), Fq::from(1u64));
    let point = (1u64..)
        .find_map(|k| {
            let x = Fq2::new(Fq::from(k), Fq::from(0u64));
            (x.square() * x + b)
                .sqrt()
                .map(|y| G2Affine::new_unchecked(x, y))
        })
        .unwrap();
    assert!(point.is_on_curve() && !point.is_in_correct_subgroup_assuming_on_curve());
    let error = read_g2(&g2_words(&point));
    assert_eq!(error, Err(PointError::NotInSubgroup));
}

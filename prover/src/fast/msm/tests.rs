//! Every kernel agrees with arkworks on random and on hostile points and scalars.

use super::*;
use crate::fast::kernel::portable::Portable;
use ark_bn254::{Fr, G1Affine, G2Affine};
use ark_ec::{AffineRepr, CurveGroup, PrimeGroup, VariableBaseMSM};
use ark_ff::{BigInteger, One, PrimeField, UniformRand};
use proptest::prelude::*;
use rand::{Rng, SeedableRng, rngs::StdRng};

/// What every path computes.
fn check_with<K1, K2>(name: &str, g1: K1, g2: K2, case: &Case, bits: Option<usize>)
where
    K1: Kernel<Point = G1Point>,
    K2: Kernel<Point = G2Point>,
{
    let length = case.scalars.len();
    let windows = Windows::for_scalars(bits.map_or(length, |bits| 1 << bits));
    let digits = Digits::of(windows, case.scalars.iter().map(|s| s.into_bigint().0));
    let (points_1, points_2) = (Points::of(&case.points_1), Points::of(&case.points_2));
    let batch = Batch {
        digits: &digits,
        g1: vec![points_1.part(..), points_1.part(..length)],
        g2: vec![points_2.part(..)],
    };
    let sums = Multiplier::new(g1, g2).multiply(&[batch]).remove(0);
    let expected_1 = G1Projective::msm(&case.points_1[..length], &case.scalars).unwrap();
    let expected_2 = G2Projective::msm(&case.points_2[..length], &case.scalars).unwrap();
    assert_eq!(sums.g1, vec![expected_1; 2], "{name}, G1, {}", case.name);
    assert_eq!(sums.g2, vec![expected_2], "{name}, G2, {}", case.name);
}

struct Case {
    name: String,
    points_1: Vec<G1Affine>,
    points_2: Vec<G2Affine>,
    scalars: Vec<Fr>,
}

fn check(case: &Case, bits: Option<usize>) {
    let (g1, g2) = (Portable::<G1Point>::new(), Portable::<G2Point>::new());
    check_with("portable", g1, g2, case, bits);
    #[cfg(target_arch = "x86_64")]
    {
        use crate::fast::kernel::ifma::{Ifma, IfmaG1, IfmaG2};
        if let Some(token) = Ifma::detect() {
            check_with("ifma", IfmaG1(token), IfmaG2(token), case, bits);
        }
    }
}

/// Few points, so that equal, opposite and infinite ones meet.
fn pool(rng: &mut StdRng) -> (Vec<G1Affine>, Vec<G2Affine>) {
    let multiples: Vec<Fr> = (0..4).map(|_| Fr::rand(rng)).collect();
    let (one, two) = (G1Projective::generator(), G2Projective::generator());
    let mut g1: Vec<G1Affine> = multiples.iter().map(|m| (one * m).into()).collect();
    let mut g2: Vec<G2Affine> = multiples.iter().map(|m| (two * m).into()).collect();
    for i in 0..4 {
        g1.push(-g1[i]);
        g2.push(-g2[i]);
    }
    // Sums of members make equal points appear between rounds.
    g1.push((g1[0] + g1[1]).into_affine());
    g2.push((g2[0] + g2[1]).into_affine());
    g1.push(G1Affine::zero());
    g2.push(G2Affine::zero());
    (g1, g2)
}

fn hostile_scalars(rng: &mut StdRng) -> Vec<Fr> {
    let mut scalars: Vec<Fr> = [0u64, 1, 2, 3, 4095, 4096, 4097, u64::MAX]
        .map(Fr::from)
        .to_vec();
    scalars.extend([-Fr::one(), -Fr::from(2u64), Fr::from(2u64) / Fr::from(3u64)]);
    // The scalar field's elements nearest to the base field's edge.
    let edge = ark_bn254::Fq::MODULUS.to_bytes_le();
    scalars.push(Fr::from_le_bytes_mod_order(&edge) - Fr::one());
    scalars.extend((0..3).map(|_| Fr::rand(rng)));
    scalars
}

fn hostile(name: &str, seed: u64, length: usize) -> Case {
    let mut rng = StdRng::seed_from_u64(seed);
    let (pool_1, pool_2) = pool(&mut rng);
    let scalars = hostile_scalars(&mut rng);
    let picks: Vec<usize> = (0..length)
        .map(|_| rng.gen_range(0..pool_1.len()))
        .collect();
    Case {
        name: format!("{name}, seed {seed}, {length} points"),
        points_1: picks.iter().map(|i| pool_1[*i]).collect(),
        points_2: picks.iter().map(|i| pool_2[*i]).collect(),
        scalars: (0..length)
            .map(|_| scalars[rng.gen_range(0..scalars.len())])
            .collect(),
    }
}

fn random(seed: u64, length: usize) -> Case {
    let mut rng = StdRng::seed_from_u64(seed);
    Case {
        name: format!("random, {length} points"),
        points_1: (0..length).map(|_| G1Affine::rand(&mut rng)).collect(),
        points_2: (0..length).map(|_| G2Affine::rand(&mut rng)).collect(),
        scalars: (0..length).map(|_| Fr::rand(&mut rng)).collect(),
    }
}

#[test]
fn tiny_sizes_agree_with_arkworks() {
    for length in 0..=17 {
        check(&random(length as u64, length), None);
        check(&hostile("tiny", length as u64, length), None);
    }
}

#[test]
fn random_points_agree_with_arkworks() {
    check(&random(1, 1000), None);
    check(&random(2, 1000), Some(16));
}

#[test]
fn hostile_points_and_scalars_agree_with_arkworks() {
    for seed in 0..6 {
        check(&hostile("pool", seed, 700), None);
        check(&hostile("pool", seed, 300), Some(14));
    }
}

#[test]
fn lists_of_one_point_or_one_scalar_agree_with_arkworks() {
    let mut rng = StdRng::seed_from_u64(3);
    let (pool_1, pool_2) = pool(&mut rng);
    let length = 531;
    for scalar in hostile_scalars(&mut rng) {
        let mut case = random(4, 0);
        case.name = format!("scalar {scalar} everywhere");
        case.points_1 = vec![pool_1[0]; length];
        case.points_2 = vec![pool_2[0]; length];
        case.scalars = vec![scalar; length];
        check(&case, None);
        // Opposite neighbours cancel in the first round.
        for i in (1..length).step_by(2) {
            case.points_1[i] = pool_1[4];
            case.points_2[i] = pool_2[4];
        }
        check(&case, None);
        case.points_1 = vec![G1Affine::zero(); length];
        case.points_2 = vec![G2Affine::zero(); length];
        check(&case, None);
    }
}

#[test]
fn buckets_cut_between_blocks_are_joined() {
    // Few distinct digits and more entries than a block holds.
    let mut rng = StdRng::seed_from_u64(5);
    let length = (1 << 16) + 77;
    let (points_1, points_2) = pool(&mut rng);
    let case = Case {
        name: "long buckets".into(),
        points_1: (0..length).map(|i| points_1[i % 9]).collect(),
        points_2: (0..length).map(|i| points_2[i % 9]).collect(),
        scalars: (0..length).map(|i| Fr::from(1 + i as u64 % 2)).collect(),
    };
    check(&case, None);
}

#[test]
fn zero_coordinates_are_no_infinity() {
    // Bucket sums whose representation is p or 2p instead of 0 do not pass for infinity, and the other way round.
    let case = Case {
        name: "generator".into(),
        points_1: vec![
            G1Affine::generator(),
            -G1Affine::generator(),
            G1Affine::generator(),
        ],
        points_2: vec![
            G2Affine::generator(),
            -G2Affine::generator(),
            G2Affine::generator(),
        ],
        scalars: vec![Fr::one(); 3],
    };
    check(&case, None);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]
    #[test]
    fn any_mixture_agrees_with_arkworks(seed: u64, length in 0usize..200, bits in 0usize..14) {
        check(&hostile("mixture", seed, length), Some(bits));
    }
}

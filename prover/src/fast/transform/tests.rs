//! Transforms of both kernels agree with arkworks', forwards and backwards.

use super::*;
use crate::fast::kernel::portable::PortableScalars;
use ark_ff::{PrimeField, UniformRand, Zero};
use ark_poly::{EvaluationDomain, Radix2EvaluationDomain};
use rand::{SeedableRng, rngs::StdRng};

fn vectors<K: ScalarKernel>(kernel: K, values: &[Fr]) -> Vec<K::Vector> {
    values
        .chunks(K::LANES)
        .map(|chunk| kernel.load(chunk))
        .collect()
}

/// The lanes, as what was loaded.
fn integers<K: ScalarKernel>(kernel: K, vectors: &[K::Vector]) -> Vec<Fr> {
    let mut integers = vec![[0; 4]; vectors.len() * K::LANES];
    for (vector, integers) in vectors.iter().zip(integers.chunks_mut(K::LANES)) {
        kernel.integers(vector, integers);
    }
    integers
        .into_iter()
        .map(|words| Fr::from_bigint(ark_ff::BigInt(words)).unwrap())
        .collect()
}

fn reversed(values: &[Fr]) -> Vec<Fr> {
    let bits = values.len().trailing_zeros();
    (0..values.len())
        .map(|i| values[reverse(i, bits)])
        .collect()
}

fn check<K: ScalarKernel>(kernel: K, size: usize, values: &[Fr]) {
    let Some(transform) = Transform::new(kernel, size) else {
        assert!(size < K::LANES * K::LANES || !size.is_power_of_two());
        return;
    };
    let domain = Radix2EvaluationDomain::<Fr>::new(size).unwrap();
    let mut evaluations = vectors(kernel, values);
    transform.evaluate(&mut evaluations);
    assert_eq!(
        integers(kernel, &evaluations),
        reversed(&domain.fft(values)),
        "{size}"
    );

    let mut coefficients = vectors(kernel, &reversed(values));
    transform.interpolate(&mut coefficients);
    let shift = Fr::from(7u64);
    transform.shift(&mut coefficients, domain.size_inv, shift);
    let mut expected = domain.ifft(values);
    Radix2EvaluationDomain::distribute_powers(&mut expected, shift);
    assert_eq!(integers(kernel, &coefficients), expected, "{size}");
}

fn check_all(size: usize) {
    let mut rng = StdRng::seed_from_u64(size as u64);
    let edges = [Fr::zero(), -Fr::one(), Fr::one()];
    let random: Vec<Fr> = (0..size).map(|_| Fr::rand(&mut rng)).collect();
    let hostile: Vec<Fr> = (0..size).map(|i| edges[i * i % 3]).collect();
    for values in [
        random,
        hostile,
        vec![-Fr::one(); size],
        vec![Fr::zero(); size],
    ] {
        check(PortableScalars, size, &values);
        #[cfg(target_arch = "x86_64")]
        if let Some(token) = crate::fast::kernel::ifma::Ifma::detect() {
            check(crate::fast::kernel::ifma::IfmaScalars(token), size, &values);
        }
    }
}

#[test]
fn transforms_agree_with_arkworks() {
    for log in 0..=11 {
        check_all(1 << log);
    }
}

#[test]
fn transforms_beyond_one_leaf_agree_with_arkworks() {
    check_all(LEAF * 32);
}

#[test]
fn products_lack_the_deficit() {
    let (a, b) = (Fr::from(3u64), -Fr::from(5u64));
    let product = |got: Vec<Fr>, deficit: Fr| assert!(got.iter().all(|c| *c * deficit == a * b));
    let kernel = PortableScalars;
    let [va, vb] = [a, b].map(|value| kernel.load(&[value]));
    product(integers(kernel, &[kernel.mul(&va, &vb)]), kernel.deficit());
    #[cfg(target_arch = "x86_64")]
    if let Some(token) = crate::fast::kernel::ifma::Ifma::detect() {
        let kernel = crate::fast::kernel::ifma::IfmaScalars(token);
        let [va, vb] = [a, b].map(|value| kernel.load(&[value; 8]));
        product(integers(kernel, &[kernel.mul(&va, &vb)]), kernel.deficit());
    }
}

#[test]
fn sizes_without_a_root_are_refused() {
    assert!(Transform::new(PortableScalars, 3).is_none());
    assert!(Transform::new(PortableScalars, 0).is_none());
}

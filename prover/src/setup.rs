//! Groth16 key generation by one party: fast, reproducible from a seed, and therefore for development only.
//!
//! seed → five secrets (τ, α, β, γ, δ) → QAP polynomials at τ → scalars → fixed-base multiplication → [`ProvingKey`]
//!
//! Whoever knows the secrets can prove anything, so such a key is INSECURE-DEV wherever it shows. The quotient's query is
//! in the Lagrange basis of the odd coset, as circom's tools have it: it saves the prover one transform and lets a key
//! be exchanged with them.

use crate::groth16::{ProvingKey, VerifyingKey};
use crate::matrices::{CircuitIdentity, ConstraintMatrices};
use ark_bn254::{Fr, G1Projective, G2Projective};
use ark_ec::{CurveGroup, PrimeGroup};
use ark_ff::{Field, One, PrimeField, Zero};
use ark_poly::{EvaluationDomain, Radix2EvaluationDomain};
use rand::{RngCore, rngs::OsRng};
use rayon::prelude::*;
use sha2::{Digest, Sha512};
use thiserror::Error;
use zeroize::{Zeroize, ZeroizeOnDrop, Zeroizing};

mod fixed_base;

pub(crate) use fixed_base::FixedBase;

/// Domain separation of the secrets' derivation.
const SECRET_TAG: &[u8] = b"millrace INSECURE-DEV setup 1";

/// Where a single-party key's secrets come from. Has no `Debug`: it is the secret.
#[derive(Clone, Zeroize, ZeroizeOnDrop)]
pub struct Seed([u8; 32]);

impl Seed {
    /// The seed of reproducible development keys: anyone can compute their secrets, and everyone gets the same key ids.
    pub fn development() -> Self {
        Self::from_text("millrace development")
    }

    /// A reproducible seed from a text.
    pub fn from_text(text: &str) -> Self {
        use sha2::Sha256;
        Self(Sha256::digest(text.as_bytes()).into())
    }

    /// A seed from the operating system, which nobody knows after the setup unless this machine is watched.
    pub fn from_os() -> Self {
        let mut bytes = [0; 32];
        OsRng.fill_bytes(&mut bytes);
        Self(bytes)
    }

    /// What files are named by: a hash, which does not reveal the seed.
    pub(crate) fn tag(&self) -> String {
        use sha2::Sha256;
        let hash = Sha256::new()
            .chain_update(b"millrace seed tag")
            .chain_update(self.0)
            .finalize();
        hex::encode(&hash[..6])
    }
}

/// Why no key could be made.
#[derive(Debug, Error)]
pub enum SetupError {
    /// BN254's scalar field has no domain of that size.
    #[error("the circuit needs a domain of {0} points, more than 2^28 are not available")]
    DomainTooLarge(usize),
}

/// What nobody may know: wiped when dropped.
#[derive(Zeroize, ZeroizeOnDrop)]
pub(crate) struct Secrets {
    pub tau: Fr,
    pub alpha: Fr,
    pub beta: Fr,
    pub gamma: Fr,
    pub delta: Fr,
}

impl Secrets {
    pub(crate) fn derive(seed: &Seed, identity: &CircuitIdentity, domain: usize) -> Self {
        let usable = |value: &Fr| !value.is_zero();
        // τ on the domain or its odd coset would make a Lagrange denominator zero.
        let outside = |value: &Fr| !value.is_zero() && !value.pow([2 * domain as u64]).is_one();
        Self {
            tau: secret(seed, identity, b"tau", outside),
            alpha: secret(seed, identity, b"alpha", usable),
            beta: secret(seed, identity, b"beta", usable),
            gamma: secret(seed, identity, b"gamma", usable),
            delta: secret(seed, identity, b"delta", usable),
        }
    }
}

fn secret(seed: &Seed, identity: &CircuitIdentity, name: &[u8], fits: impl Fn(&Fr) -> bool) -> Fr {
    let mut attempt = 0u32;
    loop {
        let mut hasher = Sha512::new();
        for part in [
            SECRET_TAG,
            &seed.0,
            &identity.0,
            name,
            &attempt.to_le_bytes(),
        ] {
            hasher.update((part.len() as u64).to_le_bytes());
            hasher.update(part);
        }
        let wide = Zeroizing::new(<[u8; 64]>::from(hasher.finalize()));
        let value = Fr::from_le_bytes_mod_order(&*wide);
        if fits(&value) {
            return value;
        }
        attempt += 1;
    }
}

/// Generates a key for the circuit; deterministic in (seed, circuit).
///
/// # Errors
/// If the circuit is too large for BN254.
pub fn generate(
    matrices: &ConstraintMatrices,
    identity: &CircuitIdentity,
    seed: &Seed,
) -> Result<ProvingKey, SetupError> {
    generate_from(
        matrices,
        &Secrets::derive(seed, identity, matrices.domain()),
    )
}

pub(crate) fn generate_from(
    matrices: &ConstraintMatrices,
    secrets: &Secrets,
) -> Result<ProvingKey, SetupError> {
    let size = matrices.domain();
    let too_large = || SetupError::DomainTooLarge(size);
    let domain = Radix2EvaluationDomain::<Fr>::new(size).ok_or_else(too_large)?;
    let double = Radix2EvaluationDomain::<Fr>::new(2 * size).ok_or_else(too_large)?;
    let queries = Queries::compute(matrices, &domain, &double, secrets);
    Ok(queries.into_points(secrets, matrices.inputs))
}

/// The scalars whose multiples of the generators are the key.
#[derive(Zeroize, ZeroizeOnDrop)]
struct Queries {
    a: Vec<Fr>,
    b: Vec<Fr>,
    /// (β·aᵢ + α·bᵢ + cᵢ), divided by γ for inputs and by δ for the rest.
    combined: Vec<Fr>,
    h: Vec<Fr>,
}

impl Queries {
    fn compute(
        matrices: &ConstraintMatrices,
        domain: &Radix2EvaluationDomain<Fr>,
        double: &Radix2EvaluationDomain<Fr>,
        secrets: &Secrets,
    ) -> Self {
        let lagrange = Zeroizing::new(domain.evaluate_all_lagrange_coefficients(secrets.tau));
        let (mut a, (b, c)) = rayon::join(
            || columns(matrices, 0, &lagrange),
            || {
                rayon::join(
                    || columns(matrices, 1, &lagrange),
                    || columns(matrices, 2, &lagrange),
                )
            },
        );
        // One extra row per input keeps the input polynomials independent of each other and of the rest.
        let extra = &lagrange[matrices.constraints()..matrices.constraints() + matrices.inputs];
        for (input, value) in a.iter_mut().zip(extra) {
            *input += value;
        }
        let combined = Self::combine(&a, &b, Zeroizing::new(c), matrices.inputs, secrets);
        let h = odd_lagrange(double, secrets);
        Self { a, b, combined, h }
    }

    fn combine(
        a: &[Fr],
        b: &[Fr],
        c: Zeroizing<Vec<Fr>>,
        inputs: usize,
        secrets: &Secrets,
    ) -> Vec<Fr> {
        let [by_gamma, by_delta] = [secrets.gamma, secrets.delta].map(|secret| {
            secret
                .inverse()
                .expect("secrets are drawn until they are not zero")
        });
        let value = |i: usize| secrets.beta * a[i] + secrets.alpha * b[i] + c[i];
        (0..a.len())
            .into_par_iter()
            .map(|i| value(i) * if i < inputs { by_gamma } else { by_delta })
            .collect()
    }

    fn into_points(self, secrets: &Secrets, inputs: usize) -> ProvingKey {
        let generator = G1Projective::generator();
        let table = FixedBase::new(
            generator,
            self.a.len() + self.b.len() + self.combined.len() + self.h.len(),
        );
        let a_query = table.multiply(&self.a);
        let b_g1_query = table.multiply(&self.b);
        let gamma_abc_g1 = table.multiply(&self.combined[..inputs]);
        let l_query = table.multiply(&self.combined[inputs..]);
        let h_query = table.multiply(&self.h);
        drop(table);
        let generator_2 = G2Projective::generator();
        let b_g2_query = FixedBase::new(generator_2, self.b.len()).multiply(&self.b);
        ProvingKey {
            vk: VerifyingKey {
                alpha_g1: (generator * secrets.alpha).into_affine(),
                beta_g2: (generator_2 * secrets.beta).into_affine(),
                gamma_g2: (generator_2 * secrets.gamma).into_affine(),
                delta_g2: (generator_2 * secrets.delta).into_affine(),
                gamma_abc_g1,
            },
            beta_g1: (generator * secrets.beta).into_affine(),
            delta_g1: (generator * secrets.delta).into_affine(),
            a_query,
            b_g1_query,
            b_g2_query,
            h_query,
            l_query,
        }
    }
}

/// Each variable's polynomial at τ: the matrix' columns times the Lagrange coefficients.
fn columns(matrices: &ConstraintMatrices, matrix: usize, lagrange: &[Fr]) -> Vec<Fr> {
    let mut sums = vec![Fr::zero(); matrices.variables()];
    for row in 0..matrices.constraints() {
        let at_row = lagrange[row];
        for (column, value) in matrices.matrices[matrix].row(row) {
            let coefficient = matrices.coefficients[value];
            sums[column] += if coefficient.is_one() {
                at_row
            } else {
                at_row * coefficient
            };
        }
    }
    sums
}

/// Lagrange polynomials of the double domain's odd points at τ, divided by δ: Lₖ(τ) = (τ²ⁿ − 1)/2n · wₖ/(τ − wₖ).
fn odd_lagrange(double: &Radix2EvaluationDomain<Fr>, secrets: &Secrets) -> Vec<Fr> {
    let tau = secrets.tau;
    let by_delta = secrets
        .delta
        .inverse()
        .expect("secrets are drawn until they are not zero");
    let vanishing = tau.pow([double.size]) - Fr::one();
    let scale = vanishing * double.size_inv * by_delta;
    let step = double.group_gen.square();
    let mut points = Vec::with_capacity(double.size() / 2);
    let mut point = double.group_gen;
    for _ in 0..double.size() / 2 {
        points.push(point);
        point *= step;
    }
    let mut differences: Vec<Fr> = points.par_iter().map(|w| tau - w).collect();
    ark_ff::batch_inversion(&mut differences);
    differences
        .par_iter_mut()
        .zip(&points)
        .for_each(|(inverse, w)| *inverse *= scale * w);
    differences
}

#[cfg(test)]
mod tests;

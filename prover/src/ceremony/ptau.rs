//! Phase 1: powers of a secret τ from a `.ptau` file, as snarkjs makes, prepares and verifies them.
//!
//! .ptau → [`Powers`] of one circuit's size, whose relations are checked by pairings and random combinations
//!
//! | section | content |
//! |---|---|
//! | 1 | width and modulus of the base field; power |
//! | 2, 3, 4, 5, 6 | τⁱ in G1 (2n − 1), τⁱ in G2 (n), α·τⁱ, β·τⁱ (n each), β in G2 |
//! | 12, 13, 14, 15 | the same in the Lagrange basis of every domain up to n (τ in G1: 2n) |
//!
//! # Soundness
//! A prover's key needs the true powers of one τ, or it may accept false proofs or leak. Checked are: every point is in its
//! group; each list is a geometric series with the ratio that τ in G2 has; β is one number in both groups; and each Lagrange
//! list is that of its powers: for random r, Σ rᵢ·Lᵢ(τ) = Σ cⱼ·τʲ, where c interpolates r. That nobody knows τ is what the
//! contributions in section 7 show: `snarkjs powersoftau verify` checks those.

use super::{CeremonyError, same_ratio};
use crate::circom::{Sections, point_g1, point_g2};
use ark_bn254::{Fq, Fr, G1Affine, G1Projective, G2Affine, G2Projective};
use ark_ec::{AffineRepr, CurveGroup, VariableBaseMSM};
use ark_ff::UniformRand;
use ark_poly::{EvaluationDomain, Radix2EvaluationDomain};
use rand::rngs::OsRng;
use std::path::Path;

/// Largest power there is.
const MAX_POWER: u32 = 28;

/// What a key of one domain needs of phase 1.
pub struct Powers {
    pub(super) alpha_g1: G1Affine,
    pub(super) beta_g1: G1Affine,
    pub(super) beta_g2: G2Affine,
    /// Lagrange points of the domain: τ, α·τ, β·τ in G1, τ in G2.
    pub(super) tau_g1: Vec<G1Affine>,
    pub(super) alpha_tau: Vec<G1Affine>,
    pub(super) beta_tau: Vec<G1Affine>,
    pub(super) tau_g2: Vec<G2Affine>,
    /// Lagrange points of the double domain at odd places.
    pub(super) odd: Vec<G1Affine>,
    /// τⁱ, so many as the double domain has, less one if the file has no more.
    pub(super) powers: Vec<G1Affine>,
}

/// Powers in monomial form, which the rest is checked against.
struct Monomials {
    tau_g1: Vec<G1Affine>,
    tau_g2: Vec<G2Affine>,
    alpha_tau: Vec<G1Affine>,
    beta_tau: Vec<G1Affine>,
    beta_g2: G2Affine,
}

impl Powers {
    /// Reads and checks what a domain of this size needs.
    ///
    /// # Errors
    /// If the file is unreadable, too small, not prepared for phase 2, or not made of powers.
    pub fn read(path: &Path, domain: usize) -> Result<Self, CeremonyError> {
        let sections = Sections::open(path, "ptau", 1)?;
        let header = sections.section(1, None)?;
        let mut header = sections.cursor(1, &header);
        header.expect_field::<Fq>("the base field")?;
        let power = header.u32()?;
        if power > MAX_POWER {
            return Err(header.invalid(format!("a power of {power}")).into());
        }
        let needed = domain.trailing_zeros();
        if needed > power {
            return Err(CeremonyError::PtauTooSmall { power, needed });
        }
        if sections.length(12).is_none() {
            return Err(CeremonyError::PtauNotPrepared);
        }
        let (whole, double) = (1usize << power, 2 * domain);
        let g1 = |id, first, count| sections.part(id, first, count, 64, point_g1);
        let g2 = |id, first, count| sections.part(id, first, count, 128, point_g2);
        let monomials = Monomials {
            tau_g1: g1(2, 0, double.min(2 * whole - 1))?,
            tau_g2: g2(3, 0, domain)?,
            alpha_tau: g1(4, 0, domain)?,
            beta_tau: g1(5, 0, domain)?,
            beta_g2: g2(6, 0, 1)?[0],
        };
        monomials.check()?;
        let all = g1(12, double - 1, double)?;
        let powers = Self {
            alpha_g1: monomials.alpha_tau[0],
            beta_g1: monomials.beta_tau[0],
            beta_g2: monomials.beta_g2,
            tau_g1: g1(12, domain - 1, domain)?,
            tau_g2: g2(13, domain - 1, domain)?,
            alpha_tau: g1(14, domain - 1, domain)?,
            beta_tau: g1(15, domain - 1, domain)?,
            odd: all.iter().skip(1).step_by(2).copied().collect(),
            powers: vec![],
        };
        check_lagrange::<G1Projective>("τ in G1", &powers.tau_g1, &monomials.tau_g1)?;
        check_lagrange::<G2Projective>("τ in G2", &powers.tau_g2, &monomials.tau_g2)?;
        check_lagrange::<G1Projective>("α·τ", &powers.alpha_tau, &monomials.alpha_tau)?;
        check_lagrange::<G1Projective>("β·τ", &powers.beta_tau, &monomials.beta_tau)?;
        check_lagrange::<G1Projective>("τ of the double domain", &all, &monomials.tau_g1)?;
        Ok(Self {
            powers: monomials.tau_g1,
            ..powers
        })
    }
}

fn broken(what: &'static str) -> CeremonyError {
    CeremonyError::NotPowers { what }
}

impl Monomials {
    fn check(&self) -> Result<(), CeremonyError> {
        let (one_1, one_2) = (G1Affine::generator(), G2Affine::generator());
        if self.tau_g1[0] != one_1 || self.tau_g2[0] != one_2 {
            return Err(broken("τ⁰ is not the generator"));
        }
        let in_group = |point: &G2Affine| point.is_in_correct_subgroup_assuming_on_curve();
        use rayon::prelude::*;
        if !self.tau_g2.par_iter().all(in_group) || !in_group(&self.beta_g2) {
            return Err(broken("a point of G2 is outside the group of order r"));
        }
        // A domain of one point has no other power to compare.
        let Some(tau_2) = self.tau_g2.get(1) else {
            return Err(broken("a domain of one point is too small"));
        };
        if !same_ratio((one_1, self.tau_g1[1]), (one_2, *tau_2)) {
            return Err(broken("τ differs between the groups"));
        }
        for (what, list) in [
            ("τ in G1", &self.tau_g1),
            ("α·τ", &self.alpha_tau),
            ("β·τ", &self.beta_tau),
        ] {
            let [low, high] = shifted::<G1Projective>(list);
            if !same_ratio((low, high), (one_2, *tau_2)) {
                return Err(broken(what));
            }
        }
        let [low, high] = shifted::<G2Projective>(&self.tau_g2);
        if !same_ratio((one_1, self.tau_g1[1]), (low, high)) {
            return Err(broken("τ in G2"));
        }
        if !same_ratio((one_1, self.beta_tau[0]), (one_2, self.beta_g2)) {
            return Err(broken("β differs between the groups"));
        }
        Ok(())
    }
}

/// Random combinations of all but the last and of all but the first.
fn shifted<G: VariableBaseMSM<ScalarField = Fr> + CurveGroup>(
    list: &[G::MulBase],
) -> [G::Affine; 2] {
    let count = list.len() - 1;
    let scalars: Vec<Fr> = (0..count).map(|_| Fr::rand(&mut OsRng)).collect();
    [&list[..count], &list[1..]].map(|part| combined::<G>(part, &scalars))
}

fn combined<G: VariableBaseMSM<ScalarField = Fr> + CurveGroup>(
    points: &[G::MulBase],
    scalars: &[Fr],
) -> G::Affine {
    G::msm_unchecked(points, scalars).into_affine()
}

/// That a list is the Lagrange form of powers; a power that is not there counts as zero, as it did when the list was made.
fn check_lagrange<G: VariableBaseMSM<ScalarField = Fr> + CurveGroup>(
    what: &'static str,
    lagrange: &[G::MulBase],
    powers: &[G::MulBase],
) -> Result<(), CeremonyError> {
    let domain = Radix2EvaluationDomain::<Fr>::new(lagrange.len());
    let domain = domain.ok_or_else(|| broken("the domain is too large"))?;
    let random: Vec<Fr> = (0..lagrange.len()).map(|_| Fr::rand(&mut OsRng)).collect();
    let coefficients = domain.ifft(&random);
    let count = coefficients.len().min(powers.len());
    let left = G::msm_unchecked(lagrange, &random);
    let right = G::msm_unchecked(&powers[..count], &coefficients[..count]);
    if (left - right).is_zero() {
        Ok(())
    } else {
        Err(broken(what))
    }
}

//! Proofs and verifying keys as the EVM's precompiles take them.
//!
//! G1 point → x, y; G2 point → x.c1, x.c0, y.c1, y.c0 (imaginary part first); every number 32 bytes big-endian; the point
//! at infinity is all zeros. A proof is A, B, C: eight words.

use crate::groth16::VerifyingKey;
use ark_bn254::{Fq, Fq2, G1Affine, G2Affine};
use ark_ec::AffineRepr;
use ark_ff::{BigInt, BigInteger, PrimeField, Zero};
use thiserror::Error;

/// 32 bytes, big-endian.
pub type EvmWord = [u8; 32];

/// Why words are no point.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum PointError {
    /// A coordinate is the field's modulus or more: a second name for a smaller one.
    #[error("a coordinate is not below the base field's modulus")]
    NotCanonical,
    /// The coordinates solve no curve equation.
    #[error("a point is not on the curve")]
    NotOnCurve,
    /// The point is on the twist but outside the group of order r.
    #[error("a point is not in the subgroup of order r")]
    NotInSubgroup,
}

/// A coordinate's bytes.
pub fn coordinate(value: &Fq) -> EvmWord {
    let mut bytes = [0; 32];
    bytes.copy_from_slice(&value.into_bigint().to_bytes_be());
    bytes
}

/// Reads a coordinate.
///
/// # Errors
/// [`PointError::NotCanonical`] if the number is not below the modulus.
pub fn read_coordinate(word: &EvmWord) -> Result<Fq, PointError> {
    let mut limbs = [0u64; 4];
    for (limb, chunk) in limbs.iter_mut().rev().zip(word.chunks_exact(8)) {
        *limb = chunk
            .iter()
            .fold(0, |sum, byte| (sum << 8) | u64::from(*byte));
    }
    Fq::from_bigint(BigInt(limbs)).ok_or(PointError::NotCanonical)
}

/// x, y.
pub fn g1_words(point: &G1Affine) -> [EvmWord; 2] {
    let (x, y) = point.xy().unwrap_or((Fq::zero(), Fq::zero()));
    [coordinate(&x), coordinate(&y)]
}

/// x.c1, x.c0, y.c1, y.c0.
pub fn g2_words(point: &G2Affine) -> [EvmWord; 4] {
    let (x, y) = point.xy().unwrap_or((Fq2::zero(), Fq2::zero()));
    [x.c1, x.c0, y.c1, y.c0].map(|c| coordinate(&c))
}

/// Reads and checks a G1 point.
///
/// # Errors
/// If a coordinate is not canonical or the point not on the curve.
pub fn read_g1(words: &[EvmWord; 2]) -> Result<G1Affine, PointError> {
    let [x, y] = [read_coordinate(&words[0])?, read_coordinate(&words[1])?];
    if x.is_zero() && y.is_zero() {
        return Ok(G1Affine::zero());
    }
    let point = G1Affine::new_unchecked(x, y);
    // G1 has cofactor 1: being on the curve is being in the group.
    if point.is_on_curve() {
        Ok(point)
    } else {
        Err(PointError::NotOnCurve)
    }
}

/// Reads and checks a G2 point.
///
/// # Errors
/// If a coordinate is not canonical, or the point not on the curve or not in the group.
pub fn read_g2(words: &[EvmWord; 4]) -> Result<G2Affine, PointError> {
    let mut c = [Fq::zero(); 4];
    for (value, word) in c.iter_mut().zip(words) {
        *value = read_coordinate(word)?;
    }
    let [x, y] = [Fq2::new(c[1], c[0]), Fq2::new(c[3], c[2])];
    if x.is_zero() && y.is_zero() {
        return Ok(G2Affine::zero());
    }
    check_g2(G2Affine::new_unchecked(x, y))
}

pub(crate) fn check_g2(point: G2Affine) -> Result<G2Affine, PointError> {
    if !point.is_on_curve() {
        return Err(PointError::NotOnCurve);
    }
    if !point.is_in_correct_subgroup_assuming_on_curve() {
        return Err(PointError::NotInSubgroup);
    }
    Ok(point)
}

/// A verifying key in words, as the rollup contract's constructor takes it: nothing negated.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VerifyingKeyWords {
    /// α in G1.
    pub alpha: [EvmWord; 2],
    /// β in G2.
    pub beta: [EvmWord; 4],
    /// γ in G2.
    pub gamma: [EvmWord; 4],
    /// δ in G2.
    pub delta: [EvmWord; 4],
    /// One point for the constant and one for each public input.
    pub ic: Vec<[EvmWord; 2]>,
}

impl VerifyingKeyWords {
    /// The words of a key.
    pub fn of(key: &VerifyingKey) -> Self {
        Self {
            alpha: g1_words(&key.alpha_g1),
            beta: g2_words(&key.beta_g2),
            gamma: g2_words(&key.gamma_g2),
            delta: g2_words(&key.delta_g2),
            ic: key.gamma_abc_g1.iter().map(g1_words).collect(),
        }
    }

    /// The words that a verifier keeps so that it negates nothing: −α, β, −γ, −δ, IC.
    pub fn negated(key: &VerifyingKey) -> Self {
        Self {
            alpha: g1_words(&-key.alpha_g1),
            gamma: g2_words(&-key.gamma_g2),
            delta: g2_words(&-key.delta_g2),
            ..Self::of(key)
        }
    }

    /// Reads and checks a key.
    ///
    /// # Errors
    /// If a point is not in its group.
    pub fn to_key(&self) -> Result<VerifyingKey, PointError> {
        Ok(VerifyingKey {
            alpha_g1: read_g1(&self.alpha)?,
            beta_g2: read_g2(&self.beta)?,
            gamma_g2: read_g2(&self.gamma)?,
            delta_g2: read_g2(&self.delta)?,
            gamma_abc_g1: self.ic.iter().map(read_g1).collect::<Result<_, _>>()?,
        })
    }

    /// All words in the order α, β, γ, δ, IC.
    pub fn flat(&self) -> Vec<EvmWord> {
        let fixed = self
            .alpha
            .iter()
            .chain(&self.beta)
            .chain(&self.gamma)
            .chain(&self.delta);
        fixed.chain(self.ic.iter().flatten()).copied().collect()
    }
}

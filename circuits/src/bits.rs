//! Field elements as bits: range checks, canonical decomposition, comparison with a constant.
//!
//! | gadget | constraints |
//! |---|---|
//! | [`to_bits`], [`enforce_range`] of n ≤ 253 bits | n + 1 |
//! | [`to_bits_strict`]: all 254 bits of the canonical value | 254 + 1 + 58 |
//! | [`enforce_less_than`]: n bits against a constant | about 3·n/k + k with chunks of k bits: 58 for n = 254 |
//! | [`is_zero`], [`is_equal`] | 3 |
//! | [`select`] | 1 |
//!
//! # Soundness
//! Up to 253 bits the sum cannot reach the modulus, so the bits are those of the one integer. With 254 bits `x` and
//! `x + r` both fit for small `x`; [`to_bits_strict`] therefore compares the bits with r.

use ark_bn254::Fr;
use ark_ff::{AdditiveGroup, BigInteger, Field, PrimeField};
use ark_r1cs_std::GR1CSVar;
use ark_r1cs_std::boolean::Boolean;
use ark_r1cs_std::fields::fp::FpVar;
use ark_relations::gr1cs::{ConstraintSystemRef, SynthesisError};
use ark_relations::ns;

use crate::linear::{self, Linear};

/// The widest decomposition in which every sum of bits is a different field element.
pub const MAX_BITS: usize = 253;

/// The little-endian bits of `x`, which is below 2^`width`.
///
/// # Errors
/// [`SynthesisError::Unsatisfiable`] if `x` is a constant that does not fit.
///
/// # Panics
/// If `width` exceeds [`MAX_BITS`].
pub fn to_bits(x: &FpVar<Fr>, width: usize) -> Result<Vec<Boolean<Fr>>, SynthesisError> {
    assert!(width <= MAX_BITS, "{width} bits are not unique modulo r");
    let cs = x.cs();
    let namespace = ns!(cs, "value fits its bits");
    decompose(&namespace.cs(), x, width)
}

/// `x` is below 2^`width`.
///
/// # Errors
/// [`SynthesisError::Unsatisfiable`] if `x` is a constant that does not fit.
///
/// # Panics
/// If `width` exceeds [`MAX_BITS`].
pub fn enforce_range(x: &FpVar<Fr>, width: usize) -> Result<(), SynthesisError> {
    to_bits(x, width).map(drop)
}

/// The 254 little-endian bits of the integer in `[0, r)` that `x` is: circomlib's `Num2Bits_strict`.
///
/// # Errors
/// Only what the constraint system itself reports.
pub fn to_bits_strict(x: &FpVar<Fr>) -> Result<Vec<Boolean<Fr>>, SynthesisError> {
    let cs = x.cs();
    let bits = {
        let namespace = ns!(cs, "value fits its bits");
        decompose(&namespace.cs(), x, Fr::MODULUS_BIT_SIZE as usize)?
    };
    let namespace = ns!(cs, "bits are below the field modulus");
    enforce_less_than(&namespace.cs(), &bits, &Fr::MODULUS.to_bits_le())?;
    Ok(bits)
}

fn decompose(
    cs: &ConstraintSystemRef<Fr>,
    x: &FpVar<Fr>,
    width: usize,
) -> Result<Vec<Boolean<Fr>>, SynthesisError> {
    let value = x.value().ok().map(|value| value.into_bigint());
    if let (FpVar::Constant(_), Some(value)) = (x, value) {
        let bits = value.to_bits_le();
        return match bits[width..].contains(&true) {
            true => Err(SynthesisError::Unsatisfiable),
            false => Ok(bits[..width]
                .iter()
                .copied()
                .map(Boolean::Constant)
                .collect()),
        };
    }
    let bits = (0..width)
        .map(|i| linear::bit(cs, value.map(|value| value.get_bit(i))))
        .collect::<Result<Vec<_>, _>>()?;
    linear::enforce_zero(cs, &pack(&bits).minus(&x.into()))?;
    Ok(bits)
}

/// Σ bit·2^i.
pub fn pack<'a>(bits: impl IntoIterator<Item = &'a Boolean<Fr>>) -> Linear {
    let wires: Vec<Linear> = bits.into_iter().map(Linear::from).collect();
    Linear::sum(std::iter::successors(Some(Fr::ONE), |power| Some(power.double())).zip(&wires))
}

/// The integer of the little-endian `bits` is strictly below the constant of the little-endian bits `bound`.
///
/// Both are cut into chunks. The prover points at the most significant chunk that differs; all chunks above it must be
/// equal, and the difference there must be positive.
///
/// # Soundness
/// Exactly one selector is set. Above it the chunks are equal, and at it `bound − x − 1` has a chunk's width, which is
/// far below the modulus, so `x`'s chunk is the smaller one. Chunks below it do not matter.
///
/// # Errors
/// Only what the constraint system itself reports.
///
/// # Panics
/// If `bound` is shorter than `bits` or has set bits above their width.
pub fn enforce_less_than(
    cs: &ConstraintSystemRef<Fr>,
    bits: &[Boolean<Fr>],
    bound: &[bool],
) -> Result<(), SynthesisError> {
    assert!(
        bound.len() >= bits.len(),
        "the bound must be given to the full width"
    );
    assert!(
        !bound[bits.len()..].contains(&true),
        "the bound is wider than the bits"
    );
    let width = chunk_width(bits.len());
    let differences: Vec<Linear> = bits
        .chunks(width)
        .zip(bound.chunks(width))
        .map(|(chunk, bound)| Linear::constant(integer(bound)).minus(&pack(chunk)))
        .rev()
        .collect();
    let chosen = differences
        .iter()
        .position(|d| d.value().is_some_and(|value| value != Fr::ZERO));
    let known = differences.iter().all(|d| d.value().is_some());
    let selectors = (0..differences.len())
        .map(|i| linear::bit(cs, known.then_some(chosen.unwrap_or(0) == i)))
        .collect::<Result<Vec<_>, _>>()?;
    let selectors: Vec<Linear> = selectors.iter().map(Linear::from).collect();

    let mut pending = Linear::constant(Fr::ONE);
    let mut selected = Linear::constant(Fr::ZERO);
    for (selector, difference) in selectors.iter().zip(&differences) {
        pending = pending.minus(selector);
        linear::enforce(cs, &pending, difference, &Linear::constant(Fr::ZERO))?;
        selected = selected.plus(&linear::product(cs, selector, difference)?);
    }
    linear::enforce_zero(cs, &pending)?;
    let rest = selected.plus_constant(-Fr::ONE);
    let value = rest.value().map(|value| value.into_bigint());
    let rest_bits = (0..width)
        .map(|i| linear::bit(cs, value.map(|value| value.get_bit(i))))
        .collect::<Result<Vec<_>, _>>()?;
    linear::enforce_zero(cs, &pack(&rest_bits).minus(&rest))
}

/// The chunk width with the fewest constraints: 3 for each chunk and 1 for each bit of the difference.
fn chunk_width(bits: usize) -> usize {
    (1..=bits)
        .min_by_key(|&width| 3 * bits.div_ceil(width) + width)
        .unwrap_or(1)
}

fn integer(bits: &[bool]) -> Fr {
    bits.iter()
        .rev()
        .fold(Fr::ZERO, |sum, bit| sum.double() + Fr::from(*bit))
}

/// Whether `x` is zero.
///
/// # Soundness
/// `x·inverse = 1 − zero` and `x·zero = 0` give zero = 1 if and only if x = 0; `inverse·zero = 0` binds the hint too.
///
/// # Errors
/// Only what the constraint system itself reports.
pub fn is_zero(x: &FpVar<Fr>) -> Result<Boolean<Fr>, SynthesisError> {
    if let FpVar::Constant(value) = x {
        return Ok(Boolean::Constant(*value == Fr::ZERO));
    }
    let cs = x.cs();
    let namespace = ns!(cs, "zero test");
    let cs = namespace.cs();
    let x = Linear::from(x);
    let inverse = linear::witness(
        &cs,
        x.value().map(|value| value.inverse().unwrap_or(Fr::ZERO)),
    )?;
    let zero = ark_r1cs_std::boolean::AllocatedBool::new_witness_without_booleanity_check(
        cs.clone(),
        || {
            x.value()
                .map(|value| value == Fr::ZERO)
                .ok_or(SynthesisError::AssignmentMissing)
        },
    )?;
    let zero = Boolean::Var(zero);
    let wire = Linear::from(&zero);
    linear::enforce(&cs, &x, &inverse, &Linear::constant(Fr::ONE).minus(&wire))?;
    linear::enforce(&cs, &x, &wire, &Linear::constant(Fr::ZERO))?;
    linear::enforce(&cs, &inverse, &wire, &Linear::constant(Fr::ZERO))?;
    Ok(zero)
}

/// Whether `a` and `b` are the same element.
///
/// # Errors
/// Only what the constraint system itself reports.
pub fn is_equal(a: &FpVar<Fr>, b: &FpVar<Fr>) -> Result<Boolean<Fr>, SynthesisError> {
    is_zero(&(a - b))
}

/// `condition ? a : b`.
///
/// # Errors
/// Only what the constraint system itself reports.
pub fn select(
    condition: &Boolean<Fr>,
    a: &FpVar<Fr>,
    b: &FpVar<Fr>,
) -> Result<FpVar<Fr>, SynthesisError> {
    if let Boolean::Constant(condition) = condition {
        return Ok(if *condition { a.clone() } else { b.clone() });
    }
    let cs = condition.cs();
    let namespace = ns!(cs, "selection");
    let cs = namespace.cs();
    let (a, b) = (Linear::from(a), Linear::from(b));
    let chosen = linear::product(&cs, &condition.into(), &a.minus(&b))?;
    chosen.plus(&b).to_fp_var(&cs)
}

#[cfg(test)]
mod tests;

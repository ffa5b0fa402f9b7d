//! Small tools of the batch circuit: allocation, linear combinations, products that must vanish, ranged integers.

use ark_bn254::Fr;
use ark_ff::{BigInteger, One, PrimeField, Zero};
use ark_r1cs_std::GR1CSVar;
use ark_r1cs_std::alloc::AllocVar;
use ark_r1cs_std::boolean::Boolean;
use ark_r1cs_std::fields::fp::{AllocatedFp, FpVar};
use ark_relations::gr1cs::{ConstraintSystemRef, LinearCombination, SynthesisError, Variable};

/// A wire whose value follows from others: the caller states the constraint that binds it.
pub fn witness(cs: &ConstraintSystemRef<Fr>, value: Fr) -> Result<FpVar<Fr>, SynthesisError> {
    let variable = cs.new_witness_variable(|| Ok(value))?;
    Ok(FpVar::Var(AllocatedFp::new(
        Some(value),
        variable,
        cs.clone(),
    )))
}

/// A private input: a wire that only the data vector, a hash or a signature ties to the outside.
pub fn private_input(cs: &ConstraintSystemRef<Fr>, value: Fr) -> Result<FpVar<Fr>, SynthesisError> {
    let wire = witness(cs, value)?;
    #[cfg(test)]
    declared::record(&wire);
    Ok(wire)
}

/// The private inputs of the circuit synthesized last on this thread, for the test that all other wires follow from them.
#[cfg(test)]
pub mod declared {
    use super::{FpVar, Fr};
    use std::cell::RefCell;

    thread_local!(static WIRES: RefCell<Vec<FpVar<Fr>>> = const { RefCell::new(Vec::new()) });

    pub fn record(wire: &FpVar<Fr>) {
        WIRES.with_borrow_mut(|wires| wires.push(wire.clone()));
    }

    pub fn take() -> Vec<FpVar<Fr>> {
        WIRES.take()
    }
}

/// A public input.
pub fn input(cs: &ConstraintSystemRef<Fr>, value: Fr) -> Result<FpVar<Fr>, SynthesisError> {
    let variable = cs.new_input_variable(|| Ok(value))?;
    Ok(FpVar::Var(AllocatedFp::new(
        Some(value),
        variable,
        cs.clone(),
    )))
}

/// A witness constrained to 0 or 1.
pub fn boolean(cs: &ConstraintSystemRef<Fr>, value: bool) -> Result<Boolean<Fr>, SynthesisError> {
    Boolean::new_witness(cs.clone(), || Ok(value))
}

/// 0 or 1 as a field wire.
pub fn flag(bit: &Boolean<Fr>) -> FpVar<Fr> {
    FpVar::from(bit.clone())
}

/// Σ coefficient·wire, as one linear combination.
pub fn combine(terms: &[(Fr, &FpVar<Fr>)]) -> FpVar<Fr> {
    let mut constant = Fr::zero();
    let (mut coefficients, mut wires) = (Vec::new(), Vec::new());
    for (coefficient, wire) in terms {
        match wire {
            FpVar::Constant(value) => constant += *coefficient * value,
            FpVar::Var(allocated) => {
                coefficients.push(*coefficient);
                wires.push(allocated.clone());
            }
        }
    }
    match AllocatedFp::linear_combination(&coefficients, &wires) {
        None => FpVar::Constant(constant),
        Some(sum) if constant.is_zero() => FpVar::Var(sum),
        Some(sum) => FpVar::Var(sum.add_constant(constant)),
    }
}

/// 1 − x.
pub fn complement(x: &FpVar<Fr>) -> FpVar<Fr> {
    let one = FpVar::Constant(Fr::one());
    combine(&[(Fr::one(), &one), (-Fr::one(), x)])
}

/// The difference.
pub fn minus(a: &FpVar<Fr>, b: &FpVar<Fr>) -> FpVar<Fr> {
    combine(&[(Fr::one(), a), (-Fr::one(), b)])
}

/// The sum.
pub fn plus(a: &FpVar<Fr>, b: &FpVar<Fr>) -> FpVar<Fr> {
    combine(&[(Fr::one(), a), (Fr::one(), b)])
}

/// A wire's value.
pub fn value_of(wire: &FpVar<Fr>) -> Result<Fr, SynthesisError> {
    wire.value()
}

fn row(wire: &FpVar<Fr>) -> LinearCombination<Fr> {
    match wire {
        FpVar::Constant(value) => LinearCombination(vec![(*value, Variable::One)]),
        FpVar::Var(allocated) => allocated.variable.into(),
    }
}

/// a·b = c.
pub fn enforce_product(
    cs: &ConstraintSystemRef<Fr>,
    a: &FpVar<Fr>,
    b: &FpVar<Fr>,
    c: &FpVar<Fr>,
) -> Result<(), SynthesisError> {
    cs.enforce_r1cs_constraint(|| row(a), || row(b), || row(c))
}

/// a·b = 0.
pub fn enforce_zero_product(
    cs: &ConstraintSystemRef<Fr>,
    a: &FpVar<Fr>,
    b: &FpVar<Fr>,
) -> Result<(), SynthesisError> {
    enforce_product(cs, a, b, &FpVar::Constant(Fr::zero()))
}

/// a = b.
pub fn enforce_equal(
    cs: &ConstraintSystemRef<Fr>,
    a: &FpVar<Fr>,
    b: &FpVar<Fr>,
) -> Result<(), SynthesisError> {
    enforce_product(cs, &FpVar::Constant(Fr::one()), a, b)
}

/// The product a·b as a new wire.
pub fn product(
    cs: &ConstraintSystemRef<Fr>,
    a: &FpVar<Fr>,
    b: &FpVar<Fr>,
) -> Result<FpVar<Fr>, SynthesisError> {
    let result = witness(cs, value_of(a)? * value_of(b)?)?;
    enforce_product(cs, a, b, &result)?;
    Ok(result)
}

/// The same value as one wire: keeps long combinations out of matrices where they would be repeated.
pub fn settle(cs: &ConstraintSystemRef<Fr>, x: &FpVar<Fr>) -> Result<FpVar<Fr>, SynthesisError> {
    let wire = witness(cs, value_of(x)?)?;
    enforce_equal(cs, x, &wire)?;
    Ok(wire)
}

/// An unsigned integer made of its bits: holding one proves its range.
#[derive(Clone)]
pub struct UnsignedVar {
    /// Σ bit·2^i.
    pub value: FpVar<Fr>,
    /// Little-endian, each 0 or 1.
    pub bits: Vec<Boolean<Fr>>,
}

/// Allocates the low `width` bits (at most 253) of `value`, each constrained to 0 or 1.
pub fn unsigned(
    cs: &ConstraintSystemRef<Fr>,
    value: u128,
    width: usize,
) -> Result<UnsignedVar, SynthesisError> {
    let bits: Vec<_> = (0..width)
        .map(|i| boolean(cs, i < 128 && (value >> i) & 1 == 1))
        .collect::<Result<_, _>>()?;
    Ok(UnsignedVar {
        value: pack(&bits),
        bits,
    })
}

/// Σ bit·2^i.
pub fn pack(bits: &[Boolean<Fr>]) -> FpVar<Fr> {
    let wires: Vec<_> = bits.iter().map(flag).collect();
    let mut power = Fr::one();
    let terms: Vec<_> = wires
        .iter()
        .map(|wire| {
            let term = (power, wire);
            power += power;
            term
        })
        .collect();
    combine(&terms)
}

/// x < 2^width: its bits as witnesses, whose sum must be x.
pub fn enforce_width(
    cs: &ConstraintSystemRef<Fr>,
    x: &FpVar<Fr>,
    width: usize,
) -> Result<UnsignedVar, SynthesisError> {
    let bits = value_of(x)?.into_bigint().to_bits_le();
    let bits: Vec<_> = bits[..width]
        .iter()
        .map(|bit| boolean(cs, *bit))
        .collect::<Result<_, _>>()?;
    let sum = pack(&bits);
    enforce_equal(cs, &sum, x)?;
    Ok(UnsignedVar { value: sum, bits })
}

/// Whether x = 0, with the inverse bound also where x = 0 (it is 0 there), so that no witness is left free.
pub fn is_zero(cs: &ConstraintSystemRef<Fr>, x: &FpVar<Fr>) -> Result<FpVar<Fr>, SynthesisError> {
    use ark_ff::Field;
    let value = value_of(x)?;
    let inverse = witness(cs, value.inverse().unwrap_or_default())?;
    let zero = witness(cs, Fr::from(value.is_zero()))?;
    enforce_product(cs, x, &inverse, &complement(&zero))?;
    enforce_zero_product(cs, x, &zero)?;
    enforce_zero_product(cs, &inverse, &zero)?;
    Ok(zero)
}

/// x ≠ 0, by its inverse.
pub fn enforce_nonzero(cs: &ConstraintSystemRef<Fr>, x: &FpVar<Fr>) -> Result<(), SynthesisError> {
    use ark_ff::Field;
    let inverse = witness(cs, value_of(x)?.inverse().unwrap_or_default())?;
    enforce_product(cs, x, &inverse, &FpVar::Constant(Fr::one()))
}

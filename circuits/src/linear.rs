//! Linear combinations with their value: what gadgets compute with between two constraints.
//!
//! ```text
//! FpVar, Boolean → Linear (value, Σ coefficient·variable) → enforce(a, b, c): a·b = c
//! ```
//!
//! Adding and scaling is free in a constraint system. `FpVar` enters every intermediate sum into the system as a
//! symbolic row; a [`Linear`] stays a short list until a constraint uses it. The value is absent while a key is
//! generated.

use ark_bn254::Fr;
use ark_ff::{AdditiveGroup, Field};
use ark_r1cs_std::GR1CSVar;
use ark_r1cs_std::boolean::Boolean;
use ark_r1cs_std::fields::fp::{AllocatedFp, FpVar};
use ark_relations::gr1cs::{ConstraintSystemRef, LinearCombination, SynthesisError, Variable};

/// Σ coefficient·variable, and what it comes to if values are known.
#[derive(Clone, Debug)]
pub struct Linear {
    value: Option<Fr>,
    terms: Vec<(Fr, Variable)>,
}

impl Linear {
    /// A constant.
    pub fn constant(value: Fr) -> Self {
        let terms = if value == Fr::ZERO {
            Vec::new()
        } else {
            vec![(value, Variable::One)]
        };
        Self {
            value: Some(value),
            terms,
        }
    }

    /// One variable.
    pub fn variable(variable: Variable, value: Option<Fr>) -> Self {
        Self {
            value,
            terms: vec![(Fr::ONE, variable)],
        }
    }

    /// The value, absent while a key is generated.
    pub fn value(&self) -> Option<Fr> {
        self.value
    }

    /// Σ coefficient·part.
    pub fn sum<'a>(parts: impl IntoIterator<Item = (Fr, &'a Self)>) -> Self {
        let mut sum = Self::constant(Fr::ZERO);
        for (coefficient, part) in parts {
            sum.value = sum
                .value
                .zip(part.value)
                .map(|(total, value)| total + coefficient * value);
            sum.terms.extend(
                part.terms
                    .iter()
                    .map(|(c, variable)| (*c * coefficient, *variable)),
            );
        }
        sum
    }

    /// `self + other`.
    pub fn plus(&self, other: &Self) -> Self {
        Self::sum([(Fr::ONE, self), (Fr::ONE, other)])
    }

    /// `self − other`.
    pub fn minus(&self, other: &Self) -> Self {
        Self::sum([(Fr::ONE, self), (-Fr::ONE, other)])
    }

    /// `self + constant`.
    pub fn plus_constant(&self, constant: Fr) -> Self {
        self.plus(&Self::constant(constant))
    }

    /// `factor · self`.
    pub fn times(&self, factor: Fr) -> Self {
        Self::sum([(factor, self)])
    }

    /// `−self`.
    pub fn negated(&self) -> Self {
        self.times(-Fr::ONE)
    }

    /// The row that a constraint takes: each variable once, in order.
    pub fn row(&self) -> LinearCombination<Fr> {
        LinearCombination::from_sum_coeff_vars(&self.terms)
    }

    /// The same as an `FpVar`.
    ///
    /// # Errors
    /// Only what the constraint system itself reports.
    pub fn to_fp_var(&self, cs: &ConstraintSystemRef<Fr>) -> Result<FpVar<Fr>, SynthesisError> {
        match (self.terms.as_slice(), self.value) {
            ([], Some(value)) => Ok(FpVar::Constant(value)),
            ([(_, Variable::One)], Some(value)) => Ok(FpVar::Constant(value)),
            _ => Ok(FpVar::Var(AllocatedFp::new(
                self.value,
                cs.new_lc(|| self.row())?,
                cs.clone(),
            ))),
        }
    }
}

impl From<&FpVar<Fr>> for Linear {
    fn from(wire: &FpVar<Fr>) -> Self {
        match wire {
            FpVar::Constant(value) => Self::constant(*value),
            FpVar::Var(allocated) => Self::variable(allocated.variable, allocated.value().ok()),
        }
    }
}

impl From<&Boolean<Fr>> for Linear {
    fn from(bit: &Boolean<Fr>) -> Self {
        match bit {
            Boolean::Constant(bit) => Self::constant(Fr::from(*bit)),
            Boolean::Var(allocated) => {
                Self::variable(allocated.variable(), bit.value().ok().map(Fr::from))
            }
        }
    }
}

/// A fresh witness. The caller binds it.
///
/// # Errors
/// If the system wants values and there is none.
pub fn witness(cs: &ConstraintSystemRef<Fr>, value: Option<Fr>) -> Result<Linear, SynthesisError> {
    let variable = cs.new_witness_variable(|| value.ok_or(SynthesisError::AssignmentMissing))?;
    Ok(Linear::variable(variable, value))
}

/// A fresh bit, constrained to 0 or 1.
///
/// # Errors
/// If the system wants values and there is none.
pub fn bit(
    cs: &ConstraintSystemRef<Fr>,
    value: Option<bool>,
) -> Result<Boolean<Fr>, SynthesisError> {
    use ark_r1cs_std::alloc::AllocVar;
    Boolean::new_witness(cs.clone(), || {
        value.ok_or(SynthesisError::AssignmentMissing)
    })
}

/// `a · b = c`.
///
/// # Errors
/// Only what the constraint system itself reports.
pub fn enforce(
    cs: &ConstraintSystemRef<Fr>,
    a: &Linear,
    b: &Linear,
    c: &Linear,
) -> Result<(), SynthesisError> {
    cs.enforce_r1cs_constraint(|| a.row(), || b.row(), || c.row())
}

/// `x = 0`. The row stands in matrix C alone, where a prover never evaluates it.
///
/// # Errors
/// Only what the constraint system itself reports.
pub fn enforce_zero(cs: &ConstraintSystemRef<Fr>, x: &Linear) -> Result<(), SynthesisError> {
    cs.enforce_r1cs_constraint(LinearCombination::zero, LinearCombination::zero, || x.row())
}

/// A fresh wire equal to `a · b`.
///
/// # Errors
/// Only what the constraint system itself reports.
pub fn product(
    cs: &ConstraintSystemRef<Fr>,
    a: &Linear,
    b: &Linear,
) -> Result<Linear, SynthesisError> {
    let result = witness(cs, a.value.zip(b.value).map(|(a, b)| a * b))?;
    enforce(cs, a, b, &result)?;
    Ok(result)
}

/// A fresh wire with `wire · divisor = dividend`.
///
/// # Soundness
/// It is the quotient only where the divisor is not zero, which the caller proves. 0 / 0 would leave it free.
///
/// # Errors
/// Only what the constraint system itself reports.
pub fn quotient(
    cs: &ConstraintSystemRef<Fr>,
    dividend: &Linear,
    divisor: &Linear,
) -> Result<Linear, SynthesisError> {
    let value = dividend
        .value
        .zip(divisor.value)
        .map(|(a, b)| a * b.inverse().unwrap_or(Fr::ZERO));
    let result = witness(cs, value)?;
    enforce(cs, &result, divisor, dividend)?;
    Ok(result)
}

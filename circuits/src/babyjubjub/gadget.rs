//! The curve as constraints.
//!
//! | gadget | constraints |
//! |---|---|
//! | [`PointVar::enforce_on_curve`] | 3 |
//! | [`PointVar::double`] | 5 |
//! | [`PointVar::add`], [`PointVar::enforce_sum`] | 6 |
//! | [`MontgomeryVar::from_edwards`], [`MontgomeryVar::to_edwards`] | 2 |
//! | [`MontgomeryVar::add`] | 3 |
//! | [`MontgomeryVar::double_and_add`] | 5 |
//!
//! # Soundness
//! a = 168700 is a square and d = 168696 is not, so the twisted Edwards law is complete: for any two points on the
//! curve, of any order, its denominators are not zero. The Montgomery law is not: each use of it says why no
//! denominator can vanish there.

use ark_bn254::Fr;
use ark_ec::twisted_edwards::{MontCurveConfig, TECurveConfig};
use ark_ff::Field;
use ark_relations::gr1cs::{ConstraintSystemRef, SynthesisError};

use super::{BabyJubjub, Point};
use crate::linear::{Linear, enforce, product, quotient, witness};

const A: Fr = <BabyJubjub as TECurveConfig>::COEFF_A;
const D: Fr = <BabyJubjub as TECurveConfig>::COEFF_D;
const MONTGOMERY_A: Fr = <BabyJubjub as MontCurveConfig>::COEFF_A;

/// Two wires; whether they are a point on the curve is for [`PointVar::enforce_on_curve`] to say.
#[derive(Clone, Debug)]
pub struct PointVar {
    /// x.
    pub x: Linear,
    /// y.
    pub y: Linear,
}

impl PointVar {
    /// A constant point.
    pub fn constant(point: &Point) -> Self {
        Self {
            x: Linear::constant(point.x),
            y: Linear::constant(point.y),
        }
    }

    /// The values of both coordinates.
    pub fn value(&self) -> Option<Point> {
        self.x
            .value()
            .zip(self.y.value())
            .map(|(x, y)| Point::new_unchecked(x, y))
    }

    /// a·x² + y² = 1 + d·x²·y².
    ///
    /// # Errors
    /// Only what the constraint system itself reports.
    pub fn enforce_on_curve(&self, cs: &ConstraintSystemRef<Fr>) -> Result<(), SynthesisError> {
        let xx = product(cs, &self.x, &self.x)?;
        let yy = product(cs, &self.y, &self.y)?;
        let right = Linear::sum([(A, &xx), (Fr::ONE, &yy)]).plus_constant(-Fr::ONE);
        enforce(cs, &xx.times(D), &yy, &right)
    }

    /// The inverse.
    pub fn negated(&self) -> Self {
        Self {
            x: self.x.negated(),
            y: self.y.clone(),
        }
    }

    /// Twice the point, for any point on the curve.
    ///
    /// # Errors
    /// Only what the constraint system itself reports.
    pub fn double(&self, cs: &ConstraintSystemRef<Fr>) -> Result<Self, SynthesisError> {
        let xx = product(cs, &self.x, &self.x)?;
        let yy = product(cs, &self.y, &self.y)?;
        let xy = product(cs, &self.x, &self.y)?;
        // On the curve these are 1 + d·x²·y² and 1 − d·x²·y²: the complete law's denominators.
        let sum = Linear::sum([(A, &xx), (Fr::ONE, &yy)]);
        let complement = Linear::constant(Fr::from(2u64)).minus(&sum);
        let x = quotient(cs, &xy.times(Fr::from(2u64)), &sum)?;
        let y = quotient(cs, &Linear::sum([(Fr::ONE, &yy), (-A, &xx)]), &complement)?;
        Ok(Self { x, y })
    }

    /// The sum of any two points on the curve.
    ///
    /// # Errors
    /// Only what the constraint system itself reports.
    pub fn add(&self, other: &Self, cs: &ConstraintSystemRef<Fr>) -> Result<Self, SynthesisError> {
        let parts = SumParts::new(self, other, cs)?;
        let x = quotient(cs, &parts.x_dividend, &parts.x_divisor)?;
        let y = quotient(cs, &parts.y_dividend, &parts.y_divisor)?;
        Ok(Self { x, y })
    }

    /// `self + other = sum`, for any two points on the curve; `sum` is thereby on the curve.
    ///
    /// # Errors
    /// Only what the constraint system itself reports.
    pub fn enforce_sum(
        &self,
        other: &Self,
        sum: &Self,
        cs: &ConstraintSystemRef<Fr>,
    ) -> Result<(), SynthesisError> {
        let parts = SumParts::new(self, other, cs)?;
        enforce(cs, &sum.x, &parts.x_divisor, &parts.x_dividend)?;
        enforce(cs, &sum.y, &parts.y_divisor, &parts.y_dividend)
    }
}

/// Numerators and denominators of the complete addition law.
struct SumParts {
    x_dividend: Linear,
    x_divisor: Linear,
    y_dividend: Linear,
    y_divisor: Linear,
}

impl SumParts {
    /// `x3 = (x1·y2 + y1·x2) / (1 + d·τ)`, `y3 = (y1·y2 − a·x1·x2) / (1 − d·τ)`, `τ = x1·x2·y1·y2`.
    fn new(
        p: &PointVar,
        q: &PointVar,
        cs: &ConstraintSystemRef<Fr>,
    ) -> Result<Self, SynthesisError> {
        let beta = product(cs, &p.x, &q.y)?;
        let gamma = product(cs, &p.y, &q.x)?;
        let delta = product(
            cs,
            &Linear::sum([(Fr::ONE, &p.y), (-A, &p.x)]),
            &q.x.plus(&q.y),
        )?;
        let tau = product(cs, &beta, &gamma)?;
        Ok(Self {
            x_dividend: beta.plus(&gamma),
            x_divisor: tau.times(D).plus_constant(Fr::ONE),
            y_dividend: Linear::sum([(Fr::ONE, &delta), (A, &beta), (-Fr::ONE, &gamma)]),
            y_divisor: tau.times(-D).plus_constant(Fr::ONE),
        })
    }
}

/// A point of the Montgomery form v² = u³ + 168698·u² + u. The identity has no such coordinates.
#[derive(Clone, Debug)]
pub struct MontgomeryVar {
    /// u = (1 + y)/(1 − y).
    pub u: Linear,
    /// v = u/x.
    pub v: Linear,
}

/// Hints for one [`MontgomeryVar::double_and_add`], computed for all steps at once.
#[derive(Clone, Copy, Debug, Default)]
pub struct StepHint {
    /// Slope through P and Q.
    pub lambda1: Fr,
    /// u of P + Q.
    pub u_sum: Fr,
    /// Slope through P and P + Q.
    pub lambda2: Fr,
    /// u of 2P + Q.
    pub u: Fr,
    /// v of 2P + Q.
    pub v: Fr,
}

impl MontgomeryVar {
    /// The Montgomery form of a point on the curve, which is thereby neither the identity nor (0, −1).
    ///
    /// # Soundness
    /// `u·(1 − y) = 1 + y` has no solution for y = 1, nor `v·x = u` with u = 0 a unique one for (0, −1): the caller
    /// must know that the point is not (0, −1), as every multiple of 8 is.
    ///
    /// # Errors
    /// Only what the constraint system itself reports.
    pub fn from_edwards(
        point: &PointVar,
        cs: &ConstraintSystemRef<Fr>,
    ) -> Result<Self, SynthesisError> {
        let one = Linear::constant(Fr::ONE);
        let u = quotient(cs, &one.plus(&point.y), &one.minus(&point.y))?;
        let v = quotient(cs, &u, &point.x)?;
        Ok(Self { u, v })
    }

    /// The twisted Edwards form.
    ///
    /// # Soundness
    /// v ≠ 0 and u ≠ −1 for every point of odd order but the identity, and the identity cannot be held; the caller
    /// must know that the order is odd.
    ///
    /// # Errors
    /// Only what the constraint system itself reports.
    pub fn to_edwards(&self, cs: &ConstraintSystemRef<Fr>) -> Result<PointVar, SynthesisError> {
        let x = quotient(cs, &self.u, &self.v)?;
        let y = quotient(
            cs,
            &self.u.plus_constant(-Fr::ONE),
            &self.u.plus_constant(Fr::ONE),
        )?;
        Ok(PointVar { x, y })
    }

    /// `self + other`, with the sum given as a hint.
    ///
    /// # Soundness
    /// Sound if the two are neither equal nor opposite, which the caller proves.
    ///
    /// # Errors
    /// Only what the constraint system itself reports.
    pub fn add(
        &self,
        other: &Self,
        hint: Option<(Fr, Fr, Fr)>,
        cs: &ConstraintSystemRef<Fr>,
    ) -> Result<Self, SynthesisError> {
        let lambda = witness(cs, hint.map(|hint| hint.0))?;
        let u = witness(cs, hint.map(|hint| hint.1))?;
        let v = witness(cs, hint.map(|hint| hint.2))?;
        enforce(
            cs,
            &lambda,
            &other.u.minus(&self.u),
            &other.v.minus(&self.v),
        )?;
        let square = Linear::sum([(Fr::ONE, &u), (Fr::ONE, &self.u), (Fr::ONE, &other.u)])
            .plus_constant(MONTGOMERY_A);
        enforce(cs, &lambda, &lambda, &square)?;
        enforce(cs, &lambda, &self.u.minus(&u), &v.plus(&self.v))?;
        Ok(Self { u, v })
    }

    /// `2·self + other` as `(self + other) + self`, without the middle point's second coordinate.
    ///
    /// # Soundness
    /// Sound if `self ≠ ±other` and `self` and `self + other` are not both of order 2, which the caller proves. If
    /// the result or `self + other` is the identity there is no solution.
    ///
    /// # Errors
    /// Only what the constraint system itself reports.
    pub fn double_and_add(
        &self,
        other: &Self,
        hint: Option<StepHint>,
        cs: &ConstraintSystemRef<Fr>,
    ) -> Result<Self, SynthesisError> {
        let lambda1 = witness(cs, hint.map(|hint| hint.lambda1))?;
        let u_sum = witness(cs, hint.map(|hint| hint.u_sum))?;
        let lambda2 = witness(cs, hint.map(|hint| hint.lambda2))?;
        let u = witness(cs, hint.map(|hint| hint.u))?;
        let v = witness(cs, hint.map(|hint| hint.v))?;
        let square = |u: &Linear, other: &Linear| {
            Linear::sum([(Fr::ONE, u), (Fr::ONE, &self.u), (Fr::ONE, other)])
                .plus_constant(MONTGOMERY_A)
        };
        enforce(
            cs,
            &lambda1,
            &self.u.minus(&other.u),
            &self.v.minus(&other.v),
        )?;
        enforce(cs, &lambda1, &lambda1, &square(&u_sum, &other.u))?;
        enforce(
            cs,
            &lambda1.plus(&lambda2),
            &self.u.minus(&u_sum),
            &self.v.times(Fr::from(2u64)),
        )?;
        enforce(cs, &lambda2, &lambda2, &square(&u, &u_sum))?;
        enforce(cs, &lambda2, &self.u.minus(&u), &v.plus(&self.v))?;
        Ok(Self { u, v })
    }
}

/// The Montgomery forms of many points with one inversion; (0, 0) for the identity and for (0, −1).
pub fn montgomery_all(points: &[super::ExtendedPoint]) -> Vec<(Fr, Fr)> {
    let mut inverses: Vec<Fr> = points.iter().map(|p| (p.z - p.y) * p.x).collect();
    ark_ff::batch_inversion(&mut inverses);
    let convert = |(p, inverse): (&super::ExtendedPoint, Fr)| {
        // u = (Z + Y)/(Z − Y), v = u·Z/X, with 1/((Z − Y)·X) at hand.
        let sum = p.z + p.y;
        (sum * inverse * p.x, sum * inverse * p.z)
    };
    points.iter().zip(inverses).map(convert).collect()
}

/// Quotients with one inversion; 0 where the divisor is 0.
pub fn divide_all(dividends: &[Fr], divisors: Vec<Fr>) -> Vec<Fr> {
    let mut inverses = divisors;
    ark_ff::batch_inversion(&mut inverses);
    dividends
        .iter()
        .zip(inverses)
        .map(|(dividend, inverse)| *dividend * inverse)
        .collect()
}

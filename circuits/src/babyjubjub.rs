//! BabyJubjub as circomlib has it: 168700·x² + y² = 1 + 168696·x²·y² over BN254's scalar field, cofactor 8.

pub mod gadget;
pub mod native;

use crate::field::serde_word;
use ark_bn254::Fr;
use ark_ec::CurveConfig;
use ark_ec::twisted_edwards::{Affine, MontCurveConfig, Projective, TECurveConfig};
use ark_ff::MontFp;
use serde::{Deserialize, Serialize};

/// The scalar field of the subgroup.
pub type Scalar = ark_ed_on_bn254::Fr;

/// circomlib's twisted Edwards form of the curve.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BabyJubjub;

impl CurveConfig for BabyJubjub {
    type BaseField = Fr;
    type ScalarField = Scalar;
    const COFACTOR: &'static [u64] = &[8];
    const COFACTOR_INV: Scalar = ark_ff::Fp::new(ark_ff::BigInt!(
        "2394026564107420727433200628387514462817212225638746351800188703329891451411"
    ));
}

impl TECurveConfig for BabyJubjub {
    const COEFF_A: Fr = MontFp!("168700");
    const COEFF_D: Fr = MontFp!("168696");
    const GENERATOR: Affine<Self> = Affine::new_unchecked(
        MontFp!("5299619240641551281634865583518297030282874472190772894086521144482721001553"),
        MontFp!("16950150798460657717958625567821834550301663161624707787222815936182638968203"),
    );
    type MontCurveConfig = Self;
}

impl MontCurveConfig for BabyJubjub {
    const COEFF_A: Fr = MontFp!("168698");
    const COEFF_B: Fr = MontFp!("1");
    type TECurveConfig = Self;
}

/// A point in affine coordinates.
pub type Point = Affine<BabyJubjub>;
/// A point in extended coordinates.
pub type ExtendedPoint = Projective<BabyJubjub>;

/// A public key: two words that may or may not be a point; verification checks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct PublicKey {
    /// A.x.
    #[serde(with = "serde_word")]
    pub x: Fr,
    /// A.y.
    #[serde(with = "serde_word")]
    pub y: Fr,
}

impl PublicKey {
    /// The point, if it is on the curve.
    pub fn point(&self) -> Option<Point> {
        let point = Point::new_unchecked(self.x, self.y);
        point.is_on_curve().then_some(point)
    }

    /// True for a point of the prime-order subgroup, which every honest key is.
    pub fn is_in_subgroup(&self) -> bool {
        self.point()
            .is_some_and(|point| point.is_in_correct_subgroup_assuming_on_curve())
    }
}

impl From<Point> for PublicKey {
    fn from(point: Point) -> Self {
        Self {
            x: point.x,
            y: point.y,
        }
    }
}

#[cfg(test)]
mod tests;

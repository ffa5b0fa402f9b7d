//! Points as the fast backend keeps them: coordinates in Montgomery form (times 2^256), zeros for infinity.
//!
//! arkworks' affine points ↔ [`G1Point`], [`G2Point`]. The bytes are those of a key file, so a file's section is such a
//! slice as it lies. Sums inside the kernels may hold coordinates up to three times the modulus.

use ark_bn254::Fr;
use ark_bn254::{Fq, G1Affine, G2Affine, g1, g2};
use ark_ec::AffineRepr;
use ark_ec::short_weierstrass::{Affine, SWCurveConfig};
use zeroize::DefaultIsZeroes;

/// A G1 point: x, y.
#[repr(C, align(64))]
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct G1Point(pub [u64; 8]);

/// A G2 point: x.c0, x.c1, y.c0, y.c1.
#[repr(C, align(128))]
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct G2Point(pub [u64; 16]);

impl DefaultIsZeroes for G1Point {}
impl DefaultIsZeroes for G2Point {}

/// A point in memory.
pub trait Packed:
    Copy + Send + Sync + Default + DefaultIsZeroes + PartialEq + std::fmt::Debug + 'static
{
    /// Its curve.
    type Curve: SWCurveConfig<ScalarField = Fr>;

    /// From arkworks' form.
    fn pack(point: &Affine<Self::Curve>) -> Self;

    /// Whether it is the point at infinity.
    fn is_infinity(&self) -> bool;
}

#[inline(always)]
fn put(words: &mut [u64], start: usize, value: &Fq) {
    words[start..start + 4].copy_from_slice(&value.0.0);
}

impl Packed for G1Point {
    type Curve = g1::Config;

    #[inline(always)]
    fn pack(point: &G1Affine) -> Self {
        let mut words = [0; 8];
        if let Some((x, y)) = point.xy() {
            put(&mut words, 0, &x);
            put(&mut words, 4, &y);
        }
        Self(words)
    }

    #[inline(always)]
    fn is_infinity(&self) -> bool {
        self.0.iter().fold(0, |all, word| all | word) == 0
    }
}

impl Packed for G2Point {
    type Curve = g2::Config;

    #[inline(always)]
    fn pack(point: &G2Affine) -> Self {
        let mut words = [0; 16];
        if let Some((x, y)) = point.xy() {
            put(&mut words, 0, &x.c0);
            put(&mut words, 4, &x.c1);
            put(&mut words, 8, &y.c0);
            put(&mut words, 12, &y.c1);
        }
        Self(words)
    }

    #[inline(always)]
    fn is_infinity(&self) -> bool {
        self.0.iter().fold(0, |all, word| all | word) == 0
    }
}

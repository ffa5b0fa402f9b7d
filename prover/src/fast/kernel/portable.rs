//! One lane of arkworks' field arithmetic: the kernel of every machine, and the one that others are tested against.

use super::{Kernel, NEGATIVE, Task, mulx, triple_b};
use crate::fast::point::{G1Point, G2Point, Packed, coordinate, g2_coordinates};
use crate::fast::transform::ScalarKernel;
use ark_bn254::{Fq, Fq2, Fr, g1, g2};
use ark_ec::short_weierstrass::Affine;
use ark_ff::{AdditiveGroup, Field, One, PrimeField, Zero};
use std::marker::PhantomData;

/// Arithmetic of the curve that the points are on.
pub struct Portable<P>(PhantomData<P>);

impl<P> Portable<P> {
    /// Works everywhere.
    pub fn new() -> Self {
        Self(PhantomData)
    }
}

impl<P> Default for Portable<P> {
    fn default() -> Self {
        Self::new()
    }
}

impl<P> Clone for Portable<P> {
    fn clone(&self) -> Self {
        *self
    }
}
impl<P> Copy for Portable<P> {}

/// A point whose coordinates arkworks can take apart.
pub trait Coordinates: Packed {
    /// x and y, below the modulus.
    fn coordinates(&self) -> [<Self::Curve as ark_ec::CurveConfig>::BaseField; 2];
}

impl Coordinates for G1Point {
    #[inline(always)]
    fn coordinates(&self) -> [Fq; 2] {
        [coordinate(&self.0[..4]), coordinate(&self.0[4..])]
    }
}

impl Coordinates for G2Point {
    #[inline(always)]
    fn coordinates(&self) -> [Fq2; 2] {
        g2_coordinates(self)
    }
}

/// Products whose code is compiled into the caller, unlike the library's for Fq2.
trait Product: Sized {
    fn product(&self, other: &Self) -> Self;
    fn square_product(&self) -> Self;
}

impl Product for Fq {
    #[inline(always)]
    fn product(&self, other: &Self) -> Self {
        *self * other
    }

    #[inline(always)]
    fn square_product(&self) -> Self {
        self.square()
    }
}

impl Product for Fq2 {
    /// Karatsuba's three products, with u² = −1.
    #[inline(always)]
    fn product(&self, other: &Self) -> Self {
        let (low, high) = (self.c0 * other.c0, self.c1 * other.c1);
        let both = (self.c0 + self.c1) * (other.c0 + other.c1);
        Self::new(low - high, both - low - high)
    }

    #[inline(always)]
    fn square_product(&self) -> Self {
        let cross = self.c0 * self.c1;
        let c0 = (self.c0 + self.c1) * (self.c0 - self.c1);
        Self::new(c0, cross.double())
    }
}

macro_rules! portable {
    ($point:ty, $field:ty, $curve:ty) => {
        impl Kernel for Portable<$point> {
            type Point = $point;
            type Element = $field;
            const LANES: usize = 1;
            const CHUNK: usize = 1024;

            #[inline(always)]
            fn enter<T: Task<Self>>(self, task: T) -> T::Output {
                mulx::enter(self, task)
            }

            fn zero(self) -> $field {
                <$field>::zero()
            }

            fn one(self) -> $field {
                <$field>::one()
            }

            fn scale(self) -> $field {
                <$field>::one()
            }

            fn triple_b(self) -> $field {
                triple_b::<$curve>()
            }

            fn prefetch(self, _points: &[$point], _entry: u32) {}

            #[inline(always)]
            fn load(self, points: &[$point], entries: &[u32], _step: usize) -> [$field; 2] {
                let entry = entries[0];
                let [x, y] = points[(entry & !NEGATIVE) as usize].coordinates();
                [x, if entry & NEGATIVE == 0 { y } else { -y }]
            }

            #[inline(always)]
            fn store(self, x: &$field, y: &$field, points: &mut [$point], at: &[u32]) {
                points[at[0] as usize] = <$point>::pack(&Affine::new_unchecked(*x, *y));
            }

            fn negate(self, point: &$point) -> $point {
                let [x, y] = point.coordinates();
                <$point>::pack(&Affine::new_unchecked(x, -y))
            }

            #[inline(always)]
            fn add(self, a: &$field, b: &$field) -> $field {
                *a + b
            }

            #[inline(always)]
            fn sub(self, a: &$field, b: &$field) -> $field {
                *a - b
            }

            #[inline(always)]
            fn mul(self, a: &$field, b: &$field) -> $field {
                a.product(b)
            }

            #[inline(always)]
            fn tighten(self, a: &$field) -> $field {
                *a
            }

            fn zero_lanes(self, a: &$field) -> u32 {
                u32::from(a.is_zero())
            }

            fn select(self, mask: u32, set: &$field, clear: &$field) -> $field {
                if mask == 0 { *clear } else { *set }
            }

            fn invert(self, a: &$field) -> Option<$field> {
                a.inverse()
            }

            fn tangent(self, x: &$field, y: &$field) -> [$field; 2] {
                let square = x.square();
                [square.double() + square, y.double()]
            }

            #[inline(always)]
            fn chord(
                self,
                rise: &$field,
                inverse: &$field,
                x1: &$field,
                x2: &$field,
                y1: &$field,
            ) -> [$field; 2] {
                let slope = rise.product(inverse);
                let x = slope.square_product() - x1 - x2;
                [x, slope.product(&(*x1 - x)) - y1]
            }

            fn lanes(self, a: &$field) -> Vec<$field> {
                vec![*a]
            }
        }
    };
}

portable!(G1Point, Fq, g1::Config);
portable!(G2Point, Fq2, g2::Config);

/// Scalars of arkworks, one at a time.
#[derive(Debug, Clone, Copy)]
pub struct PortableScalars;

impl ScalarKernel for PortableScalars {
    type Vector = Fr;
    type Factor = Fr;
    const LANES: usize = 1;

    #[inline(always)]
    fn enter<T: Task<Self>>(self, task: T) -> T::Output {
        mulx::enter(self, task)
    }

    #[inline(always)]
    fn load(self, values: &[Fr]) -> Fr {
        values[0]
    }

    #[inline(always)]
    fn integers(self, a: &Fr, integers: &mut [[u64; 4]]) {
        integers[0] = a.into_bigint().0;
    }

    #[inline(always)]
    fn factor(self, value: Fr) -> Fr {
        value
    }

    #[inline(always)]
    fn factors(self, values: &[Fr]) -> Fr {
        values[0]
    }

    #[inline(always)]
    fn spread(self, factor: &Fr) -> Fr {
        *factor
    }

    fn deficit(self) -> Fr {
        Fr::one()
    }

    #[inline(always)]
    fn add(self, a: &Fr, b: &Fr) -> Fr {
        *a + b
    }

    #[inline(always)]
    fn sub(self, a: &Fr, b: &Fr) -> Fr {
        *a - b
    }

    #[inline(always)]
    fn mul(self, a: &Fr, b: &Fr) -> Fr {
        *a * b
    }

    #[inline(always)]
    fn tighten(self, a: &Fr) -> Fr {
        *a
    }

    fn transpose(self, _tile: &mut [Fr]) {}
}

//! One lane of [`Residue`]s: the kernel of every machine, and one that others are tested against.

use super::residue::{Pair, Residue};
use super::{Kernel, NEGATIVE, Task, mulx, triple_b};
use crate::fast::point::{G1Point, G2Point};
use crate::fast::transform::ScalarKernel;
use ark_bn254::{Fq, Fq2, FqConfig, Fr, FrConfig, g1, g2};
use ark_ff::One;
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

/// A point whose coordinates are elements.
trait Coordinates<E> {
    fn coordinates(&self) -> [E; 2];
    fn of_coordinates(x: &E, y: &E) -> Self;
}

impl Coordinates<Residue<FqConfig>> for G1Point {
    #[inline(always)]
    fn coordinates(&self) -> [Residue<FqConfig>; 2] {
        [
            Residue::of_words(&self.0[..4]),
            Residue::of_words(&self.0[4..]),
        ]
    }

    #[inline(always)]
    fn of_coordinates(x: &Residue<FqConfig>, y: &Residue<FqConfig>) -> Self {
        let (x, y) = (x.words(), y.words());
        Self([x[0], x[1], x[2], x[3], y[0], y[1], y[2], y[3]])
    }
}

impl Coordinates<Pair> for G2Point {
    #[inline(always)]
    fn coordinates(&self) -> [Pair; 2] {
        let words = &self.0;
        let x = Pair {
            c0: Residue::of_words(&words[..4]),
            c1: Residue::of_words(&words[4..8]),
        };
        let y = Pair {
            c0: Residue::of_words(&words[8..12]),
            c1: Residue::of_words(&words[12..]),
        };
        [x, y]
    }

    #[inline(always)]
    fn of_coordinates(x: &Pair, y: &Pair) -> Self {
        let (x0, x1) = (x.c0.words(), x.c1.words());
        let (y0, y1) = (y.c0.words(), y.c1.words());
        Self([
            x0[0], x0[1], x0[2], x0[3], x1[0], x1[1], x1[2], x1[3], //
            y0[0], y0[1], y0[2], y0[3], y1[0], y1[1], y1[2], y1[3],
        ])
    }
}

macro_rules! portable {
    ($point:ty, $element:ty, $field:ty, $curve:ty, $square:expr) => {
        impl Kernel for Portable<$point> {
            type Point = $point;
            type Element = $element;
            const LANES: usize = 1;
            const CHUNK: usize = 1024;

            #[inline(always)]
            fn enter<T: Task<Self>>(self, task: T) -> T::Output {
                mulx::enter(self, task)
            }

            #[inline(always)]
            fn zero(self) -> $element {
                <$element>::ZERO
            }

            #[inline(always)]
            fn one(self) -> $element {
                <$element>::ONE
            }

            #[inline(always)]
            fn scale(self) -> $element {
                <$element>::ONE
            }

            fn triple_b(self) -> $element {
                <$element>::of_field(&triple_b::<$curve>())
            }

            #[inline(always)]
            fn prefetch(self, points: &[$point], entry: u32) {
                mulx::prefetch(&points[(entry & !NEGATIVE) as usize]);
            }

            #[inline(always)]
            fn load(self, points: &[$point], entries: &[u32], _step: usize) -> [$element; 2] {
                let entry = entries[0];
                let [x, y] = points[(entry & !NEGATIVE) as usize].coordinates();
                [x, y.opposite_if(entry & NEGATIVE != 0)]
            }

            #[inline(always)]
            fn store(self, x: &$element, y: &$element, points: &mut [$point], at: &[u32]) {
                points[at[0] as usize] = <$point>::of_coordinates(x, y);
            }

            fn negate(self, point: &$point) -> $point {
                let [x, y] = point.coordinates();
                <$point>::of_coordinates(&x, &y.opposite_if(true))
            }

            #[inline(always)]
            fn add(self, a: &$element, b: &$element) -> $element {
                a.plus(b)
            }

            #[inline(always)]
            fn sub(self, a: &$element, b: &$element) -> $element {
                a.minus(b)
            }

            #[inline(always)]
            fn mul(self, a: &$element, b: &$element) -> $element {
                a.product(b)
            }

            #[inline(always)]
            fn tighten(self, a: &$element) -> $element {
                *a
            }

            #[inline(always)]
            fn zero_lanes(self, a: &$element) -> u32 {
                u32::from(a.is_zero())
            }

            #[inline(always)]
            fn select(self, mask: u32, set: &$element, clear: &$element) -> $element {
                if mask == 0 { *clear } else { *set }
            }

            fn invert(self, a: &$element) -> Option<$element> {
                a.inverse()
            }

            fn tangent(self, x: &$element, y: &$element) -> [$element; 2] {
                let square = $square(x);
                [square.plus(&square).plus(&square), y.plus(y)]
            }

            #[inline(always)]
            fn chord(
                self,
                rise: &$element,
                inverse: &$element,
                x1: &$element,
                x2: &$element,
                y1: &$element,
            ) -> [$element; 2] {
                let slope = rise.product(inverse);
                let x = $square(&slope).minus(x1).minus(x2);
                [x, slope.product(&x1.minus(&x)).minus(y1)]
            }

            fn lanes(self, a: &$element) -> Vec<$field> {
                vec![a.field()]
            }
        }
    };
}

portable!(G1Point, Residue<FqConfig>, Fq, g1::Config, |a: &Residue<
    FqConfig,
>| a.product(a));
portable!(G2Point, Pair, Fq2, g2::Config, Pair::square);

/// Residues modulo the scalar field's modulus, one at a time.
#[derive(Debug, Clone, Copy)]
pub struct PortableScalars;

/// One scalar.
type Scalar = Residue<FrConfig>;

impl ScalarKernel for PortableScalars {
    type Vector = Scalar;
    type Factor = Scalar;
    const LANES: usize = 1;

    #[inline(always)]
    fn enter<T: Task<Self>>(self, task: T) -> T::Output {
        mulx::enter(self, task)
    }

    #[inline(always)]
    fn load(self, values: &[Fr]) -> Scalar {
        Scalar::of_field(&values[0])
    }

    #[inline(always)]
    fn integers(self, a: &Scalar, integers: &mut [[u64; 4]]) {
        integers[0] = a.integer();
    }

    #[inline(always)]
    fn factor(self, value: Fr) -> Scalar {
        Scalar::of_field(&value)
    }

    #[inline(always)]
    fn factors(self, values: &[Fr]) -> Scalar {
        Scalar::of_field(&values[0])
    }

    #[inline(always)]
    fn spread(self, factor: &Scalar) -> Scalar {
        *factor
    }

    fn deficit(self) -> Fr {
        Fr::one()
    }

    #[inline(always)]
    fn add(self, a: &Scalar, b: &Scalar) -> Scalar {
        a.plus(b)
    }

    #[inline(always)]
    fn sub(self, a: &Scalar, b: &Scalar) -> Scalar {
        a.minus(b)
    }

    #[inline(always)]
    fn mul(self, a: &Scalar, b: &Scalar) -> Scalar {
        a.product(b)
    }

    #[inline(always)]
    fn tighten(self, a: &Scalar) -> Scalar {
        *a
    }

    fn transpose(self, _tile: &mut [Scalar]) {}
}

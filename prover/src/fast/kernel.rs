//! What the multi-scalar multiplication needs of a field and a curve, a few points ("lanes") at a time.
//!
//! | kernel | lanes | field |
//! |---|---|---|
//! | [`portable`] | 1 | [`residue`] |
//! | [`ifma`] | 8 | AVX-512 IFMA, radix 2^52 |
//!
//! The algorithms above are written once, over [`Kernel`], and compiled for each with [`Kernel::enter`].
//!
//! # Bounds
//! Kernels may keep values above the modulus p. A *tight* value is at most 3p, a *wide* one at most 8p:
//!
//! | operation | operands | result |
//! |---|---|---|
//! | `mul(a, b)` | a wide, b tight | at most 1.7p, so tight |
//! | `square(a)` | tight | at most 1.7p |
//! | `add(a, b)` | sum at most 8p | wide |
//! | `sub(a, b)` | tight, or a products' sum | wide: a − b + 4p |
//! | `tighten(a)` | at most 10p | at most 2.3p |

use super::point::Packed;
use ark_ec::short_weierstrass::SWCurveConfig;

#[cfg(target_arch = "x86_64")]
pub mod ifma;
mod mulx;
pub mod portable;
pub mod residue;

/// Marks an entry of an order whose point is to be negated; the other bits are its index.
pub const NEGATIVE: u32 = 1 << 31;

/// The coordinates' field of a kernel's curve.
pub type BaseField<K> = <<<K as Kernel>::Point as Packed>::Curve as ark_ec::CurveConfig>::BaseField;

/// Work that runs with a kernel's instructions enabled.
pub trait Task<K> {
    /// Its result.
    type Output;

    /// Does the work. Implementations are `#[inline(always)]`, so that they are compiled with the kernel's instructions.
    fn run(self, kernel: K) -> Self::Output;
}

/// Arithmetic on [`Kernel::LANES`] points of a curve at a time.
///
/// Coordinates are held times a scale s, the same for all: (s·x, s·y). That is what a kernel whose Montgomery radix is not
/// 2^256 sees in points that lie in memory in arkworks' form.
pub trait Kernel: Copy + Send + Sync + 'static {
    /// A point in memory.
    type Point: Packed;
    /// A field element in each lane.
    type Element: Copy + Send;

    /// Points handled at a time.
    const LANES: usize;
    /// Groups of lanes that share one inversion: enough to make it cheap, few enough for the second-level cache.
    const CHUNK: usize;

    /// Runs work with this kernel's instructions.
    fn enter<T: Task<Self>>(self, task: T) -> T::Output;

    /// Zero in each lane.
    fn zero(self) -> Self::Element;
    /// One in each lane.
    fn one(self) -> Self::Element;
    /// The scale s in each lane.
    fn scale(self) -> Self::Element;
    /// Three times the curve's constant b in each lane.
    fn triple_b(self) -> Self::Element;

    /// Asks for a point that will be loaded soon.
    fn prefetch(self, points: &[Self::Point], entry: u32);
    /// Loads the points of `LANES` entries, every `step`-th, negated where marked. Infinity loads as zeros.
    fn load(self, points: &[Self::Point], entries: &[u32], step: usize) -> [Self::Element; 2];
    /// Stores tight coordinates as points at the given positions.
    fn store(self, x: &Self::Element, y: &Self::Element, points: &mut [Self::Point], at: &[u32]);
    /// The opposite of a finite point in memory.
    fn negate(self, point: &Self::Point) -> Self::Point;

    /// a + b.
    fn add(self, a: &Self::Element, b: &Self::Element) -> Self::Element;
    /// a − b.
    fn sub(self, a: &Self::Element, b: &Self::Element) -> Self::Element;
    /// a·b.
    fn mul(self, a: &Self::Element, b: &Self::Element) -> Self::Element;
    /// Makes a value tight.
    fn tighten(self, a: &Self::Element) -> Self::Element;
    /// Lanes (as bits) where a wide value is zero modulo p.
    fn zero_lanes(self, a: &Self::Element) -> u32;
    /// Lane by lane `set` where the mask has a bit, else `clear`.
    fn select(self, mask: u32, set: &Self::Element, clear: &Self::Element) -> Self::Element;

    /// Inverts each lane, in the scaling that [`Kernel::chord`] takes; nothing if any lane is zero.
    fn invert(self, a: &Self::Element) -> Option<Self::Element>;
    /// Rise and run of the tangent in (x, y).
    fn tangent(self, x: &Self::Element, y: &Self::Element) -> [Self::Element; 2];
    /// The third point of the line through (x1, y1) and x2, mirrored: the sum. The slope is rise · inverted run.
    fn chord(
        self,
        rise: &Self::Element,
        inverse: &Self::Element,
        x1: &Self::Element,
        x2: &Self::Element,
        y1: &Self::Element,
    ) -> [Self::Element; 2];

    /// The lanes in arkworks' form, up to a factor common to all values.
    fn lanes(self, a: &Self::Element) -> Vec<BaseField<Self>>;
}

/// 3b of a curve.
pub(super) fn triple_b<C: SWCurveConfig>() -> C::BaseField {
    C::COEFF_B + C::COEFF_B + C::COEFF_B
}

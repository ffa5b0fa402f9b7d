//! Eight lanes of AVX-512 IFMA: the kernel for processors that multiply 52-bit integers eight at a time.
//!
//! [`Ifma::detect`] → [`field`] (residues modulo p or r) → [`IfmaG1`], [`IfmaG2`] (points)
//!
//! A residue is five limbs of 52 bits, Montgomery radix 2^260. Points lie in memory with radix 2^256, which reads as
//! coordinates times s = 2^−4; an affine addition then takes slopes times 2^−2, which the inversion delivers for nothing:
//! x₃ = (λ/4)² − x₁ − x₂ and y₃ = 4·(λ/4)·(x₁ − x₃) − y₁ in scaled coordinates.

use super::{Kernel, NEGATIVE, Task, triple_b};
use crate::fast::point::{G1Point, G2Point};
use crate::fast::transform::ScalarKernel;
use ark_bn254::{Fq, Fq2, Fr, g1, g2};
use ark_ff::{Field, MontFp, One, Zero};
use std::arch::x86_64::__m512i;

pub mod field;

pub use field::{Ifma, Limbs, Modulus};

/// Turns arkworks' inverse of a residue's limbs into the inverse's limbs over four: 2^(2·260 − 2·256 − 2) = 2^6.
const INVERSE_SCALE: Fq = MontFp!("64");
/// Radix 2^260 from radix 2^256: a factor 2^4.
const RADIX_SCALE: Fq = MontFp!("16");

/// G1, eight points at a time.
#[derive(Clone, Copy)]
pub struct IfmaG1(pub Ifma);

/// G2, eight points at a time.
#[derive(Clone, Copy)]
pub struct IfmaG2(pub Ifma);

/// The signs of eight entries as bits.
#[inline(always)]
fn signs(entries: &[u32], step: usize) -> u8 {
    let mut bits = 0;
    for lane in 0..8 {
        bits |= ((entries[lane * step] >> 31) as u8) << lane;
    }
    bits
}

impl Kernel for IfmaG1 {
    type Point = G1Point;
    type Element = Limbs;
    const LANES: usize = 8;
    const CHUNK: usize = 512;

    #[inline(always)]
    fn enter<T: Task<Self>>(self, task: T) -> T::Output {
        self.0.enter(self, task)
    }

    #[inline(always)]
    fn zero(self) -> Limbs {
        self.0.zero()
    }

    #[inline(always)]
    fn one(self) -> Limbs {
        self.0.constant(Fq::one() * RADIX_SCALE)
    }

    #[inline(always)]
    fn scale(self) -> Limbs {
        self.0.constant(Fq::one())
    }

    #[inline(always)]
    fn triple_b(self) -> Limbs {
        self.0.constant(triple_b::<g1::Config>() * RADIX_SCALE)
    }

    #[inline(always)]
    fn prefetch(self, points: &[G1Point], entry: u32) {
        self.0.prefetch(&points[(entry & !NEGATIVE) as usize]);
    }

    #[inline(always)]
    fn load(self, points: &[G1Point], entries: &[u32], step: usize) -> [Limbs; 2] {
        let k = self.0;
        let mut rows = [k.splat(0); 8];
        for lane in 0..8 {
            let index = entries[lane * step] & !NEGATIVE;
            rows[lane] = k.load(&points[index as usize].0);
        }
        let [x, y] = k.unpack(rows);
        [x, k.negate_where::<Fq>(signs(entries, step), &y)]
    }

    #[inline(always)]
    fn store(self, x: &Limbs, y: &Limbs, points: &mut [G1Point], at: &[u32]) {
        let rows = self.0.pack(x, y);
        for lane in 0..8 {
            self.0.store(rows[lane], &mut points[at[lane] as usize].0);
        }
    }

    fn negate(self, point: &G1Point) -> G1Point {
        let mut negated = *point;
        field::negate_words::<Fq>(&mut negated.0[4..]);
        negated
    }

    #[inline(always)]
    fn add(self, a: &Limbs, b: &Limbs) -> Limbs {
        self.0.add(a, b)
    }

    #[inline(always)]
    fn sub(self, a: &Limbs, b: &Limbs) -> Limbs {
        self.0.sub::<Fq>(a, b)
    }

    #[inline(always)]
    fn mul(self, a: &Limbs, b: &Limbs) -> Limbs {
        self.0.mul::<Fq>(a, b)
    }

    #[inline(always)]
    fn tighten(self, a: &Limbs) -> Limbs {
        self.0.tighten::<Fq>(a)
    }

    #[inline(always)]
    fn zero_lanes(self, a: &Limbs) -> u32 {
        u32::from(self.0.zero_lanes::<Fq>(a))
    }

    #[inline(always)]
    fn select(self, mask: u32, set: &Limbs, clear: &Limbs) -> Limbs {
        self.0.select(mask as u8, set, clear)
    }

    fn invert(self, a: &Limbs) -> Option<Limbs> {
        let inverses = invert_all(self.0.to_fields::<Fq>(a))?;
        Some(
            self.0
                .of_fields(inverses.map(|i| i * INVERSE_SCALE).each_ref()),
        )
    }

    #[inline(always)]
    fn tangent(self, x: &Limbs, y: &Limbs) -> [Limbs; 2] {
        let k = self.0;
        // 3·(x/s)² / (2·y/s)·s: the square is divided by s once more than the chord's rise is.
        let rise = k.mul::<Fq>(&k.square::<Fq>(x), &k.constant(tangent_factor()));
        [rise, k.add(y, y)]
    }

    #[inline(always)]
    fn chord(
        self,
        rise: &Limbs,
        inverse: &Limbs,
        x1: &Limbs,
        x2: &Limbs,
        y1: &Limbs,
    ) -> [Limbs; 2] {
        let k = self.0;
        let slope = k.mul::<Fq>(rise, inverse);
        let x = k.third_x::<Fq>(&k.square::<Fq>(&slope), x1, x2);
        let product = k.mul::<Fq>(&k.sub::<Fq>(x1, &x), &slope);
        [x, k.third_y::<Fq>(&product, y1)]
    }

    fn lanes(self, a: &Limbs) -> Vec<Fq> {
        self.0.to_fields::<Fq>(a).to_vec()
    }
}

/// 3/s in radix 2^260: 3 · 2^4 · 2^4 for arkworks' radix.
fn tangent_factor() -> Fq {
    Fq::from(3u64) * RADIX_SCALE * RADIX_SCALE
}

/// Eight inverses for one inversion; nothing if a value is zero.
fn invert_all<F: Field>(values: [F; 8]) -> Option<[F; 8]> {
    let mut prefixes = [F::one(); 8];
    let mut product = F::one();
    for (prefix, value) in prefixes.iter_mut().zip(&values) {
        *prefix = product;
        product *= value;
    }
    let mut inverse = product.inverse()?;
    for (prefix, value) in prefixes.iter_mut().zip(&values).rev() {
        *prefix *= inverse;
        inverse *= value;
    }
    Some(prefixes)
}

/// Elements of Fq2: c0 and c1.
pub type Pair = [Limbs; 2];

impl IfmaG2 {
    #[inline(always)]
    fn constant(self, value: Fq2) -> Pair {
        [self.0.constant(value.c0), self.0.constant(value.c1)]
    }

    /// The square of a tight value: (c0 + c1)(c0 − c1) + 2·c0·c1·u.
    #[inline(always)]
    fn square(self, a: &Pair) -> Pair {
        let k = self.0;
        let difference = k.sub::<Fq>(&a[0], &a[1]);
        let c0 = k.mul::<Fq>(&difference, &k.add(&a[0], &a[1]));
        [c0, k.mul::<Fq>(&k.add(&a[0], &a[0]), &a[1])]
    }
}

impl Kernel for IfmaG2 {
    type Point = G2Point;
    type Element = Pair;
    const LANES: usize = 8;
    const CHUNK: usize = 256;

    #[inline(always)]
    fn enter<T: Task<Self>>(self, task: T) -> T::Output {
        self.0.enter(self, task)
    }

    #[inline(always)]
    fn zero(self) -> Pair {
        [self.0.zero(); 2]
    }

    #[inline(always)]
    fn one(self) -> Pair {
        self.constant(Fq2::new(RADIX_SCALE, Fq::zero()))
    }

    #[inline(always)]
    fn scale(self) -> Pair {
        self.constant(Fq2::one())
    }

    #[inline(always)]
    fn triple_b(self) -> Pair {
        let mut b = triple_b::<g2::Config>();
        b.mul_assign_by_fp(&RADIX_SCALE);
        self.constant(b)
    }

    #[inline(always)]
    fn prefetch(self, points: &[G2Point], entry: u32) {
        let point = &points[(entry & !NEGATIVE) as usize];
        self.0.prefetch(&point.0[0]);
        self.0.prefetch(&point.0[8]);
    }

    #[inline(always)]
    fn load(self, points: &[G2Point], entries: &[u32], step: usize) -> [Pair; 2] {
        let k = self.0;
        let mut rows = [[k.splat(0); 8]; 2];
        for lane in 0..8 {
            let index = entries[lane * step] & !NEGATIVE;
            let (low, high) = points[index as usize].0.split_at(8);
            rows[0][lane] = k.load(low);
            rows[1][lane] = k.load(high);
        }
        let signs = signs(entries, step);
        let [c0, c1] = k.unpack(rows[1]);
        let y = [
            k.negate_where::<Fq>(signs, &c0),
            k.negate_where::<Fq>(signs, &c1),
        ];
        [k.unpack(rows[0]), y]
    }

    #[inline(always)]
    fn store(self, x: &Pair, y: &Pair, points: &mut [G2Point], at: &[u32]) {
        let rows: [[__m512i; 8]; 2] = [self.0.pack(&x[0], &x[1]), self.0.pack(&y[0], &y[1])];
        for lane in 0..8 {
            let (low, high) = points[at[lane] as usize].0.split_at_mut(8);
            self.0.store(rows[0][lane], low);
            self.0.store(rows[1][lane], high);
        }
    }

    fn negate(self, point: &G2Point) -> G2Point {
        let mut negated = *point;
        field::negate_words::<Fq>(&mut negated.0[8..12]);
        field::negate_words::<Fq>(&mut negated.0[12..]);
        negated
    }

    #[inline(always)]
    fn add(self, a: &Pair, b: &Pair) -> Pair {
        [self.0.add(&a[0], &b[0]), self.0.add(&a[1], &b[1])]
    }

    #[inline(always)]
    fn sub(self, a: &Pair, b: &Pair) -> Pair {
        [
            self.0.sub::<Fq>(&a[0], &b[0]),
            self.0.sub::<Fq>(&a[1], &b[1]),
        ]
    }

    #[inline(always)]
    fn mul(self, a: &Pair, b: &Pair) -> Pair {
        let k = self.0;
        // Four products into two reductions: as many instructions as three products, and fewer registers.
        let opposite = k.opposite::<Fq>(&b[1]);
        let c0 = k.mul_add::<Fq>(&a[0], &b[0], &a[1], &opposite);
        [c0, k.mul_add::<Fq>(&a[0], &b[1], &a[1], &b[0])]
    }

    #[inline(always)]
    fn tighten(self, a: &Pair) -> Pair {
        [self.0.tighten::<Fq>(&a[0]), self.0.tighten::<Fq>(&a[1])]
    }

    #[inline(always)]
    fn zero_lanes(self, a: &Pair) -> u32 {
        u32::from(self.0.zero_lanes::<Fq>(&a[0]) & self.0.zero_lanes::<Fq>(&a[1]))
    }

    #[inline(always)]
    fn select(self, mask: u32, set: &Pair, clear: &Pair) -> Pair {
        let mask = mask as u8;
        [
            self.0.select(mask, &set[0], &clear[0]),
            self.0.select(mask, &set[1], &clear[1]),
        ]
    }

    fn invert(self, a: &Pair) -> Option<Pair> {
        let mut inverses = invert_all(self.fields(a))?;
        for inverse in &mut inverses {
            inverse.mul_assign_by_fp(&INVERSE_SCALE);
        }
        Some([
            self.0.of_fields(inverses.each_ref().map(|i| &i.c0)),
            self.0.of_fields(inverses.each_ref().map(|i| &i.c1)),
        ])
    }

    #[inline(always)]
    fn tangent(self, x: &Pair, y: &Pair) -> [Pair; 2] {
        let k = self.0;
        let factor = k.constant(tangent_factor());
        let square = self.square(x);
        let rise = [
            k.mul::<Fq>(&square[0], &factor),
            k.mul::<Fq>(&square[1], &factor),
        ];
        [rise, [k.add(&y[0], &y[0]), k.add(&y[1], &y[1])]]
    }

    #[inline(always)]
    fn chord(self, rise: &Pair, inverse: &Pair, x1: &Pair, x2: &Pair, y1: &Pair) -> [Pair; 2] {
        let k = self.0;
        let slope = self.mul(rise, inverse);
        let square = self.square(&slope);
        let x = [
            k.third_x::<Fq>(&square[0], &x1[0], &x2[0]),
            k.third_x::<Fq>(&square[1], &x1[1], &x2[1]),
        ];
        let product = self.mul(&self.sub(x1, &x), &slope);
        let y = [
            k.third_y::<Fq>(&product[0], &y1[0]),
            k.third_y::<Fq>(&product[1], &y1[1]),
        ];
        [x, y]
    }

    fn lanes(self, a: &Pair) -> Vec<Fq2> {
        self.fields(a).to_vec()
    }
}

impl IfmaG2 {
    fn fields(self, a: &Pair) -> [Fq2; 8] {
        let [c0, c1] = [0, 1].map(|c| self.0.to_fields::<Fq>(&a[c]));
        std::array::from_fn(|lane| Fq2::new(c0[lane], c1[lane]))
    }
}

/// Scalars, eight at a time.
#[derive(Debug, Clone, Copy)]
pub struct IfmaScalars(pub Ifma);

/// Radix 2^260 from radix 2^256: a factor 2^4.
const SCALAR_RADIX_SCALE: Fr = MontFp!("16");

impl ScalarKernel for IfmaScalars {
    type Vector = Limbs;
    type Factor = [u64; 5];
    const LANES: usize = 8;

    #[inline(always)]
    fn enter<T: Task<Self>>(self, task: T) -> T::Output {
        self.0.enter(self, task)
    }

    fn load(self, values: &[Fr]) -> Limbs {
        self.0.of_fields(std::array::from_fn(|lane| &values[lane]))
    }

    #[inline(always)]
    fn integers(self, a: &Limbs, integers: &mut [[u64; 4]]) {
        // Arkworks' form times 2^4 over 2^260 is the value itself.
        let unit = self.0.constant(Fr::of_words([16, 0, 0, 0]));
        self.0
            .to_integers::<Fr>(&self.0.mul::<Fr>(a, &unit), integers);
    }

    fn factor(self, value: Fr) -> [u64; 5] {
        field::limbs_of(value * SCALAR_RADIX_SCALE)
    }

    fn factors(self, values: &[Fr]) -> Limbs {
        let scaled: [Fr; 8] =
            std::array::from_fn(|lane| values[lane % values.len()] * SCALAR_RADIX_SCALE);
        self.0.of_fields(scaled.each_ref())
    }

    #[inline(always)]
    fn spread(self, factor: &[u64; 5]) -> Limbs {
        self.0.splat_limbs(factor)
    }

    fn deficit(self) -> Fr {
        SCALAR_RADIX_SCALE
    }

    #[inline(always)]
    fn add(self, a: &Limbs, b: &Limbs) -> Limbs {
        self.0.add(a, b)
    }

    #[inline(always)]
    fn sub(self, a: &Limbs, b: &Limbs) -> Limbs {
        self.0.sub::<Fr>(a, b)
    }

    #[inline(always)]
    fn mul(self, a: &Limbs, b: &Limbs) -> Limbs {
        self.0.mul::<Fr>(a, b)
    }

    #[inline(always)]
    fn tighten(self, a: &Limbs) -> Limbs {
        self.0.tighten::<Fr>(a)
    }

    #[inline(always)]
    fn transpose(self, tile: &mut [Limbs]) {
        for limb in 0..5 {
            let mut rows = [self.0.splat(0); 8];
            for i in 0..8 {
                rows[i] = tile[i][limb];
            }
            let columns = self.0.transpose(rows);
            for i in 0..8 {
                tile[i][limb] = columns[i];
            }
        }
    }
}

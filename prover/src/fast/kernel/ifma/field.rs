//! Residues modulo a 254-bit prime, eight at a time: five limbs of 52 bits, Montgomery radix 2^260.
//!
//! words in memory (4 × 64 bits) → `unpack` → five limbs → `mul`, `add`, `sub` → `tighten` → `pack` → words
//!
//! # Bounds
//! With R = 2^260 > 84p a product of factors a and b comes out below ab/R + p: for ab ≤ 84p² it is below 2p and needs no
//! final subtraction. Limbs between operations are normalised (0 ≤ limb < 2^52), because the multiplier reads 52 bits only.
//! [`super::super`] names the bounds of each operation.
//!
//! # Safety
//! This is the one file with `unsafe`: intrinsics, and loads and stores through references to whole rows. [`Ifma`] can only
//! be had from [`Ifma::detect`], so whoever holds one runs on a processor with the instructions.
//!
//! # Speed
//! The instructions become single instructions only inside [`Ifma::enter`], and only what is `#[inline(always)]` is sure to
//! be compiled into it: no closures and no iterator adapters on the way there.
#![allow(unsafe_code)]

use crate::fast::kernel::Task;
use ark_bn254::{Fq, Fr};
use ark_ff::{BigInt, PrimeField};
use std::arch::x86_64::*;

/// Five limbs in each of eight lanes.
pub type Limbs = [__m512i; 5];

const MASK: u64 = (1 << 52) - 1;

/// Proof that the processor has the instructions used here.
#[derive(Debug, Clone, Copy)]
pub struct Ifma(());

/// A prime below 2^254 and above 2^253, with its constants.
pub trait Modulus: PrimeField<BigInt = BigInt<4>> {
    /// Small multiples of it, and −1/p modulo 2^52.
    const CONSTANTS: Constants;

    /// From Montgomery form with radix 2^256.
    fn of_words(words: [u64; 4]) -> Self;

    /// Montgomery form with radix 2^256.
    fn words(&self) -> [u64; 4];
}

/// What the kernels need of a prime.
pub struct Constants {
    words: [u64; 4],
    p: [u64; 5],
    /// −1/p modulo 2^52.
    inverse: u64,
    triple: [u64; 5],
    quadruple: [u64; 5],
    sextuple: [u64; 5],
    /// For k = 0 … 7 the largest multiple of p not above k·2^254, limb by limb.
    floors: [[u64; 8]; 5],
}

/// The multiples of p not above k·2^254: p lies between 2^254/1.33 and 2^254/1.32.
const FLOORS: [u64; 8] = [0, 1, 2, 3, 5, 6, 7, 9];

const fn split(words: [u64; 5]) -> [u64; 5] {
    let [a, b, c, d, e] = words;
    [
        a & MASK,
        ((a >> 52) | (b << 12)) & MASK,
        ((b >> 40) | (c << 24)) & MASK,
        ((c >> 28) | (d << 36)) & MASK,
        (d >> 16) | (e << 48),
    ]
}

const fn times(words: [u64; 4], factor: u64) -> [u64; 5] {
    let mut product = [0; 5];
    let mut carry = 0u128;
    let mut i = 0;
    while i < 4 {
        carry += words[i] as u128 * factor as u128;
        product[i] = carry as u64;
        carry >>= 64;
        i += 1;
    }
    product[4] = carry as u64;
    product
}

impl Constants {
    const fn of(words: [u64; 4]) -> Self {
        let p = split(times(words, 1));
        let mut floors = [[0; 8]; 5];
        let mut k = 0;
        while k < 8 {
            let multiple = times(words, FLOORS[k]);
            let above = times(words, FLOORS[k] + 1);
            // FLOORS[k]·p ≤ k·2^254 < (FLOORS[k] + 1)·p, by the words above bit 192.
            let bound = (k as u128) << 62;
            assert!(((multiple[4] as u128) << 64 | multiple[3] as u128) < bound || k == 0);
            assert!(((above[4] as u128) << 64 | above[3] as u128) > bound);
            let limbs = split(multiple);
            let mut i = 0;
            while i < 5 {
                floors[i][k] = limbs[i];
                i += 1;
            }
            k += 1;
        }
        let mut inverse = 1u64;
        let mut step = 0;
        while step < 6 {
            inverse = inverse.wrapping_mul(2u64.wrapping_sub(p[0].wrapping_mul(inverse)));
            step += 1;
        }
        Self {
            words,
            p,
            inverse: inverse.wrapping_neg() & MASK,
            triple: split(times(words, 3)),
            quadruple: split(times(words, 4)),
            sextuple: split(times(words, 6)),
            floors,
        }
    }
}

macro_rules! modulus {
    ($field:ty) => {
        impl Modulus for $field {
            const CONSTANTS: Constants = Constants::of(<$field>::MODULUS.0);

            fn of_words(words: [u64; 4]) -> Self {
                Self::new_unchecked(BigInt(words))
            }

            fn words(&self) -> [u64; 4] {
                self.0.0
            }
        }
    };
}
modulus!(Fq);
modulus!(Fr);

/// 3p − a for a coordinate of at most 3p in memory.
pub fn negate_words<M: Modulus>(words: &mut [u64]) {
    let triple = times(M::CONSTANTS.words, 3);
    let mut borrow = false;
    for (word, limb) in words.iter_mut().zip(triple) {
        let (difference, first) = limb.overflowing_sub(*word);
        let (difference, second) = difference.overflowing_sub(u64::from(borrow));
        *word = difference;
        borrow = first || second;
    }
}

/// Wraps intrinsics as safe methods of the token.
macro_rules! instructions {
    ($($name:ident($($argument:ident: $type:ty),*) -> $result:ty = $body:expr;)*) => {
        impl Ifma {
            $(#[inline(always)]
            fn $name(self, $($argument: $type),*) -> $result {
                // SAFETY: the instructions are there, or there would be no `Ifma`; these take and give values only.
                unsafe { $body }
            })*
        }
    };
}

instructions! {
    madd_low(sum: __m512i, a: __m512i, b: __m512i) -> __m512i = _mm512_madd52lo_epu64(sum, a, b);
    madd_high(sum: __m512i, a: __m512i, b: __m512i) -> __m512i = _mm512_madd52hi_epu64(sum, a, b);
    plus(a: __m512i, b: __m512i) -> __m512i = _mm512_add_epi64(a, b);
    minus(a: __m512i, b: __m512i) -> __m512i = _mm512_sub_epi64(a, b);
    and(a: __m512i, b: __m512i) -> __m512i = _mm512_and_si512(a, b);
    or(a: __m512i, b: __m512i) -> __m512i = _mm512_or_si512(a, b);
    carry(a: __m512i) -> __m512i = _mm512_srai_epi64::<52>(a);
    blend(mask: u8, set: __m512i, clear: __m512i) -> __m512i = _mm512_mask_mov_epi64(clear, mask, set);
    equal(a: __m512i, b: __m512i) -> u8 = _mm512_cmpeq_epi64_mask(a, b);
    lookup(index: __m512i, table: __m512i) -> __m512i = _mm512_permutexvar_epi64(index, table);
    interleave_low(a: __m512i, b: __m512i) -> __m512i = _mm512_unpacklo_epi64(a, b);
    interleave_high(a: __m512i, b: __m512i) -> __m512i = _mm512_unpackhi_epi64(a, b);
    even_quarters(a: __m512i, b: __m512i) -> __m512i = _mm512_shuffle_i64x2::<0x88>(a, b);
    odd_quarters(a: __m512i, b: __m512i) -> __m512i = _mm512_shuffle_i64x2::<0xdd>(a, b);
    zeros() -> __m512i = _mm512_setzero_si512();
    broadcast(value: u64) -> __m512i = _mm512_set1_epi64(value as i64);
}

macro_rules! shifts {
    ($($name:ident($($argument:ident),*) = $body:expr;)*) => {
        impl Ifma {
            $(#[inline(always)]
            fn $name<const BITS: u32>(self, $($argument: __m512i),*) -> __m512i {
                // SAFETY: the instructions are there, or there would be no `Ifma`; these take and give values only.
                unsafe { $body }
            })*
        }
    };
}

shifts! {
    up(a) = _mm512_slli_epi64::<BITS>(a);
    down(a) = _mm512_srli_epi64::<BITS>(a);
}

/// # Safety
/// The processor must have the instructions, which whoever holds an [`Ifma`] knows.
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512ifma")]
unsafe fn with_instructions<K, T: Task<K>>(kernel: K, task: T) -> T::Output {
    task.run(kernel)
}

impl Ifma {
    /// The token, if this processor has the instructions.
    pub fn detect() -> Option<Self> {
        let has = is_x86_feature_detected!("avx512f")
            && is_x86_feature_detected!("avx512bw")
            && is_x86_feature_detected!("avx512dq")
            && is_x86_feature_detected!("avx512vl")
            && is_x86_feature_detected!("avx512ifma");
        has.then_some(Self(()))
    }

    /// Runs work compiled with these instructions.
    #[inline(always)]
    pub fn enter<K, T: Task<K>>(self, kernel: K, task: T) -> T::Output {
        // SAFETY: `self` proves that the processor has the instructions.
        unsafe { with_instructions(kernel, task) }
    }

    /// The same word in each lane.
    #[inline(always)]
    pub fn splat(self, word: u64) -> __m512i {
        self.broadcast(word)
    }

    /// Eight words from memory.
    ///
    /// # Panics
    /// If there are fewer.
    #[inline(always)]
    pub fn load(self, words: &[u64]) -> __m512i {
        let words: &[u64; 8] = words[..8].try_into().expect("a slice of eight");
        // SAFETY: the reference is to eight readable words; the load needs no alignment.
        unsafe { _mm512_loadu_si512(words.as_ptr().cast()) }
    }

    /// Eight words to memory.
    ///
    /// # Panics
    /// If there is no room for them.
    #[inline(always)]
    pub fn store(self, row: __m512i, words: &mut [u64]) {
        let words: &mut [u64; 8] = (&mut words[..8]).try_into().expect("a slice of eight");
        // SAFETY: the reference is to eight writable words; the store needs no alignment.
        unsafe { _mm512_storeu_si512(words.as_mut_ptr().cast(), row) }
    }

    /// Asks for the cache line of a value.
    #[inline(always)]
    pub fn prefetch<T>(self, value: &T) {
        // SAFETY: a prefetch changes no state that a program can see.
        unsafe { _mm_prefetch::<_MM_HINT_T0>(std::ptr::from_ref(value).cast()) }
    }

    /// Zero.
    #[inline(always)]
    pub fn zero(self) -> Limbs {
        [self.zeros(); 5]
    }

    /// The same limbs in each lane.
    #[inline(always)]
    pub fn splat_limbs(self, limbs: &[u64; 5]) -> Limbs {
        let mut lanes = self.zero();
        for i in 0..5 {
            lanes[i] = self.splat(limbs[i]);
        }
        lanes
    }

    /// The residue whose limbs are those of arkworks' Montgomery form, in each lane.
    #[inline(always)]
    pub fn constant<M: Modulus>(self, value: M) -> Limbs {
        self.splat_limbs(&limbs_of(value))
    }

    /// Carries along: limbs below 2^52 again. The value must not be negative, limbs may be.
    #[inline(always)]
    fn normalise(self, mut limbs: Limbs) -> Limbs {
        let mask = self.splat(MASK);
        for i in 0..4 {
            limbs[i + 1] = self.plus(limbs[i + 1], self.carry(limbs[i]));
            limbs[i] = self.and(limbs[i], mask);
        }
        limbs
    }

    #[inline(always)]
    fn accumulate(self, sum: &mut [__m512i; 10], a: &Limbs, b: &Limbs) {
        for i in 0..5 {
            for j in 0..5 {
                sum[i + j] = self.madd_low(sum[i + j], a[i], b[j]);
                sum[i + j + 1] = self.madd_high(sum[i + j + 1], a[i], b[j]);
            }
        }
    }

    /// Montgomery reduction: sum / 2^260 modulo p, below sum/2^260 + p.
    #[inline(always)]
    fn reduce<M: Modulus>(self, mut sum: [__m512i; 10]) -> Limbs {
        let inverse = self.splat(M::CONSTANTS.inverse);
        let p = self.splat_limbs(&M::CONSTANTS.p);
        for i in 0..5 {
            let factor = self.madd_low(self.zeros(), sum[i], inverse);
            for j in 0..5 {
                sum[i + j] = self.madd_low(sum[i + j], factor, p[j]);
                sum[i + j + 1] = self.madd_high(sum[i + j + 1], factor, p[j]);
            }
            sum[i + 1] = self.plus(sum[i + 1], self.carry(sum[i]));
        }
        let [.., a, b, c, d, e] = sum;
        self.normalise([a, b, c, d, e])
    }

    /// a·b/2^260, below ab/84p + p.
    #[inline(always)]
    pub fn mul<M: Modulus>(self, a: &Limbs, b: &Limbs) -> Limbs {
        let mut sum = [self.zeros(); 10];
        self.accumulate(&mut sum, a, b);
        self.reduce::<M>(sum)
    }

    /// (a·b + c·d)/2^260, below (ab + cd)/84p + p.
    #[inline(always)]
    pub fn mul_add<M: Modulus>(self, a: &Limbs, b: &Limbs, c: &Limbs, d: &Limbs) -> Limbs {
        let mut sum = [self.zeros(); 10];
        self.accumulate(&mut sum, a, b);
        self.accumulate(&mut sum, c, d);
        self.reduce::<M>(sum)
    }

    /// a²/2^260.
    #[inline(always)]
    pub fn square<M: Modulus>(self, a: &Limbs) -> Limbs {
        let mut sum = [self.zeros(); 10];
        for i in 0..5 {
            for j in i + 1..5 {
                sum[i + j] = self.madd_low(sum[i + j], a[i], a[j]);
                sum[i + j + 1] = self.madd_high(sum[i + j + 1], a[i], a[j]);
            }
        }
        for column in &mut sum {
            *column = self.plus(*column, *column);
        }
        for i in 0..5 {
            sum[2 * i] = self.madd_low(sum[2 * i], a[i], a[i]);
            sum[2 * i + 1] = self.madd_high(sum[2 * i + 1], a[i], a[i]);
        }
        self.reduce::<M>(sum)
    }

    /// a + b.
    #[inline(always)]
    pub fn add(self, a: &Limbs, b: &Limbs) -> Limbs {
        let mut sum = *a;
        for i in 0..5 {
            sum[i] = self.plus(a[i], b[i]);
        }
        self.normalise(sum)
    }

    /// a − b + 4p, for b of at most 4p.
    #[inline(always)]
    pub fn sub<M: Modulus>(self, a: &Limbs, b: &Limbs) -> Limbs {
        let mut difference = *a;
        for i in 0..5 {
            let offset = self.splat(M::CONSTANTS.quadruple[i]);
            difference[i] = self.plus(self.minus(a[i], b[i]), offset);
        }
        self.normalise(difference)
    }

    /// 4p − a, for a of at most 4p.
    #[inline(always)]
    pub fn opposite<M: Modulus>(self, a: &Limbs) -> Limbs {
        let mut difference = *a;
        for i in 0..5 {
            difference[i] = self.minus(self.splat(M::CONSTANTS.quadruple[i]), a[i]);
        }
        self.normalise(difference)
    }

    /// 3p − a in the lanes of the mask, for a of at most 3p.
    #[inline(always)]
    pub fn negate_where<M: Modulus>(self, mask: u8, a: &Limbs) -> Limbs {
        if mask == 0 {
            return *a;
        }
        let mut difference = *a;
        for i in 0..5 {
            difference[i] = self.minus(self.splat(M::CONSTANTS.triple[i]), a[i]);
        }
        self.select(mask, &self.normalise(difference), a)
    }

    /// square − x1 − x2 + 6p, tightened: x of a sum of points.
    #[inline(always)]
    pub fn third_x<M: Modulus>(self, square: &Limbs, x1: &Limbs, x2: &Limbs) -> Limbs {
        let mut x = *square;
        for i in 0..5 {
            let offset = self.splat(M::CONSTANTS.sextuple[i]);
            x[i] = self.plus(self.minus(self.minus(square[i], x1[i]), x2[i]), offset);
        }
        self.tighten::<M>(&self.normalise(x))
    }

    /// 4·product − y1 + 3p, tightened: y of a sum of points. The product is at most 1.7p.
    #[inline(always)]
    pub fn third_y<M: Modulus>(self, product: &Limbs, y1: &Limbs) -> Limbs {
        let mut y = *product;
        for i in 0..5 {
            let offset = self.splat(M::CONSTANTS.triple[i]);
            y[i] = self.plus(self.minus(self.up::<2>(product[i]), y1[i]), offset);
        }
        self.tighten::<M>(&self.normalise(y))
    }

    /// A value of at most 10p made at most 2.3p: with k = ⌊a / 2^254⌋ the largest multiple of p not above k·2^254 goes.
    #[inline(always)]
    pub fn tighten<M: Modulus>(self, a: &Limbs) -> Limbs {
        let k = self.down::<46>(a[4]);
        let mut difference = *a;
        for i in 0..5 {
            let table = self.load(&M::CONSTANTS.floors[i]);
            difference[i] = self.minus(a[i], self.lookup(k, table));
        }
        self.normalise(difference)
    }

    /// Lane by lane `set` where the mask has a bit, else `clear`.
    #[inline(always)]
    pub fn select(self, mask: u8, set: &Limbs, clear: &Limbs) -> Limbs {
        let mut chosen = *clear;
        for i in 0..5 {
            chosen[i] = self.blend(mask, set[i], clear[i]);
        }
        chosen
    }

    /// Lanes where a value of at most 84p is zero modulo p.
    #[inline(always)]
    pub fn zero_lanes<M: Modulus>(self, a: &Limbs) -> u8 {
        // a·1/2^260 is below 2p, so it is zero modulo p only as 0 or p.
        let mut one = self.zero();
        one[0] = self.splat(1);
        let product = self.mul::<M>(a, &one);
        let mut masks = [u8::MAX; 2];
        for i in 0..5 {
            masks[0] &= self.equal(product[i], self.zeros());
            masks[1] &= self.equal(product[i], self.splat(M::CONSTANTS.p[i]));
        }
        masks[0] | masks[1]
    }

    /// Two coordinates of eight points from one row per point.
    #[inline(always)]
    pub fn unpack(self, rows: [__m512i; 8]) -> [Limbs; 2] {
        let columns = self.transpose(rows);
        let [a, b, c, d, e, f, g, h] = columns;
        [self.limbs([a, b, c, d]), self.limbs([e, f, g, h])]
    }

    /// One row per point from two coordinates below 2^256.
    #[inline(always)]
    pub fn pack(self, first: &Limbs, second: &Limbs) -> [__m512i; 8] {
        let [a, b, c, d] = self.words(first);
        let [e, f, g, h] = self.words(second);
        self.transpose([a, b, c, d, e, f, g, h])
    }

    #[inline(always)]
    fn limbs(self, words: [__m512i; 4]) -> Limbs {
        let mask = self.splat(MASK);
        let [a, b, c, d] = words;
        [
            self.and(a, mask),
            self.and(self.or(self.down::<52>(a), self.up::<12>(b)), mask),
            self.and(self.or(self.down::<40>(b), self.up::<24>(c)), mask),
            self.and(self.or(self.down::<28>(c), self.up::<36>(d)), mask),
            self.down::<16>(d),
        ]
    }

    #[inline(always)]
    fn words(self, limbs: &Limbs) -> [__m512i; 4] {
        let [a, b, c, d, e] = *limbs;
        [
            self.or(a, self.up::<52>(b)),
            self.or(self.down::<12>(b), self.up::<40>(c)),
            self.or(self.down::<24>(c), self.up::<28>(d)),
            self.or(self.down::<36>(d), self.up::<16>(e)),
        ]
    }

    /// Rows to columns.
    #[inline(always)]
    pub fn transpose(self, rows: [__m512i; 8]) -> [__m512i; 8] {
        let [a, b, c, d, e, f, g, h] = rows;
        let [c0, c2, c4, c6] = self.gather_quarters([
            self.interleave_low(a, b),
            self.interleave_low(c, d),
            self.interleave_low(e, f),
            self.interleave_low(g, h),
        ]);
        let [c1, c3, c5, c7] = self.gather_quarters([
            self.interleave_high(a, b),
            self.interleave_high(c, d),
            self.interleave_high(e, f),
            self.interleave_high(g, h),
        ]);
        [c0, c1, c2, c3, c4, c5, c6, c7]
    }

    /// Each result takes one quarter of every row.
    #[inline(always)]
    fn gather_quarters(self, rows: [__m512i; 4]) -> [__m512i; 4] {
        let [a, b, c, d] = rows;
        let (even, odd) = (self.even_quarters(a, b), self.odd_quarters(a, b));
        let (even2, odd2) = (self.even_quarters(c, d), self.odd_quarters(c, d));
        [
            self.even_quarters(even, even2),
            self.even_quarters(odd, odd2),
            self.odd_quarters(even, even2),
            self.odd_quarters(odd, odd2),
        ]
    }

    /// The lanes' limbs read as arkworks' Montgomery form, reduced below p: the values times 2^4. At most 4p.
    pub fn to_fields<M: Modulus>(self, a: &Limbs) -> [M; 8] {
        let mut integers = [[0; 4]; 8];
        self.to_integers::<M>(a, &mut integers);
        integers.map(M::of_words)
    }

    /// The lanes' limbs as integers below p. At most 4p.
    #[inline(always)]
    pub fn to_integers<M: Modulus>(self, a: &Limbs, integers: &mut [[u64; 4]]) {
        let mut columns = [[0; 8]; 4];
        let words = self.words(a);
        for i in 0..4 {
            self.store(words[i], &mut columns[i]);
        }
        for lane in 0..8 {
            let mut value = [0; 4];
            for i in 0..4 {
                value[i] = columns[i][lane];
            }
            while let Some(smaller) = minus_modulus::<M>(&value) {
                value = smaller;
            }
            integers[lane] = value;
        }
    }

    /// Residues whose limbs are those of arkworks' Montgomery form.
    pub fn of_fields<M: Modulus>(self, values: [&M; 8]) -> Limbs {
        let words = values.map(|value| value.words());
        let column = |i: usize| self.load(&words.map(|word| word[i]));
        self.limbs([column(0), column(1), column(2), column(3)])
    }
}

/// The limbs of arkworks' Montgomery form.
pub fn limbs_of<M: Modulus>(value: M) -> [u64; 5] {
    let [a, b, c, d] = value.words();
    split([a, b, c, d, 0])
}

/// The value less p, if it is not below p.
#[inline(always)]
fn minus_modulus<M: Modulus>(value: &[u64; 4]) -> Option<[u64; 4]> {
    let mut difference = [0; 4];
    let mut borrow = false;
    for i in 0..4 {
        let (part, first) = value[i].overflowing_sub(M::CONSTANTS.words[i]);
        let (part, second) = part.overflowing_sub(u64::from(borrow));
        difference[i] = part;
        borrow = first || second;
    }
    (!borrow).then_some(difference)
}

#[cfg(test)]
mod tests;

//! Residues of 256 bits for the portable kernel: Montgomery radix 2^256, as arkworks keeps them, but up to twice the modulus.
//!
//! [`Residue`] (modulo p or r) → [`Pair`] (Fq2 = Fq(u), u² = −1)
//!
//! Two things make them faster than the library's in an addition of points:
//! - No jump depends on a value. The library corrects a difference with a jump, and of random values every other jump is
//!   guessed wrongly.
//! - A value stands for itself modulo m and may be anything below 2m. As 4m is below 2^256, the product of two such is again
//!   below 2m, without a last subtraction: (2m·2m + 2^256·m) / 2^256 < 2m. Sums of products are reduced once.
//!
//! "Below 2m" holds for every value that leaves this module; comments state the bounds within.

use ark_bn254::{Fq2, FqConfig};
use ark_ff::{BigInt, Field, Fp, MontBackend, MontConfig};
use std::marker::PhantomData;

/// arkworks' prime field of a configuration.
pub type Prime<C> = Fp<MontBackend<C, 4>, 4>;

type Words = [u64; 4];

/// A residue in Montgomery form, below twice the modulus.
pub struct Residue<C>(Words, PhantomData<C>);

impl<C> Clone for Residue<C> {
    #[inline(always)]
    fn clone(&self) -> Self {
        *self
    }
}
impl<C> Copy for Residue<C> {}

/// Multiples of a modulus m.
trait Multiples: MontConfig<4> {
    const ONE: Words = Self::MODULUS.0;
    const TWO: Words = double(Self::ONE);
    /// The bounds of this module need 4m < 2^256.
    const ROOM: () = assert!(Self::ONE[3] >> 62 == 0);
}

impl<C: MontConfig<4>> Multiples for C {}

const fn double(a: Words) -> Words {
    [
        a[0] << 1,
        a[1] << 1 | a[0] >> 63,
        a[2] << 1 | a[1] >> 63,
        a[3] << 1 | a[2] >> 63,
    ]
}

/// a + b, which is below 2^256.
#[inline(always)]
fn sum(a: &Words, b: &Words) -> Words {
    let (s0, carry) = a[0].carrying_add(b[0], false);
    let (s1, carry) = a[1].carrying_add(b[1], carry);
    let (s2, carry) = a[2].carrying_add(b[2], carry);
    let (s3, _) = a[3].carrying_add(b[3], carry);
    [s0, s1, s2, s3]
}

/// a − b modulo 2^256, and whether it is negative.
#[inline(always)]
fn difference(a: &Words, b: &Words) -> (Words, bool) {
    let (d0, borrow) = a[0].borrowing_sub(b[0], false);
    let (d1, borrow) = a[1].borrowing_sub(b[1], borrow);
    let (d2, borrow) = a[2].borrowing_sub(b[2], borrow);
    let (d3, borrow) = a[3].borrowing_sub(b[3], borrow);
    ([d0, d1, d2, d3], borrow)
}

/// The words if the condition holds, else zeros.
#[inline(always)]
fn masked(words: &Words, condition: bool) -> Words {
    let mask = u64::from(condition).wrapping_neg();
    [
        words[0] & mask,
        words[1] & mask,
        words[2] & mask,
        words[3] & mask,
    ]
}

/// a less b unless that is negative.
#[inline(always)]
fn reduced(a: &Words, b: &Words) -> Words {
    let (less, negative) = difference(a, b);
    let mut result = less;
    for word in 0..4 {
        result[word] = if negative { a[word] } else { less[word] };
    }
    result
}

/// a·b.
#[inline(always)]
fn row(a: &Words, b: u64) -> [u64; 5] {
    let (r0, carry) = a[0].carrying_mul(b, 0);
    let (low1, high1) = a[1].carrying_mul(b, 0);
    let (low2, high2) = a[2].carrying_mul(b, 0);
    let (low3, high3) = a[3].carrying_mul(b, 0);
    let (r1, carry) = carry.carrying_add(low1, false);
    let (r2, carry) = high1.carrying_add(low2, carry);
    let (r3, carry) = high2.carrying_add(low3, carry);
    [r0, r1, r2, r3, high3 + u64::from(carry)]
}

/// a·b.
#[inline(always)]
fn product(a: &Words, b: &Words) -> [u64; 8] {
    let [r0, r1, r2, r3, r4] = row(a, b[0]);
    let mut result = [r0, r1, r2, r3, r4, 0, 0, 0];
    for place in 1..4 {
        let row = row(a, b[place]);
        let mut carry = false;
        for word in 0..4 {
            (result[place + word], carry) = result[place + word].carrying_add(row[word], carry);
        }
        result[place + 4] = row[4] + u64::from(carry);
    }
    result
}

/// a − b modulo 2^512, and whether it is negative.
#[inline(always)]
fn long_difference(a: &[u64; 8], b: &[u64; 8]) -> ([u64; 8], bool) {
    let mut result = [0; 8];
    let mut borrow = false;
    for word in 0..8 {
        (result[word], borrow) = a[word].borrowing_sub(b[word], borrow);
    }
    (result, borrow)
}

impl<C: MontConfig<4>> Residue<C> {
    /// Zero.
    pub const ZERO: Self = Self([0; 4], PhantomData);
    /// One.
    pub const ONE: Self = Self(C::R.0, PhantomData);

    /// From Montgomery form, below twice the modulus.
    #[inline(always)]
    pub fn of_words(words: &[u64]) -> Self {
        Self([words[0], words[1], words[2], words[3]], PhantomData)
    }

    /// Montgomery form, below twice the modulus.
    #[inline(always)]
    pub fn words(&self) -> &[u64; 4] {
        &self.0
    }

    /// From arkworks' form.
    #[inline(always)]
    pub fn of_field(value: &Prime<C>) -> Self {
        Self(value.0.0, PhantomData)
    }

    /// arkworks' form.
    #[inline(always)]
    pub fn field(&self) -> Prime<C> {
        Prime::<C>::new_unchecked(BigInt(reduced(&self.0, &C::ONE)))
    }

    /// The integer that it stands for, below the modulus.
    #[inline(always)]
    pub fn integer(&self) -> Words {
        // The product with 1 is at most m.
        let one = Self([1, 0, 0, 0], PhantomData);
        reduced(&self.product(&one).0, &C::ONE)
    }

    /// Whether it is zero modulo m.
    #[inline(always)]
    pub fn is_zero(&self) -> bool {
        self.0 == [0; 4] || self.0 == C::ONE
    }

    /// a + b.
    #[inline(always)]
    pub fn plus(&self, other: &Self) -> Self {
        let () = C::ROOM;
        Self(reduced(&sum(&self.0, &other.0), &C::TWO), PhantomData)
    }

    /// a − b.
    #[inline(always)]
    pub fn minus(&self, other: &Self) -> Self {
        let (less, negative) = difference(&self.0, &other.0);
        Self(sum(&less, &masked(&C::TWO, negative)), PhantomData)
    }

    /// −a.
    #[inline(always)]
    pub fn opposite(&self) -> Self {
        Self::ZERO.minus(self)
    }

    /// −a where the condition holds, else a.
    #[inline(always)]
    pub fn opposite_if(&self, condition: bool) -> Self {
        let opposite = self.opposite();
        let mut result = *self;
        for word in 0..4 {
            result.0[word] = if condition {
                opposite.0[word]
            } else {
                self.0[word]
            };
        }
        result
    }

    /// a·b.
    #[inline(always)]
    pub fn product(&self, other: &Self) -> Self {
        let () = C::ROOM;
        Self(multiply::<C>(&self.0, &other.0), PhantomData)
    }

    /// 1/a in Montgomery form; nothing for zero.
    pub fn inverse(&self) -> Option<Self> {
        Some(Self::of_field(&self.field().inverse()?))
    }
}

/// a·b/2^256 for a up to 4m and any b: below a·b/2^256 + m.
#[inline(always)]
fn multiply<C: MontConfig<4>>(a: &Words, b: &Words) -> Words {
    // Between steps the sum is below a + m, so its fifth word is empty.
    let mut sum = [0; 5];
    for place in 0..4 {
        let row_a = row(a, b[place]);
        if place == 0 {
            sum = row_a;
        } else {
            let mut carry = false;
            for word in 0..4 {
                (sum[word], carry) = sum[word].carrying_add(row_a[word], carry);
            }
            sum[4] = row_a[4].wrapping_add(u64::from(carry));
        }
        let row_m = row(&C::ONE, sum[0].wrapping_mul(C::INV));
        let (_, mut carry) = sum[0].carrying_add(row_m[0], false);
        for word in 1..5 {
            (sum[word - 1], carry) = sum[word].carrying_add(row_m[word], carry);
        }
    }
    [sum[0], sum[1], sum[2], sum[3]]
}

/// a/2^256 for a below 3·2^256·m: below a/2^256 + m.
#[inline(always)]
fn reduce<C: MontConfig<4>>(mut a: [u64; 8]) -> Words {
    let mut above = false;
    for place in 0..4 {
        let row_m = row(&C::ONE, a[place].wrapping_mul(C::INV));
        let (_, mut carry) = a[place].carrying_add(row_m[0], false);
        for word in 1..4 {
            (a[place + word], carry) = a[place + word].carrying_add(row_m[word], carry);
        }
        // The row's last word is below the modulus' top word: there is room for a carry.
        let last = row_m[4] + u64::from(carry);
        (a[place + 4], above) = a[place + 4].carrying_add(last, above);
    }
    [a[4], a[5], a[6], a[7]]
}

/// An element c0 + c1·u of Fq2.
#[derive(Clone, Copy)]
pub struct Pair {
    /// c0.
    pub c0: Residue<FqConfig>,
    /// c1.
    pub c1: Residue<FqConfig>,
}

impl Pair {
    /// Zero.
    pub const ZERO: Self = Self {
        c0: Residue::ZERO,
        c1: Residue::ZERO,
    };
    /// One.
    pub const ONE: Self = Self {
        c0: Residue::ONE,
        c1: Residue::ZERO,
    };

    /// From arkworks' form.
    pub fn of_field(value: &Fq2) -> Self {
        let [c0, c1] = [&value.c0, &value.c1].map(Residue::of_field);
        Self { c0, c1 }
    }

    /// arkworks' form.
    pub fn field(&self) -> Fq2 {
        Fq2::new(self.c0.field(), self.c1.field())
    }

    /// Whether it is zero.
    #[inline(always)]
    pub fn is_zero(&self) -> bool {
        self.c0.is_zero() && self.c1.is_zero()
    }

    /// a + b.
    #[inline(always)]
    pub fn plus(&self, other: &Self) -> Self {
        let (c0, c1) = (self.c0.plus(&other.c0), self.c1.plus(&other.c1));
        Self { c0, c1 }
    }

    /// a − b.
    #[inline(always)]
    pub fn minus(&self, other: &Self) -> Self {
        let (c0, c1) = (self.c0.minus(&other.c0), self.c1.minus(&other.c1));
        Self { c0, c1 }
    }

    /// −a where the condition holds, else a.
    #[inline(always)]
    pub fn opposite_if(&self, condition: bool) -> Self {
        Self {
            c0: self.c0.opposite_if(condition),
            c1: self.c1.opposite_if(condition),
        }
    }

    /// a·b: Karatsuba's three products, two reductions.
    #[inline(always)]
    pub fn product(&self, other: &Self) -> Self {
        type C = FqConfig;
        let low = product(&self.c0.0, &other.c0.0);
        let high = product(&self.c1.0, &other.c1.0);
        let both = product(&sum(&self.c0.0, &self.c1.0), &sum(&other.c0.0, &other.c1.0));
        // a₀b₁ + a₁b₀ < 8m² < 1.6·2^256·m reduces to less than 2.6m.
        let cross = long_difference(&long_difference(&both, &low).0, &high).0;
        let c1 = reduced(&reduce::<C>(cross), &C::TWO);
        // |a₀b₀ − a₁b₁| < 4m² < 2^256·m, which is added if it is negative: reduces to less than 2m.
        let ([r0, r1, r2, r3, r4, r5, r6, r7], negative) = long_difference(&low, &high);
        let [r4, r5, r6, r7] = sum(&[r4, r5, r6, r7], &masked(&C::ONE, negative));
        let c0 = reduce::<C>([r0, r1, r2, r3, r4, r5, r6, r7]);
        Self {
            c0: Residue(c0, PhantomData),
            c1: Residue(c1, PhantomData),
        }
    }

    /// a²: (a₀ + a₁)(a₀ − a₁) and 2a₀a₁.
    #[inline(always)]
    pub fn square(&self) -> Self {
        type C = FqConfig;
        // Below 4m, times below 2m: 8m²/2^256 + m < 2.6m.
        let c0 = multiply::<C>(&sum(&self.c0.0, &self.c1.0), &self.c0.minus(&self.c1).0);
        let c1 = multiply::<C>(&sum(&self.c0.0, &self.c0.0), &self.c1.0);
        Self {
            c0: Residue(reduced(&c0, &C::TWO), PhantomData),
            c1: Residue(reduced(&c1, &C::TWO), PhantomData),
        }
    }

    /// 1/a; nothing for zero.
    pub fn inverse(&self) -> Option<Self> {
        Some(Self::of_field(&self.field().inverse()?))
    }
}

#[cfg(test)]
mod tests;

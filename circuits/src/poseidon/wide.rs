//! Sums of products with one reduction: the arithmetic that Poseidon spends its time in.
//!
//! ```text
//! a·b (8 limbs, unreduced) → add up to 22 of them → one Montgomery reduction → canonical element
//! ```
//!
//! A multiplication in Montgomery form is half product and half reduction; a sum of n products needs only one of the
//! latter. Plain integers, no unsafe code, tested against the field's own arithmetic.

use ark_bn254::{Fr, FrConfig};
use ark_ff::{BigInt, MontConfig, PrimeField};

const MODULUS: [u64; 4] = Fr::MODULUS.0;
const TWICE_MODULUS: [u64; 4] = doubled(MODULUS);
/// −1/r modulo 2^64.
const INVERSE: u64 = <FrConfig as MontConfig<4>>::INV;

/// The most products one [`Wide`] may hold.
///
/// After reduction n products come to less than r·(1 + n·r/2^256), which for n = 22 is below 5.2·r < 2^256.
pub const MAX_PRODUCTS: usize = 22;

/// The most products that come to less than 3·r after reduction, and need one subtraction less.
pub const FEW_PRODUCTS: usize = 10;

/// A sum of unreduced products.
#[derive(Clone, Copy)]
pub struct Wide([u64; 8]);

impl Wide {
    /// The empty sum.
    pub const ZERO: Self = Self([0; 8]);

    /// Adds `a·b`. The caller adds at most [`MAX_PRODUCTS`].
    #[inline(always)]
    pub fn add_product(&mut self, a: &Fr, b: &Fr) {
        let product = multiply(&a.0.0, &b.0.0);
        let mut carry = false;
        for (limb, add) in self.0.iter_mut().zip(product) {
            (*limb, carry) = limb.carrying_add(add, carry);
        }
    }

    /// The sum of at most `PRODUCTS` products as a field element.
    #[inline(always)]
    pub fn reduce<const PRODUCTS: usize>(self) -> Fr {
        const {
            assert!(
                PRODUCTS <= MAX_PRODUCTS,
                "the reduced sum must stay below 2^256"
            )
        };
        let mut t = self.0;
        let mut high = 0;
        for i in 0..4 {
            let factor = t[i].wrapping_mul(INVERSE);
            let mut carry = 0;
            multiply_add(t[i], factor, MODULUS[0], &mut carry);
            for j in 1..4 {
                t[i + j] = multiply_add(t[i + j], factor, MODULUS[j], &mut carry);
            }
            let sum = u128::from(t[i + 4]) + u128::from(carry) + u128::from(high);
            (t[i + 4], high) = (sum as u64, (sum >> 64) as u64);
        }
        let mut result = [t[4], t[5], t[6], t[7]];
        subtract_if_not_less(&mut result, &TWICE_MODULUS);
        if PRODUCTS > FEW_PRODUCTS {
            subtract_if_not_less(&mut result, &TWICE_MODULUS);
        }
        subtract_if_not_less(&mut result, &MODULUS);
        Fr::new_unchecked(BigInt(result))
    }
}

/// `Σ a[i]·b[i]` of at most `N` pairs.
#[inline(always)]
pub fn dot<const N: usize>(a: &[Fr], b: &[Fr]) -> Fr {
    debug_assert!(a.len() <= N, "{} products are more than {N}", a.len());
    let mut sum = Wide::ZERO;
    for (a, b) in a.iter().zip(b) {
        sum.add_product(a, b);
    }
    sum.reduce::<N>()
}

/// `a + b·c + carry`, the high half into `carry`.
#[inline(always)]
fn multiply_add(a: u64, b: u64, c: u64, carry: &mut u64) -> u64 {
    let sum = u128::from(a) + u128::from(b) * u128::from(c) + u128::from(*carry);
    *carry = (sum >> 64) as u64;
    sum as u64
}

#[inline(always)]
fn multiply(a: &[u64; 4], b: &[u64; 4]) -> [u64; 8] {
    let mut product = [0; 8];
    for i in 0..4 {
        let mut carry = 0;
        for j in 0..4 {
            product[i + j] = multiply_add(product[i + j], a[i], b[j], &mut carry);
        }
        product[i + 4] = carry;
    }
    product
}

#[inline(always)]
fn subtract_if_not_less(value: &mut [u64; 4], amount: &[u64; 4]) {
    let mut difference = [0; 4];
    let mut borrow = false;
    for i in 0..4 {
        (difference[i], borrow) = value[i].borrowing_sub(amount[i], borrow);
    }
    if !borrow {
        *value = difference;
    }
}

const fn doubled(limbs: [u64; 4]) -> [u64; 4] {
    let mut doubled = [0; 4];
    let mut i = 0;
    while i < 4 {
        doubled[i] = limbs[i] << 1;
        if i > 0 {
            doubled[i] |= limbs[i - 1] >> 63;
        }
        i += 1;
    }
    doubled
}

//! A public key's multiples: its product with a secret for half the price, for keys that are met again and again.
//!
//! ```text
//! rows[i][d]   = (d + 1) · 16^i · key            64 rows of 16 points, none of them infinity
//! d_0 … d_63   = hexadecimal digits of secret − (1 + 16 + … + 16^63)
//! secret · key = rows[0][d_0] + … + rows[63][d_63]
//! ```
//! 64 additions and no doubling (fixed-base windows: Handbook of Applied Cryptography, 14.6.3), where a multiplication with a new
//! point takes about 130 doublings and 45 additions.
//!
//! # What a watching process learns
//! As little as from libsecp256k1's own multiplication: every entry of every row is read and masked, whatever the digit; the sum is
//! `secp256k1_ec_pubkey_combine`, whose addition and inversion are those with which the library signs, the same steps for all values.
//! Its documentation does not promise that, so a new version of the library is looked at for it. What was picked, and what came
//! out, is erased.
//!
//! This is the one file of this crate with `unsafe`: two calls of the library whose arguments can be erased afterwards, which
//! cannot be said of its safe types.
#![allow(unsafe_code)]

use secp256k1::ffi::{self, CPtr};
use secp256k1::{PublicKey, Scalar, SecretKey};
use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;
use zeroize::Zeroizing;

/// How often a key is met before its multiples are worked out: they cost as much as is saved in that many products.
pub(super) const WORTH_IT: u32 = 256;

const ROWS: usize = 64;
const DIGITS: usize = 16;
/// 1 + 16 + … + 16^63, which the digits lack because no entry is infinity.
const ONES: [u8; 32] = [0x11; 32];

/// A point as libsecp256k1 keeps it.
type Point = [u64; 8];

const _: () = assert!(size_of::<Point>() == size_of::<ffi::PublicKey>());
const _: () = assert!(align_of::<Point>() >= align_of::<ffi::PublicKey>());

/// The multiples of one key: 64 KiB.
pub(super) struct Multiples {
    rows: Vec<[Point; DIGITS]>,
    minus_ones: Scalar,
}

impl Multiples {
    /// Works them out: 960 additions.
    pub(super) fn of(key: &PublicKey) -> Option<Self> {
        let minus_ones = SecretKey::from_byte_array(ONES).ok()?.negate().into();
        let mut rows = Vec::with_capacity(ROWS);
        let mut unit = *key;
        for _ in 0..ROWS {
            let mut row = [[0; 8]; DIGITS];
            let mut multiple = unit;
            row[0] = words(&multiple);
            for entry in &mut row[1..] {
                // The order is prime and far above any sum here, so none is infinity.
                multiple = multiple.combine(&unit).ok()?;
                *entry = words(&multiple);
            }
            rows.push(row);
            unit = multiple;
        }
        Some(Self { rows, minus_ones })
    }

    /// SHA-256 of the compressed product of the key and a secret, as `SharedSecret` gives it. None for the one secret that has no
    /// digits: the sum of all powers of sixteen.
    pub(super) fn agree(&self, secret: &SecretKey) -> Option<Zeroizing<[u8; 32]>> {
        let mut picked = Zeroizing::new([[0; 8]; ROWS]);
        self.pick(secret, &mut picked)?;
        let mut product: Zeroizing<Point> = Zeroizing::new([0; 8]);
        let mut bytes = Zeroizing::new([0; 33]);
        let mut length = bytes.len();
        let pointers: [*const ffi::PublicKey; ROWS] =
            std::array::from_fn(|row| picked[row].as_ptr().cast());
        // SAFETY: a `Point` is as large as the library's public key and aligned for it (checked above); each picked one has the
        // bytes of one that the library made, as `pick` copies one whole entry of each row. `product` and `bytes` are written by
        // these calls only, `bytes` up to `length`, which is the compressed form's.
        let done = unsafe {
            let context = ffi::secp256k1_context_no_precomp;
            let product = product.as_mut_ptr().cast::<ffi::PublicKey>();
            ffi::secp256k1_ec_pubkey_combine(context, product, pointers.as_ptr(), ROWS) == 1
                && ffi::secp256k1_ec_pubkey_serialize(
                    context,
                    bytes.as_mut_ptr(),
                    &mut length,
                    product,
                    ffi::SECP256K1_SER_COMPRESSED,
                ) == 1
        };
        done.then(|| Zeroizing::new(Sha256::digest(*bytes).into()))
    }

    /// The entry of each row that the secret's digit names. Written in place: what is moved leaves a copy behind.
    fn pick(&self, secret: &SecretKey, picked: &mut [Point; ROWS]) -> Option<()> {
        let mut rest = secret.add_tweak(&self.minus_ones).ok()?;
        let bytes = Zeroizing::new(rest.secret_bytes());
        rest.non_secure_erase();
        // The lowest digits are in the last byte.
        let digits = bytes.iter().rev().flat_map(|byte| [byte & 15, byte >> 4]);
        for ((picked, row), digit) in picked.iter_mut().zip(&self.rows).zip(digits) {
            let mut masks = [0; DIGITS];
            for (number, mask) in (0u8..).zip(&mut masks) {
                *mask = u64::from(digit.ct_eq(&number).unwrap_u8()).wrapping_neg();
            }
            let mut point = [0; 8];
            for (mask, entry) in masks.iter().zip(row) {
                for (word, entry) in point.iter_mut().zip(entry) {
                    *word |= entry & mask;
                }
            }
            *picked = point;
        }
        Some(())
    }
}

fn words(point: &PublicKey) -> Point {
    // SAFETY: the pointer is to a whole public key that lives as long as the reference.
    let point = unsafe { (*point.as_c_ptr()).underlying_bytes() };
    let mut words = [0; 8];
    for (word, bytes) in words.iter_mut().zip(point.as_chunks::<8>().0) {
        *word = u64::from_ne_bytes(*bytes);
    }
    words
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use secp256k1::ecdh::SharedSecret;
    use secp256k1::{Secp256k1, constants::CURVE_ORDER};

    fn secret(bytes: [u8; 32]) -> SecretKey {
        SecretKey::from_byte_array(bytes).unwrap()
    }

    /// A secret plus a digit at a row. None if that is no secret.
    fn plus(mut bytes: [u8; 32], row: usize, digit: u8) -> Option<[u8; 32]> {
        let mut carry = u16::from(digit) << (4 * (row % 2));
        for byte in bytes[..32 - row / 2].iter_mut().rev() {
            carry += u16::from(*byte);
            *byte = carry as u8;
            carry >>= 8;
        }
        (carry == 0 && SecretKey::from_byte_array(bytes).is_ok()).then_some(bytes)
    }

    #[test]
    fn the_products_are_those_of_the_library() {
        let key = secret([7; 32]).public_key(&Secp256k1::new());
        let multiples = Multiples::of(&key).unwrap();
        let agrees = |bytes: [u8; 32]| {
            let secret = secret(bytes);
            let theirs = SharedSecret::new(&key, &secret).secret_bytes();
            multiples.agree(&secret).is_some_and(|ours| *ours == theirs)
        };
        for amount in 1..=32 {
            let mut least = [0; 32];
            least[31] = amount;
            assert!(agrees(least), "{amount}");
            let mut largest = CURVE_ORDER;
            largest[31] -= amount;
            assert!(agrees(largest), "the order less {amount}");
        }
        // Each digit of each row beside zeros: with 15 in one row, the sum so far and the next row's point are the same one.
        let mut tried = 0;
        for row in 0..ROWS {
            for digit in 1..16 {
                if let Some(bytes) = plus(ONES, row, digit) {
                    assert!(agrees(bytes), "digit {digit} of row {row}");
                    tried += 1;
                }
            }
        }
        assert_eq!(tried, ROWS * 15 - 1);
        proptest!(|(bytes: [u8; 32])| {
            prop_assume!(SecretKey::from_byte_array(bytes).is_ok());
            prop_assert!(agrees(bytes));
        });
    }

    #[test]
    fn the_secret_without_digits_is_refused() {
        let key = secret([7; 32]).public_key(&Secp256k1::new());
        let multiples = Multiples::of(&key).unwrap();
        assert!(multiples.agree(&secret(ONES)).is_none());
        let mut below = ONES;
        below[31] -= 1;
        let theirs = SharedSecret::new(&key, &secret(below)).secret_bytes();
        assert_eq!(*multiples.agree(&secret(below)).unwrap(), theirs);
    }
}

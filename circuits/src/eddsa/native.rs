//! Keys, signing and verification outside a circuit.
//!
//! ```text
//! SecretKey (32 bytes) → public_key, sign(word) → Signature;  verify(key, signature, word)
//! ```

use crate::babyjubjub::native::{EightTimes, base_minus_multiple_is, multiply_base};
use crate::babyjubjub::{PublicKey, Scalar};
use crate::field::{self, serde_word};
use crate::poseidon;
use ark_bn254::Fr;
use ark_ff::PrimeField;
use blake_hash::Digest;
use serde::{Deserialize, Serialize};
use zeroize::{Zeroize, ZeroizeOnDrop, Zeroizing};

/// A 32-byte secret. It has no text form.
#[derive(Clone, Zeroize, ZeroizeOnDrop)]
pub struct SecretKey([u8; 32]);

/// A signature (R8, S).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Signature {
    /// R8, a point that verification checks.
    pub r8: PublicKey,
    /// S, below the subgroup order or refused.
    #[serde(with = "serde_word")]
    pub s: Fr,
}

impl SecretKey {
    /// Takes 32 secret bytes.
    pub fn from_bytes(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    /// The pruned scalar and the seed of nonces.
    fn expand(&self) -> Expanded {
        let hash: Zeroizing<[u8; 64]> =
            Zeroizing::new(blake_hash::Blake512::digest(&self.0).into());
        let mut expanded = Expanded {
            scalar: [0; 32],
            seed: [0; 32],
        };
        expanded.scalar.copy_from_slice(&hash[..32]);
        expanded.seed.copy_from_slice(&hash[32..]);
        expanded.scalar[0] &= 0xf8;
        expanded.scalar[31] &= 0x7f;
        expanded.scalar[31] |= 0x40;
        expanded
    }

    /// The public key.
    pub fn public_key(&self) -> PublicKey {
        self.expand().public_key()
    }

    /// Signs a word. The same word always gets the same signature.
    pub fn sign(&self, message: Fr) -> Signature {
        let expanded = self.expand();
        let mut little_endian = field::to_bytes(&message);
        little_endian.reverse();
        let mut nonce = blake_hash::Blake512::new();
        nonce.update(expanded.seed);
        nonce.update(little_endian);
        let digest: Zeroizing<[u8; 64]> = Zeroizing::new(nonce.finalize().into());
        let mut r = Scalar::from_le_bytes_mod_order(digest.as_slice());
        let r8 = PublicKey::from(multiply_base(&r));
        let h = challenge(&r8, &expanded.public_key(), message);
        let mut scalar = Scalar::from_le_bytes_mod_order(&expanded.scalar);
        let s = r + reduced(h) * scalar;
        r.zeroize();
        scalar.zeroize();
        let s = Fr::from_bigint(s.into_bigint()).expect("the subgroup order is below r");
        Signature { r8, s }
    }
}

/// What BLAKE-512 makes of a secret key.
#[derive(Zeroize, ZeroizeOnDrop)]
struct Expanded {
    /// The pruned scalar, little-endian, a multiple of 8.
    scalar: [u8; 32],
    /// Hashed with the message into a signature's nonce.
    seed: [u8; 32],
}

impl Expanded {
    /// (scalar/8)·Base8.
    fn public_key(&self) -> PublicKey {
        let mut scalar = Scalar::from_le_bytes_mod_order(&self.scalar) / Scalar::from(8u64);
        let key = multiply_base(&scalar).into();
        scalar.zeroize();
        key
    }
}

/// A word modulo the subgroup order.
fn reduced(word: Fr) -> Scalar {
    let mut limbs = word.into_bigint();
    // r is below 8·l, so this subtracts at most 7 times.
    while limbs >= Scalar::MODULUS {
        ark_ff::BigInteger::sub_with_borrow(&mut limbs, &Scalar::MODULUS);
    }
    Scalar::from_bigint(limbs).expect("reduced just now")
}

/// h.
pub(crate) fn challenge(r8: &PublicKey, key: &PublicKey, message: Fr) -> Fr {
    poseidon::hash([r8.x, r8.y, key.x, key.y, message])
}

/// Whether S·Base8 = R8 + h·(8·A), with A and R8 on the curve, S below the subgroup order, and 8·A not the identity.
pub fn verify(key: &PublicKey, signature: &Signature, message: Fr) -> bool {
    let (Some(a), Some(r8)) = (key.point(), signature.r8.point()) else {
        return false;
    };
    let Some(s) = Scalar::from_bigint(signature.s.into_bigint()) else {
        return false;
    };
    let Some(a8) = EightTimes::of(&a) else {
        return false;
    };
    let h = reduced(challenge(&signature.r8, key, message));
    base_minus_multiple_is(&s, &h, &a8, &r8)
}

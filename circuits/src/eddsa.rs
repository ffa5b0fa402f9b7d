//! EdDSA-Poseidon over BabyJubjub, as circomlibjs and `@zk-kit/eddsa-poseidon` sign it.
//!
//! secret → BLAKE-512 → scalar, A = scalar/8·Base8; message M → r → R8 → h = Poseidon5(R8, A, M) → S = r + h·scalar

pub mod gadget;

use crate::babyjubjub::{BabyJubjub, ExtendedPoint, Point, PublicKey, Scalar};
use crate::field::{self, serde_word};
use crate::poseidon;
use ark_bn254::Fr;
use ark_ec::twisted_edwards::TECurveConfig;
use ark_ec::{AffineRepr, CurveGroup, PrimeGroup};
use ark_ff::{BigInteger, PrimeField, Zero};
use blake_hash::Digest;
use serde::{Deserialize, Serialize};
use zeroize::{Zeroize, ZeroizeOnDrop};

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

    fn expand(&self) -> ([u8; 32], [u8; 32]) {
        let mut hash: [u8; 64] = blake_hash::Blake512::digest(&self.0).into();
        let (mut low, mut high) = ([0; 32], [0; 32]);
        low.copy_from_slice(&hash[..32]);
        high.copy_from_slice(&hash[32..]);
        hash.zeroize();
        low[0] &= 0xf8;
        low[31] &= 0x7f;
        low[31] |= 0x40;
        (low, high)
    }

    /// The public key.
    pub fn public_key(&self) -> PublicKey {
        let (low, _) = self.expand();
        let scalar = Scalar::from_le_bytes_mod_order(&low) / Scalar::from(8u64);
        (BabyJubjub::GENERATOR * scalar).into_affine().into()
    }

    /// Signs a word.
    pub fn sign(&self, message: Fr) -> Signature {
        let (low, high) = self.expand();
        let mut seed = blake_hash::Blake512::new();
        seed.update(high);
        let mut little_endian = field::to_bytes(&message);
        little_endian.reverse();
        seed.update(little_endian);
        let r = Scalar::from_le_bytes_mod_order(&seed.finalize());
        let r8 = PublicKey::from((BabyJubjub::GENERATOR * r).into_affine());
        let h = challenge(&r8, &self.public_key(), message);
        let s = r + Scalar::from_be_bytes_mod_order(&field::to_bytes(&h))
            * Scalar::from_le_bytes_mod_order(&low);
        Signature {
            r8,
            s: Fr::from_le_bytes_mod_order(&s.into_bigint().to_bytes_le()),
        }
    }
}

fn challenge(r8: &PublicKey, key: &PublicKey, message: Fr) -> Fr {
    poseidon::hash([r8.x, r8.y, key.x, key.y, message])
}

/// Whether S·Base8 = R8 + h·(8·A), with A and R8 on the curve, S below the subgroup order, and 8·A not the identity.
pub fn verify(key: &PublicKey, signature: &Signature, message: Fr) -> bool {
    let (Some(a), Some(r8)) = (key.point(), signature.r8.point()) else {
        return false;
    };
    let s = signature.s.into_bigint();
    if s >= Scalar::MODULUS {
        return false;
    }
    let a8: ExtendedPoint = a.mul_by_cofactor_to_group();
    if a8.is_zero() {
        return false;
    }
    let h = challenge(&signature.r8, key, message).into_bigint();
    let base: Point = BabyJubjub::GENERATOR;
    base.into_group().mul_bigint(s) == a8.mul_bigint(h) + r8
}

#[cfg(test)]
mod tests;

//! Words: canonical elements of BN254's scalar field, as 32 big-endian bytes or decimal text.

use ark_bn254::Fr;
use ark_ff::{BigInteger, PrimeField};
use thiserror::Error;

/// Why bytes or text are no word.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum WordError {
    /// The integer is r or more: a second name for a smaller word.
    #[error("not a canonical field element: it must be below the BN254 scalar modulus")]
    NotCanonical,
    /// The text is no decimal or 0x-prefixed hexadecimal integer.
    #[error("not a number: expected decimal digits or 0x and hexadecimal digits")]
    NotANumber,
}

/// The word's 32 bytes, big-endian.
pub fn to_bytes(word: &Fr) -> [u8; 32] {
    let mut bytes = [0; 32];
    bytes.copy_from_slice(&word.into_bigint().to_bytes_be());
    bytes
}

/// Reads 32 big-endian bytes.
///
/// # Errors
/// [`WordError::NotCanonical`] if the integer is r or more.
pub fn from_bytes(bytes: &[u8; 32]) -> Result<Fr, WordError> {
    let mut limbs = [0u64; 4];
    for (limb, chunk) in limbs.iter_mut().rev().zip(bytes.chunks_exact(8)) {
        *limb = chunk
            .iter()
            .fold(0, |sum, byte| (sum << 8) | u64::from(*byte));
    }
    Fr::from_bigint(ark_ff::BigInt(limbs)).ok_or(WordError::NotCanonical)
}

/// Reads 32 big-endian bytes modulo r, for hashes that become challenges.
pub fn from_bytes_reduced(bytes: &[u8; 32]) -> Fr {
    Fr::from_be_bytes_mod_order(bytes)
}

/// Reads decimal digits, or hexadecimal digits after `0x`.
///
/// # Errors
/// If the text is no number, or no canonical word.
pub fn from_text(text: &str) -> Result<Fr, WordError> {
    let (digits, radix) = match text.strip_prefix("0x") {
        Some(hexadecimal) => (hexadecimal, 16),
        None => (text, 10),
    };
    if digits.is_empty() || digits.len() > 78 || !digits.chars().all(|c| c.is_digit(radix)) {
        return Err(WordError::NotANumber);
    }
    let number =
        num_bigint::BigUint::parse_bytes(digits.as_bytes(), radix).ok_or(WordError::NotANumber)?;
    let bytes = number.to_bytes_be();
    if bytes.len() > 32 {
        return Err(WordError::NotCanonical);
    }
    let mut padded = [0; 32];
    padded[32 - bytes.len()..].copy_from_slice(&bytes);
    from_bytes(&padded)
}

/// 2^exponent as a word.
pub fn power_of_two(exponent: u32) -> Fr {
    use ark_ff::Field;
    Fr::from(2u64).pow([u64::from(exponent)])
}

/// Serde for words: decimal text in human-readable formats, 32 big-endian bytes otherwise.
pub mod serde_word {
    use super::{Fr, from_bytes, from_text, to_bytes};
    use serde::{Deserialize, Deserializer, Serialize, Serializer, de::Error};

    /// Writes a word.
    ///
    /// # Errors
    /// Whatever the format's writer reports.
    pub fn serialize<S: Serializer>(word: &Fr, serializer: S) -> Result<S::Ok, S::Error> {
        if serializer.is_human_readable() {
            serializer.collect_str(word)
        } else {
            to_bytes(word).serialize(serializer)
        }
    }

    /// Reads a word, canonical or not at all.
    ///
    /// # Errors
    /// If the input is no canonical word.
    pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Fr, D::Error> {
        if deserializer.is_human_readable() {
            from_text(&String::deserialize(deserializer)?).map_err(D::Error::custom)
        } else {
            from_bytes(&<[u8; 32]>::deserialize(deserializer)?).map_err(D::Error::custom)
        }
    }
}

/// A word that carries its serde form; for lists and maps of words.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize)]
#[serde(transparent)]
pub struct Word(#[serde(with = "serde_word")] pub Fr);

//! A Groth16 proof: three points, held only if they are in their groups.
//!
//! [`Proof`] ↔ eight words ([`crate::evm`]); serde writes 0x-prefixed words for people and 256 bytes otherwise.

use crate::evm::{EvmWord, PointError, g1_words, g2_words, read_g1, read_g2};
use ark_bn254::{G1Affine, G2Affine};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de::Error};

/// A proof. Anyone can turn it into another proof of the same statement, so nothing may be keyed by its bytes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Proof {
    /// A in G1.
    pub a: G1Affine,
    /// B in G2.
    pub b: G2Affine,
    /// C in G1.
    pub c: G1Affine,
}

impl Proof {
    /// A, B with imaginary parts first, C: what the contract takes.
    pub fn words(&self) -> [EvmWord; 8] {
        let [a, b, c] = [
            &g1_words(&self.a)[..],
            &g2_words(&self.b),
            &g1_words(&self.c),
        ];
        let mut words = [[0; 32]; 8];
        for (word, part) in words.iter_mut().zip([a, b, c].concat()) {
            *word = part;
        }
        words
    }

    /// Reads and checks a proof's words.
    ///
    /// # Errors
    /// If a point is not in its group.
    pub fn from_words(words: &[EvmWord; 8]) -> Result<Self, PointError> {
        let [a0, a1, b0, b1, b2, b3, c0, c1] = *words;
        Ok(Self {
            a: read_g1(&[a0, a1])?,
            b: read_g2(&[b0, b1, b2, b3])?,
            c: read_g1(&[c0, c1])?,
        })
    }
}

impl Serialize for Proof {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let words = self.words();
        if serializer.is_human_readable() {
            words
                .map(|word| format!("0x{}", hex::encode(word)))
                .serialize(serializer)
        } else {
            words.serialize(serializer)
        }
    }
}

impl<'de> Deserialize<'de> for Proof {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let words = if deserializer.is_human_readable() {
            read_texts(&<[String; 8]>::deserialize(deserializer)?)
                .ok_or_else(|| D::Error::custom("expected eight words of 0x and 64 digits"))?
        } else {
            <[EvmWord; 8]>::deserialize(deserializer)?
        };
        Self::from_words(&words).map_err(D::Error::custom)
    }
}

fn read_texts(texts: &[String; 8]) -> Option<[EvmWord; 8]> {
    let mut words = [[0; 32]; 8];
    for (word, text) in words.iter_mut().zip(texts) {
        hex::decode_to_slice(text.strip_prefix("0x")?, word).ok()?;
    }
    Some(words)
}

#[cfg(test)]
mod tests;

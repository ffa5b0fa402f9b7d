//! C, the Poseidon commitment to the data vector: 15 words a step, chained from the circuit id.

use crate::poseidon;
use ark_bn254::Fr;
use ark_ff::Zero;

/// Words absorbed in one step, beside the chaining value.
pub const CHUNK: usize = 15;

/// h_0 = circuit id; h_{k+1} = Poseidon16(h_k, 15 words), the last chunk padded with zeros.
pub fn commitment(circuit_id: u16, words: &[Fr]) -> Fr {
    words
        .chunks(CHUNK)
        .fold(Fr::from(circuit_id), |state, chunk| {
            let mut inputs = [Fr::zero(); CHUNK + 1];
            inputs[0] = state;
            inputs[1..=chunk.len()].copy_from_slice(chunk);
            poseidon::hash(inputs)
        })
}

/// y = Σ `words[i]`·z^i, by Horner's rule.
pub fn evaluate(words: &[Fr], challenge: Fr) -> Fr {
    words
        .iter()
        .rev()
        .fold(Fr::zero(), |sum, word| sum * challenge + word)
}

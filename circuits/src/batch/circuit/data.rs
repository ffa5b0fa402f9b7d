//! Binding the circuit's wires to what was posted: commitment C and evaluation y over the data vector.

use super::wires::{enforce_equal, enforce_product, minus, settle, value_of, witness};
use crate::batch::commitment::CHUNK;
use crate::poseidon;
use ark_bn254::Fr;
use ark_ff::Zero;
use ark_r1cs_std::fields::fp::FpVar;
use ark_relations::gr1cs::{ConstraintSystemRef, SynthesisError};
use ark_relations::ns;

/// The data vector as it grows, in the order of its fixed offsets.
pub struct Words {
    circuit_id: u16,
    words: Vec<FpVar<Fr>>,
}

impl Words {
    pub fn new(circuit_id: u16) -> Self {
        Self {
            circuit_id,
            words: Vec::new(),
        }
    }

    pub fn push(&mut self, word: FpVar<Fr>) {
        self.words.push(word);
    }

    pub fn extend(&mut self, words: impl IntoIterator<Item = FpVar<Fr>>) {
        self.words.extend(words);
    }

    /// C is the commitment to the words and y their polynomial at z.
    pub fn bind(
        self,
        cs: &ConstraintSystemRef<Fr>,
        commitment: &FpVar<Fr>,
        challenge: &FpVar<Fr>,
        evaluation: &FpVar<Fr>,
    ) -> Result<(), SynthesisError> {
        let words: Vec<_> = {
            let _ns = ns!(cs, "a data word is its parts");
            self.words
                .iter()
                .map(|word| settle(cs, word))
                .collect::<Result<_, _>>()?
        };
        let mut state = FpVar::Constant(Fr::from(self.circuit_id));
        for chunk in words.chunks(CHUNK) {
            let inputs: [FpVar<Fr>; CHUNK + 1] = std::array::from_fn(|i| match i {
                0 => state.clone(),
                _ => chunk
                    .get(i - 1)
                    .cloned()
                    .unwrap_or(FpVar::Constant(Fr::zero())),
            });
            state = poseidon::gadget::hash(&inputs)?;
        }
        {
            let _ns = ns!(cs, "C commits to the data");
            enforce_equal(cs, &state, commitment)?;
        }
        let _ns = ns!(cs, "y is the data at z");
        enforce_evaluation(cs, &words, challenge, evaluation)
    }
}

/// Horner's rule: sum_i = sum_{i+1}·z + words[i], and sum_0 = y.
fn enforce_evaluation(
    cs: &ConstraintSystemRef<Fr>,
    words: &[FpVar<Fr>],
    challenge: &FpVar<Fr>,
    evaluation: &FpVar<Fr>,
) -> Result<(), SynthesisError> {
    let (first, rest) = words.split_first().expect("a data vector has a header");
    let mut sum = FpVar::Constant(Fr::zero());
    for word in rest.iter().rev() {
        let next = witness(cs, value_of(&sum)? * value_of(challenge)? + value_of(word)?)?;
        enforce_product(cs, &sum, challenge, &minus(&next, word))?;
        sum = next;
    }
    enforce_product(cs, &sum, challenge, &minus(evaluation, first))
}

//! A circuit of any size for tests and benchmarks: a chain x ← (x + i + 1)(x + i + 2) from a secret start.
//!
//! Every wire is a full-size number and every row of A and B has two entries, so a chain costs a prover what a real circuit
//! of that many constraints costs at least. Public inputs: end of the chain, number of links, end squared.

use crate::circuit::Assignable;
use ark_bn254::Fr;
use ark_relations::gr1cs::{
    ConstraintSynthesizer, ConstraintSystemRef, LinearCombination, SynthesisError, Variable,
};
use millrace_circuits::field::Word;
use serde::{Deserialize, Serialize};

/// Links at most: more would not fit the domain that BN254's scalar field offers.
pub const MAX_LINKS: u32 = 1 << 26;

/// A chain with its secret.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Chain {
    /// Number of links, each one constraint.
    pub links: u32,
    /// Where it starts.
    pub start: Word,
}

impl Chain {
    /// A chain of so many links.
    pub fn new(links: u32, start: u64) -> Self {
        Self {
            links: links.min(MAX_LINKS),
            start: Word(Fr::from(start)),
        }
    }

    /// The value after the last link.
    pub fn end(&self) -> Fr {
        (0..self.links).fold(self.start.0, next)
    }

    /// The three public inputs.
    pub fn inputs(&self) -> [Fr; 3] {
        let end = self.end();
        [end, Fr::from(self.links), end * end]
    }
}

fn next(x: Fr, i: u32) -> Fr {
    (x + Fr::from(u64::from(i) + 1)) * (x + Fr::from(u64::from(i) + 2))
}

fn shifted(x: Variable, by: u64) -> LinearCombination<Fr> {
    LinearCombination(vec![(Fr::from(1u64), x), (Fr::from(by), Variable::One)])
}

fn sum(terms: &[Variable]) -> LinearCombination<Fr> {
    LinearCombination(terms.iter().map(|v| (Fr::from(1u64), *v)).collect())
}

impl ConstraintSynthesizer<Fr> for Assignable<Chain, [Fr; 3]> {
    fn generate_constraints(self, cs: ConstraintSystemRef<Fr>) -> Result<(), SynthesisError> {
        let links = self.witness.links;
        let [end, count, square] = self.public;
        let end = cs.new_input_variable(|| Ok(end))?;
        let count = cs.new_input_variable(|| Ok(count))?;
        let square = cs.new_input_variable(|| Ok(square))?;
        let mut value = self.witness.start.0;
        let mut x = cs.new_witness_variable(|| Ok(value))?;
        for i in 0..links {
            value = next(value, i);
            let y = cs.new_witness_variable(|| Ok(value))?;
            let step = u64::from(i);
            cs.enforce_r1cs_constraint(
                || shifted(x, step + 1),
                || shifted(x, step + 2),
                || sum(&[y]),
            )?;
            x = y;
        }
        cs.enforce_r1cs_constraint(|| sum(&[x]), || sum(&[Variable::One]), || sum(&[end]))?;
        let links = LinearCombination(vec![(Fr::from(links), Variable::One)]);
        cs.enforce_r1cs_constraint(|| links, || sum(&[Variable::One]), || sum(&[count]))?;
        cs.enforce_r1cs_constraint(|| sum(&[x]), || sum(&[x]), || sum(&[square]))
    }
}

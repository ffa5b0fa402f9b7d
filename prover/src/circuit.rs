//! What can be proved: the known circuits, and statements about them.
//!
//! [`Circuit`] (which rules) → matrices, identity; [`Statement`] (rules + secret + public inputs) → [`Assignment`]
//!
//! On the proving path only values are computed: the matrices are cached with the key, so no constraint is built twice.

use crate::chain::{Chain, MAX_LINKS};
use crate::matrices::{CircuitIdentity, ConstraintMatrices, MatricesError};
use ark_bn254::Fr;
use ark_relations::gr1cs::{
    ConstraintSynthesizer, ConstraintSystem, ConstraintSystemRef, SynthesisError, SynthesisMode,
};
use millrace_circuits::batch::{BatchCircuit, BatchPublic, BatchWitness, Shape};
use serde::{Deserialize, Serialize};
use std::{fmt, str::FromStr};
use thiserror::Error;
use zeroize::Zeroizing;

/// A witness and the public inputs it is to match.
pub struct Assignable<W, P> {
    /// The secret part.
    pub witness: W,
    /// The public part.
    pub public: P,
}

/// A circuit by name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum Circuit {
    /// A rollup batch of this shape.
    Batch(Shape),
    /// A chain of this many links, for tests and benchmarks.
    Chain(u32),
}

/// Text that names no circuit.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("no circuit is called {0:?}: expected batch-<id of a shape> or chain-<links>")]
pub struct UnknownCircuit(pub String);

impl fmt::Display for Circuit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Batch(shape) => write!(f, "batch-{}", shape.id),
            Self::Chain(links) => write!(f, "chain-{links}"),
        }
    }
}

impl FromStr for Circuit {
    type Err = UnknownCircuit;

    fn from_str(text: &str) -> Result<Self, UnknownCircuit> {
        let unknown = || UnknownCircuit(text.chars().take(80).collect());
        match text.split_once('-') {
            Some(("batch", id)) => {
                let shape = id.parse().ok().and_then(Shape::by_id);
                shape.map(Self::Batch).ok_or_else(unknown)
            }
            Some(("chain", links)) => {
                let links = links.parse().ok().filter(|links| *links <= MAX_LINKS);
                links.map(Self::Chain).ok_or_else(unknown)
            }
            _ => Err(unknown()),
        }
    }
}

impl TryFrom<String> for Circuit {
    type Error = UnknownCircuit;
    fn try_from(text: String) -> Result<Self, UnknownCircuit> {
        text.parse()
    }
}

impl From<Circuit> for String {
    fn from(circuit: Circuit) -> Self {
        circuit.to_string()
    }
}

impl Circuit {
    /// Synthesizes the constraints.
    ///
    /// # Errors
    /// If the circuit does not synthesize.
    pub fn matrices(&self) -> Result<ConstraintMatrices, MatricesError> {
        ConstraintMatrices::of(Empty(*self))
    }

    /// The circuit's content. That of a batch circuit is known without synthesizing it: it is pinned, and a test compares
    /// the pin with the circuit.
    ///
    /// # Errors
    /// If another circuit does not synthesize.
    pub fn identity(&self) -> Result<CircuitIdentity, MatricesError> {
        match self.pinned() {
            Some(identity) => Ok(identity),
            None => Ok(self.matrices()?.identity()),
        }
    }

    fn pinned(&self) -> Option<CircuitIdentity> {
        let pins = [
            include_str!("../../circuits/pinned/batch-1.json"),
            include_str!("../../circuits/pinned/batch-2.json"),
            include_str!("../../circuits/pinned/batch-3.json"),
        ];
        let Self::Batch(shape) = self else {
            return None;
        };
        // Shapes of the same id but other sizes are made by benchmarks.
        if Shape::by_id(shape.id).as_ref() != Some(shape) {
            return None;
        }
        let name = self.to_string();
        let mut pins = pins
            .iter()
            .filter_map(|pin| serde_json::from_str::<Pin>(pin).ok());
        pins.find(|pin| pin.circuit == name).map(|pin| pin.identity)
    }
}

/// What a file of `circuits/pinned/` says of a circuit, as far as it is needed here.
#[derive(Deserialize)]
struct Pin {
    circuit: String,
    identity: CircuitIdentity,
}

/// The circuit with placeholder values: only its constraints matter.
struct Empty(Circuit);

impl ConstraintSynthesizer<Fr> for Empty {
    fn generate_constraints(self, cs: ConstraintSystemRef<Fr>) -> Result<(), SynthesisError> {
        match self.0 {
            Circuit::Batch(shape) => BatchCircuit::blank(shape).generate_constraints(cs),
            Circuit::Chain(links) => {
                let witness = Chain::new(links, 0);
                let public = [Fr::from(0u64); 3];
                Assignable { witness, public }.generate_constraints(cs)
            }
        }
    }
}

/// A claim with its secret: what a prover is asked to prove.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Statement {
    /// A rollup batch.
    Batch {
        /// What the circuit is assigned from.
        witness: Box<BatchWitness>,
        /// The contract's inputs.
        public: BatchPublic,
    },
    /// A chain.
    Chain(Chain),
}

impl Statement {
    /// The circuit it is about.
    pub fn circuit(&self) -> Circuit {
        match self {
            Self::Batch { witness, .. } => Circuit::Batch(witness.data.shape),
            Self::Chain(chain) => Circuit::Chain(chain.links),
        }
    }

    /// The public inputs, in the verifier's order.
    pub fn public_inputs(&self) -> Vec<Fr> {
        match self {
            Self::Batch { public, .. } => public.inputs().to_vec(),
            Self::Chain(chain) => chain.inputs().to_vec(),
        }
    }

    /// Computes every value of the circuit and no constraint.
    ///
    /// # Errors
    /// If the witness is malformed, so that the circuit's own code fails.
    pub fn assign(&self) -> Result<Assignment, SynthesisError> {
        match self {
            Self::Batch { witness, public } => {
                Assignment::of(BatchCircuit::new((**witness).clone(), *public))
            }
            Self::Chain(chain) => {
                let public = chain.inputs();
                Assignment::of(Assignable {
                    witness: chain.clone(),
                    public,
                })
            }
        }
    }
}

/// Every value of a circuit: one, the public inputs, the witness. Wiped when dropped.
pub struct Assignment {
    inputs: usize,
    values: Zeroizing<Vec<Fr>>,
}

impl Assignment {
    /// Runs a circuit for its values only.
    ///
    /// # Errors
    /// If the circuit's code fails on this witness.
    pub fn of<C: ConstraintSynthesizer<Fr>>(circuit: C) -> Result<Self, SynthesisError> {
        let cs = ConstraintSystem::<Fr>::new_ref();
        cs.set_mode(SynthesisMode::Prove {
            construct_matrices: false,
            generate_lc_assignments: false,
        });
        circuit.generate_constraints(cs.clone())?;
        let mut values = cs.instance_assignment()?;
        let inputs = values.len();
        let witness = Zeroizing::new(cs.witness_assignment()?);
        values.extend_from_slice(&witness);
        Ok(Self {
            inputs,
            values: Zeroizing::new(values),
        })
    }

    /// Values at hand: one, the public inputs, the witness; so many of them inputs, the constant included.
    ///
    /// # Panics
    /// If there are fewer values than inputs.
    pub fn of_values(inputs: usize, values: Zeroizing<Vec<Fr>>) -> Self {
        assert!((1..=values.len()).contains(&inputs), "inputs are values");
        Self { inputs, values }
    }

    /// All values, the constant one first.
    pub fn values(&self) -> &[Fr] {
        &self.values
    }

    /// The public inputs without the constant.
    pub fn public_inputs(&self) -> &[Fr] {
        &self.values[1..self.inputs]
    }

    /// Number of public inputs plus one.
    pub fn inputs(&self) -> usize {
        self.inputs
    }
}

#[cfg(test)]
mod tests;

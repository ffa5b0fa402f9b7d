//! The batch circuit: proves that the posted data vector is a valid transition from the old to the new root.
//!
//! ```text
//! public: C, z, y
//! header ─ timestamp, domain ──────────────┐
//! old root → L1 rows → transaction rows → fee leaves → new root      (circuit::{l1_row, row, fees})
//!              └──────────┬──────────────────┘
//!                    data vector d → commitment = C, evaluation at z = y      (circuit::data)
//! ```
//!
//! Every access opens one leaf to the current root and writes it back: the roots form a chain. Index 0 is never used, so an
//! access that does nothing opens leaf 0, which is empty, and writes it back empty.
//!
//! # Soundness
//! Each gadget states beside its witnesses the named constraint that binds them. What leaves the circuit is the data
//! vector: C fixes it before the contract derives z from what was posted, so y can only match if both agree.

mod data;
mod fees;
mod l1_row;
mod leaf;
mod row;
mod wires;

#[cfg(test)]
mod tests;

use super::data::BatchPublic;
use super::shape::Shape;
use super::witness::BatchWitness;
use crate::field::power_of_two;
use ark_bn254::Fr;
use ark_r1cs_std::fields::fp::FpVar;
use ark_relations::gr1cs::{ConstraintSynthesizer, ConstraintSystemRef, SynthesisError};
use ark_relations::ns;
use wires::{combine, enforce_equal, input, private_input, unsigned, witness};

/// A batch with its public inputs, ready to be synthesized.
#[derive(Debug, Clone)]
pub struct BatchCircuit {
    witness: BatchWitness,
    public: BatchPublic,
}

impl BatchCircuit {
    /// Pairs a batch with its public inputs.
    pub fn new(witness: BatchWitness, public: BatchPublic) -> Self {
        Self { witness, public }
    }

    /// The circuit of a shape, assigned with a batch that does nothing: for key generation.
    pub fn blank(shape: Shape) -> Self {
        let witness = BatchWitness::empty(shape);
        let public = witness.data.public(Default::default());
        Self { witness, public }
    }
}

/// What every row needs to know of the batch.
struct Context {
    timestamp: FpVar<Fr>,
    domain: FpVar<Fr>,
    idle: row::IdleSigner,
}

impl ConstraintSynthesizer<Fr> for BatchCircuit {
    fn generate_constraints(self, cs: ConstraintSystemRef<Fr>) -> Result<(), SynthesisError> {
        let Self {
            witness: batch,
            public,
        } = self;
        let public = public.inputs().map(|value| input(&cs, value));
        let [commitment, challenge, evaluation] = public;
        let (commitment, challenge, evaluation) = (commitment?, challenge?, evaluation?);

        let header = HeaderVar::new(&cs, &batch)?;
        let mut words = data::Words::new(batch.data.shape.id);
        let mut root = header.old_root.clone();
        let fee_leaves = fees::allocate(&cs, &batch)?;
        words.push(header.head.clone());
        words.push(header.domain.clone());
        words.push(header.old_root.clone());
        words.push(header.new_root.clone());
        words.push(fees::indices_word(&fee_leaves));

        for (position, opened) in batch.l1_rows.iter().enumerate() {
            let posted = batch.data.l1_rows.get(position);
            let served = l1_row::apply(&cs, posted, opened, &root)?;
            words.extend(served.words);
            root = served.root;
        }

        let context = Context {
            timestamp: header.timestamp,
            domain: header.domain,
            idle: row::IdleSigner::new(&batch.data.header.domain),
        };
        let mut rows = Vec::with_capacity(batch.rows.len());
        for (position, opened) in batch.rows.iter().enumerate() {
            let posted = batch.data.rows.get(position).copied().unwrap_or_default();
            let applied = row::apply(&cs, &context, &posted, opened, &root)?;
            root = applied.root.clone();
            rows.push(applied);
        }
        for pair in rows.chunks_exact(2) {
            row::enforce_links(&cs, &pair[0], &pair[1])?;
            words.push(combine(&[
                (power_of_two(96), &pair[0].integer),
                (Fr::from(1u64), &pair[1].integer),
            ]));
        }
        for applied in &rows {
            words.extend(applied.extras.clone());
        }

        root = fees::pay(&cs, &fee_leaves, &rows, root)?;
        {
            let _ns = ns!(cs, "new root follows from the operations");
            enforce_equal(&cs, &root, &header.new_root)?;
        }
        words.bind(&cs, &commitment, &challenge, &evaluation)
    }
}

/// The header's wires.
struct HeaderVar {
    head: FpVar<Fr>,
    timestamp: FpVar<Fr>,
    domain: FpVar<Fr>,
    old_root: FpVar<Fr>,
    new_root: FpVar<Fr>,
}

impl HeaderVar {
    fn new(cs: &ConstraintSystemRef<Fr>, batch: &BatchWitness) -> Result<Self, SynthesisError> {
        let header = &batch.data.header;
        let id = FpVar::Constant(Fr::from(batch.data.shape.id));
        let (number, timestamp) = {
            let _ns = ns!(cs, "batch number and timestamp are 64 bits each");
            (
                unsigned(cs, header.number.0.into(), 64)?,
                unsigned(cs, header.timestamp.0.into(), 64)?,
            )
        };
        let one = Fr::from(1u64);
        Ok(Self {
            head: combine(&[
                (one, &id),
                (power_of_two(16), &number.value),
                (power_of_two(80), &timestamp.value),
            ]),
            timestamp: timestamp.value,
            domain: private_input(cs, header.domain.0.0)?,
            old_root: private_input(cs, header.old_root.0)?,
            new_root: witness(cs, header.new_root.0)?,
        })
    }
}

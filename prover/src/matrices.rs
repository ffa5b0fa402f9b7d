//! A circuit's constraints as three sparse matrices, and the identity that names the circuit.
//!
//! circuit → synthesis → [`ConstraintMatrices`] → [`CircuitIdentity`]; matrices · assignment → which row fails
//!
//! Row k states (A·z)ₖ · (B·z)ₖ = (C·z)ₖ, where z is the full assignment: one, the public inputs, the witness. Rows are
//! canonical (columns ascending, no zeros, no duplicates), so one circuit has one identity. Equal coefficients are kept
//! once: a nonzero costs eight bytes instead of forty.

use crate::key::map::Kept;
use ark_bn254::Fr;
use ark_ff::{One, Zero};
use ark_relations::gr1cs::{
    ConstraintSynthesizer, ConstraintSystem, Matrix, OptimizationGoal, R1CS_PREDICATE_LABEL,
    SynthesisError, SynthesisMode,
};
use rayon::prelude::*;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use std::collections::HashMap;
use std::{fmt, str::FromStr};
use thiserror::Error;

/// Domain separation of [`CircuitIdentity`].
const IDENTITY_TAG: &[u8] = b"millrace-circuit-1";

/// Names a circuit by its content: SHA-256 of its constraint matrices. A proving key belongs to exactly one identity.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct CircuitIdentity(pub [u8; 32]);

/// Text that is no 32-byte hexadecimal hash.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("expected 64 hexadecimal digits, got {0:?}")]
pub struct NotAHash(pub String);

pub(crate) fn hash_from_text(text: &str) -> Result<[u8; 32], NotAHash> {
    let mut bytes = [0; 32];
    hex::decode_to_slice(text, &mut bytes)
        .map_err(|_| NotAHash(text.chars().take(80).collect()))?;
    Ok(bytes)
}

impl CircuitIdentity {
    /// The first sixteen digits, for file names and logs.
    pub fn short(&self) -> String {
        hex::encode(&self.0[..8])
    }
}

impl fmt::Display for CircuitIdentity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&hex::encode(self.0))
    }
}

impl fmt::Debug for CircuitIdentity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "CircuitIdentity({self})")
    }
}

impl FromStr for CircuitIdentity {
    type Err = NotAHash;
    fn from_str(text: &str) -> Result<Self, NotAHash> {
        hash_from_text(text).map(Self)
    }
}

impl TryFrom<String> for CircuitIdentity {
    type Error = NotAHash;
    fn try_from(text: String) -> Result<Self, NotAHash> {
        text.parse()
    }
}

impl From<CircuitIdentity> for String {
    fn from(identity: CircuitIdentity) -> Self {
        identity.to_string()
    }
}

/// One sparse matrix in compressed rows; values are positions in the shared coefficient table.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct SparseMatrix {
    pub(crate) row_ends: Kept<u32>,
    pub(crate) columns: Kept<u32>,
    pub(crate) values: Kept<u32>,
}

impl SparseMatrix {
    /// Number of nonzero entries.
    pub fn nonzeros(&self) -> usize {
        self.columns.len()
    }

    /// Number of rows.
    pub fn rows(&self) -> usize {
        self.row_ends.len()
    }

    /// The row's entries: column and position of the coefficient.
    pub fn row(&self, row: usize) -> impl Iterator<Item = (usize, usize)> + '_ {
        let start = if row == 0 {
            0
        } else {
            self.row_ends[row - 1] as usize
        };
        let range = start..self.row_ends[row] as usize;
        let columns = self.columns[range.clone()].iter().map(|c| *c as usize);
        columns.zip(self.values[range].iter().map(|v| *v as usize))
    }
}

/// The constraints of one circuit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConstraintMatrices {
    /// Number of public inputs plus one (the constant).
    pub inputs: usize,
    /// Number of private values.
    pub witnesses: usize,
    /// Distinct coefficients in the order of their first use.
    pub coefficients: Vec<Fr>,
    /// A, B and C.
    pub matrices: [SparseMatrix; 3],
}

/// Why a circuit has no usable matrices.
#[derive(Debug, Error)]
pub enum MatricesError {
    /// The circuit's own code failed.
    #[error("the circuit could not be synthesized: {0}")]
    Synthesis(#[from] SynthesisError),
    /// More entries than positions of 32 bits can name.
    #[error("the circuit is too large: {0} exceeds 2^32")]
    TooLarge(&'static str),
}

impl ConstraintMatrices {
    /// Synthesizes a circuit and keeps its constraints. Any witness will do: constraints do not depend on values, though
    /// the circuit's code may ask for them.
    ///
    /// # Errors
    /// If the circuit fails to synthesize, or has 2^32 entries or more.
    pub fn of<C: ConstraintSynthesizer<Fr>>(circuit: C) -> Result<Self, MatricesError> {
        let cs = ConstraintSystem::<Fr>::new_ref();
        cs.set_optimization_goal(OptimizationGoal::Constraints);
        cs.set_mode(SynthesisMode::Prove {
            construct_matrices: true,
            generate_lc_assignments: false,
        });
        circuit.generate_constraints(cs.clone())?;
        cs.finalize();
        let mut labelled = cs.to_matrices()?;
        let rows = labelled
            .remove(R1CS_PREDICATE_LABEL)
            .ok_or(SynthesisError::PredicateNotFound)?;
        let inputs = cs.num_instance_variables();
        let witnesses = cs.num_witness_variables();
        drop(cs);
        Interner::default().intern(rows, inputs, witnesses)
    }

    /// Keeps the rows of up to three matrices.
    ///
    /// # Errors
    /// If there are 2^32 entries or variables or more.
    pub fn of_rows(
        rows: Vec<Matrix<Fr>>,
        inputs: usize,
        witnesses: usize,
    ) -> Result<Self, MatricesError> {
        Interner::default().intern(rows, inputs, witnesses)
    }

    /// Number of constraints.
    pub fn constraints(&self) -> usize {
        self.matrices[0].rows()
    }

    /// Number of values in a full assignment.
    pub fn variables(&self) -> usize {
        self.inputs + self.witnesses
    }

    /// Size of the evaluation domain: a power of two that holds every constraint and input.
    pub fn domain(&self) -> usize {
        (self.constraints() + self.inputs).next_power_of_two()
    }

    /// Nonzero entries per constraint of A, B and C.
    pub fn nonzeros_per_constraint(&self) -> [f64; 3] {
        let constraints = self.constraints().max(1) as f64;
        [0, 1, 2].map(|m| self.matrices[m].nonzeros() as f64 / constraints)
    }

    /// The circuit's identity: SHA-256 of a tag, the three counts, and every row of A, B and C as its length and its
    /// (column, coefficient) pairs; counts little-endian, coefficients 32 bytes big-endian.
    pub fn identity(&self) -> CircuitIdentity {
        let coefficients: Vec<[u8; 32]> = self
            .coefficients
            .iter()
            .map(millrace_circuits::field::to_bytes)
            .collect();
        let mut hasher = Sha256::new();
        hasher.update(IDENTITY_TAG);
        for count in [self.constraints(), self.inputs, self.witnesses] {
            hasher.update((count as u64).to_le_bytes());
        }
        let mut row_bytes = Vec::new();
        for matrix in &self.matrices {
            for row in 0..matrix.rows() {
                row_bytes.clear();
                row_bytes.extend([0; 4]);
                for (column, value) in matrix.row(row) {
                    row_bytes.extend((column as u32).to_le_bytes());
                    row_bytes.extend(coefficients[value]);
                }
                let count = ((row_bytes.len() - 4) / 36) as u32;
                row_bytes[..4].copy_from_slice(&count.to_le_bytes());
                hasher.update(&row_bytes);
            }
        }
        CircuitIdentity(hasher.finalize().into())
    }

    /// Matrix number `matrix` (0 = A, 1 = B, 2 = C) times an assignment.
    pub fn evaluate(&self, matrix: usize, assignment: &[Fr]) -> Vec<Fr> {
        let rows = self.matrices[matrix].rows();
        (0..rows)
            .into_par_iter()
            .map(|row| self.evaluate_row(matrix, row, assignment))
            .collect()
    }

    fn evaluate_row(&self, matrix: usize, row: usize, assignment: &[Fr]) -> Fr {
        let mut sum = Fr::zero();
        for (column, value) in self.matrices[matrix].row(row) {
            let coefficient = self.coefficients[value];
            sum += if coefficient.is_one() {
                assignment[column]
            } else {
                coefficient * assignment[column]
            };
        }
        sum
    }

    /// The first constraint that an assignment of the right length breaks.
    pub fn first_unsatisfied(&self, assignment: &[Fr]) -> Option<usize> {
        (0..self.constraints()).into_par_iter().find_first(|&row| {
            let [a, b, c] = [0, 1, 2].map(|m| self.evaluate_row(m, row, assignment));
            a * b != c
        })
    }

    /// A matrix with its coefficients written out, as other libraries take it.
    pub fn expanded(&self, matrix: usize) -> Matrix<Fr> {
        let sparse = &self.matrices[matrix];
        let row = |row| {
            sparse
                .row(row)
                .map(|(c, v)| (self.coefficients[v], c))
                .collect()
        };
        (0..sparse.rows()).into_par_iter().map(row).collect()
    }
}

/// Collects rows and gives equal coefficients one place.
#[derive(Default)]
struct Interner {
    positions: HashMap<Fr, u32>,
    coefficients: Vec<Fr>,
}

impl Interner {
    fn intern(
        mut self,
        rows: Vec<Matrix<Fr>>,
        inputs: usize,
        witnesses: usize,
    ) -> Result<ConstraintMatrices, MatricesError> {
        if inputs
            .checked_add(witnesses)
            .is_none_or(|sum| sum > u32::MAX as usize)
        {
            return Err(MatricesError::TooLarge("the number of variables"));
        }
        let mut matrices = rows.into_iter().map(|matrix| self.matrix(matrix));
        let mut next = || {
            matrices
                .next()
                .unwrap_or_else(|| Ok(SparseMatrix::default()))
        };
        let matrices = [next()?, next()?, next()?];
        Ok(ConstraintMatrices {
            inputs,
            witnesses,
            coefficients: self.coefficients,
            matrices,
        })
    }

    fn matrix(&mut self, rows: Matrix<Fr>) -> Result<SparseMatrix, MatricesError> {
        let mut row_ends = Vec::with_capacity(rows.len());
        let (mut columns, mut values) = (vec![], vec![]);
        for row in rows {
            for (coefficient, column) in canonical_row(row) {
                columns.push(column as u32);
                values.push(self.position(coefficient));
            }
            let end = u32::try_from(columns.len())
                .map_err(|_| MatricesError::TooLarge("the number of nonzero entries"))?;
            row_ends.push(end);
        }
        Ok(SparseMatrix {
            row_ends: row_ends.into(),
            columns: columns.into(),
            values: values.into(),
        })
    }

    fn position(&mut self, coefficient: Fr) -> u32 {
        let coefficients = &mut self.coefficients;
        *self.positions.entry(coefficient).or_insert_with(|| {
            coefficients.push(coefficient);
            (coefficients.len() - 1) as u32
        })
    }
}

/// Columns ascending, equal columns added up, zeros left out.
fn canonical_row(mut row: Vec<(Fr, usize)>) -> Vec<(Fr, usize)> {
    row.sort_unstable_by_key(|(_, column)| *column);
    row.dedup_by(|later, earlier| {
        let same = later.1 == earlier.1;
        if same {
            earlier.0 += later.0;
        }
        same
    });
    row.retain(|(coefficient, _)| !coefficient.is_zero());
    row
}

/// Limbs of a field element in Montgomery form, little-endian: how key files keep them.
pub(crate) fn montgomery_bytes(limbs: &[u64; 4]) -> [u8; 32] {
    let mut bytes = [0; 32];
    for (chunk, limb) in bytes.chunks_exact_mut(8).zip(limbs) {
        chunk.copy_from_slice(&limb.to_le_bytes());
    }
    bytes
}

/// The inverse of [`montgomery_bytes`].
pub(crate) fn montgomery_limbs(bytes: &[u8]) -> [u64; 4] {
    let mut limbs = [0; 4];
    for (limb, chunk) in limbs.iter_mut().zip(bytes.chunks_exact(8)) {
        *limb = chunk
            .iter()
            .rev()
            .fold(0, |sum, byte| (sum << 8) | u64::from(*byte));
    }
    limbs
}

#[cfg(test)]
mod tests;

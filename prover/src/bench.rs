//! Measurements of circuits and provers, as rows that serialize to the benchmark's JSON.
//!
//! [`bench_circuit`]: how many constraints; [`bench_prove`]: how long a proof takes. The caller adds the [`Environment`]
//! ([`Report`]) and shows progress.
//!
//! [`Environment`]: crate::environment::Environment

use crate::chain::Chain;
use crate::circuit::{Circuit, Statement};
use crate::environment::{Environment, peak_rss_bytes, reset_peak_rss};
use crate::groth16::{Backend, BackendError, Verifier};
use crate::key::{CircuitKey, GenerateError};
use crate::matrices::MatricesError;
use crate::prove::timed;
use crate::setup::Seed;
use ark_relations::gr1cs::SynthesisError;
use millrace_circuits::batch::Shape;
use millrace_circuits::types::L1Address;
use serde::{Deserialize, Serialize};
use std::sync::Arc;
use thiserror::Error;

mod sample;

pub use sample::{SampleError, sample_batch};

/// Transaction rows between two shapes whose difference gives the marginal cost: their words fill whole commitment chunks.
const SLOPE_ROWS: usize = 30;

/// A benchmark's output: one JSON object.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Report<R> {
    /// The machine and program.
    pub environment: Environment,
    /// The measurements.
    pub rows: Vec<R>,
}

impl<R> Report<R> {
    /// Rows measured here and now.
    pub fn new(rows: Vec<R>) -> Self {
        Self {
            environment: Environment::detect(),
            rows,
        }
    }
}

/// Size of a circuit.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct CircuitRow {
    /// The circuit.
    pub circuit: Circuit,
    /// Its content.
    pub identity: String,
    /// Constraints.
    pub constraints: usize,
    /// Constraints that one more transfer costs.
    pub constraints_per_transfer: f64,
    /// What remains without transfers.
    pub fixed: f64,
    /// Points of the evaluation domain.
    pub domain: usize,
    /// Transaction rows.
    pub batch: usize,
    /// Nonzero entries per constraint of A, B and C.
    pub nonzeros_per_constraint: [f64; 3],
}

/// Smallest, middle and largest of several measurements.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Spread {
    /// Smallest.
    pub min: f64,
    /// Middle.
    pub median: f64,
    /// Largest.
    pub max: f64,
}

impl Spread {
    /// Of at least one sample; none gives zeros.
    pub fn of(samples: &[f64]) -> Self {
        let mut sorted = samples.to_vec();
        sorted.sort_by(f64::total_cmp);
        let at = |position: usize| sorted.get(position).copied().unwrap_or_default();
        let (low, high) = (sorted.len().saturating_sub(1) / 2, sorted.len() / 2);
        Self {
            min: at(0),
            median: (at(low) + at(high)) / 2.0,
            max: at(sorted.len().saturating_sub(1)),
        }
    }
}

/// Speed of a backend on a circuit.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ProveRow {
    /// The backend.
    pub backend: String,
    /// The circuit.
    pub circuit: Circuit,
    /// Transaction rows, all of them transfers; 0 for a chain.
    pub batch: usize,
    /// Constraints.
    pub constraints: usize,
    /// Seconds to synthesize the circuit and generate its key.
    pub setup_s: f64,
    /// Median seconds to compute the assignment.
    pub witness_s: f64,
    /// Seconds to prove.
    pub prove_s: Spread,
    /// Median microseconds of proving per constraint.
    pub us_per_constraint: f64,
    /// Transfers per second, witness and proof, at the medians.
    pub transfers_per_s: f64,
    /// Highest memory use while proving, key included.
    pub peak_rss_bytes: u64,
    /// Threads used.
    pub threads: usize,
}

/// What to measure.
#[derive(Debug, Clone)]
pub struct ProveBench {
    /// The circuit.
    pub circuit: Circuit,
    /// Timed proofs; one more runs first to warm up.
    pub repetitions: usize,
}

/// Why there is no measurement.
#[derive(Debug, Error)]
pub enum BenchError {
    /// No key.
    #[error(transparent)]
    Generate(#[from] GenerateError),
    /// No matrices.
    #[error(transparent)]
    Matrices(#[from] MatricesError),
    /// No sample batch.
    #[error(transparent)]
    Sample(#[from] SampleError),
    /// The sample's circuit cannot be assigned.
    #[error("the sample cannot be assigned: {0}")]
    Witness(#[from] SynthesisError),
    /// The backend failed.
    #[error(transparent)]
    Backend(#[from] BackendError),
    /// The backend's proof is wrong, so its speed means nothing.
    #[error("backend {0} made a proof that does not verify")]
    WrongProof(String),
}

/// Counts the constraints of each shape.
///
/// # Errors
/// If a circuit does not synthesize.
pub fn bench_circuit(
    shapes: &[Shape],
    mut progress: impl FnMut(&str),
) -> Result<Vec<CircuitRow>, BenchError> {
    progress("marginal cost of a transfer");
    let count = |shape| -> Result<usize, MatricesError> {
        Ok(Circuit::Batch(shape).matrices()?.constraints())
    };
    let base = Shape::TINY;
    let longer = Shape {
        transaction_rows: base.transaction_rows + SLOPE_ROWS,
        ..base
    };
    let slope = (count(longer)? - count(base)?) as f64 / SLOPE_ROWS as f64;
    shapes
        .iter()
        .map(|shape| {
            let circuit = Circuit::Batch(*shape);
            progress(&format!("constraints of {circuit}"));
            let matrices = circuit.matrices()?;
            let batch = shape.transaction_rows;
            Ok(CircuitRow {
                circuit,
                identity: matrices.identity().to_string(),
                constraints: matrices.constraints(),
                constraints_per_transfer: slope,
                fixed: matrices.constraints() as f64 - slope * batch as f64,
                domain: matrices.domain(),
                batch,
                nonzeros_per_constraint: matrices.nonzeros_per_constraint(),
            })
        })
        .collect()
}

/// Times a backend on one circuit: a setup, a warm-up, then each repetition's witness and proof.
///
/// # Errors
/// If any step fails, a proof that does not verify included.
pub fn bench_prove(
    backend: &dyn Backend,
    bench: &ProveBench,
    mut progress: impl FnMut(&str),
) -> Result<ProveRow, BenchError> {
    let circuit = bench.circuit;
    let statement = sample_statement(circuit)?;
    progress(&format!("setup of {circuit}"));
    let (key, setup_s) = timed(|| CircuitKey::generate(circuit, &Seed::development()));
    let key = Arc::new(key?);
    let constraints = key.matrices.constraints();
    let verifier = Verifier::new(key.verifying_key());
    let prepared = backend.prepare(key);
    reset_peak_rss();
    let (mut witness, mut prove) = (Vec::new(), Vec::new());
    for repetition in 0..=bench.repetitions.max(1) {
        progress(&format!(
            "proof {repetition} of {circuit} by {}",
            backend.name()
        ));
        let (assignment, witness_s) = timed(|| statement.assign());
        let assignment = assignment?;
        let (proof, prove_s) = timed(|| prepared.prove(&assignment));
        if !verifier.accepts(&proof?, &statement.public_inputs()) {
            return Err(BenchError::WrongProof(backend.name().to_owned()));
        }
        // The first run warms caches and the thread pool up.
        if repetition > 0 {
            witness.push(witness_s);
            prove.push(prove_s);
        }
    }
    let (witness_s, prove_s) = (Spread::of(&witness).median, Spread::of(&prove));
    let batch = batch_size(circuit);
    Ok(ProveRow {
        backend: backend.name().to_owned(),
        circuit,
        batch,
        constraints,
        setup_s,
        witness_s,
        prove_s,
        us_per_constraint: prove_s.median * 1e6 / constraints.max(1) as f64,
        transfers_per_s: batch as f64 / (witness_s + prove_s.median),
        peak_rss_bytes: peak_rss_bytes(),
        threads: rayon::current_num_threads(),
    })
}

fn batch_size(circuit: Circuit) -> usize {
    match circuit {
        Circuit::Batch(shape) => shape.transaction_rows,
        Circuit::Chain(_) => 0,
    }
}

/// A statement that uses all of a circuit.
///
/// # Errors
/// If no sample batch can be made.
pub fn sample_statement(circuit: Circuit) -> Result<Statement, SampleError> {
    match circuit {
        Circuit::Batch(shape) => {
            let batch = sample_batch(shape)?;
            let public = batch.data.public(L1Address::default());
            Ok(Statement::Batch {
                witness: Box::new(batch.witness),
                public,
            })
        }
        Circuit::Chain(links) => Ok(Statement::Chain(Chain::new(links, 5))),
    }
}

#[cfg(test)]
mod tests;

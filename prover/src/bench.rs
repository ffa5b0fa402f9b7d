//! Measurements of circuits and provers, as rows that serialize to the benchmark's JSON.
//!
//! [`bench_circuit`]: how many constraints; [`bench_prove`]: how long a proof takes. The caller adds the [`Environment`]
//! ([`Report`]) and shows progress.
//!
//! [`Environment`]: crate::environment::Environment

use crate::chain::Chain;
use crate::circom::{CircomError, read_wtns, read_zkey};
use crate::circuit::{Assignment, Circuit, Statement};
use crate::environment::{Environment, cpu_seconds, peak_rss_bytes, reset_peak_rss};
use crate::groth16::{Backend, BackendError, KeyParts, PreparedKey, Split, Verifier};
use crate::key::{CircuitKey, GenerateError, KeyFileError, MappedKey, file};
use crate::matrices::{ConstraintMatrices, MatricesError};
use crate::peer::program::Folder;
use crate::prove::timed;
use crate::setup::Seed;
use ark_bn254::Fr;
use ark_relations::gr1cs::SynthesisError;
use millrace_circuits::batch::Shape;
use millrace_circuits::types::L1Address;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use thiserror::Error;

mod sample;

pub use sample::{SampleError, sample_batch};

/// Transaction rows between two shapes whose difference gives the marginal cost: their words fill whole commitment chunks.
const SLOPE_ROWS: usize = 30;

/// Eight words.
const PROOF_BYTES: usize = 256;
/// Four pairs (EIP-1108).
const PAIRING_GAS: u64 = 45_000 + 4 * 34_000;
/// A multiplication and an addition (EIP-1108).
const INPUT_GAS: u64 = 6_000 + 150;

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

/// Median seconds of a proof's parts.
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize, Deserialize)]
pub struct SplitRow {
    /// Computing the assignment, which the proof's time does not include.
    pub witness: f64,
    /// Sparse products and transforms; 0 from a backend that does not tell, as the next two.
    pub ntt: f64,
    /// Multi-scalar multiplications in G1.
    pub msm_g1: f64,
    /// Multi-scalar multiplications in G2.
    pub msm_g2: f64,
}

/// Speed of a backend on a circuit.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ProveRow {
    /// The backend.
    pub backend: String,
    /// The circuit's name, or its file's.
    pub circuit: String,
    /// Transaction rows, all of them transfers; 0 for a chain or a file.
    pub batch: usize,
    /// Constraints.
    pub constraints: usize,
    /// Seconds to synthesize the circuit and generate its key.
    pub setup_s: f64,
    /// Seconds to open the key's file, as a worker does: its header and verifying key are checked. 0 for a `.zkey` file,
    /// which is read as a whole in `setup_s`.
    #[serde(default)]
    pub open_s: f64,
    /// Seconds to bring the opened key into the backend's form: reading it, for a backend that cannot map it.
    pub prepare_s: f64,
    /// Seconds of the first proof after that. A mapped key's digests are checked in it.
    #[serde(default)]
    pub first_prove_s: f64,
    /// Median seconds to compute the assignment.
    pub witness_s: f64,
    /// Seconds to prove.
    pub prove_s: Spread,
    /// Seconds of processor time to prove, all threads together; 0 where the system does not tell.
    pub prove_cpu_s: Spread,
    /// Median microseconds of proving per constraint.
    pub us_per_constraint: f64,
    /// Where the time goes.
    pub split: SplitRow,
    /// Transfers per second, witness and proof, at the medians.
    pub transfers_per_s: f64,
    /// Highest memory use from opening the key to the first proof, key included and other backends not.
    pub peak_rss_bytes: u64,
    /// Most bytes at a time that a proof takes besides the key and the assignment; 0 from a backend that does not tell.
    #[serde(default)]
    pub scratch_bytes: u64,
    /// Threads used.
    pub threads: usize,
    /// Size of a proof as the EVM takes it.
    pub proof_bytes: usize,
    /// Gas of the precompiles that verify a proof, computed and not measured: a pairing of four and an addition and a
    /// multiplication for each public input. What a generated verifier takes on an EVM, transaction and data apart, is at
    /// most a twentieth more, which a test measures.
    pub evm_gas: u64,
    /// How many times as long the others took for the same proofs, alternating with these, at the medians.
    pub ratio_to: BTreeMap<String, f64>,
}

/// What to measure.
#[derive(Debug, Clone)]
pub struct ProveBench {
    /// The circuit.
    pub circuit: Circuit,
    /// Timed proofs of each backend; one more runs first to warm up.
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
    /// The key's file cannot be written or opened.
    #[error(transparent)]
    KeyFile(#[from] KeyFileError),
    /// The key's file was damaged between being written and read.
    #[error(transparent)]
    Damaged(#[from] Arc<KeyFileError>),
    /// The circuit's file, or its witness, is unusable.
    #[error(transparent)]
    File(#[from] CircomError),
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

/// Times backends on one circuit, alternating: a setup, a warm-up of each, then each repetition's proofs by all. Rows are in
/// the order of the backends. The key goes to a file among the temporary ones, and each backend opens that.
///
/// # Errors
/// If any step fails, a proof that does not verify included.
pub fn bench_prove(
    backends: &[&dyn Backend],
    bench: &ProveBench,
    mut progress: impl FnMut(&str),
) -> Result<Vec<ProveRow>, BenchError> {
    let circuit = bench.circuit;
    let statement = sample_statement(circuit)?;
    progress(&format!("setup of {circuit}"));
    let (key, setup_s) = timed(|| CircuitKey::generate(circuit, &Seed::development()));
    let key = key?;
    let folder = Folder::new();
    let path = folder.at("bench.key");
    file::write(&key, &path)?;
    let contest = Contest {
        name: circuit.to_string(),
        batch: batch_size(circuit),
        setup_s,
        verifier: Verifier::new(key.verifying_key()),
        public: statement.public_inputs(),
        size: Size::of(&key.matrices),
        key: Key::File(path),
        assign: Box::new(move || Ok(statement.assign()?)),
    };
    // From here on the key is in the memory of whom it belongs to.
    drop(key);
    contest.hold(backends, bench.repetitions, progress)
}

/// Times backends on a circuit from a `.zkey` file, with a witness from a `.wtns` file; its reading counts as the witness.
///
/// # Errors
/// As [`bench_prove`], and if a file is unusable.
pub fn bench_files(
    backends: &[&dyn Backend],
    zkey: &Path,
    wtns: &Path,
    repetitions: usize,
    mut progress: impl FnMut(&str),
) -> Result<Vec<ProveRow>, BenchError> {
    progress(&format!("reading {}", zkey.display()));
    let (key, setup_s) = timed(|| read_zkey(zkey));
    let key = Arc::new(key?);
    let inputs = key.matrices().inputs;
    let path = wtns.to_owned();
    let contest = Contest {
        name: zkey
            .file_name()
            .unwrap_or_default()
            .to_string_lossy()
            .into_owned(),
        batch: 0,
        setup_s,
        verifier: Verifier::new(&key.proving_key().vk),
        public: read_wtns(wtns, inputs)?.public_inputs().to_vec(),
        size: Size::of(key.matrices()),
        key: Key::Parts(key),
        assign: Box::new(move || Ok(read_wtns(&path, inputs)?)),
    };
    contest.hold(backends, repetitions, progress)
}

/// Counts of a circuit.
struct Size {
    constraints: usize,
    inputs: usize,
}

impl Size {
    fn of(matrices: &ConstraintMatrices) -> Self {
        Self {
            constraints: matrices.constraints(),
            inputs: matrices.inputs,
        }
    }
}

/// Where backends get the key from.
enum Key {
    /// In its file.
    File(PathBuf),
    /// In memory.
    Parts(Arc<dyn KeyParts>),
}

impl Key {
    /// Opens it for a backend: seconds of opening and of preparing with it.
    fn prepare(&self, backend: &dyn Backend) -> Result<Opened, BenchError> {
        match self {
            Self::Parts(parts) => {
                let (prepared, prepare_s) = timed(|| backend.prepare_parts(parts.clone()));
                Ok((prepared, 0.0, prepare_s))
            }
            Self::File(path) => {
                let (mapped, open_s) = timed(|| MappedKey::open(path));
                let mapped = Arc::new(mapped?.expect("what is written now can be mapped"));
                let (prepared, prepare_s) = timed(|| backend.prepare_mapped(mapped));
                Ok((prepared?, open_s, prepare_s))
            }
        }
    }
}

/// A key ready to prove with, and the seconds of opening and of preparing it.
type Opened = (Box<dyn PreparedKey>, f64, f64);

/// What all backends of a measurement share.
struct Contest {
    name: String,
    batch: usize,
    setup_s: f64,
    key: Key,
    size: Size,
    assign: Box<dyn Fn() -> Result<Assignment, BenchError>>,
    public: Vec<Fr>,
    verifier: Verifier,
}

/// A backend and its measurements.
struct Entry<'a> {
    backend: &'a dyn Backend,
    prepared: Option<Box<dyn PreparedKey>>,
    open_s: f64,
    prepare_s: f64,
    first_prove_s: f64,
    peak_rss_bytes: u64,
    witness: Vec<f64>,
    prove: Vec<f64>,
    cpu: Vec<f64>,
    splits: Vec<Split>,
}

impl Contest {
    fn hold(
        &self,
        backends: &[&dyn Backend],
        repetitions: usize,
        mut progress: impl FnMut(&str),
    ) -> Result<Vec<ProveRow>, BenchError> {
        let circuit = &self.name;
        let mut entries = Vec::new();
        for backend in backends {
            progress(&format!("warm-up of {} on {circuit}", backend.name()));
            entries.push(self.warm_up(*backend)?);
        }
        for entry in &mut entries {
            let (prepared, _, _) = self.key.prepare(entry.backend)?;
            entry.prepared = Some(prepared);
            // A mapped key's first use checks it, and was timed by itself.
            self.prove(entry)?;
            entry.forget();
        }
        for repetition in 1..=repetitions.max(1) {
            for entry in &mut entries {
                let name = entry.backend.name();
                progress(&format!("proof {repetition} of {circuit} by {name}"));
                self.prove(entry)?;
            }
        }
        let mut rows: Vec<ProveRow> = entries.iter().map(|entry| entry.row(self)).collect();
        compare(&mut rows);
        Ok(rows)
    }

    /// Prepares a backend and proves once, alone in memory, so that its peak is its own.
    fn warm_up<'a>(&self, backend: &'a dyn Backend) -> Result<Entry<'a>, BenchError> {
        reset_peak_rss();
        let (prepared, open_s, prepare_s) = self.key.prepare(backend)?;
        let mut entry = Entry {
            backend,
            prepared: Some(prepared),
            open_s,
            prepare_s,
            first_prove_s: 0.0,
            peak_rss_bytes: 0,
            witness: vec![],
            prove: vec![],
            cpu: vec![],
            splits: vec![],
        };
        self.prove(&mut entry)?;
        entry.peak_rss_bytes = peak_rss_bytes();
        entry.first_prove_s = Spread::of(&entry.prove).median;
        entry.prepared = None;
        entry.forget();
        Ok(entry)
    }

    fn prove(&self, entry: &mut Entry) -> Result<(), BenchError> {
        let Some(prepared) = &entry.prepared else {
            return Ok(());
        };
        let (assignment, witness_s) = timed(&*self.assign);
        let assignment = assignment?;
        let before = cpu_seconds();
        let (proof, prove_s) = timed(|| prepared.prove_split(&assignment));
        let cpu_s = cpu_seconds() - before;
        let (proof, split) = proof?;
        if !self.verifier.accepts(&proof, &self.public) {
            return Err(BenchError::WrongProof(entry.backend.name().to_owned()));
        }
        entry.witness.push(witness_s);
        entry.prove.push(prove_s);
        entry.cpu.push(cpu_s);
        entry.splits.push(split);
        Ok(())
    }
}

impl Entry<'_> {
    /// What was measured so far does not count.
    fn forget(&mut self) {
        for samples in [&mut self.witness, &mut self.prove, &mut self.cpu] {
            samples.clear();
        }
        self.splits.clear();
    }

    fn row(&self, contest: &Contest) -> ProveRow {
        let Size {
            constraints,
            inputs,
        } = contest.size;
        let (witness_s, prove_s) = (Spread::of(&self.witness).median, Spread::of(&self.prove));
        let part = |part: fn(&Split) -> f64| {
            Spread::of(&self.splits.iter().map(part).collect::<Vec<_>>()).median
        };
        let batch = contest.batch;
        ProveRow {
            backend: self.backend.name().to_owned(),
            circuit: contest.name.clone(),
            batch,
            constraints,
            setup_s: contest.setup_s,
            open_s: self.open_s,
            prepare_s: self.prepare_s,
            first_prove_s: self.first_prove_s,
            witness_s,
            prove_s,
            prove_cpu_s: Spread::of(&self.cpu),
            us_per_constraint: prove_s.median * 1e6 / constraints.max(1) as f64,
            split: SplitRow {
                witness: witness_s,
                ntt: part(|split| split.ntt_s),
                msm_g1: part(|split| split.msm_g1_s),
                msm_g2: part(|split| split.msm_g2_s),
            },
            transfers_per_s: batch as f64 / (witness_s + prove_s.median),
            peak_rss_bytes: self.peak_rss_bytes,
            scratch_bytes: part(|split| split.scratch_bytes as f64) as u64,
            threads: rayon::current_num_threads(),
            proof_bytes: PROOF_BYTES,
            evm_gas: verification_gas(inputs - 1),
            ratio_to: BTreeMap::new(),
        }
    }
}

/// Gas of the precompiles that verify a proof with so many public inputs.
pub fn verification_gas(inputs: usize) -> u64 {
    PAIRING_GAS + INPUT_GAS * inputs as u64
}

fn compare(rows: &mut [ProveRow]) {
    let medians: Vec<(String, f64)> = rows
        .iter()
        .map(|row| (row.backend.clone(), row.prove_s.median))
        .collect();
    for row in rows {
        let others = medians.iter().filter(|(name, _)| *name != row.backend);
        let ratio = |(name, other): &(String, f64)| (name.clone(), other / row.prove_s.median);
        row.ratio_to = others.map(ratio).collect();
    }
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

//! From a statement to a proof that has been verified.
//!
//! ```text
//! Statement → assignment (values only) → backend → proof → own verification → Proven
//! ```
//!
//! [`Prover`] keeps each circuit's key prepared. A proof that does not verify never leaves: the failure says whether the
//! witness was wrong, and in which constraint, or the backend.

use crate::circuit::{Assignment, Circuit, Statement};
use crate::groth16::{Backend, BackendError, PreparedKey, Verifier, VerifyingKey};
use crate::key::{CircuitKey, KeyFileError, KeyId, KeyStoreError, MappedKey};
use crate::matrices::ConstraintMatrices;
use crate::proof::Proof;
use ark_relations::gr1cs::SynthesisError;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;
use thiserror::Error;

/// Seconds that the steps of a proof took.
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize, Deserialize)]
pub struct Timings {
    /// Computing the assignment.
    pub witness_s: f64,
    /// Proving.
    pub prove_s: f64,
    /// Verifying the own proof.
    pub verify_s: f64,
}

/// A proof that its maker has verified.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Proven {
    /// The proof.
    pub proof: Proof,
    /// The key it was made with.
    pub key: KeyId,
    /// How long it took.
    pub timings: Timings,
}

/// Why there is no proof.
#[derive(Debug, Error)]
pub enum ProveError {
    /// There is no key for the circuit.
    #[error("no key for circuit {circuit}: {source}")]
    Key {
        /// The circuit.
        circuit: Circuit,
        /// Why.
        source: KeyStoreError,
    },
    /// The witness is malformed.
    #[error("circuit {circuit} cannot be assigned from this witness: {source}")]
    Witness {
        /// The circuit.
        circuit: Circuit,
        /// Why.
        source: SynthesisError,
    },
    /// The circuit computes other public inputs than the statement claims.
    #[error("circuit {0} has other public inputs than the statement")]
    InputsDiffer(Circuit),
    /// The witness breaks a rule.
    #[error(
        "the witness does not satisfy circuit {circuit}: constraint {constraint} of {constraints} fails"
    )]
    Unsatisfied {
        /// The circuit.
        circuit: Circuit,
        /// First constraint that fails, counted from 0.
        constraint: usize,
        /// Number of constraints.
        constraints: usize,
    },
    /// The backend failed.
    #[error(transparent)]
    Backend(#[from] BackendError),
    /// The backend made a wrong proof of a true statement.
    #[error(
        "backend {backend} made a proof for circuit {circuit} that does not verify; do not use it on this machine"
    )]
    WrongProof {
        /// The backend.
        backend: &'static str,
        /// The circuit.
        circuit: Circuit,
    },
}

/// A key as a prover takes it: in memory or in its file.
pub enum ProverKey {
    /// In memory.
    Whole(Arc<CircuitKey>),
    /// In its file.
    Mapped(Arc<MappedKey>),
}

impl From<CircuitKey> for ProverKey {
    fn from(key: CircuitKey) -> Self {
        Self::Whole(Arc::new(key))
    }
}

impl From<MappedKey> for ProverKey {
    fn from(key: MappedKey) -> Self {
        Self::Mapped(Arc::new(key))
    }
}

impl ProverKey {
    fn id(&self) -> KeyId {
        match self {
            Self::Whole(key) => key.id,
            Self::Mapped(key) => key.id(),
        }
    }

    fn verifying_key(&self) -> &VerifyingKey {
        match self {
            Self::Whole(key) => key.verifying_key(),
            Self::Mapped(key) => key.verifying_key(),
        }
    }

    fn matrices(&self) -> Result<&ConstraintMatrices, Arc<KeyFileError>> {
        match self {
            Self::Whole(key) => Ok(&key.matrices),
            Self::Mapped(key) => key.matrices(),
        }
    }

    fn prepare(&self, backend: &dyn Backend) -> Result<Box<dyn PreparedKey>, KeyFileError> {
        match self {
            Self::Whole(key) => Ok(backend.prepare(key.clone())),
            Self::Mapped(key) => backend.prepare_mapped(key.clone()),
        }
    }

    /// Whether the key is still what it was when it was checked.
    fn check(&self) -> Result<(), Arc<KeyFileError>> {
        match self {
            Self::Whole(_) => Ok(()),
            Self::Mapped(key) => key.check(),
        }
    }
}

/// Where a prover gets its keys from, such as [`crate::key::KeyStore::open_development_key`].
pub type KeySource = dyn Fn(Circuit) -> Result<ProverKey, KeyStoreError> + Send + Sync;

/// Proves statements with prepared keys; shared between threads.
pub struct Prover {
    backend: Box<dyn Backend>,
    source: Box<KeySource>,
    ready: Mutex<BTreeMap<Circuit, Arc<Ready>>>,
}

/// A circuit's key, prepared for proving and verifying.
struct Ready {
    circuit: Circuit,
    key: ProverKey,
    prepared: Box<dyn PreparedKey>,
    verifier: Verifier,
}

impl Prover {
    /// A prover that fetches each key at its first use.
    pub fn new<K: Into<ProverKey>>(
        backend: impl Backend + 'static,
        source: impl Fn(Circuit) -> Result<K, KeyStoreError> + Send + Sync + 'static,
    ) -> Self {
        Self {
            backend: Box::new(backend),
            source: Box::new(move |circuit| source(circuit).map(Into::into)),
            ready: Mutex::default(),
        }
    }

    /// The backend's name.
    pub fn backend(&self) -> &'static str {
        self.backend.name()
    }

    /// Fetches and prepares a circuit's key now; its id.
    ///
    /// # Errors
    /// If there is no key.
    pub fn prepare(&self, circuit: Circuit) -> Result<KeyId, ProveError> {
        Ok(self.ready(circuit)?.key.id())
    }

    /// A circuit's verifying key.
    ///
    /// # Errors
    /// If there is no key.
    pub fn verifying_key(&self, circuit: Circuit) -> Result<VerifyingKey, ProveError> {
        Ok(self.ready(circuit)?.key.verifying_key().clone())
    }

    /// Proves a statement and verifies the proof. Takes as long as it takes, on all threads: call it from a thread that
    /// may block.
    ///
    /// # Errors
    /// If there is no key, the statement is false, or the backend fails.
    pub fn prove(&self, statement: &Statement) -> Result<Proven, ProveError> {
        let circuit = statement.circuit();
        let ready = self.ready(circuit)?;
        let inputs = statement.public_inputs();
        let (assignment, witness_s) = timed(|| statement.assign());
        let assignment = assignment.map_err(|source| ProveError::Witness { circuit, source })?;
        if assignment.public_inputs() != inputs {
            return Err(ProveError::InputsDiffer(circuit));
        }
        let (proof, prove_s) = timed(|| ready.prepared.prove(&assignment));
        let proof = proof?;
        let (accepted, verify_s) = timed(|| ready.verifier.accepts(&proof, &inputs));
        if !accepted {
            return Err(self.blame(&ready, &assignment));
        }
        let timings = Timings {
            witness_s,
            prove_s,
            verify_s,
        };
        let key = ready.key.id();
        tracing::info!(%circuit, %key, witness_s, prove_s, "proved");
        Ok(Proven {
            proof,
            key,
            timings,
        })
    }

    fn blame(&self, ready: &Ready, assignment: &Assignment) -> ProveError {
        let circuit = ready.circuit;
        let matrices = match ready.key.check().and_then(|()| ready.key.matrices()) {
            Ok(matrices) => matrices,
            Err(error) => return BackendError::KeyFile(error).into(),
        };
        match matrices.first_unsatisfied(assignment.values()) {
            Some(constraint) => ProveError::Unsatisfied {
                circuit,
                constraint,
                constraints: matrices.constraints(),
            },
            None => ProveError::WrongProof {
                backend: self.backend.name(),
                circuit,
            },
        }
    }

    fn ready(&self, circuit: Circuit) -> Result<Arc<Ready>, ProveError> {
        // A panic elsewhere leaves the map whole: entries are inserted complete.
        let mut ready = self.ready.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(found) = ready.get(&circuit) {
            return Ok(found.clone());
        }
        let failed = |source| ProveError::Key { circuit, source };
        let key = (self.source)(circuit).map_err(failed)?;
        let prepared = key.prepare(&*self.backend);
        let prepared = prepared.map_err(|error| failed(error.into()))?;
        let verifier = Verifier::new(key.verifying_key());
        let entry = Arc::new(Ready {
            circuit,
            key,
            prepared,
            verifier,
        });
        ready.insert(circuit, entry.clone());
        Ok(entry)
    }
}

/// Runs something and takes the seconds it took.
pub(crate) fn timed<T>(work: impl FnOnce() -> T) -> (T, f64) {
    let start = Instant::now();
    let result = work();
    (result, start.elapsed().as_secs_f64())
}

#[cfg(test)]
mod tests;

//! `millrace prove` and `millrace export`: circom's circuits in, our circuits out.
//!
//! prove: .zkey, .wtns (held against .r1cs) → verified proof → proof.json, public.json;   export: circuit → .r1cs, .zkey, .wtns, vkey.json, .sol

use crate::cli::setup::{blocking, key_store, keys};
use crate::cli::{Exit, Failure, Global, logging};
use crate::config::Config;
use crate::output::Output;
use millrace_circuits::batch::Shape;
use millrace_prover::bench::sample_statement;
use millrace_prover::circom::{
    CircomError, CircomProver, R1cs, r1cs_bytes, wtns_bytes, zkey_bytes,
};
use millrace_prover::circuit::Circuit;
use millrace_prover::key::CircuitKey;
use millrace_prover::setup::Seed;
use millrace_prover::snarkjs;
use millrace_prover::solidity::{Origin, verifier};
use serde_json::json;
use std::path::{Path, PathBuf};
use std::time::Instant;

/// Options of `millrace prove`.
#[derive(Debug, clap::Args)]
pub struct ProveArguments {
    /// Key of a circom circuit: Groth16 over BN254
    #[arg(long, value_name = "FILE")]
    pub zkey: PathBuf,
    /// Witness of that circuit
    #[arg(long, value_name = "FILE")]
    pub wtns: PathBuf,
    /// Constraints of that circuit: key and witness are held against them first, and a broken one is named
    #[arg(long, value_name = "FILE")]
    pub r1cs: Option<PathBuf>,
    /// Where the proof goes
    #[arg(long, value_name = "FILE", default_value = "proof.json")]
    pub proof: PathBuf,
    /// Where the public inputs go
    #[arg(long, value_name = "FILE", default_value = "public.json")]
    pub public: PathBuf,
    /// Where the verifying key goes; without it, nowhere
    #[arg(long, value_name = "FILE")]
    pub vkey: Option<PathBuf>,
}

/// Options of `millrace export`.
#[derive(Debug, clap::Args)]
pub struct ExportArguments {
    /// Circuit: batch-1, batch-2, batch-3 or chain-LINKS
    #[arg(long, value_name = "NAME", required_unless_present = "batch")]
    pub circuit: Option<Circuit>,
    /// Number of transactions, instead of a circuit's name
    #[arg(long, value_name = "TRANSACTIONS", conflicts_with = "circuit")]
    pub batch: Option<usize>,
    /// What to write
    #[arg(long, value_name = "FORMAT")]
    pub format: Format,
    /// Where it goes
    #[arg(long, value_name = "FILE")]
    pub output: PathBuf,
    /// Folder of the keys
    #[arg(long, value_name = "FOLDER")]
    pub keys_dir: Option<PathBuf>,
}

/// Files that other tools read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Format {
    /// The constraints
    R1cs,
    /// The development key, without a ceremony's transcript: for tests and benchmarks of other provers
    Zkey,
    /// A sample witness
    Wtns,
    /// The development key's verifying key as snarkjs reads it
    Vkey,
    /// A Solidity contract that verifies proofs of the development key
    Sol,
}

/// Proves a circom circuit.
///
/// # Errors
/// [`Exit::Verification`] if a file is damaged, or the witness does not satisfy the circuit.
pub async fn prove(
    global: &Global,
    output: Output,
    arguments: ProveArguments,
) -> Result<(), Failure> {
    logging::start_quiet(global);
    let ProveArguments {
        zkey,
        wtns,
        r1cs,
        proof,
        public,
        vkey,
    } = arguments;
    let made = blocking(move || {
        let start = Instant::now();
        let prover = CircomProver::open(&zkey)?;
        let witness = prover.read_witness(&wtns)?;
        if let Some(r1cs) = r1cs {
            let constraints = R1cs::read(&r1cs)?;
            prover.check_circuit(&constraints)?;
            constraints.check_witness(&witness)?;
        }
        let read_s = start.elapsed().as_secs_f64();
        let proof = prover.prove(&witness)?;
        let prove_s = start.elapsed().as_secs_f64() - read_s;
        let public = snarkjs::public_json(witness.public_inputs());
        let vkey = snarkjs::verifying_key_json(prover.verifying_key());
        let texts = [snarkjs::proof_json(&proof), public, vkey];
        Ok::<_, CircomError>((texts, prover.constraints(), read_s, prove_s))
    });
    let ([proof_text, public_text, vkey_text], constraints, read_s, prove_s) =
        made.await?.map_err(|error| unproved(&error))?;
    write(&proof, proof_text.as_bytes())?;
    write(&public, public_text.as_bytes())?;
    if let Some(path) = &vkey {
        write(path, vkey_text.as_bytes())?;
    }
    let result = json!({
        "proof": proof,
        "public": public,
        "constraints": constraints,
        "read_s": read_s,
        "prove_s": prove_s,
    });
    output.result(&result, || {
        format!(
            "Proved and verified {constraints} constraints in {prove_s:.2} s, after {read_s:.2} s of reading: {}, {}",
            proof.display(),
            public.display()
        )
    });
    Ok(())
}

fn unproved(error: &CircomError) -> Failure {
    let exit = match error {
        CircomError::Io { .. } => Exit::NotFound,
        _ => Exit::Verification,
    };
    Failure::because(exit, "there is no proof", error).help(
        "--zkey and --wtns must be of one circom circuit over BN254 (bn128), set up for groth16",
    )
}

/// Writes one of our circuits for other tools.
///
/// # Errors
/// If there is no key, or the file cannot be written.
pub async fn export(
    global: &Global,
    output: Output,
    arguments: ExportArguments,
) -> Result<(), Failure> {
    logging::start_quiet(global);
    let ExportArguments {
        circuit,
        batch,
        format,
        output: path,
        keys_dir,
    } = arguments;
    let circuit = match circuit {
        Some(circuit) => circuit,
        None => circuit_of(batch.unwrap_or_default())?,
    };
    let bytes = match format {
        Format::Wtns => blocking(move || sample_witness(circuit)).await??,
        Format::R1cs => {
            let made = blocking(move || circuit.matrices().map(|matrices| r1cs_bytes(&matrices)));
            made.await?.map_err(|error| keys(&error.into()))?
        }
        Format::Zkey | Format::Vkey | Format::Sol => {
            let store = key_store(keys_dir.as_deref(), &Config::default())?;
            let key = blocking(move || store.development_key(circuit, &Seed::development()));
            let key = key.await?.map_err(|error| keys(&error))?;
            match format {
                Format::Vkey => snarkjs::verifying_key_json(key.verifying_key()).into_bytes(),
                Format::Sol => solidity(&key),
                _ => zkey_bytes(&key),
            }
        }
    };
    write(&path, &bytes)?;
    let result = json!({ "circuit": circuit, "file": path, "bytes": bytes.len() });
    output.result(&result, || {
        format!("{}: {} bytes", path.display(), bytes.len())
    });
    Ok(())
}

/// The circuit with so many transactions.
fn circuit_of(transactions: usize) -> Result<Circuit, Failure> {
    let mut shapes = Shape::ALL.iter();
    let found = shapes.find(|shape| shape.transaction_rows == transactions);
    found.map(|shape| Circuit::Batch(*shape)).ok_or_else(|| {
        let sizes = Shape::ALL.map(|shape| shape.transaction_rows.to_string());
        let what = format!("there is no circuit of {transactions} transactions");
        Failure::new(Exit::Usage, what).help(format!("there are {}", sizes.join(", ")))
    })
}

fn solidity(key: &CircuitKey) -> Vec<u8> {
    let circuit = key.circuit.to_string();
    let origin = Origin {
        circuit: &circuit,
        identity: key.identity,
        id: key.id,
    };
    let name = format!("Verifier_{}", circuit.replace('-', "_"));
    verifier(&name, &origin, key.verifying_key()).into_bytes()
}

fn sample_witness(circuit: Circuit) -> Result<Vec<u8>, Failure> {
    let failed = |error: &dyn std::error::Error| {
        Failure::because(Exit::Internal, "there is no sample witness", error)
    };
    let statement = sample_statement(circuit).map_err(|error| failed(&error))?;
    let assignment = statement.assign().map_err(|error| failed(&error))?;
    Ok(wtns_bytes(&assignment).to_vec())
}

fn write(path: &Path, bytes: &[u8]) -> Result<(), Failure> {
    std::fs::write(path, bytes).map_err(|error| {
        let what = format!("cannot write {}", path.display());
        Failure::because(Exit::Internal, what, &error)
    })
}

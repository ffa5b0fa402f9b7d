//! `millrace ceremony`: proving keys that no one party knows the secrets of.
//!
//! init (circuit, .ptau) → .zkey → contribute, on each party's machine → beacon → verify → export into the key cache
//!
//! The files are snarkjs': `snarkjs zkey contribute`, `beacon` and `verify` work on them, too.

use crate::cli::setup::{blocking, key_store, keys};
use crate::cli::{Exit, Failure, Global, logging};
use crate::config::Config;
use crate::output::Output;
use clap::Subcommand;
use millrace_prover::ceremony::{self, Beacon, CeremonyError, Contributed, Hash, Phase1, Verified};
use millrace_prover::circom::CircomError;
use millrace_prover::circuit::Circuit;
use millrace_prover::key::CircuitKey;
use millrace_prover::matrices::{ConstraintMatrices, MatricesError};
use serde_json::{Value, json};
use std::path::{Path, PathBuf};

/// Options of `millrace ceremony`.
#[derive(Debug, clap::Args)]
pub struct CeremonyArguments {
    /// The step
    #[command(subcommand)]
    pub step: Step,
}

/// The steps.
#[derive(Debug, Subcommand)]
pub enum Step {
    /// Begin: the key that phase 1 gives for a circuit
    Init {
        /// What the ceremony is about
        #[command(flatten)]
        subject: Subject,
        /// Where the first file goes
        #[arg(long, value_name = "FILE")]
        output: PathBuf,
    },
    /// Add a secret of this machine's randomness, which is forgotten at once
    Contribute {
        /// Files and name
        #[command(flatten)]
        files: Files,
        /// Text to mix with the machine's randomness
        #[arg(
            long,
            value_name = "TEXT",
            default_value = "",
            hide_default_value = true
        )]
        entropy: String,
    },
    /// Add what public randomness gives, after the last contribution
    Beacon {
        /// Files and name
        #[command(flatten)]
        files: Files,
        /// The randomness, such as the hash of a block agreed before, in hexadecimal digits
        #[arg(long, value_name = "HEX")]
        value: String,
        /// Logarithm of the iterations of its hash
        #[arg(long, value_name = "LOG", default_value_t = 10)]
        iterations: u8,
    },
    /// Check every step, from phase 1 on
    Verify {
        /// What the ceremony is about
        #[command(flatten)]
        subject: Subject,
        /// The file
        #[arg(long, value_name = "FILE")]
        zkey: PathBuf,
    },
    /// Check every step and keep the key for nodes and provers
    Export {
        /// What the ceremony is about
        #[command(flatten)]
        subject: Subject,
        /// The file
        #[arg(long, value_name = "FILE")]
        zkey: PathBuf,
        /// Folder of the keys
        #[arg(long, value_name = "FOLDER")]
        keys_dir: Option<PathBuf>,
    },
}

/// Circuit and phase 1.
#[derive(Debug, Clone, clap::Args)]
pub struct Subject {
    /// Circuit: batch-1, batch-2, batch-3 or chain-LINKS
    #[arg(long, value_name = "NAME")]
    pub circuit: Circuit,
    /// Phase 1, prepared for phase 2
    #[arg(long, value_name = "FILE", required_unless_present = "dev_phase1")]
    pub ptau: Option<PathBuf>,
    /// Use a phase 1 whose secrets everyone knows: the key stays INSECURE-DEV
    #[arg(long, conflicts_with = "ptau")]
    pub dev_phase1: bool,
}

/// A step's files.
#[derive(Debug, Clone, clap::Args)]
pub struct Files {
    /// The file so far
    #[arg(long, value_name = "FILE")]
    pub zkey: PathBuf,
    /// Where the next one goes
    #[arg(long, value_name = "FILE")]
    pub output: PathBuf,
    /// How the contribution is called in the transcript
    #[arg(
        long,
        value_name = "TEXT",
        default_value = "",
        hide_default_value = true
    )]
    pub name: String,
}

impl Subject {
    fn phase1(&self) -> Phase1<'_> {
        match &self.ptau {
            Some(path) => Phase1::Ptau(path),
            None => Phase1::Development,
        }
    }

    fn matrices(&self) -> Result<ConstraintMatrices, Failure> {
        let failed = |error: MatricesError| {
            Failure::because(Exit::Internal, "the circuit has no constraints", &error)
        };
        self.circuit.matrices().map_err(failed)
    }
}

/// Runs a step.
///
/// # Errors
/// [`Exit::Verification`] if a file is damaged or a step false.
pub async fn run(
    global: &Global,
    output: Output,
    arguments: CeremonyArguments,
) -> Result<(), Failure> {
    logging::start_quiet(global);
    match arguments.step {
        Step::Init {
            subject,
            output: path,
        } => {
            let bytes = blocking(move || {
                let matrices = subject.matrices()?;
                ceremony::init(&matrices, &subject.phase1()).map_err(|error| refused(&error))
            });
            write(&path, &bytes.await??)?;
            output.result(&json!({ "zkey": path }), || {
                format!("{}: now let parties contribute", path.display())
            });
        }
        Step::Contribute { files, entropy } => {
            let next = files.clone();
            let made = blocking(move || ceremony::contribute(&next.zkey, &next.name, &entropy));
            contributed(output, &files, made.await?)?;
        }
        Step::Beacon {
            files,
            value,
            iterations,
        } => {
            let value = hex::decode(value.trim_start_matches("0x")).map_err(|error| {
                Failure::because(Exit::Usage, "--value is not hexadecimal", &error)
            })?;
            let (next, beacon) = (
                files.clone(),
                Beacon {
                    value,
                    iterations_log2: iterations,
                },
            );
            let made = blocking(move || ceremony::beacon(&next.zkey, &next.name, beacon));
            contributed(output, &files, made.await?)?;
        }
        Step::Verify { subject, zkey } => {
            let verified = blocking(move || verify(&subject, &zkey).map(|found| found.0));
            let description = describe(&verified.await??);
            output.result(&description, || human(&description));
        }
        Step::Export {
            subject,
            zkey,
            keys_dir,
        } => {
            let store = key_store(keys_dir.as_deref(), &Config::default())?;
            let kept = blocking(move || {
                let (verified, matrices) = verify(&subject, &zkey)?;
                let mut description = describe(&verified);
                let key = verified.into_key(subject.circuit, matrices);
                let path = store.keep(&key).map_err(|error| keys(&error))?;
                add_key(&mut description, &key, &path);
                Ok::<_, Failure>(description)
            });
            let description = kept.await??;
            output.result(&description, || human(&description));
        }
    }
    Ok(())
}

fn verify(subject: &Subject, zkey: &Path) -> Result<(Verified, ConstraintMatrices), Failure> {
    let matrices = subject.matrices()?;
    let verified = ceremony::verify(zkey, &matrices, &subject.phase1());
    Ok((verified.map_err(|error| refused(&error))?, matrices))
}

fn contributed(
    output: Output,
    files: &Files,
    made: Result<Contributed, CeremonyError>,
) -> Result<(), Failure> {
    let made = made.map_err(|error| refused(&error))?;
    write(&files.output, &made.zkey)?;
    let (number, hash) = (made.contributions, hex(&made.hash));
    let result = json!({ "zkey": files.output, "contribution": number, "hash": hash });
    output.result(&result, || {
        format!(
            "{}: contribution {number}. Publish its hash, by which you will find it in the final key:\n{hash}",
            files.output.display()
        )
    });
    Ok(())
}

fn describe(verified: &Verified) -> Value {
    let transcript = &verified.transcript;
    let step = |step: &ceremony::Contribution| json!({ "name": step.name, "hash": hex(&step.hash()), "beacon": step.beacon.is_some() });
    json!({
        "valid": true,
        "circuit_hash": hex(&transcript.circuit_hash),
        "transcript": hex(&transcript.hash()),
        "contributions": transcript.contributions.iter().map(step).collect::<Vec<_>>(),
    })
}

fn add_key(description: &mut Value, key: &CircuitKey, path: &Path) {
    description["key"] = json!(key.id);
    description["file"] = json!(path);
}

fn human(description: &Value) -> String {
    let mut lines = vec!["Every step of the ceremony is valid.".to_owned()];
    for (place, step) in description["contributions"]
        .as_array()
        .into_iter()
        .flatten()
        .enumerate()
    {
        let name = step["name"].as_str().unwrap_or("without name");
        let hash = step["hash"].as_str().unwrap_or_default();
        lines.push(format!("{}. {name}: {hash}", place + 1));
    }
    if let (Some(key), Some(file)) = (description["key"].as_str(), description["file"].as_str()) {
        lines.push(format!("Key {key} is kept in {file}"));
    }
    lines.join("\n")
}

fn hex(hash: &Hash) -> String {
    hex::encode(hash)
}

fn refused(error: &CeremonyError) -> Failure {
    let exit = match error {
        CeremonyError::File(CircomError::Io { .. }) => Exit::NotFound,
        CeremonyError::Range { .. } => Exit::Usage,
        _ => Exit::Verification,
    };
    Failure::because(exit, "the ceremony's step fails", error)
        .help("the files must be of one circuit, one phase 1 and one ceremony")
}

fn write(path: &Path, bytes: &[u8]) -> Result<(), Failure> {
    std::fs::write(path, bytes).map_err(|error| {
        let what = format!("cannot write {}", path.display());
        Failure::because(Exit::Internal, what, &error)
    })
}

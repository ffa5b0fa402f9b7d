//! `millrace bench`: figures with the machine they were made on, as one JSON object.
//!
//! benchmark → rows → [`Report`] (environment, rows) → last line of stdout, or a table

use crate::cli::setup::{blocking, shapes};
use crate::cli::{Exit, Failure, Global, logging};
use crate::output::{Output, table};
use clap::Subcommand;
use millrace_circuits::batch::Shape;
use millrace_prover::bench::{
    CircuitRow, ProveBench, ProveRow, Report, bench_circuit, bench_files, bench_prove,
};
use millrace_prover::chain::MAX_LINKS;
use millrace_prover::circuit::Circuit;
use millrace_prover::fast::Fast;
use millrace_prover::groth16::{Backend, Reference};
use millrace_prover::peer::Taceo;
use millrace_prover::peer::program::Program;
use serde::Serialize;
use std::path::PathBuf;
use std::str::FromStr;
use std::sync::Arc;

mod channels;
mod compare;
mod gas;
mod page;
mod sequencer;

/// Options of `millrace bench`.
#[derive(Debug, clap::Args)]
pub struct BenchArguments {
    /// What to measure
    #[command(subcommand)]
    pub what: What,
}

/// The benchmarks.
#[derive(Debug, Subcommand)]
pub enum What {
    /// Constraints of the batch circuits, and of one more transfer
    Circuit {
        /// Circuit ids, separated by commas; without it, all
        #[arg(long, value_name = "IDS", value_delimiter = ',')]
        circuits: Vec<u16>,
    },
    /// Seconds for a key, a witness and a proof; several backends take turns
    Prove(ProveArguments),
    /// Payments over a channel between two whole nodes, for a second of processor time
    Channels(channels::ChannelsArguments),
    /// Whether a later report of `prove` is slower than an earlier one by more than noise
    Compare(compare::CompareArguments),
    /// Gas of every operation on the embedded chain
    Gas(gas::GasArguments),
    /// Signed transfers taken a second, each durable, and the wait for the acknowledgement
    Sequencer(sequencer::SequencerArguments),
}

/// Options of `millrace bench prove`.
#[derive(Debug, clap::Args)]
pub struct ProveArguments {
    /// Circuits: batch-1, batch-2, batch-3, `chain-LINKS`, `chain` for each of --sizes, or a .zkey file with --wtns;
    /// separated by commas
    #[arg(
        long,
        alias = "circuit",
        value_name = "NAMES",
        value_delimiter = ',',
        default_value = "batch-1,batch-2"
    )]
    pub circuits: Vec<CircuitChoice>,
    /// Sizes of `chain` as powers of two, separated by commas
    #[arg(long, value_name = "LOGS", value_delimiter = ',', default_value = "16")]
    pub sizes: Vec<Size>,
    /// Witness of the circuit that is a .zkey file
    #[arg(long, value_name = "FILE")]
    pub wtns: Option<PathBuf>,
    /// Also write one page with plots
    #[arg(long, value_name = "FILE")]
    pub html: Option<PathBuf>,
    /// Backends that take turns: fast, fast-portable, ark, taceo, and snarkjs, rapidsnark if they are on the PATH; separated
    /// by commas
    #[arg(
        long,
        value_name = "NAMES",
        value_delimiter = ',',
        default_value = "fast"
    )]
    pub backends: Vec<BackendChoice>,
    /// Numbers of threads to prove with, separated by commas; without it, one for each core
    #[arg(long, value_name = "COUNTS", value_delimiter = ',')]
    pub threads: Vec<usize>,
    /// Timed proofs of each
    #[arg(
        long,
        visible_alias = "runs",
        value_name = "COUNT",
        default_value_t = 3
    )]
    pub repetitions: usize,
}

/// A circuit, or the chains of all sizes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum CircuitChoice {
    /// This one.
    One(Circuit),
    /// That of a `.zkey` file.
    File(PathBuf),
    /// One for each size.
    Chains,
}

impl FromStr for CircuitChoice {
    type Err = <Circuit as FromStr>::Err;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text {
            "chain" => Ok(Self::Chains),
            file if file.ends_with(".zkey") => Ok(Self::File(file.into())),
            _ => text.parse().map(Self::One),
        }
    }
}

/// Logarithm of a chain's number of constraints.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Size(u32);

impl FromStr for Size {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let fits = |size: &u32| (3..=MAX_LINKS.ilog2()).contains(size);
        let size = text.parse().ok().filter(fits).map(Self);
        size.ok_or_else(|| format!("expected a number from 3 to {}", MAX_LINKS.ilog2()))
    }
}

impl Size {
    /// The chain that just fills a domain of this size, inputs and closing constraints included.
    fn circuit(self) -> Circuit {
        Circuit::Chain((1 << self.0) - 8)
    }
}

/// A backend by name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum BackendChoice {
    /// Ours, with the fastest kernel of this processor
    Fast,
    /// Ours, with the kernel of every processor
    FastPortable,
    /// ark-groth16
    Ark,
    /// taceo-groth16
    Taceo,
    /// The program snarkjs
    Snarkjs,
    /// The program rapidsnark
    Rapidsnark,
}

impl BackendChoice {
    fn backend(self) -> Box<dyn Backend> {
        match self {
            Self::Fast => Box::new(Fast::detect()),
            Self::FastPortable => Box::new(Fast::portable()),
            Self::Ark => Box::new(Reference),
            Self::Taceo => Box::new(Taceo),
            Self::Snarkjs => Box::new(Program::Snarkjs),
            Self::Rapidsnark => Box::new(Program::Rapidsnark),
        }
    }

    /// A program that is not there is left out.
    fn present(self) -> bool {
        match self {
            Self::Snarkjs => Program::Snarkjs.find().is_some(),
            Self::Rapidsnark => Program::Rapidsnark.find().is_some(),
            _ => true,
        }
    }
}

/// Runs a benchmark.
///
/// # Errors
/// [`Failure`].
pub async fn run(
    global: &Global,
    output: Output,
    arguments: BenchArguments,
) -> Result<(), Failure> {
    logging::start_quiet(global);
    match arguments.what {
        What::Circuit { circuits } => circuit(output, &circuits).await,
        What::Prove(arguments) => prove(output, arguments).await,
        What::Channels(arguments) => channels::run(output, arguments).await,
        What::Compare(arguments) => compare::run(output, &arguments),
        What::Gas(arguments) => gas::run(output, arguments).await,
        What::Sequencer(arguments) => sequencer::run(output, arguments).await,
    }
}

/// Prints rows with their machine.
pub(crate) fn report<R: Serialize>(
    output: Output,
    rows: Vec<R>,
    human: impl FnOnce(&[R]) -> String,
) {
    let report = Report::new(rows);
    output.result(&report, || {
        let machine = &report.environment;
        let table = human(&report.rows);
        let (cpu, cores, profile) = (&machine.cpu, machine.cores, &machine.profile);
        format!("{table}\n{cpu}, {cores} cores, {profile} build")
    });
}

pub(crate) fn failed(error: &dyn std::error::Error) -> Failure {
    Failure::because(Exit::Internal, "the benchmark failed", error)
}

async fn circuit(output: Output, ids: &[u16]) -> Result<(), Failure> {
    let shapes = if ids.is_empty() {
        Shape::ALL.to_vec()
    } else {
        shapes(ids)?
    };
    let bar = output.progress(0, "counting");
    let progress = bar.clone();
    let rows =
        blocking(move || bench_circuit(&shapes, |text| progress.set_message(text.to_owned())));
    let rows = rows.await?.map_err(|error| failed(&error))?;
    bar.finish_and_clear();
    report(output, rows, |rows| {
        let headings = [
            "circuit",
            "transfers",
            "constraints",
            "per transfer",
            "fixed",
            "domain",
            "nonzeros A B C",
        ];
        table(headings, rows.iter().map(circuit_row))
    });
    Ok(())
}

fn circuit_row(row: &CircuitRow) -> [String; 7] {
    let [a, b, c] = row.nonzeros_per_constraint;
    [
        row.circuit.to_string(),
        row.batch.to_string(),
        row.constraints.to_string(),
        format!("{:.0}", row.constraints_per_transfer),
        format!("{:.0}", row.fixed),
        row.domain.to_string(),
        format!("{a:.2} {b:.2} {c:.2}"),
    ]
}

async fn prove(output: Output, arguments: ProveArguments) -> Result<(), Failure> {
    let contests = contests(&arguments)?;
    let pools = pools(&arguments.threads)?;
    let choices: Vec<BackendChoice> = arguments
        .backends
        .iter()
        .copied()
        .filter(|choice| choice.present())
        .collect();
    // A setup, and for each backend a warm-up and its repetitions.
    let steps = 1 + choices.len() * (1 + arguments.repetitions.max(1));
    let bar = output.progress((contests.len() * pools.len() * steps) as u64, "proving");
    let mut rows = Vec::new();
    let each = contests
        .iter()
        .flat_map(|contest| pools.iter().map(move |pool| (contest, pool)));
    for (contest, pool) in each {
        let (contest, pool) = (contest.clone(), pool.clone());
        let (progress, choices) = (bar.clone(), choices.clone());
        let repetitions = arguments.repetitions;
        let measured = blocking(move || {
            let backends: Vec<_> = choices.into_iter().map(BackendChoice::backend).collect();
            let backends: Vec<&dyn Backend> = backends.iter().map(AsRef::as_ref).collect();
            let step = |text: &str| {
                progress.set_message(text.to_owned());
                progress.inc(1);
            };
            pool.install(|| match contest {
                Contest::Circuit(circuit) => {
                    let bench = ProveBench {
                        circuit,
                        repetitions,
                    };
                    bench_prove(&backends, &bench, step)
                }
                Contest::Files(zkey, wtns) => {
                    bench_files(&backends, &zkey, &wtns, repetitions, step)
                }
            })
        });
        rows.extend(measured.await?.map_err(|error| failed(&error))?);
    }
    if let Some(path) = &arguments.html {
        let page = page::page(&Report::new(rows.clone()));
        std::fs::write(path, page).map_err(|error| failed(&error))?;
    }
    bar.finish_and_clear();
    report(output, rows, |rows| {
        let headings = [
            "circuit",
            "backend",
            "threads",
            "constraints",
            "setup s",
            "open ms",
            "witness s",
            "prove s",
            "µs/constraint",
            "peak MiB",
            "scratch MiB",
            "proof bytes",
            "EVM gas, computed",
            "transfers/s",
            "others take",
        ];
        table(headings, rows.iter().map(prove_row))
    });
    Ok(())
}

/// Threads for each number wanted.
fn pools(threads: &[usize]) -> Result<Vec<Arc<rayon::ThreadPool>>, Failure> {
    // Zero threads are as many as there are cores.
    let counts = if threads.is_empty() { &[0] } else { threads };
    let pool = |count: &usize| rayon::ThreadPoolBuilder::new().num_threads(*count).build();
    let pools = counts.iter().map(|count| pool(count).map(Arc::new));
    let pools = pools.collect::<Result<_, _>>();
    pools.map_err(|error| failed(&error))
}

/// What backends are timed on.
#[derive(Clone)]
enum Contest {
    Circuit(Circuit),
    Files(PathBuf, PathBuf),
}

fn contests(arguments: &ProveArguments) -> Result<Vec<Contest>, Failure> {
    let mut contests = Vec::new();
    for choice in &arguments.circuits {
        match choice {
            CircuitChoice::One(circuit) => contests.push(Contest::Circuit(*circuit)),
            CircuitChoice::Chains => {
                contests.extend(
                    arguments
                        .sizes
                        .iter()
                        .map(|size| Contest::Circuit(size.circuit())),
                );
            }
            CircuitChoice::File(zkey) => {
                let wtns = arguments.wtns.clone().ok_or_else(|| {
                    Failure::new(Exit::Usage, "a .zkey file needs a witness")
                        .help("name it with --wtns")
                })?;
                contests.push(Contest::Files(zkey.clone(), wtns));
            }
        }
    }
    Ok(contests)
}

fn prove_row(row: &ProveRow) -> [String; 15] {
    let ratios = row.ratio_to.iter();
    let ratios: Vec<String> = ratios
        .map(|(name, ratio)| format!("{name} ×{ratio:.2}"))
        .collect();
    let prove = row.prove_s;
    [
        row.circuit.to_string(),
        row.backend.clone(),
        row.threads.to_string(),
        row.constraints.to_string(),
        format!("{:.1}", row.setup_s),
        format!("{:.2}", (row.open_s + row.prepare_s) * 1e3),
        format!("{:.2}", row.witness_s),
        format!("{:.2} ({:.2}–{:.2})", prove.median, prove.min, prove.max),
        format!("{:.2}", row.us_per_constraint),
        (row.peak_rss_bytes >> 20).to_string(),
        (row.scratch_bytes >> 20).to_string(),
        row.proof_bytes.to_string(),
        row.evm_gas.to_string(),
        format!("{:.2}", row.transfers_per_s),
        ratios.join(", "),
    ]
}

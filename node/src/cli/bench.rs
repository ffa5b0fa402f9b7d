//! `millrace bench`: figures with the machine they were made on, as one JSON object.
//!
//! benchmark → rows → [`Report`] (environment, rows) → last line of stdout, or a table

use crate::cli::setup::{blocking, shapes};
use crate::cli::{Exit, Failure, Global, logging};
use crate::output::{Output, table};
use clap::Subcommand;
use millrace_circuits::batch::Shape;
use millrace_prover::bench::{
    CircuitRow, ProveBench, ProveRow, Report, bench_circuit, bench_prove,
};
use millrace_prover::circuit::Circuit;
use millrace_prover::groth16::Reference;
use serde::Serialize;

mod gas;
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
    /// Seconds for a key, a witness and a proof
    Prove {
        /// Circuits: batch-1, batch-2, batch-3, or `chain-LINKS`; separated by commas
        #[arg(
            long,
            value_name = "NAMES",
            value_delimiter = ',',
            default_value = "batch-1,batch-2"
        )]
        circuits: Vec<Circuit>,
        /// Timed proofs of each
        #[arg(long, value_name = "COUNT", default_value_t = 3)]
        repetitions: usize,
    },
    /// Gas of every operation on the embedded chain
    Gas(gas::GasArguments),
    /// Signed transfers taken a second, each durable, and the wait for the acknowledgement
    Sequencer(sequencer::SequencerArguments),
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
        What::Prove {
            circuits,
            repetitions,
        } => prove(output, circuits, repetitions).await,
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

async fn prove(output: Output, circuits: Vec<Circuit>, repetitions: usize) -> Result<(), Failure> {
    let bar = output.progress(0, "proving");
    let mut rows = Vec::new();
    for circuit in circuits {
        let progress = bar.clone();
        let bench = ProveBench {
            circuit,
            repetitions,
        };
        let row = blocking(move || {
            bench_prove(&Reference, &bench, |text| {
                progress.set_message(text.to_owned())
            })
        });
        rows.push(row.await?.map_err(|error| failed(&error))?);
    }
    bar.finish_and_clear();
    report(output, rows, |rows| {
        let headings = [
            "circuit",
            "backend",
            "constraints",
            "setup s",
            "witness s",
            "prove s",
            "µs/constraint",
            "transfers/s",
        ];
        table(headings, rows.iter().map(prove_row))
    });
    Ok(())
}

fn prove_row(row: &ProveRow) -> [String; 8] {
    let prove = row.prove_s;
    [
        row.circuit.to_string(),
        row.backend.clone(),
        row.constraints.to_string(),
        format!("{:.1}", row.setup_s),
        format!("{:.2}", row.witness_s),
        format!("{:.2} ({:.2}–{:.2})", prove.median, prove.min, prove.max),
        format!("{:.1}", row.us_per_constraint),
        format!("{:.2}", row.transfers_per_s),
    ]
}

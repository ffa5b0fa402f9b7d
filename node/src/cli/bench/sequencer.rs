//! `millrace bench sequencer`: how many signed transfers a second are taken, executed and durable, and how long each waits.

use super::{failed, report};
use crate::cli::{Exit, Failure};
use crate::output::{Output, table};
use millrace_rollup::bench::{SequencerBench, SequencerRow, bench_sequencer};
use std::path::{Path, PathBuf};

/// Options of `millrace bench sequencer`.
#[derive(Debug, clap::Args)]
pub struct SequencerArguments {
    /// Accounts in the state
    #[arg(long, value_name = "COUNT", default_value_t = 1_000_000)]
    pub accounts: u64,
    /// Seconds of each run
    #[arg(long, value_name = "SECONDS", default_value_t = 10)]
    pub seconds: u64,
    /// Empty folder for the database, on the disk to measure; without it, a temporary one
    #[arg(long, value_name = "FOLDER")]
    pub directory: Option<PathBuf>,
}

/// Measures and prints.
///
/// # Errors
/// [`Failure`].
pub async fn run(output: Output, arguments: SequencerArguments) -> Result<(), Failure> {
    let bench = SequencerBench {
        accounts: arguments.accounts,
        seconds: arguments.seconds,
        ..SequencerBench::default()
    };
    let bar = output.progress(0, "making the state");
    let measure = async |directory: &Path| {
        bench_sequencer(directory, &bench, |text| bar.set_message(text.to_owned()))
            .await
            .map_err(|error| failed(&error))
    };
    let rows = match &arguments.directory {
        Some(directory) => measure(directory).await?,
        None => {
            let directory = Scratch::new()?;
            measure(&directory.0).await?
        }
    };
    bar.finish_and_clear();
    report(output, rows, |rows| {
        let headings = [
            "load",
            "accepted/s",
            "p50 ms",
            "p99 ms",
            "durable",
            "busy",
            "batches",
            "opened in s",
        ];
        table(headings, rows.iter().map(line))
    });
    Ok(())
}

fn line(row: &SequencerRow) -> [String; 8] {
    [
        row.load.to_owned(),
        format!("{:.0}", row.accepted_per_s),
        format!("{:.1}", row.ack_ms.p50),
        format!("{:.1}", row.ack_ms.p99),
        row.durable.to_string(),
        row.busy.to_string(),
        row.batches.to_string(),
        format!("{:.2}", row.open_s),
    ]
}

/// A folder that goes when it is dropped.
struct Scratch(PathBuf);

impl Scratch {
    fn new() -> Result<Self, Failure> {
        let name = format!("millrace-bench-{}", std::process::id());
        let path = std::env::temp_dir().join(name);
        std::fs::create_dir_all(&path).map_err(|error| {
            Failure::because(
                Exit::Internal,
                "the database's folder cannot be made",
                &error,
            )
        })?;
        Ok(Self(path))
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        // What stays behind in the system's temporary folder harms nobody.
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

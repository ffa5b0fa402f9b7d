//! `millrace bench compare`: whether a later run of `bench prove` is slower than an earlier one by more than noise.
//!
//! two reports → rows of the same circuit, backend and threads → change of the median against the spread of both → verdict

use crate::cli::{Exit, Failure};
use crate::output::{Output, table};
use serde::Serialize;
use serde_json::Value;
use std::path::{Path, PathBuf};

/// Options of `millrace bench compare`.
#[derive(Debug, clap::Args)]
pub struct CompareArguments {
    /// Report before, as `--json` wrote it
    pub before: PathBuf,
    /// Report after
    pub after: PathBuf,
    /// Change that is never more than noise, in percent
    #[arg(long, value_name = "PERCENT", default_value_t = 5.0)]
    pub tolerance: f64,
}

/// What a row is compared by.
const METRICS: [&str; 2] = ["prove_s", "prove_cpu_s"];

/// Change of one metric of one row.
#[derive(Debug, Clone, PartialEq, Serialize)]
struct Change {
    circuit: String,
    backend: String,
    threads: u64,
    metric: &'static str,
    before: f64,
    after: f64,
    /// after / before.
    ratio: f64,
    /// Ratios from 1/(1 + noise) to 1 + noise mean nothing.
    noise: f64,
    verdict: Verdict,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
enum Verdict {
    Faster,
    Same,
    Slower,
}

/// Compares two reports.
///
/// # Errors
/// [`Exit::Verification`] if a row is slower beyond noise; [`Exit::Usage`] if the reports have no row in common.
pub fn run(output: Output, arguments: &CompareArguments) -> Result<(), Failure> {
    let [before, after] = [&arguments.before, &arguments.after].map(|path| read(path));
    let changes = changes(&before?, &after?, arguments.tolerance / 100.0);
    if changes.is_empty() {
        return Err(
            Failure::new(Exit::Usage, "the reports have no row in common")
                .help("rows are compared by circuit, backend and threads"),
        );
    }
    output.result(&serde_json::json!({ "changes": changes }), || {
        let headings = [
            "circuit", "backend", "threads", "metric", "before", "after", "ratio", "noise",
            "verdict",
        ];
        table(headings, changes.iter().map(row))
    });
    let slower = changes
        .iter()
        .filter(|change| change.verdict == Verdict::Slower);
    match slower.count() {
        0 => Ok(()),
        count => Err(Failure::new(
            Exit::Verification,
            format!("{count} figures are slower beyond noise"),
        )),
    }
}

fn read(path: &Path) -> Result<Value, Failure> {
    let unreadable = |error: &dyn std::error::Error| {
        Failure::because(
            Exit::NotFound,
            format!("no report in {}", path.display()),
            error,
        )
    };
    let text = std::fs::read_to_string(path).map_err(|error| unreadable(&error))?;
    // The report is the last line of what a benchmark printed.
    let line = text.trim_end().lines().last().unwrap_or_default();
    serde_json::from_str(line)
        .or_else(|_| serde_json::from_str(&text))
        .map_err(|error| unreadable(&error))
}

fn changes(before: &Value, after: &Value, tolerance: f64) -> Vec<Change> {
    let rows = |report: &Value| report["rows"].as_array().cloned().unwrap_or_default();
    let name = |row: &Value| ["circuit", "backend", "threads"].map(|key| row[key].clone());
    let old = rows(before);
    let pairs = rows(after).into_iter().filter_map(|new| {
        let found = old.iter().find(|old| name(old) == name(&new))?;
        Some((found.clone(), new))
    });
    pairs
        .flat_map(|(old, new)| METRICS.map(|metric| change(&old, &new, metric, tolerance)))
        .flatten()
        .collect()
}

fn change(old: &Value, new: &Value, metric: &'static str, tolerance: f64) -> Option<Change> {
    let [before, after] = [old, new].map(|row| row[metric]["median"].as_f64());
    let (before, after) = (before?, after?);
    if before <= 0.0 || after <= 0.0 {
        return None;
    }
    let noise = [old, new]
        .map(|row| spread(&row[metric]))
        .into_iter()
        .fold(tolerance, f64::max);
    let ratio = after / before;
    let text = |key: &str| new[key].as_str().unwrap_or_default().to_owned();
    Some(Change {
        circuit: text("circuit"),
        backend: text("backend"),
        threads: new["threads"].as_u64().unwrap_or_default(),
        metric,
        before,
        after,
        ratio,
        noise,
        verdict: match ratio {
            ratio if ratio > 1.0 + noise => Verdict::Slower,
            ratio if ratio < 1.0 / (1.0 + noise) => Verdict::Faster,
            _ => Verdict::Same,
        },
    })
}

/// Largest less smallest, in parts of the median.
fn spread(metric: &Value) -> f64 {
    let part = |key: &str| metric[key].as_f64().unwrap_or_default();
    (part("max") - part("min")) / part("median")
}

fn row(change: &Change) -> [String; 9] {
    [
        change.circuit.clone(),
        change.backend.clone(),
        change.threads.to_string(),
        change.metric.to_owned(),
        format!("{:.3} s", change.before),
        format!("{:.3} s", change.after),
        format!("×{:.2}", change.ratio),
        format!("±{:.0} %", 100.0 * change.noise),
        format!("{:?}", change.verdict).to_lowercase(),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn report(backend: &str, [min, median, max]: [f64; 3]) -> Value {
        let spread = json!({ "min": min, "median": median, "max": max });
        json!({ "rows": [{
            "circuit": "chain-8", "backend": backend, "threads": 2, "prove_s": spread, "prove_cpu_s": spread,
        }] })
    }

    fn verdicts(before: [f64; 3], after: [f64; 3]) -> Vec<Verdict> {
        let found = changes(&report("fast", before), &report("fast", after), 0.05);
        found.into_iter().map(|change| change.verdict).collect()
    }

    #[test]
    fn a_change_counts_beyond_tolerance_and_spread_only() {
        let quiet = [0.99, 1.0, 1.01];
        assert_eq!(verdicts(quiet, [1.03, 1.04, 1.05]), [Verdict::Same; 2]);
        assert_eq!(verdicts(quiet, [1.19, 1.2, 1.21]), [Verdict::Slower; 2]);
        assert_eq!(verdicts(quiet, [0.79, 0.8, 0.81]), [Verdict::Faster; 2]);
        // What varies by a third says nothing about a fifth.
        assert_eq!(
            verdicts([0.9, 1.0, 1.23], [1.19, 1.2, 1.21]),
            [Verdict::Same; 2]
        );
    }

    #[test]
    fn rows_are_matched_by_name_and_missing_figures_left_out() {
        let quiet = [1.0, 1.0, 1.0];
        assert!(changes(&report("fast", quiet), &report("ark", quiet), 0.05).is_empty());
        assert!(changes(&json!({}), &report("ark", quiet), 0.05).is_empty());
        let mut partial = report("fast", quiet);
        partial["rows"][0]["prove_cpu_s"] = json!({ "min": 0, "median": 0, "max": 0 });
        assert_eq!(changes(&partial, &report("fast", quiet), 0.05).len(), 1);
    }

    #[test]
    fn a_slower_report_fails() {
        let folder = tempfile::tempdir().unwrap();
        let put = |name: &str, report: &Value| {
            let path = folder.path().join(name);
            std::fs::write(&path, format!("something else\n{report}\n")).unwrap();
            path
        };
        let [before, after] = [
            put("a", &report("fast", [1.0; 3])),
            put("b", &report("fast", [2.0; 3])),
        ];
        let compare = |before: &Path, after: &Path| {
            let arguments = CompareArguments {
                before: before.into(),
                after: after.into(),
                tolerance: 5.0,
            };
            run(Output::new(true), &arguments).map_err(|failure| failure.exit())
        };
        assert_eq!(compare(&before, &after), Err(Exit::Verification));
        assert_eq!(compare(&after, &before), Ok(()));
        let other = put("c", &report("ark", [1.0; 3]));
        assert_eq!(compare(&before, &other), Err(Exit::Usage));
        assert_eq!(compare(&before, Path::new("/nowhere")), Err(Exit::NotFound));
    }
}

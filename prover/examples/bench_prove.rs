//! Times the backends on chains without building the node: `bench_prove [log2 of the sizes] [repetitions]`.
//!
//! sizes, such as `12,16` → alternating proofs → one JSON object on stdout, a line per backend on stderr

use millrace_prover::bench::{ProveBench, Report, bench_prove};
use millrace_prover::circuit::Circuit;
use millrace_prover::fast::Fast;
use millrace_prover::groth16::{Backend, Reference};
use millrace_prover::peer::Taceo;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut arguments = std::env::args().skip(1);
    let sizes = arguments.next().unwrap_or_else(|| "12".into());
    let repetitions = arguments.next().map_or(Ok(3), |count| count.parse())?;
    let names = arguments
        .next()
        .unwrap_or_else(|| "fast,fast-portable,ark".into());
    let (fast, portable) = (Fast::detect(), Fast::portable());
    let backends: Vec<&dyn Backend> = names
        .split(',')
        .filter_map(|name| match name {
            "fast" => Some(&fast as &dyn Backend),
            "fast-portable" => Some(&portable),
            "ark" => Some(&Reference),
            "taceo" => Some(&Taceo),
            _ => None,
        })
        .collect();
    let mut rows = Vec::new();
    for size in sizes.split(',') {
        let circuit = Circuit::Chain((1u32 << size.parse::<u32>()?) - 8);
        let bench = ProveBench {
            circuit,
            repetitions,
        };
        for row in bench_prove(&backends, &bench, |_| {})? {
            eprintln!(
                "{} {}: min {:.4} s, median {:.4} s, cpu {:.2} s, {:.2} µs per constraint, peak {} MiB, scratch {} MiB, open {:.6} s, prepare {:.4} s, first proof {:.4} s, {:?}, {:?}",
                row.circuit,
                row.backend,
                row.prove_s.min,
                row.prove_s.median,
                row.prove_cpu_s.median,
                row.us_per_constraint,
                row.peak_rss_bytes >> 20,
                row.scratch_bytes >> 20,
                row.open_s,
                row.prepare_s,
                row.first_prove_s,
                row.split,
                row.ratio_to,
            );
            rows.push(row);
        }
    }
    println!("{}", serde_json::to_string(&Report::new(rows))?);
    Ok(())
}

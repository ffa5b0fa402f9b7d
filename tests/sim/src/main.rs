//! Runs seeds: `millrace-sim [--from N] [--seeds N] [--jobs N] [--break RULE] | --seed N [--trace]`.
//!
//! Ends with 1 at the first broken promise, after printing the command that shows it again.

use millrace_channels::machine::rules::Rule;
use millrace_sim::world::{Mutation, Outcome, Violation, World, run};
use std::process::ExitCode;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

struct Options {
    from: u64,
    seeds: u64,
    jobs: usize,
    mutation: Mutation,
    trace: bool,
}

fn options() -> Result<Options, String> {
    let mut options = Options {
        from: 0,
        seeds: 1000,
        jobs: std::thread::available_parallelism().map_or(1, usize::from),
        mutation: Mutation::None,
        trace: false,
    };
    let mut words = std::env::args().skip(1);
    while let Some(word) = words.next() {
        let mut number = || {
            let value = words.next().ok_or(format!("{word} needs a value"))?;
            value
                .parse::<u64>()
                .map_err(|error| format!("{word} {value}: {error}"))
        };
        match word.as_str() {
            "--from" => options.from = number()?,
            "--seeds" => options.seeds = number()?,
            "--seed" => (options.from, options.seeds) = (number()?, 1),
            "--jobs" => options.jobs = number()?.max(1) as usize,
            "--trace" => options.trace = true,
            "--break" => options.mutation = mutation(&words.next().unwrap_or_default())?,
            _ => return Err(format!("unknown option {word}")),
        }
    }
    Ok(options)
}

fn mutation(name: &str) -> Result<Mutation, String> {
    match name {
        "WholeMerge" => return Ok(Mutation::WholeMerge),
        "IdleTower" => return Ok(Mutation::IdleTower),
        "BlindRestore" => return Ok(Mutation::BlindRestore),
        _ => {}
    }
    let rule = Rule::ALL
        .into_iter()
        .find(|rule| format!("{rule:?}") == name);
    rule.map(Mutation::Rule).ok_or_else(|| {
        format!(
            "no rule {name}: one of WholeMerge, IdleTower, BlindRestore, {:?}",
            Rule::ALL
        )
    })
}

fn main() -> ExitCode {
    let options = match options() {
        Ok(options) => options,
        Err(error) => {
            eprintln!("{error}");
            return ExitCode::from(2);
        }
    };
    if options.trace {
        let result = World::new(options.from, options.mutation, true).run();
        println!("{result:?}");
        return ExitCode::from(u8::from(result.is_err()));
    }
    let start = Instant::now();
    let (outcome, violations) = run_all(&options);
    let seconds = start.elapsed().as_secs_f64();
    println!(
        "{{\"seeds\":{},\"seconds\":{seconds:.1},\"seeds_per_second\":{:.0},\"steps\":{},\"payments_succeeded\":{},\
         \"payments_failed\":{},\"disputes\":{},\"compared_calls\":{},\"faults\":{},\"given_back\":{},\"parts_replaced\":{},\"violations\":{}}}",
        options.seeds,
        options.seeds as f64 / seconds,
        outcome.steps,
        outcome.succeeded,
        outcome.failed,
        outcome.disputes,
        outcome.compared,
        outcome.faults,
        outcome.given_back,
        outcome.parts_replaced,
        violations.len()
    );
    for violation in violations.iter().take(10) {
        let broken = match options.mutation {
            Mutation::None => String::new(),
            Mutation::Rule(rule) => format!(" --break {rule:?}"),
            other => format!(" --break {other:?}"),
        };
        println!(
            "seed {} at {} s: {}\n  cargo run -p millrace-sim -- --seed {} --trace{broken}",
            violation.seed, violation.at, violation.what, violation.seed
        );
    }
    ExitCode::from(u8::from(!violations.is_empty()))
}

fn run_all(options: &Options) -> (Outcome, Vec<Violation>) {
    let next = AtomicU64::new(options.from);
    let end = options.from + options.seeds;
    let work = || {
        let mut sum = Outcome::default();
        let mut violations = Vec::new();
        loop {
            let seed = next.fetch_add(1, Ordering::Relaxed);
            if seed >= end {
                return (sum, violations);
            }
            match run(seed, options.mutation) {
                Ok(outcome) => sum.add(&outcome),
                Err(violation) => violations.push(violation),
            }
        }
    };
    let mut total = Outcome::default();
    let mut all = Vec::new();
    std::thread::scope(|scope| {
        let threads: Vec<_> = (0..options.jobs).map(|_| scope.spawn(work)).collect();
        for thread in threads {
            let (sum, violations) = thread.join().expect("a run does not panic");
            total.add(&sum);
            all.extend(violations);
        }
    });
    all.sort_by_key(|violation| violation.seed);
    (total, all)
}

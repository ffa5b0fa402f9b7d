//! A bounded number of runs: the product keeps its promises, and the simulator notices when a rule is broken.
//!
//! More seeds: `cargo run -p millrace-sim -- --seeds 20000`.

use millrace_channels::machine::rules::Rule;
use millrace_sim::world::{Mutation, Outcome, run};
use std::sync::atomic::{AtomicU64, Ordering};

/// Runs of the unbroken product.
const SEEDS: u64 = 400;
/// Runs within which each broken rule must show: the rarest shows once in about 2,500.
const SEEDS_TO_NOTICE: u64 = 10_000;

#[test]
fn nobody_honest_loses() {
    let mut all = Outcome::default();
    for seed in 0..SEEDS {
        match run(seed, Mutation::None) {
            Ok(outcome) => all.add(&outcome),
            Err(violation) => {
                panic!("{violation:?}\nreplay: cargo run -p millrace-sim -- --seed {seed} --trace")
            }
        }
    }
    let rare = [all.given_back, all.parts_replaced, all.disputes];
    assert!(rare.iter().all(|count| *count > 0), "not tried: {rare:?}");
}

/// Runs that once lost a payment, or stopped a channel, by a restore from an old backup.
const ONCE_LOST: [u64; 9] = [
    314_989, 317_472, 300_093, 300_161, 300_275, 300_578, 45_641, 17_668, 203_118,
];
/// Somebody honest was blamed in the moment after L1 had stood still.
const ONCE_BLAMED: [u64; 2] = [43_337, 19_308];

#[test]
fn old_backups_lose_nothing() {
    for seed in ONCE_LOST.into_iter().chain(ONCE_BLAMED) {
        assert_eq!(run(seed, Mutation::None).err(), None, "seed {seed}");
    }
}

/// A dishonest peer of a node that has lost its data goes back as well, pays in a half older than the one that it hides, and
/// shows that one in the end: it keeps what it had paid before the loss, and nothing that it pays after it.
const HIDDEN: [u64; 1] = [5_918];
/// A hash whose preimage is out comes again after a loss: it is no release that a tower lacks.
const KNOWN_BEFORE: [u64; 1] = [2_556];

/// A tower gave back a lock of which the money had been counted.
const COUNTED_TWICE: [u64; 2] = [1_784, 2_170];

#[test]
fn beside_the_dishonest_a_restore_loses_what_is_said_and_no_more() {
    let seeds = HIDDEN.into_iter().chain(KNOWN_BEFORE);
    for seed in seeds.chain(COUNTED_TWICE) {
        assert_eq!(run(seed, Mutation::None).err(), None, "seed {seed}");
    }
}

#[test]
fn the_same_seed_is_the_same_run() {
    for seed in 0..20 {
        let first = run(seed, Mutation::None);
        assert_eq!(first, run(seed, Mutation::None), "seed {seed}");
    }
    assert_ne!(run(1, Mutation::None), run(2, Mutation::None));
}

#[test]
fn every_broken_rule_is_noticed() {
    let mutations: Vec<Mutation> = Rule::ALL
        .into_iter()
        .map(Mutation::Rule)
        .chain([
            Mutation::WholeMerge,
            Mutation::IdleTower,
            Mutation::BlindRestore,
        ])
        .collect();
    let next = AtomicU64::new(0);
    let missed = std::thread::scope(|scope| {
        let search = || {
            let mut missed = Vec::new();
            while let Some(mutation) = mutations.get(next.fetch_add(1, Ordering::Relaxed) as usize)
            {
                if !(0..SEEDS_TO_NOTICE).any(|seed| run(seed, *mutation).is_err()) {
                    missed.push(*mutation);
                }
            }
            missed
        };
        let threads = [scope.spawn(search), scope.spawn(search)];
        threads
            .map(|thread| thread.join().expect("a run does not panic"))
            .concat()
    });
    assert!(
        missed.is_empty(),
        "nobody noticed that {missed:?} was broken"
    );
}

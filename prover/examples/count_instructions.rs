//! Work whose instructions `scripts/instructions.sh` counts: each part of a proof once, in a function of its own.
//!
//! a chain with fixed inputs → witness, quotient, sums in G1, sums in G2, proof, each once and on one thread
//!
//! Always the portable kernel: valgrind knows no AVX-512 IFMA, and all processors of a kind count the same.

use millrace_prover::chain::Chain;
use millrace_prover::circuit::{Assignment, Circuit, Statement};
use millrace_prover::fast::Fast;
use millrace_prover::fast::digits::{Digits, Windows};
use millrace_prover::fast::kernel::portable::{Portable, PortableScalars};
use millrace_prover::fast::msm::{Batch, Multiplier, Points};
use millrace_prover::fast::point::{G1Point, G2Point};
use millrace_prover::fast::quotient::{self, Quotient};
use millrace_prover::groth16::{Backend, PreparedKey};
use millrace_prover::key::CircuitKey;
use millrace_prover::setup::Seed;
use std::error::Error;
use std::hint::black_box;
use std::sync::Arc;

/// Links of the chain that all parts are about: a domain of 2^9.
const LINKS: u32 = 504;

type PortableMultiplier = Multiplier<Portable<G1Point>, Portable<G2Point>>;

fn main() -> Result<(), Box<dyn Error>> {
    let pool = rayon::ThreadPoolBuilder::new().num_threads(1).build()?;
    pool.install(|| run().map_err(|failure| failure.to_string()))?;
    Ok(())
}

fn run() -> Result<(), Box<dyn Error>> {
    let statement = Statement::Chain(Chain::new(LINKS, 5));
    let key = CircuitKey::generate(Circuit::Chain(LINKS), &Seed::development())?;
    let key = Arc::new(key);
    let assignment = statement.assign()?;
    let quotient = quotient::prepare(PortableScalars, key.matrices.domain())?;
    let scalars = quotient.scalars(&key.matrices, assignment.values());
    let scalars = &scalars[..key.proving_key.a_query.len()];
    let g1 = Points::<G1Point>::of(&key.proving_key.a_query);
    let g2 = Points::<G2Point>::of(&key.proving_key.b_g2_query);
    let multiplier = Multiplier::new(Portable::<G1Point>::new(), Portable::<G2Point>::new());
    let prepared = Fast::portable().prepare(key.clone());
    count_witness(&statement)?;
    count_quotient(&*quotient, &key, &assignment);
    count_sums_g1(&multiplier, &g1, scalars);
    count_sums_g2(&multiplier, &g2, scalars);
    count_proof(&*prepared, &assignment)?;
    Ok(())
}

// One symbol each, for the counter to find.

#[inline(never)]
fn count_witness(statement: &Statement) -> Result<(), Box<dyn Error>> {
    black_box(statement.assign()?);
    Ok(())
}

#[inline(never)]
fn count_quotient(quotient: &dyn Quotient, key: &CircuitKey, assignment: &Assignment) {
    black_box(quotient.scalars(&key.matrices, assignment.values()));
}

#[inline(never)]
fn count_sums_g1(multiplier: &PortableMultiplier, points: &Points<G1Point>, scalars: &[[u64; 4]]) {
    let windows = Windows::for_scalars(scalars.len());
    let digits = Digits::of(windows, scalars.iter().copied());
    let batch = Batch {
        digits: &digits,
        g1: vec![points.part(..)],
        g2: vec![],
    };
    black_box(multiplier.multiply(&[batch]));
}

#[inline(never)]
fn count_sums_g2(multiplier: &PortableMultiplier, points: &Points<G2Point>, scalars: &[[u64; 4]]) {
    let windows = Windows::for_scalars(scalars.len());
    let digits = Digits::of(windows, scalars.iter().copied());
    let batch = Batch {
        digits: &digits,
        g1: vec![],
        g2: vec![points.part(..)],
    };
    black_box(multiplier.multiply(&[batch]));
}

#[inline(never)]
fn count_proof(prepared: &dyn PreparedKey, assignment: &Assignment) -> Result<(), Box<dyn Error>> {
    black_box(prepared.prove(assignment)?);
    Ok(())
}

//! Micro-benchmarks of the fast backend's parts: `cargo bench -p millrace-prover`.
//!
//! field multiplication, sums of points (G1, G2), the quotient's transforms; by kernel and size

use ark_bn254::{Fq, Fr};
use ark_ff::UniformRand;
use divan::{Bencher, black_box};
use millrace_prover::chain::Chain;
use millrace_prover::circuit::{Circuit, Statement};
use millrace_prover::fast::Fast;
use millrace_prover::groth16::{Backend, PreparedKey, Reference};
use millrace_prover::key::CircuitKey;
use millrace_prover::setup::Seed;
use rand::{SeedableRng, rngs::StdRng};
use std::sync::Arc;

fn main() {
    divan::main();
}

/// One multiplication in the base field, arkworks': the unit that docs/proving.md counts in.
#[divan::bench]
fn field_multiplication(bencher: Bencher) {
    let mut rng = StdRng::seed_from_u64(1);
    let (a, b) = (Fq::rand(&mut rng), Fq::rand(&mut rng));
    bencher.bench_local(|| black_box(a) * black_box(b));
}

/// One multiplication in the scalar field, arkworks'.
#[divan::bench]
fn scalar_multiplication(bencher: Bencher) {
    let mut rng = StdRng::seed_from_u64(2);
    let (a, b) = (Fr::rand(&mut rng), Fr::rand(&mut rng));
    bencher.bench_local(|| black_box(a) * black_box(b));
}

fn backend(name: &str) -> Box<dyn Backend> {
    match name {
        "fast" => Box::new(Fast::detect()),
        "fast-portable" => Box::new(Fast::portable()),
        _ => Box::new(Reference),
    }
}

/// A whole proof of a chain that fills a domain, without its verification.
#[divan::bench(args = [10, 12, 14], consts = [0, 1, 2], sample_count = 5, sample_size = 1)]
fn proof<const BACKEND: usize>(bencher: Bencher, size: u32) {
    let links = (1 << size) - 8;
    let backend = backend(["fast", "fast-portable", "ark"][BACKEND]);
    let key = CircuitKey::generate(Circuit::Chain(links), &Seed::development());
    let prepared: Box<dyn PreparedKey> = backend.prepare(Arc::new(key.expect("chains have keys")));
    let assignment = Statement::Chain(Chain::new(links, 5)).assign();
    let assignment = assignment.expect("chains can be assigned");
    bencher.bench_local(|| prepared.prove(&assignment).expect("chains can be proved"));
}

/// The sums and transforms that a proof consists of, with the kernel of every processor and this processor's.
mod parts {
    use super::*;
    use millrace_prover::fast::digits::{Digits, Windows};
    use millrace_prover::fast::kernel::portable::{Portable, PortableScalars};
    use millrace_prover::fast::msm::{Batch, Multiplier, Points};
    use millrace_prover::fast::point::{G1Point, G2Point};
    use millrace_prover::fast::quotient;

    const LINKS: u32 = (1 << 12) - 8;

    fn key() -> CircuitKey {
        CircuitKey::generate(Circuit::Chain(LINKS), &Seed::development()).expect("chains have keys")
    }

    #[divan::bench(sample_count = 10, sample_size = 1)]
    fn quotient_portable(bencher: Bencher) {
        let key = key();
        let assignment = Statement::Chain(Chain::new(LINKS, 5)).assign();
        let assignment = assignment.expect("chains can be assigned");
        let quotient = quotient::prepare(PortableScalars, key.matrices.domain());
        let quotient = quotient.expect("the domain is small");
        bencher.bench_local(|| quotient.scalars(&key.matrices, assignment.values()));
    }

    #[divan::bench(sample_count = 10, sample_size = 1)]
    fn msm_portable(bencher: Bencher) {
        let key = key();
        let points = Points::<G1Point>::of(&key.proving_key.a_query);
        let assignment = Statement::Chain(Chain::new(LINKS, 5)).assign();
        let assignment = assignment.expect("chains can be assigned");
        let quotient = quotient::prepare(PortableScalars, key.matrices.domain());
        let scalars = quotient
            .expect("the domain is small")
            .scalars(&key.matrices, assignment.values());
        let count = scalars.len().min(key.proving_key.a_query.len());
        let multiplier = Multiplier::new(Portable::<G1Point>::new(), Portable::<G2Point>::new());
        bencher.bench_local(|| {
            let digits = Digits::of(
                Windows::for_scalars(count),
                scalars[..count].iter().copied(),
            );
            let batch = Batch {
                digits: &digits,
                g1: vec![points.part(..)],
                g2: vec![],
            };
            multiplier.multiply(&[batch])
        });
    }
}

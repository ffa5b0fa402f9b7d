//! Benchmarks report what they measured under the promised names.

use super::*;
use crate::fast::Fast;
use crate::groth16::Reference;
use ark_ff::Zero;

#[test]
fn a_full_batch_is_all_transfers_and_reproducible() {
    let batch = sample_batch(Shape::TINY).unwrap();
    assert_eq!(batch.data.rows.len(), Shape::TINY.transaction_rows);
    assert!(
        batch
            .data
            .rows
            .iter()
            .all(|row| !row.from.is_zero() && !row.to.is_zero())
    );
    assert!(!batch.data.commitment().is_zero());
    assert_eq!(sample_batch(Shape::TINY).unwrap(), batch);
}

#[test]
fn proving_a_chain_is_measured() {
    let mut steps = Vec::new();
    let bench = ProveBench {
        circuit: Circuit::Chain(61),
        repetitions: 3,
    };
    let backends: [&dyn Backend; 2] = [&Fast::portable(), &Reference];
    let rows = bench_prove(&backends, &bench, |step| steps.push(step.to_owned())).unwrap();
    let names = rows.iter().map(|row| row.backend.as_str());
    assert!(names.eq(["fast-portable", "ark-groth16"]));
    let [one, other] = [0, 1].map(|i| rows[i].ratio_to.values().copied().sum::<f64>());
    assert!((one * other - 1.0).abs() < 1e-9);
    let row = rows[0].clone();
    assert!(row.open_s > 0.0 && row.prepare_s > 0.0 && row.first_prove_s > 0.0);
    // The digits alone take 36 bytes for each of some 64 scalars, twice.
    assert!(row.scratch_bytes > 64 * 72 && row.scratch_bytes < 64 << 20);
    assert_eq!(rows[1].scratch_bytes, 0);
    assert!(row.split.ntt > 0.0 && row.split.msm_g1 > 0.0 && row.split.msm_g2 > 0.0);
    assert_eq!(
        (row.constraints, row.batch, row.transfers_per_s),
        (64, 0, 0.0)
    );
    assert!(row.prove_s.min <= row.prove_s.median && row.prove_s.median <= row.prove_s.max);
    assert!(row.prove_s.min > 0.0 && row.us_per_constraint > 0.0 && row.setup_s > 0.0);
    assert_eq!(steps.len(), 9);
    let json = serde_json::to_value(Report::new(vec![row])).unwrap();
    for name in [
        "backend",
        "batch",
        "constraints",
        "setup_s",
        "open_s",
        "prepare_s",
        "first_prove_s",
        "scratch_bytes",
        "witness_s",
        "prove_s",
        "us_per_constraint",
        "transfers_per_s",
        "peak_rss_bytes",
        "threads",
        "proof_bytes",
        "evm_gas",
        "split",
        "ratio_to",
    ] {
        assert!(json["rows"][0].get(name).is_some(), "{name}");
    }
    for name in ["cpu", "flags", "cores", "memory_bytes", "rustc", "commit"] {
        assert!(json["environment"].get(name).is_some(), "{name}");
    }
    for name in ["min", "median", "max"] {
        assert!(
            json["rows"][0]["prove_s"][name].as_f64().is_some(),
            "{name}"
        );
    }
}

#[test]
fn the_cost_of_a_transfer_is_the_slope_between_two_shapes() {
    let rows = bench_circuit(&[Shape::TINY], |_| {}).unwrap();
    let row = &rows[0];
    assert_eq!(row.batch, 4);
    assert!(row.domain.is_power_of_two() && row.domain > row.constraints);
    assert!((row.fixed + 4.0 * row.constraints_per_transfer - row.constraints as f64).abs() < 1e-6);
    assert!(
        row.constraints_per_transfer <= 22_000.0,
        "{}",
        row.constraints_per_transfer
    );
    assert!(row.nonzeros_per_constraint.iter().all(|n| *n > 0.0));
}

#[test]
fn the_median_of_an_even_number_lies_between() {
    assert_eq!(
        Spread::of(&[4.0, 1.0, 2.0, 9.0]),
        Spread {
            min: 1.0,
            median: 3.0,
            max: 9.0
        }
    );
    assert_eq!(
        Spread::of(&[5.0]),
        Spread {
            min: 5.0,
            median: 5.0,
            max: 5.0
        }
    );
    assert_eq!(Spread::of(&[]).median, 0.0);
}

#[test]
fn a_circuit_from_files_is_measured() {
    use crate::circom::{wtns_bytes, zkey_bytes};
    let folder = tempfile::tempdir().unwrap();
    let [zkey, wtns] = ["c.zkey", "c.wtns"].map(|name| folder.path().join(name));
    let key = CircuitKey::generate(Circuit::Chain(20), &Seed::development()).unwrap();
    std::fs::write(&zkey, zkey_bytes(&key)).unwrap();
    let assignment = Statement::Chain(Chain::new(20, 2)).assign().unwrap();
    std::fs::write(&wtns, &*wtns_bytes(&assignment)).unwrap();
    let backends: [&dyn Backend; 3] = [&Fast::detect(), &Reference, &crate::peer::Taceo];
    let rows = bench_files(&backends, &zkey, &wtns, 1, |_| {}).unwrap();
    assert_eq!(rows.len(), 3);
    assert!(
        rows.iter()
            .all(|row| row.circuit == "c.zkey" && row.constraints == 23)
    );
    assert_eq!(
        (rows[0].proof_bytes, rows[0].evm_gas),
        (256, 181_000 + 3 * 6_150)
    );
    let missing = bench_files(&backends, &wtns, &wtns, 1, |_| {});
    assert!(matches!(missing, Err(BenchError::File(_))));
}

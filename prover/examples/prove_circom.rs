//! Proves a circom circuit: `prove_circom circuit.zkey witness.wtns`. Without files it makes those of a chain first.
//!
//! .zkey, .wtns → verified proof → proof.json, public.json and vkey.json in the working folder

use millrace_prover::chain::Chain;
use millrace_prover::circom::{CircomProver, wtns_bytes, zkey_bytes};
use millrace_prover::circuit::{Circuit, Statement};
use millrace_prover::key::CircuitKey;
use millrace_prover::setup::Seed;
use millrace_prover::snarkjs;
use std::path::PathBuf;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut arguments = std::env::args().skip(1).map(PathBuf::from);
    let (zkey, wtns) = match (arguments.next(), arguments.next()) {
        (Some(zkey), Some(wtns)) => (zkey, wtns),
        _ => sample()?,
    };
    let prover = CircomProver::open(&zkey)?;
    let witness = prover.read_witness(&wtns)?;
    let proof = prover.prove(&witness)?;
    std::fs::write("proof.json", snarkjs::proof_json(&proof))?;
    std::fs::write("public.json", snarkjs::public_json(witness.public_inputs()))?;
    let vkey = snarkjs::verifying_key_json(prover.verifying_key());
    std::fs::write("vkey.json", vkey)?;
    println!("proved {} constraints", prover.constraints());
    Ok(())
}

fn sample() -> Result<(PathBuf, PathBuf), Box<dyn std::error::Error>> {
    let links = 1000;
    let key = CircuitKey::generate(Circuit::Chain(links), &Seed::development())?;
    let assignment = Statement::Chain(Chain::new(links, 5)).assign()?;
    let (zkey, wtns) = (PathBuf::from("chain.zkey"), PathBuf::from("chain.wtns"));
    std::fs::write(&zkey, zkey_bytes(&key))?;
    std::fs::write(&wtns, &*wtns_bytes(&assignment))?;
    Ok((zkey, wtns))
}

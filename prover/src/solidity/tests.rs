//! The generated verifier, compiled by solc and run on an EVM, judges as ours does; the generated library compiles.

use super::*;
use crate::bench::verification_gas;
use crate::chain::Chain;
use crate::circuit::{Circuit, Statement};
use crate::groth16::{Backend, Reference, Verifier};
use crate::key::CircuitKey;
use crate::proof::Proof;
use crate::setup::Seed;
use ark_bn254::{Fr, G1Affine};
use ark_ec::AffineRepr;
use millrace_circuits::field::to_bytes;
use revm::context::TxEnv;
use revm::context::result::ExecutionResult;
use revm::database::{CacheDB, EmptyDB};
use revm::primitives::{Address, Bytes, TxKind, keccak256};
use revm::state::{AccountInfo, Bytecode};
use revm::{Context, ExecuteEvm, MainBuilder, MainContext};
use std::path::Path;
use std::process::Command;
use std::sync::Arc;

/// A verifier contract with a valid proof for it.
struct Sample {
    source: String,
    key: Arc<CircuitKey>,
    proof: Proof,
    inputs: Vec<Fr>,
}

fn origin<'a>(key: &CircuitKey, circuit: &'a str) -> Origin<'a> {
    Origin {
        circuit,
        identity: key.identity,
        id: key.id,
    }
}

fn sample() -> Sample {
    let statement = Statement::Chain(Chain::new(20, 3));
    let key = CircuitKey::generate(statement.circuit(), &Seed::development()).unwrap();
    let key = Arc::new(key);
    let proof = Reference
        .prepare(key.clone())
        .prove(&statement.assign().unwrap())
        .unwrap();
    let source = verifier(
        "ChainVerifier",
        &origin(&key, "chain-20"),
        key.verifying_key(),
    );
    Sample {
        source,
        key,
        proof,
        inputs: statement.public_inputs(),
    }
}

/// Compiles one file with the solc that `npm ci` installed; the hexadecimal runtime code of every contract in it.
fn compile(name: &str, source: &str, more: &[(&str, &str)]) -> Vec<Vec<u8>> {
    let solc = Path::new(env!("CARGO_MANIFEST_DIR")).join("../node_modules/solc");
    assert!(
        solc.exists(),
        "solc is not installed: run `npm ci` at the root of the clone"
    );
    let mut sources = serde_json::json!({ name: { "content": source } });
    for (name, content) in more {
        sources[name] = serde_json::json!({ "content": content });
    }
    let input = serde_json::json!({
        "language": "Solidity",
        "sources": sources,
        "settings": {
            "optimizer": { "enabled": true, "runs": 200 },
            "outputSelection": { "*": { "*": ["evm.deployedBytecode.object"] } },
        },
    });
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("input.json");
    std::fs::write(&path, input.to_string()).unwrap();
    let script = "const [solc, input] = process.argv.slice(1); \
                  console.log(require(solc).compile(require('fs').readFileSync(input, 'utf8')))";
    let output = Command::new("node")
        .args(["-e", script])
        .arg(&solc)
        .arg(&path)
        .output()
        .unwrap();
    assert!(output.status.success(), "{output:?}");
    let output: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    assert!(output.get("errors").is_none(), "{}", output["errors"]);
    let contracts = output["contracts"][name].as_object().unwrap();
    contracts
        .values()
        .map(|c| hex::decode(c["evm"]["deployedBytecode"]["object"].as_str().unwrap()).unwrap())
        .collect()
}

/// A transaction's own gas: its start, and its data's bytes.
fn transaction_gas(proof: &[EvmWord; 8], inputs: &[EvmWord]) -> u64 {
    let words = proof.iter().chain(inputs).flatten();
    let data: u64 = words.map(|byte| if *byte == 0 { 4 } else { 16 }).sum();
    21_000 + 4 * 16 + data
}

/// What the contract answers: the gas, or the selector of its error.
fn call(code: &[u8], proof: &[EvmWord; 8], inputs: &[EvmWord]) -> Result<u64, [u8; 4]> {
    let contract = Address::repeat_byte(0x42);
    let mut database = CacheDB::new(EmptyDB::new());
    let code = Bytecode::new_raw(Bytes::copy_from_slice(code));
    database.insert_account_info(contract, AccountInfo::default().with_code(code));
    let mut data = keccak256(format!("verify(uint256[8],uint256[{}])", inputs.len()))[..4].to_vec();
    proof
        .iter()
        .chain(inputs)
        .for_each(|word| data.extend(word));
    let transaction = TxEnv::builder()
        .kind(TxKind::Call(contract))
        .gas_limit(2_000_000)
        .data(data.into())
        .build()
        .unwrap();
    let mut evm = Context::mainnet().with_db(database).build_mainnet();
    match evm.transact(transaction).unwrap().result {
        result @ ExecutionResult::Success { .. } => Ok(result.tx_gas_used()),
        ExecutionResult::Revert { output, .. } => Err(output[..4].try_into().unwrap()),
        halt => panic!("{halt:?}"),
    }
}

fn selector(signature: &str) -> [u8; 4] {
    keccak256(signature)[..4].try_into().unwrap()
}

#[test]
fn the_generated_verifier_judges_as_ours_does() {
    let Sample {
        source,
        key,
        proof,
        inputs,
    } = sample();
    let code = &compile("ChainVerifier.sol", &source, &[])[0];
    let words: Vec<EvmWord> = inputs.iter().map(to_bytes).collect();
    let gas = call(code, &proof.words(), &words).unwrap();
    assert!(gas < 245_000, "{gas}");
    // What benchmarks compute.
    let (own, computed) = (
        gas - transaction_gas(&proof.words(), &words),
        verification_gas(inputs.len()),
    );
    assert!(
        (computed..computed * 21 / 20).contains(&own),
        "{own}, computed {computed}"
    );

    let invalid = Err(selector("InvalidProof()"));
    let verifier = Verifier::new(key.verifying_key());
    let others = [
        Proof {
            a: -proof.a,
            ..proof.clone()
        },
        Proof {
            c: G1Affine::generator(),
            ..proof.clone()
        },
        Proof {
            a: G1Affine::zero(),
            ..proof.clone()
        },
    ];
    for other in others {
        assert!(!verifier.accepts(&other, &inputs));
        assert_eq!(call(code, &other.words(), &words), invalid);
    }
    for position in 0..inputs.len() {
        let mut changed = words.clone();
        changed[position] = to_bytes(&(inputs[position] + Fr::from(1u64)));
        assert_eq!(
            call(code, &proof.words(), &changed),
            invalid,
            "input {position}"
        );
    }
}

#[test]
fn second_names_of_inputs_and_points_are_refused_on_the_evm() {
    let Sample {
        source,
        proof,
        inputs,
        ..
    } = sample();
    let code = &compile("ChainVerifier.sol", &source, &[])[0];
    let words: Vec<EvmWord> = inputs.iter().map(to_bytes).collect();
    let r = revm::primitives::U256::from_be_bytes(to_bytes(&-Fr::from(1u64)))
        + revm::primitives::U256::from(1);
    for position in 0..words.len() {
        let mut aliased = words.clone();
        let value = revm::primitives::U256::from_be_bytes(words[position]);
        aliased[position] = (value + r).to_be_bytes();
        let error = call(code, &proof.words(), &aliased);
        assert_eq!(
            error,
            Err(selector("InputNotCanonical(uint256,uint256)")),
            "input {position}"
        );
    }
    for position in 0..8 {
        let mut off_curve = proof.words();
        off_curve[position][31] ^= 1;
        let error = call(code, &off_curve, &words);
        assert_eq!(error, Err(selector("InvalidPoint()")), "word {position}");
    }
}

#[test]
fn the_generated_source_is_reproducible_and_says_what_it_is() {
    let key = CircuitKey::generate(Circuit::Chain(2), &Seed::development()).unwrap();
    let make = || verifier("V", &origin(&key, "chain-2"), key.verifying_key());
    let source = make();
    assert_eq!(source, make());
    for expected in [
        &key.id.to_string(),
        &key.identity.to_string(),
        "INSECURE-DEV: one party",
        "uint256[3] calldata inputs",
    ] {
        assert!(source.contains(expected), "{expected}");
    }
    for word in VerifyingKeyWords::negated(key.verifying_key()).flat() {
        assert!(source.contains(&number(&word)));
    }
}

#[test]
fn the_library_of_keys_compiles_against_the_rollup_s_interface() {
    let [one, two] = [2, 3]
        .map(|links| CircuitKey::generate(Circuit::Chain(links), &Seed::development()).unwrap());
    let keys = [
        ("tiny", origin(&one, "chain-2"), one.verifying_key()),
        ("small", origin(&two, "chain-3"), two.verifying_key()),
    ];
    let source = key_library("DevelopmentKeys", "./IRollup.sol", &keys);
    for word in [&one, &two]
        .iter()
        .flat_map(|key| VerifyingKeyWords::of(key.verifying_key()).flat())
    {
        assert!(source.contains(&number(&word)));
    }
    let interface = include_str!("../../../l1/contracts/src/interfaces/IRollup.sol");
    let compiled = compile(
        "DevelopmentKeys.sol",
        &source,
        &[("IRollup.sol", interface)],
    );
    assert_eq!(compiled.len(), 1);
}

//! What only the dev chain offers: exact repetition, undo, forks with chosen contents, the state file, the HTTP face.

use super::*;
use crate::testing::{Probe, probe_bytecode};
use alloy::{
    consensus::{SignableTransaction, TxEip1559},
    eips::eip2718::Encodable2718,
    primitives::{Bytes, TxKind, address},
    signers::SignerSync,
    sol_types::SolCall,
};
use proptest::prelude::*;
use serde_json::{Value, json};

const PAYEE: Address = address!("0x00000000000000000000000000000000000b0b00");

/// A signed transaction of development account `index`.
fn signed(
    index: u32,
    nonce: u64,
    to: TxKind,
    value: u64,
    input: Bytes,
    max_fee: u128,
) -> TxEnvelope {
    let transaction = TxEip1559 {
        chain_id: DEV_CHAIN_ID,
        nonce,
        gas_limit: 1_000_000,
        max_fee_per_gas: max_fee,
        max_priority_fee_per_gas: 1,
        to,
        value: U256::from(value),
        input,
        ..TxEip1559::default()
    };
    let signature = dev_signer(index)
        .sign_hash_sync(&transaction.signature_hash())
        .unwrap();
    transaction.into_signed(signature).into()
}

fn payment(index: u32, nonce: u64, value: u64) -> TxEnvelope {
    signed(
        index,
        nonce,
        TxKind::Call(PAYEE),
        value,
        Bytes::new(),
        2_000_000_000,
    )
}

fn send(chain: &DevChain, envelope: &TxEnvelope) -> Result<Value, DevChainError> {
    chain.request(
        "eth_sendRawTransaction",
        &[json!(Bytes::from(envelope.encoded_2718()))],
    )
}

fn paid(chain: &DevChain) -> U256 {
    chain.lock().chain.world.account(PAYEE).balance
}

fn manual() -> DevChain {
    DevChain::new(DevChainConfig {
        automine: false,
        ..DevChainConfig::deterministic()
    })
}

fn number(value: &Value) -> u64 {
    u64::from_str_radix(value.as_str().unwrap().trim_start_matches("0x"), 16).unwrap()
}

#[test]
fn equal_inputs_give_equal_hashes() {
    let run = || {
        let chain = DevChain::new(DevChainConfig::deterministic());
        (0..5).for_each(|nonce| drop(send(&chain, &payment(0, nonce, 1)).unwrap()));
        chain.increase_time(100);
        chain.mine();
        chain.head().hash
    };
    assert_eq!(run(), run());
}

#[test]
fn dropping_blocks_restores_the_world_exactly() {
    let chain = DevChain::new(DevChainConfig::deterministic());
    let deployment = signed(0, 0, TxKind::Create, 0, probe_bytecode(), 2_000_000_000);
    send(&chain, &deployment).unwrap();
    let probe = chain.head().transactions[0].contract_address.unwrap();
    let mut worlds = vec![chain.lock().chain.world.clone()];
    for nonce in 1..6 {
        let note = Probe::noteCall {
            key: U256::from(nonce),
            newValue: U256::from(10 + nonce % 2),
        };
        send(
            &chain,
            &signed(
                0,
                nonce,
                TxKind::Call(probe),
                nonce,
                note.abi_encode().into(),
                2_000_000_000,
            ),
        )
        .unwrap();
        send(&chain, &payment(1, nonce - 1, 7)).unwrap();
        worlds.push(chain.lock().chain.world.clone());
    }
    for depth in (0..5).rev() {
        chain.lock().chain.rollback(2).unwrap();
        assert_eq!(
            chain.lock().chain.world,
            worlds[depth],
            "after dropping down to {depth}"
        );
    }
}

#[test]
fn a_fork_includes_what_it_is_given_and_has_other_hashes() {
    let chain = DevChain::new(DevChainConfig::deterministic());
    (0..4).for_each(|account| drop(send(&chain, &payment(account, 0, 1 << account)).unwrap()));
    let old: Vec<B256> = (1..=4)
        .map(|height| chain.block(height).unwrap().hash)
        .collect();
    chain
        .reorg_keeping(3, |transaction| {
            transaction.sender == dev_signer(3).address()
        })
        .unwrap();
    assert_eq!(chain.height(), 4);
    assert_eq!(paid(&chain), U256::from(0b1001));
    assert_eq!(chain.block(1).unwrap().hash, old[0]);
    for height in 2..=4 {
        assert_ne!(chain.block(height).unwrap().hash, old[height as usize - 1]);
    }
}

#[test]
fn equal_blocks_on_two_forks_have_different_hashes() {
    let chain = DevChain::new(DevChainConfig::deterministic());
    send(&chain, &payment(0, 0, 1)).unwrap();
    let before = chain.head();
    chain.reorg_keeping(1, |_| true).unwrap();
    assert_eq!(chain.head().transactions, before.transactions);
    assert_ne!(chain.head().hash, before.hash);
}

#[test]
fn orphans_return_to_the_pool_when_asked() {
    let chain = manual();
    send(&chain, &payment(0, 0, 5)).unwrap();
    chain.mine();
    chain
        .reorg(&Reorg {
            depth: 1,
            blocks: vec![vec![], vec![]],
            orphans: Orphans::ReturnToPool,
        })
        .unwrap();
    assert_eq!(
        (chain.height(), paid(&chain), chain.pooled().len()),
        (2, U256::ZERO, 1)
    );
    chain.mine();
    assert_eq!(paid(&chain), U256::from(5));
}

#[test]
fn a_failed_reorg_leaves_the_chain_as_it_was() {
    let chain = DevChain::new(DevChainConfig::deterministic());
    send(&chain, &payment(0, 0, 1)).unwrap();
    let before = (chain.head().hash, chain.lock().chain.world.clone());
    let wrong_nonce = Reorg {
        depth: 1,
        blocks: vec![vec![payment(0, 7, 1)]],
        orphans: Orphans::Forget,
    };
    assert!(matches!(
        chain.reorg(&wrong_nonce),
        Err(DevChainError::InvalidTransaction(_))
    ));
    let too_deep = Reorg {
        depth: 2,
        blocks: vec![],
        orphans: Orphans::Forget,
    };
    assert_eq!(
        chain.reorg(&too_deep),
        Err(DevChainError::ReorgTooDeep {
            depth: 2,
            height: 1
        })
    );
    assert_eq!(
        (chain.head().hash, chain.lock().chain.world.clone()),
        before
    );
}

#[test]
fn the_pool_orders_by_tip_and_nonce() {
    let chain = manual();
    for (account, nonce) in [(0, 1), (1, 0), (0, 0)] {
        send(&chain, &payment(account, nonce, 1)).unwrap();
    }
    let mut generous = TxEip1559 {
        chain_id: DEV_CHAIN_ID,
        gas_limit: 21_000,
        to: TxKind::Call(PAYEE),
        ..Default::default()
    };
    (generous.max_fee_per_gas, generous.max_priority_fee_per_gas) = (9_000_000_000, 1_000_000_000);
    let signature = dev_signer(2)
        .sign_hash_sync(&generous.signature_hash())
        .unwrap();
    send(&chain, &generous.into_signed(signature).into()).unwrap();
    let block = chain.mine();
    let senders: Vec<Address> = block
        .transactions
        .iter()
        .map(|transaction| transaction.sender)
        .collect();
    assert_eq!(
        senders,
        [2, 1, 0, 0].map(|index| dev_signer(index).address())
    );
}

#[test]
fn a_transaction_below_the_base_fee_waits_until_the_fee_falls() {
    let chain = DevChain::new(DevChainConfig::deterministic());
    send(
        &chain,
        &signed(0, 0, TxKind::Call(PAYEE), 3, Bytes::new(), 900_000_000),
    )
    .unwrap();
    chain.mine();
    assert_eq!((paid(&chain), chain.pooled().len()), (U256::ZERO, 1));
    chain.set_base_fee(800_000_000);
    chain.mine();
    assert_eq!((paid(&chain), chain.pooled().len()), (U256::from(3), 0));
}

#[test]
fn blocks_hold_no_more_than_their_gas() {
    let chain = DevChain::new(DevChainConfig {
        automine: false,
        block_gas_limit: 2_100_000,
        ..DevChainConfig::deterministic()
    });
    (0..5).for_each(|account| drop(send(&chain, &payment(account, 0, 1)).unwrap()));
    while !chain.pooled().is_empty() {
        let block = chain.mine();
        assert!(!block.transactions.is_empty());
        assert!(block.header.gas_used <= 2_100_000);
    }
    assert_eq!(paid(&chain), U256::from(5));
}

#[test]
fn refusals_name_the_broken_rule() {
    let chain = DevChain::new(DevChainConfig::deterministic());
    send(&chain, &payment(0, 0, 1)).unwrap();
    assert!(matches!(
        send(&chain, &payment(0, 0, 1)),
        Err(DevChainError::AlreadyKnown(_))
    ));
    assert_eq!(
        send(&chain, &payment(0, 0, 2)),
        Err(DevChainError::NonceTooLow { next: 1, got: 0 })
    );
    assert!(matches!(
        send(&chain, &payment(0, 5000, 2)),
        Err(DevChainError::NonceTooHigh { .. })
    ));
    let garbage = chain.request("eth_sendRawTransaction", &[json!("0x02c0")]);
    assert!(matches!(garbage, Err(DevChainError::Undecodable(_))));
    assert!(matches!(
        chain.request("eth_nonsense", &[]),
        Err(DevChainError::MethodNotFound(_))
    ));
    assert!(matches!(
        chain.request("eth_getBalance", &[json!(5)]),
        Err(DevChainError::InvalidParameter { index: 0, .. })
    ));
}

#[test]
fn time_never_goes_back() {
    let chain = DevChain::default();
    chain
        .set_next_timestamp(chain.head().header.timestamp + 50_000)
        .unwrap();
    let first = chain.mine().header.timestamp;
    let second = chain.mine().header.timestamp;
    assert!(second >= first);
    assert!(matches!(
        chain.set_next_timestamp(first - 1),
        Err(DevChainError::TimeGoesBack { .. })
    ));
}

#[test]
fn a_pending_look_changes_nothing() {
    let chain = manual();
    send(&chain, &payment(0, 0, 5)).unwrap();
    let all = |chain: &DevChain| {
        let shared = chain.lock();
        let Chain {
            world, pool, clock, ..
        } = &shared.chain;
        (
            shared.chain.head().hash,
            world.clone(),
            pool.clone(),
            *clock,
        )
    };
    let before = all(&chain);
    let balance = chain
        .request("eth_getBalance", &[json!(PAYEE), json!("pending")])
        .unwrap();
    assert_eq!(number(&balance), 5);
    let block = chain
        .request("eth_getBlockByNumber", &[json!("pending"), json!(false)])
        .unwrap();
    assert_eq!(block["transactions"].as_array().unwrap().len(), 1);
    assert_eq!(all(&chain), before);
}

#[test]
fn the_state_file_keeps_the_chain() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("chain.json");
    let chain = manual();
    send(
        &chain,
        &signed(0, 0, TxKind::Create, 0, probe_bytecode(), 2_000_000_000),
    )
    .unwrap();
    chain.mine();
    send(&chain, &payment(1, 0, 9)).unwrap();
    chain.dump_state(&path).unwrap();
    let again = DevChain::open(&path, DevChainConfig::default()).unwrap();
    assert_eq!(again.head(), chain.head());
    assert_eq!(again.lock().chain.world, chain.lock().chain.world);
    assert_eq!(again.pooled(), chain.pooled());
    assert_eq!(again.mine().hash, chain.mine().hash, "both go on alike");
    let other = DevChain::open(
        &path,
        DevChainConfig {
            chain_id: 5,
            ..DevChainConfig::default()
        },
    );
    assert!(matches!(
        other,
        Err(DevChainError::Mismatch {
            field: "chain id",
            ..
        })
    ));
    std::fs::write(&path, b"{").unwrap();
    assert!(matches!(
        DevChain::open(&path, DevChainConfig::default()),
        Err(DevChainError::File { .. })
    ));
}

#[test]
fn a_durable_chain_survives_at_any_instant() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("chain.json");
    let config = DevChainConfig {
        automine: false,
        ..DevChainConfig::deterministic()
    };
    let chain = DevChain::open_durable(&path, config.clone()).unwrap();
    let same = |chain: &DevChain| {
        // What a killed process leaves is the file as it is now, perhaps with a torn line.
        let copy = folder.path().join("copy.json");
        for torn in ["", "{\"keep\":0,\"blo"] {
            let mut bytes = std::fs::read(&path).unwrap();
            bytes.extend(torn.as_bytes());
            std::fs::write(&copy, bytes).unwrap();
            let again = DevChain::open(&copy, config.clone()).unwrap();
            let (again, chain) = (again.lock(), chain.lock());
            assert_eq!(again.chain.head(), chain.chain.head());
            assert_eq!(again.chain.world, chain.chain.world);
            assert_eq!(again.chain.pool, chain.chain.pool);
            assert_eq!(again.chain.settings(), chain.chain.settings());
        }
    };
    same(&chain);
    send(
        &chain,
        &signed(0, 0, TxKind::Create, 0, probe_bytecode(), 2_000_000_000),
    )
    .unwrap();
    same(&chain);
    chain.mine();
    same(&chain);
    (0..3).for_each(|nonce| drop(send(&chain, &payment(1, nonce, 9)).unwrap()));
    chain.mine();
    chain.increase_time(50);
    same(&chain);
    chain.set_balance(PAYEE, U256::from(3));
    same(&chain);
    chain.mine();
    chain.reorg_keeping(2, |_| true).unwrap();
    same(&chain);
    let shorter = Reorg {
        depth: 1,
        blocks: vec![],
        orphans: Orphans::Forget,
    };
    chain.reorg(&shorter).unwrap();
    same(&chain);
    let head = chain.head();
    drop(chain);
    let again = DevChain::open_durable(&path, config.clone()).unwrap();
    assert_eq!(again.head(), head);
    again.mine();
    same(&again);
}

#[test]
fn snapshots_nest_and_are_used_once() {
    let chain = DevChain::new(DevChainConfig::deterministic());
    let outer = chain.snapshot();
    send(&chain, &payment(0, 0, 1)).unwrap();
    let inner = chain.snapshot();
    send(&chain, &payment(0, 1, 1)).unwrap();
    assert!(chain.revert(inner));
    assert_eq!(paid(&chain), U256::from(1));
    assert!(chain.revert(outer));
    assert_eq!((paid(&chain), chain.height()), (U256::ZERO, 0));
    assert!(
        !chain.revert(inner),
        "what came after a snapshot goes with it"
    );
}

#[test]
fn the_http_face_answers_single_batch_and_nonsense() {
    let chain = DevChain::default();
    let ask =
        |body: &str| -> Value { serde_json::from_slice(&chain.handle(body.as_bytes())).unwrap() };
    let single = ask(r#"{"jsonrpc":"2.0","id":7,"method":"eth_chainId"}"#);
    assert_eq!(
        single,
        json!({"jsonrpc": "2.0", "id": 7, "result": "0x7a69"})
    );
    let batch = ask(
        r#"[{"jsonrpc":"2.0","id":"a","method":"eth_blockNumber","params":[]},{"id":2,"method":"nope"}]"#,
    );
    assert_eq!(batch[0]["result"], "0x0");
    assert_eq!(
        (batch[1]["id"].as_u64(), batch[1]["error"]["code"].as_i64()),
        (Some(2), Some(-32601))
    );
    assert_eq!(ask("{")["error"]["code"], -32700);
    assert_eq!(ask("[]")["error"]["code"], -32600);
    assert_eq!(
        ask(r#"{"id":1,"method":"eth_chainId","params":{}}"#)["error"]["code"],
        -32600
    );
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// Whatever happens, undoing everything leads back to genesis.
    #[test]
    fn any_history_can_be_undone(steps in prop::collection::vec((0u32..4, 0u64..3, 0u64..4), 1..30)) {
        let chain = manual();
        let genesis = chain.lock().chain.world.clone();
        for (account, kind, depth) in steps {
            let nonce = chain.lock().chain.pending_nonce(dev_signer(account).address());
            match kind {
                0 => drop(send(&chain, &payment(account, nonce, 1))),
                1 => drop(chain.mine()),
                _ => drop(chain.reorg(&Reorg { depth, blocks: vec![vec![]; depth as usize], orphans: Orphans::ReturnToPool })),
            }
            let mined: u64 = (0..=chain.height()).map(|height| chain.block(height).unwrap().transactions.len() as u64).sum();
            prop_assert_eq!(paid(&chain), U256::from(mined), "each mined payment is one wei");
        }
        let height = chain.height();
        chain.lock().chain.rollback(height).unwrap();
        prop_assert_eq!(&chain.lock().chain.world, &genesis);
    }
}

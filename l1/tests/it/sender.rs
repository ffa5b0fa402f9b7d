//! A transaction lands once: through restarts, reorgs, low fees and lost nonces.

use alloy::{
    primitives::{Address, B256, Bytes, U256, address},
    providers::Provider,
    sol_types::{SolCall, SolError},
};
use millrace_l1::{
    devchain::{Orphans, Reorg},
    on_both_chains,
    sender::{Call, FileStore, MemoryStore, Policy, SendError, SenderStore, TransactionSender},
    testing::{Probe, TestL1, deploy_probe},
};
use std::{sync::Arc, time::Duration};

const PAYEE: Address = address!("0x0000000000000000000000000000000000000b0b");

fn pay(wei: u64) -> Call {
    Call::new(PAYEE, U256::from(wei), Bytes::new())
}

fn impatient() -> Policy {
    Policy {
        bump_after_secs: 1,
        ..Policy::default()
    }
}

fn with(l1: &TestL1, store: &Arc<MemoryStore>, policy: Policy) -> TransactionSender {
    TransactionSender::new(l1.provider().clone(), l1.signer(0), store.clone(), policy)
}

async fn paid(l1: &TestL1) -> U256 {
    l1.provider().provider().get_balance(PAYEE).await.unwrap()
}

async fn nonce(l1: &TestL1) -> u64 {
    l1.provider()
        .provider()
        .get_transaction_count(l1.signer(0).address())
        .await
        .unwrap()
}

/// Waits until the node knows the attempt with this index, and returns its hash.
async fn until_known(l1: &TestL1, store: &dyn SenderStore, id: &str, attempt: usize) -> B256 {
    for _ in 0..6000 {
        let record = store.get(id).unwrap();
        let hash =
            record.and_then(|record| record.attempts.get(attempt).map(|attempt| attempt.hash));
        if let Some(hash) = hash
            && l1
                .provider()
                .provider()
                .get_transaction_by_hash(hash)
                .await
                .unwrap()
                .is_some()
        {
            return hash;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("attempt {attempt} of {id} never reached the node");
}

/// Begins to send, and is killed as soon as the node has the transaction.
async fn killed_while_sending(
    l1: &TestL1,
    sender: TransactionSender,
    store: &dyn SenderStore,
    id: &'static str,
    call: Call,
) -> B256 {
    let send = tokio::spawn(async move { sender.send(id, call).await });
    let hash = until_known(l1, store, id, 0).await;
    send.abort();
    assert!(send.await.unwrap_err().is_cancelled());
    hash
}

async fn forget(l1: &TestL1, hash: B256) {
    let provider = l1.provider().provider();
    let dropped: Option<B256> = provider
        .raw_request("anvil_dropTransaction".into(), (hash,))
        .await
        .unwrap();
    assert_eq!(dropped, Some(hash), "the node forgets it");
}

/// Waits until the account's newest transaction is mined, and returns the height.
async fn until_mined(l1: &TestL1, nonces: u64) -> u64 {
    for _ in 0..2000 {
        if nonce(l1).await == nonces {
            return l1.height().await;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("nonce {nonces} was never reached");
}

on_both_chains! {
    async fn an_id_lands_once(l1: TestL1) {
        let sender = TransactionSender::in_memory(l1.provider().clone(), l1.signer(0));
        let first = sender.send("a", pay(5)).await.unwrap();
        let again = sender.send("a", pay(5)).await.unwrap();
        assert_eq!(first.transaction_hash, again.transaction_hash);
        assert_eq!((paid(&l1).await, nonce(&l1).await), (U256::from(5), 1));
        assert!(matches!(sender.send("a", pay(6)).await, Err(SendError::IdTaken(_))));
        sender.send("b", pay(6)).await.unwrap();
        assert_eq!(paid(&l1).await, U256::from(11));
    }

    async fn what_would_revert_is_not_sent(l1: TestL1) {
        let probe = deploy_probe(l1.provider(), l1.signer(1)).await;
        let sender = TransactionSender::in_memory(l1.provider().clone(), l1.signer(0));
        let note = Probe::noteCall { key: U256::from(1), newValue: U256::from(3) };
        let error = sender.send("note", Call::new(probe, U256::ZERO, note.abi_encode())).await.unwrap_err();
        assert!(matches!(error, SendError::WouldRevert { .. }), "{error}");
        let reason = Probe::TooSmall::abi_decode(error.revert_data().unwrap()).unwrap();
        assert_eq!(reason.got, U256::from(3));
        assert_eq!(nonce(&l1).await, 0);
    }

    async fn a_revert_on_chain_names_its_reason(l1: TestL1) {
        let probe = deploy_probe(l1.provider(), l1.signer(1)).await;
        let sender = TransactionSender::in_memory(l1.provider().clone(), l1.signer(0));
        let note = Probe::noteCall { key: U256::from(1), newValue: U256::from(3) };
        let call = Call { gas_limit: Some(200_000), ..Call::new(probe, U256::ZERO, note.abi_encode()) };
        let error = sender.send("note", call.clone()).await.unwrap_err();
        assert!(matches!(error, SendError::Reverted { .. }), "{error}");
        assert!(Probe::TooSmall::abi_decode(error.revert_data().unwrap()).is_ok());
        assert!(matches!(sender.send("note", call).await, Err(SendError::Reverted { .. })), "the id stays spent");
        assert_eq!(nonce(&l1).await, 1);
    }

    async fn many_at_once_take_different_nonces(l1: TestL1) {
        let sender = TransactionSender::in_memory(l1.provider().clone(), l1.signer(0));
        let sends = (0..8u64).map(|index| {
            let sender = sender.clone();
            async move { sender.send(&format!("pay {index}"), pay(1 << index)).await.map(|receipt| receipt.status()) }
        });
        let landed = futures::future::try_join_all(sends).await.unwrap();
        assert_eq!(landed, [true; 8]);
        assert_eq!((paid(&l1).await, nonce(&l1).await), (U256::from(255), 8));
    }

    async fn fees_rise_until_it_is_mined(l1: TestL1) {
        l1.set_automine(false).await;
        let store = Arc::new(MemoryStore::default());
        let sender = with(&l1, &store, impatient());
        let send = tokio::spawn(async move { sender.send("slow", pay(5)).await });
        until_known(&l1, &*store, "slow", 1).await;
        l1.mine(1).await;
        let receipt = send.await.unwrap().unwrap();
        let record = store.get("slow").unwrap().unwrap();
        assert!(record.attempts[1].fees.max_fee * 1000 >= record.attempts[0].fees.max_fee * 1125);
        assert!(record.attempts[1..].iter().any(|attempt| attempt.hash == receipt.transaction_hash), "a dearer one was mined");
        assert_eq!((paid(&l1).await, nonce(&l1).await), (U256::from(5), 1));
    }

    async fn a_reorg_does_not_lose_it(l1: TestL1) {
        l1.mine(1).await;
        let store = Arc::new(MemoryStore::default());
        let sender = with(&l1, &store, Policy { confirmations: 3, ..Policy::default() });
        let send = tokio::spawn(async move { sender.send("deep", pay(7)).await });
        until_mined(&l1, 1).await;
        l1.reorg(1).await;
        until_mined(&l1, 1).await;
        l1.mine(3).await;
        let receipt = send.await.unwrap().unwrap();
        assert!(receipt.block_number.unwrap() + 2 <= l1.height().await);
        assert_eq!((paid(&l1).await, nonce(&l1).await), (U256::from(7), 1));
    }

    async fn a_landed_id_that_a_reorg_dropped_is_sent_again(l1: TestL1) {
        l1.mine(1).await;
        let sender = TransactionSender::in_memory(l1.provider().clone(), l1.signer(0));
        sender.send("again", pay(9)).await.unwrap();
        l1.reorg(1).await;
        assert_eq!(paid(&l1).await, U256::ZERO);
        sender.send("again", pay(9)).await.unwrap();
        assert_eq!((paid(&l1).await, nonce(&l1).await), (U256::from(9), 1));
    }

    async fn a_restart_goes_on_where_it_was(l1: TestL1) {
        l1.set_automine(false).await;
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("sender.json");
        let open = || Arc::new(FileStore::open(&path).unwrap());
        let sender = |store: &Arc<FileStore>| {
            TransactionSender::new(l1.provider().clone(), l1.signer(0), store.clone(), Policy::default())
        };
        let store = open();
        let hash = killed_while_sending(&l1, sender(&store), &*store, "job", pay(3)).await;
        forget(&l1, hash).await;
        let store = open();
        let again = sender(&store);
        let send = tokio::spawn(async move { again.send("job", pay(3)).await });
        until_known(&l1, &*store, "job", 0).await;
        l1.mine(1).await;
        assert_eq!(send.await.unwrap().unwrap().transaction_hash, hash, "the same bytes");
        assert_eq!((paid(&l1).await, nonce(&l1).await), (U256::from(3), 1));
    }

    async fn a_lost_nonce_is_replaced(l1: TestL1) {
        l1.set_automine(false).await;
        let (store, others) = (Arc::new(MemoryStore::default()), Arc::new(MemoryStore::default()));
        let sender = with(&l1, &store, Policy::default());
        let hash = killed_while_sending(&l1, sender.clone(), &*store, "mine", pay(2)).await;
        forget(&l1, hash).await;
        let other = with(&l1, &others, Policy::default());
        killed_while_sending(&l1, other, &*others, "theirs", pay(100)).await;
        l1.mine(1).await;
        assert_eq!(paid(&l1).await, U256::from(100));
        l1.set_automine(true).await;
        sender.send("mine", pay(2)).await.unwrap();
        assert_eq!((paid(&l1).await, nonce(&l1).await), (U256::from(102), 2));
    }

    async fn an_empty_account_is_named(l1: TestL1) {
        l1.set_balance(l1.signer(0).address(), U256::from(10)).await;
        let sender = TransactionSender::in_memory(l1.provider().clone(), l1.signer(0));
        let call = Call { gas_limit: Some(21_000), ..pay(5) };
        let error = sender.send("poor", call).await.unwrap_err();
        assert!(matches!(error, SendError::InsufficientFunds { address, .. } if address == l1.signer(0).address()), "{error}");
        let error = sender.send("poor too", pay(5)).await.unwrap_err();
        assert!(matches!(error, SendError::InsufficientFunds { .. }), "{error}");
    }

    async fn it_gives_up_in_the_end_and_can_go_on(l1: TestL1) {
        l1.set_automine(false).await;
        let store = Arc::new(MemoryStore::default());
        let sender = with(&l1, &store, Policy { give_up_after_secs: 1, ..Policy::default() });
        let error = sender.send("stuck", pay(4)).await.unwrap_err();
        assert!(matches!(error, SendError::Stuck { nonce: 0, attempts: 1, .. }), "{error}");
        l1.mine(1).await;
        sender.send("stuck", pay(4)).await.unwrap();
        assert_eq!((paid(&l1).await, nonce(&l1).await), (U256::from(4), 1));
    }
}

/// Reorgs, lost and delayed transactions and jumping fees, from a seed; then calm. Every payment arrives once.
async fn storm(seed: u64) {
    let l1 = TestL1::dev_chain();
    let chain = l1.as_dev_chain().unwrap().clone();
    chain.set_automine(false);
    (0..8).for_each(|_| drop(chain.mine()));
    let policy = Policy {
        confirmations: 4,
        bump_after_secs: 1,
        ..Policy::default()
    };
    let store = Arc::new(MemoryStore::default());
    let sender = with(&l1, &store, policy);
    let sends = (0..10u64).map(|index| {
        let sender = sender.clone();
        tokio::spawn(async move {
            sender
                .send(&format!("pay {index}"), pay(1 << index))
                .await
                .map(|_| ())
        })
    });
    let sends: Vec<_> = sends.collect();
    let mut random = seed;
    for _ in 0..60 {
        random = random
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        let depth = (random >> 40) % 3 + 1;
        match (random >> 33) % 8 {
            0..=2 => drop(chain.mine()),
            3 => chain.reorg_keeping(depth, |_| false).unwrap(),
            4 => {
                let blocks = vec![vec![]; depth as usize];
                chain
                    .reorg(&Reorg {
                        depth,
                        blocks,
                        orphans: Orphans::ReturnToPool,
                    })
                    .unwrap();
            }
            5 => {
                for hash in chain.pooled().into_iter().take(depth as usize) {
                    chain.drop_pooled(hash);
                }
            }
            6 => chain.set_base_fee(1_000_000_000 << (random >> 50 & 3)),
            _ => {}
        }
        tokio::time::sleep(Duration::from_millis(40)).await;
    }
    let calm = tokio::spawn(async move {
        loop {
            chain.mine();
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    });
    for send in sends {
        send.await
            .unwrap()
            .unwrap_or_else(|error| panic!("seed {seed}: {error}"));
    }
    calm.abort();
    assert_eq!(
        (paid(&l1).await, nonce(&l1).await),
        (U256::from(1023), 10),
        "seed {seed}"
    );
}

#[tokio::test]
async fn every_payment_survives_a_storm_and_arrives_once() {
    futures::future::join_all((1..=8).map(storm)).await;
}

#[tokio::test]
async fn the_same_id_sent_twice_at_once_lands_once() {
    let l1 = TestL1::dev_chain();
    let sender = TransactionSender::in_memory(l1.provider().clone(), l1.signer(0));
    let sends = (0..5).map(|_| sender.send("one", pay(3)));
    let receipts = futures::future::try_join_all(sends).await.unwrap();
    assert!(
        receipts
            .windows(2)
            .all(|pair| pair[0].transaction_hash == pair[1].transaction_hash)
    );
    assert_eq!((paid(&l1).await, nonce(&l1).await), (U256::from(3), 1));
}

#[tokio::test]
async fn what_is_final_is_forgotten_on_request() {
    let l1 = TestL1::dev_chain();
    let store = Arc::new(MemoryStore::default());
    let sender = with(&l1, &store, Policy::default());
    sender.send("old", pay(1)).await.unwrap();
    l1.mine(9).await;
    sender.send("new", pay(2)).await.unwrap();
    sender.forget_final(5).await.unwrap();
    assert!(store.get("old").unwrap().is_none());
    assert!(store.get("new").unwrap().is_some());
}

#[tokio::test]
async fn silence_ends_in_an_error_that_says_so() {
    let l1 = TestL1::anvil().await;
    let provider = l1.provider().clone();
    let sender = TransactionSender::new(
        provider,
        l1.signer(0),
        Arc::new(MemoryStore::default()),
        Policy {
            silence_limit_secs: 1,
            ..Policy::default()
        },
    );
    drop(l1);
    let error = sender.send("void", pay(1)).await.unwrap_err();
    assert!(matches!(error, SendError::Connection(_)), "{error}");
}

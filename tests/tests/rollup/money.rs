//! The whole path of money, on the embedded L1 and on anvil, with the real contract and real proofs.

use crate::ETHER;
use alloy::primitives::U256;
use millrace::config::ProofBackend;
use millrace_circuits::types::AccountIndex;
use millrace_l1::on_both_chains;
use millrace_l1::testing::TestL1;
use millrace_rollup::mempool::TransactionState;
use millrace_tests::world::{ETH, World, prover};

/// In by deposit, to others by transfer, out by withdrawal and by forced exit.
async fn money_moves(mut world: World) {
    world.deposit_for_operator(1000).await;
    world.deposit(0, 5 * ETHER).await;
    world.seal().await;

    // A transfer that creates an account, one to an existing account, a withdrawal.
    world.pay(0, 1, ETHER, 70_000).await;
    world.pay(0, 1, ETHER, 70_000).await;
    let refused = world
        .transfer(0, ETH, world.users[2].owner(), 9 * ETHER, 0)
        .await;
    let refused = world
        .submit(vec![world.sign(0, refused)])
        .await
        .unwrap_err();
    assert_eq!(refused.code(), "overdrawn");
    world.withdraw(1, ETHER / 2, 0).await;
    assert_eq!(world.balance(1).await, 3 * ETHER / 2);

    let receiver = world.users[1].sender.address();
    let before = world.l1_balance(receiver).await;
    world.finish().await;
    assert_eq!(
        world.l1_balance(receiver).await - before,
        U256::from(ETHER / 2)
    );

    // A forced exit takes the rest of user 0.
    let (leaf, account) = world.account(0, ETH).await;
    world.request_exit(0, leaf, ETH).await;
    let receiver = world.users[0].sender.address();
    let before = world.l1_balance(receiver).await;
    world.finish().await;
    assert_eq!(
        world.l1_balance(receiver).await - before,
        U256::from(account.balance.0)
    );
    assert_eq!(world.balance(0).await, 0);

    let status = world.client.status().await.unwrap();
    let root = millrace_rollup::l1::convert::to_u256(&world.root().0);
    assert_eq!(status.provenRoot, root);
    assert_eq!(world.restored_root().await, world.root());

    // What the contract owes is what the accounts hold.
    let accounts = world
        .rollup
        .store()
        .accounts(Default::default(), 100)
        .unwrap();
    let held: u128 = accounts.iter().map(|(_, account)| account.balance.0).sum();
    assert_eq!(world.client.outstanding(0).await.unwrap(), U256::from(held));
    world.stop().await;
}

#[tokio::test]
async fn money_moves_with_proofs_of_every_backend() {
    for backend in [
        ProofBackend::Fast,
        ProofBackend::FastPortable,
        ProofBackend::Ark,
    ] {
        let mut world = World::start(TestL1::dev_chain()).await;
        let prover = prover(backend);
        let name = prover.backend();
        world.prove_with(prover);
        money_moves(world).await;
        // Where the processor lacks AVX-512, the first is the second.
        match backend {
            ProofBackend::Fast => assert!(name.starts_with("fast")),
            ProofBackend::FastPortable => assert_eq!(name, "fast-portable"),
            ProofBackend::Ark => assert_eq!(name, "ark-groth16"),
        }
    }
}

on_both_chains! {
    async fn money_goes_in_moves_and_comes_out(l1: TestL1) {
        money_moves(World::start(l1).await).await;
    }

    async fn a_restart_at_each_stage_goes_on_and_posts_nothing_twice(l1: TestL1) {
        let mut world = World::start(l1).await;
        world.deposit(0, ETHER).await;
        let id = world.pay(0, 1, ETHER / 10, 0).await;
        world.restart().await;
        world.sync().await;
        let record = world.rollup.store().transaction(&id).unwrap().unwrap();
        assert!(matches!(record.state, TransactionState::InBatch { .. }));
        let number = world.seal().await;
        world.restart().await;
        world.sync().await;
        world.post().await;
        let committed = world.batch(number).committed;
        world.restart().await;
        world.post().await;
        assert_eq!(world.batch(number).committed, committed);
        world.prove().await;
        world.restart().await;
        world.sync().await;
        world.post().await;
        world.sync().await;
        assert_eq!(world.client.status().await.unwrap().provenBatches, number.0);
        assert_eq!(world.restored_root().await, world.root());
        world.stop().await;
    }

    /// A deposit credits the leaf of its owner and token if there is one, and makes one if not.
    async fn deposits_make_a_leaf_once_and_forced_exits_of_foreign_leaves_pay_nobody(l1: TestL1) {
        let mut world = World::start(l1).await;
        world.deposit(0, ETHER).await;
        let (leaf, _) = world.account(0, ETH).await;
        world.deposit(0, 2 * ETHER).await;
        world.finish().await;
        let (again, account) = world.account(0, ETH).await;
        assert_eq!((again, account.balance.0), (leaf, 3 * ETHER));

        // Another's leaf, with the right key of the wrong person; and an own request for a leaf that nobody has.
        world.request_exit(1, leaf, ETH).await;
        let nobody = AccountIndex::new(999).unwrap();
        world.request_exit(0, nobody, ETH).await;
        let thief = world.users[1].sender.address();
        let before = world.l1_balance(thief).await;
        let number = world.finish().await;
        assert_eq!(world.l1_balance(thief).await, before);
        assert_eq!(world.balance(0).await, 3 * ETHER);
        assert!(world.batch(number).data.unwrap().l1_rows.len() == 2, "both requests are consumed");
        let status = world.client.status().await.unwrap();
        assert_eq!(status.provenQueueHead, status.queueTail);
        assert_eq!(world.client.outstanding(0).await.unwrap(), U256::from(3 * ETHER));
        world.stop().await;
    }

    /// L1 alone gives the state: after every batch, whatever it held, a new database reaches the live root.
    async fn a_restore_reaches_the_live_root_at_every_batch(l1: TestL1) {
        let mut world = World::start(l1).await;
        world.deposit_for_operator(1000).await;
        world.deposit(0, 5 * ETHER).await;
        for step in 0..4 {
            match step {
                0 => {}
                1 => {
                    world.pay(0, 1, ETHER, 7).await;
                    world.withdraw(0, ETHER / 4, 0).await;
                }
                2 => world.deposit(1, ETHER).await,
                _ => {
                    let (leaf, _) = world.account(1, ETH).await;
                    world.request_exit(1, leaf, ETH).await;
                }
            }
            world.finish().await;
            assert_eq!(world.restored_root().await, world.root(), "at batch {}", step + 1);
        }
        // A commit without a proof counts too: the state of whoever follows is what was posted.
        world.pay(0, 2, ETHER, 7).await;
        world.seal().await;
        world.post().await;
        assert_eq!(world.restored_root().await, world.root(), "at a batch that is not proven");
        world.stop().await;
    }
}

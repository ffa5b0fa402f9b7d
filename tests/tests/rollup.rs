//! The whole path of money, on the embedded L1 and on anvil, with the real contract and real proofs.

use alloy::primitives::U256;
use millrace_l1::on_both_chains;
use millrace_rollup::mempool::TransactionState;
use millrace_tests::world::{ETH, World};

const ETHER: u128 = 1_000_000_000_000_000_000;

on_both_chains! {
    async fn money_goes_in_moves_and_comes_out(l1: TestL1) {
        let mut world = World::start(l1).await;
        world.deposit_for_operator(1000).await;
        world.deposit(0, 5 * ETHER).await;
        world.seal().await;

        // A transfer that creates an account, one to an existing account, a withdrawal.
        world.pay(0, 1, ETHER, 70_000).await;
        world.pay(0, 1, ETHER, 70_000).await;
        let refused = world.transfer(0, ETH, world.users[2].owner(), 9 * ETHER, 0).await;
        let refused = world.submit(vec![world.sign(0, refused)]).await.unwrap_err();
        assert_eq!(refused.code(), "overdrawn");
        world.withdraw(1, ETHER / 2, 0).await;
        assert_eq!(world.balance(1).await, 3 * ETHER / 2);

        let receiver = world.users[1].sender.address();
        let before = world.l1_balance(receiver).await;
        world.finish().await;
        assert_eq!(world.l1_balance(receiver).await - before, U256::from(ETHER / 2));

        // A forced exit takes the rest of user 0.
        let (leaf, account) = world.account(0, ETH).await;
        world.request_exit(0, leaf, ETH).await;
        let receiver = world.users[0].sender.address();
        let before = world.l1_balance(receiver).await;
        world.finish().await;
        assert_eq!(world.l1_balance(receiver).await - before, U256::from(account.balance.0));
        assert_eq!(world.balance(0).await, 0);

        let status = world.client.status().await.unwrap();
        let root = millrace_rollup::l1::convert::to_u256(&world.root().0);
        assert_eq!(status.provenRoot, root);
        assert_eq!(world.restored_root().await, world.root());

        // What the contract owes is what the accounts hold.
        let accounts = world.rollup.store().accounts(Default::default(), 100).unwrap();
        let held: u128 = accounts.iter().map(|(_, account)| account.balance.0).sum();
        assert_eq!(world.client.outstanding(0).await.unwrap(), U256::from(held));
        world.stop().await;
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
}

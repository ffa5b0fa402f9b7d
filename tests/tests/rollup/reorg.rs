//! L1 reorganises and forgets a deposit, a commit, a proof. The node goes back with it, posts again what is missing, once, and
//! loses nothing that still stands.

use crate::ETHER;
use alloy::primitives::U256;
use millrace_circuits::types::BatchNumber;
use millrace_l1::bindings::Rollup;
use millrace_l1::on_both_chains;
use millrace_rollup::batch_log::BatchStage;
use millrace_rollup::l1::L1Error;
use millrace_rollup::l1::synchronizer::SyncConfig;
use millrace_rollup::mempool::TransactionState;
use millrace_tests::world::{ETH, World};

/// A node that waits for this many blocks.
const DEPTH: u64 = 4;

async fn start(l1: millrace_l1::testing::TestL1) -> World {
    let sync = SyncConfig {
        depth: DEPTH,
        ..SyncConfig::default()
    };
    World::start_with(l1, sync).await
}

/// Blocks until what stands now counts.
async fn settle(world: &mut World) {
    world.l1.mine(DEPTH).await;
    world.sync().await;
}

on_both_chains! {
    /// A deposit counts at the configured depth: one that a reorg within it drops was never credited, and the next one takes its
    /// place in the queue.
    async fn a_dropped_deposit_was_never_credited(l1: TestL1) {
        let mut world = start(l1).await;
        world.deposit(0, ETHER).await;
        assert!(world.rollup.owned(world.users[0].owner()).await.unwrap().is_empty(), "not deep enough");
        world.l1.mine(1).await;
        world.sync().await;
        world.l1.reorg(2).await;
        world.sync().await;
        assert_eq!(world.client.status().await.unwrap().queueTail, 0);
        world.deposit(1, 3 * ETHER).await;
        settle(&mut world).await;
        assert!(world.rollup.owned(world.users[0].owner()).await.unwrap().is_empty());
        assert_eq!(world.balance(1).await, 3 * ETHER);
        world.finish().await;
        assert_eq!(world.restored_root().await, world.root());
        world.stop().await;
    }

    /// L1 changes between any two of the node's questions. Whatever it has read, it ends where a node ends that reads only the last chain.
    async fn a_chain_that_changes_while_it_is_read_is_read_right(l1: TestL1) {
        let mut world = start(l1).await;
        world.deposit(1, ETHER).await;
        settle(&mut world).await;
        for round in 0..25_u64 {
            for user in [0, 2] {
                world.try_deposit(user, ETH, u128::from(1000 + round)).await.unwrap();
            }
            let l1 = world.l1.clone();
            let changes = async {
                for step in 0..4 {
                    l1.reorg(1 + (round + step) % (DEPTH - 1)).await;
                    tokio::task::yield_now().await;
                }
            };
            let reads = async {
                for _ in 0..12 {
                    // A block that is gone by the time it is asked for is an error of this step, and nothing more.
                    match world.synchronizer.step().await {
                        Ok(_) | Err(L1Error::Gap(_)) => {}
                        Err(error) => panic!("{error}"),
                    }
                    tokio::task::yield_now().await;
                }
            };
            tokio::join!(changes, reads);
        }
        settle(&mut world).await;
        let status = world.client.status().await.unwrap();
        assert_eq!(world.rollup.store().marks().unwrap().requests_known, status.queueTail);
        while world.client.status().await.unwrap().provenQueueHead < status.queueTail {
            world.finish().await;
        }
        assert_eq!(world.restored_root().await, world.root());
        world.stop().await;
    }

    /// A reorg deeper than the node allowed for drops a deposit that users have already spent: what rests on it is dropped, with an
    /// event, and everything else runs again.
    async fn a_deposit_dropped_too_late_takes_only_what_rests_on_it(l1: TestL1) {
        let mut world = World::start(l1).await; // depth 0: counts at once
        world.deposit(1, 2 * ETHER).await;
        world.deposit(0, ETHER).await;
        let doomed = world.pay(0, 2, ETHER / 2, 0).await;
        let stands = world.pay(1, 2, ETHER / 4, 0).await;
        world.seal().await;
        world.l1.reorg(1).await;
        world.sync().await;
        let state = |id| world.rollup.store().transaction(&id).unwrap().unwrap().state;
        assert!(matches!(state(doomed), TransactionState::Dropped { .. }), "{:?}", state(doomed));
        assert!(matches!(state(stands), TransactionState::InBatch { .. }), "{:?}", state(stands));
        assert_eq!((world.balance(1).await, world.balance(2).await), (7 * ETHER / 4, ETHER / 4));
        world.finish().await;
        assert_eq!(world.restored_root().await, world.root());
        assert_eq!(world.client.outstanding(0).await.unwrap(), U256::from(2 * ETHER));
        world.stop().await;
    }

    /// A commit that a reorg drops is sent again, and stands once.
    async fn a_dropped_commit_is_sent_again_once(l1: TestL1) {
        let mut world = start(l1).await;
        world.deposit(0, ETHER).await;
        settle(&mut world).await;
        let paid = world.pay(0, 1, ETHER / 2, 0).await;
        let number = world.seal().await;
        world.post().await;
        world.sync().await;
        assert_eq!(world.batch(number).stage, BatchStage::Committed);
        world.l1.reorg(1).await;
        world.sync().await;
        assert_eq!(world.batch(number).stage, BatchStage::Sealed);
        assert_eq!(world.count::<Rollup::BatchCommitted>().await, 0);
        world.prove().await;
        world.post().await;
        world.sync().await;
        world.post().await;
        let status = world.client.status().await.unwrap();
        assert_eq!((status.committedBatches, status.provenBatches), (1, 1));
        assert_eq!(world.count::<Rollup::BatchCommitted>().await, 1);
        let record = world.rollup.store().transaction(&paid).unwrap().unwrap();
        assert!(matches!(record.state, TransactionState::InBatch { .. }));
        assert_eq!(world.restored_root().await, world.root());
        world.stop().await;
    }

    /// A reorg that drops a proof and its payout, while the node is down: both are made again, and nobody is paid twice.
    async fn a_dropped_proof_and_its_payout_are_made_again_once(l1: TestL1) {
        let mut world = start(l1).await;
        world.deposit(0, ETHER).await;
        settle(&mut world).await;
        world.withdraw(0, ETHER / 2, 0).await;
        let number = world.seal().await;
        world.post().await;
        world.prove().await;
        world.l1.mine(1).await;
        let receiver = world.users[0].sender.address();
        let before = world.l1_balance(receiver).await;
        world.post().await; // a block for the proof, one for the payout
        world.sync().await;
        assert_eq!(world.l1_balance(receiver).await - before, U256::from(ETHER / 2));
        world.restart().await;
        world.l1.reorg(2).await;
        assert_eq!(world.l1_balance(receiver).await, before);
        world.sync().await;
        assert_eq!(world.batch(number).stage, BatchStage::Committed);
        for _ in 0..2 {
            world.post().await;
            settle(&mut world).await;
        }
        assert_eq!(world.batch(number).stage, BatchStage::Finalised);
        assert_eq!(world.l1_balance(receiver).await - before, U256::from(ETHER / 2));
        assert_eq!(world.count::<Rollup::BatchProven>().await, 1);
        assert_eq!(world.count::<Rollup::Payout>().await, 1);
        world.stop().await;
    }

    /// A reorg that drops only a payout, after its batch is final: the payout is made again.
    async fn a_dropped_payout_is_made_again(l1: TestL1) {
        let mut world = start(l1).await;
        world.deposit(0, ETHER).await;
        settle(&mut world).await;
        world.withdraw(0, ETHER / 2, 0).await;
        let number = world.seal().await;
        world.prove().await;
        world.post().await;
        world.sync().await;
        world.l1.reorg(1).await;
        world.sync().await;
        assert_eq!(world.batch(number).stage, BatchStage::Proven, "the proof stands");
        assert_eq!(world.count::<Rollup::Payout>().await, 0);
        settle(&mut world).await;
        assert_eq!(world.batch(number).stage, BatchStage::Finalised);
        world.post().await;
        assert_eq!(world.count::<Rollup::Payout>().await, 1);
        world.stop().await;
    }

    /// Everything that a batch stood on goes at once: its deposit, its commit and its proof.
    async fn a_reorg_below_everything_leaves_a_node_that_works(l1: TestL1) {
        let mut world = World::start(l1).await;
        let base = world.l1.height().await;
        world.deposit(0, ETHER).await;
        world.pay(0, 1, ETHER / 2, 0).await;
        world.finish().await;
        let depth = world.l1.height().await - base;
        world.l1.reorg(depth).await;
        world.sync().await;
        assert_eq!(world.client.status().await.unwrap().queueTail, 0);
        assert!(world.rollup.owned(world.users[0].owner()).await.unwrap().is_empty());
        world.deposit(2, 3 * ETHER).await;
        assert_eq!(world.account(2, ETH).await.1.balance.0, 3 * ETHER);
        assert_eq!(world.finish().await, BatchNumber(1));
        assert_eq!(world.restored_root().await, world.root());
        world.stop().await;
    }
}

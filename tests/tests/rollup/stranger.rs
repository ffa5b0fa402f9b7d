//! The operator dies with a batch that it never proves. After a day anyone goes on with `commitAndProve`, from L1 alone.

use crate::ETHER;
use alloy::primitives::U256;
use millrace_circuits::types::BatchNumber;
use millrace_l1::bindings::Rollup;
use millrace_l1::on_both_chains;
use millrace_rollup::batch_log::BatchStage;
use millrace_rollup::mempool::TransactionState;
use millrace_tests::world::{ETH, World, fresh_id, refused_by};
use std::time::Duration;

/// Seconds after which an unproven request opens the rollup to everyone, and some more.
const DAY: u64 = 24 * 3600 + 60;

/// Goes on posting until the stranger has a batch of this number to prove that serves the queue: it seals by itself, for an old
/// request allows no more waiting.
async fn ready_to_prove(stranger: &mut World, number: u64) {
    for _ in 0..200 {
        stranger.post().await;
        let sealed = stranger.rollup.status().await.unwrap().marks.sealed;
        if sealed.0 >= number {
            let batch = stranger.batch(BatchNumber(number));
            let is_own = stranger
                .rollup
                .store()
                .witness(batch.number)
                .unwrap()
                .is_some();
            if is_own && batch.proof.is_none() && !batch.input.l1_operations.is_empty() {
                return;
            }
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    panic!("batch {number} was not sealed for its old request");
}

on_both_chains! {
    /// A stranger's batch replaces what the operator left unproven, and serves the requests that it left lying. When the operator
    /// comes back it follows, and runs again what its users had been promised.
    async fn a_stranger_goes_on_where_the_operator_died(l1: TestL1) {
        let mut world = World::start(l1).await;
        world.deposit(0, 5 * ETHER).await;
        world.deposit(2, 2 * ETHER).await;
        world.finish().await;
        let promised = world.pay(0, 1, ETHER, 0).await;
        world.seal().await;
        world.post().await;
        let (leaf, _) = world.account(2, ETH).await;
        world.request_exit(2, leaf, ETH).await;
        world.deposit(1, 3 * ETHER).await;

        let mut stranger = world.join(4);
        stranger.sync().await;
        assert_eq!(stranger.root(), world.root());
        stranger.post().await;
        assert_eq!(stranger.client.status().await.unwrap().committedBatches, 2, "not yet its turn");

        world.pass(DAY).await;
        assert!(world.client.is_open_phase().await.unwrap());
        assert_eq!(world.batch(BatchNumber(2)).stage, BatchStage::Committed);
        stranger.sync().await;
        ready_to_prove(&mut stranger, 2).await; // what it cannot prove gives way
        stranger.prove().await;
        let leaver = world.users[2].sender.address();
        let before = world.l1_balance(leaver).await;
        stranger.post().await;
        stranger.sync().await;
        assert_eq!(stranger.batch(BatchNumber(2)).stage, BatchStage::Finalised);
        assert_eq!(world.l1_balance(leaver).await - before, U256::from(2 * ETHER));
        let status = world.client.status().await.unwrap();
        assert_eq!((status.provenBatches, status.committedBatches), (2, 2));
        assert!(!world.client.is_open_phase().await.unwrap(), "clearing the queue ends the phase");
        assert_eq!(world.count::<Rollup::BatchesDropped>().await, 1);

        // The operator returns.
        world.sync().await;
        assert_eq!(world.root(), stranger.root());
        let record = world.rollup.store().transaction(&promised).unwrap().unwrap();
        assert!(matches!(record.state, TransactionState::InBatch { batch, .. } if batch.0 == 3), "{:?}", record.state);
        world.finish().await;
        assert_eq!((world.balance(0).await, world.balance(1).await), (4 * ETHER, 4 * ETHER));
        stranger.sync().await;
        assert_eq!(stranger.root(), world.root());
        assert_eq!(world.restored_root().await, world.root());

        // What was dropped is history: neither does it come back after a restart.
        world.restart().await;
        stranger.restart().await;
        world.sync().await;
        stranger.sync().await;
        assert_eq!(stranger.root(), world.root());
        let record = world.rollup.store().transaction(&promised).unwrap().unwrap();
        assert!(matches!(record.state, TransactionState::InBatch { .. }), "{:?}", record.state);
        world.stop().await;
        stranger.stop().await;
    }

    /// In the open phase nobody commits without a proof, a false proof is refused, and a batch that leaves a request out is refused
    /// however true its proof.
    async fn junk_in_the_open_phase_is_refused(l1: TestL1) {
        let mut world = World::start(l1).await;
        world.deposit(0, ETHER).await;
        world.finish().await;
        let mut stranger = world.join(4);
        stranger.sync().await;
        stranger.pay(0, 1, ETHER / 10, 0).await;
        let number = stranger.seal().await;
        stranger.prove().await;
        let (leaf, _) = world.account(0, ETH).await;
        world.request_exit(0, leaf, ETH).await;
        world.pass(DAY).await;

        let (client, sender) = (&world.client.clone(), &stranger.operator.sender.clone());
        let (mut batch, proof) = stranger.posting(number);
        batch.timestamp = client.status().await.unwrap().provenTimestamp + DAY;
        let commit = async |batch| client.commit_batch(sender, &fresh_id("commit"), number.0, batch).await;
        assert_eq!(refused_by(commit(batch.clone()).await), "NotOperator");
        let operator = &world.operator.sender;
        let committed = client.commit_batch(operator, &fresh_id("commit"), number.0, batch.clone()).await;
        assert_eq!(refused_by(committed), "InOpenPhase");
        let together = async |batch, proof| client.commit_and_prove(sender, &fresh_id("both"), number.0, batch, proof).await;
        assert_eq!(refused_by(together(batch.clone(), proof.clone()).await), "RequestLeftOut");

        // The stranger's node learns of the request, seals anew with it, and is taken.
        stranger.post().await;
        stranger.sync().await;
        ready_to_prove(&mut stranger, number.0).await;
        stranger.prove().await;
        let (batch, proof) = stranger.posting(number);
        let mut moved = batch.clone();
        moved.newRoot += U256::from(1);
        assert_eq!(refused_by(together(moved, proof).await), "ProofIsFalse");
        stranger.post().await;
        assert_eq!(client.status().await.unwrap().provenBatches, number.0);
        world.sync().await;
        stranger.sync().await;
        assert_eq!(world.root(), stranger.root());
        world.stop().await;
        stranger.stop().await;
    }
}

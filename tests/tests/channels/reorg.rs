//! L1 forgets a deposit, a settlement: both are made again, once, and nothing counts before it is final.

use crate::ETHER;
use crate::party::{PATIENCE, Party};
use crate::stage::{POCKET, Stage, WINDOW};
use millrace_l1::channels_client::ChannelPhase;
use serde_json::Value;
use std::time::{Duration, Instant};

/// Blocks on top of a final one.
const DEPTH: u64 = 4;

/// Makes blocks until the channel is as wanted.
async fn mine_until(
    stage: &Stage,
    party: &Party,
    id: &str,
    what: &str,
    wanted: impl Fn(&Value) -> bool,
) {
    let start = Instant::now();
    loop {
        let channel = party.channel(id).await;
        if wanted(&channel) {
            return;
        }
        assert!(
            start.elapsed() < PATIENCE,
            "{}: {what}: {channel}\n{}",
            party.name,
            party.log()
        );
        stage.l1.mine(1).await;
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_dropped_deposit_and_a_dropped_settlement_are_made_again_once() {
    let stage = Stage::with_depth(DEPTH).await;
    let (alice, bob) = stage.two().await;
    let id = alice.open_unconfirmed(&bob, 3 * ETHER).await;
    stage.until_on_chain(&id, ChannelPhase::Open).await;
    alice.until_phase(&id, "opening").await;
    assert_eq!(
        alice.is_refused(&["pay", &id, "1"]).exit,
        6,
        "nothing counts yet"
    );
    stage.l1.reorg(2).await;
    assert_eq!(stage.phase(&id).await, ChannelPhase::None);
    for party in [&alice, &bob] {
        mine_until(&stage, party, &id, "open", |channel| {
            channel["phase"] == "open"
        })
        .await;
    }
    alice.pay(&id, ETHER).await;
    bob.until_can_send(&id, ETHER).await;

    // The deposit stands once, whatever was sent.
    assert_eq!(stage.held().await, 3 * ETHER);
    let gas = stage.gas_of(alice.account()).await;
    assert_eq!(
        stage.balance(alice.account()).await,
        POCKET - 3 * ETHER - gas
    );

    // A reorg under an open channel that drops nothing of it changes nothing.
    stage.l1.mine(DEPTH).await;
    stage.l1.reorg(DEPTH - 1).await;
    bob.pay(&id, 5).await;
    alice.until_can_send(&id, 2 * ETHER + 5).await;

    bob.does(&["force-close", &id]);
    stage.until_on_chain(&id, ChannelPhase::Closing).await;
    stage.until_disputed(&id, ETHER, 5).await;
    stage.l1.mine(DEPTH).await;
    stage.pass(WINDOW + 60).await;
    stage.until_on_chain(&id, ChannelPhase::Closed).await;
    assert_eq!(stage.balance(bob.payout()).await, ETHER - 5);
    // Final it is not: the nodes still wait when it is gone.
    assert_eq!(alice.channel(&id).await["phase"], "closing");
    stage.l1.reorg(2).await;
    assert_eq!(stage.phase(&id).await, ChannelPhase::Closing);
    assert_eq!(stage.balance(bob.payout()).await, 0);
    stage.pass(120).await;
    for party in [&alice, &bob] {
        mine_until(&stage, party, &id, "closed", |channel| {
            channel["phase"] == "closed"
        })
        .await;
    }
    assert_eq!(stage.balance(bob.payout()).await, ETHER - 5);
    assert_eq!(stage.balance(alice.payout()).await, 2 * ETHER + 5);
    assert_eq!(stage.held().await, 0);
}

//! Channels that are closed by force: the newest state is paid out, whoever submits whichever.

use crate::ETHER;
use crate::party::Party;
use crate::stage::{Stage, WINDOW};
use millrace_l1::channels_client::ChannelPhase;
use std::time::Instant;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn either_side_closes_alone_and_both_get_the_newest_state() {
    let stage = Stage::new().await;
    let (alice, bob) = stage.two().await;
    let first = alice.open(&bob, 4 * ETHER).await;
    let second = alice.open(&bob, 2 * ETHER).await;
    for id in [&first, &second] {
        alice.pay(id, ETHER).await;
        bob.until_can_send(id, ETHER).await;
        bob.pay(id, ETHER / 10).await;
        alice
            .until(id, "a payment back", |channel| {
                channel["received"] == (ETHER / 10).to_string()
            })
            .await;
        alice.pay(id, 7).await;
        bob.until_can_send(id, 9 * ETHER / 10 + 7).await;
    }
    // What the one who closes has no signature for, the other one brings.
    alice.does(&["force-close", &first]);
    bob.does(&["force-close", &second]);
    for id in [&first, &second] {
        stage.until_disputed(id, ETHER + 7, ETHER / 10).await;
        let shown = alice.until(id, "a deadline", |channel| channel["deadline"].is_u64());
        let waits = shown.await["waiting"][0]["what"].to_string();
        assert!(waits.contains("deadline"), "{waits}");
        bob.until_phase(id, "closing").await;
        bob.is_refused(&["pay", id, "1"]).names(6, &["is not open"]);
    }
    stage.pass(WINDOW + 60).await;
    for id in [&first, &second] {
        alice.until_phase(id, "closed").await;
        bob.until_phase(id, "closed").await;
    }
    let bobs = 2 * (9 * ETHER / 10 + 7);
    assert_eq!(stage.balance(bob.payout()).await, bobs);
    assert_eq!(stage.balance(alice.payout()).await, 6 * ETHER - bobs);
    assert_eq!(stage.held().await, 0);
}

/// A channel in which Alice has paid ETHER before she kept a copy of her data, and two more since. Both are stopped.
async fn with_old_copy(stage: &Stage, alice: &mut Party, bob: &mut Party) -> String {
    let id = alice.open(bob, 4 * ETHER).await;
    alice.pay(&id, ETHER).await;
    bob.until_can_send(&id, ETHER).await;
    // Bob's payment carries his signature over what Alice has paid.
    bob.pay(&id, 5).await;
    alice
        .until(&id, "an echo", |channel| {
            channel["version"] == channel["echoed_version"]
        })
        .await;
    alice.stop().await;
    alice.keep("old");
    alice.start().await;
    alice.until_phase(&id, "open").await;
    alice.pay(&id, 2 * ETHER).await;
    bob.until_can_send(&id, 3 * ETHER - 5).await;
    assert_eq!(stage.phase(&id).await, ChannelPhase::Open);
    alice.stop().await;
    id
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_old_state_on_l1_is_answered_by_the_other_side() {
    let stage = Stage::new().await;
    let (mut alice, mut bob) = stage.two().await;
    let id = with_old_copy(&stage, &mut alice, &mut bob).await;
    bob.kill();
    // Nobody tells her that she is behind.
    alice.bring_back("old");
    alice.start().await;
    alice.until_phase(&id, "offline").await;
    alice.does(&["force-close", &id]);
    stage.until_disputed(&id, ETHER, 5).await;
    bob.start().await;
    stage.until_disputed(&id, 3 * ETHER, 5).await;
    stage.pass(WINDOW + 60).await;
    bob.until_phase(&id, "closed").await;
    alice.until_phase(&id, "closed").await;
    assert_eq!(stage.balance(bob.payout()).await, 3 * ETHER - 5);
    assert_eq!(stage.balance(alice.payout()).await, ETHER + 5);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_old_database_is_mended_by_the_peer_and_goes_on() {
    let stage = Stage::new().await;
    let (mut alice, mut bob) = stage.two().await;
    let id = with_old_copy(&stage, &mut alice, &mut bob).await;
    alice.bring_back("old");
    alice.start().await;
    alice.until_events("recovered", 1).await;
    alice.until_can_send(&id, ETHER + 5).await;
    let refused = alice.is_refused(&["pay", &id, "1"]);
    refused.names(6, &["recovered from old data"]);
    stage.pass(2 * 3600).await;
    // A final block past the quiet ends it.
    alice
        .until(&id, "the end of the quiet", |channel| {
            channel["phase"] == "open"
        })
        .await;
    let start = Instant::now();
    while !alice.run(&["pay", &id, "11"]).status.success() {
        assert!(start.elapsed() < crate::party::PATIENCE);
    }
    bob.until_can_send(&id, 3 * ETHER - 5 + 11).await;
    bob.pay(&id, 11).await;
    alice.until_can_send(&id, ETHER + 5).await;
    alice.does(&["close", &id]);
    bob.until_phase(&id, "closed").await;
    assert_eq!(stage.balance(bob.payout()).await, 3 * ETHER - 5);
    assert_eq!(stage.balance(alice.payout()).await, ETHER + 5);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_tower_alone_answers_an_old_state_and_settles() {
    let stage = Stage::new().await;
    let mut tower = stage.party("tower", 29).await;
    let said = tower.start_tower().await;
    assert_eq!(said["key"], tower.key());
    let (mut alice, mut bob) = (stage.party("alice", 21).await, stage.party("bob", 22).await);
    bob.extra = format!("towers = [\"{}\"]", tower.address());
    bob.start().await;
    alice.start().await;
    alice.does(&["connect", &bob.address()]);
    let id = with_old_copy(&stage, &mut alice, &mut bob).await;
    bob.until(&id, "a receipt for the newest state", |channel| {
        channel["guarded_by"] == 1
    })
    .await;
    let shown = bob.does(&["show", &id]);
    assert_eq!(
        (&shown["guarded_by"], &shown["can_send"]),
        (&1.into(), &(3 * ETHER - 5).to_string().into())
    );
    bob.kill(); // for good
    let sent_before = stage.sent(bob.account()).await;

    alice.bring_back("old");
    alice.start().await;
    alice.until_phase(&id, "offline").await;
    alice.does(&["force-close", &id]);
    stage.until_disputed(&id, 3 * ETHER, 5).await;
    alice.kill();
    // The tower dies as well, and goes on from its records.
    tower.kill();
    tower.start_tower().await;
    stage.pass(WINDOW + 60).await;
    stage.until_on_chain(&id, ChannelPhase::Closed).await;
    assert_eq!(stage.balance(bob.payout()).await, 3 * ETHER - 5);
    assert_eq!(stage.balance(alice.payout()).await, ETHER + 5);
    assert_eq!(
        stage.sent(tower.account()).await,
        2,
        "an answer and a settlement"
    );
    assert_eq!(stage.sent(bob.account()).await, sent_before);
}

//! The data folder is lost. The recovery phrase is kept, and a backup, or only the peer's memory.

use crate::ETHER;
use crate::party::{PATIENCE, Party};
use crate::stage::{Stage, WINDOW};
use millrace_l1::channels_client::ChannelPhase;
use serde_json::Value;
use std::time::{Duration, Instant};

const QUIET: &str = "the quiet after a restore";

/// Whether a channel waits for something first of all.
fn waits(channel: &Value, text: &str) -> bool {
    let what = channel["waiting"][0]["what"].as_str();
    what.is_some_and(|what| what.contains(text))
}

/// Pays until it works: the quiet after a recovery ends when L1 is finally past it.
async fn pay_after_quiet(stage: &Stage, party: &Party, id: &str, amount: u128) {
    party
        .is_refused(&["pay", id, &amount.to_string()])
        .names(6, &["recovered from old data"]);
    stage.pass(2 * 3600).await;
    let start = Instant::now();
    while !party
        .run(&["pay", id, &amount.to_string(), "--key", "once"])
        .status
        .success()
    {
        assert!(start.elapsed() < PATIENCE, "{}", party.log());
    }
    // A peer that has not seen the two hours yet refuses a half from after them as ahead of its clock; time goes on, and it is said again.
    stage.pass(15).await;
}

/// Alice and Bob with a channel in which both have paid: Alice has 3 ETH − 7, Bob 1 ETH + 7.
async fn used(alice: &Party, bob: &Party) -> String {
    let id = alice.open(bob, 4 * ETHER).await;
    alice.pay(&id, 2 * ETHER).await;
    bob.until_can_send(&id, 2 * ETHER).await;
    bob.pay(&id, ETHER).await;
    alice.until_can_send(&id, 3 * ETHER).await;
    alice.pay(&id, 7).await;
    bob.until_can_send(&id, ETHER + 7).await;
    id
}

async fn close_at(stage: &Stage, alice: &Party, bob: &Party, id: &str, bobs: u128) {
    let start = Instant::now();
    while !alice.run(&["close", id]).status.success() {
        assert!(start.elapsed() < PATIENCE, "{}", alice.log());
    }
    alice.until_phase(id, "closed").await;
    bob.until_phase(id, "closed").await;
    assert_eq!(stage.balance(bob.payout()).await, bobs);
    assert_eq!(stage.balance(alice.payout()).await, 4 * ETHER - bobs);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn with_the_phrase_alone_the_chain_names_the_channels_and_the_peer_gives_them_back() {
    let stage = Stage::new().await;
    let (mut alice, bob) = stage.two().await;
    let id = used(&alice, &bob).await;
    let closed = alice.open(&bob, ETHER).await;
    alice.does(&["close", &closed]);
    alice.until_phase(&closed, "closed").await;
    let before = stage.balance(alice.payout()).await;
    assert_eq!(before, ETHER);
    let unused = bob.open(&alice, ETHER).await;
    alice.kill();
    alice.lose_data();

    // Not a word of Bob is known, but L1 has it that there are two channels.
    let restored = alice.does(&["restore"]);
    assert_eq!(
        (&restored["channels"], &restored["from_backup"]),
        (&2.into(), &0.into())
    );
    let names = restored["from_chain"].as_array().unwrap();
    assert!(
        [&id, &unused]
            .iter()
            .all(|id| names.contains(&id.as_str().into())),
        "{restored}"
    );
    alice.is_refused(&["restore"]).names(
        6,
        &["the database holds 2 channels already", "empty folder"],
    );
    alice.start().await;
    // Bob may have dialled and given back what is missing before anybody looks.
    alice
        .until(&id, "nothing signed, or the quiet", |channel| {
            waits(channel, "nothing is signed") || waits(channel, QUIET)
        })
        .await;
    // Bob dials, because he was never told to stop; or she does.
    alice.does(&["connect", &bob.address()]);
    alice.until_events("recovered", 1).await;
    alice.until_can_send(&id, 3 * ETHER - 7).await;
    pay_after_quiet(&stage, &alice, &id, 1000).await;
    bob.until_can_send(&id, ETHER + 1007).await;
    bob.pay(&id, 1000).await;
    bob.pay(&unused, 5).await;
    alice.until_can_send(&id, 3 * ETHER - 7).await;
    alice.until_can_send(&unused, 5).await;
    // What was recovered survives a restart.
    alice.restart().await;
    alice.until_phase(&id, "open").await;
    for id in [&id, &unused] {
        let start = Instant::now();
        while !alice.run(&["close", id]).status.success() {
            assert!(start.elapsed() < PATIENCE, "{}", alice.log());
        }
        bob.until_phase(id, "closed").await;
    }
    assert_eq!(
        stage.balance(alice.payout()).await,
        before + 3 * ETHER - 7 + 5
    );
    assert_eq!(stage.balance(bob.payout()).await, ETHER + 7 + ETHER - 5);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn with_the_phrase_alone_and_a_peer_that_is_gone_the_channel_closes_at_what_l1_knows() {
    let stage = Stage::new().await;
    let (mut alice, mut bob) = stage.two().await;
    let id = used(&alice, &bob).await;
    alice.kill();
    alice.lose_data();
    bob.stop().await;
    alice.does(&["restore", "--peer", &bob.address()]);
    alice.start().await;
    alice.until_phase(&id, "paused").await;
    alice.does(&["force-close", &id]);
    stage.until_on_chain(&id, ChannelPhase::Closing).await;
    // He comes back in time: his newest state counts, for both.
    bob.start().await;
    stage.until_disputed(&id, 2 * ETHER + 7, ETHER).await;
    stage.pass(WINDOW + 60).await;
    alice.until_phase(&id, "closed").await;
    bob.until_phase(&id, "closed").await;
    assert_eq!(stage.balance(alice.payout()).await, 3 * ETHER - 7);
    assert_eq!(stage.balance(bob.payout()).await, ETHER + 7);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn with_a_tower_and_a_peer_that_is_gone_the_channel_closes_at_its_newest_state() {
    let stage = Stage::new().await;
    let mut tower = stage.party("tower", 29).await;
    tower.start_tower().await;
    let (mut alice, mut bob) = (stage.party("alice", 21).await, stage.party("bob", 22).await);
    alice.extra = format!("towers = [\"{}\"]", tower.address());
    bob.start().await;
    alice.start().await;
    alice.does(&["connect", &bob.address()]);
    let id = used(&alice, &bob).await;
    // With this Bob has signed for all that Alice has paid.
    bob.pay(&id, 5).await;
    alice
        .until(&id, "a receipt for the newest state", |channel| {
            channel["guarded_by"] == 1 && channel["can_send"] == (3 * ETHER - 2).to_string()
        })
        .await;
    alice.kill();
    alice.lose_data();
    bob.kill(); // for good
    let restored = alice.does(&["restore"]);
    assert_eq!(
        (&restored["channels"], &restored["towers"]),
        (&1.into(), &1.into())
    );
    alice.start().await;
    // Nobody but the tower can have told her.
    alice.until_can_send(&id, 3 * ETHER - 2).await;
    alice.does(&["force-close", &id]);
    stage.until_disputed(&id, 2 * ETHER + 7, ETHER + 5).await;
    stage.pass(WINDOW + 60).await;
    alice.until_phase(&id, "closed").await;
    assert_eq!(stage.balance(alice.payout()).await, 3 * ETHER - 2);
    assert_eq!(stage.balance(bob.payout()).await, ETHER + 2);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn with_a_backup_the_channel_goes_on_and_a_wrong_backup_is_refused() {
    let stage = Stage::new().await;
    let (mut alice, bob) = stage.two().await;
    let id = used(&alice, &bob).await;
    let file = alice.home.join("my.backup");
    let file = file.to_str().unwrap().to_owned();
    let start = Instant::now();
    // The first one is written a few seconds after the start.
    while !alice.run(&["backup", &file]).status.success() {
        assert!(start.elapsed() < PATIENCE, "no backup: {}", alice.log());
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
    // What comes after the backup is the peer's to give back.
    bob.pay(&id, 3).await;
    alice.until_can_send(&id, 3 * ETHER - 4).await;
    alice.kill();
    alice.lose_data();

    let good = std::fs::read(&file).unwrap();
    let mut bad = good.clone();
    *bad.last_mut().unwrap() ^= 1;
    std::fs::write(&file, &bad).unwrap();
    alice.is_refused(&["restore", &file]).names(
        6,
        &["does not open", "another recovery phrase, or is damaged"],
    );
    std::fs::write(&file, b"something else").unwrap();
    alice
        .is_refused(&["restore", &file])
        .names(6, &["is no backup"]);
    alice
        .is_refused(&["restore", "nowhere"])
        .names(6, &["nowhere"]);
    std::fs::write(&file, &good).unwrap();
    let restored = alice.does(&["restore", &file, "--peer", &bob.address()]);
    assert_eq!(restored["channels"], 1);
    alice.start().await;
    alice
        .until(&id, "the quiet", |channel| waits(channel, QUIET))
        .await;
    // She had not echoed it: it comes once more when no version from before the loss can outbid it.
    stage.pass(40 * 60).await;
    alice.until_can_send(&id, 3 * ETHER - 4).await;
    pay_after_quiet(&stage, &alice, &id, 4).await;
    bob.until_can_send(&id, ETHER + 8).await;
    close_at(&stage, &alice, &bob, &id, ETHER + 8).await;
}

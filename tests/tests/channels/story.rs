//! Two people with a channel: every command of the way of money, and every wei accounted for.

use crate::ETHER;
use crate::stage::{POCKET, Stage};
use millrace_l1::channels_client::ChannelPhase;
use serde_json::Value;

/// Payments each way.
const PAYMENTS: u128 = 1000;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_channel_by_commands_pays_both_ways_and_every_wei_comes_back() {
    let stage = Stage::new().await;
    let (alice, bob) = stage.two().await;
    let id = alice.open(&bob, 10 * ETHER).await;
    alice.until_can_send(&id, 10 * ETHER).await;

    // Both at once: neither waits for the other's turn. Bob has to be paid before he can pay.
    alice.pay(&id, ETHER).await;
    bob.until_can_send(&id, ETHER).await;
    tokio::join!(
        alice.pay_many(&id, PAYMENTS as usize, 3_000_000),
        bob.pay_many(&id, PAYMENTS as usize, 1_000_000),
    );
    let moved = ETHER + PAYMENTS * 2_000_000;
    alice.until_can_send(&id, 10 * ETHER - moved).await;
    bob.until_can_send(&id, moved).await;
    bob.until_events("received", PAYMENTS as usize + 1).await;
    alice.until_events("received", PAYMENTS as usize).await;

    // What commands show is what the API shows.
    let listed = alice.does(&["list"]);
    assert_eq!(listed[0]["id"], id.as_str());
    assert_eq!(
        listed[0]["sent"],
        (ETHER + PAYMENTS * 3_000_000).to_string()
    );
    let shown = bob.does(&["show", &id]);
    assert_eq!(shown["can_send"], moved.to_string());
    assert_eq!(shown["pot"], (10 * ETHER).to_string());
    assert_eq!(
        shown["waiting"].as_array().map(Vec::len),
        Some(0),
        "{shown}"
    );
    let peers = bob.does(&["peers"]);
    assert_eq!(peers[0]["key"], alice.key());
    assert_eq!(peers[0]["connected"], true);
    let node = alice.does(&["node"]);
    assert_eq!(node["payout"], alice.payout().to_string());

    // Bob pays in, Alice takes out, while the channel stays open.
    bob.does(&["deposit", &id, &(2 * ETHER).to_string()]);
    bob.until_can_send(&id, moved + 2 * ETHER).await;
    alice.until_can_send(&id, 10 * ETHER - moved).await;
    alice.does(&["withdraw", &id, &(3 * ETHER).to_string()]);
    alice.until_can_send(&id, 7 * ETHER - moved).await;
    bob.until_can_send(&id, moved + 2 * ETHER).await;
    let pot = (9 * ETHER).to_string();
    for party in [&alice, &bob] {
        let paid_out = |channel: &Value| channel["pot"] == pot && channel["phase"] == "open";
        party.until(&id, "the withdrawal", paid_out).await;
    }
    assert_eq!(stage.balance(alice.payout()).await, 3 * ETHER);
    alice.does(&["pay", &id, "5", "--key", "rent"]);
    alice.does(&["pay", &id, "5", "--key", "rent"]);
    // A stream under one key goes on where it stopped.
    alice.does(&[
        "pay", &id, "2", "--times", "2", "--every", "0", "--key", "song",
    ]);
    let song = [
        "pay", &id, "2", "--times", "5", "--every", "0", "--key", "song",
    ];
    assert_eq!(alice.does(&song)["total"], "10");
    let moved = moved + 5 + 10;
    bob.until_can_send(&id, moved + 2 * ETHER).await;

    bob.does(&["close", &id]);
    alice.until_phase(&id, "closed").await;
    bob.until_phase(&id, "closed").await;
    assert_eq!(stage.phase(&id).await, ChannelPhase::Closed);
    assert_eq!(stage.held().await, 0);
    assert_eq!(stage.balance(alice.payout()).await, 10 * ETHER - moved);
    assert_eq!(stage.balance(bob.payout()).await, 2 * ETHER + moved);
    for (party, deposited) in [(&alice, 10 * ETHER), (&bob, 2 * ETHER)] {
        let gas = stage.gas_of(party.account()).await;
        let left = stage.balance(party.account()).await;
        assert_eq!(
            left,
            POCKET - deposited - gas,
            "{}: {gas} wei of gas",
            party.name
        );
    }
    let all = alice.does(&["list", "--all"]);
    assert_eq!(all[0]["phase"], "closed");
    assert_eq!(alice.does(&["list"]).as_array().map(Vec::len), Some(0));
}

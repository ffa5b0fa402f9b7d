//! People, files and networks that are wrong: every refusal names its rule and the way out, and the channel works on.
//!
//! Exit codes: 2 usage, 3 configuration, 4 keys, 5 connection, 6 refused, 8 not found.

use crate::ETHER;
use crate::party::{Party, refused};
use crate::stage::{Stage, WINDOW};
use millrace_l1::channels_client::ChannelsClient;
use serde_json::json;
use std::process::Stdio;

/// A key of nobody here: the generator of the curve.
const STRANGER: &str = "0279be667ef9dcbbac55a06295ce870b07029bfcdb2dce28d959f2815b16f81798";

/// What any command with an amount refuses.
async fn wrong_amounts(alice: &Party, bob: &Party, id: &str) {
    let nothing = ["pay", "deposit", "withdraw"].map(|what| [what, id, "0"]);
    for command in &nothing {
        alice.is_refused(command).names(6, &["an amount of zero"]);
    }
    let much = (5 * ETHER).to_string();
    let available = (4 * ETHER).to_string();
    for what in ["pay", "withdraw"] {
        let said = alice.is_refused(&[what, id, &much]);
        said.names(6, &[&much, "more than", &available]);
    }
    bob.is_refused(&["pay", id, "1"])
        .names(6, &["1 is more than the 0 available"]);
    let over = (1u128 << 100).to_string();
    for what in ["pay", "deposit", "withdraw"] {
        alice.is_refused(&[what, id, &over]).names(6, &["amount"]);
    }
    for amount in ["-1", "1.5", "much"] {
        assert_eq!(
            alice.run(&["pay", id, amount]).status.code(),
            Some(2),
            "{amount}"
        );
    }
    for amount in [json!(5), json!("0x5"), json!("-5"), json!("")] {
        let path = format!("/v1/channels/{id}/pay");
        let answer = alice.post(&path, &json!({ "amount": amount }), None).await;
        let (status, body) = answer.expect("an answer");
        assert!((400..500).contains(&status), "{body}");
    }
}

/// What commands that name a channel or a peer refuse.
async fn wrong_names(stage: &Stage, alice: &Party, bob: &Party, id: &str) {
    let nowhere = format!("0x{}", "7".repeat(64));
    for what in ["show", "close", "force-close"] {
        alice
            .is_refused(&[what, &nowhere])
            .names(8, &[&nowhere, "unknown"]);
        alice
            .is_refused(&[what, "0x12"])
            .names(6, &["64 hexadecimal digits"]);
    }
    for what in ["pay", "deposit", "withdraw"] {
        alice
            .is_refused(&[what, &nowhere, "1"])
            .names(8, &["unknown"]);
    }
    for peer in [
        "nobody",
        "0x12@127.0.0.1:1",
        "@127.0.0.1:1",
        &format!("{STRANGER}@here"),
    ] {
        alice
            .is_refused(&["connect", peer])
            .names(2, &["KEY@ADDRESS:PORT"]);
    }
    let window = WINDOW.to_string();
    alice
        .is_refused(&["open", STRANGER, "1"])
        .names(6, &["is not connected", "address"]);
    alice
        .is_refused(&["open", &alice.key(), "1"])
        .names(6, &["this node itself"]);
    alice
        .is_refused(&["open", &bob.key(), "0", "--window", &window])
        .names(6, &["an amount of zero"]);
    let short = alice.is_refused(&["open", &bob.key(), "1", "--window", "60"]);
    short.names(6, &["60", "43200"]);
    // A key is for one payment.
    alice.does(&["pay", id, "5", "--key", "rent"]);
    let reused = alice.is_refused(&["pay", id, "6", "--key", "rent"]);
    reused.names(6, &["rent", "another request"]);

    // More than the account has: nothing is lost, and the channel says what it waits for.
    let poor = alice.open_unconfirmed(bob, 1000 * ETHER).await;
    let waits = |channel: &serde_json::Value| {
        let waiting = channel["waiting"].to_string();
        waiting.contains("funds") || waiting.contains("afford")
    };
    alice.until(&poor, "what is missing", waits).await;
    assert_eq!(stage.held().await, 4 * ETHER);
}

/// What does not start, and says why.
async fn wrong_starts(stage: &Stage, bob: &Party) {
    let node = |party: &Party, arguments: &[&str], password: &str| {
        let mut command = party.command();
        command.args(arguments).env("MILLRACE_PASSWORD", password);
        refused(
            &command.output().expect("the program runs"),
            &format!("{arguments:?}"),
        )
    };
    let mut carol = stage.party("carol", 23).await;
    for arguments in [
        &["node"][..],
        &["channel", "deploy"],
        &["channel", "restore"],
    ] {
        let said = node(&carol, arguments, "wrong");
        said.names(4, &["the channels' keys", "password"]);
    }
    node(
        &carol,
        &["tower", "--listen", &format!("127.0.0.1:{}", bob.port)],
        crate::party::PASSWORD,
    )
    .names(3, &[&bob.port.to_string(), "in use"]);
    carol
        .is_refused(&["backup", "file"])
        .names(8, &["no backup at"]);
    carol
        .is_refused(&["peers"])
        .names(5, &["no answer from the node", "channels.enabled"]);

    // An L1 that is not there: each asks for a while, so all ask at once.
    let url = std::mem::replace(&mut carol.l1, "http://127.0.0.1:9".to_owned());
    let commands = [
        &["channel", "deploy"][..],
        &["channel", "restore"],
        &["tower"],
    ];
    let asking = commands.map(|arguments| {
        let mut command = carol.command();
        command
            .args(arguments)
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        command.spawn().expect("the program starts")
    });
    for (asks, arguments) in asking.into_iter().zip(commands) {
        let said = asks.wait_with_output().expect("it ends");
        refused(&said, &format!("{arguments:?}")).names(5, &["127.0.0.1:9"]);
    }
    carol.l1 = url;

    // A contract of her own, from her account.
    let deployed = carol.does(&["deploy"]);
    let contract = deployed["contract"].as_str().expect("an address");
    let client =
        ChannelsClient::connect(stage.provider(), contract.parse().expect("an address")).await;
    client.expect("it is a channels' contract");

    // Somebody else's folder, and a second program on the same.
    carol.start().await;
    let again = node(
        &carol,
        &["node", "--listen", "127.0.0.1:0"],
        crate::party::PASSWORD,
    );
    assert_ne!(again.exit, 0);
    assert!(
        again.text.contains("another millrace") || again.text.contains("in use"),
        "{}",
        again.text
    );
    carol.stop().await;
    let number = std::mem::replace(&mut carol.number, 24);
    node(&carol, &["node"], crate::party::PASSWORD)
        .names(3, &["the database belongs to", "name another folder"]);
    carol.number = number;

    // A database of a newer program.
    write_newer_schema(&carol.home.join("data/channels"));
    node(&carol, &["node"], crate::party::PASSWORD)
        .names(3, &["schema 1000", "run a newer millrace"]);
    carol
        .is_refused(&["restore"])
        .names(6, &["schema 1000", "run a newer millrace"]);
}

fn write_newer_schema(path: &std::path::Path) {
    let options = rocksdb::Options::default();
    let database = rocksdb::DB::open(&options, path).expect("the node has stopped");
    database
        .put(b"schema", 1000u32.to_be_bytes())
        .expect("it can be written");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_wrong_is_refused_by_name_and_the_channel_works_on() {
    let stage = Stage::new().await;
    let (mut alice, mut bob) = stage.two().await;
    let id = alice.open(&bob, 4 * ETHER).await;
    // Somebody who does not answer takes ten seconds to be given up: meanwhile the rest.
    let nobody = format!("{STRANGER}@127.0.0.1:9");
    let waits = alice
        .command()
        .args(["channel", "open", &nobody, "1"])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("the program starts");

    wrong_amounts(&alice, &bob, &id).await;
    wrong_names(&stage, &alice, &bob, &id).await;
    wrong_starts(&stage, &bob).await;
    let said = refused(
        &waits.wait_with_output().expect("it ends"),
        "open with nobody",
    );
    said.names(5, &["the peer does not answer", "check key and address"]);

    // Without the peer there are no payments, and nothing is lost.
    bob.stop().await;
    alice.until_phase(&id, "offline").await;
    for command in [
        &["pay", &id, "1"][..],
        &["withdraw", &id, "1"],
        &["close", &id],
    ] {
        alice.is_refused(command).names(6, &["is not connected"]);
    }
    let shown = alice.does(&["show", &id]);
    assert!(
        shown["waiting"]
            .to_string()
            .contains("millrace channel connect"),
        "{shown}"
    );
    alice.does(&["deposit", &id, &ETHER.to_string()]);
    alice.until_can_send(&id, 5 * ETHER - 5).await;
    bob.start().await;
    alice.until_phase(&id, "open").await;
    alice.pay(&id, 5).await;
    bob.until_can_send(&id, 10).await;

    // Without L1 payments go on for a while, and the node says what is wrong.
    let Stage {
        l1,
        folder: _folder,
        ..
    } = stage;
    drop(l1);
    let node = alice
        .until_node("L1's problem", |node| node["l1_problem"].is_string())
        .await;
    assert!(node["l1_head"].is_u64(), "{node}");
    alice.pay(&id, 5).await;
    bob.until_can_send(&id, 15).await;
    bob.pay(&id, 15).await;
    alice.until_can_send(&id, 5 * ETHER).await;
    // It takes the wish to close, and will see to it when L1 is back.
    alice.does(&["force-close", &id]);
    let shown = alice.until_phase(&id, "closing").await;
    assert!(
        shown["waiting"]
            .to_string()
            .contains("L1 to take the transaction"),
        "{shown}"
    );
    alice.stop().await;
}

//! Both rails: no channel leads to the payee, so the invoice is paid by a transfer on the rollup. The payee's node, a follower that
//! knows L1 alone, sees the transfer proven, and takes nothing for the invoice any more.

use crate::ETHER;
use crate::party::{LOOK, Party, last_line, refused};
use crate::stage::{Stage, payout};
use alloy::primitives::U256;
use millrace::wallet::keys::{KeySource, Phrase};
use millrace_l1::devchain::{DEV_MNEMONIC, dev_signer};
use millrace_tests::world::SHAPE;
use serde_json::{Value, json};
use std::process::Output;
use std::time::{Duration, Instant};

/// A batch has to be proven.
const PATIENCE: Duration = Duration::from_secs(180);
/// Exit code of a command that was refused.
const REFUSED: i32 = 6;

/// A command of the party's wallet.
fn wallet(party: &Party, stage: &Stage, arguments: &[&str]) -> Output {
    let mut command = party.command();
    command
        .args(arguments)
        .args(["--number", &party.number.to_string()])
        .env("MILLRACE_WALLET", stage.wallet())
        .env("MILLRACE_L1_URL", stage.url())
        .env("MILLRACE_CONTRACT", stage.rollup.to_string());
    command.output().expect("the program runs")
}

fn does(output: &Output) -> Value {
    let said = last_line(output);
    assert!(output.status.success(), "{said}");
    said
}

/// The payment address of a party on the rollup.
fn address(number: u32) -> String {
    let phrase = KeySource::Phrase(Phrase::parse(DEV_MNEMONIC).expect("a phrase"));
    let keys = phrase.keys(number, None);
    let keys = keys.expect("a phrase has keys of all numbers");
    keys.owner().to_string()
}

async fn until(what: &str, mut look: impl AsyncFnMut() -> Option<Value>) -> Value {
    let start = Instant::now();
    loop {
        if let Some(found) = look().await {
            return found;
        }
        assert!(start.elapsed() < PATIENCE, "in vain: {what}");
        tokio::time::sleep(4 * LOOK).await;
    }
}

async fn bill(party: &Party, units: u128) -> (String, String) {
    let body = json!({ "amount": units.to_string(), "fallback": address(party.number) });
    let made = party.post("/v1/channel-invoices", &body, None).await;
    let (status, made) = made.expect("the node answers");
    assert_eq!(status, 201, "{made}");
    let text = |value: &Value| value.as_str().expect("a text").to_owned();
    (text(&made["says"]["hash"]), text(&made["invoice"]))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_invoice_is_paid_on_the_rollup_and_its_payee_sees_that_by_itself() {
    let stage = Stage::new().await;
    let (mut alice, mut bob) = (stage.party("alice", 21).await, stage.party("bob", 22).await);
    // Alice's node makes and proves batches; Bob's follows L1.
    alice.roles = "[\"sequencer\", \"prover\"]";
    let operator = format!("0x{}", hex::encode(dev_signer(0).to_bytes()));
    alice.variables = vec![
        ("MILLRACE_L1__OPERATOR_KEY", operator),
        ("MILLRACE_SEQUENCER__SEAL_AFTER_MS", "300".to_owned()),
        ("MILLRACE_SEQUENCER__CIRCUITS", format!("[{}]", SHAPE.id)),
    ];
    bob.start().await;
    alice.start().await;
    alice.does(&["connect", &bob.address()]);
    stage
        .l1
        .set_balance(payout(alice.number), U256::from(20 * ETHER))
        .await;
    does(&wallet(&alice, &stage, &["wallet", "deposit", "10"]));
    until("the deposit", async || {
        let accounts = does(&wallet(&alice, &stage, &["wallet", "accounts"]));
        let rows = accounts["accounts"].as_array()?.len();
        (rows > 0).then_some(Value::Null)
    })
    .await;

    let (hash, invoice) = bill(&bob, ETHER).await;
    let would = does(&wallet(&alice, &stage, &["pay", &invoice, "--dry-run"]));
    assert_eq!(would["rail"], "rollup", "{would}");
    does(&wallet(&alice, &stage, &["pay", &invoice]));

    let path = format!("/v1/channel-invoices/{hash}");
    let paid = until("the payee sees it", async || {
        let invoice = bob.get(&path).await?;
        (invoice["state"] == "paid_on_rollup").then_some(invoice)
    })
    .await;
    assert_eq!(paid["rollup"]["amount"], ETHER.to_string());
    assert_eq!(paid["rollup"]["twice"], false);
    assert_eq!(paid["received"], "0");
    until("the payer knows", async || {
        let told = alice.events("payee_told").await;
        told.into_iter()
            .find(|event| event["subject"] == hash.as_str())
    })
    .await;
    let shown = bob.does(&["invoice", "show", &hash]);
    assert_eq!(shown["rollup"], paid["rollup"]);
    // It is paid: neither rail takes it once more.
    let again = refused(
        &wallet(&alice, &stage, &["pay", &invoice]),
        "a second payment",
    );
    again.names(REFUSED, &["paid on the rollup already"]);
    let order = json!({ "invoice": invoice });
    let ordered = alice.post("/v1/channel-payments", &order, None).await;
    let (_, problem) = ordered.expect("the node answers");
    assert_eq!(problem["code"], "invoice_refused", "{problem}");

    // Bob bills twice, and one transfer pays one of them: a claim for the other is not believed.
    let (other, text) = bill(&bob, ETHER).await;
    let forged = json!({
        "invoice": text,
        "transfer": format!("0x{}", hex::encode(transfer_of(&alice, &stage))),
        "proof": "00".repeat(180),
    });
    let claimed = alice.post("/v1/channel-paid", &forged, None).await;
    assert_eq!(claimed.expect("the node answers").0, 202);
    let path = format!("/v1/channel-invoices/{other}");
    let open = until("the claim is refused", async || {
        let invoice = bob.get(&path).await?;
        invoice["claim"].is_string().then_some(invoice)
    })
    .await;
    assert_eq!(open["state"], "open");
    let why = open["claim"].as_str().expect("a text");
    assert!(why.contains("has paid another invoice"), "{why}");
}

/// The id of the only transfer of a party's wallet.
fn transfer_of(party: &Party, stage: &Stage) -> [u8; 32] {
    let notes = std::fs::read_to_string(stage.wallet().join("invoices.json"));
    let notes = notes.unwrap_or_else(|error| panic!("{} noted nothing: {error}", party.name));
    let (_, id) = notes.rsplit_once("transfer 0x").expect("a transfer");
    let mut bytes = [0; 32];
    hex::decode_to_slice(&id[..64], &mut bytes).expect("hexadecimal");
    bytes
}

//! Invoices, ways and payments over HTTP: what is made, and what is refused with which words. Money itself moves in
//! `channels/tests/routed.rs`.

use super::harness::{Reply, TestNode};
use crate::api::problem::Code;
use crate::config::Config;
use reqwest::StatusCode;
use serde_json::{Value, json};

const KEY: &str = "0x0279be667ef9dcbbac55a06295ce870b07029bfcdb2dce28d959f2815b16f81798";
const NO_HASH: &str = "0x0707070707070707070707070707070707070707070707070707070707070707";

fn with_channels(config: &mut Config) {
    config.channels.enabled = true;
}

async fn post(node: &TestNode, path: &str, body: Value) -> Reply {
    node.send(node.http.post(node.url(path)).json(&body)).await
}

fn refused(reply: &Reply, code: Code, words: &str) {
    let problem = reply.problem();
    assert_eq!(problem.code, code, "{}", reply.text);
    assert!(
        problem.detail.contains(words),
        "{words:?} is not in {:?}",
        problem.detail
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn an_invoice_is_made_once_for_its_key_and_can_be_cancelled() {
    let node = TestNode::start_with(with_channels).await;
    let body = json!({ "amount": "1500", "description": "tea", "hold": true });
    let ask = || {
        let request = node.http.post(node.url("/v1/channel-invoices"));
        node.send(request.header("idempotency-key", "tea-1").json(&body))
    };
    let made = ask().await;
    assert_eq!(made.status, StatusCode::CREATED, "{}", made.text);
    assert_eq!(ask().await.json(), made.json());
    let made = made.json();
    assert_eq!(made["state"], "open");
    assert_eq!(made["says"]["amount"], "1500");
    let decoded = post(
        &node,
        "/v1/channel-decode",
        json!({ "invoice": made["invoice"] }),
    )
    .await;
    assert_eq!(decoded.json(), made["says"]);
    let hash = made["says"]["hash"].as_str().unwrap();
    let path = format!("/v1/channel-invoices/{hash}");
    assert_eq!(node.get(&path).await.json(), made);
    // Nothing has come that could be settled.
    refused(
        &post(&node, &format!("{path}/settle"), json!({})).await,
        Code::InvoiceRefused,
        "no longer waits",
    );
    let cancelled = post(&node, &format!("{path}/cancel"), json!({})).await;
    assert_eq!(cancelled.status, StatusCode::OK, "{}", cancelled.text);
    assert_eq!(node.get(&path).await.json()["state"], "cancelled");
    // The newest is first, and the list goes on where a page ends.
    post(&node, "/v1/channel-invoices", json!({})).await;
    let page = node.get("/v1/channel-invoices?limit=1").await.json();
    assert_eq!(page["items"][0]["says"]["amount"], Value::Null);
    let next = page["next_cursor"].as_str().unwrap();
    let path = format!("/v1/channel-invoices?limit=1&cursor={next}");
    let page = node.get(&path).await.json();
    assert_eq!(page["items"][0]["says"]["hash"], hash);
    assert_eq!(page["next_cursor"], Value::Null);
    node.node.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_paid_or_made_is_refused_by_name() {
    let node = TestNode::start_with(with_channels).await;
    let own = post(&node, "/v1/channel-invoices", json!({ "amount": "5" })).await;
    let own = own.json()["invoice"].clone();
    for path in ["/v1/channel-route", "/v1/channel-payments"] {
        let order = async |body: Value| post(&node, path, body).await;
        let none = order(json!({})).await;
        refused(&none, Code::InvalidField, "an invoice or a node");
        let both = order(json!({ "invoice": own, "node": KEY })).await;
        refused(&both, Code::InvalidField, "not both");
        let free = order(json!({ "node": KEY })).await;
        refused(&free, Code::InvalidField, "amount");
        let signed = order(json!({ "node": KEY, "amount": "+5" })).await;
        refused(&signed, Code::InvalidField, "decimal");
        let key = order(json!({ "node": "02", "amount": "5" })).await;
        refused(&key, Code::InvalidField, "66");
        let text = order(json!({ "invoice": "mlrx1qqq" })).await;
        refused(&text, Code::InvoiceRefused, "a character is wrong");
        let wrong = order(json!({ "invoice": own, "amount": "6" })).await;
        refused(&wrong, Code::InvoiceRefused, "asks for 5, not 6");
        let oneself = order(json!({ "invoice": own })).await;
        refused(&oneself, Code::NoRoute, "the payee is this node");
        let poor = order(json!({ "node": KEY, "amount": "5" })).await;
        refused(&poor, Code::NoRoute, "can send 0, 5 are wanted");
    }
    let bad = async |body: Value| post(&node, "/v1/channel-invoices", body).await;
    let owner = bad(json!({ "fallback": "mlr1nobody" })).await;
    refused(&owner, Code::InvalidField, "not a payment address");
    let zero = bad(json!({ "amount": "0" })).await;
    refused(&zero, Code::InvoiceRefused, "it is zero");
    let short = bad(json!({ "expires_in_secs": 0 })).await;
    refused(&short, Code::InvoiceRefused, "not after the creation");
    let long = bad(json!({ "description": "x".repeat(321) })).await;
    refused(&long, Code::InvoiceRefused, "longer than 320");
    let invoice = node.get(&format!("/v1/channel-invoices/{NO_HASH}")).await;
    refused(&invoice, Code::InvoiceUnknown, NO_HASH);
    let payment = node.get(&format!("/v1/channel-payments/{NO_HASH}")).await;
    refused(&payment, Code::PaymentUnknown, NO_HASH);
    let hash = node.get("/v1/channel-payments/0x07").await;
    refused(&hash, Code::InvalidParameter, "no payment hash");
    let none = node.get("/v1/channel-payments").await;
    assert_eq!(none.json(), json!({ "items": [] }));
    node.node.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn only_the_operator_of_a_node_with_channels_pays() {
    let node = TestNode::start_with(|config| {
        with_channels(config);
        config.api.operator_token = Some(crate::config::Secret::new("a secret".into()));
    })
    .await;
    for path in ["/v1/channel-invoices", "/v1/channel-payments"] {
        assert_eq!(node.get(path).await.problem().code, Code::Unauthorized);
        let tried = post(&node, path, json!({})).await;
        assert_eq!(tried.problem().code, Code::Unauthorized);
    }
    node.node.shutdown().await;
    let node = TestNode::start().await;
    let reply = post(&node, "/v1/channel-invoices", json!({})).await;
    assert_eq!(reply.problem().code, Code::ChannelsDisabled);
    node.node.shutdown().await;
}

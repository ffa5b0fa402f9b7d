//! What is refused, with which status, code and words.

use super::harness::{ETH, Reply, TestNode, User, ahead, now_secs, submission};
use crate::api::problem::{Code, Problem};
use millrace_circuits::amount::{FeeCode, Float40};
use millrace_circuits::field::Word;
use millrace_circuits::transaction::{Action, Domain, Transaction};
use millrace_circuits::types::{AccountIndex, Amount, L1Address, Nonce, Timestamp, TokenId};
use reqwest::Method;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

/// Asserts a refusal: its code, the status of that code, and a part of its words.
fn refused(reply: &Reply, code: Code, words: &str) {
    let problem = reply.problem();
    assert_eq!(
        (problem.code, reply.status),
        (code, code.status()),
        "{}",
        reply.text
    );
    assert!(
        problem.detail.contains(words),
        "{words:?} is not in {:?}",
        problem.detail
    );
    assert_eq!(problem.fix, code.fix());
    assert_eq!(problem.reference, format!("/problems/{code}"));
}

#[tokio::test(flavor = "multi_thread")]
async fn malformed_and_oversized_bodies_are_refused_by_name() {
    let node = TestNode::start().await;
    let post = async |body: &'static str, media_type: &'static str| {
        let request = node
            .http
            .post(node.url("/v1/transactions"))
            .header("content-type", media_type);
        node.send(request.body(body)).await
    };
    refused(
        &post("{", "application/json").await,
        Code::MalformedJson,
        "EOF",
    );
    refused(
        &post(r#"{"transactions":["#, "application/json").await,
        Code::MalformedJson,
        "EOF",
    );
    refused(
        &post("", "application/json").await,
        Code::MalformedJson,
        "EOF",
    );
    refused(
        &post("{}", "text/plain").await,
        Code::UnsupportedMediaType,
        "text/plain",
    );
    refused(
        &post("{}", "application/json").await,
        Code::InvalidField,
        "missing field `transactions`",
    );
    refused(
        &post(r#"{"transactions":[]}"#, "application/json").await,
        Code::InvalidField,
        "0 transactions",
    );
    refused(
        &post(r#"{"transactions":[],"x":1}"#, "application/json").await,
        Code::InvalidField,
        "unknown field `x`",
    );
    let deep = node.post(&json!({ "transactions": [{ "transaction": { "kind": "transfer", "from": 1, "nonce": -1 } }] })).await;
    refused(
        &deep,
        Code::InvalidField,
        "transactions[0].transaction.nonce",
    );
    let range = node.post(&json!({ "transactions": [{ "transaction": { "kind": "transfer", "from": 1 << 24 } }] })).await;
    refused(
        &range,
        Code::InvalidField,
        "account index 16777216 is out of range",
    );

    let large = node
        .http
        .post(node.url("/v1/transactions"))
        .header("content-type", "application/json");
    refused(
        &node.send(large.body(vec![b' '; 2 << 20])).await,
        Code::BodyTooLarge,
        "limit",
    );
    node.node.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn paths_methods_and_parameters_that_do_not_exist_are_problems_too() {
    let node = TestNode::start().await;
    refused(
        &node.get("/v1/nothing").await,
        Code::RouteUnknown,
        "no route",
    );
    let put = node.http.request(Method::PUT, node.url("/v1/info"));
    refused(&node.send(put).await, Code::MethodNotAllowed, "PUT");
    refused(
        &node.get("/v1/accounts/0x1").await,
        Code::InvalidParameter,
        "",
    );
    refused(
        &node.get("/v1/accounts/16777216").await,
        Code::InvalidParameter,
        "out of range",
    );
    refused(
        &node.get("/v1/accounts/9").await,
        Code::AccountUnknown,
        "account 9",
    );
    refused(
        &node.get("/v1/owners/mlr1wrong/accounts").await,
        Code::InvalidParameter,
        "payment address",
    );
    refused(
        &node.get("/v1/transactions/zz").await,
        Code::InvalidParameter,
        "",
    );
    let unknown = format!("/v1/transactions/0x{}", "00".repeat(32));
    refused(
        &node.get(&unknown).await,
        Code::TransactionUnknown,
        "unknown here",
    );
    refused(
        &node.get("/v1/batches/9").await,
        Code::BatchUnknown,
        "batch 9",
    );
    refused(
        &node.get("/v1/batches/9/proof").await,
        Code::BatchUnknown,
        "batch 9",
    );
    refused(
        &node.get("/v1/batches?limit=0").await,
        Code::InvalidParameter,
        "1 to 1000",
    );
    refused(
        &node.get("/v1/batches?cursor=x").await,
        Code::InvalidCursor,
        "no cursor",
    );
    refused(
        &node.get("/v1/batches?offset=1").await,
        Code::InvalidParameter,
        "offset",
    );
    refused(
        &node.get("/v1/events").await,
        Code::InvalidParameter,
        "WebSocket",
    );
    refused(
        &node.get("/problems/nothing").await,
        Code::ProblemUnknown,
        "nothing",
    );
    node.node.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn each_broken_rule_has_its_code() {
    let node = TestNode::start().await;
    node.deposit(User::ALICE, ETH).await;
    node.deposit(User::BOB, ETH).await;
    let good = node.transfer(User::ALICE, User::BOB, 1000).await;
    let attempt = async |change: &dyn Fn(&mut Transaction)| {
        let mut transaction = good;
        change(&mut transaction);
        node.submit(&[node.sign(User::ALICE, transaction)]).await
    };
    let amount = |value| Float40::exact(Amount(value)).unwrap();
    let pay = |amount| Action::Transfer {
        recipient: User::BOB.owner(),
        amount,
    };

    refused(
        &attempt(&|t| t.from = AccountIndex::ZERO).await,
        Code::FromIsZero,
        "index 0",
    );
    refused(
        &attempt(&|t| t.valid_until = Timestamp(now_secs() - 10)).await,
        Code::Expired,
        "valid until",
    );
    refused(
        &attempt(&|t| t.valid_until = Timestamp(now_secs() + 90 * 86_400)).await,
        Code::ValidTooLong,
        "too far ahead",
    );
    refused(
        &attempt(&|t| t.from = AccountIndex::new(77).unwrap()).await,
        Code::AccountMissing,
        "account 77",
    );
    refused(
        &attempt(&|t| t.token = TokenId::new(1).unwrap()).await,
        Code::TokenDiffers,
        "holds token 0",
    );
    refused(
        &attempt(&|t| t.action = pay(amount(2 * ETH))).await,
        Code::Overdrawn,
        "does not cover",
    );
    refused(
        &attempt(&|t| {
            t.action = Action::Withdraw {
                amount: Amount(u128::MAX),
            }
        })
        .await,
        Code::Overdrawn,
        "does not cover",
    );
    refused(
        &attempt(&|t| t.fee = FeeCode::exact(Amount(7)).unwrap()).await,
        Code::FeeNotCollectable,
        "no fees in token 0",
    );
    refused(
        &attempt(&|t| *t = ahead(*t, 5000)).await,
        Code::NonceTooHigh,
        "too far ahead",
    );
    let create_nothing = Action::Transfer {
        recipient: User::CAROL.owner(),
        amount: amount(0),
    };
    refused(
        &attempt(&|t| t.action = create_nothing).await,
        Code::NothingToCreateWith,
        "zero",
    );

    let index = node.accounts(User::BOB).await[0].index;
    let foreign = node.sign(
        User::ALICE,
        Transaction {
            from: index,
            ..good
        },
    );
    refused(
        &node.submit(&[foreign]).await,
        Code::NotTheOwner,
        "another key",
    );

    let signed = node.sign(User::ALICE, good);
    node.accept(&[signed]).await;
    refused(
        &node.submit(&[signed]).await,
        Code::Duplicate,
        "submitted before",
    );
    let used = Transaction {
        nonce: Nonce::ZERO,
        action: pay(amount(5)),
        ..good
    };
    refused(
        &node.submit(&[node.sign(User::ALICE, used)]).await,
        Code::NonceTooLow,
        "nonce 0 is used",
    );
    node.node.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn signatures_for_anything_else_are_refused() {
    let node = TestNode::start().await;
    node.deposit(User::ALICE, ETH).await;
    let good = node.transfer(User::ALICE, User::BOB, 1000).await;
    let signed = node.sign(User::ALICE, good);

    let mut altered = submission(&[signed]);
    altered["transactions"][0]["transaction"]["amount"] = json!("2000");
    altered["transactions"][0]["transaction"]["amount_code"] = Value::Null;
    refused(
        &node.post(&altered).await,
        Code::BadSignature,
        "does not match",
    );

    let mut zero = submission(&[signed]);
    zero["transactions"][0]["signature"]["s"] = json!("0");
    refused(
        &node.post(&zero).await,
        Code::BadSignature,
        "does not match",
    );

    let mut huge = submission(&[signed]);
    // The scalar field's modulus: a second name for 0.
    huge["transactions"][0]["signature"]["s"] =
        json!("21888242871839275222246405745257275088548364400416034343698204186575808495617");
    refused(&node.post(&huge).await, Code::InvalidField, "canonical");

    let elsewhere = Domain::new(1, L1Address([1; 20]));
    let foreign = good.sign(&elsewhere, User::ALICE.l1_address(), &User::ALICE.key());
    refused(&node.submit(&[foreign]).await, Code::BadSignature, "domain");
    let mut named = submission(&[foreign]);
    named["transactions"][0]["domain"] = json!(elsewhere.0);
    refused(
        &node.post(&named).await,
        Code::WrongDomain,
        "this rollup has",
    );
    node.node.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn pairs_that_are_not_linked_to_each_other_are_refused_whole() {
    let node = TestNode::start().await;
    node.deposit(User::ALICE, ETH).await;
    node.deposit(User::BOB, ETH).await;
    let there = node.transfer(User::ALICE, User::BOB, 1000).await;
    let back = node.transfer(User::BOB, User::ALICE, 2000).await;
    let unlinked = [node.sign(User::ALICE, there), node.sign(User::BOB, back)];
    refused(&node.submit(&unlinked).await, Code::NotAPair, "not linked");
    let half = Transaction {
        link: Word(back.core()),
        ..there
    };
    refused(
        &node
            .submit(&[node.sign(User::ALICE, half), unlinked[1]])
            .await,
        Code::NotAPair,
        "not linked",
    );
    assert_eq!(node.accounts(User::ALICE).await[0].nonce, Nonce::ZERO);
    let three = [unlinked[0], unlinked[1], unlinked[0]];
    refused(
        &node.submit(&three).await,
        Code::InvalidField,
        "3 transactions",
    );
    node.node.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_only_the_operator_may_do_is_refused_to_others() {
    let token = "a long secret";
    let node = TestNode::start_with(|config| {
        config.api.operator_token = Some(crate::config::Secret::new(token.into()));
    })
    .await;
    let seal = || node.http.post(node.url("/v1/batches/seal"));
    refused(
        &node.send(seal()).await,
        Code::Unauthorized,
        "no bearer token",
    );
    refused(
        &node.send(seal().bearer_auth("a guess")).await,
        Code::Unauthorized,
        "not the configured one",
    );
    let page = seal()
        .bearer_auth(token)
        .header("origin", "https://example.org");
    refused(&node.send(page).await, Code::Forbidden, "Origin");
    let sealed = node.send(seal().bearer_auth(token)).await;
    assert_eq!(
        (sealed.status.as_u16(), sealed.json()),
        (200, json!({ "batch": null }))
    );
    let prove = node
        .http
        .post(node.url("/v1/prover/exchange"))
        .bearer_auth(token)
        .body("x");
    refused(&node.send(prove).await, Code::Forbidden, "prover.token");
    node.node.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_without_a_free_place_says_when_to_come_back() {
    let node = TestNode::start_with(|config| config.api.max_concurrent_requests = 0).await;
    let reply = node.get("/v1/info").await;
    refused(&reply, Code::Overloaded, "0 requests");
    assert_eq!(reply.headers["retry-after"], "1");
    node.node.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_that_takes_too_long_is_given_up_with_the_truth() {
    let node = TestNode::start_with(|config| config.api.request_timeout_secs = 1).await;
    let address = node.node.api_url.trim_start_matches("http://");
    let mut slow = TcpStream::connect(address).await.unwrap();
    // The body that is announced never comes.
    let head = "POST /v1/transactions HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\
                content-type: application/json\r\ncontent-length: 100\r\n\r\n{";
    slow.write_all(head.as_bytes()).await.unwrap();
    let mut answer = String::new();
    slow.read_to_string(&mut answer).await.unwrap();
    assert!(answer.starts_with("HTTP/1.1 503"), "{answer}");
    let problem: Problem = serde_json::from_str(&answer[answer.find('{').unwrap()..]).unwrap();
    assert_eq!(problem.code, Code::TimedOut);
    assert!(problem.fix.contains("The outcome is unknown"));
    node.node.shutdown().await;
}

//! What is taken: once, whatever is repeated, and in the order of nonces.

use super::harness::{ETH, TestNode, User, ahead, submission};
use crate::api::problem::Code;
use crate::api::types::Accepted;
use futures::future::join_all;
use millrace_circuits::amount::Float40;
use millrace_circuits::field::Word;
use millrace_circuits::transaction::{Action, Domain, Transaction};
use millrace_circuits::types::{Amount, Nonce};
use millrace_l1::devchain::dev_signer;
use reqwest::StatusCode;

#[tokio::test(flavor = "multi_thread")]
async fn a_hundred_repetitions_at_once_have_one_effect_and_one_answer() {
    let node = TestNode::start().await;
    node.deposit(User::ALICE, ETH).await;
    let body = submission(&[node.sign(
        User::ALICE,
        node.transfer(User::ALICE, User::BOB, 1000).await,
    )]);
    let repeat = || {
        let request = node
            .http
            .post(node.url("/v1/transactions"))
            .header("idempotency-key", "rent-2026-11");
        node.send(request.json(&body))
    };
    let replies = join_all((0..100).map(|_| repeat())).await;
    for reply in &replies {
        assert_eq!(reply.status, StatusCode::ACCEPTED, "{}", reply.text);
        assert_eq!(reply.text, replies[0].text);
        let id = reply.json()["transactions"][0].as_str().unwrap().to_owned();
        assert_eq!(reply.headers["location"], format!("/v1/transactions/{id}"));
    }
    let account = node.accounts(User::ALICE).await[0];
    assert_eq!(
        (account.nonce.get(), account.balance),
        (1, Amount(ETH - 1000))
    );
    let accepted: Accepted = serde_json::from_str(&replies[0].text).unwrap();
    let [receipt] = accepted.receipts.as_slice() else {
        panic!("one receipt: {accepted:?}");
    };
    assert_eq!(receipt.id, accepted.transactions[0]);
    assert_eq!(receipt.received_at_millis, accepted.accepted_at_millis);
    assert_eq!(receipt.operator.0, dev_signer(0).address().into_array());
    let domain = *node.node.rollup.domain();
    assert!(receipt.to_receipt(domain).is_valid());
    let other_chain = Domain::new(1, receipt.operator);
    assert!(!receipt.to_receipt(other_chain).is_valid());

    let other =
        submission(&[node.sign(User::ALICE, node.transfer(User::ALICE, User::BOB, 2).await)]);
    let request = node
        .http
        .post(node.url("/v1/transactions"))
        .header("idempotency-key", "rent-2026-11");
    let reused = node.send(request.json(&other)).await;
    assert_eq!(reused.problem().code, Code::IdempotencyKeyReused);
    let wrong = node
        .http
        .post(node.url("/v1/transactions"))
        .header("idempotency-key", "a b")
        .json(&other);
    assert_eq!(
        node.send(wrong).await.problem().code,
        Code::InvalidIdempotencyKey
    );

    let node = node.restart().await;
    let request = node
        .http
        .post(node.url("/v1/transactions"))
        .header("idempotency-key", "rent-2026-11");
    let after_restart = node.send(request.json(&body)).await;
    assert_eq!(
        (after_restart.status, &after_restart.text),
        (StatusCode::ACCEPTED, &replies[0].text)
    );
    node.node.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn transactions_out_of_order_wait_and_then_run_in_order() {
    let node = TestNode::start().await;
    node.deposit(User::ALICE, ETH).await;
    let first = node.transfer(User::ALICE, User::BOB, 1000).await;
    let pay = |transaction: Transaction, amount| Transaction {
        action: Action::Transfer {
            recipient: User::BOB.owner(),
            amount: Float40::exact(Amount(amount)).unwrap(),
        },
        ..transaction
    };
    let third = node
        .accept(&[node.sign(User::ALICE, pay(ahead(first, 2), 3000))])
        .await
        .remove(0);
    let second = node
        .accept(&[node.sign(User::ALICE, pay(ahead(first, 1), 2000))])
        .await
        .remove(0);
    for id in [&second, &third] {
        assert_eq!(
            node.get(&format!("/v1/transactions/{id}")).await.json()["stage"],
            "waiting"
        );
    }
    assert_eq!(node.accounts(User::ALICE).await[0].nonce, Nonce::ZERO);
    node.accept(&[node.sign(User::ALICE, first)]).await;
    node.until("all three ran", || async {
        (node.accounts(User::ALICE).await[0].nonce.get() == 3).then_some(())
    })
    .await;
    assert_eq!(node.accounts(User::BOB).await[0].balance, Amount(6000));
    node.until_stage(&third, "committed").await;
    node.node.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_linked_pair_happens_whole_in_one_batch() {
    let node = TestNode::start().await;
    node.deposit(User::ALICE, ETH).await;
    node.deposit(User::BOB, ETH).await;
    let there = node.transfer(User::ALICE, User::BOB, 1000).await;
    let back = node.transfer(User::BOB, User::ALICE, 3000).await;
    let pair = [
        node.sign(
            User::ALICE,
            Transaction {
                link: Word(back.core()),
                ..there
            },
        ),
        node.sign(
            User::BOB,
            Transaction {
                link: Word(there.core()),
                ..back
            },
        ),
    ];
    let ids = node.accept(&pair).await;
    let look = async |id: &String| node.get(&format!("/v1/transactions/{id}")).await.json();
    let views = [look(&ids[0]).await, look(&ids[1]).await];
    assert_eq!(views[0]["batch"], views[1]["batch"]);
    assert_eq!(
        views[1]["row"].as_u64(),
        views[0]["row"].as_u64().map(|row| row + 1)
    );
    assert_eq!(
        node.accounts(User::ALICE).await[0].balance,
        Amount(ETH + 2000)
    );
    assert_eq!(
        node.accounts(User::BOB).await[0].balance,
        Amount(ETH - 2000)
    );
    node.node.shutdown().await;
}

//! What the node tells: accounts, history, batches, terms, health.

use super::harness::{ETH, TestNode, User};
use crate::api::problem::Code;
use crate::api::types::{Info, Phase, Status};
use reqwest::StatusCode;
use serde_json::Value;

/// All items of a list, by pages of this size.
async fn pages(node: &TestNode, path: &str, limit: usize) -> Vec<Value> {
    let (mut items, mut cursor) = (vec![], String::new());
    loop {
        let page = node
            .get(&format!("{path}?limit={limit}{cursor}"))
            .await
            .json();
        let found = page["items"].as_array().unwrap();
        assert!(found.len() <= limit);
        items.extend(found.iter().cloned());
        match page["next_cursor"].as_str() {
            Some(next) => cursor = format!("&cursor={next}"),
            None => return items,
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn lists_come_in_pages_newest_first_and_miss_nothing() {
    let node = TestNode::start().await;
    let alice = node.deposit(User::ALICE, ETH).await;
    let mut ids = vec![];
    for amount in 1..=7 {
        let signed = node.sign(
            User::ALICE,
            node.transfer(User::ALICE, User::BOB, amount).await,
        );
        ids.extend(node.accept(&[signed]).await);
    }
    node.until_stage(ids.last().unwrap(), "committed").await;
    ids.reverse();
    let path = format!("/v1/accounts/{}/transactions", alice.index);
    for limit in [1, 2, 7, 50] {
        let found = pages(&node, &path, limit).await;
        let found: Vec<&str> = found
            .iter()
            .map(|view| view["id"].as_str().unwrap())
            .collect();
        assert_eq!(found, ids, "limit {limit}");
    }
    let batches = pages(&node, "/v1/batches", 1).await;
    assert!(batches.len() >= 2, "seven transfers, four in a batch");
    let numbers: Vec<u64> = batches
        .iter()
        .map(|batch| batch["number"].as_u64().unwrap())
        .collect();
    assert_eq!(
        numbers,
        (1..=batches.len() as u64).rev().collect::<Vec<_>>()
    );

    let oldest = node.get("/v1/batches/1").await.json();
    assert_eq!(oldest["requests"][0]["kind"], "deposit");
    assert_eq!(oldest["requests"][0]["amount"], ETH.to_string());
    assert!(
        oldest["committed"]["transaction"]
            .as_str()
            .unwrap()
            .starts_with("0x")
    );
    let request = node.get("/v1/requests/0").await.json();
    assert_eq!(
        (&request["batch"], &request["amount"]),
        (&oldest["number"], &oldest["requests"][0]["amount"])
    );
    assert_eq!(request["owner"], User::ALICE.owner().to_string());
    let unknown = node.get("/v1/requests/1").await.problem();
    assert_eq!(unknown.code, Code::RequestUnknown);
    for (older, newer) in batches.iter().rev().zip(batches.iter().rev().skip(1)) {
        assert_eq!(older["new_root"], newer["old_root"]);
    }
    node.node.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_terms_are_those_that_signatures_and_requests_meet() {
    let node = TestNode::start().await;
    let info: Info = serde_json::from_value(node.get("/v1/info").await.json()).unwrap();
    assert_eq!(info.chain_id, 31337);
    assert_eq!(info.contract, node.node.contract);
    assert_eq!(info.domain, node.domain().0);
    assert_eq!(info.circuits.len(), 1);
    assert!(
        info.circuits[0]
            .key
            .as_ref()
            .unwrap()
            .starts_with("INSECURE-DEV-")
    );
    assert_eq!(info.tokens[0].number.get(), 0);
    assert_eq!(
        node.get("/v1/tokens").await.json()["tokens"][0]["minimum_fee"],
        "0"
    );
    node.node.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn monitors_see_a_node_that_serves() {
    let node = TestNode::start().await;
    node.deposit(User::ALICE, ETH).await;
    assert_eq!(node.get("/livez").await.text, "ok\n");
    node.until("ready", || async {
        (node.get("/readyz").await.status == StatusCode::OK).then_some(())
    })
    .await;
    let status = node
        .until("a batch on L1", || async {
            let status = node.get("/status").await.json();
            let status: Status = serde_json::from_value(status).unwrap();
            (status.batches.committed.0 > 0).then_some(status)
        })
        .await;
    assert_eq!(
        (status.phase, &status.waiting_for),
        (Phase::Running, &vec![])
    );
    assert!(status.last_event > 0 && status.batches.sealed.0 > 0);
    let metrics = node.get("/metrics").await.text;
    for name in [
        "millrace_ready",
        "millrace_l1_head_block",
        "millrace_batch_sealed_number",
        "millrace_mempool_txs{state=\"waiting\"}",
        "millrace_prover_jobs{state=\"waiting\"}",
        "millrace_api_request_seconds_bucket{method=\"GET\",route=\"/v1/owners/{address}/accounts\",status=\"200\"",
    ] {
        assert!(metrics.contains(name), "{name} is not in {metrics}");
    }
    node.node.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn requests_keep_their_id_and_the_description_is_served() {
    let node = TestNode::start().await;
    let named = node
        .send(
            node.http
                .get(node.url("/livez"))
                .header("x-request-id", "mine-7"),
        )
        .await;
    assert_eq!(named.headers["x-request-id"], "mine-7");
    let fresh = [node.get("/livez").await, node.get("/livez").await];
    assert_eq!(fresh[0].headers["x-request-id"].len(), 16);
    assert_ne!(
        fresh[0].headers["x-request-id"],
        fresh[1].headers["x-request-id"]
    );

    let served = node.get("/openapi.json").await.json();
    assert_eq!(
        served,
        serde_json::from_str::<Value>(&crate::api::document::text()).unwrap()
    );
    assert!(node.get("/docs/").await.text.contains("swagger-ui"));
    let kinds = node.get("/problems").await.json();
    assert_eq!(
        kinds.as_array().unwrap().len(),
        crate::api::problem::Code::ALL.len()
    );
    assert_eq!(
        node.get("/problems/overdrawn").await.json()["code"],
        "overdrawn"
    );
    node.node.shutdown().await;
}

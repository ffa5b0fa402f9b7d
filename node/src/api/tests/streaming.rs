//! Events: every stage in order, resumed where a reader stopped.

use super::harness::{ETH, PATIENCE, TestNode, User};
use crate::api::types::{EventBody, EventView};
use futures::StreamExt;
use tokio::net::TcpStream;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::{MaybeTlsStream, WebSocketStream, connect_async};

type Socket = WebSocketStream<MaybeTlsStream<TcpStream>>;

async fn listen(node: &TestNode, query: &str) -> Socket {
    let url = node
        .url(&format!("/v1/events{query}"))
        .replace("http://", "ws://");
    connect_async(url).await.unwrap().0
}

async fn next(socket: &mut Socket) -> EventView {
    loop {
        let message = tokio::time::timeout(PATIENCE, socket.next())
            .await
            .unwrap()
            .unwrap()
            .unwrap();
        match message {
            Message::Text(text) => return serde_json::from_str(&text).unwrap(),
            Message::Ping(_) => {}
            other => panic!("{other:?}"),
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reader_resumes_where_it_stopped_and_sees_every_stage_once() {
    let node = TestNode::start().await;
    let mut all = listen(&node, "?from=1").await;
    node.deposit(User::ALICE, ETH).await;
    let id = node
        .accept(&[node.sign(User::ALICE, node.transfer(User::ALICE, User::BOB, 5).await)])
        .await
        .remove(0);

    let mut seen = vec![next(&mut all).await];
    // The reader is cut off in the middle and comes back from its last sequence number.
    drop(all);
    let mut resumed = listen(&node, "?from=2").await;
    let is_commit_of = |event: &EventView, wanted: u64| matches!(&event.event, EventBody::BatchCommitted { batch, .. } if batch.0 == wanted);
    let mut batch = None;
    loop {
        let event = next(&mut resumed).await;
        if let EventBody::TransactionAccepted {
            id: accepted,
            batch: number,
        } = &event.event
        {
            assert_eq!(accepted.to_string(), id);
            batch = Some(number.0);
        }
        seen.push(event);
        if batch.is_some_and(|batch| is_commit_of(seen.last().unwrap(), batch)) {
            break;
        }
    }
    let sequence: Vec<u64> = seen.iter().map(|event| event.sequence).collect();
    assert_eq!(sequence, (1..=seen.len() as u64).collect::<Vec<_>>());
    assert!(
        seen.iter()
            .any(|event| matches!(event.event, EventBody::DepositTaken { request: 0, .. }))
    );

    // One who asks for a single transaction sees its stages and those of its batch, and nothing else.
    let mut one = listen(&node, &format!("?from=1&transaction={id}")).await;
    assert!(matches!(
        next(&mut one).await.event,
        EventBody::TransactionAccepted { .. }
    ));
    assert!(matches!(
        next(&mut one).await.event,
        EventBody::BatchSealed { .. }
    ));
    assert!(is_commit_of(&next(&mut one).await, batch.unwrap()));
    node.node.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn streams_are_bounded_and_end_with_the_node() {
    let node = TestNode::start_with(|config| config.api.max_event_streams = 1).await;
    let mut first = listen(&node, "").await;
    node.until("the place is taken", || async {
        let url = node.url("/v1/events").replace("http://", "ws://");
        match connect_async(url).await {
            Err(tokio_tungstenite::tungstenite::Error::Http(response)) => {
                assert_eq!(response.status(), 503);
                Some(())
            }
            _ => None,
        }
    })
    .await;
    node.node.shutdown().await;
    let end = loop {
        match first.next().await {
            Some(Ok(Message::Close(frame))) => break frame,
            Some(Ok(_)) => {}
            other => panic!("{other:?}"),
        }
    };
    assert!(end.unwrap().reason.contains("resume"));
}

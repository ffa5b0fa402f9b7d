//! Events: every stage in order, resumed where a reader stopped.

use super::harness::{ETH, PATIENCE, TestNode, User};
use crate::api::channels::ChannelEventBody;
use crate::api::types::{EventBody, EventView};
use crate::config::Secret;
use futures::StreamExt;
use serde::de::DeserializeOwned;
use serde_json::json;
use tokio::net::TcpStream;
use tokio_tungstenite::tungstenite::client::IntoClientRequest;
use tokio_tungstenite::tungstenite::{Error, Message};
use tokio_tungstenite::{MaybeTlsStream, WebSocketStream, connect_async};

type Socket = WebSocketStream<MaybeTlsStream<TcpStream>>;

async fn listen(node: &TestNode, query: &str) -> Socket {
    let url = node
        .url(&format!("/v1/events{query}"))
        .replace("http://", "ws://");
    connect_async(url).await.unwrap().0
}

async fn next(socket: &mut Socket) -> EventView {
    next_as(socket).await
}

async fn next_as<T: DeserializeOwned>(socket: &mut Socket) -> T {
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
    let url = node.url("/v1/events").replace("http://", "ws://");
    // Whoever is welcomed has its place: there is no moment in which two could have the last one.
    match connect_async(&url).await {
        Err(Error::Http(response)) => assert_eq!(response.status(), 503),
        other => panic!("{other:?}"),
    }
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

const TOKEN: &str = "of the operator";

/// Asks for the channels' events with these headers: the socket, or the status of the refusal.
async fn channel_stream(
    node: &TestNode,
    query: &str,
    headers: &[(&'static str, &str)],
) -> Result<Socket, u16> {
    let url = node.url(&format!("/v1/channel-events/stream{query}"));
    let url = url.replace("http://", "ws://");
    let mut request = url.into_client_request().unwrap();
    for (name, value) in headers {
        request.headers_mut().insert(*name, value.parse().unwrap());
    }
    match connect_async(request).await {
        Ok((socket, _)) => Ok(socket),
        Err(Error::Http(response)) => Err(response.status().as_u16()),
        Err(error) => panic!("{error}"),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn channel_events_resume_by_number_and_are_for_the_operator() {
    let node = TestNode::start_with(|config| {
        config.channels.enabled = true;
        config.api.operator_token = Some(Secret::new(TOKEN.into()));
        config.api.max_event_streams = 2;
    })
    .await;
    let bearer = format!("Bearer {TOKEN}");
    let operator = [("authorization", bearer.as_str())];
    let refused = async |query: &str, headers: &[(&'static str, &str)]| {
        channel_stream(&node, query, headers).await.err()
    };
    assert_eq!(refused("", &[]).await, Some(401));
    let page = [operator[0], ("origin", "http://example.org")];
    assert_eq!(refused("", &page).await, Some(403));
    assert_eq!(refused("?channel=0x07", &operator).await, Some(400));
    assert_eq!(refused("?from=first", &operator).await, Some(400));

    // An invoice that nobody pays is an event.
    let let_one_expire = async || {
        let request = node.http.post(node.url("/v1/channel-invoices"));
        let request = request.header("authorization", &bearer);
        let made = node.send(request.json(&json!({ "expires_in_secs": 1 })));
        let made = made.await.json();
        made["says"]["hash"].as_str().unwrap().to_owned()
    };
    let mut live = channel_stream(&node, "", &operator).await.unwrap();
    let first = let_one_expire().await;
    let told: ChannelEventBody = next_as(&mut live).await;
    assert_eq!(
        (told.sequence, told.kind.as_str(), told.subject.as_deref()),
        (1, "invoice_expired", Some(first.as_str()))
    );
    // The reader is gone while the next two happen, and misses nothing.
    drop(live);
    let second = let_one_expire().await;
    let third = let_one_expire().await;
    let mut resumed = channel_stream(&node, "?from=2", &operator).await.unwrap();
    let mut told = Vec::new();
    for number in [2, 3] {
        let event: ChannelEventBody = next_as(&mut resumed).await;
        assert_eq!(event.sequence, number);
        told.push(event.subject.unwrap());
    }
    told.sort();
    let mut wanted = vec![second.clone(), third];
    wanted.sort();
    assert_eq!(told, wanted);
    // It is what the page shows.
    let request = node.http.get(node.url("/v1/channel-events?from=1"));
    let page = node.send(request.header("authorization", &bearer)).await;
    let page = page.json();
    let one: ChannelEventBody = serde_json::from_value(page["events"][0].clone()).unwrap();
    assert_eq!(one.subject, Some(first));

    // Who asks for one payment hears of it alone.
    let query = format!("?from=1&subject={second}");
    let mut one = channel_stream(&node, &query, &operator).await.unwrap();
    let event: ChannelEventBody = next_as(&mut one).await;
    assert_eq!(event.subject, Some(second));
    // Both places are taken: places are shared with the rollup's streams.
    assert_eq!(refused("", &operator).await, Some(503));
    node.node.shutdown().await;
    let end = loop {
        match resumed.next().await {
            Some(Ok(Message::Close(frame))) => break frame,
            Some(Ok(_)) => {}
            other => panic!("{other:?}"),
        }
    };
    assert!(end.unwrap().reason.contains("resume"));
}

#[tokio::test(flavor = "multi_thread")]
async fn without_channels_there_are_no_events_of_them() {
    let node = TestNode::start().await;
    let refused = channel_stream(&node, "?from=1", &[]).await;
    assert_eq!(refused.err(), Some(404));
    node.node.shutdown().await;
}

//! A peer that lies in Reestablish: the test speaks in its name, over a real connection with its real key.
//!
//! What the honest node does is written in docs/channels.md, *Reestablish*: a half that it does not know stops all signing on the
//! channel until it is mended or closed; two halves of one version close it at once.

use crate::ETHER;
use crate::party::{PATIENCE, Party};
use crate::stage::{Stage, WINDOW};
use millrace_channels::message::{Message, Reestablish, half_hash};
use millrace_channels::state::Half;
use millrace_channels::transport::{PeerEvent, Transport, TransportConfig};
use millrace_channels::types::{ChannelId, Hash32, LockRoot, PublicKey};
use millrace_channels::wire;
use serde_json::Value;
use std::sync::Arc;
use tokio::sync::mpsc;

/// A connection in the liar's name.
struct Liar {
    transport: Transport,
    events: mpsc::Receiver<PeerEvent>,
    to: PublicKey,
}

impl Liar {
    async fn connect(liar: &Party, to: &Party) -> Self {
        let (queue, events) = mpsc::channel(1024);
        let started =
            Transport::start(Arc::new(liar.hot()), TransportConfig::default(), queue).await;
        let transport = started.unwrap();
        let address = format!("127.0.0.1:{}", to.port).parse().unwrap();
        let mut this = Self {
            transport,
            events,
            to: to.hot().public(),
        };
        this.transport.connect(this.to, address);
        while !matches!(this.next().await, PeerEvent::Connected(_)) {}
        this
    }

    async fn next(&mut self) -> PeerEvent {
        let event = tokio::time::timeout(PATIENCE, self.events.recv()).await;
        event.expect("the node speaks").expect("the transport runs")
    }

    /// What the honest node says of a channel.
    async fn reestablish(&mut self, id: ChannelId) -> Reestablish {
        loop {
            if let PeerEvent::Frame { frame, .. } = self.next().await
                && let Ok(Message::Reestablish(said)) = wire::decode(&frame)
                && said.channel == id
            {
                return said;
            }
        }
    }

    fn say(&self, message: &Message) {
        self.transport.send(self.to, wire::encode(message)).unwrap();
    }
}

fn number(channel: &Value, field: &str) -> u64 {
    channel[field].as_u64().unwrap()
}

/// What the peer would say if it were honest: the newest of both, without locks.
fn honest(id: ChannelId, seen: &Value) -> Reestablish {
    let half = |version: &str, paid: &str| Half {
        version: number(seen, version),
        paid: seen[paid].as_str().unwrap().parse().unwrap(),
        locks: LockRoot::EMPTY,
    };
    let (held, own) = (half("version", "sent"), half("peer_version", "received"));
    Reestablish {
        channel: id,
        own: own.version,
        own_hash: half_hash(&own),
        held: held.version,
        held_hash: half_hash(&held),
        echoed: own.version,
    }
}

fn channel_id(text: &str) -> ChannelId {
    let bytes = hex::decode(text.trim_start_matches("0x")).unwrap();
    ChannelId(bytes.try_into().unwrap())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_lies_about_what_it_holds_gets_nothing_by_it() {
    let stage = Stage::new().await;
    let (mut mallory, bob) = stage.two().await;
    let lost = mallory.open(&bob, 3 * ETHER).await;
    let forked = mallory.open(&bob, 3 * ETHER).await;
    let behind = mallory.open(&bob, 3 * ETHER).await;
    for id in [&lost, &forked, &behind] {
        mallory.pay(id, 2 * ETHER).await;
        bob.until_can_send(id, 2 * ETHER).await;
        bob.pay(id, ETHER / 2).await;
        mallory.until_can_send(id, 3 * ETHER / 2).await;
        // Her signature over what Bob has paid.
        mallory.pay(id, 3).await;
        bob.until(id, "an echo", |channel| {
            channel["version"] == channel["echoed_version"]
        })
        .await;
        bob.until_can_send(id, 3 * ETHER / 2 + 3).await;
    }
    mallory.stop().await;
    bob.until_phase(&lost, "offline").await;
    let mut liar = Liar::connect(&mallory, &bob).await;

    // "I hold a later half of yours than you know." Bob may have lost data: he signs nothing, and says what ends it.
    let seen = bob.channel(&lost).await;
    let truth = honest(channel_id(&lost), &seen);
    let said = liar.reestablish(channel_id(&lost)).await;
    assert_eq!((said.own, said.own_hash), (truth.held, truth.held_hash));
    assert_eq!((said.held, said.held_hash), (truth.own, truth.own_hash));
    liar.say(&Message::Reestablish(Reestablish {
        held: truth.held + 10,
        held_hash: Hash32([7; 32]),
        ..truth
    }));
    let seen = bob.until_phase(&lost, "paused").await;
    let waits = seen["waiting"][0].clone();
    assert!(
        waits["what"]
            .as_str()
            .unwrap()
            .contains("nothing is signed"),
        "{waits}"
    );
    assert_eq!(
        waits["command"],
        format!("millrace channel force-close {lost}")
    );
    bob.is_refused(&["pay", &lost, "1"]).names(6, &["not open"]);
    assert_eq!(
        bob.channel(&lost).await["version"],
        truth.held,
        "nothing was signed"
    );

    // "I have signed another half of that version." That can only be a fraud: Bob closes.
    let truth = honest(channel_id(&forked), &bob.channel(&forked).await);
    liar.say(&Message::Reestablish(Reestablish {
        own_hash: Hash32([8; 32]),
        ..truth
    }));
    bob.until_phase(&forked, "closing").await;

    // "I hold less than I have signed for." Bob gives her what she has signed, and goes on from it.
    let truth = honest(channel_id(&behind), &bob.channel(&behind).await);
    let zero = Half {
        version: 0,
        paid: 0,
        locks: LockRoot::EMPTY,
    };
    liar.say(&Message::Reestablish(Reestablish {
        own: 0,
        own_hash: half_hash(&zero),
        held: 0,
        held_hash: half_hash(&zero),
        echoed: 0,
        ..truth
    }));
    loop {
        if let PeerEvent::Frame { frame, .. } = liar.next().await
            && let Ok(Message::Copy(copy)) = wire::decode(&frame)
            && copy.channel == channel_id(&behind)
        {
            assert_eq!(copy.halves.b.version, truth.held);
            assert_eq!(copy.halves.a.version, truth.own);
            break;
        }
    }
    liar.transport.shutdown().await;

    // She is not seen again: Bob closes what is left.
    bob.does(&["force-close", &lost]);
    bob.does(&["force-close", &behind]);
    for id in [&lost, &forked, &behind] {
        bob.until(id, "a deadline", |channel| channel["deadline"].is_u64())
            .await;
    }
    stage.pass(WINDOW + 60).await;
    for id in [&lost, &forked, &behind] {
        bob.until_phase(id, "closed").await;
    }
    let bobs = 3 * (3 * ETHER / 2 + 3);
    assert_eq!(stage.balance(bob.payout()).await, bobs);
    assert_eq!(stage.balance(mallory.payout()).await, 9 * ETHER - bobs);
}

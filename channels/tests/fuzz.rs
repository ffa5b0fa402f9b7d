//! The fuzzers' targets over seeded bytes: a bounded run that needs no fuzzer. The long ones: `cargo fuzz run --fuzz-dir . TARGET` in `tests/fuzz`.
#![cfg(feature = "transport")]

#[path = "../../tests/fuzz/src/bodies.rs"]
mod bodies;

use millrace_channels::digest::Coop;
use millrace_channels::invoice::Invoice;
use millrace_channels::message::Message;
use millrace_channels::routing::gossip::{self, Gossip, Item, NodeAnnouncement};
use millrace_channels::signing::HotKey;
use millrace_channels::types::{Address, ChannelId, Hash32, PaymentHash, Preimage, Signature};
use millrace_channels::wire;

const ROUNDS: u64 = 3000;

/// A small generator: the same bytes for ever.
struct Seeded(u64);

impl Seeded {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    fn below(&mut self, limit: usize) -> usize {
        (self.next() % limit as u64) as usize
    }

    /// Noise of a length that is mostly short.
    fn noise(&mut self) -> Vec<u8> {
        let length = match self.below(4) {
            0 => self.below(8),
            1 => self.below(100),
            _ => self.below(1500),
        };
        (0..length).map(|_| self.next() as u8).collect()
    }

    /// A good example with a few bytes changed, removed, doubled or cut.
    fn bent(&mut self, good: &[u8]) -> Vec<u8> {
        let mut bytes = good.to_vec();
        for _ in 0..=self.below(3) {
            if bytes.is_empty() {
                break;
            }
            let at = self.below(bytes.len());
            match self.below(5) {
                0 => bytes[at] ^= 1 << self.below(8),
                1 => bytes[at] = self.next() as u8,
                2 => drop(bytes.remove(at)),
                3 => bytes.insert(at, [0, 0xff, self.next() as u8][self.below(3)]),
                _ => bytes.truncate(at),
            }
        }
        bytes
    }
}

fn run(body: fn(&[u8]), examples: &[Vec<u8>]) {
    let mut seeded = Seeded(0x9e37_79b9_7f4a_7c15);
    for example in examples {
        body(example);
    }
    for round in 0..ROUNDS {
        let bytes = match examples.get(round as usize % (examples.len() + 1)) {
            Some(good) => seeded.bent(good),
            None => seeded.noise(),
        };
        body(&bytes);
    }
}

fn messages() -> Vec<Vec<u8>> {
    let channel = ChannelId([1; 32]);
    let coop = Coop {
        epoch: 1,
        pay_a: 2,
        pay_b: 3,
        valid_until: 4,
    };
    let messages = [
        Message::Fulfil {
            channel,
            lock: 1,
            preimage: Preimage([2; 32]),
        },
        Message::Fail {
            channel,
            lock: 1,
            reason: vec![3; 292],
        },
        Message::Ack {
            channel,
            version: 9,
        },
        Message::CoopPropose {
            channel,
            coop,
            signature: Signature([4; 65]),
        },
    ];
    messages.iter().map(wire::encode).collect()
}

fn key() -> HotKey {
    HotKey::new([1; 32]).unwrap()
}

fn invoice() -> String {
    let invoice = Invoice {
        domain: bodies::DOMAIN,
        token: Address::ZERO,
        amount: None,
        hash: PaymentHash([1; 32]),
        secret: Hash32([2; 32]),
        payee: key().public(),
        created: 1,
        expires: 2,
        description: "for a fuzzer".to_owned(),
        features: 1,
        hints: Vec::new(),
        fallback: None,
        unknown: vec![(201, vec![1, 2, 3])],
    };
    invoice.sign(&key()).unwrap()
}

#[test]
fn frames() {
    run(bodies::frame, &messages());
}

#[test]
fn bodies_of_messages() {
    let cut: Vec<_> = messages()
        .iter()
        .map(|frame| [&[frame[5] - 1], &frame[6..]].concat())
        .collect();
    run(bodies::message, &cut);
}

#[test]
fn gossip_of_strangers() {
    let node = NodeAnnouncement {
        key: key().public(),
        timestamp: 1_800_000_000,
        features: 0,
        alias: "x".to_owned(),
        addresses: vec!["h:1".to_owned()],
        signature: Signature([0; 65]),
    };
    let item = Item::Node(node.sign(&bodies::DOMAIN.separator(), &key()));
    let batch = Gossip::Batch {
        epoch: 1,
        cursor: 2,
        more: false,
        items: vec![item.clone(), item.clone()],
    };
    let examples = [Gossip::Item(item), batch].map(|gossip| {
        let frame = gossip::encode(&gossip);
        [&[frame[5] - 32], &frame[6..]].concat()
    });
    run(bodies::gossip, &examples);
}

#[test]
fn invoices() {
    let text = invoice();
    let (_, bytes) = bech32::decode(&text).unwrap();
    run(bodies::invoice, &[text.into_bytes(), bytes]);
}

#[test]
fn onions_and_failures() {
    let deliver = [&[2][..], &[3; 32], &[0; 16]].concat();
    let forward = [&[1][..], &[3; 32], &[0; 24]].concat();
    run(bodies::onion, &[deliver, forward]);
}

#[test]
fn handshakes() {
    let first = [&[0, 32][..], &[9; 32], &[0, 162], &[1; 162]].concat();
    let second = [&[0, 194][..], &[9; 194]].concat();
    run(bodies::handshake, &[first, second]);
}

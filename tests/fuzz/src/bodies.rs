//! What each target does with bytes of a stranger. The same functions run over seeded bytes in `channels/tests/fuzz.rs`.

use millrace_channels::digest::Domain;
use millrace_channels::invoice::Invoice;
use millrace_channels::machine::payment::Onions;
use millrace_channels::message::{MAX_ONION_BYTES, MAX_REASON_BYTES};
use millrace_channels::onion::{NodeOnions, failure, sphinx};
use millrace_channels::routing::gossip::{self, Gossip};
use millrace_channels::routing::graph::{Deposit, Deposits, GossipError, Graph};
use millrace_channels::signing::HotKey;
use millrace_channels::transport::handshake;
use millrace_channels::types::{Address, ChannelId, Hash32, PaymentHash};
use millrace_channels::wire;
use std::sync::{Arc, LazyLock};
use tokio::io::AsyncWriteExt;

/// The contract of all targets.
pub const DOMAIN: Domain = Domain {
    chain_id: 31337,
    contract: Address([7; 20]),
};
static KEY: LazyLock<Arc<HotKey>> =
    LazyLock::new(|| Arc::new(HotKey::new([1; 32]).expect("a small number is a key")));

/// A frame with its length, as the transport cuts it off.
pub fn frame(bytes: &[u8]) {
    let Some((prefix, rest)) = bytes.split_first_chunk::<4>() else {
        return;
    };
    let Ok(length) = wire::frame_length(*prefix) else {
        return;
    };
    if let Some(frame) = rest.get(..length)
        && let Ok(message) = wire::decode(frame)
    {
        assert_eq!(wire::encode(&message), bytes[..4 + length], "one encoding");
    }
}

/// A message of each type: the first byte chooses it.
pub fn message(bytes: &[u8]) {
    let Some((kind, body)) = bytes.split_first() else {
        return;
    };
    let frame = [&[wire::WIRE_VERSION, 1 + kind % 10], body].concat();
    if let Ok(message) = wire::decode(&frame) {
        assert_eq!(wire::encode(&message)[4..], frame, "one encoding");
    }
}

/// Every channel has a deposit, so that only signatures stand between the bytes and the graph.
struct AllOpen;

impl Deposits for AllOpen {
    fn deposit(&self, _: &ChannelId) -> Deposit {
        Deposit::Open { capacity: 1 }
    }
}

/// Gossip of each type, and the graph that takes it; a snapshot from a bad disk too.
pub fn gossip(bytes: &[u8]) {
    let Some((kind, body)) = bytes.split_first() else {
        return;
    };
    let _ = Graph::restore(&DOMAIN, body);
    let frame = [&[wire::WIRE_VERSION, 32 + kind % 6], body].concat();
    let Ok(read) = gossip::decode(&frame) else {
        return;
    };
    assert_eq!(gossip::encode(&read)[4..], frame, "one encoding");
    let items = match read {
        Gossip::Item(item) => vec![item],
        Gossip::Batch { items, .. } => items,
        _ => return,
    };
    let mut graph = Graph::new(&DOMAIN, 1);
    for item in items {
        if let Err(error) = graph.receive(Some(&KEY.public()), item, 1_800_000_000, &AllOpen) {
            assert_ne!(error, GossipError::Limit);
        }
    }
    let snapshot = graph.snapshot();
    let again = Graph::restore(&DOMAIN, &snapshot).expect("an own snapshot reads");
    assert_eq!(again.snapshot(), snapshot);
}

/// The bytes as an invoice's text, and as the fields of one with a right checksum.
pub fn invoice(bytes: &[u8]) {
    if let Ok(text) = std::str::from_utf8(bytes) {
        let _ = Invoice::parse(text);
    }
    let hrp = bech32::Hrp::parse("mlrx31337").expect("it is one");
    let signed = [bytes, &[254, 0, 64], &[1; 64]].concat();
    for bytes in [bytes, &signed] {
        if let Ok(text) = bech32::encode::<bech32::Bech32m>(hrp, bytes)
            && let Ok(invoice) = Invoice::parse(&text)
        {
            // Only its payee can have made it; if the fuzzer has signed one, it still has one form.
            assert!(invoice.expires > invoice.created);
        }
    }
}

/// The bytes as a packet, as a payload that a sender authenticated, and as a failure.
pub fn onion(bytes: &[u8]) {
    let onions = NodeOnions::new(KEY.clone(), &DOMAIN);
    let hash = PaymentHash([9; 32]);
    // Nobody finds an HMAC by chance.
    assert!(onions.peel(bytes, &hash).is_none());
    let mut padded = bytes.to_vec();
    padded.resize(MAX_ONION_BYTES, 0);
    assert!(onions.peel(&padded, &hash).is_none());
    let associated = [&hash.0[..], &DOMAIN.separator().0].concat();
    let hop = (KEY.public(), bytes.to_vec());
    if let Some(packet) = sphinx::build(&[5; 32], &[hop.clone(), hop], &associated) {
        let peeled = sphinx::peel(&KEY, &packet, &associated).expect("it was built for the key");
        assert_eq!(peeled.payload, bytes);
        let _ = onions.open(&packet, &hash);
        let _ = onions.peel(&peeled.next.expect("there are two layers"), &hash);
    }
    let mut reason = bytes.to_vec();
    reason.resize(MAX_REASON_BYTES, 0);
    let secrets = sphinx::shared_secrets(&[5; 32], &[KEY.public()]).expect("both are keys");
    assert_eq!(failure::read(&secrets, &reason), None);
    let made = failure::make(&Hash32(*secrets[0]), bytes);
    let cut = &bytes[..bytes.len().min(failure::MAX_MESSAGE_BYTES)];
    assert_eq!(failure::read(&secrets, &made), Some((0, cut.to_vec())));
}

/// The bytes from a dialler that does not know what to say, to a listener and to a dialler.
pub fn handshake(bytes: &[u8]) {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .build()
        .expect("a runtime without drivers starts");
    runtime.block_on(async {
        for listens in [true, false] {
            let (mut near, mut far) = tokio::io::duplex(1 << 16);
            let sent = bytes.get(..1 << 15).unwrap_or(bytes);
            far.write_all(sent).await.expect("it fits in the buffer");
            far.shutdown().await.expect("nothing is left to write");
            let shaken = if listens {
                handshake::accept(&mut near, &KEY).await
            } else {
                handshake::dial(&mut near, &KEY, KEY.public()).await
            };
            assert!(shaken.is_err(), "nobody proves a key by chance");
        }
    });
}

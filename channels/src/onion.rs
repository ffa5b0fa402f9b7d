//! Onions: each node on a payment's way reads what concerns it and nothing else.
//!
//! `route → payloads → packet (sphinx.rs) → peel at each hop → Hop for the machine; failures come back (failure.rs)`
//!
//! | payload | bytes |
//! |---|---|
//! | forward | 1 · next channel 32 · amount u128 · expiry u64 |
//! | deliver | 2 · payment secret 32 · total u128 |
//! | keysend | 3 · preimage 32 · total u128 |
//!
//! Associated data: payment hash 32 · EIP-712 domain separator 32, so the packet is worth nothing with another hash, on another chain or
//! for another contract. A payload of another kind or length is refused.

pub mod failure;
pub mod sphinx;

use crate::digest::Domain;
use crate::machine::payment::{Hop, Onions, reason};
use crate::signing::HotKey;
use crate::types::{Amount, ChannelId, Hash32, PaymentHash, Preimage, PublicKey, Timestamp};
use serde::{Deserialize, Serialize};
use std::sync::Arc;
use thiserror::Error;
use zeroize::{Zeroize, ZeroizeOnDrop};

/// Most hops of a payment, the payee included: fourteen layers with a keysend at the end fill 1,300 bytes but for a few.
pub const MAX_HOPS: usize = 14;

/// Why an onion cannot be built.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum OnionError {
    /// No hop at all, or more than fit.
    #[error("{0} hops, from 1 to {MAX_HOPS} fit in an onion")]
    Hops(usize),
    /// A node's key is none, or the session key is out of range.
    #[error("a key of the route is no secp256k1 key")]
    Key,
}

/// What the payee's layer says.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Delivery {
    /// It pays an invoice.
    Invoice {
        /// The invoice's.
        secret: Hash32,
        /// What all parts bring.
        total: Amount,
    },
    /// It brings its own preimage.
    Keysend {
        /// The payer chose it.
        preimage: Preimage,
        /// What all parts bring.
        total: Amount,
    },
}

/// A forward: the channel on which a node passes a payment on, and what the next node gets.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Forward {
    /// Who forwards.
    pub node: PublicKey,
    /// Over which channel.
    pub channel: ChannelId,
    /// What leaves it.
    pub amount: Amount,
}

/// What the payer keeps of an onion to read its failure: with the records of the payment, if it is to outlive a restart.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize, Zeroize, ZeroizeOnDrop)]
pub struct Sent {
    session: [u8; 32],
    #[zeroize(skip)]
    hops: Vec<PublicKey>,
}

/// A failure as its payer reads it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Failure {
    /// Which hop failed; 0 is the first node after the payer.
    pub hop: usize,
    /// Its key.
    pub node: PublicKey,
    /// One of [`reason`]; 0 if the node said nothing.
    pub code: u8,
}

impl Sent {
    /// The nodes on the way, the payee last.
    pub fn hops(&self) -> &[PublicKey] {
        &self.hops
    }

    /// Which node failed, and why. None if the reason belongs to another onion, or some node on the way altered it.
    pub fn read(&self, reason: &[u8]) -> Option<Failure> {
        // The first node answers unencrypted if its layer does not open.
        if let [code] = reason {
            let node = *self.hops.first()?;
            return Some(Failure {
                hop: 0,
                node,
                code: *code,
            });
        }
        let secrets = sphinx::shared_secrets(&self.session, &self.hops)?;
        let (hop, message) = failure::read(&secrets, reason)?;
        Some(Failure {
            hop,
            node: self.hops[hop],
            code: message.first().copied().unwrap_or(0),
        })
    }
}

fn associated(domain: &Hash32, hash: &PaymentHash) -> [u8; 64] {
    let mut bytes = [0; 64];
    bytes[..32].copy_from_slice(&hash.0);
    bytes[32..].copy_from_slice(&domain.0);
    bytes
}

/// An onion over `forwards` to `payee`, for the contract with a domain separator, and what reads its failure. The session key is 32
/// fresh random bytes, **used once**.
///
/// # Errors
/// [`OnionError`].
pub fn build(
    session: [u8; 32],
    separator: &Hash32,
    hash: &PaymentHash,
    expiry: Timestamp,
    forwards: &[Forward],
    (payee, delivery): (PublicKey, Delivery),
) -> Result<(Vec<u8>, Sent), OnionError> {
    let count = forwards.len() + 1;
    if count > MAX_HOPS {
        return Err(OnionError::Hops(count));
    }
    let mut hops: Vec<(PublicKey, Vec<u8>)> = forwards
        .iter()
        .map(|forward| (forward.node, forward_payload(forward, expiry)))
        .collect();
    hops.push((payee, delivery_payload(&delivery)));
    let associated = associated(separator, hash);
    let onion = sphinx::build(&session, &hops, &associated).ok_or(OnionError::Key)?;
    let hops = hops.into_iter().map(|(key, _)| key).collect();
    Ok((onion, Sent { session, hops }))
}

fn forward_payload(forward: &Forward, expiry: Timestamp) -> Vec<u8> {
    let mut payload = vec![1];
    payload.extend_from_slice(&forward.channel.0);
    payload.extend_from_slice(&forward.amount.get().to_be_bytes());
    payload.extend_from_slice(&expiry.to_be_bytes());
    payload
}

fn delivery_payload(delivery: &Delivery) -> Vec<u8> {
    let (kind, bytes, total) = match delivery {
        Delivery::Invoice { secret, total } => (2, secret.0, total),
        Delivery::Keysend { preimage, total } => (3, preimage.0, total),
    };
    let mut payload = vec![kind];
    payload.extend_from_slice(&bytes);
    payload.extend_from_slice(&total.get().to_be_bytes());
    payload
}

/// The machine's view of a payload and what follows it.
fn hop(payload: &[u8], next: Option<Vec<u8>>) -> Option<Hop> {
    let (kind, rest) = payload.split_first()?;
    let (bytes, rest) = rest.split_first_chunk::<32>()?;
    let (amount, rest) = rest.split_first_chunk::<16>()?;
    let amount = Amount::new(u128::from_be_bytes(*amount)).ok()?;
    match (kind, next, rest) {
        (1, Some(onion), rest) => Some(Hop::Forward {
            channel: ChannelId(*bytes),
            amount,
            expiry: u64::from_be_bytes(rest.try_into().ok()?),
            onion,
        }),
        (2, None, []) => Some(Hop::Deliver {
            secret: Hash32(*bytes),
            total: amount,
        }),
        (3, None, []) => Some(Hop::Keysend {
            preimage: Preimage(*bytes),
            total: amount,
        }),
        _ => None,
    }
}

/// Opens the onions of a node.
pub struct NodeOnions {
    key: Arc<HotKey>,
    domain: Hash32,
}

impl NodeOnions {
    /// For a node's key and the contract of its channels.
    pub fn new(key: Arc<HotKey>, domain: &Domain) -> Self {
        Self {
            key,
            domain: domain.separator(),
        }
    }
}

impl Onions for NodeOnions {
    fn peel(&self, onion: &[u8], hash: &PaymentHash) -> Option<Hop> {
        self.open(onion, hash).map(|(hop, _)| hop)
    }

    fn open(&self, onion: &[u8], hash: &PaymentHash) -> Option<(Hop, Option<Hash32>)> {
        let peeled = sphinx::peel(&self.key, onion, &associated(&self.domain, hash))?;
        let secret = Hash32(*peeled.shared);
        hop(&peeled.payload, peeled.next).map(|hop| (hop, Some(secret)))
    }
}

/// What a failure means, for people.
pub fn describe(code: u8) -> &'static str {
    match code {
        reason::BAD_ONION => "the onion does not open",
        reason::UNKNOWN_PAYMENT => "no such invoice, wrong secret or amount, or paid already",
        reason::EXPIRY => "the expiry is too near or too far",
        reason::AMOUNT => "the fee is too small, or the amount is below the minimum",
        reason::NEXT_CHANNEL => "the next channel is unknown or cannot take it now",
        reason::KNOWN_HASH => "the payment hash is known already",
        reason::PARTS => "the other parts did not come in time",
        reason::CANCELLED => "the payee cancelled",
        reason::EXPIRED => "the lock on the next channel expired",
        reason::NEXT_NODE => "the next node could not read the onion",
        _ => "the node gave no known reason",
    }
}

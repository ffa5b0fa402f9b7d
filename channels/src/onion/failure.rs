//! Why a payment failed, for its payer only: BOLT 4's encrypted errors, 292 bytes.
//!
//! ```text
//! packet = HMAC 32 · length u16 · message · length u16 · zeros; the last four have 260 bytes together
//! ```
//! The node that fails authenticates with `um` of its shared secret and encrypts with `ammag`; every node on the way back encrypts
//! once more with its own `ammag`. The payer takes the layers off in the order of its hops; the HMAC that fits names the node.

use super::sphinx::{AMMAG, Shared, UM, apply_stream, derive, mac};
use crate::message::MAX_REASON_BYTES;
use crate::types::Hash32;
use hmac::Mac;
use zeroize::Zeroizing;

const HMAC_BYTES: usize = 32;
const BODY_BYTES: usize = MAX_REASON_BYTES - HMAC_BYTES;
/// Longest message.
pub const MAX_MESSAGE_BYTES: usize = BODY_BYTES - 4;

/// A failure of this node; a longer message than fits is cut.
pub fn make(shared: &Hash32, message: &[u8]) -> Vec<u8> {
    let message = &message[..message.len().min(MAX_MESSAGE_BYTES)];
    let mut packet = vec![0; MAX_REASON_BYTES];
    let body = &mut packet[HMAC_BYTES..];
    body[..2].copy_from_slice(&(message.len() as u16).to_be_bytes());
    body[2..2 + message.len()].copy_from_slice(message);
    let padding = (MAX_MESSAGE_BYTES - message.len()) as u16;
    body[2 + message.len()..4 + message.len()].copy_from_slice(&padding.to_be_bytes());
    let um = derive(&UM, &shared.0);
    let hmac = mac(&*um, &[body]).finalize().into_bytes();
    packet[..HMAC_BYTES].copy_from_slice(&hmac);
    apply_stream(&derive(&AMMAG, &shared.0), &mut packet);
    packet
}

/// Adds this node's layer to a failure of a node after it. None if it is no failure packet.
pub fn wrap(shared: &Hash32, reason: &[u8]) -> Option<Vec<u8>> {
    if reason.len() != MAX_REASON_BYTES {
        return None;
    }
    let mut packet = reason.to_vec();
    apply_stream(&derive(&AMMAG, &shared.0), &mut packet);
    Some(packet)
}

/// Takes the layers off: which hop failed (0 is the first after the payer), and its message.
/// None if no hop made this, so some node altered it.
pub fn read(secrets: &[Shared], reason: &[u8]) -> Option<(usize, Vec<u8>)> {
    if reason.len() != MAX_REASON_BYTES {
        return None;
    }
    let mut packet = Zeroizing::new(reason.to_vec());
    for (hop, shared) in secrets.iter().enumerate() {
        apply_stream(&derive(&AMMAG, shared), &mut packet);
        let (hmac, body) = packet.split_at(HMAC_BYTES);
        if mac(&*derive(&UM, shared), &[body])
            .verify_slice(hmac)
            .is_ok()
        {
            let length = usize::from(u16::from_be_bytes([body[0], body[1]]));
            return Some((hop, body.get(2..2 + length)?.to_vec()));
        }
    }
    None
}

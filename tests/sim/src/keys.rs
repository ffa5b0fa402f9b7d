//! Keys and onions of the simulator: the same interfaces as the real ones, a thousand times cheaper.
//!
//! A "signature" is a checksum of signer and digest. Adversaries of the simulator do not forge it, as they could not forge
//! a real one.

use crate::random::mix;
use millrace_channels::machine::payment::{Hop, Onions};
use millrace_channels::signing::Keys;
use millrace_channels::types::{Address, Hash32, PaymentHash, PublicKey, Signature};

/// The keys of one simulated node.
#[derive(Debug, Clone, Copy)]
pub struct SimKeys {
    /// Which node.
    pub node: u8,
}

/// The key of a node.
pub fn public_key(node: u8) -> PublicKey {
    let mut bytes = [0; 33];
    bytes[0] = 2;
    bytes[1] = node;
    PublicKey(bytes)
}

/// The signing address of a node.
pub fn signer(node: u8) -> Address {
    let mut bytes = [0x51; 20];
    bytes[0] = node;
    Address(bytes)
}

/// Where a node is paid.
pub fn payout(node: u8) -> Address {
    let mut bytes = [0x70; 20];
    bytes[0] = node;
    Address(bytes)
}

fn checksum(node: u8, digest: &Hash32) -> Signature {
    let mut state = u64::from(node) + 1;
    for chunk in digest.0.as_chunks::<8>().0 {
        state = mix(state ^ u64::from_le_bytes(*chunk));
    }
    let mut bytes = [0; 65];
    bytes[..8].copy_from_slice(&state.to_le_bytes());
    Signature(bytes)
}

/// Whether an address signed a digest: what the contract asks.
pub fn signed_by(address: &Address, digest: &Hash32, signature: &Signature) -> bool {
    checksum(address.0[0], digest) == *signature
}

impl Keys for SimKeys {
    fn sign(&self, digest: &Hash32) -> Signature {
        checksum(self.node, digest)
    }

    fn verify(&self, key: &PublicKey, digest: &Hash32, signature: &Signature) -> bool {
        checksum(key.0[1], digest) == *signature
    }

    fn for_contract(&self, _: &PublicKey, _: &Hash32, signature: &Signature) -> Signature {
        *signature
    }

    fn address(&self, key: &PublicKey) -> Option<Address> {
        Some(signer(key.0[1]))
    }
}

/// Onions without encryption: routing is not what is tested here.
#[derive(Debug, Clone, Copy)]
pub struct ClearOnions;

impl Onions for ClearOnions {
    fn peel(&self, onion: &[u8], _: &PaymentHash) -> Option<Hop> {
        postcard::from_bytes(onion).ok()
    }
}

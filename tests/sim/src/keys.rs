//! Keys and onions of the simulator: the same interfaces as the real ones, a thousand times cheaper.
//!
//! A "signature" is a checksum of signer and digest. Adversaries of the simulator do not forge it, as they could not forge
//! a real one.

use crate::random::mix;
use millrace_channels::machine::payment::{Hop, Onions};
use millrace_channels::signing::{HotKey, Keys};
use millrace_channels::state::keccak;
use millrace_channels::types::{Address, Hash32, PaymentHash, PublicKey, Signature};
use std::sync::LazyLock;

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

/// Nodes that have a key for the contract: those of a world, a stranger, and the tower.
const KEYED: [u8; 7] = [0, 1, 2, 3, 4, 199, 200];

struct Keyed {
    node: u8,
    key: HotKey,
    address: Address,
}

static KEYS: LazyLock<Vec<Keyed>> = LazyLock::new(|| {
    let keyed = |node: u8| {
        let key = HotKey::new(keccak(&[node])).expect("a hash is below the curve's order");
        let address = key
            .address(&key.public())
            .expect("a public key has an address");
        Keyed { node, key, address }
    };
    KEYED.into_iter().map(keyed).collect()
});

fn keyed(node: u8) -> &'static Keyed {
    let found = KEYS.iter().find(|keyed| keyed.node == node);
    found.expect("the simulator has no other nodes")
}

/// The secp256k1 key of a node, for what goes to the real contract.
pub fn hot_key(node: u8) -> &'static HotKey {
    &keyed(node).key
}

/// The node with this signing address.
pub fn node_of(address: &Address) -> Option<u8> {
    KEYS.iter()
        .find(|keyed| keyed.address == *address)
        .map(|keyed| keyed.node)
}

/// The signing address of a node.
pub fn signer(node: u8) -> Address {
    keyed(node).address
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
    node_of(address).is_some_and(|node| checksum(node, digest) == *signature)
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

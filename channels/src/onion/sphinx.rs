//! The packet: BOLT 4's construction, byte for byte.
//!
//! ```text
//! packet = version u8 (0) · ephemeral key 33 · hops 1300 · HMAC 32
//! hops   = for each hop: length (BigSize) · payload · HMAC of the next packet; each layer encrypted for its hop
//! ```
//!
//! With the secret `s` that a hop shares with the ephemeral key, `key(name) = HMAC-SHA256(name, s)`:
//! `rho` encrypts the hops (ChaCha20, nonce 0), `mu` authenticates hops and associated data. The next ephemeral key is this one
//! times SHA-256(ephemeral key · s). An HMAC of zeros after a payload says that it was the last one.

use crate::message::MAX_ONION_BYTES;
use crate::signing::{HotKey, blind};
use crate::types::PublicKey;
use chacha20::ChaCha20;
use chacha20::cipher::{KeyIvInit, StreamCipher};
use hmac::{Hmac, Mac};
use sha2::{Digest, Sha256};
use std::sync::LazyLock;
use zeroize::Zeroizing;

/// Bytes for all hops.
pub const HOPS_BYTES: usize = 1300;
const HMAC_BYTES: usize = 32;
/// Where the hops begin, behind version and ephemeral key.
const HOPS_START: usize = 34;
const VERSION: u8 = 0;
/// Most bytes of a payload's length.
const LENGTH_BYTES: usize = 3;

/// A secret that two ends of a layer share.
pub type Shared = Zeroizing<[u8; 32]>;

/// A layer that was taken off.
pub struct Peeled {
    /// What the sender says to this hop.
    pub payload: Vec<u8>,
    /// What goes to the next hop; none at the last.
    pub next: Option<Vec<u8>>,
    /// Encrypts failures.
    pub shared: Shared,
}

pub(super) fn mac(key: &[u8], parts: &[&[u8]]) -> Hmac<Sha256> {
    let mut mac =
        <Hmac<Sha256> as Mac>::new_from_slice(key).expect("HMAC takes keys of any length");
    for part in parts {
        mac.update(part);
    }
    mac
}

/// HMAC keyed by the name of a kind of key, ready for the secret: the half of a derivation that is always the same.
type Kind = LazyLock<Hmac<Sha256>>;

static RHO: Kind = LazyLock::new(|| mac(b"rho", &[]));
static MU: Kind = LazyLock::new(|| mac(b"mu", &[]));
static PAD: Kind = LazyLock::new(|| mac(b"pad", &[]));
pub(super) static UM: Kind = LazyLock::new(|| mac(b"um", &[]));
pub(super) static AMMAG: Kind = LazyLock::new(|| mac(b"ammag", &[]));

pub(super) fn derive(kind: &Kind, secret: &[u8; 32]) -> Shared {
    let mut mac = Hmac::clone(kind);
    mac.update(secret);
    Zeroizing::new(mac.finalize().into_bytes().into())
}

fn stream(key: &Shared) -> ChaCha20 {
    ChaCha20::new((&**key).into(), &[0; 12].into())
}

pub(super) fn apply_stream(key: &Shared, bytes: &mut [u8]) {
    stream(key).apply_keystream(bytes);
}

fn blinding(ephemeral: &PublicKey, shared: &Shared) -> [u8; 32] {
    Sha256::new()
        .chain_update(ephemeral.0)
        .chain_update(**shared)
        .finalize()
        .into()
}

/// The secrets that the sender shares with each hop, from its session key, and the first ephemeral key.
/// None if a key is out of range; nobody meets that by chance.
pub fn shared_secrets(session: &[u8; 32], hops: &[PublicKey]) -> Option<Vec<Shared>> {
    exchange(session, hops).map(|(_, secrets)| secrets)
}

/// The first ephemeral key, and the secrets shared with each hop.
fn exchange(session: &[u8; 32], hops: &[PublicKey]) -> Option<(PublicKey, Vec<Shared>)> {
    let mut ephemeral = HotKey::new(*session).ok()?;
    let first = ephemeral.public();
    let mut secrets: Vec<Shared> = Vec::with_capacity(hops.len());
    for hop in hops {
        // A multiplication is most of a payment's cost: none is made that no hop needs.
        if let Some(shared) = secrets.last() {
            ephemeral = ephemeral.blinded(&blinding(&ephemeral.public(), shared))?;
        }
        secrets.push(ephemeral.agree_with_node(hop)?);
    }
    Some((first, secrets))
}

/// A payload as it lies in the packet, without its HMAC.
fn with_length(payload: &[u8]) -> Option<Vec<u8>> {
    let length = u16::try_from(payload.len()).ok()?;
    let mut bytes = match u8::try_from(length).ok().filter(|short| *short < 0xfd) {
        Some(short) => vec![short],
        None => [&[0xfd][..], &length.to_be_bytes()].concat(),
    };
    bytes.extend_from_slice(payload);
    Some(bytes)
}

/// Builds a packet. The session key must never be used twice. None if the payloads do not fit or a key is out of range.
pub fn build(
    session: &[u8; 32],
    hops: &[(PublicKey, Vec<u8>)],
    associated: &[u8],
) -> Option<Vec<u8>> {
    let keys: Vec<PublicKey> = hops.iter().map(|(key, _)| *key).collect();
    let (ephemeral, secrets) = exchange(session, &keys)?;
    let payloads = hops
        .iter()
        .map(|(_, payload)| with_length(payload))
        .collect::<Option<Vec<_>>>()?;
    let sizes = payloads.iter().map(|payload| payload.len() + HMAC_BYTES);
    if hops.is_empty() || sizes.clone().sum::<usize>() > HOPS_BYTES {
        return None;
    }
    let rhos: Vec<Shared> = secrets.iter().map(|secret| derive(&RHO, secret)).collect();
    let filler = filler(&rhos, &sizes.collect::<Vec<_>>());
    let mut packet = vec![0; MAX_ONION_BYTES];
    packet[0] = VERSION;
    packet[1..HOPS_START].copy_from_slice(&ephemeral.0);
    let (mix, hmac) = packet[HOPS_START..].split_at_mut(HOPS_BYTES);
    // What the last hop finds behind its payload tells it nothing, not even how many hops there were.
    apply_stream(&derive(&PAD, session), mix);
    for at in (0..hops.len()).rev() {
        let (payload, end) = (&payloads[at], payloads[at].len() + HMAC_BYTES);
        mix.copy_within(..HOPS_BYTES - end, end);
        mix[..payload.len()].copy_from_slice(payload);
        mix[payload.len()..end].copy_from_slice(hmac);
        apply_stream(&rhos[at], mix);
        if at == hops.len() - 1 {
            mix[HOPS_BYTES - filler.len()..].copy_from_slice(&filler);
        }
        let mu = derive(&MU, &secrets[at]);
        let next = mac(&*mu, &[mix, associated]).finalize().into_bytes();
        hmac.copy_from_slice(&next);
    }
    Some(packet)
}

/// What the zeros that each hop appends have become when they reach the last one.
fn filler(rhos: &[Shared], sizes: &[usize]) -> Vec<u8> {
    let mut filler: Vec<u8> = Vec::new();
    for (rho, size) in rhos.iter().zip(sizes).take(rhos.len().saturating_sub(1)) {
        let start = HOPS_BYTES - filler.len();
        filler.resize(filler.len() + size, 0);
        let mut stream = vec![0; HOPS_BYTES + size];
        apply_stream(rho, &mut stream);
        for (byte, other) in filler.iter_mut().zip(&stream[start..]) {
            *byte ^= other;
        }
    }
    filler
}

/// Takes the layer of `key` off. None if it is not for this key, altered, or bound to something else.
pub fn peel(key: &HotKey, packet: &[u8], associated: &[u8]) -> Option<Peeled> {
    if packet.len() != MAX_ONION_BYTES || packet[0] != VERSION {
        return None;
    }
    let (ephemeral, rest) = packet[1..].split_first_chunk::<33>()?;
    let ephemeral = PublicKey(*ephemeral);
    let (hops, hmac) = rest.split_at(HOPS_BYTES);
    let shared = key.agree(&ephemeral)?;
    // Compares in constant time.
    let mu = derive(&MU, &shared);
    mac(&*mu, &[hops, associated]).verify_slice(hmac).ok()?;
    let mut stream = stream(&derive(&RHO, &shared));
    let mut bytes = hops.to_vec();
    stream.apply_keystream(&mut bytes[..LENGTH_BYTES]);
    let (length, start) = match bytes[0] {
        short @ 0..0xfd => (usize::from(short), 1),
        0xfd => {
            let length = u16::from_be_bytes([bytes[1], bytes[2]]);
            (usize::from(length), 3)
        }
        _ => return None,
    };
    let end = start + length;
    if (start == 3 && length < 0xfd) || end + HMAC_BYTES > HOPS_BYTES {
        return None;
    }
    let read = LENGTH_BYTES.max(end + HMAC_BYTES);
    stream.apply_keystream(&mut bytes[LENGTH_BYTES..read]);
    let payload = bytes[start..end].to_vec();
    let last = bytes[end..end + HMAC_BYTES].iter().all(|byte| *byte == 0);
    let next = if last {
        None
    } else {
        // The next hop's packet is as long: what this layer took is made up by as much of the stream.
        bytes.resize(end + HMAC_BYTES + HOPS_BYTES, 0);
        stream.apply_keystream(&mut bytes[read..]);
        let (next_hmac, next_hops) = bytes[end..].split_at(HMAC_BYTES);
        let next_key = blind(&ephemeral, &blinding(&ephemeral, &shared))?;
        Some([&[VERSION][..], &next_key.0, next_hops, next_hmac].concat())
    };
    Some(Peeled {
        payload,
        next,
        shared,
    })
}

//! Keys: signing digests, verifying against a known key, never recovering one.
//!
//! Only this file and `multiples.rs` name `secp256k1`. Recovery costs five times a verification, and the peer's key is known from
//! the channel's parameters, so `v` says nothing here and a peer could send a wrong one with a good r and s. What goes to the
//! contract therefore passes through [`Keys::for_contract`], which works `v` out again.

mod multiples;

use crate::state::keccak;
use crate::types::{Address, Hash32, PublicKey, Signature};
use multiples::{Multiples, WORTH_IT};
use secp256k1::ecdh::SharedSecret;
use secp256k1::ecdsa::{self, RecoverableSignature, RecoveryId};
use secp256k1::{All, Message, Scalar, Secp256k1, SecretKey};
use std::collections::BTreeMap;
use std::sync::{Arc, LazyLock, Mutex, PoisonError};
use thiserror::Error;
use zeroize::Zeroizing;

static CURVE: LazyLock<Secp256k1<All>> = LazyLock::new(Secp256k1::new);

/// Keys that are met again and again.
static KNOWN: LazyLock<Mutex<BTreeMap<PublicKey, Known>>> = LazyLock::new(Mutex::default);
/// Most keys that are kept.
const MAX_KNOWN: usize = 4096;
/// Most keys whose multiples are kept: 4 MiB.
const MAX_MULTIPLES: usize = 64;

/// What is kept of a key, so that it is worked out once.
struct Known {
    /// To work out y takes a tenth of a verification.
    point: secp256k1::PublicKey,
    /// How often a secret was shared with it.
    agreed: u32,
    multiples: Option<Arc<Multiples>>,
}

/// The point of a key that is met once.
fn point(key: &PublicKey) -> Option<secp256k1::PublicKey> {
    secp256k1::PublicKey::from_byte_array_compressed(key.0).ok()
}

/// Looks at what is kept of a peer's or a node's key. None if it is no key.
fn known<T>(key: &PublicKey, look: impl FnOnce(&mut Known) -> T) -> Option<T> {
    let mut all = KNOWN.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(known) = all.get_mut(key) {
        return Some(look(known));
    }
    let mut new = Known {
        point: point(key)?,
        agreed: 0,
        multiples: None,
    };
    let seen = look(&mut new);
    if all.len() >= MAX_KNOWN {
        all.clear();
    }
    all.insert(*key, new);
    Some(seen)
}

fn known_point(key: &PublicKey) -> Option<secp256k1::PublicKey> {
    known(key, |known| known.point)
}

/// Keeps the multiples of a key. If they are many, the others go: those in use are soon worth it again.
fn keep_multiples(key: &PublicKey, multiples: Multiples) {
    let mut all = KNOWN.lock().unwrap_or_else(PoisonError::into_inner);
    if all
        .values()
        .filter(|known| known.multiples.is_some())
        .count()
        >= MAX_MULTIPLES
    {
        for known in all.values_mut() {
            known.agreed = 0;
            known.multiples = None;
        }
    }
    if let Some(known) = all.get_mut(key) {
        known.multiples = Some(Arc::new(multiples));
    }
}

/// What the machine needs of keys; a pure function of its inputs. The simulator brings a cheaper scheme.
pub trait Keys {
    /// Signs with the holder's key.
    fn sign(&self, digest: &Hash32) -> Signature;
    /// Whether `key` made r and s, with s low as the contract wants it.
    fn verify(&self, key: &PublicKey, digest: &Hash32, signature: &Signature) -> bool;
    /// A verified signature with the `v` that `ecrecover` needs.
    fn for_contract(&self, key: &PublicKey, digest: &Hash32, signature: &Signature) -> Signature;
    /// The address that the contract knows a key by.
    fn address(&self, key: &PublicKey) -> Option<Address>;
}

/// Bytes that are no key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[error("32 bytes that are no secp256k1 secret key")]
pub struct BadSecretKey;

/// A node's hot key.
pub struct HotKey {
    secret: SecretKey,
    public: PublicKey,
}

impl HotKey {
    /// A key from its 32 bytes.
    ///
    /// # Errors
    /// [`BadSecretKey`] for zero and from the curve's order on.
    pub fn new(secret: [u8; 32]) -> Result<Self, BadSecretKey> {
        let secret = SecretKey::from_byte_array(secret).map_err(|_| BadSecretKey)?;
        let public = PublicKey(secret.public_key(&CURVE).serialize());
        Ok(Self { secret, public })
    }

    /// Its public key.
    pub fn public(&self) -> PublicKey {
        self.public
    }

    /// What this key and another have in common: SHA-256 of the compressed point of ECDH. None if the other is no key.
    pub fn agree(&self, other: &PublicKey) -> Option<Zeroizing<[u8; 32]>> {
        point(other).map(|other| self.agree_on(&other))
    }

    /// As [`Self::agree`], with the key of a node, which is met again.
    pub fn agree_with_node(&self, node: &PublicKey) -> Option<Zeroizing<[u8; 32]>> {
        let (point, agreed, multiples) = known(node, |known| {
            known.agreed = known.agreed.saturating_add(1);
            (known.point, known.agreed, known.multiples.clone())
        })?;
        if agreed == WORTH_IT
            && let Some(multiples) = Multiples::of(&point)
        {
            keep_multiples(node, multiples);
        }
        multiples
            .and_then(|multiples| multiples.agree(&self.secret))
            .or_else(|| Some(self.agree_on(&point)))
    }

    fn agree_on(&self, other: &secp256k1::PublicKey) -> Zeroizing<[u8; 32]> {
        let shared = SharedSecret::new(other, &self.secret);
        Zeroizing::new(shared.secret_bytes())
    }

    /// This key times a factor. None for a factor that is zero or not below the order.
    pub fn blinded(&self, factor: &[u8; 32]) -> Option<Self> {
        let factor = Scalar::from_be_bytes(*factor).ok()?;
        let secret = self.secret.mul_tweak(&factor).ok()?;
        Self::new(secret.secret_bytes()).ok()
    }
}

impl Drop for HotKey {
    fn drop(&mut self) {
        self.secret.non_secure_erase();
    }
}

/// A public key times a factor. None if either is out of range.
pub fn blind(key: &PublicKey, factor: &[u8; 32]) -> Option<PublicKey> {
    let key = point(key)?;
    let factor = Scalar::from_be_bytes(*factor).ok()?;
    let blinded = key.mul_tweak(&CURVE, &factor).ok()?;
    Some(PublicKey(blinded.serialize()))
}

impl Keys for HotKey {
    fn sign(&self, digest: &Hash32) -> Signature {
        let message = Message::from_digest(digest.0);
        let (id, rs) = CURVE
            .sign_ecdsa_recoverable(message, &self.secret)
            .serialize_compact();
        let mut bytes = [0; 65];
        bytes[..64].copy_from_slice(&rs);
        bytes[64] = 27 + u8::from(id != RecoveryId::Zero);
        Signature(bytes)
    }

    fn verify(&self, key: &PublicKey, digest: &Hash32, signature: &Signature) -> bool {
        verify(key, digest, signature)
    }

    fn for_contract(&self, key: &PublicKey, digest: &Hash32, signature: &Signature) -> Signature {
        for_contract(key, digest, signature)
    }

    fn address(&self, key: &PublicKey) -> Option<Address> {
        address(key)
    }
}

/// Whether `key` made r and s. High s is refused, as the contract refuses it; `v` is not looked at.
pub fn verify(key: &PublicKey, digest: &Hash32, signature: &Signature) -> bool {
    let Some(key) = known_point(key) else {
        return false;
    };
    let Ok(parsed) = ecdsa::Signature::from_compact(rs(signature)) else {
        return false;
    };
    // libsecp256k1 verifies low s only.
    CURVE
        .verify_ecdsa(Message::from_digest(digest.0), &parsed, &key)
        .is_ok()
}

/// A verified signature with the `v` that `ecrecover` needs.
pub fn for_contract(key: &PublicKey, digest: &Hash32, signature: &Signature) -> Signature {
    let mut fixed = *signature;
    fixed.0[64] = 27;
    if recover(digest, &fixed) != address(key) {
        fixed.0[64] = 28;
    }
    fixed
}

fn rs(signature: &Signature) -> &[u8; 64] {
    signature.0.first_chunk().expect("a signature has 65 bytes")
}

fn recovery_id(signature: &Signature) -> Option<RecoveryId> {
    match signature.0[64] {
        27 => Some(RecoveryId::Zero),
        28 => Some(RecoveryId::One),
        _ => None,
    }
}

/// The address of a compressed key.
pub fn address(key: &PublicKey) -> Option<Address> {
    let key = known_point(key)?;
    let hash = keccak(&key.serialize_uncompressed()[1..]);
    hash.last_chunk().copied().map(Address)
}

/// Who signed, as the contract's `ecrecover` sees it: for tests and tools, not for the hot path.
pub fn recover(digest: &Hash32, signature: &Signature) -> Option<Address> {
    let parsed = RecoverableSignature::from_compact(rs(signature), recovery_id(signature)?).ok()?;
    let key = CURVE
        .recover_ecdsa(Message::from_digest(digest.0), &parsed)
        .ok()?;
    address(&PublicKey(key.serialize()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_signature_verifies_against_its_key_and_digest_only() {
        let key = HotKey::new([1; 32]).unwrap();
        let other = HotKey::new([2; 32]).unwrap();
        let digest = Hash32([9; 32]);
        let signature = key.sign(&digest);
        assert!(verify(&key.public(), &digest, &signature));
        assert!(!verify(&other.public(), &digest, &signature));
        assert!(!verify(&key.public(), &Hash32([8; 32]), &signature));
        assert_eq!(recover(&digest, &signature), address(&key.public()));
    }

    #[test]
    fn high_s_is_refused_and_a_wrong_v_is_mended() {
        // n − s: the twin signature that ecrecover would take as well.
        const ORDER: [u8; 32] = [
            0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff,
            0xff, 0xfe, 0xba, 0xae, 0xdc, 0xe6, 0xaf, 0x48, 0xa0, 0x3b, 0xbf, 0xd2, 0x5e, 0x8c,
            0xd0, 0x36, 0x41, 0x41,
        ];
        let key = HotKey::new([1; 32]).unwrap();
        let digest = Hash32([9; 32]);
        let mut high = key.sign(&digest);
        let mut borrow = 0i16;
        for at in (0..32).rev() {
            let difference = i16::from(ORDER[at]) - i16::from(high.0[32 + at]) - borrow;
            borrow = i16::from(difference < 0);
            high.0[32 + at] = difference.rem_euclid(256) as u8;
        }
        high.0[64] ^= 27 ^ 28;
        assert!(!verify(&key.public(), &digest, &high));
        let good = key.sign(&digest);
        let mut strange = good;
        strange.0[64] ^= 27 ^ 28;
        assert!(verify(&key.public(), &digest, &strange));
        assert_ne!(recover(&digest, &strange), address(&key.public()));
        assert_eq!(for_contract(&key.public(), &digest, &strange), good);
    }

    #[test]
    fn a_node_that_is_met_often_shares_the_same_secret() {
        let node = HotKey::new([77; 32]).unwrap();
        for met in 0..=WORTH_IT + 1 {
            let mut session = [3; 32];
            session[..4].copy_from_slice(&met.to_be_bytes());
            let session = HotKey::new(session).unwrap();
            let shared = session.agree_with_node(&node.public());
            assert_eq!(shared, node.agree(&session.public()), "time {met}");
        }
        let kept = known(&node.public(), |known| known.multiples.is_some());
        assert_eq!(kept, Some(true));
        // The one secret that has no digits goes the usual way.
        let session = HotKey::new([0x11; 32]).unwrap();
        let shared = session.agree_with_node(&node.public());
        assert_eq!(shared, node.agree(&session.public()));
    }

    #[test]
    fn zero_is_no_key() {
        assert_eq!(HotKey::new([0; 32]).err(), Some(BadSecretKey));
    }

    #[test]
    fn the_address_is_the_one_ethereum_knows() {
        // The first account of the development mnemonic "test test ... junk".
        let secret =
            hex::decode("ac0974bec39a17e36ba4a6b4d238ff944bacb478cbed5efcae784d7bf4f2ff80")
                .unwrap();
        let key = HotKey::new(secret.try_into().unwrap()).unwrap();
        assert_eq!(
            address(&key.public()).unwrap().to_string(),
            "0xf39fd6e51aad88f6f4ce6ab8827279cfffb92266"
        );
    }
}

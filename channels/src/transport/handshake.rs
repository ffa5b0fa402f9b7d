//! Who is there: Noise XX, and in its encrypted payloads each side's proof of its node key.
//!
//! ```text
//! -> e                              length u16 (32)  · ephemeral key
//! <- e, ee, s, es, proof            length u16 (194) · …
//! -> s, se, proof                   length u16 (162) · …
//! proof = node key 33 · signature 65 over keccak256("Millrace transport v1" · role u8 · handshake hash 32 · static key 32)
//! ```
//!
//! `Noise_XX_25519_ChaChaPoly_SHA256` with [`PROLOGUE`]. The role is 1 for the dialler and 2 for the other; the handshake hash is
//! Noise's `h` just before the message that carries the proof, the static key is the prover's. *The hash holds the other side's
//! fresh ephemeral key, so a recorded proof is worth nothing in another handshake, and static keys need not be kept: each connection
//! makes its own.* The dialler checks the key that it expects before it shows its own.

use crate::signing::{self, HotKey, Keys};
use crate::state::keccak;
use crate::types::{Hash32, PublicKey, Signature};
use snow::{Builder, HandshakeState, StatelessTransportState};
use std::io;
use thiserror::Error;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};

const PATTERN: &str = "Noise_XX_25519_ChaChaPoly_SHA256";
/// Another version of the transport has another prologue, so the two do not understand each other.
pub const PROLOGUE: &[u8] = b"Millrace transport v1";
const PROOF_BYTES: usize = 33 + 65;
/// Ephemeral key.
const FIRST_BYTES: usize = 32;
/// Ephemeral key, encrypted static key, encrypted proof.
const SECOND_BYTES: usize = 32 + 48 + PROOF_BYTES + 16;
/// Encrypted static key, encrypted proof.
const THIRD_BYTES: usize = 48 + PROOF_BYTES + 16;

/// Why a handshake failed. Nobody is connected then.
#[derive(Debug, Error)]
pub enum HandshakeError {
    /// The connection broke.
    #[error("the connection broke during the handshake: {0}")]
    Io(#[from] io::Error),
    /// A message of another length than the pattern has.
    #[error("a handshake message of {found} bytes, {expected} belong there")]
    Length {
        /// The pattern's.
        expected: usize,
        /// What came.
        found: usize,
    },
    /// Noise refuses: altered bytes, or another protocol or version.
    #[error("the handshake does not decrypt: altered, or another protocol")]
    Noise(#[from] snow::Error),
    /// The signature is not the named key's over this handshake.
    #[error("the peer does not prove its key {0}")]
    Proof(PublicKey),
    /// Somebody else answers at the address.
    #[error("key {found} answers where {expected} is expected")]
    Stranger {
        /// Who was dialled.
        expected: PublicKey,
        /// Who answered.
        found: PublicKey,
    },
    /// We talk to ourselves.
    #[error("the peer has this node's own key")]
    Own,
}

#[derive(Clone, Copy)]
enum Role {
    Dialler = 1,
    Listener = 2,
}

/// A peer that has proven its key, and the cipher for its connection.
pub struct Authenticated {
    /// Who it is.
    pub peer: PublicKey,
    /// Encrypts and decrypts by explicit message numbers.
    pub cipher: StatelessTransportState,
}

/// Dials `expected`: an answer by anybody else is refused.
///
/// # Errors
/// [`HandshakeError`].
pub async fn dial<S>(
    stream: &mut S,
    key: &HotKey,
    expected: PublicKey,
) -> Result<Authenticated, HandshakeError>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let (builder, own_static) = builder()?;
    let mut noise = builder
        .local_private_key(&own_static.private)?
        .build_initiator()?;
    write(stream, &mut noise, &[]).await?;
    let before = hash(&noise);
    let proof = read::<SECOND_BYTES, _>(stream, &mut noise).await?;
    let peer = check_proof(Role::Listener, &before, &noise, &proof)?;
    if peer != expected {
        return Err(HandshakeError::Stranger {
            expected,
            found: peer,
        });
    }
    let proof = prove(key, Role::Dialler, &hash(&noise), &own_static.public);
    write(stream, &mut noise, &proof).await?;
    let cipher = noise.into_stateless_transport_mode()?;
    Ok(Authenticated { peer, cipher })
}

/// Answers a dialler.
///
/// # Errors
/// [`HandshakeError`].
pub async fn accept<S>(stream: &mut S, key: &HotKey) -> Result<Authenticated, HandshakeError>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let (builder, own_static) = builder()?;
    let mut noise = builder
        .local_private_key(&own_static.private)?
        .build_responder()?;
    read::<FIRST_BYTES, _>(stream, &mut noise).await?;
    let proof = prove(key, Role::Listener, &hash(&noise), &own_static.public);
    write(stream, &mut noise, &proof).await?;
    let before = hash(&noise);
    let proof = read::<THIRD_BYTES, _>(stream, &mut noise).await?;
    let peer = check_proof(Role::Dialler, &before, &noise, &proof)?;
    if peer == key.public() {
        return Err(HandshakeError::Own);
    }
    let cipher = noise.into_stateless_transport_mode()?;
    Ok(Authenticated { peer, cipher })
}

fn builder() -> Result<(Builder<'static>, snow::Keypair), snow::Error> {
    let builder = Builder::new(PATTERN.parse()?);
    let pair = builder.generate_keypair()?;
    Ok((builder.prologue(PROLOGUE)?, pair))
}

fn hash(noise: &HandshakeState) -> [u8; 32] {
    *noise
        .get_handshake_hash()
        .first_chunk()
        .expect("SHA-256 has 32 bytes")
}

async fn write<S: AsyncWrite + Unpin>(
    stream: &mut S,
    noise: &mut HandshakeState,
    payload: &[u8],
) -> Result<(), HandshakeError> {
    let mut message = [0; 2 + SECOND_BYTES];
    let length = noise.write_message(payload, &mut message[2..])?;
    message[..2].copy_from_slice(&(length as u16).to_be_bytes());
    stream.write_all(&message[..2 + length]).await?;
    Ok(stream.flush().await?)
}

/// Reads a message of `LENGTH` bytes and gives its payload; empty but for a proof.
async fn read<const LENGTH: usize, S: AsyncRead + Unpin>(
    stream: &mut S,
    noise: &mut HandshakeState,
) -> Result<Vec<u8>, HandshakeError> {
    let found = usize::from(stream.read_u16().await?);
    if found != LENGTH {
        return Err(HandshakeError::Length {
            expected: LENGTH,
            found,
        });
    }
    let mut message = [0; LENGTH];
    stream.read_exact(&mut message).await?;
    let mut payload = vec![0; LENGTH];
    let length = noise.read_message(&message, &mut payload)?;
    payload.truncate(length);
    Ok(payload)
}

fn digest(role: Role, handshake: &[u8; 32], static_key: &[u8]) -> Hash32 {
    let mut bytes = PROLOGUE.to_vec();
    bytes.push(role as u8);
    bytes.extend_from_slice(handshake);
    bytes.extend_from_slice(static_key);
    Hash32(keccak(&bytes))
}

fn prove(key: &HotKey, role: Role, handshake: &[u8; 32], own_static: &[u8]) -> Vec<u8> {
    let mut proof = key.public().0.to_vec();
    proof.extend_from_slice(&key.sign(&digest(role, handshake, own_static)).0);
    proof
}

fn check_proof(
    role: Role,
    handshake: &[u8; 32],
    noise: &HandshakeState,
    proof: &[u8],
) -> Result<PublicKey, HandshakeError> {
    let parts = proof.split_first_chunk::<33>();
    let (key, signature) = parts
        .and_then(|(key, rest)| Some((PublicKey(*key), Signature(*rest.first_chunk::<65>()?))))
        .ok_or(HandshakeError::Length {
            expected: PROOF_BYTES,
            found: proof.len(),
        })?;
    let their_static = noise.get_remote_static().unwrap_or_default();
    if signing::verify(&key, &digest(role, handshake, their_static), &signature) {
        Ok(key)
    } else {
        Err(HandshakeError::Proof(key))
    }
}

//! Numbers and names with a meaning: amounts, versions, times, hashes, addresses.
//!
//! Everything here is plain data with canonical bytes; nothing decides anything.

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use std::fmt;
use thiserror::Error;

/// Amounts stay below 2^100, so sums of all locks and payments fit in 112 bits and their differences in 128.
pub const AMOUNT_LIMIT: u128 = 1 << 100;
/// Lifetime turnover of one side stays below 2^112: the width of the contract's counter.
pub const PAID_LIMIT: u128 = 1 << 112;

/// An amount that leaves its range.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[error("amount {0} is not below 2^100")]
pub struct AmountTooLarge(pub u128);

/// Units of a channel's token, below 2^100.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize,
)]
#[serde(try_from = "u128", into = "u128")]
pub struct Amount(u128);

impl Amount {
    /// Nothing.
    pub const ZERO: Self = Self(0);

    /// An amount in range.
    ///
    /// # Errors
    /// [`AmountTooLarge`] from 2^100 on.
    pub const fn new(units: u128) -> Result<Self, AmountTooLarge> {
        if units < AMOUNT_LIMIT {
            Ok(Self(units))
        } else {
            Err(AmountTooLarge(units))
        }
    }

    /// Units of the token.
    pub const fn get(self) -> u128 {
        self.0
    }

    /// The sum, if it is in range.
    pub fn checked_add(self, other: Self) -> Option<Self> {
        Self::new(self.0 + other.0).ok()
    }
}

impl TryFrom<u128> for Amount {
    type Error = AmountTooLarge;

    fn try_from(units: u128) -> Result<Self, AmountTooLarge> {
        Self::new(units)
    }
}

impl From<Amount> for u128 {
    fn from(amount: Amount) -> Self {
        amount.0
    }
}

impl fmt::Display for Amount {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// Counter of one half; the higher wins. Version 0 is the zero half.
pub type Version = u64;

/// Seconds since 1970, as the L1 counts them.
pub type Timestamp = u64;

macro_rules! bytes {
    ($(#[$doc:meta])* $name:ident, $length:literal) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        pub struct $name(#[serde(with = "fixed_bytes")] pub [u8; $length]);

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "0x{}", hex::encode(self.0))
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{self}")
            }
        }
    };
}

/// Byte strings of a fixed length: as they are in binary formats.
mod fixed_bytes {
    use serde::de::{Error, SeqAccess, Visitor};
    use serde::ser::SerializeTuple;
    use serde::{Deserializer, Serializer};
    use std::fmt;

    pub fn serialize<S: Serializer, const N: usize>(
        bytes: &[u8; N],
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        let mut tuple = serializer.serialize_tuple(N)?;
        for byte in bytes {
            tuple.serialize_element(byte)?;
        }
        tuple.end()
    }

    pub fn deserialize<'de, D: Deserializer<'de>, const N: usize>(
        deserializer: D,
    ) -> Result<[u8; N], D::Error> {
        struct Bytes<const N: usize>;
        impl<'de, const N: usize> Visitor<'de> for Bytes<N> {
            type Value = [u8; N];

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{N} bytes")
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<[u8; N], A::Error> {
                let mut bytes = [0; N];
                for (at, byte) in bytes.iter_mut().enumerate() {
                    *byte = seq
                        .next_element()?
                        .ok_or_else(|| A::Error::invalid_length(at, &self))?;
                }
                Ok(bytes)
            }
        }
        deserializer.deserialize_tuple(N, Bytes)
    }
}

bytes!(
    /// A channel: keccak of the contract's domain and the channel's parameters.
    ChannelId,
    32
);
bytes!(
    /// An address on L1.
    Address,
    20
);
bytes!(
    /// SHA-256 of a preimage.
    PaymentHash,
    32
);
bytes!(
    /// Root of a lock list: keccak of its packed bytes; zero for an empty list.
    LockRoot,
    32
);
bytes!(
    /// What EIP-712 has us sign.
    Hash32,
    32
);
bytes!(
    /// A secp256k1 public key, compressed. A peer is named by its key.
    PublicKey,
    33
);
bytes!(
    /// A signature: r, s (low), v (27 or 28), as the contract reads it.
    Signature,
    65
);

impl Address {
    /// Ether, where a token is named; nobody, where a person is.
    pub const ZERO: Self = Self([0; 20]);
}

impl LockRoot {
    /// Root of the empty list.
    pub const EMPTY: Self = Self([0; 32]);
}

/// The secret that settles a payment.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Preimage(pub [u8; 32]);

impl Preimage {
    /// Its hash.
    pub fn hash(&self) -> PaymentHash {
        PaymentHash(Sha256::digest(self.0).into())
    }
}

/// Secrets do not show themselves.
impl fmt::Debug for Preimage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Preimage(of {})", self.hash())
    }
}

/// A side of a channel.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Side {
    /// `signerA`.
    A,
    /// `signerB`.
    B,
}

impl Side {
    /// The counterparty's side.
    pub const fn other(self) -> Self {
        match self {
            Self::A => Self::B,
            Self::B => Self::A,
        }
    }
}

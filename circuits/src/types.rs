//! Plain protocol types. Each range lives in its type, so that holding a value proves it fits its field.

use ark_bn254::Fr;
use serde::{Deserialize, Serialize};
use std::fmt;
use thiserror::Error;

/// Levels of the state tree; each has four children, so indices are 24 bits.
pub const TREE_DEPTH: usize = 12;
/// Number of leaves, one of which (index 0) is never used.
pub const TREE_CAPACITY: u32 = 1 << (2 * TREE_DEPTH);
/// What a forced exit adds to a nonce: more than any wallet signs ahead, so that it voids what was signed before.
pub const FORCED_EXIT_NONCE_STEP: u64 = 1 << 16;

/// A number that does not fit its protocol field.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[error("{what} {value} is out of range: it must be below {limit}")]
pub struct OutOfRange {
    /// The field's name.
    pub what: &'static str,
    /// The offending value.
    pub value: u128,
    /// The first value that is too large.
    pub limit: u128,
}

macro_rules! ranged {
    ($(#[$doc:meta])* $name:ident($inner:ty) < $limit:expr, $what:literal) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize)]
        #[serde(try_from = "u64", into = "u64")]
        pub struct $name($inner);

        impl $name {
            /// The zero value.
            pub const ZERO: Self = Self(0);
            /// The first value out of range.
            pub const LIMIT: u64 = $limit;

            /// Checks the range.
            ///
            /// # Errors
            /// [`OutOfRange`] at [`Self::LIMIT`] or above.
            pub const fn new(value: u64) -> Result<Self, OutOfRange> {
                if value < Self::LIMIT {
                    Ok(Self(value as $inner))
                } else {
                    Err(OutOfRange { what: $what, value: value as u128, limit: Self::LIMIT as u128 })
                }
            }

            /// The plain number.
            pub const fn get(self) -> u64 {
                self.0 as u64
            }

            /// Whether it is zero.
            pub const fn is_zero(self) -> bool {
                self.0 == 0
            }
        }

        impl TryFrom<u64> for $name {
            type Error = OutOfRange;
            fn try_from(value: u64) -> Result<Self, OutOfRange> {
                Self::new(value)
            }
        }

        impl From<$name> for u64 {
            fn from(value: $name) -> u64 {
                value.get()
            }
        }

        impl From<$name> for Fr {
            fn from(value: $name) -> Fr {
                Fr::from(value.get())
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.fmt(f)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, concat!(stringify!($name), "({})"), self.0)
            }
        }
    };
}

ranged! {
    /// Position of an account's leaf, 24 bits. Index 0 is never used: it stands for "none".
    AccountIndex(u32) < TREE_CAPACITY as u64, "account index"
}
ranged! {
    /// A token's number: 0 is ETH, ERC-20s count from 1 in the order of registration.
    TokenId(u32) < 1 << 32, "token"
}
ranged! {
    /// Operations that an account has signed so far, 40 bits.
    Nonce(u64) < 1 << 40, "nonce"
}

impl Nonce {
    /// The nonce after one signed operation, or `None` at the last one.
    pub fn next(self) -> Option<Self> {
        Self::new(self.0 + 1).ok()
    }

    /// The nonce after a forced exit: 2^16 further, or unchanged where that would leave the range.
    pub fn after_forced_exit(self) -> Self {
        Self::new(self.0 + FORCED_EXIT_NONCE_STEP).unwrap_or(self)
    }
}

/// An amount in the token's smallest unit. JSON carries it as decimal text, because it exceeds JavaScript's integers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Amount(pub u128);

impl Amount {
    /// Nothing.
    pub const ZERO: Self = Self(0);

    /// The sum, unless it leaves 128 bits.
    pub fn checked_add(self, other: Self) -> Option<Self> {
        self.0.checked_add(other.0).map(Self)
    }

    /// The difference, unless it is negative.
    pub fn checked_sub(self, other: Self) -> Option<Self> {
        self.0.checked_sub(other.0).map(Self)
    }

    /// Whether it is nothing.
    pub fn is_zero(self) -> bool {
        self.0 == 0
    }
}

impl From<Amount> for Fr {
    fn from(amount: Amount) -> Fr {
        Fr::from(amount.0)
    }
}

impl fmt::Display for Amount {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl Serialize for Amount {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        if serializer.is_human_readable() {
            serializer.collect_str(&self.0)
        } else {
            self.0.serialize(serializer)
        }
    }
}

impl<'de> Deserialize<'de> for Amount {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        if deserializer.is_human_readable() {
            let text = String::deserialize(deserializer)?;
            // `parse` also takes a plus sign: two texts of one amount.
            let digits = text.bytes().all(|byte| byte.is_ascii_digit());
            let amount = text.parse().ok().filter(|_| digits);
            amount.map(Self).ok_or_else(|| {
                serde::de::Error::custom("amount must be decimal text of a number below 2^128")
            })
        } else {
            u128::deserialize(deserializer).map(Self)
        }
    }
}

/// A batch's number, from 1; the contract starts at 0 proven batches.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize,
)]
#[serde(transparent)]
pub struct BatchNumber(pub u64);

impl fmt::Display for BatchNumber {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// Unix seconds.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize,
)]
#[serde(transparent)]
pub struct Timestamp(pub u64);

impl From<Timestamp> for Fr {
    fn from(timestamp: Timestamp) -> Fr {
        Fr::from(timestamp.0)
    }
}

/// A 20-byte L1 account or contract address.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct L1Address(pub [u8; 20]);

impl L1Address {
    /// The address as an integer, which is how the protocol hashes it.
    pub fn to_word(self) -> Fr {
        let mut bytes = [0; 32];
        bytes[12..].copy_from_slice(&self.0);
        crate::field::from_bytes_reduced(&bytes)
    }
}

impl fmt::Display for L1Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "0x{}", hex::encode(self.0))
    }
}

impl fmt::Debug for L1Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl std::str::FromStr for L1Address {
    type Err = hex::FromHexError;
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let mut bytes = [0; 20];
        hex::decode_to_slice(text.strip_prefix("0x").unwrap_or(text), &mut bytes)?;
        Ok(Self(bytes))
    }
}

impl Serialize for L1Address {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        if serializer.is_human_readable() {
            serializer.collect_str(self)
        } else {
            self.0.serialize(serializer)
        }
    }
}

impl<'de> Deserialize<'de> for L1Address {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        if deserializer.is_human_readable() {
            String::deserialize(deserializer)?
                .parse()
                .map_err(serde::de::Error::custom)
        } else {
            <[u8; 20]>::deserialize(deserializer).map(Self)
        }
    }
}

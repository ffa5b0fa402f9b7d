//! Accounts: one leaf is one balance of one token for one owner.
//!
//! key, L1 address → [`Owner`] → [`Account`] → leaf → state tree

use crate::babyjubjub::PublicKey;
use crate::field::{self, power_of_two, serde_word};
use crate::poseidon;
use crate::types::{Amount, L1Address, Nonce, TokenId};
use ark_bn254::Fr;
use ark_ff::Zero;
use bech32::{Bech32m, Hrp};
use serde::{Deserialize, Serialize};
use std::{fmt, str::FromStr};
use thiserror::Error;

/// Prefix of payment addresses.
pub const ADDRESS_PREFIX: &str = "mlr";

/// A payment address: Poseidon3(L1 address, A.x, A.y). The key spends; the L1 address forces exits and receives what leaves.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Owner(pub Fr);

/// Why a text is no payment address.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum AddressError {
    /// The text is no bech32m string, or its checksum fails.
    #[error("not a payment address ({0}): check for a typing error")]
    Encoding(String),
    /// Another kind of bech32m string.
    #[error("prefix {0:?} is not a payment address: it starts with \"mlr1\"")]
    Prefix(String),
    /// The payload is no word.
    #[error("not a payment address: its payload is no canonical 32-byte field element")]
    Payload,
}

impl Owner {
    /// The owner of this key and L1 address.
    pub fn new(l1_address: L1Address, key: &PublicKey) -> Self {
        Self(poseidon::hash([l1_address.to_word(), key.x, key.y]))
    }
}

impl fmt::Display for Owner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let prefix = Hrp::parse(ADDRESS_PREFIX).expect("the prefix is lower-case ASCII");
        let text = bech32::encode::<Bech32m>(prefix, &field::to_bytes(&self.0))
            .expect("32 bytes are within bech32m's length limit");
        f.write_str(&text)
    }
}

impl fmt::Debug for Owner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl FromStr for Owner {
    type Err = AddressError;
    fn from_str(text: &str) -> Result<Self, AddressError> {
        let checked = bech32::primitives::decode::CheckedHrpstring::new::<Bech32m>(text)
            .map_err(|error| AddressError::Encoding(error.to_string()))?;
        if checked.hrp().to_lowercase() != ADDRESS_PREFIX {
            return Err(AddressError::Prefix(checked.hrp().to_string()));
        }
        let bytes: Vec<u8> = checked.byte_iter().collect();
        let bytes = <[u8; 32]>::try_from(bytes).map_err(|_| AddressError::Payload)?;
        field::from_bytes(&bytes)
            .map(Self)
            .map_err(|_| AddressError::Payload)
    }
}

impl Serialize for Owner {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        if serializer.is_human_readable() {
            serializer.collect_str(self)
        } else {
            serde_word::serialize(&self.0, serializer)
        }
    }
}

impl<'de> Deserialize<'de> for Owner {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        if deserializer.is_human_readable() {
            String::deserialize(deserializer)?
                .parse()
                .map_err(serde::de::Error::custom)
        } else {
            serde_word::deserialize(deserializer).map(Self)
        }
    }
}

/// One balance of one token for one owner.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Account {
    /// Who may spend it.
    pub owner: Owner,
    /// What it holds.
    pub token: TokenId,
    /// Operations signed so far.
    pub nonce: Nonce,
    /// How much it holds.
    pub balance: Amount,
}

impl Account {
    /// A fresh account, as a deposit or transfer creates it.
    pub fn new(owner: Owner, token: TokenId, balance: Amount) -> Self {
        Self {
            owner,
            token,
            nonce: Nonce::ZERO,
            balance,
        }
    }

    /// leaf = Poseidon3(owner, token + nonce·2^32, balance).
    pub fn leaf(&self) -> Fr {
        let packed = Fr::from(self.token) + Fr::from(self.nonce) * power_of_two(32);
        poseidon::hash([self.owner.0, packed, self.balance.into()])
    }
}

/// The leaf of an account, or of none: 0.
pub fn leaf(account: Option<&Account>) -> Fr {
    account.map_or(Fr::zero(), Account::leaf)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn payment_addresses_survive_a_round_trip_and_refuse_a_changed_character() {
        let owner = Owner(Fr::from(1234567u64));
        let text = owner.to_string();
        assert!(text.starts_with("mlr1"));
        assert_eq!(text.parse::<Owner>().unwrap(), owner);
        let last = if text.ends_with('q') { 'p' } else { 'q' };
        let altered = format!("{}{last}", &text[..text.len() - 1]);
        assert!(matches!(
            altered.parse::<Owner>(),
            Err(AddressError::Encoding(_))
        ));
    }

    #[test]
    fn an_address_at_or_above_the_modulus_is_refused() {
        let prefix = Hrp::parse(ADDRESS_PREFIX).unwrap();
        let text = bech32::encode::<Bech32m>(prefix, &[0xff; 32]).unwrap();
        assert_eq!(text.parse::<Owner>(), Err(AddressError::Payload));
        let other = bech32::encode::<Bech32m>(Hrp::parse("bc").unwrap(), &[0; 32]).unwrap();
        assert!(matches!(
            other.parse::<Owner>(),
            Err(AddressError::Prefix(_))
        ));
    }
}

//! What users sign: a Transfer or a Withdraw of one account, for one domain, until a time.
//!
//! fields → w0, w1, recipient → core → message M → EdDSA signature

use crate::account::Owner;
use crate::amount::{FeeCode, Float40};
use crate::babyjubjub::PublicKey;
use crate::eddsa::{self, SecretKey, Signature};
use crate::field::{self, Word, power_of_two};
use crate::poseidon;
use crate::types::{AccountIndex, Amount, L1Address, Nonce, Timestamp, TokenId};
use ark_bn254::Fr;
use ark_ff::Zero;
use serde::{Deserialize, Serialize};
use sha3::{Digest, Keccak256};
use std::fmt;

/// Kind number of a deposit in an L1 row.
pub const KIND_DEPOSIT: u64 = 1;
/// Kind number of a forced exit in an L1 row.
pub const KIND_FORCED_EXIT: u64 = 2;
/// Kind number that a Transfer signs.
pub const KIND_TRANSFER: u64 = 3;
/// Kind number that a Withdraw signs.
pub const KIND_WITHDRAW: u64 = 4;

/// What makes a signature valid on one contract of one chain only.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Domain(pub Word);

impl Domain {
    /// keccak256(abi.encode("millrace-rollup-1", chain id, contract)) >> 8.
    pub fn new(chain_id: u64, contract: L1Address) -> Self {
        const NAME: &[u8] = b"millrace-rollup-1";
        let mut encoded = [0u8; 160];
        encoded[31] = 96; // the string's data follows the three head words
        encoded[56..64].copy_from_slice(&chain_id.to_be_bytes());
        encoded[76..96].copy_from_slice(&contract.0);
        encoded[127] = NAME.len() as u8;
        encoded[128..128 + NAME.len()].copy_from_slice(NAME);
        let digest: [u8; 32] = Keccak256::digest(encoded).into();
        let mut shifted = [0; 32];
        shifted[1..].copy_from_slice(&digest[..31]);
        Self(Word(field::from_bytes_reduced(&shifted)))
    }
}

/// What a transaction does with its amount.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Action {
    /// Credits a leaf of this owner, an existing or a new one.
    Transfer {
        /// Who receives.
        recipient: Owner,
        /// How much, as the code that is signed and posted.
        amount: Float40,
    },
    /// Leaves the rollup to the L1 address in the sender's owner.
    Withdraw {
        /// How much.
        amount: Amount,
    },
}

/// An operation that an account's key authorises.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Transaction {
    /// The account that pays.
    pub from: AccountIndex,
    /// Its nonce.
    pub nonce: Nonce,
    /// Its token.
    pub token: TokenId,
    /// What the operator earns, in the same token.
    pub fee: FeeCode,
    /// Transfer or Withdraw.
    pub action: Action,
    /// 0, or the core of the other transaction of the pair: both happen or none.
    pub link: Word,
    /// Last batch timestamp at which it is valid.
    pub valid_until: Timestamp,
}

impl Transaction {
    /// The kind number that is signed.
    pub fn kind(&self) -> u64 {
        match self.action {
            Action::Transfer { .. } => KIND_TRANSFER,
            Action::Withdraw { .. } => KIND_WITHDRAW,
        }
    }

    /// The amount's value, or `None` where its code states 2^128 or more.
    pub fn amount(&self) -> Option<Amount> {
        match self.action {
            Action::Transfer { amount, .. } => amount.value(),
            Action::Withdraw { amount } => Some(amount),
        }
    }

    /// w0 = kind + from·2^8 + nonce·2^32 + fee code·2^72 + token·2^80.
    pub fn head_word(&self) -> Fr {
        Fr::from(self.kind())
            + Fr::from(self.from) * power_of_two(8)
            + Fr::from(self.nonce) * power_of_two(32)
            + Fr::from(self.fee.code()) * power_of_two(72)
            + Fr::from(self.token) * power_of_two(80)
    }

    /// core = Poseidon3(w0, w1, recipient): what a linked transaction names.
    pub fn core(&self) -> Fr {
        let (amount, recipient) = match self.action {
            Action::Transfer { recipient, amount } => (Fr::from(amount.code()), recipient.0),
            Action::Withdraw { amount } => (amount.into(), Fr::zero()),
        };
        poseidon::hash([self.head_word(), amount, recipient])
    }

    /// M = Poseidon4(domain, core, link, valid_until): what is signed.
    pub fn message(&self, domain: &Domain) -> Fr {
        poseidon::hash([
            domain.0.0,
            self.core(),
            self.link.0,
            self.valid_until.into(),
        ])
    }

    /// Signs with the key of `from`.
    pub fn sign(
        self,
        domain: &Domain,
        l1_address: L1Address,
        key: &SecretKey,
    ) -> SignedTransaction {
        let signature = key.sign(self.message(domain));
        SignedTransaction {
            transaction: self,
            l1_address,
            key: key.public_key(),
            signature,
        }
    }
}

/// A transaction with its signature and the preimage of the sender's owner.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct SignedTransaction {
    /// What is signed.
    pub transaction: Transaction,
    /// L1 address in the owner of `from`.
    pub l1_address: L1Address,
    /// Key in the owner of `from`.
    pub key: PublicKey,
    /// EdDSA-Poseidon signature of the message.
    pub signature: Signature,
}

impl SignedTransaction {
    /// The owner that this key and L1 address make.
    pub fn owner(&self) -> Owner {
        Owner::new(self.l1_address, &self.key)
    }

    /// The transaction's identity: its signed message.
    pub fn id(&self, domain: &Domain) -> TransactionId {
        TransactionId(field::to_bytes(&self.transaction.message(domain)))
    }

    /// Whether the key signed this transaction for this domain.
    pub fn signature_is_valid(&self, domain: &Domain) -> bool {
        eddsa::verify(&self.key, &self.signature, self.transaction.message(domain))
    }
}

/// A transaction's signed message as 32 bytes, in text 0x and hexadecimal.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TransactionId(pub [u8; 32]);

impl fmt::Display for TransactionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "0x{}", hex::encode(self.0))
    }
}

impl fmt::Debug for TransactionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl std::str::FromStr for TransactionId {
    type Err = hex::FromHexError;
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let mut bytes = [0; 32];
        hex::decode_to_slice(text.strip_prefix("0x").unwrap_or(text), &mut bytes)?;
        Ok(Self(bytes))
    }
}

impl Serialize for TransactionId {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        if serializer.is_human_readable() {
            serializer.collect_str(self)
        } else {
            self.0.serialize(serializer)
        }
    }
}

impl<'de> Deserialize<'de> for TransactionId {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        if deserializer.is_human_readable() {
            String::deserialize(deserializer)?
                .parse()
                .map_err(serde::de::Error::custom)
        } else {
            <[u8; 32]>::deserialize(deserializer).map(Self)
        }
    }
}

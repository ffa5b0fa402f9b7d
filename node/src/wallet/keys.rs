//! The keys of a user: one L1 key and one rollup key for each number of account.
//!
//! ```text
//! BIP-39 phrase → seed (PBKDF2, empty passphrase) ─→ L1 key: BIP-32 at m/44'/60'/0'/0/number
//!                                                └─→ rollup key: HKDF-SHA-512(salt, seed, "mnemonic" ‖ number)
//! L1 key alone  → EIP-712 signature, twice, equal ──→ rollup key: HKDF-SHA-512(salt, r ‖ s, "eip-712" ‖ number)
//! ```
//!
//! The salt is [`SALT`], a number is four big-endian bytes, a rollup key is the first 32 bytes of the output. The same phrase
//! always gives the same keys, so a phrase is a complete backup.

use alloy::primitives::Signature;
use alloy::primitives::{Address, B256, U256};
use alloy::signers::SignerSync;
use alloy::signers::local::coins_bip39::English;
use alloy::signers::local::{LocalSignerError, MnemonicBuilder, PrivateKeySigner};
use alloy::sol_types::{Eip712Domain, SolStruct};
use bip39::Mnemonic;
use hkdf::Hkdf;
use millrace_circuits::account::Owner;
use millrace_circuits::eddsa::SecretKey;
use millrace_circuits::types::L1Address;
use rand::{RngCore, rngs::OsRng};
use sha2::Sha512;
use std::borrow::Cow;
use std::fmt;
use thiserror::Error;
use zeroize::Zeroizing;

/// HKDF salt of every rollup key.
pub const SALT: &[u8] = b"millrace-rollup-key-1";
/// HKDF info of keys that come from a phrase, before the number.
pub const INFO_MNEMONIC: &[u8] = b"mnemonic";
/// HKDF info of keys that come from an EIP-712 signature, before the number.
pub const INFO_SIGNATURE: &[u8] = b"eip-712";
/// What the signer of an EIP-712 request reads.
pub const SIGNATURE_STATEMENT: &str = "Unlock my Millrace rollup key. Whoever holds this signature can spend what I \
have in this rollup: sign it only in a wallet program that you trust.";
/// Largest number of an account in a wallet: BIP-32 allows no more without hardening.
pub const MAX_NUMBER: u32 = (1 << 31) - 1;

mod typed_data {
    //! The EIP-712 request, in its own module because the macro writes undocumented items.
    #![allow(missing_docs)]
    alloy::sol! {
        struct RollupKey {
            string statement;
            address account;
            uint32 number;
        }
    }
}

/// Why there are no keys.
#[derive(Debug, Error)]
pub enum KeysError {
    /// The words are no BIP-39 phrase.
    #[error("not a recovery phrase: {0}")]
    Phrase(String),
    /// The text is no private key.
    #[error(
        "not a private key: expected 0x and 64 hexadecimal digits of a number within secp256k1's order"
    )]
    PrivateKey,
    /// The number has no BIP-32 path.
    #[error("account number {0} is out of range: it must be at most {MAX_NUMBER}")]
    Number(u32),
    /// The L1 key cannot be derived.
    #[error("cannot derive the L1 key: {0}")]
    Derivation(#[from] LocalSignerError),
    /// The signer refused.
    #[error("the L1 key did not sign the key request: {0}")]
    Signing(String),
    /// A signer that signs differently each time cannot give a stable key.
    #[error(
        "the L1 signer signed the same request differently twice, so it cannot give a stable rollup key: \
         use a recovery phrase instead"
    )]
    Unstable,
    /// Keys from an L1 key are bound to a contract.
    #[error(
        "a rollup key made by an L1 key's signature needs the chain id and contract: name the contract"
    )]
    NoContract,
}

/// A BIP-39 phrase. It has no text form: [`Phrase::words`] is for the one moment when its owner writes it down.
#[derive(Clone)]
pub struct Phrase(Mnemonic);

impl Phrase {
    /// A new phrase of 24 words from the operating system's randomness.
    pub fn generate() -> Self {
        let mut entropy = Zeroizing::new([0u8; 32]);
        OsRng.fill_bytes(&mut *entropy);
        Self(Mnemonic::from_entropy(&*entropy).expect("256 bits are a valid length of entropy"))
    }

    /// Reads a phrase of 12 to 24 English words; case and spacing do not matter.
    ///
    /// # Errors
    /// If a word is unknown or the checksum fails.
    pub fn parse(words: &str) -> Result<Self, KeysError> {
        let tidy = words
            .split_whitespace()
            .collect::<Vec<_>>()
            .join(" ")
            .to_lowercase();
        let tidy = Zeroizing::new(tidy);
        Mnemonic::parse_in(bip39::Language::English, tidy.as_str())
            .map(Self)
            .map_err(|error| KeysError::Phrase(describe(error)))
    }

    /// The words.
    pub fn words(&self) -> Zeroizing<String> {
        Zeroizing::new(self.0.to_string())
    }

    fn seed(&self) -> Zeroizing<[u8; 64]> {
        Zeroizing::new(self.0.to_seed(""))
    }
}

/// Says what is wrong without repeating a word: error texts end up in logs.
fn describe(error: bip39::Error) -> String {
    match error {
        bip39::Error::BadWordCount(count) => {
            format!("{count} words, where 12, 15, 18, 21 or 24 are expected")
        }
        bip39::Error::UnknownWord(place) => {
            format!("word {} is not in the English word list", place + 1)
        }
        bip39::Error::InvalidChecksum => "the checksum fails: a word is wrong or misplaced".into(),
        other => other.to_string(),
    }
}

/// Where a user's keys come from. It has no `Debug`: it is the secret.
#[derive(Clone)]
pub enum KeySource {
    /// A recovery phrase.
    Phrase(Phrase),
    /// A single L1 key, whose signature makes the rollup key.
    L1Key(PrivateKeySigner),
}

/// The rollup that an L1 key's signature is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RollupIdentity {
    /// The L1's chain id.
    pub chain_id: u64,
    /// The rollup contract.
    pub contract: L1Address,
}

/// The two keys of one account number, and the owner they make.
#[derive(Clone)]
pub struct UserKeys {
    /// The number in the wallet.
    pub number: u32,
    /// Signs L1 transactions; what leaves the rollup goes to its address.
    pub l1: PrivateKeySigner,
    /// Signs rollup transactions.
    pub rollup: SecretKey,
}

impl fmt::Debug for UserKeys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "UserKeys({}, {})", self.number, self.owner())
    }
}

impl UserKeys {
    /// The L1 address.
    pub fn l1_address(&self) -> L1Address {
        L1Address(self.l1.address().into_array())
    }

    /// The payment address.
    pub fn owner(&self) -> Owner {
        Owner::new(self.l1_address(), &self.rollup.public_key())
    }
}

impl KeySource {
    /// Reads a private key: 0x and 64 hexadecimal digits.
    ///
    /// # Errors
    /// [`KeysError::PrivateKey`].
    pub fn from_private_key(text: &str) -> Result<Self, KeysError> {
        private_key(text).map(Self::L1Key)
    }

    /// The keys with this number. Those of an L1 key depend on the rollup; it has number 0 only.
    ///
    /// # Errors
    /// If the number is out of range, or an L1 key's signature cannot be had.
    pub fn keys(&self, number: u32, rollup: Option<RollupIdentity>) -> Result<UserKeys, KeysError> {
        match self {
            Self::Phrase(phrase) => phrase_keys(phrase, number),
            Self::L1Key(l1) if number == 0 => Ok(UserKeys {
                number,
                rollup: key_from_signer(l1, rollup.ok_or(KeysError::NoContract)?)?,
                l1: l1.clone(),
            }),
            Self::L1Key(_) => Err(KeysError::Number(number)),
        }
    }

    /// The L1 key with this number, which no rollup is needed for.
    ///
    /// # Errors
    /// If the number is out of range.
    pub fn l1_key(&self, number: u32) -> Result<PrivateKeySigner, KeysError> {
        match self {
            Self::Phrase(phrase) => l1_key(phrase, number),
            Self::L1Key(l1) if number == 0 => Ok(l1.clone()),
            Self::L1Key(_) => Err(KeysError::Number(number)),
        }
    }
}

/// HKDF salt of a channels' hot key that comes from an L1 key.
pub const CHANNEL_SALT: &[u8] = b"millrace-channel-key-1";

impl KeySource {
    /// The hot key of payment channels with this number: of a phrase the BIP-32 key at m/44'/60'/0'/1/number, of a single L1 key
    /// HKDF-SHA-512 of it.
    ///
    /// # Errors
    /// If the number is out of range.
    pub fn channel_key(&self, number: u32) -> Result<PrivateKeySigner, KeysError> {
        if number > MAX_NUMBER {
            return Err(KeysError::Number(number));
        }
        match self {
            Self::Phrase(phrase) => Ok(MnemonicBuilder::<English>::default()
                .phrase(phrase.words().as_str())
                .derivation_path(format!("m/44'/60'/0'/1/{number}"))?
                .build()?),
            Self::L1Key(l1) => {
                let mut output = Zeroizing::new([0u8; 32]);
                Hkdf::<Sha512>::new(Some(CHANNEL_SALT), l1.to_bytes().as_slice())
                    .expand(&number.to_be_bytes(), &mut *output)
                    .expect("32 bytes are within HKDF's limit");
                PrivateKeySigner::from_bytes(&B256::from(*output))
                    .map_err(|_| KeysError::PrivateKey)
            }
        }
    }
}

/// Reads a private key: 0x and 64 hexadecimal digits.
///
/// # Errors
/// [`KeysError::PrivateKey`].
pub fn private_key(text: &str) -> Result<PrivateKeySigner, KeysError> {
    let mut bytes = Zeroizing::new([0u8; 32]);
    let digits = text.trim();
    let digits = digits.strip_prefix("0x").unwrap_or(digits);
    hex::decode_to_slice(digits, &mut *bytes).map_err(|_| KeysError::PrivateKey)?;
    PrivateKeySigner::from_bytes(&B256::from(*bytes)).map_err(|_| KeysError::PrivateKey)
}

fn phrase_keys(phrase: &Phrase, number: u32) -> Result<UserKeys, KeysError> {
    let l1 = l1_key(phrase, number)?;
    let rollup = stretch(&*phrase.seed(), INFO_MNEMONIC, number);
    Ok(UserKeys { number, l1, rollup })
}

fn l1_key(phrase: &Phrase, number: u32) -> Result<PrivateKeySigner, KeysError> {
    if number > MAX_NUMBER {
        return Err(KeysError::Number(number));
    }
    let words = phrase.words();
    Ok(MnemonicBuilder::<English>::default()
        .phrase(words.as_str())
        .index(number)?
        .build()?)
}

/// What an L1 signer is asked to sign, as EIP-712 hashes it.
pub fn signing_request(account: Address, rollup: RollupIdentity, number: u32) -> B256 {
    let request = typed_data::RollupKey {
        statement: SIGNATURE_STATEMENT.into(),
        account,
        number,
    };
    request.eip712_signing_hash(&Eip712Domain {
        name: Some(Cow::Borrowed("Millrace")),
        version: Some(Cow::Borrowed("1")),
        chain_id: Some(U256::from(rollup.chain_id)),
        verifying_contract: Some(Address::from(rollup.contract.0)),
        salt: None,
    })
}

fn key_from_signer(
    signer: &PrivateKeySigner,
    rollup: RollupIdentity,
) -> Result<SecretKey, KeysError> {
    let request = signing_request(signer.address(), rollup, 0);
    key_from_signatures(|| {
        signer
            .sign_hash_sync(&request)
            .map_err(|error| KeysError::Signing(error.to_string()))
    })
}

/// Asks twice for the signature of a [`signing_request`] and makes the rollup key of it.
///
/// # Errors
/// Whatever `sign` fails with, or [`KeysError::Unstable`] if the two signatures differ.
pub fn key_from_signatures(
    mut sign: impl FnMut() -> Result<Signature, KeysError>,
) -> Result<SecretKey, KeysError> {
    let bytes = |signature: Signature| {
        let mut bytes = Zeroizing::new([0u8; 64]);
        // Either of s and its negative is valid: the smaller one, so that all signers agree.
        bytes.copy_from_slice(&signature.normalized_s().as_bytes()[..64]);
        bytes
    };
    let first = bytes(sign()?);
    if first != bytes(sign()?) {
        return Err(KeysError::Unstable);
    }
    Ok(stretch(&*first, INFO_SIGNATURE, 0))
}

fn stretch(secret: &[u8], info: &[u8], number: u32) -> SecretKey {
    let mut output = Zeroizing::new([0u8; 32]);
    Hkdf::<Sha512>::new(Some(SALT), secret)
        .expand_multi_info(&[info, &number.to_be_bytes()], &mut *output)
        .expect("32 bytes are within HKDF's limit");
    SecretKey::from_bytes(*output)
}

#[cfg(test)]
mod tests;

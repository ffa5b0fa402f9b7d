//! Invoices as text: what a payer has to know, signed by the payee.
//!
//! `fields → bytes (fields.rs) → signature → bech32m text mlr<net>1…  → parse: checksum, form, signature → check: network, time`
//!
//! The network in the human part: `eth` for chain 1, `sep` for 11155111, else `x` and the chain id. The text has at most 2,048
//! characters. *Bech32m's checksum finds any change of up to four characters in the first 1,023 only; beyond that, and against
//! intent, the signature speaks.* It covers the human part and all bytes before it, and has no v, so an invoice has one text only.

mod fields;

use crate::digest::Domain;
use crate::signing::{self, HotKey, Keys};
use crate::state::keccak;
use crate::types::{
    Address, Amount, ChannelId, Hash32, PaymentHash, PublicKey, Signature, Timestamp,
};
use bech32::primitives::decode::CheckedHrpstring;
use bech32::{Bech32m, Checksum, Hrp};
use fields::SIGNATURE_FIELD_BYTES;
use thiserror::Error;

/// Longest text, characters.
pub const MAX_TEXT: usize = 2048;
/// Longest description, bytes of UTF-8.
pub const MAX_DESCRIPTION_BYTES: usize = 320;
/// Most hints.
pub const MAX_HINTS: usize = 4;
/// Feature: several parts may pay it.
pub const MULTI_PART: u64 = 1;
/// Bits of features that a payer must understand: the even ones. Those that this node does.
const KNOWN_FEATURES: u64 = MULTI_PART;
const EVEN_BITS: u64 = 0x5555_5555_5555_5555;
const SIGNING_TAG: &[u8] = b"Millrace invoice v1";

/// Why a text is no invoice to pay.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum InvoiceError {
    /// Too long.
    #[error("invoice of {0} characters, at most {MAX_TEXT} are allowed")]
    TooLong(usize),
    /// No bech32m, or a character is wrong.
    #[error("the text is no invoice, or a character is wrong: {0}")]
    Text(String),
    /// The human part is not an invoice's.
    #[error("the text starts with {0:?}, an invoice starts with mlr and its network")]
    Prefix(String),
    /// The human part belongs to another chain than the field.
    #[error("the invoice is marked for network {marked:?} but made for chain {chain}")]
    Network {
        /// Human part.
        marked: String,
        /// Chain id in the fields.
        chain: u64,
    },
    /// A field is not as it must be.
    #[error("field {field}: {problem}")]
    Field {
        /// Which.
        field: &'static str,
        /// What is wrong.
        problem: &'static str,
    },
    /// A field that a payer must understand.
    #[error("field {0} is unknown to this node and must be understood: update it")]
    UnknownField(u8),
    /// Features that a payer must understand.
    #[error("features {0:#x} are unknown to this node and must be understood: update it")]
    UnknownFeatures(u64),
    /// Altered, or never signed by its payee.
    #[error("the signature is not that of the payee: the invoice was altered")]
    Signature,
    /// For another chain or contract.
    #[error(
        "the invoice is for contract {contract} on chain {chain}, this node uses {own_contract} on chain {own_chain}"
    )]
    OtherNetwork {
        /// Invoice's.
        chain: u64,
        /// Invoice's.
        contract: Address,
        /// This node's.
        own_chain: u64,
        /// This node's.
        own_contract: Address,
    },
    /// Too late.
    #[error("the invoice expired at {expired}, it is {now}: ask for a new one")]
    Expired {
        /// When.
        expired: Timestamp,
        /// Now.
        now: Timestamp,
    },
    /// The amount paid is not the one asked for.
    #[error("the invoice asks for {asked}, not {offered}")]
    Amount {
        /// Invoice's.
        asked: Amount,
        /// Payer's.
        offered: Amount,
    },
    /// Neither side names an amount.
    #[error("the invoice leaves the amount to the payer: name one")]
    NoAmount,
}

/// A channel to the payee that gossip may not show.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Hint {
    /// Who forwards to the payee.
    pub node: PublicKey,
    /// Over which channel.
    pub channel: ChannelId,
    /// Its fee, units.
    pub fee_base: u128,
    /// Its fee, millionths of what goes out.
    pub fee_ppm: u32,
}

/// What a payee asks for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Invoice {
    /// Chain and contract.
    pub domain: Domain,
    /// Token; zero for ether.
    pub token: Address,
    /// Above zero; none leaves it to the payer.
    pub amount: Option<Amount>,
    /// What the preimage has to hash to.
    pub hash: PaymentHash,
    /// Proves to the payee that the payer has the invoice.
    pub secret: Hash32,
    /// Who is paid.
    pub payee: PublicKey,
    /// When it was made.
    pub created: Timestamp,
    /// From when on it must not be paid.
    pub expires: Timestamp,
    /// For people.
    pub description: String,
    /// Even bits must be understood.
    pub features: u64,
    /// Ways to the payee.
    pub hints: Vec<Hint>,
    /// The payee's owner hash on the rollup, if it can be paid there as well.
    pub fallback: Option<[u8; 32]>,
    /// Fields of later versions that need not be understood, by number.
    pub unknown: Vec<(u8, Vec<u8>)>,
}

/// Bech32m for longer texts.
enum Code {}

impl Checksum for Code {
    type MidstateRepr = <Bech32m as Checksum>::MidstateRepr;
    type CorrectionField = <Bech32m as Checksum>::CorrectionField;
    const ROOT_GENERATOR: Self::CorrectionField = Bech32m::ROOT_GENERATOR;
    const ROOT_EXPONENTS: std::ops::RangeInclusive<usize> = Bech32m::ROOT_EXPONENTS;
    const CODE_LENGTH: usize = MAX_TEXT;
    const CHECKSUM_LENGTH: usize = Bech32m::CHECKSUM_LENGTH;
    const GENERATOR_SH: [Self::MidstateRepr; 5] = Bech32m::GENERATOR_SH;
    const TARGET_RESIDUE: Self::MidstateRepr = Bech32m::TARGET_RESIDUE;
}

/// The human part for a chain.
pub fn human_part(chain_id: u64) -> String {
    match chain_id {
        1 => "mlreth".to_owned(),
        11_155_111 => "mlrsep".to_owned(),
        other => format!("mlrx{other}"),
    }
}

/// Whether a text claims to be an invoice, whatever is wrong with it. A payment address of the rollup does not.
pub fn looks_like_invoice(text: &str) -> bool {
    let lower = text.trim().to_ascii_lowercase();
    ["mlreth1", "mlrsep1", "mlrx"]
        .iter()
        .any(|start| lower.starts_with(start))
}

fn encode(hrp: Hrp, bytes: &[u8]) -> Result<String, InvoiceError> {
    bech32::encode::<Code>(hrp, bytes).map_err(|_| InvoiceError::TooLong(bytes.len() * 8 / 5))
}

fn digest(human: &str, body: &[u8]) -> Hash32 {
    Hash32(keccak(
        &[SIGNING_TAG, human.as_bytes(), &[0], body].concat(),
    ))
}

impl Invoice {
    /// The invoice as text, signed by its payee.
    ///
    /// # Errors
    /// [`InvoiceError::Field`] for what no text may hold, a payee that is not the key's owner included;
    /// [`InvoiceError::TooLong`].
    pub fn sign(&self, key: &HotKey) -> Result<String, InvoiceError> {
        self.check_fields()?;
        if self.payee != key.public() {
            return Err(problem("payee", "it is not the key that signs"));
        }
        let human = human_part(self.domain.chain_id);
        let mut bytes = fields::write(self);
        let signature = key.sign(&digest(&human, &bytes));
        fields::write_signature(&mut bytes, &signature);
        let hrp = Hrp::parse(&human).map_err(|error| InvoiceError::Text(error.to_string()))?;
        encode(hrp, &bytes)
    }

    /// The invoice of a text: form, limits and signature are right. Network and time are for [`Self::check`].
    ///
    /// # Errors
    /// [`InvoiceError`] but for its last four.
    pub fn parse(text: &str) -> Result<Self, InvoiceError> {
        let text = text.trim();
        if text.len() > MAX_TEXT {
            return Err(InvoiceError::TooLong(text.len()));
        }
        let checked = CheckedHrpstring::new::<Code>(text)
            .map_err(|error| InvoiceError::Text(error.to_string()))?;
        let human = checked.hrp().to_lowercase();
        if !looks_like_invoice(&format!("{human}1")) {
            return Err(InvoiceError::Prefix(human));
        }
        let bytes: Vec<u8> = checked.byte_iter().collect();
        // The bits that fill the last character up are zero: one invoice, one text.
        if !text.eq_ignore_ascii_case(&encode(checked.hrp(), &bytes)?) {
            return Err(problem("padding", "it is not zero"));
        }
        let body_length = bytes.len().saturating_sub(SIGNATURE_FIELD_BYTES);
        let (body, signature) = bytes.split_at(body_length);
        let signature = fields::read_signature(signature)?;
        let invoice = fields::read(body)?;
        let chain = invoice.domain.chain_id;
        if human != human_part(chain) {
            return Err(InvoiceError::Network {
                marked: human,
                chain,
            });
        }
        if !signing::verify(&invoice.payee, &digest(&human, body), &signature) {
            return Err(InvoiceError::Signature);
        }
        invoice.check_fields()?;
        Ok(invoice)
    }

    /// Whether this node can pay it now.
    ///
    /// # Errors
    /// [`InvoiceError::OtherNetwork`], [`InvoiceError::UnknownFeatures`], [`InvoiceError::Expired`].
    pub fn check(&self, domain: &Domain, now: Timestamp) -> Result<(), InvoiceError> {
        if self.domain != *domain {
            return Err(InvoiceError::OtherNetwork {
                chain: self.domain.chain_id,
                contract: self.domain.contract,
                own_chain: domain.chain_id,
                own_contract: domain.contract,
            });
        }
        let strange = self.features & EVEN_BITS & !KNOWN_FEATURES;
        if strange != 0 {
            return Err(InvoiceError::UnknownFeatures(strange));
        }
        if now >= self.expires {
            return Err(InvoiceError::Expired {
                expired: self.expires,
                now,
            });
        }
        Ok(())
    }

    /// What to pay, if the payer says `offered`.
    ///
    /// # Errors
    /// [`InvoiceError::Amount`], [`InvoiceError::NoAmount`].
    pub fn amount_to_pay(&self, offered: Option<Amount>) -> Result<Amount, InvoiceError> {
        match (self.amount, offered) {
            (Some(asked), Some(offered)) if asked != offered => {
                Err(InvoiceError::Amount { asked, offered })
            }
            (Some(asked), _) => Ok(asked),
            (None, Some(offered)) if offered != Amount::ZERO => Ok(offered),
            (None, _) => Err(InvoiceError::NoAmount),
        }
    }

    /// What a text may hold, for both directions.
    fn check_fields(&self) -> Result<(), InvoiceError> {
        if self.amount == Some(Amount::ZERO) {
            return Err(problem("amount", "it is zero"));
        }
        if self.expires <= self.created {
            return Err(problem("expires", "it is not after the creation"));
        }
        if self.description.len() > MAX_DESCRIPTION_BYTES {
            return Err(problem("description", "it is longer than 320 bytes"));
        }
        // A description is shown on terminals.
        if self.description.chars().any(char::is_control) {
            return Err(problem("description", "it has control characters"));
        }
        if self.hints.len() > MAX_HINTS {
            return Err(problem("hints", "more than 4"));
        }
        Ok(())
    }
}

fn problem(field: &'static str, problem: &'static str) -> InvoiceError {
    InvoiceError::Field { field, problem }
}

/// A text as a QR code of block characters for a terminal; none if it is too long for one.
pub fn qr(text: &str) -> Option<String> {
    // Capital letters take 5.5 bits instead of 8, and bech32m reads both.
    let code = fast_qr::QRBuilder::new(text.to_ascii_uppercase()).build();
    code.ok().map(|code| code.to_str())
}

/// The r and s of a signature; v says nothing and is left out.
fn without_v(signature: &Signature) -> &[u8; 64] {
    signature.0.first_chunk().expect("a signature has 65 bytes")
}

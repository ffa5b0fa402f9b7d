//! An invoice's bytes: `field number u8 · length u16 · value`, in growing order, each number once.
//!
//! | number | field | value |
//! |---|---|---|
//! | 2 | network | chain id u64 · contract 20 |
//! | 4 | token | 20; left out for ether |
//! | 6 | amount | u128; left out if the payer chooses |
//! | 8 | hash | 32 |
//! | 10 | secret | 32 |
//! | 12 | payee | 33 |
//! | 14 | created | u64 |
//! | 16 | expires | u64 |
//! | 17 | description | UTF-8; left out if empty |
//! | 18 | features | u64; left out if 0 |
//! | 19 | hints | 1 to 4 times: node 33 · channel 32 · base fee u128 · millionths u32; left out if none |
//! | 21 | fallback | owner hash on the rollup 32 |
//! | 254 | signature | r 32 · s 32, the last field |
//!
//! An unknown even number must be understood, so the invoice is refused; an unknown odd one is passed over.

use super::{Hint, Invoice, InvoiceError, problem, without_v};
use crate::digest::Domain;
use crate::types::{Address, Amount, ChannelId, Hash32, PaymentHash, PublicKey, Signature};

/// Number, length, r, s.
pub const SIGNATURE_FIELD_BYTES: usize = 3 + 64;
const SIGNATURE: u8 = 254;
const HINT_BYTES: usize = 33 + 32 + 16 + 4;

pub fn write(invoice: &Invoice) -> Vec<u8> {
    let mut known: Vec<(u8, Vec<u8>)> = Vec::new();
    let mut field = |number: u8, parts: &[&[u8]]| known.push((number, parts.concat()));
    let domain = &invoice.domain;
    field(2, &[&domain.chain_id.to_be_bytes(), &domain.contract.0]);
    if invoice.token != Address::ZERO {
        field(4, &[&invoice.token.0]);
    }
    if let Some(amount) = invoice.amount {
        field(6, &[&amount.get().to_be_bytes()]);
    }
    field(8, &[&invoice.hash.0]);
    field(10, &[&invoice.secret.0]);
    field(12, &[&invoice.payee.0]);
    field(14, &[&invoice.created.to_be_bytes()]);
    field(16, &[&invoice.expires.to_be_bytes()]);
    if !invoice.description.is_empty() {
        field(17, &[invoice.description.as_bytes()]);
    }
    if invoice.features != 0 {
        field(18, &[&invoice.features.to_be_bytes()]);
    }
    if !invoice.hints.is_empty() {
        let hints: Vec<u8> = invoice.hints.iter().flat_map(hint_bytes).collect();
        field(19, &[&hints]);
    }
    if let Some(owner) = &invoice.fallback {
        field(21, &[owner]);
    }
    known.extend(invoice.unknown.iter().cloned());
    known.sort_by_key(|(number, _)| *number);
    known
        .iter()
        .flat_map(|(number, value)| {
            let length = (value.len() as u16).to_be_bytes();
            [&[*number][..], &length, value].concat()
        })
        .collect()
}

fn hint_bytes(hint: &Hint) -> Vec<u8> {
    [
        &hint.node.0[..],
        &hint.channel.0,
        &hint.fee_base.to_be_bytes(),
        &hint.fee_ppm.to_be_bytes(),
    ]
    .concat()
}

pub fn write_signature(bytes: &mut Vec<u8>, signature: &Signature) {
    bytes.extend_from_slice(&[SIGNATURE, 0, 64]);
    bytes.extend_from_slice(without_v(signature));
}

pub fn read_signature(bytes: &[u8]) -> Result<Signature, InvoiceError> {
    let missing = || problem("signature", "it is missing or not the last field");
    let (start, rs) = bytes.split_first_chunk::<3>().ok_or_else(missing)?;
    let rs: [u8; 64] = rs.try_into().map_err(|_| missing())?;
    if *start != [SIGNATURE, 0, 64] {
        return Err(missing());
    }
    let mut signature = [0; 65];
    signature[..64].copy_from_slice(&rs);
    Ok(Signature(signature))
}

/// Fields as they are read; what is mandatory is asked for at the end.
#[derive(Default)]
struct Read {
    domain: Option<Domain>,
    token: Option<Address>,
    amount: Option<Amount>,
    hash: Option<PaymentHash>,
    secret: Option<Hash32>,
    payee: Option<PublicKey>,
    created: Option<u64>,
    expires: Option<u64>,
    description: String,
    features: u64,
    hints: Vec<Hint>,
    fallback: Option<[u8; 32]>,
    unknown: Vec<(u8, Vec<u8>)>,
}

pub fn read(mut bytes: &[u8]) -> Result<Invoice, InvoiceError> {
    let mut read = Read::default();
    let mut last = 0;
    while let Some((number, value, rest)) = next(bytes)? {
        if number <= last {
            return Err(problem("order", "fields do not come in growing order"));
        }
        last = number;
        read.take(number, value)?;
        bytes = rest;
    }
    read.finish()
}

fn next(bytes: &[u8]) -> Result<Option<(u8, &[u8], &[u8])>, InvoiceError> {
    if bytes.is_empty() {
        return Ok(None);
    }
    let cut = || problem("length", "a field ends after the invoice");
    let (start, rest) = bytes.split_first_chunk::<3>().ok_or_else(cut)?;
    let length = usize::from(u16::from_be_bytes([start[1], start[2]]));
    let (value, rest) = rest.split_at_checked(length).ok_or_else(cut)?;
    Ok(Some((start[0], value, rest)))
}

fn fixed<const N: usize>(field: &'static str, value: &[u8]) -> Result<[u8; N], InvoiceError> {
    value
        .try_into()
        .map_err(|_| problem(field, "it has another length"))
}

/// A field that is left out when it says nothing must not be there to say so: one invoice, one text.
fn said<T: PartialEq>(field: &'static str, value: T, nothing: T) -> Result<T, InvoiceError> {
    if value == nothing {
        return Err(problem(field, "it is there but says nothing"));
    }
    Ok(value)
}

impl Read {
    fn take(&mut self, number: u8, value: &[u8]) -> Result<(), InvoiceError> {
        match number {
            2 => {
                let bytes: [u8; 28] = fixed("network", value)?;
                let (chain, contract) = bytes.split_at(8);
                self.domain = Some(Domain {
                    chain_id: u64::from_be_bytes(fixed("network", chain)?),
                    contract: Address(fixed("network", contract)?),
                });
            }
            4 => {
                let token = Address(fixed("token", value)?);
                self.token = Some(said("token", token, Address::ZERO)?);
            }
            6 => {
                let units = u128::from_be_bytes(fixed("amount", value)?);
                let amount =
                    Amount::new(units).map_err(|_| problem("amount", "it is not below 2^100"))?;
                self.amount = Some(amount);
            }
            8 => self.hash = Some(PaymentHash(fixed("hash", value)?)),
            10 => self.secret = Some(Hash32(fixed("secret", value)?)),
            12 => self.payee = Some(PublicKey(fixed("payee", value)?)),
            14 => self.created = Some(u64::from_be_bytes(fixed("created", value)?)),
            16 => self.expires = Some(u64::from_be_bytes(fixed("expires", value)?)),
            17 => {
                let text = std::str::from_utf8(value)
                    .map_err(|_| problem("description", "it is no UTF-8"))?;
                self.description = said("description", text, "")?.to_owned();
            }
            18 => {
                let bits = u64::from_be_bytes(fixed("features", value)?);
                self.features = said("features", bits, 0)?;
            }
            19 => self.hints = hints(value)?,
            21 => self.fallback = Some(fixed("fallback", value)?),
            other if other % 2 == 0 => return Err(InvoiceError::UnknownField(other)),
            other => self.unknown.push((other, value.to_vec())),
        }
        Ok(())
    }

    fn finish(self) -> Result<Invoice, InvoiceError> {
        fn needed<T>(field: &'static str, value: Option<T>) -> Result<T, InvoiceError> {
            value.ok_or_else(|| problem(field, "it is missing"))
        }
        Ok(Invoice {
            domain: needed("network", self.domain)?,
            token: self.token.unwrap_or(Address::ZERO),
            amount: self.amount,
            hash: needed("hash", self.hash)?,
            secret: needed("secret", self.secret)?,
            payee: needed("payee", self.payee)?,
            created: needed("created", self.created)?,
            expires: needed("expires", self.expires)?,
            description: self.description,
            features: self.features,
            hints: self.hints,
            fallback: self.fallback,
            unknown: self.unknown,
        })
    }
}

fn hints(value: &[u8]) -> Result<Vec<Hint>, InvoiceError> {
    said("hints", value.len(), 0)?;
    let chunks = value.chunks_exact(HINT_BYTES);
    if !chunks.remainder().is_empty() {
        return Err(problem("hints", "the last one is cut"));
    }
    chunks
        .map(|chunk| {
            Ok(Hint {
                node: PublicKey(fixed("hints", &chunk[..33])?),
                channel: ChannelId(fixed("hints", &chunk[33..65])?),
                fee_base: u128::from_be_bytes(fixed("hints", &chunk[65..81])?),
                fee_ppm: u32::from_be_bytes(fixed("hints", &chunk[81..])?),
            })
        })
        .collect()
}

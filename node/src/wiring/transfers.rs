//! What the channels believe of the rollup: the batches that this node has read from L1 by itself, and nothing that anybody says.
//!
//! ```text
//! payer:  keys, payment hash → PaidProof (180 bytes), with the transfer's id → find: batch and row, once final
//! payee:  claim → batch final here? → row a transfer from the proof's owner to the invoice's account? → token, amount → signature
//! ```
//! *The proof binds the transfer to whoever made it and to one invoice: without it a stranger could have another's transfer, which
//! everybody sees on L1, counted for an invoice of its own.*

use crate::api::Token;
use crate::wallet::keys::UserKeys;
use alloy::primitives::keccak256;
use millrace_channels::node::paid::{Claim, Due, Place, RollupView, Seen, Whereabouts};
use millrace_channels::types::{Address, PaymentHash};
use millrace_circuits::account::{Account, Owner};
use millrace_circuits::babyjubjub::PublicKey;
use millrace_circuits::batch::Row;
use millrace_circuits::eddsa::{Signature, verify};
use millrace_circuits::field::{self, Word};
use millrace_circuits::transaction::{Domain, TransactionId};
use millrace_circuits::types::{BatchNumber, L1Address};
use millrace_rollup::batch_log::{BatchRecord, BatchStage};
use millrace_rollup::mempool::TransactionState;
use millrace_rollup::store::{Store, StoreError};
use std::sync::Arc;
use tokio::sync::watch;

/// What a proof signs begins with this.
const NAME: &[u8] = b"Millrace paid v1";
/// Bytes of a proof.
const PROOF_BYTES: usize = 180;

/// That the owner of a payment address has paid an invoice by a transfer of its own.
///
/// `L1 address 20 · A.x 32 · A.y 32 · R8.x 32 · R8.y 32 · S 32`, big-endian; the signature is over
/// `keccak256("Millrace paid v1" · rollup's domain 32 · payment hash 32) >> 8`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PaidProof {
    l1_address: L1Address,
    key: PublicKey,
    signature: Signature,
}

impl PaidProof {
    /// Signs for one invoice.
    pub fn sign(domain: &Domain, hash: &PaymentHash, keys: &UserKeys) -> Self {
        Self {
            l1_address: keys.l1_address(),
            key: keys.rollup.public_key(),
            signature: keys.rollup.sign(message(domain, hash).0),
        }
    }

    /// Its bytes.
    pub fn to_bytes(self) -> Vec<u8> {
        let words = [
            self.key.x,
            self.key.y,
            self.signature.r8.x,
            self.signature.r8.y,
            self.signature.s,
        ];
        let mut bytes = self.l1_address.0.to_vec();
        bytes.extend(words.iter().flat_map(field::to_bytes));
        bytes
    }

    /// A proof from its bytes; none if they are none.
    pub fn from_bytes(bytes: &[u8]) -> Option<Self> {
        if bytes.len() != PROOF_BYTES {
            return None;
        }
        let (address, words) = bytes.split_at(20);
        let mut words = words.chunks_exact(32).map(|chunk| {
            let bytes: [u8; 32] = chunk.try_into().ok()?;
            field::from_bytes(&bytes).ok()
        });
        let mut next = || words.next().flatten();
        Some(Self {
            l1_address: L1Address(address.try_into().ok()?),
            key: PublicKey {
                x: next()?,
                y: next()?,
            },
            signature: Signature {
                r8: PublicKey {
                    x: next()?,
                    y: next()?,
                },
                s: next()?,
            },
        })
    }

    /// Whose transfer it is.
    pub fn owner(&self) -> Owner {
        Owner::new(self.l1_address, &self.key)
    }

    /// Whether the owner signed for this invoice.
    pub fn is_for(&self, domain: &Domain, hash: &PaymentHash) -> bool {
        self.key.is_in_subgroup() && verify(&self.key, &self.signature, message(domain, hash).0)
    }
}

fn message(domain: &Domain, hash: &PaymentHash) -> Word {
    let domain = field::to_bytes(&domain.0.0);
    let digest = keccak256([NAME, &domain, &hash.0].concat());
    let mut shifted = [0; 32];
    shifted[1..].copy_from_slice(&digest[..31]);
    Word(field::from_bytes(&shifted).expect("248 bits are below r"))
}

/// The rollup of this node.
pub struct Transfers {
    /// What was read from L1.
    pub store: Arc<Store>,
    /// Contract and chain.
    pub domain: Domain,
    /// The contract's tokens.
    pub tokens: watch::Receiver<Vec<Token>>,
}

impl RollupView for Transfers {
    fn check(&self, claim: &Claim, due: &Due) -> Seen {
        self.judge(claim, due).unwrap_or_else(unreadable)
    }

    fn find(&self, transfer: &[u8; 32]) -> Whereabouts {
        let found = self.whereabouts(&TransactionId(*transfer));
        found.unwrap_or_else(|error| {
            tracing::warn!(%error, "the rollup's database cannot be read");
            Whereabouts::NotYet
        })
    }
}

fn unreadable(error: StoreError) -> Seen {
    tracing::warn!(%error, "the rollup's database cannot be read");
    Seen::NotYet("the rollup's database cannot be read".to_owned())
}

impl Transfers {
    fn judge(&self, claim: &Claim, due: &Due) -> Result<Seen, StoreError> {
        let Some(proof) = PaidProof::from_bytes(&claim.proof) else {
            return Ok(Seen::No("the proof is none".to_owned()));
        };
        let record = self.store.batch(BatchNumber(claim.place.batch))?;
        let row = match final_row(record.as_ref(), claim.place) {
            Ok(row) => row,
            Err(seen) => return Ok(seen),
        };
        let parties = [self.store.account(row.from)?, self.store.account(row.to)?];
        let paid = pays(&row, parties, &proof, due, &self.tokens.borrow());
        Ok(match paid {
            Ok(_) if !proof.is_for(&self.domain, &claim.hash) => {
                Seen::No("the payer has not signed for this invoice".to_owned())
            }
            Ok(amount) => Seen::Paid { amount },
            Err(why) => Seen::No(why.to_owned()),
        })
    }

    fn whereabouts(&self, id: &TransactionId) -> Result<Whereabouts, StoreError> {
        let Some(record) = self.store.transaction(id)? else {
            return Ok(Whereabouts::NotYet);
        };
        Ok(match record.state {
            TransactionState::Waiting => Whereabouts::NotYet,
            TransactionState::Dropped { reason } => Whereabouts::Dropped(reason),
            TransactionState::InBatch { batch, row } => {
                let stage = self.store.batch(batch)?.map(|record| record.stage);
                match stage {
                    Some(BatchStage::Finalised) => Whereabouts::At(Place {
                        batch: batch.0,
                        row,
                    }),
                    _ => Whereabouts::NotYet,
                }
            }
        })
    }
}

/// The row at a place, if the proof of its batch is as deep in L1 as this node demands.
fn final_row(record: Option<&BatchRecord>, place: Place) -> Result<Row, Seen> {
    let record = record.filter(|record| record.stage >= BatchStage::Finalised);
    let data = record.and_then(|record| record.data.as_ref());
    let data = data.ok_or_else(|| {
        Seen::NotYet(format!(
            "batch {} is not proven and final on this node",
            place.batch
        ))
    })?;
    let row = usize::try_from(place.row).ok();
    let row = row.and_then(|row| data.rows.get(row));
    let row = row.filter(|row| !row.is_noop() && !row.is_withdraw());
    row.copied().ok_or_else(|| {
        Seen::No(format!(
            "row {} of batch {} is no transfer",
            place.row, place.batch
        ))
    })
}

/// What a row brings, if it is from the proof's owner and pays what is due.
fn pays(
    row: &Row,
    [from, to]: [Option<Account>; 2],
    proof: &PaidProof,
    due: &Due,
    tokens: &[Token],
) -> Result<u128, &'static str> {
    let (Some(from), Some(to)) = (from, to) else {
        return Err("the transfer's accounts are unknown here");
    };
    if from.owner != proof.owner() {
        return Err("the transfer is another payer's");
    }
    if field::to_bytes(&to.owner.0) != due.fallback {
        return Err("the transfer pays another account");
    }
    let token = tokens.iter().find(|token| token.number == to.token);
    let token = token.ok_or("the transfer's token is unknown here")?;
    let address = token
        .address
        .map_or(Address::ZERO, |address| Address(address.0));
    if address != due.token {
        return Err("the transfer is in another token");
    }
    let amount = row.amount.value().map_or(0, |amount| amount.0);
    if amount < due.amount.map_or(1, |amount| amount.get()) {
        return Err("the transfer is too small");
    }
    Ok(amount)
}

#[cfg(test)]
mod tests;

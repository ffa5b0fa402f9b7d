//! Hashing a planned batch: executes it on the tree, and gives one write with everything that sealing it means.

use crate::batch_log::{BatchRecord, BatchStage, StoredWitness};
use crate::state::OverlayTree;
use crate::store::disk::{Column, Writes};
use crate::store::format::{encode, number_key};
use crate::store::{Store, StoreError};
use millrace_circuits::batch::{BatchError, ExecutedBatch, execute};
use millrace_circuits::types::L1Address;
use thiserror::Error;

/// Why a planned batch cannot be hashed.
#[derive(Debug, Error)]
pub enum HashError {
    /// The batch does not apply.
    #[error("the planned batch does not apply to the state: {0}")]
    Batch(#[from] BatchError<StoreError>),
    /// The disk failed.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// A hashed batch and the write that seals it.
#[derive(Debug)]
pub struct HashedBatch {
    /// Its record, now sealed.
    pub record: BatchRecord,
    /// Accounts, nodes, undo, witness and record.
    pub writes: Writes,
}

/// Executes a batch on the sealed state. Takes milliseconds per transaction: run it off the core's thread.
///
/// # Errors
/// If the disk fails or the batch does not apply.
pub fn hash_batch(
    store: &Store,
    mut record: BatchRecord,
    beneficiary: L1Address,
) -> Result<HashedBatch, HashError> {
    let mut tree = OverlayTree::new(store)?;
    let ExecutedBatch { data, witness } = execute(&record.input, &mut tree)?;
    let public = data.public(beneficiary);
    let mut writes = tree.into_writes(record.number)?;
    record.stage = BatchStage::Sealed;
    record.data = Some(data);
    record.public = Some(public);
    let key = number_key(record.number.0);
    writes.put(
        Column::Witnesses,
        key.clone(),
        encode(&StoredWitness { witness, public }),
    );
    writes.put(Column::Batches, key, encode(&record));
    Ok(HashedBatch { record, writes })
}

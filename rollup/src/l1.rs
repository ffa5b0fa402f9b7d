//! The rollup's two tasks on L1, and what they share.
//!
//! ```text
//! batch log → poster → commitBatch → proveBatches → payWithdrawals → L1
//! L1 → synchronizer → requests, stages, others' batches → engine
//! ```
//!
//! | module | question |
//! |---|---|
//! | [`convert`] | how do protocol types look in the contract's ABI, and back? |
//! | [`synchronizer`] | what happened on L1? |
//! | [`poster`] | what is to be sent to L1? |

pub mod convert;
pub mod overdue;
pub mod poster;
pub mod synchronizer;

use crate::handle::{ReadError, Stopped};
use crate::store::StoreError;
use alloy::transports::TransportError;
use millrace_circuits::types::BatchNumber;
use millrace_l1::rollup_client::RollupError;
use thiserror::Error;

/// Why a task on L1 cannot go on for now.
#[derive(Debug, Error)]
pub enum L1Error {
    /// The engine is gone.
    #[error(transparent)]
    Stopped(#[from] Stopped),
    /// The database failed.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// L1 cannot be read.
    #[error("L1 cannot be read: {0}")]
    Transport(String),
    /// The contract refused, or a transaction did not land.
    #[error(transparent)]
    Contract(#[from] RollupError),
    /// What L1 says does not fit together.
    #[error("L1's record of batch {batch} cannot be followed: {reason}")]
    Batch {
        /// Which.
        batch: BatchNumber,
        /// Why.
        reason: String,
    },
    /// A block or transaction that must exist is not served.
    #[error("L1 does not serve {0}: the endpoint may have pruned it; use an archive endpoint")]
    Gap(String),
}

impl From<TransportError> for L1Error {
    fn from(error: TransportError) -> Self {
        Self::Transport(millrace_l1::provider::explain(&error))
    }
}

impl From<ReadError> for L1Error {
    fn from(error: ReadError) -> Self {
        match error {
            ReadError::Stopped(stopped) => Self::Stopped(stopped),
            ReadError::Store(store) => Self::Store(store),
        }
    }
}

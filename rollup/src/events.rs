//! Numbered, durable events: every stage of a transaction and of a batch. A reader resumes by sequence number.

use millrace_circuits::transaction::TransactionId;
use millrace_circuits::types::{AccountIndex, BatchNumber};
use serde::{Deserialize, Serialize};

/// Something that happened.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Event {
    /// From 1, without gaps.
    pub sequence: u64,
    /// Unix milliseconds.
    pub at_millis: u64,
    /// What.
    pub kind: EventKind,
}

/// What happened. L1 transactions are 32-byte hashes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum EventKind {
    /// A transaction was executed and is durable; it will be in this batch.
    TransactionAccepted {
        /// Which.
        id: TransactionId,
        /// The batch that is open.
        batch: BatchNumber,
    },
    /// A transaction is durable and waits for an earlier nonce or its partner.
    TransactionWaiting {
        /// Which.
        id: TransactionId,
    },
    /// A transaction will not happen.
    TransactionDropped {
        /// Which.
        id: TransactionId,
        /// Why.
        reason: String,
    },
    /// A deposit from L1 is in a batch; index 0 means that it was refused and goes back to the depositor.
    DepositTaken {
        /// Number of the L1 request.
        request: u64,
        /// Leaf credited.
        index: AccountIndex,
        /// In which batch.
        batch: BatchNumber,
    },
    /// A forced exit from L1 is in a batch.
    ForcedExitTaken {
        /// Number of the L1 request.
        request: u64,
        /// Leaf named.
        index: AccountIndex,
        /// In which batch.
        batch: BatchNumber,
    },
    /// A batch is closed and hashed.
    BatchSealed {
        /// Which.
        batch: BatchNumber,
        /// Its transactions.
        transactions: Vec<TransactionId>,
    },
    /// A batch's data is on L1.
    BatchCommitted {
        /// Which.
        batch: BatchNumber,
        /// The L1 transaction.
        l1_transaction: [u8; 32],
    },
    /// The contract accepted a batch's proof.
    BatchProven {
        /// Which.
        batch: BatchNumber,
        /// The L1 transaction.
        l1_transaction: [u8; 32],
    },
    /// The proof is as deep in L1 as this node demands.
    BatchFinalised {
        /// Which.
        batch: BatchNumber,
    },
    /// Unproven batches above this one were taken back; their transactions run again or are dropped.
    RolledBack {
        /// The last batch that stands.
        to: BatchNumber,
        /// Why.
        reason: String,
    },
}

//! What the node says about itself.

use super::chain::TokenView;
use millrace_circuits::account::Owner;
use millrace_circuits::batch::Shape;
use millrace_circuits::field::Word;
use millrace_circuits::types::{BatchNumber, L1Address};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// What a client needs to know before it signs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Info {
    /// Version of the program.
    pub version: String,
    /// What this node does: sequencer, prover, follower.
    pub roles: Vec<String>,
    /// Chain id of the L1.
    pub chain_id: u64,
    /// The rollup contract.
    #[schema(value_type = String)]
    pub contract: L1Address,
    /// What signatures are bound to, as decimal text.
    #[schema(value_type = String)]
    pub domain: Word,
    /// Levels of the state tree; each node has four children.
    pub tree_depth: usize,
    /// The circuits that batches may fill, smallest first.
    pub circuits: Vec<CircuitView>,
    /// Payment address that collects fees; none: no fees are taken.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>)]
    pub fee_owner: Option<Owner>,
    /// The tokens with their lowest fees.
    pub tokens: Vec<TokenView>,
    /// L1 blocks on top of a proof after which its batch counts as finalised.
    pub confirmations: u64,
    /// What requests may be.
    pub limits: ApiLimits,
}

/// A circuit.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct CircuitView {
    /// Its id in the contract.
    pub id: u16,
    /// L1 requests that one batch serves at most.
    pub l1_rows: usize,
    /// Transactions in one batch at most.
    pub transaction_rows: usize,
    /// Fee accounts of one batch at most.
    pub fee_leaves: usize,
    /// Id of its verifying key, where this node has the key.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub key: Option<String>,
}

impl CircuitView {
    /// The circuit with this shape and key.
    pub fn new(shape: &Shape, key: Option<String>) -> Self {
        let Shape {
            id,
            l1_rows,
            transaction_rows,
            fee_leaves,
        } = *shape;
        Self {
            id,
            l1_rows,
            transaction_rows,
            fee_leaves,
            key,
        }
    }
}

/// Bounds of requests.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ApiLimits {
    /// Bytes of a body.
    pub body_bytes: usize,
    /// Seconds until a request is given up.
    pub request_timeout_secs: u64,
    /// Items of a page.
    pub page_items: usize,
    /// Requests served at a time.
    pub concurrent_requests: usize,
    /// Event streams open at a time.
    pub event_streams: usize,
    /// How far ahead of its account's nonce a transaction may be.
    pub nonces_ahead: u64,
    /// Transactions of one account that may wait for an earlier nonce.
    pub waiting_per_account: usize,
    /// How far ahead `valid_until` may be, in seconds.
    pub validity_secs: u64,
}

/// What the node is doing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Phase {
    /// Tasks are being started.
    Starting,
    /// It catches up with L1.
    Syncing,
    /// It serves.
    Running,
    /// It serves, but something it needs does not answer; `waiting_for` says what.
    Degraded,
    /// The rollup is in escape: only exits on L1 are left.
    Frozen,
    /// It stops.
    Stopping,
}

/// How far the node follows L1.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct L1Progress {
    /// Newest block that the endpoint knows.
    pub head_block: u64,
    /// Newest block that this node has taken in.
    pub synced_block: u64,
    /// Blocks between the two.
    pub lag_blocks: u64,
}

/// The newest batch of each stage.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct BatchProgress {
    /// Closed and hashed.
    #[schema(value_type = u64)]
    pub sealed: BatchNumber,
    /// On L1.
    #[schema(value_type = u64)]
    pub committed: BatchNumber,
    /// Verified on L1.
    #[schema(value_type = u64)]
    pub proven: BatchNumber,
    /// Deep enough in L1.
    #[schema(value_type = u64)]
    pub finalised: BatchNumber,
}

/// Jobs of the proof queue by state.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ProofQueue {
    /// Nobody works on them.
    pub waiting: usize,
    /// A worker has them.
    pub leased: usize,
    /// Proved, not yet forgotten.
    pub done: usize,
    /// Given up; `POST /v1/prover/jobs/{key}/retry` tries again.
    pub failed: usize,
    /// Leases given out after the first, over the jobs that are here.
    pub retries: u64,
}

/// How the node is doing.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Status {
    /// What it is doing.
    pub phase: Phase,
    /// What it waits for, with what would help; empty if nothing.
    pub waiting_for: Vec<String>,
    /// Seconds since its start.
    pub uptime_secs: u64,
    /// How far it follows L1.
    pub l1: L1Progress,
    /// The newest batches.
    pub batches: BatchProgress,
    /// State root after the newest sealed batch, as decimal text.
    #[schema(value_type = String)]
    pub state_root: Word,
    /// Transactions that are accepted and in no sealed batch.
    pub pending_transactions: usize,
    /// Transactions that wait for an earlier nonce or a partner.
    pub waiting_transactions: usize,
    /// L1 requests that no batch has taken yet.
    pub waiting_requests: u64,
    /// The proof queue, where this node has one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub proofs: Option<ProofQueue>,
    /// Sequence number of the newest event; 0: none.
    pub last_event: u64,
}

/// What `POST /v1/batches/seal` did.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct SealResult {
    /// The batch that was closed; none if there was nothing to close.
    #[schema(value_type = Option<u64>)]
    pub batch: Option<BatchNumber>,
}

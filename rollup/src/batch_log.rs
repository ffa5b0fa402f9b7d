//! Batches by stage: planned → sealed → committed → proven → finalised.

use millrace_circuits::batch::{BatchData, BatchInput, BatchPublic, BatchWitness};
use millrace_circuits::field::Word;
use millrace_circuits::transaction::TransactionId;
use millrace_circuits::types::{AccountIndex, Amount, BatchNumber, L1Address, TokenId};
use serde::{Deserialize, Serialize};

/// Where a batch stands. Later stages carry what earlier ones learned.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum BatchStage {
    /// Closed to new operations, being hashed.
    Planned,
    /// Hashed: its root is known and its witness stored.
    Sealed,
    /// Its data is on L1.
    Committed,
    /// Its proof is verified on L1.
    Proven,
    /// The proof has the depth that this node demands.
    Finalised,
}

/// An L1 transaction that moved a batch on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct L1Link {
    /// Its hash.
    pub transaction: [u8; 32],
    /// Its block.
    pub block: u64,
    /// Gas it used, where this node sent it.
    pub gas: Option<u64>,
}

/// A batch in the log.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct BatchRecord {
    /// Its number.
    pub number: BatchNumber,
    /// Its stage.
    pub stage: BatchStage,
    /// What was decided when it was closed.
    pub input: BatchInput,
    /// Number of the first L1 request that it serves.
    pub first_request: u64,
    /// Its transactions, in order.
    pub transactions: Vec<TransactionId>,
    /// Unix milliseconds of closing.
    pub planned_at_millis: u64,
    /// What it posts; from Sealed on.
    pub data: Option<BatchData>,
    /// Its public inputs; from Sealed on.
    pub public: Option<BatchPublic>,
    /// Eight words of its proof (A, B with the imaginary parts first, C), once there is one.
    pub proof: Option<[Word8; 8]>,
    /// Where it was committed.
    pub committed: Option<L1Link>,
    /// Where it was proven.
    pub proven: Option<L1Link>,
}

/// 32 big-endian bytes of a base-field coordinate.
pub type Word8 = [u8; 32];

impl BatchRecord {
    /// The root after it, once hashed.
    pub fn new_root(&self) -> Option<Word> {
        self.data.as_ref().map(|data| data.header.new_root)
    }
}

/// What a sealed batch is proved from.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct StoredWitness {
    /// The circuit's assignment.
    pub witness: BatchWitness,
    /// Its public inputs.
    pub public: BatchPublic,
}

/// A request in the contract's queue. All fields as hashed by the contract.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct QueuedRequest {
    /// Number in the queue, from 0.
    pub id: u64,
    /// 1 is a deposit, 2 a forced exit.
    pub kind: u8,
    /// Leaf named by a forced exit.
    pub index: AccountIndex,
    /// Token.
    pub token: TokenId,
    /// What was deposited.
    pub amount: Amount,
    /// Depositor, or who exits.
    pub sender: L1Address,
    /// Owner credited by a deposit.
    pub owner: Word,
    /// A.x of a forced exit.
    pub key_x: Word,
    /// A.y of a forced exit.
    pub key_y: Word,
    /// Unix seconds of the request.
    pub created: u64,
    /// Unix seconds by which it must be proven.
    pub deadline: u64,
    /// L1 block of the request.
    pub block: u64,
}

impl QueuedRequest {
    /// Whether it is a deposit.
    pub fn is_deposit(&self) -> bool {
        self.kind == 1
    }
}

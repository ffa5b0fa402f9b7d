//! What the rollup holds: transactions, accounts, batches, proofs, tokens, events.

use super::{Hash, TransactionBody};
use millrace_circuits::account::{Account, Owner};
use millrace_circuits::batch::{BatchData, L1Row, Payout};
use millrace_circuits::field::Word;
use millrace_circuits::transaction::TransactionId;
use millrace_circuits::types::{AccountIndex, Amount, BatchNumber, L1Address, Nonce, TokenId};
use millrace_rollup::batch_log::{BatchRecord, BatchStage, L1Link, QueuedRequest};
use millrace_rollup::events::{Event, EventKind};
use millrace_rollup::mempool::{TransactionRecord, TransactionState};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// Where a transaction stands, in order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum TransactionStage {
    /// On disk; it waits for an earlier nonce or for its partner.
    Waiting,
    /// Executed and on disk; it will be in the batch named.
    Accepted,
    /// Its batch is closed and hashed.
    Sealed,
    /// Its batch's data is on L1.
    Committed,
    /// Its batch's proof is verified on L1.
    Proven,
    /// The proof is as deep in L1 as the node demands.
    Finalised,
    /// It will not happen; `dropped_because` says why.
    Dropped,
}

/// Where a batch stands, in order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum BatchStageName {
    /// Closed to new operations, being hashed.
    Planned,
    /// Closed and hashed.
    Sealed,
    /// Its data is on L1.
    Committed,
    /// Its proof is verified on L1.
    Proven,
    /// The proof is as deep in L1 as the node demands.
    Finalised,
}

impl From<BatchStage> for BatchStageName {
    fn from(stage: BatchStage) -> Self {
        match stage {
            BatchStage::Planned => Self::Planned,
            BatchStage::Sealed => Self::Sealed,
            BatchStage::Committed => Self::Committed,
            BatchStage::Proven => Self::Proven,
            BatchStage::Finalised => Self::Finalised,
        }
    }
}

impl From<BatchStage> for TransactionStage {
    fn from(stage: BatchStage) -> Self {
        match stage {
            BatchStage::Planned => Self::Accepted,
            BatchStage::Sealed => Self::Sealed,
            BatchStage::Committed => Self::Committed,
            BatchStage::Proven => Self::Proven,
            BatchStage::Finalised => Self::Finalised,
        }
    }
}

/// An L1 transaction that moved a batch on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct L1LinkView {
    /// Its hash.
    pub transaction: Hash,
    /// Its block.
    pub block: u64,
    /// Gas it used, where this node sent it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub gas: Option<u64>,
}

impl From<L1Link> for L1LinkView {
    fn from(link: L1Link) -> Self {
        let L1Link {
            transaction,
            block,
            gas,
        } = link;
        Self {
            transaction: Hash(transaction),
            block,
            gas,
        }
    }
}

/// A transaction and where it stands.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct TransactionView {
    /// Its signed message.
    #[schema(value_type = String)]
    pub id: TransactionId,
    /// Where it stands.
    pub stage: TransactionStage,
    /// As signed.
    pub transaction: TransactionBody,
    /// Payment address that pays.
    #[schema(value_type = String)]
    pub sender: Owner,
    /// Account that receives; none of a withdraw, or while it waits.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<u32>)]
    pub to: Option<AccountIndex>,
    /// Its batch, once accepted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<u64>)]
    pub batch: Option<BatchNumber>,
    /// Its row in the batch.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub row: Option<u32>,
    /// Why it will not happen.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub dropped_because: Option<String>,
    /// L1 transaction that committed its batch.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub committed: Option<L1LinkView>,
    /// L1 transaction that proved its batch.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub proven: Option<L1LinkView>,
    /// Time of acceptance, in Unix milliseconds.
    pub received_at_millis: u64,
}

impl TransactionView {
    /// A transaction as stored, with the record of its batch if that is closed.
    pub fn new(id: TransactionId, record: &TransactionRecord, batch: Option<&BatchRecord>) -> Self {
        let (stage, number, row, dropped_because) = match &record.state {
            TransactionState::Waiting => (TransactionStage::Waiting, None, None, None),
            TransactionState::InBatch { batch: number, row } => {
                let stage = batch.map_or(TransactionStage::Accepted, |batch| batch.stage.into());
                (stage, Some(*number), Some(*row), None)
            }
            TransactionState::Dropped { reason } => {
                (TransactionStage::Dropped, None, None, Some(reason.clone()))
            }
        };
        Self {
            id,
            stage,
            transaction: (&record.signed.transaction).into(),
            sender: record.signed.owner(),
            to: Some(record.to).filter(|to| !to.is_zero()),
            batch: number,
            row,
            dropped_because,
            committed: batch.and_then(|batch| batch.committed).map(Into::into),
            proven: batch.and_then(|batch| batch.proven).map(Into::into),
            received_at_millis: record.received_at_millis,
        }
    }
}

/// One balance of one token for one owner, with everything that was accepted so far.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct AccountView {
    /// Its place in the tree.
    #[schema(value_type = u32)]
    pub index: AccountIndex,
    /// Payment address of its owner.
    #[schema(value_type = String)]
    pub owner: Owner,
    /// What it holds: 0 is ETH.
    #[schema(value_type = u32)]
    pub token: TokenId,
    /// The nonce that its next transaction signs.
    #[schema(value_type = u64)]
    pub nonce: Nonce,
    /// How much it holds, as decimal text.
    #[schema(value_type = String)]
    pub balance: Amount,
}

impl AccountView {
    /// The account at this place.
    pub fn new(index: AccountIndex, account: &Account) -> Self {
        let Account {
            owner,
            token,
            nonce,
            balance,
        } = *account;
        Self {
            index,
            owner,
            token,
            nonce,
            balance,
        }
    }
}

/// All accounts of an owner.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct OwnerAccounts {
    /// The accounts, by index.
    pub accounts: Vec<AccountView>,
}

/// A batch in a list.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct BatchSummary {
    /// Its number, from 1.
    #[schema(value_type = u64)]
    pub number: BatchNumber,
    /// Where it stands.
    pub stage: BatchStageName,
    /// Id of its circuit.
    pub circuit: u16,
    /// Its time, in Unix seconds.
    pub timestamp: u64,
    /// Number of its transactions.
    pub transaction_count: usize,
    /// Number of the L1 requests that it serves.
    pub request_count: usize,
    /// State root before it, as decimal text; once sealed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>)]
    pub old_root: Option<Word>,
    /// State root after it, as decimal text; once sealed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>)]
    pub new_root: Option<Word>,
    /// When it was closed, in Unix milliseconds.
    pub closed_at_millis: u64,
    /// Where its data was committed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub committed: Option<L1LinkView>,
    /// Where its proof was verified.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub proven: Option<L1LinkView>,
}

impl From<&BatchRecord> for BatchSummary {
    fn from(record: &BatchRecord) -> Self {
        // The data counts the rows of a batch that another operator made; its ids are unknown.
        let rows = record
            .data
            .as_ref()
            .map(|data| data.rows.iter().filter(|row| !row.is_noop()).count());
        let requests = record.data.as_ref().map(|data| data.l1_rows.len());
        Self {
            number: record.number,
            stage: record.stage.into(),
            circuit: record.input.shape.id,
            timestamp: record.input.timestamp.0,
            transaction_count: rows.unwrap_or(record.transactions.len()),
            request_count: requests.unwrap_or(record.input.l1_operations.len()),
            old_root: record.data.as_ref().map(|data| data.header.old_root),
            new_root: record.new_root(),
            closed_at_millis: record.planned_at_millis,
            committed: record.committed.map(Into::into),
            proven: record.proven.map(Into::into),
        }
    }
}

/// A request in the contract's queue, and the batch that serves it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct RequestView {
    /// Its number in the queue, from 0.
    pub number: u64,
    /// Whether it is a deposit; else a forced exit.
    pub is_deposit: bool,
    /// Its token.
    #[schema(value_type = u32)]
    pub token: TokenId,
    /// What was deposited, as decimal text; 0 for a forced exit.
    #[schema(value_type = String)]
    pub amount: Amount,
    /// Who made it on L1.
    #[schema(value_type = String)]
    pub sender: L1Address,
    /// Payment address that a deposit credits.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>)]
    pub owner: Option<Owner>,
    /// Account that a forced exit names.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<u32>)]
    pub index: Option<AccountIndex>,
    /// Time of its block, in Unix seconds.
    pub created: u64,
    /// If it is not proven by then, anyone may freeze the rollup. In Unix seconds.
    pub deadline: u64,
    /// Its L1 block.
    pub block: u64,
    /// The batch that serves it, once that is closed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<u64>)]
    pub batch: Option<BatchNumber>,
    /// Where that batch stands.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stage: Option<BatchStageName>,
}

impl RequestView {
    /// A request, with the record of the batch that serves it if that is closed.
    pub fn new(request: &QueuedRequest, batch: Option<&BatchRecord>) -> Self {
        let is_deposit = request.is_deposit();
        Self {
            number: request.id,
            is_deposit,
            token: request.token,
            amount: request.amount,
            sender: request.sender,
            owner: is_deposit.then_some(Owner(request.owner.0)),
            index: (!is_deposit).then_some(request.index),
            created: request.created,
            deadline: request.deadline,
            block: request.block,
            batch: batch.map(|batch| batch.number),
            stage: batch.map(|batch| batch.stage.into()),
        }
    }
}

/// An L1 request as a batch served it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum ServedRequest {
    /// A deposit.
    Deposit {
        /// Number of the request.
        request: u64,
        /// Account credited; 0: refused, the contract owes it to the depositor.
        #[schema(value_type = u32)]
        index: AccountIndex,
        /// Payment address credited.
        #[schema(value_type = String)]
        owner: Owner,
        /// Its token.
        #[schema(value_type = u32)]
        token: TokenId,
        /// How much, as decimal text.
        #[schema(value_type = String)]
        amount: Amount,
    },
    /// A forced exit.
    ForcedExit {
        /// Number of the request.
        request: u64,
        /// Account named.
        #[schema(value_type = u32)]
        index: AccountIndex,
        /// Its token.
        #[schema(value_type = u32)]
        token: TokenId,
        /// Who asked on L1, and receives.
        #[schema(value_type = String)]
        sender: L1Address,
        /// What left: the whole balance, or 0 if the claim did not hold. As decimal text.
        #[schema(value_type = String)]
        amount: Amount,
    },
}

impl ServedRequest {
    /// The request with this number, as its row says.
    pub fn new(request: u64, row: &L1Row) -> Self {
        match *row {
            L1Row::Deposit {
                index,
                owner,
                token,
                amount,
            } => Self::Deposit {
                request,
                index,
                owner,
                token,
                amount,
            },
            L1Row::ForcedExit {
                index,
                token,
                sender,
                amount,
                ..
            } => Self::ForcedExit {
                request,
                index,
                token,
                sender,
                amount,
            },
        }
    }
}

/// Money that a proven batch pays on L1.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct PayoutView {
    /// Who receives.
    #[schema(value_type = String)]
    pub address: L1Address,
    /// Which token.
    #[schema(value_type = u32)]
    pub token: TokenId,
    /// How much, as decimal text.
    #[schema(value_type = String)]
    pub amount: Amount,
}

impl From<Payout> for PayoutView {
    fn from(
        Payout {
            address,
            token,
            amount,
        }: Payout,
    ) -> Self {
        Self {
            address,
            token,
            amount,
        }
    }
}

/// A batch with its content.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct BatchView {
    /// What a list shows.
    #[serde(flatten)]
    pub summary: BatchSummary,
    /// Ids of its transactions, in the order of its rows.
    #[schema(value_type = Vec<String>)]
    pub transactions: Vec<TransactionId>,
    /// L1 requests that it served; once sealed.
    pub requests: Vec<ServedRequest>,
    /// What it pays on L1, in the contract's order; once sealed.
    pub payouts: Vec<PayoutView>,
    /// Its public inputs (C, z, y), as decimal text; once sealed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<Vec<String>>)]
    pub public_inputs: Option<[Word; 3]>,
}

impl BatchView {
    /// A batch as logged. `depositor` knows who made an L1 request, for refused deposits go back to them.
    pub fn new(record: &BatchRecord, depositor: impl Fn(u64) -> Option<L1Address>) -> Self {
        let data = record.data.as_ref();
        let served = |data: &BatchData| {
            (record.first_request..)
                .zip(&data.l1_rows)
                .map(|(id, row)| ServedRequest::new(id, row))
                .collect()
        };
        let payouts = |data: &BatchData| payouts(data, record.first_request, depositor);
        Self {
            summary: record.into(),
            transactions: record.transactions.clone(),
            requests: data.map(served).unwrap_or_default(),
            payouts: data.map(payouts).unwrap_or_default(),
            public_inputs: record.public.map(|public| public.inputs().map(Word)),
        }
    }
}

fn payouts(
    data: &BatchData,
    first_request: u64,
    depositor: impl Fn(u64) -> Option<L1Address>,
) -> Vec<PayoutView> {
    let refund = |position: usize| match data.l1_rows.get(position)? {
        L1Row::Deposit { token, amount, .. } => {
            let address = depositor(first_request + position as u64)?;
            Some(Payout {
                address,
                token: *token,
                amount: *amount,
            })
        }
        L1Row::ForcedExit { .. } => None,
    };
    data.payouts(refund).into_iter().map(Into::into).collect()
}

/// A batch's proof, enough to verify it with the circuit's verifying key.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct BatchProof {
    /// The batch.
    #[schema(value_type = u64)]
    pub number: BatchNumber,
    /// Id of its circuit.
    pub circuit: u16,
    /// The public inputs (C, z, y), as decimal text.
    #[schema(value_type = Vec<String>)]
    pub public_inputs: [Word; 3],
    /// Eight words as the contract takes them: A, B with the imaginary parts first, C.
    #[schema(value_type = Vec<Hash>)]
    pub proof: [Hash; 8],
    /// The same proof as snarkjs reads it.
    #[schema(value_type = Object)]
    pub snarkjs: serde_json::Value,
}

/// A token of the rollup.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct TokenView {
    /// Its number: 0 is ETH.
    #[schema(value_type = u32)]
    pub number: TokenId,
    /// Its contract on L1; none for ETH.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>)]
    pub address: Option<L1Address>,
    /// Lowest fee of a transaction in it, as decimal text.
    #[schema(value_type = String)]
    pub minimum_fee: Amount,
}

/// The tokens of the rollup.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Tokens {
    /// The tokens, by number.
    pub tokens: Vec<TokenView>,
}

/// Something that happened. Sequence numbers have no gaps.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct EventView {
    /// Its place, from 1.
    pub sequence: u64,
    /// Unix milliseconds.
    pub at_millis: u64,
    /// What happened.
    #[serde(flatten)]
    pub event: EventBody,
}

/// What happened.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum EventBody {
    /// A transaction was executed and is on disk; it will be in this batch.
    TransactionAccepted {
        /// Which.
        #[schema(value_type = String)]
        id: TransactionId,
        /// The batch that is open.
        #[schema(value_type = u64)]
        batch: BatchNumber,
    },
    /// A transaction is on disk and waits for an earlier nonce or its partner.
    TransactionWaiting {
        /// Which.
        #[schema(value_type = String)]
        id: TransactionId,
    },
    /// A transaction will not happen.
    TransactionDropped {
        /// Which.
        #[schema(value_type = String)]
        id: TransactionId,
        /// Why.
        reason: String,
    },
    /// A deposit is in a batch.
    DepositTaken {
        /// Number of the L1 request.
        request: u64,
        /// Account credited; 0: refused, the contract owes it to the depositor.
        #[schema(value_type = u32)]
        index: AccountIndex,
        /// The batch.
        #[schema(value_type = u64)]
        batch: BatchNumber,
    },
    /// A forced exit is in a batch.
    ForcedExitTaken {
        /// Number of the L1 request.
        request: u64,
        /// Account named.
        #[schema(value_type = u32)]
        index: AccountIndex,
        /// The batch.
        #[schema(value_type = u64)]
        batch: BatchNumber,
    },
    /// A batch is closed and hashed.
    BatchSealed {
        /// Which.
        #[schema(value_type = u64)]
        batch: BatchNumber,
        /// Its transactions.
        #[schema(value_type = Vec<String>)]
        transactions: Vec<TransactionId>,
    },
    /// A batch's data is on L1.
    BatchCommitted {
        /// Which.
        #[schema(value_type = u64)]
        batch: BatchNumber,
        /// The L1 transaction.
        l1_transaction: Hash,
    },
    /// The contract accepted a batch's proof.
    BatchProven {
        /// Which.
        #[schema(value_type = u64)]
        batch: BatchNumber,
        /// The L1 transaction.
        l1_transaction: Hash,
    },
    /// The proof is as deep in L1 as this node demands.
    BatchFinalised {
        /// Which.
        #[schema(value_type = u64)]
        batch: BatchNumber,
    },
    /// Unproven batches above this one were taken back; their transactions run again or are dropped.
    RolledBack {
        /// The last batch that stands.
        #[schema(value_type = u64)]
        to: BatchNumber,
        /// Why.
        reason: String,
    },
}

impl From<Event> for EventView {
    fn from(event: Event) -> Self {
        Self {
            sequence: event.sequence,
            at_millis: event.at_millis,
            event: event.kind.into(),
        }
    }
}

impl From<EventKind> for EventBody {
    fn from(kind: EventKind) -> Self {
        match kind {
            EventKind::TransactionAccepted { id, batch } => Self::TransactionAccepted { id, batch },
            EventKind::TransactionWaiting { id } => Self::TransactionWaiting { id },
            EventKind::TransactionDropped { id, reason } => Self::TransactionDropped { id, reason },
            EventKind::DepositTaken {
                request,
                index,
                batch,
            } => Self::DepositTaken {
                request,
                index,
                batch,
            },
            EventKind::ForcedExitTaken {
                request,
                index,
                batch,
            } => Self::ForcedExitTaken {
                request,
                index,
                batch,
            },
            EventKind::BatchSealed {
                batch,
                transactions,
            } => Self::BatchSealed {
                batch,
                transactions,
            },
            EventKind::BatchCommitted {
                batch,
                l1_transaction,
            } => Self::BatchCommitted {
                batch,
                l1_transaction: Hash(l1_transaction),
            },
            EventKind::BatchProven {
                batch,
                l1_transaction,
            } => Self::BatchProven {
                batch,
                l1_transaction: Hash(l1_transaction),
            },
            EventKind::BatchFinalised { batch } => Self::BatchFinalised { batch },
            EventKind::RolledBack { to, reason } => Self::RolledBack { to, reason },
        }
    }
}

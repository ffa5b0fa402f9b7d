//! How a transaction lands exactly once.
//!
//! ```text
//! send(id, call) → estimate → nonce, fees, sign → store → submit ┐
//!                                                 look ← sleep ←─┤
//!                                                  └→ decide ────┴→ wait · resend · bump fees · new nonce
//!                                                        └→ receipt, revert, given up
//! ```
//!
//! `machine` decides and knows no clock and no network; this file looks and acts. What was signed is in the store before
//! it leaves, under the caller's id, so that `send` with the same id after a crash goes on where it was and never sends a
//! second transaction for the same purpose while the first can still be mined. A reorg that drops the transaction makes
//! the same call send it again.

mod fault;
mod machine;
mod store;

pub use fault::{SubmitFault, classify};
pub use machine::{Decision, Fees, Mined, Policy, Seen, decide};
pub use store::{Attempt, FileStore, MemoryStore, Record, SenderStore, StoreError};

use crate::{
    devchain::evm::TRANSACTION_GAS_CAP,
    provider::{L1Provider, explain, is_connection_fault},
};
use alloy::{
    consensus::{SignableTransaction, TxEip1559, TxEnvelope},
    eips::{BlockId, eip2718::Encodable2718},
    network::TransactionBuilder,
    primitives::{Address, B256, Bytes, TxKind, U256},
    providers::Provider,
    rpc::types::{TransactionReceipt, TransactionRequest},
    signers::{SignerSync, local::PrivateKeySigner},
    transports::TransportError,
};
use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};
use thiserror::Error;
use tokio::sync::Mutex;

/// Gas limit = estimate × 6 / 5: a false proof runs out of gas inside an estimate that "succeeds", and state may move.
const GAS_MARGIN: (u64, u64) = (6, 5);

/// Added to that: if another call lands between estimate and inclusion, this one may be the one that writes a fresh storage
/// word (22,100 gas). Every eighth request of the rollup's queue does.
const GAS_RESERVE: u64 = 25_000;

/// How long a used-up nonce without a receipt must be seen before it counts as taken by another transaction. A node may count
/// a transaction a moment before it shows its receipt; a new nonce then would send the same call twice.
const DISPLACED_PATIENCE: Duration = Duration::from_secs(3);

/// Sets ids of `send_once` apart that are made at the same instant.
static ONCE: AtomicU64 = AtomicU64::new(0);

/// What a transaction does.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Call {
    /// The contract or account called, or a creation.
    pub to: TxKind,
    /// Wei sent along.
    pub value: U256,
    /// Call data, or creation code.
    pub input: Bytes,
    /// Gas limit; estimated if none is given.
    pub gas_limit: Option<u64>,
}

impl Call {
    /// A call of a contract.
    pub fn new(to: Address, value: U256, input: impl Into<Bytes>) -> Self {
        Self {
            to: TxKind::Call(to),
            value,
            input: input.into(),
            gas_limit: None,
        }
    }

    /// A deployment.
    pub fn create(input: impl Into<Bytes>) -> Self {
        Self {
            to: TxKind::Create,
            value: U256::ZERO,
            input: input.into(),
            gas_limit: None,
        }
    }

    fn request(&self, from: Address) -> TransactionRequest {
        let request = TransactionRequest::default()
            .with_from(from)
            .with_kind(self.to);
        request
            .with_value(self.value)
            .with_input(self.input.clone())
    }
}

/// Why a transaction did not land.
#[derive(Debug, Error)]
pub enum SendError {
    /// The contract would refuse: nothing was sent.
    #[error("the transaction would revert: {message}")]
    WouldRevert {
        /// What the node says.
        message: String,
        /// Revert data, by which the contract's error is decoded.
        data: Bytes,
    },
    /// The transaction was mined and reverted.
    #[error("transaction {hash} reverted in block {block}: {message}")]
    Reverted {
        /// The transaction.
        hash: B256,
        /// Its block.
        block: u64,
        /// What the node says when it is asked again.
        message: String,
        /// Revert data, empty if the call no longer reverts.
        data: Bytes,
    },
    /// The account cannot pay.
    #[error("insufficient funds in {address}: {message}: send ETH to this address")]
    InsufficientFunds {
        /// Who should pay.
        address: Address,
        /// What the node says.
        message: String,
    },
    /// The node refuses the transaction.
    #[error("the L1 node refuses the transaction: {0}")]
    Refused(String),
    /// The transaction was not mined in the time and attempts allowed; it may be later. The same id goes on with it.
    #[error(
        "transaction {id} (nonce {nonce}) is not mined after {attempts} attempts and {secs} s: raise the fee limit or wait, then send it again under the same id"
    )]
    Stuck {
        /// The caller's id.
        id: String,
        /// Its nonce.
        nonce: u64,
        /// How often it was sent with other fees.
        attempts: usize,
        /// Seconds for which it was followed.
        secs: u64,
    },
    /// Others keep using this account's nonces.
    #[error(
        "nonces of {address} are used by someone else as well ({times} times for transaction {id}): use an account of its own"
    )]
    NonceContention {
        /// The account.
        address: Address,
        /// The caller's id.
        id: String,
        /// How often a nonce was lost.
        times: u32,
    },
    /// The id was used for another call.
    #[error("transaction id {0} was used for a different call: choose another id")]
    IdTaken(String),
    /// L1 does not answer.
    #[error("L1 does not answer: {0}")]
    Connection(String),
    /// The store failed; nothing that is not stored was sent.
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl SendError {
    /// Revert data, where the contract refused.
    pub fn revert_data(&self) -> Option<&Bytes> {
        match self {
            Self::WouldRevert { data, .. } | Self::Reverted { data, .. } => Some(data),
            _ => None,
        }
    }
}

/// Sends the transactions of one account.
#[derive(Clone)]
pub struct TransactionSender {
    l1: L1Provider,
    signer: PrivateKeySigner,
    store: Arc<dyn SenderStore>,
    policy: Policy,
    /// Held while a nonce is chosen and its transaction stored and first submitted.
    nonces: Arc<Mutex<()>>,
}

impl std::fmt::Debug for TransactionSender {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(
            formatter,
            "TransactionSender({}, {:?})",
            self.address(),
            self.l1
        )
    }
}

impl TransactionSender {
    /// A sender for an account that nobody else sends from.
    pub fn new(
        l1: L1Provider,
        signer: PrivateKeySigner,
        store: Arc<dyn SenderStore>,
        policy: Policy,
    ) -> Self {
        Self {
            l1,
            signer,
            store,
            policy,
            nonces: Arc::default(),
        }
    }

    /// A sender that remembers nothing beyond its own life, with default policy.
    pub fn in_memory(l1: L1Provider, signer: PrivateKeySigner) -> Self {
        Self::new(
            l1,
            signer,
            Arc::new(MemoryStore::default()),
            Policy::default(),
        )
    }

    /// The account.
    pub fn address(&self) -> Address {
        self.signer.address()
    }

    /// The connection.
    pub fn l1(&self) -> &L1Provider {
        &self.l1
    }

    /// Lands a call once under an id of its own, and returns its receipt.
    ///
    /// An id that was sent before is followed to its end instead of being sent again; one that had landed and was dropped
    /// by a reorg is sent again.
    ///
    /// # Errors
    /// See `SendError`. After `Stuck` and `Connection` the same id goes on; after `Reverted` the id stays spent.
    ///
    /// # Cancel safety
    /// Dropping the future leaves the record in the store; the same id goes on with it.
    pub async fn send(&self, id: &str, call: Call) -> Result<TransactionReceipt, SendError> {
        let record = match self.store.get(id)? {
            Some(record) if record.is_for(&call) => record,
            Some(_) => return Err(SendError::IdTaken(id.to_owned())),
            None => self.begin(id, &call, 0).await?,
        };
        self.follow(record, &call).await
    }

    /// Lands a call that has no purpose beyond this process's life, and forgets it.
    pub async fn send_once(&self, call: Call) -> Result<TransactionReceipt, SendError> {
        let id = format!(
            "once-{}-{}",
            now_nanos(),
            ONCE.fetch_add(1, Ordering::Relaxed)
        );
        let outcome = self.send(&id, call).await;
        self.store.remove(&id)?;
        outcome
    }

    /// Forgets an id whose receipt is final.
    pub fn forget(&self, id: &str) -> Result<(), StoreError> {
        self.store.remove(id)
    }

    /// Forgets all ids whose nonces were used up at least `depth` blocks ago: nothing can bring them back. For an owner whose
    /// ids are not sent again so late.
    pub async fn forget_final(&self, depth: u64) -> Result<(), SendError> {
        let height = self.l1.provider().get_block_number().await;
        let height = height.map_err(|error| SendError::Connection(explain(&error)))?;
        let Some(deep) = height.checked_sub(depth) else {
            return Ok(());
        };
        let used_up = self.nonce_at(BlockId::number(deep)).await?;
        for record in self.store.all()? {
            if record.nonce < used_up {
                self.store.remove(&record.id)?;
            }
        }
        Ok(())
    }

    /// Submits again all stored transactions that are not mined: after a restart, a node may have lost what waited.
    pub async fn rebroadcast(&self) -> Result<(), SendError> {
        let next = self.nonce_at(BlockId::latest()).await?;
        for record in self.store.at_or_above_nonce(next)? {
            if let Some(last) = record.attempts.last() {
                // Its own `send` deals with what the node says about it.
                let _ = self.submit(&last.raw).await;
            }
        }
        Ok(())
    }

    /// Chooses nonce and fees, signs, stores and submits.
    async fn begin(&self, id: &str, call: &Call, replacements: u32) -> Result<Record, SendError> {
        let gas_limit = self.gas_limit(call).await?;
        let fees = self.market().await?.capped(self.policy.max_fee_per_gas);
        let _turn = self.nonces.lock().await;
        if replacements == 0
            && let Some(record) = self.store.get(id)?
        {
            // The same id was begun meanwhile.
            return Ok(record);
        }
        let (nonce, pending) = self.next_nonce().await?;
        let mut record = Record::new(id, nonce, call, gas_limit, replacements);
        match self.attempt(&mut record, fees).await? {
            Some(SubmitFault::InsufficientFunds(message)) => {
                self.store.remove(id)?;
                let address = self.address();
                Err(SendError::InsufficientFunds { address, message })
            }
            Some(SubmitFault::Refused(message)) => {
                self.store.remove(id)?;
                Err(SendError::Refused(message))
            }
            // Any other fault shows when the transaction is looked at.
            _ => {
                if nonce > pending {
                    self.rebroadcast().await?;
                }
                Ok(record)
            }
        }
    }

    /// Signs with these fees, stores, submits. A fault is returned, not raised: what it means depends on the caller.
    async fn attempt(
        &self,
        record: &mut Record,
        fees: Fees,
    ) -> Result<Option<SubmitFault>, SendError> {
        let envelope = self.sign(record, fees)?;
        let raw = Bytes::from(envelope.encoded_2718());
        record.attempts.push(Attempt {
            hash: *envelope.tx_hash(),
            fees,
            raw: raw.clone(),
            sent_at: now_secs(),
        });
        self.store.put(record)?;
        let fault = self.submit(&raw).await;
        tracing::info!(id = record.id, nonce = record.nonce, hash = %envelope.tx_hash(), max_fee = fees.max_fee, ?fault, "L1 transaction submitted");
        Ok(fault)
    }

    async fn submit(&self, raw: &Bytes) -> Option<SubmitFault> {
        let answer = self.l1.provider().send_raw_transaction(raw).await;
        answer.err().map(|error| match is_connection_fault(&error) {
            true => SubmitFault::Unknown(explain(&error)),
            false => classify(&explain(&error)),
        })
    }

    fn sign(&self, record: &Record, fees: Fees) -> Result<TxEnvelope, SendError> {
        let transaction = TxEip1559 {
            chain_id: self.l1.chain_id(),
            nonce: record.nonce,
            gas_limit: record.gas_limit,
            max_fee_per_gas: fees.max_fee,
            max_priority_fee_per_gas: fees.priority_fee,
            to: record.to.map_or(TxKind::Create, TxKind::Call),
            value: record.value,
            input: record.input.clone(),
            ..TxEip1559::default()
        };
        let signature = self.signer.sign_hash_sync(&transaction.signature_hash());
        let signature =
            signature.map_err(|error| SendError::Refused(format!("signing failed: {error}")))?;
        Ok(transaction.into_signed(signature).into())
    }

    async fn follow(
        &self,
        mut record: Record,
        call: &Call,
    ) -> Result<TransactionReceipt, SendError> {
        let since = now_secs();
        let mut silent_since = None;
        let mut displaced_since: Option<Instant> = None;
        loop {
            match self.look(&record, since).await {
                Ok((seen, receipt)) => {
                    silent_since = None;
                    let decision = decide(&record, &seen, &self.policy);
                    if matches!(decision, Decision::NewNonce) {
                        let since = *displaced_since.get_or_insert_with(Instant::now);
                        if since.elapsed() < DISPLACED_PATIENCE {
                            tokio::time::sleep(self.l1.poll_interval()).await;
                            continue;
                        }
                    }
                    displaced_since = None;
                    let acted = self.act(&mut record, call, decision, &seen, receipt);
                    if let Some(receipt) = acted.await? {
                        return Ok(receipt);
                    }
                }
                Err(error) => {
                    let since = *silent_since.get_or_insert_with(now_secs);
                    if now_secs().saturating_sub(since) >= self.policy.silence_limit_secs {
                        return Err(SendError::Connection(explain(&error)));
                    }
                }
            }
            tokio::time::sleep(self.l1.poll_interval()).await;
        }
    }

    /// Does what the machine decides; a receipt ends it.
    async fn act(
        &self,
        record: &mut Record,
        call: &Call,
        decision: Decision,
        seen: &Seen,
        receipt: Option<TransactionReceipt>,
    ) -> Result<Option<TransactionReceipt>, SendError> {
        match decision {
            Decision::Wait => {}
            Decision::Done => return Ok(receipt),
            Decision::Reverted => return Err(self.why_reverted(call, seen, receipt).await),
            Decision::Resend => self.rebroadcast().await?,
            Decision::Bump(fees) => self.bump(record, fees).await?,
            Decision::NewNonce => {
                tracing::warn!(
                    id = record.id,
                    nonce = record.nonce,
                    "nonce used by another transaction"
                );
                *record = self
                    .begin(&record.id, call, record.replacements + 1)
                    .await?;
            }
            Decision::GiveUp => return Err(self.given_up(record, seen)),
        }
        Ok(None)
    }

    /// Sends with higher fees. If the account cannot pay them, or the node wants more still, the older attempts stand.
    async fn bump(&self, record: &mut Record, fees: Fees) -> Result<(), SendError> {
        match self.attempt(record, fees).await? {
            Some(SubmitFault::InsufficientFunds(message)) => {
                tracing::warn!(id = record.id, message, "cannot pay higher fees");
                Ok(())
            }
            // What comes before may have been lost by the node.
            _ => self.rebroadcast().await,
        }
    }

    fn given_up(&self, record: &Record, seen: &Seen) -> SendError {
        if record.replacements > self.policy.max_new_nonces {
            return SendError::NonceContention {
                address: self.address(),
                id: record.id.clone(),
                times: record.replacements,
            };
        }
        let secs = seen.now.saturating_sub(seen.since);
        SendError::Stuck {
            id: record.id.clone(),
            nonce: record.nonce,
            attempts: record.attempts.len(),
            secs,
        }
    }

    /// What L1 shows of a record. Nonces are read before receipts, so that on a consistent node a nonce used up by an attempt
    /// of ours has its receipt; for the others there is [`DISPLACED_PATIENCE`].
    async fn look(
        &self,
        record: &Record,
        since: u64,
    ) -> Result<(Seen, Option<TransactionReceipt>), TransportError> {
        let provider = self.l1.provider();
        let height = provider.get_block_number().await?;
        let buried = height.saturating_sub(self.policy.confirmations.max(1) - 1);
        let latest_nonce = provider.get_transaction_count(self.address()).await?;
        // A node without that state answers an error: then nothing counts as buried yet.
        let buried_nonce = provider
            .get_transaction_count(self.address())
            .number(buried)
            .await
            .unwrap_or(0);
        let receipt = self.receipt(record).await?;
        let known = receipt.is_some() || self.is_known(record).await?;
        let market = self.market_fees().await?;
        let mined = receipt.as_ref().map(|receipt| Mined {
            block: receipt.block_number.unwrap_or(height),
            success: receipt.status(),
        });
        Ok((
            Seen {
                now: now_secs(),
                since,
                height,
                latest_nonce,
                buried_nonce,
                mined,
                known,
                market,
            },
            receipt,
        ))
    }

    async fn receipt(&self, record: &Record) -> Result<Option<TransactionReceipt>, TransportError> {
        for attempt in record.attempts.iter().rev() {
            if let Some(receipt) = self
                .l1
                .provider()
                .get_transaction_receipt(attempt.hash)
                .await?
            {
                return Ok(Some(receipt));
            }
        }
        Ok(None)
    }

    async fn is_known(&self, record: &Record) -> Result<bool, TransportError> {
        let Some(last) = record.attempts.last() else {
            return Ok(false);
        };
        Ok(self
            .l1
            .provider()
            .get_transaction_by_hash(last.hash)
            .await?
            .is_some())
    }

    /// The next nonce to use, after the account's mined and waiting transactions and those in the store that may be mined
    /// yet; and the next one that the node expects. In between is what the node has lost.
    async fn next_nonce(&self) -> Result<(u64, u64), SendError> {
        let latest = self.nonce_at(BlockId::latest()).await?;
        let pending = self.nonce_at(BlockId::pending()).await?;
        let stored = self.store.at_or_above_nonce(latest)?;
        let after_stored = stored.last().map_or(0, |record| record.nonce + 1);
        Ok((pending.max(after_stored), pending))
    }

    async fn nonce_at(&self, block: BlockId) -> Result<u64, SendError> {
        let nonce = self
            .l1
            .provider()
            .get_transaction_count(self.address())
            .block_id(block)
            .await;
        nonce.map_err(|error| SendError::Connection(explain(&error)))
    }

    async fn gas_limit(&self, call: &Call) -> Result<u64, SendError> {
        if let Some(gas_limit) = call.gas_limit {
            return Ok(gas_limit);
        }
        let estimate = self
            .l1
            .provider()
            .estimate_gas(call.request(self.address()))
            .block(BlockId::pending())
            .await;
        let estimate = estimate.map_err(|error| self.estimate_failed(&error))?;
        let with_margin = estimate.saturating_mul(GAS_MARGIN.0) / GAS_MARGIN.1;
        Ok(with_margin
            .saturating_add(GAS_RESERVE)
            .min(TRANSACTION_GAS_CAP))
    }

    fn estimate_failed(&self, error: &TransportError) -> SendError {
        let message = explain(error);
        if is_connection_fault(error) {
            return SendError::Connection(message);
        }
        if let Some(data) = error
            .as_error_resp()
            .and_then(|payload| payload.as_revert_data())
        {
            return SendError::WouldRevert { message, data };
        }
        match classify(&message) {
            SubmitFault::InsufficientFunds(message) => SendError::InsufficientFunds {
                address: self.address(),
                message,
            },
            _ if message.to_lowercase().contains("revert") => SendError::WouldRevert {
                message,
                data: Bytes::new(),
            },
            _ => SendError::Refused(message),
        }
    }

    /// Asks again on the state before the block, since a receipt does not say why.
    async fn why_reverted(
        &self,
        call: &Call,
        seen: &Seen,
        receipt: Option<TransactionReceipt>,
    ) -> SendError {
        let block = seen.mined.map_or(seen.height, |mined| mined.block);
        let hash = receipt
            .map(|receipt| receipt.transaction_hash)
            .unwrap_or_default();
        let again = self
            .l1
            .provider()
            .call(call.request(self.address()))
            .block(BlockId::number(block.saturating_sub(1)))
            .await;
        let (message, data) = match again {
            Ok(_) => (
                "it ran out of gas, or the state had changed before it".to_owned(),
                Bytes::new(),
            ),
            Err(error) => {
                let data = error
                    .as_error_resp()
                    .and_then(|payload| payload.as_revert_data())
                    .unwrap_or_default();
                (explain(&error), data)
            }
        };
        SendError::Reverted {
            hash,
            block,
            message,
            data,
        }
    }

    async fn market_fees(&self) -> Result<Fees, TransportError> {
        let fees = self.l1.provider().estimate_eip1559_fees().await?;
        Ok(Fees {
            max_fee: fees.max_fee_per_gas,
            priority_fee: fees.max_priority_fee_per_gas,
        })
    }

    async fn market(&self) -> Result<Fees, SendError> {
        self.market_fees()
            .await
            .map_err(|error| SendError::Connection(explain(&error)))
    }
}

fn now_secs() -> u64 {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map(|time| time.as_secs())
        .unwrap_or_default()
}

fn now_nanos() -> u128 {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map(|time| time.as_nanos())
        .unwrap_or_default()
}

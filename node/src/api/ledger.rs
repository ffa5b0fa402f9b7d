//! The rollup as the API sees it: the one file that asks it questions, and answers in the API's types.
//!
//! Reads come from what is durable, so they neither wait for the sequencer nor see what may be lost; balances and nonces come
//! from the sequencer, with everything that it has acknowledged.

use super::page::{Page, PageQuery};
use super::problem::{Code, Problem};
use super::types::{
    Accepted, AccountView, BatchProgress, BatchProof, BatchSummary, BatchView, EventView, Hash,
    OwnerAccounts, ReceiptView, RequestView, SealResult, TokenView, TransactionView,
};
use alloy::signers::local::PrivateKeySigner;
use millrace_circuits::account::Owner;
use millrace_circuits::field::Word;
use millrace_circuits::transaction::{Domain, SignedTransaction, TransactionId};
use millrace_circuits::types::{AccountIndex, BatchNumber, L1Address, TokenId};
use millrace_prover::proof::Proof;
use millrace_prover::snarkjs;
use millrace_rollup::Rollup;
use millrace_rollup::batch_log::{BatchRecord, BatchStage, QueuedRequest};
use millrace_rollup::fees::FeePolicy;
use millrace_rollup::handle::EngineStatus;
use millrace_rollup::mempool::{SubmitError, TransactionState};
use millrace_rollup::receipt::ReceiptBody;
use millrace_rollup::store::{Store, StoreError};
use std::sync::Arc;
use tokio::sync::watch;
use tokio::task::spawn_blocking;

/// Seconds after which a submission is worth another try when the node was too busy for it.
pub const BUSY_RETRY_SECS: u32 = 1;
/// Batches looked at, newest first, to find the newest of each stage.
const STAGE_SCAN: u64 = 1000;

/// A token of the rollup.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Token {
    /// Its number.
    pub number: TokenId,
    /// Its contract; none for ETH.
    pub address: Option<L1Address>,
}

/// The rollup.
#[derive(Clone)]
pub struct Ledger {
    rollup: Rollup,
    takes_transactions: bool,
    fees: FeePolicy,
    tokens: watch::Receiver<Vec<Token>>,
    operator: Option<Arc<PrivateKeySigner>>,
}

impl Ledger {
    /// The rollup behind this handle. A node that orders nothing does not take transactions.
    pub fn new(
        rollup: Rollup,
        takes_transactions: bool,
        fees: FeePolicy,
        tokens: watch::Receiver<Vec<Token>>,
    ) -> Self {
        Self {
            rollup,
            takes_transactions,
            fees,
            tokens,
            operator: None,
        }
    }

    /// Signs receipts with the operator's key.
    pub fn signing_receipts(mut self, operator: Option<PrivateKeySigner>) -> Self {
        self.operator = operator.map(Arc::new);
        self
    }

    /// Contract and chain.
    pub fn domain(&self) -> &Domain {
        self.rollup.domain()
    }

    /// The newest event's sequence number, and its changes.
    pub fn event_watch(&self) -> watch::Receiver<u64> {
        self.rollup.event_watch()
    }

    /// Reads the store on a thread that may block.
    async fn read<T: Send + 'static>(
        &self,
        question: impl FnOnce(&Store) -> Result<T, StoreError> + Send + 'static,
    ) -> Result<T, Problem> {
        let store: Arc<Store> = self.rollup.store().clone();
        let answer = spawn_blocking(move || question(&store)).await;
        answer
            .map_err(|error| Problem::internal("a read was cut off", &error))?
            .map_err(|error| damaged(&error))
    }

    /// Submits one transaction, or two that are linked to each other.
    ///
    /// # Errors
    /// Why nothing was taken.
    pub async fn submit(
        &self,
        signed: Vec<SignedTransaction>,
        key: Option<String>,
    ) -> Result<Accepted, Problem> {
        if !self.takes_transactions {
            return Err(Problem::new(
                Code::NotASequencer,
                "this node follows the rollup and orders nothing",
            ));
        }
        let taken = self.rollup.submit(signed, key).await;
        let outcome = taken
            .as_ref()
            .map_or_else(SubmitError::code, |_| "accepted");
        metrics::counter!("millrace_submissions_total", "outcome" => outcome).increment(1);
        let ids: Vec<TransactionId> = taken?.into_iter().map(|one| one.id).collect();
        let first = ids.first().copied();
        let received = self
            .read(move |store| first.map_or(Ok(None), |id| store.transaction(&id)))
            .await?;
        let accepted_at_millis = received.map_or(0, |record| record.received_at_millis);
        Ok(Accepted {
            receipts: self.receipts(&ids, accepted_at_millis),
            transactions: ids,
            accepted_at_millis,
        })
    }

    fn receipts(&self, ids: &[TransactionId], received_at_millis: u64) -> Vec<ReceiptView> {
        let Some(operator) = &self.operator else {
            return vec![];
        };
        let body = |id: &TransactionId| ReceiptBody {
            domain: *self.domain(),
            id: *id,
            received_at_millis,
        };
        ids.iter()
            .map(|id| body(id).sign(operator).into())
            .collect()
    }

    /// A transaction and where it stands.
    ///
    /// # Errors
    /// If there is none with this id.
    pub async fn transaction(&self, id: TransactionId) -> Result<TransactionView, Problem> {
        let found = self.read(move |store| transaction(store, id)).await?;
        found.ok_or_else(|| {
            Problem::new(
                Code::TransactionUnknown,
                format!("transaction {id} is unknown here"),
            )
        })
    }

    /// An account with everything that was accepted so far.
    ///
    /// # Errors
    /// If there is none at this index.
    pub async fn account(&self, index: AccountIndex) -> Result<AccountView, Problem> {
        let account = self
            .rollup
            .account(index)
            .await
            .map_err(|error| unavailable(&error))?;
        let account = account.ok_or_else(|| account_unknown(index))?;
        Ok(AccountView::new(index, &account))
    }

    /// All accounts of an owner.
    ///
    /// # Errors
    /// If the sequencer has stopped.
    pub async fn owned(&self, owner: Owner) -> Result<OwnerAccounts, Problem> {
        let mut owned = self
            .rollup
            .owned(owner)
            .await
            .map_err(|error| unavailable(&error))?;
        owned.sort_unstable_by_key(|(index, _)| *index);
        Ok(OwnerAccounts {
            accounts: owned
                .iter()
                .map(|(index, account)| AccountView::new(*index, account))
                .collect(),
        })
    }

    /// An account's transactions, newest first.
    ///
    /// # Errors
    /// If the page cannot be.
    pub async fn history(
        &self,
        index: AccountIndex,
        page: &PageQuery,
    ) -> Result<Page<TransactionView>, Problem> {
        let (limit, below) = (page.limit()?, page.below()?.unwrap_or(u64::MAX));
        let found = self
            .read(move |store| {
                let entries = store.history(index, below, limit + 1)?;
                let views = entries
                    .into_iter()
                    .map(|(place, id)| Ok((place, transaction(store, id)?)));
                views.collect::<Result<Vec<_>, StoreError>>()
            })
            .await?;
        let known = found
            .into_iter()
            .filter_map(|(place, view)| Some((place, view?)))
            .collect();
        Ok(Page::of(known, limit, |(place, _)| *place).map(|(_, view)| view))
    }

    /// Batches, newest first.
    ///
    /// # Errors
    /// If the page cannot be.
    pub async fn batches(&self, page: &PageQuery) -> Result<Page<BatchSummary>, Problem> {
        let (limit, below) = (page.limit()?, page.below()?);
        let found = self
            .read(move |store| {
                let newest = store.marks()?.planned.0;
                let first = below.map_or(newest, |below| newest.min(below.saturating_sub(1)));
                let records = (1..=first)
                    .rev()
                    .take(limit + 1)
                    .map(|number| store.batch(BatchNumber(number)));
                records
                    .filter_map(Result::transpose)
                    .collect::<Result<Vec<_>, _>>()
            })
            .await?;
        let summaries = found.iter().map(BatchSummary::from).collect();
        Ok(Page::of(summaries, limit, |batch: &BatchSummary| {
            batch.number.0
        }))
    }

    async fn record(&self, number: BatchNumber) -> Result<BatchRecord, Problem> {
        let found = self.read(move |store| store.batch(number)).await?;
        found.ok_or_else(|| {
            Problem::new(Code::BatchUnknown, format!("batch {number} does not exist"))
        })
    }

    /// A batch with its content.
    ///
    /// # Errors
    /// If there is none with this number.
    pub async fn batch(&self, number: BatchNumber) -> Result<BatchView, Problem> {
        let record = self.record(number).await?;
        self.read(move |store| {
            let depositor = |request| {
                store
                    .request(request)
                    .ok()
                    .flatten()
                    .map(|request| request.sender)
            };
            Ok(BatchView::new(&record, depositor))
        })
        .await
    }

    /// An L1 request, and the batch that serves it.
    ///
    /// # Errors
    /// If there is none with this number.
    pub async fn request(&self, number: u64) -> Result<RequestView, Problem> {
        let found = self
            .read(move |store| {
                let Some(request) = store.request(number)? else {
                    return Ok(None);
                };
                let batch = batch_of_request(store, number)?;
                Ok(Some(RequestView::new(&request, batch.as_ref())))
            })
            .await?;
        found.ok_or_else(|| {
            Problem::new(
                Code::RequestUnknown,
                format!("L1 request {number} is unknown here"),
            )
        })
    }

    /// A batch's proof.
    ///
    /// # Errors
    /// If there is no such batch, or no proof of it here.
    pub async fn proof(&self, number: BatchNumber) -> Result<BatchProof, Problem> {
        let record = self.record(number).await?;
        let (Some(words), Some(public)) = (record.proof, record.public) else {
            let stage = format!("batch {number} has no proof on this node");
            return Err(Problem::new(Code::ProofMissing, stage));
        };
        let proof = Proof::from_words(&words)
            .map_err(|error| Problem::internal("a stored proof is damaged", &error))?;
        let snarkjs = serde_json::from_str(&snarkjs::proof_json(&proof))
            .map_err(|error| Problem::internal("a proof does not serialise", &error))?;
        Ok(BatchProof {
            number,
            circuit: record.input.shape.id,
            public_inputs: public.inputs().map(Word),
            proof: words.map(Hash),
            snarkjs,
        })
    }

    /// Closes the open batch.
    ///
    /// # Errors
    /// If this node orders nothing, or the sequencer has stopped.
    pub async fn seal(&self) -> Result<SealResult, Problem> {
        if !self.takes_transactions {
            return Err(Problem::new(
                Code::NotASequencer,
                "this node follows the rollup and orders nothing",
            ));
        }
        let sealed = self
            .rollup
            .seal_now()
            .await
            .map_err(|error| unavailable(&error))?;
        let newest = self.engine().await?.marks.planned;
        Ok(SealResult {
            batch: Some(newest).filter(|_| sealed),
        })
    }

    /// Events from a sequence number on.
    ///
    /// # Errors
    /// If the disk fails.
    pub async fn events(&self, from: u64, limit: usize) -> Result<Vec<EventView>, Problem> {
        let events = self.read(move |store| store.events(from, limit)).await?;
        Ok(events.into_iter().map(EventView::from).collect())
    }

    /// The tokens with their lowest fees.
    pub fn tokens(&self) -> Vec<TokenView> {
        let view = |token: &Token| TokenView {
            number: token.number,
            address: token.address,
            minimum_fee: self.fees.floor(token.number),
        };
        self.tokens.borrow().iter().map(view).collect()
    }

    /// Payment address that collects fees.
    pub fn fee_owner(&self) -> Option<Owner> {
        self.fees.owner
    }

    /// Where the engine stands.
    ///
    /// # Errors
    /// If it has stopped.
    pub async fn engine(&self) -> Result<EngineStatus, Problem> {
        self.rollup
            .status()
            .await
            .map_err(|error| unavailable(&error))
    }

    /// The oldest L1 request that no batch has taken.
    ///
    /// # Errors
    /// If the database fails.
    pub async fn oldest_request(&self) -> Result<Option<QueuedRequest>, Problem> {
        self.read(|store| store.request(store.marks()?.requests_taken))
            .await
    }

    /// The newest batch of each stage, and the root after the newest sealed one.
    ///
    /// # Errors
    /// If the disk fails.
    pub async fn progress(&self) -> Result<(BatchProgress, Word), Problem> {
        self.read(|store| {
            let root = millrace_rollup::state::sealed_root(store)?;
            Ok((progress(store)?, root))
        })
        .await
    }
}

fn transaction(store: &Store, id: TransactionId) -> Result<Option<TransactionView>, StoreError> {
    let Some(record) = store.transaction(&id)? else {
        return Ok(None);
    };
    let batch = match record.state {
        TransactionState::InBatch { batch, .. } => store.batch(batch)?,
        TransactionState::Waiting | TransactionState::Dropped { .. } => None,
    };
    Ok(Some(TransactionView::new(id, &record, batch.as_ref())))
}

/// The closed batch that serves an L1 request. Batches take requests in order, so halving finds it.
fn batch_of_request(store: &Store, number: u64) -> Result<Option<BatchRecord>, StoreError> {
    let (mut low, mut high) = (1, store.marks()?.planned.0);
    let mut last = None;
    while low <= high {
        let middle = low + (high - low) / 2;
        let record = store.batch(BatchNumber(middle))?;
        match record.filter(|record| record.first_request <= number) {
            Some(record) => {
                low = middle + 1;
                last = Some(record);
            }
            None => high = middle - 1,
        }
    }
    let serves = |record: &BatchRecord| {
        let planned = record.input.l1_operations.len();
        let count = record
            .data
            .as_ref()
            .map_or(planned, |data| data.l1_rows.len());
        number < record.first_request + count as u64
    };
    Ok(last.filter(serves))
}

fn progress(store: &Store) -> Result<BatchProgress, StoreError> {
    let marks = store.marks()?;
    let none = BatchNumber(0);
    let mut progress = BatchProgress {
        sealed: marks.sealed,
        committed: none,
        proven: none,
        finalised: none,
    };
    for number in (1..=marks.sealed.0).rev().take(STAGE_SCAN as usize) {
        let number = BatchNumber(number);
        let Some(record) = store.batch(number)? else {
            continue;
        };
        let reached = |stage| record.stage >= stage;
        for (stage, newest) in [
            (BatchStage::Committed, &mut progress.committed),
            (BatchStage::Proven, &mut progress.proven),
            (BatchStage::Finalised, &mut progress.finalised),
        ] {
            if reached(stage) && *newest == none {
                *newest = number;
            }
        }
        if progress.finalised != none {
            break;
        }
    }
    Ok(progress)
}

fn account_unknown(index: AccountIndex) -> Problem {
    Problem::new(
        Code::AccountUnknown,
        format!("account {index} does not exist"),
    )
}

fn damaged(error: &StoreError) -> Problem {
    Problem::internal("the database cannot answer", error)
}

fn unavailable(error: &dyn std::fmt::Display) -> Problem {
    Problem::new(Code::NotReady, error).after(BUSY_RETRY_SECS)
}

impl From<SubmitError> for Problem {
    fn from(error: SubmitError) -> Self {
        let code = match &error {
            SubmitError::Unavailable { .. } => Code::NotReady,
            SubmitError::Busy => Code::Overloaded,
            SubmitError::IdempotencyKeyReused => Code::IdempotencyKeyReused,
            SubmitError::ValidTooLong { .. } => Code::ValidTooLong,
            SubmitError::Duplicate { .. } => Code::Duplicate,
            SubmitError::FeeTooLow { .. } => Code::FeeTooLow,
            SubmitError::FeeNotTaken { .. } => Code::FeeNotCollectable,
            SubmitError::Rule(rule) => Code::from(rule),
            SubmitError::NonceTooFarAhead { .. } => Code::NonceTooHigh,
            SubmitError::ReplacementUnderpriced { .. } => Code::NonceTaken,
            SubmitError::AccountFull { .. } => Code::AccountQueueFull,
            SubmitError::MempoolFull => Code::MempoolFull,
            SubmitError::TreeFull => Code::StateFull,
            SubmitError::NotAPair => Code::NotAPair,
            SubmitError::Storage(cause) => {
                return Self::internal("the transaction was not stored", cause);
            }
        };
        let problem = Self::new(code, error);
        let busy = matches!(
            code,
            Code::NotReady | Code::Overloaded | Code::MempoolFull | Code::AccountQueueFull
        );
        if busy {
            problem.after(BUSY_RETRY_SECS)
        } else {
            problem
        }
    }
}

//! Sending to L1: commits in order at once, proofs in order as they come, then payouts.
//!
//! ```text
//! contract's status → next batch to commit → commitBatch ┐
//!                   → next proofs          → proveBatches ├→ sender (never twice under one id) → stage → engine
//!                   → proven, unpaid       → payWithdrawals┘
//! ```
//!
//! Every decision starts from what the contract says, so a restart at any point goes on where it stopped. In the open phase any
//! account is an operator: what others committed and this node cannot prove gives way to its own batch.

use super::L1Error;
use super::convert::{
    PAYOUT_CHUNK, chunk_hashes, payout_chunks, payouts, to_batch, to_proof, to_stored_batch,
    to_u256,
};
use crate::batch_log::{BatchRecord, BatchStage, L1Link, QueuedRequest};
use crate::engine::L1Update;
use crate::handle::Rollup;
use alloy::eips::BlockId;
use alloy::primitives::{Bytes, U256};
use alloy::providers::Provider;
use alloy::rpc::types::TransactionReceipt;
use millrace_circuits::batch::BatchPublic;
use millrace_circuits::field;
use millrace_circuits::types::{BatchNumber, L1Address};
use millrace_l1::bindings::IRollup;
use millrace_l1::bindings::Rollup::RollupErrors;
use millrace_l1::rollup_client::{Refusal, RefusalKind, RollupClient, RollupError};
use millrace_l1::sender::{SendError, TransactionSender};
use std::time::Duration;
use tokio_util::sync::CancellationToken;

/// Batches of one circuit proven in one call at most.
const PROOFS_PER_CALL: usize = 8;

/// Bytes of a payout: receiver, token, amount.
const PAYOUT_BYTES: usize = 40;

/// How batches reach L1.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PosterConfig {
    /// Receives the operator's half of request fees: part of each batch's challenge.
    pub beneficiary: L1Address,
    /// Wait for the proof and send commit and proof in one transaction.
    pub together: bool,
    /// Whether this account may commit outside the open phase.
    pub is_operator: bool,
    /// Pay withdrawals of proven batches.
    pub pays: bool,
    /// Blocks on top of one before nothing can take it back.
    pub depth: u64,
}

/// Sends batches, proofs and payouts.
pub struct Poster {
    pub(super) rollup: Rollup,
    pub(super) client: RollupClient,
    pub(super) sender: TransactionSender,
    config: PosterConfig,
    /// All batches up to this one are paid, as deep as this node demands.
    paid: Option<u64>,
    /// Proven batches when the sender last forgot what is final.
    tidied: u64,
    /// The batch that `overdue` has said it waits for.
    pub(super) waits_for_overdue: Option<u64>,
}

/// Name of the note with the last batch whose payouts are all made.
const PAID_NOTE: &str = "paid-through";

impl Poster {
    /// Sends with `sender`.
    pub fn new(
        rollup: Rollup,
        client: RollupClient,
        sender: TransactionSender,
        config: PosterConfig,
    ) -> Self {
        Self {
            rollup,
            client,
            sender,
            config,
            paid: None,
            tidied: 0,
            waits_for_overdue: None,
        }
    }

    /// Sends until cancelled. What L1 refuses for now is tried again.
    pub async fn run(mut self, cancel: CancellationToken) -> Result<(), L1Error> {
        let mut news = self.rollup.event_watch();
        let mut pause = Duration::from_secs(1);
        loop {
            match self.step().await {
                Ok(()) => pause = Duration::from_secs(1),
                Err(error @ (L1Error::Stopped(_) | L1Error::Store(_))) => return Err(error),
                Err(error) => {
                    pause = (pause * 2).min(Duration::from_secs(60));
                    tracing::warn!(%error, retry_secs = pause.as_secs(), "posting to L1 failed");
                }
            }
            tokio::select! {
                () = cancel.cancelled() => return Ok(()),
                changed = news.changed() => if changed.is_err() { return Ok(()) },
                () = tokio::time::sleep(pause) => {}
            }
        }
    }

    /// Sends whatever can be sent now.
    ///
    /// # Errors
    /// If L1 cannot be reached or refuses.
    pub async fn step(&mut self) -> Result<(), L1Error> {
        let status = self.client.status().await?;
        if status.frozen {
            return self.pay().await;
        }
        if self.client.is_open_phase().await? {
            self.replace_unprovable(status.provenBatches + 1).await?;
            self.commit_and_prove_next().await?;
        } else if self.config.is_operator {
            if self.config.together {
                self.commit_and_prove_next().await?;
            } else {
                self.commit_all().await?;
                self.prove_all().await?;
            }
        }
        self.pay().await?;
        self.tidy(status.provenBatches).await?;
        if self.config.is_operator {
            self.drop_overdue(&status).await?;
        }
        Ok(())
    }

    /// Takes back a committed batch that somebody else built: only its builder can prove it, and in the open phase the next
    /// proof drops it. Its requests, and what users sent to this node, make this node's own batch.
    async fn replace_unprovable(&self, number: u64) -> Result<(), L1Error> {
        let Some(record) = self.record(number)? else {
            return Ok(());
        };
        let is_own =
            record.proof.is_some() || self.rollup.store().witness(record.number)?.is_some();
        if is_own || record.stage != BatchStage::Committed {
            return Ok(());
        }
        tracing::warn!(
            batch = number,
            "another's batch without a proof is replaced"
        );
        self.take_back(number).await
    }

    /// Has this batch and all later ones sealed anew.
    async fn take_back(&self, number: u64) -> Result<(), L1Error> {
        let reverted_to = Some(BatchNumber(number.saturating_sub(1)));
        let update = L1Update {
            reverted_to,
            ..L1Update::default()
        };
        Ok(self.rollup.l1_update(update).await?)
    }

    /// Forgets transactions that no reorg can bring back, whenever more batches are proven.
    async fn tidy(&mut self, proven: u64) -> Result<(), L1Error> {
        if proven > self.tidied {
            let forgotten = self.sender.forget_final(self.config.depth).await;
            forgotten.map_err(RollupError::from)?;
            self.tidied = proven;
        }
        Ok(())
    }

    pub(super) fn record(&self, number: u64) -> Result<Option<BatchRecord>, L1Error> {
        let record = self.rollup.store().batch(BatchNumber(number))?;
        Ok(record.filter(|record| record.stage >= BatchStage::Sealed))
    }

    fn requests(&self, record: &BatchRecord) -> Result<Vec<QueuedRequest>, L1Error> {
        let count = record.data.as_ref().map_or(0, |data| data.l1_rows.len()) as u64;
        (record.first_request..record.first_request + count)
            .map(|id| {
                self.rollup
                    .store()
                    .request(id)?
                    .ok_or_else(|| L1Error::Batch {
                        batch: record.number,
                        reason: format!("L1 request {id} is not in the database"),
                    })
            })
            .collect()
    }

    async fn commit_all(&mut self) -> Result<(), L1Error> {
        loop {
            let height = self.sender.l1().provider().get_block_number().await?;
            let status = self.client.status().await?;
            let next = status.committedBatches + 1;
            let Some(record) = self.record(next)? else {
                return Ok(());
            };
            let (Some(data), Some(public)) = (&record.data, &record.public) else {
                return Ok(());
            };
            if to_u256(&data.header.old_root.0) != status.committedRoot {
                return Ok(()); // L1 stands elsewhere: the synchronizer will say where
            }
            let requests = self.requests(&record)?;
            let batch = to_batch(data, &public.commitment, &requests, self.config.beneficiary);
            let id = format!("commit-{next}-{}", tag(public));
            let sent = self
                .client
                .commit_batch(&self.sender, &id, next, batch)
                .await;
            let receipt = match sent {
                Ok(receipt) => receipt,
                Err(error) => {
                    self.free_id(&id, &error);
                    return self.refused(next, error).await;
                }
            };
            if receipt.block_number.is_some_and(|block| block <= height) {
                // It had landed, and the contract has dropped it since: it must be sent again.
                self.forget(&id);
                continue;
            }
            self.committed(next, &receipt).await?;
        }
    }

    async fn committed(
        &mut self,
        number: u64,
        receipt: &TransactionReceipt,
    ) -> Result<(), L1Error> {
        let committed = vec![(BatchNumber(number), link(receipt))];
        Ok(self
            .rollup
            .l1_update(L1Update {
                committed,
                ..L1Update::default()
            })
            .await?)
    }

    /// Lets the same call be sent again after the contract refused it: nothing of it can be mined any more.
    pub(super) fn free_id(&self, id: &str, error: &RollupError) {
        let is_over = matches!(
            error,
            RollupError::Refused(_) | RollupError::Send(SendError::Reverted { .. })
        );
        if is_over {
            self.forget(id);
        }
    }

    pub(super) fn forget(&self, id: &str) {
        if let Err(error) = self.sender.forget(id) {
            tracing::warn!(%error, id, "the transaction is not forgotten");
        }
    }

    /// A batch that L1 has outrun is taken back and sealed anew; anything else is for the caller.
    async fn refused(&mut self, number: u64, error: RollupError) -> Result<(), L1Error> {
        if error.refusal().is_some_and(is_outrun) {
            tracing::warn!(batch = number, %error, "the batch is sealed anew");
            return self.take_back(number).await;
        }
        match error.refusal().map(|refusal| refusal.kind) {
            Some(RefusalKind::StateMoved) => Ok(()), // read again in the next step
            _ => Err(error.into()),
        }
    }

    async fn prove_all(&mut self) -> Result<(), L1Error> {
        loop {
            let status = self.client.status().await?;
            let (mut stored, mut proofs) = (Vec::new(), Vec::new());
            let mut circuit = None;
            for number in status.provenBatches + 1..=status.committedBatches {
                let Some(record) = self.record(number)? else {
                    break;
                };
                let (Some(proof), Some(data)) = (&record.proof, &record.data) else {
                    break;
                };
                if *circuit.get_or_insert(data.shape.id) != data.shape.id {
                    break;
                }
                let Some(batch) = self.stored(&record).await? else {
                    break;
                };
                stored.push(batch);
                proofs.push(to_proof(proof));
                if stored.len() == PROOFS_PER_CALL {
                    break;
                }
            }
            let (Some(first), Some(last)) = (stored.first(), stored.last()) else {
                return Ok(());
            };
            let (first, last) = (first.number, last.number);
            let tag = hex::encode(&stored[0].y.to_be_bytes::<32>()[..8]);
            let id = format!("prove-{first}-{last}-{tag}");
            let sent = self
                .client
                .prove_batches(&self.sender, &id, stored, proofs)
                .await;
            let receipt = match sent {
                Ok(receipt) => receipt,
                Err(error) => {
                    self.free_id(&id, &error);
                    return self.refused(first, error).await;
                }
            };
            self.proven(first..=last, &receipt).await?;
        }
    }

    async fn proven(
        &mut self,
        numbers: std::ops::RangeInclusive<u64>,
        receipt: &TransactionReceipt,
    ) -> Result<(), L1Error> {
        let proven = numbers
            .map(|number| (BatchNumber(number), link(receipt)))
            .collect();
        Ok(self
            .rollup
            .l1_update(L1Update {
                proven,
                ..L1Update::default()
            })
            .await?)
    }

    async fn stored(&self, record: &BatchRecord) -> Result<Option<IRollup::StoredBatch>, L1Error> {
        let Some(committed) = record.committed else {
            return Ok(None);
        };
        let time = self.commit_time(committed.block).await?;
        let requests = self.requests(record)?;
        Ok(to_stored_batch(
            record,
            &requests,
            time,
            self.config.beneficiary,
        ))
    }

    pub(super) async fn commit_time(&self, block: u64) -> Result<u64, L1Error> {
        // Not remembered: after a reorg the block may be another one.
        let found = self
            .sender
            .l1()
            .provider()
            .get_block_by_number(block.into())
            .await?;
        let found = found.ok_or_else(|| L1Error::Gap(format!("block {block}")))?;
        Ok(found.header.timestamp)
    }

    /// One transaction for commit and proof, always on the last proven batch.
    async fn commit_and_prove_next(&mut self) -> Result<(), L1Error> {
        loop {
            let status = self.client.status().await?;
            let next = status.provenBatches + 1;
            let Some(record) = self.record(next)? else {
                return Ok(());
            };
            let (Some(data), Some(public)) = (&record.data, &record.public) else {
                return Ok(());
            };
            if to_u256(&data.header.old_root.0) != status.provenRoot {
                return Ok(()); // L1 stands elsewhere: the synchronizer will say where
            }
            let requests = self.requests(&record)?;
            let batch = to_batch(data, &public.commitment, &requests, self.config.beneficiary);
            let Some(proof) = &record.proof else {
                return self.check_before_proof(next, batch).await;
            };
            let id = format!("together-{next}-{}", tag(public));
            let proof = to_proof(proof);
            let sent = self
                .client
                .commit_and_prove(&self.sender, &id, next, batch, proof)
                .await;
            let receipt = match sent {
                Ok(receipt) => receipt,
                Err(error) => {
                    self.free_id(&id, &error);
                    return self.refused(next, error).await;
                }
            };
            self.committed(next, &receipt).await?;
            self.proven(next..=next, &receipt).await?;
        }
    }

    /// Asks the contract about a batch that is not proven yet, so that no proof is made of one that L1 has outrun.
    async fn check_before_proof(
        &mut self,
        number: u64,
        batch: IRollup::Batch,
    ) -> Result<(), L1Error> {
        let contract = self.client.contract();
        let call = contract.commitAndProve(number, batch, IRollup::Proof::default());
        let answer = call.from(self.sender.address()).call().await;
        let data = answer.err().and_then(|error| error.as_revert_data());
        match data.as_ref().and_then(Refusal::decode) {
            // All but the proof is right, or somebody else's turn.
            Some(refusal) if !is_outrun(&refusal) => Ok(()),
            Some(refusal) => self.refused(number, refusal.into()).await,
            None => Ok(()),
        }
    }

    /// Pays what proven batches owe. A batch is looked at until its payments are as deep as this node demands: a reorg may take
    /// one back.
    async fn pay(&mut self) -> Result<(), L1Error> {
        if !self.config.pays {
            return Ok(());
        }
        let proven = self.client.status().await?.provenBatches;
        let settled = match self.paid {
            Some(paid) => paid,
            None => self.rollup.store().note::<u64>(PAID_NOTE)?.unwrap_or(0),
        };
        self.paid = Some(settled);
        for number in settled + 1..=proven {
            let record = self.record(number)?;
            // Until the synchronizer has said so, another's batch may stand there.
            let Some(record) = record.filter(|record| record.stage >= BatchStage::Proven) else {
                return Ok(());
            };
            self.pay_batch(&record).await?;
            if self.paid == Some(number - 1) && self.is_settled(&record).await? {
                self.paid = Some(number);
                self.rollup.note(PAID_NOTE, &number).await?;
            }
        }
        Ok(())
    }

    /// Whether no reorg can take back the payments of a batch.
    async fn is_settled(&self, record: &BatchRecord) -> Result<bool, L1Error> {
        if record.stage < BatchStage::Finalised {
            return Ok(false);
        }
        let Some(data) = &record.data else {
            return Ok(true);
        };
        let chunks = payout_chunks(&payouts(data, &self.requests(record)?));
        let mut block = BlockId::latest();
        if self.config.depth > 0 && !chunks.is_empty() {
            let head = self.sender.l1().provider().get_block_number().await?;
            block = BlockId::number(head.saturating_sub(self.config.depth));
        }
        for (position, records) in chunks.iter().enumerate() {
            let chunk = U256::from(position);
            let paid = self
                .client
                .paid_mask_at(record.number.0, chunk, block)
                .await?;
            if full_mask(records) & !paid != 0 {
                return Ok(false);
            }
        }
        Ok(true)
    }

    async fn pay_batch(&self, record: &BatchRecord) -> Result<(), L1Error> {
        let Some(data) = &record.data else {
            return Ok(());
        };
        let payouts = payouts(data, &self.requests(record)?);
        let chunks = payout_chunks(&payouts);
        let hashes = chunk_hashes(&chunks);
        let number = record.number.0;
        for (position, records) in chunks.into_iter().enumerate() {
            let chunk = U256::from(position);
            let open = full_mask(&records) & !self.client.paid_mask(number, chunk).await?;
            if open == 0 {
                continue;
            }
            let id = format!(
                "pay-{number}-{position}-{open:x}-{}",
                hex::encode(&hashes[position][..8])
            );
            let (hashes, records) = (hashes.clone(), Bytes::from(records));
            let mask = U256::from(open);
            self.client
                .pay_withdrawals(&self.sender, &id, number, hashes, chunk, records, mask)
                .await?;
        }
        Ok(())
    }
}

/// Whether L1's time or queue has left the batch behind.
fn is_outrun(refusal: &Refusal) -> bool {
    matches!(
        *refusal.error,
        RollupErrors::TimestampOutOfRange(_)
            | RollupErrors::RequestMismatch(_)
            | RollupErrors::RequestLeftOut(_)
    )
}

/// One bit for each payout of a chunk.
fn full_mask(records: &[u8]) -> u32 {
    let count = (records.len() / PAYOUT_BYTES).min(PAYOUT_CHUNK) as u32;
    u32::MAX.checked_shr(u32::BITS - count).unwrap_or(0)
}

/// Tells batches of one number apart. The challenge covers header and data: a batch that was sealed anew, with the same rows
/// at another time, is another call and needs another id.
fn tag(public: &BatchPublic) -> String {
    hex::encode(&field::to_bytes(&public.challenge.0)[..8])
}

fn link(receipt: &TransactionReceipt) -> L1Link {
    L1Link {
        transaction: receipt.transaction_hash.0,
        block: receipt.block_number.unwrap_or_default(),
        gas: Some(receipt.gas_used),
    }
}

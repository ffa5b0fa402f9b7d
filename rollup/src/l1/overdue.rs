//! Dropping what this node cannot prove: a commit whose witness was lost with a database, or that never was a batch.
//!
//! ```text
//! first unproven batch → no proof, no witness, or junk? → read its commit back from L1 → proof overdue? → revertBatches
//! ```
//! Everything that the operator commits stands on that batch, so the rollup would wait for somebody else to drop it. After
//! that the synchronizer sees `BatchesDropped` and the engine seals anew what it has.

use super::L1Error;
use super::convert::{decode_commit, stored_from_posted, to_word};
use super::poster::Poster;
use crate::batch_log::{BatchStage, L1Link};
use crate::engine::junk;
use alloy::consensus::Transaction;
use alloy::eips::BlockNumberOrTag;
use alloy::primitives::B256;
use alloy::providers::Provider;
use millrace_circuits::types::BatchNumber;
use millrace_l1::bindings::IRollup::{Status, StoredBatch};

/// Seconds after a commit until anyone may drop it unproven: the contract's `PROOF_WINDOW`.
pub const PROOF_WINDOW_SECS: u64 = 6 * 3600;

impl Poster {
    /// Drops all unproven batches once the first of them, which this node cannot prove, is overdue.
    ///
    /// # Errors
    /// If L1 cannot be read or refuses.
    pub(super) async fn drop_overdue(&mut self, status: &Status) -> Result<(), L1Error> {
        let number = status.provenBatches + 1;
        if status.committedBatches < number {
            return Ok(());
        }
        let Some(link) = self.unprovable(BatchNumber(number))? else {
            return Ok(());
        };
        let Some(stored) = self.read_back(number, link, status).await? else {
            return Ok(());
        };
        let due = stored.committedAt + PROOF_WINDOW_SECS;
        if self.head_time().await? <= due {
            if self.waits_for_overdue.replace(number) != Some(number) {
                tracing::warn!(
                    batch = number,
                    overdue_after = due,
                    "this node cannot prove a committed batch; it drops it, and all later ones, at that Unix time, unless \
                     another prover proves it"
                );
            }
            return Ok(());
        }
        let height = self.sender.l1().provider().get_block_number().await?;
        let id = format!("revert-{number}-{:x}", stored.z);
        let sent = self.client.revert_batches(&self.sender, &id, stored).await;
        let landed_before = sent
            .as_ref()
            .is_ok_and(|receipt| receipt.block_number.is_some_and(|block| block <= height));
        if let Err(error) = &sent {
            self.free_id(&id, error);
        } else if landed_before {
            // The same batch was committed once more since.
            self.forget(&id);
        }
        sent?;
        tracing::warn!(batch = number, "dropped from L1: its proof was overdue");
        Ok(())
    }

    /// Where the batch was committed, if this node has neither a proof of it nor the means to make one.
    fn unprovable(&self, number: BatchNumber) -> Result<Option<L1Link>, L1Error> {
        let store = self.rollup.store();
        if let Some(junk) = junk(store)?.filter(|junk| junk.number == number) {
            return Ok(Some(junk.link));
        }
        let record = self.record(number.0)?;
        let Some(record) = record.filter(|record| record.stage == BatchStage::Committed) else {
            return Ok(None);
        };
        let provable = record.proof.is_some() || store.witness(number)?.is_some();
        Ok(record.committed.filter(|_| !provable))
    }

    /// The batch as the contract remembers it, from the transaction that committed it.
    async fn read_back(
        &self,
        number: u64,
        link: L1Link,
        status: &Status,
    ) -> Result<Option<StoredBatch>, L1Error> {
        let hash = B256::from(link.transaction);
        let found = self
            .sender
            .l1()
            .provider()
            .get_transaction_by_hash(hash)
            .await?;
        let found = found.ok_or_else(|| L1Error::Gap(format!("transaction {hash}")))?;
        let unreadable = |error: &dyn std::fmt::Display| L1Error::Batch {
            batch: BatchNumber(number),
            reason: format!("it cannot be proven, and not be read back to drop it: {error}"),
        };
        let (named, batch) = decode_commit(found.input()).map_err(|error| unreadable(&error))?;
        if named.0 != number {
            return Ok(None); // L1 has moved on
        }
        let first = status.provenQueueHead;
        let requests: Vec<_> = (first..first + batch.l1Rows.len() as u64)
            .map(|id| self.rollup.store().request(id))
            .collect::<Result<Option<_>, _>>()?
            .ok_or_else(|| L1Error::Gap(format!("request {first} or one after it")))?;
        let time = self.commit_time(link.block).await?;
        let domain = *self.rollup.domain();
        let root = to_word(status.provenRoot).map_err(|error| unreadable(&error))?;
        stored_from_posted(named, &batch, domain, root, (first, &requests), time)
            .map(Some)
            .map_err(|error| unreadable(&error))
    }

    async fn head_time(&self) -> Result<u64, L1Error> {
        let head = self
            .sender
            .l1()
            .provider()
            .get_block_by_number(BlockNumberOrTag::Latest)
            .await?;
        let head = head.ok_or_else(|| L1Error::Gap("the newest block".to_owned()))?;
        Ok(head.header.timestamp)
    }
}

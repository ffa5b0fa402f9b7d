//! How long batches take from stage to stage, as metrics.
//!
//! events from now on → time since the batch's stage before → `millrace_batch_stage_seconds{stage}`

use millrace_circuits::types::BatchNumber;
use millrace_rollup::Rollup;
use millrace_rollup::events::{Event, EventKind};
use millrace_rollup::store::StoreError;
use std::collections::BTreeMap;
use thiserror::Error;
use tokio_util::sync::CancellationToken;

/// Events read at a time.
const PAGE: usize = 256;
/// Batches under way that are remembered.
const MAX_BATCHES: usize = 10_000;

/// Why nothing is measured any more.
#[derive(Debug, Error)]
pub enum MeasureError {
    /// The database failed.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// A read was cut off.
    #[error("a read was cut off: {0}")]
    CutOff(String),
}

/// Measures until cancelled.
///
/// # Errors
/// If the database fails.
pub async fn stages(rollup: Rollup, stop: CancellationToken) -> Result<(), MeasureError> {
    let mut newest = rollup.event_watch();
    let (mut next, mut clock) = (*newest.borrow_and_update() + 1, StageClock::default());
    loop {
        let store = rollup.store().clone();
        let events = tokio::task::spawn_blocking(move || store.events(next, PAGE)).await;
        let events = events.map_err(|error| MeasureError::CutOff(error.to_string()))??;
        for event in &events {
            next = event.sequence + 1;
            if let Some((stage, seconds)) = clock.take(event) {
                metrics::histogram!("millrace_batch_stage_seconds", "stage" => stage)
                    .record(seconds);
            }
        }
        if events.len() == PAGE {
            continue;
        }
        tokio::select! {
            () = stop.cancelled() => return Ok(()),
            changed = newest.changed() => if changed.is_err() { return Ok(()) },
        }
    }
}

/// When each batch under way got where it is, in Unix milliseconds.
#[derive(Debug, Default)]
struct StageClock(BTreeMap<BatchNumber, u64>);

impl StageClock {
    /// The stage that an event reports, and the seconds since the one before.
    fn take(&mut self, event: &Event) -> Option<(&'static str, f64)> {
        let at = event.at_millis;
        let (stage, batch) = match event.kind {
            EventKind::TransactionAccepted { batch, .. }
            | EventKind::DepositTaken { batch, .. }
            | EventKind::ForcedExitTaken { batch, .. } => {
                self.0.entry(batch).or_insert(at);
                while self.0.len() > MAX_BATCHES {
                    self.0.pop_first();
                }
                return None;
            }
            EventKind::BatchSealed { batch, .. } => ("sealed", batch),
            EventKind::BatchCommitted { batch, .. } => ("committed", batch),
            EventKind::BatchProven { batch, .. } => ("proven", batch),
            EventKind::BatchFinalised { batch } => ("finalised", batch),
            EventKind::RolledBack { to, .. } => {
                self.0.split_off(&BatchNumber(to.0 + 1));
                return None;
            }
            EventKind::TransactionWaiting { .. } | EventKind::TransactionDropped { .. } => {
                return None;
            }
        };
        let before = match stage {
            "finalised" => self.0.remove(&batch)?,
            _ => std::mem::replace(self.0.get_mut(&batch)?, at),
        };
        Some((stage, at.saturating_sub(before) as f64 / 1000.0))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_stage_counts_from_the_one_before_and_a_rollback_forgets() {
        let mut clock = StageClock::default();
        let batch = BatchNumber(4);
        let mut take = |at_millis, kind| {
            clock.take(&Event {
                sequence: 1,
                at_millis,
                kind,
            })
        };
        assert_eq!(
            take(500, EventKind::BatchFinalised { batch }),
            None,
            "what began before is not measured"
        );
        let index = millrace_circuits::types::AccountIndex::ZERO;
        assert_eq!(
            take(
                1000,
                EventKind::DepositTaken {
                    request: 0,
                    index,
                    batch
                }
            ),
            None
        );
        assert_eq!(
            take(
                1250,
                EventKind::BatchSealed {
                    batch,
                    transactions: vec![]
                }
            ),
            Some(("sealed", 0.25))
        );
        assert_eq!(
            take(
                3250,
                EventKind::BatchCommitted {
                    batch,
                    l1_transaction: [0; 32]
                }
            ),
            Some(("committed", 2.0))
        );
        assert_eq!(
            take(
                4250,
                EventKind::BatchProven {
                    batch,
                    l1_transaction: [0; 32]
                }
            ),
            Some(("proven", 1.0))
        );
        assert_eq!(
            take(4750, EventKind::BatchFinalised { batch }),
            Some(("finalised", 0.5))
        );
        assert_eq!(take(4750, EventKind::BatchFinalised { batch }), None);
        assert_eq!(
            take(
                5000,
                EventKind::DepositTaken {
                    request: 1,
                    index,
                    batch
                }
            ),
            None
        );
        assert_eq!(
            take(
                5001,
                EventKind::RolledBack {
                    to: BatchNumber(3),
                    reason: String::new()
                }
            ),
            None
        );
        assert_eq!(
            take(
                5002,
                EventKind::BatchSealed {
                    batch,
                    transactions: vec![]
                }
            ),
            None
        );
    }
}

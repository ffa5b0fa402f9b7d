//! Between the sequencer and the provers, who know nothing of each other: batches become jobs, results become proofs.
//!
//! ```text
//! sealed batch without proof → witness → queue ─ worker here or elsewhere ─→ result
//!                                                      result ─ still the same batch? → kept for the poster
//! proven batch, or one that was taken back → its job is forgotten
//! ```
//!
//! Everything is decided anew from the store and the queue, both durable, so a restart at any point goes on. A job is named
//! by its statement: a batch that was rolled back and made again is another job.

use super::board::Board;
use millrace_circuits::batch::BatchPublic;
use millrace_circuits::types::BatchNumber;
use millrace_prover::circuit::Statement;
use millrace_prover::prove::Timings;
use millrace_prover::queue::{Job, JobKey, JobQueue, JobState, Millis, Queue, QueueError};
use millrace_rollup::Rollup;
use millrace_rollup::batch_log::{BatchRecord, BatchStage, Word8};
use millrace_rollup::handle::Stopped;
use millrace_rollup::store::{Store, StoreError};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;
use thiserror::Error;
use tokio_util::sync::CancellationToken;

/// Batches in the queue at a time: more would only make it longer.
const AHEAD: usize = 64;
/// Batches that a reorg of L1 may make unproven again.
const REORG_MARGIN: u64 = 64;
/// Shortest time between two looks: every accepted transaction is news.
const SHORTEST_INTERVAL: Duration = Duration::from_millis(50);
/// How often to look without any news.
const INTERVAL: Duration = Duration::from_secs(2);

/// Why proofs can no longer be passed on.
#[derive(Debug, Error)]
pub enum ProofsError {
    /// The sequencer's database failed.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The sequencer is gone.
    #[error(transparent)]
    Stopped(#[from] Stopped),
    /// A step was cut off.
    #[error("a step was cut off: {0}")]
    CutOff(String),
}

/// A proof for a batch.
struct Ready {
    batch: BatchNumber,
    public: BatchPublic,
    words: [Word8; 8],
}

/// What is in the queue for a batch.
#[derive(Clone, Copy)]
struct Submitted {
    key: JobKey,
    public: BatchPublic,
}

/// Passes batches to the queue and proofs back.
pub struct Proofs {
    rollup: Rollup,
    queue: Arc<Queue>,
    board: Board,
    desk: Desk,
}

impl Proofs {
    /// Between this rollup and this queue.
    pub fn new(rollup: Rollup, queue: Arc<Queue>, board: Board) -> Self {
        let desk = Desk {
            store: rollup.store().clone(),
            queue: queue.clone(),
            submitted: BTreeMap::new(),
            first_unproven: 1,
        };
        Self {
            rollup,
            queue,
            board,
            desk,
        }
    }

    /// Works until cancelled.
    ///
    /// # Errors
    /// If the sequencer or its database is gone.
    pub async fn run(mut self, stop: CancellationToken) -> Result<(), ProofsError> {
        let (mut events, mut changes) = (self.rollup.event_watch(), self.queue.watch());
        loop {
            events.borrow_and_update();
            changes.borrow_and_update();
            self.step().await?;
            tokio::select! {
                () = stop.cancelled() => return Ok(()),
                () = tokio::time::sleep(SHORTEST_INTERVAL) => {}
            }
            tokio::select! {
                () = stop.cancelled() => return Ok(()),
                changed = events.changed() => if changed.is_err() { return Ok(()) },
                changed = changes.changed() => if changed.is_err() { return Ok(()) },
                () = tokio::time::sleep(INTERVAL) => {}
            }
        }
    }

    async fn step(&mut self) -> Result<(), ProofsError> {
        let mut desk = self.desk.clone();
        let looked = tokio::task::spawn_blocking(move || {
            let ready = desk.look();
            (desk, ready)
        });
        let (desk, ready) = looked
            .await
            .map_err(|error| ProofsError::CutOff(error.to_string()))?;
        self.desk = desk;
        let (ready, fault) = ready?;
        self.board
            .fault("proofs", fault.map(|error| error.to_string()));
        for Ready {
            batch,
            public,
            words,
        } in ready
        {
            // The batch may have been taken back and made again while its proof was made.
            if self
                .rollup
                .store()
                .batch(batch)?
                .and_then(|record| record.public)
                == Some(public)
            {
                self.rollup.keep_proof(batch, words).await?;
                tracing::info!(batch = batch.0, "proved");
            }
        }
        Ok(())
    }
}

/// The part that reads disks, so it runs where it may block.
#[derive(Clone)]
struct Desk {
    store: Arc<Store>,
    queue: Arc<Queue>,
    submitted: BTreeMap<BatchNumber, Submitted>,
    first_unproven: u64,
}

type Looked = (Vec<Ready>, Option<QueueError>);

impl Desk {
    /// Submits what is to be proved, collects what is proved, forgets what nobody needs. A queue that refuses is a fault,
    /// not an end.
    fn look(&mut self) -> Result<Looked, StoreError> {
        let mut fault = None;
        let mut ready = vec![];
        for record in self.unproven()? {
            match self.serve(&record) {
                Ok(found) => ready.extend(found),
                Err(Trouble::Store(error)) => return Err(error),
                Err(Trouble::Queue(error)) => fault = Some(error),
            }
        }
        if let Err(error) = self.forget_the_rest()? {
            fault = Some(error);
        }
        Ok((ready, fault))
    }

    /// Hashed batches that are not proven on L1, lowest first. What is proven stays so but for a reorg, so the search
    /// begins a little below where it found the first one last time.
    fn unproven(&mut self) -> Result<Vec<BatchRecord>, StoreError> {
        let sealed = self.store.marks()?.sealed.0;
        let first = self.first_unproven.saturating_sub(REORG_MARGIN).max(1);
        let mut found: Vec<BatchRecord> = vec![];
        for number in first..=sealed {
            let record = self.store.batch(BatchNumber(number))?;
            found.extend(record.filter(|record| record.stage < BatchStage::Proven));
            if found.len() == AHEAD {
                break;
            }
        }
        let lowest = found.first().map(|record| record.number.0);
        self.first_unproven = lowest.unwrap_or(sealed + 1);
        Ok(found)
    }

    fn serve(&mut self, record: &BatchRecord) -> Result<Option<Ready>, Trouble> {
        let Some(public) = record.public else {
            return Ok(None);
        };
        let known = self
            .submitted
            .get(&record.number)
            .filter(|known| known.public == public)
            .copied();
        let known = match known {
            Some(known) => known,
            None => match self.submit(record.number, public)? {
                Some(submitted) => submitted,
                None => return Ok(None),
            },
        };
        if record.proof.is_some() {
            return Ok(None);
        }
        let Some(result) = self.queue.result(&known.key)? else {
            return Ok(None);
        };
        measure(&result.timings);
        Ok(Some(Ready {
            batch: record.number,
            public,
            words: result.proof.words(),
        }))
    }

    fn submit(
        &mut self,
        batch: BatchNumber,
        public: BatchPublic,
    ) -> Result<Option<Submitted>, Trouble> {
        // A batch that another operator made has no witness here.
        let Some(stored) = self.store.witness(batch)? else {
            return Ok(None);
        };
        let statement = Statement::Batch {
            witness: Box::new(stored.witness),
            public: stored.public,
        };
        let job = Job { batch, statement };
        let record = self.queue.submit(&job, Millis::now())?;
        if record.state == JobState::Waiting {
            tracing::info!(batch = batch.0, job = %record.key, "waits for its proof");
        }
        let submitted = Submitted {
            key: record.key,
            public,
        };
        self.submitted.insert(batch, submitted);
        Ok(Some(submitted))
    }

    /// Removes jobs of batches that are proven, or were made again.
    fn forget_the_rest(&mut self) -> Result<Result<(), QueueError>, StoreError> {
        let jobs = match self.queue.list() {
            Ok(jobs) => jobs,
            Err(error) => return Ok(Err(error)),
        };
        for job in jobs {
            let record = self.store.batch(job.key.batch)?;
            let proven = record
                .as_ref()
                .is_some_and(|record| record.stage >= BatchStage::Proven);
            let replaced = self
                .submitted
                .get(&job.key.batch)
                .is_some_and(|known| known.key != job.key);
            if proven || replaced || record.is_none() {
                if let Err(error) = self.queue.forget(&job.key) {
                    return Ok(Err(error));
                }
                self.submitted.retain(|_, known| known.key != job.key);
            }
        }
        Ok(Ok(()))
    }
}

fn measure(timings: &Timings) {
    let phases = [
        ("witness", timings.witness_s),
        ("prove", timings.prove_s),
        ("verify", timings.verify_s),
    ];
    for (phase, seconds) in phases {
        metrics::histogram!("millrace_proof_seconds", "phase" => phase).record(seconds);
    }
}

/// Why a batch is not served: the store ends the task, the queue is asked again.
#[derive(Debug)]
enum Trouble {
    Store(StoreError),
    Queue(QueueError),
}

impl From<StoreError> for Trouble {
    fn from(error: StoreError) -> Self {
        Self::Store(error)
    }
}

impl From<QueueError> for Trouble {
    fn from(error: QueueError) -> Self {
        Self::Queue(error)
    }
}

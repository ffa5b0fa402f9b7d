//! How fast the sequencer takes transactions: real signatures, a real store, every acknowledgement durable.
//!
//! ```text
//! state of N accounts on disk → opened (timed) → as fast as it goes → at 80 % of that, on a schedule → all acknowledged ids
//! looked up after a restart
//! ```

use crate::engine::{EngineConfig, EngineError, L1Update};
use crate::fees::FeePolicy;
use crate::handle::{Rollup, RollupTask, Stopped, now_millis};
use crate::mempool::{MempoolLimits, SubmitError, TransactionState};
use crate::snapshot::{SnapshotError, fill};
use crate::store::{Marks, Store, StoreError};
use ark_bn254::Fr;
use millrace_circuits::account::{Account, Owner};
use millrace_circuits::amount::{FeeCode, Float40};
use millrace_circuits::batch::Shape;
use millrace_circuits::eddsa::SecretKey;
use millrace_circuits::field::Word;
use millrace_circuits::transaction::{
    Action, Domain, SignedTransaction, Transaction, TransactionId,
};
use millrace_circuits::types::{
    AccountIndex, Amount, L1Address, Nonce, OutOfRange, Timestamp, TokenId,
};
use rayon::prelude::*;
use serde::Serialize;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};
use thiserror::Error;
use tokio::task::JoinSet;

/// What is measured.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SequencerBench {
    /// Accounts in the state.
    pub accounts: u64,
    /// Accounts that send.
    pub senders: u64,
    /// Seconds of each of the two runs.
    pub seconds: u64,
    /// Transactions on their way at once in the run at full speed.
    pub in_flight: usize,
    /// Most transactions a second that are signed ahead for.
    pub signed_per_s: u64,
}

impl Default for SequencerBench {
    fn default() -> Self {
        Self {
            accounts: 1_000_000,
            senders: 2_048,
            seconds: 10,
            in_flight: 128,
            signed_per_s: 5_000,
        }
    }
}

/// Milliseconds from submission (or its scheduled time) to the durable acknowledgement.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct AckMillis {
    /// Median.
    pub p50: f64,
    /// 99th percentile.
    pub p99: f64,
    /// The slowest.
    pub max: f64,
}

/// One run.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct SequencerRow {
    /// `full speed` or `80 % of it`.
    pub load: &'static str,
    /// Transactions acknowledged a second.
    pub accepted_per_s: f64,
    /// Times to the acknowledgement.
    pub ack_ms: AckMillis,
    /// Whether each acknowledged transaction was found after a restart.
    pub durable: bool,
    /// Transactions acknowledged.
    pub accepted: u64,
    /// Submissions put off because the sequencer was busy.
    pub busy: u64,
    /// Batches closed during the run.
    pub batches: u64,
    /// Accounts in the state.
    pub accounts: u64,
    /// Seconds to open that state.
    pub open_s: f64,
}

/// Why there is no result.
#[derive(Debug, Error)]
pub enum BenchError {
    /// The state could not be made.
    #[error(transparent)]
    Fill(#[from] SnapshotError),
    /// The engine failed.
    #[error(transparent)]
    Engine(#[from] EngineError),
    /// The database failed.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The engine stopped.
    #[error(transparent)]
    Stopped(#[from] Stopped),
    /// A valid transaction was refused.
    #[error("a valid transaction was refused: {0}")]
    Refused(#[from] SubmitError),
    /// The state does not hold so many accounts.
    #[error(transparent)]
    Size(#[from] OutOfRange),
}

/// One sender's transactions, in the order of their nonces.
struct Sender {
    signed: Vec<SignedTransaction>,
    next: AtomicU64,
}

fn domain() -> Domain {
    Domain::new(31337, L1Address([0xbe; 20]))
}

fn config() -> EngineConfig {
    EngineConfig {
        domain: domain(),
        shapes: Shape::ALL.to_vec(),
        beneficiary: L1Address([1; 20]),
        fees: FeePolicy {
            owner: Some(Owner(Fr::from(1u64))),
            floors: [(TokenId::ZERO, Amount(1))].into(),
        },
        mempool: MempoolLimits::default(),
        seal_after_millis: 1_000,
        sequencing: true,
        backlog: 64,
    }
}

fn secret(sender: u64) -> (SecretKey, L1Address) {
    let mut bytes = [7; 32];
    bytes[..8].copy_from_slice(&sender.to_be_bytes());
    let mut address = [3; 20];
    address[..8].copy_from_slice(&sender.to_be_bytes());
    (SecretKey::from_bytes(bytes), L1Address(address))
}

fn owner_of(sender: u64) -> Owner {
    let (key, address) = secret(sender);
    Owner::new(address, &key.public_key())
}

/// Measures the sequencer in an empty directory, on as many cores as there are. `progress` hears what is being done.
///
/// # Errors
/// If the disk fails, or a valid transaction is refused.
pub async fn bench_sequencer(
    directory: &Path,
    bench: &SequencerBench,
    progress: impl Fn(&str),
) -> Result<Vec<SequencerRow>, BenchError> {
    progress("making the state");
    let owners: Arc<Vec<Owner>> =
        Arc::new((0..bench.senders).into_par_iter().map(owner_of).collect());
    make_state(directory, bench, &owners)?;

    let start = Instant::now();
    let (rollup, task) = open(directory)?;
    rollup.status().await?;
    let open_s = start.elapsed().as_secs_f64();

    progress("signing");
    let now = Timestamp(now_millis() / 1000);
    let count = (2 * bench.seconds * bench.signed_per_s).div_ceil(bench.senders);
    let senders: Arc<Vec<Sender>> = Arc::new(
        (0..bench.senders)
            .into_par_iter()
            .map(|sender| sign_ahead(sender, count, &owners, now))
            .collect(),
    );
    let update = L1Update {
        time: Some(now),
        ..L1Update::default()
    };
    rollup.l1_update(update).await?;

    progress("full speed");
    let full = full_speed(&rollup, &senders, bench).await?;
    settle(&rollup).await?;
    progress("80 % of it");
    let paced = paced(&rollup, &senders, bench, 0.8 * full.per_second()).await?;
    let (rollup, task) = restart(directory, rollup, task).await?;
    let mut rows = Vec::new();
    for (load, run) in [("full speed", full), ("80 % of it", paced)] {
        rows.push(run.row(load, &rollup, bench, open_s)?);
    }
    rollup.stop().await;
    drop(rollup);
    task.join().await?;
    Ok(rows)
}

fn open(directory: &Path) -> Result<(Rollup, RollupTask), BenchError> {
    let store = Arc::new(Store::open(directory)?);
    Ok(Rollup::start(config(), store)?)
}

async fn restart(
    directory: &Path,
    rollup: Rollup,
    task: RollupTask,
) -> Result<(Rollup, RollupTask), BenchError> {
    settle(&rollup).await?;
    rollup.stop().await;
    drop(rollup);
    task.join().await?;
    open(directory)
}

/// Waits until all closed batches are hashed.
async fn settle(rollup: &Rollup) -> Result<(), BenchError> {
    loop {
        let marks = rollup.status().await?.marks;
        if marks.sealed == marks.planned {
            return Ok(());
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// Senders from index 1 on, then the fee leaf, then accounts that nobody uses.
fn make_state(
    directory: &Path,
    bench: &SequencerBench,
    owners: &[Owner],
) -> Result<(), BenchError> {
    let balance = Amount(1 << 100);
    let owner = |i: u64| match owners.get(i as usize) {
        Some(owner) => *owner,
        None => Owner(Fr::from(1 + i - bench.senders)),
    };
    let accounts = (0..bench.accounts.max(bench.senders + 1))
        .map(|i| {
            let account = Account::new(owner(i), TokenId::ZERO, balance);
            Ok((AccountIndex::new(i + 1)?, account))
        })
        .collect::<Result<Vec<_>, OutOfRange>>()?;
    let store = Store::open(directory)?;
    fill(&store, &accounts, None, Marks::default(), None)?;
    Ok(())
}

fn sign_ahead(sender: u64, count: u64, owners: &[Owner], now: Timestamp) -> Sender {
    let (key, address) = secret(sender);
    let fee = FeeCode::from_code(1).expect("1 is a fee code");
    let signed = (0..count).map(|number| {
        let to = (sender * 31 + number * 17 + 1) % owners.len() as u64;
        let transaction = Transaction {
            from: AccountIndex::new(sender + 1).expect("senders come first in the state"),
            nonce: Nonce::new(number).expect("nobody signs 2^40 transactions"),
            token: TokenId::ZERO,
            fee,
            action: Action::Transfer {
                recipient: owners[to as usize],
                amount: Float40::floor(Amount(1 + u128::from(number))),
            },
            link: Word(Fr::from(0u64)),
            valid_until: Timestamp(now.0 + 86_400),
        };
        transaction.sign(&domain(), address, &key)
    });
    Sender {
        signed: signed.collect(),
        next: AtomicU64::new(0),
    }
}

impl Sender {
    fn take(&self) -> Option<SignedTransaction> {
        let next = self.next.fetch_add(1, Ordering::SeqCst);
        self.signed.get(next as usize).copied()
    }
}

/// What a run came to.
#[derive(Default)]
struct Run {
    ids: Vec<TransactionId>,
    millis: Vec<f64>,
    busy: u64,
    seconds: f64,
    batches: u64,
}

impl Run {
    fn per_second(&self) -> f64 {
        self.ids.len() as f64 / self.seconds
    }

    fn merge(&mut self, other: Self) {
        self.ids.extend(other.ids);
        self.millis.extend(other.millis);
        self.busy += other.busy;
    }

    fn row(
        mut self,
        load: &'static str,
        rollup: &Rollup,
        bench: &SequencerBench,
        open_s: f64,
    ) -> Result<SequencerRow, BenchError> {
        let accepted_per_s = self.per_second();
        let mut durable = !self.ids.is_empty();
        for id in &self.ids {
            let record = rollup.store().transaction(id)?;
            durable &= record
                .is_some_and(|record| matches!(record.state, TransactionState::InBatch { .. }));
        }
        self.millis.sort_by(f64::total_cmp);
        let at = |share: f64| {
            let last = self.millis.len().saturating_sub(1);
            let place = (last as f64 * share).round() as usize;
            self.millis.get(place).copied().unwrap_or(0.0)
        };
        Ok(SequencerRow {
            load,
            accepted_per_s,
            ack_ms: AckMillis {
                p50: at(0.5),
                p99: at(0.99),
                max: at(1.0),
            },
            durable,
            accepted: self.ids.len() as u64,
            busy: self.busy,
            batches: self.batches,
            accounts: bench.accounts,
            open_s,
        })
    }
}

/// Submits until it is taken; a busy sequencer is asked again.
async fn submit(
    rollup: &Rollup,
    signed: SignedTransaction,
    since: Instant,
    run: &mut Run,
) -> Result<(), BenchError> {
    loop {
        match rollup.submit(vec![signed], None).await {
            Ok(taken) => {
                run.ids.extend(taken.iter().map(|one| one.id));
                run.millis.push(since.elapsed().as_secs_f64() * 1000.0);
                return Ok(());
            }
            Err(SubmitError::Busy) => {
                run.busy += 1;
                tokio::time::sleep(Duration::from_millis(2)).await;
            }
            Err(refusal) => return Err(refusal.into()),
        }
    }
}

/// As many as `in_flight` clients get acknowledged, each waiting for one answer at a time.
async fn full_speed(
    rollup: &Rollup,
    senders: &Arc<Vec<Sender>>,
    bench: &SequencerBench,
) -> Result<Run, BenchError> {
    let first = rollup.status().await?.marks.planned.0;
    let start = Instant::now();
    let end = start + Duration::from_secs(bench.seconds);
    let mut clients = JoinSet::new();
    let stride = bench.in_flight.min(senders.len());
    for client in 0..stride {
        let (rollup, senders) = (rollup.clone(), senders.clone());
        clients.spawn(async move {
            let mut run = Run::default();
            let mut mine = (client..senders.len()).step_by(stride).cycle();
            while Instant::now() < end {
                let sender = mine.next().map(|i| &senders[i]);
                let Some(signed) = sender.and_then(Sender::take) else {
                    break;
                };
                submit(&rollup, signed, Instant::now(), &mut run).await?;
            }
            Ok::<_, BenchError>(run)
        });
    }
    let mut total = gather(clients).await?;
    total.seconds = start.elapsed().as_secs_f64();
    total.batches = rollup.status().await?.marks.planned.0 - first;
    Ok(total)
}

/// A fixed number a second, each at its time, whether or not earlier ones were answered: waiting counts.
async fn paced(
    rollup: &Rollup,
    senders: &Arc<Vec<Sender>>,
    bench: &SequencerBench,
    per_second: f64,
) -> Result<Run, BenchError> {
    let first = rollup.status().await?.marks.planned.0;
    let start = Instant::now();
    let count = (per_second * bench.seconds as f64) as usize;
    let mut clients = JoinSet::new();
    for number in 0..count {
        let due = start + Duration::from_secs_f64(number as f64 / per_second);
        if due > Instant::now() {
            tokio::time::sleep_until(due.into()).await;
        }
        let Some(signed) = senders[number % senders.len()].take() else {
            break;
        };
        let rollup = rollup.clone();
        clients.spawn(async move {
            let mut run = Run::default();
            submit(&rollup, signed, due, &mut run).await?;
            Ok::<_, BenchError>(run)
        });
    }
    let mut total = gather(clients).await?;
    total.seconds = start.elapsed().as_secs_f64();
    total.batches = rollup.status().await?.marks.planned.0 - first;
    Ok(total)
}

async fn gather(mut clients: JoinSet<Result<Run, BenchError>>) -> Result<Run, BenchError> {
    let mut total = Run::default();
    while let Some(run) = clients.join_next().await {
        total.merge(run.expect("clients do not panic")?);
    }
    Ok(total)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn every_acknowledged_transaction_of_a_short_run_is_there_after_a_restart() {
        let directory = tempfile::tempdir().unwrap();
        let bench = SequencerBench {
            accounts: 3_000,
            senders: 64,
            seconds: 1,
            in_flight: 16,
            signed_per_s: 8_000,
        };
        let rows = bench_sequencer(directory.path(), &bench, |_| {})
            .await
            .unwrap();
        assert_eq!(rows.len(), 2);
        for row in rows {
            assert!(row.durable && row.accepted > 0, "{row:?}");
            assert!(row.ack_ms.p50 <= row.ack_ms.p99 && row.ack_ms.p99 <= row.ack_ms.max);
        }
    }
}

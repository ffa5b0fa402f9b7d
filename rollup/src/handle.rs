//! The rollup's handle: sends commands to the task that owns the engine, and reads what is durable from the store.
//!
//! ```text
//! submit → signature on a worker thread → queue → [task: a group of commands → one synced write → answers] → hash thread
//! ```
//!
//! Group commit: whatever arrives while one write is synced shares the next.

use crate::batch_log::{BatchRecord, Word8};
use crate::engine::{
    Engine, EngineConfig, EngineError, HashError, HashedBatch, L1Update, Submitted, Turn,
    hash_batch,
};
use crate::mempool::SubmitError;
use crate::store::disk::Column;
use crate::store::{Marks, Store, StoreError};
use millrace_circuits::account::{Account, Owner};
use millrace_circuits::op::{self, Rejection};
use millrace_circuits::transaction::{Domain, SignedTransaction};
use millrace_circuits::types::{AccountIndex, BatchNumber};
use std::sync::{Arc, LazyLock};
use std::time::{SystemTime, UNIX_EPOCH};
use thiserror::Error;
use tokio::sync::{mpsc, oneshot, watch};

/// Commands that may wait for the task.
const QUEUE: usize = 4096;
/// Commands that share one write.
const GROUP: usize = 1024;
/// How often time-driven work is looked at.
const TICK_MILLIS: u64 = 100;

/// Threads for signatures and hashing, apart from the ones that a prover in this process keeps busy.
static WORKERS: LazyLock<rayon::ThreadPool> = LazyLock::new(|| {
    let threads = std::thread::available_parallelism().map_or(2, usize::from);
    rayon::ThreadPoolBuilder::new()
        .num_threads(threads)
        .thread_name(|number| format!("rollup-worker-{number}"))
        .build()
        .expect("the system can start threads")
});

/// The task is gone.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("the sequencer has stopped; see its log for the reason")]
pub struct Stopped;

type Reply<T> = oneshot::Sender<T>;

enum Command {
    Submit {
        signed: Vec<SignedTransaction>,
        key: Option<String>,
        reply: Reply<Submission>,
    },
    L1(Box<L1Update>, Reply<()>),
    Proof {
        batch: BatchNumber,
        proof: [Word8; 8],
        reply: Reply<bool>,
    },
    Seal(Reply<bool>),
    Halt(Option<String>, Reply<()>),
    Note {
        name: String,
        value: Vec<u8>,
        reply: Reply<()>,
    },
    Account(AccountIndex, Reply<Result<Option<Account>, StoreError>>),
    Owned(
        Owner,
        Reply<Result<Vec<(AccountIndex, Account)>, StoreError>>,
    ),
    Status(Reply<EngineStatus>),
    Hashed {
        result: Box<Result<HashedBatch, HashError>>,
        epoch: u64,
    },
    Tick,
    Stop,
}

type Submission = Result<Vec<Submitted>, SubmitError>;

/// Where the engine stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct EngineStatus {
    /// Counters.
    pub marks: Marks,
    /// Transactions that wait for a nonce or a partner.
    pub waiting: usize,
    /// Transactions in the open batch.
    pub open: usize,
}

/// A cloneable handle to a running rollup.
#[derive(Clone)]
pub struct Rollup {
    commands: mpsc::Sender<Command>,
    store: Arc<Store>,
    domain: Domain,
    events: watch::Receiver<u64>,
}

/// The running task: ends when stopped, or with the error that stopped it.
pub struct RollupTask {
    thread: std::thread::JoinHandle<Result<(), EngineError>>,
    done: oneshot::Receiver<()>,
}

impl RollupTask {
    /// Waits for the end.
    ///
    /// # Errors
    /// What made the engine stop, if nobody asked for it.
    ///
    /// # Panics
    /// If the engine's thread panicked.
    pub async fn join(self) -> Result<(), EngineError> {
        let _ = self.done.await;
        self.thread
            .join()
            .expect("the engine's thread does not panic")
    }
}

impl Rollup {
    /// Starts the task on a store.
    ///
    /// # Errors
    /// If the database is damaged.
    ///
    /// # Panics
    /// Outside a tokio runtime.
    pub fn start(
        config: EngineConfig,
        store: Arc<Store>,
    ) -> Result<(Self, RollupTask), EngineError> {
        let engine = Engine::open(config, store.clone())?;
        let domain = engine.config().domain;
        let (commands, queue) = mpsc::channel(QUEUE);
        let (announce, events) = watch::channel(engine.marks().next_event - 1);
        let (finished, done) = oneshot::channel();
        let task = Task {
            engine,
            queue,
            commands: commands.downgrade(),
            announce,
        };
        let thread = std::thread::Builder::new()
            .name("rollup-engine".into())
            .spawn(move || {
                let result = task.run();
                let _ = finished.send(());
                result
            })
            .expect("the system can start a thread");
        let ticker = commands.downgrade();
        tokio::spawn(async move {
            let mut interval = tokio::time::interval(std::time::Duration::from_millis(TICK_MILLIS));
            loop {
                interval.tick().await;
                let Some(commands) = ticker.upgrade() else {
                    return;
                };
                if commands.send(Command::Tick).await.is_err() {
                    return;
                }
            }
        });
        Ok((
            Self {
                commands,
                store,
                domain,
                events,
            },
            RollupTask { thread, done },
        ))
    }

    /// The database, for reading what is durable.
    pub fn store(&self) -> &Arc<Store> {
        &self.store
    }

    /// Contract and chain.
    pub fn domain(&self) -> &Domain {
        &self.domain
    }

    /// The newest event's sequence number, and its changes.
    pub fn event_watch(&self) -> watch::Receiver<u64> {
        self.events.clone()
    }

    /// Submits one transaction, or two that are linked to each other. Once it returns `Ok`, they are durable.
    ///
    /// # Errors
    /// Why nothing was taken.
    ///
    /// # Cancel safety
    /// A cancelled call may have been taken: submit again with the same idempotency key, or look the transaction up.
    pub async fn submit(&self, signed: Vec<SignedTransaction>, key: Option<String>) -> Submission {
        let domain = self.domain;
        let (reply, verified) = oneshot::channel();
        WORKERS.spawn(move || {
            let result = signed
                .iter()
                .try_for_each(|one| op::check_signature(one, &domain));
            let _ = reply.send((signed, result));
        });
        let (signed, result) = verified.await.map_err(|_| unavailable())?;
        result.map_err(|rule: Rejection| SubmitError::Rule(rule))?;
        let (reply, answer) = oneshot::channel();
        match self
            .commands
            .try_send(Command::Submit { signed, key, reply })
        {
            Ok(()) => answer.await.map_err(|_| unavailable())?,
            Err(mpsc::error::TrySendError::Full(_)) => Err(SubmitError::Busy),
            Err(mpsc::error::TrySendError::Closed(_)) => Err(unavailable()),
        }
    }

    async fn ask<T>(&self, command: impl FnOnce(Reply<T>) -> Command) -> Result<T, Stopped> {
        let (reply, answer) = oneshot::channel();
        self.commands
            .send(command(reply))
            .await
            .map_err(|_| Stopped)?;
        answer.await.map_err(|_| Stopped)
    }

    /// Gives the engine news from L1; returns once they are durable.
    ///
    /// # Errors
    /// [`Stopped`].
    pub async fn l1_update(&self, update: L1Update) -> Result<(), Stopped> {
        self.ask(|reply| Command::L1(Box::new(update), reply)).await
    }

    /// Stores a batch's proof for the poster; `false` if there is no such batch.
    ///
    /// # Errors
    /// [`Stopped`].
    pub async fn keep_proof(&self, batch: BatchNumber, proof: [Word8; 8]) -> Result<bool, Stopped> {
        self.ask(|reply| Command::Proof {
            batch,
            proof,
            reply,
        })
        .await
    }

    /// Closes the open batch; `false` if it is empty.
    ///
    /// # Errors
    /// [`Stopped`].
    pub async fn seal_now(&self) -> Result<bool, Stopped> {
        self.ask(Command::Seal).await
    }

    /// Refuses submissions with this reason, or takes them again.
    ///
    /// # Errors
    /// [`Stopped`].
    pub async fn halt(&self, reason: Option<String>) -> Result<(), Stopped> {
        self.ask(|reply| Command::Halt(reason, reply)).await
    }

    /// Keeps a value under a name; returns once it is durable.
    ///
    /// # Errors
    /// [`Stopped`].
    pub async fn note<T: serde::Serialize>(&self, name: &str, value: &T) -> Result<(), Stopped> {
        let (name, value) = (name.to_owned(), crate::store::format::encode(value));
        self.ask(|reply| Command::Note { name, value, reply }).await
    }

    /// An account as everything acknowledged leaves it.
    ///
    /// # Errors
    /// If the task has stopped or the disk fails.
    pub async fn account(&self, index: AccountIndex) -> Result<Option<Account>, ReadError> {
        Ok(self.ask(|reply| Command::Account(index, reply)).await??)
    }

    /// An owner's accounts as everything acknowledged leaves them.
    ///
    /// # Errors
    /// If the task has stopped or the disk fails.
    pub async fn owned(&self, owner: Owner) -> Result<Vec<(AccountIndex, Account)>, ReadError> {
        Ok(self.ask(|reply| Command::Owned(owner, reply)).await??)
    }

    /// Where the engine stands.
    ///
    /// # Errors
    /// [`Stopped`].
    pub async fn status(&self) -> Result<EngineStatus, Stopped> {
        self.ask(Command::Status).await
    }

    /// Asks the task to end after what it was given before.
    pub async fn stop(&self) {
        let _ = self.commands.send(Command::Stop).await;
    }
}

/// Why a question has no answer.
#[derive(Debug, Error)]
pub enum ReadError {
    /// The task is gone.
    #[error(transparent)]
    Stopped(#[from] Stopped),
    /// The disk failed.
    #[error(transparent)]
    Store(#[from] StoreError),
}

fn unavailable() -> SubmitError {
    SubmitError::Unavailable {
        reason: Stopped.to_string(),
    }
}

/// Unix milliseconds.
pub fn now_millis() -> u64 {
    let since = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}

struct Task {
    engine: Engine,
    queue: mpsc::Receiver<Command>,
    commands: mpsc::WeakSender<Command>,
    announce: watch::Sender<u64>,
}

/// Answers held back until the write they rest on is on disk.
type Answers = Vec<Box<dyn FnOnce()>>;

impl Task {
    fn run(mut self) -> Result<(), EngineError> {
        let result = self.work();
        if let Err(error) = &result {
            tracing::error!(%error, "the rollup engine stops");
        }
        result
    }

    fn work(&mut self) -> Result<(), EngineError> {
        self.hash_next()?;
        while let Some(first) = self.queue.blocking_recv() {
            let (mut turn, mut answers) = (Turn::default(), Answers::new());
            let mut stop = self.handle(first, &mut turn, &mut answers)?;
            for _ in 1..GROUP {
                let Ok(command) = self.queue.try_recv() else {
                    break;
                };
                stop |= self.handle(command, &mut turn, &mut answers)?;
            }
            let writes = self.engine.finish(turn);
            let started = std::time::Instant::now();
            self.engine.store().write(writes)?;
            metrics::histogram!("millrace_db_wal_sync_seconds").record(started.elapsed());
            self.engine.settle();
            answers.into_iter().for_each(|answer| answer());
            self.announce.send_if_modified(|latest| {
                let newest = self.engine.marks().next_event - 1;
                std::mem::replace(latest, newest) != newest
            });
            self.hash_next()?;
            if stop {
                return Ok(());
            }
        }
        Ok(())
    }

    /// Handles one command; `true` asks to stop after this group.
    fn handle(
        &mut self,
        command: Command,
        turn: &mut Turn,
        answers: &mut Answers,
    ) -> Result<bool, EngineError> {
        let now = now_millis();
        let engine = &mut self.engine;
        match command {
            Command::Submit { reply, .. } if !engine.is_ready() => {
                let reason = "L1 has not been read yet since the start".to_owned();
                hold(answers, reply, Err(SubmitError::Unavailable { reason }));
            }
            Command::Submit { signed, key, reply } => {
                let result = engine.submit(&signed, key.as_deref(), now, turn);
                hold(answers, reply, result);
            }
            Command::L1(update, reply) => {
                engine.l1_update(*update, now, turn)?;
                hold(answers, reply, ());
            }
            Command::Proof {
                batch,
                proof,
                reply,
            } => {
                let kept = engine.keep_proof(batch, proof, turn)?;
                hold(answers, reply, kept);
            }
            Command::Seal(reply) => {
                let sealed = engine.seal(now, turn)?;
                hold(answers, reply, sealed);
            }
            Command::Halt(reason, reply) => {
                engine.halt(reason);
                hold(answers, reply, ());
            }
            Command::Note { name, value, reply } => {
                turn.writes.put(Column::Notes, name.into_bytes(), value);
                hold(answers, reply, ());
            }
            Command::Account(index, reply) => {
                let account = engine.head().account(engine.store(), index);
                hold(answers, reply, account);
            }
            Command::Owned(owner, reply) => hold(answers, reply, owned(engine, &owner)),
            Command::Status(reply) => {
                let status = EngineStatus {
                    marks: *engine.marks(),
                    waiting: engine.waiting(),
                    open: engine.open_transactions(),
                };
                hold(answers, reply, status);
            }
            Command::Hashed { result, epoch } => match *result {
                Ok(hashed) => engine.finish_hashing(hashed, epoch, now, turn),
                Err(error) => engine.hashing_failed(epoch, &error)?,
            },
            Command::Tick => engine.tick(now, turn)?,
            Command::Stop => return Ok(true),
        }
        Ok(false)
    }

    /// Starts hashing the next planned batch on another thread.
    fn hash_next(&mut self) -> Result<(), EngineError> {
        let Some((record, epoch)) = self.engine.start_hashing()? else {
            return Ok(());
        };
        let store = self.engine.store().clone();
        let beneficiary = self.engine.config().beneficiary;
        let commands = self.commands.clone();
        WORKERS.spawn(move || {
            let result = Box::new(hash_batch(&store, record, beneficiary));
            if let Some(commands) = commands.upgrade() {
                let _ = commands.blocking_send(Command::Hashed { result, epoch });
            }
        });
        Ok(())
    }
}

fn hold<T: 'static>(answers: &mut Answers, reply: Reply<T>, answer: T) {
    answers.push(Box::new(move || {
        let _ = reply.send(answer);
    }));
}

fn owned(engine: &Engine, owner: &Owner) -> Result<Vec<(AccountIndex, Account)>, StoreError> {
    let mut accounts = Vec::new();
    for index in engine.head().owned(engine.store(), owner)? {
        if let Some(account) = engine.head().account(engine.store(), index)? {
            accounts.push((index, account));
        }
    }
    Ok(accounts)
}

/// A transaction's stage as users see it.
pub fn stage_of(
    record: &crate::mempool::TransactionRecord,
    batch: Option<&BatchRecord>,
) -> &'static str {
    use crate::batch_log::BatchStage;
    use crate::mempool::TransactionState;
    match (&record.state, batch.map(|batch| batch.stage)) {
        (TransactionState::Waiting, _) => "waiting",
        (TransactionState::Dropped { .. }, _) => "dropped",
        (TransactionState::InBatch { .. }, None) => "accepted",
        (TransactionState::InBatch { .. }, Some(stage)) => match stage {
            BatchStage::Planned => "accepted",
            BatchStage::Sealed => "sealed",
            BatchStage::Committed => "committed",
            BatchStage::Proven => "proven",
            BatchStage::Finalised => "finalised",
        },
    }
}

//! A worker: takes jobs, proves them, hands the proofs in; one job at a time on all threads.
//!
//! ```text
//! lease → prove (this thread) ─────────────→ complete, or fail
//!       └ heartbeat (its own thread): extend every third of the lease
//! ```
//!
//! Killed at any point, it leaves a lease that runs out, and the job goes to another worker. A worker that lost its lease
//! notices at the next heartbeat and drops its proof. It blocks, so it runs on threads of its own.

use crate::circuit::Circuit;
use crate::prove::{ProveError, Prover};
use crate::queue::{FencingToken, JobKey, JobQueue, JobResult, Lease, Millis, QueueError};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

/// Tells the time; tests pass their own.
pub type Clock = Arc<dyn Fn() -> Millis + Send + Sync>;

/// The system's clock.
pub fn system_clock() -> Clock {
    Arc::new(Millis::now)
}

/// How a worker behaves.
#[derive(Clone)]
pub struct WorkerConfig {
    /// Its name in the queue and the log.
    pub name: String,
    /// How long a lease lasts; a dead worker's job waits at most this long.
    pub lease: Duration,
    /// How often it looks for a job when there is none.
    pub poll: Duration,
    /// The clock.
    pub clock: Clock,
    /// Circuits whose keys are prepared before the first job.
    pub prepare: Vec<Circuit>,
}

impl WorkerConfig {
    /// A worker with leases of 30 seconds that looks for jobs four times a second.
    pub fn new(name: impl Into<String>) -> Self {
        Self {
            name: name.into(),
            lease: Duration::from_secs(30),
            poll: Duration::from_millis(250),
            clock: system_clock(),
            prepare: vec![],
        }
    }

    fn lease_millis(&self) -> u64 {
        u64::try_from(self.lease.as_millis()).unwrap_or(u64::MAX)
    }
}

/// What a worker has done so far.
#[derive(Debug, Default)]
pub struct WorkerCounts {
    /// Proofs handed in.
    pub completed: AtomicU64,
    /// Failures reported.
    pub failed: AtomicU64,
    /// Proofs dropped because the lease was lost.
    pub abandoned: AtomicU64,
}

/// How a worker is asked to stop.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Stop {
    No,
    /// Finish the job at hand first.
    AfterJob,
    /// Give the job back.
    Now,
}

/// Set once, waited on by many.
struct Signal {
    stop: Mutex<Stop>,
    changed: Condvar,
}

impl Signal {
    fn new() -> Self {
        Self {
            stop: Mutex::new(Stop::No),
            changed: Condvar::new(),
        }
    }

    fn raise(&self, wish: Stop) {
        let mut stop = self.stop.lock().unwrap_or_else(PoisonError::into_inner);
        *stop = wish.max(*stop);
        self.changed.notify_all();
    }

    fn get(&self) -> Stop {
        *self.stop.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Sleeps, or returns early once the wish reaches this level.
    fn sleep(&self, time: Duration, until: Stop) -> Stop {
        let stop = self.stop.lock().unwrap_or_else(PoisonError::into_inner);
        let waited = self
            .changed
            .wait_timeout_while(stop, time, |stop| *stop < until);
        *waited.unwrap_or_else(PoisonError::into_inner).0
    }
}

/// A running worker.
pub struct Worker {
    signal: Arc<Signal>,
    counts: Arc<WorkerCounts>,
    thread: Option<JoinHandle<()>>,
}

impl Worker {
    /// Starts a worker.
    ///
    /// # Errors
    /// If the operating system gives no thread.
    pub fn start(
        queue: Arc<dyn JobQueue>,
        prover: Arc<Prover>,
        config: WorkerConfig,
    ) -> std::io::Result<Self> {
        let signal = Arc::new(Signal::new());
        let counts = Arc::new(WorkerCounts::default());
        let inner = Loop {
            queue,
            prover,
            config,
            signal: signal.clone(),
            counts: counts.clone(),
        };
        let thread = std::thread::Builder::new()
            .name("prover".into())
            .spawn(move || inner.run())?;
        Ok(Self {
            signal,
            counts,
            thread: Some(thread),
        })
    }

    /// What it has done so far.
    pub fn counts(&self) -> &WorkerCounts {
        &self.counts
    }

    /// Whether it has stopped, asked or not.
    pub fn is_finished(&self) -> bool {
        self.thread.as_ref().is_none_or(JoinHandle::is_finished)
    }

    /// Asks it to finish the job at hand and stop.
    pub fn stop_after_job(&self) {
        self.signal.raise(Stop::AfterJob);
    }

    /// Asks it to give the job at hand back at once and stop. A proof cannot be interrupted: the thread ends with it, and
    /// the process may end before.
    pub fn stop_now(&self) {
        self.signal.raise(Stop::Now);
    }

    /// Waits for its end.
    ///
    /// # Errors
    /// If it ended by a panic.
    pub fn join(mut self) -> std::thread::Result<()> {
        self.thread.take().map_or(Ok(()), JoinHandle::join)
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        // A worker that nobody holds can no longer be stopped, so it stops.
        self.signal.raise(Stop::Now);
    }
}

struct Loop {
    queue: Arc<dyn JobQueue>,
    prover: Arc<Prover>,
    config: WorkerConfig,
    signal: Arc<Signal>,
    counts: Arc<WorkerCounts>,
}

/// How the lease ended while the proof was being made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Held {
    /// Still ours.
    Yes,
    /// Another worker has it, or the job is gone.
    Lost,
    /// Given back because we are to stop.
    Released,
}

impl Loop {
    fn run(&self) {
        for circuit in &self.config.prepare {
            if self.signal.get() != Stop::No {
                return;
            }
            if let Err(error) = self.prover.prepare(*circuit) {
                tracing::error!(%circuit, %error, "no key; jobs of this circuit will fail");
            }
        }
        tracing::info!(worker = %self.config.name, backend = self.prover.backend(), "prover ready");
        while self.signal.get() == Stop::No {
            match self
                .queue
                .lease(&self.config.name, self.config.lease_millis(), self.now())
            {
                Ok(Some(lease)) => self.work(&lease),
                Ok(None) => self.rest(),
                Err(error) => {
                    tracing::warn!(%error, "cannot take a job");
                    self.rest();
                }
            }
        }
        tracing::info!(worker = %self.config.name, "prover stopped");
    }

    fn now(&self) -> Millis {
        (self.config.clock)()
    }

    fn rest(&self) {
        self.signal.sleep(self.config.poll, Stop::AfterJob);
    }

    fn work(&self, lease: &Lease) {
        tracing::info!(job = %lease.key, token = %lease.token, batch = lease.job.batch.0, "proving");
        let done = Signal::new();
        let (outcome, held) = std::thread::scope(|scope| {
            let heartbeat = scope.spawn(|| self.keep(lease, &done));
            let outcome = self.prove(lease);
            done.raise(Stop::Now);
            // A heartbeat that panicked kept nothing alive; the queue decides whether the lease still stands.
            (outcome, heartbeat.join().unwrap_or(Held::Yes))
        });
        if held != Held::Yes {
            self.counts.abandoned.fetch_add(1, Ordering::Relaxed);
            tracing::warn!(job = %lease.key, token = %lease.token, ?held, "dropped a proof");
            return;
        }
        self.hand_in(lease, outcome);
    }

    /// A bug in a backend must cost one attempt, not the worker.
    fn prove(&self, lease: &Lease) -> Result<JobResult, String> {
        let prove = || self.prover.prove(&lease.job.statement);
        match catch_unwind(AssertUnwindSafe(prove)) {
            Ok(Ok(proven)) => Ok(JobResult::new(proven, self.prover.backend())),
            Ok(Err(error)) => Err(explain(&error)),
            Err(_) => Err("the prover panicked; its log says where".into()),
        }
    }

    fn keep(&self, lease: &Lease, done: &Signal) -> Held {
        let interval = (self.config.lease / 3).max(Duration::from_millis(1));
        // Short steps notice a wish to stop in time without a second condition to wait on.
        let step = interval.min(Duration::from_millis(100));
        let mut waited = Duration::ZERO;
        while done.sleep(step, Stop::Now) == Stop::No {
            if self.signal.get() == Stop::Now {
                self.report(
                    self.queue.release(&lease.key, lease.token, self.now()),
                    "release",
                );
                return Held::Released;
            }
            waited += step;
            if waited >= interval {
                waited = Duration::ZERO;
                if self.extend(&lease.key, lease.token) == Held::Lost {
                    return Held::Lost;
                }
            }
        }
        Held::Yes
    }

    fn extend(&self, key: &JobKey, token: FencingToken) -> Held {
        match self
            .queue
            .extend(key, token, self.config.lease_millis(), self.now())
        {
            Ok(_) => Held::Yes,
            Err(QueueError::StaleLease { .. } | QueueError::UnknownJob(_)) => Held::Lost,
            // The queue may be back before the lease ends; if not, handing in will tell.
            Err(error) => {
                tracing::warn!(job = %key, %error, "heartbeat failed");
                Held::Yes
            }
        }
    }

    fn hand_in(&self, lease: &Lease, outcome: Result<JobResult, String>) {
        match outcome {
            Ok(result) => {
                let complete = || {
                    self.queue
                        .complete(&lease.key, lease.token, &result, self.now())
                };
                if self.insist(complete, "complete") {
                    self.counts.completed.fetch_add(1, Ordering::Relaxed);
                }
            }
            Err(reason) => {
                tracing::error!(job = %lease.key, %reason, "no proof");
                let fail = || {
                    self.queue
                        .fail(&lease.key, lease.token, &reason, self.now())
                        .map(drop)
                };
                if self.insist(fail, "fail") {
                    self.counts.failed.fetch_add(1, Ordering::Relaxed);
                }
                // The same failure would come at once again; others get a chance at the job.
                self.rest();
            }
        }
    }

    /// Repeats a call while the queue cannot be reached, for at most one lease: a proof is worth some patience.
    fn insist(&self, call: impl Fn() -> Result<(), QueueError>, what: &'static str) -> bool {
        let mut patience = self.config.lease;
        loop {
            match call() {
                Err(QueueError::Remote(_) | QueueError::Store(_))
                    if !patience.is_zero() && self.signal.get() != Stop::Now =>
                {
                    let pause = self.config.poll.max(Duration::from_millis(1));
                    self.signal.sleep(pause, Stop::Now);
                    patience = patience.saturating_sub(pause);
                }
                other => return self.report(other, what),
            }
        }
    }

    fn report(&self, result: Result<(), QueueError>, what: &'static str) -> bool {
        if let Err(error) = &result {
            tracing::warn!(%error, what, "the queue refused");
        }
        result.is_ok()
    }
}

/// The error with its causes.
fn explain(error: &ProveError) -> String {
    let mut text = error.to_string();
    let mut cause = std::error::Error::source(error);
    while let Some(error) = cause {
        let more = error.to_string();
        if !text.contains(&more) {
            text = format!("{text}: {more}");
        }
        cause = error.source();
    }
    text
}

#[cfg(test)]
mod tests;

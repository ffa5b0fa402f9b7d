//! The queue's rules, pure: (table, request, time) → change or refusal; a change is stored first, then applied.

use super::{FencingToken, JobKey, JobRecord, JobState, Millis, QueueError};
use std::collections::BTreeMap;

/// Named limits of a queue.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Unfinished jobs at most.
    pub jobs: usize,
    /// Bytes of a statement at most.
    pub statement_bytes: usize,
    /// Reported failures after which a job is parked.
    pub failures: u32,
    /// Milliseconds that one lease or extension lasts at most.
    pub lease_millis: u64,
    /// Characters kept of a worker's name or a failure's reason.
    pub text: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            jobs: 4096,
            statement_bytes: 64 << 20,
            failures: 5,
            lease_millis: 3_600_000,
            text: 1000,
        }
    }
}

/// What one request changes.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Change {
    /// Records to write.
    pub records: Vec<JobRecord>,
    /// A statement to keep.
    pub statement: Option<(JobKey, Vec<u8>)>,
    /// A result to keep.
    pub result: Option<(JobKey, Vec<u8>)>,
    /// A job to remove with all that belongs to it.
    pub removed: Option<JobKey>,
    /// The next token to give out, if it moved.
    pub next_token: Option<u64>,
}

impl Change {
    fn of(record: JobRecord) -> Self {
        Self {
            records: vec![record],
            ..Self::default()
        }
    }

    /// Whether there is nothing to write.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}

/// All jobs of a queue.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Table {
    limits: Limits,
    jobs: BTreeMap<JobKey, JobRecord>,
    next_token: u64,
}

impl Table {
    pub fn new(limits: Limits, records: Vec<JobRecord>, next_token: u64) -> Self {
        let jobs: BTreeMap<_, _> = records.into_iter().map(|r| (r.key, r)).collect();
        Self {
            limits,
            jobs,
            next_token,
        }
    }

    pub fn apply(&mut self, change: &Change) {
        for record in &change.records {
            self.jobs.insert(record.key, record.clone());
        }
        if let Some(key) = change.removed {
            self.jobs.remove(&key);
        }
        if let Some(next) = change.next_token {
            self.next_token = next;
        }
    }

    pub fn list(&self) -> Vec<JobRecord> {
        self.jobs.values().cloned().collect()
    }

    pub fn get(&self, key: &JobKey) -> Option<&JobRecord> {
        self.jobs.get(key)
    }

    pub fn known(&self, key: &JobKey) -> Result<&JobRecord, QueueError> {
        self.jobs.get(key).ok_or(QueueError::UnknownJob(*key))
    }

    pub fn submit(&self, record: JobRecord, statement: Vec<u8>) -> Result<Change, QueueError> {
        let (limit, bytes) = (self.limits.statement_bytes, statement.len());
        if bytes > limit {
            return Err(QueueError::TooLarge { bytes, limit });
        }
        let unfinished = |r: &&JobRecord| !matches!(r.state, JobState::Done { .. });
        let limit = self.limits.jobs;
        if self.jobs.values().filter(unfinished).count() >= limit {
            return Err(QueueError::Full { limit });
        }
        let statement = Some((record.key, statement));
        Ok(Change {
            statement,
            ..Change::of(record)
        })
    }

    /// Which job the next lease is for, its token and end, and the change that gives it out.
    pub fn lease(
        &self,
        worker: &str,
        millis: u64,
        now: Millis,
    ) -> Option<(JobRecord, FencingToken, Millis, Change)> {
        let free = |record: &&JobRecord| match record.state {
            JobState::Waiting => true,
            JobState::Leased { expires, .. } => expires <= now,
            JobState::Done { .. } | JobState::Failed => false,
        };
        let mut record = self.jobs.values().find(free)?.clone();
        if matches!(record.state, JobState::Leased { .. }) {
            record.expiries = record.expiries.saturating_add(1);
        }
        let (token, expires) = (FencingToken(self.next_token), self.end(millis, now));
        record.leases = record.leases.saturating_add(1);
        record.changed = now;
        record.state = JobState::Leased {
            worker: self.shortened(worker),
            token,
            expires,
        };
        let change = Change {
            next_token: Some(self.next_token + 1),
            ..Change::of(record.clone())
        };
        Some((record, token, expires, change))
    }

    /// Gives a job up that no worker could even begin.
    pub fn park(&self, key: &JobKey, reason: &str, now: Millis) -> Result<Change, QueueError> {
        let mut record = self.known(key)?.clone();
        record.state = JobState::Failed;
        record.last_failure = Some(self.shortened(reason));
        record.changed = now;
        Ok(Change::of(record))
    }

    pub fn extend(
        &self,
        key: &JobKey,
        token: FencingToken,
        millis: u64,
        now: Millis,
    ) -> Result<(Millis, Change), QueueError> {
        let mut record = self.held(key, token)?.clone();
        let end = self.end(millis, now);
        if let JobState::Leased { expires, .. } = &mut record.state {
            *expires = end;
        }
        record.changed = now;
        Ok((end, Change::of(record)))
    }

    /// The change that stores a result, or `None` if that lease's result is stored already.
    pub fn complete(
        &self,
        key: &JobKey,
        token: FencingToken,
        result: Vec<u8>,
        now: Millis,
    ) -> Result<Option<Change>, QueueError> {
        if self.known(key)?.state == (JobState::Done { token }) {
            return Ok(None);
        }
        let mut record = self.held(key, token)?.clone();
        record.state = JobState::Done { token };
        record.changed = now;
        let result = Some((*key, result));
        Ok(Some(Change {
            result,
            ..Change::of(record)
        }))
    }

    pub fn fail(
        &self,
        key: &JobKey,
        token: FencingToken,
        reason: &str,
        now: Millis,
    ) -> Result<(JobState, Change), QueueError> {
        let mut record = self.held(key, token)?.clone();
        record.failures = record.failures.saturating_add(1);
        record.last_failure = Some(self.shortened(reason));
        let parked = record.failures >= self.limits.failures;
        record.state = if parked {
            JobState::Failed
        } else {
            JobState::Waiting
        };
        record.changed = now;
        Ok((record.state.clone(), Change::of(record)))
    }

    pub fn release(
        &self,
        key: &JobKey,
        token: FencingToken,
        now: Millis,
    ) -> Result<Change, QueueError> {
        let mut record = self.held(key, token)?.clone();
        record.state = JobState::Waiting;
        record.changed = now;
        Ok(Change::of(record))
    }

    pub fn reclaim(&self, now: Millis) -> Change {
        let expired = |record: &&JobRecord| matches!(record.state, JobState::Leased { expires, .. } if expires <= now);
        let waiting = |record: &JobRecord| JobRecord {
            state: JobState::Waiting,
            expiries: record.expiries.saturating_add(1),
            changed: now,
            ..record.clone()
        };
        let records = self.jobs.values().filter(expired).map(waiting).collect();
        Change {
            records,
            ..Change::default()
        }
    }

    pub fn retry(&self, key: &JobKey, now: Millis) -> Result<Change, QueueError> {
        let record = self.known(key)?;
        if record.state != JobState::Failed {
            let (state, wish) = (describe(&record.state), "retried".to_owned());
            return Err(QueueError::WrongState {
                key: *key,
                state,
                wish,
            });
        }
        let state = JobState::Waiting;
        Ok(Change::of(JobRecord {
            state,
            failures: 0,
            changed: now,
            ..record.clone()
        }))
    }

    pub fn forget(&self, key: &JobKey) -> Result<Change, QueueError> {
        self.known(key)?;
        Ok(Change {
            removed: Some(*key),
            ..Change::default()
        })
    }

    /// The job, if this token is the one of its lease. An expired lease that nobody else took is still good.
    pub fn held(&self, key: &JobKey, token: FencingToken) -> Result<&JobRecord, QueueError> {
        let record = self.known(key)?;
        match record.state {
            JobState::Leased { token: current, .. } if current == token => Ok(record),
            ref state => {
                let state = describe(state);
                Err(QueueError::StaleLease {
                    key: *key,
                    got: token,
                    state,
                })
            }
        }
    }

    fn end(&self, millis: u64, now: Millis) -> Millis {
        now.plus(millis.clamp(1, self.limits.lease_millis))
    }

    fn shortened(&self, text: &str) -> String {
        text.chars().take(self.limits.text).collect()
    }
}

fn describe(state: &JobState) -> String {
    match state {
        JobState::Waiting => "waiting".into(),
        JobState::Leased { worker, token, .. } => format!("leased to {worker} as {token}"),
        JobState::Done { token } => format!("done under lease {token}"),
        JobState::Failed => "failed".into(),
    }
}

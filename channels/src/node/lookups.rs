//! What L1 says about other nodes' channels: asked beside the runtime, at a bounded pace, and remembered.
//!
//! ```text
//! announcement waits → Lookups::ask → (bounded queue) → worker: state in the last final block → answer → Deposits
//! every few seconds  → logs of the contract since the last look → channels that changed → asked again
//! ```
//! What peers say costs at most `BURST` questions and then `PER_SEC` a second, whoever they are; a channel that L1 does not know
//! is not asked about again for `ABSENT_SECS`.

use super::chain::{ChainConfig, ChainHealth};
use super::convert::to_b256;
use crate::routing::graph::{Deposit, Deposits};
use crate::types::{ChannelId, Timestamp};
use alloy::eips::BlockId;
use alloy::rpc::types::Filter;
use millrace_l1::channels_client::{ChannelPhase, ChannelState};
use millrace_l1::events::range;
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle;

/// Questions that may be asked at once.
const BURST: u64 = 200;
/// Questions a second after that.
const PER_SEC: u64 = 10;
/// Answers that are remembered.
const MAX_KNOWN: usize = 10_000;
/// A channel that L1 does not have is not asked about again for this long, seconds.
const ABSENT_SECS: u64 = 600;
/// A question without an answer is asked again after this, seconds.
const AGAIN_SECS: u64 = 15;
/// How often the contract's logs are read.
const LOGS_EVERY: Duration = Duration::from_secs(10);

/// What the worker tells.
#[derive(Debug)]
pub(super) enum Found {
    /// A channel's state.
    Channel(ChannelId, Deposit),
    /// These channels have changed, up to this final block.
    Changed(BTreeSet<ChannelId>, u64),
}

/// Answers of L1, and questions under way.
pub(super) struct Lookups {
    questions: mpsc::Sender<ChannelId>,
    found: mpsc::Receiver<Found>,
    worker: JoinHandle<()>,
    known: BTreeMap<ChannelId, (Deposit, Timestamp)>,
    locals: BTreeMap<ChannelId, u128>,
    asked: BTreeMap<ChannelId, Timestamp>,
    left: u64,
    filled: Timestamp,
}

impl Lookups {
    /// Starts the worker. `seen` is the final block up to which the graph has followed L1; none if the graph is new.
    pub fn start(
        chain: ChainConfig,
        health: watch::Receiver<ChainHealth>,
        seen: Option<u64>,
    ) -> Self {
        let (questions, asked) = mpsc::channel(BURST as usize);
        let (tell, found) = mpsc::channel(BURST as usize);
        let worker = Worker {
            chain,
            health,
            seen,
            tell,
        };
        Self {
            questions,
            found,
            worker: tokio::spawn(worker.run(asked)),
            known: BTreeMap::new(),
            locals: BTreeMap::new(),
            asked: BTreeMap::new(),
            left: BURST,
            filled: 0,
        }
    }

    /// The next answer.
    pub async fn next(&mut self) -> Option<Found> {
        self.found.recv().await
    }

    /// Ends the worker.
    pub async fn end(self) {
        self.worker.abort();
        // It was told to end.
        let _ = self.worker.await;
    }

    /// What this node's own channels hold: the machine knows it.
    pub fn set_locals(&mut self, locals: BTreeMap<ChannelId, u128>) {
        self.locals = locals;
    }

    /// Asks about those channels whose answer is not known, as far as the pace allows.
    pub fn ask<'a>(&mut self, ids: impl Iterator<Item = &'a ChannelId>, now: Timestamp) {
        let passed = now.saturating_sub(self.filled);
        self.filled = self.filled.max(now);
        let refilled = passed.saturating_mul(PER_SEC).saturating_add(self.left);
        self.left = refilled.min(BURST);
        self.asked
            .retain(|_, at| now < at.saturating_add(AGAIN_SECS));
        for id in ids {
            if self.left == 0 {
                return;
            }
            let open = self.locals.contains_key(id) || self.asked.contains_key(id);
            if open || self.remembered(id, now) {
                continue;
            }
            if self.questions.try_send(*id).is_err() {
                return;
            }
            self.left -= 1;
            self.asked.insert(*id, now);
        }
    }

    fn remembered(&self, id: &ChannelId, now: Timestamp) -> bool {
        self.known
            .get(id)
            .is_some_and(|(deposit, at)| match deposit {
                Deposit::Open { .. } => true,
                Deposit::Absent => now < at.saturating_add(ABSENT_SECS),
                Deposit::Unknown => now < at.saturating_add(AGAIN_SECS),
            })
    }

    /// Notes an answer.
    pub fn learn(&mut self, id: ChannelId, deposit: Deposit, now: Timestamp) {
        self.asked.remove(&id);
        self.known.insert(id, (deposit, now));
        if self.known.len() > MAX_KNOWN {
            let oldest = self.known.iter().min_by_key(|(_, (_, at))| *at);
            let oldest = oldest.map(|(id, _)| *id);
            oldest.map(|id| self.known.remove(&id));
        }
    }

    /// Forgets what is out of date: L1 has news of these.
    pub fn forget(&mut self, changed: &BTreeSet<ChannelId>) {
        self.known.retain(|id, _| !changed.contains(id));
        self.asked.retain(|id, _| !changed.contains(id));
    }

    /// Forgets what the graph has taken over, and refusals that have had their time.
    pub fn tidy(&mut self, in_graph: impl Fn(&ChannelId) -> bool, now: Timestamp) {
        self.known.retain(|id, (deposit, at)| {
            let over = *deposit != Deposit::Absent || now >= at.saturating_add(ABSENT_SECS);
            !(over && (in_graph(id) || *deposit != Deposit::Unknown))
        });
    }
}

impl Deposits for Lookups {
    fn deposit(&self, channel: &ChannelId) -> Deposit {
        if let Some(capacity) = self.locals.get(channel) {
            return Deposit::Open {
                capacity: *capacity,
            };
        }
        self.known
            .get(channel)
            .map_or(Deposit::Unknown, |(deposit, _)| *deposit)
    }
}

/// Asks L1, one question after the other.
struct Worker {
    chain: ChainConfig,
    health: watch::Receiver<ChainHealth>,
    seen: Option<u64>,
    tell: mpsc::Sender<Found>,
}

impl Worker {
    async fn run(mut self, mut asked: mpsc::Receiver<ChannelId>) {
        let mut logs = tokio::time::interval(LOGS_EVERY);
        logs.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            let found = tokio::select! {
                id = asked.recv() => match id {
                    Some(id) => self.channel(id).await,
                    None => return,
                },
                _ = logs.tick() => match self.changes().await {
                    Ok(Some(found)) => found,
                    Ok(None) => continue,
                    Err(problem) => {
                        tracing::debug!(problem, "the contract's logs cannot be read for the graph; they are read again");
                        continue;
                    }
                },
            };
            if self.tell.send(found).await.is_err() {
                return;
            }
        }
    }

    async fn channel(&self, id: ChannelId) -> Found {
        match self.deposit(&id).await {
            Ok(deposit) => Found::Channel(id, deposit),
            Err(problem) => {
                tracing::debug!(channel = %id, problem, "a gossiped channel cannot be looked up now");
                Found::Channel(id, Deposit::Unknown)
            }
        }
    }

    /// The channel in the last final block. One that only the head has is not known yet.
    async fn deposit(&self, id: &ChannelId) -> Result<Deposit, String> {
        let health = self.health.borrow().clone();
        let Some(finally) = health.final_block else {
            return Ok(Deposit::Unknown);
        };
        let state = self.state(id, BlockId::number(finally)).await?;
        match state.phase {
            ChannelPhase::Open => Ok(Deposit::Open {
                capacity: state
                    .net_a
                    .saturating_add(state.net_b)
                    .max(0)
                    .unsigned_abs(),
            }),
            ChannelPhase::Closing | ChannelPhase::Closed => Ok(Deposit::Absent),
            ChannelPhase::None => {
                let newest = self.state(id, BlockId::latest()).await?;
                Ok(match newest.phase {
                    ChannelPhase::Open => Deposit::Unknown,
                    _ => Deposit::Absent,
                })
            }
        }
    }

    async fn state(&self, id: &ChannelId, at: BlockId) -> Result<ChannelState, String> {
        let contract = self.chain.client.contract();
        let state = contract.channel(to_b256(id)).block(at).call().await;
        state.map(Into::into).map_err(|error| error.to_string())
    }

    /// Channels that the contract's logs name since the last look.
    async fn changes(&mut self) -> Result<Option<Found>, String> {
        let Some(finally) = self.health.borrow().final_block else {
            return Ok(None);
        };
        let Some(seen) = self.seen else {
            // The graph is new: whatever it learns from now on is looked up in a later block.
            self.seen = Some(finally);
            return Ok(None);
        };
        if finally <= seen {
            return Ok(None);
        }
        let filter = Filter::new().address(self.chain.client.address());
        let provider = self.chain.l1.provider();
        let (end, logs) = range::logs(provider, &filter, seen + 1, finally)
            .await
            .map_err(|error| error.to_string())?;
        self.seen = Some(end);
        let ids = logs.iter().filter_map(|log| log.topics().get(1));
        let changed = ids.map(|topic| ChannelId(topic.0)).collect();
        Ok(Some(Found::Changed(changed, end)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lookups() -> (Lookups, mpsc::Receiver<ChannelId>) {
        let (questions, asked) = mpsc::channel(BURST as usize);
        let (_, found) = mpsc::channel(1);
        let lookups = Lookups {
            questions,
            found,
            worker: tokio::spawn(async {}),
            known: BTreeMap::new(),
            locals: BTreeMap::new(),
            asked: BTreeMap::new(),
            left: BURST,
            filled: 1000,
        };
        (lookups, asked)
    }

    fn ids(from: u64, count: u64) -> Vec<ChannelId> {
        let id = |number: u64| {
            let mut bytes = [0; 32];
            bytes[..8].copy_from_slice(&number.to_be_bytes());
            ChannelId(bytes)
        };
        (from..from + count).map(id).collect()
    }

    fn drain(asked: &mut mpsc::Receiver<ChannelId>) -> usize {
        std::iter::from_fn(|| asked.try_recv().ok()).count()
    }

    #[tokio::test]
    async fn whatever_peers_say_l1_is_asked_at_a_bounded_pace() {
        let (mut lookups, mut asked) = lookups();
        lookups.ask(ids(0, 1000).iter(), 1000);
        assert_eq!(drain(&mut asked) as u64, BURST);
        // Nothing more at once; then so many a second, and no more after a long pause than at the beginning.
        lookups.ask(ids(1000, 1000).iter(), 1000);
        assert_eq!(drain(&mut asked), 0);
        lookups.ask(ids(1000, 1000).iter(), 1003);
        assert_eq!(drain(&mut asked) as u64, 3 * PER_SEC);
        lookups.ask(ids(5000, 1000).iter(), 900_000);
        assert_eq!(drain(&mut asked) as u64, BURST);
        // A clock that goes back gives nothing.
        lookups.ask(ids(9000, 1000).iter(), 0);
        assert_eq!(drain(&mut asked), 0);
    }

    #[tokio::test]
    async fn an_answer_is_asked_for_once_until_it_is_old() {
        let (mut lookups, mut asked) = lookups();
        let id = ids(7, 1);
        for _ in 0..3 {
            lookups.ask(id.iter(), 1000);
        }
        assert_eq!(drain(&mut asked), 1);
        assert_eq!(lookups.deposit(&id[0]), Deposit::Unknown);
        lookups.learn(id[0], Deposit::Absent, 1001);
        assert_eq!(lookups.deposit(&id[0]), Deposit::Absent);
        lookups.tidy(|_| false, 1001 + ABSENT_SECS - 1);
        lookups.ask(id.iter(), 1001 + ABSENT_SECS - 1);
        assert_eq!(drain(&mut asked), 0);
        lookups.tidy(|_| false, 1001 + ABSENT_SECS);
        lookups.ask(id.iter(), 1001 + ABSENT_SECS);
        assert_eq!(drain(&mut asked), 1);
        // Our own channels are known without asking.
        let own = ids(8, 1);
        lookups.set_locals(BTreeMap::from([(own[0], 5)]));
        lookups.ask(own.iter(), 2000);
        assert_eq!(drain(&mut asked), 0);
        assert_eq!(lookups.deposit(&own[0]), Deposit::Open { capacity: 5 });
    }

    #[tokio::test]
    async fn what_is_remembered_is_bounded() {
        let (mut lookups, _asked) = lookups();
        for (at, id) in ids(0, MAX_KNOWN as u64 + 10).into_iter().enumerate() {
            lookups.learn(id, Deposit::Absent, at as u64);
        }
        assert_eq!(lookups.known.len(), MAX_KNOWN);
        // The oldest went.
        assert_eq!(lookups.deposit(&ids(9, 1)[0]), Deposit::Unknown);
    }
}

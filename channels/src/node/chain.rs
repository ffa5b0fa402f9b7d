//! Follows L1: the contract's *state* at the head and at the last final block, for as long as a node or tower wants it.
//!
//! ```text
//! poll → head, final block → which channels may have changed: logs since the last look, all after a reorg or when new
//!      → state, dispute, lists, reveals at that very block (by hash) → ChainReport → listener
//! ```
//! A reorg is only another head: what was read of blocks that are gone is read again. While L1 does not answer, the watcher
//! tries again with a growing pause and reports nothing, so that the age of the head speaks for itself (rule 8).

use super::convert::{from_dispute, to_b256};
use crate::machine::dispute::{ChainPhase, ChainReport, Dispute, Level, OnChain};
use crate::state::{Lock, unpack_list};
use crate::types::{ChannelId, LockRoot, PaymentHash, Preimage, Timestamp};
use alloy::eips::{BlockId, BlockNumberOrTag};
use alloy::primitives::{B256, Bytes, keccak256};
use alloy::providers::Provider;
use alloy::rpc::types::{Filter, Log};
use alloy::sol_types::SolEvent;
use alloy::transports::TransportError;
use millrace_l1::bindings::Channels;
use millrace_l1::channels_client::{
    ChannelPhase, ChannelState, ChannelsClient, ChannelsEvents, DisputeState, decode_event,
};
use millrace_l1::events::range;
use millrace_l1::provider::{L1Provider, explain};
use std::collections::BTreeSet;
use std::future::Future;
use std::time::Duration;
use tokio::sync::watch;

/// The longest pause between attempts while L1 does not answer.
const LONGEST_PAUSE: Duration = Duration::from_secs(15);
/// Every so many blocks everything is read again, whatever the logs said.
const FULL_EVERY: u64 = 256;

/// Which block counts as final.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Finality {
    /// The one with this many on top.
    Depth(u64),
    /// The one that the chain's consensus calls final.
    Tag,
}

impl Finality {
    /// The last final block under a head. A young chain's first block is all that can be final.
    pub fn block(self, head: u64) -> BlockNumberOrTag {
        match self {
            Self::Depth(depth) => head.saturating_sub(depth).into(),
            Self::Tag => BlockNumberOrTag::Finalized,
        }
    }
}

/// What to follow.
#[derive(Debug, Clone)]
pub struct ChainConfig {
    /// The connection.
    pub l1: L1Provider,
    /// The contract.
    pub client: ChannelsClient,
    /// Block of the contract's deployment: nothing before it is read.
    pub from_block: u64,
    /// What is final.
    pub finality: Finality,
    /// How often L1 is asked.
    pub poll: Duration,
}

/// What a listener wants to know about.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Wanted {
    /// Channels.
    pub channels: BTreeSet<ChannelId>,
    /// Payment hashes.
    pub hashes: BTreeSet<PaymentHash>,
}

/// Who is told.
pub trait Listener: Send + Sync + 'static {
    /// What is wanted now; none ends the watcher.
    fn wanted(&self) -> impl Future<Output = Option<Wanted>> + Send;
    /// News, in order.
    fn report(&self, report: ChainReport) -> impl Future<Output = ()> + Send;
}

/// How the connection to L1 is doing.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct ChainHealth {
    /// Number and time of the head, as last seen.
    pub head: Option<(u64, Timestamp)>,
    /// Number of the last final block.
    pub final_block: Option<u64>,
    /// Why L1 cannot be read now.
    pub problem: Option<String>,
}

/// A block.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Block {
    number: u64,
    hash: B256,
    timestamp: Timestamp,
}

/// What was reported of a level.
#[derive(Debug, Default)]
struct Seen {
    block: Option<Block>,
    known: Wanted,
    full_at: u64,
}

/// Follows L1 for one listener.
pub struct ChainWatcher<L> {
    config: ChainConfig,
    listener: L,
    head: Seen,
    finally: Seen,
    health: watch::Sender<ChainHealth>,
}

impl<L: Listener> ChainWatcher<L> {
    /// A watcher, and what tells how it is doing.
    pub fn new(config: ChainConfig, listener: L) -> (Self, watch::Receiver<ChainHealth>) {
        let (health, told) = watch::channel(ChainHealth::default());
        let watcher = Self {
            config,
            listener,
            head: Seen::default(),
            finally: Seen::default(),
            health,
        };
        (watcher, told)
    }

    /// Follows until the listener is gone.
    pub async fn run(mut self) {
        let mut pause = self.config.poll;
        while let Some(wanted) = self.listener.wanted().await {
            match self.look(&wanted).await {
                Ok(()) => pause = self.config.poll,
                Err(problem) => {
                    tracing::warn!(
                        problem,
                        wait_ms = pause.as_millis() as u64,
                        "L1 cannot be read"
                    );
                    self.health
                        .send_modify(|health| health.problem = Some(problem));
                    pause = (pause * 2).min(LONGEST_PAUSE);
                }
            }
            tokio::time::sleep(pause).await;
        }
    }

    /// Looks once, and reports both levels.
    async fn look(&mut self, wanted: &Wanted) -> Result<(), String> {
        let head = self.block(BlockNumberOrTag::Latest).await?;
        let Some(head) = head else {
            return Err("L1 has no block yet".to_owned());
        };
        let finally = match self.config.finality {
            Finality::Depth(0) => Some(head),
            finality => self.block(finality.block(head.number)).await?,
        };
        if let Some(block) = finally {
            let mut seen = std::mem::take(&mut self.finally);
            let result = self.report(Level::Final, block, &mut seen, wanted).await;
            self.finally = if result.is_ok() {
                seen
            } else {
                Seen::default()
            };
            result?;
        }
        let mut seen = std::mem::take(&mut self.head);
        let result = self.report(Level::Head, head, &mut seen, wanted).await;
        self.head = if result.is_ok() {
            seen
        } else {
            Seen::default()
        };
        result?;
        self.health.send_replace(ChainHealth {
            head: Some((head.number, head.timestamp)),
            final_block: finally.map(|block| block.number),
            problem: None,
        });
        Ok(())
    }

    async fn block(&self, tag: BlockNumberOrTag) -> Result<Option<Block>, String> {
        let block = self.config.l1.provider().get_block_by_number(tag).await;
        let block = block.map_err(|error| unread("a block", &error))?;
        Ok(block.map(|block| Block {
            number: block.header.number,
            hash: block.header.hash,
            timestamp: block.header.timestamp,
        }))
    }

    async fn report(
        &self,
        level: Level,
        block: Block,
        seen: &mut Seen,
        wanted: &Wanted,
    ) -> Result<(), String> {
        let unchanged = seen.block == Some(block) && seen.known == *wanted;
        if unchanged {
            return Ok(());
        }
        let changed = self.changed(block, seen, wanted).await?;
        let mut channels = Vec::new();
        for id in changed.channels {
            channels.push((id, self.channel(&id, block).await?));
        }
        let mut reveals = Vec::new();
        for hash in changed.hashes {
            reveals.push((hash, self.revealed(&hash, block).await?));
        }
        self.listener
            .report(ChainReport {
                level,
                timestamp: block.timestamp,
                channels,
                reveals,
            })
            .await;
        seen.block = Some(block);
        seen.known = wanted.clone();
        Ok(())
    }

    /// What may differ from the last report of the level.
    async fn changed(
        &self,
        block: Block,
        seen: &mut Seen,
        wanted: &Wanted,
    ) -> Result<Wanted, String> {
        let continues = match seen.block {
            Some(last) if last.number == block.number => last.hash == block.hash,
            Some(last) if last.number < block.number => {
                let there = self.block(last.number.into()).await?;
                there.is_some_and(|there| there.hash == last.hash)
            }
            _ => false,
        };
        if !continues || block.number >= seen.full_at {
            seen.full_at = block.number + FULL_EVERY;
            return Ok(wanted.clone());
        }
        let mut changed = Wanted {
            channels: wanted
                .channels
                .difference(&seen.known.channels)
                .copied()
                .collect(),
            hashes: wanted
                .hashes
                .difference(&seen.known.hashes)
                .copied()
                .collect(),
        };
        let from = seen.block.map_or(block.number, |last| last.number + 1);
        for log in self.logs(Filter::new(), from, block.number).await? {
            match log.topics().get(1) {
                Some(topic) if log.topic0() == Some(&Channels::Revealed::SIGNATURE_HASH) => {
                    changed.hashes.insert(PaymentHash(topic.0));
                }
                Some(topic) => drop(changed.channels.insert(ChannelId(topic.0))),
                None => {}
            }
        }
        changed.channels.retain(|id| wanted.channels.contains(id));
        changed.hashes.retain(|hash| wanted.hashes.contains(hash));
        Ok(changed)
    }

    async fn logs(&self, filter: Filter, from: u64, to: u64) -> Result<Vec<Log>, String> {
        let filter = filter.address(self.config.client.address());
        let mut all = Vec::new();
        let mut from = from;
        while from <= to {
            let found = range::logs(self.config.l1.provider(), &filter, from, to).await;
            let (end, logs) = found.map_err(|error| error.to_string())?;
            all.extend(logs.into_iter().filter(|log| !log.removed));
            from = end + 1;
        }
        Ok(all)
    }

    async fn channel(&self, id: &ChannelId, block: Block) -> Result<OnChain, String> {
        let at = BlockId::hash(block.hash);
        let contract = self.config.client.contract();
        let state = contract.channel(to_b256(id)).block(at).call().await;
        let state: ChannelState = state
            .map_err(|error| format!("reading channel {id}: {error}"))?
            .into();
        let phase = match state.phase {
            ChannelPhase::None | ChannelPhase::Open => ChainPhase::Open,
            ChannelPhase::Closing => ChainPhase::Closing(self.dispute(id, block).await?),
            ChannelPhase::Closed => self.end(id, block).await?,
        };
        Ok(OnChain {
            net_a: state.net_a,
            net_b: state.net_b,
            epoch: state.epoch,
            phase,
        })
    }

    async fn history(&self, id: &ChannelId, block: Block) -> Result<Vec<ChannelsEvents>, String> {
        let filter = Filter::new().topic1(to_b256(id));
        let logs = self
            .logs(filter, self.config.from_block, block.number)
            .await?;
        let address = self.config.client.address();
        Ok(logs
            .iter()
            .filter_map(|log| decode_event(address, log))
            .collect())
    }

    async fn dispute(&self, id: &ChannelId, block: Block) -> Result<Dispute, String> {
        let contract = self.config.client.contract();
        let found = contract
            .dispute(to_b256(id))
            .block(BlockId::hash(block.hash));
        let found = found.call().await;
        let found: DisputeState = found
            .map_err(|error| format!("reading the dispute of channel {id}: {error}"))?
            .into();
        let halves = from_dispute(&found);
        let history = self.history(id, block).await?;
        Ok(Dispute {
            deadline: found.deadline,
            list_a: list(id, &history, &halves.a.locks)?,
            list_b: list(id, &history, &halves.b.locks)?,
            halves,
        })
    }

    /// How a closed channel ended.
    async fn end(&self, id: &ChannelId, block: Block) -> Result<ChainPhase, String> {
        let history = self.history(id, block).await?;
        let settled = history
            .iter()
            .any(|event| matches!(event, ChannelsEvents::Settled(_)));
        if !settled {
            return Ok(ChainPhase::Cooperated);
        }
        let last = history.iter().rev().find_map(|event| match event {
            ChannelsEvents::Submitted(submitted) => Some(submitted),
            _ => None,
        });
        let last = last.ok_or_else(|| {
            format!("channel {id} was settled, but the logs show no submit: set the block of the contract's deployment")
        })?;
        Ok(ChainPhase::Settled {
            version_a: last.a.version,
            version_b: last.b.version,
        })
    }

    async fn revealed(
        &self,
        hash: &PaymentHash,
        block: Block,
    ) -> Result<Option<(Timestamp, Preimage)>, String> {
        let contract = self.config.client.contract();
        let word = B256::from(hash.0);
        let time = contract.revealedAt(word).block(BlockId::hash(block.hash));
        let time = time.call().await;
        let time = time.map_err(|error| format!("reading the reveal of {hash}: {error}"))?;
        if time.is_zero() {
            return Ok(None);
        }
        let filter = Filter::new()
            .event_signature(Channels::Revealed::SIGNATURE_HASH)
            .topic1(word);
        let logs = self
            .logs(filter, self.config.from_block, block.number)
            .await?;
        let event = logs
            .iter()
            .find_map(|log| Channels::Revealed::decode_log(&log.inner).ok())
            .ok_or_else(|| format!("{hash} is revealed, but no log shows its preimage"))?;
        Ok(Some((time.saturating_to(), Preimage(event.preimage.0))))
    }
}

/// The list with this root, from the events of the submits.
fn list(id: &ChannelId, history: &[ChannelsEvents], root: &LockRoot) -> Result<Vec<Lock>, String> {
    if *root == LockRoot::EMPTY {
        return Ok(Vec::new());
    }
    let lists = history.iter().filter_map(|event| match event {
        ChannelsEvents::LocksSubmitted(submitted) => Some(&submitted.list),
        _ => None,
    });
    let bytes: Option<&Bytes> = lists.into_iter().find(|list| keccak256(list).0 == root.0);
    let bytes =
        bytes.ok_or_else(|| format!("channel {id}: the logs lack a list of its dispute"))?;
    unpack_list(bytes).map_err(|error| format!("channel {id}: {error}"))
}

fn unread(what: &str, error: &TransportError) -> String {
    format!("reading {what}: {}", explain(error))
}

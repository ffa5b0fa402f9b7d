//! Where tasks report how they are doing, for `/status`, `/readyz` and metrics.
//!
//! L1 tasks → [`Board`] → [`Health`] → API

use crate::api::Health;
use crate::api::types::{L1Progress, Phase};
use std::collections::BTreeMap;
use tokio::sync::watch;

/// Blocks behind the head up to which the node counts as caught up.
const CAUGHT_UP_BLOCKS: u64 = 2;

#[derive(Debug, Default)]
struct Reports {
    followed: bool,
    frozen: bool,
    stopping: bool,
    faults: BTreeMap<&'static str, String>,
    l1: Option<L1Progress>,
}

/// The reports of all tasks. Clones share it.
#[derive(Debug, Clone)]
pub struct Board {
    reports: std::sync::Arc<std::sync::Mutex<Reports>>,
    health: watch::Sender<Health>,
}

impl Default for Board {
    fn default() -> Self {
        Self {
            reports: std::sync::Arc::default(),
            health: watch::Sender::new(Health::default()),
        }
    }
}

impl Board {
    /// What the API reads.
    pub fn health(&self) -> watch::Receiver<Health> {
        self.health.subscribe()
    }

    /// L1 was followed to this block.
    pub fn followed(&self, synced_block: u64, head_block: u64) {
        let lag_blocks = head_block.saturating_sub(synced_block);
        self.change(|reports| {
            reports.l1 = Some(L1Progress {
                head_block,
                synced_block,
                lag_blocks,
            });
            reports.followed |= lag_blocks <= CAUGHT_UP_BLOCKS;
            reports.faults.remove("l1");
        });
    }

    /// A task cannot go on for now; `None`: it can again.
    pub fn fault(&self, task: &'static str, cause: Option<String>) {
        self.change(|reports| {
            match cause {
                Some(cause) => reports.faults.insert(task, cause),
                None => reports.faults.remove(task),
            };
        });
    }

    /// Whether the contract is frozen.
    pub fn frozen(&self, frozen: bool) {
        self.change(|reports| reports.frozen = frozen);
    }

    /// The node stops.
    pub fn stopping(&self) {
        self.change(|reports| reports.stopping = true);
    }

    fn change(&self, change: impl FnOnce(&mut Reports)) {
        let mut reports = self
            .reports
            .lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner);
        change(&mut reports);
        let health = reports.health();
        self.health
            .send_if_modified(|shown| std::mem::replace(shown, health.clone()) != health);
    }
}

impl Reports {
    fn health(&self) -> Health {
        let mut waiting_for: Vec<String> = self.faults.values().cloned().collect();
        if !self.followed && self.faults.is_empty() {
            waiting_for.push("catching up with L1".to_owned());
        }
        let phase = match self {
            Self { stopping: true, .. } => Phase::Stopping,
            Self { frozen: true, .. } => Phase::Frozen,
            Self { l1: None, .. } => Phase::Starting,
            Self {
                followed: false, ..
            } => Phase::Syncing,
            Self { faults, .. } if !faults.is_empty() => Phase::Degraded,
            _ => Phase::Running,
        };
        Health {
            phase,
            waiting_for,
            l1: self.l1.unwrap_or(Health::default().l1),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn phases_follow_the_reports() {
        let board = Board::default();
        let health = board.health();
        let phase = || health.borrow().phase;
        assert_eq!(phase(), Phase::Starting);
        board.followed(1, 100);
        assert_eq!(
            (phase(), health.borrow().l1.lag_blocks),
            (Phase::Syncing, 99)
        );
        board.followed(100, 100);
        assert_eq!(phase(), Phase::Running);
        board.fault("poster", Some("no money".into()));
        assert_eq!(
            (phase(), health.borrow().waiting_for.clone()),
            (Phase::Degraded, vec!["no money".to_owned()])
        );
        board.fault("poster", None);
        board.followed(100, 200);
        assert_eq!(
            phase(),
            Phase::Running,
            "new blocks do not make a node unready"
        );
        board.frozen(true);
        assert_eq!(phase(), Phase::Frozen);
        board.stopping();
        assert_eq!(phase(), Phase::Stopping);
    }
}

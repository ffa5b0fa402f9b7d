//! Named tasks: each can be asked to stop, and its death is noticed.
//!
//! [`Tasks::spawn`] → runs → ends by itself: [`Tasks::died`] names it; asked by [`Tasks::stop`]: waits for it, within a limit

use std::collections::BTreeMap;
use std::future::Future;
use std::time::Duration;
use thiserror::Error;
use tokio::task::{Id, JoinError, JoinSet};
use tokio_util::sync::CancellationToken;

/// A task ended although nobody asked it to.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error(
    "the {task} task ended: {cause}; what was acknowledged is on disk, so start the node again"
)]
pub struct TaskDied {
    /// Its name.
    pub task: &'static str,
    /// Why.
    pub cause: String,
}

/// Tasks that are stopped together.
#[derive(Default)]
pub struct Tasks {
    set: JoinSet<Result<(), String>>,
    names: BTreeMap<Id, &'static str>,
    stop: CancellationToken,
}

impl Tasks {
    /// Cancelled when the tasks are to stop.
    pub fn stopping(&self) -> CancellationToken {
        self.stop.clone()
    }

    /// Starts a task. It ends without error only after [`Self::stopping`].
    pub fn spawn<E: ToString>(
        &mut self,
        name: &'static str,
        work: impl Future<Output = Result<(), E>> + Send + 'static,
    ) {
        let handle = self
            .set
            .spawn(async move { work.await.map_err(|error| error.to_string()) });
        self.names.insert(handle.id(), name);
    }

    /// Waits until a task ends that should not; forever if there is none.
    ///
    /// # Cancel safety
    /// Nothing is lost.
    pub async fn died(&mut self) -> TaskDied {
        match self.set.join_next_with_id().await {
            Some(ended) => {
                let (id, cause) = cause(ended);
                let cause = cause.unwrap_or_else(|| "it returned without being asked".to_owned());
                TaskDied {
                    task: self.names.get(&id).copied().unwrap_or("unnamed"),
                    cause,
                }
            }
            None => std::future::pending().await,
        }
    }

    /// Asks all tasks to stop and waits for them; one that takes longer than `limit` is cut off.
    pub async fn stop(&mut self, limit: Duration) {
        self.stop.cancel();
        self.join(limit).await;
    }

    /// Waits for tasks that were asked to stop.
    pub async fn join(&mut self, limit: Duration) {
        let all = async {
            while let Some(ended) = self.set.join_next_with_id().await {
                let (id, cause) = cause(ended);
                let task = self.names.get(&id).copied().unwrap_or("unnamed");
                match cause {
                    None => tracing::debug!(task, "stopped"),
                    Some(cause) => tracing::warn!(task, cause, "stopped with an error"),
                }
            }
        };
        if tokio::time::timeout(limit, all).await.is_err() {
            tracing::warn!(
                limit_secs = limit.as_secs(),
                "tasks did not stop in time and are cut off"
            );
            self.set.shutdown().await;
        }
    }
}

fn cause(ended: Result<(Id, Result<(), String>), JoinError>) -> (Id, Option<String>) {
    match ended {
        Ok((id, result)) => (id, result.err()),
        Err(error) => (
            error.id(),
            Some(format!("it panicked or was cut off: {error}")),
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_death_is_noticed_with_its_name_and_cause() {
        let mut tasks = Tasks::default();
        let stop = tasks.stopping();
        tasks.spawn("steady", async move {
            stop.cancelled().await;
            Ok::<_, String>(())
        });
        tasks.spawn("frail", async { Err("no disk") });
        let died = tasks.died().await;
        assert_eq!((died.task, died.cause.as_str()), ("frail", "no disk"));
        tasks.stop(Duration::from_secs(5)).await;
    }

    #[tokio::test]
    async fn a_panic_is_a_death() {
        let mut tasks = Tasks::default();
        tasks.spawn("broken", async {
            if true {
                panic!("bug")
            } else {
                Ok::<_, String>(())
            }
        });
        let died = tasks.died().await;
        assert_eq!(died.task, "broken");
        assert!(died.cause.contains("panicked"), "{}", died.cause);
    }

    #[tokio::test]
    async fn a_task_that_ignores_the_stop_is_cut_off() {
        let mut tasks = Tasks::default();
        tasks.spawn("deaf", std::future::pending::<Result<(), String>>());
        tasks.stop(Duration::from_millis(10)).await;
    }
}

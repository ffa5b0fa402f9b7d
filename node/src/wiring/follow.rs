//! The loops on L1: following it, posting to it, watching the contract. What L1 refuses for now is tried again, and said.
//!
//! step → ok: the board shows progress; refused: the board shows why, and the step is tried again after a pause; the engine or
//! its database is gone: the task ends

use super::board::Board;
use crate::api::Token;
use alloy::primitives::Address;
use millrace_circuits::types::{L1Address, TokenId};
use millrace_l1::rollup_client::{RollupClient, RollupError};
use millrace_rollup::Rollup;
use millrace_rollup::l1::L1Error;
use millrace_rollup::l1::poster::Poster;
use millrace_rollup::l1::synchronizer::Synchronizer;
use std::time::Duration;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

/// Shortest pause between two looks at L1.
const SHORTEST_PAUSE: Duration = Duration::from_millis(20);
/// Longest pause after failures.
const LONGEST_PAUSE: Duration = Duration::from_secs(30);
/// How often the contract's terms are looked at.
const CONTRACT_INTERVAL: Duration = Duration::from_secs(2);

/// Whether trying again cannot help.
fn is_fatal(error: &L1Error) -> bool {
    matches!(
        error,
        L1Error::Stopped(_) | L1Error::Store(_) | L1Error::Batch { .. }
    )
}

/// Follows L1 until cancelled.
///
/// # Errors
/// If the engine is gone, or L1 holds a batch that does not follow from the state.
pub async fn synchronize(
    mut synchronizer: Synchronizer,
    poll: Duration,
    board: Board,
    stop: CancellationToken,
) -> Result<(), L1Error> {
    let mut pause = poll.max(SHORTEST_PAUSE);
    loop {
        match synchronizer.step().await {
            Ok(state) => {
                pause = poll.max(SHORTEST_PAUSE);
                board.followed(state.handled, state.head);
                if state.handled < state.head && !stop.is_cancelled() {
                    continue;
                }
            }
            Err(error) if is_fatal(&error) => return Err(error),
            Err(error) => {
                pause = (pause * 2).min(LONGEST_PAUSE);
                tracing::warn!(%error, retry_ms = pause.as_millis() as u64, "L1 cannot be followed");
                board.fault(
                    "l1",
                    Some(format!(
                        "{error}: check l1.urls and that the endpoint answers"
                    )),
                );
            }
        }
        tokio::select! {
            () = stop.cancelled() => return Ok(()),
            () = tokio::time::sleep(pause) => {}
        }
    }
}

/// Posts to L1 until cancelled.
///
/// # Errors
/// If the engine is gone.
pub async fn post(
    mut poster: Poster,
    rollup: Rollup,
    poll: Duration,
    board: Board,
    stop: CancellationToken,
) -> Result<(), L1Error> {
    let mut news = rollup.event_watch();
    let steady = (poll * 4).max(Duration::from_millis(250));
    let mut pause = steady;
    loop {
        news.borrow_and_update();
        // A transaction under way is followed again after a restart, so a step may be dropped.
        let step = tokio::select! {
            () = stop.cancelled() => return Ok(()),
            step = poster.step() => step,
        };
        let failed = match step {
            Ok(()) => {
                pause = steady;
                board.fault("poster", None);
                false
            }
            Err(error) if is_fatal(&error) => return Err(error),
            Err(error) => {
                pause = (pause * 2).min(LONGEST_PAUSE);
                tracing::warn!(%error, retry_ms = pause.as_millis() as u64, "posting to L1 failed");
                board.fault("poster", Some(format!("posting to L1 fails: {error}")));
                true
            }
        };
        // Every accepted transaction is news: without a least pause each of them would be a round of questions to L1.
        tokio::select! {
            () = stop.cancelled() => return Ok(()),
            () = tokio::time::sleep(poll.max(SHORTEST_PAUSE)) => {}
        }
        tokio::select! {
            () = stop.cancelled() => return Ok(()),
            changed = news.changed(), if !failed => if changed.is_err() { return Ok(()) },
            () = tokio::time::sleep(pause) => {}
        }
    }
}

/// Watches what the contract says of tokens and of escape, until cancelled.
///
/// # Errors
/// If the engine is gone.
pub async fn watch_contract(
    client: RollupClient,
    rollup: Rollup,
    tokens: watch::Sender<Vec<Token>>,
    board: Board,
    stop: CancellationToken,
) -> Result<(), L1Error> {
    let mut halted = false;
    loop {
        match look(&client, &tokens).await {
            Ok(frozen) => {
                board.frozen(frozen);
                board.fault("contract", None);
                if frozen && !halted {
                    tracing::error!("the rollup is frozen: only exits on L1 are left");
                    rollup
                        .halt(Some(
                            "the rollup is frozen: leave with an escape exit on L1".into(),
                        ))
                        .await?;
                    halted = true;
                }
            }
            Err(error) => board.fault(
                "contract",
                Some(format!("the contract cannot be read: {error}")),
            ),
        }
        tokio::select! {
            () = stop.cancelled() => return Ok(()),
            () = tokio::time::sleep(CONTRACT_INTERVAL) => {}
        }
    }
}

/// Takes up new tokens; whether the contract is frozen.
async fn look(
    client: &RollupClient,
    tokens: &watch::Sender<Vec<Token>>,
) -> Result<bool, RollupError> {
    let count = client.token_count().await?;
    let known = tokens.borrow().len() as u32;
    if known <= count {
        let fresh = read_tokens(client, known, count).await?;
        tokens.send_modify(|tokens| tokens.extend(fresh));
    }
    Ok(client.status().await?.frozen)
}

/// The tokens with these numbers, both included.
///
/// # Errors
/// If L1 cannot be read.
pub async fn read_tokens(
    client: &RollupClient,
    first: u32,
    last: u32,
) -> Result<Vec<Token>, RollupError> {
    let mut tokens = vec![];
    for number in first..=last {
        let address = if number == 0 {
            Address::ZERO
        } else {
            client.token_address(number).await?
        };
        let number = TokenId::new(u64::from(number)).expect("a token's number has 32 bits");
        let address = (address != Address::ZERO).then(|| L1Address(address.into_array()));
        tokens.push(Token { number, address });
    }
    Ok(tokens)
}

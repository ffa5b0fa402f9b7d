//! From accepted to proven: batches posted and proven on L1, payments that arrive there, gas.

use super::money::Leaving;
use super::token::FUNDER;
use super::users::Users;
use super::{Stage, wait_for};
use crate::api::types::{BatchSummary, L1LinkView, Status};
use crate::cli::wallet::{contract_failure, node_failure};
use crate::cli::{Exit, Failure};
use alloy::primitives::Address;
use millrace_circuits::field::Word;
use millrace_circuits::types::{Amount, TokenId};
use millrace_l1::devchain::dev_signer;
use serde::Serialize;

/// Development account that operates the rollup, and is owed half of the request fees.
const OPERATOR: u32 = 0;
/// Batches read from the node at a time.
const PAGE: usize = 100;

/// Gas of each kind of L1 transaction.
#[derive(Debug, Clone, Copy, Serialize)]
pub struct Gas {
    /// The median commit of a batch.
    pub commit: u64,
    /// The median proof of a batch.
    pub prove: u64,
    /// A deposit of ETH.
    pub deposit: u64,
    /// A claim.
    pub claim: u64,
    /// All commits and proofs, divided by the transfers.
    pub per_transfer: u64,
}

/// Where the batches came to.
pub struct Progress {
    /// Batches made.
    pub batches: u64,
    /// Batches proven.
    pub proven: u64,
    /// The root after the last one.
    pub state_root: Word,
    commits: Vec<u64>,
    proofs: Vec<u64>,
}

impl Progress {
    /// The gas figures.
    pub fn gas(&self, transfers: usize, deposit: u64, claim: u64) -> Gas {
        let total: u64 = self.commits.iter().chain(&self.proofs).sum();
        Gas {
            commit: median(&self.commits),
            prove: median(&self.proofs),
            deposit,
            claim,
            per_transfer: total / (transfers as u64).max(1),
        }
    }
}

fn median(values: &[u64]) -> u64 {
    let mut sorted = values.to_vec();
    sorted.sort_unstable();
    sorted.get(sorted.len() / 2).copied().unwrap_or_default()
}

/// Waits until the forced exit and everything accepted is in batches, and all of them are proven on L1.
pub async fn prove_everything(stage: &mut Stage, exit: u64) -> Result<Progress, Failure> {
    let bar = stage.output.progress(1, "batches proven");
    let state = wait_for("the proofs", async || {
        let state = stage.node.status().await.map_err(node_failure)?;
        bar.set_length(state.batches.sealed.0.max(1));
        bar.set_position(state.batches.proven.0);
        let on_l1 = stage.contract.status().await.map_err(contract_failure)?;
        let served = on_l1.provenQueueHead > exit;
        Ok((served && is_settled(&state)).then_some(state))
    })
    .await?;
    bar.finish_and_clear();
    let batches = all_batches(stage).await?;
    let gas = |link: fn(&BatchSummary) -> Option<L1LinkView>| -> Vec<u64> {
        batches
            .iter()
            .filter_map(|batch| link(batch)?.gas)
            .collect()
    };
    let progress = Progress {
        batches: batches.len() as u64,
        proven: state.batches.proven.0,
        state_root: state.state_root,
        commits: gas(|batch| batch.committed),
        proofs: gas(|batch| batch.proven),
    };
    if progress.batches != progress.proven {
        return Err(Failure::new(
            Exit::Verification,
            "some batches are not proven",
        ));
    }
    stage.done(
        "batches proven on L1",
        format!("{} of {}", progress.proven, progress.batches),
    );
    Ok(progress)
}

fn is_settled(state: &Status) -> bool {
    state.pending_transactions == 0
        && state.waiting_transactions == 0
        && state.waiting_requests == 0
        && state.batches.proven >= state.batches.sealed
}

async fn all_batches(stage: &Stage) -> Result<Vec<BatchSummary>, Failure> {
    let mut batches = Vec::new();
    let mut cursor = None;
    loop {
        let page = stage
            .node
            .batches(PAGE, cursor.as_deref())
            .await
            .map_err(node_failure)?;
        batches.extend(page.items);
        cursor = page.next_cursor;
        if cursor.is_none() {
            return Ok(batches);
        }
    }
}

/// What arrived on L1.
pub struct Arrived {
    /// Withdrawals.
    pub withdrawals: usize,
    /// Forced exits.
    pub forced_exits: usize,
}

/// Waits until L1 paid the withdrawals and the forced exit, and checks each.
pub async fn arrivals(
    stage: &mut Stage,
    users: &Users,
    leaving: &[Leaving],
    exit: u64,
) -> Result<Arrived, Failure> {
    for Leaving {
        user,
        token,
        amount,
    } in leaving
    {
        let receiver = users.depositors[*user].keys.l1.address();
        wait_for_payment(stage, receiver, *token, Some(*amount)).await?;
    }
    if let Some(user) = users.depositors.last() {
        wait_for_payment(stage, user.keys.l1.address(), TokenId::ZERO, None).await?;
        let left = stage
            .node
            .accounts(user.keys.owner())
            .await
            .map_err(node_failure)?;
        let mut eth = left.iter().filter(|account| account.token.is_zero());
        if !eth.all(|account| account.balance.is_zero()) {
            return Err(Failure::new(
                Exit::Verification,
                "the forced exit left money behind",
            ));
        }
    }
    stage.done(
        "arrived on L1",
        format!(
            "{} withdrawals, the forced exit of request {exit}",
            leaving.len()
        ),
    );
    Ok(Arrived {
        withdrawals: leaving.len(),
        forced_exits: 1,
    })
}

async fn wait_for_payment(
    stage: &Stage,
    receiver: Address,
    token: TokenId,
    amount: Option<Amount>,
) -> Result<(), Failure> {
    wait_for("a payment on L1", async || {
        let payouts = stage
            .contract
            .payouts_to(0, receiver)
            .await
            .map_err(contract_failure)?;
        let fits = payouts.iter().any(|payout| {
            payout.paid
                && u64::from(payout.token) == token.get()
                && amount.is_none_or(|amount| payout.amount == amount.0)
        });
        Ok(fits.then_some(()))
    })
    .await
}

/// Has the operator's half of the request fees paid out; anyone may. Gives the gas.
pub async fn claim(stage: &mut Stage) -> Result<u64, Failure> {
    let operator = dev_signer(OPERATOR).address();
    let owed = stage
        .contract
        .claimable(TokenId::ZERO, operator)
        .await
        .map_err(contract_failure)?;
    // Sent by someone else: the operator's own task numbers its transactions itself.
    let landed = stage
        .contract
        .claim(&dev_signer(FUNDER), TokenId::ZERO, operator)
        .await;
    let landed = landed.map_err(contract_failure)?;
    stage.done("request fees claimed on L1", format!("{owed} wei"));
    Ok(landed.gas)
}

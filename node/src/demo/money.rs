//! The demo's payments: deposits, transfers, a swap, what must be refused, withdrawals, a forced exit.

use super::users::{User, Users};
use super::{Stage, wait_for};
use crate::cli::wallet::{contract_failure, node_failure, pay_failure};
use crate::cli::{Exit, Failure};
use crate::wallet::amounts;
use crate::wallet::contract::{Queued, TokenInfo};
use crate::wallet::payments::{self, Payment, now};
use millrace_circuits::account::Owner;
use millrace_circuits::amount::{FeeCode, Float40};
use millrace_circuits::field::{self, Word};
use millrace_circuits::transaction::{Action, SignedTransaction, Transaction};
use millrace_circuits::types::{Amount, Nonce, Timestamp, TokenId};

/// What a user deposits of each token: 1.
const DEPOSIT: Amount = Amount(1_000_000_000_000_000_000);
/// What a transfer moves, times its number.
const PIECE: u128 = 1_000_000_000_000;
/// What a user withdraws: 0.25.
const WITHDRAWAL: Amount = Amount(250_000_000_000_000_000);
/// How long the demo's signatures are valid.
const VALID_SECS: u64 = 3600;

/// A withdrawal on its way.
#[derive(Debug, Clone, Copy)]
pub struct Leaving {
    /// Place of the user among the depositors.
    pub user: usize,
    /// Which token.
    pub token: TokenId,
    /// How much.
    pub amount: Amount,
}

/// Every depositor deposits both tokens; waits until the accounts exist. Gives the gas of one deposit of ETH.
pub async fn deposit(
    stage: &mut Stage,
    users: &mut Users,
    token: &TokenInfo,
) -> Result<u64, Failure> {
    let mut gas = 0;
    let bar = stage
        .output
        .progress(2 * users.depositors.len() as u64, "depositing");
    for user in &users.depositors {
        // The first one of all pays for fresh storage; the last one is the usual case.
        gas = deposit_one(stage, user, TokenId::ZERO).await?.landed.gas;
        stage
            .contract
            .approve(&user.keys.l1, token, DEPOSIT)
            .await
            .map_err(contract_failure)?;
        deposit_one(stage, user, token.number).await?;
        bar.inc(2);
    }
    bar.finish_and_clear();
    for user in &users.depositors {
        wait_for("the deposits", async || {
            let accounts = stage
                .node
                .accounts(user.keys.owner())
                .await
                .map_err(node_failure)?;
            Ok((accounts.len() == 2).then_some(()))
        })
        .await?;
    }
    stage.done(
        "deposits",
        format!("{} of ETH and {}", 2 * users.depositors.len(), token.symbol),
    );
    Ok(gas)
}

async fn deposit_one(stage: &Stage, user: &User, token: TokenId) -> Result<Queued, Failure> {
    let deposit = stage
        .contract
        .deposit(&user.keys.l1, token, DEPOSIT, user.keys.owner());
    deposit.await.map_err(contract_failure)
}

/// Transfers in a circle in both tokens, the first one of each to the newcomer, then a swap. Gives their number.
pub async fn transfer(
    stage: &mut Stage,
    users: &mut Users,
    token: &TokenInfo,
    count: usize,
) -> Result<usize, Failure> {
    let owners: Vec<Owner> = users
        .depositors
        .iter()
        .map(|user| user.keys.owner())
        .collect();
    let newcomer = users.newcomer.keys.owner();
    let bar = stage.output.progress(count as u64, "transferring");
    for number in 0..count {
        // Two in a row by each user, one in each token.
        let (place, token) = (
            (number / 2) % owners.len(),
            [TokenId::ZERO, token.number][number % 2],
        );
        let recipient = if number < 2 {
            newcomer
        } else {
            owners[(place + 1) % owners.len()]
        };
        let amount = exact(Amount(PIECE * (number as u128 + 1)))?;
        pay(
            stage,
            &mut users.depositors[place],
            token,
            payments::transfer(recipient, amount),
        )
        .await?;
        bar.inc(1);
    }
    bar.finish_and_clear();
    swap(stage, users, token).await?;
    stage.done(
        "transfers accepted",
        format!("{count} and a swap of two, some to a new account"),
    );
    Ok(count + 2)
}

fn exact(amount: Amount) -> Result<Float40, Failure> {
    amounts::transfer_code(amount, false).map_err(|error| {
        Failure::because(Exit::Internal, "an amount of the demo has no code", &error)
    })
}

fn payment(token: TokenId, action: Action) -> Payment {
    Payment {
        from: None,
        token,
        action,
        fee: FeeCode::ZERO,
        valid_secs: VALID_SECS,
        again: false,
    }
}

async fn pay(
    stage: &Stage,
    user: &mut User,
    token: TokenId,
    action: Action,
) -> Result<(), Failure> {
    let paid = user
        .wallet
        .pay(&stage.node, &user.keys, payment(token, action))
        .await;
    paid.map(drop).map_err(pay_failure)
}

/// The first user gives ETH for the second one's tokens.
async fn swap(stage: &Stage, users: &mut Users, token: &TokenInfo) -> Result<(), Failure> {
    let [first, second, ..] = users.depositors.as_mut_slice() else {
        return Err(Failure::new(Exit::Usage, "a swap takes two users"));
    };
    let (gives, wants) = (exact(Amount(7 * PIECE))?, exact(Amount(9 * PIECE))?);
    let payment = payment(
        TokenId::ZERO,
        payments::transfer(second.keys.owner(), gives),
    );
    let offer = first
        .wallet
        .offer(&stage.node, &first.keys, payment, (token.number, wants))
        .await;
    let offer = offer.map_err(pay_failure)?;
    let accepted = second
        .wallet
        .accept(&stage.node, &second.keys, offer, FeeCode::ZERO)
        .await;
    let accepted = accepted.map_err(pay_failure)?;
    first
        .wallet
        .finish(&stage.node, &first.keys, accepted)
        .await
        .map(drop)
        .map_err(pay_failure)
}

/// Sends what a node must refuse, and fails if it does not. Gives the number of refusals.
pub async fn reject(stage: &mut Stage, users: &mut Users) -> Result<usize, Failure> {
    let domain = users.depositors[0].wallet.domain();
    let bad = bad_transactions(stage, users).await?;
    let count = bad.len();
    let mut codes = Vec::new();
    for (what, signed) in bad {
        match stage.node.submit(&domain, &[signed]).await {
            Err(error) => match error.code() {
                Some(code) => codes.push(code.to_string()),
                None => return Err(node_failure(error)),
            },
            Ok(_) => {
                let message = format!("the node accepted a transaction {what}");
                return Err(Failure::new(Exit::Verification, message));
            }
        }
    }
    stage.done("refused, as they must be", codes.join(", "));
    Ok(count)
}

async fn bad_transactions(
    stage: &Stage,
    users: &Users,
) -> Result<Vec<(&'static str, SignedTransaction)>, Failure> {
    let (user, other) = (&users.depositors[0], &users.depositors[1]);
    let accounts = stage
        .node
        .accounts(user.keys.owner())
        .await
        .map_err(node_failure)?;
    let account = accounts.iter().find(|account| account.token.is_zero());
    let account =
        account.ok_or_else(|| Failure::new(Exit::Internal, "the first user has no ETH account"))?;
    let good = Transaction {
        from: account.index,
        nonce: account.nonce,
        token: TokenId::ZERO,
        fee: FeeCode::ZERO,
        action: payments::transfer(other.keys.owner(), exact(Amount(PIECE))?),
        link: Word(field::from_bytes(&[0; 32]).expect("zero is a canonical word")),
        valid_until: Timestamp(now().0 + VALID_SECS),
    };
    let overdrawn = Transaction {
        action: payments::withdraw(Amount(account.balance.0.saturating_add(1))),
        ..good
    };
    let used_nonce = Transaction {
        nonce: Nonce::ZERO,
        ..good
    };
    let expired = Transaction {
        valid_until: Timestamp(now().0 - VALID_SECS),
        ..good
    };
    let domain = user.wallet.domain();
    let sign = |transaction: Transaction| {
        transaction.sign(&domain, user.keys.l1_address(), &user.keys.rollup)
    };
    let mut forged = sign(good);
    forged.signature = sign(overdrawn).signature;
    let stolen = good.sign(&domain, other.keys.l1_address(), &other.keys.rollup);
    Ok(vec![
        ("that overdraws", sign(overdrawn)),
        ("with a used nonce", sign(used_nonce)),
        ("that has expired", sign(expired)),
        ("with a forged signature", forged),
        ("of someone else's account", stolen),
    ])
}

/// Two users leave with part of what they have, one of them in the token.
pub async fn withdraw(
    stage: &mut Stage,
    users: &mut Users,
    token: &TokenInfo,
) -> Result<Vec<Leaving>, Failure> {
    let leaving = [(0, TokenId::ZERO), (1, token.number)].map(|(user, token)| Leaving {
        user,
        token,
        amount: WITHDRAWAL,
    });
    for Leaving {
        user,
        token,
        amount,
    } in leaving
    {
        pay(
            stage,
            &mut users.depositors[user],
            token,
            payments::withdraw(amount),
        )
        .await?;
    }
    stage.done("withdrawals accepted", leaving.len().to_string());
    Ok(leaving.to_vec())
}

/// The last depositor demands its ETH account on L1. Gives the request's number.
pub async fn force_exit(stage: &mut Stage, users: &mut Users) -> Result<u64, Failure> {
    let Some(user) = users.depositors.last_mut() else {
        return Err(Failure::new(Exit::Usage, "the demo needs users"));
    };
    let accounts = user
        .wallet
        .accounts(&stage.node, &user.keys)
        .await
        .map_err(pay_failure)?;
    let index = accounts
        .iter()
        .find(|account| account.token.is_zero())
        .map(|account| account.index);
    let index =
        index.ok_or_else(|| Failure::new(Exit::Internal, "the last user has no ETH account"))?;
    let key = user.keys.rollup.public_key();
    let queued = stage
        .contract
        .request_exit(&user.keys.l1, index, TokenId::ZERO, &key)
        .await;
    let queued = queued.map_err(contract_failure)?;
    stage.done(
        "forced exit demanded on L1",
        format!("account {index}, request {}", queued.request),
    );
    Ok(queued.request)
}

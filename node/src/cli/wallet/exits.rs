//! Money out without the operator's good will: claims, forced exits, escape, deposits that come back.

use super::{Context, contract_failure, keys_failure, node_failure, pay_failure};
use crate::cli::{Exit, Failure};
use crate::output::{facts, table, utc};
use crate::wallet::amounts;
use crate::wallet::contract::{Contract, Landed};
use crate::wallet::escape::{EscapeError, ProvenState, rebuild};
use crate::wallet::keys::{KeySource, UserKeys};
use crate::wallet::payments::now;
use crate::wallet::{Book, payments::BOOK_FILE};
use millrace_circuits::account::Account;
use millrace_circuits::batch::Payout;
use millrace_circuits::types::{AccountIndex, Amount, BatchNumber, TokenId};
use millrace_l1::bindings::IRollup;
use serde::Serialize;
use serde_json::json;

/// Options of `millrace wallet claim`.
#[derive(Debug, clap::Args)]
pub struct ClaimArguments {
    /// First have the contract pay what this proven batch owes to the wallet
    #[arg(long, value_name = "NUMBER")]
    pub batch: Option<u64>,
}

/// Options of `millrace wallet forced-exit`.
#[derive(Debug, clap::Args)]
pub struct ForcedExitArguments {
    /// Account that leaves; without it, the only one of the token that the wallet knows
    #[arg(long, value_name = "INDEX")]
    pub account: Option<u64>,
    /// eth, a token's number, or its L1 address
    #[arg(long, default_value = "eth")]
    pub token: String,
}

/// Options of `millrace wallet escape-exit`.
#[derive(Debug, clap::Args)]
pub struct EscapeExitArguments {
    /// Block of the contract's deployment, or any earlier one
    #[arg(long, value_name = "BLOCK", default_value_t = 0)]
    pub from_block: u64,
    /// How many of the wallet's numbers to look for, from 0
    #[arg(long, value_name = "COUNT", default_value_t = 20)]
    pub numbers: u32,
    /// Only show what could leave
    #[arg(long)]
    pub dry_run: bool,
}

/// Options of `millrace wallet cancel-deposit`.
#[derive(Debug, clap::Args)]
pub struct CancelDepositArguments {
    /// Number of the request; without it, all of the wallet
    pub request: Option<u64>,
    /// Block of the contract's deployment, or any earlier one
    #[arg(long, value_name = "BLOCK", default_value_t = 0)]
    pub from_block: u64,
}

/// Fetches what is owed on L1.
pub(super) async fn claim(context: &Context, arguments: &ClaimArguments) -> Result<(), Failure> {
    let contract = context.contract().await?;
    let signer = context
        .source()?
        .l1_key(context.options.number)
        .map_err(keys_failure)?;
    let mut landed: Vec<Landed> = Vec::new();
    if let Some(number) = arguments.batch {
        landed.extend(pay_batch(context, &contract, &signer, number).await?);
    }
    let mut claimed = Vec::new();
    for token in 0..=contract.token_count().await.map_err(contract_failure)? {
        let token = TokenId::new(u64::from(token)).expect("token numbers have 32 bits");
        let owed = contract
            .claimable(token, signer.address())
            .await
            .map_err(contract_failure)?;
        if !owed.is_zero() {
            landed.push(
                contract
                    .claim(&signer, token, signer.address())
                    .await
                    .map_err(contract_failure)?,
            );
            claimed.push((token, owed.to_string()));
        }
    }
    if landed.is_empty() {
        return Err(Failure::new(Exit::NotFound, "nothing is owed to this wallet on L1")
            .help("withdrawals are paid once their batch is proven; `millrace wallet claim --batch N` pays those of batch N"));
    }
    let result = json!({ "claimed": claimed, "transactions": landed });
    context.output.result(&result, || {
        let row = |(token, amount): &(TokenId, String)| [token.to_string(), amount.clone()];
        let claimed = table(
            ["token", "claimed, smallest units"],
            claimed.iter().map(row),
        );
        format!("{claimed}\n{} L1 transactions", landed.len())
    });
    Ok(())
}

async fn pay_batch(
    context: &Context,
    contract: &Contract,
    signer: &alloy::signers::local::PrivateKeySigner,
    number: u64,
) -> Result<Vec<Landed>, Failure> {
    let batch = context
        .node()?
        .batch(BatchNumber(number))
        .await
        .map_err(node_failure)?;
    let batch =
        batch.ok_or_else(|| Failure::new(Exit::NotFound, format!("there is no batch {number}")))?;
    let payouts: Vec<Payout> = batch
        .payouts
        .iter()
        .map(|payout| Payout {
            address: payout.address,
            token: payout.token,
            amount: payout.amount,
        })
        .collect();
    let receiver = millrace_circuits::types::L1Address(signer.address().into_array());
    let paid = contract
        .pay_withdrawals(signer, number, &payouts, Some(receiver))
        .await;
    paid.map_err(contract_failure)
}

/// Queues a forced exit.
pub(super) async fn forced_exit(
    context: &Context,
    arguments: &ForcedExitArguments,
) -> Result<(), Failure> {
    let contract = context.contract().await?;
    let token = context.token(&arguments.token, false).await?;
    let source = context.source()?;
    let keys = source
        .keys(context.options.number, Some(contract.identity()))
        .map_err(keys_failure)?;
    let index = match arguments.account {
        Some(index) => AccountIndex::new(index)
            .map_err(|error| Failure::because(Exit::Usage, "there is no such account", &error))?,
        None => known_account(context, &contract, &keys, token.number)?,
    };
    let queued = contract
        .request_exit(&keys.l1, index, token.number, &keys.rollup.public_key())
        .await
        .map_err(contract_failure)?;
    context.output.result(
        &json!({ "forced_exit": queued, "account": index, "token": token.number }),
        || {
            facts([
                ("account", index.to_string()),
                ("request", queued.request.to_string()),
                (
                    "served at the latest",
                    format!(
                        "by {}, else anyone may freeze the rollup",
                        utc(queued.deadline)
                    ),
                ),
                ("L1 transaction", queued.landed.transaction.to_string()),
            ])
        },
    );
    Ok(())
}

fn known_account(
    context: &Context,
    contract: &Contract,
    keys: &UserKeys,
    token: TokenId,
) -> Result<AccountIndex, Failure> {
    let book =
        Book::open(context.folder.join(BOOK_FILE)).map_err(|error| pay_failure(error.into()))?;
    let identity = contract.identity();
    let accounts = book.accounts(identity.chain_id, identity.contract);
    let fits = |a: &&crate::wallet::BookAccount| a.owner == keys.owner() && a.token == token;
    let mine: Vec<_> = accounts.iter().filter(fits).collect();
    match mine.as_slice() {
        [account] => Ok(account.index),
        [] => Err(
            Failure::new(Exit::NotFound, "the wallet knows no account of this token")
                .help("`millrace wallet accounts` asks the node; or pass --account"),
        ),
        several => {
            let indices: Vec<_> = several
                .iter()
                .map(|account| account.index.to_string())
                .collect();
            Err(
                Failure::new(Exit::Usage, "the wallet has several accounts of this token")
                    .help(format!("pass --account with one of {}", indices.join(", "))),
            )
        }
    }
}

#[derive(Serialize)]
struct Escaped {
    index: AccountIndex,
    token: TokenId,
    balance: Amount,
    state: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    landed: Option<Landed>,
}

/// Leaves a dead rollup: rebuilds the state from L1, freezes the rollup if that is due, and takes every own leaf out.
pub(super) async fn escape_exit(
    context: &Context,
    arguments: &EscapeExitArguments,
) -> Result<(), Failure> {
    let contract = context.contract().await?;
    let source = context.source()?;
    let bar = context.output.progress(0, "rebuilding the state from L1");
    let state = rebuild(&contract, arguments.from_block, |done, all| {
        bar.set_message(format!(
            "rebuilding the state from L1: batch {done} of {all}"
        ));
    })
    .await
    .map_err(escape_failure)?;
    bar.finish_and_clear();
    let keys = all_keys(&source, &contract, arguments.numbers)?;
    let signer = source
        .l1_key(context.options.number)
        .map_err(keys_failure)?;
    if !arguments.dry_run {
        freeze_if_due(context, &contract, &signer, arguments.from_block).await?;
    }
    let mut escaped = Vec::new();
    for (index, account) in state.accounts_of(&keys.iter().map(UserKeys::owner).collect::<Vec<_>>())
    {
        let owner = keys
            .iter()
            .find(|keys| keys.owner() == account.owner)
            .expect("found by its owner");
        escaped.push(
            escape_one(
                &contract,
                &signer,
                &state,
                owner,
                index,
                &account,
                arguments.dry_run,
            )
            .await?,
        );
    }
    if escaped.is_empty() {
        return Err(Failure::new(
            Exit::NotFound,
            "the last proven state holds nothing of this wallet",
        )
        .help("deposits that no batch took come back with `millrace wallet cancel-deposit`"));
    }
    context.output.result(
        &json!({ "state_root": state.root(), "batches": state.batches, "accounts": escaped }),
        || {
            let row = |e: &Escaped| {
                let amount = if e.token.is_zero() {
                    format!("{} ETH", amounts::format(e.balance, amounts::ETH_DECIMALS))
                } else {
                    format!("{} of token {}", e.balance, e.token)
                };
                [e.index.to_string(), amount, e.state.to_owned()]
            };
            table(["account", "amount", "state"], escaped.iter().map(row))
        },
    );
    Ok(())
}

fn all_keys(
    source: &KeySource,
    contract: &Contract,
    numbers: u32,
) -> Result<Vec<UserKeys>, Failure> {
    let count = match source {
        KeySource::Phrase(_) => numbers.max(1),
        KeySource::L1Key(_) => 1,
    };
    let rollup = Some(contract.identity());
    (0..count)
        .map(|number| source.keys(number, rollup).map_err(keys_failure))
        .collect()
}

async fn escape_one(
    contract: &Contract,
    signer: &alloy::signers::local::PrivateKeySigner,
    state: &ProvenState,
    owner: &UserKeys,
    index: AccountIndex,
    account: &Account,
    dry_run: bool,
) -> Result<Escaped, Failure> {
    let mut escaped = Escaped {
        index,
        token: account.token,
        balance: account.balance,
        state: "can leave",
        landed: None,
    };
    if contract.has_exited(index).await.map_err(contract_failure)? {
        escaped.state = "left before";
        return Ok(escaped);
    }
    if dry_run {
        return Ok(escaped);
    }
    let leaf = state.leaf(
        index,
        account,
        owner.l1_address(),
        &owner.rollup.public_key(),
    );
    escaped.landed = Some(
        contract
            .escape_exit(signer, leaf)
            .await
            .map_err(contract_failure)?,
    );
    escaped.state = "left";
    Ok(escaped)
}

/// Freezes the rollup if its oldest request is overdue; says when that would be if not.
async fn freeze_if_due(
    context: &Context,
    contract: &Contract,
    signer: &alloy::signers::local::PrivateKeySigner,
    from_block: u64,
) -> Result<(), Failure> {
    let status = contract.status().await.map_err(contract_failure)?;
    if status.frozen {
        return Ok(());
    }
    let requests = contract
        .requests(from_block, None)
        .await
        .map_err(contract_failure)?;
    let oldest = requests
        .into_iter()
        .find(|(id, _)| *id == status.provenQueueHead);
    let Some((id, oldest)) = oldest else {
        return Err(Failure::new(Exit::Refused, "the rollup is not frozen, and no request waits")
            .help("ask for a forced exit first: `millrace wallet forced-exit`; if it is not served in time, come back"));
    };
    context.output.say(format!(
        "request {id} has waited since {}; freezing the rollup",
        utc(oldest.created)
    ));
    let deadline = oldest.deadline;
    contract
        .enter_escape(signer, oldest)
        .await
        .map(drop)
        .map_err(|error| {
            let left = deadline.saturating_sub(now().0);
            contract_failure(error).help(format!(
                "the operator has until {} ({deadline} as Unix time), {left} s from now",
                utc(deadline)
            ))
        })
}

/// Gets deposits back that the frozen rollup never took.
pub(super) async fn cancel_deposit(
    context: &Context,
    arguments: &CancelDepositArguments,
) -> Result<(), Failure> {
    let contract = context.contract().await?;
    let signer = context
        .source()?
        .l1_key(context.options.number)
        .map_err(keys_failure)?;
    let status = contract.status().await.map_err(contract_failure)?;
    if !status.frozen {
        return Err(Failure::new(
            Exit::Refused,
            "the rollup is not frozen: its operator still has to serve the deposit",
        )
        .help("`millrace wallet escape-exit` freezes it once a request is overdue"));
    }
    let mut returned: Vec<(u64, IRollup::Request, Landed)> = Vec::new();
    for (id, request) in contract
        .requests(arguments.from_block, Some(signer.address()))
        .await
        .map_err(contract_failure)?
    {
        let wanted = arguments.request.is_none_or(|wanted| wanted == id);
        let open = id >= status.provenQueueHead && request.kind == 1;
        if wanted
            && open
            && contract
                .request_exists(id)
                .await
                .map_err(contract_failure)?
        {
            let landed = contract
                .cancel_deposit(&signer, id, request.clone())
                .await
                .map_err(contract_failure)?;
            returned.push((id, request, landed));
        }
    }
    if returned.is_empty() {
        return Err(
            Failure::new(Exit::NotFound, "no deposit of this wallet waits")
                .help("what a proven batch took is in the state: `millrace wallet escape-exit`"),
        );
    }
    let rows: Vec<_> = returned
        .iter()
        .map(|(id, request, landed)| json!({ "request": id, "token": request.token, "amount": request.amount.to_string(), "landed": landed }))
        .collect();
    context.output.result(&json!({ "returned": rows }), || {
        let row = |(id, request, _): &(u64, IRollup::Request, Landed)| {
            [
                id.to_string(),
                request.token.to_string(),
                request.amount.to_string(),
            ]
        };
        table(
            ["request", "token", "amount, smallest units"],
            returned.iter().map(row),
        )
    });
    Ok(())
}

fn escape_failure(error: EscapeError) -> Failure {
    match error {
        EscapeError::Contract(error) => contract_failure(error),
        other => Failure::because(Exit::Verification, "the state cannot be rebuilt from L1", &other)
            .help("use an endpoint with full history, and --from-block at or before the contract's deployment"),
    }
}

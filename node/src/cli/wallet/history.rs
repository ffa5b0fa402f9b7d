//! What the wallet did: signed transactions, requests to L1, payments that arrived there.

use super::{Context, contract_failure, pay_failure};
use crate::api::types::TransactionStage;
use crate::cli::Failure;
use crate::output::table;
use crate::wallet::amounts;
use crate::wallet::journal::{Outcome, Signed};
use crate::wallet::node_client::NodeClient;
use crate::wallet::payments::Wallet;
use alloy::primitives::Address;
use millrace_circuits::transaction::Action;
use millrace_circuits::types::{Amount, TokenId};
use serde::Serialize;
use serde_json::json;

/// Options of `millrace wallet history`.
#[derive(Debug, clap::Args)]
pub struct HistoryArguments {
    /// First L1 block to read
    #[arg(long, value_name = "BLOCK", default_value_t = 0)]
    pub from_block: u64,
    /// Only what the wallet's own files know: ask neither node nor L1
    #[arg(long)]
    pub offline: bool,
}

#[derive(Serialize)]
struct Entry {
    kind: &'static str,
    id: String,
    token: u64,
    amount: Amount,
    state: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    signed_at: Option<u64>,
}

/// Shows the history.
pub(super) async fn run(context: &Context, arguments: &HistoryArguments) -> Result<(), Failure> {
    let mut wallet = context.wallet().await?;
    let keys = wallet.keys(context.options.number).map_err(pay_failure)?;
    let mut entries = signed(context, &wallet, arguments.offline).await?;
    if !arguments.offline {
        entries.extend(on_l1(context, keys.l1.address(), arguments.from_block).await?);
    }
    context.output.result(&json!({ "history": entries }), || {
        let row = |entry: &Entry| {
            let token = TokenId::new(entry.token).unwrap_or_default();
            let shown = if token.is_zero() {
                format!(
                    "{} ETH",
                    amounts::format(entry.amount, amounts::ETH_DECIMALS)
                )
            } else {
                format!("{} of token {token}", entry.amount)
            };
            [
                entry.kind.to_owned(),
                shown,
                entry.state.clone(),
                entry.id.clone(),
            ]
        };
        table(["what", "amount", "state", "id"], entries.iter().map(row))
    });
    Ok(())
}

async fn signed(context: &Context, wallet: &Wallet, offline: bool) -> Result<Vec<Entry>, Failure> {
    let node = if offline { None } else { Some(context.node()?) };
    let mut entries = Vec::new();
    for signed in wallet.journal().records(&wallet.domain()) {
        let transaction = &signed.transaction.transaction;
        entries.push(Entry {
            kind: match transaction.action {
                Action::Transfer { .. } => "transfer",
                Action::Withdraw { .. } => "withdraw",
            },
            id: signed.id.to_string(),
            token: transaction.token.get(),
            amount: transaction.amount().unwrap_or_default(),
            state: state(node.as_ref(), signed).await,
            signed_at: Some(signed.signed_at.0),
        });
    }
    Ok(entries)
}

/// What the node says, or else the wallet's own knowledge.
async fn state(node: Option<&NodeClient>, signed: &Signed) -> String {
    let view = match node {
        Some(node) => node.transaction(signed.id).await.ok().flatten(),
        None => None,
    };
    match (view, &signed.outcome) {
        (Some(view), _) if view.stage == TransactionStage::Dropped => {
            format!("dropped: {}", view.dropped_because.unwrap_or_default())
        }
        (Some(view), _) => format!("{:?}", view.stage).to_lowercase(),
        (None, Outcome::Unknown) => "in doubt".into(),
        (None, Outcome::Acknowledged) => "accepted".into(),
        (None, Outcome::Rejected { code }) => format!("refused: {code}"),
        (None, Outcome::Replaced) => "replaced".into(),
    }
}

async fn on_l1(
    context: &Context,
    account: Address,
    from_block: u64,
) -> Result<Vec<Entry>, Failure> {
    let contract = context.contract().await?;
    let head = contract
        .status()
        .await
        .map_err(contract_failure)?
        .provenQueueHead;
    let requests = contract
        .requests(from_block, Some(account))
        .await
        .map_err(contract_failure)?;
    let mut entries: Vec<Entry> = requests
        .into_iter()
        .map(|(id, request)| Entry {
            kind: if request.kind == 1 {
                "deposit"
            } else {
                "forced exit"
            },
            id: format!("request {id}"),
            token: u64::from(request.token),
            amount: Amount(request.amount),
            state: if id < head { "proven" } else { "queued" }.into(),
            signed_at: None,
        })
        .collect();
    let payouts = contract
        .payouts_to(from_block, account)
        .await
        .map_err(contract_failure)?;
    entries.extend(payouts.into_iter().map(|payout| Entry {
        kind: "arrived on L1",
        id: format!("batch {}, payout {}", payout.batch, payout.index),
        token: u64::from(payout.token),
        amount: Amount(payout.amount),
        state: if payout.paid { "paid" } else { "to be claimed" }.into(),
        signed_at: None,
    }));
    Ok(entries)
}

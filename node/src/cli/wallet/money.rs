//! Money in and around: accounts, deposit, transfer, withdraw.

use super::{Context, contract_failure, keys_failure, pay_failure};
use crate::api::types::TransactionStage;
use crate::cli::{Exit, Failure};
use crate::output::{facts, table};
use crate::wallet::amounts;
use crate::wallet::contract::TokenInfo;
use crate::wallet::journal::DEFAULT_VALIDITY_SECS;
use crate::wallet::keys::UserKeys;
use crate::wallet::node_client::NodeClient;
use crate::wallet::payments::{self, Paid, Payment};
use millrace_circuits::account::Owner;
use millrace_circuits::amount::FeeCode;
use millrace_circuits::transaction::{Action, Domain, TransactionId};
use millrace_circuits::types::{AccountIndex, Amount};
use serde::Serialize;
use serde_json::json;
use std::time::{Duration, Instant};

/// Options of `millrace wallet deposit`.
#[derive(Debug, clap::Args)]
pub struct DepositArguments {
    /// How much, such as 0.5, or 1500u for smallest units
    pub amount: String,
    /// eth, a token's number, or its L1 address
    #[arg(long, default_value = "eth")]
    pub token: String,
    /// Payment address to credit instead of the own one
    #[arg(long, value_name = "ADDRESS")]
    pub to: Option<Owner>,
    /// Register the token first if the rollup does not know it; --token is its L1 address
    #[arg(long)]
    pub register: bool,
    /// Deposit even if another L1 transaction of this account is not in a block yet
    #[arg(long)]
    pub again: bool,
}

/// Options that every signed payment has.
#[derive(Debug, clap::Args)]
pub struct PaymentOptions {
    /// eth, a token's number, or its L1 address
    #[arg(long, default_value = "eth")]
    pub token: String,
    /// For the operator, in the same token
    #[arg(long, default_value = "0")]
    pub fee: String,
    /// Account that pays; without it, the one of this token with the largest balance
    #[arg(long, value_name = "INDEX")]
    pub from: Option<u64>,
    /// Minutes for which the signature is valid
    #[arg(long, value_name = "MINUTES", default_value_t = DEFAULT_VALIDITY_SECS / 60)]
    pub valid_for: u64,
    /// Pay again even if an earlier try of the same payment is in doubt
    #[arg(long)]
    pub again: bool,
    /// Wait until the batch is proven on L1
    #[arg(long)]
    pub wait: bool,
}

/// Options of `millrace wallet transfer`.
#[derive(Debug, clap::Args)]
pub struct TransferArguments {
    /// Payment address that receives
    pub to: Owner,
    /// How much, such as 0.5, or 1500u for smallest units
    pub amount: String,
    /// Round down to an amount that can be sent, if this one cannot
    #[arg(long)]
    pub round_down: bool,
    /// How it is paid
    #[command(flatten)]
    pub payment: PaymentOptions,
}

/// Options of `millrace wallet withdraw`.
#[derive(Debug, clap::Args)]
pub struct WithdrawArguments {
    /// How much, such as 0.5, or 1500u for smallest units
    pub amount: String,
    /// How it is paid
    #[command(flatten)]
    pub payment: PaymentOptions,
}

#[derive(Serialize)]
struct AccountRow {
    index: AccountIndex,
    token: u64,
    symbol: String,
    nonce: u64,
    balance: Amount,
    display: String,
}

/// Lists accounts and balances.
pub(super) async fn accounts(context: &Context) -> Result<(), Failure> {
    let node = context.node()?;
    let mut wallet = context.wallet().await?;
    wallet.check_node(&node).await.map_err(pay_failure)?;
    let keys = wallet.keys(context.options.number).map_err(pay_failure)?;
    let mut rows = Vec::new();
    for account in wallet.accounts(&node, &keys).await.map_err(pay_failure)? {
        let described = context.token(&account.token.to_string(), true).await;
        let known = described.is_ok();
        let token = described.unwrap_or_else(|_| nameless(account.token));
        let display = amounts::format(account.balance, token.decimals);
        rows.push(AccountRow {
            index: account.index,
            token: account.token.get(),
            symbol: token.symbol,
            nonce: account.nonce.get(),
            balance: account.balance,
            display: if known {
                display
            } else {
                format!("{display} smallest units")
            },
        });
    }
    let owner = keys.owner().to_string();
    context
        .output
        .result(&json!({ "owner": owner, "accounts": rows }), || {
            let row = |row: &AccountRow| {
                [
                    row.index.to_string(),
                    row.symbol.clone(),
                    row.display.clone(),
                    row.nonce.to_string(),
                ]
            };
            format!(
                "{owner}\n{}",
                table(
                    ["account", "token", "balance", "nonce"],
                    rows.iter().map(row)
                )
            )
        });
    Ok(())
}

fn nameless(number: millrace_circuits::types::TokenId) -> TokenInfo {
    TokenInfo {
        number,
        address: None,
        symbol: format!("token {number}"),
        decimals: 0,
    }
}

/// Pays into the rollup.
pub(super) async fn deposit(
    context: &Context,
    arguments: &DepositArguments,
) -> Result<(), Failure> {
    let contract = context.contract().await?;
    let source = context.source()?;
    let keys = source
        .keys(context.options.number, Some(contract.identity()))
        .map_err(keys_failure)?;
    if !arguments.again {
        refuse_while_one_waits(&contract, keys.l1.address()).await?;
    }
    if arguments.register {
        register(context, &contract, &keys.l1, &arguments.token).await?;
    }
    let token = context.token(&arguments.token, true).await?;
    let amount = amounts::parse(&arguments.amount, token.decimals)
        .map_err(|error| Failure::because(Exit::Usage, "the amount cannot be used", &error))?;
    let owner = arguments.to.unwrap_or_else(|| keys.owner());
    contract
        .approve(&keys.l1, &token, amount)
        .await
        .map_err(contract_failure)?;
    let queued = contract
        .deposit(&keys.l1, token.number, amount, owner)
        .await
        .map_err(contract_failure)?;
    context.output.result(
        &json!({ "deposit": queued, "owner": owner, "token": token }),
        || {
            let shown = format!(
                "{} {}",
                amounts::format(queued.amount, token.decimals),
                token.symbol
            );
            facts([
                ("deposited", shown),
                ("for", owner.to_string()),
                ("request", queued.request.to_string()),
                ("L1 transaction", queued.landed.transaction.to_string()),
                ("gas", queued.landed.gas.to_string()),
            ])
        },
    );
    Ok(())
}

/// A wallet that was cut off cannot tell whether its deposit went out: while one waits on L1, another would pay twice.
async fn refuse_while_one_waits(
    contract: &crate::wallet::contract::Contract,
    account: alloy::primitives::Address,
) -> Result<(), Failure> {
    let waiting = contract.waiting(account).await.map_err(contract_failure)?;
    if waiting == 0 {
        return Ok(());
    }
    let what = format!("{waiting} L1 transactions of {account} are sent and in no block yet");
    Err(Failure::new(Exit::Refused, what).help(
        "an earlier deposit may be among them: wait and look at `millrace wallet history`, or pass --again to deposit anyway",
    ))
}

async fn register(
    context: &Context,
    contract: &crate::wallet::contract::Contract,
    signer: &alloy::signers::local::PrivateKeySigner,
    token: &str,
) -> Result<(), Failure> {
    let address = token.parse().map_err(|_| {
        Failure::new(Exit::Usage, format!("{token:?} is no L1 address"))
            .help("--register needs --token 0x…")
    })?;
    if contract
        .token_number(address)
        .await
        .map_err(contract_failure)?
        .is_none()
    {
        contract
            .register_token(signer, address)
            .await
            .map_err(contract_failure)?;
        context.output.say(format!("registered {address}"));
    }
    Ok(())
}

/// Pays someone in the rollup.
pub(crate) async fn transfer(
    context: &Context,
    arguments: &TransferArguments,
) -> Result<(), Failure> {
    let sent = send(context, arguments).await?;
    show(context, arguments.payment.wait, &sent).await
}

/// Sends a transfer; [`show`] is what is left to do.
pub(crate) async fn send(
    context: &Context,
    arguments: &TransferArguments,
) -> Result<Sent, Failure> {
    let (token, amount) = context
        .amount(&arguments.payment.token, &arguments.amount)
        .await?;
    let code = amounts::transfer_code(amount, arguments.round_down)
        .map_err(|error| Failure::because(Exit::Usage, "the amount cannot be sent", &error))?;
    let sent = code
        .value()
        .expect("a code made from an amount has a value");
    let action = payments::transfer(arguments.to, code);
    pay(context, &arguments.payment, token, action, sent).await
}

/// Leaves the rollup.
pub(super) async fn withdraw(
    context: &Context,
    arguments: &WithdrawArguments,
) -> Result<(), Failure> {
    let (token, amount) = context
        .amount(&arguments.payment.token, &arguments.amount)
        .await?;
    let action = payments::withdraw(amount);
    let sent = pay(context, &arguments.payment, token, action, amount).await?;
    show(context, arguments.payment.wait, &sent).await
}

/// The fee's code.
pub(super) fn fee(text: &str, token: &TokenInfo) -> Result<FeeCode, Failure> {
    let unusable = |error| Failure::because(Exit::Usage, "the fee cannot be used", &error);
    amounts::parse(text, token.decimals)
        .and_then(amounts::fee_code)
        .map_err(unusable)
}

/// A payment from its options.
pub(super) fn payment(
    options: &PaymentOptions,
    token: &TokenInfo,
    action: Action,
) -> Result<Payment, Failure> {
    let from = options
        .from
        .map(AccountIndex::new)
        .transpose()
        .map_err(|error| Failure::because(Exit::Usage, "there is no such account", &error))?;
    Ok(Payment {
        from,
        token: token.number,
        action,
        fee: fee(&options.fee, token)?,
        valid_secs: options.valid_for.saturating_mul(60),
        again: options.again,
    })
}

/// A payment that the node has on disk, and who made it.
pub(crate) struct Sent {
    /// Which.
    pub paid: Paid,
    /// Whose.
    pub keys: UserKeys,
    /// Of which rollup.
    pub domain: Domain,
    node: NodeClient,
    token: TokenInfo,
    amount: Amount,
}

async fn pay(
    context: &Context,
    options: &PaymentOptions,
    token: TokenInfo,
    action: Action,
    amount: Amount,
) -> Result<Sent, Failure> {
    let payment = payment(options, &token, action)?;
    let node = context.node()?;
    let mut wallet = context.wallet().await?;
    wallet.check_node(&node).await.map_err(pay_failure)?;
    let keys = wallet.keys(context.options.number).map_err(pay_failure)?;
    let paid = wallet
        .pay(&node, &keys, payment)
        .await
        .map_err(pay_failure)?;
    Ok(Sent {
        paid,
        domain: wallet.domain(),
        keys,
        node,
        token,
        amount,
    })
}

/// Shows what was sent, after waiting for its proof if asked to.
pub(crate) async fn show(context: &Context, wait: bool, sent: &Sent) -> Result<(), Failure> {
    let what = Some((&sent.token, sent.amount));
    finish(context, &sent.node, wait, &sent.paid, what).await
}

/// Shows a payment, after waiting for its proof if asked to.
pub(super) async fn finish(
    context: &Context,
    node: &NodeClient,
    wait: bool,
    paid: &Paid,
    what: Option<(&TokenInfo, Amount)>,
) -> Result<(), Failure> {
    let stage = if wait {
        wait_for_proof(context, node, paid.id).await?
    } else {
        TransactionStage::Accepted
    };
    let result =
        json!({ "payment": paid, "amount": what.map(|(_, amount)| amount), "stage": stage });
    context.output.result(&result, || {
        let amount = what.map_or_else(String::new, |(token, amount)| {
            format!(
                "{} {}",
                amounts::format(amount, token.decimals),
                token.symbol
            )
        });
        let how = if paid.repeated {
            "sent again, as signed before: paid once"
        } else {
            "accepted"
        };
        facts([
            ("amount", amount),
            ("transaction", paid.id.to_string()),
            ("account, nonce", format!("{}, {}", paid.from, paid.nonce)),
            (
                "state",
                if wait {
                    format!("{stage:?}").to_lowercase()
                } else {
                    how.into()
                },
            ),
        ])
    });
    Ok(())
}

async fn wait_for_proof(
    context: &Context,
    node: &NodeClient,
    id: TransactionId,
) -> Result<TransactionStage, Failure> {
    let bar = context.output.progress(0, "waiting");
    let started = Instant::now();
    loop {
        let view = node.transaction(id).await.map_err(super::node_failure)?;
        let view = view.ok_or_else(|| {
            Failure::new(Exit::Unknown, "the node no longer knows the transaction")
                .help("run the same command again: it sends the same signature")
        })?;
        if view.stage == TransactionStage::Dropped {
            let reason = view.dropped_because.unwrap_or_default();
            return Err(Failure::new(Exit::Refused, format!("dropped: {reason}")));
        }
        if view.stage >= TransactionStage::Proven {
            bar.finish_and_clear();
            return Ok(view.stage);
        }
        bar.set_message(
            format!("{:?} for {} s", view.stage, started.elapsed().as_secs()).to_lowercase(),
        );
        tokio::time::sleep(Duration::from_millis(500)).await;
    }
}

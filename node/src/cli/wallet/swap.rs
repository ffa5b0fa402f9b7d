//! Atomic swaps between two wallets: offer → accept → finish. Files or pipes carry the JSON between them.

use super::money::{PaymentOptions, fee, finish as show, payment};
use super::{Context, pay_failure};
use crate::cli::{Exit, Failure};
use crate::output::facts;
use crate::wallet::amounts;
use crate::wallet::payments::{self, Acceptance, Offer};
use clap::Subcommand;
use millrace_circuits::account::Owner;
use serde::de::DeserializeOwned;
use std::path::{Path, PathBuf};

/// Options of `millrace wallet swap`.
#[derive(Debug, clap::Args)]
pub struct SwapArguments {
    /// Which step
    #[command(subcommand)]
    pub step: Step,
}

/// The steps of a swap.
#[derive(Debug, Subcommand)]
pub enum Step {
    /// Offer: give so much of one token for so much of another. Signs nothing; prints the offer
    Offer(OfferArguments),
    /// Accept an offer: sign the other half, valid only together with it; prints the acceptance
    Accept(AcceptArguments),
    /// Finish: check the acceptance, sign the own half, submit both
    Finish(FinishArguments),
}

/// Options of `millrace wallet swap offer`.
#[derive(Debug, clap::Args)]
pub struct OfferArguments {
    /// Payment address of the counterparty
    pub with: Owner,
    /// How much to give
    #[arg(long)]
    pub give: String,
    /// How much to get
    #[arg(long)]
    pub want: String,
    /// Token to get: eth, a number, or an L1 address
    #[arg(long)]
    pub want_token: String,
    /// How it is paid; --token is what is given
    #[command(flatten)]
    pub payment: PaymentOptions,
}

/// Options of `millrace wallet swap accept`.
#[derive(Debug, clap::Args)]
pub struct AcceptArguments {
    /// File with the offer
    pub offer: PathBuf,
    /// For the operator, in the token that is paid
    #[arg(long, default_value = "0")]
    pub fee: String,
}

/// Options of `millrace wallet swap finish`.
#[derive(Debug, clap::Args)]
pub struct FinishArguments {
    /// File with the acceptance
    pub acceptance: PathBuf,
    /// Wait until the batch is proven on L1
    #[arg(long)]
    pub wait: bool,
}

/// Runs a step.
pub(super) async fn run(context: &Context, arguments: &SwapArguments) -> Result<(), Failure> {
    match &arguments.step {
        Step::Offer(arguments) => offer(context, arguments).await,
        Step::Accept(arguments) => accept(context, arguments).await,
        Step::Finish(arguments) => finish(context, arguments).await,
    }
}

async fn offer(context: &Context, arguments: &OfferArguments) -> Result<(), Failure> {
    let (token, give) = context
        .amount(&arguments.payment.token, &arguments.give)
        .await?;
    let (want_token, want) = context
        .amount(&arguments.want_token, &arguments.want)
        .await?;
    let unsendable = |error| Failure::because(Exit::Usage, "the amount cannot be sent", &error);
    let give = amounts::transfer_code(give, false).map_err(unsendable)?;
    let want = amounts::transfer_code(want, false).map_err(unsendable)?;
    let payment = payment(
        &arguments.payment,
        &token,
        payments::transfer(arguments.with, give),
    )?;
    let node = context.node()?;
    let mut wallet = context.wallet().await?;
    wallet.check_node(&node).await.map_err(pay_failure)?;
    let keys = wallet.keys(context.options.number).map_err(pay_failure)?;
    let offer = wallet
        .offer(&node, &keys, payment, (want_token.number, want))
        .await
        .map_err(pay_failure)?;
    // Both people and programs pass it on as it is.
    context.output.json_line(&offer);
    Ok(())
}

async fn accept(context: &Context, arguments: &AcceptArguments) -> Result<(), Failure> {
    let offer: Offer = read(&arguments.offer, "offer")?;
    let token = context.token(&offer.wants_token.to_string(), true).await?;
    let fee = fee(&arguments.fee, &token)?;
    let node = context.node()?;
    let mut wallet = context.wallet().await?;
    wallet.check_node(&node).await.map_err(pay_failure)?;
    let keys = wallet.keys(context.options.number).map_err(pay_failure)?;
    describe(context, &offer).await?;
    let acceptance = wallet
        .accept(&node, &keys, offer, fee)
        .await
        .map_err(pay_failure)?;
    context.output.json_line(&acceptance);
    Ok(())
}

/// Says on stderr what is being agreed to.
async fn describe(context: &Context, offer: &Offer) -> Result<(), Failure> {
    let gives = context.token(&offer.gives.token.to_string(), true).await?;
    let wants = context.token(&offer.wants_token.to_string(), true).await?;
    let shown = |amount: Option<millrace_circuits::types::Amount>,
                 token: &crate::wallet::contract::TokenInfo| {
        let amount = amount.unwrap_or_default();
        format!(
            "{} {}",
            amounts::format(amount, token.decimals),
            token.symbol
        )
    };
    eprintln!(
        "{}",
        facts([
            ("you get", shown(offer.gives.amount(), &gives)),
            ("you give", shown(offer.wants.value(), &wants)),
            ("with", offer.owner.to_string()),
        ])
    );
    Ok(())
}

async fn finish(context: &Context, arguments: &FinishArguments) -> Result<(), Failure> {
    let acceptance: Acceptance = read(&arguments.acceptance, "acceptance")?;
    let node = context.node()?;
    let mut wallet = context.wallet().await?;
    wallet.check_node(&node).await.map_err(pay_failure)?;
    let keys = wallet.keys(context.options.number).map_err(pay_failure)?;
    let paid = wallet
        .finish(&node, &keys, acceptance)
        .await
        .map_err(pay_failure)?;
    show(context, &node, arguments.wait, &paid, None).await
}

fn read<T: DeserializeOwned>(path: &Path, what: &str) -> Result<T, Failure> {
    let unreadable = |error: &dyn std::error::Error| {
        Failure::because(
            Exit::Usage,
            format!("{} is no {what}", path.display()),
            error,
        )
    };
    let bytes = std::fs::read(path).map_err(|error| unreadable(&error))?;
    serde_json::from_slice(&bytes).map_err(|error| unreadable(&error))
}

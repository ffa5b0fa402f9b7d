//! `millrace pay`: one command for an invoice, a node's key or a payment address; it chooses channels or the rollup and says why.
//!
//! ```text
//! invoice → a way over channels? ── yes → pay over channels
//!                                └─ no  → has it a payment address on the rollup? ── yes → transfer of the wallet
//! node's key → over channels, without an invoice          payment address → transfer of the wallet
//! ```
//! **An invoice is paid once, on one of the two.** The rollup is taken only if the node says that the invoice is neither paid nor
//! under way over channels; the wallet notes the invoice before it sends, and refuses it from then on. The node then tells the
//! payee's, which sees the transfer by itself and takes nothing for the invoice any more.

use super::channel::payments::{payment_text, ways_text};
use super::channel::{Client, Unanswered};
use super::wallet::money::{PaymentOptions, TransferArguments, send, show};
use super::wallet::{Context, WalletOptions};
use super::{Exit, Failure, Global, logging};
use crate::api::channel_payments::{
    DecodedBody, OrderBody, PaymentBody, RouteBody, TellBody, TextBody,
};
use crate::api::channels::AnswerBody;
use crate::api::problem::Code;
use crate::output::Output;
use crate::wallet::{amounts, files};
use crate::wiring::channels::public_key;
use crate::wiring::transfers::PaidProof;
use millrace_channels::invoice::{Invoice, looks_like_invoice};
use millrace_channels::node::unix_time;
use millrace_circuits::account::Owner;
use millrace_circuits::transaction::TransactionId;
use millrace_circuits::types::L1Address;
use serde_json::json;
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::{Duration, Instant};

/// How long the end of a payment is waited for.
const PATIENCE: Duration = Duration::from_secs(120);
/// Before the transfer's id in a wallet's note.
const TRANSFER_MARK: &str = ", transfer 0x";

/// Options of `millrace pay`.
#[derive(Debug, clap::Args)]
pub struct PayArguments {
    /// An invoice, a node's key, or a payment address of the rollup
    #[arg(value_name = "INVOICE|KEY|ADDRESS")]
    pub to: String,
    /// How much, such as 0.5, or 1500u for smallest units; an invoice may say it
    pub amount: Option<String>,
    /// Show what it would do and what that costs, and pay nothing
    #[arg(long)]
    pub dry_run: bool,
    /// The most that all fees of channels may be, in smallest units; a hundredth without it
    #[arg(long, value_name = "UNITS")]
    pub max_fee: Option<u128>,
    /// The token's L1 address for a payment to a node; without it, Ether
    #[arg(long, value_name = "ADDRESS")]
    pub asset: Option<L1Address>,
    /// Makes repeating a payment to a node harmless: the same text pays once
    #[arg(long, value_name = "TEXT")]
    pub key: Option<String>,
    /// The operator's token, where the node demands one
    #[arg(long, value_name = "TOKEN", env = "MILLRACE_API__OPERATOR_TOKEN")]
    pub operator_token: Option<String>,
    /// Where the wallet and its counterparts are
    #[command(flatten)]
    pub options: WalletOptions,
    /// How it is paid on the rollup
    #[command(flatten)]
    pub payment: PaymentOptions,
}

/// Pays.
///
/// # Errors
/// [`Failure`].
pub async fn run(global: &Global, output: Output, arguments: PayArguments) -> Result<(), Failure> {
    logging::start_quiet(global);
    let to = arguments.to.trim().to_owned();
    if looks_like_invoice(&to) {
        return pay_invoice(output, arguments, &to).await;
    }
    if let Ok(owner) = to.parse::<Owner>() {
        let why = "a payment address is on the rollup";
        return on_rollup(output, arguments, owner, None, why).await;
    }
    let key = to.split('@').next().unwrap_or_default();
    if public_key(key).is_some() {
        return to_node(output, arguments, key).await;
    }
    Err(Failure::new(Exit::Usage, format!("{to:?} is nothing to pay")).help(
        "pass an invoice (mlreth1…, mlrsep1…, mlrx…), a node's key of 66 hexadecimal digits, or a payment address (mlr1…)",
    ))
}

// ---- Channels ----

async fn to_node(output: Output, arguments: PayArguments, key: &str) -> Result<(), Failure> {
    let amount = arguments.amount.as_deref().ok_or_else(|| {
        Failure::new(Exit::Usage, "a payment to a node needs an amount")
            .help("`millrace pay KEY 0.01`, or 1500u for smallest units")
    })?;
    let order = OrderBody {
        node: Some(key.to_owned()),
        token: arguments.asset,
        amount: Some(units(amount, arguments.asset.is_none())?.to_string()),
        max_fee: arguments.max_fee.map(|fee| fee.to_string()),
        ..OrderBody::default()
    };
    let client = client(&arguments)?;
    let ways: RouteBody = client.post("/v1/channel-route", &order, None).await?;
    let why = "a node's key is paid over channels, without an invoice";
    over_channels(output, &client, &arguments, (&order, &ways), why).await
}

async fn pay_invoice(output: Output, arguments: PayArguments, text: &str) -> Result<(), Failure> {
    let invoice = Invoice::parse(text).map_err(|error| {
        Failure::because(Exit::Usage, "the invoice cannot be paid", &error)
            .help("copy it whole; if it was altered, ask the payee for a new one")
    })?;
    let ether = invoice.token == millrace_channels::types::Address::ZERO;
    let named = arguments.amount.as_deref();
    let named = named.map(|text| units(text, ether)).transpose()?;
    let order = OrderBody {
        invoice: Some(text.to_owned()),
        amount: named.map(|amount| amount.to_string()),
        max_fee: arguments.max_fee.map(|fee| fee.to_string()),
        ..OrderBody::default()
    };
    let noted = Noted::open(output, &arguments)?;
    if let Some(how) = noted.find(&invoice).filter(|_| !arguments.payment.again) {
        if let Some(id) = Noted::transfer_of(how) {
            tell_again(output, &arguments, &invoice, id).await;
        }
        return Err(Failure::new(
            Exit::Refused,
            format!("this invoice was paid on the rollup already, or it is in doubt ({how})"),
        )
        .help("`millrace wallet history` shows the transfer; --again pays once more"));
    }
    let client = client(&arguments)?;
    if let Some(before) = known(&client, &invoice).await? {
        output.result(
            &json!({ "rail": "channels", "why": "it was ordered before", "payment": before }),
            || format!("ordered before, and paid once\n{}", payment_text(&before)),
        );
        return Ok(());
    }
    let refusal = match client.try_post("/v1/channel-route", &order, None).await {
        Ok(ways) => {
            let why = "a way over channels leads to the payee";
            return over_channels(output, &client, &arguments, (&order, &ways), why).await;
        }
        Err(refusal) => refusal,
    };
    let fallback = fallback(&invoice, refusal)?;
    let amount = match (invoice.amount, named) {
        (Some(asked), None) => asked.get(),
        (Some(asked), Some(named)) if asked.get() == named => named,
        (None, Some(named)) => named,
        _ => {
            return Err(Failure::new(Exit::Usage, "the amount is not the invoice's")
                .help("leave the amount out, or name it where the invoice does not"));
        }
    };
    let why = format!(
        "no way over channels ({}), and the invoice can be paid on the rollup",
        fallback.1
    );
    on_rollup(
        output,
        PayArguments {
            amount: Some(format!("{amount}u")),
            ..arguments
        },
        fallback.0,
        Some((noted, &invoice)),
        &why,
    )
    .await
}

/// Where an invoice can be paid without channels, and why it has to be: only where the node says for certain that nothing is
/// under way.
fn fallback(invoice: &Invoice, refusal: Unanswered) -> Result<(Owner, String), Failure> {
    let problem = match refusal {
        Unanswered::Refused(problem) => problem,
        Unanswered::Lost(failure) => return Err(failure),
    };
    let passable = matches!(
        problem.code,
        Code::NoRoute | Code::ChannelNotReady | Code::ChannelsDisabled
    );
    let owner = invoice
        .fallback
        .and_then(|bytes| millrace_circuits::field::from_bytes(&bytes).ok());
    match owner {
        // The channels' node has not looked at the time in these cases.
        Some(owner) if passable && unix_time() < invoice.expires => {
            Ok((Owner(owner), problem.detail.clone()))
        }
        _ => Err(Unanswered::Refused(problem).into()),
    }
}

/// The payment of an invoice that is under way or done over channels.
async fn known(client: &Client, invoice: &Invoice) -> Result<Option<PaymentBody>, Failure> {
    let path = format!("/v1/channel-payments/{}", invoice.hash);
    match client.try_get::<PaymentBody>(&path).await {
        Ok(payment) if payment.state == "failed" => Ok(None),
        Ok(payment) => Ok(Some(payment)),
        Err(Unanswered::Refused(problem))
            if matches!(problem.code, Code::PaymentUnknown | Code::ChannelsDisabled) =>
        {
            Ok(None)
        }
        Err(other) => Err(other.into()),
    }
}

async fn over_channels(
    output: Output,
    client: &Client,
    arguments: &PayArguments,
    (order, ways): (&OrderBody, &RouteBody),
    why: &str,
) -> Result<(), Failure> {
    if arguments.dry_run {
        let said = match &order.invoice {
            Some(text) => {
                let body = TextBody {
                    invoice: text.clone(),
                };
                Some(
                    client
                        .post::<DecodedBody>("/v1/channel-decode", &body, None)
                        .await?,
                )
            }
            None => None,
        };
        let result = json!({
            "dry_run": true, "rail": "channels", "why": why, "invoice": said, "route": ways,
        });
        output.result(&result, || {
            format!("would pay over channels: {why}\n{}", ways_text(ways))
        });
        return Ok(());
    }
    output.say(format!("paying over channels: {why}"));
    let ordered = client.try_post("/v1/channel-payments", order, arguments.key.clone());
    let ordered: PaymentBody = match ordered.await {
        Ok(ordered) => ordered,
        Err(Unanswered::Lost(failure)) => {
            let text = format!("the payment may or may not have been ordered: {failure}");
            return Err(Failure::new(Exit::Unknown, text).help(
                "run it again: an invoice, and a payment with the same --key, is paid once; without them look at `millrace channel payments` first",
            ));
        }
        Err(refused) => return Err(refused.into()),
    };
    let payment = ended(client, ordered).await?;
    if payment.state == "failed" {
        let reason = payment.reason.clone().unwrap_or_default();
        let help = match &order.invoice {
            Some(_) => {
                "pay again, with a higher --max-fee if the fee was in the way; `millrace channel route` shows ways"
            }
            None => {
                "the payee may take no payments without an invoice (channels.keysend): ask it for one"
            }
        };
        let text = format!("nothing was paid: {reason}");
        return Err(Failure::new(Exit::Refused, text).help(help));
    }
    output.result(
        &json!({ "rail": "channels", "why": why, "payment": payment }),
        || payment_text(&payment),
    );
    Ok(())
}

async fn ended(client: &Client, mut payment: PaymentBody) -> Result<PaymentBody, Failure> {
    let path = format!("/v1/channel-payments/{}", payment.hash);
    let started = Instant::now();
    while !matches!(payment.state.as_str(), "succeeded" | "failed") {
        if started.elapsed() > PATIENCE {
            return Err(Failure::new(
                Exit::Unknown,
                format!("payment {} is still under way", payment.hash),
            )
            .help(format!(
                "the payee may hold it; `millrace channel payments {}` shows its end",
                payment.hash
            )));
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
        payment = client.get(&path).await?;
    }
    Ok(payment)
}

fn client(arguments: &PayArguments) -> Result<Client, Failure> {
    Client::new(&arguments.options.node, arguments.operator_token.clone())
}

/// An amount in smallest units; only Ether's decimals are known without asking L1.
fn units(text: &str, ether: bool) -> Result<u128, Failure> {
    let exact = text.ends_with('u') || text.ends_with("wei");
    if !ether && !exact {
        return Err(
            Failure::new(Exit::Usage, format!("{text:?} needs the token's decimals"))
                .help("write the amount in the token's smallest units, such as 1500u"),
        );
    }
    amounts::parse(text, amounts::ETH_DECIMALS)
        .map(|amount| amount.0)
        .map_err(|error| Failure::because(Exit::Usage, "the amount cannot be used", &error))
}

// ---- The rollup ----

async fn on_rollup(
    output: Output,
    arguments: PayArguments,
    to: Owner,
    invoice: Option<(Noted, &Invoice)>,
    why: &str,
) -> Result<(), Failure> {
    let ether = millrace_channels::types::Address::ZERO;
    if invoice
        .as_ref()
        .is_some_and(|(_, invoice)| invoice.token != ether)
        && arguments.payment.token == "eth"
    {
        return Err(Failure::new(
            Exit::Usage,
            "the invoice is in a token, and the rollup has its own number for it",
        )
        .help("pass --token with the token's number or L1 address"));
    }
    let amount = arguments.amount.clone().ok_or_else(|| {
        Failure::new(Exit::Usage, "a payment address needs an amount")
            .help("`millrace pay mlr1… 0.5`, or 1500u for smallest units")
    })?;
    if arguments.dry_run {
        let result = json!({
            "dry_run": true, "rail": "rollup", "why": why, "to": to.to_string(),
            "amount": amount, "fee": arguments.payment.fee,
        });
        output.result(&result, || {
            format!(
                "would transfer {amount} on the rollup to {to}, fee {}: {why}",
                arguments.payment.fee
            )
        });
        return Ok(());
    }
    output.say(format!("paying on the rollup: {why}"));
    let client = client(&arguments)?;
    let context = Context::new(output, arguments.options)?;
    if let Some((noted, invoice)) = &invoice {
        context.create_folder()?;
        noted.note(invoice, &to, None)?;
    }
    let transferred = TransferArguments {
        to,
        amount,
        round_down: false,
        payment: arguments.payment,
    };
    let sent = send(&context, &transferred).await;
    if let (Err(failure), Some((noted, invoice))) = (&sent, &invoice)
        && matches!(
            failure.exit(),
            Exit::Refused | Exit::Usage | Exit::NotFound | Exit::Configuration
        )
    {
        // It was refused for certain: another way may be tried.
        noted.forget(invoice)?;
    }
    let sent = sent?;
    if let Some((noted, invoice)) = &invoice {
        noted.note(invoice, &to, Some(sent.paid.id))?;
        let proof = PaidProof::sign(&sent.domain, &invoice.hash, &sent.keys);
        tell(output, &client, &arguments.to, sent.paid.id, proof).await;
    }
    show(&context, transferred.payment.wait, &sent).await
}

/// Has the node tell the payee. The money is on its way in any case.
async fn tell(output: Output, client: &Client, text: &str, id: TransactionId, proof: PaidProof) {
    let body = TellBody {
        invoice: text.trim().to_owned(),
        transfer: format!("0x{}", hex::encode(id.0)),
        proof: hex::encode(proof.to_bytes()),
    };
    let told = client.try_post::<AnswerBody>("/v1/channel-paid", &body, None);
    let problem = match told.await {
        Ok(_) => {
            return output.say("the node tells the payee once the transfer is proven");
        }
        Err(Unanswered::Refused(problem)) if problem.code == Code::ChannelsDisabled => {
            "this node has no channels".to_owned()
        }
        Err(Unanswered::Refused(problem)) => problem.detail,
        Err(Unanswered::Lost(failure)) => failure.to_string(),
    };
    output.say(format!(
        "the payee is not told that its invoice is paid on the rollup ({problem}): run the same command again to tell it, or send the payee the transfer's id {id}"
    ));
}

/// Has the node tell the payee of an earlier transfer.
async fn tell_again(
    output: Output,
    arguments: &PayArguments,
    invoice: &Invoice,
    id: TransactionId,
) {
    let proven = async {
        let context = Context::new(output, arguments.options.clone())?;
        let mut wallet = context.wallet().await?;
        let keys = wallet.keys(context.options.number);
        let keys = keys.map_err(|error| {
            Failure::because(Exit::Keys, "the wallet's keys cannot be had", &error)
        })?;
        let proof = PaidProof::sign(&wallet.domain(), &invoice.hash, &keys);
        Ok::<_, Failure>((client(arguments)?, proof))
    };
    match proven.await {
        Ok((client, proof)) => tell(output, &client, &arguments.to, id, proof).await,
        Err(failure) => output.say(format!("the payee is not told again: {failure}")),
    }
}

/// Invoices that this wallet has paid on the rollup, or may have: noted before the transfer is sent.
struct Noted {
    path: PathBuf,
    invoices: BTreeMap<String, String>,
}

impl Noted {
    fn open(output: Output, arguments: &PayArguments) -> Result<Self, Failure> {
        let context = Context::new(output, arguments.options.clone())?;
        let path = context.folder.join("invoices.json");
        let invoices = match std::fs::read(&path) {
            Ok(bytes) => serde_json::from_slice(&bytes).map_err(|error| {
                Failure::because(Exit::Keys, format!("{} is damaged", path.display()), &error)
                    .help("it says which invoices were paid on the rollup; compare `millrace wallet history`, then delete it")
            })?,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => BTreeMap::new(),
            Err(error) => {
                return Err(Failure::because(
                    Exit::Keys,
                    format!("{} cannot be read", path.display()),
                    &error,
                ));
            }
        };
        Ok(Self { path, invoices })
    }

    fn find(&self, invoice: &Invoice) -> Option<&String> {
        self.invoices.get(&invoice.hash.to_string())
    }

    fn note(
        &self,
        invoice: &Invoice,
        to: &Owner,
        id: Option<TransactionId>,
    ) -> Result<(), Failure> {
        let mut all = self.invoices.clone();
        let id = id.map_or_else(String::new, |id| {
            format!("{TRANSFER_MARK}{}", hex::encode(id.0))
        });
        all.insert(
            invoice.hash.to_string(),
            format!("a transfer to {to}, Unix time {}{id}", unix_time()),
        );
        self.write(&all)
    }

    /// The transfer that a note names.
    fn transfer_of(note: &str) -> Option<TransactionId> {
        let (_, digits) = note.rsplit_once(TRANSFER_MARK)?;
        let mut id = [0; 32];
        hex::decode_to_slice(digits, &mut id).ok()?;
        Some(TransactionId(id))
    }

    fn forget(&self, invoice: &Invoice) -> Result<(), Failure> {
        let mut all = self.invoices.clone();
        all.remove(&invoice.hash.to_string());
        self.write(&all)
    }

    fn write(&self, all: &BTreeMap<String, String>) -> Result<(), Failure> {
        let bytes = serde_json::to_vec_pretty(all).expect("texts serialise");
        files::replace(&self.path, &bytes).map_err(|error| {
            Failure::because(
                Exit::Keys,
                format!("{} cannot be written", self.path.display()),
                &error,
            )
        })
    }
}

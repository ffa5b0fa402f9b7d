//! `millrace channel invoice`, `route` and `payments`: money over several channels.
//!
//! arguments → `/v1/channel-invoices`, `-route`, `-payments` → table, QR code or JSON

use super::Client;
use crate::api::channel_payments::{
    InvoiceBody, NewInvoiceBody, OrderBody, PaymentBody, RouteBody,
};
use crate::api::channels::AnswerBody;
use crate::api::page::Page;
use crate::cli::{Exit, Failure};
use crate::output::{Output, facts, table};
use clap::Subcommand;
use millrace_channels::invoice::{looks_like_invoice, qr};
use millrace_circuits::types::L1Address;
use serde::de::DeserializeOwned;
use serde_json::json;

/// What can be done with invoices.
#[derive(Debug, Subcommand)]
pub enum InvoiceAction {
    /// Ask for a payment: prints the invoice and its QR code
    Create {
        /// How much, in the token's smallest unit (wei); without it, the payer chooses
        amount: Option<u128>,
        /// What it is for
        #[arg(long, value_name = "TEXT", default_value = "")]
        description: String,
        /// Seconds for which it can be paid; an hour without it
        #[arg(long, value_name = "SECONDS")]
        expires: Option<u64>,
        /// The token's L1 address; without it, Ether
        #[arg(long, value_name = "ADDRESS")]
        asset: Option<L1Address>,
        /// Keep the money waiting until `settle` or `cancel`
        #[arg(long)]
        hold: bool,
        /// A payment address of the rollup, where it can be paid as well
        #[arg(long, value_name = "ADDRESS")]
        fallback: Option<String>,
        /// Print no QR code
        #[arg(long)]
        no_qr: bool,
    },
    /// List invoices, newest first
    List {
        /// Those that nobody will pay any more as well
        #[arg(long)]
        all: bool,
    },
    /// Show one invoice
    Show {
        /// Its payment hash
        hash: String,
    },
    /// Take the money that a hold invoice keeps waiting
    Settle {
        /// Its payment hash
        hash: String,
    },
    /// Give back what has come for an invoice, and refuse what comes
    Cancel {
        /// Its payment hash
        hash: String,
    },
}

/// Options of `millrace channel route`.
#[derive(Debug, clap::Args)]
pub struct RouteArguments {
    /// An invoice, or the payee's key
    #[arg(value_name = "INVOICE|KEY")]
    pub to: String,
    /// How much arrives, in the token's smallest unit; an invoice may say it
    pub amount: Option<u128>,
    /// The token's L1 address, if there is no invoice; without it, Ether
    #[arg(long, value_name = "ADDRESS")]
    pub asset: Option<L1Address>,
    /// The most that all fees may be
    #[arg(long, value_name = "UNITS")]
    pub max_fee: Option<u128>,
}

pub(super) async fn invoice(
    output: Output,
    client: &Client,
    action: InvoiceAction,
) -> Result<(), Failure> {
    match action {
        InvoiceAction::Create {
            amount,
            description,
            expires,
            asset,
            hold,
            fallback,
            no_qr,
        } => {
            let body = NewInvoiceBody {
                amount: amount.map(|amount| amount.to_string()),
                token: asset,
                description,
                expires_in_secs: expires,
                hold,
                fallback,
            };
            let made: InvoiceBody = client.post("/v1/channel-invoices", &body, None).await?;
            output.result(&made, || created(&made, !no_qr));
            Ok(())
        }
        InvoiceAction::List { all } => invoices(output, client, all).await,
        InvoiceAction::Show { hash } => {
            let path = format!("/v1/channel-invoices/{hash}");
            let found: InvoiceBody = client.get(&path).await?;
            output.result(&found, || describe(&found));
            Ok(())
        }
        InvoiceAction::Settle { hash } => {
            decide(output, client, &hash, "settle", "the money is taken").await
        }
        InvoiceAction::Cancel { hash } => {
            decide(output, client, &hash, "cancel", "it is cancelled").await
        }
    }
}

async fn decide(
    output: Output,
    client: &Client,
    hash: &str,
    what: &str,
    text: &str,
) -> Result<(), Failure> {
    let path = format!("/v1/channel-invoices/{hash}/{what}");
    let answer: AnswerBody = client.post(&path, &json!({}), None).await?;
    output.result(&answer, || text.to_owned());
    Ok(())
}

fn created(made: &InvoiceBody, with_code: bool) -> String {
    let text = made.invoice.clone().unwrap_or_default();
    let code = with_code.then(|| qr(&text)).flatten();
    format!(
        "{}\n{}{}",
        code.map(|code| format!("{code}\n")).unwrap_or_default(),
        facts([
            ("payment hash", made.says.hash.clone()),
            ("expires", format!("Unix time {}", made.says.expires)),
        ]),
        format_args!("\n{text}"),
    )
}

fn describe(found: &InvoiceBody) -> String {
    let says = &found.says;
    let mut rows = vec![
        ("payment hash", says.hash.clone()),
        ("state", state_text(found)),
        ("amount", amount_text(says.amount.as_ref())),
        ("received", found.received.clone()),
        ("description", says.description.clone()),
        ("expires", format!("Unix time {}", says.expires)),
    ];
    rows.extend(says.token.clone().map(|token| ("token", token)));
    rows.extend(
        says.fallback
            .clone()
            .map(|address| ("payable on the rollup to", address)),
    );
    if found.state == "held" {
        let command = format!("millrace channel invoice settle {}", says.hash);
        rows.push(("what takes the money", command));
    }
    if let Some(paid) = &found.rollup {
        let twice = match paid.twice {
            true => "; paid over channels too",
            false => "",
        };
        let text = format!(
            "row {} of batch {}, {}{twice}",
            paid.row, paid.batch, paid.amount
        );
        rows.push(("paid on the rollup by", text));
    }
    rows.extend(
        found
            .claim
            .clone()
            .map(|why| ("said to be paid on the rollup", why)),
    );
    match &found.invoice {
        Some(text) => format!("{}\n{text}", facts(rows)),
        None => format!("came without an invoice\n{}", facts(rows)),
    }
}

/// The state of an invoice for people.
fn state_text(invoice: &InvoiceBody) -> String {
    match (invoice.state.as_str(), &invoice.invoice) {
        ("paid_on_rollup", _) => "paid on the rollup".to_owned(),
        (state, None) => format!("{state}, without an invoice"),
        (state, Some(_)) => state.to_owned(),
    }
}

fn amount_text(amount: Option<&String>) -> String {
    amount.cloned().unwrap_or_else(|| "any".to_owned())
}

/// All pages of a list.
async fn all<T: DeserializeOwned>(client: &Client, path: &str) -> Result<Vec<T>, Failure> {
    let (mut found, mut cursor) = (Vec::new(), String::new());
    loop {
        let page: Page<T> = client.get(&format!("{path}?limit=1000{cursor}")).await?;
        found.extend(page.items);
        match page.next_cursor {
            Some(next) => cursor = format!("&cursor={next}"),
            None => return Ok(found),
        }
    }
}

async fn invoices(output: Output, client: &Client, over: bool) -> Result<(), Failure> {
    let mut found: Vec<InvoiceBody> = all(client, "/v1/channel-invoices").await?;
    found.retain(|invoice| over || !matches!(invoice.state.as_str(), "expired" | "cancelled"));
    output.result(&found, || {
        let rows = found.iter().map(|invoice| {
            [
                invoice.says.hash.clone(),
                state_text(invoice),
                amount_text(invoice.says.amount.as_ref()),
                invoice.received.clone(),
                invoice.says.description.clone(),
            ]
        });
        table(
            ["payment hash", "state", "amount", "received", "description"],
            rows,
        )
    });
    Ok(())
}

pub(super) async fn route(
    output: Output,
    client: &Client,
    arguments: &RouteArguments,
) -> Result<(), Failure> {
    let is_invoice = looks_like_invoice(&arguments.to);
    if !is_invoice && arguments.amount.is_none() {
        return Err(Failure::new(Exit::Usage, "a node needs an amount")
            .help("`millrace channel route KEY AMOUNT`, the amount in the token's smallest unit"));
    }
    let body = OrderBody {
        invoice: is_invoice.then(|| arguments.to.clone()),
        node: (!is_invoice).then(|| arguments.to.clone()),
        token: arguments.asset,
        amount: arguments.amount.map(|amount| amount.to_string()),
        max_fee: arguments.max_fee.map(|fee| fee.to_string()),
        ..OrderBody::default()
    };
    let found: RouteBody = client.post("/v1/channel-route", &body, None).await?;
    output.result(&found, || ways_text(&found));
    Ok(())
}

/// Ways for people.
pub(crate) fn ways_text(found: &RouteBody) -> String {
    let rows = found.ways.iter().enumerate().flat_map(|(number, way)| {
        let chance = format!(
            "{}.{} %",
            way.probability_millionths / 10_000,
            way.probability_millionths / 1000 % 10
        );
        way.hops.iter().enumerate().map(move |(at, hop)| {
            let first = at == 0;
            [
                if first {
                    (number + 1).to_string()
                } else {
                    String::new()
                },
                hop.node.clone(),
                hop.amount.clone(),
                if first { chance.clone() } else { String::new() },
            ]
        })
    });
    format!(
        "{}\n{} arrive, {} in fees",
        table(["part", "to node", "amount", "chance"], rows),
        found.amount,
        found.fee
    )
}

pub(super) async fn list(
    output: Output,
    client: &Client,
    hash: Option<&str>,
) -> Result<(), Failure> {
    if let Some(hash) = hash {
        let path = format!("/v1/channel-payments/{hash}");
        let found: PaymentBody = client.get(&path).await?;
        output.result(&found, || payment_text(&found));
        return Ok(());
    }
    let found: Vec<PaymentBody> = all(client, "/v1/channel-payments").await?;
    output.result(&found, || {
        let rows = found.iter().map(|payment| {
            [
                payment.hash.clone(),
                payment.state.clone(),
                payment.amount.clone(),
                payment.fee.clone(),
                payment.attempts.to_string(),
                payment.reason.clone().unwrap_or_default(),
            ]
        });
        table(
            [
                "payment hash",
                "state",
                "amount",
                "fee",
                "attempts",
                "reason",
            ],
            rows,
        )
    });
    Ok(())
}

/// A payment for people.
pub(crate) fn payment_text(payment: &PaymentBody) -> String {
    let mut rows = vec![
        ("payment hash", payment.hash.clone()),
        ("state", payment.state.clone()),
        ("to", payment.payee.clone()),
        ("amount", payment.amount.clone()),
        ("fee", payment.fee.clone()),
        ("attempts", payment.attempts.to_string()),
    ];
    rows.extend(
        payment
            .preimage
            .clone()
            .map(|proof| ("proof of payment", proof)),
    );
    rows.extend(payment.reason.clone().map(|reason| ("reason", reason)));
    facts(rows)
}

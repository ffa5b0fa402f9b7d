//! `millrace channel pay --times`: direct payments one after the other, as long as something is being used.
//!
//! `each payment has a key of its own, made of the stream's → repeated under one key, a stream goes on where it stopped`

use super::{AnswerBody, Client, PayBody, random_text};
use crate::cli::{Exit, Failure};
use crate::output::Output;
use serde_json::json;
use std::time::Duration;

/// A timer cannot have none.
const SHORTEST: Duration = Duration::from_millis(1);

/// A payment, once or again and again.
#[derive(Debug, clap::Args)]
pub struct PayArguments {
    /// The channel's id
    pub channel: String,
    /// How much each time, in the token's smallest unit
    pub amount: u128,
    /// What the payee knows it by: 64 hexadecimal digits
    #[arg(long, value_name = "HEX")]
    pub reference: Option<String>,
    /// Makes repeating harmless; without it, a fresh one
    #[arg(long, value_name = "TEXT")]
    pub key: Option<String>,
    /// How often to pay; Ctrl-C ends it earlier
    #[arg(long, value_name = "COUNT", default_value_t = 1)]
    pub times: u64,
    /// Seconds from one payment to the next; 0 leaves no pause
    #[arg(long, value_name = "SECONDS", default_value_t = 1)]
    pub every: u64,
}

/// Pays the counterparty of a channel.
///
/// # Errors
/// [`Failure`].
pub(crate) async fn run(
    output: Output,
    client: &Client,
    arguments: PayArguments,
) -> Result<(), Failure> {
    let path = format!("/v1/channels/{}/pay", arguments.channel);
    let body = PayBody {
        amount: arguments.amount.to_string(),
        reference: arguments.reference.clone(),
    };
    match arguments.times {
        0 => {
            Err(Failure::new(Exit::Usage, "--times 0 pays nothing")
                .help("leave it out to pay once"))
        }
        1 => {
            let answer: AnswerBody = client.post(&path, &body, arguments.key).await?;
            super::say(output, answer, "paid")
        }
        _ => stream(output, client, (&path, &body), &arguments).await,
    }
}

async fn stream(
    output: Output,
    client: &Client,
    (path, body): (&str, &PayBody),
    arguments: &PayArguments,
) -> Result<(), Failure> {
    let key = arguments.key.clone().unwrap_or_else(random_text);
    let mut due = tokio::time::interval(Duration::from_secs(arguments.every).max(SHORTEST));
    let bar = output.progress(arguments.times, "paying");
    let mut paid = 0;
    while paid < arguments.times {
        tokio::select! {
            _ = due.tick() => {}
            // What was asked for is answered first: a payment under way is none that was stopped.
            stopped = tokio::signal::ctrl_c() => {
                stopped.map_err(|error| Failure::because(Exit::Internal, "signals cannot be heard", &error))?;
                break;
            }
        }
        let asked = client
            .post::<AnswerBody>(path, body, Some(format!("{key}-{paid}")))
            .await;
        if let Err(failure) = asked {
            bar.finish_and_clear();
            let text = format!(
                "stopped after {paid} of {} payments: {failure}",
                arguments.times
            );
            return Err(Failure::new(failure.exit(), text).help(format!(
                "the same command with --key {key} goes on where it stopped"
            )));
        }
        paid += 1;
        bar.inc(1);
    }
    bar.finish_and_clear();
    let result = json!({
        "payments": paid, "amount": body.amount, "key": key,
        "total": arguments.amount.saturating_mul(u128::from(paid)).to_string(),
    });
    output.result(&result, || format!("paid {paid} times {}", body.amount));
    Ok(())
}

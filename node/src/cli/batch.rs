//! `millrace batch`: what batches there are, what is in one, and closing the open one now.

use crate::api::types::{BatchSummary, BatchView};
use crate::cli::wallet::node_failure;
use crate::cli::{Exit, Failure, Global, logging};
use crate::output::{Output, facts, table};
use crate::wallet::node_client::NodeClient;
use clap::Subcommand;
use millrace_circuits::types::BatchNumber;
use serde_json::json;
use std::path::{Path, PathBuf};

/// Options of `millrace batch`.
#[derive(Debug, clap::Args)]
pub struct BatchArguments {
    /// The node
    #[arg(
        long,
        global = true,
        value_name = "URL",
        env = "MILLRACE_NODE",
        default_value = "http://127.0.0.1:8280"
    )]
    pub node: String,
    /// What to do
    #[command(subcommand)]
    pub action: Action,
}

/// What to do with batches.
#[derive(Debug, Subcommand)]
pub enum Action {
    /// List batches, newest first
    List {
        /// How many at most
        #[arg(long, default_value_t = 20)]
        limit: usize,
        /// Where to go on: next_cursor of the list before
        #[arg(long)]
        cursor: Option<String>,
    },
    /// Show one batch
    Show {
        /// Its number
        number: u64,
        /// Also write its proof and public inputs as snarkjs reads them, into this folder
        #[arg(long, value_name = "FOLDER")]
        export: Option<PathBuf>,
    },
    /// Close the open batch now instead of waiting for more transactions; it is posted at once
    Post,
}

/// Runs a batch command.
///
/// # Errors
/// [`Failure`].
pub async fn run(
    global: &Global,
    output: Output,
    arguments: BatchArguments,
) -> Result<(), Failure> {
    logging::start_quiet(global);
    let node = NodeClient::new(&arguments.node).map_err(node_failure)?;
    match arguments.action {
        Action::List { limit, cursor } => list(output, &node, limit, cursor.as_deref()).await,
        Action::Show { number, export } => {
            show(output, &node, BatchNumber(number), export.as_deref()).await
        }
        Action::Post => post(output, &node).await,
    }
}

async fn list(
    output: Output,
    node: &NodeClient,
    limit: usize,
    cursor: Option<&str>,
) -> Result<(), Failure> {
    let page = node.batches(limit, cursor).await.map_err(node_failure)?;
    output.result(&page, || {
        let more = page
            .next_cursor
            .as_ref()
            .map(|cursor| format!("\nmore: --cursor {cursor}"));
        let table = table(
            [
                "batch",
                "stage",
                "transactions",
                "requests",
                "circuit",
                "new root",
            ],
            page.items.iter().map(row),
        );
        format!("{table}{}", more.unwrap_or_default())
    });
    Ok(())
}

fn row(batch: &BatchSummary) -> [String; 6] {
    let root = batch.new_root.map(|root| shorten(&root.0.to_string()));
    [
        batch.number.to_string(),
        format!("{:?}", batch.stage).to_lowercase(),
        batch.transaction_count.to_string(),
        batch.request_count.to_string(),
        batch.circuit.to_string(),
        root.unwrap_or_default(),
    ]
}

fn shorten(text: &str) -> String {
    match (text.get(..8), text.get(text.len().saturating_sub(6)..)) {
        (Some(start), Some(end)) if text.len() > 16 => format!("{start}…{end}"),
        _ => text.to_owned(),
    }
}

async fn show(
    output: Output,
    node: &NodeClient,
    number: BatchNumber,
    folder: Option<&Path>,
) -> Result<(), Failure> {
    let batch = node.batch(number).await.map_err(node_failure)?;
    let batch = batch.ok_or_else(|| {
        Failure::new(Exit::NotFound, format!("there is no batch {number}"))
            .help("`millrace batch list` shows them")
    })?;
    let exported = match folder {
        Some(folder) => Some(export(node, number, folder).await?),
        None => None,
    };
    let result = json!({ "batch": batch, "exported": exported });
    output.result(&result, || describe(&batch, exported.as_deref()));
    Ok(())
}

fn describe(batch: &BatchView, exported: Option<&Path>) -> String {
    let summary = &batch.summary;
    let link = |link: &Option<crate::api::types::L1LinkView>| {
        link.map_or_else(
            || "not yet".to_owned(),
            |link| format!("{} in block {}", link.transaction, link.block),
        )
    };
    let root = |root: &Option<millrace_circuits::field::Word>| {
        root.map_or_else(|| "not yet".to_owned(), |root| root.0.to_string())
    };
    let mut rows = vec![
        ("batch", summary.number.to_string()),
        ("stage", format!("{:?}", summary.stage).to_lowercase()),
        ("circuit", summary.circuit.to_string()),
        ("transactions", summary.transaction_count.to_string()),
        ("requests from L1", summary.request_count.to_string()),
        ("payouts to L1", batch.payouts.len().to_string()),
        ("old root", root(&summary.old_root)),
        ("new root", root(&summary.new_root)),
        ("committed", link(&summary.committed)),
        ("proven", link(&summary.proven)),
    ];
    if let Some(folder) = exported {
        rows.push(("exported to", folder.display().to_string()));
    }
    facts(rows)
}

/// Writes proof.json and public.json.
async fn export(node: &NodeClient, number: BatchNumber, folder: &Path) -> Result<PathBuf, Failure> {
    let proof = node.proof(number).await.map_err(node_failure)?;
    let proof = proof
        .ok_or_else(|| Failure::new(Exit::NotFound, format!("batch {number} has no proof yet")))?;
    let public = serde_json::to_vec_pretty(&proof.public_inputs).expect("words serialise");
    let written = std::fs::create_dir_all(folder)
        .and_then(|()| std::fs::write(folder.join("proof.json"), proof.snarkjs.to_string()))
        .and_then(|()| std::fs::write(folder.join("public.json"), public));
    written.map_err(|error| {
        Failure::because(
            Exit::Internal,
            format!("cannot write into {}", folder.display()),
            &error,
        )
    })?;
    Ok(folder.to_owned())
}

async fn post(output: Output, node: &NodeClient) -> Result<(), Failure> {
    let sealed = node.seal().await.map_err(node_failure)?;
    output.result(&sealed, || match sealed.batch {
        Some(number) => format!("batch {number} is closed and will be posted"),
        None => "nothing waits to be put into a batch".into(),
    });
    Ok(())
}

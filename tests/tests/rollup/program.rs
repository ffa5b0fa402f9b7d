//! The real program as a process: started on a folder, killed when dropped.

use alloy::primitives::Address;
use millrace::wallet::keys::{KeySource, Phrase, UserKeys};
use millrace::wallet::node_client::NodeClient;
use millrace_circuits::types::L1Address;
use millrace_l1::devchain::DEV_MNEMONIC;
use millrace_l1::provider::L1Provider;
use millrace_tests::process::command;
use millrace_tests::world::SHAPE;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Stdio};
use std::time::Duration;

/// How long the program may take for anything.
pub const PATIENCE: Duration = Duration::from_secs(180);

/// Keys of a development account.
pub fn keys(number: u32) -> UserKeys {
    let phrase = Phrase::parse(DEV_MNEMONIC).unwrap();
    KeySource::Phrase(phrase).keys(number, None).unwrap()
}

/// A running program.
pub struct Node {
    child: Child,
    /// Its API.
    pub client: NodeClient,
    /// The API's address.
    pub url: String,
    /// L1's endpoint.
    pub l1: String,
    /// The rollup.
    pub contract: L1Address,
}

/// How the program is started.
pub struct Setup {
    /// Holds its data.
    pub folder: tempfile::TempDir,
    /// Its command line.
    pub arguments: Vec<String>,
    /// Its environment.
    pub variables: Vec<(&'static str, String)>,
    /// The L1's endpoint, if it is not in the program itself.
    pub l1: Option<String>,
}

impl Setup {
    /// A sequencer and prover on somebody else's L1, with the key of development account 0.
    pub fn operator(l1: &str, contract: Address) -> Self {
        let operator = format!("0x{}", hex::encode(keys(0).l1.to_bytes()));
        let address = contract.to_string();
        Self {
            folder: tempfile::tempdir().unwrap(),
            arguments: ["node", "--l1", l1, "--contract", &address]
                .map(str::to_owned)
                .to_vec(),
            variables: vec![
                ("MILLRACE_L1__OPERATOR_KEY", operator),
                ("MILLRACE_L1__CONFIRMATIONS", "0".into()),
            ],
            l1: Some(l1.to_owned()),
        }
    }

    /// Starts it and waits until it serves.
    pub async fn start(&self) -> Node {
        let log = std::fs::File::options()
            .create(true)
            .append(true)
            .open(self.log())
            .unwrap();
        let mut child = command()
            .args(&self.arguments)
            .args(["--json", "--listen", "127.0.0.1:0", "--data-dir"])
            .arg(self.folder.path().join("data"))
            .envs(self.variables.iter().map(|(name, value)| (*name, value)))
            .env("MILLRACE_SEQUENCER__SEAL_AFTER_MS", "300")
            .env("MILLRACE_SEQUENCER__CIRCUITS", format!("[{}]", SHAPE.id))
            .current_dir(self.folder.path())
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(log)
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let Some(Ok(line)) =
            lines.find(|line| line.as_ref().is_ok_and(|line| line.starts_with('{')))
        else {
            panic!("the program does not start: {}", self.log_text());
        };
        std::thread::spawn(move || lines.for_each(drop));
        let said: serde_json::Value = serde_json::from_str(&line).unwrap();
        let text = |name: &str| said[name].as_str().unwrap_or_default().to_owned();
        Node {
            child,
            client: NodeClient::new(text("api")).unwrap(),
            url: text("api"),
            l1: self.l1.clone().unwrap_or_else(|| text("l1")),
            contract: text("contract").parse().unwrap(),
        }
    }

    fn log(&self) -> PathBuf {
        self.folder.path().join("log")
    }

    fn log_text(&self) -> String {
        read_tail(&self.log())
    }
}

fn read_tail(path: &Path) -> String {
    let text = std::fs::read_to_string(path).unwrap_or_default();
    let lines: Vec<_> = text.lines().collect();
    lines[lines.len().saturating_sub(40)..].join("\n")
}

impl Drop for Node {
    fn drop(&mut self) {
        // SIGKILL: nothing is flushed, closed or said.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Deploys the rollup; development account 0 is its operator.
pub async fn deployed(l1: &L1Provider) -> Address {
    let sender = millrace_l1::sender::TransactionSender::in_memory(l1.clone(), keys(0).l1);
    let client = millrace_tests::world::deploy(&sender).await;
    client.address()
}

//! People use the program: two wallets, as processes, with a node on anvil; then the node is gone for good, and they leave
//! with L1 alone.
//!
//! One wallet is of a recovery phrase, the other of an L1 private key whose signature makes its rollup key.

use crate::ETHER;
use crate::program::{Node, PATIENCE, Setup, deployed, keys};
use alloy::primitives::{Address, U256};
use alloy::providers::Provider;
use millrace_l1::devchain::{DEV_MNEMONIC, dev_signer};
use millrace_l1::testing::TestL1;
use millrace_tests::process::command;
use millrace_tests::tokens::{self, TestToken};
use serde_json::Value;
use std::path::PathBuf;
use std::process::Output;
use std::time::Instant;

/// A wallet in a folder of its own.
struct Wallet {
    folder: tempfile::TempDir,
    number: &'static str,
    node: String,
    l1: String,
    contract: String,
}

impl Wallet {
    fn new(node: &Node, number: &'static str) -> Self {
        Self {
            folder: tempfile::tempdir().unwrap(),
            number,
            node: node.url.clone(),
            l1: node.l1.clone(),
            contract: node.contract.to_string(),
        }
    }

    fn file(&self, name: &str, content: &str) -> PathBuf {
        let path = self.folder.path().join(name);
        std::fs::write(&path, content).unwrap();
        path
    }

    fn run(&self, arguments: &[&str]) -> Output {
        let ran = command()
            .args(["--json", "wallet"])
            .args(arguments)
            .args(["--number", self.number])
            .env("MILLRACE_PASSWORD", "correct horse battery staple")
            .env("MILLRACE_WALLET", self.folder.path().join("wallet"))
            .env("MILLRACE_NODE", &self.node)
            .env("MILLRACE_L1_URL", &self.l1)
            .env("MILLRACE_CONTRACT", &self.contract)
            .current_dir(self.folder.path())
            .output();
        ran.unwrap()
    }

    /// The result of a command that works.
    fn does(&self, arguments: &[&str]) -> Value {
        let output = self.run(arguments);
        let errors = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{arguments:?}: {errors}");
        last_line(&output)
    }

    /// What is said of a command that is refused, and its exit code.
    fn is_refused(&self, arguments: &[&str]) -> (Value, i32) {
        let output = self.run(arguments);
        assert!(!output.status.success(), "{arguments:?} should be refused");
        (last_line(&output), output.status.code().unwrap())
    }

    /// Waits until the wallet has this much of a token, in smallest units as text.
    fn has(&self, token: u64, balance: u128) {
        let start = Instant::now();
        loop {
            let accounts = self.does(&["accounts"]);
            let rows = accounts["accounts"].as_array().unwrap();
            let of_token = |row: &&Value| row["token"] == token;
            let found = rows.iter().find(of_token).map(|row| row["balance"].clone());
            if found == Some(Value::from(balance.to_string())) {
                return;
            }
            assert!(
                start.elapsed() < PATIENCE,
                "expected {balance} of token {token}: {accounts}"
            );
            std::thread::sleep(std::time::Duration::from_millis(200));
        }
    }
}

fn last_line(output: &Output) -> Value {
    let text = String::from_utf8_lossy(&output.stdout);
    let line = text.lines().last().unwrap_or_default();
    serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {text}"))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_wallets_do_everything_and_leave_a_dead_rollup_with_l1_alone() {
    let l1 = TestL1::anvil().await;
    let contract = deployed(l1.provider()).await;
    let node = Setup::operator(l1.url().unwrap(), contract);
    let running = node.start().await;
    let (alice, bob) = (Wallet::new(&running, "1"), Wallet::new(&running, "0"));

    let phrase = alice.file("phrase", DEV_MNEMONIC);
    let shown = alice.does(&["import", "--phrase-file", phrase.to_str().unwrap()]);
    let alice_l1 = keys(1).l1.address();
    assert_eq!(shown["l1_address"], alice_l1.to_string());
    let key = bob.file("key", &hex::encode(dev_signer(2).to_bytes()));
    bob.does(&["import", "--private-key-file", key.to_str().unwrap()]);
    let bob_l1 = dev_signer(2).address();
    let alice_at = alice.does(&["address"])["payment_address"]
        .as_str()
        .unwrap()
        .to_owned();
    let bob_at = bob.does(&["address"])["payment_address"]
        .as_str()
        .unwrap()
        .to_owned();

    // Money in: ETH for both, a token for Bob.
    let signer = l1.provider().with_signer(l1.signer(5));
    let token = *TestToken::deploy(signer.clone()).await.unwrap().address();
    tokens::mint(signer, token, bob_l1, U256::from(1000)).await;
    alice.does(&["deposit", "10"]);
    bob.does(&["deposit", "4"]);
    bob.does(&[
        "deposit",
        "1000u",
        "--token",
        &token.to_string(),
        "--register",
    ]);
    alice.has(0, 10 * ETHER);
    bob.has(0, 4 * ETHER);
    bob.has(1, 1000);

    // Money around: a transfer, and a swap of ETH for the token.
    alice.does(&["transfer", &bob_at, "0.5", "--wait"]);
    let want = ["--give", "2", "--want", "300u", "--want-token", "1"];
    let offer = alice.does(&[&["swap", "offer", &bob_at], &want[..]].concat());
    let offer = bob.file("offer", &offer.to_string());
    let acceptance = bob.does(&["swap", "accept", offer.to_str().unwrap()]);
    let acceptance = alice.file("acceptance", &acceptance.to_string());
    alice.does(&["swap", "finish", acceptance.to_str().unwrap(), "--wait"]);
    alice.has(0, 15 * ETHER / 2);
    alice.has(1, 300);
    bob.has(0, 13 * ETHER / 2);
    bob.has(1, 700);
    let (_, code) = alice.is_refused(&["transfer", &alice_at, "1000"]);
    assert_ne!(code, 0, "more than there is");

    // Money out.
    let before = balance(&l1, alice_l1).await;
    alice.does(&["withdraw", "0.25", "--wait"]);
    let start = Instant::now();
    while balance(&l1, alice_l1).await != before + U256::from(ETHER / 4) {
        assert!(start.elapsed() < PATIENCE, "the withdrawal does not arrive");
        tokio::time::sleep(std::time::Duration::from_millis(100)).await;
    }
    let history = alice.does(&["history"]).to_string();
    for id in ["transfer", "withdraw", "deposit"] {
        assert!(history.contains(id), "{id}: {history}");
    }

    // The node dies for good. Bob's last deposit was never taken, Alice asks L1 to let her out.
    drop(running);
    bob.does(&["deposit", "1"]);
    let asked = alice.does(&["forced-exit"]);
    let deadline = asked["forced_exit"]["deadline"].as_u64().unwrap();
    let (refused, _) = bob.is_refused(&["cancel-deposit"]);
    assert!(refused.to_string().contains("not frozen"), "{refused}");
    let (refused, _) = alice.is_refused(&["escape-exit"]);
    assert!(
        refused.to_string().contains(&deadline.to_string()[..5]),
        "{refused}"
    );

    l1.increase_time(9 * 86_400).await;
    l1.mine(1).await;
    let could = alice.does(&["escape-exit", "--dry-run"]);
    assert_eq!(states(&could), ["can leave", "can leave"]);
    let (alice_before, bob_before) = (balance(&l1, alice_l1).await, balance(&l1, bob_l1).await);
    let left = alice.does(&["escape-exit"]);
    assert_eq!(states(&left), ["left", "left"]);
    assert_eq!(
        states(&alice.does(&["escape-exit"])),
        ["left before", "left before"]
    );
    assert_eq!(states(&bob.does(&["escape-exit"])), ["left", "left"]);
    let returned = bob.does(&["cancel-deposit"]);
    assert_eq!(returned["returned"].as_array().unwrap().len(), 1);
    let (refused, _) = bob.is_refused(&["cancel-deposit"]);
    assert!(refused.to_string().contains("no deposit"), "{refused}");

    // To the wei, but for the gas that each of them paid.
    let gas = U256::from(ETHER / 50);
    let alice_out = balance(&l1, alice_l1).await - alice_before;
    let bob_out = balance(&l1, bob_l1).await - bob_before;
    let (alice_due, bob_due) = (U256::from(29 * ETHER / 4), U256::from(15 * ETHER / 2));
    assert!(
        alice_out <= alice_due && alice_out + gas > alice_due,
        "{alice_out}"
    );
    assert!(bob_out <= bob_due && bob_out + gas > bob_due, "{bob_out}");
    let held = |who: Address| {
        let token = TestToken::new(token, l1.provider().provider());
        async move { token.balanceOf(who).call().await.unwrap() }
    };
    assert_eq!(held(alice_l1).await, U256::from(300));
    assert_eq!(held(bob_l1).await, U256::from(700));
    assert_eq!(held(contract).await, U256::ZERO);
    // What is left in the contract are fees of requests.
    assert!(balance(&l1, contract).await < U256::from(10_000_000_000u64));
}

fn states(escaped: &Value) -> Vec<&str> {
    let accounts = escaped["accounts"].as_array().unwrap();
    accounts
        .iter()
        .map(|account| account["state"].as_str().unwrap())
        .collect()
}

async fn balance(l1: &TestL1, of: Address) -> U256 {
    l1.provider().provider().get_balance(of).await.unwrap()
}

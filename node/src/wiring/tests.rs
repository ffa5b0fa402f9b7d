//! A whole node: from a deposit to a finalised batch, proven by a prover elsewhere; refusals to start; deaths and restarts.

use super::remote::{RemoteProverConfig, start as start_prover};
use super::*;
use crate::api::problem::Code;
use crate::api::tests::harness::{ETH, TestNode, User, config};
use crate::config::{ProofBackend, Secret};
use alloy::primitives::B256;
use millrace_l1::bindings::IRollup;
use millrace_l1::devchain::{DevChainConfig, dev_signer};
use millrace_prover::key::KeyStore;
use reqwest::StatusCode;
use std::collections::BTreeSet;
use std::time::Instant;

/// How long a proof may take on a busy machine.
const PROOF_PATIENCE: Duration = Duration::from_secs(500);

#[tokio::test(flavor = "multi_thread")]
async fn a_remote_prover_brings_a_batch_to_its_end_and_a_restart_forgets_nothing() {
    let token = || Secret::new("between the two machines".into());
    let node = TestNode::start_with(|config| config.prover.token = Some(token())).await;
    node.deposit(User::ALICE, ETH).await;
    let signed = node.sign(
        User::ALICE,
        node.transfer(User::ALICE, User::BOB, 12_345).await,
    );
    let id = node.accept(&[signed]).await.remove(0);
    let workers = start_prover(RemoteProverConfig {
        node: node.node.api_url.clone(),
        token: token(),
        backend: ProofBackend::default(),
        keys: KeyStore::in_user_cache().unwrap(),
        workers: 1,
        lease: Duration::from_secs(10),
        name: "elsewhere".into(),
    })
    .await
    .unwrap();

    let (end, path) = (
        Instant::now() + PROOF_PATIENCE,
        format!("/v1/transactions/{id}"),
    );
    let view = loop {
        let view = node.get(&path).await.json();
        if view["stage"] == "finalised" {
            break view;
        }
        assert!(
            Instant::now() < end,
            "{view} {} {}",
            node.get("/status").await.text,
            node.get("/v1/prover/jobs").await.text
        );
        tokio::time::sleep(Duration::from_millis(200)).await;
    };
    workers.iter().for_each(Worker::stop_now);
    let batch = view["batch"].as_u64().unwrap();
    let proof = node.get(&format!("/v1/batches/{batch}/proof")).await;
    assert_eq!(proof.status, StatusCode::OK);
    assert_eq!(proof.json()["snarkjs"]["protocol"], "groth16");
    assert_eq!(
        proof.json()["public_inputs"],
        node.get(&format!("/v1/batches/{batch}")).await.json()["public_inputs"]
    );

    let root = node.get("/status").await.json()["state_root"].clone();
    let node = node.restart().await;
    let status = node
        .until("running again", || async {
            let status = node.get("/status").await.json();
            (status["phase"] == "running").then_some(status)
        })
        .await;
    assert_eq!(status["state_root"], root);
    assert_eq!(node.get(&path).await.json()["stage"], "finalised");
    assert_eq!(node.accounts(User::BOB).await[0].balance, Amount(12_345));
    node.node.shutdown().await;
}

#[tokio::test]
async fn a_taken_address_is_an_error_that_names_its_setting() {
    let folder = tempfile::tempdir().unwrap();
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let mut config = config(&folder);
    config.api.listen = taken.local_addr().unwrap();
    let error = start(config).await.err().unwrap();
    assert!(
        matches!(
            error,
            StartError::Listen {
                key: "api.listen",
                ..
            }
        ),
        "{error}"
    );
    assert!(
        error
            .to_string()
            .contains("set api.listen to a free address")
    );
}

#[tokio::test]
async fn a_sequencer_on_a_chain_elsewhere_needs_a_key_of_its_own() {
    let folder = tempfile::tempdir().unwrap();
    let chain = DevChain::new(DevChainConfig::default());
    let mut tasks = Tasks::default();
    let listen = "127.0.0.1:0".parse().unwrap();
    let bound = chain::serve(&chain, Some(listen), &mut tasks)
        .await
        .unwrap()
        .unwrap();
    let mut config = config(&folder);
    config.l1.urls = vec![format!("http://{bound}")];
    config.l1.contract = Some(L1Address([7; 20]));
    assert!(matches!(
        start(config.clone()).await.err().unwrap(),
        StartError::NoOperatorKey
    ));
    config.l1.operator_key = Some(Secret::new("0x1234".into()));
    let error = start(config.clone()).await.err().unwrap();
    assert!(matches!(error, StartError::OperatorKey) && !error.to_string().contains("1234"));
    config.l1.operator_key = Some(Secret::new(format!("0x{}", "11".repeat(32))));
    assert!(matches!(
        start(config.clone()).await.err().unwrap(),
        StartError::Contract(_)
    ));
    config.l1.chain_id = Some(1);
    assert!(matches!(
        start(config).await.err().unwrap(),
        StartError::L1(ConnectError::WrongChain { .. })
    ));
    tasks.stop(Duration::from_secs(5)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_follower_reaches_the_sequencers_state_from_l1_alone() {
    let node = TestNode::start_with(|config| {
        config.l1.embedded_listen = Some("127.0.0.1:0".parse().unwrap());
    })
    .await;
    let (l1_url, contract) = (node.node.l1_url.clone().unwrap(), node.node.contract);
    let follower = TestNode::start_with(|config| {
        config.roles = BTreeSet::from([Role::Follower]);
        config.l1.urls = vec![l1_url];
        config.l1.contract = Some(contract);
        config.l1.confirmations = 0;
    })
    .await;
    node.deposit(User::ALICE, ETH).await;
    let signed = node.sign(
        User::ALICE,
        node.transfer(User::ALICE, User::BOB, 777).await,
    );
    let id = node.accept(&[signed]).await.remove(0);
    node.until_stage(&id, "committed").await;
    let root = node.get("/status").await.json()["state_root"].clone();
    follower
        .until("the sequencer's root", || async {
            (follower.get("/status").await.json()["state_root"] == root).then_some(())
        })
        .await;
    assert_eq!(
        follower.accounts(User::BOB).await[0].balance,
        Amount(777),
        "it serves the read API"
    );
    let refused = follower.submit(&[signed]).await;
    assert_eq!(refused.problem().code, Code::NotASequencer);
    assert_eq!(
        follower.get("/v1/info").await.json()["roles"][0],
        "follower"
    );
    follower.node.shutdown().await;
    node.node.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn single_party_keys_are_refused_on_a_public_chain() {
    use_ring();
    let folder = tempfile::tempdir().unwrap();
    let chain = DevChain::new(DevChainConfig {
        chain_id: 10,
        ..DevChainConfig::default()
    });
    let mut tasks = Tasks::default();
    let listen = Some("127.0.0.1:0".parse().unwrap());
    let bound = chain::serve(&chain, listen, &mut tasks)
        .await
        .unwrap()
        .unwrap();
    let mut config = config(&folder);
    let store = keys::store(&config).unwrap();
    let made = keys::development(&store, &config.shapes()).unwrap();
    let terms = IRollup::Config {
        operator: dev_signer(0).address(),
        ceremony: B256::ZERO,
        requestFee: 0,
        requestSpacing: 1,
        circuits: made
            .iter()
            .map(|(shape, key)| contract::circuit(shape, key))
            .collect(),
    };
    let sender = TransactionSender::in_memory(L1Provider::from(&chain), dev_signer(0));
    let deployed = RollupClient::deploy(&sender, "deploy", terms)
        .await
        .unwrap();
    config.l1.urls = vec![format!("http://{bound}")];
    config.l1.contract = Some(L1Address(deployed.value.address().into_array()));
    config.l1.operator_key = Some(Secret::new(format!("0x{}", "11".repeat(32))));
    let error = start(config.clone()).await.err().unwrap();
    assert!(matches!(error, StartError::RefusedKey(_)), "{error}");
    assert!(error.to_string().contains("INSECURE-DEV"));
    config.prover.allow_insecure_keys = true;
    start(config).await.unwrap().shutdown().await;
    tasks.stop(Duration::from_secs(5)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_death_of_a_task_ends_the_node_with_its_name() {
    let mut node = TestNode::start().await.node;
    node.work_tasks.spawn("frail", async { Err("a bug") });
    let died = node.run().await.unwrap_err();
    assert_eq!((died.task, died.cause.as_str()), ("frail", "a bug"));
}

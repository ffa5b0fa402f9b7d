//! The node under test and its users, in the domain's verbs.

use crate::api::problem::Problem;
use crate::api::types::{AccountView, OwnerAccounts, SignedTransactionBody, Submission};
use crate::config::{Config, Role};
use crate::wiring::{self, RunningNode};
use alloy::primitives::U256;
use millrace_circuits::account::Owner;
use millrace_circuits::amount::{FeeCode, Float40};
use millrace_circuits::eddsa::SecretKey;
use millrace_circuits::field::{Word, to_bytes};
use millrace_circuits::transaction::{Action, Domain, SignedTransaction, Transaction};
use millrace_circuits::types::{Amount, L1Address, Nonce, Timestamp, TokenId};
use millrace_l1::devchain::dev_signer;
use millrace_l1::sender::TransactionSender;
use reqwest::header::HeaderMap;
use reqwest::{Client, RequestBuilder, StatusCode};
use serde_json::{Value, json};
use std::collections::BTreeSet;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// How long a test waits for anything.
pub const PATIENCE: Duration = Duration::from_secs(60);
/// One ETH, in wei.
pub const ETH: u128 = 1_000_000_000_000_000_000;

/// A running node in a folder of its own.
pub struct TestNode {
    pub node: RunningNode,
    pub http: Client,
    folder: tempfile::TempDir,
}

/// A user with a key on each side.
#[derive(Clone, Copy)]
pub struct User {
    number: u8,
}

/// An answer.
#[derive(Debug)]
pub struct Reply {
    pub status: StatusCode,
    pub headers: HeaderMap,
    pub text: String,
}

impl Reply {
    pub fn json(&self) -> Value {
        serde_json::from_str(&self.text).unwrap_or_else(|error| panic!("{error}: {}", self.text))
    }

    pub fn problem(&self) -> Problem {
        assert_eq!(
            self.headers["content-type"],
            crate::api::problem::MEDIA_TYPE,
            "{}",
            self.text
        );
        let problem: Problem = serde_json::from_str(&self.text).unwrap();
        assert_eq!(problem.status, self.status.as_u16());
        problem
    }
}

pub fn now_secs() -> u64 {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap()
        .as_secs()
}

/// A configuration for a node of its own that orders and does not prove.
pub fn config(folder: &tempfile::TempDir) -> Config {
    let mut config = Config {
        data_dir: folder.path().to_owned(),
        roles: BTreeSet::from([Role::Sequencer]),
        ..Config::default()
    };
    config.l1.embedded_listen = None;
    config.api.listen = "127.0.0.1:0".parse().unwrap();
    config.sequencer.circuits = vec![1];
    config.sequencer.seal_after_ms = 300;
    config
}

impl TestNode {
    pub async fn start() -> Self {
        Self::start_with(|_| {}).await
    }

    pub async fn start_with(adjust: impl FnOnce(&mut Config)) -> Self {
        wiring::use_ring();
        let folder = tempfile::tempdir().unwrap();
        let mut config = config(&folder);
        adjust(&mut config);
        let node = wiring::start(config).await.unwrap();
        Self {
            node,
            http: Client::new(),
            folder,
        }
    }

    /// Stops and starts again on the same folder.
    pub async fn restart(self) -> Self {
        let Self { node, http, folder } = self;
        node.shutdown().await;
        let node = wiring::start(config(&folder)).await.unwrap();
        Self { node, http, folder }
    }

    pub fn url(&self, path: &str) -> String {
        format!("{}{path}", self.node.api_url)
    }

    pub fn domain(&self) -> Domain {
        *self.node.rollup.domain()
    }

    pub async fn send(&self, request: RequestBuilder) -> Reply {
        let response = request.send().await.unwrap();
        let (status, headers) = (response.status(), response.headers().clone());
        Reply {
            status,
            headers,
            text: response.text().await.unwrap(),
        }
    }

    pub async fn get(&self, path: &str) -> Reply {
        self.send(self.http.get(self.url(path))).await
    }

    pub async fn post(&self, body: &Value) -> Reply {
        self.send(self.http.post(self.url("/v1/transactions")).json(body))
            .await
    }

    pub async fn submit(&self, signed: &[SignedTransaction]) -> Reply {
        self.post(&submission(signed)).await
    }

    /// Submits what must be taken; its ids.
    pub async fn accept(&self, signed: &[SignedTransaction]) -> Vec<String> {
        let reply = self.submit(signed).await;
        assert_eq!(reply.status, StatusCode::ACCEPTED, "{}", reply.text);
        let ids = reply.json()["transactions"].as_array().unwrap().clone();
        ids.iter()
            .map(|id| id.as_str().unwrap().to_owned())
            .collect()
    }

    /// Deposits ETH and waits until it is there.
    pub async fn deposit(&self, user: User, amount: u128) -> AccountView {
        let before = self
            .accounts(user)
            .await
            .first()
            .map_or(0, |account| account.balance.0);
        let sender =
            TransactionSender::in_memory(self.node.l1.clone(), dev_signer(u32::from(user.number)));
        let owner = U256::from_be_bytes(to_bytes(&user.owner().0));
        self.node
            .client
            .deposit(
                &sender,
                &format!("deposit-{}", rand::random::<u64>()),
                0,
                amount,
                owner,
            )
            .await
            .unwrap();
        self.until("the deposit is in a batch", || async {
            let account = self.accounts(user).await.first().copied();
            account.filter(|account| account.balance.0 == before + amount)
        })
        .await
    }

    pub async fn accounts(&self, user: User) -> Vec<AccountView> {
        let reply = self
            .get(&format!("/v1/owners/{}/accounts", user.owner()))
            .await;
        serde_json::from_str::<OwnerAccounts>(&reply.text)
            .unwrap()
            .accounts
    }

    /// A transfer of `amount` that is valid for an hour, at the next nonce.
    pub async fn transfer(&self, from: User, to: User, amount: u128) -> Transaction {
        let account = self.accounts(from).await[0];
        Transaction {
            from: account.index,
            nonce: account.nonce,
            token: TokenId::ZERO,
            fee: FeeCode::ZERO,
            action: Action::Transfer {
                recipient: to.owner(),
                amount: Float40::exact(Amount(amount)).unwrap(),
            },
            link: Word(0u64.into()),
            valid_until: Timestamp(now_secs() + 3600),
        }
    }

    pub fn sign(&self, user: User, transaction: Transaction) -> SignedTransaction {
        transaction.sign(&self.domain(), user.l1_address(), &user.key())
    }

    /// Sends and waits until it has this stage.
    pub async fn until_stage(&self, id: &str, stage: &str) {
        self.until(stage, || async {
            let view = self.get(&format!("/v1/transactions/{id}")).await.json();
            (view["stage"] == stage).then_some(())
        })
        .await;
    }

    pub async fn until<T, F: Future<Output = Option<T>>>(
        &self,
        what: &str,
        look: impl Fn() -> F,
    ) -> T {
        let end = Instant::now() + PATIENCE;
        loop {
            if let Some(found) = look().await {
                return found;
            }
            if Instant::now() > end {
                panic!("never: {what}; {}", self.get("/status").await.text);
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }
}

impl User {
    pub const ALICE: Self = Self { number: 1 };
    pub const BOB: Self = Self { number: 2 };
    pub const CAROL: Self = Self { number: 3 };

    pub fn key(self) -> SecretKey {
        SecretKey::from_bytes([self.number; 32])
    }

    pub fn l1_address(self) -> L1Address {
        L1Address(dev_signer(u32::from(self.number)).address().into_array())
    }

    pub fn owner(self) -> Owner {
        Owner::new(self.l1_address(), &self.key().public_key())
    }
}

pub fn submission(signed: &[SignedTransaction]) -> Value {
    let transactions = signed.iter().map(SignedTransactionBody::from).collect();
    json!(Submission { transactions })
}

/// With the next nonce but this many.
pub fn ahead(transaction: Transaction, by: u64) -> Transaction {
    Transaction {
        nonce: Nonce::new(transaction.nonce.get() + by).unwrap(),
        ..transaction
    }
}

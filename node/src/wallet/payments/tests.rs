//! Nothing is paid twice, whatever a node answers: a node on loopback that loses answers and refuses.

use super::*;
use crate::api::problem::Problem;
use crate::api::types::{Accepted, OwnerAccounts, SignedTransactionBody, Submission};
use crate::wallet::keys::Phrase;
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Json, Router};
use millrace_circuits::types::L1Address;
use std::collections::VecDeque;
use std::sync::{Arc, Mutex};

/// What the node does with the next submission.
#[derive(Clone, Copy)]
enum Next {
    Accept,
    /// It is taken, but the answer is lost.
    LoseTheAnswer,
    Refuse(Code),
}

/// A node that does as it is told.
#[derive(Default)]
struct Node {
    next: Mutex<VecDeque<Next>>,
    seen: Mutex<Vec<Vec<SignedTransactionBody>>>,
    accounts: Mutex<Vec<AccountView>>,
}

impl Node {
    /// Submissions so far, by nonce and amount of their first transaction.
    fn seen(&self) -> Vec<(u64, u128)> {
        let seen = self.seen.lock().unwrap();
        let first = |s: &Vec<SignedTransactionBody>| {
            (s[0].transaction.nonce.get(), s[0].transaction.amount.0)
        };
        seen.iter().map(first).collect()
    }

    fn will(&self, next: &[Next]) {
        self.next.lock().unwrap().extend(next);
    }
}

async fn accounts(State(node): State<Arc<Node>>) -> Json<OwnerAccounts> {
    let accounts = node.accounts.lock().unwrap().clone();
    Json(OwnerAccounts { accounts })
}

async fn submit(State(node): State<Arc<Node>>, Json(submission): Json<Submission>) -> Response {
    node.seen.lock().unwrap().push(submission.transactions);
    let next = node
        .next
        .lock()
        .unwrap()
        .pop_front()
        .unwrap_or(Next::Accept);
    match next {
        Next::Accept => Json(Accepted {
            transactions: vec![],
            accepted_at_millis: 1,
            receipts: vec![],
        })
        .into_response(),
        Next::LoseTheAnswer => Problem::new(Code::TimedOut, "").into_response(),
        Next::Refuse(code) => Problem::new(code, "").into_response(),
    }
}

/// This node forgets what it was sent, as one that was restored from L1 does.
async fn transaction() -> Problem {
    Problem::new(Code::TransactionUnknown, "")
}

/// A wallet whose account 1 holds ETH, and the node.
struct World {
    node: Arc<Node>,
    client: NodeClient,
    wallet: Wallet,
    keys: UserKeys,
    _folder: tempfile::TempDir,
}

impl World {
    async fn new() -> Self {
        let node = Arc::new(Node::default());
        let router = Router::new()
            .route("/v1/owners/{owner}/accounts", get(accounts))
            .route("/v1/transactions", post(submit))
            .route("/v1/transactions/{id}", get(transaction))
            .with_state(node.clone());
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        tokio::spawn(async move { axum::serve(listener, router).await });
        let folder = tempfile::tempdir().unwrap();
        let rollup = RollupIdentity {
            chain_id: 31337,
            contract: L1Address([1; 20]),
        };
        let source = KeySource::Phrase(Phrase::generate());
        let mut wallet = Wallet::open(folder.path(), source, rollup).unwrap();
        let keys = wallet.keys(0).unwrap();
        node.accounts.lock().unwrap().push(AccountView {
            index: AccountIndex::new(1).unwrap(),
            owner: keys.owner(),
            token: TokenId::ZERO,
            nonce: Nonce::ZERO,
            balance: Amount(1_000_000),
        });
        Self {
            node,
            client: NodeClient::new(url).unwrap(),
            wallet,
            keys,
            _folder: folder,
        }
    }

    async fn pay(&mut self, amount: u128, again: bool) -> Result<Paid, PayError> {
        let payment = Payment {
            from: None,
            token: TokenId::ZERO,
            action: withdraw(Amount(amount)),
            fee: FeeCode::ZERO,
            valid_secs: 600,
            again,
        };
        self.wallet.pay(&self.client, &self.keys, payment).await
    }
}

#[tokio::test]
async fn a_retry_after_a_lost_answer_sends_the_same_signature() {
    let mut world = World::new().await;
    world.node.will(&[Next::LoseTheAnswer]);
    let first = world.pay(10, false).await.unwrap_err();
    let PayError::Unknown { id, .. } = first else {
        panic!("{first}")
    };
    let retried = world.pay(10, false).await.unwrap();
    assert!(retried.repeated);
    assert_eq!(retried.id, id);
    let seen = world.node.seen.lock().unwrap();
    assert_eq!(seen.len(), 2);
    assert_eq!(
        seen[0], seen[1],
        "the same bytes, so that only one can be applied"
    );
}

#[tokio::test]
async fn another_payment_after_a_lost_answer_takes_the_next_nonce() {
    let mut world = World::new().await;
    world.node.will(&[Next::LoseTheAnswer]);
    world.pay(10, false).await.unwrap_err();
    let other = world.pay(11, false).await.unwrap();
    assert!(!other.repeated);
    assert_eq!(world.node.seen(), [(0, 10), (0, 10), (1, 11)]);
}

#[tokio::test]
async fn paying_the_same_again_on_purpose_takes_the_next_nonce() {
    let mut world = World::new().await;
    world.node.will(&[Next::LoseTheAnswer]);
    world.pay(10, false).await.unwrap_err();
    assert!(!world.pay(10, true).await.unwrap().repeated);
    assert_eq!(world.node.seen(), [(0, 10), (0, 10), (1, 10)]);
}

#[tokio::test]
async fn what_replaces_a_refused_payment_takes_its_nonce() {
    let mut world = World::new().await;
    world.node.will(&[Next::Refuse(Code::Overdrawn)]);
    assert!(matches!(
        world.pay(10, false).await,
        Err(PayError::Refused { .. })
    ));
    world.pay(9, false).await.unwrap();
    assert_eq!(world.node.seen(), [(0, 10), (0, 9)]);
}

#[tokio::test]
async fn a_duplicate_is_an_acknowledgement() {
    let mut world = World::new().await;
    world
        .node
        .will(&[Next::LoseTheAnswer, Next::Refuse(Code::Duplicate)]);
    world.pay(10, false).await.unwrap_err();
    assert!(world.pay(10, false).await.unwrap().repeated);
    let domain = world.wallet.domain();
    let outcomes: Vec<_> = world
        .wallet
        .journal()
        .records(&domain)
        .map(|r| r.outcome.clone())
        .collect();
    assert_eq!(outcomes, [Outcome::Acknowledged]);
}

#[tokio::test]
async fn without_an_account_of_the_token_nothing_is_signed() {
    let mut world = World::new().await;
    world.node.accounts.lock().unwrap().clear();
    assert!(matches!(
        world.pay(10, false).await,
        Err(PayError::NoAccount { .. })
    ));
    assert_eq!(
        world
            .wallet
            .journal()
            .records(&world.wallet.domain())
            .count(),
        0
    );
}

#[tokio::test]
async fn both_halves_of_a_swap_are_linked_and_sent_together() {
    let mut world = World::new().await;
    let amount = Float40::exact(Amount(5)).unwrap();
    let payment = Payment {
        from: None,
        token: TokenId::ZERO,
        action: transfer(world.keys.owner(), amount),
        fee: FeeCode::ZERO,
        valid_secs: 600,
        again: false,
    };
    // With oneself: one wallet stands for both sides.
    let offered = world
        .wallet
        .offer(&world.client, &world.keys, payment, (TokenId::ZERO, amount))
        .await;
    let offer = offered.unwrap();
    assert_eq!(
        world
            .wallet
            .journal()
            .records(&world.wallet.domain())
            .count(),
        0,
        "an offer signs nothing"
    );
    let acceptance = world
        .wallet
        .accept(&world.client, &world.keys, offer, FeeCode::ZERO)
        .await
        .unwrap();
    assert!(world.node.seen().is_empty(), "an acceptance sends nothing");
    let mut cheated = acceptance;
    cheated.offer.wants = Float40::exact(Amount(6)).unwrap();
    let refused = world
        .wallet
        .finish(&world.client, &world.keys, cheated)
        .await;
    assert!(matches!(refused, Err(PayError::NotAsOffered(_))));
    world
        .wallet
        .finish(&world.client, &world.keys, acceptance)
        .await
        .unwrap();
    let seen = world.node.seen.lock().unwrap();
    let [ours, theirs] = seen[0].as_slice() else {
        panic!("two transactions")
    };
    let (ours, theirs) = (
        ours.transaction.to_transaction().unwrap(),
        theirs.transaction.to_transaction().unwrap(),
    );
    assert_eq!(ours.link, Word(theirs.core()));
    assert_eq!(theirs.link, Word(ours.core()));
}

//! The real program is killed with SIGKILL at random moments under load. Started again on the same folder, it still has everything
//! that it acknowledged, and posts no batch twice.
//!
//! ```text
//! start → submit … → kill -9 → start → submit the unanswered one again … → all acknowledged proven → L1: each number once
//! ```

use crate::ETHER;
use crate::program::{Node, PATIENCE, Setup, deployed, keys};
use millrace::wallet::contract::Contract;
use millrace::wallet::escape::rebuild;
use millrace::wallet::keys::UserKeys;
use millrace::wallet::node_client::NodeError;
use millrace_circuits::amount::{FeeCode, Float40};
use millrace_circuits::field::Word;
use millrace_circuits::transaction::{
    Action, Domain, SignedTransaction, Transaction, TransactionId,
};
use millrace_circuits::types::{Amount, L1Address, Timestamp, TokenId};
use millrace_l1::bindings::Rollup;
use millrace_l1::provider::L1Provider;
use millrace_l1::testing::Anvil;
use millrace_rollup::handle::now_millis;
use rand::{Rng, SeedableRng};
use std::time::{Duration, Instant};

/// Deaths in one test.
const KILLS: usize = 3;
/// Transfers acknowledged between two deaths at most, and after the last one.
const TRANSFERS: usize = 6;
/// What each transfer moves.
const AMOUNT: u128 = 1000;

/// What was signed and what was acknowledged, outside the program.
struct Payer {
    keys: UserKeys,
    /// The same for all, so that what was not answered is signed again as it was.
    valid_until: Timestamp,
    acknowledged: Vec<TransactionId>,
}

impl Payer {
    async fn transfer(&self, node: &Node, domain: &Domain) -> Option<SignedTransaction> {
        let accounts = node.client.accounts(self.keys.owner()).await.ok()?;
        let mine = accounts.first()?;
        let nonce = self.acknowledged.len() as u64;
        let transaction = Transaction {
            from: mine.index,
            nonce: millrace_circuits::types::Nonce::new(nonce).unwrap(),
            token: TokenId::ZERO,
            fee: FeeCode::exact(Amount(0)).unwrap(),
            action: Action::Transfer {
                recipient: keys(2).owner(),
                amount: Float40::exact(Amount(AMOUNT)).unwrap(),
            },
            link: Word(0u64.into()),
            valid_until: self.valid_until,
        };
        Some(transaction.sign(domain, self.keys.l1_address(), &self.keys.rollup))
    }

    /// Submits until so many more are acknowledged, or the program is dead.
    async fn pay(&mut self, node: &Node, domain: &Domain, count: usize) {
        let (goal, start) = (self.acknowledged.len() + count, Instant::now());
        while self.acknowledged.len() < goal {
            assert!(start.elapsed() < PATIENCE, "the program takes nothing");
            tokio::time::sleep(Duration::from_millis(20)).await;
            let Some(signed) = self.transfer(node, domain).await else {
                if node.client.info().await.is_err() {
                    return;
                }
                continue;
            };
            match node.client.submit(domain, &[signed]).await {
                Ok(accepted) => self.acknowledged.extend(accepted.transactions),
                Err(NodeError::Refused(problem)) => {
                    let later = matches!(problem.status, 429 | 503);
                    assert!(later, "{problem:?}");
                }
                Err(_) => return, // no answer: the same is submitted again after the start
            }
        }
    }
}

async fn all_proven(node: &Node, payer: &Payer) {
    let start = Instant::now();
    for id in &payer.acknowledged {
        loop {
            let found = node.client.transaction(*id).await.unwrap();
            let view = found.unwrap_or_else(|| panic!("{id} was acknowledged and is lost"));
            assert!(
                view.dropped_because.is_none(),
                "{id} was acknowledged and dropped: {:?}",
                view.dropped_because
            );
            let stage = serde_json::to_value(view.stage).unwrap();
            if stage == "proven" || stage == "finalised" {
                break;
            }
            assert!(start.elapsed() < PATIENCE, "{id} stays {stage}");
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    }
}

/// Each number from 1 on, once.
fn assert_each_once(numbers: Vec<u64>, what: &str) {
    let expected: Vec<u64> = (1..=numbers.len() as u64).collect();
    assert_eq!(numbers, expected, "{what}");
}

async fn survives(setup: Setup, seed: u64) {
    println!("seed {seed}");
    let mut random = rand::rngs::StdRng::seed_from_u64(seed);
    let mut payer = Payer {
        keys: keys(1),
        valid_until: Timestamp(now_millis() / 1000 + 7 * 86_400),
        acknowledged: Vec::new(),
    };
    let mut domain = None;
    for _ in 0..KILLS {
        let node = setup.start().await;
        let l1 = L1Provider::connect_url(&node.l1).await.unwrap();
        let domain = *domain.get_or_insert(Domain::new(l1.chain_id(), node.contract));
        let life = Duration::from_millis(random.gen_range(100..2500));
        let load = async {
            payer.pay(&node, &domain, TRANSFERS).await;
            std::future::pending::<()>().await
        };
        // Whatever it is doing when its time is up: accepting, sealing, proving, posting.
        let _ = tokio::time::timeout(life, load).await;
        drop(node);
    }
    let node = setup.start().await;
    let domain = domain.unwrap();
    payer.pay(&node, &domain, TRANSFERS).await;
    assert!(payer.acknowledged.len() >= TRANSFERS);
    all_proven(&node, &payer).await;

    let l1 = L1Provider::connect_url(&node.l1).await.unwrap();
    let contract = Contract::new(l1, node.contract);
    let committed = contract.logs::<Rollup::BatchCommitted>(0).await.unwrap();
    assert_each_once(
        committed.iter().map(|(_, event)| event.number).collect(),
        "commits",
    );
    let proven = contract.logs::<Rollup::BatchProven>(0).await.unwrap();
    assert_each_once(
        proven.iter().map(|(_, event)| event.number).collect(),
        "proofs",
    );
    let state = rebuild(&contract, 0, |_, _| ()).await.unwrap();
    let receiver = state.accounts_of(&[keys(2).owner()]);
    let payer_has = state.accounts_of(&[keys(1).owner()]);
    let moved = AMOUNT * payer.acknowledged.len() as u128;
    assert_eq!(
        receiver[0].1.balance.0,
        100 * ETHER + moved,
        "each transfer happened once"
    );
    assert_eq!(payer_has[0].1.balance.0, 100 * ETHER - moved);
}

/// The chain dies with the node.
#[tokio::test]
async fn dev_survives_kills_at_random_moments() {
    let arguments = ["dev", "--l1-listen", "127.0.0.1:0"]
        .map(str::to_owned)
        .to_vec();
    let folder = tempfile::tempdir().unwrap();
    survives(
        Setup {
            folder,
            arguments,
            variables: vec![],
            l1: None,
        },
        now_millis(),
    )
    .await;
}

/// The chain lives on, and shows whatever the node does twice.
#[tokio::test]
async fn a_node_on_anvil_survives_kills_at_random_moments() {
    let anvil = Anvil::spawn().unwrap();
    let l1 = anvil.connect().await.unwrap();
    let contract = deployed(&l1).await;
    let client = Contract::new(l1.clone(), L1Address(contract.into_array()));
    for user in [1, 2].map(keys) {
        let deposit = client.deposit(&user.l1, TokenId::ZERO, Amount(100 * ETHER), user.owner());
        deposit.await.unwrap();
    }
    let setup = Setup::operator(anvil.url(), contract);
    survives(setup, now_millis()).await;
}

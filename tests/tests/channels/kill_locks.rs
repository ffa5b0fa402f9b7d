//! Both sides pay each other's invoices, with locks, and SIGKILL hits either at random moments: between the lock, the preimage and
//! the payment. Some invoices are cancelled while they are being paid. At the end every payment has ended, the same way on both sides.
//!
//! ```text
//! start → invoice of the payee, order of the payer, both ways, pipelined → kill one or both → start → ask after what was not
//! answered → … → wait for every end → compare with the payee's invoices and both sides' events → close, count
//! ```

use crate::ETHER;
use crate::kill::{KILLS, LIFE, deaths, seeded};
use crate::party::{LOOK, PATIENCE, Party};
use crate::stage::Stage;
use futures::StreamExt;
use rand::Rng;
use serde_json::{Value, json};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// Payments that each side has under way.
const PIPELINE: usize = 12;
/// Each of so many invoices is cancelled while it is being paid.
const CANCEL_EVERY: u128 = 4;
/// After a request that was not answered or not taken.
const PAUSE: Duration = Duration::from_millis(20);

/// What became of an order, as the payer's user knows it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fate {
    /// It may be under way, or not.
    Unanswered,
    /// The node has it.
    Ordered,
    /// The node did not take it, or has never heard of it.
    Refused,
    Succeeded,
    Failed,
}

/// An invoice and what became of it.
#[derive(Debug, Clone)]
struct Bill {
    amount: u128,
    text: String,
    fate: Fate,
}

/// What one side ordered, by payment hash.
#[derive(Default)]
struct Bills {
    bills: Mutex<BTreeMap<String, Bill>>,
    next: AtomicU64,
}

impl Bills {
    fn set(&self, hash: &str, fate: Fate) {
        if let Some(bill) = self.bills.lock().unwrap().get_mut(hash) {
            bill.fate = fate;
        }
    }

    fn of(&self, wanted: Fate) -> BTreeMap<String, Bill> {
        let bills = self.bills.lock().unwrap();
        let found = bills.iter().filter(|(_, bill)| bill.fate == wanted);
        found
            .map(|(hash, bill)| (hash.clone(), bill.clone()))
            .collect()
    }

    fn sum(&self) -> u128 {
        self.of(Fate::Succeeded)
            .values()
            .map(|bill| bill.amount)
            .sum()
    }

    /// The payee makes an invoice; its hash, if the payee lives to say it.
    async fn bill(&self, payee: &Party) -> Option<String> {
        let number = self.next.fetch_add(1, Ordering::Relaxed) + 1;
        let amount = u128::from(number);
        let key = format!("invoice-{number}");
        let body = json!({ "amount": amount.to_string() });
        let (status, made) = payee
            .post("/v1/channel-invoices", &body, Some(&key))
            .await?;
        if status != 201 {
            assert!(matches!(status, 429 | 503), "{}: {made}", payee.name);
            return None;
        }
        let hash = made["says"]["hash"].as_str().unwrap().to_owned();
        let bill = Bill {
            amount,
            text: made["invoice"].as_str().unwrap().to_owned(),
            fate: Fate::Unanswered,
        };
        self.bills.lock().unwrap().insert(hash.clone(), bill);
        Some(hash)
    }

    /// Whether the payee changes its mind while this one is being paid: sometimes too late, sometimes not.
    fn is_cancelled(&self, hash: &str) -> bool {
        self.bills.lock().unwrap()[hash]
            .amount
            .is_multiple_of(CANCEL_EVERY)
    }

    /// Orders once.
    async fn order(&self, payer: &Party, hash: &str) {
        let text = self.bills.lock().unwrap()[hash].text.clone();
        let body = json!({ "invoice": text });
        match payer.post("/v1/channel-payments", &body, None).await {
            Some((202, _)) => self.set(hash, Fate::Ordered),
            Some((409 | 422 | 429, _)) => self.set(hash, Fate::Refused),
            // A busy node does not say whether it has taken it.
            Some((503, _)) | None => {}
            Some((status, body)) => panic!("{} answers {status}: {body}", payer.name),
        }
    }

    /// Looks once where an order stands.
    async fn look(&self, payer: &Party, hash: &str) {
        let path = format!("/v1/channel-payments/{hash}");
        let payment = payer.get(&path).await.unwrap_or_default();
        match payment["state"].as_str() {
            Some("succeeded") => self.set(hash, Fate::Succeeded),
            Some("failed") => self.set(hash, Fate::Failed),
            _ => {}
        }
    }

    /// Orders and follows, one after the other, until this is dropped.
    async fn pay_one_by_one(&self, payer: &Party, payee: &Party) {
        loop {
            let Some(hash) = self.bill(payee).await else {
                tokio::time::sleep(PAUSE).await;
                continue;
            };
            match self.is_cancelled(&hash) {
                true => tokio::join!(self.order(payer, &hash), cancel(payee, &hash)).0,
                false => self.order(payer, &hash).await,
            }
            while self.bills.lock().unwrap()[&hash].fate == Fate::Ordered {
                self.look(payer, &hash).await;
                tokio::time::sleep(Duration::from_millis(2)).await;
            }
            if self.bills.lock().unwrap()[&hash].fate != Fate::Succeeded {
                tokio::time::sleep(PAUSE).await;
            }
        }
    }

    async fn pay(&self, payer: &Party, payee: &Party) {
        let workers = futures::stream::iter(0..PIPELINE);
        workers
            .for_each_concurrent(PIPELINE, |_| self.pay_one_by_one(payer, payee))
            .await;
    }

    /// What was not answered is under way or was never heard of: the node knows, and is asked again only in the second case.
    async fn ask_again(&self, payer: &Party) {
        for hash in self.of(Fate::Unanswered).into_keys() {
            let answer = payer.get(&format!("/v1/channel-payments/{hash}")).await;
            match answer {
                Some(_) => self.set(&hash, Fate::Ordered),
                None => self.order(payer, &hash).await,
            }
        }
    }

    /// Waits until everything has ended.
    async fn ends(&self, payer: &Party) {
        let start = Instant::now();
        loop {
            self.ask_again(payer).await;
            let open = self.of(Fate::Ordered);
            if open.is_empty() && self.of(Fate::Unanswered).is_empty() {
                return;
            }
            assert!(
                start.elapsed() < PATIENCE,
                "{} has {open:?}\n{}",
                payer.name,
                payer.log()
            );
            for hash in open.keys() {
                self.look(payer, hash).await;
            }
            tokio::time::sleep(LOOK).await;
        }
    }

    /// Compares with what the payee has, invoice by invoice.
    async fn compare(&self, payer: &Party, payee: &Party) {
        let paid = self.of(Fate::Succeeded);
        payee.until_events("invoice_paid", paid.len()).await;
        let told = told(payee, "invoice_paid").await;
        let ended_well = told_once(&told_hashes(&told));
        assert!(ended_well.iter().eq(paid.keys()), "{}", payee.name);
        for event in &told {
            let bill = &paid[event["subject"].as_str().unwrap()];
            assert_eq!(event["amount"], bill.amount.to_string());
        }
        let succeeded = told_once(&told_hashes(&self::told(payer, "payment_succeeded").await));
        assert!(succeeded.iter().eq(paid.keys()), "{}", payer.name);
        let failed: BTreeSet<String> = told_hashes(&self::told(payer, "payment_failed").await)
            .into_iter()
            .collect();
        assert!(
            failed.is_disjoint(&succeeded),
            "{} was told of a payment that failed and succeeded",
            payer.name
        );
        assert!(self.of(Fate::Failed).keys().eq(failed.iter()));
        let bills = self.bills.lock().unwrap().clone();
        for (hash, bill) in bills {
            let invoice = payee.get(&format!("/v1/channel-invoices/{hash}")).await;
            let invoice = invoice.expect("the payee has it");
            let (states, received) = match bill.fate {
                Fate::Succeeded => (["paid", "paid"], bill.amount),
                _ => (["open", "cancelled"], 0),
            };
            let state = invoice["state"].as_str().unwrap();
            assert!(states.contains(&state), "{hash}: {state}, {bill:?}");
            assert_eq!(invoice["received"], received.to_string(), "{hash}");
        }
    }
}

/// The payee takes nothing for an invoice any more, unless it has released it.
async fn cancel(payee: &Party, hash: &str) {
    let path = format!("/v1/channel-invoices/{hash}/cancel");
    payee.post(&path, &json!({}), None).await;
}

async fn told(party: &Party, kind: &str) -> Vec<Value> {
    party.events(kind).await
}

fn told_hashes(events: &[Value]) -> Vec<String> {
    let hash = |event: &Value| event["subject"].as_str().unwrap().to_owned();
    events.iter().map(hash).collect()
}

/// The hashes, none of which is there twice.
fn told_once(hashes: &[String]) -> BTreeSet<String> {
    let once: BTreeSet<String> = hashes.iter().cloned().collect();
    assert_eq!(once.len(), hashes.len(), "something was told twice");
    once
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn killed_between_lock_and_payment_no_invoice_is_paid_twice_or_lost() {
    let mut random = seeded();
    let stage = Stage::new().await;
    let (mut alice, mut bob) = stage.two().await;
    let id = alice.open(&bob, 2 * ETHER).await;
    alice.pay(&id, ETHER).await;
    bob.until_can_send(&id, ETHER).await;
    let (from_alice, from_bob) = (Bills::default(), Bills::default());
    for _ in 0..KILLS {
        let life = Duration::from_millis(random.gen_range(20..LIFE));
        let load = async {
            tokio::join!(from_alice.pay(&alice, &bob), from_bob.pay(&bob, &alice));
        };
        // Whatever they are doing when the time is up: locking, releasing, settling.
        let _ = tokio::time::timeout(life, load).await;
        deaths(&mut random, &mut alice, &mut bob, &id).await;
        tokio::join!(from_alice.ask_again(&alice), from_bob.ask_again(&bob));
    }
    tokio::join!(from_alice.ends(&alice), from_bob.ends(&bob));

    // Both sides know the same, and the balances say it too.
    let (sent_by_alice, sent_by_bob) = (from_alice.sum(), from_bob.sum());
    let (has_alice, has_bob) = (
        ETHER - sent_by_alice + sent_by_bob,
        ETHER + sent_by_alice - sent_by_bob,
    );
    alice.until_can_send(&id, has_alice).await;
    bob.until_can_send(&id, has_bob).await;
    from_alice.compare(&alice, &bob).await;
    from_bob.compare(&bob, &alice).await;
    for (name, bills) in [("alice", &from_alice), ("bob", &from_bob)] {
        let count = |fate| bills.of(fate).len();
        println!(
            "{name}: {} paid, {} failed, {} not taken, {KILLS} deaths",
            count(Fate::Succeeded),
            count(Fate::Failed),
            count(Fate::Refused)
        );
        assert!(count(Fate::Succeeded) > 0, "{name} paid nothing");
        assert!(count(Fate::Failed) > 0, "nothing of {name} failed");
    }

    alice.does(&["close", &id]);
    alice.until_phase(&id, "closed").await;
    bob.until_phase(&id, "closed").await;
    assert_eq!(stage.balance(alice.payout()).await, has_alice);
    assert_eq!(stage.balance(bob.payout()).await, has_bob);
}

//! Both sides pay each other, and SIGKILL hits either at random moments. Whatever was answered holds; whatever was not is asked
//! again under its key, and is paid once.
//!
//! ```text
//! start → pay both ways, pipelined → kill one or both → start → ask again what was not answered → … → compare, close, count
//! ```

use crate::ETHER;
use crate::party::{PATIENCE, Party};
use crate::stage::Stage;
use futures::StreamExt;
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use serde_json::json;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Mutex;
use std::time::{Duration, Instant, SystemTime};

/// Deaths in the test.
pub const KILLS: usize = 5;
/// Payments that each side has under way.
const PIPELINE: usize = 16;
/// The longest life between two deaths, milliseconds.
pub const LIFE: u64 = 900;
/// Set to a printed seed, it repeats that run's moments.
const SEED_VARIABLE: &str = "CHANNEL_KILL_SEED";

/// What became of a request, as the one who asked knows it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fate {
    Paid,
    Refused,
    Unanswered,
}

/// What one side asked for: by number, which is key, reference and amount.
#[derive(Default)]
struct Ledger {
    fates: Mutex<BTreeMap<u128, Fate>>,
    next: std::sync::atomic::AtomicU64,
}

impl Ledger {
    /// Asks once.
    async fn ask(&self, party: &Party, id: &str, number: u128) {
        let body = json!({ "amount": number.to_string(), "reference": format!("{number:064x}") });
        let (path, key) = (
            format!("/v1/channels/{id}/pay"),
            format!("payment-{number}"),
        );
        let answer = party.post(&path, &body, Some(&key)).await;
        let fate = match answer {
            Some((200, _)) => Fate::Paid,
            Some((409 | 422 | 429 | 503, _)) => Fate::Refused,
            Some((status, body)) => panic!("{} answers {status}: {body}", party.name),
            None => Fate::Unanswered,
        };
        self.fates.lock().unwrap().insert(number, fate);
    }

    /// Pays until the party is dead, or this is dropped.
    async fn pay(&self, party: &Party, id: &str) {
        let one = || async {
            loop {
                let number = self.next.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
                let number = u128::from(number) + 1;
                self.fates.lock().unwrap().insert(number, Fate::Unanswered);
                self.ask(party, id, number).await;
                let fate = self.fates.lock().unwrap()[&number];
                if fate != Fate::Paid {
                    tokio::time::sleep(Duration::from_millis(20)).await;
                }
            }
        };
        let workers = futures::stream::iter(0..PIPELINE);
        workers.for_each_concurrent(PIPELINE, |_| one()).await;
    }

    fn of(&self, wanted: Fate) -> BTreeSet<u128> {
        let fates = self.fates.lock().unwrap();
        let found = fates.iter().filter(|(_, fate)| **fate == wanted);
        found.map(|(number, _)| *number).collect()
    }

    /// Asks again, under their keys, for all that was not answered.
    async fn ask_again(&self, party: &Party, id: &str) {
        let start = Instant::now();
        loop {
            let unanswered = self.of(Fate::Unanswered);
            if unanswered.is_empty() {
                return;
            }
            assert!(start.elapsed() < PATIENCE, "{} does not answer", party.name);
            for number in unanswered {
                self.ask(party, id, number).await;
            }
        }
    }
}

/// The payments that reached a party, by reference; none twice.
async fn reached(party: &Party) -> BTreeSet<u128> {
    let mut references = BTreeSet::new();
    for event in party.events("received").await {
        let text = event["subject"].as_str().unwrap().trim_start_matches("0x");
        let reference = u128::from_str_radix(text, 16).unwrap();
        if reference == 0 {
            continue; // the payment that gave Bob something to spend
        }
        assert_eq!(event["amount"], reference.to_string());
        assert!(
            references.insert(reference),
            "payment {reference} came twice"
        );
    }
    references
}

/// Moments from a seed that is printed, or from the one that is set.
pub fn seeded() -> StdRng {
    let now = SystemTime::now()
        .duration_since(SystemTime::UNIX_EPOCH)
        .unwrap();
    let seed = std::env::var(SEED_VARIABLE)
        .ok()
        .and_then(|seed| seed.parse().ok());
    let seed = seed.unwrap_or(now.as_nanos() as u64);
    println!("seed {seed}: repeat with {SEED_VARIABLE}={seed}");
    StdRng::seed_from_u64(seed)
}

/// Kills one of two, or both, starts them again and waits until the channel is usable.
pub async fn deaths(random: &mut StdRng, alice: &mut Party, bob: &mut Party, id: &str) {
    let who = random.gen_range(0..5);
    for (party, hit) in [(&mut *alice, who != 0), (&mut *bob, who != 1)] {
        // One of them in four cases of five, both in three.
        if hit && (who < 2 || random.gen_bool(0.7)) {
            party.kill();
            party.start().await;
        }
    }
    for party in [alice, bob] {
        party.until_phase(id, "open").await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn killed_at_random_moments_neither_side_loses_or_doubles_a_payment() {
    let mut random = seeded();
    let stage = Stage::new().await;
    let (mut alice, mut bob) = stage.two().await;
    let id = alice.open(&bob, 2 * ETHER).await;
    alice.pay(&id, ETHER).await;
    bob.until_can_send(&id, ETHER).await;
    let (from_alice, from_bob) = (Ledger::default(), Ledger::default());
    for _ in 0..KILLS {
        let life = Duration::from_millis(random.gen_range(20..LIFE));
        let load = async {
            tokio::join!(from_alice.pay(&alice, &id), from_bob.pay(&bob, &id));
        };
        // Whatever they are doing when the time is up: signing, writing, answering.
        let _ = tokio::time::timeout(life, load).await;
        deaths(&mut random, &mut alice, &mut bob, &id).await;
        tokio::join!(
            from_alice.ask_again(&alice, &id),
            from_bob.ask_again(&bob, &id)
        );
    }

    // Both sides know the same, and what was answered is what happened.
    let paid = [&from_alice, &from_bob].map(|ledger| ledger.of(Fate::Paid));
    let [sent_by_alice, sent_by_bob] = paid.each_ref().map(|paid| paid.iter().sum::<u128>());
    let (has_alice, has_bob) = (
        ETHER - sent_by_alice + sent_by_bob,
        ETHER + sent_by_alice - sent_by_bob,
    );
    alice.until_can_send(&id, has_alice).await;
    bob.until_can_send(&id, has_bob).await;
    bob.until_events("received", paid[0].len() + 1).await;
    alice.until_events("received", paid[1].len()).await;
    assert_eq!(reached(&bob).await, paid[0]);
    assert_eq!(reached(&alice).await, paid[1]);
    for (ledger, reached) in [(&from_alice, &paid[0]), (&from_bob, &paid[1])] {
        assert!(
            ledger.of(Fate::Refused).is_disjoint(reached),
            "refused and paid"
        );
    }
    println!(
        "{} and {} payments, {KILLS} deaths",
        paid[0].len(),
        paid[1].len()
    );

    alice.does(&["close", &id]);
    alice.until_phase(&id, "closed").await;
    bob.until_phase(&id, "closed").await;
    assert_eq!(stage.balance(alice.payout()).await, has_alice);
    assert_eq!(stage.balance(bob.payout()).await, has_bob);
}

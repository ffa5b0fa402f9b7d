//! `Paid` between whole nodes: what a payee believes of it, what it costs, and what becomes of the invoice.

#![cfg(feature = "node")]

mod world;

use millrace_channels::machine::Identity;
use millrace_channels::machine::payment::InvoiceState;
use millrace_channels::node::backup::{self, BackupTarget};
use millrace_channels::node::paid::{Claim, Due, Place, RollupView, Seen, Telling, Whereabouts};
use millrace_channels::node::restore::restore;
use millrace_channels::node::talk::{self, Talk};
use millrace_channels::node::{
    Answer, EventBody, InvoiceView, NodeError, PayOrder, Payee, Request, Terms, unix_time,
};
use millrace_channels::signing::address;
use millrace_channels::store::Store;
use millrace_channels::types::{Address, PaymentHash};
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;
use world::{Person, World, amount, key, open};

const DEPOSIT: u128 = 1_000_000;
const FALLBACK: [u8; 32] = [6; 32];
const TRANSFER: [u8; 32] = [3; 32];
const PROOF: [u8; 180] = [5; 180];
const PLACE: Place = Place { batch: 9, row: 2 };

/// A final transfer.
#[derive(Clone, Copy)]
struct Final {
    units: u128,
    token: Address,
    to: [u8; 32],
}

/// A rollup of which the test says what is final.
#[derive(Default)]
struct Rollup {
    transfers: Mutex<BTreeMap<Place, Final>>,
    own: Mutex<BTreeMap<[u8; 32], Whereabouts>>,
    checks: AtomicUsize,
}

impl RollupView for Rollup {
    fn check(&self, claim: &Claim, due: &Due) -> Seen {
        self.checks.fetch_add(1, Ordering::Relaxed);
        let transfers = self.transfers.lock().unwrap();
        let Some(found) = transfers.get(&claim.place) else {
            return Seen::NotYet("no such batch".to_owned());
        };
        let rules = [
            (claim.proof == PROOF, "another payer"),
            (found.to == due.fallback, "another account"),
            (found.token == due.token, "another token"),
            (
                found.units >= due.amount.map_or(1, |amount| amount.get()),
                "too small",
            ),
        ];
        match rules.iter().find(|(holds, _)| !holds) {
            Some((_, why)) => Seen::No((*why).to_owned()),
            None => Seen::Paid {
                amount: found.units,
            },
        }
    }

    fn find(&self, transfer: &[u8; 32]) -> Whereabouts {
        let own = self.own.lock().unwrap();
        own.get(transfer).cloned().unwrap_or(Whereabouts::NotYet)
    }
}

impl Rollup {
    fn lands(&self, place: Place, transfer: Final) {
        self.transfers.lock().unwrap().insert(place, transfer);
    }
}

const GOOD: Final = Final {
    units: 500,
    token: Address::ZERO,
    to: FALLBACK,
};

fn terms() -> Terms {
    Terms {
        token: Address::ZERO,
        amount: Some(amount(500)),
        description: "tea".to_owned(),
        life_secs: 600,
        hold: false,
        fallback: Some(FALLBACK),
        hints: Vec::new(),
    }
}

async fn ask(payee: &Person, terms: Terms) -> (PaymentHash, String) {
    match payee.running.handle.make_invoice(terms, None).await {
        Ok(Answer::Invoice { hash, text }) => (hash, text),
        other => panic!("no invoice: {other:?}"),
    }
}

fn order(text: &str) -> PayOrder {
    PayOrder {
        to: Payee::Invoice(text.to_owned()),
        amount: None,
        max_fee: None,
        max_parts: None,
        deadline_secs: Some(1),
    }
}

async fn view(person: &Person, hash: PaymentHash) -> InvoiceView {
    person.running.handle.invoice(hash).await.unwrap().unwrap()
}

async fn until_state(person: &Person, hash: PaymentHash, wanted: &str) -> InvoiceView {
    for _ in 0..500 {
        let found = view(person, hash).await;
        if found.state(unix_time()) == wanted {
            return found;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    panic!(
        "the invoice is never {wanted}: {:?}",
        view(person, hash).await
    );
}

async fn until_claim(person: &Person, hash: PaymentHash, wanted: &str) {
    for _ in 0..500 {
        let found = view(person, hash).await;
        assert_eq!(found.state(unix_time()), "open");
        if found.claim.as_ref().is_some_and(|why| why.contains(wanted)) {
            return;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    panic!("no claim is {wanted}: {:?}", view(person, hash).await);
}

fn told(person: &Person, what: impl Fn(&EventBody) -> bool) -> usize {
    let events = person.running.handle.events(1, 1000).unwrap();
    events.iter().filter(|event| what(&event.body)).count()
}

async fn until_told(person: &Person, what: impl Fn(&EventBody) -> bool) {
    for _ in 0..500 {
        if told(person, &what) > 0 {
            return;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    panic!("{} is not told", person.name);
}

async fn tell(payer: &Person, text: &str) -> Result<Answer, NodeError> {
    let telling = Telling {
        invoice: text.to_owned(),
        transfer: TRANSFER,
        proof: PROOF.to_vec(),
    };
    let request = Request::TellPaid(telling);
    payer.running.handle.request(request, None).await
}

/// The machine's payment refuses to begin.
async fn is_refused(payer: &Person, text: &str) {
    let request = Request::PayOver(order(text));
    match payer.running.handle.request(request, None).await {
        Err(NodeError::PaidOnRollup(_)) => {}
        other => panic!("{other:?}"),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_payee_is_told_until_it_has_seen_the_transfer_and_takes_nothing_more() {
    let mut world = World::new().await;
    let (ours, theirs) = (Arc::new(Rollup::default()), Arc::new(Rollup::default()));
    world.rollup = Some(ours.clone());
    let payer = world.start(1, vec![]);
    let third = world.start(3, vec![]);
    world.rollup = Some(theirs.clone());
    let payee = world.start(2, vec![]);
    open(&payer, &payee, DEPOSIT).await;
    open(&third, &payee, DEPOSIT).await;
    let (hash, text) = ask(&payee, terms()).await;

    // The transfer is on its way: nothing is said, and this node pays the invoice no other way.
    tell(&payer, &text).await.unwrap();
    is_refused(&payer, &text).await;
    tokio::time::sleep(Duration::from_millis(300)).await;
    assert_eq!(theirs.checks.load(Ordering::Relaxed), 0);

    // It is final for the payer, whose word alone marks nothing.
    let at = Whereabouts::At(PLACE);
    ours.own.lock().unwrap().insert(TRANSFER, at);
    until_claim(&payee, hash, "not yet").await;
    // The payer dies meanwhile; what it has to say is on its disk.
    world.kill(payer).await;
    world.rollup = Some(ours.clone());
    let payer = world.start(1, vec![]);
    theirs.lands(PLACE, GOOD);
    let seen = until_state(&payee, hash, "paid_on_rollup").await;
    let paid = seen.rollup.unwrap();
    assert_eq!((paid.place, paid.amount, paid.twice), (PLACE, 500, false));
    assert_eq!(seen.kept.state, InvoiceState::Cancelled);
    until_told(
        &payer,
        |body| matches!(body, EventBody::PayeeTold { hash: told } if *told == hash),
    )
    .await;
    assert_eq!(
        told(&payee, |body| matches!(
            body,
            EventBody::InvoicePaidOnRollup {
                twice: false,
                amount: 500,
                ..
            }
        )),
        1
    );

    // Somebody else who pays it over channels is refused by the payee, and has paid nothing.
    let request = Request::PayOver(order(&text));
    let answer = third.running.handle.request(request, None).await.unwrap();
    assert_eq!(answer, Answer::Paying { hash });
    until_told(&third, |body| {
        matches!(body, EventBody::PaymentGivenUp { .. })
    })
    .await;
    assert_eq!(view(&payee, hash).await.kept.received, 0);

    // Said twice is believed once, and it is the disk that remembers.
    payee
        .until("a write", |state| (state.unwritten() == 0).then_some(()))
        .await;
    let checks = theirs.checks.load(Ordering::Relaxed);
    say(&world, 1, 2, hash, PLACE, &PROOF);
    tokio::time::sleep(Duration::from_millis(300)).await;
    assert_eq!(theirs.checks.load(Ordering::Relaxed), checks);
    assert_eq!(
        told(&payee, |body| matches!(
            body,
            EventBody::InvoicePaidOnRollup { .. }
        )),
        1
    );
    for person in [payer, payee, third] {
        person.running.shutdown().await;
    }
}

/// Says `Paid` in the name of a node.
fn say(world: &World, from: u8, to: u8, hash: PaymentHash, place: Place, proof: &[u8]) {
    let claim = Claim {
        hash,
        place,
        proof: proof.to_vec(),
    };
    world.say(from, to, talk::encode(&Talk::Paid(claim)));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_false_claim_marks_nothing_and_costs_little() {
    let mut world = World::new().await;
    let rollup = Arc::new(Rollup::default());
    world.rollup = Some(rollup.clone());
    let payee = world.start(2, vec![]);
    let _stranger = world.exchange.join(key(7).public());
    let (hash, _) = ask(&payee, terms()).await;
    let claim = async |place: Place, proof: &[u8], why: &str| {
        // A tick apart: no claim is dropped for its number.
        tokio::time::sleep(Duration::from_millis(120)).await;
        say(&world, 7, 2, hash, place, proof);
        until_claim(&payee, hash, why).await;
    };
    let at = |row| Place { batch: 9, row };
    claim(at(0), &PROOF, "not yet").await;
    rollup.lands(at(1), Final { units: 499, ..GOOD });
    claim(at(1), &PROOF, "too small").await;
    let token = Address([4; 20]);
    rollup.lands(at(2), Final { token, ..GOOD });
    claim(at(2), &PROOF, "another token").await;
    rollup.lands(
        at(3),
        Final {
            to: [1; 32],
            ..GOOD
        },
    );
    claim(at(3), &PROOF, "another account").await;
    rollup.lands(at(4), GOOD);
    claim(at(4), &[1; 180], "another payer").await;
    // An invoice that cannot be paid there at all.
    let (bare, _) = ask(
        &payee,
        Terms {
            fallback: None,
            ..terms()
        },
    )
    .await;
    tokio::time::sleep(Duration::from_millis(120)).await;
    say(&world, 7, 2, bare, at(4), &PROOF);
    until_claim(&payee, bare, "names no account").await;

    // The right one counts, and only for one invoice.
    tokio::time::sleep(Duration::from_millis(120)).await;
    say(&world, 7, 2, hash, at(4), &PROOF);
    until_state(&payee, hash, "paid_on_rollup").await;
    let (second, _) = ask(&payee, terms()).await;
    let kept = payee.until("the state", |state| Some(state.unwritten()));
    assert_eq!(kept.await, 0);
    tokio::time::sleep(Duration::from_millis(120)).await;
    say(&world, 7, 2, second, at(4), &PROOF);
    until_claim(&payee, second, "has paid another invoice").await;

    // A flood about an invoice is looked at a few times, and about unknown hashes not at all.
    let checks = rollup.checks.load(Ordering::Relaxed);
    let ticks = std::time::Instant::now();
    for number in 0..2000u32 {
        say(&world, 7, 2, second, at(100 + number), &PROOF);
        say(&world, 7, 2, PaymentHash([8; 32]), at(4), &PROOF);
    }
    tokio::time::sleep(Duration::from_millis(200)).await;
    let most = 2 * (ticks.elapsed().as_millis() as usize / 50 + 2);
    let looked = rollup.checks.load(Ordering::Relaxed) - checks;
    assert!(looked <= most, "{looked} looks, at most {most}");
    assert_eq!(view(&payee, second).await.state(unix_time()), "open");
    payee.running.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn two_claims_at_once_count_one_transfer_once() {
    let mut world = World::new().await;
    let rollup = Arc::new(Rollup::default());
    rollup.lands(PLACE, GOOD);
    world.rollup = Some(rollup);
    let payee = world.start(2, vec![]);
    let _stranger = world.exchange.join(key(7).public());
    let (first, _) = ask(&payee, terms()).await;
    let (second, _) = ask(&payee, terms()).await;
    for hash in [first, second] {
        say(&world, 7, 2, hash, PLACE, &PROOF);
    }
    until_told(&payee, |body| {
        matches!(body, EventBody::InvoicePaidOnRollup { .. })
    })
    .await;
    tokio::time::sleep(Duration::from_millis(300)).await;
    let states = [view(&payee, first).await, view(&payee, second).await];
    let mut states = states.map(|view| view.state(unix_time()));
    states.sort_unstable();
    assert_eq!(states, ["open", "paid_on_rollup"]);
    payee.running.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn locks_that_wait_go_back_and_money_that_was_released_stays() {
    let mut world = World::new().await;
    let rollup = Arc::new(Rollup::default());
    world.rollup = Some(rollup.clone());
    let (payer, payee) = (world.start(1, vec![]), world.start(2, vec![]));
    open(&payer, &payee, DEPOSIT).await;
    // Held: the money waits for the payee's word when the transfer is seen.
    let held = Terms {
        hold: true,
        ..terms()
    };
    let (hash, text) = ask(&payee, held).await;
    let request = Request::PayOver(order(&text));
    payer.running.handle.request(request, None).await.unwrap();
    until_state(&payee, hash, "held").await;
    rollup.lands(PLACE, GOOD);
    say(&world, 1, 2, hash, PLACE, &PROOF);
    let view = until_state(&payee, hash, "paid_on_rollup").await;
    assert!(!view.rollup.unwrap().twice);
    until_told(&payer, |body| {
        matches!(
            body,
            EventBody::PaymentGivenUp { .. } | EventBody::PaymentFailed { .. }
        )
    })
    .await;
    // Released: it was paid twice, and the event says so.
    let (hash, text) = ask(&payee, terms()).await;
    let request = Request::PayOver(order(&text));
    payer.running.handle.request(request, None).await.unwrap();
    until_state(&payee, hash, "paid").await;
    let place = Place { batch: 10, row: 0 };
    rollup.lands(place, GOOD);
    say(&world, 1, 2, hash, place, &PROOF);
    until_told(&payee, |body| {
        matches!(body, EventBody::InvoicePaidOnRollup { twice: true, .. })
    })
    .await;
    let view = until_state(&payee, hash, "paid").await;
    assert!(view.rollup.unwrap().twice);
    assert_eq!(view.kept.received, 500);
    payer.running.shutdown().await;
    payee.running.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_without_a_view_of_the_rollup_keeps_a_claim_unchecked() {
    let world = World::new().await;
    let payee = world.start(2, vec![]);
    let _stranger = world.exchange.join(key(7).public());
    let (hash, _) = ask(&payee, terms()).await;
    say(&world, 7, 2, hash, PLACE, &PROOF);
    until_claim(&payee, hash, "unchecked").await;
    payee.running.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_transfer_that_does_not_happen_frees_the_invoice() {
    let mut world = World::new().await;
    let rollup = Arc::new(Rollup::default());
    world.rollup = Some(rollup.clone());
    let (payer, payee) = (world.start(1, vec![]), world.start(2, vec![]));
    open(&payer, &payee, DEPOSIT).await;
    let (hash, text) = ask(&payee, terms()).await;
    tell(&payer, &text).await.unwrap();
    is_refused(&payer, &text).await;
    let dropped = Whereabouts::Dropped("it expired".to_owned());
    rollup.own.lock().unwrap().insert(TRANSFER, dropped);
    until_told(&payer, |body| {
        matches!(body, EventBody::PayeeNotTold { .. })
    })
    .await;
    let request = Request::PayOver(order(&text));
    payer.running.handle.request(request, None).await.unwrap();
    until_state(&payee, hash, "paid").await;
    payer.running.shutdown().await;
    payee.running.shutdown().await;
}

/// A payee restored from its backup knows what was paid on the rollup: the hash is taken no more, nor the transfer again. An
/// invoice that was not paid is listed as before, and can be paid on either rail.
#[tokio::test(flavor = "multi_thread")]
async fn a_backup_has_what_was_paid_on_the_rollup_and_what_can_still_be_paid() {
    let mut world = World::new().await;
    let rollup = Arc::new(Rollup::default());
    rollup.lands(PLACE, GOOD);
    world.rollup = Some(rollup);
    let target = BackupTarget {
        path: world.folder.path().join("channels.backup"),
        key: [7; 32].into(),
    };
    world.backup = Some(target.clone());
    let payee = world.start(2, vec![]);
    let _stranger = world.exchange.join(key(7).public());
    let (hash, _) = ask(&payee, terms()).await;
    say(&world, 7, 2, hash, PLACE, &PROOF);
    until_state(&payee, hash, "paid_on_rollup").await;
    let (open, text) = ask(&payee, terms()).await;
    let is_whole = || {
        let whole = |backup: backup::Backup| (backup.marks.len(), backup.texts.len()) == (1, 1);
        backup::read(&target).is_ok_and(whole)
    };
    let mut tries = 0;
    while !is_whole() {
        tries += 1;
        assert!(tries < 600, "the backup never has the mark and the text");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    world.kill(payee).await;

    world.backup = None;
    let fresh = world.folder.path().join("fresh");
    let identity = Identity {
        key: key(2).public(),
        signer: address(&key(2).public()).unwrap(),
        payout: Address([0xa2; 20]),
        domain: world.domain(),
        policy: world.policy.clone(),
    };
    let store = Store::open(&fresh.join("channels")).unwrap();
    restore(identity, &store, Some(&target), &[], &[], &*key(2)).unwrap();
    drop(store);
    let payee = world.start_at(2, &fresh, vec![]);
    let kept = payee.until("the invoice", move |state| {
        Some(state.node.invoices().get(&hash)?.state)
    });
    assert_eq!(kept.await, InvoiceState::Cancelled);
    let listed = payee.running.handle.invoices(u64::MAX, 10).await.unwrap();
    let listed: Vec<_> = listed
        .iter()
        .map(|view| (view.number, view.hash, view.text.as_deref(), view.state(0)))
        .collect();
    assert_eq!(listed, [(1, open, Some(text.as_str()), "open")]);
    let (second, _) = ask(&payee, terms()).await;
    for hash in [open, second] {
        say(&world, 7, 2, hash, PLACE, &PROOF);
        until_claim(&payee, hash, "has paid another invoice").await;
    }
    payee.running.shutdown().await;
}

/// The payer has no channel with the payee and was never told where it listens.
#[tokio::test(flavor = "multi_thread")]
async fn a_payee_is_dialled_at_the_address_that_it_announces_and_left_again() {
    let mut world = World::new().await;
    let rollup = Arc::new(Rollup::default());
    rollup.lands(PLACE, GOOD);
    let at = Whereabouts::At(PLACE);
    rollup.own.lock().unwrap().insert(TRANSFER, at);
    world.rollup = Some(rollup);
    let start = async |name: u8| {
        let folder = world.folder(name);
        world.start_on_loopback(name, &folder, vec![]).await
    };
    let (payer, payer_link) = start(1).await;
    let (middle, middle_link) = start(2).await;
    let (payee, payee_link) = start(3).await;
    for (person, peer, link) in [(&payer, 2, &middle_link), (&middle, 3, &payee_link)] {
        let address = link.local_address().unwrap();
        let peer = key(peer).public();
        person.request(Request::Connect { peer, address }).await;
    }
    open(&middle, &payee, DEPOSIT).await;
    let there = key(3).public();
    let mut tries = 0;
    loop {
        let known = payer
            .running
            .handle
            .network(move |graph| graph.addresses(&there));
        if !known.await.unwrap().is_empty() {
            break;
        }
        tries += 1;
        assert!(tries < 1500, "the payee's address does not come by gossip");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let (hash, text) = ask(&payee, terms()).await;
    tell(&payer, &text).await.unwrap();
    let paid = until_state(&payee, hash, "paid_on_rollup").await;
    assert_eq!(paid.rollup.unwrap().place, PLACE);
    until_told(
        &payer,
        |body| matches!(body, EventBody::PayeeTold { hash: told } if *told == hash),
    )
    .await;
    // It was dialled for that, and for nothing else.
    payer
        .until("the end of the connection", move |state| {
            (!state.connected.contains(&there)).then_some(())
        })
        .await;
    for (person, link) in [
        (payer, payer_link),
        (middle, middle_link),
        (payee, payee_link),
    ] {
        person.running.shutdown().await;
        link.shutdown().await;
    }
}

//! Payments over several hops between whole nodes: ways learnt from gossip, invoices, retries, several parts, restarts.

#![cfg(feature = "node")]

mod world;

use millrace_channels::invoice::{Invoice, InvoiceError};
use millrace_channels::machine::StepError;
use millrace_channels::machine::payment::{InvoiceState, PaymentState};
use millrace_channels::node::{
    Answer, EventBody, NodeError, PayOrder, Payee, Request, RequestKey, Stand, Terms, TowerAddress,
};
use millrace_channels::node::{Link, Waiting, unix_time};
use millrace_channels::routing::gossip::{
    ChannelAnnouncement, ChannelUpdate, Gossip, Item, encode,
};
use millrace_channels::routing::route::RouteError;
use millrace_channels::signing::address;
use millrace_channels::state::Params;
use millrace_channels::types::{Address, ChannelId, PaymentHash, Side, Signature};
use std::time::Duration;
use world::{NOBODY, Person, World, amount, key, open};

const DEPOSIT: u128 = 1_000_000;

fn terms(units: Option<u128>) -> Terms {
    Terms {
        token: Address::ZERO,
        amount: units.map(amount),
        description: "tea".to_owned(),
        life_secs: 600,
        hold: false,
        fallback: None,
        hints: Vec::new(),
    }
}

fn order(text: &str) -> PayOrder {
    PayOrder {
        to: Payee::Invoice(text.to_owned()),
        amount: None,
        max_fee: None,
        max_parts: None,
        deadline_secs: None,
    }
}

fn gift(name: u8, units: u128) -> PayOrder {
    PayOrder {
        to: Payee::Node {
            key: key(name).public(),
            token: Address::ZERO,
        },
        amount: Some(amount(units)),
        ..order("")
    }
}

async fn ask(payee: &Person, terms: Terms) -> (PaymentHash, String) {
    match payee.running.handle.make_invoice(terms, None).await {
        Ok(Answer::Invoice { hash, text }) => (hash, text),
        other => panic!("no invoice: {other:?}"),
    }
}

async fn pay(payer: &Person, order: PayOrder) -> Result<PaymentHash, NodeError> {
    match payer
        .running
        .handle
        .request(Request::PayOver(order), None)
        .await
    {
        Ok(Answer::Paying { hash }) => Ok(hash),
        Ok(other) => panic!("{other:?} is no answer to an order"),
        Err(error) => Err(error),
    }
}

/// How a payment ended.
async fn end_of(payer: &Person, hash: PaymentHash) -> Stand {
    for _ in 0..3000 {
        let record = payer.running.handle.payment(&hash).unwrap().unwrap();
        if record.stand.is_end() {
            return record.stand;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    panic!("payment {hash} does not end");
}

async fn succeeds(payer: &Person, order: PayOrder) -> PaymentHash {
    let hash = pay(payer, order).await.unwrap();
    match end_of(payer, hash).await {
        Stand::Succeeded(preimage) => assert_eq!(preimage.hash(), hash),
        other => panic!("{other:?}"),
    }
    hash
}

/// Waits until a node knows so many directions of channels.
async fn knows(person: &Person, updates: usize) {
    for _ in 0..1500 {
        let known = person.running.handle.network(|graph| {
            let all = graph.channels();
            all.map(|(_, known)| {
                known
                    .updates
                    .iter()
                    .flatten()
                    .filter(|update| !update.disabled)
                    .count()
            })
            .sum::<usize>()
        });
        if known.await.unwrap() >= updates {
            return;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    panic!("{} does not learn {updates} directions", person.name);
}

async fn until_received(payee: &Person, hash: PaymentHash, units: u128) {
    payee
        .until("the money", move |state| {
            (state.node.invoices().get(&hash)?.received == units).then_some(())
        })
        .await;
}

async fn can_send(person: &Person, channel: ChannelId) -> u128 {
    person
        .until("a channel", move |state| {
            Some(state.view(&channel)?.can_send)
        })
        .await
}

/// A line of nodes with channels between neighbours, all known to the first.
async fn line(world: &World, names: &[u8]) -> (Vec<Person>, Vec<ChannelId>) {
    let people: Vec<Person> = names
        .iter()
        .map(|name| world.start(*name, vec![]))
        .collect();
    let mut channels = Vec::new();
    for pair in people.windows(2) {
        channels.push(open(&pair[0], &pair[1], DEPOSIT).await);
    }
    knows(&people[0], 2 * channels.len()).await;
    (people, channels)
}

async fn stop(people: Vec<Person>) {
    for person in people {
        person.running.shutdown().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_invoice_is_paid_over_two_strangers() {
    let world = World::new().await;
    let (people, channels) = line(&world, &[1, 2, 3, 4]).await;
    let (hash, text) = ask(&people[3], terms(Some(50_000))).await;
    let ways = people[0].running.handle.find(order(&text)).await.unwrap();
    assert_eq!(ways.len(), 1);
    assert_eq!(ways[0].nodes, [2, 3, 4].map(|name| key(name).public()));
    assert_eq!(ways[0].sent.get(), 50_000 + 50 + 51);
    assert_eq!(pay(&people[0], order(&text)).await, Ok(hash));
    assert!(matches!(
        end_of(&people[0], hash).await,
        Stand::Succeeded(_)
    ));
    until_received(&people[3], hash, 50_000).await;
    assert_eq!(can_send(&people[0], channels[0]).await, DEPOSIT - 50_101);
    // Paid is paid: the same answer, and no more money.
    assert_eq!(pay(&people[0], order(&text)).await, Ok(hash));
    assert_eq!(can_send(&people[0], channels[0]).await, DEPOSIT - 50_101);
    let record = people[0].running.handle.payment(&hash).unwrap().unwrap();
    assert_eq!((record.attempts, record.fee), (1, 101));
    let views = people[3]
        .running
        .handle
        .invoices(u64::MAX, 10)
        .await
        .unwrap();
    assert_eq!(views.len(), 1);
    assert_eq!(views[0].state(u64::MAX), "paid");
    stop(people).await;
}

/// What a node's channel says that it waits for.
async fn waits(person: &Person, channel: ChannelId) -> Vec<Waiting> {
    person
        .until("a channel", move |state| {
            Some(state.view(&channel)?.waiting)
        })
        .await
        .into_iter()
        .filter(|waiting| waiting.what.contains("tower's receipt"))
        .collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn above_the_limit_a_forward_waits_for_the_tower_over_a_crash() {
    let mut world = World::new().await;
    let guard = TowerAddress {
        key: key(9).public(),
        address: NOBODY,
    };
    let (first, last) = (world.start(1, vec![]), world.start(3, vec![]));
    world.policy.tower_limit = Some(50_000);
    let middle = world.start(2, vec![guard]);
    let into = open(&first, &middle, DEPOSIT).await;
    let onward = open(&middle, &last, DEPOSIT).await;
    knows(&first, 4).await;
    // Without its tower the hop passes on what is below the limit, and nothing above.
    let (small, text) = ask(&last, terms(Some(40_000))).await;
    succeeds(&first, order(&text)).await;
    until_received(&last, small, 40_000).await;
    let (hash, text) = ask(&last, terms(Some(60_000))).await;
    assert_eq!(pay(&first, order(&text)).await, Ok(hash));
    middle
        .until("a lock that waits", move |state| {
            (!state.node.waits_for_tower(&into).is_empty()).then_some(())
        })
        .await;
    let (other, text) = ask(&last, terms(Some(30_000))).await;
    succeeds(&first, order(&text)).await;
    until_received(&last, other, 30_000).await;
    // It says what it waits for, until when, and what ends that, also after a crash.
    world.kill(middle).await;
    let middle = world.start(2, vec![guard]);
    middle
        .until("both channels", move |state| {
            let views = state.views();
            views
                .iter()
                .all(|view| view.phase.name() == "open")
                .then_some(())
        })
        .await;
    let waiting = waits(&middle, into).await;
    assert_eq!(waiting.len(), 1);
    let Waiting {
        what,
        until,
        command,
    } = &waiting[0];
    assert!(what.contains(&hash.to_string()), "{what}");
    assert!(until.is_some_and(|until| until > unix_time()), "{until:?}");
    assert!(command.contains("millrace tower"), "{command}");
    assert_eq!(
        last.running
            .handle
            .invoice(hash)
            .await
            .unwrap()
            .unwrap()
            .kept
            .received,
        0
    );
    // The tower comes: the lock goes on, and what it pays counts.
    let tower = world.start_tower(9);
    assert!(matches!(end_of(&first, hash).await, Stand::Succeeded(_)));
    until_received(&last, hash, 60_000).await;
    assert!(waits(&middle, into).await.is_empty());
    // It goes, and comes again: what it has confirmed stays confirmed, what is new waits again.
    tower.shutdown().await;
    world.exchange.leave(key(9).public());
    let (again, text) = ask(&last, terms(Some(70_000))).await;
    assert_eq!(pay(&first, order(&text)).await, Ok(again));
    middle
        .until("a lock that waits", move |state| {
            (!state.node.waits_for_tower(&into).is_empty()).then_some(())
        })
        .await;
    let tower = world.start_tower(9);
    assert!(matches!(end_of(&first, again).await, Stand::Succeeded(_)));
    until_received(&last, again, 70_000).await;
    assert_eq!(can_send(&middle, onward).await, DEPOSIT - 200_000);
    stop(vec![first, middle, last]).await;
    tower.shutdown().await;
}

/// The payer and the tower are away in the moment of a release; the node says what it should not leave before.
#[tokio::test(flavor = "multi_thread")]
async fn a_release_is_shown_as_unguarded_until_the_towers_receipt_has_its_preimage() {
    let mut world = World::new().await;
    world.policy.tower_limit = Some(0);
    let guard = TowerAddress {
        key: key(9).public(),
        address: NOBODY,
    };
    let tower = world.start_tower(9);
    let payer = world.start(1, vec![guard]);
    let payee = world.start(2, vec![guard]);
    let id = open(&payer, &payee, DEPOSIT).await;
    knows(&payer, 2).await;
    let hold = Terms {
        hold: true,
        ..terms(Some(50_000))
    };
    let (hash, text) = ask(&payee, hold).await;
    assert_eq!(pay(&payer, order(&text)).await, Ok(hash));
    payee
        .until("the payment", move |state| {
            let invoice = state.node.invoices().get(&hash)?;
            (invoice.state == InvoiceState::Held).then_some(())
        })
        .await;
    world.kill(payer).await;
    tower.shutdown().await;
    world.exchange.leave(key(9).public());
    payee.request(Request::Release(hash)).await;
    let shown = |view: &millrace_channels::node::ChannelView| {
        let says = view.waiting.iter().find(|it| it.what.contains("preimages"));
        (view.released, view.released_guarded_by, says.cloned())
    };
    let (released, by, says) = payee
        .until("a release", move |state| {
            let view = state.view(&id)?;
            (view.released > 0).then(|| shown(&view))
        })
        .await;
    assert_eq!((released, by), (1, 0));
    let says = says.expect("it says what is not guarded");
    assert!(says.until.is_some_and(|until| until > unix_time()));
    assert!(says.command.contains("millrace tower"), "{}", says.command);
    let tower = world.start_tower(9);
    payee
        .until("a receipt with the preimage", move |state| {
            (shown(&state.view(&id)?) == (1, 1, None)).then_some(())
        })
        .await;
    // After a restart the stored receipt says the same.
    world.kill(payee).await;
    tower.shutdown().await;
    world.exchange.leave(key(9).public());
    let payee = world.start(2, vec![guard]);
    payee
        .until("what was confirmed", move |state| {
            (shown(&state.view(&id)?) == (1, 1, None)).then_some(())
        })
        .await;
    payee.running.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_payment_is_split_over_two_ways() {
    let world = World::new().await;
    let people: Vec<Person> = [1, 2, 3, 4]
        .iter()
        .map(|name| world.start(*name, vec![]))
        .collect();
    // 1 – 2 – 4 and 1 – 3 – 4, each too small alone.
    for (from, to) in [(0, 1), (1, 3), (0, 2), (2, 3)] {
        open(&people[from], &people[to], DEPOSIT).await;
    }
    knows(&people[0], 8).await;
    let units = DEPOSIT * 3 / 2;
    let (hash, text) = ask(&people[3], terms(Some(units))).await;
    let one = PayOrder {
        max_parts: Some(1),
        ..order(&text)
    };
    let refused = pay(&people[0], one).await;
    assert!(
        matches!(refused, Err(NodeError::Route(RouteError::NoRoute(_)))),
        "{refused:?}"
    );
    assert_eq!(succeeds(&people[0], order(&text)).await, hash);
    until_received(&people[3], hash, units).await;
    let record = people[0].running.handle.payment(&hash).unwrap().unwrap();
    assert!(record.parts.len() >= 2);
    stop(people).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_way_that_fails_in_the_middle_is_replaced() {
    let world = World::new().await;
    let people: Vec<Person> = [1, 2, 3, 4]
        .iter()
        .map(|name| world.start(*name, vec![]))
        .collect();
    // The cheap way is 1 – 2 – 4; what 2 has towards 4 is gone, and gossip does not tell.
    open(&people[0], &people[1], DEPOSIT).await;
    let drained = open(&people[1], &people[3], DEPOSIT).await;
    open(&people[0], &people[2], DEPOSIT).await;
    open(&people[2], &people[3], 2 * DEPOSIT).await;
    knows(&people[0], 8).await;
    people[1].pay(drained, DEPOSIT - 10).await;
    // Where both ways look alike, the payer learns from a first failure; each of several payments must arrive.
    let mut attempts = 0;
    for _ in 0..4 {
        let (hash, text) = ask(&people[3], terms(Some(20_000))).await;
        let one = PayOrder {
            max_parts: Some(1),
            ..order(&text)
        };
        succeeds(&people[0], one).await;
        let record = people[0].running.handle.payment(&hash).unwrap().unwrap();
        attempts += record.attempts;
        until_received(&people[3], hash, 20_000).await;
    }
    let events = people[0].running.handle.events(1, 1000).unwrap();
    let retried = events
        .iter()
        .filter(|event| matches!(event.body, EventBody::PaymentRetried { .. }));
    assert_eq!(retried.count() as u32, attempts - 4);
    let failed = events
        .iter()
        .any(|event| matches!(event.body, EventBody::PaymentGivenUp { .. }));
    assert!(!failed);
    stop(people).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_paid_names_the_rule() {
    let world = World::new().await;
    let (people, channels) = line(&world, &[1, 2, 3]).await;
    let before = can_send(&people[0], channels[0]).await;
    let (_, text) = ask(&people[2], terms(Some(5000))).await;
    // Altered.
    let mut altered = text.clone();
    let end = altered.pop().unwrap();
    altered.push(if end == 'q' { 'p' } else { 'q' });
    assert!(matches!(
        pay(&people[0], order(&altered)).await,
        Err(NodeError::Invoice(InvoiceError::Text(_)))
    ));
    // Another amount than asked for.
    let wrong = PayOrder {
        amount: Some(amount(4999)),
        ..order(&text)
    };
    assert!(matches!(
        pay(&people[0], wrong).await,
        Err(NodeError::Invoice(InvoiceError::Amount { .. }))
    ));
    // No amount at all.
    let (_, open_text) = ask(&people[2], terms(None)).await;
    assert_eq!(
        pay(&people[0], order(&open_text)).await,
        Err(NodeError::Invoice(InvoiceError::NoAmount))
    );
    // Another network.
    let mut foreign = Invoice::parse(&text).unwrap();
    foreign.domain.chain_id += 1;
    let foreign = foreign.sign(&key(3)).unwrap();
    assert!(matches!(
        pay(&people[0], order(&foreign)).await,
        Err(NodeError::Invoice(InvoiceError::OtherNetwork { .. }))
    ));
    // Too expensive, too much, to nobody, to oneself.
    let stingy = PayOrder {
        max_fee: Some(1),
        ..order(&text)
    };
    assert_eq!(
        pay(&people[0], stingy).await,
        Err(NodeError::Route(RouteError::Fee { fee: 5, max: 1 }))
    );
    assert!(matches!(
        pay(&people[0], gift(3, 2 * DEPOSIT)).await,
        Err(NodeError::Route(RouteError::Balance { .. }))
    ));
    assert!(matches!(
        pay(&people[0], gift(7, 1)).await,
        Err(NodeError::Route(RouteError::NoRoute(_)))
    ));
    assert_eq!(
        pay(&people[0], gift(1, 1)).await,
        Err(NodeError::Route(RouteError::Own))
    );
    // A hash that the payee does not know: the payment fails, and says so.
    let mut unknown = Invoice::parse(&text).unwrap();
    unknown.hash = PaymentHash([9; 32]);
    let unknown = unknown.sign(&key(3)).unwrap();
    let hash = pay(&people[0], order(&unknown)).await.unwrap();
    match end_of(&people[0], hash).await {
        Stand::Failed(reason) => assert!(reason.contains("no such invoice"), "{reason}"),
        other => panic!("{other:?}"),
    }
    // Nothing was paid for any of it, and what failed for certain may be ordered again.
    assert_eq!(can_send(&people[0], channels[0]).await, before);
    assert_eq!(pay(&people[0], order(&unknown)).await, Ok(hash));
    assert!(matches!(end_of(&people[0], hash).await, Stand::Failed(_)));
    let record = people[0].running.handle.payment(&hash).unwrap().unwrap();
    assert_eq!(record.number, 1);
    stop(people).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_invoice_that_has_expired_is_neither_paid_nor_taken() {
    let world = World::new().await;
    let (people, _) = line(&world, &[1, 2, 3]).await;
    let (hash, text) = ask(
        &people[2],
        Terms {
            life_secs: 2,
            ..terms(Some(100))
        },
    )
    .await;
    people[2]
        .until("the end of its time", move |state| {
            let invoice = state.node.invoices().get(&hash)?;
            (invoice.state == InvoiceState::Cancelled).then_some(())
        })
        .await;
    assert!(matches!(
        pay(&people[0], order(&text)).await,
        Err(NodeError::Invoice(InvoiceError::Expired { .. }))
    ));
    // A payer whose clock is wrong finds it refused.
    let mut late = Invoice::parse(&text).unwrap();
    late.expires += 600;
    let late = late.sign(&key(3)).unwrap();
    let paid = pay(&people[0], order(&late)).await.unwrap();
    assert!(matches!(end_of(&people[0], paid).await, Stand::Failed(_)));
    let view = people[2].running.handle.invoice(hash).await.unwrap();
    let view = view.unwrap();
    assert_eq!(view.state(view.invoice.expires), "expired");
    stop(people).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hold_invoice_waits_for_its_maker() {
    let world = World::new().await;
    let (people, channels) = line(&world, &[1, 2, 3]).await;
    let hold = || Terms {
        hold: true,
        ..terms(Some(7000))
    };
    for settle in [true, false] {
        let (hash, text) = ask(&people[2], hold()).await;
        assert_eq!(pay(&people[0], order(&text)).await, Ok(hash));
        people[2]
            .until("the parts", move |state| {
                let invoice = state.node.invoices().get(&hash)?;
                (invoice.state == InvoiceState::Held).then_some(())
            })
            .await;
        // While it waits, paying again is no second payment.
        assert_eq!(pay(&people[0], order(&text)).await, Ok(hash));
        let record = people[0].running.handle.payment(&hash).unwrap().unwrap();
        assert_eq!((record.stand.name(), record.attempts), ("sending", 1));
        let decision = if settle {
            Request::Release(hash)
        } else {
            Request::Cancel(hash)
        };
        people[2].request(decision).await;
        match (settle, end_of(&people[0], hash).await) {
            (true, Stand::Succeeded(_)) => until_received(&people[2], hash, 7000).await,
            (false, Stand::Failed(reason)) => {
                assert!(reason.contains("cancelled"), "{reason}");
            }
            (_, other) => panic!("{other:?}"),
        }
    }
    assert_eq!(can_send(&people[0], channels[0]).await, DEPOSIT - 7007);
    // What waits for nothing cannot be settled.
    let (hash, _) = ask(&people[2], hold()).await;
    let early = people[2]
        .running
        .handle
        .request(Request::Release(hash), None);
    assert_eq!(
        early.await,
        Err(NodeError::Step(StepError::NoInvoice(hash)))
    );
    stop(people).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_gift_needs_a_taker() {
    let mut world = World::new().await;
    let alice = world.start(1, vec![]);
    let bob = world.start(2, vec![]);
    world.policy.keysend = false;
    let carol = world.start(3, vec![]);
    open(&alice, &bob, DEPOSIT).await;
    open(&bob, &carol, DEPOSIT).await;
    knows(&alice, 4).await;
    let hash = pay(&alice, gift(3, 600)).await.unwrap();
    match end_of(&alice, hash).await {
        Stand::Failed(reason) => assert!(reason.contains("no such invoice"), "{reason}"),
        other => panic!("{other:?}"),
    }
    assert_eq!(
        carol
            .running
            .handle
            .ask(|state| state.node.invoices().len())
            .await,
        Ok(0)
    );
    // Bob takes gifts; one key is one gift.
    let key = RequestKey {
        key: "tip".to_owned(),
        request: [7; 32],
    };
    let ask = || {
        let request = Request::PayOver(gift(2, 600));
        alice.running.handle.request(request, Some(key.clone()))
    };
    let (first, second) = tokio::join!(ask(), ask());
    let third = ask().await;
    assert_eq!(first, second);
    assert_eq!(second, third);
    let Ok(Answer::Paying { hash }) = first else {
        panic!("{first:?}");
    };
    assert!(matches!(end_of(&alice, hash).await, Stand::Succeeded(_)));
    until_received(&bob, hash, 600).await;
    bob.until("a write", |state| (state.unwritten() == 0).then_some(()))
        .await;
    // It is told as what it is, and listed once among the invoices, though none was made.
    let listed = bob.running.handle.invoices(u64::MAX, 10);
    let mut listed = listed.await.unwrap();
    for _ in 0..100 {
        if listed.is_empty() {
            tokio::time::sleep(Duration::from_millis(20)).await;
            listed = bob.running.handle.invoices(u64::MAX, 10).await.unwrap();
        }
    }
    let found = &listed[0];
    assert_eq!((listed.len(), found.hash, &found.text), (1, hash, &None));
    assert_eq!(found.invoice.amount, Some(amount(600)));
    assert_eq!(found.state(unix_time()), "paid");
    let events = bob.running.handle.events(1, 1000).unwrap();
    let told: Vec<&EventBody> = events.iter().map(|event| &event.body).collect();
    assert!(told.contains(&&EventBody::KeysendReceived {
        hash,
        received: amount(600)
    }));
    assert!(
        !told
            .iter()
            .any(|body| matches!(body, EventBody::InvoicePaid { .. }))
    );
    let got = bob.running.handle.ask(|state| {
        state
            .node
            .invoices()
            .values()
            .map(|invoice| invoice.received)
            .sum::<u128>()
    });
    assert_eq!(got.await, Ok(600));
    stop(vec![alice, bob, carol]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_payment_under_way_survives_a_crash_and_is_paid_once() {
    let world = World::new().await;
    let (mut people, channels) = line(&world, &[1, 2, 3]).await;
    let (hash, text) = ask(
        &people[2],
        Terms {
            hold: true,
            ..terms(Some(9000))
        },
    )
    .await;
    assert_eq!(pay(&people[0], order(&text)).await, Ok(hash));
    // The answer was durable: the payer may die at once.
    world.kill(people.remove(0)).await;
    let alice = world.start(1, vec![]);
    let record = alice.running.handle.payment(&hash).unwrap().unwrap();
    assert_eq!(record.stand, Stand::Sending);
    people[1]
        .until("the parts", move |state| {
            let invoice = state.node.invoices().get(&hash)?;
            (invoice.state == InvoiceState::Held).then_some(())
        })
        .await;
    assert_eq!(pay(&alice, order(&text)).await, Ok(hash));
    people[1].request(Request::Release(hash)).await;
    assert!(matches!(end_of(&alice, hash).await, Stand::Succeeded(_)));
    // Once more, and it knows that it has paid, and the network without asking anybody.
    knows(&alice, 4).await;
    alice.running.shutdown().await;
    world.exchange.leave(key(1).public());
    let alice = world.start(1, vec![]);
    assert_eq!(pay(&alice, order(&text)).await, Ok(hash));
    let state = alice
        .running
        .handle
        .ask(move |state| {
            state
                .node
                .payments()
                .get(&hash)
                .map(|known| known.state.clone())
        })
        .await;
    assert!(matches!(state, Ok(Some(PaymentState::Succeeded(_)))));
    let known = alice
        .running
        .handle
        .network(|graph| graph.channels().count());
    assert_eq!(known.await, Ok(2));
    alice.until_open().await;
    assert_eq!(can_send(&alice, channels[0]).await, DEPOSIT - 9009);
    people.push(alice);
    stop(people).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_channel_that_nobody_announced_is_reached_by_a_hint() {
    let mut world = World::new().await;
    let alice = world.start(1, vec![]);
    let bob = world.start(2, vec![]);
    world.network.announce = false;
    let carol = world.start(3, vec![]);
    open(&alice, &bob, DEPOSIT).await;
    let hidden = open(&bob, &carol, DEPOSIT).await;
    knows(&alice, 2).await;
    assert!(matches!(
        pay(&alice, gift(3, 600)).await,
        Err(NodeError::Route(RouteError::NoRoute(_)))
    ));
    let (hash, text) = ask(&carol, terms(Some(600))).await;
    let hints = Invoice::parse(&text).unwrap().hints;
    assert_eq!(hints.len(), 1);
    assert_eq!(hints[0].channel, hidden);
    assert_eq!(succeeds(&alice, order(&text)).await, hash);
    until_received(&carol, hash, 600).await;
    stop(vec![alice, bob, carol]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_channel_without_a_deposit_is_not_believed() {
    let world = World::new().await;
    let (people, _) = line(&world, &[1, 2, 3]).await;
    // A stranger with two keys announces a rich channel that L1 does not have, and what it would cost.
    let separator = world.domain().separator();
    let (link, _events) = world.exchange.join(key(8).public());
    let params = Params {
        signer_a: address(&key(8).public()).unwrap(),
        payout_a: Address([1; 20]),
        signer_b: address(&key(9).public()).unwrap(),
        payout_b: Address([2; 20]),
        token: Address::ZERO,
        window_secs: world::WINDOW,
        salt: 5,
    };
    let mut announcement = ChannelAnnouncement {
        params,
        key_a: key(8).public(),
        key_b: key(9).public(),
        signature_a: Signature([0; 65]),
        signature_b: Signature([0; 65]),
    };
    announcement.signature_a = announcement.signature(&separator, &key(8));
    announcement.signature_b = announcement.signature(&separator, &key(9));
    assert!(announcement.verify(&separator));
    let id = announcement.channel(&separator);
    let update = ChannelUpdate {
        channel: id,
        side: Side::A,
        timestamp: unix_time(),
        disabled: false,
        fee_base: 0,
        fee_ppm: 0,
        min_lock: 1,
        max_lock: u128::MAX,
        signature: Signature([0; 65]),
    };
    let update = update.sign(&separator, &key(8));
    let items = [Item::Channel(announcement), Item::Update(update)];
    for _ in 0..3 {
        for item in items.clone() {
            link.send(key(1).public(), encode(&Gossip::Item(item)));
        }
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
    let known = people[0].running.handle.network(move |graph| {
        let waits = graph.waiting().any(|waiting| *waiting == id);
        (
            graph.channel(&id).is_some(),
            waits,
            graph.channels().count(),
        )
    });
    assert_eq!(known.await, Ok((false, false, 2)));
    assert!(matches!(
        pay(&people[0], gift(9, 5)).await,
        Err(NodeError::Route(RouteError::NoRoute(_)))
    ));
    stop(people).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_channel_that_closes_leaves_the_map() {
    let world = World::new().await;
    let (people, channels) = line(&world, &[1, 2, 3]).await;
    let last = channels[1];
    people[1].request(Request::ForceClose(last)).await;
    // Nobody tells Alice: she reads it in L1's logs.
    for _ in 0..1500 {
        let gone = people[0]
            .running
            .handle
            .network(move |graph| graph.channel(&last).is_none());
        if gone.await.unwrap() {
            break;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let left = people[0]
        .running
        .handle
        .network(|graph| graph.channels().count());
    assert_eq!(left.await, Ok(1));
    assert!(matches!(
        pay(&people[0], gift(3, 5)).await,
        Err(NodeError::Route(RouteError::NoRoute(_)))
    ));
    stop(people).await;
}

/// 1 – 2 – 4 and 1 – 3 – 4, cheap, and 1 – 5 – 4, which asks 100 more for each forward. What 2 has towards 4 is gone, and gossip
/// does not tell.
async fn three_ways(world: &mut World) -> Vec<Person> {
    let mut people: Vec<Person> = [1, 2, 3, 4]
        .iter()
        .map(|name| world.start(*name, vec![]))
        .collect();
    world.policy.fee_base = 100;
    people.push(world.start(5, vec![]));
    open(&people[0], &people[1], DEPOSIT).await;
    let drained = open(&people[1], &people[3], DEPOSIT).await;
    for (from, to) in [(0, 2), (2, 3), (0, 4), (4, 3)] {
        open(&people[from], &people[to], DEPOSIT).await;
    }
    knows(&people[0], 12).await;
    people[1].pay(drained, DEPOSIT - 10).await;
    people
}

fn count(person: &Person, what: impl Fn(&EventBody) -> bool) -> usize {
    let events = person.running.handle.events(1, 1000).unwrap();
    events.iter().filter(|event| what(&event.body)).count()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_part_that_fails_is_replaced_while_the_other_waits() {
    let mut world = World::new().await;
    let people = three_ways(&mut world).await;
    let units = DEPOSIT * 3 / 2;
    let (hash, text) = ask(&people[3], terms(Some(units))).await;
    let started = std::time::Instant::now();
    assert_eq!(succeeds(&people[0], order(&text)).await, hash);
    // The payee waits a minute for the rest of a payment: nobody had to.
    assert!(started.elapsed() < Duration::from_secs(30));
    until_received(&people[3], hash, units).await;
    let record = people[0].running.handle.payment(&hash).unwrap().unwrap();
    assert_eq!(record.attempts, 1);
    assert!(record.fee <= record.max_fee);
    let brought: u128 = record.parts.iter().map(|part| part.delivered()).sum();
    assert_eq!(brought, units);
    assert!(
        count(&people[0], |body| matches!(
            body,
            EventBody::PartReplaced { .. }
        )) > 0
    );
    assert_eq!(
        count(&people[0], |body| matches!(
            body,
            EventBody::PaymentRetried { .. } | EventBody::PaymentGivenUp { .. }
        )),
        0
    );
    // What has left the payer is the amount and the fees of the parts that stood.
    let left = people[0]
        .until("nothing under way", |state| {
            let views = state.views();
            let under_way = views.iter().any(|view| view.locked_out > 0);
            let left = views.iter().map(|view| view.can_send).sum::<u128>();
            (!under_way).then_some(left)
        })
        .await;
    assert_eq!(left, 3 * DEPOSIT - units - record.fee);
    stop(people).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_part_is_not_replaced_above_the_limit_of_fees() {
    let mut world = World::new().await;
    world.policy.part_wait = 2;
    let people = three_ways(&mut world).await;
    let units = DEPOSIT * 3 / 2;
    let (_, text) = ask(&people[3], terms(Some(units))).await;
    // Enough for the two cheap ways, and not for the third one.
    let tight = PayOrder {
        max_fee: Some(units / 1000 + 50),
        deadline_secs: Some(5),
        ..order(&text)
    };
    let hash = pay(&people[0], tight).await.unwrap();
    match end_of(&people[0], hash).await {
        Stand::Failed(_) => {}
        other => panic!("{other:?}"),
    }
    assert_eq!(
        count(&people[0], |body| matches!(
            body,
            EventBody::PartReplaced { .. }
        )),
        0
    );
    let left = people[0]
        .until("nothing under way", |state| {
            let views = state.views();
            let under_way = views.iter().any(|view| view.locked_out > 0);
            let left = views.iter().map(|view| view.can_send).sum::<u128>();
            (!under_way).then_some(left)
        })
        .await;
    assert_eq!(left, 3 * DEPOSIT);
    stop(people).await;
}

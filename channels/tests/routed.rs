//! Payments over several hops between whole nodes: ways learnt from gossip, invoices, retries, several parts, restarts.

#![cfg(feature = "node")]

mod world;

use millrace_channels::invoice::{Invoice, InvoiceError};
use millrace_channels::machine::StepError;
use millrace_channels::machine::payment::{InvoiceState, PaymentState};
use millrace_channels::node::{
    Answer, EventBody, NodeError, PayOrder, Payee, Request, RequestKey, Stand, Terms,
};
use millrace_channels::routing::route::RouteError;
use millrace_channels::types::{Address, ChannelId, PaymentHash};
use std::time::Duration;
use world::{Person, World, amount, key, open};

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
async fn end(payer: &Person, hash: PaymentHash) -> Stand {
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
    match end(payer, hash).await {
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
    assert!(matches!(end(&people[0], hash).await, Stand::Succeeded(_)));
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

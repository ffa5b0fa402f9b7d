//! The demo's payment channels: three nodes and a watchtower in one process, over loopback sockets, on an embedded chain of
//! their own, whose time the demo moves.
//!
//! ```text
//! Alice ── Bob ── Carol: open two channels → direct payments → Alice learns from gossip and pays Carol's invoices over Bob
//! → Alice disappears with a payment under way: reveals on L1, the channels stay open, Alice pays when she is back
//! → Bob and Carol close together → Alice closes with an old state: Bob is away, his tower answers and settles
//! ```
//! Each node is what a product runs: Noise, RocksDB, group commit, onions, L1 watcher, transaction sender.

use crate::cli::{Exit, Failure};
use crate::output::{Output, facts};
use alloy::primitives::{B256, U256};
use alloy::providers::Provider;
use millrace_channels::machine::dispute::ChainPhase;
use millrace_channels::machine::payment::{Invoice, InvoiceState, NewPayment, Part};
use millrace_channels::message::Direct;
use millrace_channels::node::{Answer, EventBody, NodeError, PayOrder, Payee, Request, Terms, Way};
use millrace_channels::onion::{Delivery, Forward, build};
use millrace_channels::types::{Address, Amount, ChannelId, Hash32, PaymentHash, Preimage};
use rand::RngCore;
use rand::rngs::OsRng;
use serde::Serialize;
use std::collections::BTreeMap;
use std::path::Path;

pub mod network;

use network::{Network, Pace, Party, failed};

/// What each channel is opened with: 1 ETH.
const DEPOSIT: u128 = 1_000_000_000_000_000_000;
/// A payment: a ten-thousandth of an ETH.
const PAYMENT: u128 = 100_000_000_000_000;
/// Direct payments.
const DIRECT: usize = 50;
/// Payments routed over Bob.
const ROUTED: usize = 10;
/// How long a payment's locks live, seconds.
const EXPIRY: u64 = 3600;

/// What the channels' part of the demo did.
#[derive(Debug, Clone, Serialize)]
pub struct ChannelStory {
    /// Payments without a lock.
    pub direct: usize,
    /// Payments over a node between.
    pub routed: usize,
    /// Payments that L1 secured by a reveal while the channels stayed open.
    pub revealed: usize,
    /// Channels closed together.
    pub cooperative_closes: usize,
    /// Closes with an old state that the tower answered.
    pub cheats_answered: usize,
    /// What the cheat got back, and what it would have been, in wei.
    pub cheater_got: String,
    /// What its victim got, in wei.
    pub victim_got: String,
    /// Gas of each kind of L1 transaction.
    pub gas: BTreeMap<String, u64>,
    /// Seconds of all of it.
    pub seconds: f64,
}

impl ChannelStory {
    /// All payments.
    pub fn payments(&self) -> usize {
        self.direct + self.routed + self.revealed
    }

    /// In a few lines.
    pub fn describe(&self) -> String {
        let gas = self.gas.iter().map(|(name, gas)| format!("{name} {gas}"));
        facts([
            ("direct payments", self.direct.to_string()),
            ("routed payments", self.routed.to_string()),
            ("secured by a reveal", self.revealed.to_string()),
            ("the cheat's victim got, wei", self.victim_got.clone()),
            ("gas", gas.collect::<Vec<_>>().join(", ")),
            ("seconds", format!("{:.1}", self.seconds)),
        ])
    }
}

fn amount(units: u128) -> Amount {
    Amount::new(units).expect("the demo's amounts are below 2^100")
}

/// Runs it.
///
/// # Errors
/// [`Failure`], also where something came out otherwise than it must.
pub async fn run(output: Output, folder: &Path) -> Result<ChannelStory, Failure> {
    let started = std::time::Instant::now();
    let say = |text: &str| {
        output.say(format!(
            "{:>7.1} s  {text}",
            started.elapsed().as_secs_f64()
        ));
    };
    let network = Network::new(folder, Pace::STORY).await?;
    let tower = network.tower("tower").await?;
    let mut alice = network.party("alice", &[]).await?;
    let mut bob = network.party("bob", &[tower.address()]).await?;
    let carol = network.party("carol", &[]).await?;
    let first = network.open(&alice, &bob, DEPOSIT).await?;
    let second = network.open(&bob, &carol, DEPOSIT).await?;
    say("channels: Alice – Bob – Carol are open, over Noise on loopback");
    pay_direct(&alice, &bob, first).await?;
    say(&format!("channels: {DIRECT} direct payments"));
    let ways = learn_way(&alice, &carol).await?;
    let hops = ways.first().map_or(0, |way| way.nodes.len());
    say(&format!(
        "channels: gossip has shown Alice a way of {hops} hops to Carol"
    ));
    for _ in 0..ROUTED {
        pay_routed(&alice, &carol).await?;
    }
    say(&format!(
        "channels: {ROUTED} invoices of Carol paid by Alice over Bob"
    ));
    alice = secure_by_reveal(&network, alice, &bob, &carol, first).await?;
    say("channels: a payment secured by a reveal on L1, both channels still open");
    close_together(&network, &bob, &carol, second).await?;
    say("channels: Bob and Carol closed together");
    let ends = cheat(&network, alice, &mut bob, &tower, first).await?;
    say("channels: Alice closed with an old state; Bob's tower answered and settled");
    let gas = gas(&network, &[&bob, &carol]).await?;
    tower.shutdown().await;
    carol.shutdown().await;
    bob.shutdown().await;
    let mut all = gas;
    all.extend(ends.gas);
    Ok(ChannelStory {
        direct: DIRECT,
        routed: ROUTED,
        revealed: 1,
        cooperative_closes: 1,
        cheats_answered: 1,
        cheater_got: ends.cheater.to_string(),
        victim_got: ends.victim.to_string(),
        gas: all,
        seconds: started.elapsed().as_secs_f64(),
    })
}

async fn pay_direct(from: &Party, to: &Party, channel: ChannelId) -> Result<(), Failure> {
    let before = to.can_send(channel).await?;
    for number in 0..DIRECT {
        let direct = Direct {
            amount: amount(PAYMENT),
            reference: Hash32(B256::from(U256::from(number)).0),
        };
        from.request(Request::PayDirect {
            channel,
            amount: direct.amount,
            reference: direct.reference,
        })
        .await?;
    }
    let wanted = before + PAYMENT * DIRECT as u128;
    to.wait("the direct payments", move |state| {
        (state.view(&channel)?.can_send == wanted).then_some(())
    })
    .await
}

/// The way of the routed payments.
pub struct Route {
    /// Who forwards.
    pub forwards: Vec<Forward>,
    /// Over which channel of the payer it leaves.
    pub channel: ChannelId,
}

/// What a payee expects, and what the payer needs to know of it.
pub fn invoice(units: u128, hold: bool) -> (PaymentHash, Invoice) {
    let (mut preimage, mut secret) = ([0; 32], [0; 32]);
    OsRng.fill_bytes(&mut preimage);
    OsRng.fill_bytes(&mut secret);
    let invoice = Invoice {
        preimage: Preimage(preimage),
        amount: Amount::new(units).ok(),
        secret: Hash32(secret),
        hold,
        state: InvoiceState::Open,
        received: 0,
        released: 0,
        token: Address::ZERO,
    };
    (invoice.preimage.hash(), invoice)
}

/// The payment of an invoice along a route.
///
/// # Errors
/// If the onion cannot be built.
pub fn payment(
    network: &Network,
    payee: &Party,
    route: &Route,
    invoice: &Invoice,
    (leaves, arrives, expiry): (u128, u128, u64),
) -> Result<NewPayment, Failure> {
    let mut session = [0; 32];
    OsRng.fill_bytes(&mut session);
    let hash = invoice.preimage.hash();
    let delivery = Delivery::Invoice {
        secret: invoice.secret,
        total: amount(arrives),
    };
    let target = (payee.key(), delivery);
    let (onion, _) = build(
        session,
        network.separator(),
        &hash,
        expiry,
        &route.forwards,
        target,
    )
    .map_err(|error| failed("an onion cannot be built", &error))?;
    Ok(NewPayment {
        hash,
        expiry,
        parts: vec![Part {
            channel: route.channel,
            amount: amount(leaves),
            onion,
        }],
    })
}

/// An invoice as its payer gets it.
async fn ask(payee: &Party, hold: bool) -> Result<(PaymentHash, String), Failure> {
    let terms = Terms {
        token: ETHER,
        amount: Some(amount(PAYMENT)),
        description: "a coffee of the demo".to_owned(),
        life_secs: EXPIRY,
        hold,
        fallback: None,
        hints: Vec::new(),
    };
    match payee.handle().make_invoice(terms, None).await {
        Ok(Answer::Invoice { hash, text }) => Ok((hash, text)),
        Ok(_) => Err(Failure::new(Exit::Internal, "the node made no invoice")),
        Err(error) => Err(failed("the node makes no invoice", &error)),
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

/// Waits until a payer has learnt from gossip how to reach a payee that it has no channel with.
async fn learn_way(payer: &Party, payee: &Party) -> Result<Vec<Way>, Failure> {
    let wanted = PayOrder {
        to: Payee::Node {
            key: payee.key(),
            token: ETHER,
        },
        amount: Some(amount(PAYMENT)),
        ..order("")
    };
    let started = std::time::Instant::now();
    loop {
        match payer.handle().find(wanted.clone()).await {
            Ok(ways) => return Ok(ways),
            Err(NodeError::Route(_)) if started.elapsed() < network::PATIENCE => {
                tokio::time::sleep(network::POLL).await;
            }
            Err(error) => return Err(failed("gossip shows no way to the payee", &error)),
        }
    }
}

async fn pay_routed(payer: &Party, payee: &Party) -> Result<(), Failure> {
    let (hash, text) = ask(payee, false).await?;
    payer.request(Request::PayOver(order(&text))).await?;
    payee
        .wait("a routed payment", move |state| {
            let invoice = state.node.invoices().get(&hash)?;
            (invoice.received == PAYMENT).then_some(())
        })
        .await
}

/// Alice disappears while her payment is under way. Carol and Bob put the preimage on L1; Alice pays when she is back.
async fn secure_by_reveal(
    network: &Network,
    alice: Party,
    bob: &Party,
    carol: &Party,
    channel: ChannelId,
) -> Result<Party, Failure> {
    let (hash, text) = ask(carol, true).await?;
    alice.request(Request::PayOver(order(&text))).await?;
    carol
        .wait("the payment to arrive", move |state| {
            let invoice = state.node.invoices().get(&hash)?;
            (invoice.state == InvoiceState::Held).then_some(())
        })
        .await?;
    alice.shutdown().await;
    carol.request(Request::Release(hash)).await?;
    bob.wait("the preimage", move |state| {
        state.node.preimages().get(&hash).map(drop)
    })
    .await?;
    // To where one margin is left: whoever is owed has to reveal now.
    network.pass(EXPIRY - 64 * 12 - 300 + 30);
    carol
        .wait("the reveal", move |state| {
            let invoice = state.node.invoices().get(&hash)?;
            (invoice.received == PAYMENT).then_some(())
        })
        .await?;
    let alice = network.party("alice", &[]).await?;
    for party in [&alice, bob] {
        party
            .wait("Alice's lock to be paid", move |state| {
                let view = state.view(&channel)?;
                let settled = view.locked_in == 0 && view.locked_out == 0;
                (settled && view.phase.name() == "open").then_some(())
            })
            .await?;
    }
    Ok(alice)
}

async fn close_together(
    network: &Network,
    bob: &Party,
    carol: &Party,
    channel: ChannelId,
) -> Result<(), Failure> {
    bob.wait("a channel at rest", move |state| {
        let view = state.view(&channel)?;
        let known = &state.node.channels()[&channel];
        let heard = known.session.peer_holds == known.own.version;
        (view.locked_in == 0 && view.locked_out == 0 && heard).then_some(())
    })
    .await?;
    bob.request(Request::Close(channel)).await?;
    for party in [bob, carol] {
        party.wait_closed(channel).await?;
    }
    network.mine();
    Ok(())
}

/// How the dispute ended.
struct Ends {
    cheater: u128,
    victim: u128,
    gas: BTreeMap<String, u64>,
}

async fn cheat(
    network: &Network,
    alice: Party,
    bob: &mut Party,
    tower: &network::TowerParty,
    channel: ChannelId,
) -> Result<Ends, Failure> {
    alice.shutdown().await;
    network.copy("alice", "alice-old")?;
    let alice = network.party("alice", &[]).await?;
    alice.wait_open(channel).await?;
    let before = bob.can_send(channel).await?;
    alice
        .request(Request::PayDirect {
            channel,
            amount: amount(DEPOSIT / 2),
            reference: Hash32([9; 32]),
        })
        .await?;
    let victim = before + DEPOSIT / 2;
    bob.wait("the tower's receipt", move |state| {
        let view = state.view(&channel)?;
        (view.can_send == victim && view.guarded_by == 1).then_some(())
    })
    .await?;
    alice.shutdown().await;
    bob.sleep().await;
    let alice = network.party_at("alice-old", "alice", &[]).await?;
    alice
        .wait("L1", move |state| {
            state.node.channels()[&channel].at_head.as_ref().map(drop)
        })
        .await?;
    let paid_before = (network.payout("alice").await?, network.payout("bob").await?);
    alice.request(Request::ForceClose(channel)).await?;
    let deadline = alice
        .wait("the tower's answer", move |state| {
            match state.node.channels()[&channel].at_head.clone()?.phase {
                ChainPhase::Closing(dispute) if dispute.halves.a.paid >= victim => {
                    Some(dispute.deadline)
                }
                _ => None,
            }
        })
        .await?;
    let mut gas = BTreeMap::new();
    if let Some(cost) = alice.landed_gas("submit").await? {
        gas.insert("unilateral_close".to_owned(), cost);
    }
    alice.shutdown().await;
    network.pass(deadline.saturating_sub(network.now()) + 60);
    let total = 2 * DEPOSIT - DEPOSIT;
    let (cheater, got) = network.wait_payout(paid_before, total).await?;
    if got != victim {
        return Err(Failure::new(
            Exit::Verification,
            format!("the victim of a cheat got {got} wei instead of {victim}"),
        ));
    }
    for (what, cost) in tower.gas().await {
        let name = match what {
            "submit" => "challenge",
            other => other,
        };
        gas.insert(name.to_owned(), cost);
    }
    Ok(Ends {
        cheater,
        victim: got,
        gas,
    })
}

/// Gas of what the nodes sent, by kind: of several alike, the last.
async fn gas(network: &Network, parties: &[&Party]) -> Result<BTreeMap<String, u64>, Failure> {
    let mut gas = BTreeMap::new();
    for party in parties {
        for event in party.events()? {
            match event.body {
                EventBody::Landed {
                    what, gas: cost, ..
                } => {
                    let name = match what.as_str() {
                        "cooperate" => "cooperative_close".to_owned(),
                        _ => what,
                    };
                    gas.insert(name, cost);
                }
                EventBody::Deposited { transaction, .. } => {
                    let hash = B256::from(transaction.0);
                    let receipt = network.l1().provider().get_transaction_receipt(hash);
                    let receipt = receipt
                        .await
                        .map_err(|error| failed("no receipt", &error))?;
                    let cost = receipt.map_or(0, |receipt| receipt.gas_used);
                    gas.insert("open".to_owned(), cost);
                }
                _ => {}
            }
        }
    }
    Ok(gas)
}

/// An address of Ether, as channels name it.
pub const ETHER: Address = Address::ZERO;

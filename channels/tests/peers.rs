//! Invoice, route, onion, machine and failure together: four nodes in a line that read only their own layers.

use millrace_channels::digest::Domain;
use millrace_channels::invoice::{self, MULTI_PART};
use millrace_channels::machine::dispute::{ChainPhase, ChainReport, Level, OnChain};
use millrace_channels::machine::effect::{Effect, Notice};
use millrace_channels::machine::payment::{
    Invoice, InvoiceState, NewPayment, Part, PaymentState, reason,
};
use millrace_channels::machine::{Identity, Input, Node, Tools};
use millrace_channels::message::Message;
use millrace_channels::onion::{self, Delivery, Failure, Forward, NodeOnions, Sent};
use millrace_channels::policy::Policy;
use millrace_channels::routing::gossip::{ChannelAnnouncement, ChannelUpdate, Item};
use millrace_channels::routing::graph::{Deposit, Deposits, Graph};
use millrace_channels::routing::liquidity::Liquidity;
use millrace_channels::routing::payment::Order;
use millrace_channels::routing::route::{self, OwnChannel, Route, Target};
use millrace_channels::signing::{HotKey, address};
use millrace_channels::state::Params;
use millrace_channels::types::{
    Address, Amount, ChannelId, Hash32, PaymentHash, Preimage, PublicKey, Side, Signature,
};
use std::collections::VecDeque;
use std::sync::Arc;

const NOW: u64 = 1_800_000_000;
const EXPIRY: u64 = NOW + 3600;
const DOMAIN: Domain = Domain {
    chain_id: 31_337,
    contract: Address([9; 20]),
};
const COUNT: usize = 4;

fn amount(units: u128) -> Amount {
    Amount::new(units).unwrap()
}

/// L1 with all channels open.
struct AllOpen;

impl Deposits for AllOpen {
    fn deposit(&self, _: &ChannelId) -> Deposit {
        Deposit::Open { capacity: 20_000 }
    }
}

/// Nodes 0 - 1 - 2 - 3, each with a channel of 10,000 and 10,000 to the next.
struct Line {
    keys: Vec<Arc<HotKey>>,
    nodes: Vec<Node>,
    channels: Vec<(ChannelId, Params)>,
    failures: Vec<Vec<u8>>,
    wires: VecDeque<(usize, PublicKey, Message)>,
}

impl Line {
    fn new() -> Self {
        let keys: Vec<_> = (1..=COUNT as u8)
            .map(|byte| Arc::new(HotKey::new([byte; 32]).unwrap()))
            .collect();
        let payout = |at: usize| Address([0x40 + at as u8; 20]);
        let signer = |at: usize| address(&keys[at].public()).unwrap();
        let identity = |at: usize| Identity {
            key: keys[at].public(),
            signer: signer(at),
            payout: payout(at),
            domain: DOMAIN,
            policy: Policy::default(),
        };
        let params = |a: usize| Params {
            signer_a: signer(a),
            payout_a: payout(a),
            signer_b: signer(a + 1),
            payout_b: payout(a + 1),
            token: Address::ZERO,
            window_secs: 86_400,
            salt: 0,
        };
        let separator = DOMAIN.separator();
        let channels = (0..COUNT - 1)
            .map(|a| {
                let params = params(a);
                let id = millrace_channels::digest::channel_id(&separator, &params);
                (id, params)
            })
            .collect();
        let nodes = (0..COUNT).map(|at| Node::new(identity(at))).collect();
        let mut line = Self {
            keys,
            nodes,
            channels,
            failures: Vec::new(),
            wires: VecDeque::new(),
        };
        line.open();
        line
    }

    fn open(&mut self) {
        for (a, (_, params)) in self.channels.clone().into_iter().enumerate() {
            for (at, side, peer) in [(a, Side::A, a + 1), (a + 1, Side::B, a)] {
                let peer = self.keys[peer].public();
                self.input(at, Input::AddChannel { params, side, peer });
                self.input(at, Input::Connected(peer));
            }
        }
        let open = OnChain {
            net_a: 10_000,
            net_b: 10_000,
            epoch: 0,
            phase: ChainPhase::Open,
        };
        for at in 0..COUNT {
            for level in [Level::Final, Level::Head] {
                let channels = self.channels.iter().map(|(id, _)| (*id, open.clone()));
                let report = ChainReport {
                    level,
                    timestamp: NOW,
                    channels: channels.collect(),
                    reveals: Vec::new().into_iter().collect(),
                };
                self.input(at, Input::Chain(report));
            }
        }
        self.settle();
    }

    fn input(&mut self, at: usize, input: Input) {
        let onions = NodeOnions::new(self.keys[at].clone(), &DOMAIN);
        let tools = Tools {
            keys: &*self.keys[at],
            onions: &onions,
        };
        let (effects, _) = self.nodes[at].step(NOW, input, tools);
        for effect in effects {
            match effect {
                Effect::Send { to, message } => self.wires.push_back((at, to, message)),
                Effect::Notify(Notice::PaymentFailed { reason, .. }) => self.failures.push(reason),
                _ => {}
            }
        }
    }

    fn settle(&mut self) {
        loop {
            while let Some((from, to, message)) = self.wires.pop_front() {
                let from = self.keys[from].public();
                let at = self.keys.iter().position(|key| key.public() == to).unwrap();
                self.input(at, Input::Message { from, message });
            }
            for at in 0..COUNT {
                self.input(at, Input::Settle);
            }
            if self.wires.is_empty() {
                break;
            }
        }
    }

    fn graph(&self) -> Graph {
        let separator = DOMAIN.separator();
        let mut graph = Graph::new(&DOMAIN, 1);
        for (a, (id, params)) in self.channels.iter().enumerate() {
            let (key_a, key_b) = (&self.keys[a], &self.keys[a + 1]);
            let mut announcement = ChannelAnnouncement {
                params: *params,
                key_a: key_a.public(),
                key_b: key_b.public(),
                signature_a: Signature([0; 65]),
                signature_b: Signature([0; 65]),
            };
            announcement.signature_a = announcement.signature(&separator, key_a);
            announcement.signature_b = announcement.signature(&separator, key_b);
            let mut items = vec![Item::Channel(announcement)];
            for (side, key) in [(Side::A, key_a), (Side::B, key_b)] {
                let update = ChannelUpdate {
                    channel: *id,
                    side,
                    timestamp: NOW,
                    disabled: false,
                    fee_base: 0,
                    fee_ppm: 1000,
                    min_lock: 1,
                    max_lock: 10_000,
                    signature: Signature([0; 65]),
                };
                items.push(Item::Update(update.sign(&separator, key)));
            }
            for item in items {
                graph.receive(None, item, NOW, &AllOpen).unwrap();
            }
        }
        graph
    }

    fn routes(&self, payee: PublicKey, units: u128) -> Vec<Route> {
        let own = [OwnChannel {
            channel: self.channels[0].0,
            side: Side::A,
            peer: self.keys[1].public(),
            spendable: 10_000,
        }];
        let target = Target {
            payer: self.keys[0].public(),
            payee,
            token: Address::ZERO,
            amount: amount(units),
            max_fee: 100,
            own: &own,
            hints: &[],
            max_parts: 16,
            taken: &[],
            now: NOW,
        };
        route::find(&self.graph(), &Liquidity::default(), &target).unwrap()
    }

    fn pay(&mut self, payment: NewPayment) -> PaymentState {
        let hash = payment.hash;
        self.input(0, Input::Pay(payment));
        self.settle();
        self.nodes[0].payments()[&hash].state.clone()
    }

    /// An onion by hand over 1 and 2 to 3, with `change` made to its hops.
    fn pay_by_hand(&mut self, change: impl Fn(&mut Vec<Forward>, &mut PublicKey)) -> Sent {
        let hash = PaymentHash([8; 32]);
        let mut forwards: Vec<Forward> = [(1, 1002), (2, 1000)]
            .map(|(node, units)| Forward {
                node: self.keys[node].public(),
                channel: self.channels[node].0,
                amount: amount(units),
            })
            .to_vec();
        let mut payee = self.keys[3].public();
        change(&mut forwards, &mut payee);
        let delivery = Delivery::Invoice {
            secret: Hash32([1; 32]),
            total: amount(1000),
        };
        let (onion, sent) = onion::build(
            [7; 32],
            &DOMAIN.separator(),
            &hash,
            EXPIRY,
            &forwards,
            (payee, delivery),
        )
        .unwrap();
        let payment = NewPayment {
            hash,
            expiry: EXPIRY,
            parts: vec![Part {
                channel: self.channels[0].0,
                amount: amount(1010),
                onion,
            }],
        };
        let state = self.pay(payment);
        assert!(matches!(state, PaymentState::Failed(_)), "{state:?}");
        sent
    }

    fn failure(&self, sent: &Sent) -> Option<(usize, u8)> {
        let failure = sent.read(self.failures.last().unwrap());
        failure.map(|Failure { hop, code, .. }| (hop, code))
    }
}

#[test]
fn an_invoice_as_text_is_paid_over_three_hops() {
    let mut line = Line::new();
    let preimage = Preimage([3; 32]);
    let secret = Hash32([4; 32]);
    line.input(
        3,
        Input::AddInvoice(Invoice {
            preimage,
            amount: Some(amount(5000)),
            secret,
            hold: false,
            state: InvoiceState::Open,
            received: 0,
            released: 0,
            token: Address::ZERO,
        }),
    );
    let text = invoice::Invoice {
        domain: DOMAIN,
        token: Address::ZERO,
        amount: Some(amount(5000)),
        hash: preimage.hash(),
        secret,
        payee: line.keys[3].public(),
        created: NOW,
        expires: NOW + 600,
        description: "tea".to_owned(),
        features: MULTI_PART,
        hints: Vec::new(),
        fallback: None,
        unknown: Vec::new(),
    }
    .sign(&line.keys[3])
    .unwrap();
    let read = invoice::Invoice::parse(&text).unwrap();
    read.check(&DOMAIN, NOW).unwrap();
    let asked = read.amount_to_pay(None).unwrap();
    let routes = line.routes(read.payee, asked.get());
    let order = Order::for_invoice(&read, asked, EXPIRY);
    let (payment, _) = order.parts(&routes, || [5; 32]).unwrap();
    assert_eq!(
        payment.parts[0].amount,
        amount(5011),
        "two fees, each rounded up"
    );
    assert_eq!(line.pay(payment), PaymentState::Succeeded(preimage));
    assert_eq!(line.nodes[3].invoices()[&preimage.hash()].received, 5000);
}

#[test]
fn a_keysend_is_paid_without_an_invoice_and_once_only() {
    let mut line = Line::new();
    let preimage = Preimage([6; 32]);
    let payee = line.keys[3].public();
    let routes = line.routes(payee, 700);
    let order = Order::keysend(DOMAIN, payee, preimage, amount(700), EXPIRY);
    let (payment, _) = order.parts(&routes, || [5; 32]).unwrap();
    assert_eq!(line.pay(payment), PaymentState::Succeeded(preimage));
    assert_eq!(line.nodes[3].invoices()[&preimage.hash()].received, 700);
    // With another preimage than the hash's it is nothing.
    let mut line = Line::new();
    let wrong = Order {
        hash: PaymentHash([9; 32]),
        ..order
    };
    let (payment, parts) = wrong.parts(&routes, || [5; 32]).unwrap();
    assert!(matches!(line.pay(payment), PaymentState::Failed(_)));
    let failure = parts[0].read(line.failures.last().unwrap()).unwrap();
    assert_eq!((failure.hop, failure.code), (2, reason::UNKNOWN_PAYMENT));
    assert!(line.nodes[3].invoices().is_empty());
}

#[test]
fn the_payer_reads_who_failed_and_nobody_else_does() {
    let mut line = Line::new();
    let sent = line.pay_by_hand(|_, _| ());
    assert_eq!(line.failure(&sent), Some((2, reason::UNKNOWN_PAYMENT)));
    let mut line = Line::new();
    let sent = line.pay_by_hand(|forwards, _| forwards[1].channel = ChannelId([5; 32]));
    assert_eq!(line.failure(&sent), Some((1, reason::NEXT_CHANNEL)));
    let mut line = Line::new();
    let sent = line.pay_by_hand(|forwards, _| forwards[0].amount = amount(1010));
    assert_eq!(line.failure(&sent), Some((0, reason::AMOUNT)));
    // The last layer is for somebody else: node 2 says so for its neighbour.
    let mut line = Line::new();
    let sent = line.pay_by_hand(|_, payee| *payee = HotKey::new([99; 32]).unwrap().public());
    assert_eq!(line.failure(&sent), Some((1, reason::NEXT_NODE)));
    // The first layer: node 1 has no secret to encrypt with.
    let mut line = Line::new();
    let stranger = HotKey::new([99; 32]).unwrap().public();
    let sent = line.pay_by_hand(move |forwards, _| forwards[0].node = stranger);
    assert_eq!(line.failure(&sent), Some((0, reason::BAD_ONION)));
    // Another payer's session reads nothing.
    let mut line = Line::new();
    line.pay_by_hand(|_, _| ());
    let others = onion::build(
        [8; 32],
        &DOMAIN.separator(),
        &PaymentHash([8; 32]),
        EXPIRY,
        &[],
        (
            line.keys[1].public(),
            Delivery::Invoice {
                secret: Hash32([1; 32]),
                total: amount(1),
            },
        ),
    );
    assert_eq!(line.failure(&others.unwrap().1), None);
}

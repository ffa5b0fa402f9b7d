//! Nodes in a line with real keys, for tests of the machine: frames go when the test lets them.

// Each test uses a part.
#![allow(dead_code)]

use millrace_channels::digest::Domain;
use millrace_channels::machine::dispute::{ChainPhase, ChainReport, Level, OnChain};
use millrace_channels::machine::effect::{Effect, Notice, Transaction};
use millrace_channels::machine::payment::{Hop, Invoice, InvoiceState, NewPayment, Onions, Part};
use millrace_channels::machine::{Identity, Input, Node, StepError, Tools};
use millrace_channels::message::{Direct, Message};
use millrace_channels::policy::Policy;
use millrace_channels::signing::{HotKey, address};
use millrace_channels::state::Params;
use millrace_channels::types::{
    Address, Amount, ChannelId, Hash32, PaymentHash, Preimage, PublicKey, Side,
};
use std::collections::VecDeque;

pub const NOW: u64 = 1_800_000_000;
pub const EXPIRY: u64 = NOW + 2 * 3600;

pub struct Clear;

impl Onions for Clear {
    fn peel(&self, onion: &[u8], _: &PaymentHash) -> Option<Hop> {
        postcard::from_bytes(onion).ok()
    }
}

/// A line of nodes, each with a channel of 1,000 and 1,000 to the next.
pub struct Line {
    pub now: u64,
    pub keys: Vec<HotKey>,
    pub nodes: Vec<Node>,
    pub channels: Vec<ChannelId>,
    pub notices: Vec<(usize, Notice)>,
    pub transactions: Vec<Transaction>,
    /// Frames on their way: from, to, content.
    pub wires: VecDeque<(PublicKey, PublicKey, Message)>,
}

pub fn amount(units: u128) -> Amount {
    Amount::new(units).unwrap()
}

pub fn direct(units: u128) -> Direct {
    Direct {
        amount: amount(units),
        reference: Hash32([5; 32]),
    }
}

impl Line {
    pub fn new(count: u8) -> Self {
        Self::with(count, &Policy::default())
    }

    /// All nodes with a policy.
    pub fn with(count: u8, policy: &Policy) -> Self {
        let domain = Domain {
            chain_id: 31_337,
            contract: Address([9; 20]),
        };
        let keys: Vec<HotKey> = (1..=count).map(|n| HotKey::new([n; 32]).unwrap()).collect();
        let payout = |at: usize| Address([0x40 + at as u8; 20]);
        let signer = |at: usize| address(&keys[at].public()).unwrap();
        let nodes = (0..keys.len())
            .map(|at| {
                Node::new(Identity {
                    key: keys[at].public(),
                    signer: signer(at),
                    payout: payout(at),
                    domain,
                    policy: policy.clone(),
                })
            })
            .collect();
        let pairs: Vec<(Params, PublicKey, PublicKey)> = (1..keys.len())
            .map(|b| {
                let params = Params {
                    signer_a: signer(b - 1),
                    payout_a: payout(b - 1),
                    signer_b: signer(b),
                    payout_b: payout(b),
                    token: Address::ZERO,
                    window_secs: 86_400,
                    salt: 0,
                };
                (params, keys[b - 1].public(), keys[b].public())
            })
            .collect();
        let mut line = Self {
            now: NOW,
            keys,
            nodes,
            channels: Vec::new(),
            notices: Vec::new(),
            transactions: Vec::new(),
            wires: VecDeque::new(),
        };
        for (at, (params, key_a, key_b)) in pairs.into_iter().enumerate() {
            for (node, side, peer) in [(at, Side::A, key_b), (at + 1, Side::B, key_a)] {
                line.input(node, Input::AddChannel { params, side, peer })
                    .unwrap();
                line.input(node, Input::Connected(peer)).unwrap();
            }
            let id = *line.nodes[at]
                .channels()
                .keys()
                .find(|id| !line.channels.contains(id))
                .unwrap();
            line.channels.push(id);
        }
        line.see(&[]);
        line.settle();
        line
    }

    /// L1 as it is now: all channels open, these preimages revealed.
    pub fn see(&mut self, revealed: &[(Preimage, u64)]) {
        let open = OnChain {
            net_a: 1000,
            net_b: 1000,
            epoch: 0,
            phase: ChainPhase::Open,
        };
        for at in 0..self.nodes.len() {
            for level in [Level::Final, Level::Head] {
                let report = ChainReport {
                    level,
                    timestamp: self.now,
                    channels: self.channels.iter().map(|id| (*id, open.clone())).collect(),
                    reveals: revealed
                        .iter()
                        .map(|(preimage, at)| (preimage.hash(), Some((*at, *preimage))))
                        .collect(),
                };
                self.input(at, Input::Chain(report)).unwrap();
            }
        }
    }

    pub fn input(&mut self, at: usize, input: Input) -> Result<(), StepError> {
        let tools = Tools {
            keys: &self.keys[at],
            onions: &Clear,
        };
        let (effects, result) = self.nodes[at].step(self.now, input, tools);
        let from = self.keys[at].public();
        let mut spoken = false;
        for effect in effects {
            match effect {
                Effect::Persist(_) => assert!(!spoken, "what is said is durable before"),
                Effect::Send { to, message } => {
                    spoken = true;
                    self.wires.push_back((from, to, message));
                }
                Effect::Broadcast(transaction) => self.transactions.push(transaction),
                Effect::Watch(_) => {}
                Effect::Notify(notice) => self.notices.push((at, notice)),
            }
        }
        result
    }

    pub fn at(&self, key: &PublicKey) -> usize {
        self.keys
            .iter()
            .position(|own| own.public() == *key)
            .unwrap()
    }

    /// Delivers what is on its way, and what follows.
    pub fn carry(&mut self) {
        while let Some((from, to, message)) = self.wires.pop_front() {
            let at = self.at(&to);
            // What does not fit is ignored, as in life.
            let _ = self.input(at, Input::Message { from, message });
        }
    }

    /// Delivers until nobody has anything to say, nor to settle.
    pub fn settle(&mut self) {
        loop {
            self.carry();
            for at in 0..self.nodes.len() {
                if self.nodes[at].waits_to_settle() {
                    self.input(at, Input::Settle).unwrap();
                }
            }
            if self.wires.is_empty() {
                break;
            }
        }
    }

    pub fn balance(&self, at: usize, channel: usize) -> i128 {
        let node = &self.nodes[at];
        node.channels()[&self.channels[channel]].balance(node.rules())
    }

    pub fn expect_invoice(&mut self, at: usize, preimage: Preimage, units: u128) {
        self.expect(at, preimage, units, false);
    }

    pub fn expect_hold_invoice(&mut self, at: usize, preimage: Preimage, units: u128) {
        self.expect(at, preimage, units, true);
    }

    fn expect(&mut self, at: usize, preimage: Preimage, units: u128, hold: bool) {
        self.input(
            at,
            Input::AddInvoice(Invoice {
                preimage,
                amount: Some(amount(units)),
                secret: Hash32([6; 32]),
                hold,
                state: InvoiceState::Open,
                received: 0,
                released: 0,
                token: Address::ZERO,
            }),
        )
        .unwrap();
    }

    pub fn deliver(units: u128) -> Vec<u8> {
        postcard::to_stdvec(&Hop::Deliver {
            secret: Hash32([6; 32]),
            total: amount(units),
        })
        .unwrap()
    }

    /// Pays over the whole line, with a hop's fee for each node between.
    pub fn pay_over_all(&mut self, hash: PaymentHash, units: u128) {
        let mut onion = Self::deliver(units);
        let mut gross = units;
        for channel in self.channels[1..].iter().rev() {
            onion = postcard::to_stdvec(&Hop::Forward {
                channel: *channel,
                amount: amount(gross),
                expiry: EXPIRY,
                onion,
            })
            .unwrap();
            gross += self.nodes[0].identity().policy.fee(gross);
        }
        let parts = vec![Part {
            channel: self.channels[0],
            amount: amount(gross),
            onion,
        }];
        let payment = NewPayment {
            hash,
            expiry: EXPIRY,
            parts,
        };
        self.input(0, Input::Pay(payment)).unwrap();
    }
}

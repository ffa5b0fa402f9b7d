//! Random bytes as life: two machines, every choice from a seed or a fuzzer's bytes, frames altered on their way.
//!
//! Nothing panics, and after every step the machine's invariants hold and its records bring it back. The bytes are
//! altered before and after decoding, so that much of what arrives is well-formed and wrong.

use crate::keys::{ClearOnions, SimKeys, payout, public_key, signer};
use crate::random::Random;
use millrace_channels::machine::clock::first_version;
use millrace_channels::machine::dispute::{ChainPhase, ChainReport, Level, OnChain};
use millrace_channels::machine::effect::Effect;
use millrace_channels::machine::payment::{Hop, Invoice, InvoiceState, NewPayment, Part};
use millrace_channels::machine::{Identity, Input, Node, Tools};
use millrace_channels::message::{Direct, Message};
use millrace_channels::policy::Policy;
use millrace_channels::state::{Params, list_root};
use millrace_channels::types::{Address, Amount, ChannelId, Hash32, Preimage, Side};
use millrace_channels::wire;
use std::collections::VecDeque;

const START: u64 = 1_800_000_000;

/// Two machines and the channel between them.
pub struct Pair {
    random: Random,
    now: u64,
    nodes: [Node; 2],
    frames: VecDeque<(usize, Vec<u8>)>,
    channel: ChannelId,
    /// What each side has deposited; it only grows.
    net: i128,
    preimages: u8,
}

impl Pair {
    /// A pair with a channel that both have seen on L1.
    pub fn new(random: Random) -> Self {
        let domain = millrace_channels::digest::Domain {
            chain_id: 1,
            contract: Address([7; 20]),
        };
        let params = Params {
            signer_a: signer(0),
            payout_a: payout(0),
            signer_b: signer(1),
            payout_b: payout(1),
            token: Address::ZERO,
            window_secs: 86_400,
            salt: 0,
        };
        let node = |at: u8| {
            Node::new(Identity {
                key: public_key(at),
                signer: signer(at),
                payout: payout(at),
                domain,
                policy: Policy::default(),
            })
        };
        let mut pair = Self {
            random,
            now: START,
            nodes: [node(0), node(1)],
            frames: VecDeque::new(),
            channel: millrace_channels::digest::channel_id(&domain.separator(), &params),
            net: 1000,
            preimages: 0,
        };
        for (at, side) in [(0, Side::A), (1, Side::B)] {
            let peer = public_key(1 - at as u8);
            pair.step(at, Input::AddChannel { params, side, peer });
            pair.see_l1(at, false);
        }
        pair.connect();
        pair
    }

    /// Lives for as long as there are bytes to choose by, at most `steps` steps.
    ///
    /// # Panics
    /// If an invariant does not hold.
    pub fn live_by(bytes: &[u8], steps: usize) {
        let mut pair = Self::new(Random::by(bytes.to_vec()));
        for _ in 0..steps {
            if pair.random.is_spent() {
                break;
            }
            pair.live();
        }
    }

    /// All that was paid, in units.
    pub fn paid(&self) -> u128 {
        let channels = self.nodes.iter().flat_map(|node| node.channels().values());
        channels.map(|channel| channel.held.half.paid).sum()
    }

    fn connect(&mut self) {
        self.frames.clear();
        for at in 0..2 {
            let peer = public_key(1 - at as u8);
            self.step(at, Input::Disconnected(peer));
            self.step(at, Input::Connected(peer));
        }
    }

    fn step(&mut self, at: usize, input: Input) {
        let tools = Tools {
            keys: &SimKeys { node: at as u8 },
            onions: &ClearOnions,
        };
        let (effects, _) = self.nodes[at].step(self.now, input, tools);
        for effect in effects {
            if let Effect::Send { message, .. } = effect {
                let frame = wire::encode(&message);
                self.frames.push_back((1 - at, frame[4..].to_vec()));
            }
        }
        self.check(at);
    }

    fn check(&self, at: usize) {
        let node = &self.nodes[at];
        for channel in node.channels().values() {
            let past = &channel.own.halves;
            assert_eq!(past.keys().next(), Some(&channel.own.echoed));
            assert_eq!(past.keys().next_back(), Some(&channel.own.version));
            assert_eq!(list_root(&channel.held.list()), channel.held.half.locks);
            let last = past.values().next_back().expect("the newest half is kept");
            assert_eq!(list_root(&channel.own.list(last.version)), last.locks);
            let open = channel.is_open();
            assert!(!open || channel.balance(node.rules()) >= 0, "rule 1");
            assert!(!open || channel.held_balance(node.rules()) >= 0, "rule 2");
        }
        let records = node.records();
        let pairs = records
            .iter()
            .filter_map(|record| Some((&record.key, record.value.as_deref()?)));
        let again = Node::restore(node.identity().clone(), pairs).expect("records decode");
        assert_eq!(again.records(), records, "a restart changes nothing");
    }

    fn see_l1(&mut self, at: usize, more: bool) {
        if more {
            self.net += i128::from(self.random.below(100));
        }
        let chain = OnChain {
            net_a: self.net,
            net_b: self.net,
            epoch: 0,
            phase: ChainPhase::Open,
        };
        for level in [Level::Final, Level::Head] {
            let report = ChainReport {
                level,
                timestamp: self.now,
                channels: vec![(self.channel, chain.clone())],
                reveals: Vec::new(),
            };
            self.step(at, Input::Chain(report));
        }
    }

    fn deliver(&mut self) {
        let Some((to, mut frame)) = self.frames.pop_front() else {
            return;
        };
        match self.random.below(12) {
            0 => return,
            1 => self.frames.push_back((to, frame.clone())),
            2..4 => {
                // Past the version and type most bytes are free to be anything.
                for _ in 0..=self.random.below(3) {
                    let place = self.random.below(frame.len() as u64) as usize;
                    frame[place] = self.random.number() as u8;
                }
            }
            4 => frame.truncate(self.random.below(frame.len() as u64) as usize),
            _ => {}
        }
        if let Ok(message) = wire::decode(&frame) {
            let message = self.tamper(message);
            let from = public_key(1 - to as u8);
            self.step(to, Input::Message { from, message });
        }
    }

    /// Sometimes changes a field by name, which altered bytes seldom hit.
    fn tamper(&mut self, mut message: Message) -> Message {
        let later = first_version(self.now + 600);
        let edges = [0, 1, 2, later, u64::MAX - 1, u64::MAX];
        let edge = *self.random.pick(&edges);
        if !self.random.one_in(10) {
            return message;
        }
        match &mut message {
            Message::Update(update) => match self.random.below(5) {
                0 => update.half.version = edge,
                1 => update.half.paid = u128::from(edge) << 48,
                2 => update.base = edge,
                3 => update.echo = edge,
                _ => update.drops.push(edge),
            },
            Message::Reestablish(said) => match self.random.below(4) {
                0 => said.own = edge,
                1 => said.held = edge,
                2 => said.echoed = edge,
                _ => said.own_hash = Hash32([3; 32]),
            },
            Message::Ack { version, .. } | Message::Refuse { version, .. } => *version = edge,
            Message::Fulfil { lock, .. } | Message::Fail { lock, .. } => *lock = edge,
            Message::SignAck(ack) => ack.echo = edge,
            Message::Copy(copy) => copy.last_lock = edge,
            _ => {}
        }
        message
    }

    fn pay(&mut self, at: usize) {
        self.preimages = self.preimages.wrapping_add(1);
        let preimage = Preimage([self.preimages; 32]);
        let amount = Amount::new(u128::from(self.random.below(300))).expect("it is small");
        let secret = Hash32([4; 32]);
        let invoice = Invoice {
            preimage,
            amount: Some(amount),
            secret,
            hold: self.random.one_in(4),
            state: InvoiceState::Open,
            received: 0,
            released: 0,
            token: Address::ZERO,
        };
        self.step(1 - at, Input::AddInvoice(invoice));
        let onion = postcard::to_stdvec(&Hop::Deliver {
            secret,
            total: amount,
        });
        let part = Part {
            channel: self.channel,
            amount,
            onion: onion.expect("a hop serialises"),
        };
        let payment = NewPayment {
            hash: preimage.hash(),
            expiry: self.now + 3600,
            parts: vec![part],
        };
        self.step(at, Input::Pay(payment));
        let hash = preimage.hash();
        let decision = if self.random.one_in(2) {
            Input::Release(hash)
        } else {
            Input::Cancel(hash)
        };
        self.step(1 - at, decision);
    }

    /// Does one of the things that happen.
    ///
    /// # Panics
    /// If an invariant does not hold.
    pub fn live(&mut self) {
        let at = self.random.below(2) as usize;
        match self.random.below(40) {
            0..22 => self.deliver(),
            22..27 => {
                let direct = Direct {
                    amount: Amount::new(u128::from(self.random.below(400))).expect("it is small"),
                    reference: Hash32([5; 32]),
                };
                let channel = self.channel;
                self.step(at, Input::PayDirect { channel, direct });
            }
            27..31 => self.pay(at),
            31..34 => {
                self.now += self.random.below(30);
                self.step(at, Input::Tick);
            }
            34..37 => self.see_l1(at, true),
            37 => self.connect(),
            38 if self.nodes[at].waits_to_settle() => self.step(at, Input::Settle),
            38 => {
                let amount = Amount::new(u128::from(self.random.below(50))).expect("it is small");
                let channel = self.channel;
                self.step(at, Input::Withdraw { channel, amount });
            }
            _ => self.restart(at),
        }
    }

    fn restart(&mut self, at: usize) {
        let records = self.nodes[at].records();
        let pairs = records
            .iter()
            .filter_map(|record| Some((&record.key, record.value.as_deref()?)));
        let identity = self.nodes[at].identity().clone();
        self.nodes[at] = Node::restore(identity, pairs).expect("records decode");
        self.see_l1(at, false);
        self.connect();
    }
}

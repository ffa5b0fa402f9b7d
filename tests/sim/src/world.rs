//! One run: nodes, network, disks and L1 on one virtual clock, everything decided by the seed.
//!
//! ```text
//! seed → scenario (topology, who is honest, which faults) → events in order of time → invariants after each
//!      → heal: faults end, honest nodes close everything → every pot is empty, nobody honest has lost
//! ```

use crate::contract::{Contract, Merge};
use crate::evm::{self, Evm};
use crate::keys::{ClearOnions, SimKeys, payout, public_key, signed_by, signer};
use crate::l1::{Call, L1, Told, Tx};
use crate::random::{Random, mix};
use millrace_channels::digest::{self, Domain};
use millrace_channels::machine::channel::{Answer, Channel, Fault, Removal, Role};
use millrace_channels::machine::clock::{Numbering, VERSIONS_PER_SECOND};
use millrace_channels::machine::dispute::{ChainPhase, OnChain};
use millrace_channels::machine::effect::{Effect, Key, Notice, Transaction};
use millrace_channels::machine::forge::Forgery;
use millrace_channels::machine::payment::{
    Hop, Invoice, InvoiceState, NewPayment, Part, Payment, PaymentState,
};
use millrace_channels::machine::rules::{Rule, Rules};
use millrace_channels::machine::{Identity, Input, Node, Tools};
use millrace_channels::message::{Direct, Message, Reestablish, Refusal};
use millrace_channels::policy::Policy;
use millrace_channels::state::{Half, Lock, MAX_LOCKS, Params, list_root};
use millrace_channels::types::{
    Address, Amount, ChannelId, Hash32, PaymentHash, Preimage, PublicKey, Side, Timestamp,
};
use millrace_channels::watchtower::{Receipt, Tower, TowerEffect, Watch, WatchError};
use millrace_channels::wire;
use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet, BinaryHeap};

const START: Timestamp = 1_800_000_000;
const BLOCK: u64 = 30;
const FINALITY: usize = 6;
const ACTIVE: u64 = 40 * 60;
const WINDOW: u32 = 3600;
/// How far the clock of a dishonest peer is ahead that means to sign what wins over all that comes after.
const FAR_AHEAD: u64 = 24 * 3600;
const LAST: u64 = 9 * 3600;
/// The most that is forwarded for one peer at a time.
const PEER_VALUE: u128 = 700;
/// The tower's number among the keys.
const TOWER: u8 = 200;
/// A record without a receipt is given to the tower again after this.
const TOWER_RESEND: u64 = 30;
/// The number of somebody who is no party to anything.
const STRANGER: u8 = 199;

/// What a run is broken by on purpose, if at all.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mutation {
    /// Nothing: the product as it is.
    None,
    /// Honest nodes do not keep a rule.
    Rule(Rule),
    /// The contract merges whole snapshots.
    WholeMerge,
    /// The tower stores records and does nothing with them.
    IdleTower,
    /// A backup is used as if it were the newest state.
    BlindRestore,
}

/// A broken promise.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Violation {
    /// Which seed shows it.
    pub seed: u64,
    /// Virtual seconds since the start.
    pub at: u64,
    /// What happened.
    pub what: String,
}

/// A finished run, or the sum of several.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Outcome {
    /// Checksum of all effects in order: equal for equal seeds.
    pub trace: u64,
    /// Steps of all machines.
    pub steps: u64,
    /// Payments over locks that succeeded.
    pub succeeded: u64,
    /// Payments over locks that failed.
    pub failed: u64,
    /// Direct payments made.
    pub directs: u64,
    /// Disputes that were settled.
    pub disputes: u64,
    /// Faults of disks, tower, mempool and people that were injected, and what the dishonest did.
    pub faults: u64,
    /// Channels with a dishonest peer of which a tower gave back all that was lost.
    pub given_back: u64,
    /// Parts of payments that took the place of others.
    pub parts_replaced: u64,
    /// Calls that the real contract and the reference both executed, with equal results.
    pub compared: u64,
}

impl Outcome {
    /// Adds another run's counts.
    pub fn add(&mut self, other: &Self) {
        self.trace ^= other.trace;
        self.steps += other.steps;
        self.succeeded += other.succeeded;
        self.failed += other.failed;
        self.directs += other.directs;
        self.disputes += other.disputes;
        self.compared += other.compared;
        self.faults += other.faults;
        self.given_back += other.given_back;
        self.parts_replaced += other.parts_replaced;
    }
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Event {
    Deliver {
        link: usize,
        era: u32,
        to: usize,
        message: Box<Message>,
    },
    Block,
    Tick(usize),
    Act,
    Restart(usize),
    Connect(usize),
    Disconnect {
        link: usize,
        era: u32,
    },
    SeeL1(usize),
    Do(usize, Box<Input>),
    /// A client's record reaches the tower.
    Watch(usize, Box<Watch>),
    /// A receipt reaches the client.
    Receipt(usize, Receipt),
    /// Somebody dishonest numbers its halves in another way.
    Number(usize, Numbering),
    /// Somebody goes offline for good.
    Leave,
}

/// A lock that its receiver has failed though it can take it, from somebody whose tower may lack the half without it.
struct Trap {
    channel: ChannelId,
    /// Who is to lose.
    gone: usize,
    /// The version of its half when the lock stood.
    version: u64,
    hash: PaymentHash,
    /// The half with the lock.
    loot: Transaction,
}

struct Host {
    identity: Identity,
    keys: SimKeys,
    node: Option<Node>,
    disk: BTreeMap<Key, Vec<u8>>,
    old_disk: BTreeMap<Key, Vec<u8>>,
    from_backup: bool,
    /// It has lost its channels, and finds them on L1.
    from_chain: bool,
    /// Copies that it could give to somebody who has lost data, when they are old.
    copies: Vec<Message>,
    /// What its own database once said of a channel.
    stash: Vec<(ChannelId, Vec<u8>)>,
    /// Snapshots that it hides from somebody who has lost data, to show them in the end.
    hidden: Vec<(ChannelId, Transaction)>,
    /// How it numbers its halves: one that hides a half goes on from an older one in versions that stay below it.
    numbering: Numbering,
    evil: bool,
    rules: Option<Rule>,
    skew: i64,
    told: Told,
    blind_until: Timestamp,
    /// Kinds of message that it keeps to itself.
    mute: u8,
    /// It shows its preimages late, on L1 only.
    late: bool,
    /// Snapshots that it could submit.
    loot: Vec<Transaction>,
    ledger: Ledger,
    /// What it last gave its tower of each channel, and when.
    given: BTreeMap<ChannelId, (Given, Timestamp)>,
    /// The receipts on its disk.
    receipts: BTreeMap<ChannelId, (u64, u64)>,
}

/// What a tower's record is made from: both versions, and how many preimages were released.
type Given = (u64, u64, usize);

/// What a node knew of payments, to see that none changes its mind.
#[derive(Default)]
struct Ledger {
    /// All direct payments that it was told of.
    direct: u128,
    failed: BTreeSet<PaymentHash>,
    succeeded: BTreeSet<PaymentHash>,
    /// Direct payments that it was told of, by their reference: a loss of data may tell one twice.
    told: BTreeMap<Hash32, u128>,
    /// Direct payments that it made.
    made: u128,
    /// What invoices had received and payments had cost, or may yet, whose records it has lost.
    lost_received: BTreeMap<PaymentHash, u128>,
    lost_paid: BTreeMap<PaymentHash, u128>,
    /// What dishonest peers had paid or locked in halves that it has lost: only they and towers have them.
    at_risk: u128,
    /// What dishonest peers had paid in halves that were lost last, and the versions of those: the tower may save it.
    lost_last: BTreeMap<ChannelId, (u128, u64)>,
    /// The halves of each peer that it ever accepted, of somebody who loses data.
    ever: BTreeMap<ChannelId, BTreeMap<u64, Half>>,
}

struct Link {
    a: usize,
    b: usize,
    up: bool,
    era: u32,
    channels: Vec<ChannelId>,
}

/// Which faults this run has.
#[derive(Debug)]
struct Faults {
    drop: u64,
    duplicate: u64,
    reorder: bool,
    crash: u64,
    reorg: u64,
    blind: bool,
    lose_deposits: bool,
    stall: bool,
    /// Transactions are lost, held back, or sent by others first.
    mempool: bool,
    /// The tower lags, and dies and starts again from its records; its clients do not reach it for minutes.
    tower: bool,
    /// A write fails, and the node stops until somebody has made room.
    disk: bool,
    /// Everybody is offline and L1 stands still, for an hour.
    outage: bool,
    /// An honest node is restored again and again from old databases.
    old_database: bool,
    /// It is restored from L1 alone, sometimes or always.
    from_chain: bool,
    /// With its databases go its invoices and payments as well.
    everything: bool,
    /// It is a tower's client, and asks it after a loss.
    asks: bool,
}

/// What the program of a payer knows of a payment in two parts, to replace one that fails.
struct Split {
    payer: usize,
    payee: usize,
    amount: Amount,
    secret: Hash32,
    expiry: Timestamp,
    /// For each part: over which channel it leaves, how much leaves, how much arrives.
    parts: Vec<(ChannelId, Amount, u128)>,
}

/// One run.
pub struct World {
    seed: u64,
    random: Random,
    now: Timestamp,
    events: BinaryHeap<Reverse<(Timestamp, u64, usize)>>,
    slots: Vec<Option<Event>>,
    order: u64,
    hosts: Vec<Host>,
    links: Vec<Link>,
    channels: Vec<(ChannelId, Params, usize, usize)>,
    l1: L1,
    faults: Faults,
    healed: bool,
    stalled_until: Timestamp,
    stalled_at: Vec<(Timestamp, Timestamp)>,
    payments: u64,
    preimages: Vec<(Preimage, Timestamp, usize)>,
    outcome: Outcome,
    violation: Option<String>,
    trace: bool,
    tower: Tower,
    tower_told: Told,
    /// What the tower has written.
    tower_disk: BTreeMap<(ChannelId, PublicKey), Watch>,
    tower_blind_until: Timestamp,
    /// Channels that somebody wanted closed.
    asked: BTreeSet<ChannelId>,
    tower_idles: bool,
    blind_restore: bool,
    /// Who loses data. One only: what two have both lost nobody can give back.
    careless: Option<usize>,
    /// Who goes offline for good when the faults end, and what it knew then.
    guarded: Option<usize>,
    ghost: Option<Node>,
    /// It leaves now: the worst moment.
    leaving: bool,
    traps: Vec<Trap>,
    splits: BTreeMap<PaymentHash, Split>,
    /// Decides which parts are replaced, so that runs in which none fails alone stay as they are.
    other_ways: Random,
    /// Channels on which somebody dishonest has shown what is old.
    betrayed: BTreeSet<ChannelId>,
    /// Decides what concerns the tower's limit, so that runs without one stay as they are.
    dice: Random,
    /// Until when no client reaches the tower.
    tower_away_until: Timestamp,
    /// Seconds that an outage adds to the run.
    extra: u64,
    /// Until when somebody pays with a deposit that is not final.
    unsettled_until: Timestamp,
    /// From when on a reorganisation may lose transactions again.
    next_loss: Timestamp,
    /// The most that a node ever accepted as paid by the peer, of those that are restored from backups.
    accepted: BTreeMap<(usize, ChannelId), u128>,
}

impl World {
    /// A run from its seed.
    pub fn new(seed: u64, mutation: Mutation, trace: bool) -> Self {
        let mut random = Random::new(mix(seed ^ 0x6d69_6c6c_7261_6365));
        let domain = Domain {
            chain_id: evm::CHAIN_ID,
            contract: evm::contract_address(),
        };
        // The real contract cannot be broken on purpose.
        let beside = (mutation != Mutation::WholeMerge).then(Evm::default);
        let merge = match mutation {
            Mutation::WholeMerge => Merge::Whole,
            _ => Merge::PerHalf,
        };
        let contract = Contract::new(domain.separator(), signed_by, merge);
        let broken = match mutation {
            Mutation::Rule(rule) => Some(rule),
            _ => None,
        };
        let count = random.between(3, 5) as usize;
        let hostile = random.below(10) < 7;
        let hosts: Vec<Host> = (0..count)
            .map(|at| {
                let evil = hostile && random.one_in(2);
                Host::new(at, evil, broken.filter(|_| !evil), domain, &mut random)
            })
            .collect();
        let chaos = random.below(4);
        let faults = Faults {
            drop: if chaos == 0 { 0 } else { random.below(40) },
            duplicate: random.below(30),
            reorder: random.one_in(3),
            crash: if random.one_in(2) {
                0
            } else {
                random.between(40, 400)
            },
            reorg: if random.one_in(2) {
                0
            } else {
                random.between(4, 30)
            },
            blind: random.one_in(4),
            lose_deposits: random.one_in(3),
            stall: random.one_in(8),
            mempool: random.one_in(4),
            tower: random.one_in(2),
            disk: random.one_in(8),
            outage: !hostile && random.one_in(6),
            old_database: false,
            from_chain: false,
            everything: false,
            asks: false,
        };
        let mut world = Self {
            seed,
            random,
            now: START,
            events: BinaryHeap::new(),
            slots: Vec::new(),
            order: 0,
            hosts,
            links: Vec::new(),
            channels: Vec::new(),
            l1: L1::new(contract, START, FINALITY, beside),
            faults,
            healed: false,
            stalled_until: 0,
            stalled_at: Vec::new(),
            payments: 0,
            preimages: Vec::new(),
            outcome: Outcome::default(),
            violation: None,
            trace,
            tower: Tower::new(domain.separator(), policy(), []),
            tower_told: Told::default(),
            tower_disk: BTreeMap::new(),
            tower_blind_until: 0,
            asked: BTreeSet::new(),
            tower_idles: mutation == Mutation::IdleTower,
            blind_restore: mutation == Mutation::BlindRestore,
            careless: None,
            guarded: None,
            ghost: None,
            leaving: false,
            traps: Vec::new(),
            splits: BTreeMap::new(),
            other_ways: Random::new(mix(seed ^ 0x0077_6179_7321)),
            betrayed: BTreeSet::new(),
            dice: Random::new(mix(seed ^ 0x0074_6f77_6572)),
            tower_away_until: 0,
            extra: 0,
            unsettled_until: 0,
            next_loss: 0,
            accepted: BTreeMap::new(),
        };
        let candidate = world.random.below(count as u64) as usize;
        world.guarded = (!world.hosts[candidate].evil).then_some(candidate);
        if world.hosts.iter().all(|host| !host.evil) && world.random.one_in(3) {
            world.faults.old_database = true;
            world.careless = Some(seed as usize % count);
        }
        world.lose_some_day();
        world.limit();
        if world.trace {
            let evil: Vec<usize> = (0..count).filter(|at| world.hosts[*at].evil).collect();
            let limits: Vec<Option<u128>> = world.hosts.iter().map(Host::limit).collect();
            println!(
                "{count} nodes, dishonest {evil:?}, limits {limits:?}, leaves {:?}, {:?}",
                world.guarded, world.faults
            );
        }
        world.build(&domain);
        world
    }

    /// Whether somebody honest loses its data in this run, beside dishonest peers too, and how much of it.
    fn lose_some_day(&mut self) {
        let mut dice = Random::new(mix(self.seed ^ 0x6c6f_7374));
        let honest: Vec<usize> = (0..self.hosts.len())
            .filter(|at| !self.hosts[*at].evil)
            .collect();
        let beside = honest.len() < self.hosts.len() && !honest.is_empty();
        if beside && dice.one_in(4) {
            self.faults.old_database = true;
            self.careless = Some(*dice.pick(&honest));
        }
        for at in 0..self.hosts.len() {
            if beside && self.careless.is_some() && self.hosts[at].evil && dice.one_in(3) {
                let from = START + dice.between(60, 500);
                let ahead = Numbering::Ahead(FAR_AHEAD);
                self.schedule(from, Event::Number(at, ahead));
            }
        }
        if self.faults.old_database {
            self.faults.crash = 60;
            self.guarded = None;
            self.faults.from_chain = dice.one_in(2);
            self.faults.everything = dice.one_in(3);
            self.faults.asks = matches!(self.seed % 10, 0 | 4);
        }
    }

    /// Some wait for the tower's receipt above a limit, or above nothing at all.
    fn limit(&mut self) {
        let unlimited = self.guarded.filter(|_| self.dice.one_in(2));
        for at in 0..self.hosts.len() {
            let leaves = self.guarded == Some(at) && unlimited.is_none();
            let chosen = leaves || unlimited != Some(at) && self.dice.one_in(6);
            if self.hosts[at].evil || self.is_careless(at) || !chosen {
                continue;
            }
            let limit = if self.dice.one_in(3) { 80 } else { 0 };
            let host = &mut self.hosts[at];
            host.identity.policy.tower_limit = Some(limit);
            host.node = Some(host.with_rules(Node::new(host.identity.clone())));
        }
    }

    /// A line of nodes, sometimes with a second channel or a way around.
    fn build(&mut self, domain: &Domain) {
        let count = self.hosts.len();
        let mut pairs: Vec<(usize, usize)> = (1..count).map(|at| (at - 1, at)).collect();
        if self.random.one_in(2) {
            pairs.push((0, count - 1));
        }
        if self.random.one_in(3) {
            pairs.push((0, 1));
        }
        for (salt, (a, b)) in pairs.into_iter().enumerate() {
            let params = Params {
                signer_a: signer(a as u8),
                payout_a: payout(a as u8),
                signer_b: signer(b as u8),
                payout_b: payout(b as u8),
                token: Address::ZERO,
                window_secs: WINDOW,
                salt: salt as u64,
            };
            let id = digest::channel_id(&domain.separator(), &params);
            self.channels.push((id, params, a, b));
            match self
                .links
                .iter_mut()
                .find(|link| (link.a, link.b) == (a, b))
            {
                Some(link) => link.channels.push(id),
                None => self.links.push(Link {
                    a,
                    b,
                    up: false,
                    era: 0,
                    channels: vec![id],
                }),
            }
            for (at, side) in [(a, Side::A), (b, Side::B)] {
                let peer = public_key(if side == Side::A { b } else { a } as u8);
                self.input(at, Input::AddChannel { params, side, peer });
                if side == Side::A || !self.random.one_in(3) {
                    let amount = 1 + u128::from(self.random.below(1000));
                    self.deposit(at, params, side, amount, START);
                }
            }
        }
        for at in 0..count {
            self.schedule(START + 5 + at as u64, Event::Tick(at));
        }
        for link in 0..self.links.len() {
            self.schedule(START + 1, Event::Connect(link));
        }
        self.schedule(START + BLOCK, Event::Block);
        self.schedule(START + 9 * BLOCK, Event::Act);
    }

    fn deposit(&mut self, at: usize, params: Params, side: Side, amount: u128, ready: Timestamp) {
        self.l1.send(Tx {
            sender: signer(at as u8),
            call: Call::Deposit {
                params,
                side,
                amount,
            },
            ready,
        });
    }

    fn schedule(&mut self, at: Timestamp, event: Event) {
        self.order += 1;
        let slot = self.slots.len();
        self.slots.push(Some(event));
        self.events.push(Reverse((at, self.order, slot)));
    }

    fn violate(&mut self, what: String) {
        if self.trace {
            println!("{:>6} VIOLATION {what}", self.now - START);
        }
        self.violation.get_or_insert(what);
    }

    /// Runs to the end.
    ///
    /// # Errors
    /// The first broken promise.
    pub fn run(mut self) -> Result<Outcome, Violation> {
        while let Some(Reverse((at, _, slot))) = self.events.pop() {
            self.now = self.now.max(at);
            let over = self.leaving || self.now > START + ACTIVE + self.extra;
            if !self.healed && over {
                self.heal();
            }
            if let Some(event) = self.slots[slot].take() {
                self.handle(event);
            }
            if self.violation.is_some() || (self.healed && self.is_over()) {
                break;
            }
            if self.now > START + LAST + self.extra {
                self.violate("a pot was not emptied".to_owned());
                break;
            }
        }
        if self.violation.is_none() {
            self.check_end();
        }
        match self.violation.take() {
            Some(what) => Err(Violation {
                seed: self.seed,
                at: self.now - START,
                what,
            }),
            None => {
                self.count();
                Ok(self.outcome)
            }
        }
    }

    fn handle(&mut self, event: Event) {
        match event {
            Event::Deliver {
                link,
                era,
                to,
                message,
            } => self.deliver(link, era, to, *message),
            Event::Block => self.block(),
            Event::Tick(at) => self.tick(at),
            Event::Act => self.act(),
            Event::Restart(at) => self.restart(at),
            Event::Connect(link) => self.connect(link),
            Event::Disconnect { link, era } => {
                if self.links[link].era == era {
                    self.disconnect(link);
                }
            }
            Event::SeeL1(at) => self.see_l1(at),
            Event::Do(at, input) => self.input(at, *input),
            Event::Watch(from, watch) => self.watch(from, *watch),
            Event::Receipt(to, receipt) => self.receive_receipt(to, &receipt),
            Event::Number(at, numbering) => {
                let host = &mut self.hosts[at];
                host.numbering = numbering;
                if let Some(node) = host.node.as_mut() {
                    node.number(numbering);
                }
            }
            Event::Leave => self.leaving = true,
        }
    }

    // ---- Machines ----

    fn input(&mut self, at: usize, input: Input) {
        if let Input::ForceClose(channel) = &input {
            self.asked.insert(*channel);
        }
        let host = &mut self.hosts[at];
        let Some(node) = host.node.as_mut() else {
            return;
        };
        let local = self.now.saturating_add_signed(host.skew);
        if self.trace {
            trace_input(self.now, at, &input);
        }
        let keys = host.keys;
        let tools = Tools {
            keys: &keys,
            onions: &ClearOnions,
        };
        let direct = match &input {
            Input::PayDirect { direct, .. } => direct.amount.get(),
            _ => 0,
        };
        let replaces = matches!(input, Input::AddParts(_));
        let waited = node.waits_to_settle();
        let (effects, result) = node.step(local, input, tools);
        let settles = !waited && node.waits_to_settle();
        self.outcome.steps += 1;
        if result.is_ok() {
            host.ledger.made += direct;
            self.outcome.parts_replaced += u64::from(replaces);
        }
        // Some milliseconds, in a clock of seconds: often at once, or the next tick does it.
        if settles && !self.random.one_in(4) {
            let then = self.now + self.random.below(2);
            self.schedule(then, Event::Do(at, Box::new(Input::Settle)));
        }
        if let (true, Err(error)) = (self.trace, &result) {
            println!("{:>6} {at} refuses: {error}", self.now - START);
        }
        self.check_step(at);
        self.check_release(at);
        self.execute(at, effects);
        // A dishonest peer is a client of the same tower. Mostly it is not: what it gives the tower helps its victim.
        let shares = self.guarded.is_some() && self.seed.is_multiple_of(4) && self.hosts[at].evil;
        let asks = self.faults.asks && self.is_careless(at);
        if asks || shares || self.guarded == Some(at) || self.hosts[at].limit().is_some() {
            self.inform_tower(at);
        }
        if self.faults.old_database {
            self.remember(at);
        }
    }

    /// What holds after every step of an honest node.
    fn check_step(&mut self, at: usize) {
        let host = &self.hosts[at];
        let Some(node) = host
            .node
            .as_ref()
            .filter(|_| !host.evil && host.rules.is_none())
        else {
            return;
        };
        let mut forwarded: BTreeMap<[u8; 33], u128> = BTreeMap::new();
        let mut broken = None;
        for channel in node.channels().values().filter(|channel| !channel.closed) {
            let past = &channel.own.halves;
            if past.keys().next() != Some(&channel.own.echoed)
                || past.keys().next_back() != Some(&channel.own.version)
            {
                broken = Some("the past does not lead from the echoed half to the newest");
            }
            if channel.held.list().len() > MAX_LOCKS || channel.own.standing().count() > MAX_LOCKS {
                broken = Some("a half has more locks than one block can settle");
            }
            let standing = channel.own.standing().map(|(_, own)| own.lock.amount.get());
            let standing: Vec<u128> = standing.collect();
            if channel.own.locks.standing() != standing.len()
                || channel.own.locked() != standing.iter().sum::<u128>()
            {
                broken = Some("what the standing locks come to is not what is kept of it");
            }
            if list_root(&channel.held.list()) != channel.held.half.locks {
                broken = Some("a list is not the one that was signed");
            }
            let locks = channel.held.locks.values();
            let passed = locks.filter(|peer| matches!(peer.role, Role::Forward { .. }));
            let sum: u128 = passed.map(|peer| peer.lock.amount.get()).sum();
            *forwarded.entry(channel.peer.0).or_default() += sum;
        }
        if forwarded.values().any(|sum| *sum > PEER_VALUE) && !self.is_careless(at) {
            broken = Some("more is forwarded for a peer than the policy allows");
        }
        if let Some(what) = broken {
            self.violate(format!("node {at}: {what}"));
        }
    }

    /// What a node has accepted and made durable must not be lost, whatever it forgets; sometimes it makes a backup.
    fn remember(&mut self, at: usize) {
        let Some(node) = self.hosts[at].node.as_ref() else {
            return;
        };
        for (id, channel) in node.channels() {
            let newest = self.accepted.entry((at, *id)).or_default();
            *newest = (*newest).max(channel.held.half.paid);
        }
        if self.is_careless(at) && !self.hosts[at].evil {
            self.check_versions(at);
        }
        // A backup with locks of peers that stand has more to forget.
        let node = self.hosts[at].node.as_ref();
        let mut channels = node.iter().flat_map(|node| node.channels().values());
        let holds = channels.any(|channel| !channel.held.locks.is_empty());
        if self.now > START && self.random.one_in(if holds { 30 } else { 100 }) {
            self.hosts[at].old_disk = self.hosts[at].disk.clone();
        }
    }

    /// What it takes after a loss is newer than all that it took before, or one of those: a dishonest peer may show any of them.
    fn check_versions(&mut self, at: usize) {
        let host = &mut self.hosts[at];
        let Some(node) = host.node.as_ref() else {
            return;
        };
        let mut outbid = None;
        for (id, channel) in node.channels() {
            let half = channel.held.half;
            let ever = host.ledger.ever.entry(*id).or_default();
            let newest = ever.keys().next_back().copied();
            let one_of_those = ever.get(&half.version) == Some(&half);
            if newest.is_some_and(|newest| half.version <= newest) && !one_of_those {
                outbid = Some((half.version, newest));
            }
            ever.insert(half.version, half);
        }
        if let Some((version, newest)) = outbid {
            self.violate(format!(
                "node {at} took version {version} though it had lost {newest:?}"
            ));
        }
    }

    /// An honest peer of somebody restored signs its newest half once more, as soon as its clock is above all that may be lost.
    fn check_renewed(&mut self) {
        let Some(at) = self.careless.filter(|_| !self.healed) else {
            return;
        };
        let calm = self.now > self.stalled_until + 300;
        let late = self.channels.iter().find_map(|(id, _, a, b)| {
            let other = match (*a == at, *b == at) {
                (true, _) => *b,
                (_, true) => *a,
                _ => return None,
            };
            let blind = [at, other].map(|host| self.hosts[host].blind_until);
            if self.hosts[other].evil || blind.iter().any(|until| self.now < until + 120) {
                return None;
            }
            let [lost, peer] =
                [at, other].map(|host| self.hosts[host].node.as_ref()?.channels().get(id));
            let (lost, peer) = (lost?, peer?);
            let spare = lost.spare.as_ref()?;
            let able = [lost, peer].iter().all(|channel| {
                let usable = channel.fault.is_none() && !channel.closing && channel.is_open();
                let session = &channel.session;
                usable
                    && channel.payout.is_none()
                    && session.established
                    && self.now > session.since + 120
            });
            let due = self.now > lost.lost_up_to / VERSIONS_PER_SECOND + 180;
            (able && due && spare.half.version == peer.own.version).then_some(other)
        });
        if let Some(peer) = late.filter(|_| calm) {
            self.violate(format!(
                "node {peer} did not sign its newest half again for node {at}, which has lost data"
            ));
        }
    }

    /// Whether a node is restored from backups, or from L1.
    fn is_careless(&self, at: usize) -> bool {
        self.careless == Some(at)
    }

    /// Channels go back to an old backup, or to what L1 shows; invoices and payments are mostly kept elsewhere.
    fn lose_data(&mut self, at: usize) {
        let from_chain = self.faults.from_chain && self.random.one_in(2);
        let everything = from_chain && self.faults.everything;
        if self.hosts[at].old_disk.is_empty() && !from_chain {
            return;
        }
        let old = match from_chain {
            true => BTreeMap::new(),
            false => self.hosts[at].old_disk.clone(),
        };
        self.note_loss(at, &old, everything);
        let channel = |key: &Key| matches!(key, Key::Channel(_) | Key::Preimage(_));
        let host = &mut self.hosts[at];
        host.from_backup = true;
        host.from_chain = from_chain;
        host.disk.retain(|key, _| !channel(key) && !everything);
        host.disk
            .extend(old.into_iter().filter(|(key, _)| channel(key)));
        self.pretend(at);
        self.outcome.faults += 1;
        if self.trace {
            let what = match (from_chain, everything) {
                (false, _) => "goes back to a backup",
                (true, false) => "has lost its channels",
                (true, true) => "has lost everything",
            };
            println!("{:>6} {at} {what}", self.now - START);
        }
    }

    /// Dishonest peers of somebody who has lost data go back as well, and hide the newest that both had signed.
    fn pretend(&mut self, victim: usize) {
        for (id, _, a, b) in self.channels.clone() {
            let peer = match (a == victim, b == victim) {
                (true, _) => b,
                (_, true) => a,
                _ => continue,
            };
            let host = &self.hosts[peer];
            let stash = host.stash.iter().filter(|(of, _)| *of == id);
            let stash: Vec<Vec<u8>> = stash.map(|(_, bytes)| bytes.clone()).collect();
            let node = host.node.as_ref().filter(|_| host.evil);
            let Some(channel) = node.and_then(|node| node.channels().get(&id)) else {
                continue;
            };
            if channel.held.signature.is_none() || stash.is_empty() || self.dice.one_in(4) {
                continue;
            }
            let separator = host.identity.domain.separator();
            let newest = channel.submission(&separator, &host.keys);
            let old = self.dice.pick(&stash).clone();
            let host = &mut self.hosts[peer];
            host.hidden.push((id, newest));
            // Whose hidden half is far ahead of the clock may go on by the clock; others stay below theirs, one by one.
            host.numbering = match host.numbering {
                Numbering::Ahead(_) => Numbering::Clock,
                _ => Numbering::Creeping,
            };
            host.disk.insert(Key::Channel(id), old);
            self.outcome.faults += 1;
            self.crash(peer);
            if self.dice.one_in(4) {
                let pause = self.dice.between(600, 1800);
                let honest = Event::Number(peer, Numbering::Clock);
                self.schedule(self.now + pause, honest);
            }
            for latest in [300, 900, 1500] {
                let units = 1 + u128::from(self.dice.below(400));
                let direct = Direct {
                    amount: Amount::new(units).unwrap_or(Amount::ZERO),
                    reference: Hash32(stretch(self.seed ^ 0xd2, self.order)),
                };
                let pay = Input::PayDirect {
                    channel: id,
                    direct,
                };
                let pause = self.dice.between(60, latest);
                self.schedule(self.now + pause, Event::Do(peer, Box::new(pay)));
            }
        }
    }

    /// What the records said that are lost now, and what only dishonest peers can give back.
    fn note_loss(&mut self, at: usize, old: &BTreeMap<Key, Vec<u8>>, everything: bool) {
        let read = |bytes: &Vec<u8>| postcard::from_bytes::<Channel>(bytes).ok();
        let mut at_risk = 0;
        let mut lost_last = BTreeMap::new();
        let mut held = Vec::new();
        let mut received = Vec::new();
        let mut paid = Vec::new();
        for (key, bytes) in &self.hosts[at].disk {
            match key {
                Key::Channel(id) => {
                    let Some(known) = read(bytes).filter(|known| !known.closed) else {
                        continue;
                    };
                    held.push((*id, known.held.half));
                    let (peer, _) = self.way_on(at, id);
                    let kept = old.get(key).and_then(read);
                    let kept = kept.map_or(0, |kept| kept.held.half.paid);
                    if self.hosts[peer].evil {
                        let half = known.held.half;
                        let paid = half.paid.saturating_sub(kept);
                        lost_last.insert(*id, (paid, half.version));
                        at_risk += paid + known.held.locked();
                    }
                }
                Key::Invoice(hash) if everything => {
                    let known = postcard::from_bytes::<Invoice>(bytes).ok();
                    received.extend(known.map(|known| (*hash, known.received)));
                }
                Key::Payment(hash) if everything => {
                    let known = postcard::from_bytes::<Payment>(bytes).ok();
                    paid.extend(known.map(|known| (*hash, known.paid + known.pending)));
                }
                Key::Invoice(_) | Key::Payment(_) | Key::Preimage(_) => {}
            }
        }
        let ledger = &mut self.hosts[at].ledger;
        ledger.at_risk += at_risk;
        ledger.lost_last = lost_last;
        for (id, half) in held {
            ledger
                .ever
                .entry(id)
                .or_default()
                .insert(half.version, half);
        }
        ledger.lost_received.extend(received);
        ledger.lost_paid.extend(paid);
    }

    /// Takes up the channels that L1 shows and has not closed for good.
    fn find_lost(&mut self, at: usize, node: &mut Node) {
        for (id, params, a, b) in self.channels.clone() {
            let side = match (a == at, b == at) {
                (true, _) => Side::A,
                (_, true) => Side::B,
                _ => continue,
            };
            let known = self.l1.finally().channels.get(&id);
            if known.is_some_and(|(_, chain)| chain.is_closed()) {
                continue;
            }
            let peer = public_key(if a == at { b } else { a } as u8);
            let keys = self.hosts[at].keys;
            // Often only the address is known, which L1 shows.
            let named = self.random.one_in(2).then_some(peer);
            if let Err(error) = node.add_lost(params, side, named, &keys) {
                self.violate(format!("a channel on L1 is not taken up: {error}"));
            }
        }
    }

    /// Gives the tower the newest records. Who has no limit is confirmed at once; who has one waits for the receipt, and the
    /// record and the receipt take their time.
    fn inform_tower(&mut self, at: usize) {
        let waits = self.hosts[at].limit().is_some();
        let host = &mut self.hosts[at];
        let Some(node) = host.node.as_ref() else {
            return;
        };
        let mut watches = Vec::new();
        let mut behind = false;
        for (id, channel) in node.channels() {
            let answered = channel.held.locks.values();
            let answered = answered.filter(|peer| peer.answer == Some(Answer::Fulfil));
            let state = (
                channel.held.half.version,
                channel.own.echoed,
                answered.count(),
            );
            let confirmed = host.receipts.get(id).copied().unwrap_or((0, 0));
            let lacks = waits && confirmed != (state.1, state.0) && !channel.closed;
            behind |= lacks;
            let fresh = host.given.get(id).is_some_and(|(given, when)| {
                *given == state && (!lacks || self.now < when + TOWER_RESEND)
            });
            if !fresh {
                host.given.insert(*id, (state, self.now));
                watches.extend(node.watch(id, &host.keys));
            }
        }
        for watch in watches {
            if waits {
                let delay = self.tower_delay();
                self.schedule(self.now + delay, Event::Watch(at, Box::new(watch)));
            } else {
                self.watch(at, watch);
            }
        }
        if self.guarded == Some(at) && waits && !self.healed && self.is_trapped(at) {
            // What was said last still arrives.
            self.schedule(self.now + 2, Event::Leave);
        }
        // The worst moment to leave for good: the tower lacks something.
        let late = self.now > START + ACTIVE / 3 && !self.healed;
        if self.guarded == Some(at) && behind && late && self.dice.one_in(30) {
            self.leaving = true;
        }
    }

    fn tower_delay(&mut self) -> u64 {
        if self.faults.tower && !self.healed && self.dice.one_in(60) {
            self.tower_away_until = self.now + self.dice.between(30, 900);
            self.outcome.faults += 1;
        }
        if self.dice.one_in(8) {
            self.dice.between(1, 20)
        } else {
            self.dice.below(3)
        }
    }

    /// Whether a lock was failed that is done for this node, while the tower has nothing but the half with the lock.
    fn is_trapped(&self, at: usize) -> bool {
        let Some(node) = self.hosts[at].node.as_ref() else {
            return false;
        };
        let of = |trap: &&Trap| trap.gone == at;
        self.traps.iter().filter(of).any(|trap| {
            let channel = &node.channels()[&trap.channel];
            let stored = self.tower_disk.get(&(trap.channel, public_key(at as u8)));
            let stored = stored.map_or(0, |watch| watch.halves.side(channel.side).version);
            let mut channels = node.channels().values();
            let stands = channels.any(|channel| {
                let held = channel.held.locks.values();
                let own = channel.own.standing();
                held.map(|peer| peer.lock.hash)
                    .any(|hash| hash == trap.hash)
                    || own
                        .map(|(_, own)| own.lock.hash)
                        .any(|hash| hash == trap.hash)
            });
            let payment = node.payments().get(&trap.hash);
            let failed = payment.is_none_or(|known| matches!(known.state, PaymentState::Failed(_)));
            trap.version > stored && channel.own.echoed > trap.version && !stands && failed
        })
    }

    /// A record reaches the tower, unless nobody reaches it or its client is gone.
    fn watch(&mut self, from: usize, watch: Watch) {
        let waits = self.hosts[from].limit().is_some();
        let gone = self.ghost.is_some() && self.guarded == Some(from);
        if waits && (gone || !self.healed && self.now < self.tower_away_until) {
            return;
        }
        let (client, keys) = (public_key(from as u8), SimKeys { node: TOWER });
        match self.tower.watch(self.now, client, watch, &keys) {
            Ok(effects) => {
                let receipts: Vec<Receipt> = effects
                    .iter()
                    .filter_map(|effect| match effect {
                        TowerEffect::Receipt(receipt) => Some(*receipt),
                        _ => None,
                    })
                    .collect();
                self.perform_for_tower(effects);
                for receipt in receipts.into_iter().filter(|_| waits) {
                    let delay = self.tower_delay();
                    self.schedule(self.now + delay, Event::Receipt(from, receipt));
                }
            }
            // Overtaken by a newer one of its client.
            Err(WatchError::Older { .. }) if waits || self.is_careless(from) => {}
            Err(_) if self.hosts[from].evil => {}
            Err(error) => self.violate(format!("the tower refused an honest record: {error}")),
        }
    }

    fn receive_receipt(&mut self, to: usize, receipt: &Receipt) {
        let (_, _, a, _) = self.channel(&receipt.channel);
        let (own, held) = if *a == to {
            (receipt.version_a, receipt.version_b)
        } else {
            (receipt.version_b, receipt.version_a)
        };
        let host = &mut self.hosts[to];
        if host.node.is_none() {
            return;
        }
        let known = host.receipts.entry(receipt.channel).or_default();
        *known = (known.0.max(own), known.1.max(held));
        let channel = receipt.channel;
        self.input(to, Input::Guarded { channel, own, held });
    }

    /// A payment above its limit that an honest node releases is one that the tower has.
    fn check_release(&mut self, at: usize) {
        let host = &self.hosts[at];
        let honest = host.node.as_ref().filter(|_| !host.evil);
        let (Some(limit), Some(node)) = (host.limit(), honest) else {
            return;
        };
        let unguarded = node.channels().iter().any(|(id, channel)| {
            let watch = self.tower_disk.get(&(*id, public_key(at as u8)));
            let stored = watch.map_or(0, |watch| watch.halves.side(channel.side.other()).version);
            let lacks = |lock: &u64| {
                channel
                    .waits
                    .came
                    .get(lock)
                    .is_some_and(|came| stored < *came)
            };
            channel.held.locks.iter().any(|(lock, peer)| {
                let invoice = node.invoices().get(&peer.lock.hash);
                let part = matches!(peer.role, Role::Part { .. });
                // What came after a loss of data may be for a preimage that is out already.
                let released = part && !peer.recovered && peer.answer == Some(Answer::Fulfil);
                released && lacks(lock) && invoice.is_some_and(|invoice| invoice.released > limit)
            })
        });
        if unguarded {
            self.violate(format!("node {at} released a payment that its tower lacks"));
        }
    }

    fn perform_for_tower(&mut self, effects: Vec<TowerEffect>) {
        for effect in effects {
            match effect {
                TowerEffect::Watch(_, hashes) => self.tower_told.fresh.extend(hashes),
                TowerEffect::Broadcast(transaction) if !self.tower_idles => {
                    self.broadcast(usize::from(TOWER), transaction);
                }
                TowerEffect::Persist(id, client, Some(watch)) => {
                    self.tower_disk.insert((id, client), *watch);
                }
                TowerEffect::Persist(id, client, None) => {
                    self.tower_disk.remove(&(id, client));
                }
                TowerEffect::Broadcast(_) | TowerEffect::Receipt(_) => {}
            }
        }
    }

    /// The tower sees L1.
    fn see_l1_from_tower(&mut self) {
        if self.now < self.tower_blind_until {
            return;
        }
        if self.faults.tower && self.random.one_in(40) {
            // Less than a margin: that is what the margin is for.
            self.tower_blind_until = self.now + self.random.between(BLOCK, 4 * BLOCK);
            self.outcome.faults += 1;
            if self.random.one_in(2) {
                let records = self.tower_disk.iter();
                let records = records.map(|((_, client), watch)| (*client, watch.clone()));
                self.tower = Tower::new(evm::separator(), policy(), records);
                self.tower_told = Told::default();
                self.tower_told.fresh = self.tower.watched();
            }
            return;
        }
        let channels: Vec<ChannelId> = self.tower.channels().copied().collect();
        let reports = self.l1.reports(&mut self.tower_told, &channels);
        for report in reports {
            let effects = self
                .tower
                .chain_reported(self.now, report, &SimKeys { node: TOWER });
            self.perform_for_tower(effects);
        }
    }

    /// Does what a machine asks, or dies in the middle of it.
    fn execute(&mut self, at: usize, effects: Vec<Effect>) {
        if self.hosts[at].evil {
            self.take_loot(at);
        }
        let spoken = effects
            .iter()
            .filter(|effect| matches!(effect, Effect::Persist(_) | Effect::Send { .. }))
            .count() as u64;
        let crash = self.faults.crash;
        let dies = !self.healed
            && self.now > START
            && !self.hosts[at].evil
            && crash > 0
            && spoken > 0
            && self.random.one_in(crash);
        let full = !self.healed
            && self.faults.disk
            && self.now > START
            && !self.hosts[at].evil
            && matches!(effects.first(), Some(Effect::Persist(_)))
            && self.random.one_in(300);
        if full {
            // The write fails: nothing of the step is durable, so nothing of it is said.
            self.outcome.faults += 1;
            self.crash(at);
            return;
        }
        let fatal = dies.then(|| self.random.below(effects.len() as u64 + 1) as usize);
        for (number, effect) in effects.into_iter().enumerate() {
            if fatal == Some(number) {
                break;
            }
            self.outcome.trace = mix(self.outcome.trace ^ fingerprint(at, &effect));
            self.perform(at, effect);
        }
        if fatal.is_some() {
            self.outcome.faults += 1;
            self.crash(at);
        }
    }

    fn perform(&mut self, at: usize, effect: Effect) {
        match effect {
            Effect::Persist(records) => {
                for record in records {
                    match record.value {
                        Some(value) => self.hosts[at].disk.insert(record.key, value),
                        None => self.hosts[at].disk.remove(&record.key),
                    };
                }
            }
            Effect::Send { to, message } => self.transmit(at, to.0[1] as usize, message),
            Effect::Broadcast(transaction) => self.broadcast(at, transaction),
            Effect::Watch(hashes) => self.hosts[at].told.fresh.extend(hashes),
            Effect::Notify(notice) => self.notice(at, notice),
        }
    }

    fn broadcast(&mut self, at: usize, transaction: Transaction) {
        if self.trace {
            println!("{:>6} {at} L1 {}", self.now - START, brief(&transaction));
        }
        if self.helps_its_victim(at, &transaction) {
            return;
        }
        let mut delay = self.random.below(3) * BLOCK;
        let opens = matches!(transaction, Transaction::Submit { .. });
        let wanted = |transaction: &Transaction, world: &Self| match transaction {
            Transaction::Submit { params, .. } => world
                .channels
                .iter()
                .any(|(id, known, ..)| known == params && world.asked.contains(id)),
            _ => true,
        };
        let peaceful = self.hosts.iter().all(|host| !host.evil);
        if opens && peaceful && !self.faults.old_database && !wanted(&transaction, self) {
            self.violate("a channel that nobody wanted closed is closed".to_owned());
        }
        let mut senders = vec![signer(at as u8)];
        if self.faults.mempool && !self.healed {
            match self.random.below(10) {
                0 => senders.clear(),
                1 => delay += 2 * BLOCK,
                2 => senders.insert(0, signer(STRANGER)),
                _ => {}
            }
            self.outcome.faults += u64::from(delay > 2 * BLOCK || senders.len() != 1);
        }
        for sender in senders {
            self.l1.send(Tx {
                sender,
                call: Call::Node(transaction.clone()),
                ready: self.now + delay,
            });
        }
    }

    /// Whether somebody dishonest would challenge the old half that it has shown itself.
    fn helps_its_victim(&self, at: usize, transaction: &Transaction) -> bool {
        let Transaction::Submit { params, .. } = transaction else {
            return false;
        };
        let evil = self.hosts.get(at).is_some_and(|host| host.evil);
        let id = self.channels.iter().find(|(_, known, ..)| known == params);
        let of = id.filter(|(id, ..)| evil && self.betrayed.contains(id));
        of.and_then(|(id, ..)| self.l1.head().channels.get(id))
            .is_some_and(|(_, chain)| !chain.is_open())
    }

    fn notice(&mut self, at: usize, notice: Notice) {
        if self.trace {
            println!("{:>6} {at} notes {notice:?}", self.now - START);
        }
        let honest = |world: &Self, channel: &ChannelId| {
            let (_, _, a, b) = world.channel(channel);
            !world.hosts[*a].evil && !world.hosts[*b].evil
        };
        match &notice {
            // Who has forgotten a cooperative payout may offer what it no longer has; it is refused and loses nothing.
            Notice::RefusedByPeer {
                refusal: Refusal::Balance { .. },
                ..
            } if self.faults.old_database => {}
            Notice::RefusedByPeer { channel, refusal } if honest(self, channel) => {
                self.violate(format!("an honest half was refused: {refusal}"));
            }
            Notice::Blame { channel, .. } if honest(self, channel) && self.healed => {
                self.violate("an honest peer was blamed".to_owned());
            }
            Notice::PeerAtFault {
                fault: Fault::DataLost(_),
                ..
            } if self.faults.old_database => {}
            Notice::PeerAtFault { channel, fault } if honest(self, channel) => {
                self.violate(format!("an honest peer was found at fault: {fault:?}"));
            }
            Notice::PartFailed {
                hash,
                channel,
                amount,
                ..
            } => self.replace_part(*hash, *channel, *amount),
            _ => {}
        }
        let ledger = &mut self.hosts[at].ledger;
        let flipped = match notice {
            Notice::DirectReceived {
                amount, reference, ..
            } => {
                // A lock that came and went between two halves is a payment of its payer, not of this peer.
                let hash = PaymentHash(reference.0);
                if !self
                    .preimages
                    .iter()
                    .any(|(known, ..)| known.hash() == hash)
                {
                    ledger.told.insert(reference, amount.get());
                }
                ledger.direct += amount.get();
                false
            }
            Notice::PaymentFailed { hash, .. } => {
                ledger.failed.insert(hash);
                ledger.succeeded.contains(&hash)
            }
            Notice::PaymentSucceeded { hash, .. } => {
                ledger.succeeded.insert(hash);
                ledger.failed.contains(&hash)
            }
            _ => false,
        };
        if flipped && !self.hosts[at].evil {
            self.violate("a payment both failed and succeeded".to_owned());
        }
    }

    fn channel(&self, id: &ChannelId) -> &(ChannelId, Params, usize, usize) {
        self.channels
            .iter()
            .find(|channel| channel.0 == *id)
            .expect("nodes know only these channels")
    }

    // ---- Disk ----

    fn crash(&mut self, at: usize) {
        if self.trace {
            println!("{:>6} {at} dies", self.now - START);
        }
        self.hosts[at].node = None;
        // Its program has forgotten which parts it may replace.
        for split in self.splits.values_mut().filter(|split| split.payer == at) {
            split.parts.clear();
        }
        if self.is_careless(at) && !self.healed && self.random.one_in(2) {
            self.lose_data(at);
        }
        // What it has sent still arrives; then its peers notice.
        for link in 0..self.links.len() {
            if self.links[link].a == at || self.links[link].b == at {
                let era = self.links[link].era;
                self.schedule(self.now + 1, Event::Disconnect { link, era });
            }
        }
        let down = if self.random.one_in(10) {
            self.random.between(60, 1200)
        } else {
            self.random.between(2, 60)
        };
        self.schedule(self.now + down, Event::Restart(at));
    }

    fn restart(&mut self, at: usize) {
        let gone = self.ghost.is_some() && self.guarded == Some(at);
        let host = &mut self.hosts[at];
        if host.node.is_some() || gone {
            return;
        }
        let records = host.disk.iter().map(|(key, value)| (key, value.as_slice()));
        let backup = std::mem::take(&mut host.from_backup);
        let lost = std::mem::take(&mut host.from_chain);
        let restored = if backup && !self.blind_restore {
            Node::from_backup(host.identity.clone(), records)
        } else {
            Node::restore(host.identity.clone(), records)
        };
        match restored {
            Ok(mut node) => {
                if lost {
                    self.find_lost(at, &mut node);
                }
                let host = &mut self.hosts[at];
                let same = backup
                    || node
                        .records()
                        .iter()
                        .all(|record| record.value.as_ref() == host.disk.get(&record.key));
                if backup {
                    let records = node.records().into_iter();
                    host.disk
                        .extend(records.filter_map(|record| Some((record.key, record.value?))));
                }
                host.node = Some(host.with_rules(node));
                host.told = Told::default();
                host.told.fresh = host.node.iter().flat_map(Node::watched).collect();
                if !same {
                    self.violate("a restart changed a record".to_owned());
                }
            }
            Err(error) => self.violate(format!("a restart failed: {error}")),
        }
        self.hosts[at].given.clear();
        if backup {
            self.hosts[at].receipts.clear();
        }
        for (channel, (own, held)) in self.hosts[at].receipts.clone() {
            self.input(at, Input::Guarded { channel, own, held });
        }
        self.see_l1(at);
        if backup && self.faults.asks {
            self.ask_tower(at);
        }
        for link in 0..self.links.len() {
            if self.links[link].a == at || self.links[link].b == at {
                self.schedule(self.now + 1, Event::Connect(link));
            }
        }
    }

    /// After a loss: what the tower has, before the peers are heard, or late if it does not answer at once. A tower may also give
    /// something older, or what its client never gave it.
    fn ask_tower(&mut self, at: usize) {
        let client = public_key(at as u8);
        let of_client = self.tower_disk.iter().filter(|((_, of), _)| *of == client);
        let records: Vec<(ChannelId, Watch)> = of_client
            .map(|((id, _), watch)| (*id, watch.clone()))
            .collect();
        for (id, watch) in records {
            if self.dice.one_in(8) {
                let mut forged = watch.clone();
                match self.dice.below(3) {
                    0 => forged.halves.a.paid += 1,
                    1 => forged.halves.b.version += 1,
                    _ => forged.numbers = None,
                }
                let before = self.held_version(at, &id);
                self.input(at, Input::Record(Box::new(forged)));
                if self.held_version(at, &id) != before {
                    self.violate(format!("node {at} believed a forged record"));
                }
            }
            if self.dice.one_in(3) {
                let late = self.now + self.dice.between(1, 300);
                let record = Input::Record(Box::new(watch));
                self.schedule(late, Event::Do(at, Box::new(record)));
                continue;
            }
            self.input(at, Input::Record(Box::new(watch)));
            let held = self.held_version(at, &id);
            let ledger = &mut self.hosts[at].ledger;
            if let Some((paid, version)) = ledger.lost_last.get(&id).copied()
                && held >= Some(version)
            {
                // The tower had all of it: nobody can keep it from its client any more.
                ledger.lost_last.remove(&id);
                ledger.at_risk -= paid;
                self.outcome.given_back += 1;
            }
        }
    }

    fn held_version(&self, at: usize, id: &ChannelId) -> Option<u64> {
        let node = self.hosts[at].node.as_ref()?;
        Some(node.channels().get(id)?.held.half.version)
    }

    // ---- Network ----

    fn transmit(&mut self, from: usize, to: usize, mut message: Message) {
        if let (true, Message::Reestablish(said)) = (self.hosts[from].evil, &mut message) {
            self.lie(said);
        }
        if self.hosts[from].evil && matches!(message, Message::Copy(_)) {
            match self.give_other_copy(from, message) {
                Some(other) => message = other,
                None => return,
            }
        }
        let Some(link) = self
            .links
            .iter()
            .position(|link| (link.a, link.b) == (from.min(to), from.max(to)))
        else {
            return;
        };
        if !self.links[link].up || self.mutes(from, &message) {
            return;
        }
        if self.trace {
            println!(
                "{:>6} {from} → {to} {}",
                self.now - START,
                brief_message(&message)
            );
        }
        if !self.healed
            && self.faults.drop > 0
            && self.random.one_in(200 / self.faults.drop.max(1) + 20)
        {
            // A lost or altered frame ends an authenticated, ordered connection.
            self.outcome.faults += 1;
            self.disconnect(link);
            let pause = self.random.between(1, 40);
            self.schedule(self.now + pause, Event::Connect(link));
            return;
        }
        let frame = wire::encode(&message);
        if wire::decode(&frame[4..]).as_ref() != Ok(&message) {
            self.violate(format!("a frame does not say what was meant: {message:?}"));
        }
        let era = self.links[link].era;
        let mut copies = 1;
        if !self.healed && self.faults.duplicate > 0 && self.random.one_in(60) {
            self.outcome.faults += 1;
            copies = 2;
        }
        for _ in 0..copies {
            let delay = if self.faults.reorder && !self.healed {
                self.random.below(4)
            } else {
                0
            };
            self.schedule(
                self.now + delay,
                Event::Deliver {
                    link,
                    era,
                    to,
                    message: Box::new(message.clone()),
                },
            );
        }
    }

    fn deliver(&mut self, link: usize, era: u32, to: usize, message: Message) {
        let (a, b) = (self.links[link].a, self.links[link].b);
        if !self.links[link].up || self.links[link].era != era {
            return;
        }
        let from = public_key(if to == a { b } else { a } as u8);
        self.input(to, Input::Message { from, message });
    }

    fn disconnect(&mut self, link: usize) {
        if !self.links[link].up {
            return;
        }
        self.links[link].up = false;
        self.links[link].era += 1;
        let (a, b) = (self.links[link].a, self.links[link].b);
        self.input(a, Input::Disconnected(public_key(b as u8)));
        self.input(b, Input::Disconnected(public_key(a as u8)));
    }

    fn connect(&mut self, link: usize) {
        let (a, b) = (self.links[link].a, self.links[link].b);
        if self.links[link].up || self.hosts[a].node.is_none() || self.hosts[b].node.is_none() {
            return;
        }
        self.links[link].up = true;
        self.input(a, Input::Connected(public_key(b as u8)));
        self.input(b, Input::Connected(public_key(a as u8)));
    }

    // ---- L1 ----

    fn block(&mut self) {
        if self.now >= self.stalled_until {
            self.l1.mine(self.now, &mut self.random);
        }
        // Whoever pays with a deposit that is not final hopes for a reorganisation, and sometimes gets it.
        let hoped = self.now < self.unsettled_until && self.random.one_in(4);
        let due = self.faults.reorg > 0 && self.random.one_in(self.faults.reorg);
        if !self.healed && (due || hoped) {
            let depth = self.random.between(1, FINALITY as u64) as usize;
            // One loss in a reveal margin is what the margin is made for. No reveal stands where one is lost, or held back at its
            // expiry, after the other.
            let calm = self.now < self.next_loss;
            let lose = self.faults.lose_deposits && !calm;
            if lose {
                self.next_loss = self.now + policy().reveal_margin;
            }
            self.outcome.faults += 1;
            self.l1.reorg(depth, lose, !calm, &mut self.random);
            if self.trace {
                println!("{:>6} reorg of {depth}", self.now - START);
            }
        }
        if !self.healed && self.faults.stall && self.random.one_in(80) {
            self.stalled_until = self.now + self.random.between(60, 2400);
            self.outcome.faults += 1;
            self.stalled_at.push((self.now, self.stalled_until));
        }
        if let Some(difference) = self.l1.difference.take() {
            self.violate(format!("contract and reference differ: {difference}"));
        }
        let pot = self.l1.head().pot();
        let deposited: u128 = self.l1.head().deposited.values().sum();
        let paid: u128 = self.l1.head().paid_out.values().sum();
        if pot < 0 || pot as u128 + paid != deposited {
            self.violate(format!(
                "pot {pot} + payouts {paid} != deposits {deposited}"
            ));
        }
        for at in 0..self.hosts.len() {
            let lag = if self.healed { 0 } else { self.random.below(3) };
            self.schedule(self.now + lag, Event::SeeL1(at));
        }
        self.check_renewed();
        self.see_l1_from_tower();
        let next = if self.healed && self.now > START + ACTIVE + self.extra + 1900 {
            240
        } else {
            BLOCK
        };
        self.schedule(self.now + next, Event::Block);
    }

    fn see_l1(&mut self, at: usize) {
        if self.now < self.hosts[at].blind_until {
            return;
        }
        if !self.healed && self.faults.blind && self.random.one_in(100) {
            self.hosts[at].blind_until = self.now + self.random.between(60, 600);
            self.outcome.faults += 1;
            return;
        }
        if self.hosts[at].node.is_none() {
            return;
        }
        let channels: Vec<ChannelId> = self.hosts[at]
            .node
            .iter()
            .flat_map(|node| node.channels().keys().copied())
            .collect();
        let reports = self.l1.reports(&mut self.hosts[at].told, &channels);
        for report in reports {
            self.input(at, Input::Chain(report));
        }
    }

    // ---- Time and people ----

    fn tick(&mut self, at: usize) {
        self.input(at, Input::Tick);
        if self.hosts[at].evil {
            self.scheme(at);
        }
        let next = if self.healed && self.now > START + ACTIVE + self.extra + 1900 {
            300
        } else {
            15
        };
        self.schedule(self.now + next, Event::Tick(at));
    }

    /// Something that a user does.
    fn act(&mut self) {
        if self.healed {
            return;
        }
        let pause = self.random.between(1, 40);
        self.schedule(self.now + pause, Event::Act);
        // Not in a dispute: L1 must not stand still for a whole window, and windows are as short as outages here.
        if self.faults.outage && self.asked.is_empty() && self.now > START + ACTIVE / 3 {
            self.outage();
            return;
        }
        match self.random.below(100) {
            0..30 => self.pay_direct(),
            30..92 => self.pay(),
            92..95 => self.withdraw(),
            95..97 => self.deposit_more(),
            97 => self.close(false),
            98 if !self.faults.old_database => self.close(true),
            _ => self.bounce(),
        }
    }

    /// For an hour L1 stands still and nobody reaches anybody: nothing may be closed for it.
    fn outage(&mut self) {
        self.faults.outage = false;
        self.outcome.faults += 1;
        let end = self.now + 3600;
        self.extra = 3600;
        self.stalled_until = end;
        self.stalled_at.push((self.now, end));
        for link in 0..self.links.len() {
            self.disconnect(link);
            let pause = self.random_pause();
            self.schedule(end + pause, Event::Connect(link));
        }
    }

    fn random_pause(&mut self) -> u64 {
        self.random.between(1, 60)
    }

    fn random_end(&mut self) -> (ChannelId, Params, usize, Side) {
        let channels = self.channels.clone();
        let (id, params, a, b) = *self.random.pick(&channels);
        if self.random.one_in(2) {
            (id, params, a, Side::A)
        } else {
            (id, params, b, Side::B)
        }
    }

    fn pay_direct(&mut self) {
        let (channel, _, at, _) = self.random_end();
        let amount = self.random_amount();
        self.payments += 1;
        let direct = Direct {
            amount,
            reference: Hash32(stretch(self.seed ^ 0xd1, self.payments)),
        };
        self.input(at, Input::PayDirect { channel, direct });
    }

    fn random_amount(&mut self) -> Amount {
        let units = match self.random.below(20) {
            0 => 1,
            1 => 1000,
            2 if self.random.one_in(10) => 0,
            _ => 1 + u128::from(self.random.below(200)),
        };
        Amount::new(units).unwrap_or(Amount::ZERO)
    }

    fn withdraw(&mut self) {
        let (channel, _, at, _) = self.random_end();
        let amount = self.random_amount();
        self.input(at, Input::Withdraw { channel, amount });
    }

    fn deposit_more(&mut self) {
        let (_, params, at, side) = self.random_end();
        let amount = self.random_amount().get();
        self.deposit(at, params, side, amount, self.now);
    }

    fn close(&mut self, force: bool) {
        if self.random.one_in(2) {
            return;
        }
        let (channel, params, at, _) = self.random_end();
        let input = if force {
            self.asked.insert(channel);
            Input::ForceClose(channel)
        } else {
            Input::CloseCooperatively(channel)
        };
        self.input(at, input);
        if !force && self.random.one_in(2) {
            // A wei in the way of the payout that would empty the pot.
            let side = if self.random.one_in(2) {
                Side::A
            } else {
                Side::B
            };
            self.deposit(usize::from(STRANGER), params, side, 1, self.now);
            self.outcome.faults += 1;
        }
    }

    /// A connection breaks for no reason.
    fn bounce(&mut self) {
        let link = self.random.below(self.links.len() as u64) as usize;
        self.disconnect(link);
        let pause = self.random.between(1, 120);
        self.schedule(self.now + pause, Event::Connect(link));
    }

    /// A payment between two random nodes, over one or two ways.
    fn pay(&mut self) {
        let count = self.hosts.len() as u64;
        let payer = self.random.below(count) as usize;
        let payee = self.random.below(count) as usize;
        if payer == payee {
            return;
        }
        let ways = self.ways(payer, payee);
        if ways.is_empty() {
            return;
        }
        let amount = self.random_amount();
        self.payments += 1;
        let preimage = Preimage(stretch(self.seed, self.payments));
        let hash = preimage.hash();
        let secret = Hash32(stretch(self.seed ^ 0xffff, self.payments));
        let hold = self.random.one_in(12);
        self.input(
            payee,
            Input::AddInvoice(Invoice {
                preimage,
                amount: Some(amount),
                secret,
                hold,
                state: InvoiceState::Open,
                received: 0,
                released: 0,
                token: Address::ZERO,
            }),
        );
        let expiry = self.now + self.random.between(13 * 60, 28 * 60);
        self.preimages.push((preimage, expiry, payee));
        let split = ways.len() > 1 && amount.get() > 1 && self.random.one_in(3);
        let shares = if split {
            let first = amount.get() / 2;
            vec![(0, first), (1, amount.get() - first)]
        } else {
            vec![(self.random.below(ways.len() as u64) as usize, amount.get())]
        };
        let parts: Option<Vec<Part>> = shares
            .iter()
            .map(|(way, share)| self.part(&ways[*way], payer, *share, amount, secret, expiry))
            .collect();
        if let Some(parts) = parts {
            if split && !self.hosts[payer].evil {
                let brought = parts.iter().zip(&shares);
                let known = Split {
                    payer,
                    payee,
                    amount,
                    secret,
                    expiry,
                    parts: brought
                        .map(|(part, (_, share))| (part.channel, part.amount, *share))
                        .collect(),
                };
                self.splits.insert(hash, known);
            }
            self.input(
                payer,
                Input::Pay(NewPayment {
                    hash,
                    expiry,
                    parts,
                }),
            );
        }
        if hold {
            let input = if self.random.one_in(2) {
                Input::Release(hash)
            } else {
                Input::Cancel(hash)
            };
            self.input(payee, input);
        }
    }

    /// A part has failed for certain while others stand: mostly another one goes its way, or a way of its own.
    fn replace_part(&mut self, hash: PaymentHash, channel: ChannelId, left: u128) {
        let Some(split) = self.splits.get_mut(&hash) else {
            return;
        };
        let failed = split
            .parts
            .iter()
            .position(|(of, amount, _)| (*of, amount.get()) == (channel, left));
        // Where channels go back and payments' records do not, a failure would be counted twice. A node's database goes back whole.
        let whole = self.careless != Some(split.payer) || self.faults.everything;
        let Some(failed) = failed.filter(|_| whole && !self.other_ways.one_in(4)) else {
            return;
        };
        let (.., share) = split.parts.remove(failed);
        let (payer, payee, amount) = (split.payer, split.payee, split.amount);
        let (secret, expiry) = (split.secret, split.expiry);
        let ways = self.ways(payer, payee);
        let way = self.other_ways.pick(&ways).clone();
        let Some(part) = self.part(&way, payer, share, amount, secret, expiry) else {
            return;
        };
        if let Some(split) = self.splits.get_mut(&hash) {
            split.parts.push((part.channel, part.amount, share));
        }
        let input = Input::AddParts(NewPayment {
            hash,
            expiry,
            parts: vec![part],
        });
        let pause = self.other_ways.between(0, 20);
        self.schedule(self.now + pause, Event::Do(payer, Box::new(input)));
    }

    /// Whether somebody honest got more for an invoice than was asked for, of a payer who is honest too: a part that was replaced
    /// counted all the same.
    fn overpaid(&self) -> Option<String> {
        self.splits.iter().find_map(|(hash, split)| {
            let payee = &self.hosts[split.payee];
            let invoice = payee.node.as_ref()?.invoices().get(hash)?;
            let over = !payee.evil && invoice.received > split.amount.get();
            over.then(|| {
                format!(
                    "node {} paid {} for {} in parts",
                    split.payer, invoice.received, split.amount
                )
            })
        })
    }

    /// All simple ways, as channels.
    fn ways(&self, from: usize, to: usize) -> Vec<Vec<usize>> {
        let mut found = Vec::new();
        let mut stack = vec![(from, Vec::new(), BTreeSet::from([from]))];
        while let Some((at, way, seen)) = stack.pop() {
            if at == to {
                found.push(way);
                continue;
            }
            for (number, (_, _, a, b)) in self.channels.iter().enumerate() {
                let next = match (*a == at, *b == at) {
                    (true, _) => *b,
                    (_, true) => *a,
                    _ => continue,
                };
                if !seen.contains(&next) {
                    let mut way = way.clone();
                    way.push(number);
                    let mut seen = seen.clone();
                    seen.insert(next);
                    stack.push((next, way, seen));
                }
            }
        }
        found
    }

    /// A part's onion and first amount, from the payee back.
    fn part(
        &mut self,
        way: &[usize],
        payer: usize,
        share: u128,
        total: Amount,
        secret: Hash32,
        expiry: Timestamp,
    ) -> Option<Part> {
        let fees = Policy::fee;
        let policy = self.hosts[payer].identity.policy.clone();
        let mut onion = postcard::to_stdvec(&Hop::Deliver { secret, total }).ok()?;
        let mut amount = share;
        for number in way.iter().skip(1).rev() {
            // A dishonest payer asks for more time on the way out than it gives on the way in.
            let stretched = self.hosts[payer].evil && self.random.one_in(3);
            let expiry = if stretched {
                expiry + self.random.between(1, 600)
            } else {
                expiry
            };
            onion = postcard::to_stdvec(&Hop::Forward {
                channel: self.channels[*number].0,
                amount: Amount::new(amount).ok()?,
                expiry,
                onion,
            })
            .ok()?;
            amount += fees(&policy, amount);
        }
        Some(Part {
            channel: self.channels[*way.first()?].0,
            amount: Amount::new(amount).ok()?,
            onion,
        })
    }

    // ---- The dishonest ----

    fn mutes(&self, from: usize, message: &Message) -> bool {
        let host = &self.hosts[from];
        let bit = match message {
            Message::Update(_) => 1,
            Message::Fulfil { .. } => 2,
            Message::Fail { .. } => 4,
            Message::SignAck(_) => 8,
            Message::Ack { .. } => 16,
            Message::CoopSign { .. } => 32,
            _ => 0,
        };
        let late = if host.late { 2 } else { 0 };
        host.evil && (host.mute | late) & bit != 0
    }

    /// Keeps what could be submitted later, when it is old.
    fn take_loot(&mut self, at: usize) {
        let host = &mut self.hosts[at];
        let Some(node) = host.node.as_ref() else {
            return;
        };
        if self.random.one_in(3) {
            let separator = host.identity.domain.separator();
            let channels: Vec<&millrace_channels::machine::channel::Channel> =
                node.channels().values().collect();
            let channel = *self.random.pick(&channels);
            if channel.held.signature.is_some() {
                if host.loot.len() == 64 {
                    // Old ones stay as likely as new ones.
                    let gone = self.random.below(64) as usize;
                    host.loot.swap_remove(gone);
                }
                host.loot.push(channel.submission(&separator, &host.keys));
                if self.faults.old_database && host.copies.len() < 64 {
                    host.copies.extend(node.copy_now(&channel.id, &host.keys));
                    let record = host.disk.get(&Key::Channel(channel.id)).cloned();
                    host.stash.extend(record.map(|record| (channel.id, record)));
                }
            }
        }
    }

    /// One dishonest deed.
    fn scheme(&mut self, at: usize) {
        if self.hosts[at].node.is_none() {
            return;
        }
        self.reveal_at_the_last_moment(at);
        self.outcome.faults += 1;
        if !self.healed && self.dice.one_in(6) {
            self.set_trap(at);
        }
        let late = if self.healed { 3 } else { 1 };
        match self.random.below(60 * late) {
            0..3 => self.hosts[at].mute = self.random.number() as u8 & 63,
            3..5 => self.hosts[at].mute = 0,
            5 => self.submit_loot(at),
            6..9 => self.forge(at),
            9..11 => self.share_preimages(at),
            11..13 => self.fail_falsely(at),
            13..15 => self.freeze_echoes(at),
            17 => self.restore_old(at),
            15..17 if self.faults.lose_deposits => self.spend_unsettled(at),
            _ => {}
        }
    }

    /// Gives back to somebody who has lost data an older state than it has, or nothing.
    fn give_other_copy(&mut self, from: usize, copy: Message) -> Option<Message> {
        let channel = copy.channel();
        let old = self.hosts[from].copies.iter();
        let old: Vec<Message> = old
            .filter(|other| other.channel() == channel)
            .cloned()
            .collect();
        match self.dice.below(3) {
            0 => None,
            1 if !old.is_empty() => {
                self.outcome.faults += 1;
                Some(self.dice.pick(&old).clone())
            }
            _ => Some(copy),
        }
    }

    /// Says that it holds or has sent something else.
    fn lie(&mut self, said: &mut Reestablish) {
        if !self.random.one_in(6) {
            return;
        }
        let other = self.random.below(12);
        match self.random.below(4) {
            0 => said.held = other,
            1 => said.own = other,
            2 => said.held = said.held.saturating_add(other),
            _ => said.own_hash = Hash32([7; 32]),
        }
    }

    /// Starts again from an old copy of its database.
    fn restore_old(&mut self, at: usize) {
        if !self.random.one_in(8) {
            return;
        }
        let old = std::mem::take(&mut self.hosts[at].old_disk);
        if old.is_empty() || self.random.one_in(2) {
            self.hosts[at].old_disk = self.hosts[at].disk.clone();
        } else {
            self.hosts[at].disk = old;
            self.crash(at);
        }
    }

    /// Echoes what it held at some time, again and again, or the newest.
    fn freeze_echoes(&mut self, at: usize) {
        let freeze = !self.random.one_in(3);
        if let Some(node) = self.hosts[at].node.as_mut() {
            let channels: Vec<ChannelId> = node.channels().keys().copied().collect();
            for id in channels {
                node.freeze_echo(id, freeze);
            }
        }
    }

    /// Pays with a deposit that may still be undone.
    fn spend_unsettled(&mut self, at: usize) {
        let own: Vec<_> = self
            .channels
            .iter()
            .filter(|(_, _, a, b)| *a == at || *b == at)
            .copied()
            .collect();
        let (channel, params, a, _) = *self.random.pick(&own);
        let side = if a == at { Side::A } else { Side::B };
        let amount = 200 + u128::from(self.random.below(2000));
        self.deposit(at, params, side, amount, self.now);
        self.unsettled_until = self.now + 5 * BLOCK;
        for pause in [31, 65, 95, 130] {
            let direct = Direct {
                amount: Amount::new(amount / 2).unwrap_or(Amount::ZERO),
                reference: Hash32([3; 32]),
            };
            self.schedule(
                self.now + pause,
                Event::Do(at, Box::new(Input::PayDirect { channel, direct })),
            );
        }
    }

    fn submit_loot(&mut self, at: usize) {
        if self.hosts[at].loot.is_empty() || !self.random.one_in(4) {
            return;
        }
        let loot = self.hosts[at].loot.clone();
        let transaction = self.random.pick(&loot).clone();
        self.broadcast(at, transaction);
    }

    fn forge(&mut self, at: usize) {
        let Some(node) = self.hosts[at].node.as_ref() else {
            return;
        };
        let channels: Vec<ChannelId> = node.channels().keys().copied().collect();
        let id = *self.random.pick(&channels);
        let locks: Vec<u64> = node.channels()[&id]
            .own
            .standing()
            .map(|(lock, _)| *lock)
            .collect();
        let (peer, way_on) = self.way_on(at, &id);
        let amount = self.random_amount();
        let direct = Direct {
            amount,
            reference: Hash32([1; 32]),
        };
        let forgery = match self.random.below(5) {
            0 if !locks.is_empty() => Forgery::Drop(*self.random.pick(&locks)),
            1 => Forgery::Twin(direct),
            2 | 3 => match self.forged_lock(amount, way_on) {
                Some((lock, onion)) => Forgery::Lock(lock, onion),
                None => return,
            },
            _ => Forgery::Direct(direct),
        };
        let keep = self.random.one_in(2);
        let keys = self.hosts[at].keys;
        let message = self.hosts[at]
            .node
            .as_mut()
            .and_then(|node| node.forge(id, forgery, keep, &keys));
        if let Some(message) = message {
            self.transmit(at, peer, message);
        }
    }

    /// The counterparty of a channel, and a channel by which it could forward to an accomplice.
    fn way_on(&self, at: usize, id: &ChannelId) -> (usize, Option<(ChannelId, usize)>) {
        let (_, _, a, b) = self.channel(id);
        let peer = if *a == at { *b } else { *a };
        let on = self.channels.iter().find_map(|(other, _, a, b)| {
            let next = match (*a == peer, *b == peer) {
                (true, _) => *b,
                (_, true) => *a,
                _ => return None,
            };
            (other != id && self.hosts[next].evil).then_some((*other, next))
        });
        (peer, on)
    }

    /// A lock for the peer to forward to an accomplice, who knows the preimage.
    fn forged_lock(
        &mut self,
        amount: Amount,
        way_on: Option<(ChannelId, usize)>,
    ) -> Option<(Lock, Vec<u8>)> {
        let (channel, accomplice) = way_on?;
        self.payments += 1;
        // Sometimes a hash that was used before.
        let reused = self.random.one_in(4) && !self.preimages.is_empty();
        let preimage = if reused {
            let known = self.preimages.clone();
            self.random.pick(&known).0
        } else {
            Preimage(stretch(self.seed, self.payments))
        };
        let secret = Hash32([2; 32]);
        let expiry = self.now + self.random.between(13 * 60, 28 * 60);
        self.preimages.push((preimage, expiry, accomplice));
        self.input(
            accomplice,
            Input::AddInvoice(Invoice {
                preimage,
                amount: None,
                secret,
                hold: false,
                state: InvoiceState::Open,
                received: 0,
                released: 0,
                token: Address::ZERO,
            }),
        );
        let total = amount;
        let deliver = postcard::to_stdvec(&Hop::Deliver { secret, total }).ok()?;
        let onion = postcard::to_stdvec(&Hop::Forward {
            channel,
            amount,
            expiry,
            onion: deliver,
        })
        .ok()?;
        let gross = amount.get() + self.hosts[0].identity.policy.fee(amount.get());
        let lock = Lock {
            hash: preimage.hash(),
            amount: Amount::new(gross).ok()?,
            expiry,
        };
        Some((lock, onion))
    }

    /// Accomplices tell each other what they know.
    fn share_preimages(&mut self, at: usize) {
        let known: Vec<Preimage> = self
            .hosts
            .iter()
            .filter(|host| host.evil)
            .filter_map(|host| host.node.as_ref())
            .flat_map(|node| {
                let proven = node
                    .payments()
                    .values()
                    .filter_map(|made| match made.state {
                        PaymentState::Succeeded(preimage) => Some(preimage),
                        _ => None,
                    });
                node.preimages().values().copied().chain(proven)
            })
            .collect();
        if let Some(node) = self.hosts[at].node.as_mut() {
            for preimage in known {
                node.tell_preimage(preimage);
            }
        }
    }

    /// Says that a lock fails whose preimage it knows.
    fn fail_falsely(&mut self, at: usize) {
        let Some(node) = self.hosts[at].node.as_mut() else {
            return;
        };
        let locks: Vec<(ChannelId, u64)> = node
            .channels()
            .values()
            .flat_map(|channel| channel.held.locks.keys().map(|lock| (channel.id, *lock)))
            .collect();
        if locks.is_empty() {
            return;
        }
        let (id, lock) = *self.random.pick(&locks);
        let message = node.forge_fail(id, lock, false);
        let (peer, _) = self.way_on(at, &id);
        if let Some(message) = message {
            // And then it says nothing more that could be held against it.
            self.hosts[at].mute |= 8 | 1;
            self.transmit(at, peer, message);
        }
    }

    /// Fails a lock that it can take, of somebody whose tower is away, signs that it is gone, and keeps the half before.
    fn set_trap(&mut self, at: usize) {
        let victim = self
            .guarded
            .filter(|gone| self.hosts[*gone].limit().is_some());
        let host = &self.hosts[at];
        let (Some(gone), Some(node)) = (victim, host.node.as_ref()) else {
            return;
        };
        let separator = host.identity.domain.separator();
        let known = |hash: &PaymentHash| {
            self.preimages.iter().any(|(preimage, expiry, payee)| {
                let mine = self.hosts[*payee].evil && preimage.hash() == *hash;
                mine && *expiry > self.now + policy().reveal_margin
            })
        };
        let found = node.channels().values().find_map(|channel| {
            let of_victim = channel.peer == public_key(gone as u8) && channel.fault.is_none();
            let submission = channel
                .held
                .signature
                .map(|_| channel.submission(&separator, &host.keys));
            let locks = channel.held.locks.iter();
            let (lock, peer) = locks
                .filter(|_| of_victim)
                .find(|(_, peer)| known(&peer.lock.hash))?;
            let trap = Trap {
                channel: channel.id,
                gone,
                version: channel.held.half.version,
                hash: peer.lock.hash,
                loot: submission?,
            };
            Some((*lock, trap))
        });
        let Some((lock, trap)) = found else { return };
        let id = trap.channel;
        self.traps.push(trap);
        self.tower_away_until = self.tower_away_until.max(self.now + 120);
        self.hosts[at].mute = 0;
        self.outcome.faults += 1;
        let node = self.hosts[at].node.as_mut();
        if let Some(message) = node.and_then(|node| node.forge_fail(id, lock, true)) {
            self.transmit(at, gone, message);
        }
    }

    /// A preimage of its own, on L1 at T − 1, T or T + 1.
    fn reveal_at_the_last_moment(&mut self, at: usize) {
        let now = self.now;
        let after = if self.hosts[at].late { 600 } else { BLOCK };
        let due: Vec<Preimage> = self
            .preimages
            .iter()
            .filter(|(_, expiry, payee)| {
                *payee == at && now + 2 * BLOCK >= *expiry && now <= *expiry + after
            })
            .map(|(preimage, _, _)| *preimage)
            .collect();
        for preimage in due {
            if self.random.one_in(after / 8 + 1) {
                self.broadcast(
                    at,
                    Transaction::Reveal {
                        preimages: vec![preimage],
                    },
                );
            }
        }
    }

    // ---- The end ----

    /// Faults end; whoever is honest closes everything.
    fn heal(&mut self) {
        if self.trace {
            println!("{:>6} faults end", self.now - START);
        }
        self.healed = true;
        self.stalled_until = 0;
        for at in 0..self.hosts.len() {
            self.hosts[at].blind_until = 0;
            if self.hosts[at].node.is_none() {
                self.restart(at);
            }
        }
        for link in 0..self.links.len() {
            self.connect(link);
        }
        if let Some(at) = self.guarded {
            // From here on there is only the tower.
            self.ghost = self.hosts[at].node.take();
            for link in 0..self.links.len() {
                if self.links[link].a == at || self.links[link].b == at {
                    self.disconnect(link);
                }
            }
            if self.hosts[at].limit().is_some() {
                self.betray(at);
            }
        }
        for at in 0..self.hosts.len() {
            for (id, hidden) in std::mem::take(&mut self.hosts[at].hidden) {
                self.betrayed.insert(id);
                self.broadcast(at, hidden);
            }
        }
        for (id, params, a, b) in self.channels.clone() {
            if self.random.one_in(4) {
                // While it is closing, or after: refused, and the money stays with its owner.
                let ready = self.now + self.random.between(300, 6000);
                self.deposit(usize::from(STRANGER), params, Side::A, 7, ready);
                self.outcome.faults += 1;
            }
            for at in [a, b] {
                if self.faults.old_database {
                    // A node that has lost data asks its peers before anything else.
                    let close = Event::Do(at, Box::new(Input::ForceClose(id)));
                    let first = (self.now + 180)
                        .max(self.judged_by(a, &id))
                        .max(self.judged_by(b, &id));
                    self.schedule(first, close);
                } else if !self.hosts[at].evil {
                    self.input(at, Input::ForceClose(id));
                }
            }
        }
    }

    /// When a node that was restored can judge every lock that its backup has on a channel: its peer's newest half may wait behind a
    /// drop until then, and without a tower the channel must not be closed before.
    fn judged_by(&self, at: usize, id: &ChannelId) -> u64 {
        let node = self.hosts[at].node.as_ref();
        let channel = node.and_then(|node| node.channels().get(id));
        let locks = channel
            .into_iter()
            .flat_map(|channel| channel.held.locks.values());
        let recovered = locks.filter(|peer| peer.recovered);
        let last = recovered.map(|peer| peer.lock.expiry).max();
        last.map_or(0, |expiry| expiry + (FINALITY as u64 + 4) * BLOCK)
    }

    /// Dishonest peers of somebody who is gone for good show what is old and good for them.
    fn betray(&mut self, gone: usize) {
        for (id, params, a, b) in self.channels.clone() {
            let peer = match (a == gone, b == gone) {
                (true, _) => b,
                (_, true) => a,
                _ => continue,
            };
            let of_channel = |transaction: &&Transaction| matches!(transaction, Transaction::Submit { params: known, .. } if *known == params);
            let loot = self.hosts[peer].loot.iter().filter(of_channel);
            let loot: Vec<Transaction> = loot.cloned().collect();
            if !self.hosts[peer].evil {
                continue;
            }
            self.betrayed.insert(id);
            // Only a party opens a dispute, so one that never does keeps both from their money; here it does.
            let close = Event::Do(peer, Box::new(Input::ForceClose(id)));
            self.schedule(self.now + 240, close);
            let trap = self.traps.iter().rev().find(|trap| trap.channel == id);
            if let Some(trap) = trap {
                let (hash, loot) = (trap.hash, trap.loot.clone());
                let known = self.preimages.iter().map(|(preimage, ..)| *preimage);
                let preimages: Vec<Preimage> =
                    known.filter(|preimage| preimage.hash() == hash).collect();
                self.broadcast(peer, loot);
                self.broadcast(peer, Transaction::Reveal { preimages });
                continue;
            }
            if loot.is_empty() {
                continue;
            }
            // Mostly one of the last.
            let first = match self.dice.one_in(4) {
                true => 0,
                false => loot.len().saturating_sub(3),
            };
            let at = first + self.dice.below((loot.len() - first) as u64) as usize;
            self.outcome.faults += 1;
            self.broadcast(peer, loot[at].clone());
        }
    }

    fn is_over(&self) -> bool {
        self.channels.iter().all(|(id, _, a, b)| {
            let closed = |at: &usize| {
                let node = self.hosts[*at].node.as_ref();
                let gone = self.guarded == Some(*at);
                let waited = self.hosts[*at].limit().is_some();
                let pot = self.l1.head().channels.get(id);
                self.hosts[*at].evil
                    || gone && (!waited || pot.is_none_or(|(_, chain)| self.is_left(chain)))
                    || node.is_some_and(|node| {
                        let channel = node.channels().get(id);
                        channel.is_none_or(|channel| channel.closed)
                            || self
                                .l1
                                .head()
                                .channels
                                .get(id)
                                .is_none_or(|(_, c)| c.pot() == 0 && c.is_open())
                    })
            };
            closed(a) && closed(b)
        })
    }

    /// Whether a channel of somebody who is gone is empty, or its peer has not opened a dispute in all this time.
    fn is_left(&self, chain: &OnChain) -> bool {
        let long = self.now > START + ACTIVE + self.extra + 3 * u64::from(WINDOW);
        chain.pot() == 0 || chain.is_open() && long
    }

    fn check_end(&mut self) {
        for at in 0..self.hosts.len() {
            if self.hosts[at].evil || self.guarded == Some(at) {
                continue;
            }
            let what = if self.is_careless(at) {
                self.lost_by_backup(at)
            } else {
                self.lost(at).or_else(|| self.unpaid(at))
            };
            if let Some(what) = what {
                self.violate(what);
            }
        }
        if let Some(what) = self.overpaid() {
            self.violate(what);
        }
        let gone = self.unguarded().or_else(|| self.lost_for_good());
        if let Some(what) = gone.or_else(|| self.forgotten()) {
            self.violate(what);
        }
    }

    /// Whether a node that waited for its tower with everything, and went offline for good, got less than it was told it has.
    fn lost_for_good(&self) -> Option<String> {
        let at = self.guarded?;
        let ghost = self.ghost.as_ref()?;
        if self.hosts[at].limit() != Some(0) {
            return None;
        }
        let address = payout(at as u8);
        let head = self.l1.head();
        let mut pots = ghost
            .channels()
            .keys()
            .filter_map(|id| head.channels.get(id));
        if pots.any(|(_, chain)| chain.pot() > 0 && chain.is_open()) {
            // Its money is where it was.
            return None;
        }
        let of = |map: &BTreeMap<Address, u128>| map.get(&address).copied().unwrap_or(0) as i128;
        let (paid_out, deposited) = (of(&head.paid_out), of(&head.deposited));
        let channels = ghost.channels().values();
        let made: i128 = channels
            .map(|channel| channel.own.direct_total as i128)
            .sum();
        let told = self.hosts[at].ledger.direct as i128 - made;
        let invoices = ghost.invoices().values();
        let received: i128 = invoices.map(|invoice| invoice.received as i128).sum();
        let payments = ghost.payments().values();
        let paid: i128 = payments
            .map(|payment| (payment.paid + payment.pending) as i128)
            .sum();
        let entitled = deposited + told + received - paid;
        (paid_out < entitled)
            .then(|| format!("node {at} is gone and got {paid_out}, entitled to {entitled}"))
    }

    /// Whether an honest node that went offline for good got less than its channels' balances. Its own locks may have been
    /// won by the peers, its peers' locks lost for want of a payer: both are left out.
    fn unguarded(&self) -> Option<String> {
        let ghost = self.ghost.as_ref()?;
        if self
            .guarded
            .is_some_and(|at| self.hosts[at].limit().is_some())
        {
            // What it has without a receipt does not count: see `lost_for_good`.
            return None;
        }
        ghost.channels().values().find_map(|channel| {
            let settlement = self.l1.head().settlements.get(&channel.id)?;
            let (net, pay) = match channel.side {
                Side::A => (settlement.net.0, settlement.pay.0),
                Side::B => (settlement.net.1, settlement.pay.1),
            };
            let locks = channel.own.locks.values();
            let exposed: i128 = locks
                .filter(|own| own.removed.is_none_or(|(_, how)| how == Removal::Dropped))
                .map(|own| own.lock.amount.get() as i128)
                .sum();
            let entitled =
                net + channel.held.half.paid as i128 - channel.own.paid as i128 - exposed;
            (pay < entitled).then(|| format!("the tower let its client have {pay} of {entitled}"))
        })
    }

    /// Whether money that a node had accepted did not count in the end, because it had lost its data.
    fn forgotten(&self) -> Option<String> {
        self.accepted.iter().find_map(|((at, id), accepted)| {
            let settlement = self.l1.head().settlements.get(id)?;
            let (_, _, a, b) = self.channel(id);
            if self.hosts[*a].evil || self.hosts[*b].evil {
                return None;
            }
            let counted = if a == at {
                settlement.counted.1
            } else {
                settlement.counted.0
            };
            (counted < *accepted).then(|| {
                format!("node {at} had accepted {accepted} from its peer, {counted} was settled")
            })
        })
    }

    /// Whether a node that was restored from old backups has less than what it was told of.
    fn lost_by_backup(&self, at: usize) -> Option<String> {
        let node = self.hosts[at].node.as_ref()?;
        let address = payout(at as u8);
        let head = self.l1.head();
        let of = |map: &BTreeMap<Address, u128>| map.get(&address).copied().unwrap_or(0) as i128;
        let (paid_out, deposited) = (of(&head.paid_out), of(&head.deposited));
        let ledger = &self.hosts[at].ledger;
        let told = ledger.told.values().sum::<u128>() as i128 - ledger.made as i128;
        let mut received = ledger.lost_received.clone();
        for (hash, invoice) in node.invoices() {
            let most = received.entry(*hash).or_default();
            *most = (*most).max(invoice.received);
        }
        let mut paid = ledger.lost_paid.clone();
        for (hash, payment) in node.payments() {
            let most = paid.entry(*hash).or_default();
            *most = (*most).max(payment.paid + payment.pending);
        }
        let sum = |amounts: &BTreeMap<PaymentHash, u128>| amounts.values().sum::<u128>() as i128;
        // What dishonest peers alone could give back is theirs to keep; nothing else is.
        let at_risk = ledger.at_risk as i128;
        let entitled = deposited + told + sum(&received) - sum(&paid) - at_risk;
        (paid_out < entitled).then(|| {
            format!(
                "node {at} got {paid_out} after its losses, entitled to {entitled} ({at_risk} at risk)"
            )
        })
    }

    /// Whether an honest node has less than what its own records say.
    fn lost(&self, at: usize) -> Option<String> {
        let node = self.hosts[at].node.as_ref()?;
        let address = payout(at as u8);
        let head = self.l1.head();
        let paid_out = head.paid_out.get(&address).copied().unwrap_or(0) as i128;
        let deposited = head.deposited.get(&address).copied().unwrap_or(0) as i128;
        let channels = node.channels().values();
        let direct: i128 = channels
            .map(|channel| channel.held.direct_total as i128 - channel.own.direct_total as i128)
            .sum();
        let received: i128 = node
            .invoices()
            .values()
            .map(|invoice| invoice.received as i128)
            .sum();
        let paid: i128 = node
            .payments()
            .values()
            .map(|payment| payment.paid as i128)
            .sum();
        let pending = node
            .payments()
            .values()
            .filter(|payment| payment.open_parts > 0)
            .count();
        if pending > 0 {
            return Some(format!("node {at}: {pending} payments never ended"));
        }
        let entitled = deposited + direct + received - paid;
        (paid_out < entitled).then(|| format!("node {at} got {paid_out}, entitled to {entitled}"))
    }

    /// Whether an honest payee released a preimage and was not paid though L1 ran.
    fn unpaid(&self, at: usize) -> Option<String> {
        if !self.stalled_at.is_empty() || self.faults.blind || self.faults.crash > 0 {
            return None;
        }
        let node = self.hosts[at].node.as_ref()?;
        let invoice = node.invoices().values().find(|invoice| {
            invoice.state == InvoiceState::Released && invoice.received < invoice.released
        })?;
        Some(format!(
            "node {at} released {} and received {}",
            invoice.released, invoice.received
        ))
    }

    fn count(&mut self) {
        for host in &self.hosts {
            let Some(node) = host.node.as_ref() else {
                continue;
            };
            for payment in node.payments().values() {
                match payment.state {
                    PaymentState::Succeeded(_) => self.outcome.succeeded += 1,
                    PaymentState::Failed(_) => self.outcome.failed += 1,
                    PaymentState::Pending => {}
                }
            }
            let directs = node.channels().values();
            self.outcome.directs += directs
                .map(|channel| u64::from(channel.own.direct_total > 0))
                .sum::<u64>();
        }
        self.outcome.compared = self.l1.compared;
        let channels = self.l1.head().channels.values();
        self.outcome.disputes += channels
            .filter(|(_, chain)| matches!(chain.phase, ChainPhase::Settled { .. }))
            .count() as u64;
    }
}

impl Host {
    fn new(
        at: usize,
        evil: bool,
        broken: Option<Rule>,
        domain: Domain,
        random: &mut Random,
    ) -> Self {
        let identity = Identity {
            key: public_key(at as u8),
            signer: signer(at as u8),
            payout: payout(at as u8),
            domain,
            policy: policy(),
        };
        let mut host = Self {
            keys: SimKeys { node: at as u8 },
            node: None,
            disk: BTreeMap::new(),
            old_disk: BTreeMap::new(),
            from_backup: false,
            from_chain: false,
            copies: Vec::new(),
            stash: Vec::new(),
            hidden: Vec::new(),
            numbering: Numbering::Clock,
            evil,
            // Whoever is dishonest does not reveal for others, or spends what is not there yet.
            rules: broken.or(match random.below(6) {
                0..3 if evil => Some(Rule::Reveal),
                3 | 4 if evil => Some(Rule::FinalDeposits),
                _ => None,
            }),
            skew: random.between(0, 60) as i64 - 30,
            told: Told::default(),
            blind_until: 0,
            mute: 0,
            late: evil && random.one_in(3),
            loot: Vec::new(),
            ledger: Ledger::default(),
            given: BTreeMap::new(),
            receipts: BTreeMap::new(),
            identity,
        };
        host.node = Some(host.with_rules(Node::new(host.identity.clone())));
        host
    }

    /// Above which amount it waits for its tower.
    fn limit(&self) -> Option<u128> {
        self.identity.policy.tower_limit
    }

    fn with_rules(&self, mut node: Node) -> Node {
        if let Some(rule) = self.rules {
            node.sabotage(Rules::without(rule));
        }
        node.number(self.numbering);
        node
    }
}

/// Ethereum's margins, scaled to blocks of 30 s and a finality of 6.
fn policy() -> Policy {
    Policy {
        reveal_margin: FINALITY as u64 * BLOCK + 120,
        min_expiry_ahead: 12 * 60,
        max_expiry_ahead: 30 * 60,
        clock_tolerance: 60,
        version_slack: 15 * 60,
        max_head_age: 150,
        min_window: WINDOW,
        coop_life: 300,
        max_coop_life: 600,
        fee_ppm: 20_000,
        max_peer_value: PEER_VALUE,
        ack_every: 8,
        max_unechoed: 24,
        blame_after: 600,
        ..Policy::default()
    }
}

/// 32 bytes from a seed and a number.
fn stretch(seed: u64, number: u64) -> [u8; 32] {
    let mut bytes = [0; 32];
    for (at, chunk) in bytes.as_chunks_mut::<8>().0.iter_mut().enumerate() {
        *chunk = mix(mix(seed) ^ (number << 8) ^ at as u64).to_le_bytes();
    }
    bytes
}

fn fingerprint(at: usize, effect: &Effect) -> u64 {
    let (kind, value) = match effect {
        Effect::Persist(records) => (
            1,
            records.iter().fold(0, |sum, record| {
                record.value.iter().flatten().fold(sum, |sum: u64, byte| {
                    sum.wrapping_mul(31).wrapping_add(u64::from(*byte))
                })
            }),
        ),
        Effect::Send { to, .. } => (2, u64::from(to.0[1])),
        Effect::Broadcast(_) => (3, 0),
        Effect::Watch(hashes) => (4, hashes.len() as u64),
        Effect::Notify(_) => (6, 0),
    };
    mix(value ^ ((at as u64) << 32) ^ kind)
}

fn trace_input(now: Timestamp, at: usize, input: &Input) {
    match input {
        Input::Tick | Input::Chain(_) | Input::Message { .. } => {}
        other => println!("{:>6} {at} does {other:?}", now - START),
    }
}

fn brief(transaction: &Transaction) -> String {
    match transaction {
        Transaction::Cooperate { coop, .. } => format!("cooperate {coop:?}"),
        Transaction::Submit { params, halves, .. } => format!(
            "submit salt {} versions {} {}",
            params.salt, halves.a.version, halves.b.version
        ),
        Transaction::Settle { params, .. } => format!("settle salt {}", params.salt),
        Transaction::Reveal { preimages } => format!("reveal {}", preimages[0].hash()),
    }
}

fn brief_message(message: &Message) -> String {
    match message {
        Message::Update(update) => format!(
            "update {} from {} echo {} paid {} adds {:?} settles {:?} drops {:?} directs {:?}",
            update.half.version,
            update.base,
            update.echo,
            update.half.paid,
            update
                .adds
                .iter()
                .map(|add| (add.id, add.lock))
                .collect::<Vec<_>>(),
            update.settles,
            update.drops,
            update
                .directs
                .iter()
                .map(|direct| direct.amount.get())
                .collect::<Vec<_>>(),
        ),
        other => format!("{other:?}"),
    }
}

/// Runs a seed.
///
/// # Errors
/// The first broken promise.
pub fn run(seed: u64, mutation: Mutation) -> Result<Outcome, Violation> {
    World::new(seed, mutation, false).run()
}

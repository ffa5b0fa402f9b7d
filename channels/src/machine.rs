//! The channel machine: everything a node decides about its channels, without clock, socket, disk or randomness.
//!
//! ```text
//! inputs (user, peer, L1, time) → apply: state changes, nothing leaves
//!                               → flush: what follows from them, one signed update per channel
//!                               → effects: Persist, Send, Broadcast, Watch, Notify
//! ```
//! Several inputs may be applied before one flush: their payments share a signature and a disk write.
//!
//! The machine is driven by levels, not by edges: whatever is known about a payment hash (preimage, reveals, locks, answers,
//! echoes) is looked at as a whole whenever any of it changes, in `payment.rs`. A lost message, a reorg or a restart then
//! needs no case of its own.
//!
//! | file | question |
//! |---|---|
//! | `rules.rs` | what is safe? |
//! | `channel.rs` | what does one side know? |
//! | `update.rs` | which halves are signed and accepted? |
//! | `payment.rs` | what becomes of locks, forwards, invoices? |
//! | `cooperative.rs` | which payouts are signed? |
//! | `dispute.rs` | what does L1 say, what do we do there? |
//! | `connection.rs` | what is said again? |
//! | `recovery.rs` | what if our data is old? |
//! | `clock.rs` | how are halves numbered, and which numbers are taken? |
//! | `guard.rs` | what waits until a tower holds it? |
//! | `locks.rs` | what do our standing locks come to? |
//! | `effect.rs` | what leaves, in which order? |

pub mod channel;
pub mod clock;
pub mod connection;
pub mod cooperative;
pub mod dispute;
pub mod effect;
#[cfg(feature = "sabotage")]
pub mod forge;
pub mod guard;
pub mod locks;
pub mod payment;
pub mod recovery;
pub mod rules;
pub mod update;

use crate::digest::{self, Domain};
use crate::message::{Direct, LockId, Message};
use crate::policy::Policy;
use crate::signing::Keys;
use crate::state::{Params, ParamsError};
use crate::types::{
    Address, Amount, ChannelId, Hash32, PaymentHash, Preimage, PublicKey, Side, Timestamp, Version,
};
use channel::{Channel, Fault};
use dispute::{ChainReport, Reveal};
use effect::{Effect, Effects, Key, Notice, Record};
use indexmap::{IndexMap, IndexSet};
use payment::{Invoice, NewPayment, Onions, Payment};
use rules::Rules;
use serde::Serialize;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use thiserror::Error;

/// What happens to a node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Input {
    /// Use a channel, once its deposits are final.
    AddChannel {
        /// What names it.
        params: Params,
        /// Our side.
        side: Side,
        /// The counterparty's key.
        peer: PublicKey,
    },
    /// A peer is reachable.
    Connected(PublicKey),
    /// A peer is not reachable any more.
    Disconnected(PublicKey),
    /// A peer said something.
    Message {
        /// Who.
        from: PublicKey,
        /// What.
        message: Message,
    },
    /// L1 moved.
    Chain(ChainReport),
    /// Time passed. The rim ticks at least every `resend_after`.
    Tick,
    /// Pay the counterparty without a lock.
    PayDirect {
        /// Over which channel.
        channel: ChannelId,
        /// What.
        direct: Direct,
    },
    /// Pay somebody over locks.
    Pay(NewPayment),
    /// Other ways for parts of a payment under way that have failed for certain.
    AddParts(NewPayment),
    /// Expect a payment.
    AddInvoice(Invoice),
    /// Release the preimage of a hold invoice.
    Release(PaymentHash),
    /// Fail what came for an invoice, and whatever comes.
    Cancel(PaymentHash),
    /// Locks that may be paid wait no longer for another change of their half: see [`Node::waits_to_settle`].
    Settle,
    /// Take money out, with the counterparty's signature.
    Withdraw {
        /// Of which channel.
        channel: ChannelId,
        /// How much, to our payout address.
        amount: Amount,
    },
    /// Close, with the counterparty's signature.
    CloseCooperatively(ChannelId),
    /// Close without it.
    ForceClose(ChannelId),
    /// A tower has signed that it holds a snapshot with these versions. Each counts for itself, and never goes back.
    Guarded {
        /// Of which channel.
        channel: ChannelId,
        /// The version of our half.
        own: Version,
        /// The version of the peer's half.
        held: Version,
    },
    /// What a tower holds of a channel of which we have lost data.
    Record(Box<crate::watchtower::Watch>),
}

/// Why an input changed nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum StepError {
    /// No such channel.
    #[error("channel {0} is unknown")]
    UnknownChannel(ChannelId),
    /// The message is from somebody else than the channel's counterparty.
    #[error("channel {0} is not with this peer")]
    WrongPeer(ChannelId),
    /// The channel exists.
    #[error("channel {0} is known already")]
    KnownChannel(ChannelId),
    /// The contract would refuse the parameters.
    #[error(transparent)]
    Params(#[from] ParamsError),
    /// The parameters are not ours to sign for.
    #[error("the parameters name another signer, payout address or peer key")]
    NotOurs,
    /// The dispute window is shorter than this node wants.
    #[error("window of {found} s is shorter than this node's {wanted} s")]
    Window {
        /// The channel's.
        found: u32,
        /// The policy's.
        wanted: u32,
    },
    /// The channel takes no changes now.
    #[error("channel {0} is not open, or waits for L1, the peer or a cooperative payout")]
    NotOpen(ChannelId),
    /// The peer is not connected.
    #[error("the peer of channel {0} is not connected")]
    Offline(ChannelId),
    /// More than there is.
    #[error("{wanted} is more than the {available} available")]
    Balance {
        /// What was asked.
        wanted: u128,
        /// What there is.
        available: u128,
    },
    /// Our data was old and is mended, but what we signed and forgot may still count.
    #[error(
        "channel {channel} was recovered from old data; it takes payments again when L1 is final past {until}"
    )]
    Recovering {
        /// Which.
        channel: ChannelId,
        /// Until when.
        until: Timestamp,
    },
    /// Nothing to pay.
    #[error("an amount of zero")]
    Zero,
    /// The counter of all payments would leave 112 bits.
    #[error("the channel's lifetime turnover is used up")]
    Turnover,
    /// Too many locks, or too many payments that the peer has not signed for.
    #[error("the channel has no room for another lock or payment until the peer answers")]
    Slots,
    /// The expiry is too near or too far.
    #[error("expiry {expiry} is not within {earliest} and {latest}")]
    Expiry {
        /// What was asked.
        expiry: Timestamp,
        /// The nearest.
        earliest: Timestamp,
        /// The farthest.
        latest: Timestamp,
    },
    /// The hash is in use.
    #[error("payment {0} is under way or done")]
    KnownPayment(PaymentHash),
    /// No such invoice, or not in that state.
    #[error("invoice {0} is unknown or no longer waits")]
    NoInvoice(PaymentHash),
    /// Above the limit a preimage is released only when a tower holds the locks.
    #[error(
        "payment {hash} waits for the tower's receipt until {until}; then it is given back: see that the tower runs, or release it again when it does"
    )]
    Unguarded {
        /// Which payment.
        hash: PaymentHash,
        /// The last time for a release.
        until: Timestamp,
    },
    /// A payout is under way.
    #[error("a cooperative payout is under way until {0}")]
    PayoutUnderWay(Timestamp),
    /// Locks stand in the way of a cooperative close.
    #[error("locks or unanswered payments stand in the way; wait or force close")]
    Unsettled,
    /// The peer's payout is not one to sign.
    #[error("the proposed payout does not fit: {0}")]
    Payout(&'static str),
    /// The message does not fit the state and was ignored.
    #[error("the message does not fit: {0}")]
    Ignored(&'static str),
}

/// What the machine needs from outside that is no effect: both are pure functions.
#[derive(Clone, Copy)]
pub struct Tools<'a> {
    /// Signs and verifies.
    pub keys: &'a dyn Keys,
    /// Opens onions.
    pub onions: &'a dyn Onions,
}

/// Whose lock, where.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct LockRef {
    pub channel: ChannelId,
    pub own: bool,
    pub lock: LockId,
}

/// Puts a lock among those of its hash: few, so a list is cheaper than a set.
fn insert_lock(locks: &mut Vec<LockRef>, found: LockRef) {
    if let Err(at) = locks.binary_search(&found) {
        locks.insert(at, found);
    }
}

/// What a node is and wants, besides its records.
#[derive(Debug, Clone)]
pub struct Identity {
    /// The hot key.
    pub key: PublicKey,
    /// Its address: the signer of our channels.
    pub signer: Address,
    /// Where our money goes.
    pub payout: Address,
    /// The contract.
    pub domain: Domain,
    /// Margins and limits.
    pub policy: Policy,
}

/// A node's channels and payments.
#[derive(Debug)]
pub struct Node {
    identity: Identity,
    policy: Policy,
    separator: Hash32,
    rules: Rules,
    #[cfg(feature = "sabotage")]
    numbering: clock::Numbering,
    /// The later of the local clock and L1's head.
    now: Timestamp,
    /// The local clock, which may be behind L1 and may be set back: what is said again is paced by it, because it never stands still.
    local: Timestamp,
    head_time: Timestamp,
    /// Since when L1 is heard of without a gap.
    fresh_since: Timestamp,
    final_time: Timestamp,
    channels: BTreeMap<ChannelId, Channel>,
    // What is asked for by a payment hash at every turn is found by hash, and walked in an order that only inputs decide.
    payments: IndexMap<PaymentHash, Payment>,
    invoices: IndexMap<PaymentHash, Invoice>,
    preimages: IndexMap<PaymentHash, Preimage>,
    reveals: BTreeMap<PaymentHash, Reveal>,
    last_reveal: BTreeMap<PaymentHash, Timestamp>,
    /// Locks by hash, in order.
    index: IndexMap<PaymentHash, Vec<LockRef>>,
    connected: BTreeSet<PublicKey>,
    /// Own locks that are paid with the next change of their channel's half, or when it is time.
    settles: BTreeMap<ChannelId, BTreeSet<LockId>>,
    settle_now: bool,
    // What a step has changed and flush still has to see to.
    stirred: IndexSet<PaymentHash>,
    touched: BTreeSet<ChannelId>,
    dirty: IndexSet<Key>,
    acks: BTreeSet<ChannelId>,
    resend: BTreeSet<ChannelId>,
    notices: Vec<Notice>,
    effects: Effects,
    room: Room,
}

/// A record that does not decode.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("record {key:?} is damaged: {reason}")]
pub struct DamagedRecord {
    /// Which.
    pub key: Key,
    /// How.
    pub reason: String,
}

/// Room for most records.
const RECORD_BYTES: usize = 8192;

/// Where records are serialised: kept and grown as needed, because a vector that grows byte by byte for each record is slower.
/// What lies there has preimages in it and is not printed.
#[derive(Default)]
struct Room(Vec<u8>);

impl fmt::Debug for Room {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Room")
    }
}

impl Room {
    fn serialise<T: Serialize>(&mut self, value: &T) -> Vec<u8> {
        loop {
            match postcard::to_slice(value, &mut self.0) {
                Ok(bytes) => return bytes.to_vec(),
                Err(postcard::Error::SerializeBufferFull) => {
                    let more = RECORD_BYTES.max(2 * self.0.len());
                    self.0.resize(more, 0);
                }
                Err(error) => unreachable!("plain data serialises into memory: {error}"),
            }
        }
    }
}

/// What a channel's record of schema 2 lacks: a version, zero, and a half that is not there.
const SINCE_SCHEMA_2: usize = 2;
/// What one of schema 1 lacks: [`channel::Waits`] before that, two maps and a list, all empty.
const SINCE_SCHEMA_1: usize = 3 + SINCE_SCHEMA_2;

/// A channel's record of an older schema, with what it lacks.
fn with_the_rest(bytes: &[u8], lacking: usize) -> Vec<u8> {
    [bytes, &vec![0; lacking]].concat()
}

impl Node {
    /// A node without channels.
    pub fn new(identity: Identity) -> Self {
        Self {
            policy: identity.policy.clone(),
            separator: identity.domain.separator(),
            identity,
            rules: Rules::default(),
            #[cfg(feature = "sabotage")]
            numbering: clock::Numbering::default(),
            now: 0,
            local: 0,
            head_time: 0,
            fresh_since: 0,
            final_time: 0,
            channels: BTreeMap::new(),
            payments: IndexMap::new(),
            invoices: IndexMap::new(),
            preimages: IndexMap::new(),
            reveals: BTreeMap::new(),
            last_reveal: BTreeMap::new(),
            index: IndexMap::new(),
            connected: BTreeSet::new(),
            settles: BTreeMap::new(),
            settle_now: false,
            stirred: IndexSet::new(),
            touched: BTreeSet::new(),
            dirty: IndexSet::new(),
            acks: BTreeSet::new(),
            resend: BTreeSet::new(),
            notices: Vec::new(),
            effects: Effects::default(),
            room: Room::default(),
        }
    }

    /// A node from its durable records; L1 and the peers tell it the rest.
    ///
    /// # Errors
    /// [`DamagedRecord`].
    pub fn restore<'a>(
        identity: Identity,
        records: impl IntoIterator<Item = (&'a Key, &'a [u8])>,
    ) -> Result<Self, DamagedRecord> {
        fn read<T: serde::de::DeserializeOwned>(
            key: Key,
            bytes: &[u8],
        ) -> Result<T, DamagedRecord> {
            postcard::from_bytes(bytes).map_err(|error| DamagedRecord {
                key,
                reason: error.to_string(),
            })
        }
        let mut node = Self::new(identity);
        for (&key, bytes) in records {
            match key {
                Key::Channel(id) => {
                    let older = |lacking| read(key, &with_the_rest(bytes, lacking));
                    let known = read(key, bytes)
                        .or_else(|_| older(SINCE_SCHEMA_2))
                        .or_else(|_| older(SINCE_SCHEMA_1))?;
                    node.channels.insert(id, known);
                }
                Key::Payment(hash) => {
                    node.payments.insert(hash, read(key, bytes)?);
                }
                Key::Invoice(hash) => {
                    node.invoices.insert(hash, read(key, bytes)?);
                }
                Key::Preimage(hash) => {
                    node.preimages.insert(hash, read(key, bytes)?);
                }
            }
        }
        node.rebuild_index();
        Ok(node)
    }

    /// A node from a backup that may be older than what it has signed: on each channel it signs nothing until the peer has
    /// said what it holds, and goes on far above any version that it may have signed and forgotten. The rim writes
    /// [`Self::records`] before the first input: a crash must not turn the backup into the newest state.
    ///
    /// # Errors
    /// [`DamagedRecord`].
    pub fn from_backup<'a>(
        identity: Identity,
        records: impl IntoIterator<Item = (&'a Key, &'a [u8])>,
    ) -> Result<Self, DamagedRecord> {
        let mut node = Self::restore(identity, records)?;
        for channel in node.channels.values_mut().filter(|channel| !channel.closed) {
            channel.mark_as_old();
        }
        Ok(node)
    }

    fn rebuild_index(&mut self) {
        for (&channel, state) in &self.channels {
            let own = state
                .own
                .locks
                .iter()
                .map(|(&lock, own)| (own.lock.hash, true, lock));
            let held = state
                .held
                .locks
                .iter()
                .map(|(&lock, peer)| (peer.lock.hash, false, lock));
            for (hash, own, lock) in own.chain(held) {
                insert_lock(
                    self.index.entry(hash).or_default(),
                    LockRef { channel, own, lock },
                );
            }
        }
    }

    /// Breaks a rule, for the simulator's test of itself.
    #[cfg(feature = "sabotage")]
    pub fn sabotage(&mut self, rules: Rules) {
        self.rules = rules;
        // A backup is marked before anybody can break a rule.
        let marks = rules.marks_recovered();
        for channel in self.channels.values_mut() {
            for peer in channel.held.locks.values_mut() {
                peer.recovered &= marks;
            }
        }
    }

    /// All durable records, as they should stand on disk.
    pub fn records(&self) -> Vec<Record> {
        let keys = self
            .channels
            .keys()
            .map(|id| Key::Channel(*id))
            .chain(self.payments.keys().map(|hash| Key::Payment(*hash)))
            .chain(self.invoices.keys().map(|hash| Key::Invoice(*hash)))
            .chain(self.preimages.keys().map(|hash| Key::Preimage(*hash)));
        self.records_at(keys.collect())
    }

    /// The durable records under these keys as they should stand on disk, sorted; one without a value is to be removed.
    pub fn records_at(&self, keys: Vec<Key>) -> Vec<Record> {
        self.records_of(keys, &mut Room::default())
    }

    fn records_of(&self, mut keys: Vec<Key>, room: &mut Room) -> Vec<Record> {
        fn bytes<T: Serialize>(value: Option<&T>, room: &mut Room) -> Option<Vec<u8>> {
            value.map(|value| room.serialise(value))
        }
        let record = |key| {
            let value = match key {
                Key::Channel(id) => bytes(self.channels.get(&id), room),
                Key::Payment(hash) => bytes(self.payments.get(&hash), room),
                Key::Invoice(hash) => bytes(self.invoices.get(&hash), room),
                Key::Preimage(hash) => bytes(self.preimages.get(&hash), room),
            };
            Record { key, value }
        };
        keys.sort_unstable();
        keys.into_iter().map(record).collect()
    }

    /// The channels.
    pub fn channels(&self) -> &BTreeMap<ChannelId, Channel> {
        &self.channels
    }

    /// Payments that this node makes.
    pub fn payments(&self) -> &IndexMap<PaymentHash, Payment> {
        &self.payments
    }

    /// Payments that this node expects or got.
    pub fn invoices(&self) -> &IndexMap<PaymentHash, Invoice> {
        &self.invoices
    }

    /// Preimages that this node has learnt and may use, beside those that its payments and invoices have.
    pub fn preimages(&self) -> &IndexMap<PaymentHash, Preimage> {
        &self.preimages
    }

    /// What a tower needs to guard a channel without us: the best snapshot, and the preimages that we have released.
    pub fn watch(&self, id: &ChannelId, keys: &dyn Keys) -> Option<crate::watchtower::Watch> {
        let channel = self.channels.get(id).filter(|channel| !channel.closed)?;
        let released = channel
            .held
            .locks
            .values()
            .filter(|peer| peer.answer == Some(channel::Answer::Fulfil))
            .filter_map(|peer| self.preimage_of(&peer.lock.hash))
            .collect();
        channel.watch(self.identity.key, &self.separator, released, keys)
    }

    /// The rules that it keeps.
    pub fn rules(&self) -> &Rules {
        &self.rules
    }

    /// Its identity.
    pub fn identity(&self) -> &Identity {
        &self.identity
    }

    /// The latest of the local clock and L1's head.
    pub fn now(&self) -> Timestamp {
        self.now
    }

    /// Whether locks of ours that may be paid wait for another change of their half, with which they share a version, a signature
    /// and a disk write. The rim gives [`Input::Settle`] some milliseconds later; [`Input::Tick`] does the same, and so does any
    /// change of the half. It is forgotten in a restart: the next tick finds those locks again.
    pub fn waits_to_settle(&self) -> bool {
        !self.settles.is_empty()
    }

    /// Hashes whose reveals matter: what the rim has to watch after a restart.
    pub fn watched(&self) -> Vec<PaymentHash> {
        self.index.keys().copied().collect()
    }

    /// Applies one input, then flushes.
    ///
    /// # Errors
    /// [`StepError`]; effects may come all the same, because time has passed.
    pub fn step(
        &mut self,
        now: Timestamp,
        input: Input,
        tools: Tools<'_>,
    ) -> (Vec<Effect>, Result<(), StepError>) {
        let result = self.apply(now, input, tools);
        (self.flush(tools), result)
    }

    /// Takes in one input. Nothing leaves before [`Self::flush`].
    ///
    /// # Errors
    /// [`StepError`]: the input changed nothing.
    pub fn apply(
        &mut self,
        now: Timestamp,
        input: Input,
        tools: Tools<'_>,
    ) -> Result<(), StepError> {
        // Rule 8: the later of the two clocks decides.
        self.now = now.max(self.head_time);
        self.local = now;
        match input {
            Input::AddChannel { params, side, peer } => self.add_channel(params, side, peer, tools),
            Input::Connected(peer) => {
                self.recognise(peer, tools.keys);
                self.peer_connected(peer);
                Ok(())
            }
            Input::Disconnected(peer) => {
                self.peer_disconnected(peer);
                Ok(())
            }
            Input::Message { from, message } => self.receive(from, message, tools),
            Input::Chain(report) => {
                self.chain_reported(report);
                self.stir_everything();
                Ok(())
            }
            Input::Tick => {
                self.stir_everything();
                self.settle_now = true;
                self.repeat();
                Ok(())
            }
            Input::Settle => {
                self.settle_now = true;
                Ok(())
            }
            Input::PayDirect { channel, direct } => self.pay_direct(channel, direct),
            Input::Pay(payment) => self.pay(payment),
            Input::AddParts(payment) => self.add_parts(payment),
            Input::AddInvoice(invoice) => self.add_invoice(invoice),
            Input::Release(hash) => self.release(hash),
            Input::Cancel(hash) => self.cancel(hash),
            Input::Withdraw { channel, amount } => self.withdraw(channel, amount, tools.keys),
            Input::CloseCooperatively(channel) => self.close_cooperatively(channel, tools.keys),
            Input::ForceClose(channel) => self.force_close(channel),
            Input::Guarded { channel, own, held } => self.guarded(channel, own, held),
            Input::Record(watch) => self.receive_record(&watch, tools.keys),
        }
    }

    /// Does everything that follows from what was applied, and says what the rim has to do.
    pub fn flush(&mut self, tools: Tools<'_>) -> Vec<Effect> {
        for id in self.touched.clone() {
            self.tell_guarded(id);
        }
        self.follow();
        while self.settle_due() {
            self.follow();
        }
        for id in std::mem::take(&mut self.touched) {
            self.speak(id, tools.keys);
            self.act_on_chain(id, tools.keys);
        }
        let dirty = self.dirty.drain(..).collect();
        let mut room = std::mem::take(&mut self.room);
        let records = self.records_of(dirty, &mut room);
        self.effects.records.extend(records);
        self.room = room;
        self.effects.notices.append(&mut self.notices);
        std::mem::take(&mut self.effects).in_order(&self.rules)
    }

    /// What follows from one lock may stir another: until nothing does. Outcomes and answers are given once, so it ends.
    fn follow(&mut self) {
        while !self.stirred.is_empty() || self.touched.iter().any(|id| self.has_unseen(id)) {
            for id in self.touched.clone() {
                self.conclude_if_closed(id);
            }
            let hashes: Vec<_> = self.stirred.drain(..).collect();
            for hash in hashes {
                self.advance(hash);
            }
        }
    }

    /// Whether a touched channel was closed finally and that has not been looked at.
    fn has_unseen(&self, id: &ChannelId) -> bool {
        self.channels.get(id).is_some_and(|channel| {
            let closed = channel
                .at_final
                .as_ref()
                .is_some_and(dispute::OnChain::is_closed);
            closed && !channel.closed
        })
    }

    fn add_channel(
        &mut self,
        params: Params,
        side: Side,
        peer: PublicKey,
        tools: Tools<'_>,
    ) -> Result<(), StepError> {
        let named = tools.keys.address(&peer) == Some(params.signer(side.other()));
        if !self.is_ours(&params, side) || !named {
            return Err(StepError::NotOurs);
        }
        self.check_new(&params)?;
        let id = digest::channel_id(&self.separator, &params);
        let mut channel = Channel::new(id, params, side, peer);
        channel.session.connected = self.connected.contains(&peer);
        self.channels.insert(id, channel);
        self.dirty.insert(Key::Channel(id));
        self.touched.insert(id);
        Ok(())
    }

    fn is_ours(&self, params: &Params, side: Side) -> bool {
        params.signer(side) == self.identity.signer && params.payout(side) == self.identity.payout
    }

    /// A channel that can be used, and is not known yet.
    fn check_new(&self, params: &Params) -> Result<(), StepError> {
        params.check()?;
        if params.window_secs < self.policy.min_window {
            return Err(StepError::Window {
                found: params.window_secs,
                wanted: self.policy.min_window,
            });
        }
        let id = digest::channel_id(&self.separator, params);
        if self.channels.contains_key(&id) {
            return Err(StepError::KnownChannel(id));
        }
        Ok(())
    }

    fn receive(
        &mut self,
        from: PublicKey,
        message: Message,
        tools: Tools<'_>,
    ) -> Result<(), StepError> {
        let id = message.channel();
        let channel = self
            .channels
            .get(&id)
            .ok_or(StepError::UnknownChannel(id))?;
        if channel.peer != from {
            return Err(StepError::WrongPeer(id));
        }
        self.touched.insert(id);
        match message {
            Message::Update(update) => self.receive_update(*update, tools),
            Message::SignAck(ack) => self.receive_sign_ack(ack, tools.keys),
            Message::Ack { version, .. } => self.receive_ack(id, version),
            Message::Refuse {
                version,
                held,
                refusal,
                ..
            } => self.receive_refuse(id, version, held, refusal),
            Message::Fulfil { lock, preimage, .. } => self.receive_fulfil(id, lock, preimage),
            Message::Fail { lock, reason, .. } => self.receive_fail(id, lock, reason),
            Message::Reestablish(said) => self.receive_reestablish(said, tools.keys),
            Message::Copy(copy) => self.receive_copy(&copy, tools.keys),
            Message::CoopPropose {
                coop, signature, ..
            } => self.receive_proposal(id, coop, signature, tools.keys),
            Message::CoopSign {
                coop, signature, ..
            } => self.receive_coop_signature(id, coop, signature, tools.keys),
        }
    }

    fn force_close(&mut self, id: ChannelId) -> Result<(), StepError> {
        self.settle_waiting(id);
        let channel = self.channel_mut(id)?;
        channel.closing = true;
        Ok(())
    }

    /// The peer broke the protocol for good: use the channel no more.
    pub(crate) fn find_fault(&mut self, id: ChannelId, fault: Fault, close: bool) {
        let Some(channel) = self.channels.get_mut(&id) else {
            return;
        };
        if channel.fault.is_some() && (channel.closing || !close) {
            return;
        }
        channel.fault.get_or_insert(fault);
        channel.closing |= close;
        self.dirty.insert(Key::Channel(id));
        self.touched.insert(id);
        self.notices
            .push(Notice::PeerAtFault { channel: id, fault });
    }

    /// A channel that is about to change: flush will look at it and write it.
    fn channel_mut(&mut self, id: ChannelId) -> Result<&mut Channel, StepError> {
        let clock = self.numbering_clock();
        let channel = self
            .channels
            .get_mut(&id)
            .ok_or(StepError::UnknownChannel(id))?;
        channel.clock = clock;
        self.dirty.insert(Key::Channel(id));
        self.touched.insert(id);
        Ok(channel)
    }

    /// All locks with a hash, ours and the peers', in order.
    fn locks_with(&self, hash: PaymentHash) -> Vec<LockRef> {
        self.index.get(&hash).cloned().unwrap_or_default()
    }

    /// Looks again at everything known about a hash.
    fn stir(&mut self, hash: PaymentHash) {
        if self.index.contains_key(&hash) {
            self.stirred.insert(hash);
        }
    }

    /// Looks again at all hashes of a channel.
    fn stir_channel(&mut self, id: ChannelId) {
        if let Some(channel) = self.channels.get(&id) {
            let own = channel.own.locks.values().map(|own| own.lock.hash);
            let held = channel.held.locks.values().map(|peer| peer.lock.hash);
            self.stirred.extend(own.chain(held));
        }
    }

    fn stir_everything(&mut self) {
        self.stirred.extend(self.index.keys());
        self.touched.extend(self.channels.keys());
    }

    fn head_age(&self) -> u64 {
        self.now.saturating_sub(self.head_time)
    }

    fn send(&mut self, id: ChannelId, message: Message) {
        if let Some(channel) = self
            .channels
            .get(&id)
            .filter(|channel| channel.session.connected)
        {
            self.effects.sends.push((channel.peer, message));
        }
    }
}

impl dispute::OnChain {
    /// Whether it is closed for good.
    pub fn is_closed(&self) -> bool {
        matches!(
            self.phase,
            dispute::ChainPhase::Cooperated | dispute::ChainPhase::Settled { .. }
        )
    }
}

//! A watchtower: guards channels whose owner may be offline for good. A pure machine, like the node's.
//!
//! ```text
//! client → Watch (newest snapshot that its peer signed, co-signed, both lists, released preimages) → signed Receipt
//! L1     → a dispute behind the record: submit · a lock near its expiry: reveal · a deadline passed: settle
//! client that lost its data → asks for its record of a channel → the same Watch, as it gave it (`machine::recovery`)
//! ```
//! One record per channel and client, replaced in place. *Both parties may be clients: with one record for both, a party that signs
//! echoes of old halves only could keep its peer's newest snapshot out as older in one half.* L1 merges per half, so it is given
//! whatever record is ahead. A tower can open no dispute by itself and move no money: with everything that it
//! holds it can only bring to L1 what both parties have signed. What it must not be given is a preimage that its client has
//! not released: with a colluding hop it could take the payment.

use crate::digest;
use crate::machine::dispute::{ChainPhase, ChainReport, Dispute, Level, OnChain, Reveal};
use crate::machine::effect::Transaction;
use crate::message::{Copy, LockId};
use crate::policy::Policy;
use crate::signing::Keys;
use crate::state::{Halves, ListError, Lock, Params, ParamsError, check_list, keccak};
use crate::types::{
    ChannelId, Hash32, PaymentHash, Preimage, PublicKey, Side, Signature, Timestamp, Version,
};
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};
use thiserror::Error;

/// Most preimages that a record may carry: one for each lock that the client can be paid by.
const MAX_PREIMAGES: usize = crate::state::MAX_LOCKS;

/// What a client has watched: everything that is needed without it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Watch {
    /// The channel.
    pub params: Params,
    /// Side A's key.
    pub key_a: PublicKey,
    /// Side B's key.
    pub key_b: PublicKey,
    /// The newest snapshot that the peer signed.
    pub halves: Halves,
    /// Side A's locks.
    pub list_a: Vec<Lock>,
    /// Side B's locks.
    pub list_b: Vec<Lock>,
    /// Side A's and side B's, over the snapshot.
    pub signatures: (Signature, Signature),
    /// Preimages of payments that the client has decided to release.
    pub preimages: Vec<Preimage>,
    /// What the client needs to take the record back; none in records of older programs. The last field: a stored record of
    /// theirs ends before it.
    pub numbers: Option<LockNumbers>,
}

/// The numbers of a record's locks, which a snapshot does not have. *The client signs them: a tower that gave back others would
/// make its peer refuse whatever the client says of a lock.*
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LockNumbers {
    /// Of side A's locks, in the list's order.
    pub list_a: Vec<LockId>,
    /// Of side B's locks, in the list's order.
    pub list_b: Vec<LockId>,
    /// The highest number that the client has given to a lock.
    pub last: LockId,
    /// The client's, over [`numbers_digest`].
    pub signature: Signature,
}

/// What a client signs of its locks' numbers: keccak of a label, the snapshot's digest, the highest number and both lists, each
/// with its length, big-endian.
pub fn numbers_digest(
    snapshot: &Hash32,
    last: LockId,
    list_a: &[LockId],
    list_b: &[LockId],
) -> Hash32 {
    let mut bytes = b"Millrace tower lock numbers v1".to_vec();
    bytes.extend(snapshot.0);
    bytes.extend(last.to_be_bytes());
    for list in [list_a, list_b] {
        bytes.extend((list.len() as u64).to_be_bytes());
        bytes.extend(list.iter().flat_map(|number| number.to_be_bytes()));
    }
    Hash32(keccak(&bytes))
}

/// Which preimages a tower has.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct PreimagesHeld {
    /// How many.
    pub count: u16,
    /// Keccak of their hashes, in ascending order.
    pub hashes: Hash32,
}

impl PreimagesHeld {
    /// Of the preimages of these hashes.
    pub fn of(hashes: impl IntoIterator<Item = PaymentHash>) -> Self {
        let sorted: BTreeSet<PaymentHash> = hashes.into_iter().collect();
        let bytes: Vec<u8> = sorted.iter().flat_map(|hash| hash.0).collect();
        Self {
            count: u16::try_from(sorted.len()).unwrap_or(u16::MAX),
            hashes: Hash32(keccak(&bytes)),
        }
    }
}

/// A tower's promise: from now on it answers anything older, and reveals what it has.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Receipt {
    /// Which channel.
    pub channel: ChannelId,
    /// Side A's version in the record.
    pub version_a: Version,
    /// Side B's version in the record.
    pub version_b: Version,
    /// When it was stored.
    pub stored: Timestamp,
    /// The tower's, over [`Self::digest`].
    pub signature: Signature,
    /// Of which locks of the record it has the preimage; none in receipts of version 1, which do not say it. The last field: a
    /// stored receipt of that version ends before it.
    pub preimages: Option<PreimagesHeld>,
}

impl Receipt {
    /// What the tower signs: keccak of a label, channel, both versions and the time, and in version 2 how many preimages it has
    /// and the keccak of their sorted hashes, big-endian.
    pub fn digest(&self) -> Hash32 {
        let label: &[u8] = match self.preimages {
            None => b"Millrace tower receipt v1",
            Some(_) => b"Millrace tower receipt v2",
        };
        let mut bytes = label.to_vec();
        bytes.extend(self.channel.0);
        bytes.extend(self.version_a.to_be_bytes());
        bytes.extend(self.version_b.to_be_bytes());
        bytes.extend(self.stored.to_be_bytes());
        if let Some(held) = &self.preimages {
            bytes.extend(held.count.to_be_bytes());
            bytes.extend(held.hashes.0);
        }
        Hash32(keccak(&bytes))
    }
}

/// Why a record is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum WatchError {
    /// The contract would refuse the parameters.
    #[error(transparent)]
    Params(#[from] ParamsError),
    /// A key is not a signer's.
    #[error("side {0:?}'s key does not belong to its signer")]
    Key(Side),
    /// A list is not the one that was signed, or cannot be submitted.
    #[error(transparent)]
    List(#[from] ListError),
    /// A signature does not verify.
    #[error("side {0:?}'s signature does not verify")]
    Signature(Side),
    /// Only a party of a channel may have it watched.
    #[error("only a party of the channel may have it watched")]
    Stranger,
    /// The client's stored record is newer in one of its halves.
    #[error("a newer record is stored: versions {version_a} and {version_b}")]
    Older {
        /// Side A's version stored.
        version_a: Version,
        /// Side B's version stored.
        version_b: Version,
    },
    /// Too many preimages.
    #[error("{0} preimages, at most 200 are allowed")]
    Preimages(usize),
    /// The locks' numbers are not those that the client signed, or do not fit the lists.
    #[error("the locks' numbers do not fit the record, or the client has not signed them")]
    Numbers,
}

/// What a tower asks of its rim, in this order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum TowerEffect {
    /// Write a client's record durably; `None` removes it.
    Persist(ChannelId, PublicKey, Option<Box<Watch>>),
    /// Report reveals of these hashes and the state of this channel from now on.
    Watch(ChannelId, Vec<PaymentHash>),
    /// Give the client its receipt.
    Receipt(Receipt),
    /// Get a transaction into the chain.
    Broadcast(Transaction),
}

/// A channel with the records of one or both parties; never without one.
#[derive(Default)]
struct Guarded {
    records: BTreeMap<PublicKey, Record>,
    at_head: Option<OnChain>,
    last_settle: Option<Timestamp>,
}

struct Record {
    watch: Watch,
    last_submit: Option<Timestamp>,
}

/// A tower's records and what L1 says about them.
pub struct Tower {
    separator: Hash32,
    policy: Policy,
    now: Timestamp,
    channels: BTreeMap<ChannelId, Guarded>,
    /// How many records each client has.
    clients: BTreeMap<PublicKey, usize>,
    reveals: BTreeMap<PaymentHash, Reveal>,
    last_reveal: BTreeMap<PaymentHash, Timestamp>,
}

impl Tower {
    /// A tower with the records that it has stored, each with its client.
    pub fn new(
        separator: Hash32,
        policy: Policy,
        records: impl IntoIterator<Item = (PublicKey, Watch)>,
    ) -> Self {
        let mut tower = Self {
            separator,
            policy,
            now: 0,
            channels: BTreeMap::new(),
            clients: BTreeMap::new(),
            reveals: BTreeMap::new(),
            last_reveal: BTreeMap::new(),
        };
        for (client, watch) in records {
            let id = digest::channel_id(&separator, &watch.params);
            tower.put(id, client, watch);
        }
        tower
    }

    fn put(&mut self, id: ChannelId, client: PublicKey, watch: Watch) {
        let record = Record {
            watch,
            last_submit: None,
        };
        let records = &mut self.channels.entry(id).or_default().records;
        if records.insert(client, record).is_none() {
            *self.clients.entry(client).or_default() += 1;
        }
    }

    /// Forgets a channel; whose records it had.
    fn forget(&mut self, id: &ChannelId) -> Vec<PublicKey> {
        let guarded = self.channels.remove(id).unwrap_or_default();
        let clients: Vec<PublicKey> = guarded.records.into_keys().collect();
        for client in &clients {
            if let Some(count) = self.clients.get_mut(client) {
                *count -= 1;
                if *count == 0 {
                    self.clients.remove(client);
                }
            }
        }
        clients
    }

    /// The records, with their clients.
    pub fn records(&self) -> impl Iterator<Item = (&ChannelId, &PublicKey, &Watch)> {
        self.channels.iter().flat_map(|(id, guarded)| {
            let records = guarded.records.iter();
            records.map(move |(client, record)| (id, client, &record.watch))
        })
    }

    /// The channels that are guarded.
    pub fn channels(&self) -> impl Iterator<Item = &ChannelId> {
        self.channels.keys()
    }

    /// Whether a channel is guarded for a client.
    pub fn guards(&self, channel: &ChannelId, client: &PublicKey) -> bool {
        let guarded = self.channels.get(channel);
        guarded.is_some_and(|guarded| guarded.records.contains_key(client))
    }

    /// How many channels are guarded.
    pub fn count(&self) -> usize {
        self.channels.len()
    }

    /// How many channels are guarded for a client.
    pub fn count_of(&self, client: &PublicKey) -> usize {
        self.clients.get(client).copied().unwrap_or(0)
    }

    /// Hashes whose reveals matter.
    pub fn watched(&self) -> BTreeSet<PaymentHash> {
        let of = |guarded: &Guarded| -> Vec<PaymentHash> {
            let mut hashes = guarded.disputed_hashes();
            for record in guarded.records.values() {
                hashes.extend(record.watch.locks().map(|lock| lock.hash));
            }
            hashes
        };
        self.channels.values().flat_map(of).collect()
    }

    /// Stores a client's record in place of its older one. Preimages that the older one has for locks of the new one stay: a
    /// client that has lost its data may have forgotten them.
    ///
    /// # Errors
    /// [`WatchError`]: the older one stays.
    pub fn watch(
        &mut self,
        now: Timestamp,
        client: PublicKey,
        mut watch: Watch,
        keys: &dyn Keys,
    ) -> Result<Vec<TowerEffect>, WatchError> {
        let id = self.check(now, &client, &watch, keys)?;
        if let Some(stored) = self.stored(&id, &client) {
            watch.preimages.extend(&stored.preimages);
        }
        watch.keep_useful_preimages();
        let hashes = watch.locks().map(|lock| lock.hash).collect();
        let receipt = watch.receipt(id, now, keys);
        self.put(id, client, watch.clone());
        Ok(vec![
            TowerEffect::Persist(id, client, Some(Box::new(watch))),
            TowerEffect::Watch(id, hashes),
            TowerEffect::Receipt(receipt),
        ])
    }

    /// What a client has given of a channel; nobody gets another's record.
    pub fn record_of(&self, channel: &ChannelId, client: &PublicKey) -> Option<&Watch> {
        self.stored(channel, client)
    }

    fn stored(&self, id: &ChannelId, client: &PublicKey) -> Option<&Watch> {
        let record = self.channels.get(id)?.records.get(client)?;
        Some(&record.watch)
    }

    fn check(
        &self,
        now: Timestamp,
        client: &PublicKey,
        watch: &Watch,
        keys: &dyn Keys,
    ) -> Result<ChannelId, WatchError> {
        watch.params.check()?;
        if *client != watch.key_a && *client != watch.key_b {
            return Err(WatchError::Stranger);
        }
        let id = digest::channel_id(&self.separator, &watch.params);
        if watch.preimages.len() > MAX_PREIMAGES {
            return Err(WatchError::Preimages(watch.preimages.len()));
        }
        if let Some(stored) = self.stored(&id, client).map(|stored| &stored.halves) {
            let older = watch.halves.a.version < stored.a.version
                || watch.halves.b.version < stored.b.version;
            if older {
                return Err(WatchError::Older {
                    version_a: stored.a.version,
                    version_b: stored.b.version,
                });
            }
        }
        let latest = now + u64::from(watch.params.window_secs) + crate::state::SETTLE_GRACE_SECS;
        watch.check_signed(&self.separator, &id, client, latest, keys)?;
        Ok(id)
    }

    /// Takes in L1's state and answers it. Only the head matters: an answer that turns out to be needless costs gas only.
    pub fn chain_reported(
        &mut self,
        now: Timestamp,
        report: ChainReport,
        keys: &dyn Keys,
    ) -> Vec<TowerEffect> {
        self.now = now.max(report.timestamp);
        let mut effects = Vec::new();
        for (hash, reveal) in report.reveals {
            let known = self.reveals.entry(hash).or_default();
            if report.level == Level::Head {
                known.at_head = reveal.map(|(at, _)| at);
            }
        }
        for (id, chain) in report.channels {
            match report.level {
                Level::Head => {
                    if let Some(guarded) = self.channels.get_mut(&id) {
                        guarded.at_head = Some(chain);
                        let hashes = guarded.disputed_hashes();
                        effects.push(TowerEffect::Watch(id, hashes));
                    }
                }
                Level::Final if chain.is_closed() => {
                    let clients = self.forget(&id).into_iter();
                    effects.extend(clients.map(|client| TowerEffect::Persist(id, client, None)));
                }
                Level::Final => {}
            }
        }
        if report.level == Level::Head {
            effects.extend(self.act(keys).into_iter().map(TowerEffect::Broadcast));
        }
        effects
    }

    fn act(&mut self, keys: &dyn Keys) -> Vec<Transaction> {
        let mut transactions = Vec::new();
        let (now, every) = (self.now, self.policy.rebroadcast_after);
        let due = |last: &Option<Timestamp>| last.is_none_or(|at| now >= at + every);
        for (id, guarded) in &mut self.channels {
            let Some(dispute) = guarded.dispute().cloned() else {
                continue;
            };
            if now < dispute.deadline {
                let on_chain = (dispute.halves.a.version, dispute.halves.b.version);
                // What one record brings, the other need not bring again, unless the first try has come to nothing.
                let again = guarded.records.values().any(|record| {
                    let tried = record.last_submit.is_some();
                    tried && due(&record.last_submit) && record.watch.is_ahead(on_chain)
                });
                let mut there = on_chain;
                for record in guarded.records.values_mut() {
                    let ahead_of = if again { on_chain } else { there };
                    if !record.watch.is_ahead(ahead_of) {
                        continue;
                    }
                    there = record.watch.joined(there);
                    if due(&record.last_submit) {
                        record.last_submit = Some(now);
                        transactions.push(record.watch.submission(&self.separator, id, keys));
                    }
                }
            } else if dispute.is_decided(&self.reveals, now)
                && due(&guarded.last_settle)
                && let Some(record) = guarded.records.values().next()
            {
                guarded.last_settle = Some(now);
                transactions.push(Transaction::Settle {
                    params: record.watch.params,
                    list_a: dispute.list_a,
                    list_b: dispute.list_b,
                });
            }
        }
        transactions.extend(self.reveals_due());
        transactions
    }

    /// Preimages whose locks are near their expiry and not revealed.
    fn reveals_due(&mut self) -> Option<Transaction> {
        let (now, margin) = (self.now, self.policy.reveal_margin);
        let every = self.policy.rebroadcast_after;
        let mut preimages = BTreeSet::new();
        let records = self.channels.values().flat_map(|it| it.records.values());
        for Record { watch, .. } in records {
            for preimage in &watch.preimages {
                let hash = preimage.hash();
                let near = watch
                    .locks()
                    .filter(|lock| lock.hash == hash)
                    .any(|lock| now <= lock.expiry && now + margin >= lock.expiry);
                let unrevealed = self
                    .reveals
                    .get(&hash)
                    .is_none_or(|reveal| reveal.at_head.is_none());
                let paced = self
                    .last_reveal
                    .get(&hash)
                    .is_none_or(|at| now >= at + every);
                if near && unrevealed && paced {
                    preimages.insert(*preimage);
                }
            }
        }
        let preimages: Vec<Preimage> = preimages.into_iter().collect();
        for preimage in &preimages {
            self.last_reveal.insert(preimage.hash(), now);
        }
        (!preimages.is_empty()).then_some(Transaction::Reveal { preimages })
    }
}

impl Guarded {
    fn dispute(&self) -> Option<&Dispute> {
        match self.at_head.as_ref().map(|chain| &chain.phase) {
            Some(ChainPhase::Closing(dispute)) => Some(dispute),
            _ => None,
        }
    }

    fn disputed_hashes(&self) -> Vec<PaymentHash> {
        let lists = self
            .dispute()
            .into_iter()
            .flat_map(|dispute| dispute.list_a.iter().chain(&dispute.list_b));
        lists.map(|lock| lock.hash).collect()
    }
}

impl Watch {
    /// The lists are those of the halves, both parties have signed these, and the client the locks' numbers.
    fn check_signed(
        &self,
        separator: &Hash32,
        id: &ChannelId,
        client: &PublicKey,
        latest: Timestamp,
        keys: &dyn Keys,
    ) -> Result<(), WatchError> {
        check_list(&self.list_a, self.halves.a.locks, latest)?;
        check_list(&self.list_b, self.halves.b.locks, latest)?;
        let digest = digest::snapshot(separator, id, &self.halves);
        for (side, key, signature) in [
            (Side::A, &self.key_a, &self.signatures.0),
            (Side::B, &self.key_b, &self.signatures.1),
        ] {
            if keys.address(key) != Some(self.params.signer(side)) {
                return Err(WatchError::Key(side));
            }
            if !keys.verify(key, &digest, signature) {
                return Err(WatchError::Signature(side));
            }
        }
        let Some(numbers) = &self.numbers else {
            return Ok(());
        };
        let fits = numbers.list_a.len() == self.list_a.len()
            && numbers.list_b.len() == self.list_b.len()
            && numbers.list_a.is_sorted_by(|a, b| a < b)
            && numbers.list_b.is_sorted_by(|a, b| a < b);
        let of_client = numbers_digest(&digest, numbers.last, &numbers.list_a, &numbers.list_b);
        if !fits || !keys.verify(client, &of_client, &numbers.signature) {
            return Err(WatchError::Numbers);
        }
        Ok(())
    }

    /// The record as the peer would have given it back; none if it is not a record that a client of this key gave to a tower, whole.
    pub(crate) fn as_copy(
        &self,
        separator: &Hash32,
        side: Side,
        client: &PublicKey,
        keys: &dyn Keys,
    ) -> Option<Copy> {
        let id = digest::channel_id(separator, &self.params);
        let numbers = self.numbers.as_ref()?;
        let own_key = match side {
            Side::A => &self.key_a,
            Side::B => &self.key_b,
        };
        let signed = self.check_signed(separator, &id, client, Timestamp::MAX, keys);
        if own_key != client || signed.is_err() {
            return None;
        }
        let numbered = |numbers: &[LockId], list: &[Lock]| {
            let locks = numbers.iter().copied();
            locks.zip(list.iter().copied()).collect::<Vec<_>>()
        };
        let locks_a = numbered(&numbers.list_a, &self.list_a);
        let locks_b = numbered(&numbers.list_b, &self.list_b);
        let (of_a, of_b) = self.signatures;
        let (receiver_locks, sender_locks, receiver_signature, sender_signature) = match side {
            Side::A => (locks_a, locks_b, of_a, of_b),
            Side::B => (locks_b, locks_a, of_b, of_a),
        };
        Some(Copy {
            channel: id,
            halves: self.halves,
            sender_locks,
            receiver_locks,
            last_lock: numbers.last,
            sender_signature,
            receiver_signature,
        })
    }

    /// What a receipt for the record says of preimages.
    pub fn held(&self) -> PreimagesHeld {
        PreimagesHeld::of(self.preimages.iter().map(Preimage::hash))
    }

    fn receipt(&self, channel: ChannelId, stored: Timestamp, keys: &dyn Keys) -> Receipt {
        // Of an older program, which knows no other.
        let preimages = self.numbers.as_ref().map(|_| self.held());
        let mut receipt = Receipt {
            channel,
            version_a: self.halves.a.version,
            version_b: self.halves.b.version,
            stored,
            signature: Signature([0; 65]),
            preimages,
        };
        receipt.signature = keys.sign(&receipt.digest());
        receipt
    }

    fn locks(&self) -> impl Iterator<Item = &Lock> {
        self.list_a.iter().chain(&self.list_b)
    }

    /// Drops preimages that open no lock of the record, and repeated ones.
    fn keep_useful_preimages(&mut self) {
        let mut wanted: BTreeSet<PaymentHash> = self.locks().map(|lock| lock.hash).collect();
        self.preimages
            .retain(|preimage| wanted.remove(&preimage.hash()));
    }

    /// Whether the record has a newer half of either side than these versions.
    fn is_ahead(&self, (a, b): (Version, Version)) -> bool {
        self.halves.a.version > a || self.halves.b.version > b
    }

    /// The versions on L1 once it has this record too.
    fn joined(&self, (a, b): (Version, Version)) -> (Version, Version) {
        (self.halves.a.version.max(a), self.halves.b.version.max(b))
    }

    fn submission(&self, separator: &Hash32, id: &ChannelId, keys: &dyn Keys) -> Transaction {
        let digest = digest::snapshot(separator, id, &self.halves);
        let (a, b) = &self.signatures;
        Transaction::Submit {
            params: self.params,
            halves: self.halves,
            list_a: self.list_a.clone(),
            list_b: self.list_b.clone(),
            signatures: Some((
                keys.for_contract(&self.key_a, &digest, a),
                keys.for_contract(&self.key_b, &digest, b),
            )),
        }
    }
}

impl crate::machine::channel::Channel {
    /// What a tower needs to guard this channel without us; none before the peer's first signature.
    pub fn watch(
        &self,
        own_key: PublicKey,
        separator: &Hash32,
        released: Vec<Preimage>,
        keys: &dyn Keys,
    ) -> Option<Watch> {
        let Transaction::Submit {
            params,
            halves,
            list_a,
            list_b,
            signatures: Some(signatures),
        } = self.best_submission(separator, keys)
        else {
            return None;
        };
        let (key_a, key_b) = match self.side {
            Side::A => (own_key, self.peer),
            Side::B => (self.peer, own_key),
        };
        let digest = digest::snapshot(separator, &self.id, &halves);
        let numbers = self.lock_numbers(&digest, keys);
        Some(Watch {
            params,
            key_a,
            key_b,
            halves,
            list_a,
            list_b,
            signatures,
            preimages: released,
            numbers: Some(numbers),
        })
    }

    /// The numbers of the locks in the best snapshot, signed.
    fn lock_numbers(&self, snapshot: &Hash32, keys: &dyn Keys) -> LockNumbers {
        let echoed = self.own.locks.iter();
        let echoed = echoed.filter(|(_, own)| own.is_in(self.own.echoed));
        let own: Vec<LockId> = echoed.map(|(id, _)| *id).collect();
        let held: Vec<LockId> = self.held.locks.keys().copied().collect();
        let (list_a, list_b) = match self.side {
            Side::A => (own, held),
            Side::B => (held, own),
        };
        let last = self.own.next_lock.saturating_sub(1);
        let digest = numbers_digest(snapshot, last, &list_a, &list_b);
        LockNumbers {
            list_a,
            list_b,
            last,
            signature: keys.sign(&digest),
        }
    }
}

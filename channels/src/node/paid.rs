//! `Paid`: an invoice was paid on the other rail, by a transfer on the rollup. The payer's node says so until the payee's has seen
//! it; the payee believes nothing but its own view of the rollup.
//!
//! ```text
//! payer: note (durable) → transfer final in our view → connected, or reached by its announced address → Paid, again and again
//!        ← Seen, or a day after the invoice's expiry: the note ends
//! payee: Paid → is it an invoice of ours? (memory) → one look at invoice, transfers that were counted, and the rollup
//!        → marked, the transfer counted, the machine cancels the invoice: one write → Seen
//! ```
//! A claim marks nothing by itself, and only what is proven is answered: an answer to anything else would tell a stranger which
//! node a payment hash belongs to. At most `CLAIMS_A_TICK` claims of a peer are looked at between two ticks, `MAX_WAITING` wait,
//! and `MAX_LOOKS` are looked at at a time; the rest is dropped, and the payer says it again.

use super::event::EventBody;
use super::handle::{Answer, Command, NodeError};
use super::invoices::text_of;
use super::records;
use super::routes::Routes;
use super::runtime::State;
use super::talk::Talk;
use crate::invoice::Invoice;
use crate::machine::Input;
use crate::machine::payment::InvoiceState;
use crate::store::{RimRecord, Store, StoreError, Table};
use crate::types::{Address, Amount, PaymentHash, PublicKey, Timestamp};
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::net::SocketAddr;
use std::sync::Arc;
use tokio::sync::mpsc;

/// Longest proof of a claim, bytes.
pub const MAX_PROOF_BYTES: usize = 256;
/// A payee is told until this long after the invoice's expiry, seconds.
const TELL_AFTER_EXPIRY_SECS: u64 = 86_400;
/// Most transfers that a node tells of.
const MAX_NOTES: usize = 4096;
/// The first wait between two tries, seconds; it doubles.
const FIRST_WAIT_SECS: u64 = 2;
/// The longest.
const LONGEST_WAIT_SECS: u64 = 600;
/// Claims of a peer that are looked at between two ticks.
const CLAIMS_A_TICK: u32 = 2;
/// Looks that wait; what comes then is dropped.
const MAX_WAITING: usize = 64;
/// Looks at a time.
const MAX_LOOKS: usize = 2;
/// Invoices of which the newest claim that is not proven is remembered.
const MAX_CLAIMED: usize = 1024;

/// A transfer on the rollup, by the place that L1 shows to everybody.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Place {
    /// The batch's number.
    pub batch: u64,
    /// The transfer's row in it, from 0.
    pub row: u32,
}

impl Place {
    fn name(self) -> Vec<u8> {
        [&self.batch.to_be_bytes()[..], &self.row.to_be_bytes()].concat()
    }
}

/// What a payer says: I have paid this invoice by that transfer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Claim {
    /// The invoice's payment hash.
    pub hash: PaymentHash,
    /// The transfer.
    pub place: Place,
    /// That the claimant made the transfer: the rollup's business.
    pub proof: Vec<u8>,
}

/// What the payee has to see on the rollup.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Due {
    /// The invoice's token; zero for Ether.
    pub token: Address,
    /// The least amount; none: anything above zero.
    pub amount: Option<Amount>,
    /// The owner hash that the invoice names.
    pub fallback: [u8; 32],
}

/// What the rollup says about a claim.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Seen {
    /// The transfer is final, and is as claimed.
    Paid {
        /// Its amount, units.
        amount: u128,
    },
    /// It cannot be judged yet.
    NotYet(String),
    /// It is not as claimed.
    No(String),
}

/// Where a transfer of ours is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Whereabouts {
    /// Final.
    At(Place),
    /// On its way.
    NotYet,
    /// It will not happen.
    Dropped(String),
}

/// The rollup as this node sees it by itself: from L1, and not from whoever claims something. Called on threads that may block.
pub trait RollupView: Send + Sync {
    /// Whether a claim's transfer is in a batch whose proof is final, and pays what is due.
    fn check(&self, claim: &Claim, due: &Due) -> Seen;

    /// Where a transfer of ours is, by the id under which it was submitted.
    fn find(&self, transfer: &[u8; 32]) -> Whereabouts;
}

/// A transfer that paid an invoice of this node.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct RollupPayment {
    /// The transfer.
    pub place: Place,
    /// Its amount, units.
    pub amount: u128,
    /// When it was seen.
    pub time: Timestamp,
    /// Whether the preimage was released before: then the payer has paid over channels too.
    pub twice: bool,
}

/// A transfer of ours that paid somebody's invoice, and that its payee is to know of.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Note {
    /// The invoice's hash.
    pub hash: PaymentHash,
    /// Who is told.
    pub payee: PublicKey,
    /// The transfer's id.
    pub transfer: [u8; 32],
    /// That we made it.
    pub proof: Vec<u8>,
    /// Until when it is said.
    pub until: Timestamp,
    /// Where it is, once final.
    pub place: Option<Place>,
    /// Whether the payee has seen it.
    pub seen: bool,
}

/// What a user asks the node to tell a payee.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Telling {
    /// The invoice's text.
    pub invoice: String,
    /// The transfer's id.
    pub transfer: [u8; 32],
    /// That we made it, at most [`MAX_PROOF_BYTES`].
    pub proof: Vec<u8>,
}

/// Something to look up beside the runtime.
#[derive(Debug, Clone)]
pub(super) enum Look {
    /// A peer's claim about an invoice of ours.
    Check(PublicKey, Claim),
    /// A transfer of ours.
    Find(PaymentHash, [u8; 32]),
    /// Where a payee listens.
    Reach(PublicKey),
}

/// What was found.
#[derive(Debug)]
pub(super) enum Found {
    Checked(PublicKey, Claim, Verdict),
    At(PaymentHash, Whereabouts),
    Listens(PublicKey, SocketAddr),
    /// Nothing that matters.
    Nothing,
}

/// What a look at a claim came to.
#[derive(Debug)]
pub(super) enum Verdict {
    /// It was marked before, by this transfer.
    Known,
    /// It is paid by it.
    Paid(u128),
    /// It is not, or not yet.
    Open(String),
}

/// When a note is due.
struct Pace {
    next: Timestamp,
    wait: u64,
}

/// Claims of ours and of others.
#[derive(Default)]
pub(super) struct Paid {
    notes: BTreeMap<PaymentHash, Note>,
    paces: BTreeMap<PaymentHash, Pace>,
    /// Payees that are dialled for nothing else.
    dialled: BTreeSet<PublicKey>,
    waiting: VecDeque<Look>,
    looks: usize,
    /// Claims of each peer since the last tick.
    heard: BTreeMap<PublicKey, u32>,
    /// Transfers counted since the last write: the disk does not have them yet.
    counted: BTreeMap<Place, PaymentHash>,
    /// The invoices that they paid.
    marked: BTreeSet<PaymentHash>,
    claimed: BTreeMap<PaymentHash, String>,
}

impl Paid {
    /// What is to be said still.
    ///
    /// # Errors
    /// [`StoreError`].
    pub fn load(store: &Store) -> Result<Self, StoreError> {
        let notes = records::all::<Note>(store, Table::Tellings)?;
        Ok(Self {
            notes: notes
                .into_iter()
                .map(|(_, note)| (note.hash, note))
                .collect(),
            ..Self::default()
        })
    }

    /// Whether an invoice was paid on the rollup by this node.
    pub fn is_noted(&self, hash: &PaymentHash) -> bool {
        self.notes.contains_key(hash)
    }

    /// What a claim that is not proven waits for, or lacks.
    pub fn claim(&self, hash: &PaymentHash) -> Option<&String> {
        self.claimed.get(hash)
    }

    /// Marks that the disk does not have yet.
    pub fn unwritten(&self) -> usize {
        self.counted.len() + self.marked.len()
    }

    /// All that was counted is on the disk.
    pub fn durable(&mut self) {
        self.counted.clear();
        self.marked.clear();
    }

    fn look(&mut self, look: Look) {
        if self.waiting.len() < MAX_WAITING {
            self.waiting.push_back(look);
        }
    }

    /// What can be looked at now; each is answered by [`State::paid_found`].
    pub fn due(&mut self) -> Vec<Look> {
        let room = MAX_LOOKS.saturating_sub(self.looks);
        let room = room.min(self.waiting.len());
        self.looks += room;
        self.waiting.drain(..room).collect()
    }

    /// Whether another claim of a peer is looked at before the next tick.
    fn listens(&mut self, from: PublicKey) -> bool {
        let heard = self.heard.entry(from).or_default();
        *heard += 1;
        *heard <= CLAIMS_A_TICK
    }
}

/// The payment of an invoice of this node on the rollup.
///
/// # Errors
/// [`StoreError`].
pub(super) fn stored(
    store: &Store,
    hash: &PaymentHash,
) -> Result<Option<RollupPayment>, StoreError> {
    let found = store.rim_get(Table::RollupPayments, &hash.0)?;
    found
        .map(|bytes| records::read(&hash.0, &bytes))
        .transpose()
}

/// The invoice that a transfer paid.
fn counted_for(store: &Store, place: Place) -> Result<Option<PaymentHash>, StoreError> {
    let name = place.name();
    let found = store.rim_get(Table::CountedTransfers, &name)?;
    found.map(|bytes| records::read(&name, &bytes)).transpose()
}

/// All invoices of this node that were paid on the rollup.
///
/// # Errors
/// [`StoreError`].
pub(super) fn marks(store: &Store) -> Result<Vec<(PaymentHash, RollupPayment)>, StoreError> {
    let all = records::all::<RollupPayment>(store, Table::RollupPayments)?;
    let named = all.into_iter().filter_map(|(name, payment)| {
        let hash = name.try_into().ok().map(PaymentHash)?;
        Some((hash, payment))
    });
    Ok(named.collect())
}

/// What is written of an invoice that was paid on the rollup, and of the transfer, which pays no other.
pub(super) fn mark(hash: &PaymentHash, payment: &RollupPayment) -> [RimRecord; 2] {
    [
        records::write(Table::RollupPayments, &hash.0, payment),
        records::write(Table::CountedTransfers, &payment.place.name(), hash),
    ]
}

// ---- Beside the runtime ----

/// What looks need.
#[derive(Clone)]
pub(super) struct Eyes {
    pub store: Arc<Store>,
    pub rollup: Option<Arc<dyn RollupView>>,
    pub routes: Routes,
}

/// Looks beside the runtime, and tells it in any case.
pub(super) async fn look(eyes: Eyes, look: Look, own: mpsc::WeakSender<Command>) {
    let found = match look {
        Look::Reach(payee) => reach(&eyes.routes, payee).await,
        Look::Check(from, claim) => {
            let asked = claim.clone();
            let check = move || check(&eyes, &asked);
            let verdict = tokio::task::spawn_blocking(check).await;
            match verdict {
                Ok(Ok(verdict)) => Found::Checked(from, claim, verdict),
                Ok(Err(error)) => {
                    tracing::warn!(%error, "a claim cannot be checked");
                    Found::Nothing
                }
                Err(_) => Found::Nothing,
            }
        }
        Look::Find(hash, transfer) => {
            let find = move || eyes.rollup.map(|rollup| rollup.find(&transfer));
            let found = tokio::task::spawn_blocking(find).await;
            match found.ok().flatten() {
                Some(place) => Found::At(hash, place),
                None => Found::Nothing,
            }
        }
    };
    if let Some(commands) = own.upgrade() {
        // A runtime that has ended needs no news.
        let _ = commands.send(Command::PaidFound(Box::new(found))).await;
    }
}

/// One look at each: the invoice, what was counted, the rollup.
fn check(eyes: &Eyes, claim: &Claim) -> Result<Verdict, StoreError> {
    let open = |text: &str| Ok(Verdict::Open(text.to_owned()));
    if let Some(known) = stored(&eyes.store, &claim.hash)? {
        return match known.place == claim.place {
            true => Ok(Verdict::Known),
            false => open("it is paid by another transfer"),
        };
    }
    let text = text_of(&eyes.store, &claim.hash)?;
    let invoice = text.and_then(|text| Invoice::parse(&text).ok());
    let Some((invoice, fallback)) = invoice.and_then(|it| it.fallback.map(|to| (it, to))) else {
        return open("the invoice names no account on the rollup");
    };
    if counted_for(&eyes.store, claim.place)?.is_some() {
        return open("the transfer has paid another invoice");
    }
    let due = Due {
        token: invoice.token,
        amount: invoice.amount,
        fallback,
    };
    let Some(rollup) = &eyes.rollup else {
        return open(
            "unchecked: this node has no view of the rollup; `millrace node` with l1.contract and the role follower has one",
        );
    };
    Ok(match rollup.check(claim, &due) {
        Seen::Paid { amount } => Verdict::Paid(amount),
        Seen::NotYet(why) => Verdict::Open(format!("not yet: {why}")),
        Seen::No(why) => Verdict::Open(why),
    })
}

/// Where gossip says that a node listens.
async fn reach(routes: &Routes, payee: PublicKey) -> Found {
    let addresses = routes.look(move |router| router.graph().addresses(&payee));
    for address in addresses.await.unwrap_or_default() {
        if let Ok(mut found) = tokio::net::lookup_host(address).await
            && let Some(address) = found.next()
        {
            return Found::Listens(payee, address);
        }
    }
    Found::Nothing
}

// ---- In the runtime ----

impl State {
    /// Takes a note of a transfer of ours: it is durable with the answer.
    pub(super) fn tell_paid(&mut self, telling: Telling) -> Result<Answer, NodeError> {
        let invoice = Invoice::parse(&telling.invoice)?;
        self.now = super::unix_time();
        let hash = invoice.hash;
        if invoice.domain != self.domain {
            invoice.check(&self.domain, invoice.created)?;
        }
        let known = self.paid.notes.get(&hash);
        if known.is_some_and(|known| known.transfer == telling.transfer) {
            return Ok(Answer::Done);
        }
        if self.paid.notes.len() >= MAX_NOTES {
            return Err(NodeError::TooManyTellings(MAX_NOTES));
        }
        let mut proof = telling.proof;
        proof.truncate(MAX_PROOF_BYTES);
        self.keep_note(Note {
            hash,
            payee: invoice.payee,
            transfer: telling.transfer,
            proof,
            until: invoice.expires.saturating_add(TELL_AFTER_EXPIRY_SECS),
            place: None,
            seen: false,
        });
        Ok(Answer::Done)
    }

    fn keep_note(&mut self, note: Note) {
        let record = records::write(Table::Tellings, &note.hash.0, &note);
        self.rim.push(record);
        self.paid.paces.remove(&note.hash);
        self.paid.notes.insert(note.hash, note);
    }

    /// A peer claims to have paid an invoice on the rollup.
    pub(super) fn claimed(&mut self, from: PublicKey, claim: Claim) {
        // Whoever does not know an invoice of ours costs nothing, and learns nothing.
        if self.paid.listens(from) && self.node.invoices().contains_key(&claim.hash) {
            self.paid.look(Look::Check(from, claim));
        }
    }

    /// The payee has seen a transfer of ours.
    pub(super) fn payee_saw(&mut self, from: PublicKey, hash: PaymentHash) {
        let note = self.paid.notes.get(&hash);
        let Some(note) = note.filter(|note| note.payee == from && !note.seen) else {
            return;
        };
        let seen = Note {
            seen: true,
            ..note.clone()
        };
        self.keep_note(seen);
        self.events.push(EventBody::PayeeTold { hash });
    }

    /// What a look came to; what the machine is to do.
    pub(super) fn paid_found(&mut self, store: &Store, found: Found) -> Option<Input> {
        self.paid.looks = self.paid.looks.saturating_sub(1);
        match found {
            Found::Checked(from, claim, verdict) => {
                return self.judged(store, from, &claim, verdict);
            }
            Found::At(hash, found) => self.transfer_found(hash, found),
            Found::Listens(payee, address) => {
                let mut notes = self.paid.notes.values();
                let wanted = notes.any(|note| note.payee == payee && !note.seen);
                if wanted && !self.connected.contains(&payee) && !self.peers.contains_key(&payee) {
                    self.paid.dialled.insert(payee);
                    self.dials.push((payee, Some(address)));
                }
            }
            Found::Nothing => {}
        }
        None
    }

    /// Whether an invoice is marked, and which one a transfer paid. A look may have begun before the newest write.
    fn known_marks(
        &self,
        store: &Store,
        claim: &Claim,
    ) -> Result<(bool, Option<PaymentHash>), StoreError> {
        let marked =
            self.paid.marked.contains(&claim.hash) || stored(store, &claim.hash)?.is_some();
        let taken = match self.paid.counted.get(&claim.place) {
            Some(hash) => Some(*hash),
            None => counted_for(store, claim.place)?,
        };
        Ok((marked, taken))
    }

    fn judged(
        &mut self,
        store: &Store,
        from: PublicKey,
        claim: &Claim,
        verdict: Verdict,
    ) -> Option<Input> {
        let hash = claim.hash;
        let known = self.known_marks(store, claim);
        // What cannot be read marks nothing: the payer says it again.
        let known = known.inspect_err(|error| tracing::warn!(%error, "a claim cannot be judged"));
        let (marked, taken) = known.ok()?;
        let amount = match verdict {
            Verdict::Known => {
                self.say(from, &Talk::PaidSeen(hash));
                return None;
            }
            Verdict::Paid(amount) if taken.is_none() => amount,
            // Two claims were looked at before the first was written.
            Verdict::Paid(_) if taken == Some(hash) => {
                self.say(from, &Talk::PaidSeen(hash));
                return None;
            }
            Verdict::Paid(_) => {
                self.note_claim(hash, "the transfer has paid another invoice".to_owned());
                return None;
            }
            Verdict::Open(why) => {
                self.note_claim(hash, why);
                return None;
            }
        };
        if marked {
            // By another transfer: both were looked at before the first was written.
            return None;
        }
        let invoice = self.node.invoices().get(&hash)?;
        let twice = invoice.state == InvoiceState::Released || invoice.received > 0;
        let payment = RollupPayment {
            place: claim.place,
            amount,
            time: self.now,
            twice,
        };
        self.rim.extend(mark(&hash, &payment));
        self.paid.counted.insert(claim.place, hash);
        self.paid.marked.insert(hash);
        self.paid.claimed.remove(&hash);
        self.events.push(EventBody::InvoicePaidOnRollup {
            hash,
            batch: claim.place.batch,
            row: claim.place.row,
            amount,
            twice,
        });
        self.say(from, &Talk::PaidSeen(hash));
        // What has come for it and is not released goes back, and nothing is taken any more.
        Some(Input::Cancel(hash))
    }

    fn note_claim(&mut self, hash: PaymentHash, why: String) {
        let claimed = &mut self.paid.claimed;
        if claimed.len() < MAX_CLAIMED || claimed.contains_key(&hash) {
            claimed.insert(hash, why);
        }
    }

    fn transfer_found(&mut self, hash: PaymentHash, found: Whereabouts) {
        let Some(note) = self.paid.notes.get(&hash).cloned() else {
            return;
        };
        match found {
            Whereabouts::NotYet => {}
            Whereabouts::At(place) if note.place == Some(place) => {}
            Whereabouts::At(place) => self.keep_note(Note {
                place: Some(place),
                ..note
            }),
            Whereabouts::Dropped(reason) => {
                let reason = format!("the transfer did not happen: {reason}");
                self.end_note(&note, reason);
            }
        }
    }

    fn end_note(&mut self, note: &Note, reason: String) {
        let hash = note.hash;
        self.rim.push(records::remove(Table::Tellings, &hash.0));
        self.paid.notes.remove(&hash);
        self.paid.paces.remove(&hash);
        if !note.seen {
            self.events.push(EventBody::PayeeNotTold { hash, reason });
        }
    }

    /// A payee is there: it is told at once.
    pub(super) fn paid_connected(&mut self, peer: PublicKey) {
        let notes = self.paid.notes.values();
        let for_it: Vec<PaymentHash> = notes
            .filter(|note| note.payee == peer && !note.seen)
            .map(|note| note.hash)
            .collect();
        for hash in for_it {
            self.paid.paces.remove(&hash);
        }
    }

    /// Says what is due, and ends what is over.
    pub(super) fn paid_tick(&mut self) {
        self.paid.heard.clear();
        let now = super::unix_time();
        let notes: Vec<Note> = self.paid.notes.values().cloned().collect();
        for note in notes {
            if now >= note.until {
                self.end_note(&note, "the payee did not answer".to_owned());
            } else if !note.seen {
                self.tell(&note, now);
            }
        }
        let notes = self.paid.notes.values();
        let open: BTreeSet<PublicKey> = notes
            .filter(|note| !note.seen)
            .map(|note| note.payee)
            .collect();
        let over: Vec<PublicKey> = self.paid.dialled.difference(&open).copied().collect();
        for payee in over {
            self.paid.dialled.remove(&payee);
            let used = self
                .node
                .channels()
                .values()
                .any(|channel| channel.peer == payee);
            if !used && !self.peers.contains_key(&payee) {
                self.dials.push((payee, None));
            }
        }
    }

    fn tell(&mut self, note: &Note, now: Timestamp) {
        let first = Pace {
            next: now,
            wait: FIRST_WAIT_SECS,
        };
        let pace = self.paid.paces.entry(note.hash).or_insert(first);
        if now < pace.next {
            return;
        }
        pace.next = now + pace.wait;
        // Where the transfer lands is our own business, and asked for evenly.
        if note.place.is_some() {
            pace.wait = (2 * pace.wait).min(LONGEST_WAIT_SECS);
        }
        let Some(place) = note.place else {
            self.paid.look(Look::Find(note.hash, note.transfer));
            return;
        };
        if self.connected.contains(&note.payee) {
            let claim = Claim {
                hash: note.hash,
                place,
                proof: note.proof.clone(),
            };
            self.say(note.payee, &Talk::Paid(claim));
        } else if !self.paid.dialled.contains(&note.payee) {
            self.paid.look(Look::Reach(note.payee));
        }
    }
}

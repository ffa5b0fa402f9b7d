//! Invoices of this node: made with their preimage, listed by number, refused when they have expired.
//!
//! `terms → preimage, secret → text (signed) + invoice of the machine: one write → parts → held or paid; or cancelled, expired`

use super::event::EventBody;
use super::handle::{Answer, NodeError};
use super::paid::RollupPayment;
use super::payments::last_number;
use super::records;
use super::runtime::State;
use crate::digest::Domain;
use crate::invoice::{Hint, Invoice, MAX_HINTS, MULTI_PART};
use crate::machine::payment::{self, InvoiceState};
use crate::store::{RimRecord, Store, StoreError, Table};
use crate::types::{Address, Amount, Hash32, PaymentHash, Preimage, PublicKey, Timestamp};
use indexmap::IndexMap;
use rand::RngCore;
use rand::rngs::OsRng;
use std::collections::{BTreeMap, BTreeSet};

/// How long an invoice can be paid, unless its terms say otherwise, seconds.
pub const LIFE_SECS: u64 = 3600;
/// The longest, seconds: a year.
pub const MAX_LIFE_SECS: u64 = 365 * 86_400;

/// What a user asks for with an invoice.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Terms {
    /// The token; zero for Ether.
    pub token: Address,
    /// How much; none leaves it to the payer.
    pub amount: Option<Amount>,
    /// For people.
    pub description: String,
    /// How long it can be paid, seconds.
    pub life_secs: u64,
    /// Whether the user releases the money when it has come.
    pub hold: bool,
    /// The owner hash on the rollup, if it can be paid there as well.
    pub fallback: Option<[u8; 32]>,
    /// Hints to this node's channels, where the network does not know them.
    pub hints: Vec<Hint>,
}

/// An invoice of this node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct InvoiceView {
    /// In the order of making.
    pub number: u64,
    /// Its hash.
    pub hash: PaymentHash,
    /// Its text; none of a payment that came without an invoice.
    pub text: Option<String>,
    /// What the text says; without one, what came and when.
    pub invoice: Invoice,
    /// Where the machine has it.
    pub kept: payment::Invoice,
    /// The transfer on the rollup that paid it.
    pub rollup: Option<RollupPayment>,
    /// What the newest claim of such a transfer waits for, or lacks.
    pub claim: Option<String>,
}

impl InvoiceView {
    /// open, held, settling, paid, paid_on_rollup, cancelled or expired.
    pub fn state(&self, now: Timestamp) -> &'static str {
        match self.kept.state {
            InvoiceState::Released if self.kept.received >= self.kept.released => "paid",
            InvoiceState::Released => "settling",
            // Somebody else knew the preimage.
            _ if self.kept.received > 0 => "paid",
            _ if self.rollup.is_some() => "paid_on_rollup",
            InvoiceState::Held => "held",
            InvoiceState::Open | InvoiceState::Cancelled if now >= self.invoice.expires => {
                "expired"
            }
            InvoiceState::Open => "open",
            InvoiceState::Cancelled => "cancelled",
        }
    }
}

/// Invoices whose time runs.
#[derive(Default)]
pub(super) struct Invoices {
    next: u64,
    running: BTreeSet<(Timestamp, PaymentHash)>,
    /// Payments without an invoice that were numbered since the last write: the disk does not have them yet.
    keysends: BTreeSet<PaymentHash>,
}

impl Invoices {
    /// Those that can still be paid.
    ///
    /// # Errors
    /// [`StoreError`].
    pub fn load(
        store: &Store,
        known: &IndexMap<PaymentHash, payment::Invoice>,
    ) -> Result<Self, StoreError> {
        let mut running = BTreeSet::new();
        let open = known
            .iter()
            .filter(|(_, invoice)| invoice.state == InvoiceState::Open);
        for (hash, _) in open {
            let Some(text) = text_of(store, hash)? else {
                continue;
            };
            if let Ok(invoice) = Invoice::parse(&text) {
                running.insert((invoice.expires, *hash));
            }
        }
        Ok(Self {
            next: last_number(store, Table::Invoices)? + 1,
            running,
            keysends: BTreeSet::new(),
        })
    }

    /// Numbers that the disk does not have yet.
    pub fn unwritten(&self) -> usize {
        self.keysends.len()
    }

    /// All that was numbered is on the disk.
    pub fn durable(&mut self) {
        self.keysends.clear();
    }
}

/// The text of an invoice.
///
/// # Errors
/// [`StoreError`].
pub(super) fn text_of(store: &Store, hash: &PaymentHash) -> Result<Option<String>, StoreError> {
    let found = store.rim_get(Table::Texts, &hash.0)?;
    Ok(found.map(|bytes| String::from_utf8_lossy(&bytes).into_owned()))
}

/// What is written of an invoice beside the machine's record.
fn rows(number: u64, hash: &PaymentHash, text: String) -> [RimRecord; 2] {
    [
        RimRecord {
            table: Table::Texts,
            name: hash.0.to_vec(),
            value: Some(text.into_bytes()),
        },
        RimRecord {
            table: Table::Invoices,
            name: number.to_be_bytes().to_vec(),
            value: Some(hash.0.to_vec()),
        },
    ]
}

/// What is written of invoices that a backup gives back, in an empty store: they are numbered anew.
pub(super) fn restored(texts: Vec<(PaymentHash, String)>) -> impl Iterator<Item = RimRecord> {
    let numbered = (1..).zip(texts);
    numbered.flat_map(|(number, (hash, text))| rows(number, &hash, text))
}

/// Number and time of a payment that came without an invoice.
///
/// # Errors
/// [`StoreError`].
pub(super) fn keysend(
    store: &Store,
    hash: &PaymentHash,
) -> Result<Option<(u64, Timestamp)>, StoreError> {
    let found = store.rim_get(Table::Keysends, &hash.0)?;
    found
        .map(|bytes| records::read(&hash.0, &bytes))
        .transpose()
}

/// Whether the machine made this invoice for a payment that came without one: a secret of our own is random.
pub(super) fn is_keysend(hash: &PaymentHash, invoice: &payment::Invoice) -> bool {
    invoice.secret.0 == hash.0
}

/// What an invoice for a payment that came without one would have said.
pub(super) fn of_keysend(
    (payee, domain): (PublicKey, Domain),
    kept: &payment::Invoice,
    time: Timestamp,
) -> Invoice {
    Invoice {
        domain,
        token: kept.token,
        amount: kept.amount,
        hash: kept.preimage.hash(),
        secret: kept.secret,
        payee,
        created: time,
        expires: time,
        description: String::new(),
        features: 0,
        hints: Vec::new(),
        fallback: None,
        unknown: Vec::new(),
    }
}

/// At most `limit` numbers and hashes of invoices below a number, newest first.
///
/// # Errors
/// [`StoreError`].
pub(super) fn page(
    store: &Store,
    below: u64,
    limit: usize,
) -> Result<Vec<(u64, PaymentHash)>, StoreError> {
    let below = below.min(last_number(store, Table::Invoices)? + 1);
    let from = below.saturating_sub(limit as u64);
    let pairs = store.rim(Table::Invoices, &from.to_be_bytes(), limit)?;
    let numbered = pairs.into_iter().filter_map(|(name, hash)| {
        let number = u64::from_be_bytes(name.try_into().ok()?);
        Some((number, PaymentHash(hash.try_into().ok()?)))
    });
    let mut found: Vec<_> = numbered.filter(|(number, _)| *number < below).collect();
    found.reverse();
    Ok(found)
}

fn random() -> [u8; 32] {
    let mut bytes = [0; 32];
    OsRng.fill_bytes(&mut bytes);
    bytes
}

impl State {
    /// Makes an invoice: the machine's part, and what people are given.
    pub(super) fn make_invoice(
        &self,
        terms: Terms,
    ) -> Result<(payment::Invoice, Invoice, String), NodeError> {
        let now = super::unix_time();
        let preimage = Preimage(random());
        let secret = Hash32(random());
        let mut hints = terms.hints;
        hints.truncate(MAX_HINTS);
        let invoice = Invoice {
            domain: self.domain,
            token: terms.token,
            amount: terms.amount,
            hash: preimage.hash(),
            secret,
            payee: self.node.identity().key,
            created: now,
            expires: now.saturating_add(terms.life_secs.min(MAX_LIFE_SECS)),
            description: terms.description,
            features: MULTI_PART,
            hints,
            fallback: terms.fallback,
            unknown: Vec::new(),
        };
        let text = invoice.sign(&self.key)?;
        let kept = payment::Invoice {
            preimage,
            amount: terms.amount,
            secret,
            hold: terms.hold,
            state: InvoiceState::Open,
            received: 0,
            released: 0,
            token: terms.token,
        };
        Ok((kept, invoice, text))
    }

    /// The machine has an invoice: what is kept beside it, in the same write.
    pub(super) fn keep_invoice(&mut self, invoice: &Invoice, text: String) -> Answer {
        let hash = invoice.hash;
        let number = self.invoices.next;
        self.invoices.next += 1;
        self.rim.extend(rows(number, &hash, text.clone()));
        self.invoices.running.insert((invoice.expires, hash));
        Answer::Invoice { hash, text }
    }

    /// Texts of invoices that can still be paid, in the order of making.
    ///
    /// # Errors
    /// [`StoreError`].
    pub(super) fn payable_texts(
        &self,
        store: &Store,
    ) -> Result<Vec<(PaymentHash, String)>, StoreError> {
        let mut found = Vec::new();
        for hash in self.node.invoices().keys() {
            if let Some(text) = self.payable_text(store, hash)? {
                let made = Invoice::parse(&text).map_or(0, |invoice| invoice.created);
                found.push((made, *hash, text));
            }
        }
        found.sort();
        Ok(found
            .into_iter()
            .map(|(_, hash, text)| (hash, text))
            .collect())
    }

    /// The text of an invoice, if it can still be paid.
    ///
    /// # Errors
    /// [`StoreError`].
    pub(super) fn payable_text(
        &self,
        store: &Store,
        hash: &PaymentHash,
    ) -> Result<Option<String>, StoreError> {
        let invoice = self.node.invoices().get(hash);
        match invoice.map(|invoice| invoice.state) {
            Some(InvoiceState::Open | InvoiceState::Held) => text_of(store, hash),
            _ => Ok(None),
        }
    }

    /// Money has come without an invoice: it is listed like that of one. Whether it did.
    pub(super) fn note_keysend(
        &mut self,
        store: &Store,
        hash: PaymentHash,
        received: Amount,
    ) -> bool {
        let invoice = self.node.invoices().get(&hash);
        if !invoice.is_some_and(|invoice| is_keysend(&hash, invoice)) {
            return false;
        }
        self.events
            .push(EventBody::KeysendReceived { hash, received });
        // A damaged record is no reason to number it again.
        let numbered = !matches!(keysend(store, &hash), Ok(None));
        if !numbered && self.invoices.keysends.insert(hash) {
            let number = self.invoices.next;
            self.invoices.next += 1;
            let record = records::write(Table::Keysends, &hash.0, &(number, self.now));
            self.rim.push(record);
            self.rim.push(RimRecord {
                table: Table::Invoices,
                name: number.to_be_bytes().to_vec(),
                value: Some(hash.0.to_vec()),
            });
        }
        true
    }

    /// Invoices whose time is over, and that nothing has come for: nothing is taken for them any more.
    pub(super) fn expired_invoices(&mut self) -> Vec<PaymentHash> {
        let now = super::unix_time();
        let mut over = Vec::new();
        while let Some((expires, hash)) = self.invoices.running.first().copied() {
            if now < expires {
                break;
            }
            self.invoices.running.pop_first();
            let open = self
                .node
                .invoices()
                .get(&hash)
                .is_some_and(|invoice| invoice.state == InvoiceState::Open);
            if open {
                self.events.push(EventBody::InvoiceExpired { hash });
                over.push(hash);
            }
        }
        over
    }

    /// Channels that an invoice can hint at, for payers that gossip does not show them to: those with most to receive first.
    pub(super) fn hints(
        &self,
        token: Address,
        fees: &BTreeMap<PublicKey, (u128, u32)>,
    ) -> Vec<Hint> {
        let policy = &self.node.identity().policy;
        // Nobody has said what the peer asks: the best guess is what this node asks itself.
        let own = (
            policy.fee_base,
            u32::try_from(policy.fee_ppm).unwrap_or(u32::MAX),
        );
        let mut views = self.views();
        views.retain(|view| {
            view.token == token && view.phase.name() == "open" && view.can_receive > 0
        });
        views.sort_by_key(|view| std::cmp::Reverse(view.can_receive));
        let hint = |view: &super::view::ChannelView| {
            let (fee_base, fee_ppm) = fees.get(&view.peer).copied().unwrap_or(own);
            Hint {
                node: view.peer,
                channel: view.id,
                fee_base,
                fee_ppm,
            }
        };
        views.iter().take(MAX_HINTS).map(hint).collect()
    }
}

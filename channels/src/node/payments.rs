//! Payments over several hops: an order becomes attempts, one after the other, until one succeeds or none can.
//!
//! ```text
//! order → record in memory → plan (routes task) → step of the machine + record + answer: one write → locks leave
//! all parts failed for certain → what was heard of each → plan again, within deadline and fee → …
//! a part failed for certain, others stand → plan for what it was to bring → step of the machine + record: one write → its locks leave
//! a part was paid → succeeded: the preimage is the proof
//! ```
//! **An order is durable in the same write as its first locks.** A crash before it has sent nothing; after it the machine knows the
//! payment, and its end ends the record. An attempt is made only when every part of the one before has failed for certain, and
//! the machine takes a hash again only then: nothing is paid twice. A part is replaced only once it has failed for certain, by what it was to bring, so what
//! stands never exceeds the amount, nor its fees the limit; and only while the payee waits for the rest.

use super::event::EventBody;
use super::handle::{Answer, NodeError, RequestKey};
use super::records;
use super::routes::{Ended, Job, PlanFailure, Planned, Wanted, Word};
use super::runtime::State;
use crate::invoice::{Hint, Invoice, MULTI_PART};
use crate::machine::StepError;
use crate::machine::payment::{NewPayment, PaymentState};
use crate::message::LockId;
use crate::onion::Delivery;
use crate::routing::payment::{Order, SentPart};
use crate::routing::route::{MAX_PARTS, RouteError};
use crate::routing::router::PlanError;
use crate::store::{Store, StoreError, Table};
use crate::types::{Address, Amount, ChannelId, PaymentHash, Preimage, PublicKey, Timestamp};
use rand::RngCore;
use rand::rngs::OsRng;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use tokio::sync::oneshot;

/// No attempt begins later than this after the order, seconds, unless the order says otherwise.
pub const DEADLINE_SECS: u64 = 60;
/// The longest that an order may say.
pub const MAX_DEADLINE_SECS: u64 = 3600;
/// Most attempts of a payment.
const MAX_ATTEMPTS: u32 = 20;
/// What the locks of an attempt live beyond the nearest expiry that hops take, seconds.
const EXPIRY_ROOM: u64 = 1200;
/// Fees may be this many millionths of the amount, unless the order says otherwise.
const FEE_PPM: u128 = 10_000;
/// And this many units.
const FEE_BASE: u128 = 10;
/// Most times that parts of an attempt are replaced while others stand.
const MAX_REPLACEMENTS: u32 = 8;
/// Parts are replaced in this part of the time for which a payee waits for them, in quarters.
const REPLACE_QUARTERS: u64 = 3;
/// Most times that a plan is made again because a channel changed under it.
const MAX_PLANS: u32 = 5;

/// Whom to pay.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Payee {
    /// Whoever made this invoice.
    Invoice(String),
    /// A node, without an invoice.
    Node {
        /// Its key.
        key: PublicKey,
        /// The token; zero for Ether.
        token: Address,
    },
}

/// A payment that a user asks for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PayOrder {
    /// Whom.
    pub to: Payee,
    /// How much the payee gets; an invoice may say it.
    pub amount: Option<Amount>,
    /// The most that all fees may be, units.
    pub max_fee: Option<u128>,
    /// Most parts.
    pub max_parts: Option<usize>,
    /// No attempt begins later than this from now, seconds.
    pub deadline_secs: Option<u64>,
}

/// Where a payment stands.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Stand {
    /// Its locks stand.
    Sending,
    /// All its locks have failed for certain; another way is looked for.
    Retrying(String),
    /// It is paid.
    Succeeded(Preimage),
    /// It has failed for certain: nothing was paid.
    Failed(String),
}

impl Stand {
    /// Its name.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Sending => "sending",
            Self::Retrying(_) => "retrying",
            Self::Succeeded(_) => "succeeded",
            Self::Failed(_) => "failed",
        }
    }

    /// Whether nothing changes any more, unless it is ordered again.
    pub fn is_end(&self) -> bool {
        matches!(self, Self::Succeeded(_) | Self::Failed(_))
    }
}

/// A payment that this node makes.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PaymentRecord {
    /// In the order of making; zero until its first attempt.
    pub number: u64,
    /// Its hash.
    pub hash: PaymentHash,
    /// Who is paid.
    pub payee: PublicKey,
    /// The token; zero for Ether.
    pub token: Address,
    /// What the payee gets.
    pub amount: Amount,
    /// The most that all fees may be, units.
    pub max_fee: u128,
    /// Most parts.
    pub max_parts: usize,
    /// When it was ordered.
    pub created: Timestamp,
    /// No attempt begins later.
    pub deadline: Timestamp,
    /// The invoice, if there is one.
    pub invoice: Option<String>,
    /// Where it stands.
    pub stand: Stand,
    /// Attempts so far.
    pub attempts: u32,
    /// Fees of the last attempt, units.
    pub fee: u128,
    /// Parts of the last attempt.
    pub parts: Vec<SentPart>,
    delivery: Delivery,
}

/// An order whose first attempt is being planned.
struct Planning {
    record: PaymentRecord,
    keys: Vec<RequestKey>,
    replies: Vec<Reply>,
    plans: u32,
}

/// Parts of an attempt that failed while others stand.
struct Replacing {
    attempt: u32,
    /// When its first locks were made.
    since: Timestamp,
    /// What failed parts were to bring, and is not being planned yet.
    lost: u128,
    /// What is being planned.
    planned: Option<u128>,
    /// Failed parts that nothing was learnt from yet.
    ended: Ended,
    times: u32,
}

pub(super) type Reply = oneshot::Sender<Result<Answer, NodeError>>;

/// Payments under way.
#[derive(Default)]
pub(super) struct Payments {
    next: u64,
    planning: BTreeMap<PaymentHash, Planning>,
    open: BTreeMap<PaymentHash, PaymentRecord>,
    /// What was heard of parts since the last attempt.
    heard: BTreeMap<PaymentHash, Vec<(ChannelId, Vec<u8>)>>,
    /// What is known of parts that failed alone, of the attempts made since the start.
    replacing: BTreeMap<PaymentHash, Replacing>,
    /// Plans that have to be made again at the next tick.
    again: Vec<PaymentHash>,
    /// Ended ones, until they are on disk.
    fresh: BTreeMap<PaymentHash, PaymentRecord>,
}

/// The number under which a payment is kept.
fn number_of(store: &Store, hash: &PaymentHash) -> Result<Option<u64>, StoreError> {
    let found = store.rim_get(Table::OrderNumbers, &hash.0)?;
    Ok(found
        .and_then(|bytes| bytes.try_into().ok())
        .map(u64::from_be_bytes))
}

/// A payment of this node.
///
/// # Errors
/// [`StoreError`].
pub(super) fn stored(
    store: &Store,
    hash: &PaymentHash,
) -> Result<Option<PaymentRecord>, StoreError> {
    let Some(number) = number_of(store, hash)? else {
        return Ok(None);
    };
    let name = number.to_be_bytes();
    let found = store.rim_get(Table::Orders, &name)?;
    found.map(|bytes| records::read(&name, &bytes)).transpose()
}

/// At most `limit` payments with numbers below `below`, newest first.
///
/// # Errors
/// [`StoreError`].
pub(super) fn page(
    store: &Store,
    below: u64,
    limit: usize,
) -> Result<Vec<PaymentRecord>, StoreError> {
    let newest = last_number(store, Table::Orders)?;
    let below = below.min(newest + 1);
    let from = below.saturating_sub(limit as u64);
    let pairs = store.rim(Table::Orders, &from.to_be_bytes(), limit)?;
    let mut found = pairs
        .iter()
        .map(|(name, bytes)| records::read::<PaymentRecord>(name, bytes))
        .collect::<Result<Vec<_>, _>>()?;
    found.retain(|record| record.number < below);
    found.reverse();
    Ok(found)
}

/// The highest number of a table whose names are numbers; 0 if it is empty.
pub(super) fn last_number(store: &Store, table: Table) -> Result<u64, StoreError> {
    let last = store.last_of(table)?;
    Ok(last
        .and_then(|(name, _)| name.try_into().ok())
        .map_or(0, u64::from_be_bytes))
}

impl Payments {
    /// Those that a stop has left open.
    ///
    /// # Errors
    /// [`StoreError`].
    pub fn load(store: &Store) -> Result<Self, StoreError> {
        let mut open = BTreeMap::new();
        for (name, _) in store.rim(Table::OpenOrders, &[], usize::MAX)? {
            let found = store.rim_get(Table::Orders, &name)?;
            if let Some(bytes) = found {
                let record: PaymentRecord = records::read(&name, &bytes)?;
                open.insert(record.hash, record);
            }
        }
        Ok(Self {
            next: last_number(store, Table::Orders)? + 1,
            open,
            ..Self::default()
        })
    }

    /// What has ended is on disk.
    pub fn durable(&mut self) {
        self.fresh.clear();
    }
}

impl PaymentRecord {
    fn order(&self, state: &State) -> Order {
        let policy = &state.node.identity().policy;
        let latest = policy.max_expiry_ahead;
        let ahead = (policy.min_expiry_ahead + EXPIRY_ROOM).min(latest);
        Order {
            domain: state.domain,
            hash: self.hash,
            payee: self.payee,
            expiry: state.node.now().max(state.now) + ahead,
            delivery: self.delivery,
        }
    }

    fn hints(&self) -> Vec<Hint> {
        let parsed = self.invoice.as_deref().map(Invoice::parse);
        parsed
            .and_then(Result::ok)
            .map(|invoice| invoice.hints)
            .unwrap_or_default()
    }

    fn job(&self, state: &State, ended: Ended) -> Job {
        Job {
            order: self.order(state),
            wanted: Wanted {
                payee: self.payee,
                token: self.token,
                amount: self.amount,
                max_fee: self.max_fee,
                max_parts: self.max_parts,
                hints: self.hints(),
                own: state.own_channels(self.token),
                taken: Vec::new(),
            },
            ended,
            retry: state.now < self.deadline && self.attempts < MAX_ATTEMPTS,
            replaces: None,
        }
    }

    /// What is left for ways that replace failed parts, beside those that stand.
    fn job_for_parts(&self, state: &State, lost: Amount, ended: Ended) -> Job {
        let mut job = self.job(state, ended);
        let others = self
            .parts
            .iter()
            .flat_map(|part| part.crossings.iter().skip(1));
        job.wanted.taken = others.copied().collect();
        job.wanted.amount = lost;
        job.wanted.max_fee = self.max_fee.saturating_sub(fees(&self.parts));
        job.wanted.max_parts = self.max_parts.saturating_sub(self.parts.len()).max(1);
        job.retry = state.now < self.deadline;
        job.replaces = Some(self.attempts);
        job
    }

    /// The part whose lock over a channel failed with this reason; none if it could be another one that brings something else.
    fn failed_part(&self, channel: ChannelId, amount: u128, why: &[u8]) -> Option<usize> {
        let fits = |part: &SentPart| part.channel == channel && part.amount() == amount;
        let like = |part: &&SentPart| fits(part);
        let sure = |part: &SentPart| fits(part) && part.read(why).is_some();
        if let Some(at) = self.parts.iter().position(sure) {
            return Some(at);
        }
        let at = self.parts.iter().position(fits)?;
        let brings = self.parts[at].delivered();
        let mut all = self.parts.iter().filter(like);
        all.all(|part| part.delivered() == brings).then_some(at)
    }
}

/// Fees of parts, units.
fn fees(parts: &[SentPart]) -> u128 {
    let fee = |part: &SentPart| part.amount().saturating_sub(part.delivered());
    parts.iter().map(fee).sum()
}

/// What parts bring, units.
fn delivered(parts: &[SentPart]) -> u128 {
    parts.iter().map(SentPart::delivered).sum()
}

/// What fees may be, unless the user says otherwise.
pub fn usual_fee(amount: Amount) -> u128 {
    // An amount is below 2^100, FEE_PPM below 2^14.
    amount.get() * FEE_PPM / 1_000_000 + FEE_BASE
}

/// Who is paid, in which token, how much, and the invoice if there is one: all that can be checked without routes.
pub(super) struct Asked {
    pub payee: PublicKey,
    pub token: Address,
    pub amount: Amount,
    pub invoice: Option<Invoice>,
    pub max_fee: u128,
    pub max_parts: usize,
}

impl PayOrder {
    /// Checks form, network, expiry and amount.
    ///
    /// # Errors
    /// [`NodeError`].
    pub(super) fn check(
        &self,
        domain: &crate::digest::Domain,
        own: &PublicKey,
        now: Timestamp,
    ) -> Result<Asked, NodeError> {
        let invoice = match &self.to {
            Payee::Invoice(text) => {
                let invoice = Invoice::parse(text)?;
                invoice.check(domain, now)?;
                Some(invoice)
            }
            Payee::Node { .. } => None,
        };
        let (payee, token, amount) = match (&self.to, &invoice) {
            (_, Some(invoice)) => {
                let amount = invoice.amount_to_pay(self.amount)?;
                (invoice.payee, invoice.token, amount)
            }
            (Payee::Node { key, token }, None) => {
                (*key, *token, self.amount.ok_or(NodeError::Zero)?)
            }
            (Payee::Invoice(_), None) => return Err(NodeError::Zero),
        };
        if amount == Amount::ZERO {
            return Err(NodeError::Zero);
        }
        if payee == *own {
            return Err(RouteError::Own.into());
        }
        let several = invoice
            .as_ref()
            .is_none_or(|invoice| invoice.features & MULTI_PART != 0);
        let most = if several { MAX_PARTS } else { 1 };
        Ok(Asked {
            payee,
            token,
            amount,
            invoice,
            max_fee: self.max_fee.unwrap_or_else(|| usual_fee(amount)),
            max_parts: self.max_parts.unwrap_or(most).clamp(1, most),
        })
    }
}

impl State {
    /// Takes an order: gives the reply back with its answer if the payment is known; else the answer follows the first plan. An
    /// error changes nothing.
    pub(super) fn order(
        &mut self,
        store: &Store,
        order: PayOrder,
        key: Option<RequestKey>,
        reply: Reply,
    ) -> Option<(Reply, Result<Answer, NodeError>)> {
        match self.start_order(store, order, key.as_ref()) {
            Err(error) => Some((reply, Err(error))),
            Ok(Started::Known(answer)) => Some((reply, Ok(answer))),
            Ok(Started::Planning(hash)) => {
                if let Some(planning) = self.payments.planning.get_mut(&hash) {
                    planning.keys.extend(key);
                    planning.replies.push(reply);
                }
                None
            }
        }
    }

    fn start_order(
        &mut self,
        store: &Store,
        order: PayOrder,
        key: Option<&RequestKey>,
    ) -> Result<Started, NodeError> {
        if let Some(hash) = self.planned_under(key)? {
            return Ok(Started::Planning(hash));
        }
        self.now = super::unix_time();
        let own = self.node.identity().key;
        let asked = order.check(&self.domain, &own, self.now)?;
        let (hash, delivery) = match &asked.invoice {
            Some(invoice) => {
                let secret = invoice.secret;
                let total = asked.amount;
                (invoice.hash, Delivery::Invoice { secret, total })
            }
            None => {
                let mut bytes = [0; 32];
                OsRng.fill_bytes(&mut bytes);
                let preimage = Preimage(bytes);
                let total = asked.amount;
                (preimage.hash(), Delivery::Keysend { preimage, total })
            }
        };
        if self.payments.planning.contains_key(&hash) {
            return Ok(Started::Planning(hash));
        }
        if self.paid.is_noted(&hash) {
            return Err(NodeError::PaidOnRollup(hash));
        }
        let known = self.payment(store, &hash)?;
        let failed = |known: &PaymentRecord| matches!(known.stand, Stand::Failed(_));
        if known.as_ref().is_some_and(|known| !failed(known)) {
            return Ok(Started::Known(Answer::Paying { hash }));
        }
        let life = order.deadline_secs.unwrap_or(DEADLINE_SECS);
        let record = PaymentRecord {
            number: known.map_or(0, |known| known.number),
            hash,
            payee: asked.payee,
            token: asked.token,
            amount: asked.amount,
            max_fee: asked.max_fee,
            max_parts: asked.max_parts,
            created: self.now,
            deadline: self.now + life.min(MAX_DEADLINE_SECS),
            invoice: match order.to {
                Payee::Invoice(text) => Some(text.trim().to_owned()),
                Payee::Node { .. } => None,
            },
            stand: Stand::Sending,
            attempts: 0,
            fee: 0,
            parts: Vec::new(),
            delivery,
        };
        let job = record.job(self, Vec::new());
        let planning = Planning {
            record,
            keys: Vec::new(),
            replies: Vec::new(),
            plans: 0,
        };
        self.payments.planning.insert(hash, planning);
        self.routes.say(Word::Plan(Box::new(job)));
        Ok(Started::Planning(hash))
    }

    /// The payment that is being planned under a key.
    fn planned_under(&self, key: Option<&RequestKey>) -> Result<Option<PaymentHash>, NodeError> {
        let Some(key) = key else { return Ok(None) };
        for (hash, planning) in &self.payments.planning {
            match planning.keys.iter().find(|known| known.key == key.key) {
                Some(known) if known.request == key.request => return Ok(Some(*hash)),
                Some(_) => return Err(NodeError::KeyReused(key.key.clone())),
                None => {}
            }
        }
        Ok(None)
    }

    /// A payment, wherever it is.
    fn payment(
        &self,
        store: &Store,
        hash: &PaymentHash,
    ) -> Result<Option<PaymentRecord>, StoreError> {
        let Payments { open, fresh, .. } = &self.payments;
        let tables = [open, fresh];
        match tables.iter().find_map(|table| table.get(hash)) {
            Some(known) => Ok(Some(known.clone())),
            None => stored(store, hash),
        }
    }

    /// Payments that have not ended.
    pub fn open_payments(&self) -> impl Iterator<Item = &PaymentRecord> {
        self.payments.open.values()
    }

    // ---- Attempts ----

    /// The hash and the locks of a plan that is still wanted: what the machine is to pay.
    pub(super) fn planned(&mut self, planned: &Planned) -> Option<NewPayment> {
        let hash = planned.hash;
        let wanted =
            self.payments.planning.contains_key(&hash) || self.payments.open.contains_key(&hash);
        match &planned.result {
            Ok(plan) if wanted => Some(plan.payment.clone()),
            _ => None,
        }
    }

    /// The machine has taken a plan: record, answers and locks are one write.
    pub(super) fn attempted(&mut self, planned: Planned) -> Attempted {
        let (hash, failed) = (planned.hash, planned.failed);
        let mut attempted = Attempted::default();
        let Ok(plan) = planned.result else {
            return attempted;
        };
        let mut record = match self.payments.planning.remove(&hash) {
            Some(planning) => {
                attempted.keys = planning.keys;
                attempted.replies = planning.replies;
                planning.record
            }
            None => match self.payments.open.remove(&hash) {
                Some(record) => record,
                None => return attempted,
            },
        };
        if record.number == 0 {
            record.number = self.payments.next;
            self.payments.next += 1;
        }
        let sent: u128 = plan
            .payment
            .parts
            .iter()
            .map(|part| part.amount.get())
            .sum();
        record.attempts += 1;
        if record.attempts > 1 {
            let before = match (failed, &record.stand) {
                (Some(text), _) => text,
                (None, Stand::Retrying(text)) => text.clone(),
                (None, _) => String::new(),
            };
            self.events.push(EventBody::PaymentRetried {
                hash,
                attempt: record.attempts,
                reason: before,
            });
        }
        record.stand = Stand::Sending;
        record.fee = sent.saturating_sub(record.amount.get());
        record.parts = plan.parts;
        self.payments.heard.remove(&hash);
        let replacing = Replacing {
            attempt: record.attempts,
            since: self.now,
            lost: 0,
            planned: None,
            ended: Vec::new(),
            times: 0,
        };
        self.payments.replacing.insert(hash, replacing);
        self.keep_payment(record);
        attempted
    }

    /// There is no plan, or the machine does not take it.
    pub(super) fn not_attempted(
        &mut self,
        planned: Planned,
        refused: Option<StepError>,
    ) -> Refused {
        let hash = planned.hash;
        if let Some(planning) = self.payments.planning.get_mut(&hash) {
            planning.plans += 1;
            let changed = refused.is_some_and(is_passing) && planning.plans < MAX_PLANS;
            if changed && self.now < planning.record.deadline {
                self.payments.again.push(hash);
                return Refused::default();
            }
            let error = match (refused, planned.result) {
                (Some(step), _) => NodeError::Step(step),
                (None, Err(PlanFailure::Plan(PlanError::Route(error)))) => error.into(),
                (None, Err(PlanFailure::Plan(PlanError::Onion(error)))) => error.into(),
                (None, _) => NodeError::Late(hash),
            };
            let planning = self.payments.planning.remove(&hash);
            let replies = planning.map_or_else(Vec::new, |planning| planning.replies);
            return Refused {
                replies,
                error: Some(error),
            };
        }
        let Some(mut record) = self.payments.open.get(&hash).cloned() else {
            return Refused::default();
        };
        if refused.is_some_and(is_passing) && self.now < record.deadline {
            if let (Some(open), Some(text)) = (self.payments.open.get_mut(&hash), &planned.failed) {
                open.stand = Stand::Retrying(text.clone());
            }
            self.payments.again.push(hash);
            return Refused::default();
        }
        let before = match (&planned.failed, &record.stand) {
            (Some(text), _) | (None, Stand::Retrying(text)) => text.clone(),
            _ => "every way failed".to_owned(),
        };
        let reason = match (refused, planned.result) {
            (Some(step), _) => format!("{before}; then: {step}"),
            (None, Err(PlanFailure::Plan(error))) => format!("{before}; no other way: {error}"),
            (None, _) => before,
        };
        record.stand = Stand::Failed(reason.clone());
        self.events.push(EventBody::PaymentGivenUp { hash, reason });
        self.keep_payment(record);
        Refused::default()
    }

    // ---- Parts that fail alone ----

    /// The machine says that a part has failed for certain while others stand. Whether it was of one of these payments.
    pub(super) fn part_failed(
        &mut self,
        hash: PaymentHash,
        channel: ChannelId,
        amount: u128,
        why: &[u8],
    ) -> bool {
        let Some(mut record) = self.payments.open.get(&hash).cloned() else {
            return false;
        };
        let wait = self.node.identity().policy.part_wait;
        let now = self.now;
        let in_time = |replacing: &&mut Replacing| {
            let until = replacing.since + wait * REPLACE_QUARTERS / 4;
            replacing.attempt == record.attempts
                && replacing.times < MAX_REPLACEMENTS
                && now < until.min(record.deadline)
        };
        let replacing = self.payments.replacing.get_mut(&hash).filter(in_time);
        let at = record.failed_part(channel, amount, why);
        // Without another way the payee fails the other parts, and the payment is tried anew.
        let (Some(replacing), Some(at)) = (replacing, at) else {
            return true;
        };
        let part = record.parts.remove(at);
        replacing.lost += part.delivered();
        replacing.ended.push((part, why.to_vec()));
        if let Some(heard) = self.payments.heard.get_mut(&hash)
            && let Some(at) = heard
                .iter()
                .position(|heard| heard.0 == channel && heard.1 == why)
        {
            heard.swap_remove(at);
        }
        self.keep_payment(record);
        self.plan_replacement(hash);
        true
    }

    /// Looks for ways for what failed parts were to bring, one plan at a time.
    fn plan_replacement(&mut self, hash: PaymentHash) {
        let Some(record) = self.payments.open.get(&hash).cloned() else {
            return;
        };
        let Some(replacing) = self.payments.replacing.get_mut(&hash) else {
            return;
        };
        let Ok(lost) = Amount::new(replacing.lost) else {
            return;
        };
        if replacing.planned.is_some() || lost == Amount::ZERO {
            return;
        }
        replacing.planned = Some(std::mem::take(&mut replacing.lost));
        replacing.times += 1;
        let ended = std::mem::take(&mut replacing.ended);
        let job = record.job_for_parts(self, lost, ended);
        self.routes.say(Word::Plan(Box::new(job)));
    }

    /// The locks of a plan that replaces parts, if its attempt still stands and it stays within amount and fees.
    pub(super) fn replacement(&self, planned: &Planned) -> Option<NewPayment> {
        let record = self.payments.open.get(&planned.hash)?;
        let replacing = self.payments.replacing.get(&planned.hash)?;
        let current = planned.replaces == Some(replacing.attempt)
            && replacing.attempt == record.attempts
            && record.stand == Stand::Sending;
        let plan = planned.result.as_ref().ok().filter(|_| current)?;
        let brings = delivered(&record.parts) + delivered(&plan.parts);
        let costs = fees(&record.parts) + fees(&plan.parts);
        let within = brings <= record.amount.get() && costs <= record.max_fee;
        within.then(|| plan.payment.clone())
    }

    /// What became of a plan that replaces parts: its locks and the record are one write.
    pub(super) fn replaced(&mut self, planned: Planned, result: Option<Result<(), StepError>>) {
        let hash = planned.hash;
        let replacing = self.payments.replacing.get_mut(&hash);
        let Some(replacing) =
            replacing.filter(|replacing| planned.replaces == Some(replacing.attempt))
        else {
            return;
        };
        let wanted = replacing.planned.take().unwrap_or(0);
        match (
            result,
            planned.result,
            self.payments.open.get(&hash).cloned(),
        ) {
            (Some(Ok(())), Ok(plan), Some(mut record)) => {
                self.events.push(EventBody::PartReplaced {
                    hash,
                    parts: u32::try_from(plan.parts.len()).unwrap_or(u32::MAX),
                    reason: planned.failed.unwrap_or_default(),
                });
                record.parts.extend(plan.parts);
                record.fee = fees(&record.parts);
                self.keep_payment(record);
            }
            (Some(Err(error)), _, Some(_))
                if is_passing(error) && replacing.times < MAX_REPLACEMENTS =>
            {
                replacing.lost += wanted;
            }
            // No other way: the payee fails what stands, and the payment is tried anew.
            _ => {
                self.payments.replacing.remove(&hash);
                return;
            }
        }
        self.plan_replacement(hash);
    }

    /// The payer heard why a part failed: of use for the next attempt, and lost in a crash.
    pub(super) fn heard(&mut self, from: &PublicKey, channel: ChannelId, lock: LockId, why: &[u8]) {
        let found = self.node.channels().get(&channel);
        let found = found.filter(|found| found.peer == *from);
        let found = found.and_then(|channel| channel.own.locks.get(&lock));
        let Some(hash) = found.map(|own| own.lock.hash) else {
            return;
        };
        let Some(record) = self.payments.open.get(&hash) else {
            return;
        };
        let heard = self.payments.heard.entry(hash).or_default();
        if heard.len() < record.parts.len() {
            heard.push((channel, why.to_vec()));
        }
    }

    /// The machine says that a payment of ours succeeded. Whether it was one of these.
    pub(super) fn payment_succeeded(&mut self, hash: PaymentHash, preimage: Preimage) -> bool {
        let Some(mut record) = self.payments.open.remove(&hash) else {
            return false;
        };
        self.routes.say(Word::Paid(record.parts.clone()));
        record.stand = Stand::Succeeded(preimage);
        self.keep_payment(record);
        true
    }

    /// The machine says that all locks of a payment have failed for certain. Whether it was one of these.
    pub(super) fn payment_failed(&mut self, hash: PaymentHash, why: &[u8]) -> bool {
        let Some(mut record) = self.payments.open.get(&hash).cloned() else {
            return false;
        };
        let ended = self.ended(&record, why);
        self.payments.replacing.remove(&hash);
        record.stand = Stand::Retrying("every way failed".to_owned());
        self.keep_payment(record.clone());
        let job = record.job(self, ended);
        self.routes.say(Word::Plan(Box::new(job)));
        true
    }

    /// Each part with what was heard of it. A reason that fits no part was altered on the way.
    fn ended(&mut self, record: &PaymentRecord, last: &[u8]) -> Ended {
        let mut heard = self.payments.heard.remove(&record.hash).unwrap_or_default();
        let mut ended = Vec::with_capacity(record.parts.len());
        for part in &record.parts {
            let own = |(channel, _): &(ChannelId, Vec<u8>)| *channel == part.channel;
            let fits = heard
                .iter()
                .position(|heard| own(heard) && part.read(&heard.1).is_some());
            let any = fits.or_else(|| heard.iter().position(own));
            let why = match any {
                Some(index) => heard.swap_remove(index).1,
                // After a restart only the last reason is left, and a lock that expired has none.
                None if part.read(last).is_some() || record.parts.len() == 1 => last.to_vec(),
                None => continue,
            };
            ended.push((part.clone(), why));
        }
        ended
    }

    /// Writes a record, with the step that it belongs to.
    fn keep_payment(&mut self, record: PaymentRecord) {
        let name = record.number.to_be_bytes();
        self.rim.push(records::write(Table::Orders, &name, &record));
        if record.stand.is_end() {
            self.payments.open.remove(&record.hash);
            self.payments.heard.remove(&record.hash);
            self.payments.replacing.remove(&record.hash);
            self.rim.push(records::remove(Table::OpenOrders, &name));
            self.payments.fresh.insert(record.hash, record);
            return;
        }
        let number = |table, key: &[u8], value: &[u8]| crate::store::RimRecord {
            table,
            name: key.to_vec(),
            value: Some(value.to_vec()),
        };
        self.rim
            .push(number(Table::OrderNumbers, &record.hash.0, &name));
        self.rim.push(number(Table::OpenOrders, &name, &[]));
        self.payments.open.insert(record.hash, record);
    }

    // ---- Time ----

    /// Plans again what a change of a channel has thwarted.
    pub(super) fn payments_tick(&mut self) {
        for hash in std::mem::take(&mut self.payments.again) {
            let planning = self.payments.planning.get(&hash);
            let record = planning
                .map(|planning| &planning.record)
                .or_else(|| self.payments.open.get(&hash));
            if let Some(record) = record {
                let job = record.job(self, Vec::new());
                self.routes.say(Word::Plan(Box::new(job)));
            }
        }
    }

    /// After a start: what the machine knows decides. A payment whose locks have all failed is not tried again: its user decides.
    pub(super) fn reconcile_payments(&mut self) {
        let open: Vec<PaymentRecord> = self.payments.open.values().cloned().collect();
        for mut record in open {
            let hash = record.hash;
            match self.node.payments().get(&hash).map(|known| &known.state) {
                Some(PaymentState::Pending) => continue,
                Some(PaymentState::Succeeded(preimage)) => {
                    record.stand = Stand::Succeeded(*preimage);
                }
                Some(PaymentState::Failed(_)) | None => {
                    let reason =
                        "the node stopped between two attempts; nothing was paid: pay again";
                    record.stand = Stand::Failed(reason.to_owned());
                    self.events.push(EventBody::PaymentGivenUp {
                        hash,
                        reason: reason.to_owned(),
                    });
                }
            }
            self.keep_payment(record);
        }
    }
}

enum Started {
    Known(Answer),
    Planning(PaymentHash),
}

/// Who is to be told that a payment is under way.
#[derive(Default)]
pub(super) struct Attempted {
    pub keys: Vec<RequestKey>,
    pub replies: Vec<Reply>,
}

/// Who is to be told that there is no payment, and why.
#[derive(Default)]
pub(super) struct Refused {
    pub replies: Vec<Reply>,
    pub error: Option<NodeError>,
}

/// Whether the machine may take another plan soon: a channel has changed since this one was made.
fn is_passing(error: StepError) -> bool {
    matches!(
        error,
        StepError::Balance { .. }
            | StepError::Slots
            | StepError::Offline(_)
            | StepError::NotOpen(_)
            | StepError::KnownPayment(_)
            | StepError::UnknownChannel(_)
    )
}

//! The cheapest way: Dijkstra from the payee back to us, and several ways when one does not carry it all.
//!
//! A node on the way gets what the next one gets plus its fee, so amounts are known only from the payee backwards. The expiry is the same
//! everywhere and costs nothing. The cost of a way is its fees, plus what failing costs: per channel
//! `attempt · ((1 − p) / p + 1/8)`, where `attempt` is a thousandth of the amount (and 8) and p the probability that the channel carries it.

use super::gossip::fee;
use super::graph::Graph;
use super::liquidity::{CERTAIN, Crossing, Direction, Liquidity};
use crate::invoice::Hint;
use crate::onion::{Forward, MAX_HOPS};
use crate::types::{Address, Amount, ChannelId, PublicKey, Side, Timestamp};
use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap};
use thiserror::Error;

/// Most parts of a payment.
pub const MAX_PARTS: usize = 16;

/// A channel of this node.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct OwnChannel {
    /// Which.
    pub channel: ChannelId,
    /// Our side.
    pub side: Side,
    /// Who is at the other end.
    pub peer: PublicKey,
    /// What we can lock now.
    pub spendable: u128,
}

/// Where a payment is to go.
#[derive(Debug, Clone)]
pub struct Target<'a> {
    /// Who pays.
    pub payer: PublicKey,
    /// Who is paid.
    pub payee: PublicKey,
    /// In which token.
    pub token: Address,
    /// What the payee gets.
    pub amount: Amount,
    /// The most that all fees may be.
    pub max_fee: u128,
    /// Channels of this node in the token that are open and connected.
    pub own: &'a [OwnChannel],
    /// Of the invoice.
    pub hints: &'a [Hint],
    /// Parts that may be made, from 1 to [`MAX_PARTS`].
    pub max_parts: usize,
    /// What other parts of the same payment take of channels that are not ours.
    pub taken: &'a [Crossing],
    /// Now.
    pub now: Timestamp,
}

/// Why there is no way.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum RouteError {
    /// Nothing to pay.
    #[error("a payment of nothing")]
    Zero,
    /// Our own channels do not hold it.
    #[error("the open channels can send {available}, {wanted} are wanted")]
    Balance {
        /// Sum of what we can lock.
        available: u128,
        /// What the payee gets.
        wanted: u128,
    },
    /// Nothing leads there.
    #[error("no channels lead to {0} that carry the amount")]
    NoRoute(PublicKey),
    /// It costs too much.
    #[error("the fee would be {fee}, at most {max} is allowed")]
    Fee {
        /// Of the cheapest way.
        fee: u128,
        /// What was allowed.
        max: u128,
    },
    /// We would pay ourselves.
    #[error("the payee is this node")]
    Own,
}

/// One way.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Route {
    /// The channel of ours over which it leaves.
    pub first: ChannelId,
    /// What leaves, fees included.
    pub sent: Amount,
    /// What the payee gets.
    pub delivered: Amount,
    /// The forwarding nodes in order.
    pub forwards: Vec<Forward>,
    /// All channels in order, ours first, with what crosses them.
    pub crossings: Vec<Crossing>,
}

impl Route {
    /// What forwarding costs.
    pub fn fee(&self) -> u128 {
        self.sent.get() - self.delivered.get()
    }
}

/// One direction of a channel, as the search sees it.
struct Edge {
    from: PublicKey,
    direction: Direction,
    fee_base: u128,
    fee_ppm: u32,
    min_lock: u128,
    max_lock: u128,
    /// None: it is ours, or an invoice vouches for it.
    capacity: Option<u128>,
    ours: bool,
}

/// The best way known from a node to the payee.
#[derive(Clone)]
struct Label {
    cost: u128,
    /// What the node has to receive.
    amount: u128,
    hops: usize,
    /// Channel to the next node, what crosses it, and the next node; none at the payee.
    next: Option<(Direction, u128, PublicKey)>,
}

/// What earlier parts of the payment take.
type Used = BTreeMap<Direction, u128>;

/// Finds one way, or several that together deliver the amount.
///
/// # Errors
/// [`RouteError`].
pub fn find(
    graph: &Graph,
    liquidity: &Liquidity,
    target: &Target<'_>,
) -> Result<Vec<Route>, RouteError> {
    let wanted = target.amount.get();
    if wanted == 0 {
        return Err(RouteError::Zero);
    }
    if target.payee == target.payer {
        return Err(RouteError::Own);
    }
    let available: u128 = target.own.iter().map(|own| own.spendable).sum();
    if available < wanted {
        return Err(RouteError::Balance { available, wanted });
    }
    let max_parts = target.max_parts.clamp(1, MAX_PARTS);
    let total = |routes: &[Route]| -> u128 { routes.iter().map(Route::fee).sum() };
    match split(graph, liquidity, target, wanted, max_parts, true) {
        Ok(routes) if total(&routes) <= target.max_fee => return Ok(routes),
        // The likeliest way is too expensive, or its fees outgrow a channel further up: a node keeps one label, and that of the
        // least cost is not that of the least amount. Without risks it is.
        Ok(_) | Err(RouteError::NoRoute(_)) => {}
        Err(error) => return Err(error),
    }
    // The cheapest way, whatever its chances.
    let routes = split(graph, liquidity, target, wanted, max_parts, false)?;
    match total(&routes) {
        fee if fee > target.max_fee => Err(RouteError::Fee {
            fee,
            max: target.max_fee,
        }),
        _ => Ok(routes),
    }
}

/// Takes the largest part that finds a way, halving until one does, and goes on with the rest.
fn split(
    graph: &Graph,
    liquidity: &Liquidity,
    target: &Target<'_>,
    wanted: u128,
    max_parts: usize,
    count_risk: bool,
) -> Result<Vec<Route>, RouteError> {
    let (mut routes, mut used) = (Vec::new(), Used::new());
    for crossing in target.taken {
        *used.entry(crossing.direction).or_default() += crossing.amount;
    }
    let (mut left, mut size) = (wanted, wanted);
    while left > 0 {
        let places = max_parts - routes.len();
        // Parts that are smaller could not bring the rest any more.
        if places == 0 || size.saturating_mul(places as u128) < left {
            return Err(RouteError::NoRoute(target.payee));
        }
        let amount = size.min(left);
        match cheapest(graph, liquidity, target, amount, &used, count_risk) {
            Some(route) => {
                for crossing in &route.crossings {
                    *used.entry(crossing.direction).or_default() += crossing.amount;
                }
                left -= amount;
                routes.push(route);
            }
            None => size = size.min(left).div_ceil(2).min(size.saturating_sub(1)),
        }
        if size == 0 {
            return Err(RouteError::NoRoute(target.payee));
        }
    }
    Ok(routes)
}

/// The cheapest way for one part.
fn cheapest(
    graph: &Graph,
    liquidity: &Liquidity,
    target: &Target<'_>,
    amount: u128,
    used: &Used,
    count_risk: bool,
) -> Option<Route> {
    let attempt = if count_risk { amount / 1000 + 8 } else { 0 };
    let mut labels: BTreeMap<PublicKey, Label> = BTreeMap::new();
    let mut done: BTreeMap<PublicKey, Label> = BTreeMap::new();
    let mut heap = BinaryHeap::new();
    let start = Label {
        cost: 0,
        amount,
        hops: 0,
        next: None,
    };
    labels.insert(target.payee, start);
    heap.push(Reverse((0u128, target.payee)));
    while let Some(Reverse((cost, node))) = heap.pop() {
        if node == target.payer {
            return trace(&labels, target, amount);
        }
        let current = labels.get(&node)?.clone();
        if current.cost != cost || done.contains_key(&node) {
            continue;
        }
        done.insert(node, current.clone());
        if current.hops == MAX_HOPS {
            continue;
        }
        for edge in edges_to(graph, target, &node) {
            if done.contains_key(&edge.from) {
                continue;
            }
            let Some(label) = step(&edge, node, &current, attempt, liquidity, target.now, used)
            else {
                continue;
            };
            let better = labels.get(&edge.from).is_none_or(|known| {
                (label.cost, label.amount, label.hops) < (known.cost, known.amount, known.hops)
            });
            if better {
                heap.push(Reverse((label.cost, edge.from)));
                labels.insert(edge.from, label);
            }
        }
    }
    None
}

/// One channel further from the payee.
fn step(
    edge: &Edge,
    to: PublicKey,
    current: &Label,
    attempt: u128,
    liquidity: &Liquidity,
    now: Timestamp,
    used: &Used,
) -> Option<Label> {
    let crossing = current.amount;
    let taken = used.get(&edge.direction).copied().unwrap_or(0);
    let load = crossing.checked_add(taken)?;
    if crossing < edge.min_lock || crossing > edge.max_lock {
        return None;
    }
    if edge.capacity.is_some_and(|capacity| load > capacity) {
        return None;
    }
    let (fee, risk) = if edge.ours {
        (0, 0)
    } else {
        let chance = edge.capacity.map_or(CERTAIN, |capacity| {
            liquidity.probability(&edge.direction, load, capacity, now)
        });
        if chance == 0 {
            return None;
        }
        let miss = u128::from(CERTAIN - chance);
        let risk = attempt.checked_mul(miss)? / u128::from(chance) + attempt / 8;
        (fee(edge.fee_base, edge.fee_ppm, crossing)?, risk)
    };
    Some(Label {
        cost: current.cost.checked_add(fee)?.checked_add(risk)?,
        amount: crossing.checked_add(fee)?,
        hops: current.hops + 1,
        next: Some((edge.direction, crossing, to)),
    })
}

/// All ways into a node: from us over our channels, from others over announced ones, and the invoice's into the payee.
fn edges_to(graph: &Graph, target: &Target<'_>, node: &PublicKey) -> Vec<Edge> {
    let own = target.own.iter().filter(|own| own.peer == *node);
    let own = own.map(|own| Edge {
        from: target.payer,
        direction: Direction {
            channel: own.channel,
            from: own.side,
        },
        fee_base: 0,
        fee_ppm: 0,
        min_lock: 0,
        max_lock: u128::MAX,
        capacity: Some(own.spendable),
        ours: true,
    });
    let announced = graph.channels_of(node).filter_map(|(id, known)| {
        let announcement = &known.announcement;
        let from = if announcement.key_a == *node {
            Side::B
        } else {
            Side::A
        };
        let update = known.update(from).filter(|update| !update.disabled)?;
        // Our own channels are known better from `own`.
        let usable =
            announcement.params.token == target.token && announcement.key(from) != target.payer;
        usable.then(|| Edge {
            from: announcement.key(from),
            direction: Direction { channel: *id, from },
            fee_base: update.fee_base,
            fee_ppm: update.fee_ppm,
            min_lock: update.min_lock,
            max_lock: update.max_lock,
            capacity: Some(known.capacity),
            ours: false,
        })
    });
    let known = |hint: &Hint| graph.channel(&hint.channel).is_some();
    let hinted = target
        .hints
        .iter()
        .filter(|hint| *node == target.payee && hint.node != target.payer && !known(hint))
        .map(|hint| Edge {
            from: hint.node,
            direction: Direction {
                channel: hint.channel,
                // Which side the payee has is not said; the learnt bounds only need one name for it.
                from: Side::A,
            },
            fee_base: hint.fee_base,
            fee_ppm: hint.fee_ppm,
            min_lock: 0,
            max_lock: u128::MAX,
            capacity: None,
            ours: false,
        });
    own.chain(announced).chain(hinted).collect()
}

/// Reads the way off the labels.
fn trace(labels: &BTreeMap<PublicKey, Label>, target: &Target<'_>, amount: u128) -> Option<Route> {
    let (mut node, mut crossings, mut forwards) = (target.payer, Vec::new(), Vec::new());
    while let Some((direction, crossing, to)) = labels.get(&node)?.next {
        if node != target.payer {
            forwards.push(Forward {
                node,
                channel: direction.channel,
                amount: Amount::new(crossing).ok()?,
            });
        }
        crossings.push(Crossing {
            direction,
            amount: crossing,
        });
        node = to;
    }
    let first = crossings.first()?;
    Some(Route {
        first: first.direction.channel,
        sent: Amount::new(first.amount).ok()?,
        delivered: Amount::new(amount).ok()?,
        forwards,
        crossings,
    })
}

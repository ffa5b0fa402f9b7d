//! Gossip, the graph and routes: against a brute-force search, and against peers that lie or flood.

use millrace_channels::digest::Domain;
use millrace_channels::invoice::Hint;
use millrace_channels::machine::payment::{Hop, Onions, reason};
use millrace_channels::onion::{Delivery, NodeOnions, failure};
use millrace_channels::routing::gossip::{
    self, ChannelAnnouncement, ChannelUpdate, Gossip, Item, NodeAnnouncement,
};
use millrace_channels::routing::graph::{
    Deposit, Deposits, GossipError, Graph, KnownChannel, MAX_AGE_SECS, MIN_INTERVAL_SECS, Taken,
};
use millrace_channels::routing::liquidity::{Liquidity, Verdict};
use millrace_channels::routing::payment::Order;
use millrace_channels::routing::route::{self, OwnChannel, Route, RouteError, Target};
use millrace_channels::routing::router::{LocalChannel, Outgoing, PlanError, Router, RouterError};
use millrace_channels::signing::{self, HotKey};
use millrace_channels::state::Params;
use millrace_channels::types::{
    Address, Amount, ChannelId, Hash32, PaymentHash, Preimage, PublicKey, Side, Signature,
};
use proptest::prelude::*;
use std::cell::RefCell;
use std::collections::BTreeMap;
use std::sync::{Arc, LazyLock};

const NOW: u64 = 1_800_000_000;
const EXPIRY: u64 = NOW + 3600;
const DOMAIN: Domain = Domain {
    chain_id: 31337,
    contract: Address([7; 20]),
};
static SEPARATOR: LazyLock<Hash32> = LazyLock::new(|| DOMAIN.separator());

/// Keys in the order of their numbers.
static KEYS: LazyLock<Vec<Arc<HotKey>>> = LazyLock::new(|| {
    (1..=40)
        .map(|byte| Arc::new(HotKey::new([byte; 32]).unwrap()))
        .collect()
});

fn key(node: usize) -> &'static HotKey {
    &KEYS[node]
}

fn public(node: usize) -> PublicKey {
    key(node).public()
}

fn amount(units: u128) -> Amount {
    Amount::new(units).unwrap()
}

/// L1 as a test writes it: what is not in there is unknown.
#[derive(Default)]
struct Chain(RefCell<BTreeMap<ChannelId, Deposit>>);

impl Chain {
    fn say(&self, channel: ChannelId, deposit: Deposit) {
        self.0.borrow_mut().insert(channel, deposit);
    }
}

impl Deposits for Chain {
    fn deposit(&self, channel: &ChannelId) -> Deposit {
        let known = self.0.borrow();
        known.get(channel).copied().unwrap_or(Deposit::Unknown)
    }
}

fn announcement(a: usize, b: usize, salt: u64) -> ChannelAnnouncement {
    let signer = |node| signing::address(&public(node)).unwrap();
    let mut made = ChannelAnnouncement {
        params: Params {
            signer_a: signer(a),
            payout_a: Address([1; 20]),
            signer_b: signer(b),
            payout_b: Address([2; 20]),
            token: Address::ZERO,
            window_secs: 86_400,
            salt,
        },
        key_a: public(a),
        key_b: public(b),
        signature_a: Signature([0; 65]),
        signature_b: Signature([0; 65]),
    };
    made.signature_a = made.signature(&SEPARATOR, key(a));
    made.signature_b = made.signature(&SEPARATOR, key(b));
    made
}

fn update(channel: ChannelId, side: Side, node: usize, base: u128, ppm: u32) -> ChannelUpdate {
    ChannelUpdate {
        channel,
        side,
        timestamp: NOW,
        disabled: false,
        fee_base: base,
        fee_ppm: ppm,
        min_lock: 0,
        max_lock: u128::MAX,
        signature: Signature([0; 65]),
    }
    .sign(&SEPARATOR, key(node))
}

fn node(number: usize) -> NodeAnnouncement {
    NodeAnnouncement {
        key: public(number),
        timestamp: NOW,
        features: 0,
        alias: format!("node {number}"),
        addresses: vec!["127.0.0.1:9735".to_owned(), "node.example:1".to_owned()],
        signature: Signature([0; 65]),
    }
    .sign(&SEPARATOR, key(number))
}

/// A graph that is told everything at once.
struct World {
    graph: Graph,
    chain: Chain,
}

impl World {
    fn new() -> Self {
        Self {
            graph: Graph::new(&DOMAIN, 1),
            chain: Chain::default(),
        }
    }

    fn learn(&mut self, item: Item) -> Result<Taken, GossipError> {
        self.graph.receive(None, item, NOW, &self.chain)
    }

    /// A channel that both sides forward over, with the same fees.
    fn channel(
        &mut self,
        ends: (usize, usize),
        capacity: u128,
        (base, ppm): (u128, u32),
    ) -> ChannelId {
        let salt = self.graph.channels().count() as u64;
        let made = announcement(ends.0, ends.1, salt);
        let id = made.channel(&SEPARATOR);
        self.chain.say(id, Deposit::Open { capacity });
        self.learn(Item::Channel(made)).unwrap();
        for (side, end) in [(Side::A, ends.0), (Side::B, ends.1)] {
            self.learn(Item::Update(update(id, side, end, base, ppm)))
                .unwrap();
        }
        id
    }
}

fn own(channel: ChannelId, peer: usize, spendable: u128) -> OwnChannel {
    OwnChannel {
        channel,
        side: Side::A,
        peer: public(peer),
        spendable,
    }
}

fn target(own: &[OwnChannel], payee: usize, units: u128) -> Target<'_> {
    Target {
        payer: public(0),
        payee: public(payee),
        token: Address::ZERO,
        amount: amount(units),
        max_fee: u128::MAX,
        own,
        hints: &[],
        max_parts: 1,
        taken: &[],
        now: NOW,
    }
}

fn messages() -> Vec<Gossip> {
    let made = announcement(1, 2, 3);
    let id = made.channel(&SEPARATOR);
    let items = vec![
        Item::Node(node(1)),
        Item::Channel(made.clone()),
        Item::Update(update(id, Side::B, 2, 5, 6)),
    ];
    let mut all: Vec<Gossip> = items.iter().cloned().map(Gossip::Item).collect();
    all.extend([
        Gossip::Since {
            epoch: 1,
            cursor: 2,
        },
        Gossip::Batch {
            epoch: 3,
            cursor: 4,
            more: true,
            items,
        },
        Gossip::AnnouncementSignature {
            channel: id,
            key: public(1),
            signature: made.signature_a,
        },
    ]);
    all
}

#[test]
fn every_message_comes_back_and_its_bytes_are_pinned() {
    let mut all = Vec::new();
    for message in messages() {
        let frame = gossip::encode(&message);
        assert!(gossip::is_gossip(&frame[4..]));
        assert_eq!(gossip::decode(&frame[4..]), Ok(message.clone()));
        for end in 4..frame.len() {
            assert!(gossip::decode(&frame[4..end]).is_err(), "{message:?} cut");
        }
        all.extend(frame);
    }
    assert_eq!(
        hex::encode(millrace_channels::state::keccak(&all)),
        "43d814c0473bcd819d642c316a94211aae7a6676474a693bc2d1e6c8dfaf1129",
        "a change of these bytes is a new wire version"
    );
}

#[test]
fn what_is_not_signed_by_its_keys_is_refused() {
    let mut world = World::new();
    let good = announcement(1, 2, 0);
    world
        .chain
        .say(good.channel(&SEPARATOR), Deposit::Open { capacity: 5 });
    let mut swapped = good.clone();
    swapped.signature_b = good.signature_a;
    let mut other_key = good.clone();
    other_key.key_b = public(3);
    other_key.signature_a = other_key.signature(&SEPARATOR, key(1));
    other_key.signature_b = other_key.signature(&SEPARATOR, key(3));
    for bad in [swapped, other_key] {
        assert_eq!(world.learn(Item::Channel(bad)), Err(GossipError::Signature));
    }
    assert_eq!(world.learn(Item::Channel(good.clone())), Ok(Taken::Stored));
    let id = good.channel(&SEPARATOR);
    // Side A's update by side B's key, and one signed for another contract.
    let foreign = Domain {
        chain_id: 1,
        ..DOMAIN
    };
    let bad = [
        update(id, Side::A, 2, 1, 1),
        update(id, Side::A, 1, 1, 1).sign(&foreign.separator(), key(1)),
    ];
    for bad in bad {
        assert_eq!(world.learn(Item::Update(bad)), Err(GossipError::Signature));
    }
    let mut renamed = node(1);
    renamed.alias = "bank".to_owned();
    assert_eq!(
        world.learn(Item::Node(renamed)),
        Err(GossipError::Signature)
    );
    assert_eq!(world.learn(Item::Node(node(1))), Ok(Taken::Stored));
    assert_eq!(
        world.learn(Item::Node(node(3))),
        Err(GossipError::Unrelated)
    );
}

#[test]
fn a_channel_counts_when_l1_has_its_deposit() {
    let mut world = World::new();
    let made = announcement(1, 2, 0);
    let id = made.channel(&SEPARATOR);
    assert_eq!(world.learn(Item::Channel(made.clone())), Ok(Taken::Waiting));
    let told = Item::Update(update(id, Side::A, 1, 1, 1));
    assert_eq!(world.learn(told), Ok(Taken::Waiting));
    assert_eq!(world.graph.channels().count(), 0);
    world.chain.say(id, Deposit::Open { capacity: 9 });
    world.graph.retry(NOW, &world.chain);
    let known = world.graph.channel(&id).unwrap();
    assert_eq!(known.capacity, 9);
    assert!(known.update(Side::A).is_some() && known.update(Side::B).is_none());
    world.graph.set_deposit(&id, Deposit::Absent);
    assert_eq!(world.graph.channels().count(), 0);
    assert_eq!(world.graph.channels_of(&public(1)).count(), 0);
    world.chain.say(id, Deposit::Absent);
    assert_eq!(
        world.learn(Item::Channel(made)),
        Err(GossipError::NoDeposit(id))
    );
}

#[test]
fn old_early_and_hasty_updates_are_refused() {
    let mut world = World::new();
    let id = world.channel((1, 2), 5, (1, 1));
    let at = |timestamp| {
        let made = ChannelUpdate {
            timestamp,
            ..update(id, Side::A, 1, 2, 2)
        };
        Item::Update(made.sign(&SEPARATOR, key(1)))
    };
    assert_eq!(world.learn(at(NOW)), Err(GossipError::Known));
    assert_eq!(
        world.learn(at(NOW + MIN_INTERVAL_SECS - 1)),
        Err(GossipError::Known)
    );
    for wrong in [NOW - MAX_AGE_SECS - 1, NOW + 3601, u64::MAX] {
        let age = GossipError::Age {
            timestamp: wrong,
            now: NOW,
        };
        assert_eq!(world.learn(at(wrong)), Err(age));
    }
    assert_eq!(world.learn(at(NOW + MIN_INTERVAL_SECS)), Ok(Taken::Stored));
    world.graph.prune(NOW + MAX_AGE_SECS + 5, |_| true);
    let known = world.graph.channel(&id).unwrap();
    assert!(known.update(Side::B).is_none() && known.update(Side::A).is_some());
}

/// Asks until there is no more, as a peer does.
fn follow(from: &mut Graph, to: &mut Graph, chain: &Chain, mut at: (u64, u64)) -> (u64, u64) {
    loop {
        let Some(Gossip::Batch {
            epoch,
            cursor,
            more,
            items,
        }) = from.batch(&public(39), at.0, at.1, NOW)
        else {
            panic!("limited")
        };
        for item in items {
            to.receive(Some(&public(38)), item, NOW, chain).unwrap();
        }
        at = (epoch, cursor);
        if !more {
            return at;
        }
    }
}

#[test]
fn a_follower_learns_everything_once_and_then_only_what_is_new() {
    let mut world = World::new();
    for number in 0..300 {
        world.channel((1 + number % 20, 21), 5, (1, 1));
    }
    world.learn(Item::Node(node(1))).unwrap();
    let mut other = Graph::new(&DOMAIN, 2);
    let at = follow(&mut world.graph, &mut other, &world.chain, (0, 0));
    assert!(
        world
            .graph
            .channels()
            .all(|(id, known)| { other.channel(id).unwrap().updates == known.updates })
    );
    assert_eq!(other.nodes().count(), 1);
    let id = world.channel((1, 2), 6, (1, 1));
    let again = follow(&mut world.graph, &mut other, &world.chain, at);
    assert_eq!(again.1, at.1 + 3);
    assert!(other.channel(&id).is_some());
    // Another epoch starts from the beginning, where everything is known.
    let Some(Gossip::Batch { cursor, .. }) = world.graph.batch(&public(39), 77, again.1, NOW)
    else {
        panic!()
    };
    assert!(cursor < again.1);
}

#[test]
fn a_flood_is_cut_off_and_the_rest_of_the_peers_are_not() {
    let mut world = World::new();
    world.channel((1, 2), 5, (1, 1));
    let junk = || Item::Node(node(3));
    let peer = public(5);
    let mut receive =
        |peer: &PublicKey, now| world.graph.receive(Some(peer), junk(), now, &world.chain);
    let mut taken = 0;
    while receive(&peer, NOW) != Err(GossipError::Limit) {
        taken += 1;
        assert!(taken <= 20_000);
    }
    assert_eq!(receive(&public(6), NOW), Err(GossipError::Unrelated));
    assert_eq!(receive(&peer, NOW + 1), Err(GossipError::Unrelated));
    let mut batches = 0;
    while world.graph.batch(&peer, 0, 0, NOW + 1).is_some() {
        batches += 1;
        assert!(batches <= 500);
    }
    assert!(world.graph.batch(&peer, 0, 0, NOW + 2).is_some());
}

#[test]
fn the_graph_outlives_a_restart() {
    let mut world = World::new();
    let id = world.channel((1, 2), 5, (1, 1));
    world.learn(Item::Node(node(1))).unwrap();
    let bytes = world.graph.snapshot();
    let mut again = Graph::restore(&DOMAIN, &bytes).unwrap();
    assert_eq!(again.snapshot(), bytes);
    assert_eq!(again.channels_of(&public(2)).next().unwrap().0, &id);
    let follow = again.batch(&public(9), 1, 0, NOW);
    assert_eq!(follow, world.graph.batch(&public(9), 1, 0, NOW));
    for bad in [&[][..], &[2, 0], &bytes[..bytes.len() - 1]] {
        assert!(Graph::restore(&DOMAIN, bad).is_err());
    }
}

/// What the payee's amount costs over a way, if it can go there: the rules again, written forwards from their text.
fn fee_of(way: &[(usize, usize)], edges: &[Edge], units: u128) -> Option<u128> {
    let mut carried = units;
    for (position, &(edge, _)) in way.iter().enumerate().rev() {
        let edge = &edges[edge];
        if carried > edge.capacity {
            return None;
        }
        if position > 0 {
            carried += edge.base + (carried * u128::from(edge.ppm)).div_ceil(1_000_000);
        }
    }
    Some(carried - units)
}

#[derive(Debug, Clone)]
struct Edge {
    ends: (usize, usize),
    capacity: u128,
    base: u128,
    ppm: u32,
}

/// Every way without a node twice.
fn ways(edges: &[Edge], from: usize, to: usize, seen: &mut Vec<usize>) -> Vec<Vec<(usize, usize)>> {
    if from == to {
        return vec![Vec::new()];
    }
    seen.push(from);
    let mut found = Vec::new();
    for (number, edge) in edges.iter().enumerate() {
        let next = match edge.ends {
            (a, b) if a == from => b,
            (a, b) if b == from => a,
            _ => continue,
        };
        if seen.contains(&next) {
            continue;
        }
        for rest in ways(edges, next, to, seen) {
            found.push([&[(number, from)][..], &rest].concat());
        }
    }
    seen.pop();
    found
}

fn arb_edges() -> impl Strategy<Value = Vec<Edge>> {
    let edge = (0usize..6, 1usize..6, 1u128..3000, 0u128..20, 0u32..50_000);
    let edge = edge.prop_map(|(a, step, capacity, base, ppm)| Edge {
        ends: (a, (a + step) % 6),
        capacity,
        base,
        ppm,
    });
    proptest::collection::vec(edge, 1..10)
}

/// The edges as a graph, and those of node 0 as its own.
fn build(edges: &[Edge]) -> (World, Vec<ChannelId>, Vec<OwnChannel>) {
    let mut world = World::new();
    let (mut ids, mut owned) = (Vec::new(), Vec::new());
    for edge in edges {
        let id = world.channel(edge.ends, edge.capacity, (edge.base, edge.ppm));
        ids.push(id);
        let (peer, side) = match edge.ends {
            (0, b) => (b, Side::A),
            (a, 0) => (a, Side::B),
            _ => continue,
        };
        owned.push(OwnChannel {
            side,
            ..own(id, peer, edge.capacity)
        });
    }
    (world, ids, owned)
}

/// What a route promises holds at every node on it.
fn check_route(route: &Route, ids: &[ChannelId], edges: &[Edge], payee: usize) {
    let mut at = 0;
    for (position, crossing) in route.crossings.iter().enumerate() {
        let number = ids
            .iter()
            .position(|id| *id == crossing.direction.channel)
            .unwrap();
        let edge = &edges[number];
        let (from, to) = match crossing.direction.from {
            Side::A => edge.ends,
            Side::B => (edge.ends.1, edge.ends.0),
        };
        assert_eq!(from, at);
        at = to;
        if let Some(next) = route.crossings.get(position + 1) {
            let number = ids
                .iter()
                .position(|id| *id == next.direction.channel)
                .unwrap();
            let fee = edges[number].base
                + (next.amount * u128::from(edges[number].ppm)).div_ceil(1_000_000);
            assert!(crossing.amount >= next.amount + fee);
            assert_eq!(route.forwards[position].node, public(at));
            assert_eq!(route.forwards[position].channel, next.direction.channel);
            assert_eq!(route.forwards[position].amount.get(), next.amount);
        } else {
            assert_eq!(crossing.amount, route.delivered.get());
        }
    }
    assert_eq!(at, payee);
    assert_eq!(route.crossings[0].amount, route.sent.get());
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(100))]

    #[test]
    fn the_cheapest_way_is_the_one_that_trying_all_finds(edges in arb_edges(), units in 1u128..2500) {
        let (world, ids, owned) = build(&edges);
        let cheapest = ways(&edges, 0, 5, &mut Vec::new())
            .iter()
            .filter_map(|way| fee_of(way, &edges, units))
            .min();
        let search = |max_fee| {
            let target = Target { max_fee, ..target(&owned, 5, units) };
            route::find(&world.graph, &Liquidity::default(), &target)
        };
        match cheapest {
            None => prop_assert!(search(u128::MAX).is_err()),
            Some(fee) => {
                let routes = search(fee).unwrap();
                prop_assert_eq!(routes.len(), 1);
                prop_assert_eq!(routes[0].fee(), fee);
                check_route(&routes[0], &ids, &edges, 5);
                if let Some(less) = fee.checked_sub(1) {
                    let refused = matches!(search(less), Err(RouteError::Fee { .. }));
                    prop_assert!(refused);
                }
                // With risks counted it may cost more, and still holds.
                let likely = search(u128::MAX).unwrap();
                check_route(&likely[0], &ids, &edges, 5);
            }
        }
    }

    #[test]
    fn parts_bring_it_all_and_overload_nothing(edges in arb_edges(), units in 1u128..6000) {
        let (world, ids, owned) = build(&edges);
        let target = Target { max_parts: 16, ..target(&owned, 5, units) };
        let whole = route::find(&world.graph, &Liquidity::default(), &Target { max_parts: 1, ..target.clone() });
        let Ok(routes) = route::find(&world.graph, &Liquidity::default(), &target) else {
            prop_assert!(whole.is_err());
            return Ok(());
        };
        prop_assert!(routes.len() <= 16);
        prop_assert_eq!(routes.iter().map(|route| route.delivered.get()).sum::<u128>(), units);
        let mut loads = BTreeMap::new();
        for route in &routes {
            check_route(route, &ids, &edges, 5);
            for crossing in &route.crossings {
                *loads.entry(crossing.direction).or_insert(0) += crossing.amount;
            }
        }
        for (direction, load) in loads {
            let number = ids.iter().position(|id| *id == direction.channel).unwrap();
            prop_assert!(load <= edges[number].capacity);
        }
    }

    #[test]
    fn altered_gossip_never_panics(at in 0usize..2000, bit in 0u8..8, which in 0usize..6) {
        let mut frame = gossip::encode(&messages()[which])[4..].to_vec();
        let at = at % frame.len();
        frame[at] ^= 1 << bit;
        if let Ok(read) = gossip::decode(&frame) {
            prop_assert_eq!(&gossip::encode(&read)[4..], &frame[..]);
        }
    }
}

/// 0 - 1 - 3 and 0 - 2 - 3, the second dearer.
fn diamond() -> (World, Vec<OwnChannel>, [ChannelId; 2]) {
    let mut world = World::new();
    let first = [1, 2].map(|node| world.channel((0, node), 1000, (0, 0)));
    let second = [
        world.channel((1, 3), 1000, (1, 0)),
        world.channel((2, 3), 1000, (2, 0)),
    ];
    let owned = vec![own(first[0], 1, 1000), own(first[1], 2, 1000)];
    (world, owned, second)
}

#[test]
fn a_payment_too_large_for_one_way_goes_two() {
    let (world, owned, _) = diamond();
    let find = |units, max_parts| {
        let target = Target {
            max_parts,
            ..target(&owned, 3, units)
        };
        route::find(&world.graph, &Liquidity::default(), &target)
    };
    assert_eq!(find(1500, 1), Err(RouteError::NoRoute(public(3))));
    let routes = find(1500, 4).unwrap();
    assert_eq!(
        routes
            .iter()
            .map(|route| route.delivered.get())
            .sum::<u128>(),
        1500
    );
    assert_eq!(
        find(2001, 16),
        Err(RouteError::Balance {
            available: 2000,
            wanted: 2001
        })
    );
    assert_eq!(find(0, 1), Err(RouteError::Zero));
}

#[test]
fn disabled_small_and_foreign_channels_are_left_out() {
    let change = |change: fn(&mut ChannelUpdate)| {
        let (mut world, owned, second) = diamond();
        let mut told = update(second[0], Side::A, 1, 1, 0);
        told.timestamp += MIN_INTERVAL_SECS;
        change(&mut told);
        world
            .learn(Item::Update(told.sign(&SEPARATOR, key(1))))
            .unwrap();
        let routes = route::find(&world.graph, &Liquidity::default(), &target(&owned, 3, 10));
        routes.unwrap()[0].forwards[0].node
    };
    assert_eq!(change(|_| ()), public(1));
    assert_eq!(change(|update| update.disabled = true), public(2));
    assert_eq!(change(|update| update.min_lock = 11), public(2));
    assert_eq!(change(|update| update.max_lock = 9), public(2));
    let (world, owned, _) = diamond();
    let other = Target {
        token: Address([5; 20]),
        ..target(&owned, 3, 10)
    };
    let found = route::find(&world.graph, &Liquidity::default(), &other);
    assert_eq!(found, Err(RouteError::NoRoute(public(3))));
}

#[test]
fn a_hint_leads_to_a_payee_that_gossip_does_not_show() {
    let (world, owned, _) = diamond();
    let hints = [Hint {
        node: public(3),
        channel: ChannelId([9; 32]),
        fee_base: 5,
        fee_ppm: 0,
    }];
    let target = Target {
        hints: &hints,
        ..target(&owned, 4, 10)
    };
    let routes = route::find(&world.graph, &Liquidity::default(), &target).unwrap();
    assert_eq!(routes[0].fee(), 6);
    assert_eq!(routes[0].forwards[1].channel, ChannelId([9; 32]));
}

#[test]
fn a_failed_way_is_avoided_and_its_failure_was_encrypted() {
    let (world, owned, second) = diamond();
    let mut liquidity = Liquidity::default();
    let target = target(&owned, 3, 10);
    let routes = route::find(&world.graph, &liquidity, &target).unwrap();
    assert_eq!(routes[0].forwards[0].channel, second[0]);
    let order = Order {
        domain: DOMAIN,
        hash: PaymentHash([1; 32]),
        payee: public(3),
        expiry: EXPIRY,
        delivery: Delivery::Invoice {
            secret: Hash32([2; 32]),
            total: amount(10),
        },
    };
    let (payment, parts) = order.parts(&routes, || [3; 32]).unwrap();
    assert_eq!(payment.parts[0].amount, amount(11));
    let onions = NodeOnions::new(KEYS[1].clone(), &DOMAIN);
    let (hop, secret) = onions.open(&payment.parts[0].onion, &payment.hash).unwrap();
    assert!(matches!(hop, Hop::Forward { channel, .. } if channel == second[0]));
    let why = failure::make(&secret.unwrap(), &[reason::NEXT_CHANNEL]);
    let verdict = parts[0].failed(&why, &world.graph, &mut liquidity, NOW);
    assert_eq!(verdict, Verdict::Retry);
    let routes = route::find(&world.graph, &liquidity, &target).unwrap();
    assert_eq!(routes[0].forwards[0].node, public(2));
    // What is kept outlives a restart.
    let kept = postcard::to_allocvec(&parts).unwrap();
    let again: Vec<millrace_channels::routing::payment::SentPart> =
        postcard::from_bytes(&kept).unwrap();
    assert_eq!(again[0].read(&why), parts[0].read(&why));
}

#[test]
fn a_keysend_arrives_with_its_preimage() {
    let (world, owned, _) = diamond();
    let routes = route::find(&world.graph, &Liquidity::default(), &target(&owned, 3, 10)).unwrap();
    let preimage = Preimage([4; 32]);
    let order = Order::keysend(DOMAIN, public(3), preimage, amount(10), EXPIRY);
    let (payment, _) = order.parts(&routes, || [3; 32]).unwrap();
    let open = |node: usize, onion: &[u8]| {
        NodeOnions::new(KEYS[node].clone(), &DOMAIN).peel(onion, &payment.hash)
    };
    let Some(Hop::Forward { onion, .. }) = open(1, &payment.parts[0].onion) else {
        panic!()
    };
    let expected = Hop::Keysend {
        preimage,
        total: amount(10),
    };
    assert_eq!(open(3, &onion), Some(expected));
}

/// Routers in a line 0 - 1 - 2 - 3 whose frames a test carries.
struct Routers {
    routers: Vec<Router>,
    locals: Vec<Vec<LocalChannel>>,
    chain: Chain,
    faults: Vec<RouterError>,
}

impl Routers {
    fn new() -> Self {
        let routers = (0..4)
            .map(|node| {
                let addresses = vec![format!("127.0.0.1:{}", 9000 + node)];
                Router::new(
                    KEYS[node].clone(),
                    DOMAIN,
                    format!("n{node}"),
                    addresses,
                    node as u64,
                )
            })
            .collect();
        let mut line = Self {
            routers,
            locals: vec![Vec::new(); 4],
            chain: Chain::default(),
            faults: Vec::new(),
        };
        for a in 0..3 {
            let params = announcement(a, a + 1, 0).params;
            let channel = announcement(a, a + 1, 0).channel(&SEPARATOR);
            line.chain.say(channel, Deposit::Open { capacity: 1000 });
            for (node, side, peer) in [(a, Side::A, a + 1), (a + 1, Side::B, a)] {
                line.locals[node].push(LocalChannel {
                    channel,
                    params,
                    side,
                    peer: public(peer),
                    usable: true,
                    fee_base: 1,
                    fee_ppm: 0,
                    min_lock: 1,
                    max_lock: 1000,
                });
                line.routers[node].connected(public(peer));
            }
        }
        line
    }

    fn carry(&mut self, from: usize, frames: Vec<Outgoing>, now: u64) {
        for (to, frame) in frames {
            let at = (0..4).find(|node| public(*node) == to).unwrap();
            assert!(gossip::is_gossip(&frame[4..]));
            match self.routers[at].frame(public(from), &frame[4..], now, &self.chain) {
                Ok(answers) => self.carry(at, answers, now),
                Err(fault) => self.faults.push(fault),
            }
        }
    }

    fn run(&mut self, seconds: std::ops::Range<u64>) {
        for second in seconds {
            for node in 0..4 {
                let now = NOW + second;
                let frames = self.routers[node].tick(now, &self.locals[node], &self.chain);
                self.carry(node, frames, now);
            }
        }
    }
}

#[test]
fn everybody_learns_every_channel_and_a_payment_finds_its_way() {
    let mut line = Routers::new();
    line.run(0..100);
    assert_eq!(line.faults, []);
    for router in &line.routers {
        assert_eq!(router.graph().channels().count(), 3);
        assert_eq!(router.graph().nodes().count(), 4);
        let whole =
            |(_, known): (&ChannelId, &KnownChannel)| known.updates.iter().all(Option::is_some);
        assert!(router.graph().channels().all(whole));
    }
    let owned = [own(line.locals[0][0].channel, 1, 1000)];
    let order = Order::keysend(DOMAIN, public(3), Preimage([1; 32]), amount(10), EXPIRY);
    let plan = |line: &Routers| line.routers[0].plan(&order, &target(&owned, 3, 10), || [9; 32]);
    let (payment, _) = plan(&line).unwrap();
    assert_eq!(payment.parts[0].amount, amount(12));
    // A fee that changes is known to all; an unusable channel leads nowhere.
    line.locals[2][1].fee_base = 5;
    line.run(100..200);
    assert_eq!(plan(&line).unwrap().0.parts[0].amount, amount(16));
    line.locals[2][1].usable = false;
    line.run(200..300);
    assert_eq!(
        plan(&line).err(),
        Some(PlanError::Route(RouteError::NoRoute(public(3))))
    );
}

#[test]
fn a_router_goes_on_from_its_snapshot() {
    let mut line = Routers::new();
    line.run(0..100);
    let bytes = line.routers[0].snapshot();
    let mut again = Router::new(KEYS[0].clone(), DOMAIN, String::new(), Vec::new(), 9);
    assert!(again.restore(&bytes[1..]).is_err());
    again.restore(&bytes).unwrap();
    assert_eq!(again.snapshot(), bytes);
    again.connected(public(1));
    let frames = again.tick(NOW + 100, &[], &line.chain);
    let cursors = frames
        .iter()
        .map(|(_, frame)| gossip::decode(&frame[4..]).unwrap());
    let asked = cursors.filter(|asked| matches!(asked, Gossip::Since { cursor: 1.., .. }));
    assert_eq!(asked.count(), 1, "not from the beginning");
}

#[test]
fn a_peer_that_lies_is_named_and_one_that_promises_more_is_not_asked_for_ever() {
    let mut line = Routers::new();
    line.run(0..50);
    let mut forged = node(2);
    forged.timestamp = NOW + 60;
    let forged = gossip::encode(&Gossip::Item(Item::Node(forged)));
    let fault = line.routers[0].frame(public(1), &forged[4..], NOW + 60, &line.chain);
    assert_eq!(fault, Err(RouterError::Fault(GossipError::Signature)));
    let empty = gossip::encode(&Gossip::Batch {
        epoch: 77,
        cursor: 5,
        more: true,
        items: Vec::new(),
    });
    let mut says = || line.routers[0].frame(public(1), &empty[4..], NOW + 60, &line.chain);
    assert_eq!(says().unwrap().len(), 1);
    assert_eq!(says().unwrap().len(), 0);
    // A signature for a channel that is not with the sender changes nothing.
    let stray = gossip::encode(&Gossip::AnnouncementSignature {
        channel: line.locals[2][1].channel,
        key: public(1),
        signature: Signature([1; 65]),
    });
    let answer = line.routers[0].frame(public(1), &stray[4..], NOW + 60, &line.chain);
    assert_eq!(answer, Ok(Vec::new()));
}

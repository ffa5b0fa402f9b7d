//! When the payer's lock is paid: with the next change of its half, or when it is time; and what that saves.

mod line;

use line::{Clear, Line, NOW};
use millrace_channels::machine::effect::{Effect, Key};
use millrace_channels::machine::payment::PaymentState;
use millrace_channels::machine::{Input, Node, Tools};
use millrace_channels::message::{Message, Update};
use millrace_channels::policy::Policy;
use millrace_channels::types::Preimage;

const UNITS: u128 = 10;

fn preimage(number: u8) -> Preimage {
    Preimage([number; 32])
}

/// Pays the second node, up to where the payer has the preimage.
fn pay(line: &mut Line, number: u8) {
    lock(line, number);
    line.carry();
}

fn lock(line: &mut Line, number: u8) {
    line.expect_invoice(1, preimage(number), UNITS);
    line.pay_over_all(preimage(number).hash(), UNITS);
}

fn received(line: &Line, number: u8) -> u128 {
    line.nodes[1].invoices()[&preimage(number).hash()].received
}

fn state(line: &Line, number: u8) -> &PaymentState {
    &line.nodes[0].payments()[&preimage(number).hash()].state
}

/// Own locks that stand, and what was paid.
fn own(line: &Line) -> (usize, u128) {
    let own = &line.nodes[0].channels()[&line.channels[0]].own;
    (own.locks.standing(), own.paid)
}

/// The only thing on its way.
fn update(line: &Line) -> &Update {
    let mut said = line.wires.iter().map(|(_, _, message)| message);
    match (said.next(), said.next()) {
        (Some(Message::Update(update)), None) => update,
        other => panic!("{other:?} instead of one update"),
    }
}

#[test]
fn a_row_of_payments_takes_one_half_each() {
    let mut line = Line::new(2);
    pay(&mut line, 1);
    assert_eq!(*state(&line, 1), PaymentState::Succeeded(preimage(1)));
    assert!(line.nodes[0].waits_to_settle());
    assert_eq!(own(&line), (1, 0));
    assert_eq!(received(&line, 1), 0, "the payee counts what was moved");
    let before = line.nodes[0].channels()[&line.channels[0]].own.version;
    for number in 2..10 {
        lock(&mut line, number);
        let update = update(&line);
        assert_eq!((update.settles.len(), update.adds.len()), (1, 1));
        line.carry();
        assert_eq!(received(&line, number - 1), UNITS);
    }
    let after = line.nodes[0].channels()[&line.channels[0]].own.version;
    assert_eq!(after - before, 8);
    assert_eq!(own(&line), (1, 8 * UNITS));
}

#[test]
fn a_settle_goes_alone_when_it_is_time() {
    for input in [Input::Settle, Input::Tick] {
        let mut line = Line::new(2);
        pay(&mut line, 1);
        line.input(0, input).unwrap();
        let update = update(&line);
        assert_eq!((update.settles.len(), update.adds.len()), (1, 0));
        assert!(!line.nodes[0].waits_to_settle());
        line.carry();
        assert_eq!(received(&line, 1), UNITS);
        // There is nothing more to say.
        line.input(0, Input::Settle).unwrap();
        assert!(line.wires.is_empty());
    }
}

#[test]
fn a_forwarder_pays_on_when_it_was_paid() {
    let mut line = Line::new(3);
    line.expect_invoice(2, preimage(1), UNITS);
    line.pay_over_all(preimage(1).hash(), UNITS);
    line.carry();
    // Rule 4: the preimage has gone to the payer, but its half has not moved.
    assert!(line.nodes[0].waits_to_settle());
    assert!(!line.nodes[1].waits_to_settle());
    line.input(0, Input::Settle).unwrap();
    line.carry();
    assert!(line.nodes[1].waits_to_settle());
    line.input(1, Input::Settle).unwrap();
    line.carry();
    assert_eq!(line.balance(2, 1), 1000 + UNITS as i128);
}

#[test]
fn the_success_is_one_record() {
    let mut line = Line::new(2);
    lock(&mut line, 1);
    let mut written = Vec::new();
    while let Some((from, to, message)) = line.wires.pop_front() {
        let at = line.at(&to);
        let fulfils = matches!(message, Message::Fulfil { .. });
        let tools = Tools {
            keys: &line.keys[at],
            onions: &Clear,
        };
        let (effects, _) = line.nodes[at].step(NOW, Input::Message { from, message }, tools);
        for effect in effects {
            match effect {
                Effect::Send { to, message } => {
                    line.wires.push_back((line.keys[at].public(), to, message));
                }
                Effect::Persist(records) if fulfils => {
                    written.extend(records.into_iter().map(|record| record.key));
                }
                _ => {}
            }
        }
    }
    assert_eq!(written, [Key::Payment(preimage(1).hash())]);
}

#[test]
fn what_waited_is_settled_after_a_restart() {
    let mut line = Line::new(2);
    pay(&mut line, 1);
    let records = line.nodes[0].records();
    let records = records
        .iter()
        .filter_map(|record| Some((&record.key, record.value.as_deref()?)));
    let identity = line.nodes[0].identity().clone();
    let again = Node::restore(identity, records).unwrap();
    line.nodes[0] = again;
    assert_eq!(*state(&line, 1), PaymentState::Succeeded(preimage(1)));
    line.see(&[]);
    for (at, peer) in [(0, 1), (1, 0)] {
        let peer = line.keys[peer].public();
        line.input(at, Input::Connected(peer)).unwrap();
    }
    line.settle();
    assert_eq!(own(&line), (0, UNITS));
    assert_eq!(received(&line, 1), UNITS);
}

#[test]
fn what_waits_takes_no_place_of_a_lock() {
    let policy = Policy {
        max_locks: 3,
        ..Policy::default()
    };
    let mut line = Line::with(2, &policy);
    for number in 1..=3 {
        lock(&mut line, number);
    }
    line.carry();
    assert_eq!(own(&line), (3, 0));
    lock(&mut line, 4);
    assert_eq!(own(&line), (1, 3 * UNITS));
    line.settle();
    assert_eq!(received(&line, 4), UNITS);
}

#[test]
fn who_closes_settles_first() {
    let mut line = Line::new(2);
    pay(&mut line, 1);
    let channel = line.channels[0];
    line.input(0, Input::ForceClose(channel)).unwrap();
    assert_eq!(own(&line), (0, UNITS));
}

#[test]
fn gone_locks_do_not_gather_in_the_record() {
    let policy = Policy {
        ack_every: 10_000,
        max_unechoed: 10_000,
        ..Policy::default()
    };
    let mut line = Line::with(2, &policy);
    let mut most = 0;
    for number in 0..=250 {
        line.expect_invoice(1, preimage(number), 1);
        line.pay_over_all(preimage(number).hash(), 1);
        line.carry();
        let own = &line.nodes[0].channels()[&line.channels[0]].own;
        most = most.max(own.locks.len());
    }
    assert!((100..=104).contains(&most), "{most}");
}

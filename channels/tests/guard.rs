//! Rule 9: what waits for a tower's receipt above the limit, what does not, and how the waiting ends.

mod line;

use line::{EXPIRY, Line, amount, direct};
use millrace_channels::machine::effect::{Key, Notice};
use millrace_channels::machine::guard::TowerStep;
use millrace_channels::machine::payment::{InvoiceState, NewPayment, Part, PaymentState};
use millrace_channels::machine::{Input, Node, StepError};
use millrace_channels::policy::Policy;
use millrace_channels::types::{ChannelId, Preimage};

const LIMIT: u128 = 50;
const PREIMAGE: Preimage = Preimage([3; 32]);

/// Nodes whose tower confirms nothing but what the test says.
fn limited(count: u8) -> Line {
    Line::with(
        count,
        &Policy {
            tower_limit: Some(LIMIT),
            ..Policy::default()
        },
    )
}

/// A tower of this node confirms what it would be given now.
fn confirm(line: &mut Line, at: usize, channel: usize) {
    let id = line.channels[channel];
    let known = &line.nodes[at].channels()[&id];
    let (own, held) = (known.own.echoed, known.held.half.version);
    let receipt = Input::Guarded {
        channel: id,
        own,
        held,
    };
    line.input(at, receipt).unwrap();
    line.settle();
}

fn steps(line: &Line, at: usize, channel: usize) -> Vec<TowerStep> {
    let waits = line.nodes[at].waits_for_tower(&line.channels[channel]);
    waits.iter().map(|wait| wait.step).collect()
}

fn locks(line: &Line, at: usize, channel: usize) -> usize {
    let known = &line.nodes[at].channels()[&line.channels[channel]];
    known.own.standing().count()
}

/// The node from its records, as after a crash; its tower's receipts are lost with the process.
fn restart(line: &mut Line, at: usize) {
    let identity = line.nodes[at].identity().clone();
    let records: Vec<(Key, Vec<u8>)> = line.nodes[at]
        .records()
        .into_iter()
        .filter_map(|record| Some((record.key, record.value?)))
        .collect();
    let pairs = records.iter().map(|(key, bytes)| (key, bytes.as_slice()));
    line.nodes[at] = Node::restore(identity, pairs).unwrap();
    line.see(&[]);
    for other in 0..line.keys.len() {
        if other.abs_diff(at) == 1 {
            let (own, peer) = (line.keys[at].public(), line.keys[other].public());
            line.input(other, Input::Disconnected(own)).unwrap();
            line.input(other, Input::Connected(own)).unwrap();
            line.input(at, Input::Connected(peer)).unwrap();
        }
    }
    line.settle();
}

fn directs(line: &Line, at: usize) -> Vec<u128> {
    let told = line.notices.iter().filter(|(node, _)| *node == at);
    told.filter_map(|(_, notice)| match notice {
        Notice::DirectReceived { amount, .. } => Some(amount.get()),
        _ => None,
    })
    .collect()
}

#[test]
fn below_the_limit_nothing_waits() {
    let mut line = limited(3);
    line.expect_invoice(2, PREIMAGE, LIMIT - 1);
    line.pay_over_all(PREIMAGE.hash(), LIMIT - 1);
    line.settle();
    assert_eq!(
        line.nodes[0].payments()[&PREIMAGE.hash()].state,
        PaymentState::Succeeded(PREIMAGE)
    );
    assert_eq!(
        line.nodes[2].invoices()[&PREIMAGE.hash()].received,
        LIMIT - 1
    );
    let channel = line.channels[0];
    let pay = direct(LIMIT);
    line.input(
        0,
        Input::PayDirect {
            channel,
            direct: pay,
        },
    )
    .unwrap();
    line.settle();
    assert_eq!(directs(&line, 1), [LIMIT]);
}

#[test]
fn a_forward_a_release_and_the_money_each_wait_for_their_receipt() {
    let mut line = limited(3);
    let hash = PREIMAGE.hash();
    line.expect_invoice(2, PREIMAGE, 100);
    line.pay_over_all(hash, 100);
    line.settle();
    // The hop has the lock and passes nothing on.
    assert_eq!(locks(&line, 1, 1), 0);
    assert_eq!(steps(&line, 1, 0), [TowerStep::Forward]);
    confirm(&mut line, 1, 0);
    // The payee has the lock and releases nothing.
    assert_eq!(locks(&line, 1, 1), 1);
    assert_eq!(steps(&line, 2, 1), [TowerStep::Release]);
    assert_eq!(line.nodes[2].invoices()[&hash].state, InvoiceState::Open);
    confirm(&mut line, 2, 1);
    // The payer has paid the hop; the hop does not count on that, and pays nothing.
    assert_eq!(
        line.nodes[2].invoices()[&hash].state,
        InvoiceState::Released
    );
    assert_eq!(
        line.nodes[0].payments()[&hash].state,
        PaymentState::Succeeded(PREIMAGE)
    );
    assert_eq!(steps(&line, 1, 0), [TowerStep::Income]);
    assert_eq!(locks(&line, 1, 1), 1);
    confirm(&mut line, 1, 0);
    // The hop has paid the payee, which tells nobody yet.
    assert_eq!(locks(&line, 1, 1), 0);
    assert_eq!(steps(&line, 2, 1), [TowerStep::Income]);
    assert_eq!(line.nodes[2].invoices()[&hash].received, 0);
    confirm(&mut line, 2, 1);
    assert_eq!(line.nodes[2].invoices()[&hash].received, 100);
    assert!((0..3).all(|at| steps(&line, at, at.min(1)).is_empty()));
}

#[test]
fn a_failure_goes_upstream_when_the_tower_holds_the_half_without_the_lock() {
    let mut line = limited(3);
    // Nobody expects it: the last node fails it.
    let hash = PREIMAGE.hash();
    line.pay_over_all(hash, 100);
    line.settle();
    confirm(&mut line, 1, 0);
    let middle = &line.nodes[1].channels()[&line.channels[1]];
    assert_eq!(locks(&line, 1, 1), 0, "dropped");
    assert_eq!(middle.own.echoed, middle.own.version, "and echoed");
    assert_eq!(steps(&line, 1, 1), [TowerStep::Fail]);
    assert_eq!(locks(&line, 0, 0), 1, "not failed upstream");
    // A tower one version behind is not enough.
    let (channel, own) = (line.channels[1], middle.own.echoed - 1);
    let behind = Input::Guarded {
        channel,
        own,
        held: u64::MAX,
    };
    line.input(1, behind).unwrap();
    line.settle();
    assert_eq!(locks(&line, 0, 0), 1);
    confirm(&mut line, 1, 1);
    // The payer too waits, before it calls the payment failed: it could be paid again.
    assert_eq!(locks(&line, 0, 0), 0);
    assert_eq!(line.nodes[0].payments()[&hash].state, PaymentState::Pending);
    assert_eq!(steps(&line, 0, 0), [TowerStep::Fail]);
    confirm(&mut line, 0, 0);
    assert!(matches!(
        line.nodes[0].payments()[&hash].state,
        PaymentState::Failed(_)
    ));
}

#[test]
fn a_direct_payment_is_told_when_the_tower_holds_it_and_holds_up_no_other() {
    let mut line = limited(2);
    let channel = line.channels[0];
    for units in [100, 7] {
        let pay = Input::PayDirect {
            channel,
            direct: direct(units),
        };
        line.input(0, pay).unwrap();
        line.settle();
    }
    assert_eq!(directs(&line, 1), [7]);
    assert_eq!(steps(&line, 1, 0), [TowerStep::Income]);
    confirm(&mut line, 1, 0);
    assert_eq!(directs(&line, 1), [7, 100]);
    confirm(&mut line, 1, 0);
    assert_eq!(directs(&line, 1), [7, 100], "once");
}

#[test]
fn what_waits_survives_a_restart() {
    let mut line = limited(3);
    let hash = PREIMAGE.hash();
    line.expect_invoice(2, PREIMAGE, 100);
    line.pay_over_all(hash, 100);
    line.settle();
    restart(&mut line, 1);
    assert_eq!(steps(&line, 1, 0), [TowerStep::Forward]);
    confirm(&mut line, 1, 0);
    restart(&mut line, 2);
    assert_eq!(steps(&line, 2, 1), [TowerStep::Release]);
    confirm(&mut line, 2, 1);
    restart(&mut line, 1);
    assert_eq!(steps(&line, 1, 0), [TowerStep::Income]);
    confirm(&mut line, 1, 0);
    restart(&mut line, 2);
    assert_eq!(steps(&line, 2, 1), [TowerStep::Income]);
    confirm(&mut line, 2, 1);
    assert_eq!(line.nodes[2].invoices()[&hash].received, 100);
}

#[test]
fn a_payment_that_waits_too_long_is_given_back() {
    for confirmed in [false, true] {
        let mut line = limited(3);
        let hash = PREIMAGE.hash();
        line.expect_invoice(2, PREIMAGE, 100);
        line.pay_over_all(hash, 100);
        line.settle();
        let policy = line.nodes[1].identity().policy.clone();
        let mut last = EXPIRY - policy.min_expiry_ahead;
        if confirmed {
            confirm(&mut line, 1, 0);
            last = EXPIRY - 2 * policy.reveal_margin;
        }
        let waiting = if confirmed { (2, 1) } else { (1, 0) };
        let wait = line.nodes[waiting.0].waits_for_tower(&line.channels[waiting.1])[0];
        assert_eq!((wait.until, wait.hash), (Some(last), Some(hash)));
        line.now = last + 1;
        line.see(&[]);
        line.settle();
        for (at, channel) in [(1, 1), (0, 0)] {
            if confirmed || at == 0 {
                confirm(&mut line, at, channel);
            }
        }
        assert!(
            matches!(
                line.nodes[0].payments()[&hash].state,
                PaymentState::Failed(_)
            ),
            "{confirmed}"
        );
        assert_eq!(line.nodes[2].invoices()[&hash].state, InvoiceState::Open);
        assert_eq!(line.balance(0, 0), 1000);
    }
}

#[test]
fn a_payment_in_parts_is_compared_as_a_whole() {
    let mut line = limited(2);
    let hash = PREIMAGE.hash();
    line.expect_invoice(1, PREIMAGE, 100);
    let part = Part {
        channel: line.channels[0],
        amount: amount(LIMIT),
        onion: Line::deliver(100),
    };
    let payment = NewPayment {
        hash,
        expiry: EXPIRY,
        parts: vec![part.clone(), part],
    };
    line.input(0, Input::Pay(payment)).unwrap();
    line.settle();
    assert_eq!(steps(&line, 1, 0), [TowerStep::Release]);
    confirm(&mut line, 1, 0);
    assert_eq!(
        line.nodes[1].invoices()[&hash].state,
        InvoiceState::Released
    );
    confirm(&mut line, 1, 0);
    assert_eq!(line.nodes[1].invoices()[&hash].received, 100);
}

#[test]
fn a_hold_invoice_is_held_when_the_tower_holds_it() {
    let mut line = limited(2);
    let hash = PREIMAGE.hash();
    line.expect_hold_invoice(1, PREIMAGE, 100);
    line.pay_over_all(hash, 100);
    line.settle();
    assert_eq!(
        line.input(1, Input::Release(hash)),
        Err(StepError::NoInvoice(hash))
    );
    confirm(&mut line, 1, 0);
    assert_eq!(line.nodes[1].invoices()[&hash].state, InvoiceState::Held);
    // Another tower, after a restart: it has not confirmed anything.
    restart(&mut line, 1);
    let until = EXPIRY - 2 * line.nodes[1].identity().policy.reveal_margin;
    assert_eq!(
        line.input(1, Input::Release(hash)),
        Err(StepError::Unguarded { hash, until })
    );
    confirm(&mut line, 1, 0);
    line.input(1, Input::Release(hash)).unwrap();
    line.settle();
    assert_eq!(
        line.nodes[1].invoices()[&hash].state,
        InvoiceState::Released
    );
}

#[test]
fn a_lock_that_waited_is_not_passed_on_when_its_preimage_is_out() {
    let mut line = limited(3);
    let hash = PREIMAGE.hash();
    line.expect_invoice(2, PREIMAGE, 100);
    line.pay_over_all(hash, 100);
    line.settle();
    line.see(&[(PREIMAGE, line.now)]);
    confirm(&mut line, 1, 0);
    assert_eq!(locks(&line, 1, 1), 0);
    let answered = line.nodes[1].channels()[&line.channels[0]]
        .held
        .locks
        .values()
        .all(|peer| peer.answer.is_some());
    assert!(answered, "it was failed");
}

#[test]
fn receipts_never_go_back_and_need_a_channel() {
    let mut line = limited(2);
    let channel = line.channels[0];
    let receipt = |own, held| Input::Guarded { channel, own, held };
    line.input(0, receipt(5, 7)).unwrap();
    line.input(0, receipt(6, 2)).unwrap();
    let guarded = line.nodes[0].channels()[&channel].guarded;
    assert_eq!((guarded.own, guarded.held), (6, 7));
    let nowhere = ChannelId([0; 32]);
    let unknown = Input::Guarded {
        channel: nowhere,
        own: 1,
        held: 1,
    };
    assert_eq!(
        line.input(0, unknown),
        Err(StepError::UnknownChannel(nowhere))
    );
}

/// A record of schema 1 ends before what waits for a tower, one of schema 2 before what may be lost of the peer.
#[test]
fn records_of_older_schemas_are_read() {
    let mut line = Line::new(2);
    let channel = line.channels[0];
    let pay = Input::PayDirect {
        channel,
        direct: direct(10),
    };
    line.input(0, pay).unwrap();
    line.settle();
    let records: Vec<(Key, Vec<u8>)> = line.nodes[1]
        .records()
        .into_iter()
        .filter_map(|record| Some((record.key, record.value?)))
        .collect();
    let [(key @ Key::Channel(_), bytes)] = records.as_slice() else {
        panic!("one channel, nothing else");
    };
    let identity = line.nodes[1].identity().clone();
    for lacking in [2, 5] {
        let (older, added) = bytes.split_at(bytes.len() - lacking);
        assert!(added.iter().all(|byte| *byte == 0));
        let node = Node::restore(identity.clone(), [(key, older)]).unwrap();
        assert_eq!(node.records()[0].value.as_ref(), Some(bytes));
    }
    assert!(Node::restore(identity, [(key, &bytes[..bytes.len() - 6])]).is_err());
}

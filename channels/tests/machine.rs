//! Two and three nodes with real keys, in the words of their users: open, pay, route, withdraw, close; and what they refuse.

mod line;

use line::{Clear, EXPIRY, Line, NOW, amount, direct};
use millrace_channels::machine::clock::{JUMP_SECS, first_version};
use millrace_channels::machine::effect::{Notice, Transaction};
use millrace_channels::machine::payment::{
    Hop, Invoice, InvoiceState, NewPayment, Part, PaymentState,
};
use millrace_channels::machine::{Input, Node, StepError, Tools};
use millrace_channels::message::{Message, Refusal};
use millrace_channels::policy::Policy;
use millrace_channels::signing::{HotKey, recover};
use millrace_channels::state::{MAX_LOCKS, Params};
use millrace_channels::types::{Address, ChannelId, Hash32, Preimage, Side};

#[test]
fn direct_payments_go_both_ways() {
    let mut line = Line::new(2);
    let channel = line.channels[0];
    for round in 0..50 {
        let (from, units) = (round % 2, 10 + round as u128);
        line.input(
            from,
            Input::PayDirect {
                channel,
                direct: direct(units),
            },
        )
        .unwrap();
        line.settle();
    }
    assert_eq!(line.balance(0, 0) + line.balance(1, 0), 2000);
    assert_eq!(line.balance(0, 0), 1000 + 25);
    assert!(
        line.nodes
            .iter()
            .all(|node| node.channels()[&channel].fault.is_none())
    );
}

#[test]
fn payments_of_one_step_share_a_signature() {
    let mut line = Line::new(2);
    let channel = line.channels[0];
    let version = line.nodes[0].channels()[&channel].own.version;
    for _ in 0..20 {
        let tools = Tools {
            keys: &line.keys[0],
            onions: &Clear,
        };
        let pay = Input::PayDirect {
            channel,
            direct: direct(1),
        };
        line.nodes[0].apply(NOW, pay, tools).unwrap();
    }
    line.input(0, Input::Tick).unwrap();
    line.settle();
    assert_eq!(version, 0);
    let first = first_version(NOW);
    assert_eq!(line.nodes[0].channels()[&channel].own.version, first);
    assert_eq!(line.balance(1, 0), 1020);
}

#[test]
fn a_routed_payment_moves_money_over_each_hop() {
    let mut line = Line::new(3);
    let preimage = Preimage([3; 32]);
    line.expect_invoice(2, preimage, 100);
    let onion = postcard::to_stdvec(&Hop::Forward {
        channel: line.channels[1],
        amount: amount(100),
        expiry: EXPIRY,
        onion: Line::deliver(100),
    })
    .unwrap();
    let parts = vec![Part {
        channel: line.channels[0],
        amount: amount(101),
        onion,
    }];
    let hash = preimage.hash();
    line.input(
        0,
        Input::Pay(NewPayment {
            hash,
            expiry: EXPIRY,
            parts,
        }),
    )
    .unwrap();
    line.settle();
    assert_eq!(
        line.nodes[0].payments()[&hash].state,
        PaymentState::Succeeded(preimage)
    );
    assert_eq!(line.nodes[2].invoices()[&hash].received, 100);
    assert_eq!(line.balance(0, 0), 899);
    assert_eq!(line.balance(1, 0) + line.balance(1, 1), 2001);
    assert_eq!(line.balance(2, 1), 1100);
    let again = NewPayment {
        hash,
        expiry: EXPIRY,
        parts: Vec::new(),
    };
    assert_eq!(
        line.input(0, Input::Pay(again)),
        Err(StepError::KnownPayment(hash))
    );
}

#[test]
fn a_payment_to_nobody_fails_and_gives_everything_back() {
    let mut line = Line::new(2);
    let hash = Preimage([4; 32]).hash();
    let parts = vec![Part {
        channel: line.channels[0],
        amount: amount(5),
        onion: Line::deliver(5),
    }];
    line.input(
        0,
        Input::Pay(NewPayment {
            hash,
            expiry: EXPIRY,
            parts,
        }),
    )
    .unwrap();
    line.settle();
    assert!(matches!(
        line.nodes[0].payments()[&hash].state,
        PaymentState::Failed(_)
    ));
    assert_eq!(line.balance(0, 0), 1000);
    assert!(
        line.nodes[0].channels()[&line.channels[0]]
            .own
            .locks
            .is_empty(),
        "echoed and forgotten"
    );
}

#[test]
fn what_is_asked_wrongly_is_named() {
    let mut line = Line::new(2);
    let channel = line.channels[0];
    let pay = |direct| Input::PayDirect { channel, direct };
    assert_eq!(line.input(0, pay(direct(0))), Err(StepError::Zero));
    assert_eq!(
        line.input(0, pay(direct(1001))),
        Err(StepError::Balance {
            wanted: 1001,
            available: 1000
        })
    );
    let nowhere = ChannelId([0; 32]);
    assert_eq!(
        line.input(0, Input::ForceClose(nowhere)),
        Err(StepError::UnknownChannel(nowhere))
    );
    let hash = Preimage([7; 32]).hash();
    for expiry in [NOW, NOW + 60, NOW + 5 * 3600] {
        let parts = vec![Part {
            channel,
            amount: amount(1),
            onion: Vec::new(),
        }];
        let result = line.input(
            0,
            Input::Pay(NewPayment {
                hash,
                expiry,
                parts,
            }),
        );
        assert!(
            matches!(result, Err(StepError::Expiry { .. })),
            "{result:?}"
        );
    }
    let stranger = HotKey::new([77; 32]).unwrap().public();
    let message = Message::Ack {
        channel,
        version: 0,
    };
    assert_eq!(
        line.input(
            0,
            Input::Message {
                from: stranger,
                message
            }
        ),
        Err(StepError::WrongPeer(channel))
    );
}

#[test]
fn the_201st_lock_does_not_fit() {
    let mut line = Line::new(2);
    let channel = line.channels[0];
    for number in 0..=MAX_LOCKS {
        let mut bytes = [8; 32];
        bytes[..8].copy_from_slice(&(number as u64).to_be_bytes());
        let parts = vec![Part {
            channel,
            amount: amount(1),
            onion: Line::deliver(1),
        }];
        let hash = Preimage(bytes).hash();
        // Nothing is delivered, so every lock stands.
        let result = line.input(
            0,
            Input::Pay(NewPayment {
                hash,
                expiry: EXPIRY,
                parts,
            }),
        );
        let expected = if number < MAX_LOCKS {
            Ok(())
        } else {
            Err(StepError::Slots)
        };
        assert_eq!(result, expected, "lock {number}");
    }
}

#[test]
fn an_altered_update_is_refused_and_changes_nothing() {
    let mut line = Line::new(2);
    let channel = line.channels[0];
    line.input(
        0,
        Input::PayDirect {
            channel,
            direct: direct(10),
        },
    )
    .unwrap();
    let (from, to, message) = line.wires.pop_front().unwrap();
    let Message::Update(mut update) = message else {
        panic!("an update was due")
    };
    update.half.paid += 1;
    let message = Message::Update(update);
    let at = line.at(&to);
    line.input(at, Input::Message { from, message }).unwrap();
    let refused = line.wires.iter().any(|(_, _, message)| {
        matches!(
            message,
            Message::Refuse {
                refusal: Refusal::Signature,
                ..
            }
        )
    });
    assert!(refused);
    assert_eq!(line.balance(1, 0), 1000);
}

#[test]
fn an_old_database_gets_back_what_it_had_signed_and_goes_on_far_above() {
    let mut line = Line::new(2);
    let channel = line.channels[0];
    let records = line.nodes[0].records();
    let pairs = records
        .iter()
        .map(|record| (&record.key, record.value.as_deref().unwrap()));
    let twin = Node::restore(line.nodes[0].identity().clone(), pairs).unwrap();
    line.input(
        0,
        Input::PayDirect {
            channel,
            direct: direct(10),
        },
    )
    .unwrap();
    line.settle();
    let peer = line.keys[1].public();
    line.nodes[0] = twin;
    line.input(0, Input::Connected(peer)).unwrap();
    line.see(&[]);
    line.settle();
    let found = &line.nodes[0].channels()[&channel];
    assert_eq!(
        (found.own.version, found.own.paid, found.fault),
        (first_version(NOW), 10, None)
    );
    let again = Input::PayDirect {
        channel,
        direct: direct(11),
    };
    // A payout that it has forgotten might still execute.
    let until = NOW + Policy::default().quiet();
    assert_eq!(
        line.input(0, again.clone()),
        Err(StepError::Recovering { channel, until })
    );
    line.now = until + 1;
    line.see(&[]);
    line.input(0, again).unwrap();
    line.settle();
    assert_eq!(line.balance(1, 0), 1021);
    assert_eq!(
        line.nodes[1].channels()[&channel].held.half.version,
        first_version(until + 1 + JUMP_SECS)
    );
    let told = (0, Notice::Recovered { channel });
    assert!(line.notices.contains(&told), "its user is told");
}

#[test]
fn who_has_lost_everything_under_a_forward_is_given_it_back_and_ends_it() {
    let mut line = Line::new(3);
    let (preimage, hash) = (Preimage([3; 32]), Preimage([3; 32]).hash());
    line.input(
        2,
        Input::AddInvoice(Invoice {
            preimage,
            token: Address::ZERO,
            amount: Some(amount(100)),
            secret: Hash32([6; 32]),
            hold: true,
            state: InvoiceState::Open,
            received: 0,
            released: 0,
        }),
    )
    .unwrap();
    let onion = postcard::to_stdvec(&Hop::Forward {
        channel: line.channels[1],
        amount: amount(100),
        expiry: EXPIRY,
        onion: Line::deliver(100),
    })
    .unwrap();
    let parts = vec![Part {
        channel: line.channels[0],
        amount: amount(101),
        onion,
    }];
    let payment = NewPayment {
        hash,
        expiry: EXPIRY,
        parts,
    };
    line.input(0, Input::Pay(payment)).unwrap();
    line.settle();
    // Nothing is left of the one in the middle but its key and what L1 shows, which names peers by their addresses.
    let identity = line.nodes[1].identity().clone();
    let params: Vec<(Params, Side)> = line.nodes[1]
        .channels()
        .values()
        .map(|channel| (channel.params, channel.side))
        .collect();
    let mut empty = Node::new(identity);
    for (params, side) in params {
        let stranger = line.keys[1].public();
        assert_eq!(
            empty.add_lost(params, side, Some(stranger), &line.keys[1]),
            Err(StepError::NotOurs)
        );
        empty.add_lost(params, side, None, &line.keys[1]).unwrap();
    }
    line.nodes[1] = empty;
    let middle = line.keys[1].public();
    for peer in [0, 2] {
        let key = line.keys[peer].public();
        line.input(1, Input::Connected(key)).unwrap();
        line.input(peer, Input::Disconnected(middle)).unwrap();
        line.input(peer, Input::Connected(middle)).unwrap();
    }
    line.see(&[]);
    line.settle();
    // What it had not echoed yet comes once more, under a version above all that may be lost.
    let lost_at = line.now;
    let echoed = line.nodes[1].channels()[&line.channels[0]].held.half;
    assert_eq!(echoed.version, 0);
    for pause in [40 * 60, 10] {
        line.now += pause;
        line.see(&[]);
        for at in 0..3 {
            line.input(at, Input::Tick).unwrap();
        }
        line.settle();
    }
    for (at, id) in line.channels.clone().into_iter().enumerate() {
        let found = &line.nodes[1].channels()[&id];
        let theirs = &line.nodes[2 * at].channels()[&id];
        assert_eq!(found.fault, None);
        assert_eq!(found.peer, line.keys[2 * at].public());
        assert_eq!(found.held.half, *theirs.own.newest());
        assert_eq!(*found.own.newest(), theirs.held.half);
    }
    // The forward goes on as if nothing had happened, to its end.
    line.now = lost_at + Policy::default().quiet() + 1;
    assert!(line.now < EXPIRY, "the lock is alive when the quiet ends");
    line.see(&[]);
    line.settle();
    line.input(2, Input::Release(hash)).unwrap();
    line.settle();
    assert_eq!(
        line.nodes[0].payments()[&hash].state,
        PaymentState::Succeeded(preimage)
    );
    assert_eq!(line.balance(0, 0), 899);
    assert_eq!(line.balance(1, 0) + line.balance(1, 1), 2001);
    assert_eq!(line.balance(2, 1), 1100);
}

#[test]
fn a_cooperative_close_carries_two_signatures_that_the_contract_takes() {
    let mut line = Line::new(2);
    let channel = line.channels[0];
    line.input(
        0,
        Input::PayDirect {
            channel,
            direct: direct(10),
        },
    )
    .unwrap();
    line.settle();
    line.input(0, Input::CloseCooperatively(channel)).unwrap();
    line.settle();
    let Some(Transaction::Cooperate {
        coop,
        params,
        signature_a,
        signature_b,
    }) = line.transactions.pop()
    else {
        panic!("the proposer broadcasts")
    };
    assert_eq!((coop.pay_a, coop.pay_b), (990, 1010));
    let separator = line.nodes[0].identity().domain.separator();
    let digest = millrace_channels::digest::coop(&separator, &channel, &coop);
    assert_eq!(recover(&digest, &signature_a), Some(params.signer_a));
    assert_eq!(recover(&digest, &signature_b), Some(params.signer_b));
    let result = line.input(
        1,
        Input::PayDirect {
            channel,
            direct: direct(1),
        },
    );
    assert_eq!(
        result,
        Err(StepError::NotOpen(channel)),
        "nothing moves meanwhile"
    );
}

#[test]
fn a_force_close_submits_what_both_have_signed() {
    let mut line = Line::new(2);
    let channel = line.channels[0];
    line.input(
        0,
        Input::PayDirect {
            channel,
            direct: direct(10),
        },
    )
    .unwrap();
    line.settle();
    line.input(1, Input::ForceClose(channel)).unwrap();
    let Some(Transaction::Submit {
        halves,
        params,
        signatures,
        ..
    }) = line.transactions.pop()
    else {
        panic!("a force close submits")
    };
    let separator = line.nodes[0].identity().domain.separator();
    let digest = millrace_channels::digest::snapshot(&separator, &channel, &halves);
    let (a, b) = signatures.unwrap();
    assert_eq!(recover(&digest, &a), Some(params.signer_a));
    assert_eq!(recover(&digest, &b), Some(params.signer_b));
    assert_eq!(halves.a.paid, 10);
}

#[test]
fn a_part_that_failed_is_replaced_while_the_other_stands() {
    let mut line = Line::new(2);
    let preimage = Preimage([7; 32]);
    let hash = preimage.hash();
    line.expect_invoice(1, preimage, 100);
    let channel = line.channels[0];
    let part = |units, onion| Part {
        channel,
        amount: amount(units),
        onion,
    };
    let payment = |parts| NewPayment {
        hash,
        expiry: EXPIRY,
        parts,
    };
    // There is nothing yet that could be added to.
    let early = payment(vec![part(40, Line::deliver(100))]);
    assert_eq!(
        line.input(0, Input::AddParts(early)),
        Err(StepError::KnownPayment(hash))
    );
    // The second part's onion does not open.
    let both = vec![part(60, Line::deliver(100)), part(40, vec![1])];
    line.input(0, Input::Pay(payment(both))).unwrap();
    line.settle();
    let failed = line.notices.iter().filter_map(|(at, notice)| match notice {
        Notice::PartFailed { amount, .. } => Some((*at, *amount)),
        _ => None,
    });
    assert_eq!(failed.collect::<Vec<_>>(), [(0, 40)]);
    let known = &line.nodes[0].payments()[&hash];
    assert_eq!((known.open_parts, known.pending), (1, 60));
    assert_eq!(known.state, PaymentState::Pending);
    // More than there is does not fit, and changes nothing.
    let much = payment(vec![part(5000, Line::deliver(100))]);
    assert!(matches!(
        line.input(0, Input::AddParts(much)),
        Err(StepError::Balance { .. })
    ));
    let other = payment(vec![part(40, Line::deliver(100))]);
    line.input(0, Input::AddParts(other.clone())).unwrap();
    line.settle();
    let known = &line.nodes[0].payments()[&hash];
    assert_eq!(known.state, PaymentState::Succeeded(preimage));
    assert_eq!((known.open_parts, known.paid, known.pending), (0, 100, 0));
    assert_eq!(line.balance(0, 0), 900);
    // Nothing is added to what has ended.
    assert_eq!(
        line.input(0, Input::AddParts(other)),
        Err(StepError::KnownPayment(hash))
    );
}

#[test]
fn nothing_is_added_once_the_preimage_is_out() {
    let mut line = Line::new(2);
    let preimage = Preimage([8; 32]);
    let hash = preimage.hash();
    line.expect_hold_invoice(1, preimage, 100);
    let channel = line.channels[0];
    let payment = NewPayment {
        hash,
        expiry: EXPIRY,
        parts: vec![Part {
            channel,
            amount: amount(60),
            onion: Line::deliver(100),
        }],
    };
    line.input(0, Input::Pay(payment.clone())).unwrap();
    line.settle();
    // Whoever holds it could take a lock that is added now.
    line.see(&[(preimage, NOW)]);
    assert_eq!(
        line.input(0, Input::AddParts(payment)),
        Err(StepError::KnownPayment(hash))
    );
}

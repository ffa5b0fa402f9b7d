//! Versions that follow the clock: how halves are numbered, which numbers are taken, and a peer that hides its newest half
//! beside a node that was restored without a tower.

mod line;

use line::{Clear, EXPIRY, Line, NOW, amount, direct};
use millrace_channels::digest;
use millrace_channels::machine::clock::{JUMP_SECS, first_version};
use millrace_channels::machine::dispute::{ChainReport, Level};
use millrace_channels::machine::effect::{Key, Notice, Transaction};
use millrace_channels::machine::payment::{InvoiceState, NewPayment, Part, PaymentState};
use millrace_channels::machine::{Input, Node, StepError, Tools};
use millrace_channels::message::{Message, Refusal, Update};
use millrace_channels::policy::Policy;
use millrace_channels::signing::{Keys, recover};
use millrace_channels::state::{Half, Halves};
use millrace_channels::types::{ChannelId, Preimage, Side, Timestamp, Version};
use proptest::prelude::*;

type Records = Vec<(Key, Vec<u8>)>;

fn records(line: &Line, at: usize) -> Records {
    let records = line.nodes[at].records().into_iter();
    records
        .filter_map(|record| Some((record.key, record.value?)))
        .collect()
}

fn pay(line: &mut Line, from: usize, units: u128) -> Result<(), StepError> {
    let channel = line.channels[0];
    let direct = direct(units);
    line.input(from, Input::PayDirect { channel, direct })
}

fn paid(line: &mut Line, from: usize, units: u128) {
    pay(line, from, units).unwrap();
    line.settle();
}

fn own(line: &Line, at: usize) -> Version {
    line.nodes[at].channels()[&line.channels[0]].own.version
}

fn held(line: &Line, at: usize) -> Half {
    line.nodes[at].channels()[&line.channels[0]].held.half
}

/// Passes time and lets everybody see L1, so that what was refused is sent again.
fn pass(line: &mut Line, seconds: u64) {
    line.now += seconds;
    line.see(&[]);
    for _ in 0..3 {
        line.now += line.nodes[0].identity().policy.resend_after;
        line.see(&[]);
        for at in 0..line.nodes.len() {
            line.input(at, Input::Tick).unwrap();
        }
        line.settle();
    }
}

/// Starts a node from records: as one that knows that they are old, or as a peer that goes back and does not say so.
fn start(line: &mut Line, at: usize, records: &Records, honest: bool) {
    let identity = line.nodes[at].identity().clone();
    let pairs = records.iter().map(|(key, bytes)| (key, bytes.as_slice()));
    line.nodes[at] = match honest {
        true => Node::from_backup(identity, pairs).unwrap(),
        false => Node::restore(identity, pairs).unwrap(),
    };
    line.wires.clear();
}

fn connect(line: &mut Line) {
    line.see(&[]);
    let keys = [line.keys[0].public(), line.keys[1].public()];
    for (at, peer) in [(0, keys[1]), (1, keys[0])] {
        line.input(at, Input::Disconnected(peer)).unwrap();
        line.input(at, Input::Connected(peer)).unwrap();
    }
    line.settle();
}

fn update_on_its_way(line: &mut Line) -> Update {
    match line.wires.pop_front() {
        Some((_, _, Message::Update(update))) => *update,
        other => panic!("an update was due, not {other:?}"),
    }
}

/// L1's time as one node sees it, with nothing else new.
fn sees_time(line: &mut Line, at: usize, timestamp: Timestamp) {
    for level in [Level::Final, Level::Head] {
        let report = ChainReport {
            level,
            timestamp,
            channels: Vec::new(),
            reveals: Vec::new(),
        };
        line.input(at, Input::Chain(report)).unwrap();
    }
}

/// An update of node 0 under another version, signed by it: what only somebody dishonest makes.
fn renumber(line: &Line, mut update: Update, version: Version) -> Message {
    update.half.version = version;
    let echo = line.nodes[1].channels()[&update.channel].own.halves[&update.echo];
    let halves = Halves::of(Side::A, update.half, echo);
    let separator = line.nodes[0].identity().domain.separator();
    update.signature = line.keys[0].sign(&digest::snapshot(&separator, &update.channel, &halves));
    Message::Update(Box::new(update))
}

/// What node 1 answers to a message of node 0.
fn refusal_of(line: &mut Line, message: Message) -> Option<Refusal> {
    let from = line.keys[0].public();
    line.input(1, Input::Message { from, message }).unwrap();
    let said = line.wires.drain(..).map(|(_, _, message)| message);
    let mut refusals = said.filter_map(|message| match message {
        Message::Refuse { refusal, .. } => Some(refusal),
        _ => None,
    });
    refusals.next()
}

#[test]
fn halves_are_numbered_by_the_second_and_never_go_back() {
    let mut line = Line::new(2);
    paid(&mut line, 0, 1);
    assert_eq!(own(&line, 0), first_version(NOW));
    paid(&mut line, 0, 1);
    assert_eq!(own(&line, 0), first_version(NOW) + 1);
    line.now += 7;
    paid(&mut line, 0, 1);
    assert_eq!(own(&line, 0), first_version(NOW + 7));
    // The clock is set back: by one, from the newest.
    line.now -= 5;
    paid(&mut line, 0, 1);
    assert_eq!(own(&line, 0), first_version(NOW + 7) + 1);
    assert_eq!(held(&line, 1).paid, 4);
    assert!(
        first_version(NOW + 200 * 365 * 86_400) < 1 << 53,
        "every reader of JSON keeps it"
    );
}

#[test]
fn changes_of_one_step_have_the_version_that_is_signed_though_the_clock_goes_back_between_them() {
    let mut line = Line::new(2);
    let channel = line.channels[0];
    for (at, now) in [NOW + 3, NOW + 1].into_iter().enumerate() {
        let tools = Tools {
            keys: &line.keys[0],
            onions: &Clear,
        };
        let direct = direct(1 + at as u128);
        let pay = Input::PayDirect { channel, direct };
        line.nodes[0].apply(now, pay, tools).unwrap();
    }
    line.input(0, Input::Tick).unwrap();
    line.settle();
    assert_eq!(own(&line, 0), first_version(NOW + 3));
    let known = &line.nodes[0].channels()[&channel];
    let directs = known.own.directs.iter();
    assert!(
        directs
            .map(|direct| direct.version)
            .all(|at| at == known.own.version)
    );
    assert_eq!(held(&line, 1).paid, 3);
}

#[test]
fn a_clock_that_runs_away_from_l1_does_not_take_versions_with_it() {
    let mut line = Line::new(2);
    let preimage = Preimage([3; 32]);
    line.expect_hold_invoice(1, preimage, 100);
    line.pay_over_all(preimage.hash(), 100);
    line.settle();
    line.input(1, Input::Release(preimage.hash())).unwrap();
    // A year ahead, between the lock and its preimage.
    line.now += 365 * 86_400;
    let fulfil = line
        .wires
        .pop_front()
        .map(|(from, _, message)| (from, message));
    let (from, message) = fulfil.unwrap();
    line.input(0, Input::Message { from, message }).unwrap();
    line.input(0, Input::Settle).unwrap();
    let latest = NOW + Policy::default().max_head_age;
    assert_eq!(own(&line, 0), first_version(latest));
    line.now = NOW + 1;
    line.settle();
    let paid = &line.nodes[0].payments()[&preimage.hash()].state;
    assert_eq!(*paid, PaymentState::Succeeded(preimage));
    pass(&mut line, 0);
    assert_eq!(line.balance(1, 0), 1100, "and the peer takes it");
}

#[test]
fn rule_2_refuses_a_version_ahead_of_the_clock_and_takes_it_when_it_is_time() {
    let mut line = Line::new(2);
    paid(&mut line, 1, 1);
    pay(&mut line, 0, 10).unwrap();
    let update = update_on_its_way(&mut line);
    let latest = first_version(NOW + Policy::default().version_slack);
    let ahead = renumber(&line, update.clone(), latest + 1);
    let refused = Refusal::Ahead {
        version: latest + 1,
        latest,
    };
    assert_eq!(refusal_of(&mut line, ahead.clone()), Some(refused));
    assert_eq!(held(&line, 1), Half::ZERO);
    assert_eq!(
        refused.class(),
        millrace_channels::message::RefuseClass::Later
    );
    line.now += 1;
    line.see(&[]);
    line.wires.clear();
    assert_eq!(refusal_of(&mut line, ahead), None);
    assert_eq!(held(&line, 1).version, latest + 1);
}

#[test]
fn after_the_jump_of_a_recovery_an_honest_half_is_within_the_bound() {
    let policy = Policy::default();
    let worst = 2 * policy.max_head_age + JUMP_SECS;
    assert!(policy.version_slack > worst, "{worst} s");
    assert!(JUMP_SECS > policy.max_head_age);
}

/// Node 1 is honest and has a backup; node 0 has two stages of its own: when the backup was made, and with 500 more that
/// node 1 has echoed.
struct Lost {
    line: Line,
    channel: ChannelId,
    backup: Records,
    before: Records,
    /// The newest half of node 0, as it can show it on L1.
    hidden: Half,
}

fn lost() -> Lost {
    let mut line = Line::new(2);
    let channel = line.channels[0];
    paid(&mut line, 0, 10);
    paid(&mut line, 1, 1);
    let (before, backup) = (records(&line, 0), records(&line, 1));
    line.now += 60;
    line.see(&[]);
    paid(&mut line, 0, 500);
    // Its next half echoes them.
    paid(&mut line, 1, 1);
    let hidden = *line.nodes[0].channels()[&channel].own.newest();
    assert_eq!(
        line.nodes[0].channels()[&channel].own.echoed,
        hidden.version
    );
    assert_eq!(hidden.paid, 510);
    line.notices.clear();
    Lost {
        line,
        channel,
        backup,
        before,
        hidden,
    }
}

/// What a node submits when it closes by force, and that both have signed it.
fn closed_by(line: &mut Line, at: usize) -> Halves {
    let channel = line.channels[0];
    line.transactions.clear();
    line.input(at, Input::ForceClose(channel)).unwrap();
    let Some(Transaction::Submit {
        halves,
        params,
        signatures: Some(signatures),
        ..
    }) = line.transactions.first()
    else {
        panic!("a close was due: {:?}", line.transactions);
    };
    let separator = line.nodes[0].identity().domain.separator();
    let digest = digest::snapshot(&separator, &channel, halves);
    assert_eq!(recover(&digest, &signatures.0), Some(params.signer_a));
    assert_eq!(recover(&digest, &signatures.1), Some(params.signer_b));
    *halves
}

fn told(line: &Line, at: usize) -> u128 {
    let notices = line.notices.iter().filter(|(of, _)| *of == at);
    notices
        .map(|(_, notice)| match notice {
            Notice::DirectReceived { amount, .. } => amount.get(),
            _ => 0,
        })
        .sum()
}

/// The hole that this closes: the peer pays in a half older than the one that it hides, and shows that one in the end.
#[test]
fn a_peer_that_hides_its_newest_half_pays_nothing_in_older_ones() {
    let Lost {
        mut line,
        channel,
        backup,
        before,
        hidden,
    } = lost();
    start(&mut line, 1, &backup, true);
    start(&mut line, 0, &before, false);
    connect(&mut line);
    let found = &line.nodes[1].channels()[&channel];
    assert_eq!((found.fault, held(&line, 1).paid), (None, 10));
    let above = found.lost_up_to;
    assert!(
        above > hidden.version,
        "no half that was ever echoed is above it"
    );

    pay(&mut line, 0, 20).unwrap();
    let update = update_on_its_way(&mut line);
    // As old as the hidden one, a bit newer, and the last that is not ahead of the clock.
    let latest = first_version(line.now + Policy::default().version_slack);
    assert!(latest < above);
    for version in [
        hidden.version - 1,
        hidden.version,
        hidden.version + 1,
        latest,
    ] {
        let message = renumber(&line, update.clone(), version);
        let refused = Refusal::Outbid { version, above };
        assert_eq!(refusal_of(&mut line, message), Some(refused));
    }
    assert_eq!(held(&line, 1).paid, 10);
    // Honestly numbered it counts, and the hidden half loses against it on L1.
    let until = above / first_version(1);
    let wait = until - line.now;
    pass(&mut line, wait + 1);
    assert_eq!(held(&line, 1).paid, 30);
    assert!(held(&line, 1).version > hidden.version);
    assert_eq!(told(&line, 1), 0, "a payout may still be under way");
    pass(&mut line, Policy::default().quiet());
    assert_eq!(told(&line, 1), 20);
    let halves = closed_by(&mut line, 1);
    assert!(halves.a.version > hidden.version && halves.a.paid == 30);
}

#[test]
fn what_an_honest_peer_had_sent_without_an_echo_comes_once_more_above_the_bound() {
    let Lost {
        mut line, backup, ..
    } = lost();
    // Accepted, told, and not echoed: only the peer has it.
    paid(&mut line, 0, 7);
    assert_eq!(told(&line, 1), 7);
    start(&mut line, 1, &backup, true);
    connect(&mut line);
    assert_eq!(held(&line, 1).paid, 510, "the echoed half is in the copy");
    let floor = line.nodes[1].channels()[&line.channels[0]].lost_up_to;
    assert!(own(&line, 0) <= floor);
    // Who must close before that brings it to L1, which takes the newest anyway.
    assert_eq!(closed_by(&mut line, 1).a.paid, 517);
    let Lost {
        mut line, backup, ..
    } = lost();
    paid(&mut line, 0, 7);
    start(&mut line, 1, &backup, true);
    connect(&mut line);
    pass(&mut line, 600);
    assert_eq!(held(&line, 1).paid, 510);
    pass(&mut line, 1300);
    assert_eq!(held(&line, 1).paid, 517, "the same content, numbered anew");
    assert!(held(&line, 1).version > floor);
    assert_eq!(
        held(&line, 1),
        *line.nodes[0].channels()[&line.channels[0]].own.newest()
    );
    // A restart in between forgets nothing of this.
    let known = records(&line, 1);
    start(&mut line, 1, &known, false);
    let again = &line.nodes[1].channels()[&line.channels[0]];
    assert_eq!(again.lost_up_to, floor);
}

/// A lock from before the loss may be gone in the half that the peer hides: its preimage waits for a newer half that has it.
#[test]
fn a_held_payment_from_before_the_loss_is_released_only_when_a_newer_half_has_its_lock() {
    let mut line = Line::new(2);
    let channel = line.channels[0];
    let (preimage, hash) = (Preimage([3; 32]), Preimage([3; 32]).hash());
    line.expect_hold_invoice(1, preimage, 100);
    let part = Part {
        channel,
        amount: amount(100),
        onion: Line::deliver(100),
    };
    let expiry = EXPIRY + 7000;
    let parts = vec![part];
    let payment = NewPayment {
        hash,
        expiry,
        parts,
    };
    line.input(0, Input::Pay(payment)).unwrap();
    line.settle();
    paid(&mut line, 1, 1);
    assert_eq!(line.nodes[1].invoices()[&hash].state, InvoiceState::Held);
    let backup = records(&line, 1);
    start(&mut line, 1, &backup, true);
    connect(&mut line);
    let floor = line.nodes[1].channels()[&channel].lost_up_to;
    // The quiet is over, and the peer, which says nothing, has nothing new.
    line.now = NOW + Policy::default().quiet() + 1;
    line.see(&[]);
    line.wires.clear();
    let until = floor / first_version(1);
    let recovering = StepError::Recovering { channel, until };
    assert_eq!(line.input(1, Input::Release(hash)), Err(recovering));
    assert_eq!(line.nodes[1].invoices()[&hash].state, InvoiceState::Held);
    // Asked for it, an honest one signs the same half once more.
    pass(&mut line, 0);
    assert!(held(&line, 1).version > floor);
    line.input(1, Input::Release(hash)).unwrap();
    line.settle();
    assert_eq!(line.balance(1, 0), 1099);
    assert_eq!(line.nodes[1].invoices()[&hash].received, 100);
}

#[test]
fn our_first_half_after_a_loss_wins_over_any_that_the_peer_hides() {
    let mut line = Line::new(2);
    let backup = records(&line, 1);
    line.now += 100;
    line.see(&[]);
    paid(&mut line, 1, 400);
    let hidden = own(&line, 1);
    // The clock is set back while it is down; L1 is where it was.
    line.now -= 90;
    start(&mut line, 1, &backup, true);
    connect(&mut line);
    line.now += Policy::default().quiet() + 1;
    line.see(&[]);
    paid(&mut line, 1, 1);
    assert_eq!(own(&line, 1), first_version(line.now + JUMP_SECS));
    assert!(own(&line, 1) > hidden);
    assert_eq!(
        held(&line, 0).version,
        own(&line, 1),
        "and the peer takes it"
    );
    paid(&mut line, 1, 1);
    assert_eq!(own(&line, 1), first_version(line.now + JUMP_SECS) + 1);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    /// However the clocks of two nodes go, as long as each is at most the tolerance off and L1 is heard of: versions grow, none
    /// is far ahead of L1, and every honest half is taken at once.
    #[test]
    fn honest_halves_are_always_within_the_bound(
        steps in prop::collection::vec((0u64..400, 0u64..600, any::<bool>(), any::<bool>()), 1..30),
    ) {
        let mut line = Line::new(2);
        let policy = Policy::default();
        let (mut time, mut newest, mut total) = (NOW, [0; 2], [0u128; 2]);
        for (pause, skew, back, a) in steps {
            time += pause;
            line.now = time;
            line.see(&[]);
            // The clock of who pays is off.
            line.now = if back { time - skew.min(policy.clock_tolerance) } else { time + skew.min(policy.max_head_age) };
            let from = usize::from(a);
            pay(&mut line, from, 1).unwrap();
            line.now = time;
            line.settle();
            total[from] += 1;
            let version = own(&line, from);
            prop_assert!(version > newest[from]);
            newest[from] = version;
            prop_assert!(version <= first_version(time + policy.max_head_age) + 64);
            prop_assert_eq!(held(&line, 1 - from).paid, total[from]);
        }
    }
}

#[test]
fn what_came_too_early_is_said_again_though_the_time_of_l1_stands_still() {
    let mut line = Line::new(2);
    let (start, later) = (line.now, line.now + 7200);
    let after = line.nodes[0].identity().policy.resend_after;
    for back in [false, true] {
        line.now = start;
        let before = held(&line, 1);
        // L1 is two hours ahead of everybody's clock, and node 0 has seen it first.
        sees_time(&mut line, 0, later + 7200 * u64::from(back));
        paid(&mut line, 0, 10);
        assert_eq!(held(&line, 1), before, "refused as ahead");
        sees_time(&mut line, 1, later + 7200 * u64::from(back));
        line.input(0, Input::Tick).unwrap();
        line.settle();
        assert_eq!(held(&line, 1), before, "not said again at once");
        // Only the local clocks go on, or are set back.
        line.now = if back { start - after } else { start + after };
        line.input(0, Input::Tick).unwrap();
        line.settle();
        assert_eq!(held(&line, 1).paid, before.paid + 10);
    }
}

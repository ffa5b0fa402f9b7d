//! What a tower gives back to a client that has lost its data: believed as far as both parties have signed it, whoever lies.

mod line;

use line::{EXPIRY, Line, amount, direct};
use millrace_channels::digest::channel_id;
use millrace_channels::machine::channel::{Answer, Fault};
use millrace_channels::machine::effect::{Key, Record, Transaction};
use millrace_channels::machine::payment::{InvoiceState, NewPayment, Part};
use millrace_channels::machine::{Input, Node, StepError};
use millrace_channels::message::Message;
use millrace_channels::policy::Policy;
use millrace_channels::state::Lock;
use millrace_channels::types::{Preimage, Side, Version};
use millrace_channels::watchtower::{Tower, TowerEffect, Watch, WatchError};

const VICTIM: usize = 1;
const PEER: usize = 0;

/// What the victim would give its tower now.
fn record(line: &Line) -> Watch {
    let id = line.channels[0];
    let watch = line.nodes[VICTIM].watch(&id, &line.keys[VICTIM]);
    watch.expect("the peer has signed")
}

fn records(line: &Line, at: usize) -> Vec<Record> {
    line.nodes[at].records()
}

fn restore(line: &mut Line, at: usize, records: &[Record]) {
    let pairs = records
        .iter()
        .map(|record| (&record.key, record.value.as_deref().unwrap()));
    let identity = line.nodes[at].identity().clone();
    line.nodes[at] = Node::restore(identity, pairs).unwrap();
}

fn pay(line: &mut Line, from: usize, units: u128) {
    let channel = line.channels[0];
    let direct = direct(units);
    line.input(from, Input::PayDirect { channel, direct })
        .unwrap();
    line.settle();
}

/// Nothing is left of the victim but its key and what L1 shows.
fn lose(line: &mut Line) {
    let channel = &line.nodes[VICTIM].channels()[&line.channels[0]];
    let params = channel.params;
    let mut empty = Node::new(line.nodes[VICTIM].identity().clone());
    empty
        .add_lost(params, Side::B, None, &line.keys[VICTIM])
        .unwrap();
    line.nodes[VICTIM] = empty;
    line.wires.clear();
    line.see(&[]);
}

fn connect(line: &mut Line) {
    for (at, peer) in [(PEER, VICTIM), (VICTIM, PEER)] {
        let key = line.keys[peer].public();
        line.input(at, Input::Disconnected(key)).unwrap();
        line.input(at, Input::Connected(key)).unwrap();
    }
}

fn give(line: &mut Line, watch: &Watch) -> Result<(), StepError> {
    line.input(VICTIM, Input::Record(Box::new(watch.clone())))
}

/// The versions that the victim knows: its own, echoed, and the peer's.
fn known(line: &Line) -> (Version, Version, Version) {
    let channel = &line.nodes[VICTIM].channels()[&line.channels[0]];
    let (own, held) = (&channel.own, &channel.held);
    (own.version, own.echoed, held.half.version)
}

/// What the victim would be paid out with what it would submit now.
fn submitted(line: &mut Line) -> u128 {
    let id = line.channels[0];
    line.transactions.clear();
    line.input(VICTIM, Input::ForceClose(id)).unwrap();
    let Some(Transaction::Submit { halves, .. }) = line.transactions.pop() else {
        panic!("a force close submits")
    };
    1000 + halves.a.paid - halves.b.paid
}

/// Both have signed 300 to the victim; the peer goes back to when it had paid 100, and shows that only.
fn robbed() -> (Line, Watch) {
    let mut line = Line::new(2);
    pay(&mut line, PEER, 100);
    pay(&mut line, VICTIM, 1);
    let old = records(&line, PEER);
    pay(&mut line, PEER, 201);
    pay(&mut line, VICTIM, 1);
    pay(&mut line, PEER, 1);
    let newest = record(&line);
    lose(&mut line);
    restore(&mut line, PEER, &old);
    line.see(&[]);
    (line, newest)
}

#[test]
fn a_peer_that_hides_its_newest_half_wins_without_a_record_and_loses_with_it() {
    let (mut line, _) = robbed();
    connect(&mut line);
    line.settle();
    assert_eq!(submitted(&mut line), 1099, "what the liar shows");

    let (mut line, newest) = robbed();
    give(&mut line, &newest).unwrap();
    let id = line.channels[0];
    let channel = &line.nodes[VICTIM].channels()[&id];
    assert_eq!(
        channel.peer,
        line.keys[PEER].public(),
        "the record names it"
    );
    assert!(matches!(channel.fault, Some(Fault::DataLost(_))));
    let again = known(&line);
    assert_eq!(give(&mut line, &newest).err(), Some(not_newer()), "once");
    // The liar's copy comes as well: it mends the channel and takes nothing back.
    connect(&mut line);
    let mut copies = 0;
    while let Some((from, to, message)) = line.wires.pop_front() {
        // The liar hears nothing that would make it honest.
        let at = line.at(&to);
        let to_liar = matches!(message, Message::Copy(_) | Message::Update(_));
        if at == PEER && to_liar {
            continue;
        }
        copies += usize::from(matches!(message, Message::Copy(_)));
        let _ = line.input(at, Input::Message { from, message });
    }
    let channel = &line.nodes[VICTIM].channels()[&id];
    assert_eq!(channel.fault, None, "the peer has spoken");
    assert!(channel.is_quiet());
    assert!(copies <= 1);
    assert_eq!(known(&line), again);
    assert_eq!(submitted(&mut line), 1300);
}

fn not_newer() -> StepError {
    StepError::Ignored("a record that is not newer than what we hold")
}

#[test]
fn the_liars_copy_first_and_the_record_later_saves_the_money_too() {
    let (mut line, newest) = robbed();
    connect(&mut line);
    line.settle();
    let (own, ..) = known(&line);
    give(&mut line, &newest).unwrap();
    assert!(known(&line).0 > own);
    assert_eq!(submitted(&mut line), 1300);
}

#[test]
fn nothing_is_signed_on_a_record_before_the_peer_has_spoken() {
    let (mut line, newest) = robbed();
    give(&mut line, &newest).unwrap();
    let channel = line.channels[0];
    let direct = direct(1);
    assert_eq!(
        line.input(VICTIM, Input::PayDirect { channel, direct }),
        Err(StepError::NotOpen(channel))
    );
    line.now += Policy::default().quiet() + 1;
    line.see(&[]);
    let spoken = line.wires.iter();
    let signed = spoken.filter(|(_, _, message)| matches!(message, Message::Update(_)));
    assert_eq!(signed.count(), 0);
    assert!(line.nodes[VICTIM].channels()[&channel].is_quiet());
}

#[test]
fn an_honest_peer_whose_newest_half_was_never_echoed_goes_on_after_the_record() {
    let mut line = Line::new(2);
    pay(&mut line, PEER, 100);
    pay(&mut line, VICTIM, 1);
    let channel = line.channels[0];
    // Both pay at once: neither has seen the other's newest half when it signs.
    for at in [PEER, VICTIM] {
        let direct = direct(10);
        line.input(at, Input::PayDirect { channel, direct })
            .unwrap();
    }
    // The peer's half is accepted, and so is the victim's; no echo of either arrives.
    for _ in 0..2 {
        let (from, to, message) = line.wires.pop_front().unwrap();
        let at = line.at(&to);
        line.input(at, Input::Message { from, message }).unwrap();
    }
    line.wires.clear();
    let newest = record(&line);
    let (own, echoed, held) = known(&line);
    assert!(own > echoed, "the peer's half echoes an older one");
    lose(&mut line);
    give(&mut line, &newest).unwrap();
    assert_eq!(known(&line), (echoed, echoed, held));
    connect(&mut line);
    line.settle();
    let id = line.channels[0];
    assert_eq!(line.nodes[VICTIM].channels()[&id].fault, None);
    assert_eq!(known(&line).0, own, "the peer's copy brings our own half");
    line.now += Policy::default().quiet() + 1;
    line.see(&[]);
    line.settle();
    pay(&mut line, VICTIM, 5);
    pay(&mut line, PEER, 7);
    assert_eq!(line.balance(VICTIM, 0), 1000 + 110 + 7 - 11 - 5);
    assert_eq!(line.balance(PEER, 0), 1000 - 110 - 7 + 11 + 5);
}

#[test]
fn what_a_lying_tower_gives_changes_nothing() {
    let mut line = Line::new(2);
    let id = line.channels[0];
    let preimage = Preimage([7; 32]);
    line.expect_hold_invoice(VICTIM, preimage, 50);
    pay(&mut line, VICTIM, 1);
    pay(&mut line, PEER, 100);
    let stale = record(&line);
    line.pay_over_all(preimage.hash(), 50);
    line.settle();
    let newest = record(&line);
    assert_eq!(give(&mut line, &newest).err(), Some(outside()));
    // The other party's record of the same channel, signed by both as well.
    let of_peer = line.nodes[PEER].watch(&id, &line.keys[PEER]).unwrap();
    lose(&mut line);
    let before = known(&line);
    let forge = |change: &dyn Fn(&mut Watch)| {
        let mut forged = newest.clone();
        change(&mut forged);
        forged
    };
    let forgeries = [
        ("another's", of_peer),
        ("an amount", forge(&|it| it.list_a[0].amount = amount(49))),
        ("a lock less", forge(&|it| it.list_a.clear())),
        (
            "a lock more",
            forge(&|it| {
                let lock: Lock = it.list_a[0];
                it.list_b.push(lock);
            }),
        ),
        ("a half", forge(&|it| it.halves.a.paid += 1)),
        ("a version", forge(&|it| it.halves.b.version += 1)),
        (
            "the signatures",
            forge(&|it| it.signatures = (it.signatures.1, it.signatures.0)),
        ),
        ("the keys", forge(&|it| it.key_b = it.key_a)),
        ("no numbers", forge(&|it| it.numbers = None)),
        (
            "a number",
            forge(&|it| it.numbers.as_mut().unwrap().list_a[0] += 1),
        ),
        (
            "the last number",
            forge(&|it| it.numbers.as_mut().unwrap().last += 1),
        ),
    ];
    for (what, forged) in forgeries {
        let refused = give(&mut line, &forged);
        let reason = StepError::Ignored("a record that we gave no tower");
        assert_eq!(refused, Err(reason), "{what}");
        assert_eq!(known(&line), before, "{what}");
    }
    let foreign = forge(&|it| it.params.salt += 1);
    let separator = line.nodes[VICTIM].identity().domain.separator();
    let unknown = channel_id(&separator, &foreign.params);
    let refused = Err(StepError::UnknownChannel(unknown));
    assert_eq!(give(&mut line, &foreign), refused);
    // A preimage of no lock is not learnt, and a stale record takes nothing back.
    let padded = forge(&|it| it.preimages.push(Preimage([9; 32])));
    give(&mut line, &padded).unwrap();
    assert!(line.nodes[VICTIM].preimages().is_empty());
    assert!(known(&line) > before);
    let before = known(&line);
    assert_eq!(give(&mut line, &stale).err(), Some(not_newer()));
    assert_eq!(known(&line), before);
}

fn outside() -> StepError {
    StepError::Ignored("a tower's record outside a recovery")
}

#[test]
fn a_tower_gives_a_record_to_its_client_only() {
    let mut line = Line::new(2);
    pay(&mut line, VICTIM, 1);
    pay(&mut line, PEER, 100);
    let id = line.channels[0];
    let separator = line.nodes[VICTIM].identity().domain.separator();
    let mut tower = Tower::new(separator, Policy::default(), []);
    let (client, other) = (line.keys[VICTIM].public(), line.keys[PEER].public());
    let newest = record(&line);
    let mut forged = newest.clone();
    forged.numbers.as_mut().unwrap().last += 1;
    let keys = &line.keys[PEER];
    assert_eq!(
        tower.watch(line.now, client, forged, keys).err(),
        Some(WatchError::Numbers)
    );
    tower.watch(line.now, client, newest.clone(), keys).unwrap();
    assert_eq!(tower.record_of(&id, &client), Some(&newest));
    assert_eq!(tower.record_of(&id, &other), None);
}

/// The victim has released a payment and is gone before it is paid; its backup knows the invoice, or nothing is left.
fn released_and_lost(backup: bool) -> (Line, Preimage) {
    let mut line = Line::new(2);
    let preimage = Preimage([7; 32]);
    line.expect_hold_invoice(VICTIM, preimage, 50);
    let old = records(&line, VICTIM);
    pay(&mut line, VICTIM, 1);
    let onion = Line::deliver(50);
    let parts = vec![Part {
        channel: line.channels[0],
        amount: amount(50),
        onion,
    }];
    let payment = NewPayment {
        hash: preimage.hash(),
        expiry: EXPIRY,
        parts,
    };
    line.input(PEER, Input::Pay(payment)).unwrap();
    line.settle();
    line.input(VICTIM, Input::Release(preimage.hash())).unwrap();
    let newest = record(&line);
    assert_eq!(newest.preimages, [preimage]);
    lose(&mut line);
    if backup {
        let pairs = old
            .iter()
            .map(|record| (&record.key, record.value.as_deref().unwrap()));
        let identity = line.nodes[VICTIM].identity().clone();
        line.nodes[VICTIM] = Node::from_backup(identity, pairs).unwrap();
        line.see(&[]);
    }
    give(&mut line, &newest).unwrap();
    (line, preimage)
}

#[test]
fn a_released_preimage_comes_back_and_is_revealed_in_time() {
    for backup in [false, true] {
        let (mut line, preimage) = released_and_lost(backup);
        let id = line.channels[0];
        let hash = preimage.hash();
        let node = &line.nodes[VICTIM];
        assert_eq!(node.preimages().get(&hash), Some(&preimage));
        let invoice = node.invoices().get(&hash);
        let expected = backup.then_some((InvoiceState::Released, 50));
        let state = invoice.map(|invoice| (invoice.state, invoice.released));
        assert_eq!(state, expected, "an invoice that the backup has is out");
        let lock = node.channels()[&id].held.locks.values().next().unwrap();
        assert_eq!(lock.answer, Some(Answer::Fulfil));
        // The peer never comes back: L1 has the preimage before the lock is dead.
        line.transactions.clear();
        line.now = EXPIRY - 60;
        line.see(&[]);
        let preimages = vec![preimage];
        let reveal = Transaction::Reveal { preimages };
        assert!(line.transactions.contains(&reveal));
        let learnt = records(&line, VICTIM);
        let learnt = learnt.iter().any(|it| it.key == Key::Preimage(hash));
        assert!(learnt, "it is durable");
    }
}

#[test]
fn an_honest_payer_pays_what_the_record_says_was_released() {
    let (mut line, preimage) = released_and_lost(true);
    connect(&mut line);
    line.settle();
    // The half with the payment is refused until its version is above all that may be hidden; then it is said again.
    line.now += Policy::default().quiet() + 1;
    line.see(&[]);
    for _ in 0..3 {
        line.now += 20;
        for at in [PEER, VICTIM] {
            line.input(at, Input::Tick).unwrap();
        }
        line.settle();
    }
    assert_eq!(line.balance(VICTIM, 0), 1049);
    let invoice = &line.nodes[VICTIM].invoices()[&preimage.hash()];
    assert_eq!(invoice.received, 50);
}

/// The invoice's record was not lost, and has the money: the record's lock with its hash is the same money.
#[test]
fn what_an_invoice_has_received_is_not_received_again() {
    let mut line = Line::new(2);
    let preimage = Preimage([7; 32]);
    let hash = preimage.hash();
    pay(&mut line, VICTIM, 1);
    line.expect_hold_invoice(VICTIM, preimage, 50);
    line.pay_over_all(hash, 50);
    line.settle();
    line.input(VICTIM, Input::Release(hash)).unwrap();
    let newest = record(&line);
    line.settle();
    assert_eq!(line.nodes[VICTIM].invoices()[&hash].received, 50);
    let kept = records(&line, VICTIM);
    let invoice = kept.iter().filter(|it| it.key == Key::Invoice(hash));
    let pairs: Vec<_> = invoice
        .map(|record| (&record.key, record.value.as_deref().unwrap()))
        .collect();
    let params = line.nodes[VICTIM].channels()[&line.channels[0]].params;
    let identity = line.nodes[VICTIM].identity().clone();
    let mut node = Node::from_backup(identity, pairs).unwrap();
    node.add_lost(params, Side::B, None, &line.keys[VICTIM])
        .unwrap();
    line.nodes[VICTIM] = node;
    line.see(&[]);
    give(&mut line, &newest).unwrap();
    let invoice = line.nodes[VICTIM].invoices()[&hash].clone();
    assert_eq!((invoice.received, invoice.released), (50, 50));
}

#[test]
fn a_receipt_says_which_preimages_the_tower_has() {
    let (line, preimage) = released_and_lost(true);
    let newest = record(&line);
    let separator = line.nodes[VICTIM].identity().domain.separator();
    let mut tower = Tower::new(separator, Policy::default(), []);
    let client = line.keys[VICTIM].public();
    let mut receipt = |watch: &Watch| {
        let effects = tower.watch(line.now, client, watch.clone(), &line.keys[PEER]);
        let effects = effects.unwrap().into_iter();
        let mut receipts = effects.filter_map(|effect| match effect {
            TowerEffect::Receipt(receipt) => Some(receipt),
            _ => None,
        });
        receipts.next().expect("a stored record has a receipt")
    };
    let without = Watch {
        preimages: Vec::new(),
        ..newest.clone()
    };
    let first = receipt(&without).preimages.unwrap();
    assert_eq!((first, first.count), (without.held(), 0));
    let second = receipt(&newest);
    let held = second.preimages.unwrap();
    assert_eq!((held, held.count), (newest.held(), 1));
    assert_ne!(held, first);
    // It keeps what it has for locks of the record, and says so.
    assert_eq!(receipt(&without).preimages, Some(held));
    let plain = Watch {
        numbers: None,
        ..newest.clone()
    };
    let old = receipt(&plain);
    assert_eq!(old.preimages, None, "an older program's receipt");
    assert_ne!(old.digest(), second.digest());
    assert_eq!(newest.preimages, [preimage]);
}

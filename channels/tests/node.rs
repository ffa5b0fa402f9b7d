//! Whole nodes on the embedded chain: open, pay, restart, close, and a tower that answers a cheat. Frames go through queues in
//! this process; everything else is what a product runs.

#![cfg(feature = "node")]

mod world;

use millrace_channels::machine::Identity;
use millrace_channels::machine::dispute::ChainPhase;
use millrace_channels::node::restore::{find_on_chain, restore};
use millrace_channels::node::{Answer, Request, RequestKey, TowerAddress};
use millrace_channels::signing::address;
use millrace_channels::store::Store;
use millrace_channels::transport::Transport;
use millrace_channels::types::{Address, Hash32};
use std::path::Path;
use std::time::Duration;
use world::{NOBODY, Person, WINDOW, World, amount, key, open, received};

#[tokio::test]
async fn payments_that_come_together_share_a_write() {
    let world = World::new().await;
    let alice = world.start(1, vec![]);
    let bob = world.start(2, vec![]);
    let id = open(&alice, &bob, 1_000_000).await;
    let writes = |person: &Person| person.running.handle.synchronisations();
    let before = writes(&alice) + writes(&bob);
    let payments = (0..200u8).map(|number| {
        let handle = alice.running.handle.clone();
        tokio::spawn(async move {
            let request = Request::PayDirect {
                channel: id,
                amount: amount(10),
                reference: Hash32([number; 32]),
            };
            handle.request(request, None).await
        })
    });
    for payment in payments.collect::<Vec<_>>() {
        assert!(matches!(payment.await.unwrap(), Ok(Answer::Paid { .. })));
    }
    received(&bob, 200).await;
    let taken = writes(&alice) + writes(&bob) - before;
    assert!(taken < 100, "{taken} writes for 200 payments");
}

#[tokio::test(flavor = "multi_thread")]
async fn two_nodes_open_pay_survive_a_crash_and_close() {
    let world = World::new().await;
    let alice = world.start(1, vec![]);
    let bob = world.start(2, vec![]);
    let id = open(&alice, &bob, 1_000_000).await;
    for _ in 0..20 {
        alice.pay(id, 1000).await;
    }
    bob.until("20 payments", move |state| {
        (state.view(&id)?.can_send == 20_000).then_some(())
    })
    .await;
    for _ in 0..5 {
        bob.pay(id, 100).await;
    }
    alice
        .until("5 payments back", move |state| {
            (state.view(&id)?.can_send == 980_500).then_some(())
        })
        .await;
    // Alice dies and comes back: nothing that was acknowledged is gone.
    world.kill(alice).await;
    let alice = world.start(1, vec![]);
    assert_eq!(alice.until_open().await, id);
    alice
        .until("what the peer says again", move |state| {
            (state.view(&id)?.can_send == 980_500).then_some(())
        })
        .await;
    // The same key pays once.
    let key = RequestKey {
        key: "rent".to_owned(),
        request: [7; 32],
    };
    for _ in 0..2 {
        let request = Request::PayDirect {
            channel: id,
            amount: amount(500),
            reference: Hash32([2; 32]),
        };
        let answer = alice
            .running
            .handle
            .request(request, Some(key.clone()))
            .await;
        assert!(matches!(answer, Ok(Answer::Paid { .. })));
    }
    bob.until("one payment", move |state| {
        (state.view(&id)?.can_send == 20_000).then_some(())
    })
    .await;
    let news = received(&bob, 21).await;
    assert!(
        news.windows(2)
            .all(|pair| pair[0].sequence + 1 == pair[1].sequence)
    );
    alice
        .until("the peer's word", move |state| {
            let channel = &state.node.channels()[&id];
            (channel.session.peer_holds == channel.own.version).then_some(())
        })
        .await;
    alice.request(Request::Close(id)).await;
    for person in [&alice, &bob] {
        person
            .until("the end", move |state| {
                (state.view(&id)?.phase.name() == "closed").then_some(())
            })
            .await;
    }
    assert_eq!(world.payout(1).await, 980_000);
    assert_eq!(world.payout(2).await, 20_000);
    alice.running.shutdown().await;
    bob.running.shutdown().await;
}

/// A key is honoured from the moment its request is taken: while it waits for the disk, while it is being written, afterwards.
#[tokio::test(flavor = "multi_thread")]
async fn requests_repeated_at_any_moment_pay_once() {
    const KEYS: u128 = 300;
    let world = World::new().await;
    let alice = world.start(1, vec![]);
    let bob = world.start(2, vec![]);
    let id = open(&alice, &bob, 1_000_000).await;
    let mut asked = Vec::new();
    for number in 0..KEYS {
        for _ in 0..4 {
            let handle = alice.running.handle.clone();
            asked.push(tokio::spawn(async move {
                let key = RequestKey {
                    key: format!("payment-{number}"),
                    request: [1; 32],
                };
                let request = Request::PayDirect {
                    channel: id,
                    amount: amount(1),
                    reference: Hash32([3; 32]),
                };
                handle.request(request, Some(key)).await
            }));
            tokio::task::yield_now().await;
        }
    }
    for answer in asked {
        assert!(matches!(answer.await, Ok(Ok(Answer::Paid { .. }))));
    }
    let sent = alice
        .until("its payments", move |state| Some(state.view(&id)?.sent))
        .await;
    assert_eq!(sent, KEYS);
    alice.running.shutdown().await;
    bob.running.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_tower_answers_a_cheat_while_its_client_is_away() {
    let world = World::new().await;
    let tower = world.start_tower(9);
    let guard = TowerAddress {
        key: key(9).public(),
        address: NOBODY,
    };
    let alice = world.start(1, vec![]);
    let bob = world.start(2, vec![guard]);
    let id = open(&alice, &bob, 1_000_000).await;
    alice.pay(id, 1000).await;
    bob.until("a payment", move |state| {
        (state.view(&id)?.can_send == 1000).then_some(())
    })
    .await;
    // Alice keeps what she has now, to cheat with later.
    let old = world.folder.path().join("old");
    alice.running.shutdown().await;
    world.exchange.leave(key(1).public());
    copy_folder(&world.folder(1), &old);
    let alice = world.start(1, vec![]);
    assert_eq!(alice.until_open().await, id);
    alice.pay(id, 400_000).await;
    bob.until("a receipt for the newest", move |state| {
        let view = state.view(&id)?;
        (view.can_send == 401_000 && view.guarded_by == 1).then_some(())
    })
    .await;
    // Bob is gone for good, and Alice closes with her old state.
    world.kill(bob).await;
    alice.running.shutdown().await;
    world.exchange.leave(key(1).public());
    let cheat = world.start_at(1, &old, vec![]);
    cheat
        .until("L1", move |state| {
            state.node.channels()[&id].at_head.as_ref().map(drop)
        })
        .await;
    cheat.request(Request::ForceClose(id)).await;
    cheat
        .until("the tower's answer", move |state| {
            let chain = state.node.channels()[&id].at_head.clone()?;
            match chain.phase {
                ChainPhase::Closing(dispute) => (dispute.halves.a.paid == 401_000).then_some(()),
                _ => None,
            }
        })
        .await;
    cheat.running.shutdown().await;
    world.pass(u64::from(WINDOW) + 60);
    let mut paid = 0;
    for _ in 0..500 {
        paid = world.payout(2).await;
        if paid > 0 {
            break;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    assert_eq!((world.payout(1).await, paid), (599_000, 401_000));
    let status = tower.status().await.unwrap();
    let done: Vec<&str> = status.actions.iter().map(|action| action.what).collect();
    assert_eq!(done, ["submit", "settle"]);
    tower.shutdown().await;
}

/// All over loopback: Bob loses everything, Alice comes back with an older state and says nothing of what she has paid since.
#[tokio::test(flavor = "multi_thread")]
async fn a_tower_gives_back_what_a_lying_peer_hides() {
    let world = World::new().await;
    let (tower, tower_link) = world.start_tower_on_loopback(9).await;
    let guard = TowerAddress {
        key: key(9).public(),
        address: tower_link.local_address().unwrap(),
    };
    let (alice, alice_link) = world.start_on_loopback(1, &world.folder(1), vec![]).await;
    let (bob, bob_link) = world
        .start_on_loopback(2, &world.folder(2), vec![guard])
        .await;
    let connect = |link: &Transport, peer: u8| Request::Connect {
        peer: key(peer).public(),
        address: link.local_address().unwrap(),
    };
    alice.request(connect(&bob_link, 2)).await;
    let id = open(&alice, &bob, 1_000_000).await;
    alice.pay(id, 1000).await;
    bob.until("a payment", move |state| {
        (state.view(&id)?.can_send == 1000).then_some(())
    })
    .await;
    bob.pay(id, 1).await;
    alice
        .until("a payment back", move |state| {
            (state.view(&id)?.can_send == 999_001).then_some(())
        })
        .await;
    // Alice keeps what she has now, to lie with later.
    let old = world.folder.path().join("old");
    alice.running.shutdown().await;
    alice_link.shutdown().await;
    copy_folder(&world.folder(1), &old);
    let (alice, alice_link) = world.start_on_loopback(1, &world.folder(1), vec![]).await;
    assert_eq!(alice.until_open().await, id);
    alice.pay(id, 400_000).await;
    bob.until("a receipt for the newest", move |state| {
        let view = state.view(&id)?;
        (view.can_send == 400_999 && view.guarded_by == 1).then_some(())
    })
    .await;
    bob.running.kill().await;
    bob_link.shutdown().await;
    alice.running.shutdown().await;
    alice_link.shutdown().await;

    // Bob has his key and L1.
    let fresh = world.folder.path().join("fresh");
    let signer = address(&key(2).public()).unwrap();
    let found = find_on_chain(&world.chain_config(), signer).await.unwrap();
    let identity = Identity {
        key: key(2).public(),
        signer,
        payout: Address([0xa2; 20]),
        domain: world.domain(),
        policy: world.policy.clone(),
    };
    let store = Store::open(&fresh.join("channels")).unwrap();
    let restored = restore(identity, &store, None, &found, &[], &*key(2)).unwrap();
    assert_eq!(restored.from_chain, [id]);
    drop(store);
    // Alice is there first: she is heard after the tower.
    let (cheat, cheat_link) = world.start_on_loopback(1, &old, vec![]).await;
    let (bob, bob_link) = world.start_on_loopback(2, &fresh, vec![guard]).await;
    bob.request(connect(&cheat_link, 1)).await;
    cheat.request(connect(&bob_link, 2)).await;
    bob.until("the record, and the peer's word", move |state| {
        let channel = &state.node.channels()[&id];
        let spoken = channel.fault.is_none() && channel.is_quiet();
        (channel.held.half.paid == 401_000 && spoken).then_some(())
    })
    .await;
    cheat.running.kill().await;
    cheat_link.shutdown().await;
    bob.request(Request::ForceClose(id)).await;
    bob.until("a dispute", move |state| {
        let chain = state.node.channels()[&id].at_head.clone()?;
        matches!(chain.phase, ChainPhase::Closing(_)).then_some(())
    })
    .await;
    world.pass(u64::from(WINDOW) + 60);
    bob.until("the end", move |state| {
        (state.view(&id)?.phase.name() == "closed").then_some(())
    })
    .await;
    let paid = (world.payout(1).await, world.payout(2).await);
    assert_eq!(paid, (599_001, 400_999));
    bob.running.shutdown().await;
    bob_link.shutdown().await;
    tower.shutdown().await;
}

fn copy_folder(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let target = to.join(entry.file_name());
        if entry.file_type().unwrap().is_dir() {
            copy_folder(&entry.path(), &target);
        } else {
            std::fs::copy(entry.path(), target).unwrap();
        }
    }
}

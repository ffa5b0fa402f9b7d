//! The event stream on simple histories, on both chains.

use alloy::{
    primitives::{Address, U256},
    sol_types::SolEvent,
};
use millrace_l1::{
    events::{BlockRef, Confirmation, EventConfig, EventError, EventStream, L1Block, L1Event},
    on_both_chains,
    provider::L1Provider,
    testing::{Probe, TestL1, deploy_probe},
};

async fn note(l1: &TestL1, probe: Address, value: u64) {
    let probe = Probe::new(probe, l1.provider().with_signer(l1.signer(0)));
    let sent = probe
        .note(U256::from(1), U256::from(value))
        .send()
        .await
        .unwrap();
    sent.get_receipt().await.unwrap();
}

/// Everything that is there now.
async fn drain(stream: &mut EventStream) -> Vec<L1Event> {
    let mut events = vec![];
    while let Some(event) = stream.try_next().await.unwrap() {
        events.push(event);
    }
    events
}

fn values(events: &[L1Event]) -> Vec<u64> {
    let blocks = events.iter().filter_map(|event| match event {
        L1Event::Block(block) => Some(block),
        L1Event::Reorg { .. } => None,
    });
    let logs = blocks.flat_map(|block: &L1Block| &block.logs);
    logs.map(|log| {
        Probe::Noted::decode_log(&log.inner)
            .unwrap()
            .value
            .to::<u64>()
    })
    .collect()
}

fn stream(l1: &L1Provider, config: &EventConfig) -> EventStream {
    EventStream::new(l1.clone(), config.clone())
}

on_both_chains! {
    async fn blocks_come_in_order_with_their_logs(l1: TestL1) {
        let probe = deploy_probe(l1.provider(), l1.signer(0)).await;
        for value in 10..15 {
            note(&l1, probe, value).await;
        }
        for near_head in [0, 2, 100] {
            let config = EventConfig { near_head, ..EventConfig::new(probe, 0) };
            let events = drain(&mut stream(l1.provider(), &config)).await;
            assert_eq!(values(&events), [10, 11, 12, 13, 14], "near head {near_head}");
            let numbers: Vec<u64> = events.iter().map(|event| match event {
                L1Event::Block(block) => block.block.number,
                L1Event::Reorg { .. } => panic!("no reorg happened"),
            }).collect();
            assert!(numbers.is_sorted_by(|left, right| left < right), "{numbers:?}");
            assert_eq!(numbers.last(), Some(&l1.height().await));
        }
    }

    async fn a_reorg_is_told_down_to_the_last_common_block(l1: TestL1) {
        let probe = deploy_probe(l1.provider(), l1.signer(0)).await;
        note(&l1, probe, 10).await;
        let common = l1.height().await;
        note(&l1, probe, 11).await;
        note(&l1, probe, 12).await;
        let mut stream = stream(l1.provider(), &EventConfig::new(probe, 0));
        assert_eq!(values(&drain(&mut stream).await), [10, 11, 12]);
        l1.reorg(2).await;
        note(&l1, probe, 13).await;
        let events = drain(&mut stream).await;
        let L1Event::Reorg { to_block } = &events[0] else { panic!("{events:?}") };
        assert_eq!(to_block.number, common);
        assert_eq!(values(&events), [13]);
    }

    async fn a_saved_list_resumes_and_notices_what_was_dropped(l1: TestL1) {
        let probe = deploy_probe(l1.provider(), l1.signer(0)).await;
        note(&l1, probe, 10).await;
        note(&l1, probe, 11).await;
        let config = EventConfig::new(probe, 0);
        let mut first = stream(l1.provider(), &config);
        drain(&mut first).await;
        let saved = first.followed();
        note(&l1, probe, 12).await;
        let mut second = EventStream::resume(l1.provider().clone(), config.clone(), saved.clone()).unwrap();
        assert_eq!(values(&drain(&mut second).await), [12]);
        l1.reorg(2).await;
        let mut third = EventStream::resume(l1.provider().clone(), config, saved).unwrap();
        let events = drain(&mut third).await;
        assert!(matches!(events[0], L1Event::Reorg { .. }), "{events:?}");
        assert!(values(&events).is_empty());
    }

    async fn the_stream_stays_behind_by_its_depth(l1: TestL1) {
        let probe = deploy_probe(l1.provider(), l1.signer(0)).await;
        let config = EventConfig { confirmation: Confirmation::Depth(3), ..EventConfig::new(probe, 0) };
        let mut stream = stream(l1.provider(), &config);
        note(&l1, probe, 10).await;
        l1.mine(2).await;
        assert!(values(&drain(&mut stream).await).is_empty());
        l1.reorg(2).await;
        assert!(!drain(&mut stream).await.iter().any(|event| matches!(event, L1Event::Reorg { .. })), "a shallow reorg is not seen");
        l1.mine(1).await;
        assert_eq!(values(&drain(&mut stream).await), [10]);
    }

    async fn waiting_ends_with_the_next_block(l1: TestL1) {
        let probe = deploy_probe(l1.provider(), l1.signer(0)).await;
        let mut stream = stream(l1.provider(), &EventConfig::new(probe, 0));
        drain(&mut stream).await;
        let height = l1.height().await;
        let (event, ()) = tokio::join!(stream.next(), note(&l1, probe, 10));
        let L1Event::Block(block) = event.unwrap() else { panic!("no reorg happened") };
        assert_eq!(block.block.number, height + 1);
    }
}

#[tokio::test]
async fn too_many_results_are_asked_for_in_pieces() {
    let l1 = TestL1::dev_chain();
    let probe = deploy_probe(l1.provider(), l1.signer(0)).await;
    let contract = Probe::new(probe, l1.provider().with_signer(l1.signer(0)));
    for key in 0..3u64 {
        contract
            .noteMany(U256::from(key), U256::from(4000))
            .send()
            .await
            .unwrap()
            .get_receipt()
            .await
            .unwrap();
    }
    let config = EventConfig {
        near_head: 0,
        ..EventConfig::new(probe, 0)
    };
    let events = drain(&mut stream(l1.provider(), &config)).await;
    assert_eq!(values(&events).len(), 12_000);
}

#[tokio::test]
async fn a_change_below_all_that_is_remembered_is_an_error() {
    let l1 = TestL1::dev_chain();
    let probe = deploy_probe(l1.provider(), l1.signer(0)).await;
    let config = EventConfig {
        history: 3,
        ..EventConfig::new(probe, 0)
    };
    let mut stream = stream(l1.provider(), &config);
    l1.mine(6).await;
    drain(&mut stream).await;
    l1.reorg(5).await;
    assert!(matches!(
        stream.try_next().await,
        Err(EventError::ReorgTooDeep { .. })
    ));
}

#[test]
fn a_saved_list_must_ascend() {
    let l1 = TestL1::dev_chain();
    let config = EventConfig::new(Address::ZERO, 5);
    let block = |number| BlockRef {
        number,
        hash: Default::default(),
    };
    for saved in [
        vec![block(7), block(6)],
        vec![block(4)],
        vec![block(6), block(6)],
    ] {
        let resumed = EventStream::resume(l1.provider().clone(), config.clone(), saved);
        assert!(matches!(resumed, Err(EventError::SavedOutOfOrder(_))));
    }
}

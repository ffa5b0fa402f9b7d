//! The rollup contract through its typed client: what needs no proof.

use alloy::{
    primitives::{Address, B256, U256},
    providers::Provider,
};
use millrace_l1::{
    bindings::{
        IRollup::{self, Circuit, VerifyingKey},
        Rollup::{self, RollupErrors},
    },
    on_both_chains,
    rollup_client::{ETH, RefusalKind, RollupClient, RollupError},
    sender::TransactionSender,
    testing::TestL1,
};

/// Points of the curve's groups, each from its generator: enough for a deployment, not for a proof.
fn key() -> VerifyingKey {
    let word = |text: &str| text.parse::<U256>().unwrap();
    let g1 = [U256::from(1), U256::from(2)];
    let double = [
        word("1368015179489954701390400359078579693043519447331113978918064868415326638035"),
        word("9918110051302171585080402603319702774565515993150576347155970296011118125764"),
    ];
    let g2 = [
        word("11559732032986387107991004021392285783925812861821192530917403151452391805634"),
        word("10857046999023057135944570762232829481370756359578518086990519993285655852781"),
        word("4082367875863433681332203403145435568316851327593401208105741076214120093531"),
        word("8495653923123431417604973247489272438418190587263600148770280649306958101930"),
    ];
    // The contract refuses ± the generator here: this is twice it.
    let delta = [
        word("14583779054894525174450323658765874724019480979794335525732096752006891875705"),
        word("18029695676650738226693292988307914797657423701064905010927197838374790804409"),
        word("11474861747383700316476719153975578001603231366361248090558603872215261634898"),
        word("2140229616977736810657479771656733941598412651537078903776637920509952744750"),
    ];
    VerifyingKey {
        alpha: g1,
        beta: g2,
        gamma: g2,
        delta,
        ic: vec![g1, double, g1, double],
    }
}

fn config(operator: Address) -> IRollup::Config {
    let circuit = Circuit {
        id: 1,
        l1Rows: 2,
        txRows: 4,
        key: key(),
    };
    IRollup::Config {
        operator,
        ceremony: B256::repeat_byte(7),
        requestFee: 1_000_000,
        requestSpacing: 10,
        circuits: vec![circuit],
    }
}

fn sender(l1: &TestL1, index: u32) -> TransactionSender {
    TransactionSender::in_memory(l1.provider().clone(), l1.signer(index))
}

async fn deployed(l1: &TestL1) -> RollupClient {
    let operator = sender(l1, 0);
    let landed = RollupClient::deploy(&operator, "deploy", config(operator.address()))
        .await
        .unwrap();
    landed.value
}

on_both_chains! {
    async fn a_deployment_answers_as_configured(l1: TestL1) {
        let rollup = deployed(&l1).await;
        let rollup = RollupClient::connect(l1.provider(), rollup.address()).await.unwrap();
        let status = rollup.status().await.unwrap();
        assert_eq!((status.committedBatches, status.queueTail, status.frozen), (0, 0, false));
        assert_eq!(rollup.operator().await.unwrap(), l1.signer(0).address());
        assert_eq!(rollup.ceremony().await.unwrap(), B256::repeat_byte(7));
        assert_eq!(rollup.request_fee().await.unwrap(), U256::from(1_000_000));
        assert!(!rollup.is_open_phase().await.unwrap());
        let circuit = rollup.circuit(1).await.unwrap();
        assert_eq!((circuit.l1Rows, circuit.txRows), (2, 4));
        assert_eq!(rollup.token_count().await.unwrap(), 0);
        assert!(!rollup.has_exited(5).await.unwrap());
    }

    async fn a_deposit_joins_the_queue_and_the_rest_comes_back(l1: TestL1) {
        let rollup = deployed(&l1).await;
        let user = sender(&l1, 1);
        let landed = rollup.deposit(&user, "deposit", ETH, 5_000, U256::from(77)).await.unwrap();
        let queued = landed.value;
        assert_eq!((queued.id, queued.sender), (0, user.address()));
        assert_eq!((queued.request.kind, queued.request.amount, queued.request.owner), (1, 5_000, U256::from(77)));
        let held = l1.provider().provider().get_balance(rollup.address()).await.unwrap();
        assert_eq!(held, U256::from(5_000 + 1_000_000));
        assert_eq!(rollup.outstanding(ETH).await.unwrap(), U256::from(5_000));
        assert_ne!(rollup.request_hash(0).await.unwrap(), B256::ZERO);
        assert_eq!(rollup.status().await.unwrap().queueTail, 1);
        rollup.deposit(&user, "deposit", ETH, 5_000, U256::from(77)).await.unwrap();
        assert_eq!(rollup.status().await.unwrap().queueTail, 1, "the same id does not deposit twice");
        let exit = rollup.request_exit(&user, "exit", 9, ETH, U256::from(3), U256::from(4)).await.unwrap();
        assert_eq!((exit.value.id, exit.value.request.kind), (1, 2));
    }

    async fn refusals_are_decoded(l1: TestL1) {
        let rollup = deployed(&l1).await;
        let user = sender(&l1, 1);
        let refused = |error: RollupError| error.refusal().unwrap_or_else(|| panic!("{error}")).clone();
        let error = refused(rollup.deposit(&user, "a", 5, 1, U256::from(1)).await.unwrap_err());
        assert_eq!(error.kind, RefusalKind::Token);
        assert!(matches!(*error.error, RollupErrors::TokenNotRegistered(Rollup::TokenNotRegistered { token: 5 })));
        let error = refused(rollup.deposit(&user, "b", ETH, 1, U256::MAX).await.unwrap_err());
        assert_eq!(error.kind, RefusalKind::Request);
        assert!(error.to_string().contains("OwnerOutOfRange"), "{error}");
        let error = refused(rollup.request_exit(&user, "c", 1 << 24, ETH, U256::ONE, U256::ONE).await.unwrap_err());
        assert_eq!(error.kind, RefusalKind::Request);
        let error = refused(rollup.commit_batch(&user, "d", 1, IRollup::Batch::default()).await.unwrap_err());
        assert_eq!(error.kind, RefusalKind::NotAllowed);
        let error = refused(rollup.claim(&user, "e", ETH, user.address()).await.unwrap_err());
        assert_eq!(error.kind, RefusalKind::NothingToPay);
        let error = refused(rollup.cancel_deposit(&user, "f", 0, IRollup::Request::default()).await.unwrap_err());
        assert_eq!(error.kind, RefusalKind::NotFrozen);
    }

    async fn a_late_request_freezes_and_deposits_come_back(l1: TestL1) {
        let rollup = deployed(&l1).await;
        let user = sender(&l1, 1);
        let request = rollup.deposit(&user, "deposit", ETH, 5_000, U256::from(77)).await.unwrap().value.request;
        let early = rollup.enter_escape(&user, "early", request.clone()).await.unwrap_err();
        assert_eq!(early.refusal().unwrap().kind, RefusalKind::TooEarly);
        l1.increase_time(8 * 24 * 3600).await;
        l1.mine(1).await;
        assert!(rollup.is_open_phase().await.unwrap());
        rollup.enter_escape(&user, "escape", request.clone()).await.unwrap();
        assert!(rollup.status().await.unwrap().frozen);
        rollup.cancel_deposit(&user, "cancel", 0, request).await.unwrap();
        assert_eq!(rollup.outstanding(ETH).await.unwrap(), U256::ZERO);
        let frozen = rollup.deposit(&user, "late", ETH, 1, U256::from(1)).await.unwrap_err();
        assert_eq!(frozen.refusal().unwrap().kind, RefusalKind::Frozen);
    }

    async fn an_address_without_a_rollup_is_named(l1: TestL1) {
        let nowhere = RollupClient::connect(l1.provider(), Address::repeat_byte(3)).await;
        assert!(matches!(nowhere, Err(RollupError::NoContract(_))), "{nowhere:?}");
    }
}

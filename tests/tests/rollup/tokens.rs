//! Tokens with bad habits hurt only those who hold them: what arrives is what counts, a payment that fails can be claimed later,
//! and nobody is paid twice.

use crate::ETHER;
use alloy::primitives::{Address, U256};
use alloy::sol_types::{SolCall, SolError};
use millrace_l1::bindings::Rollup;
use millrace_l1::on_both_chains;
use millrace_tests::tokens::{FeeToken, HookToken, MoodyToken, SilentToken};
use millrace_tests::world::{World, fresh_id, refused_by};

/// What the contract holds of a token is what it owes.
async fn assert_solvent(world: &World, number: u32, token: Address) {
    let held = world.token_balance(token, world.client.address()).await;
    assert_eq!(held, world.client.outstanding(number).await.unwrap());
}

on_both_chains! {
    /// A token may return nothing, and one may keep a part of each transfer: what arrived is credited, and all of it comes out.
    async fn silent_and_fee_taking_tokens_go_in_move_and_come_out(l1: TestL1) {
        let mut world = World::start(l1).await;
        let deployer = world.provider().with_signer(world.l1.signer(1));
        let silent = *SilentToken::deploy(deployer.clone()).await.unwrap().address();
        let taking = *FeeToken::deploy(deployer).await.unwrap().address();
        let silent_number = world.register(silent, 10_000).await;
        let taking_number = world.register(taking, 10_000).await;
        world.deposit_token(0, silent_number, 1000).await;
        world.deposit_token(0, taking_number, 1000).await;
        assert_eq!(world.account(0, taking_number).await.1.balance.0, 990);
        assert_solvent(&world, 1, silent).await;
        assert_solvent(&world, 2, taking).await;

        world.pay_token(0, 1, silent_number, 400).await;
        world.pay_token(0, 1, taking_number, 500).await;
        let receiver = world.users[1].sender.address();
        let had = (world.token_balance(silent, receiver).await, world.token_balance(taking, receiver).await);
        world.withdraw_token(1, silent_number, 400, 0).await;
        world.withdraw_token(1, taking_number, 500, 0).await;
        world.finish().await;
        let got = (world.token_balance(silent, receiver).await, world.token_balance(taking, receiver).await);
        assert_eq!((got.0 - had.0, got.1 - had.1), (U256::from(400), U256::from(495)));
        assert_solvent(&world, 1, silent).await;
        assert_solvent(&world, 2, taking).await;

        // A second deposit finds the leaf of the first.
        let (leaf, _) = world.account(0, taking_number).await;
        world.deposit_token(0, taking_number, 200).await;
        let (again, account) = world.account(0, taking_number).await;
        assert_eq!((again, account.balance.0), (leaf, 490 + 198));
        world.stop().await;
    }

    /// A token that returns false, reverts with a flood of bytes or burns all gas is refused at the door. On the way out it delays
    /// only itself: others in the same batch are paid, and its holder claims when it works again.
    async fn a_failing_token_is_refused_going_in_and_claimable_coming_out(l1: TestL1) {
        let mut world = World::start(l1).await;
        let deployer = world.provider().with_signer(world.l1.signer(1));
        let moody = MoodyToken::deploy(deployer).await.unwrap();
        let (token, client) = (*moody.address(), world.client.clone());
        let number = world.register(token, 10_000).await;
        let set_mode = async |mode: u64| {
            let sent = moody.setMode(U256::from(mode)).send().await.unwrap();
            assert!(sent.get_receipt().await.unwrap().status());
        };
        for mode in [1, 2, 5, 6] {
            set_mode(mode).await;
            assert_eq!(refused_by(world.try_deposit(0, number, 100).await), "TokenCallFailed", "mode {mode}");
        }
        set_mode(0).await;
        world.deposit(1, ETHER).await;
        world.deposit_token(0, number, 1000).await;
        world.withdraw_token(0, number, 1000, 0).await;
        world.withdraw(1, ETHER / 2, 0).await;

        set_mode(4).await;
        let lucky = world.users[1].sender.address();
        let before = world.l1_balance(lucky).await;
        world.finish().await;
        assert_eq!(world.l1_balance(lucky).await - before, U256::from(ETHER / 2));
        let unlucky = world.users[0].sender.address();
        assert_eq!(client.claimable(1, unlucky).await.unwrap(), U256::from(1000));
        set_mode(2).await;
        let claim = async || client.claim(&world.users[2].sender, &fresh_id("claim"), 1, unlucky).await;
        assert_eq!(refused_by(claim().await), "PaymentFailed");
        set_mode(0).await;
        let had = world.token_balance(token, unlucky).await;
        claim().await.unwrap();
        assert_eq!(world.token_balance(token, unlucky).await - had, U256::from(1000));
        assert_eq!(refused_by(claim().await), "NothingToClaim");
        assert_eq!(world.token_balance(token, client.address()).await, U256::ZERO);
        world.stop().await;
    }

    /// A token that calls back in the middle of a transfer finds the contract locked, coming and going: it is credited once and
    /// paid once.
    async fn a_token_that_calls_back_is_locked_out(l1: TestL1) {
        let mut world = World::start(l1).await;
        let deployer = world.provider().with_signer(world.l1.signer(1));
        let hook = HookToken::deploy(deployer).await.unwrap();
        let token = *hook.address();
        let number = world.register(token, 10_000).await;
        let assert_locked_out = async || {
            assert!(!hook.lastOk().call().await.unwrap());
            assert_eq!(hook.lastReturn().call().await.unwrap()[..], Rollup::Reentered::SELECTOR);
        };
        let set_hook = async |call: Vec<u8>| {
            let sent = hook.setHook(world.client.address(), call.into()).send().await.unwrap();
            assert!(sent.get_receipt().await.unwrap().status());
        };
        set_hook(Rollup::claimCall { token: 0, account: token }.abi_encode()).await;
        world.try_deposit(0, number, 1000).await.unwrap();
        assert_locked_out().await;
        world.sync().await;
        assert_eq!(world.account(0, number).await.1.balance.0, 1000);

        world.withdraw_token(0, number, 600, 0).await;
        let batch = world.seal().await;
        world.prove().await;
        let again = Rollup::payWithdrawalsCall {
            batch: batch.0,
            chunkHashes: vec![],
            chunk: U256::ZERO,
            records: Default::default(),
            mask: U256::MAX,
        };
        let set_hook = hook.setHook(world.client.address(), again.abi_encode().into()).send().await.unwrap();
        assert!(set_hook.get_receipt().await.unwrap().status());
        let receiver = world.users[0].sender.address();
        let had = world.token_balance(token, receiver).await;
        world.finish().await;
        assert_locked_out().await;
        assert_eq!(world.token_balance(token, receiver).await - had, U256::from(600));
        assert_solvent(&world, 1, token).await;
        let (_, account) = world.account(0, number).await;
        assert_eq!(account.balance.0, 400);
        assert!(world.client.claimable(1, receiver).await.unwrap().is_zero());
        world.stop().await;
    }
}

//! The operator is dead for good. With L1 and a recovery phrase everybody gets out what is theirs, to the wei.

use crate::ETHER;
use alloy::primitives::{Address, U256};
use millrace::wallet::contract::Contract;
use millrace::wallet::escape::rebuild;
use millrace::wallet::keys::{KeySource, Phrase, UserKeys};
use millrace_circuits::types::L1Address;
use millrace_l1::devchain::DEV_MNEMONIC;
use millrace_l1::on_both_chains;
use millrace_tests::tokens::TestToken;
use millrace_tests::world::{ETH, World, refused_by};

/// The longest that a request may wait, and some more.
const EIGHT_DAYS: u64 = 8 * 24 * 3600;
/// Wei of a request's fee in these deployments.
const FEE: u64 = 1_000_000_000;

/// All that a user still has: the phrase.
fn keys(number: u32) -> UserKeys {
    let phrase = Phrase::parse(DEV_MNEMONIC).unwrap();
    KeySource::Phrase(phrase).keys(number, None).unwrap()
}

on_both_chains! {
    /// After the deadline anyone freezes the rollup. Every proven leaf is paid once, deposits that no batch took come back, requests
    /// that were not served change nothing, and what stays in the contract is the fees that nobody owns.
    async fn everyone_leaves_with_l1_and_a_phrase(l1: TestL1) {
        let mut world = World::start(l1).await;
        let deployer = world.provider().with_signer(world.l1.signer(1));
        let token = *TestToken::deploy(deployer).await.unwrap().address();
        let number = world.register(token, 10_000).await;
        world.deposit(0, 5 * ETHER).await;
        world.deposit_token(1, number, 7000).await;
        world.pay(0, 2, 2 * ETHER, 0).await;
        world.pay_token(1, 0, number, 3000).await;
        world.withdraw(0, ETHER, 0).await;
        world.finish().await;

        // The operator takes, but never proves, what follows; then it is gone, with everything it knew.
        world.pay(0, 1, ETHER, 0).await;
        let (leaf, _) = world.account(0, ETH).await;
        world.request_exit(0, leaf, ETH).await;
        world.deposit(1, 4 * ETHER).await;
        world.seal().await;
        world.post().await;
        world.try_deposit(2, number, 1234).await.unwrap();
        let client = world.client.clone();
        let l1 = world.l1.clone();
        let l1_address = L1Address(client.address().into_array());
        world.stop().await;

        let contract = Contract::new(l1.provider().clone(), l1_address);
        let helper = keys(7).l1; // pays the gas of everyone, so that balances show what the contract paid
        let oldest = |status: u64, requests: Vec<(u64, _)>| {
            requests.into_iter().find(|(id, _)| *id == status).unwrap().1
        };
        let status = contract.status().await.unwrap();
        let requests = contract.requests(0, None).await.unwrap();
        let overdue = oldest(status.provenQueueHead, requests.clone());
        let early = contract.enter_escape(&helper, overdue.clone()).await.unwrap_err();
        assert!(early.to_string().contains("DeadlineNotPassed"), "{early}");
        l1.increase_time(EIGHT_DAYS).await;
        l1.mine(1).await;
        contract.enter_escape(&helper, overdue).await.unwrap();

        let users: Vec<_> = (1..=3).map(keys).collect();
        let holdings = async || {
            let mut all = Vec::new();
            for user in &users {
                let address = user.l1.address();
                let eth = alloy::providers::Provider::get_balance(l1.provider().provider(), address).await.unwrap();
                let erc20 = TestToken::new(token, l1.provider().provider().clone());
                all.push((eth, erc20.balanceOf(address).call().await.unwrap()));
            }
            all
        };
        let before = holdings().await;
        let state = rebuild(&contract, 0, |_, _| ()).await.unwrap();
        assert_eq!(state.batches, 1, "what was never proven is no state");
        for user in &users {
            for (index, account) in state.accounts_of(&[user.owner()]) {
                let leaf = state.leaf(index, &account, user.l1_address(), &user.rollup.public_key());
                let mut richer = leaf.clone();
                richer.balance += 1;
                assert!(contract.escape_exit(&helper, richer).await.unwrap_err().to_string().contains("LeafMismatch"));
                contract.escape_exit(&helper, leaf.clone()).await.unwrap();
                let twice = contract.escape_exit(&helper, leaf).await.unwrap_err();
                assert!(twice.to_string().contains("LeafAlreadyExited"), "{twice}");
            }
        }
        let mut returned = 0;
        for (id, request) in requests {
            let open = id >= status.provenQueueHead && request.kind == 1;
            let cancelled = contract.cancel_deposit(&helper, id, request.clone()).await;
            match open {
                true => {
                    cancelled.unwrap();
                    returned += 1;
                    let twice = contract.cancel_deposit(&helper, id, request).await;
                    assert!(twice.is_err(), "request {id} came back twice");
                }
                false => assert!(cancelled.is_err(), "request {id} is no deposit in flight"),
            }
        }
        assert_eq!(returned, 2);
        let after = holdings().await;
        let gained: Vec<_> = before
            .iter()
            .zip(&after)
            .map(|(before, after)| (after.0 - before.0, after.1 - before.1))
            .collect();
        let (eth, tokens) = (|wei: u128| U256::from(wei), |units: u64| U256::from(units));
        assert_eq!(gained, [
            (eth(2 * ETHER), tokens(3000)),
            (eth(4 * ETHER), tokens(4000)),
            (eth(2 * ETHER), tokens(1234)),
        ]);

        // Nothing is owed any more. What is left are request fees: half of what was served is the operator's.
        assert!(client.outstanding(0).await.unwrap().is_zero());
        assert!(client.outstanding(1).await.unwrap().is_zero());
        let erc20 = TestToken::new(token, l1.provider().provider().clone());
        assert!(erc20.balanceOf(client.address()).call().await.unwrap().is_zero());
        let operator: Address = keys(0).l1.address();
        let owned = client.claimable(0, operator).await.unwrap();
        assert_eq!(owned, U256::from(FEE), "half of two requests");
        contract.claim(&helper, ETH, operator).await.unwrap();
        let left = alloy::providers::Provider::get_balance(l1.provider().provider(), client.address()).await.unwrap();
        assert_eq!(left, U256::from(5 * FEE - FEE), "the fees of five requests less what the operator earned");
    }

    /// A frozen rollup takes nothing any more, and its node says so after a restart too.
    async fn a_frozen_rollup_takes_nothing(l1: TestL1) {
        let mut world = World::start(l1).await;
        world.deposit(0, ETHER).await;
        world.finish().await;
        let (leaf, _) = world.account(0, ETH).await;
        world.request_exit(0, leaf, ETH).await;
        world.pass(EIGHT_DAYS).await;
        let contract = Contract::new(world.provider().clone(), L1Address(world.client.address().into_array()));
        let (id, oldest) = contract.requests(0, None).await.unwrap().pop().unwrap();
        assert_eq!(id, 1);
        contract.enter_escape(&keys(7).l1, oldest).await.unwrap();
        assert_eq!(refused_by(world.try_deposit(1, ETH, 1).await), "IsFrozen");
        for _ in 0..2 {
            world.sync().await;
            let payment = world.transfer(0, ETH, world.users[1].owner(), 1, 0).await;
            let refused = world.submit(vec![world.sign(0, payment)]).await.unwrap_err();
            assert!(refused.to_string().contains("escape"), "{refused}");
            world.post().await; // payouts only: nothing to do, and no error
            world.restart().await;
        }
        world.stop().await;
    }
}

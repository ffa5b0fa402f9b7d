//! The dev chain behaves as a real node does, where a client can tell.

use alloy::{
    eips::{BlockId, BlockNumberOrTag},
    network::TransactionBuilder,
    primitives::{Address, U256, address},
    providers::Provider,
    rpc::types::{Filter, TransactionRequest},
    sol_types::SolEvent,
    transports::RpcError,
};
use millrace_l1::{
    on_both_chains,
    testing::{Probe, deploy_probe},
};

const STRANGER: Address = address!("0x00000000000000000000000000000000000a11ce");

fn ether(amount: u64) -> U256 {
    U256::from(amount) * U256::from(10u64.pow(18))
}

fn transfer(to: Address, value: U256) -> TransactionRequest {
    TransactionRequest::default().with_to(to).with_value(value)
}

on_both_chains! {
    async fn a_transfer_arrives_and_has_a_receipt(l1: TestL1) {
        let provider = l1.provider().with_signer(l1.signer(0));
        let receipt = provider.send_transaction(transfer(STRANGER, ether(1))).await.unwrap().get_receipt().await.unwrap();
        assert!(receipt.status());
        assert_eq!(receipt.gas_used, 21_000);
        assert_eq!(receipt.from, l1.signer(0).address());
        assert_eq!(provider.get_balance(STRANGER).await.unwrap(), ether(1));
        assert_eq!(provider.get_transaction_count(receipt.from).await.unwrap(), 1);
        let transaction = provider.get_transaction_by_hash(receipt.transaction_hash).await.unwrap().unwrap();
        assert_eq!(transaction.block_hash, receipt.block_hash);
        let block = provider.get_block_by_hash(receipt.block_hash.unwrap()).await.unwrap().unwrap();
        assert_eq!(block.header.hash, block.header.inner.hash_slow(), "the hash is that of the header");
        assert!(block.transactions.hashes().any(|hash| hash == receipt.transaction_hash));
    }

    async fn a_custom_error_is_decoded_from_call_estimate_and_transaction(l1: TestL1) {
        let at = deploy_probe(l1.provider(), l1.signer(0)).await;
        let probe = Probe::new(at, l1.provider().with_signer(l1.signer(0)));
        let failed = probe.note(U256::from(1), U256::from(9)).call().await.err().unwrap();
        let error = failed.as_decoded_error::<Probe::TooSmall>().expect("eth_call carries the error");
        assert_eq!((error.min, error.got), (U256::from(10), U256::from(9)));
        let failed = probe.note(U256::from(1), U256::from(9)).send().await.unwrap_err();
        assert!(failed.as_decoded_error::<Probe::TooSmall>().is_some(), "so does the estimate");
        let mined = probe.note(U256::from(1), U256::from(9)).gas(100_000).send().await.unwrap().get_receipt().await.unwrap();
        assert!(!mined.status());
        assert!(mined.logs().is_empty());
    }

    async fn logs_are_found_by_range_address_topic_and_hash(l1: TestL1) {
        let at = deploy_probe(l1.provider(), l1.signer(0)).await;
        let probe = Probe::new(at, l1.provider().with_signer(l1.signer(0)));
        let mut blocks = vec![];
        for key in 1..=3u64 {
            let receipt = probe.note(U256::from(key), U256::from(10 + key)).send().await.unwrap().get_receipt().await.unwrap();
            blocks.push((receipt.block_number.unwrap(), receipt.block_hash.unwrap()));
        }
        let provider = l1.provider().provider();
        let of = Filter::new().address(at).event_signature(Probe::Noted::SIGNATURE_HASH);
        let all = provider.get_logs(&of.clone().from_block(0)).await.unwrap();
        let values: Vec<U256> = all.iter().map(|log| Probe::Noted::decode_log(&log.inner).unwrap().value).collect();
        assert_eq!(values, [11, 12, 13].map(U256::from));
        let second = provider.get_logs(&of.clone().from_block(blocks[1].0).to_block(blocks[1].0)).await.unwrap();
        assert_eq!(second, all[1..2]);
        let by_hash = provider.get_logs(&of.clone().at_block_hash(blocks[2].1)).await.unwrap();
        assert_eq!(by_hash, all[2..]);
        let by_topic = provider.get_logs(&of.clone().from_block(0).topic1(U256::from(1))).await.unwrap();
        assert_eq!(by_topic, all[..1]);
        let elsewhere = provider.get_logs(&Filter::new().address(STRANGER).from_block(0)).await.unwrap();
        assert!(elsewhere.is_empty());
    }

    async fn nonces_wait_for_their_gap_and_low_ones_are_refused(l1: TestL1) {
        let provider = l1.provider().with_signer(l1.signer(1));
        let later = provider.send_transaction(transfer(STRANGER, U256::from(2)).with_nonce(1)).await.unwrap();
        assert_eq!(provider.get_balance(STRANGER).await.unwrap(), U256::ZERO);
        let earlier = provider.send_transaction(transfer(STRANGER, U256::from(1)).with_nonce(0)).await.unwrap();
        earlier.get_receipt().await.unwrap();
        later.get_receipt().await.unwrap();
        assert_eq!(provider.get_balance(STRANGER).await.unwrap(), U256::from(3));
        let again = provider.send_transaction(transfer(STRANGER, U256::from(3)).with_nonce(0)).await.unwrap_err();
        assert!(again.to_string().contains("nonce too low"), "{again}");
    }

    async fn a_replacement_must_pay_more(l1: TestL1) {
        l1.set_automine(false).await;
        let signer = l1.signer(2);
        let provider = l1.provider().with_signer(signer.clone());
        let priced = |value: u64, gwei: u128| {
            let request = transfer(STRANGER, U256::from(value)).with_nonce(0).with_gas_limit(21_000);
            request.with_max_fee_per_gas(gwei * 1_000_000_000).with_max_priority_fee_per_gas(gwei * 1_000_000_000)
        };
        let _replaced = provider.send_transaction(priced(1, 10)).await.unwrap();
        let same = provider.send_transaction(priced(2, 10)).await.unwrap_err();
        assert!(same.to_string().contains("replacement transaction underpriced"), "{same}");
        let better = provider.send_transaction(priced(3, 20)).await.unwrap();
        assert_eq!(provider.get_transaction_count(signer.address()).pending().await.unwrap(), 1);
        assert_eq!(provider.get_transaction_count(signer.address()).await.unwrap(), 0);
        l1.mine(1).await;
        better.get_receipt().await.unwrap();
        assert_eq!(provider.get_balance(STRANGER).await.unwrap(), U256::from(3));
    }

    async fn money_that_is_not_there_is_not_sent(l1: TestL1) {
        let signer = l1.signer(3);
        l1.set_balance(signer.address(), U256::from(1000)).await;
        let request = transfer(STRANGER, U256::from(1)).with_gas_limit(21_000).with_nonce(0);
        let request = request.with_max_fee_per_gas(5_000_000_000).with_max_priority_fee_per_gas(1);
        let refused = l1.provider().with_signer(signer).send_transaction(request).await.unwrap_err();
        assert!(refused.to_string().to_lowercase().contains("insufficient funds"), "{refused}");
    }

    async fn gas_above_the_cap_is_refused(l1: TestL1) {
        let request = transfer(STRANGER, U256::from(1)).with_gas_limit((1 << 24) + 1).with_nonce(0);
        let request = request.with_max_fee_per_gas(5_000_000_000).with_max_priority_fee_per_gas(1);
        let refused = l1.provider().with_signer(l1.signer(0)).send_transaction(request).await;
        assert!(matches!(refused, Err(RpcError::ErrorResp(_))), "{refused:?}");
    }

    async fn an_estimate_suffices_where_inner_calls_need_more_than_they_use(l1: TestL1) {
        let at = deploy_probe(l1.provider(), l1.signer(0)).await;
        let probe = Probe::new(at, l1.provider().with_signer(l1.signer(0)));
        let inner = probe.note(U256::from(1), U256::from(10)).calldata().clone();
        let inner = Probe::relayCall { to: at, data: inner };
        let outer = probe.relay(at, alloy::sol_types::SolCall::abi_encode(&inner).into());
        let receipt = outer.send().await.unwrap().get_receipt().await.unwrap();
        assert!(receipt.status());
        assert_eq!(probe.count().call().await.unwrap(), U256::from(1));
    }

    async fn time_moves_when_it_is_told_to(l1: TestL1) {
        let at = deploy_probe(l1.provider(), l1.signer(0)).await;
        let probe = Probe::new(at, l1.provider().with_signer(l1.signer(0)));
        let before = probe.time().call().await.unwrap();
        let refused = probe.notBefore(before + U256::from(3600)).send().await.unwrap_err();
        assert!(refused.to_string().contains("too early"), "{refused}");
        l1.increase_time(3600).await;
        l1.mine(1).await;
        assert!(probe.time().call().await.unwrap() >= before + U256::from(3600));
        probe.notBefore(before + U256::from(3600)).send().await.unwrap().get_receipt().await.unwrap();
    }

    async fn a_reorg_takes_transactions_back(l1: TestL1) {
        let provider = l1.provider().with_signer(l1.signer(0));
        let kept = provider.send_transaction(transfer(STRANGER, U256::from(5))).await.unwrap().get_receipt().await.unwrap();
        let dropped = provider.send_transaction(transfer(STRANGER, U256::from(6))).await.unwrap().get_receipt().await.unwrap();
        l1.mine(1).await;
        let height = l1.height().await;
        l1.reorg(2).await;
        assert_eq!(l1.height().await, height);
        assert_eq!(provider.get_balance(STRANGER).await.unwrap(), U256::from(5));
        assert!(provider.get_transaction_receipt(dropped.transaction_hash).await.unwrap().is_none());
        assert!(provider.get_transaction_receipt(kept.transaction_hash).await.unwrap().is_some());
        let now = provider.get_block_by_number(dropped.block_number.unwrap().into()).await.unwrap().unwrap();
        assert_ne!(Some(now.header.hash), dropped.block_hash);
        assert_eq!(provider.get_transaction_count(l1.signer(0).address()).await.unwrap(), 1);
    }

    async fn an_older_state_can_be_read(l1: TestL1) {
        let at = deploy_probe(l1.provider(), l1.signer(0)).await;
        let probe = Probe::new(at, l1.provider().with_signer(l1.signer(0)));
        let mut heights = vec![];
        for value in 10..14u64 {
            probe.note(U256::from(0), U256::from(value)).send().await.unwrap().get_receipt().await.unwrap();
            heights.push(l1.height().await);
        }
        for (value, height) in (10..14u64).zip(heights) {
            let seen = probe.value().block(BlockId::number(height)).call().await.unwrap();
            assert_eq!(seen, U256::from(value));
        }
    }

    async fn tags_name_blocks(l1: TestL1) {
        l1.mine(3).await;
        let provider = l1.provider().provider();
        let number = |tag| async move { provider.get_block_by_number(tag).await.unwrap().unwrap().header.number };
        assert_eq!(number(BlockNumberOrTag::Earliest).await, 0);
        assert_eq!(number(BlockNumberOrTag::Latest).await, 3);
        assert_eq!(number(BlockNumberOrTag::Pending).await, 4);
        assert_eq!(number(BlockNumberOrTag::Finalized).await, 0);
        assert!(provider.get_block_by_number(9.into()).await.unwrap().is_none());
    }

    async fn code_that_never_ends_is_an_error(l1: TestL1) {
        let at = deploy_probe(l1.provider(), l1.signer(0)).await;
        let probe = Probe::new(at, l1.provider().provider());
        let failed = probe.spin().call().await.err().unwrap();
        assert!(failed.as_revert_data().is_none_or(|data| data.is_empty()), "{failed}");
    }
}

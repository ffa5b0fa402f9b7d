//! Whatever forks the chain goes through, a reader who applies blocks and undoes reorgs has the canonical chain's logs.

use alloy::{
    consensus::{SignableTransaction, TxEip1559, TxEnvelope},
    eips::eip2718::Encodable2718,
    primitives::{Address, TxKind, U256},
    providers::Provider,
    rpc::types::{Filter, Log},
    signers::SignerSync,
    sol_types::SolCall,
};
use millrace_l1::{
    devchain::{DevChain, DevChainConfig, Orphans, Reorg, dev_signer},
    events::{BlockRef, Confirmation, EventConfig, EventStream, L1Event},
    provider::L1Provider,
    testing::{Probe, TestL1, deploy_probe},
};
use proptest::prelude::*;

/// Something that happens to the chain or to its reader.
#[derive(Clone, Debug)]
enum Step {
    /// A block with this many logs.
    Grow(u32),
    /// Blocks are dropped, and others take their place with some of the dropped transactions.
    Fork {
        depth: u64,
        blocks: u64,
        kept: usize,
    },
    /// The reader takes a few events.
    Read(u32),
    /// The reader is started again from what it saved.
    Restart,
}

fn arb_step() -> impl Strategy<Value = Step> {
    prop_oneof![
        5 => (0u32..3).prop_map(Step::Grow),
        3 => (1u64..64, 0u64..64, 0usize..6).prop_map(|(depth, blocks, kept)| Step::Fork { depth, blocks, kept }),
        3 => (1u32..6, 1u64..4, 0usize..6).prop_map(|(depth, blocks, kept)| Step::Fork { depth: depth.into(), blocks, kept }),
        4 => (1u32..12).prop_map(Step::Read),
        1 => Just(Step::Restart),
    ]
}

/// A reader's view: what it applied, by block.
#[derive(Debug, Default)]
struct Reader {
    blocks: Vec<(BlockRef, Vec<Log>)>,
}

impl Reader {
    fn apply(&mut self, event: L1Event) {
        match event {
            L1Event::Block(block) => {
                assert!(
                    self.blocks
                        .last()
                        .is_none_or(|(last, _)| last.number < block.block.number),
                    "out of order"
                );
                assert!(
                    block
                        .logs
                        .iter()
                        .all(|log| log.block_hash == Some(block.block.hash))
                );
                self.blocks.push((block.block, block.logs));
            }
            L1Event::Reorg { to_block } => {
                let before = self.blocks.len();
                self.blocks
                    .retain(|(block, _)| block.number <= to_block.number);
                assert!(self.blocks.len() < before, "a reorg drops something");
                assert!(
                    self.blocks
                        .last()
                        .is_none_or(|(block, _)| *block == to_block),
                    "down to a block that was applied"
                );
            }
        }
    }

    fn logs(&self) -> Vec<Log> {
        self.blocks
            .iter()
            .flat_map(|(_, logs)| logs.clone())
            .collect()
    }
}

struct World {
    chain: DevChain,
    l1: L1Provider,
    probe: Address,
    config: EventConfig,
    depth: u64,
    reader: Reader,
    stream: EventStream,
}

impl World {
    async fn new(near_head: u64, depth: u64) -> Self {
        let chain = DevChain::new(DevChainConfig::deterministic());
        let l1 = L1Provider::from(&chain);
        let probe = deploy_probe(&l1, dev_signer(9)).await;
        chain.set_automine(false);
        let config = EventConfig {
            near_head,
            confirmation: Confirmation::Depth(depth),
            max_range: 7,
            ..EventConfig::new(probe, 0)
        };
        let stream = EventStream::new(l1.clone(), config.clone());
        Self {
            chain,
            l1,
            probe,
            config,
            depth,
            reader: Reader::default(),
            stream,
        }
    }

    async fn note(&self, account: u32) {
        let nonce = self
            .l1
            .provider()
            .get_transaction_count(dev_signer(account).address())
            .pending()
            .await
            .unwrap();
        let call = Probe::noteCall {
            key: U256::from(account),
            newValue: U256::from(10 + nonce),
        };
        let transaction = TxEip1559 {
            chain_id: self.chain.chain_id(),
            nonce,
            gas_limit: 200_000,
            max_fee_per_gas: 2_000_000_000,
            max_priority_fee_per_gas: 1,
            to: TxKind::Call(self.probe),
            input: call.abi_encode().into(),
            ..Default::default()
        };
        let signature = dev_signer(account)
            .sign_hash_sync(&transaction.signature_hash())
            .unwrap();
        let envelope: TxEnvelope = transaction.into_signed(signature).into();
        let _waiting = self
            .l1
            .provider()
            .send_raw_transaction(&envelope.encoded_2718())
            .await
            .unwrap();
    }

    /// Keeps the block of the deployment.
    fn fork(&self, depth: u64, blocks: u64, kept: usize) {
        let depth = depth.min(self.chain.height() - 1);
        let dropped = (self.chain.height() - depth + 1)..=self.chain.height();
        let transactions: Vec<TxEnvelope> = dropped
            .flat_map(|number| self.chain.block(number).unwrap().transactions.clone())
            .map(|transaction| transaction.envelope)
            .take(kept)
            .collect();
        let mut contents = vec![vec![]; blocks as usize];
        let last = contents.len().max(1);
        for (index, transaction) in transactions.into_iter().enumerate() {
            // Spread in order, so that nonces stay in order.
            let place = (index * last / kept.max(1)).min(last - 1);
            if let Some(block) = contents.get_mut(place) {
                block.push(transaction);
            }
        }
        self.chain
            .reorg(&Reorg {
                depth,
                blocks: contents,
                orphans: Orphans::Forget,
            })
            .unwrap();
    }

    async fn step(&mut self, step: Step) {
        match step {
            Step::Grow(logs) => {
                for account in 0..logs {
                    self.note(account).await;
                }
                self.chain.mine();
            }
            Step::Fork {
                depth,
                blocks,
                kept,
            } => self.fork(depth, blocks, kept),
            Step::Read(events) => {
                for _ in 0..events {
                    if !self.read().await {
                        break;
                    }
                }
            }
            Step::Restart => {
                let saved: Vec<BlockRef> =
                    self.reader.blocks.iter().map(|(block, _)| *block).collect();
                assert_eq!(
                    saved,
                    self.stream.followed(),
                    "what is saved is what was applied"
                );
                self.stream =
                    EventStream::resume(self.l1.clone(), self.config.clone(), saved).unwrap();
            }
        }
    }

    async fn read(&mut self) -> bool {
        let event = self.stream.try_next().await.unwrap();
        let found = event.is_some();
        event.into_iter().for_each(|event| self.reader.apply(event));
        found
    }

    /// The reader's logs are the chain's, as far as the reader may be.
    async fn check(&mut self) {
        while self.read().await {}
        let height = self.chain.height();
        let Some(settled) = height.checked_sub(self.depth) else {
            return;
        };
        let filter = Filter::new()
            .address(self.probe)
            .from_block(0)
            .to_block(settled);
        let canonical = self.l1.provider().get_logs(&filter).await.unwrap();
        let mut read = self.reader.logs();
        // Where the chain became shorter, the reader may be ahead by blocks that still are on it.
        read.retain(|log| log.block_number.unwrap() <= settled);
        assert_eq!(read, canonical);
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]

    #[test]
    fn the_reader_has_the_canonical_chain(
        steps in prop::collection::vec(arb_step(), 1..40),
        near_head in prop_oneof![Just(0u64), 1u64..6, Just(200u64)],
        depth in prop_oneof![3 => Just(0u64), 1 => 1u64..5],
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let mut world = World::new(near_head, depth).await;
            for step in steps {
                world.step(step).await;
            }
            world.check().await;
        });
    }
}

/// The same on a real node, whose reorgs are its own: 200 of them, from a fixed seed.
#[tokio::test]
async fn the_reader_has_the_canonical_chain_of_anvil() {
    let l1 = TestL1::anvil().await;
    let probe = deploy_probe(l1.provider(), l1.signer(0)).await;
    let contract = Probe::new(probe, l1.provider().with_signer(l1.signer(0)));
    let mut stream = EventStream::new(l1.provider().clone(), EventConfig::new(probe, 0));
    let mut reader = Reader::default();
    let mut random = 0x9e37_79b9_7f4a_7c15u64;
    let deployed = l1.height().await;
    for round in 0..200u64 {
        random = random
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1);
        let (notes, depth) = ((random >> 33) % 4, (random >> 40) % 12 + 1);
        for note in 0..notes {
            let note = contract.note(U256::from(round), U256::from(10 + note));
            note.send().await.unwrap().get_receipt().await.unwrap();
        }
        if (random >> 50).is_multiple_of(3) {
            while let Some(event) = stream.try_next().await.unwrap() {
                reader.apply(event);
            }
        }
        // The deployment stays.
        let depth = depth.min(l1.height().await - deployed);
        if depth > 0 {
            l1.reorg(depth).await;
        }
    }
    while let Some(event) = stream.try_next().await.unwrap() {
        reader.apply(event);
    }
    let filter = Filter::new().address(probe).from_block(0);
    assert_eq!(
        reader.logs(),
        l1.provider().provider().get_logs(&filter).await.unwrap()
    );
}

//! What tests of this and other crates share: a real node, and one face for it and for the dev chain.
//!
//! `on_both_chains!` runs a test on the dev chain and on anvil; `TestL1` gives both the same verbs.

mod anvil;
mod probe;

pub use anvil::{Anvil, AnvilError};
pub use probe::{Probe, deploy_probe, probe_bytecode};

use crate::{
    devchain::{DevChain, DevChainConfig, dev_signer},
    provider::L1Provider,
};
use alloy::{
    primitives::{Address, U256},
    providers::Provider,
    signers::local::PrivateKeySigner,
};

/// A chain for a test, with the development accounts funded.
pub struct TestL1 {
    chain: TestChain,
    provider: L1Provider,
}

enum TestChain {
    Dev(DevChain),
    /// Held for its lifetime: the process ends with it.
    Anvil {
        process: Anvil,
    },
}

impl TestL1 {
    /// On the dev chain.
    pub fn dev_chain() -> Self {
        let chain = DevChain::new(DevChainConfig::default());
        Self {
            provider: L1Provider::from(&chain),
            chain: TestChain::Dev(chain),
        }
    }

    /// On a fresh anvil.
    ///
    /// # Panics
    /// If anvil does not start: a test without its node fails.
    pub async fn anvil() -> Self {
        let anvil = Anvil::spawn().unwrap_or_else(|error| panic!("{error}"));
        let provider = anvil
            .connect()
            .await
            .unwrap_or_else(|error| panic!("{error}"));
        Self {
            chain: TestChain::Anvil { process: anvil },
            provider,
        }
    }

    /// The connection.
    pub fn provider(&self) -> &L1Provider {
        &self.provider
    }

    /// The dev chain, if this is one.
    pub fn as_dev_chain(&self) -> Option<&DevChain> {
        match &self.chain {
            TestChain::Dev(chain) => Some(chain),
            TestChain::Anvil { .. } => None,
        }
    }

    /// The endpoint, if the chain is a process of its own.
    pub fn url(&self) -> Option<&str> {
        match &self.chain {
            TestChain::Dev(_) => None,
            TestChain::Anvil { process } => Some(process.url()),
        }
    }

    /// Development account `index`.
    pub fn signer(&self, index: u32) -> PrivateKeySigner {
        dev_signer(index)
    }

    async fn control<P: alloy::rpc::json_rpc::RpcSend>(&self, method: &'static str, params: P) {
        let answer = self
            .provider
            .provider()
            .raw_request::<P, serde_json::Value>(method.into(), params)
            .await;
        answer.unwrap_or_else(|error| panic!("{method}: {error}"));
    }

    /// Mines empty blocks, or those that wait.
    pub async fn mine(&self, blocks: u64) {
        for _ in 0..blocks {
            self.control("evm_mine", ()).await;
        }
    }

    /// Switches mining on every transaction on or off.
    pub async fn set_automine(&self, automine: bool) {
        self.control("evm_setAutomine", (automine,)).await;
    }

    /// Moves time forward; the next block shows it.
    pub async fn increase_time(&self, secs: u64) {
        self.control("evm_increaseTime", (secs,)).await;
    }

    /// Sets an account's balance in wei.
    pub async fn set_balance(&self, address: Address, balance: U256) {
        self.control("anvil_setBalance", (address, balance)).await;
    }

    /// Sets the next block's base fee, in wei per gas.
    pub async fn set_base_fee(&self, base_fee: u64) {
        self.control("anvil_setNextBlockBaseFeePerGas", (U256::from(base_fee),))
            .await;
    }

    /// Drops the last `depth` blocks with their transactions and mines as many empty ones.
    pub async fn reorg(&self, depth: u64) {
        self.control("anvil_reorg", (depth, Vec::<(String, u64)>::new()))
            .await;
    }

    /// Number of the newest block.
    pub async fn height(&self) -> u64 {
        let height = self.provider.provider().get_block_number().await;
        height.unwrap_or_else(|error| panic!("block number: {error}"))
    }
}

/// Runs each test on the dev chain and on anvil: `on_both_chains! { async fn name(l1: TestL1) { … } }`.
#[macro_export]
macro_rules! on_both_chains {
    ($($(#[$meta:meta])* async fn $name:ident($l1:ident : TestL1) $body:block)*) => {$(
        $(#[$meta])*
        mod $name {
            #[allow(unused_imports)]
            use super::*;

            async fn run($l1: $crate::testing::TestL1) $body

            #[tokio::test]
            async fn dev_chain() {
                run($crate::testing::TestL1::dev_chain()).await;
            }

            #[tokio::test]
            async fn anvil() {
                run($crate::testing::TestL1::anvil().await).await;
            }
        }
    )*};
}

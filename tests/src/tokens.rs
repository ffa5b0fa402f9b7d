//! ERC-20s with one bad habit each, from the contracts' own tests: compiled and committed beside the contract.
//!
//! `deploy_…` → address → `World::register` → deposits, payouts

use alloy::primitives::{Address, U256};
use alloy::providers::DynProvider;

pub use artifacts::{FeeToken, HookToken, MoodyToken, SilentToken, TestToken};

mod artifacts {
    //! ABI and bytecode, in a module of its own because the macro writes undocumented items.
    #![allow(missing_docs)]
    alloy::sol!(
        #[sol(rpc)]
        TestToken,
        "../l1/contracts/artifacts/test/TestToken.json"
    );
    alloy::sol!(
        #[sol(rpc)]
        SilentToken,
        "../l1/contracts/artifacts/test/SilentToken.json"
    );
    alloy::sol!(
        #[sol(rpc)]
        FeeToken,
        "../l1/contracts/artifacts/test/FeeToken.json"
    );
    alloy::sol!(
        #[sol(rpc)]
        MoodyToken,
        "../l1/contracts/artifacts/test/MoodyToken.json"
    );
    alloy::sol!(
        #[sol(rpc)]
        HookToken,
        "../l1/contracts/artifacts/test/HookToken.json"
    );
}

/// Mints any of them.
///
/// # Panics
/// If the chain refuses.
pub async fn mint(signer: DynProvider, token: Address, to: Address, amount: U256) {
    let sent = TestToken::new(token, signer).mint(to, amount).send().await;
    let receipt = sent.expect("anyone may mint").get_receipt().await;
    assert!(receipt.expect("it is mined").status());
}

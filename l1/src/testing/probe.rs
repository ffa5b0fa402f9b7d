//! A contract that stores, logs and fails on demand. Source: `Probe.sol`; `probe.hex` is its bytecode by solc 0.8.37 with the
//! optimizer at 200 runs and without metadata.

use crate::provider::L1Provider;
use alloy::{
    network::TransactionBuilder,
    primitives::{Address, Bytes},
    providers::Provider,
    rpc::types::TransactionRequest,
    signers::local::PrivateKeySigner,
};

mod bindings {
    //! Generated from the source.
    #![allow(missing_docs)]

    alloy::sol!(
        #[sol(rpc, all_derives)]
        "src/testing/Probe.sol"
    );
}

pub use bindings::Probe;

/// The contract's creation code.
pub fn probe_bytecode() -> Bytes {
    let code = hex::decode(include_str!("probe.hex").trim());
    code.expect("the compiled contract is hexadecimal").into()
}

/// Deploys the contract and returns its address.
///
/// # Panics
/// If the chain refuses: a test without its contract fails.
pub async fn deploy_probe(l1: &L1Provider, signer: PrivateKeySigner) -> Address {
    let transaction = TransactionRequest::default().with_deploy_code(probe_bytecode());
    let pending = l1.with_signer(signer).send_transaction(transaction).await;
    let receipt = pending
        .expect("the deployment is accepted")
        .get_receipt()
        .await;
    let receipt = receipt.expect("the deployment is mined");
    receipt
        .contract_address
        .expect("a deployment creates a contract")
}

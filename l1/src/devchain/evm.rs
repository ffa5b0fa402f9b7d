//! Executing one transaction or call on revm. The only file that builds an EVM.

use super::{error::DevChainError, world::View};
use alloy::{
    consensus::{Transaction, TxEnvelope, Typed2718},
    primitives::{Address, B256, Bytes, TxKind, U256},
    rpc::types::TransactionRequest,
};
use revm::{
    Context, ExecuteEvm, MainBuilder, MainContext,
    context::{
        TxEnv,
        result::{EVMError, ExecutionResult, InvalidTransaction, ResultAndState},
    },
    context_interface::block::BlobExcessGasAndPrice,
    database::WrapDatabaseRef,
    primitives::hardfork::SpecId,
};

/// EIP-7825: no transaction may ask for more gas.
pub const TRANSACTION_GAS_CAP: u64 = 1 << 24;
/// Price of blob gas in wei: the dev chain's blob market is always empty.
pub const BLOB_GAS_PRICE: u128 = 1;

/// What a transaction sees of its block.
#[derive(Clone, Debug)]
pub struct BlockEnvironment {
    /// Block number.
    pub number: u64,
    /// Seconds since 1970.
    pub timestamp: u64,
    /// Wei per gas that is burnt.
    pub base_fee: u64,
    /// Gas that a block holds.
    pub gas_limit: u64,
    /// The block's randomness.
    pub prevrandao: B256,
}

/// Which checks an execution makes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rules {
    /// All of a transaction's.
    Transaction,
    /// Those of `eth_call`: no nonce, no fees, no gas cap, and contracts may be callers.
    Call,
}

/// Executes on a view and returns result and changes; the view stays as it is.
pub fn execute(
    view: View<'_>,
    chain_id: u64,
    block: &BlockEnvironment,
    transaction: TxEnv,
    rules: Rules,
) -> Result<ResultAndState, DevChainError> {
    let caller = transaction.caller;
    let call = rules == Rules::Call;
    let mut evm = Context::mainnet()
        .with_db(WrapDatabaseRef(view))
        .modify_cfg_chained(|cfg| {
            cfg.set_spec_and_mainnet_gas_params(SpecId::OSAKA);
            cfg.chain_id = chain_id;
            cfg.disable_nonce_check = call;
            cfg.disable_base_fee = call;
            cfg.disable_eip3607 = call;
            cfg.disable_block_gas_limit = call;
            cfg.tx_gas_limit_cap = call.then_some(u64::MAX);
        })
        .modify_block_chained(|env| {
            env.number = U256::from(block.number);
            env.timestamp = U256::from(block.timestamp);
            env.gas_limit = block.gas_limit;
            env.basefee = block.base_fee;
            env.prevrandao = Some(block.prevrandao);
            env.blob_excess_gas_and_price = Some(BlobExcessGasAndPrice {
                excess_blob_gas: 0,
                blob_gasprice: BLOB_GAS_PRICE,
            });
        })
        .build_mainnet();
    evm.transact(transaction)
        .map_err(|error| refused(error, caller))
}

/// Puts revm's refusal into the words of public nodes.
fn refused(error: EVMError<std::convert::Infallible>, caller: Address) -> DevChainError {
    match error {
        EVMError::Transaction(InvalidTransaction::LackOfFundForMaxFee { fee, balance }) => {
            DevChainError::InsufficientFunds {
                address: caller,
                have: *balance,
                want: *fee,
            }
        }
        EVMError::Transaction(InvalidTransaction::CallGasCostMoreThanGasLimit {
            initial_gas: need,
            gas_limit,
        })
        | EVMError::Transaction(InvalidTransaction::GasFloorMoreThanGasLimit {
            gas_floor: need,
            gas_limit,
        }) => DevChainError::InvalidTransaction(format!(
            "intrinsic gas too low: gas {gas_limit}, minimum needed {need}"
        )),
        EVMError::Transaction(invalid) => DevChainError::InvalidTransaction(invalid.to_string()),
        other => DevChainError::InvalidTransaction(other.to_string()),
    }
}

/// A signed transaction as revm takes it.
pub fn transaction_env(envelope: &TxEnvelope, sender: Address) -> Result<TxEnv, DevChainError> {
    let mut builder = TxEnv::builder()
        .tx_type(Some(envelope.ty()))
        .caller(sender)
        .gas_limit(envelope.gas_limit())
        .kind(envelope.kind())
        .value(envelope.value())
        .data(envelope.input().clone())
        .nonce(envelope.nonce())
        .chain_id(envelope.chain_id())
        .gas_price(envelope.max_fee_per_gas())
        .gas_priority_fee(envelope.max_priority_fee_per_gas());
    if let Some(list) = envelope.access_list() {
        builder = builder.access_list(list.clone());
    }
    if let Some(hashes) = envelope.blob_versioned_hashes() {
        let price = envelope.max_fee_per_blob_gas().unwrap_or_default();
        builder = builder
            .blob_hashes(hashes.to_vec())
            .max_fee_per_blob_gas(price);
    }
    if let Some(authorizations) = envelope.authorization_list() {
        builder = builder.authorization_list_signed(authorizations.to_vec());
    }
    builder
        .build()
        .map_err(|error| DevChainError::InvalidTransaction(format!("{error:?}")))
}

/// A call request as revm takes it, at `gas` and without fees.
pub fn call_env(
    request: &TransactionRequest,
    chain_id: u64,
    gas: u64,
) -> Result<TxEnv, DevChainError> {
    let mut builder = TxEnv::builder()
        .caller(request.from.unwrap_or_default())
        .gas_limit(gas)
        .kind(request.to.unwrap_or(TxKind::Create))
        .value(request.value.unwrap_or_default())
        .data(request.input.input().cloned().unwrap_or_default())
        .chain_id(Some(chain_id))
        .gas_price(0);
    if let Some(list) = &request.access_list {
        builder = builder.access_list(list.clone());
    }
    builder
        .build()
        .map_err(|error| DevChainError::InvalidTransaction(format!("{error:?}")))
}

/// What a call returned, or why it failed.
pub fn output(result: ExecutionResult) -> Result<Bytes, DevChainError> {
    match result {
        ExecutionResult::Success { output, .. } => Ok(output.into_data()),
        ExecutionResult::Revert { output, .. } => Err(DevChainError::Reverted(output)),
        ExecutionResult::Halt { reason, .. } => Err(DevChainError::Halted(format!("{reason:?}"))),
    }
}

//! The JSON-RPC methods of the dev chain.
//!
//! `dispatch` names every method once; the files below answer them: `read` (blocks, transactions, accounts, logs, fees),
//! `call` (eth_call, eth_estimateGas) and `control` (submitting, mining, time, snapshots, reorgs).

mod call;
mod control;
mod read;

use super::{DevChain, Shared, error::DevChainError};
use serde::{Serialize, de::DeserializeOwned};
use serde_json::{Value, json};

/// What a method answers.
pub type Answer = Result<Value, DevChainError>;

/// The positional parameters of a request.
pub struct Params<'a> {
    method: &'a str,
    values: &'a [Value],
}

impl Params<'_> {
    /// The parameter at `index`.
    pub fn get<T: DeserializeOwned>(&self, index: usize) -> Result<T, DevChainError> {
        T::deserialize(self.values.get(index).unwrap_or(&Value::Null))
            .map_err(|error| self.invalid(index, error))
    }

    /// The parameter at `index`, or the default where it is absent or null.
    pub fn or_default<T: DeserializeOwned + Default>(
        &self,
        index: usize,
    ) -> Result<T, DevChainError> {
        self.or(index, T::default())
    }

    /// The parameter at `index`, or another value where it is absent or null.
    pub fn or<T: DeserializeOwned>(&self, index: usize, otherwise: T) -> Result<T, DevChainError> {
        match self.values.get(index) {
            None | Some(Value::Null) => Ok(otherwise),
            Some(_) => self.get(index),
        }
    }

    /// The number at `index`, which may be a JSON number, a decimal or a hexadecimal text.
    pub fn number(&self, index: usize) -> Result<u64, DevChainError> {
        let value = self.values.get(index).unwrap_or(&Value::Null);
        number(value)
            .ok_or_else(|| self.invalid(index, format!("{value} is not a number below 2^64")))
    }

    /// The number at `index`, or another where it is absent or null.
    pub fn number_or(&self, index: usize, otherwise: u64) -> Result<u64, DevChainError> {
        match self.values.get(index) {
            None | Some(Value::Null) => Ok(otherwise),
            Some(_) => self.number(index),
        }
    }

    /// The fault of a parameter.
    pub fn invalid(&self, index: usize, cause: impl std::fmt::Display) -> DevChainError {
        DevChainError::InvalidParameter {
            method: self.method.to_owned(),
            index,
            cause: cause.to_string(),
        }
    }
}

fn number(value: &Value) -> Option<u64> {
    let text = match value {
        Value::Number(number) => return number.as_u64(),
        Value::String(text) => text,
        _ => return None,
    };
    match text.strip_prefix("0x") {
        Some(hexadecimal) => u64::from_str_radix(hexadecimal, 16).ok(),
        None => text.parse().ok(),
    }
}

/// A number as JSON-RPC writes it.
pub fn quantity(number: impl std::fmt::LowerHex) -> Value {
    json!(format!("{number:#x}"))
}

/// Any answer type as JSON.
pub fn to_json(value: impl Serialize) -> Answer {
    serde_json::to_value(value)
        .map_err(|error| DevChainError::InvalidRequest(format!("answer does not encode: {error}")))
}

impl DevChain {
    /// Answers one request.
    pub fn request(&self, method: &str, params: &[Value]) -> Answer {
        let mut shared = self.lock();
        let answer = shared.dispatch(
            method,
            &Params {
                method,
                values: params,
            },
        );
        // Also after an error: a refused transaction may have been mined around.
        shared.follow()?;
        answer
    }
}

impl Shared {
    fn dispatch(&mut self, method: &str, params: &Params<'_>) -> Answer {
        let chain = &mut self.chain;
        match method {
            "web3_clientVersion" => Ok(json!(concat!(
                "millrace-devchain/",
                env!("CARGO_PKG_VERSION")
            ))),
            "net_version" => Ok(json!(chain.chain_id.to_string())),
            "net_listening" => Ok(json!(true)),
            "eth_syncing" => Ok(json!(false)),
            "eth_accounts" => Ok(json!([])),
            "eth_chainId" => Ok(quantity(chain.chain_id)),
            "eth_blockNumber" => Ok(quantity(chain.height())),

            "eth_gasPrice" => Ok(read::gas_price(chain)),
            "eth_maxPriorityFeePerGas" => Ok(quantity(read::SUGGESTED_TIP)),
            "eth_blobBaseFee" => Ok(quantity(super::evm::BLOB_GAS_PRICE)),
            "eth_feeHistory" => read::fee_history(chain, params),
            "eth_getBalance" => read::balance(chain, params),
            "eth_getTransactionCount" => read::transaction_count(chain, params),
            "eth_getCode" => read::code(chain, params),
            "eth_getStorageAt" => read::storage_at(chain, params),
            "eth_getBlockByNumber" => read::block_by_number(chain, params),
            "eth_getBlockByHash" => read::block_by_hash(chain, params),
            "eth_getBlockReceipts" => read::block_receipts(chain, params),
            "eth_getTransactionByHash" => read::transaction_by_hash(chain, params),
            "eth_getTransactionReceipt" => read::transaction_receipt(chain, params),
            "eth_getLogs" => read::logs(chain, params),

            "eth_call" => call::call(chain, params),
            "eth_estimateGas" => call::estimate_gas(chain, params),

            "eth_sendRawTransaction" => control::send_raw_transaction(chain, params),
            "evm_mine" | "anvil_mine" | "hardhat_mine" => control::mine(chain, params),
            "evm_setAutomine" | "anvil_setAutoMine" => control::set_automine(chain, params),
            "anvil_getAutomine" | "hardhat_getAutomine" => Ok(json!(chain.automine)),
            "evm_increaseTime" | "anvil_increaseTime" => control::increase_time(chain, params),
            "evm_setNextBlockTimestamp" | "anvil_setNextBlockTimestamp" => {
                control::set_next_timestamp(chain, params)
            }
            "anvil_setNextBlockBaseFeePerGas" | "hardhat_setNextBlockBaseFeePerGas" => {
                control::set_base_fee(chain, params)
            }
            "anvil_setBalance" | "hardhat_setBalance" => control::set_balance(chain, params),
            "anvil_setNonce" | "hardhat_setNonce" => control::set_nonce(chain, params),
            "anvil_setCode" | "hardhat_setCode" => control::set_code(chain, params),
            "anvil_setStorageAt" | "hardhat_setStorageAt" => control::set_storage(chain, params),
            "anvil_dropTransaction" | "hardhat_dropTransaction" => {
                control::drop_transaction(chain, params)
            }
            "anvil_dropAllTransactions" => control::drop_all_transactions(chain),
            "anvil_rollback" => control::rollback(chain, params),
            "anvil_reorg" => control::reorg(chain, params),
            "evm_snapshot" | "anvil_snapshot" => Ok(control::snapshot(self)),
            "evm_revert" | "anvil_revert" => control::revert(self, params),
            _ => Err(DevChainError::MethodNotFound(method.to_owned())),
        }
    }
}

//! `eth_call` and `eth_estimateGas`.

use super::{Answer, Params, quantity, to_json};
use crate::devchain::{
    chain::{At, Chain},
    error::DevChainError,
    evm::{self, BlockEnvironment, Rules, TRANSACTION_GAS_CAP},
    world::View,
};
use alloy::{eips::BlockId, rpc::types::TransactionRequest};
use revm::context::result::ExecutionResult;
use serde_json::Value;

/// An estimate may be above the least sufficient gas by one part in this many.
const ESTIMATE_PRECISION: u64 = 64;

/// Runs a call and returns its output.
pub fn call(chain: &mut Chain, params: &Params<'_>) -> Answer {
    let request: TransactionRequest = params.get(0)?;
    let at = chain.at(params.or(1, BlockId::latest())?)?;
    refuse_overrides(params)?;
    let result = chain.look(at, |chain, view, environment| {
        let gas = request
            .gas
            .unwrap_or(environment.gas_limit)
            .min(environment.gas_limit);
        run(chain, view, environment, &request, gas)
    })?;
    to_json(evm::output(result)?)
}

/// State overrides would change the answer, so they are not passed over in silence.
fn refuse_overrides(params: &Params<'_>) -> Result<(), DevChainError> {
    match params.or::<Value>(2, Value::Null)? {
        Value::Null => Ok(()),
        Value::Object(empty) if empty.is_empty() => Ok(()),
        _ => Err(params.invalid(2, "state overrides are not supported")),
    }
}

/// The least gas with which the transaction succeeds, to a sixty-fourth.
pub fn estimate_gas(chain: &mut Chain, params: &Params<'_>) -> Answer {
    let request: TransactionRequest = params.get(0)?;
    let at = chain.at(params.or(1, BlockId::pending())?)?;
    refuse_overrides(params)?;
    estimate(chain, at, &request).map(quantity)
}

fn estimate(chain: &mut Chain, at: At, request: &TransactionRequest) -> Result<u64, DevChainError> {
    chain.look(at, |chain, view, environment| {
        let highest = request
            .gas
            .unwrap_or(TRANSACTION_GAS_CAP)
            .min(TRANSACTION_GAS_CAP);
        let result = run(chain, view, environment, request, highest)?;
        let used = result.tx_gas_used();
        evm::output(result)?;
        Ok(search(used, highest, |gas| {
            run(chain, view, environment, request, gas).is_ok_and(|result| result.is_success())
        }))
    })
}

/// Binary search, beginning near what was used: a 64th is withheld from inner calls, so that little more often suffices.
fn search(used: u64, highest: u64, suffices: impl Fn(u64) -> bool) -> u64 {
    let (mut too_low, mut enough) = (used.saturating_sub(1), highest);
    let mut guess = used
        .saturating_add(used / (ESTIMATE_PRECISION - 1))
        .clamp(used, highest);
    while enough.saturating_sub(too_low) > enough / ESTIMATE_PRECISION + 1 {
        if suffices(guess) {
            enough = guess;
        } else {
            too_low = guess;
        }
        guess = too_low + (enough - too_low) / 2;
    }
    enough
}

fn run(
    chain: &Chain,
    view: View<'_>,
    environment: &BlockEnvironment,
    request: &TransactionRequest,
    gas: u64,
) -> Result<ExecutionResult, DevChainError> {
    let transaction = evm::call_env(request, chain.chain_id, gas)?;
    evm::execute(view, chain.chain_id, environment, transaction, Rules::Call)
        .map(|executed| executed.result)
}

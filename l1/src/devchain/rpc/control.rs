//! Methods that change the chain: submitting, mining, time, snapshots, reorgs, and setting state from outside.

use super::{Answer, Params, quantity};
use crate::devchain::{
    DevChainError, Shared,
    chain::{Chain, Orphans, Reorg, decode},
    world::Account,
};
use alloy::{
    consensus::TxEnvelope,
    primitives::{Address, B256, Bytes, U256},
};
use serde_json::{Value, json};

/// How many blocks one request may mine.
const MINE_LIMIT: u64 = 10_000;

/// Takes a signed transaction in.
pub fn send_raw_transaction(chain: &mut Chain, params: &Params<'_>) -> Answer {
    let raw: Bytes = params.get(0)?;
    chain.submit(&raw).map(|hash| json!(hash))
}

/// Mines blocks: a number of them, or one at a given time as `evm_mine {timestamp}`.
pub fn mine(chain: &mut Chain, params: &Params<'_>) -> Answer {
    let options: Value = params.or_default(0)?;
    if let Some(time) = options.get("timestamp").and_then(super::number) {
        chain.clock.set_next(time, chain.head().header.timestamp)?;
    }
    let count = if options.is_object() {
        1
    } else {
        params.number_or(0, 1)?
    };
    if count > MINE_LIMIT {
        return Err(params.invalid(0, format!("at most {MINE_LIMIT} blocks at once")));
    }
    let interval = params.number_or(1, 0)?;
    for index in 0..count {
        if index > 0 && interval > 0 {
            chain.clock.increase(interval);
        }
        chain.mine();
    }
    Ok(json!("0x0"))
}

/// Switches mining on every transaction on or off.
pub fn set_automine(chain: &mut Chain, params: &Params<'_>) -> Answer {
    chain.automine = params.get(0)?;
    Ok(Value::Null)
}

/// Moves time forward.
pub fn increase_time(chain: &mut Chain, params: &Params<'_>) -> Answer {
    let total = chain.clock.increase(params.number(0)?);
    Ok(json!(total))
}

/// Fixes the next block's time.
pub fn set_next_timestamp(chain: &mut Chain, params: &Params<'_>) -> Answer {
    let head_time = chain.head().header.timestamp;
    chain.clock.set_next(params.number(0)?, head_time)?;
    Ok(Value::Null)
}

/// Sets the base fee of coming blocks.
pub fn set_base_fee(chain: &mut Chain, params: &Params<'_>) -> Answer {
    chain.base_fee = params.number(0)?;
    Ok(Value::Null)
}

/// Sets a balance.
pub fn set_balance(chain: &mut Chain, params: &Params<'_>) -> Answer {
    let (address, balance): (Address, U256) = (params.get(0)?, params.get(1)?);
    let account = chain.world.account(address);
    chain
        .world_mut()
        .set_account(address, Account { balance, ..account });
    Ok(Value::Null)
}

/// Sets a nonce.
pub fn set_nonce(chain: &mut Chain, params: &Params<'_>) -> Answer {
    let (address, nonce): (Address, u64) = (params.get(0)?, params.number(1)?);
    let account = chain.world.account(address);
    chain
        .world_mut()
        .set_account(address, Account { nonce, ..account });
    Ok(Value::Null)
}

/// Sets an account's code.
pub fn set_code(chain: &mut Chain, params: &Params<'_>) -> Answer {
    chain.world_mut().set_code(params.get(0)?, params.get(1)?);
    Ok(Value::Null)
}

/// Sets a storage word.
pub fn set_storage(chain: &mut Chain, params: &Params<'_>) -> Answer {
    chain
        .world_mut()
        .set_storage(params.get(0)?, params.get(1)?, params.get(2)?);
    Ok(json!(true))
}

/// Forgets a waiting transaction.
pub fn drop_transaction(chain: &mut Chain, params: &Params<'_>) -> Answer {
    let hash: B256 = params.get(0)?;
    Ok(chain
        .pool
        .remove_hash(hash)
        .map_or(Value::Null, |_| json!(hash)))
}

/// Forgets all waiting transactions.
pub fn drop_all_transactions(chain: &mut Chain) -> Answer {
    chain.pool.clear();
    Ok(Value::Null)
}

/// Drops blocks, one unless told.
pub fn rollback(chain: &mut Chain, params: &Params<'_>) -> Answer {
    chain.rollback(params.number_or(0, 1)?)?;
    Ok(Value::Null)
}

/// Drops `depth` blocks and mines as many, with the raw transactions that are named with the offset of their block. The
/// dropped transactions that are not named are forgotten.
pub fn reorg(chain: &mut Chain, params: &Params<'_>) -> Answer {
    let depth = params.number(0)?;
    let named: Vec<(Bytes, u64)> = params.or_default(1)?;
    let height = chain.height();
    if depth > height {
        return Err(DevChainError::ReorgTooDeep { depth, height });
    }
    let mut blocks: Vec<Vec<TxEnvelope>> = vec![vec![]; depth as usize];
    for (raw, offset) in named {
        let block = blocks.get_mut(offset as usize);
        let block = block.ok_or_else(|| {
            params.invalid(
                1,
                format!("block offset {offset} is not below the depth {depth}"),
            )
        })?;
        block.push(decode(&raw)?.0);
    }
    chain.reorg(&Reorg {
        depth,
        blocks,
        orphans: Orphans::Forget,
    })?;
    Ok(Value::Null)
}

/// Remembers the chain as it is.
pub fn snapshot(shared: &mut Shared) -> Value {
    quantity(shared.snapshot())
}

/// Puts a snapshot back.
pub fn revert(shared: &mut Shared, params: &Params<'_>) -> Answer {
    Ok(json!(shared.revert(params.number(0)?)))
}

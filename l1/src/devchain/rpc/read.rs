//! Methods that only read: accounts, blocks, transactions, receipts, logs and fees.

use super::{Answer, Params, quantity, to_json};
use crate::devchain::{
    block::{MinedBlock, MinedTransaction, blob_gas, receipt_envelope},
    chain::{At, Chain},
    error::DevChainError,
    evm::BLOB_GAS_PRICE,
    pool::PooledTransaction,
};
use alloy::{
    consensus::{Transaction as _, TxEnvelope, transaction::Recovered},
    eips::{BlockId, BlockNumberOrTag, eip4895::Withdrawals},
    primitives::{Address, B256, U256, logs_bloom},
    rpc::types::{
        Block, BlockTransactions, FeeHistory, Filter, FilterBlockOption, Header, Log, Transaction,
        TransactionReceipt,
    },
};
use serde_json::Value;

/// The tip that the chain suggests, in wei per gas.
pub const SUGGESTED_TIP: u64 = 1;
/// How many logs one query returns at most.
pub const LOG_LIMIT: usize = 10_000;
/// How many blocks one fee history covers at most.
const FEE_HISTORY_LIMIT: u64 = 1024;

/// A price per gas with which a transaction is mined at once.
pub fn gas_price(chain: &Chain) -> Value {
    quantity(chain.base_fee.saturating_add(SUGGESTED_TIP))
}

/// The base fees of recent blocks and of the next; all tips are the suggested one.
pub fn fee_history(chain: &Chain, params: &Params<'_>) -> Answer {
    let newest = chain
        .number_of(params.or(1, BlockNumberOrTag::Latest)?)
        .unwrap_or(chain.height())
        .min(chain.height());
    let count = params
        .number(0)?
        .clamp(1, FEE_HISTORY_LIMIT)
        .min(newest + 1);
    let percentiles: Vec<f64> = params.or_default(2)?;
    let oldest_block = newest + 1 - count;
    let headers: Vec<_> = (oldest_block..=newest)
        .filter_map(|number| chain.block(number))
        .map(|block| &block.header)
        .collect();
    let mut base_fee_per_gas: Vec<u128> = headers
        .iter()
        .map(|header| header.base_fee_per_gas.unwrap_or_default().into())
        .collect();
    base_fee_per_gas.push(
        chain
            .block(newest + 1)
            .and_then(|next| next.header.base_fee_per_gas)
            .unwrap_or(chain.base_fee)
            .into(),
    );
    to_json(FeeHistory {
        oldest_block,
        base_fee_per_gas,
        gas_used_ratio: headers
            .iter()
            .map(|header| header.gas_used as f64 / header.gas_limit as f64)
            .collect(),
        base_fee_per_blob_gas: vec![BLOB_GAS_PRICE; headers.len() + 1],
        blob_gas_used_ratio: vec![0.0; headers.len()],
        reward: Some(vec![
            vec![SUGGESTED_TIP.into(); percentiles.len()];
            headers.len()
        ]),
    })
}

fn block_param(chain: &Chain, params: &Params<'_>, index: usize) -> Result<At, DevChainError> {
    chain.at(params.or(index, BlockId::latest())?)
}

/// An account's balance.
pub fn balance(chain: &mut Chain, params: &Params<'_>) -> Answer {
    let address: Address = params.get(0)?;
    let at = block_param(chain, params, 1)?;
    Ok(quantity(
        chain.look(at, |_, view, _| view.account(address).balance),
    ))
}

/// An account's nonce.
pub fn transaction_count(chain: &mut Chain, params: &Params<'_>) -> Answer {
    let address: Address = params.get(0)?;
    Ok(quantity(match block_param(chain, params, 1)? {
        At::Pending => chain.pending_nonce(address),
        at => chain.look(at, |_, view, _| view.account(address).nonce),
    }))
}

/// An account's code.
pub fn code(chain: &mut Chain, params: &Params<'_>) -> Answer {
    let address: Address = params.get(0)?;
    let at = block_param(chain, params, 1)?;
    to_json(chain.look(at, |_, view, _| view.code(address)))
}

/// A storage word.
pub fn storage_at(chain: &mut Chain, params: &Params<'_>) -> Answer {
    let (address, slot): (Address, U256) = (params.get(0)?, params.get(1)?);
    let at = block_param(chain, params, 2)?;
    to_json(B256::from(
        chain.look(at, |_, view, _| view.storage(address, slot)),
    ))
}

/// A block by number or tag; null where there is none.
pub fn block_by_number(chain: &mut Chain, params: &Params<'_>) -> Answer {
    let (tag, full): (BlockNumberOrTag, bool) = (params.get(0)?, params.or_default(1)?);
    match chain.number_of(tag) {
        Some(number) => chain
            .block(number)
            .map_or(Ok(Value::Null), |block| to_json(block_json(block, full))),
        None => pending_block(chain, full),
    }
}

/// The block that would be mined now.
fn pending_block(chain: &mut Chain, full: bool) -> Answer {
    let height = chain.height();
    chain.with_pending_block(|chain| {
        if chain.height() > height {
            return to_json(block_json(chain.head(), full));
        }
        let environment = chain.next_environment();
        let empty = MinedBlock::seal(
            chain.head().hash,
            &environment,
            0,
            vec![],
            Default::default(),
        );
        to_json(block_json(&empty, full))
    })
}

/// A block by hash; null where there is none on the chain.
pub fn block_by_hash(chain: &Chain, params: &Params<'_>) -> Answer {
    let (hash, full): (B256, bool) = (params.get(0)?, params.or_default(1)?);
    chain
        .block_by_hash(hash)
        .map_or(Ok(Value::Null), |block| to_json(block_json(block, full)))
}

/// All receipts of a block; null where there is no such block.
pub fn block_receipts(chain: &Chain, params: &Params<'_>) -> Answer {
    match chain.at(params.get(0)?) {
        Ok(At::Block(number)) => {
            let block = chain.block(number).expect("the number was just looked up");
            let receipts: Vec<_> = (0..block.transactions.len())
                .map(|index| receipt(block, index))
                .collect();
            to_json(receipts)
        }
        _ => Ok(Value::Null),
    }
}

/// A transaction, mined or waiting; null where it is unknown.
pub fn transaction_by_hash(chain: &Chain, params: &Params<'_>) -> Answer {
    let hash: B256 = params.get(0)?;
    match (chain.transaction(hash), chain.pool.get(hash)) {
        (Some((block, index)), _) => to_json(transaction(block, index)),
        (None, Some(pooled)) => to_json(waiting_transaction(pooled)),
        (None, None) => Ok(Value::Null),
    }
}

/// The receipt of a mined transaction; null where it is not mined.
pub fn transaction_receipt(chain: &Chain, params: &Params<'_>) -> Answer {
    let hash: B256 = params.get(0)?;
    chain
        .transaction(hash)
        .map_or(Ok(Value::Null), |(block, index)| {
            to_json(receipt(block, index))
        })
}

/// The logs that match a filter, in order.
pub fn logs(chain: &Chain, params: &Params<'_>) -> Answer {
    let filter: Filter = params.get(0)?;
    let (from, to) = log_range(chain, &filter)?;
    let mut found = vec![];
    for block in (from..=to).filter_map(|number| chain.block(number)) {
        if filter.matches_bloom(block.header.logs_bloom) {
            found.extend(
                block_logs(block)
                    .into_iter()
                    .filter(|log| filter.matches(&log.inner)),
            );
        }
        if found.len() > LOG_LIMIT {
            return Err(DevChainError::TooManyLogs { limit: LOG_LIMIT });
        }
    }
    to_json(found)
}

fn log_range(chain: &Chain, filter: &Filter) -> Result<(u64, u64), DevChainError> {
    let number = |tag: Option<BlockNumberOrTag>| {
        tag.and_then(|tag| chain.number_of(tag))
            .unwrap_or(chain.height())
    };
    let (from, to) = match filter.block_option {
        FilterBlockOption::AtBlockHash(hash) => {
            let block = chain
                .block_by_hash(hash)
                .ok_or_else(|| DevChainError::UnknownBlock(hash.to_string()))?;
            (block.header.number, block.header.number)
        }
        FilterBlockOption::Range {
            from_block,
            to_block,
        } => (number(from_block), number(to_block)),
    };
    if from > to {
        return Err(DevChainError::InvalidRange { from, to });
    }
    Ok((from, to.min(chain.height())))
}

fn block_logs(block: &MinedBlock) -> Vec<Log> {
    (0..block.transactions.len())
        .flat_map(|index| transaction_logs(block, index))
        .collect()
}

fn transaction_logs(block: &MinedBlock, index: usize) -> Vec<Log> {
    let mined = &block.transactions[index];
    let first = block.logs_before(index);
    let logs = mined.logs.iter().enumerate();
    logs.map(|(offset, inner)| Log {
        inner: inner.clone(),
        block_hash: Some(block.hash),
        block_number: Some(block.header.number),
        block_timestamp: Some(block.header.timestamp),
        transaction_hash: Some(mined.hash()),
        transaction_index: Some(index as u64),
        log_index: Some((first + offset) as u64),
        removed: false,
    })
    .collect()
}

fn receipt(block: &MinedBlock, index: usize) -> TransactionReceipt {
    let mined = &block.transactions[index];
    let bloom = logs_bloom(&mined.logs);
    let logs = transaction_logs(block, index);
    let blob_gas_used = blob_gas(&mined.envelope);
    TransactionReceipt {
        inner: receipt_envelope(
            &mined.envelope,
            mined.success,
            mined.cumulative_gas_used,
            logs,
            bloom,
        ),
        transaction_hash: mined.hash(),
        transaction_index: Some(index as u64),
        block_hash: Some(block.hash),
        block_number: Some(block.header.number),
        gas_used: mined.gas_used,
        effective_gas_price: effective_gas_price(block, mined),
        blob_gas_used,
        blob_gas_price: blob_gas_used.map(|_| BLOB_GAS_PRICE),
        from: mined.sender,
        to: mined.envelope.to(),
        contract_address: mined.contract_address,
    }
}

fn effective_gas_price(block: &MinedBlock, mined: &MinedTransaction) -> u128 {
    mined
        .envelope
        .effective_gas_price(block.header.base_fee_per_gas)
}

fn transaction(block: &MinedBlock, index: usize) -> Transaction {
    let mined = &block.transactions[index];
    Transaction {
        inner: recovered(&mined.envelope, mined.sender),
        block_hash: Some(block.hash),
        block_number: Some(block.header.number),
        transaction_index: Some(index as u64),
        effective_gas_price: Some(effective_gas_price(block, mined)),
        block_timestamp: Some(block.header.timestamp),
    }
}

fn waiting_transaction(pooled: &PooledTransaction) -> Transaction {
    Transaction {
        inner: recovered(&pooled.envelope, pooled.sender),
        block_hash: None,
        block_number: None,
        transaction_index: None,
        effective_gas_price: None,
        block_timestamp: None,
    }
}

fn recovered(envelope: &TxEnvelope, sender: Address) -> Recovered<TxEnvelope> {
    Recovered::new_unchecked(envelope.clone(), sender)
}

fn block_json(block: &MinedBlock, full: bool) -> Block {
    let transactions = if full {
        BlockTransactions::Full(
            (0..block.transactions.len())
                .map(|index| transaction(block, index))
                .collect(),
        )
    } else {
        BlockTransactions::Hashes(
            block
                .transactions
                .iter()
                .map(MinedTransaction::hash)
                .collect(),
        )
    };
    let header = Header {
        hash: block.hash,
        inner: block.header.clone(),
        total_difficulty: None,
        size: None,
    };
    Block {
        header,
        uncles: vec![],
        transactions,
        withdrawals: Some(Withdrawals::default()),
    }
}

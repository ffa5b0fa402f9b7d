//! Mined blocks and transactions, and the header that names them.
//!
//! The hash is keccak256 of the RLP header as on any Ethereum chain, with real transaction, receipt and bloom fields. The
//! state root is left zero: the dev chain keeps no state trie. Everything in the header follows from the inputs, so equal
//! inputs give equal hashes; `extra_data` counts forks, so that a block mined again after a reorg has another hash.

use super::{evm::BlockEnvironment, world::Undo};
use alloy::{
    consensus::{
        Header, Receipt, ReceiptEnvelope, ReceiptWithBloom, TxEnvelope, Typed2718,
        proofs::{calculate_receipt_root, calculate_transaction_root},
    },
    eips::eip7685::EMPTY_REQUESTS_HASH,
    primitives::{Address, B256, Bloom, Bytes, Log, logs_bloom},
};
use serde::{Deserialize, Serialize};

/// A transaction with what its execution did.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct MinedTransaction {
    /// The signed transaction, without blobs.
    #[serde(with = "super::persist::envelope")]
    pub envelope: TxEnvelope,
    /// Who signed it.
    pub sender: Address,
    /// Whether execution succeeded.
    pub success: bool,
    /// Gas charged.
    pub gas_used: u64,
    /// Gas charged in the block up to and including this transaction.
    pub cumulative_gas_used: u64,
    /// The contract that it created.
    pub contract_address: Option<Address>,
    /// What it logged.
    pub logs: Vec<Log>,
}

impl MinedTransaction {
    /// The transaction's hash.
    pub fn hash(&self) -> B256 {
        *self.envelope.tx_hash()
    }

    /// The receipt as consensus hashes it.
    pub fn receipt(&self) -> ReceiptEnvelope<Log> {
        receipt_envelope(
            &self.envelope,
            self.success,
            self.cumulative_gas_used,
            self.logs.clone(),
            logs_bloom(&self.logs),
        )
    }
}

/// A receipt of the transaction's type around any kind of log.
pub fn receipt_envelope<L>(
    envelope: &TxEnvelope,
    success: bool,
    cumulative_gas_used: u64,
    logs: Vec<L>,
    bloom: Bloom,
) -> ReceiptEnvelope<L> {
    let receipt = Receipt {
        status: success.into(),
        cumulative_gas_used,
        logs,
    };
    let receipt = ReceiptWithBloom::new(receipt, bloom);
    match envelope.ty() {
        1 => ReceiptEnvelope::Eip2930(receipt),
        2 => ReceiptEnvelope::Eip1559(receipt),
        3 => ReceiptEnvelope::Eip4844(receipt),
        4 => ReceiptEnvelope::Eip7702(receipt),
        _ => ReceiptEnvelope::Legacy(receipt),
    }
}

/// A block of the chain.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct MinedBlock {
    /// The header.
    #[serde(with = "super::persist::header")]
    pub header: Header,
    /// keccak256 of the header.
    pub hash: B256,
    /// Transactions in order.
    pub transactions: Vec<MinedTransaction>,
    /// How to take the block's effects back.
    pub undo: Undo,
}

impl MinedBlock {
    /// Closes a block over executed transactions.
    pub fn seal(
        parent_hash: B256,
        environment: &BlockEnvironment,
        fork: u64,
        transactions: Vec<MinedTransaction>,
        undo: Undo,
    ) -> Self {
        let header = header(parent_hash, environment, fork, &transactions);
        Self {
            hash: header.hash_slow(),
            header,
            transactions,
            undo,
        }
    }

    /// Number of logs before the transaction at `index`, which numbers the logs of a block.
    pub fn logs_before(&self, index: usize) -> usize {
        self.transactions[..index]
            .iter()
            .map(|transaction| transaction.logs.len())
            .sum()
    }
}

fn header(
    parent_hash: B256,
    environment: &BlockEnvironment,
    fork: u64,
    transactions: &[MinedTransaction],
) -> Header {
    let envelopes: Vec<&TxEnvelope> = transactions
        .iter()
        .map(|transaction| &transaction.envelope)
        .collect();
    let receipts: Vec<ReceiptEnvelope<Log>> =
        transactions.iter().map(MinedTransaction::receipt).collect();
    let extra_data = if fork == 0 {
        Bytes::new()
    } else {
        Bytes::from(format!("fork {fork}").into_bytes())
    };
    Header {
        parent_hash,
        number: environment.number,
        timestamp: environment.timestamp,
        gas_limit: environment.gas_limit,
        gas_used: transactions
            .last()
            .map_or(0, |last| last.cumulative_gas_used),
        base_fee_per_gas: Some(environment.base_fee),
        mix_hash: environment.prevrandao,
        transactions_root: calculate_transaction_root(&envelopes),
        receipts_root: calculate_receipt_root(&receipts),
        logs_bloom: logs_bloom(
            transactions
                .iter()
                .flat_map(|transaction| &transaction.logs),
        ),
        withdrawals_root: Some(alloy::consensus::constants::EMPTY_WITHDRAWALS),
        blob_gas_used: Some(
            transactions
                .iter()
                .filter_map(|transaction| blob_gas(&transaction.envelope))
                .sum(),
        ),
        excess_blob_gas: Some(0),
        parent_beacon_block_root: Some(B256::ZERO),
        requests_hash: Some(EMPTY_REQUESTS_HASH),
        extra_data,
        ..Header::default()
    }
}

/// Blob gas of a transaction that carries blobs.
pub fn blob_gas(envelope: &TxEnvelope) -> Option<u64> {
    alloy::consensus::Transaction::blob_gas_used(envelope)
}

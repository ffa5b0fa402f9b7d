//! Why the dev chain refuses a request, in the words and codes that public nodes use.
//!
//! The texts follow the common Ethereum clients on purpose: the transaction sender classifies faults by them, so the same
//! classification is exercised on the dev chain, on anvil and in production.

use alloy::primitives::{Address, B256, Bytes, U256};
use thiserror::Error;

/// JSON-RPC code of a failed execution that carries revert data.
pub const CODE_REVERT: i64 = 3;
/// JSON-RPC code of a refused transaction or a failed request.
pub const CODE_SERVER: i64 = -32000;
/// JSON-RPC code of parameters that do not parse.
pub const CODE_INVALID_PARAMS: i64 = -32602;
/// JSON-RPC code of a method that does not exist here.
pub const CODE_METHOD_NOT_FOUND: i64 = -32601;
/// JSON-RPC code of a request that is not a request.
pub const CODE_INVALID_REQUEST: i64 = -32600;
/// JSON-RPC code of bytes that are not JSON.
pub const CODE_PARSE: i64 = -32700;

/// Every reason for which the dev chain says no.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub enum DevChainError {
    /// The request names a method that is not served.
    #[error(
        "method {0} not found: the dev chain serves the eth, net, web3, evm and anvil methods that a wallet and a test need"
    )]
    MethodNotFound(String),
    /// A parameter is missing or has the wrong shape.
    #[error("invalid parameter {index} of {method}: {cause}")]
    InvalidParameter {
        /// The method that was called.
        method: String,
        /// Position of the parameter, from 0.
        index: usize,
        /// What the decoder says.
        cause: String,
    },
    /// The body is not a JSON-RPC request.
    #[error("invalid request: {0}")]
    InvalidRequest(String),
    /// The body is not JSON.
    #[error("parse error: {0}")]
    Parse(String),
    /// The raw transaction does not decode.
    #[error("rlp: transaction does not decode: {0}")]
    Undecodable(String),
    /// The signature does not recover to an address.
    #[error("invalid sender: {0}")]
    InvalidSignature(String),
    /// The transaction is signed for another chain.
    #[error("invalid chain id for signer: have {have} want {want}")]
    WrongChain {
        /// Chain id in the transaction.
        have: u64,
        /// Chain id served here.
        want: u64,
    },
    /// The same transaction is in the pool or on the chain.
    #[error("already known: {0}")]
    AlreadyKnown(B256),
    /// The account has used this nonce.
    #[error("nonce too low: next nonce {next}, tx nonce {got}")]
    NonceTooLow {
        /// Next nonce of the account.
        next: u64,
        /// Nonce of the transaction.
        got: u64,
    },
    /// The nonce is so far ahead that the pool does not keep the transaction.
    #[error("nonce too high: next nonce {next}, tx nonce {got}, at most {limit} ahead")]
    NonceTooHigh {
        /// Next nonce of the account.
        next: u64,
        /// Nonce of the transaction.
        got: u64,
        /// How far ahead the pool keeps transactions.
        limit: u64,
    },
    /// A transaction with this nonce waits and the new one does not pay enough more.
    #[error(
        "replacement transaction underpriced: need a max fee of {need_max_fee} and a priority fee of {need_priority_fee} wei per gas"
    )]
    ReplacementUnderpriced {
        /// Least max fee per gas that replaces.
        need_max_fee: u128,
        /// Least priority fee per gas that replaces.
        need_priority_fee: u128,
    },
    /// The tip is above the total fee.
    #[error(
        "max priority fee per gas higher than max fee per gas: maxPriorityFeePerGas {priority}, maxFeePerGas {max}"
    )]
    TipAboveFeeCap {
        /// Priority fee of the transaction.
        priority: u128,
        /// Max fee of the transaction.
        max: u128,
    },
    /// The account cannot pay for the transaction at its highest price.
    #[error(
        "insufficient funds for gas * price + value: address {address} have {have} want {want}"
    )]
    InsufficientFunds {
        /// Who pays.
        address: Address,
        /// Balance in wei.
        have: U256,
        /// What the transaction may cost in wei.
        want: U256,
    },
    /// The gas limit is above EIP-7825's cap.
    #[error("transaction gas limit too high (cap: {cap}, tx: {got})")]
    GasLimitAboveCap {
        /// The cap.
        cap: u64,
        /// Gas limit of the transaction.
        got: u64,
    },
    /// The gas limit is above what a block holds.
    #[error("exceeds block gas limit: block {limit}, tx {got}")]
    GasLimitAboveBlock {
        /// Gas limit of a block.
        limit: u64,
        /// Gas limit of the transaction.
        got: u64,
    },
    /// The pool is full.
    #[error("txpool is full: {limit} transactions wait")]
    PoolFull {
        /// How many transactions the pool holds.
        limit: usize,
    },
    /// A blob does not match its commitment, or none was sent along.
    #[error("invalid blob transaction: {0}")]
    InvalidBlob(String),
    /// The rules of the chain refuse the transaction.
    #[error("{0}")]
    InvalidTransaction(String),
    /// The call reverted.
    #[error("execution reverted{}", reason(.0))]
    Reverted(Bytes),
    /// The call stopped without a revert.
    #[error("execution failed: {0}")]
    Halted(String),
    /// No such block.
    #[error("unknown block {0}")]
    UnknownBlock(String),
    /// The range of a log query ends before it begins.
    #[error("invalid block range: from {from} to {to}")]
    InvalidRange {
        /// First block.
        from: u64,
        /// Last block.
        to: u64,
    },
    /// A log query would return too much.
    #[error("query returned more than {limit} results: ask for a smaller block range")]
    TooManyLogs {
        /// The limit.
        limit: usize,
    },
    /// The requested time lies before the head's.
    #[error("timestamp {wanted} is lower than the previous block's timestamp {head}")]
    TimeGoesBack {
        /// Time of the newest block.
        head: u64,
        /// Requested time.
        wanted: u64,
    },
    /// A reorg would drop the genesis block.
    #[error("cannot drop {depth} blocks: the chain has {height} above its genesis")]
    ReorgTooDeep {
        /// Blocks to drop.
        depth: u64,
        /// Height of the chain.
        height: u64,
    },
    /// A reorg names a transaction that is neither raw nor among the dropped ones.
    #[error("transaction {0} is not among the dropped ones")]
    NotDropped(B256),
    /// The state file cannot be read or written.
    #[error("dev chain state file {path}: {cause}: remove it to begin a new chain")]
    File {
        /// The file.
        path: String,
        /// What went wrong.
        cause: String,
    },
    /// The state file belongs to another chain or version.
    #[error(
        "dev chain state file {path} has {field} {found}, expected {expected}: remove it to begin a new chain"
    )]
    Mismatch {
        /// The file.
        path: String,
        /// What differs.
        field: &'static str,
        /// What the file says.
        found: u64,
        /// What is asked for.
        expected: u64,
    },
}

impl DevChainError {
    /// The JSON-RPC error code.
    pub fn code(&self) -> i64 {
        match self {
            Self::Reverted(_) => CODE_REVERT,
            Self::MethodNotFound(_) => CODE_METHOD_NOT_FOUND,
            Self::InvalidParameter { .. } | Self::InvalidRange { .. } => CODE_INVALID_PARAMS,
            Self::InvalidRequest(_) => CODE_INVALID_REQUEST,
            Self::Parse(_) => CODE_PARSE,
            _ => CODE_SERVER,
        }
    }

    /// The revert data, by which clients decode custom errors.
    pub fn data(&self) -> Option<&Bytes> {
        match self {
            Self::Reverted(data) => Some(data),
            _ => None,
        }
    }
}

/// The text that follows "execution reverted": a plain reason if there is one, else the selector of the custom error.
fn reason(data: &Bytes) -> String {
    match alloy::sol_types::decode_revert_reason(data) {
        Some(reason) => format!(": {}", reason.trim_start_matches("revert: ")),
        None if data.len() >= 4 => format!(": custom error 0x{}", hex::encode(&data[..4])),
        None => String::new(),
    }
}

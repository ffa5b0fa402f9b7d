//! Protocol types in the contract's ABI, and back: the only place where the two meet.

use crate::batch_log::{BatchRecord, QueuedRequest, Word8};
use alloy::primitives::{Address, B256, Bytes, U256, Uint, keccak256};
use alloy::sol_types::SolCall;
use ark_bn254::Fr;
use millrace_circuits::account::Owner;
use millrace_circuits::batch::data::fee_leaves_word;
use millrace_circuits::batch::{BatchData, DecodeError, Header, L1Row, Payout, Posted, Shape};
use millrace_circuits::field::{self, Word};
use millrace_circuits::transaction::{Domain, KIND_DEPOSIT, KIND_FORCED_EXIT};
use millrace_circuits::types::{AccountIndex, Amount, BatchNumber, L1Address, Timestamp, TokenId};
use millrace_l1::bindings::{IRollup, Rollup};
use thiserror::Error;

/// Payouts in one chunk.
pub const PAYOUT_CHUNK: usize = 32;

/// Why bytes from L1 are no batch of ours.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum ConvertError {
    /// Neither `commitBatch` nor `commitAndProve`.
    #[error("the transaction calls neither commitBatch nor commitAndProve")]
    NotACommit,
    /// A circuit that this program does not know.
    #[error("circuit {0} is unknown to this program: run a newer millrace")]
    UnknownCircuit(u16),
    /// A number outside its range.
    #[error("{0} is out of range")]
    OutOfRange(&'static str),
    /// The posted bytes.
    #[error(transparent)]
    Decode(#[from] DecodeError),
}

/// A word as the EVM has it.
pub fn to_u256(word: &Fr) -> U256 {
    U256::from_be_bytes(field::to_bytes(word))
}

/// A word from the EVM.
///
/// # Errors
/// If it is no field element.
pub fn to_word(value: U256) -> Result<Word, ConvertError> {
    field::from_bytes(&value.to_be_bytes())
        .map(Word)
        .map_err(|_| ConvertError::OutOfRange("word"))
}

/// An address.
pub fn to_address(address: L1Address) -> Address {
    Address::from(address.0)
}

/// An address from L1.
pub fn from_address(address: Address) -> L1Address {
    L1Address(address.into_array())
}

/// A queued request from its event.
///
/// # Errors
/// If a field is out of range, which the contract prevents.
pub fn from_request(
    id: u64,
    request: &IRollup::Request,
    block: u64,
) -> Result<QueuedRequest, ConvertError> {
    Ok(QueuedRequest {
        id,
        kind: request.kind,
        index: AccountIndex::new(request.index.to::<u64>())
            .map_err(|_| ConvertError::OutOfRange("index"))?,
        token: TokenId::new(request.token.into()).expect("32 bits are a token"),
        amount: Amount(request.amount),
        sender: from_address(request.sender),
        owner: to_word(request.owner)?,
        key_x: to_word(request.ax)?,
        key_y: to_word(request.ay)?,
        created: request.created,
        deadline: request.deadline,
        block,
    })
}

/// A queued request as the contract hashes it.
pub fn to_request(request: &QueuedRequest) -> IRollup::Request {
    IRollup::Request {
        kind: request.kind,
        index: Uint::from(request.index.get()),
        token: request.token.get() as u32,
        amount: request.amount.0,
        sender: to_address(request.sender),
        owner: to_u256(&request.owner.0),
        ax: to_u256(&request.key_x.0),
        ay: to_u256(&request.key_y.0),
        created: request.created,
        deadline: request.deadline,
    }
}

/// A batch as `commitBatch` takes it. `requests` are the ones that its L1 rows serve.
pub fn to_batch(
    data: &BatchData,
    commitment: &Word,
    requests: &[QueuedRequest],
    beneficiary: L1Address,
) -> IRollup::Batch {
    let l1_rows = data
        .l1_rows
        .iter()
        .zip(requests)
        .map(|(row, request)| IRollup::L1Row {
            request: to_request(request),
            result: match row {
                L1Row::Deposit { index, .. } => index.get().into(),
                L1Row::ForcedExit { amount, .. } => amount.0,
            },
        });
    let Posted { rows, extras } = data.posted();
    IRollup::Batch {
        circuitId: data.shape.id,
        timestamp: data.header.timestamp.0,
        newRoot: to_u256(&data.header.new_root.0),
        feeLeaves: to_u256(&fee_leaves_word(&data.header.fee_leaves)),
        commitment: to_u256(&commitment.0),
        beneficiary: to_address(beneficiary),
        l1Rows: l1_rows.collect(),
        rows: Bytes::from(rows),
        extras: Bytes::from(extras),
    }
}

/// Number and batch in a transaction's input.
///
/// # Errors
/// [`ConvertError::NotACommit`].
pub fn decode_commit(input: &[u8]) -> Result<(BatchNumber, IRollup::Batch), ConvertError> {
    if let Ok(call) = Rollup::commitBatchCall::abi_decode(input) {
        return Ok((BatchNumber(call.number), call.batch));
    }
    match Rollup::commitAndProveCall::abi_decode(input) {
        Ok(call) => Ok((BatchNumber(call.number), call.batch)),
        Err(_) => Err(ConvertError::NotACommit),
    }
}

/// The data of a posted batch, on top of `old_root`.
///
/// # Errors
/// If it is of an unknown circuit or malformed.
pub fn from_batch(
    number: BatchNumber,
    batch: &IRollup::Batch,
    domain: Domain,
    old_root: Word,
) -> Result<BatchData, ConvertError> {
    let shape =
        Shape::by_id(batch.circuitId).ok_or(ConvertError::UnknownCircuit(batch.circuitId))?;
    let header = Header {
        number,
        timestamp: Timestamp(batch.timestamp),
        domain,
        old_root,
        new_root: to_word(batch.newRoot)?,
        fee_leaves: fee_leaves(batch.feeLeaves, &shape)?,
    };
    let l1_rows = batch
        .l1Rows
        .iter()
        .map(from_l1_row)
        .collect::<Result<_, _>>()?;
    let posted = Posted {
        rows: batch.rows.to_vec(),
        extras: batch.extras.to_vec(),
    };
    Ok(BatchData::from_posted(shape, header, l1_rows, &posted)?)
}

fn fee_leaves(word: U256, shape: &Shape) -> Result<Vec<AccountIndex>, ConvertError> {
    let mut rest = word;
    let mask = U256::from((1u32 << 24) - 1);
    let mut leaves = Vec::new();
    for _ in 0..shape.fee_leaves {
        let index = (rest & mask).to::<u64>();
        leaves.push(AccountIndex::new(index).expect("masked to 24 bits"));
        rest >>= 24;
    }
    if !rest.is_zero() {
        return Err(ConvertError::OutOfRange("fee leaves"));
    }
    while leaves.last().is_some_and(|leaf| leaf.is_zero()) {
        leaves.pop();
    }
    Ok(leaves)
}

fn from_l1_row(row: &IRollup::L1Row) -> Result<L1Row, ConvertError> {
    let request = from_request(0, &row.request, 0)?;
    match u64::from(request.kind) {
        KIND_DEPOSIT => Ok(L1Row::Deposit {
            index: u64::try_from(row.result)
                .ok()
                .and_then(|index| AccountIndex::new(index).ok())
                .ok_or(ConvertError::OutOfRange("result"))?,
            owner: Owner(request.owner.0),
            token: request.token,
            amount: request.amount,
        }),
        KIND_FORCED_EXIT => Ok(L1Row::ForcedExit {
            index: request.index,
            token: request.token,
            sender: request.sender,
            key_x: request.key_x,
            key_y: request.key_y,
            amount: Amount(row.result),
        }),
        _ => Err(ConvertError::OutOfRange("kind")),
    }
}

/// What a batch pays on L1, in the contract's order.
pub fn payouts(data: &BatchData, requests: &[QueuedRequest]) -> Vec<Payout> {
    data.payouts(|row| {
        requests.get(row).map(|request| Payout {
            address: request.sender,
            token: request.token,
            amount: request.amount,
        })
    })
}

/// Records of each chunk of payouts, concatenated.
pub fn payout_chunks(payouts: &[Payout]) -> Vec<Vec<u8>> {
    payouts
        .chunks(PAYOUT_CHUNK)
        .map(|chunk| chunk.iter().flat_map(Payout::bytes).collect())
        .collect()
}

/// Hash of each chunk.
pub fn chunk_hashes(chunks: &[Vec<u8>]) -> Vec<B256> {
    chunks.iter().map(keccak256).collect()
}

/// keccak256 of the chunk hashes, or zero where nothing is paid.
pub fn payouts_hash(hashes: &[B256]) -> B256 {
    if hashes.is_empty() {
        B256::ZERO
    } else {
        keccak256(hashes.concat())
    }
}

/// A committed batch as the contract remembers it.
///
/// Gives `None` for a record that is not yet hashed.
pub fn to_stored_batch(
    record: &BatchRecord,
    requests: &[QueuedRequest],
    committed_at: u64,
    beneficiary: L1Address,
) -> Option<IRollup::StoredBatch> {
    let (data, public) = (record.data.as_ref()?, record.public.as_ref()?);
    let hashes = chunk_hashes(&payout_chunks(&payouts(data, requests)));
    Some(IRollup::StoredBatch {
        number: record.number.0,
        circuitId: data.shape.id,
        oldRoot: to_u256(&data.header.old_root.0),
        newRoot: to_u256(&data.header.new_root.0),
        commitment: to_u256(&public.commitment.0),
        z: to_u256(&public.challenge.0),
        y: to_u256(&public.evaluation.0),
        queueHead: record.first_request + data.l1_rows.len() as u64,
        payoutsHash: payouts_hash(&hashes),
        timestamp: data.header.timestamp.0,
        committedAt: committed_at,
        beneficiary: to_address(beneficiary),
    })
}

/// A batch that was read back from its transaction, as the contract remembers it. `old_root` and `first_request` are the
/// contract's before it; `committed_at` is the time of the block that holds it.
///
/// # Errors
/// [`ConvertError`] for data in another form than a batch's.
pub fn stored_from_posted(
    number: BatchNumber,
    batch: &IRollup::Batch,
    domain: Domain,
    old_root: Word,
    (first_request, requests): (u64, &[QueuedRequest]),
    committed_at: u64,
) -> Result<IRollup::StoredBatch, ConvertError> {
    let data = from_batch(number, batch, domain, old_root)?;
    let beneficiary = from_address(batch.beneficiary);
    // The commitment is the poster's claim: a false one is part of the challenge all the same.
    let commitment = to_word(batch.commitment)?;
    let challenge = data.challenge(commitment.0, beneficiary);
    Ok(IRollup::StoredBatch {
        number: number.0,
        circuitId: batch.circuitId,
        oldRoot: to_u256(&old_root.0),
        newRoot: batch.newRoot,
        commitment: batch.commitment,
        z: to_u256(&challenge),
        y: to_u256(&data.evaluate(challenge)),
        queueHead: first_request + data.l1_rows.len() as u64,
        payoutsHash: payouts_hash(&chunk_hashes(&payout_chunks(&payouts(&data, requests)))),
        timestamp: batch.timestamp,
        committedAt: committed_at,
        beneficiary: batch.beneficiary,
    })
}

/// A proof's eight words: A, B with the imaginary parts first, C.
pub fn to_proof(words: &[Word8; 8]) -> IRollup::Proof {
    let word = |i: usize| U256::from_be_bytes(words[i]);
    IRollup::Proof {
        a: [word(0), word(1)],
        b: [word(2), word(3), word(4), word(5)],
        c: [word(6), word(7)],
    }
}

//! `millrace bench gas`: what every operation costs on L1, with the floor of EIP-7623 beside it.
//!
//! ```text
//! deploy → deposits → batch 1: commit, prove → withdrawal, batch 2: commit, prove, pay, claim → empty batches 3, 4
//! → two batches of dense rows: slope = per transfer, rest = fixed → exit request → escape
//! → payment channels (`gas/channels.rs`)
//! ```
//!
//! The proven batches are real, with real proofs. The dense ones are only committed: the contract charges for their bytes
//! whatever they say.

mod channels;

use super::{failed, report};
use crate::cli::setup::{blocking, key_store, keys, make_key};
use crate::cli::wallet::contract_failure;
use crate::cli::{Exit, Failure};
use crate::config::Config;
use crate::output::{Output, table};
use crate::wallet::contract::{Contract, Landed};
use crate::wallet::escape::rebuild;
use crate::wallet::keys::{KeySource, Phrase, UserKeys};
use crate::wiring::contract::circuit as deployed_circuit;
use alloy::primitives::{B256, U256};
use alloy::providers::Provider;
use alloy::rpc::types::TransactionReceipt;
use millrace_circuits::amount::{FeeCode, Float40};
use millrace_circuits::batch::{
    BatchData, BatchInput, BatchPublic, BatchWitness, ExecutedBatch, Extra, Header, L1Operation,
    Payout, Row, Shape, Slot, execute,
};
use millrace_circuits::field::{self, Word};
use millrace_circuits::merkle::{SparseTree, StateTree};
use millrace_circuits::transaction::{Action, Domain, Transaction};
use millrace_circuits::types::{
    AccountIndex, Amount, BatchNumber, L1Address, Nonce, Timestamp, TokenId,
};
use millrace_l1::bindings::IRollup;
use millrace_l1::devchain::{DEV_MNEMONIC, DevChain, DevChainConfig, dev_signer};
use millrace_l1::provider::L1Provider;
use millrace_l1::rollup_client::RollupClient;
use millrace_l1::sender::TransactionSender;
use millrace_prover::circuit::{Circuit, Statement};
use millrace_prover::fast::Fast;
use millrace_prover::key::KeyStore;
use millrace_prover::prove::Prover;
use millrace_prover::setup::Seed;
use millrace_rollup::batch_log::QueuedRequest;
use millrace_rollup::l1::convert::{from_request, to_batch};
use serde::Serialize;
use std::sync::Arc;

/// Rows of the dense batches: the first warms the contract's counters, the difference of the others gives the cost of a row.
/// They differ by a whole turn of the contract's loop, 16 words of two rows.
const DENSE_ROWS: [usize; 3] = [24, 56, 88];
/// Base fee of a request in the measured deployment, in wei.
const REQUEST_FEE: u128 = 100_000_000_000_000;
/// What each user deposits: 1 ETH.
const DEPOSIT: Amount = Amount(1_000_000_000_000_000_000);
/// Longer than the contract gives an operator to serve a request.
const OVERDUE_SECS: u64 = 8 * 24 * 3600;
/// Gas of any transaction, and of a call data token under EIP-7623: a zero byte is one, any other is four.
const BASE_GAS: u64 = 21_000;
const FLOOR_PER_TOKEN: u64 = 10;

/// Options of `millrace bench gas`.
#[derive(Debug, clap::Args)]
pub struct GasArguments {
    /// A development chain to measure on, such as anvil with its default accounts; without it, the embedded chain
    #[arg(long, value_name = "URL")]
    pub l1: Option<String>,
    /// Folder of the keys
    #[arg(long, value_name = "FOLDER")]
    pub keys_dir: Option<std::path::PathBuf>,
}

/// What one operation costs.
#[derive(Debug, Clone, Serialize)]
pub struct GasRow {
    /// Which.
    pub operation: &'static str,
    /// Gas used, or the share of it.
    pub gas: u64,
    /// What its call data costs at the least under EIP-7623.
    pub gas_floor_7623: u64,
}

/// The deployment under measurement.
struct Bench {
    contract: Contract,
    client: RollupClient,
    operator: TransactionSender,
    users: Vec<UserKeys>,
    domain: Domain,
    tree: SparseTree,
    requests: Vec<QueuedRequest>,
    rows: Vec<GasRow>,
}

/// Measures.
///
/// # Errors
/// [`Failure`].
pub async fn run(output: Output, arguments: GasArguments) -> Result<(), Failure> {
    let l1 = match &arguments.l1 {
        Some(url) => L1Provider::connect_url(url)
            .await
            .map_err(|error| Failure::because(Exit::Connection, "no L1 to measure on", &error))?,
        None => L1Provider::from(&DevChain::new(DevChainConfig::default())),
    };
    let store = key_store(arguments.keys_dir.as_deref(), &Config::default())?;
    let bar = output.progress(0, "deploying (the first time makes a proving key)");
    let mut bench = deploy(l1, &store).await?;
    bar.set_message("deposits, a withdrawal, two proofs");
    proven_batches(&mut bench, store).await?;
    bar.set_message("dense batches");
    dense_batches(&mut bench).await?;
    bar.set_message("escape");
    escape(&mut bench).await?;
    bar.set_message("payment channels");
    let channels = channels::measure(bench.contract.l1()).await?;
    bench.rows.extend(channels);
    bar.finish_and_clear();
    report(output, bench.rows, |rows| {
        let row = |row: &GasRow| {
            [
                row.operation.to_owned(),
                row.gas.to_string(),
                row.gas_floor_7623.to_string(),
            ]
        };
        table(["operation", "gas", "EIP-7623 floor"], rows.iter().map(row))
    });
    Ok(())
}

async fn deploy(l1: L1Provider, store: &KeyStore) -> Result<Bench, Failure> {
    let keep = store.clone();
    let key = blocking(move || make_key(&keep, Shape::TINY, false))
        .await?
        .map_err(|error| keys(&error))?;
    // Only the small circuit's batches are proven here, so its key may stand in for the large one's.
    let circuits =
        [Shape::TINY, Shape::LARGE].map(|shape| deployed_circuit(&shape, key.verifying_key()));
    let operator = TransactionSender::in_memory(l1.clone(), dev_signer(0));
    let terms = IRollup::Config {
        operator: operator.address(),
        ceremony: B256::ZERO,
        requestFee: REQUEST_FEE,
        requestSpacing: 1,
        circuits: circuits.to_vec(),
    };
    let landed = RollupClient::deploy(&operator, "deploy", terms)
        .await
        .map_err(|error| failed(&error))?;
    let client = landed.value;
    let address = L1Address(client.address().into_array());
    let source = KeySource::Phrase(Phrase::parse(DEV_MNEMONIC).map_err(|error| failed(&error))?);
    let users = (1..=2)
        .map(|number| source.keys(number, None))
        .collect::<Result<_, _>>();
    Ok(Bench {
        domain: Domain::new(l1.chain_id(), address),
        contract: Contract::new(l1, address),
        client,
        operator,
        users: users.map_err(|error| failed(&error))?,
        tree: SparseTree::new(),
        requests: Vec::new(),
        rows: Vec::new(),
    })
}

impl Bench {
    /// Notes what a transaction cost.
    async fn measured(&mut self, operation: &'static str, landed: Landed) -> Result<(), Failure> {
        let input = self
            .contract
            .input_of(landed.transaction)
            .await
            .map_err(contract_failure)?;
        self.rows.push(GasRow {
            operation,
            gas: landed.gas,
            gas_floor_7623: floor(&input),
        });
        Ok(())
    }

    async fn deposit(&mut self, user: usize) -> Result<Landed, Failure> {
        let keys = &self.users[user];
        let queued = self
            .contract
            .deposit(&keys.l1, TokenId::ZERO, DEPOSIT, keys.owner())
            .await;
        Ok(queued.map_err(contract_failure)?.landed)
    }

    /// The requests that wait, from number `from` on.
    async fn read_requests(&mut self, from: u64) -> Result<Vec<QueuedRequest>, Failure> {
        let all = self
            .contract
            .requests(0, None)
            .await
            .map_err(contract_failure)?;
        let wanted = all.iter().filter(|(id, _)| *id >= from);
        let requests: Result<Vec<_>, _> = wanted
            .map(|(id, request)| from_request(*id, request, 0))
            .collect();
        self.requests = requests.map_err(|error| failed(&error))?;
        Ok(self.requests.clone())
    }

    async fn time(&self) -> Result<Timestamp, Failure> {
        let latest = alloy::eips::BlockNumberOrTag::Latest;
        let block = self
            .contract
            .l1()
            .provider()
            .get_block_by_number(latest)
            .await;
        let block = block.map_err(|error| failed(&error))?;
        let block =
            block.ok_or_else(|| Failure::new(Exit::Connection, "L1 has no newest block"))?;
        Ok(Timestamp(block.header.timestamp))
    }

    fn input(&self, number: u64, timestamp: Timestamp) -> BatchInput {
        BatchInput {
            shape: Shape::TINY,
            number: BatchNumber(number),
            timestamp,
            domain: self.domain,
            fee_leaves: vec![],
            l1_operations: vec![],
            slots: vec![],
        }
    }

    fn beneficiary(&self) -> L1Address {
        L1Address(self.operator.address().into_array())
    }

    async fn commit(
        &self,
        data: &BatchData,
        requests: &[QueuedRequest],
    ) -> Result<TransactionReceipt, Failure> {
        let number = data.header.number.0;
        let commitment = Word(data.commitment());
        let batch = to_batch(data, &commitment, requests, self.beneficiary());
        let id = format!("commit-{number}");
        self.client
            .commit_batch(&self.operator, &id, number, batch)
            .await
            .map_err(|error| failed(&error))
    }

    /// A real proof of a batch.
    async fn prove(
        &self,
        data: &BatchData,
        witness: BatchWitness,
        prover: &Arc<Prover>,
    ) -> Result<(BatchPublic, IRollup::Proof), Failure> {
        let public = data.public(self.beneficiary());
        let prover = prover.clone();
        let statement = Statement::Batch {
            witness: Box::new(witness),
            public,
        };
        let proven = blocking(move || prover.prove(&statement)).await?;
        let words = proven.map_err(|error| failed(&error))?.proof.words();
        let [a0, a1, b0, b1, b2, b3, c0, c1] = words.map(U256::from_be_bytes);
        let proof = IRollup::Proof {
            a: [a0, a1],
            b: [b0, b1, b2, b3],
            c: [c0, c1],
        };
        Ok((public, proof))
    }

    /// Commits a batch, then proves it; what the proof cost.
    async fn settle(
        &self,
        executed: ExecutedBatch,
        requests: &[QueuedRequest],
        prover: &Arc<Prover>,
    ) -> Result<Landed, Failure> {
        let ExecutedBatch { data, witness } = executed;
        let committed = landed(&self.commit(&data, requests).await?)?;
        let (public, proof) = self.prove(&data, witness, prover).await?;
        let beneficiary = self.beneficiary();
        let stored = stored_batch(
            &self.contract,
            &data,
            &public,
            requests,
            committed,
            beneficiary,
        );
        let (stored, id) = (vec![stored.await?], format!("prove-{}", data.header.number));
        let receipt = self
            .client
            .prove_batches(&self.operator, &id, stored, vec![proof])
            .await;
        landed(&receipt.map_err(|error| failed(&error))?)
    }

    /// Commits and proves a batch in one transaction.
    async fn settle_at_once(
        &self,
        executed: ExecutedBatch,
        prover: &Arc<Prover>,
    ) -> Result<Landed, Failure> {
        let ExecutedBatch { data, witness } = executed;
        let (public, proof) = self.prove(&data, witness, prover).await?;
        let batch = to_batch(&data, &public.commitment, &[], self.beneficiary());
        let (number, id) = (data.header.number.0, format!("both-{}", data.header.number));
        let receipt = self
            .client
            .commit_and_prove(&self.operator, &id, number, batch, proof)
            .await;
        landed(&receipt.map_err(|error| failed(&error))?)
    }

    /// A batch of nothing: what it costs is fixed.
    async fn empty(&mut self, number: u64) -> Result<ExecutedBatch, Failure> {
        let input = self.input(number, self.time().await?);
        execute(&input, &mut self.tree).map_err(|error| failed(&error))
    }
}

async fn stored_batch(
    contract: &Contract,
    data: &BatchData,
    public: &BatchPublic,
    requests: &[QueuedRequest],
    committed: Landed,
    beneficiary: L1Address,
) -> Result<IRollup::StoredBatch, Failure> {
    use millrace_rollup::l1::convert::{
        chunk_hashes, payout_chunks, payouts, payouts_hash, to_address, to_u256,
    };
    let block = contract
        .l1()
        .provider()
        .get_block_by_number(committed.block.into())
        .await;
    let block = block.map_err(|error| failed(&error))?;
    let block =
        block.ok_or_else(|| Failure::new(Exit::Connection, "L1 lacks the block of the commit"))?;
    let status = contract.status().await.map_err(contract_failure)?;
    Ok(IRollup::StoredBatch {
        number: data.header.number.0,
        circuitId: data.shape.id,
        oldRoot: to_u256(&data.header.old_root.0),
        newRoot: to_u256(&data.header.new_root.0),
        commitment: to_u256(&public.commitment.0),
        z: to_u256(&public.challenge.0),
        y: to_u256(&public.evaluation.0),
        queueHead: status.committedQueueHead,
        payoutsHash: payouts_hash(&chunk_hashes(&payout_chunks(&payouts(data, requests)))),
        timestamp: data.header.timestamp.0,
        committedAt: block.header.timestamp,
        beneficiary: to_address(beneficiary),
    })
}

/// Two deposits; a batch that takes them; a batch with a withdrawal; its payment; a claim; two empty batches;
/// an exit request.
async fn proven_batches(bench: &mut Bench, store: KeyStore) -> Result<(), Failure> {
    let source = move |circuit: Circuit| store.development_key(circuit, &Seed::development());
    let prover = Arc::new(Prover::new(Fast::detect(), source));
    bench.deposit(0).await?;
    let deposit = bench.deposit(1).await?;
    bench.measured("deposit", deposit).await?;

    let requests = bench.read_requests(0).await?;
    let mut input = bench.input(1, bench.time().await?);
    input.l1_operations = requests
        .iter()
        .map(|request| L1Operation::Deposit {
            index: index(request.id + 1),
            owner: millrace_circuits::account::Owner(request.owner.0),
            token: request.token,
            amount: request.amount,
        })
        .collect();
    let executed = execute(&input, &mut bench.tree).map_err(|error| failed(&error))?;
    bench.settle(executed, &requests, &prover).await?;

    let mut input = bench.input(2, bench.time().await?);
    input.slots = vec![withdrawal(bench, input.timestamp)];
    let executed = execute(&input, &mut bench.tree).map_err(|error| failed(&error))?;
    let payouts = executed.data.payouts(|_| None);
    bench.settle(executed, &[], &prover).await?;
    pay_and_claim(bench, &payouts).await?;

    let executed = bench.empty(3).await?;
    let proven = bench.settle(executed, &[], &prover).await?;
    bench.measured("prove_fixed", proven).await?;
    let executed = bench.empty(4).await?;
    let both = bench.settle_at_once(executed, &prover).await?;
    bench.measured("commit_and_prove_fixed", both).await?;

    let keys = bench.users[1].clone();
    let exit = bench
        .contract
        .request_exit(&keys.l1, index(2), TokenId::ZERO, &keys.rollup.public_key())
        .await;
    bench
        .measured("request_exit", exit.map_err(contract_failure)?.landed)
        .await
}

fn withdrawal(bench: &Bench, timestamp: Timestamp) -> Slot {
    let keys = &bench.users[0];
    let transaction = Transaction {
        from: index(1),
        nonce: Nonce::ZERO,
        token: TokenId::ZERO,
        fee: FeeCode::ZERO,
        action: Action::Withdraw {
            amount: Amount(DEPOSIT.0 / 4),
        },
        link: Word(field::from_bytes(&[0; 32]).expect("zero is a canonical word")),
        valid_until: Timestamp(timestamp.0 + 3600),
    };
    let signed = transaction.sign(&bench.domain, keys.l1_address(), &keys.rollup);
    Slot::Transaction {
        signed,
        to: AccountIndex::ZERO,
    }
}

async fn pay_and_claim(bench: &mut Bench, payouts: &[Payout]) -> Result<(), Failure> {
    let stranger = dev_signer(3);
    let paid = bench
        .contract
        .pay_withdrawals(&stranger, 2, payouts, None)
        .await
        .map_err(contract_failure)?;
    for landed in paid {
        bench.measured("pay_withdrawal", landed).await?;
    }
    let operator = bench.operator.address();
    let claimed = bench
        .contract
        .claim(&stranger, TokenId::ZERO, operator)
        .await
        .map_err(contract_failure)?;
    bench.measured("claim", claimed).await
}

/// Commits batches of dense rows: the difference of the last two is the cost of rows, the rest is fixed.
async fn dense_batches(bench: &mut Bench) -> Result<(), Failure> {
    let mut old_root = Word(bench.tree.root());
    let mut measured = Vec::new();
    for (place, rows) in DENSE_ROWS.into_iter().enumerate() {
        let number = 5 + place as u64;
        let data = dense(bench.domain, number, bench.time().await?, old_root, rows);
        old_root = data.header.new_root;
        let landed = landed(&bench.commit(&data, &[]).await?)?;
        let input = bench
            .contract
            .input_of(landed.transaction)
            .await
            .map_err(contract_failure)?;
        measured.push((landed.gas, floor(&input)));
    }
    let [_, (small, small_floor), (large, large_floor)] = measured[..] else {
        unreachable!("one measurement for each of DENSE_ROWS")
    };
    let more = (DENSE_ROWS[2] - DENSE_ROWS[1]) as u64;
    let slope = |small: u64, large: u64| (large - small).div_ceil(more);
    let (gas, gas_floor) = (slope(small, large), slope(small_floor, large_floor));
    let rows = DENSE_ROWS[1] as u64;
    let fixed = GasRow {
        operation: "commit_fixed",
        gas: small.saturating_sub(rows * gas),
        gas_floor_7623: small_floor.saturating_sub(rows * gas_floor),
    };
    let per_transfer = GasRow {
        operation: "per_transfer",
        gas,
        gas_floor_7623: gas_floor,
    };
    bench.rows.extend([fixed, per_transfer]);
    Ok(())
}

/// A batch of transfers with 9 of their 12 bytes not zero.
fn dense(
    domain: Domain,
    number: u64,
    timestamp: Timestamp,
    old_root: Word,
    rows: usize,
) -> BatchData {
    let row = |place: usize| Row {
        // 2 + 2 + 4 + 1 bytes that are not zero.
        from: index(0x0101 + place as u64),
        to: index(0x0202 + place as u64),
        amount: Float40::from_code(0x11_2233_4400).expect("five bytes are 40 bits"),
        fee: FeeCode::from_code(0x11).expect("one byte is 8 bits"),
        extra: Extra::None,
    };
    BatchData {
        shape: Shape::LARGE,
        header: Header {
            number: BatchNumber(number),
            timestamp,
            domain,
            old_root,
            new_root: Word(field::from_bytes_reduced(&[number as u8; 32])),
            fee_leaves: vec![],
        },
        l1_rows: vec![],
        rows: (0..rows).map(row).collect(),
    }
}

/// Lets the exit request go overdue, freezes the rollup and takes the second user's leaf out.
async fn escape(bench: &mut Bench) -> Result<(), Failure> {
    let waiting = bench
        .contract
        .requests(0, None)
        .await
        .map_err(contract_failure)?;
    let head = bench
        .contract
        .status()
        .await
        .map_err(contract_failure)?
        .provenQueueHead;
    let oldest = waiting
        .into_iter()
        .find(|(id, _)| *id == head)
        .map(|(_, request)| request);
    let oldest = oldest.ok_or_else(|| Failure::new(Exit::Internal, "no request waits"))?;
    pass_time(bench.contract.l1(), OVERDUE_SECS).await?;
    let stranger = dev_signer(3);
    bench
        .contract
        .enter_escape(&stranger, oldest)
        .await
        .map_err(contract_failure)?;
    let keys = bench.users[1].clone();
    // As a user would: from L1 alone.
    let state = rebuild(&bench.contract, 0, |_, _| {})
        .await
        .map_err(|error| failed(&error))?;
    let mine = state.accounts_of(&[keys.owner()]);
    let [(index, account)] = mine.as_slice() else {
        return Err(Failure::new(
            Exit::Verification,
            "the state rebuilt from L1 lacks the account",
        ));
    };
    let leaf = state.leaf(
        *index,
        account,
        keys.l1_address(),
        &keys.rollup.public_key(),
    );
    let landed = bench
        .contract
        .escape_exit(&stranger, leaf)
        .await
        .map_err(contract_failure)?;
    bench.measured("escape_exit", landed).await
}

/// Lets a development chain's time pass.
async fn pass_time(l1: &L1Provider, secs: u64) -> Result<(), Failure> {
    for (method, arguments) in [("evm_increaseTime", vec![secs]), ("evm_mine", vec![])] {
        let done: Result<serde_json::Value, _> =
            l1.provider().raw_request(method.into(), arguments).await;
        done.map_err(|error| failed(&error))?;
    }
    Ok(())
}

fn index(number: u64) -> AccountIndex {
    AccountIndex::new(number).expect("the benchmark's indices have 24 bits")
}

fn landed(receipt: &TransactionReceipt) -> Result<Landed, Failure> {
    let block = receipt.block_number;
    let block = block.ok_or_else(|| Failure::new(Exit::Connection, "a receipt lacks its block"))?;
    Ok(Landed {
        transaction: receipt.transaction_hash,
        block,
        gas: receipt.gas_used,
    })
}

/// The least that a transaction with this input costs since Prague.
fn floor(input: &[u8]) -> u64 {
    let tokens: u64 = input
        .iter()
        .map(|byte| if *byte == 0 { 1 } else { 4 })
        .sum();
    BASE_GAS + FLOOR_PER_TOKEN * tokens
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dense_rows_have_nine_bytes_that_are_not_zero() {
        let domain = Domain::new(1, L1Address::default());
        let root = Word(field::from_bytes(&[0; 32]).unwrap());
        let data = dense(domain, 3, Timestamp(1), root, 88);
        let posted = data.posted();
        let zeros = posted.rows.iter().filter(|byte| **byte == 0).count();
        assert_eq!((posted.rows.len(), zeros), (88 * 12, 88 * 3));
        assert!(posted.extras.is_empty());
    }

    #[test]
    fn the_floor_counts_zero_bytes_once_and_others_four_times() {
        assert_eq!(floor(&[]), 21_000);
        assert_eq!(floor(&[0, 1]), 21_050);
    }
}

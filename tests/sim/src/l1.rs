//! L1: a mempool, blocks of the reference contract, reorgs, and what a node sees of it.
//!
//! Every block keeps the contract's state after it; equal states are shared. A reorg puts the transactions of the undone
//! blocks back into the mempool, in another order, and may lose some for ever.

use crate::contract::{Contract, Revert, Signatures};
use crate::evm::{Evm, agree};
use crate::random::Random;
use millrace_channels::machine::dispute::{ChainReport, Level};
use millrace_channels::machine::effect::Transaction;
use millrace_channels::state::{Halves, Params};
use millrace_channels::types::{Address, ChannelId, PaymentHash, Side, Signature, Timestamp};
use millrace_l1::devchain::world::Undo;
use std::collections::BTreeSet;
use std::rc::Rc;

/// A call of the contract by somebody.
#[derive(Debug, Clone)]
pub enum Call {
    /// A deposit.
    Deposit {
        /// The channel.
        params: Params,
        /// For which side.
        side: Side,
        /// How much.
        amount: u128,
    },
    /// A close without a snapshot, by anybody, with a signer's signature.
    Close {
        /// The channel.
        params: Params,
        /// How long the signature is good.
        valid_until: Timestamp,
        /// A signer's.
        signature: Signature,
    },
    /// What a node broadcasts.
    Node(Transaction),
}

/// A transaction.
#[derive(Debug, Clone)]
pub struct Tx {
    /// Who pays for it.
    pub sender: Address,
    /// What it does.
    pub call: Call,
    /// When it may be included at the earliest.
    pub ready: Timestamp,
}

struct Block {
    time: Timestamp,
    state: Rc<Contract>,
    included: Vec<Tx>,
    undo: Undo,
}

/// The chain.
pub struct L1 {
    blocks: Vec<Block>,
    mempool: Vec<Tx>,
    depth: usize,
    /// The real contract, if it runs beside the reference.
    evm: Option<Evm>,
    /// Calls that both have executed.
    pub compared: u64,
    /// The first difference between contract and reference.
    pub difference: Option<String>,
}

/// What a node has been told.
#[derive(Default, Clone)]
pub struct Told {
    head: Option<Rc<Contract>>,
    last: Option<Rc<Contract>>,
    /// Hashes that it watches, and whether the state of all was reported since.
    pub watched: BTreeSet<PaymentHash>,
    /// Hashes that it watches since the last report.
    pub fresh: BTreeSet<PaymentHash>,
}

impl L1 {
    /// A chain with one block.
    pub fn new(contract: Contract, time: Timestamp, depth: usize, evm: Option<Evm>) -> Self {
        Self {
            blocks: vec![Block {
                time,
                state: Rc::new(contract),
                included: Vec::new(),
                undo: Undo::default(),
            }],
            mempool: Vec::new(),
            depth,
            evm,
            compared: 0,
            difference: None,
        }
    }

    /// Sends a transaction; it replaces nothing and may revert.
    pub fn send(&mut self, tx: Tx) {
        self.mempool.push(tx);
    }

    /// The newest state.
    pub fn head(&self) -> &Contract {
        &self.blocks[self.blocks.len() - 1].state
    }

    /// The newest block's time.
    pub fn time(&self) -> Timestamp {
        self.blocks[self.blocks.len() - 1].time
    }

    fn final_block(&self) -> &Block {
        &self.blocks[self.blocks.len().saturating_sub(self.depth + 1)]
    }

    /// Adds a block.
    pub fn mine(&mut self, time: Timestamp, random: &mut Random) {
        let time = time.max(self.time() + 1);
        let mut ready: Vec<Tx> = Vec::new();
        let mut waiting = Vec::new();
        for tx in self.mempool.drain(..) {
            if tx.ready <= time {
                ready.push(tx);
            } else {
                waiting.push(tx);
            }
        }
        self.mempool = waiting;
        // The block's author orders as it likes.
        for at in (1..ready.len()).rev() {
            ready.swap(at, random.below(at as u64 + 1) as usize);
        }
        let mut state = self.blocks[self.blocks.len() - 1].state.clone();
        let mut undo = Undo::default();
        if !ready.is_empty() {
            let contract = Rc::make_mut(&mut state);
            for tx in &ready {
                // A revert changes nothing: whoever sent it sees the state.
                let result = apply(contract, tx, time);
                if let Some(evm) = self.evm.as_mut() {
                    let (found, later) = execute_beside(evm, contract, tx, time, result);
                    undo.absorb(&later);
                    self.compared += 1;
                    self.difference = self.difference.take().or(found);
                }
            }
        }
        self.blocks.push(Block {
            time,
            state,
            included: ready,
            undo,
        });
        if self.blocks.len() > 4 * self.depth + 8 {
            self.blocks.drain(..2 * self.depth);
        }
    }

    /// Undoes up to `depth` blocks, less than what is final, and mines as many and one more. What was in them comes back up to
    /// two blocks late if `delay`, and half of it never if `lose`.
    pub fn reorg(&mut self, depth: usize, lose: bool, delay: bool, random: &mut Random) {
        let depth = depth.min(self.depth).min(self.blocks.len() - 1);
        let undone = self.blocks.split_off(self.blocks.len() - depth);
        let mut times: Vec<Timestamp> = undone.iter().map(|block| block.time).collect();
        if let Some(evm) = self.evm.as_mut() {
            undone.iter().rev().for_each(|block| evm.undo(&block.undo));
        }
        for block in undone {
            for tx in block.included {
                if !(lose && random.one_in(2)) {
                    let delay = random.below(3) * if delay { 30 } else { 0 };
                    self.mempool.push(Tx {
                        ready: block.time + delay,
                        ..tx
                    });
                }
            }
        }
        times.push(times.last().copied().unwrap_or(self.time()) + 1);
        for time in times {
            self.mine(time, random);
        }
    }

    /// State after the last final block.
    pub fn finally(&self) -> &Contract {
        &self.final_block().state
    }

    /// What a node sees that it has not been told.
    pub fn reports(&self, told: &mut Told, channels: &[ChannelId]) -> [ChainReport; 2] {
        let last = self.final_block();
        let head = &self.blocks[self.blocks.len() - 1];
        told.watched.append(&mut told.fresh.clone());
        let finally = report(Level::Final, last, told.last.as_ref(), told, channels);
        let newest = report(Level::Head, head, told.head.as_ref(), told, channels);
        told.fresh.clear();
        told.last = Some(last.state.clone());
        told.head = Some(head.state.clone());
        [finally, newest]
    }
}

fn report(
    level: Level,
    block: &Block,
    told: Option<&Rc<Contract>>,
    watch: &Told,
    channels: &[ChannelId],
) -> ChainReport {
    let state = &block.state;
    let same = told.is_some_and(|told| Rc::ptr_eq(told, state));
    let hashes = if same { &watch.fresh } else { &watch.watched };
    ChainReport {
        level,
        timestamp: block.time,
        channels: channels
            .iter()
            .filter(|_| !same)
            .filter_map(|id| Some((*id, state.channels.get(id)?.1.clone())))
            .collect(),
        reveals: hashes
            .iter()
            .map(|hash| (*hash, state.reveals.get(hash).copied()))
            .collect(),
    }
}

/// Executes on the real contract what the reference has executed, and says where they differ.
pub fn execute_beside(
    evm: &mut Evm,
    contract: &Contract,
    tx: &Tx,
    now: Timestamp,
    result: Result<(), Revert>,
) -> (Option<String>, Undo) {
    let (found, undo) = evm.apply(tx, now);
    let difference = if agree(result, found) {
        match &tx.call {
            Call::Node(Transaction::Reveal { preimages }) => preimages
                .iter()
                .find_map(|preimage| evm.reveal_differs(contract, &preimage.hash())),
            call => params(call).and_then(|params| evm.differs(contract, params)),
        }
    } else {
        Some(format!(
            "reference {result:?}, contract {found:02x?} at {now}: {:?}",
            tx.call
        ))
    };
    (difference, undo)
}

fn params(call: &Call) -> Option<&Params> {
    match call {
        Call::Deposit { params, .. }
        | Call::Close { params, .. }
        | Call::Node(
            Transaction::Cooperate { params, .. }
            | Transaction::Submit { params, .. }
            | Transaction::Settle { params, .. },
        ) => Some(params),
        Call::Node(Transaction::Reveal { .. }) => None,
    }
}

/// Executes a transaction on the reference.
///
/// # Errors
/// [`Revert`]: nothing changed.
pub fn apply(contract: &mut Contract, tx: &Tx, now: Timestamp) -> Result<(), Revert> {
    match &tx.call {
        Call::Deposit {
            params,
            side,
            amount,
        } => contract.deposit(params, *side, *amount),
        Call::Close {
            params,
            valid_until,
            signature,
        } => contract.submit(
            &tx.sender,
            now,
            params,
            &Halves::ZERO,
            (&[], &[]),
            Signatures {
                close: Some((*signature, *valid_until)),
                ..Signatures::default()
            },
        ),
        Call::Node(Transaction::Cooperate {
            params,
            coop,
            signature_a,
            signature_b,
        }) => contract.cooperate(
            &tx.sender,
            now,
            params,
            coop,
            (Some(*signature_a), Some(*signature_b)),
        ),
        Call::Node(Transaction::Submit {
            params,
            halves,
            list_a,
            list_b,
            signatures,
        }) => contract.submit(
            &tx.sender,
            now,
            params,
            halves,
            (list_a, list_b),
            Signatures {
                a: signatures.map(|(a, _)| a),
                b: signatures.map(|(_, b)| b),
                close: None,
            },
        ),
        Call::Node(Transaction::Settle {
            params,
            list_a,
            list_b,
        }) => contract.settle(now, params, (list_a, list_b)),
        Call::Node(Transaction::Reveal { preimages }) => {
            contract.reveal(now, preimages);
            Ok(())
        }
    }
}

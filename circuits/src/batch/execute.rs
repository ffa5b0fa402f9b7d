//! Applying a batch to a state: the operator from signed transactions, everybody else from posted data.
//!
//! ```text
//! execute: BatchInput ─┐                                      ┌→ BatchData, BatchWitness
//!                      ├→ L1 rows → rows → fees, on the tree ─┤
//! replay:  BatchData  ─┘                                      └→ root compared with the posted one
//! ```

use super::data::{BatchData, Extra, Header, L1Row, Row};
use super::shape::Shape;
use super::witness::{BatchWitness, FeeWitness, L1RowWitness, Opening, RowWitness};
use crate::account::{Account, Owner};
use crate::amount::Float40;
use crate::field::Word;
use crate::merkle::{Path, StateTree};
use crate::op::{self, ExitClaim, Rejection};
use crate::transaction::{Action, Domain, SignedTransaction, Transaction};
use crate::types::{AccountIndex, Amount, BatchNumber, L1Address, Timestamp, TokenId};
use ark_ff::Zero;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use thiserror::Error;

/// An L1 request with the operator's choice.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum L1Operation {
    /// Credits `index`; 0 refuses.
    Deposit {
        /// The leaf, an existing one of this owner and token or an empty one.
        index: AccountIndex,
        /// Owner.
        owner: Owner,
        /// Token.
        token: TokenId,
        /// What arrived on L1.
        amount: Amount,
    },
    /// Takes everything out, if the claim holds.
    ForcedExit {
        /// The leaf that the request names.
        index: AccountIndex,
        /// Its token.
        token: TokenId,
        /// Who asked.
        sender: L1Address,
        /// A.x as requested.
        key_x: Word,
        /// A.y as requested.
        key_y: Word,
    },
}

/// A transaction row to fill.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Slot {
    /// Nothing.
    Noop,
    /// A transaction whose signature was checked (see [`op::check_signature`]); `to` is the leaf that the operator picks, 0
    /// for a Withdraw.
    Transaction {
        /// The transaction.
        signed: SignedTransaction,
        /// The receiving leaf.
        to: AccountIndex,
    },
}

/// What the operator decides for a batch.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct BatchInput {
    /// The circuit.
    pub shape: Shape,
    /// The batch's number.
    pub number: BatchNumber,
    /// The batch's time.
    pub timestamp: Timestamp,
    /// Contract and chain.
    pub domain: Domain,
    /// Existing leaves of distinct tokens that gather fees, at most the shape's; 0 is none.
    pub fee_leaves: Vec<AccountIndex>,
    /// The next requests of the L1 queue, in order.
    pub l1_operations: Vec<L1Operation>,
    /// Transactions, in order; linked ones at 2i and 2i+1.
    pub slots: Vec<Slot>,
}

/// A batch applied by the operator.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ExecutedBatch {
    /// What to post.
    pub data: BatchData,
    /// What to prove it from.
    pub witness: BatchWitness,
}

/// Why a batch cannot be made from an input. The tree may hold part of its effects: discard or roll it back.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum BatchError<E> {
    /// The storage failed.
    #[error("the state cannot be read or written: {0}")]
    Tree(E),
    /// Too many of something for the shape.
    #[error("{got} {what} exceed the circuit's {capacity}")]
    TooMany {
        /// Which.
        what: &'static str,
        /// Given.
        got: usize,
        /// The shape's capacity.
        capacity: usize,
    },
    /// A deposit's leaf does not take it.
    #[error("L1 row {row}: {reason}")]
    L1Row {
        /// Position.
        row: usize,
        /// The rule.
        reason: Rejection,
    },
    /// A transaction does not apply.
    #[error("row {row}: {reason}")]
    Row {
        /// Position.
        row: usize,
        /// The rule.
        reason: Rejection,
    },
    /// A transfer without a receiving leaf, or a Withdraw with one.
    #[error(
        "row {row}: a transfer needs a receiving leaf and a withdrawal has none, got leaf {to}"
    )]
    Recipient {
        /// Position.
        row: usize,
        /// What was given.
        to: AccountIndex,
    },
    /// A linked transaction without its partner beside it.
    #[error("row {row} is linked to a transaction that is not the other row of its pair")]
    LinkBroken {
        /// Position.
        row: usize,
    },
    /// A fee in a token that no fee leaf gathers.
    #[error("row {row} pays a fee in token {token}, which no fee leaf of the batch gathers")]
    FeeWithoutLeaf {
        /// Position.
        row: usize,
        /// The token.
        token: TokenId,
    },
    /// A fee leaf that does not exist, or a second one of a token.
    #[error("fee leaf {index} does not exist or gathers the token of another fee leaf")]
    FeeLeaf {
        /// The leaf.
        index: AccountIndex,
    },
}

/// Why posted data does not replay. On a proven batch this means a corrupt state or a gap in what was read.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum ReplayError<E> {
    /// An operation does not apply.
    #[error("{0}")]
    Batch(#[from] BatchError<E>),
    /// The state is not the one that the batch starts from.
    #[error(
        "the batch starts from another root than this state's: a batch is missing or out of order"
    )]
    OldRootDiffers {
        /// Root of this state.
        state: Word,
        /// Root in the header.
        posted: Word,
    },
    /// The result is not the posted one.
    #[error("the batch ends in another root than the posted one")]
    NewRootDiffers {
        /// Root computed.
        computed: Word,
        /// Root in the header.
        posted: Word,
    },
    /// An L1 row or extras that do not follow from the state.
    #[error("{region} {row} states what does not follow from the state")]
    Inconsistent {
        /// "L1 row" or "row".
        region: &'static str,
        /// Position.
        row: usize,
    },
}

/// Applies a batch of signed transactions and records what a prover needs. Signatures are not checked again.
///
/// # Errors
/// [`BatchError`]; the tree may then hold part of the batch's effects.
pub fn execute<T: StateTree>(
    input: &BatchInput,
    tree: &mut T,
) -> Result<ExecutedBatch, BatchError<T::Error>> {
    let BatchInput {
        shape,
        number,
        timestamp,
        domain,
        fee_leaves,
        ..
    } = input;
    check_capacities(
        shape,
        input.l1_operations.len(),
        input.slots.len(),
        fee_leaves.len(),
    )?;
    check_links(&input.slots)?;
    let old_root = Word(tree.root());
    let mut state = Applier { tree, record: true };

    let (mut l1_rows, mut l1_witnesses) = (Vec::new(), Vec::new());
    for (row, operation) in input.l1_operations.iter().enumerate() {
        let (data, leaf) = state.l1_operation(row, operation)?;
        l1_rows.push(data);
        l1_witnesses.push(L1RowWitness { leaf });
    }
    for _ in l1_rows.len()..shape.l1_rows {
        l1_witnesses.push(L1RowWitness {
            leaf: state.open(AccountIndex::ZERO)?,
        });
    }

    let (mut rows, mut row_witnesses, mut fees) = (Vec::new(), Vec::new(), Fees::default());
    for (row, slot) in input.slots.iter().enumerate() {
        let (data, witness) = state.slot(row, slot, *timestamp)?;
        if let Slot::Transaction { signed, .. } = slot {
            fees.collect(row, signed.transaction.token, &data);
        }
        rows.push(data);
        row_witnesses.push(witness);
    }
    for row in rows.len()..shape.transaction_rows {
        row_witnesses.push(state.slot(row, &Slot::Noop, *timestamp)?.1);
    }

    let mut fee_witnesses = state.pay_fees(fee_leaves, fees)?;
    for _ in fee_witnesses.len()..shape.fee_leaves {
        fee_witnesses.push(FeeWitness {
            leaf: state.open(AccountIndex::ZERO)?,
        });
    }

    let header = Header {
        number: *number,
        timestamp: *timestamp,
        domain: *domain,
        old_root,
        new_root: Word(state.tree.root()),
        fee_leaves: fee_leaves.clone(),
    };
    let data = BatchData {
        shape: *shape,
        header,
        l1_rows,
        rows,
    };
    let witness = BatchWitness {
        data: data.clone(),
        l1_rows: l1_witnesses,
        rows: row_witnesses,
        fees: fee_witnesses,
    };
    Ok(ExecutedBatch { data, witness })
}

/// Applies a posted batch: what a follower or a restoring node does. Needs no signature, for the proof stands for them.
///
/// # Errors
/// [`ReplayError`]; the tree may then hold part of the batch's effects.
pub fn replay<T: StateTree>(data: &BatchData, tree: &mut T) -> Result<(), ReplayError<T::Error>> {
    let BatchData {
        shape,
        header,
        l1_rows,
        rows,
    } = data;
    check_capacities(shape, l1_rows.len(), rows.len(), header.fee_leaves.len())?;
    let root = Word(tree.root());
    if root != header.old_root {
        return Err(ReplayError::OldRootDiffers {
            state: root,
            posted: header.old_root,
        });
    }
    let mut state = Applier {
        tree,
        record: false,
    };
    for (row, posted) in l1_rows.iter().enumerate() {
        if state.l1_operation(row, &posted.operation())?.0 != *posted {
            return Err(ReplayError::Inconsistent {
                region: "L1 row",
                row,
            });
        }
    }
    let mut fees = Fees::default();
    for (row, posted) in rows.iter().enumerate() {
        if let Some(token) = state.posted_row(row, posted)? {
            fees.collect(row, token, posted);
        }
    }
    state.pay_fees(&header.fee_leaves, fees)?;
    let computed = Word(state.tree.root());
    if computed != header.new_root {
        return Err(ReplayError::NewRootDiffers {
            computed,
            posted: header.new_root,
        });
    }
    Ok(())
}

impl L1Row {
    /// The operation that this row serves.
    pub fn operation(&self) -> L1Operation {
        match *self {
            Self::Deposit {
                index,
                owner,
                token,
                amount,
            } => L1Operation::Deposit {
                index,
                owner,
                token,
                amount,
            },
            Self::ForcedExit {
                index,
                token,
                sender,
                key_x,
                key_y,
                ..
            } => L1Operation::ForcedExit {
                index,
                token,
                sender,
                key_x,
                key_y,
            },
        }
    }
}

fn check_capacities<E>(
    shape: &Shape,
    l1_rows: usize,
    rows: usize,
    fee_leaves: usize,
) -> Result<(), BatchError<E>> {
    for (what, got, capacity) in [
        ("L1 rows", l1_rows, shape.l1_rows),
        ("transaction rows", rows, shape.transaction_rows),
        ("fee leaves", fee_leaves, shape.fee_leaves),
    ] {
        if got > capacity {
            return Err(BatchError::TooMany {
                what,
                got,
                capacity,
            });
        }
    }
    Ok(())
}

fn check_links<E>(slots: &[Slot]) -> Result<(), BatchError<E>> {
    let core = |row: usize| match slots.get(row) {
        Some(Slot::Transaction { signed, .. }) => Some(signed.transaction.core()),
        _ => None,
    };
    for (row, slot) in slots.iter().enumerate() {
        if let Slot::Transaction { signed, .. } = slot {
            let link = signed.transaction.link.0;
            if !link.is_zero() && core(row ^ 1) != Some(link) {
                return Err(BatchError::LinkBroken { row });
            }
        }
    }
    Ok(())
}

/// Fees by token, with the first row that paid in it.
#[derive(Default)]
struct Fees(BTreeMap<TokenId, (usize, Amount)>);

impl Fees {
    fn collect(&mut self, row: usize, token: TokenId, data: &Row) {
        let fee = data
            .fee
            .value()
            .expect("the largest fee, 7·10^31, is below 2^128");
        if !fee.is_zero() {
            let (_, sum) = self.0.entry(token).or_insert((row, Amount::ZERO));
            *sum = sum
                .checked_add(fee)
                .expect("fees are parts of balances, whose total is capped at 2^127");
        }
    }
}

struct Applier<'a, T> {
    tree: &'a mut T,
    /// Whether openings carry their paths.
    record: bool,
}

impl<T: StateTree> Applier<'_, T> {
    fn open(&self, index: AccountIndex) -> Result<Opening, BatchError<T::Error>> {
        let account = self.tree.account(index).map_err(BatchError::Tree)?;
        let path = if self.record {
            self.tree.path(index).map_err(BatchError::Tree)?
        } else {
            Path { levels: vec![] }
        };
        Ok(Opening { account, path })
    }

    fn set(&mut self, index: AccountIndex, account: Account) -> Result<(), BatchError<T::Error>> {
        self.tree.set(index, account).map_err(BatchError::Tree)
    }

    fn l1_operation(
        &mut self,
        row: usize,
        operation: &L1Operation,
    ) -> Result<(L1Row, Opening), BatchError<T::Error>> {
        match *operation {
            L1Operation::Deposit {
                index,
                owner,
                token,
                amount,
            } => {
                let leaf = self.open(index)?;
                if !index.is_zero() {
                    let account = op::deposit(leaf.account.as_ref(), owner, token, amount)
                        .map_err(|reason| BatchError::L1Row { row, reason })?;
                    self.set(index, account)?;
                }
                Ok((
                    L1Row::Deposit {
                        index,
                        owner,
                        token,
                        amount,
                    },
                    leaf,
                ))
            }
            L1Operation::ForcedExit {
                index,
                token,
                sender,
                key_x,
                key_y,
            } => {
                let leaf = self.open(index)?;
                let claim = ExitClaim {
                    token,
                    sender,
                    key: (key_x, key_y),
                };
                let mut amount = Amount::ZERO;
                if let Some((account, left)) = op::forced_exit(leaf.account.as_ref(), &claim) {
                    self.set(index, account)?;
                    amount = left;
                }
                Ok((
                    L1Row::ForcedExit {
                        index,
                        token,
                        sender,
                        key_x,
                        key_y,
                        amount,
                    },
                    leaf,
                ))
            }
        }
    }

    fn slot(
        &mut self,
        row: usize,
        slot: &Slot,
        timestamp: Timestamp,
    ) -> Result<(Row, RowWitness), BatchError<T::Error>> {
        let Slot::Transaction { signed, to } = slot else {
            let leaf = self.open(AccountIndex::ZERO)?;
            return Ok((
                Row::default(),
                RowWitness {
                    signed: None,
                    from: leaf.clone(),
                    to: leaf,
                },
            ));
        };
        let rejected = |reason| BatchError::Row { row, reason };
        let transaction = &signed.transaction;
        let from = self.open(transaction.from)?;
        op::authorise(from.account.as_ref(), signed, timestamp).map_err(rejected)?;
        let payer = from.account.as_ref().expect("authorised, so it exists");
        self.set(
            transaction.from,
            op::debit(payer, transaction).map_err(rejected)?,
        )?;
        let receiver = self.open(*to)?;
        let is_withdraw = matches!(transaction.action, Action::Withdraw { .. });
        if to.is_zero() != is_withdraw {
            return Err(BatchError::Recipient { row, to: *to });
        }
        let (amount, extra) = match transaction.action {
            Action::Transfer { recipient, amount } => {
                let value = op::value_of(amount).map_err(rejected)?;
                let extra = self
                    .credit(*to, &receiver, recipient, transaction.token, value)
                    .map_err(rejected)??;
                (amount, extra)
            }
            Action::Withdraw { amount } => {
                let Transaction { token, .. } = *transaction;
                (
                    Float40::ZERO,
                    Extra::Withdrawal {
                        address: signed.l1_address,
                        token,
                        amount,
                    },
                )
            }
        };
        let data = Row {
            from: transaction.from,
            to: *to,
            amount,
            fee: transaction.fee,
            extra,
        };
        Ok((
            data,
            RowWitness {
                signed: Some(*signed),
                from,
                to: receiver,
            },
        ))
    }

    /// Credits a leaf; the extras state the owner if that creates it.
    fn credit(
        &mut self,
        to: AccountIndex,
        receiver: &Opening,
        recipient: Owner,
        token: TokenId,
        amount: Amount,
    ) -> Result<Result<Extra, BatchError<T::Error>>, Rejection> {
        let account = op::credit(receiver.account.as_ref(), recipient, token, amount)?;
        let extra = match receiver.account {
            Some(_) => Extra::None,
            None => Extra::NewAccount { owner: recipient },
        };
        Ok(self.set(to, account).map(|()| extra))
    }

    /// Applies a posted row and gives the token it moved, unless it is a Noop.
    fn posted_row(
        &mut self,
        row: usize,
        posted: &Row,
    ) -> Result<Option<TokenId>, ReplayError<T::Error>> {
        let inconsistent = ReplayError::Inconsistent { region: "row", row };
        let rejected = |reason| BatchError::Row { row, reason };
        if posted.is_noop() {
            return if *posted == Row::default() {
                Ok(None)
            } else {
                Err(inconsistent)
            };
        }
        let from = posted.from;
        let payer = self
            .open(from)?
            .account
            .ok_or(rejected(Rejection::AccountMissing { from }))?;
        let token = payer.token;
        let amount = match posted.extra {
            Extra::Withdrawal {
                token: paid,
                amount,
                ..
            } if posted.is_withdraw() => {
                if paid != token || posted.amount != Float40::ZERO {
                    return Err(inconsistent);
                }
                amount
            }
            _ if posted.is_withdraw() => return Err(inconsistent),
            _ => op::value_of(posted.amount).map_err(rejected)?,
        };
        let fee = posted
            .fee
            .value()
            .expect("the largest fee, 7·10^31, is below 2^128");
        self.set(from, op::pay(&payer, amount, fee).map_err(rejected)?)?;
        if !posted.is_withdraw() {
            let receiver = self.open(posted.to)?;
            let recipient = match (&receiver.account, posted.extra) {
                (Some(account), Extra::None) => account.owner,
                (None, Extra::NewAccount { owner }) => owner,
                _ => return Err(inconsistent),
            };
            self.credit(posted.to, &receiver, recipient, token, amount)
                .map_err(rejected)??;
        }
        Ok(Some(token))
    }

    fn pay_fees(
        &mut self,
        fee_leaves: &[AccountIndex],
        mut fees: Fees,
    ) -> Result<Vec<FeeWitness>, BatchError<T::Error>> {
        let mut tokens = std::collections::BTreeSet::new();
        let mut witnesses = Vec::new();
        for &index in fee_leaves {
            let leaf = self.open(index)?;
            if !index.is_zero() {
                let account = leaf.account.filter(|account| tokens.insert(account.token));
                let account = account.ok_or(BatchError::FeeLeaf { index })?;
                let (row, sum) = fees.0.remove(&account.token).unwrap_or_default();
                let account =
                    op::gain(&account, sum).map_err(|reason| BatchError::Row { row, reason })?;
                self.set(index, account)?;
            }
            witnesses.push(FeeWitness { leaf });
        }
        match fees.0.into_iter().next() {
            Some((token, (row, _))) => Err(BatchError::FeeWithoutLeaf { row, token }),
            None => Ok(witnesses),
        }
    }
}

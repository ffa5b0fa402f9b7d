//! Running operations on the head: the same pure rules that the circuit states, on a scratch copy that is kept only if all
//! goes well.

use super::open::Fees;
use super::{Engine, EngineError};
use crate::mempool::SubmitError;
use crate::state::Head;
use crate::store::{Store, StoreError, StoreResult};
use millrace_circuits::account::{Account, Owner};
use millrace_circuits::batch::{L1Operation, Slot};
use millrace_circuits::op::{self, ExitClaim};
use millrace_circuits::transaction::{Action, SignedTransaction};
use millrace_circuits::types::{AccountIndex, Amount, BatchNumber, Timestamp, TokenId};
use std::collections::BTreeMap;

/// Changes on top of the head, not yet part of it.
pub(super) struct Scratch<'a> {
    head: &'a Head,
    store: &'a Store,
    changed: BTreeMap<AccountIndex, (Account, bool)>,
    next_index: u64,
}

/// Changes to keep: account and whether it is new.
pub(super) type Changes = BTreeMap<AccountIndex, (Account, bool)>;

impl<'a> Scratch<'a> {
    pub fn new(head: &'a Head, store: &'a Store) -> Self {
        Self {
            head,
            store,
            changed: BTreeMap::new(),
            next_index: head.next_index,
        }
    }

    pub fn into_changes(self) -> Changes {
        self.changed
    }

    pub fn account(&self, index: AccountIndex) -> StoreResult<Option<Account>> {
        match self.changed.get(&index) {
            Some((account, _)) => Ok(Some(*account)),
            None => self.head.account(self.store, index),
        }
    }

    fn set(&mut self, index: AccountIndex, account: Account, is_new: bool) {
        let is_new = is_new || self.changed.get(&index).is_some_and(|(_, new)| *new);
        self.next_index = self.next_index.max(index.get() + 1);
        self.changed.insert(index, (account, is_new));
    }

    fn find(&self, owner: &Owner, token: TokenId) -> StoreResult<Option<AccountIndex>> {
        let here = self.changed.iter().find(|(_, (account, is_new))| {
            *is_new && account.owner == *owner && account.token == token
        });
        match here {
            Some((index, _)) => Ok(Some(*index)),
            None => self.head.find(self.store, owner, token),
        }
    }

    /// The leaf that a recipient is credited at: an existing one or the next empty one.
    fn leaf_for(&self, owner: &Owner, token: TokenId) -> StoreResult<Option<AccountIndex>> {
        match self.find(owner, token)? {
            Some(index) => Ok(Some(index)),
            None => Ok(AccountIndex::new(self.next_index).ok()),
        }
    }

    /// Runs a transaction at the operator's choice of leaf (`to`), or chooses it.
    pub fn transaction(
        &mut self,
        signed: &SignedTransaction,
        timestamp: Timestamp,
        to: Option<AccountIndex>,
    ) -> Result<AccountIndex, SubmitError> {
        let transaction = &signed.transaction;
        let payer = self.account(transaction.from).map_err(stored)?;
        op::authorise(payer.as_ref(), signed, timestamp)?;
        let payer = payer.expect("authorised, so it exists");
        self.set(transaction.from, op::debit(&payer, transaction)?, false);
        let Action::Transfer { recipient, amount } = transaction.action else {
            return Ok(AccountIndex::ZERO);
        };
        let to = match to {
            Some(to) => to,
            None => self
                .leaf_for(&recipient, transaction.token)
                .map_err(stored)?
                .ok_or(SubmitError::TreeFull)?,
        };
        let receiver = self.account(to).map_err(stored)?;
        let value = op::value_of(amount)?;
        let account = op::credit(receiver.as_ref(), recipient, transaction.token, value)?;
        self.set(to, account, receiver.is_none());
        Ok(to)
    }

    /// Runs an L1 operation whose leaf is chosen.
    pub fn l1(&mut self, operation: &L1Operation) -> StoreResult<()> {
        match *operation {
            L1Operation::Deposit { index, .. } if index.is_zero() => {}
            L1Operation::Deposit {
                index,
                owner,
                token,
                amount,
            } => {
                let found = self.account(index)?;
                let account = op::deposit(found.as_ref(), owner, token, amount)
                    .expect("a deposit's leaf was chosen to take it");
                self.set(index, account, found.is_none());
            }
            L1Operation::ForcedExit {
                index,
                token,
                sender,
                key_x,
                key_y,
            } => {
                let claim = ExitClaim {
                    token,
                    sender,
                    key: (key_x, key_y),
                };
                let found = self.account(index)?;
                if let Some((account, _)) = op::forced_exit(found.as_ref(), &claim) {
                    self.set(index, account, false);
                }
            }
        }
        Ok(())
    }

    /// The leaf for a deposit: 0 refuses it, where no leaf is left or the balance would overflow.
    pub fn deposit_leaf(
        &self,
        owner: &Owner,
        token: TokenId,
        amount: Amount,
    ) -> StoreResult<AccountIndex> {
        let Some(index) = self.leaf_for(owner, token)? else {
            return Ok(AccountIndex::ZERO);
        };
        let found = self.account(index)?;
        let takes = op::deposit(found.as_ref(), *owner, token, amount).is_ok();
        Ok(if takes { index } else { AccountIndex::ZERO })
    }
}

fn stored(error: StoreError) -> SubmitError {
    SubmitError::Storage(error.to_string())
}

impl Engine {
    pub(super) fn keep(&mut self, changes: Changes) {
        for (index, (account, is_new)) in changes {
            self.head.set(index, account, self.open.number, is_new);
        }
    }

    /// The fees of a closed batch reach their leaves.
    pub(super) fn credit_fees(
        &mut self,
        fees: &Fees,
        batch: BatchNumber,
    ) -> Result<(), EngineError> {
        for (leaf, sum) in fees.values() {
            let account = self
                .head
                .account(&self.store, *leaf)?
                .ok_or_else(|| EngineError::Missing(format!("fee leaf {leaf}")))?;
            let inconsistent = |rule: op::Rejection| EngineError::Inconsistent {
                batch,
                reason: rule.to_string(),
            };
            let account = op::gain(&account, *sum).map_err(inconsistent)?;
            self.head.set(*leaf, account, batch, false);
        }
        Ok(())
    }

    /// Runs a planned or open batch on the head again, after a restart. Its fees go to the leaves that were chosen when they were
    /// taken: since then the configuration may name another owner.
    pub(super) fn rerun(
        &mut self,
        batch: BatchNumber,
        timestamp: Timestamp,
        l1_operations: &[L1Operation],
        slots: &[Slot],
        fee_leaves: &[AccountIndex],
    ) -> Result<Fees, EngineError> {
        let mut scratch = Scratch::new(&self.head, &self.store);
        for operation in l1_operations {
            scratch.l1(operation)?;
        }
        for slot in slots {
            if let Slot::Transaction { signed, to } = slot {
                let to = (!to.is_zero()).then_some(*to);
                scratch.transaction(signed, timestamp, to).map_err(|rule| {
                    EngineError::Inconsistent {
                        batch,
                        reason: rule.to_string(),
                    }
                })?;
            }
        }
        for (index, (account, is_new)) in scratch.into_changes() {
            self.head.set(index, account, batch, is_new);
        }
        let mut fees = Fees::new();
        for leaf in fee_leaves {
            let account = self.head.account(&self.store, *leaf)?;
            let account =
                account.ok_or_else(|| EngineError::Missing(format!("fee leaf {leaf}")))?;
            fees.insert(account.token, (*leaf, Amount(0)));
        }
        for slot in slots {
            if let Slot::Transaction { signed, .. } = slot {
                let token = signed.transaction.token;
                self.add_fee(&mut fees, signed)?.ok_or_else(|| {
                    EngineError::Missing(format!("the fee leaf of token {token}"))
                })?;
            }
        }
        Ok(fees)
    }

    /// The leaf that gathers fees of a token, if there is one.
    pub(super) fn fee_leaf(&self, token: TokenId) -> StoreResult<Option<AccountIndex>> {
        match &self.config.fees.owner {
            Some(owner) => self.head.find(&self.store, owner, token),
            None => Ok(None),
        }
    }

    /// Adds a transaction's fee to the sums of its batch. None if no leaf gathers it.
    pub(super) fn add_fee(
        &self,
        fees: &mut Fees,
        signed: &SignedTransaction,
    ) -> StoreResult<Option<()>> {
        let token = signed.transaction.token;
        let fee = signed
            .transaction
            .fee
            .value()
            .expect("the largest fee is below 2^128");
        if fee.is_zero() {
            return Ok(Some(()));
        }
        if let Some((_, sum)) = fees.get_mut(&token) {
            *sum = sum
                .checked_add(fee)
                .expect("fees are parts of balances, whose total is capped");
            return Ok(Some(()));
        }
        let leaf = self.fee_leaf(token)?;
        Ok(leaf.map(|leaf| {
            fees.insert(token, (leaf, fee));
        }))
    }
}

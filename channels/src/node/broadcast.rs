//! Gets transactions into the chain: each purpose once at a time, over the sender that bumps fees and survives restarts.
//!
//! ```text
//! Transaction → call → id = keccak of the call → sender → landed · reverted: next id · L1 silent: same id again
//! ```
//! The machine asks again every minute until L1's state shows what it wanted, so nothing here has to remember more than the
//! sender's own store does: the same call under the same id goes on instead of being sent twice.

use super::convert::{Author, to_call};
use crate::digest::Domain;
use crate::machine::effect::Transaction;
use crate::signing::HotKey;
use crate::types::{Address, Timestamp};
use alloy::primitives::keccak256;
use millrace_l1::channels_client::{ChannelsClient, Refusal};
use millrace_l1::sender::{Call, SendError, TransactionSender};
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use tokio::runtime::Handle;

/// What became of a broadcast, for people.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Outcome {
    /// What it was: `submit`, `settle`, `reveal`, `cooperate`.
    pub what: &'static str,
    /// The transaction's hash and gas, or why there is none.
    pub result: Result<([u8; 32], u64), String>,
}

/// Sends what machine or tower ask for.
#[derive(Clone)]
pub struct Broadcaster {
    client: ChannelsClient,
    sender: TransactionSender,
    keys: Arc<HotKey>,
    domain: Domain,
    signer: Option<Address>,
    /// Purposes that are under way or have reverted, and how often.
    state: Arc<Mutex<BTreeMap<String, Purpose>>>,
    background: Handle,
}

#[derive(Debug, Default, Clone, Copy)]
struct Purpose {
    under_way: bool,
    reverts: u32,
}

impl Broadcaster {
    /// A broadcaster; `signer` is the party's signer, none for a tower.
    pub fn new(
        client: ChannelsClient,
        sender: TransactionSender,
        keys: Arc<HotKey>,
        domain: Domain,
        signer: Option<Address>,
    ) -> Self {
        Self {
            client,
            sender,
            keys,
            domain,
            signer,
            state: Arc::default(),
            background: Handle::current(),
        }
    }

    /// Where calls of L1 run: not on the machine's thread.
    pub fn background(&self) -> &Handle {
        &self.background
    }

    /// The account that sends.
    pub fn sender(&self) -> &TransactionSender {
        &self.sender
    }

    /// The contract.
    pub fn client(&self) -> &ChannelsClient {
        &self.client
    }

    /// Starts to get a transaction into the chain, unless the same is under way. `told` hears what became of it.
    pub fn broadcast(
        &self,
        transaction: &Transaction,
        now: Timestamp,
        told: impl FnOnce(Outcome) + Send + 'static,
    ) {
        let what = name(transaction);
        let author = Author {
            domain: self.domain,
            keys: &*self.keys,
            signer: self.signer,
            sender: super::convert::from_l1(self.sender.address()),
            now,
        };
        let call = match to_call(&self.client, &author, transaction) {
            Ok(call) => call,
            Err(error) => {
                tracing::error!(what, %error, "a transaction cannot be written");
                return;
            }
        };
        let purpose = format!("{what}-{}", keccak256(&call.input));
        let Some(reverts) = self.begin(&purpose) else {
            return;
        };
        let this = self.clone();
        self.background.spawn(async move {
            let result = this.land(&purpose, reverts, call).await;
            if let Err(reason) = &result {
                tracing::warn!(what, reason, "an L1 transaction has not landed");
            }
            told(Outcome { what, result });
        });
    }

    fn begin(&self, purpose: &str) -> Option<u32> {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let known = state.entry(purpose.to_owned()).or_default();
        (!std::mem::replace(&mut known.under_way, true)).then_some(known.reverts)
    }

    fn end(&self, purpose: &str, reverts: u32) {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        if reverts == 0 {
            state.remove(purpose);
        } else if let Some(known) = state.get_mut(purpose) {
            *known = Purpose {
                under_way: false,
                reverts,
            };
        }
    }

    async fn land(
        &self,
        purpose: &str,
        mut reverts: u32,
        call: Call,
    ) -> Result<([u8; 32], u64), String> {
        loop {
            let id = format!("{purpose}-{reverts}");
            match self.sender.send(&id, call.clone()).await {
                Ok(receipt) => {
                    self.end(purpose, reverts);
                    return Ok((receipt.transaction_hash.0, receipt.gas_used));
                }
                // A revert of an earlier wish says nothing about this one: L1 has moved on.
                Err(SendError::Reverted { .. }) if reverts == 0 => reverts += 1,
                Err(error) => {
                    let spent = matches!(error, SendError::Reverted { .. });
                    self.end(purpose, reverts + u32::from(spent));
                    return Err(explain(&error));
                }
            }
        }
    }
}

/// The contract's rule, where it was the contract that refused.
pub fn explain(error: &SendError) -> String {
    match error.revert_data().and_then(Refusal::decode) {
        Some(refusal) => refusal.to_string(),
        None => error.to_string(),
    }
}

fn name(transaction: &Transaction) -> &'static str {
    match transaction {
        Transaction::Cooperate { .. } => "cooperate",
        Transaction::Submit { .. } => "submit",
        Transaction::Settle { .. } => "settle",
        Transaction::Reveal { .. } => "reveal",
    }
}

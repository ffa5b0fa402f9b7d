//! The rollup contract in the words of the protocol: one method per function, through the transaction sender.
//!
//! ```text
//! method(sender, id, …) → call → sender (estimate, land) → receipt → Landed { value, receipt }
//!                                  └ revert data → refusal: which rule, and what to do
//! ```
//!
//! Methods that send take an id: the same id never sends twice (see `sender`). Views read the newest block.

mod events;
mod refusal;

pub use events::{RollupEvents, decode_event};
pub use refusal::{Refusal, RefusalKind};

use crate::{
    bindings::{Erc20, IRollup, Rollup},
    provider::{L1Provider, explain},
    sender::{Call, SendError, TransactionSender},
};
use alloy::{
    contract::Error as CallError,
    eips::BlockId,
    primitives::{Address, B256, Bytes, U256},
    providers::DynProvider,
    rpc::types::TransactionReceipt,
    sol_types::{SolCall, SolConstructor, SolEvent},
};
use thiserror::Error;

/// The token number of ETH.
pub const ETH: u32 = 0;

/// Why the rollup contract did not do what was asked.
#[derive(Debug, Error)]
pub enum RollupError {
    /// The contract refused by one of its rules.
    #[error(transparent)]
    Refused(#[from] Refusal),
    /// The transaction did not land.
    #[error(transparent)]
    Send(SendError),
    /// A view could not be read.
    #[error("reading {what} from the rollup at {address}: {cause}")]
    Read {
        /// The view.
        what: &'static str,
        /// The contract.
        address: Address,
        /// What the node says.
        cause: String,
    },
    /// The transaction landed without the event that says what it did: something else is at this address.
    #[error("{event} is missing from the receipt of {transaction}: is {address} the rollup?")]
    EventMissing {
        /// The event.
        event: &'static str,
        /// The transaction.
        transaction: B256,
        /// The contract.
        address: Address,
    },
    /// There is no contract at the address.
    #[error("there is no contract at {0}: check the rollup's address and the chain")]
    NoContract(Address),
}

impl From<SendError> for RollupError {
    fn from(error: SendError) -> Self {
        match error.revert_data().and_then(Refusal::decode) {
            Some(refusal) => Self::Refused(refusal),
            None => Self::Send(error),
        }
    }
}

impl RollupError {
    /// The contract's refusal, if that is what it was.
    pub fn refusal(&self) -> Option<&Refusal> {
        match self {
            Self::Refused(refusal) => Some(refusal),
            _ => None,
        }
    }
}

/// What a landed transaction did, with its receipt.
#[derive(Clone, Debug)]
pub struct Landed<T> {
    /// What it did.
    pub value: T,
    /// Its receipt.
    pub receipt: TransactionReceipt,
}

/// The rollup contract at an address.
#[derive(Clone, Debug)]
pub struct RollupClient {
    address: Address,
    contract: Rollup::RollupInstance<DynProvider>,
}

/// Reads a view: the contract's answer, or an error that names it.
macro_rules! view {
    ($client:expr, $name:ident ( $($argument:expr),* )) => {
        $client.contract.$name($($argument),*).call().await.map_err(|error| $client.unreadable(stringify!($name), error))
    };
}

impl RollupClient {
    /// The contract at `address`, unchecked.
    pub fn new(l1: &L1Provider, address: Address) -> Self {
        Self {
            address,
            contract: Rollup::new(address, l1.provider().clone()),
        }
    }

    /// The contract at `address`, which answers as a rollup does on this chain.
    pub async fn connect(l1: &L1Provider, address: Address) -> Result<Self, RollupError> {
        let client = Self::new(l1, address);
        client.domain().await?;
        Ok(client)
    }

    /// Deploys a rollup.
    pub async fn deploy(
        sender: &TransactionSender,
        id: &str,
        config: IRollup::Config,
    ) -> Result<Landed<Self>, RollupError> {
        let receipt = sender
            .send(id, Call::create(deployment_code(config)))
            .await?;
        let missing = RollupError::NoContract(Address::ZERO);
        let address = receipt.contract_address.ok_or(missing)?;
        Ok(Landed {
            value: Self::new(sender.l1(), address),
            receipt,
        })
    }

    /// The contract's address.
    pub fn address(&self) -> Address {
        self.address
    }

    /// alloy's instance, for what has no method here.
    pub fn contract(&self) -> &Rollup::RollupInstance<DynProvider> {
        &self.contract
    }

    fn unreadable(&self, what: &'static str, error: CallError) -> RollupError {
        if let Some(refusal) = error
            .as_revert_data()
            .and_then(|data| Refusal::decode(&data))
        {
            return RollupError::Refused(refusal);
        }
        match error {
            CallError::ZeroData(..) => RollupError::NoContract(self.address),
            CallError::TransportError(error) => RollupError::Read {
                what,
                address: self.address,
                cause: explain(&error),
            },
            other => RollupError::Read {
                what,
                address: self.address,
                cause: other.to_string(),
            },
        }
    }

    async fn land(
        &self,
        sender: &TransactionSender,
        id: &str,
        value: U256,
        call: impl SolCall,
    ) -> Result<TransactionReceipt, RollupError> {
        Ok(sender.send(id, self.call(value, call)).await?)
    }

    /// Any call of the contract, for the sender.
    pub fn call(&self, value: U256, call: impl SolCall) -> Call {
        Call::new(self.address, value, call.abi_encode())
    }

    /// The first event of a kind in a receipt.
    fn event<E: SolEvent>(&self, receipt: &TransactionReceipt) -> Result<E, RollupError> {
        let mut logs = receipt
            .logs()
            .iter()
            .filter(|log| log.address() == self.address);
        let found = logs.find_map(|log| E::decode_log(&log.inner).ok());
        found.map(|log| log.data).ok_or(RollupError::EventMissing {
            event: E::SIGNATURE,
            transaction: receipt.transaction_hash,
            address: self.address,
        })
    }

    // ------------------------------------------------------------------------------------------------ in

    /// Gives an ERC-20 its number.
    pub async fn register_token(
        &self,
        sender: &TransactionSender,
        id: &str,
        token: Address,
    ) -> Result<Landed<u32>, RollupError> {
        let receipt = self
            .land(sender, id, U256::ZERO, Rollup::registerTokenCall { token })
            .await?;
        Ok(Landed {
            value: self.event::<Rollup::TokenRegistered>(&receipt)?.number,
            receipt,
        })
    }

    /// Deposits ETH or an approved ERC-20 for `owner`, with the request fee at its price now and half as much again in
    /// case it rises: what is too much comes back.
    pub async fn deposit(
        &self,
        sender: &TransactionSender,
        id: &str,
        token: u32,
        amount: u128,
        owner: U256,
    ) -> Result<Landed<Rollup::RequestQueued>, RollupError> {
        let eth = if token == ETH {
            U256::from(amount)
        } else {
            U256::ZERO
        };
        let value = eth.saturating_add(self.fee_with_margin().await?);
        let receipt = self
            .land(
                sender,
                id,
                value,
                Rollup::depositCall {
                    token,
                    amount,
                    owner,
                },
            )
            .await?;
        Ok(Landed {
            value: self.event(&receipt)?,
            receipt,
        })
    }

    /// Asks for the whole balance of leaf `index` to be paid to the sender.
    pub async fn request_exit(
        &self,
        sender: &TransactionSender,
        id: &str,
        index: u32,
        token: u32,
        ax: U256,
        ay: U256,
    ) -> Result<Landed<Rollup::RequestQueued>, RollupError> {
        let value = self.fee_with_margin().await?;
        let index = index_word(index)?;
        let receipt = self
            .land(
                sender,
                id,
                value,
                Rollup::requestExitCall {
                    index,
                    token,
                    ax,
                    ay,
                },
            )
            .await?;
        Ok(Landed {
            value: self.event(&receipt)?,
            receipt,
        })
    }

    /// Lets the rollup take an ERC-20 from the sender.
    pub async fn approve(
        &self,
        sender: &TransactionSender,
        id: &str,
        token: Address,
        amount: U256,
    ) -> Result<TransactionReceipt, RollupError> {
        let call = Erc20::approveCall {
            spender: self.address,
            amount,
        };
        Ok(sender
            .send(id, Call::new(token, U256::ZERO, call.abi_encode()))
            .await?)
    }

    async fn fee_with_margin(&self) -> Result<U256, RollupError> {
        let fee = self.request_fee().await?;
        Ok(fee.saturating_add(fee / U256::from(2)))
    }

    // ------------------------------------------------------------------------------------------------ batches

    /// Commits a batch. The operator only.
    pub async fn commit_batch(
        &self,
        sender: &TransactionSender,
        id: &str,
        number: u64,
        batch: IRollup::Batch,
    ) -> Result<TransactionReceipt, RollupError> {
        self.land(
            sender,
            id,
            U256::ZERO,
            Rollup::commitBatchCall { number, batch },
        )
        .await
    }

    /// Proves committed batches of one circuit, from the first unproven one.
    pub async fn prove_batches(
        &self,
        sender: &TransactionSender,
        id: &str,
        batches: Vec<IRollup::StoredBatch>,
        proofs: Vec<IRollup::Proof>,
    ) -> Result<TransactionReceipt, RollupError> {
        self.land(
            sender,
            id,
            U256::ZERO,
            Rollup::proveBatchesCall { batches, proofs },
        )
        .await
    }

    /// Commits and proves one batch.
    pub async fn commit_and_prove(
        &self,
        sender: &TransactionSender,
        id: &str,
        number: u64,
        batch: IRollup::Batch,
        proof: IRollup::Proof,
    ) -> Result<TransactionReceipt, RollupError> {
        self.land(
            sender,
            id,
            U256::ZERO,
            Rollup::commitAndProveCall {
                number,
                batch,
                proof,
            },
        )
        .await
    }

    /// Drops all unproven batches once the first one's proof is overdue.
    pub async fn revert_batches(
        &self,
        sender: &TransactionSender,
        id: &str,
        first: IRollup::StoredBatch,
    ) -> Result<TransactionReceipt, RollupError> {
        self.land(sender, id, U256::ZERO, Rollup::revertBatchesCall { first })
            .await
    }

    // ------------------------------------------------------------------------------------------------ out

    /// Pays payouts of one chunk of a proven batch.
    #[expect(
        clippy::too_many_arguments,
        reason = "the contract's five, in its order"
    )]
    pub async fn pay_withdrawals(
        &self,
        sender: &TransactionSender,
        id: &str,
        batch: u64,
        chunk_hashes: Vec<B256>,
        chunk: U256,
        records: Bytes,
        mask: U256,
    ) -> Result<TransactionReceipt, RollupError> {
        let call = Rollup::payWithdrawalsCall {
            batch,
            chunkHashes: chunk_hashes,
            chunk,
            records,
            mask,
        };
        self.land(sender, id, U256::ZERO, call).await
    }

    /// Pays all that `account` can claim, to `account`.
    pub async fn claim(
        &self,
        sender: &TransactionSender,
        id: &str,
        token: u32,
        account: Address,
    ) -> Result<Landed<U256>, RollupError> {
        let receipt = self
            .land(sender, id, U256::ZERO, Rollup::claimCall { token, account })
            .await?;
        Ok(Landed {
            value: self.event::<Rollup::Claimed>(&receipt)?.amount,
            receipt,
        })
    }

    /// Pays part of what the sender can claim to another receiver.
    pub async fn claim_to(
        &self,
        sender: &TransactionSender,
        id: &str,
        token: u32,
        receiver: Address,
        amount: U256,
    ) -> Result<TransactionReceipt, RollupError> {
        self.land(
            sender,
            id,
            U256::ZERO,
            Rollup::claimToCall {
                token,
                receiver,
                amount,
            },
        )
        .await
    }

    // ------------------------------------------------------------------------------------------------ escape

    /// Freezes the rollup for good: `oldest` is past its deadline.
    pub async fn enter_escape(
        &self,
        sender: &TransactionSender,
        id: &str,
        oldest: IRollup::Request,
    ) -> Result<TransactionReceipt, RollupError> {
        self.land(sender, id, U256::ZERO, Rollup::enterEscapeCall { oldest })
            .await
    }

    /// Pays a leaf of the last proven state to its L1 address.
    pub async fn escape_exit(
        &self,
        sender: &TransactionSender,
        id: &str,
        leaf: IRollup::Leaf,
    ) -> Result<Landed<Rollup::EscapeExited>, RollupError> {
        let receipt = self
            .land(sender, id, U256::ZERO, Rollup::escapeExitCall { leaf })
            .await?;
        Ok(Landed {
            value: self.event(&receipt)?,
            receipt,
        })
    }

    /// Gives an unproven deposit back.
    pub async fn cancel_deposit(
        &self,
        sender: &TransactionSender,
        id: &str,
        request_id: u64,
        request: IRollup::Request,
    ) -> Result<TransactionReceipt, RollupError> {
        self.land(
            sender,
            id,
            U256::ZERO,
            Rollup::cancelDepositCall {
                id: request_id,
                request,
            },
        )
        .await
    }

    // ------------------------------------------------------------------------------------------------ views

    /// Where the rollup stands.
    pub async fn status(&self) -> Result<IRollup::Status, RollupError> {
        view!(self, status())
    }

    /// What a request costs now, in wei.
    pub async fn request_fee(&self) -> Result<U256, RollupError> {
        view!(self, requestFee())
    }

    /// Whether anyone may commit and prove.
    pub async fn is_open_phase(&self) -> Result<bool, RollupError> {
        view!(self, isOpenPhase())
    }

    /// Hash of a queued request, zero if there is none.
    pub async fn request_hash(&self, id: u64) -> Result<B256, RollupError> {
        view!(self, requestHash(id))
    }

    /// Block time of a request, 0 if there is none.
    pub async fn request_created(&self, id: u64) -> Result<u64, RollupError> {
        view!(self, requestCreated(id))
    }

    /// Hash of a batch that waits for its proof, else zero.
    pub async fn batch_hash(&self, number: u64) -> Result<B256, RollupError> {
        view!(self, batchHash(number))
    }

    /// Hash of what a proven batch pays, zero if nothing.
    pub async fn payouts_hash(&self, number: u64) -> Result<B256, RollupError> {
        view!(self, payoutsHash(number))
    }

    /// Bit i: payout i of the chunk is paid.
    pub async fn paid_mask(&self, batch: u64, chunk: U256) -> Result<u32, RollupError> {
        view!(self, paidMask(batch, chunk))
    }

    /// As [`Self::paid_mask`], at a block.
    pub async fn paid_mask_at(
        &self,
        batch: u64,
        chunk: U256,
        block: BlockId,
    ) -> Result<u32, RollupError> {
        let view = self.contract.paidMask(batch, chunk).block(block);
        let mask = view.call().await;
        mask.map_err(|error| self.unreadable("paidMask", error))
    }

    /// What `claim` would pay.
    pub async fn claimable(&self, token: u32, account: Address) -> Result<U256, RollupError> {
        view!(self, claimable(token, account))
    }

    /// What the rollup owes of a token.
    pub async fn outstanding(&self, token: u32) -> Result<U256, RollupError> {
        view!(self, outstanding(token))
    }

    /// Number of registered ERC-20s.
    pub async fn token_count(&self) -> Result<u32, RollupError> {
        view!(self, tokenCount())
    }

    /// Number of an ERC-20, 0 if it is not registered.
    pub async fn token_number(&self, token: Address) -> Result<u32, RollupError> {
        view!(self, tokenNumber(token))
    }

    /// Address of an ERC-20, zero if the number is not taken.
    pub async fn token_address(&self, number: u32) -> Result<Address, RollupError> {
        view!(self, tokenAddress(number))
    }

    /// Whether `escape_exit` has paid a leaf.
    pub async fn has_exited(&self, index: u32) -> Result<bool, RollupError> {
        let index = index_word(index)?;
        view!(self, hasExited(index))
    }

    /// Capacities and key contract of a circuit.
    pub async fn circuit(&self, id: u16) -> Result<Rollup::circuitReturn, RollupError> {
        view!(self, circuit(id))
    }

    /// The word that ties signatures and proofs to this deployment.
    pub async fn domain(&self) -> Result<U256, RollupError> {
        view!(self, domain())
    }

    /// Who may commit outside the open phase.
    pub async fn operator(&self) -> Result<Address, RollupError> {
        view!(self, operator())
    }

    /// Hash of the ceremony's transcript.
    pub async fn ceremony(&self) -> Result<B256, RollupError> {
        view!(self, ceremony())
    }
}

/// The rollup's creation code with its constructor's argument.
pub fn deployment_code(config: IRollup::Config) -> Bytes {
    [
        Rollup::BYTECODE.as_ref(),
        &Rollup::constructorCall { config }.abi_encode(),
    ]
    .concat()
    .into()
}

/// A leaf index as the contract takes it.
fn index_word(index: u32) -> Result<alloy::primitives::Uint<24, 1>, Refusal> {
    let word = alloy::primitives::Uint::<24, 1>::checked_from_limbs_slice(&[index.into()]);
    word.ok_or_else(|| {
        Refusal::from(Rollup::IndexOutOfRange {
            index: U256::from(index),
        })
    })
}

//! The channels' contract in the words of the protocol: one method per function, through the transaction sender.
//!
//! ```text
//! method(sender, id, …) → call → sender (estimate, land) → receipt → Landed { value, receipt }
//!                                  └ revert data → refusal: which rule, and what to do
//! history: logs → channels of a signer, what settle needs
//! ```
//!
//! Methods that send take an id: the same id never sends twice (see `sender`). Views read the newest block; what a node
//! relies on it reads from final blocks (`events`). Who sends a transaction as a channel's signer needs no signature of
//! its own: an empty one will do.

mod events;
mod history;
mod refusal;
mod types;

pub use events::{ChannelsEvents, decode_event, params_of};
pub use history::{Settlement, opened_by};
pub use refusal::{Refusal, RefusalKind};
pub use types::{
    ChannelPhase, ChannelState, CloseConsent, DisputeState, HalfState, PayoutTerms, Submission,
    TooWide,
};

use crate::{
    bindings::{
        Channels, Erc20,
        IChannels::{self, Params},
    },
    events::EventError,
    provider::{L1Provider, explain},
    rollup_client::Landed,
    sender::{Call, SendError, TransactionSender},
};
use alloy::{
    contract::Error as CallError,
    eips::BlockId,
    primitives::{Address, B256, Bytes, U256},
    providers::DynProvider,
    rpc::types::TransactionReceipt,
    sol_types::{SolCall, SolEvent},
    transports::TransportError,
};
use thiserror::Error;

/// The token address of ETH.
pub const ETH: Address = Address::ZERO;

/// Why the contract did not do what was asked.
#[derive(Debug, Error)]
pub enum ChannelsError {
    /// The contract refused by one of its rules.
    #[error(transparent)]
    Refused(#[from] Refusal),
    /// The transaction did not land.
    #[error(transparent)]
    Send(SendError),
    /// A view could not be read.
    #[error("reading {what} from the channels' contract at {address}: {cause}")]
    Read {
        /// The view.
        what: &'static str,
        /// The contract.
        address: Address,
        /// What the node says.
        cause: String,
    },
    /// The logs could not be read.
    #[error(transparent)]
    Logs(#[from] EventError),
    /// The transaction landed without the event that says what it did: something else is at this address.
    #[error(
        "{event} is missing from the receipt of {transaction}: is {address} the channels' contract?"
    )]
    EventMissing {
        /// The event.
        event: &'static str,
        /// The transaction.
        transaction: B256,
        /// The contract.
        address: Address,
    },
    /// There is no contract at the address.
    #[error("there is no contract at {0}: check the channels' address and the chain")]
    NoContract(Address),
    /// A number is wider than the contract's type.
    #[error(transparent)]
    TooWide(#[from] TooWide),
    /// The logs looked at do not show the channel, or a list of its dispute.
    #[error(
        "channel {id}: {what} is not in the logs from block {from_block} on: look from an earlier block"
    )]
    NotInLogs {
        /// The channel.
        id: B256,
        /// What is missing.
        what: &'static str,
        /// Where the search began.
        from_block: u64,
    },
}

impl From<SendError> for ChannelsError {
    fn from(error: SendError) -> Self {
        match error.revert_data().and_then(Refusal::decode) {
            Some(refusal) => Self::Refused(refusal),
            None => Self::Send(error),
        }
    }
}

impl ChannelsError {
    /// The contract's refusal, if that is what it was.
    pub fn refusal(&self) -> Option<&Refusal> {
        match self {
            Self::Refused(refusal) => Some(refusal),
            _ => None,
        }
    }
}

/// The channels' contract at an address.
#[derive(Clone, Debug)]
pub struct ChannelsClient {
    address: Address,
    contract: Channels::ChannelsInstance<DynProvider>,
}

/// Reads a view: the contract's answer, or an error that names it.
macro_rules! view {
    ($client:expr, $name:ident ( $($argument:expr),* )) => {
        $client.contract.$name($($argument),*).call().await.map_err(|error| $client.unreadable(stringify!($name), error))
    };
}

impl ChannelsClient {
    /// The contract at `address`, unchecked.
    pub fn new(l1: &L1Provider, address: Address) -> Self {
        Self {
            address,
            contract: Channels::new(address, l1.provider().clone()),
        }
    }

    /// The contract at `address`, which answers as the channels' contract does on this chain.
    ///
    /// # Errors
    /// [`ChannelsError::NoContract`] and [`ChannelsError::Read`].
    pub async fn connect(l1: &L1Provider, address: Address) -> Result<Self, ChannelsError> {
        let client = Self::new(l1, address);
        client.domain_separator().await?;
        Ok(client)
    }

    /// Deploys the contract: once for all channels and tokens of a chain.
    ///
    /// # Errors
    /// What sending a transaction can fail by.
    pub async fn deploy(
        sender: &TransactionSender,
        id: &str,
    ) -> Result<Landed<Self>, ChannelsError> {
        let receipt = sender.send(id, Call::create(deployment_code())).await?;
        let missing = ChannelsError::NoContract(Address::ZERO);
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
    pub fn contract(&self) -> &Channels::ChannelsInstance<DynProvider> {
        &self.contract
    }

    fn unreadable(&self, what: &'static str, error: CallError) -> ChannelsError {
        if let Some(refusal) = error
            .as_revert_data()
            .and_then(|data| Refusal::decode(&data))
        {
            return ChannelsError::Refused(refusal);
        }
        match error {
            CallError::ZeroData(..) => ChannelsError::NoContract(self.address),
            CallError::TransportError(error) => self.unread(what, &error),
            other => ChannelsError::Read {
                what,
                address: self.address,
                cause: other.to_string(),
            },
        }
    }

    fn unread(&self, what: &'static str, error: &TransportError) -> ChannelsError {
        ChannelsError::Read {
            what,
            address: self.address,
            cause: explain(error),
        }
    }

    async fn land(
        &self,
        sender: &TransactionSender,
        id: &str,
        value: U256,
        call: impl SolCall,
    ) -> Result<TransactionReceipt, ChannelsError> {
        Ok(sender.send(id, self.call(value, call)).await?)
    }

    /// Any call of the contract, for the sender.
    pub fn call(&self, value: U256, call: impl SolCall) -> Call {
        Call::new(self.address, value, call.abi_encode())
    }

    /// The events of a kind in a receipt, in order.
    fn events<'a, E: SolEvent + 'a>(
        &'a self,
        receipt: &'a TransactionReceipt,
    ) -> impl Iterator<Item = E> + 'a {
        let logs = receipt.logs().iter();
        logs.filter(|log| log.address() == self.address)
            .filter_map(|log| E::decode_log(&log.inner).ok())
            .map(|log| log.data)
    }

    /// What a landed transaction did, by its event.
    fn landed<E: SolEvent>(&self, receipt: TransactionReceipt) -> Result<Landed<E>, ChannelsError> {
        let found = self.events::<E>(&receipt).next();
        let value = found.ok_or(ChannelsError::EventMissing {
            event: E::SIGNATURE,
            transaction: receipt.transaction_hash,
            address: self.address,
        })?;
        Ok(Landed { value, receipt })
    }

    // ------------------------------------------------------------------------------------------------ money in

    /// Pays `amount` into one side of a channel and opens it if it is new. Of an ERC-20, first allows what the contract's
    /// allowance lacks, under ids of their own that begin with `id`.
    ///
    /// # Errors
    /// The contract's refusals, among them kind [`RefusalKind::Phase`] once the channel is closing.
    pub async fn deposit(
        &self,
        sender: &TransactionSender,
        id: &str,
        params: &Params,
        side_b: bool,
        amount: U256,
    ) -> Result<Landed<Channels::Deposited>, ChannelsError> {
        let value = if params.token == ETH {
            amount
        } else {
            self.allow(sender, id, params.token, amount).await?;
            U256::ZERO
        };
        let call = Channels::depositCall {
            params: params.clone(),
            sideB: side_b,
            amount,
        };
        self.landed(self.land(sender, id, value, call).await?)
    }

    /// Lets the contract take `amount` of an ERC-20 from the sender. Some tokens change an allowance only from or to zero.
    async fn allow(
        &self,
        sender: &TransactionSender,
        id: &str,
        token: Address,
        amount: U256,
    ) -> Result<(), ChannelsError> {
        let erc20 = Erc20::new(token, sender.l1().provider().clone());
        let allowed = erc20.allowance(sender.address(), self.address).call().await;
        let allowed = allowed.map_err(|error| ChannelsError::Read {
            what: "allowance",
            address: token,
            cause: error.to_string(),
        })?;
        if allowed >= amount {
            return Ok(());
        }
        if !allowed.is_zero() {
            let id = format!("{id}/allow-nothing");
            self.approve(sender, &id, token, U256::ZERO).await?;
        }
        let id = format!("{id}/allow");
        self.approve(sender, &id, token, amount).await?;
        Ok(())
    }

    /// Sets the contract's allowance of an ERC-20.
    ///
    /// # Errors
    /// What sending a transaction can fail by.
    pub async fn approve(
        &self,
        sender: &TransactionSender,
        id: &str,
        token: Address,
        amount: U256,
    ) -> Result<TransactionReceipt, ChannelsError> {
        let call = Erc20::approveCall {
            spender: self.address,
            amount,
        };
        Ok(sender
            .send(id, Call::new(token, U256::ZERO, call.abi_encode()))
            .await?)
    }

    // ------------------------------------------------------------------------------------------------ money out

    /// Pays out what both sides agreed on; closes the channel if that empties it.
    ///
    /// # Errors
    /// The contract's refusals; [`ChannelsError::TooWide`].
    pub async fn cooperate(
        &self,
        sender: &TransactionSender,
        id: &str,
        params: &Params,
        payout: &PayoutTerms,
    ) -> Result<Landed<Channels::Cooperated>, ChannelsError> {
        let call = payout.call(params)?;
        self.landed(self.land(sender, id, U256::ZERO, call).await?)
    }

    /// Closes a channel by its newest halves, or adds newer ones to its dispute. Give both lists always: which of them
    /// counts is known only when the transaction is mined.
    ///
    /// # Errors
    /// The contract's refusals; [`ChannelsError::TooWide`].
    pub async fn submit(
        &self,
        sender: &TransactionSender,
        id: &str,
        params: &Params,
        submission: &Submission,
    ) -> Result<Landed<Channels::Submitted>, ChannelsError> {
        let call = submission.call(params)?;
        self.landed(self.land(sender, id, U256::ZERO, call).await?)
    }

    /// Pays a closing channel out, from its deadline on, and closes it for good.
    ///
    /// # Errors
    /// The contract's refusals, among them kind [`RefusalKind::TooEarly`].
    pub async fn settle(
        &self,
        sender: &TransactionSender,
        id: &str,
        settlement: &Settlement,
    ) -> Result<Landed<Channels::Settled>, ChannelsError> {
        let call = settlement.call();
        self.landed(self.land(sender, id, U256::ZERO, call).await?)
    }

    /// Records preimages for all channels; gives the events of those that were new.
    ///
    /// # Errors
    /// What sending a transaction can fail by.
    pub async fn reveal(
        &self,
        sender: &TransactionSender,
        id: &str,
        preimages: Vec<B256>,
    ) -> Result<Landed<Vec<Channels::Revealed>>, ChannelsError> {
        let call = Channels::revealCall { preimages };
        let receipt = self.land(sender, id, U256::ZERO, call).await?;
        let value = self.events(&receipt).collect();
        Ok(Landed { value, receipt })
    }

    /// Pays all that the sender can claim to `receiver`.
    ///
    /// # Errors
    /// The contract's refusals, of kind [`RefusalKind::NothingToClaim`] or [`RefusalKind::PaymentFailed`].
    pub async fn claim(
        &self,
        sender: &TransactionSender,
        id: &str,
        token: Address,
        receiver: Address,
    ) -> Result<Landed<Channels::Claimed>, ChannelsError> {
        let call = Channels::claimCall { token, receiver };
        self.landed(self.land(sender, id, U256::ZERO, call).await?)
    }

    /// Pays all that `account` can claim to `account`; by anybody.
    ///
    /// # Errors
    /// As [`Self::claim`].
    pub async fn claim_for(
        &self,
        sender: &TransactionSender,
        id: &str,
        token: Address,
        account: Address,
    ) -> Result<Landed<Channels::Claimed>, ChannelsError> {
        let call = Channels::claimForCall { token, account };
        self.landed(self.land(sender, id, U256::ZERO, call).await?)
    }

    // ------------------------------------------------------------------------------------------------ views

    /// The EIP-712 domain that signatures and channel ids are tied to.
    ///
    /// # Errors
    /// As every view: [`ChannelsError::Read`], [`ChannelsError::NoContract`].
    pub async fn domain_separator(&self) -> Result<B256, ChannelsError> {
        view!(self, DOMAIN_SEPARATOR())
    }

    /// Id of the channel with these parameters, opened or not.
    ///
    /// # Errors
    /// As every view.
    pub async fn channel_id(&self, params: &Params) -> Result<B256, ChannelsError> {
        view!(self, channelId(params.clone()))
    }

    /// State of a channel.
    ///
    /// # Errors
    /// As every view.
    pub async fn channel(&self, id: B256) -> Result<ChannelState, ChannelsError> {
        Ok(view!(self, channel(id))?.into())
    }

    /// State of a channel in a block.
    ///
    /// # Errors
    /// As every view; also if the block is older than the contract.
    pub async fn channel_at(&self, id: B256, at: BlockId) -> Result<ChannelState, ChannelsError> {
        let state = self.contract.channel(id).block(at).call().await;
        let state = state.map_err(|error| self.unreadable("channel", error))?;
        Ok(state.into())
    }

    /// What was submitted to a closing channel; none if it is not closing.
    ///
    /// # Errors
    /// As every view.
    pub async fn dispute(&self, id: B256) -> Result<Option<DisputeState>, ChannelsError> {
        let dispute: IChannels::Dispute = view!(self, dispute(id))?;
        Ok((dispute.deadline != 0).then(|| dispute.into()))
    }

    /// When a hash's preimage was first seen, in Unix seconds; none if never.
    ///
    /// # Errors
    /// As every view.
    pub async fn revealed_at(&self, hash: B256) -> Result<Option<u64>, ChannelsError> {
        let time: U256 = view!(self, revealedAt(hash))?;
        Ok((!time.is_zero()).then(|| time.saturating_to()))
    }

    /// What failed payments left for `account`.
    ///
    /// # Errors
    /// As every view.
    pub async fn claimable(&self, token: Address, account: Address) -> Result<U256, ChannelsError> {
        view!(self, claimable(token, account))
    }
}

/// The contract's creation code; it takes no argument.
pub fn deployment_code() -> Bytes {
    Channels::BYTECODE.clone()
}

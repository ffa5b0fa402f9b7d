//! What a user does on L1: deposits, exits, claims, escape. Needs an endpoint of L1 and no operator.
//!
//! intent → estimate (reverts show here, before anything is paid) → estimate × 1.2 → transaction → receipt → [`Landed`]

use crate::wallet::keys::RollupIdentity;
use alloy::contract::{CallBuilder, CallDecoder};
use alloy::network::TransactionResponse;
use alloy::primitives::{Address, B256, U256};
use alloy::providers::{DynProvider, Provider};
use alloy::rpc::types::{Filter, TransactionReceipt};
use alloy::signers::local::PrivateKeySigner;
use alloy::sol_types::{SolEvent, SolInterface};
use millrace_circuits::account::Owner;
use millrace_circuits::babyjubjub::PublicKey;
use millrace_circuits::batch::Payout;
use millrace_circuits::types::{AccountIndex, Amount, L1Address, TokenId};
use millrace_l1::bindings::{Erc20, IRollup, Rollup};
use millrace_l1::provider::L1Provider;
use millrace_rollup::l1::convert::{PAYOUT_CHUNK, chunk_hashes, payout_chunks, to_u256};
use serde::Serialize;
use thiserror::Error;

/// Blocks asked for at a time when logs are read: endpoints refuse long ranges.
const LOG_RANGE: u64 = 10_000;

/// Why something on L1 did not happen.
#[derive(Debug, Error)]
pub enum ContractError {
    /// The contract refused; nothing was paid.
    #[error("the contract refuses {action}: {reason}")]
    Refused {
        /// What was tried.
        action: &'static str,
        /// Its error with values.
        reason: String,
    },
    /// The endpoint failed or refused.
    #[error("{action}: {cause}")]
    Endpoint {
        /// What was tried.
        action: &'static str,
        /// Its words.
        cause: String,
    },
    /// It landed and failed, although the estimate went through.
    #[error(
        "{action} failed on L1 in transaction {transaction}: the state changed meanwhile; try again"
    )]
    Reverted {
        /// What was tried.
        action: &'static str,
        /// The transaction.
        transaction: B256,
    },
    /// The endpoint answered something impossible.
    #[error("{action}: the endpoint's answer lacks {missing}")]
    Incomplete {
        /// What was tried.
        action: &'static str,
        /// What is missing.
        missing: &'static str,
    },
}

/// An L1 transaction that succeeded.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Landed {
    /// Its hash.
    pub transaction: B256,
    /// Its block.
    pub block: u64,
    /// Gas it used.
    pub gas: u64,
}

/// Where an event stands on L1.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Place {
    /// Its block.
    pub block: u64,
    /// Its number in the block.
    pub log: u64,
    /// Its transaction.
    pub transaction: B256,
}

impl Place {
    fn of(log: &alloy::rpc::types::Log) -> Option<Self> {
        Some(Self {
            block: log.block_number?,
            log: log.log_index?,
            transaction: log.transaction_hash?,
        })
    }

    /// What later events have more of.
    pub fn order(&self) -> (u64, u64) {
        (self.block, self.log)
    }
}

/// A request that joined the queue.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Queued {
    /// Its number.
    pub request: u64,
    /// After this time, if it is not proven, anyone may freeze the rollup.
    pub deadline: u64,
    /// What counts: of a token that takes a fee, what arrived.
    pub amount: Amount,
    /// Where it landed.
    #[serde(flatten)]
    pub landed: Landed,
}

/// A token as L1 describes it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct TokenInfo {
    /// Its number in the rollup.
    pub number: TokenId,
    /// Its contract; none for ETH.
    pub address: Option<Address>,
    /// What it calls itself; shortened, and never to be trusted.
    pub symbol: String,
    /// Digits after the point.
    pub decimals: u8,
}

/// The rollup contract through one endpoint.
#[derive(Debug, Clone)]
pub struct Contract {
    l1: L1Provider,
    address: Address,
}

impl Contract {
    /// The contract at this address.
    pub fn new(l1: L1Provider, address: L1Address) -> Self {
        let address = Address::from(address.0);
        Self { l1, address }
    }

    /// The rollup that this is.
    pub fn identity(&self) -> RollupIdentity {
        RollupIdentity {
            chain_id: self.l1.chain_id(),
            contract: L1Address(self.address.into_array()),
        }
    }

    /// The endpoint.
    pub fn l1(&self) -> &L1Provider {
        &self.l1
    }

    /// The contract's address.
    pub fn address(&self) -> Address {
        self.address
    }

    fn reader(&self) -> Rollup::RollupInstance<DynProvider> {
        Rollup::new(self.address, self.l1.provider().clone())
    }

    fn writer(&self, signer: &PrivateKeySigner) -> Rollup::RollupInstance<DynProvider> {
        Rollup::new(self.address, self.l1.with_signer(signer.clone()))
    }

    /// Where the rollup stands.
    ///
    /// # Errors
    /// If the endpoint fails.
    pub async fn status(&self) -> Result<IRollup::Status, ContractError> {
        read("reading the rollup's status", self.reader().status()).await
    }

    /// What a request costs now, in wei.
    ///
    /// # Errors
    /// If the endpoint fails.
    pub async fn request_fee(&self) -> Result<U256, ContractError> {
        read("reading the request fee", self.reader().requestFee()).await
    }

    /// What an account holds on L1.
    ///
    /// # Errors
    /// If the endpoint fails.
    pub async fn l1_balance(
        &self,
        token: &TokenInfo,
        account: Address,
    ) -> Result<U256, ContractError> {
        let action = "reading an L1 balance";
        match token.address {
            None => {
                let balance = self.l1.provider().get_balance(account).await;
                balance.map_err(|error| endpoint(action, &error))
            }
            Some(address) => {
                let erc20 = Erc20::new(address, self.l1.provider().clone());
                read(action, erc20.balanceOf(account)).await
            }
        }
    }

    /// A token by its number, with its own description.
    ///
    /// # Errors
    /// If it is not registered, or the endpoint fails.
    pub async fn token(&self, number: TokenId) -> Result<TokenInfo, ContractError> {
        let action = "reading a token";
        if number.is_zero() {
            return Ok(TokenInfo {
                number,
                address: None,
                symbol: "ETH".into(),
                decimals: crate::wallet::amounts::ETH_DECIMALS,
            });
        }
        let address = read(action, self.reader().tokenAddress(number_of(number))).await?;
        if address.is_zero() {
            let reason = format!("token {number} is not registered");
            return Err(ContractError::Refused { action, reason });
        }
        let erc20 = Erc20::new(address, self.l1.provider().clone());
        // Neither is mandatory in ERC-20.
        let decimals = erc20.decimals().call().await.unwrap_or(0);
        let symbol = erc20.symbol().call().await.unwrap_or_default();
        let symbol: String = symbol
            .chars()
            .filter(|c| c.is_ascii_graphic())
            .take(12)
            .collect();
        Ok(TokenInfo {
            number,
            address: Some(address),
            symbol: if symbol.is_empty() {
                format!("token {number}")
            } else {
                symbol
            },
            decimals,
        })
    }

    /// The number of an ERC-20, if it is registered.
    ///
    /// # Errors
    /// If the endpoint fails.
    pub async fn token_number(&self, token: Address) -> Result<Option<TokenId>, ContractError> {
        let number = read("reading a token", self.reader().tokenNumber(token)).await?;
        let number =
            TokenId::new(u64::from(number)).expect("token numbers have 32 bits in the contract");
        Ok(Some(number).filter(|number| !number.is_zero()))
    }

    /// How many ERC-20s are registered.
    ///
    /// # Errors
    /// If the endpoint fails.
    pub async fn token_count(&self) -> Result<u32, ContractError> {
        read("reading the token count", self.reader().tokenCount()).await
    }

    /// Gives an ERC-20 the next number.
    ///
    /// # Errors
    /// If it has one, or the endpoint fails.
    pub async fn register_token(
        &self,
        signer: &PrivateKeySigner,
        token: Address,
    ) -> Result<Landed, ContractError> {
        let action = "registering the token";
        send(action, self.writer(signer).registerToken(token))
            .await
            .map(|(landed, _)| landed)
    }

    /// Allows the contract to take exactly this much of an ERC-20, if it may not yet.
    ///
    /// # Errors
    /// If the token or the endpoint refuses.
    pub async fn approve(
        &self,
        signer: &PrivateKeySigner,
        token: &TokenInfo,
        amount: Amount,
    ) -> Result<Option<Landed>, ContractError> {
        let action = "allowing the contract to take the token";
        let Some(address) = token.address else {
            return Ok(None);
        };
        let erc20 = Erc20::new(address, self.l1.with_signer(signer.clone()));
        let allowed = read(action, erc20.allowance(signer.address(), self.address)).await?;
        if allowed >= U256::from(amount.0) {
            return Ok(None);
        }
        let (landed, _) = send(action, erc20.approve(self.address, U256::from(amount.0))).await?;
        Ok(Some(landed))
    }

    /// How many transactions of an L1 account the endpoint holds that are in no block yet.
    ///
    /// # Errors
    /// If the endpoint fails.
    pub async fn waiting(&self, account: Address) -> Result<u64, ContractError> {
        let action = "counting transactions";
        let failed = |error| endpoint(action, &error);
        let provider = self.l1.provider();
        let sent = provider.get_transaction_count(account).pending().await;
        let landed = provider.get_transaction_count(account).latest().await;
        Ok(sent
            .map_err(failed)?
            .saturating_sub(landed.map_err(failed)?))
    }

    /// Pays into the rollup for `owner`. An ERC-20 must have been allowed.
    ///
    /// # Errors
    /// If the contract or the endpoint refuses.
    pub async fn deposit(
        &self,
        signer: &PrivateKeySigner,
        token: TokenId,
        amount: Amount,
        owner: Owner,
    ) -> Result<Queued, ContractError> {
        let fee = self.request_fee().await?;
        let value = if token.is_zero() {
            fee + U256::from(amount.0)
        } else {
            fee
        };
        let writer = self.writer(signer);
        let call = writer
            .deposit(number_of(token), amount.0, to_u256(&owner.0))
            .value(value);
        let (landed, receipt) = send("the deposit", call).await?;
        queued("the deposit", landed, &receipt)
    }

    /// Queues a forced exit of a leaf to the signer.
    ///
    /// # Errors
    /// If the contract or the endpoint refuses.
    pub async fn request_exit(
        &self,
        signer: &PrivateKeySigner,
        index: AccountIndex,
        token: TokenId,
        key: &PublicKey,
    ) -> Result<Queued, ContractError> {
        let fee = self.request_fee().await?;
        let writer = self.writer(signer);
        let call = writer
            .requestExit(
                leaf_index(index),
                number_of(token),
                to_u256(&key.x),
                to_u256(&key.y),
            )
            .value(fee);
        let (landed, receipt) = send("the forced exit", call).await?;
        queued("the forced exit", landed, &receipt)
    }

    /// What `account` can claim.
    ///
    /// # Errors
    /// If the endpoint fails.
    pub async fn claimable(&self, token: TokenId, account: Address) -> Result<U256, ContractError> {
        let call = self.reader();
        read(
            "reading what can be claimed",
            call.claimable(number_of(token), account),
        )
        .await
    }

    /// Pays all that `account` can claim to it.
    ///
    /// # Errors
    /// If there is nothing, or the payment fails.
    pub async fn claim(
        &self,
        signer: &PrivateKeySigner,
        token: TokenId,
        account: Address,
    ) -> Result<Landed, ContractError> {
        let call = self.writer(signer);
        send("the claim", call.claim(number_of(token), account))
            .await
            .map(|(landed, _)| landed)
    }

    /// Has the contract pay the unpaid payouts of a proven batch to `receiver`, or to everyone. `payouts` is all that the
    /// batch pays, in the contract's order; the contract checks it.
    ///
    /// # Errors
    /// If the payouts are not the batch's, or the endpoint fails.
    pub async fn pay_withdrawals(
        &self,
        signer: &PrivateKeySigner,
        batch: u64,
        payouts: &[Payout],
        receiver: Option<L1Address>,
    ) -> Result<Vec<Landed>, ContractError> {
        let chunks = payout_chunks(payouts);
        let hashes = chunk_hashes(&chunks);
        let writer = self.writer(signer);
        let mut landed = Vec::new();
        for (number, chunk) in payouts.chunks(PAYOUT_CHUNK).enumerate() {
            let place = U256::from(number);
            let paid = read("reading payouts", self.reader().paidMask(batch, place)).await?;
            let mask = wanted(chunk, receiver) & !paid;
            if mask == 0 {
                continue;
            }
            let call = writer.payWithdrawals(
                batch,
                hashes.clone(),
                place,
                chunks[number].clone().into(),
                U256::from(mask),
            );
            landed.push(send("paying withdrawals", call).await?.0);
        }
        Ok(landed)
    }

    /// All requests from number `from` on, or those of one sender, in order.
    ///
    /// # Errors
    /// If the endpoint fails.
    pub async fn requests(
        &self,
        from_block: u64,
        sender: Option<Address>,
    ) -> Result<Vec<(u64, IRollup::Request)>, ContractError> {
        let mut filter = Filter::new().event_signature(Rollup::RequestQueued::SIGNATURE_HASH);
        if let Some(sender) = sender {
            filter = filter.topic2(sender.into_word());
        }
        let events = self
            .events::<Rollup::RequestQueued>(filter, from_block)
            .await?;
        Ok(events
            .into_iter()
            .map(|event| (event.id, event.request))
            .collect())
    }

    /// All payments of batches to `receiver`, oldest first.
    ///
    /// # Errors
    /// If the endpoint fails.
    pub async fn payouts_to(
        &self,
        from_block: u64,
        receiver: Address,
    ) -> Result<Vec<Rollup::Payout>, ContractError> {
        let filter = Filter::new()
            .event_signature(Rollup::Payout::SIGNATURE_HASH)
            .topic2(receiver.into_word());
        self.events(filter, from_block).await
    }

    /// All events of one kind, with their places, in order.
    ///
    /// # Errors
    /// If the endpoint fails.
    pub async fn logs<E: SolEvent>(
        &self,
        from_block: u64,
    ) -> Result<Vec<(Place, E)>, ContractError> {
        let filter = Filter::new().event_signature(E::SIGNATURE_HASH);
        self.filtered(filter, from_block).await
    }

    async fn events<E: SolEvent>(
        &self,
        filter: Filter,
        from_block: u64,
    ) -> Result<Vec<E>, ContractError> {
        let events = self.filtered(filter, from_block).await?;
        Ok(events.into_iter().map(|(_, event)| event).collect())
    }

    async fn filtered<E: SolEvent>(
        &self,
        filter: Filter,
        from_block: u64,
    ) -> Result<Vec<(Place, E)>, ContractError> {
        let action = "reading events";
        let provider = self.l1.provider();
        let head = provider
            .get_block_number()
            .await
            .map_err(|error| endpoint(action, &error))?;
        let mut events = Vec::new();
        let mut start = from_block;
        while start <= head {
            let end = head.min(start + LOG_RANGE - 1);
            let range = filter
                .clone()
                .address(self.address)
                .from_block(start)
                .to_block(end);
            let logs = provider
                .get_logs(&range)
                .await
                .map_err(|error| endpoint(action, &error))?;
            for log in logs {
                let missing = "an event in the contract's format";
                let event = E::decode_log(&log.inner);
                let event = event.map_err(|_| ContractError::Incomplete { action, missing })?;
                let missing = "an event's place";
                let place = Place::of(&log).ok_or(ContractError::Incomplete { action, missing })?;
                events.push((place, event.data));
            }
            start = end + 1;
        }
        Ok(events)
    }

    /// Whether a leaf has left in escape.
    ///
    /// # Errors
    /// If the endpoint fails.
    pub async fn has_exited(&self, index: AccountIndex) -> Result<bool, ContractError> {
        read("reading exits", self.reader().hasExited(leaf_index(index))).await
    }

    /// Whether a request is still in the queue, or was: it was not cancelled.
    ///
    /// # Errors
    /// If the endpoint fails.
    pub async fn request_exists(&self, id: u64) -> Result<bool, ContractError> {
        let hash = read("reading a request", self.reader().requestHash(id)).await?;
        Ok(!hash.is_zero())
    }

    /// Freezes the rollup for good: the oldest unproven request is past its deadline.
    ///
    /// # Errors
    /// If it is not, or the endpoint fails.
    pub async fn enter_escape(
        &self,
        signer: &PrivateKeySigner,
        oldest: IRollup::Request,
    ) -> Result<Landed, ContractError> {
        let call = self.writer(signer);
        send("entering escape", call.enterEscape(oldest))
            .await
            .map(|(landed, _)| landed)
    }

    /// Takes a leaf of the last proven state out of a frozen rollup.
    ///
    /// # Errors
    /// If the leaf is not in the proven state or has left, or the endpoint fails.
    pub async fn escape_exit(
        &self,
        signer: &PrivateKeySigner,
        leaf: IRollup::Leaf,
    ) -> Result<Landed, ContractError> {
        let call = self.writer(signer);
        send("the escape exit", call.escapeExit(leaf))
            .await
            .map(|(landed, _)| landed)
    }

    /// Gets an unproven deposit back from a frozen rollup.
    ///
    /// # Errors
    /// If it was proven or cancelled, or the endpoint fails.
    pub async fn cancel_deposit(
        &self,
        signer: &PrivateKeySigner,
        id: u64,
        request: IRollup::Request,
    ) -> Result<Landed, ContractError> {
        let call = self.writer(signer);
        send("cancelling the deposit", call.cancelDeposit(id, request))
            .await
            .map(|(landed, _)| landed)
    }

    /// Sender, value and input of a transaction; for measurements.
    ///
    /// # Errors
    /// If there is none, or the endpoint fails.
    pub async fn input_of(&self, transaction: B256) -> Result<Vec<u8>, ContractError> {
        let action = "reading a transaction";
        let found = self
            .l1
            .provider()
            .get_transaction_by_hash(transaction)
            .await;
        let found = found.map_err(|error| endpoint(action, &error))?;
        let missing = "the transaction";
        let found = found.ok_or(ContractError::Incomplete { action, missing })?;
        debug_assert_eq!(found.tx_hash(), transaction);
        Ok(alloy::consensus::Transaction::input(&found).to_vec())
    }
}

fn number_of(token: TokenId) -> u32 {
    u32::try_from(token.get()).expect("token numbers have 32 bits")
}

/// An index as the contract takes it.
pub fn leaf_index(index: AccountIndex) -> alloy::primitives::aliases::U24 {
    alloy::primitives::aliases::U24::from(index.get())
}

fn wanted(chunk: &[Payout], receiver: Option<L1Address>) -> u32 {
    let is_wanted = |payout: &Payout| receiver.is_none_or(|receiver| payout.address == receiver);
    chunk
        .iter()
        .enumerate()
        .filter(|(_, payout)| is_wanted(payout))
        .fold(0, |mask, (place, _)| mask | 1 << place)
}

fn queued(
    action: &'static str,
    landed: Landed,
    receipt: &TransactionReceipt,
) -> Result<Queued, ContractError> {
    let logs = receipt.logs().iter();
    let event = logs
        .filter_map(|log| Rollup::RequestQueued::decode_log(&log.inner).ok())
        .next();
    let missing = "the event of the request";
    let event = event.ok_or(ContractError::Incomplete { action, missing })?;
    Ok(Queued {
        request: event.id,
        deadline: event.request.deadline,
        amount: Amount(event.request.amount),
        landed,
    })
}

async fn read<D: CallDecoder + Unpin>(
    action: &'static str,
    call: CallBuilder<impl Provider, D>,
) -> Result<D::CallOutput, ContractError> {
    call.call().await.map_err(|error| refused(action, &error))
}

/// Sends a transaction: estimates first, so that what would revert costs nothing, and waits for its receipt.
pub(crate) async fn send<D: CallDecoder>(
    action: &'static str,
    call: CallBuilder<impl Provider, D>,
) -> Result<(Landed, TransactionReceipt), ContractError> {
    let estimate = call
        .estimate_gas()
        .await
        .map_err(|error| refused(action, &error))?;
    // The contract pays others with what gas is left, so that an exact estimate can fail; and where another request lands
    // first, this one may write a fresh storage word.
    let pending = call.gas(estimate + estimate / 5 + 25_000).send().await;
    let pending = pending.map_err(|error| refused(action, &error))?;
    let receipt = pending
        .get_receipt()
        .await
        .map_err(|error| ContractError::Endpoint {
            action,
            cause: error.to_string(),
        })?;
    let transaction = receipt.transaction_hash;
    if !receipt.status() {
        return Err(ContractError::Reverted {
            action,
            transaction,
        });
    }
    let missing = "the block's number";
    let block = receipt
        .block_number
        .ok_or(ContractError::Incomplete { action, missing })?;
    let landed = Landed {
        transaction,
        block,
        gas: receipt.gas_used,
    };
    Ok((landed, receipt))
}

fn refused(action: &'static str, error: &alloy::contract::Error) -> ContractError {
    if let Some(data) = error.as_revert_data()
        && let Ok(reason) = Rollup::RollupErrors::abi_decode(&data)
    {
        let reason = format!("{reason:?}");
        return ContractError::Refused { action, reason };
    }
    match error {
        alloy::contract::Error::TransportError(transport) => endpoint(action, transport),
        other => ContractError::Endpoint {
            action,
            cause: other.to_string(),
        },
    }
}

fn endpoint(action: &'static str, error: &alloy::transports::TransportError) -> ContractError {
    ContractError::Endpoint {
        action,
        cause: millrace_l1::provider::explain(error),
    }
}

//! What a stranger learns from logs alone: a signer's channels, and what settle needs.
//!
//! ```text
//! Deposited (by signer) → ids and parameters
//! dispute (view) → roots ─→ LocksSubmitted with the same keccak → lists → Settlement
//! ```

use super::{ChannelsClient, ChannelsError, params_of};
use crate::{
    bindings::{Channels, IChannels::Params},
    events::range,
    provider::L1Provider,
};
use alloy::{
    primitives::{Address, B256, Bytes, keccak256},
    providers::Provider,
    rpc::types::Filter,
    sol_types::SolEvent,
};
use std::collections::BTreeMap;

/// What settle needs: anybody can collect it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settlement {
    /// The channel.
    pub params: Params,
    /// A's locks in the dispute, 56 bytes each.
    pub list_a: Bytes,
    /// B's locks in the dispute, 56 bytes each.
    pub list_b: Bytes,
}

impl Settlement {
    /// The call that settles.
    pub fn call(&self) -> Channels::settleCall {
        Channels::settleCall {
            params: self.params.clone(),
            listA: self.list_a.clone(),
            listB: self.list_b.clone(),
        }
    }
}

/// The channels that were opened for `signer` on either side from `from_block` on, with their parameters.
///
/// # Errors
/// [`ChannelsError::Logs`].
pub async fn opened_by(
    l1: &L1Provider,
    channels: &ChannelsClient,
    signer: Address,
    from_block: u64,
) -> Result<BTreeMap<B256, Params>, ChannelsError> {
    let as_a = Filter::new().topic2(signer.into_word());
    let as_b = Filter::new().topic3(signer.into_word());
    let mut found = BTreeMap::new();
    for filter in [as_a, as_b] {
        for deposit in events::<Channels::Deposited>(l1, channels, filter, from_block).await? {
            found.insert(deposit.channelId, params_of(&deposit));
        }
    }
    Ok(found)
}

impl ChannelsClient {
    /// What settle needs for a channel that is closing, from logs alone. `from_block` is at or before its first deposit.
    ///
    /// # Errors
    /// [`ChannelsError::NotInLogs`], [`ChannelsError::Logs`] and what a view can fail by.
    pub async fn settlement(
        &self,
        l1: &L1Provider,
        id: B256,
        from_block: u64,
    ) -> Result<Settlement, ChannelsError> {
        let missing = |what| ChannelsError::NotInLogs {
            id,
            what,
            from_block,
        };
        let filter = Filter::new().topic1(id);
        let deposits = events::<Channels::Deposited>(l1, self, filter.clone(), from_block).await?;
        let deposit = deposits.first().ok_or_else(|| missing("a deposit"))?;
        let published = events::<Channels::LocksSubmitted>(l1, self, filter, from_block).await?;
        let dispute = self
            .dispute(id)
            .await?
            .ok_or_else(|| missing("a dispute"))?;
        let list = |root: B256, what| match root.is_zero() {
            true => Ok(Bytes::new()),
            false => published
                .iter()
                .map(|event| &event.list)
                .find(|list| keccak256(list) == root)
                .cloned()
                .ok_or_else(|| missing(what)),
        };
        Ok(Settlement {
            params: params_of(deposit),
            list_a: list(dispute.a.locks, "A's list")?,
            list_b: list(dispute.b.locks, "B's list")?,
        })
    }
}

/// The contract's events of a kind up to the newest block, in order.
async fn events<E: SolEvent>(
    l1: &L1Provider,
    channels: &ChannelsClient,
    filter: Filter,
    from_block: u64,
) -> Result<Vec<E>, ChannelsError> {
    let filter = filter
        .address(channels.address())
        .event_signature(E::SIGNATURE_HASH);
    let newest = l1.provider().get_block_number().await;
    let newest = newest.map_err(|error| channels.unread("the newest block's number", &error))?;
    let mut events = Vec::new();
    let mut from = from_block;
    while from <= newest {
        let (end, logs) = range::logs(l1.provider(), &filter, from, newest).await?;
        let decoded = logs.iter().filter_map(|log| E::decode_log(&log.inner).ok());
        events.extend(decoded.map(|log| log.data));
        from = end + 1;
    }
    Ok(events)
}

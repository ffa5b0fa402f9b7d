//! After the data folder is lost: what a backup, L1 and the peers still know.
//!
//! ```text
//! L1: deposits that name our signer → channels not closed for good ─┐
//! backup, if there is one → Node::from_backup ──────────────────────┼→ Node::add_lost for those that it lacks → new store
//! peers' addresses, if they are known ──────────────────────────────┘
//! then: start → the peer connects → Reestablish, Copy (`machine::recovery`) → quiet → as before
//! ```
//! L1 names a counterparty by its address only. Its key is told when it connects, by whichever side dials.

use super::backup::{self, Backup, BackupError, BackupTarget};
use super::chain::ChainConfig;
use super::convert::{from_params, to_l1};
use super::invoices;
use super::paid;
use super::records;
use super::runtime::TowerAddress;
use crate::digest::channel_id;
use crate::machine::effect::Key;
use crate::machine::{Identity, Node};
use crate::signing::Keys;
use crate::state::Params;
use crate::store::{Store, Table};
use crate::types::{Address, ChannelId, Side};
use alloy::eips::BlockId;
use alloy::providers::Provider;
use millrace_l1::channels_client::{ChannelPhase, ChannelState, ChannelsError, opened_by};

/// A channel that L1 shows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Found {
    /// What names it.
    pub params: Params,
    /// Our side.
    pub side: Side,
}

/// What a restore brought.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Restored {
    /// Channels of the backup.
    pub from_backup: usize,
    /// Channels that only L1 still knew.
    pub from_chain: Vec<ChannelId>,
    /// Channels that name our signer and that this node would not have agreed to, with the reason: a stranger made them up, or
    /// the configuration is another than before.
    pub left_out: Vec<(ChannelId, String)>,
    /// Bytes at the backup's end that do not open: what they held is missing.
    pub unread_bytes: u64,
}

/// The channels of a signer that L1 has not closed for good. *One that is closed in the newest block only may be open again after a
/// reorganisation, and nobody would look for it then.*
///
/// # Errors
/// [`ChannelsError`].
pub async fn find_on_chain(
    chain: &ChainConfig,
    signer: Address,
) -> Result<Vec<Found>, ChannelsError> {
    let ChainConfig { l1, client, .. } = chain;
    let head = l1.provider().get_block_number().await;
    let head = head.map_err(|error| ChannelsError::Read {
        what: "block number",
        address: client.address(),
        cause: error.to_string(),
    })?;
    let finally = BlockId::from(chain.finality.block(head));
    let mut found = Vec::new();
    for (id, params) in opened_by(l1, client, to_l1(signer), chain.from_block).await? {
        let closed = |state: &ChannelState| state.phase == ChannelPhase::Closed;
        // On a young chain the last final block has no contract yet.
        if closed(&client.channel(id).await?)
            && client
                .channel_at(id, finally)
                .await
                .is_ok_and(|state| closed(&state))
        {
            continue;
        }
        let params = from_params(&params);
        let side = match params.signer_a == signer {
            true => Side::A,
            false => Side::B,
        };
        found.push(Found { params, side });
    }
    Ok(found)
}

/// Fills an empty store. Its channels sign nothing until their peers have said what they hold; peers with an address are
/// dialled at the next start.
///
/// # Errors
/// [`BackupError`]: nothing was written.
pub fn restore(
    identity: Identity,
    store: &Store,
    backup: Option<&BackupTarget>,
    found: &[Found],
    peers: &[TowerAddress],
    keys: &dyn Keys,
) -> Result<Restored, BackupError> {
    let there = store.records()?;
    let is_channel = |key: &&Key| matches!(key, Key::Channel(_));
    let channels = there.keys().filter(is_channel).count();
    if channels > 0 {
        return Err(BackupError::NotEmpty(channels));
    }
    let Backup {
        records,
        marks,
        texts,
        unread_bytes,
    } = backup.map(backup::read).transpose()?.unwrap_or_default();
    let separator = identity.domain.separator();
    let mut node = Node::from_backup(
        identity,
        records.iter().map(|(key, bytes)| (key, bytes.as_slice())),
    )?;
    let mut restored = Restored {
        from_backup: node.channels().len(),
        unread_bytes,
        ..Restored::default()
    };
    for Found { params, side } in found {
        let id = channel_id(&separator, params);
        if node.channels().contains_key(&id) {
            continue;
        }
        let signer = params.signer(side.other());
        let named = peers.iter().map(|peer| peer.key);
        let peer = named
            .into_iter()
            .find(|key| keys.address(key) == Some(signer));
        match node.add_lost(*params, *side, peer, keys) {
            Ok(id) => restored.from_chain.push(id),
            Err(reason) => restored.left_out.push((id, reason.to_string())),
        }
    }
    let peers = peers.iter();
    let known = peers.map(|peer| records::write(Table::Peers, &peer.key.0, &peer.address));
    let paid = marks.iter();
    let paid = paid.flat_map(|(hash, payment)| paid::mark(hash, payment));
    let rim = known.chain(paid).chain(invoices::restored(texts)).collect();
    // Before the first input: a crash must not turn the backup into the newest state.
    store.write(node.records(), rim)?;
    Ok(restored)
}

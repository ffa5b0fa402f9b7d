//! What the runtime keeps beside the machine's records: agreements and deposits under way, peers, answers, receipts.
//!
//! Each is one small record, written with the step that it belongs to; [`write()`] and [`read`] are their bytes.

use super::talk::Proposal;
use crate::state::Params;
use crate::store::{RimRecord, Store, StoreError, Table};
use crate::types::{Amount, ChannelId, Hash32, PublicKey, Side, Timestamp};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

/// A channel that is being agreed on.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Opening {
    /// We asked for it; named by its salt.
    Ours {
        /// With whom.
        peer: PublicKey,
        /// What we asked for.
        proposal: Proposal,
        /// What we deposit.
        amount: Amount,
        /// Since when.
        since: Timestamp,
    },
    /// A peer asked for it and we agreed; named by its id. It becomes a channel when L1 shows a deposit.
    Theirs {
        /// Who.
        peer: PublicKey,
        /// What was agreed on.
        params: Params,
        /// Since when.
        since: Timestamp,
    },
}

/// Where a deposit stands.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum DepositState {
    /// It is being sent, or waits for what the text says.
    Sending(Option<String>),
    /// It is in a block.
    Landed(Hash32),
    /// The contract refuses it.
    Refused(String),
}

/// A deposit that we make; named by its operation.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Deposit {
    /// Into which channel.
    pub channel: ChannelId,
    /// What names it on L1.
    pub params: Params,
    /// Our side.
    pub side: Side,
    /// How much.
    pub amount: Amount,
    /// Where it stands.
    pub state: DepositState,
    /// Since when.
    pub since: Timestamp,
}

/// What was answered to a request with an idempotency key.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Answered {
    /// Hash of the request.
    pub request: [u8; 32],
    /// The answer.
    pub answer: super::handle::Answer,
}

/// A record with this content.
pub fn write<T: Serialize>(table: Table, name: &[u8], value: &T) -> RimRecord {
    RimRecord {
        table,
        name: name.to_vec(),
        value: Some(postcard::to_stdvec(value).expect("plain data serialises into memory")),
    }
}

/// The removal of a record.
pub fn remove(table: Table, name: &[u8]) -> RimRecord {
    RimRecord {
        table,
        name: name.to_vec(),
        value: None,
    }
}

/// The content of a record.
///
/// # Errors
/// [`StoreError::Damaged`].
pub fn read<T: DeserializeOwned>(name: &[u8], bytes: &[u8]) -> Result<T, StoreError> {
    postcard::from_bytes(bytes).map_err(|error| StoreError::Damaged {
        key: hex::encode(name),
        reason: error.to_string(),
    })
}

/// As [`read`], for a record whose last field, an option, an older program did not write.
///
/// # Errors
/// [`StoreError::Damaged`].
pub fn read_grown<T: DeserializeOwned>(name: &[u8], bytes: &[u8]) -> Result<T, StoreError> {
    read(name, bytes).or_else(|_| read(name, &[bytes, &[0]].concat()))
}

/// All records of a table, which may have grown as [`read_grown`] says.
///
/// # Errors
/// [`StoreError`].
pub fn all_grown<T: DeserializeOwned>(
    store: &Store,
    table: Table,
) -> Result<Vec<(Vec<u8>, T)>, StoreError> {
    all_by(store, table, read_grown)
}

/// All records of a table.
///
/// # Errors
/// [`StoreError`].
pub fn all<T: DeserializeOwned>(
    store: &Store,
    table: Table,
) -> Result<Vec<(Vec<u8>, T)>, StoreError> {
    all_by(store, table, read)
}

fn all_by<T>(
    store: &Store,
    table: Table,
    read: impl Fn(&[u8], &[u8]) -> Result<T, StoreError>,
) -> Result<Vec<(Vec<u8>, T)>, StoreError> {
    let pairs = store.rim(table, &[], usize::MAX)?;
    pairs
        .into_iter()
        .map(|(name, bytes)| read(&name, &bytes).map(|value| (name, value)))
        .collect()
}

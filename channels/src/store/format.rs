//! Which bytes stand for what: a tag and a name as key, a version byte before each value.
//!
//! | key | value |
//! |---|---|
//! | `schema` | u32, big-endian |
//! | 1, channel id | channel |
//! | 2, payment hash | payment that this node makes |
//! | 3, payment hash | invoice |
//! | 4, payment hash | preimage |
//! | 16 and above, a name | what the runtime keeps beside the machine: see [`Table`] |

use super::StoreError;
use super::disk::Write;
use crate::machine::effect::{Key, Record};

/// Version of the whole layout; grows with every change that an older program would misread. Older ones are read: version 3 has a
/// record for each event, channel records of version 2 end before `lost_up_to`, those of version 1 before what waits for a tower
/// (`machine::channel::Waits`).
pub const SCHEMA_VERSION: u32 = 4;
pub const SCHEMA_KEY: &[u8] = b"schema";
/// First byte of each value.
const VALUE_VERSION: u8 = 1;

/// What is kept beside the machine's records, each kind under a first byte of its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
#[repr(u8)]
pub enum Table {
    /// What the database belongs to, and other single facts.
    Facts = 16,
    /// Channels that are being agreed on.
    Openings = 17,
    /// Deposits under way.
    Deposits = 18,
    /// Peers and where they listen.
    Peers = 19,
    /// Pages of numbered events, by the number of their last one.
    Events = 20,
    /// Answers by idempotency key.
    Answers = 21,
    /// Receipts of towers.
    Receipts = 22,
    /// What a tower guards.
    Watches = 23,
    /// What peers say about the network, and what routing has learnt.
    Graph = 24,
    /// Texts of invoices, by payment hash.
    Texts = 25,
    /// Payments that this node makes, by number.
    Orders = 26,
    /// Numbers of those payments, by payment hash.
    OrderNumbers = 27,
    /// Those payments that have not ended, by number.
    OpenOrders = 28,
    /// Payment hashes of invoices, and of payments that came without one, by number.
    Invoices = 29,
    /// Transfers on the rollup whose payees are told, by payment hash.
    Tellings = 30,
    /// Transfers on the rollup that paid invoices of this node, by payment hash.
    RollupPayments = 31,
    /// Payment hashes by the places of those transfers: each counts once.
    CountedTransfers = 32,
    /// Number and time of payments that came without an invoice, by payment hash.
    Keysends = 33,
}

/// A record beside the machine's; `None` removes it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RimRecord {
    /// Of which kind.
    pub table: Table,
    /// Its name within the kind.
    pub name: Vec<u8>,
    /// Its bytes.
    pub value: Option<Vec<u8>>,
}

/// Where the machine's records end.
pub const MACHINE_END: &[u8] = &[16];

pub fn rim_key(table: Table, name: &[u8]) -> Vec<u8> {
    let mut key = Vec::with_capacity(name.len() + 1);
    key.push(table as u8);
    key.extend(name);
    key
}

pub fn write_of_rim(record: RimRecord) -> Write {
    Write {
        key: rim_key(record.table, &record.name),
        value: record.value.map(with_version),
    }
}

fn with_version(value: Vec<u8>) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(value.len() + 1);
    bytes.push(VALUE_VERSION);
    bytes.extend(value);
    bytes
}

/// The schema of a database, if this program reads it.
///
/// # Errors
/// [`StoreError::Newer`], [`StoreError::Damaged`].
pub fn check_schema(bytes: &[u8]) -> Result<u32, StoreError> {
    let found = bytes
        .try_into()
        .map(u32::from_be_bytes)
        .map_err(|_| damaged(SCHEMA_KEY, "the schema is no number"))?;
    if found > SCHEMA_VERSION {
        return Err(StoreError::Newer {
            found,
            known: SCHEMA_VERSION,
        });
    }
    Ok(found)
}

pub fn write_of(record: Record) -> Write {
    Write {
        key: key_bytes(&record.key),
        value: record.value.map(with_version),
    }
}

fn key_bytes(key: &Key) -> Vec<u8> {
    let (tag, name) = key.parts();
    let mut bytes = Vec::with_capacity(33);
    bytes.push(tag);
    bytes.extend(name);
    bytes
}

pub fn read_key(bytes: &[u8]) -> Result<Key, StoreError> {
    let (tag, name) = bytes
        .split_first()
        .ok_or_else(|| damaged(bytes, "the key is empty"))?;
    let name = <[u8; 32]>::try_from(name);
    let name = name.map_err(|_| damaged(bytes, "the key has another length"))?;
    Key::from_parts(*tag, name).ok_or_else(|| damaged(bytes, "the key has an unknown tag"))
}

pub fn read_value(key: &[u8], mut value: Vec<u8>) -> Result<Vec<u8>, StoreError> {
    if value.first() != Some(&VALUE_VERSION) {
        return Err(damaged(key, "the value has an unknown version"));
    }
    value.remove(0);
    Ok(value)
}

/// A pair of a table, its first byte taken off.
pub fn read_rim((key, value): (Vec<u8>, Vec<u8>)) -> Result<(Vec<u8>, Vec<u8>), StoreError> {
    let value = read_value(&key, value)?;
    Ok((key[1..].to_vec(), value))
}

fn damaged(key: &[u8], reason: &str) -> StoreError {
    StoreError::Damaged {
        key: hex::encode(key),
        reason: reason.to_owned(),
    }
}

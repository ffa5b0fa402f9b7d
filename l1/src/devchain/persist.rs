//! The dev chain's state file, and how its parts are written.
//!
//! One JSON object: {version, chain}; lines of changes may follow it (see `journal`). Written to a file beside the old one, flushed, and renamed over it, so that a crash leaves
//! either the old state or the new one.

use super::{chain::Chain, error::DevChainError, journal};
use serde::{Deserialize, Serialize};
use std::{fs, io::Write, path::Path};

/// Version of the state file.
pub const FILE_VERSION: u64 = 1;

#[derive(Serialize)]
struct Saved<'a> {
    version: u64,
    chain: &'a Chain,
}

#[derive(Deserialize)]
struct Loaded {
    chain: Chain,
}

#[derive(Deserialize)]
struct VersionOnly {
    version: u64,
}

/// Writes the chain to `path`.
pub fn save(chain: &Chain, path: &Path) -> Result<(), DevChainError> {
    let bytes = serde_json::to_vec(&Saved {
        version: FILE_VERSION,
        chain,
    })
    .map_err(|error| failed(path, error))?;
    let beside = path.with_extension("new");
    let mut file = fs::File::create(&beside).map_err(|error| failed(&beside, error))?;
    file.write_all(&bytes)
        .and_then(|()| file.sync_all())
        .map_err(|error| failed(&beside, error))?;
    fs::rename(&beside, path).map_err(|error| failed(path, error))
}

/// Reads a chain from `path` and checks that it is the one meant.
pub fn load(path: &Path, chain_id: u64) -> Result<Chain, DevChainError> {
    let bytes = fs::read(path).map_err(|error| failed(path, error))?;
    let end = bytes.iter().position(|byte| *byte == b'\n');
    let (bytes, changes) = bytes.split_at(end.unwrap_or(bytes.len()));
    let VersionOnly { version } =
        serde_json::from_slice(bytes).map_err(|error| failed(path, error))?;
    expect(path, "version", version, FILE_VERSION)?;
    let Loaded { mut chain } =
        serde_json::from_slice::<Loaded>(bytes).map_err(|error| failed(path, error))?;
    expect(path, "chain id", chain.chain_id, chain_id)?;
    chain.index();
    journal::replay(path, &mut chain, changes)?;
    Ok(chain)
}

fn expect(
    path: &Path,
    field: &'static str,
    found: u64,
    expected: u64,
) -> Result<(), DevChainError> {
    if found == expected {
        return Ok(());
    }
    Err(DevChainError::Mismatch {
        path: path.display().to_string(),
        field,
        found,
        expected,
    })
}

/// The fault of a state file.
pub fn failed(path: &Path, cause: impl std::fmt::Display) -> DevChainError {
    DevChainError::File {
        path: path.display().to_string(),
        cause: cause.to_string(),
    }
}

/// Maps whose keys are not text, as sorted lists of pairs.
pub mod pairs {
    use serde::{Deserialize, Deserializer, Serialize, Serializer};

    /// Writes sorted pairs.
    pub fn serialize<'a, M, K, V, S>(map: &'a M, serializer: S) -> Result<S::Ok, S::Error>
    where
        &'a M: IntoIterator<Item = (&'a K, &'a V)>,
        K: Serialize + Ord + 'a,
        V: Serialize + 'a,
        S: Serializer,
    {
        let mut pairs: Vec<(&K, &V)> = map.into_iter().collect();
        pairs.sort_by(|left, right| left.0.cmp(right.0));
        pairs.serialize(serializer)
    }

    /// Reads pairs.
    pub fn deserialize<'de, M, K, V, D>(deserializer: D) -> Result<M, D::Error>
    where
        M: FromIterator<(K, V)>,
        K: Deserialize<'de>,
        V: Deserialize<'de>,
        D: Deserializer<'de>,
    {
        Ok(Vec::<(K, V)>::deserialize(deserializer)?
            .into_iter()
            .collect())
    }
}

/// The pool's map of maps, as a list of transactions per sender.
pub mod nested_pairs {
    use crate::devchain::pool::PooledTransaction;
    use alloy::{consensus::Transaction, primitives::Address};
    use serde::{Deserialize, Deserializer, Serialize, Serializer};
    use std::collections::BTreeMap;

    type Waiting = BTreeMap<Address, BTreeMap<u64, PooledTransaction>>;

    /// Writes the transactions.
    pub fn serialize<S: Serializer>(waiting: &Waiting, serializer: S) -> Result<S::Ok, S::Error> {
        let all: Vec<_> = waiting.values().flat_map(BTreeMap::values).collect();
        all.serialize(serializer)
    }

    /// Reads the transactions and sorts them by sender and nonce.
    pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Waiting, D::Error> {
        let mut waiting = Waiting::new();
        for transaction in Vec::<PooledTransaction>::deserialize(deserializer)? {
            waiting
                .entry(transaction.sender)
                .or_default()
                .insert(transaction.envelope.nonce(), transaction);
        }
        Ok(waiting)
    }
}

/// Contract codes, as a list of bytes; their hashes are computed again.
pub mod codes {
    use alloy::primitives::{B256, Bytes};
    use revm::bytecode::Bytecode;
    use serde::{Deserialize, Deserializer, Serialize, Serializer};
    use std::collections::HashMap;

    /// Writes the codes in the order of their hashes.
    pub fn serialize<S: Serializer>(
        codes: &HashMap<B256, Bytecode>,
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        let mut sorted: Vec<_> = codes.iter().collect();
        sorted.sort_by_key(|(hash, _)| **hash);
        let bytes: Vec<Bytes> = sorted
            .into_iter()
            .map(|(_, code)| code.original_bytes())
            .collect();
        bytes.serialize(serializer)
    }

    /// Reads the codes.
    pub fn deserialize<'de, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<HashMap<B256, Bytecode>, D::Error> {
        let codes = Vec::<Bytes>::deserialize(deserializer)?
            .into_iter()
            .map(Bytecode::new_raw);
        Ok(codes.map(|code| (code.hash_slow(), code)).collect())
    }
}

/// Signed transactions, as the bytes that were sent.
pub mod envelope {
    use alloy::{
        consensus::TxEnvelope,
        eips::eip2718::{Decodable2718, Encodable2718},
        primitives::Bytes,
    };
    use serde::{Deserialize, Deserializer, Serialize, Serializer, de::Error};

    /// Writes EIP-2718 bytes.
    pub fn serialize<S: Serializer>(
        envelope: &TxEnvelope,
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        Bytes::from(envelope.encoded_2718()).serialize(serializer)
    }

    /// Reads EIP-2718 bytes.
    pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<TxEnvelope, D::Error> {
        let bytes = Bytes::deserialize(deserializer)?;
        TxEnvelope::decode_2718(&mut bytes.as_ref()).map_err(D::Error::custom)
    }
}

/// Block headers, as RLP.
pub mod header {
    use alloy::{
        consensus::Header,
        primitives::Bytes,
        rlp::{Decodable, encode},
    };
    use serde::{Deserialize, Deserializer, Serialize, Serializer, de::Error};

    /// Writes RLP.
    pub fn serialize<S: Serializer>(header: &Header, serializer: S) -> Result<S::Ok, S::Error> {
        Bytes::from(encode(header)).serialize(serializer)
    }

    /// Reads RLP.
    pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Header, D::Error> {
        let bytes = Bytes::deserialize(deserializer)?;
        Header::decode(&mut bytes.as_ref()).map_err(D::Error::custom)
    }
}

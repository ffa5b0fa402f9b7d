//! Proving keys: the one for each verifying key that the contract trusts.
//!
//! wanted key id → a file of that id in the key folder → else the development key, if it is that one → else an error that
//! says which is missing

use super::StartError;
use crate::config::{Config, ProofBackend};
use millrace_circuits::batch::Shape;
use millrace_prover::circuit::Circuit;
use millrace_prover::groth16::VerifyingKey;
use millrace_prover::key::{KeyId, KeyOrigin, KeyStore, KeyStoreError, MappedKey};
use millrace_prover::prove::Prover;
use millrace_prover::setup::Seed;
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::{Mutex, PoisonError};

/// The folder of proving keys.
///
/// # Errors
/// If none is configured and the user has no home directory.
pub fn store(config: &Config) -> Result<KeyStore, StartError> {
    match &config.prover.keys_dir {
        Some(directory) => Ok(KeyStore::new(directory)),
        None => KeyStore::in_user_cache().map_err(|error| StartError::Keys(error.to_string())),
    }
}

/// Development verifying keys that this process has read: by folder and circuit.
static KNOWN: Mutex<BTreeMap<(PathBuf, Circuit), VerifyingKey>> = Mutex::new(BTreeMap::new());

/// The development verifying keys of these circuits; made and kept if they are not there. One at a time in this process:
/// making or reading a key takes all cores and much memory.
///
/// # Errors
/// If they cannot be made or kept.
pub fn development(
    store: &KeyStore,
    shapes: &[Shape],
) -> Result<Vec<(Shape, VerifyingKey)>, StartError> {
    let mut known = KNOWN.lock().unwrap_or_else(PoisonError::into_inner);
    let mut keys = vec![];
    for shape in shapes {
        let circuit = Circuit::Batch(*shape);
        let place = (store.directory().to_owned(), circuit);
        let key = match known.get(&place) {
            Some(key) => key.clone(),
            None => {
                let made = store
                    .open_development_key(circuit, &Seed::development())
                    .map_err(|error| StartError::Keys(error.to_string()))?;
                let key = made.verifying_key().clone();
                known.insert(place, key.clone());
                key
            }
        };
        keys.push((*shape, key));
    }
    Ok(keys)
}

/// A prover with the keys that the contract trusts, each read at its first use.
pub fn prover(backend: ProofBackend, store: KeyStore, wanted: BTreeMap<Circuit, KeyId>) -> Prover {
    Prover::new(backend.backend(), move |circuit| {
        let Some(id) = wanted.get(&circuit) else {
            return store.open_development_key(circuit, &Seed::development());
        };
        find(&store, circuit, id)
    })
}

fn find(store: &KeyStore, circuit: Circuit, id: &KeyId) -> Result<MappedKey, KeyStoreError> {
    for (_, header) in store.list()? {
        // A damaged or foreign file must not hide the key that is wanted.
        let Ok(header) = header else { continue };
        if header.circuit == circuit && header.key_id.hash == id.hash {
            return store.open(circuit, &header.identity, &header.key_id);
        }
    }
    let missing = || KeyStoreError::Missing {
        circuit,
        key: *id,
        path: store.directory().to_owned(),
    };
    if id.origin != KeyOrigin::InsecureDev {
        return Err(missing());
    }
    let key = store.open_development_key(circuit, &Seed::development())?;
    if key.id().hash == id.hash {
        Ok(key)
    } else {
        Err(missing())
    }
}

//! The rollup contract: found where the configuration says, or deployed on the embedded chain; and the keys that it trusts.
//!
//! ```text
//! configured address → answers as a rollup? → its circuits and verifying keys
//! embedded chain → address in the data folder, if there is code → as above
//!                → none: development keys → deploy → remember the address
//! another chain  → `millrace deploy`: development keys, if they are permitted there → deploy → address for the configuration
//! ```
//!
//! Verifying keys are read from the contract, so what this node calls a valid proof is what the contract calls one.

use super::StartError;
use super::chain::L1;
use super::keys;
use crate::config::Config;
use alloy::primitives::{Address, B256, U256};
use alloy::providers::Provider;
use millrace_circuits::batch::Shape;
use millrace_circuits::types::L1Address;
use millrace_l1::bindings::IRollup;
use millrace_l1::rollup_client::{Landed, RollupClient};
use millrace_l1::sender::{FileStore, Policy, TransactionSender};
use millrace_prover::circuit::Circuit;
use millrace_prover::evm::{EvmWord, VerifyingKeyWords};
use millrace_prover::groth16::VerifyingKey;
use millrace_prover::key::{DEVELOPMENT_CHAINS, KeyId, KeyOrigin, KeyStore, permit_key};
use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

/// Base fee of an L1 request unless told: 0.0001 ETH, in wei.
pub const REQUEST_FEE: u128 = 100_000_000_000_000;
/// Seconds between the deadlines of two requests unless told.
pub const REQUEST_SPACING_SECS: u32 = 1;
/// Words of a verifying key with three public inputs.
const KEY_WORDS: usize = 22;

/// The contract and what it trusts.
#[derive(Clone)]
pub struct Contract {
    /// Its client.
    pub client: RollupClient,
    /// Its circuits that this node knows, smallest first.
    pub shapes: Vec<Shape>,
    /// Their verifying keys.
    pub keys: BTreeMap<Circuit, (KeyId, VerifyingKey)>,
    /// Whether this operator may commit outside the open phase.
    pub is_operator: bool,
    /// Its first block that matters.
    pub from_block: u64,
}

impl Contract {
    /// Its address.
    pub fn address(&self) -> L1Address {
        L1Address(self.client.address().into_array())
    }
}

/// The sender of this node's L1 transactions, which remembers them across restarts.
///
/// # Errors
/// If its file is damaged.
pub fn sender(l1: &L1, data_dir: &Path) -> Result<Option<TransactionSender>, StartError> {
    let Some(signer) = l1.operator.clone() else {
        return Ok(None);
    };
    let store = FileStore::open(&data_dir.join("l1-transactions.json"))
        .map_err(|error| StartError::SenderStore(error.to_string()))?;
    Ok(Some(TransactionSender::new(
        l1.provider.clone(),
        signer,
        Arc::new(store),
        Policy::default(),
    )))
}

/// Finds the contract, or deploys it on the embedded chain.
///
/// # Errors
/// If there is none where one should be, its keys may not guard money on this chain, or it has no circuit in common with
/// the configuration.
pub async fn find_or_deploy(
    config: &Config,
    l1: &L1,
    sender: Option<&TransactionSender>,
) -> Result<Contract, StartError> {
    let client = match config.l1.contract {
        Some(address) => RollupClient::connect(&l1.provider, Address::from(address.0)).await?,
        None => match deployed_before(config, l1).await? {
            Some(client) => client,
            None => deploy_embedded(config, l1, sender).await?,
        },
    };
    read(config, l1, client).await
}

async fn deployed_before(config: &Config, l1: &L1) -> Result<Option<RollupClient>, StartError> {
    let Ok(text) = std::fs::read_to_string(address_file(&config.data_dir)) else {
        return Ok(None);
    };
    let Ok(address) = text.trim().parse::<Address>() else {
        return Ok(None);
    };
    // The chain's file may be older than the address, after a crash.
    Ok(RollupClient::connect(&l1.provider, address).await.ok())
}

fn address_file(data_dir: &Path) -> std::path::PathBuf {
    data_dir.join("contract")
}

/// Deploys on the embedded chain, and remembers where.
async fn deploy_embedded(
    config: &Config,
    l1: &L1,
    sender: Option<&TransactionSender>,
) -> Result<RollupClient, StartError> {
    let (Some(sender), Some(operator)) = (sender, l1.operator_address()) else {
        return Err(StartError::NoContract);
    };
    let landed = deploy(config, sender, Terms::of(operator)).await?;
    let address = landed.value.address();
    std::fs::write(address_file(&config.data_dir), format!("{address}\n")).map_err(|source| {
        StartError::DataDir {
            path: address_file(&config.data_dir),
            source,
        }
    })?;
    Ok(landed.value)
}

/// What a deployment fixes for ever beside its circuits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Terms {
    /// Who may commit batches outside the open phase.
    pub operator: Address,
    /// Base fee of an L1 request, in wei.
    pub request_fee: u128,
    /// Seconds between the deadlines of two requests.
    pub request_spacing_secs: u32,
}

impl Terms {
    /// The terms of a deployment that names nothing but its operator.
    pub fn of(operator: Address) -> Self {
        Self {
            operator,
            request_fee: REQUEST_FEE,
            request_spacing_secs: REQUEST_SPACING_SECS,
        }
    }
}

/// Deploys a rollup that trusts the development keys of the configured circuits, which are made if they are not there.
///
/// # Errors
/// If such keys may not guard money on this chain, or the deployment does not land.
pub async fn deploy(
    config: &Config,
    sender: &TransactionSender,
    terms: Terms,
) -> Result<Landed<RollupClient>, StartError> {
    let (store, shapes) = (keys::store(config)?, config.shapes());
    let made = tokio::task::spawn_blocking(move || keys::development(&store, &shapes)).await;
    let made = made.map_err(|error| StartError::Keys(error.to_string()))??;
    let (chain_id, allowed) = (sender.l1().chain_id(), config.prover.allow_insecure_keys);
    for (_, key) in &made {
        permit_key(&KeyId::of(key, KeyOrigin::InsecureDev), chain_id, allowed)?;
    }
    let terms = IRollup::Config {
        operator: terms.operator,
        ceremony: B256::ZERO,
        requestFee: terms.request_fee,
        requestSpacing: terms.request_spacing_secs,
        circuits: made
            .iter()
            .map(|(shape, key)| circuit(shape, key))
            .collect(),
    };
    let landed = RollupClient::deploy(sender, "deploy-rollup", terms).await?;
    let address = landed.value.address();
    tracing::info!(%address, gas = landed.receipt.gas_used, "deployed the rollup contract");
    Ok(landed)
}

/// A circuit and its key as the contract's constructor takes them.
pub fn circuit(shape: &Shape, key: &VerifyingKey) -> IRollup::Circuit {
    let narrow =
        |number: usize| u16::try_from(number).expect("a circuit's capacities are below 2^16");
    let words = VerifyingKeyWords::of(key);
    let number = |word: EvmWord| U256::from_be_bytes(word);
    IRollup::Circuit {
        id: shape.id,
        l1Rows: narrow(shape.l1_rows),
        txRows: narrow(shape.transaction_rows),
        key: IRollup::VerifyingKey {
            alpha: words.alpha.map(number),
            beta: words.beta.map(number),
            gamma: words.gamma.map(number),
            delta: words.delta.map(number),
            ic: words
                .ic
                .into_iter()
                .map(|point| point.map(number))
                .collect(),
        },
    }
}

async fn read(config: &Config, l1: &L1, client: RollupClient) -> Result<Contract, StartError> {
    let is_operator = l1.operator_address() == Some(client.operator().await?);
    let ceremony = client.ceremony().await?;
    let (mut shapes, mut trusted) = (vec![], BTreeMap::new());
    for shape in config.shapes() {
        let deployed = client.circuit(shape.id).await?;
        if deployed.key == Address::ZERO {
            continue;
        }
        let sizes = (usize::from(deployed.l1Rows), usize::from(deployed.txRows));
        if sizes != (shape.l1_rows, shape.transaction_rows) {
            return Err(StartError::OtherCircuit { id: shape.id });
        }
        let key = read_key(l1, deployed.key, shape.id).await?;
        let origin = if ceremony == B256::ZERO {
            KeyOrigin::InsecureDev
        } else {
            KeyOrigin::Ceremony
        };
        let id = KeyId::of(&key, origin);
        permit_key(
            &id,
            l1.provider.chain_id(),
            config.prover.allow_insecure_keys,
        )?;
        trusted.insert(Circuit::Batch(shape), (id, key));
        shapes.push(shape);
    }
    if shapes.is_empty() {
        return Err(StartError::NoCommonCircuit {
            wanted: config.sequencer.circuits.clone(),
        });
    }
    let from_block = config.l1.from_block;
    Ok(Contract {
        client,
        shapes,
        keys: trusted,
        is_operator,
        from_block,
    })
}

/// Reads a verifying key from the code of the contract that holds it: 0x00, −α, β, −γ, −δ, IC.
async fn read_key(l1: &L1, holder: Address, circuit: u16) -> Result<VerifyingKey, StartError> {
    let code = l1.provider.provider().get_code_at(holder).await;
    let code = code.map_err(|error| StartError::Keys(millrace_l1::provider::explain(&error)))?;
    let unreadable = || StartError::ContractKey { circuit };
    let words: Vec<EvmWord> = code
        .get(1..)
        .unwrap_or_default()
        .chunks_exact(32)
        .map(|chunk| <EvmWord>::try_from(chunk).expect("chunks of exactly 32 bytes"))
        .collect();
    let words: [EvmWord; KEY_WORDS] = words.try_into().map_err(|_| unreadable())?;
    key_of_words(&words).ok_or_else(unreadable)
}

fn key_of_words(words: &[EvmWord; KEY_WORDS]) -> Option<VerifyingKey> {
    let g2 = |from: usize| {
        [
            words[from],
            words[from + 1],
            words[from + 2],
            words[from + 3],
        ]
    };
    let held = VerifyingKeyWords {
        alpha: [words[0], words[1]],
        beta: g2(2),
        gamma: g2(6),
        delta: g2(10),
        ic: (14..KEY_WORDS)
            .step_by(2)
            .map(|i| [words[i], words[i + 1]])
            .collect(),
    };
    // The contract holds −α, −γ and −δ: negating them once more gives the key.
    VerifyingKeyWords::negated(&held.to_key().ok()?)
        .to_key()
        .ok()
}

/// Whether a chain is for development.
pub fn is_development(chain_id: u64) -> bool {
    DEVELOPMENT_CHAINS.contains(&chain_id)
}

/// The store of proving keys that the configuration names.
///
/// # Errors
/// If there is no home directory to keep keys in.
pub fn key_store(config: &Config) -> Result<KeyStore, StartError> {
    keys::store(config)
}

#[cfg(test)]
mod tests {
    use super::*;
    use millrace_prover::key::CircuitKey;
    use millrace_prover::setup::Seed;

    #[test]
    fn a_key_survives_the_contracts_form() {
        let key = CircuitKey::generate(Circuit::Chain(3), &Seed::development()).unwrap();
        let words: [EvmWord; KEY_WORDS] = VerifyingKeyWords::negated(key.verifying_key())
            .flat()
            .try_into()
            .unwrap();
        let read = key_of_words(&words).unwrap();
        assert_eq!(KeyId::of(&read, KeyOrigin::InsecureDev), key.id);
        let mut broken = words;
        broken[0][31] ^= 1;
        assert!(key_of_words(&broken).is_none());
    }
}

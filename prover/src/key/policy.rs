//! Which keys may guard money on which chain.

use super::{KeyId, KeyOrigin};
use thiserror::Error;

/// Chain ids of development chains: anvil's and Hardhat's, and Geth's and Ganache's.
pub const DEVELOPMENT_CHAINS: [u64; 2] = [31337, 1337];

/// A development key where real money may be.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error(
    "key {key} is refused on chain {chain_id}: one party knows its secrets and could take all money; \
     use a key from a ceremony, or allow insecure keys explicitly if this chain holds nothing of value"
)]
pub struct RefusedKey {
    /// The key.
    pub key: KeyId,
    /// The chain.
    pub chain_id: u64,
}

/// Refuses INSECURE-DEV keys on every chain that is not known to be a development chain, unless explicitly allowed.
///
/// # Errors
/// [`RefusedKey`] if the key may not be used there.
pub fn permit_key(key: &KeyId, chain_id: u64, allow_insecure: bool) -> Result<(), RefusedKey> {
    match key.origin {
        KeyOrigin::Ceremony => Ok(()),
        KeyOrigin::InsecureDev if DEVELOPMENT_CHAINS.contains(&chain_id) => Ok(()),
        KeyOrigin::InsecureDev if allow_insecure => {
            tracing::warn!(%key, chain_id, "an INSECURE-DEV key is used on a public chain by explicit permission");
            Ok(())
        }
        KeyOrigin::InsecureDev => Err(RefusedKey {
            key: *key,
            chain_id,
        }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(origin: KeyOrigin) -> KeyId {
        KeyId {
            origin,
            hash: [7; 32],
        }
    }

    #[test]
    fn development_keys_are_refused_on_public_chains_only() {
        let development = key(KeyOrigin::InsecureDev);
        for chain_id in DEVELOPMENT_CHAINS {
            assert_eq!(permit_key(&development, chain_id, false), Ok(()));
        }
        for chain_id in [0, 1, 10, 137, 8453, 42161, 11155111, u64::MAX] {
            let refused = permit_key(&development, chain_id, false).unwrap_err();
            assert_eq!(
                refused,
                RefusedKey {
                    key: development,
                    chain_id
                }
            );
            assert!(refused.to_string().contains("INSECURE-DEV"));
            assert_eq!(permit_key(&development, chain_id, true), Ok(()));
        }
    }

    #[test]
    fn ceremony_keys_are_permitted_everywhere() {
        assert_eq!(permit_key(&key(KeyOrigin::Ceremony), 1, false), Ok(()));
    }
}

//! Fees: what the operator asks at least, and which leaves gather them.

use millrace_circuits::account::Owner;
use millrace_circuits::types::{Amount, TokenId};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// The operator's terms.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FeePolicy {
    /// Owner of the leaves that gather fees. A token without a leaf of this owner pays no fee.
    pub owner: Option<Owner>,
    /// Lowest fee by token; a token without an entry needs none.
    pub floors: BTreeMap<TokenId, Amount>,
}

impl FeePolicy {
    /// Gathers nothing and asks nothing.
    pub fn free() -> Self {
        Self {
            owner: None,
            floors: BTreeMap::new(),
        }
    }

    /// Lowest fee of a token.
    pub fn floor(&self, token: TokenId) -> Amount {
        self.floors.get(&token).copied().unwrap_or_default()
    }
}

//! EIP-712 digests: what a key signs, bound to one chain and one contract.
//!
//! `domain(chain, contract) → channel id → digest of a snapshot, a cooperative payout or a close`

use crate::state::{Halves, Params, keccak};
use crate::types::{Address, ChannelId, Hash32, Side, Timestamp};
use serde::{Deserialize, Serialize};
use std::sync::LazyLock;

/// `name` of the domain.
pub const DOMAIN_NAME: &str = "Millrace Channel";
/// `version` of the domain.
pub const DOMAIN_VERSION: &str = "1";

static DOMAIN_TYPE: LazyLock<[u8; 32]> = LazyLock::new(|| {
    keccak(b"EIP712Domain(string name,string version,uint256 chainId,address verifyingContract)")
});
static SNAPSHOT_TYPE: LazyLock<[u8; 32]> = LazyLock::new(|| {
    keccak(
        b"Snapshot(bytes32 channelId,uint64 versionA,uint112 paidA,bytes32 locksA,\
          uint64 versionB,uint112 paidB,bytes32 locksB)",
    )
});
static COOP_TYPE: LazyLock<[u8; 32]> = LazyLock::new(|| {
    keccak(b"Coop(bytes32 channelId,uint32 epoch,uint112 payA,uint112 payB,uint64 validUntil)")
});
static CLOSE_TYPE: LazyLock<[u8; 32]> =
    LazyLock::new(|| keccak(b"Close(bytes32 channelId,uint64 validUntil)"));

/// One contract on one chain.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Domain {
    /// EIP-155 chain id.
    pub chain_id: u64,
    /// The `Channels` contract.
    pub contract: Address,
}

/// Words of `abi.encode`.
static NAME_HASH: LazyLock<[u8; 32]> = LazyLock::new(|| keccak(DOMAIN_NAME.as_bytes()));
static VERSION_HASH: LazyLock<[u8; 32]> = LazyLock::new(|| keccak(DOMAIN_VERSION.as_bytes()));

struct Words(Vec<u8>);

impl Words {
    fn new(first: [u8; 32]) -> Self {
        let mut words = Vec::with_capacity(8 * 32);
        words.extend(first);
        Self(words)
    }

    fn bytes(mut self, bytes: &[u8; 32]) -> Self {
        self.0.extend(bytes);
        self
    }

    fn number(mut self, number: u128) -> Self {
        self.0.extend([0; 16]);
        self.0.extend(number.to_be_bytes());
        self
    }

    fn address(mut self, address: Address) -> Self {
        self.0.extend([0; 12]);
        self.0.extend(address.0);
        self
    }

    fn hash(&self) -> [u8; 32] {
        keccak(&self.0)
    }
}

impl Domain {
    /// The domain separator.
    pub fn separator(&self) -> Hash32 {
        let words = Words::new(*DOMAIN_TYPE)
            .bytes(&NAME_HASH)
            .bytes(&VERSION_HASH)
            .number(u128::from(self.chain_id))
            .address(self.contract);
        Hash32(words.hash())
    }
}

/// The id of a channel: `keccak256(abi.encode(separator, params))`.
pub fn channel_id(separator: &Hash32, params: &Params) -> ChannelId {
    let words = Words::new(separator.0)
        .address(params.signer_a)
        .address(params.payout_a)
        .address(params.signer_b)
        .address(params.payout_b)
        .address(params.token)
        .number(u128::from(params.window_secs))
        .number(u128::from(params.salt));
    ChannelId(words.hash())
}

/// A cooperative payout of free balances.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Coop {
    /// The channel's count of payouts: each epoch pays once.
    pub epoch: u32,
    /// To side A's payout address.
    pub pay_a: u128,
    /// To side B's payout address.
    pub pay_b: u128,
    /// Last L1 time at which it executes.
    pub valid_until: Timestamp,
}

impl Coop {
    /// What a side gets.
    pub fn pay(&self, side: Side) -> u128 {
        match side {
            Side::A => self.pay_a,
            Side::B => self.pay_b,
        }
    }
}

fn typed(separator: &Hash32, struct_hash: [u8; 32]) -> Hash32 {
    let mut bytes = [0; 66];
    bytes[..2].copy_from_slice(&[0x19, 0x01]);
    bytes[2..34].copy_from_slice(&separator.0);
    bytes[34..].copy_from_slice(&struct_hash);
    Hash32(keccak(&bytes))
}

/// What both sides sign of a pair of halves.
pub fn snapshot(separator: &Hash32, channel: &ChannelId, halves: &Halves) -> Hash32 {
    let words = Words::new(*SNAPSHOT_TYPE)
        .bytes(&channel.0)
        .number(u128::from(halves.a.version))
        .number(halves.a.paid)
        .bytes(&halves.a.locks.0)
        .number(u128::from(halves.b.version))
        .number(halves.b.paid)
        .bytes(&halves.b.locks.0);
    typed(separator, words.hash())
}

/// What both sides sign of a cooperative payout.
pub fn coop(separator: &Hash32, channel: &ChannelId, coop: &Coop) -> Hash32 {
    let words = Words::new(*COOP_TYPE)
        .bytes(&channel.0)
        .number(u128::from(coop.epoch))
        .number(coop.pay_a)
        .number(coop.pay_b)
        .number(u128::from(coop.valid_until));
    typed(separator, words.hash())
}

/// What lets somebody else, a watchtower, open the dispute for a signer.
pub fn close(separator: &Hash32, channel: &ChannelId, valid_until: Timestamp) -> Hash32 {
    let words = Words::new(*CLOSE_TYPE)
        .bytes(&channel.0)
        .number(u128::from(valid_until));
    typed(separator, words.hash())
}

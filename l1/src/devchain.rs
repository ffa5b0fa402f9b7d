//! An Ethereum chain inside the process: revm behind alloy's transport.
//!
//! ```text
//! alloy provider ─ transport ─┐
//! HTTP body ───── handle ─────┤→ rpc → chain: pool → mine → blocks, world
//! Rust test ──── DevChain ────┘                 └─ reorg, snapshot, clock, state file
//! ```
//!
//! It follows mainnet's rules where a contract or a client can notice: hardfork Osaka with EIP-7825's gas cap, precompiles,
//! nonces, EIP-1559 fees and replacement, revert data, log queries, receipts, and real block hashes. It differs where a
//! developer wants it to: transactions are mined at once unless told otherwise, time can be moved, blocks can be dropped.
//! The base fee stays where it is put. There is no peer, no state trie and no history pruning.
//!
//! | file | holds |
//! |---|---|
//! | `chain` | submit, mine, reorg |
//! | `world` | accounts and storage, with undo |
//! | `pool`, `clock`, `block`, `evm` | one noun each |
//! | `rpc` | the JSON-RPC methods |
//! | `transport` | alloy's side |
//! | `persist`, `journal` | the state file |

pub mod block;
pub mod chain;
pub mod clock;
pub mod error;
pub mod evm;
mod journal;
mod persist;
pub mod pool;
mod rpc;
mod transport;
pub mod world;

#[cfg(test)]
mod tests;

pub use block::{MinedBlock, MinedTransaction};
pub use chain::{Orphans, Reorg};
pub use clock::TimeSource;
pub use error::DevChainError;

use alloy::{
    consensus::TxEnvelope,
    primitives::{Address, B256, U256},
    signers::local::{MnemonicBuilder, PrivateKeySigner, coins_bip39::English},
};
use chain::Chain;
use journal::Journal;
use std::{
    path::Path,
    sync::{Arc, Mutex, MutexGuard, OnceLock},
};

/// Chain id of a dev chain unless another is asked for; anvil uses the same.
pub const DEV_CHAIN_ID: u64 = 31337;
/// The public mnemonic of development keys. Never a place for money that is worth something.
pub const DEV_MNEMONIC: &str = "test test test test test test test test test test test junk";
/// How many accounts of the development mnemonic are funded at genesis.
pub const FUNDED_ACCOUNTS: u32 = 10;
/// How many snapshots are kept.
pub const SNAPSHOT_LIMIT: usize = 64;

/// How a dev chain begins.
#[derive(Clone, Debug)]
pub struct DevChainConfig {
    /// Chain id.
    pub chain_id: u64,
    /// Accounts that own wei at genesis.
    pub funded: Vec<(Address, U256)>,
    /// Where time comes from.
    pub time: TimeSource,
    /// Genesis time in seconds since 1970; by default now, or a fixed time where time comes in steps.
    pub genesis_time: Option<u64>,
    /// Base fee in wei per gas.
    pub base_fee: u64,
    /// Gas that a block holds.
    pub block_gas_limit: u64,
    /// Whether a transaction is mined as soon as it is ready.
    pub automine: bool,
}

impl Default for DevChainConfig {
    fn default() -> Self {
        Self {
            chain_id: DEV_CHAIN_ID,
            funded: (0..FUNDED_ACCOUNTS)
                .map(|index| (dev_signer(index).address(), dev_balance()))
                .collect(),
            time: TimeSource::Wall,
            genesis_time: None,
            base_fee: 1_000_000_000,
            block_gas_limit: 60_000_000,
            automine: true,
        }
    }
}

impl DevChainConfig {
    /// The default, with time that does not look at the wall's clock: equal inputs give equal block hashes.
    pub fn deterministic() -> Self {
        Self {
            time: TimeSource::Steps(12),
            ..Self::default()
        }
    }
}

/// The signer of the development mnemonic's account `index`: the same keys as anvil's.
pub fn dev_signer(index: u32) -> PrivateKeySigner {
    // Deriving a key is slow on purpose, and tests ask for the same few again and again.
    static FUNDED: OnceLock<Vec<PrivateKeySigner>> = OnceLock::new();
    let funded = FUNDED.get_or_init(|| (0..FUNDED_ACCOUNTS).map(derive_dev_signer).collect());
    let found = funded.get(index as usize);
    found.cloned().unwrap_or_else(|| derive_dev_signer(index))
}

fn derive_dev_signer(index: u32) -> PrivateKeySigner {
    let builder = MnemonicBuilder::<English>::default()
        .phrase(DEV_MNEMONIC)
        .index(index);
    let signer = builder.and_then(|builder| builder.build());
    signer.expect("the development mnemonic is valid and every index derives")
}

/// What a development account owns at genesis: 10,000 ETH, in wei.
pub fn dev_balance() -> U256 {
    U256::from(10_000u64) * U256::from(1_000_000_000_000_000_000u64)
}

/// A handle to a dev chain. Clones share the chain.
#[derive(Clone, Debug)]
pub struct DevChain {
    shared: Arc<Mutex<Shared>>,
}

#[derive(Debug)]
struct Shared {
    chain: Chain,
    snapshots: Vec<(u64, Chain)>,
    next_snapshot: u64,
    journal: Option<Journal>,
}

impl Default for DevChain {
    fn default() -> Self {
        Self::new(DevChainConfig::default())
    }
}

impl DevChain {
    /// A new chain.
    pub fn new(config: DevChainConfig) -> Self {
        Self::from_chain(Chain::new(&config), None)
    }

    fn from_chain(chain: Chain, journal: Option<Journal>) -> Self {
        let shared = Shared {
            chain,
            snapshots: vec![],
            next_snapshot: 0,
            journal,
        };
        Self {
            shared: Arc::new(Mutex::new(shared)),
        }
    }

    /// The chain in the state file, or a new one where there is no file. The file stays as it is.
    ///
    /// # Errors
    /// The file is damaged, or belongs to another version or chain id.
    pub fn open(path: &Path, config: DevChainConfig) -> Result<Self, DevChainError> {
        Ok(Self::from_chain(read_or_new(path, config)?, None))
    }

    /// The chain in the state file, or a new one; the file follows every change before it is answered, so that the chain
    /// survives the death of the process at any instant. One process may hold a file at a time.
    ///
    /// # Errors
    /// The file is damaged, belongs to another version or chain id, or cannot be written.
    pub fn open_durable(path: &Path, config: DevChainConfig) -> Result<Self, DevChainError> {
        let chain = read_or_new(path, config)?;
        let journal = Journal::begin(path, &chain)?;
        Ok(Self::from_chain(chain, Some(journal)))
    }

    /// Writes the whole chain to a file, from which `open` or `load_state` goes on.
    pub fn dump_state(&self, path: &Path) -> Result<(), DevChainError> {
        // The clone keeps the chain usable while the file is written.
        let chain = self.lock().chain.clone();
        persist::save(&chain, path)
    }

    /// Replaces the chain by the one in a file.
    pub fn load_state(&self, path: &Path) -> Result<(), DevChainError> {
        let mut shared = self.lock();
        let loaded = persist::load(path, shared.chain.chain_id)?;
        shared.chain.restore(loaded);
        shared.snapshots.clear();
        shared.follow()
    }

    /// Chain id.
    pub fn chain_id(&self) -> u64 {
        self.lock().chain.chain_id
    }

    /// Number of the newest block.
    pub fn height(&self) -> u64 {
        self.lock().chain.height()
    }

    /// The newest block.
    pub fn head(&self) -> Arc<MinedBlock> {
        Arc::clone(self.lock().chain.head())
    }

    /// The block with this number.
    pub fn block(&self, number: u64) -> Option<Arc<MinedBlock>> {
        self.lock().chain.block(number).cloned()
    }

    /// Mines one block with all that is ready.
    pub fn mine(&self) -> Arc<MinedBlock> {
        self.change(Chain::mine)
    }

    /// Switches mining on every transaction on or off.
    pub fn set_automine(&self, automine: bool) {
        self.change(|chain| chain.automine = automine);
    }

    /// Sets the base fee of coming blocks, in wei per gas.
    pub fn set_base_fee(&self, base_fee: u64) {
        self.change(|chain| chain.base_fee = base_fee);
    }

    /// Moves time forward for all coming blocks.
    pub fn increase_time(&self, secs: u64) {
        self.change(|chain| chain.clock.increase(secs));
    }

    /// Fixes the time of the next block.
    pub fn set_next_timestamp(&self, time: u64) -> Result<(), DevChainError> {
        self.change(|chain| {
            let head_time = chain.head().header.timestamp;
            chain.clock.set_next(time, head_time)
        })
    }

    /// Sets an account's balance in wei.
    pub fn set_balance(&self, address: Address, balance: U256) {
        self.change(|chain| {
            let account = chain.world.account(address);
            let changed = world::Account { balance, ..account };
            chain.world_mut().set_account(address, changed);
        });
    }

    /// Hashes of the transactions that wait.
    pub fn pooled(&self) -> Vec<B256> {
        self.lock()
            .chain
            .pool
            .iter()
            .map(pool::PooledTransaction::hash)
            .collect()
    }

    /// Forgets a waiting transaction, as a node does that runs out of room. Returns whether it waited.
    pub fn drop_pooled(&self, hash: B256) -> bool {
        self.change(|chain| chain.pool.remove_hash(hash).is_some())
    }

    /// Drops the last blocks and mines others in their place. The chain stays as it was on an error.
    pub fn reorg(&self, reorg: &Reorg) -> Result<(), DevChainError> {
        self.change(|chain| chain.reorg(reorg))
    }

    /// Drops the last `depth` blocks and mines as many in their place, with those of the dropped transactions that `keep` wants.
    /// The others are forgotten. Kept transactions stay in their order; the first new block has them all.
    pub fn reorg_keeping(
        &self,
        depth: u64,
        keep: impl Fn(&MinedTransaction) -> bool,
    ) -> Result<(), DevChainError> {
        self.change(|chain| {
            let first = (chain.height() + 1).saturating_sub(depth);
            let dropped = (first..=chain.height()).filter_map(|number| chain.block(number));
            let transactions = dropped.flat_map(|block| &block.transactions);
            let kept: Vec<TxEnvelope> = transactions
                .filter(|transaction| keep(transaction))
                .map(|transaction| transaction.envelope.clone())
                .collect();
            let mut blocks = vec![vec![]; depth as usize];
            if let Some(first) = blocks.first_mut() {
                *first = kept;
            }
            let orphans = Orphans::Forget;
            chain.reorg(&Reorg {
                depth,
                blocks,
                orphans,
            })
        })
    }

    /// Remembers the chain as it is and returns the snapshot's id.
    pub fn snapshot(&self) -> u64 {
        self.lock().snapshot()
    }

    /// Puts a snapshot back; it and later ones are used up. Returns whether there was one.
    pub fn revert(&self, id: u64) -> bool {
        let mut shared = self.lock();
        let found = shared.revert(id);
        shared.follow_or_log();
        found
    }

    /// Changes the chain and has the state file follow.
    fn change<T>(&self, change: impl FnOnce(&mut Chain) -> T) -> T {
        let mut shared = self.lock();
        let outcome = change(&mut shared.chain);
        shared.follow_or_log();
        outcome
    }

    fn lock(&self) -> MutexGuard<'_, Shared> {
        self.shared
            .lock()
            .expect("no code panics while it holds the chain's lock")
    }
}

fn read_or_new(path: &Path, config: DevChainConfig) -> Result<Chain, DevChainError> {
    if path.exists() {
        return persist::load(path, config.chain_id);
    }
    Ok(Chain::new(&config))
}

impl Shared {
    /// Writes to the state file what has changed, if there is a file.
    fn follow(&mut self) -> Result<(), DevChainError> {
        let Shared { chain, journal, .. } = self;
        journal
            .as_mut()
            .map_or(Ok(()), |journal| journal.follow(chain))
    }

    /// As `follow`, where the caller has no way to hear of a failure. The next request tries again and reports it.
    fn follow_or_log(&mut self) {
        if let Err(error) = self.follow() {
            tracing::error!(%error, "the dev chain's state file does not follow");
        }
    }

    fn snapshot(&mut self) -> u64 {
        let id = self.next_snapshot;
        self.next_snapshot += 1;
        if self.snapshots.len() == SNAPSHOT_LIMIT {
            self.snapshots.remove(0);
        }
        self.snapshots.push((id, self.chain.clone()));
        id
    }

    fn revert(&mut self, id: u64) -> bool {
        let Some(position) = self.snapshots.iter().position(|(have, _)| *have == id) else {
            return false;
        };
        let (_, snapshot) = self.snapshots.swap_remove(position);
        self.snapshots.truncate(position);
        self.chain.restore(snapshot);
        true
    }
}

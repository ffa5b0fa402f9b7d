//! The chain itself: submit → pool → mine → block → head; and back again by reorg.
//!
//! Everything here is plain data and ordinary functions: no lock, no task, and no clock but the one passed in by
//! configuration. `DevChain` puts it behind a mutex.

use super::{
    DevChainConfig,
    block::{MinedBlock, MinedTransaction},
    clock::Clock,
    error::DevChainError,
    evm::{self, BlockEnvironment, Rules, TRANSACTION_GAS_CAP},
    pool::Pool,
    world::{Account, Undo, View, World},
};
use alloy::{
    consensus::{
        Transaction, TxEip4844Variant, TxEnvelope, Typed2718, transaction::SignerRecoverable,
    },
    eips::{BlockId, BlockNumberOrTag, eip2718::Decodable2718},
    primitives::{Address, B256, U256, keccak256},
};
use revm::context::result::ExecutionResult;
use serde::{Deserialize, Serialize};
use std::{collections::HashMap, sync::Arc};

/// Blocks behind the head at which the `safe` tag stands.
pub const SAFE_DEPTH: u64 = 32;
/// Blocks behind the head at which the `finalized` tag stands.
pub const FINALIZED_DEPTH: u64 = 64;

/// Where a transaction is: block number and index.
type Place = (u64, usize);

/// Which state a request looks at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum At {
    /// After the block with this number.
    Block(u64),
    /// After the block that would be mined now.
    Pending,
}

/// What becomes of transactions that a reorg drops and does not include again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Orphans {
    /// They are gone, as if never sent.
    Forget,
    /// They wait in the pool again, as on a real node.
    ReturnToPool,
}

/// A change of the chain's last blocks.
#[derive(Clone, Debug)]
pub struct Reorg {
    /// How many blocks are dropped from the head.
    pub depth: u64,
    /// The blocks that take their place, each with its transactions in order.
    pub blocks: Vec<Vec<TxEnvelope>>,
    /// What becomes of the other dropped transactions.
    pub orphans: Orphans,
}

/// What is set by hand and moves with time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Settings {
    automine: bool,
    base_fee: u64,
    clock: Clock,
    fork: u64,
}

/// State, blocks, pool and clock of a dev chain.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Chain {
    /// Chain id, as transactions are signed for it.
    pub chain_id: u64,
    /// Whether a transaction is mined as soon as it is ready.
    pub automine: bool,
    /// Base fee of the next block, in wei per gas.
    pub base_fee: u64,
    /// Gas that a block holds.
    pub block_gas_limit: u64,
    /// State at the head.
    pub world: World,
    /// What waits.
    pub pool: Pool,
    /// What time it is.
    pub clock: Clock,
    /// How often the chain was forked; sets the blocks of a new branch apart from the old one's.
    fork: u64,
    blocks: Vec<Arc<MinedBlock>>,
    #[serde(skip)]
    places: HashMap<B256, Place>,
    #[serde(skip)]
    numbers: HashMap<B256, u64>,
    /// Something other than blocks has changed the world since the state file was written.
    #[serde(skip)]
    rewritten: bool,
}

impl Chain {
    /// A chain with nothing but its genesis block.
    pub fn new(config: &DevChainConfig) -> Self {
        let mut world = World::default();
        for (address, balance) in &config.funded {
            world.set_account(
                *address,
                Account {
                    balance: *balance,
                    ..Account::default()
                },
            );
        }
        let clock = Clock::new(config.time);
        let timestamp = config.genesis_time.unwrap_or_else(|| clock.genesis());
        let environment = BlockEnvironment {
            number: 0,
            timestamp,
            base_fee: config.base_fee,
            gas_limit: config.block_gas_limit,
            prevrandao: keccak256("genesis"),
        };
        let genesis = MinedBlock::seal(B256::ZERO, &environment, 0, vec![], Undo::default());
        let mut chain = Self {
            chain_id: config.chain_id,
            automine: config.automine,
            base_fee: config.base_fee,
            block_gas_limit: config.block_gas_limit,
            world,
            pool: Pool::default(),
            clock,
            fork: 0,
            blocks: vec![Arc::new(genesis)],
            places: HashMap::new(),
            numbers: HashMap::new(),
            rewritten: false,
        };
        chain.index();
        chain
    }

    /// Rebuilds the look-up tables, which are not stored.
    pub fn index(&mut self) {
        self.places.clear();
        self.numbers.clear();
        for block in self.blocks.clone() {
            self.index_block(&block);
        }
    }

    fn index_block(&mut self, block: &MinedBlock) {
        let number = block.header.number;
        self.numbers.insert(block.hash, number);
        for (index, transaction) in block.transactions.iter().enumerate() {
            self.places.insert(transaction.hash(), (number, index));
        }
    }

    /// The newest block.
    pub fn head(&self) -> &Arc<MinedBlock> {
        self.blocks
            .last()
            .expect("the genesis block is never dropped")
    }

    /// Number of the newest block.
    pub fn height(&self) -> u64 {
        self.head().header.number
    }

    /// The block with this number.
    pub fn block(&self, number: u64) -> Option<&Arc<MinedBlock>> {
        self.blocks.get(usize::try_from(number).ok()?)
    }

    /// The block with this hash, if it is on the chain.
    pub fn block_by_hash(&self, hash: B256) -> Option<&Arc<MinedBlock>> {
        self.numbers
            .get(&hash)
            .and_then(|number| self.block(*number))
    }

    /// The mined transaction with this hash, with its block and index.
    pub fn transaction(&self, hash: B256) -> Option<(&Arc<MinedBlock>, usize)> {
        let (number, index) = *self.places.get(&hash)?;
        self.block(number).map(|block| (block, index))
    }

    /// The block number behind a tag; `None` for pending.
    pub fn number_of(&self, tag: BlockNumberOrTag) -> Option<u64> {
        match tag {
            BlockNumberOrTag::Latest => Some(self.height()),
            BlockNumberOrTag::Pending => None,
            BlockNumberOrTag::Earliest => Some(0),
            BlockNumberOrTag::Safe => Some(self.height().saturating_sub(SAFE_DEPTH)),
            BlockNumberOrTag::Finalized => Some(self.height().saturating_sub(FINALIZED_DEPTH)),
            BlockNumberOrTag::Number(number) => Some(number),
        }
    }

    /// Which state a block id means.
    pub fn at(&self, id: BlockId) -> Result<At, DevChainError> {
        let number = match id {
            BlockId::Hash(hash) => self.numbers.get(&hash.block_hash).copied(),
            BlockId::Number(tag) => match self.number_of(tag) {
                None => return Ok(At::Pending),
                Some(number) => (number <= self.height()).then_some(number),
            },
        };
        number
            .map(At::Block)
            .ok_or_else(|| DevChainError::UnknownBlock(id.to_string()))
    }

    /// What must be undone to look at the state after block `number`.
    pub fn past(&self, number: u64) -> Option<Undo> {
        let later = self
            .blocks
            .get(number as usize + 1..)
            .filter(|later| !later.is_empty())?;
        let mut past = Undo::default();
        later.iter().for_each(|block| past.absorb(&block.undo));
        Some(past)
    }

    /// The state at the head, or with `past` an older one.
    pub fn view<'a>(&'a self, past: Option<&'a Undo>) -> View<'a> {
        View {
            world: &self.world,
            past,
            blocks: &self.blocks,
        }
    }

    /// Runs `look` on the state that `at` means, with the environment of that block.
    pub fn look<T>(
        &mut self,
        at: At,
        look: impl FnOnce(&Chain, View<'_>, &BlockEnvironment) -> T,
    ) -> T {
        match at {
            At::Block(number) => {
                let past = self.past(number);
                let environment = self.environment_of(number);
                look(self, self.view(past.as_ref()), &environment)
            }
            At::Pending => self.with_pending_block(|chain| {
                let environment = chain.next_environment();
                look(chain, chain.view(None), &environment)
            }),
        }
    }

    /// Mines what is ready, looks, and takes it back: what the next block would show.
    pub fn with_pending_block<T>(&mut self, look: impl FnOnce(&mut Chain) -> T) -> T {
        if self.best_in_pool(self.block_gas_limit).is_none() {
            return look(self);
        }
        let (pool, clock) = (self.pool.clone(), self.clock);
        self.mine();
        let seen = look(self);
        self.pop();
        (self.pool, self.clock) = (pool, clock);
        seen
    }

    fn environment_of(&self, number: u64) -> BlockEnvironment {
        let header = &self.blocks[number as usize].header;
        BlockEnvironment {
            number,
            timestamp: header.timestamp,
            base_fee: header.base_fee_per_gas.unwrap_or_default(),
            gas_limit: header.gas_limit,
            prevrandao: header.mix_hash,
        }
    }

    /// The environment of the block that would be mined now.
    pub fn next_environment(&self) -> BlockEnvironment {
        let head = self.head();
        let number = self.height() + 1;
        BlockEnvironment {
            number,
            timestamp: self.clock.peek(head.header.timestamp),
            base_fee: self.base_fee,
            gas_limit: self.block_gas_limit,
            prevrandao: keccak256([head.hash.as_slice(), &number.to_be_bytes()].concat()),
        }
    }

    /// The account's nonce once everything that waits without a gap is mined.
    pub fn pending_nonce(&self, sender: Address) -> u64 {
        self.pool
            .next_nonce(sender, self.world.account(sender).nonce)
    }

    /// Takes a signed transaction in, and mines it where mining is automatic.
    pub fn submit(&mut self, raw: &[u8]) -> Result<B256, DevChainError> {
        let (envelope, sender) = decode(raw)?;
        let hash = *envelope.tx_hash();
        self.admit(&envelope, sender)?;
        let nonce = self.world.account(sender).nonce;
        self.pool.insert(envelope, sender, nonce)?;
        if self.automine {
            self.mine_while_ready(hash)?;
        }
        Ok(hash)
    }

    fn admit(&self, envelope: &TxEnvelope, sender: Address) -> Result<(), DevChainError> {
        let hash = *envelope.tx_hash();
        if self.places.contains_key(&hash) {
            return Err(DevChainError::AlreadyKnown(hash));
        }
        if let Some(have) = envelope.chain_id().filter(|have| *have != self.chain_id) {
            return Err(DevChainError::WrongChain {
                have,
                want: self.chain_id,
            });
        }
        check_limits(envelope, self.block_gas_limit)?;
        let account = self.world.account(sender);
        if envelope.nonce() < account.nonce {
            return Err(DevChainError::NonceTooLow {
                next: account.nonce,
                got: envelope.nonce(),
            });
        }
        let want = highest_cost(envelope);
        if want > account.balance {
            return Err(DevChainError::InsufficientFunds {
                address: sender,
                have: account.balance,
                want,
            });
        }
        Ok(())
    }

    /// Mines blocks as long as something is ready; an error if the named transaction turned out to be invalid.
    fn mine_while_ready(&mut self, submitted: B256) -> Result<(), DevChainError> {
        while self.best_in_pool(self.block_gas_limit).is_some() {
            let refused = self.mine_refusing();
            if let Some((_, error)) = refused.into_iter().find(|(hash, _)| *hash == submitted) {
                return Err(error);
            }
        }
        Ok(())
    }

    fn best_in_pool(&self, gas_left: u64) -> Option<(TxEnvelope, Address)> {
        let nonce = |sender| self.world.account(sender).nonce;
        self.pool
            .best(nonce, self.base_fee, gas_left)
            .map(|best| (best.envelope.clone(), best.sender))
    }

    /// Mines one block with all that is ready and fits.
    pub fn mine(&mut self) -> Arc<MinedBlock> {
        self.mine_refusing();
        Arc::clone(self.head())
    }

    fn mine_refusing(&mut self) -> Vec<(B256, DevChainError)> {
        let mut draft = Draft::new(self.take_environment());
        let mut refused = vec![];
        while let Some((envelope, sender)) = self.best_in_pool(draft.gas_left()) {
            let (hash, nonce) = (*envelope.tx_hash(), envelope.nonce());
            self.pool.remove(sender, nonce);
            if let Err(error) = self.include(&mut draft, envelope, sender) {
                tracing::warn!(%hash, %error, "transaction dropped from the pool");
                refused.push((hash, error));
            }
        }
        self.seal(draft);
        refused
    }

    /// The next environment, with the clock's one-time settings used up.
    fn take_environment(&mut self) -> BlockEnvironment {
        let environment = self.next_environment();
        let timestamp = self.clock.take(self.head().header.timestamp);
        BlockEnvironment {
            timestamp,
            ..environment
        }
    }

    fn include(
        &mut self,
        draft: &mut Draft,
        envelope: TxEnvelope,
        sender: Address,
    ) -> Result<(), DevChainError> {
        let transaction = evm::transaction_env(&envelope, sender)?;
        let executed = evm::execute(
            self.view(None),
            self.chain_id,
            &draft.environment,
            transaction,
            Rules::Transaction,
        )?;
        let undo = self.world.apply(executed.state);
        draft.undo.absorb(&undo);
        draft.push(envelope, sender, executed.result);
        Ok(())
    }

    fn seal(&mut self, draft: Draft) {
        let block = MinedBlock::seal(
            self.head().hash,
            &draft.environment,
            self.fork,
            draft.transactions,
            draft.undo,
        );
        self.index_block(&block);
        self.blocks.push(Arc::new(block));
        let world = &self.world;
        self.pool.prune(|sender| world.account(sender).nonce);
    }

    /// Drops the newest block and returns it.
    fn pop(&mut self) -> Arc<MinedBlock> {
        let block = self
            .blocks
            .pop()
            .expect("callers never drop the genesis block");
        self.world.revert(&block.undo);
        self.numbers.remove(&block.hash);
        for transaction in &block.transactions {
            self.places.remove(&transaction.hash());
        }
        block
    }

    /// Drops the last blocks and mines others in their place.
    ///
    /// # Errors
    /// The chain stays as it was if it is too short or a transaction of the new blocks is invalid there.
    pub fn reorg(&mut self, reorg: &Reorg) -> Result<(), DevChainError> {
        let before = self.clone();
        self.try_reorg(reorg).inspect_err(|_| *self = before)
    }

    fn try_reorg(&mut self, reorg: &Reorg) -> Result<(), DevChainError> {
        let dropped = self.rollback(reorg.depth)?;
        for transactions in &reorg.blocks {
            let mut draft = Draft::new(self.take_environment());
            for envelope in transactions {
                let sender = recover(envelope)?;
                self.include(&mut draft, envelope.clone(), sender)?;
            }
            self.seal(draft);
        }
        if reorg.orphans == Orphans::ReturnToPool {
            self.return_to_pool(dropped);
        }
        Ok(())
    }

    fn return_to_pool(&mut self, dropped: Vec<MinedTransaction>) {
        for transaction in dropped {
            let nonce = self.world.account(transaction.sender).nonce;
            if !self.places.contains_key(&transaction.hash()) {
                // One whose nonce is used up on the new branch is gone for good.
                let _ = self
                    .pool
                    .insert(transaction.envelope, transaction.sender, nonce);
            }
        }
    }

    /// Drops the last `depth` blocks and returns their transactions in order.
    pub fn rollback(&mut self, depth: u64) -> Result<Vec<MinedTransaction>, DevChainError> {
        let height = self.height();
        if depth > height {
            return Err(DevChainError::ReorgTooDeep { depth, height });
        }
        let mut dropped: Vec<_> = (0..depth).map(|_| self.pop()).collect();
        dropped.reverse();
        self.fork += 1;
        Ok(dropped
            .iter()
            .flat_map(|block| block.transactions.clone())
            .collect())
    }

    /// Puts a snapshot back. Blocks mined from here on differ from those mined after it the first time.
    pub fn restore(&mut self, snapshot: Chain) {
        let fork = self.fork + 1;
        let rewritten = true;
        *self = Chain {
            fork,
            rewritten,
            ..snapshot
        };
    }

    /// The world, to be changed from outside any block.
    pub fn world_mut(&mut self) -> &mut World {
        self.rewritten = true;
        &mut self.world
    }

    /// Whether the world was changed from outside any block since this was last asked.
    pub fn take_rewritten(&mut self) -> bool {
        std::mem::take(&mut self.rewritten)
    }

    /// What is set by hand and moves with time.
    pub fn settings(&self) -> Settings {
        Settings {
            automine: self.automine,
            base_fee: self.base_fee,
            clock: self.clock,
            fork: self.fork,
        }
    }

    /// Puts settings back.
    pub fn set_settings(&mut self, settings: Settings) {
        self.automine = settings.automine;
        self.base_fee = settings.base_fee;
        self.clock = settings.clock;
        self.fork = settings.fork;
    }

    /// Hashes of the blocks from a number on.
    pub fn hashes_from(&self, number: u64) -> Vec<B256> {
        let blocks = self.blocks.iter().skip(number as usize);
        blocks.map(|block| block.hash).collect()
    }

    /// Drops the blocks after a height and puts others there that were executed before; the world is the caller's matter.
    pub fn replace_after(
        &mut self,
        height: u64,
        blocks: Vec<Arc<MinedBlock>>,
    ) -> Result<(), DevChainError> {
        let depth = self.height().saturating_sub(height);
        self.rollback(depth)?;
        for block in blocks {
            self.index_block(&block);
            self.blocks.push(block);
        }
        Ok(())
    }
}

/// A block in the making.
struct Draft {
    environment: BlockEnvironment,
    transactions: Vec<MinedTransaction>,
    undo: Undo,
}

impl Draft {
    fn new(environment: BlockEnvironment) -> Self {
        Self {
            environment,
            transactions: vec![],
            undo: Undo::default(),
        }
    }

    fn gas_used(&self) -> u64 {
        self.transactions
            .last()
            .map_or(0, |last| last.cumulative_gas_used)
    }

    fn gas_left(&self) -> u64 {
        self.environment.gas_limit.saturating_sub(self.gas_used())
    }

    fn push(&mut self, envelope: TxEnvelope, sender: Address, result: ExecutionResult) {
        let gas_used = result.tx_gas_used();
        let success = result.is_success();
        // Logs of a failed execution were never emitted.
        let logs = if success {
            result.logs().to_vec()
        } else {
            vec![]
        };
        let contract_address = if envelope.is_create() {
            result.created_address()
        } else {
            None
        };
        let cumulative_gas_used = self.gas_used() + gas_used;
        self.transactions.push(MinedTransaction {
            envelope,
            sender,
            success,
            gas_used,
            cumulative_gas_used,
            contract_address,
            logs,
        });
    }
}

/// Decodes a raw transaction, checks its blobs and puts them aside, and recovers the sender.
pub fn decode(raw: &[u8]) -> Result<(TxEnvelope, Address), DevChainError> {
    let mut rest = raw;
    let envelope = TxEnvelope::decode_2718(&mut rest)
        .map_err(|error| DevChainError::Undecodable(error.to_string()))?;
    if !rest.is_empty() {
        return Err(DevChainError::Undecodable(format!(
            "{} bytes follow it",
            rest.len()
        )));
    }
    check_blobs(&envelope)?;
    let envelope = envelope.map_eip4844(|blobs| blobs.strip_sidecar().0);
    let sender = recover(&envelope)?;
    Ok((envelope, sender))
}

fn recover(envelope: &TxEnvelope) -> Result<Address, DevChainError> {
    envelope
        .recover_signer()
        .map_err(|error| DevChainError::InvalidSignature(error.to_string()))
}

fn check_blobs(envelope: &TxEnvelope) -> Result<(), DevChainError> {
    let Some(signed) = envelope.as_eip4844() else {
        return Ok(());
    };
    let TxEip4844Variant::TxEip4844WithSidecar(with_sidecar) = signed.tx() else {
        return Err(DevChainError::InvalidBlob("no blobs came along".into()));
    };
    // The trusted setup is loaded on first use, which takes seconds.
    let settings = alloy::eips::eip4844::env_settings::EnvKzgSettings::Default;
    with_sidecar
        .validate_blob(settings.get())
        .map_err(|error| DevChainError::InvalidBlob(format!("{error:?}")))
}

fn check_limits(envelope: &TxEnvelope, block_gas_limit: u64) -> Result<(), DevChainError> {
    let got = envelope.gas_limit();
    if got > TRANSACTION_GAS_CAP {
        return Err(DevChainError::GasLimitAboveCap {
            cap: TRANSACTION_GAS_CAP,
            got,
        });
    }
    if got > block_gas_limit {
        return Err(DevChainError::GasLimitAboveBlock {
            limit: block_gas_limit,
            got,
        });
    }
    let (max, priority) = (
        envelope.max_fee_per_gas(),
        envelope.max_priority_fee_per_gas().unwrap_or_default(),
    );
    if envelope.ty() >= 2 && priority > max {
        return Err(DevChainError::TipAboveFeeCap { priority, max });
    }
    Ok(())
}

/// The most that a transaction can take from its sender, in wei.
fn highest_cost(envelope: &TxEnvelope) -> U256 {
    let gas =
        U256::from(envelope.gas_limit()).saturating_mul(U256::from(envelope.max_fee_per_gas()));
    let blob_gas = U256::from(envelope.blob_gas_used().unwrap_or_default());
    let blobs = blob_gas.saturating_mul(U256::from(
        envelope.max_fee_per_blob_gas().unwrap_or_default(),
    ));
    gas.saturating_add(blobs).saturating_add(envelope.value())
}

//! A rollup with its L1, sequencer, poster, synchronizer and prover, stepped by the test.

use crate::tokens;
use alloy::primitives::{Address, U256};
use millrace::config::ProofBackend;
use millrace::wallet::keys::{KeySource, Phrase};
use millrace_circuits::account::{Account, Owner};
use millrace_circuits::amount::{FeeCode, Float40};
use millrace_circuits::batch::Shape;
use millrace_circuits::eddsa::SecretKey;
use millrace_circuits::field::Word;
use millrace_circuits::transaction::{
    Action, Domain, SignedTransaction, Transaction, TransactionId,
};
use millrace_circuits::types::{AccountIndex, Amount, BatchNumber, L1Address, Timestamp, TokenId};
use millrace_l1::bindings::Erc20;
use millrace_l1::bindings::IRollup;
use millrace_l1::devchain::DEV_MNEMONIC;
use millrace_l1::provider::L1Provider;
use millrace_l1::rollup_client::RollupClient;
use millrace_l1::rollup_client::{Landed, RollupError};
use millrace_l1::sender::TransactionSender;
use millrace_l1::testing::TestL1;
use millrace_prover::circuit::{Circuit, Statement};
use millrace_prover::evm::VerifyingKeyWords;
use millrace_prover::key::KeyStore;
use millrace_prover::prove::Prover;
use millrace_prover::setup::Seed;
use millrace_rollup::batch_log::{BatchRecord, BatchStage, QueuedRequest};
use millrace_rollup::engine::{EngineConfig, Submitted};
use millrace_rollup::fees::FeePolicy;
use millrace_rollup::handle::{Rollup, RollupTask, now_millis};
use millrace_rollup::l1::L1Error;
use millrace_rollup::l1::convert::{
    PAYOUT_CHUNK, from_address, payouts, to_batch, to_proof, to_stored_batch, to_u256,
};
use millrace_rollup::l1::poster::{Poster, PosterConfig};
use millrace_rollup::l1::synchronizer::{SyncConfig, Synchronizer, restore};
use millrace_rollup::mempool::{MempoolLimits, SubmitError};
use millrace_rollup::store::Store;
use std::sync::{Arc, LazyLock};
use tempfile::TempDir;

/// The circuit of all tests: proves in seconds.
pub const SHAPE: Shape = Shape::TINY;

/// How often a test looks at L1 again before it gives up: some ten seconds.
const LOOKS: usize = 100;

/// One prover for all tests of a process; its development key is made once per machine.
pub static PROVER: LazyLock<Prover> = LazyLock::new(|| prover(ProofBackend::default()));

/// A prover of its own with this backend.
pub fn prover(backend: ProofBackend) -> Prover {
    Prover::new(backend.backend(), |circuit| {
        let store = KeyStore::in_user_cache()?;
        std::fs::create_dir_all(store.directory()).expect("the key cache can be made");
        let lock = std::fs::File::create(store.directory().join(".lock")).expect("a lock file");
        lock.lock()
            .expect("one test process at a time makes the key");
        store.development_key(circuit, &Seed::development())
    })
}

/// The circuits of a deployment with the development key.
pub fn circuits() -> Vec<IRollup::Circuit> {
    let key = PROVER
        .verifying_key(Circuit::Batch(SHAPE))
        .expect("the development key exists");
    let words = VerifyingKeyWords::of(&key);
    let pair = |words: &[[u8; 32]; 2]| words.map(U256::from_be_bytes);
    let four = |words: &[[u8; 32]; 4]| words.map(U256::from_be_bytes);
    vec![IRollup::Circuit {
        id: SHAPE.id,
        l1Rows: SHAPE.l1_rows as u16,
        txRows: SHAPE.transaction_rows as u16,
        key: IRollup::VerifyingKey {
            alpha: pair(&words.alpha),
            beta: four(&words.beta),
            gamma: four(&words.gamma),
            delta: four(&words.delta),
            ic: words.ic.iter().map(pair).collect(),
        },
    }]
}

/// Deploys a rollup with the sender as its operator.
///
/// # Panics
/// If the chain refuses.
pub async fn deploy(operator: &TransactionSender) -> RollupClient {
    let config = IRollup::Config {
        operator: operator.address(),
        ceremony: Default::default(),
        requestFee: 1_000_000_000,
        requestSpacing: 60,
        circuits: circuits(),
    };
    let landed = RollupClient::deploy(operator, &fresh_id("deploy"), config).await;
    landed.expect("the contract deploys").value
}

/// A user with keys on both layers.
pub struct User {
    /// The L2 key.
    pub key: SecretKey,
    /// The L1 account.
    pub sender: TransactionSender,
}

impl User {
    /// The account of the development phrase with this number, on both layers.
    pub fn new(l1: &TestL1, index: u32) -> Self {
        let phrase = Phrase::parse(DEV_MNEMONIC).expect("a phrase");
        let keys = KeySource::Phrase(phrase).keys(index, None);
        let keys = keys.expect("a phrase has keys of all numbers");
        Self {
            key: keys.rollup,
            sender: TransactionSender::in_memory(l1.provider().clone(), keys.l1),
        }
    }

    /// The L1 address.
    pub fn address(&self) -> L1Address {
        from_address(self.sender.address())
    }

    /// The payment address.
    pub fn owner(&self) -> Owner {
        Owner::new(self.address(), &self.key.public_key())
    }
}

/// Everything that runs of one rollup.
pub struct World {
    /// The chain, which others may stand on too.
    pub l1: Arc<TestL1>,
    /// The contract.
    pub client: RollupClient,
    /// The operator: development account 0.
    pub operator: User,
    /// Users: development accounts 1, 2, 3.
    pub users: Vec<User>,
    /// The sequencer.
    pub rollup: Rollup,
    task: Option<RollupTask>,
    /// The task that follows L1.
    pub synchronizer: Synchronizer,
    /// The task that posts.
    pub poster: Poster,
    directory: TempDir,
    sync: SyncConfig,
    part: Part,
    /// Unless the one of all tests proves.
    prover: Option<Arc<Prover>>,
}

/// What a node is to the contract.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Part {
    Operator,
    /// Makes batches, which L1 takes in the open phase only.
    Stranger,
    Follower,
}

/// ETH.
pub const ETH: TokenId = TokenId::ZERO;

impl World {
    /// Deploys the contract and starts a sequencer, with nothing deposited.
    pub async fn start(l1: TestL1) -> Self {
        Self::start_with(l1, SyncConfig::default()).await
    }

    /// As [`Self::start`], following L1 as told.
    pub async fn start_with(l1: TestL1, sync: SyncConfig) -> Self {
        let operator = User::new(&l1, 0);
        let client = deploy(&operator.sender).await;
        Self::on(Arc::new(l1), client, operator, sync, Part::Operator)
    }

    /// A second rollup on the same chain, with the same operator and keys.
    pub async fn deploy_another(&self) -> Self {
        let operator = User::new(&self.l1, 0);
        let client = deploy(&operator.sender).await;
        Self::on(self.l1.clone(), client, operator, self.sync, Part::Operator)
    }

    /// A stranger: development account `index` runs a node of its own on the same contract, knowing L1 alone.
    pub fn join(&self, index: u32) -> Self {
        let stranger = User::new(&self.l1, index);
        let (l1, client) = (self.l1.clone(), self.client.clone());
        Self::on(l1, client, stranger, self.sync, Part::Stranger)
    }

    fn on(
        l1: Arc<TestL1>,
        client: RollupClient,
        operator: User,
        sync: SyncConfig,
        part: Part,
    ) -> Self {
        let users = (1..=3).map(|index| User::new(&l1, index)).collect();
        let directory = tempfile::tempdir().expect("a temporary directory");
        let parts = Parts::start(&l1, &client, &operator, directory.path(), sync, part);
        let Parts {
            rollup,
            task,
            synchronizer,
            poster,
        } = parts;
        Self {
            l1,
            client,
            operator,
            users,
            rollup,
            task: Some(task),
            synchronizer,
            poster,
            directory,
            sync,
            part,
            prover: None,
        }
    }

    /// The connection to L1.
    pub fn provider(&self) -> &L1Provider {
        self.l1.provider()
    }

    /// Stops the sequencer and starts it again on the same database.
    pub async fn restart(&mut self) {
        self.rollup.stop().await;
        let task = self.task.take().expect("it runs");
        task.join().await.expect("it stopped without an error");
        // The old handles keep the database open until they are dropped.
        let elsewhere = tempfile::tempdir().expect("a temporary directory");
        let placeholder = Parts::start(
            &self.l1,
            &self.client,
            &self.operator,
            elsewhere.path(),
            self.sync,
            Part::Follower,
        );
        (self.rollup, self.synchronizer, self.poster) = (
            placeholder.rollup,
            placeholder.synchronizer,
            placeholder.poster,
        );
        let parts = Parts::start(
            &self.l1,
            &self.client,
            &self.operator,
            self.directory.path(),
            self.sync,
            self.part,
        );
        self.rollup.stop().await;
        (self.rollup, self.synchronizer, self.poster) =
            (parts.rollup, parts.synchronizer, parts.poster);
        placeholder
            .task
            .join()
            .await
            .expect("it stopped without an error");
        self.task = Some(parts.task);
    }

    /// The sequencer's database is lost: it starts again on an empty one.
    pub async fn lose_database(&mut self) {
        let empty = tempfile::tempdir().expect("a temporary directory");
        let lost = std::mem::replace(&mut self.directory, empty);
        self.restart().await;
        drop(lost);
    }

    /// Stops the sequencer. Every test ends with it: a database that is open while a process ends makes it abort.
    pub async fn stop(mut self) {
        self.rollup.stop().await;
        let task = self.task.take().expect("it runs");
        task.join().await.expect("it stopped without an error");
    }

    /// Handles everything that L1 shows now.
    pub async fn sync(&mut self) {
        let mut gaps = 0;
        loop {
            match self.synchronizer.step().await {
                Ok(state) if state.handled == state.head => return,
                Ok(_) => {}
                // A node under load still names blocks that a reorganisation took: that ends this step, and nothing more.
                Err(L1Error::Gap(_)) if gaps < LOOKS => gaps += 1,
                Err(error) => panic!("L1 can be followed: {error}"),
            }
        }
    }

    /// Deposits ETH for a user; the sequencer takes it.
    pub async fn deposit(&mut self, user: usize, amount: u128) {
        self.deposit_token(user, ETH, amount).await;
    }

    /// Deposits a registered token (approved before) or ETH.
    pub async fn deposit_token(&mut self, user: usize, token: TokenId, amount: u128) {
        let landed = self.try_deposit(user, token, amount).await;
        landed.expect("the deposit lands");
        self.sync().await;
    }

    /// Deposits, if the contract lets it.
    pub async fn try_deposit(
        &self,
        user: usize,
        token: TokenId,
        amount: u128,
    ) -> Result<Landed<millrace_l1::bindings::Rollup::RequestQueued>, RollupError> {
        let user = &self.users[user];
        let (id, owner) = (fresh_id("deposit"), to_u256(&user.owner().0));
        let token = token.get() as u32;
        self.client
            .deposit(&user.sender, &id, token, amount, owner)
            .await
    }

    /// Registers an ERC-20 and lets users 0 to 2 spend `each` of it in the rollup.
    pub async fn register(&self, token: Address, each: u128) -> TokenId {
        let sender = &self.operator.sender;
        let landed = self
            .client
            .register_token(sender, &fresh_id("register"), token)
            .await;
        let number = landed.expect("the token is registered").value;
        for user in &self.users {
            let signer = self.provider().with_signer(self.l1.signer(1));
            tokens::mint(signer, token, user.sender.address(), U256::from(each)).await;
            let approved = self
                .client
                .approve(&user.sender, &fresh_id("approve"), token, U256::from(each))
                .await;
            approved.expect("the token takes the approval");
        }
        TokenId::new(number.into()).expect("32 bits are a token")
    }

    /// What an L1 account holds of an ERC-20.
    pub async fn token_balance(&self, token: Address, account: Address) -> U256 {
        let erc20 = Erc20::new(token, self.provider().provider().clone());
        erc20.balanceOf(account).call().await.expect("L1 answers")
    }

    /// Deposits ETH for the operator, so that a leaf gathers fees.
    pub async fn deposit_for_operator(&mut self, amount: u128) {
        let owner = to_u256(&self.operator.owner().0);
        let sender = &self.operator.sender;
        let landed = self
            .client
            .deposit(sender, &fresh_id("deposit"), 0, amount, owner)
            .await;
        landed.expect("the deposit lands");
        self.sync().await;
    }

    /// A user's account of a token, as everything acknowledged leaves it.
    pub async fn account(&self, user: usize, token: TokenId) -> (AccountIndex, Account) {
        let owned = self
            .rollup
            .owned(self.users[user].owner())
            .await
            .expect("it runs");
        let found = owned
            .into_iter()
            .find(|(_, account)| account.token == token);
        found.unwrap_or_else(|| panic!("user {user} has no account of token {token}"))
    }

    /// A user's balance of ETH on the rollup.
    pub async fn balance(&self, user: usize) -> u128 {
        self.account(user, ETH).await.1.balance.0
    }

    async fn transaction(
        &self,
        user: usize,
        token: TokenId,
        action: Action,
        fee: u128,
    ) -> Transaction {
        let (from, account) = self.account(user, token).await;
        Transaction {
            from,
            nonce: account.nonce,
            token,
            fee: FeeCode::exact(Amount(fee)).expect("a fee of one digit"),
            action,
            link: Word(0u64.into()),
            valid_until: Timestamp(now_millis() / 1000 + 40 * 86_400 / 2),
        }
    }

    /// An unsigned transfer from a user's account of `token`.
    pub async fn transfer(
        &self,
        user: usize,
        token: TokenId,
        recipient: Owner,
        amount: u128,
        fee: u128,
    ) -> Transaction {
        let amount = Float40::exact(Amount(amount)).expect("a round amount");
        self.transaction(user, token, Action::Transfer { recipient, amount }, fee)
            .await
    }

    /// Signs as a user.
    pub fn sign(&self, user: usize, transaction: Transaction) -> SignedTransaction {
        let user = &self.users[user];
        transaction.sign(&self.domain(), user.address(), &user.key)
    }

    /// Contract and chain.
    pub fn domain(&self) -> Domain {
        Domain::new(
            self.provider().chain_id(),
            from_address(self.client.address()),
        )
    }

    /// Submits, and gives what was answered.
    pub async fn submit(
        &self,
        signed: Vec<SignedTransaction>,
    ) -> Result<Vec<Submitted>, SubmitError> {
        self.rollup.submit(signed, None).await
    }

    /// Pays ETH from one user to another.
    pub async fn pay(&self, from: usize, to: usize, amount: u128, fee: u128) -> TransactionId {
        let recipient = self.users[to].owner();
        let transaction = self.transfer(from, ETH, recipient, amount, fee).await;
        let taken = self
            .submit(vec![self.sign(from, transaction)])
            .await
            .expect("it is taken");
        taken[0].id
    }

    /// Pays a token from one user to another, without a fee.
    pub async fn pay_token(&self, from: usize, to: usize, token: TokenId, amount: u128) {
        let recipient = self.users[to].owner();
        let transaction = self.transfer(from, token, recipient, amount, 0).await;
        let taken = self.submit(vec![self.sign(from, transaction)]).await;
        taken.expect("it is taken");
    }

    /// Withdraws ETH to the user's L1 address.
    pub async fn withdraw(&self, user: usize, amount: u128, fee: u128) -> TransactionId {
        self.withdraw_token(user, ETH, amount, fee).await
    }

    /// Withdraws a token to the user's L1 address.
    pub async fn withdraw_token(
        &self,
        user: usize,
        token: TokenId,
        amount: u128,
        fee: u128,
    ) -> TransactionId {
        let action = Action::Withdraw {
            amount: Amount(amount),
        };
        let transaction = self.transaction(user, token, action, fee).await;
        let taken = self
            .submit(vec![self.sign(user, transaction)])
            .await
            .expect("it is taken");
        taken[0].id
    }

    /// Asks L1 to pay out a leaf, as `user`; the key is the user's own.
    pub async fn request_exit(&mut self, user: usize, leaf: AccountIndex, token: TokenId) {
        let asks = &self.users[user];
        let key = asks.key.public_key();
        let (ax, ay) = (to_u256(&key.x), to_u256(&key.y));
        let (leaf, token) = (leaf.get() as u32, token.get() as u32);
        let id = fresh_id("exit");
        let landed = self
            .client
            .request_exit(&asks.sender, &id, leaf, token, ax, ay)
            .await;
        landed.expect("the request lands");
        self.sync().await;
    }

    /// Closes the open batch and waits until every batch is hashed.
    pub async fn seal(&self) -> BatchNumber {
        self.rollup.seal_now().await.expect("it runs");
        loop {
            let marks = self.rollup.status().await.expect("it runs").marks;
            if marks.sealed == marks.planned {
                return marks.sealed;
            }
            tokio::time::sleep(std::time::Duration::from_millis(5)).await;
        }
    }

    /// A batch's record.
    pub fn batch(&self, number: BatchNumber) -> BatchRecord {
        self.rollup
            .store()
            .batch(number)
            .expect("readable")
            .expect("in the log")
    }

    /// The L1 requests that a batch serves.
    pub fn requests(&self, record: &BatchRecord) -> Vec<QueuedRequest> {
        let count = record.input.l1_operations.len() as u64;
        let ids = record.first_request..record.first_request + count;
        let request = |id| self.rollup.store().request(id).expect("readable");
        ids.map(|id| request(id).expect("a batch's request is stored"))
            .collect()
    }

    /// A sealed batch and its proof as the contract takes them.
    pub fn posting(&self, number: BatchNumber) -> (IRollup::Batch, IRollup::Proof) {
        let record = self.batch(number);
        let (data, public) = (record.data.as_ref(), record.public.as_ref());
        let (data, public) = (data.expect("sealed"), public.expect("sealed"));
        let requests = self.requests(&record);
        let beneficiary = self.operator.address();
        let batch = to_batch(data, &public.commitment, &requests, beneficiary);
        (batch, to_proof(&record.proof.expect("proven here")))
    }

    /// A batch as the contract remembers it after its commit in `block`.
    pub async fn stored(&self, record: &BatchRecord, block: u64) -> IRollup::StoredBatch {
        use alloy::providers::Provider;
        let provider = self.provider().provider();
        let found = provider.get_block_by_number(block.into()).await;
        let time = found.expect("L1 answers").expect("the block exists");
        let (time, beneficiary) = (time.header.timestamp, self.operator.address());
        let stored = to_stored_batch(record, &self.requests(record), time, beneficiary);
        stored.expect("the batch is hashed")
    }

    /// How often the contract announced an event of this kind.
    pub async fn count<E: alloy::sol_types::SolEvent>(&self) -> usize {
        use alloy::providers::Provider;
        let filter = alloy::rpc::types::Filter::new()
            .address(self.client.address())
            .from_block(0)
            .event_signature(E::SIGNATURE_HASH);
        let logs = self.provider().provider().get_logs(&filter).await;
        logs.expect("L1 answers").len()
    }

    /// Lets L1's time pass.
    pub async fn pass(&self, secs: u64) {
        self.l1.increase_time(secs).await;
        self.l1.mine(1).await;
    }

    /// Posts whatever can be posted now. What a node serves may be a moment older than the receipt before it, so it is looked at
    /// again.
    pub async fn post(&mut self) {
        for _ in 0..3 {
            self.poster.step().await.expect("L1 takes it");
            tokio::time::sleep(std::time::Duration::from_millis(20)).await;
        }
    }

    /// Proves with this prover from now on.
    pub fn prove_with(&mut self, prover: Prover) {
        self.prover = Some(Arc::new(prover));
    }

    /// Proves every sealed batch that has no proof.
    pub async fn prove(&self) {
        let marks = self.rollup.status().await.expect("it runs").marks;
        for number in (1..=marks.sealed.0).map(BatchNumber) {
            let record = self.batch(number);
            if record.proof.is_none() && record.stage < BatchStage::Proven {
                let stored = self.rollup.store().witness(number).expect("readable");
                let Some(stored) = stored else { continue }; // another operator's batch
                let statement = Statement::Batch {
                    witness: Box::new(stored.witness),
                    public: stored.public,
                };
                let prover = self.prover.clone();
                let prove = move || match &prover {
                    Some(prover) => prover.prove(&statement),
                    None => PROVER.prove(&statement),
                };
                let proven = tokio::task::spawn_blocking(prove);
                let proven = proven
                    .await
                    .expect("no panic")
                    .expect("an honest batch is provable");
                let kept = self.rollup.keep_proof(number, proven.proof.words()).await;
                assert!(kept.expect("it runs"));
            }
        }
    }

    /// Everything from sealing to payouts.
    pub async fn finish(&mut self) -> BatchNumber {
        // A node under load serves what is older than its receipts: L1 is looked at until it has caught up. What looks like a
        // reorganisation meanwhile takes batches back, and their transactions are in new ones.
        for _ in 0..LOOKS {
            let number = self.seal().await;
            self.post().await;
            self.prove().await;
            self.post().await;
            self.sync().await;
            let record = self.rollup.store().batch(number).expect("readable");
            let is_proven = record.is_some_and(|record| record.stage >= BatchStage::Proven);
            if is_proven && self.is_paid(number).await {
                return number;
            }
        }
        panic!("the last batch is neither proven nor paid");
    }

    /// Whether each payout of a proven batch was paid, or can be claimed.
    async fn is_paid(&self, number: BatchNumber) -> bool {
        let record = self.batch(number);
        let data = record.data.as_ref().expect("sealed");
        let payouts = payouts(data, &self.requests(&record));
        for (position, chunk) in payouts.chunks(PAYOUT_CHUNK).enumerate() {
            let place = U256::from(position);
            let mask = self.client.paid_mask(number.0, place).await;
            if mask.expect("L1 answers").count_ones() as usize != chunk.len() {
                return false;
            }
        }
        true
    }

    /// The state rebuilt from L1 alone in another database: its root.
    pub async fn restored_root(&self) -> Word {
        let elsewhere = tempfile::tempdir().expect("a temporary directory");
        let mut parts = Parts::start(
            &self.l1,
            &self.client,
            &self.operator,
            elsewhere.path(),
            self.sync,
            Part::Follower,
        );
        let root = restore(&mut parts.synchronizer)
            .await
            .expect("L1 holds everything");
        parts.rollup.stop().await;
        parts
            .task
            .join()
            .await
            .expect("it stopped without an error");
        root
    }

    /// The live root.
    pub fn root(&self) -> Word {
        millrace_rollup::state::sealed_root(self.rollup.store()).expect("readable")
    }

    /// ETH of an L1 account, in wei.
    pub async fn l1_balance(&self, address: Address) -> U256 {
        use alloy::providers::Provider;
        self.provider()
            .provider()
            .get_balance(address)
            .await
            .expect("L1 answers")
    }
}

struct Parts {
    rollup: Rollup,
    task: RollupTask,
    synchronizer: Synchronizer,
    poster: Poster,
}

impl Parts {
    fn start(
        l1: &TestL1,
        client: &RollupClient,
        operator: &User,
        directory: &std::path::Path,
        sync: SyncConfig,
        part: Part,
    ) -> Self {
        let sequencing = part != Part::Follower;
        let domain = Domain::new(l1.provider().chain_id(), from_address(client.address()));
        let config = EngineConfig {
            domain,
            shapes: vec![SHAPE],
            beneficiary: operator.address(),
            fees: FeePolicy {
                owner: Some(operator.owner()),
                floors: Default::default(),
            },
            mempool: MempoolLimits::default(),
            seal_after_millis: 3_600_000, // tests seal
            sequencing,
            backlog: 100,
        };
        let store = Arc::new(Store::open(directory).expect("the database opens"));
        let (rollup, task) = Rollup::start(config, store).expect("the engine starts");
        let provider = l1.provider().clone();
        let synchronizer = Synchronizer::new(rollup.clone(), provider, client.clone(), sync);
        let posting = PosterConfig {
            beneficiary: operator.address(),
            together: false,
            is_operator: part == Part::Operator,
            pays: true,
            depth: sync.depth,
        };
        let sender = operator.sender.clone();
        let poster = Poster::new(rollup.clone(), client.clone(), sender, posting);
        Self {
            rollup,
            task,
            synchronizer,
            poster,
        }
    }
}

/// The name of the rule by which the contract refused.
///
/// # Panics
/// If it did not refuse.
pub fn refused_by<T>(result: Result<T, RollupError>) -> String {
    let error = result.err().expect("the contract refuses");
    let refusal = error
        .refusal()
        .unwrap_or_else(|| panic!("no refusal: {error}"));
    let end = refusal.text.find(|c: char| !c.is_alphanumeric());
    refusal.text[..end.unwrap_or(refusal.text.len())].to_owned()
}

/// An id that no other call of this process has.
pub fn fresh_id(what: &str) -> String {
    use std::sync::atomic::{AtomicU64, Ordering};
    static NEXT: AtomicU64 = AtomicU64::new(0);
    format!("{what}-{}", NEXT.fetch_add(1, Ordering::Relaxed))
}

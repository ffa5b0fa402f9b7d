//! Promise: no acknowledged transaction is lost or half applied, whatever moment the process or the disk dies at.
//!
//! ```text
//! script or load → acknowledged ids, kept outside the database → death at write n, or at any time
//! → reopen → every acknowledged id is in the log once, nonces have no gap, every root replays, no money appeared or vanished
//! ```
//!
//! And: a snapshot at a proven root holds the state of that root, whatever was sealed since, and nothing else can be imported.

use millrace_circuits::account::{Account, Owner};
use millrace_circuits::amount::{FeeCode, Float40};
use millrace_circuits::batch::{Shape, Slot, replay};
use millrace_circuits::eddsa::SecretKey;
use millrace_circuits::field::Word;
use millrace_circuits::merkle::{SparseTree, StateTree};
use millrace_circuits::transaction::{
    Action, Domain, SignedTransaction, Transaction, TransactionId,
};
use millrace_circuits::types::{
    AccountIndex, Amount, BatchNumber, L1Address, Nonce, Timestamp, TokenId,
};
use millrace_rollup::batch_log::{L1Link, QueuedRequest};
use millrace_rollup::engine::{Engine, EngineConfig, L1Update, Turn, hash_batch};
use millrace_rollup::fees::FeePolicy;
use millrace_rollup::handle::Rollup;
use millrace_rollup::mempool::MempoolLimits;
use millrace_rollup::snapshot::{SnapshotError, export, import};
use millrace_rollup::state::sealed_root;
use millrace_rollup::store::Store;
use millrace_rollup::store::disk::Fault;
use std::collections::{BTreeMap, BTreeSet};
use std::io::Write;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

const TIME: Timestamp = Timestamp(1_800_000_000);
const USERS: u64 = 3;
const DEPOSIT: u128 = 1 << 80;
const FEE: u128 = 1;
const BENEFICIARY: L1Address = L1Address([9; 20]);
/// The child reads from here what to do: "directory fault write".
const CHILD: &str = "MILLRACE_CRASH_CHILD";

fn domain() -> Domain {
    Domain::new(31337, L1Address([7; 20]))
}

fn key(user: u64) -> (SecretKey, L1Address) {
    (
        SecretKey::from_bytes([user as u8; 32]),
        L1Address([user as u8; 20]),
    )
}

fn owner(user: u64) -> Owner {
    let (key, address) = key(user);
    Owner::new(address, &key.public_key())
}

fn index(i: u64) -> AccountIndex {
    AccountIndex::new(i).unwrap()
}

fn config() -> EngineConfig {
    EngineConfig {
        domain: domain(),
        shapes: vec![Shape::TINY],
        beneficiary: BENEFICIARY,
        fees: FeePolicy {
            owner: Some(owner(USERS)),
            floors: BTreeMap::new(),
        },
        mempool: MempoolLimits::default(),
        seal_after_millis: 60_000,
        sequencing: true,
        backlog: 64,
    }
}

/// User i's deposit is request i − 1 and makes account i; the last user gathers fees.
fn deposits() -> Vec<QueuedRequest> {
    let deposit = |user: u64| QueuedRequest {
        id: user - 1,
        kind: 1,
        index: AccountIndex::ZERO,
        token: TokenId::ZERO,
        amount: Amount(DEPOSIT),
        sender: L1Address([user as u8; 20]),
        owner: Word(owner(user).0),
        key_x: Word(0u64.into()),
        key_y: Word(0u64.into()),
        created: TIME.0,
        deadline: TIME.0 + 7 * 86_400,
        block: 1,
    };
    (1..=USERS).map(deposit).collect()
}

fn transfer(user: u64, nonce: Nonce, to: u64) -> SignedTransaction {
    let (key, address) = key(user);
    let transaction = Transaction {
        from: index(user),
        nonce,
        token: TokenId::ZERO,
        fee: FeeCode::exact(Amount(FEE)).unwrap(),
        action: Action::Transfer {
            recipient: owner(to),
            amount: Float40::exact(Amount(1000)).unwrap(),
        },
        link: Word(0u64.into()),
        valid_until: Timestamp(TIME.0 + 86_400),
    };
    transaction.sign(&domain(), address, &key)
}

/// Where acknowledged ids are kept, outside the database.
fn note_acknowledged(directory: &Path, id: TransactionId) {
    let path = directory.with_extension("acknowledged");
    let mut file = std::fs::OpenOptions::new()
        .create(true)
        .append(true)
        .open(path)
        .unwrap();
    file.write_all(format!("{id}\n").as_bytes()).unwrap();
}

fn acknowledged(directory: &Path) -> Vec<TransactionId> {
    let text = std::fs::read_to_string(directory.with_extension("acknowledged"));
    // The last line may be torn by a kill: what was not noted whole was not acknowledged.
    let text = text.unwrap_or_default();
    let whole = text.rfind('\n').map_or("", |end| &text[..end]);
    whole.lines().map(|line| line.parse().unwrap()).collect()
}

/// Ends a script early: the engine has stopped.
struct Dead;

async fn l1(rollup: &Rollup, update: L1Update) -> Result<(), Dead> {
    rollup.l1_update(update).await.map_err(|_| Dead)
}

async fn begin(rollup: &Rollup) -> Result<(), Dead> {
    let update = L1Update {
        time: Some(TIME),
        requests: deposits(),
        ..L1Update::default()
    };
    l1(rollup, update).await?;
    rollup.seal_now().await.map_err(|_| Dead)?;
    Ok(())
}

async fn pay(rollup: &Rollup, directory: &Path, user: u64, to: u64) -> Result<(), Dead> {
    let account = rollup.account(index(user)).await.map_err(|_| Dead)?;
    let account = account.expect("the deposits were taken");
    let taken = rollup
        .submit(vec![transfer(user, account.nonce, to)], None)
        .await;
    for one in taken.map_err(|_| Dead)? {
        note_acknowledged(directory, one.id);
    }
    Ok(())
}

async fn seal(rollup: &Rollup) -> Result<BatchNumber, Dead> {
    rollup.seal_now().await.map_err(|_| Dead)?;
    loop {
        let marks = rollup.status().await.map_err(|_| Dead)?.marks;
        if marks.sealed == marks.planned {
            return Ok(marks.sealed);
        }
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
}

fn link(block: u64) -> L1Link {
    L1Link {
        transaction: [block as u8; 32],
        block,
        gas: None,
    }
}

/// One life of batches: deposits, transfers to an old and a new account, sealing, commit, proof, and a rollback of what came
/// after.
async fn script(rollup: &Rollup, directory: &Path) -> Result<(), Dead> {
    begin(rollup).await?;
    let first = seal(rollup).await?;
    pay(rollup, directory, 1, 2).await?;
    pay(rollup, directory, 2, 1).await?;
    pay(rollup, directory, 1, 77).await?;
    let second = seal(rollup).await?;
    for number in (first.0..=second.0).map(BatchNumber) {
        let committed = vec![(number, link(10 + number.0))];
        l1(
            rollup,
            L1Update {
                committed,
                ..L1Update::default()
            },
        )
        .await?;
    }
    let proven = (1..=first.0)
        .map(|number| (BatchNumber(number), link(20)))
        .collect();
    l1(
        rollup,
        L1Update {
            proven,
            finalised: Some(first),
            ..L1Update::default()
        },
    )
    .await?;
    pay(rollup, directory, 2, 88).await?;
    let reverted_to = Some(first);
    l1(
        rollup,
        L1Update {
            reverted_to,
            ..L1Update::default()
        },
    )
    .await?;
    pay(rollup, directory, 1, 2).await?;
    seal(rollup).await?;
    Ok(())
}

/// Opens a database that the last engine's worker threads may hold for a moment longer.
fn open_once_free(directory: &Path) -> Store {
    for _ in 0..200 {
        if let Ok(store) = Store::open(directory) {
            return store;
        }
        std::thread::sleep(std::time::Duration::from_millis(25));
    }
    Store::open(directory).unwrap()
}

/// Everything that must hold of a database, whatever happened to the process that wrote it.
fn check(directory: &Path) {
    let store = Arc::new(open_once_free(directory));
    let mut engine = Engine::open(config(), store.clone()).unwrap();
    let mut turn = Turn::default();
    let update = L1Update {
        time: Some(TIME),
        ..L1Update::default()
    };
    engine.l1_update(update, TIME.0 * 1000, &mut turn).unwrap();
    engine.seal(TIME.0 * 1000, &mut turn).unwrap();
    write(&mut engine, turn);
    while let Some((record, epoch)) = engine.start_hashing().unwrap() {
        let hashed = hash_batch(&store, record, BENEFICIARY).unwrap();
        let mut turn = Turn::default();
        engine.finish_hashing(hashed, epoch, TIME.0 * 1000, &mut turn);
        write(&mut engine, turn);
    }
    let tree = replayed(&store, engine.marks().sealed);
    check_log(
        &store,
        engine.marks().sealed,
        &tree,
        &acknowledged(directory),
    );
    check_money(&tree, engine.marks().requests_taken);
}

fn write(engine: &mut Engine, turn: Turn) {
    let writes = engine.finish(turn);
    engine.store().write(writes).unwrap();
    engine.settle();
}

/// The state that the posted data of all batches gives, checked at each root against the log and at the end against the disk.
fn replayed(store: &Store, sealed: BatchNumber) -> SparseTree {
    let mut tree = SparseTree::new();
    for number in 1..=sealed.0 {
        let record = store.batch(BatchNumber(number)).unwrap().unwrap();
        replay(&record.data.unwrap(), &mut tree).unwrap();
    }
    assert_eq!(
        sealed_root(store).unwrap(),
        Word(tree.root()),
        "root equals replay"
    );
    let on_disk = store.accounts(AccountIndex::ZERO, 1000).unwrap();
    let in_memory: Vec<(AccountIndex, Account)> = tree
        .accounts()
        .map(|(index, account)| (index, *account))
        .collect();
    assert_eq!(on_disk, in_memory);
    tree
}

fn check_log(
    store: &Store,
    sealed: BatchNumber,
    tree: &SparseTree,
    acknowledged: &[TransactionId],
) {
    let (mut ids, mut nonces) = (BTreeSet::new(), BTreeMap::<_, Vec<u64>>::new());
    for number in 1..=sealed.0 {
        let record = store.batch(BatchNumber(number)).unwrap().unwrap();
        for id in &record.transactions {
            assert!(ids.insert(*id), "{id} is in the log twice");
        }
        for slot in record.input.slots {
            if let Slot::Transaction { signed, .. } = slot {
                let transaction = signed.transaction;
                nonces
                    .entry(transaction.from)
                    .or_default()
                    .push(transaction.nonce.get());
            }
        }
    }
    for id in acknowledged {
        assert!(ids.contains(id), "{id} was acknowledged and is lost");
    }
    for (index, account) in tree.accounts() {
        let used = nonces.remove(&index).unwrap_or_default();
        let expected: Vec<u64> = (0..account.nonce.get()).collect();
        assert_eq!(used, expected, "nonces of account {index} have no gap");
    }
}

fn check_money(tree: &SparseTree, deposits: u64) {
    let total: u128 = tree.accounts().map(|(_, account)| account.balance.0).sum();
    assert_eq!(
        total,
        DEPOSIT * u128::from(deposits),
        "what was deposited is what there is"
    );
}

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .unwrap()
}

/// Runs the script on a database whose disk has a fault at write `n`; true if it came to its end.
fn run_script(directory: &Path, fault: Option<(u64, Fault)>) -> bool {
    let store = Arc::new(Store::open(directory).unwrap());
    if let Some((writes, fault)) = fault {
        store.disk().plan_fault(writes, fault);
    }
    runtime().block_on(async {
        let Ok((rollup, task)) = Rollup::start(config(), store) else {
            return false;
        };
        let whole = script(&rollup, directory).await.is_ok();
        rollup.stop().await;
        drop(rollup);
        let ended = task.join().await;
        assert_eq!(
            ended.is_ok(),
            whole,
            "a disk that fails stops the engine with an error"
        );
        whole
    })
}

#[test]
fn a_disk_that_fails_at_any_write_stops_the_engine_and_loses_nothing_acknowledged() {
    for writes in 0.. {
        let directory = tempfile::tempdir().unwrap();
        let database = directory.path().join("database");
        let whole = run_script(&database, Some((writes, Fault::Fail)));
        check(&database);
        if whole {
            assert!(
                writes > 10,
                "the script writes more often than {writes} times"
            );
            assert_eq!(acknowledged(&database).len(), 5);
            return;
        }
    }
}

/// Runs this test binary again as a child that dies by itself or is killed.
fn child(directory: &Path, task: &str) -> std::process::Child {
    let order = format!("{} {task}", directory.display());
    Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "the_child_does_what_it_is_told", "--nocapture"])
        .env(CHILD, order)
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap()
}

#[test]
fn the_child_does_what_it_is_told() {
    let Ok(order) = std::env::var(CHILD) else {
        // Run by itself it is the script without a fault.
        let directory = tempfile::tempdir().unwrap();
        let database = directory.path().join("database");
        assert!(run_script(&database, None));
        return check(&database);
    };
    let words: Vec<&str> = order.split(' ').collect();
    let (directory, writes) = (Path::new(words[0]), || words[2].parse().unwrap());
    match words[1] {
        "before" => assert!(run_script(directory, Some((writes(), Fault::DieBefore)))),
        "after" => assert!(run_script(directory, Some((writes(), Fault::DieAfter)))),
        _ => load(directory),
    }
}

#[test]
fn a_process_that_dies_before_or_after_any_write_loses_nothing_acknowledged() {
    for (fault, task) in [(0, "before"), (1, "after")] {
        // Two halves of the writes, so that the test stays short: together they meet each write.
        for writes in (fault..).step_by(2) {
            let directory = tempfile::tempdir().unwrap();
            let database = directory.path().join("database");
            let ended = child(&database, &format!("{task} {writes}"))
                .wait()
                .unwrap();
            check(&database);
            if ended.success() {
                assert_eq!(acknowledged(&database).len(), 5);
                break;
            }
        }
    }
}

/// Submits from all users at once until the process is killed.
fn load(directory: &Path) {
    let store = Arc::new(Store::open(directory).unwrap());
    runtime().block_on(async {
        let (rollup, _task) = Rollup::start(config(), store).unwrap();
        assert!(begin(&rollup).await.is_ok());
        let mut users = tokio::task::JoinSet::new();
        for user in 1..USERS {
            let (rollup, directory) = (rollup.clone(), directory.to_owned());
            users.spawn(async move {
                while pay(&rollup, &directory, user, USERS - user).await.is_ok() {}
            });
        }
        while users.join_next().await.is_some() {}
    });
}

#[test]
fn a_process_killed_at_random_moments_under_load_loses_nothing_acknowledged() {
    let directory = tempfile::tempdir().unwrap();
    let database = directory.path().join("database");
    let mut seed = 0x9e37_79b9_7f4a_7c15u64;
    let mut before = 0;
    for _ in 0..8 {
        seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        let mut process = child(&database, "load");
        let patience = std::time::Instant::now();
        while acknowledged(&database).len() < before + 5 && patience.elapsed().as_secs() < 30 {
            std::thread::sleep(Duration::from_millis(5));
        }
        std::thread::sleep(Duration::from_millis(seed >> 56));
        process.kill().unwrap();
        process.wait().unwrap();
        check(&database);
        let now = acknowledged(&database).len();
        assert!(now >= before + 5, "the load went on after the last kill");
        before = now;
    }
}

/// A database in which batch 1 is proven and two more batches stand on it.
fn with_unproven_batches(directory: &Path) -> Arc<Store> {
    let store = Arc::new(Store::open(directory).unwrap());
    runtime().block_on(async {
        let (rollup, task) = Rollup::start(config(), store.clone()).unwrap();
        let steps = async {
            begin(&rollup).await?;
            let first = seal(&rollup).await?;
            pay(&rollup, directory, 1, 2).await?;
            pay(&rollup, directory, 1, 77).await?;
            seal(&rollup).await?;
            pay(&rollup, directory, 2, 1).await?;
            seal(&rollup).await?;
            let (committed, proven) = (vec![(first, link(10))], vec![(first, link(11))]);
            l1(
                &rollup,
                L1Update {
                    committed,
                    proven,
                    ..L1Update::default()
                },
            )
            .await
        };
        assert!(steps.await.is_ok());
        rollup.stop().await;
        drop(rollup);
        task.join().await.unwrap();
    });
    store
}

#[test]
fn a_snapshot_holds_the_proven_state_and_a_node_goes_on_from_it() {
    let directory = tempfile::tempdir().unwrap();
    let store = with_unproven_batches(&directory.path().join("from"));
    let mut file = Vec::new();
    let number = export(&store, &mut file).unwrap();
    let proven = store.batch(number).unwrap().unwrap();
    assert!(
        number < store.marks().unwrap().sealed,
        "later batches are sealed"
    );
    let root = proven.new_root().unwrap();

    let copy = Arc::new(Store::open(&directory.path().join("to")).unwrap());
    let imported = import(&copy, &mut &file[..], root).unwrap();
    assert_eq!(imported.number, number);
    assert_eq!(sealed_root(&copy).unwrap(), root);
    let mut tree = SparseTree::new();
    for earlier in 1..=number.0 {
        let record = store.batch(BatchNumber(earlier)).unwrap().unwrap();
        replay(&record.data.unwrap(), &mut tree).unwrap();
    }
    let accounts = copy.accounts(AccountIndex::ZERO, 100).unwrap();
    assert_eq!(
        accounts,
        tree.accounts().map(|(i, a)| (i, *a)).collect::<Vec<_>>()
    );

    let mut engine = Engine::open(config(), copy).unwrap();
    let mut turn = Turn::default();
    let time = Some(TIME);
    engine
        .l1_update(
            L1Update {
                time,
                ..L1Update::default()
            },
            0,
            &mut turn,
        )
        .unwrap();
    engine
        .submit(&[transfer(1, Nonce::ZERO, 2)], None, 0, &mut turn)
        .unwrap();
    assert!(engine.seal(0, &mut turn).unwrap());
    write(&mut engine, turn);
    let (record, _) = engine.start_hashing().unwrap().unwrap();
    assert_eq!(record.number, BatchNumber(number.0 + 1));
    let hashed = hash_batch(engine.store(), record, BENEFICIARY).unwrap();
    let data = hashed.record.data.unwrap();
    assert_eq!(data.header.old_root, root);
    replay(&data, &mut tree).unwrap();
}

#[test]
fn a_snapshot_of_another_root_or_with_a_changed_balance_is_refused() {
    let directory = tempfile::tempdir().unwrap();
    let store = with_unproven_batches(&directory.path().join("from"));
    let mut file = Vec::new();
    let number = export(&store, &mut file).unwrap();
    let root = store.batch(number).unwrap().unwrap().new_root().unwrap();
    let copy = Store::open(&directory.path().join("to")).unwrap();
    let other = import(&copy, &mut &file[..], Word(5u64.into()));
    assert!(matches!(other, Err(SnapshotError::RootDiffers { .. })));
    *file.last_mut().unwrap() ^= 1;
    let changed = import(&copy, &mut &file[..], root);
    assert!(matches!(changed, Err(SnapshotError::RootDiffers { .. })));
    assert_eq!(copy.accounts(AccountIndex::ZERO, 1).unwrap(), vec![]);
}

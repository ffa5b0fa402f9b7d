//! The core against replay and restarts: nothing acknowledged is lost, and every root is what the posted data replays to.

use super::*;
use crate::batch_log::{L1Link, QueuedRequest};
use crate::mempool::{SubmitError, TransactionState};
use millrace_circuits::account::{Account, Owner};
use millrace_circuits::amount::{FeeCode, Float40};
use millrace_circuits::batch::replay;
use millrace_circuits::eddsa::SecretKey;
use millrace_circuits::field::Word;
use millrace_circuits::merkle::{SparseTree, StateTree};
use millrace_circuits::op::Rejection;
use millrace_circuits::transaction::{Action, SignedTransaction, Transaction};
use millrace_circuits::types::{AccountIndex, Amount, Nonce, TokenId};
use proptest::prelude::*;
use std::path::Path;

const TIME: Timestamp = Timestamp(1_800_000_000);
const NOW: u64 = TIME.0 * 1000;

fn domain() -> Domain {
    Domain::new(31337, L1Address([7; 20]))
}

fn key(seed: u8) -> (SecretKey, L1Address) {
    (SecretKey::from_bytes([seed; 32]), L1Address([seed; 20]))
}

fn owner(seed: u8) -> Owner {
    let (key, l1_address) = key(seed);
    Owner::new(l1_address, &key.public_key())
}

fn index(i: u64) -> AccountIndex {
    AccountIndex::new(i).unwrap()
}

fn config() -> EngineConfig {
    EngineConfig {
        domain: domain(),
        shapes: vec![Shape::TINY],
        beneficiary: L1Address([9; 20]),
        fees: FeePolicy {
            owner: Some(owner(9)),
            floors: [(TokenId::ZERO, Amount(2))].into(),
        },
        mempool: MempoolLimits {
            per_account: 3,
            ..MempoolLimits::default()
        },
        seal_after_millis: 1000,
        sequencing: true,
        backlog: 8,
    }
}

/// An engine on a directory, driven as the task drives it: one turn, one write.
struct Bench {
    engine: Engine,
    now: u64,
}

impl Bench {
    fn open(directory: &Path) -> Self {
        Self::open_for(directory, 9)
    }

    /// Opens with this user as the owner of the fees.
    fn open_for(directory: &Path, fee_owner: u8) -> Self {
        let store = Arc::new(Store::open(directory).unwrap());
        let mut config = config();
        config.fees.owner = Some(owner(fee_owner));
        Self {
            engine: Engine::open(config, store).unwrap(),
            now: NOW,
        }
    }

    fn turn<T>(&mut self, act: impl FnOnce(&mut Engine, u64, &mut Turn) -> T) -> T {
        self.now += 1;
        let mut turn = Turn::default();
        let result = act(&mut self.engine, self.now, &mut turn);
        let writes = self.engine.finish(turn);
        self.engine.store().write(writes).unwrap();
        self.engine.settle();
        result
    }

    fn deposits(&mut self, deposits: &[(u8, u64, u128)]) {
        let first = self.engine.marks().requests_known;
        let requests = deposits
            .iter()
            .zip(first..)
            .map(|((seed, token, amount), id)| request(id, *seed, *token, *amount))
            .collect();
        self.l1(L1Update {
            time: Some(TIME),
            requests,
            ..L1Update::default()
        });
    }

    fn l1(&mut self, update: L1Update) {
        self.turn(|engine, now, turn| engine.l1_update(update, now, turn))
            .unwrap();
    }

    fn submit(&mut self, signed: &[SignedTransaction]) -> Result<Vec<Submitted>, SubmitError> {
        self.turn(|engine, now, turn| engine.submit(signed, None, now, turn))
    }

    fn seal(&mut self) {
        self.turn(|engine, now, turn| engine.seal(now, turn))
            .unwrap();
        self.hash();
    }

    fn hash(&mut self) {
        while let Some((record, epoch)) = self.engine.start_hashing().unwrap() {
            let hashed = hash_batch(self.engine.store(), record, L1Address([9; 20])).unwrap();
            self.turn(|engine, now, turn| engine.finish_hashing(hashed, epoch, now, turn));
        }
    }

    fn account(&self, i: u64) -> Account {
        self.engine
            .head()
            .account(self.engine.store(), index(i))
            .unwrap()
            .unwrap()
    }

    fn transfer(&self, from: u64, seed: u8, to: u8, amount: u128, fee: u128) -> Transaction {
        let account = self.account(from);
        assert_eq!(account.owner, owner(seed));
        Transaction {
            from: index(from),
            nonce: account.nonce,
            token: account.token,
            fee: FeeCode::exact(Amount(fee)).unwrap(),
            action: Action::Transfer {
                recipient: owner(to),
                amount: Float40::exact(Amount(amount)).unwrap(),
            },
            link: Word(0u64.into()),
            valid_until: Timestamp(TIME.0 + 600),
        }
    }

    /// Replays every sealed batch from what it posts, on a tree in memory: roots and accounts are the same.
    fn check_against_replay(&self) {
        let mut tree = SparseTree::new();
        for number in 1..=self.engine.marks().sealed.0 {
            let record = self
                .engine
                .store()
                .batch(BatchNumber(number))
                .unwrap()
                .unwrap();
            replay(&record.data.unwrap(), &mut tree).unwrap();
        }
        assert_eq!(
            crate::state::sealed_root(self.engine.store()).unwrap(),
            Word(tree.root())
        );
        let stored = self
            .engine
            .store()
            .accounts(AccountIndex::ZERO, 1000)
            .unwrap();
        let replayed: Vec<_> = tree
            .accounts()
            .map(|(index, account)| (index, *account))
            .collect();
        assert_eq!(stored, replayed);
    }
}

fn request(id: u64, seed: u8, token: u64, amount: u128) -> QueuedRequest {
    QueuedRequest {
        id,
        kind: 1,
        index: AccountIndex::ZERO,
        token: TokenId::new(token).unwrap(),
        amount: Amount(amount),
        sender: L1Address([seed; 20]),
        owner: Word(owner(seed).0),
        key_x: Word(0u64.into()),
        key_y: Word(0u64.into()),
        created: TIME.0,
        deadline: TIME.0 + 7 * 86_400,
        block: 1,
    }
}

fn exit_request(id: u64, seed: u8, leaf: u64, token: u64) -> QueuedRequest {
    let (key, sender) = key(seed);
    let key = key.public_key();
    QueuedRequest {
        kind: 2,
        index: index(leaf),
        sender,
        owner: Word(0u64.into()),
        key_x: Word(key.x),
        key_y: Word(key.y),
        ..request(id, seed, token, 0)
    }
}

fn sign(transaction: Transaction, seed: u8) -> SignedTransaction {
    let (key, l1_address) = key(seed);
    transaction.sign(&domain(), l1_address, &key)
}

/// Users 1 and 2 with 1,000 of token 0 (leaves 1, 2) and the operator's fee leaf (3).
fn funded(directory: &Path) -> Bench {
    let mut bench = Bench::open(directory);
    bench.deposits(&[(1, 0, 1000), (2, 0, 1000), (9, 0, 1)]);
    bench
}

#[test]
fn deposits_then_transfers_are_sealed_and_replay() {
    let directory = tempfile::tempdir().unwrap();
    let mut bench = funded(directory.path());
    let taken = bench
        .submit(&[sign(bench.transfer(1, 1, 2, 100, 5), 1)])
        .unwrap();
    assert!(matches!(taken[0].state, TransactionState::InBatch { .. }));
    bench
        .submit(&[sign(bench.transfer(2, 2, 3, 50, 2), 2)])
        .unwrap();
    assert_eq!(
        (bench.account(1).balance, bench.account(2).balance),
        (Amount(895), Amount(1048))
    );
    bench.seal();
    assert_eq!(
        bench.account(3).balance,
        Amount(8),
        "fees reach their leaf at the end"
    );
    assert_eq!(
        bench.account(4).owner,
        owner(3),
        "the transfer created a leaf"
    );
    bench.check_against_replay();
}

#[test]
fn fees_go_where_they_were_promised_though_their_owner_changes() {
    let directory = tempfile::tempdir().unwrap();
    let mut bench = funded(directory.path());
    bench
        .submit(&[sign(bench.transfer(1, 1, 2, 100, 5), 1)])
        .unwrap();
    bench
        .turn(|engine, now, turn| engine.seal(now, turn))
        .unwrap();
    bench
        .submit(&[sign(bench.transfer(1, 1, 2, 100, 7), 1)])
        .unwrap();
    let paid = |bench: &Bench| (bench.account(2).balance, bench.account(3).balance);
    let before = paid(&bench);
    drop(bench);
    // User 2 has an account in the token, user 8 has none. One batch is planned but not hashed, one is open.
    for fee_owner in [2, 8] {
        let mut bench = Bench::open_for(directory.path(), fee_owner);
        assert_eq!(paid(&bench), before, "owner {fee_owner}");
        bench.l1(L1Update {
            time: Some(TIME),
            ..L1Update::default()
        });
    }
    let mut bench = Bench::open_for(directory.path(), 8);
    bench.l1(L1Update {
        time: Some(TIME),
        ..L1Update::default()
    });
    bench.hash();
    bench.seal();
    bench.check_against_replay();
    assert_eq!(paid(&bench), (Amount(1200), Amount(1 + 5 + 7)));
}

#[test]
fn a_waiting_fee_that_nobody_gathers_any_more_leaves_nothing_behind() {
    let directory = tempfile::tempdir().unwrap();
    let mut bench = funded(directory.path());
    let now = bench.transfer(1, 1, 2, 10, 2);
    let later = Transaction {
        nonce: Nonce::new(now.nonce.get() + 1).unwrap(),
        ..now
    };
    let taken = bench.submit(&[sign(later, 1)]).unwrap();
    assert_eq!(taken[0].state, TransactionState::Waiting);
    drop(bench);
    let mut bench = Bench::open_for(directory.path(), 8);
    bench.l1(L1Update {
        time: Some(TIME),
        ..L1Update::default()
    });
    let free = Transaction {
        fee: FeeCode::ZERO,
        ..now
    };
    bench.submit(&[sign(free, 1)]).unwrap();
    let record = bench.engine.store().transaction(&taken[0].id).unwrap();
    let TransactionState::Dropped { reason } = record.unwrap().state else {
        panic!("it was not dropped");
    };
    assert!(reason.contains("fee"), "{reason}");
    assert_eq!(
        (bench.account(1).balance, bench.account(2).balance),
        (Amount(990), Amount(1010))
    );
    bench.seal();
    bench.check_against_replay();
    assert_eq!(bench.account(1).nonce, later.nonce);
}

#[test]
fn each_refusal_names_its_rule_and_takes_nothing() {
    let directory = tempfile::tempdir().unwrap();
    let mut bench = funded(directory.path());
    let good = bench.transfer(1, 1, 2, 100, 5);
    let before = *bench.engine.marks();
    let mut refuse = |change: &dyn Fn(&mut Transaction), seed: u8| {
        let mut transaction = good;
        change(&mut transaction);
        let error = bench.submit(&[sign(transaction, seed)]).unwrap_err();
        error.code()
    };
    assert_eq!(refuse(&|t| t.from = AccountIndex::ZERO, 1), "from_is_zero");
    assert_eq!(refuse(&|t| t.from = index(99), 1), "account_missing");
    assert_eq!(refuse(&|_| (), 2), "not_the_owner");
    assert_eq!(refuse(&|t| t.fee = FeeCode::ZERO, 1), "fee_too_low");
    assert_eq!(
        refuse(
            &|t| {
                t.token = TokenId::new(5).unwrap();
            },
            1
        ),
        "fee_not_taken"
    );
    assert_eq!(
        refuse(
            &|t| {
                t.token = TokenId::new(5).unwrap();
                t.fee = FeeCode::ZERO;
            },
            1
        ),
        "token_differs"
    );
    assert_eq!(
        refuse(&|t| t.valid_until = Timestamp(TIME.0 - 1), 1),
        "expired"
    );
    assert_eq!(
        refuse(&|t| t.valid_until = Timestamp(u64::MAX), 1),
        "valid_too_long"
    );
    assert_eq!(
        refuse(&|t| t.nonce = Nonce::new(5000).unwrap(), 1),
        "nonce_too_far_ahead"
    );
    let too_much = Float40::exact(Amount(996)).unwrap();
    let action = Action::Transfer {
        recipient: owner(2),
        amount: too_much,
    };
    assert_eq!(refuse(&|t| t.action = action, 1), "overdrawn");
    let nothing = Action::Transfer {
        recipient: owner(77),
        amount: Float40::ZERO,
    };
    assert_eq!(refuse(&|t| t.action = nothing, 1), "nothing_to_create_with");
    assert_eq!(*bench.engine.marks(), before);
    bench.submit(&[sign(good, 1)]).unwrap();
    let again = bench.submit(&[sign(good, 1)]).unwrap_err();
    assert_eq!(again.code(), "duplicate");
    let low = Transaction {
        valid_until: Timestamp(TIME.0 + 5),
        ..good
    };
    assert!(matches!(
        bench.submit(&[sign(low, 1)]),
        Err(SubmitError::Rule(Rejection::NonceTooLow { .. }))
    ));
}

#[test]
fn a_gap_waits_is_bounded_replaced_by_a_higher_fee_and_runs_when_filled() {
    let directory = tempfile::tempdir().unwrap();
    let mut bench = funded(directory.path());
    let base = bench.transfer(1, 1, 2, 10, 2);
    let ahead = |nonce: u64, fee: u128| {
        let fee = FeeCode::exact(Amount(fee)).unwrap();
        sign(
            Transaction {
                nonce: Nonce::new(nonce).unwrap(),
                fee,
                ..base
            },
            1,
        )
    };
    for nonce in 1..=3 {
        let taken = bench.submit(&[ahead(nonce, 2)]).unwrap();
        assert_eq!(taken[0].state, TransactionState::Waiting);
    }
    assert_eq!(
        bench.submit(&[ahead(4, 2)]).unwrap_err().code(),
        "account_full"
    );
    let same_fee = Transaction {
        valid_until: Timestamp(TIME.0 + 5),
        ..ahead(2, 2).transaction
    };
    assert_eq!(
        bench.submit(&[sign(same_fee, 1)]).unwrap_err().code(),
        "replacement_underpriced"
    );
    bench.submit(&[ahead(2, 3)]).unwrap();
    let mut bench = Bench::open({
        drop(bench);
        directory.path()
    });
    bench.deposits(&[]);
    assert_eq!(bench.engine.waiting(), 3, "what waits survives a restart");
    bench.submit(&[sign(base, 1)]).unwrap();
    assert_eq!(
        (bench.engine.waiting(), bench.account(1).nonce.get()),
        (0, 4)
    );
    bench.seal();
    bench.check_against_replay();
}

#[test]
fn a_swap_happens_whole_beside_each_other_or_not_at_all() {
    let directory = tempfile::tempdir().unwrap();
    let mut bench = funded(directory.path());
    bench.deposits(&[(2, 1, 500)]);
    bench.seal();
    bench
        .submit(&[sign(bench.transfer(1, 1, 2, 1, 2), 1)])
        .unwrap();
    let leaf = bench
        .engine
        .head()
        .find(bench.engine.store(), &owner(2), TokenId::new(1).unwrap());
    let leaf = leaf.unwrap().unwrap().get();
    let mut give = bench.transfer(1, 1, 2, 100, 2);
    let mut take = bench.transfer(leaf, 2, 1, 500, 0);
    give.link = Word(take.core());
    take.link = Word(give.core());
    // The halves come one by one: the first waits.
    let waits = bench.submit(&[sign(take, 2)]).unwrap();
    assert_eq!(waits[0].state, TransactionState::Waiting);
    bench.submit(&[sign(give, 1)]).unwrap();
    assert_eq!(bench.account(leaf).balance, Amount(0));
    bench.seal();
    bench.check_against_replay();
    // A pair whose second half overdraws takes nothing of the first.
    let before = bench.account(1);
    let mut give = bench.transfer(1, 1, 2, 100, 2);
    let mut take = bench.transfer(leaf, 2, 1, 501, 0);
    give.link = Word(take.core());
    take.link = Word(give.core());
    let refused = bench.submit(&[sign(give, 1), sign(take, 2)]).unwrap_err();
    assert_eq!(refused.code(), "overdrawn");
    assert_eq!(bench.account(1), before);
}

#[test]
fn an_idempotency_key_answers_the_same_also_after_a_restart() {
    let directory = tempfile::tempdir().unwrap();
    let mut bench = funded(directory.path());
    let signed = sign(bench.transfer(1, 1, 2, 10, 2), 1);
    let other = sign(bench.transfer(2, 2, 1, 10, 2), 2);
    let submit = |bench: &mut Bench, signed: SignedTransaction| {
        bench.turn(|engine, now, turn| engine.submit(&[signed], Some("k"), now, turn))
    };
    let first = submit(&mut bench, signed).unwrap();
    assert_eq!(submit(&mut bench, signed).unwrap(), first);
    drop(bench);
    let mut bench = Bench::open(directory.path());
    assert_eq!(submit(&mut bench, signed).unwrap(), first);
    assert_eq!(
        submit(&mut bench, other).unwrap_err().code(),
        "idempotency_key_reused"
    );
    assert_eq!(bench.account(1).balance, Amount(988));
}

#[test]
fn a_forced_exit_enters_an_empty_batch_and_voids_what_was_signed() {
    let directory = tempfile::tempdir().unwrap();
    let mut bench = funded(directory.path());
    let signed = sign(bench.transfer(1, 1, 2, 10, 2), 1);
    bench.seal();
    bench.l1(L1Update {
        requests: vec![exit_request(3, 1, 1, 0)],
        ..L1Update::default()
    });
    assert_eq!(
        (bench.account(1).balance, bench.account(1).nonce.get()),
        (Amount(0), 1 << 16)
    );
    assert_eq!(bench.submit(&[signed]).unwrap_err().code(), "nonce_too_low");
    bench.seal();
    bench.check_against_replay();
}

#[test]
fn requests_wait_while_the_open_batch_holds_transactions() {
    let directory = tempfile::tempdir().unwrap();
    let mut bench = funded(directory.path());
    bench.seal();
    bench
        .submit(&[sign(bench.transfer(1, 1, 2, 10, 2), 1)])
        .unwrap();
    bench.l1(L1Update {
        requests: vec![exit_request(3, 1, 1, 0)],
        ..L1Update::default()
    });
    assert_eq!(bench.account(1).balance, Amount(988));
    bench.seal();
    assert_eq!(bench.account(1).balance, Amount(0));
    bench.seal();
    bench.check_against_replay();
}

#[test]
fn a_rollback_runs_again_what_still_holds_and_drops_the_rest() {
    let directory = tempfile::tempdir().unwrap();
    let mut bench = funded(directory.path());
    bench.seal();
    bench.deposits(&[(4, 0, 300)]);
    bench.seal();
    let leaf = 4;
    let dependent = sign(bench.transfer(leaf, 4, 1, 200, 2), 4);
    let dependent_id = bench.submit(&[dependent]).unwrap()[0].id;
    let independent = sign(bench.transfer(1, 1, 2, 10, 2), 1);
    bench.submit(&[independent]).unwrap();
    bench.seal();
    let sealed = bench.engine.marks().sealed;
    // A reorg removes the third deposit and what follows it.
    bench.l1(L1Update {
        requests_dropped_from: Some(3),
        ..L1Update::default()
    });
    assert!(bench.engine.marks().sealed < sealed);
    let record = bench
        .engine
        .store()
        .transaction(&dependent_id)
        .unwrap()
        .unwrap();
    assert!(matches!(record.state, TransactionState::Dropped { .. }));
    assert_eq!(
        bench.account(1).balance,
        Amount(988),
        "the other one ran again"
    );
    bench.seal();
    bench.check_against_replay();
    // The queue goes on with another request 3.
    bench.deposits(&[(5, 0, 77)]);
    bench.seal();
    bench.check_against_replay();
}

#[test]
fn stages_follow_l1_and_fall_back_with_a_reorg() {
    let directory = tempfile::tempdir().unwrap();
    let mut bench = funded(directory.path());
    bench.seal();
    let (batch, link) = (
        BatchNumber(1),
        L1Link {
            transaction: [1; 32],
            block: 5,
            gas: None,
        },
    );
    let stage = |bench: &Bench| bench.engine.store().batch(batch).unwrap().unwrap().stage;
    bench.l1(L1Update {
        committed: vec![(batch, link)],
        ..L1Update::default()
    });
    assert_eq!(stage(&bench), BatchStage::Committed);
    bench.l1(L1Update {
        uncommitted: vec![batch],
        ..L1Update::default()
    });
    assert_eq!(stage(&bench), BatchStage::Sealed);
    bench.l1(L1Update {
        committed: vec![(batch, link)],
        proven: vec![(batch, link)],
        finalised: Some(batch),
        ..L1Update::default()
    });
    assert_eq!(stage(&bench), BatchStage::Finalised);
    assert_eq!(
        bench.engine.store().witness(batch).unwrap(),
        None,
        "no longer needed"
    );
}

#[test]
fn batches_close_by_time_and_by_size() {
    let directory = tempfile::tempdir().unwrap();
    let mut bench = funded(directory.path());
    bench.now += 2000;
    bench
        .turn(|engine, now, turn| engine.tick(now, turn))
        .unwrap();
    assert_eq!(
        bench.engine.marks().planned,
        BatchNumber(2),
        "3 deposits: a full batch, then one by time"
    );
    for _ in 0..Shape::TINY.transaction_rows {
        bench
            .submit(&[sign(bench.transfer(1, 1, 2, 1, 2), 1)])
            .unwrap();
    }
    assert_eq!(bench.engine.marks().planned, BatchNumber(3));
    bench.hash();
    bench.check_against_replay();
}

/// The contract lets others post once a request is 24 h old: at half of that its batch closes, whatever its own time.
#[test]
fn a_request_that_has_waited_half_a_day_closes_its_batch() {
    let directory = tempfile::tempdir().unwrap();
    let mut bench = funded(directory.path());
    bench.seal();
    let (planned, opened) = (bench.engine.marks().planned, bench.now);
    let wait = |bench: &mut Bench, waited: u64| {
        bench.l1(L1Update {
            time: Some(Timestamp(TIME.0 + waited)),
            ..L1Update::default()
        });
        bench
            .turn(|engine, now, turn| engine.tick(now, turn))
            .unwrap();
    };
    bench.l1(L1Update {
        requests: vec![request(3, 4, 0, 1000)],
        ..L1Update::default()
    });
    wait(&mut bench, l1::REQUEST_PATIENCE_SECS - 1);
    assert_eq!(bench.engine.marks().planned, planned, "young enough");
    wait(&mut bench, l1::REQUEST_PATIENCE_SECS);
    assert_eq!(bench.engine.marks().planned.0, planned.0 + 1);
    let by_time = bench.now - opened >= config().seal_after_millis;
    assert!(!by_time, "the batch is too young to close by its own time");
    bench.hash();
    bench.check_against_replay();
}

#[test]
fn a_rollback_keeps_batches_that_are_planned_but_not_hashed() {
    let directory = tempfile::tempdir().unwrap();
    let mut bench = funded(directory.path());
    bench.deposits(&[(1, 0, 7), (1, 0, 7)]);
    assert_eq!(bench.engine.marks().planned, BatchNumber(2));
    assert_eq!(bench.engine.marks().sealed, BatchNumber(0));
    bench.l1(L1Update {
        requests_dropped_from: Some(2),
        ..L1Update::default()
    });
    assert_eq!(bench.engine.marks().planned, BatchNumber(1));
    assert_eq!(
        (bench.account(1).balance, bench.account(2).balance),
        (Amount(1000), Amount(1000))
    );
    bench.hash();
    bench.check_against_replay();
}

#[derive(Debug, Clone)]
enum Step {
    Deposit(u8, u128),
    Transfer(u8, u8, u128),
    Exit(u8),
    Seal,
    Restart,
    Rollback(u64),
}

fn arb_step() -> impl Strategy<Value = Step> {
    prop_oneof![
        2 => (1u8..5, 1u128..500).prop_map(|(user, amount)| Step::Deposit(user, amount)),
        6 => (1u8..5, 1u8..6, 0u128..300).prop_map(|(a, b, amount)| Step::Transfer(a, b, amount)),
        1 => (1u8..5).prop_map(Step::Exit),
        2 => Just(Step::Seal),
        2 => Just(Step::Restart),
        1 => (0u64..4).prop_map(Step::Rollback),
    ]
}

#[test]
fn a_rollback_gives_out_again_only_the_leaves_that_it_has_emptied() {
    let directory = tempfile::tempdir().unwrap();
    let mut bench = funded(directory.path());
    let empty = bench.engine.head().free_index();
    // Leaf 1, which a batch that stays has filled, changes in each batch from then on: in one that is taken back and in the open one,
    // which begins before that is sealed.
    bench.deposits(&[(1, 0, 1)]);
    let exit = exit_request(bench.engine.marks().requests_known, 1, 1, 0);
    bench.l1(L1Update {
        requests: vec![exit],
        ..L1Update::default()
    });
    let to = bench.engine.marks().planned;
    bench.seal();
    bench.l1(L1Update {
        reverted_to: Some(to),
        ..L1Update::default()
    });
    assert_eq!(bench.engine.head().free_index(), empty);
    bench.deposits(&[(7, 0, 5)]);
    bench.seal();
    let head = bench.engine.head();
    let leaf = head.find(bench.engine.store(), &owner(7), TokenId::ZERO);
    assert_eq!(leaf.unwrap(), empty, "the next empty leaf");
    bench.check_against_replay();
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(20))]
    #[test]
    fn restarts_change_nothing_and_every_root_replays(steps in prop::collection::vec(arb_step(), 1..25)) {
        let directory = tempfile::tempdir().unwrap();
        let mut bench = funded(directory.path());
        for step in steps {
            match step {
                Step::Deposit(user, amount) => bench.deposits(&[(user, 0, amount)]),
                Step::Transfer(from, to, amount) => {
                    let found = bench.engine.head().find(bench.engine.store(), &owner(from), TokenId::ZERO);
                    if let Some(leaf) = found.unwrap() {
                        let _ = bench.submit(&[sign(bench.transfer(leaf.get(), from, to, amount, 2), from)]);
                    }
                }
                Step::Exit(user) => {
                    let found = bench.engine.head().find(bench.engine.store(), &owner(user), TokenId::ZERO);
                    if let Some(leaf) = found.unwrap() {
                        let id = bench.engine.marks().requests_known;
                        let requests = vec![exit_request(id, user, leaf.get(), 0)];
                        bench.l1(L1Update { requests, ..L1Update::default() });
                    }
                }
                Step::Seal => bench.seal(),
                Step::Restart => {
                    let accounts = |bench: &Bench| (1..12)
                        .map(|i| bench.engine.head().account(bench.engine.store(), index(i)).unwrap())
                        .collect::<Vec<_>>();
                    let (before, marks) = (accounts(&bench), *bench.engine.marks());
                    drop(bench);
                    bench = Bench::open(directory.path());
                    bench.l1(L1Update { time: Some(TIME), ..L1Update::default() });
                    prop_assert_eq!(accounts(&bench), before);
                    prop_assert_eq!(bench.engine.marks().planned, marks.planned);
                }
                Step::Rollback(back) => {
                    let to = BatchNumber(bench.engine.marks().planned.0.saturating_sub(back));
                    bench.l1(L1Update { reverted_to: Some(to), ..L1Update::default() });
                }
            }
        }
        bench.seal();
        bench.hash();
        bench.check_against_replay();
    }
}

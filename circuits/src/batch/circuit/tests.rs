//! The circuit against the native rules: honest batches satisfy it, and each lie is rejected by the constraint that names it.

use super::BatchCircuit;
use crate::account::{Account, Owner};
use crate::amount::{FeeCode, Float40};
use crate::batch::{
    BatchInput, BatchWitness, ExecutedBatch, Extra, L1Operation, L1Row, Shape, Slot, execute,
    replay,
};
use crate::eddsa::SecretKey;
use crate::field::Word;
use crate::merkle::{SparseTree, StateTree};
use crate::testing::Statement;
use crate::transaction::{Action, Domain, SignedTransaction, Transaction};
use crate::types::{AccountIndex, Amount, BatchNumber, L1Address, Nonce, Timestamp, TokenId};
use ark_bn254::Fr;
use ark_ff::Zero;
use ark_relations::gr1cs::ConstraintSynthesizer;

const NOW: Timestamp = Timestamp(1_800_000_000);
const BENEFICIARY: L1Address = L1Address([0xbe; 20]);

fn domain() -> Domain {
    Domain::new(31337, L1Address([0xc0; 20]))
}

fn index(i: u64) -> AccountIndex {
    AccountIndex::new(i).unwrap()
}

fn token(t: u64) -> TokenId {
    TokenId::new(t).unwrap()
}

/// A key with its L1 address.
struct User {
    key: SecretKey,
    l1: L1Address,
}

impl User {
    fn new(seed: u8) -> Self {
        Self {
            key: SecretKey::from_bytes([seed; 32]),
            l1: L1Address([seed; 20]),
        }
    }

    fn owner(&self) -> Owner {
        Owner::new(self.l1, &self.key.public_key())
    }

    fn sign(&self, transaction: Transaction) -> SignedTransaction {
        transaction.sign(&domain(), self.l1, &self.key)
    }
}

/// Alice: 1 (ETH), 2 (token 7). Bob: 3 (ETH), 4 (token 7). Operator: 5 (ETH), 6 (token 7).
struct World {
    tree: SparseTree,
    alice: User,
    bob: User,
    carol: User,
}

impl World {
    fn new() -> Self {
        let (alice, bob, carol, operator) =
            (User::new(1), User::new(2), User::new(3), User::new(9));
        let mut tree = SparseTree::new();
        let accounts = [
            (&alice, 0),
            (&alice, 7),
            (&bob, 0),
            (&bob, 7),
            (&operator, 0),
            (&operator, 7),
        ];
        for (position, (user, kind)) in accounts.into_iter().enumerate() {
            let mut account = Account::new(user.owner(), token(kind), Amount(1_000_000));
            account.nonce = Nonce::new(position as u64).unwrap();
            let Ok(()) = tree.set(index(position as u64 + 1), account);
        }
        Self {
            tree,
            alice,
            bob,
            carol,
        }
    }

    fn transfer(&self, from: u64, recipient: &User, amount: u128, fee: u128) -> Transaction {
        let Ok(Some(account)) = self.tree.account(index(from)) else {
            panic!("no account {from}")
        };
        Transaction {
            from: index(from),
            nonce: account.nonce,
            token: account.token,
            fee: FeeCode::exact(Amount(fee)).unwrap(),
            action: Action::Transfer {
                recipient: recipient.owner(),
                amount: Float40::exact(Amount(amount)).unwrap(),
            },
            link: Word(Fr::zero()),
            valid_until: Timestamp(NOW.0 + 3600),
        }
    }

    fn withdraw(&self, from: u64, amount: u128, fee: u128) -> Transaction {
        let mut transaction = self.transfer(from, &self.alice, 0, fee);
        transaction.action = Action::Withdraw {
            amount: Amount(amount),
        };
        transaction
    }

    fn input(&self, l1_operations: Vec<L1Operation>, slots: Vec<Slot>) -> BatchInput {
        BatchInput {
            shape: Shape::TINY,
            number: BatchNumber(1),
            timestamp: NOW,
            domain: domain(),
            fee_leaves: vec![index(5), index(6)],
            l1_operations,
            slots,
        }
    }

    fn execute(&mut self, l1_operations: Vec<L1Operation>, slots: Vec<Slot>) -> ExecutedBatch {
        let input = self.input(l1_operations, slots);
        execute(&input, &mut self.tree).unwrap()
    }
}

fn slot(signed: SignedTransaction, to: u64) -> Slot {
    Slot::Transaction {
        signed,
        to: index(to),
    }
}

/// Synthesizes a witness with the public inputs of its own data.
fn statement(witness: &BatchWitness) -> Statement {
    let public = witness.data.public(BENEFICIARY);
    let circuit = BatchCircuit::new(witness.clone(), public);
    Statement::synthesize(|cs| circuit.generate_constraints(cs)).0
}

/// One of each: an atomic swap, a transfer that creates, a withdrawal, a deposit that creates, a forced exit that pays.
fn mixed_batch() -> (SparseTree, ExecutedBatch) {
    let mut world = World::new();
    let mut give = world.transfer(1, &world.bob, 1000, 10);
    let mut take = world.transfer(4, &world.alice, 500, 20);
    let (give_core, take_core) = (give.core(), take.core());
    give.link = Word(take_core);
    take.link = Word(give_core);
    let mut create = world.transfer(3, &world.carol, 77_000, 0);
    create.valid_until = NOW;
    let mut leave = world.withdraw(1, 12_345, 3);
    leave.nonce = leave.nonce.next().unwrap();
    let operations = vec![
        L1Operation::Deposit {
            index: index(8),
            owner: world.carol.owner(),
            token: token(7),
            amount: Amount(5),
        },
        exit(&world.bob, 3, 7),
    ];
    let slots = vec![
        slot(world.alice.sign(give), 3),
        slot(world.bob.sign(take), 2),
        slot(world.bob.sign(create), 7),
        slot(world.alice.sign(leave), 0),
    ];
    let before = world.tree.clone();
    (before, world.execute(operations, slots))
}

fn exit(user: &User, leaf: u64, kind: u64) -> L1Operation {
    let key = user.key.public_key();
    L1Operation::ForcedExit {
        index: index(leaf),
        token: token(kind),
        sender: user.l1,
        key_x: Word(key.x),
        key_y: Word(key.y),
    }
}

#[test]
fn an_honest_batch_of_everything_is_accepted_and_replays_from_its_posted_bytes() {
    let (mut before, batch) = mixed_batch();
    let statement = statement(&batch.witness);
    assert_eq!(statement.rejected_by(), None);
    let posted = batch.data.posted();
    let mut data = batch.data.clone();
    data.rows.clear();
    let decoded = crate::batch::BatchData::from_posted(
        data.shape,
        data.header.clone(),
        data.l1_rows.clone(),
        &posted,
    )
    .unwrap();
    assert_eq!(decoded, batch.data);
    replay(&decoded, &mut before).unwrap();
    assert_eq!(Word(before.root()), batch.data.header.new_root);
}

#[test]
fn a_batch_that_does_nothing_is_accepted() {
    let witness = BatchWitness::empty(Shape::TINY);
    assert_eq!(statement(&witness).rejected_by(), None);
}

/// The rule that rejects a batch whose public inputs agree with its (false) data.
fn rejection(witness: &BatchWitness) -> &'static str {
    statement(witness)
        .rejected_by()
        .expect("the lie must be rejected")
}

/// All rules that reject it.
fn rejections(witness: &BatchWitness) -> std::collections::BTreeSet<&'static str> {
    statement(witness).rejections()
}

/// A batch of one transfer and what an attacker changes in it.
fn one_transfer(change: impl FnOnce(&mut BatchWitness)) -> BatchWitness {
    let mut world = World::new();
    let transfer = world.transfer(1, &world.bob, 1000, 10);
    let signed = world.alice.sign(transfer);
    let mut batch = world.execute(vec![], vec![slot(signed, 3)]);
    change(&mut batch.witness);
    batch.witness
}

/// As [`one_transfer`], with a transaction that the native rules would refuse, signed by its account's key.
fn one_signed(tamper: impl FnOnce(&mut Transaction)) -> BatchWitness {
    one_transfer(|witness| {
        let user = User::new(1);
        let row = &mut witness.rows[0];
        let mut transaction = row.signed.unwrap().transaction;
        tamper(&mut transaction);
        row.signed = Some(user.sign(transaction));
        let data = &mut witness.data.rows[0];
        data.fee = transaction.fee;
        if let Action::Transfer { amount, .. } = transaction.action {
            data.amount = amount;
        }
    })
}

#[test]
fn spending_more_than_the_balance_is_rejected() {
    let witness = one_signed(|t| {
        t.action = Action::Transfer {
            recipient: User::new(2).owner(),
            amount: Float40::exact(Amount(1_000_001)).unwrap(),
        };
    });
    assert!(rejections(&witness).contains("the balance covers amount and fee"));
}

#[test]
fn an_amount_of_more_than_128_bits_is_rejected() {
    let witness = one_signed(|t| {
        t.action = Action::Transfer {
            recipient: User::new(2).owner(),
            amount: Float40::from_code((1 << 40) - 1).unwrap(),
        };
    });
    assert!(rejections(&witness).contains("the balance covers amount and fee"));
}

#[test]
fn a_fee_beyond_the_balance_is_rejected() {
    let witness = one_signed(|t| t.fee = FeeCode::from_code(255).unwrap());
    assert!(rejections(&witness).contains("the balance covers amount and fee"));
}

#[test]
fn an_expired_transaction_is_rejected() {
    let witness = one_signed(|t| t.valid_until = Timestamp(NOW.0 - 1));
    assert_eq!(rejections(&witness), ["the row is not expired"].into());
}

#[test]
fn another_nonce_than_the_leafs_is_rejected() {
    // The circuit builds the message from the leaf's nonce, so the signature is over something else.
    let witness = one_signed(|t| t.nonce = Nonce::new(7).unwrap());
    assert!(is_signature_rule(rejection(&witness)));
}

#[test]
fn another_token_than_the_leafs_is_rejected() {
    let witness = one_signed(|t| t.token = token(7));
    assert!(is_signature_rule(rejection(&witness)));
}

#[test]
fn a_signature_for_another_domain_is_rejected() {
    let witness = one_transfer(|witness| {
        let user = User::new(1);
        let transaction = witness.rows[0].signed.unwrap().transaction;
        let elsewhere = Domain::new(1, L1Address([0xc0; 20]));
        witness.rows[0].signed = Some(transaction.sign(&elsewhere, user.l1, &user.key));
    });
    assert!(is_signature_rule(rejection(&witness)));
}

#[test]
fn a_signature_by_another_key_opens_no_leaf_of_the_victim() {
    let witness = one_transfer(|witness| {
        let thief = User::new(66);
        let transaction = witness.rows[0].signed.unwrap().transaction;
        witness.rows[0].signed = Some(thief.sign(transaction));
    });
    assert!(rejections(&witness).contains("the child on the path is the hash below"));
}

#[test]
fn a_changed_posted_amount_is_rejected() {
    let witness = one_transfer(|witness| {
        witness.data.rows[0].amount = Float40::exact(Amount(1001)).unwrap();
    });
    assert!(is_signature_rule(rejection(&witness)));
}

#[test]
fn money_sent_to_a_foreign_leaf_is_rejected() {
    // Bob signed for by Alice; the operator credits its own leaf 5 instead.
    let witness = one_transfer(|witness| {
        witness.data.rows[0].to = index(5);
        let operator = User::new(9);
        let mut account = Account::new(operator.owner(), token(0), Amount(1_000_000));
        account.nonce = Nonce::new(4).unwrap();
        witness.rows[0].to.account = Some(account);
    });
    assert!(rejections(&witness).contains("the child on the path is the hash below"));
}

#[test]
fn money_sent_to_the_recipients_leaf_of_another_token_is_rejected() {
    let mut world = World::new();
    let transfer = world.transfer(1, &world.bob, 1000, 0);
    let signed = world.alice.sign(transfer);
    let other = world.tree.account(index(4)).unwrap();
    let path = world.tree.path(index(4)).unwrap();
    let mut batch = world.execute(vec![], vec![slot(signed, 3)]);
    batch.witness.data.rows[0].to = index(4);
    batch.witness.rows[0].to.account = other;
    batch.witness.rows[0].to.path = path;
    assert!(rejections(&batch.witness).contains("the child on the path is the hash below"));
}

#[test]
fn an_empty_leaf_opened_with_fields_is_rejected() {
    // The receiving leaf 7 is empty; the operator pretends that it held a balance.
    let mut world = World::new();
    let transfer = world.transfer(1, &world.carol, 1000, 0);
    let signed = world.alice.sign(transfer);
    let mut batch = world.execute(vec![], vec![slot(signed, 7)]);
    let fake = Account::new(world.carol.owner(), token(0), Amount(1 << 100));
    batch.witness.rows[0].to.account = Some(fake);
    assert!(rejections(&batch.witness).contains("the child on the path is the hash below"));
}

#[test]
fn an_existing_leaf_passed_off_as_empty_is_rejected() {
    let witness = one_transfer(|witness| witness.rows[0].to.account = None);
    assert!(rejections(&witness).contains("the child on the path is the hash below"));
}

#[test]
fn the_last_nonce_cannot_be_spent() {
    let mut world = World::new();
    let mut account = world.tree.account(index(1)).unwrap().unwrap();
    account.nonce = Nonce::new((1 << 40) - 2).unwrap();
    let Ok(()) = world.tree.set(index(1), account);
    let signed = world.alice.sign(world.transfer(1, &world.bob, 1, 0));
    let batch = world.execute(vec![], vec![slot(signed, 3)]);
    assert_eq!(statement(&batch.witness).rejected_by(), None);
    // Now the nonce is 2^40 − 1 and nothing more can be signed; natively refused, so the witness is forged.
    let root = Word(world.tree.root());
    let last = world.tree.account(index(1)).unwrap().unwrap();
    let mut forged = batch.witness;
    forged.data.header.old_root = root;
    forged.rows[0].from.account = Some(last);
    forged.rows[0].from.path = world.tree.path(index(1)).unwrap();
    let mut transaction = forged.rows[0].signed.unwrap().transaction;
    transaction.nonce = last.nonce;
    forged.rows[0].signed = Some(world.alice.sign(transaction));
    assert!(rejections(&forged).contains("the nonce can grow"));
}

#[test]
fn linked_halves_split_apart_are_rejected() {
    let (_, batch) = mixed_batch();
    let mut witness = batch.witness;
    // The swap stands at rows 0 and 1; break the pair by moving its halves to rows 0 and 2.
    witness.rows.swap(1, 2);
    witness.data.rows.swap(1, 2);
    assert!(rejections(&witness).contains("a linked row stands beside the one it names"));
}

#[test]
fn a_transfer_of_nothing_creates_no_leaf() {
    let mut world = World::new();
    let transfer = world.transfer(1, &world.carol, 1, 0);
    let signed = world.alice.sign(transfer);
    let mut batch = world.execute(vec![], vec![slot(signed, 7)]);
    let Action::Transfer { recipient, .. } = transfer.action else {
        panic!("a transfer")
    };
    let action = Action::Transfer {
        recipient,
        amount: Float40::ZERO,
    };
    batch.witness.rows[0].signed = Some(world.alice.sign(Transaction { action, ..transfer }));
    batch.witness.data.rows[0].amount = Float40::ZERO;
    assert!(rejections(&batch.witness).contains("a transfer of nothing creates no leaf"));
}

#[test]
fn a_fee_without_a_fee_leaf_is_rejected() {
    let mut world = World::new();
    let signed = world.alice.sign(world.transfer(1, &world.bob, 1000, 10));
    let mut input = world.input(vec![], vec![slot(signed, 3)]);
    input.fee_leaves = vec![index(6)]; // gathers token 7 only
    let mut tree = world.tree.clone();
    assert!(execute(&input, &mut tree).is_err());
    let batch = world.execute(vec![], vec![slot(signed, 3)]);
    let mut witness = batch.witness;
    witness.data.header.fee_leaves = vec![AccountIndex::ZERO, index(6)];
    witness.fees[0].leaf = BatchWitness::empty(Shape::TINY).fees[0].leaf.clone();
    assert!(rejections(&witness).contains("a fee has exactly one fee leaf"));
}

#[test]
fn two_fee_leaves_of_one_token_cannot_take_a_fee_twice() {
    let mut world = World::new();
    let twin = Account::new(User::new(9).owner(), token(0), Amount(1));
    let Ok(()) = world.tree.set(index(10), twin);
    let signed = world.alice.sign(world.transfer(1, &world.bob, 1000, 10));
    let batch = world.execute(vec![], vec![slot(signed, 3)]);
    let mut witness = batch.witness;
    witness.data.header.fee_leaves = vec![index(5), index(10)];
    witness.fees[1].leaf.account = Some(twin);
    witness.fees[1].leaf.path = world.tree.path(index(10)).unwrap();
    assert!(rejections(&witness).contains("a fee has exactly one fee leaf"));
}

fn with_l1(operation: L1Operation, change: impl FnOnce(&mut BatchWitness)) -> BatchWitness {
    let mut world = World::new();
    let mut batch = world.execute(vec![operation], vec![]);
    change(&mut batch.witness);
    batch.witness
}

#[test]
fn a_forced_exit_pays_nothing_for_a_foreign_leaf_token_or_key_and_stays_provable() {
    let (alice, bob) = (User::new(1), User::new(2));
    let mut not_a_point = exit(&alice, 1, 0);
    if let L1Operation::ForcedExit { key_x, .. } = &mut not_a_point {
        *key_x = Word(Fr::from(12345u64));
    }
    for claim in [
        exit(&bob, 1, 0),
        exit(&alice, 1, 7),
        exit(&alice, 77, 0),
        not_a_point,
    ] {
        let witness = with_l1(claim, |_| ());
        assert!(matches!(
            witness.data.l1_rows[0],
            L1Row::ForcedExit {
                amount: Amount(0),
                ..
            }
        ));
        assert_eq!(statement(&witness).rejected_by(), None);
    }
}

#[test]
fn a_forced_exit_that_holds_cannot_be_withheld_nor_inflated() {
    for lie in [0, 1_000_001] {
        let witness = with_l1(exit(&User::new(1), 1, 0), |witness| {
            let L1Row::ForcedExit { amount, .. } = &mut witness.data.l1_rows[0] else {
                panic!("a forced exit")
            };
            assert_eq!(*amount, Amount(1_000_000));
            *amount = Amount(lie);
        });
        assert!(rejections(&witness).contains("a forced exit takes the whole balance or nothing"));
    }
}

#[test]
fn a_forced_exit_that_does_not_hold_pays_nobody() {
    let witness = with_l1(exit(&User::new(2), 1, 0), |witness| {
        let L1Row::ForcedExit { amount, .. } = &mut witness.data.l1_rows[0] else {
            panic!("a forced exit")
        };
        *amount = Amount(1_000_000);
    });
    assert!(rejections(&witness).contains("a forced exit takes the whole balance or nothing"));
}

#[test]
fn a_forced_exit_voids_signed_transactions_and_near_the_end_keeps_the_nonce() {
    let mut world = World::new();
    let mut account = world.tree.account(index(1)).unwrap().unwrap();
    for nonce in [
        0,
        (1 << 40) - (1 << 16) - 1,
        (1 << 40) - (1 << 16),
        (1 << 40) - 1,
    ] {
        account.nonce = Nonce::new(nonce).unwrap();
        account.balance = Amount(5);
        let Ok(()) = world.tree.set(index(1), account);
        let batch = world.execute(vec![exit(&world.alice, 1, 0)], vec![]);
        assert_eq!(statement(&batch.witness).rejected_by(), None);
        let after = world.tree.account(index(1)).unwrap().unwrap();
        let expected = if nonce + (1 << 16) < 1 << 40 {
            nonce + (1 << 16)
        } else {
            nonce
        };
        assert_eq!((after.nonce.get(), after.balance), (expected, Amount::ZERO));
    }
}

fn deposit(user: &User, leaf: u64, kind: u64, amount: u128) -> L1Operation {
    L1Operation::Deposit {
        index: index(leaf),
        owner: user.owner(),
        token: token(kind),
        amount: Amount(amount),
    }
}

#[test]
fn deposits_credit_create_or_are_refused() {
    for (leaf, kind) in [(1, 0), (8, 0), (0, 0)] {
        let witness = with_l1(deposit(&User::new(1), leaf, kind, 50), |_| ());
        assert_eq!(statement(&witness).rejected_by(), None, "leaf {leaf}");
    }
}

#[test]
fn a_deposit_into_a_foreign_leaf_or_token_is_rejected() {
    let honest = deposit(&User::new(1), 1, 0, 50);
    for (owner, kind) in [(User::new(2).owner(), 0), (User::new(1).owner(), 7)] {
        let witness = with_l1(honest, |witness| {
            witness.data.l1_rows[0] = L1Row::Deposit {
                index: index(1),
                owner,
                token: token(kind),
                amount: Amount(50),
            };
        });
        let rule = "a deposit credits a leaf of its own owner and token";
        assert!(rejections(&witness).contains(rule));
    }
}

#[test]
fn a_deposit_of_nothing_creates_no_leaf() {
    let witness = with_l1(deposit(&User::new(3), 8, 0, 50), |witness| {
        let L1Row::Deposit { amount, .. } = &mut witness.data.l1_rows[0] else {
            panic!("a deposit")
        };
        *amount = Amount::ZERO;
    });
    assert!(rejections(&witness).contains("a deposit of nothing creates no leaf"));
}

#[test]
fn a_deposit_that_is_dropped_or_doubled_is_rejected() {
    for claimed in [49, 100] {
        let witness = with_l1(deposit(&User::new(1), 1, 0, 50), |witness| {
            let L1Row::Deposit { amount, .. } = &mut witness.data.l1_rows[0] else {
                panic!("a deposit")
            };
            *amount = Amount(claimed);
        });
        assert!(
            rejections(&witness).contains("the leaf is in the tree"),
            "the next access differs"
        );
    }
}

#[test]
fn a_root_that_does_not_follow_is_rejected() {
    let witness = one_transfer(|witness| witness.data.header.new_root = Word(Fr::from(1u64)));
    assert_eq!(
        rejections(&witness),
        ["new root follows from the operations"].into()
    );
    let witness = one_transfer(|witness| witness.data.header.old_root = Word(Fr::from(1u64)));
    assert!(rejections(&witness).contains("the leaf is in the tree"));
}

#[test]
fn leaf_zero_cannot_be_written() {
    // A Withdraw's second access is of leaf 0: pretending that it exists, or creating it, fails.
    let mut world = World::new();
    let signed = world.alice.sign(world.withdraw(1, 100, 0));
    let mut batch = world.execute(vec![], vec![slot(signed, 0)]);
    let fake = Account::new(world.alice.owner(), token(0), Amount(1));
    batch.witness.rows[0].to.account = Some(fake);
    assert!(rejections(&batch.witness).contains("only a transfer has a receiving leaf"));
}

#[test]
fn a_withdrawal_pays_the_owners_l1_address_token_and_amount_only() {
    let mut world = World::new();
    let signed = world.alice.sign(world.withdraw(1, 100, 0));
    let honest = world.execute(vec![], vec![slot(signed, 0)]).witness;
    assert_eq!(statement(&honest).rejected_by(), None);
    let lies = [
        (L1Address([0xee; 20]), 0, 100, "C commits to the data"),
        (world.alice.l1, 7, 100, "C commits to the data"),
        (world.alice.l1, 0, 101, "S·Base8 = R8 + h·8A"),
    ];
    for (address, kind, amount, rule) in lies {
        let mut witness = honest.clone();
        witness.data.rows[0].extra = Extra::Withdrawal {
            address,
            token: token(kind),
            amount: Amount(amount),
        };
        assert!(rejections(&witness).contains(rule), "{rule}");
    }
}

#[test]
fn extras_on_a_row_that_owns_none_are_rejected() {
    let stray = [
        Extra::NewAccount {
            owner: User::new(6).owner(),
        },
        Extra::Withdrawal {
            address: User::new(6).l1,
            token: token(0),
            amount: Amount(9),
        },
    ];
    for extra in stray {
        // On a transfer to an existing leaf, and on a Noop.
        for row in [0, 1] {
            let witness = one_transfer(|witness| {
                witness.data.rows.resize(2, Default::default());
                witness.data.rows[row].extra = extra;
            });
            let rules = rejections(&witness);
            assert!(
                rules.contains("C commits to the data")
                    || rules.contains("only a Withdraw has an amount in its extras"),
                "{extra:?} on row {row}: {rules:?}"
            );
        }
    }
}

#[test]
fn a_noop_with_an_amount_fee_or_receiver_is_rejected() {
    for change in [
        |row: &mut crate::batch::Row| row.to = AccountIndex::new(3).unwrap(),
        |row: &mut crate::batch::Row| row.amount = Float40::from_code(1).unwrap(),
        |row: &mut crate::batch::Row| row.fee = FeeCode::from_code(1).unwrap(),
    ] {
        let mut witness = BatchWitness::empty(Shape::TINY);
        witness.data.rows = vec![Default::default()];
        change(&mut witness.data.rows[0]);
        assert!(rejections(&witness).contains("a Noop row is all zero"));
    }
}

#[test]
fn a_transfer_posted_as_a_withdrawal_with_an_amount_code_is_rejected() {
    let witness = one_transfer(|witness| witness.data.rows[0].to = AccountIndex::ZERO);
    assert!(rejections(&witness).contains("a Withdraw has no amount in its row"));
}

#[test]
fn the_words_of_one_circuit_do_not_verify_under_another() {
    let mut witness = BatchWitness::empty(Shape::TINY);
    let public = witness.data.public(BENEFICIARY);
    witness.data.shape.id = 99; // a circuit with the same capacities and another id
    let circuit = BatchCircuit::new(witness, public);
    let (statement, ()) = Statement::synthesize(|cs| circuit.generate_constraints(cs));
    assert!(statement.rejections().contains("C commits to the data"));
}

#[test]
fn wrong_public_inputs_are_rejected_by_name() {
    let (_, batch) = mixed_batch();
    let honest = batch.witness.data.public(BENEFICIARY);
    let one = Fr::from(1u64);
    for (position, rule) in [
        (0, "C commits to the data"),
        (1, "y is the data at z"),
        (2, "y is the data at z"),
    ] {
        let mut public = honest;
        match position {
            0 => public.commitment.0 += one,
            1 => public.challenge.0 += one,
            _ => public.evaluation.0 += one,
        }
        let circuit = BatchCircuit::new(batch.witness.clone(), public);
        let (statement, ()) = Statement::synthesize(|cs| circuit.generate_constraints(cs));
        assert!(statement.rejections().contains(rule));
    }
}

#[test]
fn sending_to_oneself_debits_then_credits() {
    let mut world = World::new();
    let signed = world.alice.sign(world.transfer(1, &world.alice, 1000, 10));
    let batch = world.execute(vec![], vec![slot(signed, 1)]);
    assert_eq!(statement(&batch.witness).rejected_by(), None);
    assert_eq!(
        world.tree.account(index(1)).unwrap().unwrap().balance,
        Amount(999_990)
    );
}

#[test]
fn a_second_opening_of_a_leaf_as_it_was_before_is_rejected() {
    // Self-transfer credited on the balance before the debit would create money.
    let mut world = World::new();
    let before = world.tree.account(index(1)).unwrap();
    let signed = world.alice.sign(world.transfer(1, &world.alice, 1000, 0));
    let mut batch = world.execute(vec![], vec![slot(signed, 1)]);
    batch.witness.rows[0].to.account = before;
    assert!(rejections(&batch.witness).contains("the child on the path is the hash below"));
}

#[test]
fn no_witness_can_be_changed_alone() {
    let (_, batch) = mixed_batch();
    assert_eq!(
        statement(&batch.witness).loose_witnesses(),
        Vec::<usize>::new()
    );
    assert_eq!(
        statement(&BatchWitness::empty(Shape::TINY)).loose_witnesses(),
        Vec::<usize>::new()
    );
}

#[test]
fn every_wire_follows_from_the_private_inputs() {
    use super::wires::declared;
    let (_, batch) = mixed_batch();
    declared::take();
    let statement = statement(&batch.witness);
    let inputs: Vec<usize> = declared::take()
        .iter()
        .map(|wire| statement.column(wire))
        .collect();
    assert_eq!(statement.undetermined(&inputs), Vec::<usize>::new());
}

fn is_signature_rule(name: &str) -> bool {
    name.contains("sign") || name.contains("S·Base8") || name.contains("equation")
}

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

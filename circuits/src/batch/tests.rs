//! Random batches: native execution, replay from posted bytes, the circuit and a ledger that knows no tree agree.

use super::circuit::BatchCircuit;
use super::*;
use crate::account::Account;
use crate::amount::{FeeCode, Float40};
use crate::eddsa::SecretKey;
use crate::field::Word;
use crate::merkle::{SparseTree, StateTree};
use crate::transaction::{Action, Domain, SignedTransaction, Transaction};
use crate::types::{AccountIndex, Amount, BatchNumber, L1Address, Timestamp, TokenId};
use ark_bn254::Fr;
use ark_ff::Zero;
use ark_relations::gr1cs::{ConstraintSynthesizer, ConstraintSystem};
use proptest::prelude::*;
use std::collections::BTreeMap;

const NOW: Timestamp = Timestamp(1_900_000_000);

fn domain() -> Domain {
    Domain::new(31337, L1Address([0xc0; 20]))
}

fn user(seed: u8) -> (SecretKey, L1Address) {
    (SecretKey::from_bytes([seed; 32]), L1Address([seed; 20]))
}

fn owner(seed: u8) -> crate::account::Owner {
    let (key, l1_address) = user(seed);
    crate::account::Owner::new(l1_address, &key.public_key())
}

fn index(i: u64) -> AccountIndex {
    AccountIndex::new(i).unwrap()
}

/// Accounts 1..=6: users 1, 2, 3 with tokens 0 and 1. Accounts 7, 8: the operator (user 9) with tokens 0 and 1.
fn genesis() -> SparseTree {
    let mut tree = SparseTree::new();
    let holders = [
        (1, 0),
        (1, 1),
        (2, 0),
        (2, 1),
        (3, 0),
        (3, 1),
        (9, 0),
        (9, 1),
    ];
    for (position, (seed, token)) in holders.into_iter().enumerate() {
        let token = TokenId::new(token).unwrap();
        let Ok(()) = tree.set(
            index(position as u64 + 1),
            Account::new(owner(seed), token, Amount(10_000_000)),
        );
    }
    tree
}

/// One thing that a random batch may try.
#[derive(Debug, Clone)]
enum Attempt {
    Transfer {
        from: u64,
        to: u64,
        amount: u128,
        fee: u8,
    },
    Create {
        from: u64,
        seed: u8,
        leaf: u64,
        amount: u128,
    },
    Withdraw {
        from: u64,
        amount: u128,
        fee: u8,
    },
    Noop,
}

fn arb_attempt() -> impl Strategy<Value = Attempt> {
    let amount = prop_oneof![Just(0u128), Just(1), 0u128..20_000_000, Just(10_000_000)];
    prop_oneof![
        4 => (1u64..=6, 1u64..=8, amount.clone(), 0u8..40)
            .prop_map(|(from, to, amount, fee)| Attempt::Transfer { from, to, amount, fee }),
        1 => (1u64..=6, 10u8..13, 100u64..103, amount.clone())
            .prop_map(|(from, seed, leaf, amount)| Attempt::Create { from, seed, leaf, amount }),
        2 => (1u64..=6, amount, 0u8..40)
            .prop_map(|(from, amount, fee)| Attempt::Withdraw { from, amount, fee }),
        1 => Just(Attempt::Noop),
    ]
}

fn arb_l1() -> impl Strategy<Value = L1Operation> {
    prop_oneof![
        (0u64..=8, 1u8..4, 0u64..2, 1u128..1_000_000).prop_map(|(leaf, seed, token, amount)| {
            L1Operation::Deposit {
                index: index(leaf),
                owner: owner(seed),
                token: TokenId::new(token).unwrap(),
                amount: Amount(amount),
            }
        }),
        (1u64..=10, 1u8..4, 0u64..2).prop_map(|(leaf, seed, token)| {
            let (key, sender) = user(seed);
            let key = key.public_key();
            L1Operation::ForcedExit {
                index: index(leaf),
                token: TokenId::new(token).unwrap(),
                sender,
                key_x: Word(key.x),
                key_y: Word(key.y),
            }
        }),
    ]
}

/// Signs the attempt against the account as it now is in `ledger`; `None` where it has no account to pay from.
fn sign(attempt: &Attempt, ledger: &BTreeMap<u64, Account>) -> Option<(SignedTransaction, u64)> {
    let (from, fee, amount) = match *attempt {
        Attempt::Transfer {
            from, amount, fee, ..
        }
        | Attempt::Withdraw { from, amount, fee } => (from, fee, amount),
        Attempt::Create { from, amount, .. } => (from, 0, amount),
        Attempt::Noop => return None,
    };
    let account = ledger.get(&from)?;
    let seed = (1..=9).find(|seed| owner(*seed) == account.owner)?;
    let (action, to) = match *attempt {
        Attempt::Transfer { to, .. } => {
            let recipient = ledger.get(&to)?.owner;
            (
                Action::Transfer {
                    recipient,
                    amount: Float40::floor(Amount(amount)),
                },
                to,
            )
        }
        Attempt::Create { seed, leaf, .. } => {
            let amount = Float40::floor(Amount(amount));
            (
                Action::Transfer {
                    recipient: owner(seed),
                    amount,
                },
                leaf,
            )
        }
        _ => (
            Action::Withdraw {
                amount: Amount(amount),
            },
            0,
        ),
    };
    let transaction = Transaction {
        from: index(from),
        nonce: account.nonce,
        token: account.token,
        fee: FeeCode::from_code(fee.into()).unwrap(),
        action,
        link: Word(Fr::zero()),
        valid_until: NOW,
    };
    let (key, l1_address) = user(seed);
    Some((transaction.sign(&domain(), l1_address, &key), to))
}

/// The independent model: accounts in a map, each effect written out; `false` leaves it as it was.
fn model_transaction(
    ledger: &mut BTreeMap<u64, Account>,
    signed: &SignedTransaction,
    to: u64,
) -> bool {
    let transaction = &signed.transaction;
    let from = transaction.from.get();
    let (amount, fee) = (
        transaction.amount().unwrap().0,
        transaction.fee.value().unwrap().0,
    );
    let before = ledger.clone();
    let payer = ledger.get_mut(&from).unwrap();
    let Some(rest) = payer.balance.0.checked_sub(amount + fee) else {
        return false;
    };
    payer.balance = Amount(rest);
    payer.nonce = payer.nonce.next().unwrap();
    let token = payer.token;
    if let Action::Transfer { recipient, .. } = transaction.action {
        let account = ledger
            .entry(to)
            .or_insert_with(|| Account::new(recipient, token, Amount::ZERO));
        let fits = account.owner == recipient && account.token == token;
        let created = !before.contains_key(&to);
        if !fits || (created && amount == 0) {
            *ledger = before;
            return false;
        }
        account.balance.0 += amount;
    }
    let fee_leaf = 7 + token.get();
    ledger.get_mut(&fee_leaf).unwrap().balance.0 += fee;
    true
}

fn model_l1(ledger: &mut BTreeMap<u64, Account>, operation: &L1Operation) -> bool {
    match *operation {
        L1Operation::Deposit { index, .. } if index.is_zero() => true,
        L1Operation::Deposit {
            index,
            owner,
            token,
            amount,
        } => match ledger.get_mut(&index.get()) {
            None => {
                ledger.insert(index.get(), Account::new(owner, token, amount));
                true
            }
            Some(account) if account.owner == owner && account.token == token => {
                account.balance.0 += amount.0;
                true
            }
            Some(_) => false,
        },
        L1Operation::ForcedExit {
            index,
            token,
            sender,
            ..
        } => {
            let account = ledger
                .get_mut(&index.get())
                .filter(|account| account.token == token && account.owner == owner(sender.0[0]));
            if let Some(account) = account {
                account.balance = Amount::ZERO;
                account.nonce = account.nonce.after_forced_exit();
            }
            true
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]
    #[test]
    fn native_replay_circuit_and_ledger_agree(
        operations in prop::collection::vec(arb_l1(), 0..=2),
        attempts in prop::collection::vec(arb_attempt(), 0..=6),
    ) {
        let mut tree = genesis();
        let mut before = tree.clone();
        let mut ledger: BTreeMap<u64, Account> =
            tree.accounts().map(|(index, account)| (index.get(), *account)).collect();
        let operations: Vec<_> =
            operations.into_iter().filter(|operation| model_l1(&mut ledger, operation)).collect();
        let mut slots = Vec::new();
        for attempt in &attempts {
            if slots.len() == Shape::TINY.transaction_rows {
                break;
            }
            match sign(attempt, &ledger) {
                None => slots.push(Slot::Noop),
                Some((signed, to)) => {
                    if model_transaction(&mut ledger, &signed, to) {
                        slots.push(Slot::Transaction { signed, to: index(to) });
                    }
                }
            }
        }
        let input = BatchInput {
            shape: Shape::TINY,
            number: BatchNumber(7),
            timestamp: NOW,
            domain: domain(),
            fee_leaves: vec![index(7), index(8)],
            l1_operations: operations,
            slots,
        };
        let batch = execute(&input, &mut tree).expect("the model accepted every operation");
        let after: BTreeMap<u64, Account> =
            tree.accounts().map(|(index, account)| (index.get(), *account)).collect();
        prop_assert_eq!(&after, &ledger);

        let decoded = BatchData::from_posted(
            input.shape, batch.data.header.clone(), batch.data.l1_rows.clone(), &batch.data.posted(),
        ).expect("what was posted decodes");
        prop_assert_eq!(decoded.words(), batch.data.words());
        replay(&decoded, &mut before).expect("what was executed replays");
        prop_assert_eq!(before.root(), tree.root());

        let public = batch.data.public(L1Address([1; 20]));
        let cs = ConstraintSystem::new_ref();
        BatchCircuit::new(batch.witness, public).generate_constraints(cs.clone()).unwrap();
        prop_assert!(cs.is_satisfied().unwrap());
    }

    #[test]
    fn posted_bytes_decode_or_are_refused_and_never_panic(
        rows in prop::collection::vec(any::<u8>(), 0..100),
        extras in prop::collection::vec(any::<u8>(), 0..120),
    ) {
        let header = BatchWitness::empty(Shape::TINY).data.header;
        let posted = Posted { rows, extras };
        if let Ok(data) = BatchData::from_posted(Shape::TINY, header, vec![], &posted) {
            prop_assert_eq!(data.words().len(), Shape::TINY.words());
        }
    }
}

fn decode(rows: &[Row], extras: Vec<u8>) -> Result<BatchData, DecodeError> {
    let header = BatchWitness::empty(Shape::TINY).data.header;
    let rows = rows.iter().flat_map(Row::bytes).collect();
    BatchData::from_posted(Shape::TINY, header, vec![], &Posted { rows, extras })
}

fn row(from: u64, to: u64) -> Row {
    Row {
        from: index(from),
        to: index(to),
        ..Row::default()
    }
}

#[test]
fn each_malformed_posting_is_refused_by_its_rule() {
    let pair = [row(1, 2), row(3, 0)];
    assert_eq!(decode(&pair[..1], vec![]), Err(DecodeError::RowsLength(12)));
    let too_many = DecodeError::TooMany {
        what: "transaction rows",
        got: 6,
        capacity: 4,
    };
    assert_eq!(decode(&[pair, pair, pair].concat(), vec![]), Err(too_many));
    assert_eq!(decode(&pair, vec![0]), Err(DecodeError::ExtrasTruncated(0)));
    assert_eq!(
        decode(&pair, vec![0; 33]),
        Err(DecodeError::ExtrasTruncated(0))
    );
    let beyond = DecodeError::ExtrasRow { got: 2, rows: 2 };
    assert_eq!(
        decode(&pair, [vec![0, 2], vec![0; 40]].concat()),
        Err(beyond)
    );
    let twice = [vec![0; 34], vec![0; 34]].concat();
    assert_eq!(
        decode(&pair, twice),
        Err(DecodeError::ExtrasOrder {
            previous: 0,
            got: 0
        })
    );
    let huge = [vec![0, 0], vec![0xff; 32]].concat();
    assert_eq!(decode(&pair, huge), Err(DecodeError::OwnerNotCanonical(0)));
    let withdrawal = [vec![0, 1], vec![7; 40]].concat();
    let data = decode(&pair, withdrawal).unwrap();
    assert!(matches!(
        data.rows[1].extra,
        Extra::Withdrawal {
            amount: Amount(_),
            ..
        }
    ));
}

#[test]
fn content_never_decides_which_record_an_extra_is() {
    // 42 bytes that would read well as a withdrawal, on a row that is none: they are an owner and 8 stray bytes.
    let record = [vec![0, 0], vec![1; 40]].concat();
    let refused = decode(&[row(1, 2), row(3, 0)], record);
    assert_eq!(
        refused,
        Err(DecodeError::ExtrasRow {
            got: 0x0101,
            rows: 2
        })
    );
}

#[test]
fn replay_refuses_a_gap_a_false_root_and_what_does_not_follow() {
    let mut tree = genesis();
    let before = tree.clone();
    let ledger = tree
        .accounts()
        .map(|(index, account)| (index.get(), *account))
        .collect();
    let attempt = Attempt::Transfer {
        from: 1,
        to: 3,
        amount: 5,
        fee: 1,
    };
    let (signed, to) = sign(&attempt, &ledger).unwrap();
    let input = BatchInput {
        shape: Shape::TINY,
        number: BatchNumber(1),
        timestamp: NOW,
        domain: domain(),
        fee_leaves: vec![index(7)],
        l1_operations: vec![],
        slots: vec![Slot::Transaction {
            signed,
            to: index(to),
        }],
    };
    let data = execute(&input, &mut tree).unwrap().data;
    let refused = |change: &dyn Fn(&mut BatchData)| {
        let mut data = data.clone();
        change(&mut data);
        replay(&data, &mut before.clone()).unwrap_err()
    };
    let elsewhere = Word(Fr::from(1u64));
    assert!(matches!(
        refused(&|data| data.header.old_root = elsewhere),
        ReplayError::OldRootDiffers { .. }
    ));
    assert!(matches!(
        refused(&|data| data.header.new_root = elsewhere),
        ReplayError::NewRootDiffers { .. }
    ));
    assert!(matches!(
        refused(&|data| data.rows[0].extra = Extra::NewAccount { owner: owner(1) }),
        ReplayError::Inconsistent {
            region: "row",
            row: 0
        }
    ));
    assert!(matches!(
        refused(&|data| data.header.fee_leaves.clear()),
        ReplayError::Batch(BatchError::FeeWithoutLeaf { row: 0, .. })
    ));
    assert!(matches!(
        refused(&|data| data.header.fee_leaves = vec![index(7), index(7)]),
        ReplayError::Batch(BatchError::FeeLeaf { .. })
    ));
}

//! Someone lies to the contract, or to those who read it: each lie is refused under the name of the rule that it breaks, or hurts
//! nobody but the liar.

use crate::ETHER;
use alloy::primitives::{Bytes, U256, keccak256};
use millrace_circuits::batch::BatchPublic;
use millrace_circuits::field::Word;
use millrace_l1::bindings::IRollup::{Batch, Proof};
use millrace_l1::bindings::Rollup;
use millrace_l1::on_both_chains;
use millrace_l1::rollup_client::RollupError;
use millrace_rollup::batch_log::{BatchRecord, BatchStage};
use millrace_rollup::l1::convert::{from_batch, to_u256, to_word};
use millrace_rollup::mempool::TransactionState;
use millrace_tests::world::{ETH, World, fresh_id, refused_by};

/// The scalar field's modulus.
const R: &str = "21888242871839275222246405745257275088548364400416034343698204186575808495617";
/// The base field's modulus.
const Q: &str = "21888242871839275222246405745257275088696311157297823662689037894645226208583";

fn number(text: &str) -> U256 {
    text.parse().unwrap()
}

/// Where the first creation's owner, and the first withdrawal's address, stand in the extras of [`rich_batch`].
const OWNER_AT: usize = 2;
const ADDRESS_AT: usize = 34 + 2;

/// A batch with a deposit, a transfer that makes a leaf (row 0) and a withdrawal (row 1).
async fn rich_batch(world: &mut World) -> (Batch, Proof) {
    world.deposit(0, 2 * ETHER).await;
    world.pay(0, 1, ETHER, 0).await;
    world.withdraw(0, ETHER / 2, 0).await;
    let sealed = world.seal().await;
    world.prove().await;
    let (batch, proof) = world.posting(sealed);
    assert_eq!(batch.extras.len(), 34 + 42);
    (batch, proof)
}

async fn together(
    world: &World,
    number: u64,
    batch: Batch,
    proof: Proof,
) -> Result<(), RollupError> {
    let (sender, id) = (&world.operator.sender, fresh_id("both"));
    let sent = world
        .client
        .commit_and_prove(sender, &id, number, batch, proof);
    sent.await.map(|_| ())
}

fn with(bytes: &Bytes, at: usize, change: impl Fn(u8) -> u8) -> Bytes {
    let mut changed = bytes.to_vec();
    changed[at] = change(changed[at]);
    changed.into()
}

/// The record of a batch as if it had posted this under the true batch's commitment, which the contract takes from the liar.
fn posted_as(world: &World, record: &BatchRecord, batch: &Batch) -> BatchRecord {
    let old_root = record.data.as_ref().unwrap().header.old_root;
    let data = from_batch(record.number, batch, world.domain(), old_root).unwrap();
    let commitment = record.public.as_ref().unwrap().commitment;
    let mut words = vec![
        to_u256(&commitment.0),
        U256::from_be_bytes(data.data_hash()),
    ];
    words.extend(data.header_words().iter().map(to_u256));
    words.push(U256::from_be_slice(&world.operator.address().0));
    let bytes: Vec<u8> = words
        .iter()
        .flat_map(|word| word.to_be_bytes::<32>())
        .collect();
    let challenge = to_word(U256::from_be_bytes(keccak256(bytes).0) % number(R)).unwrap();
    let evaluation = Word(data.evaluate(challenge.0));
    let public = BatchPublic {
        commitment,
        challenge,
        evaluation,
    };
    BatchRecord {
        data: Some(data),
        public: Some(public),
        ..record.clone()
    }
}

on_both_chains! {
    /// One true batch with one true proof, changed in one place at a time: each change has its refusal, and the unchanged one is
    /// taken after all of them.
    async fn every_part_of_a_batch_is_bound_to_its_proof(l1: TestL1) {
        let mut world = World::start(l1).await;
        let (batch, proof) = rich_batch(&mut world).await;
        let (r, q) = (number(R), number(Q));
        let batches: Vec<(&str, &str, Box<dyn Fn(&mut Batch)>)> = vec![
            ("root", "ProofIsFalse", Box::new(|b| b.newRoot -= U256::from(1))),
            ("root not below r", "WordOutOfRange", Box::new(move |b| b.newRoot = r)),
            ("commitment", "ProofIsFalse", Box::new(|b| b.commitment -= U256::from(1))),
            ("commitment plus r", "WordOutOfRange", Box::new(move |b| b.commitment += r)),
            ("amount in a row", "ProofIsFalse", Box::new(|b| b.rows = with(&b.rows, 10, |x| x ^ 1))),
            ("recipient's leaf", "ProofIsFalse", Box::new(|b| b.rows = with(&b.rows, 5, |x| x ^ 4))),
            ("a row left out", "RowsLength", Box::new(|b| b.rows = b.rows.slice(..b.rows.len() - 12))),
            ("owner in an extra", "ProofIsFalse", Box::new(|b| b.extras = with(&b.extras, OWNER_AT + 31, |x| x ^ 1))),
            ("owner not below r", "WordOutOfRange", Box::new(|b| b.extras = with(&b.extras, OWNER_AT, |_| 0xff))),
            ("receiver of a withdrawal", "ProofIsFalse", Box::new(|b| b.extras = with(&b.extras, ADDRESS_AT, |x| x ^ 1))),
            ("an extra cut short", "ExtraTruncated", Box::new(|b| b.extras = b.extras.slice(..b.extras.len() - 1))),
            ("extras out of order", "ExtraOutOfOrder", Box::new(|b| b.extras = with(&b.extras, 35, |_| 0))),
            ("an extra without a row", "ExtraWithoutRow", Box::new(|b| b.extras = with(&b.extras, 35, |_| 9))),
            ("a deposit's leaf", "ProofIsFalse", Box::new(|b| b.l1Rows[0].result += 1)),
            ("a request's amount", "RequestMismatch", Box::new(|b| b.l1Rows[0].request.amount += 1)),
            ("a request left out", "ProofIsFalse", Box::new(|b| b.l1Rows.clear())),
            ("timestamp", "ProofIsFalse", Box::new(|b| b.timestamp -= 1)),
            ("timestamp ahead", "TimestampOutOfRange", Box::new(|b| b.timestamp += 1_000_000)),
            ("beneficiary", "ProofIsFalse", Box::new(|b| b.beneficiary.0[0] ^= 1)),
            ("fee leaves", "ProofIsFalse", Box::new(|b| b.feeLeaves += U256::from(1))),
            ("fee leaves too wide", "FeeLeavesOutOfRange", Box::new(|b| b.feeLeaves = U256::MAX)),
            ("circuit", "UnknownCircuit", Box::new(|b| b.circuitId = 77)),
        ];
        for (what, rule, change) in batches {
            let mut changed = batch.clone();
            change(&mut changed);
            assert_eq!(refused_by(together(&world, 1, changed, proof.clone()).await), rule, "{what}");
        }
        let proofs: Vec<(&str, &str, Box<dyn Fn(&mut Proof)>)> = vec![
            ("A negated", "ProofIsFalse", Box::new(move |p| p.a[1] = q - p.a[1])),
            ("A off the curve", "ProofIsFalse", Box::new(|p| p.a[0] += U256::from(1))),
            ("A for C", "ProofIsFalse", Box::new(|p| p.c = p.a)),
            ("B off the curve", "ProofIsFalse", Box::new(|p| p.b[0] ^= U256::from(1))),
            ("a coordinate plus q", "CoordinateOutOfRange", Box::new(move |p| p.a[0] += q)),
            ("all zero", "ProofIsFalse", Box::new(|p| *p = Proof::default())),
        ];
        for (what, rule, change) in proofs {
            let mut changed = proof.clone();
            change(&mut changed);
            assert_eq!(refused_by(together(&world, 1, batch.clone(), changed).await), rule, "{what}");
        }
        assert_eq!(refused_by(together(&world, 2, batch.clone(), proof.clone()).await), "BatchNumberMismatch");
        let stranger = &world.users[2].sender;
        let id = fresh_id("both");
        let theirs = world.client.commit_and_prove(stranger, &id, 1, batch.clone(), proof.clone());
        assert_eq!(refused_by(theirs.await), "NotOperator");

        together(&world, 1, batch.clone(), proof.clone()).await.unwrap();
        assert_eq!(refused_by(together(&world, 1, batch, proof).await), "BatchNumberMismatch", "once is once");
        world.sync().await;
        world.post().await;
        assert_eq!(world.restored_root().await, world.root());
        world.stop().await;
    }

    /// Two proofs that are false in ways which cancel each other in an unweighted sum are refused together.
    async fn false_proofs_whose_errors_cancel_are_refused(l1: TestL1) {
        let mut world = World::start(l1).await;
        world.deposit(0, ETHER).await;
        let first = world.seal().await;
        world.pay(0, 1, ETHER / 2, 0).await;
        let second = world.seal().await;
        world.post().await;
        world.sync().await;
        world.prove().await;
        let mut stored = Vec::new();
        for number in [first, second] {
            let record = world.batch(number);
            let block = record.committed.unwrap().block;
            stored.push(world.stored(&record, block).await);
        }
        let (one, two) = (world.posting(first).1, world.posting(second).1);
        // The equation sums C over all proofs: swapping two changes each proof, and not the sum.
        let (mut false_one, mut false_two) = (one.clone(), two.clone());
        std::mem::swap(&mut false_one.c, &mut false_two.c);
        let anyone = &world.users[2].sender;
        let prove = async |stored: Vec<_>, proofs| world.client.prove_batches(anyone, &fresh_id("prove"), stored, proofs).await;
        assert_eq!(refused_by(prove(stored.clone(), vec![false_one, false_two]).await), "ProofIsFalse");
        assert_eq!(refused_by(prove(stored.clone(), vec![two.clone(), one.clone()]).await), "ProofIsFalse");
        assert_eq!(refused_by(prove(stored.clone(), vec![one.clone()]).await), "ProofCount");
        assert_eq!(refused_by(prove(vec![stored[1].clone()], vec![two.clone()]).await), "BatchNumberMismatch");
        let mut other = stored.clone();
        other[1].newRoot += U256::from(1);
        assert_eq!(refused_by(prove(other, vec![one.clone(), two.clone()]).await), "StoredBatchMismatch");
        prove(stored, vec![one, two]).await.unwrap();
        world.sync().await;
        assert_eq!(world.batch(second).stage, BatchStage::Finalised);
        world.stop().await;
    }

    /// What was proven for one deployment proves nothing on another, and what users signed for one is worth nothing there.
    async fn nothing_can_be_replayed_on_a_second_deployment(l1: TestL1) {
        let mut world = World::start(l1).await;
        let (mut batch, proof) = rich_batch(&mut world).await;
        let mut other = world.deploy_another().await;
        other.deposit(0, 3 * ETHER).await;
        assert_eq!(refused_by(together(&other, 1, batch.clone(), proof.clone()).await), "RequestMismatch");
        // Even with the other queue's request in its place, the proof is of the first domain.
        let theirs = other.seal().await;
        let requests = other.requests(&other.batch(theirs));
        batch.l1Rows[0].request = millrace_rollup::l1::convert::to_request(&requests[0]);
        batch.timestamp = other.batch(theirs).input.timestamp.0;
        assert_eq!(refused_by(together(&other, 1, batch, proof).await), "ProofIsFalse");
        let payment = world.transfer(0, ETH, world.users[1].owner(), ETHER / 4, 0).await;
        let signed = world.sign(0, payment);
        let refused = other.submit(vec![signed]).await.unwrap_err();
        assert_eq!(refused.code(), "bad_signature");
        world.stop().await;
        other.stop().await;
    }

    /// A commit of data that was tampered with cannot be proven, not even with the true batch's proof. Followers and the sequencer
    /// stay before it, anyone drops it when its proof is overdue, and the true batch is posted with everything acknowledged.
    async fn a_tampered_commit_is_passed_over_and_dropped(l1: TestL1) {
        let mut world = World::start(l1).await;
        world.deposit(0, 2 * ETHER).await;
        let promised = world.pay(0, 1, ETHER, 0).await;
        let number = world.seal().await;
        world.prove().await;
        let (mut batch, proof) = world.posting(number);
        batch.rows = with(&batch.rows, 10, |x| x ^ 1);
        let record = posted_as(&world, &world.batch(number), &batch);
        let sender = &world.operator.sender;
        let landed = world.client.commit_batch(sender, &fresh_id("commit"), 1, batch).await.unwrap();
        let stored = world.stored(&record, landed.block_number.unwrap()).await;
        let anyone = world.users[2].sender.clone();
        let proven = world.client.prove_batches(&anyone, &fresh_id("prove"), vec![stored.clone()], vec![proof]).await;
        assert_eq!(refused_by(proven), "ProofIsFalse");

        world.sync().await;
        world.post().await;
        assert_eq!(world.client.status().await.unwrap().committedBatches, 1, "nothing is built on it");
        let genesis = millrace_circuits::merkle::empty_root(millrace_circuits::types::TREE_DEPTH);
        assert_eq!(world.restored_root().await.0, genesis, "followers stay before it");
        assert_eq!(world.balance(0).await, ETHER, "what was acknowledged stands");

        let revert = async |stored| world.client.revert_batches(&anyone, &fresh_id("revert"), stored).await;
        assert_eq!(refused_by(revert(stored.clone()).await), "ProofNotOverdue");
        world.pass(7 * 3600).await;
        revert(stored).await.unwrap();
        world.sync().await;
        world.seal().await;
        world.post().await; // its time is too old by now: it is sealed anew
        assert_eq!(world.finish().await.0, 1);
        let state = |world: &World| world.rollup.store().transaction(&promised).unwrap().unwrap().state;
        assert!(matches!(state(&world), TransactionState::InBatch { .. }), "{:?}", state(&world));
        assert_eq!(world.restored_root().await, world.root());
        world.restart().await;
        world.sync().await;
        assert_eq!(world.restored_root().await, world.root());
        assert_eq!(world.count::<Rollup::BatchesDropped>().await, 1);
        assert!(matches!(state(&world), TransactionState::InBatch { .. }), "{:?}", state(&world));
        world.stop().await;
    }

    /// What the operator committed and can no longer prove, since it lost its database, it drops itself once the proof is overdue.
    async fn an_operator_that_lost_its_database_drops_what_it_cannot_prove(l1: TestL1) {
        let mut world = World::start(l1).await;
        world.deposit(0, 4 * ETHER).await;
        world.finish().await;
        world.pay(0, 1, ETHER, 0).await;
        world.request_exit(0, world.account(0, ETH).await.0, ETH).await;
        let number = world.seal().await;
        world.post().await;
        world.lose_database().await;
        world.sync().await;
        assert_eq!(world.batch(number).stage, BatchStage::Committed, "read back from L1");

        world.post().await;
        assert_eq!(world.client.status().await.unwrap().committedBatches, number.0, "its proof is not overdue");
        world.pass(6 * 3600 + 60).await;
        world.sync().await;
        world.post().await;
        assert_eq!(world.client.status().await.unwrap().committedBatches, number.0 - 1);
        world.sync().await;
        // The forced exit is still in L1's queue; the payment's signature was in the lost database only.
        world.finish().await;
        let status = world.client.status().await.unwrap();
        assert_eq!((status.provenQueueHead, status.queueTail), (2, 2));
        assert_eq!(world.balance(0).await, 0, "the forced exit took what the lost payment did not");
        assert_eq!(world.restored_root().await, world.root());
        assert_eq!(world.count::<Rollup::BatchesDropped>().await, 1);
        world.stop().await;
    }

    /// The operator itself drops a commit of its own that was never a batch of this state.
    async fn the_operator_drops_its_junk(l1: TestL1) {
        let mut world = World::start(l1).await;
        world.deposit(0, 2 * ETHER).await;
        world.pay(0, 1, ETHER, 0).await;
        let number = world.seal().await;
        world.prove().await;
        let mut batch = world.posting(number).0;
        batch.rows = with(&batch.rows, 10, |x| x ^ 1);
        world.client.commit_batch(&world.operator.sender, &fresh_id("commit"), 1, batch).await.unwrap();
        world.sync().await;
        world.pass(6 * 3600 + 60).await;
        world.sync().await;
        world.post().await;
        world.sync().await;
        assert_eq!(world.client.status().await.unwrap().committedBatches, 0);
        world.seal().await;
        world.post().await;
        world.finish().await;
        assert_eq!((world.balance(0).await, world.balance(1).await), (ETHER, ETHER));
        assert_eq!(world.restored_root().await, world.root());
        world.stop().await;
    }

    /// A flood of requests stretches its own deadlines, is served in order, and keeps nobody's transfers out.
    async fn a_flooded_queue_is_served_in_order(l1: TestL1) {
        let mut world = World::start(l1).await;
        world.deposit(0, ETHER).await;
        let mut deadlines = Vec::new();
        for _ in 0..6 {
            deadlines.push(world.try_deposit(2, ETH, 1000).await.unwrap().value.request.deadline);
        }
        assert!(deadlines.windows(2).all(|pair| pair[1] >= pair[0] + 60), "{deadlines:?}");
        world.sync().await;
        world.pay(0, 1, ETHER / 2, 0).await;
        world.finish().await;
        let status = world.client.status().await.unwrap();
        assert_eq!((status.queueTail, status.provenQueueHead), (7, 7));
        assert_eq!(world.balance(2).await, 6000);
        assert_eq!(world.balance(1).await, ETHER / 2);
        assert_eq!(world.restored_root().await, world.root());
        world.stop().await;
    }
}

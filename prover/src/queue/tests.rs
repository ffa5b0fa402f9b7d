//! The queue against a model, over reopened stores, through bytes, and killed in the middle of its writes.

use super::wire::{RemoteQueue, Request, Transport};
use super::*;
use crate::chain::Chain;
use crate::groth16::{Backend, Reference, VerifyingKey};
use crate::key::{CircuitKey, KeyOrigin};
use crate::setup::Seed;
use ark_bn254::{G1Affine, G2Affine};
use ark_ec::AffineRepr;
use proptest::prelude::*;
use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Write};
use std::process::{Command, Stdio};
use std::sync::Arc;

fn job(batch: u64) -> Job {
    let statement = Statement::Chain(Chain::new(3, batch));
    Job {
        batch: BatchNumber(batch),
        statement,
    }
}

fn key(batch: u64) -> JobKey {
    job(batch).key().unwrap()
}

fn result(mark: u8) -> JobResult {
    let proof = Proof {
        a: G1Affine::generator(),
        b: G2Affine::generator(),
        c: G1Affine::generator(),
    };
    let key = KeyId {
        origin: KeyOrigin::InsecureDev,
        hash: [mark; 32],
    };
    JobResult {
        proof,
        key,
        backend: "test".into(),
        timings: Timings::default(),
    }
}

fn queue() -> Queue {
    Queue::open(MemoryStore::default(), Limits::default()).unwrap()
}

fn at(millis: u64) -> Millis {
    Millis(millis)
}

#[test]
fn keys_read_back_and_name_the_content() {
    assert_eq!(key(7).to_string().parse(), Ok(key(7)));
    assert_ne!(key(7), key(8));
    assert!(key(7).to_string().starts_with("7-"));
    for text in ["", "7", "7-", "x-00", "-1-00"] {
        assert!(text.parse::<JobKey>().is_err(), "{text}");
    }
}

#[test]
fn a_job_is_submitted_once_and_proved_once() {
    let queue = queue();
    let record = queue.submit(&job(1), at(10)).unwrap();
    assert_eq!(queue.submit(&job(1), at(20)).unwrap(), record);
    let lease = queue.lease("a", 100, at(30)).unwrap().unwrap();
    assert_eq!(
        (lease.key, lease.job.clone(), lease.expires),
        (key(1), job(1), at(130))
    );
    assert_eq!(queue.lease("b", 100, at(40)).unwrap(), None);
    queue
        .complete(&lease.key, lease.token, &result(1), at(50))
        .unwrap();
    // The answer may have been lost on its way: handing in again is fine.
    queue
        .complete(&lease.key, lease.token, &result(1), at(51))
        .unwrap();
    assert_eq!(queue.result(&lease.key).unwrap(), Some(result(1)));
    let done = queue.submit(&job(1), at(60)).unwrap();
    assert_eq!(done.state, JobState::Done { token: lease.token });
    assert_eq!(queue.lease("a", 100, at(70)).unwrap(), None);
}

#[test]
fn lower_batches_go_first() {
    let queue = queue();
    for batch in [5, 300, 2, 9] {
        queue.submit(&job(batch), at(0)).unwrap();
    }
    let order: Vec<u64> = std::iter::from_fn(|| queue.lease("a", 100, at(1)).unwrap())
        .map(|lease| lease.job.batch.0)
        .collect();
    assert_eq!(order, [2, 5, 9, 300]);
}

#[test]
fn a_zombie_s_late_result_is_refused() {
    let queue = queue();
    queue.submit(&job(1), at(0)).unwrap();
    let zombie = queue.lease("zombie", 100, at(0)).unwrap().unwrap();
    let heir = queue.lease("heir", 100, at(100)).unwrap().unwrap();
    assert!(heir.token > zombie.token);
    let stale =
        |error| matches!(error, Err(QueueError::StaleLease { got, .. }) if got == zombie.token);
    assert!(stale(queue.complete(
        &key(1),
        zombie.token,
        &result(9),
        at(101)
    )));
    assert!(stale(
        queue.extend(&key(1), zombie.token, 100, at(101)).map(drop)
    ));
    assert!(stale(
        queue.fail(&key(1), zombie.token, "late", at(101)).map(drop)
    ));
    assert!(stale(queue.release(&key(1), zombie.token, at(101))));
    queue
        .complete(&key(1), heir.token, &result(2), at(102))
        .unwrap();
    assert!(stale(queue.complete(
        &key(1),
        zombie.token,
        &result(9),
        at(103)
    )));
    assert_eq!(queue.result(&key(1)).unwrap(), Some(result(2)));
    assert_eq!(queue.get(&key(1)).unwrap().unwrap().expiries, 1);
}

#[test]
fn an_expired_lease_that_nobody_took_is_still_good() {
    let queue = queue();
    queue.submit(&job(1), at(0)).unwrap();
    let lease = queue.lease("slow", 100, at(0)).unwrap().unwrap();
    queue
        .complete(&key(1), lease.token, &result(1), at(5000))
        .unwrap();
    assert!(queue.result(&key(1)).unwrap().is_some());
}

#[test]
fn heartbeats_keep_a_lease() {
    let queue = queue();
    queue.submit(&job(1), at(0)).unwrap();
    let lease = queue.lease("a", 100, at(0)).unwrap().unwrap();
    for step in 1..10 {
        assert_eq!(
            queue.extend(&key(1), lease.token, 100, at(step * 90)),
            Ok(at(step * 90 + 100))
        );
        assert_eq!(queue.lease("b", 100, at(step * 90 + 99)).unwrap(), None);
    }
    assert_eq!(queue.reclaim(at(910)).unwrap(), vec![key(1)]);
    assert!(queue.extend(&key(1), lease.token, 100, at(911)).is_err());
}

#[test]
fn failures_park_a_job_until_it_is_retried() {
    let queue = queue();
    queue.submit(&job(1), at(0)).unwrap();
    let limit = Limits::default().failures;
    for attempt in 1..=limit {
        let lease = queue.lease("a", 100, at(1)).unwrap().unwrap();
        let state = queue
            .fail(&key(1), lease.token, &"é".repeat(2000), at(2))
            .unwrap();
        assert_eq!(state == JobState::Failed, attempt == limit);
    }
    assert_eq!(queue.lease("a", 100, at(3)).unwrap(), None);
    let record = queue.get(&key(1)).unwrap().unwrap();
    assert_eq!((record.failures, record.leases), (limit, limit));
    assert_eq!(
        record.last_failure.unwrap().chars().count(),
        Limits::default().text
    );
    queue.retry(&key(1), at(4)).unwrap();
    assert!(matches!(
        queue.retry(&key(1), at(4)),
        Err(QueueError::WrongState { .. })
    ));
    assert!(queue.lease("a", 100, at(5)).unwrap().is_some());
}

#[test]
fn a_job_that_cannot_be_read_is_parked_and_blocks_nobody() {
    let mut store = MemoryStore::default();
    let queue = Queue::open(store.clone(), Limits::default()).unwrap();
    queue.submit(&job(1), at(0)).unwrap();
    queue.submit(&job(2), at(0)).unwrap();
    let damage = Change {
        statement: Some((key(1), vec![0xff; 9])),
        ..Change::default()
    };
    store.write(&damage).unwrap();
    let lease = queue.lease("a", 100, at(1)).unwrap().unwrap();
    assert_eq!(
        (lease.job.batch, lease.token),
        (BatchNumber(2), FencingToken(0))
    );
    let parked = queue.get(&key(1)).unwrap().unwrap();
    assert_eq!(parked.state, JobState::Failed);
    assert!(parked.last_failure.unwrap().contains("cannot be read"));
}

#[test]
fn releasing_blames_nobody_and_forgetting_removes_all() {
    let queue = queue();
    queue.submit(&job(1), at(0)).unwrap();
    let lease = queue.lease("a", 100, at(1)).unwrap().unwrap();
    queue.release(&key(1), lease.token, at(2)).unwrap();
    let record = queue.get(&key(1)).unwrap().unwrap();
    assert_eq!(
        (record.state, record.failures, record.expiries),
        (JobState::Waiting, 0, 0)
    );
    let lease = queue.lease("a", 100, at(3)).unwrap().unwrap();
    queue.forget(&key(1)).unwrap();
    let late = queue.complete(&key(1), lease.token, &result(1), at(4));
    assert_eq!(late, Err(QueueError::UnknownJob(key(1))));
    assert_eq!(queue.forget(&key(1)), Err(QueueError::UnknownJob(key(1))));
    assert!(queue.list().unwrap().is_empty() && queue.result(&key(1)).unwrap().is_none());
}

#[test]
fn limits_hold() {
    let limits = Limits {
        jobs: 2,
        statement_bytes: 60,
        lease_millis: 50,
        ..Limits::default()
    };
    let queue = Queue::open(MemoryStore::default(), limits).unwrap();
    queue.submit(&job(1), at(0)).unwrap();
    queue.submit(&job(2), at(0)).unwrap();
    assert_eq!(
        queue.submit(&job(3), at(0)),
        Err(QueueError::Full { limit: 2 })
    );
    // A known job is no new one, and a finished one makes room.
    queue.submit(&job(1), at(0)).unwrap();
    let lease = queue.lease("a", u64::MAX, at(0)).unwrap().unwrap();
    assert_eq!(lease.expires, at(50));
    queue
        .complete(&lease.key, lease.token, &result(1), at(1))
        .unwrap();
    queue.submit(&job(3), at(0)).unwrap();
    let limits = Limits {
        statement_bytes: 10,
        ..Limits::default()
    };
    let queue = Queue::open(MemoryStore::default(), limits).unwrap();
    assert!(matches!(
        queue.submit(&job(1), at(0)),
        Err(QueueError::TooLarge { limit: 10, .. })
    ));
}

#[test]
fn every_change_is_announced_and_heartbeats_are_not() {
    let queue = queue();
    let mut watch = queue.watch();
    queue.submit(&job(1), at(0)).unwrap();
    assert!(watch.has_changed().unwrap());
    watch.mark_unchanged();
    queue.submit(&job(1), at(0)).unwrap();
    assert!(!watch.has_changed().unwrap());
    let lease = queue.lease("a", 10, at(0)).unwrap().unwrap();
    watch.mark_unchanged();
    queue.extend(&key(1), lease.token, 10, at(1)).unwrap();
    assert!(!watch.has_changed().unwrap());
    queue
        .complete(&key(1), lease.token, &result(1), at(2))
        .unwrap();
    assert!(watch.has_changed().unwrap());
}

#[test]
fn a_referee_takes_only_proofs_of_the_job_under_the_key() {
    let circuit = Circuit::Chain(3);
    let made = Arc::new(CircuitKey::generate(circuit, &Seed::development()).unwrap());
    let vk: VerifyingKey = made.verifying_key().clone();
    let referee = VerifyingReferee::default().with_key(circuit, made.id, &vk);
    let queue = queue().judged_by(referee);
    queue.submit(&job(1), at(0)).unwrap();
    let other = Job {
        batch: BatchNumber(2),
        statement: Statement::Chain(Chain::new(4, 1)),
    };
    queue.submit(&other, at(0)).unwrap();
    let lease = queue.lease("a", 100, at(0)).unwrap().unwrap();
    let prove = |batch| {
        let assignment = job(batch).statement.assign().unwrap();
        let proof = Reference.prepare(made.clone()).prove(&assignment).unwrap();
        JobResult {
            proof,
            key: made.id,
            ..result(0)
        }
    };
    let refused = |result: &JobResult, lease: &Lease| {
        let answer = queue.complete(&lease.key, lease.token, result, at(1));
        matches!(answer, Err(QueueError::ResultRefused { .. }))
    };
    assert!(refused(&result(1), &lease), "unknown key");
    assert!(
        refused(
            &JobResult {
                key: made.id,
                ..result(1)
            },
            &lease
        ),
        "no proof"
    );
    assert!(refused(&prove(2), &lease), "a proof of another statement");
    queue
        .complete(&lease.key, lease.token, &prove(1), at(1))
        .unwrap();
    let lease = queue.lease("a", 100, at(0)).unwrap().unwrap();
    assert!(refused(&prove(1), &lease), "a circuit without a key");
}

// --- through bytes

struct Direct(Arc<Queue>);

impl Transport for Direct {
    fn exchange(&self, request: &[u8]) -> Result<Vec<u8>, String> {
        Ok(wire::serve(&*self.0, request, at(1000)))
    }
}

#[test]
fn a_remote_worker_works_and_no_more() {
    let owner = Arc::new(queue());
    owner.submit(&job(1), at(0)).unwrap();
    owner.submit(&job(2), at(0)).unwrap();
    let remote = RemoteQueue::new(Direct(owner.clone()));
    // The worker's clock does not count.
    let lease = remote.lease("far", 100, at(u64::MAX)).unwrap().unwrap();
    assert_eq!((lease.job.clone(), lease.expires), (job(1), at(1100)));
    assert_eq!(
        remote.extend(&lease.key, lease.token, 500, at(0)),
        Ok(at(1500))
    );
    remote.release(&lease.key, lease.token, at(0)).unwrap();
    let lease = remote.lease("far", 100, at(0)).unwrap().unwrap();
    remote
        .complete(&lease.key, lease.token, &result(4), at(0))
        .unwrap();
    assert_eq!(owner.result(&key(1)).unwrap(), Some(result(4)));
    let stale = remote.complete(&lease.key, FencingToken(77), &result(5), at(0));
    assert!(
        matches!(stale, Err(QueueError::StaleLease { .. })),
        "{stale:?}"
    );
    let lease = remote.lease("far", 100, at(0)).unwrap().unwrap();
    assert_eq!(
        remote.fail(&lease.key, lease.token, "no", at(0)),
        Ok(JobState::Waiting)
    );
    for refused in [
        remote.submit(&job(3), at(0)).map(drop),
        remote.forget(&key(1)),
        remote.retry(&key(1), at(0)),
        remote.list().map(drop),
        remote.get(&key(1)).map(drop),
        remote.result(&key(1)).map(drop),
        remote.reclaim(at(0)).map(drop),
    ] {
        assert!(matches!(refused, Err(QueueError::Remote(_))), "{refused:?}");
    }
    assert_eq!(owner.list().unwrap().len(), 2);
}

#[test]
fn the_owner_s_calls_have_answers_too() {
    let queue = queue();
    let call = |request| wire::call(&queue, request, at(5)).unwrap();
    let record = queue.submit(&job(1), at(5)).unwrap();
    let submitted = call(Request::Submit {
        job: Box::new(job(1)),
    });
    assert_eq!(submitted, wire::Answer::Record(Box::new(record.clone())));
    assert_eq!(
        call(Request::List),
        wire::Answer::Records(vec![record.clone()])
    );
    assert_eq!(
        call(Request::Get { key: key(1) }),
        wire::Answer::Found(Some(Box::new(record)))
    );
    assert_eq!(
        call(Request::Result { key: key(1) }),
        wire::Answer::Result(None)
    );
    assert_eq!(call(Request::Reclaim), wire::Answer::Keys(vec![]));
    assert_eq!(call(Request::Forget { key: key(1) }), wire::Answer::Nothing);
}

proptest! {
    #[test]
    fn hostile_bytes_get_an_answer(bytes in proptest::collection::vec(any::<u8>(), 0..200), prefix: bool) {
        let queue = queue();
        queue.submit(&job(1), at(0)).unwrap();
        let bytes = if prefix { [&[wire::VERSION][..], &bytes].concat() } else { bytes };
        prop_assert!(!wire::serve(&queue, &bytes, at(1)).is_empty());
        prop_assert_eq!(queue.list().unwrap().len(), 1);
    }
}

// --- against a model

#[derive(Debug, Clone)]
enum Step {
    Submit(u64),
    Lease { millis: u64 },
    Extend { token: u64, millis: u64 },
    Complete { token: u64 },
    Fail { token: u64 },
    Release { token: u64 },
    Reclaim,
    Retry(u64),
    Forget(u64),
    Wait(u64),
    Reopen,
}

fn arb_step() -> impl Strategy<Value = Step> {
    let token = 0u64..12;
    prop_oneof![
        3 => (0u64..4).prop_map(Step::Submit),
        5 => (1u64..60).prop_map(|millis| Step::Lease { millis }),
        2 => (token.clone(), 1u64..60).prop_map(|(token, millis)| Step::Extend { token, millis }),
        2 => token.clone().prop_map(|token| Step::Complete { token }),
        3 => token.clone().prop_map(|token| Step::Fail { token }),
        1 => token.prop_map(|token| Step::Release { token }),
        1 => Just(Step::Reclaim),
        1 => (0u64..4).prop_map(Step::Retry),
        1 => (0u64..4).prop_map(Step::Forget),
        3 => (1u64..50).prop_map(Step::Wait),
        1 => Just(Step::Reopen),
    ]
}

/// The rules once more, as plainly as possible: who holds what, until when.
#[derive(Debug, Default)]
struct Model {
    jobs: BTreeMap<u64, ModelJob>,
    leases_given: u64,
    now: u64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
enum ModelState {
    #[default]
    Free,
    Held {
        token: u64,
        until: u64,
    },
    Done(u64),
    Parked,
}

#[derive(Debug, Default)]
struct ModelJob {
    state: ModelState,
    failures: u32,
}

impl Model {
    fn free(&self) -> Option<u64> {
        let is_free = |job: &ModelJob| match job.state {
            ModelState::Free => true,
            ModelState::Held { until, .. } => until <= self.now,
            ModelState::Done(_) | ModelState::Parked => false,
        };
        self.jobs
            .iter()
            .find(|(_, job)| is_free(job))
            .map(|(batch, _)| *batch)
    }

    fn holder(&mut self, wanted: u64) -> Option<(u64, &mut ModelJob)> {
        let holds =
            |job: &ModelJob| matches!(job.state, ModelState::Held { token, .. } if token == wanted);
        self.jobs
            .iter_mut()
            .find(|(_, job)| holds(job))
            .map(|(batch, job)| (*batch, job))
    }
}

/// Runs a step on both and compares the answers.
fn run(
    step: &Step,
    model: &mut Model,
    queue: &mut Queue,
    reopen: &dyn Fn() -> Queue,
    owners: &mut BTreeMap<u64, u64>,
) {
    let now = at(model.now);
    // Which job a token was given out for; tokens never given out are tried on job 0.
    let batch_of =
        |token: &u64, owners: &BTreeMap<u64, u64>| owners.get(token).copied().unwrap_or(0);
    match *step {
        Step::Submit(batch) => {
            queue.submit(&job(batch), now).unwrap();
            model.jobs.entry(batch).or_default();
        }
        Step::Lease { millis } => {
            let lease = queue.lease("worker", millis, now).unwrap();
            let expected = model.free();
            assert_eq!(lease.as_ref().map(|l| l.job.batch.0), expected);
            if let (Some(lease), Some(batch)) = (lease, expected) {
                assert_eq!(lease.token.0, model.leases_given, "tokens only grow");
                owners.insert(lease.token.0, batch);
                model.leases_given += 1;
                let until = model.now + millis;
                model.jobs.get_mut(&batch).unwrap().state = ModelState::Held {
                    token: lease.token.0,
                    until,
                };
            }
        }
        Step::Extend { token, millis } => {
            let batch = batch_of(&token, owners);
            let answer = queue.extend(&key(batch), FencingToken(token), millis, now);
            let until = model.now + millis;
            let held = model.holder(token);
            assert_eq!(answer.is_ok(), held.is_some());
            if let Some((_, job)) = held {
                job.state = ModelState::Held { token, until };
            }
        }
        Step::Complete { token } => {
            let batch = batch_of(&token, owners);
            let answer =
                queue.complete(&key(batch), FencingToken(token), &result(token as u8), now);
            let repeated = model
                .jobs
                .get(&batch)
                .is_some_and(|job| job.state == ModelState::Done(token));
            let held = model.holder(token);
            assert_eq!(answer.is_ok(), held.is_some() || repeated);
            if let Some((_, job)) = held {
                job.state = ModelState::Done(token);
            }
        }
        Step::Fail { token } => {
            let batch = batch_of(&token, owners);
            let answer = queue.fail(&key(batch), FencingToken(token), "reason", now);
            let held = model.holder(token);
            assert_eq!(answer.is_ok(), held.is_some());
            if let Some((_, job)) = held {
                job.failures += 1;
                let parked = job.failures >= Limits::default().failures;
                job.state = if parked {
                    ModelState::Parked
                } else {
                    ModelState::Free
                };
            }
        }
        Step::Release { token } => {
            let batch = batch_of(&token, owners);
            let answer = queue.release(&key(batch), FencingToken(token), now);
            let held = model.holder(token);
            assert_eq!(answer.is_ok(), held.is_some());
            if let Some((_, job)) = held {
                job.state = ModelState::Free;
            }
        }
        Step::Reclaim => {
            let reclaimed = queue.reclaim(now).unwrap();
            let mut expected = Vec::new();
            for (batch, job) in &mut model.jobs {
                if matches!(job.state, ModelState::Held { until, .. } if until <= model.now) {
                    job.state = ModelState::Free;
                    expected.push(key(*batch));
                }
            }
            assert_eq!(reclaimed, expected);
        }
        Step::Retry(batch) => {
            let parked = model
                .jobs
                .get(&batch)
                .is_some_and(|job| job.state == ModelState::Parked);
            assert_eq!(queue.retry(&key(batch), now).is_ok(), parked);
            if parked {
                model.jobs.insert(batch, ModelJob::default());
            }
        }
        Step::Forget(batch) => {
            assert_eq!(
                queue.forget(&key(batch)).is_ok(),
                model.jobs.remove(&batch).is_some()
            );
        }
        Step::Wait(millis) => model.now += millis,
        Step::Reopen => *queue = reopen(),
    }
}

fn compare(model: &Model, queue: &Queue) {
    let listed = queue.list().unwrap();
    let batches: Vec<u64> = listed.iter().map(|record| record.key.batch.0).collect();
    assert_eq!(batches, model.jobs.keys().copied().collect::<Vec<_>>());
    for record in listed {
        let job = &model.jobs[&record.key.batch.0];
        let state = match record.state {
            JobState::Waiting => ModelState::Free,
            JobState::Leased { token, expires, .. } => ModelState::Held {
                token: token.0,
                until: expires.0,
            },
            JobState::Done { token } => ModelState::Done(token.0),
            JobState::Failed => ModelState::Parked,
        };
        assert_eq!((state, record.failures), (job.state, job.failures));
        let kept = queue.result(&record.key).unwrap();
        match job.state {
            ModelState::Done(token) => assert_eq!(kept, Some(result(token as u8))),
            _ => assert_eq!(kept, None),
        }
    }
}

fn follow_model(steps: &[Step], mut queue: Queue, reopen: &dyn Fn() -> Queue) {
    let (mut model, mut owners) = (Model::default(), BTreeMap::new());
    for step in steps {
        run(step, &mut model, &mut queue, reopen, &mut owners);
        compare(&model, &queue);
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, ..ProptestConfig::default() })]

    #[test]
    fn the_queue_follows_its_model(steps in proptest::collection::vec(arb_step(), 1..80)) {
        let store = MemoryStore::default();
        let open = || Queue::open(store.clone(), Limits::default()).unwrap();
        follow_model(&steps, open(), &open);
    }
}

#[test]
fn the_queue_on_disk_follows_its_model() {
    use proptest::strategy::ValueTree;
    use proptest::test_runner::TestRunner;
    let mut runner = TestRunner::deterministic();
    let steps = proptest::collection::vec(arb_step(), 60..61);
    for _ in 0..4 {
        let steps = steps.new_tree(&mut runner).unwrap().current();
        let directory = tempfile::tempdir().unwrap();
        let open = || {
            Queue::open(
                DiskStore::open(directory.path()).unwrap(),
                Limits::default(),
            )
            .unwrap()
        };
        let (mut model, mut owners) = (Model::default(), BTreeMap::new());
        let mut queue = open();
        for step in &steps {
            if matches!(step, Step::Reopen) {
                // A directory has one owner at a time.
                assert!(DiskStore::open(directory.path()).is_err());
                drop(std::mem::replace(&mut queue, self::queue()));
                queue = open();
            } else {
                run(step, &mut model, &mut queue, &open, &mut owners);
            }
            compare(&model, &queue);
        }
    }
}

#[test]
fn a_store_of_another_version_is_refused() {
    let directory = tempfile::tempdir().unwrap();
    DiskStore::open(directory.path())
        .unwrap()
        .overwrite_format(2);
    let error = DiskStore::open(directory.path()).map(drop).unwrap_err();
    assert!(error.0.contains("another version"), "{error}");
}

/// A store whose disk fails from some write on.
struct Failing(MemoryStore, u32);

impl JobStore for Failing {
    fn load(&self) -> Result<Stored, StoreError> {
        self.0.load()
    }
    fn write(&mut self, change: &Change) -> Result<(), StoreError> {
        self.1 = self
            .1
            .checked_sub(1)
            .ok_or_else(|| StoreError("no space left".into()))?;
        self.0.write(change)
    }
    fn statement(&self, key: &JobKey) -> Result<Option<Vec<u8>>, StoreError> {
        self.0.statement(key)
    }
    fn result(&self, key: &JobKey) -> Result<Option<Vec<u8>>, StoreError> {
        self.0.result(key)
    }
}

#[test]
fn what_could_not_be_written_did_not_happen() {
    let store = MemoryStore::default();
    let queue = Queue::open(Failing(store.clone(), 2), Limits::default()).unwrap();
    queue.submit(&job(1), at(0)).unwrap();
    let lease = queue.lease("a", 100, at(0)).unwrap().unwrap();
    let before = queue.list().unwrap();
    let failed = Err(QueueError::Store("no space left".into()));
    assert_eq!(
        queue.complete(&lease.key, lease.token, &result(1), at(1)),
        failed
    );
    assert_eq!(queue.release(&lease.key, lease.token, at(1)), failed);
    assert_eq!(queue.submit(&job(2), at(1)).map(drop), failed);
    assert_eq!(queue.list().unwrap(), before);
    let reopened = Queue::open(store, Limits::default()).unwrap();
    assert_eq!(reopened.list().unwrap(), before);
}

// --- killed

const CHILD: &str = "MILLRACE_TEST_QUEUE_DIRECTORY";

/// Works on a queue and says after each acknowledgement what was acknowledged, until it is killed.
fn work_until_killed(directory: &str) -> ! {
    let store = DiskStore::open(directory.as_ref()).unwrap();
    let queue = Queue::open(
        store,
        Limits {
            jobs: 1 << 20,
            ..Limits::default()
        },
    )
    .unwrap();
    let say = |what: String| {
        let mut out = std::io::stdout().lock();
        out.write_all(format!("ack {what}\n").as_bytes())
            .and_then(|()| out.flush())
            .unwrap();
    };
    let first = queue
        .list()
        .unwrap()
        .iter()
        .map(|r| r.key.batch.0)
        .max()
        .map_or(0, |b| b + 1);
    for batch in first.. {
        queue.submit(&job(batch), at(batch)).unwrap();
        say(format!("submitted {batch} 0"));
        let lease = queue.lease("child", 1000, at(batch)).unwrap().unwrap();
        let (key, token) = (lease.key, lease.token);
        say(format!("leased {} {token}", key.batch.0));
        if batch % 5 == 4 {
            queue.release(&key, token, at(batch)).unwrap();
        } else {
            queue
                .complete(&key, token, &result(token.0 as u8), at(batch))
                .unwrap();
            say(format!("completed {} {token}", key.batch.0));
        }
    }
    unreachable!("there are more batch numbers than time")
}

/// This test is its own child: killed again and again, the queue never loses what it acknowledged.
#[test]
fn a_killed_queue_keeps_every_acknowledgement() {
    if let Ok(directory) = std::env::var(CHILD) {
        work_until_killed(&directory);
    }
    let directory = tempfile::tempdir().unwrap();
    let (mut completed, mut submitted) = (BTreeMap::new(), Vec::new());
    let mut highest_token = None;
    for round in 0..25u64 {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args([
                "--exact",
                "queue::tests::a_killed_queue_keeps_every_acknowledgement",
                "--nocapture",
            ])
            .env(CHILD, directory.path())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let is_ack = |line: &String| line.starts_with("ack ");
        // Some acknowledgements, then a moment that falls anywhere within the next write.
        let mut acknowledged: Vec<String> = lines
            .by_ref()
            .map(Result::unwrap)
            .filter(is_ack)
            .take(3 + round as usize % 7)
            .collect();
        assert!(!acknowledged.is_empty(), "the child worked");
        std::thread::sleep(std::time::Duration::from_micros(round * 7919 % 4000));
        child.kill().unwrap();
        child.wait().unwrap();
        acknowledged.extend(lines.map_while(Result::ok).filter(is_ack));
        for line in acknowledged {
            let [what, batch, token] = line[4..].split(' ').collect::<Vec<_>>()[..] else {
                continue; // the last line may be torn by the kill, so nobody has read it
            };
            let (batch, Ok(token)) = (batch.parse::<u64>().unwrap(), token.parse::<u64>()) else {
                continue;
            };
            match what {
                "submitted" => submitted.push(batch),
                "leased" => highest_token = highest_token.max(Some(token)),
                _ => drop(completed.insert(batch, token)),
            }
        }
        let store = DiskStore::open(directory.path()).unwrap();
        let queue = Queue::open(store, Limits::default()).unwrap();
        for batch in &submitted {
            assert!(
                queue.get(&key(*batch)).unwrap().is_some(),
                "batch {batch} was lost"
            );
        }
        for (batch, token) in &completed {
            let record = queue.get(&key(*batch)).unwrap().unwrap();
            assert_eq!(
                record.state,
                JobState::Done {
                    token: FencingToken(*token)
                }
            );
            assert_eq!(
                queue.result(&key(*batch)).unwrap(),
                Some(result(*token as u8))
            );
        }
        for record in queue.list().unwrap() {
            let has_result = queue.result(&record.key).unwrap().is_some();
            assert_eq!(
                has_result,
                matches!(record.state, JobState::Done { .. }),
                "no half of a change"
            );
        }
        queue.submit(&job(u64::MAX - round), at(0)).unwrap();
        let later = Millis(u64::MAX);
        let lease = queue.lease("parent", 1, later).unwrap().unwrap();
        assert!(Some(lease.token.0) > highest_token, "tokens only grow");
        highest_token = Some(lease.token.0);
        queue.forget(&key(u64::MAX - round)).unwrap();
        if queue.get(&lease.key).unwrap().is_some() {
            queue.release(&lease.key, lease.token, at(0)).unwrap();
        }
    }
    assert!(completed.len() > 25, "{}", completed.len());
}

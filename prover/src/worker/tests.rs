//! Workers prove what is queued exactly once, whatever happens to them: slow, panicking, stopped, cut off, killed.

use super::*;
use crate::chain::Chain;
use crate::circuit::{Assignment, Statement};
use crate::groth16::{Backend, BackendError, KeyParts, PreparedKey, Reference, Verifier};
use crate::key::{CircuitKey, KeyStoreError};
use crate::proof::Proof;
use crate::queue::wire::{RemoteQueue, Transport, serve};
use crate::queue::{DiskStore, Job, JobState, Limits, MemoryStore, Queue, VerifyingReferee};
use crate::setup::Seed;
use millrace_circuits::types::BatchNumber;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::process::{Child, Command, Stdio};
use std::time::Instant;

const LINKS: u32 = 30;

fn job(batch: u64) -> Job {
    Job {
        batch: BatchNumber(batch),
        statement: Statement::Chain(Chain::new(LINKS, batch)),
    }
}

fn queue() -> Arc<Queue> {
    Arc::new(Queue::open(MemoryStore::default(), Limits::default()).unwrap())
}

fn generated(circuit: Circuit) -> Result<CircuitKey, KeyStoreError> {
    Ok(CircuitKey::generate(circuit, &Seed::development())?)
}

fn config() -> WorkerConfig {
    WorkerConfig {
        lease: Duration::from_millis(300),
        poll: Duration::from_millis(5),
        ..WorkerConfig::new("test")
    }
}

fn start(queue: &Arc<Queue>, backend: impl Backend + 'static) -> Worker {
    Worker::start(
        queue.clone(),
        Arc::new(Prover::new(backend, generated)),
        config(),
    )
    .unwrap()
}

fn eventually(what: &str, holds: impl Fn() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(50);
    while !holds() {
        assert!(Instant::now() < deadline, "never happened: {what}");
        std::thread::sleep(Duration::from_millis(2));
    }
}

fn all_done(queue: &Queue) -> bool {
    queue
        .list()
        .unwrap()
        .iter()
        .all(|record| matches!(record.state, JobState::Done { .. }))
}

fn assert_results_verify(queue: &Queue) {
    let key = generated(Circuit::Chain(LINKS)).unwrap();
    let verifier = Verifier::new(key.verifying_key());
    for record in queue.list().unwrap() {
        let result = queue.result(&record.key).unwrap().unwrap();
        let inputs: Vec<_> = record.public_inputs.iter().map(|word| word.0).collect();
        assert!(verifier.accepts(&result.proof, &inputs), "{record:?}");
        assert_eq!(result.key, key.id);
    }
}

/// The reference backend with a hook before each proof.
struct Hooked<F>(Arc<F>);
struct HookedKey<F>(Arc<F>, Box<dyn PreparedKey>);

impl<F: Fn() + Send + Sync + 'static> Backend for Hooked<F> {
    fn name(&self) -> &'static str {
        "hooked"
    }
    fn prepare_parts(&self, key: Arc<dyn KeyParts>) -> Box<dyn PreparedKey> {
        Box::new(HookedKey(self.0.clone(), Reference.prepare_parts(key)))
    }
}

impl<F: Fn() + Send + Sync> PreparedKey for HookedKey<F> {
    fn prove(&self, assignment: &Assignment) -> Result<Proof, BackendError> {
        (self.0)();
        self.1.prove(assignment)
    }
}

fn hooked<F: Fn() + Send + Sync + 'static>(hook: F) -> Hooked<F> {
    Hooked(Arc::new(hook))
}

#[test]
fn everything_queued_is_proved() {
    let queue = queue();
    for batch in 0..5 {
        queue.submit(&job(batch), Millis(0)).unwrap();
    }
    let worker = start(&queue, Reference);
    eventually("five proofs", || all_done(&queue));
    queue.submit(&job(9), Millis(0)).unwrap();
    eventually("a sixth proof", || all_done(&queue));
    assert_results_verify(&queue);
    assert!(!worker.is_finished());
    worker.stop_after_job();
    eventually("the worker's end", || worker.is_finished());
    assert_eq!(worker.counts().completed.load(Ordering::Relaxed), 6);
    worker.join().unwrap();
}

#[test]
fn heartbeats_keep_a_slow_proof_from_being_made_twice() {
    let queue = queue();
    queue.submit(&job(1), Millis(0)).unwrap();
    let proofs = Arc::new(AtomicU64::new(0));
    let slow = || {
        let proofs = proofs.clone();
        hooked(move || {
            proofs.fetch_add(1, Ordering::Relaxed);
            std::thread::sleep(Duration::from_millis(1000));
        })
    };
    let workers = [start(&queue, slow()), start(&queue, slow())];
    eventually("the proof", || all_done(&queue));
    assert_eq!(proofs.load(Ordering::Relaxed), 1);
    assert_results_verify(&queue);
    drop(workers);
}

#[test]
fn a_dead_worker_s_job_is_proved_by_another_and_its_late_result_refused() {
    let queue = queue();
    queue.submit(&job(1), Millis(0)).unwrap();
    let dead = queue.lease("dead", 50, Millis::now()).unwrap().unwrap();
    let worker = start(&queue, Reference);
    eventually("the proof", || all_done(&queue));
    let result = queue.result(&dead.key).unwrap().unwrap();
    let late = queue.complete(&dead.key, dead.token, &result, Millis::now());
    assert!(
        matches!(late, Err(QueueError::StaleLease { .. })),
        "{late:?}"
    );
    assert_eq!(queue.get(&dead.key).unwrap().unwrap().expiries, 1);
    drop(worker);
}

#[test]
fn a_job_that_vanishes_is_dropped() {
    let queue = queue();
    let key = queue.submit(&job(1), Millis(0)).unwrap().key;
    let inner = queue.clone();
    let worker = start(
        &queue,
        hooked(move || {
            inner.forget(&key).unwrap();
            std::thread::sleep(Duration::from_millis(400));
        }),
    );
    eventually("the loss", || {
        worker.counts().abandoned.load(Ordering::Relaxed) == 1
    });
    assert!(queue.list().unwrap().is_empty());
    assert_eq!(worker.counts().completed.load(Ordering::Relaxed), 0);
}

#[test]
fn failures_and_panics_are_reported_and_the_worker_lives() {
    let queue = queue();
    queue.submit(&job(1), Millis(0)).unwrap();
    let missing = Prover::new(Reference, |_| Err::<CircuitKey, _>(KeyStoreError::NoHome));
    let worker = Worker::start(queue.clone(), Arc::new(missing), config()).unwrap();
    eventually("the job is parked", || {
        queue
            .list()
            .unwrap()
            .iter()
            .all(|record| record.state == JobState::Failed)
    });
    let record = queue.list().unwrap().remove(0);
    assert!(record.last_failure.unwrap().contains("no home directory"));
    drop(worker);

    queue.retry(&record.key, Millis(0)).unwrap();
    let calls = AtomicU64::new(0);
    let worker = start(
        &queue,
        hooked(move || {
            assert!(
                calls.fetch_add(1, Ordering::Relaxed) > 0,
                "the first proof panics"
            )
        }),
    );
    eventually("the second attempt", || all_done(&queue));
    assert_eq!(worker.counts().failed.load(Ordering::Relaxed), 1);
    assert_results_verify(&queue);
}

#[test]
fn stopping_finishes_the_job_at_hand_or_gives_it_back() {
    let queue = queue();
    for batch in [1, 2] {
        queue.submit(&job(batch), Millis(0)).unwrap();
    }
    let begun = Arc::new(AtomicU64::new(0));
    let slow = || {
        let begun = begun.clone();
        hooked(move || {
            begun.fetch_add(1, Ordering::Relaxed);
            std::thread::sleep(Duration::from_millis(500));
        })
    };
    let states = || {
        queue
            .list()
            .unwrap()
            .into_iter()
            .map(|r| r.state)
            .collect::<Vec<_>>()
    };

    let worker = start(&queue, slow());
    eventually("a proof is begun", || begun.load(Ordering::Relaxed) == 1);
    worker.stop_after_job();
    worker.join().unwrap();
    assert!(
        matches!(states()[..], [JobState::Done { .. }, JobState::Waiting]),
        "{:?}",
        states()
    );

    let worker = start(&queue, slow());
    eventually("another proof is begun", || {
        begun.load(Ordering::Relaxed) == 2
    });
    let asked = Instant::now();
    worker.stop_now();
    eventually("the job waits again", || states()[1] == JobState::Waiting);
    assert!(
        asked.elapsed() < Duration::from_millis(450),
        "before the proof ends"
    );
    worker.join().unwrap();
    assert_eq!(states()[1], JobState::Waiting);
}

/// Loses requests on their way there and answers on their way back.
struct Flaky(Arc<Queue>, AtomicU64);

impl Transport for Flaky {
    fn exchange(&self, request: &[u8]) -> Result<Vec<u8>, String> {
        let turn = self.1.fetch_add(1, Ordering::Relaxed);
        if turn % 5 == 1 {
            return Err("request lost".into());
        }
        let answer = serve(&*self.0, request, Millis::now());
        if turn % 5 == 3 {
            Err("answer lost".into())
        } else {
            Ok(answer)
        }
    }
}

#[test]
fn a_bad_connection_delays_and_loses_nothing() {
    let queue = queue();
    for batch in 0..12 {
        queue.submit(&job(batch), Millis(0)).unwrap();
    }
    let remote = Arc::new(RemoteQueue::new(Flaky(queue.clone(), AtomicU64::new(0))));
    let prover = Arc::new(Prover::new(Reference, generated));
    let worker = Worker::start(remote, prover, config()).unwrap();
    eventually("all proofs", || all_done(&queue));
    assert_results_verify(&queue);
    drop(worker);
}

// --- workers as processes of their own, killed

/// Requests and answers, each after its length.
struct Tcp(String);

fn send(stream: &mut TcpStream, bytes: &[u8]) -> std::io::Result<()> {
    stream.write_all(&(bytes.len() as u32).to_le_bytes())?;
    stream.write_all(bytes)
}

fn receive(stream: &mut TcpStream) -> std::io::Result<Vec<u8>> {
    let mut length = [0; 4];
    stream.read_exact(&mut length)?;
    let mut bytes = vec![0; u32::from_le_bytes(length) as usize];
    stream.read_exact(&mut bytes)?;
    Ok(bytes)
}

impl Transport for Tcp {
    fn exchange(&self, request: &[u8]) -> Result<Vec<u8>, String> {
        let exchange = || {
            let mut stream = TcpStream::connect(&self.0)?;
            send(&mut stream, request)?;
            receive(&mut stream)
        };
        exchange().map_err(|error: std::io::Error| error.to_string())
    }
}

/// Serves a queue to whoever connects, until the test ends.
fn serve_tcp(queue: Arc<Queue>) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap().to_string();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let queue = queue.clone();
            std::thread::spawn(move || {
                let mut stream = stream?;
                let request = receive(&mut stream)?;
                send(&mut stream, &serve(&*queue, &request, Millis::now()))
            });
        }
    });
    address
}

const CHILD: &str = "MILLRACE_TEST_PROVER_CONNECTS_TO";

fn child(address: &str) -> Child {
    Command::new(std::env::current_exe().unwrap())
        .args([
            "--exact",
            "worker::tests::killed_provers_leave_every_batch_proved_once",
            "--nocapture",
        ])
        .env(CHILD, address)
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap()
}

/// This test is its own child: a prover process, killed at moments spread over its work.
#[test]
fn killed_provers_leave_every_batch_proved_once() {
    if let Ok(address) = std::env::var(CHILD) {
        let remote = Arc::new(RemoteQueue::new(Tcp(address)));
        let prover = Arc::new(Prover::new(Reference, generated));
        Worker::start(remote, prover, config())
            .unwrap()
            .join()
            .unwrap();
        return;
    }
    let directory = tempfile::tempdir().unwrap();
    let store = DiskStore::open(directory.path()).unwrap();
    let key = generated(Circuit::Chain(LINKS)).unwrap();
    let referee = VerifyingReferee::default().with_key(key.circuit, key.id, key.verifying_key());
    let queue = Arc::new(
        Queue::open(store, Limits::default())
            .unwrap()
            .judged_by(referee),
    );
    let address = serve_tcp(queue.clone());
    let mut submitted = 0;
    for round in 0..20u64 {
        for _ in 0..2 {
            queue.submit(&job(submitted), Millis::now()).unwrap();
            submitted += 1;
        }
        let mut prover = child(&address);
        let leases = || {
            queue
                .list()
                .unwrap()
                .iter()
                .map(|r| u64::from(r.leases))
                .sum::<u64>()
        };
        let before = leases();
        eventually("the prover takes a job", || {
            leases() > before || all_done(&queue)
        });
        std::thread::sleep(Duration::from_millis(round * 7 % 40));
        prover.kill().unwrap();
        prover.wait().unwrap();
    }
    let mut last = child(&address);
    eventually("every batch is proved", || all_done(&queue));
    last.kill().unwrap();
    last.wait().unwrap();
    let records = queue.list().unwrap();
    assert_eq!(records.len() as u64, submitted);
    assert!(
        records.iter().any(|record| record.expiries > 0),
        "some prover died with a job"
    );
    assert!(records.iter().all(|record| record.failures == 0));
    assert_results_verify(&queue);
}

//! `millrace bench channels`: two whole nodes in this process, and the processor time of both.
//!
//! ```text
//! chain, two nodes (Noise, RocksDB, group commit, onions) → a channel → direct · htlc one by one · htlc many at a time
//! → per second of CPU, per second, latency, disk synchronisations, bytes on disk;   memory of 10,000 channels;   k256 beside secp256k1
//! ```
//! Both nodes, their peers' sockets and the benchmark share one thread, so that the figures hold for one core and no wakening
//! of another is counted; `--own-threads` gives each node its thread, as the node has it.
//!
//! Invoices are made before the clock starts. A direct payment is done when the payee's event is durable; one with a lock when
//! the payer's is, which has the preimage then. The CPU time is that of the whole process, L1's watchers included.

use super::{failed, report};
use crate::cli::Failure;
use crate::demo::channels::network::{Network, Pace, Party};
use crate::demo::channels::{Route, invoice, payment};
use crate::output::{Output, table};
use alloy::primitives::B256;
use alloy::signers::SignerSync;
use alloy::signers::local::PrivateKeySigner;
use millrace_channels::machine::payment::{Hop, Onions};
use millrace_channels::machine::{Identity, Input, Node, Tools};
use millrace_channels::node::{Event, EventBody, Request};
use millrace_channels::policy::Policy;
use millrace_channels::signing::{HotKey, Keys, address, verify};
use millrace_channels::state::Params;
use millrace_channels::types::{Address, Amount, ChannelId, Hash32, PaymentHash, Side};
use millrace_prover::environment::cpu_seconds;
use serde::Serialize;
use std::collections::{BTreeMap, VecDeque};
use std::path::Path;
use std::time::{Duration, Instant};
use tokio::sync::broadcast;

/// What the channel is opened with, in wei.
const DEPOSIT: u128 = 1_000_000_000_000_000_000;
/// A payment, in wei.
const PAYMENT: u128 = 1000;
/// Channels of the memory measurement.
const MANY: usize = 10_000;
/// Signatures of each library.
const SIGNATURES: u32 = 2000;
/// How long a payment may take.
const PATIENCE: Duration = Duration::from_secs(60);

/// What is paid, and how.
const MODES: [&str; 4] = ["direct_single", "direct", "htlc", "htlc_batched"];

/// Options of `millrace bench channels`.
#[derive(Debug, clap::Args)]
pub struct ChannelsArguments {
    /// Payments of each mode
    #[arg(long, value_name = "COUNT", default_value_t = 5000)]
    pub payments: usize,
    /// Payments under way at a time in the batched modes
    #[arg(long, value_name = "COUNT", default_value_t = 128)]
    pub in_flight: usize,
    /// Which modes, of direct_single, direct, htlc and htlc_batched
    #[arg(long, value_delimiter = ',', value_name = "NAMES", default_values = MODES, value_parser = MODES)]
    pub modes: Vec<String>,
    /// A thread for each node instead of one for both
    #[arg(long)]
    pub own_threads: bool,
}

/// A mode's figures.
#[derive(Debug, Clone, Serialize)]
pub struct ChannelRow {
    /// direct_single, direct, htlc, htlc_batched, memory or signatures.
    pub mode: &'static str,
    /// Payments made, or channels, or signatures.
    pub payments: usize,
    /// Payments under way at a time.
    pub in_flight: usize,
    /// Payments for a second of processor time of both nodes.
    pub per_cpu_second: f64,
    /// Payments a second.
    pub per_second: f64,
    /// From the request to the end of a payment.
    pub latency_ms: Latency,
    /// Disk synchronisations of both nodes.
    pub fsyncs: u64,
    /// Growth of both databases for a payment.
    pub bytes_per_payment: f64,
    /// Other figures, by name.
    #[serde(flatten)]
    pub more: BTreeMap<&'static str, f64>,
}

/// Milliseconds.
#[derive(Debug, Clone, Copy, Default, Serialize)]
pub struct Latency {
    /// Half of the payments were faster.
    pub p50: f64,
    /// All but a hundredth were faster.
    pub p99: f64,
}

/// Runs the benchmark.
///
/// # Errors
/// [`Failure`].
pub async fn run(output: Output, arguments: ChannelsArguments) -> Result<(), Failure> {
    let folder =
        std::env::temp_dir().join(format!("millrace-bench-channels-{}", std::process::id()));
    let bar = output.progress(0, "paying");
    let rows = if arguments.own_threads {
        measure(&folder, &arguments).await
    } else {
        let folder = folder.clone();
        let measured = tokio::task::spawn_blocking(move || on_one_thread(&folder, &arguments));
        measured.await.map_err(|error| failed(&error))?
    };
    // What is left in a temporary folder does no harm.
    let _ = std::fs::remove_dir_all(&folder);
    let mut rows = rows?;
    rows.push(memory()?);
    rows.push(signatures()?);
    bar.finish_and_clear();
    report(output, rows, |rows| {
        let headings = [
            "mode",
            "payments",
            "at a time",
            "per CPU second",
            "per second",
            "ms p50, p99",
            "fsyncs",
            "bytes each",
            "more",
        ];
        table(headings, rows.iter().map(row))
    });
    Ok(())
}

fn row(row: &ChannelRow) -> [String; 9] {
    let more: Vec<String> = row
        .more
        .iter()
        .map(|(name, value)| format!("{name} {value:.1}"))
        .collect();
    [
        row.mode.to_owned(),
        row.payments.to_string(),
        row.in_flight.to_string(),
        format!("{:.0}", row.per_cpu_second),
        format!("{:.0}", row.per_second),
        format!("{:.2}, {:.2}", row.latency_ms.p50, row.latency_ms.p99),
        row.fsyncs.to_string(),
        format!("{:.0}", row.bytes_per_payment),
        more.join(", "),
    ]
}

fn on_one_thread(folder: &Path, arguments: &ChannelsArguments) -> Result<Vec<ChannelRow>, Failure> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| failed(&error))?;
    runtime.block_on(measure(folder, arguments))
}

async fn measure(folder: &Path, arguments: &ChannelsArguments) -> Result<Vec<ChannelRow>, Failure> {
    let network = Network::new(folder, Pace::NODE).await?;
    let network = if arguments.own_threads {
        network
    } else {
        network.on_one_thread()
    };
    let payer = network.party("payer", &[]).await?;
    let payee = network.party("payee", &[]).await?;
    let channel = network.open(&payer, &payee, DEPOSIT).await?;
    let bench = Bench {
        network: &network,
        payer: &payer,
        payee: &payee,
        channel,
        folder,
    };
    let (count, many) = (arguments.payments, arguments.in_flight.clamp(1, 150));
    let few = count.div_ceil(4);
    let mut rows = Vec::new();
    for mode in MODES {
        if !arguments.modes.iter().any(|wanted| wanted == mode) {
            continue;
        }
        rows.push(match mode {
            "direct_single" => bench.direct(mode, few, 1).await?,
            "direct" => bench.direct(mode, count, many).await?,
            "htlc" => bench.htlc(mode, few, 1).await?,
            _ => bench.htlc(mode, count, many).await?,
        });
    }
    payer.shutdown().await;
    payee.shutdown().await;
    Ok(rows)
}

struct Bench<'a> {
    network: &'a Network,
    payer: &'a Party,
    payee: &'a Party,
    channel: ChannelId,
    folder: &'a Path,
}

/// What is looked at before and after.
struct Mark {
    at: Instant,
    cpu: f64,
    fsyncs: u64,
    bytes: u64,
}

impl Bench<'_> {
    fn mark(&self) -> Result<Mark, Failure> {
        Ok(Mark {
            at: Instant::now(),
            cpu: cpu_seconds(),
            fsyncs: self.payer.handle().synchronisations() + self.payee.handle().synchronisations(),
            bytes: folder_bytes(self.folder),
        })
    }

    fn row(
        &self,
        mode: &'static str,
        in_flight: usize,
        before: &Mark,
        mut latencies: Vec<f64>,
    ) -> Result<ChannelRow, Failure> {
        let after = self.mark()?;
        let payments = latencies.len();
        latencies.sort_by(f64::total_cmp);
        let at = |share: f64| latencies[((payments - 1) as f64 * share) as usize];
        Ok(ChannelRow {
            mode,
            payments,
            in_flight,
            per_cpu_second: payments as f64 / (after.cpu - before.cpu),
            per_second: payments as f64 / (after.at - before.at).as_secs_f64(),
            latency_ms: Latency {
                p50: at(0.5),
                p99: at(0.99),
            },
            fsyncs: after.fsyncs - before.fsyncs,
            bytes_per_payment: after.bytes.saturating_sub(before.bytes) as f64 / payments as f64,
            more: BTreeMap::new(),
        })
    }

    async fn direct(
        &self,
        mode: &'static str,
        count: usize,
        in_flight: usize,
    ) -> Result<ChannelRow, Failure> {
        let amount = Amount::new(PAYMENT).map_err(|error| failed(&error))?;
        let mut events = self.payee.handle().live_events();
        let mut under_way: BTreeMap<Hash32, Instant> = BTreeMap::new();
        let mut latencies = Vec::with_capacity(count);
        let mut replies = tokio::task::JoinSet::new();
        let before = self.mark()?;
        let mut next = 0u64;
        while latencies.len() < count {
            while under_way.len() < in_flight && (next as usize) < count {
                let mut reference = [0; 32];
                reference[..8].copy_from_slice(&next.to_be_bytes());
                next += 1;
                under_way.insert(Hash32(reference), Instant::now());
                let request = Request::PayDirect {
                    channel: self.channel,
                    amount,
                    reference: Hash32(reference),
                };
                let handle = self.payer.handle().clone();
                replies.spawn(async move { handle.request(request, None).await });
            }
            while let Some(done) = replies.try_join_next() {
                let answer = done.map_err(|error| failed(&error))?;
                answer.map_err(|error| failed(&error))?;
            }
            if let EventBody::Received { reference, .. } = next_event(&mut events).await?.body
                && let Some(since) = under_way.remove(&reference)
            {
                latencies.push(since.elapsed().as_secs_f64() * 1000.0);
            }
        }
        self.row(mode, in_flight, &before, latencies)
    }

    async fn htlc(
        &self,
        mode: &'static str,
        count: usize,
        in_flight: usize,
    ) -> Result<ChannelRow, Failure> {
        let mut invoices = VecDeque::new();
        for _ in 0..count {
            let (hash, invoice) = invoice(PAYMENT, false);
            invoices.push_back((hash, invoice));
        }
        let mut adding = tokio::task::JoinSet::new();
        for (_, invoice) in &invoices {
            let (handle, invoice) = (self.payee.handle().clone(), invoice.clone());
            adding.spawn(async move {
                let request = Request::AddInvoice {
                    invoice,
                    text: String::new(),
                };
                handle.request(request, None).await
            });
        }
        while let Some(done) = adding.join_next().await {
            let answer = done.map_err(|error| failed(&error))?;
            answer.map_err(|error| failed(&error))?;
        }
        let route = Route {
            forwards: vec![],
            channel: self.channel,
        };
        let mut events = self.payer.handle().live_events();
        let mut under_way: BTreeMap<PaymentHash, Instant> = BTreeMap::new();
        let mut latencies = Vec::with_capacity(count);
        let mut replies = tokio::task::JoinSet::new();
        let before = self.mark()?;
        while latencies.len() < count {
            while under_way.len() < in_flight {
                let Some((hash, invoice)) = invoices.pop_front() else {
                    break;
                };
                under_way.insert(hash, Instant::now());
                let terms = (PAYMENT, PAYMENT, self.network.now() + 3600);
                let payment = payment(self.network, self.payee, &route, &invoice, terms)?;
                let handle = self.payer.handle().clone();
                replies.spawn(async move { handle.request(Request::Pay(payment), None).await });
            }
            while let Some(done) = replies.try_join_next() {
                let answer = done.map_err(|error| failed(&error))?;
                answer.map_err(|error| failed(&error))?;
            }
            match next_event(&mut events).await?.body {
                EventBody::PaymentSucceeded { hash, .. } => {
                    if let Some(since) = under_way.remove(&hash) {
                        latencies.push(since.elapsed().as_secs_f64() * 1000.0);
                    }
                }
                EventBody::PaymentFailed { .. } => {
                    return Err(Failure::new(crate::cli::Exit::Internal, "a payment failed"));
                }
                _ => {}
            }
        }
        self.row(mode, in_flight, &before, latencies)
    }
}

async fn next_event(events: &mut broadcast::Receiver<Event>) -> Result<Event, Failure> {
    let event = tokio::time::timeout(PATIENCE, events.recv()).await;
    let event = event.map_err(|error| failed(&error))?;
    event.map_err(|error| failed(&error))
}

fn folder_bytes(folder: &Path) -> u64 {
    let Ok(entries) = std::fs::read_dir(folder) else {
        return 0;
    };
    entries
        .flatten()
        .map(|entry| match entry.metadata() {
            Ok(metadata) if metadata.is_dir() => folder_bytes(&entry.path()),
            Ok(metadata) => metadata.len(),
            Err(_) => 0,
        })
        .sum()
}

fn resident_bytes() -> f64 {
    let text = std::fs::read_to_string("/proc/self/statm").unwrap_or_default();
    let pages = text
        .split_whitespace()
        .nth(1)
        .and_then(|pages| pages.parse::<f64>().ok());
    pages.unwrap_or(0.0) * 4096.0
}

struct NoOnions;

impl Onions for NoOnions {
    fn peel(&self, _: &[u8], _: &PaymentHash) -> Option<Hop> {
        None
    }
}

fn plain_row(mode: &'static str, count: usize, more: BTreeMap<&'static str, f64>) -> ChannelRow {
    ChannelRow {
        mode,
        payments: count,
        in_flight: 0,
        per_cpu_second: 0.0,
        per_second: 0.0,
        latency_ms: Latency::default(),
        fsyncs: 0,
        bytes_per_payment: 0.0,
        more,
    }
}

/// What a machine with many channels takes.
fn memory() -> Result<ChannelRow, Failure> {
    let keys = HotKey::new([1; 32]).map_err(|error| failed(&error))?;
    let peer = HotKey::new([2; 32])
        .map_err(|error| failed(&error))?
        .public();
    let (signer, other) = (address(&keys.public()), address(&peer));
    let (signer, other) = (
        signer.unwrap_or(Address::ZERO),
        other.unwrap_or(Address::ZERO),
    );
    let mut node = Node::new(Identity {
        key: keys.public(),
        signer,
        payout: Address([3; 20]),
        domain: millrace_channels::digest::Domain {
            chain_id: 1,
            contract: Address([4; 20]),
        },
        policy: Policy::default(),
    });
    let tools = Tools {
        keys: &keys,
        onions: &NoOnions,
    };
    let before = resident_bytes();
    for salt in 0..MANY as u64 {
        let params = Params {
            signer_a: signer,
            payout_a: Address([3; 20]),
            signer_b: other,
            payout_b: Address([5; 20]),
            token: Address::ZERO,
            window_secs: 86_400,
            salt,
        };
        let input = Input::AddChannel {
            params,
            side: Side::A,
            peer,
        };
        node.apply(1_800_000_000, input, tools)
            .map_err(|error| failed(&error))?;
    }
    drop(node.flush(tools));
    let bytes = (resident_bytes() - before).max(0.0);
    let more = BTreeMap::from([("mib_per_10000_channels", bytes / (1 << 20) as f64)]);
    Ok(plain_row("memory", node.channels().len(), more))
}

/// The two libraries that could sign: why the channels use the one they use.
fn signatures() -> Result<ChannelRow, Failure> {
    use alloy::signers::k256::ecdsa::VerifyingKey;
    use alloy::signers::k256::ecdsa::signature::hazmat::PrehashVerifier;
    let secret = [7; 32];
    let hot = HotKey::new(secret).map_err(|error| failed(&error))?;
    let other =
        PrivateKeySigner::from_bytes(&B256::from(secret)).map_err(|error| failed(&error))?;
    let verifying =
        VerifyingKey::from_sec1_bytes(&hot.public().0).map_err(|error| failed(&error))?;
    let digest = |number: u32| {
        let mut bytes = [0; 32];
        bytes[..4].copy_from_slice(&number.to_be_bytes());
        bytes
    };
    let mut micros = BTreeMap::new();
    let mut time = |name: &'static str, work: &mut dyn FnMut(u32)| {
        let started = Instant::now();
        (0..SIGNATURES).for_each(work);
        micros.insert(
            name,
            started.elapsed().as_secs_f64() * 1e6 / f64::from(SIGNATURES),
        );
    };
    let mut ours = Vec::new();
    time("secp256k1_sign_us", &mut |number| {
        ours.push(hot.sign(&Hash32(digest(number))))
    });
    let mut good = 0;
    time("secp256k1_verify_us", &mut |number| {
        good += u32::from(verify(
            &hot.public(),
            &Hash32(digest(number)),
            &ours[number as usize],
        ));
    });
    // What an onion takes of its payer, with a node that is met for the first time and with one that was met often.
    let mut shared = 0;
    time("shared_secret_us", &mut |_| {
        shared += usize::from(hot.agree(&hot.public()).is_some());
    });
    for _ in 0..SIGNATURES {
        shared += usize::from(hot.agree_with_node(&hot.public()).is_some());
    }
    time("shared_secret_known_node_us", &mut |_| {
        shared += usize::from(hot.agree_with_node(&hot.public()).is_some());
    });
    if shared != 3 * SIGNATURES as usize {
        return Err(Failure::new(
            crate::cli::Exit::Internal,
            "a key shares no secret with itself",
        ));
    }
    let mut theirs = Vec::new();
    time("k256_sign_us", &mut |number| {
        theirs.extend(other.sign_hash_sync(&B256::from(digest(number))))
    });
    time("k256_verify_us", &mut |number| {
        let signature = theirs[number as usize].to_k256();
        let verified = signature.is_ok_and(|signature| {
            verifying
                .verify_prehash(&digest(number), &signature)
                .is_ok()
        });
        good += u32::from(verified);
    });
    if good != 2 * SIGNATURES {
        return Err(Failure::new(
            crate::cli::Exit::Verification,
            "a signature does not verify",
        ));
    }
    Ok(plain_row("signatures", SIGNATURES as usize, micros))
}

//! The backup of a running node: it follows what is stored, ends with it, and comes back when somebody takes the file away.

#![cfg(feature = "node")]

mod world;

use millrace_channels::machine::effect::Key;
use millrace_channels::node::backup::{self, BackupTarget};
use millrace_channels::node::{Answer, Request, Terms};
use millrace_channels::store::Store;
use millrace_channels::types::{Address, PaymentHash};
use std::collections::BTreeMap;
use std::fs;
use std::time::{Duration, Instant};
use world::{Person, World, amount, open};

const DEPOSIT: u128 = 1_000_000;
/// Four times the period in which a file is written.
const PATIENCE: Duration = Duration::from_secs(20);

async fn until(what: &str, mut holds: impl FnMut() -> bool) {
    let started = Instant::now();
    while !holds() {
        assert!(started.elapsed() < PATIENCE, "in vain: {what}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// What the file holds; nothing while it is being written.
fn records(target: &BackupTarget) -> Option<BTreeMap<Key, Vec<u8>>> {
    let backup = backup::read(target).ok()?;
    (backup.unread_bytes == 0).then(|| backup.records.into_iter().collect())
}

/// Waits until the file holds what the node does.
async fn until_kept(target: &BackupTarget, person: &Person) {
    let started = Instant::now();
    while records(target) != Some(stored(person).await) {
        assert!(started.elapsed() < PATIENCE, "the file lacks something");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

async fn stored(person: &Person) -> BTreeMap<Key, Vec<u8>> {
    let records = person
        .until("its records", |state| Some(state.node.records()))
        .await;
    let records = records.into_iter();
    let records = records.filter_map(|record| Some((record.key, record.value?)));
    records.collect()
}

async fn invoice(payee: &Person) -> PaymentHash {
    let terms = Terms {
        token: Address::ZERO,
        amount: Some(amount(5)),
        description: String::new(),
        life_secs: 3600,
        hold: false,
        fallback: None,
        hints: Vec::new(),
    };
    match payee.running.handle.make_invoice(terms, None).await {
        Ok(Answer::Invoice { hash, .. }) => hash,
        other => panic!("{other:?}"),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_backup_follows_what_is_stored() {
    let mut world = World::new().await;
    let target = BackupTarget {
        path: world.folder.path().join("channels.backup"),
        key: [7; 32].into(),
    };
    let bob = world.start(2, vec![]);
    world.backup = Some(target.clone());
    let alice = world.start(1, vec![]);
    until("a first file", || target.path.exists()).await;
    let first = fs::read(&target.path).unwrap();

    // What changes is added to the file, and comes to what is stored.
    let channel = open(&alice, &bob, DEPOSIT).await;
    let (cancelled, kept) = (invoice(&alice).await, invoice(&alice).await);
    alice.request(Request::Cancel(cancelled)).await;
    alice.pay(channel, 5).await;
    until_kept(&target, &alice).await;
    assert!(stored(&alice).await.contains_key(&Key::Channel(channel)));
    assert!(fs::read(&target.path).unwrap().starts_with(&first));
    let texts = backup::read(&target).unwrap().texts;
    assert_eq!(
        texts.iter().map(|(hash, _)| *hash).collect::<Vec<_>>(),
        [kept]
    );

    // Somebody takes the file away: with the next change it is there again, whole.
    fs::remove_file(&target.path).unwrap();
    alice.pay(channel, 6).await;
    until("another file", || target.path.exists()).await;
    until_kept(&target, &alice).await;

    // The last word is in it when the node has stopped, however little time there was.
    alice.pay(channel, 7).await;
    alice.running.shutdown().await;
    let store = Store::open(&world.folder(1).join("channels")).unwrap();
    assert_eq!(records(&target), Some(store.records().unwrap()));
    drop(store);

    // The folder is lost, and the node is started before it is restored: nothing takes the backup's place.
    let kept = fs::read(&target.path).unwrap();
    let folder = world.folder.path().join("fresh");
    for aside in ["channels.backup.1", "channels.backup.2"] {
        let alice = world.start_at(1, &folder, vec![]);
        until_kept(&target, &alice).await;
        alice.running.shutdown().await;
        let aside = world.folder.path().join(aside);
        assert_eq!(fs::read(&aside).unwrap(), kept);
        fs::rename(&target.path, folder.join("own")).unwrap();
        fs::copy(&aside, &target.path).unwrap();
    }

    // An invoice alone is reason enough.
    fs::remove_file(&target.path).unwrap();
    let alice = world.start_at(1, &folder, vec![]);
    let only = invoice(&alice).await;
    alice.running.shutdown().await;
    let alice = world.start_at(1, &world.folder.path().join("fresher"), vec![]);
    alice.running.shutdown().await;
    let aside = BackupTarget {
        path: world.folder.path().join("channels.backup.3"),
        ..target
    };
    let keys: Vec<_> = records(&aside).unwrap().into_keys().collect();
    assert_eq!(keys, [Key::Invoice(only)]);
    bob.running.shutdown().await;
}

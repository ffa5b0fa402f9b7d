//! A watchtower's records, where both parties of a channel may be its clients and one of them lies.

use millrace_channels::digest::{Domain, channel_id, snapshot};
use millrace_channels::machine::dispute::{ChainPhase, ChainReport, Dispute, Level, OnChain};
use millrace_channels::machine::effect::Transaction;
use millrace_channels::policy::Policy;
use millrace_channels::signing::{HotKey, Keys, address};
use millrace_channels::state::{Half, Halves, Lock, Params, list_root};
use millrace_channels::types::{Address, Amount, LockRoot, Preimage, PublicKey};
use millrace_channels::watchtower::{Tower, TowerEffect, Watch, WatchError};
use std::collections::BTreeSet;

const NOW: u64 = 1_800_000_000;
const EXPIRY: u64 = NOW + 3600;

struct Pair {
    a: HotKey,
    b: HotKey,
    tower: HotKey,
    domain: Domain,
}

impl Pair {
    fn new() -> Self {
        let key = |number| HotKey::new([number; 32]).unwrap();
        Self {
            a: key(1),
            b: key(2),
            tower: key(3),
            domain: Domain {
                chain_id: 31_337,
                contract: Address([9; 20]),
            },
        }
    }

    fn guard(&self) -> Tower {
        Tower::new(self.domain.separator(), Policy::default(), [])
    }

    /// A record of channel `salt` at these versions with side A's locks for the preimages.
    fn record(&self, salt: u64, versions: (u64, u64), locked: &[Preimage]) -> Watch {
        let params = Params {
            signer_a: address(&self.a.public()).unwrap(),
            payout_a: Address([0x41; 20]),
            signer_b: address(&self.b.public()).unwrap(),
            payout_b: Address([0x42; 20]),
            token: Address::ZERO,
            window_secs: 86_400,
            salt,
        };
        let list_a: Vec<Lock> = locked
            .iter()
            .map(|preimage| Lock {
                hash: preimage.hash(),
                amount: Amount::new(10).unwrap(),
                expiry: EXPIRY,
            })
            .collect();
        let half = |version, locks| Half {
            version,
            paid: 0,
            locks,
        };
        let halves = Halves {
            a: half(versions.0, list_root(&list_a)),
            b: half(versions.1, LockRoot::EMPTY),
        };
        let separator = self.domain.separator();
        let digest = snapshot(&separator, &channel_id(&separator, &params), &halves);
        Watch {
            params,
            key_a: self.a.public(),
            key_b: self.b.public(),
            halves,
            list_a,
            list_b: Vec::new(),
            signatures: (self.a.sign(&digest), self.b.sign(&digest)),
            preimages: Vec::new(),
            numbers: None,
        }
    }
}

fn revealed(tower: &mut Tower, at: u64, keys: &dyn Keys) -> Vec<Preimage> {
    let report = ChainReport {
        level: Level::Head,
        timestamp: at,
        channels: Vec::new(),
        reveals: Vec::new(),
    };
    let effects = tower.chain_reported(at, report, keys);
    effects
        .into_iter()
        .filter_map(|effect| match effect {
            TowerEffect::Broadcast(Transaction::Reveal { preimages }) => Some(preimages),
            _ => None,
        })
        .flatten()
        .collect()
}

/// L1 with a dispute over a record's halves.
fn disputed(pair: &Pair, there: &Watch) -> ChainReport {
    let id = channel_id(&pair.domain.separator(), &there.params);
    let dispute = Dispute {
        deadline: NOW + 86_400,
        halves: there.halves,
        list_a: Vec::new(),
        list_b: Vec::new(),
    };
    let chain = OnChain {
        net_a: 100,
        net_b: 100,
        epoch: 0,
        phase: ChainPhase::Closing(dispute),
    };
    ChainReport {
        level: Level::Head,
        timestamp: NOW,
        channels: vec![(id, chain)],
        reveals: Vec::new(),
    }
}

fn stored(effects: &[TowerEffect]) -> &Watch {
    effects
        .iter()
        .find_map(|effect| match effect {
            TowerEffect::Persist(_, _, Some(watch)) => Some(&**watch),
            _ => None,
        })
        .expect("a record is stored")
}

/// B is paid by A's lock and has its tower know the preimage; A, a client of the same tower, gives the record without it.
#[test]
fn a_party_cannot_have_its_peers_preimage_forgotten() {
    let pair = Pair::new();
    let (a, b) = (pair.a.public(), pair.b.public());
    let mut tower = pair.guard();
    let preimage = Preimage([7; 32]);
    let record = pair.record(0, (1, 1), &[preimage]);
    let from_b = Watch {
        preimages: vec![preimage],
        ..record.clone()
    };
    tower.watch(NOW, b, from_b, &pair.tower).unwrap();
    tower.watch(NOW, a, record, &pair.tower).unwrap();
    let newer = pair.record(0, (2, 1), &[preimage]);
    tower.watch(NOW, a, newer.clone(), &pair.tower).unwrap();
    assert_eq!(revealed(&mut tower, EXPIRY - 1, &pair.tower), [preimage]);
    // Nor does a client that has lost its data take it back itself.
    let effects = tower.watch(NOW, b, newer, &pair.tower).unwrap();
    assert_eq!(stored(&effects).preimages, [preimage]);
}

/// A signs echoes of an old half of B only, and gives the tower B's newest one itself: B's newest record is older in B's half.
#[test]
fn a_party_cannot_keep_its_peers_newest_half_out() {
    let pair = Pair::new();
    let (a, b) = (pair.a.public(), pair.b.public());
    let mut tower = pair.guard();
    let (of_a, of_b) = (pair.record(0, (4, 9), &[]), pair.record(0, (5, 3), &[]));
    tower.watch(NOW, a, of_a.clone(), &pair.tower).unwrap();
    tower.watch(NOW, b, of_b.clone(), &pair.tower).unwrap();
    assert_eq!(
        tower.watch(NOW, b, pair.record(0, (4, 3), &[]), &pair.tower),
        Err(WatchError::Older {
            version_a: 5,
            version_b: 3
        })
    );
    let stranger = pair.tower.public();
    let refused = tower.watch(NOW, stranger, of_a.clone(), &pair.tower);
    assert_eq!(refused, Err(WatchError::Stranger));
    let submitted = |tower: &mut Tower, there: (u64, u64), at: u64| -> BTreeSet<(u64, u64)> {
        let dispute = pair.record(0, there, &[]);
        let effects = tower.chain_reported(at, disputed(&pair, &dispute), &pair.tower);
        let of = |effect| match effect {
            TowerEffect::Broadcast(Transaction::Submit { halves, .. }) => {
                Some((halves.a.version, halves.b.version))
            }
            _ => None,
        };
        effects.into_iter().filter_map(of).collect()
    };
    let both = BTreeSet::from([(4, 9), (5, 3)]);
    assert_eq!(submitted(&mut tower, (1, 1), NOW), both);
    // What is there, or was sent a moment ago, is not sent again.
    assert_eq!(submitted(&mut tower, (1, 1), NOW + 1), BTreeSet::new());
    assert_eq!(submitted(&mut tower, (5, 9), NOW + 600), BTreeSet::new());
    assert_eq!(
        submitted(&mut tower, (5, 4), NOW + 600),
        BTreeSet::from([(4, 9)])
    );
}

/// Both parties' records bring the same; one of them does not get into the chain.
#[test]
fn a_record_that_does_not_land_is_followed_by_the_other_partys() {
    let pair = Pair::new();
    let mut tower = pair.guard();
    for client in [pair.a.public(), pair.b.public()] {
        let record = pair.record(0, (5, 9), &[]);
        tower.watch(NOW, client, record, &pair.tower).unwrap();
    }
    let mut submissions = |at: u64, there: (u64, u64)| {
        let dispute = pair.record(0, there, &[]);
        let effects = tower.chain_reported(at, disputed(&pair, &dispute), &pair.tower);
        let is_submission =
            |it: &&TowerEffect| matches!(it, TowerEffect::Broadcast(Transaction::Submit { .. }));
        effects.iter().filter(is_submission).count()
    };
    let every = Policy::default().rebroadcast_after;
    assert_eq!(submissions(NOW, (1, 1)), 1);
    assert_eq!(submissions(NOW + every - 1, (1, 1)), 0);
    assert_eq!(submissions(NOW + every, (1, 1)), 2);
    assert_eq!(submissions(NOW + every + 1, (1, 1)), 0);
    assert_eq!(submissions(NOW + 2 * every, (1, 1)), 2);
    assert_eq!(submissions(NOW + 3 * every, (5, 9)), 0);
}

#[test]
fn a_record_holds_no_preimage_that_opens_none_of_its_locks() {
    let pair = Pair::new();
    let mut tower = pair.guard();
    let (own, other) = (Preimage([7; 32]), Preimage([8; 32]));
    let record = Watch {
        preimages: vec![other, own, own],
        ..pair.record(0, (1, 1), &[own])
    };
    let client = pair.b.public();
    let effects = tower.watch(NOW, client, record, &pair.tower).unwrap();
    assert_eq!(stored(&effects).preimages, [own]);
    let gone = pair.record(0, (2, 1), &[]);
    let effects = tower.watch(NOW, client, gone, &pair.tower).unwrap();
    assert!(stored(&effects).preimages.is_empty());
}

#[test]
fn channels_are_counted_by_client_also_after_a_restart() {
    let pair = Pair::new();
    let (a, b) = (pair.a.public(), pair.b.public());
    let mut tower = pair.guard();
    for (salt, client) in [(0, a), (0, a), (1, a), (1, b)] {
        let record = pair.record(salt, (1, 1), &[]);
        tower.watch(NOW, client, record, &pair.tower).unwrap();
    }
    let records = tower.records();
    let records: Vec<(PublicKey, Watch)> = records
        .map(|(_, client, watch)| (*client, watch.clone()))
        .collect();
    let again = Tower::new(pair.domain.separator(), Policy::default(), records);
    for tower in [tower, again] {
        assert_eq!(tower.count(), 2);
        assert_eq!(tower.count_of(&a), 2);
        assert_eq!(tower.count_of(&b), 1);
        assert_eq!(tower.count_of(&pair.tower.public()), 0);
    }
}

//! A watchtower's records, where both parties of a channel may be its clients and one of them lies.

use millrace_channels::digest::{Domain, channel_id, snapshot};
use millrace_channels::machine::dispute::{ChainReport, Level};
use millrace_channels::machine::effect::Transaction;
use millrace_channels::policy::Policy;
use millrace_channels::signing::{HotKey, Keys, address};
use millrace_channels::state::{Half, Halves, Lock, Params, list_root};
use millrace_channels::types::{Address, Amount, LockRoot, Preimage};
use millrace_channels::watchtower::{Tower, TowerEffect, Watch};

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

fn stored(effects: &[TowerEffect]) -> &Watch {
    effects
        .iter()
        .find_map(|effect| match effect {
            TowerEffect::Persist(_, Some(watch)) => Some(&**watch),
            _ => None,
        })
        .expect("a record is stored")
}

/// B is paid by A's lock and has its tower know the preimage; A, a client of the same tower, gives the record again without.
#[test]
fn a_party_cannot_have_its_peers_preimage_forgotten() {
    let pair = Pair::new();
    let mut tower = pair.guard();
    let preimage = Preimage([7; 32]);
    let record = pair.record(0, (1, 1), &[preimage]);
    let from_b = Watch {
        preimages: vec![preimage],
        ..record.clone()
    };
    tower.watch(NOW, from_b, &pair.tower).unwrap();
    let effects = tower.watch(NOW, record, &pair.tower).unwrap();
    assert_eq!(stored(&effects).preimages, [preimage]);
    let newer = pair.record(0, (2, 1), &[preimage]);
    let effects = tower.watch(NOW, newer, &pair.tower).unwrap();
    assert_eq!(stored(&effects).preimages, [preimage]);
    assert_eq!(revealed(&mut tower, EXPIRY - 1, &pair.tower), [preimage]);
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
    let effects = tower.watch(NOW, record, &pair.tower).unwrap();
    assert_eq!(stored(&effects).preimages, [own]);
    let gone = pair.record(0, (2, 1), &[]);
    let effects = tower.watch(NOW, gone, &pair.tower).unwrap();
    assert!(stored(&effects).preimages.is_empty());
}

#[test]
fn channels_are_counted_by_party_also_after_a_restart() {
    let pair = Pair::new();
    let mut tower = pair.guard();
    for salt in [0, 0, 1] {
        let record = pair.record(salt, (1, 1), &[]);
        tower.watch(NOW, record, &pair.tower).unwrap();
    }
    let records: Vec<Watch> = tower.records().map(|(_, watch)| watch.clone()).collect();
    let again = Tower::new(pair.domain.separator(), Policy::default(), records);
    for tower in [tower, again] {
        assert_eq!(tower.count(), 2);
        assert_eq!(tower.count_of(&pair.a.public()), 2);
        assert_eq!(tower.count_of(&pair.b.public()), 2);
        assert_eq!(tower.count_of(&pair.tower.public()), 0);
    }
}

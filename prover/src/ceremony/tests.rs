//! A ceremony's key proves, and every way to cheat is refused by its own error.

use super::*;
use crate::chain::Chain;
use crate::circuit::Statement;
use crate::fast::Fast;
use crate::groth16::{Backend, Verifier};
use ark_bn254::{Fq, G2Projective};
use ark_ff::BigInteger;
use ark_poly::{EvaluationDomain, Radix2EvaluationDomain};
use std::path::PathBuf;
use std::sync::Arc;
use tempfile::TempDir;

const LINKS: u32 = 9;

fn matrices() -> ConstraintMatrices {
    Circuit::Chain(LINKS).matrices().unwrap()
}

/// A folder with ceremonies' files.
struct Table(TempDir);

impl Table {
    fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    fn put(&self, name: &str, bytes: &[u8]) -> PathBuf {
        let path = self.0.path().join(name);
        std::fs::write(&path, bytes).unwrap();
        path
    }

    fn begun(&self) -> PathBuf {
        self.put("0.zkey", &init(&matrices(), &Phase1::Development).unwrap())
    }

    /// Two parties and a beacon.
    fn held(&self) -> PathBuf {
        let first = contribute(&self.begun(), "first", "some entropy").unwrap();
        let first = self.put("1.zkey", &first.zkey);
        let second = contribute(&first, "second", "").unwrap();
        let second = self.put("2.zkey", &second.zkey);
        let last = beacon(&second, "beacon", sample_beacon()).unwrap();
        assert_eq!(last.contributions, 3);
        self.put("3.zkey", &last.zkey)
    }

    /// The file with its transcript or points changed.
    fn changed(&self, from: &Path, change: impl FnOnce(&mut CeremonyFile)) -> PathBuf {
        let mut file = CeremonyFile::read(from).unwrap();
        change(&mut file);
        self.put("changed.zkey", &file.bytes().unwrap())
    }
}

fn sample_beacon() -> Beacon {
    Beacon {
        value: vec![1, 2, 3],
        iterations_log2: 10,
    }
}

fn refused(path: &Path) -> CeremonyError {
    verify(path, &matrices(), &Phase1::Development)
        .err()
        .expect("refused")
}

/// Phase 1 with a known secret, as a prepared `.ptau` file.
fn ptau(power: u32, tau: Fr, alpha: Fr, beta: Fr) -> Vec<u8> {
    let whole = 1usize << power;
    let powers: Vec<Fr> = std::iter::successors(Some(Fr::one()), |last| Some(*last * tau))
        .take(2 * whole - 1)
        .collect();
    let g1 = |scalars: &[Fr]| {
        g1_bytes(&FixedBase::new(G1Projective::generator(), scalars.len()).multiply(scalars))
    };
    let g2 = |scalars: &[Fr]| {
        let mut bytes = vec![];
        put_g2(
            &mut bytes,
            &FixedBase::new(G2Projective::generator(), scalars.len()).multiply(scalars),
        );
        bytes
    };
    let times =
        |factor: Fr, scalars: &[Fr]| scalars.iter().map(|s| *s * factor).collect::<Vec<_>>();
    // Of every domain; the powers that are not there count as zero.
    let lagrange = |levels: u32| -> Vec<Fr> {
        (0..=levels)
            .flat_map(|level| {
                let domain = Radix2EvaluationDomain::<Fr>::new(1 << level).unwrap();
                let mut all = powers.clone();
                all.resize((1 << level).max(powers.len()), Fr::zero());
                all.truncate(1 << level);
                domain.ifft(&all)
            })
            .collect()
    };
    // The Lagrange points are the inverse transform of the powers.
    let mut header = 32u32.to_le_bytes().to_vec();
    header.extend(Fq::MODULUS.to_bytes_le());
    header.extend(
        [power, power]
            .iter()
            .flat_map(|number| number.to_le_bytes()),
    );
    let low = &powers[..whole];
    let (single, double) = (lagrange(power), lagrange(power + 1));
    binary_file(
        b"ptau",
        1,
        &[
            (1, header),
            (2, g1(&powers)),
            (3, g2(low)),
            (4, g1(&times(alpha, low))),
            (5, g1(&times(beta, low))),
            (6, g2(&[beta])),
            (7, vec![0; 4]),
            (12, g1(&double)),
            (13, g2(&single)),
            (14, g1(&times(alpha, &single))),
            (15, g1(&times(beta, &single))),
        ],
    )
}

fn secrets() -> [Fr; 3] {
    [5u64, 7, 11].map(|number| Fr::from(number).pow([1000]))
}

#[test]
fn a_ceremonys_key_proves_and_its_origin_follows_phase_1() {
    let table = Table::new();
    let [tau, alpha, beta] = secrets();
    let phase1 = table.put("5.ptau", &ptau(5, tau, alpha, beta));
    for phase1 in [Phase1::Development, Phase1::Ptau(&phase1)] {
        let path = table.put("0.zkey", &init(&matrices(), &phase1).unwrap());
        let contributed = contribute(&path, "one", "").unwrap();
        let path = table.put("1.zkey", &contributed.zkey);
        let verified = verify(&path, &matrices(), &phase1).unwrap();
        assert_eq!(
            verified.transcript.contributions[0].hash(),
            contributed.hash
        );
        assert_eq!(
            verified.transcript.contributions[0].name.as_deref(),
            Some("one")
        );
        let key = verified.into_key(Circuit::Chain(LINKS), matrices());
        let real = matches!(phase1, Phase1::Ptau(_));
        assert_eq!(key.id.origin == KeyOrigin::Ceremony, real);
        assert!(key.transcript.is_some());
        let statement = Statement::Chain(Chain::new(LINKS, 3));
        let verifier = Verifier::new(key.verifying_key());
        let prepared = Fast::detect().prepare(Arc::new(key));
        let proof = prepared.prove(&statement.assign().unwrap()).unwrap();
        assert!(verifier.accepts(&proof, &statement.public_inputs()));
    }
}

#[test]
fn phase_1_gives_the_key_that_its_secrets_give() {
    let [tau, alpha, beta] = secrets();
    let table = Table::new();
    let path = table.put("5.ptau", &ptau(5, tau, alpha, beta));
    let one = Fr::one();
    let secrets = Secrets {
        tau,
        alpha,
        beta,
        gamma: one,
        delta: one,
    };
    let expected = setup::generate_from(&matrices(), &secrets).unwrap();
    let initial = Initial::of(&matrices(), &Phase1::Ptau(&path)).unwrap();
    assert_eq!(initial.key, expected);
    let domain = matrices().domain();
    let differences = development_differences(&tau, domain);
    assert_eq!(initial.hash, circuit_hash(&expected, domain, &differences));
}

#[test]
fn a_whole_ceremony_is_accepted_and_an_empty_one_refused() {
    let table = Table::new();
    let path = table.held();
    let verified = verify(&path, &matrices(), &Phase1::Development).unwrap();
    assert_eq!(verified.transcript.contributions.len(), 3);
    assert_eq!(
        verified.transcript.contributions[2].beacon,
        Some(sample_beacon())
    );
    assert!(matches!(
        refused(&table.begun()),
        CeremonyError::NoContribution
    ));
}

#[test]
fn a_contribution_without_knowledge_is_refused() {
    let table = Table::new();
    let path = table.changed(&table.held(), |file| {
        let step = &mut file.transcript.contributions[1];
        step.g2_spx = (step.g2_spx + G2Affine::generator()).into_affine();
    });
    // The chain is judged up to here only, so the proof of knowledge is what fails.
    assert!(matches!(
        refused(&path),
        CeremonyError::NoKnowledge { contribution: 2 }
    ));
}

#[test]
fn a_delta_that_is_not_the_secrets_is_refused() {
    let table = Table::new();
    let held = table.held();
    let path = table.changed(&held, |file| {
        let step = &mut file.transcript.contributions[1];
        step.delta_after = (step.delta_after * Fr::from(2u64)).into_affine();
    });
    assert!(matches!(
        refused(&path),
        CeremonyError::WrongDelta { contribution: 2 }
    ));
    let path = table.changed(&held, |file| {
        let two = Fr::from(2u64);
        file.delta_g1 = (file.delta_g1 * two).into_affine();
        file.delta_g2 = (file.delta_g2 * two).into_affine();
    });
    assert!(matches!(refused(&path), CeremonyError::ReplacedDelta));
    let path = table.changed(&held, |file| {
        file.delta_g2 = (file.delta_g2 * Fr::from(2u64)).into_affine();
    });
    assert!(matches!(refused(&path), CeremonyError::ReplacedDelta));
}

#[test]
fn reordered_and_dropped_contributions_are_refused() {
    let table = Table::new();
    let held = table.held();
    let path = table.changed(&held, |file| file.transcript.contributions.swap(0, 1));
    assert!(matches!(
        refused(&path),
        CeremonyError::BrokenChain { contribution: 1 }
    ));
    let path = table.changed(&held, |file| drop(file.transcript.contributions.remove(1)));
    assert!(matches!(
        refused(&path),
        CeremonyError::BrokenChain { contribution: 2 }
    ));
    let path = table.changed(&held, |file| drop(file.transcript.contributions.pop()));
    assert!(matches!(refused(&path), CeremonyError::ReplacedDelta));
}

#[test]
fn another_circuit_phase_1_or_beacon_is_refused() {
    let table = Table::new();
    let held = table.held();
    for links in [LINKS + 1, LINKS + 40] {
        let other = Circuit::Chain(links).matrices().unwrap();
        let error = verify(&held, &other, &Phase1::Development).err().unwrap();
        assert!(
            matches!(error, CeremonyError::OtherCircuit { what: "size" }),
            "{error}"
        );
    }
    let [tau, alpha, beta] = secrets();
    let phase1 = table.put("5.ptau", &ptau(5, tau, alpha, beta));
    let error = verify(&held, &matrices(), &Phase1::Ptau(&phase1))
        .err()
        .unwrap();
    assert!(
        matches!(
            error,
            CeremonyError::OtherCircuit {
                what: "α, β or γ"
            }
        ),
        "{error}"
    );
    let path = table.changed(&held, |file| file.transcript.circuit_hash[0] ^= 1);
    assert!(matches!(
        refused(&path),
        CeremonyError::OtherCircuit {
            what: "circuit hash"
        }
    ));
    let path = table.changed(&held, |file| {
        file.transcript.contributions[2]
            .beacon
            .as_mut()
            .unwrap()
            .value[0] ^= 1;
    });
    assert!(matches!(
        refused(&path),
        CeremonyError::WrongBeacon { contribution: 3 }
    ));
}

#[test]
fn queries_that_are_not_deltas_are_refused() {
    let table = Table::new();
    let held = table.held();
    let double = |point: &mut G1Affine| *point = (*point * Fr::from(2u64)).into_affine();
    let path = table.changed(&held, |file| double(&mut file.l[0]));
    assert!(matches!(
        refused(&path),
        CeremonyError::WrongQuery { section: "L" }
    ));
    let path = table.changed(&held, |file| double(&mut file.h[3]));
    assert!(matches!(
        refused(&path),
        CeremonyError::WrongQuery { section: "H" }
    ));
}

#[test]
fn phase_1_that_is_no_series_is_refused() {
    let table = Table::new();
    let [tau, alpha, beta] = secrets();
    let whole = ptau(5, tau, alpha, beta);
    let sections = |bytes: &[u8]| -> Vec<(u32, usize, usize)> {
        let mut found = vec![];
        let mut at = 12;
        while at < bytes.len() {
            let id = u32::from_le_bytes(bytes[at..at + 4].try_into().unwrap());
            let length = u64::from_le_bytes(bytes[at + 4..at + 12].try_into().unwrap()) as usize;
            found.push((id, at + 12, length));
            at += 12 + length;
        }
        found
    };
    for (id, start, _) in sections(&whole) {
        let width = if [3, 6, 13].contains(&id) { 128 } else { 64 };
        if [1, 7].contains(&id) {
            continue;
        }
        // The third point, or the only one, becomes a multiple that keeps it on its curve. Of the Lagrange lists the
        // third is of a domain that is not used, so one of the used domain is changed.
        let place = match id {
            6 => 0,
            12 => 31 + 5,
            13..=15 => 15 + 5,
            _ => 3,
        };
        let at = start + place * width;
        let mut forged = whole.clone();
        let negated = |bytes: &mut [u8]| {
            for coordinate in bytes[width / 2..].chunks_exact_mut(32) {
                let mut limbs = crate::matrices::montgomery_limbs(coordinate);
                let value = -Fq::new_unchecked(ark_ff::BigInt(limbs));
                limbs = value.0.0;
                coordinate.copy_from_slice(&crate::matrices::montgomery_bytes(&limbs));
            }
        };
        negated(&mut forged[at..at + width]);
        let path = table.put("forged.ptau", &forged);
        let error = init(&matrices(), &Phase1::Ptau(&path)).expect_err("refused");
        assert!(
            matches!(error, CeremonyError::NotPowers { .. }),
            "section {id}: {error}"
        );
    }
    let small = table.put("3.ptau", &ptau(3, tau, alpha, beta));
    let error = init(&matrices(), &Phase1::Ptau(&small)).err().unwrap();
    assert!(
        matches!(
            error,
            CeremonyError::PtauTooSmall {
                power: 3,
                needed: 4
            }
        ),
        "{error}"
    );
}

#[test]
fn damaged_files_are_errors_and_never_panics() {
    let table = Table::new();
    let zkey = std::fs::read(table.held()).unwrap();
    let [tau, alpha, beta] = secrets();
    let powers = ptau(4, tau, alpha, beta);
    let mut state = 1u64;
    let mut next = move |limit: usize| {
        state = state
            .wrapping_mul(6364136223846793005)
            .wrapping_add(1442695040888963407);
        (state >> 33) as usize % limit
    };
    for _ in 0..60 {
        for (name, whole) in [("d.zkey", &zkey), ("d.ptau", &powers)] {
            let mut bytes = whole.clone();
            for _ in 0..=next(3) {
                let at = next(bytes.len());
                bytes[at] = next(256) as u8;
            }
            if next(3) == 0 {
                bytes.truncate(next(whole.len()));
            }
            let path = table.put(name, &bytes);
            // Any answer will do, as long as it is one.
            if name == "d.zkey" {
                let _ = CeremonyFile::read(&path);
            } else {
                let _ = Powers::read(&path, 16);
            }
        }
    }
}

#[test]
fn names_and_beacons_out_of_range_are_refused() {
    let table = Table::new();
    let begun = table.begun();
    let long = "x".repeat(MAX_NAME_BYTES + 1);
    assert!(matches!(
        contribute(&begun, &long, ""),
        Err(CeremonyError::Range { .. })
    ));
    for value in [vec![], vec![0; 256]] {
        let wrong = Beacon {
            value,
            iterations_log2: 10,
        };
        assert!(matches!(
            beacon(&begun, "", wrong),
            Err(CeremonyError::Range { .. })
        ));
    }
    let wrong = Beacon {
        value: vec![1],
        iterations_log2: 31,
    };
    assert!(matches!(
        beacon(&begun, "", wrong),
        Err(CeremonyError::Range { .. })
    ));
}

//! Keys that no one party knows the secrets of: phase 2 of Groth16's setup (Bowe, Gabizon, Miers 2017).
//!
//! ```text
//! phase 1 (.ptau) → init → contribute, contribute, … → beacon → verify → export → key of origin "ceremony"
//! ```
//! The file between the steps is a `.zkey` whose section 10 is the transcript, exactly as snarkjs has it: each step can be
//! done with either program. A contribution multiplies δ by a secret x, and L and H by 1/x, and proves knowledge of x. A
//! proof can be forged only by someone who knows every x, and τ, α, β of phase 1.
//!
//! # Soundness
//! [`verify`] trusts nothing in the file: it makes the first key anew from circuit and phase 1, compares every part that
//! contributions may not touch byte for byte, follows the chain of contributions by pairings, and compares L and H with the
//! first key's by a random combination. Each way to cheat has its own error.

use crate::circom::{
    CircomError, Sections, binary_file, point_g1, points, put_g1, put_g2, zkey_header,
    zkey_with_transcript,
};
use crate::circuit::Circuit;
use crate::groth16::{ProvingKey, VerifyingKey};
use crate::key::{CircuitKey, KeyId, KeyOrigin, TranscriptHash};
use crate::matrices::ConstraintMatrices;
use crate::setup::{self, FixedBase, Secrets, Seed, SetupError};
use ark_bn254::{Bn254, Fr, G1Affine, G1Projective, G2Affine};
use ark_ec::pairing::Pairing;
use ark_ec::{AffineRepr, CurveGroup, PrimeGroup, VariableBaseMSM};
use ark_ff::{Field, One, PrimeField, UniformRand, Zero};
use blake2::{Blake2b512, Digest};
use rand::{RngCore, rngs::OsRng};
use rayon::prelude::*;
use sha2::Sha512;
use std::path::Path;
use thiserror::Error;
use zeroize::Zeroizing;

mod ptau;
mod transcript;

pub use ptau::Powers;
pub use transcript::{
    BEACON_ITERATIONS, Beacon, Contribution, Hash, MAX_CONTRIBUTIONS, Transcript,
};
use transcript::{ChaCha, challenge, hash_to_g2, update_g1, update_g2};

/// Longest name of a contributor, in bytes.
pub const MAX_NAME_BYTES: usize = 64;
/// Domains from this size on hash one more power of τ: how snarkjs' circuit hash is defined by its chunks.
const HASH_CHUNK: usize = 1 << 14;

/// Why a ceremony's step fails, or its key is refused.
#[derive(Debug, Error)]
pub enum CeremonyError {
    /// A file is unreadable.
    #[error(transparent)]
    File(#[from] CircomError),
    /// The circuit is too large.
    #[error(transparent)]
    Setup(#[from] SetupError),
    /// Phase 1 has too few powers.
    #[error("the .ptau file has powers up to 2^{power}, the circuit needs 2^{needed}")]
    PtauTooSmall {
        /// Of the file.
        power: u32,
        /// Of the circuit.
        needed: u32,
    },
    /// Phase 1 has no Lagrange points.
    #[error("the .ptau file is not prepared: run `snarkjs powersoftau prepare phase2`")]
    PtauNotPrepared,
    /// Phase 1 is false.
    #[error("the .ptau file does not hold the powers of one secret: {what}")]
    NotPowers {
        /// The relation that fails.
        what: &'static str,
    },
    /// A contributor's name is too long, or a beacon's value has no byte or too many, or its iterations are out of range.
    #[error("{what} is out of range")]
    Range {
        /// What.
        what: &'static str,
    },
    /// The file does not begin with this circuit's first key.
    #[error("the key is not of this circuit and phase 1: its {what} differs from what they give")]
    OtherCircuit {
        /// The part that differs.
        what: &'static str,
    },
    /// Nobody has contributed, so whoever made phase 1 alone could forge.
    #[error("nobody has contributed")]
    NoContribution,
    /// A contribution is not bound to those before it: one was dropped, reordered or changed.
    #[error(
        "contribution {contribution} does not follow those before it: one was dropped, reordered or changed"
    )]
    BrokenChain {
        /// Counted from 1.
        contribution: usize,
    },
    /// The proof of knowledge is false.
    #[error("contribution {contribution} does not show knowledge of its secret")]
    NoKnowledge {
        /// Counted from 1.
        contribution: usize,
    },
    /// δ was not multiplied by the secret.
    #[error(
        "contribution {contribution} changes δ by another factor than the secret that it knows"
    )]
    WrongDelta {
        /// Counted from 1.
        contribution: usize,
    },
    /// The beacon gives another secret.
    #[error("contribution {contribution} is not what its beacon gives")]
    WrongBeacon {
        /// Counted from 1.
        contribution: usize,
    },
    /// The key's δ is not what the contributions make.
    #[error(
        "the key's δ is not that of the last contribution: it was replaced, or a contribution dropped"
    )]
    ReplacedDelta,
    /// A query was not divided by δ.
    #[error("the points of {section} do not belong to the key's δ")]
    WrongQuery {
        /// L or H.
        section: &'static str,
    },
}

/// What a ceremony begins with.
pub enum Phase1<'a> {
    /// A file that many have contributed to.
    Ptau(&'a Path),
    /// Secrets that everyone can compute: for development, the key stays INSECURE-DEV.
    Development,
}

/// The key before any contribution (γ = δ = 1), and its hash.
struct Initial {
    key: ProvingKey,
    hash: Hash,
}

impl Initial {
    fn of(matrices: &ConstraintMatrices, phase1: &Phase1) -> Result<Self, CeremonyError> {
        let domain = matrices.domain();
        let (key, differences) = match phase1 {
            Phase1::Ptau(path) => {
                let powers = Powers::read(path, domain)?;
                let differences = power_differences(&powers.powers, domain)?;
                (compose(matrices, &powers), differences)
            }
            Phase1::Development => {
                let secrets = Secrets {
                    gamma: Fr::one(),
                    delta: Fr::one(),
                    ..Secrets::derive(&Seed::development(), &matrices.identity(), domain)
                };
                let differences = development_differences(&secrets.tau, domain);
                (setup::generate_from(matrices, &secrets)?, differences)
            }
        };
        let hash = circuit_hash(&key, domain, &differences);
        Ok(Self { key, hash })
    }
}

/// How many τ^(i+n) − τ^i the circuit hash has.
fn hashed_powers(domain: usize) -> usize {
    if domain > HASH_CHUNK {
        domain
    } else {
        domain - 1
    }
}

fn power_differences(powers: &[G1Affine], domain: usize) -> Result<Vec<G1Affine>, CeremonyError> {
    let count = hashed_powers(domain);
    if powers.len() < domain + count {
        let needed = domain.trailing_zeros() + 1;
        return Err(CeremonyError::PtauTooSmall {
            power: needed - 1,
            needed,
        });
    }
    let pairs = powers[domain..domain + count]
        .par_iter()
        .zip(&powers[..count]);
    Ok(normalized(pairs.map(|(high, low)| *high - *low).collect()))
}

fn development_differences(tau: &Fr, domain: usize) -> Vec<G1Affine> {
    let count = hashed_powers(domain);
    let mut scalar = tau.pow([domain as u64]) - Fr::one();
    let mut scalars = Zeroizing::new(Vec::with_capacity(count));
    for _ in 0..count {
        scalars.push(scalar);
        scalar *= tau;
    }
    FixedBase::new(G1Projective::generator(), count).multiply(&scalars)
}

fn normalized(points: Vec<G1Projective>) -> Vec<G1Affine> {
    let chunks = points.par_chunks(1 << 12);
    chunks
        .flat_map_iter(G1Projective::normalize_batch)
        .collect()
}

/// snarkjs' circuit hash: every point of the key, uncompressed, lists with their length.
fn circuit_hash(key: &ProvingKey, domain: usize, differences: &[G1Affine]) -> Hash {
    let mut hasher = Blake2b512::new();
    let vk = &key.vk;
    update_g1(&mut hasher, &vk.alpha_g1);
    update_g1(&mut hasher, &key.beta_g1);
    update_g2(&mut hasher, &vk.beta_g2);
    update_g2(&mut hasher, &vk.gamma_g2);
    update_g1(&mut hasher, &key.delta_g1);
    update_g2(&mut hasher, &vk.delta_g2);
    let lists: [(usize, &[G1Affine]); 5] = [
        (vk.gamma_abc_g1.len(), &vk.gamma_abc_g1),
        (domain - 1, differences),
        (key.l_query.len(), &key.l_query),
        (key.a_query.len(), &key.a_query),
        (key.b_g1_query.len(), &key.b_g1_query),
    ];
    for (length, list) in lists {
        hasher.update((length as u32).to_be_bytes());
        list.iter().for_each(|point| update_g1(&mut hasher, point));
    }
    hasher.update((key.b_g2_query.len() as u32).to_be_bytes());
    key.b_g2_query
        .iter()
        .for_each(|point| update_g2(&mut hasher, point));
    hasher.finalize().into()
}

// ------------------------------------------------------------------------------------------------- the first key

/// The key from Lagrange points: column sums of the matrices.
fn compose(matrices: &ConstraintMatrices, powers: &Powers) -> ProvingKey {
    let [a, b, c] = [0, 1, 2].map(|matrix| Columns::of(matrices, matrix));
    let sum = |columns: &Columns, column, points: &[G1Affine]| -> G1Projective {
        columns.sum(matrices, column, points)
    };
    let variables = 0..matrices.variables();
    let extra = |variable: usize, points: &[G1Affine]| match variable < matrices.inputs {
        true => points[matrices.constraints() + variable].into_group(),
        false => G1Projective::zero(),
    };
    let list = |point: &(dyn Fn(usize) -> G1Projective + Sync)| {
        normalized(variables.clone().into_par_iter().map(point).collect())
    };
    let a_query = list(&|i| sum(&a, i, &powers.tau_g1) + extra(i, &powers.tau_g1));
    let b_g1_query = list(&|i| sum(&b, i, &powers.tau_g1));
    let combined = list(&|i| {
        sum(&a, i, &powers.beta_tau)
            + extra(i, &powers.beta_tau)
            + sum(&b, i, &powers.alpha_tau)
            + sum(&c, i, &powers.tau_g1)
    });
    let b_g2: Vec<_> = variables
        .into_par_iter()
        .map(|i| b.sum(matrices, i, &powers.tau_g2))
        .collect();
    let (inputs, witnesses) = combined.split_at(matrices.inputs);
    ProvingKey {
        vk: VerifyingKey {
            alpha_g1: powers.alpha_g1,
            beta_g2: powers.beta_g2,
            gamma_g2: G2Affine::generator(),
            delta_g2: G2Affine::generator(),
            gamma_abc_g1: inputs.to_vec(),
        },
        beta_g1: powers.beta_g1,
        delta_g1: G1Affine::generator(),
        a_query,
        b_g1_query,
        b_g2_query: ark_bn254::G2Projective::normalize_batch(&b_g2),
        h_query: powers.odd.clone(),
        l_query: witnesses.to_vec(),
    }
}

/// A matrix by columns.
struct Columns {
    ends: Vec<usize>,
    /// Row and position of the coefficient.
    entries: Vec<(u32, u32)>,
}

impl Columns {
    fn of(matrices: &ConstraintMatrices, matrix: usize) -> Self {
        let sparse = &matrices.matrices[matrix];
        let mut ends = vec![0; matrices.variables()];
        for row in 0..sparse.rows() {
            sparse.row(row).for_each(|(column, _)| ends[column] += 1);
        }
        let mut total = 0;
        for end in &mut ends {
            let count = *end;
            *end = total;
            total += count;
        }
        let mut entries = vec![(0, 0); total];
        for row in 0..sparse.rows() {
            for (column, value) in sparse.row(row) {
                entries[ends[column]] = (row as u32, value as u32);
                ends[column] += 1;
            }
        }
        Self { ends, entries }
    }

    fn sum<P: AffineRepr<ScalarField = Fr>>(
        &self,
        matrices: &ConstraintMatrices,
        column: usize,
        points: &[P],
    ) -> P::Group {
        let start = if column == 0 {
            0
        } else {
            self.ends[column - 1]
        };
        let mut sum = P::Group::zero();
        for (row, value) in &self.entries[start..self.ends[column]] {
            let coefficient = matrices.coefficients[*value as usize];
            let point = points[*row as usize];
            if coefficient.is_one() {
                sum += point;
            } else if (-coefficient).is_one() {
                sum -= point;
            } else {
                sum += point * coefficient;
            }
        }
        sum
    }
}

/// The file that a ceremony begins with.
///
/// # Errors
/// If phase 1 is unusable or too small.
pub fn init(matrices: &ConstraintMatrices, phase1: &Phase1) -> Result<Vec<u8>, CeremonyError> {
    let initial = Initial::of(matrices, phase1)?;
    let transcript = Transcript {
        circuit_hash: initial.hash,
        contributions: vec![],
    };
    Ok(zkey_with_transcript(
        matrices,
        &initial.key,
        transcript.bytes(),
    ))
}

// ------------------------------------------------------------------------------------------------- contributing

/// What one step makes.
pub struct Contributed {
    /// The next file.
    pub zkey: Vec<u8>,
    /// What the contributor publishes.
    pub hash: Hash,
    /// How many contributions there are now.
    pub contributions: usize,
}

/// Contributes a secret from the operating system's randomness, mixed with a text, and forgets it.
///
/// # Errors
/// If the file is unreadable or the name too long.
pub fn contribute(zkey: &Path, name: &str, entropy: &str) -> Result<Contributed, CeremonyError> {
    let mut system = Zeroizing::new([0; 64]);
    OsRng.fill_bytes(&mut *system);
    let mixed = Sha512::new_with_prefix(*system)
        .chain_update(entropy)
        .finalize();
    let mut wide = Zeroizing::new([0; 64]);
    wide.copy_from_slice(&mixed);
    let secret = Zeroizing::new(Fr::from_le_bytes_mod_order(&*wide));
    step(
        zkey,
        name,
        &secret,
        G1Projective::rand(&mut OsRng).into_affine(),
        None,
    )
}

/// Adds what public randomness gives, so that even the last contributor could not choose the key.
///
/// # Errors
/// If the file is unreadable, or name, value or iterations are out of range.
pub fn beacon(zkey: &Path, name: &str, beacon: Beacon) -> Result<Contributed, CeremonyError> {
    if !(1..=255).contains(&beacon.value.len()) {
        return Err(CeremonyError::Range {
            what: "the length of the beacon's value",
        });
    }
    if !BEACON_ITERATIONS.contains(&beacon.iterations_log2) {
        return Err(CeremonyError::Range {
            what: "the number of the beacon's iterations",
        });
    }
    let mut stream = beacon.stream();
    let secret = stream.scalar();
    let point = stream.g1();
    step(zkey, name, &secret, point, Some(beacon))
}

fn step(
    zkey: &Path,
    name: &str,
    secret: &Fr,
    g1_s: G1Affine,
    beacon: Option<Beacon>,
) -> Result<Contributed, CeremonyError> {
    if name.len() > MAX_NAME_BYTES {
        return Err(CeremonyError::Range {
            what: "the length of the name",
        });
    }
    let inverse = secret.inverse();
    let inverse = Zeroizing::new(inverse.ok_or(CeremonyError::Range { what: "the secret" })?);
    let mut file = CeremonyFile::read(zkey)?;
    let before = file.transcript.hasher(file.transcript.contributions.len());
    let g1_sx = (g1_s * secret).into_affine();
    let transcript = challenge(before, &g1_s, &g1_sx);
    let contribution = Contribution {
        delta_after: (file.delta_g1 * secret).into_affine(),
        g1_s,
        g1_sx,
        g2_spx: (hash_to_g2(&transcript) * secret).into_affine(),
        transcript,
        name: (!name.is_empty()).then(|| name.to_owned()),
        beacon,
    };
    file.delta_g1 = contribution.delta_after;
    file.delta_g2 = (file.delta_g2 * secret).into_affine();
    file.l = multiplied(&file.l, &inverse);
    file.h = multiplied(&file.h, &inverse);
    let hash = contribution.hash();
    file.transcript.contributions.push(contribution);
    Ok(Contributed {
        zkey: file.bytes()?,
        hash,
        contributions: file.transcript.contributions.len(),
    })
}

fn multiplied(points: &[G1Affine], factor: &Fr) -> Vec<G1Affine> {
    normalized(points.par_iter().map(|point| *point * factor).collect())
}

/// A `.zkey` with what contributions change taken apart.
struct CeremonyFile {
    sections: Sections,
    transcript: Transcript,
    counts: [u32; 3],
    alpha_g1: G1Affine,
    beta_g1: G1Affine,
    beta_g2: G2Affine,
    gamma_g2: G2Affine,
    delta_g1: G1Affine,
    delta_g2: G2Affine,
    l: Vec<G1Affine>,
    h: Vec<G1Affine>,
}

impl CeremonyFile {
    fn read(path: &Path) -> Result<Self, CeremonyError> {
        let sections = Sections::open(path, "zkey", 1)?;
        let header = sections.section(2, None)?;
        let mut header = sections.cursor(2, &header);
        header.expect_field::<ark_bn254::Fq>("the base field")?;
        header.expect_field::<Fr>("the scalar field")?;
        let counts = [header.u32()?, header.u32()?, header.u32()?];
        let [variables, inputs, domain] = counts.map(|count| count as usize);
        if inputs >= variables {
            let what = format!("{inputs} public inputs of {variables} variables");
            return Err(header.invalid(what).into());
        }
        let content = sections.section(10, None)?;
        let transcript = Transcript::read(&mut sections.cursor(10, &content))?;
        Ok(Self {
            transcript,
            counts,
            alpha_g1: header.g1()?,
            beta_g1: header.g1()?,
            beta_g2: header.g2()?,
            gamma_g2: header.g2()?,
            delta_g1: header.g1()?,
            delta_g2: header.g2()?,
            l: points(&sections, 8, variables - inputs - 1, 64, point_g1)?,
            h: points(&sections, 9, domain, 64, point_g1)?,
            sections,
        })
    }

    fn bytes(&self) -> Result<Vec<u8>, CeremonyError> {
        let mut contents = vec![];
        for id in 1..=10 {
            let content = match id {
                2 => self.header(),
                8 => g1_bytes(&self.l),
                9 => g1_bytes(&self.h),
                10 => self.transcript.bytes(),
                _ => self.sections.section(id, None)?.to_vec(),
            };
            contents.push((id, content));
        }
        Ok(binary_file(b"zkey", 1, &contents))
    }

    fn header(&self) -> Vec<u8> {
        zkey_header(
            self.counts,
            &ProvingKey {
                vk: VerifyingKey {
                    alpha_g1: self.alpha_g1,
                    beta_g2: self.beta_g2,
                    gamma_g2: self.gamma_g2,
                    delta_g2: self.delta_g2,
                    gamma_abc_g1: vec![],
                },
                beta_g1: self.beta_g1,
                delta_g1: self.delta_g1,
                a_query: vec![],
                b_g1_query: vec![],
                b_g2_query: vec![],
                h_query: vec![],
                l_query: vec![],
            },
        )
    }
}

fn g1_bytes(points: &[G1Affine]) -> Vec<u8> {
    let mut bytes = vec![];
    put_g1(&mut bytes, points);
    bytes
}

// ------------------------------------------------------------------------------------------------- verifying

/// A ceremony whose every step was checked.
pub struct Verified {
    key: ProvingKey,
    origin: KeyOrigin,
    /// The contributions.
    pub transcript: Transcript,
}

impl Verified {
    /// The circuit's key, of origin "ceremony" unless phase 1 was for development.
    pub fn into_key(self, circuit: Circuit, matrices: ConstraintMatrices) -> CircuitKey {
        let mut hash = [0; 32];
        hash.copy_from_slice(&self.transcript.hash()[..32]);
        CircuitKey {
            circuit,
            identity: matrices.identity(),
            id: KeyId::of(&self.key.vk, self.origin),
            transcript: Some(TranscriptHash(hash)),
            matrices,
            proving_key: self.key,
        }
    }

    /// The verifying key.
    pub fn verifying_key(&self) -> &VerifyingKey {
        &self.key.vk
    }
}

/// Checks a ceremony's file against circuit and phase 1.
///
/// # Errors
/// The first thing that is wrong.
pub fn verify(
    zkey: &Path,
    matrices: &ConstraintMatrices,
    phase1: &Phase1,
) -> Result<Verified, CeremonyError> {
    let file = CeremonyFile::read(zkey)?;
    let initial = Initial::of(matrices, phase1)?;
    check_untouched(&file, matrices, &initial)?;
    let delta = check_contributions(&file.transcript)?;
    let (one_1, one_2) = (G1Affine::generator(), G2Affine::generator());
    if file.delta_g1 != delta || !same_ratio((one_1, delta), (one_2, file.delta_g2)) {
        return Err(CeremonyError::ReplacedDelta);
    }
    let first = &initial.key;
    for (section, before, after) in [
        ("L", &first.l_query, &file.l),
        ("H", &first.h_query, &file.h),
    ] {
        check_query(section, before, after, &file.delta_g2)?;
    }
    let mut key = initial.key;
    key.vk.delta_g2 = file.delta_g2;
    key.delta_g1 = file.delta_g1;
    (key.l_query, key.h_query) = (file.l, file.h);
    let origin = match phase1 {
        Phase1::Ptau(_) => KeyOrigin::Ceremony,
        Phase1::Development => KeyOrigin::InsecureDev,
    };
    Ok(Verified {
        key,
        origin,
        transcript: file.transcript,
    })
}

/// What no contribution may change.
fn check_untouched(
    file: &CeremonyFile,
    matrices: &ConstraintMatrices,
    initial: &Initial,
) -> Result<(), CeremonyError> {
    let other = |what| Err(CeremonyError::OtherCircuit { what });
    let (key, vk) = (&initial.key, &initial.key.vk);
    let counts = [matrices.variables(), matrices.inputs - 1, matrices.domain()];
    if file.counts != counts.map(|count| count as u32) {
        return other("size");
    }
    let singles = (file.alpha_g1, file.beta_g1, file.beta_g2, file.gamma_g2);
    if singles != (vk.alpha_g1, key.beta_g1, vk.beta_g2, vk.gamma_g2) {
        return other("α, β or γ");
    }
    let mut b2 = vec![];
    put_g2(&mut b2, &key.b_g2_query);
    for (id, what, expected) in [
        (3, "IC", g1_bytes(&vk.gamma_abc_g1)),
        (4, "coefficients", crate::circom::coefficients(matrices)),
        (5, "A", g1_bytes(&key.a_query)),
        (6, "B1", g1_bytes(&key.b_g1_query)),
        (7, "B2", b2),
    ] {
        if *file.sections.section(id, None)? != expected {
            return other(what);
        }
    }
    if file.transcript.circuit_hash != initial.hash {
        return other("circuit hash");
    }
    Ok(())
}

/// Follows the chain; δ after it.
fn check_contributions(transcript: &Transcript) -> Result<G1Affine, CeremonyError> {
    if transcript.contributions.is_empty() {
        return Err(CeremonyError::NoContribution);
    }
    let mut delta = G1Affine::generator();
    for (place, step) in transcript.contributions.iter().enumerate() {
        let contribution = place + 1;
        let challenge = challenge(transcript.hasher(place), &step.g1_s, &step.g1_sx);
        if challenge != step.transcript {
            return Err(CeremonyError::BrokenChain { contribution });
        }
        let known = (hash_to_g2(&step.transcript), step.g2_spx);
        if !same_ratio((step.g1_s, step.g1_sx), known) {
            return Err(CeremonyError::NoKnowledge { contribution });
        }
        if !same_ratio((delta, step.delta_after), known) {
            return Err(CeremonyError::WrongDelta { contribution });
        }
        if let Some(beacon) = &step.beacon {
            check_beacon(beacon.stream(), step, contribution)?;
        }
        delta = step.delta_after;
    }
    Ok(delta)
}

fn check_beacon(
    mut stream: ChaCha,
    step: &Contribution,
    contribution: usize,
) -> Result<(), CeremonyError> {
    let (secret, point) = (stream.scalar(), stream.g1());
    if step.g1_s == point && step.g1_sx == (point * secret).into_affine() {
        Ok(())
    } else {
        Err(CeremonyError::WrongBeacon { contribution })
    }
}

/// That each point is the first key's divided by δ, by a random combination of all.
fn check_query(
    section: &'static str,
    before: &[G1Affine],
    after: &[G1Affine],
    delta_g2: &G2Affine,
) -> Result<(), CeremonyError> {
    let random: Vec<Fr> = (0..before.len()).map(|_| Fr::rand(&mut OsRng)).collect();
    let [old, new] =
        [before, after].map(|points| G1Projective::msm_unchecked(points, &random).into_affine());
    let one = G2Affine::generator();
    let nothing = old.is_zero() && new.is_zero();
    if nothing || same_ratio((new, old), (one, *delta_g2)) {
        Ok(())
    } else {
        Err(CeremonyError::WrongQuery { section })
    }
}

/// Whether b = x·a in both groups for one x, all of them finite, the second pair in the group of order r.
pub(crate) fn same_ratio(g1: (G1Affine, G1Affine), g2: (G2Affine, G2Affine)) -> bool {
    let finite = !g1.0.is_zero() && !g1.1.is_zero() && !g2.0.is_zero() && !g2.1.is_zero();
    let in_group = |point: &G2Affine| point.is_in_correct_subgroup_assuming_on_curve();
    finite
        && in_group(&g2.0)
        && in_group(&g2.1)
        && Bn254::multi_pairing([g1.0, -g1.1], [g2.1, g2.0]).is_zero()
}

#[cfg(test)]
mod tests;

//! Contributions: what each party publishes, how they are chained, and the keys that a beacon gives.
//!
//! ```text
//! circuit hash, contributions so far, s, s·x → transcript hash → point of G2 (ChaCha) → times x     proof of knowledge
//! δ before · x → δ after; hash of all of it → next transcript
//! ```
//! Hashes are BLAKE2b-512. Formats and derivations are snarkjs' (a `.zkey`'s section 10), so both programs can contribute
//! to one ceremony and check each other's.

use crate::circom::{CircomError, Cursor, put_g1, put_g2};
use crate::evm::{g1_words, g2_words};
use ark_bn254::{Fq, Fq2, Fr, G1Affine, G2Affine, g1, g2};
use ark_ec::short_weierstrass::{Affine, SWCurveConfig};
use ark_ec::{AffineRepr, CurveGroup};
use ark_ff::{BigInt, Field, PrimeField, Zero};
use blake2::{Blake2b512, Digest};
use sha2::Sha256;

/// A BLAKE2b-512 hash.
pub type Hash = [u8; 64];

/// Contributions that are read at most: a named limit, far above any ceremony's.
pub const MAX_CONTRIBUTIONS: u32 = 4096;
/// Iterations of a beacon's hash, as powers of two.
pub const BEACON_ITERATIONS: std::ops::RangeInclusive<u8> = 10..=30;

/// One party's step.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Contribution {
    /// δ in G1 after it.
    pub delta_after: G1Affine,
    /// A point of the contributor's.
    pub g1_s: G1Affine,
    /// That point times the secret.
    pub g1_sx: G1Affine,
    /// The point that the transcript gives, times the secret.
    pub g2_spx: G2Affine,
    /// Hash of everything before, and of the first two points.
    pub transcript: Hash,
    /// How the contributor calls itself.
    pub name: Option<String>,
    /// Public randomness that the secret comes from, instead of a party.
    pub beacon: Option<Beacon>,
}

/// Public randomness, hashed so often that nobody could try many values in time.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Beacon {
    /// The value.
    pub value: Vec<u8>,
    /// Logarithm of the iterations.
    pub iterations_log2: u8,
}

impl Contribution {
    fn hash_into(&self, hasher: &mut Blake2b512) {
        for point in [&self.delta_after, &self.g1_s, &self.g1_sx] {
            update_g1(hasher, point);
        }
        update_g2(hasher, &self.g2_spx);
        hasher.update(self.transcript);
    }

    /// What the contributor publishes, so that others find the contribution in the final key.
    pub fn hash(&self) -> Hash {
        let mut hasher = Blake2b512::new();
        self.hash_into(&mut hasher);
        hasher.finalize().into()
    }
}

/// Section 10 of a `.zkey`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Transcript {
    /// Hash of the key that the ceremony began with.
    pub circuit_hash: Hash,
    /// In their order.
    pub contributions: Vec<Contribution>,
}

impl Transcript {
    pub(crate) fn read(cursor: &mut Cursor) -> Result<Self, CircomError> {
        let circuit_hash = hash_of(cursor.take(64)?);
        let count = cursor.u32()?;
        if count > MAX_CONTRIBUTIONS {
            return Err(cursor.invalid(format!("{count} contributions are too many")));
        }
        let contributions = (0..count).map(|_| read_contribution(cursor));
        Ok(Self {
            circuit_hash,
            contributions: contributions.collect::<Result<_, _>>()?,
        })
    }

    pub(crate) fn bytes(&self) -> Vec<u8> {
        let mut bytes = self.circuit_hash.to_vec();
        bytes.extend((self.contributions.len() as u32).to_le_bytes());
        for contribution in &self.contributions {
            put_contribution(&mut bytes, contribution);
        }
        bytes
    }

    /// The hasher after so many contributions.
    pub(crate) fn hasher(&self, contributions: usize) -> Blake2b512 {
        let mut hasher = Blake2b512::new_with_prefix(self.circuit_hash);
        for contribution in &self.contributions[..contributions] {
            contribution.hash_into(&mut hasher);
        }
        hasher
    }

    /// Names the whole ceremony.
    pub fn hash(&self) -> Hash {
        self.hasher(self.contributions.len()).finalize().into()
    }
}

/// The transcript hash that a contribution's proof of knowledge is bound to.
pub(crate) fn challenge(mut before: Blake2b512, g1_s: &G1Affine, g1_sx: &G1Affine) -> Hash {
    update_g1(&mut before, g1_s);
    update_g1(&mut before, g1_sx);
    before.finalize().into()
}

pub(crate) fn update_g1(hasher: &mut Blake2b512, point: &G1Affine) {
    g1_words(point).iter().for_each(|word| hasher.update(word));
}

pub(crate) fn update_g2(hasher: &mut Blake2b512, point: &G2Affine) {
    g2_words(point).iter().for_each(|word| hasher.update(word));
}

fn hash_of(bytes: &[u8]) -> Hash {
    let mut hash = [0; 64];
    hash.copy_from_slice(bytes);
    hash
}

fn read_contribution(cursor: &mut Cursor) -> Result<Contribution, CircomError> {
    let (delta_after, g1_s, g1_sx) = (cursor.g1()?, cursor.g1()?, cursor.g1()?);
    let g2_spx = cursor.g2()?;
    let transcript = hash_of(cursor.take(64)?);
    let kind = cursor.u32()?;
    let mut rest = cursor.u32()? as usize;
    let (mut name, mut iterations, mut value) = (None, None, None);
    let mut last = 0;
    while rest > 0 {
        let parameter = cursor.take(1)?[0];
        if parameter <= last || parameter > 3 {
            return Err(cursor.invalid(format!("parameter {parameter} after {last}")));
        }
        last = parameter;
        let number = cursor.take(1)?[0];
        let content = if parameter == 2 {
            &[]
        } else {
            cursor.take(usize::from(number))?
        };
        match parameter {
            1 => name = Some(String::from_utf8_lossy(content).into_owned()),
            2 => iterations = Some(number),
            _ => value = Some(content.to_vec()),
        }
        let used = 2 + content.len();
        rest = rest
            .checked_sub(used)
            .ok_or_else(|| cursor.invalid("a parameter is too long"))?;
    }
    let beacon = match (kind, iterations, value) {
        (0, None, None) => None,
        (1, Some(iterations_log2), Some(value)) if BEACON_ITERATIONS.contains(&iterations_log2) => {
            Some(Beacon {
                value,
                iterations_log2,
            })
        }
        _ => return Err(cursor.invalid(format!("no contribution of kind {kind}"))),
    };
    Ok(Contribution {
        delta_after,
        g1_s,
        g1_sx,
        g2_spx,
        transcript,
        name,
        beacon,
    })
}

fn put_contribution(bytes: &mut Vec<u8>, contribution: &Contribution) {
    let Contribution {
        delta_after,
        g1_s,
        g1_sx,
        g2_spx,
        transcript,
        name,
        beacon,
    } = contribution;
    put_g1(bytes, &[*delta_after, *g1_s, *g1_sx]);
    put_g2(bytes, &[*g2_spx]);
    bytes.extend(transcript);
    bytes.extend(u32::from(beacon.is_some()).to_le_bytes());
    let mut parameters = vec![];
    if let Some(name) = name {
        parameters.extend([1, name.len() as u8]);
        parameters.extend(name.as_bytes());
    }
    if let Some(beacon) = beacon {
        parameters.extend([2, beacon.iterations_log2, 3, beacon.value.len() as u8]);
        parameters.extend(&beacon.value);
    }
    bytes.extend((parameters.len() as u32).to_le_bytes());
    bytes.extend(parameters);
}

// ------------------------------------------------------------------------------------------- randomness from hashes

/// The ChaCha20 stream that snarkjs draws from: words of a block in order, a 64-bit number's high word first.
pub(crate) struct ChaCha {
    state: [u32; 16],
    block: [u32; 16],
    used: usize,
}

impl ChaCha {
    /// From the first 32 bytes of a hash.
    pub(crate) fn of_hash(hash: &[u8]) -> Self {
        let mut state = [0; 16];
        state[..4].copy_from_slice(&[0x6170_7865, 0x3320_646e, 0x7962_2d32, 0x6b20_6574]);
        for (word, bytes) in state[4..12].iter_mut().zip(hash.chunks_exact(4)) {
            *word = bytes
                .iter()
                .fold(0, |sum, byte| (sum << 8) | u32::from(*byte));
        }
        Self {
            state,
            block: [0; 16],
            used: 16,
        }
    }

    fn word(&mut self) -> u32 {
        if self.used == 16 {
            self.refill();
        }
        self.used += 1;
        self.block[self.used - 1]
    }

    fn refill(&mut self) {
        self.block = self.state;
        for _ in 0..10 {
            for [a, b, c, d] in ROUND {
                quarter(&mut self.block, a, b, c, d);
            }
        }
        for (word, state) in self.block.iter_mut().zip(self.state) {
            *word = word.wrapping_add(state);
        }
        self.used = 0;
        for counter in &mut self.state[12..] {
            *counter = counter.wrapping_add(1);
            if *counter != 0 {
                return;
            }
        }
    }

    /// An element whose Montgomery form is drawn, below the modulus by rejection.
    pub(crate) fn field<F: PrimeField<BigInt = BigInt<4>>>(&mut self, of: fn(BigInt<4>) -> F) -> F {
        loop {
            let mut limbs = [0; 4];
            for limb in &mut limbs {
                *limb = u64::from(self.word()) << 32 | u64::from(self.word());
            }
            // Both moduli have 254 bits.
            limbs[3] &= u64::MAX >> 2;
            if BigInt(limbs) < F::MODULUS {
                return of(BigInt(limbs));
            }
        }
    }

    pub(crate) fn scalar(&mut self) -> Fr {
        self.field(Fr::new_unchecked)
    }

    fn coordinate(&mut self) -> Fq {
        self.field(Fq::new_unchecked)
    }

    pub(crate) fn g1(&mut self) -> G1Affine {
        self.point::<g1::Config>(Self::coordinate, is_negative)
    }

    /// A point of the group of order r.
    pub(crate) fn g2(&mut self) -> G2Affine {
        let draw = |stream: &mut Self| {
            let c0 = stream.coordinate();
            Fq2::new(c0, stream.coordinate())
        };
        let sign = |y: &Fq2| is_negative(if y.c1.is_zero() { &y.c0 } else { &y.c1 });
        let point = self.point::<g2::Config>(draw, sign);
        point
            .mul_bigint(<g2::Config as ark_ec::CurveConfig>::COFACTOR)
            .into_affine()
    }

    fn point<C: SWCurveConfig>(
        &mut self,
        draw: impl Fn(&mut Self) -> C::BaseField,
        negative: impl Fn(&C::BaseField) -> bool,
    ) -> Affine<C> {
        loop {
            let x = draw(self);
            let greatest = self.word() & 1 == 1;
            if let Some(y) = (x.square() * x + C::COEFF_B).sqrt() {
                let y = if greatest == negative(&y) { y } else { -y };
                return Affine::new_unchecked(x, y);
            }
        }
    }
}

const ROUND: [[usize; 4]; 8] = [
    [0, 4, 8, 12],
    [1, 5, 9, 13],
    [2, 6, 10, 14],
    [3, 7, 11, 15],
    [0, 5, 10, 15],
    [1, 6, 11, 12],
    [2, 7, 8, 13],
    [3, 4, 9, 14],
];

fn quarter(state: &mut [u32; 16], a: usize, b: usize, c: usize, d: usize) {
    for (x, y, z, bits) in [(a, b, d, 16), (c, d, b, 12), (a, b, d, 8), (c, d, b, 7)] {
        state[x] = state[x].wrapping_add(state[y]);
        state[z] = (state[z] ^ state[x]).rotate_left(bits);
    }
}

/// Above (p − 1)/2.
fn is_negative(value: &Fq) -> bool {
    value.into_bigint() > Fq::MODULUS_MINUS_ONE_DIV_TWO
}

/// The point that a contributor multiplies with the secret to show knowledge of it.
pub(crate) fn hash_to_g2(transcript: &Hash) -> G2Affine {
    ChaCha::of_hash(transcript).g2()
}

impl Beacon {
    /// The stream of secrets that this value gives, after all its iterations of SHA-256.
    pub(crate) fn stream(&self) -> ChaCha {
        let mut hash = self.value.clone();
        for _ in 0..1u64 << self.iterations_log2 {
            hash = Sha256::digest(&hash).to_vec();
        }
        ChaCha::of_hash(&hash)
    }
}

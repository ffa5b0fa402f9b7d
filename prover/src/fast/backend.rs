//! The backend: a key prepared for the kernels, and a proof from an assignment.
//!
//! ```text
//! prepare: proving key → packed points; key in its file → points and matrices where they lie, checked at the first proof
//! prove:   A·z, B·z → quotient on the odd coset → Σ hᵢ·Hᵢ
//!          z → Σ zᵢ·Aᵢ, Σ zᵢ·B1ᵢ, Σ zᵢ·Lᵢ, Σ zᵢ·B2ᵢ (one sorting) → A, B, C, blinded by r and s
//! ```
//! The caller, [`crate::prove::Prover`], verifies each proof before it hands it on.

use super::digits::{Digits, Windows};
use super::kernel::Kernel;
use super::kernel::portable::{Portable, PortableScalars};
use super::msm::{Batch, Multiplier, Points, Sums};
use super::point::{G1Point, G2Point};
use super::quotient::{self, Quotient};
use super::transform::reverse;
use crate::circuit::Assignment;
use crate::groth16::{
    Backend, BackendError, KeyParts, PreparedKey, Split, VerifyingKey, check_length,
};
use crate::key::{KeyFileError, MappedKey};
use crate::matrices::ConstraintMatrices;
use crate::proof::Proof;
use crate::prove::timed;
use ark_bn254::{Fr, G1Affine, G1Projective, G2Affine, G2Projective};
use ark_ec::CurveGroup;
use ark_ff::{PrimeField, UniformRand};
use ark_relations::gr1cs::SynthesisError;
use rand::rngs::OsRng;
use rayon::prelude::*;
use std::sync::{Arc, OnceLock};
use zeroize::Zeroizing;

#[cfg(target_arch = "x86_64")]
use super::kernel::ifma::{Ifma, IfmaG1, IfmaG2, IfmaScalars};

/// The fast backend.
#[derive(Debug, Clone, Copy)]
pub struct Fast(Path);

#[derive(Debug, Clone, Copy)]
enum Path {
    Portable,
    #[cfg(target_arch = "x86_64")]
    Ifma(Ifma),
}

impl Fast {
    /// With the fastest kernel that this processor runs.
    pub fn detect() -> Self {
        #[cfg(target_arch = "x86_64")]
        if let Some(token) = Ifma::detect() {
            return Self(Path::Ifma(token));
        }
        Self::portable()
    }

    /// With the kernel that every processor runs.
    pub fn portable() -> Self {
        Self(Path::Portable)
    }
}

impl Default for Fast {
    fn default() -> Self {
        Self::detect()
    }
}

impl Backend for Fast {
    fn name(&self) -> &'static str {
        match self.0 {
            Path::Portable => "fast-portable",
            #[cfg(target_arch = "x86_64")]
            Path::Ifma(_) => "fast",
        }
    }

    /// # Panics
    /// If the key's parts are not of one circuit.
    fn prepare_parts(&self, key: Arc<dyn KeyParts>) -> Box<dyn PreparedKey> {
        let points = key.proving_key();
        let singles = Singles::of(&points.vk, points.beta_g1, points.delta_g1);
        let parts = self.parts(Source::Whole(key.clone()), Queries::of(&*key));
        self.boxed(singles, Supply::Ready(parts))
    }

    fn prepare_mapped(&self, key: Arc<MappedKey>) -> Result<Box<dyn PreparedKey>, KeyFileError> {
        let [beta_g1, delta_g1] = key.blinding_points();
        let singles = Singles::of(key.verifying_key(), beta_g1, delta_g1);
        let supply = Supply::File {
            fast: *self,
            key,
            parts: OnceLock::new(),
        };
        Ok(self.boxed(singles, supply))
    }
}

impl Fast {
    fn boxed(&self, singles: Singles, supply: Supply) -> Box<dyn PreparedKey> {
        match self.0 {
            Path::Portable => Box::new(FastKey {
                singles,
                supply,
                g1: Portable::<G1Point>::new(),
                g2: Portable::<G2Point>::new(),
            }),
            #[cfg(target_arch = "x86_64")]
            Path::Ifma(token) => Box::new(FastKey {
                singles,
                supply,
                g1: IfmaG1(token),
                g2: IfmaG2(token),
            }),
        }
    }

    fn parts(&self, source: Source, queries: Queries) -> Parts {
        let size = source.matrices().domain();
        let quotient = match self.0 {
            Path::Portable => quotient::prepare(PortableScalars, size),
            #[cfg(target_arch = "x86_64")]
            Path::Ifma(token) => quotient::prepare(IfmaScalars(token), size),
        };
        Parts {
            source,
            queries,
            quotient: quotient.ok(),
        }
    }

    /// Checks a mapped key and makes it ready.
    fn load(&self, key: &Arc<MappedKey>) -> Result<Parts, Arc<KeyFileError>> {
        key.matrices()?;
        let [a, b1, l, h] = key.points_g1().map(|slice| Points::packed(slice.into()));
        let b2 = Points::packed(key.points_g2().into());
        let queries = Queries { a, b1, b2, l, h };
        Ok(self.parts(Source::Mapped(key.clone()), queries))
    }
}

/// A proving key's points.
struct Queries {
    a: Points<G1Point>,
    b1: Points<G1Point>,
    b2: Points<G2Point>,
    l: Points<G1Point>,
    /// In bit-reversed order.
    h: Points<G1Point>,
}

impl Queries {
    fn of(key: &dyn KeyParts) -> Self {
        let size = key.matrices().domain();
        let key = key.proving_key();
        let bits = size.trailing_zeros();
        let quotient: Vec<_> = (0..size).map(|i| key.h_query[reverse(i, bits)]).collect();
        Self {
            a: Points::of(&key.a_query),
            b1: Points::of(&key.b_g1_query),
            b2: Points::of(&key.b_g2_query),
            l: Points::of(&key.l_query),
            h: Points::of(&quotient),
        }
    }
}

/// The points that every proof uses once.
struct Singles {
    alpha_g1: G1Affine,
    beta_g1: G1Affine,
    beta_g2: G2Affine,
    delta_g1: G1Affine,
    delta_g2: G2Affine,
}

impl Singles {
    fn of(key: &VerifyingKey, beta_g1: G1Affine, delta_g1: G1Affine) -> Self {
        Self {
            alpha_g1: key.alpha_g1,
            beta_g1,
            beta_g2: key.beta_g2,
            delta_g1,
            delta_g2: key.delta_g2,
        }
    }
}

/// Where the constraints lie.
enum Source {
    Whole(Arc<dyn KeyParts>),
    Mapped(Arc<MappedKey>),
}

impl Source {
    fn matrices(&self) -> &ConstraintMatrices {
        match self {
            Self::Whole(key) => key.matrices(),
            Self::Mapped(key) => key.matrices().expect("checked before it became a source"),
        }
    }
}

/// All that proofs are made from.
struct Parts {
    source: Source,
    queries: Queries,
    /// Nothing for a circuit beyond the scalar field's domains.
    quotient: Option<Box<dyn Quotient>>,
}

/// Parts at hand, or a file that gives them at the first proof.
enum Supply {
    Ready(Parts),
    File {
        fast: Fast,
        key: Arc<MappedKey>,
        parts: OnceLock<Result<Parts, Arc<KeyFileError>>>,
    },
}

impl Supply {
    fn parts(&self) -> Result<&Parts, Arc<KeyFileError>> {
        match self {
            Self::Ready(parts) => Ok(parts),
            Self::File { fast, key, parts } => {
                let loaded = parts.get_or_init(|| fast.load(key));
                loaded.as_ref().map_err(Arc::clone)
            }
        }
    }
}

struct FastKey<K1, K2> {
    singles: Singles,
    supply: Supply,
    g1: K1,
    g2: K2,
}

impl<K1, K2> PreparedKey for FastKey<K1, K2>
where
    K1: Kernel<Point = G1Point>,
    K2: Kernel<Point = G2Point>,
{
    fn prove(&self, assignment: &Assignment) -> Result<Proof, BackendError> {
        Ok(self.prove_split(assignment)?.0)
    }

    fn prove_split(&self, assignment: &Assignment) -> Result<(Proof, Split), BackendError> {
        let parts = self.supply.parts()?;
        let matrices = parts.source.matrices();
        check_length(matrices, assignment)?;
        let quotient = parts.quotient.as_ref();
        let quotient = quotient.ok_or(SynthesisError::PolynomialDegreeTooLarge)?;
        let (scalars, ntt_s) = timed(|| quotient.scalars(matrices, assignment.values()));
        let ((sums, bytes), msm_s) = timed(|| self.sums(&parts.queries, assignment, scalars));
        // Threads share the work of both groups: each group gets its part of the time.
        let [g1, g2] = [0, 1].map(|group| sums.iter().map(|sum| sum.seconds[group]).sum::<f64>());
        let split = Split {
            ntt_s,
            msm_g1_s: msm_s * g1 / (g1 + g2),
            msm_g2_s: msm_s * g2 / (g1 + g2),
            scratch_bytes: quotient.scratch_bytes().max(bytes) as u64,
        };
        Ok((self.assemble(&sums), split))
    }
}

impl<K1, K2> FastKey<K1, K2>
where
    K1: Kernel<Point = G1Point>,
    K2: Kernel<Point = G2Point>,
{
    /// The sums over the public inputs (A, B1; B2), the witness (A, B1, L; B2) and the quotient (H), and the bytes that
    /// they took.
    fn sums(
        &self,
        queries: &Queries,
        assignment: &Assignment,
        scalars: Zeroizing<Vec<[u64; 4]>>,
    ) -> ([Sums; 3], usize) {
        let inputs = assignment.inputs();
        let values = assignment.values();
        let Queries { a, b1, b2, l, h } = queries;
        let windows = Windows::for_scalars(scalars.len());
        let quotient = Digits::of(windows, scalars.iter().copied());
        // The digits are all that is needed: one list less while the sums take memory.
        drop(scalars);
        let [public, private] = [&values[..inputs], &values[inputs..]].map(digits);
        let batches = [
            Batch {
                digits: &public,
                g1: vec![a.part(..inputs), b1.part(..inputs)],
                g2: vec![b2.part(..inputs)],
            },
            Batch {
                digits: &private,
                g1: vec![a.part(inputs..), b1.part(inputs..), l.part(..)],
                g2: vec![b2.part(inputs..)],
            },
            Batch {
                digits: &quotient,
                g1: vec![h.part(..)],
                g2: vec![],
            },
        ];
        let multiplier = Multiplier::new(self.g1, self.g2);
        let sums = multiplier.multiply(&batches);
        let digits = public.bytes() + private.bytes() + quotient.bytes();
        let sums = sums.try_into().expect("as many sums as batches");
        (sums, digits + multiplier.scratch_bytes())
    }

    /// A = α + Σ + r·δ, B = β + Σ + s·δ, C = L + H + s·A + r·B1 − rs·δ.
    fn assemble(&self, [public, private, quotient]: &[Sums; 3]) -> Proof {
        let key = &self.singles;
        let blinding = Zeroizing::new([Fr::rand(&mut OsRng), Fr::rand(&mut OsRng)]);
        let [r, s] = *blinding;
        let a: G1Projective = public.g1[0] + private.g1[0] + key.alpha_g1 + key.delta_g1 * r;
        let b1: G1Projective = public.g1[1] + private.g1[1] + key.beta_g1 + key.delta_g1 * s;
        let b2: G2Projective = public.g2[0] + private.g2[0] + key.beta_g2 + key.delta_g2 * s;
        let c = private.g1[2] + quotient.g1[0] + a * s + b1 * r - key.delta_g1 * (r * s);
        Proof {
            a: a.into_affine(),
            b: b2.into_affine(),
            c: c.into_affine(),
        }
    }
}

fn digits(values: &[Fr]) -> Digits {
    let scalars: Zeroizing<Vec<[u64; 4]>> = Zeroizing::new(
        values
            .par_iter()
            .map(|value| value.into_bigint().0)
            .collect(),
    );
    Digits::of(Windows::for_scalars(values.len()), scalars.iter().copied())
}

#[cfg(test)]
mod tests;

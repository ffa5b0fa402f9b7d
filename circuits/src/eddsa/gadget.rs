//! The signature as constraints: `S·Base8 = R8 + h·(8·A)` with `h = Poseidon5(R8, A, M)`.
//!
//! ```text
//! key → on the curve → 8·A by three complete doublings → Q = −8·A in Montgomery form (impossible for the identity)
//! h   → 254 canonical bits → ladder: (h | 1)·Q → minus Q if h is even ─┐
//! S   → 251 canonical bits → windows of Base8 ─────────────────────────┴→ complete sum = R8
//! ```
//!
//! # Constraint budget
//! | part | constraints |
//! |---|---|
//! | Poseidon of 5 words | 321 |
//! | A on the curve, 8·A, Montgomery forms of Q and Q + T | 3 + 15 + 4 |
//! | h: 254 bits, their sum, below r | 254 + 1 + 58 |
//! | S: 251 bits, below l | 251 + 57 |
//! | ladder: 253 steps of 6 | 1518 |
//! | windows of Base8: 83 of 3 bits, top 2 bits | 166 + 246 + 1 |
//! | conversions, parity of h, three complete sums | 4 + 2 + 18 |
//! | **together, without Poseidon** | **2598** |
//!
//! # Soundness
//! **Subgroup.** The curve's group is cyclic of order 8·l. A is on the curve, so Q = −8·A has order l or is the identity, and
//! the identity has no Montgomery form.
//!
//! **Ladder.** A step computes P' = 2P + δ·(Q + U) for δ = ±1, where U alternates between the identity and T, the point
//! of order 2. P starts as Q + T, so every P is m·Q + V with V ≠ U in {identity, T}: T where U is the identity and the
//! identity where U = T. Hence P ≠ ±(Q + U) for *every* m, because their difference and their sum have a nonzero part of
//! order 2, and the first slope never divides zero by zero. The second divides by u(P) − u(P + δ(Q + U)), which vanishes only if
//! δ(Q + U) or 2P + δ(Q + U) is the identity: the first is not, and in the second case `0 = 2·v(P)` has no solution,
//! because v(P) = 0 only for P = T and 2T is the identity while Q + U is not. For P = T itself both slopes are defined.
//! No assumption about h or A is used. An honest prover fails only if an odd prefix of h at an even
//! bit is a multiple of l, with probability about 2^-249.
//!
//! **Windows.** With β = ±1 for each bit of S, window j adds (β0 + 2β1 + 4β2)·8^j·H, H = Base8/2, to an odd multiple of
//! H smaller than 8^j. Both the sum and the difference are odd·8^j-separated integers below 8^83 < l in size and not
//! zero, so the points are neither equal nor opposite. Bits 249 and 250 could wrap around l and are added by the
//! complete law.
//!
//! **Scalars.** Both are decomposed to canonical bits, so h has one value and S ≥ l is refused.
//!
//! **R8** needs no check of its own: it equals a complete sum of points on the curve, and is in the subgroup.

use std::sync::LazyLock;

use ark_bn254::Fr;
use ark_ec::twisted_edwards::TECurveConfig;
use ark_ec::{AffineRepr, CurveGroup};
use ark_ff::{AdditiveGroup, BigInteger, Field, PrimeField};
use ark_r1cs_std::boolean::Boolean;
use ark_r1cs_std::fields::fp::FpVar;
use ark_relations::gr1cs::{ConstraintSystemRef, SynthesisError};
use ark_relations::ns;

use super::Signature;
use crate::babyjubjub::gadget::{MontgomeryVar, PointVar, StepHint, divide_all, montgomery_all};
use crate::babyjubjub::{BabyJubjub, ExtendedPoint, Point, Scalar};
use crate::linear::{Linear, product, quotient, witness};
use crate::{bits, linear, poseidon};

/// Bits of S: the subgroup order l has 251.
pub const SCALAR_BITS: usize = 251;

/// The key, two wires of any value, signed the message: `signature` verifies.
///
/// A key that is no point or has low order, and a signature that does not verify, make the system unsatisfiable. The
/// wires of R8 and S are allocated here and never leave.
///
/// # Errors
/// Only what the constraint system itself reports.
pub fn enforce_signature(
    cs: &ConstraintSystemRef<Fr>,
    key: &[FpVar<Fr>; 2],
    signature: &Signature,
    message: &FpVar<Fr>,
) -> Result<(), SynthesisError> {
    let [x, y] = key;
    let a = PointVar {
        x: x.into(),
        y: y.into(),
    };
    let r8 = PointVar {
        x: witness(cs, Some(signature.r8.x))?,
        y: witness(cs, Some(signature.r8.y))?,
    };
    let s = scalar_bits(cs, signature.s)?;
    verify(cs, &a, &r8, &s, message)
}

/// The bits of S as witnesses, little-endian, canonical: S < l.
///
/// # Errors
/// Only what the constraint system itself reports.
pub fn scalar_bits(
    cs: &ConstraintSystemRef<Fr>,
    s: Fr,
) -> Result<Vec<Boolean<Fr>>, SynthesisError> {
    let namespace = ns!(cs, "S is below the subgroup order");
    let cs = namespace.cs();
    let value = s.into_bigint();
    let bits = (0..SCALAR_BITS)
        .map(|i| linear::bit(&cs, Some(value.get_bit(i))))
        .collect::<Result<Vec<_>, _>>()?;
    bits::enforce_less_than(&cs, &bits, &Scalar::MODULUS.to_bits_le())?;
    Ok(bits)
}

/// `S·Base8 = R8 + h·(8·A)`, for the canonical bits of S that [`scalar_bits`] made.
///
/// # Errors
/// Only what the constraint system itself reports.
///
/// # Panics
/// If `s` has not [`SCALAR_BITS`] bits.
pub fn verify(
    cs: &ConstraintSystemRef<Fr>,
    a: &PointVar,
    r8: &PointVar,
    s: &[Boolean<Fr>],
    message: &FpVar<Fr>,
) -> Result<(), SynthesisError> {
    assert_eq!(
        s.len(),
        SCALAR_BITS,
        "S has a bit for each of the subgroup order's"
    );
    let challenge = challenge(cs, a, r8, message)?;
    {
        let namespace = ns!(cs, "the key is on the curve");
        a.enforce_on_curve(&namespace.cs())?;
    }
    let q = minus_eight_times(cs, a)?;
    let product = multiply(cs, &q, &challenge)?;
    let (low, high) = multiply_base(cs, s)?;
    let namespace = ns!(cs, "S·Base8 = R8 + h·8A");
    let cs = namespace.cs();
    low.add(&high, &cs)?.enforce_sum(&product, r8, &cs)
}

/// The canonical bits of h.
fn challenge(
    cs: &ConstraintSystemRef<Fr>,
    a: &PointVar,
    r8: &PointVar,
    message: &FpVar<Fr>,
) -> Result<Vec<Boolean<Fr>>, SynthesisError> {
    let namespace = ns!(cs, "signature challenge");
    let cs = namespace.cs();
    let [rx, ry, ax, ay] = [&r8.x, &r8.y, &a.x, &a.y].map(|wire| wire.to_fp_var(&cs));
    let h = poseidon::gadget::hash(&[rx?, ry?, ax?, ay?, message.clone()])?;
    bits::to_bits_strict(&h)
}

/// Q = −8·A.
fn minus_eight_times(
    cs: &ConstraintSystemRef<Fr>,
    a: &PointVar,
) -> Result<PointVar, SynthesisError> {
    let namespace = ns!(cs, "eight times the key");
    let cs = namespace.cs();
    Ok(a.double(&cs)?.double(&cs)?.double(&cs)?.negated())
}

/// h·Q for a point Q of the prime-order subgroup, which is thereby not the identity.
pub(super) fn multiply(
    cs: &ConstraintSystemRef<Fr>,
    q: &PointVar,
    h: &[Boolean<Fr>],
) -> Result<PointVar, SynthesisError> {
    let addends = {
        let namespace = ns!(cs, "8A is not the identity");
        Addends::new(&namespace.cs(), q)?
    };
    let namespace = ns!(cs, "h·8A");
    let cs = namespace.cs();
    let hints = ladder_hints(q.value(), h);
    let mut p = addends.shifted.clone();
    for (step, bit) in h[1..].iter().rev().enumerate() {
        // U is the identity in even steps and T in odd ones.
        let addend = if step % 2 == 0 {
            &addends.plain
        } else {
            &addends.shifted
        };
        let v = product(&cs, &sign(bit), &addend.v)?;
        let addend = MontgomeryVar {
            u: addend.u.clone(),
            v,
        };
        p = p.double_and_add(&addend, hints.as_ref().map(|hints| hints[step]), &cs)?;
    }
    // The number of steps is odd, so the last U was the identity and p = (h | 1)·Q.
    let odd = p.to_edwards(&cs)?;
    let even = Linear::constant(Fr::ONE).minus(&(&h[0]).into());
    let x = product(&cs, &even, &q.x.negated())?;
    let y = product(&cs, &even, &q.y.plus_constant(-Fr::ONE))?.plus_constant(Fr::ONE);
    odd.add(&PointVar { x, y }, &cs)
}

/// 2·bit − 1.
fn sign(bit: &Boolean<Fr>) -> Linear {
    Linear::from(bit)
        .times(Fr::from(2u64))
        .plus_constant(-Fr::ONE)
}

/// What the ladder adds: Q, and Q + T.
struct Addends {
    plain: MontgomeryVar,
    shifted: MontgomeryVar,
}

impl Addends {
    fn new(cs: &ConstraintSystemRef<Fr>, q: &PointVar) -> Result<Self, SynthesisError> {
        let plain = MontgomeryVar::from_edwards(q, cs)?;
        // T = (0, −1), so Q + T = (−x, −y): u becomes 1/u and v = u/x becomes −(1/u)/x. u and x are not zero.
        let u = quotient(cs, &Linear::constant(Fr::ONE), &plain.u)?;
        let v = quotient(cs, &u.negated(), &q.x)?;
        Ok(Self {
            plain,
            shifted: MontgomeryVar { u, v },
        })
    }
}

/// The ladder's witness, with a handful of inversions for all steps.
fn ladder_hints(q: Option<Point>, h: &[Boolean<Fr>]) -> Option<Vec<StepHint>> {
    use ark_r1cs_std::GR1CSVar;
    let q = q?;
    let digits: Vec<bool> = h[1..]
        .iter()
        .rev()
        .map(|bit| bit.value().ok())
        .collect::<Option<_>>()?;
    let shifted = Point::new_unchecked(-q.x, -q.y);
    let mut p = shifted.into_group();
    let mut points: Vec<ExtendedPoint> = vec![q.into_group(), p];
    for (step, digit) in digits.iter().enumerate() {
        let addend = if step % 2 == 0 { q } else { shifted };
        let sum = p + if *digit { addend } else { -addend };
        p += sum;
        points.extend([sum, p]);
    }
    let points = montgomery_all(&points);
    let addends = [points[0], points[1]];
    let steps: Vec<_> = digits
        .iter()
        .enumerate()
        .map(|(step, digit)| {
            let (u, v) = addends[step % 2];
            let [before, sum, after] = [
                points[2 * step + 1],
                points[2 * step + 2],
                points[2 * step + 3],
            ];
            (before, (u, if *digit { v } else { -v }), sum, after)
        })
        .collect();
    let first = divide_all(
        &steps
            .iter()
            .map(|(p, addend, ..)| p.1 - addend.1)
            .collect::<Vec<_>>(),
        steps.iter().map(|(p, addend, ..)| p.0 - addend.0).collect(),
    );
    let second = divide_all(
        &steps.iter().map(|(p, ..)| p.1.double()).collect::<Vec<_>>(),
        steps.iter().map(|(p, _, sum, _)| p.0 - sum.0).collect(),
    );
    let hints =
        steps
            .iter()
            .zip(first)
            .zip(second)
            .map(|(((_, _, sum, after), lambda1), slopes)| StepHint {
                lambda1,
                u_sum: sum.0,
                lambda2: slopes - lambda1,
                u: after.0,
                v: after.1,
            });
    Some(hints.collect())
}

/// Number of 3-bit windows added in Montgomery form.
const WINDOWS: usize = 83;

/// Constants of one window: the multiples of 8^j·H by β0 + 2β1 + 4β2 as polynomials in β.
///
/// u is even in β: u = k0 + k1·β0β2 + k2·β1β2 + k3·β0β1, which factors as (k3β0 + k2β2)(β1 + k1/k3·β2) up to constants,
/// as β² = 1. v is odd: v = m0β2 + m1β0 + m2β1 + m3·β0β1β2, and its cubic part is m3/k3·(u·β2) up to linear terms.
struct Window {
    k: [Fr; 4],
    m: [Fr; 4],
    /// k1/k3.
    k1_over_k3: Fr,
    /// m3/k3.
    m3_over_k3: Fr,
    /// Montgomery coordinates of 1, 3, 5 and 7 times 8^j·H.
    odd: [(Fr, Fr); 4],
}

/// Everything constant about multiplying Base8.
struct BaseTable {
    windows: Vec<Window>,
    /// Edwards coordinates of (b249·2^249 + b250·2^250)·Base8 + (2^249 − 1)·H, by b249 + 2·b250.
    top: [Point; 4],
}

static BASE: LazyLock<BaseTable> = LazyLock::new(BaseTable::generate);

impl BaseTable {
    fn generate() -> Self {
        let base8 = BabyJubjub::GENERATOR;
        let half = base8 * Scalar::from(2u64).inverse().expect("l is odd");
        let multiples: Vec<[ExtendedPoint; 4]> =
            std::iter::successors(Some(half), |p| Some(p.double().double().double()))
                .take(WINDOWS)
                .map(|p| {
                    [
                        p,
                        p + p.double(),
                        p + p.double().double(),
                        p.double().double().double() - p,
                    ]
                })
                .collect();
        let coordinates = montgomery_all(&multiples.concat());
        let windows = coordinates
            .chunks_exact(4)
            .map(|four| Window::new([four[0], four[1], four[2], four[3]]))
            .collect();
        let two_249 = Scalar::from(2u64).pow([249]);
        let offset = half * (two_249 - Scalar::ONE);
        let top = [0u64, 1, 2, 3]
            .map(|bits| (offset + base8 * (two_249 * Scalar::from(bits))).into_affine());
        Self { windows, top }
    }
}

impl Window {
    /// From the Montgomery coordinates of the multiples 1, 3, 5, 7, which are β0 + 2β1 + 4 for (β0, β1) = (−,−), (+,−),
    /// (−,+), (+,+).
    fn new(odd: [(Fr, Fr); 4]) -> Self {
        let quarter = Fr::from(4u64).inverse().expect("4 is not zero");
        // Walsh transform in (q, r) = (β0β2, β1β2): coefficients of 1, q, r, qr.
        let transform = |[mm, pm, mp, pp]: [Fr; 4]| {
            [
                mm + pm + mp + pp,
                pm + pp - mm - mp,
                mp + pp - mm - pm,
                mm + pp - pm - mp,
            ]
            .map(|sum| sum * quarter)
        };
        let k = transform(odd.map(|point| point.0));
        let m = transform(odd.map(|point| point.1));
        let k3_inverse = k[3]
            .inverse()
            .expect("the windows of Base8 have been checked to have no zero here");
        Self {
            k,
            m,
            k1_over_k3: k[1] * k3_inverse,
            m3_over_k3: m[3] * k3_inverse,
            odd,
        }
    }

    /// The point that three bits choose: two constraints.
    fn look_up(
        &self,
        cs: &ConstraintSystemRef<Fr>,
        bits: &[Boolean<Fr>],
    ) -> Result<MontgomeryVar, SynthesisError> {
        let [b0, b1, b2] = [&bits[0], &bits[1], &bits[2]].map(sign);
        let Self {
            k,
            m,
            k1_over_k3,
            m3_over_k3,
            ..
        } = self;
        let left = Linear::sum([(k[3], &b0), (k[2], &b2)]);
        let right = Linear::sum([(Fr::ONE, &b1), (*k1_over_k3, &b2)]);
        let u = product(cs, &left, &right)?.plus_constant(k[0] - *k1_over_k3 * k[2]);
        let cubic = product(cs, &b2.times(*m3_over_k3), &u)?;
        let v = Linear::sum([
            (Fr::ONE, &cubic),
            (m[0] - *m3_over_k3 * k[0], &b2),
            (m[1] - *m3_over_k3 * k[1], &b0),
            (m[2] - *m3_over_k3 * k[2], &b1),
        ]);
        Ok(MontgomeryVar { u, v })
    }
}

/// S·Base8 as the sum of two points, both on the curve.
pub(super) fn multiply_base(
    cs: &ConstraintSystemRef<Fr>,
    s: &[Boolean<Fr>],
) -> Result<(PointVar, PointVar), SynthesisError> {
    let namespace = ns!(cs, "S·Base8");
    let cs = namespace.cs();
    let table = &*BASE;
    let hints = window_hints(s);
    let mut sum = table.windows[0].look_up(&cs, &s[..3])?;
    for j in 1..WINDOWS {
        let addend = table.windows[j].look_up(&cs, &s[3 * j..3 * j + 3])?;
        sum = sum.add(&addend, hints.as_ref().map(|hints| hints[j - 1]), &cs)?;
    }
    Ok((
        sum.to_edwards(&cs)?,
        top_window(&cs, &table.top, &s[3 * WINDOWS..])?,
    ))
}

/// One of four constant points by two bits: one constraint.
fn top_window(
    cs: &ConstraintSystemRef<Fr>,
    points: &[Point; 4],
    bits: &[Boolean<Fr>],
) -> Result<PointVar, SynthesisError> {
    let (b0, b1) = (Linear::from(&bits[0]), Linear::from(&bits[1]));
    let both = product(cs, &b0, &b1)?;
    let choose = |[p0, p1, p2, p3]: [Fr; 4]| {
        Linear::sum([(p1 - p0, &b0), (p2 - p0, &b1), (p3 - p2 - p1 + p0, &both)]).plus_constant(p0)
    };
    Ok(PointVar {
        x: choose(points.map(|p| p.x)),
        y: choose(points.map(|p| p.y)),
    })
}

/// Slope and coordinates of each running sum of windows, with two inversions for all.
fn window_hints(s: &[Boolean<Fr>]) -> Option<Vec<(Fr, Fr, Fr)>> {
    use ark_r1cs_std::GR1CSVar;
    let bits: Vec<bool> = s
        .iter()
        .map(|bit| bit.value().ok())
        .collect::<Option<_>>()?;
    let chosen: Vec<(Fr, Fr)> = (0..WINDOWS)
        .map(|j| {
            let negative = !bits[3 * j + 2];
            let index =
                usize::from(bits[3 * j] ^ negative) + 2 * usize::from(bits[3 * j + 1] ^ negative);
            let (u, v) = BASE.windows[j].odd[index];
            (u, if negative { -v } else { v })
        })
        .collect();
    // The running sum is as long as a chain of additions; each needs the one before, so it runs in Edwards form.
    let mut sums = Vec::with_capacity(WINDOWS);
    let mut sum = ExtendedPoint::ZERO;
    for point in edwards_all(&chosen) {
        sum += point;
        sums.push(sum);
    }
    let sums = montgomery_all(&sums);
    let slopes = divide_all(
        &(1..WINDOWS)
            .map(|j| chosen[j].1 - sums[j - 1].1)
            .collect::<Vec<_>>(),
        (1..WINDOWS).map(|j| chosen[j].0 - sums[j - 1].0).collect(),
    );
    Some(
        slopes
            .into_iter()
            .zip(&sums[1..])
            .map(|(slope, sum)| (slope, sum.0, sum.1))
            .collect(),
    )
}

/// Twisted Edwards forms of Montgomery points, with one inversion: x = u/v, y = (u − 1)/(u + 1).
fn edwards_all(points: &[(Fr, Fr)]) -> Vec<Point> {
    let mut inverses: Vec<Fr> = points.iter().map(|(u, v)| *v * (*u + Fr::ONE)).collect();
    ark_ff::batch_inversion(&mut inverses);
    let convert = |((u, v), inverse): (&(Fr, Fr), Fr)| {
        Point::new_unchecked(*u * (*u + Fr::ONE) * inverse, (*u - Fr::ONE) * *v * inverse)
    };
    points.iter().zip(inverses).map(convert).collect()
}

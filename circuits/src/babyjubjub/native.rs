//! Fast arithmetic on the curve, for wallets and for a sequencer that checks thousands of signatures a second.
//!
//! ```text
//! (x, y) → (c·x, y) with c² = −168700: the same curve with a = −1, the cheapest complete addition law
//! multiply_base          Base8 by 64 signed 4-bit digits from a table: 64 additions
//! base_minus_multiple    S·Base8 − h·(8·A): one chain of doublings for both, sparse signed digits
//! ```
//!
//! The law is complete here too: −1 is a square and d' = −168696/168700 is not, so no case is exceptional.
//!
//! Verification is variable-time in public data. [`multiply_base`], which sees secrets, reads every table entry for
//! each digit; the field arithmetic below it makes no promise about time.

use std::sync::LazyLock;

use ark_bn254::Fr;
use ark_ec::twisted_edwards::TECurveConfig;
use ark_ff::{AdditiveGroup, Field, MontFp, PrimeField};

use super::{BabyJubjub, Point, Scalar};

/// c: c² = −168700.
const SCALE: Fr =
    MontFp!("6360561867910373094066688120553762416144456282423235903351243436111059670888");
/// 2·d', d' = −168696/168700.
const TWICE_D: Fr =
    MontFp!("2475045175004185027501911298141836274980133961483913877536377848625489762075");

/// A point with a = −1 in extended coordinates: x = X/Z, y = Y/Z, x·y = T/Z.
#[derive(Clone, Copy)]
struct Extended {
    x: Fr,
    y: Fr,
    z: Fr,
    t: Fr,
}

/// A point prepared for being added: (Y − X, Y + X, 2Z, 2d'·T).
#[derive(Clone, Copy)]
struct Cached {
    minus: Fr,
    plus: Fr,
    twice_z: Fr,
    twice_dt: Fr,
}

impl Extended {
    const IDENTITY: Self = Self {
        x: Fr::ZERO,
        y: Fr::ONE,
        z: Fr::ONE,
        t: Fr::ZERO,
    };

    fn from_affine(point: &Point) -> Self {
        let x = point.x * SCALE;
        Self {
            x,
            y: point.y,
            z: Fr::ONE,
            t: x * point.y,
        }
    }

    fn to_affine(self) -> Point {
        let inverse = self.z.inverse().expect("a complete law never gives Z = 0");
        let unscaled = SCALE.inverse().expect("c is not zero");
        Point::new_unchecked(self.x * inverse * unscaled, self.y * inverse)
    }

    fn cached(&self) -> Cached {
        Cached {
            minus: self.y - self.x,
            plus: self.y + self.x,
            twice_z: self.z.double(),
            twice_dt: self.t * TWICE_D,
        }
    }

    fn double(&self) -> Self {
        let xx = self.x.square();
        let yy = self.y.square();
        let e = (self.x + self.y).square() - xx - yy;
        let g = yy - xx;
        let f = g - self.z.square().double();
        let h = -(xx + yy);
        Self {
            x: e * f,
            y: g * h,
            z: f * g,
            t: e * h,
        }
    }

    fn add(&self, other: &Cached) -> Self {
        let a = (self.y - self.x) * other.minus;
        let b = (self.y + self.x) * other.plus;
        let c = self.t * other.twice_dt;
        let d = self.z * other.twice_z;
        let (e, f, g, h) = (b - a, d - c, d + c, b + a);
        Self {
            x: e * f,
            y: g * h,
            z: f * g,
            t: e * h,
        }
    }

    fn is_identity(&self) -> bool {
        self.x == Fr::ZERO && self.y == self.z
    }
}

impl Cached {
    const IDENTITY: Self = Self {
        minus: Fr::ONE,
        plus: Fr::ONE,
        twice_z: Fr::ONE,
        twice_dt: Fr::ZERO,
    };

    fn negated(&self) -> Self {
        Self {
            minus: self.plus,
            plus: self.minus,
            twice_z: self.twice_z,
            twice_dt: -self.twice_dt,
        }
    }
}

/// 8·A for a point A on the curve, known not to be the identity.
pub struct EightTimes(Extended);

impl EightTimes {
    /// 8·A, or nothing if A has low order.
    pub fn of(point: &Point) -> Option<Self> {
        let product = Extended::from_affine(point).double().double().double();
        (!product.is_identity()).then_some(Self(product))
    }
}

/// S·Base8 − h·(8·A) = R, without an inversion. R may be any two words.
pub fn base_minus_multiple_is(s: &Scalar, h: &Scalar, a8: &EightTimes, r: &Point) -> bool {
    let base_digits = signed_digits(s, BASE_WIDTH);
    let key_digits = signed_digits(h, KEY_WIDTH);
    let table = odd_multiples::<{ 1 << (KEY_WIDTH - 2) }>(&a8.0);
    let mut sum = Extended::IDENTITY;
    for i in (0..base_digits.len()).rev() {
        sum = sum.double();
        if let Some(addend) = pick(&*BASE_ODD, base_digits[i]) {
            sum = sum.add(&addend);
        }
        if let Some(addend) = pick(&table, -key_digits[i]) {
            sum = sum.add(&addend);
        }
    }
    sum.x == r.x * SCALE * sum.z && sum.y == r.y * sum.z
}

/// Width of the signed digits of the key's multiple: 8 odd multiples, made for each signature.
const KEY_WIDTH: usize = 5;
/// Width of the signed digits of S: 64 odd multiples, made once.
const BASE_WIDTH: usize = 8;

static BASE_ODD: LazyLock<[Cached; 1 << (BASE_WIDTH - 2)]> =
    LazyLock::new(|| odd_multiples(&Extended::from_affine(&BabyJubjub::GENERATOR)));

/// 1, 3, 5, … times the point.
fn odd_multiples<const N: usize>(point: &Extended) -> [Cached; N] {
    let twice = point.double().cached();
    let mut current = *point;
    std::array::from_fn(|i| {
        if i > 0 {
            current = current.add(&twice);
        }
        current.cached()
    })
}

fn pick(table: &[Cached], digit: i16) -> Option<Cached> {
    let entry = table.get(usize::from(digit.unsigned_abs()) / 2)?;
    match digit {
        0 => None,
        1.. => Some(*entry),
        _ => Some(entry.negated()),
    }
}

/// Non-adjacent form: digits are 0 or odd and below 2^(width−1) in size, and of any `width` neighbours one is not 0.
fn signed_digits(scalar: &Scalar, width: usize) -> [i16; 256] {
    let mut limbs = scalar.into_bigint().0;
    let mut digits = [0; 256];
    let mut position = 0;
    while limbs != [0; 4] {
        if limbs[0] & 1 == 1 {
            let window = (limbs[0] & ((1 << width) - 1)) as i16;
            let digit = if window >> (width - 1) == 1 {
                window - (1 << width)
            } else {
                window
            };
            digits[position] = digit;
            add_small(&mut limbs, -i64::from(digit));
        }
        limbs = shifted(limbs);
        position += 1;
    }
    digits
}

/// `limbs + amount`, which is not negative and below 2^252.
fn add_small(limbs: &mut [u64; 4], amount: i64) {
    let mut carry = i128::from(amount);
    for limb in limbs {
        let sum = i128::from(*limb) + carry;
        *limb = sum as u64;
        carry = sum >> 64;
    }
}

fn shifted(limbs: [u64; 4]) -> [u64; 4] {
    std::array::from_fn(|i| limbs[i] >> 1 | limbs.get(i + 1).map_or(0, |next| next << 63))
}

/// Digits of 4 bits in a scalar.
const COMB_DIGITS: usize = 64;

/// 1 to 8 times 16^i·Base8, for each i.
static COMB: LazyLock<Vec<[Cached; 8]>> = LazyLock::new(|| {
    let base = Extended::from_affine(&BabyJubjub::GENERATOR);
    let step = |p: &Extended| Some(p.double().double().double().double());
    std::iter::successors(Some(base), step)
        .take(COMB_DIGITS)
        .map(|point| {
            let addend = point.cached();
            let mut current = Extended::IDENTITY;
            std::array::from_fn(|_| {
                current = current.add(&addend);
                current.cached()
            })
        })
        .collect()
});

/// scalar·Base8.
pub fn multiply_base(scalar: &Scalar) -> Point {
    let limbs = scalar.into_bigint().0;
    let mut sum = Extended::IDENTITY;
    let mut carry = 0;
    for (i, multiples) in COMB.iter().enumerate() {
        let digit = (limbs[i / 16] >> (4 * (i % 16)) & 15) as i16 + carry;
        carry = i16::from(digit > 8);
        sum = sum.add(&pick_all(multiples, digit - 16 * carry));
    }
    sum.to_affine()
}

/// `digit` times the first entry, −8 < digit ≤ 8, touching every entry.
fn pick_all(multiples: &[Cached; 8], digit: i16) -> Cached {
    let mut chosen = Cached::IDENTITY;
    chosen.twice_z = Fr::from(2u64);
    for (i, entry) in multiples.iter().enumerate() {
        let here = digit.unsigned_abs() as usize == i + 1;
        chosen = choose(here, entry, &chosen);
    }
    choose(digit < 0, &chosen.negated(), &chosen)
}

/// Limb by limb with a mask, so that no branch depends on the condition.
fn choose(condition: bool, a: &Cached, b: &Cached) -> Cached {
    let mask = u64::from(condition).wrapping_neg();
    let word = |a: &Fr, b: &Fr| {
        Fr::new_unchecked(ark_ff::BigInt(std::array::from_fn(|i| {
            (a.0.0[i] & mask) | (b.0.0[i] & !mask)
        })))
    };
    Cached {
        minus: word(&a.minus, &b.minus),
        plus: word(&a.plus, &b.plus),
        twice_z: word(&a.twice_z, &b.twice_z),
        twice_dt: word(&a.twice_dt, &b.twice_dt),
    }
}

/// circomlib's `packPoint`: y little-endian, and the top bit set if x is above (r − 1)/2.
pub fn compress(point: &Point) -> [u8; 32] {
    let mut bytes = crate::field::to_bytes(&point.y);
    bytes.reverse();
    if is_upper(&point.x) {
        bytes[31] |= 0x80;
    }
    bytes
}

/// The point that [`compress`] gave these bytes, if any: y canonical, on the curve, and no sign on x = 0.
pub fn decompress(bytes: &[u8; 32]) -> Option<Point> {
    let mut big_endian = *bytes;
    big_endian.reverse();
    let upper = big_endian[0] & 0x80 != 0;
    big_endian[0] &= 0x7f;
    let y = crate::field::from_bytes(&big_endian).ok()?;
    let yy = y.square();
    // a·x² + y² = 1 + d·x²·y², so x² = (1 − y²)/(a − d·y²); the divisor is not zero because a·d is no square.
    let divisor =
        <BabyJubjub as TECurveConfig>::COEFF_A - <BabyJubjub as TECurveConfig>::COEFF_D * yy;
    let x = ((Fr::ONE - yy) * divisor.inverse()?).sqrt()?;
    let x = if is_upper(&x) == upper { x } else { -x };
    (is_upper(&x) == upper).then(|| Point::new_unchecked(x, y))
}

fn is_upper(x: &Fr) -> bool {
    x.into_bigint() > Fr::MODULUS_MINUS_ONE_DIV_TWO
}

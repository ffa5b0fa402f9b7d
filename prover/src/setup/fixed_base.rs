//! Many multiples of one point: signed windows over a table, added in affine form with shared inversions.
//!
//! table of every window's small multiples → one addition per window → all scalars of a chunk share each inversion
//!
//! An affine addition with a shared inversion costs six field multiplications where a mixed projective one costs eleven.
//! Not constant-time: for setups on one's own machine.

use ark_ec::AffineRepr;
use ark_ec::CurveGroup;
use ark_ec::short_weierstrass::{Affine, Projective, SWCurveConfig};
use ark_ff::{AdditiveGroup, Field, PrimeField, Zero};
use rayon::prelude::*;

/// Scalars that share inversions: enough to make an inversion cheap, few enough to stay in the cache.
const CHUNK: usize = 1024;

/// Multiples of one point.
pub struct FixedBase<P: SWCurveConfig> {
    window: usize,
    /// For window k the multiples 1 … 2^(window − 1) of 2^(k·window)·base.
    tables: Vec<Vec<Affine<P>>>,
}

impl<P: SWCurveConfig> FixedBase<P> {
    /// Prepares for about this many multiplications.
    pub fn new(base: Projective<P>, multiplications: usize) -> Self {
        let window = best_window::<P>(multiplications);
        let windows = windows::<P>(window);
        let mut bases = Vec::with_capacity(windows);
        let mut power = base;
        for _ in 0..windows {
            bases.push(power);
            (0..window).for_each(|_| {
                power.double_in_place();
            });
        }
        let tables = bases
            .into_par_iter()
            .map(|base| multiples(base, window))
            .collect();
        Self { window, tables }
    }

    /// Multiplies the base by each scalar.
    pub fn multiply(&self, scalars: &[P::ScalarField]) -> Vec<Affine<P>> {
        let chunks: Vec<Vec<Affine<P>>> = scalars
            .par_chunks(CHUNK)
            .map(|chunk| self.multiply_chunk(chunk))
            .collect();
        chunks.concat()
    }

    fn multiply_chunk(&self, scalars: &[P::ScalarField]) -> Vec<Affine<P>> {
        let digits: Vec<Vec<i32>> = scalars.iter().map(|s| self.digits(s)).collect();
        let mut sums = vec![Affine::<P>::zero(); scalars.len()];
        let mut scratch = Scratch::default();
        for (window, table) in self.tables.iter().enumerate() {
            for (position, digits) in digits.iter().enumerate() {
                let digit = digits[window];
                if digit != 0 {
                    let point = table[digit.unsigned_abs() as usize - 1];
                    scratch.schedule(&mut sums, position, if digit < 0 { -point } else { point });
                }
            }
            scratch.add_all(&mut sums);
        }
        sums
    }

    /// Digits in [−2^(window−1), 2^(window−1)], least significant first.
    fn digits(&self, scalar: &P::ScalarField) -> Vec<i32> {
        let limbs = scalar.into_bigint();
        let limbs = limbs.as_ref();
        let half = 1i32 << (self.window - 1);
        let mut carry = 0;
        (0..self.tables.len())
            .map(|window| {
                let digit = bits(limbs, window * self.window, self.window) as i32 + carry;
                carry = i32::from(digit > half);
                digit - (carry << self.window)
            })
            .collect()
    }
}

fn bits(limbs: &[u64], start: usize, count: usize) -> u64 {
    let (limb, shift) = (start / 64, start % 64);
    let low = limbs.get(limb).map_or(0, |l| l >> shift);
    let high = match (shift, limbs.get(limb + 1)) {
        (1.., Some(next)) => next << (64 - shift),
        _ => 0,
    };
    (low | high) & ((1 << count) - 1)
}

/// One window more than the bits need takes the last carry.
fn windows<P: SWCurveConfig>(window: usize) -> usize {
    (P::ScalarField::MODULUS_BIT_SIZE as usize + 1).div_ceil(window)
}

/// The window that costs least additions, tables included; a table's projective addition counts double.
fn best_window<P: SWCurveConfig>(multiplications: usize) -> usize {
    let cost =
        |window: &usize| windows::<P>(*window) * (multiplications + (2usize << (window - 1)));
    (2..=16).min_by_key(cost).unwrap_or(2)
}

fn multiples<P: SWCurveConfig>(base: Projective<P>, window: usize) -> Vec<Affine<P>> {
    let affine = base.into_affine();
    let mut sum = Projective::<P>::zero();
    let points: Vec<Projective<P>> = (0..1usize << (window - 1))
        .map(|_| {
            sum += affine;
            sum
        })
        .collect();
    Projective::normalize_batch(&points)
}

/// Additions that wait for their common inversion.
struct Scratch<P: SWCurveConfig> {
    positions: Vec<usize>,
    addends: Vec<Affine<P>>,
    denominators: Vec<P::BaseField>,
    prefixes: Vec<P::BaseField>,
}

impl<P: SWCurveConfig> Default for Scratch<P> {
    fn default() -> Self {
        Self {
            positions: vec![],
            addends: vec![],
            denominators: vec![],
            prefixes: vec![],
        }
    }
}

impl<P: SWCurveConfig> Scratch<P> {
    /// Notes one addition, or does it at once where no slope is needed.
    fn schedule(&mut self, sums: &mut [Affine<P>], position: usize, addend: Affine<P>) {
        let sum = &mut sums[position];
        if addend.is_zero() {
            return;
        }
        if sum.is_zero() {
            *sum = addend;
            return;
        }
        let denominator = if sum.x != addend.x {
            addend.x - sum.x
        } else if sum.y == addend.y {
            // BN254's groups have odd order, so no point has y = 0 and doubling never fails.
            sum.y.double()
        } else {
            *sum = Affine::zero();
            return;
        };
        self.positions.push(position);
        self.addends.push(addend);
        self.denominators.push(denominator);
    }

    fn add_all(&mut self, sums: &mut [Affine<P>]) {
        self.prefixes.clear();
        let mut product = P::BaseField::ONE;
        for denominator in &self.denominators {
            self.prefixes.push(product);
            product *= denominator;
        }
        let mut inverse = product
            .inverse()
            .expect("every denominator scheduled is not zero");
        for i in (0..self.positions.len()).rev() {
            let reciprocal = inverse * self.prefixes[i];
            inverse *= self.denominators[i];
            let sum = &mut sums[self.positions[i]];
            *sum = add(sum, &self.addends[i], reciprocal);
        }
        self.positions.clear();
        self.addends.clear();
        self.denominators.clear();
    }
}

/// Adds two points, given the reciprocal of the slope's denominator.
fn add<P: SWCurveConfig>(p: &Affine<P>, q: &Affine<P>, reciprocal: P::BaseField) -> Affine<P> {
    let numerator = if p.x == q.x {
        let square = p.x.square();
        square.double() + square + P::COEFF_A
    } else {
        q.y - p.y
    };
    let slope = numerator * reciprocal;
    let x = slope.square() - p.x - q.x;
    let y = slope * (p.x - x) - p.y;
    Affine::new_unchecked(x, y)
}

#[cfg(test)]
mod tests {
    use super::*;
    use ark_bn254::{Fr, G1Projective, G2Projective};
    use ark_ec::PrimeGroup;
    use ark_ff::UniformRand;
    use rand::{SeedableRng, rngs::StdRng};

    fn scalars(count: usize) -> Vec<Fr> {
        let mut rng = StdRng::seed_from_u64(7);
        let edges = [
            0i64,
            1,
            2,
            3,
            -1,
            -2,
            1 << 15,
            (1 << 15) + 1,
            1 << 16,
            -(1 << 16),
        ];
        let mut scalars: Vec<Fr> = edges.into_iter().map(Fr::from).collect();
        scalars.extend((0..count).map(|_| Fr::rand(&mut rng)));
        scalars.extend((0..254).map(|power| Fr::from(2u64).pow([power])));
        scalars
    }

    fn agrees<P: SWCurveConfig<ScalarField = Fr>>(base: Projective<P>, window: usize) {
        let tables = (0..windows::<P>(window))
            .map(|k| multiples(base * Fr::from(2u64).pow([(k * window) as u64]), window))
            .collect();
        let scalars = scalars(40);
        let expected: Vec<Affine<P>> = scalars.iter().map(|s| (base * s).into_affine()).collect();
        assert_eq!(
            FixedBase { window, tables }.multiply(&scalars),
            expected,
            "window {window}"
        );
    }

    #[test]
    fn every_window_agrees_with_plain_multiplication() {
        for window in 2..=12 {
            agrees(G1Projective::generator(), window);
        }
        agrees(G2Projective::generator(), 5);
        agrees(G2Projective::generator(), 8);
    }

    #[test]
    fn more_scalars_than_a_chunk_keep_their_order() {
        let base = G1Projective::generator();
        let scalars: Vec<Fr> = (0..2 * CHUNK as u64 + 3).map(Fr::from).collect();
        let points = FixedBase::new(base, scalars.len()).multiply(&scalars);
        assert_eq!(points.len(), scalars.len());
        for position in [0, 1, CHUNK - 1, CHUNK, 2 * CHUNK + 2] {
            assert_eq!(points[position], (base * scalars[position]).into_affine());
        }
    }

    #[test]
    fn equal_and_opposite_points_add_up() {
        let base = G1Projective::generator();
        let [p, double] = [base, base + base].map(|p| p.into_affine());
        let mut sums = vec![p, p, p, Affine::zero(), p];
        let mut scratch = Scratch::default();
        for (position, addend) in [p, -p, Affine::zero(), p, double].into_iter().enumerate() {
            scratch.schedule(&mut sums, position, addend);
        }
        scratch.add_all(&mut sums);
        let tripled = (base + base + base).into_affine();
        assert_eq!(sums, vec![double, Affine::zero(), p, p, tripled]);
    }
}

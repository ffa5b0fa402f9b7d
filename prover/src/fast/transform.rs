//! Number-theoretic transforms over the scalar field, in lanes, without bit reversal and in the cache's size.
//!
//! evaluations in bit-reversed order → [`Transform::interpolate`] → coefficients → [`Transform::shift`] (× scale·shiftⁱ)
//! → [`Transform::evaluate`] → evaluations in bit-reversed order
//!
//! A block stands for a polynomial modulo X^2h − c². It splits into residues modulo X^h − c and X^h + c, that is a + c·b and
//! a − c·b for its halves a and b: one constant for the whole block, and the block at place k of its level has the constant
//! root^(k, bits reversed) at every level. Halves are worked through depth first, so all but the first few levels run in the
//! cache. The last three levels lie within a vector of eight lanes and run on transposed tiles of eight vectors.

use super::kernel::Task;
use ark_bn254::Fr;
use ark_ff::{FftField, Field, One};
use rayon::prelude::*;

/// Vectors that one thread transforms in its own cache.
const LEAF: usize = 1 << 10;

/// Arithmetic on some scalars at a time. Bounds are those of [`super::kernel`].
pub trait ScalarKernel: Copy + Send + Sync + 'static {
    /// A scalar in each lane.
    type Vector: Copy + Send + Sync;
    /// A factor, ready to be spread over the lanes.
    type Factor: Copy + Send + Sync;
    /// Scalars handled at a time.
    const LANES: usize;

    /// Runs work with this kernel's instructions.
    fn enter<T: Task<Self>>(self, task: T) -> T::Output;

    /// Scalars, one for each lane.
    fn load(self, values: &[Fr]) -> Self::Vector;
    /// The lanes as integers, given a wide value.
    fn integers(self, a: &Self::Vector, integers: &mut [[u64; 4]]);
    /// Prepares a factor.
    fn factor(self, value: Fr) -> Self::Factor;
    /// A different factor in each lane.
    fn factors(self, values: &[Fr]) -> Self::Vector;
    /// The same factor in each lane.
    fn spread(self, factor: &Self::Factor) -> Self::Vector;
    /// `mul` gives the product of two loaded values divided by this.
    fn deficit(self) -> Fr;

    /// a + b.
    fn add(self, a: &Self::Vector, b: &Self::Vector) -> Self::Vector;
    /// a − b.
    fn sub(self, a: &Self::Vector, b: &Self::Vector) -> Self::Vector;
    /// a·b.
    fn mul(self, a: &Self::Vector, b: &Self::Vector) -> Self::Vector;
    /// Makes a value tight.
    fn tighten(self, a: &Self::Vector) -> Self::Vector;
    /// Exchanges lanes and vectors of a tile of as many vectors as lanes.
    fn transpose(self, tile: &mut [Self::Vector]);
}

/// Transforms of one size.
pub struct Transform<K: ScalarKernel> {
    kernel: K,
    vectors: usize,
    forward: Roots<K>,
    backward: Roots<K>,
}

/// Constants of one direction.
struct Roots<K: ScalarKernel> {
    /// Of blocks of at least two vectors, by place.
    blocks: Vec<K::Factor>,
    /// Of the first block of the last level in each vector of a tile: lane l for vector l.
    tiles: Vec<K::Vector>,
    /// √−1 and its root, in the direction of these constants.
    fourth: K::Factor,
    eighth: K::Factor,
}

/// The lowest bits of a number reversed.
pub fn reverse(value: usize, bits: u32) -> usize {
    if bits == 0 {
        return 0;
    }
    value.reverse_bits() >> (usize::BITS - bits)
}

/// root^0, root^1, … as many as wanted, in bit-reversed order.
fn reversed_powers(root: Fr, count: usize) -> Vec<Fr> {
    let mut powers = vec![Fr::one(); count];
    let bits = count.trailing_zeros();
    let mut power = Fr::one();
    for place in 0..count {
        powers[reverse(place, bits)] = power;
        power *= root;
    }
    powers
}

impl<K: ScalarKernel> Roots<K> {
    /// For the size whose root of unity is given.
    fn new(kernel: K, root: Fr, vectors: usize) -> Self {
        let size = vectors * K::LANES;
        // The block at place k of a level with m blocks has root^(n/2m · reverse(k)): a prefix of one list.
        let blocks = (vectors / 2).max(1);
        let blocks = reversed_powers(root.pow([(size / 2 / blocks) as u64]), blocks);
        let mut tiles = vec![];
        if K::LANES > 1 {
            let last = reversed_powers(root, size / 2);
            let first: Vec<Fr> = last.into_iter().step_by(K::LANES / 2).collect();
            tiles = first
                .chunks(K::LANES)
                .map(|chunk| kernel.factors(chunk))
                .collect();
        }
        Self {
            blocks: blocks.into_iter().map(|c| kernel.factor(c)).collect(),
            tiles,
            fourth: kernel.factor(root.pow([(size / 4).max(1) as u64])),
            eighth: kernel.factor(root.pow([(size / 8).max(1) as u64])),
        }
    }
}

impl<K: ScalarKernel> Transform<K> {
    /// Transforms of a power of two of scalars; nothing if the kernel does not do that size.
    pub fn new(kernel: K, size: usize) -> Option<Self> {
        let vectors = size / K::LANES;
        if !size.is_power_of_two() || vectors < K::LANES {
            return None;
        }
        let root = Fr::get_root_of_unity(size as u64)?;
        let backward = root.inverse()?;
        Some(Self {
            kernel,
            vectors,
            forward: Roots::new(kernel, root, vectors),
            backward: Roots::new(kernel, backward, vectors),
        })
    }

    /// Coefficients times the size, from evaluations in bit-reversed order.
    pub fn interpolate(&self, values: &mut [K::Vector]) {
        assert_eq!(values.len(), self.vectors, "the size of this transform");
        self.up(values, 0);
    }

    /// Evaluations in bit-reversed order, from coefficients.
    pub fn evaluate(&self, values: &mut [K::Vector]) {
        assert_eq!(values.len(), self.vectors, "the size of this transform");
        self.down(values, 0);
    }

    /// Multiplies value i by scale·shift^i.
    pub fn shift(&self, values: &mut [K::Vector], scale: Fr, shift: Fr) {
        let kernel = self.kernel;
        values
            .par_chunks_mut(LEAF)
            .enumerate()
            .for_each(|(number, values)| {
                let start = shift.pow([(number * LEAF * K::LANES) as u64]) * scale;
                let mut power = start;
                let first: Vec<Fr> = (0..K::LANES)
                    .map(|_| {
                        let now = power;
                        power *= shift;
                        now
                    })
                    .collect();
                let step = kernel.factor(shift.pow([K::LANES as u64]));
                let first = kernel.factors(&first);
                kernel.enter(Shift {
                    values,
                    first,
                    step,
                });
            });
    }

    fn down(&self, values: &mut [K::Vector], place: usize) {
        let roots = &self.forward;
        if values.len() <= LEAF {
            return self.kernel.enter(Down {
                values,
                place,
                roots,
            });
        }
        let (low, high) = values.split_at_mut(values.len() / 2);
        let factor = &roots.blocks[place];
        low.par_chunks_mut(LEAF)
            .zip(high.par_chunks_mut(LEAF))
            .for_each(|(low, high)| self.kernel.enter(Split { low, high, factor }));
        rayon::join(
            || self.down(low, 2 * place),
            || self.down(high, 2 * place + 1),
        );
    }

    fn up(&self, values: &mut [K::Vector], place: usize) {
        let roots = &self.backward;
        if values.len() <= LEAF {
            return self.kernel.enter(Up {
                values,
                place,
                roots,
            });
        }
        let (low, high) = values.split_at_mut(values.len() / 2);
        rayon::join(|| self.up(low, 2 * place), || self.up(high, 2 * place + 1));
        let factor = &roots.blocks[place];
        low.par_chunks_mut(LEAF)
            .zip(high.par_chunks_mut(LEAF))
            .for_each(|(low, high)| self.kernel.enter(Join { low, high, factor }));
    }
}

/// Multiplies by powers.
struct Shift<'a, K: ScalarKernel> {
    values: &'a mut [K::Vector],
    first: K::Vector,
    step: K::Factor,
}

impl<K: ScalarKernel> Task<K> for Shift<'_, K> {
    type Output = ();

    #[inline(always)]
    fn run(self, kernel: K) {
        let step = kernel.spread(&self.step);
        let mut power = self.first;
        for value in self.values {
            *value = kernel.mul(value, &power);
            power = kernel.mul(&power, &step);
        }
    }
}

/// One level of one block: the halves' residues.
struct Split<'a, K: ScalarKernel> {
    low: &'a mut [K::Vector],
    high: &'a mut [K::Vector],
    factor: &'a K::Factor,
}

impl<K: ScalarKernel> Task<K> for Split<'_, K> {
    type Output = ();

    #[inline(always)]
    fn run(self, kernel: K) {
        split(kernel, self.low, self.high, &kernel.spread(self.factor));
    }
}

/// The inverse of [`Split`], times two.
struct Join<'a, K: ScalarKernel> {
    low: &'a mut [K::Vector],
    high: &'a mut [K::Vector],
    factor: &'a K::Factor,
}

impl<K: ScalarKernel> Task<K> for Join<'_, K> {
    type Output = ();

    #[inline(always)]
    fn run(self, kernel: K) {
        join(kernel, self.low, self.high, &kernel.spread(self.factor));
    }
}

#[inline(always)]
fn split<K: ScalarKernel>(
    kernel: K,
    low: &mut [K::Vector],
    high: &mut [K::Vector],
    factor: &K::Vector,
) {
    for (a, b) in low.iter_mut().zip(high) {
        let product = kernel.mul(b, factor);
        *b = kernel.tighten(&kernel.sub(a, &product));
        *a = kernel.tighten(&kernel.add(a, &product));
    }
}

#[inline(always)]
fn join<K: ScalarKernel>(
    kernel: K,
    low: &mut [K::Vector],
    high: &mut [K::Vector],
    factor: &K::Vector,
) {
    for (a, b) in low.iter_mut().zip(high) {
        let difference = kernel.sub(a, b);
        *a = kernel.tighten(&kernel.add(a, b));
        *b = kernel.mul(&difference, factor);
    }
}

/// All levels of a block that fits the cache.
struct Down<'a, K: ScalarKernel> {
    values: &'a mut [K::Vector],
    place: usize,
    roots: &'a Roots<K>,
}

impl<K: ScalarKernel> Task<K> for Down<'_, K> {
    type Output = ();

    #[inline(always)]
    fn run(self, kernel: K) {
        let Self {
            values,
            place,
            roots,
        } = self;
        let mut length = values.len();
        let mut first = place;
        while length >= 2 {
            for (number, block) in values.chunks_exact_mut(length).enumerate() {
                let factor = kernel.spread(&roots.blocks[first + number]);
                let (low, high) = block.split_at_mut(length / 2);
                split(kernel, low, high, &factor);
            }
            length /= 2;
            first *= 2;
        }
        if K::LANES > 1 {
            let first = place * values.len() / K::LANES;
            for (number, tile) in values.chunks_exact_mut(K::LANES).enumerate() {
                let factors = TileFactors::of(kernel, roots, first + number);
                kernel.transpose(tile);
                factors.down(kernel, tile);
                kernel.transpose(tile);
            }
        }
    }
}

/// The inverse of [`Down`], times the size.
struct Up<'a, K: ScalarKernel> {
    values: &'a mut [K::Vector],
    place: usize,
    roots: &'a Roots<K>,
}

impl<K: ScalarKernel> Task<K> for Up<'_, K> {
    type Output = ();

    #[inline(always)]
    fn run(self, kernel: K) {
        let Self {
            values,
            place,
            roots,
        } = self;
        if K::LANES > 1 {
            let first = place * values.len() / K::LANES;
            for (number, tile) in values.chunks_exact_mut(K::LANES).enumerate() {
                let factors = TileFactors::of(kernel, roots, first + number);
                kernel.transpose(tile);
                factors.up(kernel, tile);
                kernel.transpose(tile);
            }
        }
        let mut length = 2;
        while length <= values.len() {
            let first = place * values.len() / length;
            for (number, block) in values.chunks_exact_mut(length).enumerate() {
                let factor = kernel.spread(&roots.blocks[first + number]);
                let (low, high) = block.split_at_mut(length / 2);
                join(kernel, low, high, &factor);
            }
            length *= 2;
        }
    }
}

/// The constants of a tile's last three levels: a lane for each of its eight blocks of eight.
struct TileFactors<V> {
    /// Of blocks of 8, 4 and 2.
    eight: V,
    four: [V; 2],
    two: [V; 4],
}

impl<V: Copy> TileFactors<V> {
    /// The constant c of a block's first half is a root of the block's own, that of its second half the same root times
    /// √−1: all seven come from the last level's first.
    #[inline(always)]
    fn of<K: ScalarKernel<Vector = V>>(kernel: K, roots: &Roots<K>, tile: usize) -> Self {
        let fourth = kernel.spread(&roots.fourth);
        let eighth = kernel.spread(&roots.eighth);
        let two_0 = roots.tiles[tile];
        let two_2 = kernel.mul(&two_0, &eighth);
        let four_0 = kernel.mul(&two_0, &two_0);
        Self {
            eight: kernel.mul(&four_0, &four_0),
            four: [four_0, kernel.mul(&four_0, &fourth)],
            two: [
                two_0,
                kernel.mul(&two_0, &fourth),
                two_2,
                kernel.mul(&two_2, &fourth),
            ],
        }
    }

    #[inline(always)]
    fn down<K: ScalarKernel<Vector = V>>(&self, kernel: K, tile: &mut [V]) {
        let (low, high) = tile.split_at_mut(4);
        split(kernel, low, high, &self.eight);
        for half in 0..2 {
            let (low, high) = tile[4 * half..4 * half + 4].split_at_mut(2);
            split(kernel, low, high, &self.four[half]);
        }
        for pair in 0..4 {
            let (low, high) = tile[2 * pair..2 * pair + 2].split_at_mut(1);
            split(kernel, low, high, &self.two[pair]);
        }
    }

    #[inline(always)]
    fn up<K: ScalarKernel<Vector = V>>(&self, kernel: K, tile: &mut [V]) {
        for pair in 0..4 {
            let (low, high) = tile[2 * pair..2 * pair + 2].split_at_mut(1);
            join(kernel, low, high, &self.two[pair]);
        }
        for half in 0..2 {
            let (low, high) = tile[4 * half..4 * half + 4].split_at_mut(2);
            join(kernel, low, high, &self.four[half]);
        }
        let (low, high) = tile.split_at_mut(4);
        join(kernel, low, high, &self.eight);
    }
}

#[cfg(test)]
mod tests;

//! The numbers of Poseidon over BN254 as circomlib fixes them, and the form of them that is fast to compute with.
//!
//! ```text
//! width t → Grain LFSR → Plain<T> (round constants, dense matrix) → Fast<T> (sparse partial rounds)
//! ```
//!
//! Every width is generated once per process, on first use.

use std::sync::LazyLock;

use ark_bn254::Fr;
use ark_crypto_primitives::sponge::poseidon::find_poseidon_ark_and_mds;
use ark_ff::{AdditiveGroup, Field, PrimeField};

/// Full rounds before the partial rounds, and again after them.
pub const HALF_FULL_ROUNDS: usize = 4;

/// The largest number of inputs that one call hashes.
pub const MAX_INPUTS: usize = 16;

/// Partial rounds by number of inputs, from 1 to 16.
const PARTIAL_ROUNDS: [usize; MAX_INPUTS] = [
    56, 57, 56, 60, 60, 63, 64, 63, 60, 66, 60, 65, 70, 60, 64, 68,
];

/// The number of partial rounds of a permutation of `width` elements.
pub const fn partial_rounds(width: usize) -> usize {
    PARTIAL_ROUNDS[width - 2]
}

/// A square matrix, row by row: `out[i] = Σ_j matrix[i][j] · in[j]`.
pub type Matrix<const T: usize> = [[Fr; T]; T];

/// The parameters as the specification gives them: each round adds constants, applies S-boxes, multiplies by `mds`.
pub struct Plain<const T: usize> {
    /// One row of constants for each of the `8 + R_P` rounds.
    pub round_constants: Vec<[Fr; T]>,
    /// The dense matrix of every round.
    pub mds: Matrix<T>,
}

/// One partial round after rewriting: `s0 += constant; y = s0^5; s0' = row · (y, s1…); si' = si + column[i] · y`.
pub struct PartialRound<const T: usize> {
    /// Added to the first element before its S-box.
    pub constant: Fr,
    /// First row of the sparse matrix.
    pub row: [Fr; T],
    /// First column of the sparse matrix; entry 0 is unused.
    pub column: [Fr; T],
}

/// The same permutation rewritten so that a partial round costs `2T − 1` multiplications instead of `T²`.
///
/// Constants that no S-box of a partial round sees commute with that S-box and are pushed forward into the next round.
/// The dense matrix of a partial round factors into a sparse one and one that leaves the first element alone; the
/// latter commutes with the S-box too and is pulled back into the round before.
pub struct Fast<const T: usize> {
    /// Constants of the first four full rounds.
    pub first: [[Fr; T]; HALF_FULL_ROUNDS],
    /// The dense matrix.
    pub mds: Matrix<T>,
    /// The matrix of the fourth full round, with all that was pulled back into it.
    pub before_partial: Matrix<T>,
    /// The partial rounds.
    pub partial: Vec<PartialRound<T>>,
    /// Constants of the last four full rounds, with all that was pushed forward into them.
    pub last: [[Fr; T]; HALF_FULL_ROUNDS],
}

impl<const T: usize> Plain<T> {
    /// Runs the Grain LFSR with circomlib's seed for this width.
    pub fn generate() -> Self {
        let (constants, mds) = find_poseidon_ark_and_mds::<Fr>(
            u64::from(Fr::MODULUS_BIT_SIZE),
            T - 1,
            2 * HALF_FULL_ROUNDS as u64,
            partial_rounds(T) as u64,
            0,
        );
        let row = |row: &Vec<Fr>| -> [Fr; T] {
            row.as_slice()
                .try_into()
                .expect("the generator makes rows of T")
        };
        Self {
            round_constants: constants.iter().map(row).collect(),
            mds: std::array::from_fn(|i| row(&mds[i])),
        }
    }
}

impl<const T: usize> Fast<T> {
    /// Rewrites the parameters of this width.
    pub fn generate() -> Self {
        Self::from_plain(&Plain::generate())
    }

    fn from_plain(plain: &Plain<T>) -> Self {
        let rounds = partial_rounds(T);
        let first = std::array::from_fn(|i| plain.round_constants[i]);

        let mut constants = Vec::with_capacity(rounds);
        let mut pushed = [Fr::ZERO; T];
        for round in 0..rounds {
            pushed = add(&pushed, &plain.round_constants[HALF_FULL_ROUNDS + round]);
            constants.push(pushed[0]);
            pushed[0] = Fr::ZERO;
            pushed = apply(&plain.mds, &pushed);
        }
        let mut last: [[Fr; T]; HALF_FULL_ROUNDS] =
            std::array::from_fn(|i| plain.round_constants[HALF_FULL_ROUNDS + rounds + i]);
        last[0] = add(&last[0], &pushed);

        let mut dense = plain.mds;
        let mut partial = Vec::with_capacity(rounds);
        for constant in constants.into_iter().rev() {
            let (row, column, commuting) = factor(&dense);
            partial.push(PartialRound {
                constant,
                row,
                column,
            });
            dense = multiply(&commuting, &plain.mds);
        }
        partial.reverse();
        Self {
            first,
            mds: plain.mds,
            before_partial: dense,
            partial,
            last,
        }
    }
}

/// `matrix = sparse · commuting`, where `commuting` fixes the first element and `sparse` is the identity but for its
/// first row and column, which are returned.
fn factor<const T: usize>(matrix: &Matrix<T>) -> ([Fr; T], [Fr; T], Matrix<T>) {
    let mut commuting = *matrix;
    for i in 0..T {
        commuting[0][i] = Fr::ZERO;
        commuting[i][0] = Fr::ZERO;
    }
    commuting[0][0] = Fr::ONE;
    let inverse = invert(&commuting);
    // row · commuting = matrix[0]; the first element of both is the same because `commuting` fixes it.
    let row = std::array::from_fn(|j| (0..T).map(|k| matrix[0][k] * inverse[k][j]).sum());
    let column = std::array::from_fn(|i| matrix[i][0]);
    (row, column, commuting)
}

fn add<const T: usize>(a: &[Fr; T], b: &[Fr; T]) -> [Fr; T] {
    std::array::from_fn(|i| a[i] + b[i])
}

/// `matrix · vector`.
pub fn apply<const T: usize>(matrix: &Matrix<T>, vector: &[Fr; T]) -> [Fr; T] {
    std::array::from_fn(|i| (0..T).map(|j| matrix[i][j] * vector[j]).sum())
}

fn multiply<const T: usize>(a: &Matrix<T>, b: &Matrix<T>) -> Matrix<T> {
    std::array::from_fn(|i| std::array::from_fn(|j| (0..T).map(|k| a[i][k] * b[k][j]).sum()))
}

/// The inverse by Gauss-Jordan elimination.
///
/// # Panics
/// If the matrix is singular, which no submatrix of an MDS matrix is.
pub fn invert<const T: usize>(matrix: &Matrix<T>) -> Matrix<T> {
    let mut left = *matrix;
    let mut right: Matrix<T> =
        std::array::from_fn(|i| std::array::from_fn(|j| Fr::from(u64::from(i == j))));
    for column in 0..T {
        let pivot = (column..T)
            .find(|&row| left[row][column] != Fr::ZERO)
            .expect("an MDS matrix is invertible");
        left.swap(column, pivot);
        right.swap(column, pivot);
        let scale = left[column][column]
            .inverse()
            .expect("the pivot is not zero");
        left[column]
            .iter_mut()
            .chain(&mut right[column])
            .for_each(|x| *x *= scale);
        let (left_pivot, right_pivot) = (left[column], right[column]);
        for row in (0..T).filter(|&row| row != column) {
            let factor = left[row][column];
            for j in 0..T {
                left[row][j] -= factor * left_pivot[j];
                right[row][j] -= factor * right_pivot[j];
            }
        }
    }
    right
}

/// A permutation width for which parameters exist: implemented by [`Width`] for 2 to 17 elements.
pub trait Supported<const T: usize> {
    /// The rewritten parameters, generated on first use.
    fn fast() -> &'static Fast<T>;
}

/// A permutation of `T` elements.
pub struct Width<const T: usize>;

macro_rules! widths {
    ($($t:literal),*) => {$(
        impl Supported<$t> for Width<$t> {
            fn fast() -> &'static Fast<$t> {
                static FAST: LazyLock<Fast<$t>> = LazyLock::new(Fast::generate);
                &FAST
            }
        }
    )*};
}
widths!(2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16, 17);

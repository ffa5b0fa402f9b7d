//! The numbers of Poseidon over BN254 as circomlib fixes them, and the form of them that is fast to compute with.
//!
//! ```text
//! width t → Grain LFSR → Plain<T> (round constants, dense matrix) → Fast<T> (partial rounds as a recurrence)
//! ```
//!
//! Every width is generated once per process, on first use.
//!
//! # Partial rounds as a recurrence
//! A partial round raises only the first element s to the fifth power. Write z for the other `q = T − 1` elements and
//! y = (s + k)^5; with the dense matrix cut into `[m v; w N]`, a round is
//!
//! ```text
//! s' = m·y + v·z        z' = w·y + N·z
//! ```
//!
//! once the round constants that no S-box sees have been pushed forward. So s is the output of a linear system whose
//! only input is y. By Cayley and Hamilton, N^q = Σ c_i·N^(q−i), and after the first q rounds
//!
//! ```text
//! s_(r+1) = Σ_{i=1..q} c_i·s_(r+1−i) + Σ_{i=0..q} d_i·y_(r−i)
//! ```
//!
//! a sum of 2T − 1 products with a single reduction, of which all but one are known before the S-box is. The first q
//! rounds use the impulse response h_0 = m, h_i = v·N^(i−1)·w and the free response f_r = v·N^r·z_0; the latter is a
//! linear map of z_0 that is folded into the dense matrix before. At the end z follows linearly from the last q values
//! of s and of y.

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

/// The most partial rounds of any width.
pub const MAX_PARTIAL_ROUNDS: usize = 70;

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

/// The same permutation with its partial rounds as a recurrence. Arrays of `T − 1` numbers have an unused last entry.
pub struct Fast<const T: usize> {
    /// Constants of the first four full rounds.
    pub first: [[Fr; T]; HALF_FULL_ROUNDS],
    /// The dense matrix.
    pub mds: Matrix<T>,
    /// The fourth full round's matrix: gives s_0 and the free responses f_0, …, f_(q−1).
    pub before_partial: Matrix<T>,
    /// Added to s before each partial round's S-box.
    pub partial: Vec<Fr>,
    /// h_0, …, h_(q−1).
    pub impulse: [Fr; T],
    /// c_q, …, c_1: factors of s_(r+1−q), …, s_r.
    pub feedback: [Fr; T],
    /// d_q, …, d_0: factors of y_(r−q), …, y_r.
    pub forward: [Fr; T],
    /// Row i: factors of the last q values of s in element i + 1 of the state after the partial rounds.
    pub last_s: Matrix<T>,
    /// The same of the last q values of y.
    pub last_y: Matrix<T>,
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
        let plain = Plain::<T>::generate();
        let (partial, last) = push_constants(&plain);
        let system = PartialSystem::new(&plain.mds);
        let (last_s, last_y) = system.state_from_history();
        Self {
            first: std::array::from_fn(|i| plain.round_constants[i]),
            mds: plain.mds,
            before_partial: system.free_response_after(&plain.mds),
            partial,
            impulse: padded(&system.impulse[..T - 1]),
            feedback: padded(&system.feedback),
            forward: system.forward(),
            last_s,
            last_y,
            last,
        }
    }
}

/// The S-box constants of the partial rounds, and the constants of the last full rounds.
fn push_constants<const T: usize>(plain: &Plain<T>) -> (Vec<Fr>, [[Fr; T]; HALF_FULL_ROUNDS]) {
    let rounds = partial_rounds(T);
    let add = |a: &[Fr; T], b: &[Fr; T]| -> [Fr; T] { std::array::from_fn(|i| a[i] + b[i]) };
    let mut constants = Vec::with_capacity(rounds);
    let mut pushed = [Fr::ZERO; T];
    for row in &plain.round_constants[HALF_FULL_ROUNDS..][..rounds] {
        pushed = add(&pushed, row);
        constants.push(std::mem::replace(&mut pushed[0], Fr::ZERO));
        pushed = apply(&plain.mds, &pushed);
    }
    let mut last: [[Fr; T]; HALF_FULL_ROUNDS] =
        std::array::from_fn(|i| plain.round_constants[HALF_FULL_ROUNDS + rounds + i]);
    last[0] = add(&last[0], &pushed);
    (constants, last)
}

/// The linear system of the partial rounds, in dimension q = T − 1.
struct PartialSystem {
    /// Rows v·N^j for j = 0, …, q.
    observations: Vec<Vec<Fr>>,
    /// Columns N^j·w for j = 0, …, q − 1.
    responses: Vec<Vec<Fr>>,
    /// The inverse of the first q observations.
    inverse: Vec<Vec<Fr>>,
    /// N^q.
    power: Vec<Vec<Fr>>,
    /// h_0, …, h_q.
    impulse: Vec<Fr>,
    /// c_q, …, c_1.
    feedback: Vec<Fr>,
}

impl PartialSystem {
    fn new<const T: usize>(mds: &Matrix<T>) -> Self {
        let q = T - 1;
        let n: Vec<Vec<Fr>> = mds[1..].iter().map(|row| row[1..].to_vec()).collect();
        let by_columns = transpose(&n);
        let w: Vec<Fr> = mds[1..].iter().map(|row| row[0]).collect();
        let iterate = |start: Vec<Fr>, matrix: &[Vec<Fr>], count: usize| -> Vec<Vec<Fr>> {
            std::iter::successors(Some(start), |x| Some(times_vector(matrix, x)))
                .take(count)
                .collect()
        };
        let observations = iterate(mds[0][1..].to_vec(), &by_columns, q + 1);
        let responses = iterate(w.clone(), &n, q);
        let inverse = invert(&observations[..q]);
        let feedback = times_vector(&transpose(&inverse), &observations[q]);
        let identity = (0..q).map(|i| unit(q, i)).collect();
        let power = (0..q).fold(identity, |power: Vec<Vec<Fr>>, _| times(&n, &power));
        let impulse = std::iter::once(mds[0][0])
            .chain(observations[..q].iter().map(|row| inner(row, &w)))
            .collect();
        Self {
            observations,
            responses,
            inverse,
            power,
            impulse,
            feedback,
        }
    }

    /// d_q, …, d_0 with d_i = h_i − Σ_{j=1..i} c_j·h_(i−j).
    fn forward<const T: usize>(&self) -> [Fr; T] {
        let q = T - 1;
        let factor = |i: usize| {
            let fed_back: Fr = (1..=i)
                .map(|j| self.feedback[q - j] * self.impulse[i - j])
                .sum();
            self.impulse[i] - fed_back
        };
        std::array::from_fn(|k| factor(q - k))
    }

    /// `matrix`, then (s, z) → (s, f_0, …, f_(q−1)).
    fn free_response_after<const T: usize>(&self, matrix: &Matrix<T>) -> Matrix<T> {
        std::array::from_fn(|i| match i {
            0 => matrix[0],
            _ => std::array::from_fn(|j| {
                (1..T)
                    .map(|k| self.observations[i - 1][k - 1] * matrix[k][j])
                    .sum()
            }),
        })
    }

    /// How z after the partial rounds depends on the last q values of s and of y.
    ///
    /// q rounds before the end, the observations of z are what s shows beyond the responses to later y. From there z
    /// evolves by N^q and by the responses to the y since then.
    fn state_from_history<const T: usize>(&self) -> (Matrix<T>, Matrix<T>) {
        let q = T - 1;
        let from_s = times(&self.power, &self.inverse);
        let from_y = |i: usize, m: usize| {
            let seen: Fr = (m..q).map(|j| from_s[i][j] * self.impulse[j - m]).sum();
            self.responses[q - 1 - m][i] - seen
        };
        let last_s = std::array::from_fn(|i| padded(if i < q { &from_s[i] } else { &[] }));
        let last_y = std::array::from_fn(|i| {
            std::array::from_fn(|m| {
                if i < q && m < q {
                    from_y(i, m)
                } else {
                    Fr::ZERO
                }
            })
        });
        (last_s, last_y)
    }
}

/// The numbers, then zeros.
fn padded<const T: usize>(numbers: &[Fr]) -> [Fr; T] {
    std::array::from_fn(|i| numbers.get(i).copied().unwrap_or(Fr::ZERO))
}

/// `matrix · vector`.
pub fn apply<const T: usize>(matrix: &Matrix<T>, vector: &[Fr; T]) -> [Fr; T] {
    std::array::from_fn(|i| inner(&matrix[i], vector))
}

fn inner(a: &[Fr], b: &[Fr]) -> Fr {
    a.iter().zip(b).map(|(a, b)| *a * b).sum()
}

fn unit(size: usize, position: usize) -> Vec<Fr> {
    (0..size)
        .map(|i| Fr::from(u64::from(i == position)))
        .collect()
}

fn transpose(matrix: &[Vec<Fr>]) -> Vec<Vec<Fr>> {
    (0..matrix[0].len())
        .map(|j| matrix.iter().map(|row| row[j]).collect())
        .collect()
}

fn times_vector(matrix: &[Vec<Fr>], vector: &[Fr]) -> Vec<Fr> {
    matrix.iter().map(|row| inner(row, vector)).collect()
}

fn times(a: &[Vec<Fr>], b: &[Vec<Fr>]) -> Vec<Vec<Fr>> {
    let columns = transpose(b);
    a.iter().map(|row| times_vector(&columns, row)).collect()
}

/// The inverse by Gauss-Jordan elimination.
///
/// # Panics
/// If the matrix is singular: an MDS matrix is not, and that the observations are not is checked here, once per width.
pub fn invert(matrix: &[Vec<Fr>]) -> Vec<Vec<Fr>> {
    let size = matrix.len();
    let mut rows: Vec<Vec<Fr>> = matrix
        .iter()
        .enumerate()
        .map(|(i, row)| [row.clone(), unit(size, i)].concat())
        .collect();
    for column in 0..size {
        let pivot = (column..size)
            .find(|&row| rows[row][column] != Fr::ZERO)
            .expect("the matrix is invertible");
        rows.swap(column, pivot);
        let scale = rows[column][column]
            .inverse()
            .expect("the pivot is not zero");
        rows[column].iter_mut().for_each(|x| *x *= scale);
        let pivot_row = rows[column].clone();
        for row in (0..size).filter(|&row| row != column) {
            let factor = rows[row][column];
            rows[row]
                .iter_mut()
                .zip(&pivot_row)
                .for_each(|(x, p)| *x -= factor * p);
        }
    }
    rows.into_iter().map(|row| row[size..].to_vec()).collect()
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

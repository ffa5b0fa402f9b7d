//! The hash itself, outside a circuit.
//!
//! ```text
//! hash(inputs) → dispatch on N → permute(Fast<N + 1>, [0, inputs…]) → state[0]
//! ```

use ark_bn254::Fr;
use ark_ff::{AdditiveGroup, Field};

use super::parameters::{
    Fast, HALF_FULL_ROUNDS, MAX_INPUTS, MAX_PARTIAL_ROUNDS, Matrix, Supported, Width,
};
use super::wide::{FEW_PRODUCTS, MAX_PRODUCTS, Wide, dot};

/// Sees each S-box as it is computed: its input `x`, `x²` and `x⁴`. The circuit's witness is exactly these.
pub trait Observer {
    /// Called once per S-box, round by round and element by element.
    fn sbox(&mut self, x: Fr, x2: Fr, x4: Fr);
}

/// Watches nothing.
pub struct Blind;

impl Observer for Blind {
    #[inline(always)]
    fn sbox(&mut self, _: Fr, _: Fr, _: Fr) {}
}

/// Poseidon of `N` field elements, 1 ≤ N ≤ 16, as circomlib, circomlibjs and poseidon-lite compute it.
#[inline]
pub fn hash<const N: usize>(inputs: [Fr; N]) -> Fr {
    hash_observed(&inputs, &mut Blind)
}

/// [`hash`], showing every S-box to `observer`.
pub fn hash_observed<const N: usize>(inputs: &[Fr; N], observer: &mut impl Observer) -> Fr {
    const { assert!(N >= 1 && N <= MAX_INPUTS, "Poseidon takes 1 to 16 inputs") };
    macro_rules! dispatch {
        ($($n:literal => $t:literal),*) => {
            match N {
                $($n => permute::<$t>(Width::<$t>::fast(), initial(inputs), observer),)*
                _ => unreachable!("checked at compile time"),
            }
        };
    }
    dispatch!(1 => 2, 2 => 3, 3 => 4, 4 => 5, 5 => 6, 6 => 7, 7 => 8, 8 => 9, 9 => 10, 10 => 11, 11 => 12, 12 => 13,
        13 => 14, 14 => 15, 15 => 16, 16 => 17)
}

/// `[0, inputs…]`.
#[inline(always)]
fn initial<const T: usize>(inputs: &[Fr]) -> [Fr; T] {
    let mut state = [Fr::ZERO; T];
    state[1..].copy_from_slice(inputs);
    state
}

#[inline]
fn permute<const T: usize>(fast: &Fast<T>, mut state: [Fr; T], observer: &mut impl Observer) -> Fr {
    for (i, constants) in fast.first.iter().enumerate() {
        full_sboxes(&mut state, constants, observer);
        let matrix = if i + 1 < HALF_FULL_ROUNDS {
            &fast.mds
        } else {
            &fast.before_partial
        };
        state = mix(matrix, &state);
    }
    state = partial_rounds(fast, &state, observer);
    for constants in &fast.last[..HALF_FULL_ROUNDS - 1] {
        full_sboxes(&mut state, constants, observer);
        state = mix(&fast.mds, &state);
    }
    full_sboxes(&mut state, &fast.last[HALF_FULL_ROUNDS - 1], observer);
    dot::<T>(&fast.mds[0], &state)
}

/// From (s_0, f_0, …, f_(q−1)) to the state after the partial rounds.
#[inline(always)]
fn partial_rounds<const T: usize>(
    fast: &Fast<T>,
    start: &[Fr; T],
    observer: &mut impl Observer,
) -> [Fr; T] {
    let q = T - 1;
    let rounds = fast.partial.len();
    let mut s = [Fr::ZERO; MAX_PARTIAL_ROUNDS + 1];
    let mut y = [Fr::ZERO; MAX_PARTIAL_ROUNDS];
    s[0] = start[0];
    for r in 0..q {
        y[r] = sbox(s[r] + fast.partial[r], observer);
        let mut response = Wide::ZERO;
        for i in 0..=r {
            response.add_product(&fast.impulse[i], &y[r - i]);
        }
        s[r + 1] = start[r + 1] + response.reduce::<T>();
    }
    for r in q..rounds {
        let (past_s, past_y) = (&s[r + 1 - q..=r], &y[r - q..r]);
        // The S-box is three multiplications in a row; what does not wait for it is computed in between.
        let x = s[r] + fast.partial[r];
        let x2 = x.square();
        let mut next = Wide::ZERO;
        for (factor, value) in fast.forward.iter().zip(past_y) {
            next.add_product(factor, value);
        }
        let x4 = x2.square();
        observer.sbox(x, x2, x4);
        y[r] = x4 * x;
        let fed_back = if 2 * T - 1 > MAX_PRODUCTS {
            dot::<T>(&fast.feedback[..q], past_s)
        } else {
            for (factor, value) in fast.feedback.iter().zip(past_s) {
                next.add_product(factor, value);
            }
            Fr::ZERO
        };
        next.add_product(&fast.forward[q], &y[r]);
        s[r + 1] = if 2 * T - 1 <= FEW_PRODUCTS {
            next.reduce::<FEW_PRODUCTS>()
        } else if 2 * T - 1 <= MAX_PRODUCTS {
            next.reduce::<MAX_PRODUCTS>()
        } else {
            next.reduce::<T>() + fed_back
        };
    }
    let (last_s, last_y) = (&s[rounds + 1 - q..=rounds], &y[rounds - q..rounds]);
    std::array::from_fn(|i| match i {
        0 => s[rounds],
        _ => {
            dot::<T>(&fast.last_s[i - 1][..q], last_s) + dot::<T>(&fast.last_y[i - 1][..q], last_y)
        }
    })
}

#[inline(always)]
fn full_sboxes<const T: usize>(
    state: &mut [Fr; T],
    constants: &[Fr; T],
    observer: &mut impl Observer,
) {
    for (element, constant) in state.iter_mut().zip(constants) {
        *element = sbox(*element + constant, observer);
    }
}

#[inline(always)]
fn sbox(x: Fr, observer: &mut impl Observer) -> Fr {
    let x2 = x.square();
    let x4 = x2.square();
    observer.sbox(x, x2, x4);
    x4 * x
}

#[inline(always)]
fn mix<const T: usize>(matrix: &Matrix<T>, state: &[Fr; T]) -> [Fr; T] {
    std::array::from_fn(|i| dot::<T>(&matrix[i], state))
}

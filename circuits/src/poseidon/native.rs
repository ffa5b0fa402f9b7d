//! The hash itself, outside a circuit.
//!
//! ```text
//! hash(inputs) → dispatch on N → permute(Fast<N + 1>, [0, inputs…]) → state[0]
//! ```

use ark_bn254::Fr;
use ark_ff::{AdditiveGroup, Field};

use super::parameters::{Fast, MAX_INPUTS, Matrix, Supported, Width};

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
        let matrix = if i + 1 < fast.first.len() {
            &fast.mds
        } else {
            &fast.before_partial
        };
        state = mix(matrix, &state);
    }
    for round in &fast.partial {
        state[0] = sbox(state[0] + round.constant, observer);
        let y = state[0];
        state[0] = dot(&round.row, &state);
        for i in 1..T {
            state[i] += round.column[i] * y;
        }
    }
    for constants in &fast.last[..fast.last.len() - 1] {
        full_sboxes(&mut state, constants, observer);
        state = mix(&fast.mds, &state);
    }
    full_sboxes(&mut state, &fast.last[fast.last.len() - 1], observer);
    dot(&fast.mds[0], &state)
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
    std::array::from_fn(|i| dot(&matrix[i], state))
}

#[inline(always)]
fn dot<const T: usize>(a: &[Fr; T], b: &[Fr; T]) -> Fr {
    Fr::sum_of_products(a, b)
}

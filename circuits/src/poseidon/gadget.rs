//! Poseidon as constraints: three for each S-box, nothing for the linear layers.
//!
//! ```text
//! values: native::hash_observed → x, x², x⁴ of every S-box
//! constraints per S-box: x·x = x²,  x²·x² = x⁴,  x⁴·x = y
//! ```
//!
//! The wires are the S-box *inputs*; the outputs `y` never become wires. Each `y` is instead written as the linear
//! combination of later S-box inputs that it must equal, and that combination stands alone in matrix C. So A and B hold
//! a single entry per row, and C, which a prover never evaluates because c = a∘b, holds the long rows.
//!
//! ```text
//! full round → full round:  y = M⁻¹ (x' − constants)
//! into and through the partial rounds, backwards from the first full round after them:
//!     (y_r, rest) = M⁻¹ · state_{r+1},   state_r = (x_r − constant, rest − constants)
//! last round: y_j is a wire for j ≥ 1 and y_0 = (out − Σ M_0j y_j) / M_00
//! ```
//!
//! # Soundness
//! The map from all `y` to all later S-box inputs and the output is a bijection (it is composed of invertible matrices
//! and of solving the last round for one element), so writing `y` in terms of them loses no equation. In the first
//! round the capacity's S-box is a constant; its equation is used to eliminate the second round's first input, which
//! is the one S-box input that is a combination and not a wire.

use std::sync::LazyLock;

use ark_bn254::Fr;
use ark_ff::{AdditiveGroup, Field};
use ark_r1cs_std::GR1CSVar;
use ark_r1cs_std::fields::fp::{AllocatedFp, FpVar};
use ark_relations::gr1cs::{ConstraintSystemRef, LinearCombination, SynthesisError, Variable};
use ark_relations::ns;

use super::native::{self, Observer};
use super::parameters::{HALF_FULL_ROUNDS, MAX_INPUTS, Plain, Width, invert, partial_rounds};

/// Poseidon of `N` wires, 1 ≤ N ≤ 16: the value and the wire of [`native::hash`].
///
/// Constants, inputs, witnesses and linear combinations are all accepted; if every input is a constant, so is the
/// result, at no cost.
///
/// # Errors
/// Only what the constraint system itself reports.
pub fn hash<const N: usize>(inputs: &[FpVar<Fr>; N]) -> Result<FpVar<Fr>, SynthesisError> {
    const { assert!(N >= 1 && N <= MAX_INPUTS, "Poseidon takes 1 to 16 inputs") };
    let cs = inputs
        .iter()
        .fold(ConstraintSystemRef::None, |cs, input| cs.or(input.cs()));
    let mut trace = Trace::default();
    let mut values = [Fr::ZERO; N];
    let known = read(inputs, &mut values);
    let output = known.then(|| native::hash_observed(&values, &mut trace));
    if let (ConstraintSystemRef::None, Some(output)) = (&cs, output) {
        return Ok(FpVar::Constant(output));
    }
    let trace = known.then_some(&trace);
    macro_rules! dispatch {
        ($($n:literal => $t:literal),*) => {
            match N {
                $($n => permute::<$t>(&cs, inputs, output, trace),)*
                _ => unreachable!("checked at compile time"),
            }
        };
    }
    dispatch!(1 => 2, 2 => 3, 3 => 4, 4 => 5, 5 => 6, 6 => 7, 7 => 8, 8 => 9, 9 => 10, 10 => 11, 11 => 12, 12 => 13,
        13 => 14, 14 => 15, 15 => 16, 16 => 17)
}

/// Allocates the wires of one permutation and constrains them.
fn permute<const T: usize>(
    cs: &ConstraintSystemRef<Fr>,
    inputs: &[FpVar<Fr>],
    output: Option<Fr>,
    trace: Option<&Trace>,
) -> Result<FpVar<Fr>, SynthesisError>
where
    Width<T>: Planned<T>,
{
    let wires = Wires::allocate::<T>(cs, trace)?;
    let out = cs.new_witness_variable(|| output.ok_or(SynthesisError::AssignmentMissing))?;
    if cs.should_construct_matrices() {
        constrain::<T>(cs, inputs, &wires, out)?;
    }
    Ok(FpVar::Var(AllocatedFp::new(output, out, cs.clone())))
}

/// Copies the inputs' values out; false if any has none, as during key generation.
fn read<const N: usize>(inputs: &[FpVar<Fr>; N], values: &mut [Fr; N]) -> bool {
    inputs
        .iter()
        .zip(values)
        .all(|(input, value)| match input.value() {
            Ok(known) => {
                *value = known;
                true
            }
            Err(_) => false,
        })
}

/// All S-boxes of a permutation, the constant one of the capacity included.
const fn sbox_count(width: usize) -> usize {
    2 * HALF_FULL_ROUNDS * width + partial_rounds(width)
}

/// The values of every S-box in the order of computation: `[x, x², x⁴]`.
#[derive(Default)]
struct Trace(Vec<[Fr; 3]>);

impl Observer for Trace {
    #[inline]
    fn sbox(&mut self, x: Fr, x2: Fr, x4: Fr) {
        self.0.push([x, x2, x4]);
    }
}

/// The wires of every S-box in the order of computation; `Variable::Zero` where there is none.
struct Wires {
    /// Input, square and fourth power.
    sboxes: Vec<[Variable; 3]>,
    /// Outputs of the last round's S-boxes but the first.
    last: Vec<Variable>,
}

impl Wires {
    fn allocate<const T: usize>(
        cs: &ConstraintSystemRef<Fr>,
        trace: Option<&Trace>,
    ) -> Result<Self, SynthesisError> {
        let witness = |sbox: usize, part: usize| {
            cs.new_witness_variable(|| {
                trace
                    .map(|trace| trace.0[sbox][part])
                    .ok_or(SynthesisError::AssignmentMissing)
            })
        };
        let count = sbox_count(T);
        let mut sboxes = vec![[Variable::Zero; 3]; count];
        for (k, wires) in sboxes.iter_mut().enumerate().skip(1) {
            if k > T {
                wires[0] = witness(k, 0)?;
            }
            wires[1] = witness(k, 1)?;
            wires[2] = witness(k, 2)?;
        }
        let fifth_power = |sbox: usize| {
            cs.new_witness_variable(|| {
                trace
                    .map(|trace| trace.0[sbox][0] * trace.0[sbox][2])
                    .ok_or(SynthesisError::AssignmentMissing)
            })
        };
        let last = (count - T + 1..count)
            .map(fifth_power)
            .collect::<Result<_, _>>()?;
        Ok(Self { sboxes, last })
    }

    fn row(&self, row: &Row) -> LinearCombination<Fr> {
        let mut terms = Vec::with_capacity(row.terms.len() + 1);
        if row.constant != Fr::ZERO {
            terms.push((row.constant, Variable::One));
        }
        terms.extend(
            row.terms
                .iter()
                .map(|&(coefficient, k)| (coefficient, self.sboxes[k][0])),
        );
        LinearCombination(terms)
    }
}

fn constrain<const T: usize>(
    cs: &ConstraintSystemRef<Fr>,
    inputs: &[FpVar<Fr>],
    wires: &Wires,
    out: Variable,
) -> Result<(), SynthesisError>
where
    Width<T>: Planned<T>,
{
    let namespace = ns!(cs, "poseidon");
    let cs = namespace.cs();
    let plan = Width::<T>::plan();
    let last_round = sbox_count(T) - T;
    for (k, &[x, x2, x4]) in wires.sboxes.iter().enumerate().skip(1) {
        let input = || match k {
            _ if k < T => input_plus_constant(&inputs[k - 1], plan.first[k]),
            _ if k == T => wires.row(&plan.eliminated),
            _ => x.into(),
        };
        let output = || match k.checked_sub(last_round) {
            None => wires.row(&plan.outputs[k]),
            Some(0) => plan.first_of_last_round(&wires.last, out),
            Some(j) => wires.last[j - 1].into(),
        };
        cs.enforce_r1cs_constraint(input, input, || x2.into())?;
        cs.enforce_r1cs_constraint(|| x2.into(), || x2.into(), || x4.into())?;
        cs.enforce_r1cs_constraint(|| x4.into(), input, output)?;
    }
    Ok(())
}

fn input_plus_constant(input: &FpVar<Fr>, constant: Fr) -> LinearCombination<Fr> {
    match input {
        FpVar::Constant(value) => (*value + constant, Variable::One).into(),
        FpVar::Var(wire) => LinearCombination::from_sum_coeff_vars(&[
            (constant, Variable::One),
            (Fr::ONE, wire.variable),
        ]),
    }
}

/// A combination of S-box inputs, by S-box number in ascending order.
#[derive(Clone, Default)]
struct Row {
    constant: Fr,
    terms: Vec<(Fr, usize)>,
}

/// Everything linear about one width, as rows over S-box inputs.
struct Plan<const T: usize> {
    /// Constants of the first round.
    first: [Fr; T],
    /// The second round's first S-box input, which is not a wire.
    eliminated: Row,
    /// Each S-box's output; empty for the capacity's and for the last round's.
    outputs: Vec<Row>,
    /// First row of the dense matrix.
    mds_row: [Fr; T],
}

/// Dense form of a [`Row`] while planning: coefficients by S-box number, then the constant.
type Dense = Vec<Fr>;

impl<const T: usize> Plan<T> {
    fn generate() -> Self {
        let plain = Plain::<T>::generate();
        let inverse = invert(&plain.mds.map(|row| row.to_vec()));
        let rounds = partial_rounds(T);
        let total = 2 * HALF_FULL_ROUNDS + rounds;
        let count = sbox_count(T);
        let first_partial = HALF_FULL_ROUNDS * T;
        let before = |state: &[Dense; T]| -> [Dense; T] {
            std::array::from_fn(|i| {
                (0..=count)
                    .map(|k| (0..T).map(|j| inverse[i][j] * state[j][k]).sum())
                    .collect()
            })
        };
        // The state before the constants of `round` are added, where all of its S-box inputs are wires.
        let full_state = |round: usize| -> [Dense; T] {
            let start = if round < HALF_FULL_ROUNDS {
                round * T
            } else {
                first_partial + rounds + (round - HALF_FULL_ROUNDS - rounds) * T
            };
            std::array::from_fn(|i| {
                let mut row = vec![Fr::ZERO; count + 1];
                row[start + i] = Fr::ONE;
                row[count] = -plain.round_constants[round][i];
                row
            })
        };

        let mut outputs = vec![Row::default(); count];
        for round in 1..HALF_FULL_ROUNDS - 1 {
            for (i, row) in before(&full_state(round + 1)).iter().enumerate() {
                outputs[round * T + i] = sparse(row);
            }
        }
        for round in HALF_FULL_ROUNDS + rounds..total - 1 {
            let start = first_partial + rounds + (round - HALF_FULL_ROUNDS - rounds) * T;
            for (i, row) in before(&full_state(round + 1)).iter().enumerate() {
                outputs[start + i] = sparse(row);
            }
        }
        let mut state = full_state(HALF_FULL_ROUNDS + rounds);
        for r in (0..rounds).rev() {
            state = before(&state);
            outputs[first_partial + r] = sparse(&state[0]);
            for (element, constant) in state
                .iter_mut()
                .zip(&plain.round_constants[HALF_FULL_ROUNDS + r])
            {
                element[count] -= constant;
            }
            state[0] = vec![Fr::ZERO; count + 1];
            state[0][first_partial + r] = Fr::ONE;
            state[0][count] = -plain.round_constants[HALF_FULL_ROUNDS + r][0];
        }
        for (i, row) in before(&state).iter().enumerate() {
            outputs[first_partial - T + i] = sparse(row);
        }

        let mut first_outputs = before(&full_state(1));
        let eliminated = eliminate(&mut first_outputs, T, plain.round_constants[0][0].pow([5]));
        for i in 1..T {
            outputs[i] = sparse(&first_outputs[i]);
        }
        Self {
            first: plain.round_constants[0],
            eliminated: sparse(&eliminated),
            outputs,
            mds_row: plain.mds[0],
        }
    }

    /// `(out − Σ_{j ≥ 1} M_0j · y_j) / M_00`.
    fn first_of_last_round(&self, last: &[Variable], out: Variable) -> LinearCombination<Fr> {
        let scale = self.mds_row[0]
            .inverse()
            .expect("an MDS matrix has no zero entry");
        let others = last
            .iter()
            .zip(&self.mds_row[1..])
            .map(|(&y, &entry)| (-entry * scale, y));
        LinearCombination(others.chain([(scale, out)]).collect())
    }
}

/// Solves `rows[0] = capacity` for S-box `target` and substitutes the solution into all rows.
fn eliminate<const T: usize>(rows: &mut [Dense; T], target: usize, capacity: Fr) -> Dense {
    let mut solution = rows[0].clone();
    let scale = -solution[target]
        .inverse()
        .expect("the inverse of a Cauchy matrix has no zero entry");
    solution[target] = Fr::ZERO;
    *solution.last_mut().expect("the constant is the last entry") -= capacity;
    solution.iter_mut().for_each(|x| *x *= scale);
    for row in rows.iter_mut() {
        let factor = std::mem::replace(&mut row[target], Fr::ZERO);
        row.iter_mut()
            .zip(&solution)
            .for_each(|(x, s)| *x += factor * s);
    }
    solution
}

fn sparse(row: &Dense) -> Row {
    let (constant, terms) = row.split_last().expect("the constant is the last entry");
    Row {
        constant: *constant,
        terms: terms
            .iter()
            .enumerate()
            .filter(|(_, x)| **x != Fr::ZERO)
            .map(|(k, x)| (*x, k))
            .collect(),
    }
}

/// A width whose linear layers have been planned.
trait Planned<const T: usize> {
    fn plan() -> &'static Plan<T>;
}

macro_rules! planned {
    ($($t:literal),*) => {$(
        impl Planned<$t> for Width<$t> {
            fn plan() -> &'static Plan<$t> {
                static PLAN: LazyLock<Plan<$t>> = LazyLock::new(Plan::generate);
                &PLAN
            }
        }
    )*};
}
planned!(2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16, 17);

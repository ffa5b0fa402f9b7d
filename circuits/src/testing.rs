//! Test helpers that look at a synthesized constraint system the way an attacker would.
//!
//! ```text
//! circuit → Statement (matrices + honest assignment + the name of every constraint)
//!   rejected_by / rejections   which named rule fails, for this assignment or a forged one
//!   loose_witnesses            wires that can be changed alone
//!   undetermined               wires that the declared inputs do not fix (Jacobian rank)
//!   nonzeros_per_constraint    how thin the matrices are
//! ```

use std::collections::{BTreeMap, BTreeSet};

use ark_bn254::Fr;
use ark_ff::{AdditiveGroup, Field, PrimeField};
use ark_r1cs_std::boolean::Boolean;
use ark_r1cs_std::fields::fp::FpVar;
use ark_relations::gr1cs::{
    ConstraintLayer, ConstraintSystem, ConstraintSystemRef, ConstraintTrace, Matrix,
    R1CS_PREDICATE_LABEL, SynthesisError, TracingMode, Variable,
};
use proptest::prelude::*;
use tracing_subscriber::layer::SubscriberExt;

/// A constraint system together with an assignment, at first the one an honest prover would give it.
pub struct Statement {
    /// A, B and C.
    matrices: Vec<Matrix<Fr>>,
    /// Instance (with the leading one), then witness.
    assignment: Vec<Fr>,
    instances: usize,
    /// The named scopes of each constraint, outermost first.
    names: Vec<Vec<&'static str>>,
}

impl Statement {
    /// Runs `circuit` once and keeps its constraints, their names and its assignment, and what it returns.
    pub fn synthesize<R>(
        circuit: impl FnOnce(ConstraintSystemRef<Fr>) -> Result<R, SynthesisError>,
    ) -> (Self, R) {
        let subscriber =
            tracing_subscriber::registry().with(ConstraintLayer::new(TracingMode::OnlyConstraints));
        tracing::subscriber::with_default(subscriber, || {
            let cs = ConstraintSystem::new_ref();
            let result = circuit(cs.clone()).expect("synthesis with values must not fail");
            cs.finalize();
            (Self::capture(&cs), result)
        })
    }

    fn capture(cs: &ConstraintSystemRef<Fr>) -> Self {
        let inner = cs
            .borrow()
            .expect("the reference is to a live constraint system");
        let mut matrices = inner.to_matrices().expect("the system was finalized");
        let traces = &inner.predicate_traces[R1CS_PREDICATE_LABEL];
        Self {
            matrices: matrices
                .remove(R1CS_PREDICATE_LABEL)
                .expect("there is an R1CS predicate"),
            assignment: [
                inner.instance_assignment().expect("values are assigned"),
                inner.witness_assignment().expect("values are assigned"),
            ]
            .concat(),
            instances: inner.num_instance_variables(),
            names: traces.iter().map(own_names).collect(),
        }
    }

    /// True if every constraint holds.
    pub fn is_satisfied(&self) -> bool {
        (0..self.num_constraints()).all(|row| self.holds(row))
    }

    /// The number of constraints.
    pub fn num_constraints(&self) -> usize {
        self.matrices[0].len()
    }

    /// The name of the first violated constraint: its innermost scope.
    pub fn rejected_by(&self) -> Option<&'static str> {
        (0..self.num_constraints())
            .find(|&row| !self.holds(row))
            .map(|row| self.name(row))
    }

    /// The names of all violated constraints.
    pub fn rejections(&self) -> BTreeSet<&'static str> {
        (0..self.num_constraints())
            .filter(|&row| !self.holds(row))
            .map(|row| self.name(row))
            .collect()
    }

    /// The rows whose innermost scope has this name.
    pub fn rows_named(&self, name: &str) -> Vec<usize> {
        (0..self.num_constraints())
            .filter(|&row| self.name(row) == name)
            .collect()
    }

    /// Removes a constraint, to see whether anything notices; gives what [`Statement::restore`] puts back.
    pub fn delete(&mut self, row: usize) -> Deleted {
        Deleted(
            row,
            [0, 1, 2].map(|side| std::mem::take(&mut self.matrices[side][row])),
        )
    }

    /// Puts a deleted constraint back.
    pub fn restore(&mut self, Deleted(row, sides): Deleted) {
        for (matrix, entries) in self.matrices.iter_mut().zip(sides) {
            matrix[row] = entries;
        }
    }

    /// How many constraints each innermost scope holds.
    pub fn census(&self) -> BTreeMap<&'static str, usize> {
        let mut census = BTreeMap::new();
        (0..self.num_constraints()).for_each(|row| *census.entry(self.name(row)).or_default() += 1);
        census
    }

    fn name(&self, row: usize) -> &'static str {
        self.names[row]
            .last()
            .copied()
            .unwrap_or("unnamed constraint")
    }

    fn holds(&self, row: usize) -> bool {
        let [a, b, c] = self.sides(row);
        a * b == c
    }

    fn sides(&self, row: usize) -> [Fr; 3] {
        [0, 1, 2].map(|side| {
            self.matrices[side][row]
                .iter()
                .map(|&(c, i)| c * self.assignment[i])
                .sum()
        })
    }

    /// Average number of nonzero entries per row of A, B and C.
    pub fn nonzeros_per_constraint(&self) -> [f64; 3] {
        let rows = self.num_constraints() as f64;
        [0, 1, 2].map(|side| self.matrices[side].iter().map(Vec::len).sum::<usize>() as f64 / rows)
    }

    /// The column of a wire that is a single variable.
    ///
    /// # Panics
    /// If it is a constant or a combination.
    pub fn column(&self, wire: &FpVar<Fr>) -> usize {
        match wire {
            FpVar::Var(wire) => self.variable_column(wire.variable),
            FpVar::Constant(_) => panic!("a constant has no column"),
        }
    }

    /// The column of an allocated boolean.
    ///
    /// # Panics
    /// If it is a constant or a negation.
    pub fn bit_column(&self, bit: &Boolean<Fr>) -> usize {
        match bit {
            Boolean::Var(bit) => self.variable_column(bit.variable()),
            Boolean::Constant(_) => panic!("a constant has no column"),
        }
    }

    fn variable_column(&self, variable: Variable) -> usize {
        variable
            .get_variable_index(self.instances)
            .expect("a combination has no column")
    }

    /// The value in a column.
    pub fn value(&self, column: usize) -> Fr {
        self.assignment[column]
    }

    /// Overwrites the value in a column, as a dishonest prover would.
    pub fn forge(&mut self, column: usize, value: Fr) {
        self.assignment[column] = value;
    }

    /// The columns of all witnesses.
    pub fn witnesses(&self) -> std::ops::Range<usize> {
        self.instances..self.assignment.len()
    }

    /// Recomputes what follows from forged values: every witness column that is neither in `kept` nor an instance and
    /// is the only unknown of some constraint, in which it stands linearly, is solved from it.
    ///
    /// What no constraint gives keeps its old value, so this turns a forged hint into the best cheating assignment
    /// that plain forward computation can reach.
    pub fn repair(&mut self, kept: &[usize]) {
        let mut known = vec![false; self.assignment.len()];
        (0..self.instances)
            .chain(kept.iter().copied())
            .for_each(|column| known[column] = true);
        loop {
            let mut progress = false;
            for row in 0..self.num_constraints() {
                progress |= self.solve_row(row, &mut known);
            }
            if !progress {
                match self.witnesses().find(|&column| !known[column]) {
                    Some(stuck) => known[stuck] = true,
                    None => return,
                }
            }
        }
    }

    fn solve_row(&mut self, row: usize, known: &mut [bool]) -> bool {
        let unknown: BTreeSet<usize> = (0..3)
            .flat_map(|side| self.matrices[side][row].iter().map(|&(_, column)| column))
            .filter(|&column| !known[column])
            .collect();
        let Some(&column) = unknown.first().filter(|_| unknown.len() == 1) else {
            return false;
        };
        self.assignment[column] = Fr::ZERO;
        let rest = self.sides(row);
        let [a, b, c] = [0, 1, 2].map(|side| {
            self.matrices[side][row]
                .iter()
                .filter(|entry| entry.1 == column)
                .map(|entry| entry.0)
                .sum::<Fr>()
        });
        // (rest_a + a·w)(rest_b + b·w) = rest_c + c·w, solvable at once unless the square term is there.
        let slope = rest[0] * b + rest[1] * a - c;
        if a * b == Fr::ZERO
            && let Some(inverse) = slope.inverse()
        {
            self.assignment[column] = (rest[2] - rest[0] * rest[1]) * inverse;
        }
        known[column] = true;
        true
    }

    /// Witness columns that can be changed alone without breaking any constraint.
    ///
    /// An empty answer is a floor, not a proof of soundness: it cannot see two witnesses that move together, such as
    /// a second bit decomposition of the same field element.
    pub fn loose_witnesses(&self) -> Vec<usize> {
        let mut columns = vec![Vec::new(); self.assignment.len()];
        for row in 0..self.num_constraints() {
            for side in 0..3 {
                self.matrices[side][row]
                    .iter()
                    .for_each(|&(c, column)| columns[column].push((row, side, c)));
            }
        }
        columns
            .iter_mut()
            .for_each(|column| column.sort_unstable_by_key(|entry| entry.0));
        let values: Vec<[Fr; 3]> = (0..self.num_constraints())
            .map(|row| self.sides(row))
            .collect();
        // One up and one down, because a bit has exactly one other value; and one far away.
        let shifts = [Fr::ONE, -Fr::ONE, Fr::from(0xdead_beef_u64)];
        let survives = |column: &[(usize, usize, Fr)], shift: Fr| {
            column.chunk_by(|x, y| x.0 == y.0).all(|entries| {
                let mut v = values[entries[0].0];
                entries
                    .iter()
                    .for_each(|&(_, side, c)| v[side] += c * shift);
                v[0] * v[1] == v[2]
            })
        };
        self.witnesses()
            .filter(|&w| shifts.iter().any(|&shift| survives(&columns[w], shift)))
            .collect()
    }

    /// Witness columns that remain free, to first order, once the instance and the `declared` columns are fixed.
    ///
    /// Linearises every A·B = C at the assignment and eliminates modulo the field. Empty means that the Jacobian has
    /// full column rank: no witness can move continuously, alone or together with others. Discrete freedom (a second
    /// bit decomposition, the sign of a root) is invisible to it and needs a forged witness instead.
    pub fn undetermined(&self, declared: &[usize]) -> Vec<usize> {
        let mut fixed: BTreeSet<usize> = (0..self.instances).collect();
        fixed.extend(declared);
        let rows = (0..self.num_constraints())
            .map(|row| self.gradient(row, &fixed))
            .collect();
        let mut elimination = Elimination::new(rows, self.assignment.len());
        elimination.run();
        self.witnesses()
            .filter(|column| !fixed.contains(column) && !elimination.is_settled(*column))
            .collect()
    }

    /// d(A·B − C) of one row over the columns that are not fixed.
    fn gradient(&self, row: usize, fixed: &BTreeSet<usize>) -> SparseRow {
        let [a, b, _] = self.sides(row);
        let mut gradient = SparseRow::new();
        for (side, factor) in [b, a, -Fr::ONE].into_iter().enumerate() {
            for &(coefficient, column) in &self.matrices[side][row] {
                if !fixed.contains(&column) {
                    *gradient.entry(column).or_insert(Fr::ZERO) += coefficient * factor;
                }
            }
        }
        gradient.retain(|_, value| *value != Fr::ZERO);
        gradient
    }
}

/// A constraint taken out of a [`Statement`].
pub struct Deleted(usize, [Vec<(Fr, usize)>; 3]);

/// Names of the scopes that this crate opened, outermost first; scopes of the libraries below are left out.
fn own_names(trace: &Option<ConstraintTrace>) -> Vec<&'static str> {
    let steps = trace
        .as_ref()
        .map(ConstraintTrace::path)
        .unwrap_or_default();
    steps
        .iter()
        .filter(|step| step.module_path.starts_with("millrace"))
        .map(|step| step.name)
        .collect()
}

/// Column → coefficient, without zeros.
type SparseRow = BTreeMap<usize, Fr>;

/// Rank of a sparse homogeneous system by elimination in row order.
///
/// A row with a single column forces that column to zero, which then vanishes from every other row; most of a circuit
/// falls to this alone, in synthesis order. What remains are small dense blocks, such as one hash, in which a row is
/// reduced by the pivots so far and its last column becomes a pivot.
struct Elimination {
    rows: Vec<SparseRow>,
    /// Rows in which a column may occur.
    occurrences: Vec<Vec<usize>>,
    /// The row that defines a column in terms of others.
    pivot: Vec<Option<usize>>,
    zero: Vec<bool>,
}

impl Elimination {
    fn new(rows: Vec<SparseRow>, columns: usize) -> Self {
        let mut occurrences = vec![Vec::new(); columns];
        for (index, row) in rows.iter().enumerate() {
            row.keys()
                .for_each(|&column| occurrences[column].push(index));
        }
        Self {
            rows,
            occurrences,
            pivot: vec![None; columns],
            zero: vec![false; columns],
        }
    }

    fn is_settled(&self, column: usize) -> bool {
        self.zero[column] || self.pivot[column].is_some()
    }

    fn run(&mut self) {
        for row in 0..self.rows.len() {
            self.settle_single(row);
        }
        for row in 0..self.rows.len() {
            self.reduce(row);
            if self.rows[row].len() > 1 && !self.is_pivot_row(row) {
                let (&column, _) = self.rows[row]
                    .last_key_value()
                    .expect("the row has entries");
                self.pivot[column] = Some(row);
            }
            self.settle_single(row);
        }
    }

    fn is_pivot_row(&self, row: usize) -> bool {
        self.rows[row]
            .keys()
            .any(|&column| self.pivot[column] == Some(row))
    }

    /// If the row says that one column is zero, removes that column everywhere and follows the consequences.
    fn settle_single(&mut self, row: usize) {
        let mut queue = vec![row];
        while let Some(row) = queue.pop() {
            if self.rows[row].len() != 1 {
                continue;
            }
            let (column, _) = self.rows[row].pop_first().expect("the row has one entry");
            self.zero[column] = true;
            self.pivot[column] = None;
            for other in std::mem::take(&mut self.occurrences[column]) {
                self.rows[other].remove(&column);
                if self.rows[other].len() == 1 {
                    queue.push(other);
                }
            }
        }
    }

    /// Subtracts pivot rows until the row holds no pivot column.
    fn reduce(&mut self, row: usize) {
        if self.is_pivot_row(row) {
            return;
        }
        let mut current = std::mem::take(&mut self.rows[row]);
        // Highest column first: a pivot is the highest column of its row, so nothing comes back.
        let mut bound = usize::MAX;
        while let Some((&column, &value)) = current.range(..bound).next_back() {
            bound = column;
            let Some(pivot_row) = self.pivot[column] else {
                continue;
            };
            let pivot = &self.rows[pivot_row];
            let factor = value * pivot[&column].inverse().expect("entries are not zero");
            for (&other, coefficient) in pivot {
                let entry = current.entry(other).or_insert_with(|| {
                    self.occurrences[other].push(row);
                    Fr::ZERO
                });
                *entry -= factor * coefficient;
                if *entry == Fr::ZERO {
                    current.remove(&other);
                }
            }
        }
        self.rows[row] = current;
    }
}

/// The name of the rule that rejects this circuit's own assignment, if any.
pub fn rejected_by<R>(
    circuit: impl FnOnce(ConstraintSystemRef<Fr>) -> Result<R, SynthesisError>,
) -> Option<&'static str> {
    Statement::synthesize(circuit).0.rejected_by()
}

/// The ways in which an operand can reach a gadget.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Operand {
    /// Known when the circuit is built.
    Constant,
    /// A public input.
    Input,
    /// A private wire.
    Witness,
    /// A sum of two private wires.
    Combination,
}

impl Operand {
    /// All of them.
    pub const ALL: [Self; 4] = [
        Self::Constant,
        Self::Input,
        Self::Witness,
        Self::Combination,
    ];

    /// A wire of this kind that holds `value`.
    pub fn wire(
        self,
        cs: &ConstraintSystemRef<Fr>,
        value: Fr,
    ) -> Result<FpVar<Fr>, SynthesisError> {
        use ark_r1cs_std::alloc::AllocVar;
        match self {
            Self::Constant => Ok(FpVar::Constant(value)),
            Self::Input => FpVar::new_input(cs.clone(), || Ok(value)),
            Self::Witness => FpVar::new_witness(cs.clone(), || Ok(value)),
            Self::Combination => {
                let part = FpVar::new_witness(cs.clone(), || Ok(value - Fr::from(7u64)))?;
                Ok(part + FpVar::new_witness(cs.clone(), || Ok(Fr::from(7u64)))?)
            }
        }
    }
}

/// Field elements, the edges of the range among them.
pub fn arb_field() -> impl Strategy<Value = Fr> {
    prop_oneof![
        1 => Just(Fr::ZERO),
        1 => Just(Fr::ONE),
        1 => Just(-Fr::ONE),
        1 => any::<u64>().prop_map(Fr::from),
        6 => any::<[u8; 64]>().prop_map(|bytes| Fr::from_le_bytes_mod_order(&bytes)),
    ]
}

/// A file of test vectors from the JavaScript libraries.
pub fn vectors(text: &str) -> serde_json::Value {
    serde_json::from_str(text).expect("vectors are JSON")
}

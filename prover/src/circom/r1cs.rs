//! `.r1cs` files: a circuit's constraints, to check witnesses and keys against before anything is proved.
//!
//! .r1cs → [`R1cs`] → [`R1cs::check_key`], [`R1cs::check_witness`] (which constraint fails);   our matrices → .r1cs
//!
//! | section | content |
//! |---|---|
//! | 1 | width and modulus of the field; values, public outputs, public inputs, private inputs; labels (64 bits); constraints |
//! | 2 | for each constraint A, B and C: number of terms; value's number, coefficient |
//! | 3 | label of each value (64 bits) |
//!
//! Coefficients are plain integers. Value 0 is one, then come the public values, outputs first.
//!
//! Memory is bounded by the file's length: whatever a count says, it is held against the bytes that are there first.

use super::{CircomError, CircomKey, Cursor, Sections, WIDTH, binary_file, plain_bytes, put_field};
use crate::circuit::Assignment;
use crate::groth16::KeyParts;
use crate::matrices::{ConstraintMatrices, montgomery_limbs};
use ark_bn254::Fr;
use ark_ff::{BigInt, PrimeField};
use ark_relations::gr1cs::Matrix;
use std::path::Path;

/// Bytes of a term: the value's number and the coefficient.
const TERM: usize = 4 + WIDTH as usize;
/// Bytes of a constraint without terms: three numbers of terms.
const LEAST: u64 = 3 * 4;

/// A circuit's constraints.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct R1cs {
    /// A, B and C.
    pub matrices: ConstraintMatrices,
}

impl R1cs {
    /// Reads a file.
    ///
    /// # Errors
    /// If the file cannot be read or holds no constraints over BN254's scalar field.
    pub fn read(path: &Path) -> Result<Self, CircomError> {
        let sections = Sections::open(path, "r1cs", 1)?;
        let header = sections.section(1, None)?;
        let mut header = sections.cursor(1, &header);
        header.expect_field::<Fr>("the field")?;
        let [values, outputs, inputs, private] =
            [header.u32()?, header.u32()?, header.u32()?, header.u32()?];
        let _labels = header.take(8)?;
        let constraints = header.u32()?;
        let public = 1 + u64::from(outputs) + u64::from(inputs);
        if public + u64::from(private) > u64::from(values) {
            let what = format!("{public} public and {private} private inputs of {values} values");
            return Err(header.invalid(what));
        }
        sections.section(3, Some(u64::from(values) * 8))?;
        let bytes = sections.section(2, None)?;
        let mut cursor = sections.cursor(2, &bytes);
        if u64::from(constraints) * LEAST > bytes.len() as u64 {
            return Err(cursor.invalid(format!("{constraints} constraints do not fit the section")));
        }
        let mut rows: [Matrix<Fr>; 3] = [(); 3].map(|()| Vec::with_capacity(constraints as usize));
        for _ in 0..constraints {
            for matrix in &mut rows {
                matrix.push(read_terms(&mut cursor, values)?);
            }
        }
        cursor.end()?;
        let witnesses = u64::from(values) - public;
        let matrices =
            ConstraintMatrices::of_rows(rows.into(), public as usize, witnesses as usize)?;
        Ok(Self { matrices })
    }

    /// Whether a key is of a circuit with these counts, and with these A and B.
    ///
    /// # Errors
    /// Naming what differs.
    pub fn check_key(&self, key: &CircomKey) -> Result<(), CircomError> {
        let (ours, theirs) = (&self.matrices, key.matrices());
        same(
            "constraints",
            "key",
            ours.constraints(),
            theirs.constraints(),
        )?;
        same("values", "key", ours.variables(), theirs.variables())?;
        same("public values", "key", ours.inputs, theirs.inputs)?;
        for (matrix, what) in ["rows of A like the key's", "rows of B like the key's"]
            .into_iter()
            .enumerate()
        {
            let all = ours.constraints();
            let equal = (0..all)
                .filter(|row| self.same_row(theirs, matrix, *row))
                .count();
            same(what, "key", all, equal)?;
        }
        Ok(())
    }

    fn same_row(&self, other: &ConstraintMatrices, matrix: usize, row: usize) -> bool {
        let terms = |matrices: &ConstraintMatrices| -> Vec<(usize, Fr)> {
            let terms = matrices.matrices[matrix].row(row);
            terms
                .map(|(column, value)| (column, matrices.coefficients[value]))
                .collect()
        };
        terms(&self.matrices) == terms(other)
    }

    /// Whether a witness satisfies every constraint.
    ///
    /// # Errors
    /// If it has another number of values, or naming the first constraint that it breaks.
    pub fn check_witness(&self, witness: &Assignment) -> Result<(), CircomError> {
        let (matrices, values) = (&self.matrices, witness.values());
        same("values", "witness", matrices.variables(), values.len())?;
        match matrices.first_unsatisfied(values) {
            None => Ok(()),
            Some(constraint) => Err(CircomError::Broken {
                constraint,
                constraints: matrices.constraints(),
            }),
        }
    }
}

fn same(
    what: &'static str,
    other: &'static str,
    expected: usize,
    actual: usize,
) -> Result<(), CircomError> {
    if expected == actual {
        return Ok(());
    }
    Err(CircomError::OtherCircuit {
        what,
        other,
        expected,
        actual,
    })
}

fn read_terms(cursor: &mut Cursor, values: u32) -> Result<Vec<(Fr, usize)>, CircomError> {
    let count = cursor.u32()? as usize;
    if count > cursor.left() / TERM {
        return Err(cursor.invalid(format!("{count} terms do not fit the section")));
    }
    let mut terms = Vec::with_capacity(count);
    for _ in 0..count {
        let column = cursor.u32()?;
        if column >= values {
            return Err(cursor.invalid(format!("value {column} of {values}")));
        }
        let coefficient = BigInt(montgomery_limbs(cursor.take(WIDTH as usize)?));
        let coefficient = Fr::from_bigint(coefficient)
            .ok_or_else(|| cursor.invalid("a coefficient is not below the modulus"))?;
        terms.push((coefficient, column as usize));
    }
    Ok(terms)
}

/// A circuit as an `.r1cs` file: constraints, and a map of labels that names each value by its place.
pub fn r1cs_bytes(matrices: &ConstraintMatrices) -> Vec<u8> {
    let (variables, inputs) = (matrices.variables() as u32, matrices.inputs as u32 - 1);
    let mut header = vec![];
    put_field::<Fr>(&mut header);
    // Variables; public outputs, public inputs, private inputs: of ours, all public values are inputs.
    for number in [variables, 0, inputs, 0] {
        header.extend(number.to_le_bytes());
    }
    header.extend(u64::from(variables).to_le_bytes());
    header.extend((matrices.constraints() as u32).to_le_bytes());
    let values: Vec<[u8; 32]> = matrices.coefficients.iter().map(plain_bytes).collect();
    let mut constraints = vec![];
    for row in 0..matrices.constraints() {
        for matrix in &matrices.matrices {
            constraints.extend((matrix.row(row).count() as u32).to_le_bytes());
            for (column, value) in matrix.row(row) {
                constraints.extend((column as u32).to_le_bytes());
                constraints.extend(values[value]);
            }
        }
    }
    let labels = (0..u64::from(variables))
        .flat_map(u64::to_le_bytes)
        .collect();
    binary_file(b"r1cs", 1, &[(1, header), (2, constraints), (3, labels)])
}

#[cfg(test)]
mod tests;

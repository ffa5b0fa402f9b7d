//! circom's circuits: `.zkey` and `.wtns` files in, a verified proof out; and our own keys and witnesses as such files.
//! Constraints (`.r1cs`) are in [`r1cs`].
//!
//! ```text
//! .zkey → CircomKey ┐
//! .wtns → Assignment┴→ fast backend → own verification → proof     our key → .zkey, our assignment → .wtns
//! ```
//!
//! Both formats are a magic word, a version and numbered sections; integers are little-endian, 32 bits unless said.
//!
//! | zkey section | content |
//! |---|---|
//! | 1 | 1 for Groth16 |
//! | 2 | width and modulus of both fields; variables, public inputs, domain; α1, β1, β2, γ2, δ1, δ2 |
//! | 3, 5, 6, 7, 8, 9 | points: IC, A, B1, B2, L, H on the odd coset |
//! | 4 | number of coefficients; matrix, row, column, value times 2^512 |
//!
//! Points are in Montgomery form, zeros are infinity. A's last rows pick the constant and the public inputs. A witness file
//! has the modulus and the number of values in section 1 and the values, as plain integers, in section 2.
//!
//! Whoever made a key can forge proofs with it and learn from proofs made with it: a key is as good as its ceremony. Points
//! are checked to be on their curves, which is what the arithmetic relies on.

use crate::circuit::Assignment;
use crate::fast::Fast;
use crate::groth16::{
    Backend, BackendError, KeyParts, PreparedKey, ProvingKey, Verifier, VerifyingKey,
};
use crate::matrices::{ConstraintMatrices, MatricesError, montgomery_bytes, montgomery_limbs};
use crate::proof::Proof;
use ark_bn254::{Fq, Fq2, Fr, G1Affine, G2Affine};
use ark_ec::AffineRepr;
use ark_ff::{BigInt, BigInteger, One, PrimeField, Zero};
use rayon::prelude::*;
use std::collections::BTreeMap;
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use thiserror::Error;
use zeroize::Zeroizing;

pub mod r1cs;

pub use r1cs::{R1cs, r1cs_bytes};

/// Sections at most: more is no file of circom's.
const MAX_SECTIONS: u32 = 64;
/// Bytes of a field element.
const WIDTH: u32 = 32;

/// Why a file is not used, or there is no proof.
#[derive(Debug, Error)]
pub enum CircomError {
    /// The operating system failed.
    #[error("{path}: {source}")]
    Io {
        /// The file.
        path: PathBuf,
        /// What failed.
        source: io::Error,
    },
    /// Another kind of file, or version.
    #[error("{path} is no {kind} file of version {version}")]
    OtherFile {
        /// The file.
        path: PathBuf,
        /// The kind expected.
        kind: &'static str,
        /// The version expected.
        version: u32,
    },
    /// The content is wrong.
    #[error("{path}: section {section}, offset {offset}: {what}")]
    Invalid {
        /// The file.
        path: PathBuf,
        /// The section's number; 0 before the first.
        section: u32,
        /// Where in the file, in bytes.
        offset: u64,
        /// What is wrong.
        what: String,
    },
    /// The matrices are too large.
    #[error(transparent)]
    Matrices(#[from] MatricesError),
    /// The backend failed, or the witness is of another circuit.
    #[error(transparent)]
    Backend(#[from] BackendError),
    /// The constraints are of another circuit than the key or the witness.
    #[error(
        "the constraints are of another circuit: they have {expected} {what}, the {other} has {actual}"
    )]
    OtherCircuit {
        /// What differs.
        what: &'static str,
        /// What does not fit the constraints.
        other: &'static str,
        /// What the constraints have.
        expected: usize,
        /// What the other has.
        actual: usize,
    },
    /// A constraint that the witness breaks.
    #[error("the witness breaks constraint {constraint} of {constraints}, counted from 0")]
    Broken {
        /// Its number.
        constraint: usize,
        /// How many there are.
        constraints: usize,
    },
    /// The proof does not verify.
    #[error(
        "the witness does not satisfy the circuit, or the key is damaged: the proof does not verify"
    )]
    Unsatisfied,
}

/// A circuit's key from a `.zkey` file. Its third matrix is empty: no prover needs it.
pub struct CircomKey {
    matrices: ConstraintMatrices,
    proving_key: ProvingKey,
}

impl KeyParts for CircomKey {
    fn matrices(&self) -> &ConstraintMatrices {
        &self.matrices
    }

    fn proving_key(&self) -> &ProvingKey {
        &self.proving_key
    }
}

/// Proves with one `.zkey` file.
pub struct CircomProver {
    key: Arc<CircomKey>,
    prepared: Box<dyn PreparedKey>,
    verifier: Verifier,
}

impl CircomProver {
    /// Reads and prepares a key.
    ///
    /// # Errors
    /// If the file cannot be read or is no Groth16 key over BN254.
    pub fn open(zkey: &Path) -> Result<Self, CircomError> {
        let key = Arc::new(read_zkey(zkey)?);
        Ok(Self {
            prepared: Fast::detect().prepare_parts(key.clone()),
            verifier: Verifier::new(&key.proving_key.vk),
            key,
        })
    }

    /// The verifying key.
    pub fn verifying_key(&self) -> &VerifyingKey {
        &self.key.proving_key.vk
    }

    /// Number of constraints.
    pub fn constraints(&self) -> usize {
        self.key.matrices.constraints()
    }

    /// Whether the key is of the circuit with these constraints.
    ///
    /// # Errors
    /// Naming what differs.
    pub fn check_circuit(&self, constraints: &R1cs) -> Result<(), CircomError> {
        constraints.check_key(&self.key)
    }

    /// Reads a witness of this key's circuit.
    ///
    /// # Errors
    /// If the file cannot be read, is no witness over BN254's scalar field, or has another number of values.
    pub fn read_witness(&self, wtns: &Path) -> Result<Assignment, CircomError> {
        read_wtns(wtns, self.key.matrices.inputs)
    }

    /// Proves and verifies the proof.
    ///
    /// # Errors
    /// If the witness is of another circuit or does not satisfy this one.
    pub fn prove(&self, witness: &Assignment) -> Result<Proof, CircomError> {
        let proof = self.prepared.prove(witness)?;
        if self.verifier.accepts(&proof, witness.public_inputs()) {
            Ok(proof)
        } else {
            Err(CircomError::Unsatisfied)
        }
    }
}

// ---------------------------------------------------------------------------------------------------------- reading

/// A file's sections.
pub(crate) struct Sections {
    path: PathBuf,
    file: File,
    /// Start and length of each.
    places: BTreeMap<u32, (u64, u64)>,
}

/// What is left of a section.
pub(crate) struct Cursor<'a> {
    sections: &'a Sections,
    section: u32,
    bytes: &'a [u8],
    taken: usize,
}

impl Sections {
    pub(crate) fn open(path: &Path, kind: &'static str, version: u32) -> Result<Self, CircomError> {
        let io = |source| CircomError::Io {
            path: path.to_owned(),
            source,
        };
        let file = File::open(path).map_err(io)?;
        let length = file.metadata().map_err(io)?.len();
        let mut sections = Self {
            path: path.to_owned(),
            file,
            places: BTreeMap::new(),
        };
        let mut start = [0; 12];
        if length >= 12 {
            sections.read(&mut start, 0)?;
        }
        if start[..4] != *kind.as_bytes() || number(&start[4..8]) != u64::from(version) {
            let path = path.to_owned();
            return Err(CircomError::OtherFile {
                path,
                kind,
                version,
            });
        }
        let count = number(&start[8..]);
        if count > u64::from(MAX_SECTIONS) {
            return Err(sections.invalid(0, 8, format!("{count} sections are too many")));
        }
        let mut offset = 12;
        for _ in 0..count {
            let mut header = [0; 12];
            if offset + 12 > length {
                return Err(sections.invalid(0, offset, "the file ends before its sections"));
            }
            sections.read(&mut header, offset)?;
            let (id, bytes) = (number(&header[..4]) as u32, number(&header[4..]));
            offset += 12;
            if bytes > length - offset {
                let what = format!(
                    "the section has {bytes} bytes, the file {} more",
                    length - offset
                );
                return Err(sections.invalid(id, offset, what));
            }
            if sections.places.insert(id, (offset, bytes)).is_some() {
                return Err(sections.invalid(id, offset, "the section is there twice"));
            }
            offset += bytes;
        }
        Ok(sections)
    }

    fn read(&self, bytes: &mut [u8], offset: u64) -> Result<(), CircomError> {
        let result = self.file.read_exact_at(bytes, offset);
        result.map_err(|source| CircomError::Io {
            path: self.path.clone(),
            source,
        })
    }

    pub(crate) fn invalid(
        &self,
        section: u32,
        offset: u64,
        what: impl Into<String>,
    ) -> CircomError {
        CircomError::Invalid {
            path: self.path.clone(),
            section,
            offset,
            what: what.into(),
        }
    }

    /// A section's content, of the stated length if there is one.
    pub(crate) fn section(
        &self,
        id: u32,
        length: Option<u64>,
    ) -> Result<Zeroizing<Vec<u8>>, CircomError> {
        let place = self.places.get(&id);
        let (start, actual) = place.ok_or_else(|| self.invalid(id, 0, "the section is missing"))?;
        if let Some(length) = length.filter(|length| length != actual) {
            let what = format!("the section has {actual} bytes and should have {length}");
            return Err(self.invalid(id, *start, what));
        }
        let mut bytes = Zeroizing::new(vec![0; *actual as usize]);
        self.read(&mut bytes, *start)?;
        Ok(bytes)
    }

    /// Bytes of a section.
    pub(crate) fn length(&self, id: u32) -> Option<u64> {
        self.places.get(&id).map(|place| place.1)
    }

    /// Values of a section from a position on.
    pub(crate) fn part<P: Send>(
        &self,
        id: u32,
        first: usize,
        count: usize,
        width: usize,
        value: impl Fn(&[u8]) -> Option<P> + Sync,
    ) -> Result<Vec<P>, CircomError> {
        let place = self.places.get(&id);
        let (start, length) =
            *place.ok_or_else(|| self.invalid(id, 0, "the section is missing"))?;
        let [from, bytes] = [first, count].map(|number| number as u64 * width as u64);
        if from + bytes > length {
            let what = format!("the section has {length} bytes and needs {}", from + bytes);
            return Err(self.invalid(id, start, what));
        }
        let mut content = vec![0; bytes as usize];
        self.read(&mut content, start + from)?;
        let values = content.par_chunks_exact(width).enumerate();
        values
            .map(|(place, bytes)| {
                let offset = start + from + (place * width) as u64;
                value(bytes).ok_or_else(|| self.invalid(id, offset, "not a point of its curve"))
            })
            .collect()
    }

    pub(crate) fn cursor<'a>(&'a self, section: u32, bytes: &'a [u8]) -> Cursor<'a> {
        Cursor {
            sections: self,
            section,
            bytes,
            taken: 0,
        }
    }
}

fn number(bytes: &[u8]) -> u64 {
    let digits = bytes.iter().rev();
    digits.fold(0, |sum, byte| sum << 8 | u64::from(*byte))
}

impl<'a> Cursor<'a> {
    pub(crate) fn invalid(&self, what: impl Into<String>) -> CircomError {
        let start = self.sections.places.get(&self.section).map_or(0, |p| p.0);
        self.sections
            .invalid(self.section, start + self.taken as u64, what)
    }

    pub(crate) fn take(&mut self, length: usize) -> Result<&'a [u8], CircomError> {
        let rest = &self.bytes[self.taken..];
        if rest.len() < length {
            return Err(self.invalid("the section ends too early"));
        }
        self.taken += length;
        Ok(&rest[..length])
    }

    /// Bytes not taken yet.
    fn left(&self) -> usize {
        self.bytes.len() - self.taken
    }

    /// Nothing may be left.
    fn end(&self) -> Result<(), CircomError> {
        match self.left() {
            0 => Ok(()),
            left => Err(self.invalid(format!("{left} bytes too many"))),
        }
    }

    pub(crate) fn u32(&mut self) -> Result<u32, CircomError> {
        Ok(number(self.take(4)?) as u32)
    }

    /// A field's width and modulus.
    pub(crate) fn expect_field<F: PrimeField>(&mut self, name: &str) -> Result<(), CircomError> {
        let width = self.u32()?;
        if width != WIDTH || *self.take(WIDTH as usize)? != F::MODULUS.to_bytes_le()[..] {
            return Err(self.invalid(format!("{name} is not BN254's")));
        }
        Ok(())
    }

    pub(crate) fn g1(&mut self) -> Result<G1Affine, CircomError> {
        let bytes = self.take(64)?;
        point_g1(bytes).ok_or_else(|| self.invalid("not a point of G1"))
    }

    pub(crate) fn g2(&mut self) -> Result<G2Affine, CircomError> {
        let bytes = self.take(128)?;
        point_g2(bytes).ok_or_else(|| self.invalid("not a point of G2's curve"))
    }
}

fn coordinate(bytes: &[u8]) -> Option<Fq> {
    let limbs = BigInt(montgomery_limbs(bytes));
    (limbs < Fq::MODULUS).then(|| Fq::new_unchecked(limbs))
}

pub(crate) fn point_g1(bytes: &[u8]) -> Option<G1Affine> {
    let (x, y) = (coordinate(&bytes[..32])?, coordinate(&bytes[32..])?);
    if x.is_zero() && y.is_zero() {
        return Some(G1Affine::zero());
    }
    let point = G1Affine::new_unchecked(x, y);
    point.is_on_curve().then_some(point)
}

pub(crate) fn point_g2(bytes: &[u8]) -> Option<G2Affine> {
    let pair = |bytes: &[u8]| {
        Some(Fq2::new(
            coordinate(&bytes[..32])?,
            coordinate(&bytes[32..])?,
        ))
    };
    let (x, y) = (pair(&bytes[..64])?, pair(&bytes[64..])?);
    if x.is_zero() && y.is_zero() {
        return Some(G2Affine::zero());
    }
    let point = G2Affine::new_unchecked(x, y);
    point.is_on_curve().then_some(point)
}

/// Counts of a key.
struct Counts {
    variables: usize,
    inputs: usize,
    domain: usize,
}

/// Reads a `.zkey` file.
///
/// # Errors
/// If the file cannot be read or is no Groth16 key over BN254.
pub fn read_zkey(path: &Path) -> Result<CircomKey, CircomError> {
    let sections = Sections::open(path, "zkey", 1)?;
    let protocol = sections.section(1, Some(4))?;
    if number(&protocol) != 1 {
        return Err(sections.invalid(1, 0, "the proof system is not Groth16"));
    }
    let header = sections.section(2, None)?;
    let mut header = sections.cursor(2, &header);
    let counts = read_counts(&mut header)?;
    let alpha_g1 = header.g1()?;
    let beta_g1 = header.g1()?;
    let (beta_g2, gamma_g2) = (header.g2()?, header.g2()?);
    let (delta_g1, delta_g2) = (header.g1()?, header.g2()?);
    let g1 = |id, count| points(&sections, id, count, 64, point_g1);
    let witnesses = counts.variables - counts.inputs;
    let proving_key = ProvingKey {
        vk: VerifyingKey {
            alpha_g1,
            beta_g2,
            gamma_g2,
            delta_g2,
            gamma_abc_g1: g1(3, counts.inputs)?,
        },
        beta_g1,
        delta_g1,
        a_query: g1(5, counts.variables)?,
        b_g1_query: g1(6, counts.variables)?,
        b_g2_query: points(&sections, 7, counts.variables, 128, point_g2)?,
        l_query: g1(8, witnesses)?,
        h_query: g1(9, counts.domain)?,
    };
    Ok(CircomKey {
        matrices: read_matrices(&sections, &counts)?,
        proving_key,
    })
}

fn read_counts(header: &mut Cursor) -> Result<Counts, CircomError> {
    header.expect_field::<Fq>("the base field")?;
    header.expect_field::<Fr>("the scalar field")?;
    let [variables, inputs, domain] = [header.u32()?, header.u32()?, header.u32()?];
    let inputs = u64::from(inputs) + 1;
    if inputs > u64::from(variables) {
        return Err(header.invalid(format!("{inputs} inputs of {variables} variables")));
    }
    if !domain.is_power_of_two() {
        return Err(header.invalid(format!("a domain of {domain} points")));
    }
    Ok(Counts {
        variables: variables as usize,
        inputs: inputs as usize,
        domain: domain as usize,
    })
}

pub(crate) fn points<P: Send>(
    sections: &Sections,
    id: u32,
    count: usize,
    width: usize,
    point: impl Fn(&[u8]) -> Option<P> + Sync,
) -> Result<Vec<P>, CircomError> {
    let bytes = sections.section(id, Some(count as u64 * width as u64))?;
    let points = bytes.par_chunks_exact(width).enumerate();
    points
        .map(|(place, bytes)| {
            let mut cursor = sections.cursor(id, &[]);
            cursor.taken = place * width;
            point(bytes).ok_or_else(|| cursor.invalid("not a point of its curve"))
        })
        .collect()
}

fn read_matrices(sections: &Sections, counts: &Counts) -> Result<ConstraintMatrices, CircomError> {
    const ENTRY: usize = 12 + WIDTH as usize;
    let bytes = sections.section(4, None)?;
    let mut cursor = sections.cursor(4, &bytes);
    let entries = cursor.u32()? as usize;
    if bytes.len() as u64 != 4 + entries as u64 * ENTRY as u64 {
        return Err(cursor.invalid(format!("{entries} coefficients do not fill the section")));
    }
    let mut matrices = [vec![], vec![]];
    for _ in 0..entries {
        let [matrix, row, column] = [cursor.u32()?, cursor.u32()?, cursor.u32()?];
        let (row, column) = (row as usize, column as usize);
        let value = BigInt(montgomery_limbs(cursor.take(WIDTH as usize)?));
        if matrix > 1 || row >= counts.domain || column >= counts.variables || value >= Fr::MODULUS
        {
            let what = format!("no coefficient: matrix {matrix}, row {row}, column {column}");
            return Err(cursor.invalid(what));
        }
        let rows: &mut Vec<Vec<(Fr, usize)>> = &mut matrices[matrix as usize];
        if rows.len() <= row {
            rows.resize(row + 1, vec![]);
        }
        // Times 2^512 as an integer is times 2^256 in Montgomery form.
        let value = Fr::new_unchecked(Fr::new_unchecked(value).into_bigint());
        rows[row].push((value, column));
    }
    let [mut a, mut b] = matrices;
    // The rows that pick the inputs are the prover's own business.
    let constraints = a.len().saturating_sub(counts.inputs);
    let picks = |(input, row): (usize, &Vec<(Fr, usize)>)| *row == [(Fr::one(), input)];
    let picked = a.len() >= counts.inputs && a[constraints..].iter().enumerate().all(picks);
    if !picked || b.len() > constraints {
        return Err(cursor.invalid("the last rows of A do not pick the public inputs"));
    }
    if (constraints + counts.inputs).next_power_of_two() != counts.domain {
        let domain = counts.domain;
        return Err(cursor.invalid(format!("{constraints} constraints in a domain of {domain}")));
    }
    a.truncate(constraints);
    b.resize(constraints, vec![]);
    let witnesses = counts.variables - counts.inputs;
    Ok(ConstraintMatrices::of_rows(
        vec![a, b],
        counts.inputs,
        witnesses,
    )?)
}

/// Reads a `.wtns` file of a circuit with so many inputs, the constant included.
///
/// # Errors
/// If the file cannot be read, is no witness over BN254's scalar field, or has fewer values than inputs.
pub fn read_wtns(path: &Path, inputs: usize) -> Result<Assignment, CircomError> {
    let sections = Sections::open(path, "wtns", 2)?;
    let header = sections.section(1, None)?;
    let mut header = sections.cursor(1, &header);
    header.expect_field::<Fr>("the field")?;
    let count = header.u32()?;
    if (count as usize) < inputs {
        return Err(header.invalid(format!("{count} values are fewer than {inputs} inputs")));
    }
    let bytes = sections.section(2, Some(u64::from(count) * u64::from(WIDTH)))?;
    let mut cursor = sections.cursor(2, &bytes);
    let mut values = Zeroizing::new(Vec::with_capacity(count as usize));
    for _ in 0..count {
        let value = Fr::from_bigint(BigInt(montgomery_limbs(cursor.take(WIDTH as usize)?)));
        values.push(value.ok_or_else(|| cursor.invalid("a value is not below the modulus"))?);
    }
    if values.first().is_none_or(|value| !value.is_one()) {
        return Err(cursor.invalid("the first value is not one"));
    }
    Ok(Assignment::of_values(inputs, values))
}

// ---------------------------------------------------------------------------------------------------------- writing

/// A key as a `.zkey` file without a ceremony's transcript: for tests and benchmarks of other provers.
pub fn zkey_bytes(key: &dyn KeyParts) -> Vec<u8> {
    // No contribution: the hash of the circuit is not known, and there is none to list.
    zkey_with_transcript(key.matrices(), key.proving_key(), vec![0; 64 + 4])
}

/// A key as a `.zkey` file with this section 10.
pub(crate) fn zkey_with_transcript(
    matrices: &ConstraintMatrices,
    proving: &ProvingKey,
    transcript: Vec<u8>,
) -> Vec<u8> {
    let vk = &proving.vk;
    let counts = [matrices.variables(), matrices.inputs - 1, matrices.domain()];
    let header = zkey_header(counts.map(|count| count as u32), proving);
    let g1 = |points: &[G1Affine]| {
        let mut bytes = vec![];
        put_g1(&mut bytes, points);
        bytes
    };
    let mut b2 = vec![];
    put_g2(&mut b2, &proving.b_g2_query);
    binary_file(
        b"zkey",
        1,
        &[
            (1, 1u32.to_le_bytes().to_vec()),
            (2, header),
            (3, g1(&vk.gamma_abc_g1)),
            (4, coefficients(matrices)),
            (5, g1(&proving.a_query)),
            (6, g1(&proving.b_g1_query)),
            (7, b2),
            (8, g1(&proving.l_query)),
            (9, g1(&proving.h_query)),
            (10, transcript),
        ],
    )
}

/// Section 2: fields, counts (variables, public inputs, domain) and single points.
pub(crate) fn zkey_header(counts: [u32; 3], proving: &ProvingKey) -> Vec<u8> {
    let vk = &proving.vk;
    let mut header = vec![];
    put_field::<Fq>(&mut header);
    put_field::<Fr>(&mut header);
    for count in counts {
        header.extend(count.to_le_bytes());
    }
    put_g1(&mut header, &[vk.alpha_g1, proving.beta_g1]);
    put_g2(&mut header, &[vk.beta_g2, vk.gamma_g2]);
    put_g1(&mut header, &[proving.delta_g1]);
    put_g2(&mut header, &[vk.delta_g2]);
    header
}

/// A value as a plain integer, little-endian.
fn plain_bytes(value: &Fr) -> [u8; 32] {
    montgomery_bytes(&value.into_bigint().0)
}

/// An assignment as a `.wtns` file.
pub fn wtns_bytes(assignment: &Assignment) -> Zeroizing<Vec<u8>> {
    let mut header = vec![];
    put_field::<Fr>(&mut header);
    header.extend((assignment.values().len() as u32).to_le_bytes());
    let values = assignment.values().iter();
    let values: Vec<u8> = values.flat_map(plain_bytes).collect();
    Zeroizing::new(binary_file(b"wtns", 2, &[(1, header), (2, values)]))
}

pub(crate) fn binary_file(magic: &[u8; 4], version: u32, sections: &[(u32, Vec<u8>)]) -> Vec<u8> {
    let mut bytes = magic.to_vec();
    bytes.extend(version.to_le_bytes());
    bytes.extend((sections.len() as u32).to_le_bytes());
    for (id, content) in sections {
        bytes.extend(id.to_le_bytes());
        bytes.extend((content.len() as u64).to_le_bytes());
        bytes.extend(content);
    }
    bytes
}

/// Section 4, row by row.
pub(crate) fn coefficients(matrices: &ConstraintMatrices) -> Vec<u8> {
    let scale = Fr::new_unchecked(Fr::R2);
    let mut bytes = vec![];
    let mut count = 0u32;
    let mut put = |matrix: u32, row: usize, column: usize, value: Fr| {
        for number in [matrix, row as u32, column as u32] {
            bytes.extend(number.to_le_bytes());
        }
        // The Montgomery form of value·2^256 is value·2^512.
        bytes.extend(montgomery_bytes(&(value * scale).0.0));
        count += 1;
    };
    for row in 0..matrices.constraints() {
        for matrix in 0..2 {
            for (column, value) in matrices.matrices[matrix].row(row) {
                put(matrix as u32, row, column, matrices.coefficients[value]);
            }
        }
    }
    for input in 0..matrices.inputs {
        put(0, matrices.constraints() + input, input, Fr::one());
    }
    [count.to_le_bytes().to_vec(), bytes].concat()
}

fn put_field<F: PrimeField>(bytes: &mut Vec<u8>) {
    bytes.extend(WIDTH.to_le_bytes());
    bytes.extend(F::MODULUS.to_bytes_le());
}

pub(crate) fn put_g1(bytes: &mut Vec<u8>, points: &[G1Affine]) {
    for point in points {
        let (x, y) = point.xy().unwrap_or_default();
        [x, y]
            .iter()
            .for_each(|c| bytes.extend(montgomery_bytes(&c.0.0)));
    }
}

pub(crate) fn put_g2(bytes: &mut Vec<u8>, points: &[G2Affine]) {
    for point in points {
        let (x, y) = point.xy().unwrap_or_default();
        let coordinates = [x.c0, x.c1, y.c0, y.c1];
        coordinates
            .iter()
            .for_each(|c| bytes.extend(montgomery_bytes(&c.0.0)));
    }
}

#[cfg(test)]
mod tests;

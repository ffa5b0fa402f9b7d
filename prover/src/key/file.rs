//! The file of a proving key, version 1: points and matrices as they lie in memory, under one checksum.
//!
//! | offset | bytes | content |
//! |---|---|---|
//! | 0 | 16 | `millrace-key-v1` and a newline |
//! | 16 | 8 | length of the file |
//! | 24 | 8 | length of the header |
//! | 32 | 32 | checksum |
//! | 64 | | header: JSON, [`KeyHeader`] |
//! | then | | sections in the order of [`Section`], each from the next multiple of 128 |
//!
//! Integers are little-endian. A coordinate or coefficient is its Montgomery form (times 2^256), 32 bytes; a G1 point is
//! x, y; a G2 point x.c0, x.c1, y.c0, y.c1; infinity is all zeros. A matrix is the end of each row, then columns, then
//! positions in the coefficient table, as 32-bit integers. The checksum is SHA-256 of a tag, bytes 0 to 32 and the SHA-256
//! of every 4 MiB from byte 64 on. It finds damage; it does not make a stranger's file trustworthy, see [`Trust`].

use super::{CircuitKey, KeyId, KeyOrigin};
use crate::circuit::Circuit;
use crate::evm::{PointError, check_g2};
use crate::groth16::{ProvingKey, VerifyingKey};
use crate::matrices::{
    CircuitIdentity, ConstraintMatrices, SparseMatrix, montgomery_bytes, montgomery_limbs,
};
use ark_bn254::{Fq, Fq2, Fr, G1Affine, G2Affine};
use ark_ec::AffineRepr;
use ark_ff::{BigInt, PrimeField, Zero};
use rayon::prelude::*;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use std::fs::{self, File, OpenOptions};
use std::io::{self, BufWriter, Write};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use thiserror::Error;

const MAGIC: &[u8; 16] = b"millrace-key-v1\n";
const MAGIC_STEM: &[u8] = b"millrace-key-v";
const CHECKSUM_TAG: &[u8] = b"millrace-key-checksum-1";
const PREAMBLE: u64 = 64;
const ALIGNMENT: u64 = 128;
const PIECE: usize = 4 << 20;
/// Longest header that is read.
const MAX_HEADER: u64 = 64 << 10;

/// Why a key file is not used.
#[derive(Debug, Error)]
pub enum KeyFileError {
    /// The operating system failed.
    #[error("key file {path}: {source}")]
    Io {
        /// The file.
        path: PathBuf,
        /// What failed.
        source: io::Error,
    },
    /// Another kind of file.
    #[error("{0} is not a key file: it does not begin with millrace-key-v1")]
    NotAKeyFile(PathBuf),
    /// A key file of another version.
    #[error(
        "{0} is a key file of a version that this program does not know; make the key again with `millrace setup`"
    )]
    UnknownVersion(PathBuf),
    /// Shorter or longer than it says.
    #[error(
        "{path} is damaged: it has {actual} bytes and should have {expected}; delete it and run `millrace setup`"
    )]
    WrongLength {
        /// The file.
        path: PathBuf,
        /// Length by its preamble.
        expected: u64,
        /// Length on disk.
        actual: u64,
    },
    /// The checksum is wrong.
    #[error("{0} is damaged: its checksum is wrong; delete it and run `millrace setup`")]
    WrongChecksum(PathBuf),
    /// The checksum is right, the content is not.
    #[error("{path} is not a valid key: {what}")]
    Invalid {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        what: String,
    },
}

/// How much of a file's content to believe.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Trust {
    /// A file that this user's program wrote: the checksum is enough.
    OwnCache,
    /// Any other file: every point is checked to be in its group and the matrices to have the stated identity.
    Foreign,
}

/// What a key file says about itself.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct KeyHeader {
    /// INSECURE-DEV or ceremony.
    pub origin: KeyOrigin,
    /// The circuit's name.
    pub circuit: Circuit,
    /// The circuit's content.
    pub identity: CircuitIdentity,
    /// The key's name.
    pub key_id: KeyId,
    /// Number of constraints.
    pub constraints: u32,
    /// Public inputs and the constant.
    pub inputs: u32,
    /// Private values.
    pub witnesses: u32,
    /// Distinct coefficients.
    pub coefficients: u32,
    /// Nonzero entries of A, B, C.
    pub nonzeros: [u32; 3],
}

impl KeyHeader {
    fn of(key: &CircuitKey) -> Self {
        let matrices = &key.matrices;
        Self {
            origin: key.id.origin,
            circuit: key.circuit,
            identity: key.identity,
            key_id: key.id,
            constraints: matrices.constraints() as u32,
            inputs: matrices.inputs as u32,
            witnesses: matrices.witnesses as u32,
            coefficients: matrices.coefficients.len() as u32,
            nonzeros: [0, 1, 2].map(|m| matrices.matrices[m].nonzeros() as u32),
        }
    }

    fn length(&self, section: Section) -> u64 {
        let inputs = u64::from(self.inputs);
        let variables = inputs + u64::from(self.witnesses);
        let rows = u64::from(self.constraints);
        match section {
            Section::Singles => 64 * 3 + 128 * 3,
            Section::InputPoints => 64 * inputs,
            Section::A | Section::B1 => 64 * variables,
            Section::B2 => 128 * variables,
            Section::H => 64 * (rows + inputs).next_power_of_two(),
            Section::L => 64 * u64::from(self.witnesses),
            Section::Coefficients => 32 * u64::from(self.coefficients),
            Section::Matrix(m) => 4 * rows + 8 * u64::from(self.nonzeros[m]),
        }
    }
}

/// Parts of a key file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Section {
    /// α, β, δ in G1, then β, γ, δ in G2.
    Singles,
    /// The verifying key's points of the inputs (IC).
    InputPoints,
    /// The query of A.
    A,
    /// The query of B in G1.
    B1,
    /// The query of B in G2.
    B2,
    /// The query of the quotient, in the Lagrange basis of the odd coset.
    H,
    /// The query of the witnesses.
    L,
    /// The coefficient table.
    Coefficients,
    /// A, B or C.
    Matrix(usize),
}

const SECTIONS: [Section; 11] = [
    Section::Singles,
    Section::InputPoints,
    Section::A,
    Section::B1,
    Section::B2,
    Section::H,
    Section::L,
    Section::Coefficients,
    Section::Matrix(0),
    Section::Matrix(1),
    Section::Matrix(2),
];

fn aligned(offset: u64) -> u64 {
    offset.next_multiple_of(ALIGNMENT)
}

/// Where each section begins, and the file's length.
fn layout(header: &KeyHeader, header_length: u64) -> (Vec<(Section, u64)>, u64) {
    let mut end = PREAMBLE + header_length;
    let mut places = Vec::with_capacity(SECTIONS.len());
    for section in SECTIONS {
        let start = aligned(end);
        places.push((section, start));
        end = start + header.length(section);
    }
    (places, end)
}

// ---------------------------------------------------------------------------------------------------------- writing

/// Writes a key: all of it under its final name, or nothing.
///
/// # Errors
/// If the disk fails.
pub fn write(key: &CircuitKey, path: &Path) -> Result<(), KeyFileError> {
    let temporary = path.with_extension(format!("tmp-{}", std::process::id()));
    let result = write_temporary(key, &temporary).and_then(|()| publish(&temporary, path));
    if result.is_err() {
        // The failure is reported; a leftover that cannot be removed either is only untidy.
        let _ = fs::remove_file(&temporary);
    }
    result.map_err(|source| KeyFileError::Io {
        path: path.to_owned(),
        source,
    })
}

fn publish(temporary: &Path, path: &Path) -> io::Result<()> {
    fs::rename(temporary, path)?;
    // The rename is on disk only when the directory is.
    match path
        .parent()
        .filter(|parent| !parent.as_os_str().is_empty())
    {
        Some(parent) => File::open(parent)?.sync_all(),
        None => File::open(".")?.sync_all(),
    }
}

fn write_temporary(key: &CircuitKey, path: &Path) -> io::Result<()> {
    let header = KeyHeader::of(key);
    let json = serde_json::to_vec(&header).map_err(io::Error::other)?;
    let (places, length) = layout(&header, json.len() as u64);
    let file = OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(true)
        .open(path)?;
    file.write_all_at(&[0; PREAMBLE as usize], 0)?;
    let mut body = Body::new(&file);
    body.put(&json)?;
    for (section, start) in places {
        body.pad_to(start)?;
        write_section(key, section, &mut body)?;
    }
    let checksum_pieces = body.finish()?;
    file.write_all_at(&preamble(length, json.len() as u64, &checksum_pieces), 0)?;
    file.sync_all()
}

fn preamble(length: u64, header_length: u64, pieces: &[[u8; 32]]) -> [u8; PREAMBLE as usize] {
    let mut bytes = [0; PREAMBLE as usize];
    bytes[..16].copy_from_slice(MAGIC);
    bytes[16..24].copy_from_slice(&length.to_le_bytes());
    bytes[24..32].copy_from_slice(&header_length.to_le_bytes());
    let mut hasher = Sha256::new_with_prefix(CHECKSUM_TAG);
    hasher.update(&bytes[..32]);
    pieces.iter().for_each(|piece| hasher.update(piece));
    bytes[32..].copy_from_slice(&hasher.finalize());
    bytes
}

/// Everything after the preamble, hashed in pieces on its way to the disk.
struct Body<'a> {
    file: BufWriter<FileAt<'a>>,
    offset: u64,
    piece: Sha256,
    in_piece: usize,
    hashes: Vec<[u8; 32]>,
}

struct FileAt<'a> {
    file: &'a File,
    offset: u64,
}

impl Write for FileAt<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let written = self.file.write_at(bytes, self.offset)?;
        self.offset += written as u64;
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl<'a> Body<'a> {
    fn new(file: &'a File) -> Self {
        let file = BufWriter::with_capacity(
            1 << 20,
            FileAt {
                file,
                offset: PREAMBLE,
            },
        );
        Self {
            file,
            offset: PREAMBLE,
            piece: Sha256::new(),
            in_piece: 0,
            hashes: vec![],
        }
    }

    fn put(&mut self, mut bytes: &[u8]) -> io::Result<()> {
        self.file.write_all(bytes)?;
        self.offset += bytes.len() as u64;
        while !bytes.is_empty() {
            let (now, later) = bytes.split_at(bytes.len().min(PIECE - self.in_piece));
            self.piece.update(now);
            self.in_piece += now.len();
            if self.in_piece == PIECE {
                self.hashes.push(self.piece.finalize_reset().into());
                self.in_piece = 0;
            }
            bytes = later;
        }
        Ok(())
    }

    fn pad_to(&mut self, offset: u64) -> io::Result<()> {
        let padding = [0; ALIGNMENT as usize];
        self.put(&padding[..(offset - self.offset) as usize])
    }

    fn finish(mut self) -> io::Result<Vec<[u8; 32]>> {
        self.file.flush()?;
        if self.in_piece > 0 {
            self.hashes.push(self.piece.finalize_reset().into());
        }
        Ok(self.hashes)
    }
}

fn write_section(key: &CircuitKey, section: Section, body: &mut Body) -> io::Result<()> {
    let (matrices, proving) = (&key.matrices, &key.proving_key);
    match section {
        Section::Singles => {
            put_g1(
                body,
                &[proving.vk.alpha_g1, proving.beta_g1, proving.delta_g1],
            )?;
            put_g2(
                body,
                &[proving.vk.beta_g2, proving.vk.gamma_g2, proving.vk.delta_g2],
            )
        }
        Section::InputPoints => put_g1(body, &proving.vk.gamma_abc_g1),
        Section::A => put_g1(body, &proving.a_query),
        Section::B1 => put_g1(body, &proving.b_g1_query),
        Section::B2 => put_g2(body, &proving.b_g2_query),
        Section::H => put_g1(body, &proving.h_query),
        Section::L => put_g1(body, &proving.l_query),
        Section::Coefficients => matrices
            .coefficients
            .iter()
            .try_for_each(|c| body.put(&montgomery_bytes(&c.0.0))),
        Section::Matrix(m) => {
            let matrix = &matrices.matrices[m];
            [&matrix.row_ends, &matrix.columns, &matrix.values]
                .into_iter()
                .try_for_each(|numbers| put_numbers(body, numbers))
        }
    }
}

fn put_g1(body: &mut Body, points: &[G1Affine]) -> io::Result<()> {
    points.iter().try_for_each(|point| {
        let (x, y) = point.xy().unwrap_or_default();
        body.put(&montgomery_bytes(&x.0.0))?;
        body.put(&montgomery_bytes(&y.0.0))
    })
}

fn put_g2(body: &mut Body, points: &[G2Affine]) -> io::Result<()> {
    points.iter().try_for_each(|point| {
        let (x, y) = point.xy().unwrap_or_default();
        [x.c0, x.c1, y.c0, y.c1]
            .iter()
            .try_for_each(|c| body.put(&montgomery_bytes(&c.0.0)))
    })
}

fn put_numbers(body: &mut Body, numbers: &[u32]) -> io::Result<()> {
    for chunk in numbers.chunks(4096) {
        let bytes: Vec<u8> = chunk.iter().flat_map(|n| n.to_le_bytes()).collect();
        body.put(&bytes)?;
    }
    Ok(())
}

// ---------------------------------------------------------------------------------------------------------- reading

/// Reads what a key file says about itself. Checks lengths and the header, not the checksum.
///
/// # Errors
/// If the file cannot be read or is no whole key file.
pub fn read_header(path: &Path) -> Result<KeyHeader, KeyFileError> {
    Ok(Reader::open(path)?.header)
}

/// Reads a key.
///
/// # Errors
/// If the file cannot be read, is damaged, or holds no valid key.
pub fn read(path: &Path, trust: Trust) -> Result<CircuitKey, KeyFileError> {
    let reader = Reader::open(path)?;
    reader.verify_checksum()?;
    reader.key(trust)
}

struct Reader {
    path: PathBuf,
    file: File,
    header: KeyHeader,
    preamble: [u8; PREAMBLE as usize],
    header_length: u64,
    places: Vec<(Section, u64)>,
    length: u64,
}

impl Reader {
    fn open(path: &Path) -> Result<Self, KeyFileError> {
        let io_error = |source| KeyFileError::Io {
            path: path.to_owned(),
            source,
        };
        let invalid = |what: String| KeyFileError::Invalid {
            path: path.to_owned(),
            what,
        };
        let file = File::open(path).map_err(io_error)?;
        let actual = file.metadata().map_err(io_error)?.len();
        let mut preamble = [0; PREAMBLE as usize];
        if actual >= PREAMBLE {
            file.read_exact_at(&mut preamble, 0).map_err(io_error)?;
        }
        if preamble[..16] != *MAGIC {
            let known_stem = preamble.starts_with(MAGIC_STEM);
            let path = path.to_owned();
            return Err(if known_stem {
                KeyFileError::UnknownVersion(path)
            } else {
                KeyFileError::NotAKeyFile(path)
            });
        }
        let [expected, header_length] = [&preamble[16..24], &preamble[24..32]].map(|bytes| {
            bytes
                .iter()
                .rev()
                .fold(0u64, |sum, b| (sum << 8) | u64::from(*b))
        });
        if actual != expected {
            return Err(KeyFileError::WrongLength {
                path: path.to_owned(),
                expected,
                actual,
            });
        }
        if header_length > MAX_HEADER.min(actual - PREAMBLE) {
            return Err(invalid(format!(
                "its header of {header_length} bytes is too long"
            )));
        }
        let mut json = vec![0; header_length as usize];
        file.read_exact_at(&mut json, PREAMBLE).map_err(io_error)?;
        let header: KeyHeader =
            serde_json::from_slice(&json).map_err(|error| invalid(format!("header: {error}")))?;
        let (places, length) = layout(&header, header_length);
        if length != actual {
            return Err(invalid(format!(
                "its header describes {length} bytes, it has {actual}"
            )));
        }
        Ok(Self {
            path: path.to_owned(),
            file,
            header,
            preamble,
            header_length,
            places,
            length,
        })
    }

    fn io(&self, source: io::Error) -> KeyFileError {
        KeyFileError::Io {
            path: self.path.clone(),
            source,
        }
    }

    fn invalid(&self, what: impl Into<String>) -> KeyFileError {
        KeyFileError::Invalid {
            path: self.path.clone(),
            what: what.into(),
        }
    }

    fn verify_checksum(&self) -> Result<(), KeyFileError> {
        let pieces = (self.length - PREAMBLE).div_ceil(PIECE as u64);
        let hash = |piece: u64| -> io::Result<[u8; 32]> {
            let start = PREAMBLE + piece * PIECE as u64;
            let mut bytes = vec![0; (self.length - start).min(PIECE as u64) as usize];
            self.file.read_exact_at(&mut bytes, start)?;
            Ok(Sha256::digest(&bytes).into())
        };
        let hashes: Vec<[u8; 32]> = (0..pieces)
            .into_par_iter()
            .map(hash)
            .collect::<Result<_, _>>()
            .map_err(|e| self.io(e))?;
        if preamble(self.length, self.header_length, &hashes) == self.preamble {
            Ok(())
        } else {
            Err(KeyFileError::WrongChecksum(self.path.clone()))
        }
    }

    fn section(&self, wanted: Section) -> Result<Vec<u8>, KeyFileError> {
        let start = self
            .places
            .iter()
            .find(|(section, _)| *section == wanted)
            .map_or(0, |p| p.1);
        let mut bytes = vec![0; self.header.length(wanted) as usize];
        self.file
            .read_exact_at(&mut bytes, start)
            .map_err(|error| self.io(error))?;
        Ok(bytes)
    }

    fn key(&self, trust: Trust) -> Result<CircuitKey, KeyFileError> {
        let matrices = self.matrices()?;
        if trust == Trust::Foreign && matrices.identity() != self.header.identity {
            return Err(self.invalid("its matrices do not have the identity that it states"));
        }
        let proving_key = self.proving_key(trust)?;
        let id = KeyId::of(&proving_key.vk, self.header.origin);
        if id != self.header.key_id {
            return Err(self.invalid(format!(
                "it states key id {}, the key is {id}",
                self.header.key_id
            )));
        }
        Ok(CircuitKey {
            circuit: self.header.circuit,
            identity: self.header.identity,
            id,
            matrices,
            proving_key,
        })
    }

    fn proving_key(&self, trust: Trust) -> Result<ProvingKey, KeyFileError> {
        let singles = self.section(Section::Singles)?;
        let (ones, twos) = singles.split_at(3 * 64);
        let g1 = points_g1(ones, trust).map_err(|e| self.bad_point(e))?;
        let g2 = points_g2(twos, trust).map_err(|e| self.bad_point(e))?;
        let query = |section| -> Result<Vec<G1Affine>, KeyFileError> {
            points_g1(&self.section(section)?, trust).map_err(|e| self.bad_point(e))
        };
        Ok(ProvingKey {
            vk: VerifyingKey {
                alpha_g1: g1[0],
                beta_g2: g2[0],
                gamma_g2: g2[1],
                delta_g2: g2[2],
                gamma_abc_g1: query(Section::InputPoints)?,
            },
            beta_g1: g1[1],
            delta_g1: g1[2],
            a_query: query(Section::A)?,
            b_g1_query: query(Section::B1)?,
            b_g2_query: points_g2(&self.section(Section::B2)?, trust)
                .map_err(|e| self.bad_point(e))?,
            h_query: query(Section::H)?,
            l_query: query(Section::L)?,
        })
    }

    fn bad_point(&self, error: PointError) -> KeyFileError {
        self.invalid(error.to_string())
    }

    fn matrices(&self) -> Result<ConstraintMatrices, KeyFileError> {
        let coefficients = self.section(Section::Coefficients)?;
        let coefficients: Vec<Fr> = coefficients
            .chunks_exact(32)
            .map(|bytes| Fr::new_unchecked(BigInt(montgomery_limbs(bytes))))
            .collect();
        if coefficients.iter().any(|c| c.0 >= Fr::MODULUS) {
            return Err(self.invalid("a coefficient is not below the modulus"));
        }
        let matrix = |m| -> Result<SparseMatrix, KeyFileError> {
            let bytes = self.section(Section::Matrix(m))?;
            let numbers: Vec<u32> = bytes.chunks_exact(4).map(read_number).collect();
            let rows = self.header.constraints as usize;
            let (row_ends, entries) = numbers.split_at(rows);
            let (columns, values) = entries.split_at(entries.len() / 2);
            self.check_matrix(row_ends, columns, values)?;
            Ok(SparseMatrix {
                row_ends: row_ends.to_vec(),
                columns: columns.to_vec(),
                values: values.to_vec(),
            })
        };
        Ok(ConstraintMatrices {
            inputs: self.header.inputs as usize,
            witnesses: self.header.witnesses as usize,
            coefficients,
            matrices: [matrix(0)?, matrix(1)?, matrix(2)?],
        })
    }

    /// What every use of a matrix relies on, so that no file can make one panic.
    fn check_matrix(
        &self,
        ends: &[u32],
        columns: &[u32],
        values: &[u32],
    ) -> Result<(), KeyFileError> {
        let variables = u64::from(self.header.inputs) + u64::from(self.header.witnesses);
        let ordered = ends.windows(2).all(|pair| pair[0] <= pair[1]);
        if !ordered || ends.last().map_or(0, |end| *end as usize) != columns.len() {
            return Err(self.invalid("a matrix has rows out of order"));
        }
        if columns.iter().any(|c| u64::from(*c) >= variables) {
            return Err(self.invalid("a matrix has an entry beyond its last column"));
        }
        if values.iter().any(|v| *v >= self.header.coefficients) {
            return Err(self.invalid("a matrix names a coefficient that is not there"));
        }
        Ok(())
    }
}

fn read_number(bytes: &[u8]) -> u32 {
    bytes
        .iter()
        .rev()
        .fold(0, |sum, byte| (sum << 8) | u32::from(*byte))
}

fn read_fq(bytes: &[u8]) -> Fq {
    Fq::new_unchecked(BigInt(montgomery_limbs(bytes)))
}

fn points_g1(bytes: &[u8], trust: Trust) -> Result<Vec<G1Affine>, PointError> {
    bytes
        .par_chunks_exact(64)
        .map(|bytes| point_g1(bytes, trust))
        .collect()
}

fn point_g1(bytes: &[u8], trust: Trust) -> Result<G1Affine, PointError> {
    let [x, y] = [read_fq(&bytes[..32]), read_fq(&bytes[32..])];
    if x.is_zero() && y.is_zero() {
        return Ok(G1Affine::zero());
    }
    let point = G1Affine::new_unchecked(x, y);
    if trust == Trust::Foreign {
        check_canonical(&[x, y])?;
        if !point.is_on_curve() {
            return Err(PointError::NotOnCurve);
        }
    }
    Ok(point)
}

fn points_g2(bytes: &[u8], trust: Trust) -> Result<Vec<G2Affine>, PointError> {
    bytes
        .par_chunks_exact(128)
        .map(|bytes| point_g2(bytes, trust))
        .collect()
}

fn point_g2(bytes: &[u8], trust: Trust) -> Result<G2Affine, PointError> {
    let mut c = [Fq::zero(); 4];
    for (value, bytes) in c.iter_mut().zip(bytes.chunks_exact(32)) {
        *value = read_fq(bytes);
    }
    let [x, y] = [Fq2::new(c[0], c[1]), Fq2::new(c[2], c[3])];
    if x.is_zero() && y.is_zero() {
        return Ok(G2Affine::zero());
    }
    let point = G2Affine::new_unchecked(x, y);
    if trust == Trust::OwnCache {
        return Ok(point);
    }
    check_canonical(&c)?;
    check_g2(point)
}

fn check_canonical(coordinates: &[Fq]) -> Result<(), PointError> {
    let canonical = coordinates.iter().all(|c| c.0 < Fq::MODULUS);
    if canonical {
        Ok(())
    } else {
        Err(PointError::NotCanonical)
    }
}

#[cfg(test)]
mod tests;

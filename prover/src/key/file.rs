//! The file of a proving key, version 2: points and matrices as the prover uses them, so that the file is mapped, not read.
//!
//! | offset | bytes | content |
//! |---|---|---|
//! | 0 | 16 | `millrace-key-v2` and a newline |
//! | 16 | 8 | length of the file |
//! | 24 | 8 | length of the header |
//! | 32 | 32 | SHA-256 of a tag, bytes 0 to 32 and the header |
//! | 64 | | header: JSON, [`KeyHeader`] and the digest of each section |
//! | then | | sections in the order of [`Section`], each from the next multiple of 4096 and filled up to one with zeros |
//!
//! Integers are little-endian. A coordinate or coefficient is its Montgomery form (times 2^256), 32 bytes; a G1 point is
//! x, y; a G2 point x.c0, x.c1, y.c0, y.c1; infinity is all zeros. H is in bit-reversed order, as the transforms leave its
//! scalars. A matrix is the end of each row, then columns, then positions in the coefficient table, as 32-bit integers.
//! A section's digest is SHA-256 of a tag, its number, its length and the SHA-256 of every 4 MiB of it, filling included,
//! so that all cores check it and no byte of the file is free.
//!
//! # What is checked when
//! | moment | check |
//! |---|---|
//! | writing | digests are computed from what goes to the disk |
//! | opening | length, layout, the header's digest, the verifying key against its name |
//! | first use in a process | every section's digest, the matrices' indices |
//! | import, `Trust::Foreign` | that, and every point's group, and the matrices' identity |
//!
//! A digest finds damage; it does not make a stranger's file trustworthy. Opening believes the header only, which names the
//! verifying key; no proof is returned that this key does not verify, so damage after the check costs a proof, not soundness.
//!
//! Version 1 (one checksum over everything, H in natural order, multiples of 128) is still read; [`super::KeyStore`] replaces
//! such files by version 2.

use super::map::{Kept, Map, Plain, Slice};
use super::{CircuitKey, KeyId, KeyOrigin, TranscriptHash};
use crate::circuit::Circuit;
use crate::evm::{PointError, check_g2};
use crate::fast::transform::reverse;
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

const MAGIC: &[u8; 16] = b"millrace-key-v2\n";
const MAGIC_1: &[u8; 16] = b"millrace-key-v1\n";
const MAGIC_STEM: &[u8] = b"millrace-key-v";
const HEADER_TAG: &[u8] = b"millrace-key-header-2";
const SECTION_TAG: &[u8] = b"millrace-key-section-2";
const CHECKSUM_TAG_1: &[u8] = b"millrace-key-checksum-1";
const PREAMBLE: u64 = 64;
/// A page: sections can be mapped and advised one by one.
const ALIGNMENT: u64 = 4096;
const ALIGNMENT_1: u64 = 128;
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
    #[error("{0} is not a key file: it does not begin with millrace-key-v2")]
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
    /// A checksum is wrong.
    #[error(
        "{path} is damaged: the checksum of section {section} at offset {offset} is wrong; delete it and run `millrace setup`"
    )]
    WrongChecksum {
        /// The file.
        path: PathBuf,
        /// The section's name, or `header`.
        section: String,
        /// Where it begins, in bytes.
        offset: u64,
    },
    /// The checksum is right, the content is not.
    #[error("{path} is not a valid key: section {section} at offset {offset}: {what}")]
    Invalid {
        /// The file.
        path: PathBuf,
        /// The section's name, or `header`.
        section: String,
        /// Where it begins, in bytes.
        offset: u64,
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
    /// The transcript of the ceremony that made it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub transcript: Option<TranscriptHash>,
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
            transcript: key.transcript,
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

impl Section {
    /// Its name in messages.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Singles => "singles",
            Self::InputPoints => "IC",
            Self::A => "A",
            Self::B1 => "B1",
            Self::B2 => "B2",
            Self::H => "H",
            Self::L => "L",
            Self::Coefficients => "coefficients",
            Self::Matrix(0) => "matrix A",
            Self::Matrix(1) => "matrix B",
            Self::Matrix(_) => "matrix C",
        }
    }
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

/// The header as it lies in the file.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct SealedHeader {
    key: KeyHeader,
    /// Of each section, in hexadecimal digits.
    digests: Vec<String>,
}

/// A section's place in a file.
#[derive(Debug, Clone, Copy)]
struct Place {
    section: Section,
    start: u64,
    /// Bytes of content.
    length: u64,
    /// Where the next one begins.
    end: u64,
}

/// Where each section lies, and the file's length. Sums of a header's 32-bit counts cannot exceed 64 bits.
fn layout(header: &KeyHeader, header_length: u64) -> (Vec<Place>, u64) {
    let mut end = (PREAMBLE + header_length).next_multiple_of(ALIGNMENT);
    let mut places = Vec::with_capacity(SECTIONS.len());
    for section in SECTIONS {
        let (start, length) = (end, header.length(section));
        end = (start + length).next_multiple_of(ALIGNMENT);
        places.push(Place {
            section,
            start,
            length,
            end,
        });
    }
    (places, end)
}

/// The layout of version 1.
fn layout_1(header: &KeyHeader, header_length: u64) -> (Vec<Place>, u64) {
    let mut end = PREAMBLE + header_length;
    let mut places = Vec::with_capacity(SECTIONS.len());
    for section in SECTIONS {
        let start = end.next_multiple_of(ALIGNMENT_1);
        let length = header.length(section);
        end = start + length;
        places.push(Place {
            section,
            start,
            length,
            end,
        });
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
    // Digests all have one length, so the header's length is known before they are.
    let mut sealed = SealedHeader {
        key: KeyHeader::of(key),
        digests: vec![hex::encode([0; 32]); SECTIONS.len()],
    };
    let header_length = serde_json::to_vec(&sealed).map_err(io::Error::other)?.len() as u64;
    let (places, length) = layout(&sealed.key, header_length);
    let file = OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(true)
        .open(path)?;
    file.set_len(length)?;
    for (number, place) in places.iter().enumerate() {
        let mut body = Body::new(&file, place.start);
        write_section(key, place.section, &mut body)?;
        body.pad_to(place.end)?;
        let digest = section_digest(number, place.end - place.start, &body.finish()?);
        sealed.digests[number] = hex::encode(digest);
    }
    let json = serde_json::to_vec(&sealed).map_err(io::Error::other)?;
    file.write_all_at(&preamble(length, &json), 0)?;
    file.write_all_at(&json, PREAMBLE)?;
    file.sync_all()
}

fn preamble(length: u64, json: &[u8]) -> [u8; PREAMBLE as usize] {
    let mut bytes = [0; PREAMBLE as usize];
    bytes[..16].copy_from_slice(MAGIC);
    bytes[16..24].copy_from_slice(&length.to_le_bytes());
    bytes[24..32].copy_from_slice(&(json.len() as u64).to_le_bytes());
    let hasher = Sha256::new_with_prefix(HEADER_TAG).chain_update(&bytes[..32]);
    bytes[32..].copy_from_slice(&hasher.chain_update(json).finalize());
    bytes
}

fn section_digest(number: usize, length: u64, pieces: &[[u8; 32]]) -> [u8; 32] {
    let mut hasher = Sha256::new_with_prefix(SECTION_TAG);
    hasher.update((number as u32).to_le_bytes());
    hasher.update(length.to_le_bytes());
    pieces.iter().for_each(|piece| hasher.update(piece));
    hasher.finalize().into()
}

/// A section, hashed in pieces on its way to the disk.
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
    fn new(file: &'a File, offset: u64) -> Self {
        let file = BufWriter::with_capacity(1 << 20, FileAt { file, offset });
        Self {
            file,
            offset,
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
        Section::H => put_g1(body, &reversed(&proving.h_query)),
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

/// In bit-reversed order, which is its own inverse.
fn reversed(points: &[G1Affine]) -> Vec<G1Affine> {
    let bits = points.len().trailing_zeros();
    let places = (0..points.len()).into_par_iter();
    places.map(|place| points[reverse(place, bits)]).collect()
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

/// Reads what a key file says about itself. Checks lengths and the header, not the sections.
///
/// # Errors
/// If the file cannot be read or is no whole key file.
pub fn read_header(path: &Path) -> Result<KeyHeader, KeyFileError> {
    Ok(Reader::open(path)?.header)
}

/// Reads a whole key into memory.
///
/// # Errors
/// If the file cannot be read, is damaged, or holds no valid key.
pub fn read(path: &Path, trust: Trust) -> Result<CircuitKey, KeyFileError> {
    let reader = Reader::open(path)?;
    reader.verify_checksums()?;
    reader.key(trust)
}

/// Checks every byte of a key file against its digests.
///
/// # Errors
/// If the file cannot be read or is damaged.
pub fn check(path: &Path) -> Result<(), KeyFileError> {
    let reader = Reader::open(path)?;
    reader.verify_checksums()?;
    reader.frame().map(drop)
}

/// An open file whose header is whole.
pub(super) struct Reader {
    pub(super) path: PathBuf,
    pub(super) header: KeyHeader,
    pub(super) version: Version,
    map: Map,
    places: Vec<Place>,
}

/// Versions of the file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Version {
    /// One checksum, which the preamble holds.
    One,
    /// A digest for each section.
    Two { digests: Vec<[u8; 32]> },
}

/// What is known of a file before its header is: for errors.
struct Opening<'a>(&'a Path);

impl Opening<'_> {
    fn io(&self, source: io::Error) -> KeyFileError {
        KeyFileError::Io {
            path: self.0.to_owned(),
            source,
        }
    }

    fn invalid(&self, what: impl Into<String>) -> KeyFileError {
        KeyFileError::Invalid {
            path: self.0.to_owned(),
            section: "header".into(),
            offset: PREAMBLE,
            what: what.into(),
        }
    }

    /// The version, once preamble and length are whole.
    fn version(&self, map: &[u8]) -> Result<u8, KeyFileError> {
        let path = || self.0.to_owned();
        let magic = map.get(..PREAMBLE as usize).map(|preamble| &preamble[..16]);
        let version = match magic {
            Some(magic) if magic == MAGIC => 2,
            Some(magic) if magic == MAGIC_1 => 1,
            Some(magic) if magic.starts_with(MAGIC_STEM) => {
                return Err(KeyFileError::UnknownVersion(path()));
            }
            _ => return Err(KeyFileError::NotAKeyFile(path())),
        };
        let (expected, actual) = (read_long(&map[16..24]), map.len() as u64);
        if actual != expected {
            return Err(KeyFileError::WrongLength {
                path: path(),
                expected,
                actual,
            });
        }
        Ok(version)
    }

    fn header(&self, map: &[u8], version: u8) -> Result<(KeyHeader, Version), KeyFileError> {
        let length = read_long(&map[24..32]);
        if length > MAX_HEADER.min(map.len() as u64 - PREAMBLE) {
            return Err(self.invalid(format!("a header of {length} bytes is too long")));
        }
        let json = &map[PREAMBLE as usize..(PREAMBLE + length) as usize];
        let unreadable = |error: serde_json::Error| self.invalid(error.to_string());
        if version == 1 {
            let header = serde_json::from_slice(json).map_err(unreadable)?;
            return Ok((header, Version::One));
        }
        if preamble(map.len() as u64, json) != map[..PREAMBLE as usize] {
            return Err(KeyFileError::WrongChecksum {
                path: self.0.to_owned(),
                section: "header".into(),
                offset: PREAMBLE,
            });
        }
        let sealed: SealedHeader = serde_json::from_slice(json).map_err(unreadable)?;
        let digests = sealed.digests.iter().map(|text| {
            let mut digest = [0; 32];
            hex::decode_to_slice(text, &mut digest).map(|()| digest)
        });
        let digests: Vec<_> = digests
            .collect::<Result<_, _>>()
            .map_err(|_| self.invalid("a digest is no hash"))?;
        if digests.len() != SECTIONS.len() {
            return Err(self.invalid(format!("{} digests", digests.len())));
        }
        Ok((sealed.key, Version::Two { digests }))
    }
}

impl Reader {
    pub(super) fn open(path: &Path) -> Result<Self, KeyFileError> {
        let opening = Opening(path);
        let file = File::open(path).map_err(|error| opening.io(error))?;
        let length = file.metadata().map_err(|error| opening.io(error))?.len();
        if length < PREAMBLE {
            // An empty file cannot be mapped.
            return Err(KeyFileError::NotAKeyFile(path.to_owned()));
        }
        let map = Map::of(&file).map_err(|error| opening.io(error))?;
        let version = opening.version(&map)?;
        let (header, version) = opening.header(&map, version)?;
        let header_length = read_long(&map[24..32]);
        let (places, length) = match version {
            Version::One => layout_1(&header, header_length),
            Version::Two { .. } => layout(&header, header_length),
        };
        if length != map.len() as u64 {
            let what = format!("describes {length} bytes, the file has {}", map.len());
            return Err(opening.invalid(what));
        }
        Ok(Self {
            path: path.to_owned(),
            header,
            version,
            map,
            places,
        })
    }

    fn place(&self, wanted: Section) -> &Place {
        let found = self.places.iter().find(|place| place.section == wanted);
        found.expect("every layout has every section")
    }

    fn invalid(&self, section: Section, what: impl Into<String>) -> KeyFileError {
        KeyFileError::Invalid {
            path: self.path.clone(),
            section: section.name().into(),
            offset: self.place(section).start,
            what: what.into(),
        }
    }

    fn damaged(&self, section: &str, offset: u64) -> KeyFileError {
        KeyFileError::WrongChecksum {
            path: self.path.clone(),
            section: section.into(),
            offset,
        }
    }

    /// Checks every byte against the digests, on all threads.
    pub(super) fn verify_checksums(&self) -> Result<(), KeyFileError> {
        match &self.version {
            Version::One => self.verify_checksum_1(),
            Version::Two { digests } => {
                let header_end = PREAMBLE + read_long(&self.map[24..32]);
                let first = self.places[0].start;
                if self.map[header_end as usize..first as usize]
                    .iter()
                    .any(|byte| *byte != 0)
                {
                    return Err(self.damaged("header", header_end));
                }
                let numbered = self.places.par_iter().enumerate();
                numbered.try_for_each(|(number, place)| {
                    let bytes = &self.map[place.start as usize..place.end as usize];
                    let digest = section_digest(number, bytes.len() as u64, &piece_hashes(bytes));
                    if digest == digests[number] {
                        Ok(())
                    } else {
                        Err(self.damaged(place.section.name(), place.start))
                    }
                })
            }
        }
    }

    fn verify_checksum_1(&self) -> Result<(), KeyFileError> {
        let mut hasher = Sha256::new_with_prefix(CHECKSUM_TAG_1);
        hasher.update(&self.map[..32]);
        for piece in piece_hashes(&self.map[PREAMBLE as usize..]) {
            hasher.update(piece);
        }
        if hasher.finalize()[..] == self.map[32..64] {
            Ok(())
        } else {
            Err(self.damaged("all", PREAMBLE))
        }
    }

    /// A section's bytes.
    fn section(&self, wanted: Section) -> &[u8] {
        let place = self.place(wanted);
        &self.map[place.start as usize..(place.start + place.length) as usize]
    }

    /// A section of version 2 as values.
    pub(super) fn values<T: Plain>(&self, wanted: Section) -> Slice<T> {
        let place = self.place(wanted);
        let slice = self.map.slice(place.start, place.length);
        slice.expect("layouts are checked against the file, and sections begin with pages")
    }

    fn key(&self, trust: Trust) -> Result<CircuitKey, KeyFileError> {
        let matrices = self.matrices()?;
        if trust == Trust::Foreign && matrices.identity() != self.header.identity {
            let what = "the matrices do not have the identity that the header states";
            return Err(self.invalid(Section::Matrix(0), what));
        }
        let proving_key = self.proving_key(trust)?;
        self.check_name(&proving_key.vk)?;
        Ok(CircuitKey {
            circuit: self.header.circuit,
            identity: self.header.identity,
            id: self.header.key_id,
            transcript: self.header.transcript,
            matrices,
            proving_key,
        })
    }

    /// That the header names this verifying key.
    fn check_name(&self, key: &VerifyingKey) -> Result<(), KeyFileError> {
        let (id, stated) = (KeyId::of(key, self.header.origin), self.header.key_id);
        if id == stated {
            return Ok(());
        }
        let what = format!("the header states key {stated}, the key is {id}");
        Err(self.invalid(Section::Singles, what))
    }

    /// α, β, δ in G1 and β, γ, δ in G2.
    fn singles(&self, trust: Trust) -> Result<(Vec<G1Affine>, Vec<G2Affine>), KeyFileError> {
        let (ones, twos) = self.section(Section::Singles).split_at(3 * 64);
        let bad = |error| self.bad_point(Section::Singles, error);
        Ok((
            points_g1(ones, trust).map_err(bad)?,
            points_g2(twos, trust).map_err(bad)?,
        ))
    }

    /// The verifying key, and β and δ in G1; checked to be points, and to have the header's name.
    pub(super) fn frame(&self) -> Result<(VerifyingKey, G1Affine, G1Affine), KeyFileError> {
        let (ones, twos) = self.singles(Trust::Foreign)?;
        let inputs = points_g1(self.section(Section::InputPoints), Trust::Foreign);
        let key = VerifyingKey {
            alpha_g1: ones[0],
            beta_g2: twos[0],
            gamma_g2: twos[1],
            delta_g2: twos[2],
            gamma_abc_g1: inputs.map_err(|e| self.bad_point(Section::InputPoints, e))?,
        };
        self.check_name(&key)?;
        Ok((key, ones[1], ones[2]))
    }

    fn proving_key(&self, trust: Trust) -> Result<ProvingKey, KeyFileError> {
        let (ones, twos) = self.singles(trust)?;
        let query = |section| -> Result<Vec<G1Affine>, KeyFileError> {
            points_g1(self.section(section), trust).map_err(|e| self.bad_point(section, e))
        };
        let quotient = query(Section::H)?;
        Ok(ProvingKey {
            vk: VerifyingKey {
                alpha_g1: ones[0],
                beta_g2: twos[0],
                gamma_g2: twos[1],
                delta_g2: twos[2],
                gamma_abc_g1: query(Section::InputPoints)?,
            },
            beta_g1: ones[1],
            delta_g1: ones[2],
            a_query: query(Section::A)?,
            b_g1_query: query(Section::B1)?,
            b_g2_query: points_g2(self.section(Section::B2), trust)
                .map_err(|e| self.bad_point(Section::B2, e))?,
            h_query: match self.version {
                Version::One => quotient,
                Version::Two { .. } => reversed(&quotient),
            },
            l_query: query(Section::L)?,
        })
    }

    fn bad_point(&self, section: Section, error: PointError) -> KeyFileError {
        self.invalid(section, error.to_string())
    }

    /// The matrices: of version 2 where they lie, of version 1 copied.
    pub(super) fn matrices(&self) -> Result<ConstraintMatrices, KeyFileError> {
        let coefficients: Vec<Fr> = self
            .section(Section::Coefficients)
            .chunks_exact(32)
            .map(|bytes| Fr::new_unchecked(BigInt(montgomery_limbs(bytes))))
            .collect();
        if coefficients.iter().any(|c| c.0 >= Fr::MODULUS) {
            let what = "a coefficient is not below the modulus";
            return Err(self.invalid(Section::Coefficients, what));
        }
        Ok(ConstraintMatrices {
            inputs: self.header.inputs as usize,
            witnesses: self.header.witnesses as usize,
            coefficients,
            matrices: [self.matrix(0)?, self.matrix(1)?, self.matrix(2)?],
        })
    }

    fn matrix(&self, matrix: usize) -> Result<SparseMatrix, KeyFileError> {
        let section = Section::Matrix(matrix);
        let place = self.place(section);
        let [rows, entries] = [self.header.constraints, self.header.nonzeros[matrix]]
            .map(|count| 4 * u64::from(count));
        let numbers = |start, bytes| -> Kept<u32> {
            match self.map.slice(place.start + start, bytes) {
                Some(slice) => slice.into(),
                // Version 1 after a header of odd length.
                None => {
                    let from = (place.start + start) as usize;
                    let bytes = self.map[from..from + bytes as usize].chunks_exact(4);
                    bytes.map(read_number).collect::<Vec<u32>>().into()
                }
            }
        };
        let sparse = SparseMatrix {
            row_ends: numbers(0, rows),
            columns: numbers(rows, entries),
            values: numbers(rows + entries, entries),
        };
        self.check_matrix(section, &sparse)?;
        Ok(sparse)
    }

    /// What every use of a matrix relies on, so that no file can make one panic.
    fn check_matrix(&self, section: Section, matrix: &SparseMatrix) -> Result<(), KeyFileError> {
        let SparseMatrix {
            row_ends,
            columns,
            values,
        } = matrix;
        let variables = u64::from(self.header.inputs) + u64::from(self.header.witnesses);
        let ordered = row_ends.windows(2).all(|pair| pair[0] <= pair[1]);
        if !ordered || row_ends.last().map_or(0, |end| *end as usize) != columns.len() {
            return Err(self.invalid(section, "rows out of order"));
        }
        if columns.par_iter().any(|c| u64::from(*c) >= variables) {
            return Err(self.invalid(section, "an entry beyond the last column"));
        }
        if values.par_iter().any(|v| *v >= self.header.coefficients) {
            return Err(self.invalid(section, "a coefficient that is not there"));
        }
        Ok(())
    }
}

fn piece_hashes(bytes: &[u8]) -> Vec<[u8; 32]> {
    let pieces = bytes.par_chunks(PIECE);
    pieces.map(|piece| Sha256::digest(piece).into()).collect()
}

fn read_long(bytes: &[u8]) -> u64 {
    let digits = bytes.iter().rev();
    digits.fold(0, |sum, byte| (sum << 8) | u64::from(*byte))
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

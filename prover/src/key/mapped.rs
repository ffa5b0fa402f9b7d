//! A key that stays in its file: open in milliseconds, checked at its first use, in memory only as far as it is used.
//!
//! file → [`MappedKey`] (header, verifying key) → first use: digests of all sections → matrices and points where they lie

use super::file::{self, KeyFileError, KeyHeader, Reader, Section, Trust, Version};
use super::map::Slice;
use super::{CircuitKey, KeyId};
use crate::circuit::Circuit;
use crate::fast::point::{G1Point, G2Point};
use crate::groth16::VerifyingKey;
use crate::matrices::ConstraintMatrices;
use ark_bn254::G1Affine;
use std::fmt;
use std::path::Path;
use std::sync::{Arc, OnceLock};

/// A proving key in a mapped file of version 2.
pub struct MappedKey {
    reader: Reader,
    verifying_key: VerifyingKey,
    beta_g1: G1Affine,
    delta_g1: G1Affine,
    /// After the first use.
    matrices: OnceLock<Result<ConstraintMatrices, Arc<KeyFileError>>>,
}

impl MappedKey {
    /// Opens a key file. Nothing if it is of version 1, which cannot be used where it lies.
    ///
    /// # Errors
    /// If the file cannot be read, its header is damaged, or it does not hold the verifying key that it names.
    pub fn open(path: &Path) -> Result<Option<Self>, KeyFileError> {
        let reader = Reader::open(path)?;
        if reader.version == Version::One {
            return Ok(None);
        }
        let (verifying_key, beta_g1, delta_g1) = reader.frame()?;
        Ok(Some(Self {
            reader,
            verifying_key,
            beta_g1,
            delta_g1,
            matrices: OnceLock::new(),
        }))
    }

    /// What the file says about itself.
    pub fn header(&self) -> &KeyHeader {
        &self.reader.header
    }

    /// The circuit.
    pub fn circuit(&self) -> Circuit {
        self.header().circuit
    }

    /// The key's name.
    pub fn id(&self) -> KeyId {
        self.header().key_id
    }

    /// The verifying key.
    pub fn verifying_key(&self) -> &VerifyingKey {
        &self.verifying_key
    }

    /// β and δ in G1.
    pub(crate) fn blinding_points(&self) -> [G1Affine; 2] {
        [self.beta_g1, self.delta_g1]
    }

    /// The constraints. The first call checks the whole file's digests.
    ///
    /// # Errors
    /// If the file is damaged.
    pub fn matrices(&self) -> Result<&ConstraintMatrices, Arc<KeyFileError>> {
        let checked = self.matrices.get_or_init(|| {
            self.check()?;
            self.reader.matrices().map_err(Arc::new)
        });
        checked.as_ref().map_err(Arc::clone)
    }

    /// Checks every byte now, whatever was checked before.
    ///
    /// # Errors
    /// If the file is damaged.
    pub fn check(&self) -> Result<(), Arc<KeyFileError>> {
        self.reader.verify_checksums().map_err(Arc::new)
    }

    /// Points of A, B in G1, L and, in bit-reversed order, H.
    pub(crate) fn points_g1(&self) -> [Slice<G1Point>; 4] {
        [Section::A, Section::B1, Section::L, Section::H].map(|section| self.reader.values(section))
    }

    /// Points of B in G2.
    pub(crate) fn points_g2(&self) -> Slice<G2Point> {
        self.reader.values(Section::B2)
    }

    /// The whole key in memory, for what cannot use it where it lies.
    ///
    /// # Errors
    /// If the file is damaged.
    pub fn read(&self) -> Result<CircuitKey, KeyFileError> {
        file::read(&self.reader.path, Trust::OwnCache)
    }
}

impl fmt::Debug for MappedKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "MappedKey({}, {})", self.circuit(), self.id())
    }
}

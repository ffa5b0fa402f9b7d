//! The schema's version: written once, checked at every opening, raised step by step by what a newer program must rewrite.
//!
//! no version → new database, written as [`SCHEMA_VERSION`]; older → `STEPS`, each one atomic; newer → refused

use super::disk::{Column, Disk, DiskError, Writes};
use super::format::{decode, encode};
use super::{StoreError, StoreResult};

/// Version of the whole layout; grows with every incompatible change, together with a step.
pub const SCHEMA_VERSION: u32 = 1;

const KEY: &[u8] = b"schema";

/// What brings a database of version i + 1 to version i + 2.
type Step = fn(&Disk) -> Result<Writes, DiskError>;
const STEPS: [Step; SCHEMA_VERSION as usize - 1] = [];

/// Brings the database to this program's schema.
///
/// # Errors
/// [`StoreError::Newer`] if a newer program wrote it; else if the disk fails.
pub fn migrate(disk: &Disk) -> StoreResult<()> {
    let Some(found) = version(disk)? else {
        return write_version(disk, Writes::default(), SCHEMA_VERSION);
    };
    if found > SCHEMA_VERSION {
        return Err(StoreError::Newer {
            found,
            known: SCHEMA_VERSION,
        });
    }
    for (step, version) in STEPS.iter().zip(1..).skip(found as usize - 1) {
        let writes = step(disk)?;
        write_version(disk, writes, version + 1)?;
    }
    Ok(())
}

fn version(disk: &Disk) -> StoreResult<Option<u32>> {
    let Some(bytes) = disk.get(Column::Meta, KEY)? else {
        return Ok(None);
    };
    decode(&bytes)
        .map(Some)
        .map_err(|reason| StoreError::damaged(Column::Meta, KEY, reason))
}

fn write_version(disk: &Disk, mut writes: Writes, version: u32) -> StoreResult<()> {
    writes.put(Column::Meta, KEY.to_vec(), encode(&version));
    Ok(disk.write(writes)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_new_database_gets_this_version_and_a_newer_one_is_refused() {
        let directory = tempfile::tempdir().unwrap();
        let disk = Disk::open(directory.path()).unwrap();
        migrate(&disk).unwrap();
        assert_eq!(version(&disk).unwrap(), Some(SCHEMA_VERSION));
        write_version(&disk, Writes::default(), SCHEMA_VERSION + 1).unwrap();
        let error = migrate(&disk).unwrap_err();
        assert!(matches!(error, StoreError::Newer { found, known } if found == known + 1));
        assert!(error.to_string().contains("run a newer millrace"));
    }
}

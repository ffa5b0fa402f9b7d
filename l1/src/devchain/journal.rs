//! A state file that follows the chain: nothing that the chain has answered is lost when the process is killed.
//!
//! ```text
//! line 1: the whole chain, as a state file holds it
//! then one line a change: how many blocks stay, the blocks that are new, what they left in the world, pool, settings
//! ```
//!
//! A line is written before the request that caused it is answered. A torn last line is one that was never answered, and is
//! left out. The file is not flushed to the disk: it survives the death of the process, not that of the machine. Opening
//! it writes it anew, which drops old lines.

use super::{
    block::MinedBlock,
    chain::{Chain, Settings},
    error::DevChainError,
    persist,
    pool::Pool,
    world::{Patch, Undo},
};
use alloy::primitives::B256;
use serde::{Deserialize, Serialize};
use std::{
    fs::{File, OpenOptions},
    io::Write,
    path::{Path, PathBuf},
    sync::Arc,
};

/// What one line says.
#[derive(Serialize, Deserialize)]
struct Change {
    /// Height of the blocks that stay.
    keep: u64,
    /// The blocks after them.
    blocks: Vec<Arc<MinedBlock>>,
    /// What the new blocks touched, as they left it.
    patch: Patch,
    pool: Pool,
    settings: Settings,
}

/// The file, and what it says so far.
#[derive(Debug)]
pub struct Journal {
    path: PathBuf,
    file: File,
    /// Hashes of the blocks, by number.
    hashes: Vec<B256>,
    pool: Pool,
    settings: Settings,
}

impl Journal {
    /// Writes the chain to the file, and follows it from here on.
    pub fn begin(path: &Path, chain: &Chain) -> Result<Self, DevChainError> {
        persist::save(chain, path)?;
        let file = OpenOptions::new().append(true).open(path);
        let mut file = file.map_err(|error| persist::failed(path, error))?;
        file.write_all(b"\n")
            .map_err(|error| persist::failed(path, error))?;
        Ok(Self {
            path: path.to_owned(),
            file,
            hashes: chain.hashes_from(0),
            pool: chain.pool.clone(),
            settings: chain.settings(),
        })
    }

    /// Writes what has changed since the last time, if anything has.
    pub fn follow(&mut self, chain: &mut Chain) -> Result<(), DevChainError> {
        if chain.take_rewritten() {
            *self = Self::begin(&self.path, chain)?;
            return Ok(());
        }
        let keep = self.common_height(chain);
        let grown = chain.height() > keep || self.hashes.len() as u64 > keep + 1;
        if !grown && self.settings == chain.settings() && self.pool == chain.pool {
            return Ok(());
        }
        self.write(chain, keep)
    }

    fn common_height(&self, chain: &Chain) -> u64 {
        let same = |number: &u64| {
            let here = chain.block(*number).map(|block| block.hash);
            here.is_some() && here == self.hashes.get(*number as usize).copied()
        };
        let newest = chain.height().min(self.hashes.len() as u64 - 1);
        (0..=newest).rev().find(same).unwrap_or(0)
    }

    fn write(&mut self, chain: &Chain, keep: u64) -> Result<(), DevChainError> {
        let blocks: Vec<_> = (keep + 1..=chain.height())
            .filter_map(|number| chain.block(number).cloned())
            .collect();
        let mut touched = Undo::default();
        blocks.iter().for_each(|block| touched.absorb(&block.undo));
        let change = Change {
            keep,
            blocks,
            patch: chain.world.patch_of(&touched),
            pool: chain.pool.clone(),
            settings: chain.settings(),
        };
        let line = serde_json::to_vec(&change).map_err(|error| self.failed(error))?;
        let written = self.file.write_all(&[line, b"\n".to_vec()].concat());
        written.map_err(|error| self.failed(error))?;
        self.hashes.truncate(keep as usize + 1);
        self.hashes.extend(chain.hashes_from(keep + 1));
        (self.pool, self.settings) = (change.pool, change.settings);
        Ok(())
    }

    fn failed(&self, cause: impl std::fmt::Display) -> DevChainError {
        persist::failed(&self.path, cause)
    }
}

/// Applies the lines after the first to the chain of the first.
pub fn replay(path: &Path, chain: &mut Chain, lines: &[u8]) -> Result<(), DevChainError> {
    // What follows the last line end was being written when the process died.
    let complete = lines.iter().rposition(|byte| *byte == b'\n').unwrap_or(0);
    let lines = lines[..complete].split(|byte| *byte == b'\n');
    for line in lines.filter(|line| !line.is_empty()) {
        let change: Change =
            serde_json::from_slice(line).map_err(|error| persist::failed(path, error))?;
        chain.replace_after(change.keep, change.blocks)?;
        chain.world.apply_patch(change.patch);
        chain.pool = change.pool;
        chain.set_settings(change.settings);
    }
    Ok(())
}

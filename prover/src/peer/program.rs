//! Provers that are programs on the PATH: they get the key and the witness as circom's files and write snarkjs' JSON.
//!
//! prepare: key → .zkey;   prove: assignment → .wtns → program → proof.json → proof
//!
//! Their time includes starting and reading the key, as whoever runs them waits for that, too.

use crate::circom::{wtns_bytes, zkey_bytes};
use crate::circuit::Assignment;
use crate::groth16::{Backend, BackendError, KeyParts, PreparedKey, check_length};
use crate::proof::Proof;
use crate::snarkjs;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// A prover that is a program.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Program {
    /// `snarkjs groth16 prove`.
    Snarkjs,
    /// rapidsnark's `prover`, which is called `rapidsnark` where it is installed under that name.
    Rapidsnark,
}

impl Program {
    /// Names of the program, in the order of preference.
    fn names(self) -> &'static [&'static str] {
        match self {
            Self::Snarkjs => &["snarkjs"],
            Self::Rapidsnark => &["rapidsnark", "prover"],
        }
    }

    /// Where it is on the PATH.
    pub fn find(self) -> Option<PathBuf> {
        let folders = std::env::var_os("PATH")?;
        let all = std::env::split_paths(&folders)
            .flat_map(|folder| self.names().iter().map(move |name| folder.join(name)));
        all.into_iter().find(|path| path.is_file())
    }

    fn failed(self, what: impl ToString) -> BackendError {
        BackendError::Peer {
            name: self.name(),
            what: what.to_string(),
        }
    }
}

impl Backend for Program {
    fn name(&self) -> &'static str {
        self.names()[0]
    }

    fn prepare_parts(&self, key: Arc<dyn KeyParts>) -> Box<dyn PreparedKey> {
        let folder = Folder::new();
        // A folder that cannot be written shows at the first proof, which finds no key.
        let _ = fs::write(folder.at("key.zkey"), zkey_bytes(&*key));
        Box::new(ProgramKey {
            program: *self,
            key,
            folder,
        })
    }
}

struct ProgramKey {
    program: Program,
    key: Arc<dyn KeyParts>,
    folder: Folder,
}

impl PreparedKey for ProgramKey {
    fn prove(&self, assignment: &Assignment) -> Result<Proof, BackendError> {
        check_length(self.key.matrices(), assignment)?;
        let program = self.program;
        let failed = |error: std::io::Error| program.failed(error);
        let path = program
            .find()
            .ok_or_else(|| program.failed("it is not on the PATH"))?;
        fs::write(self.folder.at("witness.wtns"), &*wtns_bytes(assignment)).map_err(failed)?;
        let mut command = Command::new(path);
        if program == Program::Snarkjs {
            command.args(["groth16", "prove"]);
        }
        let files = ["key.zkey", "witness.wtns", "proof.json", "public.json"];
        let output = command
            .args(files.map(|name| self.folder.at(name)))
            .output()
            .map_err(failed)?;
        if !output.status.success() {
            let said = [output.stdout, output.stderr].concat();
            let said = String::from_utf8_lossy(&said);
            return Err(program.failed(said.trim()));
        }
        let text = fs::read_to_string(self.folder.at("proof.json")).map_err(failed)?;
        snarkjs::read_proof(&text).map_err(|error| program.failed(error))
    }
}

/// A folder of its own among the temporary ones, removed with what is in it when dropped.
pub(crate) struct Folder(PathBuf);

impl Folder {
    pub(crate) fn new() -> Self {
        static COUNT: AtomicU64 = AtomicU64::new(0);
        let number = COUNT.fetch_add(1, Ordering::Relaxed);
        let name = format!("millrace-peer-{}-{number}", std::process::id());
        let path = std::env::temp_dir().join(name);
        // As with the key: a proof will say what is missing.
        let _ = fs::create_dir_all(&path);
        Self(path)
    }

    pub(crate) fn at(&self, name: &str) -> PathBuf {
        Path::new(&self.0).join(name)
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        // What cannot be removed is in the system's temporary folder.
        let _ = fs::remove_dir_all(&self.0);
    }
}

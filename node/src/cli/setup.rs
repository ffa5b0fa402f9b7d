//! `millrace setup`: the proving keys of the batch circuits.
//!
//! circuits → keys in the cache, INSECURE-DEV, → verifying keys for others

use crate::cli::{Exit, Failure, Global, config, logging};
use crate::config::Config;
use crate::output::{Output, table};
use millrace_circuits::batch::Shape;
use millrace_prover::circuit::Circuit;
use millrace_prover::key::{CircuitKey, KeyId, KeyOrigin, KeyStore, KeyStoreError, Trust, file};
use millrace_prover::setup::Seed;
use millrace_prover::snarkjs;
use millrace_prover::solidity::{Origin, verifier};
use serde::Serialize;
use serde_json::json;
use std::path::{Path, PathBuf};

/// Options of `millrace setup`.
#[derive(Debug, clap::Args)]
pub struct SetupArguments {
    /// Circuit ids, separated by commas; without it, those of the configuration
    #[arg(long, value_name = "IDS", value_delimiter = ',')]
    pub circuits: Vec<u16>,
    /// Folder of the keys
    #[arg(long, value_name = "FOLDER")]
    pub keys_dir: Option<PathBuf>,
    /// Draw the secrets from this machine's randomness instead of the public development seed
    #[arg(long)]
    pub private_seed: bool,
    /// Keep a key that others made: a .key file, checked point by point
    #[arg(long, value_name = "FILE")]
    pub import: Option<PathBuf>,
    /// Id that the imported key must have, as its ceremony published it; keys of ceremonies need it
    #[arg(long, value_name = "ID", requires = "import")]
    pub expect: Option<KeyId>,
    /// Check every byte of the key files that are there, and make none
    #[arg(long, conflicts_with = "import")]
    pub check: bool,
    /// Also write each verifying key as snarkjs reads it, and a Solidity verifier, into this folder
    #[arg(long, value_name = "FOLDER")]
    pub export: Option<PathBuf>,
}

#[derive(Serialize)]
struct KeyRow {
    circuit: String,
    transactions: usize,
    constraints: usize,
    identity: String,
    key: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    exported: Option<PathBuf>,
}

/// The keys' folder: the flag's, the configuration's, or the user's cache.
///
/// # Errors
/// If the user has no home directory.
pub fn key_store(flag: Option<&Path>, config: &Config) -> Result<KeyStore, Failure> {
    match flag.or(config.prover.keys_dir.as_deref()) {
        Some(folder) => Ok(KeyStore::new(folder)),
        None => KeyStore::in_user_cache().map_err(|error| keys(&error)),
    }
}

pub(crate) fn keys(error: &KeyStoreError) -> Failure {
    Failure::because(Exit::Keys, "no usable proving key", error).help(
        "`millrace setup` makes development keys; a damaged file can be deleted and made again",
    )
}

/// Runs work that computes for long on a thread that may block.
pub(crate) async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> T + Send + 'static,
) -> Result<T, Failure> {
    tokio::task::spawn_blocking(work)
        .await
        .map_err(|error| Failure::because(Exit::Internal, "a computation ended by a fault", &error))
}

/// The shapes with these circuit ids.
///
/// # Errors
/// [`Exit::Usage`] for an id that no circuit has.
pub(crate) fn shapes(ids: &[u16]) -> Result<Vec<Shape>, Failure> {
    let known = || Shape::ALL.map(|shape| shape.id.to_string()).join(", ");
    let by_id = |id: &u16| {
        Shape::by_id(*id).ok_or_else(|| {
            Failure::new(Exit::Usage, format!("there is no circuit {id}"))
                .help(format!("circuits are {}", known()))
        })
    };
    ids.iter().map(by_id).collect()
}

/// Makes keys.
///
/// # Errors
/// [`Failure`].
pub async fn run(
    global: &Global,
    output: Output,
    arguments: SetupArguments,
) -> Result<(), Failure> {
    logging::start_quiet(global);
    let config = config::load(global, &json!({}))?;
    let store = key_store(arguments.keys_dir.as_deref(), &config)?;
    if let Some(path) = arguments.import {
        return import(output, store, path, arguments.expect).await;
    }
    if arguments.check {
        return check(output, store).await;
    }
    let shapes = match arguments.circuits.as_slice() {
        [] => config.shapes(),
        ids => shapes(ids)?,
    };
    let bar = output.progress(shapes.len() as u64, "making keys");
    let mut rows = Vec::new();
    for shape in shapes {
        bar.set_message(format!(
            "key of circuit {} ({} transactions)",
            shape.id, shape.transaction_rows
        ));
        let (store, private) = (store.clone(), arguments.private_seed);
        let key = blocking(move || make_key(&store, shape, private)).await?;
        rows.push(key_row(
            &key.map_err(|error| keys(&error))?,
            shape,
            arguments.export.as_deref(),
        )?);
        bar.inc(1);
    }
    bar.finish_and_clear();
    let folder = store.directory().display().to_string();
    output.result(&json!({ "folder": folder, "keys": rows }), || {
        describe_keys(&folder, &rows)
    });
    Ok(())
}

async fn import(
    output: Output,
    store: KeyStore,
    path: PathBuf,
    expected: Option<KeyId>,
) -> Result<(), Failure> {
    let kept = blocking(move || {
        let key = file::read(&path, Trust::Foreign).map_err(|error| keys(&error.into()))?;
        let current = key
            .circuit
            .identity()
            .map_err(|error| keys(&error.into()))?;
        if key.identity != current {
            let what = format!(
                "{} is for another version of {}",
                path.display(),
                key.circuit
            );
            return Err(
                Failure::new(Exit::Keys, what).help("use the program that the key was made for")
            );
        }
        match expected {
            Some(expected) if expected != key.id => {
                let what = format!("the file holds key {}, not {expected}", key.id);
                return Err(Failure::new(Exit::Keys, what));
            }
            None if key.id.origin == KeyOrigin::Ceremony => {
                let what = "a file cannot show that its key came from a ceremony";
                return Err(Failure::new(Exit::Keys, what).help(
                    "pass the id that the ceremony published with --expect, or check its .zkey with `millrace ceremony export`",
                ));
            }
            _ => {}
        }
        let kept = store.keep(&key).map_err(|error| keys(&error))?;
        Ok((key.id, kept))
    });
    let (id, path) = kept.await??;
    output.result(&json!({ "key": id, "file": path }), || {
        format!("Key {id} is kept in {}", path.display())
    });
    Ok(())
}

async fn check(output: Output, store: KeyStore) -> Result<(), Failure> {
    let checked = blocking(move || {
        let files = store.list().map_err(|error| keys(&error))?;
        let whole = files.into_iter().map(|(path, header)| {
            let damage = header.and_then(|_| file::check(&path)).err();
            (path, damage.map(|error| error.to_string()))
        });
        Ok::<_, Failure>(whole.collect::<Vec<_>>())
    });
    let checked = checked.await??;
    if let Some((_, Some(damage))) = checked.iter().find(|(_, damage)| damage.is_some()) {
        return Err(Failure::new(Exit::Keys, damage.clone()));
    }
    let files: Vec<_> = checked.iter().map(|(path, _)| path).collect();
    output.result(&json!({ "whole": files }), || {
        format!("{} key files are whole", files.len())
    });
    Ok(())
}

pub(crate) fn make_key(
    store: &KeyStore,
    shape: Shape,
    private: bool,
) -> Result<CircuitKey, KeyStoreError> {
    if !private {
        return store.development_key(Circuit::Batch(shape), &Seed::development());
    }
    let key = CircuitKey::generate(Circuit::Batch(shape), &Seed::from_os())?;
    store.keep(&key)?;
    Ok(key)
}

fn key_row(key: &CircuitKey, shape: Shape, export: Option<&Path>) -> Result<KeyRow, Failure> {
    let exported = export.map(|folder| export_key(key, folder)).transpose()?;
    Ok(KeyRow {
        circuit: key.circuit.to_string(),
        transactions: shape.transaction_rows,
        constraints: key.matrices.constraints(),
        identity: key.identity.to_string(),
        key: key.id.to_string(),
        exported,
    })
}

fn export_key(key: &CircuitKey, folder: &Path) -> Result<PathBuf, Failure> {
    let circuit = key.circuit.to_string();
    let path = folder.join(format!("{circuit}-verification_key.json"));
    write(&path, &snarkjs::verifying_key_json(key.verifying_key()))?;
    let origin = Origin {
        circuit: &circuit,
        identity: key.identity,
        id: key.id,
    };
    let name = format!("Verifier_{}", circuit.replace('-', "_"));
    let source = verifier(&name, &origin, key.verifying_key());
    write(&folder.join(format!("{name}.sol")), &source)?;
    Ok(path)
}

fn write(path: &Path, content: &str) -> Result<(), Failure> {
    let folder = path.parent().unwrap_or(Path::new("."));
    let written = std::fs::create_dir_all(folder).and_then(|()| std::fs::write(path, content));
    written.map_err(|error| {
        Failure::because(
            Exit::Internal,
            format!("cannot write {}", path.display()),
            &error,
        )
    })
}

fn describe_keys(folder: &str, rows: &[KeyRow]) -> String {
    let row = |row: &KeyRow| {
        [
            row.circuit.clone(),
            row.transactions.to_string(),
            row.constraints.to_string(),
            row.key.clone(),
        ]
    };
    let table = table(
        ["circuit", "transactions", "constraints", "key"],
        rows.iter().map(row),
    );
    format!("{table}\nKeys lie in {folder}. INSECURE-DEV: whoever knows the seed can forge proofs.")
}

//! Holds what no compiler checks: the dependency picture, one owner for each big dependency,
//! a purpose at the top of every file, and nothing left half done.
//!
//! ```text
//! node -> rollup, channels, prover -> l1, circuits      prover and rollup never meet
//! ```
//!
//! Every test lists all offenders at once, each with what to do about it.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

/// What one crate of the workspace may depend on.
struct CrateRule {
    folder: &'static str,
    /// Workspace crates, by folder.
    may_use: &'static [&'static str],
    /// Workspace crates that only its tests may use besides.
    tests_may_use: &'static [&'static str],
    /// Third-party crates its product must stay free of, as prefixes of package names.
    must_not_know: &'static [&'static str],
}

/// The dependency picture. A folder that does not exist yet has nothing to break.
const CRATE_RULES: &[CrateRule] = &[
    CrateRule {
        folder: "circuits",
        may_use: &[],
        tests_may_use: &[],
        must_not_know: &[
            "tokio",
            "rocksdb",
            "reqwest",
            "axum",
            "alloy",
            "revm",
            "ark-groth16",
        ],
    },
    CrateRule {
        folder: "l1",
        may_use: &[],
        tests_may_use: &["circuits"],
        must_not_know: &["rocksdb", "axum", "ark-"],
    },
    CrateRule {
        folder: "prover",
        may_use: &["circuits"],
        tests_may_use: &[],
        must_not_know: &["axum", "alloy", "revm"],
    },
    CrateRule {
        folder: "rollup",
        may_use: &["circuits", "l1"],
        tests_may_use: &[],
        must_not_know: &["axum", "ark-groth16", "revm"],
    },
    CrateRule {
        folder: "channels",
        may_use: &["circuits", "l1"],
        tests_may_use: &[],
        must_not_know: &["axum", "ark-groth16", "revm"],
    },
    CrateRule {
        folder: "node",
        may_use: &["circuits", "l1", "prover", "rollup", "channels"],
        tests_may_use: &[],
        must_not_know: &["rocksdb", "ark-groth16", "revm"],
    },
];

/// A third-party crate that one file of each listed folder may name.
struct Owner {
    crate_name: &'static str,
    folders: &'static [&'static str],
}

const OWNERS: &[Owner] = &[
    Owner {
        crate_name: "rocksdb",
        folders: &["prover", "rollup", "channels", "tests"],
    },
    Owner {
        crate_name: "ark_groth16",
        folders: &["prover"],
    },
];

/// Folders, from the root of the clone, that hold nothing of ours.
const SKIPPED_FOLDERS: &[&str] = &[
    ".git",
    "target",
    "node_modules",
    "bin",
    "demo-data",
    "l1/contracts/out",
    "l1/contracts/cache",
    "l1/contracts/broadcast",
];

/// Endings of the text files that are read for machine paths.
const TEXT_ENDINGS: &[&str] = &[
    "rs", "toml", "sol", "md", "js", "mjs", "cjs", "ts", "json", "sh", "py", "yml", "yaml", "lock",
];

#[test]
fn dependencies_point_one_way() {
    let mut offences = Vec::new();
    for rule in CRATE_RULES {
        let Some(manifest) = read_optional(&root().join(rule.folder).join("Cargo.toml")) else {
            continue;
        };
        for dependency in dependencies_of(&manifest) {
            offences.extend(broken_direction(rule, &dependency));
        }
    }
    assert_none(offences);
}

#[test]
fn no_crate_is_outside_the_dependency_picture() {
    let manifest = read(&root().join("Cargo.toml"));
    let members = manifest
        .lines()
        .find_map(|line| line.strip_prefix("members = ["))
        .expect("the workspace lists its members on one line")
        .split('"')
        .skip(1)
        .step_by(2);
    let known: BTreeSet<&str> = CRATE_RULES.iter().map(|rule| rule.folder).collect();
    assert_none(
        members
            .filter(|member| !member.starts_with("tests") && !known.contains(member))
            .map(|member| format!("{member} has no rule in CRATE_RULES: say what it may use"))
            .collect(),
    );
}

#[test]
fn every_big_dependency_has_one_owner() {
    let mut offences = Vec::new();
    for owner in OWNERS {
        let naming: Vec<String> = rust_sources()
            .filter(|(_, text)| names_crate(text, owner.crate_name))
            .map(|(path, _)| path)
            .collect();
        offences.extend(
            naming
                .iter()
                .filter(|path| !owner.folders.contains(&folder_of(path)))
                .map(|path| {
                    format!(
                        "{path} names {}: go through {:?}",
                        owner.crate_name, owner.folders
                    )
                }),
        );
        for folder in owner.folders {
            let inside: Vec<&String> = naming
                .iter()
                .filter(|path| folder_of(path) == *folder)
                .collect();
            if inside.len() > 1 {
                offences.push(format!(
                    "{} is named by {inside:?}: keep it in one file",
                    owner.crate_name
                ));
            }
        }
    }
    assert_none(offences);
}

#[test]
fn every_rust_file_opens_with_its_purpose() {
    assert_none(
        rust_sources()
            .filter(|(_, text)| !text.starts_with("//! ") || text.starts_with("//! Scaffold"))
            .map(|(path, _)| format!("{path} does not open with a `//!` sentence on its purpose"))
            .collect(),
    );
}

#[test]
fn nothing_is_left_half_done() {
    // Spelt in halves, so that this file does not find itself.
    let leftovers = [
        concat!("to", "do!("),
        concat!("unimple", "mented!("),
        concat!("db", "g!("),
        concat!("#[ig", "nore"),
        concat!("FIX", "ME"),
    ];
    let mut offences = Vec::new();
    for (path, text) in rust_sources() {
        for (number, line) in text.lines().enumerate() {
            for leftover in leftovers
                .iter()
                .filter(|leftover| line.contains(**leftover))
            {
                offences.push(format!("{path}:{} holds {leftover}", number + 1));
            }
        }
    }
    assert_none(offences);
}

#[test]
fn no_file_names_a_path_of_one_machine() {
    let machine_paths = [
        concat!("/ro", "ot/"),
        concat!("/wo", "rk/"),
        concat!("/ho", "me/"),
        concat!("/Us", "ers/"),
    ];
    let mut offences = Vec::new();
    for (path, text) in text_files() {
        for (number, line) in text.lines().enumerate() {
            if machine_paths
                .iter()
                .any(|machine_path| line.contains(machine_path))
            {
                offences.push(format!("{path}:{} names a path of one machine", number + 1));
            }
        }
    }
    assert_none(offences);
}

#[test]
fn the_npm_lock_file_names_no_registry_host() {
    let lock = read(&root().join("package-lock.json"));
    assert!(
        lock.contains("\"integrity\""),
        "package-lock.json holds no hashes"
    );
    assert!(
        !lock.contains("\"resolved\""),
        "package-lock.json is tied to a registry host: install with the settings of .npmrc"
    );
}

#[test]
fn tidy_finds_what_it_looks_for() {
    let prover = CRATE_RULES
        .iter()
        .find(|rule| rule.folder == "prover")
        .expect("listed above");
    let manifest = "[dependencies]\nalloy.workspace = true\n\
                    [dev-dependencies]\nmillrace-rollup.workspace = true\nrevm = \"1\"\n\
                    [features]\naxum = []\n";
    let offences: Vec<String> = dependencies_of(manifest)
        .iter()
        .filter_map(|found| broken_direction(prover, found))
        .collect();
    assert_eq!(offences.len(), 2, "{offences:?}");
    assert!(names_crate("use store::DB;", "store"));
    assert!(names_crate("    let a = store::DB::open();", "store"));
    assert!(!names_crate("/// Like store::DB.\nlet a = b;", "store"));
    assert!(!names_crate("use my_store::DB;", "store"));
    assert!(
        rust_sources().count() > CRATE_RULES.len(),
        "the sources were not found"
    );
}

/// One line of a manifest's dependency tables.
struct Dependency {
    package: String,
    only_tests: bool,
}

/// The packages that a manifest depends on, tests' and build scripts' included.
fn dependencies_of(manifest: &str) -> Vec<Dependency> {
    let mut section = "";
    let mut found = Vec::new();
    for line in manifest.lines().map(str::trim) {
        if let Some(header) = line.strip_prefix('[') {
            section = header.trim_end_matches(']');
        } else if section.ends_with("dependencies") && !line.starts_with('#') {
            let package: String = line
                .chars()
                .take_while(|c| c.is_alphanumeric() || "-_".contains(*c))
                .collect();
            if !package.is_empty() {
                found.push(Dependency {
                    package,
                    only_tests: section == "dev-dependencies",
                });
            }
        }
    }
    found
}

/// Says what is wrong with a dependency, if anything is.
fn broken_direction(rule: &CrateRule, dependency: &Dependency) -> Option<String> {
    let Dependency {
        package,
        only_tests,
    } = dependency;
    let folder = rule.folder;
    if package == "millrace" {
        return Some(format!("{folder} depends on the binary"));
    }
    if let Some(used) = package.strip_prefix("millrace-") {
        // A crate's tests may name the crate itself, to switch on its features for tests.
        let own = *only_tests && used == folder;
        let allowed = own
            || rule.may_use.contains(&used)
            || (*only_tests && rule.tests_may_use.contains(&used));
        return (!allowed).then(|| format!("{folder} must not depend on {used}"));
    }
    // Tests may know more than the product: they compare with it.
    let forbidden = rule
        .must_not_know
        .iter()
        .any(|prefix| !only_tests && package.starts_with(prefix));
    forbidden.then(|| format!("{folder} must stay free of {package}"))
}

/// Whether code, comments aside, names a crate.
fn names_crate(text: &str, crate_name: &str) -> bool {
    let path = format!("{crate_name}::");
    text.lines()
        .map(str::trim_start)
        .filter(|line| !line.starts_with("//"))
        .any(|line| {
            line.match_indices(&path).any(|(at, _)| {
                !line[..at].ends_with(|before: char| before.is_alphanumeric() || before == '_')
            })
        })
}

fn folder_of(path: &str) -> &str {
    path.split('/').next().unwrap_or(path)
}

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .parent()
        .expect("tests is a folder of the clone")
        .into()
}

fn read(path: &Path) -> String {
    read_optional(path).unwrap_or_else(|| panic!("cannot read {}", path.display()))
}

fn read_optional(path: &Path) -> Option<String> {
    fs::read_to_string(path).ok()
}

/// Path from the root of the clone, and text, of every Rust file.
fn rust_sources() -> impl Iterator<Item = (String, String)> {
    files_ending_in(&["rs"])
}

fn text_files() -> impl Iterator<Item = (String, String)> {
    files_ending_in(TEXT_ENDINGS)
}

fn files_ending_in(endings: &'static [&'static str]) -> impl Iterator<Item = (String, String)> {
    let mut paths = Vec::new();
    collect_files(&root(), &mut paths);
    paths.sort();
    paths.into_iter().filter_map(move |path| {
        let ending = path.extension()?.to_str()?;
        let text = endings.contains(&ending).then(|| read(&path))?;
        let from_root = path.strip_prefix(root()).expect("found below the root");
        Some((from_root.to_string_lossy().into_owned(), text))
    })
}

fn collect_files(folder: &Path, paths: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).expect("a folder of the clone can be read") {
        let entry = entry.expect("a folder of the clone can be read");
        let kind = entry.file_type().expect("the kind of a file is known");
        if kind.is_dir() && !is_skipped(&entry.path()) {
            collect_files(&entry.path(), paths);
        } else if kind.is_file() {
            paths.push(entry.path());
        }
    }
}

fn is_skipped(folder: &Path) -> bool {
    let from_root = folder.strip_prefix(root()).expect("found below the root");
    SKIPPED_FOLDERS
        .iter()
        .any(|skipped| from_root == Path::new(skipped))
        || folder.ends_with("node_modules")
}

fn assert_none(offences: Vec<String>) {
    assert!(offences.is_empty(), "\n{}", offences.join("\n"));
}

//! The real program as a process: where it is, and how a test starts it without this machine's own settings.

use std::path::PathBuf;
use std::process::Command;

/// The program that was built along with this test.
///
/// # Panics
/// If it was not.
pub fn program() -> PathBuf {
    let test = std::env::current_exe().expect("a test is a program");
    let built = test
        .ancestors()
        .nth(2)
        .map(|folder| folder.join("millrace"));
    let built = built.expect("tests lie in a folder of the build");
    assert!(
        built.is_file(),
        "{} is missing: build the whole workspace",
        built.display()
    );
    built
}

/// A command of the program, without the settings of this machine.
///
/// # Panics
/// If the program was not built.
pub fn command() -> Command {
    let mut command = Command::new(program());
    for (name, _) in std::env::vars().filter(|(name, _)| name.starts_with("MILLRACE_")) {
        command.env_remove(name);
    }
    command
}

//! `millrace config` and `millrace completions`.

use crate::cli::{Arguments, Exit, Failure, Global};
use crate::config::{Config, ConfigError, SAMPLE};
use crate::output::Output;
use clap::CommandFactory;
use clap_complete::Shell;
use serde::Serialize;
use std::io::Write;

/// Options of `millrace config`.
#[derive(Debug, clap::Args)]
pub struct ConfigArguments {
    /// Print a commented sample file with the defaults instead
    #[arg(long)]
    pub sample: bool,
}

/// Options of `millrace completions`.
#[derive(Debug, clap::Args)]
pub struct CompletionsArguments {
    /// The shell
    pub shell: Shell,
}

/// Reads the configuration, with the flags of a command on top.
///
/// # Errors
/// [`Exit::Configuration`].
pub fn load(global: &Global, flags: &impl Serialize) -> Result<Config, Failure> {
    Config::load(global.config.as_deref(), flags).map_err(refused)
}

fn refused(error: ConfigError) -> Failure {
    Failure::because(
        Exit::Configuration,
        "the configuration cannot be used",
        &error,
    )
    .help(
        "`millrace config` prints the effective one, `millrace config --sample` a commented sample",
    )
}

/// Prints the effective configuration.
///
/// # Errors
/// If there is none.
pub fn show(global: &Global, output: Output, arguments: &ConfigArguments) -> Result<(), Failure> {
    if arguments.sample {
        output.result(&serde_json::json!({ "sample": SAMPLE }), || {
            SAMPLE.to_owned()
        });
        return Ok(());
    }
    let config = load(global, &serde_json::json!({}))?;
    output.result(&config, || config.to_toml());
    Ok(())
}

/// Prints a completion script.
///
/// # Errors
/// None that matters: a reader may go away.
pub fn completions(arguments: &CompletionsArguments) -> Result<(), Failure> {
    let mut script = Vec::new();
    clap_complete::generate(
        arguments.shell,
        &mut Arguments::command(),
        "millrace",
        &mut script,
    );
    // A reader that went away is no fault of ours.
    let _ = std::io::stdout().write_all(&script);
    Ok(())
}

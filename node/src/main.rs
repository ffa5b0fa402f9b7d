//! The `millrace` binary: arguments → command → exit code.

#![warn(clippy::unwrap_used)]

use clap::Parser;
use millrace::cli::{self, Arguments, Failure, logging};
use millrace::output::Output;
use std::process::ExitCode;

fn main() -> ExitCode {
    logging::hide_panics();
    let arguments = Arguments::parse();
    let output = Output::new(arguments.global.json);
    // Two TLS providers would make every connection fail, so the one is named here, once.
    let _ = rustls::crypto::ring::default_provider().install_default();
    match start(arguments) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => report(output, failure),
    }
}

fn start(arguments: Arguments) -> Result<(), Failure> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .map_err(|error| {
            Failure::because(cli::Exit::Internal, "cannot start the runtime", &error)
        })?;
    runtime.block_on(cli::run(arguments))
}

fn report(output: Output, failure: Failure) -> ExitCode {
    let code = failure.exit() as u8;
    if output.json {
        output.json_line(&failure.to_json());
    }
    eprintln!("{:?}", miette::Report::new(failure));
    ExitCode::from(code)
}

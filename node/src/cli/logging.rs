//! Logs and faults: tracing to stderr, and no panic text for users.

use crate::cli::Global;
use crate::config::LogConfig;
use std::io::{self, IsTerminal};
use tracing_subscriber::EnvFilter;

/// What one-shot commands log unless told.
const QUIET: &str = "warn";

/// Starts logging for a command that runs on: what the configuration says, unless flags say otherwise.
pub fn start(global: &Global, config: &LogConfig) {
    let filter = global.log.as_deref().unwrap_or(&config.filter);
    install(filter, global.log_json || config.json);
}

/// Starts logging for a command that ends by itself: warnings only, unless flags say otherwise.
pub fn start_quiet(global: &Global) {
    install(global.log.as_deref().unwrap_or(QUIET), global.log_json);
}

fn install(filter: &str, json: bool) {
    let filter = EnvFilter::try_new(filter).unwrap_or_else(|_| EnvFilter::new("info"));
    let builder = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_ansi(io::stderr().is_terminal())
        .with_writer(io::stderr);
    // A second subscriber, as in tests that run several commands, is no fault.
    let _ = if json {
        builder.json().try_init()
    } else {
        builder.try_init()
    };
}

/// Replaces panic text by a short notice. What was acknowledged is on disk in any case.
pub fn hide_panics() {
    std::panic::set_hook(Box::new(|panic| {
        let place = panic
            .location()
            .map_or_else(String::new, |l| format!("{}:{}", l.file(), l.line()));
        tracing::error!(place, "fault: {}", message(panic.payload()));
        eprintln!(
            "millrace: internal fault at {place}. Nothing that was acknowledged is lost; please report it with the \
             output of the same command and --log debug."
        );
    }));
}

fn message(payload: &(dyn std::any::Any + Send)) -> &str {
    let text = payload.downcast_ref::<&str>().copied();
    text.or_else(|| payload.downcast_ref::<String>().map(String::as_str))
        .unwrap_or("no message")
}

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

/// The constraint system's own spans. Each prints whole linear combinations and witness values: with them on, a proof takes
/// a hundred times as long, and a log would hold what a prover must keep.
const CONSTRAINT_SPANS: [&str; 2] = ["gr1cs", "r1cs"];

fn filter(directives: &str) -> EnvFilter {
    let filter = EnvFilter::try_new(directives).unwrap_or_else(|_| EnvFilter::new("info"));
    CONSTRAINT_SPANS.iter().fold(filter, |filter, target| {
        let off = format!("{target}=off").parse();
        filter.add_directive(off.expect("a target and a level make a directive"))
    })
}

fn install(directives: &str, json: bool) {
    let filter = filter(directives);
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

#[cfg(test)]
mod tests {
    use super::*;
    use tracing_subscriber::layer::SubscriberExt;

    #[test]
    fn spans_of_the_constraint_system_are_off_whatever_is_asked_for() {
        for directives in ["info", "trace", "gr1cs=trace,r1cs=trace"] {
            let subscriber = tracing_subscriber::registry().with(filter(directives));
            tracing::subscriber::with_default(subscriber, || {
                assert!(!tracing::enabled!(target: "gr1cs", tracing::Level::ERROR));
                assert!(!tracing::enabled!(target: "r1cs", tracing::Level::ERROR));
                let others = directives != "gr1cs=trace,r1cs=trace";
                assert_eq!(tracing::enabled!(tracing::Level::INFO), others);
            });
        }
    }
}

//! What a user reads when a command fails: what happened, why, and what to do next.
//!
//! library error → [`Failure`] (exit code, message, causes, next step) → miette on stderr, one JSON object with `--json`

use miette::{Diagnostic, Severity};
use serde::Serialize;
use std::error::Error;
use std::fmt;

/// Stable exit codes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
#[repr(u8)]
pub enum Exit {
    /// A fault of this program, or of the machine.
    Internal = 1,
    /// The command line is wrong.
    Usage = 2,
    /// The configuration is wrong.
    Configuration = 3,
    /// Keys, keystore or password.
    Keys = 4,
    /// The node or L1 cannot be reached.
    Connection = 5,
    /// The node or the contract refused.
    Refused = 6,
    /// Something does not verify: a proof, a root, a file.
    Verification = 7,
    /// What was asked for does not exist.
    NotFound = 8,
    /// It may or may not have happened: run it again, which pays nothing twice.
    Unknown = 9,
}

impl Exit {
    /// The name that scripts match.
    pub fn name(self) -> &'static str {
        match self {
            Self::Internal => "internal",
            Self::Usage => "usage",
            Self::Configuration => "configuration",
            Self::Keys => "keys",
            Self::Connection => "connection",
            Self::Refused => "refused",
            Self::Verification => "verification",
            Self::NotFound => "not_found",
            Self::Unknown => "unknown",
        }
    }
}

/// A failed command.
#[derive(Debug)]
pub struct Failure {
    exit: Exit,
    message: String,
    cause: Option<Cause>,
    help: Option<String>,
}

impl Failure {
    /// A failure with a message in lower case.
    pub fn new(exit: Exit, message: impl Into<String>) -> Self {
        Self {
            exit,
            message: message.into(),
            cause: None,
            help: None,
        }
    }

    /// A failure that an error caused.
    pub fn because(exit: Exit, message: impl Into<String>, error: &dyn Error) -> Self {
        let mut failure = Self::new(exit, message);
        failure.cause = Cause::chain(error);
        failure
    }

    /// Adds what to do next.
    #[must_use]
    pub fn help(mut self, help: impl Into<String>) -> Self {
        self.help = Some(help.into());
        self
    }

    /// The exit code.
    pub fn exit(&self) -> Exit {
        self.exit
    }

    /// What `--json` prints.
    pub fn to_json(&self) -> serde_json::Value {
        let mut causes = Vec::new();
        let mut next = self.cause.as_ref();
        while let Some(cause) = next {
            causes.push(cause.text.clone());
            next = cause.source.as_deref();
        }
        serde_json::json!({ "error": {
            "code": self.exit.name(),
            "exit_code": self.exit as u8,
            "message": self.message,
            "causes": causes,
            "help": self.help,
        }})
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl Error for Failure {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        self.cause
            .as_ref()
            .map(|cause| cause as &(dyn Error + 'static))
    }
}

impl Diagnostic for Failure {
    fn code<'a>(&'a self) -> Option<Box<dyn fmt::Display + 'a>> {
        Some(Box::new(format!("millrace::{}", self.exit.name())))
    }

    fn severity(&self) -> Option<Severity> {
        Some(Severity::Error)
    }

    fn help<'a>(&'a self) -> Option<Box<dyn fmt::Display + 'a>> {
        self.help
            .as_ref()
            .map(|help| Box::new(help) as Box<dyn fmt::Display>)
    }
}

/// One error of a chain, as text: library errors need not live as long as the report.
#[derive(Debug)]
struct Cause {
    text: String,
    source: Option<Box<Cause>>,
}

impl Cause {
    fn chain(error: &dyn Error) -> Option<Self> {
        Some(Self {
            text: error.to_string(),
            source: error.source().and_then(Self::chain).map(Box::new),
        })
    }
}

impl fmt::Display for Cause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl Error for Cause {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        self.source
            .as_deref()
            .map(|cause| cause as &(dyn Error + 'static))
    }
}

//! anvil as a child process on a free port, ended when dropped.

use crate::provider::{ConnectError, L1Provider};
use std::{
    env,
    io::{BufRead, BufReader},
    path::{Path, PathBuf},
    process::{Child, ChildStdout, Command, Stdio},
    sync::mpsc,
    time::Duration,
};
use thiserror::Error;

/// The environment variable that names anvil's program.
pub const ANVIL_VARIABLE: &str = "MILLRACE_ANVIL";
/// Where the program lies below a folder with npm packages.
const PLACES: [&str; 2] = [
    "node_modules/@foundry-rs/anvil-linux-amd64/bin/anvil",
    "node_modules/.bin/anvil",
];
/// How long anvil may take to listen.
const START_LIMIT: Duration = Duration::from_secs(60);
/// What anvil prints before its address.
const LISTENING: &str = "Listening on ";

/// Why there is no anvil.
#[derive(Debug, Error)]
pub enum AnvilError {
    /// The program was not found.
    #[error(
        "anvil not found above {0}: run npm ci at the root of the repository, or set MILLRACE_ANVIL to the program"
    )]
    NotFound(String),
    /// The program does not start.
    #[error("anvil at {path} does not start: {cause}")]
    Start {
        /// The program.
        path: String,
        /// What the system says.
        cause: String,
    },
    /// The program ended or stayed silent.
    #[error("anvil did not listen within {0:?}")]
    Silent(Duration),
}

/// A running anvil.
#[derive(Debug)]
pub struct Anvil {
    child: Child,
    url: String,
}

impl Anvil {
    /// Starts anvil with mainnet's current rules, the development accounts, and blocks on demand.
    pub fn spawn() -> Result<Self, AnvilError> {
        Self::spawn_with(&[])
    }

    /// Starts anvil with further arguments.
    pub fn spawn_with(arguments: &[&str]) -> Result<Self, AnvilError> {
        let program = find()?;
        let mut child = Command::new(&program)
            .args([
                "--port",
                "0",
                "--hardfork",
                "osaka",
                "--enable-tx-gas-limit",
            ])
            .args(arguments)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .map_err(|error| AnvilError::Start {
                path: program.display().to_string(),
                cause: error.to_string(),
            })?;
        let stdout = child.stdout.take().expect("the output is piped");
        let mut anvil = Self {
            child,
            url: String::new(),
        };
        anvil.url = listening_url(stdout)?;
        Ok(anvil)
    }

    /// The HTTP endpoint.
    pub fn url(&self) -> &str {
        &self.url
    }

    /// A connection to it.
    pub async fn connect(&self) -> Result<L1Provider, ConnectError> {
        L1Provider::connect_url(&self.url).await
    }
}

impl Drop for Anvil {
    fn drop(&mut self) {
        // Nothing to do about a process that is already gone.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Waits for the address; a thread goes on reading, so that anvil never waits for room in the pipe.
fn listening_url(stdout: ChildStdout) -> Result<String, AnvilError> {
    let (sender, receiver) = mpsc::channel();
    std::thread::spawn(move || {
        for line in BufReader::new(stdout).lines().map_while(Result::ok) {
            if let Some(address) = line.strip_prefix(LISTENING) {
                let _ = sender.send(format!("http://{}", address.trim()));
            }
        }
    });
    receiver
        .recv_timeout(START_LIMIT)
        .map_err(|_| AnvilError::Silent(START_LIMIT))
}

fn find() -> Result<PathBuf, AnvilError> {
    if let Some(path) = env::var_os(ANVIL_VARIABLE) {
        return Ok(path.into());
    }
    let start = Path::new(env!("CARGO_MANIFEST_DIR"));
    let candidates = start
        .ancestors()
        .flat_map(|folder| PLACES.map(|place| folder.join(place)));
    let found = candidates.into_iter().find(|path| path.is_file());
    found.ok_or_else(|| AnvilError::NotFound(start.display().to_string()))
}

//! The machine and program of a measurement: no figure without it.

use rustix::time::{ClockId, clock_gettime};
use serde::{Deserialize, Serialize};
use std::process::Command;

/// Processor features that decide how fast field arithmetic can be.
const FLAGS: [&str; 8] = [
    "adx",
    "avx2",
    "avx512f",
    "avx512ifma",
    "avx512vl",
    "bmi2",
    "sha_ni",
    "neon",
];

/// Where a measurement was made.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Environment {
    /// Processor.
    pub cpu: String,
    /// Its features that matter here.
    pub flags: Vec<String>,
    /// Threads that may run at once.
    pub cores: usize,
    /// Memory in bytes.
    pub memory_bytes: u64,
    /// Operating system and architecture.
    pub platform: String,
    /// Compiler.
    pub rustc: String,
    /// Whether the program was built with optimisation and without debug assertions.
    pub profile: String,
    /// Version of this program.
    pub version: String,
    /// Commit of the sources, "unknown" outside a repository.
    pub commit: String,
}

impl Environment {
    /// Describes this machine and program.
    pub fn detect() -> Self {
        let cpu_info = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
        let memory_info = std::fs::read_to_string("/proc/meminfo").unwrap_or_default();
        let present = field(&cpu_info, "flags").or_else(|| field(&cpu_info, "Features"));
        let present: Vec<&str> = present.unwrap_or_default().split_whitespace().collect();
        Self {
            cpu: field(&cpu_info, "model name")
                .unwrap_or("unknown")
                .to_owned(),
            flags: FLAGS
                .iter()
                .filter(|f| present.contains(f))
                .map(ToString::to_string)
                .collect(),
            cores: std::thread::available_parallelism().map_or(1, usize::from),
            memory_bytes: field(&memory_info, "MemTotal").map_or(0, kibibytes),
            platform: format!("{}-{}", std::env::consts::OS, std::env::consts::ARCH),
            rustc: env!("MILLRACE_RUSTC").to_owned(),
            profile: if cfg!(debug_assertions) {
                "dev"
            } else {
                "release"
            }
            .to_owned(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            commit: option_env!("MILLRACE_COMMIT").map_or_else(commit, str::to_owned),
        }
    }
}

/// Highest memory use of this process so far, in bytes; 0 where the system does not tell.
pub fn peak_rss_bytes() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    field(&status, "VmHWM").map_or(0, kibibytes)
}

/// Starts the count of [`peak_rss_bytes`] anew, where the system allows it.
pub fn reset_peak_rss() {
    // Without the permission the peak is that of the whole process, which is still an upper bound.
    let _ = std::fs::write("/proc/self/clear_refs", "5");
}

/// Processor seconds that all threads of this process have used.
pub fn cpu_seconds() -> f64 {
    let time = clock_gettime(ClockId::ProcessCPUTime);
    time.tv_sec as f64 + time.tv_nsec as f64 / 1e9
}

fn field<'a>(text: &'a str, name: &str) -> Option<&'a str> {
    text.lines().find_map(|line| {
        let (key, value) = line.split_once(':')?;
        (key.trim() == name).then(|| value.trim())
    })
}

fn kibibytes(text: &str) -> u64 {
    let number = text
        .split_whitespace()
        .next()
        .and_then(|n| n.parse::<u64>().ok());
    number.unwrap_or(0).saturating_mul(1024)
}

fn commit() -> String {
    let output = Command::new("git").args(["rev-parse", "HEAD"]).output();
    let text = output
        .ok()
        .filter(|o| o.status.success())
        .and_then(|o| String::from_utf8(o.stdout).ok());
    text.map_or_else(|| "unknown".into(), |text| text.trim().to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_machine_is_described() {
        let environment = Environment::detect();
        assert!(environment.cores >= 1);
        assert!(
            environment.rustc.starts_with("rustc "),
            "{}",
            environment.rustc
        );
        assert!(
            environment.memory_bytes > 1 << 20,
            "{}",
            environment.memory_bytes
        );
        assert!(peak_rss_bytes() > 1 << 20);
        assert!(cpu_seconds() > 0.0);
        let json = serde_json::to_string(&environment).unwrap();
        assert_eq!(
            serde_json::from_str::<Environment>(&json).unwrap(),
            environment
        );
    }

    #[test]
    fn fields_are_found_by_their_whole_name() {
        let text = "MemTotalX: 1 kB\nMemTotal:   24117248 kB\n";
        assert_eq!(
            field(text, "MemTotal").map(kibibytes),
            Some(24117248 * 1024)
        );
        assert_eq!(field(text, "Mem"), None);
    }
}

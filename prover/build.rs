//! Notes the compiler's version, for the description of measurements.

use std::process::Command;

fn main() {
    println!("cargo:rerun-if-changed=build.rs");
    println!("cargo:rerun-if-env-changed=RUSTC");
    println!("cargo:rerun-if-env-changed=MILLRACE_COMMIT");
    let compiler = std::env::var("RUSTC").unwrap_or_else(|_| "rustc".into());
    let output = Command::new(compiler).arg("--version").output().ok();
    let version = output
        .and_then(|o| String::from_utf8(o.stdout).ok())
        .unwrap_or_default();
    let version = if version.is_empty() {
        "rustc unknown"
    } else {
        version.trim()
    };
    println!("cargo:rustc-env=MILLRACE_RUSTC={version}");
}

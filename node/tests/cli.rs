//! The program as a user runs it: help, answers, errors and exit codes.

// A panic is how a test fails, in its helpers too.
#![allow(clippy::unwrap_used)]

use serde_json::Value;
use std::path::Path;
use std::process::{Command, Output};

const PHRASE: &str = "test test test test test test test test test test test junk";

/// Runs `millrace` in a folder of its own, with no setting of this machine.
fn millrace(folder: &Path, arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_millrace"))
        .args(arguments)
        .current_dir(folder)
        .env_clear()
        .env("HOME", folder)
        .output()
        .expect("the binary was built for this test")
}

fn code(output: &Output) -> i32 {
    output.status.code().expect("it was not killed")
}

fn stdout(output: &Output) -> String {
    String::from_utf8(output.stdout.clone()).unwrap()
}

fn stderr(output: &Output) -> String {
    String::from_utf8(output.stderr.clone()).unwrap()
}

/// The JSON object that is the last line of stdout.
fn last_json(output: &Output) -> Value {
    let text = stdout(output);
    let line = text
        .lines()
        .last()
        .unwrap_or_else(|| panic!("no output; stderr: {}", stderr(output)));
    serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}"))
}

/// A wallet from the test phrase.
fn with_wallet() -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("password"), "correct horse\n").unwrap();
    std::fs::write(folder.path().join("phrase"), PHRASE).unwrap();
    let import = [
        "wallet",
        "import",
        "--dir",
        "w",
        "--phrase-file",
        "phrase",
        "--password-file",
        "password",
    ];
    let output = millrace(folder.path(), &import);
    assert_eq!(code(&output), 0, "{}", stderr(&output));
    folder
}

#[test]
fn help_names_every_command() {
    let folder = tempfile::tempdir().unwrap();
    let output = millrace(folder.path(), &["--help"]);
    assert_eq!(code(&output), 0);
    let help = stdout(&output);
    let listed: Vec<&str> = help
        .lines()
        .skip_while(|line| *line != "Commands:")
        .skip(1)
        .map_while(|line| line.split_whitespace().next())
        .collect();
    let expected = [
        "dev",
        "deploy",
        "node",
        "wallet",
        "pay",
        "channel",
        "tower",
        "batch",
        "restore",
        "setup",
        "ceremony",
        "prover",
        "prove",
        "export",
        "verify",
        "bench",
        "demo",
        "config",
        "completions",
        "help",
    ];
    assert_eq!(listed, expected);
}

#[test]
fn wallet_help_names_every_action() {
    let folder = tempfile::tempdir().unwrap();
    let help = stdout(&millrace(folder.path(), &["wallet", "--help"]));
    for action in [
        "new",
        "import",
        "address",
        "accounts",
        "deposit",
        "transfer",
        "swap",
        "withdraw",
        "claim",
        "forced-exit",
        "escape-exit",
        "cancel-deposit",
        "history",
    ] {
        assert!(
            help.lines()
                .any(|line| line.split_whitespace().next() == Some(action)),
            "{action}"
        );
    }
}

#[test]
fn a_wrong_command_line_is_exit_code_2() {
    let folder = tempfile::tempdir().unwrap();
    assert_eq!(code(&millrace(folder.path(), &["walet"])), 2);
    assert_eq!(code(&millrace(folder.path(), &[])), 2);
}

#[test]
fn the_addresses_of_a_phrase_are_pinned() {
    let folder = with_wallet();
    let address = [
        "wallet",
        "address",
        "--dir",
        "w",
        "--password-file",
        "password",
        "--json",
    ];
    let output = millrace(folder.path(), &address);
    assert_eq!(code(&output), 0, "{}", stderr(&output));
    let shown = last_json(&output);
    assert_eq!(
        shown["l1_address"],
        "0xf39Fd6e51aad88F6F4ce6aB8827279cffFb92266"
    );
    assert!(
        shown["payment_address"]
            .as_str()
            .unwrap()
            .starts_with("mlr1")
    );
    let second = millrace(folder.path(), &[&address[..], &["--number", "1"]].concat());
    assert_ne!(
        last_json(&second)["payment_address"],
        shown["payment_address"]
    );
}

#[test]
fn a_wrong_password_says_so_and_is_exit_code_4() {
    let folder = with_wallet();
    std::fs::write(folder.path().join("wrong"), "incorrect").unwrap();
    let output = millrace(
        folder.path(),
        &[
            "wallet",
            "address",
            "--dir",
            "w",
            "--password-file",
            "wrong",
            "--json",
        ],
    );
    assert_eq!(code(&output), 4);
    let error = &last_json(&output)["error"];
    assert_eq!(error["code"], "keys");
    assert!(
        error["causes"][0]
            .as_str()
            .unwrap()
            .contains("wrong password"),
        "{error}"
    );
}

#[test]
fn a_truncated_keystore_says_that_it_is_damaged() {
    let folder = with_wallet();
    let path = folder.path().join("w/keystore.json");
    let bytes = std::fs::read(&path).unwrap();
    std::fs::write(&path, &bytes[..bytes.len() / 2]).unwrap();
    let output = millrace(
        folder.path(),
        &[
            "wallet",
            "address",
            "--dir",
            "w",
            "--password-file",
            "password",
        ],
    );
    assert_eq!(code(&output), 4);
    assert!(stderr(&output).contains("damaged"), "{}", stderr(&output));
}

#[test]
fn a_wallet_is_never_overwritten() {
    let folder = with_wallet();
    let import = [
        "wallet",
        "import",
        "--dir",
        "w",
        "--phrase-file",
        "phrase",
        "--password-file",
        "password",
    ];
    let output = millrace(folder.path(), &import);
    assert_eq!(code(&output), 4);
    assert!(
        stderr(&output).contains("never overwritten"),
        "{}",
        stderr(&output)
    );
}

#[test]
fn without_a_wallet_the_next_step_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let output = millrace(folder.path(), &["wallet", "address", "--dir", "w"]);
    assert_eq!(code(&output), 4);
    assert!(
        stderr(&output).contains("millrace wallet new"),
        "{}",
        stderr(&output)
    );
    assert!(!stderr(&output).contains("panicked"));
}

#[test]
fn without_a_terminal_a_new_phrase_is_shown_only_when_told() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("password"), "x").unwrap();
    let new = [
        "wallet",
        "new",
        "--dir",
        "w",
        "--password-file",
        "password",
        "--json",
    ];
    let refused = millrace(folder.path(), &new);
    assert_eq!(code(&refused), 2);
    assert!(
        !folder.path().join("w/keystore.json").exists(),
        "a wallet whose phrase nobody saw"
    );
    let made = millrace(folder.path(), &[&new[..], &["--show-phrase"]].concat());
    assert_eq!(code(&made), 0, "{}", stderr(&made));
    assert_eq!(
        last_json(&made)["phrase"]
            .as_str()
            .unwrap()
            .split(' ')
            .count(),
        24
    );
}

#[test]
fn a_wrong_phrase_is_named_by_place_and_not_repeated() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("password"), "x").unwrap();
    std::fs::write(folder.path().join("phrase"), PHRASE.replace("junk", "jumk")).unwrap();
    let import = [
        "wallet",
        "import",
        "--dir",
        "w",
        "--phrase-file",
        "phrase",
        "--password-file",
        "password",
        "--json",
    ];
    let output = millrace(folder.path(), &import);
    assert_eq!(code(&output), 4);
    let text = format!("{}{}", stdout(&output), stderr(&output));
    assert!(text.contains("word 12") && !text.contains("jumk"), "{text}");
}

#[test]
fn an_unreachable_node_is_exit_code_5_with_the_next_step() {
    let folder = tempfile::tempdir().unwrap();
    let output = millrace(
        folder.path(),
        &["batch", "list", "--node", "http://127.0.0.1:9", "--json"],
    );
    assert_eq!(code(&output), 5);
    let error = &last_json(&output)["error"];
    assert_eq!(error["exit_code"], 5);
    assert!(
        error["help"].as_str().unwrap().contains("millrace dev"),
        "{error}"
    );
}

#[test]
fn a_file_that_is_no_proof_is_exit_code_7() {
    let folder = tempfile::tempdir().unwrap();
    for name in ["proof.json", "public.json", "key.json"] {
        std::fs::write(folder.path().join(name), "{}").unwrap();
    }
    let verify = [
        "verify",
        "--proof",
        "proof.json",
        "--public",
        "public.json",
        "--key",
        "key.json",
    ];
    assert_eq!(code(&millrace(folder.path(), &verify)), 7);
}

#[test]
fn a_circuit_exported_for_other_tools_is_proved_from_its_files() {
    let folder = tempfile::tempdir().unwrap();
    for (format, file) in [
        ("zkey", "c.zkey"),
        ("wtns", "c.wtns"),
        ("vkey", "vkey.json"),
    ] {
        let export = ["export", "--circuit", "chain-20", "--format", format];
        let output = millrace(folder.path(), &[&export[..], &["--output", file]].concat());
        assert_eq!(code(&output), 0, "{}", stderr(&output));
    }
    let prove = ["prove", "--zkey", "c.zkey", "--wtns", "c.wtns", "--json"];
    let output = millrace(folder.path(), &prove);
    assert_eq!(code(&output), 0, "{}", stderr(&output));
    assert_eq!(last_json(&output)["constraints"], 23);
    let verify = [
        "verify",
        "--proof",
        "proof.json",
        "--public",
        "public.json",
        "--key",
        "vkey.json",
    ];
    assert_eq!(code(&millrace(folder.path(), &verify)), 0);

    let swapped = ["prove", "--zkey", "c.wtns", "--wtns", "c.zkey"];
    let output = millrace(folder.path(), &swapped);
    assert_eq!(code(&output), 7);
    assert!(
        stderr(&output).contains("no zkey file"),
        "{}",
        stderr(&output)
    );
}

#[test]
fn the_effective_configuration_shows_its_sources_and_no_secret() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(
        folder.path().join("millrace.toml"),
        "[prover]\ntoken = \"hunter2\"\nworkers = 3\n",
    )
    .unwrap();
    let output = millrace(folder.path(), &["config", "--json"]);
    assert_eq!(code(&output), 0, "{}", stderr(&output));
    assert!(!stdout(&output).contains("hunter2"));
    assert_eq!(last_json(&output)["prover"]["workers"], 3);
}

#[test]
fn a_wrong_configuration_names_the_key_and_is_exit_code_3() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(
        folder.path().join("millrace.toml"),
        "[prover]\nworkers = 0\n",
    )
    .unwrap();
    let output = millrace(folder.path(), &["config"]);
    assert_eq!(code(&output), 3);
    assert!(
        stderr(&output).contains("prover.workers"),
        "{}",
        stderr(&output)
    );
}

#[test]
fn completions_are_scripts() {
    let folder = tempfile::tempdir().unwrap();
    for shell in ["bash", "zsh", "fish"] {
        let output = millrace(folder.path(), &["completions", shell]);
        assert_eq!(code(&output), 0);
        assert!(stdout(&output).contains("millrace"), "{shell}");
    }
}

/// An address that nobody has: what is checked before anything is sent.
const SOMEBODY: &str = "mlr1qk75e6d4n5g2x0jrcfrwdq6kkkku5nf04kunzcd5ws8x8pdzzjgqcehez4";

#[test]
fn pay_names_what_it_cannot_pay_and_what_to_type_instead() {
    let folder = tempfile::tempdir().unwrap();
    let pay = |arguments: &[&str]| {
        let all = [
            &["pay"],
            arguments,
            &["--node", "http://127.0.0.1:1", "--json"],
        ]
        .concat();
        let output = millrace(folder.path(), &all);
        (code(&output), last_json(&output)["error"].clone())
    };
    let key = format!("02{}", "79".repeat(32));
    let cases: [(&[&str], i32, &str, &str); 5] = [
        (&["hello", "5"], 2, "is nothing to pay", "an invoice"),
        (&[SOMEBODY], 2, "needs an amount", "millrace pay"),
        (&["mlrx1qqqq"], 2, "cannot be paid", "ask the payee"),
        (&[&key], 2, "needs an amount", "millrace pay KEY"),
        (
            &[&key, "5u"],
            5,
            "no answer from the node",
            "channels.enabled",
        ),
    ];
    for (arguments, exit, message, help) in cases {
        let (code, error) = pay(arguments);
        assert_eq!(code, exit, "{arguments:?}: {error}");
        assert!(
            error["message"].as_str().unwrap().contains(message),
            "{error}"
        );
        assert!(error["help"].as_str().unwrap().contains(help), "{error}");
    }
}

#[test]
fn pay_says_what_it_would_do_and_does_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let dry = ["pay", SOMEBODY, "0.5", "--dry-run", "--json"];
    let output = millrace(folder.path(), &dry);
    assert_eq!(code(&output), 0, "{}", stderr(&output));
    let shown = last_json(&output);
    assert_eq!(shown["rail"], "rollup");
    assert_eq!(shown["to"], SOMEBODY);
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0);
}

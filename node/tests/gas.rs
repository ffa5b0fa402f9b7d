//! The gas goals, measured as a user would measure them: real batches, real proofs, the embedded chain.

use serde_json::Value;
use std::collections::BTreeMap;
use std::process::Command;

#[test]
fn every_operation_stays_within_its_gas_goal() {
    let folder = tempfile::tempdir().unwrap();
    let output = Command::new(env!("CARGO_BIN_EXE_millrace"))
        .args(["bench", "gas", "--json"])
        .current_dir(folder.path())
        .output()
        .expect("the binary was built for this test");
    let stdout = String::from_utf8(output.stdout).unwrap();
    let stderr = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success(), "{stderr}");
    let report: Value = serde_json::from_str(stdout.lines().last().unwrap()).unwrap();
    assert!(report["environment"]["cores"].as_u64().unwrap() > 0);
    let rows = report["rows"].as_array().unwrap().iter();
    let gas: BTreeMap<&str, u64> = rows
        .map(|row| {
            (
                row["operation"].as_str().unwrap(),
                row["gas"].as_u64().unwrap(),
            )
        })
        .collect();
    let operations = [
        "channel_challenge",
        "channel_coop_close",
        "channel_deposit",
        "channel_disputed_htlc",
        "channel_open",
        "channel_reveal",
        "channel_settle",
        "channel_unilateral_close",
        "claim",
        "commit_and_prove_fixed",
        "commit_fixed",
        "deposit",
        "escape_exit",
        "pay_withdrawal",
        "per_transfer",
        "prove_fixed",
        "request_exit",
    ];
    assert_eq!(gas.keys().copied().collect::<Vec<_>>(), operations);
    // In one transaction; as two, the second one's base fee and the hash kept between them come on top.
    assert!(gas["commit_and_prove_fixed"] <= 300_000, "{gas:?}");
    assert!(
        gas["commit_fixed"] + gas["prove_fixed"] <= 340_000,
        "{gas:?}"
    );
    assert!(gas["per_transfer"] <= 190, "{gas:?}");
    assert!(gas["claim"] <= 60_000, "{gas:?}");
    for (operation, goal) in [
        ("channel_open", 55_000),
        ("channel_coop_close", 60_000),
        ("channel_unilateral_close", 97_000),
        ("channel_challenge", 58_000),
        ("channel_settle", 60_000),
        ("channel_disputed_htlc", 285_000),
    ] {
        assert!(gas[operation] <= goal, "{operation}: {gas:?}");
    }
}

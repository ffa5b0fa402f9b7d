//! Precedence, bounds and secrecy of the configuration.

use super::*;
use figment::Jail;
use serde_json::json;

fn nothing() -> serde_json::Value {
    json!({})
}

/// Runs with an environment and a working folder of its own.
#[expect(
    clippy::result_large_err,
    reason = "figment's test jail fixes the error type"
)]
fn apart(test: impl FnOnce(&mut Jail)) {
    Jail::expect_with(|jail| {
        jail.clear_env();
        test(jail);
        Ok(())
    });
}

#[test]
fn flags_beat_environment_beats_file_beats_defaults() {
    apart(|jail| {
        jail.create_file(
            "millrace.toml",
            "data_dir = \"file\"\n[sequencer]\nseal_after_ms = 2\nminimum_fee = 2\nmempool_limit = 2\n",
        ).unwrap();
        jail.set_env("MILLRACE_SEQUENCER__SEAL_AFTER_MS", "3");
        jail.set_env("MILLRACE_SEQUENCER__MINIMUM_FEE", "3");
        let flags = json!({ "sequencer": { "seal_after_ms": 4 } });
        let config = Config::load(None, &flags).unwrap();
        assert_eq!(config.sequencer.seal_after_ms, 4);
        assert_eq!(config.sequencer.minimum_fee, 3);
        assert_eq!(config.sequencer.mempool_limit, 2);
        assert_eq!(config.data_dir, PathBuf::from("file"));
        assert_eq!(config.api, ApiConfig::default());
    });
}

#[test]
fn variables_of_single_commands_are_no_configuration() {
    apart(|jail| {
        jail.set_env("MILLRACE_PASSWORD", "x");
        jail.set_env("MILLRACE_CONFIG", "x");
        jail.set_env("MILLRACE_CACHE", "x");
        jail.set_env("MILLRACE_BIN", "x");
        assert_eq!(Config::load(None, &nothing()).unwrap(), Config::default());
    });
}

#[test]
fn the_sample_states_the_defaults() {
    apart(|jail| {
        jail.create_file("sample.toml", SAMPLE).unwrap();
        let config = Config::load(Some(Path::new("sample.toml")), &nothing()).unwrap();
        assert_eq!(config, Config::default());
    });
}

#[test]
fn the_samples_commented_keys_exist_as_well() {
    let uncommented: String = SAMPLE
        .lines()
        .map(|line| match line.strip_prefix("# ") {
            Some(rest) if rest.split_once(" = ").is_some_and(|(key, _)| is_key(key)) => rest,
            _ => line,
        })
        .map(|line| format!("{line}\n"))
        .collect();
    let config: Config = Figment::from(Toml::string(&uncommented)).extract().unwrap();
    assert_eq!(config.l1.chain_id, Some(1));
    assert!(config.prover.token.is_some() && config.l1.operator_key_file.is_some());
}

fn is_key(text: &str) -> bool {
    text.chars()
        .all(|c| c.is_ascii_lowercase() || c == '_' || c.is_ascii_digit())
}

#[test]
fn a_misspelt_key_is_refused_by_name() {
    apart(|jail| {
        jail.create_file("millrace.toml", "[sequencer]\nseal_afer_ms = 2\n")
            .unwrap();
        let error = Config::load(None, &nothing()).unwrap_err().to_string();
        assert!(error.contains("seal_afer_ms"), "{error}");
    });
}

#[test]
fn a_named_file_must_exist() {
    apart(|_| {
        let error = Config::load(Some(Path::new("/nonexistent/millrace.toml")), &nothing());
        assert!(matches!(error, Err(ConfigError::Missing(_))));
    });
}

#[test]
fn values_out_of_bounds_name_their_key() {
    apart(|_| {
        let refused = |flags: serde_json::Value, expected: &str| match Config::load(None, &flags) {
            Err(ConfigError::Value { key, .. }) => assert_eq!(key, expected),
            other => panic!("{expected}: {other:?}"),
        };
        refused(json!({ "roles": [] }), "roles");
        refused(json!({ "roles": ["follower", "sequencer"] }), "roles");
        refused(json!({ "roles": ["prover"] }), "roles");
        refused(json!({ "roles": ["follower"] }), "l1.urls");
        refused(
            json!({ "sequencer": { "circuits": [9] } }),
            "sequencer.circuits",
        );
        refused(
            json!({ "sequencer": { "circuits": [] } }),
            "sequencer.circuits",
        );
        refused(
            json!({ "sequencer": { "seal_after_ms": 0 } }),
            "sequencer.seal_after_ms",
        );
        refused(json!({ "prover": { "workers": 0 } }), "prover.workers");
    });
}

#[test]
fn a_contract_is_demanded_of_a_node_and_not_of_what_comes_before_it() {
    apart(|_| {
        let flags = json!({ "l1": { "urls": ["http://127.0.0.1:1"] } });
        let config = Config::load(None, &flags).unwrap();
        let refused = config.check().unwrap_err();
        assert!(matches!(
            refused,
            ConfigError::Value {
                key: "l1.contract",
                ..
            }
        ));
        assert!(refused.to_string().contains("millrace deploy"));
        Config::default().check().unwrap();
    });
}

#[test]
fn secrets_show_nowhere() {
    apart(|_| {
        let flags =
            json!({ "l1": { "operator_key": "0xdeadbeef" }, "prover": { "token": "hunter2" } });
        let config = Config::load(None, &flags).unwrap();
        assert_eq!(
            config.operator_key().unwrap().unwrap().expose(),
            "0xdeadbeef"
        );
        let shown = format!("{config:?}{}{}", config.to_toml(), json!(config));
        assert!(
            !shown.contains("deadbeef") && !shown.contains("hunter2"),
            "{shown}"
        );
        assert!(shown.contains(secret::BLANK));
    });
}

#[test]
fn an_operator_key_that_others_can_read_is_refused() {
    apart(|_| {
        use std::os::unix::fs::PermissionsExt;
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("operator.key");
        std::fs::write(&path, "0x01\n").unwrap();
        let flags = json!({ "l1": { "operator_key_file": path } });
        let config = Config::load(None, &flags).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o644)).unwrap();
        assert!(matches!(
            config.operator_key(),
            Err(ConfigError::KeyFile { .. })
        ));
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).unwrap();
        assert_eq!(config.operator_key().unwrap().unwrap().expose(), "0x01");
    });
}

#[test]
fn a_limit_without_a_tower_is_refused() {
    apart(|jail| {
        let limited = |towers: &str| {
            format!("[channels]\nenabled = true\ntower_limit = 1000\ntowers = [{towers}]\n")
        };
        jail.create_file("millrace.toml", &limited("")).unwrap();
        let error = Config::load(None, &nothing()).unwrap_err().to_string();
        assert!(error.contains("channels.tower_limit"), "{error}");
        assert!(error.contains("channels.towers"), "{error}");
        jail.create_file("millrace.toml", &limited("\"KEY@127.0.0.1:9281\""))
            .unwrap();
        let config = Config::load(None, &nothing()).unwrap();
        assert_eq!(config.channels.tower_limit, Some(Units(1000)));
    });
}

#[test]
fn a_limit_may_be_more_than_a_number_of_toml_holds() {
    apart(|jail| {
        let limit = |written: &str| {
            let text = format!("[channels]\ntower_limit = {written}\n");
            jail.create_file("millrace.toml", &text).unwrap();
            Config::load(None, &nothing()).map(|config| config.channels.tower_limit)
        };
        let hundred_ether = 100_000_000_000_000_000_000;
        let written = format!("\"{hundred_ether}\"");
        assert_eq!(limit(&written).unwrap(), Some(Units(hundred_ether)));
        assert_eq!(limit("\"0\"").unwrap(), Some(Units(0)));
        let too_much = format!("\"{}\"", "9".repeat(40));
        for wrong in ["-1", "1.5", "\"+1\"", "\"1 ETH\"", "\"\"", &too_much] {
            let error = limit(wrong).unwrap_err().to_string();
            assert!(error.contains("tower_limit"), "{error}");
            assert!(error.contains("token's smallest unit"), "{error}");
        }
        // What is printed can be read again.
        let shown = serde_json::to_value(Units(hundred_ether)).unwrap();
        assert_eq!(
            serde_json::from_value::<Units>(shown).unwrap(),
            Units(hundred_ether)
        );
    });
}

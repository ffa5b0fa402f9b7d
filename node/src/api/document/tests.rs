//! The description that is checked in is the one that is served.

use super::*;

#[test]
fn the_checked_in_description_is_the_served_one() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/openapi.json");
    if std::env::var_os("MILLRACE_WRITE_SNAPSHOTS").is_some() {
        std::fs::write(path, text()).unwrap();
    }
    assert!(
        text() == std::fs::read_to_string(path).unwrap(),
        "docs/openapi.json is stale: run this test with MILLRACE_WRITE_SNAPSHOTS=1"
    );
}

#[test]
fn every_operation_names_its_problems_and_its_tag() {
    let description = serde_json::to_value(description()).unwrap();
    let paths = description["paths"].as_object().unwrap();
    assert!(paths.len() >= 20);
    for (path, methods) in paths {
        for (method, operation) in methods.as_object().unwrap() {
            assert_eq!(
                operation["tags"].as_array().unwrap().len(),
                1,
                "{method} {path}"
            );
            assert!(
                operation["summary"]
                    .as_str()
                    .is_some_and(|text| text.ends_with(['.', ']'])),
                "{method} {path}"
            );
            let takes_input =
                operation.get("parameters").is_some() || operation.get("requestBody").is_some();
            let responses = operation["responses"].as_object().unwrap();
            let refuses = responses
                .keys()
                .any(|status| status.starts_with(['4', '5']));
            assert!(
                refuses || !takes_input,
                "{method} {path} takes input and refuses none"
            );
        }
    }
}

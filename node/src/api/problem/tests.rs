//! The catalogue is a promise: its codes, statuses and texts are pinned.

use super::*;
use std::collections::BTreeSet;

fn catalogue() -> String {
    Code::ALL
        .iter()
        .map(|code| {
            let retry = if code.retryable() {
                "retryable"
            } else {
                "final"
            };
            format!(
                "{} | {} | {retry} | {} | {}\n",
                code,
                code.status().as_u16(),
                code.title(),
                code.fix()
            )
        })
        .collect()
}

#[test]
fn codes_statuses_and_texts_are_those_of_the_snapshot() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/src/api/problem/catalogue.txt");
    if std::env::var_os("MILLRACE_WRITE_SNAPSHOTS").is_some() {
        std::fs::write(path, catalogue()).unwrap();
    }
    assert_eq!(
        catalogue(),
        std::fs::read_to_string(path).unwrap(),
        "a code keeps its meaning; run with MILLRACE_WRITE_SNAPSHOTS=1 after an intended change"
    );
}

#[test]
fn codes_are_distinct_and_serialise_as_their_text() {
    let texts: BTreeSet<_> = Code::ALL.iter().map(|code| code.text()).collect();
    assert_eq!(texts.len(), Code::ALL.len());
    for code in Code::ALL {
        assert_eq!(serde_json::to_value(code).unwrap(), code.text());
        assert!(code.status().is_client_error() || code.status().is_server_error());
        assert!(
            !code.title().ends_with('.') && code.fix().ends_with('.'),
            "{code}"
        );
    }
}

#[test]
fn the_description_names_the_codes_as_they_are_sent() {
    let schema = serde_json::to_value(Code::schema()).unwrap();
    let texts: Vec<_> = Code::ALL.iter().map(|code| code.text()).collect();
    assert_eq!(schema["enum"], serde_json::json!(texts));
}

#[tokio::test]
async fn a_problem_document_has_its_media_type_and_says_when_to_come_back() {
    let problem = Problem::new(Code::MempoolFull, "100 wait")
        .after(2)
        .at("transactions[0]");
    let response = problem.clone().into_response();
    assert_eq!(response.status(), StatusCode::TOO_MANY_REQUESTS);
    assert_eq!(response.headers()[header::CONTENT_TYPE], MEDIA_TYPE);
    assert_eq!(response.headers()[header::RETRY_AFTER], "2");
    let body = axum::body::to_bytes(response.into_body(), 10_000)
        .await
        .unwrap();
    assert_eq!(serde_json::from_slice::<Problem>(&body).unwrap(), problem);
}

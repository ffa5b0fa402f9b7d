//! Endpoints that are absent, wrong or slow.

use alloy::providers::Provider;
use millrace_l1::{
    provider::{ConnectError, HttpSettings, L1Provider},
    testing::Anvil,
};
use std::time::Duration;

/// A port on which nothing listens: bound once, then released.
fn dead_url() -> String {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    format!("http://{}/secret-key", listener.local_addr().unwrap())
}

fn impatient<'a>(urls: impl IntoIterator<Item = &'a str>) -> HttpSettings {
    let mut settings = HttpSettings::new(urls).unwrap();
    settings.rounds = 2;
    settings.first_backoff = Duration::from_millis(10);
    settings.request_timeout = Duration::from_millis(500);
    settings
}

#[tokio::test]
async fn silence_is_reported_without_the_secret_part_of_the_url() {
    let url = dead_url();
    let error = L1Provider::connect(impatient([url.as_str()]), None)
        .await
        .unwrap_err();
    assert!(matches!(error, ConnectError::Unreachable(_)), "{error}");
    let text = error.to_string();
    assert!(text.contains("127.0.0.1"), "{text}");
    assert!(!text.contains("secret-key"), "{text}");
}

#[tokio::test]
async fn the_next_endpoint_serves_when_one_is_dead() {
    let anvil = Anvil::spawn().unwrap();
    let dead = dead_url();
    let l1 = L1Provider::connect(impatient([dead.as_str(), anvil.url()]), Some(31337))
        .await
        .unwrap();
    assert_eq!(l1.provider().get_block_number().await.unwrap(), 0);
    assert!(!l1.name().contains("secret-key"));
}

#[tokio::test]
async fn another_chain_is_refused() {
    let anvil = Anvil::spawn().unwrap();
    let error = L1Provider::connect(impatient([anvil.url()]), Some(1))
        .await
        .unwrap_err();
    assert!(
        matches!(
            error,
            ConnectError::WrongChain {
                expected: 1,
                found: 31337
            }
        ),
        "{error}"
    );
}

#[test]
fn urls_are_checked() {
    assert!(matches!(HttpSettings::new([]), Err(ConnectError::NoUrl)));
    assert!(matches!(
        HttpSettings::new(["http://ok", "ftp://no"]),
        Err(ConnectError::InvalidUrl { index: 1, .. })
    ));
    assert!(matches!(
        HttpSettings::new(["not a url"]),
        Err(ConnectError::InvalidUrl { index: 0, .. })
    ));
}

#[tokio::test]
async fn a_request_is_tried_again_after_a_failure() {
    use std::io::{Read, Write};
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let server = std::thread::spawn(move || {
        let answers = [
            "HTTP/1.1 503 Service Unavailable\r\ncontent-length: 0\r\nconnection: close\r\n\r\n"
                .to_owned(),
            {
                let body = r#"{"jsonrpc":"2.0","id":0,"result":"0x7a69"}"#;
                format!(
                    "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: {}\r\nconnection: close\r\n\r\n{body}",
                    body.len()
                )
            },
        ];
        for answer in answers {
            let (mut stream, _) = listener.accept().unwrap();
            let mut buffer = [0u8; 4096];
            let _ = stream.read(&mut buffer).unwrap();
            stream.write_all(answer.as_bytes()).unwrap();
        }
    });
    let l1 = L1Provider::connect(impatient([url.as_str()]), None)
        .await
        .unwrap();
    assert_eq!(l1.chain_id(), 31337);
    server.join().unwrap();
}

//! A party: a folder with a configuration, a process that can be started and killed on it, commands and API calls to it.

use crate::stage::{Stage, WINDOW, copy_folder, hot_key, payout};
use alloy::primitives::Address;
use futures::StreamExt;
use millrace_channels::signing::HotKey;
use millrace_tests::process::command;
use rand::Rng;
use serde_json::{Value, json};
use std::io::{BufRead, BufReader};
use std::net::TcpListener;
use std::path::PathBuf;
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

/// The wallet's password.
pub const PASSWORD: &str = "correct horse battery staple";
/// How long anything may take.
pub const PATIENCE: Duration = Duration::from_secs(60);
/// How long a process may take to stop.
const STOP_LIMIT: Duration = Duration::from_secs(20);
/// Requests under way at a time.
const PIPELINE: usize = 64;
/// Between two looks.
pub const LOOK: Duration = Duration::from_millis(25);

/// A node or tower of these tests, and what asks it.
pub struct Party {
    pub name: &'static str,
    /// Of its keys in the wallet.
    pub number: u32,
    /// Its folder; its data is in `data`.
    pub home: PathBuf,
    /// Where it listens for peers.
    pub port: u16,
    /// What its configuration says beside the usual, as lines of `[channels]`.
    pub extra: String,
    /// Its roles, as the configuration writes them.
    pub roles: &'static str,
    /// What its environment says beside the usual.
    pub variables: Vec<(&'static str, String)>,
    /// L1's endpoint.
    pub l1: String,
    rollup: Address,
    contract: Address,
    wallet: PathBuf,
    depth: u64,
    child: Option<Child>,
    /// The API.
    pub url: String,
    http: reqwest::Client,
}

/// What a refused command said.
#[derive(Debug)]
pub struct Refused {
    pub exit: i32,
    /// Message, causes and way out, in one text.
    pub text: String,
}

impl Refused {
    /// Checks that the text names all of these.
    #[track_caller]
    pub fn names(&self, exit: i32, words: &[&str]) {
        assert_eq!(self.exit, exit, "{}", self.text);
        for word in words {
            assert!(
                self.text.contains(word),
                "{word:?} is not in: {}",
                self.text
            );
        }
    }
}

/// A port below those that the system hands out for outgoing connections, so that nobody takes it while its owner is down.
pub fn free_port() -> u16 {
    let mut random = rand::thread_rng();
    for _ in 0..1000 {
        let port = random.gen_range(12_000..32_000);
        if TcpListener::bind(("127.0.0.1", port)).is_ok() {
            return port;
        }
    }
    panic!("no free port");
}

impl Party {
    pub fn new(stage: &Stage, name: &'static str, number: u32) -> Self {
        let home = stage.folder.path().join(name);
        std::fs::create_dir_all(&home).expect("a folder can be made");
        Self {
            name,
            number,
            home,
            port: free_port(),
            extra: String::new(),
            roles: "[\"follower\"]",
            variables: Vec::new(),
            l1: stage.url().to_owned(),
            rollup: stage.rollup,
            contract: stage.client.address(),
            wallet: stage.wallet(),
            depth: stage.depth,
            child: None,
            url: "http://127.0.0.1:1".to_owned(),
            http: reqwest::Client::new(),
        }
    }

    // ---- who it is ----

    /// The account that sends its transactions.
    pub fn account(&self) -> Address {
        hot_key(self.number).address()
    }

    /// Where its channels pay out.
    pub fn payout(&self) -> Address {
        payout(self.number)
    }

    /// Its key, for the test to speak in its name.
    pub fn hot(&self) -> HotKey {
        HotKey::new(hot_key(self.number).to_bytes().0).expect("a valid key")
    }

    /// Its key in hexadecimal.
    pub fn key(&self) -> String {
        self.hot().public().to_string()
    }

    /// KEY@ADDRESS, as peers write it.
    pub fn address(&self) -> String {
        format!("{}@127.0.0.1:{}", self.key(), self.port)
    }

    // ---- the process ----

    /// Its configuration, as a file.
    pub fn configuration(&self) -> String {
        format!(
            "data_dir = \"data\"\nroles = {}\n\
             [l1]\nurls = [\"{}\"]\ncontract = \"{}\"\nconfirmations = {}\n\
             [api]\nlisten = \"127.0.0.1:0\"\n\
             [channels]\nenabled = true\nlisten = \"127.0.0.1:{}\"\ncontract = \"{}\"\nwallet = {:?}\nnumber = {}\n{}\n",
            self.roles,
            self.l1,
            self.rollup,
            self.depth,
            self.port,
            self.contract,
            self.wallet,
            self.number,
            self.extra
        )
    }

    /// A command in its folder.
    pub fn command(&self) -> Command {
        // Replaced whole: a program that was started just now may be reading it.
        let beside = self.home.join("millrace.toml.new");
        std::fs::write(&beside, self.configuration()).expect("the folder can be written");
        std::fs::rename(&beside, self.home.join("millrace.toml")).expect("on one file system");
        let mut command = command();
        command
            .arg("--json")
            .env("MILLRACE_PASSWORD", PASSWORD)
            .env("MILLRACE_NODE", &self.url)
            .envs(self.variables.iter().map(|(name, value)| (*name, value)))
            .current_dir(&self.home)
            .stdin(Stdio::null());
        command
    }

    /// Starts its node and waits until it serves.
    pub async fn start(&mut self) {
        let said = self.spawn(&["node"]);
        self.url = said["api"]
            .as_str()
            .expect("a node says where it is")
            .to_owned();
    }

    /// Starts it as a tower.
    pub async fn start_tower(&mut self) -> Value {
        self.spawn(&["tower"])
    }

    fn spawn(&mut self, arguments: &[&str]) -> Value {
        assert!(self.child.is_none(), "{} runs already", self.name);
        let log = std::fs::File::options()
            .create(true)
            .append(true)
            .open(self.home.join("log"))
            .expect("the folder can be written");
        let mut child = self
            .command()
            .args(arguments)
            .stdout(Stdio::piped())
            .stderr(log)
            .spawn()
            .expect("the program starts");
        let mut lines = BufReader::new(child.stdout.take().expect("piped")).lines();
        self.child = Some(child);
        let line = lines.find(|line| line.as_ref().is_ok_and(|line| line.starts_with('{')));
        let Some(Ok(line)) = line else {
            panic!("{} does not start: {}", self.name, self.log());
        };
        std::thread::spawn(move || lines.for_each(drop));
        let said: Value = serde_json::from_str(&line).expect("one line of JSON");
        assert!(
            said.get("error").is_none(),
            "{} does not start: {said}",
            self.name
        );
        said
    }

    /// SIGKILL: nothing is flushed, closed or said.
    pub fn kill(&mut self) {
        if let Some(mut child) = self.child.take() {
            // It may have ended by itself.
            let _ = child.kill();
            let _ = child.wait();
        }
    }

    /// SIGTERM, and waits for the end.
    pub async fn stop(&mut self) {
        let mut child = self.child.take().expect("it runs");
        let told = Command::new("kill").arg(child.id().to_string()).status();
        assert!(told.expect("kill runs").success());
        let start = Instant::now();
        while start.elapsed() < STOP_LIMIT {
            if let Some(status) = child.try_wait().expect("a child can be waited for") {
                assert!(
                    status.success(),
                    "{} stopped with {status}: {}",
                    self.name,
                    self.log()
                );
                return;
            }
            tokio::time::sleep(LOOK).await;
        }
        let _ = child.kill();
        let _ = child.wait();
        panic!("{} does not stop: {}", self.name, self.log());
    }

    pub async fn restart(&mut self) {
        self.stop().await;
        self.start().await;
    }

    /// The end of its log.
    pub fn log(&self) -> String {
        let text = std::fs::read_to_string(self.home.join("log")).unwrap_or_default();
        let lines: Vec<_> = text.lines().collect();
        lines[lines.len().saturating_sub(40)..].join("\n")
    }

    // ---- its folder, while it is stopped ----

    /// Keeps a copy of its data.
    pub fn keep(&self, name: &str) {
        assert!(self.child.is_none(), "a copy is made of a stopped node");
        copy_folder(&self.home.join("data"), &self.home.join(name));
    }

    /// Puts a copy in the place of its data, which is gone.
    pub fn bring_back(&self, name: &str) {
        self.lose_data();
        copy_folder(&self.home.join(name), &self.home.join("data"));
    }

    /// Its data is gone.
    pub fn lose_data(&self) {
        assert!(self.child.is_none(), "data is lost of a stopped node");
        std::fs::remove_dir_all(self.home.join("data")).expect("there is a folder");
    }

    // ---- commands ----

    pub fn run(&self, arguments: &[&str]) -> Output {
        let ran = self.command().arg("channel").args(arguments).output();
        ran.expect("the program runs")
    }

    /// The result of a channel command that works.
    #[track_caller]
    pub fn does(&self, arguments: &[&str]) -> Value {
        let output = self.run(arguments);
        let said = last_line(&output);
        assert!(
            output.status.success(),
            "{} {arguments:?}: {said}",
            self.name
        );
        said
    }

    /// What is said of a channel command that is refused.
    #[track_caller]
    pub fn is_refused(&self, arguments: &[&str]) -> Refused {
        refused(&self.run(arguments), &format!("{arguments:?}"))
    }

    // ---- the API ----

    /// A GET of the API, if it answers.
    pub async fn get(&self, path: &str) -> Option<Value> {
        let answer = self
            .http
            .get(format!("{}{path}", self.url))
            .send()
            .await
            .ok()?;
        answer.status().is_success().then_some(())?;
        answer.json().await.ok()
    }

    /// A POST of the API: status and body, or none without an answer.
    pub async fn post(&self, path: &str, body: &Value, key: Option<&str>) -> Option<(u16, Value)> {
        let mut request = self.http.post(format!("{}{path}", self.url)).json(body);
        if let Some(key) = key {
            request = request.header("idempotency-key", key);
        }
        let answer = request.send().await.ok()?;
        let status = answer.status().as_u16();
        Some((status, answer.json().await.ok()?))
    }

    /// A direct payment; the answer, if one came.
    pub async fn try_pay(&self, channel: &str, amount: u128, key: &str) -> Option<(u16, Value)> {
        let body = json!({ "amount": amount.to_string() });
        self.post(&format!("/v1/channels/{channel}/pay"), &body, Some(key))
            .await
    }

    /// A direct payment that works.
    pub async fn pay(&self, channel: &str, amount: u128) {
        let key = format!("{:032x}", rand::random::<u128>());
        let (status, body) = self
            .try_pay(channel, amount, &key)
            .await
            .expect("an answer");
        assert_eq!(status, 200, "{}: {body}", self.name);
    }

    /// Many direct payments, pipelined.
    pub async fn pay_many(&self, channel: &str, count: usize, amount: u128) {
        futures::stream::iter(0..count)
            .for_each_concurrent(PIPELINE, |_| self.pay(channel, amount))
            .await;
    }

    /// A channel, as the API shows it.
    pub async fn channel(&self, id: &str) -> Value {
        self.get(&format!("/v1/channels/{id}"))
            .await
            .unwrap_or_default()
    }

    /// Waits until the channel is as wanted.
    pub async fn until(&self, id: &str, what: &str, wanted: impl Fn(&Value) -> bool) -> Value {
        let start = Instant::now();
        loop {
            let channel = self.channel(id).await;
            if wanted(&channel) {
                return channel;
            }
            assert!(
                start.elapsed() < PATIENCE,
                "{} waits in vain for {what}: {channel}\n{}",
                self.name,
                self.log()
            );
            tokio::time::sleep(LOOK).await;
        }
    }

    /// Waits until the channel has this phase.
    pub async fn until_phase(&self, id: &str, phase: &str) -> Value {
        self.until(id, phase, |channel| channel["phase"] == phase)
            .await
    }

    /// Waits until it can send this much over the channel.
    pub async fn until_can_send(&self, id: &str, units: u128) -> Value {
        let what = format!("a balance of {units}");
        self.until(id, &what, |channel| {
            channel["can_send"] == units.to_string()
        })
        .await
    }

    /// Waits until the node part of the API is as wanted.
    pub async fn until_node(&self, what: &str, wanted: impl Fn(&Value) -> bool) -> Value {
        let start = Instant::now();
        loop {
            let node = self.get("/v1/channel-node").await.unwrap_or_default();
            if wanted(&node) {
                return node;
            }
            assert!(
                start.elapsed() < PATIENCE,
                "{} waits in vain for {what}: {node}\n{}",
                self.name,
                self.log()
            );
            tokio::time::sleep(LOOK).await;
        }
    }

    /// Opens a channel by command; its id, once both sides can use it.
    pub async fn open(&self, peer: &Party, amount: u128) -> String {
        let id = self.open_unconfirmed(peer, amount).await;
        self.until_phase(&id, "open").await;
        peer.until_phase(&id, "open").await;
        id
    }

    /// Opens a channel by command; its id, as soon as it is agreed on.
    pub async fn open_unconfirmed(&self, peer: &Party, amount: u128) -> String {
        let before = self.ids().await;
        let (amount, window) = (amount.to_string(), WINDOW.to_string());
        self.does(&["open", &peer.address(), &amount, "--window", &window]);
        let start = Instant::now();
        loop {
            let new = self.ids().await.into_iter().find(|id| !before.contains(id));
            if let Some(id) = new {
                return id;
            }
            assert!(start.elapsed() < PATIENCE, "no channel: {}", self.log());
            tokio::time::sleep(LOOK).await;
        }
    }

    /// Ids of all channels.
    pub async fn ids(&self) -> Vec<String> {
        let page = self
            .get("/v1/channels?limit=1000")
            .await
            .unwrap_or_default();
        let items = page["items"].as_array().cloned().unwrap_or_default();
        let id = |channel: &Value| channel["id"].as_str().unwrap_or_default().to_owned();
        items.iter().map(id).collect()
    }

    /// All events of a kind.
    pub async fn events(&self, kind: &str) -> Vec<Value> {
        let mut found = Vec::new();
        let mut from = 1;
        loop {
            let path = format!("/v1/channel-events?from={from}&limit=1000");
            let page = self.get(&path).await.expect("the node answers");
            let events = page["events"].as_array().cloned().unwrap_or_default();
            if events.is_empty() {
                return found;
            }
            found.extend(events.into_iter().filter(|event| event["kind"] == kind));
            from = page["next"].as_u64().expect("where to go on");
        }
    }
}

impl Party {
    /// Waits until there are so many events of a kind: they are told once they are durable.
    pub async fn until_events(&self, kind: &str, count: usize) -> Vec<Value> {
        let start = Instant::now();
        loop {
            let events = self.events(kind).await;
            if events.len() >= count || start.elapsed() > PATIENCE {
                assert_eq!(events.len(), count, "{}: {kind}", self.name);
                return events;
            }
            tokio::time::sleep(LOOK).await;
        }
    }
}

impl Drop for Party {
    fn drop(&mut self) {
        self.kill();
    }
}

/// The result of a command: its last line.
pub fn last_line(output: &Output) -> Value {
    let text = String::from_utf8_lossy(&output.stdout);
    let errors = String::from_utf8_lossy(&output.stderr);
    let line = text.lines().last().unwrap_or_default();
    serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {text}{errors}"))
}

/// What a refused command said.
#[track_caller]
pub fn refused(output: &Output, what: &str) -> Refused {
    let said = last_line(output);
    assert!(!output.status.success(), "{what} should be refused: {said}");
    let error = &said["error"];
    let causes = error["causes"].as_array().cloned().unwrap_or_default();
    let texts = [&error["message"], &error["help"]]
        .into_iter()
        .chain(&causes);
    let texts: Vec<&str> = texts.filter_map(Value::as_str).collect();
    Refused {
        exit: output.status.code().unwrap_or(-1),
        text: texts.join(" | "),
    }
}

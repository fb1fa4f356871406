//! The log of a running server as machines read it (docs/LOGGING.md).

use crate::world::{Running, eventually, free_port, install, serve};
use domain::SystemClock;
use identity::{Identity, IdentityConfig};
use serde_json::{Value, json};
use std::{fs::File, net::SocketAddr, sync::Arc};
use tempfile::TempDir;
use testkit::{
    TestDb,
    fake_upstream::{FakeUpstream, Mood},
    fake_worker::FAKE_MODEL,
    keys,
};

const QUESTION: &str = "Where is the Rathausuhr?";

/// A server that logs JSON, and a key of it.
struct House {
    // First, so that it ends before what it uses.
    _server: Running,
    folder: TempDir,
    upstream: FakeUpstream,
    addr: SocketAddr,
    client: reqwest::Client,
    key: String,
    _db: TestDb,
}

impl House {
    async fn build() -> Self {
        let (db, upstream, addr) = (TestDb::new().await, FakeUpstream::start().await, free_port());
        let identity = Identity::new(db.db.clone(), Arc::new(SystemClock), IdentityConfig::default());
        let tenant = identity.create_tenant("test", "ours", "Ours").await.expect("a tenant");
        let key = keys::make(&identity, tenant).await.1.key.reveal().to_owned();
        let folder = tempfile::tempdir().expect("a folder");
        install(&db, &upstream, addr, folder.path());
        let log = File::create(folder.path().join("log")).expect("a log");
        let server = serve(folder.path(), &[("KONTOR__LOG__LEVEL", "debug"), ("KONTOR__LOG__FORMAT", "json")], log);
        let client = reqwest::Client::builder().no_proxy().build().expect("a client");
        let house = Self { _server: server, folder, upstream, addr, client, key, _db: db };
        eventually("the server is ready", 30, || async {
            let answer = house.client.get(format!("http://{addr}/readyz")).send().await;
            answer.is_ok_and(|answer| answer.status().is_success())
        })
        .await;
        house
    }

    /// Asks; the status, and the id of the request.
    async fn ask(&self) -> (u16, String) {
        let body = json!({ "model": FAKE_MODEL, "messages": [{ "role": "user", "content": QUESTION }] });
        let call = self.client.post(format!("http://{}/v1/chat/completions", self.addr)).bearer_auth(&self.key).json(&body);
        let answer = call.send().await.expect("an answer");
        let id = answer.headers()["x-request-id"].to_str().expect("text").to_owned();
        let status = answer.status().as_u16();
        answer.bytes().await.expect("a body");
        (status, id)
    }

    fn log(&self) -> String {
        std::fs::read_to_string(self.folder.path().join("log")).expect("a log")
    }

    /// The lines of a request.
    fn lines(&self, id: &str) -> Vec<Value> {
        let log = self.log();
        // It may just be writing the next one.
        let whole = log.rsplit_once('\n').map_or("", |(whole, _)| whole);
        let lines = whole.lines().map(|line| serde_json::from_str::<Value>(line).unwrap_or_else(|error| panic!("{error}: {line}")));
        // What is said of a span from outside it has no list of them.
        let around = |line: &Value| line["spans"].as_array().is_some_and(|spans| spans.iter().any(|span| span["id"] == id));
        let within = |line: &Value| line["span"]["id"] == id || around(line);
        lines.filter(within).collect()
    }
}

/// The only line with this message.
fn only<'a>(lines: &'a [Value], message: &str) -> &'a Value {
    let mut found = lines.iter().filter(|line| line["message"] == message);
    let line = found.next().unwrap_or_else(|| panic!("no line {message:?} in {lines:#?}"));
    assert!(found.next().is_none(), "more than one line {message:?} in {lines:#?}");
    line
}

#[tokio::test]
async fn each_line_of_a_request_is_an_object_that_bears_its_id() {
    let house = House::build().await;
    house.upstream.set(Mood::Refuses(500, "boom"));
    let (status, failed) = house.ask().await;
    assert_eq!(status, 503);
    house.upstream.set(Mood::Answers);
    let (status, fine) = house.ask().await;
    assert_eq!(status, 200);
    assert_ne!(failed, fine);
    eventually("both are in the log", 5, || async {
        [&failed, &fine].into_iter().all(|id| house.lines(id).iter().any(|line| line["message"] == "answered"))
    })
    .await;

    let lines = house.lines(&failed);
    let answered = only(&lines, "answered");
    assert_eq!((&answered["level"], &answered["status"]), (&json!("DEBUG"), &json!(503)));
    let span = &answered["span"];
    assert_eq!((&span["name"], &span["id"], &span["method"]), (&json!("request"), &json!(failed), &json!("POST")));
    assert_eq!(span["route"], "/v1/chat/completions");
    assert!(answered["timestamp"].is_string() && answered["target"].is_string(), "{answered}");
    // Said by the task that asks the model, which is not the request's own.
    let away = only(&lines, "the model cannot be had");
    assert_eq!(
        (&away["level"], &away["model"], &away["span"]["id"]),
        (&json!("WARN"), &json!(FAKE_MODEL), &json!(failed)),
        "If you are here because this failed: nobody finds out which request a warning is about."
    );
    let lines = house.lines(&fine);
    assert_eq!(only(&lines, "answered")["status"], 200);
    assert!(lines.iter().all(|line| line["message"] != "the model cannot be had"), "{lines:#?}");
    let log = house.log();
    assert!(
        !log.contains("Rathausuhr") && !log.contains(&house.key),
        "If you are here because this failed: the log tells what people say, or their keys."
    );
}

//! The commands about keys of upstreams, and a running server that hears of them.

use crate::world::{PROGRAM, Running, eventually, free_port, install, serve};
use serde_json::Value;
use std::{fs::File, net::SocketAddr, path::PathBuf, process::Stdio};
use tempfile::TempDir;
use testkit::{TestDb, fake_upstream::FakeUpstream, ledger::execute_as_owner};
use tokio::io::AsyncWriteExt;

const KEY: &str = "sk-kept-0123456789";
const OTHER: &str = "sk-kept-9876543210";
/// A change is in force after two seconds; the third one is for a busy machine.
const SOON: u64 = 3;

/// An installation with an upstream that wants a key, and a server that runs.
struct House {
    // First, so that it ends before what it uses.
    _server: Running,
    folder: TempDir,
    upstream: FakeUpstream,
    addr: SocketAddr,
    client: reqwest::Client,
    db: TestDb,
}

/// How a command ended.
struct Ended {
    well: bool,
    said: String,
    complained: String,
}

impl House {
    async fn build() -> Self {
        let (db, upstream, addr) = (TestDb::new().await, FakeUpstream::start().await, free_port());
        upstream.take_only(KEY);
        let folder = tempfile::tempdir().expect("a folder");
        install(&db, &upstream, addr, folder.path());
        let log = File::create(folder.path().join("log")).expect("a log");
        let server = serve(folder.path(), &[("KONTOR__LOG__LEVEL", "debug")], log);
        let client = reqwest::Client::builder().no_proxy().build().expect("a client");
        Self { _server: server, folder, upstream, addr, client, db }
    }

    fn master_key(&self) -> PathBuf {
        self.folder.path().join("data/master.key")
    }

    /// What `/readyz` says; `None`: nobody answers.
    async fn readiness(&self) -> Option<(bool, String)> {
        let answer = self.client.get(format!("http://{}/readyz", self.addr)).send().await.ok()?;
        Some((answer.status().is_success(), answer.text().await.ok()?))
    }

    async fn is_ready(&self, what: &str, seconds: u64) {
        eventually(what, seconds, || async { self.readiness().await.is_some_and(|(ready, _)| ready) }).await;
    }

    async fn is_away(&self, why: &str, seconds: u64) {
        let away = |answer: Option<(bool, String)>| answer.is_some_and(|(ready, text)| !ready && text.contains(why));
        eventually(why, seconds, || async { away(self.readiness().await) }).await;
    }

    async fn kontor(&self, arguments: &[&str], input: &str) -> Ended {
        let mut command = tokio::process::Command::new(PROGRAM);
        command.args(arguments).env_clear().env("KONTOR__LOG__LEVEL", "debug").current_dir(self.folder.path()).kill_on_drop(true);
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("it starts");
        let mut stdin = child.stdin.take().expect("piped");
        // Not all commands read it.
        drop(stdin.write_all(input.as_bytes()).await);
        drop(stdin);
        let output = child.wait_with_output().await.expect("it ends");
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        let ended = Ended { well: output.status.success(), said: text(&output.stdout), complained: text(&output.stderr) };
        for told in [&ended.said, &ended.complained] {
            assert!(!told.contains("sk-kept"), "If you are here because this failed: a command gives keys away. {told}");
        }
        ended
    }

    /// A command that goes well; what it says.
    async fn admin(&self, arguments: &[&str], input: &str) -> String {
        let ended = self.kontor(&[&["admin"][..], arguments].concat(), input).await;
        assert!(ended.well, "{arguments:?}: {}", ended.complained);
        ended.said
    }
}

#[tokio::test]
async fn a_key_from_standard_input_reaches_a_running_server_and_survives_another_master_key() {
    let house = House::build().await;
    house.is_away("upstream: refused with HTTP status 401", 30).await;
    let said = house.admin(&["set-upstream-key", "upstream"], &format!("{KEY}\n")).await;
    assert!(said.contains("upstream") && !said.contains("Warning"), "{said}");
    assert!(said.contains("master key") && said.contains("master.key"), "where it is needed again: {said}");
    house.is_ready("the key is in force", SOON).await;
    let first = std::fs::read_to_string(house.master_key()).expect("made");

    let rotated: Value = serde_json::from_str(&house.admin(&["--json", "rotate-master-key"], "").await).expect("JSON");
    assert_eq!(rotated["resealed"], 1);
    let second = std::fs::read_to_string(house.master_key()).expect("kept");
    assert!(second != first && second.lines().count() == 1, "the old master key is gone");
    let listed: Value = serde_json::from_str(&house.admin(&["--json", "list-upstream-keys"], "").await).expect("JSON");
    assert_eq!((&listed[0]["upstream"], &listed[0]["master_key"]), (&"upstream".into(), &rotated["master_key"]));
    assert_eq!((&listed[0]["changed_by"], &listed[0]["configured"]), (&"kontor admin".into(), &true.into()));
    let text = house.admin(&["list-upstream-keys"], "").await;
    assert!(text.contains("upstream") && text.contains("by kontor admin") && text.contains("20"), "{text}");
    house.is_ready("nothing has changed for it", SOON).await;

    house.upstream.take_only(OTHER);
    house.admin(&["set-upstream-key", "upstream"], OTHER).await;
    let wanted = format!("Bearer {OTHER}");
    eventually("it is polled with the other key", SOON, || async { house.upstream.polled_with().last() == Some(&wanted) }).await;
    house.is_ready("the other key is in force", SOON).await;
    house.admin(&["remove-upstream-key", "upstream"], "").await;
    house.is_away("upstream: refused with HTTP status 401", SOON + 2).await;

    let log = std::fs::read_to_string(house.folder.path().join("log")).expect("a log");
    assert!(log.contains("is asked with the key that is kept for it"), "{log}");
    assert!(!log.contains("sk-kept"), "If you are here because this failed: the log gives keys away.");
    for (action, times) in [("upstream_key.set", 2), ("master_key.rotated", 1), ("upstream_key.removed", 1)] {
        let rows = format!("SELECT count(*) AS value FROM audit_event WHERE action = '{action}' AND actor = 'kontor admin'");
        assert_eq!(house.db.count_as_owner(&rows).await, times, "{action}");
    }
}

#[tokio::test]
async fn without_its_master_key_an_upstream_is_away_and_says_so() {
    let house = House::build().await;
    house.admin(&["set-upstream-key", "upstream"], KEY).await;
    house.is_ready("the key is in force", 30).await;
    let checked = house.kontor(&["check"], "").await.said;
    assert!(checked.contains("ok    keys of upstreams: 1 kept, each can be opened"), "{checked}");

    let right = std::fs::read_to_string(house.master_key()).expect("made");
    std::fs::write(house.master_key(), "00".repeat(32)).expect("replaced");
    // Whoever has opened a key goes on with it; it is opened again when the row changes.
    execute_as_owner(&house.db, "UPDATE upstream_credentials SET changed_by = changed_by").await;
    house.is_away("upstream: its key cannot be opened: it was sealed with the master key", SOON).await;
    let checked = house.kontor(&["check"], "").await;
    assert!(!checked.well && checked.said.contains("WRONG keys of upstreams: upstream cannot be opened"), "{}", checked.said);
    let refused = house.kontor(&["admin", "rotate-master-key"], "").await;
    assert!(!refused.well && refused.complained.contains("cannot be opened"), "{}", refused.complained);
    let refused = house.kontor(&["admin", "set-upstream-key", "another"], KEY).await;
    assert!(!refused.well && refused.complained.contains("kept for upstream: bring the right"), "{}", refused.complained);

    std::fs::write(house.master_key(), right).expect("put back");
    house.is_ready("its master key is there again", SOON).await;
}

#[tokio::test]
async fn what_makes_no_sense_is_refused_or_told() {
    let house = House::build().await;
    for input in ["", "\n", "sk-kept with spaces\n"] {
        let ended = house.kontor(&["admin", "set-upstream-key", "upstream"], input).await;
        assert!(!ended.well && ended.complained.contains("The key"), "{input:?}: {}", ended.complained);
    }
    // On the command line everybody could read it.
    assert!(!house.kontor(&["admin", "set-upstream-key", "upstream", "sk-argument"], KEY).await.well);
    assert!(!house.master_key().exists(), "nothing was sealed, so no master key was needed");
    assert!(!house.kontor(&["admin", "remove-upstream-key", "upstream"], "").await.well);

    let said = house.admin(&["set-upstream-key", "upstraem"], KEY).await;
    assert!(said.contains("Warning") && said.contains("upstraem"), "{said}");
    let listed = house.admin(&["list-upstream-keys"], "").await;
    assert!(listed.contains("not in the configuration"), "{listed}");
    let checked = house.kontor(&["check"], "").await.said;
    assert!(checked.contains("warn  keys of upstreams: upstraem has a key in the database"), "{checked}");
    let said = house.admin(&["remove-upstream-key", "upstraem"], "").await;
    assert!(said.contains("Warning"), "{said}");
}

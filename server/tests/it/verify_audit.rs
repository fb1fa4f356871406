//! `kontor admin verify-audit` as a script calls it, which looks at the exit status.

use crate::world::{PROGRAM, free_port, settings};
use serde_json::Value;
use std::process::{Output, Stdio};
use tempfile::TempDir;
use testkit::{TestDb, fake_upstream::FakeUpstream, ledger::execute_as_owner};

/// An installation without a running server.
struct House {
    folder: TempDir,
    db: TestDb,
}

impl House {
    async fn build() -> Self {
        let (db, upstream, folder) = (TestDb::new().await, FakeUpstream::start().await, tempfile::tempdir().expect("a folder"));
        std::fs::write(folder.path().join("kontor.toml"), settings(&db, &upstream, free_port(), folder.path())).expect("a configuration");
        Self { folder, db }
    }

    async fn admin(&self, arguments: &[&str]) -> Output {
        let mut command = tokio::process::Command::new(PROGRAM);
        command.args(["admin", "--json"]).args(arguments).env_clear().current_dir(self.folder.path()).kill_on_drop(true);
        command.stdin(Stdio::null()).output().await.expect("it runs")
    }

    async fn verify(&self, more: &[&str]) -> Output {
        self.admin(&[&["verify-audit"][..], more].concat()).await
    }

    /// It fails, and says so and nothing else.
    async fn is_refused(&self, more: &[&str], why: &str) {
        let ended = self.verify(more).await;
        let complained = String::from_utf8_lossy(&ended.stderr);
        assert_eq!(
            ended.status.code(),
            Some(1),
            "{complained}. If you are here because this failed: a script takes an audit trail for whole that was changed."
        );
        assert!(complained.contains(why), "{complained}");
        assert!(ended.stdout.is_empty(), "{}", String::from_utf8_lossy(&ended.stdout));
    }
}

/// What it says, if it went well.
fn told(ended: &Output) -> Value {
    assert_eq!(ended.status.code(), Some(0), "{}", String::from_utf8_lossy(&ended.stderr));
    serde_json::from_slice(&ended.stdout).expect("JSON")
}

#[tokio::test]
async fn a_whole_trail_ends_with_0_and_a_changed_one_with_1_and_the_number_of_the_event() {
    let house = House::build().await;
    for slug in ["one", "two"] {
        told(&house.admin(&["create-tenant", "--slug", slug, "--name", slug]).await);
    }
    let whole = told(&house.verify(&[]).await);
    let (events, seal) = (whole["events"].as_u64().expect("a number"), whole["seal"].as_str().expect("a seal"));
    assert!(events >= 2, "{whole}");
    assert_eq!(told(&house.verify(&["--expect", seal]).await), whole, "to look changes nothing");
    let made_up = format!("{events}:{}", "0".repeat(64));
    house.is_refused(&["--expect", &made_up], &format!("event {events} has another seal than expected")).await;

    let forged = "UPDATE audit_event SET actor = 'somebody else' WHERE id = (SELECT event_id FROM audit_seal WHERE number = 2)";
    execute_as_owner(&house.db, forged).await;
    house.is_refused(&[], "event 2 is not what was sealed").await;
    house.is_refused(&["--expect", seal], "event 2 is not what was sealed").await;
}

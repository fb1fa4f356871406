//! `kontor admin verify-audit` as a script calls it, which looks at the exit status.

use crate::world::Installation;
use std::process::Output;
use testkit::ledger::execute_as_owner;

impl Installation {
    async fn verify(&self, more: &[&str]) -> Output {
        self.admin(&[&["--json", "verify-audit"][..], more].concat()).await
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

#[tokio::test]
async fn a_whole_trail_ends_with_0_and_a_changed_one_with_1_and_the_number_of_the_event() {
    let house = Installation::build().await;
    for slug in ["one", "two"] {
        house.told(&["create-tenant", "--slug", slug, "--name", slug]).await;
    }
    let whole = house.told(&["verify-audit"]).await;
    let (events, seal) = (whole["events"].as_u64().expect("a number"), whole["seal"].as_str().expect("a seal"));
    assert!(events >= 2, "{whole}");
    assert_eq!(house.told(&["verify-audit", "--expect", seal]).await, whole, "to look changes nothing");
    let made_up = format!("{events}:{}", "0".repeat(64));
    house.is_refused(&["--expect", &made_up], &format!("event {events} has another seal than expected")).await;

    let forged = "UPDATE audit_event SET actor = 'somebody else' WHERE id = (SELECT event_id FROM audit_seal WHERE number = 2)";
    execute_as_owner(&house.db, forged).await;
    house.is_refused(&[], "event 2 is not what was sealed").await;
    house.is_refused(&["--expect", seal], "event 2 is not what was sealed").await;
}

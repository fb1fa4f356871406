//! Workers' counters against what was heard of their answers, and the ledger against what was settled.

use crate::setup::{Setup, eventually, first_text, read, setup};
use contract::{
    ids::{NodeId, RequestId, UsageId},
    usage::Purpose,
};
use domain::{Amount, Clock, SystemClock};
use inference::Inference;
use store::{
    Reason,
    ledger_counts::{Compared, Counts, Drift, Figures},
    usage::{NewUsage, Outcome, Settlement},
};
use testkit::{
    fake_worker::{Script, inference, inference_with_journal},
    ledger::{execute_as_owner, ledger},
};
use time::{Date, OffsetDateTime};
use uuid::Uuid;

/// Events of the audit trail with these figures, after another look.
async fn told(s: &Setup, action: &str, figures: &str) -> i64 {
    s.inference.reconcile().await.expect("written down");
    let query =
        format!("SELECT count(*) AS value FROM audit_event WHERE action = '{action}' AND target = 'fake worker' AND detail @> '{figures}'");
    s.db.count_as_owner(&query).await
}

#[tokio::test]
async fn what_a_worker_counts_is_compared_with_what_was_heard() {
    let s = setup().await;
    s.worker.script(Script::answer("a house of trade").prompt(20, 8));
    read(&mut s.ask().await).await;
    let both = r#"{"counted_prompt_tokens": 20, "heard_prompt_tokens": 20, "counted_completion_tokens": 4, "heard_completion_tokens": 4, "drift_tokens": 0}"#;
    eventually("the comparison is written down", || async { told(&s, "ledger.reconciled", both).await == 1 }).await;
    // What was told is not told again.
    assert_eq!((told(&s, "ledger.reconciled", "{}").await, told(&s, "ledger.drift", "{}").await), (1, 0));

    s.worker.miscount(5);
    let drift = r#"{"counted_completion_tokens": 5, "heard_completion_tokens": 0, "drift_tokens": 5, "cut_tokens": 0}"#;
    eventually("the drift is written down", || async { told(&s, "ledger.drift", drift).await == 1 }).await;
}

#[tokio::test]
async fn an_answer_that_was_told_to_end_is_no_drift() {
    let s = setup().await;
    s.worker.script(Script::answer("one two three four").prompt(20, 0).hangs_after(2));
    let mut generation = s.ask().await;
    while generation.next().await.is_some_and(|output| !matches!(output, inference::Output::Text { .. })) {}
    drop(generation);
    let whole = r#"{"counted_prompt_tokens": 20, "heard_prompt_tokens": 20, "drift_tokens": 0, "cut_tokens": 0}"#;
    eventually("the comparison is written down", || async { told(&s, "ledger.reconciled", whole).await == 1 }).await;
    assert_eq!(told(&s, "ledger.drift", "{}").await, 0);
}

const DAY_MS: i64 = 24 * 60 * 60 * 1000;

fn day_of(at: i64) -> Date {
    OffsetDateTime::from_unix_timestamp(at / 1000).expect("a time").date()
}

pub async fn compare(s: &Setup, day: Date) -> Vec<Compared> {
    let tx = s.db.db.begin_system("test", Reason::Sweep).await.expect("a transaction");
    tx.ledger_counts().compare(day).await.expect("compared")
}

/// Past what forbids it.
async fn forge(s: &Setup, sql: &str) {
    execute_as_owner(&s.db, &format!("SET session_replication_role = replica; {sql}")).await;
}

#[tokio::test]
async fn the_ledger_has_what_was_settled_and_what_is_changed_there_is_noticed() {
    let s = setup().await;
    let (folder, today) = (tempfile::tempdir().expect("a folder"), day_of(SystemClock.now()));
    let node = inference_with_journal(s.db.db.clone(), &s.worker, folder.path());
    for _ in 0..2 {
        s.worker.script(Script::answer("a house of trade").prompt(20, 8));
        read(&mut node.admit(&s.actor, crate::setup::request()).await.expect("admitted")).await;
    }
    s.worker.script(Script::answer("one two three four").prompt(20, 0).hangs_after(2));
    let mut cut = node.admit(&s.actor, crate::setup::request()).await.expect("admitted");
    first_text(&mut cut).await;
    drop(cut);
    node.drain().await;
    let all = compare(&s, today).await;
    assert_eq!((all.len(), all[0].node, all[0].untold, all[0].running), (1, Some(node.node()), false, 0), "{all:?}");
    assert_eq!((all[0].counted, Drift::of(&all)), (all[0].ledger, Drift::default()));
    assert_eq!((all[0].counted.uses, all[0].counted.prompt_tokens, all[0].counted.cached_tokens), (3, 60, 16));

    let row = ledger(&s.db).await.into_iter().find(|row| row.outcome.as_deref() == Some("ok")).expect("one that came to its end");
    forge(&s, &format!("UPDATE usage_event SET completion_tokens = completion_tokens + 9 WHERE id = '{}'", row.id)).await;
    let all = compare(&s, today).await;
    assert_eq!(all[0].drift(), Figures { completion_tokens: 9, ..Figures::default() });
    forge(&s, &format!("DELETE FROM usage_event WHERE id = '{}'", row.id)).await;
    let lost = Figures { uses: -1, prompt_tokens: -20, cached_tokens: -8, completion_tokens: -4 };
    let all = compare(&s, today).await;
    assert_eq!(all[0].drift(), lost, "If you are here because this failed: a use can be lost, and nobody notices.");
}

/// A use of yesterday by a process that told of it; the day is closed.
async fn use_of_yesterday(s: &Setup) -> Date {
    let created_at = (SystemClock.now().div_euclid(DAY_MS) - 1) * DAY_MS + DAY_MS / 2;
    let (day, node) = (day_of(created_at), NodeId(Uuid::now_v7()));
    let new = NewUsage {
        tenant: s.actor.tenant(),
        id: UsageId(Uuid::now_v7()),
        user: s.actor.user().ok(),
        program: None,
        team: String::new(),
        cost_center: String::new(),
        model: "m".into(),
        purpose: Purpose::Chat,
        reserved_tokens: 100,
        reserved: None,
        node,
        request: RequestId(Uuid::now_v7()),
        created_at,
    };
    let with = Settlement {
        tenant: new.tenant,
        id: new.id,
        opened_at: created_at,
        outcome: Outcome::Ok,
        model: None,
        prompt_tokens: 10,
        cached_tokens: 4,
        completion_tokens: 7,
        cost: Amount::ZERO,
        ttft_ms: None,
        duration_ms: None,
        at: created_at + 1_000,
    };
    s.db.db.write_ledger(&[&new], &[&with]).await.expect("written");
    let mut counts = Counts::default();
    counts.add(&with);
    let tx = s.db.db.begin_system("test", Reason::Sweep).await.expect("a transaction");
    tx.ledger_counts().tell(node, &counts.untold()).await.expect("told");
    tx.ledger_days().prepare().await.expect("prepared");
    tx.commit().await.expect("committed");
    let tx = s.db.db.begin_system("test", Reason::Sweep).await.expect("a transaction");
    assert!(tx.ledger_days().close(day, SystemClock.now()).await.expect("closed"));
    tx.commit().await.expect("committed");
    day
}

/// Events of the audit trail about a day's comparison with these figures.
async fn told_of(s: &Setup, day: Date, action: &str, figures: &str) -> i64 {
    let query = format!(
        "SELECT count(*) AS value FROM audit_event WHERE action = '{action}' AND target = '{day}' AND detail @> '{figures}'
         AND detail @> '{{\"comparison\": \"ledger\"}}'"
    );
    s.db.count_as_owner(&query).await
}

fn gauge(node: &Inference, line: &str) -> bool {
    let mut text = String::new();
    node.metrics().encode(&mut text).expect("a text");
    text.lines().any(|one| one == line)
}

/// As if a night had passed.
async fn next_night(s: &Setup, sql: &str) {
    forge(s, &format!("{sql}; UPDATE ledger_day SET compared_at = compared_at - interval '1 day'")).await;
    s.inference.compare_ledger().await.expect("compared");
}

#[tokio::test]
async fn a_night_s_comparison_is_in_the_audit_trail_once_and_in_the_metrics_of_every_process() {
    let s = setup().await;
    let day = use_of_yesterday(&s).await;
    assert!(gauge(&s.inference, "kontor_ledger_rows_drift{figure=\"tokens\"} 0"), "an alert that has no series never fires");
    for _ in 0..2 {
        s.inference.compare_ledger().await.expect("compared");
        let same = r#"{"counted_uses": 1, "ledger_uses": 1, "ledger_prompt_tokens": 10, "drift_tokens": 0}"#;
        assert_eq!(told_of(&s, day, "ledger.reconciled", same).await, 1);
    }
    for _ in 0..2 {
        next_night(&s, "UPDATE usage_event SET prompt_tokens = 15").await;
        let by_whom = format!(r#"{{"tenant": "{}", "too_many_prompt_tokens": 5, "too_many_uses": 0}}"#, s.actor.tenant());
        assert_eq!(told_of(&s, day, "ledger.drift", r#"{"drift_uses": 0, "drift_tokens": 5}"#).await, 1);
        assert_eq!(told_of(&s, day, "ledger.drift", &by_whom).await, 1);
    }
    let other = inference(&s.db, &s.worker);
    other.compare_ledger().await.expect("compared");
    for node in [&s.inference, &other] {
        assert!(gauge(node, "kontor_ledger_rows_drift{figure=\"tokens\"} 5"));
        assert!(gauge(node, "kontor_ledger_rows_drift{figure=\"uses\"} 0"));
    }
    next_night(&s, "DELETE FROM usage_event").await;
    assert_eq!(told_of(&s, day, "ledger.drift", r#"{"too_many_uses": -1, "too_many_completion_tokens": -7}"#).await, 1);
    assert!(gauge(&s.inference, "kontor_ledger_rows_drift{figure=\"uses\"} 1"));
}

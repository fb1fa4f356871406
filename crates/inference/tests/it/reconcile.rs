//! Workers' counters against what was heard of their answers.

use crate::setup::{Setup, eventually, read, setup};
use testkit::fake_worker::Script;

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

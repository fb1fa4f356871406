//! What is shipped in `deploy/`: it names only metrics that there are, and leads to words that there are.

use super::v1_quotas::{house, post};
use crate::app::TestApp;
use axum::{
    body::Body,
    http::{Request, StatusCode},
};
use http_body_util::BodyExt;
use serde_json::{Value, json};
use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
    time::Duration,
};
use testkit::guardrails::guardrails;
use tower::ServiceExt;

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

/// The files of `deploy/` with this ending, with their texts.
fn files(ending: &str) -> Vec<(String, String)> {
    let mut folders = vec![root().join("deploy")];
    let mut found = Vec::new();
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).expect("a folder") {
            let path = entry.expect("an entry").path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|extension| extension == ending) {
                found.push((path.display().to_string(), fs::read_to_string(&path).expect("a text")));
            }
        }
    }
    assert!(!found.is_empty(), "no {ending} in deploy/");
    found
}

/// Names of metrics in a text.
fn names(text: &str) -> BTreeSet<String> {
    let words = text.split(|c: char| !c.is_ascii_alphanumeric() && c != '_');
    words.filter(|word| word.starts_with("kontor_")).map(str::to_owned).collect()
}

/// Names of all samples that are exported now.
async fn exported(app: &TestApp) -> (BTreeSet<String>, String) {
    let state = &app.state;
    let router = server::http::metrics::router(state.metrics.clone(), state.inference.clone(), state.db.clone());
    let response = router.oneshot(Request::get("/metrics").body(Body::empty()).expect("a request")).await.expect("infallible");
    let text = String::from_utf8(response.into_body().collect().await.expect("a body").to_bytes().to_vec()).expect("text");
    let samples = text.lines().filter(|line| !line.starts_with('#')).filter_map(|line| line.split(['{', ' ']).next());
    (samples.map(str::to_owned).collect(), text)
}

#[tokio::test]
async fn every_metric_of_dashboards_and_alerts_is_exported() {
    let house = house().await;
    let rule = json!([{ "name": "letter", "check": { "kind": "words", "words": ["x"] }, "on": ["input"], "action": "log" }]);
    guardrails(&house.app.db, house.tenant, rule).await;
    let key = house.key.key.reveal();
    assert_eq!(post(&house, key, "chat/completions", None).await.status, StatusCode::OK);
    assert_eq!(post(&house, key, "chat/completions", Some("foreign")).await.status, StatusCode::NOT_FOUND);

    let used: BTreeSet<String> = ["json", "yaml"].iter().flat_map(|ending| files(ending)).flat_map(|(_, text)| names(&text)).collect();
    assert!(used.len() > 25, "the shipped files name few metrics: {used:?}");
    let mut missing = Vec::new();
    // A fake worker counts an answer when it has let go of it.
    for _ in 0..50 {
        let (exported, _) = exported(&house.app).await;
        missing = used.difference(&exported).cloned().collect();
        if missing.is_empty() {
            break;
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    assert!(
        missing.is_empty(),
        "{missing:?}\nIf you are here because this failed: a panel stays empty or an alert never fires; deploy/ and the metrics must agree."
    );
}

#[tokio::test]
async fn no_metric_names_a_person_a_key_or_a_tenant() {
    let house = house().await;
    assert_eq!(post(&house, house.key.key.reveal(), "chat/completions", None).await.status, StatusCode::OK);
    let (_, text) = exported(&house.app).await;
    for id in [house.tenant.to_string(), house.account.to_string(), house.key.id.to_string()] {
        assert!(!text.contains(&id), "If you are here because this failed: the number of series grows with those who use it.");
    }
    assert!(text.contains("kontor_model_requests_total{model=\"fake-model\",purpose=\"api\",outcome=\"ok\"} 1"), "{text}");
    assert!(text.contains("kontor_model_tokens_total{model=\"fake-model\",type=\"output\"} 5"), "{text}");
    assert_eq!(text.matches("# EOF").count(), 1, "the text ends once");
}

#[test]
fn dashboards_can_be_imported() {
    let mut uids = BTreeSet::new();
    for (file, text) in files("json") {
        let dashboard: Value = serde_json::from_str(&text).unwrap_or_else(|error| panic!("{file}: {error}"));
        assert!(uids.insert(dashboard["uid"].as_str().expect("a uid").to_owned()), "{file}: its uid occurs twice");
        assert_eq!(dashboard["templating"]["list"][0]["type"], "datasource", "{file}");
        assert!(dashboard["id"].is_null(), "{file}: an id belongs to one installation");
        for panel in dashboard["panels"].as_array().expect("panels") {
            let targets = panel["targets"].as_array().map_or(&[][..], Vec::as_slice);
            for target in targets {
                assert!(!names(target["expr"].as_str().expect("an expression")).is_empty(), "{file}: {}", panel["title"]);
            }
            assert!(panel["type"] == "row" || panel["datasource"]["uid"] == "${datasource}", "{file}: {}", panel["title"]);
        }
    }
}

#[test]
fn every_alert_leads_to_a_section_that_there_is() {
    let operations = fs::read_to_string(root().join("docs/OPERATIONS.md")).expect("docs/OPERATIONS.md");
    let anchor = |heading: &str| {
        let plain = heading.to_lowercase().replace(' ', "-");
        plain.chars().filter(|c| c.is_ascii_alphanumeric() || *c == '-').collect::<String>()
    };
    let headings = operations.lines().filter(|line| line.starts_with('#'));
    let anchors: BTreeSet<String> = headings.map(|line| anchor(line.trim_start_matches('#').trim())).collect();
    let mut alerts = 0;
    for (file, text) in files("yaml") {
        let count = |word: &str| text.lines().filter(|line| line.trim_start().trim_start_matches("- ").starts_with(word)).count();
        assert_eq!(count("alert:"), count("runbook:"), "{file}: an alert without a runbook");
        alerts += count("alert:");
        for line in text.lines().filter(|line| line.trim_start().starts_with("runbook:")) {
            let (_, section) = line.split_once("docs/OPERATIONS.md#").unwrap_or_else(|| panic!("{file}: {line}"));
            let section = section.trim_matches(['"', '\'']);
            assert!(anchors.contains(section), "{file}: there is no section {section}; there are {anchors:?}");
        }
    }
    assert!(alerts >= 10, "{alerts}");
}

//! Downloads.

use crate::app::TestApp;
use axum::http::StatusCode;
use contract::account::Role;
use domain::{Clock, SystemClock};

#[tokio::test]
async fn downloads_are_files_with_their_names() {
    let app = TestApp::start().await;
    let tenant = app.tenant("a").await;
    let kim = app.person(tenant, "kim", &[Role::User]).await;
    let started = app.ask(&kim, "What is exported?").await;
    let base = format!("/ui/export/conversations/{}", started.conversation);
    let today = time::OffsetDateTime::from_unix_timestamp(SystemClock.now() / 1000).expect("a time").date();
    let usage = format!("/ui/export/usage.csv?from={}&to={today}", today - time::Duration::days(1));
    for (path, mime, needle) in [
        (format!("{base}/markdown"), "text/markdown", "What is exported?"),
        (format!("{base}/json"), "application/json", "kontor.chat/1"),
        ("/ui/export/everything".into(), "application/zip", "PK"),
        (usage, "text/csv", "fake-model"),
    ] {
        let answer = app.get(Some(&kim), &path).await;
        assert_eq!(answer.status, StatusCode::OK, "{path}: {}", answer.text());
        assert!(answer.header("content-type").starts_with(mime), "{path}: {}", answer.header("content-type"));
        assert!(answer.header("content-disposition").starts_with("attachment; filename="), "{path}");
        assert_eq!(answer.header("cache-control"), "no-store");
        assert!(answer.text().contains(needle), "{path}");
    }
    let unknown = app.get(Some(&kim), &format!("{base}/pdf")).await;
    assert_eq!(unknown.status, StatusCode::NOT_FOUND);
    let days = app.get(Some(&kim), "/ui/export/usage.csv?from=yesterday&to=today").await;
    assert_eq!(days.status, StatusCode::BAD_REQUEST, "{}", days.text());
}

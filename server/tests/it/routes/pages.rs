//! Pages: who gets them, and with which headers.

use crate::app::TestApp;
use axum::http::{StatusCode, header};
use contract::account::Role;
use serde_json::json;

#[tokio::test]
async fn visitors_without_a_session_are_sent_to_the_sign_in_page_and_back() {
    let app = TestApp::start().await;
    for (path, wanted) in [
        ("/", "/sign-in"),
        ("/search?q=a%20b", "/sign-in?next=/search%3Fq%3Da%2520b"),
        ("/account/usage", "/sign-in?next=/account/usage"),
        ("/no/such/page", "/sign-in?next=/no/such/page"),
    ] {
        let answer = app.get(None, path).await;
        assert_eq!(answer.status, StatusCode::SEE_OTHER, "{path}");
        assert_eq!(answer.header("location"), wanted);
    }
    assert_eq!(app.get(None, "/sign-in").await.status, StatusCode::OK);
}

#[tokio::test]
async fn a_page_may_load_nothing_but_our_own() {
    let app = TestApp::start().await;
    let answer = app.get(None, "/sign-in").await;
    let policy = answer.header("content-security-policy").to_owned();
    let nonce = policy.split("'nonce-").nth(1).and_then(|rest| rest.split('\'').next()).expect("a nonce");
    for part in ["default-src 'none'", "'wasm-unsafe-eval'", "connect-src 'self'", "frame-ancestors 'none'", "base-uri 'none'"] {
        assert!(policy.contains(part), "{part} is missing in {policy}");
    }
    for open in ["'unsafe-eval'", "script-src 'unsafe-inline'", "http:", "https:", "*"] {
        assert!(!policy.replace("'wasm-unsafe-eval'", "").contains(open), "{open} in {policy}");
    }
    let html = answer.text();
    for script in html.split("<script").skip(1) {
        let tag = script.split('>').next().unwrap_or_default();
        assert!(
            tag.contains(&format!("nonce=\"{nonce}\"")) || tag.contains("src=\"/"),
            "<script{tag}>\nIf you are here because this failed: an inline script without the nonce; browsers will not run it."
        );
    }
    assert!(!html.contains("<style"), "inline style elements are not allowed by the policy");
    assert_eq!(answer.header("x-content-type-options"), "nosniff");
    assert_eq!(answer.header("referrer-policy"), "same-origin");
    assert_eq!(answer.header("cache-control"), "no-store");
    assert!(!answer.header("x-request-id").is_empty());
    let other = app.get(None, "/sign-in").await;
    assert_ne!(other.header("content-security-policy"), policy, "the nonce is new for each response");
}

#[tokio::test]
async fn an_unknown_page_is_a_page_with_404() {
    let app = TestApp::start().await;
    let tenant = app.tenant("a").await;
    let kim = app.person(tenant, "kim", &[Role::User]).await;
    let answer = app.get(Some(&kim), "/no/such/page").await;
    assert_eq!(answer.status, StatusCode::NOT_FOUND);
    assert!(answer.header("content-type").starts_with("text/html"));
}

#[tokio::test]
async fn language_follows_the_browser_until_somebody_chooses_one() {
    let app = TestApp::start().await;
    let tenant = app.tenant("a").await;
    let kim = app.person(tenant, "kim", &[Role::User]).await;
    let shown = |accepted: &'static str| {
        let request = axum::http::Request::get("/no/such/page").header(header::ACCEPT_LANGUAGE, accepted);
        let request = request.body(axum::body::Body::empty()).expect("a request");
        async { app.send(Some(&kim), request).await.text().contains("<html lang=\"de\"") }
    };
    assert!(shown("de-DE,de;q=0.9").await, "If you are here because this failed: new people get a language that nobody chose.");
    assert!(!shown("en-GB").await);
    for (language, when_german) in [(Some("en"), false), (None, true), (Some("de"), true)] {
        let profile = json!({ "name": "Kim", "language": language, "theme": "system", "default_model": null, "instructions": "" });
        let saved = app.call(Some(&kim), "change_profile", &json!({ "profile": profile })).await;
        assert_eq!(saved.status, StatusCode::OK, "{}", saved.text());
        assert_eq!(shown("de").await, when_german, "{language:?}");
        assert_eq!(shown("en").await, language == Some("de"), "{language:?}");
    }
}

#[tokio::test]
async fn language_follows_the_browser_when_signed_out() {
    let app = TestApp::start().await;
    for (accepted, tag) in [("de-AT,de;q=0.9,en;q=0.5", "<html lang=\"de\""), ("en-GB", "<html lang=\"en\"")] {
        let request = axum::http::Request::get("/sign-in").header(header::ACCEPT_LANGUAGE, accepted);
        let answer = app.send(None, request.body(axum::body::Body::empty()).expect("a request")).await;
        assert!(answer.text().contains(tag), "{accepted}: {}", &answer.text()[..200]);
    }
}

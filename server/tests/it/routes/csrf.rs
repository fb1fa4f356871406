//! `/ui/*`: a foreign page cannot act in a visitor's name.

use crate::app::TestApp;
use axum::{
    body::Body,
    http::{Method, Request, StatusCode, header},
};
use contract::account::Role;

/// Headers of a call, and how it is refused.
type Case = (&'static [(&'static str, &'static str)], StatusCode, &'static str);

#[tokio::test]
async fn a_foreign_form_is_refused_before_anything_happens() {
    let app = TestApp::start().await;
    let tenant = app.tenant("a").await;
    let kim = app.person(tenant, "kim", &[Role::User]).await;
    let cases: &[Case] = &[
        (&[("sec-fetch-site", "cross-site"), ("content-type", "application/json")], StatusCode::FORBIDDEN, "cross_site"),
        (&[("sec-fetch-site", "same-site"), ("content-type", "application/json")], StatusCode::FORBIDDEN, "cross_site"),
        (
            &[("origin", "https://evil.example"), ("host", "kontor"), ("content-type", "application/json")],
            StatusCode::FORBIDDEN,
            "cross_site",
        ),
        (&[("content-type", "application/json")], StatusCode::FORBIDDEN, "cross_site"),
        (&[("sec-fetch-site", "same-origin"), ("content-type", "text/plain")], StatusCode::UNSUPPORTED_MEDIA_TYPE, "not_json"),
        (
            &[("sec-fetch-site", "same-origin"), ("content-type", "application/x-www-form-urlencoded")],
            StatusCode::UNSUPPORTED_MEDIA_TYPE,
            "not_json",
        ),
        (&[("sec-fetch-site", "same-origin")], StatusCode::UNSUPPORTED_MEDIA_TYPE, "not_json"),
    ];
    for (headers, status, code) in cases {
        let mut request = Request::post("/ui/revoke_other_sessions");
        for (name, value) in *headers {
            request = request.header(*name, *value);
        }
        let answer = app.send(Some(&kim), request.body(Body::from("{}")).expect("a request")).await;
        assert_eq!(answer.status, *status, "{headers:?}");
        assert_eq!(answer.json::<serde_json::Value>()["code"], *code, "{headers:?}");
        assert_eq!(answer.header("content-type"), "application/problem+json");
    }
    let own = Request::post("/ui/list_sessions").header("origin", "http://kontor:3000").header(header::HOST, "kontor:3000");
    let own = own.header(header::CONTENT_TYPE, "application/json; charset=utf-8").body(Body::from("{}")).expect("a request");
    assert_eq!(app.send(Some(&kim), own).await.status, StatusCode::OK, "an older browser on our own page");
}

#[test]
fn no_server_function_answers_to_get() {
    let open: Vec<_> = server_fn::axum::server_fn_paths().filter(|(_, method)| *method != Method::POST).collect();
    assert!(
        open.is_empty(),
        "{open:?}\nIf you are here because this failed: GET passes the CSRF middleware and SameSite=Lax. Use input = Json."
    );
    assert!(server_fn::axum::server_fn_paths().all(|(path, _)| path.starts_with("/ui/")), "all server functions live under /ui");
}

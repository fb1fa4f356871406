//! `/openapi.json` and `/docs`: the API's description, for programs and for people.

use crate::app::TestApp;
use axum::http::StatusCode;
use serde_json::Value;
use std::collections::BTreeSet;

#[tokio::test]
async fn the_document_describes_all_routes_of_the_router() {
    let app = TestApp::start().await;
    let answer = app.get(None, "/openapi.json").await;
    assert_eq!((answer.status, answer.header("content-type")), (StatusCode::OK, "application/json"));
    assert_eq!(answer.header("content-security-policy"), "default-src 'none'; frame-ancestors 'none'");
    let document: Value = answer.json();
    assert_eq!(document["openapi"], "3.1.0");
    let listed: BTreeSet<String> = document["paths"].as_object().expect("paths").keys().cloned().collect();
    let there: BTreeSet<String> = gateway::ROUTES.iter().map(|(_, path, _)| path.replace("{*", "{")).collect();
    assert_eq!(listed, there);
}

#[tokio::test]
async fn the_page_shows_every_operation_and_loads_nothing_from_elsewhere() {
    let app = TestApp::start().await;
    let document: Value = app.get(None, "/openapi.json").await.json();
    let page = app.get(None, "/docs").await;
    assert_eq!((page.status, page.header("content-type")), (StatusCode::OK, "text/html; charset=utf-8"));
    let policy = page.header("content-security-policy");
    assert!(policy.contains("default-src 'none'") && !policy.contains("script-src") && !policy.contains("unsafe"), "{policy}");
    let html = page.text();
    for item in document["paths"].as_object().expect("paths").values() {
        for operation in item.as_object().expect("operations").values() {
            let id = operation["operationId"].as_str().expect("an id");
            assert!(html.contains(&format!("<article id=\"{id}\">")) && html.contains(&format!("href=\"#{id}\"")), "{id}");
        }
    }
    for name in document["components"]["schemas"].as_object().expect("schemas").keys() {
        assert!(html.contains(&format!("<article id=\"schema-{name}\">")), "{name}");
    }
    assert!(!html.contains("<script") && !html.contains("<style") && !html.contains(" style="), "the policy allows none of it");
    for address in html.split("href=\"").skip(1).chain(html.split("src=\"").skip(1)) {
        assert!(address.starts_with('/') || address.starts_with('#'), "{}", address.split('"').next().unwrap_or_default());
    }
    // What is linked to within the page is there.
    for target in html.split("href=\"#").chain(html.split("href=\"/docs#")).filter_map(|rest| rest.split_once('"')).map(|(id, _)| id) {
        let anchor = !target.is_empty() && target.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-');
        assert!(!anchor || html.contains(&format!("id=\"{target}\"")), "#{target} leads nowhere");
    }
    let style = app.get(None, "/docs/style.css").await;
    assert_eq!((style.status, style.header("content-type")), (StatusCode::OK, "text/css; charset=utf-8"));
    let css = style.text();
    assert!(css.contains("--k-canvas:") && css.contains("prefers-color-scheme: dark"), "the product's themes");
    assert!(!css.contains("url(") && !css.contains("@import"), "nothing from elsewhere");
}

#[tokio::test]
async fn the_search_shows_what_fits_and_makes_no_markup() {
    let app = TestApp::start().await;
    let html = app.get(None, "/docs?q=rerank%20query").await.text();
    assert!(html.contains("id=\"createRerank\"") && !html.contains("id=\"createResponse\""));
    let html = app.get(None, "/docs?q=%22%3E%3Cscript%3E").await.text();
    assert!(html.contains("value=\"&quot;&gt;&lt;script&gt;\"") && !html.contains("<script"));
    assert!(html.contains("Nothing holds all of these words."));
    assert_eq!(app.get(None, "/docs?q=%ff&q=2").await.status, StatusCode::OK);
}

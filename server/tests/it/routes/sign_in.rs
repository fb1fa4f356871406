//! `/ui/sign_in`, `/ui/sign_out`: cookies and what they open.

use crate::app::{PASSWORD, TestApp};
use app::edge::CookiePolicy;
use axum::http::{StatusCode, header};
use contract::account::Role;
use serde_json::json;

#[tokio::test]
async fn the_session_cookie_is_out_of_reach_for_scripts_and_foreign_sites() {
    for secure in [false, true] {
        let app = TestApp::with(|state| state.cookies = CookiePolicy { secure }).await;
        let tenant = app.tenant("a").await;
        let kim = app.person(tenant, "kim", &[Role::User]).await;
        let answer = app.call(None, "sign_in", &json!({ "email": kim.email, "password": PASSWORD })).await;
        let cookie = answer.header("set-cookie").to_owned();
        for flag in ["kontor_session=", "; HttpOnly", "; SameSite=Lax", "; Path=/", "; Max-Age="] {
            assert!(cookie.contains(flag), "{flag} is missing in {cookie}");
        }
        assert_eq!(cookie.contains("; Secure"), secure, "{cookie}");
        assert!(!answer.text().contains(cookie.split(['=', ';']).nth(1).expect("a token")), "the token travels in the cookie alone");
    }
}

#[tokio::test]
async fn a_wrong_password_and_an_unknown_person_look_the_same() {
    let app = TestApp::start().await;
    let tenant = app.tenant("a").await;
    app.person(tenant, "kim", &[Role::User]).await;
    let mut answers = Vec::new();
    for email in ["kim@example.org", "nobody@example.org"] {
        let answer = app.call(None, "sign_in", &json!({ "email": email, "password": "not the password" })).await;
        assert_eq!(answer.status, StatusCode::UNAUTHORIZED);
        assert!(!answer.headers.contains_key(header::SET_COOKIE));
        let mut problem: serde_json::Value = answer.json();
        problem["request_id"] = "".into();
        answers.push(problem);
    }
    assert_eq!(answers[0], answers[1], "If you are here because this failed: sign-in tells who has an account.");
}

#[tokio::test]
async fn signing_in_anew_ends_the_old_session_and_signing_out_the_new_one() {
    let app = TestApp::start().await;
    let tenant = app.tenant("a").await;
    let old = app.person(tenant, "kim", &[Role::User]).await;
    let answer = app.call(Some(&old), "sign_in", &json!({ "email": old.email, "password": PASSWORD })).await;
    let cookie = answer.header("set-cookie").split(';').next().unwrap_or_default().to_owned();
    let new = crate::app::Person { cookie, ..old.clone() };
    assert_ne!(old.cookie, new.cookie);
    assert_eq!(app.call(Some(&new), "list_sessions", &json!({})).await.status, StatusCode::OK);
    // A positive answer may be remembered for a second.
    tokio::time::sleep(std::time::Duration::from_millis(1100)).await;
    assert_eq!(app.call(Some(&old), "list_sessions", &json!({})).await.status, StatusCode::UNAUTHORIZED, "the old session");

    let out = app.call(Some(&new), "sign_out", &json!({})).await;
    assert_eq!(out.status, StatusCode::OK);
    assert!(out.header("set-cookie").contains("Max-Age=0"), "{}", out.header("set-cookie"));
    tokio::time::sleep(std::time::Duration::from_millis(1100)).await;
    assert_eq!(app.call(Some(&new), "list_sessions", &json!({})).await.status, StatusCode::UNAUTHORIZED, "the signed-out session");
}

//! `/ui/sign_in`, `/ui/sign_out`, and the form of `/sign-in`: cookies and what they open.

use crate::app::{Answer, PASSWORD, Person, TestApp};
use app::edge::CookiePolicy;
use axum::{
    body::Body,
    http::{Request, StatusCode, header},
};
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
    let new = Person { cookie, ..old.clone() };
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

/// The sign-in form as a browser sends it by itself.
async fn send_form(app: &TestApp, path: &str, site: &'static str, body: &str) -> Answer {
    let request = Request::post(path)
        .header(header::CONTENT_TYPE, "application/x-www-form-urlencoded")
        .header(header::ACCEPT, "text/html,application/xhtml+xml,*/*;q=0.8")
        .header(header::ACCEPT_LANGUAGE, "en")
        .header("sec-fetch-site", site)
        .body(Body::from(body.to_owned()))
        .expect("a request");
    app.send(None, request).await
}

#[tokio::test]
async fn a_browser_without_our_script_signs_in_and_gets_the_page_it_wanted() {
    let app = TestApp::start().await;
    let tenant = app.tenant("a").await;
    let kim = app.person(tenant, "kim", &[Role::User]).await;
    let entered = format!("email={}&password={}", kim.email.replace('@', "%40"), PASSWORD.replace(' ', "+"));
    for (path, wanted) in [
        ("/sign-in", "/"),
        ("/sign-in?next=/search%3Fq%3Da%2520b%26c%3D%C3%BC", "/search?q=a%20b&c=%C3%BC"),
        ("/sign-in?next=//evil.example", "/"),
        ("/sign-in?next=a&next=b", "/"),
    ] {
        let answer = send_form(&app, path, "same-origin", &entered).await;
        assert_eq!((answer.status, answer.header("location")), (StatusCode::SEE_OTHER, wanted), "{path}: {}", answer.text());
        let cookie = answer.header("set-cookie").split(';').next().unwrap_or_default().to_owned();
        let kim = Person { cookie, ..kim.clone() };
        assert_eq!(app.get(Some(&kim), "/account/usage").await.status, StatusCode::OK, "{path}");
    }
}

#[tokio::test]
async fn a_browser_without_our_script_is_told_on_the_page_what_is_wrong() {
    let app = TestApp::start().await;
    let tenant = app.tenant("a").await;
    app.person(tenant, "kim", &[Role::User]).await;
    let said = "E-mail or password is not right.";
    assert!(!app.get(None, "/sign-in").await.text().contains(said));
    let answer = send_form(&app, "/sign-in?next=/search", "same-origin", "email=%22%3E%3Cb%3Ekim%40example.org&password=wrong").await;
    assert_eq!(answer.status, StatusCode::UNAUTHORIZED);
    assert!(answer.header("content-type").starts_with("text/html"), "{:?}", answer.headers);
    assert!(!answer.headers.contains_key(header::SET_COOKIE));
    assert!(answer.header("content-security-policy").contains("'nonce-"), "the page's own policy");
    let html = answer.text();
    assert!(html.contains(&format!(">{said}<")) && html.contains("<form"), "{html}");
    assert!(html.contains("kim@example.org") && !html.contains("<b>kim"), "what was entered comes back, as text: {html}");
    assert!(!html.contains("wrong\""), "the password does not come back");

    let unread = send_form(&app, "/sign-in", "same-origin", "email=kim%40example.org").await;
    assert_eq!(unread.status, StatusCode::BAD_REQUEST);
    assert!(unread.text().contains("The request could not be read."), "{}", unread.text());
}

#[tokio::test]
async fn a_foreign_page_signs_nobody_in_and_no_other_page_takes_a_form() {
    let app = TestApp::start().await;
    let tenant = app.tenant("a").await;
    let kim = app.person(tenant, "kim", &[Role::User]).await;
    let entered = format!("email={}&password={}", kim.email, PASSWORD.replace(' ', "+"));
    for site in ["cross-site", "same-site", "none"] {
        let answer = send_form(&app, "/sign-in", site, &entered).await;
        assert_eq!(answer.status, StatusCode::FORBIDDEN, "{site}\nIf you are here because this failed: a foreign page can sign people in.");
        assert!(!answer.headers.contains_key(header::SET_COOKIE), "{site}");
    }
    for path in ["/ui/sign_in", "/account/profile", "/sign-in/"] {
        assert_eq!(send_form(&app, path, "same-origin", &entered).await.status, StatusCode::UNSUPPORTED_MEDIA_TYPE, "{path}");
    }
}

//! The first start: a tenant, two people, and how they sign in.

use crate::app::TestApp;
use contract::account::Role;
use server::{
    config::{Config, Sources},
    startup::bootstrap,
};
use std::os::unix::fs::PermissionsExt;

fn config(folder: &std::path::Path, more: &[(&str, &str)]) -> Config {
    let mut env = vec![("KONTOR__DATA_DIR".to_owned(), folder.to_string_lossy().into_owned())];
    env.extend(more.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())));
    Config::load(&Sources { file: None, env }).expect("valid")
}

#[tokio::test]
async fn the_first_start_creates_two_people_once() {
    let app = TestApp::start().await;
    let folder = tempfile::tempdir().expect("a folder");
    let config = config(folder.path(), &[]);
    let login = bootstrap::run(&config, &app.state.identity).await.expect("a first start").expect("created");

    let file = folder.path().join("first-login.json");
    let mode = std::fs::metadata(&file).expect("kept").permissions().mode() & 0o777;
    assert_eq!(mode, 0o600);
    let text = login.describe(folder.path());
    for email in ["admin@example.org", "user@example.org"] {
        assert!(text.contains(email), "{text}");
    }
    assert!(bootstrap::run(&config, &app.state.identity).await.expect("a second start").is_none());

    let kept: serde_json::Value = serde_json::from_slice(&std::fs::read(file).expect("a file")).expect("JSON");
    let people = kept["people"].as_array().expect("people");
    assert_ne!(people[0]["password"], people[1]["password"]);
    for (person, roles) in people.iter().zip([vec![Role::User, Role::ServiceAdmin, Role::SystemAdmin], vec![Role::User]]) {
        let input = serde_json::json!({ "email": person["email"], "password": person["password"] });
        let answer = app.call(None, "sign_in", &input).await;
        assert_eq!(answer.status, 200, "{}", answer.text());
        let token = answer.header("set-cookie").split(['=', ';']).nth(1).unwrap_or_default().to_owned();
        let request = contract::ids::RequestId(uuid::Uuid::now_v7());
        let actor = app.state.identity.authenticate(&token, request).await.expect("a database").expect("a session");
        assert!(roles.iter().all(|role| actor.has(*role)) && actor.roles().len() == roles.len(), "{:?}", actor.roles());
    }
}

#[tokio::test]
async fn a_given_password_is_taken_and_not_written_down() {
    let app = TestApp::start().await;
    let folder = tempfile::tempdir().expect("a folder");
    let config = config(folder.path(), &[("KONTOR__BOOTSTRAP__PASSWORD", "correct horse battery")]);
    let login = bootstrap::run(&config, &app.state.identity).await.expect("a first start").expect("created");
    assert!(!login.describe(folder.path()).contains("horse"));
    let kept = std::fs::read_to_string(folder.path().join("first-login.json")).expect("kept");
    assert!(!kept.contains("horse"), "{kept}");
    let input = serde_json::json!({ "email": "user@example.org", "password": "correct horse battery" });
    assert_eq!(app.call(None, "sign_in", &input).await.status, 200);
}

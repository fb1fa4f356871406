//! Data classes and grants of a configured server, as programs see them.

use super::{
    ui_keys::{Program, refused},
    v1::{House, make},
};
use crate::app::{Answer, TestApp};
use axum::{
    body::Body,
    http::{Method, Request, StatusCode, header},
};
use contract::{key::Scope, problem::ProblemKind};
use domain::{DataClass, SystemClock};
use identity::NewKey;
use inference::Inference;
use serde_json::{Value, json};
use server::{
    config::{Config, Sources},
    startup::models,
};
use services::Services;
use std::sync::Arc;
use testkit::{
    eventually,
    fake_upstream::{FakeUpstream, Mood},
    fake_worker::quick_pool,
    keys,
    ledger::ledger,
};

/// A server that is configured so, once all its `upstreams` are ready.
async fn configured(toml: &str, upstreams: usize) -> House {
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("kontor.toml");
    std::fs::write(&file, toml).expect("a configuration");
    let config = Config::load(&Sources { file: Some(file), env: Vec::new() }).expect("valid");
    let pool = quick_pool();
    let app = TestApp::with(|state| {
        models::add_upstreams(&config, &pool).expect("clients");
        let catalogue = models::catalogue(&config).expect("a catalogue");
        state.inference = Inference::new(state.db.clone(), catalogue, pool.clone(), Arc::new(SystemClock));
        state.services = Services::new(state.db.clone(), state.inference.clone(), state.identity.clone(), Arc::new(SystemClock));
    })
    .await;
    eventually("all are ready", 5, || async { pool.describe().matches("ready with").count() == upstreams }).await;
    House::of(app).await
}

/// An upstream of these models, with further lines.
fn upstream(at: &FakeUpstream, name: &str, models: &[&str], more: &str) -> String {
    let base = at.config(name, "m").base_url;
    let models: Vec<String> = models.iter().map(|model| format!("{model} = \"their-model\"")).collect();
    format!("[[upstreams]]\nname = \"{name}\"\nbase_url = \"{base}\"\nmodels = {{ {} }}\n{more}\n", models.join(", "))
}

async fn post(house: &House, path: &str, class: Option<&str>, body: Value) -> Answer {
    let mut request = Request::post(path)
        .header(header::AUTHORIZATION, format!("Bearer {}", house.key.key.reveal()))
        .header(header::CONTENT_TYPE, "application/json");
    if let Some(class) = class {
        request = request.header("x-kontor-data-class", class);
    }
    house.app.send(None, request.body(Body::from(body.to_string())).expect("a request")).await
}

async fn chat(house: &House, class: Option<&str>) -> Answer {
    post(house, "/v1/chat/completions", class, json!({ "model": "big", "messages": [{ "role": "user", "content": "x" }] })).await
}

#[tokio::test]
async fn a_header_raises_the_class_and_never_lowers_it() {
    let other = FakeUpstream::start().await;
    let toml = format!("[[models.offered]]\nid = \"big\"\n{}", upstream(&other, "elsewhere", &["big"], ""));
    let house = configured(&toml, 1).await;
    for class in [None, Some("internal"), Some("public")] {
        let answer = chat(&house, class).await;
        assert_eq!(answer.status, StatusCode::OK, "{class:?}: {}", answer.text());
    }
    for class in ["confidential", "restricted"] {
        let answer = chat(&house, Some(class)).await;
        let error = answer.json::<Value>()["error"].clone();
        assert_eq!((answer.status, &error["type"]), (StatusCode::FORBIDDEN, &json!("permission_error")), "{class}");
        assert!(error["message"].as_str().is_some_and(|message| message.contains(class)), "{error}");
    }
    for wrong in ["secret", "", "Public"] {
        let answer = chat(&house, Some(wrong)).await;
        let error = answer.json::<Value>()["error"].clone();
        assert_eq!((answer.status, &error["param"]), (StatusCode::BAD_REQUEST, &json!("x-kontor-data-class")), "{wrong:?}: {error}");
    }
    let identity = &house.app.state.identity;
    identity.set_account_class("test", house.tenant, house.account, Some(DataClass::Confidential)).await.expect("set");
    for class in [None, Some("internal"), Some("public")] {
        assert_eq!(
            chat(&house, class).await.status,
            StatusCode::FORBIDDEN,
            "If you are here because this failed: a caller lowers the class that its administrator gave it ({class:?})."
        );
    }
    identity.set_account_class("test", house.tenant, house.account, None).await.expect("set");
    assert_eq!(chat(&house, None).await.status, StatusCode::OK, "as its tenant's again");
    identity.set_class("test", house.tenant, DataClass::Restricted).await.expect("set");
    assert_eq!(chat(&house, None).await.status, StatusCode::FORBIDDEN);
    let listed = house.get("/v1/models").await.json::<Value>();
    assert_eq!((&listed["data"][0]["id"], &listed["data"][0]["status"]), (&json!("big"), &json!("unavailable")));
    assert_eq!((other.requests().len(), ledger(&house.app.db).await.len()), (4, 4), "the rest was neither sent nor charged");
}

#[tokio::test]
async fn what_was_raised_stays_so_for_what_goes_on_from_it() {
    let (other, own) = (FakeUpstream::start().await, FakeUpstream::start().await);
    let (elsewhere, house) = (
        upstream(&other, "elsewhere", &["big"], ""),
        upstream(&own, "house", &["big"], "zone = \"own\"\nhighest_class = \"restricted\"\norder = 2"),
    );
    let house = configured(&format!("[[models.offered]]\nid = \"big\"\n{elsewhere}{house}"), 2).await;
    let ask = async |class: Option<&str>, previous: Option<&str>| {
        let body = json!({ "model": "big", "input": "x", "previous_response_id": previous });
        let answer = post(&house, "/v1/responses", class, body).await;
        assert_eq!(answer.status, StatusCode::OK, "{}", answer.text());
        (answer.json::<Value>()["id"].as_str().expect("an id").to_owned(), answer.header("x-kontor-served-by").to_owned())
    };
    assert_eq!(ask(None, None).await.1, "elsewhere");
    let (secret, by) = ask(Some("confidential"), None).await;
    assert_eq!(by, "house");
    let (later, by) = ask(None, Some(secret.as_str())).await;
    assert_eq!(by, "house", "If you are here because this failed: a second question shows the first one to who may not see it.");
    assert_eq!(ask(None, Some(later.as_str())).await.1, "house", "nor does the third");
    own.set(Mood::Refuses(500, "boom"));
    let body = json!({ "model": "big", "input": "x", "previous_response_id": later });
    assert_ne!(post(&house, "/v1/responses", None, body).await.status, StatusCode::OK);
    assert_eq!(other.requests().len(), 1);
}

#[tokio::test]
async fn a_model_is_there_for_those_whom_it_is_granted_to() {
    let server = FakeUpstream::start().await;
    let toml = format!(
        "[[models.offered]]\nid = \"open\"\n[[models.offered]]\nid = \"theirs\"\ntenants = [\"later\"]\n\
         [[models.offered]]\nid = \"titles\"\npurposes = [\"title\"]\n[[models.offered]]\nid = \"narrow\"\n{}{}",
        upstream(&server, "all", &["open", "theirs", "titles"], ""),
        upstream(&server, "some", &["narrow"], "tenants = [\"later\"]"),
    );
    let house = configured(&toml, 2).await;
    // Made after the start: it is known by its short name.
    let later = house.app.tenant("later").await;
    let account = house.app.state.identity.create_service_account("test", keys::reports(later)).await.expect("an account");
    let theirs = make(&house.app, later, account, NewKey::default()).await;
    let ids = async |key: &str| {
        let listed = house.send(key, Method::GET, "/v1/models", Body::empty()).await.json::<Value>();
        let ids = listed["data"].as_array().expect("models").iter().map(|model| model["id"].as_str().expect("an id").to_owned());
        ids.collect::<Vec<_>>()
    };
    let asked = async |key: &str, model: &str| {
        let body = json!({ "model": model, "messages": [{ "role": "user", "content": "x" }] });
        let answer = house.send(key, Method::POST, "/v1/chat/completions", Body::from(body.to_string())).await;
        let code = answer.json::<Value>()["error"]["code"].as_str().unwrap_or_default().to_owned();
        (answer.status.as_u16(), code)
    };
    let (ours, theirs) = (house.key.key.reveal(), theirs.key.reveal());
    assert_eq!(ids(ours).await, ["open"], "If you are here because this failed: a tenant sees what it was not granted.");
    assert_eq!(ids(theirs).await, ["open", "theirs", "narrow"]);
    let (yes, no) = ((200, String::new()), (404, "model_not_found".to_owned()));
    for (model, for_us, for_them) in [("open", &yes, &yes), ("theirs", &no, &yes), ("titles", &no, &no), ("narrow", &no, &yes)] {
        assert_eq!((&asked(ours, model).await, &asked(theirs, model).await), (for_us, for_them), "{model}");
    }
    for model in ["theirs", "narrow"] {
        assert_eq!(house.get(&format!("/v1/models/{model}")).await.status, StatusCode::NOT_FOUND, "{model}");
    }
    assert_eq!(ledger(&house.app.db).await.len(), 4, "what was not found is not charged");
}

#[tokio::test]
async fn where_no_class_of_a_call_is_kept_none_is_taken() {
    let house = House::build().await;
    let program = Program::of(&house.app, house.tenant, house.account, &[Scope::Chat]).await;
    let classified = Request::post("/ui/list_models").header("x-kontor-data-class", "confidential");
    let problem = refused(&program.send(classified, Body::from("{}")).await, 400, ProblemKind::Invalid);
    assert_eq!(
        problem.field.as_deref(),
        Some("x-kontor-data-class"),
        "If you are here because this failed: a program believes its chat confidential, and it is not."
    );
    assert_eq!(program.call("list_models", &json!({})).await.status, StatusCode::OK);
}

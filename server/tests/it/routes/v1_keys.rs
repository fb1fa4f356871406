//! What a key opens, for whom and from where.

use super::house::{House, make};
use crate::app::TestApp;
use axum::{
    body::Body,
    extract::ConnectInfo,
    http::{HeaderValue, Method, Request, StatusCode, header},
};
use identity::NewKey;
use serde_json::{Value, json};
use std::{net::SocketAddr, time::Duration};
use testkit::{fake_worker::FAKE_MODEL, ledger::ledger};

#[tokio::test]
async fn every_route_refuses_whoever_has_no_key() {
    let house = House::build().await;
    for (method, path, _) in gateway::ROUTES {
        let path = path.replace("{*model}", FAKE_MODEL).replace("{id}", "x");
        let request = Request::builder().method(*method).uri(&path).body(Body::from("{}")).expect("a request");
        let answer = house.app.send(None, request).await;
        assert_eq!(answer.status, StatusCode::UNAUTHORIZED, "{method} {path}: {}", answer.text());
        assert!(!answer.json::<Value>()["error"]["message"].as_str().unwrap_or_default().is_empty(), "{method} {path}");
    }
    assert!(ledger(&house.app.db).await.is_empty());
}

#[tokio::test]
async fn keys_that_open_nothing() {
    let house = House::build().await;
    let body = || Body::from(json!({ "model": FAKE_MODEL, "messages": [{ "role": "user", "content": "x" }] }).to_string());
    let refused = |key: String| {
        let house = &house;
        async move {
            let answer = house.send(&key, Method::POST, "/v1/chat/completions", body()).await;
            let error = &answer.json::<Value>()["error"];
            assert_eq!((error["type"].as_str(), error["param"].is_null()), (Some("invalid_request_error"), true), "{error}");
            (answer.status.as_u16(), error["code"].as_str().unwrap_or_default().to_owned())
        }
    };
    let invalid = (401, "invalid_api_key".to_owned());
    assert_eq!(refused(String::new()).await, invalid);
    assert_eq!(refused("sk-kontor-nothing".into()).await, invalid);
    assert_eq!(refused(format!("sk-kontor-{}", "A".repeat(43))).await, invalid);
    let ours = house.key.key.reveal().to_owned();
    house.app.state.identity.disable_key("test", house.key.id, true).await.expect("disabled");
    assert_eq!(refused(ours.clone()).await, invalid);
    house.app.state.identity.disable_key("test", house.key.id, false).await.expect("enabled");
    assert_eq!(house.chat(json!({})).await.status, StatusCode::OK);
    house.app.state.identity.disable_service_account("test", house.tenant, house.account, true).await.expect("disabled");
    assert_eq!(refused(ours).await, invalid);
    assert_eq!(house.app.worker.requests().len(), 1, "nothing was computed for them");
    assert_eq!(ledger(&house.app.db).await.len(), 1, "and nothing charged");
}

#[tokio::test]
async fn a_key_is_narrowed_to_models_and_networks() {
    let house = House::build().await;
    let other = NewKey { models: Some(vec!["another-model".into()]), ..NewKey::default() };
    let other = make(&house.app, house.tenant, house.account, other).await;
    let body = json!({ "model": FAKE_MODEL, "messages": [{ "role": "user", "content": "x" }] }).to_string();
    let answer = house.send(other.key.reveal(), Method::POST, "/v1/chat/completions", Body::from(body.clone())).await;
    assert_eq!((answer.status.as_u16(), answer.json::<Value>()["error"]["code"].as_str()), (404, Some("model_not_found")));
    let listed = house.send(other.key.reveal(), Method::GET, "/v1/models", Body::empty()).await;
    assert_eq!(listed.json::<Value>()["data"], json!([]));
    let office = NewKey { networks: vec!["192.0.2.0/24".into()], ..NewKey::default() };
    let office = make(&house.app, house.tenant, house.account, office).await;
    let from = |address: Option<&str>| {
        let mut request =
            Request::get("/v1/models").header(header::AUTHORIZATION, format!("Bearer {}", office.key.reveal())).body(Body::empty());
        if let (Ok(request), Some(address)) = (&mut request, address) {
            request.extensions_mut().insert(ConnectInfo(SocketAddr::new(address.parse().expect("an address"), 4711)));
        }
        house.app.send(None, request.expect("a request"))
    };
    for inside in ["192.0.2.7", "::ffff:192.0.2.7"] {
        assert_eq!(from(Some(inside)).await.status.as_u16(), 200, "{inside}");
    }
    for outside in [Some("198.51.100.1"), Some("2001:db8::1"), None] {
        let answer = from(outside).await;
        assert_eq!(
            (answer.status.as_u16(), answer.json::<Value>()["error"]["type"].as_str()),
            (403, Some("permission_error")),
            "{outside:?}"
        );
    }
    assert!(house.app.worker.requests().is_empty());
}

#[tokio::test]
async fn a_network_is_the_proxys_word_where_that_is_believed() {
    for trust_proxy in [true, false] {
        let house = House::of(TestApp::with(|state| state.trust_proxy = trust_proxy).await).await;
        let office = NewKey { networks: vec!["192.0.2.0/24".into()], ..NewKey::default() };
        let office = make(&house.app, house.tenant, house.account, office).await;
        let cases: [(&[u8], bool); 6] = [
            (b"192.0.2.7", true),
            (b"198.51.100.1, 192.0.2.7:4711", true),
            (b"\xff, 192.0.2.7", true),
            (b"192.0.2.7, 198.51.100.1", false),
            (b"192.0.2.7, unknown", false),
            (b"192.0.2.7, \xff", false),
        ];
        for (forwarded, inside) in cases {
            for peer in ["203.0.113.9", "192.0.2.9"] {
                let mut request = Request::get("/v1/models")
                    .header(header::AUTHORIZATION, format!("Bearer {}", office.key.reveal()))
                    .header("x-forwarded-for", HeaderValue::from_bytes(forwarded).expect("a header"))
                    .body(Body::empty())
                    .expect("a request");
                request.extensions_mut().insert(ConnectInfo(SocketAddr::new(peer.parse().expect("an address"), 4711)));
                let allowed = if trust_proxy { inside } else { peer == "192.0.2.9" };
                let status = house.app.send(None, request).await.status.as_u16();
                let forwarded = forwarded.escape_ascii();
                assert_eq!(status, if allowed { 200 } else { 403 }, "{forwarded} by {peer}, believed: {trust_proxy}");
            }
        }
    }
}

#[tokio::test]
async fn a_rotated_key_has_a_successor_and_an_end() {
    let house = House::build().await;
    let successor = house.app.state.identity.rotate_key("test", house.key.id, 3_000).await.expect("a successor");
    let get = |key: String| {
        let house = &house;
        async move { house.send(&key, Method::GET, "/v1/models", Body::empty()).await.status.as_u16() }
    };
    assert_eq!(get(successor.key.reveal().into()).await, 200);
    assert_eq!(get(house.key.key.reveal().into()).await, 200, "both are good for a while");
    tokio::time::sleep(Duration::from_millis(3_100)).await;
    assert_eq!((get(house.key.key.reveal().into()).await, get(successor.key.reveal().into()).await), (401, 200));
}

#[tokio::test]
async fn a_session_is_no_key_and_a_key_no_session() {
    let house = House::build().await;
    let kim = house.app.person(house.tenant, "kim", &[contract::account::Role::User]).await;
    assert_eq!(house.app.get(Some(&kim), "/v1/models").await.status.as_u16(), 401);
    let request = Request::post("/ui/list_conversations")
        .header(header::AUTHORIZATION, format!("Bearer {}", house.key.key.reveal()))
        .header(header::CONTENT_TYPE, "application/json")
        .header("sec-fetch-site", "same-origin")
        .body(Body::from(json!({ "archived": false, "cursor": null }).to_string()))
        .expect("a request");
    let answer = house.app.send(None, request).await;
    assert_eq!(answer.status.as_u16(), 403, "the scope of `/v1` opens nothing else: {}", answer.text());
}

#[tokio::test]
async fn what_a_scope_does_not_open_is_in_the_audit_trail() {
    let house = House::build().await;
    let identity = &house.app.state.identity;
    let new = NewKey { scopes: vec![contract::key::Scope::Usage], ..NewKey::default() };
    let key = identity.create_key("test", house.tenant, house.account, new).await.expect("a key");
    let empty = json!({ "archived": false, "cursor": null }).to_string();
    // The key is judged before the body is read, whatever that says.
    let cases = [
        (Method::GET, "/v1/models", ""),
        (Method::POST, "/v1/chat/completions", "no JSON"),
        (Method::POST, "/v1/files", "no form"),
        (Method::POST, "/ui/list_conversations", empty.as_str()),
    ];
    for (method, path, body) in cases {
        let answer = house.send(key.key.reveal(), method, path, Body::from(body.to_owned())).await;
        assert_eq!(answer.status, StatusCode::FORBIDDEN, "{path}: {}", answer.text());
    }
    // What a foreign page makes a browser send is nothing that its person tried.
    let kim = house.app.person(house.tenant, "kim", &[contract::account::Role::User]).await;
    let foreign = Request::post("/ui/list_conversations")
        .header(header::CONTENT_TYPE, "application/json")
        .header("sec-fetch-site", "cross-site")
        .body(Body::from(empty.clone()))
        .expect("a request");
    assert_eq!(house.app.send(Some(&kim), foreign).await.status, StatusCode::FORBIDDEN);
    house.app.state.db.write_refusals().await.expect("written");
    let detail = json!({ "reason": "forbidden", "count": 4, "key": key.id });
    let event = format!("action = 'policy.refused' AND tenant_id = '{}' AND detail @> '{detail}'", house.tenant);
    let events = house.app.db.count_as_owner(&format!("SELECT count(*) AS value FROM audit_event WHERE {event}")).await;
    assert_eq!(events, 1, "If you are here because this failed: nobody learns that a key tries what it may not.");
    let all = "SELECT count(*) AS value FROM audit_event WHERE action = 'policy.refused'";
    assert_eq!(house.app.db.count_as_owner(all).await, 1, "If you are here because this failed: somebody is blamed for what others sent.");
}

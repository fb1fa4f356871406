//! What most tests of `/v1` begin with.

use crate::app::{Answer, TestApp};
use axum::{
    body::Body,
    http::{Method, Request, header},
};
use contract::ids::{ServiceAccountId, TenantId};
use identity::{MadeKey, NewAccount, NewKey};
use serde_json::{Value, json};
use testkit::{fake_worker::FAKE_MODEL, keys};

/// A tenant with a service account and a key of it.
pub(super) struct House {
    pub(super) app: TestApp,
    pub(super) tenant: TenantId,
    pub(super) account: ServiceAccountId,
    pub(super) key: MadeKey,
}

impl House {
    pub(super) async fn build() -> Self {
        Self::of(TestApp::start().await).await
    }

    pub(super) async fn of(app: TestApp) -> Self {
        let tenant = app.tenant("ours").await;
        let new = NewAccount { team: "Statistics".into(), cost_center: "4711".into(), ..keys::reports(tenant) };
        let account = app.state.identity.create_service_account("test", new).await.expect("an account");
        let key = make(&app, tenant, account, NewKey::default()).await;
        Self { app, tenant, account, key }
    }

    pub(super) async fn send(&self, key: &str, method: Method, path: &str, body: Body) -> Answer {
        let request = Request::builder()
            .method(method)
            .uri(path)
            .header(header::AUTHORIZATION, format!("Bearer {key}"))
            .header(header::CONTENT_TYPE, "application/json")
            .body(body)
            .expect("a request");
        self.app.send(None, request).await
    }

    pub(super) async fn post(&self, path: &str, body: &Value) -> Answer {
        self.send(self.key.key.reveal(), Method::POST, path, Body::from(body.to_string())).await
    }

    pub(super) async fn get(&self, path: &str) -> Answer {
        self.send(self.key.key.reveal(), Method::GET, path, Body::empty()).await
    }

    pub(super) async fn chat(&self, more: Value) -> Answer {
        let mut body = json!({ "model": FAKE_MODEL, "messages": [{ "role": "user", "content": "Hello" }] });
        body.as_object_mut().expect("an object").extend(more.as_object().expect("an object").clone());
        self.post("/v1/chat/completions", &body).await
    }
}

pub(super) async fn make(app: &TestApp, tenant: TenantId, account: ServiceAccountId, new: NewKey) -> MadeKey {
    keys::key(&app.state.identity, tenant, account, new).await
}

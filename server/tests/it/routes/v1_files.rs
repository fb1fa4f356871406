//! Files, as a client of OpenAI's API sees them.

use super::v1::{House, make};
use crate::app::{Answer, TestApp};
use axum::{
    body::Body,
    http::{Method, Request, StatusCode, header},
};
use identity::{NewAccount, NewKey};
use serde_json::{Value, json};
use services::FileLimits;

const BOUNDARY: &str = "a-boundary";

/// A form's fields: name, file name, content.
type Field<'a> = (&'a str, Option<&'a str>, &'a str);

fn form(fields: &[Field<'_>]) -> String {
    let mut text = String::new();
    for (name, filename, content) in fields {
        let filename = filename.map(|name| format!("; filename=\"{name}\"")).unwrap_or_default();
        text.push_str(&format!("--{BOUNDARY}\r\nContent-Disposition: form-data; name=\"{name}\"{filename}\r\n\r\n{content}\r\n"));
    }
    format!("{text}--{BOUNDARY}--\r\n")
}

impl House {
    async fn send_form(&self, fields: &[Field<'_>]) -> Answer {
        let request = Request::post("/v1/files")
            .header(header::AUTHORIZATION, format!("Bearer {}", self.key.key.reveal()))
            .header(header::CONTENT_TYPE, format!("multipart/form-data; boundary={BOUNDARY}"))
            .body(Body::from(form(fields)))
            .expect("a request");
        self.app.send(None, request).await
    }

    /// Brings a file; its id.
    pub(super) async fn bring(&self, purpose: &str, content: &str) -> String {
        let answer = self.send_form(&[("purpose", None, purpose), ("file", Some("input.jsonl"), content)]).await;
        assert_eq!(answer.status, StatusCode::OK, "{}", answer.text());
        answer.json::<Value>()["id"].as_str().expect("an id").to_owned()
    }

    async fn call_as(&self, key: &str, method: Method, path: &str) -> Answer {
        self.send(key, method, path, Body::empty()).await
    }
}

/// Status and parameter of a refusal.
fn refused(answer: &Answer) -> (u16, String) {
    let body: Value = answer.json();
    (answer.status.as_u16(), body["error"]["param"].as_str().unwrap_or_default().to_owned())
}

#[tokio::test]
async fn a_file_is_brought_found_read_and_removed() {
    let house = House::build().await;
    // The file first, as OpenAI's JavaScript client may send it.
    let fields = [
        ("file", Some("in put\u{fc}.jsonl"), "one\ntwo\n"),
        ("expires_after[anchor]", None, "created_at"),
        ("expires_after[seconds]", None, "7200"),
        ("purpose", None, "user_data"),
    ];
    let answer = house.send_form(&fields).await;
    assert_eq!(answer.status, StatusCode::OK, "{}", answer.text());
    let file: Value = answer.json();
    let (id, created) = (file["id"].as_str().expect("an id").to_owned(), file["created_at"].as_i64().expect("a time"));
    let expected = json!({
        "id": id, "object": "file", "bytes": 8, "created_at": created, "expires_at": created + 7200, "filename": "in put\u{fc}.jsonl",
        "purpose": "user_data", "status": "processed", "status_details": null,
        "sha256": "c3f9c8c283a2b1f2f1896f27a01cbe3cddc0c9d93f752e4639035a0f5b36f6e8",
    });
    assert_eq!(file, expected);
    assert!(id.starts_with("file-") && created > 1_700_000_000, "{file}");
    let path = format!("/v1/files/{id}");
    assert_eq!(house.get(&path).await.json::<Value>(), file);
    let content = house.get(&format!("{path}/content")).await;
    assert_eq!((content.text().as_str(), content.header("content-length")), ("one\ntwo\n", "8"));
    assert_eq!(content.header("content-disposition"), "attachment; filename=\"in_put_.jsonl\"");
    assert_eq!(content.header("content-type"), "application/octet-stream");
    let gone = house.call_as(house.key.key.reveal(), Method::DELETE, &path).await;
    assert_eq!(gone.json::<Value>(), json!({ "id": id, "object": "file", "deleted": true }));
    for path in [path.clone(), format!("{path}/content"), "/v1/files/x".into()] {
        assert_eq!(house.get(&path).await.status, StatusCode::NOT_FOUND, "{path}");
    }
}

#[tokio::test]
async fn files_are_listed_by_pages() {
    let house = House::build().await;
    let mut ids = Vec::new();
    for purpose in ["batch", "user_data", "batch"] {
        ids.push(house.bring(purpose, "x").await);
    }
    let list = async |query: &str| {
        let list: Value = house.get(&format!("/v1/files{query}")).await.json();
        let found: Vec<String> =
            list["data"].as_array().expect("files").iter().filter_map(|file| file["id"].as_str().map(str::to_owned)).collect();
        (found, list["has_more"].as_bool(), list["last_id"].as_str().map(str::to_owned))
    };
    assert_eq!(list("").await, (vec![ids[2].clone(), ids[1].clone(), ids[0].clone()], Some(false), Some(ids[0].clone())));
    assert_eq!(list("?limit=1&order=asc").await, (vec![ids[0].clone()], Some(true), Some(ids[0].clone())));
    assert_eq!(list(&format!("?purpose=batch&after={}", ids[2])).await.0, [ids[0].clone()]);
    assert_eq!(refused(&house.get("/v1/files?after=x").await), (400, "after".into()));
    assert_eq!(refused(&house.get("/v1/files?purpose=x").await), (400, "purpose".into()));
    assert_eq!(house.get("/v1/files?order=x").await.status, StatusCode::BAD_REQUEST);
}

#[tokio::test]
async fn what_is_no_file_is_refused_by_name() {
    let app = TestApp::with(|state| {
        state.services = state.services.clone().with_file_limits(FileLimits { file: 10, tenant: 1_000 });
    })
    .await;
    let house = House::of(app).await;
    let (purpose, file) = (("purpose", None, "batch"), ("file", Some("a"), "x"));
    assert_eq!(refused(&house.send_form(&[purpose]).await), (400, "file".into()));
    assert_eq!(refused(&house.send_form(&[file]).await), (400, "purpose".into()));
    assert_eq!(refused(&house.send_form(&[file, file, purpose]).await), (400, "file".into()));
    assert_eq!(refused(&house.send_form(&[("purpose", None, "batch_output"), file]).await), (400, "purpose".into()));
    assert_eq!(refused(&house.send_form(&[purpose, ("file", Some("a"), "")]).await), (400, "file".into()));
    assert_eq!(refused(&house.send_form(&[purpose, ("file", Some("a"), "12345678901")]).await), (400, "file".into()));
    let soon = ("expires_after[seconds]", None, "60");
    assert_eq!(refused(&house.send_form(&[purpose, soon, file]).await), (400, "expires_after".into()));
    assert_eq!(refused(&house.send_form(&[purpose, ("expires_after[seconds]", None, "x"), file]).await).1, "expires_after.seconds");
    assert_eq!(refused(&house.send_form(&[purpose, ("expires_after[anchor]", None, "x"), file]).await).1, "expires_after.anchor");
    assert_eq!(house.post("/v1/files", &json!({ "purpose": "batch" })).await.status, StatusCode::BAD_REQUEST);
    let cut = Request::post("/v1/files")
        .header(header::AUTHORIZATION, format!("Bearer {}", house.key.key.reveal()))
        .header(header::CONTENT_TYPE, format!("multipart/form-data; boundary={BOUNDARY}"))
        .body(Body::from(format!("--{BOUNDARY}\r\nContent-Disposition: form-data; name=\"file\"\r\n\r\nx")))
        .expect("a request");
    assert_eq!(house.app.send(None, cut).await.status, StatusCode::BAD_REQUEST, "a form without its end");
    assert_eq!(house.get("/v1/files").await.json::<Value>()["data"], json!([]), "nothing of it was kept");
}

#[tokio::test]
async fn a_file_is_its_accounts_alone() {
    let house = House::build().await;
    let id = house.bring("batch", "x").await;
    let sibling = make(&house.app, house.tenant, house.account, NewKey::default()).await;
    let new = NewAccount {
        tenant: house.tenant,
        name: "Others".into(),
        purpose: "Something else".into(),
        team: String::new(),
        cost_center: String::new(),
        owner: None,
        models: None,
        class: None,
        expires_at: None,
    };
    let account = house.app.state.identity.create_service_account("test", new).await.expect("an account");
    let colleague = make(&house.app, house.tenant, account, NewKey::default()).await;
    let tenant = house.app.tenant("theirs").await;
    let new = NewAccount {
        tenant,
        name: "Theirs".into(),
        purpose: "Something".into(),
        team: String::new(),
        cost_center: String::new(),
        owner: None,
        models: None,
        class: None,
        expires_at: None,
    };
    let account = house.app.state.identity.create_service_account("test", new).await.expect("an account");
    let stranger = make(&house.app, tenant, account, NewKey::default()).await;
    for other in [&colleague, &stranger] {
        let other = other.key.reveal();
        for (method, path) in [
            (Method::GET, format!("/v1/files/{id}")),
            (Method::GET, format!("/v1/files/{id}/content")),
            (Method::DELETE, format!("/v1/files/{id}")),
        ] {
            assert_eq!(house.call_as(other, method.clone(), &path).await.status, StatusCode::NOT_FOUND, "{method} {path}");
        }
        assert_eq!(house.call_as(other, Method::GET, "/v1/files").await.json::<Value>()["data"], json!([]));
        let batch = json!({ "input_file_id": id, "endpoint": "/v1/chat/completions", "completion_window": "24h" }).to_string();
        assert_eq!(house.send(other, Method::POST, "/v1/batches", Body::from(batch)).await.status, StatusCode::NOT_FOUND);
    }
    assert_eq!(house.call_as(sibling.key.reveal(), Method::GET, &format!("/v1/files/{id}")).await.status, StatusCode::OK);
}

//! Batches, as a client of OpenAI's API sees them: each line is answered as its route would.

use super::{v1::House, v1_quotas};
use crate::app::{Answer, TestApp};
use axum::{
    body::Body,
    http::{Method, StatusCode},
};
use domain::quota::Level;
use gateway::{BatchLines, Gateway};
use serde_json::{Value, json};
use std::{future::Future, sync::Arc, time::Duration};
use testkit::{
    eventually,
    fake_worker::{FAKE_MODEL, Script},
    ledger::ledger,
    quotas::budget,
};
use tokio_util::sync::CancellationToken;
use worker_protocol::Priority;

const CHAT: &str = "/v1/chat/completions";

fn line(custom_id: &str, url: &str, body: &Value) -> String {
    json!({ "custom_id": custom_id, "method": "POST", "url": url, "body": body }).to_string()
}

fn chat(more: &Value) -> Value {
    let mut body = json!({ "model": FAKE_MODEL, "messages": [{ "role": "user", "content": "Hello" }] });
    body.as_object_mut().expect("an object").extend(more.as_object().expect("an object").clone());
    body
}

impl House {
    async fn create_batch(&self, endpoint: &str, lines: &[String]) -> Value {
        let input = self.bring("batch", &lines.join("\n")).await;
        let body = json!({ "input_file_id": input, "endpoint": endpoint, "completion_window": "24h", "metadata": { "for": "tests" } });
        let answer = self.post("/v1/batches", &body).await;
        assert_eq!(answer.status, StatusCode::OK, "{}", answer.text());
        answer.json()
    }

    async fn batch(&self, id: &str) -> Value {
        self.get(&format!("/v1/batches/{id}")).await.json()
    }

    /// The batch at its end.
    async fn over(&self, id: &str) -> Value {
        eventually("the batch is over", 30, || async {
            ["completed", "failed", "expired", "cancelled"].contains(&self.batch(id).await["status"].as_str().expect("a status"))
        })
        .await;
        self.batch(id).await
    }

    /// The lines of a file.
    async fn lines(&self, file: &Value) -> Vec<Value> {
        let content = self.get(&format!("/v1/files/{}/content", file.as_str().expect("a file"))).await;
        assert_eq!(content.status, StatusCode::OK, "{}", content.text());
        content.text().lines().map(|line| serde_json::from_str(line).expect("JSON")).collect()
    }

    /// Something, while batches are worked off.
    async fn beside<T>(&self, what: impl Future<Output = T>) -> T {
        let services = self.app.state.services.clone();
        let lines = BatchLines::new(&Gateway::new(services.clone(), self.app.state.identity.clone()));
        let stop = CancellationToken::new();
        let what = async {
            let result = what.await;
            stop.cancel();
            result
        };
        tokio::join!(services.batches.work(Arc::new(lines), 2, stop.clone()), what).1
    }

    async fn cancel(&self, id: &str) -> Answer {
        self.send(self.key.key.reveal(), Method::POST, &format!("/v1/batches/{id}/cancel"), Body::empty()).await
    }
}

fn id(value: &Value) -> String {
    value["id"].as_str().expect("an id").to_owned()
}

#[tokio::test]
async fn too_many_open_batches_are_refused_by_code() {
    let app = TestApp::with(|state| state.services = state.services.clone().with_open_batches(1)).await;
    let house = House::of(app).await;
    let first = house.create_batch(CHAT, &[line("a", CHAT, &chat(&json!({})))]).await;
    let body = json!({ "input_file_id": first["input_file_id"], "endpoint": CHAT, "completion_window": "24h" });
    let refused = house.post("/v1/batches", &body).await;
    assert_eq!(refused.status, StatusCode::CONFLICT, "{}", refused.text());
    let error = refused.json::<Value>()["error"].clone();
    assert_eq!((&error["code"], &error["type"]), (&json!("too_many_batches"), &json!("invalid_request_error")));
}

#[tokio::test]
async fn lines_are_answered_as_the_route_answers_and_at_low_priority() {
    let house = House::build().await;
    house.app.worker.otherwise(Script::answer("An answer."));
    let lines = [
        line("good", CHAT, &chat(&json!({ "temperature": 0 }))),
        line("hot", CHAT, &chat(&json!({ "temperature": 9 }))),
        line("two", CHAT, &chat(&json!({ "n": 2, "frobnicate": true }))),
    ];
    let created = house.create_batch(CHAT, &lines).await;
    assert!(id(&created).starts_with("batch_"));
    let told = (&created["object"], &created["status"], &created["errors"], &created["completion_window"], &created["metadata"]["for"]);
    assert_eq!(told, (&json!("batch"), &json!("validating"), &Value::Null, &json!("24h"), &json!("tests")));
    assert_eq!(created["expires_at"].as_i64().zip(created["created_at"].as_i64()).map(|(end, begin)| end - begin), Some(24 * 60 * 60));
    let batch = house.beside(house.over(&id(&created))).await;
    assert_eq!(
        (&batch["status"], &batch["request_counts"]),
        (&json!("completed"), &json!({ "total": 3, "completed": 2, "failed": 1 })),
        "{batch}"
    );
    assert!(batch["in_progress_at"].is_i64() && batch["finalizing_at"].is_i64() && batch["completed_at"].is_i64(), "{batch}");
    assert!(batch["failed_at"].is_null() && batch["cancelled_at"].is_null() && batch["expired_at"].is_null(), "{batch}");
    let (answers, failures) = (house.lines(&batch["output_file_id"]).await, house.lines(&batch["error_file_id"]).await);
    assert_eq!((answers.len(), failures.len()), (2, 1));
    let good = &answers[0]["response"];
    assert_eq!((&answers[0]["custom_id"], &good["status_code"], &answers[0]["error"]), (&json!("good"), &json!(200), &Value::Null));
    assert_eq!((&good["body"]["object"], &good["body"]["model"]), (&json!("chat.completion"), &json!(FAKE_MODEL)));
    assert_eq!(good["body"]["choices"][0]["message"]["content"], "An answer.");
    assert_eq!(answers[1]["custom_id"], "two");
    let hot = &failures[0]["response"];
    assert_eq!(
        (&failures[0]["custom_id"], &hot["status_code"], &hot["body"]["error"]["param"]),
        (&json!("hot"), &json!(400), &json!("temperature"))
    );
    let asked = house.app.worker.requests();
    assert!(
        asked.len() == 2 && asked.iter().all(|request| request.priority == Priority::Batch),
        "If you are here because this failed: batches keep people waiting."
    );
    eventually("two uses are settled", 5, || async {
        let rows = ledger(&house.app.db).await;
        rows.len() == 2 && rows.iter().all(|row| row.state == "settled" && row.purpose == "api")
    })
    .await;
    let request = good["request_id"].as_str().expect("an id");
    let charged = format!("SELECT count(*) AS value FROM usage_event WHERE request_id = '{request}'");
    assert_eq!(house.app.db.count_as_owner(&charged).await, 1, "the file says under which number the ledger has it");
    let output: Value = house.get(&format!("/v1/files/{}", batch["output_file_id"].as_str().expect("a file"))).await.json();
    assert_eq!(output["purpose"], "batch_output");
    // Whoever waits is still served first.
    assert_eq!(house.post(CHAT, &chat(&json!({}))).await.status, StatusCode::OK);
    assert_eq!(house.app.worker.requests().last().map(|request| request.priority), Some(Priority::Interactive));
}

#[tokio::test]
async fn every_endpoint_has_its_batches() {
    let house = v1_quotas::house().await;
    let bodies = [
        (CHAT, chat(&json!({})), "chat.completion"),
        ("/v1/completions", json!({ "model": FAKE_MODEL, "prompt": "x" }), "text_completion"),
        ("/v1/embeddings", json!({ "model": "vectors", "input": ["x", "y"] }), "list"),
        ("/v1/responses", json!({ "model": FAKE_MODEL, "input": "x" }), "response"),
    ];
    house
        .beside(async {
            for (endpoint, body, object) in &bodies {
                let created = house.create_batch(endpoint, &[line("a", endpoint, body)]).await;
                let batch = house.over(&id(&created)).await;
                assert_eq!(batch["status"], "completed", "{batch}");
                let answers = house.lines(&batch["output_file_id"]).await;
                assert_eq!(answers[0]["response"]["body"]["object"], *object, "{endpoint}: {}", answers[0]);
            }
        })
        .await;
    let list: Value = house.get("/v1/batches?limit=3").await.json();
    assert_eq!((list["data"].as_array().map(Vec::len), &list["has_more"]), (Some(3), &json!(true)));
    let rest: Value = house.get(&format!("/v1/batches?after={}", list["last_id"].as_str().expect("an id"))).await.json();
    assert_eq!((&rest["data"][0]["endpoint"], &rest["has_more"]), (&json!(CHAT), &json!(false)));
}

#[tokio::test]
async fn a_budget_that_is_used_up_is_told_line_by_line() {
    let house = v1_quotas::house().await;
    budget(&house.app.db, house.tenant, Level::Team, Some("Statistics"), "0", true).await;
    let created = house.create_batch(CHAT, &[line("a", CHAT, &chat(&json!({}))), line("b", CHAT, &chat(&json!({})))]).await;
    let batch = house.beside(house.over(&id(&created))).await;
    assert_eq!(
        (&batch["status"], &batch["request_counts"]["failed"], &batch["output_file_id"]),
        (&json!("completed"), &json!(2), &Value::Null)
    );
    for failure in house.lines(&batch["error_file_id"]).await {
        let response = &failure["response"];
        assert_eq!((&response["status_code"], &response["body"]["error"]["code"]), (&json!(429), &json!("insufficient_quota")));
    }
    assert!(ledger(&house.app.db).await.is_empty());
}

#[tokio::test]
async fn a_batch_that_is_cancelled_frees_the_model() {
    let house = House::build().await;
    house.app.worker.otherwise(Script::answer("One two three.").hangs_after(1));
    let created = house.create_batch(CHAT, &[line("a", CHAT, &chat(&json!({})))]).await;
    let id = id(&created);
    let batch = house
        .beside(async {
            eventually("the line runs", 10, || async { house.app.worker.running() == 1 }).await;
            let cancelling = house.cancel(&id).await;
            assert_eq!((cancelling.status, &cancelling.json::<Value>()["status"]), (StatusCode::OK, &json!("cancelling")));
            tokio::time::timeout(Duration::from_secs(8), house.over(&id)).await.expect("it ends in seconds")
        })
        .await;
    assert_eq!((&batch["status"], &batch["output_file_id"], &batch["error_file_id"]), (&json!("cancelled"), &Value::Null, &Value::Null));
    assert!(batch["cancelling_at"].is_i64() && batch["cancelled_at"].is_i64(), "{batch}");
    eventually("the use is settled and the worker free", 5, || async {
        let rows = ledger(&house.app.db).await;
        house.app.worker.running() == 0 && matches!(rows.as_slice(), [row] if row.state == "settled")
    })
    .await;
    assert_eq!(house.cancel(&id).await.status, StatusCode::CONFLICT);
}

#[tokio::test]
async fn requests_and_lines_that_make_no_sense_are_told() {
    let house = House::build().await;
    let input = house.bring("batch", "{").await;
    let create = async |change: Value| {
        let mut body = json!({ "input_file_id": input, "endpoint": CHAT, "completion_window": "24h" });
        body.as_object_mut().expect("an object").extend(change.as_object().expect("an object").clone());
        let answer = house.post("/v1/batches", &body).await;
        (answer.status.as_u16(), answer.json::<Value>()["error"]["param"].as_str().unwrap_or_default().to_owned())
    };
    assert_eq!(create(json!({ "endpoint": "/v1/rerank" })).await, (400, "endpoint".into()));
    assert_eq!(create(json!({ "completion_window": "1h" })).await, (400, "completion_window".into()));
    assert_eq!(create(json!({ "metadata": { "k": "x".repeat(513) } })).await, (400, "metadata".into()));
    assert_eq!(create(json!({ "input_file_id": "file-x" })).await.0, 404);
    let data = house.bring("user_data", "{}").await;
    assert_eq!(create(json!({ "input_file_id": data })).await, (400, "input_file_id".into()));
    let created: Value =
        house.post("/v1/batches", &json!({ "input_file_id": input, "endpoint": CHAT, "completion_window": "24h" })).await.json();
    let batch = house.beside(house.over(&id(&created))).await;
    assert_eq!((&batch["status"], &batch["errors"]["object"]), (&json!("failed"), &json!("list")));
    let error = &batch["errors"]["data"][0];
    assert_eq!((&error["code"], &error["line"], &error["param"]), (&json!("invalid_json_line"), &json!(1), &Value::Null), "{error}");
    assert!(batch["failed_at"].is_i64());
    for path in ["/v1/batches/x", "/v1/batches/batch_0198c0de000070008000000000000001"] {
        assert_eq!(house.get(path).await.status, StatusCode::NOT_FOUND, "{path}");
    }
}

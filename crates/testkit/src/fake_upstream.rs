//! A server that speaks the OpenAI protocol over a real socket and does what a test says.

use axum::{
    Json, Router,
    body::{Body, Bytes},
    extract::State,
    http::{HeaderMap, StatusCode, header},
    response::{IntoResponse, Response},
    routing::{get, post},
};
use domain::secret::Secret;
use futures::{StreamExt, stream};
use inference::{Clearance, LengthField, Upstream, UpstreamKind, UpstreamModel};
use serde_json::{Value, json};
use std::{
    io,
    net::SocketAddr,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};
use tokio::net::TcpListener;
use tokio_util::{
    sync::{CancellationToken, DropGuard},
    task::TaskTracker,
};

/// What a fake upstream does with the next requests.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mood {
    /// Answers "one two three": 20 prompt tokens, 8 of them cached, 3 completion tokens.
    Answers,
    /// The same after so many milliseconds.
    AnswersLate(u64),
    /// Refuses with this status and an error of this code.
    Refuses(u16, &'static str),
    /// Says "one two " and is cut off by its content filter; it counts as three tokens.
    Filters,
    /// Says "one " and then nothing more.
    FallsSilent,
    /// Says "one " and closes the connection.
    BreaksOff,
    /// Never answers at all.
    Hangs,
}

/// See the module. Dropping it ends its server.
pub struct FakeUpstream {
    addr: SocketAddr,
    inner: Arc<Mutex<Inner>>,
    _stop: DropGuard,
}

struct Inner {
    mood: Mood,
    requests: Vec<Value>,
    keys: Vec<String>,
    polled_with: Vec<String>,
    takes: Option<String>,
}

impl Inner {
    /// Whether the call bears the key that is wanted, and what it bears as `Authorization`.
    fn admits(&self, headers: &HeaderMap) -> (bool, String) {
        let shown = headers.get(header::AUTHORIZATION).map(|key| String::from_utf8_lossy(key.as_bytes()).into_owned());
        let shown = shown.unwrap_or_default();
        (self.takes.as_ref().is_none_or(|wanted| shown == format!("Bearer {wanted}")), shown)
    }
}

impl FakeUpstream {
    /// One that answers.
    pub async fn start() -> Self {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.expect("a free port");
        let addr = listener.local_addr().expect("bound");
        let inner = Arc::new(Mutex::new(Inner {
            mood: Mood::Answers,
            requests: Vec::new(),
            keys: Vec::new(),
            polled_with: Vec::new(),
            takes: None,
        }));
        let routes = Router::new()
            .route("/v1/models", get(models))
            .route("/v1/chat/completions", post(complete))
            .route("/v1/completions", post(complete))
            .route("/v1/embeddings", post(embed))
            .route("/v1/rerank", post(rerank))
            .with_state(inner.clone());
        let stop = CancellationToken::new();
        TaskTracker::new().spawn(stop.clone().run_until_cancelled_owned(axum::serve(listener, routes).into_future()));
        Self { addr, inner, _stop: stop.drop_guard() }
    }

    /// How a pool is told of it: it runs `model` as *their-model*, with little patience.
    #[must_use]
    pub fn config(&self, name: &str, model: &str) -> Upstream {
        upstream_at(format!("http://{}/v1", self.addr), name, model)
    }

    /// What it does from now on.
    pub fn set(&self, mood: Mood) {
        self.inner().mood = mood;
    }

    /// Bodies of the completions asked for, oldest first.
    #[must_use]
    pub fn requests(&self) -> Vec<Value> {
        self.inner().requests.clone()
    }

    /// The `Authorization` headers of those.
    #[must_use]
    pub fn keys(&self) -> Vec<String> {
        self.inner().keys.clone()
    }

    /// The `Authorization` headers of the polls, oldest first.
    #[must_use]
    pub fn polled_with(&self) -> Vec<String> {
        self.inner().polled_with.clone()
    }

    /// Refuses with 401 from now on whoever does not show this key.
    pub fn take_only(&self, key: &str) {
        self.inner().takes = Some(key.to_owned());
    }

    fn inner(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// An upstream at this address that runs `model` as *their-model*, with little patience.
pub(crate) fn upstream_at(base_url: String, name: &str, model: &str) -> Upstream {
    Upstream {
        name: name.into(),
        kind: UpstreamKind::OpenAi,
        base_url,
        key: Some(Secret::new("sk-upstream".to_owned())),
        ca_pem: None,
        order: 1,
        weight: 1,
        slots: 8,
        models: vec![UpstreamModel { id: model.into(), upstream_id: "their-model".into(), context_length: 4096, cost: 0 }],
        clearance: Clearance::own(),
        length: LengthField::MaxTokens,
        structured: None,
        salt_key: None,
        believed: Duration::ZERO,
        connect: Duration::from_secs(1),
        first: Duration::from_millis(500),
        idle: Duration::from_millis(300),
    }
}

async fn models(State(inner): State<Arc<Mutex<Inner>>>, headers: HeaderMap) -> Response {
    let mut inner = inner.lock().unwrap_or_else(PoisonError::into_inner);
    let (admitted, shown) = inner.admits(&headers);
    inner.polled_with.push(shown);
    if !admitted {
        return unknown_key();
    }
    Json(json!({"object": "list", "data": [{"id": "their-model", "object": "model"}]})).into_response()
}

fn unknown_key() -> Response {
    (StatusCode::UNAUTHORIZED, Json(json!({"error": {"message": "as the test wants it", "code": "invalid_api_key"}}))).into_response()
}

/// Vectors of length 2, last input first.
async fn embed(State(inner): State<Arc<Mutex<Inner>>>, Json(body): Json<Value>) -> Json<Value> {
    let count = body["input"].as_array().map_or(0, Vec::len);
    inner.lock().unwrap_or_else(PoisonError::into_inner).requests.push(body);
    let data: Vec<Value> = (0..count).rev().map(|index| json!({"index": index, "embedding": [2.0, 0.0]})).collect();
    Json(json!({"data": data, "usage": {"prompt_tokens": 7, "total_tokens": 7}}))
}

/// Best first, which is the last document.
async fn rerank(State(inner): State<Arc<Mutex<Inner>>>, Json(body): Json<Value>) -> Json<Value> {
    let count = body["documents"].as_array().map_or(0, Vec::len);
    inner.lock().unwrap_or_else(PoisonError::into_inner).requests.push(body);
    let results: Vec<Value> = (0..count).rev().map(|index| json!({"index": index, "relevance_score": index})).collect();
    Json(json!({"results": results, "usage": {"total_tokens": 9}}))
}

async fn complete(State(inner): State<Arc<Mutex<Inner>>>, headers: HeaderMap, Json(body): Json<Value>) -> Response {
    let raw = body.get("prompt").is_some();
    let mood = {
        let mut inner = inner.lock().unwrap_or_else(PoisonError::into_inner);
        inner.requests.push(body);
        let (admitted, shown) = inner.admits(&headers);
        inner.keys.push(shown);
        if !admitted {
            return unknown_key();
        }
        inner.mood
    };
    if let Mood::AnswersLate(ms) = mood {
        tokio::time::sleep(Duration::from_millis(ms)).await;
    }
    let piece = |text: &str, finish: Value| {
        let choice = if raw { json!({"text": text}) } else { json!({"index": 0, "delta": {"content": text}}) };
        let mut piece = json!({"choices": [choice]});
        piece["choices"][0]["finish_reason"] = finish;
        piece
    };
    let usage = json!({"choices": [], "usage": {
        "prompt_tokens": 20, "completion_tokens": 3, "prompt_tokens_details": {"cached_tokens": 8}
    }});
    let event = |value: Value| Ok::<_, io::Error>(Bytes::from(format!("data: {value}\n\n")));
    let first = event(piece("one ", Value::Null));
    let chunks = match mood {
        Mood::Refuses(status, code) => {
            let status = StatusCode::from_u16(status).expect("a status");
            return (status, Json(json!({"error": {"message": "as the test wants it", "code": code}}))).into_response();
        }
        Mood::Hangs => std::future::pending().await,
        Mood::Answers | Mood::AnswersLate(_) | Mood::Filters => {
            let (last, reason) = if mood == Mood::Filters { ("", "content_filter") } else { ("three", "stop") };
            let rest = [event(piece("two ", Value::Null)), event(piece(last, reason.into())), event(usage)];
            let done = Ok(Bytes::from_static(b"data: [DONE]\n\n"));
            stream::iter([first].into_iter().chain(rest).chain([done])).boxed()
        }
        Mood::FallsSilent => stream::iter([first]).chain(stream::pending()).boxed(),
        Mood::BreaksOff => {
            let breaks = stream::once(async {
                // What was written before must have left, as it has when a server dies later.
                tokio::time::sleep(Duration::from_millis(20)).await;
                Err(io::Error::other("as the test wants it"))
            });
            stream::iter([first]).chain(breaks).boxed()
        }
    };
    ([(header::CONTENT_TYPE, "text/event-stream")], Body::from_stream(chunks)).into_response()
}

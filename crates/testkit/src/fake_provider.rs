//! A server that remembers what it was asked, in whatever dialect, and answers with the bytes that a test gives it.

use crate::fake_upstream::upstream_at;
use axum::{
    Router,
    body::Bytes,
    extract::State,
    http::{HeaderMap, Method, StatusCode, Uri, header},
    response::{IntoResponse, Response},
};
use inference::{Upstream, UpstreamKind};
use serde_json::Value;
use std::{
    collections::VecDeque,
    net::SocketAddr,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};
use tokio::net::TcpListener;
use tokio_util::{
    sync::{CancellationToken, DropGuard},
    task::TaskTracker,
};

/// See the module. Dropping it ends its server.
pub struct FakeProvider {
    addr: SocketAddr,
    inner: Arc<Mutex<Inner>>,
    _stop: DropGuard,
}

/// What it was asked.
#[derive(Clone, Debug)]
pub struct Asked {
    /// Path and query.
    pub path: String,
    pub headers: HeaderMap,
    pub body: Value,
}

impl Asked {
    /// A header's text; empty if there is none.
    #[must_use]
    pub fn header(&self, name: &str) -> &str {
        self.headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default()
    }
}

#[derive(Default)]
struct Inner {
    /// Status and body of the next answers, in order; then 500.
    answers: VecDeque<(u16, String)>,
    asked: Vec<Asked>,
    polls: Vec<Asked>,
}

impl FakeProvider {
    /// One that lists *their-model* and has no answers yet.
    pub async fn start() -> Self {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.expect("a free port");
        let addr = listener.local_addr().expect("bound");
        let inner = Arc::new(Mutex::new(Inner::default()));
        let routes = Router::new().fallback(answer).with_state(inner.clone());
        let stop = CancellationToken::new();
        TaskTracker::new().spawn(stop.clone().run_until_cancelled_owned(axum::serve(listener, routes).into_future()));
        Self { addr, inner, _stop: stop.drop_guard() }
    }

    /// How a pool is told of it; `base` is the path that its addresses begin with.
    #[must_use]
    pub fn config(&self, kind: UpstreamKind, base: &str, model: &str) -> Upstream {
        Upstream { kind, ..upstream_at(format!("http://{}{base}", self.addr), "provider", model) }
    }

    /// What the next call is answered with.
    pub fn answers(&self, status: u16, body: &str) {
        self.inner().answers.push_back((status, body.to_owned()));
    }

    /// The same as server-sent events with these data.
    pub fn streams(&self, data: &[&str]) {
        self.answers(200, &data.iter().map(|data| format!("data: {data}\n\n")).collect::<String>());
    }

    /// Calls that were not polls, oldest first.
    #[must_use]
    pub fn asked(&self) -> Vec<Asked> {
        self.inner().asked.clone()
    }

    /// Polls, oldest first.
    #[must_use]
    pub fn polls(&self) -> Vec<Asked> {
        self.inner().polls.clone()
    }

    fn inner(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

async fn answer(State(inner): State<Arc<Mutex<Inner>>>, method: Method, uri: Uri, headers: HeaderMap, body: Bytes) -> Response {
    let mut inner = inner.lock().unwrap_or_else(PoisonError::into_inner);
    let asked = Asked { path: uri.to_string(), headers, body: serde_json::from_slice(&body).unwrap_or_default() };
    if method == Method::GET {
        inner.polls.push(asked);
        return r#"{"data":[{"id":"their-model"}]}"#.into_response();
    }
    inner.asked.push(asked);
    let (status, text) = inner.answers.pop_front().unwrap_or_else(|| (500, "the test has no answer".into()));
    let status = StatusCode::from_u16(status).expect("a status");
    (status, [(header::CONTENT_TYPE, "text/event-stream")], text).into_response()
}

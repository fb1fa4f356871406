//! A worker without a model: speaks `worker-protocol` over a real socket and does what a script says.

mod funnel;
mod play;

pub use crate::script::Script;
pub use funnel::{fake_model, inference, inference_with_journal, quick_pool};

use axum::{
    Json, Router,
    body::Body,
    extract::{Request, State as Shared},
    http::{HeaderMap, StatusCode, header},
    middleware::{self, Next},
    response::{IntoResponse, Response},
    routing::{get, post},
};
use domain::secret::Secret;
use inference::pool::{Backend, WorkerBackend};
use play::Play;
use std::{
    collections::{HashMap, VecDeque},
    net::SocketAddr,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Instant,
};
use tokio::net::TcpListener;
use tokio_util::{
    sync::{CancellationToken, DropGuard},
    task::TaskTracker,
};
use uuid::Uuid;
use worker_protocol::{Cancel, Counted, Device, Embed, EmbedInput, Event, Generate, LoadedModel, PROTOCOL, State, Status, Totals};

/// The model that a fake worker has loaded.
pub const FAKE_MODEL: &str = "fake-model";
/// Context of [`FAKE_MODEL`] in tokens.
pub const FAKE_CONTEXT: u32 = 4096;

/// See the module. Dropping it ends its server.
pub struct FakeWorker {
    addr: SocketAddr,
    token: Secret,
    inner: Arc<Mutex<Inner>>,
    _stop: DropGuard,
}

#[derive(Debug)]
struct Inner {
    /// `None` accepts any.
    token: Option<Secret>,
    state: State,
    stuck_ms: u64,
    /// How often its status was asked for.
    polls: u64,
    model: String,
    /// Of its file.
    version: String,
    /// For the next requests, in order; then `otherwise`.
    scripts: VecDeque<Script>,
    otherwise: Script,
    requests: Vec<Generate>,
    /// `traceparent` of each of them, empty without one.
    traceparents: Vec<String>,
    embedded: Vec<Embed>,
    running: u32,
    /// What can be ended on request.
    answering: HashMap<Uuid, Arc<CancellationToken>>,
    /// When requests were cancelled.
    cancelled: Vec<Instant>,
    totals: Totals,
}

impl FakeWorker {
    /// A ready worker with [`FAKE_MODEL`] that answers "Hello from the fake worker." to everything.
    pub async fn start() -> Self {
        Self::with_model(FAKE_MODEL).await
    }

    /// A ready worker with another model.
    pub async fn with_model(model: &str) -> Self {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.expect("a free port");
        let addr = listener.local_addr().expect("bound");
        let token = Secret::new(Uuid::now_v7().to_string());
        let inner = Arc::new(Mutex::new(Inner {
            token: Some(token.clone()),
            state: State::Ready,
            stuck_ms: 0,
            polls: 0,
            model: model.to_owned(),
            version: "1".into(),
            scripts: VecDeque::new(),
            otherwise: Script::answer("Hello from the fake worker."),
            requests: Vec::new(),
            traceparents: Vec::new(),
            embedded: Vec::new(),
            running: 0,
            answering: HashMap::new(),
            cancelled: Vec::new(),
            totals: Totals::default(),
        }));
        let routes = Router::new()
            .route("/status", get(status))
            .route("/generate", post(generate))
            .route("/embed", post(embed))
            .route("/count", post(count))
            .route("/cancel", post(cancel))
            .layer(middleware::from_fn_with_state(inner.clone(), authorise))
            .with_state(inner.clone());
        let stop = CancellationToken::new();
        let serving = axum::serve(listener, routes).into_future();
        TaskTracker::new().spawn(stop.clone().run_until_cancelled_owned(serving));
        Self { addr, token, inner, _stop: stop.drop_guard() }
    }

    /// For a pool.
    #[must_use]
    pub fn backend(&self) -> Arc<dyn Backend> {
        Arc::new(WorkerBackend::new(&self.addr.to_string(), self.token.clone()).expect("an HTTP client"))
    }

    /// Where it listens, as a worker's `Hello` says it.
    #[must_use]
    pub fn addr(&self) -> SocketAddr {
        self.addr
    }

    /// Serves whoever comes, for a client that was given another worker's token.
    pub fn accept_any_token(&self) {
        self.inner().token = None;
    }

    /// What the request after those already scripted gets.
    pub fn script(&self, script: Script) {
        self.inner().scripts.push_back(script);
    }

    /// What every request without a script of its own gets.
    pub fn otherwise(&self, script: Script) {
        self.inner().otherwise = script;
    }

    /// What `/status` says.
    pub fn set_state(&self, state: State) {
        self.inner().state = state;
    }

    /// By how many milliseconds `/status` says that a step takes too long.
    pub fn set_stuck(&self, stuck_ms: u64) {
        self.inner().stuck_ms = stuck_ms;
    }

    /// How often it was asked for `/status`.
    #[must_use]
    pub fn polls(&self) -> u64 {
        self.inner().polls
    }

    /// Its model is another one under the same name.
    pub fn set_version(&self, version: &str) {
        self.inner().version = version.to_owned();
    }

    /// Everything it was asked, oldest first.
    #[must_use]
    pub fn requests(&self) -> Vec<Generate> {
        self.inner().requests.clone()
    }

    /// The `traceparent` of each, empty for one without.
    #[must_use]
    pub fn traceparents(&self) -> Vec<String> {
        self.inner().traceparents.clone()
    }

    /// Everything of which it was asked for vectors, oldest first.
    #[must_use]
    pub fn embedded(&self) -> Vec<Embed> {
        self.inner().embedded.clone()
    }

    /// Requests that it works on now.
    #[must_use]
    pub fn running(&self) -> u32 {
        self.inner().running
    }

    /// When requests were cancelled: as they were told, or as their stream was closed before the last event.
    #[must_use]
    pub fn cancelled(&self) -> Vec<Instant> {
        self.inner().cancelled.clone()
    }

    /// Its own counters.
    #[must_use]
    pub fn totals(&self) -> Totals {
        self.inner().totals
    }

    /// Counts tokens of completions that it tells nobody of.
    pub fn miscount(&self, completion_tokens: u64) {
        self.inner().totals.completion_tokens += completion_tokens;
    }

    fn inner(&self) -> MutexGuard<'_, Inner> {
        lock(&self.inner)
    }
}

fn lock(inner: &Mutex<Inner>) -> MutexGuard<'_, Inner> {
    inner.lock().unwrap_or_else(PoisonError::into_inner)
}

async fn authorise(Shared(inner): Shared<Arc<Mutex<Inner>>>, request: Request, next: Next) -> Response {
    let expected = lock(&inner).token.as_ref().map(|token| format!("Bearer {}", token.reveal()));
    let sent = request.headers().get(header::AUTHORIZATION);
    if expected.is_none_or(|expected| sent.is_some_and(|sent| sent.as_bytes() == expected.as_bytes())) {
        next.run(request).await
    } else {
        StatusCode::UNAUTHORIZED.into_response()
    }
}

async fn status(Shared(inner): Shared<Arc<Mutex<Inner>>>) -> Json<Status> {
    let mut inner = lock(&inner);
    inner.polls += 1;
    let model = LoadedModel {
        id: inner.model.clone(),
        context_length: FAKE_CONTEXT,
        slots: 4,
        version: inner.version.clone(),
        ..LoadedModel::default()
    };
    Json(Status {
        protocol: PROTOCOL,
        state: inner.state,
        models: if inner.state == State::Loading { Vec::new() } else { vec![model] },
        busy: inner.running,
        queued: 0,
        stuck_ms: inner.stuck_ms,
        totals: inner.totals,
        devices: vec![Device { name: "fake".into(), machine: "fake machine".into(), power_mw: Some(1000), energy_mj: Some(2000) }],
    })
}

async fn generate(Shared(inner): Shared<Arc<Mutex<Inner>>>, headers: HeaderMap, Json(request): Json<Generate>) -> Response {
    let id = request.id;
    let parent = headers.get("traceparent").map(|value| String::from_utf8_lossy(value.as_bytes()).into_owned());
    let script = {
        let mut inner = lock(&inner);
        inner.requests.push(request);
        inner.traceparents.push(parent.unwrap_or_default());
        inner.scripts.pop_front().unwrap_or_else(|| inner.otherwise.clone())
    };
    let play = Play::new(id, script.steps(), script, inner);
    ([(header::CONTENT_TYPE, "application/x-ndjson")], Body::from_stream(play.stream())).into_response()
}

/// Whatever the script says of texts, vectors come as soon as the prompt was reported: for input number `i` of `n`
/// bytes `[i, n]`.
async fn embed(Shared(inner): Shared<Arc<Mutex<Inner>>>, Json(request): Json<Embed>) -> Response {
    let script = {
        let mut inner = lock(&inner);
        inner.embedded.push(request.clone());
        inner.scripts.pop_front().unwrap_or_else(|| inner.otherwise.clone().without_text())
    };
    let mut steps = script.steps();
    if !script.is_refusal() {
        steps.push_back((script.delay, Event::Vectors { first: 0, vectors: vectors_of(&request) }));
    }
    let play = Play::new(request.id, steps, script, inner);
    ([(header::CONTENT_TYPE, "application/x-ndjson")], Body::from_stream(play.stream())).into_response()
}

async fn cancel(Shared(inner): Shared<Arc<Mutex<Inner>>>, Json(Cancel { id }): Json<Cancel>) -> StatusCode {
    if let Some(cancelled) = lock(&inner).answering.get(&id) {
        cancelled.cancel();
    }
    StatusCode::NO_CONTENT
}

/// A prompt has as many tokens as its messages have words, and one for each tool.
async fn count(Json(prompt): Json<Generate>) -> Json<Counted> {
    let words: usize = prompt.messages.iter().map(|message| message.content.split_whitespace().count()).sum();
    Json(Counted::Tokens(u32::try_from(words + prompt.tools.len()).unwrap_or(u32::MAX)))
}

#[expect(clippy::cast_precision_loss, reason = "small numbers")]
fn vectors_of(request: &Embed) -> Vec<Vec<f32>> {
    let bytes = |input: &EmbedInput| match input {
        EmbedInput::Text(text) => text.len(),
        EmbedInput::Tokens(tokens) => tokens.len(),
        EmbedInput::Pair { query, document } => query.len() + document.len(),
    };
    request.inputs.iter().enumerate().map(|(at, input)| vec![at as f32, bytes(input) as f32]).collect()
}

//! A worker without a model: speaks `worker-protocol` over a real socket and does what a script says.

pub use crate::script::Script;
use crate::{TestDb, script::ScriptEnd};
use axum::{
    Json, Router,
    body::{Body, Bytes},
    extract::{Request, State as Shared},
    http::{HeaderMap, StatusCode, header},
    middleware::{self, Next},
    response::{IntoResponse, Response},
    routing::{get, post},
};
use domain::{DataClass, SystemClock, secret::Secret};
use futures::{Stream, stream};
use inference::{
    Catalogue, Inference, ModelConfig, Pool, PoolTiming,
    pool::{Backend, WorkerBackend},
};
use std::{
    collections::{HashMap, VecDeque},
    io,
    net::SocketAddr,
    path::Path,
    pin::Pin,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};
use store::Db;
use tokio::net::TcpListener;
use tokio_util::{
    sync::{CancellationToken, DropGuard},
    task::TaskTracker,
};
use uuid::Uuid;
use worker_protocol::{
    Cancel, Counted, Device, Embed, EmbedInput, Event, FailCode, Generate, LoadedModel, ModelKind, PROTOCOL, State, Status, Timings,
    Totals, Usage,
};

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
    let inner = lock(&inner);
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

/// One request being answered.
struct Play {
    id: Uuid,
    steps: VecDeque<(Duration, Event)>,
    script: Script,
    spent: Usage,
    inner: Arc<Mutex<Inner>>,
    cancelled: Arc<CancellationToken>,
    over: bool,
}

impl Play {
    fn new(id: Uuid, steps: VecDeque<(Duration, Event)>, script: Script, inner: Arc<Mutex<Inner>>) -> Self {
        let cancelled = Arc::new(CancellationToken::new());
        {
            let mut inner = lock(&inner);
            inner.running += 1;
            inner.answering.insert(id, cancelled.clone());
        }
        Self { id, steps, script, spent: Usage::default(), inner, cancelled, over: false }
    }

    fn stream(self) -> Pin<Box<dyn Stream<Item = io::Result<Bytes>> + Send>> {
        Box::pin(stream::unfold(self, |mut play| async move { play.step().await.map(|line| (line, play)) }))
    }

    async fn step(&mut self) -> Option<io::Result<Bytes>> {
        if self.over {
            return None;
        }
        let cancelled = self.cancelled.clone();
        if let Some(line) = cancelled.run_until_cancelled(self.next_line()).await {
            return Some(line);
        }
        self.over = true;
        lock(&self.inner).cancelled.push(Instant::now());
        Some(Ok(line(&Event::Failed { code: FailCode::Cancelled, message: String::new(), usage: self.spent })))
    }

    async fn next_line(&mut self) -> io::Result<Bytes> {
        if let Some((pause, _)) = self.steps.front() {
            tokio::time::sleep(*pause).await;
        }
        if let Some((_, event)) = self.steps.pop_front() {
            match event {
                Event::Started { prompt_tokens, cached_tokens } => self.spent = Usage { prompt_tokens, cached_tokens, ..self.spent },
                Event::Text { completion_tokens, .. }
                | Event::Reasoning { completion_tokens, .. }
                | Event::ToolCall { completion_tokens, .. } => self.spent.completion_tokens = completion_tokens,
                _ => {}
            }
            return Ok(line(&event));
        }
        let usage = self.script.usage();
        match self.script.end {
            ScriptEnd::Done(finish) => {
                self.over = true;
                Ok(line(&Event::Done { finish, usage, timings: Timings::default() }))
            }
            ScriptEnd::Failed(code) => {
                self.over = true;
                Ok(line(&Event::Failed { code, message: "as scripted".into(), usage }))
            }
            ScriptEnd::DropConnection => {
                self.over = true;
                // What was written before must have left, as it has when a process dies later.
                tokio::time::sleep(Duration::from_millis(20)).await;
                Err(io::Error::other("connection dropped as scripted"))
            }
            ScriptEnd::Hang => std::future::pending().await,
        }
    }
}

impl Drop for Play {
    fn drop(&mut self) {
        let mut inner = lock(&self.inner);
        inner.running -= 1;
        // A second try of the same use may have come meanwhile.
        if inner.answering.get(&self.id).is_some_and(|known| Arc::ptr_eq(known, &self.cancelled)) {
            inner.answering.remove(&self.id);
        }
        inner.totals.requests += 1;
        inner.totals.prompt_tokens += u64::from(self.spent.prompt_tokens);
        inner.totals.cached_tokens += u64::from(self.spent.cached_tokens);
        inner.totals.completion_tokens += u64::from(self.spent.completion_tokens);
        if !self.over {
            inner.cancelled.push(Instant::now());
        }
    }
}

fn line(event: &Event) -> Bytes {
    let mut line = serde_json::to_vec(event).expect("events serialise");
    line.push(b'\n');
    line.into()
}

/// [`FAKE_MODEL`] as configuration.
#[must_use]
pub fn fake_model() -> ModelConfig {
    ModelConfig {
        id: FAKE_MODEL.into(),
        name: "Fake model".into(),
        aliases: Vec::new(),
        description: "Says what a test scripted.".into(),
        kind: ModelKind::Chat,
        context_length: FAKE_CONTEXT,
        image_tokens: None,
        fallback: Vec::new(),
        default: true,
        purposes: Vec::new(),
        tenants: None,
        zones: Vec::new(),
        highest_class: DataClass::Restricted,
    }
}

/// A pool with quick polls and little patience, for tests.
#[must_use]
pub fn quick_pool() -> Pool {
    Pool::new(PoolTiming { poll: Duration::from_millis(50), answer: Duration::from_secs(2), wait: Duration::from_secs(3) })
}

/// The funnel over this database and this worker.
#[must_use]
pub fn inference(db: &TestDb, worker: &FakeWorker) -> Inference {
    let pool = quick_pool();
    pool.add("fake worker", worker.backend());
    let catalogue = Catalogue::new(vec![fake_model()]).expect("a valid catalogue");
    Inference::new(db.db.clone(), catalogue, pool, Arc::new(SystemClock))
}

/// The same with journals in a folder.
///
/// # Panics
/// If the folder cannot be written.
#[must_use]
pub fn inference_with_journal(db: Db, worker: &FakeWorker, folder: &Path) -> Inference {
    let pool = quick_pool();
    pool.add("fake worker", worker.backend());
    let catalogue = Catalogue::new(vec![fake_model()]).expect("a valid catalogue");
    Inference::with_journal(db, catalogue, pool, Arc::new(SystemClock), folder).expect("a folder for journals")
}

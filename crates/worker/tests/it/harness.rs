//! A worker in this process, and a client that reads its events.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::LazyLock;
use std::sync::mpsc;
use std::time::{Duration, Instant};

use futures::StreamExt;
use reqwest::{Client, StatusCode};
use tokio::sync::{Mutex, MutexGuard};
use tokio_util::sync::CancellationToken;
use uuid::Uuid;
use worker::{ModelOptions, Options};
use worker_protocol::{
    Cancel, ChatMessage, ChatRole, Counted, Embed, Event, FailCode, Finish, Generate, State, Status, TokenLogprob, ToolCall, Usage,
};

/// Answers sensibly.
pub const CLEVER: &str = "qwen2.5-coder-0.5b-instruct";
/// Four times as fast, for tests that do not look at what it says.
pub const QUICK: &str = "smollm2-135m-instruct";
pub const TOKEN: &str = "the-token-of-the-worker-under-test";
pub const CONTEXT: u32 = 1024;
const PATIENCE: Duration = Duration::from_secs(180);

static CLEVER_WORKER: LazyLock<Worker> = LazyLock::new(|| Worker::start(options("qwen2.5-coder-0.5b-instruct-q4_k_m.gguf", CLEVER)));
static QUICK_WORKER: LazyLock<Worker> = LazyLock::new(|| Worker::start(options("smollm2-135m-instruct-q4_1.gguf", QUICK)));
/// Tests look at slots and counters and compute all the time, so one runs after the other.
static TURN: Mutex<()> = Mutex::const_new(());

/// Options for a model of the cache, with a short context so that tests reach its end.
pub fn options(file: &str, id: &str) -> ModelOptions {
    let mut options = ModelOptions::new(model_file(file), id);
    options.context_length = Some(CONTEXT);
    options.queue_limit = 2;
    // Two threads wait for each other after every operation; beside a compiler that is slower than one.
    options.threads = 1;
    options
}

pub fn model_file(name: &str) -> PathBuf {
    let cache = std::env::var_os("KONTOR_CACHE").map(PathBuf::from);
    let cache = cache.or_else(|| std::env::home_dir().map(|home| home.join(".cache/kontor"))).expect("a home directory");
    let path = cache.join("models").join(name);
    assert!(path.exists(), "{} is missing; `make setup` fetches it", path.display());
    path
}

/// A running worker.
pub struct Worker {
    pub addr: String,
    pub shutdown: CancellationToken,
    ended: std::sync::Mutex<mpsc::Receiver<Result<(), worker::Error>>>,
}

impl Worker {
    /// Starts it on a thread with a runtime of its own, since each test's runtime ends with the test.
    pub fn start(model: ModelOptions) -> Self {
        Self::start_with(Options::new(TOKEN, [model]))
    }

    /// [`Worker::start`] with everything that can be said of a process.
    pub fn start_with(options: Options) -> Self {
        let (report, ended) = mpsc::channel();
        let (announce, hello) = mpsc::channel();
        let shutdown = CancellationToken::new();
        let token = shutdown.clone();
        std::thread::spawn(move || {
            let runtime = tokio::runtime::Runtime::new().expect("a runtime");
            let result = runtime.block_on(worker::run_with(options, token, |hello| {
                assert_eq!(hello.protocol, worker_protocol::PROTOCOL);
                announce.send(hello.addr.clone()).map_err(std::io::Error::other)
            }));
            report.send(result).ok();
        });
        Self { addr: hello.recv().expect("the worker listens"), shutdown, ended: ended.into() }
    }

    pub fn wait_for_end(&self) -> Result<(), worker::Error> {
        self.ended.lock().unwrap().recv_timeout(PATIENCE).expect("the worker ends")
    }
}

/// A shared worker, for one test alone, ready and idle.
pub struct Alone {
    pub client: Pool,
    _turn: MutexGuard<'static, ()>,
}

/// The worker that answers sensibly.
pub async fn clever() -> Alone {
    alone(&CLEVER_WORKER, CLEVER).await
}

/// The fast worker.
pub async fn quick() -> Alone {
    alone(&QUICK_WORKER, QUICK).await
}

/// A worker of this test's own, with options changed from [`options`] of the fast model, ready. The turn is held, so
/// that two engines do not compete for the processors.
pub struct Own {
    pub client: Pool,
    worker: Worker,
    _turn: Alone,
}

impl Own {
    /// Shuts it down and waits for its end.
    pub async fn stop(self) {
        self.worker.shutdown.cancel();
        tokio::task::spawn_blocking(move || self.worker.wait_for_end()).await.unwrap().unwrap();
    }
}

/// See [`Own`].
pub async fn own(change: impl FnOnce(&mut ModelOptions)) -> Own {
    let turn = quick().await;
    let mut options = options("smollm2-135m-instruct-q4_1.gguf", QUICK);
    change(&mut options);
    let worker = Worker::start(options);
    let client = Pool::new(worker.addr.clone(), QUICK);
    client.until(|status| status.state == State::Ready).await;
    Own { client, worker, _turn: turn }
}

async fn alone(worker: &'static LazyLock<Worker>, model: &'static str) -> Alone {
    let turn = TURN.lock().await;
    let addr = tokio::task::spawn_blocking(|| worker.addr.clone()).await.unwrap();
    let client = Pool::new(addr, model);
    client.until(|status| status.state == State::Ready && status.busy == 0 && status.queued == 0).await;
    Alone { client, _turn: turn }
}

/// The client insists on it even where nothing is encrypted.
fn provide_tls() {
    // The first one stays.
    let _ = rustls::crypto::ring::default_provider().install_default();
}

/// A caller like the pool.
#[derive(Clone)]
pub struct Pool {
    http: Client,
    base: String,
    model: &'static str,
}

impl Pool {
    pub fn new(addr: String, model: &'static str) -> Self {
        provide_tls();
        let http = Client::builder().http2_prior_knowledge().no_proxy().build().unwrap();
        Self { http, base: format!("http://{addr}"), model }
    }

    pub fn http1(&self) -> Self {
        Self { http: Client::builder().http1_only().no_proxy().build().unwrap(), base: self.base.clone(), model: self.model }
    }

    pub async fn status(&self) -> Status {
        self.http.get(format!("{}/status", self.base)).bearer_auth(TOKEN).send().await.unwrap().json().await.unwrap()
    }

    /// Polls the status until it is as wished; returns how long that took.
    pub async fn until(&self, wished: impl Fn(&Status) -> bool) -> Duration {
        let began = Instant::now();
        loop {
            let status = self.status().await;
            if wished(&status) {
                return began.elapsed();
            }
            assert!(began.elapsed() < PATIENCE, "still {status:?}");
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }

    pub async fn code_with(&self, authorization: Option<&str>) -> StatusCode {
        let request = self.http.get(format!("{}/status", self.base));
        let request = authorization.into_iter().fold(request, |request, value| request.header("Authorization", value));
        request.send().await.unwrap().status()
    }

    /// Opens a completion; a request that names no model gets this worker's.
    pub async fn open(&self, mut request: Generate) -> Reply {
        if request.model.is_empty() {
            request.model = self.model.into();
        }
        let response = self.http.post(format!("{}/generate", self.base)).bearer_auth(TOKEN).json(&request).send().await.unwrap();
        assert_eq!(response.status(), StatusCode::OK);
        Reply { body: response.bytes_stream().boxed(), buffer: Vec::new() }
    }

    /// Makes vectors or scores; a request that names no model gets this worker's.
    pub async fn embed(&self, mut request: Embed) -> Ended {
        if request.model.is_empty() {
            request.model = self.model.into();
        }
        let response = self.http.post(format!("{}/embed", self.base)).bearer_auth(TOKEN).json(&request).send().await.unwrap();
        assert_eq!(response.status(), StatusCode::OK);
        Reply { body: response.bytes_stream().boxed(), buffer: Vec::new() }.rest().await
    }

    /// Asks how long a prompt is; a request that names no model gets this worker's.
    pub async fn count(&self, mut request: Generate) -> Counted {
        if request.model.is_empty() {
            request.model = self.model.into();
        }
        let call = self.http.post(format!("{}/count", self.base)).bearer_auth(TOKEN).json(&request);
        call.send().await.unwrap().json().await.unwrap()
    }

    /// Asks for the end of a use.
    pub async fn cancel(&self, id: Uuid) {
        let call = self.http.post(format!("{}/cancel", self.base)).bearer_auth(TOKEN).json(&Cancel { id });
        assert_eq!(call.send().await.unwrap().status(), StatusCode::NO_CONTENT);
    }

    /// Makes a completion to its end.
    pub async fn run(&self, request: Generate) -> Ended {
        self.open(request).await.rest().await
    }
}

/// A running answer; dropping it closes the stream.
pub struct Reply {
    body: futures::stream::BoxStream<'static, reqwest::Result<bytes::Bytes>>,
    buffer: Vec<u8>,
}

impl Reply {
    pub async fn next(&mut self) -> Option<Event> {
        loop {
            if let Some(end) = self.buffer.iter().position(|&byte| byte == b'\n') {
                let line: Vec<u8> = self.buffer.drain(..=end).collect();
                return Some(serde_json::from_slice(&line).expect("each line is one event in valid UTF-8"));
            }
            let chunk = tokio::time::timeout(PATIENCE, self.body.next()).await.expect("an event in time")?;
            self.buffer.extend_from_slice(&chunk.unwrap());
        }
    }

    /// Reads on until some text has come.
    pub async fn first_text(&mut self) -> String {
        loop {
            match self.next().await.expect("text before the end") {
                Event::Text { text, .. } => return text,
                Event::Queued { .. } | Event::Started { .. } => {}
                other => panic!("{other:?}"),
            }
        }
    }

    pub async fn rest(mut self) -> Ended {
        let mut ended = Ended::default();
        while let Some(event) = self.next().await {
            assert!(ended.last.is_none(), "{event:?} after the end");
            match &event {
                Event::Text { choice, text, completion_tokens, logprobs } => {
                    assert!(!text.is_empty());
                    ended.logprobs.extend(logprobs.iter().cloned());
                    ended.pieces.push((text.clone(), *completion_tokens));
                    ended.choices.entry(*choice).or_default().push_str(text);
                }
                Event::ToolCall { call, .. } => ended.calls.push(call.clone()),
                Event::Reasoning { .. } => {}
                Event::Vectors { first, vectors } => {
                    assert_eq!(*first as usize, ended.vectors.len(), "in order");
                    ended.vectors.extend(vectors.iter().cloned());
                }
                Event::Ended { choice, finish } => ended.ends.push((*choice, *finish)),
                Event::Started { prompt_tokens, cached_tokens } => ended.started = Some((*prompt_tokens, *cached_tokens)),
                Event::Queued { place, .. } => ended.places.push(*place),
                Event::Done { .. } | Event::Failed { .. } => ended.last = Some(event),
            }
        }
        ended.at = Some(Instant::now());
        ended
    }
}

/// All of an answer.
#[derive(Debug, Default)]
pub struct Ended {
    pub places: Vec<u32>,
    /// Prompt tokens and how many of them were cached.
    pub started: Option<(u32, u32)>,
    pub pieces: Vec<(String, u32)>,
    pub logprobs: Vec<TokenLogprob>,
    /// The text of each of several completions.
    pub choices: BTreeMap<u32, String>,
    /// Completions that ended while others went on.
    pub ends: Vec<(u32, Finish)>,
    pub calls: Vec<ToolCall>,
    pub vectors: Vec<Vec<f32>>,
    pub last: Option<Event>,
    pub at: Option<Instant>,
}

impl Ended {
    pub fn text(&self) -> String {
        self.pieces.iter().map(|(text, _)| text.as_str()).collect()
    }

    pub fn done(&self) -> (Finish, Usage) {
        match &self.last {
            Some(Event::Done { finish, usage, .. }) => (*finish, *usage),
            other => panic!("not done: {other:?}"),
        }
    }

    /// The last counters of an answer whose end was asked for, or that came to its own before.
    pub fn counted(&self) -> Usage {
        match &self.last {
            Some(Event::Failed { code: FailCode::Cancelled, usage, .. } | Event::Done { usage, .. }) => *usage,
            other => panic!("neither cancelled nor done: {other:?}"),
        }
    }

    pub fn failed(&self) -> (FailCode, String) {
        match &self.last {
            Some(Event::Failed { code, message, .. }) => (*code, message.clone()),
            other => panic!("not failed: {other:?}"),
        }
    }
}

/// A question in a partition of its own, answered greedily with at most `max_tokens`.
pub fn ask(question: &str, max_tokens: u32) -> Generate {
    let mut request = Generate {
        id: Uuid::now_v7(),
        model: String::new(),
        partition: Uuid::now_v7().to_string(),
        messages: vec![message(ChatRole::User, question)],
        ..Generate::default()
    };
    request.sampling.temperature = Some(0.0);
    request.sampling.max_tokens = Some(max_tokens);
    request
}

pub fn message(role: ChatRole, content: &str) -> ChatMessage {
    ChatMessage::new(role, content)
}

/// About `tokens` tokens of unremarkable text.
pub fn filler(tokens: usize) -> String {
    "the quick brown fox ".repeat(tokens / 4)
}

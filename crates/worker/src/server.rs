//! The worker's two HTTP calls, for the pool only.

use std::convert::Infallible;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Instant;

use axum::body::Body;
use axum::extract::{DefaultBodyLimit, Request, State};
use axum::http::{HeaderValue, StatusCode, header};
use axum::middleware::{Next, from_fn_with_state};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Json, Router};
use bytes::Bytes;
use futures::StreamExt;
use llama_cpp_2::token::LlamaToken;
use subtle::ConstantTimeEq;
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use tokio_stream::wrappers::UnboundedReceiverStream;
use worker_protocol::{Event, FailCode, Generate, Status, Usage};

use crate::engine::kept::transient;
use crate::engine::queue::flows::Flow;
use crate::engine::{Choice, Engine, Job};
use crate::model::Model;
use crate::options::Options;
use crate::sampling::Params;
use crate::shared::{Admission, Shared};

/// Longest request body in bytes. Far more text than any context holds.
const MAX_BODY: usize = 16 << 20;
const MAX_STOPS: usize = 16;
const MAX_STOP_BYTES: usize = 256;
/// Most alternatives told for a token.
const MAX_LOGPROBS: u8 = 20;

/// What the handlers need.
#[derive(Clone)]
struct Worker {
    shared: Arc<Shared>,
    engine: Engine,
    /// Requests that may be inside: the running and the waiting ones.
    limit: u32,
    /// Guess tokens ahead where a request does not say.
    speculate: bool,
    authorization: Arc<[u8]>,
}

/// Why a request was not taken, as its only event.
struct Refusal(FailCode, String);

/// The router of a worker.
pub fn router(options: &Options, shared: Arc<Shared>, engine: Engine) -> Router {
    let worker = Worker {
        shared,
        engine,
        limit: options.slots.saturating_add(options.queue_limit),
        speculate: options.speculate,
        authorization: format!("Bearer {}", options.token).into_bytes().into(),
    };
    Router::new()
        .route("/status", get(status))
        .route("/generate", post(generate))
        .layer(DefaultBodyLimit::max(MAX_BODY))
        .layer(from_fn_with_state(worker.clone(), authorise))
        .with_state(worker)
}

/// Lets only the holder of the token in, in time that does not depend on what was presented.
async fn authorise(State(worker): State<Worker>, request: Request, next: Next) -> Response {
    let presented = request.headers().get(header::AUTHORIZATION).map_or(&[][..], HeaderValue::as_bytes);
    if presented.ct_eq(&worker.authorization).into() {
        next.run(request).await
    } else {
        (StatusCode::UNAUTHORIZED, [(header::WWW_AUTHENTICATE, "Bearer")]).into_response()
    }
}

async fn status(State(worker): State<Worker>) -> Json<Status> {
    Json(worker.shared.status())
}

async fn generate(State(worker): State<Worker>, Json(request): Json<Generate>) -> Response {
    let (events, receiver) = unbounded_channel();
    let id = request.id;
    if let Err(Refusal(code, message)) = worker.submit(request, events.clone()).await {
        tracing::debug!(%id, ?code, message, "refused");
        // The receiver is here, so this arrives.
        drop(events.send(Event::Failed { code, message, usage: Usage::default() }));
    }
    drop(events);
    lines(receiver)
}

impl Worker {
    /// Checks the request, tokenises its prompt and hands it to the engine.
    async fn submit(&self, request: Generate, events: UnboundedSender<Event>) -> Result<(), Refusal> {
        let arrived = Instant::now();
        if self.shared.draining.load(Relaxed) {
            return Err(Refusal(FailCode::Overloaded, "the worker is shutting down".into()));
        }
        if self.shared.model.get().is_none() {
            return Err(Refusal(FailCode::Overloaded, "the model is still loading".into()));
        }
        let admission = Admission::acquire(&self.shared, self.limit)
            .ok_or_else(|| Refusal(FailCode::Overloaded, format!("{} requests are running or waiting already", self.limit)))?;
        let (shared, speculate) = (self.shared.clone(), self.speculate);
        // A long prompt takes milliseconds; the engine's steps and other connections go on meanwhile.
        let prepare = move || prepare(&shared, speculate, request, events, admission, arrived);
        let job = tokio::task::spawn_blocking(prepare).await.map_err(|error| Refusal(FailCode::Engine, error.to_string()))??;
        self.engine.submit(job).map_err(|_| Refusal(FailCode::Engine, "the engine has ended".into()))
    }
}

fn prepare(
    shared: &Shared,
    speculate: bool,
    request: Generate,
    events: UnboundedSender<Event>,
    admission: Admission,
    arrived: Instant,
) -> Result<Job, Refusal> {
    let invalid = |message: String| Refusal(FailCode::Invalid, message);
    let model = shared.model.get().ok_or_else(|| Refusal(FailCode::Overloaded, "the model is still loading".into()))?;
    if request.model != model.info.id {
        return Err(invalid(format!("this worker runs {:?}, not {:?}", model.info.id, request.model)));
    }
    if request.partition.is_empty() || request.partition.contains('\0') {
        return Err(invalid("partition must not be empty and hold no NUL".into()));
    }
    if request.stop.len() > MAX_STOPS || request.stop.iter().any(|stop| stop.len() > MAX_STOP_BYTES) {
        return Err(invalid(format!("at most {MAX_STOPS} stop texts of {MAX_STOP_BYTES} bytes each")));
    }
    let params = Params::resolve(&request.sampling, &model.defaults, rand::random()).map_err(invalid)?;
    let prompt = model.prompt(&request.messages, request.continue_last).map_err(invalid)?;
    // One token at least must fit behind the prompt.
    let most = usize::try_from(model.info.context_length).unwrap_or(usize::MAX).saturating_sub(1);
    if prompt.is_empty() {
        return Err(invalid("the prompt is empty".into()));
    }
    if prompt.len() > most {
        let message = format!("the prompt has {} tokens, at most {most} fit into this model's context", prompt.len());
        return Err(Refusal(FailCode::ContextLengthExceeded, message));
    }
    let choice = choice(model, &request, speculate).map_err(invalid)?;
    let pinned = usize::try_from(request.pinned_messages).unwrap_or(usize::MAX).min(request.messages.len());
    let pinned = if pinned > 0 { model.beginning(&prompt, &request.messages[..pinned]) } else { 0 };
    let tenant = if request.tenant.is_empty() { request.partition.clone() } else { request.tenant };
    let partition = if request.transient { transient(&request.partition) } else { request.partition };
    Ok(Job {
        id: request.id,
        partition,
        flow: Flow { tenant, priority: request.priority },
        weight: request.weight.max(1),
        prompt,
        pinned,
        params,
        choice,
        stop: request.stop,
        events,
        arrived,
        admission,
    })
}

/// Checks what a request asks of its tokens.
fn choice(model: &Model, request: &Generate, speculate: bool) -> Result<Choice, String> {
    let vocabulary = model.weights.n_vocab();
    if let Some((token, _)) =
        request.logit_bias.iter().find(|(token, bias)| !(0..vocabulary).contains(*token) || !(-100.0..=100.0).contains(*bias))
    {
        return Err(format!("logit_bias of token {token}: tokens are 0 to {}, values -100 to 100", vocabulary - 1));
    }
    if let Some(logprobs) = request.logprobs.filter(|logprobs| *logprobs > MAX_LOGPROBS) {
        return Err(format!("logprobs must be at most {MAX_LOGPROBS}, is {logprobs}"));
    }
    let constraint = request.format.as_ref().map(|format| model.grammars.as_ref().map_err(Clone::clone)?.constraint(format)).transpose()?;
    Ok(Choice {
        bias: request.logit_bias.iter().map(|(token, bias)| (LlamaToken(*token), *bias)).collect(),
        logprobs: request.logprobs.map(usize::from),
        constraint,
        ignore_end: request.ignore_end,
        // A guess changes the last digits of the scores, and a seed is asked for so that nothing changes.
        speculate: request.speculate.unwrap_or(speculate && request.sampling.seed.is_none()),
    })
}

/// The events as lines of JSON. Dropping the body closes the channel, which the engine takes as cancellation.
fn lines(events: UnboundedReceiver<Event>) -> Response {
    let lines = UnboundedReceiverStream::new(events).map(|event| Ok::<_, Infallible>(line(&event)));
    ([(header::CONTENT_TYPE, "application/x-ndjson")], Body::from_stream(lines)).into_response()
}

fn line(event: &Event) -> Bytes {
    let mut line = serde_json::to_vec(event).unwrap_or_else(|error| {
        // Events hold only strings and numbers; should it happen nevertheless, the reader must not wait for ever.
        tracing::error!(%error, "an event cannot be written as JSON");
        br#"{"type":"failed","code":"engine","message":"an event could not be written","usage":{"prompt_tokens":0,"cached_tokens":0,"completion_tokens":0}}"#.to_vec()
    });
    line.push(b'\n');
    line.into()
}

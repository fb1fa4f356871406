//! The worker's HTTP calls, for the pool only.

mod embed;
mod generate;

use std::convert::Infallible;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;

use axum::body::Body;
use axum::extract::{DefaultBodyLimit, Request, State};
use axum::http::{HeaderValue, StatusCode, header};
use axum::middleware::{Next, from_fn_with_state};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Json, Router};
use bytes::Bytes;
use futures::StreamExt;
use subtle::ConstantTimeEq;
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use tokio_stream::wrappers::UnboundedReceiverStream;
use uuid::Uuid;
use worker_protocol::{Embed, Event, FailCode, Generate, Status, Usage};

use crate::choices::Choices;
use crate::engine::Engine;
use crate::model::Model;
use crate::options::Options;
use crate::shared::Shared;

/// Longest request body in bytes. Far more text than any context holds.
const MAX_BODY: usize = 16 << 20;

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
        .route("/embed", post(embed))
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
    let (id, n) = (request.id, request.n);
    worker.answer(id, n, async |events| worker.generate(request, events).await).await
}

async fn embed(State(worker): State<Worker>, Json(request): Json<Embed>) -> Response {
    let id = request.id;
    worker.answer(id, 1, async |events| worker.embed(request, events).await).await
}

impl Worker {
    /// The events of `n` completions or of one other use, which `submit` hands to the engine or refuses.
    async fn answer(&self, id: Uuid, n: u32, submit: impl AsyncFnOnce(UnboundedSender<Event>) -> Result<(), Refusal>) -> Response {
        let (events, receiver) = unbounded_channel();
        if let Err(Refusal(code, message)) = submit(events.clone()).await {
            tracing::debug!(%id, ?code, message, "refused");
            // The receiver is here, so this arrives.
            drop(events.send(Event::Failed { code, message, usage: Usage::default() }));
        }
        drop(events);
        lines(receiver, n)
    }

    /// Takes nothing new while shutting down, and nothing before the model is loaded.
    fn is_open(&self) -> Result<(), Refusal> {
        if self.shared.draining.load(Relaxed) {
            return Err(Refusal(FailCode::Overloaded, "the worker is shutting down".into()));
        }
        if self.shared.model.get().is_none() {
            return Err(Refusal(FailCode::Overloaded, "the model is still loading".into()));
        }
        Ok(())
    }

    fn full(&self) -> Refusal {
        Refusal(FailCode::Overloaded, format!("{} requests are running or waiting already", self.limit))
    }
}

/// The model, if it is the one that is asked for.
fn model<'a>(shared: &'a Shared, wanted: &str) -> Result<&'a Model, Refusal> {
    let model = shared.model.get().ok_or_else(|| Refusal(FailCode::Overloaded, "the model is still loading".into()))?;
    if model.info.id == wanted {
        Ok(model)
    } else {
        Err(Refusal(FailCode::Invalid, format!("this worker runs {:?}, not {wanted:?}", model.info.id)))
    }
}

/// The events as lines of JSON. Dropping the body closes the channel, which the engine takes as cancellation.
fn lines(events: UnboundedReceiver<Event>, n: u32) -> Response {
    let mut choices = (n > 1).then(|| Choices::new(usize::try_from(n).unwrap_or(usize::MAX)));
    let events = UnboundedReceiverStream::new(events).filter_map(move |event| {
        let told = match &mut choices {
            Some(choices) => choices.tell(event),
            None => Some(event),
        };
        std::future::ready(told)
    });
    let lines = events.map(|event| Ok::<_, Infallible>(line(&event)));
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

//! The worker's HTTP calls, for the pool only.

mod count;
mod embed;
mod generate;
mod running;
mod watched;

use std::convert::Infallible;
use std::sync::Arc;

use axum::body::Body;
use axum::extract::{DefaultBodyLimit, Request, State};
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::middleware::{Next, from_fn_with_state};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Json, Router};
use bytes::Bytes;
use futures::{Stream, StreamExt, stream};
use subtle::ConstantTimeEq;
use telemetry::{KeyValue, Kind, Tracer};
use tokio::sync::mpsc::unbounded_channel;
use tokio_stream::wrappers::UnboundedReceiverStream;
use uuid::Uuid;
use worker_protocol::{Cancel, Counted, Embed, Event, FailCode, Generate, Status, Usage};

use crate::bound::DISPLACED;
use crate::choices::Choices;
use crate::engine::Link;
use crate::engine::queue::flows::Flow;
use crate::options::Options;
use crate::residence::{Guest, NoEntry, Residents};
use count::Counts;
use running::Running;
use watched::Watched;

/// Longest request body in bytes. Far more text than any context holds.
const MAX_BODY: usize = 16 << 20;

/// What the handlers need.
#[derive(Clone)]
struct Worker {
    residents: Residents,
    running: Running,
    counts: Counts,
    authorization: Arc<[u8]>,
    tracer: Tracer,
}

/// Why a request was not taken, as its only event.
struct Refusal(FailCode, String);

/// The router of a worker.
pub fn router(options: &Options, residents: Residents) -> Router {
    let authorization = format!("Bearer {}", options.token).into_bytes().into();
    let (running, counts) = (Running::default(), Counts::default());
    let worker = Worker { residents, running, counts, authorization, tracer: options.tracer.clone() };
    Router::new()
        .route("/status", get(status))
        .route("/generate", post(generate))
        .route("/embed", post(embed))
        .route("/count", post(count))
        .route("/cancel", post(cancel))
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
    Json(worker.residents.status())
}

async fn generate(State(worker): State<Worker>, headers: HeaderMap, Json(request): Json<Generate>) -> Response {
    let (id, n) = (request.id, request.n);
    let watched = worker.watch(&headers, "generate", &request.model);
    answer(&worker.running.clone(), id, n, watched, |link| async move { worker.generate(request, link).await })
}

async fn embed(State(worker): State<Worker>, headers: HeaderMap, Json(request): Json<Embed>) -> Response {
    let id = request.id;
    let watched = worker.watch(&headers, "embed", &request.model);
    answer(&worker.running.clone(), id, 1, watched, |link| async move { worker.embed(request, link).await })
}

async fn count(State(worker): State<Worker>, Json(request): Json<Generate>) -> Json<Counted> {
    Json(match worker.count(request).await {
        Ok(tokens) => Counted::Tokens(tokens),
        Err(Refusal(code, message)) => Counted::Refused { code, message },
    })
}

async fn cancel(State(worker): State<Worker>, Json(Cancel { id }): Json<Cancel>) -> StatusCode {
    worker.running.cancel(id);
    StatusCode::NO_CONTENT
}

/// The events of `n` completions or of one other use, which `submit` hands to an engine or refuses. The answer begins
/// at once: there may be a model to wait for.
fn answer<F>(running: &Running, id: Uuid, n: u32, watched: Watched, submit: impl FnOnce(Link) -> F) -> Response
where
    F: Future<Output = Result<(), Refusal>> + Send + 'static,
{
    let (events, receiver) = unbounded_channel();
    let entry = running.enter(id);
    let submitted = submit(Link { events: events.clone(), cancelled: entry.cancelled() });
    // Part of the answer: if nobody waits for it any more, it ends.
    let submitting = stream::once(async move {
        if let Err(Refusal(code, message)) = submitted.await {
            tracing::debug!(%id, ?code, message, "refused");
            // Cancelled completions each tell their end; here none came to be.
            let ends = if code == FailCode::Cancelled { n.max(1) } else { 1 };
            for _ in 0..ends {
                // Fails only if nobody listens any more.
                drop(events.send(Event::Failed { code, message: message.clone(), usage: Usage::default() }));
            }
        }
    });
    let nothing = submitting.filter_map(|()| std::future::ready(None));
    // Known as running until the answer is over.
    let told = stream::select(UnboundedReceiverStream::new(receiver), nothing).map(move |event| {
        let _ = &entry;
        event
    });
    lines(told, n, watched)
}

impl Worker {
    /// The span of an answer that begins.
    fn watch(&self, headers: &HeaderMap, what: &'static str, model: &str) -> Watched {
        let span = self.tracer.join(headers, Kind::Server, || format!("{what} {model}"));
        span.set(|| [KeyValue::new("gen_ai.request.model", model.to_owned())]);
        Watched::new(span)
    }

    /// Waits for the model in the flow's name; tells so if it takes time.
    async fn enter(&self, model: &str, flow: &Flow, count: u32, link: &Link) -> Result<Guest, Refusal> {
        let waits = |place| link.send(Event::Queued { place, wait_ms: None });
        let entering = self.residents.enter(model, flow, count, waits);
        let Some(entered) = link.cancelled.run_until_cancelled(entering).await else {
            return Err(Refusal(FailCode::Cancelled, String::new()));
        };
        entered.map_err(|refused| match refused {
            NoEntry::Unknown => Refusal(FailCode::Invalid, format!("this worker has no model {model:?}")),
            NoEntry::Full(limit) => Refusal(FailCode::Overloaded, format!("{limit} requests are running or waiting already")),
            NoEntry::Displaced => Refusal(FailCode::Overloaded, DISPLACED.into()),
            NoEntry::Unavailable(why) => Refusal(FailCode::Overloaded, why),
        })
    }
}

/// The engine has ended between the way in and the first step.
fn gone() -> Refusal {
    Refusal(FailCode::Engine, "the engine has ended".into())
}

/// The events as lines of JSON. Dropping the body closes the channel, which the engine takes as cancellation.
fn lines(events: impl Stream<Item = Event> + Send + 'static, n: u32, mut watched: Watched) -> Response {
    let mut choices = (n > 1).then(|| Choices::new(usize::try_from(n).unwrap_or(usize::MAX)));
    let events = events.filter_map(move |event| {
        let told = match &mut choices {
            Some(choices) => choices.tell(event),
            None => Some(event),
        };
        std::future::ready(told)
    });
    let lines = events.inspect(move |event| watched.see(event)).map(|event| Ok::<_, Infallible>(line(&event)));
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

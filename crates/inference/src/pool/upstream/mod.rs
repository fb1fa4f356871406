//! A server that speaks the OpenAI protocol (vLLM, SGLang, llama-server, a provider) as a backend.
//!
//! [`wire`] turns requests and answers over. What a worker counts exactly, an upstream tells only at the end of an
//! answer; until then its figures are estimates, which settle an answer that is cut short.

mod answer;
mod vectors;
mod wire;

use super::{
    backend::{Backend, BackendError, EventStream},
    http::{self, lost},
};
use crate::{meter::Ticket, work::Work};
use async_trait::async_trait;
use contract::chain;
use domain::secret::Secret;
use futures::{StreamExt, stream};
use reqwest::{Certificate, Client, RequestBuilder, Response, StatusCode};
use serde::Deserialize;
use serde_json::Value;
use std::{convert::identity, time::Duration};
use tokio::time::timeout;
use worker_protocol::{Counted, Event, FailCode, Generate, LoadedModel, PROTOCOL, State, Status, Totals, Usage};

/// Longest error answer that is looked at, in bytes.
const LONGEST_ERROR: usize = 64 * 1024;

/// Where an upstream is and what it has.
#[derive(Clone, Debug)]
pub struct Upstream {
    /// For logs and `/readyz`.
    pub name: String,
    /// Up to and including the version, e.g. `https://llm.example.org/v1`.
    pub base_url: String,
    /// Sent as `Authorization: Bearer …`; `None` sends none.
    pub key: Option<Secret>,
    /// Certificate authorities to trust beside the system's, as PEM.
    pub ca_pem: Option<Vec<u8>>,
    /// Asked only if no member of a lower order can be; workers have 0.
    pub order: u32,
    /// Requests that it runs at the same time.
    pub slots: u32,
    pub models: Vec<UpstreamModel>,
    /// For a connection to be made.
    pub connect: Duration,
    /// For the first piece of an answer.
    pub first: Duration,
    /// Between two pieces of an answer.
    pub idle: Duration,
}

/// A model of an upstream.
#[derive(Clone, Debug)]
pub struct UpstreamModel {
    /// Our name.
    pub id: String,
    /// Its name there.
    pub upstream_id: String,
    /// Tokens of context.
    pub context_length: u32,
}

/// See the module.
#[derive(Debug)]
pub(super) struct UpstreamBackend {
    client: Client,
    config: Upstream,
}

impl UpstreamBackend {
    /// # Errors
    /// [`BackendError::Protocol`] if no HTTP client can be made, for example for an unreadable certificate.
    pub(super) fn new(config: Upstream) -> Result<Self, BackendError> {
        let wrong = |error: reqwest::Error| BackendError::Protocol(chain(&error));
        let mut client = http::builder(config.connect);
        if let Some(pem) = &config.ca_pem {
            client = client.tls_certs_merge(Certificate::from_pem_bundle(pem).map_err(wrong)?);
        }
        Ok(Self { client: client.build().map_err(wrong)?, config })
    }

    fn model(&self, id: &str) -> Option<&UpstreamModel> {
        self.config.models.iter().find(|model| model.id == id)
    }

    fn call(&self, call: RequestBuilder) -> RequestBuilder {
        match &self.config.key {
            Some(key) => call.bearer_auth(key.reveal()),
            None => call,
        }
    }
}

#[derive(Deserialize)]
struct ModelList {
    data: Vec<ListedModel>,
}

#[derive(Deserialize)]
struct ListedModel {
    id: String,
}

#[async_trait]
impl Backend for UpstreamBackend {
    async fn status(&self) -> Result<Status, BackendError> {
        let response = self.call(self.client.get(format!("{}/models", self.config.base_url))).send().await.map_err(lost)?;
        if !response.status().is_success() {
            return Err(BackendError::Refused(response.status().as_u16()));
        }
        let body = response.bytes().await.map_err(lost)?;
        let listed: ModelList = serde_json::from_slice(&body).map_err(|error| BackendError::Protocol(error.to_string()))?;
        let has = |model: &&UpstreamModel| listed.data.iter().any(|listed| listed.id == model.upstream_id);
        let models = self.config.models.iter().filter(has).map(|model| LoadedModel {
            id: model.id.clone(),
            context_length: model.context_length,
            slots: self.config.slots,
            // All that can be known of it here.
            version: model.upstream_id.clone(),
            ..LoadedModel::default()
        });
        let models: Vec<LoadedModel> = models.collect();
        let state = if models.is_empty() { State::Loading } else { State::Ready };
        Ok(Status { protocol: PROTOCOL, state, models, busy: 0, queued: 0, totals: Totals::default(), devices: Vec::new() })
    }

    async fn start(&self, ticket: &Ticket, work: &Work) -> Result<EventStream, BackendError> {
        let Some(model) = self.model(work.model()) else {
            return Err(BackendError::Protocol(format!("{} is not a model of {}", work.model(), self.config.name)));
        };
        tracing::debug!(usage = %ticket.id(), upstream = self.config.name, "dispatch");
        match work {
            Work::Completion(request) => match wire::body(request, &model.upstream_id) {
                Ok(body) => {
                    let answered = self.post(wire::call(request), &body).await?;
                    Ok(answered.map_or_else(identity, |answer| answer::events(answer, wire::estimate(request), &self.config)))
                }
                Err(message) => Ok(failed(FailCode::Invalid, message)),
            },
            Work::Vectors(request) => {
                let (call, body) = vectors::body(request, &model.upstream_id);
                match self.post(call, &body).await? {
                    Ok(answer) => vectors::events(answer, request, self.config.first).await,
                    Err(refused) => Ok(refused),
                }
            }
        }
    }

    /// An estimate: the protocol has no call for it.
    async fn count(&self, prompt: &Generate) -> Result<Counted, BackendError> {
        Ok(Counted::Tokens(wire::estimate(prompt)))
    }
}

impl UpstreamBackend {
    /// Makes a call; the inner error is a refusal of the request, as its events.
    async fn post(&self, call: &str, body: &Value) -> Result<Result<Response, EventStream>, BackendError> {
        let call = self.call(self.client.post(format!("{}/{call}", self.config.base_url))).json(body).send();
        let response = match timeout(self.config.first, call).await {
            Ok(response) => response.map_err(lost)?,
            Err(_) => return Err(BackendError::Failing(format!("no answer within {:?}", self.config.first))),
        };
        match response.status() {
            status if status.is_success() => Ok(Ok(response)),
            status => self.refusal(status, response).await.map(Err),
        }
    }
}

impl UpstreamBackend {
    /// What an error answer means.
    async fn refusal(&self, status: StatusCode, response: Response) -> Result<EventStream, BackendError> {
        // An answer that breaks off tells as much as an empty one.
        let text = timeout(self.config.idle, response.bytes()).await.ok().and_then(Result::ok).unwrap_or_default();
        let text = String::from_utf8_lossy(text.get(..LONGEST_ERROR).unwrap_or(&text)).into_owned();
        tracing::warn!(upstream = self.config.name, %status, "an upstream refused a request");
        tracing::debug!(upstream = self.config.name, text, "its words");
        match status.as_u16() {
            429 | 503 | 529 => Ok(failed(FailCode::Overloaded, "the upstream has no room".into())),
            408 | 500..=599 => Err(BackendError::Failing(format!("HTTP status {status}"))),
            400 | 413 | 422 if wire::is_too_long(&text) => Ok(failed(FailCode::ContextLengthExceeded, "the prompt is too long".into())),
            400 | 413 | 422 => Ok(failed(FailCode::Invalid, "The server that runs the model refused the request.".into())),
            other => Err(BackendError::Refused(other)),
        }
    }
}

fn failed(code: FailCode, message: String) -> EventStream {
    stream::once(async move { Ok(Event::Failed { code, message, usage: Usage::default() }) }).boxed()
}

//! A server that somebody else runs (vLLM, SGLang, TGI, llama-server, a provider) as a backend.
//!
//! What such servers have in common is here; what tells their kinds apart is a [`dialect`]. What a worker counts exactly,
//! an upstream tells only at the end of an answer; until then its figures are estimates, which settle an answer that is
//! cut short.

mod answer;
mod anthropic;
mod azure;
mod calls;
mod content;
mod dialect;
mod errors;
mod form;
mod openai;
mod salt;
mod splitter;
mod sse;
mod tools;
mod vectors;
mod wire;

pub use dialect::UpstreamKind;

use super::{
    backend::{Backend, BackendError, EventStream},
    credential::{Credential, Shown},
    http::{self, lost},
};
use crate::{clearance::Clearance, meter::Ticket, work::Work};
use async_trait::async_trait;
use calls::{Addresses, Signed};
use contract::chain;
use dialect::{Call, Dialect};
use domain::secret::Secret;
use errors::Refusal;
use futures::{StreamExt, stream};
use reqwest::{
    Certificate, Client, Response, StatusCode, Url,
    header::{CONTENT_TYPE, HeaderMap, HeaderValue},
};
use serde::{Deserialize, de::DeserializeOwned};
use std::{
    fmt,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};
use telemetry::Trace;
use tokio::time::{Instant, timeout};
use wire::Words;
use worker_protocol::{Counted, Generate, LoadedModel, PROTOCOL, State, Status, Totals, Usage};

/// Longest error answer that is looked at, in bytes.
const LONGEST_ERROR: usize = 64 * 1024;
/// Longest list of models, and longest answer to a count.
const LONGEST_LIST: usize = 4 * 1024 * 1024;

/// Where an upstream is and what it has.
#[derive(Clone)]
pub struct Upstream {
    /// For logs and metrics, and for `/readyz` where no model answers.
    pub name: String,
    pub kind: UpstreamKind,
    /// Up to and including the version, e.g. `https://llm.example.org/v1`; of Azure without a path.
    pub base_url: String,
    /// Sent in the header that the kind wants, unless [`Pool::show_credential`](super::Pool::show_credential) says otherwise;
    /// `None` sends none.
    pub key: Option<Secret>,
    /// Certificate authorities to trust beside the system's, as PEM.
    pub ca_pem: Option<Vec<u8>>,
    /// Asked only if no member of a lower order can be; workers have 0.
    pub order: u32,
    /// Its share beside members of the same order, if theirs is another one; workers have 1.
    pub weight: u32,
    /// Requests that it runs at the same time.
    pub slots: u32,
    pub models: Vec<UpstreamModel>,
    /// What it may see.
    pub clearance: Clearance,
    /// Where the length of an answer is bounded, in OpenAI's words.
    pub length: LengthField,
    /// How it is told of regular expressions and grammars, in vLLM's words; `None`: they are refused.
    pub structured: Option<StructuredField>,
    /// The key with which each tenant gets a `cache_salt` of its own, as vLLM takes it; `None` sends none.
    pub salt_key: Option<Secret>,
    /// A good answer to a poll is believed for so long, unless a request is lost: providers count polls, too.
    pub believed: Duration,
    /// For a connection to be made.
    pub connect: Duration,
    /// For the first piece of an answer.
    pub first: Duration,
    /// Between two pieces of an answer.
    pub idle: Duration,
}

impl fmt::Debug for Upstream {
    /// Without the address, which may hold a secret.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { name, kind, order, weight, slots, models, .. } = self;
        let mut shown = f.debug_struct("Upstream");
        shown.field("name", name).field("kind", kind).field("order", order).field("weight", weight);
        shown.field("slots", slots).field("models", models).finish_non_exhaustive()
    }
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
    /// What it costs there compared with other members; for the choice alone.
    pub cost: u64,
}

/// The name of the field that bounds an answer. OpenAI's newer models refuse the older name, most other servers do not
/// know the newer one.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum LengthField {
    #[default]
    MaxTokens,
    MaxCompletionTokens,
}

/// The fields that tell vLLM of regular expressions and grammars.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum StructuredField {
    /// `structured_outputs`, of newer releases.
    StructuredOutputs,
    /// `guided_regex` and `guided_grammar`, of older ones.
    Guided,
}

/// See the module.
#[derive(Debug)]
pub(super) struct UpstreamBackend {
    client: Client,
    dialect: Box<dyn Dialect>,
    config: Upstream,
    addresses: Addresses,
    signed: Signed,
    shown: Shown,
    polled: Arc<Polled>,
}

/// The last good answer to a poll, as long as it is believed. What was answered to another key says nothing about the one of
/// now.
#[derive(Debug, Default)]
struct Polled(Mutex<Option<(Instant, Arc<Credential>, Status)>>);

impl Polled {
    fn keep(&self, asked_with: Arc<Credential>, status: Status) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some((Instant::now(), asked_with, status));
    }

    fn recent(&self, shown: &Arc<Credential>, believed: Duration) -> Option<Status> {
        let kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let recent = kept.as_ref().filter(|(at, asked_with, _)| Arc::ptr_eq(asked_with, shown) && at.elapsed() < believed);
        recent.map(|(.., status)| status.clone())
    }

    fn forget(&self) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = None;
    }
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
        let words = Words { length: config.length, structured: config.structured, salt_key: config.salt_key.clone() };
        let dialect = config.kind.dialect(words);
        let client = client.build().map_err(wrong)?;
        Ok(Self {
            client,
            dialect,
            config,
            addresses: Addresses::default(),
            signed: Signed::default(),
            shown: Shown::default(),
            polled: Arc::default(),
        })
    }

    fn model(&self, id: &str) -> Option<&UpstreamModel> {
        self.config.models.iter().find(|model| model.id == id)
    }

    fn model_of(&self, id: &str) -> Result<&UpstreamModel, BackendError> {
        self.model(id).ok_or_else(|| BackendError::Protocol(format!("{id} is not a model of {}", self.config.name)))
    }

    fn url(&self, path: &str) -> Result<Url, BackendError> {
        self.addresses.of(&self.config.base_url, path)
    }

    /// What every call carries that is made with this key.
    fn signed(&self, key: Option<&Secret>) -> Result<HeaderMap, BackendError> {
        self.signed.with(key, |key| self.dialect.headers(key))
    }

    /// See [`Pool::show_credential`](super::Pool::show_credential).
    pub(super) fn show(&self, credential: &Credential) -> bool {
        let other = self.shown.set(credential);
        if other {
            self.polled.forget();
            self.signed.forget();
        }
        other
    }

    /// The key to ask with.
    ///
    /// # Errors
    /// [`BackendError::Failing`] if there is one that cannot be used.
    fn key<'a>(&'a self, shown: &'a Credential) -> Result<Option<&'a Secret>, BackendError> {
        match shown {
            Credential::Configured => Ok(self.config.key.as_ref()),
            Credential::Key(key) => Ok(Some(key)),
            Credential::Unusable(why) => Err(BackendError::Failing(why.clone())),
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

#[derive(Deserialize)]
struct CountAnswer {
    input_tokens: u32,
}

#[async_trait]
impl Backend for UpstreamBackend {
    async fn status(&self) -> Result<Status, BackendError> {
        let shown = self.shown.now();
        let key = self.key(&shown)?;
        if let Some(status) = self.polled.recent(&shown, self.config.believed) {
            return Ok(status);
        }
        let signed = self.signed(key)?;
        let response = self.client.get(self.url(&self.dialect.list())?).headers(signed).send().await.map_err(lost)?;
        if !response.status().is_success() {
            return Err(BackendError::Refused(response.status().as_u16()));
        }
        let listed: ModelList = decode(response, LONGEST_LIST, self.config.first).await?;
        let all = !self.dialect.lists_all();
        let has = |model: &&UpstreamModel| all || listed.data.iter().any(|listed| listed.id == model.upstream_id);
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
        let status =
            Status { protocol: PROTOCOL, state, models, busy: 0, queued: 0, stuck_ms: 0, totals: Totals::default(), devices: Vec::new() };
        self.polled.keep(shown, status.clone());
        Ok(status)
    }

    async fn start(&self, ticket: &Ticket, work: &Work) -> Result<EventStream, BackendError> {
        let model = self.model_of(work.model())?;
        tracing::debug!(usage = %ticket.id(), upstream = self.config.name, "dispatch");
        let call = match work {
            Work::Completion(request) => self.dialect.completion(request, &model.upstream_id),
            Work::Vectors(request) => self.dialect.vectors(request, &model.upstream_id),
        };
        let call = call.map_err(BackendError::Unfit)?;
        let events = match (self.post(&call).await?, work) {
            (Err(refusal), _) => stream::once(async move { Ok(refusal.event(Usage::default())) }).boxed(),
            (Ok(answer), Work::Completion(request)) => {
                sse::events(answer, self.dialect.reader(request), self.config.first, self.config.idle)
            }
            (Ok(answer), Work::Vectors(request)) => vectors::events(answer, request, self.config.first).await?,
        };
        let polled = self.polled.clone();
        let seen = move |event: &Result<_, BackendError>| {
            if event.is_err() {
                polled.forget();
            }
        };
        Ok(events.inspect(seen).boxed())
    }

    fn address(&self) -> &str {
        &self.config.base_url
    }

    /// An estimate, where the dialect or the server has no call for it.
    async fn count(&self, prompt: &Generate) -> Result<Counted, BackendError> {
        let model = self.model_of(&prompt.model)?;
        let refused = |Refusal { code, message }| Ok(Counted::Refused { code, message });
        match self.dialect.count(prompt, &model.upstream_id) {
            None => Ok(Counted::Tokens(wire::estimate(prompt))),
            Some(Err(message)) => Err(BackendError::Unfit(message)),
            Some(Ok(call)) => match self.post(&call).await {
                Ok(Ok(answer)) => Ok(Counted::Tokens(decode::<CountAnswer>(answer, LONGEST_LIST, self.config.first).await?.input_tokens)),
                Ok(Err(refusal)) => refused(refusal),
                // Not every server that speaks the dialect has this call.
                Err(BackendError::Refused(_)) => Ok(Counted::Tokens(wire::estimate(prompt))),
                Err(error) => Err(error),
            },
        }
    }
}

impl UpstreamBackend {
    /// Makes a call; the inner error is a refusal of the request.
    async fn post(&self, call: &Call) -> Result<Result<Response, Refusal>, BackendError> {
        let shown = self.shown.now();
        let mut headers = self.signed(self.key(&shown)?)?;
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        headers.extend(Trace::here().headers_for_upstream());
        let sent = self.client.post(self.url(&call.path)?).headers(headers).body(call.body.clone()).send();
        let response = match timeout(self.config.first, sent).await {
            Ok(Ok(response)) => response,
            Ok(Err(error)) => {
                self.polled.forget();
                return Err(lost(error));
            }
            Err(_) => return Err(BackendError::Failing(format!("no answer within {:?}", self.config.first))),
        };
        match response.status() {
            status if status.is_success() => Ok(Ok(response)),
            status => self.refusal(status, response).await.map(Err),
        }
    }

    /// What an error answer means.
    async fn refusal(&self, status: StatusCode, response: Response) -> Result<Refusal, BackendError> {
        // An answer that breaks off tells as much as an empty one.
        let text = http::read_at_most(response, LONGEST_ERROR, self.config.idle).await.unwrap_or_default();
        let text = String::from_utf8_lossy(&text).into_owned();
        tracing::warn!(upstream = self.config.name, %status, "an upstream refused a request");
        tracing::debug!(upstream = self.config.name, text, "its words");
        errors::meaning(status.as_u16(), &text)
    }
}

/// An answer of less than `most` bytes.
async fn decode<T: DeserializeOwned>(response: Response, most: usize, patience: Duration) -> Result<T, BackendError> {
    let body = http::read_at_most(response, most, patience).await?;
    if body.len() >= most {
        return Err(BackendError::Protocol(format!("an answer has {most} bytes or more")));
    }
    serde_json::from_slice(&body).map_err(|error| BackendError::Protocol(error.to_string()))
}

#[cfg(test)]
mod tests {
    use super::{Arc, Credential, Duration, PROTOCOL, Polled, State, Status, Totals};
    use domain::secret::Secret;

    #[test]
    fn what_was_answered_to_another_key_is_not_believed() {
        let (polled, believed) = (Polled::default(), Duration::from_secs(600));
        let [old, new] = ["sk-old", "sk-new"].map(|key| Arc::new(Credential::Key(Secret::new(key))));
        let (models, devices) = (Vec::new(), Vec::new());
        let status =
            Status { protocol: PROTOCOL, state: State::Ready, models, busy: 0, queued: 0, stuck_ms: 0, totals: Totals::default(), devices };
        // As a poll does that began before the key was changed and ends after that.
        polled.keep(old.clone(), status);
        assert!(polled.recent(&new, believed).is_none());
        assert!(polled.recent(&old, believed).is_some() && polled.recent(&old, Duration::ZERO).is_none());
    }
}

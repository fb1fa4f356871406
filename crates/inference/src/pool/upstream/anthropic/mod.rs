//! Anthropic's Messages API.
//!
//! Source: the API reference of version `2023-06-01` (messages, streaming, errors, token counting). What it does not have
//! is refused by name rather than left out. No cache breakpoints are set: the provider's prompt cache belongs to the key,
//! so it would tell one tenant what another one asked; what it reuses by itself is counted as cached.

mod answer;
mod events;
mod messages;
mod wire;

use super::{
    super::backend::BackendError,
    calls::secret,
    dialect::{Call, Dialect},
    sse::Reader,
    wire::estimate,
};
use answer::Answer;
use domain::secret::Secret;
use reqwest::header::{HeaderMap, HeaderValue};
use worker_protocol::{Embed, Generate};

/// What every call names; the API's only version so far.
const VERSION: &str = "2023-06-01";

/// See the module.
#[derive(Debug)]
pub(super) struct Anthropic {
    pub longest_answer: u32,
}

impl Dialect for Anthropic {
    fn list(&self) -> String {
        "models?limit=1".into()
    }

    /// Aliases of models are not in the list.
    fn lists_all(&self) -> bool {
        false
    }

    fn headers(&self, key: Option<&Secret>) -> Result<HeaderMap, BackendError> {
        let mut headers = HeaderMap::new();
        headers.insert("anthropic-version", HeaderValue::from_static(VERSION));
        if let Some(key) = key {
            headers.insert("x-api-key", secret(key.reveal())?);
        }
        Ok(headers)
    }

    fn completion(&self, request: &Generate, model: &str) -> Result<Call, String> {
        Call::new("messages", &wire::body(request, model, self.longest_answer)?)
    }

    fn vectors(&self, _request: &Embed, _model: &str) -> Result<Call, String> {
        Err("model: its server makes neither vectors nor scores".into())
    }

    fn count(&self, prompt: &Generate, model: &str) -> Option<Result<Call, String>> {
        Some(wire::prompt(prompt, model).and_then(|prompt| Call::new("messages/count_tokens", &prompt)))
    }

    fn reader(&self, request: &Generate) -> Box<dyn Reader> {
        Box::new(Answer::new(estimate(request), request.format.is_some()))
    }
}

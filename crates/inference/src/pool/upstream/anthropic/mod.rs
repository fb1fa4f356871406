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
    dialect::{Call, Dialect, with_key},
    sse::Reader,
    wire::estimate,
};
use answer::Answer;
use domain::secret::Secret;
use reqwest::RequestBuilder;
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

    fn sign(&self, call: RequestBuilder, key: Option<&Secret>) -> RequestBuilder {
        let call = call.header("anthropic-version", VERSION);
        match key {
            Some(key) => with_key(call, "x-api-key", key),
            None => call,
        }
    }

    fn completion(&self, request: &Generate, model: &str) -> Result<Call, String> {
        Ok(Call { path: "messages".into(), body: wire::body(request, model, self.longest_answer)? })
    }

    fn vectors(&self, _request: &Embed, _model: &str) -> Result<Call, String> {
        Err("model: its server makes neither vectors nor scores".into())
    }

    fn count(&self, prompt: &Generate, model: &str) -> Option<Result<Call, String>> {
        Some(wire::prompt(prompt, model).map(|prompt| Call { path: "messages/count_tokens".into(), body: prompt.into() }))
    }

    fn reader(&self, request: &Generate) -> Box<dyn Reader> {
        Box::new(Answer::new(estimate(request), request.format.is_some()))
    }
}

//! What tells servers of one kind from those of another: words, addresses, credentials. One file for each kind.

use super::{super::backend::BackendError, anthropic::Anthropic, azure::Azure, openai::OpenAi, sse::Reader, wire::Words};
use bytes::Bytes;
use domain::secret::Secret;
use reqwest::header::HeaderMap;
use serde::Serialize;
use std::{borrow::Cow, fmt::Debug};
use worker_protocol::{Embed, Generate};

/// The kinds of servers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum UpstreamKind {
    /// OpenAI's API: vLLM, SGLang, TGI, llama-server, most providers.
    OpenAi,
    /// Azure OpenAI's: a model's name there is its deployment.
    Azure {
        /// Such as `2024-10-21`.
        api_version: String,
    },
    /// Anthropic's Messages API.
    Anthropic {
        /// Tokens of an answer whose length nobody bounded, and the most that is ever asked for: the API demands a number,
        /// and refuses one that is beyond the model.
        longest_answer: u32,
    },
}

impl UpstreamKind {
    pub(super) fn dialect(&self, words: Words) -> Box<dyn Dialect> {
        match self {
            Self::OpenAi => Box::new(OpenAi { words }),
            Self::Azure { api_version } => Box::new(Azure { api_version: api_version.clone(), words }),
            Self::Anthropic { longest_answer } => Box::new(Anthropic { longest_answer: *longest_answer }),
        }
    }
}

/// A call to an upstream.
#[derive(Debug, PartialEq)]
pub(super) struct Call {
    /// Below the base address, with its query.
    pub path: Cow<'static, str>,
    /// JSON.
    pub body: Bytes,
}

impl Call {
    /// # Errors
    /// The body has no form in JSON.
    pub(super) fn new(path: impl Into<Cow<'static, str>>, body: &impl Serialize) -> Result<Self, String> {
        let body = serde_json::to_vec(body).map_err(|error| format!("request: {error}"))?;
        Ok(Self { path: path.into(), body: body.into() })
    }

    /// What is sent.
    #[cfg(test)]
    pub(super) fn json(&self) -> serde_json::Value {
        serde_json::from_slice(&self.body).expect("JSON")
    }
}

/// See the module. The errors are sentences for the caller that begin with the field's name.
pub(super) trait Dialect: Debug + Send + Sync {
    /// Where the list of models is, below the base address.
    fn list(&self) -> String;

    /// The list names all that can be asked for. Otherwise it only shows that the server is there and takes the key.
    fn lists_all(&self) -> bool;

    /// What every call carries: the credentials above all.
    ///
    /// # Errors
    /// The key cannot be sent.
    fn headers(&self, key: Option<&Secret>) -> Result<HeaderMap, BackendError>;

    /// # Errors
    /// What cannot be asked of such a server.
    fn completion(&self, request: &Generate, model: &str) -> Result<Call, String>;

    /// # Errors
    /// What cannot be asked of such a server.
    fn vectors(&self, request: &Embed, model: &str) -> Result<Call, String>;

    /// How long a prompt is, answered with `input_tokens`; `None`: it has no such call.
    ///
    /// # Errors
    /// What cannot be asked of such a server.
    fn count(&self, _prompt: &Generate, _model: &str) -> Option<Result<Call, String>> {
        None
    }

    /// For the answer to this completion.
    fn reader(&self, request: &Generate) -> Box<dyn Reader>;
}

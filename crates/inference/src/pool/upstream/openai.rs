//! OpenAI's API, as many servers speak it.

use super::{
    super::backend::BackendError,
    answer::Answer,
    calls::secret,
    dialect::{Call, Dialect},
    sse::Reader,
    vectors,
    wire::{self, Words},
};
use domain::secret::Secret;
use reqwest::header::{AUTHORIZATION, HeaderMap};
use worker_protocol::{Embed, Generate};

/// See the module.
#[derive(Debug)]
pub(super) struct OpenAi {
    pub words: Words,
}

impl Dialect for OpenAi {
    fn list(&self) -> String {
        "models".into()
    }

    fn lists_all(&self) -> bool {
        true
    }

    fn headers(&self, key: Option<&Secret>) -> Result<HeaderMap, BackendError> {
        let mut headers = HeaderMap::new();
        if let Some(key) = key {
            headers.insert(AUTHORIZATION, secret(&format!("Bearer {}", key.reveal()))?);
        }
        Ok(headers)
    }

    fn completion(&self, request: &Generate, model: &str) -> Result<Call, String> {
        Call::new(wire::call(request), &wire::body(request, model, &self.words)?)
    }

    fn vectors(&self, request: &Embed, model: &str) -> Result<Call, String> {
        let (path, body) = vectors::body(request, model);
        Call::new(path, &body)
    }

    fn reader(&self, request: &Generate) -> Box<dyn Reader> {
        Box::new(Answer::new(wire::estimate(request)))
    }
}

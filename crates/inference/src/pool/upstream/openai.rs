//! OpenAI's API, as many servers speak it.

use super::{
    LengthField,
    answer::Answer,
    dialect::{Call, Dialect},
    sse::Reader,
    vectors, wire,
};
use domain::secret::Secret;
use reqwest::RequestBuilder;
use worker_protocol::{Embed, Generate};

/// See the module.
#[derive(Debug)]
pub(super) struct OpenAi {
    pub length: LengthField,
}

impl Dialect for OpenAi {
    fn list(&self) -> String {
        "models".into()
    }

    fn lists_all(&self) -> bool {
        true
    }

    fn sign(&self, call: RequestBuilder, key: Option<&Secret>) -> RequestBuilder {
        match key {
            Some(key) => call.bearer_auth(key.reveal()),
            None => call,
        }
    }

    fn completion(&self, request: &Generate, model: &str) -> Result<Call, String> {
        Ok(Call { path: wire::call(request).into(), body: wire::body(request, model, self.length)? })
    }

    fn vectors(&self, request: &Embed, model: &str) -> Result<Call, String> {
        let (path, body) = vectors::body(request, model);
        Ok(Call { path: path.into(), body })
    }

    fn reader(&self, request: &Generate) -> Box<dyn Reader> {
        Box::new(Answer::new(wire::estimate(request)))
    }
}

//! Azure OpenAI: OpenAI's words, but a deployment in the address, a version in the query and the key in `api-key`.
//!
//! Source: Azure OpenAI's REST reference, data plane. Its newer address `/openai/v1` is OpenAI's own API and needs none of
//! this.

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
use reqwest::header::HeaderMap;
use serde::Serialize;
use worker_protocol::{Embed, Generate};

/// See the module.
#[derive(Debug)]
pub(super) struct Azure {
    pub api_version: String,
    pub words: Words,
}

impl Azure {
    fn call(&self, deployment: &str, call: &str, body: &impl Serialize) -> Result<Call, String> {
        Call::new(format!("openai/deployments/{deployment}/{call}?api-version={}", self.api_version), body)
    }
}

impl Dialect for Azure {
    fn list(&self) -> String {
        format!("openai/models?api-version={}", self.api_version)
    }

    /// It lists models, not deployments.
    fn lists_all(&self) -> bool {
        false
    }

    fn headers(&self, key: Option<&Secret>) -> Result<HeaderMap, BackendError> {
        let mut headers = HeaderMap::new();
        if let Some(key) = key {
            headers.insert("api-key", secret(key.reveal())?);
        }
        Ok(headers)
    }

    fn completion(&self, request: &Generate, model: &str) -> Result<Call, String> {
        self.call(model, wire::call(request), &wire::body(request, model, &self.words)?)
    }

    fn vectors(&self, request: &Embed, model: &str) -> Result<Call, String> {
        match vectors::body(request, model) {
            ("embeddings", body) => self.call(model, "embeddings", &body),
            _ => Err("documents: this model's server does not rerank".into()),
        }
    }

    fn reader(&self, request: &Generate) -> Box<dyn Reader> {
        Box::new(Answer::new(wire::estimate(request)))
    }
}

#[cfg(test)]
mod tests {
    use super::{
        super::{LengthField, wire::Words},
        Azure, Dialect,
    };
    use contract::model::Sampling;
    use serde_json::json;
    use worker_protocol::{ChatMessage, ChatRole, Embed, EmbedInput, Generate};

    #[test]
    fn the_deployment_is_in_the_address_and_the_version_in_the_query() {
        let words = Words { length: LengthField::MaxCompletionTokens, ..Words::default() };
        let azure = Azure { api_version: "2024-10-21".into(), words };
        let request = Generate {
            messages: vec![ChatMessage::new(ChatRole::User, "hi")],
            sampling: Sampling { max_tokens: Some(7), ..Sampling::default() },
            ..Generate::default()
        };
        let call = azure.completion(&request, "gpt-4o-eu").unwrap();
        assert_eq!(call.path, "openai/deployments/gpt-4o-eu/chat/completions?api-version=2024-10-21");
        let body = call.json();
        assert_eq!((&body["max_completion_tokens"], body.get("max_tokens")), (&json!(7), None));
        let embed = Embed { inputs: vec![EmbedInput::Text("salt".into())], ..Embed::default() };
        assert_eq!(azure.vectors(&embed, "e").unwrap().path, "openai/deployments/e/embeddings?api-version=2024-10-21");
        let pair = EmbedInput::Pair { query: "q".into(), document: "d".into() };
        assert!(azure.vectors(&Embed { inputs: vec![pair], ..Embed::default() }, "e").unwrap_err().starts_with("documents:"));
    }
}

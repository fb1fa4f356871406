//! A batch's input, line by line: read in pieces, checked before anything runs.

use super::{BatchError, Endpoint};
use crate::{
    files::{StoredFile, chunk},
    shared::Shared,
};
use contract::ids::FileId;
use domain::{Actor, Result};
use inference::{ModelKind, Offered};
use serde::Deserialize;
use serde_json::value::RawValue;
use std::collections::HashSet;
use store::batch_runs::BatchLine;

/// Lines of a batch, as OpenAI has it.
pub(super) const MOST_LINES: u32 = 50_000;
/// Bytes of a line.
const LINE_MAX_BYTES: usize = 4 * 1024 * 1024;
/// Characters of a custom id.
const CUSTOM_ID_MAX_CHARS: usize = 256;
/// So many mistakes are told.
pub(super) const MOST_ERRORS: usize = 100;

/// Lines of a stored file. Holds a line and a piece of the file.
pub(super) struct Reader<'a> {
    shared: &'a Shared,
    actor: &'a Actor,
    file: FileId,
    /// Bytes that have not been read yet.
    left: u64,
    /// The next piece.
    number: i32,
    buffer: Vec<u8>,
    /// Where in the buffer the next line begins.
    from: usize,
    over: bool,
}

impl<'a> Reader<'a> {
    pub(super) fn new(shared: &'a Shared, actor: &'a Actor, file: &StoredFile) -> Self {
        Self { shared, actor, file: file.id, left: file.bytes, number: 0, buffer: Vec::new(), from: 0, over: false }
    }

    /// The next line without its end; of a line that is too long, the beginning.
    pub(super) async fn next(&mut self) -> Result<Option<Vec<u8>>> {
        loop {
            if let Some(line) = self.cut() {
                return Ok(Some(line));
            }
            if self.over {
                return Ok(None);
            }
            self.buffer.drain(..self.from);
            self.from = 0;
            match chunk(self.shared, self.actor, self.file, self.number).await? {
                Some(piece) => {
                    self.left = self.left.saturating_sub(u64::try_from(piece.len()).unwrap_or(u64::MAX));
                    self.buffer.extend_from_slice(&piece);
                }
                None => self.over = true,
            }
            self.number += 1;
        }
    }

    /// The file was removed before it had been read to its end: what was read is not all of it.
    pub(super) fn removed(&self) -> bool {
        self.over && self.left > 0
    }

    fn cut(&mut self) -> Option<Vec<u8>> {
        let rest = &self.buffer[self.from..];
        let length = match rest.iter().position(|byte| *byte == b'\n') {
            Some(at) => at,
            None if rest.len() > LINE_MAX_BYTES || (self.over && !rest.is_empty()) => rest.len(),
            None => return None,
        };
        let line = rest[..length].to_vec();
        self.from = (self.from + length + 1).min(self.buffer.len());
        Some(line)
    }
}

/// The rules for a batch's lines.
pub(super) struct Rules {
    endpoint: Endpoint,
    models: HashSet<String>,
    seen: HashSet<String>,
}

/// A line as a client writes it.
#[derive(Deserialize)]
struct Wire<'a> {
    custom_id: Option<String>,
    method: Option<String>,
    url: Option<String>,
    #[serde(borrow)]
    body: Option<&'a RawValue>,
}

/// What of a body matters before it runs.
#[derive(Deserialize)]
struct Body {
    model: Option<String>,
    stream: Option<bool>,
    background: Option<bool>,
}

impl Rules {
    /// `offered` are the models of the batch's key.
    pub(super) fn new(endpoint: Endpoint, offered: Vec<Offered>) -> Self {
        let kind = if endpoint == Endpoint::Embeddings { ModelKind::Embedding } else { ModelKind::Chat };
        let offered = offered.into_iter().filter(|model| model.kind == kind);
        let models = offered.flat_map(|model| std::iter::once(model.id).chain(model.aliases)).collect();
        Self { endpoint, models, seen: HashSet::new() }
    }

    /// A line that may run. Texts of the client are not repeated in mistakes: they may hold anything.
    pub(super) fn check(&mut self, number: u32, line: &[u8]) -> Result<BatchLine, BatchError> {
        let wrong = |code: &str, param: Option<&str>, message: &str| BatchError {
            code: code.into(),
            message: message.into(),
            param: param.map(str::to_owned),
            line: Some(number),
        };
        if line.len() > LINE_MAX_BYTES {
            let message = format!("A line may have at most {} MiB.", LINE_MAX_BYTES >> 20);
            return Err(wrong("line_too_long", None, &message));
        }
        let text = std::str::from_utf8(line).map_err(|_| wrong("invalid_json_line", None, "The line is not UTF-8."))?;
        let wire: Wire<'_> = serde_json::from_str(text)
            .map_err(|_| wrong("invalid_json_line", None, "The line is not a JSON object with custom_id, method, url and body."))?;
        let custom_id = wire.custom_id.filter(|id| !id.is_empty());
        let Some(custom_id) = custom_id else { return Err(wrong("missing_custom_id", Some("custom_id"), "custom_id is missing.")) };
        if custom_id.chars().count() > CUSTOM_ID_MAX_CHARS || custom_id.chars().any(char::is_control) {
            let message = format!("custom_id has at most {CUSTOM_ID_MAX_CHARS} characters, none of them a control character.");
            return Err(wrong("invalid_custom_id", Some("custom_id"), &message));
        }
        if wire.method.as_deref() != Some("POST") {
            return Err(wrong("invalid_method", Some("method"), "method must be POST."));
        }
        if wire.url.as_deref() != Some(self.endpoint.path()) {
            return Err(wrong("invalid_url", Some("url"), &format!("url must be the batch's endpoint, {}.", self.endpoint.path())));
        }
        let Some(raw) = wire.body else { return Err(wrong("missing_body", Some("body"), "body is missing.")) };
        let body: Body = serde_json::from_str(raw.get()).map_err(|_| wrong("invalid_body", Some("body"), "body is not a request."))?;
        if body.stream == Some(true) {
            return Err(wrong("invalid_body", Some("body.stream"), "Nobody follows a batch: stream must be absent or false."));
        }
        if body.background == Some(true) {
            return Err(wrong(
                "invalid_body",
                Some("body.background"),
                "A batch is in the background: background must be absent or false.",
            ));
        }
        if !body.model.is_some_and(|model| self.models.contains(&model)) {
            let message = "There is no such model for this endpoint, or this key may not use it. GET /v1/models lists those that it may.";
            return Err(wrong("model_not_found", Some("body.model"), message));
        }
        if !self.seen.insert(custom_id.clone()) {
            return Err(wrong("duplicate_custom_id", Some("custom_id"), "This custom_id occurs on an earlier line."));
        }
        Ok(BatchLine { number, custom_id, body: raw.get().to_owned() })
    }
}

#[cfg(test)]
mod tests {
    use super::{Endpoint, LINE_MAX_BYTES, Rules};
    use inference::{ModelKind, Offered};
    use serde_json::{Value, json};

    fn rules(endpoint: Endpoint) -> Rules {
        let model = |id: &str, kind| Offered {
            id: id.into(),
            name: String::new(),
            kind,
            aliases: vec![format!("{id}-alias")],
            context_length: 1,
            images: false,
            ready: true,
        };
        Rules::new(endpoint, vec![model("chat", ModelKind::Chat), model("vectors", ModelKind::Embedding)])
    }

    fn line(more: &Value) -> String {
        let mut line = json!({ "custom_id": "a", "method": "POST", "url": "/v1/chat/completions", "body": { "model": "chat" } });
        line.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        line.to_string()
    }

    #[test]
    fn a_line_that_may_run_keeps_its_body_as_it_is() {
        let text = r#"{"body": {"model":"chat", "z": 1.10, "a": "\u0000"}, "url": "/v1/chat/completions", "method": "POST", "custom_id": "one", "x": 1}"#;
        let checked = rules(Endpoint::ChatCompletions).check(7, text.as_bytes()).unwrap();
        assert_eq!((checked.number, checked.custom_id.as_str()), (7, "one"));
        assert_eq!(checked.body, r#"{"model":"chat", "z": 1.10, "a": "\u0000"}"#);
    }

    #[test]
    fn mistakes_are_named_with_line_and_field() {
        let wrong = [
            ("{".to_owned(), "invalid_json_line", None),
            ("[]".to_owned(), "invalid_json_line", None),
            (line(&json!({ "custom_id": 7 })), "invalid_json_line", None),
            (line(&json!({ "custom_id": null })), "missing_custom_id", Some("custom_id")),
            (line(&json!({ "custom_id": "a\u{0}" })), "invalid_custom_id", Some("custom_id")),
            (line(&json!({ "method": "GET" })), "invalid_method", Some("method")),
            (line(&json!({ "url": "/v1/embeddings" })), "invalid_url", Some("url")),
            (line(&json!({ "body": null })), "missing_body", Some("body")),
            (line(&json!({ "body": 1 })), "invalid_body", Some("body")),
            (line(&json!({ "body": { "model": "chat", "stream": true } })), "invalid_body", Some("body.stream")),
            (line(&json!({ "body": { "model": "chat", "background": true } })), "invalid_body", Some("body.background")),
            (line(&json!({ "body": { "model": "vectors" } })), "model_not_found", Some("body.model")),
            (line(&json!({ "body": {} })), "model_not_found", Some("body.model")),
            ("x".repeat(LINE_MAX_BYTES + 1), "line_too_long", None),
        ];
        for (text, code, param) in wrong {
            let error = rules(Endpoint::ChatCompletions).check(3, text.as_bytes()).unwrap_err();
            assert_eq!((error.code.as_str(), error.param.as_deref(), error.line), (code, param, Some(3)), "{}", error.message);
        }
        assert_eq!(rules(Endpoint::ChatCompletions).check(1, &[0xff]).unwrap_err().code, "invalid_json_line");
    }

    #[test]
    fn a_custom_id_occurs_once() {
        let mut rules = rules(Endpoint::ChatCompletions);
        assert!(rules.check(1, line(&json!({})).as_bytes()).is_ok());
        assert_eq!(rules.check(2, line(&json!({})).as_bytes()).unwrap_err().code, "duplicate_custom_id");
        assert!(rules.check(3, line(&json!({ "custom_id": "b" })).as_bytes()).is_ok());
    }
}

//! A command's result, for people and for programs.

use serde_json::Value;

/// The same result twice.
#[derive(Debug)]
pub struct Output {
    text: String,
    value: Value,
}

impl Output {
    pub fn new(text: String, value: Value) -> Self {
        Self { text, value }
    }

    /// Lines for programs, whatever was asked for.
    pub fn verbatim(text: String) -> Self {
        Self { text, value: Value::Null }
    }

    /// One line of JSON, or the text.
    pub fn render(self, json: bool) -> String {
        if json && !self.value.is_null() { self.value.to_string() } else { self.text }
    }
}

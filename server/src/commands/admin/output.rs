//! A command's result, for people and for programs.

use serde_json::Value;

/// The same result twice.
#[derive(Debug)]
pub struct Output {
    text: String,
    value: Value,
    /// Why the command fails once it is printed.
    failure: Option<String>,
}

impl Output {
    pub fn new(text: String, value: Value) -> Self {
        Self { text, value, failure: None }
    }

    /// Lines for programs, whatever was asked for.
    pub fn verbatim(text: String) -> Self {
        Self { text, value: Value::Null, failure: None }
    }

    /// It is printed, and the command fails all the same.
    pub fn failing(self, why: String) -> Self {
        Self { failure: Some(why), ..self }
    }

    /// Why it fails all the same.
    pub fn failure(&self) -> Option<&str> {
        self.failure.as_deref()
    }

    /// One line of JSON, or the text.
    pub fn render(self, json: bool) -> String {
        if json && !self.value.is_null() { self.value.to_string() } else { self.text }
    }
}

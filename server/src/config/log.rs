//! What is logged and how it looks.

use serde::Deserialize;
use tracing_subscriber::EnvFilter;

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Log {
    /// A level or a filter in the syntax of `tracing_subscriber::EnvFilter`.
    pub level: String,
    pub format: LogFormat,
}

impl Log {
    pub(super) fn check(&self, wrong: &mut Vec<String>) {
        if let Err(error) = EnvFilter::try_new(&self.level) {
            wrong.push(format!("`log.level`: {error}"));
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum LogFormat {
    Text,
    Json,
}

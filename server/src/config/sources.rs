//! Where configuration comes from: the one place that looks at the process' environment.

use std::{ffi::OsString, path::PathBuf};

/// The inputs of [`super::Config::load`], as values, so that tests need no process environment.
#[derive(Clone, Debug, Default)]
pub struct Sources {
    /// `kontor.toml`; `None` if there is none.
    pub file: Option<PathBuf>,
    /// Environment variables.
    pub env: Vec<(String, String)>,
}

impl Sources {
    /// The file named on the command line, else `kontor.toml` of the working directory if it exists,
    /// and the environment. Variables that are not valid Unicode are left out: none of ours are.
    #[must_use]
    pub fn of_process(file: Option<PathBuf>) -> Self {
        let file = file.or_else(|| Some(PathBuf::from("kontor.toml")).filter(|path| path.is_file()));
        let env = std::env::vars_os().filter_map(|(key, value)| Some((key.into_string().ok()?, value.into_string().ok()?))).collect();
        Self { file, env }
    }

    /// The value of an environment variable; empty counts as absent.
    #[must_use]
    pub fn var(&self, name: &str) -> Option<&str> {
        self.env.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str()).filter(|value| !value.is_empty())
    }
}

/// A variable that is no configuration of ours: set by a tool around us (cargo-leptos), or passed on to a worker.
#[must_use]
#[expect(clippy::disallowed_methods, reason = "this module is where the environment is read")]
pub fn foreign_variable(name: &str) -> Option<OsString> {
    std::env::var_os(name)
}

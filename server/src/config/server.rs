//! The web server's own settings.

use serde::Deserialize;
use std::{net::SocketAddr, path::PathBuf, time::Duration};

/// Longer than any core takes to wake up, by far.
const MOST_AWAKE: u64 = 10_000;

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Server {
    pub addr: SocketAddr,
    /// The address people use; differs from `addr` behind a proxy.
    pub public_url: Option<String>,
    /// The built interface; `None`: look for it (`http::assets`).
    pub site_root: Option<PathBuf>,
    /// Believe `X-Forwarded-For`.
    pub trust_proxy: bool,
    pub shutdown_seconds: u64,
    /// See `http::awake`; 0: not at all.
    pub awake_microseconds: u64,
}

impl Server {
    /// Where to point people to.
    #[must_use]
    pub fn url(&self) -> String {
        self.public_url.clone().unwrap_or_else(|| format!("http://{}", self.addr))
    }

    /// Whether people reach us by https, so that cookies may be `Secure`.
    #[must_use]
    pub fn is_https(&self) -> bool {
        self.public_url.as_deref().is_some_and(|url| url.starts_with("https://"))
    }

    /// Longest graceful stop.
    #[must_use]
    pub fn shutdown(&self) -> Duration {
        Duration::from_secs(self.shutdown_seconds)
    }

    /// How long a core alone looks for the next event before it sleeps, where that is worth it.
    #[must_use]
    pub fn awake(&self) -> Duration {
        Duration::from_micros(self.awake_microseconds)
    }

    pub(super) fn check(&self, wrong: &mut Vec<String>) {
        if let Some(url) = &self.public_url
            && !url.starts_with("http://")
            && !url.starts_with("https://")
        {
            wrong.push(format!("`server.public_url`: {url} must begin with http:// or https://"));
        }
        if self.shutdown_seconds == 0 {
            wrong.push("`server.shutdown_seconds`: must be at least 1".into());
        }
        if self.awake_microseconds > MOST_AWAKE {
            wrong.push(format!("`server.awake_microseconds`: must be at most {MOST_AWAKE}"));
        }
    }
}

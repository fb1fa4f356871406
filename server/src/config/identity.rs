//! Sessions.

use serde::Deserialize;

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Identity {
    /// Days without use after which a session ends.
    pub session_days: u32,
}

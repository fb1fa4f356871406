//! How a worker on another machine becomes one of a pool.
//!
//! Over mutual TLS ([`crate::tls`]), to the pool's port for workers:
//!
//! | call | answer |
//! |---|---|
//! | `PUT /workers/{name}` with [`Registration`] | [`Registered`]; repeated while the worker lives |
//! | `DELETE /workers/{name}` with the token as `Authorization: Bearer …` | the worker has drained and ends |
//!
//! `{name}` must be the one of the worker's certificate; the token tells one life of a worker from the next. A pool that was started anew, or one that lost the worker,
//! has it back with the next repetition.

use serde::{Deserialize, Serialize};

/// What a worker says of itself.
#[derive(Clone, Serialize, Deserialize)]
pub struct Registration {
    /// [`crate::PROTOCOL`].
    pub protocol: u32,
    /// Where the pool reaches it, `host:port`.
    pub addr: String,
    /// What the pool has to present, beside its certificate.
    pub token: String,
    /// What it can be asked for, loaded or not.
    pub models: Vec<String>,
}

/// Without the token.
impl std::fmt::Debug for Registration {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { protocol, addr, models, .. } = self;
        f.debug_struct("Registration").field("protocol", protocol).field("addr", addr).field("models", models).finish_non_exhaustive()
    }
}

/// What the pool answers.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub struct Registered {
    /// Say it again after so many milliseconds.
    pub again_ms: u32,
}

//! From a secret to an [`Actor`](domain::Actor): local accounts, sign-in, sessions; service accounts and their keys.
//!
//! Every way of signing in ends in a session, and a session is the only thing a person's request is authenticated by.
//! A further way (OpenID Connect) therefore only adds another caller of `start_session`. Programs have keys. What the
//! database keeps of secrets that must be read again is [`sealed`](sealing).

#[cfg(target_family = "wasm")]
compile_error!("`identity` is server-only");

mod account;
mod administration;
mod keys;
mod password;
mod people;
pub mod sealing;
mod service_accounts;
mod session;
mod sign_in;
mod throttling;
mod token;

pub use account::NewPassword;
pub use keys::KEY_PREFIX;
pub use people::{NewPerson, is_slug};
pub use service_accounts::{MadeKey, NewAccount, NewKey};
pub use sign_in::{SignIn, SignedIn};

use contract::Millis;
use domain::Clock;
use keys::{KeyRing, ring};
use password::Hasher;
use session::SessionCache;
use std::sync::Arc;
use store::Db;

/// What an operator may decide.
#[derive(Clone, Copy, Debug)]
pub struct IdentityConfig {
    /// Days without use after which a session ends.
    pub session_days: u32,
    /// Passwords hashed or checked at the same time: each takes a core and 19 MiB for some dozen milliseconds.
    pub parallel_hashes: usize,
}

impl Default for IdentityConfig {
    fn default() -> Self {
        Self { session_days: 30, parallel_hashes: 2 }
    }
}

/// Proves who people are. Cheap to clone; all clones share cache and limits.
#[derive(Clone, Debug)]
pub struct Identity {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    db: Db,
    clock: Arc<dyn Clock>,
    lifetime_ms: i64,
    hasher: Hasher,
    sessions: SessionCache,
    keys: KeyRing,
}

impl Identity {
    #[must_use]
    pub fn new(db: Db, clock: Arc<dyn Clock>, config: IdentityConfig) -> Self {
        let lifetime_ms = i64::from(config.session_days) * 24 * 60 * 60 * 1_000;
        let hasher = Hasher::new(config.parallel_hashes);
        Self { inner: Arc::new(Inner { db, clock, lifetime_ms, hasher, sessions: SessionCache::new(), keys: ring() }) }
    }

    fn now(&self) -> Millis {
        self.inner.clock.now()
    }

    fn db(&self) -> &Db {
        &self.inner.db
    }
}

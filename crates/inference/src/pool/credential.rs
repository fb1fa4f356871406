//! The key that an upstream is asked with, which may change while requests run.

use super::{Pool, member::Member, upstream::UpstreamBackend};
use domain::secret::Secret;
use std::sync::{Arc, MutexGuard, PoisonError, RwLock};

/// What an upstream is asked with.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Credential {
    /// The key that came with it, or none if none did.
    #[default]
    Configured,
    /// This key.
    Key(Secret),
    /// It has a key that cannot be used, so it is not asked at all. Why, in words for operators.
    Unusable(String),
}

/// The credential of now. Whoever reads it goes on with what was read.
#[derive(Debug, Default)]
pub(super) struct Shown(RwLock<Arc<Credential>>);

impl Shown {
    pub(super) fn now(&self) -> Arc<Credential> {
        self.0.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Whether that is another one.
    pub(super) fn set(&self, credential: &Credential) -> bool {
        let mut shown = self.0.write().unwrap_or_else(PoisonError::into_inner);
        let other = **shown != *credential;
        if other {
            *shown = Arc::new(credential.clone());
        }
        other
    }
}

/// An upstream with its place in the pool.
pub(super) struct Placed {
    pub(super) member: Arc<Member>,
    pub(super) backend: Arc<UpstreamBackend>,
}

impl Pool {
    /// The names of all upstreams.
    #[must_use]
    pub fn upstreams(&self) -> Vec<String> {
        self.placed().iter().map(|placed| placed.member.name.clone()).collect()
    }

    /// What the upstream of this name is asked with from now on: by requests and polls that begin later. What was believed of it
    /// because of the one before counts no more. Returns whether it is another one.
    pub fn show_credential(&self, upstream: &str, credential: &Credential) -> bool {
        let mut other = false;
        for Placed { member, backend } in self.placed().iter().filter(|placed| placed.member.name == upstream) {
            if backend.show(credential) {
                other = true;
                member.recredentialed(if let Credential::Unusable(why) = credential { Some(why.as_str()) } else { None });
            }
        }
        other
    }

    pub(super) fn placed(&self) -> MutexGuard<'_, Vec<Placed>> {
        self.inner.upstreams.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

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

#[cfg(test)]
mod tests {
    use super::super::{
        backend::{Backend, BackendError, EventStream},
        choice::Terms,
        member::Member,
    };
    use crate::{PoolTiming, meter::Ticket, work::Work};
    use async_trait::async_trait;
    use std::sync::{Arc, OnceLock};
    use tokio::sync::watch;
    use tokio_util::sync::CancellationToken;
    use worker_protocol::{Counted, Generate, LoadedModel, PROTOCOL, State, Status, Totals};

    /// It is ready; but while it says so, its member gets a key that cannot be used.
    #[derive(Debug, Default)]
    struct Replaced(OnceLock<Arc<Member>>);

    #[async_trait]
    impl Backend for Replaced {
        async fn status(&self) -> Result<Status, BackendError> {
            if let Some(member) = self.0.get() {
                member.recredentialed(Some("no key"));
            }
            let models = vec![LoadedModel { id: "m".into(), context_length: 4096, slots: 4, ..LoadedModel::default() }];
            Ok(Status {
                protocol: PROTOCOL,
                state: State::Ready,
                models,
                busy: 0,
                queued: 0,
                stuck_ms: 0,
                totals: Totals::default(),
                devices: Vec::new(),
            })
        }

        async fn start(&self, _: &Ticket, _: &Work) -> Result<EventStream, BackendError> {
            Err(BackendError::Refused(405))
        }

        async fn count(&self, _: &Generate) -> Result<Counted, BackendError> {
            Err(BackendError::Refused(405))
        }
    }

    #[tokio::test]
    async fn a_poll_with_the_old_key_says_nothing_about_the_new_one() {
        let (backend, timing) = (Arc::new(Replaced::default()), PoolTiming::default());
        let (terms, left) = (Terms::worker(Vec::new()), CancellationToken::new());
        let member = Arc::new(Member::new(0, "vllm".into(), terms, left, watch::Sender::new(0)));
        member.attach(backend.clone());
        member.poll_once(&timing).await;
        assert!(member.is_ready() && member.version("m").is_some(), "{}", member.describe());
        backend.0.set(member.clone()).expect("once");
        member.poll_once(&timing).await;
        assert_eq!((member.describe().as_str(), member.version("m")), ("vllm: no key", None));
    }
}

//! Workers of other machines: they come and go by themselves.

use super::{Pool, backend::BackendError, choice::Terms, member::Member, worker::WorkerBackend};
use domain::secret::Secret;
use std::{
    collections::BTreeMap,
    net::SocketAddr,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};
use tokio::{net::lookup_host, time::Instant};
use worker_protocol::{
    PROTOCOL,
    registration::Registration,
    tls::{Identity, worker_name},
};

/// A worker that has not said that it is there for so long is not polled any more.
const FORGOTTEN_AFTER: Duration = Duration::from_secs(600);

/// Workers that registered, by name.
#[derive(Debug, Default)]
pub(super) struct Registry(Mutex<BTreeMap<String, Remote>>);

#[derive(Debug)]
struct Remote {
    member: Arc<Member>,
    registration: Registration,
    /// Where its address leads.
    at: SocketAddr,
    seen: Instant,
}

/// Why a worker was not taken.
#[derive(Debug, thiserror::Error)]
pub enum RegisterError {
    #[error("it speaks protocol {theirs}, this pool speaks {PROTOCOL}: they must be of the same version")]
    Protocol { theirs: u32 },
    #[error("its address leads nowhere: {0}")]
    Unreachable(String),
    #[error("no client can be made for it: {0}")]
    Client(BackendError),
}

impl Registry {
    fn remotes(&self) -> MutexGuard<'_, BTreeMap<String, Remote>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Pool {
    /// Takes a worker in, or hears again of one that is known. Whether it is ready, polls will tell.
    ///
    /// # Errors
    /// See [`RegisterError`].
    pub async fn register(&self, name: &str, registration: Registration, identity: &Identity) -> Result<(), RegisterError> {
        if registration.protocol != PROTOCOL {
            return Err(RegisterError::Protocol { theirs: registration.protocol });
        }
        self.forget_silent();
        let unreachable = |why: String| RegisterError::Unreachable(format!("{}: {why}", registration.addr));
        let found = lookup_host(&registration.addr).await.map_err(|error| unreachable(error.to_string()))?.next();
        let addr = found.ok_or_else(|| unreachable("no such name".into()))?;
        // Looked up each time: a name may lead elsewhere by now.
        if let Some(remote) = self.inner.registry.remotes().get_mut(name).filter(|remote| remote.is(&registration, addr)) {
            remote.seen = Instant::now();
            return Ok(());
        }
        let token = Secret::new(registration.token.clone());
        let backend = Arc::new(WorkerBackend::remote(&worker_name(name), addr, token, identity).map_err(RegisterError::Client)?);
        tracing::info!(worker = name, ?registration, "a worker registered");
        let mut remotes = self.inner.registry.remotes();
        let member = match remotes.remove(name) {
            Some(known) => known.member,
            None => self.join(name, Terms::worker(registration.models.clone())),
        };
        member.attach(backend);
        remotes.insert(name.to_owned(), Remote { member, registration, at: addr, seen: Instant::now() });
        Ok(())
    }

    /// The worker's life with this token ends; what still runs on it is not touched. A later life is left alone.
    pub fn leave(&self, name: &str, token: &str) {
        let mut remotes = self.inner.registry.remotes();
        if remotes.get(name).is_some_and(|remote| remote.registration.token == token)
            && let Some(remote) = remotes.remove(name)
        {
            tracing::info!(worker = name, "a worker left");
            self.part(&remote.member);
        }
    }

    fn forget_silent(&self) {
        self.inner.registry.remotes().retain(|name, remote| {
            let keep = remote.seen.elapsed() < FORGOTTEN_AFTER || remote.member.is_ready();
            if !keep {
                tracing::warn!(worker = name, "a worker was not heard of for long and is forgotten");
                self.part(&remote.member);
            }
            keep
        });
    }
}

impl Remote {
    /// The same life of the same worker.
    fn is(&self, registration: &Registration, at: SocketAddr) -> bool {
        self.registration.token == registration.token && self.at == at
    }
}

//! The pool: which backend runs a completion.

mod backend;
mod health;
mod lines;
mod load;
mod member;
pub mod supervisor;
mod worker;

pub use backend::{Backend, BackendError, EventStream};
pub use load::WorkerLoad;
pub(crate) use member::MemberId;
pub use supervisor::WorkerProcess;
pub use worker::WorkerBackend;

use crate::meter::{RETRY_AFTER_S, Ticket};
use domain::Error;
use member::{Lease, Member};
use std::{
    fmt,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};
use tokio::{
    sync::watch,
    time::{Instant, timeout_at},
};
use tokio_util::{
    sync::{CancellationToken, DropGuard},
    task::TaskTracker,
};
use worker_protocol::Generate;

/// How patient the pool is.
#[derive(Clone, Copy, Debug)]
pub struct PoolTiming {
    /// Between two health polls of a backend.
    pub poll: Duration,
    /// For the answer to a health poll.
    pub answer: Duration,
    /// How long a completion waits for a backend that is loading or restarting.
    pub wait: Duration,
}

impl Default for PoolTiming {
    fn default() -> Self {
        Self { poll: Duration::from_millis(500), answer: Duration::from_secs(2), wait: Duration::from_secs(10) }
    }
}

/// All backends of this process. Clones share them; the last one to go stops polls and child processes.
#[derive(Clone)]
pub struct Pool {
    inner: Arc<Inner>,
}

struct Inner {
    timing: PoolTiming,
    members: Mutex<Vec<Arc<Member>>>,
    /// Counts changes of any member's phase.
    changed: watch::Sender<u64>,
    tasks: TaskTracker,
    stop: CancellationToken,
    _stop_at_drop: DropGuard,
}

impl Default for Pool {
    fn default() -> Self {
        Self::new(PoolTiming::default())
    }
}

impl Pool {
    /// An empty pool.
    #[must_use]
    pub fn new(timing: PoolTiming) -> Self {
        let stop = CancellationToken::new();
        let inner = Inner {
            timing,
            members: Mutex::default(),
            changed: watch::Sender::new(0),
            tasks: TaskTracker::new(),
            _stop_at_drop: stop.clone().drop_guard(),
            stop,
        };
        Self { inner: Arc::new(inner) }
    }

    /// Adds a backend that somebody else runs. Needs a tokio runtime: its health is polled from now on.
    pub fn add(&self, name: &str, backend: Arc<dyn Backend>) {
        self.join(name, None).attach(backend);
    }

    /// Starts a worker process and keeps it running. Needs a tokio runtime.
    pub fn supervise(&self, process: WorkerProcess) {
        let member = self.join(&process.name, Some(process.model.clone()));
        self.inner.tasks.spawn(supervisor::supervise(process, member, self.inner.stop.clone()));
    }

    /// Ends all child processes and polls, and waits for that. Completions that still run are cut off.
    pub async fn shutdown(&self) {
        self.inner.stop.cancel();
        self.inner.tasks.close();
        self.inner.tasks.wait().await;
    }

    /// A backend with this model can be used now.
    #[must_use]
    pub fn is_ready(&self, model: &str) -> bool {
        self.members().iter().any(|member| member.offer(model).is_some())
    }

    /// The state of each member, for the operator.
    #[must_use]
    pub fn describe(&self) -> String {
        let members = self.members();
        if members.is_empty() {
            return "there is no worker".into();
        }
        members.iter().map(|member| member.describe()).collect::<Vec<_>>().join(", ")
    }

    fn members(&self) -> MutexGuard<'_, Vec<Arc<Member>>> {
        self.inner.members.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn join(&self, name: &str, expects: Option<String>) -> Arc<Member> {
        let mut members = self.members();
        let member = Arc::new(Member::new(members.len(), name.to_owned(), expects, self.inner.changed.clone()));
        members.push(member.clone());
        self.inner.tasks.spawn(member.clone().watch(self.inner.timing, self.inner.stop.clone()));
        member
    }

    /// Picks a backend and starts the completion on it. `full` are members that had no room just now.
    pub(crate) async fn dispatch(&self, ticket: &Ticket, request: &Generate, full: &[MemberId]) -> Result<Dispatched, DispatchError> {
        let lease = self.lease(&request.model, full).await.map_err(DispatchError::NoWorker)?;
        match lease.backend.generate(ticket, request.clone()).await {
            Ok(events) => Ok(Dispatched { events, lease }),
            Err(error) => {
                if matches!(error, BackendError::Lost(_)) {
                    lease.suspect();
                }
                Err(DispatchError::Backend(error))
            }
        }
    }

    /// The least loaded ready backend; waits for one that is on its way.
    async fn lease(&self, model: &str, full: &[MemberId]) -> Result<Lease, Error> {
        let deadline = Instant::now() + self.inner.timing.wait;
        let mut changed = self.inner.changed.subscribe();
        loop {
            changed.mark_unchanged();
            if let Some(lease) = self.pick(model, full) {
                return Ok(lease);
            }
            let hope = self.members().iter().any(|member| member.is_hopeful(model));
            // The sender lives in `self`, so the only end of waiting without a change is the deadline.
            if !hope || !matches!(timeout_at(deadline, changed.changed()).await, Ok(Ok(()))) {
                tracing::warn!(model, state = self.describe(), "no worker for a completion");
                return Err(Error::unavailable("model", Some(RETRY_AFTER_S)));
            }
        }
    }

    fn pick(&self, model: &str, full: &[MemberId]) -> Option<Lease> {
        // The lock is held until the lease counts, so that many at once spread out.
        let members = self.members();
        let offers = members.iter().filter(|member| !full.contains(&member.id)).filter_map(|member| {
            let (load, backend) = member.offer(model)?;
            Some((load, member, backend))
        });
        let (_, member, backend) = offers.min_by_key(|(load, ..)| *load)?;
        Some(Lease::new(member.clone(), backend))
    }
}

impl fmt::Debug for Pool {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Pool({})", self.describe())
    }
}

/// A completion that runs on a backend. Dropping it cancels.
pub(crate) struct Dispatched {
    pub(crate) events: EventStream,
    lease: Lease,
}

impl Dispatched {
    /// Who runs it.
    pub(crate) fn member(&self) -> MemberId {
        self.lease.member.id
    }

    /// The connection was lost.
    pub(crate) fn suspect(&self) {
        self.lease.suspect();
    }
}

/// Why a completion did not start.
pub(crate) enum DispatchError {
    /// None is ready, and none became ready in time; for the caller as it is.
    NoWorker(Error),
    /// The chosen one did not take it.
    Backend(BackendError),
}

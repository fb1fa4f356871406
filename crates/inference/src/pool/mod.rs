//! The pool: which backend runs what.

mod affinity;
mod backend;
mod breaker;
mod choice;
mod count;
mod credential;
mod departed;
mod dispatch;
mod health;
pub(crate) mod http;
mod latency;
mod lines;
mod load;
mod member;
mod place;
mod process;
mod registry;
pub mod supervisor;
mod tally;
pub mod upstream;
mod worker;

pub use backend::{Backend, BackendError, EventStream};
pub use choice::Prefer;
pub use credential::Credential;
pub(crate) use dispatch::{DispatchError, Dispatched};
pub use load::WorkerLoad;
pub(crate) use member::MemberId;
pub use process::WorkerProcess;
pub use registry::RegisterError;
use supervisor::Restart;
pub use tally::{Reconciled, Tokens};
pub use upstream::{LengthField, StructuredField, Upstream, UpstreamKind, UpstreamModel};
pub use worker::WorkerBackend;
pub use worker_protocol::{Device, LoadedModel, ModelState, Totals};

use crate::clearance::Bounds;
use affinity::Affinity;
use choice::Terms;
use credential::Placed;
use departed::Departed;
use health::Phase;
use member::Member;
use registry::Registry;
use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    fmt,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError, RwLock,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};
use tokio::sync::watch;
use tokio_util::{
    sync::{CancellationToken, DropGuard},
    task::TaskTracker,
};
use tower::retry::budget::{Budget, TpsBudget};

/// Second tries: a fifth of the requests of so long, and in any case so many per second.
const RETRY_WINDOW: Duration = Duration::from_secs(10);
const RETRIES_PER_SECOND: u32 = 10;
const RETRY_PART: f32 = 0.2;
/// Second tries of one request.
pub(crate) const MOST_RETRIES: u32 = 2;

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
    departed: Departed,
    /// Counts changes of any member's phase.
    changed: watch::Sender<u64>,
    affinity: Affinity,
    /// What decides between members, by model, where it is not the load.
    preferences: RwLock<HashMap<String, Prefer>>,
    registry: Registry,
    /// Those of the members that are upstreams.
    upstreams: Mutex<Vec<Placed>>,
    /// Of processes of our own.
    restarts: Mutex<Vec<Arc<Restart>>>,
    next: AtomicUsize,
    /// What may be tried a second time, so that a failing installation is not asked twice as much.
    retries: TpsBudget,
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
            departed: Departed::default(),
            changed: watch::Sender::new(0),
            affinity: Affinity::default(),
            preferences: RwLock::default(),
            registry: Registry::default(),
            upstreams: Mutex::default(),
            restarts: Mutex::default(),
            next: AtomicUsize::new(0),
            retries: TpsBudget::new(RETRY_WINDOW, RETRIES_PER_SECOND, RETRY_PART),
            tasks: TaskTracker::new(),
            _stop_at_drop: stop.clone().drop_guard(),
            stop,
        };
        Self { inner: Arc::new(inner) }
    }

    /// Adds a backend that somebody else runs. Needs a tokio runtime: its health is polled from now on.
    pub fn add(&self, name: &str, backend: Arc<dyn Backend>) {
        self.join(name, Terms::worker(Vec::new())).attach(backend);
    }

    /// What decides between the members that have this model; the load as long as nothing is said.
    pub fn prefer(&self, model: &str, prefer: Prefer) {
        self.inner.preferences.write().unwrap_or_else(PoisonError::into_inner).insert(model.to_owned(), prefer);
    }

    /// Adds a server that somebody else runs and that speaks one of the dialects. Needs a tokio runtime.
    ///
    /// # Errors
    /// No HTTP client can be made for it.
    pub fn add_upstream(&self, upstream: Upstream) -> Result<(), BackendError> {
        let costs = upstream.models.iter().map(|model| (model.id.clone(), model.cost)).collect();
        let expects = upstream.models.iter().map(|model| model.id.clone()).collect();
        let clearance = upstream.clearance.clone();
        let terms = Terms { order: upstream.order, weight: upstream.weight, costs, breaks: true, expects, clearance };
        let name = upstream.name.clone();
        let backend = Arc::new(upstream::UpstreamBackend::new(upstream)?);
        let member = self.join(&name, terms);
        member.attach(backend.clone());
        self.placed().push(Placed { member, backend });
        Ok(())
    }

    /// Starts a worker process and keeps it running. Needs a tokio runtime.
    pub fn supervise(&self, process: WorkerProcess) {
        let member = self.join(&process.name, Terms::worker(process.models.clone()));
        let restart = Arc::new(Restart::default());
        self.inner.restarts.lock().unwrap_or_else(PoisonError::into_inner).push(restart.clone());
        self.inner.tasks.spawn(supervisor::supervise(process, member, restart, self.inner.stop.clone()));
    }

    /// Replaces each worker process of our own by a new one, one after the other. The new one takes over when it is
    /// ready, so for a while both hold the model; the old one ends when its running answers have. Where the new one does
    /// not start, the old one stays; a process that does not run at all is not waited for.
    pub async fn restart_workers(&self) {
        let restarts = self.inner.restarts.lock().unwrap_or_else(PoisonError::into_inner).clone();
        for restart in restarts {
            let _: Option<()> = self.inner.stop.run_until_cancelled(restart.ask()).await;
        }
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

    /// Whether somebody can be asked now, within these bounds, for the model that they are of; `None` where asking is 404.
    pub(crate) fn readiness(&self, bounds: &Bounds) -> Option<bool> {
        self.exists(bounds).then(|| self.is_ready_within(bounds))
    }

    /// The model that the bounds are of is there for whoever asks, see [`Pool::reach`].
    pub(crate) fn exists(&self, bounds: &Bounds) -> bool {
        !matches!(self.reach(bounds), Err(domain::Error::NotFound { .. }))
    }

    fn is_ready_within(&self, bounds: &Bounds) -> bool {
        let members = self.members();
        bounds.models().next().is_some_and(|model| within(&members, &model.id, bounds).any(|member| member.offer(&model.id).is_some()))
    }

    /// Refuses what nobody may be asked who has one of the models, or may have it: waiting does not help.
    ///
    /// # Errors
    /// [`domain::Error::Forbidden`], which says why; [`domain::Error::NotFound`] where nobody works for the tenant.
    pub(crate) fn reach(&self, bounds: &Bounds) -> Result<(), domain::Error> {
        let (members, mut objections) = (self.members(), Vec::new());
        for model in bounds.models() {
            for member in members.iter().filter(|member| member.carries(&model.id)) {
                match bounds.objection(&model.id, member.clearance()) {
                    None => return Ok(()),
                    Some(objection) => objections.push(objection),
                }
            }
        }
        // Without any there is nobody at the moment, which is another matter.
        objections.into_iter().max().map_or(Ok(()), |nearest| Err(bounds.refusal(nearest)))
    }

    /// The versions of a model that the backends have, more than one while they are being replaced; `None` if there is none,
    /// or one of them does not say.
    pub(crate) fn versions(&self, model: &str) -> Option<BTreeSet<String>> {
        let versions: BTreeSet<String> = self.members().iter().filter_map(|member| member.version(model)).collect();
        Some(versions).filter(|versions| !versions.is_empty() && !versions.contains(""))
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

    /// How the counters of each worker agree with what was heard of it, since this process began; by name, with those that
    /// have left (of many, those that differ most).
    #[must_use]
    pub fn reconciled(&self) -> BTreeMap<String, Reconciled> {
        // Held for both: who leaves meanwhile must neither be missing nor be told twice.
        let members = self.members();
        let mut all = self.inner.departed.all();
        for member in members.iter() {
            all.entry(member.name.clone()).or_default().add(member.reconciled());
        }
        all
    }

    fn members(&self) -> MutexGuard<'_, Vec<Arc<Member>>> {
        self.inner.members.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn join(&self, name: &str, terms: Terms) -> Arc<Member> {
        let mut members = self.members();
        let id = self.inner.next.fetch_add(1, Ordering::Relaxed);
        let member = Arc::new(Member::new(id, name.to_owned(), terms, self.inner.stop.child_token(), self.inner.changed.clone()));
        members.push(member.clone());
        self.inner.tasks.spawn(member.clone().watch(self.inner.timing));
        member
    }

    fn part(&self, member: &Arc<Member>) {
        let mut members = self.members();
        members.retain(|other| !Arc::ptr_eq(other, member));
        member.left.cancel();
        member.detach(Phase::Down, "has left");
        // Without a backend it is compared no more.
        self.inner.departed.keep(&member.name, member.reconciled());
    }

    /// A request is tried for the first time.
    pub(crate) fn count_request(&self) {
        self.inner.retries.deposit();
    }

    /// It may be tried once more.
    pub(crate) fn may_retry(&self) -> bool {
        self.inner.retries.withdraw()
    }
}

/// Those of the members that may be asked for the model: the one place where that is decided.
fn within<'a>(members: &'a [Arc<Member>], model: &'a str, bounds: &'a Bounds) -> impl Iterator<Item = &'a Arc<Member>> {
    members.iter().filter(move |member| bounds.admit(model, member.clearance()))
}

impl fmt::Debug for Pool {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Pool({})", self.describe())
    }
}

//! The pool: which backend runs what.

mod affinity;
mod backend;
mod breaker;
mod choice;
mod count;
mod credential;
mod health;
mod http;
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
pub use load::WorkerLoad;
pub(crate) use member::MemberId;
pub use process::WorkerProcess;
pub use registry::RegisterError;
use supervisor::Restart;
pub use tally::{Reconciled, Tokens};
pub use upstream::{LengthField, Upstream, UpstreamKind, UpstreamModel};
pub use worker::WorkerBackend;
pub use worker_protocol::{Device, LoadedModel, ModelState, Totals};

use crate::{
    meter::{RETRY_AFTER_S, Ticket},
    work::Work,
};
use affinity::{Affinity, Beginnings};
use choice::Terms;
use credential::Placed;
use domain::Error;
use futures::StreamExt;
use health::Phase;
use member::{Lease, Member};
use registry::Registry;
use std::{
    collections::{BTreeSet, HashMap},
    fmt,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError, RwLock,
        atomic::{AtomicUsize, Ordering},
    },
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
use tower::retry::budget::{Budget, TpsBudget};
use worker_protocol::{Event, FailCode};

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
        let terms = Terms { order: upstream.order, weight: upstream.weight, costs, breaks: true, expects: Vec::new() };
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
    /// not start, the old one stays.
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

    /// How the counters of each worker agree with what was heard of it, since this process began.
    pub(crate) fn reconciled(&self) -> Vec<(String, Reconciled)> {
        self.members().iter().map(|member| (member.name.clone(), member.reconciled())).collect()
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
        self.members().retain(|other| !Arc::ptr_eq(other, member));
        member.left.cancel();
        member.detach(Phase::Down, "has left");
    }

    /// A request is tried for the first time.
    pub(crate) fn count_request(&self) {
        self.inner.retries.deposit();
    }

    /// It may be tried once more.
    pub(crate) fn may_retry(&self) -> bool {
        self.inner.retries.withdraw()
    }

    /// Picks a backend and starts the work on it. `avoid` are members that could not take it just now. Once `stopping` is
    /// cancelled nobody is asked any more; a backend that counts to the end is still heard, so that it can be told.
    pub(crate) async fn dispatch(
        &self,
        ticket: &Ticket,
        work: &Work,
        avoid: &[MemberId],
        stopping: &CancellationToken,
    ) -> Result<Dispatched, DispatchError> {
        let beginnings = self.beginnings(work);
        let leased = stopping.run_until_cancelled(self.lease(work.model(), &beginnings, avoid)).await;
        let mut lease = leased.ok_or(DispatchError::Stopped)?.map_err(DispatchError::NoWorker)?;
        let (member, began) = (lease.member.id, Instant::now());
        place::name(&lease.member.name, lease.backend.as_ref());
        let starting = lease.backend.start(ticket, work);
        let started = if lease.backend.counts_to_the_end() {
            starting.await
        } else {
            stopping.run_until_cancelled(starting).await.ok_or(DispatchError::Stopped)?
        };
        match started {
            Ok(events) => {
                self.inner.affinity.remember(&beginnings, member);
                Ok(Dispatched { events: timed(events, &lease, work.model(), began), lease })
            }
            // It was not asked, so nothing is known of it.
            Err(BackendError::Unfit(message)) => Err(DispatchError::Unfit(member, message)),
            Err(error) => {
                lease.judge(false);
                lease.member.unanswered(work.model(), began.elapsed());
                if matches!(error, BackendError::Lost(_)) {
                    lease.suspect();
                }
                Err(DispatchError::Backend(member, error))
            }
        }
    }

    /// What there is to remember of a request; nothing where there is nobody to choose between.
    fn beginnings(&self, work: &Work) -> Beginnings {
        let choice = self.members().iter().filter(|member| member.carries(work.model())).nth(1).is_some();
        if choice { self.inner.affinity.beginnings(work) } else { Beginnings::default() }
    }

    /// The best ready backend; waits for one that is on its way.
    async fn lease(&self, model: &str, beginnings: &Beginnings, avoid: &[MemberId]) -> Result<Lease, Error> {
        // Who need not wait need not listen for changes either.
        if let Some(lease) = self.pick(model, beginnings, avoid) {
            return Ok(lease);
        }
        let deadline = Instant::now() + self.inner.timing.wait;
        let mut changed = self.inner.changed.subscribe();
        loop {
            changed.mark_unchanged();
            if let Some(lease) = self.pick(model, beginnings, avoid) {
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

    /// The member that gets it; see [`choice::choose`].
    fn pick(&self, model: &str, beginnings: &Beginnings, avoid: &[MemberId]) -> Option<Lease> {
        let knows = self.inner.affinity.best(beginnings);
        let prefer = self.inner.preferences.read().unwrap_or_else(PoisonError::into_inner).get(model).copied().unwrap_or_default();
        // The lock is held until the lease counts, so that many at once spread out.
        let members = self.members();
        let offers = members.iter().filter(|member| !avoid.contains(&member.id)).filter_map(|member| {
            let (load, backend) = member.offer(model)?;
            Some((member.candidate(model, load), (member, backend)))
        });
        let (candidates, offers): (Vec<_>, Vec<_>) = offers.unzip();
        let chosen = choice::choose(prefer, knows, &candidates, rand::random())?;
        let (member, backend) = offers.into_iter().find(|(member, _)| member.id == chosen)?;
        Some(Lease::new(member.clone(), backend))
    }
}

/// The same events; when the first output came, or that none does, is known to the member from then on.
fn timed(events: EventStream, lease: &Lease, model: &str, began: Instant) -> EventStream {
    let mut waiting = Some((lease.member.clone(), model.to_owned()));
    let seen = move |event: &Result<Event, BackendError>| {
        let output = matches!(event, Ok(Event::Text { .. } | Event::Reasoning { .. } | Event::ToolCall { .. } | Event::Vectors { .. }));
        let fault = matches!(event, Err(_) | Ok(Event::Failed { code: FailCode::Overloaded | FailCode::Engine, .. }));
        if (output || fault)
            && let Some((member, model)) = waiting.take()
        {
            let took = began.elapsed();
            if output { member.answered(&model, took) } else { member.unanswered(&model, took) }
        }
    };
    events.inspect(seen).boxed()
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

    /// Its name for operators.
    pub(crate) fn served_by(&self) -> &str {
        &self.lease.member.name
    }

    /// Where it runs.
    pub(crate) fn backend(&self) -> Arc<dyn Backend> {
        self.lease.backend.clone()
    }

    /// What was heard of the answer, for the comparison with its worker's counters.
    pub(crate) fn hear(&mut self, event: &Event) {
        self.lease.heard.hear(event);
    }

    /// The connection was lost.
    pub(crate) fn suspect(&mut self) {
        self.lease.judge(false);
        self.lease.suspect();
    }

    /// What came so far speaks for its backend, or against it.
    pub(crate) fn judge(&mut self, well: bool) {
        self.lease.judge(well);
    }
}

/// Why a completion did not start.
pub(crate) enum DispatchError {
    /// None is ready, and none became ready in time; for the caller as it is.
    NoWorker(Error),
    /// An end was asked for meanwhile.
    Stopped,
    /// The chosen one has no word for it; the sentence is for the caller.
    Unfit(MemberId, String),
    /// The chosen one did not take it.
    Backend(MemberId, BackendError),
}

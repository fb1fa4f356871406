//! Answers that are told again (ADR 19): exactly what was asked before, within one tenant, for whoever asks for it.
//!
//! An answer is found by a keyed hash of everything that it depends on, and by nothing else: neither its text nor whose it
//! is can be guessed from outside of the process. Only what is deterministic is kept, only whole answers, and only in the
//! memory of this process.

mod answer;
mod flights;
mod key;
mod shelves;

pub(crate) use answer::{Answer, Recording};
pub(crate) use key::{of_completion, of_inputs};

use crate::{
    Inference,
    catalogue::ModelConfig,
    generation::{Cached, Generation, Route},
    guard::Rules,
    meter::{Figures, Reservation, partition},
    observe::{Observed, Seen},
};
use contract::{Millis, ids::TenantId};
use domain::{Actor, Clock, Result};
use flights::{Flight, Flights, Turn};
use key::{Key, Secret};
use shelves::Shelves;
use std::{
    collections::{BTreeSet, HashMap},
    sync::{
        Arc,
        atomic::{AtomicU64, AtomicUsize, Ordering},
    },
    time::Duration,
};
use store::{Db, Topic, Watched, response_caches::CacheTerms, usage::Outcome};
use tokio::{
    sync::oneshot,
    time::{Instant, timeout},
};
use tokio_util::sync::CancellationToken;
use worker_protocol::Usage;

/// What all answers of a process may take if nobody says otherwise, in bytes.
const MEMORY: usize = 64 << 20;
/// The database is asked this often whether a tenant's terms changed.
const LOOK: Duration = Duration::from_secs(1);
/// What is too old is thrown away this often; it is never told, whenever that is.
const TIDY: Duration = Duration::from_secs(10);
/// One answer takes at most one part in so many of what its tenant has.
const PARTS: usize = 4;
/// So long one waits for another before it is computed as well: whoever asked must hear something some time.
const PATIENCE: Duration = Duration::from_secs(30);
/// Who serves it, in an answer's headers.
const SERVED_BY: &str = "response cache";
/// How long an answer that is told again waits for its row in the ledger to be settled, which goes on then.
const SETTLE_PATIENCE: Duration = Duration::from_secs(2);

/// What a request wants of the response cache.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum CacheUse {
    /// Neither an answer that is there, nor that this one is kept.
    #[default]
    Off,
    /// The answer that is there; else this one is kept.
    Use,
    /// A new answer, which takes the place of the one that is there.
    Refresh,
}

/// What the cache of this process does.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct CacheFigures {
    /// Answers told again.
    pub hits: u64,
    /// Answers made because the cache did not have them.
    pub misses: u64,
    /// Answers that are there now.
    pub answers: usize,
    /// What they take.
    pub bytes: usize,
}

/// See the module. Clones share everything.
#[derive(Clone)]
pub(crate) struct ResponseCache {
    inner: Arc<Inner>,
}

struct Inner {
    db: Db,
    clock: Arc<dyn Clock>,
    known: Watched<HashMap<TenantId, CacheTerms>>,
    secret: Secret,
    /// What all answers may take.
    memory: AtomicUsize,
    shelves: Shelves,
    flights: Arc<Flights>,
    hits: AtomicU64,
    misses: AtomicU64,
}

/// A tenant's terms as they hold on this node.
#[derive(Clone, Copy, Debug)]
struct Terms {
    /// How old an answer may be.
    ttl: Millis,
    /// What all answers of the tenant may take, in bytes.
    share: usize,
}

/// What an answer depends on, as the request has it.
pub(crate) struct Content {
    /// The same for the same request.
    bytes: Vec<u8>,
    /// So many vectors are a whole answer; 0 for completions.
    vectors: usize,
}

/// Whether a request's answer may come out of the cache.
pub(crate) enum Asked {
    /// It does not want to.
    Unasked,
    /// It wants to, and must not.
    Bypass,
    Here(Box<Place>),
}

/// Where an answer is, or will be.
pub(crate) struct Place {
    cache: ResponseCache,
    tenant: TenantId,
    key: Key,
    /// Who has to make it: what another model said in this one's place is not what was asked for.
    model: String,
    vectors: usize,
    terms: Terms,
    refresh: bool,
}

/// What came of looking.
pub(crate) enum Look {
    Hit(Hit),
    Make(Making),
}

/// An answer that is there, and how old it is.
pub(crate) struct Hit {
    answer: Arc<Answer>,
    age: Duration,
}

/// What the cache has to do with an answer that is made.
pub(crate) struct Making {
    pub(crate) cached: Cached,
    /// Keeps it, once it is whole.
    pub(crate) recording: Option<Recording>,
}

impl ResponseCache {
    pub(crate) fn new(db: Db, clock: Arc<dyn Clock>) -> Self {
        let inner = Inner {
            db,
            clock,
            known: Watched::new(Topic::ResponseCache),
            secret: Secret::random(),
            memory: AtomicUsize::new(MEMORY),
            shelves: Shelves::default(),
            flights: Arc::default(),
            hits: AtomicU64::new(0),
            misses: AtomicU64::new(0),
        };
        Self { inner: Arc::new(inner) }
    }

    async fn known(&self) -> Result<Arc<HashMap<TenantId, CacheTerms>>> {
        let read = |_| async { Ok(self.inner.db.response_caches().await?.into_iter().collect()) };
        self.inner.known.not_older_than(LOOK, &self.inner.db, read).await
    }

    /// Everybody's share together is never more than there is, so that nobody's answers have to go for somebody else's.
    fn terms(&self, known: &HashMap<TenantId, CacheTerms>, tenant: TenantId) -> Option<Terms> {
        let terms = known.get(&tenant)?;
        let wanted = usize::try_from(terms.memory_mib).unwrap_or(usize::MAX).saturating_mul(1 << 20);
        let share = wanted.min(self.inner.memory.load(Ordering::Relaxed) / known.len().max(1));
        (share > 0).then(|| Terms { ttl: Millis::from(terms.ttl_seconds) * 1000, share })
    }

    async fn tend(&self, stop: CancellationToken) {
        while stop.run_until_cancelled(tokio::time::sleep(TIDY)).await.is_some() {
            // That they could not be read is logged where it is tried, and what is too old is not told meanwhile.
            if let Ok(known) = self.known().await {
                self.inner.shelves.tidy(self.inner.clock.now(), |tenant| self.terms(&known, tenant));
            }
        }
    }
}

impl Asked {
    /// The answer that is there, or the right to make it.
    pub(crate) async fn look(self) -> Look {
        let without = |cached| Look::Make(Making { cached, recording: None });
        match self {
            Self::Unasked => without(Cached::Unasked),
            Self::Bypass => without(Cached::Bypass),
            Self::Here(place) => place.look().await,
        }
    }
}

impl Place {
    async fn look(self: Box<Self>) -> Look {
        if self.refresh {
            return self.make(None);
        }
        if let Some(hit) = self.find() {
            return hit;
        }
        match self.cache.inner.flights.turn(self.key) {
            // The one before may have come to its end since.
            Turn::First(flight) => match self.find() {
                Some(hit) => hit,
                None => self.make(Some(flight)),
            },
            // Whatever became of the one that was waited for, nobody waits twice: a failure is its own.
            Turn::Later(later) => {
                later.over(PATIENCE).await;
                match self.find() {
                    Some(hit) => hit,
                    None => self.make(None),
                }
            }
        }
    }

    fn find(&self) -> Option<Look> {
        let inner = &self.cache.inner;
        let (answer, age) = inner.shelves.find(self.tenant, &self.key, inner.clock.now(), self.terms)?;
        inner.hits.fetch_add(1, Ordering::Relaxed);
        Some(Look::Hit(Hit { answer, age: Duration::from_millis(u64::try_from(age).unwrap_or(0)) }))
    }

    fn make(self: Box<Self>, flight: Option<Flight>) -> Look {
        self.cache.inner.misses.fetch_add(1, Ordering::Relaxed);
        Look::Make(Making { cached: Cached::Miss, recording: Some(Recording::new(self, flight)) })
    }

    fn keep(&self, answer: Answer) {
        let inner = &self.cache.inner;
        inner.shelves.keep(self.tenant, self.key, answer, inner.clock.now(), self.terms);
    }
}

impl Inference {
    /// How much memory answers that are told again may take in this process, in bytes; 0: none are.
    pub fn keep_answers_within(&self, bytes: usize) {
        self.inner.cache.inner.memory.store(bytes, Ordering::Relaxed);
    }

    /// What the response cache of this process does.
    #[must_use]
    pub fn cache_figures(&self) -> CacheFigures {
        let inner = &self.inner.cache.inner;
        let (answers, bytes) = inner.shelves.figures();
        let [hits, misses] = [&inner.hits, &inner.misses].map(|count| count.load(Ordering::Relaxed));
        CacheFigures { hits, misses, answers, bytes }
    }

    /// Throws away answers that are too old, and those of tenants that want none kept any more, until `stop`.
    pub async fn tend_cache(&self, stop: CancellationToken) {
        self.inner.cache.tend(stop).await;
    }

    /// Whether the answer to this may come out of the cache. `content`: `None` if it is not the same each time.
    pub(crate) async fn asked(
        &self,
        actor: &Actor,
        model: &ModelConfig,
        wanted: CacheUse,
        rules: Option<&Rules>,
        content: impl FnOnce() -> Option<Content>,
    ) -> Asked {
        if wanted == CacheUse::Off {
            return Asked::Unasked;
        }
        // Without knowing which weights answer nobody knows what they would say.
        let (Some(content), Some(versions)) = (content(), self.inner.pool.versions(&model.id)) else { return Asked::Bypass };
        let cache = &self.inner.cache;
        // Why terms cannot be read is logged where it is tried; the request does without.
        let Ok(known) = cache.known().await else { return Asked::Bypass };
        let Some(terms) = cache.terms(&known, actor.tenant()) else { return Asked::Bypass };
        let key = cache.inner.secret.key(&[
            partition(actor).as_bytes(),
            model.id.as_bytes(),
            joined(&versions).as_bytes(),
            rules.map_or(&[][..], |rules| &rules.digest[..]),
            &content.bytes,
        ]);
        Asked::Here(Box::new(Place {
            cache: cache.clone(),
            tenant: actor.tenant(),
            key,
            model: model.id.clone(),
            vectors: content.vectors,
            terms,
            refresh: wanted == CacheUse::Refresh,
        }))
    }

    /// Tells an answer again: a use like any other, which is counted, limited and in the ledger, and costs nothing.
    ///
    /// # Errors
    /// As [`Inference::admit`], where a limit refuses it or the use cannot be metered.
    pub(crate) async fn again(
        &self,
        actor: &Actor,
        reservation: Reservation,
        hit: Hit,
        warnings: Vec<String>,
        observed: Observed,
    ) -> Result<Generation> {
        self.apart(observed, |observed, tell| self.clone().tell_again(actor.clone(), reservation, hit, warnings, observed, tell)).await
    }

    async fn tell_again(
        self,
        actor: Actor,
        reservation: Reservation,
        hit: Hit,
        warnings: Vec<String>,
        observed: Observed,
        tell: oneshot::Sender<Result<Generation>>,
    ) {
        let began = Instant::now();
        let model = reservation.model.clone();
        let ticket = match self.inner.meter.open(actor, reservation, Vec::new()).await {
            Ok(ticket) => ticket,
            Err(error) => {
                // The caller may be gone, and then nobody wants to know.
                let _ = tell.send(Err(observed.refused(error)));
                return;
            }
        };
        observed.opened(ticket.id());
        // Nothing was computed: the ledger's tokens are those of models.
        let (model_told, usage) = (Some(model.clone()), Usage::default());
        let figures = Figures { outcome: Outcome::Cached, usage, model: model_told, ttft_ms: None, duration_ms: None };
        let cost = ticket.cost(&figures);
        observed.ended(&Seen { figures: &figures, finish: "", error: None, cost, first_output: None, attempts: 0 });
        let route = Route {
            served_by: SERVED_BY.into(),
            model,
            attempts: 0,
            overhead: began.elapsed(),
            limits: ticket.limits(),
            warnings,
            cost,
            cached: Cached::Hit { age: hit.age },
        };
        let generation = Generation::again(ticket.id(), route, &hit.answer);
        if let Some(settled) = ticket.settle(figures) {
            // It goes on, whether or not this wait sees the end of it.
            let _ = timeout(SETTLE_PATIENCE, settled).await;
        }
        let _ = tell.send(Ok(generation));
    }
}

/// Lengths go before, so that no two sets look alike.
fn joined(versions: &BTreeSet<String>) -> String {
    versions.iter().map(|version| format!("{}:{version}", version.len())).collect()
}

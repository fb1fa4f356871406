//! One place in the pool: a backend that may come and go, and what is believed about it.

mod lease;

pub(super) use lease::Lease;

use super::{
    PoolTiming,
    backend::{Backend, BackendError},
    breaker::Breaker,
    choice::{Candidate, Terms},
    health::{Health, Phase},
    latency::Latencies,
    tally::{PAST, Reconciled, Rest, Tally},
};
use crate::clearance::Clearance;
use std::{
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU32, AtomicU64, Ordering},
    },
    time::Duration,
};
use tokio::{
    sync::{Notify, watch},
    time::Instant,
};
use tokio_util::sync::CancellationToken;
use worker_protocol::{LoadedModel, ModelState, Status};

/// Identifies a member within its pool.
pub(crate) type MemberId = usize;

/// The load of a member all of whose slots are busy.
pub(super) const FULL: u64 = 1000;

/// See the module.
#[derive(Debug)]
pub(crate) struct Member {
    pub(super) id: MemberId,
    pub(super) name: String,
    terms: Terms,
    seat: Mutex<Seat>,
    latencies: Mutex<Latencies>,
    tally: Mutex<Tally>,
    /// Completions of this process that run on it now.
    in_flight: AtomicU32,
    /// Completions that told something about it.
    answered: AtomicU64,
    failed: AtomicU64,
    poll: Notify,
    /// Wakes whoever waits for [`Member::hung`].
    hung: Notify,
    /// Cancelled when it leaves the pool or the pool ends: nobody polls it any more.
    pub(super) left: CancellationToken,
    /// Wakes those who wait for a backend of any member.
    changed: watch::Sender<u64>,
}

#[derive(Debug, Default)]
struct Seat {
    backend: Option<Arc<dyn Backend>>,
    health: Health,
    breaker: Breaker,
    /// Counts backends and credentials: what was begun with another one says nothing about that of now.
    generation: u64,
}

impl Member {
    pub(super) fn new(id: MemberId, name: String, terms: Terms, left: CancellationToken, changed: watch::Sender<u64>) -> Self {
        Self {
            id,
            name,
            terms,
            seat: Mutex::default(),
            latencies: Mutex::default(),
            tally: Mutex::default(),
            in_flight: AtomicU32::new(0),
            answered: AtomicU64::new(0),
            failed: AtomicU64::new(0),
            poll: Notify::new(),
            hung: Notify::new(),
            left,
            changed,
        }
    }

    fn seat(&self) -> MutexGuard<'_, Seat> {
        self.seat.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn tally(&self) -> MutexGuard<'_, Tally> {
        self.tally.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What it may see.
    pub(super) fn clearance(&self) -> &Clearance {
        &self.terms.clearance
    }

    /// How its counters agree with what was heard of it, since this process began.
    pub(super) fn reconciled(&self) -> Reconciled {
        self.tally().all()
    }

    /// A backend is there; polls will tell whether it is ready.
    pub(super) fn attach(&self, backend: Arc<dyn Backend>) {
        self.update(|seat| {
            self.tally().anew();
            seat.backend = Some(backend);
            seat.anew();
            seat.health.set(Phase::Starting, "starting");
        });
        self.poll.notify_one();
    }

    /// The backend is gone.
    pub(super) fn detach(&self, phase: Phase, reason: &str) {
        self.update(|seat| {
            seat.backend = None;
            seat.health.set(phase, reason);
        });
    }

    /// It is asked with another credential from now on, or, if that is `unusable`, not at all. Failures that the one before may
    /// have caused count no more.
    pub(super) fn recredentialed(&self, unusable: Option<&str>) {
        self.update(|seat| {
            seat.anew();
            match unusable {
                Some(why) => seat.health.set(Phase::Down, why),
                None if seat.health.phase() == Phase::Down => seat.health.set(Phase::Starting, "has another key"),
                None => {}
            }
        });
        self.poll.notify_one();
    }

    /// A completion lost the connection to this very backend.
    fn suspect(&self, backend: &Arc<dyn Backend>) {
        self.update(|seat| {
            if seat.holds(backend) {
                seat.health.suspect();
            }
        });
        self.poll.notify_one();
    }

    /// Changes the seat; logs and wakes the waiting if the phase changed.
    fn update(&self, change: impl FnOnce(&mut Seat)) {
        let (before, after, reason) = {
            let mut seat = self.seat();
            let before = seat.health.phase();
            change(&mut seat);
            (before, seat.health.phase(), seat.health.reason().to_owned())
        };
        if before != after {
            tracing::info!(worker = self.name, ?before, ?after, reason, "worker changed");
            self.changed.send_modify(|version| *version += 1);
        }
    }

    /// Polls for ever, unless the pool ends.
    pub(super) async fn watch(self: Arc<Self>, timing: PoolTiming) {
        let polling = async {
            loop {
                self.poll_once(&timing).await;
                // A lost completion asks at once; the health's own streaks keep a flapping backend out.
                let _ = tokio::time::timeout(timing.poll, self.poll.notified()).await;
            }
        };
        let _: Option<()> = self.left.run_until_cancelled(polling).await;
    }

    pub(super) async fn poll_once(&self, timing: &PoolTiming) {
        let (backend, generation) = {
            let seat = self.seat();
            let Some(backend) = seat.backend.clone() else { return };
            (backend, seat.generation)
        };
        let rest = self.tally().rest();
        let answer = match tokio::time::timeout(timing.answer, backend.status()).await {
            Ok(answer) => answer,
            Err(_) => Err(BackendError::Lost("no answer in time".into())),
        };
        if let Ok(status) = &answer {
            self.compare(&backend, rest, status);
        }
        self.update(|seat| {
            // The supervisor may have put another one into the seat meanwhile, or it may have another credential, with which it is
            // asked next.
            if seat.holds(&backend) && seat.generation == generation {
                seat.health.observe(answer);
                if seat.health.is_hung() {
                    self.hung.notify_one();
                }
            }
        });
    }

    /// Comes back when the engine of this very backend is stuck for good.
    pub(super) async fn hung(&self, backend: &Arc<dyn Backend>) {
        while !self.is_hung(backend) {
            self.hung.notified().await;
        }
    }

    pub(super) fn is_hung(&self, backend: &Arc<dyn Backend>) -> bool {
        let seat = self.seat();
        seat.holds(backend) && seat.health.is_hung()
    }

    /// An answer of this backend begins.
    fn begin(&self, backend: &Arc<dyn Backend>) -> u64 {
        // Held until it is counted: another process must not take the seat in between.
        let seat = self.seat();
        if seat.holds(backend) { self.tally().begin() } else { PAST }
    }

    /// Only workers count as the ledger does.
    fn compare(&self, backend: &Arc<dyn Backend>, rest: Option<Rest>, status: &Status) {
        if !backend.counts_to_the_end() {
            return;
        }
        let drift = {
            // Held until it is compared: what comes after it was detached would be lost.
            let seat = self.seat();
            if !seat.holds(backend) {
                return;
            }
            self.tally().compare(rest, status)
        };
        if drift > 0 {
            tracing::error!(worker = self.name, tokens = drift, "a worker's counters and what was heard of its answers differ");
        }
    }

    /// A ready backend with the model, and how loaded it is (thousandths of its slots). One that has to load the model
    /// first counts as busier than one that is full: somewhere else it may be at hand.
    pub(super) fn offer(&self, model: &str) -> Option<(u64, Arc<dyn Backend>)> {
        let seat = self.seat();
        let loaded = seat.health.ready_models().find(|loaded| loaded.id == model)?;
        if !seat.breaker.admits(Instant::now()) {
            return None;
        }
        // Its own figures are up to one poll old, ours are exact but ours alone.
        let reported = seat.health.status().map_or(0, |status| status.busy + status.queued);
        let load = u64::from(reported.max(self.in_flight.load(Ordering::Relaxed)));
        let absent = if loaded.state == ModelState::Ready { 0 } else { 2 * FULL };
        Some((load * FULL / u64::from(loaded.slots.max(1)) + absent, seat.backend.clone()?))
    }

    /// What speaks for it, where its [`Member::offer`] has this load.
    pub(super) fn candidate(&self, model: &str, load: u64) -> Candidate {
        let Terms { order, weight, costs, .. } = &self.terms;
        Candidate {
            id: self.id,
            order: *order,
            load,
            weight: *weight,
            cost: costs.get(model).copied().unwrap_or(0),
            latency: self.latencies.lock().unwrap_or_else(PoisonError::into_inner).of(model, Instant::now()),
            idle: self.in_flight.load(Ordering::Relaxed) == 0,
        }
    }

    /// The first output of this model came after `took`.
    pub(super) fn answered(&self, model: &str, took: Duration) {
        self.latencies.lock().unwrap_or_else(PoisonError::into_inner).observe(model, took, Instant::now());
    }

    /// It had no room for this model or failed after `took`, before any output.
    pub(super) fn unanswered(&self, model: &str, took: Duration) {
        self.latencies.lock().unwrap_or_else(PoisonError::into_inner).penalise(model, took, Instant::now());
    }

    /// It may have the model soon.
    pub(super) fn is_hopeful(&self, model: &str) -> bool {
        let seat = self.seat();
        self.may_have(&seat, model) && matches!(seat.health.phase(), Phase::Starting | Phase::Suspect)
    }

    /// It has the model, or may have it, now or later.
    pub(super) fn carries(&self, model: &str) -> bool {
        self.may_have(&self.seat(), model)
    }

    fn may_have(&self, seat: &Seat, model: &str) -> bool {
        let known = seat.health.status().map_or(&[][..], |status| &status.models);
        if known.is_empty() {
            self.terms.expects.is_empty() || self.terms.expects.iter().any(|expected| expected == model)
        } else {
            known.iter().any(|known| known.id == model)
        }
    }

    /// Which version of the model it has, as it says; `None` if it does not have the model.
    pub(super) fn version(&self, model: &str) -> Option<String> {
        let seat = self.seat();
        let known = seat.health.status()?.models.iter().find(|known| known.id == model)?;
        Some(known.version.clone())
    }

    /// Who sits here now.
    pub(super) fn backend(&self) -> Option<Arc<dyn Backend>> {
        self.seat().backend.clone()
    }

    pub(super) fn is_ready(&self) -> bool {
        self.seat().health.ready_models().next().is_some()
    }

    /// Completions of this process that run on it now.
    pub(super) fn in_flight(&self) -> u32 {
        self.in_flight.load(Ordering::Relaxed)
    }

    /// How many it answered.
    pub(super) fn answers(&self) -> u64 {
        self.answered.load(Ordering::Relaxed)
    }

    /// In how many it failed.
    pub(super) fn failures(&self) -> u64 {
        self.failed.load(Ordering::Relaxed)
    }

    /// Its circuit is open.
    pub(super) fn is_left_alone(&self) -> bool {
        !self.seat().breaker.admits(Instant::now())
    }

    /// For people: `worker-1: loading its model`.
    pub(super) fn describe(&self) -> String {
        let seat = self.seat();
        let known = seat.health.status().filter(|_| seat.health.phase() == Phase::Ready);
        let models = known.iter().flat_map(|status| &status.models).map(described).collect::<Vec<_>>().join(", ");
        match seat.health.phase() {
            Phase::Ready if !seat.breaker.admits(Instant::now()) => format!("{}: left alone after failures", self.name),
            Phase::Ready if models.is_empty() => format!("{}: ready without a model", self.name),
            Phase::Ready => format!("{}: ready with {models}", self.name),
            _ => format!("{}: {}", self.name, seat.health.reason()),
        }
    }
}

/// For people: `llama-8b`, and more where it would have to be loaded first.
fn described(model: &LoadedModel) -> String {
    let LoadedModel { id, state, problem, .. } = model;
    match state {
        ModelState::Ready => id.clone(),
        ModelState::Loading => format!("{id} (loading)"),
        ModelState::Absent | ModelState::Draining => format!("{id} (loaded when asked for)"),
        ModelState::Failed => format!("{id} (cannot be loaded: {})", problem.as_deref().unwrap_or("see the log")),
    }
}

impl Seat {
    /// Nothing that was begun so far tells anything about who sits here from now on.
    fn anew(&mut self) {
        self.breaker = Breaker::default();
        self.generation += 1;
    }

    fn holds(&self, backend: &Arc<dyn Backend>) -> bool {
        self.backend.as_ref().is_some_and(|held| Arc::ptr_eq(held, backend))
    }
}

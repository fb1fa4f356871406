//! Which models are in memory, and the way in to one.
//!
//! A model that is asked for and is not there is loaded; if there is no room, others go first. They take nothing new,
//! what runs in them ends, then their memory is given back. Loads happen one after the other, against memory that is
//! reserved before ([`facts`]) and corrected by what was measured ([`ledger`], [`machine`]), also among the processes of
//! the machine ([`turn`]). Who comes is decided in [`shares`], who goes in [`plan`]; `steward` does it.

mod facts;
mod ledger;
mod machine;
mod plan;
mod shares;
mod steward;
mod turn;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use tokio::sync::watch;
use worker_protocol::{LoadedModel, ModelState, PROTOCOL, State, Status};

use crate::bound::Bound;
use crate::engine::Engine;
use crate::engine::queue::flows::Flow;
use crate::options::{ModelOptions, Options};
use crate::power::Meters;
use crate::shared::{Admission, House, Shared};
use facts::Facts;
use plan::Need;
use shares::Wish;
pub use steward::Steward;

/// What those are told who ask a worker that ends.
const ENDS: &str = "the worker is shutting down";

/// All models of this process. Clones share them.
#[derive(Clone)]
pub struct Residents {
    places: Arc<[Place]>,
    pub house: Arc<House>,
}

/// A model's place, taken or not.
struct Place {
    options: ModelOptions,
    /// The only one: it is loaded whether anybody asks or not, and without it the worker is of no use.
    vital: bool,
    /// What the file's header tells; `None` if it tells nothing.
    facts: Option<Facts>,
    seat: Mutex<Seat>,
    phase: watch::Sender<Phase>,
}

#[derive(Default)]
struct Seat {
    stay: Option<Arc<Stay>>,
    /// Requests that wait until it is loaded.
    waiting: Bound,
    /// Whose they are, and since when they wait; by their numbers there, which is the order in which they came.
    wishes: BTreeMap<u64, (Arc<str>, Instant)>,
    /// What its load waits for, if it has to.
    obstacle: Option<String>,
    used: Option<Instant>,
    /// Bytes that it took when it was loaded last.
    measured: Option<u64>,
}

/// A model in memory.
pub struct Stay {
    pub shared: Arc<Shared>,
    pub engine: Engine,
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
enum Phase {
    #[default]
    Absent,
    Loading,
    Ready,
    /// Takes nothing new.
    Draining,
    /// It cannot be loaded now, and why.
    Failed(String),
}

/// The right to ask a loaded model.
pub struct Guest {
    pub stay: Arc<Stay>,
    /// One for each completion, one in any case.
    pub admissions: Vec<Admission>,
}

/// Why there is no way in.
#[derive(Debug, PartialEq, Eq)]
pub enum NoEntry {
    /// It is none of this worker's.
    Unknown,
    /// So many requests run or wait already.
    Full(u32),
    /// It waited for the model, and made room for somebody else who does.
    Displaced,
    /// It cannot be loaded, or the worker ends.
    Unavailable(String),
}

impl Residents {
    pub fn new(options: &Options) -> Self {
        let vital = options.models.len() == 1;
        let on_card = machine::on_card(&options.models);
        let place = |model: &ModelOptions| Place {
            vital,
            facts: Facts::read(model, on_card),
            options: model.clone(),
            seat: Mutex::default(),
            phase: watch::Sender::new(if vital { Phase::Loading } else { Phase::Absent }),
        };
        Self { places: options.models.iter().map(place).collect(), house: Arc::default() }
    }

    /// Waits until the model is loaded, in this flow's name. `waits` hears how many wait for it, once, if it is not.
    /// No completions take no place in any queue.
    pub async fn enter(&self, model: &str, flow: &Flow, count: u32, waits: impl FnOnce(u32)) -> Result<Guest, NoEntry> {
        let place = self.places.iter().find(|place| place.options.id == model).ok_or(NoEntry::Unknown)?;
        let mut waits = Some(waits);
        let mut phase = place.phase.subscribe();
        let mut demand: Option<Demand<'_>> = None;
        loop {
            if self.house.draining.load(Relaxed) {
                return Err(NoEntry::Unavailable(ENDS.into()));
            }
            // A value of its own: a borrow that lasts would keep the steward waiting, who may hold the seat's lock.
            let now = phase.borrow_and_update().clone();
            match now {
                Phase::Ready => {
                    if let Some(guest) = place.admit(flow, count)? {
                        return Ok(guest);
                    }
                }
                Phase::Failed(why) => return Err(NoEntry::Unavailable(why)),
                Phase::Absent | Phase::Loading | Phase::Draining => {
                    // After the phase was looked at: whoever takes the place changes it afterwards.
                    if demand.as_ref().is_some_and(Demand::is_displaced) {
                        return Err(NoEntry::Displaced);
                    }
                    if demand.is_none() {
                        demand = Some(Demand::new(place, flow, count.min(1))?);
                        self.house.changed.notify_one();
                    }
                    if let Some(waits) = waits.take() {
                        waits(place.seat.lock().waiting.inside().saturating_sub(1));
                    }
                }
            }
            if phase.changed().await.is_err() {
                return Err(NoEntry::Unavailable("the worker has ended".into()));
            }
        }
    }

    pub fn status(&self) -> Status {
        let models: Vec<LoadedModel> = self.places.iter().map(Place::info).collect();
        let loads = |model: &LoadedModel| model.state == ModelState::Loading;
        let answers = |model: &LoadedModel| matches!(model.state, ModelState::Ready | ModelState::Draining);
        let state = if self.house.draining.load(Relaxed) {
            State::Draining
        } else if models.iter().any(loads) && !models.iter().any(answers) {
            State::Loading
        } else {
            State::Ready
        };
        let (mut busy, mut queued, mut overdue) = (0, 0, Duration::ZERO);
        for seat in self.places.iter().map(|place| place.seat.lock()) {
            let shared = seat.stay.as_ref().map(|stay| &stay.shared);
            let (runs, waits) = shared.map_or((0, 0), |shared| shared.load());
            overdue = overdue.max(shared.map_or(Duration::ZERO, |shared| shared.pulse.overdue()));
            busy += runs;
            queued += waits + seat.waiting.inside();
        }
        let stuck_ms = u64::try_from(overdue.as_millis()).unwrap_or(u64::MAX);
        let (totals, devices) = (self.house.totals.read(), Meters::here().read());
        Status { protocol: PROTOCOL, state, models, busy, queued, stuck_ms, totals, devices }
    }
}

impl Place {
    /// Only under the seat's lock is it certain that nobody who comes in is sent away with the model.
    fn admit(&self, flow: &Flow, count: u32) -> Result<Option<Guest>, NoEntry> {
        let mut seat = self.seat.lock();
        let Some(stay) = seat.stay.clone().filter(|_| *self.phase.borrow() == Phase::Ready) else { return Ok(None) };
        let limit = self.options.slots.saturating_add(self.options.queue_limit);
        let admissions = Admission::acquire(&stay.shared, flow, count, limit);
        seat.used = Some(Instant::now());
        Ok(Some(Guest { stay, admissions: admissions.ok_or(NoEntry::Full(limit))? }))
    }

    fn info(&self) -> LoadedModel {
        let obstacle = |absent: bool| {
            let seat = self.seat.lock();
            // What nobody waits for any more has none.
            seat.obstacle.clone().filter(|_| !absent || !seat.waiting.is_empty())
        };
        // A value of its own: see `Residents::enter`.
        let now = self.phase.borrow().clone();
        let (state, problem) = match now {
            Phase::Absent => (ModelState::Absent, obstacle(true)),
            Phase::Loading => (ModelState::Loading, obstacle(false)),
            Phase::Ready => (ModelState::Ready, None),
            Phase::Draining => (ModelState::Draining, None),
            Phase::Failed(why) => (ModelState::Failed, Some(why)),
        };
        let loaded = self.seat.lock().stay.as_ref().and_then(|stay| stay.shared.model.get().map(|model| model.info.clone()));
        let memory = self.bytes();
        let known = loaded.or_else(|| self.facts.as_ref().map(|facts| facts.info.clone()));
        let unknown = || LoadedModel { id: self.options.id.clone(), ..LoadedModel::default() };
        LoadedModel { state, problem, memory, ..known.unwrap_or_else(unknown) }
    }

    /// What it takes: measured if it was loaded once, else estimated.
    fn bytes(&self) -> u64 {
        let estimate = || self.facts.as_ref().map_or(0, |facts| facts.info.memory);
        self.seat.lock().measured.unwrap_or_else(estimate)
    }

    fn need(&self) -> Need {
        let total = self.bytes();
        let parts = self.facts.as_ref().map_or(1, |facts| facts.parts);
        Need { total, piece: total / u64::from(parts.max(1)) }
    }

    /// Who waits for this one, which has that number.
    fn wishes(&self, place: usize) -> Vec<Wish> {
        let seat = self.seat.lock();
        // For who made room and has not been told yet, nothing is to be loaded.
        let waits = seat.wishes.iter().filter(|(request, _)| !seat.waiting.is_displaced(**request));
        waits.map(|(_, (tenant, since))| Wish { tenant: tenant.clone(), place, since: *since }).collect()
    }
}

/// Somebody waits for a model.
struct Demand<'a> {
    place: &'a Place,
    /// Its number among those who wait.
    request: u64,
}

impl<'a> Demand<'a> {
    fn new(place: &'a Place, flow: &Flow, places: u32) -> Result<Self, NoEntry> {
        let limit = place.options.queue_limit;
        let mut seat = place.seat.lock();
        let entered = seat.waiting.enter(flow, places, limit).ok_or(NoEntry::Full(limit))?;
        seat.wishes.insert(entered.number, (flow.tenant.as_str().into(), Instant::now()));
        drop(seat);
        if entered.displaces {
            // The phase is what it was, but whoever made room wakes up and finds out.
            place.phase.send_modify(|_| {});
        }
        Ok(Self { place, request: entered.number })
    }

    fn is_displaced(&self) -> bool {
        self.place.seat.lock().waiting.is_displaced(self.request)
    }
}

impl Drop for Demand<'_> {
    fn drop(&mut self) {
        let mut seat = self.place.seat.lock();
        seat.waiting.leave(self.request);
        seat.wishes.remove(&self.request);
    }
}

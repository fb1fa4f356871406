//! Loads models and lets them go, one at a time.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::{Duration, Instant};

use tokio::task::{JoinError, JoinSet};
use tokio_util::sync::CancellationToken;

use super::plan::{Step, Tenancy, make_room};
use super::{ENDS, Phase, Place, Residents, Stay, facts};
use crate::engine::Engine;
use crate::error::Error;
use crate::options::Options;
use crate::shared::Shared;

/// A model that could not be loaded is tried again after so long, if it is asked for.
const FAILED: Duration = Duration::from_secs(15);
/// How long memory may take to come back after a model has gone.
const RELEASE: Duration = Duration::from_secs(5);
/// Looked at again at the latest after so long while somebody waits.
const LOOK: Duration = Duration::from_secs(1);

/// See the module.
pub struct Steward {
    residents: Residents,
    memory: Option<u64>,
    residence: Duration,
    /// In use before anything was loaded.
    base: u64,
    /// The cards whose memory counts; `None`: the processor's does.
    on_card: Option<Vec<usize>>,
    /// Memory that did not come back.
    withheld: u64,
    /// Models that are loaded without anybody asking, as far as there is room.
    wished: Vec<usize>,
    /// What lives or is about to go, by place.
    lives: BTreeMap<usize, Life>,
    failures: BTreeMap<usize, Instant>,
    last_exchange: Option<Instant>,
    /// Ends of engines.
    engines: JoinSet<(usize, Result<(), Error>)>,
}

/// A model in memory.
struct Life {
    bytes: u64,
    /// By how much memory in use had grown when it was loaded.
    seen: u64,
    state: Stage,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    Loading {
        began: Instant,
        before: u64,
    },
    Here {
        since: Instant,
    },
    /// Running answers come to their end.
    Draining,
    /// Its engine ends.
    Leaving {
        before: u64,
    },
}

impl Steward {
    pub fn new(options: &Options, residents: Residents) -> Self {
        let cards: BTreeSet<usize> = options.models.iter().flat_map(|model| model.cards.iter().copied()).collect();
        let on_card = options.models.iter().any(|model| model.gpu_layers > 0).then(|| cards.into_iter().collect::<Vec<_>>());
        let mut wished: Vec<usize> = (0..options.models.len()).collect();
        // From behind: the last one is next.
        wished.sort_by_key(|place| (options.models[*place].pinned, std::cmp::Reverse(*place)));
        Self {
            residents,
            memory: options.memory,
            residence: options.residence,
            base: facts::in_use(on_card.as_deref()),
            on_card,
            withheld: 0,
            wished,
            lives: BTreeMap::new(),
            failures: BTreeMap::new(),
            last_exchange: None,
            engines: JoinSet::new(),
        }
    }

    /// Works until `stop`, then ends all engines.
    ///
    /// # Errors
    /// The only model cannot be loaded, or an engine failed.
    pub async fn run(mut self, stop: CancellationToken) -> Result<(), Error> {
        loop {
            let look = self.act()?;
            tokio::select! {
                () = stop.cancelled() => return self.close().await,
                Some(ended) = self.engines.join_next() => self.ended(ended).await?,
                () = self.residents.house.changed.notified() => {}
                () = tokio::time::sleep(look.unwrap_or(Duration::MAX)) => {}
            }
        }
    }

    fn place(&self, place: usize) -> &Place {
        &self.residents.places[place]
    }

    /// Does what can be done now; returns when to look again.
    fn act(&mut self) -> Result<Option<Duration>, Error> {
        self.forgive();
        self.welcome();
        self.dismiss_idle();
        if self.residents.house.draining.load(Relaxed) {
            self.turn_away();
            return Ok(None);
        }
        if self.lives.values().any(|life| !matches!(life.state, Stage::Here { .. })) {
            return Ok(Some(LOOK));
        }
        let Some((place, wanted)) = self.next() else {
            return Ok((!self.failures.is_empty()).then_some(LOOK));
        };
        let need = self.place(place).bytes();
        let step = match self.memory {
            Some(memory) => {
                let free = self.free(memory);
                make_room(need, free, &self.tenancies(), self.residence, self.last_exchange.map(|then| then.elapsed()))
            }
            None => Step::Load,
        };
        if self.wished.last() == Some(&place) && (!wanted || matches!(step, Step::Load | Step::Never)) {
            self.wished.pop();
        }
        match step {
            Step::Load => self.load(place, need)?,
            // Nobody asked, and it does not fit.
            _ if !wanted => {}
            Step::Drain(leaving) => {
                tracing::info!(model = self.place(place).options.id, ?leaving, "others make room for a model");
                self.last_exchange = Some(Instant::now());
                leaving.into_iter().for_each(|leaving| self.drain(leaving));
                self.dismiss_idle();
            }
            Step::Later(wait) => return Ok(Some(wait.min(LOOK))),
            Step::Never => {
                let problem = format!("the model needs {} MiB of memory, more than the worker may give it", need >> 20);
                if self.place(place).vital {
                    return Err(Error::Model { path: self.place(place).options.path.clone(), problem });
                }
                self.fail(place, problem);
            }
        }
        Ok(Some(LOOK))
    }

    /// The model to load next, and whether somebody waits for it: who waits longest, then what was wished for.
    fn next(&mut self) -> Option<(usize, bool)> {
        let absent = |place: &usize| !self.lives.contains_key(place) && !self.failures.contains_key(place);
        let since = |place: usize| Some((self.place(place).seat.lock().waiting_since?, place));
        let asked = (0..self.residents.places.len()).filter(absent).filter_map(since).min();
        if let Some((_, place)) = asked {
            return Some((place, true));
        }
        while let Some(place) = self.wished.last().copied() {
            if !self.lives.contains_key(&place) && !self.failures.contains_key(&place) {
                let Place { vital, options, .. } = self.place(place);
                return Some((place, *vital || options.pinned));
            }
            self.wished.pop();
        }
        None
    }

    /// Nothing is loaded any more: who waits for a model may ask another worker.
    fn turn_away(&self) {
        for (number, place) in self.residents.places.iter().enumerate() {
            if !self.lives.contains_key(&number) {
                place.phase.send_replace(Phase::Failed(ENDS.into()));
            }
        }
    }

    /// What is neither reserved nor still occupied by somebody who has gone.
    fn free(&mut self, memory: u64) -> u64 {
        self.withheld = self.withheld.min(self.unexplained());
        memory.saturating_sub(self.reserved()).saturating_sub(self.withheld)
    }

    fn reserved(&self) -> u64 {
        self.lives.values().map(|life| life.bytes).sum()
    }

    /// What is in use and reserved by nobody.
    fn unexplained(&self) -> u64 {
        facts::in_use(self.on_card.as_deref()).saturating_sub(self.base).saturating_sub(self.reserved())
    }

    fn tenancies(&self) -> Vec<Tenancy> {
        let tenancy = |(place, life): (&usize, &Life)| {
            let Stage::Here { since } = life.state else { return None };
            let seat = self.place(*place).seat.lock();
            Some(Tenancy {
                place: *place,
                bytes: life.bytes,
                idle: seat.stay.as_ref().is_none_or(|stay| stay.shared.is_idle()),
                age: since.elapsed(),
                unused: seat.used.unwrap_or(since).elapsed(),
            })
        };
        self.lives.iter().filter(|(place, _)| !self.place(**place).options.pinned).filter_map(tenancy).collect()
    }

    fn load(&mut self, place: usize, bytes: u64) -> Result<(), Error> {
        let before = facts::in_use(self.on_card.as_deref());
        let shared = Arc::new(Shared::new(self.residents.house.clone()));
        let (engine, mut ended) = Engine::start(self.place(place).options.clone(), shared.clone())?;
        self.place(place).seat.lock().stay = Some(Arc::new(Stay { shared, engine }));
        self.place(place).phase.send_replace(Phase::Loading);
        tracing::info!(model = self.place(place).options.id, reserved_mib = bytes >> 20, "model loads");
        self.lives.insert(place, Life { bytes, seen: 0, state: Stage::Loading { began: Instant::now(), before } });
        self.engines.spawn(async move { (place, ended.wait().await) });
        Ok(())
    }

    fn drain(&mut self, place: usize) {
        // Whoever gets in before this is still answered; see `Place::admit`.
        let _seat = self.residents.places[place].seat.lock();
        self.residents.places[place].phase.send_replace(Phase::Draining);
        if let Some(life) = self.lives.get_mut(&place) {
            life.state = Stage::Draining;
        }
    }

    /// Ends the engine of one that drained. One at a time, so that what comes back is known to be its memory.
    fn dismiss_idle(&mut self) {
        if self.lives.values().any(|life| matches!(life.state, Stage::Leaving { .. })) {
            return;
        }
        for (place, life) in self.lives.iter_mut().filter(|(_, life)| life.state == Stage::Draining) {
            let mut seat = self.residents.places[*place].seat.lock();
            if seat.stay.as_ref().is_none_or(|stay| stay.shared.is_idle()) {
                life.state = Stage::Leaving { before: facts::in_use(self.on_card.as_deref()) };
                // The engine ends when its last handle is gone.
                seat.stay = None;
                return;
            }
        }
    }

    /// Opens the door to the model that has just been loaded.
    fn welcome(&mut self) {
        let is_there = |place: usize| {
            let seat = self.residents.places[place].seat.lock();
            seat.stay.as_ref().is_some_and(|stay| stay.shared.model.get().is_some())
        };
        let loaded = self.lives.iter().find(|(place, life)| matches!(life.state, Stage::Loading { .. }) && is_there(**place));
        let Some(place) = loaded.map(|(place, _)| *place) else { return };
        let Some(life) = self.lives.get_mut(&place) else { return };
        let Stage::Loading { began, before } = life.state else { return };
        let measured = facts::in_use(self.on_card.as_deref()).saturating_sub(before);
        let model = &self.residents.places[place].options.id;
        tracing::info!(model, reserved_mib = life.bytes >> 20, measured_mib = measured >> 20, took = ?began.elapsed(), "model is here");
        // A card's memory is allocated at once; a processor's counts when it is first touched, so more is to come.
        let later = self.residents.places[place].facts.as_ref().map_or(0, |facts| facts.later);
        let corrected = if self.on_card.is_some() { measured + later } else { measured };
        // A fraction cannot be true: somebody else's memory came back just then.
        if (self.on_card.is_some() && measured > life.bytes / 4) || corrected > life.bytes {
            life.bytes = corrected;
            self.residents.places[place].seat.lock().measured = Some(corrected);
        }
        life.seen = measured;
        life.state = Stage::Here { since: Instant::now() };
        self.residents.house.totals.loads.fetch_add(1, Relaxed);
        self.place(place).phase.send_replace(Phase::Ready);
    }

    async fn ended(&mut self, joined: Result<(usize, Result<(), Error>), JoinError>) -> Result<(), Error> {
        let (place, result) = joined.map_err(|_| Error::EnginePanicked)?;
        let life = self.lives.remove(&place);
        self.place(place).seat.lock().stay = None;
        let (bytes, seen) = life.as_ref().map_or((0, 0), |life| (life.bytes, life.seen));
        match life.map(|life| life.state) {
            Some(Stage::Leaving { before }) => {
                result?;
                self.await_release(place, before, bytes, seen).await;
                self.place(place).phase.send_replace(Phase::Absent);
                Ok(())
            }
            // One that was never here says nothing against the others.
            Some(Stage::Loading { .. }) if !self.place(place).vital => {
                let why = result.err().map_or_else(|| "the model did not load".into(), |error| error.to_string());
                self.fail(place, why);
                Ok(())
            }
            // An engine that fails may have spoilt what they share.
            _ => Err(result.err().unwrap_or(Error::EnginePanicked)),
        }
    }

    /// A model that is loaded into memory that is not free yet would be one too many.
    async fn await_release(&mut self, place: usize, before: u64, bytes: u64, seen: u64) {
        let (began, model) = (Instant::now(), self.place(place).options.id.clone());
        let released = || before.saturating_sub(facts::in_use(self.on_card.as_deref()));
        while released() < seen / 2 && began.elapsed() < RELEASE {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        let released = released();
        tracing::info!(model, released_mib = released >> 20, took = ?began.elapsed(), "model has gone");
        if released < seen / 2 {
            self.withheld = self.unexplained();
            tracing::warn!(model, expected_mib = seen >> 20, withheld_mib = self.withheld >> 20, "its memory did not come back");
        } else if released > bytes {
            // It had grown; the next time so much is reserved.
            self.place(place).seat.lock().measured = Some(released);
        }
    }

    fn fail(&mut self, place: usize, why: String) {
        tracing::error!(model = self.place(place).options.id, why, "a model cannot be loaded");
        self.failures.insert(place, Instant::now());
        self.place(place).phase.send_replace(Phase::Failed(why));
    }

    /// What failed long enough ago may be tried again.
    fn forgive(&mut self) {
        let places = &self.residents.places;
        self.failures.retain(|place, since| {
            let keep = since.elapsed() < FAILED;
            if !keep {
                places[*place].phase.send_replace(Phase::Absent);
            }
            keep
        });
    }

    /// Ends all engines; what still runs in them is cut off.
    async fn close(mut self) -> Result<(), Error> {
        for place in self.residents.places.iter() {
            if let Some(stay) = place.seat.lock().stay.take() {
                stay.engine.halt(&stay.shared);
            }
            // Whoever waits is told.
            place.phase.send_replace(Phase::Failed(ENDS.into()));
        }
        let mut outcome = Ok(());
        while let Some(ended) = self.engines.join_next().await {
            outcome = outcome.and(ended.map_or(Err(Error::EnginePanicked), |(_, result)| result));
        }
        outcome
    }
}

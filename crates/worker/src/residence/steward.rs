//! Loads models and lets them go, one at a time.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::{Duration, Instant};

use tokio::task::{JoinError, JoinSet};
use tokio_util::sync::CancellationToken;

use super::ledger::{Ledger, Release};
use super::plan::{Step, Tenancy, make_room};
use super::shares::{Next, Shares, Wish};
use super::turn::Turn;
use super::{ENDS, Phase, Place, Residents, Stay, machine};
use crate::engine::Engine;
use crate::error::Error;
use crate::options::Options;
use crate::shared::Shared;

/// A model that could not be loaded is tried again after so long, if it is asked for.
const FAILED: Duration = Duration::from_secs(15);
/// How long memory may take to come back after a model has gone.
const RELEASE: Duration = Duration::from_secs(5);
/// How long a model waits for memory that others have, before those who wait for it are told.
const SHORTAGE: Duration = Duration::from_secs(30);
/// Looked at again at the latest after so long while somebody waits.
const LOOK: Duration = Duration::from_secs(1);
/// And while another process loads.
const TURN: Duration = Duration::from_millis(200);

/// See the module.
pub struct Steward {
    residents: Residents,
    residence: Duration,
    ledger: Ledger,
    /// Held from the look at what is free until the model has been measured.
    turn: Turn,
    shares: Shares,
    /// Others went for this one, so nobody takes their room as long as it is wished for.
    promised: Option<Wish>,
    /// There is too little memory for this one, and since when.
    shortage: Option<(usize, Instant)>,
    /// Models that are loaded without anybody asking, as far as there is room.
    wished: Vec<usize>,
    /// What lives or is about to go, by place.
    lives: BTreeMap<usize, Life>,
    failures: BTreeMap<usize, Instant>,
    last_exchange: Option<Instant>,
    /// Ends of engines.
    engines: JoinSet<(usize, Result<(), Error>)>,
}

/// How it is with a model in memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Life {
    Loading {
        began: Instant,
    },
    Here {
        since: Instant,
    },
    /// Running answers come to their end.
    Draining,
    /// Its engine ends.
    Leaving,
}

impl Steward {
    pub fn new(options: &Options, residents: Residents) -> Self {
        let ledger = Ledger::new(machine::meter(&options.models), options.memory);
        Self::with(options, residents, ledger)
    }

    fn with(options: &Options, residents: Residents, ledger: Ledger) -> Self {
        let mut wished: Vec<usize> = (0..options.models.len()).collect();
        // From behind: the last one is next.
        wished.sort_by_key(|place| (options.models[*place].pinned, std::cmp::Reverse(*place)));
        Self {
            residents,
            residence: options.residence,
            turn: Turn::new(options.lock_dir.as_deref(), &ledger.names()),
            ledger,
            shares: Shares::default(),
            promised: None,
            shortage: None,
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
        if self.lives.values().any(|life| !matches!(life, Life::Here { .. })) {
            return Ok(Some(LOOK));
        }
        let Some(next) = self.next() else {
            return Ok((!self.failures.is_empty()).then_some(LOOK));
        };
        let (place, wanted) = (next.place(), next.is_firm());
        let step = match self.decide_in_turn(place) {
            Ok(step) => step,
            Err(holder) => {
                self.place(place).seat.lock().obstacle = Some(format!("it waits for {holder}"));
                return Ok(Some(TURN));
            }
        };
        if self.wished.last() == Some(&place) && (!wanted || matches!(step, Step::Load | Step::Never)) {
            self.wished.pop();
        }
        if step != Step::Short {
            self.shortage = None;
            self.place(place).seat.lock().obstacle = None;
        }
        match step {
            Step::Load => self.load(next)?,
            // Nobody asked, and it does not fit.
            _ if !wanted => {}
            Step::Drain(leaving) => {
                tracing::info!(model = self.place(place).options.id, ?leaving, "others make room for a model");
                self.last_exchange = Some(Instant::now());
                leaving.into_iter().for_each(|leaving| self.drain(leaving));
                self.promised = next.wish();
                self.dismiss_idle();
            }
            Step::Later(wait) => return Ok(Some(wait.min(LOOK))),
            Step::Never => self.refuse(place, "more than the worker may give it")?,
            Step::Short => self.lack(place)?,
        }
        Ok(Some(LOOK))
    }

    fn decide(&mut self, place: usize) -> Step {
        let need = self.place(place).need();
        let room = self.ledger.room();
        make_room(&need, &room, &self.tenancies(), self.residence, self.last_exchange.map(|then| then.elapsed()))
    }

    /// [`Steward::decide`]; if the model is to be loaded, no other process of the machine loads one from now on.
    ///
    /// # Errors
    /// Who loads one.
    fn decide_in_turn(&mut self, place: usize) -> Result<Step, String> {
        let step = self.decide(place);
        if step != Step::Load {
            return Ok(step);
        }
        let model = self.place(place).options.id.clone();
        self.turn.take(&model, Instant::now())?;
        // Another process may have loaded since.
        let step = self.decide(place);
        if step != Step::Load {
            self.turn.give_back();
        }
        Ok(step)
    }

    /// The model to load next: a wish as [`Shares::first`] has it, then what was wished for at the start.
    fn next(&mut self) -> Option<Next> {
        let is_absent = |place: &usize| !self.lives.contains_key(place) && !self.failures.contains_key(place);
        let absent = (0..self.residents.places.len()).filter(is_absent);
        let wishes: Vec<Wish> = absent.flat_map(|place| self.place(place).wishes(place)).collect();
        let is_promised =
            |wish: &&Wish| self.promised.as_ref().is_some_and(|kept| (kept.place, &kept.tenant) == (wish.place, &wish.tenant));
        let promised = wishes.iter().find(is_promised).cloned();
        let asked = promised.clone().or_else(|| self.shares.first(&wishes, Instant::now()).cloned());
        self.promised = promised;
        if let Some(wish) = asked {
            return Some(Next::Asked(wish));
        }
        while let Some(place) = self.wished.last().copied() {
            if !self.lives.contains_key(&place) && !self.failures.contains_key(&place) {
                let Place { vital, options, .. } = self.place(place);
                return Some(Next::Wished { place, firm: *vital || options.pinned });
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

    fn tenancies(&self) -> Vec<Tenancy> {
        let tenancy = |(place, life): (&usize, &Life)| {
            let Life::Here { since } = life else { return None };
            let seat = self.place(*place).seat.lock();
            Some(Tenancy {
                place: *place,
                bytes: self.ledger.reserved(*place),
                idle: seat.stay.as_ref().is_none_or(|stay| stay.shared.is_idle()),
                age: since.elapsed(),
                unused: seat.used.unwrap_or(*since).elapsed(),
            })
        };
        self.lives.iter().filter(|(place, _)| !self.place(**place).options.pinned).filter_map(tenancy).collect()
    }

    fn load(&mut self, next: Next) -> Result<(), Error> {
        let place = next.place();
        let need = self.place(place).need();
        self.ledger.reserve(place, &need);
        let shared = Arc::new(Shared::new(self.residents.house.clone()));
        let (engine, mut ended) = Engine::start(self.place(place).options.clone(), shared.clone())?;
        self.place(place).seat.lock().stay = Some(Arc::new(Stay { shared, engine }));
        self.place(place).phase.send_replace(Phase::Loading);
        tracing::info!(model = self.place(place).options.id, reserved_mib = need.total >> 20, "model loads");
        self.lives.insert(place, Life::Loading { began: Instant::now() });
        if let Some(wish) = next.wish() {
            self.shares.charge(&wish.tenant, Instant::now());
        }
        self.promised = None;
        self.engines.spawn(async move { (place, ended.wait().await) });
        Ok(())
    }

    /// There is too little memory now. Others may give some back, so it is looked at again for a while.
    fn lack(&mut self, place: usize) -> Result<(), Error> {
        let since = self.shortage.filter(|(lacks, _)| *lacks == place).map_or_else(Instant::now, |(_, since)| since);
        let free = self.ledger.describe();
        if since.elapsed() >= SHORTAGE {
            self.shortage = None;
            return self.refuse(place, &format!("others have it ({free})"));
        }
        let place_of = self.place(place);
        if self.shortage.is_none() {
            tracing::warn!(
                model = place_of.options.id,
                need_mib = place_of.bytes() >> 20,
                free,
                "a model waits for memory that others have"
            );
        }
        place_of.seat.lock().obstacle = Some(format!("it waits for memory ({free})"));
        self.shortage = Some((place, since));
        Ok(())
    }

    /// A model cannot be loaded for want of memory; without its only one the worker is of no use.
    fn refuse(&mut self, place: usize, why: &str) -> Result<(), Error> {
        let Place { vital, options, .. } = self.place(place);
        let problem = format!("the model needs {} MiB of memory, {why}", self.place(place).bytes() >> 20);
        if *vital {
            return Err(Error::Model { path: options.path.clone(), problem });
        }
        self.fail(place, problem);
        Ok(())
    }

    fn drain(&mut self, place: usize) {
        // Whoever gets in before this is still answered; see `Place::admit`.
        let _seat = self.residents.places[place].seat.lock();
        self.residents.places[place].phase.send_replace(Phase::Draining);
        if let Some(life) = self.lives.get_mut(&place) {
            *life = Life::Draining;
        }
    }

    /// Ends the engine of one that drained. One at a time, so that what comes back is known to be its memory.
    fn dismiss_idle(&mut self) {
        if self.lives.values().any(|life| *life == Life::Leaving) {
            return;
        }
        for (place, life) in self.lives.iter_mut().filter(|(_, life)| **life == Life::Draining) {
            let mut seat = self.residents.places[*place].seat.lock();
            if seat.stay.as_ref().is_none_or(|stay| stay.shared.is_idle()) {
                *life = Life::Leaving;
                self.ledger.leaves(*place);
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
        let loading = |(place, life): (&usize, &Life)| match life {
            Life::Loading { began } if is_there(*place) => Some((*place, *began)),
            _ => None,
        };
        let Some((place, began)) = self.lives.iter().find_map(loading) else { return };
        let later = self.place(place).facts.as_ref().map_or(0, |facts| facts.later);
        let reserved: u64 = self.ledger.reserved(place).iter().sum();
        let (measured, corrected) = self.ledger.loaded(place, later);
        self.turn.give_back();
        let model = &self.place(place).options.id;
        tracing::info!(model, reserved_mib = reserved >> 20, measured_mib = measured >> 20, took = ?began.elapsed(), "model is here");
        if corrected.is_some() {
            self.place(place).seat.lock().measured = corrected;
        }
        self.lives.insert(place, Life::Here { since: Instant::now() });
        self.residents.house.totals.loads.fetch_add(1, Relaxed);
        self.place(place).phase.send_replace(Phase::Ready);
    }

    async fn ended(&mut self, joined: Result<(usize, Result<(), Error>), JoinError>) -> Result<(), Error> {
        let (place, result) = joined.map_err(|_| Error::EnginePanicked)?;
        self.place(place).seat.lock().stay = None;
        match self.lives.remove(&place) {
            Some(Life::Leaving) => {
                result?;
                self.await_release(place).await;
                self.place(place).phase.send_replace(Phase::Absent);
                Ok(())
            }
            // One that was never here says nothing against the others.
            Some(Life::Loading { .. }) if !self.place(place).vital => {
                self.ledger.forget(place);
                self.turn.give_back();
                let why = result.err().map_or_else(|| "the model did not load".into(), |error| error.to_string());
                self.fail(place, why);
                Ok(())
            }
            // An engine that fails may have spoilt what they share.
            _ => Err(result.err().unwrap_or(Error::EnginePanicked)),
        }
    }

    /// A model that is loaded into memory that is not free yet would be one too many.
    async fn await_release(&mut self, place: usize) {
        let (began, model) = (Instant::now(), self.place(place).options.id.clone());
        while !self.ledger.is_back(place) && began.elapsed() < RELEASE {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        let Release { released, withheld, grown } = self.ledger.release(place);
        tracing::info!(model, released_mib = released >> 20, took = ?began.elapsed(), "model has gone");
        if withheld > 0 {
            tracing::warn!(
                model,
                withheld_mib = withheld >> 20,
                "memory did not come back; it is not given to others as long as it is in use"
            );
        }
        if grown.is_some() {
            self.place(place).seat.lock().measured = grown;
        }
    }

    fn fail(&mut self, place: usize, why: String) {
        tracing::error!(model = self.place(place).options.id, why, "a model cannot be loaded");
        self.place(place).seat.lock().obstacle = None;
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

#[cfg(test)]
mod tests;

//! What the HTTP side and the engines both look at.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering::Relaxed};

use parking_lot::FairMutex;
use tokio::sync::{Notify, SetOnce};
use worker_protocol::Totals;

use crate::error::Error;
use crate::model::Model;

/// Of the whole process.
#[derive(Default)]
pub struct House {
    /// Shutdown was asked for.
    pub draining: AtomicBool,
    pub totals: Counters,
    /// Whoever computes a step has it. Several models that compute at once would keep each other's threads waiting at
    /// every operation; so they take turns, in the order in which they asked.
    pub turn: FairMutex<()>,
    /// Wakes the steward: somebody asks for a model, it is loaded, or the last one who used it left.
    pub changed: Notify,
}

/// One model's stay in memory; every field may be read at any time.
#[derive(Default)]
pub struct Shared {
    pub house: Arc<House>,
    /// Set once the model is loaded and warmed up.
    pub model: SetOnce<Model>,
    /// The engine gives up at its next step, whatever it is doing.
    pub halted: AtomicBool,
    /// Requests running, waiting or being tokenised; see [`Admission`].
    inside: AtomicU32,
    /// Of each of the engine's lanes.
    busy: [AtomicU32; 2],
    queued: [AtomicU32; 2],
}

/// Since start.
#[derive(Default)]
pub struct Counters {
    pub requests: AtomicU64,
    pub prompt_tokens: AtomicU64,
    pub cached_tokens: AtomicU64,
    pub completion_tokens: AtomicU64,
    pub evaluated_tokens: AtomicU64,
    pub drafted_tokens: AtomicU64,
    pub accepted_tokens: AtomicU64,
    pub evicted_cells: AtomicU64,
    pub pauses: AtomicU64,
    pub loads: AtomicU64,
}

impl Shared {
    pub fn new(house: Arc<House>) -> Self {
        Self { house, ..Self::default() }
    }

    /// The model can be asked from now on.
    ///
    /// # Errors
    /// It could be before.
    pub fn loaded(&self, model: Model) -> Result<(), Error> {
        self.model.set(model).map_err(|_| Error::Engine("the model was loaded twice".into()))?;
        self.house.changed.notify_one();
        Ok(())
    }

    /// Nobody is inside.
    pub fn is_idle(&self) -> bool {
        self.inside.load(Relaxed) == 0
    }

    /// Sequences that run, and requests that wait for a slot.
    pub fn load(&self) -> (u32, u32) {
        (sum(&self.busy), sum(&self.queued))
    }

    /// What one of the engine's lanes does.
    pub fn publish(&self, lane: usize, busy: usize, queued: usize) {
        let number = |n: usize| u32::try_from(n).unwrap_or(u32::MAX);
        self.busy[lane].store(number(busy), Relaxed);
        self.queued[lane].store(number(queued), Relaxed);
    }
}

fn sum(counts: &[AtomicU32]) -> u32 {
    counts.iter().map(|count| count.load(Relaxed)).sum()
}

impl Counters {
    /// A completion began: its prompt is charged now, its tokens as they come.
    pub fn started(&self, prompt_tokens: u32, cached_tokens: u32) {
        self.requests.fetch_add(1, Relaxed);
        self.prompt_tokens.fetch_add(prompt_tokens.into(), Relaxed);
        self.cached_tokens.fetch_add(cached_tokens.into(), Relaxed);
    }

    pub fn produced_one(&self) {
        self.completion_tokens.fetch_add(1, Relaxed);
    }

    pub fn read(&self) -> Totals {
        Totals {
            requests: self.requests.load(Relaxed),
            prompt_tokens: self.prompt_tokens.load(Relaxed),
            cached_tokens: self.cached_tokens.load(Relaxed),
            completion_tokens: self.completion_tokens.load(Relaxed),
            evaluated_tokens: self.evaluated_tokens.load(Relaxed),
            drafted_tokens: self.drafted_tokens.load(Relaxed),
            accepted_tokens: self.accepted_tokens.load(Relaxed),
            evicted_cells: self.evicted_cells.load(Relaxed),
            pauses: self.pauses.load(Relaxed),
            loads: self.loads.load(Relaxed),
        }
    }
}

/// A request's right to be in a model's engine, running or waiting; given back when dropped.
pub struct Admission(Arc<Shared>);

impl Admission {
    /// `None` if `limit` requests are in there already.
    pub fn acquire(shared: &Arc<Shared>, limit: u32) -> Option<Self> {
        let count = |inside: u32| (inside < limit).then_some(inside + 1);
        shared.inside.fetch_update(Relaxed, Relaxed, count).ok().map(|_| Self(shared.clone()))
    }
}

impl Drop for Admission {
    fn drop(&mut self) {
        if self.0.inside.fetch_sub(1, Relaxed) == 1 {
            self.0.house.changed.notify_one();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn admissions_are_bounded_and_come_back() {
        let shared = Arc::new(Shared::default());
        let first = Admission::acquire(&shared, 1);
        assert!(first.is_some() && !shared.is_idle());
        assert!(Admission::acquire(&shared, 1).is_none());
        drop(first);
        assert!(shared.is_idle() && Admission::acquire(&shared, 1).is_some());
    }
}

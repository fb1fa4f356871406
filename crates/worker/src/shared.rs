//! What the HTTP side and the engines both look at.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering::Relaxed};

use parking_lot::{FairMutex, Mutex};
use tokio::sync::{Notify, SetOnce};
use worker_protocol::Totals;

use crate::bound::Bound;
use crate::engine::queue::flows::Flow;
use crate::error::Error;
use crate::model::Model;
use crate::pulse::Pulse;

/// Of the whole process.
#[derive(Default)]
pub struct House {
    /// Shutdown was asked for.
    pub draining: AtomicBool,
    pub totals: Counters,
    /// Whoever computes a step has it. Several models that compute at once would keep each other's threads waiting at
    /// every operation; so they take turns, in the order in which they asked.
    pub turn: FairMutex<()>,
    /// Answers that are being written, of all models.
    readers: AtomicU32,
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
    /// The steps of both of the engine's lanes: one thread computes them.
    pub pulse: Pulse,
    /// Requests running, waiting or being tokenised; see [`Admission`].
    inside: Mutex<Bound>,
    /// Of each of the engine's lanes.
    busy: [AtomicU32; 2],
    queued: [AtomicU32; 2],
    readers: [AtomicU32; 2],
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
    pub forced_tokens: AtomicU64,
    pub evicted_cells: AtomicU64,
    pub pauses: AtomicU64,
    pub loads: AtomicU64,
}

impl House {
    /// Answers that are being written and wait for their next token, of all models.
    pub fn readers(&self) -> u32 {
        self.readers.load(Relaxed)
    }
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
        self.inside.lock().is_empty()
    }

    /// Sequences that run, and requests that wait for a slot.
    pub fn load(&self) -> (u32, u32) {
        (sum(&self.busy), sum(&self.queued))
    }

    /// What one of the engine's lanes does.
    pub fn publish(&self, lane: usize, busy: usize, queued: usize) {
        self.busy[lane].store(number(busy), Relaxed);
        self.queued[lane].store(number(queued), Relaxed);
    }

    /// How many answers one of the engine's lanes is writing.
    pub fn publish_readers(&self, lane: usize, readers: usize) {
        let now = number(readers);
        let before = self.readers[lane].swap(now, Relaxed);
        // Atomic numbers wrap around, so this takes away where there are fewer now.
        self.house.readers.fetch_add(now.wrapping_sub(before), Relaxed);
    }
}

fn number(n: usize) -> u32 {
    u32::try_from(n).unwrap_or(u32::MAX)
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
            forced_tokens: self.forced_tokens.load(Relaxed),
            evicted_cells: self.evicted_cells.load(Relaxed),
            pauses: self.pauses.load(Relaxed),
            loads: self.loads.load(Relaxed),
        }
    }
}

/// A completion's right to be in a model's engine, running or waiting; given back when dropped.
pub struct Admission {
    shared: Arc<Shared>,
    /// Its request's number in the [`Bound`].
    request: u64,
}

impl Admission {
    /// One for each of `count` completions of a request of `flow`; one that takes no place if there are none. `None` if `limit` are in there already and nobody
    /// makes room, see [`Bound::enter`].
    pub fn acquire(shared: &Arc<Shared>, flow: &Flow, count: u32, limit: u32) -> Option<Vec<Self>> {
        let entered = shared.inside.lock().enter(flow, count, limit)?;
        Some((0..count.max(1)).map(|_| Self { shared: shared.clone(), request: entered.number }).collect())
    }

    /// The request does not wait any more, so it stays to its end. False if its place was taken before.
    pub fn begin(&self) -> bool {
        self.shared.inside.lock().begin(self.request)
    }

    /// Somebody else has the place; the request is to end.
    pub fn is_displaced(&self) -> bool {
        self.shared.inside.lock().is_displaced(self.request)
    }
}

impl Drop for Admission {
    fn drop(&mut self) {
        let mut inside = self.shared.inside.lock();
        inside.leave(self.request);
        if inside.is_empty() {
            self.shared.house.changed.notify_one();
        }
    }
}

#[cfg(test)]
mod tests {
    use worker_protocol::Priority;

    use super::*;

    fn flow(tenant: &str) -> Flow {
        Flow { tenant: tenant.into(), priority: Priority::Interactive }
    }

    #[test]
    fn admissions_are_bounded_and_come_back() {
        let shared = Arc::new(Shared::default());
        let first = Admission::acquire(&shared, &flow("a"), 2, 2);
        assert!(first.is_some() && !shared.is_idle());
        assert!(Admission::acquire(&shared, &flow("a"), 1, 2).is_none());
        drop(first);
        assert!(shared.is_idle() && Admission::acquire(&shared, &flow("a"), 1, 2).is_some());
    }

    #[test]
    fn who_takes_no_place_keeps_the_model_here() {
        let shared = Arc::new(Shared::default());
        let full = Admission::acquire(&shared, &flow("a"), 2, 2).unwrap();
        let guest = Admission::acquire(&shared, &flow("b"), 0, 2).unwrap();
        assert!(guest.len() == 1 && full[0].begin());
        drop(full);
        assert!(!shared.is_idle(), "If you are here because this failed: a model goes while a prompt is being counted.");
        drop(guest);
        assert!(shared.is_idle());
    }

    #[test]
    fn whoever_made_room_is_inside_until_it_has_gone() {
        let shared = Arc::new(Shared::default());
        let flood = Admission::acquire(&shared, &flow("a"), 2, 2).unwrap();
        let other = Admission::acquire(&shared, &flow("b"), 1, 2).unwrap();
        assert!(flood.iter().all(Admission::is_displaced) && !flood[0].begin() && other[0].begin());
        drop(other);
        assert!(!shared.is_idle(), "If you are here because this failed: a model goes while somebody is still to be told.");
        drop(flood);
        assert!(shared.is_idle());
    }

    #[test]
    fn readers_of_all_models_are_counted_together() {
        let house = Arc::new(House::default());
        let (one, two) = (Shared::new(house.clone()), Shared::new(house.clone()));
        one.publish_readers(0, 3);
        one.publish_readers(1, 1);
        two.publish_readers(0, 2);
        assert_eq!(house.readers(), 6);
        one.publish_readers(0, 1);
        two.publish_readers(0, 0);
        assert_eq!(house.readers(), 2);
    }
}

//! What the HTTP side and the engine both look at.

use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, OnceLock};

use worker_protocol::{PROTOCOL, State, Status, Totals};

use crate::model::Model;

/// Counters and state; every field may be read at any time.
#[derive(Default)]
pub struct Shared {
    /// Set once the model is loaded and warmed up.
    pub model: OnceLock<Model>,
    pub draining: AtomicBool,
    /// The engine gives up at its next step, whatever it is doing.
    pub halted: AtomicBool,
    /// Requests running, waiting or being tokenised; see [`Admission`].
    inside: AtomicU32,
    /// Of each of the engine's lanes.
    pub busy: [AtomicU32; 2],
    pub queued: [AtomicU32; 2],
    pub totals: Counters,
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
}

impl Shared {
    pub fn status(&self) -> Status {
        let model = self.model.get();
        Status {
            protocol: PROTOCOL,
            state: match (self.draining.load(Relaxed), model) {
                (true, _) => State::Draining,
                (false, None) => State::Loading,
                (false, Some(_)) => State::Ready,
            },
            models: model.map(|model| model.info.clone()).into_iter().collect(),
            busy: sum(&self.busy),
            queued: sum(&self.queued),
            totals: self.totals.read(),
        }
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

    fn read(&self) -> Totals {
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
        }
    }
}

/// A request's right to be in the worker, running or waiting; given back when dropped.
pub struct Admission(Arc<Shared>);

impl Admission {
    /// `None` if `limit` requests are in the worker already.
    pub fn acquire(shared: &Arc<Shared>, limit: u32) -> Option<Self> {
        let count = |inside: u32| (inside < limit).then_some(inside + 1);
        shared.inside.fetch_update(Relaxed, Relaxed, count).ok().map(|_| Self(shared.clone()))
    }
}

impl Drop for Admission {
    fn drop(&mut self) {
        self.0.inside.fetch_sub(1, Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn admissions_are_bounded_and_come_back() {
        let shared = Arc::new(Shared::default());
        let first = Admission::acquire(&shared, 1);
        assert!(first.is_some());
        assert!(Admission::acquire(&shared, 1).is_none());
        drop(first);
        assert!(Admission::acquire(&shared, 1).is_some());
    }
}

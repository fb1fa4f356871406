//! The use of a member by one completion, and what that tells about it.

use super::{
    super::{
        backend::Backend,
        breaker::{Breaker, Trial},
        tally::Heard,
    },
    Member,
};
use std::sync::{Arc, atomic::Ordering};
use tokio::time::Instant;

/// The right to use a member for one completion; counts as load until it is dropped.
#[derive(Debug)]
pub(in crate::pool) struct Lease {
    pub(in crate::pool) member: Arc<Member>,
    pub(in crate::pool) backend: Arc<dyn Backend>,
    pub(in crate::pool) heard: Heard,
    /// Of the member's process.
    life: u64,
    /// The seat's when it began; `None` if another backend was in there already.
    generation: Option<u64>,
    /// It is to find out whether the circuit may close.
    trial: Option<Trial>,
    judged: bool,
}

impl Lease {
    pub(in crate::pool) fn new(member: Arc<Member>, backend: Arc<dyn Backend>) -> Self {
        member.in_flight.fetch_add(1, Ordering::Relaxed);
        let (generation, trial) = {
            let mut seat = member.seat();
            let held = seat.holds(&backend);
            let trial = if held { seat.breaker.begin() } else { None };
            (held.then_some(seat.generation), trial)
        };
        let life = member.begin(&backend);
        Self { member, backend, heard: Heard::default(), life, generation, trial, judged: false }
    }

    /// A part of its answer came.
    pub(in crate::pool) fn answers(&mut self) {
        if let Some(trial) = self.trial.take() {
            self.tell(|breaker| breaker.answers(trial));
        }
    }

    /// What this completion says about the backend, for its circuit breaker.
    pub(in crate::pool) fn judge(&mut self, well: bool) {
        if std::mem::replace(&mut self.judged, true) {
            return;
        }
        let count = if well { &self.member.answered } else { &self.member.failed };
        count.fetch_add(1, Ordering::Relaxed);
        if !self.member.terms.breaks {
            return;
        }
        let trial = self.trial;
        self.tell(|breaker| if well { breaker.succeeded() } else { breaker.failed(Instant::now(), trial) });
    }

    /// Tells the circuit breaker, unless that is of another backend or credential by now.
    fn tell(&self, what: impl FnOnce(&mut Breaker)) {
        let mut seat = self.member.seat();
        if self.generation == Some(seat.generation) {
            what(&mut seat.breaker);
        }
    }

    /// The connection was lost: nobody else shall run into that before a poll succeeded.
    pub(in crate::pool) fn suspect(&self) {
        self.member.suspect(&self.backend);
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        if !self.judged {
            self.tell(|breaker| breaker.told_nothing(self.trial));
        }
        self.member.tally().end(self.life, &self.heard);
        self.member.in_flight.fetch_sub(1, Ordering::Relaxed);
    }
}

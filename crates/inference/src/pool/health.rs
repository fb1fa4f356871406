//! What the pool believes about a backend, from its answers. No I/O.

use super::backend::BackendError;
use worker_protocol::{LoadedModel, ModelState, PROTOCOL, State, Status};

/// Failed polls in a row after which a backend counts as down.
const DOWN_AFTER: u32 = 3;
/// Good polls in a row after which a backend that was down is used again.
const UP_AFTER: u32 = 2;
/// A step that takes so much longer than it may takes a backend out as failed polls do: all who come would wait behind it.
const STUCK_MS: u64 = 30_000;
/// After so much more nobody waits for its end.
const HUNG_MS: u64 = 60_000;
/// Polls in a row that must say so. A process that was stopped for a while says so as well, until its step is over.
const HUNG_AFTER: u32 = 20;

/// May it be used?
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Phase {
    /// Not yet: starting, loading, restarting. Worth waiting for.
    Starting,
    Ready,
    /// A completion lost it; the next poll tells. Worth waiting for.
    Suspect,
    /// Not, and not soon.
    Down,
}

/// The belief and what it rests on.
#[derive(Clone, Debug)]
pub(crate) struct Health {
    phase: Phase,
    /// Equal answers in a row that speak against the phase.
    streak: u32,
    /// Polls in a row that told of a step without an end.
    hung: u32,
    /// The last good answer.
    status: Option<Status>,
    /// Why it is not ready, for the log and for `/readyz`.
    reason: String,
}

impl Default for Health {
    fn default() -> Self {
        Self { phase: Phase::Starting, streak: 0, hung: 0, status: None, reason: "starting".into() }
    }
}

impl Health {
    pub(crate) fn phase(&self) -> Phase {
        self.phase
    }

    pub(crate) fn status(&self) -> Option<&Status> {
        self.status.as_ref()
    }

    /// Empty when ready.
    pub(crate) fn reason(&self) -> &str {
        &self.reason
    }

    /// The models it can be asked for, some of which it may have to load first; none if it may not be used.
    pub(crate) fn ready_models(&self) -> impl Iterator<Item = &LoadedModel> {
        let usable = self.status.iter().filter(|_| self.phase == Phase::Ready);
        usable.flat_map(|status| &status.models).filter(|model| model.state != ModelState::Failed)
    }

    /// Takes the answer to a poll into account.
    pub(crate) fn observe(&mut self, answer: Result<Status, BackendError>) {
        match answer {
            Ok(status) if status.protocol != PROTOCOL => {
                self.become_(Phase::Down, format!("speaks protocol {}, not {PROTOCOL}", status.protocol));
            }
            Ok(status) => self.observe_status(status),
            Err(error) => {
                // It may be stopped, and then it says nothing about its engine.
                self.hung = 0;
                self.observe_failure(error.to_string());
            }
        }
    }

    /// Its engine does not come to the end of a step, and will not any more.
    pub(crate) fn is_hung(&self) -> bool {
        self.hung >= HUNG_AFTER
    }

    fn observe_status(&mut self, status: Status) {
        self.hung = if status.stuck_ms >= HUNG_MS { self.hung.saturating_add(1) } else { 0 };
        match status.state {
            State::Loading => self.become_(Phase::Starting, "loading its model".into()),
            State::Draining => self.become_(Phase::Down, "shutting down".into()),
            State::Ready if status.stuck_ms >= STUCK_MS => self.observe_failure("its engine does not come to the end of a step".into()),
            State::Ready if self.phase == Phase::Down => {
                self.streak += 1;
                if self.streak >= UP_AFTER {
                    self.become_(Phase::Ready, String::new());
                }
            }
            State::Ready => self.become_(Phase::Ready, String::new()),
        }
        self.status = Some(status);
    }

    fn observe_failure(&mut self, why: String) {
        if self.phase == Phase::Down {
            self.streak = 0;
            return;
        }
        self.streak += 1;
        if self.streak >= DOWN_AFTER {
            self.become_(Phase::Down, why);
        }
    }

    /// A completion lost the connection: do not use it before a poll succeeded.
    pub(crate) fn suspect(&mut self) {
        if self.phase == Phase::Ready {
            self.become_(Phase::Suspect, "lost the connection".into());
        }
    }

    /// It is known to be (re)starting, or not to come back soon.
    pub(crate) fn set(&mut self, phase: Phase, reason: impl Into<String>) {
        self.status = None;
        self.hung = 0;
        self.become_(phase, reason.into());
    }

    fn become_(&mut self, phase: Phase, reason: String) {
        self.phase = phase;
        self.reason = reason;
        self.streak = 0;
    }
}

#[cfg(test)]
mod tests {
    use super::{DOWN_AFTER, HUNG_AFTER, HUNG_MS, Health, Phase, STUCK_MS};
    use crate::pool::BackendError;
    use worker_protocol::{LoadedModel, PROTOCOL, State, Status, Totals};

    fn status(state: State) -> Status {
        let models = vec![LoadedModel { id: "m".into(), context_length: 4096, slots: 4, ..LoadedModel::default() }];
        Status { protocol: PROTOCOL, state, models, busy: 0, queued: 0, stuck_ms: 0, totals: Totals::default(), devices: Vec::new() }
    }

    fn lost() -> Result<Status, BackendError> {
        Err(BackendError::Lost("refused".into()))
    }

    #[test]
    fn one_bad_poll_does_not_take_a_backend_out_and_one_good_poll_does_not_bring_it_back() {
        let mut health = Health::default();
        health.observe(Ok(status(State::Loading)));
        assert_eq!(health.phase(), Phase::Starting);
        health.observe(Ok(status(State::Ready)));
        assert_eq!(health.ready_models().map(|model| model.id.as_str()).collect::<Vec<_>>(), ["m"]);

        health.observe(lost());
        health.observe(lost());
        assert_eq!(health.phase(), Phase::Ready);
        health.observe(lost());
        assert_eq!(health.phase(), Phase::Down);

        health.observe(Ok(status(State::Ready)));
        health.observe(lost());
        health.observe(Ok(status(State::Ready)));
        assert_eq!(health.phase(), Phase::Down, "a flapping backend must stay out");
        health.observe(Ok(status(State::Ready)));
        assert_eq!(health.phase(), Phase::Ready);
    }

    #[test]
    fn a_lost_completion_takes_it_out_until_the_next_good_poll() {
        let mut health = Health::default();
        health.observe(Ok(status(State::Ready)));
        health.suspect();
        assert_eq!(health.phase(), Phase::Suspect);
        assert_eq!(health.ready_models().count(), 0);
        health.observe(Ok(status(State::Ready)));
        assert_eq!(health.phase(), Phase::Ready);
    }

    fn stuck(stuck_ms: u64) -> Result<Status, BackendError> {
        Ok(Status { stuck_ms, ..status(State::Ready) })
    }

    #[test]
    fn an_engine_that_does_not_end_its_step_takes_a_backend_out_until_it_does() {
        let mut health = Health::default();
        health.observe(stuck(STUCK_MS - 1));
        assert_eq!(health.phase(), Phase::Ready);
        (1..DOWN_AFTER).for_each(|_| health.observe(stuck(STUCK_MS)));
        assert_eq!(health.phase(), Phase::Ready);
        health.observe(stuck(STUCK_MS));
        assert_eq!((health.phase(), health.is_hung()), (Phase::Down, false), "{}", health.reason());
        health.observe(stuck(0));
        health.observe(stuck(0));
        assert_eq!(health.phase(), Phase::Ready);
    }

    #[test]
    fn only_an_engine_that_says_so_again_and_again_is_taken_for_hung() {
        let mut health = Health::default();
        let mut says = |answer: &Result<Status, BackendError>, polls: u32| {
            (0..polls).for_each(|_| health.observe(answer.clone()));
            health.is_hung()
        };
        assert!(!says(&stuck(HUNG_MS - 1), 100));
        // As one that was stopped: first it does not answer, then its last step seems to have taken as long.
        for answer in [lost(), stuck(0)] {
            let hung = says(&stuck(HUNG_MS), HUNG_AFTER - 1) || says(&answer, 1);
            assert!(!hung, "If you are here because this failed: a worker that is stopped for a while is ended afterwards.");
        }
        assert!(says(&stuck(HUNG_MS), HUNG_AFTER));
        health.set(Phase::Starting, "restarting");
        assert!(!health.is_hung(), "that was another process");
    }

    #[test]
    fn another_protocol_is_refused() {
        let mut health = Health::default();
        health.observe(Ok(Status { protocol: PROTOCOL + 1, ..status(State::Ready) }));
        assert_eq!(health.phase(), Phase::Down);
    }
}

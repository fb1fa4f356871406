//! What the pool believes about a backend, from its answers. No I/O.

use super::backend::BackendError;
use worker_protocol::{LoadedModel, ModelState, PROTOCOL, State, Status};

/// Failed polls in a row after which a backend counts as down.
const DOWN_AFTER: u32 = 3;
/// Good polls in a row after which a backend that was down is used again.
const UP_AFTER: u32 = 2;

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
    /// The last good answer.
    status: Option<Status>,
    /// Why it is not ready, for the log and for `/readyz`.
    reason: String,
}

impl Default for Health {
    fn default() -> Self {
        Self { phase: Phase::Starting, streak: 0, status: None, reason: "starting".into() }
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
            Err(error) => self.observe_failure(&error),
        }
    }

    fn observe_status(&mut self, status: Status) {
        match status.state {
            State::Loading => self.become_(Phase::Starting, "loading its model".into()),
            State::Draining => self.become_(Phase::Down, "shutting down".into()),
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

    fn observe_failure(&mut self, error: &BackendError) {
        if self.phase == Phase::Down {
            self.streak = 0;
            return;
        }
        self.streak += 1;
        if self.streak >= DOWN_AFTER {
            self.become_(Phase::Down, error.to_string());
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
    use super::{Health, Phase};
    use crate::pool::BackendError;
    use worker_protocol::{LoadedModel, PROTOCOL, State, Status, Totals};

    fn status(state: State) -> Status {
        let models = vec![LoadedModel { id: "m".into(), context_length: 4096, slots: 4, ..LoadedModel::default() }];
        Status { protocol: PROTOCOL, state, models, busy: 0, queued: 0, totals: Totals::default(), devices: Vec::new() }
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

    #[test]
    fn another_protocol_is_refused() {
        let mut health = Health::default();
        health.observe(Ok(Status { protocol: PROTOCOL + 1, ..status(State::Ready) }));
        assert_eq!(health.phase(), Phase::Down);
    }
}

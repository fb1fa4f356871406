//! From a piece of work to the backend that does it: who is picked, who is waited for, what runs there.

use super::{
    Pool,
    affinity::Beginnings,
    backend::{Backend, BackendError, EventStream},
    choice,
    member::{Lease, MemberId},
    place, within,
};
use crate::{
    clearance::Bounds,
    meter::{RETRY_AFTER_S, Ticket},
    work::Work,
};
use domain::Error;
use futures::StreamExt;
use std::sync::{Arc, PoisonError};
use tokio::time::{Instant, timeout_at};
use tokio_util::sync::CancellationToken;
use worker_protocol::{Event, FailCode};

impl Pool {
    /// Picks a backend within the bounds and starts the work on it. `avoid` are members that could not take it just now. Once
    /// `stopping` is cancelled nobody is asked any more; a backend that counts to the end is still heard, so that it can be told.
    pub(crate) async fn dispatch(
        &self,
        ticket: &Ticket,
        bounds: &Bounds,
        work: &Work,
        avoid: &[MemberId],
        stopping: &CancellationToken,
    ) -> Result<Dispatched, DispatchError> {
        let beginnings = self.beginnings(work);
        let leased = stopping.run_until_cancelled(self.lease(work.model(), bounds, &beginnings, avoid)).await;
        let mut lease = leased.ok_or(DispatchError::Stopped)?.map_err(DispatchError::NoWorker)?;
        let (member, began) = (lease.member.id, Instant::now());
        place::name(&lease.member.name, lease.backend.as_ref());
        let starting = lease.backend.start(ticket, work);
        let started = if lease.backend.counts_to_the_end() {
            starting.await
        } else {
            stopping.run_until_cancelled(starting).await.ok_or(DispatchError::Stopped)?
        };
        match started {
            Ok(events) => {
                self.inner.affinity.remember(&beginnings, member);
                Ok(Dispatched { events: timed(events, &lease, work.model(), began), lease })
            }
            // It was not asked, so nothing is known of it.
            Err(BackendError::Unfit(message)) => Err(DispatchError::Unfit(member, message)),
            Err(error) => {
                lease.judge(false);
                lease.member.unanswered(work.model(), began.elapsed());
                if matches!(error, BackendError::Lost(_)) {
                    lease.suspect();
                }
                Err(DispatchError::Backend(member, error))
            }
        }
    }

    /// What there is to remember of a request; nothing where there is nobody to choose between.
    pub(super) fn beginnings(&self, work: &Work) -> Beginnings {
        let choice = self.members().iter().filter(|member| member.carries(work.model())).nth(1).is_some();
        if choice { self.inner.affinity.beginnings(work) } else { Beginnings::default() }
    }

    /// The best ready backend; waits for one that is on its way.
    pub(super) async fn lease(&self, model: &str, bounds: &Bounds, beginnings: &Beginnings, avoid: &[MemberId]) -> Result<Lease, Error> {
        // Who need not wait need not listen for changes either.
        if let Some(lease) = self.pick(model, bounds, beginnings, avoid) {
            return Ok(lease);
        }
        let deadline = Instant::now() + self.inner.timing.wait;
        let mut changed = self.inner.changed.subscribe();
        loop {
            changed.mark_unchanged();
            if let Some(lease) = self.pick(model, bounds, beginnings, avoid) {
                return Ok(lease);
            }
            // Those to avoid would not get it even if they came back.
            let hope = within(&self.members(), model, bounds).any(|member| !avoid.contains(&member.id) && member.is_hopeful(model));
            // The sender lives in `self`, so the only end of waiting without a change is the deadline.
            if !hope || !matches!(timeout_at(deadline, changed.changed()).await, Ok(Ok(()))) {
                tracing::warn!(model, state = self.describe(), "no worker for a completion");
                return Err(Error::unavailable("model", Some(RETRY_AFTER_S)));
            }
        }
    }

    /// The member that gets it; see [`choice::choose`].
    fn pick(&self, model: &str, bounds: &Bounds, beginnings: &Beginnings, avoid: &[MemberId]) -> Option<Lease> {
        let knows = self.inner.affinity.best(beginnings);
        let prefer = self.inner.preferences.read().unwrap_or_else(PoisonError::into_inner).get(model).copied().unwrap_or_default();
        // The lock is held until the lease counts, so that many at once spread out.
        let members = self.members();
        let offers = within(&members, model, bounds).filter(|member| !avoid.contains(&member.id)).filter_map(|member| {
            let (load, backend) = member.offer(model)?;
            Some((member.candidate(model, load), (member, backend)))
        });
        let (candidates, offers): (Vec<_>, Vec<_>) = offers.unzip();
        let chosen = choice::choose(prefer, knows, &candidates, rand::random())?;
        let (member, backend) = offers.into_iter().find(|(member, _)| member.id == chosen)?;
        Some(Lease::new(member.clone(), backend))
    }
}

/// The same events; when the first output came, or that none does, is known to the member from then on.
fn timed(events: EventStream, lease: &Lease, model: &str, began: Instant) -> EventStream {
    let mut waiting = Some((lease.member.clone(), model.to_owned()));
    let seen = move |event: &Result<Event, BackendError>| {
        let output = event.as_ref().is_ok_and(is_output);
        let fault = matches!(event, Err(_) | Ok(Event::Failed { code: FailCode::Overloaded | FailCode::Engine, .. }));
        if (output || fault)
            && let Some((member, model)) = waiting.take()
        {
            let took = began.elapsed();
            if output { member.answered(&model, took) } else { member.unanswered(&model, took) }
        }
    };
    events.inspect(seen).boxed()
}

/// A part of an answer.
fn is_output(event: &Event) -> bool {
    matches!(event, Event::Text { .. } | Event::Reasoning { .. } | Event::ToolCall { .. } | Event::Vectors { .. })
}

/// A completion that runs on a backend. Dropping it cancels.
pub(crate) struct Dispatched {
    pub(crate) events: EventStream,
    lease: Lease,
}

impl Dispatched {
    /// Who runs it.
    pub(crate) fn member(&self) -> MemberId {
        self.lease.member.id
    }

    /// Its name for operators.
    pub(crate) fn served_by(&self) -> &str {
        &self.lease.member.name
    }

    /// Where it runs.
    pub(crate) fn backend(&self) -> Arc<dyn Backend> {
        self.lease.backend.clone()
    }

    /// What was heard of the answer, for the comparison with its worker's counters and for the circuit breaker.
    pub(crate) fn hear(&mut self, event: &Event) {
        self.lease.heard.hear(event);
        if is_output(event) {
            self.lease.answers();
        }
    }

    /// The connection was lost.
    pub(crate) fn suspect(&mut self) {
        self.lease.judge(false);
        self.lease.suspect();
    }

    /// What came so far speaks for its backend, or against it.
    pub(crate) fn judge(&mut self, well: bool) {
        self.lease.judge(well);
    }
}

/// Why a completion did not start.
pub(crate) enum DispatchError {
    /// None is ready, and none became ready in time; for the caller as it is.
    NoWorker(Error),
    /// An end was asked for meanwhile.
    Stopped,
    /// The chosen one has no word for it; the sentence is for the caller.
    Unfit(MemberId, String),
    /// The chosen one did not take it.
    Backend(MemberId, BackendError),
}

//! A use that is open: how it is opened, and the receipt for it.

use super::{
    Figures, Limits, Meter, RETRY_AFTER_S, partition,
    policy::Tariff,
    quotas::{Hold, Wanted},
    reservation::Reservation,
};
use crate::observe::reason;
use contract::{Millis, ids::UsageId};
use domain::{Actor, Amount, Currency, Error, Payer, Quota, Result};
use std::{
    fmt,
    sync::{Mutex, PoisonError},
};
use store::{
    ledger::Entry,
    usage::{NewUsage, Outcome},
};
use telemetry::carried;
use tokio::{runtime::Handle, task::JoinHandle};
use uuid::Uuid;
use worker_protocol::Usage;

/// The meter's receipt for one open use. Only the meter makes one, and only with one in hand can a
/// [`Backend`](crate::pool::Backend) be asked.
///
/// It is settled by its driver; if it is dropped without that (the driver panicked), it settles itself as
/// *failed* with what was reported so far.
pub struct Ticket {
    id: UsageId,
    actor: Actor,
    account: Account,
    /// What is set aside for it, until it is settled.
    hold: Option<Hold>,
    meter: Meter,
    /// The worker's latest counters for this use.
    reported: Mutex<Usage>,
}

/// What a use is opened with.
struct Opened {
    tariff: Tariff,
    hold: Hold,
    /// Tokens that an answer may have, where the budget covers no longer one.
    longest_answer: Option<u32>,
    weight: u16,
}

/// What a use costs, and how the limits stood when it began.
#[derive(Clone, Debug)]
struct Account {
    /// The model that was asked for.
    model: String,
    /// As the ledger has it.
    opened_at: Millis,
    tariff: Tariff,
    limits: Limits,
    /// Tokens that an answer may have, where the budget covers no longer one.
    longest_answer: Option<u32>,
    /// What the tenant's work counts beside that of others.
    weight: u16,
}

impl Meter {
    /// Reserves and writes the open use. Fails closed: what cannot be written down is not computed. `fallbacks`: who may
    /// answer in the model's place.
    ///
    /// # Errors
    /// [`Error::QuotaExceeded`] by a budget or limit; [`Error::Unavailable`] whatever kept budgets from being read or the
    /// ledger from being written.
    pub(crate) async fn open(&self, actor: Actor, reservation: Reservation, fallbacks: Vec<String>) -> Result<Ticket> {
        let (id, at) = (UsageId(Uuid::now_v7()), self.clock.now());
        let opened = self.open_as(id, at, &actor, &reservation, fallbacks).await;
        let Opened { tariff, hold, longest_answer, weight } = opened.map_err(|error| match error {
            error @ Error::QuotaExceeded { .. } => {
                tracing::info!(request = %actor.request(), %error, "a use was refused");
                self.db.refusals().of(&actor, reason(&error), &reservation.model);
                error
            }
            error => {
                tracing::error!(usage = %id, request = %actor.request(), %error, "a use could not be written into the ledger and was refused");
                Error::unavailable("ledger", Some(RETRY_AFTER_S))
            }
        })?;
        let account = Account { model: reservation.model, opened_at: at, tariff, limits: hold.limits(), longest_answer, weight };
        Ok(Ticket { id, actor, account, hold: Some(hold), meter: self.clone(), reported: Mutex::new(Usage::default()) })
    }

    async fn open_as(&self, id: UsageId, at: Millis, actor: &Actor, reservation: &Reservation, fallbacks: Vec<String>) -> Result<Opened> {
        let policy = self.quotas.policy().await?;
        let payer = Payer::of(actor);
        let tariff = policy.tariff(std::iter::once(reservation.model.clone()).chain(fallbacks), at)?;
        let mut covered = reservation.clone();
        let (hold, most) = loop {
            let most = if covered.free { Amount::ZERO } else { tariff.most(covered.prompt, covered.answer) };
            let most = tariff.currency().map(|currency| (currency, most));
            // What costs nothing needs no budget, however far that is spent.
            let wanted = Wanted { reservation: &covered, most: most.filter(|_| !covered.free), at };
            match self.quotas.reserve(&policy, &payer, &wanted).await {
                Ok(hold) => break (hold, most),
                Err(error @ Error::QuotaExceeded { quota: Quota::Budget, .. }) => covered = covered.shorter().ok_or(error)?,
                Err(error) => return Err(error),
            }
        };
        let new = NewUsage {
            tenant: actor.tenant(),
            id,
            user: payer.user,
            program: payer.program,
            team: payer.team,
            cost_center: payer.cost_center,
            model: reservation.model.clone(),
            purpose: reservation.purpose,
            reserved_tokens: reservation.tokens,
            reserved: most,
            node: self.node,
            request: actor.request(),
            created_at: at,
        };
        self.writer.open(Entry::open(&new)?).await?;
        let shortened = covered.answer < reservation.answer;
        let longest_answer = shortened.then(|| covered.longest_answer());
        Ok(Opened { tariff, hold, longest_answer, weight: policy.weight(actor.tenant()) })
    }
}

impl Ticket {
    /// The ledger's id of the use.
    #[must_use]
    pub fn id(&self) -> UsageId {
        self.id
    }

    /// The boundary that a worker must not share prefixes across.
    #[must_use]
    pub fn partition(&self) -> String {
        partition(&self.actor)
    }

    /// Who is served fairly beside others.
    #[must_use]
    pub fn tenant(&self) -> String {
        self.actor.tenant().to_string()
    }

    /// What that tenant's work counts beside that of others.
    #[must_use]
    pub fn weight(&self) -> u16 {
        self.account.weight
    }

    /// Models to fall back to that were reserved for.
    pub(crate) fn fallbacks(&self) -> Vec<String> {
        self.account.tariff.fallbacks()
    }

    /// Tokens that an answer may have, where the budget covers no longer one.
    pub(crate) fn longest_answer(&self) -> Option<u32> {
        self.account.longest_answer
    }

    /// How the limits stood when it began.
    pub(crate) fn limits(&self) -> Limits {
        self.account.limits
    }

    /// What a use with these figures costs; `None` where there is no price.
    pub(crate) fn cost(&self, figures: &Figures) -> Option<(Currency, Amount)> {
        // A failure that brought nothing costs nothing, nor does what was cancelled before the model began.
        let produced = figures.usage.completion_tokens > 0;
        let answered = produced || figures.outcome != Outcome::Failed && figures.usage.prompt_tokens > 0;
        let model = figures.model.as_ref().unwrap_or(&self.account.model);
        self.account.tariff.currency().map(|currency| (currency, self.account.tariff.cost(model, figures.usage, answered)))
    }

    /// Takes over the worker's counters as they stand now.
    pub(crate) fn report(&self, usage: Usage) {
        *self.reported.lock().unwrap_or_else(PoisonError::into_inner) = usage;
    }

    /// The worker's latest counters.
    pub(crate) fn reported(&self) -> Usage {
        *self.reported.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Settles it. `None`: it is in the journal already, and there is nothing to wait for. Otherwise it goes on in a task of its
    /// own, so that neither a slow database nor a dropped caller loses it: wait for the handle to know that it is done.
    pub(crate) fn settle(mut self, figures: Figures) -> Option<JoinHandle<()>> {
        let hold = self.hold.take().unwrap_or_default();
        self.settle_with(figures, hold)
    }

    /// Within a runtime.
    fn settle_with(&self, figures: Figures, hold: Hold) -> Option<JoinHandle<()>> {
        let cost = self.cost(&figures).map_or(Amount::ZERO, |(_, cost)| cost);
        let unsettled = self.meter.settle((self.id, self.account.opened_at), &self.actor, figures, cost, hold)?;
        Some(self.meter.tracker.spawn(carried(unsettled.write())))
    }
}

impl Drop for Ticket {
    fn drop(&mut self) {
        let Some(hold) = self.hold.take() else { return };
        tracing::error!(usage = %self.id, request = %self.actor.request(), "a ticket was dropped without being settled");
        let figures = Figures { outcome: Outcome::Failed, usage: self.reported(), model: None, ttft_ms: None, duration_ms: None };
        // Without a runtime the process is ending: the sweeper of the next one finds the open use.
        if Handle::try_current().is_ok() {
            // Nobody is left who could wait for it.
            drop(self.settle_with(figures, hold));
        }
    }
}

impl fmt::Debug for Ticket {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Ticket").field("id", &self.id).field("open", &self.hold.is_some()).finish_non_exhaustive()
    }
}

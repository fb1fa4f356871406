//! Budgets and limits of one node: what each use sets aside, and the rounds in which nodes share.

use super::{
    minute::{Minutes, Standing, Taken},
    places::{Place, Places},
    policy::Policy,
    purse::{self, Purse, Purses},
    reservation::Reservation,
};
use crate::observe::Metrics;
use contract::{Millis, ids::NodeId};
use domain::{Amount, Clock, Currency, Payer, Result};
use std::{sync::Arc, time::Duration};
use store::{
    Db, Topic, Watched,
    budgets::BudgetPeriod,
    rate_limits::{RateLimit, Unit},
};
use tokio_util::sync::CancellationToken;

/// The database is asked this often whether prices, budgets or limits changed.
const LOOK: Duration = Duration::from_secs(1);
/// Places that nobody needs are given back this often.
const PLACES: Duration = Duration::from_millis(100);
/// What dead processes hold is looked after this often.
const RECOVER: Duration = Duration::from_secs(20);

/// See the module.
#[derive(Clone)]
pub(crate) struct Quotas {
    inner: Arc<Inner>,
}

struct Inner {
    db: Db,
    clock: Arc<dyn Clock>,
    policy: Watched<Policy>,
    purses: Purses,
    minutes: Minutes,
    places: Places,
}

/// What a use comes to at most.
pub(crate) struct Wanted<'a> {
    pub reservation: &'a Reservation,
    /// `None`: it costs nothing.
    pub most: Option<(Currency, Amount)>,
    pub at: Millis,
}

/// What is set aside for one use. Dropped, it all is free again.
#[derive(Default)]
pub(crate) struct Hold {
    purses: Vec<(Arc<Purse>, Amount)>,
    minutes: Vec<Taken>,
    places: Vec<Place>,
    settled: bool,
}

/// How the limits stand that a use counted for, the tightest of each kind.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Limits {
    pub requests: Option<Standing>,
    pub tokens: Option<Standing>,
}

impl Quotas {
    pub(crate) fn new(db: Db, clock: Arc<dyn Clock>, node: NodeId, metrics: Metrics) -> Self {
        let purses = Purses::new(db.clone(), node, metrics);
        let (minutes, places) = (Minutes::new(db.clone()), Places::new(db.clone(), node));
        Self { inner: Arc::new(Inner { db, clock, policy: Watched::new(Topic::Quotas), purses, minutes, places }) }
    }

    /// Prices, budgets and limits as they were a moment ago.
    ///
    /// # Errors
    /// As for any statement.
    pub(crate) async fn policy(&self) -> Result<Arc<Policy>> {
        self.policy_not_older_than(LOOK * 2).await
    }

    async fn policy_not_older_than(&self, age: Duration) -> Result<Arc<Policy>> {
        let read = |_| async { Policy::read(&self.inner.db).await };
        self.inner.policy.not_older_than(age, &self.inner.db, read).await
    }

    /// Sets aside what a use comes to at most, with every limit and every budget that it counts for.
    ///
    /// # Errors
    /// [`domain::Error::QuotaExceeded`], and then nothing is set aside; as for any statement.
    pub(crate) async fn reserve(&self, policy: &Policy, payer: &Payer, wanted: &Wanted<'_>) -> Result<Hold> {
        let mut hold = Hold::default();
        for (limit, subject) in policy.limits(payer, &wanted.reservation.model) {
            self.count(&mut hold, limit, &subject, wanted.reservation).await?;
        }
        let Some((currency, most)) = wanted.most else { return Ok(hold) };
        for (budget, subject) in policy.budgets(payer) {
            if budget.currency != currency {
                if budget.hard {
                    return Err(purse::foreign(budget));
                }
                continue;
            }
            let window = budget.period.window(budget.first_month, wanted.at)?;
            let of = BudgetPeriod { tenant: budget.tenant, budget: budget.id, subject, window };
            hold.purses.push((self.inner.purses.reserve(budget, of, most).await?, most));
        }
        Ok(hold)
    }

    async fn count(&self, hold: &mut Hold, limit: &Arc<RateLimit>, subject: &str, reservation: &Reservation) -> Result<()> {
        if let Some(most) = limit.places {
            hold.places.push(self.inner.places.take(limit, subject, most).await?);
        }
        for (unit, most, amount) in [(Unit::Requests, limit.requests, 1), (Unit::Tokens, limit.tokens, reservation.likely.into())] {
            // Who needs nothing of a minute is not refused for one that is used up.
            if let Some(most) = most.filter(|_| amount > 0) {
                hold.minutes.push(self.inner.minutes.take(limit, subject, unit, most, amount).await?);
            }
        }
        Ok(())
    }

    /// Keeps prices, budgets and limits fresh, tells other nodes what was spent and gives back what lies idle, until `stop`.
    /// Each at its own pace: whoever shows itself late is taken for dead.
    pub(crate) async fn tend(&self, stop: CancellationToken) {
        tokio::join!(
            every(PLACES, &stop, || self.inner.places.round(false)),
            every(LOOK, &stop, || self.look()),
            every(LOOK, &stop, || async { self.inner.purses.round(self.inner.clock.now(), false).await }),
            every(LOOK, &stop, || self.inner.minutes.round()),
            every(RECOVER, &stop, || self.recover_the_dead()),
        );
    }

    async fn look(&self) {
        if let Err(error) = self.policy_not_older_than(LOOK / 2).await {
            tracing::warn!(%error, "it could not be found out whether prices, budgets or limits changed");
        }
    }

    async fn recover_the_dead(&self) {
        self.inner.minutes.tidy();
        if let Err(error) = self.recover(purse::DEAD_AFTER).await {
            tracing::warn!(%error, "what processes hold that are gone could not be taken back");
        }
    }

    /// Takes back what processes hold that were silent for so long, but for what the ledger knows to run.
    pub(crate) async fn recover(&self, silent: Duration) -> Result<u64> {
        let recovered = self.inner.db.recover_budgets(silent).await?;
        if recovered > 0 {
            tracing::warn!(recovered, "shares of budgets were taken back from processes that are gone");
        }
        self.inner.db.purge_rate_limits().await?;
        Ok(recovered)
    }

    /// Tells all that was spent and gives everything back that nothing runs for: the process is about to end.
    pub(crate) async fn give_back(&self) {
        self.inner.places.round(true).await;
        self.inner.purses.round(self.inner.clock.now(), true).await;
    }
}

pub(super) async fn every<F: Future<Output = ()>>(pause: Duration, stop: &CancellationToken, round: impl Fn() -> F) {
    while stop.run_until_cancelled(tokio::time::sleep(pause)).await.is_some() {
        round().await;
    }
}

impl Hold {
    /// How the limits stand now.
    pub(crate) fn limits(&self) -> Limits {
        let tightest = |unit| {
            let standings = self.minutes.iter().filter(|taken| taken.unit() == unit).map(Taken::standing);
            standings.min_by_key(|standing| standing.remaining)
        };
        Limits { requests: tightest(Unit::Requests), tokens: tightest(Unit::Tokens) }
    }

    /// The request counts, whatever becomes of it.
    pub(crate) fn kept(mut self) -> Self {
        self.settled = true;
        self
    }

    /// The use is over, and its figures are in the ledger.
    pub(crate) fn settle(mut self, cost: Amount, tokens: u64) {
        self.settled = true;
        for (purse, set_aside) in &self.purses {
            purse.settle(*set_aside, cost);
        }
        for taken in self.minutes.iter().filter(|taken| taken.unit() == Unit::Tokens) {
            taken.correct(tokens);
        }
    }
}

impl Drop for Hold {
    fn drop(&mut self) {
        if self.settled {
            return;
        }
        for (purse, set_aside) in &self.purses {
            purse.settle(*set_aside, Amount::ZERO);
        }
        for taken in &self.minutes {
            taken.correct(0);
        }
    }
}

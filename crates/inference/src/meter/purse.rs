//! Budgets as a node spends them: from slices that it holds (ADR 14).

use crate::observe::Metrics;
use contract::{Millis, ids::NodeId};
use domain::{Amount, Error, Quota, Result};
use futures::{StreamExt, stream};
use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};
use store::{
    Db, Reason,
    audit::AuditEvent,
    budgets::{Budget, BudgetPeriod, Share, Told},
};
use tokio::time::Instant;

/// A process that others did not see for so long is taken for dead.
pub(crate) const DEAD_AFTER: Duration = Duration::from_secs(60);
/// What a process holds is not spent if nobody saw the process for so long: others may already have it.
const TRUSTED_FOR: Duration = Duration::from_secs(30);
/// A process that holds something shows itself this often.
const SHOWN_EVERY: Duration = Duration::from_secs(10);
/// A budget that did not cover something is not asked for as much again so soon.
const REFUSED_FOR: Duration = Duration::from_millis(100);
/// Purses that are told of at the same time.
const AT_A_TIME: usize = 2;
/// Hundredths at which somebody is warned, highest first.
pub(crate) const WARNINGS: [u8; 3] = [100, 90, 80];

/// What a node holds of all budgets.
pub(crate) struct Purses {
    db: Db,
    node: NodeId,
    metrics: Metrics,
    purses: Mutex<HashMap<BudgetPeriod, Arc<Purse>>>,
}

/// What a node holds of one budget in one period.
pub(crate) struct Purse {
    of: BudgetPeriod,
    budget: Arc<Budget>,
    state: Mutex<State>,
    /// Whoever takes a slice; the others wait and then find something in the purse.
    taking: tokio::sync::Mutex<()>,
}

struct State {
    /// Held and free. Less than nothing after a use that cost more than was set aside.
    available: Amount,
    /// Held for what runs.
    reserved: Amount,
    /// Spent since this process began.
    spent: Amount,
    /// Spent as it was last told.
    told: Amount,
    /// Something was reserved since the last round.
    used: bool,
    /// What the budget did not cover, and when.
    refused: Option<(Instant, Amount)>,
    /// When the database last heard of this purse.
    seen: Instant,
    /// The highest warning that this node knows of.
    warned: u8,
}

impl Purses {
    pub(crate) fn new(db: Db, node: NodeId, metrics: Metrics) -> Self {
        Self { db, node, metrics, purses: Mutex::default() }
    }

    /// Sets an amount aside.
    ///
    /// # Errors
    /// [`Error::QuotaExceeded`] if a hard budget does not cover it; as for any statement.
    pub(crate) async fn reserve(&self, budget: &Arc<Budget>, of: BudgetPeriod, amount: Amount) -> Result<Arc<Purse>> {
        let purse = self.purse(budget, of);
        if !purse.set_aside(amount)? {
            let _turn = purse.taking.lock().await;
            while !purse.set_aside(amount)? {
                self.take(&purse, amount).await?;
            }
        }
        Ok(purse)
    }

    fn purse(&self, budget: &Arc<Budget>, of: BudgetPeriod) -> Arc<Purse> {
        let new = |of: &BudgetPeriod| {
            let state = State {
                available: Amount::ZERO,
                reserved: Amount::ZERO,
                spent: Amount::ZERO,
                told: Amount::ZERO,
                used: false,
                refused: None,
                seen: Instant::now(),
                warned: 0,
            };
            Purse { of: of.clone(), budget: budget.clone(), state: Mutex::new(state), taking: tokio::sync::Mutex::default() }
        };
        self.lock().entry(of).or_insert_with_key(|of| Arc::new(new(of))).clone()
    }

    /// Takes a slice for what is missing. Whoever calls it has the turn.
    async fn take(&self, purse: &Purse, amount: Amount) -> Result<()> {
        // Somebody whom nobody saw for long may have been taken for dead, and then holds less than it believes.
        let missing = |state: &State| if state.is_doubtful() { Amount::ZERO } else { (amount - state.available).max(Amount::ZERO) };
        let (share, need) = {
            let state = purse.lock();
            (state.share(), missing(&state))
        };
        let told = self.tell_share(purse, share, need).await?;
        if need > Amount::ZERO && told.granted == Amount::ZERO && !told.lost {
            purse.lock().refused = Some((Instant::now(), need));
            return Err(refusal(&purse.budget));
        }
        Ok(())
    }

    /// Tells a share, asks for more, and takes over what came of it.
    async fn tell_share(&self, purse: &Purse, share: Share, need: Amount) -> Result<Told> {
        let told = self.db.tell_budget(&purse.of, &purse.budget, self.node, share, need).await?;
        let again = {
            let mut state = purse.lock();
            state.seen = Instant::now();
            state.told = share.spent;
            // Nothing is left of what was held but what is set aside for what runs.
            state.available = if told.lost { Amount::ZERO } else { state.available + told.granted };
            state.share()
        };
        if told.lost {
            // The ledger may not know yet all that runs.
            self.db.tell_budget(&purse.of, &purse.budget, self.node, again, Amount::ZERO).await?;
        }
        Ok(told)
    }

    /// Tells what was spent and gives back what lies idle; `all`: everything that nothing runs for.
    async fn tell(&self, purse: &Purse, all: bool) -> Result<()> {
        let _turn = purse.taking.lock().await;
        let share = {
            let mut state = purse.lock();
            let idle = all || !std::mem::take(&mut state.used);
            let back = idle && state.available != Amount::ZERO && (state.available > Amount::ZERO || state.reserved == Amount::ZERO);
            if back {
                // Told in whole figures: should it get lost on the way, the next time tells it again. Debts of a purse for
                // which nothing runs are what was spent beyond what was set aside.
                state.available = Amount::ZERO;
            }
            let holds = state.available > Amount::ZERO || state.reserved > Amount::ZERO;
            if !back && state.spent == state.told && !(holds && state.seen.elapsed() >= SHOWN_EVERY) {
                return Ok(());
            }
            state.share()
        };
        let told = self.tell_share(purse, share, Amount::ZERO).await?;
        self.warn(purse, told).await
    }

    async fn warn(&self, purse: &Purse, told: Told) -> Result<()> {
        let reached = told.spent.percent_of(purse.budget.amount).unwrap_or(100);
        let Some(level) = WARNINGS.into_iter().find(|level| reached >= i128::from(*level)) else { return Ok(()) };
        if std::mem::replace(&mut purse.lock().warned, level) >= level || !self.db.warn_of_budget(&purse.of, level).await? {
            return Ok(());
        }
        tracing::warn!(budget = %purse.budget.id, subject = purse.of.subject, percent = level, "so much of a budget is spent");
        self.metrics.warned(level);
        let event = AuditEvent::new("budgets", "budget.warning")
            .target(purse.budget.id)
            .detail("subject", purse.of.subject.clone())
            .detail("percent", level)
            .detail("spent", told.spent.to_string())
            .detail("amount", purse.budget.amount.to_string());
        let tx = self.db.begin_system("budgets", Reason::Sweep).await?;
        tx.audit(&event, Some(purse.of.tenant)).await?;
        tx.commit().await
    }

    /// One round: tells and gives back. `all`: the process is about to end.
    pub(crate) async fn round(&self, now: Millis, all: bool) {
        let purses: Vec<Arc<Purse>> = self.lock().values().cloned().collect();
        stream::iter(purses)
            .for_each_concurrent(AT_A_TIME, |purse| async move {
                if let Err(error) = self.tell(&purse, all).await {
                    tracing::warn!(%error, budget = %purse.budget.id, "what was spent could not be told; trying again");
                }
            })
            .await;
        // Nobody else has one in hand that is thrown away: they are handed out under the same lock. While its period lasts
        // a purse is kept, because it knows what this process spent in it.
        let over = |purse: &Purse| purse.of.window.ends_at.is_some_and(|end| end <= now) && purse.lock().is_settled();
        self.lock().retain(|_, purse| Arc::strong_count(purse) > 1 || !over(purse));
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<BudgetPeriod, Arc<Purse>>> {
        self.purses.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Purse {
    /// Takes it from what is held; false if that is not enough.
    fn set_aside(&self, amount: Amount) -> Result<bool> {
        let mut state = self.lock();
        if state.available >= amount && !state.is_doubtful() {
            state.used = true;
            state.available -= amount;
            state.reserved += amount;
            return Ok(true);
        }
        let need = amount - state.available;
        match state.refused {
            Some((at, refused)) if at.elapsed() < REFUSED_FOR && need >= refused => Err(refusal(&self.budget)),
            _ => Ok(false),
        }
    }

    /// The use is over: `spent` of what was set aside is gone, the rest is free again.
    pub(crate) fn settle(&self, set_aside: Amount, spent: Amount) {
        let mut state = self.lock();
        state.reserved -= set_aside;
        state.spent += spent;
        state.available += set_aside - spent;
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    /// Others may have taken this node for dead.
    fn is_doubtful(&self) -> bool {
        self.available > Amount::ZERO && self.seen.elapsed() >= TRUSTED_FOR
    }

    /// As it is told.
    fn share(&self) -> Share {
        Share { spent: self.spent, held: (self.available + self.reserved).max(Amount::ZERO) }
    }

    /// Nothing is held, and all is told.
    fn is_settled(&self) -> bool {
        self.available == Amount::ZERO && self.reserved == Amount::ZERO && self.spent == self.told
    }
}

fn refusal(budget: &Budget) -> Error {
    let whose = match &budget.subject {
        Some(name) if matches!(budget.level, domain::quota::Level::Team | domain::quota::Level::CostCenter) => {
            format!("{} {name}", budget.level.noun())
        }
        _ => budget.level.noun().to_owned(),
    };
    let which = format!("{whose}: {} {} {}", budget.amount, budget.currency, budget.period);
    Error::QuotaExceeded { quota: Quota::Budget, which, retry_after_ms: None }
}

/// A hard budget cannot count what is paid in another currency, so it refuses it.
pub(crate) fn foreign(budget: &Budget) -> Error {
    let which = format!("{} in {}, while this model is paid in another currency", budget.level.noun(), budget.currency);
    Error::QuotaExceeded { quota: Quota::Budget, which, retry_after_ms: None }
}

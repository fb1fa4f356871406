//! Budgets as a node spends them: from slices that it holds (ADR 14).

use contract::ids::NodeId;
use domain::{Amount, Error, Quota, Result};
use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};
use store::{
    Db, Reason,
    audit::AuditEvent,
    budgets::{Budget, BudgetPeriod, Told},
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
/// Hundredths at which somebody is warned, highest first.
const WARNINGS: [u8; 3] = [100, 90, 80];

/// What a node holds of all budgets.
pub(crate) struct Purses {
    db: Db,
    node: NodeId,
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
    /// Spent since it was last told.
    untold: Amount,
    /// Something was reserved since the last round.
    used: bool,
    /// What the budget did not cover, and when.
    refused: Option<(Instant, Amount)>,
    /// When the database last saw this node hold it.
    seen: Instant,
    /// The highest warning that this node knows of.
    warned: u8,
}

impl Purses {
    pub(crate) fn new(db: Db, node: NodeId) -> Self {
        Self { db, node, purses: Mutex::default() }
    }

    /// Sets an amount aside.
    ///
    /// # Errors
    /// [`Error::QuotaExceeded`] if a hard budget does not cover it; as for any statement.
    pub(crate) async fn reserve(&self, budget: &Arc<Budget>, of: BudgetPeriod, amount: Amount) -> Result<Arc<Purse>> {
        let purse = self.purse(budget, of);
        if purse.lock().is_doubtful() {
            self.tell(&purse, false).await?;
        }
        if !purse.set_aside(amount)? {
            let _turn = purse.taking.lock().await;
            if !purse.set_aside(amount)? {
                self.take(&purse, amount).await?;
            }
        }
        Ok(purse)
    }

    fn purse(&self, budget: &Arc<Budget>, of: BudgetPeriod) -> Arc<Purse> {
        let mut purses = self.lock();
        if let Some(purse) = purses.get(&of) {
            return purse.clone();
        }
        let state = State {
            available: Amount::ZERO,
            reserved: Amount::ZERO,
            untold: Amount::ZERO,
            used: false,
            refused: None,
            seen: Instant::now(),
            warned: 0,
        };
        let purse =
            Arc::new(Purse { of: of.clone(), budget: budget.clone(), state: Mutex::new(state), taking: tokio::sync::Mutex::default() });
        purses.insert(of, purse.clone());
        purse
    }

    async fn take(&self, purse: &Purse, amount: Amount) -> Result<()> {
        let need = amount - purse.lock().available;
        let slice = self.db.take_of_budget(&purse.of, &purse.budget, self.node, need).await?;
        let mut state = purse.lock();
        state.seen = Instant::now();
        state.available += slice.granted;
        if slice.granted == Amount::ZERO && need > Amount::ZERO {
            state.refused = Some((Instant::now(), need));
            return Err(refusal(&purse.budget));
        }
        // Nobody else could take what was granted: it is their turn only after this.
        state.reserve(amount);
        Ok(())
    }

    /// Tells what was spent and gives back what lies idle; `all`: everything that nothing runs for.
    async fn tell(&self, purse: &Purse, all: bool) -> Result<()> {
        let (spent, back) = {
            let mut state = purse.lock();
            let idle = all || !std::mem::take(&mut state.used);
            let back = if idle { state.available.max(Amount::ZERO) } else { Amount::ZERO };
            state.available -= back;
            let holds = state.available > Amount::ZERO || state.reserved > Amount::ZERO;
            let spent = std::mem::take(&mut state.untold);
            if spent == Amount::ZERO && back == Amount::ZERO && !(holds && state.seen.elapsed() >= SHOWN_EVERY) {
                return Ok(());
            }
            (spent, back)
        };
        match self.db.tell_budget(&purse.of, self.node, spent, back).await {
            Ok(told) => {
                {
                    let mut state = purse.lock();
                    state.seen = Instant::now();
                    // Lost what was held, or more was spent than was set aside: the database knows of both.
                    let nothing_runs = state.reserved == Amount::ZERO;
                    if told.is_none_or(|told| told.lost) || nothing_runs && state.available < Amount::ZERO {
                        state.available = Amount::ZERO;
                    }
                }
                if let Some(told) = told {
                    self.warn(purse, told).await?;
                }
                Ok(())
            }
            Err(error) => {
                let mut state = purse.lock();
                state.untold += spent;
                state.available += back;
                Err(error)
            }
        }
    }

    async fn warn(&self, purse: &Purse, told: Told) -> Result<()> {
        let reached = told.spent.percent_of(purse.budget.amount).unwrap_or(100);
        let Some(level) = WARNINGS.into_iter().find(|level| reached >= i128::from(*level)) else { return Ok(()) };
        if std::mem::replace(&mut purse.lock().warned, level) >= level || !self.db.warn_of_budget(&purse.of, level).await? {
            return Ok(());
        }
        tracing::warn!(budget = %purse.budget.id, subject = purse.of.subject, percent = level, "so much of a budget is spent");
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
    pub(crate) async fn round(&self, all: bool) {
        let purses: Vec<Arc<Purse>> = self.lock().values().cloned().collect();
        for purse in purses {
            if let Err(error) = self.tell(&purse, all).await {
                tracing::warn!(%error, budget = %purse.budget.id, "what was spent could not be told; trying again");
            }
        }
        // Nobody else has an empty one in hand: they are handed out under the same lock.
        self.lock().retain(|_, purse| Arc::strong_count(purse) > 1 || !purse.lock().is_empty());
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<BudgetPeriod, Arc<Purse>>> {
        self.purses.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Purse {
    /// Takes it from what is held; false if that is not enough.
    fn set_aside(&self, amount: Amount) -> Result<bool> {
        let mut state = self.lock();
        if state.available >= amount {
            state.reserve(amount);
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
        state.untold += spent;
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

    fn reserve(&mut self, amount: Amount) {
        self.used = true;
        self.available -= amount;
        self.reserved += amount;
    }

    fn is_empty(&self) -> bool {
        self.available == Amount::ZERO && self.reserved == Amount::ZERO && self.untold == Amount::ZERO && !self.used
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

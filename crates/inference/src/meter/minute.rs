//! Limits per minute as a node counts them: from parts of the minute that it took.

use domain::{Error, Quota, Result};
use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};
use store::{
    Db,
    rate_limits::{RateLimit, Unit},
};
use tokio::time::Instant;
use uuid::Uuid;

/// A minute that had not as much left is not asked for as much again so soon.
const REFUSED_FOR: Duration = Duration::from_millis(250);

/// One part in so many of a minute may lie unused at a node.
const KEPT: u64 = 64;
/// Ends of a minute that are no farther apart belong to the same one: only the way to the database lies between them.
const SAME: Duration = Duration::from_secs(1);

/// Limit, who has it, and what is counted.
type Key = (Uuid, String, Unit);

/// What a node took of all minutes.
pub(crate) struct Minutes {
    db: Db,
    minutes: Mutex<HashMap<Key, Arc<Minute>>>,
}

/// One limit of one subject.
pub(crate) struct Minute {
    limit: Arc<RateLimit>,
    subject: String,
    unit: Unit,
    most: u64,
    state: Mutex<State>,
    taking: tokio::sync::Mutex<()>,
}

#[derive(Clone, Copy)]
struct State {
    /// When the minute is over.
    ends: Instant,
    /// Taken and not yet used. Less than nothing after uses that were larger than estimated.
    available: i64,
    /// What others could still take when it was last heard of.
    free: u64,
    /// What the minute did not have, and when.
    refused: Option<(Instant, i64)>,
}

/// How a limit stands, for `x-ratelimit-*`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Standing {
    /// In a minute.
    pub limit: u64,
    /// Until the minute is over.
    pub remaining: u64,
    /// Until the minute is over.
    pub reset: Duration,
}

/// What one use took of a minute.
pub(crate) struct Taken {
    minute: Arc<Minute>,
    /// Which minute it was.
    ends: Instant,
    amount: i64,
}

impl Minutes {
    pub(crate) fn new(db: Db) -> Self {
        Self { db, minutes: Mutex::default() }
    }

    /// Takes so much of the present minute. What is more than a whole minute has is let through when a minute is fresh.
    ///
    /// # Errors
    /// [`Error::QuotaExceeded`]; as for any statement.
    pub(crate) async fn take(&self, limit: &Arc<RateLimit>, subject: &str, unit: Unit, most: u64, amount: u64) -> Result<Taken> {
        let amount = signed(amount.min(most));
        let minute = self.minute(limit, subject, unit, most);
        if let Some(taken) = minute.clone().use_up(amount)? {
            return Ok(taken);
        }
        let _turn = minute.taking.lock().await;
        if let Some(taken) = minute.clone().use_up(amount)? {
            return Ok(taken);
        }
        let now = Instant::now();
        // Should the database's minute turn out to be over, what is missing then is made up for in the new one.
        let need = amount - minute.lock().left(now);
        let part = self.db.take_of_minute(limit, subject, unit, most, u64::try_from(need.max(1)).unwrap_or(1).min(most)).await?;
        let mut state = minute.lock();
        let ends = now + part.ends_in;
        // The database's minute began anew: what was taken of the old one is void.
        let same = state.ends > now && ends.saturating_duration_since(state.ends) < SAME;
        state.available = if same { state.available } else { 0 } + signed(part.granted);
        state.free = part.free;
        if !same {
            state.ends = ends;
        }
        let ends = state.ends;
        if part.granted == 0 {
            state.refused = Some((now, amount));
            return Err(minute.refusal(part.ends_in));
        }
        state.available -= amount;
        drop(state);
        Ok(Taken { minute: minute.clone(), ends, amount })
    }

    fn minute(&self, limit: &Arc<RateLimit>, subject: &str, unit: Unit, most: u64) -> Arc<Minute> {
        let key = (limit.id.0, subject.to_owned(), unit);
        let new = || {
            let state = State { ends: Instant::now(), available: 0, free: 0, refused: None };
            Arc::new(Minute {
                limit: limit.clone(),
                subject: subject.to_owned(),
                unit,
                most,
                state: Mutex::new(state),
                taking: tokio::sync::Mutex::default(),
            })
        };
        self.lock().entry(key).or_insert_with(new).clone()
    }

    /// One round: gives back what was estimated too much, for others to take.
    pub(crate) async fn round(&self) {
        let minutes: Vec<Arc<Minute>> = self.lock().values().filter(|minute| minute.unit == Unit::Tokens).cloned().collect();
        for minute in minutes {
            if let Err(error) = self.give_back(&minute).await {
                tracing::warn!(%error, limit = %minute.limit.id, "a part of a minute could not be given back");
            }
        }
    }

    async fn give_back(&self, minute: &Minute) -> Result<()> {
        let _turn = minute.taking.lock().await;
        let (surplus, ends_in) = {
            let mut state = minute.lock();
            let surplus = state.left(Instant::now()) - signed(minute.most / KEPT);
            if surplus <= 0 {
                return Ok(());
            }
            state.available -= surplus;
            // Nobody can take it here any more, so that it may be lost on the way, but never used twice.
            state.free += u64::try_from(surplus).unwrap_or(0);
            (surplus, state.ends.saturating_duration_since(Instant::now()))
        };
        let surplus = u64::try_from(surplus).unwrap_or(0);
        self.db.give_back_of_minute(&minute.limit, &minute.subject, minute.unit, surplus, ends_in).await
    }

    /// Forgets minutes that are over.
    pub(crate) fn tidy(&self) {
        let now = Instant::now();
        self.lock().retain(|_, minute| Arc::strong_count(minute) > 1 || minute.lock().ends > now);
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<Key, Arc<Minute>>> {
        self.minutes.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Minute {
    /// Takes it from what this node has; `None` if that is not enough.
    fn use_up(self: Arc<Self>, amount: i64) -> Result<Option<Taken>> {
        let now = Instant::now();
        let mut state = self.lock();
        if state.ends > now && state.available >= amount {
            state.available -= amount;
            let ends = state.ends;
            drop(state);
            return Ok(Some(Taken { minute: self, ends, amount }));
        }
        match state.refused {
            Some((at, refused)) if state.ends > now && at.elapsed() < REFUSED_FOR && amount >= refused => {
                Err(self.refusal(state.ends.saturating_duration_since(now)))
            }
            _ => Ok(None),
        }
    }

    fn refusal(&self, ends_in: Duration) -> Error {
        let quota = match self.unit {
            Unit::Requests => Quota::Requests(self.most),
            Unit::Tokens => Quota::Tokens(self.most),
        };
        let of = self.limit.model.as_ref().map_or_else(String::new, |model| format!(" of {model}"));
        let which = format!("{}: {} {} per minute{of}", self.limit.level.noun(), self.most, self.unit.name());
        Error::limited(quota, which, u64::try_from(ends_in.as_millis()).unwrap_or(u64::MAX).max(1))
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    /// What is left of a minute that is not over.
    fn left(&self, now: Instant) -> i64 {
        if self.ends > now { self.available } else { 0 }
    }
}

impl Taken {
    pub(crate) fn unit(&self) -> Unit {
        self.minute.unit
    }

    pub(crate) fn standing(&self) -> Standing {
        let state = *self.minute.lock();
        let remaining = u64::try_from(state.available.max(0)).unwrap_or(0).saturating_add(state.free).min(self.minute.most);
        Standing { limit: self.minute.most, remaining, reset: state.ends.saturating_duration_since(Instant::now()) }
    }

    /// It was so much in the end.
    pub(crate) fn correct(&self, amount: u64) {
        let mut state = self.minute.lock();
        // A minute that is over has nothing to give back and nothing to make up for.
        if state.ends == self.ends {
            state.available += self.amount - signed(amount);
        }
    }
}

fn signed(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

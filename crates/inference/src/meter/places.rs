//! Limits of what runs at the same time, as a node counts them: from places that it holds.

use contract::ids::NodeId;
use domain::{Error, Quota, Result};
use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};
use store::{Db, rate_limits::RateLimit};
use tokio::time::Instant;
use uuid::Uuid;

/// A process that holds places shows itself this often; others forget them after 15 s.
const SHOWN_EVERY: Duration = Duration::from_secs(4);
/// The database is not asked again so soon after it had none.
const REFUSED_FOR: Duration = Duration::from_millis(100);
/// When a refused caller may try again.
const RETRY_AFTER_MS: u64 = 1_000;

/// Limit, and who has it.
type Key = (Uuid, String);

/// What a node holds of all places.
pub(crate) struct Places {
    db: Db,
    node: NodeId,
    places: Mutex<HashMap<Key, Arc<Stock>>>,
}

/// One limit of one subject.
struct Stock {
    limit: Arc<RateLimit>,
    subject: String,
    state: Mutex<State>,
    taking: tokio::sync::Mutex<()>,
}

struct State {
    free: u64,
    in_use: u64,
    /// The fewest that were free since the last round: those that nobody needs.
    idle: u64,
    /// When the database last heard of them.
    seen: Instant,
    /// How many those were.
    told: u64,
    /// When there was none for the last one who asked.
    refused: Option<Instant>,
}

/// A place; dropped, it is free again.
pub(crate) struct Place {
    of: Arc<Stock>,
}

impl Places {
    pub(crate) fn new(db: Db, node: NodeId) -> Self {
        Self { db, node, places: Mutex::default() }
    }

    /// Takes a place.
    ///
    /// # Errors
    /// [`Error::QuotaExceeded`] if none is free; as for any statement.
    pub(crate) async fn take(&self, limit: &Arc<RateLimit>, subject: &str, most: u64) -> Result<Place> {
        let stock = self.places(limit, subject);
        let refused = || {
            let of = limit.model.as_ref().map_or_else(String::new, |model| format!(" of {model}"));
            Error::limited(Quota::Places(most), format!("{}: {most} requests at the same time{of}", limit.level.noun()), RETRY_AFTER_MS)
        };
        if let Some(place) = stock.occupy() {
            return Ok(place);
        }
        let _turn = stock.taking.lock().await;
        loop {
            if let Some(place) = stock.occupy() {
                return Ok(place);
            }
            let has = {
                let state = stock.lock();
                if state.refused.is_some_and(|at| at.elapsed() < REFUSED_FOR) {
                    return Err(refused());
                }
                state.free + state.in_use
            };
            let granted = self.db.take_places(limit, subject, self.node, has, most).await?;
            let mut state = stock.lock();
            state.free += granted;
            (state.seen, state.told) = (Instant::now(), has + granted);
            if granted == 0 && state.free == 0 {
                state.refused = Some(Instant::now());
                return Err(refused());
            }
        }
    }

    fn places(&self, limit: &Arc<RateLimit>, subject: &str) -> Arc<Stock> {
        let new = || {
            let state = Mutex::new(State { free: 0, in_use: 0, idle: 0, seen: Instant::now(), told: 0, refused: None });
            Arc::new(Stock { limit: limit.clone(), subject: subject.to_owned(), state, taking: tokio::sync::Mutex::default() })
        };
        self.lock().entry((limit.id.0, subject.to_owned())).or_insert_with(new).clone()
    }

    /// One round: gives back what nobody needs, and shows that this node lives. `all`: the process is about to end.
    pub(crate) async fn round(&self, all: bool) {
        let held: Vec<Arc<Stock>> = self.lock().values().cloned().collect();
        for places in held {
            if let Err(error) = self.give_back(&places, all).await {
                tracing::warn!(%error, limit = %places.limit.id, "places could not be given back; trying again");
            }
        }
        self.lock().retain(|_, places| Arc::strong_count(places) > 1 || !places.lock().is_empty());
    }

    async fn give_back(&self, stock: &Stock, all: bool) -> Result<()> {
        let _turn = stock.taking.lock().await;
        let has = {
            let mut state = stock.lock();
            let back = if all { state.free } else { state.idle.min(state.free) };
            // Told in whole figures: should it get lost on the way, the next time tells it again.
            state.free -= back;
            state.idle = state.free;
            let has = state.free + state.in_use;
            if has == state.told && (has == 0 || state.seen.elapsed() < SHOWN_EVERY) {
                return Ok(());
            }
            has
        };
        self.db.hold_places(&stock.limit, &stock.subject, self.node, has).await?;
        let mut state = stock.lock();
        (state.seen, state.told) = (Instant::now(), has);
        Ok(())
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<Key, Arc<Stock>>> {
        self.places.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Stock {
    fn occupy(self: &Arc<Self>) -> Option<Place> {
        let mut state = self.lock();
        state.free = state.free.checked_sub(1)?;
        state.in_use += 1;
        state.idle = state.idle.min(state.free);
        Some(Place { of: self.clone() })
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn is_empty(&self) -> bool {
        self.free == 0 && self.in_use == 0 && self.told == 0
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut state = self.of.lock();
        state.in_use = state.in_use.saturating_sub(1);
        state.free += 1;
        state.refused = None;
    }
}

//! The turns that run in this process: a quick way to those who follow and to the one who stops.
//!
//! Nothing here is needed for correctness. Events are in the table before they are told here; a follower that
//! misses some reads them there.

use contract::{
    chat::TurnEvent,
    ids::{TenantId, TurnId, UserId},
};
use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};
use tokio::sync::broadcast;
use tokio_util::sync::CancellationToken;

/// Events that may wait for a slow follower before it has to read the table.
const BACKLOG: usize = 256;

/// An event with its number in the turn.
pub(crate) type Numbered = (i32, TurnEvent);

/// Whose turn it is.
pub(crate) type Owner = (TenantId, UserId);

#[derive(Clone)]
struct Running {
    owner: Owner,
    live: broadcast::Sender<Numbered>,
    stop: CancellationToken,
}

/// See the module.
#[derive(Clone, Default)]
pub(crate) struct Hub {
    running: Arc<Mutex<HashMap<TurnId, Running>>>,
}

/// A turn's entry; dropping it takes the turn off the hub.
pub(crate) struct Entry {
    hub: Hub,
    turn: TurnId,
    live: broadcast::Sender<Numbered>,
    /// Cancelled when the user presses Stop on this node.
    pub stop: CancellationToken,
}

impl Hub {
    /// Puts a turn on the hub.
    pub(crate) fn enter(&self, turn: TurnId, owner: Owner) -> Entry {
        let running = Running { owner, live: broadcast::channel(BACKLOG).0, stop: CancellationToken::new() };
        self.lock().insert(turn, running.clone());
        Entry { hub: self.clone(), turn, live: running.live, stop: running.stop }
    }

    /// Events from now on; `None` if the turn does not run here.
    pub(crate) fn follow(&self, turn: TurnId) -> Option<broadcast::Receiver<Numbered>> {
        self.lock().get(&turn).map(|running| running.live.subscribe())
    }

    /// Asks a turn of this owner for its end; false if none such runs here.
    pub(crate) fn stop(&self, turn: TurnId, owner: Owner) -> bool {
        let running = self.lock();
        let Some(running) = running.get(&turn).filter(|running| running.owner == owner) else { return false };
        running.stop.cancel();
        true
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<TurnId, Running>> {
        // The map is whole whenever the lock is released, even by a panic.
        self.running.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Entry {
    /// Tells those who follow. They may be none.
    pub(crate) fn tell(&self, events: &[Numbered]) {
        for event in events {
            if self.live.send(event.clone()).is_err() {
                return;
            }
        }
    }
}

impl Drop for Entry {
    fn drop(&mut self) {
        self.hub.lock().remove(&self.turn);
    }
}

//! What runs in this process: a quick way to those who follow and to the one who stops.
//!
//! Nothing here is needed for correctness. Events are in the table before they are told here; a follower that
//! misses some reads them there.

use domain::{Error, Quota, Result};
use std::{
    collections::HashMap,
    hash::Hash,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};
use tokio::sync::broadcast;
use tokio_util::sync::CancellationToken;

/// Events that may wait for a slow follower before it has to read the table.
const BACKLOG: usize = 256;

/// What a node runs of one owner at the same time, if nobody waits for it.
const MOST_AT_A_TIME: u32 = 50;
/// Milliseconds after which one that was refused for that may be asked for again.
const RETRY_AFTER_MS: u64 = 10_000;

/// An event with its number.
pub(crate) type Numbered<E> = (i32, E);

struct Running<O, E> {
    owner: O,
    live: broadcast::Sender<Numbered<E>>,
    stop: CancellationToken,
}

/// See the module. `I` are ids, `O` owners, `E` events.
pub(crate) struct Hub<I, O, E> {
    running: Arc<Mutex<HashMap<I, Running<O, E>>>>,
}

impl<I, O, E> Default for Hub<I, O, E> {
    fn default() -> Self {
        Self { running: Arc::default() }
    }
}

impl<I, O, E> Clone for Hub<I, O, E> {
    fn clone(&self) -> Self {
        Self { running: self.running.clone() }
    }
}

/// The entry of one that runs; dropping it takes it off the hub.
pub(crate) struct Entry<I: Copy + Eq + Hash, O, E> {
    hub: Hub<I, O, E>,
    id: I,
    live: broadcast::Sender<Numbered<E>>,
    /// Cancelled when its owner stops it on this node.
    pub stop: CancellationToken,
}

impl<I: Copy + Eq + Hash, O: PartialEq, E: Clone> Hub<I, O, E> {
    /// Puts one on the hub. `stop` is what ends it.
    pub(crate) fn enter(&self, id: I, owner: O, stop: CancellationToken) -> Entry<I, O, E> {
        self.put(&mut self.lock(), id, owner, stop)
    }

    /// The same of one that nobody waits for: such must not pile up without end. `what`: how the limit is called. Whoever is to be
    /// refused must be so before anything is stored; until then nobody knows the id.
    ///
    /// # Errors
    /// [`Error::QuotaExceeded`] if as many of this owner run here as may.
    pub(crate) fn enter_within(&self, id: I, owner: O, stop: CancellationToken, what: &str) -> Result<Entry<I, O, E>> {
        let mut running = self.lock();
        room(&running, &owner, what)?;
        Ok(self.put(&mut running, id, owner, stop))
    }

    fn put(&self, running: &mut HashMap<I, Running<O, E>>, id: I, owner: O, stop: CancellationToken) -> Entry<I, O, E> {
        let live = broadcast::channel(BACKLOG).0;
        running.insert(id, Running { owner, live: live.clone(), stop: stop.clone() });
        Entry { hub: self.clone(), id, live, stop }
    }

    /// Whether [`Hub::enter_within`] would take one now.
    ///
    /// # Errors
    /// Those of [`Hub::enter_within`].
    pub(crate) fn room(&self, owner: &O, what: &str) -> Result<()> {
        room(&self.lock(), owner, what)
    }

    /// Events from now on; `None` if it does not run here.
    pub(crate) fn follow(&self, id: I) -> Option<broadcast::Receiver<Numbered<E>>> {
        self.lock().get(&id).map(|running| running.live.subscribe())
    }

    /// Asks one of this owner for its end; false if none such runs here.
    pub(crate) fn stop(&self, id: I, owner: O) -> bool {
        let running = self.lock();
        let Some(running) = running.get(&id).filter(|running| running.owner == owner) else { return false };
        running.stop.cancel();
        true
    }
}

impl<I, O, E> Hub<I, O, E> {
    fn lock(&self) -> MutexGuard<'_, HashMap<I, Running<O, E>>> {
        // The map is whole whenever the lock is released, even by a panic.
        self.running.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn room<I, O: PartialEq, E>(running: &HashMap<I, Running<O, E>>, owner: &O, what: &str) -> Result<()> {
    if running.values().filter(|running| running.owner == *owner).count() >= MOST_AT_A_TIME as usize {
        return Err(Error::limited(Quota::Places(MOST_AT_A_TIME.into()), what, RETRY_AFTER_MS));
    }
    Ok(())
}

impl<I: Copy + Eq + Hash, O, E: Clone> Entry<I, O, E> {
    /// Tells those who follow. They may be none.
    pub(crate) fn tell(&self, events: &[Numbered<E>]) {
        for event in events {
            if self.live.send(event.clone()).is_err() {
                return;
            }
        }
    }
}

impl<I: Copy + Eq + Hash, O, E> Drop for Entry<I, O, E> {
    fn drop(&mut self) {
        self.hub.lock().remove(&self.id);
    }
}

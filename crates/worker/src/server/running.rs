//! What is being answered, so that the pool can end it.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio_util::sync::CancellationToken;
use uuid::Uuid;

/// See the module.
#[derive(Clone, Default)]
pub(super) struct Running(Arc<Mutex<HashMap<Uuid, Arc<CancellationToken>>>>);

/// Something that is being answered, until this is dropped.
pub(super) struct Entry {
    id: Uuid,
    cancelled: Arc<CancellationToken>,
    running: Running,
}

impl Running {
    pub(super) fn enter(&self, id: Uuid) -> Entry {
        let cancelled = Arc::new(CancellationToken::new());
        self.lock().insert(id, cancelled.clone());
        Entry { id, cancelled, running: self.clone() }
    }

    /// Ends it if it is there.
    pub(super) fn cancel(&self, id: Uuid) {
        if let Some(cancelled) = self.lock().get(&id) {
            cancelled.cancel();
        }
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<Uuid, Arc<CancellationToken>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Entry {
    /// Cancelled once its end is asked for.
    pub(super) fn cancelled(&self) -> CancellationToken {
        CancellationToken::clone(&self.cancelled)
    }
}

impl Drop for Entry {
    fn drop(&mut self) {
        let mut running = self.running.lock();
        // A second try of the same use may have come before the first was noticed to be over.
        if running.get(&self.id).is_some_and(|known| Arc::ptr_eq(known, &self.cancelled)) {
            running.remove(&self.id);
        }
    }
}

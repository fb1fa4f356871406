//! Who works what off: a node looks for batches that nobody is at, and is at some of them at a time.

use super::{Lines, patience::StoodStill, run::Run};
use crate::{jobs::every, running::DEAD_AFTER_SECONDS, shared::Shared};
use contract::ids::{BatchId, RequestId, TenantId};
use domain::{Actor, Result};
use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};
use store::Reason;
use tokio::sync::Semaphore;
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use uuid::Uuid;

/// How often a node looks for batches.
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// Batches that a node is at, of one tenant and in all: nobody keeps the others waiting for a day.
const MOST_OF_TENANT: usize = 4;
const MOST: usize = 64;

/// See the module.
pub(super) struct Desk {
    shared: Arc<Shared>,
    lines: Arc<dyn Lines>,
    parallel: usize,
    /// One for each line that may be computed; served in order, so batches take turns.
    places: Arc<Semaphore>,
    /// One for all lines over which somebody died: whatever batches they belong to, no two of them run at a time. The last
    /// try of such a line takes all places as well.
    suspects: Arc<Semaphore>,
    stood_still: Arc<StoodStill>,
    taken: Arc<Taken>,
    runs: TaskTracker,
    stop: CancellationToken,
}

/// The batches that this node is at.
#[derive(Default)]
struct Taken(Mutex<HashMap<BatchId, TenantId>>);

/// Takes a batch off the list when its run ends, however that ends.
struct Place {
    taken: Arc<Taken>,
    id: BatchId,
}

impl Taken {
    fn lock(&self) -> MutexGuard<'_, HashMap<BatchId, TenantId>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn take(self: &Arc<Self>, tenant: TenantId, id: BatchId) -> Option<Place> {
        let mut taken = self.lock();
        let of_tenant = taken.values().filter(|other| **other == tenant).count();
        if taken.len() >= MOST || of_tenant >= MOST_OF_TENANT || taken.contains_key(&id) {
            return None;
        }
        taken.insert(id, tenant);
        drop(taken);
        Some(Place { taken: self.clone(), id })
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.taken.lock().remove(&self.id);
    }
}

impl Desk {
    pub(super) fn new(shared: Arc<Shared>, lines: Arc<dyn Lines>, parallel: usize, stop: CancellationToken) -> Self {
        let places = Arc::new(Semaphore::new(parallel));
        let suspects = Arc::new(Semaphore::new(1));
        let (stood_still, taken, runs) = (Arc::default(), Arc::default(), TaskTracker::new());
        Self { shared, lines, parallel, places, suspects, stood_still, taken, runs, stop }
    }

    /// Looks and works until the token is cancelled, and leaves the batches to others then.
    pub(super) async fn work(self) {
        every(LOOK_EVERY, "batches", &self.stop, || self.look()).await;
        self.runs.close();
        self.runs.wait().await;
    }

    async fn look(&self) -> Result<()> {
        let tx = self.shared.db.begin_system("batches", Reason::Sweep).await?;
        let idle = tx.batches().idle(DEAD_AFTER_SECONDS, u32::try_from(MOST_OF_TENANT).unwrap_or(u32::MAX)).await?;
        tx.commit().await?;
        for (tenant, id) in idle {
            let Some(place) = self.taken.take(tenant, id) else { continue };
            let run = self.run(tenant, id);
            let stop = self.stop.clone();
            self.runs.spawn(async move {
                run.run(stop).await;
                drop(place);
            });
        }
        Ok(())
    }

    fn run(&self, tenant: TenantId, id: BatchId) -> Run {
        Run {
            shared: self.shared.clone(),
            lines: self.lines.clone(),
            parallel: self.parallel,
            places: self.places.clone(),
            suspects: self.suspects.clone(),
            stood_still: self.stood_still.clone(),
            actor: Actor::system("batches", tenant, RequestId(Uuid::now_v7())),
            id,
            lease: Uuid::now_v7(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{MOST_OF_TENANT, Taken};
    use contract::ids::{BatchId, TenantId};
    use std::sync::Arc;
    use uuid::Uuid;

    #[test]
    fn a_tenant_has_its_share_and_a_batch_is_taken_once() {
        let taken = Arc::new(Taken::default());
        let (ours, theirs) = (TenantId(Uuid::now_v7()), TenantId(Uuid::now_v7()));
        let batch = || BatchId(Uuid::now_v7());
        let first = batch();
        let place = taken.take(ours, first).expect("a place");
        assert!(taken.take(ours, first).is_none(), "it is taken");
        let others: Vec<_> = (1..MOST_OF_TENANT).map(|_| taken.take(ours, batch()).expect("a place")).collect();
        assert!(taken.take(ours, batch()).is_none(), "the share is used up");
        assert!(taken.take(theirs, batch()).is_some());
        drop(place);
        assert!(taken.take(ours, first).is_some(), "a place is free again");
        drop(others);
    }
}

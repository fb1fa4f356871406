//! How busy the backends are, for the operator's metrics.

use super::{Pool, member::Member};
use futures::future::join_all;
use std::sync::Arc;
use worker_protocol::{Device, LoadedModel, Status, Totals};

/// One backend at this moment.
#[derive(Clone, Debug, PartialEq)]
pub struct WorkerLoad {
    /// Its name in the pool, e.g. `worker-1`.
    pub name: String,
    /// What it can be asked for, loaded or not; empty as long as it does not answer.
    pub models: Vec<LoadedModel>,
    /// It takes requests.
    pub ready: bool,
    /// Sequences that it decodes now.
    pub busy: u32,
    /// Requests that wait for a slot.
    pub queued: u32,
    /// Its counters since its start.
    pub totals: Totals,
    /// What its machine draws.
    pub devices: Vec<Device>,
    /// Uses of this process that it works on.
    pub in_flight: u32,
    /// Uses of this process that it answered, and in which it failed.
    pub answered: u64,
    pub failed: u64,
    /// It failed again and again and is left alone for a while.
    pub circuit_open: bool,
}

impl Pool {
    /// Asks every backend now, all at once; one that does not answer in time counts as not ready.
    pub async fn load(&self) -> Vec<WorkerLoad> {
        let members: Vec<Arc<Member>> = self.members().clone();
        join_all(members.iter().map(|member| self.load_of(member))).await
    }

    async fn load_of(&self, member: &Member) -> WorkerLoad {
        let status = match member.backend() {
            Some(backend) => tokio::time::timeout(self.inner.timing.answer, backend.status()).await.ok().and_then(Result::ok),
            None => None,
        };
        let absent = WorkerLoad {
            name: member.name.clone(),
            models: Vec::new(),
            ready: false,
            busy: 0,
            queued: 0,
            totals: Totals::default(),
            devices: Vec::new(),
            in_flight: member.in_flight(),
            answered: member.answers(),
            failed: member.failures(),
            circuit_open: member.is_left_alone(),
        };
        let Some(Status { models, busy, queued, totals, devices, .. }) = status else { return absent };
        WorkerLoad { models, busy, queued, totals, devices, ready: member.is_ready(), ..absent }
    }
}

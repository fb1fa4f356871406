//! How busy the backends are, for the operator's metrics.

use super::{Pool, member::Member};
use futures::future::join_all;
use std::sync::Arc;
use worker_protocol::Totals;

/// One backend at this moment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WorkerLoad {
    /// Its name in the pool, e.g. `worker-1`.
    pub name: String,
    /// The loaded models; the one it was started for as long as nothing is loaded, else empty.
    pub model: String,
    /// It takes requests.
    pub ready: bool,
    /// Sequences that it decodes now.
    pub busy: u32,
    /// Requests that wait for a slot.
    pub queued: u32,
    /// Sequences that it can decode at the same time; 0 as long as nothing is loaded.
    pub slots: u32,
    /// Its counters since its start.
    pub totals: Totals,
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
        let expected = member.expected_model().unwrap_or_default().to_owned();
        let absent = WorkerLoad {
            name: member.name.clone(),
            model: expected,
            ready: false,
            busy: 0,
            queued: 0,
            slots: 0,
            totals: Totals::default(),
        };
        let Some(status) = status else { return absent };
        let model = status.models.iter().map(|model| model.id.as_str()).collect::<Vec<_>>().join(" ");
        let slots = status.models.iter().map(|model| model.slots).sum();
        let model = if model.is_empty() { absent.model } else { model };
        WorkerLoad { model, slots, ready: member.is_ready(), busy: status.busy, queued: status.queued, totals: status.totals, ..absent }
    }
}

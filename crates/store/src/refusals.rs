//! What policies refused, counted until it is in the audit trail.
//!
//! To refuse has to cost next to nothing, or whoever floods a node has what they want. So a refusal is only counted here, and
//! what is alike becomes one event a minute: however much is refused, there are as many events as there are kinds of it.

use crate::{Db, Reason, audit::AuditEvent};
use contract::ids::{ApiKeyId, RequestId, ServiceAccountId, TenantId, UserId};
use domain::{Actor, Caller, Result};
use std::{
    collections::HashMap,
    mem::take,
    sync::{Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

/// What is counted is written this often.
pub const WRITTEN_EVERY: Duration = Duration::from_secs(60);
/// Kinds that are told apart until they are written. Those that come then are counted for each tenant and reason, up to as
/// many again, and beyond that for each reason alone.
const MOST_KINDS: usize = 1000;

/// What this process refused since it was last written; see the module.
#[derive(Debug, Default)]
pub struct Refusals {
    counted: Mutex<HashMap<Kind, Tally>>,
}

/// What makes refusals alike.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Kind {
    /// `None`: nobody knows whose, or of more tenants than are told apart.
    tenant: Option<TenantId>,
    who: Who,
    reason: &'static str,
    /// Empty where it was about none.
    model: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Who {
    /// Whoever came with a key that there is not.
    Unknown,
    /// More than are told apart.
    Several,
    User(UserId),
    Program(ServiceAccountId, ApiKeyId),
    Job(&'static str),
}

#[derive(Clone, Copy, Debug)]
struct Tally {
    count: u64,
    /// One of the requests, by which the log has more.
    request: RequestId,
    since: Instant,
}

impl Refusals {
    /// Counts what was refused to somebody. `reason` is one of few words; `model` is the id of one, or empty: never what somebody
    /// sent.
    pub fn of(&self, actor: &Actor, reason: &'static str, model: &str) {
        let who = match actor.caller() {
            Caller::User { user, .. } => Who::User(*user),
            Caller::Program(program) => Who::Program(program.account, program.key),
            Caller::System(job) => Who::Job(job),
        };
        self.once(Kind { tenant: Some(actor.tenant()), who, reason, model: model.to_owned() }, actor.request());
    }

    /// Counts what was refused to nobody knows whom.
    pub fn of_unknown(&self, reason: &'static str, request: RequestId) {
        self.once(Kind { tenant: None, who: Who::Unknown, reason, model: String::new() }, request);
    }

    fn once(&self, kind: Kind, request: RequestId) {
        self.add(kind, Tally { count: 1, request, since: Instant::now() });
    }

    fn add(&self, kind: Kind, tally: Tally) {
        let mut counted = self.lock();
        let kind = kind.with_room(&counted);
        let more = |known: &mut Tally| {
            known.count = known.count.saturating_add(tally.count);
            known.since = known.since.min(tally.since);
        };
        counted.entry(kind).and_modify(more).or_insert(tally);
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<Kind, Tally>> {
        self.counted.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Kind {
    /// The nearest kind that there is room for.
    fn with_room(self, counted: &HashMap<Self, Tally>) -> Self {
        let room = |kind: &Self, most: usize| counted.len() < most || counted.contains_key(kind);
        if room(&self, MOST_KINDS) {
            return self;
        }
        let of_tenant = Self { who: Who::Several, model: String::new(), ..self };
        if room(&of_tenant, 2 * MOST_KINDS) {
            return of_tenant;
        }
        Self { tenant: None, ..of_tenant }
    }

    fn event(&self, tally: &Tally) -> AuditEvent {
        let (actor, key) = match self.who {
            Who::Unknown => ("unknown".to_owned(), None),
            Who::Several => ("several".to_owned(), None),
            Who::User(user) => (user.to_string(), None),
            Who::Program(account, key) => (account.to_string(), Some(key)),
            Who::Job(job) => (job.to_owned(), None),
        };
        let event = AuditEvent::new(actor, "policy.refused")
            .target(&self.model)
            .detail("reason", self.reason)
            .detail("count", tally.count)
            .detail("seconds", tally.since.elapsed().as_secs())
            .request(tally.request);
        match key {
            Some(key) => event.detail("key", key.to_string()),
            None => event,
        }
    }
}

impl Db {
    /// Writes what was refused into the audit trail. What cannot be written is kept for the next time.
    ///
    /// # Errors
    /// As for any statement.
    pub async fn write_refusals(&self) -> Result<()> {
        let counted = take(&mut *self.refusals().lock());
        if counted.is_empty() {
            return Ok(());
        }
        let written = self.write_down(&counted).await;
        if written.is_err() {
            for (kind, tally) in counted {
                self.refusals().add(kind, tally);
            }
        }
        written
    }

    async fn write_down(&self, counted: &HashMap<Kind, Tally>) -> Result<()> {
        let tx = self.begin_system("refusals", Reason::Sweep).await?;
        for (kind, tally) in counted {
            tx.audit(&kind.event(tally), kind.tenant).await?;
        }
        tx.commit().await
    }
}

#[cfg(test)]
mod tests {
    use super::{MOST_KINDS, Refusals, Who};
    use contract::ids::{RequestId, TenantId};
    use domain::Actor;
    use uuid::Uuid;

    fn job(tenant: u128) -> Actor {
        Actor::system("job", TenantId(Uuid::from_u128(tenant)), RequestId(Uuid::nil()))
    }

    #[test]
    fn what_is_alike_is_one_and_a_flood_of_kinds_has_an_end() {
        let refusals = Refusals::default();
        for number in 0..MOST_KINDS {
            refusals.of(&job(1), "budget", &number.to_string());
        }
        refusals.of(&job(1), "budget", "0");
        assert_eq!(refusals.lock().len(), MOST_KINDS);
        // From here on tenants are told apart, and then reasons alone.
        for _ in 0..5 {
            refusals.of(&job(1), "budget", "another");
        }
        assert_eq!(refusals.lock().len(), MOST_KINDS + 1);
        for tenant in 2..5000 {
            refusals.of(&job(tenant), "budget", "");
        }
        let counted = refusals.lock();
        assert_eq!(
            counted.len(),
            2 * MOST_KINDS + 1,
            "If you are here because this failed: whoever has many keys fills the memory or the audit trail."
        );
        assert_eq!(counted.values().map(|tally| tally.count).sum::<u64>(), MOST_KINDS as u64 + 1 + 5 + 4998, "none is lost");
        let rest = counted.iter().find(|(kind, _)| kind.tenant.is_none()).map(|(kind, tally)| (kind.who, tally.count));
        assert_eq!(rest, Some((Who::Several, 4998 - (MOST_KINDS as u64 - 1))));
    }
}

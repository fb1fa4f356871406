//! Who acts, for whom, and in which tenant.

use contract::{
    account::Role,
    ids::{RequestId, SessionId, TenantId, UserId},
};

/// Who made the call.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Caller {
    /// A person in a browser.
    User { user: UserId, session: SessionId },
    /// A background job, by name.
    System(&'static str),
}

/// The one proof of identity that every service method takes.
///
/// Private fields: only `identity` (after authentication) and `testkit` make one for a person, and
/// [`Actor::system`] one for a job. A test in `server/tests/architecture.rs` holds the callers of
/// these constructors.
#[derive(Clone, Debug)]
pub struct Actor {
    caller: Caller,
    tenant: TenantId,
    roles: Vec<Role>,
    request: RequestId,
}

impl Actor {
    /// A signed-in person. To be called by `identity` and `testkit` alone.
    #[must_use]
    pub fn authenticated(tenant: TenantId, user: UserId, session: SessionId, roles: Vec<Role>, request: RequestId) -> Self {
        Self { caller: Caller::User { user, session }, tenant, roles, request }
    }

    /// A background job acting within one tenant.
    #[must_use]
    pub fn system(job: &'static str, tenant: TenantId, request: RequestId) -> Self {
        Self { caller: Caller::System(job), tenant, roles: Vec::new(), request }
    }

    #[must_use]
    pub fn caller(&self) -> &Caller {
        &self.caller
    }

    #[must_use]
    pub fn tenant(&self) -> TenantId {
        self.tenant
    }

    /// The person, or [`crate::Error::Forbidden`] for a job: jobs own no chats.
    pub fn user(&self) -> crate::Result<UserId> {
        match self.caller {
            Caller::User { user, .. } => Ok(user),
            Caller::System(_) => Err(crate::Error::forbidden("a background job has no personal data")),
        }
    }

    /// The session of a person; `None` for a job.
    #[must_use]
    pub fn session(&self) -> Option<SessionId> {
        match self.caller {
            Caller::User { session, .. } => Some(session),
            Caller::System(_) => None,
        }
    }

    #[must_use]
    pub fn roles(&self) -> &[Role] {
        &self.roles
    }

    #[must_use]
    pub fn has(&self, role: Role) -> bool {
        self.roles.contains(&role)
    }

    /// The id of the request in logs and in the ledger.
    #[must_use]
    pub fn request(&self) -> RequestId {
        self.request
    }
}

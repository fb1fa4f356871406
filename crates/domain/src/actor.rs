//! Who acts, for whom, and in which tenant.

use contract::{
    account::Role,
    ids::{ApiKeyId, RequestId, ServiceAccountId, SessionId, TenantId, UserId},
    key::Scope,
};
use std::{collections::BTreeSet, sync::Arc};

/// Who made the call.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Caller {
    /// A person in a browser.
    User { user: UserId, session: SessionId },
    /// A program, by the key of a service account.
    Program(Arc<Program>),
    /// A background job, by name.
    System(&'static str),
}

/// A service account as one of its keys opens it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Program {
    pub account: ServiceAccountId,
    pub key: ApiKeyId,
    /// Who works with it; empty: nobody in particular.
    pub team: String,
    /// Who pays for it; empty: nobody in particular.
    pub cost_center: String,
    pub scopes: Vec<Scope>,
    /// Who owns the account's chats; `None` as long as none of its keys may chat. Nobody signs in as them.
    pub user: Option<UserId>,
    /// The models that it may use, of those that its tenant may; `None`: all of them.
    pub models: Option<BTreeSet<String>>,
}

/// The one proof of identity that every service method takes.
///
/// Private fields: only `identity` (after authentication) and `testkit` make one for a person or a program, and
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

    /// A program whose key was checked. To be called by `identity` and `testkit` alone.
    #[must_use]
    pub fn program(tenant: TenantId, program: Arc<Program>, request: RequestId) -> Self {
        Self { caller: Caller::Program(program), tenant, roles: Vec::new(), request }
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

    /// Who owns what this caller writes: the person, or a service account's own owner of chats. It says nothing about rights:
    /// those are [`Actor::may`]'s.
    ///
    /// # Errors
    /// [`crate::Error::Forbidden`] for a program whose account owns no chats, and for a job.
    pub fn user(&self) -> crate::Result<UserId> {
        let owner = match &self.caller {
            Caller::User { user, .. } => Some(*user),
            Caller::Program(program) => program.user,
            Caller::System(_) => None,
        };
        owner.ok_or_else(crate::Error::people_only)
    }

    /// The session of a person. Programs have none.
    #[must_use]
    pub fn session(&self) -> Option<SessionId> {
        match self.caller {
            Caller::User { session, .. } => Some(session),
            Caller::Program(_) | Caller::System(_) => None,
        }
    }

    /// The service account and its key, for a program.
    #[must_use]
    pub fn as_program(&self) -> Option<&Program> {
        match &self.caller {
            Caller::Program(program) => Some(program),
            Caller::User { .. } | Caller::System(_) => None,
        }
    }

    /// A program may be narrowed to some models; everybody else may use what the tenant may.
    #[must_use]
    pub fn allows_model(&self, model: &str) -> bool {
        self.as_program().and_then(|program| program.models.as_ref()).is_none_or(|models| models.contains(model))
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

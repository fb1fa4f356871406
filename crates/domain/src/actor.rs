//! Who acts, for whom, and in which tenant.

use crate::class::DataClass;
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
    /// The tenant's short name, for what the configuration grants; `None`: nobody looked it up, and nothing of that is granted.
    tenant_slug: Option<Arc<str>>,
    class: DataClass,
    roles: Vec<Role>,
    request: RequestId,
}

impl Actor {
    /// A signed-in person. To be called by `identity` and `testkit` alone.
    #[must_use]
    pub fn authenticated(tenant: TenantId, user: UserId, session: SessionId, roles: Vec<Role>, request: RequestId) -> Self {
        Self::new(Caller::User { user, session }, tenant, roles, request)
    }

    /// A program whose key was checked. To be called by `identity` and `testkit` alone.
    #[must_use]
    pub fn program(tenant: TenantId, program: Arc<Program>, request: RequestId) -> Self {
        Self::new(Caller::Program(program), tenant, Vec::new(), request)
    }

    /// A background job acting within one tenant.
    #[must_use]
    pub fn system(job: &'static str, tenant: TenantId, request: RequestId) -> Self {
        Self::new(Caller::System(job), tenant, Vec::new(), request)
    }

    /// Whatever nobody classified is guarded like the most guarded.
    fn new(caller: Caller, tenant: TenantId, roles: Vec<Role>, request: RequestId) -> Self {
        Self { caller, tenant, tenant_slug: None, class: DataClass::Restricted, roles, request }
    }

    /// The same in the tenant of this short name, whose data, or that of the service account, is of this class. To be called by
    /// `identity` and `testkit` alone: everybody else may only raise the class.
    #[must_use]
    pub fn classified(self, tenant_slug: Arc<str>, class: DataClass) -> Self {
        Self { tenant_slug: Some(tenant_slug), class, ..self }
    }

    /// The same with data of this class at least.
    #[must_use]
    pub fn raised_to(mut self, class: DataClass) -> Self {
        self.class = self.class.max(class);
        self
    }

    #[must_use]
    pub fn caller(&self) -> &Caller {
        &self.caller
    }

    #[must_use]
    pub fn tenant(&self) -> TenantId {
        self.tenant
    }

    /// The tenant's short name, if it was looked up.
    #[must_use]
    pub fn tenant_slug(&self) -> Option<&Arc<str>> {
        self.tenant_slug.as_ref()
    }

    /// How closely what this call brings is kept.
    #[must_use]
    pub fn class(&self) -> DataClass {
        self.class
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

#[cfg(test)]
mod tests {
    use super::{Actor, DataClass, RequestId, TenantId};
    use uuid::Uuid;

    #[test]
    fn a_class_is_raised_and_never_lowered() {
        let job = Actor::system("test", TenantId(Uuid::nil()), RequestId(Uuid::nil()));
        assert_eq!(job.class(), DataClass::Restricted, "nobody said anything else");
        let actor = job.classified("ours".into(), DataClass::Internal);
        assert_eq!(
            actor.clone().raised_to(DataClass::Public).class(),
            DataClass::Internal,
            "If you are here because this failed: a caller lowers the class that its administrator gave it."
        );
        assert_eq!(actor.raised_to(DataClass::Confidential).class(), DataClass::Confidential);
    }
}

//! What the operator of the machine does about people: `kontor admin`.

use crate::Identity;
use contract::ids::{RequestId, SessionId, TenantId};
use domain::{Actor, Result, secret::Secret};
use store::{
    Reason,
    administration::{LedgerSums, Person},
    audit::AuditEvent,
};
use uuid::Uuid;

impl Identity {
    /// Everybody, or everybody of one tenant. `by` names the command for the audit trail, here and below.
    ///
    /// # Errors
    /// As for any statement.
    pub async fn people(&self, by: &str, tenant: Option<TenantId>) -> Result<Vec<Person>> {
        let tx = self.db().begin_system(by, Reason::Administration).await?;
        let people = tx.administration().people(tenant).await?;
        tx.commit().await?;
        Ok(people)
    }

    /// Gives a person a new password and ends all their sessions; returns how many.
    ///
    /// # Errors
    /// [`domain::Error::NotFound`] if nobody signs in with this e-mail; [`domain::Error::Invalid`] on `password`.
    pub async fn set_password(&self, by: &str, email: &str, password: Secret) -> Result<u64> {
        self.validate_new_password("password", &password, email)?;
        let hash = self.hash_password(password).await?;
        let now = self.now();
        let tx = self.db().begin_system(by, Reason::Administration).await?;
        let person = tx.administration().person(email).await?;
        tx.credentials().set(person.tenant, person.user, email, &hash, now).await?;
        let ended = tx.administration().end_sessions(person.tenant, person.user, now).await?;
        tx.audit(&AuditEvent::new(by, "password.set").target(person.user).detail("sessions_ended", ended), Some(person.tenant)).await?;
        tx.commit().await?;
        self.inner.sessions.forget();
        Ok(ended)
    }

    /// Sums of a person's ledger.
    ///
    /// # Errors
    /// [`domain::Error::NotFound`] if nobody signs in with this e-mail.
    pub async fn ledger(&self, by: &str, email: &str) -> Result<LedgerSums> {
        let tx = self.db().begin_system(by, Reason::Administration).await?;
        let person = tx.administration().person(email).await?;
        let sums = tx.administration().ledger(person.tenant, person.user).await?;
        tx.commit().await?;
        Ok(sums)
    }

    /// Acts as a person, for commands given on the machine itself, and says so in the audit trail of their tenant.
    /// The actor's session exists nowhere but in it.
    ///
    /// # Errors
    /// [`domain::Error::NotFound`] if nobody signs in with this e-mail.
    pub async fn act_as(&self, by: &str, email: &str, request: RequestId) -> Result<Actor> {
        let tx = self.db().begin_system(by, Reason::Administration).await?;
        let person = tx.administration().person(email).await?;
        tx.audit(&AuditEvent::new(by, "person.acted_for").target(person.user).request(request), Some(person.tenant)).await?;
        tx.commit().await?;
        Ok(Actor::authenticated(person.tenant, person.user, SessionId(Uuid::now_v7()), person.roles, request))
    }
}

//! What the operator of the machine does about tenants and people: `kontor admin`.

use crate::Identity;
use contract::ids::{RequestId, SessionId, TenantId};
use domain::{Actor, DataClass, Error, Result, secret::Secret};
use store::{
    Reason,
    administration::{LedgerSums, Person},
    audit::AuditEvent,
    tenants::Tenant,
};
use uuid::Uuid;

const MOST_WEIGHT: u16 = 100;

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

    /// All tenants, by short name.
    ///
    /// # Errors
    /// As for any statement.
    pub async fn tenants(&self, by: &str) -> Result<Vec<Tenant>> {
        let tx = self.db().begin_system(by, Reason::Administration).await?;
        let tenants = tx.tenants().list().await?;
        tx.commit().await?;
        Ok(tenants)
    }

    /// Lets a tenant's work count for so much beside that of others, where a worker has not enough for all: 1 to 100, and 1
    /// where nobody said anything. In force everywhere within two seconds, for what begins from then on.
    ///
    /// # Errors
    /// [`Error::Invalid`] on `weight`; [`Error::NotFound`] if there is no such tenant.
    pub async fn set_weight(&self, by: &str, tenant: TenantId, weight: u16) -> Result<()> {
        if !(1..=MOST_WEIGHT).contains(&weight) {
            return Err(Error::invalid("weight", "out_of_range", format!("weight must lie between 1 and {MOST_WEIGHT}.")));
        }
        let tx = self.db().begin_system(by, Reason::Administration).await?;
        tx.tenants().set_weight(tenant, weight).await?;
        tx.audit(&AuditEvent::new(by, "tenant.weight_set").target(tenant).detail("weight", weight), Some(tenant)).await?;
        tx.commit().await
    }

    /// Keeps a tenant's data as closely as this class wants, where no service account says otherwise. In force everywhere within
    /// two seconds, for what begins from then on.
    ///
    /// # Errors
    /// [`Error::NotFound`] if there is no such tenant.
    pub async fn set_class(&self, by: &str, tenant: TenantId, class: DataClass) -> Result<()> {
        let tx = self.db().begin_system(by, Reason::Administration).await?;
        let before = tx.tenants().get(tenant).await?.class;
        tx.tenants().set_class(tenant, class).await?;
        let event = AuditEvent::new(by, "tenant.class_set").target(tenant);
        tx.audit(&event.detail("class", class.name()).detail("before", before.name()), Some(tenant)).await?;
        tx.commit().await?;
        self.inner.keys.doubt();
        self.inner.sessions.forget();
        Ok(())
    }

    /// Gives a person a new password and ends all their sessions; returns how many.
    ///
    /// # Errors
    /// [`Error::NotFound`] if nobody signs in with this e-mail; [`Error::Invalid`] on `password`.
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
    /// [`Error::NotFound`] if nobody signs in with this e-mail.
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
    /// [`Error::NotFound`] if nobody signs in with this e-mail.
    pub async fn act_as(&self, by: &str, email: &str, request: RequestId) -> Result<Actor> {
        let tx = self.db().begin_system(by, Reason::Administration).await?;
        let person = tx.administration().person(email).await?;
        let tenant = tx.tenants().get(person.tenant).await?;
        tx.audit(&AuditEvent::new(by, "person.acted_for").target(person.user).request(request), Some(person.tenant)).await?;
        tx.commit().await?;
        let actor = Actor::authenticated(person.tenant, person.user, SessionId(Uuid::now_v7()), person.roles, request);
        Ok(actor.classified(tenant.slug.into(), tenant.class))
    }
}

//! What people do to their own account.

use crate::{
    Identity,
    throttling::{self, PERSON},
};
use domain::{Action, Actor, Error, Result, secret::Secret};
use store::{Reason, audit::AuditEvent};

/// A change of the own password.
#[derive(Clone, Debug)]
pub struct NewPassword {
    pub current: Secret,
    pub new: Secret,
}

impl Identity {
    /// Replaces the person's password and ends all their other sessions.
    ///
    /// # Errors
    /// [`Error::Invalid`] on field `current` (`wrong_password`) or `new` (see [`Identity::validate_new_password`]);
    /// [`Error::QuotaExceeded`] after too many wrong passwords.
    pub async fn change_password(&self, actor: &Actor, change: NewPassword) -> Result<()> {
        actor.may(Action::ManageOwnAccount)?;
        let user = actor.user()?;
        let tx = self.db().begin(actor).await?;
        let email = tx.users().get(user).await?.email;
        tx.commit().await?;
        self.validate_new_password("new", &change.new, &email)?;
        self.confirm_password(actor, "current", change.current).await?;
        let hash = self.hash_password(change.new).await?;
        let now = self.now();
        let tx = self.db().begin(actor).await?;
        tx.credentials().change(user, &hash, now).await?;
        let ended = tx.sessions().revoke_others(user, actor.session(), now).await?;
        tx.audit().add(&AuditEvent::by(actor, "password.changed").detail("sessions_ended", ended)).await?;
        tx.commit().await?;
        self.inner.sessions.forget();
        Ok(())
    }

    /// Removes the person with everything they own. Their usage stays in the ledger without their name.
    ///
    /// # Errors
    /// [`Error::Invalid`] on field `password` (`wrong_password`); [`Error::QuotaExceeded`] after too many of them.
    pub async fn delete_account(&self, actor: &Actor, password: Secret) -> Result<()> {
        actor.may(Action::ManageOwnAccount)?;
        let user = actor.user()?;
        self.confirm_password(actor, "password", password).await?;
        let tx = self.db().begin(actor).await?;
        tx.users().delete(user).await?;
        tx.audit().add(&AuditEvent::by(actor, "account.deleted").target(user)).await?;
        tx.commit().await?;
        self.inner.sessions.forget();
        Ok(())
    }

    /// Asks somebody who is signed in for their password once more, before something that cannot be undone. Throttled
    /// like a sign-in: a stolen session must not be a way to guess the password.
    ///
    /// # Errors
    /// [`Error::Invalid`] with code `wrong_password` on `field`; [`Error::QuotaExceeded`] after too many of them.
    pub async fn confirm_password(&self, actor: &Actor, field: &'static str, password: Secret) -> Result<()> {
        let user = actor.user()?;
        let key = throttling::user(user);
        let tx = self.db().begin_system(&user.to_string(), Reason::SignIn).await?;
        self.count_attempt(&tx, &key, &PERSON).await?;
        tx.commit().await?;
        let tx = self.db().begin(actor).await?;
        let hash = tx.credentials().hash(user).await?;
        tx.commit().await?;
        if !self.inner.hasher.verify(password, hash).await? {
            return Err(Error::invalid(field, "wrong_password", "This is not your current password."));
        }
        let tx = self.db().begin_system(&user.to_string(), Reason::SignIn).await?;
        tx.throttle().clear(&key).await?;
        tx.commit().await
    }
}

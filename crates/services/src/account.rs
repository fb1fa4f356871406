//! The signed-in person: profile, password, sessions, farewell.

use crate::{check, shared::Shared, turns::Turns};
use contract::{
    account::{Me, Profile, SessionInfo},
    ids::SessionId,
};
use domain::{Action, Actor, Error, Result, secret::Secret};
use identity::NewPassword;
use std::sync::Arc;

/// Longest name, in characters.
const NAME_MAX_CHARS: usize = 100;
/// Longest standing instructions, in bytes.
const INSTRUCTIONS_MAX_BYTES: usize = 8 * 1024;

/// One's own account.
#[derive(Clone)]
pub struct Account {
    shared: Arc<Shared>,
    turns: Turns,
}

impl Account {
    pub(crate) fn new(shared: Arc<Shared>, turns: Turns) -> Self {
        Self { shared, turns }
    }

    /// Who is signed in.
    ///
    /// # Errors
    /// [`Error::NotFound`] if the account was deleted a moment ago.
    pub async fn me(&self, actor: &Actor) -> Result<Me> {
        actor.may(Action::ManageOwnAccount)?;
        let user = actor.user()?;
        let tx = self.shared.db.begin(actor).await?;
        let person = tx.users().get(user).await?;
        let tenant_name = tx.tenants().name().await?;
        tx.commit().await?;
        Ok(Me { user, tenant: actor.tenant(), tenant_name, email: person.email, roles: actor.roles().to_vec(), profile: person.profile })
    }

    /// Replaces the profile; what is stored then.
    ///
    /// # Errors
    /// [`Error::Invalid`] for `name` (`required`, `too_long`), `instructions` (`too_long`) or `default_model`
    /// (`unknown_model`).
    pub async fn change_profile(&self, actor: &Actor, profile: Profile) -> Result<Profile> {
        actor.may(Action::ManageOwnAccount)?;
        let user = actor.user()?;
        let name = check::one_line(&profile.name);
        check::required("name", &name)?;
        if name.chars().count() > NAME_MAX_CHARS {
            return Err(Error::invalid("name", "too_long", format!("A name may have at most {NAME_MAX_CHARS} characters.")));
        }
        let instructions = check::clean(profile.instructions);
        check::at_most("instructions", &instructions, INSTRUCTIONS_MAX_BYTES)?;
        let profile = Profile { name, instructions, ..profile };
        let tx = self.shared.db.begin(actor).await?;
        let before = tx.users().get(user).await?.profile;
        // A default that was chosen while it was offered may stay; a new one must be offered now.
        if let Some(model) = profile.default_model.as_ref().filter(|_| profile.default_model != before.default_model) {
            check::model("default_model", &self.shared.inference, actor, model)?;
        }
        tx.users().change_profile(user, &profile).await?;
        tx.commit().await?;
        Ok(profile)
    }

    /// Changes the password and ends all other sessions.
    ///
    /// # Errors
    /// [`Error::Invalid`] for `current` (`wrong_password`) or `new`; [`Error::QuotaExceeded`] after too many tries.
    pub async fn change_password(&self, actor: &Actor, current: Secret, new: Secret) -> Result<()> {
        actor.may(Action::ManageOwnAccount)?;
        self.shared.identity.change_password(actor, NewPassword { current, new }).await
    }

    /// The user's signed-in browsers, last used first.
    ///
    /// # Errors
    /// Those of the database.
    pub async fn sessions(&self, actor: &Actor) -> Result<Vec<SessionInfo>> {
        actor.may(Action::ManageOwnAccount)?;
        self.shared.identity.sessions(actor).await
    }

    /// Signs one of the user's browsers out.
    ///
    /// # Errors
    /// [`Error::NotFound`].
    pub async fn revoke_session(&self, actor: &Actor, session: SessionId) -> Result<()> {
        actor.may(Action::ManageOwnAccount)?;
        self.shared.identity.revoke_session(actor, session).await
    }

    /// Signs all of the user's other browsers out.
    ///
    /// # Errors
    /// Those of the database.
    pub async fn revoke_other_sessions(&self, actor: &Actor) -> Result<()> {
        actor.may(Action::ManageOwnAccount)?;
        self.shared.identity.revoke_other_sessions(actor).await.map(drop)
    }

    /// Erases the account and everything that the user wrote, at once and for good. What was used stays in the ledger
    /// without a name.
    ///
    /// # Errors
    /// [`Error::Invalid`] for `password` (`wrong_password`); [`Error::QuotaExceeded`] after too many tries.
    pub async fn delete(&self, actor: &Actor, password: Secret) -> Result<()> {
        actor.may(Action::ManageOwnAccount)?;
        let running = self.turns.running(actor).await?;
        self.shared.identity.delete_account(actor, password).await?;
        // Their rows are gone, so they can store nothing more; this frees their slots.
        self.turns.abandon(actor, running).await
    }
}

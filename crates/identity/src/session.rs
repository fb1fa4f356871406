//! Sessions: from token to actor, list, end.

use crate::{Identity, token};
use contract::{
    account::SessionInfo,
    ids::{RequestId, SessionId},
};
use domain::{Action, Actor, Error, Result};
use moka::future::Cache;
use std::time::Duration;
use store::{
    Reason,
    audit::AuditEvent,
    sessions::{ActiveSession, TokenHash},
};

/// How long a session that ended on another replica may still be taken for valid.
const TRUSTED_FOR: Duration = Duration::from_secs(1);
const CACHED_SESSIONS: u64 = 10_000;
/// Ended sessions and old counters are kept this long.
const KEPT_MS: i64 = 30 * 24 * 60 * 60 * 1_000;

/// Sessions that were valid a moment ago. Only positives: a new session is valid at once.
#[derive(Debug)]
pub(crate) struct SessionCache {
    known: Cache<TokenHash, ActiveSession>,
}

impl SessionCache {
    pub(crate) fn new() -> Self {
        Self { known: Cache::builder().max_capacity(CACHED_SESSIONS).time_to_live(TRUSTED_FOR).build() }
    }

    /// After a session ended in this process. Everything, because it costs one query each and the cache is
    /// a second old at most.
    pub(crate) fn forget(&self) {
        self.known.invalidate_all();
    }
}

impl Identity {
    /// Who holds this token; `None` if the session ended or never was.
    ///
    /// # Errors
    /// [`Error::Unavailable`] when the database cannot be asked: that is not a sign-out.
    pub async fn authenticate(&self, token: &str, request: RequestId) -> Result<Option<Actor>> {
        let Some(hash) = token::hash(token) else { return Ok(None) };
        let now = self.now();
        let cached = self.inner.sessions.known.get(&hash).await.filter(|session| session.expires_at > now);
        let session = match cached {
            Some(session) => session,
            None => match self.db().session_by_token(&hash, now, self.inner.lifetime_ms).await? {
                None => return Ok(None),
                Some(session) => {
                    self.inner.sessions.known.insert(hash, session.clone()).await;
                    session
                }
            },
        };
        let actor = Actor::authenticated(session.tenant, session.user, session.session, session.roles, request);
        Ok(Some(actor.classified(session.tenant_slug, session.class)))
    }

    /// Ends the actor's session.
    ///
    /// # Errors
    /// [`Error::Forbidden`] for a program, which has none; else as for any statement.
    pub async fn sign_out(&self, actor: &Actor) -> Result<()> {
        let (user, session) = (actor.user()?, actor.session().ok_or_else(Error::people_only)?);
        let tx = self.db().begin(actor).await?;
        if tx.sessions().revoke(user, session, self.now()).await? {
            tx.audit().add(&AuditEvent::by(actor, "sign_out").target(session)).await?;
        }
        tx.commit().await?;
        self.inner.sessions.forget();
        Ok(())
    }

    /// The person's signed-in browsers, last used first.
    ///
    /// # Errors
    /// [`Error::Forbidden`]; else as for any statement.
    pub async fn sessions(&self, actor: &Actor) -> Result<Vec<SessionInfo>> {
        actor.may(Action::ManageOwnAccount)?;
        let tx = self.db().begin(actor).await?;
        let sessions = tx.sessions().list(actor.user()?, self.now()).await?;
        tx.commit().await?;
        let info = |session: store::sessions::Session| SessionInfo {
            id: session.id,
            user_agent: session.user_agent,
            created_at: session.created_at,
            last_seen_at: session.last_seen_at,
            expires_at: session.expires_at,
            current: Some(session.id) == actor.session(),
        };
        Ok(sessions.into_iter().map(info).collect())
    }

    /// Ends one of the person's sessions.
    ///
    /// # Errors
    /// [`Error::NotFound`] if they have no such session; else as [`Identity::sessions`].
    pub async fn revoke_session(&self, actor: &Actor, session: SessionId) -> Result<()> {
        actor.may(Action::ManageOwnAccount)?;
        let tx = self.db().begin(actor).await?;
        if !tx.sessions().revoke(actor.user()?, session, self.now()).await? {
            return Err(Error::not_found("session"));
        }
        tx.audit().add(&AuditEvent::by(actor, "session.revoked").target(session)).await?;
        tx.commit().await?;
        self.inner.sessions.forget();
        Ok(())
    }

    /// Ends all of the person's sessions but the one of this call. Returns how many.
    ///
    /// # Errors
    /// As [`Identity::sessions`].
    pub async fn revoke_other_sessions(&self, actor: &Actor) -> Result<u64> {
        actor.may(Action::ManageOwnAccount)?;
        let tx = self.db().begin(actor).await?;
        let ended = tx.sessions().revoke_others(actor.user()?, actor.session(), self.now()).await?;
        tx.audit().add(&AuditEvent::by(actor, "session.others_revoked").detail("sessions", ended)).await?;
        tx.commit().await?;
        self.inner.sessions.forget();
        Ok(ended)
    }

    /// For the purge job: removes sessions and attempt counters that ended 30 days ago. Returns how many rows.
    ///
    /// # Errors
    /// As for any statement.
    pub async fn purge(&self) -> Result<u64> {
        let before = self.now() - KEPT_MS;
        let tx = self.db().begin_system("purge", Reason::Purge).await?;
        let removed = tx.sessions().purge(before).await? + tx.throttle().purge(before).await?;
        tx.commit().await?;
        Ok(removed)
    }
}

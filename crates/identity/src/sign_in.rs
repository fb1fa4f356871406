//! Signing in with e-mail and password.

use crate::{
    Identity,
    throttling::{self, CLIENT, PERSON},
    token,
};
use contract::{
    Millis,
    ids::{RequestId, SessionId, TenantId, UserId},
};
use domain::{Error, Result, secret::Secret};
use store::{Reason, SystemTx, audit::AuditEvent, credentials::Credential, sessions::NewSession};
use uuid::Uuid;

/// Browsers send up to a few hundred characters; more is nobody's name.
const USER_AGENT_MAX_CHARS: usize = 400;

/// What a visitor brings.
#[derive(Clone, Debug)]
pub struct SignIn {
    pub email: String,
    pub password: Secret,
    /// The browser's `User-Agent`; shown in the list of sessions.
    pub user_agent: String,
    /// The address it comes from.
    pub client: String,
    /// The session token the browser still had; that session ends.
    pub previous: Option<Secret>,
    pub request: RequestId,
}

/// A new session.
#[derive(Clone, Debug)]
pub struct SignedIn {
    /// For the cookie. It exists here and in the browser, nowhere else.
    pub token: Secret,
    pub session: SessionId,
    /// Unless the session is used: each use moves it.
    pub expires_at: Millis,
}

impl Identity {
    /// Checks e-mail and password and starts a session.
    ///
    /// An unknown e-mail, a wrong password and a disabled person are told and timed alike.
    ///
    /// # Errors
    /// [`Error::Unauthenticated`] with code `wrong_credentials`; [`Error::QuotaExceeded`] after too many failures
    /// for this e-mail or from this address.
    pub async fn sign_in(&self, visitor: SignIn) -> Result<SignedIn> {
        let credential = self.counted_lookup(&visitor).await?;
        let hash = credential.as_ref().map(|credential| credential.password_hash.clone());
        let matches = self.inner.hasher.verify(visitor.password.clone(), hash).await?;
        match credential {
            Some(credential) if matches && !credential.disabled => self.start_session(&visitor, &credential).await,
            credential => {
                self.note_failure(&visitor, credential.as_ref(), matches).await?;
                Err(wrong_credentials())
            }
        }
    }

    /// Counts the attempt (as a failure, until it succeeds) and looks the person up.
    async fn counted_lookup(&self, visitor: &SignIn) -> Result<Option<Credential>> {
        let tx = self.db().begin_system("sign-in", Reason::SignIn).await?;
        self.count_attempt(&tx, &throttling::client(&visitor.client), &CLIENT).await?;
        let counted = self.count_attempt(&tx, &throttling::email(&visitor.email), &PERSON).await;
        // A blocked e-mail still counts against the address.
        if counted.is_err() {
            tx.commit().await?;
            return counted.map(|()| None);
        }
        let credential = tx.credentials().by_email(&visitor.email).await?;
        tx.commit().await?;
        Ok(credential)
    }

    async fn start_session(&self, visitor: &SignIn, credential: &Credential) -> Result<SignedIn> {
        let now = self.now();
        let tx = self.db().begin_system("sign-in", Reason::SignIn).await?;
        tx.throttle().forgive(&throttling::client(&visitor.client), &CLIENT).await?;
        tx.throttle().clear(&throttling::email(&visitor.email)).await?;
        // Rotation: whoever planted or copied the old token is out.
        if let Some(previous) = visitor.previous.as_ref().and_then(|token| token::hash(token.reveal())) {
            tx.sessions().revoke_token(&previous, now).await?;
        }
        let (token, token_hash) = token::new();
        let new = NewSession {
            id: SessionId(Uuid::now_v7()),
            tenant: credential.tenant,
            user: credential.user,
            token_hash,
            user_agent: visitor.user_agent.chars().take(USER_AGENT_MAX_CHARS).collect(),
            created_at: now,
            expires_at: now.saturating_add(self.inner.lifetime_ms),
        };
        tx.sessions().create(&new).await?;
        let event = event("sign_in.ok", visitor, Some(credential.user)).target(new.id);
        tx.audit(&event, Some(credential.tenant)).await?;
        tx.commit().await?;
        self.inner.sessions.forget();
        Ok(SignedIn { token, session: new.id, expires_at: new.expires_at })
    }

    async fn note_failure(&self, visitor: &SignIn, credential: Option<&Credential>, matches: bool) -> Result<()> {
        let reason = match credential {
            None => "unknown e-mail",
            Some(_) if matches => "disabled",
            Some(_) => "wrong password",
        };
        let user: Option<UserId> = credential.map(|credential| credential.user);
        let tenant: Option<TenantId> = credential.map(|credential| credential.tenant);
        let tx: SystemTx = self.db().begin_system("sign-in", Reason::SignIn).await?;
        tx.audit(&event("sign_in.failed", visitor, user).detail("reason", reason), tenant).await?;
        tx.commit().await
    }
}

/// Never holds what was typed as e-mail: people type passwords there.
fn event(action: &'static str, visitor: &SignIn, user: Option<UserId>) -> AuditEvent {
    let actor = user.map_or_else(|| "nobody".to_owned(), |user| user.to_string());
    AuditEvent::new(actor, action).detail("client", visitor.client.as_str()).request(visitor.request)
}

fn wrong_credentials() -> Error {
    Error::Unauthenticated { code: "wrong_credentials", message: "E-mail or password is not right.".into() }
}

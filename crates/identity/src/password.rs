//! Password hashes: argon2id with the crate's recommended cost, off the async threads, a few at a time.

use crate::Identity;
use argon2::{
    Argon2,
    password_hash::{self, PasswordHasher, PasswordVerifier, phc::PasswordHash},
};
use contract::account::PASSWORD_MIN_CHARS;
use domain::{Error, Result, secret::Secret};
use std::{sync::Arc, time::Duration};
use tokio::sync::Semaphore;

/// Longest password, in bytes. Longer ones would only make hashing dearer.
const PASSWORD_MAX_BYTES: usize = 512;
/// Fewer different characters than this are easy to guess, however long the password is.
const DISTINCT_CHARS_MIN: usize = 5;
/// How long a sign-in waits for its turn before it is told to come back.
const PATIENCE: Duration = Duration::from_secs(10);
/// Checked for unknown people, so that they cost what known ones do. Same parameters as new hashes; the
/// hash itself is random, no password leads to it.
const NOBODY: &str = "$argon2id$v=19$m=19456,t=2,p=1$5PHCIsyPE/gJcDIpOBeFFg$h4nPZYAQvX5E1IyTkWvSq6ZfSLrJtz0uJ3YvQxCt8d0";

/// Hashes and checks, a few at a time.
#[derive(Debug)]
pub(crate) struct Hasher {
    turns: Arc<Semaphore>,
}

impl Hasher {
    pub(crate) fn new(parallel: usize) -> Self {
        Self { turns: Arc::new(Semaphore::new(parallel.max(1))) }
    }

    async fn hash(&self, password: Secret) -> Result<String> {
        self.in_turn(move || {
            let hash = Argon2::default().hash_password(password.reveal().as_bytes());
            hash.map(|hash: PasswordHash| hash.to_string()).map_err(|error| Error::internal(error.to_string()))
        })
        .await
    }

    /// Whether the password leads to the hash. Without a hash it takes as long and is `false`.
    pub(crate) async fn verify(&self, password: Secret, hash: Option<String>) -> Result<bool> {
        let is_somebody = hash.is_some();
        let hash = hash.unwrap_or_else(|| NOBODY.to_owned());
        let matches = self.in_turn(move || {
            // An over-long password was never accepted; the cut one costs the same and cannot match.
            let bytes = password.reveal().as_bytes();
            let cut = &bytes[..bytes.len().min(PASSWORD_MAX_BYTES)];
            match Argon2::default().verify_password(cut, hash.as_str()) {
                Ok(()) => Ok(cut.len() == bytes.len()),
                Err(password_hash::Error::PasswordInvalid) => Ok(false),
                Err(error) => Err(Error::internal(format!("a stored password hash cannot be checked: {error}"))),
            }
        });
        Ok(matches.await? && is_somebody)
    }

    /// Runs on the blocking threads. The turn is given back when the work is done, not when the caller goes away:
    /// otherwise callers that hang up could start any number of hashes.
    async fn in_turn<T: Send + 'static>(&self, work: impl FnOnce() -> Result<T> + Send + 'static) -> Result<T> {
        let turn = tokio::time::timeout(PATIENCE, self.turns.clone().acquire_owned()).await;
        let turn = turn.map_err(|_| Error::unavailable("sign-in", Some(10)))?.map_err(Error::internal)?;
        let done = tokio::task::spawn_blocking(move || {
            let outcome = work();
            drop(turn);
            outcome
        });
        done.await.map_err(Error::internal)?
    }
}

impl Identity {
    /// The hash of a password, as a PHC string. Says nothing about its quality; see [`Identity::validate_new_password`].
    ///
    /// # Errors
    /// [`Error::Unavailable`] when too many passwords are being hashed.
    pub async fn hash_password(&self, password: Secret) -> Result<String> {
        self.inner.hasher.hash(password).await
    }

    /// Whether this is the password that was hashed.
    ///
    /// # Errors
    /// [`Error::Unavailable`] as [`Identity::hash_password`]; [`Error::Internal`] if the hash is none.
    pub async fn verify_password(&self, password: Secret, hash: String) -> Result<bool> {
        self.inner.hasher.verify(password, Some(hash)).await
    }

    /// Refuses passwords that are too short, too long or easy to guess. `field` is the caller's name for it.
    ///
    /// # Errors
    /// [`Error::Invalid`] with code `password_too_short`, `password_too_long` or `password_common`.
    pub fn validate_new_password(&self, field: &'static str, password: &Secret, email: &str) -> Result<()> {
        validate(field, password.reveal(), email)
    }
}

fn validate(field: &'static str, password: &str, email: &str) -> Result<()> {
    if password.chars().count() < PASSWORD_MIN_CHARS {
        return Err(Error::invalid(field, "password_too_short", format!("The password needs at least {PASSWORD_MIN_CHARS} characters.")));
    }
    if password.len() > PASSWORD_MAX_BYTES {
        return Err(Error::invalid(field, "password_too_long", format!("The password may have at most {PASSWORD_MAX_BYTES} bytes.")));
    }
    if is_easy(password, email) {
        return Err(Error::invalid(field, "password_common", "This password is easy to guess. Choose another one."));
    }
    Ok(())
}

/// Repetitions, simple sequences, well-known words with padding, and the own e-mail.
fn is_easy(password: &str, email: &str) -> bool {
    let lower = password.to_lowercase();
    let mut distinct: Vec<char> = lower.chars().collect();
    distinct.sort_unstable();
    distinct.dedup();
    if distinct.len() < DISTINCT_CHARS_MIN {
        return true;
    }
    let local_part = email.split('@').next().unwrap_or_default().to_lowercase();
    let known = [
        "password",
        "passwort",
        "kontor",
        "qwertz",
        "qwerty",
        "asdfgh",
        "123456789",
        "abcdefgh",
        "letmein",
        "willkommen",
        "welcome",
        "admin",
    ];
    let mut rest = lower.clone();
    for word in known.into_iter().chain([local_part.as_str()]).filter(|word| word.len() > 3) {
        rest = rest.replace(word, "");
    }
    // What is left beside the words must be worth something of its own.
    let letters = rest.chars().filter(|char| char.is_alphabetic()).count();
    rest.len() < lower.len() && letters < DISTINCT_CHARS_MIN
}

#[cfg(test)]
mod tests {
    use super::{Hasher, NOBODY, validate};
    use domain::secret::Secret;

    fn code(password: &str) -> String {
        validate("new", password, "anna.meier@example.org").err().map(|error| error.problem().code).unwrap_or_default()
    }

    #[test]
    fn weak_passwords_are_refused() {
        assert_eq!(code("kurz"), "password_too_short");
        assert_eq!(code("Grüße-Grüß!"), "password_too_short");
        assert_eq!(code(&"ab1".repeat(400)), "password_too_long");
        for easy in ["aaaaaaaaaaaaaa", "Password123456", "passwort-2026!", "anna.meier2026", "123456789123456789", "qwertzqwertz12"] {
            assert_eq!(code(easy), "password_common", "{easy}");
        }
        for good in ["correct horse battery staple", "Xk3-9vQ!72-mmzT", "Fahrradkette am Hafen", "vBq2mDs8kLp0wZ"] {
            assert_eq!(code(good), "", "{good}");
        }
    }

    #[tokio::test]
    async fn a_password_leads_to_its_hash_only() {
        let hasher = Hasher::new(2);
        let hash = hasher.hash(Secret::new("Fahrradkette am Hafen")).await.unwrap();
        assert!(hasher.verify(Secret::new("Fahrradkette am Hafen"), Some(hash.clone())).await.unwrap());
        assert!(!hasher.verify(Secret::new("Fahrradkette am hafen"), Some(hash.clone())).await.unwrap());
        assert_ne!(hash, hasher.hash(Secret::new("Fahrradkette am Hafen")).await.unwrap(), "each hash has its own salt");
        assert!(!hasher.verify(Secret::new("Fahrradkette am Hafen"), None).await.unwrap());
        assert!(hasher.verify(Secret::new("x"), Some("no hash".into())).await.is_err());
    }

    #[tokio::test]
    async fn nobody_costs_what_somebody_costs() {
        let hash = Hasher::new(1).hash(Secret::new("x")).await.unwrap();
        let cost = |hash: &str| hash.split('$').take(4).map(str::to_owned).collect::<Vec<_>>();
        assert_eq!(
            cost(&hash),
            cost(NOBODY),
            "If you are here because this failed: give NOBODY the new parameters, or the time of a sign-in tells who exists."
        );
    }
}

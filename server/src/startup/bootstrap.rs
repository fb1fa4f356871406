//! The very first start: a demo tenant and two people, so that somebody can sign in.

use super::files;
use crate::{AnyError, config::Config};
use contract::account::Role;
use domain::secret::Secret;
use identity::{Identity, NewPerson};
use serde::Serialize;
use std::path::Path;

/// Where the first sign-in is kept, below the data folder.
const FILE: &str = "first-login.json";

/// Who acts, in the audit trail.
const BY: &str = "bootstrap";

/// Who can sign in after the first start.
#[derive(Debug, Serialize)]
pub struct FirstLogin {
    tenant: &'static str,
    people: Vec<Person>,
}

#[derive(Debug, Serialize)]
struct Person {
    email: &'static str,
    /// `None`: it was configured, whoever did that knows it.
    #[serde(skip_serializing_if = "Option::is_none")]
    password: Option<String>,
}

impl FirstLogin {
    /// For the terminal, printed once.
    #[must_use]
    pub fn describe(&self, data_dir: &Path) -> String {
        let mut text = String::from("\n  First sign-in:\n");
        for Person { email, password } in &self.people {
            text.push_str(&format!("    {email:<20} {}\n", password.as_deref().unwrap_or("(the configured password)")));
        }
        text.push_str(&format!("  Kept in {}; delete it once the passwords are changed.\n", data_dir.join(FILE).display()));
        text
    }
}

/// Creates the demo tenant with its people if there is no tenant yet; `None` if there is one, or if the
/// configuration does not want it.
///
/// # Errors
/// The database does not answer, or the file cannot be written (nobody is created then).
pub async fn run(config: &Config, identity: &Identity) -> Result<Option<FirstLogin>, AnyError> {
    if !config.bootstrap.enabled || !identity.is_first_start().await? {
        return Ok(None);
    }
    let everything = [Role::User, Role::ServiceAdmin, Role::SystemAdmin];
    let people: [(&'static str, &str, &[Role]); 2] =
        [("admin@example.org", "Admin", &everything), ("user@example.org", "User", &[Role::User])];
    let mut login = FirstLogin { tenant: "demo", people: Vec::new() };
    let mut accounts = Vec::new();
    for (email, name, roles) in people {
        let configured = config.bootstrap.password.clone();
        let password = configured.clone().unwrap_or_else(|| Secret::new(random_password()));
        login.people.push(Person { email, password: configured.is_none().then(|| password.reveal().to_owned()) });
        accounts.push((email, name, roles, password));
    }
    // Before the accounts exist: a password that was never written down would lock everybody out.
    files::write(&config.data_dir.join(FILE), &login)?;
    let tenant = identity.create_tenant(BY, "demo", "Demo").await?;
    for (email, name, roles, password) in accounts {
        let (email, name, roles) = (email.into(), name.into(), roles.to_vec());
        identity.create_user(BY, NewPerson { tenant, email, name, roles, password }).await?;
    }
    Ok(Some(login))
}

/// Sixteen letters and digits in groups of four, none of them easily mistaken: about 80 random bits.
#[must_use]
pub fn random_password() -> String {
    const LETTERS: &[u8; 32] = b"abcdefghjkmnpqrstuvwxyz234567890";
    let bytes: [u8; 16] = rand::random();
    let mut text = String::with_capacity(19);
    for (index, byte) in bytes.iter().enumerate() {
        if index > 0 && index % 4 == 0 {
            text.push('-');
        }
        text.push(char::from(LETTERS[usize::from(byte % 32)]));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::random_password;
    use contract::account::PASSWORD_MIN_CHARS;

    #[test]
    fn random_passwords_are_long_enough_and_differ() {
        let (one, two) = (random_password(), random_password());
        assert!(one.chars().count() >= PASSWORD_MIN_CHARS);
        assert_ne!(one, two);
    }
}

//! New tenants and people: for the first start and for `kontor admin`.

use crate::Identity;
use contract::{
    account::Role,
    ids::{TenantId, UserId},
};
use domain::{Error, Result, secret::Secret};
use store::{Reason, audit::AuditEvent, users::NewUser};
use uuid::Uuid;

/// Longest e-mail address there is (RFC 5321), in bytes.
const EMAIL_MAX_BYTES: usize = 254;
const NAME_MAX_CHARS: usize = 200;

/// A person with a local password.
#[derive(Clone, Debug)]
pub struct NewPerson {
    pub tenant: TenantId,
    pub email: String,
    pub name: String,
    pub roles: Vec<Role>,
    pub password: Secret,
}

impl Identity {
    /// There is no tenant yet.
    ///
    /// # Errors
    /// As for any statement.
    pub async fn is_first_start(&self) -> Result<bool> {
        // Only asks; the first tenant is audited when it is made.
        let tx = self.db().begin_system("bootstrap", Reason::SignIn).await?;
        let any = tx.tenants().any().await?;
        tx.commit().await?;
        Ok(!any)
    }

    /// The tenant with this short name.
    ///
    /// # Errors
    /// [`Error::NotFound`]; else as for any statement.
    pub async fn tenant_by_slug(&self, by: &str, slug: &str) -> Result<TenantId> {
        let tx = self.db().begin_system(by, Reason::Administration).await?;
        let found = tx.tenants().by_slug(slug).await?;
        tx.commit().await?;
        found.ok_or(Error::not_found("tenant"))
    }

    /// Adds a tenant. `by` names the command for the audit trail; `slug` is lower case letters, digits and hyphens.
    ///
    /// # Errors
    /// [`Error::Invalid`] on `slug` or `name`; [`Error::Conflict`] with code `slug_taken`.
    pub async fn create_tenant(&self, by: &str, slug: &str, name: &str) -> Result<TenantId> {
        if !is_slug(slug) {
            return Err(Error::invalid(
                "slug",
                "bad_slug",
                "Use 1 to 63 lower case letters, digits and hyphens, beginning with a letter or digit.",
            ));
        }
        let name = required("name", name)?;
        let id = TenantId(Uuid::now_v7());
        let tx = self.db().begin_system(by, Reason::Administration).await?;
        tx.tenants().create(id, slug, name).await.map_err(|error| taken(error, "slug_taken", "This short name is taken."))?;
        tx.audit(&AuditEvent::new(by, "tenant.created").target(id), Some(id)).await?;
        tx.commit().await?;
        Ok(id)
    }

    /// Adds a person who signs in with e-mail and password.
    ///
    /// # Errors
    /// [`Error::Invalid`] on `email`, `name` or `password`; [`Error::Conflict`] with code `email_taken`.
    pub async fn create_user(&self, by: &str, person: NewPerson) -> Result<UserId> {
        let email = person.email.trim();
        if !is_email(email) {
            return Err(Error::invalid("email", "bad_email", "This is not an e-mail address."));
        }
        let name = required("name", &person.name)?;
        self.validate_new_password("password", &person.password, email)?;
        let hash = self.hash_password(person.password).await?;
        let (id, now) = (UserId(Uuid::now_v7()), self.now());
        let tx = self.db().begin_system(by, Reason::Administration).await?;
        let new = NewUser { id, email: email.into(), name: name.into(), roles: person.roles, created_at: now };
        let email_taken = |error| taken(error, "email_taken", "Somebody signs in with this e-mail already.");
        tx.users().create(person.tenant, &new).await.map_err(email_taken)?;
        tx.credentials().set(person.tenant, id, email, &hash, now).await.map_err(email_taken)?;
        tx.audit(&AuditEvent::new(by, "user.created").target(id), Some(person.tenant)).await?;
        tx.commit().await?;
        Ok(id)
    }
}

pub(crate) fn taken(error: Error, code: &'static str, message: &str) -> Error {
    match error {
        Error::Conflict { .. } => Error::conflict(code, message),
        other => other,
    }
}

pub(crate) fn required<'a>(field: &'static str, text: &'a str) -> Result<&'a str> {
    let text = text.trim();
    if text.is_empty() {
        return Err(Error::invalid(field, "required", "Please fill in this field."));
    }
    if text.chars().count() > NAME_MAX_CHARS {
        return Err(Error::invalid(field, "too_long", format!("At most {NAME_MAX_CHARS} characters.")));
    }
    Ok(text)
}

/// It can be a tenant's short name.
#[must_use]
pub fn is_slug(slug: &str) -> bool {
    let plain = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
    (1..=63).contains(&slug.len()) && slug.bytes().all(|byte| plain(byte) || byte == b'-') && slug.bytes().next().is_some_and(plain)
}

/// As much as can be said without sending a message: something, an at sign, a host.
fn is_email(email: &str) -> bool {
    let Some((local, host)) = email.rsplit_once('@') else {
        return false;
    };
    email.len() <= EMAIL_MAX_BYTES
        && !local.is_empty()
        && !host.is_empty()
        && !email.chars().any(|char| char.is_whitespace() || char.is_control())
}

#[cfg(test)]
mod tests {
    use super::{is_email, is_slug};

    #[test]
    fn addresses_and_short_names_are_recognised() {
        assert!(is_email("user@example.org") && is_email("ä.ö+x@localhost"));
        assert!(
            !is_email("user") && !is_email("@x") && !is_email("a@") && !is_email("a b@c") && !is_email(&format!("{}@x", "a".repeat(254)))
        );
        assert!(is_slug("demo") && is_slug("a-1") && is_slug("0"));
        assert!(!is_slug("") && !is_slug("-a") && !is_slug("Demo") && !is_slug("a_b") && !is_slug(&"a".repeat(64)));
    }
}

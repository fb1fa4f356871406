//! Which Postgres, and with which logins.

use super::bootstrap::secret;
use domain::secret::Secret;
use serde::Deserialize;

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Database {
    /// The owner's login; `None`: the embedded Postgres.
    #[serde(default, deserialize_with = "secret")]
    pub url: Option<Secret>,
    /// Login `kontor_tenant`; `None`: created, password in the data folder.
    #[serde(default, deserialize_with = "secret")]
    pub tenant_url: Option<Secret>,
    /// Login `kontor_system`; likewise.
    #[serde(default, deserialize_with = "secret")]
    pub system_url: Option<Secret>,
    /// Connections of the tenant login.
    pub max_connections: u32,
}

impl Database {
    pub(super) fn check(&self, wrong: &mut Vec<String>) {
        if self.tenant_url.is_some() != self.system_url.is_some() {
            wrong.push("`database.tenant_url` and `database.system_url`: give both or neither".into());
        }
        if self.tenant_url.is_some() && self.url.is_none() {
            wrong.push("`database.url`: is needed for migrations when `database.tenant_url` is given".into());
        }
        if self.max_connections < 2 {
            wrong.push("`database.max_connections`: must be at least 2".into());
        }
        for (key, url) in [("url", &self.url), ("tenant_url", &self.tenant_url), ("system_url", &self.system_url)] {
            if url.as_ref().is_some_and(|url| !url.reveal().starts_with("postgres://") && !url.reveal().starts_with("postgresql://")) {
                wrong.push(format!("`database.{key}`: must begin with postgres://"));
            }
        }
    }
}

//! The database: the configured one, or our own Postgres under the data folder.

use super::{files, sharing::Sharing};
use crate::{AnyError, config::Config};
use domain::secret::Secret;
use serde::{Deserialize, Serialize};
use std::path::Path;
use store::{
    Db, DbConfig,
    embedded::{Embedded, EmbeddedOptions},
};

/// A Postgres server that answers, and the logins that it knows or will know.
pub struct Server {
    owner_url: Secret,
    logins: Logins,
    embedded: Option<(Embedded, Sharing)>,
}

/// The two restricted logins.
enum Logins {
    /// Configured in full.
    Given { tenant_url: Secret, system_url: Secret },
    /// Ours: they get these passwords.
    Own(Passwords),
}

impl Server {
    /// Takes the configured server, or starts the embedded one (or joins it, if another process of this
    /// installation runs it).
    ///
    /// # Errors
    /// The embedded Postgres does not start; the text says why.
    pub async fn start(config: &Config) -> Result<Self, AnyError> {
        if let Some(url) = &config.database.url {
            let logins = match config.database.tenant_url.clone().zip(config.database.system_url.clone()) {
                Some((tenant_url, system_url)) => Logins::Given { tenant_url, system_url },
                None => Logins::Own(Passwords::load_or_make(&config.data_dir)?),
            };
            return Ok(Self { owner_url: url.clone(), logins, embedded: None });
        }
        let sharing = Sharing::join(&config.data_dir.join("postgres")).await?;
        let install = config.cache_dir.join("postgres");
        let embedded = Embedded::start(&install, &config.data_dir.join("postgres"), EmbeddedOptions::default()).await?;
        let passwords = Passwords { kontor_tenant: embedded.tenant_password.clone(), kontor_system: embedded.system_password.clone() };
        Ok(Self { owner_url: Secret::new(embedded.owner_url.clone()), logins: Logins::Own(passwords), embedded: Some((embedded, sharing)) })
    }

    /// The embedded server, which only processes with this data folder can reach.
    #[must_use]
    pub fn is_embedded(&self) -> bool {
        self.embedded.is_some()
    }

    /// Brings the schema up to date; waits while another process does.
    ///
    /// # Errors
    /// The server cannot be reached or a step fails.
    pub async fn migrate(&self) -> Result<(), AnyError> {
        Ok(migrations::migrate(self.owner_url.reveal()).await.map_err(|error| format!("the database could not be migrated: {error}"))?)
    }

    /// Steps that the schema lacks.
    ///
    /// # Errors
    /// The server cannot be reached.
    pub async fn pending(&self) -> Result<Vec<String>, AnyError> {
        Ok(migrations::pending(self.owner_url.reveal()).await.map_err(|error| format!("the database cannot be reached: {error}"))?)
    }

    /// Connects with the two restricted logins, and creates these first where they were not given.
    ///
    /// # Errors
    /// A login is refused.
    pub async fn connect(&self, config: &Config) -> Result<Db, AnyError> {
        let max_connections = config.database.max_connections;
        let config = match &self.logins {
            Logins::Given { tenant_url, system_url } => {
                DbConfig { tenant_url: tenant_url.reveal().to_owned(), system_url: system_url.reveal().to_owned(), max_connections }
            }
            Logins::Own(Passwords { kontor_tenant, kontor_system }) => {
                migrations::ensure_logins(self.owner_url.reveal(), kontor_tenant, kontor_system)
                    .await
                    .map_err(|error| format!("the logins kontor_tenant and kontor_system could not be set up: {error}"))?;
                DbConfig::from_owner(self.owner_url.reveal(), kontor_tenant, kontor_system, max_connections)?
            }
        };
        Ok(Db::connect(&config).await?)
    }

    /// Stops the embedded server, unless another process of this installation works with it.
    ///
    /// # Errors
    /// It does not stop.
    pub async fn stop(self) -> Result<(), AnyError> {
        let Some((embedded, sharing)) = self.embedded else { return Ok(()) };
        if let Some(_alone) = sharing.leave()? {
            embedded.stop().await?;
        }
        Ok(())
    }
}

/// Passwords of our own logins: kept by the embedded server itself, else in `database.json`.
#[derive(Serialize, Deserialize)]
struct Passwords {
    kontor_tenant: String,
    kontor_system: String,
}

impl Passwords {
    fn load_or_make(data_dir: &Path) -> std::io::Result<Self> {
        let path = data_dir.join("database.json");
        if let Some(passwords) = files::read(&path)? {
            return Ok(passwords);
        }
        let passwords =
            Self { kontor_tenant: Secret::random::<24>().reveal().to_owned(), kontor_system: Secret::random::<24>().reveal().to_owned() };
        files::write(&path, &passwords)?;
        Ok(passwords)
    }
}

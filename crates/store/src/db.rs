//! The two pools and the two doors.

use crate::{
    audit::{self, AuditEvent},
    error::map,
    listen::Listener,
    refusals::Refusals,
    tx::{Reason, SystemTx, TenantTx},
};
use domain::{Actor, Caller, Error, Result};
use sea_orm::{ConnectOptions, ConnectionTrait, Database, DatabaseConnection, DatabaseTransaction, DbBackend, Statement, TransactionTrait};
use std::{sync::Arc, time::Duration};

/// How long a request waits for a free connection before it is refused.
const ACQUIRE_TIMEOUT: Duration = Duration::from_secs(5);

/// Session settings of every connection. The first is the second lock behind [`open`]: should a transaction
/// ever be left open, Postgres ends it.
const SESSION: [(&str, &str); 2] = [("idle_in_transaction_session_timeout", "30s"), ("statement_timeout", "30s")];

/// Where the database is. Both URLs contain passwords: do not log them.
#[derive(Clone)]
pub struct DbConfig {
    /// Login `kontor_tenant`: everything that a person's request does.
    pub tenant_url: String,
    /// Login `kontor_system`: sign-in, jobs, administration of the platform.
    pub system_url: String,
    /// Most connections of the tenant pool; the system pool takes a quarter of it, at least two.
    pub max_connections: u32,
}

impl DbConfig {
    /// The two unprivileged logins of the database at `owner_url` (`postgres://…`): the same server and database
    /// under other names. The passwords are those given to `migrations::ensure_logins`.
    ///
    /// # Errors
    /// [`Error::Invalid`] if it is not such a URL.
    pub fn from_owner(owner_url: &str, tenant_password: &str, system_password: &str, max_connections: u32) -> Result<Self> {
        Ok(Self {
            tenant_url: with_login(owner_url, "kontor_tenant", tenant_password)?,
            system_url: with_login(owner_url, "kontor_system", system_password)?,
            max_connections,
        })
    }
}

/// How one pool of connections stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Connections {
    /// Its login: `tenant` or `system`.
    pub pool: &'static str,
    /// In use now.
    pub busy: u32,
    pub idle: u32,
    /// There are never more.
    pub most: u32,
}

/// Replaces user and password of a database URL.
fn with_login(url: &str, user: &str, password: &str) -> Result<String> {
    let invalid = || {
        Error::invalid("database_url", "database_url_invalid", "The database URL must look like postgres://user:password@host:port/name.")
    };
    let (scheme, rest) = url.split_once("://").ok_or_else(invalid)?;
    let authority_end = rest.find(['/', '?']).unwrap_or(rest.len());
    let (authority, tail) = rest.split_at(authority_end);
    let host = authority.rsplit_once('@').map_or(authority, |(_, host)| host);
    Ok(format!("{scheme}://{user}:{}@{host}{tail}", percent_encoded(password)))
}

fn percent_encoded(text: &str) -> String {
    let plain = |byte: &u8| byte.is_ascii_alphanumeric() || b"-._~".contains(byte);
    text.bytes().map(|byte| if plain(&byte) { char::from(byte).to_string() } else { format!("%{byte:02X}") }).collect()
}

/// The database. Cheap to clone; all clones share pools and listener.
#[derive(Clone, Debug)]
pub struct Db {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    tenant: DatabaseConnection,
    system: DatabaseConnection,
    listener: Listener,
    refusals: Refusals,
}

impl Db {
    /// Connects both pools and proves that both logins work.
    ///
    /// # Errors
    /// [`Error::Unavailable`] when the server cannot be reached, [`Error::Internal`] when it refuses a login.
    pub async fn connect(config: &DbConfig) -> Result<Self> {
        let tenant = pool(&config.tenant_url, config.max_connections, "kontor").await?;
        let system = pool(&config.system_url, (config.max_connections / 4).max(2), "kontor system").await?;
        let listener = Listener::new(config.tenant_url.clone());
        Ok(Self { inner: Arc::new(Inner { tenant, system, listener, refusals: Refusals::default() }) })
    }

    /// Opens a transaction that sees and writes the rows of the actor's tenant only. Nothing is kept
    /// unless [`TenantTx::commit`] is called.
    ///
    /// # Errors
    /// [`Error::Unavailable`] when no connection can be had.
    pub async fn begin(&self, actor: &Actor) -> Result<TenantTx> {
        let tenant = actor.tenant();
        let bind = Statement::from_sql_and_values(
            DbBackend::Postgres,
            "SELECT set_config('app.tenant_id', $1, true)",
            [tenant.to_string().into()],
        );
        let tx = open(self.inner.tenant.clone(), Some(bind)).await?;
        Ok(TenantTx::new(tx, tenant))
    }

    /// Opens a transaction across tenants on the system login. `by` names who acts (a job, a command or a person's id).
    ///
    /// For the reasons that are single acts an audit row is written at once, whatever becomes of the transaction;
    /// for the others see [`Reason`].
    ///
    /// # Errors
    /// [`Error::Unavailable`] when no connection can be had.
    pub async fn begin_system(&self, by: &str, reason: Reason) -> Result<SystemTx> {
        if reason.is_audited_at_begin() {
            let event = AuditEvent::new(by, reason.action());
            self.inner.system.execute_raw(audit::insert(&event, None)).await.map_err(map)?;
        }
        let tx = open(self.inner.system.clone(), None).await?;
        Ok(SystemTx::new(tx, by, reason))
    }

    /// Opens a transaction on the system login whose statements are planned for the tables as they are now. The plan that a
    /// connection keeps of a statement reads all of a table that was small when it was made, such as the ledger of a day that
    /// has just begun.
    ///
    /// # Errors
    /// [`Error::Unavailable`] when no connection can be had.
    pub(crate) async fn begin_planned_anew(&self) -> Result<DatabaseTransaction> {
        let anew = Statement::from_string(DbBackend::Postgres, "SELECT set_config('plan_cache_mode', 'force_custom_plan', true)");
        open(self.inner.system.clone(), Some(anew)).await
    }

    /// Both logins answer.
    ///
    /// # Errors
    /// [`Error::Unavailable`] or [`Error::Internal`], as for any statement.
    pub async fn ping(&self) -> Result<()> {
        self.inner.tenant.execute_unprepared("SELECT 1").await.map_err(map)?;
        self.inner.system.execute_unprepared("SELECT 1").await.map_err(map)?;
        Ok(())
    }

    /// How both pools stand, for the operator's metrics.
    #[must_use]
    pub fn connections(&self) -> [Connections; 2] {
        let of = |pool: &'static str, connection: &DatabaseConnection| {
            let found = connection.get_postgres_connection_pool();
            let (open, idle) = (found.size(), u32::try_from(found.num_idle()).unwrap_or(u32::MAX));
            Connections { pool, busy: open.saturating_sub(idle), idle, most: found.options().get_max_connections() }
        };
        [of("tenant", &self.inner.tenant), of("system", &self.inner.system)]
    }

    /// Writes the refusals that are still counted, waits for the connections in use and closes both pools; further calls fail as
    /// unavailable.
    ///
    /// # Errors
    /// As for any statement.
    pub async fn close(&self) -> Result<()> {
        self.inner.listener.stop();
        if let Err(error) = self.write_refusals().await {
            tracing::warn!(%error, "what was refused last is not in the audit trail");
        }
        self.inner.tenant.close_by_ref().await.map_err(map)?;
        self.inner.system.close_by_ref().await.map_err(map)
    }

    /// What was refused since it was last written into the audit trail.
    #[must_use]
    pub fn refusals(&self) -> &Refusals {
        &self.inner.refusals
    }

    /// The system pool for the few single statements that are exempt from the audit (session lookup).
    pub(crate) fn system(&self) -> &DatabaseConnection {
        &self.inner.system
    }

    /// The tenant pool for statements that touch no table (`pg_notify`).
    pub(crate) fn tenant(&self) -> &DatabaseConnection {
        &self.inner.tenant
    }

    pub(crate) fn listener(&self) -> &Listener {
        &self.inner.listener
    }
}

/// Names the caller in audit rows: the id of the person or the service account, or the job's name.
pub(crate) fn caller_name(actor: &Actor) -> String {
    match actor.caller() {
        Caller::User { user, .. } => user.to_string(),
        Caller::Program(program) => program.account.to_string(),
        Caller::System(job) => (*job).to_owned(),
    }
}

async fn pool(url: &str, max_connections: u32, name: &str) -> Result<DatabaseConnection> {
    let mut options = ConnectOptions::new(url);
    options
        .max_connections(max_connections)
        .acquire_timeout(ACQUIRE_TIMEOUT)
        .connect_timeout(ACQUIRE_TIMEOUT)
        .sqlx_logging(false)
        .set_application_name(name)
        .map_sqlx_postgres_opts(|options| options.options(SESSION));
    Database::connect(options).await.map_err(map)
}

/// `BEGIN` and the tenant's binding, in a task of their own.
///
/// A caller may be dropped at any moment (a browser disconnects). sqlx 0.9 counts a transaction only after
/// the `BEGIN` came back: dropped in between, the connection returns to the pool with the transaction open,
/// and the next borrower works inside it. A spawned task is not dropped with its caller; if nobody waits for
/// its result any more, the transaction is dropped there, complete, and rolled back.
#[expect(clippy::disallowed_methods, reason = "the one place that may begin a transaction, and must outlive its caller to do so")]
async fn open(pool: DatabaseConnection, first: Option<Statement>) -> Result<DatabaseTransaction> {
    let begun = tokio::spawn(async move {
        let tx = pool.begin().await?;
        if let Some(first) = first {
            tx.execute_raw(first).await?;
        }
        Ok(tx)
    });
    begun.await.map_err(Error::internal)?.map_err(map)
}

#[cfg(test)]
mod tests {
    use super::with_login;

    #[test]
    fn only_the_login_of_the_url_changes() {
        let url = with_login("postgres://owner:p%40ss@db.example:5433/kontor?sslmode=require", "kontor_tenant", "a/b@c").unwrap();
        assert_eq!(url, "postgres://kontor_tenant:a%2Fb%40c@db.example:5433/kontor?sslmode=require");
        assert_eq!(with_login("postgres://localhost", "u", "p").unwrap(), "postgres://u:p@localhost");
        assert!(with_login("localhost", "u", "p").is_err());
    }
}

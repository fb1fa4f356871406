//! A database of its own for each test.
//!
//! All test processes share one Postgres. The first to come starts it (see `store::embedded`), and migrates a
//! template database, named after the migrations; each test gets a copy of the template in a few dozen
//! milliseconds and drops it at its end. What killed runs left is swept after an hour.
//!
//! - `DATABASE_URL`: a superuser's URL of a server *for tests* to be used instead. The passwords of the roles
//!   `kontor_tenant` and `kontor_system` are set on it.
//! - `KONTOR_POSTGRES_DIR`: the installation (default `~/.cache/kontor/postgres`).
//! - `KONTOR_TEST_DIR`: the data (default `~/.cache/kontor/test-postgres`).

use sea_orm::{ConnectOptions, ConnectionTrait, Database, DatabaseConnection, DbBackend, DbErr, Statement, Value};
use std::{
    env, fs,
    hash::{DefaultHasher, Hash, Hasher},
    path::PathBuf,
};
use store::{
    Db, DbConfig,
    embedded::{Embedded, EmbeddedOptions},
};
use tokio::sync::OnceCell;
use uuid::Uuid;

/// Connections of one test's tenant pool. Many tests run at once on one server.
const CONNECTIONS: u32 = 8;
/// Enough for all test processes together.
const SERVER_CONNECTIONS: u32 = 400;
/// Key of the advisory lock around the template: the bytes of `kontor_t`.
const LOCK: i64 = i64::from_be_bytes(*b"kontor_t");

/// The shared server, as this process knows it. Holds no connection, because each test has a runtime of its own.
struct Server {
    owner_url: String,
    template: String,
    password: String,
}

static SERVER: OnceCell<Server> = OnceCell::const_new();

/// A freshly migrated, empty database. Dropped with this value.
#[derive(Debug)]
pub struct TestDb {
    pub db: Db,
    /// The superuser's URL of this database, for what the product's own logins may not do.
    pub owner_url: String,
    name: String,
}

impl TestDb {
    /// Makes the database.
    ///
    /// # Panics
    /// With the reason, if there is no Postgres: a test cannot go on without.
    pub async fn new() -> Self {
        Self::with_connections(CONNECTIONS).await
    }

    /// The same with another size of the tenant pool.
    ///
    /// # Panics
    /// As [`TestDb::new`].
    pub async fn with_connections(max_connections: u32) -> Self {
        let server = SERVER.get_or_init(|| async { Server::find().await.expect("a Postgres for the tests") }).await;
        let (name, owner_url) = server.create(&server.template).await;
        let db = unprivileged(&owner_url, &server.password, max_connections).await;
        Self { db, owner_url, name }
    }

    /// A database as an earlier version left it, which had the first `steps` migrations. Bring it up with
    /// [`TestDb::upgrade`] before anything but SQL of the owner's.
    ///
    /// # Panics
    /// As [`TestDb::new`].
    pub async fn of_earlier_version(steps: u32) -> Self {
        let server = SERVER.get_or_init(|| async { Server::find().await.expect("a Postgres for the tests") }).await;
        let (name, owner_url) = server.create("template0").await;
        migrations::migrate_to_step(&owner_url, steps).await.expect("the earlier schema");
        let db = unprivileged(&owner_url, &server.password, CONNECTIONS).await;
        Self { db, owner_url, name }
    }

    /// What a newer version does when it starts.
    ///
    /// # Panics
    /// If a step fails.
    pub async fn upgrade(&self) {
        migrations::migrate(&self.owner_url).await.expect("the steps that are missing");
    }

    /// The same database with connections of their own, for another runtime.
    ///
    /// # Panics
    /// If the logins do not work.
    pub async fn connect(&self) -> Db {
        unprivileged(&self.owner_url, &SERVER.get().expect("made by TestDb::new").password, CONNECTIONS).await
    }

    /// A single number, as the superuser sees it.
    ///
    /// # Panics
    /// If the statement fails or does not give one row with one `bigint` column named `value`.
    pub async fn count_as_owner(&self, sql: &str) -> i64 {
        let owner = connect(&self.owner_url).await.expect("the owner's login");
        let row = owner.query_one_raw(Statement::from_string(DbBackend::Postgres, sql)).await.expect(sql).expect("a row");
        owner.close().await.expect("closing");
        row.try_get("", "value").expect("a bigint named value")
    }

    /// How many responses have said just this so far, by their stored events. `text` is one of the test's own.
    pub async fn responses_that_said(&self, text: &str) -> i64 {
        let said = "SELECT string_agg(payload->>'text', '' ORDER BY seq) AS said FROM response_event
                    WHERE payload->>'type' = 'text' GROUP BY response_id";
        self.count_as_owner(&format!("SELECT count(*) AS value FROM ({said}) AS texts WHERE said = '{text}'")).await
    }

    /// How another process connects with the unprivileged logins.
    ///
    /// # Panics
    /// Never: the database was made with them.
    #[must_use]
    pub fn config(&self) -> DbConfig {
        let password = &SERVER.get().expect("made by TestDb::new").password;
        DbConfig::from_owner(&self.owner_url, password, password, CONNECTIONS).expect("a database URL")
    }

    /// A connection with one of the unprivileged logins, outside of `store`: to prove what Postgres itself refuses.
    ///
    /// # Panics
    /// If the login does not work.
    pub async fn login(&self, role: &str) -> DatabaseConnection {
        let config = self.config();
        let url = if role == "kontor_system" { config.system_url } else { config.tenant_url };
        connect(&url).await.expect("the login")
    }
}

impl Drop for TestDb {
    fn drop(&mut self) {
        let Some(server) = SERVER.get() else { return };
        let drop_database = format!("DROP DATABASE IF EXISTS {} WITH (FORCE)", self.name);
        let url = server.owner_url.clone();
        // Not on the test's own runtime: it is busy with this very drop.
        let dropped = std::thread::spawn(move || -> Result<(), DbErr> {
            let runtime =
                tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(|error| DbErr::Custom(error.to_string()))?;
            runtime.block_on(async {
                let owner = connect(&url).await?;
                // A connection that the test was just opening cannot go on while its runtime waits here, and Postgres
                // waits for it.
                owner.execute_unprepared("SET statement_timeout = '3s'").await?;
                owner.execute_unprepared(&drop_database).await?;
                owner.close().await
            })
        });
        if let Ok(Err(error)) = dropped.join() {
            tracing::warn!(%error, database = self.name, "a test's database was not dropped; a later run sweeps it");
        }
    }
}

async fn unprivileged(owner_url: &str, password: &str, max_connections: u32) -> Db {
    let config = DbConfig::from_owner(owner_url, password, password, max_connections).expect("a database URL");
    Db::connect(&config).await.expect("the unprivileged logins")
}

impl Server {
    /// Name and address of a new database.
    async fn create(&self, template: &str) -> (String, String) {
        let name = format!("kontor_test_{}", Uuid::now_v7().simple());
        let owner = connect(&self.owner_url).await.expect("the owner's login");
        owner.execute_unprepared(&format!("CREATE DATABASE {name} TEMPLATE {template}")).await.expect("a database");
        owner.close().await.expect("closing");
        let owner_url = with_database(&self.owner_url, &name);
        (name, owner_url)
    }

    #[expect(clippy::disallowed_methods, reason = "the tests' only configuration")]
    async fn find() -> Result<Self, Box<dyn std::error::Error + Send + Sync>> {
        let owner_url = match env::var("DATABASE_URL") {
            Ok(url) => url,
            Err(_) => embedded().await?.owner_url,
        };
        // The same in every process that shares the server, and a secret where the owner's password is one.
        let mut hasher = DefaultHasher::new();
        owner_login(&owner_url).hash(&mut hasher);
        let password = format!("test-{:016x}", hasher.finish());
        let template = format!("kontor_template_{}", migrations::fingerprint());
        let server = Self { owner_url, template, password };
        let owner = connect(&server.owner_url).await?;
        owner.execute_raw(statement("SELECT pg_advisory_lock($1)", [LOCK.into()])).await?;
        let prepared = server.prepare(&owner).await;
        // Closing the connection gives the lock back.
        owner.close().await?;
        prepared?;
        Ok(server)
    }

    /// Under the lock: sweep, template, logins.
    async fn prepare(&self, owner: &DatabaseConnection) -> Result<(), DbErr> {
        sweep(owner, &self.template).await?;
        let known = statement("SELECT 1 FROM pg_database WHERE datname = $1", [self.template.as_str().into()]);
        if owner.query_one_raw(known).await?.is_none() {
            // Under another name until it is complete: a run that is killed leaves no half template.
            let building = format!("{}_building", self.template);
            owner.execute_unprepared(&format!("DROP DATABASE IF EXISTS {building} WITH (FORCE)")).await?;
            owner.execute_unprepared(&format!("CREATE DATABASE {building}")).await?;
            migrations::migrate(&with_database(&self.owner_url, &building)).await?;
            owner.execute_unprepared(&format!("ALTER DATABASE {building} RENAME TO {}", self.template)).await?;
        }
        migrations::ensure_logins(&self.owner_url, &self.password, &self.password).await
    }
}

/// Drops the databases that killed runs left, and the templates of schemas nobody used for a week.
async fn sweep(owner: &DatabaseConnection, template: &str) -> Result<(), DbErr> {
    let stale = statement(
        "SELECT datname::text AS name FROM pg_database d, pg_stat_file('base/' || d.oid || '/PG_VERSION', true) f
         WHERE datname <> $1
           AND NOT EXISTS (SELECT 1 FROM pg_stat_activity a WHERE a.datid = d.oid)
           AND (datname LIKE 'kontor\\_test\\_%' AND f.modification < now() - interval '1 hour'
             OR datname LIKE 'kontor\\_template\\_%' AND f.modification < now() - interval '7 days')",
        [template.into()],
    );
    for row in owner.query_all_raw(stale).await? {
        let name: String = row.try_get("", "name")?;
        owner.execute_unprepared(&format!("DROP DATABASE IF EXISTS \"{name}\"")).await?;
    }
    Ok(())
}

/// Where the Postgres installation is, for tests of the embedding itself.
#[must_use]
pub fn postgres_dir() -> PathBuf {
    folder("KONTOR_POSTGRES_DIR", "postgres")
}

async fn embedded() -> domain::Result<Embedded> {
    let install = postgres_dir();
    let data = folder("KONTOR_TEST_DIR", "test-postgres");
    let options = EmbeddedOptions { max_connections: SERVER_CONNECTIONS, durable: false };
    match Embedded::start(&install, &data, options).await {
        // Without fsync a power cut may cost the data. There is nothing in it worth a repair.
        Err(_) if data.join("cluster").exists() => {
            fs::remove_dir_all(data.join("cluster")).map_err(domain::Error::internal)?;
            Embedded::start(&install, &data, options).await
        }
        outcome => outcome,
    }
}

#[expect(clippy::disallowed_methods, reason = "the tests' only configuration")]
fn folder(variable: &str, name: &str) -> PathBuf {
    if let Some(given) = env::var_os(variable) {
        return given.into();
    }
    let cache = env::var_os("KONTOR_CACHE").map(PathBuf::from);
    let cache = cache.or_else(|| env::home_dir().map(|home| home.join(".cache/kontor")));
    cache.unwrap_or_else(env::temp_dir).join(name)
}

async fn connect(url: &str) -> Result<DatabaseConnection, DbErr> {
    let mut options = ConnectOptions::new(url);
    options.max_connections(1).sqlx_logging(false).set_application_name("kontor tests");
    Database::connect(options).await
}

fn statement<const N: usize>(sql: &str, values: [Value; N]) -> Statement {
    Statement::from_sql_and_values(DbBackend::Postgres, sql, values)
}

/// User and password of a URL. The port changes with every start, the login does not.
fn owner_login(url: &str) -> &str {
    let rest = url.split_once("://").map_or(url, |(_, rest)| rest);
    rest.rsplit_once('@').map_or("", |(login, _)| login)
}

/// The same server and login, another database.
fn with_database(url: &str, name: &str) -> String {
    let (base, query) = url.split_once('?').map_or((url, String::new()), |(base, query)| (base, format!("?{query}")));
    let authority = base.find("://").map_or(0, |at| at + 3);
    let path = base[authority..].find('/').map_or(base.len(), |at| authority + at);
    format!("{}/{name}{query}", &base[..path])
}

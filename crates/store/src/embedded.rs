//! A Postgres of our own, for `kontor serve` without `DATABASE_URL` and for the tests.
//!
//! It listens on the loopback interface only, on a free port, with random passwords that lie beside the data
//! (mode 600). A server that already runs on the data, because its Kontor was killed, is taken over.
//!
//! Postgres refuses to run as root. Started by root (a container, usually), it runs as an unprivileged uid; how
//! it still reaches its files is explained at [`Privileges`].

use crate::error::map_sqlx;
use domain::secret::Secret;
use domain::{Error, Result};
use sqlx::{Connection, PgConnection};
use std::{
    fs::{self, File, Permissions},
    io::Write,
    net::TcpListener,
    os::unix::fs::{MetadataExt, OpenOptionsExt, PermissionsExt, chown},
    path::{Path, PathBuf},
    process::Stdio,
    time::Duration,
};
use tokio::process::Command;

/// For each connection. Deleting a person looks into every day of the ledger, each of which is a table with its indexes.
const LOCKS: u32 = 512;
/// Name of the superuser that owns the schema.
const OWNER: &str = "kontor_owner";
/// `nobody`, whom Postgres runs as when root starts it.
const UNPRIVILEGED: u32 = 65534;
/// Seconds that `pg_ctl` waits for the server to come up or go down.
const PATIENCE_S: &str = "60";
/// Starts on another port when somebody took the free one in between.
const ATTEMPTS: usize = 3;
/// How long a server that another process is starting is waited for, in tenths of a second.
const READY_TRIES: usize = 300;

/// What differs between the product and the tests.
#[derive(Clone, Copy, Debug)]
pub struct EmbeddedOptions {
    pub max_connections: u32,
    /// `false` trades safety in a crash for speed: tests only.
    pub durable: bool,
}

impl Default for EmbeddedOptions {
    fn default() -> Self {
        Self { max_connections: 100, durable: true }
    }
}

/// A running server. It keeps running when this is dropped; see [`Embedded::stop`].
pub struct Embedded {
    /// The superuser's URL of the database `postgres`. Holds a password: do not log it.
    pub owner_url: String,
    /// Random, kept beside the data; for `migrations::ensure_logins`.
    pub tenant_password: String,
    /// Random, kept beside the data; for `migrations::ensure_logins`.
    pub system_password: String,
    tools: Tools,
}

impl Embedded {
    /// Starts the Postgres in `install_dir` (`bin`, `lib`, `share`) on the data in `data_dir`, which is made if
    /// it is empty, or takes over the one that runs there. Safe to call from several processes at once.
    ///
    /// # Errors
    /// [`Error::Internal`] with the end of the server's log.
    pub async fn start(install_dir: &Path, data_dir: &Path, options: EmbeddedOptions) -> Result<Self> {
        fs::create_dir_all(data_dir).map_err(|error| at(data_dir, error))?;
        let data_dir = data_dir.canonicalize().map_err(|error| at(data_dir, error))?;
        let install_dir = install_dir.canonicalize().map_err(|error| at(install_dir, error))?;
        let _guard = lock(data_dir.join("lock")).await?;
        let tools = Tools { privileges: Privileges::find(&install_dir, &data_dir)?, install_dir, data_dir };
        let owner_password = tools.password("owner")?;
        if !tools.cluster().join("PG_VERSION").exists() {
            tools.initdb(&owner_password).await?;
        }
        let port = match tools.running_port().await? {
            Some(port) => port,
            None => tools.start_on_free_port(options).await?,
        };
        let owner_url = format!("postgres://{OWNER}:{owner_password}@127.0.0.1:{port}/postgres?sslmode=disable");
        wait_until_ready(&owner_url).await?;
        Ok(Self { owner_url, tenant_password: tools.password("tenant")?, system_password: tools.password("system")?, tools })
    }

    /// Stops the server: running statements are cancelled, everything committed is on disk.
    ///
    /// # Errors
    /// [`Error::Internal`] if it does not end in time.
    pub async fn stop(&self) -> Result<()> {
        let mut command = self.tools.command("pg_ctl");
        command.arg("-D").arg(self.tools.cluster()).args(["-m", "fast", "-w", "-t", PATIENCE_S, "stop"]);
        if finished(&mut command).await? { Ok(()) } else { Err(self.tools.failure("pg_ctl stop")) }
    }
}

impl std::fmt::Debug for Embedded {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Embedded").field("tools", &self.tools).finish_non_exhaustive()
    }
}

/// Whose rights the server runs with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Privileges {
    /// Whoever started us.
    Own,
    /// An unprivileged uid that reaches its files by their modes.
    Dropped,
    /// An unprivileged uid, and one of the folders lies under a closed one (`/root`). It keeps a single
    /// capability, reading and searching everywhere, so that nobody has to open root's home. Postgres also asks
    /// with `access(2)`, which ignores capabilities unless `no_setuid_fixup` is set.
    DroppedButReading,
}

impl Privileges {
    fn find(install_dir: &Path, data_dir: &Path) -> Result<Self> {
        // The owner of /proc/self is the effective user; where there is no /proc we are not root in a container.
        let is_root = fs::metadata("/proc/self").is_ok_and(|own| own.uid() == 0);
        if !is_root {
            return Ok(Self::Own);
        }
        let open = is_open(install_dir)? && is_open(data_dir)?;
        Ok(if open { Self::Dropped } else { Self::DroppedButReading })
    }

    fn command(self, program: &Path) -> Command {
        if self == Self::Own {
            return Command::new(program);
        }
        let mut command = Command::new("setpriv");
        if self == Self::DroppedButReading {
            command.args(["--securebits=+no_setuid_fixup", "--inh-caps=+dac_read_search", "--ambient-caps=+dac_read_search"]);
        }
        command.arg(format!("--reuid={UNPRIVILEGED}")).arg(format!("--regid={UNPRIVILEGED}")).arg("--clear-groups");
        command.arg(program);
        command
    }

    /// Hands a file or folder to whom the server runs as.
    fn give(self, path: &Path) -> Result<()> {
        if self == Self::Own {
            return Ok(());
        }
        chown(path, Some(UNPRIVILEGED), Some(UNPRIVILEGED)).map_err(|error| at(path, error))
    }
}

/// The programs of the installation, and where they work.
#[derive(Debug)]
struct Tools {
    install_dir: PathBuf,
    data_dir: PathBuf,
    privileges: Privileges,
}

impl Tools {
    fn cluster(&self) -> PathBuf {
        self.data_dir.join("cluster")
    }

    fn log(&self) -> PathBuf {
        self.data_dir.join("server.log")
    }

    fn command(&self, program: &str) -> Command {
        let mut command = self.privileges.command(&self.install_dir.join("bin").join(program));
        // The programs' own search path leads beside the package they were taken from.
        command.env("LD_LIBRARY_PATH", self.install_dir.join("lib"));
        command.current_dir("/").stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        command
    }

    /// A password kept in `<name>.password`, made on first use.
    fn password(&self, name: &str) -> Result<String> {
        let path = self.data_dir.join(format!("{name}.password"));
        if path.exists() {
            return fs::read_to_string(&path).map_err(|error| at(&path, error));
        }
        let password = Secret::random::<24>().reveal().to_owned();
        write_private(&path, &password)?;
        Ok(password)
    }

    async fn initdb(&self, owner_password: &str) -> Result<()> {
        let cluster = self.cluster();
        if cluster.exists() {
            // Left by an initdb that was killed; without PG_VERSION there is no data in it.
            fs::remove_dir_all(&cluster).map_err(|error| at(&cluster, error))?;
        }
        fs::create_dir(&cluster).map_err(|error| at(&cluster, error))?;
        fs::set_permissions(&cluster, Permissions::from_mode(0o700)).map_err(|error| at(&cluster, error))?;
        self.privileges.give(&cluster)?;
        let password_file = self.data_dir.join("initdb.password");
        write_private(&password_file, owner_password)?;
        self.privileges.give(&password_file)?;
        let log = File::create(self.log()).map_err(|error| at(&self.log(), error))?;
        self.privileges.give(&self.log())?;
        let mut command = self.command("initdb");
        // Postgres' own Unicode locale: the same order and case rules on every operating system.
        command.args(["--encoding=UTF8", "--locale-provider=builtin", "--builtin-locale=C.UTF-8", "--locale=C"]);
        command.args(["--auth=scram-sha-256", "--username", OWNER, "--no-sync", "--no-instructions"]);
        command.arg("--pwfile").arg(&password_file).arg("--pgdata").arg(&cluster).stderr(log);
        let succeeded = finished(&mut command).await;
        fs::remove_file(&password_file).map_err(|error| at(&password_file, error))?;
        if succeeded? { Ok(()) } else { Err(self.failure("initdb")) }
    }

    /// The port of the server that runs on our data.
    async fn running_port(&self) -> Result<Option<u16>> {
        let mut command = self.command("pg_ctl");
        command.arg("-D").arg(self.cluster()).arg("status");
        if !finished(&mut command).await? {
            return Ok(None);
        }
        // Fourth line of postmaster.pid: the port.
        let path = self.cluster().join("postmaster.pid");
        let text = fs::read_to_string(&path).map_err(|error| at(&path, error))?;
        Ok(text.lines().nth(3).and_then(|port| port.trim().parse().ok()))
    }

    async fn start_on_free_port(&self, options: EmbeddedOptions) -> Result<u16> {
        for _ in 0..ATTEMPTS {
            // Free now; that somebody takes it before Postgres does is what the attempts are for.
            let port = TcpListener::bind(("127.0.0.1", 0)).and_then(|free| free.local_addr()).map_err(Error::internal)?.port();
            if self.start_on(port, options).await? {
                return Ok(port);
            }
        }
        Err(self.failure("pg_ctl start"))
    }

    async fn start_on(&self, port: u16, options: EmbeddedOptions) -> Result<bool> {
        // To compile a statement takes longer than any of ours.
        let mut settings = format!(
            "-p {port} -c listen_addresses=127.0.0.1 -c unix_socket_directories='' -c max_connections={} \
             -c max_locks_per_transaction={LOCKS} -c jit=off",
            options.max_connections
        );
        if !options.durable {
            settings.push_str(" -c fsync=off -c synchronous_commit=off -c full_page_writes=off -c autovacuum=off");
        }
        File::create(self.log()).map_err(|error| at(&self.log(), error))?;
        self.privileges.give(&self.log())?;
        let mut command = self.command("pg_ctl");
        command.arg("-D").arg(self.cluster()).arg("-l").arg(self.log());
        command.args(["-w", "-t", PATIENCE_S, "-o", &settings, "start"]);
        finished(&mut command).await
    }

    /// An error that carries the end of the server's log.
    fn failure(&self, what: &str) -> Error {
        let log = fs::read_to_string(self.log()).unwrap_or_else(|error| format!("(no log: {error})"));
        let lines: Vec<&str> = log.lines().collect();
        let tail = lines[lines.len().saturating_sub(12)..].join("\n");
        Error::internal(format!("{what} failed in {}:\n{tail}", self.data_dir.display()))
    }
}

/// Anybody may pass through the folder and all folders above it.
fn is_open(dir: &Path) -> Result<bool> {
    for folder in dir.ancestors() {
        let mode = fs::metadata(folder).map_err(|error| at(folder, error))?.permissions().mode();
        if mode & 0o001 == 0 {
            return Ok(false);
        }
    }
    Ok(true)
}

fn write_private(path: &Path, text: &str) -> Result<()> {
    if path.exists() {
        fs::remove_file(path).map_err(|error| at(path, error))?;
    }
    let mut file = File::options().write(true).create_new(true).mode(0o600).open(path).map_err(|error| at(path, error))?;
    file.write_all(text.as_bytes()).map_err(|error| at(path, error))
}

/// Waits for the exclusive lock on a file; it is given back with the file.
async fn lock(path: PathBuf) -> Result<File> {
    let locked = tokio::task::spawn_blocking(move || {
        let file = File::create(&path).map_err(|error| at(&path, error))?;
        file.lock().map_err(|error| at(&path, error))?;
        Ok(file)
    });
    locked.await.map_err(Error::internal)?
}

async fn finished(command: &mut Command) -> Result<bool> {
    let status = command.status().await.map_err(|error| Error::internal(format!("{:?}: {error}", command.as_std().get_program())))?;
    Ok(status.success())
}

/// `pg_ctl` waits only for a server that it started itself.
async fn wait_until_ready(owner_url: &str) -> Result<()> {
    let mut tries = 0;
    loop {
        match PgConnection::connect(owner_url).await {
            Ok(connection) => return connection.close().await.map_err(map_sqlx),
            Err(error) if tries >= READY_TRIES => return Err(map_sqlx(error)),
            Err(_) => {
                tries += 1;
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        }
    }
}

fn at(path: &Path, error: std::io::Error) -> Error {
    Error::internal(format!("{}: {error}", path.display()))
}

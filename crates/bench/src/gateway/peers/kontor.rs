//! Kontor with everything on: keys, a price, a hard budget, limits per minute, guardrails, the audit trail, metrics, and its
//! own Postgres beside it on the same core. It starts no worker: the scripted upstream runs the models.

use std::fs;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::Stdio;
use std::thread;
use std::time::{Duration, Instant};

use serde_json::Value;
use tempfile::TempDir;
use tokio::process::Command;

use super::{CHAT, FAILOVER, Kind, Programs, Running, UPSTREAM_KEY, Upstreams};
use crate::Result;
use crate::gateway::client::{Route, get};
use crate::gateway::process::{Process, command, free_address, signal};
use crate::gateway::upstream::MODEL;

/// Variables that name a database, which would be used in the place of the measured Kontor's own.
const OF_OTHERS: [&str; 4] = ["DATABASE_URL", "KONTOR__DATABASE__URL", "KONTOR__DATABASE__TENANT_URL", "KONTOR__DATABASE__SYSTEM_URL"];
/// One rule of each kind. They find nothing in what is asked and answered, and have to look at all of it.
const GUARDRAILS: &str = r#"{"rules": [
    {"name": "people", "check": {"kind": "pii"}, "on": ["input"], "action": "mask"},
    {"name": "keys", "check": {"kind": "secrets"}, "on": ["input", "output"], "action": "block"},
    {"name": "injection", "check": {"kind": "injection"}, "on": ["input"], "action": "block"},
    {"name": "words", "check": {"kind": "words", "words": ["Kranich"]}, "on": ["input", "output"], "action": "block"},
    {"name": "instructions", "check": {"kind": "system_prompt"}, "on": ["output"], "action": "block"}
]}"#;
/// Until a database that was left behind has ended.
const FAREWELL: Duration = Duration::from_secs(20);

/// A Kontor that was set up, with its data; each start finds it again. Dropping it removes all of it.
pub struct Home {
    program: PathBuf,
    core: Option<u32>,
    awake: Option<u32>,
    addr: SocketAddr,
    key: String,
    folder: TempDir,
}

impl Home {
    /// Creates the database, a tenant, a service account with a key, prices, a budget and limits.
    ///
    /// # Errors
    /// Kontor does not start, or refuses.
    pub async fn make(programs: &Programs, upstreams: &Upstreams) -> Result<Self> {
        let folder = tempfile::Builder::new().prefix("kontor-bench-").tempdir()?;
        let program = programs.required(Kind::Kontor)?.to_owned();
        let Programs { core, awake, .. } = *programs;
        let mut home = Self { program, core, awake, addr: free_address()?, key: String::new(), folder };
        fs::write(home.config(), home.configuration(free_address()?, upstreams))?;
        let process = home.serve().await?;
        let made = home.set_up().await;
        process.stop().await?;
        home.key = made?;
        Ok(home)
    }

    /// Starts it.
    ///
    /// # Errors
    /// It does not start.
    pub async fn start(&self) -> Result<Running> {
        let mut process = self.serve().await?;
        let bearer = format!("Bearer {}", self.key);
        let route = |model: &str| Route::new(self.addr, CHAT, model, &[("authorization", bearer.as_str())]);
        let (route, failover) = (route(MODEL)?, route(FAILOVER)?);
        process.until(async || -> Result<()> { route.prove().await }).await?;
        let database = self.database();
        Ok(Running { kind: Kind::Kontor, route, failover: Some(failover), process: Some(process), database, _folder: None })
    }

    async fn serve(&self) -> Result<Process> {
        let mut command = command(&self.program, self.core);
        command.arg("--config").arg(self.config()).arg("serve");
        let mut process = Process::start("kontor", self.alone(&mut command))?;
        let ready = async || -> Result<()> {
            match get(self.addr, "/readyz").await? {
                status if status.is_success() => Ok(()),
                status => Err(format!("/readyz answers {status}").into()),
            }
        };
        process.until(ready).await?;
        Ok(process)
    }

    /// Everything that a request is checked against; the key.
    async fn set_up(&self) -> Result<String> {
        let steps = [
            "create-tenant --slug bench --name Bench",
            "create-service-account --tenant bench --name load --purpose Measuring --team bench --cost-center 1",
            "set-price --model bench --currency EUR --input 0.15 --output 0.60",
            "set-price --model bench-failover --currency EUR --input 0.15 --output 0.60",
            // Large enough never to refuse, small enough to be counted.
            "add-budget --tenant bench --level tenant --amount 1000000000 --currency EUR",
            "add-limit --tenant bench --level key --requests 1000000000 --tokens 1000000000000",
        ];
        for step in steps {
            self.admin(step).await?;
        }
        fs::write(self.folder.path().join("rules.json"), GUARDRAILS)?;
        self.admin(&format!("set-guardrails --tenant bench --file {}", self.folder.path().join("rules.json").display())).await?;
        let made = self.admin("create-key --tenant bench --account load").await?;
        Ok(made["key"].as_str().ok_or("`kontor admin create-key` told no key")?.to_owned())
    }

    async fn admin(&self, step: &str) -> Result<Value> {
        let mut command = Command::new(&self.program);
        command.arg("--config").arg(self.config()).args(["admin", "--json"]).args(step.split(' ')).stdin(Stdio::null());
        let output = self.alone(&mut command).output().await?;
        if !output.status.success() {
            return Err(format!("`kontor admin {step}` failed: {}", String::from_utf8_lossy(&output.stderr)).into());
        }
        Ok(serde_json::from_slice(&output.stdout)?)
    }

    /// Whatever the caller's own installation is configured with: the measured one has its own data and database.
    fn alone<'a>(&self, command: &'a mut Command) -> &'a mut Command {
        for name in OF_OTHERS {
            command.env_remove(name);
        }
        command.env("KONTOR__DATA_DIR", self.data())
    }

    fn config(&self) -> PathBuf {
        self.folder.path().join("kontor.toml")
    }

    fn data(&self) -> PathBuf {
        self.folder.path().join("data")
    }

    fn configuration(&self, metrics: SocketAddr, upstreams: &Upstreams) -> String {
        let awake = self.awake.map_or_else(String::new, |microseconds| format!("awake_microseconds = {microseconds}\n"));
        let head = format!(
            "[server]\naddr = '{}'\n{awake}[metrics]\naddr = '{metrics}'\n[bootstrap]\nenabled = false\n\
             [workers]\nenabled = false\n",
            self.addr
        );
        let offered = |id: &str| format!("[[models.offered]]\nid = '{id}'\ncontext_length = 262144\n");
        let upstream = |name: &str, url: String, model: &str, order: u32| {
            format!(
                "[[upstreams]]\nname = '{name}'\nbase_url = '{url}'\nkey = '{UPSTREAM_KEY}'\nmodels = {{ {model} = '{MODEL}' }}\n\
                 order = {order}\nslots = 20000\nfirst_seconds = 600\nidle_seconds = 3600\n"
            )
        };
        [
            head,
            offered(MODEL),
            offered(FAILOVER),
            upstream("usual", upstreams.usual.base_url(), MODEL, 1),
            upstream("first", upstreams.first.base_url(), FAILOVER, 1),
            upstream("second", upstreams.second.base_url(), FAILOVER, 2),
        ]
        .concat()
    }

    /// The first process of its Postgres, which is none of its children.
    fn database(&self) -> Option<u32> {
        let told = fs::read_to_string(self.data().join("postgres/cluster/postmaster.pid")).ok()?;
        told.lines().next()?.trim().parse().ok()
    }
}

impl Drop for Home {
    fn drop(&mut self) {
        // Only if Kontor was killed: it stops its database itself.
        let Some(pid) = self.database() else { return };
        let process = PathBuf::from(format!("/proc/{pid}"));
        signal(pid, "INT");
        let begin = Instant::now();
        while process.exists() && begin.elapsed() < FAREWELL {
            thread::sleep(Duration::from_millis(50));
        }
    }
}

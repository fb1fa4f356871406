//! The gateways, each started the same way: on one core, with the scripted upstream behind it.

mod envoy;
mod kontor;
mod litellm;
mod portkey;
mod tensorzero;

use std::path::{Path, PathBuf};

use serde_json::Value;
use tempfile::TempDir;

use super::client::Route;
use super::proc;
use super::process::Process;
use super::upstream::{MODEL, Upstream};
use crate::Result;

/// The path that OpenAI's API has everywhere.
const CHAT: &str = "/v1/chat/completions";
/// What gateways are told to show upstream, which does not look.
const UPSTREAM_KEY: &str = "sk-upstream";
/// The model behind which lie two upstreams, the first of which may fail.
const FAILOVER: &str = "bench-failover";

/// Which gateway.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    Kontor,
    /// None: the upstream itself.
    Direct,
    Envoy,
    TensorZero,
    Portkey,
    LiteLlm,
}

impl Kind {
    pub const ALL: [Self; 6] = [Self::Kontor, Self::Direct, Self::Envoy, Self::TensorZero, Self::Portkey, Self::LiteLlm];

    pub fn name(self) -> &'static str {
        match self {
            Self::Kontor => "kontor",
            Self::Direct => "direct",
            Self::Envoy => "envoy",
            Self::TensorZero => "tensorzero",
            Self::Portkey => "portkey",
            Self::LiteLlm => "litellm",
        }
    }

    /// It refuses who has no key.
    pub fn checks_keys(self) -> bool {
        matches!(self, Self::Kontor | Self::LiteLlm)
    }
}

/// Where the programs are.
#[derive(Clone, Debug)]
pub struct Programs {
    pub kontor: PathBuf,
    /// The program.
    pub envoy: Option<PathBuf>,
    /// A Python that has the package.
    pub tensorzero: Option<PathBuf>,
    /// The folder in which npm installed the package.
    pub portkey: Option<PathBuf>,
    /// The program.
    pub litellm: Option<PathBuf>,
    /// The core that gateways run on; any without one.
    pub core: Option<u32>,
    /// Microseconds that Kontor stays awake after a request at most; `None`: as it comes.
    pub awake: Option<u32>,
}

impl Programs {
    /// The path that a gateway was given, if it leads somewhere.
    fn path(&self, kind: Kind) -> Option<&Path> {
        let given = match kind {
            Kind::Kontor => Some(&self.kontor),
            Kind::Direct => None,
            Kind::Envoy => self.envoy.as_ref(),
            Kind::TensorZero => self.tensorzero.as_ref(),
            Kind::Portkey => self.portkey.as_ref(),
            Kind::LiteLlm => self.litellm.as_ref(),
        };
        given.map(PathBuf::as_path).filter(|path| path.exists())
    }

    /// It can be measured.
    pub fn has(&self, kind: Kind) -> bool {
        kind == Kind::Direct || self.path(kind).is_some()
    }

    fn required(&self, kind: Kind) -> Result<&Path> {
        self.path(kind).ok_or_else(|| format!("{} is not installed", kind.name()).into())
    }
}

/// All that the measurement needs: programs, upstreams, and a Kontor that was set up once.
pub struct Stage {
    programs: Programs,
    upstreams: Upstreams,
    kontor: kontor::Home,
}

/// What lies behind the gateways.
pub struct Upstreams {
    /// Behind the model that everything but failover is measured with.
    pub usual: Upstream,
    /// Behind the other model: asked first.
    pub first: Upstream,
    /// Behind the other model: asked if the first one fails.
    pub second: Upstream,
}

/// A gateway that answers.
pub struct Running {
    kind: Kind,
    pub route: Route,
    /// To the model with two upstreams.
    pub failover: Option<Route>,
    process: Option<Process>,
    /// The first process of a database that belongs to it.
    database: Option<u32>,
    /// Its configuration; gone when it has ended.
    _folder: Option<TempDir>,
}

/// Resident memory, in bytes.
#[derive(Clone, Copy, Debug)]
pub struct Memory {
    /// Of the gateway's own process.
    pub own: u64,
    /// Of all processes that it consists of, a database included. What they share counts for each.
    pub all: u64,
}

impl Stage {
    /// Starts the upstreams and sets Kontor up.
    ///
    /// # Errors
    /// Something does not start.
    pub async fn set(programs: Programs) -> Result<Self> {
        let (usual, first, second) = (Upstream::start().await?, Upstream::start().await?, Upstream::start().await?);
        let upstreams = Upstreams { usual, first, second };
        let kontor = kontor::Home::make(&programs, &upstreams).await?;
        Ok(Self { programs, upstreams, kontor })
    }

    pub fn upstreams(&self) -> &Upstreams {
        &self.upstreams
    }

    /// Starts a gateway and waits until answers come through it.
    ///
    /// # Errors
    /// It does not start; with where its log is.
    pub async fn start(&self, kind: Kind) -> Result<Running> {
        match kind {
            Kind::Kontor => self.kontor.start().await,
            Kind::Direct => Running::direct(&self.upstreams.usual),
            Kind::Envoy => envoy::start(&self.programs, &self.upstreams).await,
            Kind::TensorZero => tensorzero::start(&self.programs, &self.upstreams).await,
            Kind::Portkey => portkey::start(&self.programs, &self.upstreams).await,
            Kind::LiteLlm => litellm::start(&self.programs, &self.upstreams).await,
        }
    }
}

impl Running {
    fn direct(upstream: &Upstream) -> Result<Self> {
        let route = Route::new(upstream.addr(), CHAT, MODEL, &[])?;
        Ok(Self { kind: Kind::Direct, route, failover: None, process: None, database: None, _folder: None })
    }

    /// A peer: waits until an answer comes through.
    async fn peer(kind: Kind, mut process: Process, routes: (Route, Route), folder: Option<TempDir>) -> Result<Self> {
        let (route, failover) = routes;
        process.until(async || -> Result<()> { route.prove().await }).await?;
        Ok(Self { kind, route, failover: Some(failover), process: Some(process), database: None, _folder: folder })
    }

    pub fn kind(&self) -> Kind {
        self.kind
    }

    /// The gateway's own process.
    ///
    /// # Errors
    /// There is none.
    pub fn pid(&self) -> Result<u32> {
        self.process.as_ref().map(Process::pid).ok_or_else(|| format!("{} is no process", self.kind.name()).into())
    }

    /// The first process of a database that belongs to it and is none of its children.
    pub fn database(&self) -> Option<u32> {
        self.database
    }

    /// What it takes now.
    ///
    /// # Errors
    /// It is no process, or has ended.
    pub fn memory(&self) -> Result<Memory> {
        let pid = self.pid()?;
        let database = self.database.map(proc::resident_tree).transpose()?.unwrap_or(0);
        Ok(Memory { own: proc::resident(pid)?, all: proc::resident_tree(pid)? + database })
    }

    /// Ends it.
    ///
    /// # Errors
    /// It cannot be waited for.
    pub async fn stop(self) -> Result<()> {
        match self.process {
            Some(process) => process.stop().await,
            None => Ok(()),
        }
    }
}

/// A folder with a configuration in it, and the path of that.
fn folder_with(name: &str, text: &str) -> Result<(TempDir, PathBuf)> {
    let folder = tempfile::Builder::new().prefix("kontor-bench-").tempdir()?;
    let path = folder.path().join(name);
    std::fs::write(&path, text)?;
    Ok((folder, path))
}

/// JSON as a configuration.
fn pretty(value: &Value) -> Result<String> {
    Ok(serde_json::to_string_pretty(value)?)
}

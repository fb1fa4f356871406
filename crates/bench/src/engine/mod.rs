//! The two engines behind one face.

mod kontor;
mod lines;
mod llama_server;

use std::fmt;
use std::path::PathBuf;
use std::process::Stdio;
use std::str::FromStr;
use std::time::{Duration, Instant};

use tokio::process::{Child, Command};
use tokio::sync::mpsc;
use worker_protocol::TokenLogprob;

use crate::Result;
pub use kontor::state_dir;

/// Which engine to start.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Ours,
    Peer(Tuning),
}

/// How the peer is started.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Tuning {
    /// As it comes.
    Default,
    /// With as many slots as clients and small batches, which is the best known for each scenario.
    Tuned,
}

impl FromStr for Tuning {
    type Err = String;

    fn from_str(text: &str) -> std::result::Result<Self, String> {
        match text {
            "default" => Ok(Self::Default),
            "tuned" => Ok(Self::Tuned),
            other => Err(format!("{other:?} is neither default nor tuned")),
        }
    }
}

/// What a scenario needs of an engine.
#[derive(Clone, Copy, Debug)]
pub struct Needs {
    /// Requests at the same time.
    pub clients: u32,
    /// Tokens of context for one request.
    pub context: u32,
    /// Slots of both, where a scenario is about having fewer than requests.
    pub slots: Option<u32>,
    /// Guess tokens ahead.
    pub speculate: bool,
    /// Keep what was computed over a restart. The peer cannot by itself.
    pub keep: bool,
}

/// Where the programs are.
#[derive(Clone, Debug)]
pub struct Launcher {
    pub model: PathBuf,
    /// For what the model must be able to repeat.
    pub edit_model: PathBuf,
    pub kontor: PathBuf,
    pub llama_server: PathBuf,
    pub threads: u32,
}

/// One question.
#[derive(Clone, Debug, Default)]
pub struct Ask {
    pub system: Option<String>,
    /// Question, answer, question, …; an answer at the end is gone on from.
    pub turns: Vec<String>,
    pub max_tokens: u32,
    /// Whose it is; the peer does not know tenants.
    pub tenant: String,
    pub schema: Option<serde_json::Value>,
    /// Do not end before `max_tokens`.
    pub ignore_end: bool,
    /// Tell how likely each token was and so many likely ones. The peer then tells all at once, at the end.
    pub logprobs: Option<u8>,
}

impl Ask {
    pub fn question(text: impl Into<String>, max_tokens: u32) -> Self {
        Self { turns: vec![text.into()], max_tokens, tenant: "tenant".into(), ..Self::default() }
    }
}

/// What came back.
#[derive(Clone, Debug, Default)]
pub struct Answer {
    pub text: String,
    /// From asking to each piece of text.
    pub at: Vec<Duration>,
    /// From asking to the end.
    pub took: Duration,
    pub prompt_tokens: u64,
    /// Prompt tokens that were computed.
    pub evaluated_tokens: u64,
    pub completion_tokens: u64,
    /// Of each token, if asked for.
    pub logprobs: Vec<TokenLogprob>,
    /// The tokens that these are of; only the peer tells.
    pub tokens: Vec<i32>,
}

impl Answer {
    pub fn ttft(&self) -> Duration {
        self.at.first().copied().unwrap_or(self.took)
    }
}

/// Tokens guessed ahead since the engine was started, and how many of them were right.
#[derive(Clone, Copy, Debug, Default)]
pub struct Drafts {
    pub drafted: u64,
    pub accepted: u64,
}

/// The engine has enough to do and takes no more. The peer never says so.
#[derive(Debug)]
pub struct Refused(pub String);

impl fmt::Display for Refused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the worker refuses: {}", self.0)
    }
}

impl std::error::Error for Refused {}

/// A running engine.
pub enum Engine {
    Ours(kontor::Kontor),
    Peer(llama_server::LlamaServer),
}

impl Launcher {
    /// Starts one and waits until it is ready.
    pub async fn start(&self, kind: Kind, needs: Needs) -> Result<Engine> {
        Ok(match kind {
            Kind::Ours => Engine::Ours(kontor::Kontor::start(self, needs).await?),
            Kind::Peer(tuning) => Engine::Peer(llama_server::LlamaServer::start(self, tuning, needs).await?),
        })
    }

    /// The tokens of the prompts that these questions become. The peer tells, in a process of its own: both have the same
    /// file, so the same vocabulary and the same template.
    pub async fn prompts(&self, asks: &[Ask]) -> Result<Vec<Vec<i32>>> {
        let needs = Needs { clients: 1, context: 2048, slots: None, speculate: false, keep: false };
        let teller = llama_server::LlamaServer::start(self, Tuning::Default, needs).await?;
        let mut prompts = Vec::with_capacity(asks.len());
        for ask in asks {
            prompts.push(teller.prompt(ask).await?);
        }
        teller.stop().await?;
        Ok(prompts)
    }

    /// The tokens that these texts are read as behind a template's. The peer tells, as in [`Launcher::prompts`].
    pub async fn tokens(&self, texts: &[String]) -> Result<Vec<Vec<i32>>> {
        let needs = Needs { clients: 1, context: 2048, slots: None, speculate: false, keep: false };
        let teller = llama_server::LlamaServer::start(self, Tuning::Default, needs).await?;
        let mut tokens = Vec::with_capacity(texts.len());
        for text in texts {
            tokens.push(teller.tokens(text).await?);
        }
        teller.stop().await?;
        Ok(tokens)
    }
}

impl Engine {
    /// Asks and reads to the end.
    pub async fn ask(&self, ask: Ask) -> Result<Answer> {
        self.ask_told(ask, None).await
    }

    /// [`Engine::ask`], telling of each piece of text when it comes.
    pub async fn ask_told(&self, ask: Ask, told: Option<mpsc::UnboundedSender<Instant>>) -> Result<Answer> {
        match self {
            Self::Ours(engine) => engine.ask(ask, told).await,
            Self::Peer(engine) => engine.ask(ask, told).await,
        }
    }

    /// What was guessed ahead so far.
    pub async fn drafts(&self) -> Result<Drafts> {
        match self {
            Self::Ours(engine) => engine.drafts().await,
            Self::Peer(engine) => Ok(engine.drafts()),
        }
    }

    /// Something runs or waits.
    pub async fn is_busy(&self) -> Result<bool> {
        match self {
            Self::Ours(engine) => engine.is_busy().await,
            Self::Peer(engine) => engine.is_busy().await,
        }
    }

    pub async fn stop(self) -> Result<()> {
        match self {
            Self::Ours(engine) => engine.stop().await,
            Self::Peer(engine) => engine.stop().await,
        }
    }
}

fn spawn(command: &mut Command, log: &str) -> Result<Child> {
    let log = std::fs::File::create(std::env::temp_dir().join(log))?;
    Ok(command.stderr(Stdio::from(log)).kill_on_drop(true).spawn()?)
}

fn client() -> Result<reqwest::Client> {
    // The client insists on one even where nothing is encrypted; the first one stays.
    let _ = rustls::crypto::ring::default_provider().install_default();
    // The peer closes idle connections when it likes; a fresh one for each request costs both the same.
    Ok(reqwest::Client::builder().no_proxy().pool_max_idle_per_host(0).build()?)
}

/// Asks again until `probe` says yes.
async fn ready(what: &str, mut probe: impl AsyncFnMut() -> bool) -> Result<()> {
    let begin = Instant::now();
    while !probe().await {
        if begin.elapsed() > Duration::from_secs(120) {
            return Err(format!("{what} was not ready after two minutes").into());
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    Ok(())
}

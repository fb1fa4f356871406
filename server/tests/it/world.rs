//! Real worker processes under a real pool, for tests of what happens to them.

#![expect(clippy::disallowed_methods, reason = "tests find the model by the environment, and wait for their tasks themselves")]

use contract::{account::Role, model::Sampling, usage::Purpose};
use domain::{Actor, SystemClock};
use inference::{
    Catalogue, ChatMessage, ChatRole, Ended, Generation, Inference, ModelConfig, Options, Pool, PoolTiming, Request, WorkerProcess,
    pool::Totals,
};
use serde_json::Value;
use std::{
    net::SocketAddr,
    path::{Path, PathBuf},
    process::{Child, Command, Output, Stdio},
    sync::Arc,
    time::Duration,
};
use tempfile::TempDir;
use testkit::{
    TestDb,
    fake_upstream::FakeUpstream,
    fake_worker::{FAKE_MODEL, fake_model},
    ledger::{LedgerRow, ledger},
};
pub use testkit::{eventually, generation::first_text};
use tokio::sync::{Mutex, MutexGuard};
/// Threads that look for each other for long would keep the tests' own from running.
use worker_protocol::SHORT_SPIN;

pub const MODEL: &str = "smollm2-135m-instruct";
pub const PROGRAM: &str = env!("CARGO_BIN_EXE_kontor");
/// Two engines at a time would only slow each other down.
static TURN: Mutex<()> = Mutex::const_new(());

pub struct World {
    pub db: TestDb,
    pub actor: Actor,
    pub pool: Pool,
    pub inference: Inference,
    _turn: MutexGuard<'static, ()>,
}

/// `workers` real worker processes with these arguments, ready.
pub async fn world(workers: usize, arguments: &[&str]) -> World {
    let world = empty().await;
    for n in 1..=workers {
        world.pool.supervise(process(&format!("worker-{n}"), MODEL, &model_file(), arguments));
    }
    eventually("all workers are ready", 60, || async { world.ready() == workers }).await;
    world
}

/// A real worker process with one model.
pub fn process(name: &str, id: &str, file: &Path, arguments: &[&str]) -> WorkerProcess {
    let file = file.display().to_string();
    let mut args = vec!["worker", "--model-id", id, "--model", file.as_str(), "--threads", "2", "--log", "info"];
    args.extend(arguments);
    WorkerProcess {
        name: name.into(),
        models: vec![id.into()],
        program: PROGRAM.into(),
        args: args.into_iter().map(Into::into).collect(),
        env: vec![(SHORT_SPIN.0.into(), SHORT_SPIN.1.into())],
    }
}

/// The first half of a model, and a page that says that there is none, as files in this folder.
pub fn broken_files(folder: &Path) -> [PathBuf; 2] {
    let files = ["half.gguf", "page.gguf"].map(|name| folder.join(name));
    let model = std::fs::read(model_file()).expect("`make setup` fetches the model");
    std::fs::write(&files[0], &model[..model.len() / 2]).expect("written");
    std::fs::write(&files[1], "<html>404</html>").expect("written");
    files
}

/// A pool without workers.
pub async fn empty() -> World {
    offering(&[MODEL]).await
}

/// A pool without workers, and a catalogue of models of these names.
pub async fn offering(ids: &[&str]) -> World {
    let turn = TURN.lock().await;
    let db = TestDb::new().await;
    let tenant = testkit::tenant(&db, "a").await;
    let actor = testkit::user(&db, &tenant, &[Role::User]).await;
    let pool = Pool::new(PoolTiming { wait: Duration::from_secs(60), ..PoolTiming::default() });
    let model = |id: &&str| ModelConfig { id: (*id).into(), context_length: 1024, default: false, ..fake_model() };
    let catalogue = Catalogue::new(ids.iter().map(model).collect()).expect("valid");
    let inference = Inference::new(db.db.clone(), catalogue, pool.clone(), Arc::new(SystemClock));
    World { db, actor, pool, inference, _turn: turn }
}

pub fn model_file() -> PathBuf {
    let cache = std::env::var_os("KONTOR_CACHE").map(PathBuf::from);
    let cache = cache.or_else(|| std::env::home_dir().map(|home| home.join(".cache/kontor"))).expect("a cache");
    cache.join("models/smollm2-135m-instruct-q4_1.gguf")
}

pub fn request(text: String, max_tokens: u32) -> Request {
    Request {
        purpose: Purpose::Chat,
        model: None,
        messages: vec![ChatMessage::new(ChatRole::User, text)],
        continue_last: false,
        sampling: Sampling { max_tokens: Some(max_tokens), temperature: Some(0.0), ..Sampling::default() },
        transient: false,
        options: Options::default(),
    }
}

pub fn words(n: usize) -> String {
    "the quick brown fox ".repeat(n / 4)
}

impl World {
    pub async fn ask(&self, text: &str, max_tokens: u32) -> Generation {
        self.ask_of(None, text, max_tokens).await
    }

    pub async fn ask_of(&self, model: Option<&str>, text: &str, max_tokens: u32) -> Generation {
        let request = Request { model: model.map(Into::into), ..request(text.into(), max_tokens) };
        self.inference.admit(&self.actor, request).await.expect("admitted")
    }

    /// How many workers are ready.
    pub fn ready(&self) -> usize {
        self.pool.describe().matches("ready with").count()
    }

    /// Process ids of the workers, by name.
    pub fn pids(&self) -> Vec<u32> {
        let me = std::process::id().to_string();
        let children = Command::new("pgrep").args(["-P", &me, "-f", "worker --model-id"]).output().expect("pgrep runs");
        String::from_utf8_lossy(&children.stdout).split_whitespace().map(|pid| pid.parse().expect("a pid")).collect()
    }

    pub async fn totals(&self) -> Totals {
        let loads = self.pool.load().await;
        loads.iter().fold(Totals::default(), |sum, load| Totals {
            requests: sum.requests + load.totals.requests,
            prompt_tokens: sum.prompt_tokens + load.totals.prompt_tokens,
            cached_tokens: sum.cached_tokens + load.totals.cached_tokens,
            completion_tokens: sum.completion_tokens + load.totals.completion_tokens,
            pauses: sum.pauses + load.totals.pauses,
            ..Totals::default()
        })
    }

    /// The ledger, once nothing is open any more.
    pub async fn settled(&self) -> Vec<LedgerRow> {
        eventually("everything is settled", 20, || async { ledger(&self.db).await.iter().all(|row| row.state == "settled") }).await;
        ledger(&self.db).await
    }
}

/// The configuration of a process of its own, with one upstream that is called so, and all else in this folder.
pub fn settings(db: &TestDb, upstream: &FakeUpstream, addr: SocketAddr, folder: &Path) -> String {
    let (logins, site) = (db.config(), folder.join("site"));
    let base_url = upstream.config("upstream", FAKE_MODEL).base_url;
    // Rust's notation of text is TOML's, as long as there is nothing but printable ASCII in it.
    format!(
        "data_dir = {:?}\ncache_dir = {:?}\n\
         [log]\nlevel = \"error\"\n\
         [server]\naddr = \"{addr}\"\nsite_root = {site:?}\n\
         [metrics]\nenabled = false\n\
         [bootstrap]\nenabled = false\n\
         [database]\nurl = {:?}\ntenant_url = {:?}\nsystem_url = {:?}\nmax_connections = {}\n\
         [[models.offered]]\nid = \"{FAKE_MODEL}\"\ncontext_length = 1000000\n\
         [[upstreams]]\nname = \"upstream\"\nbase_url = {base_url:?}\nmodels = {{ {FAKE_MODEL} = \"their-model\" }}\n",
        folder.join("data"),
        folder.join("cache"),
        db.owner_url,
        logins.tenant_url,
        logins.system_url,
        logins.max_connections,
    )
}

/// Prepares a folder for [`settings`], with an interface that has no files.
pub fn install(db: &TestDb, upstream: &FakeUpstream, addr: SocketAddr, folder: &Path) {
    let site = folder.join("site/pkg");
    std::fs::create_dir_all(&site).expect("a folder");
    std::fs::write(site.join("kontor.js"), "").expect("a script");
    std::fs::write(folder.join("kontor.toml"), settings(db, upstream, addr, folder)).expect("a configuration");
}

/// An installation without a running server: for commands.
pub struct Installation {
    folder: TempDir,
    pub db: TestDb,
}

impl Installation {
    pub async fn build() -> Self {
        let (db, upstream, folder) = (TestDb::new().await, FakeUpstream::start().await, tempfile::tempdir().expect("a folder"));
        std::fs::write(folder.path().join("kontor.toml"), settings(&db, &upstream, free_port(), folder.path())).expect("a configuration");
        Self { folder, db }
    }

    /// `kontor admin` with these arguments, to its end.
    pub async fn admin(&self, arguments: &[&str]) -> Output {
        let mut command = tokio::process::Command::new(PROGRAM);
        command.arg("admin").args(arguments).env_clear().current_dir(self.folder.path()).kill_on_drop(true);
        command.stdin(Stdio::null()).output().await.expect("it runs")
    }

    /// What it says as JSON, if it went well.
    pub async fn told(&self, arguments: &[&str]) -> Value {
        let ended = self.admin(&[&["--json"][..], arguments].concat()).await;
        assert_eq!(ended.status.code(), Some(0), "{}", String::from_utf8_lossy(&ended.stderr));
        serde_json::from_slice(&ended.stdout).expect("JSON")
    }
}

/// `kontor serve` in an installed folder, with these variables and no others.
pub fn serve(folder: &Path, variables: &[(&str, &str)], log: impl Into<Stdio>) -> Running {
    let mut server = Command::new(PROGRAM);
    server.arg("serve").env_clear().envs(variables.iter().copied()).current_dir(folder);
    Running(server.stdin(Stdio::null()).stdout(Stdio::null()).stderr(log).spawn().expect("it starts"))
}

/// A process of its own, killed when dropped.
pub struct Running(pub Child);

impl Drop for Running {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

pub fn free_port() -> SocketAddr {
    std::net::TcpListener::bind("127.0.0.1:0").and_then(|listener| listener.local_addr()).expect("a free port")
}

pub fn signal(pid: u32, name: &str) {
    let status = Command::new("kill").args([format!("-{name}"), pid.to_string()]).status().expect("kill runs");
    assert!(status.success(), "{name} to {pid}");
}

/// Prompt, cached and completion tokens of the rows together.
pub fn sum<'a>(rows: impl IntoIterator<Item = &'a LedgerRow>) -> (u64, u64, u64) {
    let number = |n: i32| u64::try_from(n).expect("not negative");
    rows.into_iter().fold((0, 0, 0), |(prompt, cached, completion), row| {
        (prompt + number(row.prompt_tokens), cached + number(row.cached_tokens), completion + number(row.completion_tokens))
    })
}

pub async fn read(mut generation: Generation) -> (String, Ended) {
    testkit::generation::read(&mut generation).await
}

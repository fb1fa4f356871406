//! One life of a worker process of our own.
//!
//! The child is handed its token as the first line of its standard input and exits when that input closes, so it does
//! not outlive us even if we are killed.

use super::{backend::Backend, worker::WorkerBackend};
use domain::secret::Secret;
use std::{
    ffi::OsString,
    io,
    path::PathBuf,
    process::{ExitStatus, Stdio},
    sync::Arc,
    time::Duration,
};
use tokio::{
    io::{AsyncBufRead, AsyncBufReadExt, AsyncWriteExt, BufReader},
    process::{Child, ChildStdin, ChildStdout, Command},
    task::JoinSet,
    time::timeout,
};
use worker_protocol::{Hello, LoadedModel, ModelState, PROTOCOL, State, Status};

/// From start to `Hello` (the worker listens before it loads its model).
const HELLO: Duration = Duration::from_secs(30);
/// From `Hello` to a loaded model.
const READY: Duration = Duration::from_secs(15 * 60);
/// Between two looks at a worker that loads, or whose answers come to their end.
const LOOK: Duration = Duration::from_millis(200);
/// From closing its input to the end of the process; then it is killed.
const FAREWELL: Duration = Duration::from_secs(5);
/// From the end of the process to the end of its messages.
const LAST_WORDS: Duration = Duration::from_secs(1);

/// How to start one worker.
#[derive(Clone, Debug)]
pub struct WorkerProcess {
    /// For logs and `/readyz`, e.g. `worker-1`.
    pub name: String,
    /// The models that it will have: requests for them wait while the process starts.
    pub models: Vec<String>,
    pub program: PathBuf,
    pub args: Vec<OsString>,
    /// The child's whole environment. It inherits nothing, above all no secrets.
    pub env: Vec<(OsString, OsString)>,
}

/// A process that has said hello. Dropping it kills it.
pub(super) struct Running {
    child: Child,
    /// Closing it asks the process to end.
    stdin: Option<ChildStdin>,
    pub(super) backend: Arc<dyn Backend>,
    /// Read its messages for as long as it lives, or it would block on a full pipe.
    readers: JoinSet<()>,
}

impl Running {
    /// Starts and greets it.
    pub(super) async fn launch(process: &WorkerProcess) -> io::Result<Self> {
        let mut command = Command::new(&process.program);
        command.args(&process.args).env_clear().envs(process.env.iter().cloned());
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).kill_on_drop(true);
        let mut child = command.spawn()?;
        let (stdin, stdout, stderr) = (child.stdin.take(), child.stdout.take(), child.stderr.take());
        let (Some(mut stdin), Some(stdout), Some(stderr)) = (stdin, stdout, stderr) else {
            return Err(io::Error::other("the child has no pipes"));
        };
        let mut readers = JoinSet::new();
        readers.spawn(forward(process.name.clone(), BufReader::new(stderr)));
        let (token, mut stdout) = (Secret::random::<32>(), BufReader::new(stdout));
        let greeting = async {
            stdin.write_all(format!("{}\n", token.reveal()).as_bytes()).await?;
            stdin.flush().await?;
            hello(&mut stdout).await
        };
        let greeted = timeout(HELLO, greeting).await.unwrap_or_else(|late| Err(io::Error::from(late)));
        let addr = match greeted {
            Ok(addr) => addr,
            Err(error) => {
                child.kill().await?;
                // The last words are often the reason.
                let _ = timeout(LAST_WORDS, readers.join_all()).await;
                return Err(error);
            }
        };
        tracing::info!(worker = process.name, addr, pid = child.id(), "worker listens");
        // Nothing follows the greeting; what comes nevertheless must not fill the pipe.
        readers.spawn(forward(process.name.clone(), stdout));
        let backend = Arc::new(WorkerBackend::new(&addr, token).map_err(io::Error::other)?);
        Ok(Self { child, stdin: Some(stdin), backend, readers })
    }

    /// Waits until it has loaded what it can hold.
    ///
    /// # Errors
    /// It ended, or a model cannot be loaded.
    pub(super) async fn until_ready(&mut self) -> io::Result<()> {
        let loading = async {
            loop {
                // It may not answer while it loads.
                if let Ok(status) = self.backend.status().await
                    && let Some(outcome) = loaded(&status)
                {
                    return outcome;
                }
                tokio::time::sleep(LOOK).await;
            }
        };
        tokio::select! {
            status = self.child.wait() => Err(io::Error::other(format!("it ended with {}", status?))),
            outcome = timeout(READY, loading) => outcome.unwrap_or_else(|late| Err(io::Error::from(late))),
        }
    }

    /// Waits for its end.
    pub(super) async fn exited(&mut self) -> io::Result<ExitStatus> {
        let status = self.child.wait().await;
        self.last_words().await;
        status
    }

    /// They are often the reason.
    async fn last_words(&mut self) {
        let words = async { while self.readers.join_next().await.is_some() {} };
        let _ = timeout(LAST_WORDS, words).await;
    }

    /// Waits until nobody else uses it, but not for ever, and ends it.
    pub(super) async fn retire(self, most: Duration) -> io::Result<ExitStatus> {
        let unused = async {
            while Arc::strong_count(&self.backend) > 1 {
                tokio::time::sleep(LOOK).await;
            }
        };
        if timeout(most, unused).await.is_err() {
            tracing::warn!(pid = self.child.id(), "an old worker's answers did not end in time and are cut off");
        }
        self.end().await
    }

    /// Closes its input, which asks it to exit, and kills it if it does not.
    pub(super) async fn end(mut self) -> io::Result<ExitStatus> {
        drop(self.stdin.take());
        let status = match timeout(FAREWELL, self.child.wait()).await {
            Ok(status) => status,
            Err(_) => {
                self.child.kill().await?;
                self.child.wait().await
            }
        };
        self.last_words().await;
        status
    }
}

/// Whether a worker has loaded what it should; `None`: not yet.
fn loaded(status: &Status) -> Option<io::Result<()>> {
    let problem = |model: &LoadedModel| format!("{}: {}", model.id, model.problem.as_deref().unwrap_or("it cannot be loaded"));
    if let Some(failed) = status.models.iter().find(|model| model.state == ModelState::Failed) {
        return Some(Err(io::Error::other(problem(failed))));
    }
    let is_there = status.models.iter().any(|model| model.state == ModelState::Ready);
    (status.state == State::Ready && is_there).then_some(Ok(()))
}

/// Reads the greeting; returns the address.
async fn hello(stdout: &mut BufReader<ChildStdout>) -> io::Result<String> {
    let mut line = String::new();
    if stdout.read_line(&mut line).await? == 0 {
        return Err(io::Error::other("it ended before it said hello"));
    }
    let hello: Hello = serde_json::from_str(&line).map_err(|error| io::Error::other(format!("its first line is no hello: {error}")))?;
    if hello.protocol == PROTOCOL {
        Ok(hello.addr)
    } else {
        Err(io::Error::other(format!("it speaks protocol {}, not {PROTOCOL}", hello.protocol)))
    }
}

/// Passes the child's lines on to our log, to the end of the pipe.
async fn forward(worker: String, mut from: impl AsyncBufRead + Unpin) {
    let mut line = Vec::new();
    // A broken pipe is the end of it as well: the exit status tells more.
    while from.read_until(b'\n', &mut line).await.is_ok_and(|read| read > 0) {
        pass_on(&worker, &String::from_utf8_lossy(line.trim_ascii()));
        line.clear();
    }
}

/// Logs a line at the level that it begins with; what has none (llama.cpp's own words, a panic) is worth a warning.
fn pass_on(worker: &str, line: &str) {
    let (level, text) = line.split_once(' ').unwrap_or((line, ""));
    match level {
        "ERROR" => tracing::error!(target: "worker", worker, "{}", text.trim_start()),
        "WARN" => tracing::warn!(target: "worker", worker, "{}", text.trim_start()),
        "INFO" => tracing::info!(target: "worker", worker, "{}", text.trim_start()),
        "DEBUG" => tracing::debug!(target: "worker", worker, "{}", text.trim_start()),
        "TRACE" => tracing::trace!(target: "worker", worker, "{}", text.trim_start()),
        _ => tracing::warn!(target: "worker", worker, "{line}"),
    }
}

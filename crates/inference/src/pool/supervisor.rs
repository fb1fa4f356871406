//! Worker processes of our own: started, watched, restarted.
//!
//! llama.cpp aborts its process on a failed assertion, so a worker that dies is a normal event here. The
//! child is handed its token as the first line of its standard input and exits when that input closes, so it
//! does not outlive us even if we are killed.

use super::{health::Phase, member::Member, worker::WorkerBackend};
use domain::secret::Secret;
use std::{
    convert::Infallible,
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
    time::{Instant, timeout},
};
use tokio_util::sync::CancellationToken;
use worker_protocol::{Hello, PROTOCOL};

/// Pause before the first restart; doubles with every further one in a row.
const BACK_OFF_FIRST: Duration = Duration::from_millis(200);
const BACK_OFF_MOST: Duration = Duration::from_secs(10);
/// A process that lived this long did not fail at its start: the back-off begins anew.
const LIVED: Duration = Duration::from_secs(30);
/// After so many short lives in a row nobody waits for it any more, though it is still restarted.
const HOPELESS: u32 = 3;
/// From start to `Hello` (the worker listens before it loads its model).
const HELLO: Duration = Duration::from_secs(30);
/// From closing its input to the end of the process; then it is killed.
const FAREWELL: Duration = Duration::from_secs(5);
/// From the end of the process to the end of its messages.
const LAST_WORDS: Duration = Duration::from_secs(1);

/// How to start one worker.
#[derive(Clone, Debug)]
pub struct WorkerProcess {
    /// For logs and `/readyz`, e.g. `worker-1`.
    pub name: String,
    /// The model that it will load: requests for it wait while the process starts.
    pub model: String,
    pub program: PathBuf,
    pub args: Vec<OsString>,
    /// The child's whole environment. It inherits nothing, above all no secrets.
    pub env: Vec<(OsString, OsString)>,
}

/// Runs the process until `stop`, again and again.
pub(super) async fn supervise(process: WorkerProcess, member: Arc<Member>, stop: CancellationToken) {
    let mut back_off = BackOff::default();
    while !stop.is_cancelled() {
        let started = Instant::now();
        match live(&process, &member, &stop).await {
            Ok(_) if stop.is_cancelled() => break,
            Ok(status) => tracing::error!(worker = process.name, %status, "worker ended"),
            Err(error) => tracing::error!(worker = process.name, %error, "worker did not start"),
        }
        let pause = back_off.after(started.elapsed());
        let (phase, reason) = if back_off.failures >= HOPELESS { (Phase::Down, "keeps failing") } else { (Phase::Starting, "restarting") };
        member.detach(phase, reason);
        let _: Option<()> = stop.run_until_cancelled(tokio::time::sleep(pause)).await;
    }
    member.detach(Phase::Down, "shutting down");
}

/// One life of the process, to its exit or to `stop`.
async fn live(process: &WorkerProcess, member: &Member, stop: &CancellationToken) -> io::Result<ExitStatus> {
    let mut command = Command::new(&process.program);
    command.args(&process.args).env_clear().envs(process.env.iter().cloned());
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).kill_on_drop(true);
    let mut child = command.spawn()?;
    let (stdin, stdout, stderr) = (child.stdin.take(), child.stdout.take(), child.stderr.take());
    let (Some(stdin), Some(stdout), Some(stderr)) = (stdin, stdout, stderr) else {
        return Err(io::Error::other("the child has no pipes"));
    };
    // Its messages are read for as long as it lives, or it would block on a full pipe.
    let messages = forward(&process.name, BufReader::new(stderr));
    let life = attend(process, member, stop, child, stdin, BufReader::new(stdout));
    tokio::pin!(messages, life);
    tokio::select! {
        status = &mut life => {
            // The last words are often the reason.
            let _ = timeout(LAST_WORDS, messages).await;
            status
        }
        () = &mut messages => life.await,
    }
}

/// Greets the child, gives it its seat in the pool and stays until it ends.
async fn attend(
    process: &WorkerProcess,
    member: &Member,
    stop: &CancellationToken,
    mut child: Child,
    mut stdin: ChildStdin,
    mut stdout: BufReader<ChildStdout>,
) -> io::Result<ExitStatus> {
    let token = new_token();
    let greeting = async {
        stdin.write_all(format!("{}\n", token.reveal()).as_bytes()).await?;
        stdin.flush().await?;
        hello(&mut stdout).await
    };
    let greeted = tokio::select! {
        () = stop.cancelled() => return end(child, stdin).await,
        greeted = timeout(HELLO, greeting) => greeted.unwrap_or_else(|late| Err(io::Error::from(late))),
    };
    let addr = match greeted {
        Ok(addr) => addr,
        Err(error) => {
            child.kill().await?;
            return Err(error);
        }
    };
    tracing::info!(worker = process.name, addr, pid = child.id(), "worker listens");
    member.attach(Arc::new(WorkerBackend::new(&addr, token).map_err(io::Error::other)?));
    tokio::select! {
        () = stop.cancelled() => end(child, stdin).await,
        status = child.wait() => status,
        // Nothing follows the greeting; what comes nevertheless must not fill the pipe.
        never = forward_for_ever(&process.name, stdout) => match never {},
    }
}

/// Closes the input, which asks it to exit, and kills it if it does not.
async fn end(mut child: Child, stdin: ChildStdin) -> io::Result<ExitStatus> {
    drop(stdin);
    if let Ok(status) = timeout(FAREWELL, child.wait()).await {
        return status;
    }
    child.kill().await?;
    child.wait().await
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
async fn forward(worker: &str, mut from: impl AsyncBufRead + Unpin) {
    let mut line = Vec::new();
    // A broken pipe is the end of it as well: the exit status tells more.
    while from.read_until(b'\n', &mut line).await.is_ok_and(|read| read > 0) {
        pass_on(worker, &String::from_utf8_lossy(line.trim_ascii()));
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

async fn forward_for_ever(worker: &str, from: impl AsyncBufRead + Unpin) -> Infallible {
    forward(worker, from).await;
    std::future::pending().await
}

/// 256 bits from the operating system, in hexadecimal.
fn new_token() -> Secret {
    let bytes: [u8; 32] = rand::random();
    Secret::new(bytes.iter().map(|byte| format!("{byte:02x}")).collect::<String>())
}

/// How long to wait before the next start.
#[derive(Debug, Default)]
struct BackOff {
    /// Short lives in a row.
    failures: u32,
}

impl BackOff {
    /// The pause after a life of this length.
    fn after(&mut self, lived: Duration) -> Duration {
        self.failures = if lived >= LIVED { 1 } else { self.failures.saturating_add(1) };
        BACK_OFF_FIRST.saturating_mul(2_u32.saturating_pow(self.failures - 1)).min(BACK_OFF_MOST)
    }
}

#[cfg(test)]
mod tests {
    use super::{BackOff, LIVED};
    use std::time::Duration;

    #[test]
    fn the_pause_doubles_up_to_ten_seconds_and_starts_anew_after_a_long_life() {
        let mut back_off = BackOff::default();
        let pauses: Vec<u128> = (0..8).map(|_| back_off.after(Duration::ZERO).as_millis()).collect();
        assert_eq!(pauses, [200, 400, 800, 1600, 3200, 6400, 10_000, 10_000]);
        assert_eq!(back_off.after(LIVED).as_millis(), 200);
        for _ in 0..100 {
            assert!(back_off.after(Duration::ZERO) <= Duration::from_secs(10));
        }
    }
}

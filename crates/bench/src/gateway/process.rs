//! Programs that are measured: started on their core, in a process group of their own, and ended on every way out.

use std::fs::File;
use std::net::{SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::thread;
use std::time::{Duration, Instant};

use tokio::process::{Child, Command};

use crate::Result;

/// Until it answers.
const PATIENCE: Duration = Duration::from_secs(120);
/// Until it has ended after it was asked to; then it is killed.
const FAREWELL: Duration = Duration::from_secs(30);
const LOOK: Duration = Duration::from_millis(50);

/// A running program. Dropping it ends it, and waits for that: Kontor stops its database before it goes.
#[derive(Debug)]
pub struct Process {
    name: &'static str,
    pid: u32,
    child: Child,
    log: PathBuf,
}

/// How to start a program on a core; on any without one.
pub fn command(program: &Path, core: Option<u32>) -> Command {
    let Some(core) = core else { return Command::new(program) };
    // It becomes the program: no process of its own stays.
    let mut command = Command::new("taskset");
    command.args(["-c", &core.to_string()]).arg(program);
    command
}

impl Process {
    /// Starts it. What it says goes to a file in the folder for temporary files.
    ///
    /// # Errors
    /// It cannot be started.
    pub fn start(name: &'static str, command: &mut Command) -> Result<Self> {
        let log = std::env::temp_dir().join(format!("kontor-bench-gateway-{name}.log"));
        let out = File::create(&log).map_err(|error| format!("{}: {error}", log.display()))?;
        command.stdin(Stdio::null()).stdout(out.try_clone()?).stderr(out);
        // An interrupt at the terminal is ours to pass on: two at once would keep Kontor from stopping its database.
        command.process_group(0);
        let child = command.spawn().map_err(|error| format!("{name} cannot be started: {error}"))?;
        let pid = child.id().ok_or_else(|| format!("{name} ended at once; see {}", log.display()))?;
        Ok(Self { name, pid, child, log })
    }

    pub fn pid(&self) -> u32 {
        self.pid
    }

    /// Asks again until `probe` succeeds.
    ///
    /// # Errors
    /// The program ends, or takes too long; with the last failure of `probe`.
    pub async fn until(&mut self, mut probe: impl AsyncFnMut() -> Result<()>) -> Result<()> {
        let begin = Instant::now();
        while let Err(error) = probe().await {
            let (name, log) = (self.name, self.log.display());
            if let Some(status) = self.child.try_wait()? {
                return Err(format!("{name} ended with {status}; see {log}").into());
            }
            if begin.elapsed() > PATIENCE {
                return Err(format!("{name} was not ready after {PATIENCE:?}: {error}; see {log}").into());
            }
            tokio::time::sleep(LOOK).await;
        }
        Ok(())
    }

    /// Asks it to end, and waits until it has.
    ///
    /// # Errors
    /// It cannot be waited for.
    pub async fn stop(mut self) -> Result<()> {
        signal(self.pid, "TERM");
        if tokio::time::timeout(FAREWELL, self.child.wait()).await.is_err() {
            eprintln!("  {} did not end; it is killed", self.name);
            self.child.kill().await?;
        }
        Ok(())
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // After `stop` there is nothing to do; else something failed, and nobody can be told of more.
        if !matches!(self.child.try_wait(), Ok(None)) {
            return;
        }
        signal(self.pid, "TERM");
        let begin = Instant::now();
        while matches!(self.child.try_wait(), Ok(None)) {
            if begin.elapsed() > FAREWELL {
                drop(self.child.start_kill());
                return;
            }
            thread::sleep(LOOK);
        }
    }
}

/// Sends a signal by its name. That the process is gone already is fine.
pub fn signal(pid: u32, name: &str) {
    let mut shell = std::process::Command::new("sh");
    shell.args(["-c", r#"kill -s "$1" "$2""#, "kill", name, &pid.to_string()]);
    drop(shell.stderr(Stdio::null()).status());
}

/// A free address of the loopback interface.
///
/// # Errors
/// There is none.
pub fn free_address() -> Result<SocketAddr> {
    Ok(TcpListener::bind("127.0.0.1:0")?.local_addr()?)
}

#[cfg(test)]
mod tests {
    use super::{Process, command};
    use crate::Result;
    use std::path::Path;
    use std::time::{Duration, Instant};

    fn sleeper() -> Process {
        Process::start("sleeper", command(Path::new("sleep"), None).arg("100")).unwrap()
    }

    #[tokio::test]
    async fn a_process_is_ended_by_asking_and_by_dropping() {
        let begin = Instant::now();
        let (asked, dropped) = (sleeper(), sleeper());
        let pids = [asked.pid(), dropped.pid()];
        asked.stop().await.unwrap();
        drop(dropped);
        assert!(begin.elapsed() < Duration::from_secs(20));
        for pid in pids {
            assert!(!Path::new(&format!("/proc/{pid}")).exists());
        }
    }

    #[tokio::test]
    async fn a_process_that_ends_is_not_waited_for() {
        let mut process = Process::start("ended", command(Path::new("false"), None).arg("")).unwrap();
        let told = process.until(async || -> Result<()> { Err("not ready".into()) }).await.unwrap_err().to_string();
        assert!(told.starts_with("ended ended with"), "{told}");
    }
}

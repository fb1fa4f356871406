//! Workers of other machines: they register, both sides prove who they are, and come back after an interruption.

use crate::world::{MODEL, PROGRAM, Running, World, empty, eventually, first_text, free_port, model_file, read, signal};
use inference::{Outcome, Pool};
use server::{commands::certificates, http::registry};
use std::{
    net::SocketAddr,
    path::Path,
    process::{Command, Stdio},
    time::Duration,
};
use tempfile::TempDir;
use tokio::net::TcpListener;
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use worker_protocol::{
    PROTOCOL, SPIN,
    registration::Registration,
    tls::{Identity, POOL, worker_name},
};

struct Remote {
    world: World,
    certificates: TempDir,
    port: SocketAddr,
    stop: CancellationToken,
    tasks: TaskTracker,
}

async fn remote() -> Remote {
    let world = empty().await;
    let certificates = tempfile::tempdir().expect("a folder");
    let made = certificates::issue(certificates.path(), &["gpu-1".into(), "gpu-2".into()]).expect("certificates");
    assert_eq!(made.len(), 8, "authority, pool and two workers: {made:?}");
    let mut remote = Remote {
        world,
        certificates,
        port: SocketAddr::from(([127, 0, 0, 1], 0)),
        stop: CancellationToken::new(),
        tasks: TaskTracker::new(),
    };
    remote.open().await;
    remote
}

impl Remote {
    fn identity(&self, name: &str) -> Identity {
        let file = |name: String| self.certificates.path().join(name);
        Identity::read(&file(format!("{name}.pem")), &file(format!("{name}.key")), &file("ca.pem".into())).expect("readable")
    }

    /// The port for workers.
    async fn open(&mut self) {
        let listener = TcpListener::bind(self.port).await.expect("a port");
        self.port = listener.local_addr().expect("bound");
        let serving = registry::serve(listener, self.identity("pool"), self.world.pool.clone(), self.stop.clone());
        self.tasks.spawn(serving.expect("certificates of use"));
    }

    async fn close(&mut self) {
        self.stop.cancel();
        self.tasks.close();
        self.tasks.wait().await;
        (self.stop, self.tasks) = (CancellationToken::new(), TaskTracker::new());
    }

    /// A worker process of its own, as on another machine.
    fn start(&self, name: &str, addr: SocketAddr) -> Running {
        let file = |suffix: &str| self.certificates.path().join(format!("worker-{name}.{suffix}"));
        let child = Command::new(PROGRAM)
            .args(["worker", "--model-id", MODEL, "--threads", "2", "--context-length", "1024", "--slots", "4"])
            .args(["--name", name, "--join", &self.port.to_string(), "--addr", &addr.to_string(), "--drain-seconds", "60"])
            .args([Path::new("--model"), &model_file(), Path::new("--cert-file"), &file("pem")])
            .args([Path::new("--key-file"), &file("key"), Path::new("--ca-file"), &self.certificates.path().join("ca.pem")])
            .env_clear()
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .spawn()
            .expect("it starts");
        Running(child)
    }

    async fn says(&self, words: &str) {
        eventually(words, 60, || async { self.world.pool.describe().contains(words) }).await;
    }
}

#[tokio::test]
async fn a_worker_registers_survives_a_cut_cable_and_leaves_when_it_has_drained() {
    let mut remote = remote().await;
    let mut worker = remote.start("gpu-1", free_port());
    remote.says("gpu-1: ready with").await;
    let (text, ended) = read(remote.world.ask("Say hello.", 5).await).await;
    assert!(ended.outcome == Outcome::Ok && !text.is_empty(), "{ended:?}");
    let variables = std::fs::read_to_string(format!("/proc/{}/environ", worker.0.id())).expect("readable");
    assert!(variables.starts_with(&format!("{}=", SPIN.0)), "it has brought about what OpenMP is to read: {variables:?}");

    // Nothing comes through for a while.
    let pid = worker.0.id();
    signal(pid, "STOP");
    eventually("the pool notices", 60, || async { remote.world.ready() == 0 }).await;
    signal(pid, "CONT");
    remote.says("gpu-1: ready with").await;

    // The pool is started anew: the worker comes by itself.
    remote.close().await;
    let anew = Pool::default();
    let original = std::mem::replace(&mut remote.world.pool, anew.clone());
    remote.open().await;
    remote.says("gpu-1: ready with").await;
    remote.close().await;
    anew.shutdown().await;
    remote.world.pool = original;
    remote.open().await;
    remote.says("gpu-1: ready with").await;

    // It ends when its answers have.
    let mut long = remote.world.ask("Write a very long story about the sea.", 200).await;
    first_text(&mut long).await;
    signal(pid, "TERM");
    eventually("nothing new is sent to it", 10, || async { remote.world.ready() == 0 }).await;
    let (_, ended) = read(long).await;
    assert_eq!((ended.outcome, ended.stats.completion_tokens), (Outcome::Ok, 200));
    eventually("the pool is told", 20, || async { remote.world.pool.describe() == "there is no worker" }).await;
    let status = tokio::task::spawn_blocking(move || worker.0.wait()).await.expect("no panic").expect("an end");
    assert!(status.success(), "{status}");
    remote.stop.cancel();
}

#[tokio::test]
async fn nobody_is_let_in_without_the_right_certificate() {
    let remote = remote().await;
    let addr = free_port();
    let _worker = remote.start("gpu-1", addr);
    remote.says("gpu-1: ready with").await;
    let status = format!("https://{}:{}/status", worker_name("gpu-1"), addr.port());

    // To a worker: no encryption, another worker's certificate, another authority, and the pool without the token.
    let plain = identity_free().get(format!("http://{addr}/status")).send().await;
    assert!(plain.is_err(), "a worker talks to whoever comes: {plain:?}");
    let client = |identity: Identity, name: &str, addr| identity.client(name, addr).expect("a client").build().expect("a client");
    let other = client(remote.identity("worker-gpu-2"), &worker_name("gpu-1"), addr).get(&status).send().await;
    assert!(other.is_err(), "a worker talks to another worker as if it were the pool: {other:?}");
    let elsewhere = tempfile::tempdir().expect("a folder");
    certificates::issue(elsewhere.path(), &[]).expect("certificates");
    let file = |name: &str| elsewhere.path().join(name);
    let foreign = Identity::read(&file("pool.pem"), &file("pool.key"), &remote.certificates.path().join("ca.pem")).expect("readable");
    let stranger = client(foreign, &worker_name("gpu-1"), addr).get(&status).send().await;
    assert!(stranger.is_err(), "another authority's certificate is as good: {stranger:?}");
    let tokenless = client(remote.identity("pool"), &worker_name("gpu-1"), addr).get(&status).send().await.expect("an answer");
    assert_eq!(tokenless.status(), 401);
    // And a client does not talk to a worker under another one's name.
    let wrong_name = client(remote.identity("pool"), &worker_name("gpu-2"), addr);
    assert!(wrong_name.get(status.replace("gpu-1", "gpu-2")).send().await.is_err());

    // To the pool: under another name.
    let registration = Registration { protocol: PROTOCOL, addr: addr.to_string(), token: "x".repeat(64), models: vec![MODEL.into()] };
    let register = |identity: Identity, name: &str, registration: &Registration| {
        let call = client(identity, POOL, remote.port).put(format!("https://{POOL}:{}/workers/{name}", remote.port.port()));
        call.json(registration).send()
    };
    let stolen = register(remote.identity("worker-gpu-2"), "gpu-1", &registration).await.expect("an answer");
    assert_eq!(
        stolen.status(),
        403,
        "If you are here because this failed: one worker can take another one's place and read what is meant for it."
    );
    let newer = Registration { protocol: PROTOCOL + 1, ..registration };
    let refused = register(remote.identity("worker-gpu-2"), "gpu-2", &newer).await.expect("an answer");
    assert_eq!(refused.status(), 409);
    assert!(refused.text().await.expect("text").contains("same version"));
    remote.world.pool.leave("gpu-1", "the token of an earlier life");
    assert_eq!(remote.world.ready(), 1, "the real one is untouched: {}", remote.world.pool.describe());
    remote.stop.cancel();
}

fn identity_free() -> reqwest::Client {
    reqwest::Client::builder().http2_prior_knowledge().no_proxy().timeout(Duration::from_secs(5)).build().expect("a client")
}

#[tokio::test]
async fn certificates_are_made_once_and_keys_are_for_their_owner_alone() {
    use std::os::unix::fs::PermissionsExt;
    let folder = tempfile::tempdir().expect("a folder");
    certificates::issue(folder.path(), &["a".into()]).expect("certificates");
    let authority = std::fs::read(folder.path().join("ca.pem")).expect("readable");
    let more = certificates::issue(folder.path(), &["a".into(), "b".into()]).expect("more");
    assert_eq!(more.len(), 2, "only what was missing: {more:?}");
    assert_eq!(std::fs::read(folder.path().join("ca.pem")).expect("readable"), authority);
    for key in ["ca.key", "pool.key", "worker-a.key", "worker-b.key"] {
        let mode = std::fs::metadata(folder.path().join(key)).expect("there").permissions().mode();
        assert_eq!(mode & 0o077, 0, "others can read {key}");
    }
    assert!(certificates::issue(folder.path(), &["No.Such".into()]).is_err());
}

//! Child processes: a worker that dies comes back, one that cannot start is given up, none outlives us.

use crate::setup::{asker, eventually, read, request};
use domain::{Error, SystemClock};
use inference::{Catalogue, Inference, Outcome, Pool, PoolTiming, WorkerProcess};
use std::{fs, path::Path, sync::Arc, time::Duration};
use testkit::{
    TestDb,
    fake_worker::{FAKE_MODEL, FakeWorker, fake_model, quick_pool},
};

/// A shell script in the place of a worker. It notes its process id and each life, and exits when its input
/// closes. It says hello with the address of a fake worker that runs here.
fn process(folder: &Path, script: &str) -> WorkerProcess {
    let file = folder.join("worker.sh");
    fs::write(&file, script).expect("written");
    WorkerProcess {
        name: "child".into(),
        models: vec![FAKE_MODEL.into()],
        program: "/bin/sh".into(),
        args: vec![file.into(), folder.into()],
        env: vec![("PATH".into(), "/usr/bin:/bin".into())],
    }
}

fn lives(folder: &Path) -> usize {
    fs::read_to_string(folder.join("lives")).map_or(0, |text| text.lines().count())
}

fn pid(folder: &Path) -> String {
    fs::read_to_string(folder.join("pid")).expect("a pid").trim().to_owned()
}

fn is_alive(pid: &str) -> bool {
    Path::new("/proc").join(pid).exists()
}

fn over(db: &TestDb, pool: Pool) -> Inference {
    let catalogue = Catalogue::new(vec![fake_model()]).expect("valid");
    Inference::new(db.db.clone(), catalogue, pool, Arc::new(SystemClock))
}

#[tokio::test]
async fn a_killed_worker_comes_back_and_ends_with_us() {
    let db = TestDb::new().await;
    let actor = asker(&db).await;
    let folder = tempfile::tempdir().expect("a folder");
    let fake = FakeWorker::start().await;
    // The script only says hello; the fake serves in its place, and does not know the script's token.
    fake.accept_any_token();
    let script = format!(
        r#"read -r token
echo "$token" > "$1/token"
echo life >> "$1/lives"
echo $$ > "$1/pid"
env > "$1/env"
echo 'a message' >&2
echo '{{"protocol":{},"addr":"{}"}}'
echo 'idle talk'
cat > /dev/null
"#,
        worker_protocol::PROTOCOL,
        fake.addr()
    );
    let pool = quick_pool();
    pool.supervise(process(folder.path(), &script));
    let inference = over(&db, pool.clone());
    eventually("it has a token", || async { folder.path().join("token").metadata().is_ok_and(|file| file.len() > 0) }).await;
    let token = fs::read_to_string(folder.path().join("token")).expect("a token");
    assert_eq!(token.trim().len(), 64, "{token:?}");
    eventually("it is ready", || async { inference.ready().is_ok() }).await;
    let environment = fs::read_to_string(folder.path().join("env")).expect("written");
    assert!(!environment.contains("CARGO"), "If you are here because this failed: a worker inherits our environment and its secrets.");

    let first = pid(folder.path());
    std::process::Command::new("kill").args(["-KILL", &first]).status().expect("killed");
    eventually("a second life", || async { lives(folder.path()) == 2 }).await;
    let (_, ended) = read(&mut inference.admit(&actor, request()).await.expect("admitted")).await;
    assert_eq!(ended.outcome, Outcome::Ok);

    let second = pid(folder.path());
    assert!(is_alive(&second));
    pool.shutdown().await;
    assert!(!is_alive(&second), "If you are here because this failed: a worker outlives its supervisor.");
}

#[tokio::test]
async fn a_worker_that_cannot_start_is_not_waited_for_for_ever() {
    let db = TestDb::new().await;
    let actor = asker(&db).await;
    let folder = tempfile::tempdir().expect("a folder");
    let pool = Pool::new(PoolTiming { wait: Duration::from_secs(30), ..PoolTiming::default() });
    pool.supervise(process(folder.path(), "echo life >> \"$1/lives\"; echo 'no such model' >&2; exit 3"));
    let inference = over(&db, pool);
    let mut generation = inference.admit(&actor, request()).await.expect("admitted");
    let (_, ended) = tokio::time::timeout(Duration::from_secs(5), read(&mut generation)).await.expect("no waiting without hope");
    assert!(matches!(ended.error, Some(Error::Unavailable { what: "model", .. })), "{ended:?}");
    assert!(lives(folder.path()) >= 3);
}

//! Child processes: a worker that dies comes back, one that cannot start is given up, none outlives us.

use crate::setup::{asker, eventually, first_text, read, request};
use domain::{Error, SystemClock};
use inference::{Catalogue, Inference, Outcome, Pool, PoolTiming, WorkerProcess};
use std::{fs, path::Path, sync::Arc, time::Duration};
use testkit::{
    TestDb,
    fake_worker::{FAKE_MODEL, FakeWorker, Script, fake_model, quick_pool},
};
use worker_protocol::State;

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

/// A script that says hello with the address of this fake worker, unless it ends before.
fn greets(before: &str, fake: &FakeWorker) -> String {
    format!(
        r#"read -r token
echo life >> "$1/lives"
{before}
echo $$ > "$1/pid"
echo '{{"protocol":{},"addr":"{}"}}'
exec cat > /dev/null
"#,
        worker_protocol::PROTOCOL,
        fake.addr()
    )
}

#[tokio::test]
async fn a_worker_whose_engine_is_stuck_is_passed_over_and_then_replaced() {
    let db = TestDb::new().await;
    let actor = asker(&db).await;
    let folder = tempfile::tempdir().expect("a folder");
    let fake = FakeWorker::start().await;
    fake.accept_any_token();
    let pool = quick_pool();
    pool.supervise(process(folder.path(), &greets("", &fake)));
    let inference = over(&db, pool.clone());
    eventually("it is ready", || async { inference.ready().is_ok() }).await;
    let first = pid(folder.path());
    fake.set_stuck(59_000);
    eventually("nobody is sent there", || async { inference.ready().is_err() }).await;
    // Far more polls than it takes to give one up.
    tokio::time::sleep(Duration::from_secs(3)).await;
    assert_eq!(lives(folder.path()), 1, "it may come to its end");
    fake.set_stuck(60_000);
    eventually("another one takes its place", || async { lives(folder.path()) > 1 }).await;
    fake.set_stuck(0);
    assert!(!is_alive(&first), "If you are here because this failed: a worker that hangs keeps its memory beside the next one.");
    eventually("it is ready", || async { inference.ready().is_ok() }).await;
    let (_, ended) = read(&mut inference.admit(&actor, request()).await.expect("admitted")).await;
    assert_eq!(ended.outcome, Outcome::Ok, "{ended:?}");
    pool.shutdown().await;
}

#[tokio::test]
async fn a_worker_that_hangs_while_it_is_being_replaced_is_not_waited_for() {
    let db = TestDb::new().await;
    let actor = asker(&db).await;
    let folder = tempfile::tempdir().expect("a folder");
    let (hangs, next) = (FakeWorker::start().await, FakeWorker::start().await);
    hangs.accept_any_token();
    next.accept_any_token();
    next.set_state(State::Loading);
    // Its later lives say hello with the address of the other one.
    let later = format!(
        r#"if [ "$(wc -l < "$1/lives")" -gt 1 ]; then
echo $$ > "$1/pid"
echo '{{"protocol":{},"addr":"{}"}}'
exec cat > /dev/null
fi"#,
        worker_protocol::PROTOCOL,
        next.addr()
    );
    let pool = quick_pool();
    pool.supervise(process(folder.path(), &greets(&later, &hangs)));
    let inference = over(&db, pool.clone());
    eventually("it is ready", || async { inference.ready().is_ok() }).await;
    let old = pid(folder.path());
    hangs.script(Script::answer("one two three").hangs_after(1));
    let mut running = inference.admit(&actor, request()).await.expect("admitted");
    first_text(&mut running).await;
    let hanging = async {
        testkit::eventually("the new one loads", 30, || async { lives(folder.path()) == 2 }).await;
        // Before that it would not be replaced, but ended and started again.
        hangs.set_stuck(60_000);
        let before = hangs.polls();
        // More than it takes to give one up.
        testkit::eventually("it says so for long", 30, || async { hangs.polls() > before + 25 }).await;
        next.set_state(State::Ready);
    };
    let restart = async { tokio::join!(pool.restart_workers(), hanging) };
    let restarted = tokio::time::timeout(Duration::from_secs(90), restart).await;
    assert!(restarted.is_ok(), "If you are here because this failed: a worker that hangs keeps all others from being replaced.");
    // It would be given a quarter of an hour for the answer that is still being waited for there.
    testkit::eventually("the old one ends, with its memory", 30, || async { !is_alive(&old) }).await;
    assert_eq!(lives(folder.path()), 2);
    eventually("the new one is ready", || async { inference.ready().is_ok() }).await;
    let (_, ended) = read(&mut inference.admit(&actor, request()).await.expect("admitted")).await;
    assert_eq!(ended.outcome, Outcome::Ok, "{ended:?}");
    running.cancel();
    assert_eq!(read(&mut running).await.1.outcome, Outcome::Cancelled);
    pool.shutdown().await;
}

#[tokio::test]
async fn where_the_new_worker_does_not_start_the_old_one_stays_and_serves() {
    let db = TestDb::new().await;
    let actor = asker(&db).await;
    let folder = tempfile::tempdir().expect("a folder");
    let fake = FakeWorker::start().await;
    fake.accept_any_token();
    // It ends without a word; it ends while it loads, where nobody listens; it is another program; the fifth is well.
    let broken = format!(
        r#"case $(wc -l < "$1/lives") in
2) echo 'no such model' >&2; exit 3 ;;
3) echo '{{"protocol":{},"addr":"127.0.0.1:1"}}'; echo 'no such model' >&2; exit 3 ;;
4) echo 'what is a worker?'; exec cat > /dev/null ;;
esac"#,
        worker_protocol::PROTOCOL
    );
    let pool = quick_pool();
    pool.supervise(process(folder.path(), &greets(&broken, &fake)));
    let inference = over(&db, pool.clone());
    eventually("it is ready", || async { inference.ready().is_ok() }).await;
    let old = pid(folder.path());
    let restart = || async { tokio::time::timeout(Duration::from_secs(30), pool.restart_workers()).await.expect("an end") };
    for life in 2..=4 {
        fake.script(Script::answer("one two three").hangs_after(1));
        let mut running = inference.admit(&actor, request()).await.expect("admitted");
        first_text(&mut running).await;
        restart().await;
        assert_eq!(lives(folder.path()), life, "a new one was tried");
        assert_eq!(pid(folder.path()), old);
        assert!(is_alive(&old), "If you are here because this failed: a restart takes away the worker that works ({life}).");
        assert_eq!(inference.ready(), Ok(()));
        let (_, ended) = read(&mut inference.admit(&actor, request()).await.expect("admitted")).await;
        assert_eq!(ended.outcome, Outcome::Ok, "{life}: {ended:?}");
        eventually("only what ran before runs on", || async { fake.running() == 1 }).await;
        running.cancel();
        assert_eq!(read(&mut running).await.1.outcome, Outcome::Cancelled);
    }
    restart().await;
    assert_ne!(pid(folder.path()), old);
    eventually("the old one ends", || async { !is_alive(&old) }).await;
    let (_, ended) = read(&mut inference.admit(&actor, request()).await.expect("admitted")).await;
    assert_eq!(ended.outcome, Outcome::Ok, "{ended:?}");
    pool.shutdown().await;
}

#[tokio::test]
async fn a_restart_does_not_wait_for_a_worker_that_never_starts() {
    let db = TestDb::new().await;
    let (broken, well) = (tempfile::tempdir().expect("a folder"), tempfile::tempdir().expect("a folder"));
    let fake = FakeWorker::start().await;
    fake.accept_any_token();
    let pool = quick_pool();
    pool.supervise(process(broken.path(), "exit 3"));
    pool.supervise(WorkerProcess { name: "well".into(), ..process(well.path(), &greets("", &fake)) });
    let inference = over(&db, pool.clone());
    eventually("one is ready", || async { inference.ready().is_ok() }).await;
    let restarted = tokio::time::timeout(Duration::from_secs(30), pool.restart_workers()).await;
    assert!(restarted.is_ok(), "If you are here because this failed: one broken worker keeps all others from being replaced.");
    assert_eq!(lives(well.path()), 2);
    pool.shutdown().await;
}

//! One worker process that exchanges its models, with memory as the system counts it, and several that load one after
//! the other.

#![expect(clippy::disallowed_methods, reason = "tests wait for their tasks themselves")]

use crate::world::{PROGRAM, World, broken_files, eventually, first_text, model_file, offering, read, sum};
use domain::Error;
use inference::{Outcome, WorkerProcess, pool::ModelState};
use serde_json::json;
use std::{
    ffi::OsString,
    fs::File,
    path::Path,
    time::{Duration, Instant},
};
use worker_protocol::SHORT_SPIN;

const RESIDENCE: Duration = Duration::from_secs(3);

/// One worker with these models, all of the same file, within so many MiB. `extra` is said of each.
async fn sharing(ids: &[&str], memory_mib: u64, extra: impl Fn(&str) -> serde_json::Value) -> World {
    let world = offering(ids).await;
    let mut args = vec!["worker".to_owned(), "--model-id".into(), ids[0].into(), "--model".into(), model_file().display().to_string()];
    args.extend(["--threads", "2", "--context-length", "1024"].map(Into::into));
    for id in &ids[1..] {
        let mut more = json!({"id": id, "path": model_file(), "context_length": 1024});
        more.as_object_mut().expect("an object").extend(extra(id).as_object().cloned().unwrap_or_default());
        args.extend(["--more".into(), more.to_string()]);
    }
    args.extend(["--memory-mib".into(), memory_mib.to_string()]);
    args.extend(["--residence-seconds".into(), RESIDENCE.as_secs().to_string()]);
    world.pool.supervise(WorkerProcess {
        name: "worker-1".into(),
        models: ids.iter().map(|id| (*id).to_owned()).collect(),
        program: PROGRAM.into(),
        args: args.into_iter().map(Into::into).collect(),
        env: vec![(SHORT_SPIN.0.into(), SHORT_SPIN.1.into())],
    });
    world
}

impl World {
    async fn state(&self, id: &str) -> ModelState {
        let load = self.pool.load().await;
        load[0].models.iter().find(|model| model.id == id).map_or(ModelState::Absent, |model| model.state)
    }

    async fn until_ready(&self, ids: &[&str]) {
        for id in ids {
            eventually(id, 60, || async { self.state(id).await == ModelState::Ready }).await;
        }
    }

    /// Most memory that the worker ever had, in MiB.
    fn peak_mib(&self) -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.pids()[0])).expect("it lives");
        let peak = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).expect("a peak");
        peak.trim().trim_end_matches(" kB").trim().parse::<u64>().expect("a number") >> 10
    }
}

/// What one of them takes, as measured.
async fn one_mib() -> u64 {
    let world = sharing(&["a", "b"], 10_000, |_| json!({})).await;
    world.until_ready(&["a", "b"]).await;
    let mib = world.pool.load().await[0].models[0].memory >> 20;
    world.pool.shutdown().await;
    assert!((120..400).contains(&mib), "{mib}");
    mib
}

#[tokio::test]
async fn three_models_share_the_room_of_two_and_no_running_answer_is_cut() {
    let room = one_mib().await * 5 / 2;
    let world = sharing(&["a", "b", "c"], room, |_| json!({})).await;
    world.until_ready(&["a", "b"]).await;
    let began = Instant::now();
    assert_eq!(world.state("c").await, ModelState::Absent, "loaded without anybody asking, into room that is not there");

    // `a` is busy for a while, `b` is not.
    let mut long = world.ask_of(Some("a"), "Tell me all about the sea.", 900).await;
    first_text(&mut long).await;
    let long = tokio::spawn(read(long));
    let (_, ended) = read(world.ask_of(Some("c"), "hello", 4).await).await;
    assert_eq!(ended.outcome, Outcome::Ok, "{ended:?}");
    assert_eq!((world.state("a").await, world.state("c").await), (ModelState::Ready, ModelState::Ready), "the busy one went");

    // All at once, of all three.
    let mut asked = Vec::new();
    for n in 0..20 {
        asked.push(tokio::spawn(read(world.ask_of(Some(["b", "a", "c"][n % 3]), "hello", 4).await)));
    }
    for asked in asked {
        let (_, ended) = asked.await.expect("no panic");
        assert_eq!(ended.outcome, Outcome::Ok, "{ended:?}");
    }
    let (_, ended) = long.await.expect("no panic");
    assert_eq!(
        (ended.outcome, ended.stats.completion_tokens > 100),
        (Outcome::Ok, true),
        "If you are here because this failed: a model was taken away from a running answer. {ended:?}"
    );
    // Two at the start; then one at most for each residence, the first of which may have begun just before.
    let most = 2 + began.elapsed().as_secs() / RESIDENCE.as_secs() + 1;
    let loads = world.pool.load().await[0].totals.loads;
    assert!((4..=most).contains(&loads), "{loads} loads, at most {most}");
    let peak = world.peak_mib();
    assert!(peak <= room + 100, "{peak} MiB at the most, {room} were allowed, and some for the program itself");
    world.pool.shutdown().await;
}

#[tokio::test]
async fn what_is_pinned_stays_and_what_can_never_fit_is_said_so() {
    let room = one_mib().await * 3 / 2;
    let world = sharing(&["b", "pinned", "large"], room, |id| match id {
        "pinned" => json!({"pinned": true}),
        _ => json!({"context_length": 131_072}),
    })
    .await;
    world.until_ready(&["pinned"]).await;
    for id in ["b", "large"] {
        let (_, ended) = read(world.ask_of(Some(id), "hello", 4).await).await;
        assert!(matches!(ended.error, Some(Error::Unavailable { what: "model", .. })), "{id}: {ended:?}");
        eventually("the operator is told why", 5, || async {
            world.pool.describe().contains(&format!("{id} (cannot be loaded: the model needs"))
        })
        .await;
    }
    let (_, ended) = read(world.ask_of(Some("pinned"), "hello", 4).await).await;
    assert_eq!(ended.outcome, Outcome::Ok);
    world.pool.shutdown().await;
}

#[tokio::test]
async fn who_waits_for_a_model_and_leaves_is_forgotten() {
    let room = one_mib().await * 3 / 2;
    let world = sharing(&["a", "b"], room, |_| json!({})).await;
    world.until_ready(&["a"]).await;
    let waiting = world.ask_of(Some("b"), "hello", 4).await;
    eventually("it waits", 10, || async { world.pool.load().await[0].queued == 1 }).await;
    drop(waiting);
    eventually("it is forgotten", 5, || async { world.pool.load().await[0].queued == 0 }).await;
    tokio::time::sleep(RESIDENCE + Duration::from_secs(1)).await;
    assert_eq!(world.state("a").await, ModelState::Ready, "it went for somebody who is not there any more");
    assert_eq!(world.pool.load().await[0].totals.loads, 1);
    world.pool.shutdown().await;
}

/// A worker process with a model of this name alone.
fn alone(id: &str, lock_dir: &Path) -> WorkerProcess {
    let mut args: Vec<OsString> = ["worker", "--model-id", id, "--threads", "1", "--context-length", "1024"].map(OsString::from).into();
    args.extend(["--model".into(), model_file().into_os_string(), "--lock-dir".into(), lock_dir.into()]);
    WorkerProcess {
        name: format!("worker-{id}"),
        models: vec![id.to_owned()],
        program: PROGRAM.into(),
        args,
        env: vec![(SHORT_SPIN.0.into(), SHORT_SPIN.1.into())],
    }
}

#[tokio::test]
async fn processes_load_one_after_the_other() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("processor.lock");
    std::fs::write(&path, "a test").expect("written");
    let somebody = File::open(&path).expect("a file");
    somebody.lock().expect("nobody else has it");
    let world = offering(&["a", "b"]).await;
    for id in ["a", "b"] {
        world.pool.supervise(alone(id, folder.path()));
    }
    eventually("both say for whom they wait", 60, || async {
        let load = world.pool.load().await;
        let mut models = load.iter().flat_map(|worker| &worker.models);
        load.len() == 2
            && load.iter().all(|worker| worker.models.len() == 1)
            && models.all(|model| model.state == ModelState::Loading && model.problem.as_deref() == Some("it waits for a test"))
    })
    .await;
    assert!(world.pool.load().await.iter().all(|worker| worker.totals.loads == 0), "one loads while somebody else does");
    drop(somebody);
    eventually("both have loaded", 60, || async { world.ready() == 2 }).await;
    // Nobody loads any more, so nobody has it.
    File::open(&path).expect("a file").try_lock().expect("it was given back");
    let last = std::fs::read_to_string(&path).expect("text");
    assert!(last.ends_with("which loads a") || last.ends_with("which loads b"), "{last}");
    world.pool.shutdown().await;
}

#[tokio::test]
async fn a_file_that_cannot_be_loaded_is_said_so_costs_nothing_and_harms_no_other_model() {
    let folder = tempfile::tempdir().expect("a folder");
    let [half, page] = broken_files(folder.path());
    let world = sharing(&["whole", "half", "page"], 10_000, |id| json!({"path": if id == "half" { &half } else { &page }})).await;
    world.until_ready(&["whole"]).await;
    for (id, file, problem) in [("half", &half, "incomplete"), ("page", &page, "it is not a GGUF file")] {
        let (text, ended) = read(world.ask_of(Some(id), "hello", 4).await).await;
        assert!(text.is_empty(), "{id}: {text}");
        assert!(matches!(ended.error, Some(Error::Unavailable { what: "model", retry_after: Some(_) })), "{id}: {ended:?}");
        let told = format!("{id} (cannot be loaded: cannot load the model {}: ", file.display());
        eventually("the operator is told why", 5, || async {
            let described = world.pool.describe();
            described.split_once(&told).is_some_and(|(_, why)| why.contains(problem))
        })
        .await;
        let (_, ended) = read(world.ask_of(Some("whole"), "hello", 4).await).await;
        assert_eq!(ended.outcome, Outcome::Ok, "beside {id}: {ended:?}");
    }
    let rows = world.settled().await;
    let (whole, broken): (Vec<_>, Vec<_>) = rows.iter().partition(|row| row.model == "whole");
    assert_eq!((whole.len(), broken.len()), (2, 2), "one use, one event");
    assert!(broken.iter().all(|row| row.outcome.as_deref() == Some("failed")), "{broken:?}");
    assert_eq!(sum(broken), (0, 0, 0), "nothing was computed, nothing is charged");
    let totals = world.totals().await;
    assert_eq!(sum(whole), (totals.prompt_tokens, totals.cached_tokens, totals.completion_tokens));
    world.pool.shutdown().await;
}

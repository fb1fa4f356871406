//! Real workers that die, hang or run out of room: clear ends, unharmed neighbours, and a ledger that says what the
//! workers' own counters say.

#![expect(clippy::disallowed_methods, reason = "tests wait for their tasks themselves")]

use crate::world::{MODEL, broken_files, empty, eventually, model_file, offering, process, read, signal, sum, words, world};
use domain::Error;
use inference::{Generation, Outcome, Output};
use std::{fs, os::unix::fs::symlink, path::PathBuf, sync::Arc, time::Duration};
use testkit::ledger::LedgerRow;
use tokio::{
    sync::Semaphore,
    task::JoinSet,
    time::{Instant, sleep},
};

#[tokio::test]
async fn a_worker_killed_under_32_streams_loses_only_what_had_begun() {
    let world = world(1, &["--context-length", "1024", "--slots", "16"]).await;
    let mut streams = Vec::new();
    for n in 0..32 {
        let generation = world.ask(&format!("Write a long story about the number {n}."), 60).await;
        streams.push(tokio::spawn(read(generation)));
    }
    let half_way = || async { world.totals().await.completion_tokens > 200 };
    eventually("sixteen answers are being written", 60, half_way).await;
    let [pid] = world.pids()[..] else { panic!("one worker: {:?}", world.pids()) };
    signal(pid, "KILL");
    let (mut interrupted, mut finished) = (0, 0);
    for stream in streams {
        let (text, ended) = tokio::time::timeout(Duration::from_secs(120), stream).await.expect("an end").expect("no panic");
        match ended.outcome {
            Outcome::Ok => finished += 1,
            Outcome::Failed => {
                interrupted += 1;
                assert!(!text.is_empty() && ended.stats.completion_tokens > 0, "one without any text is tried again: {ended:?}");
                assert!(matches!(ended.error, Some(Error::Unavailable { what: "worker", retry_after: Some(_) })), "{ended:?}");
            }
            other => panic!("{other:?}"),
        }
    }
    assert!(interrupted > 0 && finished >= 8, "{interrupted} interrupted, {finished} finished");
    let rows = world.settled().await;
    assert_eq!(rows.len(), 32, "one use, one event");
    let finished: Vec<&LedgerRow> = rows.iter().filter(|row| row.outcome.as_deref() == Some("ok")).collect();
    // The new worker has counted those that it finished, and nothing else.
    let totals = world.totals().await;
    assert_eq!(sum(finished), (totals.prompt_tokens, totals.cached_tokens, totals.completion_tokens));
    world.pool.shutdown().await;
}

#[tokio::test]
async fn of_two_workers_one_killed_under_32_streams_takes_nothing_from_the_other() {
    let world = world(2, &["--context-length", "1024", "--slots", "16"]).await;
    let mut streams = Vec::new();
    for n in 0..32 {
        let mut generation = world.ask(&format!("Write a long story about the number {n}."), 60).await;
        streams.push(tokio::spawn(async move {
            let (_, ended) = testkit::generation::read(&mut generation).await;
            (generation.usage_id().0, generation.route().expect("somebody answered").served_by, ended)
        }));
    }
    let at_work = || async { world.pool.load().await.iter().all(|load| load.totals.completion_tokens > 100) };
    eventually("both are at work", 60, at_work).await;
    signal(world.pids()[0], "KILL");
    let mut all = Vec::new();
    for stream in streams {
        all.push(tokio::time::timeout(Duration::from_secs(120), stream).await.expect("an end").expect("no panic"));
    }
    let (fine, failed): (Vec<_>, Vec<_>) = all.into_iter().partition(|(.., ended)| ended.outcome == Outcome::Ok);
    let (_, killed, _) = failed.first().expect("what had begun there has failed");
    for (_, served_by, ended) in &failed {
        assert_eq!(served_by, killed, "If you are here because this failed: a worker's death ends answers of another one. {ended:?}");
        assert!(matches!(ended.error, Some(Error::Unavailable { what: "worker", retry_after: Some(_) })), "{ended:?}");
    }
    let survivors: Vec<_> = fine.iter().filter(|(_, served_by, _)| served_by != killed).map(|(usage, ..)| *usage).collect();
    assert!(survivors.len() >= 12, "it had half of them: {} of {}", survivors.len(), fine.len());

    let rows = world.settled().await;
    assert_eq!(rows.len(), 32, "one use, one event");
    assert_eq!(rows.iter().filter(|row| row.outcome.as_deref() == Some("ok")).count(), fine.len());
    let rows: Vec<&LedgerRow> = rows.iter().filter(|row| survivors.contains(&row.id)).collect();
    let load = world.pool.load().await;
    let totals = load.iter().find(|load| load.name != *killed).expect("the other one").totals;
    assert_eq!(
        sum(rows),
        (totals.prompt_tokens, totals.cached_tokens, totals.completion_tokens),
        "If you are here because this failed: what the other worker computed is not what is paid for."
    );
    world.pool.shutdown().await;
}

#[tokio::test]
async fn a_full_cache_delays_and_the_ledger_says_what_the_worker_counted() {
    // One conversation of full length fits, four want to run.
    let world = world(1, &["--context-length", "1024", "--slots", "4", "--cells", "1024"]).await;
    let mut streams = Vec::new();
    for n in 0..4 {
        streams.push(tokio::spawn(read(world.ask(&format!("Number {n}. {}Tell a story.", words(280)), 150).await)));
    }
    let mut gone = world.ask(&format!("{}Nobody waits for this.", words(600)), 20).await;
    loop {
        match gone.next().await.expect("more") {
            Output::Started { .. } => break,
            Output::End(ended) => panic!("{ended:?}"),
            _ => {}
        }
    }
    drop(gone);
    let too_long = read(world.ask(&words(3000), 5).await).await.1;
    assert!(matches!(too_long.error, Some(Error::Invalid { code: "context_length_exceeded", .. })), "{too_long:?}");
    for stream in streams {
        let (text, ended) = stream.await.expect("no panic");
        assert!(ended.outcome == Outcome::Ok && !text.is_empty(), "{ended:?}");
    }
    let rows = world.settled().await;
    let totals = world.totals().await;
    assert!(totals.pauses > 0, "the cache was never full: {totals:?}");
    assert_eq!(sum(&rows), (totals.prompt_tokens, totals.cached_tokens, totals.completion_tokens), "{rows:?}");
    world.pool.shutdown().await;
}

#[tokio::test]
async fn a_worker_that_hangs_for_90_seconds_is_worked_around() {
    let world = world(2, &["--context-length", "1024", "--slots", "4"]).await;
    let mut streams = Vec::new();
    for n in 0..8 {
        streams.push(tokio::spawn(read(world.ask(&format!("Write a very long story about the number {n}."), 200).await)));
    }
    eventually("both are at work", 30, || async { world.pool.load().await.iter().all(|load| load.totals.completion_tokens > 20) }).await;
    let hung = world.pids()[0];
    signal(hung, "STOP");
    let began = Instant::now();
    let (mut failed, mut fine) = (0, 0);
    for stream in streams {
        let (_, ended) = tokio::time::timeout(Duration::from_secs(60), stream).await.expect("an end").expect("no panic");
        match ended.outcome {
            Outcome::Ok => fine += 1,
            Outcome::Failed => failed += 1,
            other => panic!("{other:?}"),
        }
    }
    assert_eq!((failed, fine), (4, 4), "those of the other worker are unaffected");
    // For the rest of the 90 seconds everybody gets an answer from the other one.
    let mut answered = 0;
    while began.elapsed() < Duration::from_secs(90) {
        let asked = Instant::now();
        let (_, ended) = read(world.ask("Say hello.", 5).await).await;
        assert_eq!(ended.outcome, Outcome::Ok, "{ended:?}");
        assert!(asked.elapsed() < Duration::from_secs(15), "{:?}", asked.elapsed());
        answered += 1;
        sleep(Duration::from_secs(5)).await;
    }
    assert!(answered >= 8, "{answered}");
    signal(hung, "CONT");
    eventually("it is used again", 30, || async { world.ready() == 2 }).await;
    eventually("it has let go of what nobody reads", 30, || async { world.pool.load().await.iter().all(|load| load.busy == 0) }).await;
    let rows = world.settled().await;
    let (ledger, totals) = (sum(&rows), world.totals().await);
    assert_eq!((ledger.0, ledger.1), (totals.prompt_tokens, totals.cached_tokens));
    // What it produced while nobody could hear it is not charged: at most the step in which it was stopped.
    let unheard = totals.completion_tokens - ledger.2;
    assert!(unheard <= 4 * 2, "{unheard} tokens unheard");
    world.pool.shutdown().await;
}

#[tokio::test]
async fn a_thousand_cut_streams_are_counted_to_the_last_token() {
    let world = Arc::new(world(1, &["--context-length", "1024", "--slots", "16"]).await);
    let at_once = Arc::new(Semaphore::new(32));
    let mut cuts = JoinSet::new();
    for n in 0..1000_u64 {
        let (world, at_once) = (world.clone(), at_once.clone());
        cuts.spawn(async move {
            let _turn = at_once.acquire_owned().await.expect("open");
            let generation = world.ask(&format!("Write a long story about the number {}.", n % 7), 40).await;
            cut(generation, n).await
        });
    }
    let outcomes = tokio::time::timeout(Duration::from_secs(240), cuts.join_all()).await.expect("all ended");
    let rows = world.settled().await;
    let totals = world.totals().await;
    assert_eq!(rows.len(), 1000, "one use, one event");
    assert!(outcomes.iter().filter(|whole| **whole).count() < 300, "most were cut");
    let computed = rows.iter().filter(|row| row.completion_tokens > 0).count();
    assert!(computed > 300, "only {computed} had begun when they were cut");
    assert_eq!(
        sum(&rows),
        (totals.prompt_tokens, totals.cached_tokens, totals.completion_tokens),
        "If you are here because this failed: a worker computes what nobody pays for, or somebody pays for what was not computed."
    );
    world.pool.shutdown().await;
}

/// Cuts it at a moment that depends on its number: before anything came, in the queue, after some words; by Stop or by
/// leaving. Whether it came to its end before.
async fn cut(mut generation: Generation, n: u64) -> bool {
    // Weyl's sequence: spread evenly, the same each time.
    let random = n.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 32;
    let moment = async {
        for _ in 0..random % 16 {
            match generation.next().await {
                None | Some(Output::End(_)) => return true,
                Some(_) => {}
            }
        }
        sleep(Duration::from_millis(random % 40)).await;
        false
    };
    if moment.await {
        return true;
    }
    if n.is_multiple_of(2) {
        generation.cancel();
        return read(generation).await.1.outcome == Outcome::Ok;
    }
    false
}

#[tokio::test]
async fn workers_are_replaced_without_an_interruption() {
    let world = world(1, &["--context-length", "1024", "--slots", "4"]).await;
    let [old] = world.pids()[..] else { panic!("one worker: {:?}", world.pids()) };
    let long = tokio::spawn(read(world.ask("Write a very long story about the sea.", 300).await));
    eventually("it is at work", 30, || async { world.totals().await.completion_tokens > 5 }).await;
    let restarting = tokio::spawn({
        let pool = world.pool.clone();
        async move { pool.restart_workers().await }
    });
    // All the while somebody is answered.
    while !restarting.is_finished() {
        let (_, ended) = read(world.ask("Say hello.", 3).await).await;
        assert_eq!(ended.outcome, Outcome::Ok, "{ended:?}");
    }
    restarting.await.expect("no panic");
    let (_, ended) = read(world.ask("Say hello.", 3).await).await;
    assert_eq!(ended.outcome, Outcome::Ok);
    let (_, ended) = long.await.expect("no panic");
    assert_eq!((ended.outcome, ended.stats.completion_tokens), (Outcome::Ok, 300), "the old one was ended before its answers were");
    eventually("the old process ends", 20, || async { !world.pids().contains(&old) && world.pids().len() == 1 }).await;
    assert_eq!(world.ready(), 1);
    world.pool.shutdown().await;
    assert!(world.pids().is_empty());
}

#[tokio::test]
async fn a_worker_that_is_killed_comes_back_with_what_was_saved_last() {
    let folder = tempfile::tempdir().expect("a folder");
    let kept = folder.path().display().to_string();
    let world = world(1, &["--context-length", "1024", "--slots", "4", "--state-dir", &kept]).await;
    let question = format!("{}Say hello.", words(300));
    let (_, before) = read(world.ask(&question, 8).await).await;
    assert_eq!(before.outcome, Outcome::Ok, "{before:?}");
    // The first has time to save; the second has loaded that, and has saved nothing when it is killed.
    for kind in ["TERM", "KILL"] {
        let [old] = world.pids()[..] else { panic!("one worker: {:?}", world.pids()) };
        signal(old, kind);
        let anew = || async { matches!(world.pids()[..], [pid] if pid != old) && world.ready() == 1 };
        eventually("another one has taken its place", 60, anew).await;
        let (_, ended) = read(world.ask("Say hello.", 3).await).await;
        assert_eq!(ended.outcome, Outcome::Ok, "{ended:?}");
    }
    let (_, again) = read(world.ask(&question, 8).await).await;
    let (prompt, cached) = (again.stats.prompt_tokens, again.stats.cached_tokens);
    assert_eq!(
        (prompt, cached),
        (before.stats.prompt_tokens, prompt - 1),
        "If you are here because this failed: a worker that dies has forgotten everything, also what was on the disk."
    );
    world.pool.shutdown().await;
}

#[tokio::test]
async fn a_new_worker_whose_model_is_broken_does_not_take_the_place_of_the_old_one() {
    let folder = tempfile::tempdir().expect("a folder");
    let [half, page] = broken_files(folder.path());
    let file = folder.path().join("model.gguf");
    symlink(model_file(), &file).expect("linked");
    let world = empty().await;
    world.pool.supervise(process("worker-1", MODEL, &file, &["--context-length", "1024", "--slots", "4"]));
    eventually("it is ready", 60, || async { world.ready() == 1 }).await;
    let old = world.pids();
    let restart = async |to: PathBuf| {
        fs::remove_file(&file).expect("removed");
        symlink(to, &file).expect("linked");
        tokio::time::timeout(Duration::from_secs(60), world.pool.restart_workers()).await.expect("an end");
    };
    for broken in [half, page, folder.path().join("nowhere")] {
        restart(broken.clone()).await;
        assert_eq!(world.pids(), old, "{}: the old one stays, and it alone", broken.display());
        assert_eq!(world.ready(), 1);
        let (_, ended) = read(world.ask("Say hello.", 3).await).await;
        assert_eq!(ended.outcome, Outcome::Ok, "{}: {ended:?}", broken.display());
    }
    restart(model_file()).await;
    eventually("a new one has come", 20, || async { world.pids().len() == 1 && world.pids() != old }).await;
    let (_, ended) = read(world.ask("Say hello.", 3).await).await;
    assert_eq!(ended.outcome, Outcome::Ok, "{ended:?}");
    world.pool.shutdown().await;
}

#[tokio::test]
async fn a_worker_with_nothing_but_a_broken_model_is_given_up_and_costs_nothing() {
    let folder = tempfile::tempdir().expect("a folder");
    let world = offering(&[MODEL, "half", "page"]).await;
    world.pool.supervise(process("whole", MODEL, &model_file(), &["--context-length", "1024"]));
    for (id, file) in ["half", "page"].into_iter().zip(broken_files(folder.path())) {
        world.pool.supervise(process(id, id, &file, &["--context-length", "1024"]));
    }
    eventually("one is ready", 60, || async { world.ready() == 1 }).await;
    for id in ["half", "page"] {
        eventually("it is given up", 60, || async { world.pool.describe().contains(&format!("{id}: keeps failing")) }).await;
        let (text, ended) = read(world.ask_of(Some(id), "hello", 4).await).await;
        assert!(text.is_empty(), "{id}: {text}");
        assert!(matches!(ended.error, Some(Error::Unavailable { what: "model", retry_after: Some(_) })), "{id}: {ended:?}");
        let (_, ended) = read(world.ask_of(Some(MODEL), "hello", 4).await).await;
        assert_eq!(ended.outcome, Outcome::Ok, "beside {id}: {ended:?}");
    }
    let rows = world.settled().await;
    let (whole, broken): (Vec<&LedgerRow>, Vec<&LedgerRow>) = rows.iter().partition(|row| row.model == MODEL);
    assert_eq!((whole.len(), broken.len()), (2, 2), "one use, one event");
    assert!(broken.iter().all(|row| row.outcome.as_deref() == Some("failed")), "{broken:?}");
    assert_eq!(sum(broken), (0, 0, 0), "nothing was computed, nothing is charged");
    world.pool.shutdown().await;
}

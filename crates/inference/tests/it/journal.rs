//! The ledger's journal: nothing waits for the database, and nothing is lost with a process.

use crate::{
    money::{COST, answer, only, pico, short, sum_of_the_ledger, world},
    reconcile::compare,
    setup::{Setup, asker_of, eventually, first_text, read},
};
use domain::{Amount, Clock, Error, SystemClock, quota::Level};
use futures::future::join_all;
use inference::Inference;
use std::{
    fs,
    path::{Path, PathBuf},
    time::Duration,
};
use store::ledger_counts::Drift;
use tempfile::TempDir;
use testkit::{
    fake_worker::inference_with_journal,
    ledger::{execute_as_owner, hold_ledger, ledger},
    quotas::{amount, budget},
};
use time::OffsetDateTime;
use tokio::{runtime::Builder, sync::oneshot, time::timeout};

fn folder() -> TempDir {
    tempfile::tempdir().expect("a folder")
}

async fn rich() -> Setup {
    let s = world().await;
    budget(&s.db, s.actor.tenant(), Level::Tenant, None, "1", true).await;
    s
}

/// Uses that are settled with their figures.
async fn settled(s: &Setup) -> usize {
    ledger(&s.db).await.iter().filter(|row| row.state == "settled" && row.completion_tokens == 5).count()
}

fn bytes_left(folder: &Path) -> u64 {
    let sizes = fs::read_dir(folder).expect("the folder").map(|file| file.expect("a file").metadata().expect("its size").len());
    sizes.sum()
}

#[tokio::test]
async fn a_use_does_not_wait_for_the_database_and_is_in_the_ledger_soon_after() {
    let (s, folder) = (rich().await, folder());
    let node = inference_with_journal(s.db.db.clone(), &s.worker, folder.path());
    // Prices and a slice of the budget are known from here on.
    read(&mut node.admit(&s.actor, short()).await.expect("admitted")).await;
    eventually("the first is settled", || async { settled(&s).await == 1 }).await;
    let held = hold_ledger(&s.db).await;
    let asked = async {
        for _ in 0..5 {
            read(&mut node.admit(&s.actor, short()).await.expect("admitted")).await;
        }
    };
    timeout(Duration::from_secs(3), asked).await.expect("nobody waits for the database");
    assert_eq!(sum_of_the_ledger(&s.db).await, pico(amount(COST)), "the database has heard of the first alone");
    assert!(bytes_left(folder.path()) > 0);
    held.let_go().await;
    eventually("all are settled, though most were opened and settled by the same statement", || async { settled(&s).await == 6 }).await;
    node.drain().await;
    assert_eq!(bytes_left(folder.path()), 0);
    let state = only(&s.db, &s.actor).await;
    assert_eq!((state.spent, state.held), (amount(COST).times(6), Amount::ZERO));
    assert_eq!(pico(state.spent), sum_of_the_ledger(&s.db).await);
}

#[tokio::test]
async fn many_at_once_are_all_in_the_ledger_with_their_figures() {
    let (s, folder) = (rich().await, folder());
    let node = inference_with_journal(s.db.db.clone(), &s.worker, folder.path());
    let ask = || async { read(&mut node.admit(&s.actor, short()).await.expect("admitted")).await };
    join_all((0..200).map(|_| ask())).await;
    // Whoever drains does not spread what is left.
    eventually("all are settled", || async { settled(&s).await == 200 }).await;
    let statements = s.db.count_as_owner("SELECT count(DISTINCT xmin::text) AS value FROM usage_event").await;
    assert!((2..100).contains(&statements), "some together, but never all that wait: {statements} statements");
    node.drain().await;
    let rows = ledger(&s.db).await;
    assert_eq!(rows.len(), 200);
    assert!(rows.iter().all(|row| row.outcome.as_deref() == Some("ok") && row.completion_tokens == 5));
    let state = only(&s.db, &s.actor).await;
    assert_eq!((pico(state.spent), state.held), (sum_of_the_ledger(&s.db).await, Amount::ZERO));
}

/// What a folder's files hold.
fn lying_in(folder: &Path) -> Vec<(PathBuf, Vec<u8>)> {
    let files = fs::read_dir(folder).expect("the folder").map(|file| file.expect("a file").path());
    files.map(|path| (path.clone(), fs::read(path).expect("its lines"))).collect()
}

/// A process that settles one use and is in the midst of another when it is killed; the database heard of neither.
async fn killed(s: &Setup, folder: &Path) {
    let held = hold_ledger(&s.db).await;
    s.worker.script(answer());
    s.worker.script(answer().hangs_after(1));
    let (worker, db, actor) = (&s.worker, &s.db, s.actor.clone());
    let (done, ready) = oneshot::channel();
    std::thread::scope(|scope| {
        scope.spawn(|| {
            // All its tasks end where they are, as with a process.
            let process = Builder::new_multi_thread().worker_threads(1).enable_all().build().expect("a runtime");
            let journal = process.block_on(async {
                let node: Inference = inference_with_journal(db.connect().await, worker, folder);
                read(&mut node.admit(&actor, short()).await.expect("admitted")).await;
                let mut running = node.admit(&actor, short()).await.expect("admitted");
                first_text(&mut running).await;
                std::mem::forget(running);
                lying_in(folder)
            });
            process.shutdown_timeout(Duration::from_millis(100));
            // Tasks that end settle what they have in hand, for which a process that is killed has no time.
            for (path, lines) in journal {
                fs::write(path, lines).expect("the journal as it was");
            }
            let _ = done.send(());
        });
    });
    ready.await.expect("it was killed");
    // Postgres goes on with what it was told by a process that is gone.
    let told = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity
                WHERE datname = current_database() AND query LIKE 'INSERT INTO usage_event%' AND pid <> pg_backend_pid()";
    execute_as_owner(&s.db, told).await;
    held.let_go().await;
    assert_eq!(ledger(&s.db).await.len(), 0, "the database has heard of nothing");
    assert!(bytes_left(folder) > 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_killed_process_had_not_told_the_database_is_told_by_the_next_one() {
    let (s, folder) = (rich().await, folder());
    killed(&s, folder.path()).await;
    let next = inference_with_journal(s.db.db.clone(), &s.worker, folder.path());
    next.adopt_journals().await;
    next.adopt_journals().await;
    let rows = ledger(&s.db).await;
    let outcomes: Vec<_> = rows.iter().map(|row| (row.state.as_str(), row.completion_tokens)).collect();
    assert_eq!(outcomes, [("settled", 5), ("open", 0)]);
    assert_eq!(bytes_left(folder.path()), 0);
    assert_eq!(next.recover_quotas(Duration::ZERO).await.expect("recovered"), 1);
    let state = only(&s.db, &s.actor).await;
    assert_eq!(state.spent, amount(COST), "nothing is lost, nothing spent twice");
    assert!(state.held > Amount::ZERO, "what seems to run stays set aside until the sweeper has settled it");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn budgets_count_what_comes_out_of_a_journal_after_its_process_was_taken_for_dead() {
    let (s, folder) = (rich().await, folder());
    killed(&s, folder.path()).await;
    let next = inference_with_journal(s.db.db.clone(), &s.worker, folder.path());
    assert_eq!(next.recover_quotas(Duration::ZERO).await.expect("recovered"), 1);
    assert_eq!(only(&s.db, &s.actor).await.spent, Amount::ZERO, "the ledger does not know better yet");
    next.adopt_journals().await;
    let state = only(&s.db, &s.actor).await;
    assert_eq!((state.spent, pico(state.spent)), (amount(COST), sum_of_the_ledger(&s.db).await));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_comes_out_of_a_journal_is_no_drift() {
    let (s, folder) = (rich().await, folder());
    let today = OffsetDateTime::from_unix_timestamp(SystemClock.now() / 1000).expect("a time").date();
    killed(&s, folder.path()).await;
    let next = inference_with_journal(s.db.db.clone(), &s.worker, folder.path());
    next.adopt_journals().await;
    read(&mut next.admit(&s.actor, short()).await.expect("admitted")).await;
    next.drain().await;
    let all = compare(&s, today).await;
    assert_eq!((all.len(), Drift::of(&all)), (2, Drift::default()), "{all:?}");
    let dead = all.iter().find(|one| one.node != Some(next.node())).expect("what the dead one left");
    assert_eq!((dead.untold, dead.ledger.uses, dead.counted.uses, dead.running), (true, 1, 0, 1), "it told nothing of it");
    let own = all.iter().find(|one| one.node == Some(next.node())).expect("its own");
    assert_eq!((own.untold, own.counted), (false, own.ledger), "what it wrote for another is not its own");
}

#[tokio::test]
async fn nothing_is_computed_on_credit_while_the_ledger_cannot_be_written() {
    let (s, folder) = (rich().await, folder());
    let node = inference_with_journal(s.db.db.clone(), &s.worker, folder.path());
    read(&mut node.admit(&s.actor, short()).await.expect("admitted")).await;
    eventually("the first is settled", || async { settled(&s).await == 1 }).await;
    execute_as_owner(&s.db, "REVOKE INSERT ON usage_event FROM kontor_system").await;
    let refused = || async { matches!(node.admit(&s.actor, short()).await, Err(Error::Unavailable { .. })) };
    eventually("whoever comes is refused", refused).await;
    execute_as_owner(&s.db, "GRANT INSERT ON usage_event TO kontor_system").await;
    eventually("it goes on", || async { node.admit(&s.actor, short()).await.is_ok() }).await;
    node.drain().await;
    assert_eq!(bytes_left(folder.path()), 0, "what came in between is in the ledger, too");
    let state = only(&s.db, &s.actor).await;
    assert_eq!((pico(state.spent), state.held), (sum_of_the_ledger(&s.db).await, Amount::ZERO));
}

#[tokio::test]
async fn an_entry_that_can_never_be_written_is_set_aside_and_delays_no_other() {
    let (s, folder) = (rich().await, folder());
    let node = inference_with_journal(s.db.db.clone(), &s.worker, folder.path());
    let gone = asker_of(&s.db, "gone").await;
    read(&mut node.admit(&gone, short()).await.expect("admitted")).await;
    eventually("it is settled", || async { settled(&s).await == 1 }).await;
    let held = hold_ledger(&s.db).await;
    read(&mut node.admit(&gone, short()).await.expect("admitted")).await;
    read(&mut node.admit(&s.actor, short()).await.expect("admitted")).await;
    held.let_go_and(&format!("DELETE FROM tenant WHERE id = '{}'", gone.tenant())).await;
    eventually("the other's is settled", || async { settled(&s).await == 1 }).await;
    node.drain().await;
    let left: Vec<String> = fs::read_dir(folder.path()).expect("the folder").map(|file| name(&file.expect("a file").path())).collect();
    assert!(left.iter().any(|name| name.ends_with(".rejected")), "{left:?}");
    let rejected = left.iter().find(|name| name.ends_with(".rejected")).expect("it was set aside");
    let lines = fs::read_to_string(folder.path().join(rejected)).expect("its lines").lines().count();
    assert!(lines <= 2, "what it was and how it ended: {lines}");
}

fn name(path: &Path) -> String {
    path.file_name().expect("a name").to_string_lossy().into_owned()
}

#[tokio::test]
async fn figures_that_come_after_the_sweeper_gave_a_use_up_count() {
    let (s, folder) = (rich().await, folder());
    let node = inference_with_journal(s.db.db.clone(), &s.worker, folder.path());
    s.worker.script(answer().hangs_after(1));
    let mut running = node.admit(&s.actor, short()).await.expect("admitted");
    first_text(&mut running).await;
    eventually("it is open", || async { ledger(&s.db).await.len() == 1 }).await;
    assert_eq!(s.inference.sweep(0).await.expect("swept"), 1);
    assert_eq!(s.only_use().await.outcome.as_deref(), Some("swept"));
    running.cancel();
    read(&mut running).await;
    node.drain().await;
    let settled = s.only_use().await;
    assert_eq!((settled.outcome.as_deref(), settled.completion_tokens > 0), (Some("cancelled"), true), "{settled:?}");
    assert_eq!(pico(only(&s.db, &s.actor).await.spent), sum_of_the_ledger(&s.db).await);
}

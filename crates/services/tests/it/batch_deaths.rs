//! Batches whose workers, nodes or database go away.

use crate::{
    batches::{House, Stub, beside, ids},
    world::until,
};
use domain::Actor;
use futures::future::BoxFuture;
use serde_json::{Value, json};
use services::batches::{BatchStatus, Endpoint, LineAnswer, Lines};
use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};
use testkit::ledger::execute_as_owner;
use tokio::{
    sync::{Notify, watch},
    time::sleep,
};
use tokio_util::sync::CancellationToken;

/// Computes all lines on one worker: what kills it breaks everything that it computes at the time.
struct OneWorker {
    deaths: watch::Sender<usize>,
    /// Lines that it computes, now and at most.
    now: AtomicUsize,
    most: AtomicUsize,
}

impl OneWorker {
    fn new() -> Arc<Self> {
        Arc::new(Self { deaths: watch::Sender::new(0), now: AtomicUsize::new(0), most: AtomicUsize::new(0) })
    }
}

impl Lines for OneWorker {
    fn answer<'a>(&'a self, _: Actor, _: Endpoint, body: &'a str) -> BoxFuture<'a, LineAnswer> {
        Box::pin(async move {
            let body: Value = serde_json::from_str(body).expect("JSON");
            let mut deaths = self.deaths.subscribe();
            self.most.fetch_max(self.now.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
            let broke = if body["say"] == "kills" {
                sleep(Duration::from_millis(300)).await;
                self.deaths.send_modify(|deaths| *deaths += 1);
                true
            } else {
                tokio::select! {
                    _ = deaths.changed() => true,
                    () = sleep(Duration::from_millis(600)) => false,
                }
            };
            self.now.fetch_sub(1, Ordering::SeqCst);
            LineAnswer { status: if broke { 503 } else { 200 }, body: "{}".into(), retry_after: None, broke }
        })
    }
}

#[tokio::test]
async fn another_node_goes_on_where_one_died() {
    let house = House::build().await;
    let (dead, alive) = (Stub::new(true), Stub::new(false));
    let id = house.batch(&["one", "hang", "three"]).await;
    let first = house.world.another_node();
    let stop = CancellationToken::new();
    tokio::select! {
        () = first.batches.work(dead.clone(), 2, stop.clone()) => panic!("it works until it is told to stop"),
        () = until("a line hangs and the others are answered", || async {
            house.get(id).await.completed == 2 && dead.asked().len() == 3
        }) => {}
    }
    // As if the process had died: no sign of life, and nobody looks for batches there any more.
    execute_as_owner(&house.world.db, "UPDATE batch SET lease = gen_random_uuid(), heartbeat_at = now() - interval '1 minute'").await;
    let services = house.world.another_node();
    let batch = beside(&services, alive.clone(), house.over(id)).await;
    assert_eq!((batch.status, batch.completed, batch.failed), (BatchStatus::Completed, 3, 0));
    assert_eq!(alive.asked(), ["hang"], "If you are here because this failed: what was answered is computed, and paid for, again.");
    assert_eq!(dead.asked(), ["hang", "one", "three"]);
    assert_eq!(ids(&house.lines(batch.output).await), ["line-0", "line-1", "line-2"]);
    stop.cancel();
}

#[tokio::test]
async fn a_node_that_is_stopped_leaves_its_batches_to_the_next() {
    let house = House::build().await;
    let (first, second) = (Stub::new(true), Stub::new(false));
    let id = house.batch(&["one", "hang"]).await;
    let hanging = until("a line hangs", || async { house.get(id).await.completed == 1 && first.asked().len() == 2 });
    beside(&house.world.another_node(), first.clone(), hanging).await;
    let left = "SELECT count(*) AS value FROM batch WHERE lease IS NULL AND status = 'in_progress'";
    assert_eq!(house.world.db.count_as_owner(left).await, 1);
    let batch = beside(&house.world.another_node(), second.clone(), house.over(id)).await;
    assert_eq!((batch.status, second.asked()), (BatchStatus::Completed, vec!["hang".to_owned()]));
}

#[tokio::test]
async fn a_line_that_kills_whoever_computes_it_is_given_up_on_whichever_node() {
    let house = House::build().await;
    let (stub, services) = (Stub::new(false), house.world.services.clone());
    let id = house.batch(&["kills", "fine"]).await;
    let batch = beside(&services, stub.clone(), house.over_soon(id)).await;
    assert_eq!((batch.status, batch.completed, batch.failed), (BatchStatus::Completed, 1, 1));
    let kills = stub.asked().iter().filter(|said| *said == "kills").count();
    assert_eq!(kills, 3, "If you are here because this failed: a line that kills workers is tried, and paid for, again and again.");

    // Nodes may die over it as well, and then nobody hears an answer.
    let id = house.batch(&["hang"]).await;
    let nobody = CancellationToken::new();
    let dying = Stub::new(true);
    for died in 1..=3 {
        let node = house.world.another_node();
        tokio::select! {
            () = node.batches.work(dying.clone(), 2, nobody.clone()) => panic!("it works until it is told to stop"),
            () = until("it is asked", || async { dying.asked().len() == died }) => {}
        }
        let dead = "UPDATE batch SET lease = gen_random_uuid(), heartbeat_at = now() - interval '1 minute' WHERE ended_at IS NULL";
        execute_as_owner(&house.world.db, dead).await;
    }
    let batch = beside(&services, stub.clone(), house.over(id)).await;
    assert_eq!((batch.status, batch.failed, dying.asked().len()), (BatchStatus::Completed, 1, 3));
    assert!(!stub.asked().contains(&"hang".to_owned()));
    let failures = house.lines(batch.error).await;
    let told = &failures[0].1["response"];
    assert_eq!((&told["status_code"], &told["body"]["error"]["code"]), (&json!(500), &json!("model_interrupted")));
}

#[tokio::test]
async fn a_line_that_kills_workers_takes_no_other_along() {
    let house = House::build().await;
    let worker = OneWorker::new();
    let id = house.batch(&["kills", "fine", "fine"]).await;
    let batch = beside(&house.world.services, worker.clone(), house.over_soon(id)).await;
    assert_eq!(
        (batch.status, batch.completed, batch.failed),
        (BatchStatus::Completed, 2, 1),
        "If you are here because this failed: one line that kills workers ends innocent lines of others as well."
    );
    assert_eq!(ids(&house.lines(batch.error).await), ["line-0"]);
    assert_eq!(*worker.deaths.borrow(), 3);
}

#[tokio::test]
async fn the_last_try_of_a_line_is_nobody_elses_fault() {
    let house = House::build().await;
    let worker = OneWorker::new();
    let id = house.batch(&["fine", "kills"]).await;
    // As if two lines that kill workers had taken the first one along, and a third one comes now, which nobody suspects yet.
    let taken_along = r#"
        INSERT INTO batch_line (tenant_id, batch_id, number, custom_id, body, breaks)
        SELECT tenant_id, id, number, custom_id, body, breaks FROM batch,
          (VALUES (1, 'line-0', '{"say": "fine"}', 2), (2, 'line-1', '{"say": "kills"}', 0)) AS line (number, custom_id, body, breaks);
        UPDATE batch SET status = 'in_progress', in_progress_at = now(), total = 2"#;
    execute_as_owner(&house.world.db, taken_along).await;
    let batch = beside(&house.world.services, worker.clone(), house.over_soon(id)).await;
    assert_eq!(
        (batch.status, batch.completed, batch.failed),
        (BatchStatus::Completed, 1, 1),
        "If you are here because this failed: lines that kill workers end an innocent one that each of them took along once."
    );
    assert_eq!(ids(&house.lines(batch.error).await), ["line-1"]);
}

#[tokio::test]
async fn what_ran_when_a_node_died_is_asked_one_after_the_other() {
    let house = House::build().await;
    let (dead, worker) = (Stub::new(true), OneWorker::new());
    let id = house.batch(&["hang", "hang"]).await;
    let first = house.world.another_node();
    tokio::select! {
        () = first.batches.work(dead.clone(), 2, CancellationToken::new()) => panic!("it works until it is told to stop"),
        () = until("both run", || async { dead.asked().len() == 2 }) => {}
    }
    execute_as_owner(&house.world.db, "UPDATE batch SET lease = gen_random_uuid(), heartbeat_at = now() - interval '1 minute'").await;
    let batch = beside(&house.world.another_node(), worker.clone(), house.over(id)).await;
    assert_eq!((batch.status, batch.completed), (BatchStatus::Completed, 2));
    let most = worker.most.load(Ordering::SeqCst);
    assert_eq!(most, 1, "If you are here because this failed: a line that kills nodes takes the same ones along again and again.");
}

#[tokio::test]
async fn a_database_that_is_away_is_no_death() {
    let house = House::build().await;
    let (first, second) = (Stub::new(true), Stub::new(false));
    let id = house.batch(&["hang", "fine"]).await;
    // No end can be stored; what runs then is given up.
    execute_as_owner(&house.world.db, "ALTER TABLE batch_line ADD CONSTRAINT away CHECK (status IS NULL)").await;
    let left = "SELECT count(*) AS value FROM batch WHERE lease IS NULL AND waits_until > now() AND in_progress_at IS NOT NULL";
    let given_back = until("it is given back", || async { house.world.db.count_as_owner(left).await == 1 });
    beside(&house.world.another_node(), first.clone(), given_back).await;
    let died = "SELECT count(*) AS value FROM batch_line WHERE asked OR breaks > 0";
    assert_eq!(first.asked(), ["fine", "hang"]);
    assert_eq!(
        house.world.db.count_as_owner(died).await,
        0,
        "If you are here because this failed: a database that is away for a while ends the lines that run."
    );
    execute_as_owner(&house.world.db, "ALTER TABLE batch_line DROP CONSTRAINT away; UPDATE batch SET waits_until = now()").await;
    let batch = beside(&house.world.another_node(), second.clone(), house.over(id)).await;
    assert_eq!((batch.status, batch.completed, second.asked()), (BatchStatus::Completed, 2, vec!["fine".to_owned(), "hang".to_owned()]));
}

#[tokio::test]
async fn a_node_that_is_stopped_while_the_database_is_away_leaves_its_batches_as_well() {
    let house = House::build().await;
    let (stub, away) = (Stub::new(true), Notify::new());
    house.batch(&["hang"]).await;
    let stopped = async {
        until("it hangs", || async { stub.asked().len() == 1 }).await;
        execute_as_owner(&house.world.db, "ALTER TABLE batch ADD CONSTRAINT away CHECK (lease IS NOT NULL)").await;
        away.notify_one();
    };
    let back = async {
        away.notified().await;
        sleep(Duration::from_secs(1)).await;
        execute_as_owner(&house.world.db, "ALTER TABLE batch DROP CONSTRAINT away").await;
    };
    let node = house.world.another_node();
    tokio::join!(beside(&node, stub.clone(), stopped), back);
    let left = "SELECT count(*) AS value FROM batch WHERE lease IS NULL AND waits_until IS NULL AND status = 'in_progress'";
    assert_eq!(house.world.db.count_as_owner(left).await, 1);
}

#[tokio::test]
async fn files_that_a_dead_node_was_writing_go_when_the_next_one_writes_them() {
    let house = House::build().await;
    let id = house.batch(&["fine", "wrong"]).await;
    // As if a node had died over the first piece of the first one.
    let left = "INSERT INTO file (tenant_id, id, account_id, filename, bytes, created_at, batch_id)
                SELECT tenant_id, gen_random_uuid(), account_id, 'left', 1000000, now(), id FROM batch";
    execute_as_owner(&house.world.db, left).await;
    let batch = beside(&house.world.services, Stub::new(false), house.over(id)).await;
    assert_eq!((batch.completed, batch.failed), (1, 1));
    let unfinished = "SELECT count(*) AS value FROM file WHERE sha256 IS NULL";
    assert_eq!(house.world.db.count_as_owner(unfinished).await, 0);
    let counted = "SELECT bytes - (SELECT sum(bytes) FROM file)::bigint AS value FROM file_total";
    assert_eq!(
        house.world.db.count_as_owner(counted).await,
        0,
        "If you are here because this failed: what a dead node wrote takes an organisation's room for a day."
    );
    assert_eq!(ids(&house.lines(batch.output).await), ["line-0"]);
}

#[tokio::test]
async fn lines_that_a_dead_node_left_behind_an_end_are_purged() {
    let house = House::build().await;
    let services = house.world.services.clone();
    let id = house.batch(&["fine"]).await;
    beside(&services, Stub::new(false), house.over(id)).await;
    let left = "INSERT INTO batch_line (tenant_id, batch_id, number, custom_id, body) SELECT tenant_id, id, 1, 'a', '{}' FROM batch";
    execute_as_owner(&house.world.db, left).await;
    let lines = "SELECT count(*) AS value FROM batch_line";
    tokio::select! {
        () = services.run_jobs(CancellationToken::new()) => panic!("it works until it is told to stop"),
        () = until("they are purged", || async { house.world.db.count_as_owner(lines).await == 0 }) => {}
    }
}

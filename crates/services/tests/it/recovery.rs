//! Turns of processes that died, and purges.

use crate::world::{World, end, follow, until};
use contract::chat::MessageStatus;
use std::time::Duration;
use testkit::{fake_worker::Script, ledger::execute_as_owner};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

#[tokio::test]
async fn a_turn_of_a_dead_node_is_interrupted_with_its_text() {
    let world = World::new().await;
    world.worker.script(Script::answer("kept until the crash, and more").delay(Duration::from_millis(30)).hangs_after(3));
    let started = world.ask("Crash?").await;
    until("the events are stored", || async {
        world.db.count_as_owner("SELECT count(*) AS value FROM turn_event WHERE payload->>'type' = 'text'").await >= 2
    })
    .await;
    // As if the process had died before it kept the text in the message: no sign of life, another node in charge.
    let sql = "UPDATE turn SET node = gen_random_uuid(), heartbeat_at = now() - interval '20 seconds'; UPDATE message SET content = '' WHERE role = 'assistant'";
    execute_as_owner(&world.db, sql).await;

    let stop = CancellationToken::new();
    let tracker = TaskTracker::new();
    let (survivor, token) = (world.another_node(), stop.clone());
    tracker.spawn(async move { survivor.run_jobs(token).await });
    let events = follow(&world.another_node(), &world.actor, started.turn, 0).await;
    assert_eq!(end(&events), (MessageStatus::Interrupted, Some("server_restarted".into())));
    let answer = world.message(started.conversation, started.answer.id).await;
    assert_eq!((answer.status, answer.error.as_deref()), (MessageStatus::Interrupted, Some("server_restarted")));
    assert!(answer.content.starts_with("kept until"), "{}", answer.content);
    // The old process notices that the turn is not its own any more and lets go.
    until("the slot is free", || async { world.worker.running() == 0 }).await;
    let resumed = world.services.turns.resume(&world.actor, answer.id).await.expect("it goes on");
    assert_eq!(world.wait(&resumed).await.status, MessageStatus::Complete);
    stop.cancel();
    tracker.close();
    tracker.wait().await;
}

#[tokio::test]
async fn what_is_past_its_time_is_purged() {
    let world = World::new().await;
    let (kept, _) = world.ask_and_wait("kept").await;
    let (gone, _) = world.ask_and_wait("gone").await;
    world.services.chats.delete(&world.actor, gone.conversation).await.expect("deleted");
    let sql = "UPDATE conversation SET deleted_at = deleted_at - interval '31 days' WHERE deleted_at IS NOT NULL; UPDATE turn SET ended_at = ended_at - interval '2 hours'";
    execute_as_owner(&world.db, sql).await;
    let stop = CancellationToken::new();
    let jobs = world.services.run_jobs(stop.clone());
    let check = async {
        until("the purge", || async { world.db.count_as_owner("SELECT count(*) AS value FROM turn_event").await == 0 }).await;
        until("the purge", || async { world.db.count_as_owner("SELECT count(*) AS value FROM conversation").await == 1 }).await;
        stop.cancel();
    };
    tokio::join!(jobs, check);
    assert!(world.services.chats.view(&world.actor, kept.conversation).await.is_ok());
    assert_eq!(world.db.count_as_owner("SELECT count(*) AS value FROM message").await, 2);
}

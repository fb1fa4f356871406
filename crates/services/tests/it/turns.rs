//! The making of answers: events, stop, interruption, continuation, shutdown.

use crate::world::{World, apply, end, follow, question, text, until};
use contract::chat::{MessageStatus, NewAttachment, StartTurn, TurnEvent};
use domain::{Error, Quota, secret::Secret};
use futures::future::join_all;
use services::Services;
use std::time::{Duration, Instant};
use testkit::fake_worker::Script;
use worker_protocol::{ChatRole, FailCode};

const ANSWER: &str = "Größe ist relativ. 🙂 One two three four five six seven eight nine ten.";

#[tokio::test]
async fn an_answer_is_streamed_stored_and_titled() {
    let world = World::new().await;
    world.worker.script(Script::answer(ANSWER).queued(&[1, 0]).delay(Duration::from_millis(20)));
    world.worker.script(Script::answer("\"A fine title.\""));
    let started = world.ask("How big is it?").await;
    assert_eq!(started.question.content, "How big is it?");
    assert_eq!(started.answer.status, MessageStatus::Running);
    assert_eq!(started.answer.parent, Some(started.question.id));

    let events = world.follow(started.turn).await;
    assert_eq!(text(&events), ANSWER);
    assert_eq!(end(&events), (MessageStatus::Complete, None));
    let numbers: Vec<i32> = events.iter().map(|(seq, _)| *seq).collect();
    let expected: Vec<i32> = (1..).take(events.len()).collect();
    assert_eq!(numbers, expected);
    assert!(events.iter().any(|(_, event)| matches!(event, TurnEvent::Queued { .. })));
    assert!(events.iter().any(|(_, event)| *event == TurnEvent::Title { title: "A fine title".into() }));

    let view = world.services.chats.view(&world.actor, started.conversation).await.expect("view");
    assert_eq!(view.conversation.title, "A fine title");
    assert_eq!(view.running, None);
    let answer = &view.messages.messages[1];
    assert_eq!((answer.content.as_str(), answer.status), (ANSWER, MessageStatus::Complete));
    let stats = answer.stats.as_ref().expect("stats");
    assert_eq!((stats.prompt_tokens, stats.cached_tokens, stats.finish_reason.as_str()), (12, 4, "stop"));
}

#[tokio::test]
async fn events_resume_from_any_number_with_the_same_text() {
    let world = World::new().await;
    world.worker.script(Script::answer(ANSWER).delay(Duration::from_millis(100)));
    let started = world.ask("Resume?").await;
    let whole = world.follow(started.turn).await;
    assert!(whole.len() > 5, "the answer came in pieces: {}", whole.len());
    let other_node = world.another_node();
    for cut in 0..whole.len() {
        let before = apply(String::new(), &whole[..cut]);
        let after = i32::try_from(cut).expect("small");
        for services in [&world.services, &other_node] {
            let rest = follow(services, &world.actor, started.turn, after).await;
            assert_eq!(
                apply(before.clone(), &rest),
                ANSWER,
                "If you are here because this failed: a reload in mid-stream shows another text (after {cut})."
            );
        }
    }
    // Once the events are purged, the message says the same.
    testkit::ledger::execute_as_owner(&world.db, "DELETE FROM turn_event; UPDATE turn SET ended_at = now() - interval '2 hours'").await;
    let late = follow(&world.services, &world.actor, started.turn, 3).await;
    assert_eq!(apply(text(&whole[..3]), &late), ANSWER);
    assert_eq!(end(&late).0, MessageStatus::Complete);
}

#[tokio::test]
async fn a_long_answer_is_replayed_without_pauses() {
    let world = World::new().await;
    let (started, _) = world.ask_and_wait("Long?").await;
    let sql = "DELETE FROM turn_event;
        INSERT INTO turn_event (tenant_id, turn_id, seq, payload)
        SELECT t.tenant_id, t.id, n, CASE WHEN n < 1800 THEN jsonb_build_object('type', 'text', 'at', (n - 1) * 2, 'text', 'ab')
                                          ELSE '{\"type\": \"end\", \"status\": \"complete\", \"error\": null, \"stats\": null}' END
        FROM turn t, generate_series(1, 1800) AS n";
    testkit::ledger::execute_as_owner(&world.db, sql).await;
    let begun = Instant::now();
    let events = follow(&world.another_node(), &world.actor, started.turn, 0).await;
    assert_eq!((events.len(), text(&events)), (1800, "ab".repeat(1799)));
    assert!(begun.elapsed() < Duration::from_secs(3), "took {:?}", begun.elapsed());
}

#[tokio::test]
async fn several_follow_a_running_turn_on_any_node() {
    let world = World::new().await;
    world.worker.script(Script::answer(ANSWER).delay(Duration::from_millis(40)));
    let started = world.ask("Together?").await;
    let other_node = world.another_node();
    let (first, second, third) =
        tokio::join!(follow(&world.services, &world.actor, started.turn, 0), follow(&other_node, &world.actor, started.turn, 0), async {
            tokio::time::sleep(Duration::from_millis(200)).await;
            follow(&other_node, &world.actor, started.turn, 0).await
        },);
    assert_eq!(text(&first), ANSWER);
    assert_eq!(first, second);
    assert_eq!(first, third);
}

/// How long it takes from Stop at this node until the worker is free.
async fn stop_from(world: &World, node: &Services) -> Duration {
    world.worker.script(Script::answer(ANSWER).hangs_after(3));
    let started = world.ask("Stop?").await;
    until("some text", || async { !world.message(started.conversation, started.answer.id).await.content.is_empty() }).await;
    let cancelled = world.worker.cancelled().len();
    let asked = Instant::now();
    node.turns.stop(&world.actor, started.turn).await.expect("stopped");
    until("the slot is free", || async { world.worker.cancelled().len() > cancelled }).await;
    let took = world.worker.cancelled()[cancelled].duration_since(asked);
    let answer = world.wait(&started).await;
    assert_eq!((answer.content.as_str(), answer.status), ("Größe ist relativ. ", MessageStatus::Stopped));
    node.turns.stop(&world.actor, started.turn).await.expect("stopping twice does no harm");
    took
}

#[tokio::test]
async fn stop_keeps_the_text_and_frees_the_slot_from_any_node() {
    let world = World::new().await;
    for node in [world.services.clone(), world.another_node()] {
        let mut quickest = Duration::MAX;
        // What else runs on the machine makes some slower.
        for _ in 0..3 {
            quickest = quickest.min(stop_from(&world, &node).await);
        }
        assert!(
            quickest < Duration::from_millis(500),
            "If you are here because this failed: Stop must free the slot within 500 ms, not {quickest:?}."
        );
    }
    let outcomes: Vec<_> = testkit::ledger::ledger(&world.db).await.into_iter().filter_map(|row| row.outcome).collect();
    assert_eq!(outcomes, ["cancelled"; 6]);
}

#[tokio::test]
async fn an_interrupted_answer_goes_on_in_the_same_message() {
    let world = World::new().await;
    world.worker.script(Script::answer(ANSWER).fails_after(4, FailCode::Engine));
    let (started, broken) = world.ask_and_wait("Break?").await;
    assert_eq!((broken.status, broken.error.as_deref()), (MessageStatus::Interrupted, Some("worker_unavailable")));
    assert_eq!(broken.content, "Größe ist relativ. 🙂 ");

    world.worker.script(Script::answer("and so on.").prompt(20, 15));
    let resumed = world.services.turns.resume(&world.actor, broken.id).await.expect("a turn");
    assert_eq!(resumed.answer.content, broken.content);
    let events = world.follow(resumed.turn).await;
    assert_eq!(apply(broken.content.clone(), &events), "Größe ist relativ. 🙂 and so on.");
    let whole = world.message(started.conversation, broken.id).await;
    assert_eq!((whole.content.as_str(), whole.status), ("Größe ist relativ. 🙂 and so on.", MessageStatus::Complete));
    assert_eq!(whole.stats.expect("stats").prompt_tokens, 12 + 20, "the figures of both parts add up");
    let asked = world.worker.requests();
    let request = &asked[1];
    assert!(request.continue_last);
    assert_eq!(
        request.messages.last().map(|last| (last.role, last.content.as_str())),
        Some((ChatRole::Assistant, "Größe ist relativ. 🙂 "))
    );
    assert!(matches!(world.services.turns.resume(&world.actor, broken.id).await, Err(Error::Conflict { code: "answer_complete", .. })));
}

#[tokio::test]
async fn an_answer_that_reached_its_length_can_go_on() {
    let world = World::new().await;
    world.worker.script(Script::answer("Once upon ").ends_by_length());
    let (_, answer) = world.ask_and_wait("Tell.").await;
    assert_eq!(answer.status, MessageStatus::Complete);
    world.worker.script(Script::answer("a time."));
    let resumed = world.services.turns.resume(&world.actor, answer.id).await.expect("a turn");
    assert_eq!(world.wait(&resumed).await.content, "Once upon a time.");
}

#[tokio::test]
async fn one_turn_at_a_time_in_a_conversation() {
    let world = World::new().await;
    world.worker.script(Script::answer(ANSWER).hangs_after(2));
    let started = world.ask("First?").await;
    let second = world.services.turns.start(&world.actor, question(Some(started.conversation), None, "Second?")).await;
    assert!(matches!(second, Err(Error::Conflict { code: "turn_running", .. })), "{second:?}");
    let again = world.services.turns.regenerate(&world.actor, started.answer.id).await;
    assert!(matches!(again, Err(Error::Conflict { code: "turn_running", .. })), "{again:?}");
    world.services.turns.stop(&world.actor, started.turn).await.expect("stopped");
    world.wait(&started).await;
    let view = world.services.chats.view(&world.actor, started.conversation).await.expect("view");
    assert_eq!(view.messages.messages.len(), 2, "what was refused left nothing behind");
}

#[tokio::test]
async fn answers_of_one_person_do_not_pile_up_without_end() {
    let world = World::new().await;
    world.worker.otherwise(Script::answer(ANSWER).hangs_after(1));
    // All at once: none may slip through between looking for room and taking it.
    let asked = join_all((0..60).map(|n| world.services.turns.start(&world.actor, question(None, None, &format!("Question {n}?"))))).await;
    let (started, refused): (Vec<_>, Vec<_>) = asked.into_iter().partition(Result::is_ok);
    assert_eq!((started.len(), refused.len()), (50, 10));
    for refused in refused {
        assert!(matches!(refused, Err(Error::QuotaExceeded { quota: Quota::Places(50), retry_after_ms: Some(_), .. })), "{refused:?}");
    }
    for table in ["turn", "conversation"] {
        let rows = world.db.count_as_owner(&format!("SELECT count(*) AS value FROM {table}")).await;
        assert_eq!(rows, 50, "what was refused left nothing behind: {table}");
    }
    let started = started.into_iter().next().expect("one").expect("started");
    let again = || async { world.services.turns.regenerate(&world.actor, started.answer.id).await };
    assert!(matches!(again().await, Err(Error::QuotaExceeded { .. })), "another answer is one, too");
    world.services.turns.stop(&world.actor, started.turn).await.expect("stopped");
    until("one that has ended makes room", || async { again().await.is_ok() }).await;
}

#[tokio::test]
async fn the_prompt_has_instructions_history_and_attachments() {
    let world = World::new().await;
    let mut profile = world.services.account.me(&world.actor).await.expect("me").profile;
    profile.instructions = "Answer briefly.".into();
    world.services.account.change_profile(&world.actor, profile).await.expect("changed");
    let (first, answer) = world.ask_and_wait("One?").await;
    let attachments = vec![NewAttachment { name: "a.txt".into(), content: "alpha".into() }];
    let input = StartTurn { attachments, ..question(Some(first.conversation), Some(answer.id), "Two?") };
    let second = world.services.turns.start(&world.actor, input).await.expect("a turn");
    world.wait(&second).await;
    assert_eq!(second.question.attachments.len(), 1);
    let read = world.services.chats.attachment(&world.actor, second.question.attachments[0].id).await.expect("attachment");
    assert_eq!((read.name.as_str(), read.content.as_str()), ("a.txt", "alpha"));

    let asked = world.worker.requests();
    assert_eq!(asked.last().expect("asked").pinned_messages, 1, "the instructions are kept computed");
    let prompt: Vec<(ChatRole, &str)> = asked.last().expect("asked").messages.iter().map(|one| (one.role, one.content.as_str())).collect();
    assert_eq!(
        prompt,
        [
            (ChatRole::System, "Answer briefly."),
            (ChatRole::User, "One?"),
            (ChatRole::Assistant, answer.content.as_str()),
            (ChatRole::User, "File a.txt:\n```\nalpha\n```\n\nTwo?"),
        ]
    );
}

#[tokio::test]
async fn shutdown_interrupts_and_keeps_the_text() {
    let world = World::new().await;
    world.worker.script(Script::answer(ANSWER).hangs_after(3));
    let started = world.ask("Shutdown?").await;
    until("some text", || async { !world.message(started.conversation, started.answer.id).await.content.is_empty() }).await;
    tokio::time::timeout(Duration::from_secs(10), world.services.drain()).await.expect("drained in time");
    let answer = world.message(started.conversation, started.answer.id).await;
    assert_eq!((answer.status, answer.error.as_deref()), (MessageStatus::Interrupted, Some("server_restarted")));
    assert_eq!(answer.content, "Größe ist relativ. ");
    let refused = world.services.turns.start(&world.actor, question(None, None, "Too late?")).await;
    assert!(matches!(refused, Err(Error::Unavailable { .. })));
    assert_eq!(world.db.count_as_owner("SELECT count(*) AS value FROM usage_event WHERE state = 'open'").await, 0);
}

#[tokio::test]
async fn thirty_chats_at_once_come_to_their_ends() {
    let world = World::new().await;
    world.worker.otherwise(Script::answer(ANSWER).delay(Duration::from_millis(10)));
    let asked =
        futures::future::join_all((0..30).map(|n| async move { n }).map(|n| async { world.ask(&format!("Question {}", n.await)).await }))
            .await;
    let answers = futures::future::join_all(asked.iter().map(|started| world.wait(started))).await;
    assert!(answers.iter().all(|answer| answer.content == ANSWER && answer.status == MessageStatus::Complete));
}

#[tokio::test]
async fn bad_questions_are_refused() {
    let world = World::new().await;
    let empty = world.services.turns.start(&world.actor, question(None, None, "  ")).await;
    assert!(matches!(empty, Err(Error::Invalid { field: Some("content"), code: "required", .. })));
    let (started, answer) = world.ask_and_wait("Fine.").await;
    let below_question = question(Some(started.conversation), Some(started.question.id), "x");
    let refused = world.services.turns.start(&world.actor, below_question).await;
    assert!(matches!(refused, Err(Error::Invalid { field: Some("parent"), .. })));
    let orphan = world.services.turns.start(&world.actor, question(None, Some(answer.id), "x")).await;
    assert!(matches!(orphan, Err(Error::NotFound { .. })));
    // A secret is no part of this; it only proves that the account's rules are elsewhere.
    assert!(world.services.account.delete(&world.actor, Secret::new("wrong")).await.is_err());
}

//! Responses to programs: kept or not, followed, gone on from, cancelled, recovered.

use crate::world::{World, until};
use contract::{ids::ResponseId, model::Sampling};
use domain::{Actor, Error, Quota};
use futures::{StreamExt, future::join_all};
use inference::{ChatRole, Options};
use serde_json::json;
use services::{
    Services,
    responses::{Asked, CreateResponse, InputItem, Item, ItemName, Response, ResponseEvent, ResponseEvents, ResponseStatus, Role},
};
use std::{collections::BTreeMap, time::Duration};
use testkit::{
    fake_worker::{FAKE_MODEL, Script},
    ledger::{execute_as_owner, ledger},
};
use tokio::time::timeout;
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use worker_protocol::FailCode;

const ANSWER: &str = "Größe ist relativ. One two three four five six seven eight nine ten.";
const PATIENCE: Duration = Duration::from_secs(30);

fn ask(text: &str) -> CreateResponse {
    CreateResponse {
        model: FAKE_MODEL.into(),
        instructions: None,
        input: vec![Asked::Item(InputItem { id: None, item: Item::says(Role::User, vec![text.into()]) })],
        previous: None,
        sampling: Sampling::default(),
        options: Options::default(),
        metadata: BTreeMap::new(),
        echo: json!({ "store": true }),
        store: true,
        background: false,
    }
}

/// What a response said in all.
fn text(response: &Response) -> String {
    let text = |item: &Item| match item {
        Item::Message { texts, .. } => texts.concat(),
        _ => String::new(),
    };
    response.output.iter().map(text).collect()
}

async fn read(events: ResponseEvents) -> Vec<ResponseEvent> {
    timeout(PATIENCE, events.collect()).await.expect("the response ends in time")
}

/// All events, followed anew.
async fn follow(services: &Services, actor: &Actor, id: ResponseId) -> Vec<ResponseEvent> {
    read(services.responses.events(actor, id).await.expect("the response").1).await
}

async fn ended(services: &Services, actor: &Actor, id: ResponseId) -> Response {
    follow(services, actor, id).await;
    services.responses.get(actor, id).await.expect("the response")
}

/// Waits until the events of a response hold all of this text.
async fn until_said(world: &World, text: &str) {
    until("the text is stored", || async { world.db.responses_that_said(text).await > 0 }).await;
}

#[tokio::test]
async fn a_stored_stream_is_the_same_for_everybody_everywhere_and_later() {
    let world = World::new().await;
    let program = testkit::program(&world.db, &world.tenant).await;
    world.worker.script(Script::answer(ANSWER).thinks("hm hm").calls("f", "{}").delay(Duration::from_millis(20)));
    let (made, events) = world.services.responses.stream(&program, ask("How big?")).await.expect("a response");
    assert_eq!(made.response.status, ResponseStatus::InProgress);
    let other_node = world.another_node();
    let (own, theirs) = tokio::join!(read(events), follow(&other_node, &program, made.response.id));
    assert_eq!(own, theirs);
    assert!(own.len() > 5, "it came in pieces: {own:?}");
    let stored = other_node.responses.get(&program, made.response.id).await.expect("the response");
    let ResponseEvent::End(end) = own.last().expect("an end") else { panic!("{own:?}") };
    assert_eq!((stored.status, stored.stats.as_ref(), stored.ended_at), (ResponseStatus::Completed, end.stats.as_ref(), Some(end.at)));
    assert_eq!((stored.output.len(), text(&stored).as_str()), (3, ANSWER));
    let mut items = Vec::new();
    own.iter().for_each(|event| event.add_to(&mut items));
    assert_eq!(items, stored.output);
    // Once the events are purged, the response says the same.
    execute_as_owner(&world.db, "DELETE FROM response_event").await;
    let mut late = Vec::new();
    follow(&other_node, &program, made.response.id).await.iter().for_each(|event| event.add_to(&mut late));
    assert_eq!(late, items);
    assert_eq!(ledger(&world.db).await[0].id, made.response.id.0, "the response and its use have one number");
}

#[tokio::test]
async fn a_response_in_one_piece_is_written_once() {
    let world = World::new().await;
    let program = testkit::program(&world.db, &world.tenant).await;
    world.worker.script(Script::answer("Once upon ").ends_by_length());
    let made = world.services.responses.create(&program, ask("Tell.")).await.expect("a response").response;
    assert_eq!((made.status, text(&made).as_str()), (ResponseStatus::Incomplete, "Once upon "));
    assert_eq!(world.db.count_as_owner("SELECT count(*) AS value FROM response_event").await, 0);
    assert_eq!(world.services.responses.get(&program, made.id).await.expect("the response"), made);
    let asked = world.services.responses.input(&program, made.id).await.expect("the input");
    assert!(asked[0].id.as_deref().is_some_and(|id| id.starts_with("msg_")), "{asked:?}");
    world.worker.script(Script::answer("x y z").fails_after(2, FailCode::Engine));
    let failed = world.services.responses.create(&program, ask("Fail.")).await;
    assert!(matches!(failed, Err(Error::Unavailable { .. })), "{failed:?}");
    assert_eq!(world.db.count_as_owner("SELECT count(*) AS value FROM response").await, 1);
}

#[tokio::test]
async fn instructions_are_pinned_unless_nothing_is_kept() {
    let world = World::new().await;
    let program = testkit::program(&world.db, &world.tenant).await;
    for (store, expected) in [(true, (1, true)), (false, (0, false))] {
        world.worker.script(Script::answer("Yes."));
        let create = CreateResponse { instructions: Some("Be brief.".into()), store, ..ask("Well?") };
        world.services.responses.create(&program, create).await.expect("a response");
        let asked = world.worker.requests().pop().expect("a request");
        assert_eq!((asked.pinned_messages, asked.pin_known_only), expected);
    }
}

#[tokio::test]
async fn what_is_not_to_be_stored_is_not() {
    let world = World::new().await;
    let program = testkit::program(&world.db, &world.tenant).await;
    world.worker.otherwise(Script::answer("Forgettable words."));
    let secret = || CreateResponse { store: false, instructions: Some("unstored7".into()), ..ask("unstored7") };
    let made = world.services.responses.create(&program, secret()).await.expect("a response").response;
    assert_eq!(text(&made), "Forgettable words.");
    let (streamed, events) = world.services.responses.stream(&program, secret()).await.expect("a response");
    assert!(matches!(read(events).await.last(), Some(ResponseEvent::End(end)) if end.status == ResponseStatus::Completed));
    for id in [made.id, streamed.response.id] {
        assert!(matches!(world.services.responses.get(&program, id).await, Err(Error::NotFound { what: "response" })));
    }
    assert_eq!((world.rows_with("unstored7").await, world.rows_with("forgettable").await), (0, 0));
    assert!(world.worker.requests().iter().all(|request| request.transient));
    let refused = world.services.responses.create(&program, CreateResponse { background: true, ..secret() }).await;
    assert!(matches!(refused, Err(Error::Invalid { field: Some("store"), .. })), "{refused:?}");
}

#[tokio::test]
async fn what_nobody_waits_for_does_not_pile_up_without_end() {
    let world = World::new().await;
    let program = testkit::program(&world.db, &world.tenant).await;
    world.worker.otherwise(Script::answer(ANSWER).hangs_after(1));
    let background = |n: usize| CreateResponse { background: true, ..ask(&format!("Question {n}?")) };
    let asked = join_all((0..60).map(|n| world.services.responses.create(&program, background(n)))).await;
    let refused: Vec<_> = asked.iter().filter_map(|asked| asked.as_ref().err()).collect();
    assert_eq!(refused.len(), 10);
    for refused in refused {
        assert!(matches!(refused, Error::QuotaExceeded { quota: Quota::Places(50), retry_after_ms: Some(_), .. }), "{refused:?}");
    }
    assert_eq!(world.db.count_as_owner("SELECT count(*) AS value FROM response").await, 50, "what was refused left nothing behind");
}

#[tokio::test]
async fn whoever_leaves_ends_what_they_waited_for_and_nothing_else() {
    let world = World::new().await;
    let program = testkit::program(&world.db, &world.tenant).await;
    for store in [true, false] {
        world.worker.script(Script::answer(ANSWER).hangs_after(3));
        let (_, events) = world.services.responses.stream(&program, CreateResponse { store, ..ask("Wait.") }).await.expect("a response");
        until("the model begins", || async { world.worker.running() == 1 }).await;
        drop(events);
        until("the slot is free", || async { world.worker.running() == 0 }).await;
    }
    let cancelled = "SELECT count(*) AS value FROM response WHERE status = 'cancelled'";
    until("its end is stored", || async { world.db.count_as_owner(cancelled).await == 1 }).await;

    world.worker.script(Script::answer(ANSWER).delay(Duration::from_millis(30)));
    let background = CreateResponse { background: true, ..ask("Go on.") };
    let (made, events) = world.services.responses.stream(&program, background).await.expect("a response");
    assert_eq!(made.response.status, ResponseStatus::Queued);
    drop(events);
    let response = ended(&world.services, &program, made.response.id).await;
    assert_eq!((response.status, text(&response).as_str()), (ResponseStatus::Completed, ANSWER));
}

#[tokio::test]
async fn a_background_response_is_cancelled_from_any_node() {
    let world = World::new().await;
    let program = testkit::program(&world.db, &world.tenant).await;
    for node in [world.services.clone(), world.another_node()] {
        world.worker.script(Script::answer(ANSWER).hangs_after(3));
        let made =
            world.services.responses.create(&program, CreateResponse { background: true, ..ask("Stop?") }).await.expect("a response");
        let id = made.response.id;
        until_said(&world, "Größe ist relativ. ").await;
        assert_eq!(node.responses.get(&program, id).await.expect("the response").status, ResponseStatus::InProgress);
        let cancelled = node.responses.cancel(&program, id).await.expect("cancelled");
        assert_eq!((cancelled.status, text(&cancelled).as_str()), (ResponseStatus::Cancelled, "Größe ist relativ. "));
        assert_eq!(node.responses.cancel(&program, id).await.expect("cancelling twice does no harm"), cancelled);
        node.responses.delete(&program, id).await.expect("deleted");
    }
    let foreground = world.services.responses.create(&program, ask("Whole.")).await.expect("a response").response;
    let refused = world.services.responses.cancel(&program, foreground.id).await;
    assert!(matches!(refused, Err(Error::Invalid { code: "not_background", .. })), "{refused:?}");
}

#[tokio::test]
async fn deleting_ends_what_is_still_being_made() {
    let world = World::new().await;
    let program = testkit::program(&world.db, &world.tenant).await;
    for node in [world.services.clone(), world.another_node()] {
        world.worker.script(Script::answer(ANSWER).hangs_after(3));
        let made =
            world.services.responses.create(&program, CreateResponse { background: true, ..ask("Gone?") }).await.expect("a response");
        until("the model begins", || async { world.worker.running() == 1 }).await;
        node.responses.delete(&program, made.response.id).await.expect("deleted");
        until("the slot is free", || async { world.worker.running() == 0 }).await;
        assert!(matches!(node.responses.get(&program, made.response.id).await, Err(Error::NotFound { .. })));
    }
    assert_eq!(world.db.count_as_owner("SELECT count(*) AS value FROM response").await, 0);
}

#[tokio::test]
async fn a_conversation_goes_on_without_sending_it_again() {
    let world = World::new().await;
    let program = testkit::program(&world.db, &world.tenant).await;
    world.worker.script(Script::answer("One.").thinks("hm").calls("f", "{}"));
    let first = CreateResponse { instructions: Some("Speak French.".into()), ..ask("First?") };
    let first = world.services.responses.create(&program, first).await.expect("a response").response;
    let result = Asked::Item(InputItem { id: None, item: Item::CallOutput { call_id: "call_0".into(), output: "42".into() } });
    let second = CreateResponse { previous: Some(first.id), input: vec![result], ..ask("") };
    let second = world.services.responses.create(&program, second).await.expect("a response").response;
    let third = CreateResponse { previous: Some(second.id), instructions: Some("Be brief.".into()), ..ask("Third?") };
    world.services.responses.create(&program, third).await.expect("a response");
    let asked = world.worker.requests();
    let read: Vec<(ChatRole, &str)> = asked[2].messages.iter().map(|message| (message.role, message.content.as_str())).collect();
    let expected = [
        (ChatRole::System, "Be brief."),
        (ChatRole::User, "First?"),
        (ChatRole::Assistant, "One."),
        (ChatRole::Tool, "42"),
        (ChatRole::Assistant, "Hello from the fake worker."),
        (ChatRole::User, "Third?"),
    ];
    assert_eq!(read, expected);
    let answer = &asked[2].messages[2];
    assert_eq!((answer.reasoning.as_deref(), answer.tool_calls[0].id.as_str()), (Some("hm"), "call_0"));
    // The same by reference.
    let references = (0..3).map(|at| Asked::Reference(ItemName { response: first.id, at })).collect();
    world.services.responses.create(&program, CreateResponse { input: references, ..ask("") }).await.expect("a response");
    assert_eq!(world.worker.requests()[3].messages, std::slice::from_ref(answer));
}

#[tokio::test]
async fn nobody_goes_on_from_what_is_not_theirs() {
    let world = World::new().await;
    let program = testkit::program(&world.db, &world.tenant).await;
    let colleague = testkit::program(&world.db, &world.tenant).await;
    let elsewhere = testkit::tenant(&world.db, "b").await;
    let stranger = testkit::program(&world.db, &elsewhere).await;
    let ours = world.services.responses.create(&program, CreateResponse { background: true, ..ask("Ours.") }).await.expect("a response");
    let id = ours.response.id;
    ended(&world.services, &program, id).await;
    for other in [&colleague, &stranger] {
        let responses = &world.services.responses;
        assert!(matches!(responses.get(other, id).await, Err(Error::NotFound { .. })));
        assert!(matches!(responses.events(other, id).await.map(drop), Err(Error::NotFound { .. })));
        assert!(matches!(responses.input(other, id).await, Err(Error::NotFound { .. })));
        assert!(matches!(responses.cancel(other, id).await, Err(Error::NotFound { .. })));
        assert!(matches!(responses.delete(other, id).await, Err(Error::NotFound { .. })));
        let refused = responses.create(other, CreateResponse { previous: Some(id), ..ask("Theirs?") }).await;
        assert!(matches!(refused, Err(Error::Invalid { code: "previous_response_not_found", .. })), "{refused:?}");
        let reference = vec![Asked::Reference(ItemName { response: id, at: 0 })];
        let refused = responses.create(other, CreateResponse { input: reference, ..ask("") }).await;
        assert!(matches!(refused, Err(Error::Invalid { code: "item_not_found", .. })), "{refused:?}");
    }
    assert!(matches!(world.services.responses.get(&world.actor, id).await, Err(Error::Forbidden { .. })), "people have no responses");
    assert_eq!(world.worker.requests().len(), 1, "nothing was computed for them");
}

#[tokio::test]
async fn a_broken_chain_is_no_beginning() {
    let world = World::new().await;
    let program = testkit::program(&world.db, &world.tenant).await;
    let responses = &world.services.responses;
    let first = responses.create(&program, ask("First?")).await.expect("a response").response;
    let second =
        responses.create(&program, CreateResponse { previous: Some(first.id), ..ask("Second?") }).await.expect("a response").response;
    responses.delete(&program, first.id).await.expect("deleted");
    let refused = responses.create(&program, CreateResponse { previous: Some(second.id), ..ask("Third?") }).await;
    assert!(matches!(refused, Err(Error::Invalid { code: "previous_response_not_found", .. })), "{refused:?}");
    world.worker.script(Script::answer(ANSWER).hangs_after(3));
    let running = responses.create(&program, CreateResponse { background: true, ..ask("Wait.") }).await.expect("a response").response;
    let refused = responses.create(&program, CreateResponse { previous: Some(running.id), ..ask("Now?") }).await;
    assert!(matches!(refused, Err(Error::Invalid { code: "previous_response_unfinished", .. })), "{refused:?}");
}

#[tokio::test]
async fn a_response_of_a_dead_node_ends_with_what_was_said() {
    let world = World::new().await;
    let program = testkit::program(&world.db, &world.tenant).await;
    world.worker.script(Script::answer("kept until the crash, and more").delay(Duration::from_millis(30)).hangs_after(3));
    let made = world.services.responses.create(&program, CreateResponse { background: true, ..ask("Crash?") }).await.expect("a response");
    until_said(&world, "kept until the ").await;
    execute_as_owner(&world.db, "UPDATE response SET node = gen_random_uuid(), heartbeat_at = now() - interval '20 seconds'").await;
    let stop = CancellationToken::new();
    let tracker = TaskTracker::new();
    let (survivor, token) = (world.another_node(), stop.clone());
    tracker.spawn(async move { survivor.run_jobs(token).await });
    let response = ended(&world.another_node(), &program, made.response.id).await;
    assert_eq!((response.status, response.problem.expect("why").code.as_str()), (ResponseStatus::Failed, "server_restarted"));
    // The old process notices that the response is not its own any more and lets go.
    until("the slot is free", || async { world.worker.running() == 0 }).await;
    stop.cancel();
    tracker.close();
    tracker.wait().await;
}

#[tokio::test]
async fn shutdown_ends_responses_and_keeps_what_was_said() {
    let world = World::new().await;
    let program = testkit::program(&world.db, &world.tenant).await;
    world.worker.script(Script::answer(ANSWER).hangs_after(3));
    let made =
        world.services.responses.create(&program, CreateResponse { background: true, ..ask("Shutdown?") }).await.expect("a response");
    until_said(&world, "Größe ist relativ. ").await;
    timeout(Duration::from_secs(10), world.services.drain()).await.expect("drained in time");
    let response = world.another_node().responses.get(&program, made.response.id).await.expect("the response");
    assert_eq!((response.status, text(&response).as_str()), (ResponseStatus::Failed, "Größe ist relativ. "));
    assert!(matches!(world.services.responses.create(&program, ask("Too late?")).await, Err(Error::Unavailable { .. })));
}

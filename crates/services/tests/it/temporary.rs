//! Temporary chats leave nothing behind but what they used.

use crate::world::{World, end, text, until};
use contract::{
    account::Role,
    chat::{ConversationSettings, MessageRole, MessageStatus, NewAttachment, StartTemporaryTurn, TemporaryMessage},
};
use domain::Error;
use std::time::Duration;
use testkit::fake_worker::Script;

fn input(content: &str) -> StartTemporaryTurn {
    let attachments = vec![NewAttachment { name: "canary.txt".into(), content: "canary-attachment".into() }];
    let message = TemporaryMessage { role: MessageRole::User, content: content.into(), attachments, refused: false };
    let settings = ConversationSettings { system_prompt: "canary-system".into(), ..ConversationSettings::default() };
    StartTemporaryTurn { messages: vec![message], settings }
}

#[tokio::test]
async fn nothing_of_a_temporary_chat_is_stored() {
    let world = World::new().await;
    world.worker.otherwise(Script::answer("canary-answer in pieces").delay(Duration::from_millis(60)));
    let turn = world.services.turns.start_temporary(&world.actor, input("canary-question")).await.expect("a turn");
    let events = world.follow(turn).await;
    assert_eq!((text(&events).as_str(), end(&events)), ("canary-answer in pieces", (MessageStatus::Complete, None)));
    assert_eq!(world.follow(turn).await, events, "it can be followed again for a while");
    assert_eq!(world.worker.requests()[0].pinned_messages, 0, "what leaves nothing behind is not kept longer than needed");
    assert_eq!(
        world.rows_with("canary").await,
        0,
        "If you are here because this failed: something of a temporary chat was written to disk."
    );
    let ledger = testkit::ledger::ledger(&world.db).await;
    assert_eq!(ledger.len(), 1);
    assert_eq!((ledger[0].purpose.as_str(), ledger[0].state.as_str()), ("temporary_chat", "settled"));
}

#[tokio::test]
async fn a_temporary_turn_is_stopped_and_belongs_to_one() {
    let world = World::new().await;
    let neighbour = testkit::user(&world.db, &world.tenant, &[Role::User]).await;
    world.worker.script(Script::answer("one two three").hangs_after(2));
    let turn = world.services.turns.start_temporary(&world.actor, input("stop")).await.expect("a turn");
    until("it runs", || async { world.worker.running() == 1 }).await;
    assert!(matches!(world.services.turns.events(&neighbour, turn, 0).await, Err(Error::NotFound { .. })));
    assert!(matches!(world.services.turns.stop(&neighbour, turn).await, Err(Error::NotFound { .. })));
    world.services.turns.stop(&world.actor, turn).await.expect("stopped");
    let events = world.follow(turn).await;
    assert_eq!(end(&events).0, MessageStatus::Stopped);
    until("the slot is free", || async { world.worker.running() == 0 }).await;
}

//! What guardrails do to chats.

use crate::world::{World, end, text};
use contract::{
    chat::{ConversationSettings, MessageRole, MessageStatus, StartTemporaryTurn, TemporaryMessage, TurnEvent},
    ids::ConversationId,
};
use serde_json::json;
use testkit::{fake_worker::Script, guardrails::guardrails};

async fn world(action: &str) -> World {
    let world = World::new().await;
    let rule = json!([{ "name": "project", "check": { "kind": "words", "words": ["Kranich"] }, "on": ["input"], "action": action }]);
    guardrails(&world.db, world.tenant.id, rule).await;
    world
}

async fn title(world: &World, conversation: ConversationId) -> String {
    world.services.chats.view(&world.actor, conversation).await.expect("the conversation").conversation.title
}

fn said(role: MessageRole, content: &str, refused: bool) -> TemporaryMessage {
    TemporaryMessage { role, content: content.into(), attachments: Vec::new(), refused }
}

fn warnings(events: &[(i32, TurnEvent)]) -> Vec<String> {
    match events.last() {
        Some((_, TurnEvent::End { warnings, .. })) => warnings.clone(),
        other => panic!("the last event is no end: {other:?}"),
    }
}

#[tokio::test]
async fn a_refused_question_gives_no_title() {
    let world = world("block").await;
    let (first, refused) = world.ask_and_wait("The project is called Kranich.").await;
    assert_eq!((refused.status, refused.error.as_deref()), (MessageStatus::Interrupted, Some("guardrail_blocked")));
    assert_eq!(
        title(&world, first.conversation).await,
        "",
        "If you are here because this failed: what must not be said is read in the side bar."
    );
    let titles: Vec<String> = world
        .follow(first.turn)
        .await
        .into_iter()
        .filter_map(|(_, event)| if let TurnEvent::Title { title } = event { Some(title) } else { None })
        .collect();
    assert_eq!(titles.last().map(String::as_str), Some(""), "whoever watches hears of it");

    world.worker.script(Script::answer("Fine."));
    // The model has no title to give, so the first words of the question stay.
    world.worker.script(Script::answer("\"\""));
    let second = world.ask_below(first.conversation, Some(refused.id), "What is next?").await;
    let answer = world.wait(&second).await;
    assert_eq!((answer.content.as_str(), title(&world, first.conversation).await.as_str()), ("Fine.", "What is next?"));
    let asked: Vec<String> = world.worker.requests().remove(0).messages.into_iter().map(|message| message.content).collect();
    assert_eq!(asked, ["What is next?"]);

    let third = world.ask_below(first.conversation, Some(answer.id), "Who is Kranich?").await;
    assert_eq!(world.wait(&third).await.error.as_deref(), Some("guardrail_blocked"));
    assert_eq!(title(&world, first.conversation).await, "What is next?", "it is not of the question that was refused");
}

#[tokio::test]
async fn a_temporary_chat_goes_on_after_a_refusal() {
    let world = world("block").await;
    world.worker.otherwise(Script::answer("Hello."));
    for (flagged, status) in [(true, MessageStatus::Complete), (false, MessageStatus::Interrupted)] {
        let messages = vec![
            said(MessageRole::User, "Kranich?", false),
            said(MessageRole::Assistant, "", flagged),
            said(MessageRole::User, "Hello?", false),
        ];
        let input = StartTemporaryTurn { messages, settings: ConversationSettings::default() };
        let turn = world.services.turns.start_temporary(&world.actor, input).await.expect("a turn");
        assert_eq!(end(&world.follow(turn).await).0, status, "flagged: {flagged}");
    }
    let asked: Vec<String> = world.worker.requests().remove(0).messages.into_iter().map(|message| message.content).collect();
    assert_eq!(asked, ["Hello?"]);
}

#[tokio::test]
async fn what_only_warns_is_shown_at_the_answer() {
    let world = world("warn").await;
    world.worker.otherwise(Script::answer("A bird."));
    let (started, answer) = world.ask_and_wait("What is a Kranich?").await;
    assert_eq!((answer.content.as_str(), answer.warnings.as_slice()), ("A bird.", &["project".to_owned()][..]));
    assert_eq!(warnings(&world.follow(started.turn).await), ["project"]);

    let input =
        StartTemporaryTurn { messages: vec![said(MessageRole::User, "Kranich?", false)], settings: ConversationSettings::default() };
    let turn = world.services.turns.start_temporary(&world.actor, input).await.expect("a turn");
    let events = world.follow(turn).await;
    assert_eq!((text(&events).as_str(), warnings(&events)), ("A bird.", vec!["project".to_owned()]));

    let (started, answer) = world.ask_and_wait("What is a swan?").await;
    assert!(answer.warnings.is_empty() && warnings(&world.follow(started.turn).await).is_empty(), "{answer:?}");
}

//! What content filters of those who run models do to chats.

use crate::world::{World, until};
use contract::{
    chat::{MessageStatus, TurnEvent},
    ids::ConversationId,
};
use testkit::fake_worker::Script;
use worker_protocol::{ChatRole, FailCode};

const HELLO: &str = "Hello from the fake worker.";

/// What the model read for each answer, oldest first. Only what asks for a title has a system prompt here.
fn prompts(world: &World) -> Vec<Vec<String>> {
    let asked = world.worker.requests().into_iter();
    let answers = asked.filter(|request| request.messages.first().is_some_and(|first| first.role == ChatRole::User));
    answers.map(|request| request.messages.into_iter().map(|message| message.content).collect()).collect()
}

async fn title(world: &World, conversation: ConversationId) -> String {
    world.services.chats.view(&world.actor, conversation).await.expect("the conversation").conversation.title
}

fn titles(events: Vec<(i32, TurnEvent)>) -> Vec<String> {
    events.into_iter().filter_map(|(_, event)| if let TurnEvent::Title { title } = event { Some(title) } else { None }).collect()
}

#[tokio::test]
async fn what_is_left_of_a_filtered_title_is_no_title() {
    let world = World::new().await;
    let fragment = Script::answer("A fragment of");
    let ways = [
        fragment.clone().ends_filtered(),
        fragment.fails_after(2, FailCode::ContentFilter),
        Script::answer("").ends_filtered(),
        Script::refuses(FailCode::ContentFilter),
    ];
    for (way, filtered) in ways.into_iter().enumerate() {
        world.worker.script(Script::answer("Quite big."));
        world.worker.script(filtered);
        let (started, answer) = world.ask_and_wait("How big is it?").await;
        assert_eq!((answer.content.as_str(), answer.status, answer.error), ("Quite big.", MessageStatus::Complete, None), "way {way}");
        // The turn's end waits for the title only so long, and the next way's script is not for this one.
        until("a title was asked for", || async { world.worker.requests().len() == 2 * (way + 1) }).await;
        assert_eq!(
            titles(world.follow(started.turn).await),
            ["How big is it?"],
            "way {way}. If you are here because this failed: whoever watches gets to see as a title what a filter cut off."
        );
        assert_eq!(title(&world, started.conversation).await, "How big is it?", "way {way}: the first words of the question stay");
    }
}

#[tokio::test]
async fn a_question_that_was_filtered_is_left_out_of_what_follows() {
    for (filtered, status, error) in [
        (Script::refuses(FailCode::ContentFilter), MessageStatus::Interrupted, Some("content_filter")),
        // It says so by a status that is good, and never says a word.
        (Script::answer("").ends_filtered(), MessageStatus::Complete, None),
        (Script::answer("").thinks("How do I say this?").ends_filtered(), MessageStatus::Complete, None),
    ] {
        let world = World::new().await;
        world.worker.script(filtered);
        let (first, answer) = world.ask_and_wait("Forbidden?").await;
        assert_eq!((answer.content.as_str(), answer.status, answer.error.as_deref()), ("", status, error));
        assert_eq!(titles(world.follow(first.turn).await), ["Forbidden?", ""], "{status:?}: whoever watches hears of it");
        assert_eq!(title(&world, first.conversation).await, "", "{status:?}");

        let second = world.ask_below(first.conversation, Some(answer.id), "What is next?").await;
        assert_eq!(world.wait(&second).await.content, HELLO);
        assert_eq!(
            prompts(&world),
            [["Forbidden?"], ["What is next?"]],
            "{status:?}. If you are here because this failed: one question that was filtered makes a chat useless."
        );
        let asked = world.worker.requests();
        assert_eq!(asked[1].messages[0].content, "What is next?", "{status:?}: what was filtered is not sent for a title either");
    }
}

#[tokio::test]
async fn a_filtered_question_is_sent_where_it_is_asked_again() {
    let world = World::new().await;
    world.worker.script(Script::refuses(FailCode::ContentFilter));
    let (started, filtered) = world.ask_and_wait("Forbidden?").await;
    let turns = &world.services.turns;

    let again = turns.regenerate(&world.actor, filtered.id).await.expect("a turn");
    let answer = world.wait(&again).await;
    let below = world.ask_below(started.conversation, Some(answer.id), "And now?").await;
    world.wait(&below).await;

    let resumed = turns.resume(&world.actor, filtered.id).await.expect("a turn");
    assert_eq!(world.wait(&resumed).await.content, HELLO);
    let below = world.ask_below(started.conversation, Some(filtered.id), "And here?").await;
    world.wait(&below).await;

    let edited = world.ask_below(started.conversation, None, "Put differently?").await;
    world.wait(&edited).await;

    let expected = [
        vec!["Forbidden?"],
        vec!["Forbidden?"],
        vec!["Forbidden?", HELLO, "And now?"],
        vec!["Forbidden?"],
        vec!["Forbidden?", HELLO, "And here?"],
        vec!["Put differently?"],
    ];
    assert_eq!(prompts(&world), expected);
}

#[tokio::test]
async fn what_was_said_before_the_filter_stays_with_its_question() {
    let said = Script::answer("one two ");
    for filtered in [said.clone().ends_filtered(), said.fails_after(2, FailCode::ContentFilter)] {
        let world = World::new().await;
        world.worker.script(filtered);
        let (started, answer) = world.ask_and_wait("Well?").await;
        assert_eq!(answer.content, "one two ");
        assert!(!title(&world, started.conversation).await.is_empty(), "it was answered with something: {answer:?}");
        let below = world.ask_below(started.conversation, Some(answer.id), "And now?").await;
        world.wait(&below).await;
        assert_eq!(prompts(&world), [vec!["Well?"], vec!["Well?", "one two ", "And now?"]]);
    }
}

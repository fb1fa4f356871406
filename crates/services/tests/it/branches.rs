//! Regenerated answers, edited questions, and the way back.

use crate::world::World;
use contract::chat::{MESSAGES_PER_PAGE, MessageRole};
use testkit::fake_worker::Script;

#[tokio::test]
async fn a_regenerated_answer_is_a_sibling() {
    let world = World::new().await;
    world.worker.otherwise(Script::answer("First."));
    let (started, first) = world.ask_and_wait("Which?").await;
    world.worker.otherwise(Script::answer("Second."));
    let again = world.services.turns.regenerate(&world.actor, first.id).await.expect("a turn");
    assert_eq!(again.question.id, started.question.id);
    let second = world.wait(&again).await;
    assert_eq!((second.content.as_str(), second.siblings.as_slice()), ("Second.", [first.id, second.id].as_slice()));

    let view = world.services.chats.select_branch(&world.actor, first.id).await.expect("back");
    assert_eq!(view.messages.messages.last().expect("last").content, "First.");
    let stored = world.services.chats.view(&world.actor, started.conversation).await.expect("view");
    assert_eq!(stored.messages, view.messages);
}

#[tokio::test]
async fn an_edited_question_is_a_branch_with_a_way_back() {
    let world = World::new().await;
    let (started, answer) = world.ask_and_wait("Frist question").await;
    let below = world.ask_below(started.conversation, Some(answer.id), "More").await;
    let more = world.wait(&below).await;

    // Editing the first question: it follows nothing, as the first one did.
    let edited = world.ask_below(started.conversation, None, "First question").await;
    world.wait(&edited).await;
    let view = world.services.chats.view(&world.actor, started.conversation).await.expect("view");
    assert_eq!(view.messages.messages.len(), 2);
    assert_eq!(view.messages.messages[0].siblings, [started.question.id, edited.question.id]);

    let back = world.services.chats.select_branch(&world.actor, started.question.id).await.expect("back");
    assert_eq!(back.messages.messages.len(), 4, "the branch comes back down to its newest leaf");
    assert_eq!(back.messages.messages[3].id, more.id);

    let around = world.services.chats.around(&world.actor, started.conversation, edited.question.id).await.expect("around");
    assert_eq!(around.messages.messages[0].id, edited.question.id);
}

#[tokio::test]
async fn a_long_chat_is_read_in_pages() {
    let world = World::new().await;
    let id = world.services.transfer.seed_long_chat(&world.actor, 1000, 500_000).await.expect("seeded");
    let mut quickest = std::time::Duration::MAX;
    let mut view = None;
    for _ in 0..3 {
        let begun = std::time::Instant::now();
        view = Some(world.services.chats.view(&world.actor, id).await.expect("view"));
        quickest = quickest.min(begun.elapsed());
    }
    assert!(quickest.as_millis() < 500, "If you are here because this failed: opening a long chat takes {quickest:?}.");
    let mut page = view.expect("three times").messages;
    let mut all = Vec::new();
    loop {
        assert!(page.messages.len() <= usize::try_from(MESSAGES_PER_PAGE).expect("small"));
        let (first, earlier) = (page.messages[0].id, page.earlier);
        all.splice(0..0, page.messages);
        if earlier == 0 {
            break;
        }
        page = world.services.chats.earlier(&world.actor, id, first).await.expect("earlier");
        assert_eq!(page.earlier + u32::try_from(page.messages.len()).expect("small"), earlier);
    }
    assert_eq!(all.len(), 1000);
    assert!(all.windows(2).all(|pair| pair[1].parent == Some(pair[0].id) && pair[0].role != pair[1].role));
    assert_eq!(all[0].role, MessageRole::User);

    let deep = all[100].id;
    let around = world.services.chats.around(&world.actor, id, deep).await.expect("around");
    assert!(around.messages.messages.iter().any(|message| message.id == deep));
    assert_eq!(around.messages.messages.last().map(|last| last.id), all.last().map(|last| last.id), "the branch in view did not change");
}

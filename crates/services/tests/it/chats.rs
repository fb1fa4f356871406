//! The side bar, settings, ratings, deletion, the prompt history.

use crate::world::World;
use contract::{
    chat::{ConversationChange, ConversationSettings, PromptFilter, Rating, RatingValue},
    model::Sampling,
};
use domain::Error;
use services::ListConversations;
use testkit::fake_worker::FAKE_MODEL;

#[tokio::test]
async fn the_side_bar_comes_in_pages_pinned_first() {
    let world = World::new().await;
    let mut ids = Vec::new();
    for _ in 0..60 {
        ids.push(world.services.transfer.seed_long_chat(&world.actor, 2, 100).await.expect("seeded"));
    }
    let pin = ConversationChange { pinned: Some(true), ..ConversationChange::default() };
    world.services.chats.change(&world.actor, ids[5], pin).await.expect("pinned");
    let mut listed = Vec::new();
    let mut cursor = None;
    loop {
        let page = world.services.chats.list(&world.actor, ListConversations { archived: false, cursor }).await.expect("page");
        listed.extend(page.items);
        cursor = page.next;
        if cursor.is_none() {
            break;
        }
    }
    assert_eq!(listed.len(), 60);
    assert_eq!(listed[0].id, ids[5]);
    assert!(listed[1..].windows(2).all(|pair| (pair[0].updated_at, pair[0].id) > (pair[1].updated_at, pair[1].id)));
    let bad = world.services.chats.list(&world.actor, ListConversations { archived: false, cursor: Some("nonsense".into()) }).await;
    assert!(matches!(bad, Err(Error::Invalid { field: Some("cursor"), .. })));
}

#[tokio::test]
async fn rename_archive_and_settings_are_stored() {
    let world = World::new().await;
    let (started, _) = world.ask_and_wait("Settings?").await;
    let settings = ConversationSettings {
        model: Some(FAKE_MODEL.into()),
        system_prompt: "Be kind.".into(),
        sampling: Sampling { temperature: Some(0.5), ..Sampling::default() },
    };
    let change = ConversationChange { title: Some("  New\nname ".into()), archived: Some(true), settings: Some(settings), pinned: None };
    let changed = world.services.chats.change(&world.actor, started.conversation, change).await.expect("changed");
    assert_eq!((changed.title.as_str(), changed.archived, changed.system_prompt.as_str()), ("New name", true, "Be kind."));
    let view = world.services.chats.view(&world.actor, started.conversation).await.expect("view");
    assert_eq!(view.conversation, changed);
    let list = |archived| world.services.chats.list(&world.actor, ListConversations { archived, cursor: None });
    assert_eq!(list(false).await.expect("list").items.len(), 0);
    assert_eq!(list(true).await.expect("list").items.len(), 1);

    let unknown = ConversationSettings { model: Some("no-such".into()), ..ConversationSettings::default() };
    let change = ConversationChange { settings: Some(unknown), ..ConversationChange::default() };
    let refused = world.services.chats.change(&world.actor, started.conversation, change).await;
    assert!(matches!(refused, Err(Error::Invalid { field: Some("model"), code: "unknown_model", .. })));
}

#[tokio::test]
async fn a_deleted_chat_is_gone_until_it_is_restored() {
    let world = World::new().await;
    let (started, answer) = world.ask_and_wait("deletable canary").await;
    world.services.chats.delete(&world.actor, started.conversation).await.expect("deleted");
    assert!(matches!(world.services.chats.view(&world.actor, started.conversation).await, Err(Error::NotFound { .. })));
    assert!(matches!(world.services.chats.select_branch(&world.actor, answer.id).await, Err(Error::NotFound { .. })));
    assert!(world.services.chats.search(&world.actor, "canary".into(), None).await.expect("search").items.is_empty());
    assert!(world.services.prompts.list(&world.actor, PromptFilter::default(), None).await.expect("prompts").items.is_empty());
    assert!(matches!(world.services.chats.delete(&world.actor, started.conversation).await, Err(Error::NotFound { .. })));
    world.services.chats.restore(&world.actor, started.conversation).await.expect("restored");
    assert_eq!(world.services.chats.view(&world.actor, started.conversation).await.expect("view").messages.messages.len(), 2);
}

#[tokio::test]
async fn an_answer_is_rated_and_unrated() {
    let world = World::new().await;
    let (started, answer) = world.ask_and_wait("Rate?").await;
    let rating = Rating { value: RatingValue::Down, comment: "wrong".into() };
    world.services.chats.rate(&world.actor, answer.id, Some(rating.clone())).await.expect("rated");
    assert_eq!(world.message(started.conversation, answer.id).await.rating, Some(rating.clone()));
    world.services.chats.rate(&world.actor, answer.id, None).await.expect("unrated");
    assert_eq!(world.message(started.conversation, answer.id).await.rating, None);
    let question = world.services.chats.rate(&world.actor, started.question.id, Some(rating)).await;
    assert!(matches!(question, Err(Error::NotFound { .. })), "only answers are rated");
}

#[tokio::test]
async fn the_prompt_history_is_searched_and_filtered() {
    let world = World::new().await;
    let (first, _) = world.ask_and_wait("Explain the Steuererklärung").await;
    world.ask_and_wait("Explain photosynthesis").await;
    let list = |filter: PromptFilter| world.services.prompts.list(&world.actor, filter, None);
    assert_eq!(list(PromptFilter::default()).await.expect("all").items.len(), 2);
    let words = PromptFilter { query: "steuer".into(), ..PromptFilter::default() };
    let found = list(words).await.expect("some").items;
    assert_eq!((found.len(), found[0].conversation), (1, first.conversation));
    let of_first = PromptFilter { conversation: Some(first.conversation), ..PromptFilter::default() };
    assert_eq!(list(of_first).await.expect("some").items.len(), 1);
    let future = PromptFilter { from: Some(found[0].created_at + 86_400_000), ..PromptFilter::default() };
    assert!(list(future).await.expect("none").items.is_empty());
}

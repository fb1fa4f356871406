//! Export and import.

use crate::world::World;
use contract::{
    account::Language,
    chat::{NewAttachment, Rating, RatingValue},
};
use domain::Error;
use serde_json::Value;
use std::io::{Cursor, Read};
use testkit::fake_worker::Script;

/// An exported chat without what an import must change.
fn without_ids(bytes: &[u8]) -> Value {
    let mut chat: Value = serde_json::from_slice(bytes).expect("JSON");
    chat["exported_at"] = Value::Null;
    let ids: Vec<String> =
        chat["messages"].as_array().expect("messages").iter().map(|one| one["id"].as_str().expect("id").into()).collect();
    let mut text = chat.to_string();
    for (number, id) in ids.iter().enumerate() {
        text = text.replace(id, &format!("#{number}"));
    }
    serde_json::from_str(&text).expect("JSON")
}

#[tokio::test]
async fn an_exported_chat_comes_back_the_same() {
    let world = World::new().await;
    world.worker.otherwise(Script::answer("With ```code``` and *stars*."));
    let input = contract::chat::StartTurn {
        attachments: vec![NewAttachment { name: "notes.md".into(), content: "```\nx\n```".into() }],
        ..crate::world::question(None, None, "What?")
    };
    let started = world.services.turns.start(&world.actor, input).await.expect("a turn");
    let answer = world.wait(&started).await;
    let again = world.services.turns.regenerate(&world.actor, answer.id).await.expect("a turn");
    world.wait(&again).await;
    world
        .services
        .chats
        .rate(&world.actor, answer.id, Some(Rating { value: RatingValue::Up, comment: "yes".into() }))
        .await
        .expect("rated");

    let exported = world.services.transfer.conversation_json(&world.actor, started.conversation).await.expect("exported");
    assert_eq!(exported.mime, "application/json");
    let json = String::from_utf8(exported.bytes.clone()).expect("UTF-8");
    let imported = world.services.transfer.import(&world.actor, json).await.expect("imported");
    assert_eq!((imported.conversations, imported.messages), (1, 3));
    let list = world.services.chats.list(&world.actor, services::ListConversations::default()).await.expect("list");
    let copy = list.items.iter().find(|one| one.id != started.conversation).expect("the copy");
    let copied = world.services.transfer.conversation_json(&world.actor, copy.id).await.expect("exported");
    assert_eq!(
        without_ids(&copied.bytes),
        without_ids(&exported.bytes),
        "If you are here because this failed: export and import lose something."
    );

    let markdown = world.services.transfer.conversation_markdown(&world.actor, started.conversation, Language::En).await.expect("markdown");
    let markdown = String::from_utf8(markdown.bytes).expect("UTF-8");
    assert_eq!(markdown.matches("## Question").count(), 1);
    assert_eq!(markdown.matches("## Answer").count(), 2);
    assert_eq!(markdown.matches("## Another branch").count(), 1);
    assert!(markdown.contains("````\n```\nx\n```\n````"), "{markdown}");
}

#[tokio::test]
async fn everything_is_one_archive() {
    let world = World::new().await;
    let (started, _) = world.ask_and_wait("archived canary").await;
    let file = world.services.transfer.everything_zip(&world.actor, Language::En).await.expect("exported");
    let mut archive = zip::ZipArchive::new(Cursor::new(file.bytes)).expect("a ZIP file");
    let names: Vec<String> = archive.file_names().map(|name| name.expect("UTF-8").into_owned()).collect();
    assert_eq!(names.len(), 4, "{names:?}");
    let mut read = |name: &str| {
        let mut text = String::new();
        archive.by_name(name).expect(name).read_to_string(&mut text).expect("UTF-8");
        text
    };
    assert!(read("profile.json").contains("\"email\""));
    assert!(read("usage.csv").lines().count() >= 2);
    let chat = names.iter().find(|name| name.ends_with(".json") && name.starts_with("chats/")).expect("the chat");
    assert!(read(chat).contains("archived canary"));
    let again = world.services.transfer.import(&world.actor, read(chat)).await.expect("imported");
    assert_eq!(again.messages, 2);
    assert!(world.services.chats.view(&world.actor, started.conversation).await.is_ok());
}

#[tokio::test]
async fn a_bad_import_leaves_nothing() {
    let world = World::new().await;
    let good = r#"{"schema":"kontor.chat/1","conversation":{"title":"good"},"messages":[]}"#;
    let bad = r#"{"schema":"kontor.chat/1","conversation":{"title":"bad"},"messages":[{"id":"1","role":"assistant","content":"x"}]}"#;
    let refused = world.services.transfer.import(&world.actor, format!("[{good},{bad}]")).await;
    assert!(matches!(refused, Err(Error::Invalid { field: Some("json"), code: "bad_tree", .. })), "{refused:?}");
    assert!(world.services.chats.list(&world.actor, services::ListConversations::default()).await.expect("list").items.is_empty());
}

//! Full-text search with highlighted hits.

use crate::world::World;
use testkit::fake_worker::Script;

#[tokio::test]
async fn hits_are_found_in_both_languages_and_highlighted() {
    let world = World::new().await;
    world.worker.otherwise(Script::answer("Die Häuser am See werden verkauft."));
    let (started, answer) = world.ask_and_wait("Were the running costs <b>reported</b>?").await;
    let search = |query: &str| world.services.chats.search(&world.actor, query.to_owned(), None);
    let marked = |hits: &contract::page::Page<contract::chat::SearchHit>| -> Vec<String> {
        hits.items.iter().flat_map(|hit| hit.snippet.iter().filter(|part| part.hit).map(|part| part.text.clone())).collect()
    };

    let hits = search("Haus").await.expect("search");
    assert_eq!((hits.items.len(), hits.items[0].message), (1, answer.id));
    assert_eq!(marked(&hits), ["Häuser"]);
    let hits = search("report run").await.expect("search");
    assert_eq!((hits.items.len(), hits.items[0].message), (1, started.question.id));
    assert_eq!(marked(&hits), ["running", "reported"]);
    assert_eq!(marked(&search("verk").await.expect("search")), ["verkauft"], "the last word is a beginning");
    assert_eq!(search("\"See werden\"").await.expect("search").items.len(), 1);
    assert_eq!(search("Häuser -See").await.expect("search").items.len(), 0);
    for nothing in ["", "  ", "nowhere", "&|!():*", "'; DROP TABLE message; --", "\"", "-", "²", "ªº", "½ ⅷ", "日本", "٣", "a\u{301}"]
    {
        assert!(search(nothing).await.expect("never an error").items.is_empty(), "{nothing}");
    }
}

#[tokio::test]
async fn a_snippet_shows_what_people_read_not_its_markdown() {
    let world = World::new().await;
    let answer = "## Result\n\n> The **total** is `12`.\n\n- see [the report](https://example.org/a?b=c)\n\n| town | total |\n| --- | ---: |\n| Bonn | 3 |";
    world.worker.otherwise(Script::answer(answer));
    world.ask_and_wait("How much?").await;
    let found = world.services.chats.search(&world.actor, "total".into(), None).await.expect("search");
    let snippet: String = found.items[0].snippet.iter().map(|part| part.text.as_str()).collect();
    let words: Vec<&str> = snippet.split_whitespace().collect();
    let read = words.join(" ");
    assert!(read.contains("The total is 12.") && read.contains("see the report"), "{read}");
    assert!(!["**", "`", "##", "> ", "](", "---", "| |"].iter().any(|mark| read.contains(mark)), "{read}");
    for (word, marked) in [("report", "report"), ("example", "example.org")] {
        let found = world.services.chats.search(&world.actor, word.into(), None).await.expect("search");
        let hits: Vec<&str> =
            found.items.iter().flat_map(|hit| &hit.snippet).filter(|part| part.hit).map(|part| part.text.as_str()).collect();
        assert!(hits.iter().any(|hit| hit.contains(marked) || marked.contains(hit)), "{word}: {found:?}");
    }
}

#[tokio::test]
async fn what_only_looks_like_markdown_stays_in_a_snippet() {
    let world = World::new().await;
    world.worker.otherwise(Script::answer("The power 2**10 calls handlers[name](event) and a * b."));
    world.ask_and_wait("How much?").await;
    let found = world.services.chats.search(&world.actor, "power".into(), None).await.expect("search");
    let snippet: String = found.items[0].snippet.iter().map(|part| part.text.as_str()).collect();
    assert!(snippet.contains("power 2**10 calls handlers[name](event"), "{snippet}");
}

#[tokio::test]
async fn hits_come_in_pages() {
    let world = World::new().await;
    world.services.transfer.seed_long_chat(&world.actor, 200, 40_000).await.expect("seeded");
    let mut found = Vec::new();
    let mut cursor = None;
    loop {
        let page = world.services.chats.search(&world.actor, "question".into(), cursor).await.expect("page");
        found.extend(page.items.into_iter().map(|hit| hit.message));
        cursor = page.next;
        if cursor.is_none() {
            break;
        }
    }
    let distinct: std::collections::HashSet<_> = found.iter().collect();
    assert_eq!((found.len(), distinct.len()), (100, 100));
}

#[tokio::test]
async fn ten_thousand_messages_are_searched_quickly() {
    let world = World::new().await;
    for _ in 0..10 {
        world.services.transfer.seed_long_chat(&world.actor, 1000, 500_000).await.expect("seeded");
    }
    world.ask_and_wait("A needle in the haystack").await;
    let begun = std::time::Instant::now();
    let found = world.services.chats.search(&world.actor, "needl".into(), None).await.expect("search");
    let took = begun.elapsed();
    assert_eq!(found.items.len(), 1);
    assert!(took.as_secs() < 2, "If you are here because this failed: a search over 10,000 own messages takes {took:?}.");
}

//! Reuse of what is computed already.

use std::path::Path;
use std::time::Duration;

use worker_protocol::{ChatRole, Event, Generate};

use crate::harness::{Pool, ask, clever, filler, message, own, quick};

/// A conversation in a partition, with a beginning long enough to be worth keeping.
fn conversation(partition: &str, topic: &str) -> Generate {
    let mut request = ask(&format!("{} What did I write about {topic}?", filler(160)), 8);
    request.partition = partition.into();
    request
}

#[tokio::test]
async fn the_next_turn_computes_only_what_is_new() {
    let alone = quick().await;
    let mut request = conversation("turns", "foxes");
    let first = alone.client.run(request.clone()).await;
    assert_eq!(first.done().1.cached_tokens, 0);
    request.messages.push(message(ChatRole::Assistant, &first.text()));
    request.messages.push(message(ChatRole::User, "And in short?"));
    let second = alone.client.run(request).await.done().1;
    assert!(second.cached_tokens >= first.done().1.prompt_tokens - 8, "{second:?} after {:?}", first.done().1);
    assert!(second.prompt_tokens - second.cached_tokens < 60, "{second:?}");
}

#[tokio::test]
async fn partitions_never_share() {
    let alone = quick().await;
    alone.client.run(conversation("tenant a", "foxes")).await.done();
    for _ in 0..2 {
        let other = alone.client.run(conversation(&uuid::Uuid::now_v7().to_string(), "foxes")).await.done().1;
        assert_eq!(
            other.cached_tokens, 0,
            "If you are here because this failed: one tenant can measure what another one asked; reuse only within a partition."
        );
    }
}

#[tokio::test]
async fn a_running_neighbour_of_the_same_partition_lends_its_beginning() {
    let alone = clever().await;
    // Both begin alike and count on from where they are; wrong cells would make them lose count.
    let counting = |topic: &str, so_far: &str| {
        let mut request = conversation("neighbours", topic);
        request.messages[0].content.push_str(" Never mind. Count from one to fifty in digits, separated by commas.");
        request.messages.push(message(ChatRole::Assistant, so_far));
        request.continue_last = true;
        request.sampling.max_tokens = Some(40);
        request
    };
    let mut running = alone.client.open(counting("foxes", "21, 22, 23,")).await;
    let beginning = running.first_text().await;
    let second = alone.client.run(counting("rivers", "11, 12, 13,")).await;
    assert!(second.done().1.cached_tokens > 120, "{second:?}");
    assert!(second.text().trim_start().starts_with("14, 15, 16"), "{second:?}");
    let text = beginning + &running.rest().await.text();
    assert!(text.trim_start().starts_with("24, 25, 26, 27"), "the lender goes on: {text}");
}

#[tokio::test]
async fn a_restart_keeps_what_was_computed_unless_it_is_transient() {
    let folder = tempfile::tempdir().unwrap();
    let start = || own(|options| options.state_dir = Some(folder.path().join("kept")));
    let mut secret = conversation("kept", "secrets");
    secret.messages[0].content.insert_str(0, "Never to be kept. ");
    secret.transient = true;

    let first = start().await;
    let client = &first.client;
    let usage = client.run(conversation("kept", "foxes")).await.done().1;
    client.run(secret.clone()).await.done();
    assert!(client.run(secret.clone()).await.done().1.cached_tokens > 100, "within the worker's life it is reused");
    first.stop().await;
    // Loaded and not used: it is still there the next time.
    start().await.stop().await;

    let second = start().await;
    let client = &second.client;
    let again = client.run(conversation("kept", "foxes")).await.done().1;
    assert_eq!(again.cached_tokens, usage.prompt_tokens - 1, "{again:?}");
    assert_eq!(client.run(conversation("other", "foxes")).await.done().1.cached_tokens, 0, "still nobody else's");
    assert_eq!(
        client.run(secret).await.done().1.cached_tokens,
        0,
        "If you are here because this failed: temporary chats are written to disk."
    );
    second.stop().await;

    // A folder that makes no sense costs the cache, not the worker.
    for entry in std::fs::read_dir(folder.path().join("kept")).unwrap() {
        std::fs::write(entry.unwrap().path(), b"nonsense").unwrap();
    }
    let third = start().await;
    let client = &third.client;
    assert_eq!(client.run(conversation("kept", "foxes")).await.done().1.cached_tokens, 0);
}

/// What a process leaves there that is killed now.
fn copy(from: &Path, to: &Path) {
    std::fs::create_dir(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap() {
        let path = entry.unwrap().path();
        std::fs::copy(&path, to.join(path.file_name().unwrap())).unwrap();
    }
}

#[tokio::test]
async fn a_worker_that_is_killed_is_warm_from_its_last_save() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name);
    let start = |name: &str| {
        let kept = path(name);
        own(move |options| (options.state_dir, options.state_quiet) = (Some(kept), Duration::from_millis(50)))
    };
    let first = start("first").await;
    let mut usages = Vec::new();
    for topic in ["foxes", "rivers"] {
        usages.push(first.client.run(conversation("kept", topic)).await.done().1);
    }
    let saved = || {
        let index = std::fs::read_to_string(path("first").join("index.json")).unwrap_or_default();
        index.matches(".cells").count() == 2
    };
    let began = std::time::Instant::now();
    while !saved() {
        assert!(began.elapsed() < Duration::from_secs(60), "it has nothing to do and does not save");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    copy(&path("first"), &path("second"));
    first.stop().await;

    let second = start("second").await;
    // Killed before it has saved anything itself.
    copy(&path("second"), &path("third"));
    second.stop().await;
    let third = start("third").await;
    for (topic, before) in ["foxes", "rivers"].into_iter().zip(usages) {
        let usage = third.client.run(conversation("kept", topic)).await.done().1;
        assert_eq!(
            usage.cached_tokens,
            before.prompt_tokens - 1,
            "If you are here because this failed: a worker that is killed has forgotten what it had loaded."
        );
    }
    third.stop().await;
}

#[tokio::test]
async fn what_ended_a_worker_while_it_was_loaded_is_not_tried_twice() {
    let folder = tempfile::tempdir().unwrap();
    let kept = folder.path().join("kept");
    let start = || own(|options| options.state_dir = Some(kept.clone()));
    let first = start().await;
    let computed = first.client.run(conversation("kept", "foxes")).await.done().1;
    first.stop().await;
    assert!(kept.join("index.json").exists() && !kept.join("loading").exists());
    // As if it had ended there.
    std::fs::write(kept.join("loading"), b"").unwrap();
    let second = start().await;
    assert!(!kept.join("index.json").exists() && !kept.join("loading").exists());
    assert_eq!(second.client.run(conversation("kept", "foxes")).await.done().1.cached_tokens, 0);
    second.stop().await;
    let third = start().await;
    assert_eq!(third.client.run(conversation("kept", "foxes")).await.done().1.cached_tokens, computed.prompt_tokens - 1);
    third.stop().await;
}

/// What a request can see of the work that its prompt takes: known tokens, and how many of the prompt's the worker had
/// to compute, as it counts by itself.
async fn probe(client: &Pool, mut request: Generate) -> (u32, u32) {
    // The only token is drawn from the prompt's scores, so nothing but the prompt is computed.
    request.sampling.max_tokens = Some(1);
    let before = client.status().await.totals.evaluated_tokens;
    let usage = client.run(request).await.done().1;
    let evaluated = client.status().await.totals.evaluated_tokens - before;
    assert_eq!(u64::from(usage.prompt_tokens - usage.cached_tokens), evaluated, "what is told is what was done: {usage:?}");
    (usage.cached_tokens, usage.prompt_tokens - usage.cached_tokens)
}

#[tokio::test]
async fn another_tenants_prompts_cannot_be_probed() {
    // What is pinned stays, so it is no other test's worker.
    let own = own(|options| options.cells = Some(4096)).await;
    let client = &own.client;
    let asked = |partition: &str, topic: &str| {
        let mut request = conversation(partition, topic);
        request.messages.insert(0, message(ChatRole::System, &format!("You know all about animals. {}", filler(120))));
        request
    };
    let same = probe(client, asked("before: same", "foxes")).await;
    let prefix = probe(client, asked("before: prefix", "rivers and lakes")).await;
    assert_eq!((same.0, prefix.0), (0, 0));
    let check = async |when: &str| {
        for (topic, untouched) in [("foxes", same), ("rivers and lakes", prefix)] {
            assert_eq!(
                probe(client, asked(&format!("{when}: {topic}"), topic)).await,
                untouched,
                "{when}, {topic}. If you are here because this failed: one tenant can find out what another one asked; nothing that \
                 is computed may cross a partition."
            );
        }
    };
    client.run(asked("tenant a", "foxes")).await.done();
    check("computed").await;
    let mut pinned = asked("tenant a", "foxes");
    pinned.pinned_messages = 2;
    client.run(pinned).await.done();
    check("pinned").await;
    // The probe sees what there is to be seen.
    let known = probe(client, asked("tenant a", "foxes")).await;
    assert_eq!(known, (same.1 - 1, 1));
    assert!(probe(client, asked("tenant a", "rivers and lakes")).await.0 > 200);
    own.stop().await;
}

#[tokio::test]
async fn what_is_just_being_computed_for_one_tenant_is_nothing_to_another() {
    let alone = quick().await;
    let client = &alone.client;
    let long = |partition: String, max_tokens| {
        let mut request = ask(&filler(600), max_tokens);
        request.partition = partition;
        request.ignore_end = true;
        request.speculate = Some(false);
        request
    };
    // While its prompt is computed, and while it is answered.
    for answering in [false, true] {
        let mut running = client.open(long(format!("in flight a, {answering}"), 300)).await;
        if answering {
            running.first_text().await;
        } else {
            assert!(matches!(running.next().await, Some(Event::Started { cached_tokens: 0, .. })));
        }
        let other = client.run(long(format!("in flight b, {answering}"), 1)).await;
        assert!(other.places.is_empty(), "it does not wait for what another tenant computes: {other:?}");
        assert_eq!(
            other.done().1.cached_tokens,
            0,
            "If you are here because this failed: one tenant can find out what another one is asking (answering: {answering})."
        );
        // The first one is not over yet.
        client.until(|status| status.busy == 1).await;
        drop(running);
        client.until(|status| status.busy == 0).await;
    }
}

#[tokio::test]
async fn what_is_kept_and_what_is_not_share_nothing_either() {
    let alone = quick().await;
    let client = &alone.client;
    let mut passing = conversation("one tenant, two kinds", "foxes");
    passing.transient = true;
    let untouched = probe(client, passing.clone()).await;
    assert_eq!(probe(client, conversation("one tenant, two kinds", "foxes")).await, untouched);
    assert_eq!(probe(client, passing).await, (untouched.1 - 1, 1));
}

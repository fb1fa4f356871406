//! Many at once: fairness, priorities, and a context that is too small for all.

use std::time::Instant;

use futures::future::select_all;
use worker_protocol::{Event, FailCode, Generate, Priority};

use crate::harness::{ask, filler, own, quick};

/// A long answer of a tenant.
fn long(tenant: &str, n: usize) -> Generate {
    let mut request = ask(&format!("Write a long essay about the number {n}."), 60);
    request.tenant = tenant.into();
    request.ignore_end = true;
    request
}

#[tokio::test]
async fn a_flood_of_one_tenant_does_not_make_others_wait() {
    let own = own(|options| options.queue_limit = 64).await;
    let client = &own.client;
    let flood: Vec<_> = (0..16)
        .map(|n| {
            let client = client.clone();
            tokio::spawn(async move { client.run(long("flood", n)).await })
        })
        .collect();
    client.until(|status| status.busy == 4 && status.queued > 6).await;
    let mut quiet = ask("Say hello.", 4);
    quiet.tenant = "quiet".into();
    let began = Instant::now();
    let answer = client.run(quiet).await;
    let took = began.elapsed();
    assert!(answer.done().1.completion_tokens > 0);
    let status = client.status().await;
    assert!(
        status.queued >= 7,
        "the quiet tenant was served after {took:?}, when only {} of the flood still waited. If you are here because this \
         failed: a tenant that asks much makes others wait.",
        status.queued
    );
    assert!(status.totals.pauses > 0, "one of the flood made room");
    for answer in flood {
        let ended = answer.await.unwrap();
        assert_eq!(ended.done().1.completion_tokens, 60, "whoever made room goes on afterwards");
    }
}

#[tokio::test]
async fn a_flood_that_fills_the_queue_keeps_nobody_else_out() {
    let own = own(|options| options.queue_limit = 16).await;
    let client = &own.client;
    let essay = |n| {
        let mut request = long("flood", n);
        request.sampling.max_tokens = Some(900);
        request
    };
    let flood: Vec<_> = (0..20)
        .map(|n| {
            let (client, request) = (client.clone(), essay(n));
            tokio::spawn(async move { client.run(request).await })
        })
        .collect();
    client.until(|status| (status.busy, status.queued) == (4, 16)).await;
    for n in 20..50 {
        let (code, message) = client.run(essay(n)).await.failed();
        assert!(code == FailCode::Overloaded && message.contains("20 requests"), "{message}");
    }
    let mut quiet = ask("Say hello.", 4);
    quiet.tenant = "quiet".into();
    assert!(
        client.run(quiet).await.done().1.completion_tokens > 0,
        "If you are here because this failed: one tenant can fill the queue, and all others are turned away."
    );
    let (ended, _, others) = select_all(flood).await;
    let (code, message) = ended.unwrap().failed();
    assert!(code == FailCode::Overloaded && message.contains("latest request"), "{message}");
    // One made room, and the quiet one has gone.
    client.until(|status| (status.busy, status.queued) == (4, 15)).await;
    others.iter().for_each(|other| other.abort());
    own.stop().await;
}

#[tokio::test]
async fn a_tenant_that_weighs_four_times_as_much_gets_about_four_times_as_much() {
    let own = own(|options| options.queue_limit = 100).await;
    let answer = |tenant, weight, n| {
        let (client, mut request) = (own.client.clone(), long(tenant, n));
        request.sampling.max_tokens = Some(12);
        request.weight = weight;
        // What is no person's question has no head start over others.
        request.priority = Priority::Batch;
        tokio::spawn(async move {
            let ended = client.run(request).await;
            assert_eq!(ended.done().1.completion_tokens, 12);
            ended.at.unwrap()
        })
    };
    let (mut heavy, mut light) = (Vec::new(), Vec::new());
    for n in 0..16 {
        heavy.push(answer("heavy", 4, n));
        light.push(answer("light", 1, n));
    }
    let mut ends = Vec::new();
    for answer in heavy {
        ends.push(answer.await.unwrap());
    }
    ends.sort();
    // All answers are equally long. As long as more of the heavy tenant's wait than there are slots:
    let (heavy, end) = (12, ends[11]);
    let (ended, running): (Vec<_>, Vec<_>) = light.into_iter().partition(|answer| answer.is_finished());
    running.iter().for_each(|answer| answer.abort());
    let mut light = 0;
    for answer in ended {
        light += usize::from(answer.await.unwrap() <= end);
    }
    assert!(
        (1..=6).contains(&light),
        "{light} answers of the light tenant beside {heavy} of the heavy one. If you are here because this failed: what was agreed \
         of a tenant's weight does not decide what it gets."
    );
    own.stop().await;
}

#[tokio::test]
async fn batch_work_makes_room_for_a_person() {
    let alone = quick().await;
    let mut batch = Vec::new();
    for n in 0..4 {
        let mut request = long("batch", n);
        request.priority = Priority::Batch;
        let mut reply = alone.client.open(request).await;
        reply.first_text().await;
        batch.push(tokio::spawn(reply.rest()));
    }
    let answer = alone.client.run(ask("Say hello.", 4)).await;
    let at = answer.at;
    assert!(answer.done().1.completion_tokens > 0);
    for reply in batch {
        let ended = reply.await.unwrap();
        assert_eq!(ended.done().1.completion_tokens, 60);
        assert!(ended.at > at, "the person did not wait for a whole answer");
    }
}

#[tokio::test]
async fn batch_work_that_fills_the_context_makes_room_for_a_person() {
    let own = own(|options| options.cells = Some(1024)).await;
    let client = &own.client;
    let mut batch = Vec::new();
    for n in 0..2 {
        let mut request = ask(&format!("{n} {} Go on.", filler(400)), 60);
        (request.tenant, request.priority, request.ignore_end) = ("batch".into(), Priority::Batch, true);
        let mut reply = client.open(request).await;
        reply.first_text().await;
        batch.push(tokio::spawn(reply.rest()));
    }
    let person = client.run(ask(&format!("{} Say hello.", filler(200)), 4)).await;
    assert!(person.done().1.completion_tokens > 0);
    for reply in batch {
        let ended = reply.await.unwrap();
        assert_eq!(ended.done().1.completion_tokens, 60);
        assert!(
            ended.at > person.at,
            "If you are here because this failed: a person waits until batch work that fills the context has been written."
        );
    }
}

#[tokio::test]
async fn a_context_too_small_for_all_makes_some_wait_and_loses_none() {
    let own = own(|options| {
        options.cells = Some(1024);
        options.queue_limit = 16;
    })
    .await;
    let client = &own.client;
    // Each fits alone; two that have grown do not.
    let answers: Vec<_> = (0..4)
        .map(|n| {
            let client = client.clone();
            tokio::spawn(async move {
                let mut request = ask(&format!("{n} {} Go on.", filler(300)), 80);
                request.ignore_end = true;
                client.run(request).await
            })
        })
        .collect();
    for answer in answers {
        let ended = answer.await.unwrap();
        assert_eq!(ended.done().1.completion_tokens, 80, "{ended:?}");
    }
    let totals = client.status().await.totals;
    assert!(totals.evicted_cells > 0, "{totals:?}");
}

#[tokio::test]
async fn a_prompt_that_does_not_fit_beside_a_running_answer_waits_and_interrupts_nobody() {
    let own = own(|options| options.cells = Some(1024)).await;
    let client = &own.client;
    let mut request = ask(&format!("{} Go on.", filler(660)), 200);
    request.ignore_end = true;
    let mut running = client.open(request).await;
    running.first_text().await;
    let running = tokio::spawn(running.rest());
    let mut waiting = client.open(ask(&format!("{} What is it?", filler(400)), 4)).await;
    let mut queued = false;
    let prompt = loop {
        match waiting.next().await.expect("it begins") {
            Event::Queued { .. } => queued = true,
            Event::Started { prompt_tokens, .. } => break prompt_tokens,
            other => panic!("{other:?}"),
        }
    };
    assert!(queued, "If you are here because this failed: a prompt is let in that the context has no room for.");
    let (ran, waited) = (running.await.unwrap().done().1, waiting.rest().await.done().1);
    assert!(
        (600..800).contains(&ran.prompt_tokens) && (350..500).contains(&prompt),
        "each fits alone, and both together do not: {ran:?}, {prompt}"
    );
    assert_eq!(ran.completion_tokens, 200, "{ran:?}");
    assert!(waited.completion_tokens > 0, "{waited:?}");
    let totals = client.status().await.totals;
    assert_eq!(totals.pauses, 0, "If you are here because this failed: what runs makes room for what waits. {totals:?}");
}

#[tokio::test]
async fn a_document_that_many_ask_about_is_computed_once() {
    let alone = quick().await;
    let before = alone.client.status().await.totals;
    let document = filler(400);
    let answers: Vec<_> = (0..4)
        .map(|n| {
            let client = alone.client.clone();
            let mut request = ask(&format!("{document}\nQuestion {n}?"), 4);
            request.partition = "readers of one document".into();
            tokio::spawn(async move { client.run(request).await })
        })
        .collect();
    let mut prompt = Vec::new();
    for answer in answers {
        prompt.push(answer.await.unwrap().done().1);
    }
    let evaluated: u32 = prompt.iter().map(|usage| usage.prompt_tokens - usage.cached_tokens).sum();
    let unique = prompt[0].prompt_tokens + 3 * 16;
    assert!(
        f64::from(evaluated) <= 1.05 * f64::from(unique),
        "{evaluated} tokens computed for {unique}. If you are here because this failed: simultaneous requests no longer wait for \
         what one of them is computing."
    );
    let after = alone.client.status().await.totals;
    assert!(after.evaluated_tokens - before.evaluated_tokens >= u64::from(evaluated));
}

#[tokio::test]
async fn pinned_instructions_survive_what_comes_between() {
    let own = own(|options| options.cells = Some(1024)).await;
    let client = &own.client;
    let assistant = |question: &str| {
        let mut request = ask(question, 4);
        request.partition = "assistant".into();
        request.messages.insert(0, crate::harness::message(worker_protocol::ChatRole::System, &filler(160)));
        request.pinned_messages = 1;
        request
    };
    client.run(assistant("One?")).await.done();
    for n in 0..4 {
        client.run(ask(&format!("{n} {}", filler(700)), 4)).await.done();
    }
    let usage = client.run(assistant("Two?")).await.done().1;
    assert!(usage.cached_tokens >= 150, "{usage:?}");
}

/// Whose instructions, and what else is asked: pinned at once.
fn instructed(partition: &str, instructions: &str, question: &str) -> Generate {
    let mut request = ask(question, 1);
    request.partition = partition.into();
    request.messages.insert(0, crate::harness::message(worker_protocol::ChatRole::System, instructions));
    request.pinned_messages = 1;
    request
}

#[tokio::test]
async fn many_peoples_instructions_leave_the_worker_at_work() {
    let own = own(|_| ()).await;
    for n in 0..70 {
        let request = instructed(&format!("person {n}"), &format!("Answer person {n}."), "Hello?");
        assert!(
            own.client.run(request).await.done().1.completion_tokens > 0,
            "If you are here because this failed: pinned instructions use up the engine's sequences."
        );
    }
}

#[tokio::test]
async fn a_long_prompt_takes_the_place_of_pins() {
    let own = own(|options| options.cells = Some(1024)).await;
    let client = &own.client;
    client.run(instructed("assistant", &filler(160), "One?")).await.done();
    let usage = client.run(ask(&filler(900), 4)).await.done().1;
    assert!(usage.prompt_tokens > 880 && usage.completion_tokens > 0, "{usage:?}");
    assert!(client.run(instructed("assistant", &filler(160), "Two?")).await.done().1.cached_tokens < 100);
}

#[tokio::test]
async fn a_programs_instructions_are_pinned_once_they_come_again() {
    let own = own(|options| options.cells = Some(1024)).await;
    let client = &own.client;
    let program = |question: &str| {
        let mut request = ask(question, 4);
        request.partition = "program".into();
        request.messages.insert(0, crate::harness::message(worker_protocol::ChatRole::System, &filler(160)));
        (request.pinned_messages, request.pin_known_only) = (1, true);
        request
    };
    let others = async |round: usize| {
        for n in 0..4 {
            client.run(ask(&format!("{round} {n} {}", filler(700)), 4)).await.done();
        }
    };
    client.run(program("One?")).await.done();
    others(1).await;
    let usage = client.run(program("Two?")).await.done().1;
    assert!(usage.cached_tokens < 100, "what came once is not pinned: {usage:?}");
    client.run(program("Three?")).await.done();
    others(2).await;
    let usage = client.run(program("Four?")).await.done().1;
    assert!(usage.cached_tokens >= 150, "{usage:?}");
}

#[tokio::test]
async fn the_expected_wait_is_told_once_the_pace_is_known() {
    let own = own(|options| options.queue_limit = 16).await;
    let client = &own.client;
    let running: Vec<_> = (0..12)
        .map(|n| {
            let client = client.clone();
            let mut request = long("waiting", n);
            request.sampling.max_tokens = Some(10);
            tokio::spawn(async move {
                let mut waits = Vec::new();
                let mut reply = client.open(request).await;
                while let Some(event) = reply.next().await {
                    if let Event::Queued { place, wait_ms: Some(wait_ms) } = event {
                        waits.push((place, wait_ms));
                    }
                }
                waits
            })
        })
        .collect();
    let mut waits = Vec::new();
    for task in running {
        waits.extend(task.await.unwrap());
    }
    assert!(waits.iter().any(|(_, wait_ms)| *wait_ms > 0), "{waits:?}");
}

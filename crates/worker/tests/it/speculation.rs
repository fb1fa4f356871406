//! Tokens guessed ahead.

use crate::harness::{ask, clever, message, own, quick};
use worker_protocol::{ChatRole, Format, Generate};

fn repetition(speculate: bool) -> Generate {
    let text = "The harbour master counted nineteen ships, three barges and one very old ferry before the fog came in from the sea.";
    let mut request = ask(&format!("Repeat this text exactly:\n{text} {text}"), 60);
    request.messages.push(message(ChatRole::Assistant, &format!("{text} The harbour master")));
    request.ignore_end = true;
    request.continue_last = true;
    request.sampling.repeat_penalty = Some(1.0);
    request.speculate = Some(speculate);
    request
}

#[tokio::test]
async fn guesses_change_the_speed_and_not_the_answer() {
    let alone = clever().await;
    let before = alone.client.status().await.totals;
    let plain = alone.client.run(repetition(false)).await;
    let between = alone.client.status().await.totals;
    assert_eq!(between.drafted_tokens, before.drafted_tokens, "switched off");
    let guessed = alone.client.run(repetition(true)).await;
    let after = alone.client.status().await.totals;
    assert_eq!(guessed.text(), plain.text());
    assert_eq!(guessed.done().1.completion_tokens, plain.done().1.completion_tokens);
    let (drafted, right) = (after.drafted_tokens - between.drafted_tokens, after.accepted_tokens - between.accepted_tokens);
    assert!(right > 20 && right <= drafted, "{right} of {drafted} guesses were right");
}

/// Its answer is known before it is written.
fn forced() -> Generate {
    let mut request = ask("Is the harbour open?", 30);
    request.format = Some(Format::Lark("start: \"yes, the harbour is open all night\"".into()));
    request
}

#[tokio::test]
async fn what_a_grammar_forces_is_counted_apart_from_guesses() {
    let alone = clever().await;
    let before = alone.client.status().await.totals;
    let ended = alone.client.run(forced()).await;
    let after = alone.client.status().await.totals;
    assert_eq!(ended.text(), "yes, the harbour is open all night");
    let forced = after.forced_tokens - before.forced_tokens;
    assert!(forced > 1 && forced < u64::from(ended.done().1.completion_tokens), "{forced} tokens were forced");
    assert_eq!(
        (after.drafted_tokens, after.accepted_tokens),
        (before.drafted_tokens, before.accepted_tokens),
        "If you are here because this failed: grammars make guesses look better than they are."
    );
}

/// The letter a, as the fast model's vocabulary has it.
const LETTER: i32 = 81;

#[tokio::test]
async fn guesses_take_no_room_that_a_running_answer_needs() {
    // A prompt of three tokens and two answers of forty need 81 cells.
    const CELLS: u32 = 88;
    let own = own(|options| (options.context_length, options.cells) = (Some(CELLS), Some(CELLS))).await;
    let mut request = ask("Go on:", 40);
    (request.raw, request.n) = (true, 2);
    // What a grammar forces is guessed in tokens of four letters, and written letter by letter: no guess comes true, so both
    // answers fill the cells slowly and there is something to guess to their end.
    request.format = Some(Format::Lark(format!("start: \"{}\"", "a".repeat(160))));
    request.logit_bias = [(LETTER, 100.0)].into();
    let ended = own.client.run(request).await;
    assert_eq!(ended.choices.values().cloned().collect::<Vec<_>>(), ["a".repeat(40), "a".repeat(40)]);
    let totals = own.client.status().await.totals;
    assert!(totals.evaluated_tokens > 120, "nothing was guessed: {totals:?}");
    assert_eq!(
        totals.pauses, 0,
        "If you are here because this failed: an answer is paused for guesses. Where there is room enough for it without them, it is \
         let in again at once and paused again, for ever. {totals:?}"
    );
    own.stop().await;
}

#[tokio::test]
async fn a_seed_switches_guessing_off() {
    let alone = clever().await;
    let before = alone.client.status().await.totals;
    let mut request = repetition(true);
    request.speculate = None;
    request.sampling.seed = Some(1);
    alone.client.run(request).await.done();
    // Nor is guessed what a grammar forces.
    let mut forced = forced();
    forced.sampling.seed = Some(1);
    alone.client.run(forced).await.done();
    let after = alone.client.status().await.totals;
    assert_eq!((after.drafted_tokens, after.forced_tokens), (before.drafted_tokens, before.forced_tokens));
}

#[tokio::test]
async fn the_same_seed_gives_the_same_answer() {
    let alone = clever().await;
    let tell = |seed| {
        let mut request = ask("Tell a short story about a lighthouse.", 40);
        request.partition = "seeds".into();
        request.sampling.temperature = Some(0.9);
        request.sampling.seed = Some(seed);
        request
    };
    // The first computes the prompt, the others find it in the cache.
    alone.client.run(tell(0)).await.done();
    let one = alone.client.run(tell(7)).await.text();
    let two = alone.client.run(tell(7)).await.text();
    let other = alone.client.run(tell(8)).await.text();
    assert_eq!(one, two);
    assert_ne!(one, other);
    let neighbours: Vec<_> = (0..4)
        .map(|n| {
            let client = alone.client.clone();
            let mut request = ask(&format!("Write an essay about the number {n}."), 40);
            // Two of them wait for the same context.
            request.sampling.seed = (n < 2).then_some(n);
            tokio::spawn(async move { client.run(request).await })
        })
        .collect();
    let beside = alone.client.run(tell(7)).await.text();
    for neighbour in neighbours {
        neighbour.await.unwrap().done();
    }
    assert_eq!(one, beside, "If you are here because this failed: an answer with a seed depends on who else asks.");
}

#[tokio::test]
async fn the_same_seed_gives_the_same_answer_beside_others() {
    let alone = quick().await;
    let client = &alone.client;
    let tell = || {
        let mut request = ask("Tell a short story about a lighthouse.", 40);
        request.sampling.temperature = Some(0.9);
        request.sampling.seed = Some(7);
        request
    };
    let by_itself = client.run(tell()).await.text();
    assert!(!by_itself.is_empty());
    // Some begin before, some in between, some are there all the while; none has a seed.
    let mut others = Vec::new();
    for n in 0..3 {
        let mut request = ask(&format!("Write a long essay about the number {n}."), 900);
        request.ignore_end = true;
        let mut reply = client.open(request).await;
        reply.first_text().await;
        others.push(reply);
    }
    let (one, two) = tokio::join!(client.run(tell()), client.run(tell()));
    client.until(|status| status.busy == 3).await;
    drop(others.pop());
    let three = client.run(tell()).await;
    client.until(|status| status.busy == 2).await;
    for beside in [one, two, three] {
        assert_eq!(
            by_itself,
            beside.text(),
            "If you are here because this failed: who else is served decides what somebody gets who gave a seed."
        );
    }
}

//! Code is repeated with a small change and a paragraph of a document is quoted, with and without guessing ahead; and
//! questions are answered, where guessing must not hurt.

use super::{number, warm_up};
use crate::Result;
use crate::engine::{Answer, Ask, Drafts, Engine, Kind, Launcher, Needs};
use crate::report::{Figure, median};
use crate::texts::{QUESTIONS, prose, source};

const PARAGRAPHS: u64 = 5;
/// Tokens of each.
const PARAGRAPH: usize = 120;
const QUOTED: u64 = 3;
/// Answers end by themselves before that: a small model that must go on begins to repeat itself, which is no chat, and
/// guesses well.
const MOST_TOKENS: u32 = 200;
/// How often each question is asked. The fastest answer counts: whatever disturbs one makes it slower.
const TIMES: usize = 2;

pub async fn run(launcher: &Launcher, kind: Kind) -> Result<Vec<Figure>> {
    let launcher = Launcher { model: launcher.edit_model.clone(), ..launcher.clone() };
    let off = tasks(&launcher, kind, false).await?;
    let on = tasks(&launcher, kind, true).await?;
    let chat = on.chat.beside(&off.chat);
    let mut figures = vec![
        Figure::new(1, "edit_on_per_off", on.edit.speed / off.edit.speed),
        Figure::new(1, "edit_tokens_per_s", on.edit.speed),
        Figure::new(1, "edit_accepted", on.edit.accepted),
        Figure::new(1, "edit_repeated", on.edit.repeated),
        Figure::new(1, "quote_on_per_off", on.quote.speed / off.quote.speed),
        Figure::new(1, "quote_tokens_per_s", on.quote.speed),
        Figure::new(1, "quote_accepted", on.quote.accepted),
        Figure::new(1, "quote_repeated", on.quote.repeated),
        Figure::new(1, "chat_on_per_off", median(chat.iter().copied())),
        Figure::new(1, "chat_accepted", on.chat.accepted),
    ];
    figures.extend(QUESTIONS.iter().zip(chat).map(|((name, _), ratio)| Figure::new(1, name, ratio)));
    Ok(figures)
}

struct Tasks {
    edit: Repetition,
    quote: Repetition,
    chat: Chat,
}

/// Questions, each of which begins a chat of its own.
struct Chat {
    /// Tokens per second of the fastest answer to each.
    speeds: Vec<f64>,
    /// As in [`Repetition`], of all answers together.
    accepted: f64,
}

struct Repetition {
    /// Tokens per second.
    speed: f64,
    /// Part of the tokens guessed ahead that were right; not a number where none were guessed.
    accepted: f64,
    /// Part of the answer that stands in what was to be repeated: does the model do what it is asked for?
    repeated: f64,
}

async fn tasks(launcher: &Launcher, kind: Kind, speculate: bool) -> Result<Tasks> {
    let engine = launcher.start(kind, Needs { clients: 1, context: 4096, slots: None, speculate, keep: false }).await?;
    warm_up(&engine).await?;
    let (ask, expected) = edit()?;
    let edit = repeat(&engine, ask, &expected).await?;
    let (ask, expected) = quote();
    let quote = repeat(&engine, ask, &expected).await?;
    let chat = chat(&engine).await?;
    engine.stop().await?;
    Ok(Tasks { edit, quote, chat })
}

async fn chat(engine: &Engine) -> Result<Chat> {
    let before = engine.drafts().await?;
    let mut speeds = vec![0.0_f64; QUESTIONS.len()];
    for _ in 0..TIMES {
        for (fastest, (_, question)) in speeds.iter_mut().zip(QUESTIONS) {
            let answer = engine.ask(Ask::question(question, MOST_TOKENS)).await?;
            if answer.completion_tokens >= u64::from(MOST_TOKENS) {
                eprintln!("  the answer to {question:?} was cut after {MOST_TOKENS} tokens");
            }
            *fastest = fastest.max(speed(&answer));
        }
    }
    Ok(Chat { speeds, accepted: accepted(before, engine.drafts().await?) })
}

impl Chat {
    /// How many times as fast as without guessing each answer came.
    fn beside(&self, without: &Self) -> Vec<f64> {
        self.speeds.iter().zip(&without.speeds).map(|(on, off)| on / off).collect()
    }
}

/// What to ask for, and what should come. Small models repeat all of it only if the change is at the beginning and they
/// are told how much there is.
fn edit() -> Result<(Ask, String)> {
    let code = source(5);
    let names: Vec<&str> = code.lines().filter_map(|line| line.strip_prefix("fn ")?.split('(').next()).collect();
    let name = *names.first().ok_or("there is no function")?;
    let text = format!(
        "Rename the function `{name}` to `renamed` in this code and repeat the whole code, all {} functions, without any comment:\n\n\
         ```rust\n{code}```",
        names.len()
    );
    Ok((Ask::question(text, 400), code.replace(name, "renamed")))
}

/// What to ask for, and what should come.
fn quote() -> (Ask, String) {
    let paragraph = |number: u64| prose(70 + number, PARAGRAPH).trim_end().to_owned();
    let document: Vec<String> = (1..=PARAGRAPHS).map(|number| format!("## Paragraph {number}\n\n{}", paragraph(number))).collect();
    let document = document.join("\n\n");
    let text = format!("{document}\n\n---\n\nCopy the section \"## Paragraph {QUOTED}\" of this document word by word.");
    (Ask::question(text, 160), paragraph(QUOTED))
}

async fn repeat(engine: &Engine, ask: Ask, expected: &str) -> Result<Repetition> {
    let before = engine.drafts().await?;
    let answer = engine.ask(ask).await?;
    let accepted = accepted(before, engine.drafts().await?);
    Ok(Repetition { speed: speed(&answer), accepted, repeated: repeated(&answer.text, expected) })
}

/// Part of the tokens guessed meanwhile that were right.
fn accepted(before: Drafts, after: Drafts) -> f64 {
    number(after.accepted - before.accepted) / number(after.drafted - before.drafted)
}

/// Tokens per second after the first one.
fn speed(answer: &Answer) -> f64 {
    number(answer.completion_tokens.saturating_sub(1)) / (answer.took.saturating_sub(answer.ttft())).as_secs_f64()
}

/// Part of the answer's bytes whose line or sentence is one of `expected`. The last one may be cut.
fn repeated(answer: &str, expected: &str) -> f64 {
    let pieces = answer.split(['\n', '.']).map(str::trim).filter(|piece| !piece.is_empty() && !piece.starts_with("```"));
    let (mut same, mut all) = (0, 0);
    for piece in pieces {
        all += piece.len();
        if expected.contains(piece) {
            same += piece.len();
        }
    }
    part(same, all)
}

#[expect(clippy::cast_precision_loss, reason = "a short text's bytes")]
fn part(some: usize, all: usize) -> f64 {
    if all == 0 { 0.0 } else { some as f64 / all as f64 }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_expected_is_the_text_asked_about_with_the_change() {
        let (ask, expected) = edit().unwrap();
        assert!(expected.contains("fn renamed(input"));
        assert_eq!(expected.matches("fn ").count(), ask.turns[0].matches("fn ").count());
        let (ask, expected) = quote();
        assert_eq!(ask.turns[0].matches(&format!("## Paragraph {QUOTED}\n\n{expected}\n\n")).count(), 1);
    }

    #[test]
    fn each_question_is_compared_with_itself() {
        let chat = |speeds: [f64; 2]| Chat { speeds: speeds.into(), accepted: f64::NAN };
        assert_eq!(chat([30.0, 9.0]).beside(&chat([10.0, 10.0])), [3.0, 0.9]);
    }

    #[test]
    fn an_answer_that_goes_its_own_way_repeats_less() {
        let (_, expected) = edit().unwrap();
        assert_eq!(repeated(&format!("```rust\n{expected}```"), &expected), 1.0);
        assert!(repeated("Sure! Here is a poem about rivers and bridges.", &expected) < 0.1);
        assert_eq!(repeated("", &expected), 0.0);
    }
}

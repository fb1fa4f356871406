//! Conversations that go on: one, and eleven in turn over four slots. How much of what was said is computed again?

use super::{number, warm_up};
use crate::Result;
use crate::engine::{Ask, Engine, Kind, Launcher, Needs};
use crate::report::{Figure, median};
use crate::texts::prose;

const CHATS: usize = 11;
const BEGINNING: usize = 400;
const ROUNDS: usize = 3;

pub async fn run(launcher: &Launcher, kind: Kind) -> Result<Vec<Figure>> {
    let mut figures = one(launcher, kind).await?;
    figures.extend(many(launcher, kind).await?);
    Ok(figures)
}

async fn one(launcher: &Launcher, kind: Kind) -> Result<Vec<Figure>> {
    let engine = launcher.start(kind, Needs { clients: 1, context: 4096, slots: None, speculate: false, keep: false }).await?;
    warm_up(&engine).await?;
    let mut chat = vec![format!("{}\nWhat is this about?", prose(21, 1_000))];
    let mut warm = Vec::new();
    for turn in 0..4 {
        let (ttft, _) = turn_of(&engine, &mut chat, turn).await?;
        if turn > 0 {
            warm.push(ttft);
        }
    }
    engine.stop().await?;
    Ok(vec![Figure::new(1, "ttft_p50", median(warm.into_iter()))])
}

async fn many(launcher: &Launcher, kind: Kind) -> Result<Vec<Figure>> {
    let engine = launcher.start(kind, Needs { clients: 4, context: 4096, slots: Some(4), speculate: false, keep: false }).await?;
    warm_up(&engine).await?;
    let mut chats: Vec<Vec<String>> =
        (0..CHATS).map(|n| vec![format!("{}\nWhat is this about?", prose(30 + u64::try_from(n).unwrap_or(0), BEGINNING))]).collect();
    let (mut evaluated, mut prompt) = (0, 0);
    for turn in 0..ROUNDS {
        for chat in &mut chats {
            let before = chat.len();
            let (_, answer) = turn_of(&engine, chat, turn).await?;
            // What was said before this turn could have been kept.
            if before > 1 {
                evaluated += answer.0;
                prompt += answer.1;
            }
        }
    }
    engine.stop().await?;
    Ok(vec![Figure::new(11, "evaluated_per_prompt", number(evaluated) / number(prompt))])
}

/// One turn: asks, takes the answer in and adds the next question. Returns the time to the first text, and the
/// tokens computed and in the prompt.
async fn turn_of(engine: &Engine, chat: &mut Vec<String>, turn: usize) -> Result<(f64, (u64, u64))> {
    let answer = engine.ask(Ask { turns: chat.clone(), ..Ask::question("", 24) }).await?;
    chat.push(answer.text.clone());
    chat.push(format!("And what follows from that, point {turn}?"));
    Ok((answer.ttft().as_secs_f64(), (answer.evaluated_tokens, answer.prompt_tokens)))
}

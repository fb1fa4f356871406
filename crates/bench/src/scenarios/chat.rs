//! Short questions, long answers, from 1, 8 and 16 clients at once: tokens per second over all, and how soon each
//! hears something.

use super::{number, together, warm_up};
use crate::Result;
use crate::engine::{Answer, Ask, Kind, Launcher, Needs};
use crate::report::{Figure, median};
use crate::texts::question;

const COMPLETION: u32 = 96;

pub async fn run(launcher: &Launcher, kind: Kind) -> Result<Vec<Figure>> {
    let mut figures = Vec::new();
    for clients in [1, 8, 16_u32] {
        let engine = launcher.start(kind, Needs { clients, context: 2048, slots: None, speculate: false, keep: false }).await?;
        warm_up(&engine).await?;
        let asks = (0..usize::try_from(clients)?).map(|n| Ask { ignore_end: true, ..Ask::question(question(n), COMPLETION) }).collect();
        let (answers, seconds) = together(&engine, asks).await?;
        engine.stop().await?;
        let tokens: u64 = answers.iter().map(|answer| answer.completion_tokens).sum();
        figures.push(Figure::new(clients, "tokens_per_s", number(tokens) / seconds));
        figures.push(Figure::new(clients, "ttft_p50", median(answers.iter().map(|answer: &Answer| answer.ttft().as_secs_f64()))));
    }
    Ok(figures)
}

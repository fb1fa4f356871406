//! Many ask about the same document at the same time: how often is it computed, and how long does the last wait?

use super::{number, together, warm_up};
use crate::Result;
use crate::engine::{Ask, Kind, Launcher, Needs};
use crate::report::Figure;
use crate::texts::prose;

const DOCUMENT: usize = 1_500;

pub async fn run(launcher: &Launcher, kind: Kind) -> Result<Vec<Figure>> {
    let document = prose(11, DOCUMENT);
    let mut figures = Vec::new();
    for clients in [4, 16_u32] {
        let engine = launcher.start(kind, Needs { clients, context: 4096, slots: None, speculate: false, keep: false }).await?;
        warm_up(&engine).await?;
        let ask = |n: u64| Ask {
            system: Some(format!("Answer from this document.\n\n{document}")),
            ..Ask::question(format!("Question {n}: what about {}?", prose(100 + n, 8)), 16)
        };
        let (answers, _) = together(&engine, (0..u64::from(clients)).map(ask).collect()).await?;
        engine.stop().await?;
        let evaluated: u64 = answers.iter().map(|answer| answer.evaluated_tokens).sum();
        // The document once, and of each question what it has for itself.
        let shortest = answers.iter().map(|answer| answer.prompt_tokens).min().unwrap_or(0);
        let common = shortest.saturating_sub(32);
        let unique: u64 = common + answers.iter().map(|answer| answer.prompt_tokens - common).sum::<u64>();
        let slowest = answers.iter().map(|answer| answer.ttft().as_secs_f64()).fold(0.0, f64::max);
        figures.push(Figure::new(clients, "evaluated_per_unique", number(evaluated) / number(unique)));
        figures.push(Figure::new(clients, "ttft_max", slowest));
    }
    Ok(figures)
}

//! Many ask about the same document at the same time: how often is it computed, and how long does the last wait?

use super::{number, together, warm_up};
use crate::Result;
use crate::engine::{Ask, Kind, Launcher, Needs};
use crate::report::Figure;
use crate::texts::prose;

const DOCUMENT: usize = 1_500;

pub async fn run(launcher: &Launcher, kind: Kind) -> Result<Vec<Figure>> {
    let document = prose(11, DOCUMENT);
    let ask = |n: u64| Ask {
        system: Some(format!("Answer from this document.\n\n{document}")),
        ..Ask::question(format!("Question {n}: what about {}?", prose(100 + n, 8)), 16)
    };
    let mut figures = Vec::new();
    for clients in [4, 16_u32] {
        let asks: Vec<Ask> = (0..u64::from(clients)).map(ask).collect();
        let prompts = launcher.prompts(&asks).await?;
        let engine = launcher.start(kind, Needs { clients, context: 4096, slots: None, speculate: false, keep: false }).await?;
        warm_up(&engine).await?;
        let (answers, _) = together(&engine, asks).await?;
        engine.stop().await?;
        let (counted, told) = (prompts.iter().map(Vec::len).sum::<usize>(), answers.iter().map(|answer| answer.prompt_tokens).sum::<u64>());
        if u64::try_from(counted)? != told {
            eprintln!("  the prompts have {counted} tokens, the engine tells of {told}");
        }
        let evaluated: u64 = answers.iter().map(|answer| answer.evaluated_tokens).sum();
        let slowest = answers.iter().map(|answer| answer.ttft().as_secs_f64()).fold(0.0, f64::max);
        figures.push(Figure::new(clients, "evaluated_per_unique", number(evaluated) / number(u64::try_from(unique(prompts))?)));
        figures.push(Figure::new(clients, "ttft_max", slowest));
    }
    Ok(figures)
}

/// Tokens that have to be computed at least once: all but those that stand behind the same tokens in another prompt.
fn unique(mut prompts: Vec<Vec<i32>>) -> usize {
    // Sorted, none has more in common with an earlier one than with its neighbour.
    prompts.sort();
    let common = |pair: &[Vec<i32>]| pair[0].iter().zip(&pair[1]).take_while(|(a, b)| a == b).count();
    prompts.iter().map(Vec::len).sum::<usize>() - prompts.windows(2).map(common).sum::<usize>()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_common_counts_once() {
        assert_eq!(unique(vec![vec![1, 2, 3, 4], vec![1, 2, 5], vec![1, 2, 3, 6, 7], vec![8]]), 8);
        assert_eq!(unique(vec![vec![1, 2], vec![1, 2]]), 2);
        assert_eq!(unique(Vec::new()), 0);
    }
}

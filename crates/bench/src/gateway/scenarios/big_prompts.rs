//! Prompts of ten and a hundred thousand tokens: what does the gateway add?

use std::time::Duration;

use super::Turn;
use crate::Result;
use crate::gateway::baseline::{Compared, Names, absolute, one_by_one};
use crate::gateway::sample::Sample;
use crate::report::Figure;
use crate::texts::prose;

const THROUGH: Duration = Duration::from_secs(3);
/// Before and after.
const DIRECT: Duration = Duration::from_secs(1);

/// Tokens, and what the figures are called.
const SIZES: [(usize, Names); 2] = [
    (
        10_000,
        Names {
            p50: "p50_us_10k_tokens",
            p99: "p99_us_10k_tokens",
            added_p50: "added_p50_us_10k_tokens",
            added_p99: "added_p99_us_10k_tokens",
            moved: "baseline_moved_10k_tokens",
        },
    ),
    (
        100_000,
        Names {
            p50: "p50_us_100k_tokens",
            p99: "p99_us_100k_tokens",
            added_p50: "added_p50_us_100k_tokens",
            added_p99: "added_p99_us_100k_tokens",
            moved: "baseline_moved_100k_tokens",
        },
    ),
];

pub async fn run(turn: &Turn<'_>) -> Result<Vec<Figure>> {
    let mut figures = Vec::new();
    for (tokens, names) in &SIZES {
        let prompt = prose(7, *tokens);
        if turn.is_direct() {
            figures.extend(absolute(&one_by_one(turn.direct, &prompt, THROUGH).await?, 1, names));
            continue;
        }
        let direct = async || -> Result<Sample> { one_by_one(turn.direct, &prompt, DIRECT).await };
        let through = async || -> Result<Sample> { one_by_one(&turn.gateway.route, &prompt, THROUGH).await };
        figures.extend(Compared::measure(direct, through).await?.figures(1, names));
    }
    Ok(figures)
}

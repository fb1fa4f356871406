//! One connection, one request after the other: what does the gateway add?

use std::time::Duration;

use super::{PROMPT, Turn};
use crate::Result;
use crate::gateway::baseline::{Compared, NAMES, absolute, one_by_one};
use crate::gateway::sample::Sample;
use crate::report::Figure;

const THROUGH: Duration = Duration::from_secs(4);
/// Before and after.
const DIRECT: Duration = Duration::from_secs(1);

pub async fn run(turn: &Turn<'_>) -> Result<Vec<Figure>> {
    if turn.is_direct() {
        return Ok(absolute(&one_by_one(turn.direct, PROMPT, THROUGH).await?, 1, &NAMES));
    }
    let direct = async || -> Result<Sample> { one_by_one(turn.direct, PROMPT, DIRECT).await };
    let through = async || -> Result<Sample> { one_by_one(&turn.gateway.route, PROMPT, THROUGH).await };
    Ok(Compared::measure(direct, through).await?.figures(1, &NAMES))
}

//! The first of two upstreams fails now and then: how much longer does an answer of the second take than one of the
//! first, beside the time in which the first one fails?
//!
//! In turns the first upstream answers, fails with HTTP status 500, answers, fails with 429: never so often in a row that
//! a circuit breaker would spare it.

use std::time::{Duration, Instant};

use tokio::time::sleep;

use super::{PROMPT, Turn};
use crate::Result;
use crate::gateway::client::{Caller, Route};
use crate::gateway::sample::{P50, Sample};
use crate::gateway::upstream::{MODEL, Script};
use crate::report::Figure;

/// Rounds of the four turns.
const ROUNDS: u32 = 40;
const WARM_UP: u32 = 2;
/// Between two requests: whoever bounds second tries by their number a second is within the bounds.
const PAUSE: Duration = Duration::from_millis(60);

/// Durations of the four turns.
struct Turns {
    /// Both turns in which the first upstream answers.
    well: Sample,
    broken: Sample,
    full: Sample,
}

pub async fn run(turn: &Turn<'_>) -> Result<Vec<Figure>> {
    let (first, second) = (&turn.upstreams.first, &turn.upstreams.second);
    let through = turn.gateway.failover.as_ref().ok_or("this gateway has no way to a second upstream")?;
    first.play(Script::Failing);
    measure(through, WARM_UP, true).await?;

    first.play(Script::Failing);
    second.play(Script::AtOnce);
    let through = measure(through, ROUNDS, true).await?;
    let (asked, asked_instead) = (first.asked(), second.asked());
    if (asked, asked_instead) != (u64::from(ROUNDS) * 4, u64::from(ROUNDS) * 2) {
        return Err(format!("of {} requests, {asked} came to the first upstream and {asked_instead} to the second", ROUNDS * 4).into());
    }

    first.play(Script::Failing);
    let direct = measure(&Route::new(first.addr(), "/v1/chat/completions", MODEL, &[])?, ROUNDS, false).await?;
    let well = through.well.us(P50);
    Ok(vec![
        Figure::new(1, "p50_us", well),
        Figure::new(1, "failing_p50_us_500", direct.broken.us(P50)),
        Figure::new(1, "failing_p50_us_429", direct.full.us(P50)),
        Figure::new(1, "added_p50_us_500", through.broken.us(P50) - well - direct.broken.us(P50)),
        Figure::new(1, "added_p50_us_429", through.full.us(P50) - well - direct.full.us(P50)),
    ])
}

/// One request after the other; `spared`: nobody may notice that one upstream fails.
async fn measure(route: &Route, rounds: u32, spared: bool) -> Result<Turns> {
    let (body, mut caller) = (route.body(PROMPT, false), Caller::new(route.addr()));
    let (mut well, mut broken, mut full) = (Vec::new(), Vec::new(), Vec::new());
    for number in 0..rounds * 4 {
        sleep(PAUSE).await;
        let begin = Instant::now();
        let reply = caller.exchange(&|| route.request(&body)).await?;
        let took = begin.elapsed();
        if spared && !reply.status.is_success() {
            return Err(format!("a request was answered with HTTP status {} though the second upstream is well", reply.status).into());
        }
        match number % 4 {
            1 => broken.push(took),
            3 => full.push(took),
            _ => well.push(took),
        }
    }
    Ok(Turns { well: Sample::new(well), broken: Sample::new(broken), full: Sample::new(full) })
}

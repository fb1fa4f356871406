//! Requests at a constant rate, half of what the gateway carries at most: durations from when each was due.

use std::time::Duration;

use super::{PROMPT, Turn};
use crate::Result;
use crate::gateway::baseline::{Compared, NAMES};
use crate::gateway::client::Route;
use crate::gateway::load::Load;
use crate::gateway::sample::Sample;
use crate::report::Figure;

const CONNECTIONS: u32 = 64;
const SATURATING: Duration = Duration::from_secs(2);
const THROUGH: Duration = Duration::from_secs(5);
/// Before and after.
const DIRECT: Duration = Duration::from_millis(1_500);

pub async fn run(turn: &Turn<'_>) -> Result<Vec<Figure>> {
    let rate = saturating(&turn.gateway.route).await? / 2.0;
    let direct = async || -> Result<Sample> { at(turn.direct, rate, DIRECT).await };
    let through = async || -> Result<Sample> { at(&turn.gateway.route, rate, THROUGH).await };
    let mut figures = Compared::measure(direct, through).await?.figures(CONNECTIONS, &NAMES);
    figures.push(Figure::new(CONNECTIONS, "requests_per_s", rate));
    Ok(figures)
}

/// Requests a second that it carries at most.
async fn saturating(route: &Route) -> Result<f64> {
    let body = route.body(PROMPT, false);
    let make = || route.request(&body);
    let run = Load::new(route.addr(), &make).closed(usize::try_from(CONNECTIONS)?, SATURATING).await;
    let rate = run.rate();
    run.sample().map(|_| rate)
}

async fn at(route: &Route, rate: f64, length: Duration) -> Result<Sample> {
    let body = route.body(PROMPT, false);
    let make = || route.request(&body);
    Load::new(route.addr(), &make).open(rate, usize::try_from(CONNECTIONS)?, length).await?.sample()
}
